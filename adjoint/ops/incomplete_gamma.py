"""The incomplete gamma functions and Hurwitz's zeta function; computed in float64, rounded once. Read `_gammainc_pair`."""

from __future__ import annotations

import math
from fractions import Fraction

from adjoint import dtypes
from adjoint.ops.elementwise import (
    cast,
    exp,
    functions,
    in_common,
    log,
    maximum,
    minimum,
    pow,
    refuse,
    sqrt,
    where,
)
from adjoint.ops.quadrature import interval
from adjoint.ops.reduce import sum as total
from adjoint.ops.results import public
from adjoint.ops.special import bernoulli
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record

log1p, expm1 = functions["log1p"], functions["expm1"]
_FOLDS = 40.0  # an integrand below exp(-40) of its largest value is left out
_STIRLING = 10.0  # from here on the gamma function by Stirling's series
_SMALL = 0.5


def gammainc(input: Tensor, other: Tensor) -> Tensor:
    """P(a, x): the regularised lower incomplete gamma function, the integral of t^(a - 1) exp(-t) / Gamma(a) from 0 to x.

    a = `input` and x = `other` are broadcast. 0 for x = 0, 1 for infinite x, NaN for negative numbers. P for x < a, else 1 - P by
    exp(-x) x^a / Gamma(a) times an integral of an exponential (NIST Digital Library of Mathematical Functions, 8.6.3 and 8.6.7,
    on the side where it falls), whose factor is taken from Stirling's series for large a, so that nothing large cancels.

    >>> import adjoint as torch
    >>> torch.special.gammainc(torch.tensor([1., 4.]), torch.tensor([1., 3.]))
    tensor([0.6321, 0.3528])
    """
    refuse("igamma", (0, 1, 2), input, other)
    return in_common(lambda a, x: cast(_gammainc(cast(a, dtypes.float64), cast(x, dtypes.float64)), a._aval.dtype), input, other)


def gammaincc(input: Tensor, other: Tensor) -> Tensor:
    """Q(a, x) = 1 - P(a, x): the regularised upper incomplete gamma function, as precise where it is small. See `gammainc`.

    >>> import adjoint as torch
    >>> torch.special.gammaincc(torch.tensor([1., 4.]), torch.tensor([1., 30.]))
    tensor([3.6788e-01, 4.6610e-10])
    """
    refuse("igammac", (0, 1, 2), input, other)
    return in_common(lambda a, x: cast(_gammaincc(cast(a, dtypes.float64), cast(x, dtypes.float64)), a._aval.dtype), input, other)


def _horner(x: Tensor, coefficients: list[float]) -> Tensor:
    out = x * 0 + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        out = out * x + c
    return out


def _excess(v: Tensor) -> Tensor:
    """exp(v) - 1 - v."""
    near = (v < 0.5) & (v > -0.5)
    small = where(near, v, 0.0)
    series = small * small * _horner(small, [1 / math.factorial(k + 2) for k in range(14)])
    large = where(near, 1.0, v)
    return where(near, series, expm1(large) - large)


def _shortfall(m: Tensor, ratio: Tensor) -> Tensor:
    """m - log(1 + m), where ratio is 1 + m > 0: with y = m / (2 + m), log(1 + m) = 2 (y + y^3 / 3 + ...)."""
    near = (m < 0.4) & (m > -0.4)
    small = where(near, m, 0.0)
    y = small / (small + 2)
    square = y * y
    series = y * (small - square * 2 * _horner(square, [1 / (2 * k + 3) for k in range(13)]))
    return where(near, series, m - log(where(near, 1.0, ratio)))


def _log_gamma_beyond_1(a: Tensor) -> Tensor:
    """log Gamma(1 + a) for a >= 0, precise next to 0, by its power series (DLMF 5.7.3) up to 1/4."""
    near = a < 0.25
    small = where(near, a, 0.0)
    zetas = [0.0, -0.5772156649015329] + [(-1) ** k * (1 + _zeta_beyond_1(k)) / k for k in range(2, 30)]
    return where(near, _horner(small, zetas), functions["lgamma"](where(near, 1.0, a) + 1))


