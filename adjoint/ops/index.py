"""Indexing: reading and writing with ints, slices, None, ..., booleans and integer tensors, and the gather family.

Basic indices (ints, slices, None, ...) give views; their starts are run-time arguments. Integer tensors become one
`take` on a flattened axis, writes through them one `put`. A boolean index needs the values of the mask and so runs the
trace, except `x[mask] = number`, which is a `where`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ir.reference import ASTRAY, STRAY
from adjoint.ops.elementwise import cast, clamp, where
from adjoint.ops.shape import axis_of, expand
from adjoint.trace import recorder
from adjoint.trace.handle import Parameter, Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record, record_full, record_two
from adjoint.trace.views import assign, check_in_place, make_view, overwrite

INTEGERS = (dtypes.int64, dtypes.int32, dtypes.int16, dtypes.int8, dtypes.uint8)


def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]`."""
    kind = type(index)
    if kind is Tensor or kind is Parameter:
        if index._aval.dtype is dtypes.int64 and x._aval.shape:
            return record_two("take", x, index)
    elif kind is int:
        return _first_int(x, index)
    elif kind is slice and index.step is None and x._aval.shape:
        return _first_slice(x, index)
    part, advanced = basic(x, index)
    if advanced:
        return take_indexed(part, advanced)
    if part is x:
        return make_view(x, "reshape", tuple(x._aval.shape))
    return part


def _first_int(x: Tensor, index: int) -> Tensor:
    shape = x._aval.shape
    if not shape:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python to convert a 0-dim tensor to a number")
    n = shape[0]
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of bounds for dimension 0 with size {n}")
    rest = shape[1:]
    part = make_view(x, "slice", ((None, *(0,) * len(rest)), (1, *rest), (1,) * len(shape)), (index % n,))
    return make_view(part, "reshape", tuple(rest))


_SLICES: dict[tuple, tuple] = {}  # attributes of slices of the first axis, by what is sliced and how many


def _first_slice(x: Tensor, index: slice) -> Tensor:
    shape = x._aval.shape
    n = shape[0]
    begin, end = index.start, index.stop
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= n:
        begin, end, _ = slice(_bound(begin), _bound(end)).indices(n)
    count = end - begin if end > begin else 0
    if count == n:
        return make_view(x, "reshape", x._aval.key_shape)
    attrs = _SLICES.get((x._aval, count))
    if attrs is None:
        if len(_SLICES) > 4096:
            _SLICES.clear()
        rest = tuple(shape[1:])
        attrs = ((None, *(0,) * len(rest)), (count, *rest), (1,) * len(shape))
        _SLICES[(x._aval, count)] = attrs
    return make_view(x, "slice", attrs, (begin if count else 0,))


def as_index(item: Any) -> Any:
    """Lists, arrays and NumPy numbers as what they mean in an index."""
    if isinstance(item, np.generic) and item.dtype.kind in "iu":
        return int(item)
    if isinstance(item, (list, np.ndarray)):
        array = np.asarray(item)
        if array.size == 0 and array.dtype.kind == "f":
            array = array.astype(np.int64)
        if array.dtype.kind not in "biu":
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        return recorder.tensor_from_array(array if array.dtype.kind == "b" else array.astype(np.int64))
    if isinstance(item, range):
        return recorder.tensor_from_array(np.array(list(item), dtype=np.int64))
    if isinstance(item, Tensor) and item._aval.dtype is dtypes.uint8:
        return cast(item, dtypes.bool)  # a mask, as in PyTorch
    if isinstance(item, Tensor) and not item._aval.shape and item._aval.dtype in INTEGERS:
        return item
    if isinstance(item, float) or (item is not None and not isinstance(item, (int, slice, Tensor, type(Ellipsis)))):
        if hasattr(item, "__index__"):
            return item.__index__()
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(item).__name__})"
        )
    return item


