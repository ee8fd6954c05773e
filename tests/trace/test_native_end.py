"""Traces that native code ends: the same values, counts and references as those that Python ends, or Python ends them."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.runtime import jit, pool, tally
from adjoint.runtime.memory import Buffer
from adjoint.runtime.program import Program
from adjoint.trace import bounds, native, native_end, recorder
from adjoint.trace.state import local

pytestmark = pytest.mark.skipif(torch.is_eager() or not jit.available(), reason="every operation runs at once")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many traces native code was asked by Python to end, and how many it ended in all."""
    native.install()
    if recorder._settle is None:
        pytest.skip("this interpreter has no native recorder")
    known = recorder._settle

    class Counts(list[int]):
        def __getitem__(self, k: Any) -> Any:
            return super().__getitem__(0) if k == 0 else int(tally.words[tally.ENDED]) - super().__getitem__(1)

    counts = Counts([0, int(tally.words[tally.ENDED])])

    def counted(t: Any) -> bool:
        list.__setitem__(counts, 0, counts[0] + 1)
        return known(t)

    monkeypatch.setattr(recorder, "_settle", counted)
    torch.zeros(1).add(1).item()
    yield counts


def numbers(*shape: int, seed: int = 0) -> Any:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


X, Y = numbers(5, 6), numbers(5, 6, seed=1)
LONG = numbers(700, 800)
BIG = numbers(9, 8, seed=2)


def several() -> Any:
    """Results that live, results that nobody holds any more, and one that dies early."""
    a = X * 2
    b = a + Y
    del a
    c, d = b.sin(), b.cos()
    del b
    return c.tolist(), (d * 1).sum().item(), c.sum().item()


def parts() -> Any:
    values, places = X.sort(1)
    return values.tolist(), places.tolist()


def lists() -> Any:
    kept = [X + k for k in range(4)]
    kept[1:3] = []
    return [k.tolist() for k in kept]


def errors() -> Any:
    found = []
    for k in (1, 90, 2):
        try:
            found.append((LONG[torch.tensor([k, 700 if k == 90 else 0])] * 2).sum().item())
        except IndexError as error:
            found.append(str(error).partition(" (")[0])
    return found