def _zeta_beyond_1(s: int) -> float:
    """zeta(s) - 1 for s >= 2, by 20 terms and the formula of Euler and Maclaurin."""
    n = 20
    rest = n ** (1 - s) / (s - 1) - n**-s / 2 + s * n ** (-s - 1) / 12 - s * (s + 1) * (s + 2) * n ** (-s - 3) / 720
    rest += s * (s + 1) * (s + 2) * (s + 3) * (s + 4) * n ** (-s - 5) / 30240
    return math.fsum(k**-s for k in range(2, n + 1)) + rest


def _factor(a: Tensor, x: Tensor) -> Tensor:
    """x^a exp(-x) / Gamma(a), for positive numbers."""
    large = a >= _STIRLING
    big = where(large, a, _STIRLING)
    inverse = 1 / big
    series = inverse * _horner(inverse * inverse, [float(bernoulli(2 * k) / (2 * k * (2 * k - 1))) for k in range(1, 11)])
    m = where(large, (x - a) / big, 0.0)
    beyond = sqrt(big * (1 / (2 * math.pi))) * exp(-_shortfall(m, where(large, x / big, 1.0)) * big - series)
    few = where(large, 1.0, a)
    near = few * exp(log(x) * few - _log_gamma_beyond_1(few)) * exp(-x)
    return where(large, beyond, near)


