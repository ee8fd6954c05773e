"""Integrals as sums over a last axis, by which special functions are precise without tables of coefficients.

The trapezoidal rule after a substitution that lets the integrand fall double-exponentially (Takahasi and Mori, Double
exponential formulas for numerical integration, Publications of RIMS 9, 1974). Places and weights are computed in the
program, in float64.
"""

from __future__ import annotations

import math

from adjoint import dtypes
from adjoint.ops.elementwise import cast, exp, functions
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def _steps(low: float, high: float, count: int) -> tuple[Tensor, float]:
    """`count` places from low to high, and how far they are apart."""
    apart = (high - low) / (count - 1)
    return cast(record("iota", (), count), dtypes.float64) * apart + low, apart


def half_line() -> tuple[Tensor, Tensor]:
    """Places s and weights (n,) of the integral over s > 0 of exp(-s) f(s), f no worse than 1 / sqrt(s) at 0: s = exp(w - exp(-w))."""
    w, apart = _steps(-4.4, 3.8, 82)
    turn = exp(-w)
    s = exp(w - turn)
    return s, exp(-s) * s * (turn + 1) * apart


def interval() -> tuple[Tensor, Tensor]:
    """Places and weights (n,) of an integral from 0 to 1: 1 / (1 + exp(-pi sinh(w)))."""
    w, apart = _steps(-3.3, 3.0, 100)
    reach = functions["sinh"](w) * math.pi
    return 1 / (exp(-reach) + 1), functions["cosh"](w) * (math.pi * apart) / ((exp(-reach) + 1) * (exp(reach) + 1))
