"""`torch.func` and `torch.autograd.functional`: Jacobians, Hessians, products, nesting, trees of arguments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.autograd.check import numeric_jacobian
from adjoint.grad.walk import Forward
from adjoint.runtime import program

func, functional = torch.func, torch.autograd.functional


def vector(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def mixed(x: Any) -> Any:
    """R^3 -> R^2, with products, a reduction and an indexed element."""
    return torch.stack([(x * x.roll(1)).sum().tanh(), (x.exp() * x[0]).mean()])


POINT = (0.3, -0.7, 1.1)


def test_jacobians_agree_with_differences_and_each_other() -> None:
    x = vector(*POINT)
    want = numeric_jacobian(mixed, (x,), 0, 1e-6)[0].T
    for make in (func.jacrev, func.jacfwd):
        np.testing.assert_allclose(make(mixed)(x).numpy(), want, atol=1e-8)
    np.testing.assert_allclose(functional.jacobian(mixed, x).numpy(), want, atol=1e-8)
    np.testing.assert_allclose(
        functional.jacobian(mixed, x, strategy="forward-mode").numpy(), want, atol=1e-8
    )


def scalar(x: Any) -> Any:
    return (x**3).sum() * x[0].sin() + (x[1] * x[2]).exp()


def test_hessian_in_every_composition_of_modes() -> None:
    x = vector(*POINT)
    want = numeric_jacobian(func.grad(scalar), (x,), 0, 1e-6)[0]
    modes = {"rev": func.jacrev, "fwd": func.jacfwd}
    for outer in modes.values():
        for inner in modes.values():
            np.testing.assert_allclose(outer(inner(scalar))(x).numpy(), want, atol=1e-7)
    np.testing.assert_allclose(func.hessian(scalar)(x).numpy(), want, atol=1e-7)
    np.testing.assert_allclose(functional.hessian(scalar, x).numpy(), want, atol=1e-7)
    np.testing.assert_allclose(
        func.hessian(scalar)(x).numpy(), func.hessian(scalar)(x).numpy().T, atol=1e-12
    )


def test_products_are_rows_and_columns_of_the_matrices() -> None:
    x, v, u = vector(*POINT), vector(1.0, -2.0, 0.5), vector(0.3, 0.9)
    jacobian = func.jacrev(mixed)(x)
    out, pull = func.vjp(mixed, x)
    np.testing.assert_allclose(out.numpy(), mixed(x).numpy())
    np.testing.assert_allclose(pull(u)[0].numpy(), (u @ jacobian).numpy(), atol=1e-12)
    out, tangent = func.jvp(mixed, (x,), (v,))
    np.testing.assert_allclose(tangent.numpy(), (jacobian @ v).numpy(), atol=1e-12)
    hessian = func.hessian(scalar)(x)
    np.testing.assert_allclose(
        functional.hvp(scalar, x, v)[1].numpy(), (hessian @ v).numpy(), atol=1e-10
    )
    np.testing.assert_allclose(
        functional.vhp(scalar, x, v)[1].numpy(), (v @ hessian).numpy(), atol=1e-10
    )
    np.testing.assert_allclose(
        functional.vjp(mixed, x, u)[1].numpy(), (u @ jacobian).numpy(), atol=1e-12
    )
    np.testing.assert_allclose(
        functional.jvp(mixed, x, v)[1].numpy(), (jacobian @ v).numpy(), atol=1e-12
    )


def test_a_pullback_may_be_used_twice() -> None:
    _, pull = func.vjp(lambda x: x * x, vector(1, 2))
    assert pull(vector(1, 0))[0].tolist() == [2.0, 0.0]
    assert pull(vector(0, 1))[0].tolist() == [0.0, 4.0]


@pytest.mark.parametrize("order", range(5))
def test_nested_grad(order: int) -> None:
    f: Any = torch.sin
    for _ in range(order):
        f = func.grad(f)
    want = [math.sin, math.cos, lambda t: -math.sin(t), lambda t: -math.cos(t), math.sin][order](
        0.4
    )
    assert f(torch.tensor(0.4, dtype=torch.float64)).item() == pytest.approx(want)


def test_perturbations_are_not_confused() -> None:
    """d/dx [x * d/dy (x + y)] = 1: an inner derivative must not see the outer variable's tangent."""
    one = torch.tensor(1.0, dtype=torch.float64)
    outer = func.grad(lambda x: x * func.grad(lambda y: x + y)(one))
    assert outer(one).item() == 1.0
    forward = func.jacfwd(lambda x: x * func.jacfwd(lambda y: x + y)(one))
    assert forward(one).item() == 1.0
    mixed_modes = func.grad(lambda x: x * func.jacfwd(lambda y: x * y)(one))
    assert mixed_modes(one).item() == 2.0


