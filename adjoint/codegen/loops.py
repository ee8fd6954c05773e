"""Nested loops under construction, with a place to write at every depth.

`Levels` keeps one list of instructions per open loop, so that what does not depend on the inner loops can still be
written in front of them while they are being written: hoisting by construction. `open`, `use`, `close`. A level also
remembers what has been computed in it (`memo`); closing the loop forgets it.
"""

from __future__ import annotations

from typing import Any

from adjoint.codegen.emitter import Emitter


class Region:
    """Instructions of one loop body (or of the function), and the label of the block being written."""

    __slots__ = ("lines", "block")

    def __init__(self, block: str) -> None:
        self.lines: list[str] = []
        self.block = block


class Level:
    """One depth: where its instructions go, what it has computed, how to close it, and whether there are loops inside."""

    __slots__ = ("region", "memo", "loop", "has_loops")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.memo: dict[Any, Any] = {}
        self.loop: tuple | None = None
        self.has_loops = False


class Levels:
    """Depths 0 (the function's entry) upwards. em: the emitter, switched between depths by `use`."""

    def __init__(self) -> None:
        self.em = Emitter()
        self.stack = [Level(Region("entry"))]
        self._current = self.stack[0].region
        self.em.lines = self._current.lines

    def use(self, depth: int) -> None:
        """Write at this depth from now on."""
        region = self.stack[depth].region
        if region is not self._current:
            self._current.block = self.em.block
            self._current = region
            self.em.lines, self.em.block = region.lines, region.block

    def push(self, level: Level | None = None) -> None:
        """A depth without a loop of its own: its instructions join those of the depth below."""
        self.stack.append(level if level is not None else Level(self.stack[-1].region))

    def pop(self) -> Level:
        return self.stack.pop()

    def open(
        self, start: str, stop: str, step: int, carried: list[tuple[str, str]]
    ) -> tuple[str, list[str]]:
        """Begin `for i in range(start, stop, step)`, which must run at least once.

        carried: (type, initial value) of what passes from one round to the next. Returns the counter and the carried
        values of the current round. Of a single round they are those it begins with: masks and patterns that depend on
        the counter are constants then.
        """
        head = self.em.fresh_label("loop")
        after: str | None = None
        if start.isdigit() and stop.isdigit() and int(start) + step >= int(stop):
            counter, names = start, [initial for _, initial in carried]
        else:
            after, counter = self.em.fresh_label("after"), self.em.name("i")
            names = [self.em.name("c") for _ in carried]
        level = Level(Region(head))
        level.loop = (head, after, counter, start, stop, step, carried, names)
        self.stack.append(level)
        self.use(len(self.stack) - 1)
        return counter, names

    def close(self, following: list[str]) -> None:
        """End the innermost loop; `following` are the carried values for the next round, and after the loop."""
        depth = len(self.stack) - 1
        self.use(depth)
        level = self.stack[depth]
        assert level.loop is not None
        head, after, counter, start, stop, step, carried, names = level.loop
        latch = self.em.block
        self.use(depth - 1)
        self.stack.pop()
        em = self.em
        before = em.block
        em.line(f"br label %{head}")
        em.lines.append(f"{head}:")
        if after is None:  # a single round
            em.lines.extend(level.region.lines)
            em.block = latch
            return
        following_counter = em.name("n")
        em.line(f"{counter} = phi i64 [ {start}, %{before} ], [ {following_counter}, %{latch} ]")
        for (kind, initial), name, value in zip(carried, names, following, strict=True):
            em.line(f"{name} = phi {kind} [ {initial}, %{before} ], [ {value}, %{latch} ]")
        em.lines.extend(level.region.lines)
        add = f"add nuw nsw i64 {counter}, {step}"
        if level.has_loops:
            # An empty instruction hides from LLVM how an outer counter grows. Else its loop strength reduction weighs all ways
            # in which addresses could be led through the loops, which took half of the time of a compilation to no effect.
            em.line(f'{following_counter} = call i64 asm "", "=r,0"(i64 {em.op(add)})')
        else:
            em.line(f"{following_counter} = {add}")
        for outer in self.stack:
            outer.has_loops = True
        more = em.op(f"icmp slt i64 {following_counter}, {stop}")
        em.line(f"br i1 {more}, label %{head}, label %{after}")
        em.label(after)
