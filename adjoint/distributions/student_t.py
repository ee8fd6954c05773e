"""Student's t distribution. Read `StudentT`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.gamma_family import Chi2
from adjoint.distributions.parameters import broadcast_all


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
