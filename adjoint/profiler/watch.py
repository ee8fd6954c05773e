"""What is noted while a profile is on, and how: functions of the engine are replaced by timed ones, and put back.

Nothing of the engine asks whether a profile is on, but for one comparison at the end of a trace (`ending.watching`).
Each thread writes notes into a `Lane` of its own. `Session.open` and `Session.close` are the switch; read `_HOOKS`.

Operations are recorded at one time and run at another, so which `record_function` block a kernel belongs to is not told
by the clock. While a block is open, the slots of the trace are: a `Span` is the range of slots recorded inside.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from adjoint import nn
from adjoint import rewrite as _rewrite
from adjoint.runtime import jit, observe, tally
from adjoint.runtime.program import Program
from adjoint.trace import ending, lower, recorder
from adjoint.trace.aval import Aval
from adjoint.trace.handle import Tensor
from adjoint.trace.lower import SILENT
from adjoint.trace.state import Trace, current

now = time.perf_counter_ns


class Note(NamedTuple):
    """One stretch of time of one thread, in ns. detail depends on the kind; read `events` for what becomes of it.

    kind: "trace end", "compile", "phase" (of compiling), "program", "operation" (reference mode), "user", "step" or "module".
    """

    kind: str
    name: str
    begin: int
    end: int
    detail: Any = None


class Span:
    """The slots of a trace that were recorded while a named block was open. end: None while it is."""

    __slots__ = ("name", "start", "end")

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start
        self.end: int | None = None


class Lane:
    """The notes of one thread."""

    def __init__(self, thread: threading.Thread) -> None:
        self.ident, self.name = threading.get_native_id(), thread.name
        self.notes: list[Note] = []
        self.ending = False  # inside the end of a trace
        self.spans: tuple[tuple[str, int, int], ...] | None = None  # of the trace that is ending

    def note(self, kind: str, name: str, begin: int, detail: Any = None) -> None:
        self.notes.append(Note(kind, name, begin, now(), detail))


class Session:
    """One stretch of profiling. begin, end: in ns.  lanes: one for each thread that did anything."""

    current: Session | None = None

    def __init__(self, with_modules: bool = False) -> None:
        self.with_modules = with_modules
        self.lanes: list[Lane] = []
        self.local = threading.local()
        self.thread = threading.get_native_id()
        self.begin = now()
        self.end: int | None = None
        self._undo: list[tuple[Any, str, Any]] = []

    def lane(self) -> Lane:
        """That of this thread."""
        found = getattr(self.local, "lane", None)
        if found is None:
            found = self.local.lane = Lane(threading.current_thread())
            self.lanes.append(found)
        return found

    def open(self) -> None:
        """Replace the functions that are timed."""
        observe.prepare()
        Session.current = self
        modules = ((nn.Module, "__call__", _module),) if self.with_modules else ()
        for owner, name, wrap in (*_HOOKS, *modules):
            known = owner.__dict__[name]
            self._undo.append((owner, name, known))
            setattr(owner, name, wrap(known))
        ending.watching = _trace_ends
        tally.pause(1)
        self.begin = now()

    def close(self) -> None:
        """Put them back."""
        self.end = now()
        ending.watching = None
        tally.pause(-1)
        for owner, name, known in reversed(self._undo):
            setattr(owner, name, known)
        self._undo.clear()
        Session.current = None


class _Blocks(threading.local):
    """The named blocks that a thread has open, and the spans of its trace."""

    def __init__(self) -> None:
        self.open: list[Span] = []
        self.spans: list[Span] = []
        self.trace: tuple[int, Session] | None = None

    def follow(self, tr: Trace, session: Session) -> None:
        """Begin anew where another trace (or profile) has begun: what is open covers it from its start."""
        now_at = (tr.id, session)
        if self.trace != now_at:
            self.trace = now_at
            self.spans = []
            for span in self.open:
                span.start = -1
                self.spans.append(span)

    def names(self) -> tuple[str, ...]:
        return tuple(span.name for span in self.open)


_blocks = _Blocks()


def enter(name: str) -> Span:
    """Open a named block in this thread."""
    span, session = Span(name, -1), Session.current
    if session is not None:
        tr = current()
        _blocks.follow(tr, session)
        span.start = tr.node.slot
        _blocks.spans.append(span)
    _blocks.open.append(span)
    return span


def leave(span: Span) -> None:
    """Close a named block."""
    session = Session.current
    if session is not None:
        tr = current()
        _blocks.follow(tr, session)
        span.end = tr.node.slot
    if span in _blocks.open:
        _blocks.open.remove(span)


def _trace_ends(tr: Trace) -> bool:
    """See `ending.watching`: the first call of a thread is timed, and calls `flush` once more, which must go on."""
    session = Session.current
    if session is None:
        return False
    lane = session.lane()
    if lane.ending:
        return False
    empty = tr.node.parent is None
    if tr is current():
        _blocks.follow(tr, session)
        top = tr.node.slot
        lane.spans = tuple([(s.name, s.start, top if s.end is None else s.end) for s in _blocks.spans])
    lane.ending = True
    began = now()
    try:
        ending.flush(tr)
    finally:
        lane.ending, lane.spans = False, None
        if not empty:
            lane.note("trace end", "trace end", began)
    return True


def _run(known: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `Program.run`."""

    def run(self: Program, buffers: list[Any], scalars: list[Any]) -> Any:
        session = Session.current
        if session is None:
            return known(self, buffers, scalars)
        lane = session.lane()
        scopes = lane.spans if lane.spans is not None else _blocks.names()

        def note(program: Program, built: Any, begin: int, end: int, stages: list[observe.Stage]) -> None:
            lane.notes.append(Note("program", "program", begin, end, (program, built, stages, scopes)))

        return observe.run(self, buffers, scalars, note)

    return run


