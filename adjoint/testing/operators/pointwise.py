"""Records of pointwise operators: one operand, two operands, and composites of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjoint.testing.operators.record import (
    EVERY,
    FLOATS,
    NUMBERS,
    Draw,
    OpRecord,
    Sample,
    fails,
    sample,
)
from adjoint.testing.operators.shapes import one, second, two, with_number

HALF = tuple(k + 0.5 for k in range(-3, 3))
WHOLE = tuple(float(k) for k in range(-3, 4))
MATCH = fails(RuntimeError, "must match the size of tensor b", np.ones((2, 3)), np.ones(4))
BITS = ("bool", "uint8", "int16", "int64")


def each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """A scalar function on every element."""
    return np.vectorize(function, otypes=[np.float64])


def _unary(
    name: str, reference: Callable | None, domain: tuple = (-2.0, 2.0), samples: Any = one, **more: Any
) -> OpRecord:
    more.setdefault("method", name)
    return OpRecord(name, samples, reference, domain=domain, **more)


def _few(draw: Draw) -> Iterator[Sample]:
    """As `one`, of the shapes that differ most: for what takes long to compile."""
    return (sample(draw(*shape)) for shape in ((), (0,), (2, 3)))


def _digamma(x: float) -> float:
    """Slope of log gamma by a fourth-order difference: an oracle that shares nothing with the package."""
    h = 1e-3
    near = [math.lgamma(x + k * h) for k in (-2, -1, 1, 2)]
    return (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)


def _bessel(order: int, scaled: bool) -> Callable[[float], float]:
    """By Bessel's integral, the mean of exp(x cos t) cos(order t), which the trapezoidal rule gives at once."""

    def value(x: float) -> float:
        angles = [math.pi * k / 200 for k in range(400)]
        return math.fsum(math.exp(x * math.cos(t) - (abs(x) if scaled else 0)) * math.cos(order * t) for t in angles) / 400

    return value


def each_of_two(function: Callable[[float, float], float]) -> Callable[[Any, Any], Any]:
    return np.vectorize(function, otypes=[np.float64])


def _lower_gamma(a: float, x: float) -> float:
    """P(a, x) by its power series, for numbers that are not large."""
    term = math.exp(a * math.log(x) - x - math.lgamma(a + 1))
    terms = [term]
    for k in range(1, 120):
        term *= x / (a + k)
        terms.append(term)
    return math.fsum(terms)


def _few_pairs(low: float, high: float) -> Callable[[Draw], Iterator[Sample]]:
    """As `second`, of the shapes that differ most: for what takes long to compile."""
    return lambda draw: (sample(draw(*a), draw(*b, low=low, high=high)) for a, b in (((2, 1), (3,)), ((0,), (1,)), ((5,), (5,))))


def _hurwitz_real(s: float, q: float) -> float:
    """zeta(s, q): terms, and the rest by the midpoint rule with a first correction."""
    end = q + 2000 - 0.5
    return math.fsum((q + k) ** -s for k in range(2000)) + end ** (1 - s) / (s - 1) - s * end ** (-s - 1) / 24


POLYNOMIALS: dict[str, Any] = {  # trigonometric forms, or NumPy's series with one coefficient
    **{f"{shifted}chebyshev_polynomial_{kind}": kind for shifted in ("", "shifted_") for kind in "tuvw"},
    "hermite_polynomial_h": np.polynomial.Hermite, "hermite_polynomial_he": np.polynomial.HermiteE,
    "laguerre_polynomial_l": np.polynomial.Laguerre, "legendre_polynomial_p": np.polynomial.Legendre,
}  # fmt: skip


def _orthogonal(name: str, x: Any, n: int) -> Any:
    kind = POLYNOMIALS[name]
    if not isinstance(kind, str):
        return kind.basis(n)(x)
    t = np.arccos((2 * x - 1 if name.startswith("shifted") else x).astype("float64"))
    h = n + 0.5
    return {"t": lambda: np.cos(n * t), "u": lambda: np.sin((n + 1) * t) / np.sin(t), "v": lambda: np.cos(h * t) / np.cos(t / 2), "w": lambda: np.sin(h * t) / np.sin(t / 2)}[kind]()


