"""Memory whose borders nobody may cross: buffers between pages without access, for ADJOINT_GUARD.

`Fences` lays out the buffers of one run; `watching` catches whoever crosses. A page without access ends a process that
touches it, so while somebody watches, a handler of the signal (in LLVM IR, `_HANDLER`) notes the address, opens the
page and lets the access go on; `crossed` tells afterwards. What lies between a buffer and its page's end is filled with
one byte, `poison`, and looked at by `spoilt`. Where there is no `mprotect`, or another signal (other systems than
Linux), the poison is all there is.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import functools
import mmap
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from adjoint.runtime import jit
from adjoint.runtime.memory import Buffer

_PAGE = mmap.PAGESIZE
_GAP = 16 * _PAGE  # between two buffers: what an index that is a few rows too large still meets
_NONE, _READ, _WRITE = 0, 1, 2  # as mprotect has them
_KINDS = {0: "reads", 1: "writes", 2: "reads or writes"}

# Words of the handler: 0 and 1 the addresses watched, 2 how often a border was crossed, 3 where first, 4 how (0 read,
# 1 written, 2 nobody knows).
_HANDLER = """
@words = internal global [5 x i64] zeroinitializer
@before = internal global [256 x i8] zeroinitializer, align 16
declare i32 @mprotect(ptr, i64, i32)
declare i32 @sigaction(i32, ptr, ptr)

define ptr @fence_words() {{
  ret ptr @words
}}

define ptr @fence_before() {{
  ret ptr @before
}}

