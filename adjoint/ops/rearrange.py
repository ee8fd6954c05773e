"""Elements in another order, repeated, or with zeros between: new tensors, never views.

Diagonals and triangles, windows and padding, as values for formulas; `ops/shape.py` has the views.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.elementwise import cast
from adjoint.ops.joining import cat
from adjoint.ops.shape import (
    as_strided,
    axes_of,
    axis_of,
    clone,
    diagonal,
    narrow,
    reshape,
    select,
    sizes_of,
    slice_axis,
    transpose,
    two_axes,
)
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.moves import diagonal_of_axes
from adjoint.trace.recorder import record
from adjoint.trace.views import assign


def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order reversed along the given axes.

    >>> import adjoint as torch
    >>> torch.flip(torch.tensor([1, 2, 3]), (0,))
    tensor([3, 2, 1])
    """
    axes = axes_of(sizes_of(dims), len(input._aval.key_shape)) if dims and sizes_of(dims) else ()
    return record("flip", (input,), axes) if axes else clone(input)


def fliplr(input: Tensor) -> Tensor:
    """The columns in reverse order.

    >>> import adjoint as torch
    >>> torch.fliplr(torch.tensor([[1, 2], [3, 4]]))
    tensor([[2, 1],
            [4, 3]])
    """
    if len(input._aval.key_shape) < 2:
        raise RuntimeError(f"Input must be >= 2-d, but got shape {list(input._aval.key_shape)}")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """The rows in reverse order.

    >>> import adjoint as torch
    >>> torch.flipud(torch.tensor([1, 2]))
    tensor([2, 1])
    """
    if len(input._aval.key_shape) < 1:
        raise RuntimeError("Input must be >= 1-d, but got a tensor without axes")
    return flip(input, 0)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A plane of two axes turned k times by a right angle, from the first axis towards the second.

    >>> import adjoint as torch
    >>> torch.rot90(torch.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    rank = len(input._aval.key_shape)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if rank < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {rank}")
    i, j = (axis_of(d, rank) for d in dims)
    if i == j:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    if k % 4 == 0:
        return clone(input)
    if k % 4 == 2:
        return flip(input, i, j)
    return clone(transpose(flip(input, j if k % 4 == 1 else i), i, j))


def repeat(input: Tensor, *sizes: Any) -> Tensor:
    """The whole tensor copied `sizes[i]` times along axis i (new axes in front)."""
    times = sizes_of(sizes)
    shape = (1,) * (len(times) - len(input._aval.key_shape)) + input._aval.key_shape
    if len(times) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    spread = [n for pair in zip(times, shape, strict=True) for n in pair]
    ones = [n for s in shape for n in (1, s)]
    out = record("expand", (record("reshape", (input,), tuple(ones)),), tuple(spread))
    return record("reshape", (out,), tuple(a * b for a, b in zip(times, shape, strict=True)))


def tile(input: Tensor, *dims: Any) -> Tensor:
    """The tensor repeated along each axis, `dims[i]` times along axis i.

    >>> import adjoint as torch
    >>> torch.tile(torch.tensor([1, 2]), (2,))
    tensor([1, 2, 1, 2])
    """
    times = sizes_of(dims)
    return repeat(input, (1,) * (len(input._aval.key_shape) - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each element (slice of axis `dim`) repeated.

    >>> import adjoint as torch
    >>> torch.repeat_interleave(torch.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if dim is None:
        input, dim = reshape(input, -1), 0
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if not shape:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: repeat_interleave by {repeats}; leave dim out")
    if isinstance(repeats, Tensor):
        from adjoint.ops.gather import index_select

        counts = recorder.array_of(repeats)
        index = np.repeat(np.arange(shape[axis]), counts if counts.ndim else int(counts))
        return index_select(input, axis, recorder.tensor_from_array(index))
    wide = (*shape[: axis + 1], repeats, *shape[axis + 1 :])
    out = record("expand", (record("reshape", (input,), (*shape[: axis + 1], 1, *shape[axis + 1 :])),), wide)
    return record("reshape", (out,), (*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements shifted along axes; what falls off one end returns at the other.

    >>> import adjoint as torch
    >>> torch.roll(torch.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    if dims is None or dims == () or dims == []:
        if not isinstance(shifts, int) and len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0 (roll by {shifts} needs as many dims)")
        return reshape(roll(reshape(input, -1), shifts, 0), input._aval.key_shape)
    moves, axes = ((v,) if isinstance(v, int) else tuple(v) for v in (shifts, dims))
    if len(moves) != len(axes):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(axes)} (roll by {shifts} along {dims})")
    if not input._aval.key_shape:
        raise IndexError(f"Dimension specified as {axes[0]} but tensor has no dimensions: roll by {shifts}; leave dims out")
    pairs = list(zip(moves, axes, strict=True))
    given = input
    for shift, dim in pairs:
        n = input._aval.key_shape[axis_of(dim, len(input._aval.key_shape))]
        if n and shift % n:
            k = shift % n
            input = cat([narrow(input, dim, n - k, k), narrow(input, dim, 0, n - k)], dim)
    return clone(given) if input is given else input  # never the memory of its argument


def triangle_mask(rows: int, columns: int, diagonal: int, lower: bool) -> Tensor:
    i = record("reshape", (record("iota", (), rows),), (rows, 1))
    j = record("iota", (), columns)
    return (j - i <= diagonal) if lower else (j - i >= diagonal)


def _keep(mask: Tensor, input: Tensor) -> Tensor:
    """`input` where the mask holds, zero of its dtype elsewhere."""
    return record("where", (mask, input, False if input._aval.dtype is dtypes.bool else 0))


def _zero(x: Tensor) -> int | bool:
    return False if x._aval.dtype is dtypes.bool else 0


def _last_two(name: str, x: Tensor) -> tuple[int, ...]:
    if len(x._aval.key_shape) < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions, got shape {list(x._aval.key_shape)}")
    return x._aval.key_shape[-2:]


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and below the diagonal; the rest is 0.

    >>> import adjoint as torch
    >>> torch.tril(torch.ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    m, n = _last_two("tril", input)
    return _keep(triangle_mask(m, n, diagonal, True), input)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and above the diagonal; the rest is 0.

    >>> import adjoint as torch
    >>> torch.triu(torch.ones(2, 2))
    tensor([[1., 1.],
            [0., 1.]])
    """
    m, n = _last_two("triu", input)
    return _keep(triangle_mask(m, n, diagonal, False), input)


def diagonal_of(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The same as a value of its own, for formulas.

    >>> import adjoint as torch
    >>> torch.diagonal(torch.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    return diagonal_of_axes(input, (offset, *two_axes(dim1, dim2, len(input._aval.key_shape))))


def diag_embed(input: Tensor, offset: int = 0) -> Tensor:
    """Matrices with the last axis on their diagonal.

    >>> import adjoint as torch
    >>> torch.diag_embed(torch.tensor([[1, 2]])).shape
    torch.Size([1, 2, 2])
    """
    *batch, n = input._aval.key_shape
    size = n + abs(offset)
    start = offset if offset >= 0 else -offset * size
    lead, ones = (0,) * len(batch), (1,) * len(batch)
    flat = record("place", (input,), ((*batch, size * size), (*lead, start), (*ones, size + 1)))
    return record("reshape", (flat,), (*batch, size, size))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix, or the diagonal of a matrix as a vector of its own.

    >>> import adjoint as torch
    >>> torch.diag(torch.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    rank = len(input._aval.key_shape)
    if rank == 1:
        return diag_embed(input, diagonal)
    if rank != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {rank}D")
    return diagonal_of(input, diagonal)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The elements of a tensor on the diagonal of a matrix.

    >>> import adjoint as torch
    >>> torch.diagflat(torch.tensor([[1], [2]]))
    tensor([[1, 0],
            [0, 2]])
    """
    return diag_embed(reshape(input, -1), offset)


def _triangle_indices(row: int, col: int, offset: int, lower: bool, dtype: Any) -> Tensor:
    if row < 0 or col < 0:
        raise RuntimeError(f"row and col must be non-negative, got {row} and {col}")
    i, j = np.arange(row)[:, None], np.arange(col)
    found = np.nonzero(j - i <= offset if lower else j - i >= offset)
    return cast(recorder.tensor_from_array(np.stack(found).astype(np.int64)), dtype or dtypes.int64)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Row and column numbers of the places on and below a diagonal, row by row.

    >>> import adjoint as torch
    >>> torch.tril_indices(2, 2)
    tensor([[0, 1, 1],
            [0, 0, 1]])
    """
    return _triangle_indices(row, col, offset, True, dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Row and column numbers of the places on and above a diagonal, row by row.

    >>> import adjoint as torch
    >>> torch.triu_indices(2, 2)
    tensor([[0, 0, 1],
            [0, 1, 1]])
    """
    return _triangle_indices(row, col, offset, False, dtype)


# --- a copy with a part replaced --------------------------------------------------------------------------------------


def _replaced(name: str, input: Tensor, src: Tensor, view: Callable[[Tensor], Tensor]) -> Tensor:
    """A copy of `input` in which the part that `view` shows is `src`."""
    out = clone(input)
    part = view(out)
    if part._aval.key_shape != src._aval.key_shape:
        raise RuntimeError(
            f"expected src to have a size equal to the {name.removesuffix('_scatter')} of self. src size = {list(src._aval.key_shape)}, "
            f"{name.removesuffix('_scatter')} size = {list(part._aval.key_shape)}"
        )
    assign(part, cast(src, input._aval.dtype))
    return out


def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy with `src` on a diagonal.

    >>> import adjoint as torch
    >>> torch.diagonal_scatter(torch.zeros(2, 2), torch.tensor([1., 2.]))
    tensor([[1., 0.],
            [0., 2.]])
    """
    return _replaced("diagonal_scatter", input, src, lambda x: diagonal(x, offset, dim1, dim2))


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy with `src` at one index of an axis.

    >>> import adjoint as torch
    >>> torch.select_scatter(torch.zeros(2, 2), torch.tensor([1., 2.]), 1, 0)
    tensor([[1., 0.],
            [2., 0.]])
    """
    return _replaced("select_scatter", input, src, lambda x: select(x, dim, index))


def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """A copy with `src` in a slice of an axis.

    >>> import adjoint as torch
    >>> torch.slice_scatter(torch.zeros(4), torch.ones(2), 0, 1, 4, 2)
    tensor([0., 1., 0., 1.])
    """
    if step <= 0:
        raise RuntimeError(f"slice step must be positive, got {step}")
    if not input._aval.key_shape:
        raise IndexError("slice_scatter() cannot be applied to a 0-dim tensor")
    axis = axis_of(dim, len(input._aval.key_shape))
    begin, stop, _ = slice(start, end, step).indices(input._aval.key_shape[axis])
    length = max(0, -(-(stop - begin) // step))
    return _replaced("slice_scatter", input, src, lambda x: slice_axis(x, axis, begin if length else 0, length, step))


def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy with `src` at the places that `as_strided` shows.

    >>> import adjoint as torch
    >>> torch.as_strided_scatter(torch.zeros(4), torch.ones(2), (2,), (2,))
    tensor([1., 0., 1., 0.])
    """
    return _replaced("as_strided_scatter", input, src, lambda x: as_strided(x, size, stride, storage_offset))


def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`narrow` as a copy.

    >>> import adjoint as torch
    >>> torch.narrow_copy(torch.arange(5), 0, 1, 3)
    tensor([1, 2, 3])
    """
    return clone(narrow(input, dim, start, length))


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.

    >>> import adjoint as torch
    >>> torch.trace(torch.tensor([[1, 2], [3, 4]]))
    tensor(5)
    """
    if len(input._aval.key_shape) != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {len(input._aval.key_shape)}")
    if input._aval.dtype is dtypes.bool:
        raise NotImplementedError("\"trace\" not implemented for 'Bool'; convert it with .int() first")
    return diagonal_of(input).sum()


def window(x: Tensor, dims: tuple, sizes: tuple, strides: tuple, dilations: tuple) -> Tensor:
    """One axis of windows per listed axis: shape (..., number of windows at dims, ..., *sizes); differentiable."""
    return record("window", (x,), (tuple(dims), tuple(sizes), tuple(strides), tuple(dilations)))


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, attrs: tuple) -> Tensor:
    """The primitive `convolve` with attrs (strides, lo, hi, steps, dilations, groups), which `ir/prims.py` explains."""
    return record("convolve", (x, w) if bias is None else (x, w, bias), attrs)


def zero_pad(x: Tensor, low: tuple, high: tuple, interior: tuple | None = None) -> Tensor:
    """Zeros before, after and between the elements of each axis."""
    shape = x._aval.key_shape
    interior = interior if interior is not None else (0,) * len(shape)
    spread = [max(0, n + (n - 1) * k) for n, k in zip(shape, interior, strict=True)]
    full = tuple(a + n + b for a, n, b in zip(low, spread, high, strict=True))
    return record("place", (x,), (full, tuple(low), tuple(k + 1 for k in interior)))
