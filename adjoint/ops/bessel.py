"""Bessel and Airy functions: j0, j1, y0, y1, k0, k1, spherical j0, Ai.

Near 0 by their power series, elsewhere by an integral over s > 0 of exp(-s) s^(n - 1/2) (1 + s / (2 z))^(n - 1/2) (Poisson's
integral for K_n(z), NIST Digital Library of Mathematical Functions, 10.32.8), whose sum has terms of one sign for real z. On the
imaginary axis it is Hankel's function, whose parts are those of J and Y; at 2/3 |x|^(3/2) with n = 1/3 it is that of Airy.
All is computed in float64 and rounded once. Values of oscillating functions are precise in relation to their amplitude, not
next to zeros. Read `_hankel`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from adjoint import dtypes
from adjoint.ops.elementwise import (
    absolute,
    cast,
    exp,
    functions,
    in_common,
    log,
    refuse,
    sqrt,
    where,
)
from adjoint.ops.quadrature import half_line
from adjoint.ops.reduce import sum as total
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite

_EULER = 0.5772156649015329
_NEAR = 2.0  # the power series of J and Y up to here
_TERMS = 14
_AIRY_0, _AIRY_SLOPE_0 = 0.355028053887817239, 0.258819403792806798  # Ai(0) and -Ai'(0) (DLMF 9.2.3, 9.2.4)


def _make(name: str, node: str, function: Callable[[Tensor], Tensor], doc: str) -> Callable[[Tensor], Tensor]:
    inner = composite(node)(function)

    def special(input: Tensor) -> Tensor:
        refuse(f"special_{name}", (0, 1, 2), input)
        return in_common(lambda x: cast(inner(cast(x, dtypes.float64)), x._aval.dtype), input)

    special.__name__ = special.__qualname__ = name
    special.__doc__ = doc
    return special


def _harmonic(k: int) -> float:
    return math.fsum(1 / j for j in range(1, k + 1))


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    out = x * 0 + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        out = out * x + c
    return out


def _series(square: Tensor, order: int, weigh: Callable[[int], float], sign: int) -> Tensor:
    """The sum over k of (sign x^2 / 4)^k / (k! (k + order)!) weigh(k)."""
    return _polynomial(square, [weigh(k) * sign**k / (math.factorial(k) * math.factorial(k + order)) for k in range(_TERMS)])


def _hankel(x: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """P and Q, for x >= 1: Hankel's function is sqrt(2 / (pi x)) (P + i Q) exp(i (x - (order + 1/2) pi / 2))."""
    s, weights = half_line()
    power = order - 0.5
    q = s / (x.unsqueeze(-1) * 2)  # type: ignore[attr-defined]
    size, angle = exp(functions["log1p"](q * q) * (power / 2)), functions["atan"](q) * power
    parts = size * (weights * exp(log(s) * power) * (1 / math.gamma(order + 0.5)))
    return total(parts * functions["cos"](angle), -1), total(parts * functions["sin"](angle), -1)


def _falling(x: Tensor, order: float) -> Tensor:
    """exp(x) sqrt(2 x / pi) K(x), for x >= 1."""
    s, weights = half_line()
    power = order - 0.5
    parts = exp(functions["log1p"](s / (x.unsqueeze(-1) * 2)) * power)  # type: ignore[attr-defined]
    return total(parts * (weights * exp(log(s) * power) * (1 / math.gamma(order + 0.5))), -1)


