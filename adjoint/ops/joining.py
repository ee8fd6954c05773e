"""Splitting and joining: the parts of a tensor along an axis, as views, and tensors put together along one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops.elementwise import cast
from adjoint.ops.shape import axis_of, expand, narrow, reshape, select, transpose, unsqueeze
from adjoint.runtime.memory import allocate
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.moves import move_array
from adjoint.trace.recorder import local, record
from adjoint.trace.views import make_view

MOST_PARTS = 1 << 24  # of `tensor_split`, which makes one tensor each
# Where the parts of something cut into so few begin is part of the program: products then read them in place, and their
# gradients are written side by side. More parts are likely the batches of a loop, which all want the same program.
FEW_PARTS = 4
# So many tensors that are in memory, of so many bytes together, are joined there and then. A batch drawn from a replay
# buffer holds some states twice, as state and as next state, and others each time: recorded, every batch is a path of
# its own, and a program to be compiled.
MANY, SMALL = 8, 1 << 16


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of an axis, of one size (the last may be smaller) or of the listed sizes.

    >>> import adjoint as torch
    >>> [t.shape[0] for t in torch.split(torch.arange(5), 2)]
    [2, 2, 1]
    """
    if not tensor._aval.key_shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    n = tensor._aval.key_shape[axis_of(dim, len(tensor._aval.key_shape))]
    if isinstance(split_size_or_sections, Tensor) and not split_size_or_sections._aval.key_shape:
        split_size_or_sections = int(split_size_or_sections)  # type: ignore[call-overload]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size <= 0 and n:
            raise RuntimeError(f"split expects split_size be positive, but got split_size={size}")
        sections = [min(size, n - i) for i in range(0, n, size)] if n else [0]
    else:
        sections = list(split_size_or_sections)
        if sum(sections) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {dim}), "
                f"but got split_sizes={sections}"
            )
    starts = itertools.accumulate(sections, initial=0)
    return _parts(tensor, dim, list(zip(starts, sections, strict=False)))


