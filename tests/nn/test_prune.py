"""Pruned parameters: masks, one method after another, training, and back; the same program for Adjoint and PyTorch."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
import pytest

import adjoint
from adjoint.nn.utils import prune

LIBRARIES: list[Any] = [adjoint]
with contextlib.suppress(ImportError):
    LIBRARIES.append(importlib.import_module("torch"))


def parts(lib: Any) -> tuple[Any, Any]:
    return importlib.import_module(lib.__name__ + ".nn"), importlib.import_module(lib.__name__ + ".nn.utils.prune")


def filled(lib: Any, module: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    with lib.no_grad():
        for p in module.parameters():
            p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)).astype(np.float32)))
    return module


def state(module: Any) -> list[Any]:
    return [[name, t.detach().numpy().round(5).tolist()] for name, t in sorted(module.state_dict().items())]


def one_after_another(lib: Any) -> list[Any]:
    nn, prune = parts(lib)
    told: list[Any] = []
    layer = filled(lib, nn.Conv2d(3, 4, 2))
    prune.l1_unstructured(layer, "weight", amount=0.3)
    told += [state(layer), [name for name, _ in layer.named_parameters()], [name for name, _ in layer.named_buffers()]]
    prune.ln_structured(layer, "weight", amount=1, n=2, dim=0)
    told.append(state(layer))
    prune.ln_structured(layer, "weight", amount=0.5, n=float("inf"), dim=-3)
    prune.l1_unstructured(layer, "weight", amount=2)
    prune.l1_unstructured(layer, "bias", amount=0.5, importance_scores=lib.tensor([1.0, 4.0, 3.0, 2.0]))
    prune.custom_from_mask(layer, "bias", lib.tensor([1.0, 1.0, 0.0, 1.0]))
    told += [state(layer), prune.is_pruned(layer), layer.weight.detach().tolist()]
    prune.remove(layer, "weight")
    told += [state(layer), prune.is_pruned(layer), type(layer.weight).__name__, layer.weight.is_leaf]
    prune.remove(layer, "bias")
    return [*told, state(layer), prune.is_pruned(layer), sorted(name for name, _ in layer.named_parameters())]


def everywhere(lib: Any) -> list[Any]:
    nn, prune = parts(lib)
    net = filled(lib, nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))
    chosen = [(net[0], "weight"), (net[2], "weight"), (net[2], "bias")]
    prune.global_unstructured(chosen, prune.L1Unstructured, amount=0.4)
    first = state(net)
    scores = {(net[0], "weight"): lib.arange(20.0).reshape(4, 5)}
    prune.global_unstructured(chosen, prune.L1Unstructured, importance_scores=scores, amount=3)
    return [first, state(net), prune.is_pruned(net), prune.is_pruned(net[1])]


def trained(lib: Any) -> list[Any]:
    nn, prune = parts(lib)
    net = filled(lib, nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    prune.l1_unstructured(net[0], "weight", amount=5)
    prune.ln_structured(net[2], "weight", amount=0.5, n=1, dim=1)
    optimizer, x = lib.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), lib.arange(12.0).reshape(4, 3) / 10
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (net(x) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(round(loss.item(), 4))
    gone = net[0].weight_mask == 0
    return [losses, bool((net[0].weight_orig.grad[gone] == 0).all()), [round(v, 4) for v in net(x).flatten().tolist()]]


def own(lib: Any) -> list[Any]:
    """A method of one's own, and methods on tensors that are no parameters."""
    nn, prune = parts(lib)

    class EveryOther(prune.BasePruningMethod):  # type: ignore[name-defined, misc]
        PRUNING_TYPE = "unstructured"

        def compute_mask(self, t: Any, default_mask: Any) -> Any:
            mask = default_mask.clone()
            mask.view(-1)[::2] = 0
            return mask

    layer = filled(lib, nn.Linear(4, 3))
    EveryOther.apply(layer, "weight")
    method = EveryOther.apply(layer, "weight")
    kept = prune.L1Unstructured(amount=2).prune(lib.tensor([3.0, -1.0, 0.5, 2.0]))
    seen = prune.LnStructured(amount=1, n=1, dim=0).prune(lib.tensor([[3.0, -1.0], [0.5, 2.0]]))
    return [state(layer), len(method), type(method[0]).__name__, [type(m).__name__ for m in method], kept.tolist(), seen.tolist()]


