"""Distributions of shares, built on gamma draws: Dirichlet and beta. Read `Dirichlet`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.gamma_sampling import log_standard_gamma
from adjoint.distributions.parameters import broadcast_all


class Dirichlet(ExponentialFamily):
    """Vectors of shares: log p(x) = sum (a - 1) log x + log Gamma(sum a) - sum log Gamma(a).

    concentration: a, shape batch + (k,).

    >>> import adjoint as torch
    >>> torch.distributions.Dirichlet(torch.ones(3)).log_prob(torch.tensor([0.2, 0.3, 0.5]))
    tensor(0.6931)
    """

    arg_constraints: ClassVar = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.dim() < 1:
            raise ValueError("Dirichlet: concentration must have at least one dimension")
        self.concentration = concentration
        shape = concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Any:
        # Inside the simplex only if every a > 1; else a corner, the one with the largest a.
        shifted = (self.concentration - 1).clamp(min=0)
        inside = shifted / shifted.sum(-1, keepdim=True)
        k = self.concentration.shape[-1]
        largest = self.concentration.argmax(-1, keepdim=True)
        corner = (torch.arange(k) == largest).to(self.concentration.dtype)
        return torch.where((self.concentration < 1).all(-1, keepdim=True), corner, inside)

    @property
    def variance(self) -> Any:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        return torch.softmax(log_standard_gamma(self.concentration.expand(shape)), -1)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a = self.concentration
        powers = torch.xlogy(a - 1, value).sum(-1)
        return powers + torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1)

    def entropy(self) -> Any:
        a, k = self.concentration, self.concentration.shape[-1]
        total = a.sum(-1)
        log_beta = torch.lgamma(a).sum(-1) - torch.lgamma(total)
        return log_beta - (k - total) * torch.digamma(total) - ((a - 1) * torch.digamma(a)).sum(-1)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.concentration - 1,)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        a = natural_params[0] + 1
        return torch.lgamma(a).sum(-1) - torch.lgamma(a.sum(-1))

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.concentration[..., 0])


class Beta(ExponentialFamily):
    """Beta; a = `concentration1` pulls towards 1, b = `concentration0` towards 0.

    log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b).

    >>> import adjoint as torch
    >>> torch.distributions.Beta(2.0, 3.0).mean
    tensor(0.4000)
    """

    arg_constraints: ClassVar = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    @property
    def _total(self) -> Any:
        return self.concentration1 + self.concentration0

    @property
    def mean(self) -> Any:
        return self.concentration1 / self._total

    @property
    def mode(self) -> Any:
        # Two infinite ends (both < 1) or a flat top (both 1) are no single mode: nan.
        a, b = self.concentration1, self.concentration0
        unique = (a > 1) | (b > 1)
        inside = (a - 1).clamp(min=0) / torch.where(
            unique, (a - 1).clamp(min=0) + (b - 1).clamp(min=0), 1.0
        )
        several = (a == b) | ((a < 1) & (b < 1))
        edge = torch.where(several, math.nan, (a > b).to(a.dtype))
        return torch.where(unique, inside, edge)

    @property
    def variance(self) -> Any:
        total = self._total
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        up = log_standard_gamma(self.concentration1.expand(shape))
        down = log_standard_gamma(self.concentration0.expand(shape))
        return torch.sigmoid(up - down)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        # (b - 1) log1p(-x), and 0 where b = 1 also at x = 1.
        upper = torch.xlogy(a - 1, value) + torch.xlogy(b - 1, 1 - value)
        return upper + torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)

    def entropy(self) -> Any:
        a, b, total = self.concentration1, self.concentration0, self._total
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(total)
        bends = (a - 1) * torch.digamma(a) + (b - 1) * torch.digamma(b)
        return log_beta - bends + (total - 2) * torch.digamma(total)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.concentration1 - 1, self.concentration0 - 1)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        a, b = (eta + 1 for eta in natural_params)
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.concentration1)
