"""The gamma distribution and two that it holds: exponential and chi-squared. Read `Gamma`."""

from __future__ import annotations

from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.gamma_sampling import log_standard_gamma
from adjoint.distributions.parameters import broadcast_all, common_shape


class Exponential(ExponentialFamily):
    """Waiting time at a given `rate`: log p(x) = log rate - rate x.

    >>> import adjoint as torch
    >>> torch.distributions.Exponential(2.0).cdf(torch.tensor(0.5))
    tensor(0.6321)
    """

    arg_constraints: ClassVar = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return 1 / self.rate

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.rate)

    @property
    def variance(self) -> Any:
        return self.rate**-2

    @property
    def stddev(self) -> Any:
        return 1 / self.rate

    def rsample(self, sample_shape: Any = ()) -> Any:
        share = torch.rand(self._extended_shape(sample_shape), dtype=self.rate.dtype)
        return -torch.log1p(-share) / self.rate

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.expm1(-self.rate * value)

    def icdf(self, value: Any) -> Any:
        return -torch.log1p(-value) / self.rate

    def entropy(self) -> Any:
        return 1 - self.rate.log()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (-self.rate,)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        return -torch.log(-natural_params[0])

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.rate)


class Gamma(ExponentialFamily):
    """Gamma with shape `concentration` (a) and `rate` (b).

    log p(x) = a log b + (a - 1) log x - b x - log Gamma(a).

    >>> import adjoint as torch
    >>> torch.distributions.Gamma(2.0, 1.0).log_prob(torch.tensor(1.0))
    tensor(-1.)
    """

    arg_constraints: ClassVar = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        draw = torch.exp(log_standard_gamma(self.concentration.expand(shape))) / self.rate
        return draw.clamp(min=torch.finfo(draw.dtype).tiny)  # 0 would have log_prob +-inf

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a, b = self.concentration, self.rate
        return a * b.log() + torch.xlogy(a - 1, value) - b * value - torch.lgamma(a)

    def cdf(self, value: Any) -> Any:
        """P(a, b value); differentiable in all three."""
        self._validate_sample(value)
        shape = common_shape(value.shape, self.concentration.shape)
        scaled = (self.rate * value).expand(shape)
        return torch.special.gammainc(self.concentration.to(scaled.dtype).expand(shape), scaled)

    def entropy(self) -> Any:
        a = self.concentration
        return a - self.rate.log() + torch.lgamma(a) + (1 - a) * torch.digamma(a)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.concentration - 1, -self.rate)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        a, rate = natural_params[0] + 1, -natural_params[1]
        return torch.lgamma(a) - a * rate.log()

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.rate)


class Chi2(Gamma):
    """Chi-squared with `df` degrees of freedom: Gamma(df / 2, 1 / 2).

    >>> import adjoint as torch
    >>> torch.distributions.Chi2(3.0).mean
    tensor(3.)
    """

    arg_constraints: ClassVar = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        (df,) = broadcast_all(df)
        self.df = df
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    def _expand_parts(self, new: Any, shape: Any) -> None:
        new.concentration, new.rate = self.concentration.expand(shape), self.rate.expand(shape)
