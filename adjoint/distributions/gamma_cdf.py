"""The regularised lower incomplete gamma function P(a, x), distribution function of Gamma(a, 1).

By its power series for x < a + 1, else by the continued fraction of 1 - P (DLMF 8.11.4 and 8.9.2,
the latter evaluated by W. J. Lentz's method), in float64 on the host. Read `gamma_cdf`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import adjoint as torch
from adjoint.distributions.gamma_sampling import gradient_of_draw


def gamma_cdf(a: Any, x: Any) -> Any:
    """P(a, x) elementwise for a > 0 and x >= 0, of one shape and dtype; differentiable in both.

    >>> import adjoint as torch
    >>> from adjoint.distributions.gamma_cdf import gamma_cdf
    >>> gamma_cdf(torch.tensor(1.0), torch.tensor(2.0))
    tensor(0.8647)
    """
    return _GammaCdf.apply(a, x)


class _GammaCdf(torch.autograd.Function):
    """dP/dx is the density; dP/da follows from how a draw at a fixed quantile moves with a."""

    @staticmethod
    def forward(ctx: Any, a: Any, x: Any) -> Any:
        ctx.save_for_backward(a, x)
        return torch.tensor(lower(_values(a), _values(x)), dtype=x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        a, x = ctx.saved_tensors
        density = torch.exp(torch.xlogy(a - 1, x) - x - torch.lgamma(a))
        if not ctx.needs_input_grad[0]:
            return None, g * density
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the gamma distribution function can be differentiated once only with respect to "
                "its concentration; leave out create_graph=True"
            )
        slope = torch.tensor(gradient_of_draw(_values(a), _values(x)), dtype=g.dtype)
        # At x = 0 every distribution function is 0.
        return torch.where(x > 0, -g * density * slope, 0.0), g * density


def lower(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P(a, x) in float64; NaN where an argument is NaN or a <= 0 or x < 0."""
    a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
    result = np.full(a.shape, np.nan)
    result[(a > 0) & (x == 0)] = 0.0
    result[(a > 0) & (x == np.inf)] = 1.0
    inside = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    for chosen, rule in ((inside & (x < a + 1), _series), (inside & (x >= a + 1), _fraction)):
        if chosen.any():
            result[chosen] = rule(a[chosen], x[chosen])
    return result


def _series(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x^a e^-x / Gamma(a + 1) * sum_n x^n / ((a + 1) ... (a + n))."""
    term, total, n = np.ones_like(a), np.ones_like(a), 0
    while (term > 1e-17 * total).any():
        n += 1
        term = term * (x / (a + n))
        total += term
    return np.exp(a * np.log(x) - x - _log_gamma(a + 1)) * total


def _fraction(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """1 - x^a e^-x / Gamma(a) / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / ...))."""
    b = x + 1 - a
    d = 1 / b
    c = np.full_like(a, 1e300)
    value, n = d.copy(), 0
    while True:
        n += 1
        numerator = n * (a - n)
        b = b + 2
        d = 1 / (numerator * d + b)
        c = b + numerator / c
        step = c * d
        value *= step
        if (np.abs(step - 1) < 1e-16).all() or n > 100_000:
            break
    return 1 - np.exp(a * np.log(x) - x - _log_gamma(a)) * value


_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])


def _values(t: Any) -> np.ndarray:
    return t.detach().clone().numpy().astype(np.float64)
