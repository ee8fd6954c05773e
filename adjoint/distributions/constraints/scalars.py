"""The protocol of constraints, and those on numbers: each `check` answers per element.

`event_dim` says how many trailing dimensions one value has (0 for a number, 1 for a vector). A
*dependent* constraint stands where parameters decide. Read `Constraint`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import adjoint as torch


class Constraint:
    """A set of allowed values. `check(value)` gives a bool tensor of value's batch shape.

    >>> import adjoint as torch
    >>> torch.distributions.constraints.unit_interval.check(torch.tensor([0.5, 2.0]))
    tensor([ True, False])
    """

    event_dim: int = 0
    is_discrete: bool = False

    def check(self, value: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define check(value)")

    def __repr__(self) -> str:
        return type(self).__name__.removeprefix("_") + "()"


class _Dependent(Constraint):
    """Stands for a constraint that only an instance's parameters decide; cannot check.

    Called with `is_discrete` or `event_dim` it gives one that knows them.
    """

    def __init__(self, *, is_discrete: bool | None = None, event_dim: int | None = None) -> None:
        self._is_discrete, self._event_dim = is_discrete, event_dim

    def _known(self, name: str) -> Any:
        value = getattr(self, "_" + name)
        if value is None:
            raise NotImplementedError(
                f".{name} of a dependent constraint is known only where it was declared: write "
                f"dependent({name}=...), or ask the constraint of an instance"
            )
        return value

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self._known("is_discrete")

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self._known("event_dim")

    def _declared(self, is_discrete: bool | None, event_dim: int | None) -> dict[str, Any]:
        return {
            "is_discrete": self._is_discrete if is_discrete is None else is_discrete,
            "event_dim": self._event_dim if event_dim is None else event_dim,
        }

    def __call__(self, *, is_discrete: bool | None = None, event_dim: int | None = None) -> Any:
        return _Dependent(**self._declared(is_discrete, event_dim))

    def check(self, value: Any) -> Any:
        raise ValueError(
            f"check({type(value).__name__}): a dependent constraint holds no bounds; ask the "
            "constraint of an instance"
        )


class dependent_property(property, _Dependent):
    """A property that gives a constraint; the class's attribute is a dependent constraint.

    >>> from adjoint.distributions import Uniform
    >>> Uniform.support.event_dim, Uniform(0.0, 2.0).support
    (0, Interval(lower_bound=tensor(0.), upper_bound=tensor(2.)))
    """

    def __init__(
        self,
        fget: Callable[[Any], Constraint] | None = None,
        *,
        is_discrete: bool | None = None,
        event_dim: int | None = None,
    ) -> None:
        property.__init__(self, fget)
        _Dependent.__init__(self, is_discrete=is_discrete, event_dim=event_dim)

    def __call__(self, fget: Callable[[Any], Constraint]) -> Any:  # type: ignore[override]
        """The decorator's second half, after `@dependent_property(event_dim=...)`."""
        return dependent_property(fget, **self._declared(None, None))


def is_dependent(constraint: Any) -> bool:
    """Whether only an instance's parameters decide what `constraint` allows."""
    return isinstance(constraint, _Dependent)


class _Real(Constraint):
    def check(self, value: Any) -> Any:
        return ~torch.isnan(value)


class _Boolean(Constraint):
    is_discrete = True

    def check(self, value: Any) -> Any:
        return (value == 0) | (value == 1)


# PyTorch's names for what follows, so that reprs in messages read the same. Two of them are equal
# only if they are the same object: bounds may be tensors.
@dataclass(frozen=True, eq=False)
class GreaterThan(Constraint):
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return value > self.lower_bound


@dataclass(frozen=True, eq=False)
class GreaterThanEq(Constraint):
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return value >= self.lower_bound


@dataclass(frozen=True, eq=False)
class LessThan(Constraint):
    upper_bound: Any

    def check(self, value: Any) -> Any:
        return value < self.upper_bound


@dataclass(frozen=True, eq=False)
class Interval(Constraint):
    """Closed at both ends; the bounds may be tensors."""

    lower_bound: Any
    upper_bound: Any

    def check(self, value: Any) -> Any:
        return (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True, eq=False)
class HalfOpenInterval(Constraint):
    """With its lower end, without its upper one."""

    lower_bound: Any
    upper_bound: Any

    def check(self, value: Any) -> Any:
        return (value >= self.lower_bound) & (value < self.upper_bound)


@dataclass(frozen=True, eq=False)
class IntegerInterval(Constraint):
    is_discrete = True
    lower_bound: Any
    upper_bound: Any

    def check(self, value: Any) -> Any:
        whole = value % 1 == 0
        return whole & (value >= self.lower_bound) & (value <= self.upper_bound)


@dataclass(frozen=True, eq=False)
class IntegerGreaterThan(Constraint):
    """Whole numbers from `lower_bound` on; the bound itself is one of them, in spite of the name."""

    is_discrete = True
    lower_bound: Any

    def check(self, value: Any) -> Any:
        return (value % 1 == 0) & (value >= self.lower_bound)


real = _Real()
boolean = _Boolean()
dependent = _Dependent()
