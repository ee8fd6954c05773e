"""Where time goes: every kernel with its time, FLOP/s, bytes/s and share of what this machine can do.

The names are those of `torch.profiler`; `roofline()` and `picture()` are ours. `profiling.py` is the switch and what users
call (`cycles.py` its schedules), `watch.py` what is noted while it is on, `events.py` makes events of the notes,
`averages.py` tables, `chrome.py` the trace file, `peaks.py` measures the roof and `roofline.py` holds kernels against it.
Nothing of this is loaded, or costs anything, before it is asked for. Read `profile`.

>>> import adjoint as torch
>>> model, x = torch.nn.Linear(200, 100), torch.randn(50, 200)
>>> with torch.profiler.profile() as prof:
...     for _ in range(3):
...         with torch.profiler.record_function("forward"):
...             y = model(x).relu()
...         y.sum().backward()
...         prof.step()
>>> table = prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=10)  # print it
>>> sum(e.flops for e in prof.kernels() if "matmul" in e.name and "forward" in e.scopes) >= 3 * 2 * 50 * 100 * 200
True
>>> prof.roofline()[0].share > 0
True
"""

from __future__ import annotations

from adjoint.profiler.cycles import ProfilerAction, schedule
from adjoint.profiler.peaks import machine
from adjoint.profiler.profiling import (
    ProfilerActivity,
    profile,
    record_function,
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
