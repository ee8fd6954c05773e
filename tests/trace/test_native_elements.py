"""Single numbers read and written by native code: as by Python, step for step, and nothing is kept or given up twice."""

from __future__ import annotations

import gc
import math
import random
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.runtime import jit
from adjoint.trace import elements, native, recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.state import local

pytestmark = pytest.mark.skipif(torch.is_eager() or not jit.available(), reason="every operation runs at once")

NAMES = ("item", "__getitem__", "__setitem__")


@pytest.fixture(autouse=True)
def native_methods() -> Iterator[None]:
    native.install()
    if Tensor.__dict__["item"] is recorder.operators["item"]:
        pytest.skip("this interpreter has no native recorder")
    yield


@pytest.fixture
def by_python(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Choose who reads and writes."""
    known = {name: Tensor.__dict__[name] for name in NAMES}

    def choose(python: bool) -> None:
        for name in NAMES:
            monkeypatch.setattr(Tensor, name, recorder.operators[name] if python else known[name])

    return choose


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Python is called for."""
    seen: list[str] = []
    for name in ("read", "write", "take_back"):
        known = getattr(elements, name)
        monkeypatch.setattr(elements, name, lambda *args, name=name, known=known: seen.append(name) or known(*args))
    return seen


DTYPES = [torch.float32, torch.float64, torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5,), (2, 3), (2, 1, 3), (1,), (1, 1)], ids=str)
def test_every_element_of_every_dtype(dtype: Any, shape: tuple[int, ...], by_python: Callable[[bool], None]) -> None:
    numbers = np.arange(1, 1 + math.prod(shape)).reshape(shape) % 7 - (2 if dtype not in (torch.uint8, torch.bool) else 0)
    found = []
    for python in (True, False):
        by_python(python)
        x = torch.tensor(numbers).to(dtype)
        x.tolist()
        log: list[Any] = []
        for place in np.ndindex(shape):
            at = place[0] if len(shape) == 1 else place
            log.append(x[at].item())
            for value in (3, 2.5, True, -1):
                try:
                    x[at] = value
                except (TypeError, RuntimeError, OverflowError) as error:
                    log.append(type(error))
                log.append((x[at].item(), type(x[at].item()), x._version))
        found.append((log, x.tolist()))
    assert found[0] == found[1]


