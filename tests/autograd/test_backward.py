"""`backward` and `grad`: accumulation, freeing, order, hooks, and what happens around the ends of traces."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch


def leaf(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def scalar(value: float) -> Any:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


# --- accumulation and freeing ---------------------------------------------------------------------------------------


def test_gradients_accumulate_over_backwards() -> None:
    x = leaf(1, 2)
    (x * x).sum().backward()
    (3 * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    (x * x).sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_gradients_accumulate_in_the_same_tensor() -> None:
    x = leaf(1, 2)
    (x * x).sum().backward()
    held = x.grad
    (x * x).sum().backward()
    assert held is x.grad
    assert held.tolist() == [4.0, 8.0]
    x.grad.zero_()
    assert held.tolist() == [0.0, 0.0]


def test_second_backward_raises_and_names_the_line() -> None:
    x = leaf(1, 2)
    y = (x.exp() * x).sum()
    y.backward()
    first = x.grad.tolist()
    with pytest.raises(RuntimeError, match="backward through the graph a second time") as caught:
        y.backward()
    assert "test_backward.py" in str(caught.value)
    assert x.grad.tolist() == first, "a refused backward leaves gradients alone"


def test_retain_graph_allows_it() -> None:
    x = leaf(2.0)
    y = (x**3).sum()
    for k in range(1, 4):
        y.backward(retain_graph=True)
        assert x.grad.tolist() == [12.0 * k]
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_freed_part_shared_by_two_losses() -> None:
    x = leaf(2.0)
    shared = x.exp()
    a, b = (shared * 2).sum(), (shared * 3).sum()
    a.backward()
    with pytest.raises(RuntimeError, match="second time"):
        b.backward()


def test_linear_operations_keep_nothing_to_free() -> None:
    x = leaf(1, 2)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_backward_needs_a_scalar_or_a_cotangent() -> None:
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        (x * x).backward()
    (x * x).backward(torch.tensor([1.0, 10.0], dtype=torch.float64))
    assert x.grad.tolist() == [2.0, 40.0]
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        (x * x).backward(torch.ones(3, dtype=torch.float64))


def test_backward_without_history_raises() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(2).sum().backward()
    with torch.no_grad():
        y = (leaf(1.0) * 2).sum()
    with pytest.raises(RuntimeError, match="does not require grad"):
        y.backward()


def test_backward_to_chosen_inputs_only() -> None:
    x, y = leaf(1.0), leaf(2.0)
    (x * y).sum().backward(inputs=[x])
    assert x.grad.tolist() == [2.0]
    assert y.grad is None


def test_several_roots() -> None:
    x = leaf(1, 2)
    torch.autograd.backward([x.sum(), x * x], [None, torch.ones(2, dtype=torch.float64)])
    assert x.grad.tolist() == [3.0, 5.0]


def test_a_leaf_as_its_own_root() -> None:
    x = scalar(3.0)
    x.backward()
    assert x.grad.item() == 1.0


# --- grad --------------------------------------------------------------------------------------------------------------


def test_grad_leaves_grad_alone() -> None:
    x = leaf(1, 2)
    (g,) = torch.autograd.grad((x * x).sum(), x)
    assert g.tolist() == [2.0, 4.0]
    assert x.grad is None
    assert not g.requires_grad


def test_unused_inputs() -> None:
    x, y = leaf(1.0), leaf(2.0)
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad((x * 2).sum(), [x, y], retain_graph=True)
    g, none = torch.autograd.grad((x * 2).sum(), [x, y], allow_unused=True)
    assert none is None
    assert g.tolist() == [2.0]
    _, zero = torch.autograd.grad((x * 2).sum(), [x, y], materialize_grads=True)
    assert zero.tolist() == [0.0]
    with pytest.raises(RuntimeError, match="does not require grad"):
        torch.autograd.grad((x * 2).sum(), torch.ones(1))


def test_grad_of_intermediates() -> None:
    x = leaf(1, 2)
    y = x * x
    z = (y * y).sum()
    gy, gx = torch.autograd.grad(z, [y, x])
    assert gy.tolist() == [2.0, 8.0]
    assert gx.tolist() == [4.0, 32.0]


def test_the_same_input_twice() -> None:
    x = leaf(3.0)
    a, b = torch.autograd.grad((x * x).sum(), [x, x])
    assert a.tolist() == b.tolist() == [6.0]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_orders_of_differentiation(order: int) -> None:
    """d^n/dx^n of x^4 exp(x) by repeated grad, against Leibniz' rule."""
    x = scalar(0.7)
    y = x**4 * x.exp()
    for _ in range(order):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
    falling = [1, 4, 12, 24, 24]
    want = sum(
        math.comb(order, k) * falling[k] * 0.7 ** (4 - k) for k in range(order + 1)
    ) * math.exp(0.7)
    assert y.item() == pytest.approx(want, rel=1e-12)


