"""Sorting and what needs it. The order (`argsort`, `argselect`) is stable; values are gathered, so gradients flow to them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes, return_types
from adjoint.ops.elementwise import cast, functions, lerp, plain, refuse, round, where
from adjoint.ops.gather import gather
from adjoint.ops.shape import axes_of, axis_of, narrow
from adjoint.trace.handle import Tensor
from adjoint.trace.infer import common_dtype
from adjoint.trace.macro import composite
from adjoint.trace.recorder import array_of, local, record, tensor_from_array

isnan, logical_not, relu = functions["isnan"], functions["logical_not"], functions["relu"]


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions that sort an axis; equal elements keep their order.

    >>> import adjoint as torch
    >>> torch.argsort(torch.tensor([3., 1., 2.]))
    tensor([1, 2, 0])
    """
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if not shape:
        return _only(input, "argsort")
    return record("argsort", (input,), (axis, bool(descending)))


def _only(input: Tensor, name: str) -> Tensor:
    """The position of the one element of a tensor without axes."""
    refuse(name, (0, 1, 2), input)
    return record("full", (0,), ((), dtypes.int64))


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """Values in order along an axis, and where they were.

    >>> import adjoint as torch
    >>> torch.sort(torch.tensor([3., 1., 2.])).values
    tensor([1., 2., 3.])
    """
    if not input._aval.shape:
        axis_of(dim, 0)
        return return_types.sort((input.clone(), argsort(input, dim)))
    return return_types.sort(_sort(input, axis_of(dim, len(input._aval.shape)), bool(descending)))


def msort(input: Tensor) -> Tensor:
    """The values in order along the first axis: `sort(dim=0)` without the positions.

    >>> import adjoint as torch
    >>> torch.msort(torch.tensor([[3., 1.], [2., 4.]]))
    tensor([[2., 1.],
            [3., 4.]])
    """
    return sort(input, 0).values


