"""The multivariate normal distribution with a covariance of low rank plus a diagonal.

Products and determinants go through the small matrix C = I + W^T D^-1 W (the capacitance) by the
identities of Woodbury and Sylvester. Read `LowRankMultivariateNormal`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.multivariate import half_log_det, solve_lower
from adjoint.distributions.parameters import common_shape


class LowRankMultivariateNormal(Distribution):
    """Normal vectors: mean `loc` (..., n), covariance W W^T + D.

    cov_factor: W (..., n, r); cov_diag: the diagonal of D (..., n), positive. Work grows with n r^2.

    >>> import adjoint as torch
    >>> zero, one = torch.zeros(3), torch.ones(3)
    >>> d = torch.distributions.LowRankMultivariateNormal(zero, torch.zeros(3, 1), one)
    >>> d.log_prob(zero)
    tensor(-2.7568)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None
    ) -> None:
        if loc.dim() < 1:
            raise ValueError("LowRankMultivariateNormal: loc must have at least one dimension")
        n = loc.shape[-1]
        if cov_factor.dim() < 2 or cov_factor.shape[-2] != n:
            raise ValueError(
                f"LowRankMultivariateNormal: loc has shape {tuple(loc.shape)}, so cov_factor must "
                f"end in ({n}, rank); got shape {tuple(cov_factor.shape)}"
            )
        if cov_diag.dim() < 1 or cov_diag.shape[-1] != n:
            raise ValueError(
                f"LowRankMultivariateNormal: loc has shape {tuple(loc.shape)}, so cov_diag must "
                f"end in ({n},); got shape {tuple(cov_diag.shape)}"
            )
        batch = common_shape(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc = loc.expand((*batch, n))
        self.cov_factor = cov_factor.expand((*batch, n, cov_factor.shape[-1]))
        self.cov_diag = cov_diag.expand((*batch, n))
        super().__init__(batch, (n,), validate_args=validate_args)
        weighted = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        identity = torch.eye(cov_factor.shape[-1], dtype=loc.dtype)
        self._capacitance_tril = torch.linalg.cholesky(identity + weighted @ self.cov_factor)

    def _expand_parts(self, new: Any, shape: Any) -> None:
        new._capacitance_tril = self._capacitance_tril.expand(
            (*shape, *self._capacitance_tril.shape[-2:])
        )

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return (self.cov_factor**2).sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Any:
        """(..., n, n)."""
        return self.cov_factor @ self.cov_factor.mT + torch.diag_embed(self.cov_diag)

    @property
    def scale_tril(self) -> Any:
        """The lower-triangular L with L L^T the covariance, (..., n, n)."""
        # Factored as D^1/2 (I + V V^T) D^1/2, whose middle is never nearly singular.
        root = self.cov_diag.sqrt().unsqueeze(-1)
        scaled = self.cov_factor / root
        identity = torch.eye(self._event_shape[0], dtype=self.loc.dtype)
        return root * torch.linalg.cholesky(identity + scaled @ scaled.mT)

    @property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance, (..., n, n)."""
        a = self._whitening()
        return torch.diag_embed(1 / self.cov_diag) - a.mT @ a

    def _whitening(self) -> Any:
        """A = C^-1/2 W^T D^-1, with which the precision is D^-1 - A^T A; (..., r, n)."""
        weighted = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        return torch.linalg.solve_triangular(self._capacitance_tril, weighted, upper=False)

    def _squared_distance(self, gap: Any) -> Any:
        """gap^T S^-1 gap over broadcast batches."""
        weighted = gap / self.cov_diag
        inside = (self.cov_factor.mT @ weighted.unsqueeze(-1)).squeeze(-1)
        return (gap * weighted).sum(-1) - (solve_lower(self._capacitance_tril, inside) ** 2).sum(-1)

    def _half_log_det(self) -> Any:
        return half_log_det(self._capacitance_tril) + 0.5 * self.cov_diag.log().sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Any:
        shape, dtype = self._extended_shape(sample_shape), self.loc.dtype
        common = torch.randn((*shape[:-1], self.cov_factor.shape[-1], 1), dtype=dtype)
        own = torch.randn(shape, dtype=dtype)
        return self.loc + (self.cov_factor @ common).squeeze(-1) + self.cov_diag.sqrt() * own

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        n = self._event_shape[0]
        squared = self._squared_distance(value - self.loc)
        return -0.5 * (squared + n * math.log(2 * math.pi)) - self._half_log_det()

    def entropy(self) -> Any:
        return 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + self._half_log_det()
