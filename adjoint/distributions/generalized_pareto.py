"""The generalised Pareto distribution, of what exceeds a high threshold. Read `GeneralizedPareto`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import broadcast_all, expm1_over, log1p_over


class GeneralizedPareto(Distribution):
    """1 - F(x) = (1 + c z)^(-1 / c), z = (x - loc) / scale >= 0, c = `concentration`.

    For c = 0 it is exponential, for c < 0 it ends at loc - scale / c.

    >>> import adjoint as torch
    >>> torch.distributions.GeneralizedPareto(0.0, 1.0, 0.0).cdf(torch.tensor(1.0))
    tensor(0.6321)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(
        self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        c = self.concentration
        width = -self.scale / torch.where(c < 0, c, -1.0)
        return constraints.interval(self.loc, torch.where(c < 0, self.loc + width, math.inf))

    @property
    def mean(self) -> Any:
        below = self.concentration < 1
        safe = torch.where(below, 1 - self.concentration, 1.0)
        return torch.where(below, self.loc + self.scale / safe, math.inf)

    @property
    def mode(self) -> Any:
        # Beyond c = -1 the density rises, to infinity at the upper end; at -1 it is flat.
        c = self.concentration
        end = self.loc - self.scale / torch.where(c < -1, c, -1.0)
        return torch.where(c < -1, end, self.loc)

    @property
    def variance(self) -> Any:
        below = self.concentration < 0.5
        c = torch.where(below, self.concentration, 0.0)
        return torch.where(below, self.scale**2 / ((1 - c) ** 2 * (1 - 2 * c)), math.inf)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def _hazard(self, value: Any) -> Any:
        """-log(1 - F): log(1 + c z) / c, which is z where c is 0."""
        z = (value - self.loc) / self.scale
        return z * log1p_over(self.concentration * z)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return -(1 + self.concentration) * self._hazard(value) - self.scale.log()

    def log_survival_function(self, value: Any) -> Any:
        """log(1 - cdf), precise also where the cdf rounds to 1."""
        self._validate_sample(value)
        return -self._hazard(value)

    def log_cdf(self, value: Any) -> Any:
        return torch.log(self.cdf(value))

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return -torch.expm1(-self._hazard(value))

    def icdf(self, value: Any) -> Any:
        hazard = -torch.log1p(-value)
        return self.loc + self.scale * hazard * expm1_over(self.concentration * hazard)

    def entropy(self) -> Any:
        return self.scale.log() + self.concentration + 1