def numbers_of_all_kinds() -> Any:
    whole = torch.arange(5)
    return (X * 0.5 - 3).sum().item(), (whole * 3 + 1).tolist(), ((whole - 1) // 2).sum().item(), (X > 0).sum().item()


def without_gradient() -> Any:
    w = X.clone().requires_grad_()
    with torch.no_grad():
        a = (w * 2).sum().item()
        b = (w + Y).tolist()
    return a, b, torch.is_grad_enabled(), (w * 2).requires_grad


def other_dtype() -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        return (torch.ones(3) / 3).tolist(), str((torch.ones(2) + 1).dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def views_of_results() -> Any:
    """Of a result that nobody holds but they, which are dead at the end; of one that is held; of views of it."""
    a, b = X * 2, X + 3
    total = torch.stack([a[1], a[2, 1:].sum() + a[3], b[0], b.t()[2][:1] * b[4]])
    del a
    return total.sum().item(), b.tolist()


CASES: dict[str, Callable[[], Any]] = {
    "a number": lambda: (X * Y).sum().item(),
    "an array": lambda: (X.exp() / Y).numpy().tolist(),
    "several": several,
    "parts of several results": parts,
    "holes": lists,
    "transposed copy": lambda: X.t().contiguous().tolist(),
    "views of views": lambda: (X.t()[1:4].t() + 1).tolist(),
    "views of several tensors": lambda: [(X[3, 1:4] + Y[:, 2][:3] + BIG.t()[0, :3]).tolist(), (X[:, 0] @ Y[1, 1:]).item(), X[1, 2].item()],
    "views of results": views_of_results,
    "large": lambda: [(LONG * 2).sum(0).tolist(), LONG.t().contiguous()[3].tolist()],
    "many threads' work": lambda: (LONG @ LONG.t()).sum().item(),
    "errors": errors,
    "numbers": numbers_of_all_kinds,
    "without gradient": without_gradient,
    "another default": other_dtype,
    "nothing": lambda: X[:0].sum().item(),
    "truth": lambda: [bool((X > 10).any()), int((X > 0).sum()), float(X.max())],
}
PYTHON = {"parts of several results"}  # several results of one step have to be picked apart


@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name: str, settled: list[int]) -> None:
    run = CASES[name]
    before = run()
    for _ in range(6):
        assert run() == before
    if name not in PYTHON:
        assert settled[1] > 0


def counted(run: Callable[[], Any], times: int) -> dict[str, int]:
    before = torch.stats()
    for _ in range(times):
        run()
    after = torch.stats()
    return {k: after[k] - before[k] for k in ("operations", "flushes", "traces", "programs", "nodes", "runs", "bytes_moved")}


@pytest.mark.parametrize("name", [n for n in CASES if n != "errors"])
def test_the_same_counts(name: str, settled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    run = CASES[name]
    counted(run, 6)
    natively = counted(run, 5)
    if name not in PYTHON:
        assert settled[1] > 0
    monkeypatch.setattr(recorder, "_settle", None)
    assert counted(run, 5) == natively


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_kept_and_nothing_given_up_twice(name: str, nothing_drifts: Callable) -> None:
    run = CASES[name]
    for _ in range(8):
        run()
    nothing_drifts(run, [None, False, True, (), local.trace.root(), X._aval, X, X._data, X._data.mem, recorder.flush, torch.Tensor])


def test_an_update_in_place_ends_at_the_same_place(settled: list[int]) -> None:
    """`z += 1` records what `w = z + 1` does, and then `z` stands for what `w` would: both ways, in both orders."""

    def plain() -> Any:
        z = X * 2
        w = z + 1
        del w
        return z.tolist()

    def updated() -> Any:
        z = X * 2
        z += 1
        return z.tolist()

    wanted = (X.numpy() * 2).tolist(), (X.numpy() * 2 + 1).tolist()
    for first, second in ((plain, updated), (updated, plain)):
        bounds.sweep(0, 0)
        results = [[f() for _ in range(5)] for f in (first, second, first, second)]
        assert results == [[wanted[f is updated]] * 5 for f in (first, second, first, second)]
    assert settled[1] > 0


def test_dead_views_keep_no_base(settled: list[int]) -> None:
    """A result of which only views are left that nobody holds is as dead as they are; one that is held besides is not."""
    for _ in range(3):
        views_of_results()
    before = settled[1]
    wanted = views_of_results()
    assert settled[1] == before + 1
    kept = []
    for k in range(6):
        a = X * float(k)
        kept.append(a)
        total = (a[1] + a[2]).sum().item()
        assert abs(total - float(((X.numpy()[1] + X.numpy()[2]) * k).sum())) < 1e-4
        del a
    for k, a in enumerate(kept):
        np.testing.assert_array_equal(a.tolist(), X.numpy() * np.float32(k))
    assert views_of_results() == wanted


def test_a_compiled_function_gives_results_in_its_own_order(settled: list[int]) -> None:
    def both(x: Any) -> Any:
        a, b = x * 2, x * 3
        return b, a

    fast = torch.compile(both)
    for f in (both, fast, both, fast):
        for _ in range(6):
            b, a = f(X + 1)
            np.testing.assert_array_equal(a.tolist(), ((X.numpy() + 1) * 2).tolist())
            np.testing.assert_array_equal(b.tolist(), ((X.numpy() + 1) * 3).tolist())
    assert settled[1] > 0


def test_held_results_change_who_ends_the_trace(settled: list[int]) -> None:
    """The same operations with other tensors alive each time; an Ending is replaced a few times, not for ever."""
    kept: list[Any] = []

    def run(pattern: int) -> list[float]:
        made = [X * 1.5]
        for k in range(4):
            made.append(made[-1] + Y)
            if pattern >> k & 1:
                kept.append(made[-2])
            made[-2] = made[-1]
        return [made[-1].sum().item()]

    wanted = run(0)
    random = np.random.default_rng(0)
    for pattern in [0, 0, 0, 5, 5, 5, 15, 15, 15, *random.integers(0, 16, 60).tolist()]:
        kept.clear()
        assert run(pattern) == wanted
        values = [t.sum().item() for t in kept]
        wide, found = X.numpy().astype(np.float64) * 1.5, []
        for k in range(4):
            if pattern >> k & 1:
                found.append(wide.sum())
            wide = wide + Y.numpy()
        np.testing.assert_allclose(values, found, rtol=1e-4, atol=1e-3)
    assert settled[1] > 0
    made = [s.end.made for s in bounds._all_steps() if isinstance(s.end, native_end.Ending)]
    assert made and max(made) <= native_end.CHANGES


REFUSED: dict[str, Callable[[], Any]] = {
    "a held view": lambda: (lambda v: [(X * 2).sum().item(), v.tolist()])((X + 1)[1:3]),
    "an update": lambda: (lambda z: [z.add_(1), z.sum().item(), z.tolist()][1:])(X.clone() * 1),
    "an update of memory that is there": lambda: (X.add_(0), X.sum().item())[1],
    "a gradient": lambda: (X.clone().requires_grad_() * 2).sum().item(),
    "a backward": lambda: (lambda w: ((w * w).sum().backward(), w.grad.tolist())[1])(X.clone().requires_grad_()),
    "a detached result": lambda: (lambda d: [d.item(), (X * 2).sum().item()])((X.clone().requires_grad_() * 2).sum().detach()),
}


@pytest.mark.parametrize("held", range(6))
@pytest.mark.parametrize("keep", [lambda t: t, lambda t: t.numpy(), lambda t: t.numpy()[1:3]], ids=["tensors", "arrays", "parts"])
def test_memory_in_use_is_not_given_again(held: int, keep: Callable[[Any], Any], settled: list[int]) -> None:
    """As many of the last results are held, in one way or another, as there are sets kept ready, fewer, or more."""
    kept: list[Any] = []
    begun = settled[1]
    for k in range(60):
        first, second = X * float(k), Y + float(k)
        kept.append((k, keep(first), keep(second)))
        del first, second
        del kept[: max(0, len(kept) - held)]
        for n, a, b in kept:
            part = slice(1, 3) if len(a) == 2 else slice(None)
            assert np.array_equal(np.asarray(a), (X.numpy() * np.float32(n))[part])
            assert np.array_equal(np.asarray(b), (Y.numpy() + np.float32(n))[part])
    if held:
        assert settled[1] - begun > 40


def test_memory_that_is_ready_needs_no_search(settled: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that lets go of its results, or of all but the last, finds memory for them without Python."""
    last: Any = None
    asked: list[Any] = []
    for known in (False, True):
        if known:
            monkeypatch.setattr("adjoint.runtime.memory.getrefcount", lambda o: asked.append(o) or sys.getrefcount(o))
        for k in range(20):
            last = X * float(k)
            assert last.numpy()[0, 0] == X.numpy()[0, 0] * np.float32(k)
    assert settled[1] > 20 and not [o for o in asked if type(o) is Buffer]


@pytest.mark.parametrize("name", REFUSED)
def test_what_python_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = REFUSED[name]
    natively = [run() for _ in range(8)]
    monkeypatch.setattr(recorder, "_settle", None)
    assert [run() for _ in range(8)] == natively


def test_who_watches_sees_every_program(settled: list[int]) -> None:
    run = CASES["a number"]
    wanted = [run() for _ in range(5)]
    before = settled[1]
    with torch.profiler.profile() as prof:
        assert [run() for _ in range(5)] == wanted
    assert settled[1] == before and len([e for e in prof.events() if e.kind == "program"]) == 5
    run()
    assert settled[1] == before + 1


def test_finalizers_that_compute(settled: list[int]) -> None:
    """What is given up at the end of a trace may run anything, at any collection, too."""
    log: list[float] = []

    class Cycle:
        pass

    def run() -> float:
        a = X * 3
        b = a + 1
        weakref.finalize(a, lambda: log.append((Y * 2).sum().item()))
        loop = Cycle()
        loop.me, loop.tensor = loop, a  # type: ignore[attr-defined]
        weakref.finalize(loop, lambda: log.append((Y - 1).sum().item()))
        del a, loop
        return b.sum().item()

    wanted = run()
    threshold = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        for _ in range(300):
            assert run() == wanted
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert settled[1] > 0 and len(log) == 602
    assert sorted(set(log)) == sorted({(Y * 2).sum().item(), (Y - 1).sum().item()})


def test_what_is_recorded_while_a_program_runs_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a finalizer that computes and does not read: it is no part of the program, and not lost with the trace."""
    monkeypatch.setattr(recorder, "_settle", None)
    run, late = Program.run, []

    def interrupted(self: Program, buffers: list, scalars: list) -> list:
        out = run(self, buffers, scalars)
        if not late:
            late.append(Y - 2)
        return out

    wanted = (X * 5 + 1).sum().tolist()
    monkeypatch.setattr(Program, "run", interrupted)
    assert (X * 5 + 1).sum().tolist() == wanted and late
    np.testing.assert_array_equal(late[0].tolist(), Y.numpy() - 2)


def test_a_held_view_of_another_tensor_is_kept(settled: list[int]) -> None:
    for held in (False, True, False, True):
        for _ in range(6):
            v, w = X[1], Y[:, 1]
            total = (v.sum() + w.sum()) * 3
            if not held:
                del v, w
            total.item()
            if held:
                X[1, 2] += 1
                Y[2, 1] -= 1
                assert v.tolist() == X.tolist()[1] and w.tolist() == [row[1] for row in Y.tolist()]
                X[1, 2] -= 1
                Y[2, 1] += 1


def test_a_held_view_leaves_the_way_open_for_others(settled: list[int]) -> None:
    """Where a view was held once, traces that end there without one are native all the same."""
    for held in (True, False):
        for _ in range(4):
            v = X[1:3]
            total = (v * 1.25).sum()
            if not held:
                del v
            assert total.item() == pytest.approx((X.numpy()[1:3] * 1.25).sum(), rel=1e-5)
        if held:
            before = settled[1]
    assert settled[1] > before


def test_other_threads_record_while_a_long_program_runs(settled: list[int]) -> None:
    """The interpreter's lock is free then; each thread has its own trace, and one at a time the native way."""
    wanted = (X * Y).sum().item(), (LONG @ LONG.t()).sum().item()
    wrong: list[Any] = []

    def work(which: int) -> None:
        for _ in range(40):
            got = (LONG @ LONG.t()).sum().item() if which % 2 else (X * Y).sum().item()
            if got != wanted[which % 2]:
                wrong.append((which, got))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    work(1)
    for t in threads:
        t.join()
    assert not wrong and settled[0] > 0


def test_workers_are_started(settled: list[int]) -> None:
    run = lambda: (LONG @ LONG.t()).sum().item()  # noqa: E731
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = [run() for _ in range(4)]
        pool.stop()
        before_that = settled[1]
        assert [run() for _ in range(2)] == wanted[:2]
        assert settled[1] - before_that == 2 and pool._workers
    finally:
        torch.set_num_threads(before)


def test_forgotten_places_are_ended_by_python_again(settled: list[int]) -> None:
    run = CASES["several"]
    wanted = [run() for _ in range(5)]
    bounds.sweep(0, 0)
    assert [run() for _ in range(5)] == wanted
    assert settled[1] > 0


def test_native_runs_count_as_uses() -> None:
    for _ in range(6):
        (X * Y - 17).sum().item()
    program = torch.why(1)[0].program if torch.why(1) else None
    ended = [s for s in bounds._all_steps() if isinstance(s.end, native_end.Ending)]
    newest = max(ended, key=lambda s: s.end.program.last_use()).end.program
    before, used = newest.last_use(), newest.uses()
    (X * Y - 17).sum().item()
    assert newest.uses() == used + 1 and newest.last_use() > before
    assert program is None or program.uses() >= 0


def into(a: Any, number: Any) -> Any:
    a += number
    return a


def part(a: Any, number: Any) -> Any:
    a[1:, 2] = number
    return a


def test_random_programs(settled: list[int]) -> None:
    """Programs of random operations, also in place, and parts; held and dropped results, read here and there; four times
    with other numbers, and with operations in and out of place exchanged, which record the same."""
    functions: list[Callable[..., Any]] = [
        lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * 0.25, lambda a, b: abs(a), lambda a, b: a * 0.5,
        lambda a, b: -b, lambda a, b: a.T.T, lambda a, b: a + 1.0, lambda a, b: into(a, 1.0), lambda a, b: into(a, 1.0),
        lambda a, b: into(a + 0, b), lambda a, b: part(a, 0.5), lambda a, b: a[1:2] + b,
    ]  # fmt: skip
    for seed in range(120):
        random = np.random.default_rng(seed)
        steps = [(int(random.integers(len(functions))), *random.integers(0, 64, 2).tolist(), random.random()) for _ in range(12)]
        for attempt in range(6):
            if attempt == 3:  # out of place in place of in place, and back
                steps = [({7: 8, 8: 7}.get(k, k), i, j, chance) for k, i, j, chance in steps]
            start = [random.integers(-4, 5, (3, 4)).astype(np.float64) for _ in range(2)]

            def run(values: list[Any], read: Callable[[Any], Any], steps: list = steps) -> list[Any]:
                values, out = list(values), []
                for k, i, j, chance in steps:
                    values.append(functions[k](values[i % len(values)], values[j % len(values)]))
                    if chance < 0.2:
                        out.append(read(values[-1]))
                    if chance > 0.7 and len(values) > 3:
                        values.pop(i % len(values))
                return [*out, *map(read, values)]

            got = run([torch.tensor(v) for v in start], lambda t: t.tolist())
            assert got == run(start, lambda a: np.asarray(a).tolist()), seed
    assert settled[1] > 120
