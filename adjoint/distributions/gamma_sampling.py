"""Draws from the standard gamma distribution, and how a draw moves with its shape parameter.

Sampling: G. Marsaglia, W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26
(2000). Gradient: a draw z of shape a is held at its quantile, so P(a, z) = const and
dz/da = -(dP/da) / p(z) (implicit reparametrisation, M. Figurnov et al., NeurIPS 2018).
Read `log_standard_gamma`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import adjoint as torch

# Beyond this shape the power series would need too many terms; see `gradient_of_draw`.
_SERIES_LIMIT = 5000.0


def log_standard_gamma(concentration: Any) -> Any:
    """log of one draw from Gamma(concentration, 1) per element, differentiable.

    The logarithm survives where the draw underflows: for a shape of 0.01 half of all float32
    draws would be 0, and a beta or Dirichlet variable made of them would be 0 / 0.
    """
    # Shapes below 1 go through Gamma(a) = Gamma(a + 1) * U^(1/a) (same paper, section 6).
    small = concentration < 1
    z = _StandardGamma.apply(torch.where(small, concentration + 1, concentration))
    share = _open_uniform(concentration.shape, concentration.dtype)
    return torch.log(z) + torch.where(small, torch.log(share) / concentration, 0.0)


class _StandardGamma(torch.autograd.Function):
    """A draw from Gamma(a, 1) for a >= 1; backward by implicit reparametrisation, once only."""

    @staticmethod
    def forward(ctx: Any, concentration: Any) -> Any:
        draw = _marsaglia_tsang(concentration)
        ctx.save_for_backward(concentration, draw)
        return draw

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a draw from a gamma, beta, Dirichlet or Student's t distribution can be "
                "differentiated once only; leave out create_graph=True"
            )
        concentration, draw = (t.detach().clone().numpy() for t in ctx.saved_tensors)
        slope = gradient_of_draw(concentration.astype(np.float64), draw.astype(np.float64))
        return g * torch.tensor(slope, dtype=g.dtype)


def _open_uniform(shape: Any, dtype: Any) -> Any:
    """Uniform on (0, 1): 0 is replaced by the smallest normal number."""
    return torch.rand(shape, dtype=dtype).clamp(min=torch.finfo(dtype).tiny)


def _marsaglia_tsang(a: Any) -> Any:
    """Draws for a >= 1. All elements are tried together until the last one is accepted."""
    d = a - 1 / 3
    c = torch.rsqrt(9 * d)
    result = done = None
    # Each try succeeds with probability over 0.95, so few rounds follow the first.
    while True:
        x = torch.randn(a.shape, dtype=a.dtype)
        v = (1 + c * x) ** 3
        positive = v > 0
        v = torch.where(positive, v, 1.0)
        limit = 0.5 * x * x + d - d * v + d * torch.log(v)
        accepted = positive & (torch.log(_open_uniform(a.shape, a.dtype)) < limit)
        if result is None:
            result, done = d * v, accepted
        else:
            result = torch.where(done, result, d * v)
            done = done | accepted
        if bool(done.all()):
            return result


def gradient_of_draw(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    """dz/da at fixed P(a, z), elementwise in float64.

    With P(a, z) = z^a e^-z / Gamma(a + 1) * sum_n t_n, t_n = z^n / ((a + 1) ... (a + n)):

        dz/da = -(z / a) * sum_n t_n (log z - digamma(a + 1 + n))

    For shapes beyond the limit, the Cornish-Fisher expansion of the quantile in powers of a^(-1/2)
    (relative error there below 1e-6).
    """
    a, z = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(z, np.float64))
    slope = np.empty(a.shape)
    far = a > _SERIES_LIMIT
    slope[far] = _expansion(a[far], z[far])
    slope[~far] = _series(a[~far], z[~far])
    return slope


def _series(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    z = np.maximum(z, np.finfo(np.float64).tiny)
    gap = np.log(z) - _digamma(a + 1)  # log z - digamma(a + 1 + n), for n = 0
    term = np.ones_like(a)
    total = gap.copy()
    n = 0
    while term.size and (term > 1e-18 * np.abs(total)).any():
        n += 1
        gap -= 1 / (a + n)
        term *= z / (a + n)
        total += term * gap
        # z is a draw, so the terms fall after about z - a of them; 1e6 only stops absurd inputs.
        if n > 1_000_000:
            break
    return -(z / a) * total


def _expansion(a: np.ndarray, z: np.ndarray) -> np.ndarray:
    root = np.sqrt(a)
    # Wilson-Hilferty: the normal quantile x that belongs to z.
    x = 3 * root * (np.cbrt(z / a) - 1 + 1 / (9 * a))
    return 1 + x / (2 * root) - (x**3 - 7 * x) / (72 * a * root)


def _digamma(x: np.ndarray) -> np.ndarray:
    """Digamma for x >= 1: recurrence up to 10, then its asymptotic series (DLMF 5.11.2)."""
    result = np.zeros_like(x)
    x = x.copy()
    while (low := x < 10).any():
        result[low] -= 1 / x[low]
        x[low] += 1
    y = 1 / (x * x)
    tail = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return result + np.log(x) - 0.5 / x - tail
