"""Special functions made of primitives."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from adjoint import dtypes
from adjoint.ops.elementwise import (
    absolute,
    exp,
    functions,
    in_common,
    log,
    pow,
    refuse,
    sqrt,
    where,
)
from adjoint.ops.elementwise import round as nearest
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record


def trigamma(x: Tensor) -> Tensor:
    """The second derivative of log gamma."""
    return _polygamma(x, 1)


def mvlgamma(x: Tensor, p: int) -> Tensor:
    """Logarithm of the multivariate gamma function.

    >>> import adjoint as torch
    >>> torch.mvlgamma(torch.tensor([3.]), 2)
    tensor([1.5502])
    """
    out = x * 0 + p * (p - 1) / 4 * math.log(math.pi)
    for k in range(p):
        out = out + functions["lgamma"](x - k / 2)
    return out


def entr(x: Tensor) -> Tensor:
    """-x log x, 0 at 0 and minus infinity below; NaN for NaN.

    >>> import adjoint as torch
    >>> torch.special.entr(torch.tensor([1., 0., -1.]))
    tensor([-0., 0., -inf])
    """
    return where(x <= 0, where(x == 0, 0.0, -math.inf), -x * log(where(x <= 0, 1.0, x)))


def xlog1py(input: Tensor | float, other: Tensor | float) -> Tensor:
    """input log(1 + other), 0 where input is 0 (but NaN where other is).

    >>> import adjoint as torch
    >>> torch.special.xlog1py(torch.tensor([0., 2.]), torch.tensor([-1., 1.]))
    tensor([0.0000, 1.3863])
    """
    return in_common(_xlog1py, input, other)


def _xlog1py(x: Any, y: Any) -> Tensor:
    # as in `xlogy`, only what 0 times an infinite or undefined logarithm would be is hidden
    if not isinstance(y, Tensor):
        y = record("full", (y,), ((), x._aval.dtype))
    hidden = (x == 0) & ((y <= -1) | functions["isinf"](y))
    return x * functions["log1p"](where(hidden, 0.0, y))


def sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0.

    >>> import adjoint as torch
    >>> torch.sinc(torch.tensor([0., 0.5]))
    tensor([1.0000, 0.6366])
    """
    return in_common(_sinc, x)


def _sinc(x: Tensor) -> Tensor:
    y = where(x == 0, 1.0, x * math.pi)
    return where(x == 0, 1.0, functions["sin"](y) / y)


