"""Between numbers and memory: what differs for bfloat16, which NumPy has not.

A bfloat16 is the upper half of a float32. Its memory is an array of uint16 bit patterns; the numbers in it are a
float32 array whose lower halves are zero. For every other dtype both are the same array. `decode` and `encode` go
from one to the other, `round_to` brings numbers onto a dtype's grid. Halves round as PyTorch does: through float32, to
the nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.dtypes import DType, bfloat16


def decode(memory: np.ndarray, dtype: DType) -> np.ndarray:
    """The numbers in an array of a dtype's memory."""
    if dtype is not bfloat16:
        return memory
    return np.asarray(np.asarray(memory, np.uint32) << np.uint32(16), np.uint32).view(np.float32)


def encode(numbers: np.ndarray, dtype: DType) -> np.ndarray:
    """What numbers (already on the dtype's grid) are in memory."""
    if dtype is not bfloat16:
        return numbers
    return (np.ascontiguousarray(numbers, np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16).reshape(numbers.shape)


def round_to(numbers: Any, dtype: DType) -> np.ndarray:
    """Numbers converted to a dtype, as an array of `dtype.values`."""
    numbers = np.asarray(numbers)
    if numbers.dtype.kind == "c" and dtype.category in (1, 2):
        numbers = numbers.real
    with np.errstate(all="ignore"):
        if not dtype.is_half:
            return numbers.astype(dtype.values, copy=False)
        single = numbers.astype(np.float32)
        if dtype is not bfloat16:
            return single.astype(np.float16)
    bits = np.ascontiguousarray(single).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    rounded = np.where(single != single, np.uint32(0x7FC00000), rounded)
    return np.asarray(rounded, np.uint32).view(np.float32).reshape(numbers.shape)