def _timed(kind: str, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes a timed function of one."""

    def wrap(known: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(known)
        def timed(*args: Any, **options: Any) -> Any:
            session = Session.current
            if session is None:
                return known(*args, **options)
            began = now()
            try:
                return known(*args, **options)
            finally:
                session.lane().note(kind, name, began)

        return timed

    return wrap


def _schedule(known: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `Program._build`, which mostly finds that all is done."""
    timed = _timed("phase", "compile: schedule")(known)

    def build(self: Program) -> Any:
        return self._built if self._built is not None else timed(self)

    return build


def _operation(known: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `recorder.evaluate`, which computes one operation in reference mode."""

    def evaluate(tr: Trace, step: Any, operands: tuple, held: list, numbers: list, out: Any) -> None:
        session = Session.current
        if session is None or step.prim in SILENT or step.prim == "pick":
            return known(tr, step, operands, held, numbers, out)
        avals = [x._aval for x in operands if isinstance(x, Tensor) and isinstance(x._aval, Aval)]
        kinds = tuple([(tuple(a.shape), a.dtype.name) for a in avals])
        began = now()
        try:
            return known(tr, step, operands, held, numbers, out)
        finally:
            session.lane().note("operation", step.prim, began, (step, kinds, _blocks.names()))

    return evaluate


def _module(known: Callable[..., Any]) -> Callable[..., Any]:
    """In place of `nn.Module.__call__`: each call is a named block."""

    def call(self: Any, *args: Any, **options: Any) -> Any:
        session = Session.current
        if session is None:
            return known(self, *args, **options)
        name = type(self).__name__
        span, began = enter(name), now()
        try:
            return known(self, *args, **options)
        finally:
            leave(span)
            session.lane().note("module", name, began)

    return call


# What is replaced while a profile is on: the owner, the name there, and what makes the timed function of the known one.
_HOOKS: tuple[tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]], ...] = (
    (Program, "run", _run),
    (Program, "_build", _schedule),
    (ending, "build", _timed("compile", "compile")),
    (lower, "graph_of", _timed("phase", "compile: trace")),
    (_rewrite, "simplify", _timed("phase", "compile: simplify")),
    (jit, "compile_kernels", _timed("phase", "compile: LLVM")),
    (recorder, "evaluate", _operation),
)
