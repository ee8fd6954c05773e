"""Pointwise derivatives: one line of mathematics per operand, read four ways.

`PARTIALS[prim]` holds, for each operand, the partial derivative as a function of (out, *operands). Reverse mode
multiplies the cotangent by it and forward mode the tangent (`scale`), the explainer prints its formula, the checker
compares it with differences. A partial is a tensor, a number, a boolean tensor (a mask: 1 where true, and what it
multiplies is dropped elsewhere even if infinite), `Over(d)`, which divides by d, or `ZERO`.

At kinks and ties: docs/conventions.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.ops import elementwise as ew
from adjoint.ops.complex_numbers import conj, sgn
from adjoint.ops.elementwise import cos, exp, log, sin, sqrt, where
from adjoint.ops.special import trigamma
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


class Over:
    """The partial 1/d, applied by dividing."""

    __slots__ = ("d",)

    def __init__(self, d: Tensor) -> None:
        self.d = d


ZERO = object()  # a partial that is zero wherever it exists, and arrives as zeros (0 arrives as nothing)


def scale(g: Tensor, partial: Any) -> Tensor | None:
    """A cotangent or tangent times a partial; None stands for zero."""
    if isinstance(partial, (int, float, complex)):
        return g if partial == 1 else -g if partial == -1 else None if partial == 0 else g * partial
    if partial is ZERO:
        return record("full", (0.0,), (tuple(g._aval.shape), g._aval.dtype))
    if isinstance(partial, Over):
        return g / partial.d
    if partial._aval.dtype is dtypes.bool:
        return where(partial, g, 0.0)
    return g * partial


def conjugate(partial: Any) -> Any:
    """What the cotangent is multiplied by, where the tangent is multiplied by `partial`: they differ for complex numbers."""
    if isinstance(partial, Over):
        return Over(conjugate(partial.d))
    if isinstance(partial, complex):
        return partial.conjugate()
    return conj(partial) if isinstance(partial, Tensor) else partial


def _factor(out: Tensor, y: Any) -> Any:
    """The other operand of a product; as a tensor if it is a number of 0, since its product with a cotangent arrives."""
    return record("full", (0.0,), ((), out._aval.dtype)) if isinstance(y, (int, float, complex)) and y == 0 else y


def _abs(out: Tensor, x: Tensor) -> Tensor:
    return ew.functions["sign"](x) if x._aval.dtype.category < 3 else conj(sgn(x))  # only the real part of the product counts


def _not_negative(x: Tensor) -> Tensor:
    return (record("real", (x,)) if x._aval.dtype.is_complex else x) >= 0


def _half_at_tie(wins: Tensor, ties: Tensor, like: Tensor) -> Tensor:
    return where(ties, 0.5, ew.cast(wins, like._aval.dtype))


def _pow_base(out: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return where(y == 0, 0.0, y * ew.pow(x, y - 1))


def _pow_exponent(out: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return where((x == 0) & _not_negative(y), 0.0, out * log(x))


def _over_square(a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """a / (x^2 + y^2), 0 at the origin."""
    square = x * x + y * y
    return where(square == 0, 0.0, a / square)


def _integer_power(out: Tensor, x: Tensor, n: int) -> Any:
    return 0 * out if n == 0 else 1 if n == 1 else 2 * x if n == 2 else n * ew.pow(x, n - 1)


PARTIALS: dict[str, tuple[Callable[..., Any], ...]] = {
    "neg": (lambda out, x: -1,),
    "abs": (_abs,),
    "sqrt": (lambda out, x: Over(2 * out),),
    "rsqrt": (lambda out, x: -0.5 * out * out * out,),
    "exp": (lambda out, x: out,),
    "exp2": (lambda out, x: out * math.log(2),),
    "expm1": (lambda out, x: exp(x),),  # out + 1 has lost the digits where out is near -1
    "log": (lambda out, x: Over(x),),
    "log2": (lambda out, x: Over(x * math.log(2)),),
    "log10": (lambda out, x: Over(x * math.log(10)),),
    "log1p": (lambda out, x: Over(x + 1),),
    "sin": (lambda out, x: cos(x),),
    "cos": (lambda out, x: -sin(x),),
    "tan": (lambda out, x: 1 + out * out,),
    "asin": (lambda out, x: Over(sqrt(1 - x * x)),),
    "acos": (lambda out, x: Over(-sqrt(1 - x * x)),),
    "atan": (lambda out, x: Over(1 + x * x),),
    "sinh": (lambda out, x: ew.functions["cosh"](x),),
    "cosh": (lambda out, x: ew.functions["sinh"](x),),
    "tanh": (lambda out, x: 1 - out * out,),
    "asinh": (lambda out, x: Over(sqrt(x * x + 1)),),
    "acosh": (lambda out, x: Over(sqrt(x * x - 1) if x._aval.dtype.category < 3 else sqrt(x - 1) * sqrt(x + 1)),),
    "atanh": (lambda out, x: Over(1 - x * x),),
    "sigmoid": (lambda out, x: out * (1 - out),),
    "relu": (lambda out, x: out > 0,),
    "erf": (lambda out, x: 2 / math.sqrt(math.pi) * exp(-x * x),),
    "erfc": (lambda out, x: -2 / math.sqrt(math.pi) * exp(-x * x),),
    "erfinv": (lambda out, x: math.sqrt(math.pi) / 2 * exp(out * out),),
    "lgamma": (lambda out, x: ew.functions["digamma"](x),),
    "digamma": (lambda out, x: trigamma(x),),
    "integer_pow": (_integer_power,),
    "add": (lambda out, x, y: 1, lambda out, x, y: 1),
    "sub": (lambda out, x, y: 1, lambda out, x, y: -1),
    "mul": (lambda out, x, y: _factor(out, y), lambda out, x, y: _factor(out, x)),
    "div": (lambda out, x, y: Over(y), lambda out, x, y: -(x / y) / y),
    "pow": (_pow_base, _pow_exponent),
    "atan2": (lambda out, y, x: _over_square(x, x, y), lambda out, y, x: _over_square(-y, x, y)),
    "maximum": (
        lambda out, x, y: _half_at_tie(x > y, x == y, out),
        lambda out, x, y: _half_at_tie(y > x, x == y, out),
    ),
    "minimum": (
        lambda out, x, y: _half_at_tie(x < y, x == y, out),
        lambda out, x, y: _half_at_tie(y < x, x == y, out),
    ),
    "fmod": (lambda out, x, y: 1, lambda out, x, y: -ew.functions["trunc"](x / y)),
    "remainder": (lambda out, x, y: 1, lambda out, x, y: -ew.functions["floor"](x / y)),
    "floor_div": (lambda out, x, y: 0, lambda out, x, y: 0),
    # steps: the derivative is zero wherever it exists, and as in PyTorch it arrives as zeros, not as nothing
    "sign": (lambda out, x: ZERO,),
    "floor": (lambda out, x: ZERO,),
    "ceil": (lambda out, x: ZERO,),
    "round": (lambda out, x: ZERO,),
    "trunc": (lambda out, x: ZERO,),
}
