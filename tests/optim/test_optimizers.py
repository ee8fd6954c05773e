"""Optimizers: against their formulas in NumPy, against PyTorch over many steps, and on what they are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint
import adjoint as torch
from adjoint import optim
from adjoint.runtime import jit
from adjoint.trace.state import counters

# Name and hyper-parameters; every row is compared with PyTorch over 12 steps in float64 and in float32.
ROWS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.02}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.1}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.2, "amsgrad": True}),
    ("NAdam", {"lr": 0.1}),
    ("NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.1}),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.9), "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("Adagrad", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adadelta", {"lr": 1.0, "rho": 0.8, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05}),
    ("RMSprop", {"lr": 0.05, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.05, "centered": True, "alpha": 0.9}),
    ("Rprop", {"lr": 0.05}),
    ("ASGD", {"lr": 0.1, "t0": 4, "lambd": 0.1}),
    ("ASGD", {"lr": 0.1, "lambd": 0.02, "alpha": 0.5, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {"lr": 0.05, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.2), "maximize": True}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(ROWS)]


def starts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((3, 2)), rng.standard_normal(4), rng.standard_normal(())]


def gradients(step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 + step)
    return [rng.standard_normal((3, 2)), rng.standard_normal(4), rng.standard_normal(())]


def tensors(T: Any, arrays: list[np.ndarray], dtype: str = "float64") -> list[Any]:
    return [T.tensor(a.tolist(), dtype=getattr(T, dtype)) for a in arrays]


def trajectory(
    T: Any, name: str, kwargs: Any, dtype: str, steps: int = 12
) -> Iterator[list[np.ndarray]]:
    params = [p.requires_grad_(True) for p in tensors(T, starts(), dtype)]
    opt = getattr(T.optim, name)(params, **kwargs)
    for step in range(steps):
        for i, (p, g) in enumerate(zip(params, tensors(T, gradients(step), dtype), strict=True)):
            # The second parameter joins late, so that its counters differ from the others'.
            p.grad = g if i != 1 or step >= 3 else None
        opt.step()
        yield [p.detach().numpy().copy() for p in params]


@pytest.mark.parametrize("name, kwargs", ROWS, ids=IDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_same_as_pytorch(name: str, kwargs: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tolerance = 1e-9 if dtype == "float64" else 2e-5
    if name in ("NAdam", "ASGD"):  # PyTorch keeps the product of its momenta, and the rate of the next step, in float32
        tolerance = max(tolerance, 1e-6)
    pairs = zip(
        trajectory(adjoint, name, kwargs, dtype),
        trajectory(torch, name, kwargs, dtype),
        strict=True,
    )
    for got, want in pairs:
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def complex_trajectory(T: Any, name: str, kwargs: Any, dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)

    def draw() -> Any:
        return T.tensor((rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3))).tolist(), dtype=getattr(T, dtype))

    z, x = draw().requires_grad_(), draw().real.clone().requires_grad_()
    opt = getattr(T.optim, name)([z, x], **kwargs)
    for _ in range(8):
        z.grad, x.grad = draw(), draw().real.clone()
        opt.step()
    return [z.detach().numpy(), x.detach().numpy()]


@pytest.mark.parametrize("name, kwargs", ROWS, ids=IDS)
@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_complex_parameters_are_pairs_of_reals(name: str, kwargs: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tolerance = 1e-6 if dtype == "complex128" else 2e-5
    got, want = (complex_trajectory(T, name, kwargs, dtype) for T in (adjoint, torch))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_lbfgs_of_a_complex_parameter() -> None:
    goal = adjoint.tensor([1 + 2j, -3j])
    for search in (None, "strong_wolfe"):
        z, x = adjoint.zeros(2, dtype=adjoint.complex64, requires_grad=True), leaf(1.0)
        opt = optim.LBFGS([z, x], lr=1 if search else 0.4, line_search_fn=search)

        def closure(z: Any = z, x: Any = x, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = ((z - goal).abs() ** 2).sum() + (x * x).sum()
            loss.backward()
            return loss

        opt.step(closure)
        np.testing.assert_allclose(z.detach().numpy(), goal.numpy(), atol=1e-3)
        assert abs(x.item()) < 1e-3


# ---- formulas in NumPy, for one parameter: p, g, state dict, step number -> p --------------------


def np_sgd(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["b"] = g if t == 1 else 0.9 * s["b"] + g
    return p - 0.1 * s["b"]


def np_adam(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    return p - 0.1 * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def np_adamw(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    return np_adam(p * (1 - 0.1 * 0.01), g, s, t)


def np_adagrad(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["s"] = s.get("s", 0) + g * g
    return p - 0.1 * g / (np.sqrt(s["s"]) + 1e-10)


def np_rmsprop(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g * g
    return p - 0.1 * g / (np.sqrt(s["v"]) + 1e-8)


def np_adadelta(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    d = np.sqrt(s.get("u", 0) + 1e-6) / np.sqrt(s["v"] + 1e-6) * g
    s["u"] = 0.9 * s.get("u", 0) + 0.1 * d * d
    return p - 0.1 * d


def np_adamax(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = np.maximum(0.999 * s.get("u", 0), np.abs(g) + 1e-8)
    return p - 0.1 / (1 - 0.9**t) * s["m"] / s["u"]


def np_nesterov(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    g = g + 0.01 * p
    s["b"] = g if t == 1 else 0.8 * s["b"] + g
    return p - 0.1 * (g + 0.8 * s["b"])


def np_dampened(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["b"] = -g if t == 1 else 0.8 * s["b"] - 0.7 * g
    return p - 0.1 * s["b"]


def np_nadam(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    mu, after = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
    s["product"] = s.get("product", 1) * mu
    m = after * s["m"] / (1 - s["product"] * after) + (1 - mu) * g / (1 - s["product"])
    return p - 0.1 * m / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)


def np_radam(p: Any, g: Any, s: dict[str, Any], t: int) -> Any:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.7 * s.get("v", 0) + 0.3 * g * g
    most = 2 / (1 - 0.7) - 1
    length = most - 2 * t * 0.7**t / (1 - 0.7**t)
    m = s["m"] / (1 - 0.9**t)
    if length <= 5:
        return p - 0.1 * m
    share = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return p - 0.1 * m * share * np.sqrt(1 - 0.7**t) / (np.sqrt(s["v"]) + 1e-8)


FORMULAS: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.9}, np_sgd),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, np_nesterov),
    ("SGD", {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "maximize": True}, np_dampened),
    ("NAdam", {"lr": 0.1}, np_nadam),
    ("RAdam", {"lr": 0.1, "betas": (0.9, 0.7)}, np_radam),
    ("Adam", {"lr": 0.1}, np_adam),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.01}, np_adamw),
    ("Adagrad", {"lr": 0.1}, np_adagrad),
    ("RMSprop", {"lr": 0.1}, np_rmsprop),
    ("Adadelta", {"lr": 0.1}, np_adadelta),
    ("Adamax", {"lr": 0.1}, np_adamax),
]


@pytest.mark.parametrize("name, kwargs, formula", FORMULAS, ids=[row[2].__name__ for row in FORMULAS])
def test_same_as_formula(name: str, kwargs: dict[str, Any], formula: Callable[..., Any]) -> None:
    p, state = starts()[0], {}
    for step, got in enumerate(trajectory(adjoint, name, kwargs, "float64")):
        p = formula(p, gradients(step)[0], state, step + 1)
        np.testing.assert_allclose(got[0], p, rtol=1e-9)


# ---- what they are for ---------------------------------------------------------------------------

LEARNING = [
    (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    (optim.Adam, {"lr": 0.1}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.0}),
    (optim.NAdam, {"lr": 0.1}),
    (optim.RAdam, {"lr": 0.1}),
    (optim.Adamax, {"lr": 0.1}),
    (optim.Adagrad, {"lr": 0.5}),
    (optim.Adadelta, {"lr": 20.0}),
    (optim.RMSprop, {"lr": 0.02}),
    (optim.Rprop, {"lr": 0.1}),
    (optim.ASGD, {"lr": 0.1}),
]


@pytest.mark.parametrize("kind, kwargs", LEARNING, ids=[kind.__name__ for kind, _ in LEARNING])
def test_finds_the_minimum(kind: Any, kwargs: dict[str, Any]) -> None:
    w = adjoint.tensor([3.0, -2.0], requires_grad=True)
    target, curvature = adjoint.tensor([1.0, 0.5]), adjoint.tensor([1.0, 4.0])
    opt = kind([w], **kwargs)
    for _ in range(300):
        opt.zero_grad()
        ((w - target) ** 2 * curvature).sum().backward()
        opt.step()
    assert (w - target).abs().max().item() < 0.03


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_on_rosenbrock(search: str | None) -> None:
    w = adjoint.tensor([-1.2, 1.0], dtype=adjoint.float64, requires_grad=True)
    rate = 1.0 if search else 0.1
    opt = optim.LBFGS([w], lr=rate, max_iter=20, history_size=10, tolerance_change=1e-15, line_search_fn=search)

    def closure() -> Any:
        opt.zero_grad()
        loss = (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
        loss.backward()
        return loss

    first = opt.step(closure).item()
    for _ in range(7 if search else 30):
        opt.step(closure)
    assert first == pytest.approx(24.2)
    assert closure().item() < (1e-12 if search else 1e-4)
    state = opt.state[w]
    assert state["func_evals"] <= (8 if search else 31) * 46


def test_lbfgs_same_as_pytorch() -> None:
    torch = pytest.importorskip("torch")
    matrix = np.diag([1.0, 4.0, 9.0]) + 0.3
    found = []
    for T in (adjoint, torch):
        w = T.tensor([3.0, -2.0, 1.0], dtype=T.float64, requires_grad=True)
        A = T.tensor(matrix.tolist(), dtype=T.float64)
        opt = T.optim.LBFGS([w], lr=0.3, max_iter=5, history_size=3)

        def closure(w: Any = w, A: Any = A, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = 0.5 * (w @ A @ w) + w.sum()
            loss.backward()
            return loss

        for _ in range(2):
            opt.step(closure)
        found.append(w.detach().numpy().copy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-7)


def searched(T: Any, **options: Any) -> tuple[list[float], Any]:
    """The losses that two steps with a line search evaluate, and where they end."""
    w = T.tensor([3.0, -2.0, 1.5], dtype=T.float64, requires_grad=True)
    opt = T.optim.LBFGS([w], lr=0.05, line_search_fn="strong_wolfe", **options)
    losses = []

    def closure() -> Any:
        opt.zero_grad()
        loss = ((w - 0.3) ** 2).sum() + 0.1 * (w**4).sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(2):
        opt.step(closure)
    return losses, w.detach().numpy().copy()


@pytest.mark.parametrize("options", [{"max_iter": 1}, {"max_iter": 2}, {"max_iter": 5}, {"max_iter": 20}, {"max_iter": 8, "max_eval": 3}])
def test_a_line_search_keeps_to_the_number_of_evaluations(options: dict[str, int]) -> None:
    losses, end = searched(adjoint, **options)
    most = options.get("max_eval", options["max_iter"] * 5 // 4)
    assert len(losses) <= 2 * (most + 1)
    assert abs(end - 0.3).max() < 2.7
    expected, there = searched(pytest.importorskip("torch"), **options)
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    np.testing.assert_allclose(end, there, rtol=1e-9)


def test_lbfgs_errors() -> None:
    w = adjoint.zeros(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="closure"):
        optim.LBFGS([w]).step()
    with pytest.raises(RuntimeError, match="strong_wolfe"):
        optim.LBFGS([w], line_search_fn="armijo")
    with pytest.raises(ValueError, match="per-parameter"):
        optim.LBFGS([{"params": [w]}, {"params": [adjoint.zeros(1, requires_grad=True)]}])


# ---- groups, state, hooks ------------------------------------------------------------------------


def leaf(*values: float) -> Any:
    return adjoint.tensor(list(values), requires_grad=True)


def test_groups_have_their_own_rates() -> None:
    a, b, c = leaf(1.0), leaf(1.0), leaf(1.0)
    opt = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5}], lr=0.1)
    opt.add_param_group({"params": [c], "lr": 0.25})
    (a + b + c).sum().backward()
    opt.step()
    assert [round(t.item(), 4) for t in (a, b, c)] == [0.9, 0.5, 0.75]
    opt.param_groups[0]["lr"] = 0.2
    opt.step()
    assert round(a.item(), 4) == 0.7
    assert [g["lr"] for g in opt.param_groups] == [0.2, 0.5, 0.25]


def test_named_parameters_are_accepted() -> None:
    net = adjoint.nn.Linear(2, 1)
    opt = optim.Adam(net.named_parameters())
    assert opt.param_groups[0]["param_names"] == ["weight", "bias"]
    assert opt.param_groups[0]["params"][0] is net.weight


@pytest.mark.parametrize("name, kwargs", ROWS, ids=IDS)
def test_state_dict_continues_the_trajectory(name: str, kwargs: dict[str, Any]) -> None:
    straight = [p.copy() for p in list(trajectory(adjoint, name, kwargs, "float64", 8))[-1]]
    params = [p.requires_grad_(True) for p in tensors(adjoint, starts())]
    opt = getattr(optim, name)(params, **kwargs)
    for step in range(8):
        if step == 5:
            saved = opt.state_dict()
            params = [p.detach().clone().requires_grad_(True) for p in params]
            opt = getattr(optim, name)(params, lr=123.0)
            opt.load_state_dict(saved)
        for i, (p, g) in enumerate(zip(params, tensors(adjoint, gradients(step)), strict=True)):
            p.grad = g if i != 1 or step >= 3 else None
        opt.step()
    for p, want in zip(params, straight, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), want, rtol=1e-12)


def test_adagrad_has_its_state_from_the_start() -> None:
    w = leaf(1.0)
    opt = optim.Adagrad([w], initial_accumulator_value=0.5)
    (state,) = opt.state_dict()["state"].values()
    assert state["step"] == 0 and np.asarray(state["sum"]).tolist() == [0.5] * w.numel()
    opt.step()  # without a gradient nothing moves
    assert opt.state_dict()["state"][0]["step"] == 0


def test_state_dict_form() -> None:
    a, b = leaf(1.0, 2.0), leaf(3.0)
    opt = optim.Adam([{"params": [a]}, {"params": [b], "lr": 0.5}])
    assert opt.state_dict()["state"] == {}
    b.grad = adjoint.ones(1)
    opt.step()
    state = opt.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0], [1]]
    assert state["param_groups"][1]["lr"] == 0.5 and list(state["state"]) == [1]
    assert state["state"][1]["step"] == 1 and sorted(state["state"][1]) == [
        "exp_avg",
        "exp_avg_sq",
        "step",
    ]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optim.Adam([a, b]).load_state_dict(state)
    with pytest.raises(ValueError, match="doesn't match the size"):
        optim.Adam([{"params": [a, b]}, {"params": [leaf(1.0)]}]).load_state_dict(state)
    # Loaded tensors are copies in the dtype of the parameter.
    twin = adjoint.tensor([3.0], dtype=adjoint.float64, requires_grad=True)
    other = optim.Adam([{"params": [leaf(1.0)]}, {"params": [twin]}])
    other.load_state_dict(state)
    assert other.state[twin]["exp_avg"].dtype == adjoint.float64


def test_zero_grad() -> None:
    a = leaf(1.0)
    opt = optim.SGD([a], lr=0.1)
    a.sum().backward()
    opt.zero_grad(set_to_none=False)
    assert a.grad.item() == 0
    opt.zero_grad()
    assert a.grad is None


def test_closure_runs_with_gradients_and_its_value_is_returned() -> None:
    a = leaf(2.0)
    opt = optim.SGD([a], lr=0.25)

    def closure() -> Any:
        opt.zero_grad()
        loss = (a * a).sum()
        loss.backward()
        return loss

    with adjoint.no_grad():
        assert opt.step(closure).item() == 4
    assert a.item() == 1


def test_users_own_optimizer() -> None:
    class Sign(optim.Optimizer):
        def __init__(self, params: Any, lr: float) -> None:
            super().__init__(params, {"lr": lr})

        @adjoint.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    state["steps"] = state.get("steps", 0) + 1
                    p.sub_(adjoint.sign(p.grad) * group["lr"])

    a = leaf(1.0, -1.0)
    opt = Sign([a], 0.5)
    (a * a).sum().backward()
    opt.step()
    assert a.tolist() == [0.5, -0.5] and opt.state[a]["steps"] == 1
    with pytest.raises(NotImplementedError):
        optim.Optimizer([a], {}).step()


def test_step_hooks() -> None:
    a = leaf(1.0)
    opt = optim.SGD([a], lr=1.0)
    seen: list[Any] = []
    pre = opt.register_step_pre_hook(lambda o, args, kwargs: seen.append(("pre", a.item())))
    opt.register_step_post_hook(lambda o, args, kwargs: seen.append(("post", a.item())))
    a.grad = adjoint.ones(1)
    opt.step()
    pre.remove()
    opt.step()
    assert seen == [("pre", 1.0), ("post", 0.0), ("post", -1.0)]


def test_printed_form() -> None:
    assert repr(optim.SGD([leaf(1.0)], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n    fused: None\n"
        "    lr: 0.1\n    maximize: False\n    momentum: 0\n    nesterov: False\n    weight_decay: 0\n)"
    )


ERRORS = [
    (lambda: optim.SGD([]), ValueError, "empty parameter list"),
    (lambda: optim.SGD(leaf(1.0)), TypeError, "iterable of Tensors or dicts"),
    (lambda: optim.SGD([1.0]), TypeError, "can only optimize Tensors"),
    (lambda: optim.SGD([leaf(1.0) * 2]), ValueError, "non-leaf"),
    (lambda: optim.SGD([{"params": {leaf(1.0)}}]), TypeError, "ordered collections"),
    (lambda: optim.SGD([leaf(1.0)], lr=-1), ValueError, "Invalid learning rate: -1"),
    (lambda: optim.SGD([leaf(1.0)], nesterov=True), ValueError, "Nesterov"),
    (
        lambda: optim.Adam([leaf(1.0)], betas=(1.0, 0.9)),
        ValueError,
        "beta parameter at index 0: 1.0",
    ),
    (lambda: optim.Adam([leaf(1.0)], eps=-1), ValueError, "epsilon"),
    (lambda: optim.Adam([leaf(1.0)], differentiable=True), NotImplementedError, "differentiable"),
    (lambda: optim.ASGD([leaf(1.0)], lr=-0.1), ValueError, "Invalid learning rate: -0.1"),
    (lambda: optim.Rprop([leaf(1.0)], etas=(2.0, 3.0)), ValueError, "eta values"),
    (lambda: optim.Adadelta([leaf(1.0)], rho=2.0), ValueError, "rho"),
]


@pytest.mark.parametrize("call, kind, message", ERRORS)
def test_errors(call: Callable[[], Any], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_parameters_in_two_groups_are_refused() -> None:
    a = leaf(1.0)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([{"params": [a]}, {"params": [a]}], lr=0.1)
    with pytest.raises(ValueError, match="duplicate"):
        optim.SGD([a, a], lr=0.1)


FADING: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1, "momentum": 0.5}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.4)}),
    ("AdamW", {"lr": 0.1, "betas": (0.5, 0.4), "amsgrad": True}),
    ("NAdam", {"lr": 0.1, "betas": (0.5, 0.4)}),
    ("RAdam", {"lr": 0.1, "betas": (0.5, 0.4)}),
    ("Adamax", {"lr": 0.1, "betas": (0.5, 0.4)}),
    ("Adadelta", {"lr": 0.1, "rho": 0.4}),
    ("RMSprop", {"lr": 0.1, "alpha": 0.4, "momentum": 0.5, "centered": True}),
]


@pytest.mark.parametrize(("name", "kwargs"), FADING, ids=[name for name, _ in FADING])
def test_averages_of_zeros_become_zero(name: str, kwargs: dict[str, Any]) -> None:
    """What processors are slow with, denormal numbers, is never kept: once the gradient is zero, averages end there."""
    w = adjoint.tensor([1.0, -2.0, 3.0], requires_grad=True)
    opt = getattr(optim, name)([w], **kwargs)
    tiny = np.finfo(np.float32).tiny
    for step in range(170):
        w.grad = adjoint.tensor([1e-3, -1.0, 30.0]) if step == 0 else adjoint.zeros(3)
        opt.step()
        if step % 10 == 9:
            kept = [v.numpy() for v in opt.state[w].values() if isinstance(v, adjoint.Tensor)]
            assert kept and not any(((np.abs(k) > 0) & (np.abs(k) < tiny)).any() for k in kept)
    fading = [v.numpy() for n, v in opt.state[w].items() if n in ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg")]
    assert fading and not any(k.any() for k in fading)
    assert np.isfinite(w.detach().numpy()).all()


@pytest.mark.parametrize(("name", "kwargs"), [("Adam", {"betas": (0.5, 0.6)}), ("RMSprop", {"alpha": 0.6})])
def test_averages_that_divide_stay(name: str, kwargs: dict[str, Any]) -> None:
    """Without an eps the root of an average is all there is to divide by, and keeps the last it had."""
    w = adjoint.tensor([1.0, -2.0], requires_grad=True)
    opt = getattr(optim, name)([w], lr=0.1, eps=0.0, **kwargs)
    for step in range(240):
        w.grad = adjoint.full((2,), float(step == 0))
        opt.step()
    assert np.isfinite(w.detach().numpy()).all()


def test_a_gradient_of_another_shape_is_refused() -> None:
    """One that could be broadcast would train something else; it can be there where the data have changed since."""
    w = adjoint.ones(3, requires_grad=True)
    for opt in (optim.SGD([w], 0.1), optim.Adam([w], 0.1)):
        for shape in ((1,), (), (2, 3)):
            w.data = w.grad = adjoint.ones(shape)
            w.data = adjoint.ones(3)
            with pytest.raises(RuntimeError, match=r"shape \[3\] has a .grad of shape"):
                opt.step()
            assert w.tolist() == [1, 1, 1]
    w.grad = adjoint.ones(3)
    optim.SGD([w], 0.5).step()
    assert w.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("read", [True, False])
def test_the_second_step_compiles_nothing(kind: str, read: bool) -> None:
    """The first one's program does not begin with how parameters and data were made."""
    if torch.is_eager() or not jit.available():
        pytest.skip("of compiled steps")
    model = torch.nn.Sequential(torch.nn.Linear(7, 13), torch.nn.Tanh(), torch.nn.Linear(13, 2))
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.1)
    x, y = torch.randn(11, 7), torch.randn(11, 2)

    def step() -> None:
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        if read:
            loss.item()
        else:
            model[0].weight.sum().item()

    step()
    before = counters["programs"]
    step()
    step()
    assert counters["programs"] == before


