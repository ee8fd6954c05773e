"""The gather family: reading and writing at places that an index tensor names, along one axis or in the flattened tensor.

Writing is one of three primitives: `put` (the last one written stays), `put_add`, and `put_fold` for products and
extremes. Each index goes through `position`, which knows the axis that an error should name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.conversion import converted
from adjoint.ops.elementwise import cast, div, plain, where
from adjoint.ops.index import (
    INTEGERS,
    position,
    position_at_once,
    put_indexed,
    same_dtype,
    take_indexed,
)
from adjoint.ops.shape import axis_of, expand
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record

REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")
LONG = (dtypes.int64,)


def _check_index(name: str, index: Any, takes: tuple = INTEGERS, error: type[Exception] = RuntimeError) -> None:
    if not isinstance(index, Tensor) or index._aval.dtype not in takes:
        got = index._aval.dtype.name if isinstance(index, Tensor) else type(index).__name__
        raise error(f"{name}(): Expected dtype int64 for index, got {got}; convert it with .long()")


def _flat(x: Tensor) -> Tensor:
    return record("reshape", (x,), (x._aval.size,))


def _lifted(x: Tensor) -> Tensor:
    """A tensor with at least one axis."""
    return x if x._aval.key_shape else record("reshape", (x,), (1,))


def _flat_positions(shape: tuple[int, ...], axis: int, index: Tensor) -> Tensor:
    """Where `index` along `axis`, at its own place in the other axes, points in a flattened tensor of `shape`."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    flat = position(index, shape[axis], False, axis)
    if strides[axis] != 1:
        flat = flat * strides[axis]
    for d, count in enumerate(index._aval.key_shape):
        if d != axis and count > 1:
            along = (1,) * d + (count,) + (1,) * (len(shape) - d - 1)
            flat = flat + record("reshape", (record("iota", (), count),), along) * strides[d]
    return flat


# --- reading ----------------------------------------------------------------------------------------------------------


