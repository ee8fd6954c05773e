"""Events as a Chrome trace: JSON for chrome://tracing and Perfetto. Read `trace`.

The format is Google's "Trace Event Format": complete events ("X") with ts and dur in microseconds, metadata ("M") for
the names of process and threads.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from adjoint.profiler.averages import place
from adjoint.profiler.events import WORK, Event

_LINES = 8  # of the user's, at most, in one event


def write(path: str | os.PathLike[str], events: Iterable[Event], threads: Mapping[int, str], shapes: bool) -> None:
    """Write the trace of some events; compressed if the name ends in .gz."""
    text = json.dumps(trace(events, threads, shapes), separators=(",", ":"))
    if os.fspath(path).endswith(".gz"):
        with gzip.open(path, "wt", encoding="utf-8") as file:
            file.write(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def trace(events: Iterable[Event], threads: Mapping[int, str], shapes: bool = True) -> dict[str, Any]:
    """The trace as a dictionary. threads: their names, by number."""
    pid = os.getpid()
    out: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "ts": 0, "args": {"name": "adjoint"}}]
    for tid, name in threads.items():
        out.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}})
    for e in events:
        ts, dur = (e.begin - e.origin) / 1e3, (e.end - e.begin) / 1e3
        out.append(
            {"ph": "X", "name": e.name, "cat": e.kind, "ts": ts, "dur": dur, "pid": pid, "tid": e.thread, "args": _args(e, shapes)}
        )
    return {"traceEvents": out, "displayTimeUnit": "ms"}


def _args(e: Event, shapes: bool) -> dict[str, Any]:
    if e.kind not in WORK:
        return {}
    args: dict[str, Any] = {"flops": e.flops, "bytes": e.bytes}
    us = e.cpu_time_total
    if us and e.flops:
        args["GFLOP/s"] = round(e.flops / us / 1e3, 3)
    if us and e.bytes:
        args["GB/s"] = round(e.bytes / us / 1e3, 3)
    args["operations"] = " ".join(e.operations)
    args["where"] = ", ".join(place(w, short=False) for w in e.where[:_LINES])
    if len(e.where) > _LINES:
        args["where"] += f" and {len(e.where) - _LINES} more"
    if e.scopes:
        args["scope"] = "/".join(e.scopes)
    if shapes:
        args["inputs"] = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in e.inputs)
        args["results"] = ", ".join(f"{dtype}{list(shape)}" for shape, dtype in e.results)
    return args