def basic(x: Tensor, index: Any) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply the basic part of an index as a view; what remains is {axis: index tensor} of the result."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [as_index(i) for i in items]
    shape = x._aval.shape
    used = 0
    for i in items:
        if isinstance(i, Tensor) and i._aval.dtype is dtypes.bool:
            used += max(len(i._aval.shape), 0)
        elif i is not None and i is not Ellipsis and not isinstance(i, bool):
            used += 1
    if used > len(shape):
        if not shape and used == 1 and isinstance(items[0], int):
            raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python to convert a 0-dim tensor to a number")
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    dots = [k for k, i in enumerate(items) if i is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    fill = [slice(None)] * (len(shape) - used)
    if dots:
        items[dots[0] : dots[0] + 1] = fill
    else:
        items += fill
    starts: list[int | None] = []
    sizes: list[int] = []
    steps: list[int] = []
    dynamic: list[int] = []
    new_shape: list[int] = []
    advanced: dict[int, Tensor] = {}
    axis = 0
    trivial = True

    def whole(n: int) -> None:
        starts.append(0)
        sizes.append(n)
        steps.append(1)
        new_shape.append(n)

    for i in items:
        if i is None:
            new_shape.append(1)
            continue
        if isinstance(i, bool):
            advanced[len(new_shape)] = recorder.tensor_from_array(np.zeros(int(i), dtype=np.int64))
            new_shape.append(1)
            continue
        if isinstance(i, Tensor):
            if i._aval.dtype is dtypes.bool:
                for d, n in enumerate(i._aval.shape):
                    if n != shape[axis + d]:
                        raise IndexError(
                            f"The shape of the mask {list(i._aval.shape)} at index {d} does not match the shape of the "
                            f"indexed tensor {list(shape)} at index {axis + d}"
                        )
                found = np.nonzero(np.atleast_1d(recorder.array_of(i)))
                if not i._aval.shape:
                    advanced[len(new_shape)] = recorder.tensor_from_array(found[0].astype(np.int64))
                    new_shape.append(1)
                    continue
                for positions in found:
                    advanced[len(new_shape)] = recorder.tensor_from_array(positions.astype(np.int64))
                    whole(shape[axis])
                    axis += 1
                continue
            if i._aval.dtype not in (dtypes.int64, dtypes.int32):
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            advanced[len(new_shape)] = cast(i, dtypes.int64)
            whole(shape[axis])
            axis += 1
            continue
        n = shape[axis]
        if isinstance(i, slice):
            step = 1 if i.step is None else int(i.step)
            if step <= 0:
                raise ValueError("step must be greater than zero")
            begin, end, _ = slice(_bound(i.start), _bound(i.stop), step).indices(n)
            length = max(0, -(-(end - begin) // step))
            if begin == 0 and length == n:
                whole(n)
                axis += 1
                continue
            trivial = False
            if length == 0:
                begin = 0
            starts.append(None)
            dynamic.append(begin)
            sizes.append(length)
            steps.append(step)
            new_shape.append(length)
        else:
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of bounds for dimension {axis} with size {n}")
            trivial = False
            starts.append(None)
            dynamic.append(i % n)
            sizes.append(1)
            steps.append(1)
        axis += 1
    out = x
    if not trivial:
        out = make_view(x, "slice", (tuple(starts), tuple(sizes), tuple(steps)), tuple(dynamic))
    if tuple(new_shape) != tuple(out._aval.shape):
        out = make_view(out, "reshape", tuple(new_shape))
    return out, advanced


def _bound(b: Any) -> Any:
    return b if b is None or isinstance(b, int) else int(b)


# --- integer tensors --------------------------------------------------------------------------------------------------


def plan(x: Tensor, advanced: dict[int, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """(axis order with indexed axes first, common index shape, other sizes, where the index axes go in the result)."""
    axes = sorted(advanced)
    rank = len(x._aval.shape)
    order = (*axes, *(d for d in range(rank) if d not in advanced))
    try:
        common = np.broadcast_shapes(*(tuple(advanced[a]._aval.shape) for a in axes))
    except ValueError:
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join(str(list(advanced[a]._aval.shape)) for a in axes)
        ) from None
    rest = tuple(x._aval.shape[d] for d in order[len(axes) :])
    adjacent = axes[-1] - axes[0] + 1 == len(axes)
    return order, tuple(common), rest, axes[0] if adjacent else 0


def linear_index(x: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    """One index into the flattened indexed axes; out of range in any of them is out of range in the whole."""
    axes = sorted(advanced)
    if len(axes) == 1:
        return advanced[axes[0]]
    total = math.prod(x._aval.shape[a] for a in axes)
    linear: Any = None
    for a in axes:
        n = x._aval.shape[a]
        i = advanced[a]
        bad = (i < -n) | (i >= n)
        i = where(i < 0, i + n, i)
        i = where(bad, total * n, i)
        linear = i if linear is None else where((linear >= total) | bad, total, linear * n + i)
    return linear


def take_indexed(x: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    order, common, rest, place = plan(x, advanced)
    k = len(advanced)
    rank = len(order)
    y = x if order == tuple(range(rank)) else record("permute", (x,), order)
    if k > 1:
        y = record("reshape", (y,), (math.prod(y._aval.shape[:k]), *rest))
    out = record("take", (y, linear_index(x, advanced)))
    c = len(common)
    if place and c + len(rest):
        total = c + len(rest)
        back = (*range(c, c + place), *range(c), *range(c + place, total))
        out = record("permute", (out,), back)
    return out


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """`x[index] = value`, seen by everything that shares the memory of `x`."""
    check_in_place(x)
    if not isinstance(value, Tensor):
        if isinstance(value, (list, tuple, np.ndarray)):
            value = recorder.tensor_from_array(np.asarray(value), dtype=x._aval.dtype)
        elif isinstance(value, np.generic):
            value = value.item()
    if isinstance(index, Tensor) and index._aval.dtype is dtypes.bool:
        if not isinstance(value, Tensor) or value._aval.size == 1:
            if index._aval.shape != x._aval.shape[: len(index._aval.shape)]:
                basic(x, index)
            extra = (1,) * (len(x._aval.shape) - len(index._aval.shape))
            mask = record("reshape", (index,), (*index._aval.shape, *extra)) if extra else index
            if isinstance(value, Tensor):
                value = record("reshape", (cast(value, x._aval.dtype),), ())
            new = record("where", (mask, value, x))
            assign(x, cast(new, x._aval.dtype))
            return
    part, advanced = basic(x, index)
    if advanced:
        assign_indexed(part, advanced, value)
        return
    (overwrite if part is x else assign)(part, fill_value(part, value))


def fill_value(target: Tensor, value: Any) -> Tensor:
    """A number or tensor as a value of the target's shape and dtype."""
    shape, dtype = tuple(target._aval.shape), target._aval.dtype
    if not isinstance(value, Tensor):
        if not isinstance(value, (int, float)) and not (dtype.is_complex and isinstance(value, complex)):
            raise TypeError(f"can't assign a {type(value).__name__} to a torch.{dtype.name} tensor")
        return record_full(value, shape, dtype)
    return fit(value, shape, dtype)


def fit(value: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Cast and broadcast a value that is written into a place of this shape."""
    value = cast(value, dtype)
    have = tuple(value._aval.shape)
    if have == shape:
        return value
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    if have != tuple(value._aval.shape):
        value = record("reshape", (value,), have)
    lead = len(shape) - len(have)
    if lead < 0 or any(a not in (1, b) for a, b in zip(have, shape[lead:], strict=True)):
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(have)} cannot be broadcast to indexing result of shape {list(shape)}"
        )
    return record("expand", (value,), shape)


def assign_indexed(x: Tensor, advanced: dict[int, Tensor], value: Any, accumulate: bool = False) -> None:
    assign(x, put_indexed(x, advanced, value, accumulate))


def put_indexed(x: Tensor, advanced: dict[int, Tensor], value: Any, accumulate: bool = False) -> Tensor:
    """`x` with `value` written (or added) at the indexed places."""
    order, common, rest, place = plan(x, advanced)
    k, c, rank = len(advanced), len(common), len(order)
    shape = tuple(x._aval.shape)
    result = (*rest[:place], *common, *rest[place:])
    dtype = x._aval.dtype
    if isinstance(value, Tensor):
        value = fit(value, result, dtype)
    else:
        value = record("full", (value,), (result, dtype))
    if place:  # index axes to the front, as take produced them
        value = record("permute", (value,), (*range(place, place + c), *range(place), *range(place + c, c + len(rest))))
    y = x if order == tuple(range(rank)) else record("permute", (x,), order)
    front = tuple(shape[a] for a in order[:k])
    flat = record("reshape", (y,), (math.prod(front), *rest)) if k > 1 else y
    linear = linear_index(x, advanced)
    if tuple(linear._aval.shape) != common:
        linear = record("expand", (linear,), common)
    if accumulate:
        new = flat + record("put_add", (linear, value), flat._aval.shape[0])
    else:
        new = record("put", (flat, linear, value))
    if k > 1:
        new = record("reshape", (new,), (*front, *rest))
    if order != tuple(range(rank)):
        inverse = [0] * rank
        for i, p in enumerate(order):
            inverse[p] = i
        new = record("permute", (new,), tuple(inverse))
    return new


# --- the gather family ------------------------------------------------------------------------------------------------


def _check_index(name: str, index: Any) -> None:
    if not isinstance(index, Tensor) or index._aval.dtype not in (dtypes.int64, dtypes.int32):
        got = index._aval.dtype.name if isinstance(index, Tensor) else type(index).__name__
        raise RuntimeError(f"{name}(): Expected dtype int64 for index, got {got}")


def _flat_positions(shape: tuple[int, ...], axis: int, index: Tensor) -> Tensor:
    """Where `index` along `axis`, at its own place in the other axes, points in a flattened tensor of `shape`."""
    n = shape[axis]
    total = math.prod(shape)
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    index = cast(index, dtypes.int64)
    stray = clamp(index, -STRAY, STRAY) * total + (ASTRAY + STRAY * total)
    flat = where((index < 0) | (index >= n), stray, index * strides[axis])
    for d, count in enumerate(index._aval.shape):
        if d != axis and count > 1:
            along = (1,) * d + (count,) + (1,) * (len(shape) - d - 1)
            flat = flat + record("reshape", (record("iota", (), count),), along) * strides[d]
    return flat


@composite("GatherBackward0")
def _gather(x: Tensor, axis: int, index: Tensor) -> Tensor:
    flat = record("reshape", (x,), (x._aval.size,))
    return record("take", (flat, _flat_positions(tuple(x._aval.shape), axis, index)))


def gather(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0, and so on; index has the rank of input.

    >>> import adjoint as torch
    >>> torch.gather(torch.tensor([[1, 2], [3, 4]]), 1, torch.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    _check_index("gather", index)
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if len(index._aval.shape) != len(shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for d, (a, b) in enumerate(zip(index._aval.shape, shape, strict=True)):
        if d != axis and a > b:
            raise RuntimeError(
                f"Size does not match at dimension {d} expected index {list(index._aval.shape)} to be no larger than self "
                f"{list(shape)} apart from dimension {axis}"
            )
    return _gather(input, axis, index)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """Along one axis, the elements that `indices` names; without `dim`, of the flattened tensor.

    >>> import adjoint as torch
    >>> torch.take_along_dim(torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1], [0]]), 1)
    tensor([[2],
            [3]])
    """
    if dim is None:
        return gather(record("reshape", (input,), (input._aval.size,)), 0, indices.reshape(-1))
    axis = axis_of(dim, len(input._aval.shape))
    rest = np.broadcast_shapes(
        *(tuple(1 if d == axis else n for d, n in enumerate(x._aval.shape)) for x in (input, indices))
    )
    wide = tuple(input._aval.shape[axis] if d == axis else n for d, n in enumerate(rest))
    narrow = tuple(indices._aval.shape[axis] if d == axis else n for d, n in enumerate(rest))
    return gather(expand(input, wide), axis, expand(indices, narrow))


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices of an axis listed by a 1-d index.

    >>> import adjoint as torch
    >>> torch.index_select(torch.tensor([[1, 2], [3, 4]]), 0, torch.tensor([1, 1]))
    tensor([[3, 4],
            [3, 4]])
    """
    _check_index("index_select", index)
    if len(index._aval.shape) > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    axis = axis_of(dim, len(input._aval.shape))
    index = cast(index if index._aval.shape else index.reshape(1), dtypes.int64)
    return take_indexed(input, {axis: index})


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by position in the flattened tensor.

    >>> import adjoint as torch
    >>> torch.take(torch.tensor([[1, 2], [3, 4]]), torch.tensor([0, 3]))
    tensor([1, 4])
    """
    return record("take", (record("reshape", (input,), (input._aval.size,)), cast(index, dtypes.int64)))


def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """A copy of `input` with `src` written at `index` along `dim` (the inverse of `gather`); `reduce="add"` adds.

    >>> import adjoint as torch
    >>> torch.scatter(torch.zeros(3), 0, torch.tensor([2, 0]), torch.tensor([1., 2.]))
    tensor([2., 0., 1.])
    """
    _check_index("scatter", index)
    axis = axis_of(dim, len(input._aval.shape))
    shape = tuple(input._aval.shape)
    source = value if src is None else src
    flat = record("reshape", (input,), (input._aval.size,))
    at = _flat_positions(shape, axis, index)
    where_to = tuple(index._aval.shape)
    if isinstance(source, Tensor):
        source = cast(source, input._aval.dtype)
        if tuple(source._aval.shape) != where_to:
            if any(a > b for a, b in zip(where_to, source._aval.shape, strict=True)):
                raise RuntimeError(
                    f"Expected index {list(where_to)} to be no larger than src {list(source._aval.shape)} in every dimension"
                )
            source = record("slice", (source,), ((0,) * len(where_to), where_to, (1,) * len(where_to)))
    else:
        source = record("full", (source,), (where_to, input._aval.dtype))
    if reduce == "add":
        new = flat + record("put_add", (at, source), input._aval.size)
    elif reduce is None:
        new = record("put", (flat, at, source))
    else:
        raise RuntimeError(f"reduce argument must be either add or None, got {reduce}")
    return record("reshape", (new,), shape)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """A copy with the elements of `src` added at the places `index` names along an axis.

    >>> import adjoint as torch
    >>> torch.scatter_add(torch.zeros(3), 0, torch.tensor([2, 2]), torch.tensor([1., 2.]))
    tensor([0., 0., 3.])
    """
    return scatter(input, dim, index, src, reduce="add")


def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """`source` (times alpha) added to the listed slices of an axis; repeated indices accumulate.

    >>> import adjoint as torch
    >>> torch.index_add(torch.zeros(3), 0, torch.tensor([0, 0, 2]), torch.ones(3))
    tensor([2., 0., 1.])
    """
    axis = axis_of(dim, len(input._aval.shape))
    scaled = source if alpha == 1 else source * alpha
    return put_indexed(input, {axis: cast(index, dtypes.int64)}, scaled, accumulate=True)


def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """A copy in which the parts at `index` along an axis are those of `source`.

    >>> import adjoint as torch
    >>> torch.index_copy(torch.zeros(3), 0, torch.tensor([2, 0]), torch.tensor([1., 2.]))
    tensor([2., 0., 1.])
    """
    return put_indexed(input, {axis_of(dim, len(input._aval.shape)): cast(index, dtypes.int64)}, source)


def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """A copy in which the parts at `index` along an axis hold one number.

    >>> import adjoint as torch
    >>> torch.index_fill(torch.zeros(3), 0, torch.tensor([2, 0]), 7)
    tensor([7., 0., 7.])
    """
    return put_indexed(input, {axis_of(dim, len(input._aval.shape)): cast(index, dtypes.int64)}, value)


def index_put(input: Tensor, indices: Any, values: Any, accumulate: bool = False) -> Tensor:
    part, advanced = basic(input, tuple(indices))
    return put_indexed(part, advanced, values, accumulate)


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where the mask holds, else `input`.

    >>> import adjoint as torch
    >>> torch.masked_fill(torch.tensor([1, 2]), torch.tensor([True, False]), 0)
    tensor([0, 2])
    """
    if mask._aval.dtype is not dtypes.bool:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask._aval.dtype.name}")
    if isinstance(value, Tensor):
        if value._aval.shape:
            raise RuntimeError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(value._aval.shape)} dimension(s)."
            )
        value = cast(value, input._aval.dtype)
    return cast(where(mask, value, input), input._aval.dtype)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector.

    >>> import adjoint as torch
    >>> torch.masked_select(torch.tensor([1, 2, 3]), torch.tensor([True, False, True]))
    tensor([1, 3])
    """
    shape = np.broadcast_shapes(tuple(input._aval.shape), tuple(mask._aval.shape))
    return getitem(expand(input, shape), expand(mask, shape))


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy in which the elements where `mask` is true are taken from `source`, in order.

    >>> import adjoint as torch
    >>> torch.masked_scatter(torch.zeros(3), torch.tensor([True, False, True]), torch.tensor([1., 2.]))
    tensor([1., 0., 2.])
    """
    out = input.clone()
    count = int(mask.sum().item())
    setitem(out, expand(mask, tuple(out._aval.shape)), source.reshape(-1)[:count])
    return out


def nonzero(input: Tensor, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements: one row each, or a tuple with one vector per axis.

    >>> import adjoint as torch
    >>> torch.nonzero(torch.tensor([0, 5, 6]))
    tensor([[1],
            [2]])
    """
    found = np.nonzero(np.atleast_1d(recorder.array_of(input)))
    if as_tuple:
        return tuple(recorder.tensor_from_array(f.astype(np.int64)) for f in found)
    rows = np.stack(found, axis=1) if input._aval.shape else np.zeros((len(found[0]), 0))
    return recorder.tensor_from_array(rows.astype(np.int64))
