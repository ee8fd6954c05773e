"""Nothing that a remembered step reads may be stale.

Every case is a small program around one thing besides the tensors' values that an operation depends on: a mode, a dtype,
a seed, a hyper-parameter, a flag of a module, a hook, the identity of a parameter. The thing is changed between calls
that record the same operations; the compiled runs must give what reference mode gives, in every order of settings, with
all paths known from earlier rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
import adjoint.nn.functional as F
from adjoint import nn

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
ORDER = (0, 1, 0, 2, 1, 1, 2, 0)  # settings in the order in which they are tried, twice


def listed(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype)
        return kind, tuple(value.shape), value.requires_grad, np.array(value.detach().tolist())
    if isinstance(value, (list, tuple)):
        return [listed(v) for v in value]
    return value


def same(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
    return a == b


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, int], Any]]] = {}


def case(make: Callable[[], Any]) -> Callable[[Callable], Callable]:
    """Enter a case: `make()` gives its state, the function runs it with setting 0, 1 or 2."""

    def enter(run: Callable[[Any, int], Any]) -> Callable:
        CASES[run.__name__] = (make, run)
        return run

    return enter


@case(lambda: torch.tensor(X))
def default_dtype(x: Any, k: int) -> Any:
    torch.set_default_dtype((torch.float32, torch.float64, torch.float32)[k])
    try:
        ones = torch.ones(3)
        return ones / 3, torch.tensor([1, 2]) / 2, torch.arange(0.0, 1.0, 0.25), x.long().float() * 0.5, torch.tensor(0.5)
    finally:
        torch.set_default_dtype(torch.float32)


@case(lambda: torch.tensor(X, requires_grad=True))
def gradient_mode(x: Any, k: int) -> Any:
    with torch.set_grad_enabled(k != 1):
        y = F.softmax(x * 2, 1)
        z = y.sum()
    return y, z, (torch.autograd.grad((x * y.detach() * 3).sum(), x)[0],)


@case(lambda: (nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5)), torch.tensor(X)))
def training_flag(state: Any, k: int) -> Any:
    model, x = state
    torch.manual_seed(3)
    model.train(k != 1)
    if k == 2:
        model[2].eval()
    with torch.no_grad():
        for n, p in enumerate(model.parameters()):
            p.copy_(torch.full(p.shape, 0.1 * (n + 1)))
        model[1].reset_running_stats()
    return model(x), model[1].running_mean


@case(lambda: torch.tensor(X))
def attributes_of_calls(x: Any, k: int) -> Any:
    return (
        F.layer_norm(x, (6,), eps=(1e-5, 1e-1, 1.0)[k]),
        F.leaky_relu(x, (0.01, 0.2, 0.5)[k]),
        F.softmax(x, dim=(0, 1, -1)[k]),
        F.gelu(x, approximate=("none", "tanh", "none")[k]),
        F.mse_loss(x, x * 2, reduction=("mean", "sum", "none")[k]),
        F.cross_entropy(x, torch.tensor([0, 1, 2, 3]), label_smoothing=(0.0, 0.1, 0.3)[k], ignore_index=(-100, 1, 2)[k]),
        x.clamp(-0.5, (0.1, 0.2, 0.3)[k]),
        x.sum(k % 2, keepdim=k == 2),
        x.var(correction=k),
        torch.where(x > (0.0, 0.5, -0.5)[k], x, (1.0, 2.0, 3.0)[k]),
        x ** (2, 3, 0.5)[k] if k < 2 else x.abs() ** 0.5,
    )


@case(lambda: torch.tensor(X))
def numbers_of_one_value(x: Any, k: int) -> Any:
    """Equal and not the same: 1, 1.0 and True; 0.0 and -0.0."""
    n = x.long()
    return n * (1, 1.0, True)[k], x / (0.0, -0.0, 0)[k], n + (2, 2.0, 2)[k], torch.full((2,), (1, 1.0, True)[k])


@case(lambda: torch.tensor(X))
def arguments_of_one_value(x: Any, k: int) -> Any:
    """The same, as arguments of what is recorded as a whole; each in a trace of its own, so that only they differ."""
    zero, seven = (0.0, -0.0, 0)[k], (7, 7.0, True)[k]
    found = []
    for function, y, numbers in (
        (F.hardtanh, x - 9, (zero, 1.0)),
        (F.threshold, x, (9.0, zero)),
        (F.elu, x - 9, (zero,)),
        (F.threshold, x.long(), (1, seven)),
        (F.hardtanh, x.long(), (-3, seven)),
    ):
        y.tolist()
        out = function(y, *numbers)
        out.tolist()
        found.append(1 / out)
        found.append(out)
    return found


@case(lambda: torch.tensor(X))
def seeds(x: Any, k: int) -> Any:
    torch.manual_seed(k)
    return torch.rand(3), F.dropout(x, 0.5), torch.randn(2), torch.randperm(5), torch.bernoulli(torch.full((6,), 0.5))


@case(lambda: torch.tensor(X))
def probabilities(x: Any, k: int) -> Any:
    torch.manual_seed(0)
    return F.dropout(x, (0.1, 0.5, 0.9)[k]), F.dropout(x, 0.5, training=k != 1)


def _train(make: Callable, change: Callable) -> Callable[[Any, int], Any]:
    def run(state: Any, k: int) -> Any:
        w = torch.tensor(X[0], requires_grad=True)
        optimizer = make(w)
        out = []
        for i in range(4):
            change(optimizer.param_groups[0], k, i)
            optimizer.zero_grad(set_to_none=i % 2 == 0)
            ((w * w * 0.5).sum() + w.sum()).backward()
            optimizer.step()
            out.append(w.detach().clone())
        return out

    return run


for _name, _make, _change in (
    ("sgd", lambda w: torch.optim.SGD([w], lr=0.1), lambda g, k, i: g.update(lr=0.1 / (i + k + 1))),
    ("sgd_momentum", lambda w: torch.optim.SGD([w], 0.1, 0.9), lambda g, k, i: g.update(momentum=(0.9, 0.5, 0.0)[k])),
    ("sgd_nesterov", lambda w: torch.optim.SGD([w], 0.1, 0.9), lambda g, k, i: g.update(nesterov=k == 1)),
    ("decay", lambda w: torch.optim.SGD([w], 0.1), lambda g, k, i: g.update(weight_decay=(0.0, 0.1, 0.5)[k])),
    ("maximize", lambda w: torch.optim.SGD([w], 0.1), lambda g, k, i: g.update(maximize=k == 2)),
    ("adam", lambda w: torch.optim.Adam([w], 0.1), lambda g, k, i: g.update(betas=((0.9, 0.99), (0.5, 0.9), (0.0, 0.5))[k])),
    ("adam_eps", lambda w: torch.optim.Adam([w], 0.1), lambda g, k, i: g.update(eps=(1e-8, 1e-2, 1.0)[k])),
    ("adamw", lambda w: torch.optim.AdamW([w], 0.1), lambda g, k, i: g.update(weight_decay=(0.01, 0.5, 0.0)[k])),
    ("amsgrad", lambda w: torch.optim.Adam([w], 0.1, amsgrad=True), lambda g, k, i: g.update(lr=(0.1, 0.2, 0.3)[k])),
    ("rmsprop", lambda w: torch.optim.RMSprop([w], 0.01), lambda g, k, i: g.update(alpha=(0.99, 0.5, 0.1)[k], centered=False)),
):
    CASES[f"optimizer_{_name}"] = (lambda: None, _train(_make, _change))


@case(lambda: torch.tensor(X[0], requires_grad=True))
def hooks_come_and_go(w: Any, k: int) -> Any:
    handle = w.register_hook(lambda g: g * (k + 2)) if k else None
    y = w * 3
    inner = y.register_hook(lambda g: g + k) if k == 2 else None
    w.grad = None
    y.sum().backward()
    for h in (handle, inner):
        if h is not None:
            h.remove()
    return w.grad


@case(lambda: torch.tensor(X[0]))
def what_requires_grad(x: Any, k: int) -> Any:
    a = x.clone().requires_grad_(k != 1)
    b = torch.ones(6).requires_grad_(k != 0)
    y = (a * b + a).sum()
    y.backward()
    return y, a.grad is None, b.grad is None, [t.grad for t in (a, b) if t.grad is not None]


@case(lambda: nn.Linear(6, 2))
def parameters_exchanged(layer: Any, k: int) -> Any:
    x = torch.tensor(X)
    if k == 0:
        layer.weight = nn.Parameter(torch.full((2, 6), 0.5))
    elif k == 1:
        layer.weight.data = torch.full((2, 6), 0.25)
    else:
        layer.load_state_dict({"weight": torch.full((2, 6), -1.0), "bias": torch.zeros(2)})
    layer.bias = nn.Parameter(torch.full((2,), float(k)))
    layer.zero_grad()
    out = layer(x)
    out.pow(2).sum().backward()
    return out, layer.weight.grad, layer.bias.grad


@case(lambda: nn.Linear(6, 2, bias=False))
def parameters_frozen(layer: Any, k: int) -> Any:
    with torch.no_grad():
        layer.weight.fill_(0.5)
    layer.weight.requires_grad_(k != 1)
    x = torch.tensor(X, requires_grad=k != 2)
    layer.weight.grad = None
    out = layer(x).sum()
    if out.requires_grad:
        out.backward()
    return out, layer.weight.grad, x.grad


class Scaled(torch.autograd.Function):
    factor = 1.0

    @staticmethod
    def forward(ctx: Any, x: Any, power: int) -> Any:
        ctx.save_for_backward(x)
        ctx.power = power
        return x**power * Scaled.factor

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * ctx.power * x ** (ctx.power - 1) * Scaled.factor, None


@case(lambda: torch.tensor(X[0], requires_grad=True))
def what_a_custom_function_reads(x: Any, k: int) -> Any:
    Scaled.factor = (1.0, 2.0, 5.0)[k]
    y = Scaled.apply(x, (2, 3, 2)[k])
    return y, torch.autograd.grad(y.sum(), x)[0]


@case(lambda: torch.tensor(X))
def global_of_a_closure(x: Any, k: int) -> Any:
    scale = (1.0, 2.0, 3.0)[k]
    return torch.func.grad(lambda v: (v * scale).pow(2 + k).sum())(x), torch.func.jvp(lambda v: v * scale, (x,), (x,))[1]


@case(lambda: [torch.tensor(X), torch.tensor(X[:, ::-1].copy()), torch.tensor(X, dtype=torch.float64)])
def which_tensor(all_of: Any, k: int) -> Any:
    x, y = all_of[k], all_of[k - 1]
    return x.matmul(y.T.to(x.dtype)), x[:, k], x[k:], x.T[k], (x - x).sum(), x - (y if k else x)


@case(lambda: torch.tensor(X))
def sizes_and_places(x: Any, k: int) -> Any:
    shaped = x.reshape(((4, 6), (6, 4), (24,))[k])
    parts = x[k : k + 2, :: k + 1], x.unfold(1, k + 1, 1), x.diagonal(k)
    return shaped, parts, x.roll(k, 1), x.tril(k), F.pad(x, (k, 1), value=float(k))


@case(lambda: torch.tensor(X))
def number_of_threads(x: Any, k: int) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(k + 1)
    try:
        return x.exp().sum(), x.matmul(x.T)
    finally:
        torch.set_num_threads(before)


@case(lambda: np.array(X))
def memory_written_from_outside(array: Any, k: int) -> Any:
    x = torch.from_numpy(array)
    y = x * 2
    array[0, 0] = k
    return y, x * 2, x[0], x.sum()


@pytest.mark.parametrize("name", sorted(CASES))
def test_nothing_stale(name: str) -> None:
    make, run = CASES[name]
    with torch.eager():
        expected = {}
        state = make()
        for k in ORDER:  # a state may carry what it did before, so the reference goes the same way
            expected.setdefault(len(expected), listed(run(state, k)))
        for k in ORDER:
            expected.setdefault(len(expected), listed(run(state, k)))
    state = make()
    for place, k in enumerate(ORDER * 2):
        got = listed(run(state, k))
        assert same(got, expected[place]), f"call {place} (setting {k}): {got} instead of {expected[place]}"


def test_settings_differ() -> None:
    """Each case is one that a stale answer would fail: its settings do not all give the same."""
    for name, (make, run) in CASES.items():
        if name in ("number_of_threads",):
            continue
        state = make()
        found = [listed(run(state, k)) for k in (0, 1, 2)]
        assert not (same(found[0], found[1]) and same(found[1], found[2])), name
