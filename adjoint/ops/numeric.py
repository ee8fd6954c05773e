"""Further pointwise functions: sign and kind of a number, extrema that pass over NaN, powers in float64, common divisors,
the parts and neighbours of floating numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes, return_types
from adjoint.dtypes import DType
from adjoint.ops.elementwise import (
    absolute,
    cast,
    clamp,
    dtype_together,
    functions,
    in_common,
    isfinite,
    logaddexp,
    logical_or,
    plain,
    pow,
    refuse,
    sub,
    where,
)
from adjoint.trace.handle import Tensor
from adjoint.trace.infer import broadcast
from adjoint.trace.macro import composite
from adjoint.trace.recorder import array_of, record, tensor_from_array


def positive(input: Tensor) -> Tensor:
    """The tensor itself; RuntimeError for bool, like `-input`.

    >>> import adjoint as torch
    >>> torch.positive(torch.tensor([-1, 2]))
    tensor([-1,  2])
    """
    if input._aval.dtype is dtypes.bool:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported; convert it with .long() or .float()")
    return input


def fmax(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two; where one is NaN, the other. Of equals the first, and its gradient is the first's.

    >>> import adjoint as torch
    >>> torch.fmax(torch.tensor([1., torch.nan]), torch.tensor([0., 2.]))
    tensor([1., 2.])
    """
    return _better("fmax", "ge", input, other)


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two; where one is NaN, the other. Of equals the first, and its gradient is the first's.

    >>> import adjoint as torch
    >>> torch.fmin(torch.tensor([1., torch.nan]), torch.tensor([0., 2.]))
    tensor([0., 2.])
    """
    return _better("fmin", "le", input, other)


def _better(name: str, comparison: str, input: Tensor, other: Tensor) -> Tensor:
    if input._aval.dtype.is_complex or other._aval.dtype.is_complex:
        raise RuntimeError(f"{name} is not implemented for complex tensors: complex numbers have no order; use .real, .imag or .abs()")
    broadcast(name, [tuple(input._aval.shape), tuple(other._aval.shape)])
    return where(logical_or(functions[comparison](input, other), functions["isnan"](other)), input, other)


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """Values limited from below.

    >>> import adjoint as torch
    >>> torch.clamp_min(torch.tensor([-1., 2.]), 0)
    tensor([0., 2.])
    """
    return clamp(input, min=min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """Values limited from above.

    >>> import adjoint as torch
    >>> torch.clamp_max(torch.tensor([-1., 2.]), 0)
    tensor([-1.,  0.])
    """
    return clamp(input, max=max)


def signbit(input: Tensor) -> Tensor:
    """Whether the sign bit is set: also for -0.0.

    >>> import adjoint as torch
    >>> torch.signbit(torch.tensor([-1., 0., -0.]))
    tensor([ True, False,  True])
    """
    if not input._aval.dtype.is_floating_point:
        return input < 0 if input._aval.dtype is not dtypes.bool else functions["logical_not"](input == input)
    return (input < 0) | ((input == 0) & (1 / input < 0))


def sgn(input: Tensor) -> Tensor:
    """The sign: -1, 0 or 1 (of real numbers, the same as `sign`).

    >>> import adjoint as torch
    >>> torch.sgn(torch.tensor([-3., 0., 2.]))
    tensor([-1.,  0.,  1.])
    """
    return functions["sign"](input)


def isposinf(input: Tensor) -> Tensor:
    """Whether each element is plus infinity.

    >>> import adjoint as torch
    >>> torch.isposinf(torch.tensor([1., torch.inf, -torch.inf]))
    tensor([False,  True, False])
    """
    return input == math.inf


def isneginf(input: Tensor) -> Tensor:
    """Whether each element is minus infinity.

    >>> import adjoint as torch
    >>> torch.isneginf(torch.tensor([1., torch.inf, -torch.inf]))
    tensor([False, False,  True])
    """
    return input == -math.inf


def float_power(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent` computed in float64, or complex128.

    >>> import adjoint as torch
    >>> torch.float_power(torch.tensor([2, 3]), 2).dtype
    torch.float64
    """
    operands = [x if isinstance(x, Tensor) else plain(x, "float_power") for x in (input, exponent)]
    of_complex = any([isinstance(x, complex) or (isinstance(x, Tensor) and x._aval.dtype.is_complex) for x in operands])
    dtype, number = (dtypes.complex128, complex) if of_complex else (dtypes.float64, float)
    base, power = (cast(x, dtype) if isinstance(x, Tensor) else number(x) for x in operands)
    return pow(base, power)


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """`input * 2 ** other`.

    >>> import adjoint as torch
    >>> torch.ldexp(torch.tensor([1., 3.]), torch.tensor([2, -1]))
    tensor([4.0000, 1.5000])
    """
    return in_common(lambda x, n: x * pow(2.0, n), input, other)


def logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    """`log2(2 ** input + 2 ** other)` without overflow.

    >>> import adjoint as torch
    >>> torch.logaddexp2(torch.tensor([1.]), torch.tensor([1.]))
    tensor([2.])
    """
    return logaddexp(input * math.log(2.0), other * math.log(2.0)) / math.log(2.0)


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """`other - alpha * input`.

    >>> import adjoint as torch
    >>> torch.rsub(torch.tensor([1., 2.]), 5)
    tensor([4., 3.])
    """
    return sub(other, input, alpha=alpha) if isinstance(other, Tensor) else other - alpha * input