def test_gradient_of_an_inner_gradient_step() -> None:
    """Differentiating through one step of descent on (p - q)^2."""
    rate = 0.1

    def after(q: Any) -> Any:
        p = torch.tensor(5.0, dtype=torch.float64)
        return ((p - rate * func.grad(lambda v: (v - q) ** 2)(p)) - 1) ** 2

    q = torch.tensor(2.0, dtype=torch.float64)
    inner = 5 - rate * 2 * (5 - 2)
    assert func.grad(after)(q).item() == pytest.approx(2 * (inner - 1) * 2 * rate)


def test_argnums_trees_and_aux() -> None:
    def loss(parameters: dict, x: Any) -> Any:
        return (parameters["w"] * x + parameters["b"]).sum(), x.shape[0]

    parameters = {"w": vector(1, 2), "b": vector(0, 0)}
    got, n = func.grad(loss, has_aux=True)(parameters, vector(3, 4))
    assert n == 2
    assert got["w"].tolist() == [3.0, 4.0]
    assert got["b"].tolist() == [1.0, 1.0]
    gx, gw = func.grad(lambda x, w: (x * w).sum(), argnums=(0, 1))(vector(1, 2), vector(3, 4))
    assert (gx.tolist(), gw.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    g, value = func.grad_and_value(lambda x: (x * x).sum())(vector(1, 2))
    assert (g.tolist(), value.item()) == ([2.0, 4.0], 5.0)


def test_jacobian_of_several_arguments_and_results() -> None:
    ja, jb = functional.jacobian(lambda a, b: a * b, (vector(1, 2), vector(3, 4)))
    assert ja.tolist() == [[3.0, 0.0], [0.0, 4.0]]
    assert jb.tolist() == [[1.0, 0.0], [0.0, 2.0]]
    first, second = func.jacfwd(lambda x: (x * 2, x.sum()))(vector(1, 2))
    assert first.tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert second.tolist() == [1.0, 1.0]


def test_constant_functions() -> None:
    x = vector(1, 2)
    for make in (func.jacrev, func.jacfwd):
        assert make(lambda t: torch.ones(3, dtype=torch.float64))(x).tolist() == [[0.0, 0.0]] * 3
    assert func.grad(lambda t: torch.ones((), dtype=torch.float64))(x).tolist() == [0.0, 0.0]


def test_values_and_leaves_outside_are_left_alone() -> None:
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    g = func.grad(lambda x: (x * w).sum())(vector(3.0))
    assert g.tolist() == [2.0]
    assert w.grad is None
    g.sum().backward()
    assert w.grad.tolist() == [1.0], (
        "a gradient that depends on an outer leaf stays connected to it"
    )


def test_control_flow_and_reading_inside() -> None:
    def f(x: Any) -> Any:
        return x**2 if x.sum().item() > 0 else -x

    assert func.grad(lambda x: f(x).sum())(vector(3.0)).tolist() == [6.0]
    assert func.grad(lambda x: f(x).sum())(vector(-3.0)).tolist() == [-1.0]


def test_errors() -> None:
    with pytest.raises(RuntimeError):
        func.grad(lambda x: x * 2)(vector(1, 2))
    with pytest.raises(RuntimeError, match="tuples"):
        func.jvp(torch.sin, vector(1.0), vector(1.0))


X3, PAIR = [1.0, 2.0, 3.0], ([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])


@pytest.mark.parametrize("shape", [(2,), (4,), (1,), (), (3, 1)])
def test_a_tangent_has_the_shape_of_its_variable(shape: tuple) -> None:
    """Another one was read as if it had: beyond its end, in memory of others."""
    x, short = torch.tensor(X3), torch.ones(shape)
    for _ in range(3):
        for call in (
            lambda: func.jvp(lambda a: a * 2, (x,), (short,)),
            lambda: functional.jvp(torch.sin, x, short),
            lambda: functional.hvp(lambda a: (a**3).sum(), x, short),
            lambda: func.vjp(torch.sin, x)[1](short),
        ):
            with pytest.raises(RuntimeError, match="shape|size"):
                call()
    with pytest.raises(RuntimeError, match="complex"):
        func.jvp(torch.sin, (x,), (torch.ones(3, dtype=torch.complex64),))
    assert func.jvp(lambda a: a * 2, (x,), (torch.ones(3, dtype=torch.float64),))[1].tolist() == [2, 2, 2]


def test_tangents_and_cotangents_are_in_the_places_of_their_variables() -> None:
    x, y = map(torch.tensor, PAIR)
    value, pull = func.vjp(lambda a, b: {"first": a * 2, "second": [b * 3]}, x, y)
    assert [g.tolist() for g in pull({"first": x, "second": (y,)})] == [[2, 4, 6], [9, 12, 15]]
    for wrong in ({"second": [y], "first": x}, {"first": x}, (x, y), {"first": x, "second": y}, {"first": x, "second": [y, y]}):
        with pytest.raises(RuntimeError, match="structure"):
            pull(wrong)
    double = lambda d: d["a"] * 2 + d["b"]  # noqa: E731
    assert func.jvp(double, ({"a": x, "b": y},), ({"a": y, "b": x},))[1].tolist() == [7, 10, 13]
    for wrong in ({"b": x, "a": y}, {"a": x}, [x, y], x):
        with pytest.raises(RuntimeError, match="structure"):
            func.jvp(double, ({"a": x, "b": y},), (wrong,))


def test_vmap_is_a_loop_over_slices() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.arange(12.0).reshape(3, 4)
    assert torch.vmap(torch.dot)(a, a).tolist() == [(r * r).sum().item() for r in a]
    assert torch.vmap(lambda u, m: u @ m, in_dims=(0, None))(a, b).tolist() == (a @ b).tolist()
    assert torch.vmap(lambda u: u * 2, in_dims=1, out_dims=1)(a).tolist() == (a * 2).tolist()
    pair = torch.vmap(lambda u: {"twice": u * 2, "sum": u.sum()}, out_dims={"twice": 1, "sum": 0})(a)
    assert pair["twice"].tolist() == (a * 2).t().tolist() and pair["sum"].tolist() == [3, 12]
    nested = torch.vmap(torch.vmap(lambda u, v: u * v, in_dims=(None, 0)), in_dims=(0, None))(a[0], a[1])
    assert nested.tolist() == torch.outer(a[0], a[1]).tolist()


def test_vmap_of_a_gradient() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    assert torch.vmap(torch.func.grad(lambda u: u**3))(x).tolist() == [3, 12, 27]
    w = torch.ones(3, requires_grad=True)
    torch.vmap(lambda u: (u * w).sum())(torch.ones(2, 3)).sum().backward()
    assert w.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.vmap(torch.dot)(torch.ones(2, 3), torch.ones(3, 3)),
        lambda: torch.vmap(torch.dot, in_dims=(0,))(torch.ones(2, 3), torch.ones(2, 3)),
        lambda: torch.vmap(torch.exp, in_dims=None)(torch.ones(2)),
        lambda: torch.vmap(torch.exp, in_dims=3)(torch.ones(2)),
        lambda: torch.vmap(lambda x: 1)(torch.ones(2)),
    ],
)
def test_vmap_says_what_is_wrong(call) -> None:
    with pytest.raises(ValueError, match="vmap"):
        call()