define void @fence_crossed(i32 %signal, ptr %info, ptr %context) {{
entry:
  %where = getelementptr i8, ptr %info, i64 16
  %at = load i64, ptr %where
  %from = load i64, ptr @words
  %to.at = getelementptr i64, ptr @words, i64 1
  %to = load i64, ptr %to.at
  %above = icmp uge i64 %at, %from
  %below = icmp ult i64 %at, %to
  %inside = and i1 %above, %below
  br i1 %inside, label %ours, label %other
other:
  ; Not ours: what was there before takes the next try.
  %r0 = call i32 @sigaction(i32 %signal, ptr @before, ptr null)
  ret void
ours:
  %count.at = getelementptr i64, ptr @words, i64 2
  %seen = atomicrmw add ptr %count.at, i64 1 seq_cst
  %first = icmp eq i64 %seen, 0
  br i1 %first, label %note, label %open
note:
  %at.at = getelementptr i64, ptr @words, i64 3
  store i64 %at, ptr %at.at
  %kind.at = getelementptr i64, ptr @words, i64 4
  {kind}
  store i64 %kind, ptr %kind.at
  br label %open
open:
  %page = and i64 %at, {mask}
  %start = inttoptr i64 %page to ptr
  %r1 = call i32 @mprotect(ptr %start, i64 {page}, i32 3)
  ret void
}}
"""

_KIND = {
    # ucontext_t of Linux: the processor's error code, whose second bit is set for writes
    "x86_64": "%code.at = getelementptr i8, ptr %context, i64 192\n  %code = load i64, ptr %code.at\n"
    "  %half = lshr i64 %code, 1\n  %kind = and i64 %half, 1",
    "other": "%kind = add i64 2, 0",
}


class _Handler:
    """The compiled handler, and its words as int64."""

    def __init__(self) -> None:
        machine = jit.target().triple.split("-")[0]
        kind = _KIND.get(machine, _KIND["other"])
        self.module = jit.compile_module(_HANDLER.format(kind=kind, mask=-_PAGE, page=_PAGE), level=0)
        pointer = ctypes.c_void_p
        words = ctypes.CFUNCTYPE(pointer)(self.module.address("fence_words"))()
        self.words = np.frombuffer(memoryview((ctypes.c_int64 * 5).from_address(words)), np.int64)
        self.before = ctypes.CFUNCTYPE(pointer)(self.module.address("fence_before"))()
        # struct sigaction of Linux: handler, 128 bytes of mask, flags, restorer
        self.action = (ctypes.c_int64 * 19)()
        self.action[0] = self.module.address("fence_crossed")
        self.action[17] = 0x4 | 0x08000000  # SA_SIGINFO, SA_ONSTACK
        self.libc = ctypes.CDLL(None)
        self.libc.sigaction.argtypes = [ctypes.c_int, pointer, pointer]
        self.libc.mprotect.argtypes = [pointer, ctypes.c_size_t, ctypes.c_int]


@functools.cache
def _handler() -> Any:
    """None where pages cannot be fenced."""
    return _Handler() if sys.platform.startswith("linux") and sys.maxsize > 1 << 32 else None


_watch = threading.RLock()


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """While it lasts, whoever touches a page without access is noted, not killed. One thread at a time watches."""
    handler = _handler()
    with _watch:
        if handler is None:
            yield
            return
        handler.libc.sigaction(signal.SIGSEGV, ctypes.addressof(handler.action), handler.before)
        try:
            yield
        finally:
            handler.words[:2] = 0
            handler.libc.sigaction(signal.SIGSEGV, handler.before, None)


class Fences:
    """Buffers in memory of their own, each alone between pages without access.

    sizes: their bytes.  at_end: whether they end where a page does, so that the first byte behind them is fenced;
    else they begin where one begins.  poison: the byte everything is filled with.
    arena: all of it.  offsets: where in it each buffer begins.
    """

    def __init__(self, sizes: Sequence[int], at_end: bool, poison: int) -> None:
        self.sizes, self.poison = sizes, poison
        room = [-(-n // _PAGE) * _PAGE for n in sizes]
        self.pages = np.cumsum([_GAP, *[n + _GAP for n in room]])[:-1].tolist()
        self.ends = [p + n for p, n in zip(self.pages, room, strict=True)]
        total = (self.ends[-1] if sizes else 0) + _GAP
        self._room = mmap.mmap(-1, total)
        mem = np.frombuffer(self._room, np.uint8)
        start = mem.__array_interface__["data"][0]
        self.arena = Buffer(start, total, mem)
        self.offsets = [end - n if at_end else page for page, end, n in zip(self.pages, self.ends, sizes, strict=True)]
        self._protect(0, total, _NONE)
        for k, (page, end) in enumerate(zip(self.pages, self.ends, strict=True)):
            self.open(k)
            mem[page:end] = poison

    def _protect(self, start: int, end: int, access: int) -> None:
        handler = _handler()
        if handler is not None and end > start:
            handler.libc.mprotect(self.arena + start, end - start, access)

    def open(self, k: int) -> None:
        """Let the k-th buffer be read and written."""
        self._protect(self.pages[k], self.ends[k], _READ | _WRITE)

    def lock(self, k: int) -> None:
        """Let the k-th buffer be read only."""
        self._protect(self.pages[k], self.ends[k], _READ)

    def buffer(self, k: int) -> Buffer:
        at = self.offsets[k]
        return Buffer(self.arena + at, self.sizes[k], self.arena.mem[at : at + self.sizes[k]])

    def watch(self) -> None:
        """Note from now on what crosses these borders; within `watching`."""
        handler = _handler()
        if handler is not None:
            handler.words[:] = (self.arena, self.arena + self.arena.nbytes, 0, 0, 0)

    def crossed(self) -> tuple[str, int, int] | None:
        """The first access to a fenced page since `watch`: how, the buffer nearest to it, and the bytes from that
        buffer's beginning."""
        handler = _handler()
        if handler is None or not handler.words[2]:
            return None
        at = int(handler.words[3]) - self.arena
        k = max(0, bisect.bisect_right(self.pages, at) - 1)
        if k + 1 < len(self.pages) and self.pages[k + 1] - at < at - self.ends[k]:
            k += 1
        return _KINDS[int(handler.words[4])], k, at - self.offsets[k]

    def spoilt(self, k: int) -> int | None:
        """The first byte beside the k-th buffer, but in its pages, that is not what it was: counted from its beginning."""
        at, mem = self.offsets[k], self.arena.mem
        for start, end in ((self.pages[k], at), (at + self.sizes[k], self.ends[k])):
            if end > start:
                wrong = mem[start:end] != self.poison
                if wrong.any():
                    return start + int(wrong.argmax()) - at
        return None
