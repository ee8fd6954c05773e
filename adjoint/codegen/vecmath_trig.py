"""Trigonometric functions of vectors: sin, cos, tan and the inverse ones.

sin, cos and tan reduce |x| to r + k*pi/2, |r| <= pi/4. Up to `MODERATE` that is three fused steps
with pi/2 in three parts (Cody and Waite). Larger arguments leave the vector path:
`declare_huge_reduction` adds to the module two functions, made of integer arithmetic, that multiply
the argument by as much of 2/pi as it needs (Payne and Hanek, SIGNUM Newsletter 18, 1983), lane by
lane. Read `reduce_by_half_pi` first.
"""

from __future__ import annotations

from adjoint.codegen.emitter import Emitter, float_literal, vector_type
from adjoint.codegen.vecmath_lanes import FORMATS, Lanes, fast_two_sum, two_product, two_sum
from adjoint.codegen.vecmath_tables import TABLES

TWO_OVER_PI = 0.6366197723675814
# pi/2 cut into parts of 24 or 53 bits, each rounded down: all are positive, so zeros keep their
# sign.
HALF_PI_PARTS = {
    "float": (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15),
    "double": (1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32),
}
# pi/2 as the nearest number and what it misses.
HALF_PI = {
    "float": (1.5707963705062866, -4.371138828673793e-08),
    "double": (1.5707963267948966, 6.123233995736766e-17),
}
HALF_PI_HIGH, HALF_PI_LOW = (float_literal(part, "double") for part in HALF_PI["double"])
MODERATE = {"float": 2.0**16, "double": 2.0**28}
# The first 1216 bits of 2/pi after 64 zeros, most significant word first (computed with mpmath).
TWO_OVER_PI_WORDS = (
    0x0000000000000000,
    0xA2F9836E4E441529,
    0xFC2757D1F534DDC0,
    0xDB6295993C439041,
    0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0,
    0x06492EEA09D1921C,
    0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484,
    0xE99C7026B45F7E41,
    0x3991D639835339F4,
    0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F,
    0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA,
    0x6BFB5FB11F8D5D08,
    0x56033046FC7B6BAB,
)

