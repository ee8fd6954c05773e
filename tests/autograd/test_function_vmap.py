"""Custom functions with a rule of their own for batches: when it is called, with what, and that derivatives go through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint
from adjoint.batch import vmap as mapping

pytestmark = pytest.mark.usefixtures("little_effort")

LIBRARIES = ["adjoint", "torch"]
X = np.arange(1.0, 7.0).reshape(3, 2)
Y = np.array([2.0, -1.0])


def in_front(x: Any, axis: int | None, rank: int) -> Any:
    """A batch of operands, aligned with others of this rank."""
    if axis is None:
        return x
    x = x.movedim(axis, 0)
    return x.reshape(x.shape[0], *[1] * (rank + 1 - x.dim()), *x.shape[1:])


class Library:
    """The functions of this file in one library, and what their rules were called with."""

    def __init__(self, name: str) -> None:
        self.torch = t = pytest.importorskip(name)
        self.calls = calls = []
        self.x, self.y = t.tensor(X), t.tensor(Y)

        class Scaled(t.autograd.Function):
            """x^2 y"""

            @staticmethod
            def forward(x: Any, y: Any, power: int = 2) -> Any:
                return x**power * y

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
                ctx.save_for_backward(*inputs[:2])

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                x, y = ctx.saved_tensors
                return 2 * x * y * g, x * x * g, None

            @staticmethod
            def vmap(info: Any, in_dims: tuple, x: Any, y: Any, power: int = 2) -> Any:
                calls.append((info.batch_size, info.randomness, tuple(d is None for d in in_dims), tuple(x.shape), tuple(y.shape)))
                rank = max(a.dim() - (d is not None) for a, d in ((x, in_dims[0]), (y, in_dims[1])))
                return Scaled.apply(in_front(x, in_dims[0], rank), in_front(y, in_dims[1], rank), power), 0

        class Sine(t.autograd.Function):
            """Computed by NumPy."""

            @staticmethod
            def forward(x: Any) -> Any:
                return t.from_numpy(np.sin(x.detach().numpy()))

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
                ctx.save_for_backward(*inputs)

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                (x,) = ctx.saved_tensors
                return g * x.cos()

            @staticmethod
            def vmap(info: Any, in_dims: tuple, x: Any) -> Any:
                calls.append((info.batch_size, tuple(x.shape)))
                return Sine.apply(x), in_dims[0]

        class Split(t.autograd.Function):
            """Two results, of which one is the same for all samples: a sum over the batch."""

            @staticmethod
            def forward(x: Any) -> Any:
                return x * 2, x

            @staticmethod
            def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
                pass

            @staticmethod
            def backward(ctx: Any, g: Any, h: Any) -> Any:
                return 2 * g + h

            @staticmethod
            def vmap(info: Any, in_dims: tuple, x: Any) -> Any:
                x = x.movedim(in_dims[0], -1)
                return (x * 2, x.sum(-1)), (-1, None)

        self.Scaled, self.Sine, self.Split = Scaled, Sine, Split


def after(x: Any, sine: Any) -> Any:
    """A view that was made before NumPy was called."""
    view = x.view(2, 1)
    return sine.apply(x) + view.flatten().flip(0)


# name: what is computed, and what it is
CASES: dict[str, tuple[Callable[[Library], Any], Callable[[], Any]]] = {
    "a batch": (lambda t: t.torch.func.vmap(t.Scaled.apply, (0, None))(t.x, t.y), lambda: X**2 * Y),
    "another axis": (lambda t: t.torch.func.vmap(t.Scaled.apply, (1, 0), 1)(t.x, t.y), lambda: X**2 * Y),
    "amid others": (lambda t: t.torch.func.vmap(lambda x: t.Scaled.apply(x.sin(), t.y).cos() * x)(t.x), lambda: np.cos(np.sin(X) ** 2 * Y) * X),
    "no tensor": (lambda t: t.torch.func.vmap(lambda x: t.Scaled.apply(x, t.y, 2))(t.x), lambda: X**2 * Y),
    "a gradient": (lambda t: t.torch.func.vmap(t.torch.func.grad(lambda x: t.Scaled.apply(x, t.y).sum()))(t.x), lambda: 2 * X * Y),
    "the gradient of a batch": (
        lambda t: t.torch.func.grad(lambda x: t.torch.func.vmap(t.Scaled.apply, (0, None))(x, t.y).sin().sum())(t.x),
        lambda: np.cos(X**2 * Y) * 2 * X * Y,
    ),
    "gradients inside and outside": (
        lambda t: t.torch.func.grad(
            lambda x: t.torch.func.vmap(t.torch.func.grad(lambda u: t.Scaled.apply(u, t.y).sin().sum()))(x).sum()
        )(t.x),
        lambda: 2 * Y * np.cos(X**2 * Y) - 4 * X**2 * Y**2 * np.sin(X**2 * Y),
    ),
    "batches of batches": (lambda t: t.torch.func.vmap(t.torch.func.vmap(t.Scaled.apply))(t.x, t.x), lambda: X**3),
    "an outer and an inner batch": (
        lambda t: t.torch.func.vmap(lambda x: t.torch.func.vmap(lambda y: t.Scaled.apply(x, y))(t.y))(t.x),
        lambda: X[:, None, :] ** 2 * Y[:, None],
    ),
    "a Jacobian": (
        lambda t: t.torch.func.jacrev(lambda x: t.torch.func.vmap(lambda u: t.Scaled.apply(u, t.y).sum())(x))(t.x),
        lambda: np.eye(3)[:, :, None] * (2 * X * Y),
    ),
    "one sample": (lambda t: t.torch.func.vmap(t.Scaled.apply, (0, None))(t.x[:1], t.y), lambda: X[:1] ** 2 * Y),
    "chunks": (lambda t: t.torch.func.vmap(t.Scaled.apply, (0, None), chunk_size=2)(t.x, t.y), lambda: X**2 * Y),
    "two results": (lambda t: t.torch.func.vmap(t.Split.apply, 0, (0, None))(t.x), lambda: (X * 2, X.sum(0))),
    "by NumPy": (lambda t: t.torch.func.vmap(t.Sine.apply)(t.x), lambda: np.sin(X)),
    "by NumPy amid others": (lambda t: t.torch.func.vmap(lambda x: t.Sine.apply(x.exp()) * x)(t.x), lambda: np.sin(np.exp(X)) * X),
    "by NumPy twice": (lambda t: t.torch.func.vmap(lambda x: t.Sine.apply(t.Sine.apply(x * 2)) + x)(t.x), lambda: np.sin(np.sin(X * 2)) + X),
    "views by NumPy": (lambda t: t.torch.func.vmap(lambda x: after(x * 3, t.Sine))(t.x), lambda: X[:, ::-1] * 3 + np.sin(X * 3)),
    "batches of batches by NumPy": (
        lambda t: t.torch.func.vmap(lambda x: t.torch.func.vmap(lambda y: t.Sine.apply(x * y) * y)(t.y))(t.x),
        lambda: np.sin(X[:, None] * Y[:, None]) * Y[:, None],
    ),
    "the gradient of a batch by NumPy": (
        lambda t: t.torch.func.grad(lambda x: t.torch.func.vmap(t.Sine.apply)(x).sum())(t.x),
        lambda: np.cos(X),
    ),
}  # fmt: skip


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_batch_is_computed_by_the_rule(case: str, again: bool) -> None:
    ours, (compute, want) = Library("adjoint"), CASES[case]
    if again:
        compute(ours)
        ours.calls.clear()
    before = mapping.loops
    got = compute(ours)
    for g, w in zip(got if isinstance(got, tuple) else (got,), want() if isinstance(want(), tuple) else (want(),), strict=True):
        np.testing.assert_allclose(g.numpy(), w, rtol=1e-12)
    if not adjoint.is_eager():  # there the loops inside of a batch are loops
        assert mapping.loops == before or case in ("views by NumPy", "the gradient of a batch by NumPy")


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("another axis", "two results")])
def test_rules_are_called_as_in_pytorch(case: str) -> None:
    theirs, ours = Library("torch"), Library("adjoint")
    for t in (theirs, ours):
        CASES[case][0](t)
    assert ours.calls == theirs.calls


@pytest.mark.parametrize("library", LIBRARIES)
def test_gradients_of_leaves_outside(library: str) -> None:
    t = Library(library)
    x, y = t.x.requires_grad_(), t.y.requires_grad_()
    t.torch.func.vmap(lambda u: t.Scaled.apply(u.sin(), y))(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.sin(X) * np.cos(X) * Y, rtol=1e-12)
    np.testing.assert_allclose(y.grad.numpy(), (np.sin(X) ** 2).sum(0), rtol=1e-12)


def test_what_was_kept_before_numpy_is_kept_of_every_sample() -> None:
    t, kept = Library("adjoint"), []

    def function(x: Any) -> Any:
        kept.append(x * 2)
        return t.Sine.apply(x)

    got = t.torch.func.vmap(function)(t.x)
    np.testing.assert_allclose(got.numpy(), np.sin(X), rtol=1e-12)
    if not adjoint.is_eager():
        np.testing.assert_array_equal(adjoint.stack(kept).numpy(), X * 2)


@pytest.mark.parametrize("library", LIBRARIES)
def test_rules_that_do_not_fit(library: str) -> None:
    t = pytest.importorskip(library)

    def function(**more: Any) -> Any:
        parts = {
            "forward": staticmethod(lambda x: x * 2),
            "setup_context": staticmethod(lambda ctx, inputs, output: None),
            "backward": staticmethod(lambda ctx, g: g * 2),
        }
        return type("Twice", (t.autograd.Function,), {**parts, **more})

    x = t.ones(3, 2)
    with pytest.raises(RuntimeError, match="two returns"):
        t.func.vmap(function(vmap=staticmethod(lambda info, dims, u: u * 2)).apply)(x)
    with pytest.raises(RuntimeError, match="both generate_vmap_rule=True"):
        t.func.vmap(function(vmap=staticmethod(lambda info, dims, u: (u * 2, 0)), generate_vmap_rule=True).apply)(x)
    with pytest.raises(RuntimeError, match="setup_context"):
        old = {"forward": staticmethod(lambda ctx, u: u * 2), "setup_context": t.autograd.Function.setup_context}
        t.func.vmap(function(vmap=staticmethod(lambda info, dims, u: (u * 2, 0)), **old).apply)(x)
    assert t.func.vmap(function(generate_vmap_rule=True).apply)(x).tolist() == [[2.0, 2.0]] * 3
    with pytest.raises(RuntimeError, match="both 'backward' and 'vjp'"):
        function(vjp=staticmethod(lambda ctx, g: g)).apply(x.requires_grad_()).sum().backward()


def test_a_batch_that_is_not_where_the_rule_says() -> None:
    class Wrong(adjoint.autograd.Function):
        @staticmethod
        def forward(x: Any) -> Any:
            return x

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            pass

        @staticmethod
        def vmap(info: Any, in_dims: tuple, x: Any) -> Any:
            return x, 1

    with pytest.raises(RuntimeError, match="batch of 3 along axis 1"):
        adjoint.func.vmap(Wrong.apply)(adjoint.ones(3, 2))


@pytest.mark.parametrize("library", LIBRARIES)
def test_vjp_is_another_name_of_backward(library: str) -> None:
    t = pytest.importorskip(library)

    class Twice(t.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def vjp(ctx: Any, g: Any) -> Any:
            return g * 3

    x = t.ones(2, requires_grad=True)
    Twice.apply(x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def kept_in(t: Any, kind: str, setup: bool) -> Any:
    """exp, whose derivatives read the result where it was kept."""

    def keep(ctx: Any, r: Any) -> None:
        if kind == "saved":
            ctx.save_for_backward(r)
            ctx.save_for_forward(r)
        else:
            ctx.kept = {"attribute": r, "list": [1, (r,)], "dict": {"a": r}}[kind]

    def found(ctx: Any) -> Any:
        if kind == "saved":
            return ctx.saved_tensors[0]
        return {"attribute": lambda: ctx.kept, "list": lambda: ctx.kept[1][0], "dict": lambda: ctx.kept["a"]}[kind]()

    def forward(ctx: Any, x: Any) -> Any:
        r = x.exp()
        keep(ctx, r)
        return r

    parts: dict[str, Any] = {"forward": staticmethod(forward)}
    if setup:
        parts = {
            "forward": staticmethod(lambda x: x.exp()),
            "setup_context": staticmethod(lambda ctx, inputs, output: keep(ctx, output)),
            "generate_vmap_rule": True,
        }
    derivatives = {"backward": staticmethod(lambda ctx, g: found(ctx) * g), "jvp": staticmethod(lambda ctx, d: found(ctx) * d)}
    return type("Exp", (t.autograd.Function,), {**parts, **derivatives})


@pytest.mark.parametrize("kind", ["attribute", "list", "dict", "saved"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_results_kept_anywhere_depend_on_the_inputs(library: str, kind: str) -> None:
    t = pytest.importorskip(library)
    points = np.array([0.0, 1.0])
    for setup in (False, True):
        x = t.tensor(points, requires_grad=True)
        y = kept_in(t, kind, setup).apply(x)
        for _ in range(3):
            (y,) = t.autograd.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.detach().numpy(), np.exp(points), rtol=1e-12)
    x, ones, exp = t.tensor(points), t.ones(2, dtype=t.float64), kept_in(t, kind, True)
    second = (2 + 4 * points**2) * np.exp(points**2)
    mixed = t.func.grad(lambda x: t.func.jvp(lambda x: exp.apply(x * x), (x,), (ones,))[1].sum())(x)
    _, along = t.func.jvp(t.func.grad(lambda x: exp.apply(x * x).sum()), (x,), (ones,))
    hessian = t.func.hessian(lambda x: exp.apply(x * x).sum())(x)
    for got in (mixed, along, hessian.diagonal()):
        np.testing.assert_allclose(got.numpy(), second, rtol=1e-12)
    if t is adjoint:
        _, twice = t.func.jvp(lambda x: t.func.jvp(lambda x: exp.apply(x * x), (x,), (ones,))[1], (x,), (ones,))
        np.testing.assert_allclose(twice.numpy(), second, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_was_saved_for_forward_is_what_jvp_gets(library: str) -> None:
    t = pytest.importorskip(library)

    class Product(t.autograd.Function):
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
            ctx.save_for_forward(*inputs)

        @staticmethod
        def jvp(ctx: Any, a: Any, b: Any) -> Any:
            x, y = ctx.saved_tensors
            return a * y + x * b

    x, y = t.tensor([1.0, 2.0]), t.tensor([3.0, 5.0])
    assert t.func.jvp(Product.apply, (x, y), (y, x))[1].tolist() == [10.0, 29.0]
