"""Counters of the whole engine in one dictionary."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from adjoint.runtime import disk_cache, tally


def collect(recorded: dict[str, int]) -> dict[str, Any]:
    """Counters of every part; zeros for what never started.

    Since the process began: operations, flushes, traces, programs (made), nodes (made), kernels (compiled, or found on
    disk), compilations (modules loaded), compile_seconds, bytes_moved, runs (of programs), and what was forgotten to keep the rest
    bounded: nodes_evicted, programs_evicted, kernels_evicted.
    Now: living_programs, living_kernels, trie_nodes, live_buffers, live_bytes (in use), pooled_buffers, pooled_bytes
    (free), and the allocations there were; these again under "memory".
    cache: what the machine code on disk gave.
    """
    out: dict[str, Any] = dict(recorded)
    _, runs, operations, moved, ended = map(int, tally.words)
    for name, more in (("operations", operations), ("traces", runs + ended), ("flushes", runs + ended)):
        out[name] += more
    bounds = sys.modules.get("adjoint.trace.bounds")
    evicted = bounds.counters if bounds is not None else {}
    out["nodes_evicted"] = evicted.get("nodes_evicted", 0)
    out["programs_evicted"] = evicted.get("programs_evicted", 0)
    out["trie_nodes"] = recorded["nodes"] - out["nodes_evicted"]
    jit = sys.modules.get("adjoint.runtime.jit")
    counters = jit.counters if jit is not None else None
    out["kernels"] = counters.kernels_compiled + counters.kernels_loaded if counters is not None else 0
    out["kernels_evicted"] = counters.kernels_evicted if counters is not None else 0
    out["living_kernels"] = len(jit._kernels) if jit is not None else 0
    out["compilations"] = counters.modules if counters is not None else 0
    out["compile_seconds"] = counters.compile_seconds if counters is not None else 0.0
    program = sys.modules.get("adjoint.runtime.program")
    out["bytes_moved"] = moved + (program.counters["bytes_moved"] if program is not None else 0)
    out["runs"] = runs + (program.counters["runs"] if program is not None else 0)
    out["living_programs"] = len(program.living) if program is not None else 0
    memory = sys.modules.get("adjoint.runtime.memory")
    if memory is not None:
        out["memory"] = memory.stats()
        out |= out["memory"]
    out["cache"] = asdict(disk_cache.counters)
    return out
