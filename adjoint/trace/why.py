"""Why programs were compiled: each time one is, what set it apart from those before, and what it cost.

`compiled` is called once per compilation and writes a `Compilation`; `why` reports the last ones. The nearest known path
is the program that shares most steps from the root: where the two part is the reason, since equal paths are one program.
What a run saves is measured when the report is asked for, on zeros in the shapes of the inputs, beside the same graph run
step by step through NumPy; nothing is timed while the user's code runs. Read `Compilation`, then `_reason`.
"""

from __future__ import annotations

import collections
import itertools
import linecache
import sys
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

from adjoint import config
from adjoint.trace.state import user_frame
from adjoint.trace.text import trace_text
from adjoint.trace.trie import Step, path

KEPT = 256  # compilations remembered
_LOOK = 4096  # steps looked at below a branch, to find where it leads
_MEASURE = 0.05  # seconds at most for each of the two measurements

Place = tuple[str, int, str] | None
history: collections.deque[Compilation] = collections.deque(maxlen=KEPT)
_numbers = itertools.count(1)


@dataclass
class Compilation:
    """One program and why it was made.

    number: how many had been compiled, this one included.  where: file, line and function at which the trace ended.
    operations: steps recorded.  shared: how many of them the nearest earlier path has, too.  reason: in words.
    seconds: by phase.  runs, program: how often it has run (`program` is None once it is forgotten).
    """

    number: int
    where: Place
    operations: int
    shared: int
    reason: str
    seconds: dict[str, float]
    _program: weakref.ref[Any] = field(repr=False)

    @property
    def program(self) -> Any:
        return self._program()

    @property
    def runs(self) -> int:
        return self.program.uses() if self.program is not None else 0

    @property
    def cost(self) -> float:
        """Seconds from the end of the trace to code that runs."""
        return sum(self.phases().values())

    def phases(self) -> dict[str, float]:
        """Seconds by phase; code that is made at the second run counts from then on."""
        program = self.program
        return self.seconds | (program.seconds if program is not None else {})

    def saved(self) -> tuple[float, float] | None:
        """Seconds of one run compiled, and through NumPy, on zeros; None where that cannot be measured."""
        if self.program is None or config.get("ADJOINT_DEBUG") >= 2:  # then every run prints its kernels
            return None
        return _measured(self.program)

    def text(self) -> str:
        """The paragraph of the report."""
        phases = ", ".join(f"{name} {1e3 * s:.1f}" for name, s in self.phases().items())
        lines = [
            f"program {self.number}: {self.operations} operations, compiled in {1e3 * self.cost:.1f} ms ({phases})",
            f"  ended at {show(self.where)}",
            f"  because  {self.reason}",
        ]
        if self.program is None:
            return "\n".join([*lines, "  since then forgotten"])
        lines.append(f"  has run {self.runs} {'time' if self.runs == 1 else 'times'}; {self._worth()}")
        return "\n".join(lines)

    def _worth(self) -> str:
        found = self.saved()
        if found is None:
            return "what a run saves cannot be measured here"
        fast, slow = found
        rate = f"a run takes {_time(fast)}, step by step through NumPy {_time(slow)} (measured now, on zeros)"
        if slow <= fast:
            return f"{rate}: it does not pay back"
        calls = int(self.cost / (slow - fast)) + 1
        return f"{rate}: it pays back after {calls} {'run' if calls == 1 else 'runs'}"


class Report(list):
    """The last compilations, oldest first; prints as text."""

    def __repr__(self) -> str:
        if not self:
            return "nothing has been compiled"
        return "\n\n".join(c.text() for c in self)


def why(last: int = 10) -> Report:
    """Why the last programs were compiled, what that cost, and after how many runs it is paid back.

    Each entry names the line at which its trace ended, and the first step that differs from the nearest path known
    before, with both lines. `print` it, or look at the `Compilation`s in it.
    """
    return Report(list(history)[-last:] if last > 0 else [])


def compiled(
    node: Step, slots: tuple[int, ...], saved: tuple[int, ...], program: Any, seconds: dict[str, float]
) -> Compilation:
    """Note that the program of some slots of a path (and others saved for derivatives) has been made; call before it is
    entered at `node`. Prints what ADJOINT_DEBUG asks of a trace: from 1 why it was compiled, from 3 its text."""
    steps = path(node)
    shared, reason = _reason(node, slots)
    if node.family:
        reason = f"this is a piece of a trace that goes on in ever other ways; {reason}"
    operations = sum(1 for s in steps if s.aval is not None and s.prim != "input")
    made = Compilation(next(_numbers), user_frame(), operations, shared, reason, seconds, weakref.ref(program))
    history.append(made)
    level = config.get("ADJOINT_DEBUG")
    if level >= 1:
        print(f"program {made.number}: {operations} operations, ended at {show(made.where)}, because {reason}", file=sys.stderr)
    if level >= 3:
        print(trace_text(node, (*slots, *saved)), file=sys.stderr)
    return made


