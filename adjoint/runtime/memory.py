"""Memory for tensors: aligned buffers, recycled without finalizers.

Owns `Buffer` and the pool of rings behind `allocate`. Read `allocate` first.

A ring holds the pooled buffers of one size class, used or not. A buffer is free when nothing but
its ring refers to it, which its reference count tells; so giving memory back needs no call, no
`__del__`, and cannot be forgotten. A buffer whose memory is still seen by some NumPy array is not
free either: arrays made by `Buffer.array` refer to `Buffer.mem`, whose count is read too.

Why two threads never receive the same buffer: whoever looks at a buffer refers to it first and reads
the count then, so of two that look at once at most the one that counted before the other came finds
it free. Buffers stay in their ring while they are looked at: an interrupt loses none. Lists of buffers
are changed by whoever holds the lock.

How many buffers lie free is bounded: `allocate` looks at one buffer, then takes from the ring's
`spare` ones, and when these are used up, counts the whole ring (`_gather`). Memory is asked for only
while less than a quarter of the ring (a thirty-second, if large) is free.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from operator import attrgetter
from sys import getrefcount

import numpy as np
import numpy.typing as npt

__all__ = ["Buffer", "allocate", "stats", "trim"]

ALIGNMENT = 64  # one cache line, and the widest register
_PROBES = 14  # buffers of a ring looked at, if large, before all of them are
_SLACK, _SLACK_LARGE = 2, 5  # 1/4 and 1/32 of a ring may lie free before memory is asked for
_FREE_LIMIT = 256 << 20  # bytes that may lie free whatever the amount in use
_CHECK_STEP = 64 << 20  # least growth of the pool between two looks for free memory
_SMALL = 1 << 15  # results up to this size are kept ready for the next run of their program
_ROUNDS = 3  # of them for each result
_CACHED = 1 << 17  # from this size on, the buffer used last is preferred to the one used longest ago
_MAX_ALIASES = 4096  # exact sizes remembered


class Buffer(int):
    """A piece of memory. As an integer it is its address (a multiple of 64 for pooled buffers), which native code can
    take without asking Python for an attribute.

    nbytes: its capacity.  mem: NumPy bytes that keep the memory alive.  pooled: 1 while the pool (a ring, or a set of
    `Outputs`) refers to it; never more than there are such references, so that counts may rely on it.  at: where in its
    ring it is, or was.
    """

    nbytes: int
    mem: np.ndarray
    pooled: int
    at: int

    def __new__(cls, address: int, nbytes: int, mem: np.ndarray) -> Buffer:
        self = int.__new__(cls, address)
        self.nbytes, self.mem, self.pooled, self.at = nbytes, mem, 0, 0
        return self

    @property
    def ptr(self) -> int:
        """The address as a plain integer."""
        return int(self)

    def array(self, np_dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.ndarray:
        """The first elements as a C-contiguous NumPy array that shares this memory.

        TypeError when the buffer is too small for `shape` elements of `np_dtype`.
        """
        return np.ndarray(shape, np_dtype, self.mem)

    @staticmethod
    def from_array(array: np.ndarray) -> Buffer:
        """A pooled buffer with a copy of the elements, in C order."""
        buffer = allocate(array.nbytes)
        buffer.array(array.dtype, array.shape)[...] = array
        return buffer

    @staticmethod
    def wrap(array: np.ndarray) -> Buffer:
        """A buffer that is the memory of a C-contiguous array; it is never recycled.

        ValueError when the array is not C-contiguous.
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"expected a C-contiguous array, got strides {array.strides}")
        mem = array.reshape(-1).view(np.uint8)
        if array.size and array.flags.writeable:  # through a memoryview, as in `_aligned_bytes`
            mem = np.frombuffer(mem.data, np.uint8)
        return Buffer(array.__array_interface__["data"][0], array.nbytes, mem)

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {int(self):#x})"


class _Ring(list[Buffer]):
    """The buffers of one size class that no set has.

    cursor: the place that was looked at last; the one before it is the next, and the last one follows the first.
    spare: those that `_gather` found free and that have not been handed out since; the list's reference keeps others
    from taking them.  fresh: how many buffers may be made before the ring is counted again.
    """

    __slots__ = ("cursor", "spare", "fresh")

    def __init__(self) -> None:
        super().__init__()
        self.cursor = 0
        self.spare: list[Buffer] = []
        self.fresh = 0

    def add(self, buffer: Buffer) -> None:
        with _lock:
            buffer.at = len(self)
            self.append(buffer)

    def take_out(self, buffer: Buffer) -> None:
        """Remove a buffer that is in the ring; the last one takes its place. ValueError if it is not in it.

        The last one is in two places for a moment: then nobody takes it for free, also after an interrupt. A collection
        may add others behind it meanwhile.
        """
        with _lock:
            at, end = buffer.at, len(self) - 1
            if not (at <= end and self[at] is buffer):
                at = self.index(buffer)
            last = self[end]
            self[at], last.at = last, at
            del self[end]


_rings: dict[int, _Ring] = {}  # size class -> its buffers
_by_size: dict[int, _Ring] = {}  # exact request -> ring of its class; saves computing the class
_lock = threading.RLock()
_kept: weakref.WeakSet[Outputs] = weakref.WeakSet()  # whoever keeps sets of buffers
_memory = attrgetter("mem")
_total = 0  # bytes of all buffers in rings
_check_at = _FREE_LIMIT  # `_total` at which the next look for free memory is due
_allocations = 0


def size_class(nbytes: int) -> int:
    """Capacity of the buffer that serves a request: 64 bytes, then 8 steps for each doubling.

    >>> from adjoint.runtime.memory import size_class
    >>> [size_class(n) for n in (0, 64, 65, 1000, 1025)]
    [64, 64, 128, 1024, 1152]
    """
    if nbytes <= 512:
        return max(64, -(-nbytes // 64) * 64)
    step = 1 << (nbytes - 1).bit_length() - 4
    return -(-nbytes // step) * step


def allocate(nbytes: int) -> Buffer:
    """A buffer of at least `nbytes` bytes, 64-byte aligned, with undefined contents.

    It goes back to the pool by itself when the last reference to it and to the arrays made from
    it is gone. MemoryError when the system has no more, also after free buffers were given up.
    """
    ring = _by_size.get(nbytes)
    if ring is None:
        ring = _ring_for(nbytes)
    if nbytes >= _CACHED:
        return _search_recent(ring, nbytes)
    try:
        ring.cursor = at = (ring.cursor or len(ring)) - 1
        buffer = ring[at]
        if getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM:
            return buffer
    except IndexError:  # none, or fewer than there were
        ring.cursor = 0
    buffer = None  # type: ignore[assignment]  # which `_search` is to find used by nobody, if it is a spare one
    return _search(ring, nbytes)


class _Set(list[Buffer]):
    """Buffers kept for one run. They are in no ring; those that are given up return to theirs."""

    __slots__ = ("rings",)

    def __init__(self, rings: list[_Ring]) -> None:
        self.rings = rings

    def fill(self, sizes: list[int]) -> None:
        """Make every buffer of the set a free one: those that are in use are given up for others."""
        free = _free(self, _LISTED)
        for k, nbytes in enumerate(sizes):
            if k == len(self):
                self.append(_take(self.rings[k], nbytes))
            elif not free[k]:
                busy, self[k] = self[k], _take(self.rings[k], nbytes)
                busy.pooled = 0  # first: what an interrupt may leave is a count too low, which costs a copy and no more
                self.rings[k].add(busy)
                busy.pooled = 1

    def __del__(self) -> None:
        for ring, buffer in zip(getattr(self, "rings", ()), self, strict=False):  # an interrupt may have come first
            ring.add(buffer)


class Outputs:
    """Memory for the results of one program, which in a loop are again and again of the same sizes.

    The small results have a few sets of buffers, used in turn: after two or three runs the oldest is free as a whole,
    and found without a search among the living buffers of each size.
    """

    __slots__ = ("sizes", "small", "large", "sets", "rings", "idle", "idle_mem", "__weakref__")

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.small = [k for k, n in enumerate(sizes) if n <= _SMALL]
        self.large = [k for k, n in enumerate(sizes) if n > _SMALL]
        self.sets: deque[_Set] = deque()
        self.rings = [_ring_for(sizes[k]) for k in self.small]
        self.idle = [_LISTED[0]] * len(self.small)
        self.idle_mem = [_LISTED[1]] * len(self.small)
        _kept.add(self)

    def allocate(self, given: dict[int, Buffer] | None = None) -> list[Buffer]:
        """One buffer for each result. given: those that have one already."""
        try:
            ready = self.sets.popleft()  # atomic: a set is never in two threads
        except IndexError:
            ready = self._new_set()
        else:
            if (
                list(map(getrefcount, ready)) != self.idle
                or list(map(getrefcount, map(_memory, ready))) != self.idle_mem
            ):
                if len(self.sets) < _ROUNDS - 1:
                    self.sets.append(ready)
                    ready = self._new_set()
                else:
                    ready.fill([self.sizes[k] for k in self.small])
        out = [*ready]
        self.sets.append(ready)  # after `out` holds its buffers, so that nobody else takes them for free
        if self.large:
            small, out = out, [None] * len(self.sizes)  # type: ignore[list-item]
            for k, buffer in zip(self.small, small, strict=True):
                out[k] = buffer
            for k in self.large:
                if given is None or k not in given:
                    out[k] = allocate(self.sizes[k])
        if given is not None:
            for k, buffer in given.items():
                out[k] = buffer
        return out

    def keep_ready(self) -> list[Buffer]:
        """One set, for somebody who looks for himself which of its buffers are free; all of them are now."""
        ready = self._new_set()
        self.sets.append(ready)
        return ready

    def any_free(self) -> bool:
        """Whether `keep_ready` has left something that is free now."""
        return bool(self.sets) and any(_free(self.sets[0], _LISTED))

    def _new_set(self) -> _Set:
        ready = _Set(self.rings)
        ready.fill([self.sizes[k] for k in self.small])
        return ready


def _take(ring: _Ring, nbytes: int) -> Buffer:
    """A free buffer, out of its ring."""
    buffer = allocate(nbytes)
    ring.take_out(buffer)
    return buffer


def _counts(buffers: list[Buffer]) -> tuple[list[int], list[int]]:
    """Reference counts of the buffers in a list and of their memories, read as `Outputs.allocate` reads them."""
    return list(map(getrefcount, buffers)), list(map(getrefcount, map(_memory, buffers)))


def _free(buffers: list[Buffer], idle: tuple[int, int]) -> list[bool]:
    """Which of some listed buffers are free, that is show no other counts than `idle`."""
    return [*map(idle.__eq__, zip(*_counts(buffers), strict=True))]


def stats() -> dict[str, int]:
    """Buffers and bytes in use (`live_`) and free (`pooled_`), and `allocations` ever made."""
    live = live_bytes = pooled = pooled_bytes = 0
    with _lock:
        for size, ring in list(_rings.items()):
            _, free = _survey(ring)
            count = free.count(True)
            pooled += count
            pooled_bytes += count * size
            live += len(free) - count
            live_bytes += (len(free) - count) * size
        for outputs in list(_kept):
            for kept in list(outputs.sets):
                for buffer, is_free in zip(kept, _free(kept, _LISTED), strict=True):
                    if is_free:
                        pooled += 1
                        pooled_bytes += buffer.nbytes
                    else:
                        live += 1
                        live_bytes += buffer.nbytes
    return {
        "live_buffers": live,
        "live_bytes": live_bytes,
        "pooled_buffers": pooled,
        "pooled_bytes": pooled_bytes,
        "allocations": _allocations,
    }


def trim(keep: int = 0) -> int:
    """Give free buffers back to the system until at most `keep` bytes lie free.

    Returns the number of bytes given back. The largest go first.
    """
    with _lock:
        excess = stats()["pooled_bytes"] - keep
        freed = _trim_rings(excess)
        if freed < excess:  # what programs keep ready is of small buffers
            for outputs in list(_kept):
                outputs.sets.clear()
            freed += _trim_rings(excess - freed)
    return freed


def _trim_rings(excess: int) -> int:
    """Drop free buffers of rings until `excess` bytes are given back; how many were."""
    global _total
    freed = 0
    for size in sorted(_rings, reverse=True):
        if freed >= excess:
            break
        ring = _rings[size]
        buffers, free = _survey(ring)  # which refers to them: nobody takes one meanwhile
        for k, buffer in enumerate(buffers):
            if free[k] and freed < excess:
                buffer.pooled = 0
                ring.take_out(buffer)
                freed += buffer.nbytes
                _total -= buffer.nbytes
    return freed


def _survey(ring: _Ring) -> tuple[list[Buffer], list[bool]]:
    """The buffers of a ring, and which of them are free."""
    ring.spare.clear()
    buffers = list(ring)
    return buffers, _free(buffers, _RING_LISTED)


def _search(ring: _Ring, nbytes: int) -> Buffer:
    """A free buffer from anywhere in the ring, or else a new one."""
    while True:
        try:
            buffer = ring.spare.pop()
        except IndexError:
            break
        if getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM:
            return buffer
    if ring.fresh <= 0:
        _gather(ring, _SLACK if nbytes < _CACHED else _SLACK_LARGE)
        if ring.spare:
            return _search(ring, nbytes)
    ring.fresh -= 1
    return _new_buffer(ring, nbytes)


def _gather(ring: _Ring, slack: int) -> None:
    """Count the ring: what is free is spare; if that is little, some buffers may be made before it is counted again.

    So the time this takes is that of looking at four (or 32) buffers for each one that is handed out.
    """
    buffers, free = _survey(ring)
    ring.spare = [b for b, is_free in zip(buffers, free, strict=True) if is_free]
    ring.fresh = max(0, (len(buffers) >> slack) - len(ring.spare))


def _search_recent(ring: _Ring, nbytes: int) -> Buffer:
    """A free buffer from one end of the ring, always the same, so that few are in use and these stay in the cache."""
    if not ring.spare:
        try:
            for k in range(-1, -min(len(ring), _PROBES) - 1, -1):
                buffer = ring[k]
                if getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM:
                    return buffer
        except IndexError:  # another thread trims the ring
            pass
        buffer = None  # type: ignore[assignment]
    return _search(ring, nbytes)


def _ring_for(nbytes: int) -> _Ring:
    """The ring of the request's class, noted for the next request of the same size."""
    with _lock:
        ring = _rings.setdefault(size_class(nbytes), _Ring())
        if len(_by_size) >= _MAX_ALIASES:
            _by_size.clear()
        _by_size[nbytes] = ring
    return ring


def _new_buffer(ring: _Ring, nbytes: int) -> Buffer:
    """A buffer from the system, entered into its ring."""
    global _total, _check_at, _allocations
    capacity = size_class(nbytes)
    with _lock:
        if _total + capacity > _check_at:
            known = stats()
            _total = known["pooled_bytes"] + known["live_bytes"]
            if known["pooled_bytes"] > max(_FREE_LIMIT, known["live_bytes"]):
                trim(max(_FREE_LIMIT, known["live_bytes"]))
            _check_at = _total + capacity + max(_CHECK_STEP, _total // 4)
        _allocations += 1
        try:
            mem = _aligned_bytes(capacity, _allocations)
        except MemoryError:
            trim()
            mem = _aligned_bytes(capacity, _allocations)
        buffer = Buffer(mem.__array_interface__["data"][0], capacity, mem)
        buffer.pooled = 1
        _total += capacity
    ring.add(buffer)
    return buffer


def _aligned_bytes(capacity: int, number: int) -> np.ndarray:
    # Large arrays from the system all start at the same offset in their page, and kernels walk
    # through several at once; different offsets keep them out of each other's cache sets.
    shift = number % 8 * (5 * ALIGNMENT) if capacity >= 1 << 15 else 0
    # From 4 MiB on NumPy asks the system for huge pages (measured: large kernels gain 5 to 20 %). Smaller buffers gain
    # nothing once touched, and cut out of larger pieces to have them, no first training step was faster.
    raw = np.empty(capacity + ALIGNMENT + shift, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT + shift
    # Through a memoryview: NumPy makes an array's views refer to the array that owns the memory,
    # but here they have to refer to `mem`, whose count is read.
    return np.frombuffer(raw.data[start : start + capacity], np.uint8)


def _measure_idle() -> tuple[int, int]:
    """The reference counts that a free buffer shows.

    Read exactly as `allocate` reads them, because how many temporary references such code holds
    differs between versions of Python.
    """
    ring = _Ring()
    ring.append(Buffer(0, ALIGNMENT, _aligned_bytes(ALIGNMENT, 0)))
    ring.cursor = at = (ring.cursor or len(ring)) - 1
    buffer = ring[at]
    return getrefcount(buffer), getrefcount(buffer.mem)


def _measure_listed() -> tuple[int, int]:
    """The same for a buffer that only a list refers to."""
    counts, memories = _counts([Buffer(0, ALIGNMENT, _aligned_bytes(ALIGNMENT, 0))])
    return counts[0], memories[0]


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


_IDLE, _IDLE_MEM = _measure_idle()
_LISTED = _measure_listed()
_RING_LISTED = _LISTED[0] + 1, _LISTED[1]

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