def mistakes(lib: Any) -> list[Any]:
    nn, prune = parts(lib)
    layer = filled(lib, nn.Linear(4, 3))
    wrong: list[Any] = [
        lambda: prune.random_unstructured(layer, "weight", 1.5),
        lambda: prune.random_unstructured(layer, "weight", -1),
        lambda: prune.random_unstructured(layer, "weight", "most"),
        lambda: prune.l1_unstructured(layer, "weight", 100),
        lambda: prune.ln_structured(layer, "bias", 1, 2, 0),
        lambda: prune.ln_structured(layer, "weight", 1, 2, 5),
        lambda: prune.l1_unstructured(layer, "weight", 1, lib.ones(2)),
        lambda: prune.random_unstructured(layer, "nothing", 1),
        lambda: prune.remove(layer, "weight"),
        lambda: prune.global_unstructured([(layer, "weight")], prune.LnStructured, amount=1, n=2),
        lambda: prune.global_unstructured(3, prune.L1Unstructured, amount=1),
        lambda: prune.global_unstructured([(layer, "weight")], prune.L1Unstructured, importance_scores=[1], amount=1),
    ]
    told = []
    for call in wrong:
        try:
            call()
            told.append("none")
        except Exception as error:
            told.append(type(error).__name__)
        layer = filled(lib, nn.Linear(4, 3))
    return told


@pytest.mark.parametrize("program", [one_after_another, everywhere, trained, own, mistakes], ids=lambda p: p.__name__)
def test_same_as_pytorch(program: Any) -> None:
    told = [program(lib) for lib in LIBRARIES]
    assert all(found == told[0] for found in told), told


def test_the_smallest_go() -> None:
    layer = filled(adjoint, adjoint.nn.Linear(6, 5))
    before = layer.weight.detach().numpy().copy()
    prune.l1_unstructured(layer, "weight", amount=0.2)
    gone = layer.weight.detach().numpy() == 0
    assert gone.sum() == 6
    assert np.abs(before[gone]).max() < np.abs(before[~gone]).min()
    np.testing.assert_array_equal(layer.weight_orig.detach().numpy(), before)
    with adjoint.no_grad():
        layer.weight_orig.fill_(2.0)
    np.testing.assert_allclose(layer(adjoint.ones(1, 6)).detach().numpy()[0], 2.0 * (~gone).sum(1) + layer.bias.detach().numpy(), rtol=1e-6)
    assert mistakes(adjoint).count("none") == 0


def test_at_random() -> None:
    adjoint.manual_seed(0)
    layer = prune.random_unstructured(adjoint.nn.Linear(20, 30), "weight", amount=0.25)
    assert int((layer.weight_mask == 0).sum()) == 150
    prune.random_unstructured(layer, "weight", amount=50)
    assert int((layer.weight_mask == 0).sum()) == 200
    conv = prune.random_structured(adjoint.nn.Conv1d(4, 6, 3), "weight", amount=2, dim=1)
    assert sorted(conv.weight_mask.sum((0, 2)).tolist()) == [0, 0, 18, 18]


def test_a_method_that_fails_changes_nothing() -> None:
    layer = adjoint.nn.Linear(4, 3)
    with pytest.raises(ValueError, match="number of parameters"):
        prune.l1_unstructured(layer, "weight", 100)
    assert not prune.is_pruned(layer) and [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    prune.l1_unstructured(layer, "weight", 3)
    with pytest.raises(ValueError, match="number of parameters"):
        prune.l1_unstructured(layer, "weight", 100)
    assert int((layer.weight == 0).sum()) == 3 and prune.is_pruned(layer)
