"""Checkpoints: the same values, derivatives and random numbers as without, and less memory between forward and backward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

import adjoint as torch
from adjoint.runtime import memory
from adjoint.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def blocks(count: int = 3, width: int = 4) -> list[Any]:
    torch.manual_seed(1)
    nn = torch.nn
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Dropout(0.3), nn.Linear(width, width)).double() for _ in range(count)]


def trained(reentrant: bool | None, second: bool) -> list[Any]:
    """Loss, gradients of input and parameters, and the random number that is drawn next; None: without checkpoints."""
    model = blocks()
    x = torch.linspace(0, 1, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    torch.manual_seed(5)
    h = x * 2
    for block in model:
        h = block(h) if reentrant is None else checkpoint(block, h, use_reentrant=reentrant)
    loss = (h * h).sum()
    leaves = [x, *[p for block in model for p in block.parameters()]]
    if second:
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        sum((g * g).sum() for g in first).backward()
    else:
        loss.backward()
    return [loss.detach(), *[t.grad for t in leaves], torch.rand(2)]


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("reentrant", [False, True])
def test_derivatives_are_those_without(reentrant: bool, second: bool) -> None:
    for _ in range(2):
        for a, b in zip(trained(None, second), trained(reentrant, second), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def test_the_past_of_a_piece_is_not_kept() -> None:
    """Between forward and backward there are the boundaries of the pieces, not the values inside them."""
    model = [torch.nn.Sequential(*[layer for _ in range(8) for layer in (torch.nn.Linear(64, 64), torch.nn.Tanh())]) for _ in range(3)]

    def held(use: bool) -> int:
        h = torch.zeros(512, 64, requires_grad=True)
        before = memory.stats()["live_bytes"]
        for block in model:
            h = checkpoint(block, h, use_reentrant=False) if use else block(h)
        h.sum().item()
        return memory.stats()["live_bytes"] - before

    held(False), held(True)  # programs are compiled
    one = 512 * 64 * 4
    assert held(True) <= 5 * one
    assert held(False) >= 20 * one


def test_trees_views_and_what_is_no_tensor() -> None:
    base = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    weight = torch.tensor(2.0, requires_grad=True)

    def f(pair: dict[str, Any], power: int, *, shift: Any) -> tuple[Any, ...]:
        return pair["a"] ** power * weight + shift, [pair["b"].sum()], torch.tensor([1, 2]), None, "name"

    shift = torch.tensor(1.0, requires_grad=True)
    out = checkpoint(f, {"a": base[0], "b": base[1] * 1}, 3, shift=shift, use_reentrant=False)
    assert out[2].tolist() == [1, 2] and out[3] is None and out[4] == "name"
    (out[0].sum() + 5 * out[1][0]).backward()
    assert base.grad.tolist() == [[6.0, 24.0], [5.0, 5.0]]
    assert weight.grad.item() == 9 and shift.grad.item() == 2


def test_a_leaf_behind_an_argument_counts_once() -> None:
    w = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    y = checkpoint(lambda h: h * w * w, w * w, use_reentrant=False)
    (g,) = torch.autograd.grad(y, w, create_graph=True)
    (gg,) = torch.autograd.grad(g, w, create_graph=True)
    (ggg,) = torch.autograd.grad(gg, w)
    assert (g.item(), gg.item(), ggg.item()) == (108.0, 108.0, 72.0)


def test_values_may_be_read_inside() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    w = torch.tensor(2.0, requires_grad=True)

    def f(t: Any) -> Any:
        h = t * w
        return h * 3 if h.sum().item() > 0 else h

    checkpoint(f, x, use_reentrant=False).sum().backward()
    assert x.grad.tolist() == [6.0, 6.0] and w.grad.item() == 9


def test_without_gradient_it_is_the_function() -> None:
    x = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert not checkpoint(lambda t: t * 2, x, use_reentrant=False).requires_grad
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True"):
        assert not checkpoint(lambda t: t * x, torch.ones(2), use_reentrant=True).requires_grad
    assert not checkpoint(lambda t: t * 2, torch.ones(2), use_reentrant=False).requires_grad
    with pytest.warns(UserWarning, match="use_reentrant parameter should be passed explicitly"):
        assert checkpoint(lambda t: t * 2, x).requires_grad


def test_contexts_of_both_computations() -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def noted(name: str) -> Iterator[None]:
        entered.append(name)
        yield

    x = torch.ones(2, requires_grad=True)
    y = checkpoint(lambda t: t * t, x, use_reentrant=False, context_fn=lambda: (noted("first"), noted("later")))
    assert entered == ["first"]
    y.sum().backward()
    assert entered == ["first", "later"] and x.grad.tolist() == [2.0, 2.0]


def test_errors() -> None:
    x = torch.ones(3, requires_grad=True)
    outside = x * 2
    with pytest.raises(RuntimeError, match="computed outside it and requires grad, but is no argument"):
        checkpoint(lambda t: t * outside, x, use_reentrant=False)
    assert checkpoint(lambda t: t * outside.detach(), x, use_reentrant=False).requires_grad
    with pytest.raises(ValueError, match="Unexpected keyword arguments: y"):
        checkpoint(lambda t, y: t, x, use_reentrant=True, y=1)
    with pytest.raises(ValueError, match="only supported when use_reentrant=False"):
        checkpoint(lambda t: t, x, use_reentrant=True, debug=True)
    with pytest.raises(NotImplementedError, match="ADJOINT_DEBUG"):
        checkpoint(lambda t: t, x, use_reentrant=False, debug=True)
    with pytest.raises(ValueError, match="determinism_check"):
        checkpoint(lambda t: t, x, use_reentrant=False, determinism_check="both")
    sizes = [3, 2]
    y = checkpoint(lambda t: t[: sizes.pop(0)] * 2, x, use_reentrant=False)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.sum().backward()
    y = checkpoint(lambda t: t * t, x, use_reentrant=False)
    with torch.no_grad():
        x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_hooks_of_parameters_run_once_on_the_whole_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    seen: list[Any] = []
    w.register_hook(lambda g: seen.append(g.tolist()) or g * 0.5)
    for _ in range(3):
        w.grad = None
        x = torch.tensor([3.0, 5.0])
        y = checkpoint(lambda t: t * w, x, use_reentrant=False) + w
        y.sum().backward()
        assert w.grad.tolist() == [2.0, 3.0]
    assert seen == [[4.0, 6.0]] * 3
    y = checkpoint(lambda t: t * w * w, x, use_reentrant=False)
    (g,) = torch.autograd.grad(y.sum(), w, create_graph=True)
    assert g.tolist() == [3.0, 10.0]
    w.grad = None
    g.sum().backward()
    assert w.grad.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_sequential(segments: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(3, 3) for _ in range(5)])
    x = torch.ones(2, 3, requires_grad=True)
    model(x).sum().backward()
    wanted, x.grad = [x.grad, *[p.grad for p in model.parameters()]], None
    model.zero_grad()
    checkpoint_sequential(model, segments, x, use_reentrant=False).sum().backward()
    for a, b in zip(wanted, [x.grad, *[p.grad for p in model.parameters()]], strict=True):
        assert torch.allclose(a, b)
    with pytest.raises(ValueError, match="Unexpected keyword"):
        checkpoint_sequential(list(model), segments, x, use_reentrant=False, other=1)