@composite("GatherBackward0")
def _gather(x: Tensor, axis: int, index: Tensor) -> Tensor:
    return record("take", (_flat(x), _flat_positions(x._aval.key_shape, axis, index)))


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; index has the rank of input.

    >>> import adjoint as torch
    >>> torch.gather(torch.tensor([[1, 2], [3, 4]]), 1, torch.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    _check_index("gather", index)
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if not index._aval.size:  # of any rank
        return record("reshape", (_gather(_flat(input), 0, _flat(index)),), index._aval.key_shape)
    if max(len(index._aval.key_shape), 1) != max(len(shape), 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    if not shape or not index._aval.key_shape:
        return record("reshape", (_gather(_lifted(input), 0, _lifted(index)),), index._aval.key_shape)
    for d, (a, b) in enumerate(zip(index._aval.key_shape, shape, strict=True)):
        if d != axis and a > b:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index._aval.key_shape)} to be no larger than self "
                f"{list(shape)} apart from dimension {axis}"
            )
    return _gather(input, axis, index)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Along one axis, the elements that `indices` names; without `dim`, of the flattened tensor.

    Negative indices count from the end.

    >>> import adjoint as torch
    >>> torch.take_along_dim(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1], [0]]), 1)
    tensor([[2],
            [3]])
    """
    if dim is None:
        _check_index("take_along_dim", indices)
        return _take(input, _flat(indices))
    _check_index("take_along_dim", indices, LONG)
    if len(input._aval.key_shape) != len(indices._aval.key_shape):
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{len(input._aval.key_shape)} dimensions for input, and {len(indices._aval.key_shape)} dimensions for indices"
        )
    axis = axis_of(dim, len(input._aval.key_shape))
    if not input._aval.key_shape:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions: leave dim out, or reshape(1) the tensors")
    rest = np.broadcast_shapes(
        *(tuple(1 if d == axis else n for d, n in enumerate(x._aval.key_shape)) for x in (input, indices))
    )
    wide = tuple(input._aval.key_shape[axis] if d == axis else n for d, n in enumerate(rest))
    narrow = tuple(indices._aval.key_shape[axis] if d == axis else n for d, n in enumerate(rest))
    places = position(indices, wide[axis], True, axis, math.prod(narrow))
    return gather(expand(input, wide), axis, expand(places, narrow))


def _vector(name: str, index: Tensor, takes: tuple = INTEGERS, error: type[Exception] = RuntimeError) -> Tensor:
    _check_index(name, index, takes, error)
    if len(index._aval.key_shape) > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, but got one of shape {list(index._aval.key_shape)}")
    return _lifted(index)


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of an axis listed by a 1-d index.

    >>> import adjoint as torch
    >>> torch.index_select(torch.tensor([[1, 2], [3, 4]]), 0, torch.tensor([1, 1]))
    tensor([[3, 4],
            [3, 4]])
    """
    index = _vector("index_select", index)
    axis = axis_of(dim, len(input._aval.key_shape))
    if not input._aval.key_shape:
        if index._aval.size != 1:
            raise RuntimeError(f"index_select(): Index to scalar can have only 1 value, got {index._aval.size} value(s)")
        return record("reshape", (index_select(_lifted(input), 0, index),), ())
    rest = math.prod(n for d, n in enumerate(input._aval.key_shape) if d != axis)
    return take_indexed(input, {axis: position_at_once(index, input._aval.key_shape[axis], False, axis, rest)})


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by position in the flattened tensor; negative ones count from the end.

    >>> import adjoint as torch
    >>> torch.take(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 3]))
    tensor([1, 4])
    """
    _check_index("take", index, LONG)
    return _take(input, index)


def _take(input: Tensor, index: Tensor) -> Tensor:
    if not input._aval.size and index._aval.size:
        raise IndexError(f"take(): tried to take from an empty tensor of shape {list(input._aval.key_shape)}")
    return record("take", (_flat(input), position(index, input._aval.size, True, -1)))


# --- writing in the flattened tensor ----------------------------------------------------------------------------------


def _written(flat: Tensor, places: Tensor, source: Tensor, reduce: str | None, include_self: bool = True) -> Tensor:
    """`flat` with the rows of `source` written at `places`, or combined with what is there or with each other."""
    if reduce is None:
        return record("put", (flat, places, source))
    dtype, n = flat._aval.dtype, flat._aval.key_shape[0]
    if not include_self:
        nothing = record("full", (_neutral(reduce, dtype),), (source._aval.key_shape, dtype))
        flat = record("put", (flat, places, nothing))
    if reduce == "sum":
        return flat + record("put_add", (places, source), n)
    if reduce != "mean":
        return record("put_fold", (flat, places, source), reduce)
    ones = record("full", (1,), (source._aval.key_shape, dtype))
    count = record("put_add", (places, ones), n)
    count = count + 1 if include_self else record("where", (count == 0, 1, count))
    total = flat + record("put_add", (places, source), n)
    return div(total, count, rounding_mode=None if dtype.is_floating_point or dtype.is_complex else "floor")


def _neutral(reduce: str, dtype: Any) -> Any:
    """What changes nothing when combined."""
    if reduce in ("sum", "mean"):
        return False if dtype is dtypes.bool else 0
    if reduce == "prod":
        return True if dtype is dtypes.bool else 1
    if dtype is dtypes.bool:
        return reduce == "amin"
    if dtype.is_floating_point:
        return -math.inf if reduce == "amax" else math.inf
    info = np.iinfo(dtype.np)
    return int(info.min if reduce == "amax" else info.max)


def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """A copy with `source` written, or added, at positions in the flattened tensor.

    >>> import adjoint as torch
    >>> torch.put(torch.zeros(2, 2), torch.tensor([0, -1]), torch.tensor([5., 6.]))
    tensor([[5., 0.],
            [0., 6.]])
    """
    _check_index("put_", index, LONG)
    same_dtype("put_(): self and source expected to have the same dtype", input, source)
    if index._aval.size != source._aval.size:
        raise IndexError(
            f"put_(): Expected source and index to have the same number of elements, but got source.numel() = {source._aval.size}, "
            f"index.numel() = {index._aval.size}"
        )
    if not input._aval.size and index._aval.size:
        raise IndexError(f"put_(): tried to put {index._aval.size} elements into an empty tensor of shape {list(input._aval.key_shape)}")
    places = position(_flat(index), input._aval.size, True, -1)
    new = _written(_flat(input), places, _flat(source), "sum" if accumulate else None)
    return record("reshape", (new,), input._aval.key_shape)


def _scattered(
    name: str, input: Tensor, dim: int, index: Tensor, source: Any, reduce: str | None, include_self: bool = True
) -> Tensor:
    _check_index(name, index)
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if isinstance(source, Tensor):
        same_dtype(f"{name}(): Expected self.dtype to be equal to src.dtype", input, source)
    else:
        source = converted(f"{name}()", plain(source, name), input._aval.dtype)
    if not index._aval.size:  # of any rank: nothing is written, but what is not written may have a gradient
        if not isinstance(source, Tensor):
            return input.clone()
        places = position(_flat(index), input._aval.size, False, axis)
        return record("reshape", (_written(_flat(input), places, _narrowed(_flat(source), (0,)), None),), shape)
    target, index = _lifted(input), _lifted(index)
    where_to = index._aval.key_shape
    ranks = [len(target._aval.key_shape), len(where_to)]
    if isinstance(source, Tensor):
        source = _lifted(source)
        ranks.append(len(source._aval.key_shape))
    if len(set(ranks)) > 1:
        raise RuntimeError(
            f"Index tensor must have the same number of dimensions as self and src tensor: {name} of ranks {ranks[0]} (self), "
            + ", ".join(f"{r} ({what})" for r, what in zip(ranks[1:], ("index", "src")))
        )
    limits = [(target, "self", True)] + ([(source, "src", False)] if isinstance(source, Tensor) else [])
    for other, what, except_axis in limits:
        if any(a > b and not (except_axis and d == axis) for d, (a, b) in enumerate(zip(where_to, other._aval.key_shape))):
            raise RuntimeError(
                f"Expected index {list(where_to)} to be no larger than {what} {list(other._aval.key_shape)} "
                + (f"apart from dimension {axis}" if except_axis else "in every dimension")
            )
    if not isinstance(source, Tensor):
        source = record("full", (source,), (where_to, input._aval.dtype))
    elif source._aval.key_shape != where_to:
        source = _narrowed(source, where_to)
    places = _flat_positions(target._aval.key_shape, axis, index)
    new = _written(_flat(target), _flat(places), _flat(source), reduce, include_self)
    return record("reshape", (new,), shape)


def _narrowed(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The first elements along each axis."""
    return record("slice", (x,), ((0,) * len(shape), shape, (1,) * len(shape)))


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """A copy of `input` with `src` (a tensor or a number) written at `index` along `dim`: the inverse of `gather`.

    Of places named twice the last one stays; `reduce` "add" or "multiply" combines with what is there.

    >>> import adjoint as torch
    >>> torch.scatter(torch.zeros(3), 0, torch.tensor([2, 0]), torch.tensor([1., 2.]))
    tensor([2., 0., 1.])
    """
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError(f"reduce argument must be either add or multiply, got {reduce}")
    how = {None: None, "add": "sum", "multiply": "prod"}[reduce]
    return _scattered("scatter", input, dim, index, value if src is None else src, how)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy with the elements of `src` added at the places `index` names along an axis.

    >>> import adjoint as torch
    >>> torch.scatter_add(torch.zeros(3), 0, torch.tensor([2, 2]), torch.tensor([1., 2.]))
    tensor([0., 0., 3.])
    """
    return _scattered("scatter_add", input, dim, index, src, "sum")


def _check_reduction(name: str, reduce: str, known: tuple[str, ...]) -> None:
    if reduce not in known:
        raise RuntimeError(f"{name}(): reduce argument must be either {', '.join(known[:-1])} or {known[-1]}, got {reduce}")


def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy in which the elements of `src` that point to one place are reduced: "sum", "prod", "mean", "amax", "amin".

    include_self: whether what was at that place takes part. Places that nothing points to stay as they are. Equal
    extremes share the gradient evenly.

    >>> import adjoint as torch
    >>> torch.scatter_reduce(torch.ones(3), 0, torch.tensor([2, 2, 0]), torch.tensor([4., 2., 7.]), "mean", include_self=False)
    tensor([7., 1., 3.])
    """
    _check_reduction("scatter_reduce", reduce, REDUCTIONS)
    return _scattered("scatter_reduce", input, dim, index, src, reduce, include_self)


