"""A trace may end at any step, also in the middle of a backward: derivatives of every order must not notice.

The recorder cuts traces that grow too long and patterns that repeat. Here the limit is a handful of steps, so that the cut falls into
forward passes, backward passes and rules in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace import recorder

pytestmark = pytest.mark.usefixtures("little_effort")


def pointwise(x: Any) -> Any:
    h = (x * 2).tanh()
    h = h * h.sin() + x.exp()
    return (h @ h).sum()


def penalty(x: Any) -> Any:
    y = pointwise(x)
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    return (g * g * x).sum()


def decomposition(x: Any) -> Any:
    u, s, _ = torch.linalg.svd(x)
    return s.prod() + (u * u * torch.arange(4.0, dtype=torch.float64).reshape(2, 2)).sum()


def in_place(x: Any) -> Any:
    b = torch.zeros(2, 2, dtype=torch.float64)
    b[0] = x[1] * 2
    b[:, 1] += x[0]
    return (b * b * x).sum()


def hessian(x: Any) -> Any:
    return torch.func.hessian(lambda v: (v**3).sum() * v[0, 0].sin())(x).sum()


def nested(x: Any) -> Any:
    def inner(v: Any) -> Any:
        return (torch.func.grad(lambda w: (w * w * v).sum().exp() * 1e-2)(v) * x).sum()

    return torch.func.grad(inner)(x).sum()


def composites(x: Any) -> Any:
    return (
        (x.softmax(0).logsumexp(1) * x.std(1)).sum() + x.max(1).values.prod() + x.cumprod(0).sum()
    )


FUNCTIONS = (pointwise, penalty, decomposition, in_place, hessian, nested, composites)


def derivatives(function: Callable[[Any], Any]) -> np.ndarray:
    """Value, gradient, gradient of the squared gradient, and the gradient by backward."""
    x = torch.tensor([[0.3, -0.7], [1.1, 0.5]], dtype=torch.float64, requires_grad=True)
    y = function(x)
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad((g * g).sum(), x)
    function(x).backward()
    return np.concatenate([np.ravel(v.detach().tolist()) for v in (y, g, h, x.grad)])


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_cuts_in_reference_mode(
    function: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.eager():
        want = derivatives(function)
        for limit in (*range(6, 30), *range(31, 90, 6)):
            monkeypatch.setattr(recorder, "MAX_STEPS", limit)
            np.testing.assert_allclose(
                derivatives(function), want, rtol=1e-8, err_msg=f"cut after {limit} steps"
            )


@pytest.mark.skipif(torch.is_eager(), reason="compiles")
@pytest.mark.parametrize("limit", [9, 21, 50])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_cuts_of_compiled_traces(
    function: Callable[[Any], Any], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.eager():
        want = derivatives(function)
    monkeypatch.setattr(recorder, "MAX_STEPS", limit)
    np.testing.assert_allclose(derivatives(function), want, rtol=1e-8)


def test_a_tensor_used_in_several_traces_has_one_gradient() -> None:
    x = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    y = x * 2
    first = y.exp().sum()
    first.item()
    total = first + y.sin().sum()
    seen: list[Any] = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.retain_grad()
    (g,) = torch.autograd.grad(total, y, retain_graph=True)
    total.item()
    want = (y.exp() + y.cos()).tolist()
    assert g.tolist() == pytest.approx(want)
    y.grad = None  # a retained gradient collects those of `grad` too
    total.backward()
    assert y.grad.tolist() == pytest.approx(want)
    assert [s == pytest.approx(want) for s in seen] == [True] * len(seen)
    assert seen
    assert x.grad.tolist() == pytest.approx([2 * w for w in want])
