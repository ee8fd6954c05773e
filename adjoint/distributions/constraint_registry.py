"""Transforms from free numbers onto what a constraint allows.

`biject_to` gives a bijection, which densities need; `transform_to` may give a map that is not one,
which suits optimisers (a softmax for shares). Both are tables, class of constraint -> function of
the constraint. Read `ConstraintRegistry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.distributions import constraints, transforms

Factory = Callable[[Any], transforms.Transform]


class ConstraintRegistry:
    """Called with a constraint, gives a transform whose codomain it is.

    Raises NotImplementedError for constraints without one.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> D.biject_to(D.constraints.positive)(torch.tensor(0.0))
    tensor(1.)
    """

    def __init__(self) -> None:
        self._factories: dict[type, Factory] = {}

    def register(self, constraint: Any, factory: Factory | None = None) -> Any:
        """Make `factory` the function for a class of constraints, or for that of an object.

        Without `factory` it is a decorator. Raises TypeError for what is no constraint.
        """
        if factory is None:
            return lambda factory: self.register(constraint, factory)
        kind = constraint if isinstance(constraint, type) else type(constraint)
        if not issubclass(kind, constraints.Constraint):
            raise TypeError(f"register takes a constraint or a class of them, got {constraint!r}")
        self._factories[kind] = factory
        return factory

    def __call__(self, constraint: Any) -> transforms.Transform:
        factory = self._factories.get(type(constraint))
        if factory is None:
            raise NotImplementedError(
                f"no transform onto {constraint!r} is known; add one with register(constraint, "
                "factory)"
            )
        return factory(constraint)


def _onto_interval(c: Any) -> transforms.Transform:
    low, high = c.lower_bound, c.upper_bound
    if all(isinstance(b, (int, float)) for b in (low, high)) and (low, high) == (0, 1):
        return transforms.SigmoidTransform()
    parts = [transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)]
    return transforms.ComposeTransform(parts)


def _from_exp(bound: Any, sign: int) -> transforms.Transform:
    if isinstance(bound, (int, float)) and bound == 0 and sign == 1:
        return transforms.ExpTransform()
    parts = [transforms.ExpTransform(), transforms.AffineTransform(bound, sign)]
    return transforms.ComposeTransform(parts)


def _of_parts(registry: ConstraintRegistry) -> dict[Any, Factory]:
    """Constraints made of others: the same of the others' transforms."""
    return {
        constraints.independent: lambda c: transforms.IndependentTransform(
            registry(c.base_constraint), c.reinterpreted_batch_ndims
        ),
        constraints.cat: lambda c: transforms.CatTransform(
            [registry(each) for each in c.cseq], c.dim, c.lengths
        ),
        constraints.stack: lambda c: transforms.StackTransform(
            [registry(each) for each in c.cseq], c.dim
        ),
    }


biject_to = ConstraintRegistry()
transform_to = ConstraintRegistry()

_BOTH: dict[Any, Factory] = {
    constraints.real: lambda c: transforms.identity_transform,
    constraints.greater_than: lambda c: _from_exp(c.lower_bound, 1),
    constraints.greater_than_eq: lambda c: _from_exp(c.lower_bound, 1),
    constraints.less_than: lambda c: _from_exp(c.upper_bound, -1),
    constraints.interval: _onto_interval,
    constraints.half_open_interval: _onto_interval,
    constraints.corr_cholesky: lambda c: transforms.CorrCholeskyTransform(),
}
_BIJECTIVE: dict[Any, Factory] = {
    constraints.simplex: lambda c: transforms.StickBreakingTransform(),
}
_ANY: dict[Any, Factory] = {
    constraints.simplex: lambda c: transforms.SoftmaxTransform(),
    constraints.lower_cholesky: lambda c: transforms.LowerCholeskyTransform(),
    constraints.positive_definite: lambda c: transforms.PositiveDefiniteTransform(),
    constraints.positive_semidefinite: lambda c: transforms.PositiveDefiniteTransform(),
}
for registry, own in ((biject_to, _BIJECTIVE), (transform_to, _ANY)):
    for constraint, factory in {**_BOTH, **own, **_of_parts(registry)}.items():
        registry.register(constraint, factory)