def _gammainc_pair(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """P and Q.

    Both are `_factor` times an integral over v > 0: of exp(-x (exp(v) - 1) + a v) for Q, and of the same with -v for P. It
    ends where the exponent is about -`_FOLDS`. For x < 1/2 and a < 1 Q is 1 - x^a / Gamma(1 + a) and a series (DLMF 8.7.1).
    """
    plain = (a > 0) & (x > 0) & (a < math.inf) & (x < math.inf)
    a0, x0 = where(plain, a, 1.0), where(plain, x, 1.0)
    tiny = (x0 < _SMALL) & (a0 < 1)
    below = (x0 < a0) & ((x0 >= _SMALL) | (a0 >= 1))
    sign = where(below, -1.0, 1.0)
    x1 = where(tiny, a0 + 1, x0)  # what is not used stays harmless
    gap = (x1 - a0) * sign
    g, xd = gap.detach(), x1.detach()  # type: ignore[attr-defined]
    steep = _FOLDS / maximum(g, xd * 1e-9 + 1e-300)
    bent = where(below, (_FOLDS + sqrt(_FOLDS * _FOLDS + xd * (8 * _FOLDS))) / (xd * 2), minimum(sqrt(2 * _FOLDS / xd), log1p(2 * _FOLDS / xd) + 1))
    end = minimum(steep, bent)
    turn = sign.detach()  # type: ignore[attr-defined]
    for _ in range(6):  # Newton's method for where the exponent is `_FOLDS`; from beyond, as it is convex
        end = end - (xd * _excess(end * turn) + g * end - _FOLDS) / (xd * expm1(end * turn) * turn + g)
    places, weights = interval()
    v = end.unsqueeze(-1) * places  # type: ignore[attr-defined]
    wide = lambda t: t.unsqueeze(-1)  # noqa: E731
    exponent = wide(x1) * _excess(v * wide(sign)) + wide(gap) * v
    part = _factor(a0, x1) * end * total(exp(-exponent) * weights, -1)
    s = where(tiny, x0, 0.25)
    few = where(tiny, a0, 0.5)
    whole = log(s) * few - _log_gamma_beyond_1(few)
    terms, power = s * 0, s * 0 + 1
    for k in range(1, 18):
        power = power * s * (-1 / k)
        terms = terms - power / (few + k)
    near = -expm1(whole) + exp(whole) * few * terms
    upper = where(tiny, near, where(below, 1 - part, part))
    lower = where(tiny, exp(whole) * (1 - few * terms), where(below, part, 1 - part))
    wrong = (a < 0) | (x < 0) | functions["isnan"](a) | functions["isnan"](x) | ((a == 0) & (x == 0)) | ((a == math.inf) & (x == math.inf))
    full = (a == 0) | (x == math.inf)
    return (
        where(plain, lower, where(wrong, math.nan, where(full, 1.0, 0.0))),
        where(plain, upper, where(wrong, math.nan, where(full, 0.0, 1.0))),
    )


igamma, igammac = public(gammainc, "igamma"), public(gammaincc, "igammac")
_gammainc = composite("IgammaBackward0")(lambda a, x: _gammainc_pair(a, x)[0])
_gammaincc = composite("IgammacBackward0")(lambda a, x: _gammainc_pair(a, x)[1])


def zeta(input: Tensor | float, other: Tensor | float) -> Tensor:
    """Hurwitz's zeta function, the sum of (q + k)^-s over k from 0, with s = `input` and q = `other`, broadcast.

    Infinite for s = 1 and for q = 0, -1, ...; NaN for s < 1, and for negative q unless s is whole. By the formula of Euler and
    Maclaurin (DLMF 25.11.5, with all of its corrections), for negative q after a step up.

    >>> import adjoint as torch
    >>> torch.special.zeta(torch.tensor([2., 3.]), torch.tensor([1., 0.5]))
    tensor([1.6449, 8.4144])
    """
    refuse("zeta", (0, 1, 2), input, other)
    return in_common(_zeta_of, input, other)


def _zeta_of(s: Tensor | float, q: Tensor | float) -> Tensor:
    """Of two tensors, or a tensor and a number."""
    dtype = (s if isinstance(s, Tensor) else q)._aval.dtype  # type: ignore[union-attr]
    both = [cast(x, dtypes.float64) if isinstance(x, Tensor) else record("full", (float(x),), ((), dtypes.float64)) for x in (s, q)]
    return cast(_zeta(*both), dtype)


_FIRST = 12  # terms before the corrections
_RATIOS = [float(bernoulli(2 * j) / Fraction(math.factorial(2 * j))) for j in range(1, 13)]


def _zeta_positive(s: Tensor, q: Tensor) -> Tensor:
    """For s > 1 and q > 0."""
    out = pow(q, -s)
    for k in range(1, _FIRST):
        out = out + pow(q + k, -s)
    last = q + _FIRST
    rest = log1p(_FIRST / q) * s < 60  # else what follows is nothing beside the first term, and its factors may be infinite
    t = where(rest, s, 2.0)
    end = pow(last, -t)
    factor, tail = t / last, end * 0.5
    for j, ratio in enumerate(_RATIOS, 1):
        tail = tail + end * factor * ratio
        factor = factor * ((t + (2 * j - 1)) / last) * ((t + 2 * j) / last)
    return where(rest, out + tail + end * last / (t - 1), out)


@composite("SpecialZetaBackward0")
def _zeta(s: Tensor, q: Tensor) -> Tensor:
    valid, whole = (s > 1) & (s < math.inf), functions["floor"](s) == s
    above, below = valid & (q > 0) & (q < math.inf), valid & whole & (q < 0) & (functions["floor"](q) != q)
    t = where(above | below, s, 2.0)
    up = functions["ceil"](where(below, -q, 0.5)).detach()  # type: ignore[attr-defined]
    base = where(above, q, where(below, q + up, 1.0))
    value = _zeta_positive(t, base)
    u = where(below, t, 2.0)
    first = where(below, 1 - base, 0.5)
    odd = where(functions["floor"](u * 0.5) * 2 == u, 1.0, -1.0)
    value = where(below, value + odd * (_zeta_positive(u, first) - _zeta_positive(u, first + up)), value)
    pole = (s == 1) | ((s > 1) & (q <= 0) & (functions["floor"](q) == q))
    empty = (s > 1) & (q == math.inf)
    return where(above | below, value, where(pole, math.inf, where(empty, 0.0, math.nan)))
