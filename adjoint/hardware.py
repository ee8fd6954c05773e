"""What generated code depends on besides the processor's kind, as the operating system tells it."""

from __future__ import annotations

import ctypes
import functools
import platform

from adjoint import config


@functools.cache
def l2_bytes(path: str = "/sys/devices/system/cpu/cpu0/cache/index2/size") -> int:
    """Size of one core's L2 cache; 1 MiB where Linux does not say.

    >>> from adjoint.hardware import l2_bytes
    >>> l2_bytes("no such file")
    1048576
    """
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20


@functools.cache
def vendor(path: str = "/proc/cpuinfo") -> str:
    """Who made the processor, as it says itself; empty where Linux does not tell.

    >>> from adjoint.hardware import vendor
    >>> vendor("no such file")
    ''
    """
    return _first_of("vendor_id", path)


@functools.cache
def family(path: str = "/proc/cpuinfo") -> int:
    """The maker's number for this kind of processor (AMD: 25 for Zen 3 and 4, 26 for Zen 5); 0 where Linux does not tell.

    >>> from adjoint.hardware import family
    >>> family("no such file")
    0
    """
    return int(_first_of("cpu family", path) or 0)


def _first_of(name: str, path: str) -> str:
    """The entry `name` of the first processor; empty if there is none."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if key.strip() == name or not colon:
                    return value.strip()
    except OSError:
        pass
    return ""


@functools.cache
def _flags() -> frozenset[str]:
    """What an x86 processor can do, in Linux's words; nothing elsewhere."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return frozenset()
    return frozenset(_first_of("flags", "/proc/cpuinfo").split())


@functools.cache
def _may_use_tiles() -> bool:
    """Whether the processor has tile registers (AMX) for bfloat16, and Linux lets this process use them, which has to ask."""
    if not {"amx_tile", "amx_bf16", "avx512_bf16"} <= _flags():
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


@functools.cache
def has_tiles() -> bool:
    """Whether code may use tile registers: they are there, and no narrower instruction set is asked for."""
    return config.get("ADJOINT_TARGET") == "native" and _may_use_tiles()


@functools.cache
def has_pairs() -> bool:
    """Whether an instruction multiplies pairs of bfloat16 (AVX512_BF16), and no narrower instruction set is asked for."""
    return config.get("ADJOINT_TARGET") == "native" and {"avx512f", "avx512_bf16"} <= _flags()
