"""Tensors put together, cut apart and turned: what is said with `cat`, `split`, `flip` and `reshape` of `shape`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from adjoint.ops.shape import (
    axis_of,
    cat,
    clone,
    diag,
    expand,
    flip,
    hstack,
    meshgrid,
    narrow,
    reshape,
    sizes_of,
    split,
    stack,
    transpose,
    zero_pad,
)
from adjoint.trace.handle import Tensor


def _several(tensors: tuple) -> list[Tensor]:
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


def _at_least(rank: int, x: Tensor) -> Tensor:
    shape = tuple(x._aval.shape)
    if len(shape) >= rank:
        return x
    if rank == 3 and len(shape) == 2:
        return reshape(x, (*shape, 1))
    if rank == 3 and len(shape) == 1:
        return reshape(x, (1, *shape, 1))
    return reshape(x, (1,) * (rank - len(shape)) + shape)


def atleast_1d(*tensors: Any) -> Any:
    """Views with at least one axis; several tensors give a tuple.

    >>> import adjoint as torch
    >>> torch.atleast_1d(torch.tensor(3))
    tensor([3])
    """
    parts = tuple(_at_least(1, x) for x in _several(tensors))
    return parts[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else parts


def atleast_2d(*tensors: Any) -> Any:
    """Views with at least two axes, new ones in front.

    >>> import adjoint as torch
    >>> torch.atleast_2d(torch.tensor([1, 2])).shape
    torch.Size([1, 2])
    """
    parts = tuple(_at_least(2, x) for x in _several(tensors))
    return parts[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else parts


def atleast_3d(*tensors: Any) -> Any:
    """Views with at least three axes: a vector stands in the middle, a matrix in front.

    >>> import adjoint as torch
    >>> torch.atleast_3d(torch.tensor([1, 2])).shape
    torch.Size([1, 2, 1])
    """
    parts = tuple(_at_least(3, x) for x in _several(tensors))
    return parts[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else parts


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Side by side, vectors as columns.

    >>> import adjoint as torch
    >>> torch.column_stack((torch.tensor([1, 2]), torch.tensor([3, 4])))
    tensor([[1, 3],
            [2, 4]])
    """
    return hstack([x if len(x._aval.shape) > 1 else reshape(x, (x._aval.size, 1)) for x in tensors])


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Behind each other: concatenated along the third axis.

    >>> import adjoint as torch
    >>> torch.dstack((torch.tensor([1, 2]), torch.tensor([3, 4])))
    tensor([[[1, 3],
             [2, 4]]])
    """
    return cat([_at_least(3, x) for x in tensors], 2)


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of nearly equal parts of an axis (their number given), or of the parts between the listed places.

    >>> import adjoint as torch
    >>> [len(p) for p in torch.tensor_split(torch.arange(7), 3)]
    [3, 2, 2]
    """
    axis = axis_of(dim, len(input._aval.shape))
    n = input._aval.shape[axis]
    if isinstance(indices_or_sections, Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        count = indices_or_sections
        if count <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {count}")
        return split(input, [n // count + (k < n % count) for k in range(count)], axis)
    ends = [min(max(i + n if i < 0 else i, 0), n) for i in sizes_of((tuple(indices_or_sections),))]
    starts = [0, *ends]
    return tuple(narrow(input, axis, a, max(b - a, 0)) for a, b in zip(starts, [*ends, n], strict=True))


def _split_along(name: str, input: Tensor, parts: Any, rank: int, dim: int) -> tuple[Tensor, ...]:
    shape = input._aval.shape
    if len(shape) < rank:
        raise RuntimeError(f"torch.{name} requires a tensor with at least {rank} dimension(s), but got shape {list(shape)}")
    if isinstance(parts, int) and (parts < 1 or shape[dim] % parts):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension {shape[dim]} is not "
            f"divisible by the split_size {parts}!"
        )
    return tensor_split(input, parts, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts (or those between the listed places) side by side; of a vector along its only axis.

    >>> import adjoint as torch
    >>> torch.hsplit(torch.tensor([[1, 2], [3, 4]]), 2)[1]
    tensor([[2],
            [4]])
    """
    return _split_along("hsplit", input, indices_or_sections, 1, 0 if len(input._aval.shape) == 1 else 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts (or those between the listed places) on top of each other.

    >>> import adjoint as torch
    >>> torch.vsplit(torch.tensor([[1, 2], [3, 4]]), 2)[1]
    tensor([[3, 4]])
    """
    return _split_along("vsplit", input, indices_or_sections, 2, 0)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts (or those between the listed places) along the third axis.

    >>> import adjoint as torch
    >>> [p.shape for p in torch.dsplit(torch.ones(2, 1, 4), 2)]
    [torch.Size([2, 1, 2]), torch.Size([2, 1, 2])]
    """
    return _split_along("dsplit", input, indices_or_sections, 3, 2)


def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of a larger one; numbers and vectors count as one row.

    >>> import adjoint as torch
    >>> torch.block_diag(torch.tensor([[1]]), torch.tensor([[2, 3], [4, 5]]))
    tensor([[1, 0, 0],
            [0, 2, 3],
            [0, 4, 5]])
    """
    parts = [_at_least(2, x) for x in _several(tensors)]
    for x in parts:
        if len(x._aval.shape) > 2:
            raise RuntimeError(f"torch.block_diag: Input tensors must have 2 or fewer dimensions, got shape {list(x._aval.shape)}")
    columns = sum(x._aval.shape[1] for x in parts)
    rows, at = [], 0
    for x in parts:
        width = x._aval.shape[1]
        rows.append(zero_pad(x, (0, at), (0, columns - at - width)))
        at += width
    return cat(rows, 0)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All tuples of elements of vectors, one per row, the last varying fastest.

    >>> import adjoint as torch
    >>> torch.cartesian_prod(torch.tensor([1, 2]), torch.tensor([3, 4]))
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    parts = _several(tensors)
    for x in parts:
        if len(x._aval.shape) != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x._aval.shape)}")
    return clone(parts[0]) if len(parts) == 1 else stack([reshape(g, -1) for g in meshgrid(*parts)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All choices of r elements of a vector, one per row, in the order of `itertools.combinations`.

    >>> import adjoint as torch
    >>> torch.combinations(torch.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    from adjoint.ops.create import tensor
    from adjoint.ops.index import index_select

    if len(input._aval.shape) != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input._aval.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input._aval.size), r))
    if not rows or not r:
        return narrow(input, 0, 0, 0) if not r else reshape(narrow(input, 0, 0, 0), (0, r))
    return reshape(index_select(input, 0, tensor([i for row in rows for i in row])), (len(rows), r))


def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Turned by k quarters in the plane of two axes, from the first towards the second.

    >>> import adjoint as torch
    >>> torch.rot90(torch.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    rank = len(input._aval.shape)
    if rank < 2 or len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2 of a tensor with at least 2, but got dims = {tuple(dims)}, shape {list(input._aval.shape)}")
    first, second = (axis_of(d, rank) for d in dims)
    if first == second:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {first} and dim1 = {second}")
    turns = k % 4
    if turns == 0:
        return clone(input)
    if turns == 2:
        return flip(input, first, second)
    return transpose(flip(input, second), first, second) if turns == 1 else flip(transpose(input, first, second), second)


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order.

    >>> import adjoint as torch
    >>> torch.fliplr(torch.tensor([[1, 2], [3, 4]]))
    tensor([[2, 1],
            [4, 3]])
    """
    if len(input._aval.shape) < 2:
        raise RuntimeError(f"Input must be >= 2-d, got shape {list(input._aval.shape)}")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order.

    >>> import adjoint as torch
    >>> torch.flipud(torch.tensor([[1, 2], [3, 4]]))
    tensor([[3, 4],
            [1, 2]])
    """
    if not input._aval.shape:
        raise RuntimeError("Input must be >= 1-d, got a 0-d tensor")
    return flip(input, 0)


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with the elements of `input`, in order, on a diagonal.

    >>> import adjoint as torch
    >>> torch.diagflat(torch.tensor([1, 2]), 1)
    tensor([[0, 1, 0],
            [0, 0, 2],
            [0, 0, 0]])
    """
    return diag(reshape(input, -1), offset)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix: powers of the elements of a vector as columns, falling unless `increasing`.

    >>> import adjoint as torch
    >>> torch.vander(torch.tensor([1, 2, 3]), 3)
    tensor([[1, 1, 1],
            [4, 2, 1],
            [9, 3, 1]])
    """
    if len(x._aval.shape) != 1:
        raise RuntimeError(f"x must be a one-dimensional tensor, got shape {list(x._aval.shape)}")
    count = x._aval.size if N is None else N
    if count < 0:
        raise RuntimeError(f"N must be non-negative, got {count}")
    powers = range(count) if increasing else range(count - 1, -1, -1)
    if not count:
        return reshape(expand(reshape(narrow(x, 0, 0, 0), (0, 1)), (0, 1)), (x._aval.size, 0))
    return stack([x**k for k in powers], 1)
