"""Constraints made of others: of several elements at once, or of parts with one each.

Read `IndependentConstraint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import adjoint as torch
from adjoint.distributions.constraints.scalars import Constraint


class IndependentConstraint(Constraint):
    """`base_constraint` for values whose last `reinterpreted_batch_ndims` dimensions belong together.

    >>> from adjoint.distributions import constraints
    >>> constraints.independent(constraints.positive, 1).check(torch.tensor([[1.0, 2.0], [1.0, -2.0]]))
    tensor([ True, False])
    """

    def __init__(self, base_constraint: Constraint, reinterpreted_batch_ndims: int) -> None:
        self.base_constraint = base_constraint
        self.reinterpreted_batch_ndims = reinterpreted_batch_ndims

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value: Any) -> Any:
        if value.dim() < self.event_dim:
            raise ValueError(
                f"{self!r}.check: values have at least {self.event_dim} dimensions, got shape "
                f"{tuple(value.shape)}"
            )
        result = self.base_constraint.check(value)
        for _ in range(self.reinterpreted_batch_ndims):
            result = result.all(-1)
        return result

    def __repr__(self) -> str:
        return f"IndependentConstraint({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class MixtureSameFamilyConstraint(Constraint):
    """A value of a mixture: allowed by every component, the last batch dimension of `base_constraint`."""

    def __init__(self, base_constraint: Constraint) -> None:
        if not isinstance(base_constraint, Constraint):
            raise TypeError(f"base_constraint must be a Constraint, got {base_constraint!r}")
        self.base_constraint = base_constraint

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return self.base_constraint.is_discrete

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self.base_constraint.event_dim

    def check(self, value: Any) -> Any:
        if value.dim() < self.event_dim:
            raise ValueError(
                f"{self!r}.check: values have at least {self.event_dim} dimensions, got shape "
                f"{tuple(value.shape)}"
            )
        return self.base_constraint.check(value.unsqueeze(-1 - self.event_dim)).all(-1)

    def __repr__(self) -> str:
        return f"MixtureSameFamilyConstraint({self.base_constraint!r})"


class _OfParts(Constraint):
    def __init__(self, cseq: Sequence[Constraint], dim: int = 0) -> None:
        self.cseq, self.dim = list(cseq), dim
        if not self.cseq or not all(isinstance(c, Constraint) for c in self.cseq):
            raise TypeError(f"{type(self).__name__} takes a sequence of constraints, got {cseq!r}")

    @property
    def is_discrete(self) -> bool:  # type: ignore[override]
        return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return max(c.event_dim for c in self.cseq)


class Cat(_OfParts):
    """One constraint for each of the pieces, `lengths` long, that lie side by side along `dim`."""

    def __init__(
        self, cseq: Sequence[Constraint], dim: int = 0, lengths: Sequence[int] | None = None
    ) -> None:
        super().__init__(cseq, dim)
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.cseq):
            raise ValueError(f"{len(self.cseq)} constraints need as many lengths, got {lengths!r}")

    def check(self, value: Any) -> Any:
        pieces = torch.split(value, self.lengths, self.dim)
        return torch.cat([c.check(v) for c, v in zip(self.cseq, pieces)], self.dim)


class Stack(_OfParts):
    """One constraint for each index along `dim`."""

    def check(self, value: Any) -> Any:
        slices = torch.unbind(value, self.dim)
        if len(slices) != len(self.cseq):
            raise ValueError(
                f"{len(self.cseq)} constraints stacked along dimension {self.dim}, but the value "
                f"has shape {tuple(value.shape)}"
            )
        return torch.stack([c.check(v) for c, v in zip(self.cseq, slices)], self.dim)