def _hurwitz(n: int, x: float) -> float:
    """The series of polygamma, its rest by the midpoint rule with a first correction."""
    end = x + 2000 - 0.5
    rest = end**-n / n - (n + 1) * end ** (-n - 2) / 24
    return (-1) ** (n + 1) * math.factorial(n) * (math.fsum((x + k) ** (-n - 1) for k in range(2000)) + rest)


def _erfinv(y: float) -> float:
    low, high = -6.0, 6.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < y else (low, middle)
    return (low + high) / 2


def _log_ndtr(x: float) -> float:
    tail = math.erfc(abs(x) / math.sqrt(2)) / 2
    return math.log(tail) if x < 0 else math.log1p(-tail)


def _ndtri(p: float) -> float:
    """From the nearer tail, by bisection."""
    low, high = 0.0, 9.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) / 2 > min(p, 1 - p) else (low, middle)
    return math.copysign((low + high) / 2, p - 0.5)


def _not_defined(x: float) -> tuple:
    return fails(TypeError, "Tensor", x), fails(TypeError, "Tensor", "text")


UNARY = (
    _unary("neg", np.negative, exact=True, dtypes=NUMBERS, in_place="neg_", covers=("negative", "__neg__", "negative_")),
    _unary("abs", np.abs, exact=True, dtypes=NUMBERS, avoid=(0.0,), in_place="abs_", covers=("absolute", "__abs__", "absolute_")),
    _unary("sign", np.sign, exact=True, dtypes=NUMBERS, avoid=(0.0,), differentiable=False, in_place="sign_"),
    _unary("sqrt", np.sqrt, (0.1, 9.0), exact=True, in_place="sqrt_"),
    _unary("rsqrt", lambda x: 1 / np.sqrt(x), (0.1, 9.0), in_place="rsqrt_"),
    _unary("floor", np.floor, exact=True, avoid=WHOLE, differentiable=False, in_place="floor_"),
    _unary("ceil", np.ceil, exact=True, avoid=WHOLE, differentiable=False, in_place="ceil_"),
    _unary("trunc", np.trunc, exact=True, avoid=WHOLE, differentiable=False, in_place="trunc_", covers=("fix", "fix_")),
    _unary("round", np.rint, exact=True, avoid=HALF, differentiable=False, in_place="round_"),
    _unary("relu", lambda x: np.maximum(x, 0), exact=True, dtypes=NUMBERS, avoid=(0.0,), in_place="relu_"),
    _unary("exp", np.exp, (-5.0, 5.0), in_place="exp_", errors=_not_defined(1.0)),
    _unary("exp2", np.exp2, (-5.0, 5.0), in_place="exp2_", covers=("special.exp2",)),
    _unary("expm1", np.expm1, in_place="expm1_", covers=("special.expm1",)),
    _unary("log", np.log, (0.1, 50.0), in_place="log_"),
    _unary("log2", np.log2, (0.1, 50.0), in_place="log2_"),
    _unary("log10", np.log10, (0.1, 50.0), in_place="log10_"),
    _unary("log1p", np.log1p, (-0.9, 50.0), in_place="log1p_", covers=("special.log1p",)),
    _unary("sin", np.sin, (-9.0, 9.0), in_place="sin_"),
    _unary("cos", np.cos, (-9.0, 9.0), in_place="cos_"),
    _unary("tan", np.tan, (-1.4, 1.4), in_place="tan_"),
    _unary("asin", np.arcsin, (-0.95, 0.95), in_place="asin_", covers=("arcsin", "arcsin_")),
    _unary("acos", np.arccos, (-0.95, 0.95), in_place="acos_", covers=("arccos", "arccos_")),
    _unary("atan", np.arctan, (-4.0, 4.0), in_place="atan_", covers=("arctan", "arctan_")),
    _unary("sinh", np.sinh, in_place="sinh_"),
    _unary("cosh", np.cosh, in_place="cosh_"),
    _unary("tanh", np.tanh, in_place="tanh_"),
    _unary("asinh", np.arcsinh, (-4.0, 4.0), in_place="asinh_", covers=("arcsinh", "arcsinh_")),
    _unary("acosh", np.arccosh, (1.1, 9.0), in_place="acosh_", covers=("arccosh", "arccosh_")),
    _unary("atanh", np.arctanh, (-0.9, 0.9), in_place="atanh_", covers=("arctanh", "arctanh_")),
    _unary("sigmoid", lambda x: 1 / (1 + np.exp(-x)), (-6.0, 6.0), in_place="sigmoid_", covers=("special.expit",)),
    _unary("erf", each(math.erf), in_place="erf_", covers=("special.erf",)),
    _unary("erfc", each(math.erfc), in_place="erfc_", covers=("special.erfc",)),
    _unary("erfinv", each(_erfinv), (-0.95, 0.95), in_place="erfinv_", rtol=(3e-6, 1e-11), covers=("special.erfinv",)),
    _unary("lgamma", each(math.lgamma), (0.2, 9.0), in_place="lgamma_", covers=("special.gammaln",), rtol=(3e-6, 3e-13)),
    _unary("digamma", each(_digamma), (0.2, 9.0), in_place="digamma_", covers=("special.digamma", "special.psi"), rtol=(1e-5, 1e-9)),
    _unary("square", np.square, dtypes=NUMBERS, in_place="square_"),
    _unary("reciprocal", lambda x: 1 / x, (0.2, 3.0), in_place="reciprocal_"),
    _unary("frac", lambda x: x - np.trunc(x), exact=True, avoid=WHOLE, in_place="frac_"),
    _unary("deg2rad", np.deg2rad, (-180.0, 180.0), in_place="deg2rad_"),
    _unary("rad2deg", np.rad2deg, in_place="rad2deg_"),
    _unary("logit", lambda x: np.log(x / (1 - x)), (0.1, 0.9), in_place="logit_", covers=("special.logit",)),
    _unary("sinc", np.sinc, avoid=(0.0,), in_place="sinc_", covers=("special.sinc",)),
    _unary("isnan", np.isnan, exact=True, differentiable=False),
    _unary("isinf", np.isinf, exact=True, differentiable=False),
    _unary("isfinite", np.isfinite, exact=True, differentiable=False, dtypes=("int64", *FLOATS)),
    _unary("logical_not", np.logical_not, exact=True, dtypes=EVERY, differentiable=False, in_place="logical_not_"),
    _unary(
        "bitwise_not", np.invert, exact=True, dtypes=BITS, differentiable=False, in_place="bitwise_not_",
        covers=("__invert__",), errors=(fails(RuntimeError, "not implemented for", np.ones(3)),),
    ),
    *(
        _unary(f"special.{name}", each(_bessel(order, scaled)), (-30.0, 30.0), avoid=(0.0,), method=name if name == "i0" else "",
               in_place="i0_" if name == "i0" else "", rtol=(3e-6, 1e-13), second=False, covers=("i0",) if name == "i0" else (),
               halves=scaled)  # the others leave the range of float16
        for name, order, scaled in (("i0", 0, False), ("i0e", 0, True), ("i1", 1, False), ("i1e", 1, True))
    ),
    OpRecord("special.polygamma", lambda draw: (sample(n, draw(5)) for n in (1, 2, 3)), lambda n, x: each(lambda q: _hurwitz(n, q))(x),
             domain=(0.4, 9.0), rtol=(1e-5, 1e-12), covers=("polygamma", "polygamma_")),
    _unary("special.trigamma", None, (0.2, 9.0), method="", second=True, torch="torch calls it polygamma(1, x)"),
    _unary("special.ndtr", each(lambda x: math.erfc(-x / math.sqrt(2)) / 2), (-4.0, 4.0), method="", rtol=(3e-5, 1e-12)),
    _unary("special.erfcx", each(lambda x: math.exp(x * x) * math.erfc(x)), (-2.5, 4.0), method="", avoid=(0.0,),
           errors=(fails(NotImplementedError, "special_erfcx", np.ones(2, "complex64")),)),
    _unary("special.log_ndtr", each(_log_ndtr), (-6.0, 4.0), method="", avoid=(0.0,)),
    _unary("special.ndtri", each(_ndtri), (0.01, 0.99), method="", avoid=(0.5,), rtol=(3e-5, 1e-12)),
    *(
        _unary(f"special.{name}", None, domain, _few, method="", avoid=avoid, rtol=(1e-5, 1e-11), second=False, torch="has no derivative of it", halves=False,
               dtypes=("float32",) if name == "bessel_j0" else ("float64",))  # computed in float64, all of them, and rounded
        for domain, avoid, names in (
            ((-9.0, 9.0), (0.0,), "bessel_j0 bessel_j1 spherical_bessel_j0 airy_ai"),
            ((0.2, 9.0), (), "bessel_y0 bessel_y1 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0 scaled_modified_bessel_k1"),
            ((-3.0, 3.0), (0.0,), "modified_bessel_i0 modified_bessel_i1"),
        )
        for name in names.split()
    ),
    *(
        OpRecord(name, samples, reference, domain=(0.3, 6.0), rtol=(1e-5, 1e-11), second=False, torch="has no derivative in the first operand",
                 dtypes=("float64",) if "." in name else FLOATS, halves="." not in name,
                 method="" if "." in name else name, in_place="" if "." in name else f"{name}_")
        for names, reference in (
            ("special.gammainc igamma", each_of_two(_lower_gamma)), ("special.gammaincc igammac", each_of_two(lambda a, x: 1 - _lower_gamma(a, x))),
        )
        for name, samples in zip(names.split(), (_few_pairs(0.3, 6.0), lambda draw: (sample(draw(5), draw(5, low=0.3, high=6.0)),)), strict=True)
    ),
    OpRecord("special.zeta", _few_pairs(0.3, 6.0), each_of_two(_hurwitz_real), domain=(1.5, 6.0), rtol=(1e-5, 1e-11), second=False, halves=False,
             torch="has no derivative in the first operand"),
    OpRecord("special.multigammaln", with_number(2), lambda x, p: each(lambda t: math.lgamma(t) + math.lgamma(t - 0.5) + math.log(math.pi) / 2)(x), domain=(1.0, 9.0),
             rtol=(1e-5, 1e-12)),
    OpRecord("special.softmax", lambda draw: (sample(draw(2, 3), 1),), lambda x, dim: np.exp(x) / np.exp(x).sum(dim, keepdims=True)),
    OpRecord("special.log_softmax", lambda draw: (sample(draw(2, 3), 1),), lambda x, dim: x - np.log(np.exp(x).sum(dim, keepdims=True))),
    OpRecord("special.round", lambda draw: (sample(draw(2, 3)), sample(draw(5), decimals=1)), lambda x, decimals=0: np.round(x, decimals), avoid=HALF, differentiable=False),
    *(
        OpRecord(f"special.{name}", lambda draw: (sample(draw(*shape), n) for shape, n in (((2, 0), 1), ((), 0), ((5,), 4))),
                 lambda x, n, name=name: _orthogonal(name, x, n), domain=(0.05, 0.95), rtol=(2e-5, 1e-12), torch="has no derivative of it", halves=name == "legendre_polynomial_p")
        for name in POLYNOMIALS
    ),
    OpRecord(
        "special.entr", one, lambda x: -x * np.log(x), domain=(0.1, 4.0)
    ),
    OpRecord(
        "mvlgamma", lambda draw: (sample(draw(*s), 2) for s in ((), (3,), (2, 2))),
        lambda x, p: 0.5 * math.log(math.pi) + each(math.lgamma)(x) + each(math.lgamma)(x - 0.5), domain=(1.1, 6.0),
        method="mvlgamma", in_place="mvlgamma_",
    ),
)  # fmt: skip


