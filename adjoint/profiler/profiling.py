"""When a profile is on, and what is asked of it afterwards: `profile` and `record_function`. Read `profile`."""

from __future__ import annotations

import enum
import functools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from adjoint.profiler import watch
from adjoint.profiler.averages import Averages, EventList
from adjoint.profiler.cycles import ProfilerAction
from adjoint.profiler.events import WORK, Event, collect
from adjoint.profiler.watch import Session, enter, leave
from adjoint.trace.recorder import flush
from adjoint.trace.state import current, warn


class ProfilerActivity(enum.Enum):
    """What can be profiled: CPU. The other names are PyTorch's.

    >>> import adjoint as torch
    >>> torch.profiler.ProfilerActivity.CPU.name
    'CPU'
    """

    CPU = 0
    CUDA = 1
    XPU = 2
    MTIA = 3


_KEEPS = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
_lock = threading.Lock()
_running: profile | None = None


class profile:
    """Time every kernel that runs in a `with` block.

    activities: ProfilerActivity.CPU, which is all there is.  schedule: see `schedule`; without one everything is kept.
    on_trace_ready: called with the profile at the end of each cycle.  record_shapes: show shapes in the trace file
    (they are always known to `key_averages(group_by_input_shape=True)`).  with_modules: make each call of a Module a
    named block.  The other options are PyTorch's and change nothing: lines and FLOPs are always known.

    Work is run when a value is needed or an iteration ends; what is pending in the calling thread at the beginning, at
    the end and at each `step()` is run there, so that it counts where it was written. Other threads are profiled, too.
    Raises RuntimeError inside another profile.

    >>> import adjoint as torch
    >>> x = torch.randn(64, 64)
    >>> with torch.profiler.profile() as prof:
    ...     y = (x @ x).relu().sum()
    >>> sum(e.flops for e in prof.kernels() if e.name == "matmul")
    524288
    >>> print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=5))
    -----...
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        acc_events: bool = False,
        use_cuda: bool | None = None,
    ) -> None:
        _check_activities([ProfilerActivity.CPU] if activities is None else list(activities), bool(use_cuda))
        if profile_memory:
            warn("profile_memory=True: memory is not profiled; see adjoint.stats()")
        self.schedule, self.on_trace_ready = schedule, on_trace_ready
        self.record_shapes, self.with_modules, self.acc_events = record_shapes, with_modules, acc_events
        self.step_num = 0
        self.current_action = ProfilerAction.NONE
        self._session: Session | None = None  # the one that is on
        self._kept: list[Session] = []
        self._events: list[Event] | None = None
        self._step_began = 0

    # --- on and off ---

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.stop()
        else:
            self._off()

    def start(self) -> None:
        """Begin, as `with` does."""
        global _running
        with _lock:
            if _running is not None:
                raise RuntimeError(
                    "profile: another profile is running already; profiles cannot be nested. Name the part you are "
                    'interested in with `with torch.profiler.record_function("name"):`'
                )
            _running = self
        try:
            self.step_num, self._kept, self._events = 0, [], None
            self._begin(self._action())
        except BaseException:
            self._off()
            raise

    def stop(self) -> None:
        """End, as leaving the `with` block does."""
        if _running is not self:
            raise RuntimeError("profile.stop() was called, but the profile is not running: call start() first")
        action = self.current_action
        try:
            if self._session is not None:
                _settle()
                if self.step_num or self.schedule is not None:
                    self._end_step(last=True)
        finally:
            self._off()
        if action in _KEEPS and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """Say that a step (mostly an iteration of training) is over and the next begins; needed with a schedule."""
        if _running is not self:
            raise RuntimeError("profile.step() was called, but the profile is not running: use it inside the with block")
        if self._session is not None:
            _settle()
            self._end_step()
        before = self.current_action
        self.step_num += 1
        after = self._action()
        self.current_action = after
        ends = before is ProfilerAction.RECORD_AND_SAVE
        if not ends and (before in _KEEPS) == (after in _KEEPS) and (self._session is None) == (after is ProfilerAction.NONE):
            self._step_began = watch.now()
            return
        self._close(keep=before in _KEEPS)
        if ends and self.on_trace_ready is not None:
            self.on_trace_ready(self)
        self._begin(after)

    def _action(self) -> ProfilerAction:
        return ProfilerAction.RECORD if self.schedule is None else self.schedule(self.step_num)

    def _begin(self, action: ProfilerAction) -> None:
        self.current_action = action
        if action is not ProfilerAction.NONE:
            _settle()
            self._session = Session(self.with_modules)
            self._session.open()
        self._step_began = watch.now()

    def _end_step(self, last: bool = False) -> None:
        """Note the step that ends; of the last one, only if anything happened in it."""
        if self._session is not None:
            lane = self._session.lane()
            if not last or any(note.begin >= self._step_began for note in lane.notes):
                lane.note("step", f"ProfilerStep#{self.step_num}", self._step_began)

    def _close(self, keep: bool) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            if keep:
                self._kept = [*self._kept, session] if self.acc_events else [session]
                self._events = None

    def _off(self) -> None:
        global _running
        self._close(keep=self.current_action in _KEEPS)
        self.current_action = ProfilerAction.NONE
        with _lock:
            if _running is self:
                _running = None

    # --- what was found ---

    def events(self) -> EventList:
        """All events of the last cycle (with acc_events=True, of all), by thread and beginning. Times in microseconds.

        >>> import adjoint as torch
        >>> with torch.profiler.profile() as prof:
        ...     with torch.profiler.record_function("part"):
        ...         y = torch.ones(10_000).exp().sum().item()
        >>> [e.name for e in prof.events() if e.kind == "user"]
        ['part']
        """
        if self._session is not None and not self._kept:
            raise RuntimeError("the profile is still running: ask for its events after the with block, or in on_trace_ready")
        if self._events is None:
            self._events = [e for s in self._kept for e in collect(s, self._kept[0].begin)]
        return EventList(self._events)

    def kernels(self) -> EventList:
        """The events that compute elements: machine code and steps in NumPy; in reference mode, operations."""
        return EventList(e for e in self.events() if e.kind in WORK)

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> Averages:
        """Events of one name together; also apart by shapes, and (group_by_stack_n > 0) by the lines that recorded them.

        `.table(sort_by=..., row_limit=...)` of the result is for people.

        >>> import adjoint as torch
        >>> with torch.profiler.profile() as prof:
        ...     y = torch.ones(10_000).exp().sum().item()
        >>> sum(row.self_cpu_time_total for row in prof.key_averages()) > 0
        True
        """
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the events as JSON for chrome://tracing or https://ui.perfetto.dev.

        >>> import adjoint as torch, json, os, tempfile
        >>> with torch.profiler.profile() as prof:
        ...     y = torch.ones(10_000).exp().sum().item()
        >>> path = os.path.join(tempfile.mkdtemp(), "trace.json")
        >>> prof.export_chrome_trace(path)
        >>> sorted({e["ph"] for e in json.load(open(path))["traceEvents"]})
        ['M', 'X']
        """
        from adjoint.profiler.chrome import write

        threads = {lane.ident: lane.name for s in self._kept for lane in s.lanes}
        write(path, self.events(), threads, self.record_shapes)

    def roofline(self) -> Any:
        """Each kernel beside what this machine can do: rows of time, FLOP/s, bytes/s, FLOPs per byte and the share of the
        attainable, slowest first; prints as a table. The first call measures the machine, in less than 0.3 s.

        >>> import adjoint as torch
        >>> x = torch.randn(256, 256)
        >>> with torch.profiler.profile() as prof:
        ...     y = (x @ x).sum().item()
        >>> any(row.name == "matmul" for row in prof.roofline()) or torch.is_eager()
        True
        """
        from adjoint.profiler.roofline import roofline

        return roofline(self.kernels())

    def draw(self) -> str:
        """The roofline as a picture: SVG text. A dot for each kernel, its area as the time spent in it.

        >>> import adjoint as torch
        >>> x = torch.randn(256, 256)
        >>> with torch.profiler.profile() as prof:
        ...     y = (x @ x).sum().item()
        >>> prof.draw()[:4]
        '<svg'
        """
        from adjoint.profiler.roofline import draw

        return draw(self.roofline())

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Write `draw()` to a file.

        >>> import adjoint as torch, os, tempfile
        >>> with torch.profiler.profile() as prof:
        ...     y = torch.ones(10_000).exp().sum().item()
        >>> prof.picture(os.path.join(tempfile.mkdtemp(), "roofline.svg"))
        """
        text = self.draw()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _check_activities(activities: list[ProfilerActivity], use_cuda: bool) -> None:
    wrong = [a for a in activities if not isinstance(a, ProfilerActivity)]
    if wrong:
        raise TypeError(f"activities are of ProfilerActivity, got {wrong[0]!r}; write activities=[ProfilerActivity.CPU]")
    others = [a.name for a in activities if a is not ProfilerActivity.CPU] + (["CUDA"] if use_cuda else [])
    if not others:
        return
    message = f"profile: there is no {others[0]} here, everything runs on the CPU; write activities=[ProfilerActivity.CPU]"
    if ProfilerActivity.CPU not in activities:
        raise RuntimeError(message)
    warn(message)


def _settle() -> None:
    """Run what is pending in this thread, so that it is not counted elsewhere. A derivative is not cut in two."""
    tr = current()
    if tr.node.parent is not None and not tr.static and not tr.whole:
        flush(tr)


class record_function:
    """Name a part of the program, as a context manager or a decorator; costs next to nothing while no profile is on.

    Kernels know the blocks in which their operations were recorded, also where they run later (see `Event.scopes`).

    >>> import adjoint as torch
    >>> @torch.profiler.record_function("forward")
    ... def forward(x):
    ...     return (x * 2).exp()
    >>> with torch.profiler.profile() as prof:
    ...     y = forward(torch.ones(10_000))
    >>> prof.kernels()[-1].scopes
    ('forward',)
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        if not isinstance(name, str):
            raise TypeError(f'record_function expects a name, got {type(name).__name__}; write record_function("name")')
        self.name = name
        self._open: list[tuple[Any, int, Session | None]] = []

    def __enter__(self) -> record_function:
        self._open.append((enter(self.name), watch.now(), Session.current))
        return self

    def __exit__(self, *error: Any) -> None:
        span, began, session = self._open.pop()
        leave(span)
        if session is not None and session is Session.current:
            session.lane().note("user", self.name, began)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def named(*args: Any, **options: Any) -> Any:
            with record_function(self.name):
                return function(*args, **options)

        return named


def tensorboard_trace_handler(dir_name: str, worker_name: str | None = None, use_gzip: bool = False) -> Callable[[profile], None]:
    """For `on_trace_ready`: writes the trace of each cycle into a folder.

    >>> import adjoint as torch, os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with torch.profiler.profile(on_trace_ready=torch.profiler.tensorboard_trace_handler(folder, "me")):
    ...     y = torch.ones(10_000).exp().sum().item()
    >>> os.listdir(folder)[0].endswith(".pt.trace.json")
    True
    """
    worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"

    def write(prof: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        name = f"{worker}.{time.time_ns()}.pt.trace.json" + (".gz" if use_gzip else "")
        prof.export_chrome_trace(os.path.join(dir_name, name))

    return write


def supported_activities() -> set[ProfilerActivity]:
    """What can be profiled here.

    >>> import adjoint as torch
    >>> torch.profiler.supported_activities()
    {<ProfilerActivity.CPU: 0>}
    """
    return {ProfilerActivity.CPU}
