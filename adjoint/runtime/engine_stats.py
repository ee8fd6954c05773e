"""Counters of the whole engine in one dictionary."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from adjoint.runtime import disk_cache


def collect(recorded: dict[str, int]) -> dict[str, Any]:
    """operations, programs, kernels, compile_seconds, cache, buffers and bytes; zeros for what never started.

    kernels: distinct ones in machine code, whether this process compiled them or found them on disk.
    """
    out: dict[str, Any] = dict(recorded)
    jit = sys.modules.get("adjoint.runtime.jit")
    counters = jit.counters if jit is not None else None
    out["kernels"] = counters.kernels_compiled + counters.kernels_loaded if counters is not None else 0
    out["compile_seconds"] = counters.compile_seconds if counters is not None else 0.0
    program = sys.modules.get("adjoint.runtime.program")
    out["bytes_moved"] = program.counters["bytes_moved"] if program is not None else 0
    memory = sys.modules.get("adjoint.runtime.memory")
    if memory is not None:
        out["memory"] = memory.stats()
    out["cache"] = asdict(disk_cache.counters)
    return out