# Reduction of one finite double of at least 2**16. With x = m * 2**e, m of 53 bits, all bits of
# 2/pi that contribute multiples of 4 are skipped; the next 192 bits give x*2/pi mod 4 in 128-bit
# fixed point (2 bits before the point), exact to about 2**-125. The top bits are the quadrant, the
# rest times pi/2 is r, as a sum of two doubles.
HUGE_REDUCTION = f"""
@adjoint.two_over_pi = internal unnamed_addr constant [{len(TWO_OVER_PI_WORDS)} x i64] [
{", ".join(f"i64 {word}" for word in TWO_OVER_PI_WORDS)}]
define internal {{double, double, i64}} @adjoint.reduce_huge(double %x) cold noinline nounwind {{
  %bits = bitcast double %x to i64
  %exponent = lshr i64 %bits, 52
  %field = and i64 %exponent, 2047
  %stored = and i64 %bits, 4503599627370495
  %mantissa = or i64 %stored, 4503599627370496
  %raw_position = sub i64 %field, 1013
  %below = call i64 @llvm.smax.i64(i64 %raw_position, i64 0)
  %position = call i64 @llvm.smin.i64(i64 %below, i64 1033)
  %word = lshr i64 %position, 6
  %shift = and i64 %position, 63
  %p0 = getelementptr i64, ptr @adjoint.two_over_pi, i64 %word
  %p1 = getelementptr i64, ptr %p0, i64 1
  %p2 = getelementptr i64, ptr %p0, i64 2
  %p3 = getelementptr i64, ptr %p0, i64 3
  %t0 = load i64, ptr %p0
  %t1 = load i64, ptr %p1
  %t2 = load i64, ptr %p2
  %t3 = load i64, ptr %p3
  %w0 = call i64 @llvm.fshl.i64(i64 %t0, i64 %t1, i64 %shift)
  %w1 = call i64 @llvm.fshl.i64(i64 %t1, i64 %t2, i64 %shift)
  %w2 = call i64 @llvm.fshl.i64(i64 %t2, i64 %t3, i64 %shift)
  %m = zext i64 %mantissa to i128
  %v0 = zext i64 %w0 to i128
  %v1 = zext i64 %w1 to i128
  %v2 = zext i64 %w2 to i128
  %m0 = mul i128 %m, %v0
  %m1 = mul i128 %m, %v1
  %m2 = mul i128 %m, %v2
  %high = shl i128 %m0, 64
  %low = lshr i128 %m2, 64
  %upper = add i128 %high, %m1
  %turns = add i128 %upper, %low
  %quadrant128 = lshr i128 %turns, 126
  %quadrant64 = trunc i128 %quadrant128 to i64
  %half128 = lshr i128 %turns, 125
  %half64 = trunc i128 %half128 to i64
  %up = and i64 %half64, 1
  %quadrant = add i64 %quadrant64, %up
  %fraction = shl i128 %turns, 2
  %negative = icmp slt i128 %fraction, 0
  %opposite = sub i128 0, %fraction
  %size = select i1 %negative, i128 %opposite, i128 %fraction
  %zeros = call i128 @llvm.ctlz.i128(i128 %size, i1 false)
  %leading = and i128 %zeros, 127
  %normal = shl i128 %size, %leading
  %top128 = lshr i128 %normal, 75
  %top64 = trunc i128 %top128 to i64
  %top = sitofp i64 %top64 to double
  %after = shl i128 %normal, 53
  %next128 = lshr i128 %after, 75
  %next64 = trunc i128 %next128 to i64
  %next = sitofp i64 %next64 to double
  %count = trunc i128 %leading to i64
  %power = sub i64 970, %count
  %power_field = shl i64 %power, 52
  %scale = bitcast i64 %power_field to double
  %a = fmul double %top, %scale
  %b_unscaled = fmul double %next, {float_literal(2.0**-53, "double")}
  %b = fmul double %b_unscaled, %scale
  %r0 = fmul double %a, {HALF_PI_HIGH}
  %r0_minus = fneg double %r0
  %e0 = call double @llvm.fma.f64(double %a, double {HALF_PI_HIGH}, double %r0_minus)
  %e1 = call double @llvm.fma.f64(double %a, double {HALF_PI_LOW}, double %e0)
  %e2 = call double @llvm.fma.f64(double %b, double {HALF_PI_HIGH}, double %e1)
  %r = fadd double %r0, %e2
  %moved = fsub double %r, %r0
  %rest = fsub double %e2, %moved
  %r_minus = fneg double %r
  %rest_minus = fneg double %rest
  %r_signed = select i1 %negative, double %r_minus, double %r
  %rest_signed = select i1 %negative, double %rest_minus, double %rest
  %nan_if_infinite = fsub double %x, %x
  %r_out = fadd double %r_signed, %nan_if_infinite
  %o0 = insertvalue {{double, double, i64}} poison, double %r_out, 0
  %o1 = insertvalue {{double, double, i64}} %o0, double %rest_signed, 1
  %o2 = insertvalue {{double, double, i64}} %o1, i64 %quadrant, 2
  ret {{double, double, i64}} %o2
}}"""

# Replaces (r, rest, quadrant) in the lanes whose argument is at least the limit.
HUGE_LANES = """
define internal {{{vec}, {vec}, {ivec}}} {name}({vec} %x, {vec} %r, {vec} %rest, {ivec} %quadrant)
cold noinline nounwind {{
entry:
  br label %lane
lane:
  %i = phi i32 [0, %entry], [%i_next, %next]
  %r_now = phi {vec} [%r, %entry], [%r_next, %next]
  %rest_now = phi {vec} [%rest, %entry], [%rest_next, %next]
  %q_now = phi {ivec} [%quadrant, %entry], [%q_next, %next]
  {extract}
  %huge = fcmp oge {element} %xe, {limit}
  br i1 %huge, label %reduce, label %next
reduce:
  {widen}
  %all = call {{double, double, i64}} @adjoint.reduce_huge(double %xd)
  %rd = extractvalue {{double, double, i64}} %all, 0
  %sd = extractvalue {{double, double, i64}} %all, 1
  %qd = extractvalue {{double, double, i64}} %all, 2
  {narrow}
  {insert}
  br label %next
next:
  %r_next = phi {vec} [%r_now, %lane], [%r_new, %reduce]
  %rest_next = phi {vec} [%rest_now, %lane], [%rest_new, %reduce]
  %q_next = phi {ivec} [%q_now, %lane], [%q_new, %reduce]
  %i_next = add i32 %i, 1
  %more = icmp slt i32 %i_next, {lanes}
  br i1 %more, label %lane, label %done
done:
  %o0 = insertvalue {{{vec}, {vec}, {ivec}}} poison, {vec} %r_next, 0
  %o1 = insertvalue {{{vec}, {vec}, {ivec}}} %o0, {vec} %rest_next, 1
  %o2 = insertvalue {{{vec}, {vec}, {ivec}}} %o1, {ivec} %q_next, 2
  ret {{{vec}, {vec}, {ivec}}} %o2
}}"""


