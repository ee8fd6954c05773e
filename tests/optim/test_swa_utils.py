"""Averages of weights: against PyTorch update by update, and what surrounds them."""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import numpy as np
import pytest

import adjoint
from adjoint.optim import swa_utils

WAYS = {
    "mean": lambda S: {},
    "moving": lambda S: {"multi_avg_fn": S.get_ema_multi_avg_fn(0.8)},
    "moving, one by one": lambda S: {"avg_fn": S.get_ema_avg_fn(0.8)},
    "mean, one by one": lambda S: {"avg_fn": S.get_swa_avg_fn()},
    "of the user": lambda S: {"avg_fn": lambda averaged, current, n: averaged + current / (n + 2)},
    "moving with buffers": lambda S: {"multi_avg_fn": lambda a, c, n: [x.copy_(0.5 * x + 0.5 * y) for x, y in zip(a, c, strict=True)], "use_buffers": True},
}


def network(lib: Any) -> Any:
    net = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.BatchNorm1d(3)).double()  # the gradient before it is small
    with lib.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(lib.arange(float(p.numel())).reshape(p.shape) / 7 + k)
    return net


def averages(lib: Any, way: str) -> list[Any]:
    S = importlib.import_module(f"{lib.__name__}.optim.swa_utils")
    net = network(lib)
    averaged = S.AveragedModel(net, **WAYS[way](S))
    optimizer = lib.optim.SGD(net.parameters(), lr=0.1)
    x = (lib.arange(8.0).double().reshape(4, 2) / 5).cos()
    for _ in range(4):
        optimizer.zero_grad()
        ((net(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        optimizer.step()
        averaged.update_parameters(net)
    return [*averaged.state_dict().items(), ("output", averaged.eval()(x).detach())]


@pytest.mark.parametrize("way", WAYS)
def test_averages_are_those_of_pytorch(way: str) -> None:
    torch = pytest.importorskip("torch")
    for (name, mine), (other, theirs) in zip(averages(adjoint, way), averages(torch, way), strict=True):
        assert name == other
        np.testing.assert_allclose(mine.tolist(), theirs.tolist(), rtol=1e-9, atol=1e-11, err_msg=name)


def test_the_model_stays_as_it_is_and_the_copy_is_saved_with_its_count() -> None:
    net = network(adjoint)
    averaged = swa_utils.AveragedModel(net)
    for _ in range(2):
        averaged.update_parameters(net)
        with adjoint.no_grad():
            net[0].weight += 1
    assert averaged.module[0].weight.requires_grad
    assert (net[0].weight - averaged.module[0].weight).mean().item() == pytest.approx(1.5)
    file = io.BytesIO()
    adjoint.save(averaged.state_dict(), file)
    file.seek(0)
    again = swa_utils.AveragedModel(network(adjoint))
    again.load_state_dict(adjoint.load(file))
    assert again.n_averaged.item() == 2
    for model in (averaged, again):
        model.update_parameters(net)
    assert averaged.module[0].weight.tolist() == again.module[0].weight.tolist()


def test_statistics_of_batch_normalizations_are_measured_anew() -> None:
    batches = [(adjoint.tensor([[1.0, 2.0], [3.0, 6.0]]), 0), (adjoint.tensor([[5.0, 0.0], [7.0, 4.0]]), 1)]
    net = adjoint.nn.Sequential(adjoint.nn.BatchNorm1d(2, momentum=0.3), adjoint.nn.Dropout(0.5)).eval()
    swa_utils.update_bn(batches, net, device="cpu")
    assert net[0].running_mean.tolist() == [4.0, 3.0] and net[0].momentum == 0.3
    assert not net.training and not net[0].training
    with pytest.raises(ValueError):
        swa_utils.update_bn([adjoint.ones(2)], net)  # no batch
    assert net[0].momentum == 0.3 and not net.training
    swa_utils.update_bn(iter(()), adjoint.nn.Linear(2, 2))  # nothing to measure


def rates(lib: Any, **options: Any) -> list[list[float]]:
    S = importlib.import_module(f"{lib.__name__}.optim.swa_utils")
    groups = [{"params": [lib.nn.Parameter(lib.ones(1))], "lr": lr} for lr in (0.1, 0.2)]
    optimizer = lib.optim.SGD(groups, lr=0.1)
    decay = lib.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    schedule = S.SWALR(optimizer, [0.05, 0.3], **options)
    found = [schedule.get_last_lr()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(7):
            optimizer.step()
            (decay if k == 1 else schedule).step()
            found.append([group["lr"] for group in optimizer.param_groups])
    return found


@pytest.mark.parametrize("options", [{"anneal_epochs": 4}, {"anneal_epochs": 4, "anneal_strategy": "linear"}, {"anneal_epochs": 0}, {}])
def test_rates_are_those_of_pytorch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    for mine, theirs in zip(rates(adjoint, **options), rates(torch, **options), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9)


def test_bad_calls() -> None:
    net = network(adjoint)
    optimizer = adjoint.optim.SGD(net.parameters(), lr=0.1)
    averaged = swa_utils.AveragedModel(net)
    same = swa_utils.get_swa_avg_fn()
    for call, kind, words in (
        (lambda: swa_utils.AveragedModel(net, avg_fn=same, multi_avg_fn=same), AssertionError, "Only one of"),
        (lambda: averaged.update_parameters(adjoint.nn.Linear(3, 3)), RuntimeError, r"\[3, 3\]"),
        (lambda: swa_utils.get_ema_avg_fn(1.5), ValueError, "1.5"),
        (lambda: swa_utils.get_ema_multi_avg_fn(-0.5), ValueError, "-0.5"),
        (lambda: swa_utils.SWALR(3, 0.1), TypeError, "not an Optimizer"),
        (lambda: swa_utils.SWALR(optimizer, "fast"), TypeError, "'fast'"),
        (lambda: swa_utils.SWALR(optimizer, [0.1, 0.2]), ValueError, "2 values"),
        (lambda: swa_utils.SWALR(optimizer, 0.1, anneal_strategy="sin"), ValueError, "sin"),
        (lambda: swa_utils.SWALR(optimizer, 0.1, anneal_epochs=-1), ValueError, "-1"),
    ):
        with pytest.raises(kind, match=words):
            call()
    with pytest.raises(AttributeError, match="update_bn"):
        swa_utils.update_bm  # noqa: B018
