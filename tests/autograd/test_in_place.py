"""In-place changes under differentiation: the derivative is that of the values as they were used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch

VALUES = (0.5, -1.5, 2.0, 0.25)


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


# Each changes `a`, a fresh copy of the variable, in place, and returns what is differentiated.
PROGRAMS: dict[str, Callable[[Any], Any]] = {}


def program(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    PROGRAMS[function.__name__] = function
    return function


@program
def add_in_place(a: Any) -> Any:
    a += 1
    return a * a


@program
def multiply_by_itself(a: Any) -> Any:
    a *= a
    return a.sin()


@program
def value_used_before_and_after(a: Any) -> Any:
    before = a.exp()
    a.mul_(3)
    return before * a


@program
def result_overwritten(a: Any) -> Any:
    """PyTorch refuses this one: exp keeps its result, which is then changed."""
    b = a.exp()
    b += 1
    return b * a


@program
def assign_to_a_slice(a: Any) -> Any:
    a[1:3] = a[0:2] * 2
    return a * a


@program
def assign_an_element(a: Any) -> Any:
    a[2] = a[0] * a[1]
    return a * a


@program
def assign_a_constant(a: Any) -> Any:
    a[0] = 7
    return a * a


@program
def assign_by_mask(a: Any) -> Any:
    a[a > 0] = 0
    return a * a


@program
def assign_by_index(a: Any) -> Any:
    a[torch.tensor([3, 0])] = a[torch.tensor([1, 2])] ** 2
    return a * a


@program
def change_through_a_view(a: Any) -> Any:
    v = a.view(2, 2)
    v[0] *= 3
    v.t()[1] += a[0]
    return a.sin() * v.reshape(-1)


@program
def view_taken_before_the_base_changes(a: Any) -> Any:
    v = a[1:]
    a *= 2
    return v * v


@program
def view_of_a_view(a: Any) -> Any:
    w = a.view(2, 2)[1]
    w += w.flip(0)
    return a * a


@program
def two_views(a: Any) -> Any:
    first, last = a[:2], a[2:]
    first *= last
    last -= first
    return torch.cat([first, last]) * a


@program
def zeroed_then_filled(a: Any) -> Any:
    b = torch.zeros(4, dtype=torch.float64)
    b += a
    b[0].zero_()
    b[3].fill_(2.0)
    return b * b


@program
def copied_in(a: Any) -> Any:
    b = torch.ones(2, 4, dtype=torch.float64)
    b[0].copy_(a)
    b[1] = b[0] * 2
    return b.prod(0)


@program
def changed_in_a_loop(a: Any) -> Any:
    out = torch.zeros(4, dtype=torch.float64)
    for k in range(3):
        a[k] = a[k] * a[k + 1]
        out[k] += a.sum()
    return out


@program
def clamped_and_masked(a: Any) -> Any:
    a.clamp_(-1.0, 1.0)
    a.masked_fill_(a == 1.0, 3.0)
    return a * a


@program
def read_in_between(a: Any) -> Any:
    b = a * 2
    assert len(b.tolist()) == 4
    b += a
    assert len(b.tolist()) == 4
    b[1:] *= b[:-1].clone()
    repr(b)
    return b


@program
def detached_part_changes(a: Any) -> Any:
    """Writing through a detached alias changes the value and leaves the derivative as it was recorded."""
    b = a * 1.0
    b.detach()[0] = 5.0
    return b * b


def value(name: str, values: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return PROGRAMS[name](torch.tensor(values)).numpy().copy()


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "detached_part_changes"])
def test_gradient_is_that_of_the_values_used(name: str) -> None:
    x = leaf(*VALUES)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    out = PROGRAMS[name](x.clone())
    np.testing.assert_allclose(out.detach().numpy(), value(name, np.array(VALUES)), rtol=1e-14)
    (out * weights[: len(out)]).sum().backward()
    got = x.grad.numpy()
    for i in range(4):
        ends = []
        for sign in (1, -1):
            moved = np.array(VALUES)
            moved[i] += sign * 1e-6
            ends.append(float((value(name, moved) * weights.numpy()[: len(out)]).sum()))
        assert got[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7), (
            f"with respect to element {i}"
        )


@pytest.mark.parametrize(
    "name", [n for n in PROGRAMS if n not in ("detached_part_changes", "read_in_between")]
)
def test_second_derivative(name: str) -> None:
    assert torch.autograd.gradgradcheck(
        lambda x: PROGRAMS[name](x.clone()), (leaf(*VALUES),), atol=1e-4
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_pytorch_where_it_agrees_to(name: str) -> None:
    theirs = pytest.importorskip("torch")
    found = []
    for library in (torch, theirs):
        original = PROGRAMS[name].__globals__["torch"]
        PROGRAMS[name].__globals__["torch"] = library
        try:
            x = library.tensor(VALUES, dtype=library.float64, requires_grad=True)
            try:
                out = PROGRAMS[name](x.clone())
                out.sum().backward()
            except RuntimeError as error:
                assert library is theirs, error
                assert "modified by an inplace operation" in str(error)
                return
        finally:
            PROGRAMS[name].__globals__["torch"] = original
        found.append((out.detach().numpy().copy(), x.grad.numpy().copy()))
    for ours, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)


def test_leaves_are_protected() -> None:
    x = leaf(1, 2)
    for change in (
        lambda: x.add_(1),
        lambda: x.__setitem__(0, 1.0),
        lambda: x[0].mul_(2),
        lambda: x.zero_(),
        lambda: x.__iadd__(1),
    ):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            change()
    assert x.tolist() == [1.0, 2.0]
    with torch.no_grad():
        x.add_(1)
    assert x.tolist() == [2.0, 3.0]
    assert x.is_leaf
    assert x.requires_grad


def test_a_buffer_becomes_part_of_the_graph() -> None:
    x = leaf(2.0)
    b = torch.zeros(3, dtype=torch.float64)
    assert not b.requires_grad
    b[1] = x[0] * 3
    assert b.requires_grad
    assert not b.is_leaf
    b.sum().backward()
    assert x.grad.tolist() == [3.0]


def test_writing_to_an_expanded_tensor_is_refused() -> None:
    with pytest.raises(RuntimeError, match="more than one element"):
        torch.zeros(1).expand(3).add_(1)


def test_dtype_and_shape_of_the_target_stay() -> None:
    i = torch.ones(2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="can't be cast"):
        i += 0.5
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        i.add_(torch.ones(3, 2, dtype=torch.int64))
    f = torch.ones(2)
    f += torch.ones(2, dtype=torch.float64)
    assert f.dtype == torch.float32
    assert i.tolist() == [1, 1]


def test_the_gradient_kept_is_that_of_the_new_value() -> None:
    for change, kept in (
        (lambda y: y.mul_(3), [12, 12]),
        (lambda y: y.zero_(), [0, 0]),
        (lambda y: y[0].mul_(3), [12, 4]),
        (lambda y: y.register_hook(lambda g: g * 10) and y.mul_(3), [12, 12]),
        (lambda y: y.mul_(3).register_hook(lambda g: g * 10), [120, 120]),
    ):
        for _ in range(3):
            y = torch.ones(2, requires_grad=True) * 2
            y.retain_grad()
            change(y)
            (y * y).sum().backward()
            assert y.retains_grad
            assert y.grad.tolist() == kept
    y = torch.ones(2, requires_grad=True) * 2
    part = y[:1]
    part.retain_grad()
    y.mul_(3)
    (part * part).sum().backward()
    assert part.grad.tolist() == [12]