def test_backward_of_a_gradient_penalty() -> None:
    x = leaf(1, 2)
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (y + (g * g).sum()).backward()
    want = [3 * v**2 + 2 * (3 * v**2) * 6 * v for v in (1, 2)]
    assert x.grad.tolist() == pytest.approx(want)


def test_create_graph_backward_gives_a_differentiable_grad() -> None:
    x = scalar(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (g2,) = torch.autograd.grad(x.grad, x)
    assert g2.item() == 12.0


def test_batched_cotangents() -> None:
    x = leaf(1, 2)
    (rows,) = torch.autograd.grad(
        x * x, x, torch.eye(2, dtype=torch.float64), is_grads_batched=True
    )
    assert rows.tolist() == [[2.0, 0.0], [0.0, 4.0]]


# --- across the ends of traces -----------------------------------------------------------------------------------------


def look(t: Any) -> None:
    """Something that makes the program run."""
    repr(t)


@pytest.mark.parametrize("where", range(8))
def test_reading_values_anywhere_changes_no_gradient(where: int) -> None:
    x, w = leaf(0.3, -0.8, 1.1), leaf(0.5, 2.0, -1.0)
    points: list[Any] = []

    def step(t: Any) -> Any:
        if where & (1 << len(points)):
            look(t)
        points.append(t)
        return t

    h = step((x * w).tanh())
    h = step(h @ torch.ones(3, 3, dtype=torch.float64))
    loss = step((h.softmax(0) * h).sum())
    loss.backward()
    got = [x.grad.numpy().copy(), w.grad.numpy().copy()]

    def plain(a: np.ndarray, b: np.ndarray) -> float:
        u = np.tanh(a * b).sum() * np.ones(3)
        e = np.exp(u - u.max())
        return float((e / e.sum() * u).sum())

    a, b = np.array([0.3, -0.8, 1.1]), np.array([0.5, 2.0, -1.0])
    for g, k in zip(got, (0, 1), strict=True):
        for i in range(3):
            ends = []
            for sign in (1, -1):
                args = [a.copy(), b.copy()]
                args[k][i] += sign * 1e-6
                ends.append(plain(*args))
            assert g[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-8)


def test_a_chain_over_many_traces() -> None:
    x = scalar(0.9)
    y = x
    want = 1.0
    value = 0.9
    for _ in range(12):
        want *= math.cos(value)
        value = math.sin(value)
        y = y.sin()
        assert y.item() == pytest.approx(value)
    y.backward()
    assert x.grad.item() == pytest.approx(want)


def test_second_order_over_traces() -> None:
    x = scalar(0.6)
    y = x.exp()
    look(y)
    z = y * x
    look(z)
    (g,) = torch.autograd.grad(z, x, create_graph=True)
    look(g)
    (h,) = torch.autograd.grad(g, x, create_graph=True)
    look(h)
    (third,) = torch.autograd.grad(h, x)
    e = math.exp(0.6)
    assert [g.item(), h.item(), third.item()] == pytest.approx([e * 1.6, e * 2.6, e * 3.6])


def test_backward_twice_with_reading_between() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x * x).sum()
    y.backward(retain_graph=True)
    look(x.grad)
    y.backward()
    assert x.grad.tolist() == [6.0, 24.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_leaf_updated_between_forward_and_backward() -> None:
    """The derivative is taken where the function was evaluated."""
    x = leaf(3.0)
    y = (x * x).sum()
    with torch.no_grad():
        x += 100
    y.backward()
    assert x.grad.tolist() == [6.0]
    assert x.tolist() == [103.0]


def test_training_loop_that_prints() -> None:
    w = leaf(0.0, 0.0)
    data = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
    target = torch.tensor([5.0, 1.0, 1.5], dtype=torch.float64)
    losses = []
    for _ in range(200):
        loss = ((data @ w - target) ** 2).mean()
        losses.append(float(loss))
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad.zero_()
    assert losses[-1] < 1e-9 < losses[0]
    assert w.tolist() == pytest.approx([1.0, 2.0], abs=1e-4)


def test_long_chain_needs_no_recursion() -> None:
    x = scalar(1.0)
    y = x
    for _ in range(3000):
        y = y * 1.0001 + 0.0001
    y.backward()
    assert x.grad.item() == pytest.approx(1.0001**3000)


# --- hooks ----------------------------------------------------------------------------------------------------------------


def test_hook_sees_and_replaces_the_gradient() -> None:
    x = leaf(1, 2)
    y = x * x
    seen = []
    y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert seen == [[1.0, 1.0]]
    assert x.grad.tolist() == [20.0, 40.0]


WRONG_HOOKS = [
    (lambda g: g[:2], RuntimeError, "size"),
    (lambda g: g.sum(), RuntimeError, "size"),
    (lambda g: g.reshape(3, 1), RuntimeError, "size"),
    (lambda g: g.double(), RuntimeError, "type"),
    (lambda g: 2.0, TypeError, "float"),
]


@pytest.mark.parametrize("leaf", [False, True])
@pytest.mark.parametrize(("hook", "error", "words"), WRONG_HOOKS)
def test_a_hook_keeps_shape_and_dtype(hook: Any, error: type, words: str, leaf: bool) -> None:
    """What follows reads as many numbers as the gradient had, so that another shape showed memory of others."""
    for _ in range(3):
        x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = x * 2
        (x if leaf else y).register_hook(hook)
        with pytest.raises(error, match=words):
            y.sin().sum().backward()
        assert x.grad is None


def test_hook_on_a_leaf_runs_once_on_the_whole_gradient() -> None:
    x = leaf(1.0)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).sum().backward()
    assert seen == [5.0]
    handle.remove()
    (x * 2).sum().backward()
    assert seen == [5.0]


