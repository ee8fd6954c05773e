"""The machine that the figures belong to: processor, vector width, memory bandwidth, peak of multiply-adds.

Figures without these cannot be compared with anybody else's. Read `describe` first.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bandwidth:
    """Best rates seen, in GB/s, with every byte that is read or written counted once."""

    read: float
    copy: float
    add: float


@dataclass(frozen=True)
class Machine:
    """Everything that `RESULTS.md` says about where it was made.

    peak: best rate of multiply-adds seen, in GFLOP/s (two for each), by dtype; empty where no native code can be made.
    """

    processor: str
    cores: int
    vector_bits: int
    system: str
    python: str
    load: float
    bandwidth: Bandwidth
    peak: dict[str, float]


def describe(threads: int, quick: bool) -> Machine:
    """Describe this machine; bandwidth and peak are measured with `threads` threads."""
    # Taken before anything is measured: it tells whether somebody else was busy.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    fields = _processor_fields()
    name = fields.get("model name") or fields.get("CPU part") or platform.processor() or "unknown"
    return Machine(
        processor=f"{name} ({platform.machine()})",
        cores=os.cpu_count() or 1,
        vector_bits=_vector_bits(fields),
        system=f"{platform.system()} {platform.release()}",
        python=sys.version.split()[0],
        load=load,
        bandwidth=_bandwidth(threads, rounds=5 if quick else 15),
        peak={dtype: _peak(threads, dtype, rounds=10 if quick else 40) for dtype in ("float32", "float64")} if _has_jit() else {},
    )


def _processor_fields() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is no such file."""
    fields: dict[str, str] = {}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if not colon:
                    break
                fields[key.strip()] = value.strip()
    except OSError:
        pass
    return fields


def _vector_bits(fields: dict[str, str]) -> int:
    """Width of the widest vector registers in bits; 0 where it cannot be told."""
    features = set((fields.get("flags") or fields.get("Features") or "").split())
    if not features:
        try:
            from llvmlite import binding
        except ImportError:
            return 0
        features = {name for name, on in binding.get_host_cpu_features().items() if on}
    for names, bits in (({"avx512f"}, 512), ({"avx2", "avx"}, 256), ({"asimd", "neon"}, 128)):
        if features & names:
            return bits
    return 128 if "sse2" in features else 0


def _bandwidth(threads: int, rounds: int) -> Bandwidth:
    """Best of several passes over arrays far larger than any cache, split over `threads` threads.

    The counting is STREAM's (J. D. McCalpin, 1995): bytes the program names, 4 per float32 read or
    written, not the cache lines a processor fetches before it overwrites them.
    """
    size = 1 << 24  # 64 MiB per array
    source, other, target = (np.full(size, value, np.float32) for value in (1, 2, 3))
    edges = np.linspace(0, size, threads + 1, dtype=int)
    parts = [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]

    def read(part: slice) -> None:
        np.dot(source[part], other[part])

    def copy(part: slice) -> None:
        np.copyto(target[part], source[part])

    def add(part: slice) -> None:
        np.add(source[part], other[part], out=target[part])

    rates = []
    with ThreadPoolExecutor(threads) as pool:
        for task, arrays in ((read, 2), (copy, 2), (add, 3)):
            seconds = []
            for _ in range(rounds):
                begin = time.perf_counter()
                list(pool.map(task, parts))
                seconds.append(time.perf_counter() - begin)
            rates.append(arrays * 4 * size / min(seconds) / 1e9)
    return Bandwidth(*rates)


_CHAINS = 12  # multiply-adds under way at once: two units times four to five cycles, and registers for all


def _has_jit() -> bool:
    try:
        from adjoint.runtime import jit
    except ImportError:
        return False
    return jit.available()


def _peak(threads: int, dtype: str, rounds: int) -> float:
    """Multiply-adds between registers, in loops that do nothing else, on every thread at once: the best of several."""
    from adjoint.runtime import jit

    element = {"float32": "float", "float64": "double"}[dtype]
    lanes = jit.target().vector_bytes // np.dtype(dtype).itemsize
    code = jit.compile_module(_loop_of_fma(element, lanes))
    loop = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int64)(code.address("fma_loop"))
    turns = 200_000
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(rounds):
            begin = time.perf_counter()
            list(pool.map(loop, [turns] * threads))
            best = min(best, time.perf_counter() - begin)
    return 2 * _CHAINS * lanes * turns * threads / best / 1e9


def _loop_of_fma(element: str, lanes: int) -> str:
    """LLVM IR of a function that makes `turns` multiply-adds in each of several chains."""
    vec, name = f"<{lanes} x {element}>", f"llvm.fma.v{lanes}f{'32' if element == 'float' else '64'}"
    splat = "<" + ", ".join([f"{element} 0.5"] * lanes) + ">"
    chains = range(_CHAINS)
    starts = [f"  %a{k} = phi {vec} [ {splat}, %entry ], [ %b{k}, %turn ]" for k in chains]
    turns = [f"  %b{k} = call {vec} @{name}({vec} %a{k}, {vec} {splat}, {vec} {splat})" for k in chains]
    ends = [f"  %c{k + 1} = fadd {vec} {f'%c{k}' if k else splat}, %b{k}" for k in chains]
    number = f"extractelement {vec} %c{_CHAINS}, i32 0"
    return "\n".join([
        "define double @fma_loop(i64 %turns) {", "entry:", "  br label %turn", "turn:",
        "  %i = phi i64 [ 0, %entry ], [ %j, %turn ]", *starts, *turns,
        "  %j = add i64 %i, 1", "  %more = icmp ult i64 %j, %turns", "  br i1 %more, label %turn, label %out", "out:",
        *ends, f"  %first = {number}",
        "  %sum = fpext float %first to double\n  ret double %sum" if element == "float" else "  ret double %first",
        "}", f"declare {vec} @{name}({vec}, {vec}, {vec})",
    ])  # fmt: skip
