"""Special functions made of primitives."""

from __future__ import annotations

import math

from adjoint.ops.elementwise import functions, in_common, log, where
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite


@composite("PolygammaBackward0")
def trigamma(x: Tensor) -> Tensor:
    """The second derivative of log gamma.

    Reflection for x < 1/2, six steps of the recurrence, then the asymptotic series (Abramowitz and Stegun 6.4.12).
    """
    low = x < 0.5
    y = where(low, 1 - x, x)
    total = 1 / (y * y)
    for k in range(1, 6):
        total = total + 1 / ((y + k) * (y + k))
    z = 1 / ((y + 6) * (y + 6))
    series = 1 / (y + 6) + z / 2 + z / (y + 6) * (1 / 6 - z * (1 / 30 - z * (1 / 42 - z * (1 / 30 - z * (5 / 66)))))
    value = total + series
    s = functions["sin"](x * math.pi)
    return where(low, (math.pi * math.pi) / (s * s) - value, value)


def mvlgamma(x: Tensor, p: int) -> Tensor:
    """Logarithm of the multivariate gamma function.

    >>> import adjoint as torch
    >>> torch.mvlgamma(torch.tensor([3.]), 2)
    tensor([1.5502])
    """
    out = x * 0 + p * (p - 1) / 4 * math.log(math.pi)
    for k in range(p):
        out = out + functions["lgamma"](x - k / 2)
    return out


def entr(x: Tensor) -> Tensor:
    """-x log x, 0 at 0 and minus infinity below."""
    return where(x > 0, -x * log(where(x > 0, x, 1.0)), where(x == 0, 0.0, -math.inf))


def sinc(x: Tensor) -> Tensor:
    """sin(pi x) / (pi x), 1 at 0.

    >>> import adjoint as torch
    >>> torch.sinc(torch.tensor([0., 0.5]))
    tensor([1.0000, 0.6366])
    """
    return in_common(_sinc, x)


def _sinc(x: Tensor) -> Tensor:
    y = where(x == 0, 1.0, x * math.pi)
    return where(x == 0, 1.0, functions["sin"](y) / y)
