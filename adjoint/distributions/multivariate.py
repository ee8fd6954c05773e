"""The multivariate normal distribution, held by the Cholesky factor of its covariance.

Read `MultivariateNormal`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import common_shape, lazy_property, one_of


class CovarianceForms(Distribution):
    """A covariance given in one of three forms, held by its factor `_unbroadcasted_scale_tril`; the other forms on demand."""

    def _set_tril(self, name: str) -> None:
        """`_unbroadcasted_scale_tril` from the form `name`, which is an attribute already."""
        matrix = self.__dict__[name]
        if name == "scale_tril":
            self._unbroadcasted_scale_tril = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = torch.linalg.cholesky(matrix)
        else:
            self._unbroadcasted_scale_tril = _inverse_cholesky(matrix)

    # The form that was given is an attribute, which wins over these.
    @lazy_property
    def scale_tril(self) -> Any:
        return self._unbroadcasted_scale_tril

    @lazy_property
    def covariance_matrix(self) -> Any:
        return self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT

    @lazy_property
    def precision_matrix(self) -> Any:
        inverse = torch.linalg.inv(self._unbroadcasted_scale_tril)
        return inverse.mT @ inverse

    def _expand_parts(self, new: Any, shape: Any) -> None:
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril.expand((*shape, *self._unbroadcasted_scale_tril.shape[-2:]))


class MultivariateNormal(CovarianceForms):
    """Normal vectors: mean `loc` (..., k) and a covariance S, given in one of three forms.

    covariance_matrix: S; precision_matrix: the inverse of S; scale_tril: lower-triangular L with
    L L^T = S and positive diagonal; shape (..., k, k).

        log p(x) = -(|L^-1 (x - loc)|^2 + k log 2 pi) / 2 - sum log L_ii

    >>> import adjoint as torch
    >>> d = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    >>> d.log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite,
        "scale_tril": constraints.lower_cholesky,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        name, matrix = one_of(
            covariance_matrix=covariance_matrix,
            precision_matrix=precision_matrix,
            scale_tril=scale_tril,
        )
        if loc.dim() < 1:
            raise ValueError("MultivariateNormal: loc must have at least one dimension")
        k = loc.shape[-1]
        if matrix.dim() < 2 or tuple(matrix.shape[-2:]) != (k, k):
            raise ValueError(
                f"MultivariateNormal: loc has shape {tuple(loc.shape)}, so {name} must end in "
                f"({k}, {k}); got shape {tuple(matrix.shape)}"
            )
        batch = common_shape(loc.shape[:-1], matrix.shape[:-2])
        self.loc = loc.expand((*batch, k))
        self.__dict__[name] = matrix.expand((*batch, k, k))
        super().__init__(batch, (k,), validate_args=validate_args)
        self._set_tril(name)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return (self._unbroadcasted_scale_tril**2).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Any:
        noise = torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype)
        return self.loc + (self._unbroadcasted_scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        k = self._event_shape[0]
        squared = (solve_lower(self._unbroadcasted_scale_tril, value - self.loc) ** 2).sum(-1)
        return -0.5 * (squared + k * math.log(2 * math.pi)) - half_log_det(self._unbroadcasted_scale_tril)

    def entropy(self) -> Any:
        return 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + half_log_det(self._unbroadcasted_scale_tril)


def solve_lower(tril: Any, vector: Any) -> Any:
    """L^-1 v over broadcast batches."""
    k = tril.shape[-1]
    batch = common_shape(tril.shape[:-2], vector.shape[:-1])
    left, right = tril.expand((*batch, k, k)), vector.expand((*batch, k)).unsqueeze(-1)
    return torch.linalg.solve_triangular(left, right, upper=False).squeeze(-1)


def half_log_det(tril: Any) -> Any:
    """log det L = half the log-determinant of L L^T."""
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _inverse_cholesky(precision: Any) -> Any:
    """L with L L^T = P^-1, from P = U U^T with U upper: P^-1 = U^-T U^-1, and U^-T is lower.

    Reversing rows and columns turns that factorisation into the ordinary, lower one.
    """
    flipped = torch.linalg.cholesky(torch.flip(precision, (-2, -1)))
    upper = torch.flip(flipped, (-2, -1))
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype).expand(precision.shape)
    return torch.linalg.solve_triangular(upper.mT, identity, upper=False)
