"""Custom functions: saved tensors, several results, arguments that are no tensors, second derivatives, forward mode."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import adjoint as torch

Function = torch.autograd.Function


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


class Cube(Function):
    """x**3 with every derivative by hand."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g

    @staticmethod
    def jvp(ctx: Any, t: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * t


class Scaled(Function):
    """x * factor with a plain number, and a count of what was called."""

    calls: list[str] = []

    @staticmethod
    def forward(ctx: Any, x: Any, factor: float, label: str = "") -> Any:
        Scaled.calls.append("forward" + label)
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        Scaled.calls.append("backward")
        return g * ctx.factor, None, None


class SumAndProduct(Function):
    """Two results of two operands."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a + b, a * b

    @staticmethod
    def backward(ctx: Any, gs: Any, gp: Any) -> Any:
        a, b = ctx.saved_tensors
        return gs + gp * b, gs + gp * a


class StraightThrough(Function):
    """Rounds, and passes the gradient as if it had not: a derivative only the user can state."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.round()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g


class TopOne(Function):
    """A value and an index, which has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        value, index = x.max(0)
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        ctx.n = x.shape[0]
        return value, index

    @staticmethod
    def backward(ctx: Any, g: Any, unused: Any) -> Any:
        (index,) = ctx.saved_tensors
        return (torch.arange(ctx.n) == index).to(g.dtype) * g


class Split(Function):
    """The newer form: forward without a context, and `setup_context`."""

    @staticmethod
    def forward(x: Any, k: int) -> Any:
        return x * k

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        _, ctx.k = inputs

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * ctx.k, None


def test_backward_runs_the_users_rule() -> None:
    x = leaf(1, 2)
    y = Cube.apply(x)
    assert y.tolist() == [1.0, 8.0]
    assert y.grad_fn.name() == "CubeBackward"
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]


def test_gradcheck_in_both_modes_and_to_second_order() -> None:
    x = leaf(0.5, -1.2)
    assert torch.autograd.gradcheck(Cube.apply, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(Cube.apply, (x,))


def test_third_order() -> None:
    x = leaf(2.0)
    g = Cube.apply(x)
    for want in (12.0, 12.0, 6.0):
        (g,) = torch.autograd.grad(g.sum(), x, create_graph=True)
        assert g.tolist() == [want]


def test_plain_arguments_and_the_number_of_calls() -> None:
    Scaled.calls = []
    x = leaf(1, 2)
    y = Scaled.apply(Scaled.apply(x, 3.0, "!"), 2.0)
    y.sum().backward()
    assert x.grad.tolist() == [6.0, 6.0]
    assert Scaled.calls == ["forward!", "forward", "backward", "backward"]


@pytest.mark.parametrize("factor", [2.0, 5.0, 7.0])
def test_attributes_of_the_context_are_never_stale(factor: float) -> None:
    x = leaf(1, 2)
    Scaled.apply(x, factor).sum().backward()
    assert x.grad.tolist() == [factor, factor]


def test_several_results() -> None:
    a, b = leaf(2.0), leaf(5.0)
    s, p = SumAndProduct.apply(a, b)
    (s * 10 + p).sum().backward()
    assert a.grad.tolist() == [15.0]
    assert b.grad.tolist() == [12.0]


@pytest.mark.parametrize(("which", "want"), [(0, (1.0, 1.0)), (1, (5.0, 2.0))])
def test_a_result_that_is_not_used_gets_zeros(which: int, want: tuple) -> None:
    a, b = leaf(2.0), leaf(5.0)
    SumAndProduct.apply(a, b)[which].sum().backward()
    assert (a.grad.item(), b.grad.item()) == want


def test_several_results_used_at_different_depths() -> None:
    a, b = leaf(2.0), leaf(5.0)
    s, p = SumAndProduct.apply(a, b)
    (s.exp() * 0 + (p * s).tanh() * 0 + s * p).sum().backward()
    assert a.grad.item() == pytest.approx(5.0 * 7 + 10)
    assert b.grad.item() == pytest.approx(2.0 * 7 + 10)


def test_straight_through() -> None:
    x = leaf(0.4, 1.6)
    y = StraightThrough.apply(x * 2)
    (y * y).sum().backward()
    assert x.grad.tolist() == [4.0, 12.0]


def test_non_differentiable_result() -> None:
    x = leaf(1.0, 3.0, 2.0)
    value, index = TopOne.apply(x)
    assert index.item() == 1
    assert not index.requires_grad
    (value * 4).backward()
    assert x.grad.tolist() == [0.0, 4.0, 0.0]


def test_setup_context() -> None:
    x = leaf(1.0)
    Split.apply(x, 4).sum().backward()
    assert x.grad.tolist() == [4.0]


def test_needs_input_grad() -> None:
    seen = []

    class Look(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            seen.append(ctx.needs_input_grad)
            return g, None

    Look.apply(leaf(1.0), torch.tensor([2.0], dtype=torch.float64)).sum().backward()
    assert seen == [(True, False)]


def test_without_gradient_nothing_is_kept() -> None:
    y = Cube.apply(torch.ones(2))
    assert not y.requires_grad
    with torch.no_grad():
        assert not Cube.apply(leaf(1.0)).requires_grad


def test_wrong_number_of_gradients_is_an_error() -> None:
    class Short(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            return a * b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Short.apply(leaf(1.0), leaf(2.0)).sum().backward()


def test_wrong_shape_of_a_gradient_is_an_error() -> None:
    class Long(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            return a.sum()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return torch.ones(7, dtype=torch.float64)

    with pytest.raises(RuntimeError, match="invalid gradient"):
        Long.apply(leaf(1.0, 2.0)).backward()


def test_missing_parts_say_so() -> None:
    class Nothing(Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            return a * 1

    with pytest.raises(NotImplementedError, match="backward"):
        Nothing.apply(leaf(1.0)).sum().backward()
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(Nothing.apply, (torch.ones(1),), (torch.ones(1),))


def test_inside_a_chain_of_traces() -> None:
    x = leaf(1.5)
    y = Cube.apply(x * 2)
    assert y.item() == 27.0
    z = Cube.apply(y / 27)
    assert z.item() == 1.0
    z.sum().backward()
    assert x.grad.item() == pytest.approx(3 / 27 * 3 * 9 * 2)


@pytest.mark.skipif(torch.is_eager(), reason="in reference mode the past of a tensor knows its value")
def test_results_go_without_a_garbage_collection() -> None:
    """A call knows its results by description only: they know the call."""
    gc.collect()
    gc.disable()
    try:
        y = Cube.apply(leaf(1.0, 2.0))
        known = weakref.ref(y)
        y.sum().backward()
        del y
        torch.ones(1).add(1).item()
        assert known() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("given", "made"), [("float32", "float64"), ("bfloat16", "float32"), ("float32", "complex64"), ("float64", "int64")])
def test_gradients_have_the_dtype_of_the_argument(given: str, made: str) -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return (g * 2).to(getattr(torch, made))

    x = torch.ones(2, dtype=getattr(torch, given), requires_grad=True)
    Twice.apply(x * 3).sum().backward()
    assert x.grad is not None and x.grad.dtype is x.dtype and x.grad.tolist() == [6.0, 6.0]


class Doubled(Function):
    """Doubles its first operand in place."""

    @staticmethod
    def forward(ctx: Any, x: Any, y: Any) -> Any:
        ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return x.mul_(2), x * y

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        (y,) = ctx.saved_tensors
        return 2 * (g + h * y), None


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_an_input_changed_in_place_is_the_result(library: str) -> None:
    t = pytest.importorskip(library)
    doubled = Doubled if t is torch else type("Theirs", (t.autograd.Function,), dict(vars(Doubled)))
    x = t.tensor([1.0, 3.0], requires_grad=True)
    z = x * x
    w, v = doubled.apply(z, t.tensor([5.0, 7.0]))
    assert w is z and z.tolist() == [2.0, 18.0]
    (w * z + v).sum().backward()  # 4 x^4 + 10 x^2 (14 x^2)
    assert x.grad.tolist() == [16 + 20.0, 16 * 27 + 28 * 3.0]
    plain, scale = t.ones(2), t.ones(2, requires_grad=True)
    assert doubled.apply(plain, scale)[0] is plain and plain.requires_grad
    with pytest.raises(RuntimeError, match="leaf"):
        doubled.apply(x, t.ones(2))


def test_a_view_changed_in_place_is_the_result() -> None:
    x = leaf(1.0, 3.0)
    base = x * 1
    doubled, _ = Doubled.apply(base[1:], torch.ones(1))
    assert base.tolist() == [1.0, 6.0]
    (base * base).sum().backward()
    assert x.grad.tolist() == [2.0, 24.0] and doubled.tolist() == [6.0]


class Growth(Function):
    """exp(a), and b / a by what it returns; the derivative is written with the results."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        grown, part = a.exp(), b / a
        ctx.save_for_backward(grown, a, part)
        return grown, part

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        grown, a, part = ctx.saved_tensors
        return g * grown - h * part / a, h / a


class LateGrowth(Growth):
    """The same, saved afterwards."""

    @staticmethod
    def forward(a: Any, b: Any) -> Any:
        return a.exp(), b / a

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(output[0], inputs[0], output[1])


@pytest.mark.parametrize("function", [Growth, LateGrowth])
def test_results_that_were_saved_depend_on_the_inputs(function: Any) -> None:
    """Second and third derivatives, also where values have been looked at in between."""
    a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.5, 1.25], [2.0, -3.0]))
    assert torch.autograd.gradgradcheck(function.apply, (a, b))
    for looks in (False, True):
        grown, _ = function.apply(a, b)
        slopes = [grown]
        for _ in range(3):
            (slope,) = torch.autograd.grad(slopes[-1].sum(), a, create_graph=True)
            slopes.append(slope)
            if looks:
                slope.tolist()
        for slope in slopes[1:]:
            np.testing.assert_allclose(slope.detach().numpy(), np.exp([0.5, 1.25]), rtol=1e-12)
    grown, part = function.apply(a, b)
    slope, _ = torch.autograd.grad((grown * part).sum(), [a, b], create_graph=True)
    (mixed,) = torch.autograd.grad(slope.sum(), b)
    x = np.array([0.5, 1.25])
    np.testing.assert_allclose(mixed.numpy(), np.exp(x) / x - np.exp(x) / x**2, rtol=1e-12)


