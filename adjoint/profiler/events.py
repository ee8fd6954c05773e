"""From notes to events: `collect(session)` gives every stretch of time with its place, work and children.

A run of a program becomes an event with one child for each kernel and each step in NumPy; what a unit computes is asked
of `runtime.facts`, once per program, after the profile. The time of a thread that no event covers is an event, too:
"Python". So the self times of all events of a thread add up to its time. Read `Event`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from adjoint.ir.prims import PRIMS
from adjoint.profiler.watch import Lane, Note, Session
from adjoint.runtime.facts import Facts, Kind, facts
from adjoint.schedule.values import WEIGHTS

Place = tuple[str, int, str]
BLOCKS = frozenset(("user", "step", "module"))  # kinds of events that user code opens and closes
WORK = frozenset(("kernel", "host", "operation", "interpreted"))  # kinds that compute elements
_SHORTEST = 1_000  # ns of Python that make an event


class Interval(NamedTuple):
    """start, end: microseconds since the profile began."""

    start: float
    end: float

    def elapsed_us(self) -> float:
        return self.end - self.start


@dataclass(eq=False)
class Event:
    """One stretch of time of one thread; times in microseconds, as in PyTorch.

    kind: "kernel" (machine code), "host" (a step in NumPy inside a program), "interpreted" (a small program's first run,
    in NumPy), "operation" (NumPy, in reference mode), "program", "trace end", "compile" and its phases, "user"
    (`record_function`), "step", "module" or "python".
    operations: what is computed in it.  inputs, results: (shape, dtype) of each.  where: the user's lines (file, line,
    function) that recorded it; of two places that record the same from the start of a trace on, the first.
    scopes: names of the `record_function` blocks it was recorded in, outermost first.
    flops, bytes: of this run.  shared: whether several threads may have worked on it.
    """

    name: str
    kind: str
    begin: int
    end: int
    thread: int
    operations: tuple[str, ...] = ()
    inputs: tuple[Kind, ...] = ()
    results: tuple[Kind, ...] = ()
    where: tuple[Place, ...] = ()
    scopes: tuple[str, ...] = ()
    flops: int = 0
    bytes: int = 0
    double: bool = False
    shared: bool = False
    origin: int = 0  # ns at which the profile began
    cpu_parent: Event | None = field(default=None, repr=False)
    cpu_children: list[Event] = field(default_factory=list, repr=False)
    count = 1

    @property
    def key(self) -> str:
        """The name under which averages put it; all steps have one."""
        return "ProfilerStep*" if self.kind == "step" else self.name

    @property
    def time_range(self) -> Interval:
        return Interval((self.begin - self.origin) / 1e3, (self.end - self.origin) / 1e3)

    @property
    def cpu_time_total(self) -> float:
        return (self.end - self.begin) / 1e3

    cpu_time = cpu_time_total

    @property
    def self_cpu_time_total(self) -> float:
        return (self.end - self.begin - sum(c.end - c.begin for c in self.cpu_children)) / 1e3

    @property
    def input_shapes(self) -> list[list[int]]:
        return [list(shape) for shape, _ in self.inputs]

    @property
    def is_user_annotation(self) -> bool:
        return self.kind in BLOCKS


def collect(session: Session, origin: int) -> list[Event]:
    """All events of a session that has ended, by thread and beginning; parents before their children. origin: 0 of time."""
    known: dict[int, list[Facts]] = {}
    found: list[Event] = []
    for lane in list(session.lanes):
        events = [e for note in list(lane.notes) for e in _of_note(note, lane.ident, known)]
        own = lane.ident == session.thread
        if not own and not events:
            continue
        begin = session.begin if own else min(e.begin for e in events)
        end = (session.end or 0) if own else max(e.end for e in events)
        events = _nested(events)
        events += _python(events, begin, end, lane)
        found += _nested(events)
    for e in found:
        e.origin = origin
    return found


def _of_note(note: Note, thread: int, known: dict[int, list[Facts]]) -> list[Event]:
    if note.kind == "program":
        return _of_program(note, thread, known)
    event = Event(note.name, note.kind, note.begin, note.end, thread)
    if note.kind == "operation":
        step, event.inputs, event.scopes = note.detail
        event.operations = (note.name,)
        event.where = (step.where,) if step.where is not None else ()
        a = step.aval
        if hasattr(a, "dtype"):
            event.results = ((tuple(a.shape), a.dtype.name),)
            event.double = a.dtype.name in ("float64", "complex128")
            event.flops = _flops(note.name, event.inputs, a.size)
            event.bytes = a.nbytes + sum(_nbytes(kind) for kind in event.inputs)
    return [event]


def _flops(prim: str, inputs: tuple[Kind, ...], size: int) -> int:
    """Of one operation in reference mode, counted as `runtime.facts` counts."""
    if prim == "matmul":
        return 2 * size * inputs[0][0][-1]
    if prim == "convolve":
        n = 1
        for extent in inputs[1][0][1:]:
            n *= extent
        return 2 * size * n
    kind = PRIMS[prim].kind if prim in PRIMS else ""
    if kind == "pointwise":
        return 0 if prim == "cast" else size * WEIGHTS.get(prim, 1)
    if kind == "reduce" and inputs:
        n = 1
        for extent in inputs[0][0]:
            n *= extent
        return n
    return 0


def _nbytes(kind: Kind) -> int:
    from adjoint.dtypes import by_name

    n = by_name(kind[1]).itemsize
    for extent in kind[0]:
        n *= extent
    return n


def _of_program(note: Note, thread: int, known: dict[int, list[Facts]]) -> list[Event]:
    """The run of a program, and what it did."""
    program, built, stages, scopes = note.detail
    if built is None:
        return [_interpreted(note, program, thread, scopes)]
    if id(built) not in known:
        known[id(built)] = facts(program.graph)
    units, done, record = known[id(built)], [], 0
    for stage, times in stages:
        table, numbers = built.stages[stage]
        for k, number in enumerate(numbers):
            unit = units[number]
            e = _event(unit, "host" if table is None else "kernel", times[2 * k], times[2 * k + 1], thread, scopes)
            if table is None:
                e.bytes = unit.bytes
            else:
                last = k + 1 == len(numbers) or numbers[k + 1] != number
                e.flops = unit.flops if last else 0  # of the records of a product, the last one multiplies
                e.bytes = built.plan.work[record][1]
                e.shared = bool(table.words[k, 3]) and table.words[k, 2] > 1
                if not last:
                    e.name += " (packing)"
                record += 1
            done.append(e)
    count = sum(e.kind == "kernel" for e in done)
    name = f"program of {count} kernel{'' if count == 1 else 's'}"
    return [Event(name, "program", note.begin, note.end, thread), *done]


def _event(unit: Facts, kind: str, begin: int, end: int, thread: int, scopes: Any) -> Event:
    e = Event(unit.name, kind, begin, end, thread, unit.operations, unit.inputs, unit.results, double=unit.double)
    places = [where for _, where in unit.origins if where is not None]
    e.where = tuple(dict.fromkeys(places))
    e.scopes = _scopes(scopes, [slot for slot, _ in unit.origins])
    return e


def _interpreted(note: Note, program: Any, thread: int, scopes: Any) -> Event:
    nodes = [n for n in program.graph.nodes if n.prim.name not in ("input", "const", "scalar")]
    names = list(dict.fromkeys(n.prim.name for n in nodes)) or ["copy"]  # of an input, or of a number
    places = [n.origin[1] for n in nodes if n.origin is not None and n.origin[1] is not None]
    slots = [n.origin[0] for n in nodes if n.origin is not None]
    outputs = tuple((o.shape, o.dtype.name) for o in program.graph.outputs)
    inputs = tuple((n.shape, n.dtype.name) for n in program.inputs)
    shown = "+".join(names[:5]) + (f"+{len(names) - 5} more" if len(names) > 5 else "")
    return Event(
        f"NumPy: {shown}", "interpreted", note.begin, note.end, thread, tuple(names), inputs, outputs,
        tuple(dict.fromkeys(places)), _scopes(scopes, slots),
    )  # fmt: skip


def _scopes(scopes: Any, slots: list[int]) -> tuple[str, ...]:
    """The blocks in which all or some of the slots were recorded."""
    if not scopes or isinstance(scopes[0], str):
        return tuple(scopes)
    inside = [name for name, start, end in scopes if any(start < s <= end for s in slots)]
    return tuple(dict.fromkeys(inside))


def _nested(events: list[Event]) -> list[Event]:
    """In order of beginning, with parents and children by what lies inside what."""
    events = sorted(events, key=lambda e: (e.begin, -e.end, e.kind != "step", e.kind not in BLOCKS))
    open_: list[Event] = []
    for e in events:
        e.cpu_children, e.cpu_parent = [], None
    for e in events:
        while open_ and open_[-1].end < e.end:
            open_.pop()
        while open_ and open_[-1].end <= e.begin and e.end > e.begin:
            open_.pop()
        if open_:
            e.cpu_parent = open_[-1]
            open_[-1].cpu_children.append(e)
        open_.append(e)
    return events


def _python(events: list[Event], begin: int, end: int, lane: Lane) -> list[Event]:
    """Stretches in which nothing of the engine ran: the user's Python, recording included. Cut where blocks begin or end."""
    edges = sorted({t for e in events if e.kind in BLOCKS for t in (e.begin, e.end) if begin < t < end})
    busy = sorted((e.begin, e.end) for e in events if e.kind not in BLOCKS)
    gaps, at = [], begin
    for b, e in busy:
        if b > at:
            gaps.append((at, b))
        at = max(at, e)
    if end > at:
        gaps.append((at, end))
    found = []
    k = 0
    for b, e in gaps:
        while k < len(edges) and edges[k] <= b:
            k += 1
        while k < len(edges) and edges[k] < e:
            found.append((b, edges[k]))
            b = edges[k]
            k += 1
        found.append((b, e))
    return [Event("Python", "python", b, e, lane.ident) for b, e in found if e - b >= _SHORTEST]