def looking(x: Any) -> Any:
    """Ends the trace twice on its way: at a number that is read, and at a decision."""
    y = x * x
    scale = 2.0 if y.sum().item() > 0 else 3.0
    z = (y * x).sin() * scale
    if z[0].item() > 10:
        z = z * 2
    return (z * x).sum()


def test_functions_that_look_at_values() -> None:
    x = vector(*POINT)

    def plain(x: Any) -> Any:
        return ((x * x * x).sin() * 2.0 * x).sum()

    for transform in (func.grad, func.hessian, func.jacrev, func.jacfwd, lambda f: func.grad(lambda v: func.grad(f)(v).sin().sum())):
        np.testing.assert_allclose(transform(looking)(x).numpy(), transform(plain)(x).numpy(), atol=1e-12)
    inner = func.grad(lambda a: func.grad(lambda b: (looking(b) * a).sum())(x).sum())(vector(1.5))
    assert inner.tolist() == pytest.approx([func.grad(plain)(x).sum().item()])


def test_variables_inside_of_other_derivatives() -> None:
    """A transform within a function that is differentiated by `backward`, and one of a tensor that requires grad."""
    x = vector(*POINT).requires_grad_()
    func.grad(scalar)(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), func.hessian(scalar)(x.detach()).sum(0).numpy(), atol=1e-12)
    assert not func.grad(scalar)(x.detach()).requires_grad
    with torch.no_grad():
        assert not func.grad(scalar)(x).requires_grad