def _waves(x: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """J and Y of a size x >= `_NEAR` from the parts of Hankel's function."""
    P, Q = _hankel(x, order)
    scale = 1 / sqrt(x * math.pi)
    sin, cos = functions["sin"](x), functions["cos"](x)
    # cos and sin of x - (order + 1/2) pi / 2, times sqrt 2
    c, s = (cos + sin, sin - cos) if order == 0 else (sin - cos, -sin - cos)
    return scale * (P * c - Q * s), scale * (P * s + Q * c)


def _j(x: Tensor, order: int) -> Tensor:
    size = absolute(x)
    far = size > _NEAR
    endless = functions["isinf"](size)
    small, large = where(far, 1.0, x), where(far & (size < math.inf), size, _NEAR)
    square = small * small / 4
    near = _series(square, order, lambda k: 1.0, -1)
    beyond, _ = _waves(large, order)
    if order:
        near, beyond = near * small / 2, functions["sign"](x) * beyond
    return where(endless, 0.0, where(far, beyond, near))


def _y(x: Tensor, order: int) -> Tensor:
    far = x > _NEAR
    endless = x == math.inf
    inside = (x > 0) & (x <= _NEAR)
    small, large = where(inside, x, 1.0), where(far & (x < math.inf), x, _NEAR)
    square, logarithm = small * small / 4, log(small / 2)
    if order == 0:  # DLMF 10.8.2
        near = (logarithm + _EULER) * _series(square, 0, lambda k: 1.0, -1) - _series(square, 0, _harmonic, -1)
    else:  # DLMF 10.8.1
        sums = _series(square, 1, lambda k: _harmonic(k) + _harmonic(k + 1) - 2 * _EULER, -1) * small / 4
        near = logarithm * _series(square, 1, lambda k: 1.0, -1) * small / 2 - sums - 1 / small
    _, beyond = _waves(large, order)
    outside = where(x == 0, -math.inf, where(endless, 0.0, math.nan))
    return where(inside, near * (2 / math.pi), where(far & (x < math.inf), beyond, outside))


def _k(x: Tensor, order: int, scaled: bool) -> Tensor:
    far, inside = x > 1, (x > 0) & (x <= 1)
    endless = x == math.inf
    small, large = where(inside, x, 1.0), where(far & (x < math.inf), x, 1.0)
    square, logarithm = small * small / 4, log(small / 2)
    if order == 0:  # DLMF 10.31.2
        near = _series(square, 0, _harmonic, 1) - (logarithm + _EULER) * _series(square, 0, lambda k: 1.0, 1)
    else:  # DLMF 10.31.1
        sums = _series(square, 1, lambda k: _harmonic(k) + _harmonic(k + 1) - 2 * _EULER, 1) * small / 4
        near = logarithm * _series(square, 1, lambda k: 1.0, 1) * small / 2 - sums + 1 / small
    beyond = _falling(large, order) * sqrt(math.pi / 2 / large)
    if scaled:
        near = near * exp(small)
    else:
        beyond = beyond * exp(-large)
    outside = where(x == 0, math.inf, where(endless, 0.0, math.nan))
    return where(inside, near, where(far & (x < math.inf), beyond, outside))


def _spherical(x: Tensor) -> Tensor:
    size = absolute(x)
    near, endless = size < 0.5, functions["isinf"](size)
    small, large = where(near, x, 0.0), where(near | endless, 1.0, x)
    series = _polynomial(small * small, [(-1) ** k / math.factorial(2 * k + 1) for k in range(9)])
    return where(near, series, where(endless, 0.0, functions["sin"](large) / large))


def _airy(x: Tensor) -> Tensor:
    """Maclaurin's series (DLMF 9.4.1) from -1.5 to 1; above by K, below by Hankel's function, both of order 1/3 (9.6.2, 9.6.6)."""
    high, low = (x > 1) & (x < math.inf), (x < -1.5) & (x > -math.inf)
    middle = where((x >= -1.5) & (x <= 1), x, 0.0)
    cube = middle * middle * middle
    f, g, one, other = [1.0], [1.0], 1.0, 1.0
    for k in range(1, _TERMS):
        one, other = one / ((3 * k - 1) * 3 * k), other / (3 * k * (3 * k + 1))
        f.append(one)
        g.append(other)
    series = _polynomial(cube, f) * _AIRY_0 - middle * _polynomial(cube, g) * _AIRY_SLOPE_0
    up, down = where(high, x, 1.0), where(low, -x, 1.5)
    climb, fall = up * sqrt(up) * (2 / 3), down * sqrt(down) * (2 / 3)
    above = _falling(climb, 1 / 3) * exp(-climb) / (sqrt(sqrt(up)) * (2 * math.sqrt(math.pi)))
    P, Q = _hankel(fall, 1 / 3)
    sin, cos = functions["sin"](fall), functions["cos"](fall)
    below = (P * (cos + sin) - Q * (sin - cos)) / (sqrt(sqrt(down)) * math.sqrt(2 * math.pi))
    return where(high, above, where(low, below, where(functions["isinf"](x), 0.0, where(functions["isnan"](x), x, series))))


bessel_j0 = _make("bessel_j0", "SpecialBesselJ0Backward0", lambda x: _j(x, 0), """The Bessel function of the first kind of order 0.

    >>> import adjoint as torch
    >>> torch.special.bessel_j0(torch.tensor([0., 1., 100.]))
    tensor([1.0000, 0.7652, 0.0200])
    """)
bessel_j1 = _make("bessel_j1", "SpecialBesselJ1Backward0", lambda x: _j(x, 1), """The Bessel function of the first kind of order 1.

    >>> import adjoint as torch
    >>> torch.special.bessel_j1(torch.tensor([0., 1., 100.]))
    tensor([ 0.0000,  0.4401, -0.0771])
    """)
bessel_y0 = _make("bessel_y0", "SpecialBesselY0Backward0", lambda x: _y(x, 0), """The Bessel function of the second kind of order 0.

    Minus infinity at 0, NaN below.

    >>> import adjoint as torch
    >>> torch.special.bessel_y0(torch.tensor([0., 1., 100.]))
    tensor([   -inf,  0.0883, -0.0772])
    """)
bessel_y1 = _make("bessel_y1", "SpecialBesselY1Backward0", lambda x: _y(x, 1), """The Bessel function of the second kind of order 1.

    Minus infinity at 0, NaN below.

    >>> import adjoint as torch
    >>> torch.special.bessel_y1(torch.tensor([0., 1., 100.]))
    tensor([   -inf, -0.7812, -0.0204])
    """)
modified_bessel_k0 = _make("modified_bessel_k0", "SpecialModifiedBesselK0Backward0", lambda x: _k(x, 0, False),
                           """The modified Bessel function of the second kind of order 0: infinity at 0, NaN below.

    >>> import adjoint as torch
    >>> torch.special.modified_bessel_k0(torch.tensor([0., 1., 2.]))
    tensor([   inf, 0.4210, 0.1139])
    """)  # fmt: skip
modified_bessel_k1 = _make("modified_bessel_k1", "SpecialModifiedBesselK1Backward0", lambda x: _k(x, 1, False),
                           """The modified Bessel function of the second kind of order 1: infinity at 0, NaN below.

    >>> import adjoint as torch
    >>> torch.special.modified_bessel_k1(torch.tensor([0., 1., 2.]))
    tensor([   inf, 0.6019, 0.1399])
    """)  # fmt: skip
scaled_modified_bessel_k0 = _make("scaled_modified_bessel_k0", "SpecialScaledModifiedBesselK0Backward0", lambda x: _k(x, 0, True),
                                  """`exp(x) * modified_bessel_k0(x)`, which does not vanish for large x.

    >>> import adjoint as torch
    >>> torch.special.scaled_modified_bessel_k0(torch.tensor([0., 1., 1000.]))
    tensor([   inf, 1.1445, 0.0396])
    """)  # fmt: skip
scaled_modified_bessel_k1 = _make("scaled_modified_bessel_k1", "SpecialScaledModifiedBesselK1Backward0", lambda x: _k(x, 1, True),
                                  """`exp(x) * modified_bessel_k1(x)`, which does not vanish for large x.

    >>> import adjoint as torch
    >>> torch.special.scaled_modified_bessel_k1(torch.tensor([0., 1., 1000.]))
    tensor([   inf, 1.6362, 0.0396])
    """)  # fmt: skip
spherical_bessel_j0 = _make("spherical_bessel_j0", "SpecialSphericalBesselJ0Backward0", _spherical, """sin(x) / x, 1 at 0: the spherical Bessel function of order 0.

    >>> import adjoint as torch
    >>> torch.special.spherical_bessel_j0(torch.tensor([0., 1., 10.]))
    tensor([ 1.0000,  0.8415, -0.0544])
    """)
airy_ai = _make("airy_ai", "SpecialAiryAiBackward0", _airy, """The Airy function Ai, the solution of y'' = x y that vanishes for large x.

    >>> import adjoint as torch
    >>> torch.special.airy_ai(torch.tensor([0., 1., -2.]))
    tensor([0.3550, 0.1353, 0.2274])
    """)
