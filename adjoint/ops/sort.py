"""Sorting and what needs it. The order (`argsort`, `argselect`) is stable; values are gathered, so gradients flow to them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from adjoint import dtypes
from adjoint.ops.elementwise import cast, functions, refuse, where
from adjoint.ops.gather import gather
from adjoint.ops.shape import axis_of, narrow
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import array_of, record, tensor_from_array

isnan, logical_not = functions["isnan"], functions["logical_not"]


class Sorted(NamedTuple):
    values: Tensor
    indices: Tensor


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions that sort an axis; equal elements keep their order.

    >>> import adjoint as torch
    >>> torch.argsort(torch.tensor([3., 1., 2.]))
    tensor([1, 2, 0])
    """
    shape = input._aval.shape
    if not shape:
        return record("full", (0,), ((), _int64()))
    return record("argsort", (input,), (axis_of(dim, len(shape)), bool(descending)))


def _int64() -> Any:

    return dtypes.int64


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Sorted:
    """Values in order along an axis, and where they were.

    >>> import adjoint as torch
    >>> torch.sort(torch.tensor([3., 1., 2.])).values
    tensor([1., 2., 3.])
    """
    if not input._aval.shape:
        axis_of(dim, 0)
        return Sorted(input.clone(), argsort(input, dim))
    return Sorted(*_sort(input, axis_of(dim, len(input._aval.shape)), bool(descending)))


@composite("SortBackward0")
def _sort(x: Tensor, axis: int, descending: bool) -> tuple[Tensor, Tensor]:
    order = argsort(x, axis, descending)
    return gather(x, axis, order), order


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sorted:
    """The k largest (or smallest) along an axis, in order.

    >>> import adjoint as torch
    >>> torch.topk(torch.tensor([1, 4, 2, 3]), 2).values
    tensor([4, 3])
    """
    if input._aval.dtype.category not in (1, 2):
        raise RuntimeError(f"topk(): not implemented for {input._aval.dtype.name}; convert it with .int() or .float() first")
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if not shape:
        return Sorted(input.clone(), record("full", (0,), ((), _int64())))
    if not 0 <= k <= shape[axis]:
        raise RuntimeError(f"selected index k out of range: k = {k} for an axis of size {shape[axis]}")
    return Sorted(*_topk(input, k, axis, bool(largest)))


