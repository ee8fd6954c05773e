"""Continuous families with a place and a width, other than the normal ones.

Most draw by inverting their distribution function at a uniform number. Read `Laplace`, then
`StudentT`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.gamma_family import Chi2
from adjoint.distributions.parameters import broadcast_all

_EULER = 0.57721566490153286061


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

    @property
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
        # Uniform on [tiny, 1 - eps/2]: the inverse is infinite at 0 and at 1.
        info = torch.finfo(self.loc.dtype)
        share = torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.icdf(share.clamp(min=info.tiny, max=1 - info.eps / 2))


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


class Gumbel(_LocationScale):
    """Largest of many: F(x) = exp(-exp(-z)), z = (x - loc) / scale.

    >>> import adjoint as torch
    >>> torch.distributions.Gumbel(0.0, 1.0).mean
    tensor(0.5772)
    """

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * _EULER

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
        return self.scale.log() + (1 + _EULER)


class StudentT(Distribution):
    """Student's t with `df` degrees of freedom, moved by `loc` and stretched by `scale`.

    >>> import adjoint as torch
    >>> torch.distributions.StudentT(1.0).log_prob(torch.tensor(0.0))
    tensor(-1.1447)
    """

    arg_constraints: ClassVar = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return torch.where(self.df > 1, self.loc, math.nan)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        safe = torch.where(self.df > 2, self.df, 3.0)
        heavy = torch.where(self.df > 1, math.inf, math.nan)
        return torch.where(self.df > 2, self.scale**2 * safe / (safe - 2), heavy)

    def rsample(self, sample_shape: Any = ()) -> Any:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.df.dtype)
        spread = Chi2(self.df, validate_args=False).rsample(sample_shape)
        return self.loc + self.scale * noise * torch.rsqrt(spread / self.df)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        z = (value - self.loc) / self.scale
        half = (self.df + 1) / 2
        norm = torch.lgamma(half) - torch.lgamma(self.df / 2)
        norm = norm - 0.5 * torch.log(math.pi * self.df) - self.scale.log()
        return norm - half * torch.log1p(z * z / self.df)

    def entropy(self) -> Any:
        half, df2 = (self.df + 1) / 2, self.df / 2
        log_beta = torch.lgamma(df2) + math.lgamma(0.5) - torch.lgamma(half)
        rest = half * (torch.digamma(half) - torch.digamma(df2)) + 0.5 * self.df.log()
        return self.scale.log() + rest + log_beta