def declare_huge_reduction(em: Emitter, element: str, lanes: int) -> str:
    """Add the reduction of huge arguments to the module and return the name of its vector form.

    The two functions travel with the declarations: both are module-level text that must appear
    once.
    """
    integer = FORMATS[element].integer
    vec, ivec = vector_type(element, lanes), vector_type(integer, lanes)
    name = f"@adjoint.reduce_huge.v{lanes}{FORMATS[element].suffix}"
    if element == "float":
        widen = "%xd = fpext float %xe to double"
        narrow = "\n  ".join(
            [
                "%re = fptrunc double %rd to float",
                "%rw = fpext float %re to double",
                "%diff = fsub double %rd, %rw",
                "%both = fadd double %diff, %sd",
                "%se = fptrunc double %both to float",
                "%qe = trunc i64 %qd to i32",
            ]
        )
    else:
        widen = "%xd = fadd double %xe, 0.0"
        narrow = "\n  ".join(
            ["%re = fadd double %rd, 0.0", "%se = fadd double %sd, 0.0", "%qe = add i64 %qd, 0"]
        )
    if lanes == 1:
        extract = f"%xe = fadd {vec} %x, 0.0"
        insert = "\n  ".join(
            [
                f"%r_new = fadd {vec} %re, 0.0",
                f"%rest_new = fadd {vec} %se, 0.0",
                f"%q_new = add {ivec} %qe, 0",
            ]
        )
    else:
        extract = f"%xe = extractelement {vec} %x, i32 %i"
        insert = "\n  ".join(
            [
                f"%r_new = insertelement {vec} %r_now, {element} %re, i32 %i",
                f"%rest_new = insertelement {vec} %rest_now, {element} %se, i32 %i",
                f"%q_new = insertelement {ivec} %q_now, {integer} %qe, i32 %i",
            ]
        )
    em.declare("i128 @llvm.ctlz.i128(i128, i1)")
    em.declare("i64 @llvm.fshl.i64(i64, i64, i64)")
    em.declare("i64 @llvm.smax.i64(i64, i64)")
    em.declare("i64 @llvm.smin.i64(i64, i64)")
    em.declare("double @llvm.fma.f64(double, double, double)")
    em.declarations[HUGE_REDUCTION] = None
    em.declarations[
        HUGE_LANES.format(
            vec=vec,
            ivec=ivec,
            name=name,
            element=element,
            lanes=lanes,
            limit=float_literal(MODERATE[element], element),
            extract=extract,
            widen=widen,
            narrow=narrow,
            insert=insert,
        )
    ] = None
    return name


def reduce_by_half_pi(size: Lanes, with_rest: bool = False) -> tuple[Lanes, Lanes, Lanes]:
    """`(r, rest, quadrant)` with size = r + rest + quadrant*pi/2 modulo 2*pi, for size >= 0.

    quadrant counts in its low two bits only. rest is 0 unless asked for; NaN for infinity and NaN.
    """
    em, form = size.em, size.format
    first, second, third = HALF_PI_PARTS[size.element]
    shifted = size.fma(TWO_OVER_PI, form.shifter)
    k = shifted - form.shifter
    quadrant = shifted.bits()
    r = k.fma(-first, size)  # exact
    rest = size.constant(0.0)
    if with_rest:
        product, product_rest = two_product(k, second)
        r, rest = two_sum(r, -product)
        rest = rest - k.fma(third, product_rest)
        r, rest = fast_two_sum(r, rest)
    else:
        r = k.fma(-third, k.fma(-second, r))

    name = declare_huge_reduction(em, size.element, size.lanes)
    huge, merge = em.fresh_label("huge"), em.fresh_label("reduced")
    before = em.block
    em.line(f"br i1 {(size >= MODERATE[size.element]).any()}, label %{huge}, label %{merge}")
    em.label(huge)
    kinds = (r, rest, quadrant)
    triple = "{" + ", ".join(value.type for value in kinds) + "}"
    arguments = ", ".join(f"{value.type} {value.ssa}" for value in (size, *kinds))
    result = em.op(f"call {triple} {name}({arguments})")
    slow = [em.op(f"extractvalue {triple} {result}, {i}") for i in range(3)]
    em.line(f"br label %{merge}")
    em.label(merge)
    merged = [
        value.make(em.op(f"phi {value.type} [{value.ssa}, %{before}], [{other}, %{huge}]"))
        for value, other in zip(kinds, slow, strict=True)
    ]
    return merged[0], merged[1], merged[2]


def sin_polynomial(r: Lanes, z: Lanes) -> Lanes:
    return r.fma(z * z.polynomial(TABLES["sin"][r.element]), r)


