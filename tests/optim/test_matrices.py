"""Optimizers that see matrices, Muon and Adafactor, and the refusal of SparseAdam."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn, optim

pytestmark = pytest.mark.usefixtures("little_effort")


def values(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in shapes]


def trained(T: Any, name: str, arrays: list[np.ndarray], steps: int = 6, **options: Any) -> tuple[list[np.ndarray], Any]:
    params = [T.nn.Parameter(T.tensor(a)) for a in arrays]
    optimizer = getattr(T.optim, name)(params, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p**2).sum() * (j + 1) + (p**3).sum() for j, p in enumerate(params)).backward()
        optimizer.step()
    return [p.detach().numpy() for p in params], optimizer


ADAFACTOR: list[dict[str, Any]] = [{}, {"lr": 0.1, "weight_decay": 0.1}, {"maximize": True, "lr": 0.5}, {"eps": (1e-3, 1e-2), "d": 2.0, "beta2_decay": -0.5}]


@pytest.mark.parametrize("options", ADAFACTOR, ids=str)
def test_adafactor_same_as_pytorch(options: dict[str, Any]) -> None:
    T = pytest.importorskip("torch")
    arrays = values((3, 4), (3,), (2, 3, 4), ())
    mine, own = trained(torch, "Adafactor", arrays, **options)
    theirs, other = trained(T, "Adafactor", arrays, **options)
    for got, want in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)
    assert repr(own) == repr(other)
    for got, want in zip(own.state_dict()["state"].values(), other.state_dict()["state"].values(), strict=True):
        assert list(got) == list(want)
        for name, value in got.items():
            np.testing.assert_allclose(np.asarray(value), want[name].numpy(), rtol=1e-10)


def test_adafactor_is_the_formula() -> None:
    (w,) = values((3, 4))
    p, rows, columns = w.copy(), np.zeros((3, 1)), np.zeros((1, 4))
    for t in range(1, 5):
        g = 2 * p + 3 * p * p
        share, rate = t**-0.8, min(0.1, t**-0.5)
        size = rate * max(1e-3, np.sqrt((p * p).mean()))
        p = p * (1 - 0.1 * 0.2)
        rows += share * ((g * g).mean(1, keepdims=True) - rows)
        columns += share * ((g * g).mean(0, keepdims=True) - columns)
        u = g / np.sqrt(rows * columns / rows.mean())
        p = p - size * u / max(1.0, np.sqrt((u * u).mean()))
    np.testing.assert_allclose(trained(torch, "Adafactor", [w], 4, lr=0.1, weight_decay=0.2)[0][0], p, rtol=1e-10)


def np_orthogonal(x: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    s = s / np.sqrt((s * s).sum())
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    return u @ np.diag(s) @ vt


@pytest.mark.parametrize("shape", [(3, 4), (5, 2)])
@pytest.mark.parametrize("nesterov, adjust", [(True, None), (False, "original"), (True, "match_rms_adamw")])
def test_muon_is_the_formula(shape: tuple[int, int], nesterov: bool, adjust: str | None) -> None:
    (w,) = values(shape)
    p, m = w.copy(), np.zeros(shape)
    for _ in range(4):
        g = 2 * p + 3 * p * p
        m = 0.9 * m + 0.1 * g
        o = np_orthogonal(0.9 * m + 0.1 * g if nesterov else m, 3.4445, -4.775, 2.0315)
        scale = 0.2 * np.sqrt(max(shape)) if adjust == "match_rms_adamw" else np.sqrt(max(1, shape[0] / shape[1]))
        p = p - 0.02 * 0.3 * p - 0.02 * scale * o
    got, _ = trained(torch, "Muon", [w], 4, lr=0.02, weight_decay=0.3, momentum=0.9, nesterov=nesterov, adjust_lr_fn=adjust)
    np.testing.assert_allclose(got[0], p, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "lr": 0.01}], ids=str)
def test_muon_near_pytorch(options: dict[str, Any]) -> None:
    """PyTorch rounds the iteration to bfloat16: half a percent of each step."""
    T = pytest.importorskip("torch")
    arrays = values((3, 4), (5, 2))
    mine, own = trained(torch, "Muon", arrays, **options)
    theirs, other = trained(T, "Muon", arrays, **options)
    for got, want, start in zip(mine, theirs, arrays, strict=True):
        assert np.abs(got - want).max() < 0.05 * np.abs(want - start).max()
    assert repr(own) == repr(other) and [list(s) for s in own.state_dict()["state"].values()] == [["momentum_buffer"]] * 2


@pytest.mark.parametrize("name", ["Adafactor", "Muon"])
def test_training_goes_on_from_a_state_dict(name: str) -> None:
    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4, bias=name == "Adafactor"), nn.Tanh(), nn.Linear(4, 1, bias=False)).double()
        return net, getattr(optim, name)(net.parameters(), lr=0.05)

    x = torch.from_numpy(values((8, 3))[0])

    def step(net: Any, optimizer: Any) -> float:
        optimizer.zero_grad()
        loss = ((net(x) - x.sum(1, keepdim=True)) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    net, optimizer = make()
    losses = [step(net, optimizer) for _ in range(5)]
    twin, other = make()
    twin.load_state_dict(copy.deepcopy(net.state_dict()))
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    going_on = [step(net, optimizer) for _ in range(5)]
    np.testing.assert_allclose([step(twin, other) for _ in range(5)], going_on, rtol=1e-12)
    assert going_on[-1] < losses[0]


@pytest.mark.parametrize("name", ["Adafactor", "Muon"])
def test_compiled_steps_are_the_same(name: str) -> None:
    (w,) = values((3, 4))
    results = []
    for compiled in (False, True):
        p = nn.Parameter(torch.tensor(w))
        optimizer = getattr(optim, name)([p], lr=0.1)

        def step(p: Any = p, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (p**3 + p * p).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = torch.compile(step) if compiled else step
        losses = []
        for i in range(6):
            if i == 3:
                optimizer.param_groups[0]["lr"] = 0.05
            losses.append(run().item())
        results.append([*losses, *p.detach().numpy().ravel()])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda p: optim.Muon([nn.Parameter(torch.ones(3))]), ValueError, "only supports 2D parameters"),
        (lambda p: optim.Muon([p], lr=-1.0), ValueError, "Learning rate should be >= 0 but is: -1.0"),
        (lambda p: optim.Muon([p], momentum=-1.0), ValueError, "momentum should be >= 0"),
        (lambda p: optim.Muon([p], weight_decay=-1.0), ValueError, "weight decay should be >= 0"),
        (lambda p: optim.Muon([p], adjust_lr_fn="x"), ValueError, "Adjust learning rate function x is not supported"),
        (lambda p: optim.Muon([p], ns_coefficients=(1.0, 2.0)), ValueError, "exactly 3 values"),
        (lambda p: optim.Muon([p], ns_steps=100), ValueError, "less than 100"),
        (lambda p: optim.Adafactor([p], lr=-1), ValueError, "Learning rate should be >= 0"),
        (lambda p: optim.Adafactor([p], eps=(-1, 2)), ValueError, "epsilon1 should be >= 0"),
        (lambda p: optim.Adafactor([p], eps=(None, -2)), ValueError, "epsilon2 should be >= 0"),
        (lambda p: optim.Adafactor([p], d=0.5), ValueError, "Clipping threshold d should be >= 1"),
        (lambda p: optim.Adafactor([p], beta2_decay=0.5), ValueError, "beta2_decay should be <= 0"),
        (lambda p: optim.Adafactor([p], weight_decay=-0.5), ValueError, "weight_decay should be >= 0"),
        (lambda p: optim.SparseAdam([p], lr=0.0), ValueError, "Invalid learning rate"),
        (lambda p: optim.SparseAdam([p], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0"),
    ],
)  # fmt: skip
def test_wrong_hyper_parameters(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(nn.Parameter(torch.ones(2, 2)))


def test_a_refused_group_is_not_kept() -> None:
    optimizer = optim.Muon([nn.Parameter(torch.ones(2, 2))])
    with pytest.raises(ValueError, match="only supports 2D"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 1


def test_sparse_adam_refuses_dense_gradients() -> None:
    p = nn.Parameter(torch.ones(2, 2))
    optimizer = optim.SparseAdam([p])
    assert optimizer.step(lambda: 3) == 3
    p.sum().backward()
    with pytest.raises(RuntimeError, match="does not support dense gradients, please consider Adam"):
        optimizer.step()
    assert p.tolist() == [[1, 1], [1, 1]]