def _binary(name: str, samples: Any, reference: Callable, **more: Any) -> OpRecord:
    more.setdefault("method", name)
    more.setdefault("errors", (MATCH,))
    return OpRecord(name, samples, reference, **more)


def _comparison(name: str, reference: Callable, other: str) -> OpRecord:
    return _binary(
        name,
        tied,
        reference,
        exact=True,
        dtypes=EVERY,
        differentiable=False,
        in_place=name + "_",
        covers=(other, f"__{name}__", *([] if other.startswith("_") else [other + "_"])),
    )


def tied(draw: Draw) -> Any:
    """Operands that are often equal."""
    for a, b in (
        ((), ()),
        ((7,), ()),
        ((2, 3), (3,)),
        ((0,), (1,)),
        ((5, 1), (1, 7)),
        ((33,), (33,)),
    ):
        yield sample(draw.repeated(*a), draw.repeated(*b))


def scaled(draw: Draw) -> Any:
    for a, b in (((), ()), ((2, 3), (3,)), ((0,), (1,)), ((5, 1), (1, 7))):
        yield sample(draw(*a), draw(*b), alpha=2)


def _logical(name: str, reference: Callable) -> OpRecord:
    return _binary(name, tied, reference, exact=True, dtypes=EVERY, differentiable=False, in_place=name + "_")


