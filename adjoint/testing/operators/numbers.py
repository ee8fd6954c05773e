"""Records of signs and kinds of numbers, extrema that pass over NaN, powers in float64, divisors and neighbours (`ops/numeric.py`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.testing.operators.record import INTEGERS, NUMBERS, Draw, OpRecord, fails, sample
from adjoint.testing.operators.shapes import one, two, with_number


def _odd(draw: Draw) -> Any:
    values = draw(7)
    values[:5] = [np.inf, -np.inf, np.nan, 0.0, -0.0]
    yield sample(values)
    yield sample(draw(2, 3))


def _half_nan(draw: Draw) -> Any:
    a, b = draw(6), draw(6, low=2.5, high=4.0)
    a[0] = b[1] = np.nan
    yield sample(a, b)
    yield sample(draw(2, 3), draw(3, low=2.5, high=4.0))


def _frexp(x: Any) -> Any:
    mantissa, exponent = np.frexp(x)
    return mantissa, exponent.astype(np.int32)


NO_FLOATS = fails(NotImplementedError, "not implemented", np.ones(2), np.ones(2))

RECORDS = (
    OpRecord("positive", one, np.positive, dtypes=NUMBERS, exact=True, method="positive", covers=("__pos__",), errors=(fails(RuntimeError, "bool", np.ones(2, bool)),)),
    OpRecord("fmax", _half_nan, np.fmax, exact=True, method="fmax", second=False),
    OpRecord("fmin", _half_nan, np.fmin, exact=True, method="fmin", second=False),
    OpRecord("signbit", _odd, np.signbit, differentiable=False, exact=True, method="signbit"),
    OpRecord("sgn", one, np.sign, dtypes=NUMBERS, avoid=(0.0,), exact=True, method="sgn", in_place="sgn_", torch="its gradient is a tensor that cannot be read"),
    OpRecord("isposinf", _odd, np.isposinf, differentiable=False, exact=True, method="isposinf"),
    OpRecord("isneginf", _odd, np.isneginf, differentiable=False, exact=True, method="isneginf"),
    OpRecord("float_power", with_number(3), lambda x, k: np.float_power(x, k), dtypes=NUMBERS, method="float_power", rtol=(1e-13, 1e-13)),
    OpRecord("ldexp", lambda draw: (sample(draw(5), draw.integers(-3, 4, 5)), sample(draw(2, 3), draw.integers(-3, 4, 3))), np.ldexp, method="ldexp", in_place="ldexp_", torch="its gradient is 0 for integer exponents of -1 and below: the power of 2 is rounded"),
    OpRecord("gcd", two, np.gcd, dtypes=INTEGERS, domain=(-60, 60), differentiable=False, exact=True, method="gcd", in_place="gcd_", errors=(NO_FLOATS,)),
    OpRecord("lcm", two, np.lcm, dtypes=INTEGERS, domain=(-11, 11), differentiable=False, exact=True, method="lcm", in_place="lcm_", errors=(NO_FLOATS,)),
    OpRecord("nextafter", two, np.nextafter, differentiable=False, exact=True, method="nextafter", in_place="nextafter_", halves=False,
             errors=(fails(NotImplementedError, "not implemented", np.ones(2, int), np.ones(2, int)),)),
    OpRecord("frexp", one, _frexp, domain=(0.55, 0.95), exact=True, method="frexp", halves=False, errors=(fails(RuntimeError, "floating-point", np.ones(2, int)),)),
    OpRecord("logaddexp2", two, np.logaddexp2, method="logaddexp2", rtol=(1e-5, 1e-12)),
)  # fmt: skip