# --- writing slices of an axis ----------------------------------------------------------------------------------------


def _along(name: str, input: Tensor, dim: int, index: Tensor, source: Tensor, takes: tuple = INTEGERS) -> tuple[int, Tensor]:
    """The axis and the checked index of a function that writes the slices of `source`."""
    index = _vector(name, index, takes)
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    same_dtype(f"{name}(): self and source expected to have the same dtype", input, source)
    wanted = tuple(index._aval.key_shape[0] if d == axis else n for d, n in enumerate(shape))
    have = source._aval.key_shape
    if have != wanted and (shape or have not in ((), index._aval.key_shape)):
        raise RuntimeError(
            f"{name}(): the source must have the shape of self with as many slices along dimension {axis} as the index has "
            f"elements: self {list(shape)}, index {list(index._aval.key_shape)}, so {list(wanted)}, but got {list(have)}"
        )
    find = position_at_once if name == "index_reduce" else position
    return axis, find(index, shape[axis] if shape else 1, False, axis, source._aval.size)


def _slices(input: Tensor, axis: int, places: Tensor, source: Tensor, reduce: str | None = None, include_self: bool = True) -> Tensor:
    """`input` with the slices of `source` written, or combined, at `places` of an axis."""
    shape = input._aval.key_shape
    target = _lifted(input)
    rank = len(target._aval.key_shape)
    order = (axis, *(d for d in range(rank) if d != axis))
    source = _lifted(source)
    if axis:
        target, source = record("permute", (target,), order), record("permute", (source,), order)
    new = _written(target, places, source, reduce, include_self)
    if axis:
        new = record("permute", (new,), (*range(1, axis + 1), 0, *range(axis + 1, rank)))
    return record("reshape", (new,), shape) if new._aval.key_shape != shape else new


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """`source` (times alpha) added to the listed slices of an axis; repeated indices accumulate.

    >>> import adjoint as torch
    >>> torch.index_add(torch.zeros(3), 0, torch.tensor([0, 0, 2]), torch.ones(3))
    tensor([2., 0., 1.])
    """
    axis, places = _along("index_add", input, dim, index, source)
    return _slices(input, axis, places, _times(source, alpha), "sum")