def i0(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind of order 0.

    Within `_FAR` its power series, beyond it the asymptotic one (NIST Digital Library of Mathematical Functions, 10.25.2 and
    10.40.1). All terms have one sign, so that derivatives of any order are as precise.

    >>> import adjoint as torch
    >>> torch.special.i0(torch.tensor([0., 1.]))
    tensor([1.0000, 1.2661])
    """
    return _bessel("i0", _i0, input)


def i0e(input: Tensor) -> Tensor:
    """`exp(-abs(x)) * i0(x)`, which does not overflow.

    >>> import adjoint as torch
    >>> torch.special.i0e(torch.tensor([0., 100.]))
    tensor([1.0000, 0.0399])
    """
    return _bessel("i0e", _i0e, input)


def i1(input: Tensor) -> Tensor:
    """The modified Bessel function of the first kind of order 1, the derivative of `i0`.

    >>> import adjoint as torch
    >>> torch.special.i1(torch.tensor([0., 1.]))
    tensor([0.0000, 0.5652])
    """
    return _bessel("i1", _i1, input)


def i1e(input: Tensor) -> Tensor:
    """`exp(-abs(x)) * i1(x)`, which does not overflow.

    >>> import adjoint as torch
    >>> torch.special.i1e(torch.tensor([0., 100.]))
    tensor([0.0000, 0.0397])
    """
    return _bessel("i1e", _i1e, input)


_FAR = {dtypes.float32: (10.0, 19, 11), dtypes.float64: (20.0, 37, 27)}  # from where on; terms of either series
_OVERFLOW = {dtypes.float32: 88.5, dtypes.float64: 709.5}  # where exp(x) is infinite soon after


def _bessel(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    refuse(name, (0, 1, 2), x)
    return in_common(function, x)


def _series(x: Tensor, order: int, end: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The size of x; where it is large; I(x) where it is not; and exp(-|x|) I(|x|) where it is, up to `end`.

    Where a series does not hold it is taken at a place where it does, so that no slope is infinite or undefined there.
    """
    limit, near_terms, far_terms = _FAR[x._aval.dtype]
    size = absolute(x)
    far = size >= limit
    small, large = where(far, 1.0, x), where(far & (size <= end), size, limit)
    square, inverse = small * small / 4, 1 / large
    near, beyond = square * 0 + 1, inverse * 0 + 1
    for k in reversed(range(1, near_terms)):
        near = 1 + square * (1 / (k * (k + order))) * near
    for k in reversed(range(1, far_terms)):
        beyond = 1 + inverse * (((2 * k - 1) ** 2 - 4 * order * order) / (8 * k)) * beyond
    return size, far, near * small / 2 if order else near, beyond / sqrt(2 * math.pi * large)


def _growing(x: Tensor, order: int) -> Tensor:
    end = _OVERFLOW[x._aval.dtype]
    size, far, near, beyond = _series(x, order, end)
    over = size > end
    beyond = where(over, where(over, size, 1.0) * math.inf, exp(where(far & (size <= end), size, 0.0)) * beyond)
    return _joined(x, order, far, near, beyond)


def _scaled(x: Tensor, order: int) -> Tensor:
    size, far, near, beyond = _series(x, order, dtypes.finfo(x._aval.dtype).max)
    beyond = where(functions["isinf"](size), 0.0, beyond)
    return _joined(x, order, far, near * exp(-where(far, 0.0, size)), beyond)


def _joined(x: Tensor, order: int, far: Tensor, near: Tensor, beyond: Tensor) -> Tensor:
    """Of the values near 0 and those, of |x|, beyond; I1 is odd."""
    return where(far, functions["sign"](x) * beyond if order else beyond, near)


_i0 = composite("I0Backward0")(lambda x: _growing(x, 0))
_i1 = composite("SpecialI1Backward0")(lambda x: _growing(x, 1))
_i0e = composite("SpecialI0EBackward0")(lambda x: _scaled(x, 0))
_i1e = composite("SpecialI1EBackward0")(lambda x: _scaled(x, 1))


_LARGEST_FACTORIAL = 170  # that a float64 holds


def polygamma(n: int, input: Tensor) -> Tensor:
    """The derivative of order n of `digamma`; RuntimeError for a negative n.

    For n > 0 (and up to 170, from where on n! is infinite) by the Euler-Maclaurin formula for its series, from 1/2 on, and by reflection below that (NIST Digital Library of
    Mathematical Functions, 25.11.43 and 5.15.6).

    >>> import adjoint as torch
    >>> torch.polygamma(1, torch.tensor([1., 0.5]))
    tensor([1.6449, 4.9348])
    """
    if n < 0:
        raise RuntimeError(f"polygamma(n, x) does not support negative n, but got n={n}")
    refuse("polygamma", (0, 1, 2), input)
    if n > _LARGEST_FACTORIAL:  # whatever else the value is a product of
        return in_common(lambda x: (math.inf if n % 2 else -math.inf) * pow(where(x < 0.5, 1.0, x), -float(n + 1)), input)
    return in_common(functions["digamma"] if n == 0 else functools.partial(_polygamma, n=int(n)), input)


@composite("PolygammaBackward0")
def _polygamma(x: Tensor, n: int) -> Tensor:
    low = x < 0.5
    value = (-1.0) ** (n + 1) * _factorial(n) * _zeta(n + 1, where(low, 1 - x, x))
    turned = (-1.0) ** n * value - math.pi ** (n + 1) * _cotangent_derivative(_cotangent(where(low, x, 0.25)), n)
    return where(low, turned, value)


def _cotangent(x: Tensor) -> Tensor:
    """cot(pi x), precise to its zeros and poles: their places are subtracted before anything is multiplied by pi."""
    rest = x - nearest(x)
    sin = functions["sin"]
    return sin((0.5 - absolute(rest)) * math.pi) / sin(rest * math.pi)


def _factorial(n: int) -> float:
    return float(math.factorial(n)) if n <= _LARGEST_FACTORIAL else math.inf


def _zeta(s: int, q: Tensor) -> Tensor:
    """The sum of 1 / (q + k)^s over k from 0, for q >= 1/2: some terms, the integral of the others, and corrections."""
    first = 10 + s // 2
    total = pow(q, -s)
    for k in range(1, first):
        total = total + pow(q + k, -s)
    u = 1 / (q + first)
    square, tail = u * u, u * 0
    for j in range(12, 0, -1):
        factor = bernoulli(2 * j) / math.factorial(2 * j) * math.prod(range(s, s + 2 * j - 1))
        tail = tail * square + float(factor)
    return total + pow(u, s - 1) / (s - 1) + pow(u, s) * (0.5 + u * tail)


@functools.cache
def bernoulli(n: int) -> Fraction:
    """B_n, by the recurrence of their sums with binomial coefficients."""
    if n == 0:
        return Fraction(1)
    return -sum((math.comb(n + 1, k) * bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)


def _cotangent_derivative(c: Tensor, n: int) -> Tensor:
    """The derivative of order n of the cotangent, a polynomial in it: that of P(c) is -(1 + c^2) P'(c)."""
    polynomial = [0, 1]
    for _ in range(n):
        slope = [k * p for k, p in enumerate(polynomial)][1:]
        polynomial = [-(a + b) for a, b in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    start = n % 2 == 0  # only every second power occurs
    square = c * c
    out: Tensor | float = float(polynomial[-1])
    for p in reversed(polynomial[int(start) : -1 : 2]):
        out = square * out + float(p)
    return out * c if start else out  # type: ignore[return-value]
