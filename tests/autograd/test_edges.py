"""Gradient edges, hooks of several tensors, `grad_dtype` and other names of `torch.autograd` that PyTorch has, in both libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint

pytestmark = pytest.mark.usefixtures("little_effort")

LIBRARIES = ["adjoint", "torch"]


@pytest.fixture(params=LIBRARIES)
def t(request: Any) -> Any:
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("ended", [False, True])
def test_an_edge_stands_for_its_tensor(t: Any, ended: bool) -> None:
    x = t.tensor([1.0, 2.0], dtype=t.float64, requires_grad=True)
    y = x.exp()
    z = (y * y).sum()
    if ended:
        z.item()
    at_x, at_y = t.autograd.graph.get_gradient_edge(x), t.autograd.graph.get_gradient_edge(y)
    assert type(at_x.node).__name__ == "AccumulateGrad" and type(at_y.node).__name__ == "ExpBackward0" and at_y.output_nr == 0
    want = np.exp(x.detach().numpy())
    del y
    gy, gx = t.autograd.grad(z, [at_y, x], retain_graph=True)
    np.testing.assert_allclose(gy.numpy(), 2 * want, rtol=1e-12)
    np.testing.assert_allclose(gx.numpy(), 2 * want**2, rtol=1e-12)
    (again,) = t.autograd.grad(at_y, at_x, t.ones(2, dtype=t.float64), retain_graph=True)
    np.testing.assert_allclose(again.numpy(), want, rtol=1e-12)
    t.autograd.backward(z, inputs=at_x, retain_graph=True)
    t.autograd.backward([at_y], [t.ones(2, dtype=t.float64)])
    np.testing.assert_allclose(x.grad.numpy(), 2 * want**2 + want, rtol=1e-12)


def test_the_edge_of_one_of_several_results(t: Any) -> None:
    x = t.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=t.float64, requires_grad=True)
    values, vectors = t.linalg.eigh(x)
    edges = [t.autograd.graph.get_gradient_edge(r) for r in (values, vectors)]
    assert [e.output_nr for e in edges] == [0, 1]
    g, h = t.autograd.grad((values**2).sum() + 0 * vectors.sum(), edges)
    np.testing.assert_allclose(g.numpy(), 2 * values.detach().numpy(), rtol=1e-12)
    assert h.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_an_edge_by_hand(t: Any) -> None:
    x = t.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 3).sin()
    node = y.grad_fn.next_functions[0][0]
    edge = t.autograd.graph.GradientEdge(node, 0)
    (g,) = t.autograd.grad(edge, x, t.ones(2))
    assert g.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError, match="gradient edge for a Tensor that does not require"):
        t.autograd.graph.get_gradient_edge(t.ones(2))


def test_edges_that_are_none() -> None:
    edge = adjoint.autograd.graph.GradientEdge
    x = adjoint.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="must be a node"):
        adjoint.autograd.grad(edge(x, 0), x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one result, of number 0"):
        adjoint.autograd.grad(edge((x * 2).grad_fn, 1), x)
    with pytest.raises(ValueError, match="no such result"):
        adjoint.autograd.grad(edge(adjoint.linalg.eigh(adjoint.ones(2, 2, requires_grad=True))[0].grad_fn, 7), x)


@pytest.mark.parametrize("mode", ["all", "any"])
def test_one_hook_of_several_tensors(t: Any, mode: str) -> None:
    x, y, z = [t.tensor([float(k)], requires_grad=True) for k in (1, 2, 3)]
    seen: list[Any] = []

    def hook(g: Any) -> Any:
        assert t is not adjoint or x.grad is None or len(seen) >= 1
        seen.append([None if h is None else h.item() for h in g] if mode == "all" else g.item())
        return "ignored"

    w = x * y
    handle = t.autograd.graph.register_multi_grad_hook([w, x, y, z], hook, mode=mode)
    for k in (1.0, 2.0):
        (w * 5 * k).sum().backward(retain_graph=True)
    want = [[5.0, 10.0, 5.0, None], [10.0, 20.0, 10.0, None]] if mode == "all" else [5.0, 10.0]
    assert seen == want
    (x * 7).sum().backward()
    assert seen[2:] == ([[None, 7.0, None, None]] if mode == "all" else [7.0])
    (z.sin().detach() + t.ones(1, requires_grad=True)).sum().backward()
    handle.remove()
    (w * 5).sum().backward()
    assert len(seen) == 3
    assert x.grad.item() == 10 + 20 + 7 + 10


def test_modes_and_tensors_that_hooks_take(t: Any) -> None:
    with pytest.raises(ValueError, match="one of"):
        t.autograd.graph.register_multi_grad_hook([t.ones(1, requires_grad=True)], print, mode="some")


def test_gradients_of_another_dtype(t: Any) -> None:
    x = t.ones(2, requires_grad=True)
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(g.dtype))
    assert x.grad_dtype is t.float32
    x.grad_dtype = t.float64
    for k in (1, 2):
        (x * 2).sum().backward()
        assert x.grad.dtype is t.float64 and x.grad.tolist() == [2.0 * k] * 2
    assert seen == [t.float64] * 2
    assert t.autograd.grad((x * 2).sum(), x)[0].dtype is t.float64
    with pytest.raises(RuntimeError, match="already a gradient"):
        x.grad_dtype = t.float32
    x.grad = None
    x.grad = t.ones(2, dtype=t.float64)
    with pytest.raises(RuntimeError, match="attempting to assign a gradient with dtype"):
        x.grad = t.ones(2)
    x.grad_dtype = None
    x.grad = t.ones(2, dtype=t.float16)
    (x * 2).sum().backward()
    assert x.grad_dtype is None and x.grad.dtype is t.float16 and x.grad.tolist() == [3.0, 3.0]


def test_what_has_no_gradients_of_another_dtype(t: Any) -> None:
    x = t.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        (x * 2).grad_dtype  # noqa: B018
    with pytest.raises(RuntimeError, match="dtype or None"):
        x.grad_dtype = "float64"
    assert t.ones(2, dtype=t.int64).grad_dtype is t.int64
    y = t.ones(2)
    y.grad_dtype = t.float64
    (y.requires_grad_() * 3).sum().backward()
    assert y.grad.dtype is t.float64 and y.grad.tolist() == [3.0, 3.0]


def test_counting_changes(t: Any) -> None:
    x = t.ones(3)
    t.autograd.graph.increment_version(x)
    t.autograd.graph.increment_version([x, x[1:]])
    assert x._version == 3
    with pytest.raises(RuntimeError, match="Iterable"):
        t.autograd.graph.increment_version(3)


def test_saved_values_may_change(t: Any) -> None:
    x = t.tensor([2.0, 3.0], requires_grad=True)
    with t.autograd.graph.allow_mutation_on_saved_tensors():
        y = x.clone()
        z = (y**2).sum()
        y.sin_()
        z.backward()
        with pytest.raises(RuntimeError, match="cannot be nested"), t.autograd.graph.allow_mutation_on_saved_tensors():
            pass
    assert x.grad.tolist() == [4.0, 6.0]
    with t.autograd.graph.disable_saved_tensors_hooks("none here"):
        (x * x).sum().backward()
    assert x.grad.tolist() == [8.0, 12.0]


def test_variables(t: Any) -> None:
    v = t.autograd.Variable(t.ones(2), requires_grad=True)
    assert isinstance(v, t.Tensor) and isinstance(v, t.autograd.Variable) and not isinstance(3, t.autograd.Variable)
    assert v.requires_grad and v.is_leaf and not t.autograd.Variable(v).requires_grad
    assert t.autograd.Variable().shape == (0,)
    with pytest.raises(TypeError, match="has to be a tensor"):
        t.autograd.Variable([1, 2])


def test_a_linearized_function(t: Any) -> None:
    calls = []
    weights = t.tensor([0.5, -1.0, 2.0], dtype=t.float64)

    def function(tree: Any, y: Any) -> Any:
        calls.append(1)
        return {"s": (tree["a"] * weights).sin(), "p": tree["a"] * y}

    a, y = t.tensor([1.0, 2.0, 3.0], dtype=t.float64), t.tensor(2.0, dtype=t.float64)
    value, along = t.func.linearize(function, {"a": a}, y)
    made = len(calls)
    for scale in (1.0, 2.0, -3.0):
        u, v = t.tensor([scale, 0.0, 1.0], dtype=t.float64), t.tensor(scale, dtype=t.float64)
        want, tangents = t.func.jvp(function, ({"a": a}, y), ({"a": u}, v))
        got = along({"a": u}, v)
        for name in ("s", "p"):
            np.testing.assert_allclose(value[name].numpy(), want[name].numpy(), rtol=1e-12)
            np.testing.assert_allclose(got[name].numpy(), tangents[name].numpy(), rtol=1e-12)
    assert len(calls) == made + 3
    rows = t.func.vmap(t.func.linearize(lambda x: x * x, a)[1])(t.eye(3, dtype=t.float64))
    np.testing.assert_allclose(rows.numpy(), np.diag([2.0, 4.0, 6.0]))
    with pytest.raises(RuntimeError, match="shape"):
        t.func.linearize(t.sin, a)[1](t.ones(2, dtype=t.float64))
    with pytest.raises(RuntimeError, match="dtype"):
        t.func.linearize(t.sin, a)[1](t.ones(3))
    with pytest.raises(RuntimeError, match="primals"):
        t.func.linearize(t.sin, a)[1](a, a)


def test_a_linearized_function_has_derivatives() -> None:
    t = adjoint
    a, u = t.tensor([1.0, 2.0], dtype=t.float64), t.tensor([3.0, -1.0], dtype=t.float64)
    got = t.func.grad(lambda x: t.func.linearize(t.sin, x)[1](u).sum())(a)
    np.testing.assert_allclose(got.numpy(), -np.sin(a.numpy()) * u.numpy(), rtol=1e-12)
    along = t.func.linearize(t.sin, a)[1]
    got = t.func.grad(lambda u: (along(u) ** 2).sum())(u)
    np.testing.assert_allclose(got.numpy(), 2 * np.cos(a.numpy()) ** 2 * u.numpy(), rtol=1e-12)


def test_what_a_pullback_gives_is_connected_to_no_variables_of_its_own() -> None:
    t = adjoint
    a, u = t.tensor([1.0, 2.0], dtype=t.float64), t.tensor([3.0, -1.0], dtype=t.float64)
    for flush in (False, True):
        _, pull = t.func.vjp(t.sin, a)
        if flush:
            pull(u)[0].tolist()
        got = t.func.grad(lambda u: (pull(u)[0] ** 2).sum())(u)  # noqa: B023
        assert not got.requires_grad
        np.testing.assert_allclose(got.numpy(), 2 * np.cos(a.numpy()) ** 2 * u.numpy(), rtol=1e-12)
