"""Losses of scores that a linear layer makes: `linear_cross_entropy`."""

from __future__ import annotations

import math
from typing import Any

from adjoint.methods import Tensor
from adjoint.nn.functional.linear import linear
from adjoint.nn.functional.losses import cross_entropy

__all__ = ["linear_cross_entropy"]


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy(linear(input, linear_weight, linear_bias), target)`, with the other arguments those of `cross_entropy`.

    input: (in,) or (N, in).  linear_weight: (C, in), or (C, d1, ..., in) for scores (N, C, d1, ...).  linear_bias: as
    linear_weight without `in`.  target: classes (N, d1, ...), or probabilities (N, C, d1, ...).  ignore_index: -100 for
    classes unless given.  options: how PyTorch would compute it in pieces; the result is the same, and they change nothing.

    Raises RuntimeError for shapes that do not fit, and for an `ignore_index` beside probabilities.

    >>> import adjoint as torch
    >>> x, w = torch.ones(2, 5), torch.zeros(4, 5)
    >>> torch.nn.functional.linear_cross_entropy(x, w, torch.tensor([0, 3]))
    tensor(1.3863)
    """
    name = "linear_cross_entropy()"
    if input.dim() not in (1, 2):
        raise RuntimeError(f"{name}: expected input with dimensionality 1 or 2, got {input.dim()}: shape {list(input.shape)}")
    if linear_weight.dim() < 2:
        raise RuntimeError(f"{name}: expected linear_weight of shape (C, in_features) or (C, d1, ..., in_features), got {list(linear_weight.shape)}")
    *rows, width = linear_weight.shape
    if input.shape[-1] != width:
        raise RuntimeError(
            f"{name}: expected equal input and linear_weight last dimensions (in_features), got {input.shape[-1]} and {width}, respectively"
        )
    if len(rows) > 1 and input.dim() == 1:
        raise RuntimeError(
            f"{name}: K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, (N, {width}), "
            f"got unbatched input with shape {tuple(input.shape)}"
        )
    if linear_bias is not None and tuple(linear_bias.shape) != tuple(rows):
        raise RuntimeError(f"{name}: expected linear_bias shape {tuple(rows)}, got {tuple(linear_bias.shape)}")
    if target.is_floating_point() and ignore_index is not None:
        raise RuntimeError(f"{name}: ignore_index cannot be specified when target contains probabilities")
    count = math.prod(rows)
    scores = linear(input, linear_weight.reshape(count, width), None if linear_bias is None else linear_bias.reshape(count))
    if len(rows) > 1:
        scores = scores.reshape(-1, *rows)
    return cross_entropy(
        scores, target, weight, ignore_index=-100 if ignore_index is None else ignore_index, reduction=reduction, label_smoothing=label_smoothing
    )