def test_a_forward_pass_before_zero_grad_stays_with_its_backward() -> None:
    if torch.is_eager() or not jit.available():
        pytest.skip("of compiled steps")
    model = torch.nn.Linear(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = model(torch.randn(4, 5)).square().sum()
    flushes = counters["flushes"]
    optimizer.zero_grad()
    assert counters["flushes"] == flushes
    loss.backward()
    assert model.weight.grad is not None


def test_the_update_of_many_parameters_is_not_taken_for_a_loop() -> None:
    """Steps of deep models are cut where that keeps them whole; the second is not cut elsewhere."""
    if torch.is_eager() or not jit.available():
        pytest.skip("of compiled steps")
    params = [torch.nn.Parameter(torch.ones(3)) for _ in range(300)]
    optimizer = torch.optim.Adam(params, lr=0.1)

    def step() -> int:
        before = counters["programs"]
        optimizer.zero_grad()
        torch.stack(params).square().sum().backward()
        optimizer.step()
        params[-1].sum().item()
        return counters["programs"] - before

    assert step() <= 2
    assert step() == 0
    for p in params:
        np.testing.assert_array_equal(p.detach().numpy(), params[0].detach().numpy())


def test_only_the_first_zero_grad_computes_what_is_pending() -> None:
    """Also where an optimizer of one's own does not count its steps."""
    if torch.is_eager() or not jit.available():
        pytest.skip("of compiled steps")

    class Own(torch.optim.Optimizer):
        def step(self, closure: Any = None) -> None:
            pass

    optimizer = Own([torch.nn.Parameter(torch.ones(3))], {})
    pending = [torch.ones(3) * 2]
    before = counters["flushes"]
    optimizer.zero_grad()
    assert counters["flushes"] == before + 1
    pending.append(torch.ones(3) * 3)
    optimizer.zero_grad()
    assert counters["flushes"] == before + 1
    assert pending[1].tolist() == [3, 3, 3]
