"""Memory for tensors: aligned buffers, recycled without finalizers.

Owns `Buffer` and the pool of rings behind `allocate`. Read `allocate` first.

A ring holds every pooled buffer of one size class, used or not. A buffer is free when nothing but
its ring refers to it, which its reference count tells; so giving memory back needs no call, no
`__del__`, and cannot be forgotten. A buffer whose memory is still seen by some NumPy array is not
free either: arrays made by `Buffer.array` refer to `Buffer.mem`, whose count is read too.

Why two threads never receive the same buffer: `deque.popleft` is atomic, so only one of them takes
a given buffer out of its ring, and it returns to the ring only while the taker holds a reference
of its own, which makes every later reader of the count see it as used.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from sys import getrefcount

import numpy as np
import numpy.typing as npt

__all__ = ["Buffer", "allocate", "stats", "trim"]

ALIGNMENT = 64  # one cache line, and the widest register
_PROBES = 6  # buffers of a ring looked at before memory is asked for; more of them if large
_FREE_LIMIT = 256 << 20  # bytes that may lie free whatever the amount in use
_CHECK_STEP = 64 << 20  # least growth of the pool between two looks for free memory
_SMALL = 1 << 15  # results up to this size are kept ready for the next run of their program
_ROUNDS = 3  # of them for each result
_CACHED = 1 << 17  # from this size on, the buffer used last is preferred to the one used longest ago
_MAX_ALIASES = 4096  # exact sizes remembered


class Buffer(int):
    """A piece of memory. As an integer it is its address (a multiple of 64 for pooled buffers), which native code can
    take without asking Python for an attribute.

    nbytes: its capacity.  mem: NumPy bytes that keep the memory alive.  pooled: how many of the pool's rings refer to it.
    """

    nbytes: int
    mem: np.ndarray
    pooled: int

    def __new__(cls, address: int, nbytes: int, mem: np.ndarray) -> Buffer:
        self = int.__new__(cls, address)
        self.nbytes, self.mem, self.pooled = nbytes, mem, 0
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


_Ring = deque[Buffer]

_rings: dict[int, _Ring] = {}  # size class -> its buffers
_by_size: dict[int, _Ring] = {}  # exact request -> ring of its class; saves computing the class
_lock = threading.RLock()
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
        buffer = ring.popleft()
        if getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM:
            ring.append(buffer)
            return buffer
        ring.append(buffer)
    except IndexError:
        pass
    return _search(ring, nbytes)


class Outputs:
    """Memory for the results of one program, which in a loop are again and again of the same sizes.

    The small results have a few sets of buffers, used in turn: after two or three runs the oldest is free as a whole,
    and found without a search among the living buffers of each size.
    """

    __slots__ = ("sizes", "small", "large", "sets", "idle", "idle_mem")

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.small = [k for k, n in enumerate(sizes) if n <= _SMALL]
        self.large = [k for k, n in enumerate(sizes) if n > _SMALL]
        self.sets: deque[list[Buffer]] = deque()
        self.idle = [_SET_IDLE] * len(self.small)
        self.idle_mem = [_SET_IDLE_MEM] * len(self.small)

    def __del__(self) -> None:
        for buffers in self.sets:  # the program is forgotten: its buffers are ordinary ones again
            for buffer in buffers:
                buffer.pooled -= 1

    def allocate(self) -> list[Buffer]:
        """One buffer for each result."""
        try:
            ready = self.sets.popleft()  # atomic: a set is never in two threads
        except IndexError:
            ready = self._new_set(None)
        else:
            if (
                list(map(getrefcount, ready)) != self.idle
                or list(map(getrefcount, map(_memory, ready))) != self.idle_mem
            ):
                if len(self.sets) < _ROUNDS - 1:
                    self.sets.append(ready)
                    ready = self._new_set(None)
                else:
                    ready = self._new_set(ready)
        out = [*ready]
        self.sets.append(ready)  # after `out` holds its buffers, so that nobody else takes them for free
        if self.large:
            small, out = out, [None] * len(self.sizes)  # type: ignore[list-item]
            for k, buffer in zip(self.small, small, strict=True):
                out[k] = buffer
            for k in self.large:
                out[k] = allocate(self.sizes[k])
        return out

    def _new_set(self, old: list[Buffer] | None) -> list[Buffer]:
        """A set of free buffers; those of `old` that are in use are given up by it, the others kept."""
        ready = []
        if old is not None:
            counts, memories = _counts(old)
        for k, place in enumerate(self.small):
            if old is not None:
                if counts[k] == _SET_IDLE and memories[k] == _SET_IDLE_MEM:
                    ready.append(old[k])
                    continue
                old[k].pooled -= 1
            buffer = allocate(self.sizes[place])
            buffer.pooled += 1
            ready.append(buffer)
        return ready


def _counts(buffers: list[Buffer]) -> tuple[list[int], list[int]]:
    """Reference counts of the buffers of a set and of their memories, read as `Outputs.allocate` reads them."""
    return list(map(getrefcount, buffers)), list(map(getrefcount, map(_memory, buffers)))


def stats() -> dict[str, int]:
    """Buffers and bytes in use (`live_`) and free (`pooled_`), and `allocations` ever made."""
    live = live_bytes = pooled = pooled_bytes = 0
    with _lock:
        for ring in list(_rings.values()):
            for buffer in _drain(ring):
                if getrefcount(buffer) == _IDLE + buffer.pooled - 1 and getrefcount(buffer.mem) == _IDLE_MEM:
                    pooled += 1
                    pooled_bytes += buffer.nbytes
                else:
                    live += 1
                    live_bytes += buffer.nbytes
                ring.append(buffer)
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
    global _total
    freed = 0
    with _lock:
        excess = stats()["pooled_bytes"] - keep
        for size in sorted(_rings, reverse=True):
            if freed >= excess:
                break
            ring = _rings[size]
            for buffer in _drain(ring):
                idle = getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM
                if idle and freed < excess:
                    freed += buffer.nbytes
                    _total -= buffer.nbytes
                else:
                    ring.append(buffer)
    return freed


def _search(ring: _Ring, nbytes: int) -> Buffer:
    """A free buffer from further back in the ring, or else a new one."""
    # Fresh memory costs a page fault for each 4 KiB, so large buffers deserve a longer search.
    for _ in range(min(len(ring), _PROBES + (nbytes >> 14))):
        try:
            buffer = ring.popleft()
        except IndexError:  # other threads are looking at the rest
            break
        idle = getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM
        ring.append(buffer)
        if idle:
            return buffer
    return _new_buffer(ring, nbytes)


def _search_recent(ring: _Ring, nbytes: int) -> Buffer:
    """The free buffer handed out last, which may still be in the cache, or else a new one."""
    busy = []
    found = None
    for _ in range(min(len(ring), _PROBES + (nbytes >> 14))):
        try:
            buffer = ring.pop()
        except IndexError:  # other threads are looking at the rest
            break
        if getrefcount(buffer) == _IDLE and getrefcount(buffer.mem) == _IDLE_MEM:
            found = buffer
            break
        busy.append(buffer)
    ring.extend(reversed(busy))
    if found is None:
        return _new_buffer(ring, nbytes)
    ring.append(found)
    return found


def _ring_for(nbytes: int) -> _Ring:
    """The ring of the request's class, noted for the next request of the same size."""
    with _lock:
        ring = _rings.setdefault(size_class(nbytes), deque())
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
    ring.append(buffer)
    return buffer


