"""Special functions of vectors: erf, erfc, erfinv, lgamma, digamma.

erf and erfc are within 2 units in the last place; erfinv within a few. lgamma and digamma lose
relative (not absolute) accuracy next to their zeros below 0, digamma also next to its positive
zero; their float versions are the double ones, rounded. Read `erf` first; `shifted_digamma` and
`lgamma_positive` are the asymptotic series and what comes before them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from adjoint.codegen.vecmath_exp import (
    LN2,
    exp_polynomial,
    power_of_two,
    reduce_by_log2,
    times_small_power_of_two,
)
from adjoint.codegen.vecmath_lanes import Lanes, two_product
from adjoint.codegen.vecmath_log import INF, NAN, log
from adjoint.codegen.vecmath_tables import TABLES
from adjoint.codegen.vecmath_trig import cos_polynomial, sin_polynomial

# From here erf rounds to 1.
ERF_LIMIT = {"float": 4.0, "double": 6.0}
# From here erfc rounds to 0.
ERFC_LIMIT = {"float": 10.5, "double": 27.4}
# The polynomial of erfc is centred here.
ERFC_CENTRE = 0.46875
# B(2k) / (2k * (2k-1)), the series of log(gamma) in 1/y (Stirling; DLMF 5.11.1), used for y >= 8.
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
# B(2k) / (2k), the series of digamma in 1/y**2 (DLMF 5.11.2), used for y >= 10.
DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)


def erf(x: Lanes) -> Lanes:
    """x + x*P(x*x) below 1, 1 - exp(-x*Q(x)) from there on."""
    size = x.abs()
    z = size * size
    near = size.fma(z.polynomial(TABLES["erf"][x.element]), size)
    bounded = size.at_most(ERF_LIMIT[x.element])
    r, shifted, _ = reduce_by_log2(-(bounded * bounded.polynomial(TABLES["erf_tail"][x.element])))
    far = 1.0 - exp_polynomial(r) * power_of_two(shifted)
    return (size < 1.0).choose(near, far).with_sign_of(x)


def erfc(x: Lanes) -> Lanes:
    """(1 - x) - x*P(x*x) for |x| < 0.8, else exp(-a*a) * q * Q(q - c) or 2 minus that.

    Here a = |x| and q = 1 / (1 + a/4), with what its rounding loses.
    """
    high, low = LN2[x.element]
    z = x * x
    near = (-x).fma(z.polynomial(TABLES["erf"][x.element]), 1.0 - x)
    a = x.abs().at_most(ERFC_LIMIT[x.element])
    bottom = a.fma(0.25, 1.0)
    q = 1.0 / bottom
    q_rest = q * (-q).fma(a.fma(0.25, 1.0 - bottom), (-q).fma(bottom, 1.0))
    t = q - ERFC_CENTRE
    first, *others = TABLES["erfc"][x.element]
    slope = t.polynomial(others)
    p = t.fma(slope, first)
    p_rest = t.fma(slope, first - p)
    value, value_rest = two_product(q, p)
    # P also changes with q: the relative change of q*P is about 1 + 3.4*q*q times that of q.
    value_rest = q.fma(p_rest, (q_rest * p).fma((q * q).fma(3.4, 1.0), value_rest))
    # exp(-a*a) = 2**k * (1 + grown), with the rounding error of a*a taken along.
    square, square_rest = two_product(a, a)
    _, shifted, k = reduce_by_log2(-square)
    r = k.fma(-high, -square) + k.fma(-low, -square_rest)
    grown = (r * r).fma(r.polynomial(TABLES["exp"][x.element]), r)
    far = times_small_power_of_two(
        value + value.fma(grown, value_rest.fma(grown, value_rest)), shifted
    )
    far = (x < 0.0).choose(2.0 - far, far)
    return (x.abs() < 0.8).choose(near, far)


def erfinv(x: Lanes) -> Lanes:
    """x * P(w) with w = -log(1 - x*x), or x * Q(sqrt(w)) for large w.

    The form is that of Giles (GPU Computing Gems, Jade edition, chapter 10).
    """
    w = -log((-x).fma(x, 1.0))
    centre = (w - 2.5).polynomial(TABLES["erfinv"][x.element])
    root = w.sqrt()
    outer = (root - 3.0).polynomial(TABLES["erfinv_mid"][x.element])
    if x.element == "double":  # w < 16 for every float below 1
        outer = (root < 4.0).choose(outer, (root - 5.0).polynomial(TABLES["erfinv_tail"]["double"]))
    value = x * (w < 5.0).choose(centre, outer)
    return x.abs().equals(1.0).choose(x.constant(INF).with_sign_of(x), value)


def in_double(function: Callable[[Lanes], Lanes]) -> Callable[[Lanes], Lanes]:
    """The same function for float, by way of double."""

    @functools.wraps(function)
    def widened(x: Lanes) -> Lanes:
        if x.element == "double":
            return function(x)
        return function(x.convert("fpext", "double")).convert("fptrunc", "float")

    return widened


def sin_cos_of_pi(x: Lanes) -> tuple[Lanes, Lanes]:
    """`(|sin(pi*x)|, |cos(pi*x)|)`."""
    distance = (x - x.rint()).abs()
    steep = distance > 0.25
    angle = steep.choose(0.5 - distance, distance) * math.pi
    z = angle * angle
    sine, cosine = sin_polynomial(angle, z), cos_polynomial(z)
    return steep.choose(cosine, sine), steep.choose(sine, cosine)


def lgamma_positive(y: Lanes) -> Lanes:
    """log(gamma(y)) for y > 0.

    A polynomial between the zeros at 1 and 2 and around, Stirling's series from 8 on.
    """
    product, low = y.constant(1.0), y
    for _ in range(5):  # brings 3..8 down to 2..3: gamma(y) = (y-1) * gamma(y-1)
        high = low >= 3.0
        step = low - 1.0
        product, low = high.choose(product * step, product), high.choose(step, low)
    below, large = y < 1.0, y >= 8.0
    logarithm = log(large.choose(y, below.choose(y, product)))
    # For y < 1 the polynomial is taken at y + 1.
    u = below.choose(low - 1.0, low - 2.0)
    middle = (u + 1.0) * u * u.polynomial(TABLES["lgamma"]["double"])
    middle = middle + below.choose(-logarithm, logarithm)
    inverse = 1.0 / y
    series = inverse * (inverse * inverse).polynomial(STIRLING)
    far = (y - 0.5).fma(logarithm - 1.0, series + (math.log(2 * math.pi) - 1) / 2)
    return large.choose(far, middle)


@in_double
def lgamma(x: Lanes) -> Lanes:
    """log|gamma(x)|; below 0 by reflection: gamma(x) * gamma(1-x) = pi / sin(pi*x) (DLMF 5.5.3)."""
    negative = x < 0.0
    value = lgamma_positive(negative.choose(1.0 - x, x))
    sine, _ = sin_cos_of_pi(x)
    tiny = x.abs() < 2.0**-60  # log|gamma(x)| = -log|x| here, and the sine might be denormal
    reflected = (
        tiny.choose(x.constant(0.0), math.log(math.pi)) - log(tiny.choose(x.abs(), sine)) - value
    )
    value = negative.choose(reflected, value)
    pole = (x <= 0.0) & x.rint().equals(x)
    value = pole.choose(INF, value)
    return x.abs().equals(INF).choose(INF, value)


def shifted_digamma(y: Lanes) -> Lanes:
    """digamma(y) = digamma(y + n) - (1/y + ... + 1/(y+n-1)) for y >= 0, the sum as one fraction."""
    top, bottom = y.constant(0.0), y.constant(1.0)
    for _ in range(10):
        low = y < 10.0
        top = low.choose(top.fma(y, bottom), top)
        bottom = low.choose(bottom * y, bottom)
        y = low.choose(y + 1.0, y)
    inverse = 1.0 / y
    z = inverse * inverse
    series = inverse.fma(0.5, z * z.polynomial(DIGAMMA))
    return log(y) - series - top / bottom


@in_double
def digamma(x: Lanes) -> Lanes:
    """The derivative of log(gamma(x)); below 0 it is digamma(1-x) - pi / tan(pi*x) (DLMF 5.5.4).

    NaN at -1, -2, ..., minus infinity at 0.
    """
    negative = x < 0.0
    value = shifted_digamma(negative.choose(1.0 - x, x))
    sine, cosine = sin_cos_of_pi(x)
    cotangent = (cosine / sine).with_sign_of(x - x.rint())
    reflected = cotangent.fma(-math.pi, value)
    reflected = x.rint().equals(x).choose(NAN, reflected)
    return negative.choose(reflected, value)
