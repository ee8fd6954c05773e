"""Python numbers as elements of a dtype: which of them fit, what they become, and the error where one does not.

`converted` is for numbers that are computed with, `stored` for those that only fill memory.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.trace.recorder import is_too_large

# What is less in size than this fits, which is quickly seen: floats and ints, by dtype.
_FLOATS = {dtypes.float32: 3.4e38, dtypes.float64: 1.7e308}
_INTS = {dtypes.float32: 1 << 63, dtypes.float64: 1 << 63, dtypes.int64: 1 << 63, dtypes.int32: 1 << 31}


def fits(number: Any, dtype: DType) -> bool:
    """Whether a number can be one of a dtype, rounded or cut off: not 300 in int8, nor NaN or an infinity in an integer,
    nor an imaginary part in a real number.

    Everything fits bool. Unsigned integers take negative ints, which wrap around, down to minus their largest.
    """
    if dtype is dtypes.bool:
        return True
    if isinstance(number, complex):
        parts = (number.real, number.imag)
        return all(fits(p, dtype.to_real()) for p in parts) if dtype.is_complex else not number.imag and fits(number.real, dtype)
    if dtype.category >= 2:
        return number != number or abs(number) == math.inf or abs(number) <= dtypes.finfo(dtype).max
    info = dtypes.iinfo(dtype)
    least = -info.max if isinstance(number, int) and not dtype.is_signed else info.min
    return least <= number <= info.max


def converted(call: str, number: Any, dtype: DType) -> Any:
    """The number that becomes an element of `dtype`: a whole one for integers, without imaginary part for real numbers.

    RuntimeError, which restates the call (`call` is it in short), if it does not fit.
    """
    kind = type(number)
    if kind is float or kind is int:
        sure = (_FLOATS if kind is float else _INTS).get(dtype, 0)
        if -sure < number < sure:
            return number
    if kind is int and is_too_large(number):
        return number  # recording it is an error
    if not fits(number, dtype):
        raise RuntimeError(
            f"value cannot be converted to type {dtype.name} without overflow: {call} with {number!r:.60}, but {dtype.name} "
            f"holds {_range(dtype)}; {_mend(number, dtype)}"
        )
    return _exact(number, dtype)


def stored(call: str, number: Any, dtype: DType) -> Any:
    """The same where memory is filled: numbers too large for float16 and bfloat16 are infinite there, as in PyTorch."""
    return converted(call, number, dtypes.float64 if dtype.is_half else dtype)


def _exact(number: Any, dtype: DType) -> Any:
    if dtype is dtypes.bool:
        return bool(number)
    if isinstance(number, complex) and not dtype.is_complex:
        number = number.real
    return int(number) if isinstance(number, float) and dtype.category == 1 else number


def _range(dtype: DType) -> str:
    if dtype.category == 1:
        info = dtypes.iinfo(dtype)
        return f"the whole numbers from {info.min} to {info.max}"
    kind = "complex numbers with parts" if dtype.is_complex else "real numbers"
    return f"{kind} up to {dtypes.finfo(dtype).max:g} in size"


def _mend(number: Any, dtype: DType) -> str:
    if isinstance(number, complex) and not dtype.is_complex:
        return "give its .real, or convert the tensor with .to(torch.complex64)"
    if dtype.category == 1 and (number != number or abs(number) == math.inf):
        return "convert the tensor with .float()"
    return "convert the tensor to a wider dtype with .to(), or limit the number with torch.iinfo or torch.finfo"