def _bitwise(name: str, reference: Callable, symbol: str) -> OpRecord:
    return _binary(
        name, tied, reference, exact=True, dtypes=BITS, differentiable=False, in_place=name + "_",
        covers=(f"__{symbol}__", f"__r{symbol}__", f"__i{symbol}__"),
    )  # fmt: skip


def _shift(name: str, call: Callable, reference: Callable, symbol: str) -> OpRecord:
    def samples(draw: Draw) -> Any:
        for shape in ((), (5,), (0,), (2, 3)):
            yield sample(draw.repeated(*shape), draw.repeated(*shape))

    return OpRecord(
        name,
        samples,
        reference,
        call,
        dtypes=("int32", "int64"),
        exact=True,
        differentiable=False,
        covers=(f"__{symbol}__", f"__r{symbol}__", f"__i{symbol}__", f"bitwise_{name[6:]}_shift", f"bitwise_{name[6:]}_shift_"),
    )


def _trunc_div(a: Any, b: Any) -> Any:
    return np.trunc(a / b)


BINARY = (
    _binary("add", two, np.add, exact=True, dtypes=EVERY, in_place="add_", covers=("__add__", "__iadd__")),
    _binary("sub", two, np.subtract, exact=True, dtypes=NUMBERS, in_place="sub_", covers=("subtract", "__sub__", "__isub__", "subtract_"),
            errors=(MATCH, fails(RuntimeError, "Subtraction", np.ones(3, bool), np.ones(3, bool)))),
    _binary("mul", two, np.multiply, exact=True, dtypes=EVERY, in_place="mul_", covers=("multiply", "__mul__", "__imul__", "multiply_")),
    _binary("div", second(0.3, 3.0), np.true_divide, exact=True, dtypes=NUMBERS, domain=(1, 5), in_place="div_",
            covers=("divide", "true_divide", "__truediv__", "__itruediv__", "divide_", "true_divide_"),
            errors=(MATCH, fails(RuntimeError, "rounding_mode", np.ones(2), 2, rounding_mode="up"))),
    OpRecord("radd", with_number(2.5), lambda x, n: n + x, lambda torch, x, n: n + x, exact=True, covers=("__radd__",)),
    OpRecord("rsub", with_number(2.5), lambda x, n: n - x, lambda torch, x, n: n - x, exact=True, covers=("__rsub__",)),
    OpRecord("rmul", with_number(3), lambda x, n: n * x, lambda torch, x, n: n * x, exact=True, dtypes=NUMBERS,
             covers=("__rmul__",)),
    OpRecord("rdiv", with_number(3), lambda x, n: n / x, lambda torch, x, n: n / x, exact=True, domain=(1, 4),
             dtypes=NUMBERS, covers=("__rtruediv__",)),
    OpRecord("rpow", with_number(2.5), lambda x, n: n**x, lambda torch, x, n: n**x, covers=("__rpow__",)),
    OpRecord("rfloordiv", with_number(7), lambda x, n: n // x, lambda torch, x, n: n // x, domain=(1, 4), dtypes=("int64", "float64"),
             differentiable=False, covers=("__rfloordiv__",)),
    OpRecord("rmod", with_number(7), lambda x, n: n % x, lambda torch, x, n: n % x, domain=(1.2, 3.3), dtypes=("int64", "float64"),
             differentiable=False, covers=("__rmod__",)),
    OpRecord("add_alpha", scaled, lambda a, b, alpha: a + alpha * b, lambda torch, a, b, alpha: torch.add(a, b, alpha=alpha), exact=True),
    OpRecord("sub_alpha", scaled, lambda a, b, alpha: a - alpha * b, lambda torch, a, b, alpha: torch.sub(a, b, alpha=alpha), exact=True),
    OpRecord("div_floor", second(0.7, 1.9), lambda a, b: np.floor(a / b), lambda torch, a, b: torch.div(a, b, rounding_mode="floor"),
             domain=(2.0, 9.0), differentiable=False),
    OpRecord("div_trunc", second(1, 3), _trunc_div, lambda torch, a, b: torch.div(a, b, rounding_mode="trunc"), dtypes=("int32", "float64"),
             domain=(-9, 9), differentiable=False),
    _binary("floor_divide", second(0.7, 3.0), np.floor_divide, dtypes=NUMBERS, domain=(2.0, 9.0), differentiable=False,
            in_place="floor_divide_", covers=("__floordiv__", "__ifloordiv__", "floor_div")),
    _binary("remainder", second(1.1, 3.0), np.remainder, dtypes=NUMBERS, domain=(-4.7, 4.7), in_place="remainder_",
            rtol=(1e-5, 1e-12), covers=("__mod__", "__imod__")),
    _binary("fmod", second(1.1, 3.0), np.fmod, dtypes=NUMBERS, domain=(-4.7, 4.7), in_place="fmod_", rtol=(1e-5, 1e-12)),
    _binary("pow", second(-1.5, 2.5), np.power, domain=(0.3, 3.0), in_place="pow_", covers=("__pow__", "__ipow__"),
            errors=(MATCH, fails(RuntimeError, "negative integer powers", np.array([1, 2]), -1))),
    OpRecord("pow_integer", lambda draw: (sample(draw(*s), n) for n in (0, 1, 2, 3, 5, 11) for s in ((), (4,))),
             lambda x, n: x**n, lambda torch, x, n: x**n, dtypes=NUMBERS, domain=(-2, 2), covers=("integer_pow",)),
    OpRecord("pow_negative", lambda draw: (sample(draw(3), n) for n in (-1, -2, -3)), lambda x, n: x ** float(n),
             lambda torch, x, n: x**n, domain=(0.5, 2.0)),
    OpRecord("pow_integer_exponents", lambda draw: (sample(draw(*s), draw(*s)) for s in ((), (0,), (7,), (2, 3))),
             lambda x, n: np.where(n >= 0, x ** np.maximum(n, 0), np.where(np.abs(x) == 1, x ** (n & 1), 0)), lambda torch, x, n: x**n,
             dtypes=("int8", "int32", "int64"), domain=(-4, 4), exact=True, differentiable=False),
    OpRecord("pow_half", with_number(0.5), lambda x, n: x**n, lambda torch, x, n: x**n, domain=(0.3, 4.0)),
    _binary("atan2", two, np.arctan2, domain=(0.2, 3.0), in_place="atan2_", covers=("arctan2", "arctan2_")),
    _binary("maximum", two, np.maximum, exact=True, dtypes=EVERY),
    _binary("minimum", two, np.minimum, exact=True, dtypes=EVERY),
    _binary("hypot", two, np.hypot, domain=(0.3, 3.0), in_place="hypot_"),
    OpRecord("hypot_range", lambda draw: (sample(*np.array([[3 * h, 3 / h, np.inf, np.nan, 0], [4 * h, 4 / h, np.nan, 1, 0]], draw.dtype))
             for h in (1e30 if draw.dtype == "float32" else 1e200,)), np.hypot, lambda torch, a, b: torch.hypot(a, b), differentiable=False, halves=False),
    _binary("copysign", second(-2.0, 2.0), np.copysign, domain=(0.2, 2.0), avoid=(0.0,), exact=True, in_place="copysign_"),
    _binary("xlogy", second(0.2, 4.0), lambda a, b: a * np.log(b), in_place="xlogy_", covers=("special.xlogy",)),
    _binary("special.xlog1py", second(-0.5, 4.0), lambda a, b: a * np.log1p(b), rtol=(2e-5, 1e-12), method=""),
    _binary("logaddexp", two, np.logaddexp),
    _binary("heaviside", second(0.2, 0.9), np.heaviside, avoid=(0.0,), exact=True, differentiable=False, in_place="heaviside_"),
    _comparison("eq", np.equal, "__eq__"),
    _comparison("ne", np.not_equal, "not_equal"),
    _comparison("lt", np.less, "less"),
    _comparison("le", np.less_equal, "less_equal"),
    _comparison("gt", np.greater, "greater"),
    _comparison("ge", np.greater_equal, "greater_equal"),
    _logical("logical_and", np.logical_and),
    _logical("logical_or", np.logical_or),
    _logical("logical_xor", np.logical_xor),
    _bitwise("bitwise_and", np.bitwise_and, "and"),
    _bitwise("bitwise_or", np.bitwise_or, "or"),
    _bitwise("bitwise_xor", np.bitwise_xor, "xor"),
    _shift("shift_left", lambda torch, a, b: a << b, np.left_shift, "lshift"),
    _shift("shift_right", lambda torch, a, b: a >> b, np.right_shift, "rshift"),
    _binary("isclose", tied, np.isclose, exact=True, dtypes=("int64", *FLOATS), differentiable=False),
)  # fmt: skip


