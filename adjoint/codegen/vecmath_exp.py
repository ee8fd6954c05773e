"""Exponentials of vectors: exp, exp2, expm1, sigmoid, sinh, cosh, tanh.

All share one reduction, x = k*log(2) + r with |r| <= log(2)/2, after Cody and Waite (Software
Manual for the Elementary Functions, 1980). k stays in the low bits of a shifted float, so no
conversion to integers is needed. Read `reduce_by_log2` and `times_power_of_two` first; `exp`
shows how they fit.
"""

from __future__ import annotations

from adjoint.codegen.vecmath_lanes import Lanes
from adjoint.codegen.vecmath_tables import TABLES

LOG2_E = 1.4426950408889634
# log(2) in two parts; their sum is right to twice the working precision.
LN2 = {
    "float": (0.6931471824645996, -1.9046542121259336e-09),
    "double": (0.6931471805599453, 2.3190468138462996e-17),
}
# Above the second the result overflows. Below the first, which is far below where it rounds to 0, the factor by which
# `times_power_of_two` begins is 0 itself: its pattern is that of k = -191, or -1151. So -inf, which masks are made of, gets its 0
# without passing denormal numbers, for which processors may take a hundred times as long.
EXP2_RANGE = {"float": (-191.0, 129.0), "double": (-1151.0, 1025.0)}
EXP_RANGE = {"float": (-132.39, 89.0), "double": (-797.81, 710.0)}
# Below this the result is no normal number.
EXP_NORMAL = {"float": -87.0, "double": -708.0}
# 1 - tanh(x), and expm1(-x) + 1, vanish beyond these.
TANH_LIMIT = {"float": 10.0, "double": 20.0}
EXPM1_LOW = {"float": -18.0, "double": -39.0}
# Largest x for which k - 2 is still a valid exponent, just past the overflow of sinh and cosh.
SINH_LIMIT = {"float": 90.0, "double": 711.0}


def reduce_by_log2(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """`(r, shifted, k)` with x = k*log(2) + r; `shifted` holds k in its low bits."""
    high, low = LN2[x.element]
    shifted = x.fma(LOG2_E, x.format.shifter)
    k = shifted - x.format.shifter
    return k.fma(-low, k.fma(-high, x)), shifted, k


def exp_polynomial(r: Lanes) -> Lanes:
    """exp(r) for |r| <= log(2)/2."""
    return r.fma(r.fma(r.polynomial(TABLES["exp"][r.element]), 1.0), 1.0)


def power_of_two(shifted: Lanes, offset: int | Lanes = 0) -> Lanes:
    """2**(k + offset), where `shifted` holds k.

    The sum must be the exponent of a normal number, or one more, which gives infinity.
    """
    biased = shifted.bits() + (
        offset if isinstance(offset, Lanes) else offset + shifted.format.bias
    )
    return (biased << shifted.format.mantissa).as_float()


def times_power_of_two(value: Lanes, shifted: Lanes) -> Lanes:
    """value * 2**k in two steps.

    So a denormal result is rounded once, and k may pass the largest exponent.
    """
    form = value.format
    down = form.bits * 2
    negative = shifted < form.shifter
    offset = negative.choose(shifted.constant(form.bias + down, form.integer), form.bias - 1)
    return value * power_of_two(shifted, offset) * negative.choose(value.constant(2.0**-down), 2.0)


def times_small_power_of_two(value: Lanes, shifted: Lanes) -> Lanes:
    """The same for k <= 0."""
    down = value.format.bits * 2
    return value * power_of_two(shifted, down) * 2.0**-down


def exp(x: Lanes) -> Lanes:
    low, high = EXP_RANGE[x.element]
    r, shifted, _ = reduce_by_log2(x.at_most(high).at_least(low))
    return times_power_of_two(exp_polynomial(r), shifted)


def exp_falling(x: Lanes) -> Lanes:
    """exp(x) for x up to some tens, as sums of weights relative to the largest need it: 0 where it is no normal number."""
    low = EXP_NORMAL[x.element]
    r, shifted, _ = reduce_by_log2(x.at_least(low))
    return (x < low).choose(0.0, exp_polynomial(r) * power_of_two(shifted))


def exp2(x: Lanes) -> Lanes:
    return exp2_sum(x, None)


def exp2_sum(x: Lanes, rest: Lanes | None) -> Lanes:
    """2**(x + rest), where `rest` is far smaller than 1; x past the range of results is allowed."""
    low, high = EXP2_RANGE[x.element]
    x = x.at_most(high).at_least(low)
    shifted = x + x.format.shifter
    r = x - (shifted - x.format.shifter)
    if rest is not None:
        r = r + rest
    return times_power_of_two(r.fma(r.polynomial(TABLES["exp2"][x.element]), 1.0), shifted)


def expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 = 2 * (s*(r + r*r*P(r)) + (s - 1/2)) with s = 2**(k-1)."""
    high, low = LN2[x.element]
    bounded = x.at_most(EXP_RANGE[x.element][1]).at_least(EXPM1_LOW[x.element])
    r, shifted, k = reduce_by_log2(bounded)
    scale = power_of_two(shifted, -1)
    # r is kept in two parts here: 1 cancels for k = 1 and the rounding of r would show twice.
    main = k.fma(-high, bounded)
    tail = (r * r).fma(r.polynomial(TABLES["exp"][x.element]), k * -low)
    half = scale.fma(tail, scale.fma(main, scale - 0.5))
    tiny = x.abs() < 2.0 ** -(x.format.mantissa + 2)  # also keeps -0.0 and denormals
    return tiny.choose(x, half + half)


def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + exp(-x)), or e / (1 + e) with e = exp(-|x|) for negative x: no overflow."""
    r, shifted, _ = reduce_by_log2((-x.abs()).at_least(EXP_RANGE[x.element][0]))
    e = times_small_power_of_two(exp_polynomial(r), shifted)
    total = e + 1.0
    inverse = 1.0 / total
    # What the rounded 1 + e and its rounded inverse miss.
    error = (-total).fma(inverse, 1.0) - (e - (total - 1.0)) * inverse
    quotient = (x >= 0.0).choose(1.0, e) * inverse
    return quotient.fma(error, quotient)


def tanh(x: Lanes) -> Lanes:
    """x + x*z*P(z) near zero, 1 - 2 / (exp(2|x|) + 1) elsewhere."""
    size = x.abs()
    r, shifted, _ = reduce_by_log2((size + size).at_most(2 * TANH_LIMIT[x.element]))
    grown = exp_polynomial(r).fma(power_of_two(shifted), 1.0)
    z = x * x
    near = size.fma(z * z.polynomial(TABLES["tanh"][x.element]), size)
    return (size < 0.6).choose(near, 1.0 - 2.0 / grown).with_sign_of(x)


def half_exp(size: Lanes) -> Lanes:
    """exp(size) / 2 for size >= 0, infinite only where half of it is."""
    r, shifted, _ = reduce_by_log2(size.at_most(SINH_LIMIT[size.element]))
    return exp_polynomial(r) * power_of_two(shifted, -2) * 2.0


def sinh(x: Lanes) -> Lanes:
    size = x.abs()
    half = half_exp(size)
    z = x * x
    near = size.fma(z * z.polynomial(TABLES["sinh"][x.element]), size)
    return (size < 1.0).choose(near, half - 0.25 / half).with_sign_of(x)


def cosh(x: Lanes) -> Lanes:
    half = half_exp(x.abs())
    return half + 0.25 / half
