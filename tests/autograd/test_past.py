"""Backward after the loss was read: the trace has ended, and the walk through it is remembered."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.autograd import engine

STEPS = 8


def train(read: bool, change: bool = False) -> list[np.ndarray]:
    """A few steps whose loss is read, or not, before backward; every other step lets gradients accumulate."""
    torch.manual_seed(0)
    w, b = torch.randn(5, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    X = torch.randn(20, 5)
    seen = []
    for i in range(STEPS):
        loss = ((torch.tanh(X @ w + b) * (i + 0.5)) ** 2).mean()
        if read:
            seen.append(np.array(loss.item()))
        if change and i == 4:
            with torch.no_grad():
                w.mul_(0.5)  # after the forward pass: the derivative belongs to the value it used
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                if i % 2:
                    p.grad.zero_()
        seen += [w.detach().numpy().copy(), b.grad.numpy().copy()]
    return seen


def agree(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", [False, True])
def test_reading_changes_nothing(change: bool) -> None:
    known = train(True, change)
    agree(train(True, change), known)
    with torch.eager():
        agree(train(True, change), known)
    if not change:
        agree([x for x in known if x.ndim], train(False))


@pytest.mark.skipif(torch.is_eager(), reason="reference mode walks every time")
def test_the_walk_is_remembered(monkeypatch) -> None:
    walks = []
    walk = engine.run_reverse
    monkeypatch.setattr(engine, "run_reverse", lambda *args: walks.append(1) or walk(*args))
    train(True)
    train(True)  # which begins where another such training has ended: one more path, if this test is the first
    first = len(walks)
    programs = torch.stats()["programs"]
    train(True)
    assert len(walks) == first and torch.stats()["programs"] == programs
    assert first < STEPS


def test_hooks_on_leaves_are_called_every_time() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for k in range(4):
        seen = []
        hook = x.register_hook(lambda g, seen=seen: seen.append(g.tolist())) if k % 2 else None
        loss = (x * x * (k + 1.0)).sum()
        loss.item()
        loss.backward()
        assert seen == ([[2.0 * (k + 1), 4.0 * (k + 1)]] if k % 2 else [])
        assert x.grad.tolist() == [2.0 * (k + 1), 4.0 * (k + 1)]
        x.grad = None
        if hook is not None:
            hook.remove()


def test_a_graph_is_freed_once() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    for _ in range(3):
        y = x * x * x
        y.item()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.item() == 24
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()
        x.grad = None


@pytest.mark.parametrize("read", [False, True])
def test_gradients_that_are_one_tensor_get_handles_of_their_own(read: bool) -> None:
    """The sum passes one cotangent to both operands, and a leaf may be given the caller's own vector."""
    a, b, c = (torch.ones(3, requires_grad=True) for _ in range(3))
    total = a + b
    if read:
        total.tolist()
    (total * total).sum().backward()
    (b * 0.5).sum().backward()
    assert a.grad.tolist() == [4.0] * 3 and b.grad.tolist() == [4.5] * 3
    vector = torch.ones(3)
    c.backward(vector)
    (c * 2).sum().backward()
    assert vector.tolist() == [1.0] * 3 and c.grad.tolist() == [3.0] * 3


def test_a_half_without_axes_is_computed_again_as_it_was() -> None:
    """Beside a number brought back it became float32: results were not rounded, and a part of this dtype did not compile."""
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)

        def through(read: bool, x: torch.Tensor = x) -> list[float]:
            def part() -> torch.Tensor:
                y = x.clone()
                y[0] *= 1.1
                return (y[0] * 1.1 + y) * x

            out = part()
            if read:
                out.tolist()
            return torch.autograd.grad(out.sum(), x)[0].tolist()

        assert through(True) == through(False)