@pytest.mark.skipif(torch.is_eager(), reason="in reference mode the past of a tensor knows its value")
def test_a_result_that_was_saved_is_let_go() -> None:
    a = leaf(0.5, 1.0)
    result = Growth.apply(a, torch.ones(2))[0]
    (slope,) = torch.autograd.grad(result.sum(), a, create_graph=True)
    slope.tolist()
    gone = weakref.ref(result)
    del result
    assert gone() is None and slope.requires_grad


def test_a_backward_that_is_differentiated_once_only() -> None:
    class Square(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a)
            return a * a

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            (a,) = ctx.saved_tensors
            return torch.from_numpy(2 * a.detach().numpy() * g.numpy()), None

    x = leaf(1.0, 3.0)
    Square.apply(x, 5).sum().backward()
    assert x.grad.tolist() == [2.0, 6.0]
    (slope,) = torch.autograd.grad((Square.apply(x, 5) ** 2).sum(), x, create_graph=True)
    assert slope.tolist() == [4.0, 108.0] and slope.requires_grad
    with pytest.raises(RuntimeError, match="differentiate twice"):
        torch.autograd.grad(slope.sum(), x)


def test_more_gradients_than_operands_are_refused_unless_they_are_none() -> None:
    class More(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, extra: Any) -> Any:
            ctx.extra = extra
            return a * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2, None, ctx.extra

    x = leaf(1.0)
    More.apply(x, None).backward()
    assert x.grad.tolist() == [2.0]
    with pytest.raises(RuntimeError, match=r"incorrect number of gradients \(expected 2, got 3\)"):
        More.apply(x, torch.ones(1)).backward()