def _aligned_bytes(capacity: int, number: int) -> np.ndarray:
    # Large arrays from the system all start at the same offset in their page, and kernels walk
    # through several at once; different offsets keep them out of each other's cache sets.
    shift = number % 8 * (5 * ALIGNMENT) if capacity >= 1 << 15 else 0
    raw = np.empty(capacity + ALIGNMENT + shift, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT + shift
    # Through a memoryview: NumPy makes an array's views refer to the array that owns the memory,
    # but here they have to refer to `mem`, whose count is read.
    return np.frombuffer(raw.data[start : start + capacity], np.uint8)


def _drain(ring: _Ring) -> Iterator[Buffer]:
    """Take out as many buffers as the ring has now, one at a time."""
    for _ in range(len(ring)):
        try:
            yield ring.popleft()
        except IndexError:
            return


def _measure_idle() -> tuple[int, int]:
    """The reference counts that a free buffer shows.

    Read exactly as `allocate` reads them, because how many temporary references such code holds
    differs between versions of Python.
    """
    mem = _aligned_bytes(ALIGNMENT, 0)
    ring = deque([Buffer(0, ALIGNMENT, mem)])
    del mem
    buffer = ring.popleft()
    return getrefcount(buffer), getrefcount(buffer.mem)


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


def _measure_set() -> tuple[int, int]:
    """The same for a buffer that only a ring and a set refer to."""
    ring = deque([Buffer(0, ALIGNMENT, _aligned_bytes(ALIGNMENT, 0))])
    counts, memories = _counts([*ring])
    return counts[0], memories[0]


_IDLE, _IDLE_MEM = _measure_idle()
_SET_IDLE, _SET_IDLE_MEM = _measure_set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
