"""Programs that watch their kernels' memory: ADJOINT_GUARD=1 runs each a second and a third time between fences.

`GuardedProgram.run` is the function to read first. Both runs go kernel by kernel, in copies of the inputs that may not be
written, each buffer alone between pages without access (`fences.py`), in one run at the end of its pages and in the
other at their beginning: nothing is read or written before or behind a buffer unseen. Fresh memory is filled with NaN in
one and large numbers in the other, so that what reads memory nobody wrote shows in different results. Then the
program runs as always, with an arena full of NaN: where it differs from the others, buffers that share memory in the arena
are wanted at the same time. With the flag off none of this is imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.ir.graph import Graph, Node
from adjoint.runtime import fences
from adjoint.runtime.fences import Fences
from adjoint.runtime.memory import Buffer
from adjoint.runtime.plan import Frame, Ready
from adjoint.runtime.program import Program
from adjoint.runtime.scheduled import describe_unit
from adjoint.schedule.group import Special

_NAN, _LARGE = 0xFF, 0x7F  # bytes: of NaN, -1 and True; of 3e38, 1e306 and the largest integers


class GuardError(RuntimeError):
    """A kernel touched memory that is not its own, or used memory before anything was written there.

    >>> from adjoint.runtime.guard import GuardError
    >>> issubclass(GuardError, RuntimeError)
    True
    """


class GuardedProgram(Program):
    """A program that is watched at every run."""

    apart = True

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.compile()

    def run(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """`Program.run`; GuardError where a kernel goes beyond its memory."""
        built = self._build()
        found = watched(built, self.graph, buffers, scalars)
        for frame in self._frames:
            frame.arena.mem[:] = _NAN
            frame.failed()
        out = super().run(buffers, scalars)
        if found is not None:
            for k, (a, b) in enumerate(zip(found, out, strict=True)):
                if (a != b.mem[: a.size]).any():
                    raise GuardError(
                        f"output {k}, {self.graph.outputs[k]!r}, depends on where its program's buffers lie: buffers in "
                        f"one place are wanted at the same time, or memory that nobody wrote is read\n\n{self.text}"
                    )
        return out


class _Watched(Frame):
    """A frame whose inputs, outputs and arena lie between fences; buffers, out: inputs and outputs."""

    __slots__ = ("fences", "given", "out")

    def __init__(self, built: Ready, sizes: list[int], at_end: bool, poison: int) -> None:
        self.fences = Fences([*sizes, *built.plan.out_bytes, *built.plan.sizes], at_end, poison)
        n = len(sizes) + built.plan.n_outputs
        super().__init__(built, self.fences.arena, self.fences.offsets[n:])
        every = [self.fences.buffer(k) for k in range(n)]
        self.given, self.out = every[: len(sizes)], every[len(sizes) :]

    def place(self, slot: int, built: Ready) -> int:
        """The fenced buffer that a slot of the table stands for."""
        return slot if slot < built.plan.first_fixed else slot - len(built.plan.scalars)


def watched(built: Ready, graph: Graph, buffers: list[Buffer], scalars: list[Any]) -> list[np.ndarray] | None:
    """Run the steps of a program between fences: the bytes of its outputs; None where it met a bad index."""
    sizes = [0] * built.n_inputs
    for node in graph.nodes:
        if node.prim.name == "input":
            sizes[node.attrs[0]] = node.size * node.dtype.itemsize
    with fences.watching():
        frames = [_Watched(built, sizes, True, _NAN), _Watched(built, sizes, False, _LARGE)]
        for frame in frames:
            for k, nbytes in enumerate(sizes):
                frame.given[k].mem[:] = buffers[k].mem[:nbytes]
                frame.fences.lock(k)
            built.fill(frame, frame.given, frame.out, scalars)
        complete = _complete(built)
        for number in range(len(built.scheduled.pieces)):
            for frame in frames:
                frame.fences.watch()
                built.steps[number](frame, frame.given, frame.out)
                _look(frame, built, number)
            if any([frame.failed() for frame in frames]):
                return None
            for node in complete.get(number, ()):
                _compare(frames, built, number, node)
        return [buffer.mem.copy() for buffer in frames[0].out]


def _look(frame: _Watched, built: Ready, number: int) -> None:
    """GuardError if the step that has just run crossed a border."""
    crossed = frame.fences.crossed()
    if crossed is None:
        for slot in built.scheduled.pieces[number].slots:
            k = frame.place(slot, built)
            at = frame.fences.spoilt(k)
            if at is not None:
                crossed = "writes", k, at
                break
    if crossed is None:
        return
    how, k, at = crossed
    what = f"{how} byte {at} of {_name(built, k)}, which has {frame.fences.sizes[k]}"
    what += ", but is not to be written" if 0 <= at < frame.fences.sizes[k] else ""
    raise GuardError(_words(built, number, what))


def _complete(built: Ready) -> dict[int, list[Node]]:
    """Which nodes are complete after each step: several may have written to one."""
    last: dict[Node, int] = {}
    for number, piece in enumerate(built.scheduled.pieces):
        unit = piece.unit
        nest = unit.epilogue if isinstance(unit, Special) else unit
        for node in unit.results if isinstance(unit, Special) else ():
            last[node] = number
        for root in nest.roots if nest is not None else ():
            last[root.target] = number
    steps: dict[int, list[Node]] = {}
    for node, number in last.items():
        if node in built.scheduled.slots:
            steps.setdefault(number, []).append(node)
    return steps


def _compare(frames: list[_Watched], built: Ready, number: int, node: Node) -> None:
    """GuardError if the memory of `node` is not the same in both frames."""
    k = frames[0].place(built.scheduled.slots[node], built)
    a, b = (f.fences.buffer(k).mem for f in frames)
    if (a != b).any():
        what = f"wrote other bits at byte {int((a != b).argmax())} of {_name(built, k)}"
        raise GuardError(_words(built, number, f"{what} in other fresh memory: it reads what nobody wrote"))


def _words(built: Ready, number: int, what: str) -> str:
    piece = built.scheduled.pieces[number]
    loops = describe_unit(piece.unit, [key for key in built.scheduled.slots if isinstance(key, Node)])
    return f"kernel {piece.name!r} (step {number + 1} of {len(built.steps)}) {what}\n\n{loops}"


def _name(built: Ready, k: int) -> str:
    """A fenced buffer in words."""
    slot = k if k < built.n_inputs + built.plan.n_outputs else k + len(built.plan.scalars)
    key = next((key for key, s in built.scheduled.slots.items() if s == slot), None)
    text = repr(key) if isinstance(key, Node) else f"{key}"
    if slot < built.n_inputs:
        return f"input {slot}, {text}"
    if slot < built.n_inputs + built.plan.n_outputs:
        return f"output {slot - built.n_inputs}, {text}"
    return f"the scratch memory of {text}" if isinstance(key, tuple) else f"the intermediate {text}"
