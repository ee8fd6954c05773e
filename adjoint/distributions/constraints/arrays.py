"""Constraints on vectors and matrices; `check` gives one answer for each. Read `_Simplex`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import adjoint as torch
from adjoint.distributions.constraints.scalars import Constraint


class _Simplex(Constraint):
    event_dim = 1

    def check(self, value: Any) -> Any:
        # A sum of k rounded shares may be off by k units in the last place.
        slack = 1e-6 + value.shape[-1] * torch.finfo(value.dtype).eps
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < slack)


class _OneHot(Constraint):
    event_dim = 1
    is_discrete = True

    def check(self, value: Any) -> Any:
        return ((value == 0) | (value == 1)).all(-1) & (value.sum(-1) == 1)


@dataclass(frozen=True, eq=False)
class CountVector(Constraint):
    """Vectors of counts that sum to `total`."""

    event_dim = 1
    is_discrete = True
    total: Any

    def check(self, value: Any) -> Any:
        return (value >= 0).all(-1) & (value % 1 == 0).all(-1) & (value.sum(-1) == self.total)


class _LowerTriangular(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        return (value.tril() == value).all(-1).all(-1)


class _LowerCholesky(_LowerTriangular):
    def check(self, value: Any) -> Any:
        return super().check(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _CorrCholesky(_LowerCholesky):
    """Factors of correlation matrices: rows of length 1."""

    def check(self, value: Any) -> Any:
        slack = 10 * value.shape[-1] * torch.finfo(value.dtype).eps
        unit = ((value * value).sum(-1) - 1).abs() <= slack
        return super().check(value) & unit.all(-1)


class _Square(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        return torch.full(value.shape[:-2], value.shape[-2] == value.shape[-1], dtype=torch.bool)


class _Symmetric(_Square):
    def check(self, value: Any) -> Any:
        if value.shape[-2] != value.shape[-1]:
            return super().check(value)
        return ((value - value.mT).abs() <= 1e-6 * (1 + value.abs())).all(-1).all(-1)


class _PositiveSemidefinite(_Symmetric):
    def check(self, value: Any) -> Any:
        symmetric = super().check(value)
        if value.shape[-2] != value.shape[-1]:
            return symmetric
        # A zero eigenvalue comes out as a rounding error of the largest one, of either sign.
        roots = torch.linalg.eigvalsh(value)
        slack = 4 * value.shape[-1] * torch.finfo(value.dtype).eps
        return symmetric & (roots.amin(-1) >= -slack * roots.abs().amax(-1))


class _PositiveDefinite(_Symmetric):
    def check(self, value: Any) -> Any:
        symmetric = super().check(value)
        if value.shape[-2] != value.shape[-1]:
            return symmetric
        return symmetric & (torch.linalg.eigvalsh(value) > 0).all(-1)


simplex = _Simplex()
one_hot = _OneHot()
lower_triangular = _LowerTriangular()
lower_cholesky = _LowerCholesky()
corr_cholesky = _CorrCholesky()
square = _Square()
symmetric = _Symmetric()
positive_semidefinite = _PositiveSemidefinite()
positive_definite = _PositiveDefinite()
