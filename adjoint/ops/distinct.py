"""Distinct elements, `unique`, and runs of equal ones, `unique_consecutive`. How many there are is known only by looking, so
each call ends the trace.

Elements get a *slot* each, the number of their value among the distinct ones, in one program whose shapes depend on the
operand's alone; what a slot holds is written at its place, and the slots that were not used are cut off afterwards.
Whole numbers within a range not much wider than their number are counted; all others are sorted. Read `unique`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.elementwise import cast, refuse, where
from adjoint.ops.gather import index_select
from adjoint.ops.reduce import amax, amin, any, cumsum
from adjoint.ops.shape import axis_of, movedim, narrow
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import array_of, record, tensor_from_array

_FEWEST_BINS = 1 << 10
_BINS_PER_ELEMENT = 2  # a wider range is sorted


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct values in order; their number is known only by looking. Each NaN is a value of its own.

    return_inverse: also where each element is among them, in the operand's shape.  return_counts: also how often each
    occurs.  dim: the distinct slices along an axis instead, in the order of their first elements that differ.

    >>> import adjoint as torch
    >>> torch.unique(torch.tensor([3, 1, 3]))
    tensor([1, 3])
    >>> torch.unique(torch.tensor([3, 1, 3]), return_inverse=True, return_counts=True)
    (tensor([1, 3]), tensor([1, 0, 1]), tensor([1, 2]))
    >>> torch.unique(torch.tensor([[2, 1], [1, 3], [2, 1]]), dim=0)
    tensor([[1, 3],
            [2, 1]])
    """
    refuse("unique", (0, 1, 2), input)
    if dim is not None:
        return _unique_slices(input, dim, return_inverse, return_counts)
    x = record("reshape", (input.detach(),), (input._aval.size,))
    bins = _bins(x)
    used, values, slots, counts = _by_counting(x, *bins) if bins else _by_sorting(x)
    if not return_inverse:
        slots = None
    if not return_counts:
        counts = None
    kept = int(array_of(used))  # here everything is computed that is still referred to
    out = [_first(values, kept)]
    if slots is not None:
        out.append(record("reshape", (slots,), tuple(input._aval.shape)))
    if counts is not None:
        out.append(_first(counts, kept))
    return out[0] if len(out) == 1 else tuple(out)