@composite("SortBackward0")
def _sort(x: Tensor, axis: int, descending: bool) -> tuple[Tensor, Tensor]:
    order = argsort(x, axis, descending)
    return gather(x, axis, order), order


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (or smallest) along an axis, in order.

    >>> import adjoint as torch
    >>> torch.topk(torch.tensor([1, 4, 2, 3]), 2).values
    tensor([4, 3])
    """
    if input._aval.dtype.category not in (1, 2):
        raise RuntimeError(f"topk(): not implemented for {input._aval.dtype.name}; convert it with .int() or .float() first")
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    n = shape[axis] if shape else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"selected index k out of range: k = {k} for an axis of size {n}")
    if not shape:
        return return_types.topk((input.clone(), _only(input, "topk")))
    return return_types.topk(_topk(input, k, axis, bool(largest)))


@composite("TopkBackward0")
def _topk(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    order = record("argselect", (x,), (axis, largest, 0, k))
    return gather(x, axis, order), order


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest (k from 1) along an axis, and where it is. RuntimeError if there is no such element.

    >>> import adjoint as torch
    >>> torch.kthvalue(torch.tensor([30, 10, 20]), 2).values
    tensor(20)
    """
    refuse("kthvalue", (1, 2), input)
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if shape and not shape[axis]:
        raise IndexError(f"kthvalue(): Expected reduction dim {axis} to have non-zero size.")
    if not 1 <= k <= (shape[axis] if shape else 1):
        raise RuntimeError(
            f"kthvalue(): selected number k out of range for dimension {axis}: k = {k}, sizes {list(shape)}"
        )
    if not shape:
        return return_types.kthvalue((input.clone(), _only(input, "kthvalue")))
    order = record("argselect", (input,), (axis, False, k - 1, k))
    values = gather(input, axis, order)
    return return_types.kthvalue((values, order) if keepdim else (values.squeeze(axis), order.squeeze(axis)))


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along an axis (of several the smallest), and where it was last found. Each NaN is a value of its own.

    >>> import adjoint as torch
    >>> values, indices = torch.mode(torch.tensor([3, 1, 2, 1]))
    >>> values, indices
    (tensor(1), tensor(3))
    """
    refuse("mode_cpu", (0, 1, 2), input)
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if not shape:
        return return_types.mode((input.clone(), _only(input, "mode")))
    if not shape[axis]:
        raise IndexError(f"mode(): Expected reduction dim {axis} to have non-zero size, but got shape {list(shape)}")
    values, order = _mode(input, axis)
    return return_types.mode((values, order) if keepdim else (values.squeeze(axis), order.squeeze(axis)))


@composite("ModeBackward0")
def _mode(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """In order, equal elements are a run; the first that is farthest from the start of its run is the last of the longest."""
    n = x._aval.shape[axis]
    order = argsort(x.detach(), axis)
    rows = gather(x.detach(), axis, order)
    along = record("reshape", (record("iota", (), n),), (n, *(1,) * (len(x._aval.shape) - axis - 1)))
    before = gather(rows, axis, record("expand", (where(along > 0, along - 1, 0),), tuple(x._aval.shape)))
    starts = record("cummax", (where(rows != before, along, 0),), axis)
    last = record("argmax", (along - starts,), axis)
    kept = tuple(1 if d == axis else k for d, k in enumerate(x._aval.shape))
    order = gather(order, axis, record("reshape", (last,), kept))
    return gather(x, axis, order), order


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2, … occurs among non-negative integers (or the sums of their `weights`).

    Sums of float32 weights are float32, of all others float64; of complex weights the real parts count.

    >>> import adjoint as torch
    >>> torch.bincount(torch.tensor([0, 2, 2, 5]))
    tensor([1, 0, 2, 0, 0, 1])
    """
    refuse("bincount", (1,), input)
    if weights is None or not input._aval.size:
        return tensor_from_array(np.bincount(array_of(input), None, minlength))
    sums = np.bincount(array_of(input), array_of(weights).real, minlength)
    return tensor_from_array(sums, dtype=dtypes.float32 if weights._aval.dtype is dtypes.float32 else dtypes.float64)


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements fall into each of `bins` equal intervals from `min` to `max` (if they are equal: those of the data).

    RuntimeError if the ends are infinite or NaN; elements that are so fall into no interval.

    >>> import adjoint as torch
    >>> torch.histc(torch.tensor([0.1, 0.2, 0.9]), bins=2, min=0, max=1)
    tensor([2., 1.])
    """
    refuse("histc", (2,), input)
    if bins < 1:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    values = array_of(input)
    low, high = float(min), float(max)
    if low == high and values.size:
        low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 1, high + 1
    if not math.isfinite(high - low):
        raise RuntimeError(f"torch.histc: range of [{low:g}, {high:g}] is not finite; give finite min and max")
    if low > high:
        raise RuntimeError(f"torch.histc: max must be larger than min, but got min={min} and max={max}")
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
    default = local.trace.default_dtype
    together = common_dtype([x._aval if isinstance(x, Tensor) else type(x) for x in (sorted_sequence, input)], default)
    refuse("searchsorted", (1, 2), sorted_sequence, input)
    rows = sorted_sequence.detach()
    values = input.detach() if isinstance(input, Tensor) else record("full", (plain(input, "searchsorted"),), ((), together))
    _check_rows(rows, values, sorter)
    if sorter is not None:
        rows = gather(rows, -1, sorter)
    found = _search(cast(rows, together), cast(values, together), right or side == "right")
    return cast(found, dtypes.int32) if out_int32 else found


def _check_rows(rows: Tensor, values: Tensor, sorter: Tensor | None) -> None:
    have, given = tuple(rows._aval.shape), tuple(values._aval.shape)
    if not have or (len(have) > 1 and have[:-1] != given[:-1]):
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and "
            f"input value tensor must match, but we got boundaries tensor {list(have)} and input value tensor {list(given)}"
        )
    if sorter is None:
        return
    if tuple(sorter._aval.shape) != have:
        raise RuntimeError(
            f"torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor {list(have)} and "
            f"sorter tensor {list(sorter._aval.shape)}"
        )
    if sorter._aval.dtype is not dtypes.int64:
        raise RuntimeError(f"torch.searchsorted(): sorter must be a tensor of long dtype but got dtype {sorter._aval.dtype.name}")


@composite("SearchsortedBackward0")
def _search(rows: Tensor, values: Tensor, right: bool) -> Tensor:
    """Binary search of all values at once, each between two ends that meet at its place.

    An element goes before a value unless it is greater (or equal). So NaN, found or searched for, goes before; where it
    is not at the end of its row, or finite values follow the search to it, the place is PyTorch's, no better.
    """
    shape, n = tuple(values._aval.shape), rows._aval.shape[-1]
    low = record("full", (0,), (shape, dtypes.int64))
    if not n:
        return low
    flat = record("reshape", (rows,), (rows._aval.size,))
    first: Any = 0
    if len(rows._aval.shape) > 1:
        count = math.prod(shape[:-1])
        first = record("expand", (record("reshape", (record("iota", (), count) * n,), (*shape[:-1], 1)),), shape)
    high = record("full", (n,), (shape, dtypes.int64))
    for _ in range(n.bit_length()):
        middle = (low + high) >> 1
        element = record("take", (flat, where(middle < n, middle, 0) + first))
        before = logical_not(element > values if right else element >= values)
        low, high = where(before & (middle < high), middle + 1, low), where(before, high, middle)
    return low


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


INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """Values below which a share q of the elements lies: q a number or a vector of numbers in [0, 1], whose results come
    first. NaN where there is one among the elements.

    interpolation: what lies between two elements: "linear", "lower", "higher", "midpoint" or "nearest".

    >>> import adjoint as torch
    >>> torch.quantile(torch.tensor([0., 1., 2., 3.]), 0.5)
    tensor(1.5000)
    >>> torch.quantile(torch.tensor([0., 1., 2., 3.]), torch.tensor([0.1, 0.9]), interpolation="lower")
    tensor([0., 2.])
    """
    return _quantiles("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear") -> Tensor:
    """`quantile` of the elements that are not NaN; NaN where there is none.

    >>> import adjoint as torch
    >>> torch.nanquantile(torch.tensor([0., torch.nan, 1., 2.]), 0.5)
    tensor(1.)
    """
    return _quantiles("nanquantile", input, q, dim, keepdim, interpolation, True)


def _quantiles(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, passing: bool) -> Tensor:
    """Arguments tested; `passing`: over NaN."""
    shape, dtype = tuple(input._aval.shape), input._aval.dtype
    if not input._aval.size:
        raise RuntimeError(f"{name}() input tensor must be non-empty, but it has shape {list(shape)}")
    if dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype, but got {dtype.name}; convert it with .float()")
    if interpolation not in INTERPOLATIONS:
        raise RuntimeError(f"{name}() interpolation must be one of {', '.join(INTERPOLATIONS[:-1])} or {INTERPOLATIONS[-1]}, but got {interpolation}")
    if isinstance(q, Tensor):
        if len(q._aval.shape) > 1:
            raise RuntimeError(f"{name}() q must be a scalar or 1D tensor, but it has shape {list(q._aval.shape)}")
        if q._aval.dtype is not dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor, got {q._aval.dtype.name} and {dtype.name}")
        within = bool(((q >= 0) & (q <= 1)).all())
    else:
        q = float(q)
        within = 0 <= q <= 1
        q = record("full", (q,), ((), dtype))
    if not within:
        raise RuntimeError(f"{name}() q values must be in the range [0, 1]")
    axes = axes_of(dim if dim is None else axis_of(dim, len(shape)), len(shape))
    out = _quantile(input, q, axes, interpolation, passing)
    left = tuple(1 if d in axes else n for d, n in enumerate(shape) if keepdim or d not in axes)
    return record("reshape", (out,), (*q._aval.shape, *left))


@composite("QuantileBackward0")
def _quantile(x: Tensor, q: Tensor, axes: tuple[int, ...], interpolation: str, passing: bool) -> Tensor:
    """One row of results for each q. The interpolation is that of `lerp`, so that finite elements next to infinite ones
    stay themselves. `passing`: the NaN, which are the last, are not counted."""
    shape = x._aval.shape
    rest = [d for d in range(len(shape)) if d not in axes]
    n, count = math.prod(shape[a] for a in axes), math.prod(shape[d] for d in rest)
    rows = record("reshape", (record("permute", (x,), (*axes, *rest)),), (n, count))
    rows = sort(rows, 0).values
    place = record("reshape", (q,), (q._aval.size, 1)) * _last_place(rows, passing)
    if not passing:
        place = where(isnan(narrow(rows, 0, n - 1, 1)), n - 1, place)  # NaN is the largest
    rounded = _ROUNDED[interpolation](place)
    low = gather(rows, 0, cast(rounded, dtypes.int64))
    if interpolation not in ("linear", "midpoint"):
        return low
    high = gather(rows, 0, cast(functions["ceil"](place), dtypes.int64))
    return lerp(low, high, place - rounded if interpolation == "linear" else 0.5)


def _last_place(rows: Tensor, passing: bool) -> Any:
    """The place of the largest element of each column; 0 where all are passed over."""
    if not passing:
        return rows._aval.shape[0] - 1
    counted = record("sum", (cast(logical_not(isnan(rows)), rows._aval.dtype),), (0,))
    return record("reshape", (relu(counted - 1),), (1, rows._aval.shape[1]))


_ROUNDED: dict[str, Any] = {
    "linear": functions["floor"], "midpoint": functions["floor"], "lower": functions["floor"], "higher": functions["ceil"],
    "nearest": round,
}  # fmt: skip