NUMBERS = [
    0, -0.0, 1, -1, 2**24 - 1, 2**24, 2**24 + 1, -(2**24), 2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63, 2**200, 1e-46, 3e38, 3.5e38, 1e308, -1e308,
    math.inf, -math.inf, math.nan, True, np.float32(1.5), np.int64(3), 1.1, 1e-300,
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_numbers_at_the_edges(dtype: Any, by_python: Callable[[bool], None]) -> None:
    found = []
    for python in (True, False):
        by_python(python)
        log: list[Any] = []
        for number in NUMBERS:
            x = torch.zeros(3, dtype=dtype) + 1
            x.tolist()
            try:
                x[1] = number
                log.append(repr(x.tolist()))
            except Exception as error:
                log.append((type(error), str(error)))
        found.append(log)
    assert found[0] == found[1]


ACTIONS: list[Callable[[Any, Any], Any]] = [
    lambda x, index: x[index].tolist(), lambda x, index: x.__setitem__(index, 2.0), lambda x, index: x[index].item(), lambda x, index: x.item(),
    lambda x, index: x[2].item(3), lambda x, index: x.__setitem__(index), lambda x, index: x.__delitem__(index),
]  # fmt: skip


@pytest.mark.parametrize("index", [5, -6, 10**30, -(10**30), (0,), (1, 2), (), True, 1.0, None, "a", (1, None), (True,), np.int64(2), [1], slice(1, 2)], ids=repr)
def test_indices_that_are_not_plain(index: Any, by_python: Callable[[bool], None]) -> None:
    found = []
    for python in (True, False):
        by_python(python)
        x = torch.arange(5.0)
        x.tolist()
        log: list[Any] = []
        for action in ACTIONS:
            try:
                log.append(action(x, index))
            except Exception as error:
                log.append(type(error))
        found.append((log, x.tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("index", [2**70, -(2**70), 2**63, -(2**63) - 1, 2**64 - 1, 5, -6, 2**31, -1, -(2**63)], ids=repr)
def test_writes_at_places_that_are_not_there(index: int, by_python: Callable[[bool], None]) -> None:
    """Into memory that nothing else refers to, so that nothing but the place stands in the way."""
    found = []
    for python in (True, False):
        by_python(python)
        log: list[Any] = []
        for shape, place in (((5,), index), ((2, 3), (index, 1)), ((2, 3), (0, index)), ((2, 3), (-1, index))):
            x = torch.zeros(shape)
            x.tolist()
            try:
                x[place] = 7.0
            except IndexError as error:
                log.append(str(error))
            log.append(x.tolist())
        found.append(log)
    assert found[0] == found[1]


def test_loops_need_no_python(handed: list[str]) -> None:
    x, matrix = torch.arange(40.0), torch.arange(12.0).reshape(3, 4).clone()
    x.tolist(), matrix.tolist()
    for _ in range(3):
        handed.clear()
        assert [x[i].item() for i in range(40)] == list(range(40))
        y = torch.zeros(40)
        y.tolist()
        for i in range(40):
            y[i] = float(i)
        for i in range(3):
            for j in range(4):
                matrix[i, j - 4] = i * j
        total = (x * 2).sum().item()
    assert "write" not in handed and len(handed) < 3
    assert y.tolist() == x.tolist() and total == 2 * sum(range(40)) and matrix[2].tolist() == [0, 2, 4, 6]


def test_a_view_that_was_read_is_replayed_when_its_base_has_changed() -> None:
    x = torch.arange(6.0)
    x.tolist()
    for turn in range(40):
        views = [x[i] for i in range(6)]
        assert [v.item() for v in views] == x.tolist()
        kept = x[3]
        assert kept.item() == x.tolist()[3]
        x[3] = float(turn)
        assert kept.item() == turn and (kept + 1).item() == turn + 1
        x.add_(1)
        assert kept.item() == turn + 1 and [v.item() for v in views] == x.tolist()


def test_a_view_on_the_way_that_is_held_stays_where_it_is() -> None:
    x = torch.arange(6.0)
    x.tolist()
    for turn in range(6):
        part = x[turn : turn + 1]
        element = part.reshape(())
        assert element.item() == turn
        other = x + 10
        assert (part * 2).tolist() == [2 * turn] and other.tolist() == [10, 11, 12, 13, 14, 15] and (element + 1).item() == turn + 1
    matrix = x.reshape(2, 3).clone()
    matrix.tolist()
    for _ in range(3):
        row = matrix[1]
        assert row[2].item() == 5 and (row * 1).tolist() == [3, 4, 5]


def test_more_living_views_than_are_kept_in_mind() -> None:
    """The entries of views that died are cleared away, those of the living stay."""
    x = torch.arange(200.0)
    x.tolist()
    held = [x[i] for i in range(0, 200, 2)]
    for _ in range(3):
        assert [v.item() for v in held] == list(range(0, 200, 2))
        for i in range(200):
            assert x[i].item() == i
    x.mul_(2)
    assert [v.item() for v in held] == list(range(0, 400, 4))
    del held
    for _ in range(50):
        x[0].item()
        x[1] = 3.0
    assert x._views is None or len(x._views.stale) + len(x._views.fresh) < 80


def test_memory_that_others_count_on_is_not_written() -> None:
    x = torch.arange(4.0)
    x.tolist()
    later = x * 2  # pending: it wants the value that x has now
    x[1] = 50.0
    assert later.tolist() == [0, 2, 4, 6] and x.tolist() == [0, 50, 2, 3]
    array = x.numpy()
    x[2] = 60.0
    assert array.tolist() == [0, 50, 60, 3]
    array[3] = 70.0
    assert x[3].item() == 70 and x.tolist() == [0, 50, 60, 70]
    del array
    alias, w = x.detach(), torch.ones(4, requires_grad=True)
    loss = (w * x).sum()
    loss.item()
    x[0] = -1.0
    assert alias.tolist() == [-1, 50, 60, 70]
    loss.backward()
    assert w.grad.tolist() == [0, 50, 60, 70]
    with pytest.raises(RuntimeError, match="leaf"):
        w[0] = 2.0
    with torch.no_grad():
        w[0] = 2.0
    assert w.tolist() == [2, 1, 1, 1] and w.requires_grad
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    given = torch.from_numpy(frozen.copy())
    given[1] = 9.0
    assert given.tolist() == [0, 9, 2]


def test_subclasses_and_threads_and_modes_go_the_long_way() -> None:
    class Own(torch.Tensor):
        pass

    t = torch.arange(3.0)
    t.tolist()
    t.__class__ = Own
    assert t[1].item() == 1
    t[1] = 4.0
    assert t.tolist() == [0, 4, 2]
    with torch.eager():
        x = torch.arange(3.0)
        x[0] = 5.0
        assert x[0].item() == 5 and x.sum().item() == 8


def program(seed: int) -> tuple[list, list]:
    """What is seen along a random loop, and how the trace stands after each of its steps."""
    choose = random.Random(seed)
    rng = np.random.default_rng(seed)
    shapes = [(4,), (2, 3), ()]
    truth = [rng.integers(-3, 4, s).astype(d) for s, d in zip(shapes, ("float32", "int64", "float64"), strict=True)]
    tensors = [torch.tensor(t) for t in truth]
    [t.tolist() for t in tensors]
    seen: list[Any] = []
    state: list[Any] = []
    views: list[tuple[Any, int, Any]] = []
    pending: list[tuple[Any, Any]] = []
    arrays: list[tuple[Any, int]] = []
    for _ in range(60):
        k = choose.randrange(2)
        place = tuple(choose.randrange(-n, n) for n in shapes[k])
        at: Any = place[0] if len(place) == 1 else place
        act = choose.choice("read read write write view use look hold whole array drop step row".split())
        if act == "read":
            seen.append((tensors[k][at].item(), truth[k][at].item()))
        elif act == "row" and k == 1:
            seen.append((tensors[1][place[0]][place[1]].item(), truth[1][place].item()))
        elif act == "write":
            number = choose.choice([0, 1, 2.5, -4])
            if k == 1:
                number = int(number)
            tensors[k][at] = number
            truth[k][at] = number
        elif act == "view":
            views.append((tensors[k][at], k, at))
        elif act == "look" and views:
            v, j, where = choose.choice(views)
            seen.append((v.item(), truth[j][where].item()))
        elif act == "use" and views:
            v, j, where = choose.choice(views)
            seen.append(((v * 3 + 1).item(), (truth[j][where] * 3 + 1).item()))
        elif act == "hold":
            pending.append((tensors[k] * 2, truth[k] * 2))
        elif act == "whole":
            tensors[k].add_(1)
            truth[k] += 1
        elif act == "array":
            arrays.append((tensors[k].numpy(), k))
        elif act == "drop":
            del views[:1], pending[:1], arrays[:1]
        elif act == "step":
            for t, wanted in pending:
                seen.append((t.tolist(), wanted.tolist()))
            seen.append((tensors[2].item(), truth[2].item()))
        for a, j in arrays:
            seen.append((a.tolist(), truth[j].tolist()))
        tr = local.trace
        state.append((tr.node.depth, len(tr.inputs), len(tr.buffers), len(tr.scalars), sum(len(v.recent) for v in tr.viewed)))
    for v, j, where in views:
        seen.append((v.item(), truth[j][where].item()))
    seen += [(t.tolist(), w.tolist()) for t, w in zip(tensors, truth, strict=True)]
    return seen, state


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_random_loops(start: int, by_python: Callable[[bool], None]) -> None:
    """Several times each way, since what is known at a place of the trie decides how many steps and views there are."""
    for seed in range(start, start + 50):
        by_python(True)
        for _ in range(3):
            seen, state = program(seed)
            assert all(repr(a) == repr(b) for a, b in seen), seed
        by_python(False)
        for _ in range(2):
            found, now = program(seed)
            assert found == seen, seed
        assert now == state, seed


def test_nothing_is_kept_and_nothing_given_up_twice(nothing_drifts: Callable) -> None:
    x, y, m = torch.arange(30.0), torch.arange(30), torch.arange(6.0).reshape(2, 3).clone()
    x.tolist(), y.tolist(), m.tolist()

    def run() -> None:
        held = [x[i] for i in range(5)]
        for i in range(30):
            x[i].item(), y[i].item()
            y[i] = i
        for v in held:
            v.item()
        m[1, 2] = 4.0
        m[1, 2].item(), (x + 1).sum().item(), x.sum().item()
        for wrong in (lambda: x[30], lambda: x.item(), lambda: y.__setitem__(0, 2**70), lambda: m.__setitem__((0, 5), 1.0)):
            with pytest.raises((IndexError, RuntimeError, OverflowError)):
                wrong()

    for _ in range(10):
        run()
    nothing_drifts(run, [None, False, True, (), 0, 7, local.trace.root(), x, x._data, x._data.mem, x._aval, x._views, y, m, y._data, m._data, weakref.ref])


def test_collections_in_the_middle() -> None:
    """Finalizers that record, read and write at any time; thresholds so low that every object made starts a collection."""
    x = torch.arange(20.0)
    x.tolist()
    ran = [0]

    class Late:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            ran[0] += 1
            (x[3] * 2).item()
            torch.ones(2).add(ran[0]).tolist()

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for k in range(60):
            Late()
            views = [x[i] for i in range(4)]
            assert [v.item() for v in views] == [0, 1, 2, 3]
            assert [x[i].item() for i in range(20)] == list(range(20))
            y = torch.zeros(4)
            y.tolist()
            y[k % 4] = float(k)
            assert y.sum().item() == k
    finally:
        gc.set_threshold(*before)
    assert ran[0] > 20
