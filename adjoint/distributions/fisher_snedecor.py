"""The F distribution. Read `FisherSnedecor`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.gamma_sampling import log_standard_gamma
from adjoint.distributions.parameters import broadcast_all


class FisherSnedecor(Distribution):
    """Quotient of two mean squares with `df1` and `df2` degrees of freedom (Snedecor's F).

    >>> import adjoint as torch
    >>> torch.distributions.FisherSnedecor(2.0, 4.0).mean
    tensor(2.)
    """

    arg_constraints: ClassVar = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        super().__init__(self.df1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        safe = torch.where(self.df2 > 2, self.df2, 3.0)
        return torch.where(self.df2 > 2, safe / (safe - 2), math.nan)

    @property
    def mode(self) -> Any:
        inside = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return torch.where(self.df1 > 2, inside, math.nan)

    @property
    def variance(self) -> Any:
        m, n = self.df1, torch.where(self.df2 > 4, self.df2, 5.0)
        inside = 2 * n**2 * (m + n - 2) / (m * (n - 2) ** 2 * (n - 4))
        return torch.where(self.df2 > 4, inside, math.nan)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape = self._extended_shape(sample_shape)
        up = log_standard_gamma((self.df1 / 2).expand(shape))
        down = log_standard_gamma((self.df2 / 2).expand(shape))
        draw = torch.exp(up - down) * self.df2 / self.df1
        return draw.clamp(min=torch.finfo(draw.dtype).tiny)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        a, b, ratio = self.df1 / 2, self.df2 / 2, self.df1 / self.df2
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        powers = torch.xlogy(a - 1, value) - (a + b) * torch.log1p(ratio * value)
        return a * ratio.log() + powers - log_beta