def cos_polynomial(z: Lanes) -> Lanes:
    return (z * z).fma(z.polynomial(TABLES["cos"][z.element]), z.fma(-0.5, 1.0))


def with_sign_bit(value: Lanes, sign: Lanes) -> Lanes:
    """Flip the sign of `value` where the top bit of the integers `sign` is set."""
    top = 1 << (value.format.bits - 1)
    return (value.bits() ^ (sign & top)).as_float()


def sin(x: Lanes) -> Lanes:
    r, _, quadrant = reduce_by_half_pi(x.abs())
    z = r * r
    value = (quadrant & 1).differs(0).choose(cos_polynomial(z), sin_polynomial(r, z))
    return with_sign_bit(value, (quadrant << (x.format.bits - 2)) ^ x.bits())


def cos(x: Lanes) -> Lanes:
    r, _, quadrant = reduce_by_half_pi(x.abs())
    z = r * r
    value = (quadrant & 1).differs(0).choose(sin_polynomial(r, z), cos_polynomial(z))
    return with_sign_bit(value, (quadrant + 1) << (x.format.bits - 2))


def tan(x: Lanes) -> Lanes:
    """t = r + r*z*P(z) in two parts, or -1/t in odd quadrants."""
    r, rest, quadrant = reduce_by_half_pi(x.abs(), with_rest=True)
    z = r * r
    more = (r * z).fma(z.polynomial(TABLES["tan"][x.element]), z.fma(rest, rest))
    t, t_rest = fast_two_sum(r, more)
    inverse = -1.0 / t
    error = inverse.fma(t_rest, inverse.fma(t, 1.0))
    inverse = inverse.fma(error, inverse)
    value = (quadrant & 1).differs(0).choose(inverse, t)
    return with_sign_bit(value, x.bits())


def arcsine_parts(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """`(big, s, tail)` with asin(s) = s + tail.

    s is |x|, or sqrt((1 - |x|) / 2) where |x| > 1/2 is big.
    """
    size = x.abs()
    big = size > 0.5
    z = big.choose(size.fma(-0.5, 0.5), size * size)
    s = big.choose(z.sqrt(), size)
    return big, s, s * (z * z.polynomial(TABLES["asin"][x.element]))


def asin(x: Lanes) -> Lanes:
    """asin(x) = pi/2 - 2*asin(sqrt((1 - x) / 2)) for x > 1/2.

    pi/2 is taken as pi/4 + pi/4, because pi/4 - 2*s is exact near x = 1/2.
    """
    big, s, tail = arcsine_parts(x)
    high, low = HALF_PI[x.element]
    far = s.fma(-2.0, high / 2) + (high / 2 - tail.fma(2.0, -low))
    return big.choose(far, s + tail).with_sign_of(x)


def acos(x: Lanes) -> Lanes:
    """base - scale * asin(s), with base 0, pi/2 or pi."""
    big, s, tail = arcsine_parts(x)
    high, low = HALF_PI[x.element]
    negative = x < 0.0
    zero = x.constant(0.0)
    base = big.choose(negative.choose(x.constant(2 * high), 0.0), high)
    base_rest = big.choose(negative.choose(x.constant(2 * low), zero), low)
    scale = big.choose(x.constant(-2.0), 1.0)
    s, tail = s.with_sign_of(x) * scale, tail.with_sign_of(x)
    return base - (s + tail.fma(scale, -base_rest))


def atan_polynomial(a: Lanes) -> Lanes:
    """atan(a) for 0 <= a <= 1."""
    z = a * a
    return a.fma(z * z.polynomial(TABLES["atan"][a.element]), a)


def atan(x: Lanes) -> Lanes:
    size = x.abs()
    high, low = HALF_PI[x.element]
    steep = size > 1.0
    angle = atan_polynomial(steep.choose(1.0 / size, size))
    return steep.choose(high - (angle - low), angle).with_sign_of(x)


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of the point (x, y), from -pi to pi.

    Signed zeros and infinities are as in C (annex F.10.1.4).
    """
    high, low = HALF_PI[x.element]
    width, height = x.abs(), y.abs()
    steep, left = width < height, x.bits() < 0
    small, large = steep.choose(width, height), steep.choose(height, width)
    ratio = large.equals(0.0).choose(small, small.equals(large).choose(1.0, small / large))
    angle = atan_polynomial(ratio)
    base = steep.choose(x.constant(high), left.choose(x.constant(2 * high), 0.0))
    base_rest = steep.choose(x.constant(low), left.choose(x.constant(2 * low), 0.0))
    signed = (steep ^ left).choose(-angle, angle)
    return (base + (signed + base_rest)).with_sign_of(y)