@pytest.mark.parametrize("repeat", range(3))
def test_hooks_are_called_at_every_backward(repeat: int) -> None:
    seen = []
    for k in range(3):
        x = leaf(1.0 + k)
        y = x.exp()
        y.register_hook(lambda g: seen.append(g.item()))
        (y * 2).sum().backward()
    assert seen == [2.0, 2.0, 2.0]


def test_retain_grad() -> None:
    x = leaf(1, 2)
    y = x * x
    y.retain_grad()
    assert y.retains_grad
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3.0, 3.0]
    assert x.grad.tolist() == [6.0, 12.0]


def test_hook_needs_a_gradient() -> None:
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        torch.ones(2).register_hook(print)


# --- hooks that wait for the gradient in a leaf --------------------------------------------------------------------------


def test_a_hook_after_accumulation_sees_the_sum_and_steps_in_backward() -> None:
    x = leaf(1, 2)
    seen: list[Any] = []
    handle = x.register_post_accumulate_grad_hook(lambda t: seen.append((t is x, t.grad.tolist(), torch.is_grad_enabled())))
    x.register_hook(lambda g: g * 10)
    for _ in range(2):
        (x * 3 + x).sum().backward()
    assert seen == [(True, [40.0, 40.0], False), (True, [80.0, 80.0], False)]
    (x * x).sum().backward(create_graph=True)
    assert seen.pop()[2], "the mode is that of the derivatives"
    assert torch.autograd.grad((x * x).sum(), x)[0].tolist() == [20.0, 40.0]
    torch.autograd.grad((x * x).sum(), x)
    assert len(seen) == 2, "nothing was accumulated"
    handle.remove()
    (x * x).sum().backward()
    assert len(seen) == 2


@pytest.mark.parametrize("compiled", [False, True])
def test_optimizers_that_step_in_backward_train_as_after_it(compiled: bool) -> None:
    x, y = torch.linspace(-1, 1, 8).reshape(4, 2), torch.tensor([[1.0], [0.0], [2.0], [1.0]])

    def train(inside: bool) -> tuple[list[float], list[Any]]:
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
        parameters = list(net.parameters())
        whole = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        single = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in parameters}

        def step(p: Any) -> None:
            single[p].step()
            single[p].zero_grad()

        if inside:
            for p in parameters:
                p.register_post_accumulate_grad_hook(step)

        def iteration() -> Any:
            loss = ((net(x) - y) ** 2).mean()
            loss.backward()
            if not inside:
                whole.step()
                whole.zero_grad()
            return loss

        run = torch.compile(iteration) if compiled else iteration
        return [run().item() for _ in range(4)], [p.tolist() for p in parameters]

    assert train(True) == train(False)


def test_hooks_after_accumulation_refuse_what_they_cannot_serve() -> None:
    x = leaf(1.0)
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        torch.ones(2).register_post_accumulate_grad_hook(print)

    def wrong(t: Any) -> Any:
        return t.grad

    with x.register_post_accumulate_grad_hook(wrong), pytest.raises(RuntimeError, match="'wrong'.*returned Tensor"):
        (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0]