def _unique_slices(input: Tensor, dim: int, return_inverse: bool, return_counts: bool) -> Any:
    """Slices as rows, put in order by NumPy; then equal ones are neighbours."""
    shape = tuple(input._aval.shape)
    axis = axis_of(dim, len(shape))
    if not shape:
        raise IndexError(f"unique(): dimension specified as {dim} but tensor has no dimensions; leave dim out")
    slices = movedim(input.detach(), axis, 0)
    n = shape[axis]
    if not input._aval.size and (n or shape.count(0) > 1):
        raise RuntimeError(f"There are 0 sized dimensions, and they aren't selected, so unique cannot be applied: shape {list(shape)}, dim {dim}")
    rows = record("reshape", (slices,), (n, input._aval.size // n if n else 0))
    wide = cast(rows, dtypes.float32) if rows._aval.dtype.is_half else rows
    order = tensor_from_array(np.lexsort(array_of(wide).T[::-1]) if n else np.zeros(0, np.int64))
    used, firsts, slots, counts = _by_runs(index_select(rows, 0, order))
    inverse = record("put", (record("full", (0,), ((n,), dtypes.int64)), order, slots))
    kept = int(array_of(used))
    out = [movedim(index_select(slices, 0, index_select(order, 0, _first(firsts, kept))), 0, axis)]
    if return_inverse:
        out.append(inverse)
    if return_counts:
        out.append(_first(counts, kept))
    return out[0] if len(out) == 1 else tuple(out)


def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """One of each run of equal neighbours: elements of the flattened tensor, or slices along `dim`. NaN equals nothing.

    return_inverse: also in which run each element (slice) is.  return_counts: also how long each run is.

    >>> import adjoint as torch
    >>> torch.unique_consecutive(torch.tensor([1, 1, 2, 2, 1]))
    tensor([1, 2, 1])
    >>> torch.unique_consecutive(torch.tensor([[1, 1, 2], [3, 3, 4]]), dim=1)
    tensor([[1, 2],
            [3, 4]])
    """
    refuse("unique_consecutive", (0, 1, 2), input)
    shape = tuple(input._aval.shape)
    axis = 0 if dim is None else axis_of(dim, len(shape))
    whole = dim is None or not shape
    rows = record("reshape", (input.detach(),), (input._aval.size,)) if whole else movedim(input.detach(), axis, 0)
    n = rows._aval.shape[0]
    used, firsts, slots, counts = _by_runs(record("reshape", (rows,), (n, rows._aval.size // n if n else 0)))
    if not return_inverse:
        slots = None
    if not return_counts:
        counts = None
    kept = int(array_of(used))
    out = [movedim(index_select(rows, 0, _first(firsts, kept)), 0, axis)]
    if slots is not None:
        out.append(record("reshape", (slots,), shape) if whole else slots)
    if counts is not None:
        out.append(_first(counts, kept))
    return out[0] if len(out) == 1 else tuple(out)


def _first(x: Tensor, count: int) -> Tensor:
    return tensor_from_array(array_of(x)[:count], dtype=x._aval.dtype)


def _bins(x: Tensor) -> tuple[Tensor, int] | None:
    """The least of whole numbers and a power of two above their range, if that is not much wider than their number."""
    n, dtype = x._aval.size, x._aval.dtype
    if not n or dtype.is_floating_point:
        return None
    least, most = amin(x), amax(x)
    bins = max(_FEWEST_BINS, 1 << (int(array_of(most)) - int(array_of(least))).bit_length())
    return (least, bins) if bins <= max(_FEWEST_BINS, _BINS_PER_ELEMENT * n) else None


@composite("UniqueBackward0")
def _by_counting(x: Tensor, least: Tensor, bins: int) -> Any:
    """For elements from `least` to less than `bins` above it: how many slots are used; the value of each slot; the slot of
    each element; and how many elements each slot has."""
    first = cast(least, dtypes.int64)
    bin_of = cast(x, dtypes.int64) - first
    found = record("put_add", (bin_of, record("full", (1,), ((x._aval.size,), dtypes.int64))), bins)
    occurs = found > 0
    slots = cumsum(occurs, 0)
    place = where(occurs, slots - 1, bins)
    values = cast(record("iota", (), bins) + first, x._aval.dtype)
    return _last(slots), _kept(values, place), record("take", (slots - 1, bin_of)), _kept(found, place)


@composite("UniqueBackward0")
def _by_sorting(x: Tensor) -> Any:
    """The same by sorting."""
    n = x._aval.size
    order = record("argsort", (x,), (0, False))
    ordered = record("take", (x, order))
    used, place, slots, counts = _runs(_differ(ordered), n)
    inverse = record("put", (record("full", (0,), ((n,), dtypes.int64)), order, slots))
    return used, _kept(ordered, place), inverse, counts


@composite("UniqueConsecutiveBackward0")
def _by_runs(rows: Tensor) -> Any:
    """The same for runs of equal rows, with the first position of each run as its value."""
    n = rows._aval.shape[0]
    used, place, slots, counts = _runs(any(_differ(rows), 1), n)
    return used, _kept(record("iota", (), n), place), slots, counts


def _differ(x: Tensor) -> Tensor:
    """Whether elements (or rows) differ from the one before, from the second on."""
    n = x._aval.shape[0]
    return narrow(x, 0, 0, n - 1) != narrow(x, 0, 1, n - 1) if n else x != x


def _runs(differs: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of n elements, by where they differ: how many runs there are; for the first of each run the run, for others n; the
    run of each element; and how long each run is."""
    if not n:
        nothing = cast(differs, dtypes.int64)
        return record("full", (0,), ((), dtypes.int64)), nothing, nothing, nothing
    begins = record("cat", (record("full", (True,), ((1,), dtypes.bool)), differs), 0)
    slots = cumsum(begins, 0)
    place = where(begins, slots - 1, n)
    starts = _kept(record("iota", (), n), place, n)
    return _last(slots), place, slots - 1, narrow(starts, 0, 1, n) - narrow(starts, 0, 0, n)


def _kept(values: Tensor, place: Tensor, rest: int = 0) -> Tensor:
    """Each value at its place, `rest` where there is none; what is not kept is put behind all places."""
    n = values._aval.size
    return record("put", (record("full", (rest,), ((n + 1,), values._aval.dtype)), place, values))


def _last(x: Tensor) -> Tensor:
    return record("reshape", (narrow(x, 0, x._aval.size - 1, 1),), ())
