"""Where time goes: every kernel with its time, FLOP/s, bytes/s and share of what this machine can do.

The names are those of `torch.profiler`; `roofline()` and `picture()` are ours. `profiling.py` is the switch and what users
call, `watch.py` what is noted while it is on, `events.py` makes events of the notes, `averages.py` tables, `chrome.py`
the trace file, `peaks.py` measures the roof and `roofline.py` holds kernels against it. Nothing of this is loaded, or
costs anything, before it is asked for. Read `profile`.
"""

from __future__ import annotations

from adjoint.profiler.peaks import machine
from adjoint.profiler.profiling import (
    ProfilerAction,
    ProfilerActivity,
    profile,
    record_function,
    schedule,
    supported_activities,
    tensorboard_trace_handler,
)

__all__ = [
    "ProfilerAction",
    "ProfilerActivity",
    "machine",
    "profile",
    "record_function",
    "schedule",
    "supported_activities",
    "tensorboard_trace_handler",
]
