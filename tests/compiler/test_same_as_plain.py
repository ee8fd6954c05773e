"""A compiled function behaves as the function does, whatever changes between its calls.

Each scenario builds a function and ways to change what it reads. The same calls and changes are made with the function and
with its compiled twin; results, tensors and gradients must be equal to the bit after each of them. Where `known` is set,
the calls between two changes must in the end be one look-up: else the comparison would show nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import adjoint as torch
from adjoint import nn

F = nn.functional
pytestmark = pytest.mark.usefixtures("little_effort")


class Scenario(NamedTuple):
    """step: called with the number of the call.  watched: tensors to compare.  changes: made one after another."""

    step: Callable[[int], Any]
    watched: Callable[[], list]
    changes: list[Callable[[], Any]]
    known: bool = True


scale = 2.0
table = {"gain": 1.5, "list": [1.0, 2.0]}


def helper(x: torch.Tensor) -> torch.Tensor:
    return x * scale


def x_of(k: int, *shape: int) -> torch.Tensor:
    shape = shape or (4, 3)
    n = 1
    for s in shape:
        n *= s
    return (torch.arange(n).reshape(shape).float() + k) / 7 - 0.5


def change_global(value: float) -> Callable[[], None]:
    def change() -> None:
        global scale
        scale = value

    return change


def globals_read(wrap: Callable) -> Scenario:
    f = wrap(lambda x: helper(x) + table["gain"] * table["list"][0])
    return Scenario(
        lambda k: f(x_of(k)), list,
        [change_global(3.0), lambda: table.update(gain=2.5), lambda: table["list"].__setitem__(0, 4.0), change_global(2.0),
         lambda: table.update(gain=1.5), lambda: table["list"].__setitem__(0, 1.0)],
    )  # fmt: skip


def closure_read(wrap: Callable) -> Scenario:
    factor, shift = 2.0, torch.tensor([1.0, 2.0, 3.0])

    def change() -> None:
        nonlocal factor
        factor += 1.0

    def replace() -> None:
        nonlocal shift
        shift = torch.tensor([5.0, 6.0, 7.0])

    def write() -> None:
        shift.add_(1.0)

    f = wrap(lambda x: x * factor + shift)
    return Scenario(lambda k: f(x_of(k)), lambda: [shift], [change, replace, write, lambda: shift[0].fill_(9.0)])


def number_arguments(wrap: Callable) -> Scenario:
    def f(x: torch.Tensor, power: int, flag: bool = False, name: str = "add") -> torch.Tensor:
        y = x**power if not flag else x * power
        return y + 1 if name == "add" else y - 1

    f = wrap(f)
    return Scenario(
        lambda k: [f(x_of(k), 2), f(x_of(k), 3), f(x_of(k), 2, True), f(x_of(k), 2, name="sub"), f(x_of(k), 2.0), f(x_of(k), -0.0, True)],
        list, [lambda: None],
    )  # fmt: skip


def shapes_and_dtypes(wrap: Callable) -> Scenario:
    f = wrap(lambda x: (x * 2).sum(0) if x.shape[0] > 2 else x.mean())
    return Scenario(
        lambda k: [f(x_of(k)), f(x_of(k, 2, 2)), f(x_of(k).double()), f(x_of(k, 0, 3).sum(0, keepdim=True)), f(x_of(k, 5))], list, [lambda: None]
    )


def module_options(wrap: Callable) -> Scenario:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    fill(net)
    f = wrap(net)

    def freeze() -> None:
        net[0].weight.requires_grad_(False)

    def exchange() -> None:
        net[2] = nn.ReLU()

    def step(k: int) -> Any:
        out = f(x_of(k))
        if out.requires_grad:
            out.sum().backward()
        return out

    def new_weight() -> None:
        net[3].weight = nn.Parameter(torch.ones(2, 4))

    def hooked() -> None:
        net[1].register_forward_hook(lambda module, args, out: out * 2)

    return Scenario(
        step, lambda: [*net.parameters(), *net.buffers(), *[p.grad for p in net.parameters()]],
        [net.eval, net.train, net.zero_grad, freeze, exchange, new_weight, hooked, lambda: net[1].__setattr__("momentum", 0.5)],
    )  # fmt: skip


def fill(net: nn.Module) -> None:
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(torch.sin(torch.arange(p.numel()).float() * 1.7 + k).reshape(p.shape))


def training(make: Callable[[Any], Any], schedule: bool = False) -> Callable[[Callable], Scenario]:
    def build(wrap: Callable) -> Scenario:
        net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.25), nn.Linear(8, 2))
        fill(net)
        optimizer = make(net)
        generator = torch.default_generator
        generator.manual_seed(3)

        def train(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        f = wrap(train)
        y = torch.tensor([0, 1, 1, 0])

        def state() -> list:
            return [t for s in optimizer.state.values() for t in s.values()]

        def rate() -> None:
            optimizer.param_groups[0]["lr"] *= 0.5

        def decay() -> None:
            optimizer.param_groups[0]["weight_decay"] = 0.1

        def reload() -> None:
            optimizer.load_state_dict(optimizer.state_dict())

        return Scenario(
            lambda k: f(x_of(k), y), lambda: [*net.parameters(), *[p.grad for p in net.parameters()], *state(), generator._calls],
            [rate, net.eval, decay, reload, lambda: generator.manual_seed(9), lambda: net[0].weight.requires_grad_(False)],
        )  # fmt: skip

    return build


def two_optimizers(wrap: Callable) -> Scenario:
    a, b = nn.Linear(3, 3), nn.Linear(3, 1)
    fill(a), fill(b)
    one, two = torch.optim.Adam(a.parameters(), lr=0.1), torch.optim.SGD(b.parameters(), lr=0.1, momentum=0.9)

    def train(x: torch.Tensor) -> tuple:
        one.zero_grad()
        first = (b(torch.tanh(a(x))) ** 2).mean()
        first.backward()
        one.step()
        two.zero_grad()
        second = (b(a(x).detach()) - 1).abs().mean()
        second.backward()
        two.step()
        return first.detach(), second.detach()

    f = wrap(train)
    return Scenario(
        lambda k: f(x_of(k)), lambda: [*a.parameters(), *b.parameters(), [s["step"] for s in one.state.values()]],
        [lambda: two.param_groups[0].update(lr=0.01), lambda: two.param_groups[0].update(nesterov=True), one.zero_grad], known=False,
    )  # fmt: skip


def from_scratch(wrap: Callable) -> Scenario:
    w, b = torch.ones(3, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    rate = 0.1

    def train(x: torch.Tensor) -> torch.Tensor:
        loss = ((x @ w + b - 1) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= rate * p.grad
                p.grad.zero_()
        return loss

    f = wrap(train)

    def slower() -> None:
        nonlocal rate
        rate = 0.05

    def forget() -> None:
        w.grad = None

    def own() -> None:
        b.grad = torch.full((1,), 5.0)

    return Scenario(lambda k: f(x_of(k)), lambda: [w, b, w.grad, b.grad], [slower, forget, own])


def gradients_outside(wrap: Callable) -> Scenario:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    f = wrap(lambda x: (torch.sin(x * w), (x * w).sum()))

    def step(k: int) -> Any:
        a, b = f(x_of(k))
        (a.sum() * b).backward()
        return [a, b, *torch.autograd.grad(f(x_of(k))[1], w)]

    return Scenario(step, lambda: [w, w.grad], [lambda: w.grad.zero_(), lambda: w.__setattr__("grad", None), lambda: w.requires_grad_(True)])


def argument_gradients(wrap: Callable) -> Scenario:
    f = wrap(lambda x: (x**3).sum())

    def step(k: int) -> Any:
        x = x_of(k).requires_grad_()
        y = f(x * 1)
        z = f(x)
        (y + z).backward()
        (second,) = torch.autograd.grad(torch.autograd.grad(f(x), x, create_graph=True)[0].sum(), x)
        return x.grad, second

    return Scenario(step, list, [lambda: None])


def modes(wrap: Callable) -> Scenario:
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    f = wrap(lambda x: x * w)

    def step(k: int) -> Any:
        with torch.no_grad():
            a = f(x_of(k))
        with torch.inference_mode():
            b = f(x_of(k))
        c = f(x_of(k))
        return [a, b, c, a.requires_grad, b.requires_grad, c.requires_grad]

    return Scenario(step, lambda: [w], [lambda: None])


def results_of_all_kinds(wrap: Callable) -> Scenario:
    kept = torch.ones(3)

    def f(x: torch.Tensor, extra: Any) -> Any:
        y = x + 1
        return {"y": y, "same": y, "x": x, "view": y[0], "of x": x.t(), "kept": kept, "list": [y.sum(), (3, None, "text")], "extra": extra["a"][0] * 2}

    f = wrap(f)

    def step(k: int) -> Any:
        x = x_of(k)
        out = f(x, {"a": [x_of(k + 1), 2], "b": k % 2})
        assert out["x"] is x and out["same"] is out["y"] and out["kept"] is kept
        out["view"].mul_(2.0)  # a view of y
        out["of x"].add_(1.0)
        return list(out.values()), x

    return Scenario(step, lambda: [kept], [lambda: kept.add_(1.0)])


def changes_in_place(wrap: Callable) -> Scenario:
    total, count = torch.zeros(3), torch.zeros((), dtype=torch.int64)
    part = total[1:]

    def f(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        total.add_(x.sum(0))
        count.add_(1)
        out.copy_(x * 2)
        return total / count

    f = wrap(f)

    def step(k: int) -> Any:
        out = torch.zeros(4, 3)
        mean = f(x_of(k), out)
        return [mean, out, part * 1]

    return Scenario(step, lambda: [total, count, part], [lambda: total.zero_(), lambda: part.fill_(3.0), lambda: count.fill_(0)])


def aliased_arguments(wrap: Callable) -> Scenario:
    shared = torch.ones(4, 3)
    f = wrap(lambda a, b: a * 2 + b + shared)

    def step(k: int) -> Any:
        x = x_of(k)
        y = x * 1
        return [f(x, x), f(x, x_of(k + 1)), f(x, shared), f(shared, shared), f(y, y[:]), f(x[:, :1], x)]

    return Scenario(step, lambda: [shared], [lambda: shared.mul_(2.0)])


def changes_an_alias(wrap: Callable) -> Scenario:
    def f(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a.add_(1.0)
        return b * 2

    f = wrap(f)

    def step(k: int) -> Any:
        x, y = x_of(k), x_of(k + 1)
        return [f(x, y), x, y, f(x, x), x, f(x[0], x), x, f(x, x[1]), x]

    return Scenario(step, list, [lambda: None])


class Counter:
    """An object whose method is compiled."""

    gain = 2.0

    def __init__(self) -> None:
        self.weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
        self.options = {"bias": 1.0}
        self.calls = 0

    @property
    def bias(self) -> float:
        return self.options["bias"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * self.gain + self.bias

    def counted(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def methods(wrap: Callable) -> Scenario:
    class Own(Counter):
        pass

    o = Own()
    f = wrap(o.forward)

    def double(self: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    return Scenario(
        lambda k: f(x_of(k)), lambda: [o.weight],
        [lambda: setattr(Own, "gain", 3.0), lambda: setattr(o, "gain", 4.0), lambda: o.options.update(bias=5.0),
         lambda: setattr(o, "options", {"bias": 2.0}), lambda: setattr(o, "weight", torch.ones(3)),
         lambda: setattr(Own, "bias", property(lambda self: 7.0))],
    )  # fmt: skip


def counted(wrap: Callable) -> Scenario:
    o = Counter()
    f = wrap(o.counted)
    return Scenario(lambda k: [f(x_of(k)), o.calls], list, [lambda: setattr(o, "calls", 10)], known=False)


def appended(wrap: Callable) -> Scenario:
    seen: list = []

    def f(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        seen.append(y.sum())
        return y

    f = wrap(f)
    return Scenario(lambda k: f(x_of(k)), lambda: seen, [seen.clear], known=False)


def reads_values(wrap: Callable) -> Scenario:
    f = wrap(lambda x: x * 2 if x.sum() > 0 else x * 3)
    return Scenario(lambda k: [f(x_of(k)), f(-x_of(k))], list, [lambda: None], known=False)


def random_numbers(wrap: Callable) -> Scenario:
    g = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    f = wrap(lambda x: x + torch.rand(3) + torch.randn(4, 3, generator=g) * F.dropout(x, 0.5))
    return Scenario(lambda k: [f(x_of(k)), g._calls, torch.rand(1)], list, [lambda: g.manual_seed(5), lambda: torch.manual_seed(7)])


def random_in_numpy(wrap: Callable) -> Scenario:
    torch.manual_seed(2)
    f = wrap(lambda x: x[torch.randperm(4)])
    return Scenario(lambda k: f(x_of(k)), list, [lambda: None], known=False)


def constants(wrap: Callable) -> Scenario:
    def f(x: torch.Tensor) -> torch.Tensor:
        c = torch.tensor([1.0, 2.0, 3.0])
        mask = torch.triu(torch.ones(3, 3))
        return (x * c) @ mask + torch.arange(3) + torch.zeros(3)

    f = wrap(f)
    return Scenario(lambda k: f(x_of(k)), list, [lambda: None], known=False)


def nested_and_decorated(wrap: Callable) -> Scenario:
    inner = wrap(lambda x: x * scale)

    @torch.no_grad()
    def quiet(x: torch.Tensor) -> torch.Tensor:
        return x * scale

    def outer(x: torch.Tensor) -> torch.Tensor:
        def local(y: torch.Tensor) -> torch.Tensor:
            return y + scale

        return sum([local(inner(x)), quiet(x)], start=torch.zeros(3))

    f = wrap(outer)
    return Scenario(lambda k: f(x_of(k)), list, [change_global(3.0), change_global(2.0)])


def defaults_and_generators(wrap: Callable) -> Scenario:
    memory: list = [1.0]

    def f(x: torch.Tensor, table: list = memory) -> torch.Tensor:
        return sum(x * t for t in table)

    f = wrap(f)
    return Scenario(lambda k: f(x_of(k)), list, [lambda: memory.append(2.0), lambda: memory.__setitem__(0, 5.0)])


def shared_with_numpy(wrap: Callable) -> Scenario:
    w = torch.ones(3)
    array = w.numpy()
    f = wrap(lambda x: x * w)
    return Scenario(lambda k: f(x_of(k)), lambda: [w], [lambda: array.__setitem__(0, 5.0), lambda: w.add_(1.0)], known=False)


def accumulation(wrap: Callable) -> Scenario:
    net = nn.Linear(3, 2)
    fill(net)
    f = wrap(lambda x: (net(x) ** 2).mean())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def step(k: int) -> Any:
        optimizer.zero_grad()
        losses = [f(x_of(k)), f(x_of(k + 1)), f(x_of(k + 2))]
        for loss in losses:
            (loss / 3).backward()
        optimizer.step()
        return losses

    return Scenario(step, lambda: [*net.parameters()], [lambda: net.bias.requires_grad_(False)])


def hooks_and_functions(wrap: Callable) -> Scenario:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * 3

    seen: list = []
    w = torch.ones(3, requires_grad=True)

    def f(x: torch.Tensor) -> torch.Tensor:
        y = Double.apply(x * w)
        y.register_hook(lambda g: seen.append(float(g.sum())))
        return y.sum()

    f = wrap(f)

    def step(k: int) -> Any:
        f(x_of(k)).backward()
        return list(seen)

    return Scenario(step, lambda: [w, w.grad], [lambda: None], known=False)


def penalised(wrap: Callable) -> Scenario:
    w = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)

    def f(x: torch.Tensor) -> torch.Tensor:
        (g,) = torch.autograd.grad((torch.tanh(x * w)).sum(), w, create_graph=True)
        loss = (g**2).sum()
        loss.backward()
        return loss

    f = wrap(f)
    return Scenario(lambda k: f(x_of(k)), lambda: [w, w.grad], [lambda: setattr(w, "grad", None)])


def exceptions(wrap: Callable) -> Scenario:
    f = wrap(lambda x, n: x.reshape(n, -1) * scale)

    def step(k: int) -> Any:
        out: list = [f(x_of(k), 2)]
        with pytest.raises(RuntimeError):
            f(x_of(k), 5)
        index = torch.tensor([0, 9 if k % 2 else 1])
        return [*out, f(x_of(k), 3), index]

    return Scenario(step, list, [change_global(3.0), change_global(2.0)])


SCENARIOS = {
    f.__name__: f
    for f in (
        globals_read, closure_read, number_arguments, shapes_and_dtypes, module_options, two_optimizers, from_scratch,
        gradients_outside, argument_gradients, modes, results_of_all_kinds, changes_in_place, aliased_arguments, changes_an_alias,
        methods, counted, appended, reads_values, random_numbers, random_in_numpy, constants, nested_and_decorated,
        defaults_and_generators, shared_with_numpy, accumulation, hooks_and_functions, penalised, exceptions,
    )
}  # fmt: skip
SCENARIOS |= {
    "sgd": training(lambda net: torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)),
    "adam": training(lambda net: torch.optim.Adam(net.parameters(), lr=0.01)),
    "adamw groups": training(
        lambda net: torch.optim.AdamW([{"params": net[0].parameters()}, {"params": net[3].parameters(), "lr": 0.5}], lr=0.01)
    ),
    "rmsprop": training(lambda net: torch.optim.RMSprop(net.parameters(), lr=0.01)),
}


def numbers(o: Any) -> Any:
    """Nested results as lists, exact."""
    if isinstance(o, torch.Tensor):
        return str(o.dtype), tuple(o.shape), o.requires_grad, o.is_leaf, o.detach().flatten().tolist()
    if isinstance(o, (list, tuple)):
        return [numbers(x) for x in o]
    return o


def story(build: Callable, compiled: bool, quiet: bool) -> tuple[list, list]:
    """Everything seen along the calls and changes; the compiled functions. quiet: look at results only in the end."""
    made: list = []

    def wrap(f: Any) -> Any:
        if compiled:
            made.append(torch.compile(f))
            return made[-1]
        return f

    seen, results, k = [], [], 0
    scenario = build(wrap)
    for change in [lambda: None, *scenario.changes]:
        change()
        for _ in range(6):
            results.append(scenario.step(k))
            if not quiet:
                seen.append(numbers([results[-1], scenario.watched()]))
            k += 1
    seen += [numbers(results), numbers(scenario.watched())]
    return seen, [scenario, *made]


@pytest.mark.parametrize("quiet", [False, True], ids=["read", "unread"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_compiled_function_does_what_the_function_does(name: str, quiet: bool) -> None:
    wanted, _ = story(SCENARIOS[name], False, quiet)
    found, (scenario, *made) = story(SCENARIOS[name], True, quiet)
    assert found == wanted
    if not (quiet or torch.is_eager()) and scenario.known:
        for f in made:
            f = f._call if isinstance(f, torch.compiler.OptimizedModule) else f
            assert f.replays > len(scenario.changes) or f is not made[-1], repr(f)
