"""Positive families that are powers of others: Pareto, Weibull, inverse gamma, Kumaraswamy.

Each holds the base and the transforms it is made of, and closed forms where they keep more digits.
Read `Pareto`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.gamma_family import Exponential, Gamma
from adjoint.distributions.location_scale import EULER, Uniform
from adjoint.distributions.parameters import broadcast_all, open_share
from adjoint.distributions.transformed import TransformedDistribution
from adjoint.distributions.transforms import AffineTransform, ExpTransform, PowerTransform


class Pareto(TransformedDistribution):
    """Values above `scale` with a tail x^-alpha: log p(x) = log alpha + alpha log scale - (alpha + 1) log x.

    >>> import adjoint as torch
    >>> torch.distributions.Pareto(1.0, 2.0).cdf(torch.tensor(2.0))
    tensor(0.7500)
    """

    arg_constraints: ClassVar = {"scale": constraints.positive, "alpha": constraints.positive}

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        base = Exponential(self.alpha, validate_args=False)
        moved = [ExpTransform(), AffineTransform(0.0, self.scale)]
        super().__init__(base, moved, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Any:
        safe = torch.where(self.alpha > 1, self.alpha, 2.0)
        return torch.where(self.alpha > 1, safe * self.scale / (safe - 1), math.inf)

    @property
    def mode(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        a = torch.where(self.alpha > 2, self.alpha, 3.0)
        return torch.where(
            self.alpha > 2, self.scale**2 * a / ((a - 1) ** 2 * (a - 2)), math.inf
        )

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a = self.alpha
        return a.log() + a * self.scale.log() - (a + 1) * value.log()

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.expm1(self.alpha * (self.scale / value).log())

    def icdf(self, value: Any) -> Any:
        return self.scale * torch.exp(-torch.log1p(-value) / self.alpha)

    def entropy(self) -> Any:
        return torch.log(self.scale / self.alpha) + 1 + 1 / self.alpha


class Weibull(TransformedDistribution):
    """F(x) = 1 - exp(-(x / scale)^k), k = `concentration`.

    >>> import adjoint as torch
    >>> torch.distributions.Weibull(2.0, 1.0).mean
    tensor(2.)
    """

    arg_constraints: ClassVar = {
        "scale": constraints.positive,
        "concentration": constraints.positive,
    }
    support = constraints.positive

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        base = Exponential(torch.ones_like(self.scale), validate_args=False)
        moved = [PowerTransform(1 / self.concentration), AffineTransform(0.0, self.scale)]
        super().__init__(base, moved, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.scale * torch.exp(torch.lgamma(1 + 1 / self.concentration))

    @property
    def mode(self) -> Any:
        k = self.concentration
        inside = torch.where(k > 1, (k - 1) / k, 0.5)
        return torch.where(k > 1, self.scale * inside ** (1 / k), 0.0)

    @property
    def variance(self) -> Any:
        once, twice = (torch.lgamma(1 + n / self.concentration) for n in (1, 2))
        return self.scale**2 * torch.exp(2 * once) * torch.expm1(twice - 2 * once)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(open_share(self._extended_shape(sample_shape), self.scale.dtype))

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        k, z = self.concentration, value / self.scale
        return torch.log(k / self.scale) + torch.xlogy(k - 1, z) - z**k

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.expm1(-((value / self.scale) ** self.concentration))

    def icdf(self, value: Any) -> Any:
        return self.scale * (-torch.log1p(-value)) ** (1 / self.concentration)

    def entropy(self) -> Any:
        k = self.concentration
        return EULER * (1 - 1 / k) + torch.log(self.scale / k) + 1


class InverseGamma(TransformedDistribution):
    """1 / x of a gamma variable with shape `concentration` (a) and `rate` (b).

    log p(x) = a log b - (a + 1) log x - b / x - log Gamma(a).

    >>> import adjoint as torch
    >>> torch.distributions.InverseGamma(3.0, 2.0).mean
    tensor(1.)
    """

    arg_constraints: ClassVar = Gamma.arg_constraints
    support = constraints.positive

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        base = Gamma(self.concentration, self.rate, validate_args=False)
        super().__init__(base, PowerTransform(-1), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        a = torch.where(self.concentration > 1, self.concentration, 2.0)
        return torch.where(self.concentration > 1, self.rate / (a - 1), math.inf)

    @property
    def mode(self) -> Any:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Any:
        a = torch.where(self.concentration > 2, self.concentration, 3.0)
        inside = (self.rate / (a - 1)) ** 2 / (a - 2)
        return torch.where(self.concentration > 2, inside, math.inf)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a, b = self.concentration, self.rate
        return a * b.log() - (a + 1) * value.log() - b / value - torch.lgamma(a)

    def entropy(self) -> Any:
        a = self.concentration
        return a + self.rate.log() + torch.lgamma(a) - (1 + a) * torch.digamma(a)


class Kumaraswamy(TransformedDistribution):
    """F(x) = 1 - (1 - x^a)^b on [0, 1], a = `concentration1`, b = `concentration0`.

    >>> import adjoint as torch
    >>> torch.distributions.Kumaraswamy(1.0, 1.0).mean
    tensor(0.5000)
    """

    arg_constraints: ClassVar = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval

    def __init__(
        self, concentration1: Any, concentration0: Any, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        one = torch.ones_like(self.concentration1)
        moved = [
            PowerTransform(1 / self.concentration0),
            AffineTransform(1.0, -1.0),
            PowerTransform(1 / self.concentration1),
        ]
        super().__init__(Uniform(one * 0, one), moved, validate_args=validate_args)

    def _moment(self, n: int) -> Any:
        """E[x^n] = b B(1 + n / a, b)."""
        top, b = 1 + n / self.concentration1, self.concentration0
        return b * torch.exp(torch.lgamma(top) + torch.lgamma(b) - torch.lgamma(top + b))

    @property
    def mean(self) -> Any:
        return self._moment(1)

    @property
    def mode(self) -> Any:
        # Only where both are at least 1, and not both 1, is there one highest point: else nan.
        a, b = self.concentration1, self.concentration0
        single = (a >= 1) & (b >= 1) & (a * b > 1)
        share = torch.where(single, a - 1, 1.0) / torch.where(single, a * b - 1, 2.0)
        return torch.where(single, share ** (1 / a), math.nan)

    @property
    def variance(self) -> Any:
        return self._moment(2) - self._moment(1) ** 2

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(open_share(self._extended_shape(sample_shape), self.concentration1.dtype))

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        return torch.log(a * b) + torch.xlogy(a - 1, value) + torch.xlogy(b - 1, 1 - value**a)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.expm1(self.concentration0 * torch.log1p(-(value**self.concentration1)))

    def icdf(self, value: Any) -> Any:
        powered = -torch.expm1(torch.log1p(-value) / self.concentration0)
        return powered ** (1 / self.concentration1)

    def entropy(self) -> Any:
        a, b = self.concentration1, self.concentration0
        harmonic = torch.digamma(b + 1) + EULER
        return 1 - 1 / b + (1 - 1 / a) * harmonic - torch.log(a * b)