def three(draw: Draw) -> Any:
    for a, b, c in (((), (), ()), ((3,), (3,), ()), ((2, 3), (3,), (2, 1)), ((0,), (1,), (0,))):
        yield sample(draw(*a), draw(*b), draw(*c))


def chosen(draw: Draw) -> Any:
    for m, a, b in (
        ((), (), ()),
        ((3,), (), (3,)),
        ((2, 1), (2, 3), (3,)),
        ((0,), (0,), (1,)),
        ((41,), (41,), (41,)),
    ):
        yield sample(draw.mask(*m), draw(*a), draw(*b))


def bounded(draw: Draw) -> Any:
    yield from (sample(draw(*shape), -0.5, 0.7) for shape in ((), (0,), (5,), (2, 3), (41,)))
    yield sample(draw(5), min=-0.5)
    yield sample(draw(5), max=0.5)
    yield sample(draw(2, 3), draw(3, low=-1.9, high=-1), draw(2, 1, low=0.5, high=1.5))


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    x = x if min is None else np.maximum(x, min)
    return x if max is None else np.minimum(x, max)


COMPOSITE = (
    OpRecord("where", chosen, np.where, dtypes=NUMBERS, exact=True, method="",
             errors=(fails(RuntimeError, "boolean", np.ones(2), np.ones(2), np.ones(2)),)),
    OpRecord("where_number", lambda draw: (sample(draw.mask(4), draw(4), 2.5), sample(draw.mask(2, 2), -1.0, draw(2))), np.where,
             lambda torch, m, a, b: torch.where(m, a, b), exact=True),
    OpRecord("clamp", bounded, _clamp, avoid=(-0.5, 0.7, 0.5), exact=True, method="clamp", in_place="clamp_",
             errors=(fails(RuntimeError, "At least one", np.ones(2)),), covers=("clip", "clip_")),
    OpRecord("clamp_min", with_number(0.3), lambda x, n: np.maximum(x, n), lambda torch, x, n: x.clamp_min(n), avoid=(0.3,), exact=True,
             covers=("clamp_min_",)),
    OpRecord("clamp_max", with_number(0.3), lambda x, n: np.minimum(x, n), lambda torch, x, n: x.clamp_max(n), avoid=(0.3,), exact=True,
             covers=("clamp_max_",)),
    OpRecord("lerp", three, lambda a, b, w: a + w * (b - a), method="lerp", in_place="lerp_"),
    OpRecord("lerp_number", lambda draw: (sample(draw(*s), draw(*s), 0.3) for s in ((), (3,), (2, 2))), lambda a, b, w: a + w * (b - a),
             lambda torch, a, b, w: torch.lerp(a, b, w)),
    OpRecord("addcmul", three, lambda a, b, c: a + b * c, method="addcmul", in_place="addcmul_"),
    OpRecord("addcdiv", three, lambda a, b, c: a + b / c, domain=(0.3, 3.0), method="addcdiv", in_place="addcdiv_"),
    OpRecord("addcmul_value", lambda draw: (sample(draw(3), draw(3), draw(3), value=0.5),), lambda a, b, c, value: a + value * b * c,
             lambda torch, a, b, c, value: torch.addcmul(a, b, c, value=value)),
    OpRecord("addcdiv_value", lambda draw: (sample(draw(3), draw(3), draw(3), value=0.5),), lambda a, b, c, value: a + value * b / c,
             lambda torch, a, b, c, value: torch.addcdiv(a, b, c, value=value), domain=(0.3, 3.0)),
    OpRecord("nan_to_num", lambda draw: (sample(np.array([1, np.nan, np.inf, -np.inf, -2], draw.dtype)), sample(draw(2, 3)),
                                      sample(np.array([1, np.nan, np.inf, -np.inf], draw.dtype), nan=np.inf, posinf=-np.inf, neginf=3.0)), np.nan_to_num,
             exact=True, differentiable=False, method="nan_to_num", in_place="nan_to_num_", halves=False),
    OpRecord("round_decimals", lambda draw: (sample(draw(5), decimals=1),), lambda x, decimals: np.round(x, decimals),
             lambda torch, x, decimals: torch.round(x, decimals=decimals), differentiable=False),
    OpRecord("cast", lambda draw: (sample(draw(*s)) for s in ((), (0,), (5,), (2, 3), (37,))), lambda x: (x.astype("float64"), x.astype("int32")),
             lambda torch, x: (x.double(), x.int()), dtypes=EVERY, domain=(-3.4, 3.4), exact=True,
             covers=("double", "int", "to", "type", "type_as", "long", "short", "char", "byte", "bool", "float")),
    OpRecord("softmax", lambda draw: (sample(draw(*s), dim=d) for s, d in (((3,), 0), ((2, 3), -1), ((2, 3), 0), ((5, 17), 1))),
             lambda x, dim: np.exp(x) / np.exp(x).sum(dim, keepdims=True), method="softmax"),
    OpRecord("log_softmax", lambda draw: (sample(draw(*s), dim=d) for s, d in (((3,), 0), ((2, 3), -1), ((2, 3), 0), ((5, 17), 1))),
             lambda x, dim: x - np.log(np.exp(x).sum(dim, keepdims=True)), method="log_softmax"),
)  # fmt: skip

RECORDS = (*UNARY, *BINARY, *COMPOSITE)
