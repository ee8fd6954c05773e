"""Which values a parameter or a sample may take: each constraint's `check` answers per element.

`event_dim` says how many trailing dimensions one value has (0 for a number, 1 for a vector).
Read `Constraint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import adjoint as torch


class Constraint:
    """A set of allowed values. `check(value)` gives a bool tensor of value's batch shape."""

    event_dim: ClassVar[int] = 0
    is_discrete: ClassVar[bool] = False

    def check(self, value: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define check(value)")

    def __repr__(self) -> str:
        return type(self).__name__.removeprefix("_") + "()"


class _Real(Constraint):
    def check(self, value: Any) -> Any:
        return ~torch.isnan(value)


class _RealVector(Constraint):
    event_dim = 1

    def check(self, value: Any) -> Any:
        return ~torch.isnan(value).any(-1)


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Any) -> Any:
        return (value == 0) | (value == 1)


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


class _LowerCholesky(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        lower = (value.tril() == value).all(-1).all(-1)
        return lower & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _PositiveDefinite(Constraint):
    event_dim = 2

    def check(self, value: Any) -> Any:
        symmetric = ((value - value.mT).abs() <= 1e-6 * (1 + value.abs())).all(-1).all(-1)
        return symmetric & (torch.linalg.eigvalsh(value) > 0).all(-1)


# PyTorch's names for what follows, so that reprs in messages read the same.
@dataclass(frozen=True)
class GreaterThan(Constraint):
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return value > self.lower_bound


@dataclass(frozen=True)
class GreaterThanEq(Constraint):
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return value >= self.lower_bound


@dataclass(frozen=True)
class Interval(Constraint):
    """Closed at both ends; the bounds may be tensors."""

    lower_bound: Any
    upper_bound: Any

    def check(self, value: Any) -> Any:
        return (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True)
class IntegerInterval(Constraint):
    is_discrete = True
    lower_bound: Any
    upper_bound: Any

    def check(self, value: Any) -> Any:
        whole = value % 1 == 0
        return whole & (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True)
class IntegerGreaterThanEq(Constraint):
    is_discrete = True
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= self.lower_bound)


@dataclass(frozen=True)
class CountVector(Constraint):
    """Vectors of counts that sum to `total`."""

    event_dim = 1
    is_discrete = True
    total: Any

    def check(self, value: Any) -> Any:
        return (value >= 0).all(-1) & (value % 1 == 0).all(-1) & (value.sum(-1) == self.total)


@dataclass(frozen=True)
class _Elementwise(Constraint):
    """`base` applied to values whose last `ndims` dimensions belong together."""

    base: Constraint
    ndims: int

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base.event_dim + self.ndims

    def check(self, value: Any) -> Any:
        result = self.base.check(value)
        for _ in range(self.ndims):
            result = result.all(-1)
        return result


real = _Real()
real_vector = _RealVector()
boolean = _Boolean()
simplex = _Simplex()
one_hot = _OneHot()
lower_cholesky = _LowerCholesky()
positive_definite = _PositiveDefinite()
positive = GreaterThan(0.0)
nonnegative = GreaterThanEq(0.0)
nonnegative_integer = IntegerGreaterThanEq(0)
unit_interval = Interval(0.0, 1.0)
interval = Interval
integer_interval = IntegerInterval
greater_than = GreaterThan
greater_than_eq = GreaterThanEq
multinomial = CountVector
independent = _Elementwise
