"""What generated code depends on besides the processor's kind, as the operating system tells it."""

from __future__ import annotations

import functools


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
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                key, colon, value = line.partition(":")
                if key.strip() == "vendor_id" or not colon:
                    return value.strip()
    except OSError:
        pass
    return ""