def _parts(input: Tensor, dim: int, spans: list[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Views of the (start, length) spans of an axis."""
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if len(spans) > FEW_PARTS or any(start + length > shape[axis] or length < 0 for start, length in spans):
        return tuple(narrow(input, dim, start, length) for start, length in spans)
    out = []
    for start, length in spans:
        starts = tuple(start if d == axis else 0 for d in range(len(shape)))
        sizes = tuple(length if d == axis else n for d, n in enumerate(shape))
        out.append(make_view(input, "slice", (starts, sizes, (1,) * len(shape))))
    return tuple(out)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along an axis, as views; the last may be smaller.

    >>> import adjoint as torch
    >>> [t.shape[0] for t in torch.chunk(torch.arange(7), 3)]
    [3, 3, 1]
    """
    if chunks < 1:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._aval.key_shape[axis_of(dim, len(input._aval.key_shape))]
    return split(input, max(1, -(-n // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, each without it, as views.

    >>> import adjoint as torch
    >>> torch.unbind(torch.tensor([[1, 2], [3, 4]]))
    (tensor([1, 2]), tensor([3, 4]))
    """
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if shape[axis] > FEW_PARTS:
        return tuple(select(input, axis, i) for i in range(shape[axis]))
    parts = _parts(input, axis, [(i, 1) for i in range(shape[axis])])
    return tuple(make_view(part, "reshape", (*shape[:axis], *shape[axis + 1 :])) for part in parts)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of an axis with the listed sizes.

    >>> import adjoint as torch
    >>> torch.split_with_sizes(torch.arange(3), (1, 2))
    (tensor([0]), tensor([1, 2]))
    """
    return split(input, list(split_sizes), dim)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of an axis split into a number of parts of nearly equal size, or before each of the listed positions.

    >>> import adjoint as torch
    >>> torch.tensor_split(torch.arange(5), 2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    >>> torch.tensor_split(torch.arange(5), (1, 3))
    (tensor([0]), tensor([1, 2]), tensor([3, 4]))
    """
    if not input._aval.key_shape:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    axis = axis_of(dim, len(input._aval.key_shape))
    n = input._aval.key_shape[axis]
    given = indices_or_sections.tolist() if isinstance(indices_or_sections, Tensor) else indices_or_sections
    if isinstance(given, int):
        if given <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {given}")
        if given > MOST_PARTS:
            raise RuntimeError(f"number of sections must be at most {MOST_PARTS}, got {given}")
        ends = [k * (n // given) + min(k, n % given) for k in range(1, given)]
    else:
        ends = list(given)
    spans, begin = [], 0
    for end in [*ends, n]:
        first, last, _ = slice(begin, end).indices(n)
        spans.append((first, max(0, last - first)))
        begin = end
    return _parts(input, axis, spans)


def _split_along(name: str, input: Tensor, given: Any, axis: int, least: int) -> tuple[Tensor, ...]:
    rank = len(input._aval.key_shape)
    if rank < least:
        raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension{'s' * (least > 1)}, but got a tensor with {rank} dimensions!")
    if isinstance(given, int) and (given <= 0 or input._aval.key_shape[axis] % given):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {axis}, but the size of the dimension {input._aval.key_shape[axis]} is not "
            f"divisible by the split_size {given}!"
        )
    return tensor_split(input, given, axis)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 1, of a vector along axis 0; a number must divide the size.

    >>> import adjoint as torch
    >>> torch.hsplit(torch.arange(4), 2)
    (tensor([0, 1]), tensor([2, 3]))
    """
    return _split_along("hsplit", input, indices_or_sections, 0 if len(input._aval.key_shape) == 1 else 1, 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 0 of at least two; a number must divide the size.

    >>> import adjoint as torch
    >>> torch.vsplit(torch.zeros(4, 1), 2)[0].shape
    torch.Size([2, 1])
    """
    return _split_along("vsplit", input, indices_or_sections, 0, 2)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """`tensor_split` along axis 2 of at least three; a number must divide the size.

    >>> import adjoint as torch
    >>> torch.dsplit(torch.zeros(1, 1, 4), 2)[0].shape
    torch.Size([1, 1, 2])
    """
    return _split_along("dsplit", input, indices_or_sections, 2, 3)


def cat(tensors: Sequence[Tensor], dim: int = 0, *, axis: int | None = None) -> Tensor:
    """Tensors joined along an existing axis; the other sizes must agree.

    >>> import adjoint as torch
    >>> torch.cat((torch.zeros(1, 2), torch.ones(1, 2)))
    tensor([[0., 0.],
            [1., 1.]])
    """
    dim = dim if axis is None else axis
    parts = list(tensors)
    if not parts:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    if len(parts) < MANY and all([type(x) is Tensor and x._aval is parts[0]._aval for x in parts]) and parts[0]._aval.key_shape:
        return record("cat", tuple(parts), axis_of(dim, len(parts[0]._aval.key_shape)))
    for i, x in enumerate(parts):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    filled = [x for x in parts if x._aval.key_shape != (0,)] or parts[:1]
    rank = len(filled[0]._aval.key_shape)
    if rank == 0:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated; use torch.stack")
    where = axis_of(dim, rank)
    first = filled[0]._aval.key_shape
    dtype = parts[0]._aval.dtype
    for x in parts:
        dtype = dtypes.promote(dtype, x._aval.dtype)
    for i, x in enumerate(filled):
        shape = x._aval.key_shape
        if len(shape) != rank:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {rank} and {len(shape)}")
        for d in range(rank):
            if d != where and shape[d] != first[d]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {where}. Expected size {first[d]} but got size "
                    f"{shape[d]} for tensor number {i} in the list."
                )
    if len(filled) >= MANY:
        joined = _joined_now(filled, where, dtype)
        if joined is not None:
            return joined
    return record("cat", tuple(cast(x, dtype) for x in filled), where)


def _joined_now(parts: list[Tensor], axis: int, dtype: DType, new: bool = False) -> Tensor | None:
    """Small tensors that lie in memory joined along an axis (along a `new` one); None where something has to be recorded."""
    tr = local.trace
    if tr.eager or tr.watch is not None or tr.static or tr.whole:
        return None
    if tr.scope is not None and tr.scope.name != "StackBackward0":  # a composite, whose steps are to be the same each time
        return None
    limit, number = SMALL // len(parts), dtype.np
    arrays = []
    same = None
    for x in parts:
        a = x._aval
        if a is not same:
            if a.dtype is not dtype or a.requires_grad or a.nbytes > limit:
                return None
            shape = a.key_shape
            if new:
                shape = (*shape[:axis], 1, *shape[axis:])
            same = a
        data = x._data
        if data is not None:
            arrays.append(ndarray(shape, number, data.mem))
            continue
        array = _array_of_view(x)
        if array is None:
            return None
        arrays.append(array.reshape(shape))
    shape = (*shape[:axis], sum([array.shape[axis] for array in arrays]), *shape[axis + 1 :])
    out = allocate(math.prod(shape) * dtype.itemsize)
    np.concatenate(arrays, axis, out=ndarray(shape, number, out.mem))
    return recorder.tensor_from_buffer(out, shape, dtype)


def _array_of_view(x: Tensor) -> np.ndarray | None:
    """What a view that is not computed yet shows of its base, if that is in memory and a plain tensor."""
    base = x._base
    if base is None or base._data is None or base._aval.requires_grad:
        return None
    array = base._data.array(base._aval.dtype.np, base._aval.key_shape)
    for move in x._chain:
        if not all([type(start) is int for start in move[2]]):
            return None
        array = move_array(array, move)
    return array


def _some(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    parts = list(tensors)
    if not parts:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return parts


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> import adjoint as torch
    >>> torch.stack((torch.tensor([1, 2]), torch.tensor([3, 4])), dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    parts = _some("stack", tensors)
    shape = parts[0]._aval.key_shape
    for i, x in enumerate(parts):
        if x._aval.key_shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x._aval.key_shape)} at entry {i}"
            )
    axis = axis_of(dim, len(shape) + 1)
    if len(parts) >= MANY:
        joined = _joined_now(parts, axis, parts[0]._aval.dtype, True)
        if joined is not None:
            return joined
    return cat([unsqueeze(x, axis) for x in parts], axis)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: concatenated along axis 1, vectors along axis 0.

    >>> import adjoint as torch
    >>> torch.hstack((torch.tensor([1]), torch.tensor([2, 3])))
    tensor([1, 2, 3])
    """
    parts = [x if x._aval.key_shape else reshape(x, 1) for x in _some("hstack", tensors)]
    return cat(parts, 0 if len(parts[0]._aval.key_shape) == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other: concatenated along axis 0, vectors as rows.

    >>> import adjoint as torch
    >>> torch.vstack((torch.tensor([1, 2]), torch.tensor([3, 4])))
    tensor([[1, 2],
            [3, 4]])
    """
    return cat([x if len(x._aval.key_shape) > 1 else reshape(x, 1, -1) for x in _some("vstack", tensors)], 0)


def _raised(x: Tensor, rank: int) -> Tensor:
    """As `atleast_1d`, `atleast_2d` and `atleast_3d` place the axes of a tensor."""
    shape = x._aval.key_shape
    if len(shape) >= rank:
        return x
    return reshape(x, {0: (1,) * rank, 1: (1,) * (rank > 1) + shape + (1,) * (rank > 2), 2: (*shape, 1)}[len(shape)])


def _each(tensors: tuple, rank: int) -> Any:
    if len(tensors) == 1:
        one = tensors[0]
        return tuple(_raised(x, rank) for x in one) if isinstance(one, (list, tuple)) else _raised(one, rank)
    return tuple(_raised(x, rank) for x in tensors)


def atleast_1d(*tensors: Any) -> Any:
    """Numbers as vectors of one element; the rest as it is.

    >>> import adjoint as torch
    >>> torch.atleast_1d(torch.tensor(5))
    tensor([5])
    """
    return _each(tensors, 1)


def atleast_2d(*tensors: Any) -> Any:
    """Numbers and vectors as one row; the rest as it is.

    >>> import adjoint as torch
    >>> torch.atleast_2d(torch.tensor([5, 6]))
    tensor([[5, 6]])
    """
    return _each(tensors, 2)


def atleast_3d(*tensors: Any) -> Any:
    """Tensors with three axes at least: a vector lies along the middle one, a matrix along the first two.

    >>> import adjoint as torch
    >>> torch.atleast_3d(torch.zeros(4, 5)).shape
    torch.Size([4, 5, 1])
    """
    return _each(tensors, 3)


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors behind each other: joined along axis 2, matrices as slices of it.

    >>> import adjoint as torch
    >>> torch.dstack((torch.tensor([1, 2]), torch.tensor([3, 4]))).tolist()
    [[[1, 3], [2, 4]]]
    """
    return cat([_raised(x, 3) for x in _some("dstack", tensors)], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Vectors as the columns of a matrix, matrices side by side.

    >>> import adjoint as torch
    >>> torch.column_stack((torch.tensor([1, 2]), torch.tensor([3, 4])))
    tensor([[1, 3],
            [2, 4]])
    """
    return cat([x if len(x._aval.key_shape) > 1 else reshape(x, -1, 1) for x in _some("column_stack", tensors)], 1)


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices along the diagonal of one, with zeros elsewhere; a vector counts as one row.

    >>> import adjoint as torch
    >>> torch.block_diag(torch.tensor([[1, 2]]), torch.tensor([[3], [4]]))
    tensor([[1, 2, 0],
            [0, 0, 3],
            [0, 0, 4]])
    """
    blocks = [_raised(x, 2) for x in tensors]
    dtype = blocks[0]._aval.dtype if blocks else dtypes.float32
    for x in blocks:
        if len(x._aval.key_shape) > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Got shape {list(x._aval.key_shape)}")
        dtype = dtypes.promote(dtype, x._aval.dtype)
    height, width = (sum(x._aval.key_shape[d] for x in blocks) for d in (0, 1))
    rows, left = [], 0
    for x in blocks:
        m, n = x._aval.key_shape
        rows.append(record("place", (cast(x, dtype),), ((m, width), (0, left), (1, 1))))
        left += n
    return cat(rows, 0) if rows else record("full", (0.0,), ((1, 0), dtype))


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples of one element of each vector, as rows.

    >>> import adjoint as torch
    >>> torch.cartesian_prod(torch.tensor([1, 2]), torch.tensor([3, 4])).tolist()
    [[1, 3], [1, 4], [2, 3], [2, 4]]
    """
    for x in tensors:
        if len(x._aval.key_shape) != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._aval.key_shape)}")
    if len(tensors) == 1:
        return tensors[0]
    return stack([reshape(g, -1) for g in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """The sets of r elements of a vector, as rows in the order of the elements.

    >>> import adjoint as torch
    >>> torch.combinations(torch.tensor([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    if len(input._aval.key_shape) != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._aval.key_shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input._aval.key_shape[0]), r)) if r else []
    places = recorder.tensor_from_array(np.array(rows, dtype=np.int64).reshape(len(rows), r))
    return record("take", (input, places)) if rows else record("full", (0,), ((0,) if not r else (0, r), input._aval.dtype))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid from those of its axes; `indexing` "ij" (matrix) or "xy" (picture).

    >>> import adjoint as torch
    >>> torch.meshgrid(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), indexing="ij")[0]
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    parts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in parts:
        if len(x._aval.key_shape) > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got shape {list(x._aval.key_shape)}")
        if x._aval.dtype is not parts[0]._aval.dtype:
            raise RuntimeError(
                f"torch.meshgrid expects all tensors to have the same dtype, got {parts[0]._aval.dtype.name} and {x._aval.dtype.name}"
            )
    if indexing == "xy" and len(parts) > 1:
        return tuple(transpose(g, 0, 1) for g in meshgrid(*parts))
    shape = tuple(x._aval.size for x in parts)
    return tuple(
        expand(reshape(x, (1,) * i + (x._aval.size,) + (1,) * (len(parts) - i - 1)), shape) for i, x in enumerate(parts)
    )
