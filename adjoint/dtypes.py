"""Data types: PyTorch's names on NumPy's types, and the rules by which they combine.

`DType` objects are compared by identity. `promote` is the lattice for two tensors; `promote_scalar`
says what a tensor becomes when it meets a Python number (the number only decides the *category*).
How elements lie in memory, where that is not what NumPy computes with, is in `storage.py`.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np


class DType:
    """One element type.

    name: PyTorch's name.  np: the NumPy dtype of its memory.  values: the NumPy dtype its numbers are computed with
    (float32 for bfloat16, whose memory NumPy only knows as uint16).  itemsize: bytes.  llvm: LLVM's element type in
    registers (bool is i8 in memory; the halves are bit patterns).  category: 0 bool, 1 integer, 2 floating, 3 complex.
    is_half: float16 or bfloat16, which are stored only: arithmetic is done in float32 and rounded.
    """

    __slots__ = (
        "name", "np", "values", "itemsize", "llvm", "category", "is_floating_point", "is_complex", "is_signed", "is_half"
    )  # fmt: skip

    def __init__(self, name: str, np_type: Any, llvm: str, category: int, signed: builtins.bool, values: Any = None) -> None:
        self.name = name
        self.np = np.dtype(np_type)
        self.values = self.np if values is None else np.dtype(values)
        self.itemsize = self.np.itemsize
        self.llvm = llvm
        self.category = category
        self.is_floating_point = category == 2
        self.is_complex = category == 3
        self.is_signed = signed
        self.is_half = category == 2 and self.itemsize == 2

    def to_real(self) -> DType:
        """The dtype of real and imaginary parts; a real dtype itself."""
        return _REAL.get(self, self)

    def to_complex(self) -> DType:
        """The complex dtype with parts of this one."""
        found = self if self.is_complex else _COMPLEX.get(self)
        if found is None:
            raise TypeError(f"{self!r} has no complex counterpart; convert to float32 or float64 first")
        return found

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
uint16 = DType("uint16", np.uint16, "i16", 1, False)
uint32 = DType("uint32", np.uint32, "i32", 1, False)
uint64 = DType("uint64", np.uint64, "i64", 1, False)
float16 = DType("float16", np.float16, "i16", 2, True)
bfloat16 = DType("bfloat16", np.uint16, "i16", 2, True, np.float32)
float32 = DType("float32", np.float32, "float", 2, True)
float64 = DType("float64", np.float64, "double", 2, True)
complex64 = DType("complex64", np.complex64, "", 3, True)
complex128 = DType("complex128", np.complex128, "", 3, True)

ALL = (
    bool, uint8, int8, int16, int32, int64, uint16, uint32, uint64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
# Names that programs compare dtypes with; no tensor has one of these.
float8_e4m3fn = DType("float8_e4m3fn", np.uint8, "", 2, True, np.float32)
float8_e4m3fnuz = DType("float8_e4m3fnuz", np.uint8, "", 2, True, np.float32)
float8_e5m2 = DType("float8_e5m2", np.uint8, "", 2, True, np.float32)
float8_e5m2fnuz = DType("float8_e5m2fnuz", np.uint8, "", 2, True, np.float32)
float8_e8m0fnu = DType("float8_e8m0fnu", np.uint8, "", 2, False, np.float32)
# eps, largest, smallest normal, resolution
NAMED_ONLY = {
    float8_e4m3fn: (0.125, 448.0, 2.0**-6, 1.0), float8_e4m3fnuz: (0.125, 240.0, 2.0**-7, 1.0),
    float8_e5m2: (0.25, 57344.0, 2.0**-14, 1.0), float8_e5m2fnuz: (0.125, 57344.0, 2.0**-15, 1.0),
    float8_e8m0fnu: (1.0, 2.0**127, 2.0**-127, 1.0),
}  # fmt: skip

BY_NAME = {d.name: d for d in (*ALL, *NAMED_ONLY)}
BY_NUMPY = {d.np: d for d in ALL if d is not bfloat16}
_WIDTH = {int8: 1, int16: 2, int32: 4, int64: 8}
_REAL = {complex64: float32, complex128: float64}
_COMPLEX = {bfloat16: complex64, float32: complex64, float64: complex128}
WIDE_UNSIGNED = frozenset((uint16, uint32, uint64))  # stored and converted; PyTorch refuses most arithmetic on them

# What error messages and the legacy tensor types call them.
LEGACY = {
    bool: "Bool", uint8: "Byte", int8: "Char", int16: "Short", int32: "Int", int64: "Long", uint16: "UInt16",
    uint32: "UInt32", uint64: "UInt64", float16: "Half", bfloat16: "BFloat16", float32: "Float", float64: "Double",
    complex64: "ComplexFloat", complex128: "ComplexDouble",
}  # fmt: skip
# `torch.FloatTensor` and its like, by name
TENSOR_TYPES = {f"{name}Tensor": dtype for dtype, name in LEGACY.items() if not dtype.is_complex and name[:2] != "UI"}


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
    """The dtype in which two tensors of dtypes `a` and `b` meet (PyTorch's table).

    RuntimeError for uint16, uint32 and uint64 with other integers, bool or complex.
    """
    if a is b:
        return a
    if (a in WIDE_UNSIGNED or b in WIDE_UNSIGNED) and not (a.is_floating_point or b.is_floating_point):
        raise RuntimeError(
            f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {LEGACY[a]} and "
            f"{LEGACY[b]}; convert one of them first, for example with .to(torch.int64)"
        )
    if a.category != b.category:
        a, b = (a, b) if a.category > b.category else (b, a)
        return promote(a, b.to_complex()) if a.is_complex and b in (float32, float64) else a
    if a.category == 3:
        return complex128
    if a.category == 2:
        return float64 if float64 in (a, b) else float32  # float16 with bfloat16 too
    if uint8 in (a, b):  # uint8 meets a signed integer: one size up holds both
        signed = b if a is uint8 else a
        return int16 if signed is int8 else signed
    return a if _WIDTH[a] > _WIDTH[b] else b


def default_complex(default_float: DType) -> DType:
    """What a Python complex number is: with parts of the default dtype, float32 at least."""
    return complex128 if default_float is float64 else complex64


def promote_scalar(tensor: DType, category: int, default_float: DType) -> DType:
    """The dtype of a tensor operation with a Python number of `category` (0 bool, 1 int, 2 float, 3 complex)."""
    if category <= tensor.category:
        return tensor
    if category == 3:
        return default_complex(tensor if tensor.is_floating_point else default_float)
    return default_float if category == 2 else int64


def can_cast(from_: DType, to: DType) -> builtins.bool:
    """Whether an in-place operation may put results of dtype `from_` into a tensor of dtype `to` (PyTorch's rule).

    >>> import adjoint as torch
    >>> torch.can_cast(torch.float64, torch.float32), torch.can_cast(torch.float32, torch.int64)
    (True, False)
    """
    return from_.category <= to.category


# eps, largest, smallest normal, resolution: of what NumPy does not know
_BFLOAT = (2.0**-7, 2.0**127 * (2 - 2.0**-7), 2.0**-126, 0.01)


class finfo:
    """Limits of a floating dtype (or of a complex one's parts): eps, max, min, tiny (smallest normal), resolution, bits.

    >>> import adjoint as torch
    >>> torch.finfo(torch.float32).eps
    1.1920928955078125e-07
    """

    def __init__(self, dtype: DType | None = None) -> None:
        if dtype is None:
            from adjoint.trace.state import local

            dtype = local.trace.default_dtype
        if dtype.category < 2:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{dtype!r}'")
        dtype = dtype.to_real()
        self.dtype, self.bits = dtype.name, 8 * dtype.itemsize
        if dtype is bfloat16:
            self.eps, self.max, self.tiny, self.resolution = _BFLOAT
        elif dtype in NAMED_ONLY:
            self.eps, self.max, self.tiny, self.resolution = NAMED_ONLY[dtype]
        else:
            info = np.finfo(dtype.np)
            self.eps, self.max, self.tiny = float(info.eps), float(info.max), float(info.tiny)
            self.resolution = 10.0**-info.precision
        self.min, self.smallest_normal = -self.max if dtype.is_signed else self.tiny, self.tiny

    def __repr__(self) -> str:
        return (
            f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
            f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})"
        )


class iinfo:
    """Limits of an integer dtype: min, max, bits.

    >>> import adjoint as torch
    >>> torch.iinfo(torch.int8).max
    127
    """

    def __init__(self, dtype: DType) -> None:
        if dtype.category > 1:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{dtype!r}'")
        if dtype is bool:
            raise TypeError("torch.bool is not supported by torch.iinfo")
        info: Any = np.iinfo(dtype.np)  # type: ignore[type-var]
        self.dtype, self.bits, self.min, self.max = dtype.name, info.bits, int(info.min), int(info.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
