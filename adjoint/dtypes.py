"""Data types: PyTorch's names on NumPy's types, and the rules by which they combine.

`DType` objects are compared by identity. `promote` is the lattice for two tensors; `promote_scalar`
says what a tensor becomes when it meets a Python number (the number only decides the *category*).
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np


class DType:
    """One element type.

    name: PyTorch's name.  np: the NumPy dtype.  itemsize: bytes.  llvm: LLVM's element type in registers
    (bool is i8 in memory).  category: 0 bool, 1 integer, 2 floating, 3 complex.
    """

    __slots__ = ("name", "np", "itemsize", "llvm", "category", "is_floating_point", "is_complex", "is_signed")

    def __init__(self, name: str, np_type: type, llvm: str, category: int, signed: builtins.bool) -> None:
        self.name = name
        self.np = np.dtype(np_type)
        self.itemsize = self.np.itemsize
        self.llvm = llvm
        self.category = category
        self.is_floating_point = category == 2
        self.is_complex = category == 3
        self.is_signed = signed

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple:
        return by_name, (self.name,)


bool = DType("bool", np.bool_, "i8", 0, False)
uint8 = DType("uint8", np.uint8, "i8", 1, False)
int8 = DType("int8", np.int8, "i8", 1, True)
int16 = DType("int16", np.int16, "i16", 1, True)
int32 = DType("int32", np.int32, "i32", 1, True)
int64 = DType("int64", np.int64, "i64", 1, True)
float32 = DType("float32", np.float32, "float", 2, True)
float64 = DType("float64", np.float64, "double", 2, True)

ALL = (bool, uint8, int8, int16, int32, int64, float32, float64)
BY_NAME = {d.name: d for d in ALL}
BY_NUMPY = {d.np: d for d in ALL}
_WIDTH = {int8: 1, int16: 2, int32: 4, int64: 8}


def by_name(name: str) -> DType:
    return BY_NAME[name]


def from_numpy(np_dtype) -> DType:
    """The dtype that holds a NumPy dtype; TypeError where there is none."""
    found = BY_NUMPY.get(np.dtype(np_dtype))
    if found is None:
        raise TypeError(
            f"can't convert a NumPy array of dtype {np.dtype(np_dtype)}; the supported dtypes are "
            + ", ".join(d.name for d in ALL)
        )
    return found


def promote(a: DType, b: DType) -> DType:
    """The dtype in which two tensors of dtypes `a` and `b` meet (PyTorch's table)."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == 2:
        return float64 if float64 in (a, b) else float32
    if uint8 in (a, b):  # uint8 meets a signed integer: one size up holds both
        signed = b if a is uint8 else a
        return int16 if signed is int8 else signed
    return a if _WIDTH[a] > _WIDTH[b] else b


def promote_scalar(tensor: DType, category: int, default_float: DType) -> DType:
    """The dtype of a tensor operation with a Python number of `category` (0 bool, 1 int, 2 float)."""
    if category <= tensor.category:
        return tensor
    return default_float if category == 2 else int64


class finfo:
    """Limits of a floating dtype: eps, max, min, tiny (smallest normal), resolution, bits.

    >>> import adjoint as torch
    >>> torch.finfo(torch.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, dtype: DType | None = None) -> None:
        dtype = float32 if dtype is None else dtype
        if not dtype.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle {dtype}")
        info = np.finfo(dtype.np)
        self.dtype, self.bits = dtype.name, info.bits
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.tiny)
        self.resolution = float(info.resolution)


class iinfo:
    """Limits of an integer dtype: min, max, bits."""

    def __init__(self, dtype: DType) -> None:
        if dtype.category != 1:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle {dtype}")
        info: Any = np.iinfo(dtype.np)  # type: ignore[type-var]
        self.dtype, self.bits, self.min, self.max = dtype.name, info.bits, int(info.min), int(info.max)