# --- modes --------------------------------------------------------------------------------------------------------------


def test_modes() -> None:
    x = leaf(1.0)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert not (x * 2).requires_grad
    with torch.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


@pytest.mark.parametrize(
    "decorator", [lambda: torch.no_grad(), lambda: torch.no_grad, lambda: torch.inference_mode()]
)
def test_modes_decorate(decorator: Callable) -> None:
    @decorator()
    def double(t: Any) -> Any:
        return t * 2

    assert not double(leaf(1.0)).requires_grad
    assert torch.is_grad_enabled()


def test_mode_is_restored_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), torch.no_grad():
        _ = 1 / 0
    assert torch.is_grad_enabled()


def test_no_grad_part_is_a_constant() -> None:
    x = leaf(2.0)
    with torch.no_grad():
        c = x * x
    (x * c).sum().backward()
    assert x.grad.tolist() == [4.0]


def test_detach_is_a_constant() -> None:
    x = leaf(2.0)
    y = x * x
    (y.detach() * x).sum().backward()
    assert x.grad.tolist() == [4.0]
    assert y.requires_grad
    assert not y.detach().requires_grad


def test_requires_grad_midway() -> None:
    x = torch.tensor([2.0], dtype=torch.float64)
    y = x * 3
    y.requires_grad_()
    assert y.is_leaf
    (y * y).sum().backward()
    assert y.grad.tolist() == [12.0]
    assert x.grad is None
    with pytest.raises(RuntimeError, match="floating point"):
        torch.tensor([1]).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf variables"):
        (y * 2).requires_grad_(False)


def test_integers_carry_no_gradient() -> None:
    x = leaf(1.5, 2.5)
    assert not x.long().requires_grad
    assert not (x > 2).requires_grad
    assert not x.argmax().requires_grad
    assert not x.floor().requires_grad or torch.autograd.grad(x.floor().sum(), x)[0].tolist() == [
        0.0,
        0.0,
    ]


@pytest.mark.parametrize("ended", [False, True])
def test_a_gradient_that_is_a_part_of_another_tensor_is_added_to_there(ended: bool) -> None:
    """As where all gradients lie in one flat tensor; parts may overlap."""
    flat = torch.zeros(4)
    p, q, r = (torch.ones(2, requires_grad=True) for _ in range(3))
    p.grad, q.grad = flat[0:2], flat[1:3]
    for k in range(1, 6):
        loss = (p * 3 + q * 2 + r).sum()
        if ended:
            loss.item()
        loss.backward()
        assert flat.tolist() == [3.0 * k, 5.0 * k, 2.0 * k, 0.0]
        assert p.grad.tolist() == [3.0 * k, 5.0 * k]
        assert q.grad.tolist() == [5.0 * k, 2.0 * k]
        assert r.grad.tolist() == [1.0 * k] * 2


