"""Histograms with edges: how many numbers, or points, lie in the intervals between them. They read values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjoint import return_types
from adjoint.ops.elementwise import refuse
from adjoint.trace.arguments import shown
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import array_of, tensor_from_array


def histogram(
    input: Tensor,
    bins: int | Tensor = 100,
    *,
    range: tuple[float, float] | None = None,  # noqa: A002
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """How many elements lie in each interval, `hist`, and the edges of the intervals, `bin_edges`, one more.

    bins: a number of equal intervals, from the least to the largest element or as `range` says, or the edges, increasing, of the
    dtype of the input. An element on an edge belongs to the interval above, on the last one to the last interval; others, and NaN,
    to none. weight: what each element counts, in the shape of input. density: divided by the total and the widths, so that the
    integral is 1. Nothing is differentiated. RuntimeError for bins, ranges and weights that do not fit, NotImplementedError for
    numbers that are not floating.

    >>> import adjoint as torch
    >>> torch.histogram(torch.tensor([0., 0.5, 1., 3.]), 3)
    torch.return_types.histogram(
    hist=tensor([2., 1., 1.]),
    bin_edges=tensor([0., 1., 2., 3.]))
    """
    _check_kinds("histogram", [bins], range)
    if isinstance(bins, Tensor) and range is not None:
        raise TypeError("histogram(): edges given by 'bins' and a 'range' exclude each other; leave range out")
    points = array_of(input.detach()).reshape(-1, 1)
    if weight is not None and weight._aval.shape != input._aval.shape:
        raise RuntimeError(f"torch.histogram: weight of shape {list(weight._aval.shape)} for input of shape {list(input._aval.shape)}: they should have the same shape")
    hist, edges = _counted("histogram", input, points, [bins], range, weight, density)
    return return_types.histogram((hist, edges[0]))


def histogramdd(
    input: Tensor,
    bins: int | Sequence[int] | Sequence[Tensor],
    *,
    range: Sequence[float] | None = None,  # noqa: A002
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """How many points lie in each box: `hist`, with an axis for each coordinate, and `bin_edges`, a tuple of the edges along each.

    input: (*, d), points of d coordinates.  bins: for every coordinate what `histogram` takes, or one number for all.  range: the
    first and the last edge of each coordinate, 2 d numbers.  weight: (*), what each point counts.  density: divided by the total
    and the volumes. Raises what `histogram` raises.

    >>> import adjoint as torch
    >>> torch.histogramdd(torch.tensor([[0., 1.], [1., 0.], [1., 1.]]), bins=[2, 2]).hist
    tensor([[0., 1.],
            [1., 1.]])
    """
    shape = input._aval.shape
    _check_kinds("histogramdd", bins if isinstance(bins, (list, tuple)) else [bins], range)
    if len(shape) < 2:
        raise RuntimeError(f"torch.histogramdd: input tensor should have at least 2 dimensions, but has shape {list(shape)}: one row for each point")
    each = [bins] * shape[-1] if isinstance(bins, int) else list(bins)
    if len(each) != shape[-1]:
        raise RuntimeError(f"histogramdd: The size of bins must be equal to the innermost dimension of the input, but got {len(each)} for shape {list(shape)}")
    if weight is not None and weight._aval.shape != shape[:-1]:
        raise RuntimeError(
            f"torch.histogramdd: if weight tensor is provided it should have the same shape as the input tensor excluding its innermost "
            f"dimension, but got input with shape {list(shape)} and weight with shape {list(weight._aval.shape)}"
        )
    points = array_of(input.detach()).reshape(math.prod(shape[:-1]), shape[-1])
    hist, edges = _counted("histogramdd", input, points, each, range, weight, density)
    return return_types.histogramdd((hist, tuple(edges)))


def _check_kinds(name: str, bins: Sequence[Any], ends: Any) -> None:
    for b in bins:
        if not isinstance(b, (int, Tensor)):
            raise TypeError(f"{name}(): argument 'bins' (position 2) must be int or Tensor{', or several' * (name[-1] == 'd')}, not {shown(b)}")
    if ends is not None and not (isinstance(ends, (list, tuple)) and all(isinstance(e, (int, float)) for e in ends)):
        raise TypeError(f"{name}(): argument 'range' must be tuple of floats, not {shown(ends)}")


def _counted(
    name: str, input: Tensor, points: np.ndarray, bins: list[Any], ends: Any, weight: Tensor | None, density: bool
) -> tuple[Tensor, list[Tensor]]:
    refuse("histogramdd", (2,), input)
    dtype = input._aval.dtype
    if ends is not None and len(ends) != 2 * len(bins):
        raise RuntimeError(f"torch.{name}: for a {len(bins)}-dimensional histogram range should have {2 * len(bins)} elements, but got {len(ends)}")
    if weight is not None and weight._aval.dtype is not dtype:
        raise RuntimeError(f"torch.{name}: input tensor and weight tensor should have the same dtype, but got {dtype.name} and {weight._aval.dtype.name}")
    edges, place, inside = [], np.zeros(len(points), np.int64), np.ones(len(points), bool)
    for k, b in enumerate(bins):
        column = points[:, k].astype(np.float64)
        given = None if ends is None else (float(ends[2 * k]), float(ends[2 * k + 1]))
        edges.append(_given_edges(name, k, b, input) if isinstance(b, Tensor) else tensor_from_array(_equal_edges(name, k, b, column, given), dtype=dtype))
        found = array_of(edges[k]).astype(np.float64)
        at = np.searchsorted(found, column, "right") - 1
        at[column == found[-1]] = len(found) - 2
        inside &= (column >= found[0]) & (column <= found[-1])
        place = place * (len(found) - 1) + at
    sizes = [e._aval.size - 1 for e in edges]
    weights = None if weight is None else array_of(weight.detach()).reshape(-1)[inside].astype(np.float64)
    hist = np.bincount(place[inside], weights, math.prod(sizes)).reshape(sizes).astype(np.float64)
    if density:
        widths = [np.diff(array_of(e).astype(np.float64)) for e in edges]
        volumes = np.prod(np.stack(np.meshgrid(*widths, indexing="ij")), 0)
        with np.errstate(invalid="ignore"):
            hist = hist / hist.sum() / volumes
    return tensor_from_array(hist, dtype=dtype), edges


def _given_edges(name: str, k: int, edges: Tensor, input: Tensor) -> Tensor:
    if len(edges._aval.shape) != 1:
        raise RuntimeError(f"torch.{name}: bins tensor should have one dimension, but got shape {list(edges._aval.shape)} for dimension {k}")
    if edges._aval.dtype is not input._aval.dtype:
        raise RuntimeError(
            f"torch.{name}: input tensor and bins tensors should have the same dtype, but got input with dtype {input._aval.dtype.name} and bins "
            f"for dimension {k} with dtype {edges._aval.dtype.name}"
        )
    if edges._aval.size < 2:
        raise RuntimeError(f"torch.{name}(): bins must be > 0, but got {edges._aval.size - 1} for dimension {k}: edges are one more")
    return edges.detach().clone()


def _equal_edges(name: str, k: int, bins: int, column: np.ndarray, ends: tuple[float, float] | None) -> np.ndarray:
    if bins < 1:
        raise RuntimeError(f"torch.{name}(): bins must be > 0, but got {bins} for dimension {k}")
    low, high = ends or ((float(column.min()), float(column.max())) if column.size else (0.0, 1.0))
    if not math.isfinite(high - low):
        raise RuntimeError(f"torch.{name}: dimension {k}'s range [{low:g}, {high:g}] is not finite: give range= for data with NaN or infinite numbers")
    if low > high:
        raise RuntimeError(f"torch.{name}: min should not exceed max, but got min {low:g} max {high:g} for dimension {k}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)
