"""Which values a parameter or a sample may take, under PyTorch's names.

`scalars.py` has the protocol and the constraints on numbers (read it first), `arrays.py` those on
vectors and matrices, `combined.py` those made of others.
"""

from __future__ import annotations

from adjoint.distributions.constraints.arrays import (
    CountVector,
    _CorrCholesky,
    _LowerCholesky,
    _LowerTriangular,
    _OneHot,
    _PositiveDefinite,
    _PositiveSemidefinite,
    _Simplex,
    _Square,
    _Symmetric,
    corr_cholesky,
    lower_cholesky,
    lower_triangular,
    one_hot,
    positive_definite,
    positive_semidefinite,
    simplex,
    square,
    symmetric,
)
from adjoint.distributions.constraints.combined import (
    Cat,
    IndependentConstraint,
    MixtureSameFamilyConstraint,
    Stack,
)
from adjoint.distributions.constraints.scalars import (
    Constraint,
    GreaterThan,
    GreaterThanEq,
    HalfOpenInterval,
    IntegerGreaterThan,
    IntegerInterval,
    Interval,
    LessThan,
    _Boolean,
    _Dependent,
    _Real,
    boolean,
    dependent,
    dependent_property,
    is_dependent,
    real,
)

positive = GreaterThan(0.0)
nonnegative = GreaterThanEq(0.0)
nonnegative_integer = IntegerGreaterThan(0)
positive_integer = IntegerGreaterThan(1)
unit_interval = Interval(0.0, 1.0)
real_vector = IndependentConstraint(real, 1)

# Those with arguments are called under these names.
interval = Interval
half_open_interval = HalfOpenInterval
integer_interval = IntegerInterval
greater_than = GreaterThan
greater_than_eq = GreaterThanEq
less_than = LessThan
multinomial = CountVector
independent = IndependentConstraint
cat = Cat
stack = Stack

# And by PyTorch's names for the classes their transforms are registered.
_GreaterThan, _GreaterThanEq, _LessThan = GreaterThan, GreaterThanEq, LessThan
_Interval, _HalfOpenInterval, _IntegerInterval, _IntegerGreaterThan = Interval, HalfOpenInterval, IntegerInterval, IntegerGreaterThan
_Multinomial, _IndependentConstraint, _Cat, _Stack, _DependentProperty = CountVector, IndependentConstraint, Cat, Stack, dependent_property

__all__ = [
    "_Boolean",
    "_CorrCholesky",
    "_Dependent",
    "_LowerCholesky",
    "_LowerTriangular",
    "_OneHot",
    "_PositiveDefinite",
    "_PositiveSemidefinite",
    "_Real",
    "_Simplex",
    "_Square",
    "_Symmetric",
    "Constraint",
    "MixtureSameFamilyConstraint",
    "boolean",
    "cat",
    "corr_cholesky",
    "dependent",
    "dependent_property",
    "greater_than",
    "greater_than_eq",
    "half_open_interval",
    "independent",
    "integer_interval",
    "interval",
    "is_dependent",
    "less_than",
    "lower_cholesky",
    "lower_triangular",
    "multinomial",
    "nonnegative",
    "nonnegative_integer",
    "one_hot",
    "positive",
    "positive_definite",
    "positive_integer",
    "positive_semidefinite",
    "real",
    "real_vector",
    "simplex",
    "square",
    "stack",
    "symmetric",
    "unit_interval",
]