@pytest.mark.parametrize("way", ["plain", "hook", "chosen", "past", "leaf"])
def test_the_callers_cotangent_stays_the_callers(way: str) -> None:
    """Where a rule passes it on unchanged, `.grad` must not become the tensor that was given."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    g = torch.tensor([3.0, 5.0])
    if way == "hook":
        w.register_hook(lambda g: None)
    for k in range(1, 4):
        y = w if way == "leaf" else w + 1.0
        if way == "past":
            y.tolist()
        y.backward(g, inputs=[w] if way == "chosen" else None)
        assert w.grad is not g and w.grad.tolist() == [3.0 * k, 5.0 * k] and g.tolist() == [3.0, 5.0]
    w.grad.zero_()
    assert g.tolist() == [3.0, 5.0]
    g.zero_()
    (w + 1.0).backward(torch.tensor([1.0, 1.0]))
    assert w.grad.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_the_same_program_with_and_without_retaining(first: bool, read: bool) -> None:
    """What one run does with its graph says nothing of the next, whose steps are the same."""
    for k in range(6):
        keep = (k % 2 == 0) == first
        x = torch.tensor([2.0, 3.0], requires_grad=True)
        y = (x * x).sum()
        if read:
            y.item()
        y.backward(retain_graph=keep)
        assert x.grad.tolist() == [4.0, 6.0]
        if keep:
            y.backward()
            assert x.grad.tolist() == [8.0, 12.0]
        with pytest.raises(RuntimeError, match="a second time"):
            y.backward()
        z = (x * x).sum()
        torch.autograd.grad(z, x, retain_graph=keep)
        if keep:
            torch.autograd.grad(z, x)
        with pytest.raises(RuntimeError, match="a second time"):
            torch.autograd.grad(z, x)


@pytest.mark.parametrize("operation", [lambda w: w[::1], lambda w: w * 3, lambda w: (w * w).sum()])
@pytest.mark.parametrize("read", [False, True])
def test_a_leaf_that_stopped_requiring_a_gradient_gets_none(operation, read: bool) -> None:
    for _ in range(3):
        w = torch.tensor([2.0], requires_grad=True)
        other = torch.tensor([1.0], requires_grad=True)
        v = operation(w) * other
        if read:
            v.tolist()
        w.requires_grad_(False)
        v.sum().backward()
        assert w.grad is None and other.grad is not None
    v = operation(w.requires_grad_())
    w.requires_grad_(False).requires_grad_()
    v.sum().backward()
    assert w.grad is not None


def test_what_a_grad_can_be() -> None:
    x = torch.ones(2, requires_grad=True)
    for wrong in (1.0, [1.0, 1.0], np.ones(2)):
        with pytest.raises(TypeError, match="assigned grad expected to be a Tensor or None"):
            x.grad = wrong
    for unlike in (x, torch.ones(1), torch.ones(2, 1), torch.ones(2, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="assign"):
            x.grad = unlike
    assert x.grad is None
    g = torch.ones(2)
    x.grad = g
    (x * 2).sum().backward()
    assert x.grad is g
    assert g.tolist() == [3, 3]
    del x.grad
    assert x.grad is None


def test_only_inputs() -> None:
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    out = (x * y).sum()
    assert torch.autograd.grad(out, x, None, True, False, True, True)[0].tolist() == [3.0, 4.0]  # type: ignore[union-attr]
    (g,) = torch.autograd.grad(outputs=out, inputs=x, create_graph=True, retain_graph=True, only_inputs=True)
    assert g.tolist() == [3.0, 4.0] and g.requires_grad  # type: ignore[union-attr]
    with pytest.warns(FutureWarning, match="only_inputs"):
        torch.autograd.grad(out, x, only_inputs=False)
    assert y.grad is None
    batched = torch.autograd.grad(x * y, (x, leaf(0.0)), torch.eye(2, dtype=torch.float64), is_grads_batched=True, allow_unused=True)
    assert batched[0].tolist() == [[3.0, 0.0], [0.0, 4.0]]  # type: ignore[union-attr]


def test_functional_by_name() -> None:
    F, x = torch.autograd.functional, leaf(1.0, 2.0)
    assert F.jacobian(func=torch.exp, inputs=x).diagonal().tolist() == pytest.approx([math.e, math.e**2])
    for mode in ("reverse-mode", "forward-mode"):
        second = F.hessian(func=lambda v: (v**3).prod(), inputs=x, vectorize=True, outer_jacobian_strategy=mode)
        assert second.tolist() == [[48.0, 36.0], [36.0, 12.0]]


def test_variable() -> None:
    x = torch.tensor([1.0, 2.0])
    v = torch.autograd.Variable(x, requires_grad=True)
    (v**2).sum().backward()
    assert v.grad is not None and v.grad.tolist() == [2.0, 4.0] and not x.requires_grad
    assert isinstance(x, torch.autograd.Variable) and not isinstance(1.0, torch.autograd.Variable)
    w = torch.autograd.Variable(v * 2)
    assert not w.requires_grad and w.grad_fn is None
    x[0] = 5
    assert v.tolist() == [5.0, 2.0]
    with pytest.raises(TypeError, match="has to be a tensor"):
        torch.autograd.Variable(3.0)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="floating point"):
        torch.autograd.Variable(torch.arange(2), requires_grad=True)
    with pytest.warns(UserWarning, match="volatile"):
        torch.autograd.Variable(x, volatile=True)


def test_a_factor_of_zero_gives_zeros() -> None:
    """A gradient, as in PyTorch, and not none."""
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=True)
    y = torch.tensor([[0.25, 0.75], [0.5, 0.5]], requires_grad=True)
    for function in (
        lambda: torch.lerp(x, y, 0.0),
        lambda: torch.lerp(y, x, 1.0),
        lambda: torch.nn.functional.cross_entropy(x, y, label_smoothing=1.0),
    ):
        gx, gy = torch.autograd.grad(function().sum(), (x, y))
        assert (gy == 0).all() and (gx != 0).any()
