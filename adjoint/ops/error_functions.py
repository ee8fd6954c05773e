"""The scaled complementary error function, and what it makes of the normal distribution's tails: erfcx, ndtr, log_ndtr, ndtri.

All are pointwise expressions of primitives, precise to a few units in the last place wherever they are finite. `_falling` is
erfcx for x >= 0, from which the two others that need it are made without a difference of large numbers.
"""

from __future__ import annotations

import math
from functools import reduce

from adjoint import dtypes
from adjoint.ops.elementwise import absolute, exp, functions, in_common, log, refuse, sqrt, where
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite

_CENTRE = 3.75
# (x + 1/2) erfcx(x) as a polynomial in (x - 3.75) / (x + 3.75): its Chebyshev series, computed with 40 digits and cut where
# what is left is below 2e-18 and 3e-9, in powers; one of each is moved by a unit in its last place, so that erfcx(0) is 1.
_SCALED = {
    dtypes.float64: (
        0.6187563154189138, -0.07012029929277351, 0.0017927077427322146, 0.04113836924507551, -0.05440196507087443,
        0.04615216058009917, -0.029346699294818385, 0.0141811387107578, -0.004873289779014638, 0.0008778129162108764,
        0.0001468568327956724, -0.00014507698964493382, 2.5824549446341203e-05, 1.1191956018275339e-05,
        -5.722073118850262e-06, -4.86424791105561e-07, 8.75818824424531e-07, -2.9131405394003885e-08,
        -1.2933425358077942e-07, 1.2144881462744353e-08, 1.9337667121111177e-08, -2.194642079993164e-09,
        -2.5869951070056548e-09, 2.7285786523523443e-10, 2.1257357223981948e-10, -1.8765791389798104e-11,
    ),
    dtypes.float32: (
        0.6187563150163496, -0.070120335, 0.001792747657031545, 0.04113920999173523, -0.05440261377474977,
        0.04614538479565189, -0.029342720246815553, 0.01420462618206363, -0.004885043591684117, 0.0008379561089905655,
        0.00016508372813614034, -0.00011205837337208011, 1.1023359452847012e-05,
    ),
}  # fmt: skip
_OVERFLOW = {dtypes.float64: 26.6288, dtypes.float32: 9.3825}  # 2 exp(x^2) is infinite from here on
_VANISHES = 40.0  # exp(-x^2 / 2) is 0 from here on
_GRID = 64.0  # squares of multiples of 1/64 up to 40 are exact
# Numerators and denominators of algorithm AS 241, from the constant term up: |p - 1/2| <= 0.425, sqrt(-log p) <= 5, and beyond.
_MIDDLE = (
    (3.3871328727963666, 133.14166789178438, 1971.5909503065514, 13731.693765509461, 45921.95393154987, 67265.77092700870,
     33430.57558358813, 2509.0809287301227),
    (1.0, 42.313330701600911, 687.18700749205790, 5394.1960214247511, 21213.794301586596, 39307.895800092710,
     28729.085735721943, 5226.4952788528546),
)  # fmt: skip
_TAIL = (
    (1.42343711074968358, 4.63033784615654530, 5.76949722146069141, 3.64784832476320461, 1.27045825245236838,
     0.241780725177450612, 0.0227238449892691846, 7.74545014278341408e-4),
    (1.0, 2.05319162663775882, 1.67638483018380385, 0.689767334985100005, 0.148103976427480075, 0.0151986665636164572,
     5.47593808499534495e-4, 1.05075007164441684e-9),
)  # fmt: skip
_FAR_TAIL = (
    (6.65790464350110378, 5.46378491116411437, 1.78482653991729133, 0.296560571828504891, 0.0265321895265761230,
     1.24266094738807844e-3, 2.71155556874348758e-5, 2.01033439929228813e-7),
    (1.0, 0.599832206555887938, 0.136929880922735805, 0.0148753612908506149, 7.86869131145613260e-4, 1.84631831751005468e-5,
     1.42151175831644589e-7, 2.04426310338993979e-15),
)  # fmt: skip


def erfcx(input: Tensor) -> Tensor:
    """exp(x^2) erfc(x), which neither vanishes nor loses digits for large x.

    For x >= 0 by a Chebyshev series (Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in
    0 <= x < infinity, Mathematics of Computation 36, 1981), below as 2 exp(x^2) - erfcx(-x). Slopes are as precise as values,
    and nearly so the next ones. NotImplementedError for complex numbers.

    >>> import adjoint as torch
    >>> torch.special.erfcx(torch.tensor([0., 100.]))
    tensor([1.0000, 0.0056])
    """
    refuse("special_erfcx", (0, 1, 2), input)
    return in_common(_erfcx, input)


def log_ndtr(input: Tensor) -> Tensor:
    """The logarithm of the distribution function of the standard normal distribution.

    log(erfcx(-x / sqrt 2) / 2) - x^2 / 2 for x < 0, log1p(-exp(-x^2 / 2) erfcx(x / sqrt 2) / 2) for others: nothing cancels, in
    values or slopes. NotImplementedError for complex numbers.

    >>> import adjoint as torch
    >>> torch.special.log_ndtr(torch.tensor([-5., 0.]))
    tensor([-15.0650,  -0.6931])
    """
    refuse("special_log_ndtr", (0, 1, 2), input)
    return in_common(_log_ndtr, input)