@pytest.mark.skipif(torch.is_eager(), reason="counts programs")
def test_a_hessian_is_one_program() -> None:
    x = vector(*POINT)
    func.hessian(scalar)(x).tolist()
    before = program.counters["runs"]
    func.hessian(scalar)(x).tolist()
    assert program.counters["runs"] == before + 1


def test_columns_of_a_jacobian_after_the_trace_has_ended() -> None:
    """What a walk remembers of one trace is not used in the next."""
    x = vector(*POINT)
    leaf = x.clone().requires_grad_()
    out = (leaf.exp() * leaf.sin()).cumsum(0)
    out.tolist()
    walk = Forward([out], [leaf])
    for k, column in enumerate(func.jacfwd(lambda t: (t.exp() * t.sin()).cumsum(0))(x).t().tolist()):
        unit = vector(*(float(i == k) for i in range(3)))
        (got,) = walk.push([unit])
        assert got.tolist() == pytest.approx(column)


def test_a_variable_of_a_transform_is_another_step_than_a_clone() -> None:
    for _ in range(3):
        x = torch.tensor([1.0, 2.0])
        assert not x.clone().requires_grad
        x = torch.tensor([1.0, 2.0])
        assert torch.func.grad(lambda v: (v * v).sum())(x).tolist() == [2.0, 4.0]
        x = torch.tensor([1.0, 2.0])
        assert not x.clone().requires_grad


Z, ALONG = [1 + 1j, 2 - 1j], [1j, 1j]


def test_derivatives_of_complex_functions() -> None:
    """Gradients follow PyTorch's convention; a tangent is multiplied by the derivative, a cotangent by its conjugate."""
    z, v = torch.tensor(Z), torch.tensor(ALONG)
    square = lambda a: a * a  # noqa: E731
    size = lambda a: (a.conj() * a).real.sum()  # noqa: E731
    for out, tangent in (func.jvp(square, (z,), (v,)), functional.jvp(square, z, v)):
        assert (out.tolist(), tangent.tolist()) == ([2j, 3 - 4j], [-2 + 2j, 2 + 4j])
    assert func.grad(size)(z).tolist() == [2 + 2j, 4 - 2j]
    assert torch.vmap(func.grad(size))(z.reshape(2, 1)).tolist() == [[2 + 2j], [4 - 2j]]
    assert func.vjp(square, z)[1](z)[0].tolist() == functional.vjp(square, z, z)[1].tolist() == [4, 10]
    np.testing.assert_allclose(functional.hvp(lambda a: (a * a * a).real.sum(), z, v)[1].numpy(), [-6 - 6j, 6 - 12j])
    real, cross = func.grad(lambda a, b: (a * b).real.sum(), argnums=(0, 1))(torch.tensor([1.0, 2.0]), z)
    assert (real.tolist(), cross.tolist()) == ([1, 2], [1, 2])