def _times(source: Tensor, alpha: Any) -> Tensor:
    """`alpha * source` in the dtype of `source`, to which alpha is converted."""
    dtype = source._aval.dtype
    alpha = converted("index_add(), alpha", plain(alpha, "index_add"), dtype)
    if dtype is dtypes.bool:
        return source if alpha else source & False
    return source if alpha == 1 else cast(source * alpha, dtype)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy in which the parts at `index` along an axis are those of `source`.

    >>> import adjoint as torch
    >>> torch.index_copy(torch.zeros(3), 0, torch.tensor([2, 0]), torch.tensor([1., 2.]))
    tensor([2., 0., 1.])
    """
    axis, places = _along("index_copy", input, dim, index, source, LONG)
    return _slices(input, axis, places, source)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy in which the parts at `index` along an axis hold one number.

    >>> import adjoint as torch
    >>> torch.index_fill(torch.zeros(3), 0, torch.tensor([2, 0]), 7)
    tensor([7., 0., 7.])
    """
    if isinstance(value, Tensor) and value._aval.key_shape:
        raise RuntimeError(
            f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(value._aval.key_shape)} dimension(s)."
        )
    index = _vector("index_fill", index, LONG, IndexError)
    target, shape, dtype = _lifted(input), input._aval.key_shape, input._aval.dtype
    axis = axis_of(dim, len(shape))
    n = target._aval.key_shape[axis]
    places = position(index, n, True, axis, target._aval.size)
    if not isinstance(value, Tensor):
        value = converted("index_fill()", plain(value, "index_fill"), dtype)
        return record("reshape", (put_indexed(target, {axis: places}, value),), shape)
    yes = record("full", (True,), (index._aval.key_shape, dtypes.bool))
    listed = record("full", (False,), ((n,), dtypes.bool))
    if target._aval.size:
        listed = record("put", (listed, places, yes))
    listed = record("reshape", (listed,), (n, *(1,) * (len(target._aval.key_shape) - axis - 1)))
    # not `put`: a slice that is listed twice holds the value, and so counts, once
    return record("reshape", (where(listed, cast(value, dtype), target),), shape)


def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """A copy in which the slices of `source` that point to one slice are reduced: "prod", "mean", "amax" or "amin".

    >>> import adjoint as torch
    >>> torch.index_reduce(torch.ones(3), 0, torch.tensor([2, 2, 0]), torch.tensor([4., 2., 7.]), "prod")
    tensor([7., 1., 8.])
    """
    _check_reduction("index_reduce", reduce, ("prod", "mean", "amax", "amin"))
    axis, places = _along("index_reduce", input, dim, index, source)
    return _slices(input, axis, places, source, reduce, include_self)
