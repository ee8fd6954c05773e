"""Transforms of random variables under PyTorch's names: functions with inverse and log-determinant.

`transform.py` has the protocol (read it first), `composed.py` what is made of other transforms,
`pointwise.py` functions of numbers, `arrays.py` maps onto simplices and matrices, `parts.py` one
transform for each part of a tensor.
"""

from __future__ import annotations

from adjoint.distributions.transforms.arrays import (
    CorrCholeskyTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    ReshapeTransform,
    SoftmaxTransform,
    StickBreakingTransform,
)
from adjoint.distributions.transforms.composed import (
    ComposeTransform,
    IndependentTransform,
    identity_transform,
)
from adjoint.distributions.transforms.parts import CatTransform, StackTransform
from adjoint.distributions.transforms.pointwise import (
    AbsTransform,
    AffineTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    PowerTransform,
    SigmoidTransform,
    SoftplusTransform,
    TanhTransform,
)
from adjoint.distributions.transforms.transform import Transform, _InverseTransform

__all__ = [
    "_InverseTransform",
    "AbsTransform",
    "AffineTransform",
    "CatTransform",
    "ComposeTransform",
    "CorrCholeskyTransform",
    "CumulativeDistributionTransform",
    "ExpTransform",
    "IndependentTransform",
    "LowerCholeskyTransform",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "TanhTransform",
    "Transform",
    "identity_transform",
]