def test_jacobians_of_complex_functions() -> None:
    z = torch.tensor(Z)
    unit = (z / z.abs()).tolist()
    np.testing.assert_allclose(functional.jacobian(torch.abs, z).numpy(), np.diag(unit), rtol=1e-6)
    assert functional.jacobian(lambda a: a * a, z, vectorize=True).tolist() == [[2 - 2j, 0], [0, 4 + 2j]]
    forward = functional.jacobian(lambda a: a * a, z, vectorize=True, strategy="forward-mode")
    assert forward.tolist() == [[2 + 2j, 0], [0, 4 - 2j]]
    for call in (
        lambda: func.jacrev(torch.abs)(z),
        lambda: func.jacfwd(torch.abs)(z),
        lambda: func.jacrev(lambda x: x * 1j)(z.real),
        lambda: func.hessian(lambda a: a.abs().sum())(z),
        lambda: functional.jacobian(lambda a: a * a, z),
        lambda: functional.hessian(lambda a: a.abs().sum(), z),
        lambda: func.vjp(lambda a: a * a, z)[1](z.real),
        lambda: func.vjp(lambda a: a * a, z.real)[1](z),
    ):
        with pytest.raises(RuntimeError, match="complex|real scalar"):
            call()


@pytest.mark.parametrize("size", [1, 2, 9, None])
def test_rows_of_a_jacobian_in_chunks(size: int | None) -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    wanted = func.jacrev(lambda v: v.outer(v.sin()))(x)
    assert torch.equal(func.jacrev(lambda v: v.outer(v.sin()), chunk_size=size)(x), wanted)
    second = func.jacrev(func.jacrev(lambda v: (v**3).sum(), chunk_size=size), chunk_size=size)(x)
    assert second.tolist() == [[6, 0, 0], [0, 12, 0], [0, 0, 18]]


def test_chunks_have_a_size() -> None:
    with pytest.raises(ValueError, match="greater than 0, but got 0"):
        func.jacrev(torch.sin, chunk_size=0)


def test_stacked_models() -> None:
    models = [torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).eval() for _ in range(3)]
    models[1][1].running_mean += 1
    params, buffers = func.stack_module_state(models)
    assert params["0.weight"].shape == (3, 3, 2) and buffers["1.running_mean"].tolist()[1] == [1, 1, 1]
    assert all(p.is_leaf and p.requires_grad for p in params.values()) and not buffers["1.running_var"].requires_grad
    x = torch.randn(4, 2)
    together = torch.vmap(lambda p, b: func.functional_call(models[0], (p, b), x))(params, buffers)
    for one, model in zip(together, models, strict=True):
        assert torch.allclose(one, model(x), atol=1e-6)
    linear = torch.nn.Linear
    for wrong, words in (
        ([], "at least one model"),
        ([linear(1, 1), linear(1, 1).eval()], "training/eval"),
        ([linear(1, 1), torch.nn.ReLU()], "same class"),
        ([linear(1, 1), linear(1, 1).requires_grad_(False)], "requires_grad"),
        ([linear(1, 1), linear(2, 1)], "equal size"),
    ):
        with pytest.raises(RuntimeError, match=words):
            func.stack_module_state(wrong)


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), (0, 0), (), 0.0, "0", [0], (0.0,), None])
def test_argnums_that_name_no_arguments(argnums: Any) -> None:
    for transform in (func.grad, func.jacrev, func.jacfwd, func.hessian):
        with pytest.raises(RuntimeError, match="argnum"):
            transform(lambda x: x * 2, argnums)(torch.tensor(1.0))


def test_arguments_and_results_that_have_no_derivative() -> None:
    one = torch.tensor(1.0)
    with pytest.raises(ValueError, match="must be Tensor"):
        func.grad(lambda x: x)(1.0)
    with pytest.raises(RuntimeError, match="floating point"):
        func.grad(lambda x: x)(torch.tensor(1))
    with pytest.raises(ValueError, match="floating point or complex"):
        func.jvp(lambda x: x, (torch.tensor(1),), (torch.tensor(1),))
    with pytest.raises(RuntimeError, match="at least one Tensor"):
        func.jvp(lambda: one, (), ())
    for call in (
        lambda: func.vjp(lambda x: 1.0, one),
        lambda: func.jvp(lambda x: (x, 1.0), (one,), (one,)),
        lambda: func.jacrev(lambda x: 1.0)(one),
    ):
        with pytest.raises(RuntimeError, match="only tensors"):
            call()
    for call in (lambda: func.grad(lambda x: x, has_aux=True)(one), lambda: func.vjp(lambda x: (x, x, x), one, has_aux=True)):
        with pytest.raises(RuntimeError, match=r"should be a tuple: \(output, aux\)"):
            call()


