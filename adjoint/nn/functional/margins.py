"""Losses with margins between classes, and the triplet loss of any distance."""

from __future__ import annotations

from collections.abc import Callable

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.activations import logsigmoid
from adjoint.nn.functional.distance import pairwise_distance
from adjoint.nn.functional.losses import _legacy_reduction, _reduced
from adjoint.ops.composite import composite
from adjoint.ops.index import position

__all__ = ["multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "triplet_margin_with_distance_loss"]


@composite("MultiMarginLossBackward0")
def _multi_margin(input: Tensor, target: Tensor, weight: Tensor | None, p: int, margin: float, reduction: str) -> Tensor:
    rows = input if input.dim() == 2 else input.unsqueeze(0)
    right = target.reshape(-1, 1)
    excess = (margin - rows.gather(1, right) + rows).clamp(min=0) ** p
    if weight is not None:
        excess = excess * weight[right]
    other = torch.arange(rows.shape[1]) != right
    loss = torch.where(other, excess, 0).sum(1) / rows.shape[1]
    return _reduced(loss if input.dim() == 2 else loss.reshape(()), reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Sum over the wrong classes of max(0, margin - x[right] + x[wrong])^p, divided by the number of classes; p is 1 or 2.

    input (N, C) with target (N,), or (C,) with a 0-d target.

    >>> import adjoint as torch
    >>> torch.nn.functional.multi_margin_loss(torch.tensor([[0., 2.]]), torch.tensor([0]))
    tensor(1.5000)
    """
    if p not in (1, 2):
        raise ValueError(f"only p == 1 and p == 2 supported, got p={p}")
    if input.dim() not in (1, 2) or target.numel() != (input.shape[0] if input.dim() == 2 else 1):
        raise RuntimeError(f"inconsistent target size, got target {tuple(target.shape)} for input {tuple(input.shape)}")
    if weight is not None and weight.shape != input.shape[-1:]:
        raise RuntimeError(f"inconsistent weight size, expected {input.shape[-1]} but got {list(weight.shape)}")
    return _multi_margin(input, target, weight, p, margin, _legacy_reduction(size_average, reduce, reduction))


@composite("MultilabelMarginLossBackward0", (2,))
def _multilabel_margin(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    shape = input.shape
    rows, labels = input.reshape(-1, shape[-1] if shape else 1), target.reshape(-1, shape[-1] if shape else 1)
    counts = (labels == -1).cumsum(1) == 0  # up to the first -1
    places = position(torch.where(counts, labels, 0), rows.shape[1], False, 0)
    right = torch.zeros_like(labels).scatter_add(1, places, counts.to(labels.dtype)) > 0
    chosen = torch.where(counts, rows.gather(1, places), 0.0).unsqueeze(2)
    excess = (1 - chosen + rows.unsqueeze(1)).clamp(min=0)  # (rows, labels, classes)
    pairs = counts.unsqueeze(2) & ~right.unsqueeze(1)
    loss = torch.where(pairs, excess, 0.0).sum((1, 2)) / rows.shape[1]
    if reduction == "mean" and not rows.shape[0]:
        return loss.sum()
    return _reduced(loss if len(shape) == 2 else loss.reshape(()), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Sum over right classes i and wrong ones j of max(0, 1 - x[i] + x[j]), divided by the number of classes.

    input (N, C) or (C,). target, int64 of the same shape: the right classes of each row, ended by the first -1.  RuntimeError for other
    shapes and dtypes; IndexError, when the value is needed, for classes that are not there.

    >>> import adjoint as torch
    >>> torch.nn.functional.multilabel_margin_loss(torch.tensor([[0.1, 0.2, 0.4, 0.8]]), torch.tensor([[3, 0, -1, 1]]))
    tensor(0.8500)
    """
    if input.dim() > 2 or (input.dim() and not input.shape[-1]):
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")
    if target.shape != input.shape and not (input.dim() < 2 and target.numel() == input.numel()):
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    if target.dtype is not torch.int64:
        raise RuntimeError(f"multilabel_margin_loss: expected a target of dtype int64, the numbers of classes, but found {target.dtype}")
    return _multilabel_margin(input, target, _legacy_reduction(size_average, reduce, reduction))


@composite("MeanBackward1")
def _multilabel(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    return _reduced(loss.mean(-1), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of the logistic loss of each; targets are 0 or 1, shapes (N, C) or (C,).

    >>> import adjoint as torch
    >>> torch.nn.functional.multilabel_soft_margin_loss(torch.zeros(1, 2), torch.tensor([[0., 1.]]))
    tensor(0.6931)
    """
    return _multilabel(input, target, weight, _legacy_reduction(size_average, reduce, reduction))


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + d(a, p) - d(a, n)) for any distance d (Euclidean if none is given); `swap` also considers d(p, n).

    >>> import adjoint as torch
    >>> far = lambda x, y: (x - y).abs().sum(-1)
    >>> a, n = torch.zeros(1, 2), torch.tensor([[0.25, 0.25]])
    >>> torch.nn.functional.triplet_margin_with_distance_loss(a, a, n, distance_function=far)
    tensor(0.5000)
    """
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = torch.minimum(far, distance(positive, negative))
    return _reduced((margin + near - far).clamp(min=0), reduction)