def ndtr(input: Tensor) -> Tensor:
    """The distribution function of the standard normal distribution: erfc(-x / sqrt 2) / 2, and exp(-x^2 / 2) erfcx(-x / sqrt 2) / 2
    below -1, where the rounding of x / sqrt 2 would be felt. NotImplementedError for complex numbers.

    >>> import adjoint as torch
    >>> torch.special.ndtr(torch.tensor([0., 1.]))
    tensor([0.5000, 0.8413])
    """
    refuse("special_ndtr", (0, 1, 2), input)
    return in_common(_ndtr, input)


def ndtri(input: Tensor) -> Tensor:
    """The x for which `special.ndtr(x)` is p: quantiles of the standard normal distribution; NaN outside of [0, 1].

    By the rational functions of Wichura (Algorithm AS 241: the percentage points of the normal distribution, Applied Statistics
    37, 1988), in p - 1/2 or in the root of the logarithm of the nearer tail. NotImplementedError for complex numbers.

    >>> import adjoint as torch
    >>> torch.special.ndtri(torch.tensor([0.5, 0.975, 0.]))
    tensor([0.0000, 1.9600,   -inf])
    """
    refuse("special_ndtri", (0, 1, 2), input)
    return in_common(_ndtri, input)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """By Horner's rule; coefficients from the constant term up."""
    return reduce(lambda total, c: total * x + c, coefficients[-2::-1], x * 0 + coefficients[-1])


def _falling(x: Tensor) -> Tensor:
    """erfcx(x) for x >= 0."""
    return _polynomial(1 - 2 * _CENTRE / (x + _CENTRE), _SCALED[x._aval.dtype]) / (x + 0.5)


def _exp_of_square(x: Tensor, factor: float) -> Tensor:
    """exp(factor x^2) for |x| <= 40, without the rounding error of the square, which the exponential would enlarge.

    x^2 = h^2 + (x - h)(x + h), where h is x cut to a few bits, so that its square is exact (Cody, Rational Chebyshev
    approximations for the error function, Mathematics of Computation 23, 1969). All of the slope is in the second term.
    """
    h = functions["trunc"](x.detach() * _GRID) * (1 / _GRID)
    return exp(h * h * factor) * exp((x - h) * (x + h) * factor)


@composite("SpecialErfcxBackward0")
def _erfcx(x: Tensor) -> Tensor:
    low = x < 0
    falling = _falling(where(low, -x, x))
    over = x < -_OVERFLOW[x._aval.dtype]
    growing = where(over, where(over, x, -1.0) * -math.inf, _exp_of_square(where(over, 0.0, where(low, x, 0.0)), 1.0))
    return where(low, 2 * growing - falling, falling)


@composite("SpecialLogNdtrBackward0")
def _log_ndtr(x: Tensor) -> Tensor:
    low = x < 0
    below = where(low, x, -1.0)
    ratio = _falling(where(functions["isinf"](below), 1.0, below * -math.sqrt(0.5)))
    above = where(low, 0.0, where(x > _VANISHES, _VANISHES, x))
    missing = _exp_of_square(above, -0.5) * _falling(above * math.sqrt(0.5))
    return where(low, log(ratio * 0.5) - below * below * 0.5, functions["log1p"](missing * -0.5))


@composite("SpecialNdtrBackward0")
def _ndtr(x: Tensor) -> Tensor:
    low = x < -1
    tail = where(low & (x > -_VANISHES), x, -1.0)
    below = _exp_of_square(tail, -0.5) * _falling(tail * -math.sqrt(0.5)) * 0.5
    return where(low, where(x > -_VANISHES, below, 0.0), functions["erfc"](where(low, 1.0, x) * -math.sqrt(0.5)) * 0.5)


@composite("SpecialNdtriBackward0")
def _ndtri(p: Tensor) -> Tensor:
    inside = (p > 0) & (p < 1)
    outside = where((p < 0) | (p > 1), math.nan, 1.0) * where(inside, 0.5, p)
    p = where(inside, p, 0.5)
    q = p - 0.5
    middle, low = absolute(q) <= 0.425, q < 0
    centre = q * _ratio(0.180625 - q * q, _MIDDLE)
    root = sqrt(-log(where(middle, 0.05, where(low, p, 1 - p))))
    tail = where(root <= 5, _ratio(root - 1.6, _TAIL), _ratio(root - 5.0, _FAR_TAIL))
    value = where(middle, centre, where(low, -tail, tail))
    return where(inside, value, log(outside) - functions["log1p"](-outside))  # infinite at 0 and 1, NaN beyond


def _ratio(x: Tensor, polynomials: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    top, bottom = polynomials
    return _polynomial(x, top) / _polynomial(x, bottom)