def test_functional_call_of_tied_weights() -> None:
    first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    second.weight = first.weight
    first.weight.data.fill_(1.0)
    both, x, three = torch.nn.Sequential(first, second), torch.ones(1), torch.tensor([[3.0]])
    assert func.functional_call(both, {"1.weight": three}, x).item() == 9
    assert func.functional_call(both, {"1.weight": three}, x, tie_weights=False).item() == 3
    assert func.functional_call(both, ({"0.weight": three}, {"other": x}), x).item() == 9
    assert first.weight is second.weight
    assert func.grad(lambda w: func.functional_call(both, {"0.weight": w}, x).sum())(three).item() == 6
    with pytest.raises(ValueError, match="tied"):
        func.functional_call(both, {"0.weight": three, "1.weight": three * 2}, x)
    with pytest.raises(RuntimeError, match="Missing key.*1.weight.*Unexpected key.*other"):
        func.functional_call(both, {"0.weight": three, "other": x}, x, strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        func.functional_call(both, ({"0.weight": three}, {"0.weight": three}), x)


def test_no_grad_stops_tangents_as_it_stops_gradients() -> None:
    def f(x: Any) -> Any:
        with torch.no_grad():
            y = x * 2
        return x * y

    x = torch.tensor([1.0, 3.0])
    assert func.jvp(f, (x,), (torch.ones(2),))[1].tolist() == [2, 6]
    assert func.grad(lambda v: f(v).sum())(x).tolist() == [2, 6]


def test_nested_jacobians_are_not_connected_to_variables_of_their_own() -> None:
    x, w, u = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor(5.0, requires_grad=True)
    for outer in (func.jacrev, func.jacfwd):
        for inner in (func.jacrev, func.jacfwd):
            for _ in range(2):
                mixed = outer(inner(lambda a, b: a * a * b, 1), 0)(x, w)
                assert not mixed.requires_grad
                assert mixed.diagonal(dim1=0, dim2=1).diagonal().tolist() == [2, 4]
            found = outer(inner(lambda a, b: a * a * b * u, 1), 0)(x, w)
            assert found.requires_grad
            assert torch.autograd.grad(found.sum(), u)[0].item() == 6
    both = func.grad(lambda a: func.grad(lambda b: (a * b * b).sum())(w).sum())(x)
    assert (both.tolist(), both.requires_grad) == ([6, 8], False)


def test_aux_is_not_connected_to_the_variables() -> None:
    def f(x: Any) -> Any:
        return (x * x).sum(), {"twice": x * 2, "number": 3}

    x, w = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0], requires_grad=True)
    for aux in (
        func.grad(f, has_aux=True)(x)[1], func.jacrev(f, has_aux=True)(x)[1], func.jacfwd(f, has_aux=True)(x)[1],
        func.grad_and_value(f, has_aux=True)(x)[1][1], func.vjp(f, x, has_aux=True)[2], func.jvp(f, (x,), (x,), has_aux=True)[2],
    ):  # fmt: skip
        assert not aux["twice"].requires_grad
        assert (aux["twice"].tolist(), aux["number"]) == ([2, 6], 3)
    func.grad(lambda v: ((v * v).sum(), v * w), has_aux=True)(x)[1].sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1, 3]


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_hessians_are_of_single_values(library: str) -> None:
    t = pytest.importorskip(library)
    hessian = t.autograd.functional.hessian
    x = t.tensor([1.0, 2.0])
    assert hessian(lambda x: (x**3).sum().reshape(1), x).tolist() == [[6, 0], [0, 12]]
    with pytest.raises(RuntimeError, match="single element"):
        hessian(lambda x: x**3, x)
