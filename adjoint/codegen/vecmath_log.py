"""Logarithms of vectors: log, log2, log10, log1p, the inverse hyperbolic functions, and pow.

All write x = 2**e * (1 + f) with 1 + f between sqrt(1/2) and sqrt(2) (`split`). `log_of_sum` takes
its argument as an unevaluated sum of two numbers, which is what log1p, asinh, acosh and atanh need
near 0 and 1. `pow` has a logarithm of its own with about 13 more bits than the element type. Read
`split` and `log` first.
"""

from __future__ import annotations

from adjoint.codegen.vecmath_exp import LN2, exp2_sum
from adjoint.codegen.vecmath_lanes import Lanes, fast_two_sum, two_product, two_sum
from adjoint.codegen.vecmath_tables import TABLES

INF, NAN = float("inf"), float("nan")
# Constants in two parts: the nearest number of the type, and what it misses.
LOG2_E = {
    "float": (1.4426950216293335, 1.925963033500011e-08),
    "double": (1.4426950408889634, 2.0355273740931033e-17),
}
LOG10_E = {
    "float": (0.4342944920063019, -1.0103049952192578e-08),
    "double": (0.4342944819032518, 1.098319650216765e-17),
}
LOG10_2 = {
    "float": (0.3010300099849701, -1.432098883924482e-08),
    "double": (0.3010299956639812, -2.8037281277851704e-18),
}
# 2 / log(2) and a third of it, the first two terms of the logarithm of pow.
POW_FIRST = {
    "float": (2.885390043258667, 3.851926067000022e-08),
    "double": (2.8853900817779268, 4.0710547481862066e-17),
}
POW_SECOND = {
    "float": (0.9617967009544373, -7.028461812552678e-09),
    "double": (0.9617966939259756, 5.0577616648125907e-17),
}
# sqrt(1/2) and 1 as bit patterns.
SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
ONE_BITS = {"float": 0x3F800000, "double": 0x3FF0000000000000}


def split(x: Lanes, denormals: bool = True) -> tuple[Lanes, Lanes]:
    """`(f, e)` with x = 2**e * (1 + f) for positive finite x; for the rest finite nonsense."""
    form = x.format
    to_float = 2.0**form.mantissa
    offset: Lanes | float = to_float + form.bias
    if denormals:
        denormal = x < form.smallest_normal
        up = form.mantissa + 1
        x = denormal.choose(x * 2.0**up, x)
        offset = denormal.choose(x.constant(to_float + form.bias + up), offset)
    base = SQRT_HALF_BITS[x.element]
    bits = x.bits() + (ONE_BITS[x.element] - base)
    # A small integer put below the leading bit of 2**mantissa is that float plus the integer.
    exponent = ((bits >> form.mantissa) | ((form.bias + form.mantissa) << form.mantissa)).as_float()
    fraction = ((bits & ((1 << form.mantissa) - 1)) + base).as_float()
    return fraction - 1.0, exponent - offset


def log_tail(f: Lanes) -> Lanes:
    """log(1 + f) - f for |f| < 0.42."""
    if f.element == "float":
        cubed = f * f * f
        return f.fma(f * -0.5, cubed * f.polynomial(TABLES["log"]["float"]))
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return s.fma(z.fma(z.polynomial(TABLES["log_ratio"]["double"]), half), -half)


def log_edges(x: Lanes, value: Lanes) -> Lanes:
    """`value` for positive finite x, and log's results for the rest."""
    value = (x < INF).choose(value, x)
    return (x > 0.0).choose(value, x.equals(0.0).choose(x.constant(-INF), NAN))


def log(x: Lanes) -> Lanes:
    f, e = split(x)
    high, low = LN2[x.element]
    return log_edges(x, e.fma(high, f) + e.fma(low, log_tail(f)))


def log_of_sum(x: Lanes, rest: Lanes, extra: Lanes | float = 0.0) -> Lanes:
    """log(x + rest) + extra*log(2) for positive normal x and |rest| of about one rounding of x."""
    f, e = split(x, denormals=False)
    e = e + extra
    high, low = LN2[x.element]
    return e.fma(high, f) + e.fma(low, log_tail(f) + rest / x)


def log_to_base(x: Lanes, per_e: tuple[float, float], per_two: tuple[float, float]) -> Lanes:
    """log(x) * per_e, with log(2) * per_e = per_two; both constants in two parts."""
    f, e = split(x)
    main = f * per_e[0]
    tail = f.fma(per_e[0], -main) + f.fma(per_e[1], log_tail(f) * per_e[0])
    return log_edges(x, e.fma(per_two[0], main) + e.fma(per_two[1], tail))


def log2(x: Lanes) -> Lanes:
    return log_to_base(x, LOG2_E[x.element], (1.0, 0.0))


def log10(x: Lanes) -> Lanes:
    return log_to_base(x, LOG10_E[x.element], LOG10_2[x.element])


