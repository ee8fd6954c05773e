"""Buffers: alignment, recycling exactly when nobody can see the memory, bounded free memory."""

from __future__ import annotations

import random
import sys
import threading
import weakref

import numpy as np
import pytest

from adjoint.runtime import memory
from adjoint.runtime.memory import Buffer, allocate, size_class, stats, trim

pytestmark = pytest.mark.any_mode


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    """A pool of its own, so that what other tests left in the real one does not count."""
    monkeypatch.setattr(memory, "_rings", {})
    monkeypatch.setattr(memory, "_by_size", {})
    monkeypatch.setattr(memory, "_kept", weakref.WeakSet())
    monkeypatch.setattr(memory, "_total", 0)
    monkeypatch.setattr(memory, "_check_at", memory._FREE_LIMIT)


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 513, 1025, 4097, 1 << 15, (1 << 20) + 1])
def test_aligned_and_large_enough(nbytes: int) -> None:
    buffers = [allocate(nbytes) for _ in range(10)]
    for buffer in buffers:
        assert buffer.ptr % memory.ALIGNMENT == 0
        assert buffer.nbytes >= nbytes and buffer.mem.nbytes == buffer.nbytes
        assert buffer.ptr == buffer.mem.ctypes.data
    starts = sorted((b.ptr, b.nbytes) for b in buffers)
    assert all(p + n <= q for (p, n), (q, _) in zip(starts, starts[1:], strict=False))


def test_size_classes_are_multiples_of_a_line_with_little_waste() -> None:
    for nbytes in [*range(1, 3000), *(int(1.37**i) for i in range(27, 100))]:
        capacity = size_class(nbytes)
        assert capacity >= nbytes and capacity % 64 == 0
        assert capacity <= max(nbytes + 64, nbytes * 1.126)
        assert size_class(capacity) == capacity


@pytest.mark.parametrize("nbytes", [40, 3_000_000])
def test_memory_returns_when_the_buffer_is_dropped(nbytes: int) -> None:
    buffer = allocate(nbytes)
    address = buffer.ptr
    other = allocate(nbytes)
    assert other.ptr != address
    del buffer
    assert address in {allocate(nbytes).ptr for _ in range(4)}


def test_not_while_an_array_sees_it() -> None:
    buffer = allocate(400)
    address = buffer.ptr
    view = buffer.array(np.float32, (10, 10))[2:, ::3].T
    del buffer
    held = [allocate(400) for _ in range(20)]
    assert address not in {b.ptr for b in held}
    del view
    held += [allocate(400) for _ in range(20)]
    assert address in {b.ptr for b in held}


def test_steady_use_allocates_nothing() -> None:
    def step() -> None:
        values = [allocate(n) for n in (100, 100, 5000, 2 << 20)]
        values[0] = allocate(100)

    for _ in range(5):
        step()
    before = stats()["allocations"]
    for _ in range(50):
        step()
    assert stats()["allocations"] == before


def test_stats_count_live_and_free() -> None:
    before = stats()
    kept = [allocate(1000) for _ in range(5)]
    dropped = [allocate(1000) for _ in range(3)]
    del dropped
    after = stats()
    assert after["live_buffers"] - before["live_buffers"] == 5
    assert after["live_bytes"] - before["live_bytes"] == 5 * 1024
    assert after["pooled_buffers"] - before["pooled_buffers"] == 3
    assert trim() >= 3 * 1024
    assert stats()["pooled_buffers"] == 0 and stats()["live_buffers"] >= len(kept)


def test_free_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(memory, "_FREE_LIMIT", 1 << 20)
    monkeypatch.setattr(memory, "_CHECK_STEP", 1 << 18)
    monkeypatch.setattr(memory, "_check_at", 0)
    for i in range(400):  # every size its own class, each dropped at once
        allocate(60_000 + 8192 * (i % 97))
        assert stats()["pooled_bytes"] <= 6 << 20
    assert stats()["pooled_bytes"] > 0


