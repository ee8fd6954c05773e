"""The machine that the figures belong to: processor, vector width, memory bandwidth.

Figures without these cannot be compared with anybody else's. Read `describe` first.
"""

from __future__ import annotations

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
    """Everything that `RESULTS.md` says about where it was made."""

    processor: str
    cores: int
    vector_bits: int
    system: str
    python: str
    load: float
    bandwidth: Bandwidth


def describe(threads: int, quick: bool) -> Machine:
    """Describe this machine; bandwidth is measured with `threads` threads."""
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