def _reason(node: Step, slots: tuple[int, ...]) -> tuple[int, str]:
    """Steps shared with the nearest known path, and how the two differ."""
    if node.programs:
        return node.depth, _other_results(node, slots)
    looked: set[Step] = set()
    ahead = _leads_to_program(list(node.kids.values()), looked)
    if ahead is not None:
        return node.depth, f"an earlier trace went on from here, with {_what(ahead)}; this one ended"
    step = node
    while step.parent is not None:
        parent = step.parent
        looked.add(step)
        other = _leads_to_program([s for s in list(parent.kids.values()) if s is not step], looked)
        if other is not None:
            return parent.depth, _difference(step, other, node)
        if parent.programs:
            return parent.depth, f"an earlier trace ended before {_what(step)}; this one went on"
        step = parent
    return 0, "nothing like it was known"


def _leads_to_program(starts: list[Step], looked: set[Step]) -> Step | None:
    """The latest of some steps below which a program is known, not counting what was looked at before: different steps
    may lead to the same one."""
    for start in reversed(starts):
        stack, count = [start], 0
        while stack and count < _LOOK:
            step = stack.pop()
            if step in looked:
                continue
            looked.add(step)
            count += 1
            if step.programs:
                return start
            stack.extend(list(step.kids.values()))
    return None


def _other_results(node: Step, slots: tuple[int, ...]) -> str:
    by_slot = {s.slot: s for s in path(node)}
    known = [set(key) for key in list(node.programs or ())]
    nearest = min(known, key=lambda k: len(k ^ set(slots)))
    more, fewer = sorted(set(slots) - nearest), sorted(nearest - set(slots))
    parts = [f"{_what(by_slot[s])} is now kept" for s in more if s in by_slot]
    parts += [f"{_what(by_slot[s])} is no longer kept" for s in fewer if s in by_slot]
    listed = "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more" if len(parts) > 3 else "")
    return "the same path with other living results: " + (listed or "other results saved for derivatives")


def _difference(ours: Step, theirs: Step, end: Step) -> str:
    here, there = _what(ours, end), _what(theirs)
    if ours.prim == theirs.prim == "input":
        return f"it reads {here}, where the nearest earlier trace read {there}"
    return f"{here}, where the nearest earlier trace had {there}"


def _mode(attrs: Any) -> str:
    if type(attrs) is bool:
        return f"gradient mode {'on' if attrs else 'off'}"
    if type(attrs) is tuple:
        return f"autocast to {attrs[1].name}" if attrs[1] is not None else "autocast off"
    return f"default dtype {attrs.name}"


def _what(step: Step, end: Step | None = None) -> str:
    """A step in words, with its line; an input has the line of the operation after it."""
    if step.aval is None:
        what = _mode(step.attrs) if step.prim == "mode" else f"a mark ({step.prim})"
    else:
        attrs = f" {step.attrs}" if step.attrs is not None and step.prim != "input" else ""
        what = f"{step.prim}{attrs} -> {step.aval!r}" if step.prim != "input" else f"an input {step.aval!r}"
    where = step.where or _next_line(step, end)
    return f"{what} at {show(where)}" if where else what


def _next_line(step: Step, end: Step | None) -> Place:
    if end is not None:
        return next((s.where for s in path(end)[step.depth :] if s.where is not None), None)
    for _ in range(64):
        following = next(iter(list(step.kids.values())), None)
        if following is None:
            return None
        if following.where is not None:
            return following.where
        step = following
    return None


def show(where: Place) -> str:
    """`file:line in function`, with the line itself where it can be read."""
    if where is None:
        return "a place outside any user code"
    file, line, function = where
    text = linecache.getline(file, line).strip()
    return f"{file}:{line} in {function}" + (f": {text}" if text else "")


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.1f} us" if seconds < 1e-3 else f"{1e3 * seconds:.2f} ms"


def _measured(program: Any) -> tuple[float, float] | None:
    from adjoint.runtime import memory

    buffers: list[Any] = [None] * program.n_inputs
    for node in program.inputs:
        k, shape, dtype = node.attrs
        buffers[k] = memory.allocate(node.size * dtype.itemsize)
        buffers[k].array(dtype.np, shape)[...] = 0
    blank = memory.allocate(0)
    buffers = [blank if b is None else b for b in buffers]
    numbers = [n.attrs[0] for n in program.graph.nodes if n.prim.name == "scalar"]
    scalars = [0] * (1 + max(numbers, default=-1))
    counted = program.runs, program.last
    try:
        program.compile()
        return tuple(_fastest(run, buffers, scalars) for run in (program.run, program.interpret))  # type: ignore[return-value]
    except (ArithmeticError, RuntimeError, ValueError, IndexError):  # zeros are no matrix to invert, and so on
        return None
    finally:
        program.runs, program.last = counted


def _fastest(run: Any, buffers: list[Any], scalars: list[Any]) -> float:
    run(buffers, scalars)
    best, end = float("inf"), time.perf_counter() + _MEASURE
    for _ in range(200):
        began = time.perf_counter()
        run(buffers, scalars)
        now = time.perf_counter()
        best = min(best, now - began)
        if now > end:
            break
    return best
