"""Whatever the surroundings of a compiled function do, it sees it: a story told twice, plain and compiled, reads the same.

Each story makes functions, calls them often enough to be known, changes something by a way of its own, and returns all that
it saw. The stories are about ways of Python that are easily forgotten: what a function object consists of, classes behind
objects, ids that are used again, containers that are changed or returned, reads and writes that happen inside C.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import gc
import itertools
import logging
import operator
import os
import sys
import tempfile
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn

F = nn.functional
STORIES: dict[str, Callable] = {}
CALLS = 6  # after which a call is known


def story(f: Callable) -> Callable:
    STORIES[f.__name__] = f
    return f


def x_of(k: float = 0, *shape: int) -> torch.Tensor:
    shape = shape or (3,)
    n = int(np.prod(shape))
    return (torch.arange(n).reshape(shape).float() + k) / 7 - 0.5


def numbers(o: Any) -> Any:
    """Nested results as lists, exact."""
    if isinstance(o, torch.Tensor):
        return str(o.dtype), tuple(o.shape), o.requires_grad, o.is_leaf, repr(o.detach().flatten().tolist())
    if isinstance(o, (list, tuple)):
        return [type(o).__name__, *map(numbers, o)]
    if isinstance(o, dict):
        return [type(o).__name__, *[(numbers(k), numbers(v)) for k, v in o.items()]]
    return o


def often(f: Callable, *args: Any, log: list) -> None:
    for _ in range(CALLS):
        log.append(numbers(f(*args)))


def around(f: Callable, changes: list[Callable[[], Any]]) -> list:
    """The function called often before and after each change."""
    log: list = []
    often(f, x_of(), log=log)
    for change in changes:
        change()
        often(f, x_of(), log=log)
    return log


# ---- what a function consists of ---------------------------------------------------------------------------------------


@story
def code_replaced(wrap: Callable) -> Any:
    def helper(x: Any) -> Any:
        return x * 2

    def other(x: Any) -> Any:
        return x * 3

    return around(wrap(lambda x: helper(x)), [lambda: setattr(helper, "__code__", other.__code__)])


@story
def defaults_replaced(wrap: Callable) -> Any:
    def helper(x: Any, k: float = 2.0, *, m: float = 1.0) -> Any:
        return x * k + m

    return around(
        wrap(lambda x: helper(x)),
        [lambda: setattr(helper, "__defaults__", (5.0,)), lambda: setattr(helper, "__kwdefaults__", {"m": 7.0}), lambda: helper.__kwdefaults__.update(m=8.0)],
    )


@story
def own_code_replaced(wrap: Callable) -> Any:
    def f(x: Any, k: float = 2.0) -> Any:
        return x * k

    return around(wrap(f), [lambda: setattr(f, "__defaults__", (5.0,)), lambda: setattr(f, "__code__", (lambda x, k: x - k).__code__)])


@story
def attribute_of_a_function_that_never_runs(wrap: Callable) -> Any:
    def store() -> None:
        pass

    store.gain, store.count = 2.0, 0

    def f(x: Any) -> Any:
        return x * store.gain

    def g(x: Any) -> Any:
        store.count += 1
        return x * 2

    log = around(wrap(f), [lambda: setattr(store, "gain", 3.0)])
    return log, around(wrap(g), []), store.count


@story
def one_code_with_two_globals(wrap: Callable) -> Any:
    def code(x: Any) -> Any:
        return x * gain_of_two  # noqa: F821

    one, two = {"gain_of_two": 2.0}, {"gain_of_two": 3.0}
    a, b = types.FunctionType(code.__code__, one), types.FunctionType(code.__code__, two)
    return around(wrap(lambda x: a(x) + b(x)), [lambda: two.update(gain_of_two=5.0), lambda: one.update(gain_of_two=7.0)])


@story
def partial_changed(wrap: Callable) -> Any:
    def helper(x: Any, k: float) -> Any:
        return x * k

    p = functools.partial(helper, k=2.0)
    return around(wrap(lambda x: p(x)), [lambda: p.keywords.update(k=5.0)])


@story
def builtins_replaced(wrap: Callable) -> Any:
    import builtins

    f = wrap(lambda x: x * ord("a"))
    log = around(f, [])
    known = builtins.ord  # which nothing of the engine uses
    try:
        builtins.ord = len
        often(f, x_of(), log=log)
    finally:
        builtins.ord = known
    return log


@story
def library_replaced(wrap: Callable) -> Any:
    f = wrap(lambda x: torch.relu(x))
    linear = nn.Linear(3, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(3)), linear.bias.zero_()
    g = wrap(lambda x: linear(x))
    log = around(f, []) + around(g, [])
    relu, forward = torch.relu, nn.Linear.forward
    try:
        torch.relu = torch.tanh
        nn.Linear.forward = lambda self, x: x * 7
        often(f, x_of(), log=log), often(g, x_of(), log=log)
    finally:
        torch.relu, nn.Linear.forward = relu, forward
    linear.forward = lambda x: x * 9
    often(g, x_of(), log=log)
    return log


# ---- classes behind objects --------------------------------------------------------------------------------------------


class Plain:
    gain = 2.0

    def scale(self, x: Any) -> Any:
        return x * self.gain


@story
def class_of_an_object(wrap: Callable) -> Any:
    class Other(Plain):
        gain = 5.0

    o = Plain()
    return around(wrap(lambda x: o.scale(x)), [lambda: setattr(o, "__class__", Other), lambda: setattr(Other, "__bases__", (Plain,))])


@story
def bases_of_a_class(wrap: Callable) -> Any:
    class A:
        gain = 2.0

    class B:
        gain = 3.0

    class C(A):
        pass

    o = C()
    return around(wrap(lambda x: x * o.gain), [lambda: setattr(C, "__bases__", (B,))])


@story
def dict_of_an_object(wrap: Callable) -> Any:
    o = Plain()
    o.gain = 3.0
    return around(wrap(lambda x: o.scale(x)), [lambda: setattr(o, "__dict__", {"gain": 4.0}), lambda: o.__dict__.clear()])


@story
def metaclass(wrap: Callable) -> Any:
    class Meta(type):
        gain = 2.0

        @property
        def shift(cls) -> float:
            return cls.gain + 1

    class A(metaclass=Meta):
        pass

    return around(wrap(lambda x: x * A.gain + A.shift), [lambda: setattr(Meta, "gain", 5.0)])


@story
def missing_attributes(wrap: Callable) -> Any:
    o, p = Plain(), Plain()

    def tried(x: Any) -> Any:
        try:
            return x * o.extra
        except AttributeError:
            return x

    def asked(x: Any) -> Any:
        return x * getattr(p, "extra", 1.0)

    class Open:
        def __getattr__(self, name: str) -> float:
            return 2.0

    q = Open()
    return (
        around(wrap(tried), [lambda: setattr(o, "extra", 3.0), lambda: delattr(o, "extra"), lambda: setattr(Plain, "extra", 4.0), lambda: delattr(Plain, "extra")]),
        around(wrap(asked), [lambda: setattr(p, "extra", 3.0), lambda: delattr(p, "extra"), lambda: setattr(Plain, "extra", 4.0), lambda: delattr(Plain, "extra")]),
        around(wrap(lambda x: x * q.whatever), [lambda: setattr(q, "whatever", 5.0)]),
    )


@story
def computed_names(wrap: Callable) -> Any:
    class A:
        gain_of_all = 2.0

    o, get, kind = A(), getattr, "gain"
    o.gain_of_one = 3.0

    def f(x: Any) -> Any:
        return x * getattr(o, kind + "_of_all") + get(o, kind + "_of_one") + operator.attrgetter(kind + "_of_one")(o)

    def g(x: Any) -> Any:
        return x * get(o, kind + "_of_one")

    def h(x: Any) -> Any:
        setattr(o, kind + "_seen", 1.0)
        return x * 2

    o.gain_seen = 0.0
    return (
        around(wrap(f), [lambda: setattr(A, "gain_of_all", 4.0), lambda: setattr(o, "gain_of_one", 5.0)]),
        around(wrap(g), [lambda: setattr(o, "gain_of_one", 6.0)]),
        around(wrap(h), [lambda: setattr(o, "gain_seen", 0.0)]), o.gain_seen,
    )  # fmt: skip


@story
def match_statement(wrap: Callable) -> Any:
    @dataclasses.dataclass
    class Point:
        a: float
        b: float

    p = Point(2.0, 3.0)

    def f(x: Any) -> Any:
        match p:
            case Point(u, v):
                return x * u + v

    return around(wrap(f), [lambda: setattr(p, "a", 5.0), lambda: setattr(p, "b", 7.0)])


@story
def subclasses_of_builtins(wrap: Callable) -> Any:
    class Table(dict):
        gain = 2.0

    class Items(list):
        pass

    class Row(NamedTuple("Row", [("a", float)])):
        gain = 2.0

    class Number(float):
        pass

    class Queue(collections.deque):
        pass

    class Numbers(collections.UserDict):
        pass

    t, i, r, n, q, u = Table(a=1.0), Items([1.0]), Row(1.0), Number(2.0), Queue([1.0]), Numbers(a=1.0)
    i.gain, n.gain = 3.0, 4.0
    return (
        around(wrap(lambda x: x * t.gain), [lambda: setattr(Table, "gain", 5.0), lambda: setattr(t, "gain", 6.0)]),
        around(wrap(lambda x: x * i.gain), [lambda: setattr(i, "gain", 5.0)]),
        around(wrap(lambda x: x * r.gain), [lambda: setattr(Row, "gain", 5.0)]),
        around(wrap(lambda x: x * n.gain), [lambda: setattr(n, "gain", 5.0)]),
        around(wrap(lambda x: x * q[0]), [lambda: q.appendleft(5.0)]),
        around(wrap(lambda x: x * u["a"]), [lambda: u.update(a=5.0)]),
    )


@story
def enumerations(wrap: Callable) -> Any:
    class Mode(enum.Enum):
        FAST, SLOW = 1, 2

        def factor(self) -> float:
            return self.gain

    Mode.FAST.gain = 2.0
    o = Plain()
    o.gain = Mode.FAST
    return around(wrap(lambda x: x * o.gain.factor()), [lambda: setattr(Mode.FAST, "gain", 3.0), lambda: setattr(Mode, "factor", lambda self: 9.0)])


@story
def ordered(wrap: Callable) -> Any:
    d = collections.OrderedDict(a=2.0, b=3.0)
    return around(wrap(lambda x: x * next(iter(d.values()))), [lambda: d.move_to_end("a")])


@story
def weak_references(wrap: Callable) -> Any:
    o = Plain()
    ref = weakref.ref(o)
    return around(wrap(lambda x: x * ref().gain), [lambda: setattr(o, "gain", 3.0)])


@story
def bound_builtins(wrap: Callable) -> Any:
    seen: list = []
    table = {"gain": 2.0}
    push, get, count = seen.append, table.get, itertools.count().__next__

    def f(x: Any) -> Any:
        push(3)
        return x * 2

    return (
        around(wrap(f), []), list(seen),
        around(wrap(lambda x: x * get("gain")), [lambda: table.update(gain=3.0)]),
        around(wrap(lambda x: x * count()), []),
    )  # fmt: skip


# ---- reads and writes inside C, and in Python's own modules --------------------------------------------------------------


@story
def environment(wrap: Callable) -> Any:
    os.environ["ADJOINT_TEST_GAIN"] = "2"
    return (
        around(wrap(lambda x: x * float(os.environ["ADJOINT_TEST_GAIN"])), [lambda: os.environ.update(ADJOINT_TEST_GAIN="3")]),
        around(wrap(lambda x: x * float(os.getenv("ADJOINT_TEST_GAIN"))), [lambda: os.environ.update(ADJOINT_TEST_GAIN="4")]),
    )


@story
def logged(wrap: Callable) -> Any:
    seen: list = []

    class Keep(logging.Handler):
        def emit(self, record: Any) -> None:
            seen.append(record.getMessage())

    log = logging.Logger("story")
    log.addHandler(Keep())
    log.setLevel(logging.ERROR)

    def f(x: Any) -> Any:
        log.info("called")
        return x * 2

    return around(wrap(f), [lambda: log.setLevel(logging.INFO)]), seen


@story
def called_from_c(wrap: Callable) -> Any:
    seen: list = []
    keep = functools.partial(seen.append, 1)

    def f(x: Any) -> Any:
        list(map(seen.append, [1, 2]))
        return x * 2

    def g(x: Any) -> Any:
        keep()
        return x * 2

    return around(wrap(f), []), len(seen), around(wrap(g), []), len(seen)


@story
def identity(wrap: Callable) -> Any:
    f = wrap(lambda x: id(x))
    kept = [x_of(k) for k in range(8)]
    g = wrap(lambda x: (x * 2, x._version))
    y = x_of()
    for _ in range(CALLS):
        g(y)
    y.add_(1.0)
    return [f(x) == id(x) for x in kept], numbers(g(y))


# ---- arguments ---------------------------------------------------------------------------------------------------------


@story
def ids_used_again(wrap: Callable) -> Any:
    f, g, h = wrap(lambda x, n: x * n), wrap(lambda x, to: to(x)), wrap(lambda x, o: o.scale(x))
    log = []
    for k in range(12):
        log.append(numbers(f(x_of(), np.float32(k))))
        if k % 2:
            log.append(numbers(g(x_of(), lambda t: t * 2)))
        else:
            log.append(numbers(g(x_of(), lambda t: t * 3)))
        log.append(numbers(g(x_of(), lambda t, k=k: t * k)))
        o = Plain()
        o.gain = float(k)
        log.append(numbers(h(x_of(), o)))
        log.append(numbers(g(x_of(), o.scale)))
        del o
    return log


@story
def numbers_that_are_equal(wrap: Callable) -> Any:
    class Named(float):
        pass

    f = wrap(lambda x, n: (x / n, type(n).__name__, getattr(n, "name", "")))
    d = wrap(lambda x: (next(iter(x)), type(next(iter(x))).__name__))
    one, two = Named(2.0), Named(2.0)
    one.name, two.name = "one", "two"
    log = []
    given = [0.0, -0.0, np.float64(0.0), np.float64(-0.0), True, 1, 1.0, np.int64(1), np.bool_(True), float("nan"), one, two]
    for n in given * CALLS:
        log.append(repr(numbers(f(x_of(), n))))
    one.name = "three"
    log.append(repr(numbers(f(x_of(), one))))
    c = wrap(lambda x, n: torch.atan2((x * n).imag, (x * n).real))
    for n in [complex(-1.0, 0.0), complex(-1.0, -0.0)] * CALLS:
        log.append(numbers(c(x_of() * 0 - 1, n)))
    for key in [1, True, 1.0] * CALLS:
        log.append(d({key: x_of()}))
    return log


@story
def containers_given(wrap: Callable) -> Any:
    def f(x: Any, out: list, d: dict) -> Any:
        out.append(3)
        d["n"] = len(out)
        return x * 2

    def swap(items: list) -> Any:
        items.reverse()
        return items[0] * 1

    f, swap = wrap(f), wrap(swap)
    log = []
    for _ in range(CALLS):
        out, d = [], {}
        log += [numbers(f(x_of(), out, d)), out, d]
        items = [x_of(1), x_of(2)]
        log += [numbers(swap(items)), numbers(items)]
    return log


@story
def containers_returned(wrap: Callable) -> Any:
    table, args = {"a": 1}, [2.0]

    def twice(x: Any) -> Any:
        items = [x * 2]
        return items, items

    def loop(x: Any) -> Any:
        items: list = [x * 2]
        items.append(items)
        return items

    f, g, twice, loop = wrap(lambda x: (table, x * 2)), wrap(lambda x, items: items), wrap(twice), wrap(loop)
    log = []
    for _ in range(CALLS):
        a, b = twice(x_of())
        items = loop(x_of())
        log += [f(x_of())[0] is table, g(x_of(), args) is args, a is b, items[1] is items]
    return log


@story
def keyed_by_tensors(wrap: Callable) -> Any:
    f = wrap(lambda x: {x: x * 2})
    log = []
    for k in range(CALLS):
        x = x_of(k)
        out = f(x)
        log += [next(iter(out)) is x, numbers(list(out.values()))]
    return log


@story
def stored_arguments(wrap: Callable) -> Any:
    o, p = Plain(), Plain()

    def f(x: Any) -> Any:
        o.last = x
        return x * 2

    def g(x: Any, items: list) -> Any:
        p.last = items
        return x * 2

    f, g = wrap(f), wrap(g)
    x, y, items, others = x_of(1), x_of(2), [1.0], [1.0]
    log: list = []
    for _ in range(CALLS):
        f(x), g(x, items)
    f(y), g(x, others)
    log += [o.last is y, p.last is others]
    return log


@story
def identity_of_arguments(wrap: Callable) -> Any:
    special, items = x_of(1), [1.0]
    special.tolist()
    f = wrap(lambda x: x * 2 if x is special else x * 3)
    g = wrap(lambda x, a: x * 2 if a is items else x * 3)
    h = wrap(lambda a, b: a[0] * 2 if a is b else a[0] * 3)
    log: list = []
    for _ in range(CALLS):
        log += numbers([f(x_of(2)), g(x_of(), [1.0]), h([x_of()], [x_of()])])
    a = [x_of()]
    log += numbers([f(special), g(x_of(), items), h(a, a), f(x_of(2)), f(special)])
    return log


@story
def attributes_of_tensors(wrap: Callable) -> Any:
    w, seen = x_of(1), []
    w.gain = 2.0
    f = wrap(lambda x: x * w.gain)
    log = around(f, [lambda: setattr(w, "gain", 3.0)])
    g = wrap(lambda x: x * getattr(x, "gain", 1.0))
    for k in range(8):
        x = x_of()
        if k > 4:
            x.gain = float(k)
        log.append(numbers(g(x)))

    def h(x: Any) -> Any:
        x.seen = 5
        return x * 2

    h = wrap(h)
    for _ in range(CALLS):
        x = x_of()
        h(x)
        seen.append(x.seen)
    return log, seen


@story
def layouts_of_arguments(wrap: Callable) -> Any:
    f = wrap(lambda x: (x * 2, x.stride(), x.is_contiguous(), x.storage_offset()))
    base = x_of(0, 3, 3)
    kept = [base * 1, base.t(), base[:, :3], x_of(0, 4, 3)[1:]]
    log = []
    for k in range(CALLS * 4):
        x = kept[k % 4]
        if k > CALLS * 2:
            x.tolist()
        log.append(numbers(f(x)))
    return log


@story
def views_that_have_values(wrap: Callable) -> Any:
    def f(a: Any, b: Any) -> Any:
        a.mul_(2.0)
        return a + b

    f = wrap(f)
    log: list = []
    for k in range(CALLS):
        log.append(numbers(f(x_of(k), x_of(k))))
    base = x_of(0, 3, 3)
    row = base[1]
    row.tolist()
    for _ in range(CALLS):
        log.append(numbers([f(row, x_of()), base, row]))
    for _ in range(CALLS):
        log.append(numbers([f(row, base[1]), f(base[0], row), base, row]))
    e = x_of(0, 1).expand(3)
    log.append(numbers(e))
    return log


# ---- gradients, modes, generators ----------------------------------------------------------------------------------------


@story
def gradients_by_hand(wrap: Callable) -> Any:
    w, b = x_of(1).requires_grad_(), x_of(2).requires_grad_()

    def f(x: Any) -> Any:
        with torch.no_grad():
            w.grad.mul_(0.5)
            b.grad.add_(1.0)
        return x * 2

    f = wrap(f)
    log: list = []

    def seen() -> Any:
        for _ in range(CALLS):
            f(x_of())
            log.append(numbers([w.grad, b.grad, w.grad is b.grad]))

    w.grad, b.grad = x_of(3), x_of(4)
    seen()
    w.grad = b.grad = x_of(5)
    seen()
    flat = x_of(0, 6)
    w.grad, b.grad = flat[:3], flat[3:]
    flat.tolist(), w.grad.tolist()
    seen()
    log.append(numbers(flat))
    w.grad, b.grad = flat[:3], flat[:3]
    seen()
    log.append(numbers(flat))
    w.grad, b.grad = w.detach().clone(), x_of(6)
    seen()
    return log


@story
def gradients_that_have_gradients(wrap: Callable) -> Any:
    w = x_of(1).requires_grad_()
    f = wrap(lambda x: x * w.grad)
    log: list = []
    w.grad = x_of(2)
    often(f, x_of(), log=log)
    w.grad = None
    (w**3).sum().backward(create_graph=True)
    w.grad.tolist()
    often(f, x_of(), log=log)
    return log


@story
def gradients_of_what_needs_none(wrap: Callable) -> Any:
    w = x_of(1)
    f = wrap(lambda x: x if w.grad is None else x * w.grad)
    g = wrap(lambda x: x if x.grad is None else x * x.grad)
    log: list = []
    often(f, x_of(), log=log)
    for k in range(3):
        w.grad = x_of(k)
        often(f, x_of(), log=log)
    often(g, x_of(), log=log)
    for k in range(8):
        x = x_of()
        x.grad = x_of(k)
        log.append(numbers(g(x)))
    return log


@story
def frozen_with_gradient(wrap: Callable) -> Any:
    net = nn.Linear(3, 1)
    with torch.no_grad():
        net.weight.fill_(0.5), net.bias.zero_()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.bias.requires_grad_(False)

    def f(x: Any) -> Any:
        net.weight.grad = None
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    f = wrap(f)
    log: list = []
    for grad in (None, torch.ones(1), torch.full((1,), 3.0), None):
        net.bias.grad = grad
        for _ in range(CALLS):
            log.append(numbers([f(x_of(0, 2, 3)), net.weight, net.bias]))
    return log


@story
def second_optimizer_steps_otherwise(wrap: Callable) -> Any:
    a, b = x_of(1).requires_grad_(), x_of(2).requires_grad_()
    first, second = torch.optim.Adam([a], lr=0.1), torch.optim.SGD([b], lr=0.1, momentum=0.9)

    def f(x: Any) -> Any:
        loss = (a * x).sum() + (b * x * x).sum()
        first.zero_grad()
        second.zero_grad()
        loss.backward()
        first.step()
        second.step()
        return loss.detach()

    f = wrap(f)
    log: list = []
    for momentum in (0.9, 0.0, 0.9):
        second.param_groups[0]["momentum"] = momentum
        for _ in range(CALLS):
            log.append(numbers([f(x_of()), a, b, first.steps_taken, second.steps_taken, first.state[a]["step"]]))
    return log


@story
def seeded_while_mapped(wrap: Callable) -> Any:
    def draw(u: Any) -> Any:
        torch.manual_seed(4)
        return u + torch.rand(3)

    f = wrap(lambda x: torch.func.vmap(draw, randomness="same")(x))
    log: list = []
    for _ in range(CALLS):
        log.append(numbers([f(x_of(0, 2, 3)), torch.rand(2)]))
    return log


@story
def modes_left_behind(wrap: Callable) -> Any:
    w = x_of(1).requires_grad_()

    def f(x: Any) -> Any:
        torch.set_grad_enabled(False)
        return x * w

    def g(x: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        return x * 2

    log: list = []
    f, g = wrap(f), wrap(g)
    try:
        for _ in range(CALLS):
            torch.set_grad_enabled(True)
            log += [numbers(f(x_of())), torch.is_grad_enabled()]
            torch.set_default_dtype(torch.float32)
            log += [numbers(g(x_of())), str(torch.get_default_dtype())]
    finally:
        torch.set_grad_enabled(True), torch.set_default_dtype(torch.float32)
    return log


@story
def generators_set_inside(wrap: Callable) -> Any:
    own = torch.Generator()

    def seeded(x: Any) -> Any:
        torch.manual_seed(5)
        return x + torch.rand(3)

    def only_seeded(x: Any) -> Any:
        own.manual_seed(5)
        return x * 2

    def forked(x: Any) -> Any:
        with torch.random.fork_rng():
            return x + torch.rand(3)

    def new(x: Any) -> Any:
        return x + torch.rand(3, generator=torch.Generator().manual_seed(3))

    def told(x: Any) -> Any:
        return x * 2, torch.initial_seed(), own.initial_seed()

    def restored(x: Any) -> Any:
        before = torch.get_rng_state()
        y = x + torch.rand(3)
        torch.set_rng_state(before)
        return y

    log: list = []
    for f in (wrap(seeded), wrap(only_seeded), wrap(forked), wrap(new), wrap(told), wrap(restored)):
        torch.manual_seed(1)
        for k in range(CALLS + 2):
            log.append(numbers([f(x_of()), torch.rand(2), torch.rand(2, generator=own)]))
            if k > CALLS:
                torch.manual_seed(k), own.manual_seed(k)
    return log


@story
def failures_inside(wrap: Callable) -> Any:
    w = x_of(1, 4, 3, 2)  # of a shape of its own: the message names the line that first recorded the operation
    f = wrap(lambda i: w[i] * 2)
    log: list = []
    for k in (0, 1, 2, 3, 0, 1, 9, 2):
        try:
            out = f(torch.tensor([k, 0]))
            log.append(numbers(out))
        except Exception as error:
            log.append((type(error).__name__, str(error)))
    return log


@story
def transformed(wrap: Callable) -> Any:
    f = wrap(lambda x: torch.sin(x) * x)
    log: list = []
    often(f, x_of(), log=log)
    for _ in range(CALLS):
        log.append(numbers(torch.func.jvp(f, (x_of(),), (torch.ones(3),))))
        log.append(numbers(torch.func.vmap(f)(x_of(0, 2, 3))))
        log.append(numbers(torch.func.grad(lambda x: f(x).sum())(x_of())))
        log.append(numbers(torch.func.hessian(lambda x: f(x).sum())(x_of())))
        log.append(numbers(f(x_of())))
    return log


@story
def changes_are_counted(wrap: Callable) -> Any:
    plain, viewed = torch.zeros(2, 3), torch.zeros(2, 3)
    row = viewed[0]
    log: list = []

    def f(x: Any) -> Any:
        plain.add_(x).mul_(2)
        viewed.add_(x).mul_(2)
        return (plain + viewed).sum()

    f = wrap(f)
    for _ in range(2 * CALLS):
        log.append(numbers([f(x_of()), plain, row, plain._version, viewed._version]))
    return log


@story
def memory_of_another(wrap: Callable) -> Any:
    a, base = torch.zeros(3), torch.zeros(2, 3)
    log: list = []

    def f(x: Any) -> Any:
        a.add_(x)
        return a

    f = wrap(f)
    for data in (x_of(1), base[0], base[1], x_of(2)):
        a.data = data
        base.tolist(), a.tolist()
        for _ in range(CALLS):
            log.append(numbers([f(x_of()), a, base, a[1:]]))
    return log


# ---- the compiled function itself ----------------------------------------------------------------------------------------


@story
def copies(wrap: Callable) -> Any:
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    with torch.no_grad():
        net[0].weight.fill_(0.5), net[0].bias.zero_()
    f = wrap(net)
    log: list = []
    often(f, x_of(), log=log)
    g = copy.deepcopy(f)
    with torch.no_grad():
        for p in g.parameters():
            p.mul_(2.0)
    often(f, x_of(), log=log), often(g, x_of(), log=log), often(f, x_of(), log=log)
    return log


@story
def attributes_of_a_compiled_module(wrap: Callable) -> Any:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = 2.0

        def forward(self, x: Any) -> Any:
            return x * self.gain

    f = wrap(Scaled())

    def change() -> None:
        f.gain = 3.0

    return around(f, [change, f.eval, lambda: f.register_forward_hook(lambda m, a, out: out + 1)]), f.training


@story
def compiled_in_a_class(wrap: Callable) -> Any:
    class Own:
        def __init__(self, gain: float) -> None:
            self.gain = gain

        def __call__(self, x: Any) -> Any:
            return self.scale(x)

        scale = wrap(lambda self, x: x * self.gain)

    objects = [Own(float(k)) for k in range(12)]
    log: list = []
    for o in objects * 4:
        log.append(numbers(o(x_of())))
    del objects, o
    gc.collect()
    for k in range(20):
        log.append(numbers(Own(float(k))(x_of())))
    return log


@story
def attributes_that_come_later(wrap: Callable) -> Any:
    """What the code does without, while it is not there."""

    def store() -> None:
        pass

    module = types.ModuleType("a_module_of_the_user")
    module.__file__ = os.path.join(os.sep, "somewhere", "a_module_of_the_user.py")
    cls = type("Store", (), {})

    def reading(holder: Any) -> Callable:
        def f(x: Any) -> Any:
            try:
                return x * holder.gain_of_later
            except AttributeError:
                return x

        return f

    log = []
    for holder in (store, module, cls, cls(), torch, nn.Linear, nn.Linear(2, 2), np, operator):
        try:
            log.append(around(wrap(reading(holder)), [lambda holder=holder: setattr(holder, "gain_of_later", 5.0), lambda holder=holder: delattr(holder, "gain_of_later")]))
        finally:
            if "gain_of_later" in vars(holder):
                del holder.gain_of_later
    return log


@story
def attributes_given_to_classes_of_the_library(wrap: Callable) -> Any:
    linear, log = nn.Linear(3, 3), []
    try:
        for cls, f in ((nn.Linear, lambda x: x * linear.my_gain), (torch.Tensor, lambda x: x * x.my_gain), (nn.Module, lambda x: x * linear.my_gain)):
            cls.my_gain = 2.0
            log.append(around(wrap(f), [lambda cls=cls: setattr(cls, "my_gain", 3.0)]))
            del cls.my_gain
        np.my_gain = [2.0]
        log.append(around(wrap(lambda x: x * np.my_gain[0]), [lambda: np.my_gain.__setitem__(0, 3.0), lambda: setattr(np, "my_gain", [4.0])]))
    finally:
        for holder in (nn.Linear, torch.Tensor, nn.Module, np):
            if "my_gain" in vars(holder):
                del holder.my_gain
    return log


@story
def stores_into_modules_and_classes_of_the_library(wrap: Callable) -> Any:
    """A call that gives a name a value does so again where somebody took it away, or put another there."""

    def store(holder: Any) -> Callable:
        def f(x: Any) -> Any:
            holder.my_flag = 5
            return x * 2

        return f

    log = []
    for holder in (torch, nn, nn.Linear, torch.Tensor, np):
        for taken_first in (False, True):
            f = wrap(store(holder))
            try:
                for value in (None, 6, None, 5, None):
                    if taken_first or value is not None:
                        holder.my_flag = value
                    for _ in range(CALLS):
                        if taken_first and hasattr(holder, "my_flag"):
                            del holder.my_flag
                        log.append((numbers(f(x_of())), vars(holder).get("my_flag")))
            finally:
                del holder.my_flag
    return log


@story
def methods_of_tensors_replaced(wrap: Callable) -> Any:
    known = torch.Tensor.sinh
    try:
        return around(wrap(lambda x: x.sinh() * 2), [lambda: setattr(torch.Tensor, "sinh", lambda x: x + 7), lambda: setattr(torch.Tensor, "sinh", known)])
    finally:
        torch.Tensor.sinh = known


@story
def parameters_and_tensors(wrap: Callable) -> Any:
    f, log = wrap(lambda x: x * 2 if isinstance(x, nn.Parameter) else x * 3), []
    makers = [lambda: x_of(), lambda: nn.Parameter(x_of(), requires_grad=False), lambda: x_of().requires_grad_(), lambda: nn.Parameter(x_of())]
    for first in makers:
        for second in makers:
            for make in (first, second, first):
                for _ in range(CALLS):
                    log.append(numbers(f(make())))
    g = wrap(lambda pair: pair["x"] * 2 if isinstance(pair["x"], nn.Parameter) else pair["x"] * 3)
    for make in makers:
        for _ in range(CALLS):
            log.append(numbers(g({"x": make()})))
    return log


@story
def a_class_of_tensors(wrap: Callable) -> Any:
    class Own(torch.Tensor):
        gain = 2.0

    def own() -> Any:
        t = x_of()
        t.__class__ = Own
        return t

    f, log = wrap(lambda x: x.exp() * x.gain if isinstance(x, Own) else x.exp()), []
    for gain in (2.0, 3.0):
        Own.gain = gain
        for make in (own, x_of, own):
            for _ in range(CALLS):
                log.append(numbers(f(make())))
    return log


@story
def forward_without_code_of_the_user(wrap: Callable) -> Any:
    """`forward` is called by the library, and may be a function of the library."""

    class Act(nn.Module):
        forward = staticmethod(F.relu)

    class Plain(nn.Module):
        pass

    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.note = 1

        def forward(self, x: Any) -> Any:
            return x * 1

    act, plain, noted, inherited = Act(), Plain(), Noted(), type("Sub", (Act,), {})()
    plain.forward = F.relu

    def exchange() -> None:
        del noted.note
        noted.forward = lambda x: x * 2

    return [
        around(wrap(lambda x: act(x)), [lambda: setattr(Act, "forward", staticmethod(F.silu))]),
        around(wrap(lambda x: inherited(x)), [lambda: setattr(Act, "forward", staticmethod(F.gelu)), lambda: setattr(type(inherited), "forward", staticmethod(F.relu))]),
        around(wrap(lambda x: plain(x)), [lambda: setattr(plain, "forward", F.silu), lambda: setattr(plain, "forward", F.gelu)]),
        around(wrap(lambda x: noted(x)), [exchange]),
        around(wrap(lambda x: nn.Sequential(act, plain)(x)), [lambda: setattr(plain, "forward", F.relu)]),
    ]


@story
def objects_with_memory_of_their_own(wrap: Callable) -> Any:
    class Array(np.ndarray):
        pass

    array, part = np.ones((2, 2)).view(Array), slice(0, [3])
    zeros = {0.0}
    return [
        around(wrap(lambda x: x * float(array[0, 0])), [lambda: array.__setitem__((0, 0), 5.0)]),
        around(wrap(lambda x: x * len(part.stop)), [lambda: part.stop.append(1)]),
        around(wrap(lambda x: x / next(iter(zeros))), [lambda: (zeros.clear(), zeros.add(-0.0))]),
    ]


def _views_of(y: Any) -> list:
    return [y[1:], y.view(2), y[0], y[...], y.detach(), y.data, y.t(), y[:1], y.squeeze(), y.view_as(y), y.reshape(1, 2), y.expand(2), y]


@story
def writes_through_views_of_what_is_pending(wrap: Callable) -> Any:
    """Their bases are in the trace already, and no arguments."""
    log = []
    changes: list[Callable] = [
        lambda a: a.mul_(2.0), lambda a: a.fill_(7.0), lambda a: a.view(-1)[:1].mul_(3), lambda a: a.copy_(a + 1), lambda a: (a.add_(1), a * 2)[1],
    ]  # fmt: skip
    for kind in range(len(_views_of(torch.ones(2)))):
        for change in changes:
            f = wrap(change)
            for k in range(CALLS):
                y = torch.ones(2) * k
                log.append(numbers(f(_views_of(y)[kind])))
                log.append(y.tolist())
    return log


@story
def writes_through_views_after_plain_tensors(wrap: Callable) -> Any:
    f, log = wrap(lambda a: a.mul_(2.0)), []
    for kind in range(len(_views_of(torch.ones(2)))):
        for make in (lambda y: y, lambda y, kind=kind: _views_of(y)[kind], lambda y: y.narrow_copy(0, 0, 1) if hasattr(y, "narrow_copy") else y + 0):
            for k in range(CALLS):
                y = torch.ones(2) * k
                f(make(y))
                log.append(y.tolist())
    return log


@story
def views_returned_of_views_of_what_is_pending(wrap: Callable) -> Any:
    log = []
    for returned in (lambda a: a[:1], lambda a: a.detach(), lambda a: a, lambda a: (a.view(-1), a[0])):
        f = wrap(returned)
        for kind in range(len(_views_of(torch.ones(2)))):
            for k in range(CALLS):
                y = torch.ones(2) * k
                a = _views_of(y)[kind]
                if a.dim() or returned(torch.ones(1)) is None:
                    q = f(a)
                    (q[0] if isinstance(q, tuple) else q).data.add_(10)
                    log.append(y.tolist())
    return log


@story
def gradients_that_are_in_the_trace_already(wrap: Callable) -> Any:
    """Accumulated, read, or replaced where something before the call has used them."""
    log = []

    def accumulate(x: Any) -> None:
        (x * x).sum().backward()

    def read(x: Any) -> Any:
        return x.detach() * x.grad

    def clear(x: Any) -> None:
        x.grad.zero_()

    for looks in range(3):
        f, x = wrap(accumulate), torch.ones(1).requires_grad_()
        for k in range(10):
            r = x.grad * 2 if x.grad is not None else x.detach()
            f(x)
            if looks:
                log.append((r if looks == 1 else x.grad).tolist())
        log.append(x.grad.tolist())
    for order in range(4):
        f, g, h = wrap(accumulate), wrap(read), wrap(clear)
        x = torch.ones(2).requires_grad_()
        f(x)
        for k in range(10):
            r = x.grad * 2 if order != 3 else g(x)
            f(x)
            s = g(x)
            if order == 0:
                log.append(r.tolist())
            if k % 4 == 3:
                x.grad * 3
                h(x)
            log.append([x.grad.tolist(), s.tolist()] if order < 2 or k % 3 == 2 else s.tolist())
    return log


@story
def another_tensor_in_the_place_of_a_gradient(wrap: Callable) -> Any:
    """The same steps lead to the call, but the slot that was the gradient's is another tensor's."""
    log = []
    f = wrap(lambda x: x.detach() * x.grad)
    x = torch.ones(2).requires_grad_()
    x.grad, other = torch.full((2,), 3.0), torch.full((2,), 5.0)
    x.grad.tolist(), other.tolist()
    for k in range(16):
        used = other if k % 4 == 3 else x.grad
        before = used * 2
        log.append((f(x).tolist(), before.tolist()))
    return log


@story
def numbers_kept_in_files(wrap: Callable) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path, other = os.path.join(folder, "kept.pt"), os.path.join(folder, "written.pt")
        torch.save({"scale": 2.0}, path)
        log = around(wrap(lambda x: x * torch.load(path)["scale"]), [lambda: torch.save({"scale": 5.0}, path)])

        def writes(x: Any) -> Any:
            torch.save({"scale": 1.0}, other)
            return x * 2

        f = wrap(writes)
        for _ in range(CALLS):
            f(x_of())
            log.append(os.path.exists(other))
            os.remove(other)
        return log


@story
def settings_made_in_the_call(wrap: Callable) -> Any:
    def settles(x: Any) -> Any:
        torch.set_printoptions(precision=2)
        torch.set_num_threads(before + 1)
        return x * 2

    before, log = torch.get_num_threads(), []
    f = wrap(settles)
    try:
        for _ in range(CALLS):
            f(x_of())
            log.append((repr(x_of()), torch.get_num_threads()))
            torch.set_printoptions(profile="default")
            torch.set_num_threads(before)
    finally:
        torch.set_printoptions(profile="default")
        torch.set_num_threads(before)
    return log


@story
def arguments_that_lie_in_other_ways(wrap: Callable) -> Any:
    """Pending, in memory, or in memory that NumPy sees: a view that is no view of one is not taken for the other."""
    ways: list[Callable] = [
        lambda x: x, lambda x: x.t(), lambda x: x.contiguous(), lambda x: x.t().contiguous().t(), lambda x: torch.from_numpy(x.numpy()),
        lambda x: torch.from_numpy(x.numpy()).t(), lambda x: torch.from_numpy(x.numpy())[:, :], lambda x: x[:, :1], lambda x: x.expand(2, 2), lambda x: x.clone(),
    ]  # fmt: skip
    log: list = []
    for f in (wrap(lambda x: x.view(-1)[1:3]), wrap(lambda x: x.mul_(2)), wrap(lambda x: x.reshape(-1) * 1), wrap(lambda x: x.is_contiguous() * x)):
        for first in ways:
            for way in (first, *ways, first):
                for read in (False, True):
                    base = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * 1
                    if read:
                        base.tolist()
                    a = way(base)
                    try:
                        y = f(a)
                        if y._base is not None:
                            y.mul_(3)
                        log.append([numbers(y), a.tolist(), base.tolist()])
                    except RuntimeError:
                        log.append("refused")
    return log


@story
def a_gradient_as_an_argument(wrap: Callable) -> Any:
    """The same tensor in two ways in some calls, and not in others."""
    log = []
    for orders, before in itertools.product(((0, 0, 0, 0, 1, 1, 0, 1), (1, 1, 1, 1, 1, 0, 0, 1, 0)), (False, True)):
        w, other = torch.ones(2, requires_grad=True), torch.full((2,), 3.0)

        def add(x: Any, w: Any = w) -> Any:
            (x.detach() * w).sum().backward()
            return w.grad

        def step(w: Any, g: Any) -> Any:
            with torch.no_grad():
                w.sub_(0.1 * g)
                g.mul_(0.5)
            return w.grad * 1

        def shown(x: Any, w: Any = w) -> Any:
            """Names the gradient without reading its values."""
            return x * 2, w.grad

        f, g, h = wrap(add), wrap(step), wrap(shown)

        def told(x: Any, h: Any = h) -> Any:
            twice, gradient = h(x)
            log.append(twice.tolist())
            return gradient

        for call in (f, lambda x, g=g, w=w: g(w, x), told):
            f(other)
            for order in orders * 3:
                x = w.grad if order else other
                used = x * 2 if before else w  # so that it is in the trace already
                y = call(x)
                log.append([y.tolist(), used.shape, y is w.grad, x is w.grad, w.tolist(), other.tolist(), w.grad.tolist()])
                if call is not told:
                    w.grad.clamp_(-20, 20)
    return log


@story
def number_of_threads(wrap: Callable) -> Any:
    before = torch.get_num_threads()
    try:
        return around(wrap(lambda x: x * torch.get_num_threads()), [lambda: torch.set_num_threads(before + 1)])
    finally:
        torch.set_num_threads(before)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Options:
    gain: float = 2.0
    items: list = dataclasses.field(default_factory=lambda: [1.0])


def test_ordinary_functions_are_known() -> None:
    """Refusing everything would be right, too."""
    options, net = Options(), nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
            self.options = types.SimpleNamespace(gain=2.0)

        def forward(self, x: Any, scale: float = 1.0) -> Any:
            for layer in self.layers:
                x = F.relu(layer(x)) * self.options.gain
            return x * scale

    net = torch.compile(Net())

    def several(x: Any) -> Any:
        values, indices = x.max(0)
        return Pair(values * options.gain, indices), {"a": [x + t for t in options.items]}

    def stepped(x: Any) -> Any:
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    optimizer = torch.optim.Adam(net.parameters())
    for f in (torch.compile(several), torch.compile(stepped), net, torch.compile(Net(), fullgraph=False)):
        for k in range(8):
            with torch.no_grad() if isinstance(f, nn.Module) else torch.enable_grad():
                numbers(f(x_of(k, 2, 3)))
        f = getattr(f, "_call", f)
        assert f.replays > 2 or torch.is_eager(), repr(f)


@pytest.mark.skipif(torch.is_eager(), reason="nothing is remembered in reference mode")
def test_what_a_compiled_function_was_called_with_is_not_kept_for_ever() -> None:
    f = torch.compile(lambda net, x: net(x).sum())
    models = [nn.Linear(3, 3) for _ in range(100)]
    living = [weakref.ref(m.weight) for m in models]
    for m in models:
        for _ in range(4):
            f(m, x_of()).item()
    del m, models
    x_of().tolist()
    gc.collect()
    assert sum([r() is not None for r in living]) <= 33
    del f
    gc.collect()
    assert sum([r() is not None for r in living]) <= 1


@pytest.mark.parametrize("name", STORIES)
def test_a_story_reads_the_same_with_compiled_functions(name: str) -> None:
    wanted = STORIES[name](lambda f: f)
    assert STORIES[name](torch.compile) == wanted


@pytest.mark.skipif(torch.is_eager(), reason="nothing is remembered in reference mode")
def test_a_finder_of_modules_that_runs_while_a_part_is_loaded_late_is_no_code_of_the_function(monkeypatch) -> None:
    asked = []

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            asked.append(name)

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "adjoint.codegen.sort", raising=False)
    f = torch.compile(lambda x: x.sort()[0])
    for k in range(8):
        assert f(torch.tensor([3.0, 1.0, 2.0] * 2000) + k).tolist()[0] == 1.0 + k
    assert asked and f.replays > 0, f