def test_from_array_copies_and_wrap_shares() -> None:
    source = np.arange(12.0).reshape(3, 4)
    copy = Buffer.from_array(source.T)
    assert np.array_equal(copy.array(np.float64, (4, 3)), source.T)
    shared = Buffer.wrap(source)
    shared.array(np.float64, (12,))[5] = -1.0
    assert source[1, 1] == -1.0 and shared.ptr == source.ctypes.data
    assert copy.array(np.float64, (4, 3))[1, 1] == 5.0
    with pytest.raises(ValueError, match="C-contiguous"):
        Buffer.wrap(source.T)


def test_wrap_keeps_the_memory_alive_and_takes_odd_shapes() -> None:
    buffer = Buffer.wrap(np.full(1000, 7, np.int16))
    assert (buffer.array(np.int16, (1000,)) == 7).all()
    assert Buffer.wrap(np.array(2.5)).array(np.float64, ()) == 2.5
    assert Buffer.wrap(np.empty((0, 3))).nbytes == 0
    assert Buffer.from_array(np.empty((0, 3), bool)).array(bool, (0, 3)).shape == (0, 3)


def test_too_small_a_buffer_is_refused() -> None:
    with pytest.raises(TypeError):
        allocate(64).array(np.float64, (9,))


def test_no_buffer_is_given_to_two_threads() -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        held: list[tuple[Buffer, np.ndarray]] = []
        for i in range(3000):
            buffer = allocate(256)
            view = buffer.array(np.int64, (32,))
            view[:] = number * 10_000 + i
            held.append((buffer, view))
            if len(held) > i % 7:
                oldest, seen = held.pop(0)
                if not (seen == seen[0]).all() or seen[0] // 10_000 != number:
                    failures.append(f"thread {number} finds {seen[:3]} in {oldest}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_set_leaves_true_counts(monkeypatch, error: type[BaseException], at: int) -> None:
    """Every buffer stays in one ring or set, and `pooled` says so, wherever getting a set of buffers stops."""
    outputs = memory.Outputs([64, 256, 64])
    kept = [outputs.allocate() for _ in range(3)]
    requests = 0

    def stopping(nbytes: int) -> Buffer:
        nonlocal requests
        requests += 1
        if requests == at:
            raise error
        return allocate(nbytes)

    for _ in range(2):
        requests = 0
        with monkeypatch.context() as patch:
            patch.setattr(memory, "allocate", stopping)
            with pytest.raises(error):
                outputs.allocate()
        kept.append(outputs.allocate())
    outputs.sets.pop()
    refer = [b for ring in memory._rings.values() for b in ring] + [b for s in outputs.sets for b in s]
    assert len({id(b) for b in refer}) == len(refer), "a buffer is in one ring, or in one set"
    assert all(b.pooled == 1 for b in refer)
    assert {id(b) for out in kept for b in out} <= {id(b) for b in refer}


def test_free_buffers_among_many_are_taken_without_a_search(monkeypatch) -> None:
    """A program whose results are kept takes other memory for them, from anywhere in its ring."""
    monkeypatch.setattr(memory._Ring, "index", lambda *_: pytest.fail("searched"))
    held = [allocate(64) for _ in range(300)]
    del held[::2]
    outputs = memory.Outputs([64, 64])
    kept = [outputs.allocate() for _ in range(100)]
    buffers = [b for out in kept for b in out] + held
    assert len({int(b) for b in buffers}) == len(buffers)
    assert stats()["live_buffers"] >= len(buffers)


@pytest.mark.parametrize("meanwhile", ["an interrupt", "a collection"])
def test_a_buffer_leaves_its_ring_whatever_comes_between(monkeypatch, meanwhile: str) -> None:
    """In use or not, a buffer that says it is pooled is in the pool; one that leaves gives its place to another."""
    monkeypatch.setattr(memory, "_lock", threading.RLock())  # which tracing may interrupt between its release and `with`
    code, line, came = memory._Ring.take_out.__code__, 0, True
    ring, others = memory._ring_for(64), []

    def watch(frame, event, _):
        nonlocal came, passed
        if frame.f_code is not code:
            return None
        if event == "line":
            passed += 1
            if passed == line:
                came = True
                if meanwhile == "an interrupt":
                    raise KeyboardInterrupt
                others.append(Buffer(1 << 20, 64, np.zeros(64, np.uint8)))
                others[-1].pooled = 1
                ring.add(others[-1])
        return watch

    while came:
        ring.clear()
        others.clear()
        line, passed, came = line + 1, 0, False
        held = [allocate(64) for _ in range(4)]
        free = held.pop(1)
        before = sys.gettrace()
        sys.settrace(watch)
        try:
            ring.take_out(free)
        except KeyboardInterrupt:
            pass
        else:
            assert not any(b is free for b in ring)
        finally:
            sys.settrace(before)
        assert all(any(b is other for b in ring) for other in held + others)
        for other in held + others:  # wherever it is now
            ring.take_out(other)
    assert line > 4


@pytest.mark.parametrize("nbytes", [64, 5000, 200_000])
def test_a_pool_in_varied_use_stays_near_what_is_in_use(nbytes: int) -> None:
    """However the living ones lie among the free: memory is asked for only while nearly everything is in use."""
    choose = random.Random(0)
    held: list[Buffer] = []
    for _ in range(6000):
        if len(held) < 40 or (len(held) < 60 and choose.random() < 0.5):
            held.append(allocate(nbytes))
        else:
            held.pop(choose.randrange(len(held)))
    assert sum(len(ring) for ring in memory._rings.values()) <= 60 * 4 // 3 + 2


@pytest.mark.parametrize("nbytes", [64, 200_000])
def test_updates_of_many_equal_buffers_settle(nbytes: int) -> None:
    """As in training steps: all are made anew while the old ones live."""
    values = [allocate(nbytes) for _ in range(100)]
    for _ in range(3):
        values = [allocate(nbytes) for _ in values]
    before = stats()["allocations"]
    for _ in range(50):
        values = [allocate(nbytes) for _ in values]
    assert stats()["allocations"] - before <= 70  # of 5,000: a third of those that live


def test_programs_in_turn_settle() -> None:
    """Results of several programs that live on for a while, those of some of them for long."""
    programs = [memory.Outputs([64] * n + [300] * n) for n in (3, 7, 20, 1)]
    choose = random.Random(1)
    live: list[list[Buffer]] = []
    counts = []
    for k in range(4000):
        live.append(choose.choice(programs).allocate())
        while len(live) > 6:
            live.pop(choose.randrange(len(live)))
        if k % 1000 == 999:
            counts.append(stats()["allocations"])
    assert counts[-1] == counts[1], counts
    living = {id(b) for out in live for b in out}
    assert stats()["live_buffers"] == len(living) == sum(map(len, live))


def test_trim_takes_what_programs_keep_ready_too() -> None:
    outputs = memory.Outputs([64, 4096])
    kept = outputs.allocate()
    for _ in range(5):
        outputs.allocate()
    assert stats()["pooled_buffers"] == 6 and stats()["live_buffers"] == 2
    assert trim() == 3 * (64 + 4096)
    assert stats()["pooled_buffers"] == 0 and stats()["live_buffers"] == 2
    held = kept + outputs.allocate()
    assert len(set(held)) == 4


def test_results_of_programs_in_threads_are_apart() -> None:
    outputs = memory.Outputs([64, 64, 100_000])
    failures: list[str] = []

    def work(number: int) -> None:
        held: list[list[np.ndarray]] = []
        for i in range(2000):
            arrays = [b.array(np.int64, (8,)) for b in outputs.allocate()]
            for a in arrays:
                a[:] = number * 10_000 + i
            held.append(arrays)
            if len(held) > i % 5:
                for a in held.pop(0):
                    if not (a == a[0]).all() or a[0] // 10_000 != number:
                        failures.append(f"thread {number} finds {a}")
            if i % 500 == 0:
                trim()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