def log1p(x: Lanes) -> Lanes:
    """log of the unrounded sum 1 + x."""
    total, rest = two_sum(x.constant(1.0), x)
    value = (x < INF).choose(log_of_sum(total, rest), x)
    value = (x > -1.0).choose(value, x.equals(-1.0).choose(x.constant(-INF), NAN))
    return (x.abs() < 2.0 ** -(x.format.mantissa + 2)).choose(x, value)


def log_plus_root(x: Lanes, one: float) -> Lanes:
    """log(x + sqrt(x*x + one)) for x >= 0, and x >= 1 where one is -1.

    The argument of the logarithm is computed in two parts.
    """
    large = x > 2.0 ** (x.format.mantissa // 2 + 4)  # the root is x there, and x*x might overflow
    square, square_rest = two_product(x, x)
    sum_, sum_rest = two_sum(square, x.constant(one))
    radicand, radicand_rest = fast_two_sum(sum_, sum_rest + square_rest)
    root = radicand.sqrt()
    missing = ((-root).fma(root, radicand) + radicand_rest) * 0.5 / root
    total, rest = two_sum(x, root)
    rest = rest + root.equals(0.0).choose(0.0, missing)
    total, rest = large.choose(x, total), large.choose(0.0, rest)
    return log_of_sum(total, rest, large.choose(x.constant(1.0), 0.0))


def asinh(x: Lanes) -> Lanes:
    size = x.abs()
    value = (size < INF).choose(log_plus_root(size, 1.0), size)
    z = x * x
    near = size.fma(z * z.fma(3 / 40, -1 / 6), size)
    return (size < 2.0 ** -(x.format.mantissa // 3 + 1)).choose(near, value).with_sign_of(x)


def acosh(x: Lanes) -> Lanes:
    value = (x < INF).choose(log_plus_root(x, -1.0), x)
    return (x >= 1.0).choose(value, NAN)


def atanh(x: Lanes) -> Lanes:
    """log1p(2a / (1 - a)) / 2 with a = |x| and the quotient in two parts."""
    size = x.abs()
    one = x.constant(1.0)
    bottom, bottom_rest = fast_two_sum(one, -size)
    quotient = (size + size) / bottom
    missing = (-quotient).fma(bottom, size + size) - quotient * bottom_rest
    total, rest = two_sum(one, quotient)
    value = log_of_sum(total, rest + missing / bottom) * 0.5
    value = (size < 1.0).choose(value, size.equals(1.0).choose(x.constant(INF), NAN))
    z = x * x
    near = size.fma(z * z.fma(1 / 5, 1 / 3), size)
    return (size < 2.0 ** -(x.format.mantissa // 3 + 1)).choose(near, value).with_sign_of(x)


def log2_in_two_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """log2 of positive finite x in two parts, with about 13 bits more than the type has.

    With s = f / (2 + f) and z = s*s: log2(1 + f) = s * (C + z*C/3 + z*z*P(z)), C = 2/log(2).
    Every term but the last is carried in two parts.
    """
    f, e = split(x)
    bottom, bottom_rest = fast_two_sum(f.constant(2.0), f)
    inverse = 1.0 / bottom
    s = f * inverse
    s_rest = (-s).fma(bottom_rest, (-s).fma(bottom, f)) * inverse
    z, z_rest = two_product(s, s)
    z_rest = (s + s).fma(s_rest, z_rest)
    second, second_rest = POW_SECOND[x.element]
    term, term_rest = two_product(z, second)
    term_rest = term_rest + z.fma(second_rest, z_rest * second)
    term_rest = (z * z).fma(z.polynomial(TABLES["log_pow"][x.element]), term_rest)
    first, first_rest = POW_FIRST[x.element]
    factor, factor_rest = fast_two_sum(f.constant(first), term)
    factor_rest = factor_rest + (term_rest + first_rest)
    part, part_rest = two_product(s, factor)
    part_rest = part_rest + s.fma(factor_rest, s_rest * factor)
    total, rest = fast_two_sum(e, part)
    return fast_two_sum(total, rest + part_rest)


def pow(x: Lanes, y: Lanes) -> Lanes:
    """x**y = 2**(y * log2|x|).

    Signs and special cases are those of IEEE 754 (9.2.1) and C (annex F.10.4.4).
    """
    size = x.abs()
    log, log_rest = log2_in_two_parts(size)
    log = size.equals(0.0).choose(-INF, log)
    log = (size < INF).choose(log, size)
    # An infinite y would make 0*inf of log = 0 (x = -1); a huge one gives the same results
    # everywhere else.
    bound = 2.0 ** (x.format.bias - 20)
    y_bounded = y.at_most(bound).at_least(-bound)
    product, product_rest = two_product(y_bounded, log)
    product_rest = y_bounded.fma(log_rest, product_rest)
    limit = 2.0 * x.format.bias
    value = exp2_sum(product, (product.abs() < limit).choose(product_rest, 0.0))

    half = y * 0.5
    integral, even = y.rint().equals(y), half.rint().equals(half)
    negative = x.bits() < 0
    value = (negative & integral & ~even).choose(-value, value)
    undefined = (x < 0.0) & (size < INF) & ~integral
    value = undefined.choose(NAN, value)
    return (y.equals(0.0) | x.equals(1.0)).choose(1.0, value)