def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisor of whole numbers, not negative; gcd(0, 0) = 0. Reads the values.

    >>> import adjoint as torch
    >>> torch.gcd(torch.tensor([12, -9, 0]), torch.tensor([18, 6, 5]))
    tensor([6, 3, 5])
    """
    return _of_whole("gcd", np.gcd, input, other)


def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiple of whole numbers, not negative; 0 where one of them is 0. Reads the values.

    >>> import adjoint as torch
    >>> torch.lcm(torch.tensor([4, -9]), torch.tensor([6, 6]))
    tensor([12, 18])
    """
    return _of_whole("lcm", np.lcm, input, other)


def _of_whole(name: str, function: np.ufunc, input: Tensor, other: Tensor) -> Tensor:
    refuse(f"{name}_cpu", (1,), input, other)
    dtype = dtype_together(input, other)
    shape = broadcast(name, [tuple(input._aval.shape), tuple(other._aval.shape)])
    found = np.empty(shape, dtype.np)
    function(array_of(cast(input, dtype)), array_of(cast(other, dtype)), out=found)
    return tensor_from_array(found, dtype=dtype)


_DIGITS = {dtypes.float64: 53, dtypes.float32: 24, dtypes.float16: 11, dtypes.bfloat16: 8}


def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The floating number next to `input` in the direction of `other`; `other` itself where both are equal. No derivative.

    By arithmetic alone: S. M. Rump, P. Zimmermann, S. Boldo, G. Melquiond, "Computing predecessor and successor in rounding
    to nearest", BIT Numerical Mathematics 49 (2009), algorithm 2.

    >>> import adjoint as torch
    >>> torch.nextafter(torch.tensor([1.]), torch.tensor([2.])) - 1
    tensor([1.1921e-07])
    """
    refuse("nextafter_cpu", (2,), input, other)
    dtype = dtype_together(input, other)
    x, y = cast(input.detach(), dtype), cast(other.detach(), dtype)
    below = where(x == 0, y < 0, x < 0)
    size = absolute(x)
    size = where((size < absolute(y)) & (below == (y < 0)) | (x == 0), _neighbour(size, dtype, 1), _neighbour(size, dtype, -1))
    out = where(x == y, y, where(below, -size, size))
    return where(functions["isnan"](x) | functions["isnan"](y), x + y, out)


def _neighbour(size: Tensor, dtype: DType, sign: int) -> Tensor:
    """The next size above (sign 1) or below (-1). `unit` is the largest relative error of rounding; where its share of the
    size would itself be rounded too roughly the size is scaled first, and below that all sizes are multiples of the least."""
    info, unit = dtypes.finfo(dtype), 2.0 ** -_DIGITS[dtype]
    least, share = info.smallest_normal * info.eps, sign * unit * (1 + 2 * unit)
    scaled = size / unit
    small = where(size < least / unit, size + sign * least, (scaled + share * scaled) * unit)
    out = where(size < least / unit / unit / 2, small, size + share * size)
    return where(functions["isinf"](size), info.max, out)


def frexp(input: Tensor) -> Any:
    """`mantissa * 2 ** exponent` with 0.5 <= abs(mantissa) < 1 and an int32 exponent; of 0, infinities and NaN the number
    itself and 0. The derivative of the mantissa is `2 ** -exponent`.

    >>> import adjoint as torch
    >>> torch.frexp(torch.tensor([3., -0.25])).mantissa
    tensor([ 0.7500, -0.5000])
    >>> torch.frexp(torch.tensor([3., -0.25])).exponent
    tensor([ 2, -1], dtype=torch.int32)
    """
    if not input._aval.dtype.is_floating_point:
        raise RuntimeError(f"torch.frexp() only supports floating-point dtypes, not {input._aval.dtype.name}; convert it with .float()")
    return return_types.frexp(_frexp(input))


@composite("FrexpBackward0")
def _frexp(x: Tensor) -> tuple[Tensor, Tensor]:
    """The size is brought into [1, 2) by halving the range of its exponents; all powers of two are exact."""
    double = x._aval.dtype is dtypes.float64
    size = absolute(x.detach())
    usual = isfinite(size) & (size > 0)
    size = where(usual, size, 1.0)
    tiny = size < dtypes.finfo(x._aval.dtype).smallest_normal
    one = record("full", (1.0,), ((), x._aval.dtype))
    first = where(tiny, 2.0**54, one)
    size, scale, exponent = size * first, one, where(tiny, -53, 1)
    for k in (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)[0 if double else 3 :]:
        for move, power in ((size >= 2.0**k, -k), (size < 2.0 ** (1 - k), k)):
            factor = where(move, 2.0**power, one)
            size, scale, exponent = size * factor, scale * factor, exponent - where(move, power, 0)
    mantissa = where(usual, x * first * scale * 0.5, x)
    return mantissa, cast(where(usual, exponent, 0), dtypes.int32)
