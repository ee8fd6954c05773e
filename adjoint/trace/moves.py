"""The movements that views are made of, and the four things each of them must do.

A movement is (name, attributes, run-time starts: ints, or 0-d tensors that nobody else changes). `apply_move` records it on a tensor, `undo_move` gives the old value
with the part it shows replaced, `move_array` does it to a NumPy array and keeps the memory, and `move_layout` follows
size, strides and offset. Most are primitives. `diagonal`, `window` and `as_strided` are composed of several, and are one
movement so that their layout is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from adjoint.dtypes import DType
from adjoint.ir.prims import window_length
from adjoint.trace.aval import contiguous_strides
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import alias, local, realize, record, record_one, record_slice
from adjoint.trace.strides import reinterpreted, reshape_strides

Move = tuple[str, Any, tuple]
Layout = tuple[tuple[int, ...], tuple[int, ...] | None, int]  # sizes, strides, offset: all in elements


# --- the value --------------------------------------------------------------------------------------------------------


def apply_move(value: Tensor, move: Move) -> Tensor:
    """The part of `value` that the movement shows."""
    prim, attrs, starts = move
    if prim == "alias":
        return alias(value, "alias", False)
    if prim in COMPOSED:
        return COMPOSED[prim](value, attrs)
    if not starts:
        return record_one(prim, value, attrs)
    static, local.trace.static = local.trace.static, 0
    try:
        if len(starts) == 1 and type(starts[0]) is int:
            return record_slice(value, attrs, starts[0])
        return record(prim, (value, *starts), attrs)
    finally:
        local.trace.static = static


def undo_move(before: Tensor, move: Move, value: Tensor) -> Tensor:
    """The value `before` with the part that `move` shows replaced by `value`."""
    prim, attrs, starts = move
    if prim == "alias":
        return value
    if prim in ("reshape", "expand"):  # where expand is written to, only axes of size one were added or kept
        return record("reshape", (value,), tuple(before._aval.shape))
    if prim == "permute":
        inverse = [0] * len(attrs)
        for i, p in enumerate(attrs):
            inverse[p] = i
        return record("permute", (value,), tuple(inverse))
    if prim == "real":
        return record("complex", (value, record_one("imag", before, None)))
    if prim == "imag":
        return record("complex", (record_one("real", before, None), value))
    if prim in ("as_real", "as_complex"):
        return record_one("as_complex" if prim == "as_real" else "as_real", value, None)
    if prim == "reinterpret":
        return record_one(prim, value, attrs[::-1])
    if prim == "slice":
        begins, _, steps = attrs
        static, local.trace.static = local.trace.static, 0
        try:
            return record("slice_update", (before, value, *starts), (begins, steps))
        finally:
            local.trace.static = static
    return write_at(before, (move,), value)


OVERLAPPING = frozenset(("window", "as_strided"))  # may show a place of the memory more than once
PARTS = frozenset(("real", "imag", "as_real", "as_complex", "reinterpret"))  # between dtypes, as complex numbers and their parts


def dtype_of(dtype: DType, move: Move) -> DType:
    """The dtype of what a movement shows of a tensor of `dtype`."""
    if move[0] not in PARTS:
        return dtype
    if move[0] == "reinterpret":
        return move[1][1]
    return dtype.to_complex() if move[0] == "as_complex" else dtype.to_real()


def write_at(before: Tensor, chain: tuple[Move, ...], value: Tensor) -> Tensor:
    """The value `before` with the part that movements show replaced: the positions of its elements are moved as they are.

    Of positions shown twice, the last one is written.
    """
    shape = tuple(before._aval.shape)
    size = before._aval.size
    places = record("reshape", (record("iota", (), size),), shape)
    for move in chain:
        places = apply_move(places, move)
    places = record("reshape", (places,), (value._aval.size,))
    flat = record("reshape", (before,), (size,))
    value = record("reshape", (value,), (value._aval.size,))
    if value._aval.requires_grad and _may_overlap(shape, chain):
        value = _last_of_each(places, value, size)
    written = record("put", (flat, places, value))
    return record("reshape", (written,), shape)


def _may_overlap(shape: tuple[int, ...], chain: tuple[Move, ...]) -> bool:
    """Whether two elements may lie in one place: unless each stride steps over all that the smaller ones reach."""
    layout: Layout = (shape, contiguous_strides(shape), 0)
    for move in chain:
        layout = move_layout(layout, move)
    if layout[1] is None:
        return True
    reach = 0
    for step, n in sorted([(s, n) for n, s in zip(layout[0], layout[1], strict=True) if n > 1]):
        if step <= reach:
            return True
        reach += (n - 1) * step
    return False


def _last_of_each(places: Tensor, value: Tensor, size: int) -> Tensor:
    """The values, those that others overwrite without their derivative."""
    tr = local.trace
    static, tr.static = tr.static, 1
    try:
        number = record("iota", (), value._aval.size)
        nobody = record("full", (0,), ((size,), number._aval.dtype))
        last = record("take", (record("put", (nobody, places, number)), places))
        stays = record("eq", (last, number))
        return record("where", (stays, value, alias(value, "alias", False)))
    finally:
        tr.static = static


def diagonal_of_axes(x: Tensor, attrs: tuple[int, int, int]) -> Tensor:
    """Every (n + 1)-th element of the matrices of axes i and j written in one row, as the last axis."""
    offset, i, j = attrs
    rank = len(x._aval.shape)
    order = (*(d for d in range(rank) if d not in (i, j)), i, j)
    moved = record("permute", (x,), order) if order != tuple(range(rank)) else x
    *batch, m, n = moved._aval.shape
    length = diagonal_length(m, n, offset)
    flat = record("reshape", (moved,), (*batch, m * n))
    start = 0 if length == 0 else offset if offset >= 0 else -offset * n
    lead = (0,) * len(batch)
    return record("slice", (flat,), ((*lead, start), (*batch, length), (*(1,) * len(batch), n + 1)))


def diagonal_length(m: int, n: int, offset: int) -> int:
    return max(0, min(m, n - offset) if offset >= 0 else min(m + offset, n))


def _strided(x: Tensor, attrs: tuple) -> Tensor:
    """Elements of the flattened tensor at offset + the sum of index * stride; x is a base, and so lies in order."""
    size, stride, offset = attrs
    size_of_x = x._aval.size
    flat = record("reshape", (x,), (size_of_x,))
    if 0 in size:
        return record("reshape", (record("slice", (flat,), ((0,), (0,), (1,))),), size)
    regular = contiguous_strides(size)
    if all(n == 1 or s == k for n, s, k in zip(size, stride, regular, strict=True)):
        count = 1
        for n in size:
            count *= n
        return record("reshape", (record("slice", (flat,), ((offset,), (count,), (1,))),), size)
    place: Any = None
    for d, (n, s) in enumerate(zip(size, stride, strict=True)):
        if n == 1 or s == 0:
            continue
        steps = record("iota", (), n)
        if s != 1:
            steps = steps * s
        along = record("reshape", (steps,), (n,) + (1,) * (len(size) - d - 1))
        place = along if place is None else place + along
    if place is None:
        one = record("slice", (flat,), ((offset,), (1,), (1,)))
        return record("expand", (record("reshape", (one,), ()),), size)
    if offset:
        place = place + offset
    if tuple(place._aval.shape) != tuple(size):
        place = record("expand", (place,), tuple(size))
    return record("take", (flat, place))


def _static(function: Any) -> Any:
    """Numbers of a movement are part of it."""

    def apply(x: Tensor, attrs: Any) -> Tensor:
        tr = local.trace
        static, tr.static = tr.static, 1
        try:
            return function(x, attrs)
        finally:
            tr.static = static

    return apply


COMPOSED = {
    "diagonal": _static(diagonal_of_axes),
    "as_strided": _static(_strided),
    "window": lambda x, attrs: record_one("window", x, attrs),
}


# --- the array --------------------------------------------------------------------------------------------------------


def move_array(array: np.ndarray, move: Move) -> np.ndarray:
    """The same on the NumPy side, as a view."""
    prim, attrs, starts = move
    if prim == "alias":
        return array
    if prim == "reshape":
        return array.reshape(attrs)
    if prim == "permute":
        return array.transpose(attrs)
    if prim == "expand":
        return np.broadcast_to(array, attrs)
    if prim == "diagonal":
        line = array.diagonal(*attrs)
        line.flags.writeable = array.flags.writeable
        return line
    if prim in ("real", "imag"):
        return array.real if prim == "real" else array.imag
    if prim == "as_real":
        part = array.real
        return as_strided(part, (*part.shape, 2), (*part.strides, part.itemsize))
    if prim == "as_complex":
        return array.view(np.complex64 if array.dtype == np.float32 else np.complex128)[..., 0]
    if prim == "reinterpret":
        return array.view(attrs[1].np)
    if prim in ("window", "as_strided"):
        known = tuple([s // array.itemsize for s in array.strides])
        shape, strides, offset = move_layout((array.shape, known, 0), move)
        if 0 in shape:
            return np.ndarray(shape, array.dtype)
        assert strides is not None
        start = array.reshape(-1)[offset:] if prim == "as_strided" else array
        return as_strided(start, shape, [s * array.itemsize for s in strides])
    return array[_slices(attrs, starts)]


def _slices(attrs: tuple, starts: tuple) -> tuple[slice, ...]:
    rest = iter(starts)
    begins = [next(rest) if b is None else b for b in attrs[0]]
    begins = [int(realize(b).array(np.int64, (1,))[0]) if isinstance(b, Tensor) else b for b in begins]
    return tuple([slice(b, b + (n - 1) * k + 1 if n else b, k) for b, n, k in zip(begins, *attrs[1:], strict=True)])


# --- the layout -------------------------------------------------------------------------------------------------------


def move_layout(layout: Layout, move: Move) -> Layout:
    """Sizes, strides and offset after the movement; strides of None where a reshape had to copy."""
    shape, strides, offset = layout
    prim, attrs, starts = move
    if prim == "alias":
        return layout
    if prim == "as_strided":
        return tuple(attrs[0]), tuple(attrs[1]), attrs[2]
    if strides is None:
        return _sizes(shape, move), None, offset
    if prim == "permute":
        return tuple([shape[p] for p in attrs]), tuple([strides[p] for p in attrs]), offset
    if prim == "reshape":
        return tuple(attrs), reshape_strides(shape, strides, attrs), offset
    if prim in ("real", "imag"):  # strides and offset count elements of the result
        return shape, tuple([2 * s for s in strides]), 2 * offset + (prim == "imag")
    if prim == "as_real":
        return (*shape, 2), (*(2 * s for s in strides), 1), 2 * offset
    if prim == "as_complex":
        return shape[:-1], tuple([s // 2 for s in strides[:-1]]), offset // 2
    if prim == "reinterpret":
        old, new = attrs
        sizes = shape if old.itemsize == new.itemsize else (*shape[:-1], shape[-1] * old.itemsize // new.itemsize)
        return sizes, *reinterpreted(strides, offset, attrs)
    if prim == "expand":
        lead = len(attrs) - len(shape)
        kept = [0 if n != m else s for n, s, m in zip(shape, strides, attrs[lead:], strict=True)]
        return tuple(attrs), ((0,) * lead + tuple(kept)), offset
    if prim == "diagonal":
        k, i, j = attrs
        rest = [d for d in range(len(shape)) if d not in (i, j)]
        length = diagonal_length(shape[i], shape[j], k)
        if length:
            offset += k * strides[j] if k >= 0 else -k * strides[i]
        return (*(shape[d] for d in rest), length), (*(strides[d] for d in rest), strides[i] + strides[j]), offset
    if prim == "window":
        dims, sizes, steps, dilations = attrs
        counts, moved = list(shape), list(strides)
        for d, n, s, k in zip(dims, sizes, steps, dilations, strict=True):
            counts[d], moved[d] = window_length(shape[d], n, s, k), strides[d] * s
        inner = [strides[d] * k for d, k in zip(dims, dilations, strict=True)]
        return (*counts, *sizes), (*moved, *inner), offset
    index = _slices(attrs, starts)
    begin = sum([s.start * step for s, step in zip(index, strides, strict=True)])
    return tuple(attrs[1]), tuple([s * k for s, k in zip(strides, attrs[2], strict=True)]), offset + begin


def _sizes(shape: tuple[int, ...], move: Move) -> tuple[int, ...]:
    return move_layout((shape, contiguous_strides(shape), 0), move)[0]


def layout_of(t: Tensor) -> Layout:
    """Sizes, strides and offset of a tensor in the memory of its base."""
    base = t._base if t._base is not None else t
    shape = tuple(base._aval.shape)
    layout: Layout = (shape, contiguous_strides(shape), 0)
    for move in t._chain:
        layout = move_layout(layout, move)
    return layout
