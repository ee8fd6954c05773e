"""Continuous families with a place and a width, other than the normal ones.

Most draw by inverting their distribution function at a uniform number. Read `Laplace`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import broadcast_all, open_share
from adjoint.distributions.transformed import TransformedDistribution
from adjoint.distributions.transforms import AbsTransform, AffineTransform, ExpTransform

EULER = 0.57721566490153286061


class Uniform(Distribution):
    """Uniform on [low, high).

    >>> import adjoint as torch
    >>> torch.distributions.Uniform(1.0, 3.0).log_prob(torch.tensor(2.0))
    tensor(-0.6931)
    """

    arg_constraints: ClassVar = {"low": constraints.real, "high": constraints.real}
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)
        if self._validate_args and not bool((self.low < self.high).all()):
            raise ValueError(f"Uniform needs low < high, got low={self.low}, high={self.high}")

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Any:
        return (self.low + self.high) / 2

    @property
    def mode(self) -> Any:
        return torch.full_like(self.low, math.nan)  # every point is as likely as any other

    @property
    def variance(self) -> Any:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Any:
        share = torch.rand(self._extended_shape(sample_shape), dtype=self.low.dtype)
        return self.low + share * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        inside = (self.low <= value) & (value < self.high)
        return torch.where(inside, -torch.log(self.high - self.low), -math.inf)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        return self.low + value * (self.high - self.low)

    def entropy(self) -> Any:
        return torch.log(self.high - self.low)


class _LocationScale(Distribution):
    """Parameters, shapes and sampling shared by families with `loc` and `scale` and an `icdf`."""

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mode(self) -> Any:
        return self.loc

    def rsample(self, sample_shape: Any = ()) -> Any:
        # The inverse is infinite at 0 and at 1.
        return self.icdf(open_share(self._extended_shape(sample_shape), self.loc.dtype))

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            return self.rsample(sample_shape)


class Laplace(_LocationScale):
    """Two-sided exponential: log p(x) = -|x - loc| / scale - log(2 scale).

    >>> import adjoint as torch
    >>> torch.distributions.Laplace(0.0, 1.0).entropy()
    tensor(1.6931)
    """

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return 2 * self.scale**2

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.log(2 * self.scale) - (value - self.loc).abs() / self.scale

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return 0.5 - 0.5 * z.sign() * torch.expm1(-z.abs())

    def icdf(self, value: Any) -> Any:
        # log(1 - 2|p - 1/2|) is log(2p) below the middle and log(2(1 - p)) above, without
        # cancellation.
        p = torch.where(value < 0.5, value, 1 - value)
        return self.loc + self.scale * (value - 0.5).sign() * -torch.log(2 * p)

    def entropy(self) -> Any:
        return 1 + torch.log(2 * self.scale)


class Cauchy(_LocationScale):
    """log p(x) = -log(pi scale (1 + z^2)), z = (x - loc) / scale. It has no mean or variance.

    >>> import adjoint as torch
    >>> torch.distributions.Cauchy(0.0, 1.0).log_prob(torch.tensor(0.))
    tensor(-1.1447)
    """

    @property
    def mean(self) -> Any:
        return torch.full_like(self.loc, math.nan)

    @property
    def variance(self) -> Any:
        return torch.full_like(self.loc, math.inf)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return -math.log(math.pi) - self.scale.log() - torch.log1p(z * z)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.atan((value - self.loc) / self.scale) / math.pi + 0.5

    def icdf(self, value: Any) -> Any:
        return self.loc + self.scale * torch.tan(math.pi * (value - 0.5))

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + self.scale.log()


class HalfCauchy(TransformedDistribution):
    """|x| of a Cauchy variable around 0: F(x) = 2 atan(x / scale) / pi.

    >>> import adjoint as torch
    >>> torch.distributions.HalfCauchy(1.0).cdf(torch.tensor(1.0))
    tensor(0.5000)
    """

    arg_constraints: ClassVar = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast_all(scale)
        base = Cauchy(torch.zeros_like(self.scale), self.scale, validate_args=False)
        super().__init__(base, AbsTransform(), validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return torch.full_like(self.scale, math.inf)

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.scale)

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        inside = self.base_dist.log_prob(value) + math.log(2)
        return torch.where(value >= 0, inside, -math.inf)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.atan(value / self.scale) * (2 / math.pi)

    def icdf(self, value: Any) -> Any:
        return self.scale * torch.tan(value * (math.pi / 2))

    def entropy(self) -> Any:
        return math.log(2 * math.pi) + self.scale.log()


class Gumbel(_LocationScale, TransformedDistribution):
    """Largest of many: F(x) = exp(-exp(-z)), z = (x - loc) / scale.

    >>> import adjoint as torch
    >>> torch.distributions.Gumbel(0.0, 1.0).mean
    tensor(0.5772)
    """

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        zero = torch.zeros_like(self.loc)
        log = ExpTransform().inv
        moved = [log, AffineTransform(0.0, -1.0), log, AffineTransform(self.loc, self.scale * -1)]
        base = Uniform(zero, zero + 1, validate_args=False)
        TransformedDistribution.__init__(self, base, moved, validate_args)

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * EULER

    @property
    def variance(self) -> Any:
        return self.scale**2 * (math.pi**2 / 6)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        z = (value - self.loc) / self.scale
        return -z - torch.exp(-z) - self.scale.log()

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.exp(-torch.exp(-(value - self.loc) / self.scale))

    def icdf(self, value: Any) -> Any:
        return self.loc - self.scale * torch.log(-torch.log(value))

    def entropy(self) -> Any:
        return self.scale.log() + (1 + EULER)