@composite("TopkBackward0")
def _topk(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    order = record("argselect", (x,), (axis, largest, 0, k))
    return gather(x, axis, order), order


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Sorted:
    """The k-th smallest (k from 1) along an axis, and where it is. RuntimeError if there is no such element.

    >>> import adjoint as torch
    >>> torch.kthvalue(torch.tensor([30, 10, 20]), 2).values
    tensor(20)
    """
    refuse("kthvalue", (1, 2), input)
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if not 1 <= k <= (shape[axis] if shape else 1):
        raise RuntimeError(
            f"kthvalue(): selected number k out of range for dimension {axis}: k = {k}, sizes {list(shape)}"
        )
    if not shape:
        return Sorted(input.clone(), record("full", (0,), ((), _int64())))
    order = record("argselect", (input,), (axis, False, k - 1, k))
    values = gather(input, axis, order)
    return Sorted(values, order) if keepdim else Sorted(values.squeeze(axis), order.squeeze(axis))


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, … occurs among non-negative integers (or the sums of their `weights`).

    >>> import adjoint as torch
    >>> torch.bincount(torch.tensor([0, 2, 2, 5]))
    tensor([1, 0, 2, 0, 0, 1])
    """
    refuse("bincount", (1,), input)
    w = None if weights is None else array_of(weights)
    return tensor_from_array(np.bincount(array_of(input), w, minlength))


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals from `min` to `max` (0 and 0: those of the data).

    >>> import adjoint as torch
    >>> torch.histc(torch.tensor([0.1, 0.2, 0.9]), bins=2, min=0, max=1)
    tensor([2., 1.])
    """
    refuse("histc", (2,), input)
    if bins < 1:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    values = array_of(input)
    low, high = (float(values.min()), float(values.max())) if min == max == 0 else (min, max)
    if low == high:
        low, high = low - 1, high + 1
    counts, _ = np.histogram(values, bins, (low, high))
    return tensor_from_array(counts, dtype=input._aval.dtype)


def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Tensor | None = None
) -> Tensor:
    """Where values would be inserted in sorted rows to keep them sorted.

    A vector is searched for all values, rows each for the values of the same row. side: "left" before equal elements, or
    "right". sorter: what sorts rows that are not sorted yet, as `argsort` gives it.

    >>> import adjoint as torch
    >>> torch.searchsorted(torch.tensor([1, 3, 5]), torch.tensor([3, 4]))
    tensor([1, 2])
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
    way: Any = "right" if right or side == "right" else "left"
    if sorter is None and isinstance(input, Tensor) and _searches_natively(sorted_sequence._aval, input._aval):
        found = _search(sorted_sequence.detach(), input.detach(), way == "right")
        return cast(found, dtypes.int32) if out_int32 else found
    rows = array_of(sorted_sequence)
    if sorter is not None:
        rows = np.take_along_axis(rows, array_of(sorter), -1)
    values = array_of(input) if isinstance(input, Tensor) else np.asarray(input)
    kind = np.int32 if out_int32 else np.int64
    if rows.ndim == 1:
        return tensor_from_array(np.asarray(np.searchsorted(rows, values, way)).astype(kind))
    if rows.shape[:-1] != values.shape[:-1]:
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
            f"input value tensor must match, but we got boundaries tensor {list(rows.shape)} and input value tensor {list(values.shape)}"
        )
    flat = rows.reshape(-1, rows.shape[-1])
    found = [np.searchsorted(r, v, way) for r, v in zip(flat, values.reshape(len(flat), values.shape[-1]), strict=True)]
    return tensor_from_array(np.array(found, dtype=kind).reshape(values.shape))


def _searches_natively(rows: Any, values: Any) -> bool:
    same = rows.dtype is values.dtype and rows.dtype.category in (1, 2)
    return same and (len(rows.shape) == 1 or rows.shape[:-1] == values.shape[:-1])


@composite("SearchsortedBackward0")
def _search(rows: Tensor, values: Tensor, right: bool) -> Tensor:
    """Binary search of all values at once: how many elements come before each, from the highest bit of that number on."""
    shape, n = tuple(values._aval.shape), rows._aval.shape[-1]
    flat = record("reshape", (rows,), (rows._aval.size,))
    first: Any = 0
    if len(rows._aval.shape) > 1:
        count = math.prod(shape[:-1])
        first = record("expand", (record("reshape", (record("iota", (), count) * n,), (*shape[:-1], 1)),), shape)
    real = values._aval.dtype.is_floating_point
    found = record("full", (0,), (shape, dtypes.int64))
    for bit in reversed(range(n.bit_length())):
        more = found + (1 << bit)
        exists = more <= n
        element = record("take", (flat, where(exists, more - 1, 0) + first))
        before = element <= values if right else element < values
        if real:  # NaN is the largest
            before = before | (isnan(values) if right else isnan(values) & logical_not(isnan(element)))
        found = where(exists & before, more, found)
    return found


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the interval between sorted boundaries in which each value lies; one on a boundary belongs to the
    interval before it, or with `right` to the one after it.

    >>> import adjoint as torch
    >>> torch.bucketize(torch.tensor([0, 3, 9]), torch.tensor([1, 3, 5]))
    tensor([0, 1, 3])
    """
    if len(boundaries._aval.shape) != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({len(boundaries._aval.shape)})")
    return searchsorted(boundaries, input, right=right, out_int32=out_int32)


def quantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """Linear interpolation between order statistics; q a number or a vector of numbers in [0, 1].

    >>> import adjoint as torch
    >>> torch.quantile(torch.tensor([0., 1., 2., 3.]), 0.5)
    tensor(1.5000)
    """
    x = input if dim is not None else input.reshape(-1)
    axis = axis_of(0 if dim is None else dim, len(x._aval.shape))
    values = sort(x, axis).values
    n = x._aval.shape[axis]
    points = [q] if isinstance(q, (int, float)) else q.tolist() if isinstance(q, Tensor) and q.dim() else [float(q)]
    out = []
    for p in points:
        if not 0 <= p <= 1:
            raise RuntimeError("quantile() q values must be in the range [0, 1]")
        place = p * (n - 1)
        low = int(place)
        high = low + 1 if low + 1 < n else low
        a, b = narrow(values, axis, low, 1), narrow(values, axis, high, 1)
        got = a + (b - a) * (place - low)
        out.append(got if keepdim else got.squeeze(axis))
    if isinstance(q, Tensor) and q.dim():
        from adjoint.ops.joining import stack

        return stack(out, 0)
    return out[0]
