"""Running a program record by record with a clock beside it, for a profile (`adjoint.profiler`).

The same driver runs the same records, one at a time, so the results have the same bits; a program that is not observed
pays nothing. Where the system has the clock of `time.perf_counter_ns` as a C function, the loop over the records is
native code, too, and reading the clock costs some 20 ns a record. Read `run`.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

from adjoint.runtime import jit, pool
from adjoint.runtime.memory import Buffer
from adjoint.runtime.plan import Frame, Ready
from adjoint.runtime.program import Program, counters

now = time.perf_counter_ns

# One stage of a run: where it stands in `Ready.stages`, and begin and end of each of its records in ns.
Stage = tuple[int, list[int]]
Note = Callable[[Program, "Ready | None", int, int, list[Stage]], None]


def run(program: Program, buffers: list[Buffer], scalars: list[Any], note: Note) -> list[Buffer]:
    """`Program.run`, telling `note` (program, its build, begin, end, stages). Without machine code there are no stages
    and no build: everything was one stretch of NumPy."""
    began = now()
    program.last = counters["runs"] = counters["runs"] + 1
    program.runs += 1
    built = program._built
    if built is None and not program.cold and program._native:
        built = program._build()
        began = now()
    if built is None:
        program.cold = max(0, program.cold - 1)
        out = program.interpret(buffers, scalars)
        note(program, None, began, now(), [])
        return out
    out = built.outputs.allocate()
    counters["bytes_moved"] += built.bytes
    try:
        frame = program._frames.pop()
    except IndexError:
        frame = Frame(built)
    try:
        inputs = buffers[: built.n_inputs]
        built.fill(frame, inputs, out, scalars)
        stages = [(k, _stage(built, k, frame, inputs, out)) for k in range(len(built.steps))]
        wrong = frame.failed()
    finally:
        program._frames.append(frame)
    note(program, built, began, now(), stages)
    return program.interpret(buffers, scalars) if wrong else out


def _stage(built: Ready, k: int, frame: Frame, buffers: list[Buffer], out: list[Buffer]) -> list[int]:
    table = built.stages[k][0]
    if table is not None:
        return _timed(table, built.is_long, frame)
    began = now()
    built.steps[k](frame, buffers, out)
    return [began, now()]


def _timed(table: pool.RecordTable, is_long: bool, frame: Frame) -> list[int]:
    """Run the records of a table; begin and end of each."""
    clocked = _clocked()
    entry = pool.entries()[is_long]
    times = (ctypes.c_int64 * (2 * table.count))()
    if clocked is not None:
        wanted = clocked[is_long](entry, table.address, table.count, frame.buffers, frame.scalars, times)
    else:
        wanted = 0
        for i in range(table.count):
            times[2 * i] = now()
            wanted |= entry(table.address + 32 * i, 1, frame.buffers, frame.scalars)
            times[2 * i + 1] = now()
    if wanted:
        pool.start()
    return times[:]


# clock_gettime(CLOCK_MONOTONIC), which is what time.perf_counter_ns reads on Linux
_SOURCE = """
declare i32 @clock_gettime(i32, ptr)

define internal void @clock(ptr %to) {
  %time = alloca [2 x i64], align 8
  %r = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at
  %whole = mul i64 %seconds, 1000000000
  %ns = add i64 %whole, %rest
  store i64 %ns, ptr %to
  ret void
}

; The records one by one through the driver's `run`, with the time before and after each.
define i32 @clocked(ptr %run, ptr %records, i64 %count, ptr %buffers, ptr %scalars, ptr %times) {
entry:
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %out, label %record
record:
  %i = phi i64 [ 0, %entry ], [ %next, %record ]
  %wanted = phi i32 [ 0, %entry ], [ %either, %record ]
  %at = getelementptr [4 x i64], ptr %records, i64 %i
  %before = getelementptr [2 x i64], ptr %times, i64 %i
  %after = getelementptr i64, ptr %before, i64 1
  call void @clock(ptr %before)
  %w = call i32 %run(ptr %at, i64 1, ptr %buffers, ptr %scalars)
  call void @clock(ptr %after)
  %either = or i32 %wanted, %w
  %next = add i64 %i, 1
  %end = icmp eq i64 %next, %count
  br i1 %end, label %out, label %record
out:
  %answer = phi i32 [ 0, %entry ], [ %either, %record ]
  ret i32 %answer
}
"""

_native: Any = False  # not tried yet; then None, or the functions that keep and release the interpreter's lock
_kept: list[Any] = []


def prepare() -> None:
    """Make the code that reads the clock now, so that no run has to."""
    if jit.available():
        pool.entries()
        _clocked()


def _clocked() -> tuple[Callable[..., int], Callable[..., int]] | None:
    global _native
    if _native is False:
        _native = None
        same = "CLOCK_MONOTONIC" in time.get_clock_info("perf_counter").implementation
        if same and sys.platform.startswith("linux") and ctypes.sizeof(ctypes.c_void_p) == 8:
            module = jit.compile_module(_SOURCE, level=0)
            pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
            types = (i32, pointer, pointer, i64, pointer, pointer, pointer)
            address = module.address("clocked")
            _kept.append(module)
            _native = ctypes.PYFUNCTYPE(*types)(address), ctypes.CFUNCTYPE(*types)(address)
    return _native
