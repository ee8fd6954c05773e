"""A run of a program that writes results where inputs lay, which therefore must happen exactly once.

A program may be run again at any time, because it leaves its inputs as they are; after an interrupt that is what happens.
With an update in place that would update twice. `Once` is such a run: whoever asks first for its results computes them, in
one step of the interpreter, between whose beginning and end no signal is handled; the others receive the same.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator
from sys import getrefcount
from typing import Any

from adjoint.runtime import pool
from adjoint.runtime.entry import REFUSED, WANTED, WRONG
from adjoint.runtime.memory import Buffer
from adjoint.runtime.plan import Frame
from adjoint.runtime.program import Program, counters

_HELD = 3  # references to a buffer that only a list holds: the list, the local variable, the argument
_UNSHARED = 2  # references to a buffer's memory that nobody outside holds: the buffer's, and the argument's
_PATIENCE = 1e-4  # seconds between two looks whether another thread is through


def given_up(program: Program, buffers: list[Buffer], kept: Container[int], others: int = 0) -> dict[int, int]:
    """Which results may lie where an input lies, result -> input: those that replace what nobody but the list refers to.

    kept: inputs that are needed afterwards.  others: references to each input that do not count.
    """
    found: dict[int, int] = {}
    for k, i in program.in_place:
        if k not in found and i not in kept and i not in found.values():
            buffer = buffers[i]
            if buffer.pooled and getrefcount(buffer) == _HELD + others + 1 and getrefcount(buffer.mem) == _UNSHARED:
                found[k] = i
    return found


class Once:
    """One run."""

    __slots__ = ("_buffers", "_done", "_frame", "_given", "_out", "_program", "_scalars", "_turn")

    def __init__(self, program: Program, buffers: list[Buffer], scalars: list[Any], given: dict[int, int]) -> None:
        """buffers, scalars: as `Program.run` takes them.  given: from `given_up`."""
        built = program._built
        assert built is not None and built.enter is not None
        self._program, self._buffers, self._scalars = program, buffers, scalars
        self._out = built.outputs.allocate({k: buffers[i] for k, i in given.items()})
        self._given = given
        try:
            self._frame = program._frames.pop()
        except IndexError:
            self._frame = Frame(built)
        self._done: list[int] = []
        self._turn: Iterator[int] = iter((self._frame.header,))

    def finish(self) -> list[Buffer]:
        """The results, computed if they are not; the reference's error, as `Program.run` raises it, where inputs are whole."""
        program, done = self._program, self._done
        enter: Any = program._built.enter  # type: ignore[union-attr]
        # One call: it takes the turn, computes, and notes that it has. A second one finds the turn taken.
        done.extend(map(enter, self._turn, (self._buffers,), (self._out,), (self._scalars,)))
        while not done:  # another thread is at it
            time.sleep(_PATIENCE)
        if done[0] & WANTED:
            pool.start()
        if done[0] & REFUSED:  # nothing was computed: a number does not fit
            self._out = program.run(self._buffers, self._scalars)
        elif done[0] & WRONG:  # nothing was replaced
            self._out = program.interpret(self._buffers, self._scalars)
        return self._out

    def count(self) -> None:
        """Note that the program has run, and leave it its frame."""
        program = self._program
        if not self._done[0] & REFUSED:
            program.last = counters["runs"] = counters["runs"] + 1
            program.runs += 1
            counters["bytes_moved"] += program.bytes_moved
        program._frames.append(self._frame)

    def forget(self) -> None:
        """Take what has been overwritten out of the list of inputs."""
        for i in self._given.values():
            self._buffers[i] = None  # type: ignore[call-overload]
