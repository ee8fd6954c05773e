"""Further pointwise functions: sign and kind of a number, extrema that pass over NaN, powers in float64."""

from __future__ import annotations

import math
from typing import Any

from adjoint import dtypes
from adjoint.ops.elementwise import (
    cast,
    clamp,
    functions,
    in_common,
    logaddexp,
    maximum,
    minimum,
    plain,
    pow,
    sub,
    where,
)
from adjoint.trace.handle import Tensor


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
    """The larger of two; where one is NaN, the other.

    >>> import adjoint as torch
    >>> torch.fmax(torch.tensor([1., torch.nan]), torch.tensor([0., 2.]))
    tensor([1., 2.])
    """
    return where(functions["isnan"](input), other, where(functions["isnan"](other), input, maximum(input, other)))


def fmin(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two; where one is NaN, the other.

    >>> import adjoint as torch
    >>> torch.fmin(torch.tensor([1., torch.nan]), torch.tensor([0., 2.]))
    tensor([0., 2.])
    """
    return where(functions["isnan"](input), other, where(functions["isnan"](other), input, minimum(input, other)))


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
