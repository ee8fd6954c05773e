"""The normal distribution and what is made of it: log-, half- and logistic normal. Read `Normal`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Independent
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.parameters import broadcast_all, lazy_property
from adjoint.distributions.transformed import TransformedDistribution
from adjoint.distributions.transforms import AbsTransform, ExpTransform, StickBreakingTransform

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(ExponentialFamily):
    """Normal with mean `loc` and standard deviation `scale`.

    log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2.

    >>> import adjoint as torch
    >>> d = torch.distributions.Normal(0.0, 2.0)
    >>> d.log_prob(torch.tensor(0.0)), d.cdf(torch.tensor(0.0))
    (tensor(-1.6121), tensor(0.5000))
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def stddev(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        return self.scale**2

    def rsample(self, sample_shape: Any = ()) -> Any:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + noise * self.scale

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return -0.5 * z * z - self.scale.log() - _HALF_LOG_2PI

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        # erfc instead of 1 + erf: keeps full precision in the lower tail.
        return 0.5 * torch.erfc((self.loc - value) / (self.scale * math.sqrt(2)))

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * torch.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Any:
        return 0.5 + _HALF_LOG_2PI + self.scale.log()

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.loc / self.scale**2, -0.5 * self.scale**-2)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        linear, square = natural_params
        return -(linear**2) / (4 * square) + 0.5 * torch.log(-math.pi / square)

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.loc)


class LogNormal(TransformedDistribution):
    """exp of a normal variable with mean `loc` and standard deviation `scale`.

    >>> import adjoint as torch
    >>> torch.distributions.LogNormal(0.0, 1.0).mean
    tensor(1.6487)
    """

    base_dist: Any
    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        base = Normal(self.loc, self.scale, validate_args=False)
        super().__init__(base, ExpTransform(), validate_args=validate_args)

    # For subclasses that make the base themselves; here the attributes win.
    @lazy_property
    def loc(self) -> Any:
        return self.base_dist.loc

    @lazy_property
    def scale(self) -> Any:
        return self.base_dist.scale

    @property
    def mean(self) -> Any:
        return torch.exp(self.loc + self.scale**2 / 2)

    @property
    def mode(self) -> Any:
        return torch.exp(self.loc - self.scale**2)

    @property
    def variance(self) -> Any:
        return torch.expm1(self.scale**2) * torch.exp(2 * self.loc + self.scale**2)

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc


class HalfNormal(TransformedDistribution):
    """|x| of a normal variable with mean 0 and standard deviation `scale`.

    >>> import adjoint as torch
    >>> torch.distributions.HalfNormal(1.0).mean
    tensor(0.7979)
    """

    arg_constraints: ClassVar = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast_all(scale)
        base = Normal(torch.zeros_like(self.scale), self.scale, validate_args=False)
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.scale)

    @property
    def variance(self) -> Any:
        return self.scale**2 * (1 - 2 / math.pi)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        inside = self.base_dist.log_prob(value) + math.log(2)
        return torch.where(value >= 0, inside, -math.inf)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.erf(value / (self.scale * math.sqrt(2)))

    def icdf(self, value: Any) -> Any:
        return self.scale * math.sqrt(2) * torch.erfinv(value)

    def entropy(self) -> Any:
        return self.base_dist.entropy() - math.log(2)


class LogisticNormal(TransformedDistribution):
    """Vectors of k + 1 shares from k normal numbers by `StickBreakingTransform`.

    loc, scale: shape batch + (k,).

    >>> import adjoint as torch
    >>> d = torch.distributions.LogisticNormal(torch.zeros(3), torch.ones(3))
    >>> d.event_shape, d.log_prob(torch.full((4,), 0.25))
    (torch.Size([4]), tensor(2.7884))
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.simplex
    has_rsample = True
    base_dist: Independent

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        one = Normal(loc, scale, validate_args=validate_args)
        base = one if one.batch_shape else one.expand((1,))
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    @property
    def _normal(self) -> Any:
        return self.base_dist.base_dist

    @property
    def loc(self) -> Any:
        return self._normal.loc

    @property
    def scale(self) -> Any:
        return self._normal.scale
