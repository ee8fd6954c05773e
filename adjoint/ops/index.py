"""Indexing: reading and writing with ints, slices, None, ..., booleans and integer tensors.

Basic indices (ints, slices, None, ...) give views; their starts are run-time arguments. Integer tensors become one
`take` on a flattened axis, writes through them one `put`. A boolean index needs the values of the mask and so runs the
trace, except `x[mask] = number`, which is a `where`.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from adjoint import dtypes
from adjoint.ir.reference import IndexOutOfRange, checked_index
from adjoint.ops.conversion import stored
from adjoint.ops.elementwise import cast
from adjoint.ops.shape import sizes_of
from adjoint.trace import elements, recorder
from adjoint.trace.handle import Parameter, Tensor
from adjoint.trace.recorder import record, record_full, record_one, record_two
from adjoint.trace.state import warn
from adjoint.trace.views import (
    assign,
    check_in_place,
    known_part,
    make_slice_at,
    make_view,
    note_part,
    overwrite,
    replace_element,
)

INTEGERS = (dtypes.int64, dtypes.int32)
ASSIGNMENT = "x[index] = value"  # how errors name it


def getitem(x: Tensor, index: Any) -> Tensor:
    """`x[index]`."""
    kind = type(index)
    if kind is Tensor or kind is Parameter:
        if index._aval.dtype is dtypes.int64 and x._aval.key_shape:
            return record_two("take", x, index) if index._aval.key_shape else _first_at(x, index)
    elif kind is int:
        shape = x._aval.key_shape
        if shape and 0 <= index < shape[0]:
            known = known_part(x, "row", (index,), 1)
            if known is not None:
                return known
        return _first_int(x, index)
    elif kind is slice and index.step is None and x._aval.key_shape:
        return _first_slice(x, index)
    elif kind is tuple:
        place = place_of(x, index)
        if place is not None:
            return _element(x, place)
    part, advanced = parted(x, index)
    if advanced:
        return take_indexed(part, advanced)
    if part is x:
        return make_view(x, "reshape", x._aval.key_shape)
    return part


def _first_int(x: Tensor, index: int) -> Tensor:
    shape = x._aval.key_shape
    if not shape:
        raise IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` in Python to convert a 0-dim tensor to a number")
    n = shape[0]
    if not -n <= index < n:
        raise IndexError(f"index {index} is out of bounds for dimension 0 with size {n}")
    if index < 0:
        known = known_part(x, "row", (index + n,), 1)
        if known is not None:
            return known
    rest = shape[1:]
    part = make_view(x, "slice", ((None, *(0,) * len(rest)), (1, *rest), (1,) * len(shape)), (index % n,))
    out = make_view(part, "reshape", tuple(rest))
    note_part(out, "row", 1, 1)
    return out


def place_of(x: Tensor, index: tuple) -> tuple[int, ...] | None:
    """The element that an index names, each axis counted from the front, if it is one int within range for each axis."""
    shape = x._aval.key_shape
    if len(index) != len(shape):
        return None
    below = False
    for i, n in zip(index, shape, strict=True):
        if type(i) is not int or not -n <= i < n:
            return None
        if i < 0:
            below = True
    return tuple([i if i >= 0 else i + n for i, n in zip(index, shape, strict=True)]) if below else index


_PLACES = [((None,) * rank, (1,) * rank, (1,) * rank) for rank in range(9)]  # attributes of slices, by rank


def _element(x: Tensor, place: tuple[int, ...]) -> Tensor:
    """One element as a view."""
    rank = len(place)
    known = known_part(x, "place", place, rank)
    if known is not None:
        return known
    attrs = _PLACES[rank] if rank < len(_PLACES) else ((None,) * rank, (1,) * rank, (1,) * rank)
    out = make_view(make_view(x, "slice", attrs, place), "reshape", ())
    note_part(out, "place", rank, rank)
    return out


def _first_at(x: Tensor, index: Tensor) -> Tensor:
    """The same for a 0-d tensor, whose value need not be known."""
    n, *rest = x._aval.key_shape
    attrs = ((None, *(0,) * len(rest)), (1, *rest), (1,) * (len(rest) + 1))
    part = make_slice_at(x, "slice", attrs, (position(index, n, True, 0),))
    return make_view(part, "reshape", tuple(rest))


_SLICES: dict[tuple, tuple] = {}  # attributes of slices of the first axis, by what is sliced and how many


def _first_slice(x: Tensor, index: slice) -> Tensor:
    shape = x._aval.key_shape
    n = shape[0]
    begin, end = index.start, index.stop
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end <= n:
        begin, end, _ = slice(_bound(begin), _bound(end)).indices(n)
    count = end - begin if end > begin else 0
    if count == n:
        return make_view(x, "reshape", shape)
    known = known_part(x, "rows", (begin if count else 0,), count)
    if known is not None:
        return known
    attrs = _SLICES.get((x._aval, count))
    if attrs is None:
        if len(_SLICES) > 4096:
            _SLICES.clear()
        rest = shape[1:]
        attrs = ((None, *(0,) * len(rest)), (count, *rest), (1,) * len(shape))
        _SLICES[(x._aval, count)] = attrs
    out = make_view(x, "slice", attrs, (begin if count else 0,))
    note_part(out, "rows", count, 1)
    return out


class _Form(NamedTuple):
    """What indices of ints, slices, None and `...` do that differ in where they begin alone.

    attrs: of the slice, None for none.  shape: of the result, if the slice has another one.  kind, number: under which
    `known_part` knows it.
    """

    attrs: tuple | None
    shape: tuple[int, ...] | None
    kind: str
    number: int


_MOST_FORMS = 4096
_forms: dict[tuple, _Form] = {}  # by shape and, of each item, int, None, `...`, slice for a whole axis, or length and step
_numbers: dict[tuple, int] = {}  # by attributes and shape
_fresh = itertools.count()
_BOUNDS = (int, type(None))


def parted(x: Tensor, index: Any) -> tuple[Tensor, dict[int, Tensor]]:
    """`basic`, faster where an index like this one, of ints, slices, None and `...` alone, was met before."""
    shape = x._aval.key_shape
    rank, axis = len(shape), 0
    key: list[Any] = [shape]
    starts: list[int] = []
    items = index if type(index) is tuple else (index,)
    for k, i in enumerate(items):
        kind = type(i)
        if i is None:
            key.append(None)
        elif i is Ellipsis:
            rest = items[k + 1 :]
            if any([type(r) not in (int, slice, type(None)) for r in rest]):
                return basic(x, index)
            axis = rank - len(rest) + rest.count(None)
            key.append(i)
        elif not 0 <= axis < rank:
            return basic(x, index)
        elif kind is int:
            n = shape[axis]
            if not -n <= i < n:
                return basic(x, index)  # which raises the error
            starts.append(i if i >= 0 else i + n)
            key.append(int)
            axis += 1
        elif kind is slice and type(i.start) in _BOUNDS and type(i.stop) in _BOUNDS and (i.step is None or (type(i.step) is int and i.step > 0)):
            n = shape[axis]
            begin, length, step = _span(i.start, i.stop, i.step or 1, n)
            if begin == 0 and length == n:
                key.append(slice)
            else:
                starts.append(begin)
                key.append((length, step))
            axis += 1
        else:
            return basic(x, index)
    form = _forms.get(tuple(key))
    if form is None:
        return _first_of_form(x, index, tuple(key))
    out = x
    if form.attrs is not None:
        known = known_part(x, form.kind, tuple(starts), form.number)
        if known is not None:
            return known, {}
        out = make_view(x, "slice", form.attrs, tuple(starts))
    if form.shape is not None:
        out = make_view(out, "reshape", form.shape)
    if form.attrs is not None:
        note_part(out, form.kind, form.number, len(starts))
    return out, {}


def _first_of_form(x: Tensor, index: Any, key: tuple) -> tuple[Tensor, dict[int, Tensor]]:
    """`basic`, noting what it does."""
    out, advanced = basic(x, index)
    moves = out._chain[len(x._chain) :] if out is not x else ()
    attrs = moves[0][1] if moves and moves[0][0] == "slice" else None
    shape = tuple(out._aval.shape) if moves and moves[-1][0] == "reshape" else None
    for known in (_forms, _numbers):
        if len(known) >= _MOST_FORMS:
            known.clear()
    number = _numbers.setdefault((attrs, shape), next(_fresh))
    _forms[key] = _Form(attrs, shape, "cut" if shape is None else "part", number)
    return out, advanced


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
    if isinstance(item, Tensor) and not item._aval.key_shape and item._aval.dtype in INTEGERS:
        return item
    if isinstance(item, float) or (item is not None and not isinstance(item, (int, slice, Tensor, type(Ellipsis)))):
        if hasattr(item, "__index__"):
            return item.__index__()
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
            f"(got {type(item).__name__})"
        )
    return item


def _names_axes(index: list) -> bool:
    """Whether a list stands for a tuple, an index for each axis, as PyTorch still takes it, with a warning."""
    named = len(index) < 32 and any(i is None or i is Ellipsis or isinstance(i, slice | Tensor | list | tuple | range | np.ndarray) for i in index)
    if named:
        warn(
            "Using a non-tuple sequence for multidimensional indexing is deprecated; use x[tuple(seq)] for an index of each axis, "
            "x[torch.tensor(seq)] for an index of the first"
        )
    return named


def basic(x: Tensor, index: Any, keep: bool = False) -> tuple[Tensor, dict[int, Tensor]]:
    """Apply the basic part of an index as a view; what remains is {axis: index tensor} of the result.

    keep: whether 0-d index tensors remain, too; else they are ints whose values are not known yet.
    """
    items = list(index) if isinstance(index, tuple) or (type(index) is list and _names_axes(index)) else [index]
    items = [as_index(i) for i in items]
    items = [cast(i, dtypes.bool) if isinstance(i, Tensor) and i._aval.dtype is dtypes.uint8 else i for i in items]
    shape = x._aval.key_shape
    used = 0
    for i in items:
        if isinstance(i, Tensor) and i._aval.dtype is dtypes.bool:
            used += max(len(i._aval.key_shape), 0)
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
    dynamic: list[Any] = []
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
                for d, n in enumerate(i._aval.key_shape):
                    if n != shape[axis + d]:
                        raise IndexError(
                            f"The shape of the mask {list(i._aval.key_shape)} at index {d} does not match the shape of the "
                            f"indexed tensor {list(shape)} at index {axis + d}"
                        )
                found = np.nonzero(np.atleast_1d(recorder.array_of(i)))
                if not i._aval.key_shape:
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
            if not i._aval.key_shape and not keep:  # a view, as of an int
                trivial = False
                starts.append(None)
                dynamic.append(position(i, shape[axis], True, axis))
                sizes.append(1)
                steps.append(1)
                axis += 1
                continue
            advanced[len(new_shape)] = cast(i, dtypes.int64)
            whole(shape[axis])
            axis += 1
            continue
        n = shape[axis]
        if isinstance(i, slice):
            step = 1 if i.step is None else int(i.step)
            if step <= 0:
                raise ValueError("step must be greater than zero")
            begin, length, _ = _span(_bound(i.start), _bound(i.stop), step, n)
            if begin == 0 and length == n:
                whole(n)
                axis += 1
                continue
            trivial = False
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
        make = make_view if all([type(d) is int for d in dynamic]) else make_slice_at
        out = make(x, "slice", (tuple(starts), tuple(sizes), tuple(steps)), tuple(dynamic))
    if tuple(new_shape) != out._aval.key_shape:
        out = make_view(out, "reshape", tuple(new_shape))
    return out, advanced


def _span(start: int | None, stop: int | None, step: int, n: int) -> tuple[int, int, int]:
    """Where a slice of an axis of length n begins (0 if it is empty), its length and its step."""
    begin, end, step = slice(start, stop, step).indices(n)
    length = max(0, -(-(end - begin) // step))
    return (begin if length else 0), length, step


def _bound(b: Any) -> Any:
    return b if b is None or isinstance(b, int) else int(b)


# --- integer tensors --------------------------------------------------------------------------------------------------


def plan(x: Tensor, advanced: dict[int, Tensor]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """(axis order with indexed axes first, common index shape, other sizes, where the index axes go in the result)."""
    axes = sorted(advanced)
    rank = len(x._aval.key_shape)
    order = (*axes, *(d for d in range(rank) if d not in advanced))
    try:
        common = np.broadcast_shapes(*(advanced[a]._aval.key_shape for a in axes))
    except ValueError:
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join(str(list(advanced[a]._aval.key_shape)) for a in axes)
        ) from None
    rest = tuple(x._aval.key_shape[d] for d in order[len(axes) :])
    adjacent = axes[-1] - axes[0] + 1 == len(axes)
    return order, tuple(common), rest, axes[0] if adjacent else 0


def position(index: Tensor, n: int, wraps: bool, axis: int, read: int = 1) -> Tensor:
    """An index into an axis of length n, counted from the front; out of range is an error that names the axis.

    read: how many elements are found with it. PyTorch looks at no index of a result without elements; nor is there
    anything here that could, once all is compiled.
    """
    if n == 0 and index._aval.size:  # whatever it says; what would find that out may have no elements to compute
        raise IndexOutOfRange(f"index is out of bounds for dimension {axis} with size 0; index an axis that has elements")
    if index._aval.dtype is not dtypes.int64:
        index = cast(index, dtypes.int64)
    return record_one("position", index, (n, wraps, axis)) if read else index


def position_at_once(index: Tensor, n: int, wraps: bool, axis: int, read: int) -> Tensor:
    """The same for functions that look at an index even where they find nothing with it."""
    if not read and index._aval.size and n:
        checked_index(recorder.array_of(index), n, wraps, axis)
    return position(index, n, wraps, axis, read)


def linear_index(x: Tensor, advanced: dict[int, Tensor], read: int) -> Tensor:
    """One index into the flattened indexed axes, with which so many elements are found."""
    axes = sorted(advanced)
    if axes == [0]:
        return advanced[0]  # whatever uses it checks it
    linear: Any = None
    for a in axes:
        n = x._aval.key_shape[a]
        i = position(advanced[a], n, True, a, read)
        linear = i if linear is None else linear * n + i
    return linear


def take_indexed(x: Tensor, advanced: dict[int, Tensor]) -> Tensor:
    order, common, rest, place = plan(x, advanced)
    k = len(advanced)
    rank = len(order)
    y = x if order == tuple(range(rank)) else record("permute", (x,), order)
    if k > 1:
        y = record("reshape", (y,), (math.prod(y._aval.key_shape[:k]), *rest))
    out = record("take", (y, linear_index(x, advanced, math.prod((*common, *rest)))))
    c = len(common)
    if place and c + len(rest):
        total = c + len(rest)
        back = (*range(c, c + place), *range(c), *range(c + place, total))
        out = record("permute", (out,), back)
    return out


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """`x[index] = value`, seen by everything that shares the memory of `x`."""
    check_in_place(x)
    place = place_of(x, index if type(index) is tuple else (index,))
    if place:
        if not elements.write(x, place, value):
            if isinstance(value, Tensor) and value._aval.dtype is x._aval.dtype and not value._aval.key_shape and replace_element(x, place, value):
                return
            node = None if isinstance(value, Tensor) else recorder.current().node
            part = _element(x, place)
            if not isinstance(value, Tensor) or value._aval.key_shape or value._aval.dtype is not x._aval.dtype:
                value = fill_value(part, as_value(value, x._aval.dtype), ASSIGNMENT)
            assign(part, value)
            if node is not None:
                elements.recorded(node)
        return
    value = as_value(value, x._aval.dtype)
    if not isinstance(value, Tensor):
        value = number_for(x, value, ASSIGNMENT)
    if isinstance(index, Tensor) and index._aval.dtype is dtypes.bool:
        if not isinstance(value, Tensor) or value._aval.size == 1:
            if index._aval.key_shape != x._aval.key_shape[: len(index._aval.key_shape)]:
                parted(x, index)
            extra = (1,) * (len(x._aval.key_shape) - len(index._aval.key_shape))
            mask = record("reshape", (index,), (*index._aval.key_shape, *extra)) if extra else index
            if isinstance(value, Tensor):
                value = record("reshape", (cast(value, x._aval.dtype),), ())
            new = record("where", (mask, value, x))
            assign(x, cast(new, x._aval.dtype))
            return
    part, advanced = parted(x, index)
    if advanced:
        assign_indexed(part, advanced, value)
        return
    (overwrite if part is x else assign)(part, fill_value(part, value))


def as_value(value: Any, dtype: Any) -> Any:
    """What is written: lists and arrays as tensors, NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return recorder.tensor_from_array(np.asarray(value), dtype=dtype)
    return value.item() if isinstance(value, np.generic) else value


def fill(input: Tensor, value: Tensor | float) -> Tensor:
    """A tensor like `input` with one value everywhere: a number, or a tensor without axes, through which derivatives go.

    RuntimeError for a tensor with axes, and for numbers that the dtype cannot hold.

    >>> import adjoint as torch
    >>> torch.fill(torch.zeros(2), 3)
    tensor([3., 3.])
    """
    if isinstance(value, Tensor) and value._aval.key_shape:
        raise RuntimeError(f"fill only supports 0-dimension value tensor but got tensor with {len(value._aval.key_shape)} dimensions.")
    return fill_value(input, value, "fill()")


def fill_value(target: Tensor, value: Any, call: str = "fill_()") -> Tensor:
    """A number or tensor as a value of the target's shape and dtype."""
    shape, dtype = target._aval.key_shape, target._aval.dtype
    if not isinstance(value, Tensor):
        return record_full(number_for(target, value, call), shape, dtype)
    return fit(value, shape, dtype)


def number_for(target: Tensor, value: Any, call: str) -> Any:
    """A number as it is written into a tensor; RuntimeError if it does not fit, TypeError if it is none."""
    dtype = target._aval.dtype
    if not isinstance(value, (int, float, complex)):
        raise TypeError(f"can't assign a {type(value).__name__} to a torch.{dtype.name} tensor")
    return stored(call, value, dtype)


def fit(value: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """Cast and broadcast a value that is written into a place of this shape."""
    value = cast(value, dtype)
    have = value._aval.key_shape
    if have == shape:
        return value
    while len(have) > len(shape) and have[0] == 1:
        have = have[1:]
    if have != value._aval.key_shape:
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
    shape = x._aval.key_shape
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
    linear = linear_index(x, advanced, math.prod(result))
    if not common:  # one place, named by 0-d tensors
        linear, value = record("reshape", (linear,), (1,)), record("reshape", (value,), (1, *rest))
    elif linear._aval.key_shape != common:
        linear = record("expand", (linear,), common)
    if accumulate:
        new = flat + record("put_add", (linear, value), flat._aval.key_shape[0])
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


def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """A copy of `input` with `values` written, or with accumulate added, at the places that a tuple of indices names.

    Of places named twice the last one stays, unless they accumulate. None among the indices stands for a whole axis.

    >>> import adjoint as torch
    >>> torch.index_put(torch.zeros(3), (torch.tensor([2, 0, 2]),), torch.ones(3), accumulate=True)
    tensor([1., 0., 2.])
    """
    same_dtype("Index put requires the source and destination dtypes match", input, values)
    wrong = [indices] if isinstance(indices, Tensor) else [i for i in indices if i is not None and not isinstance(i, Tensor)]
    if wrong:
        raise TypeError(f"index_put(): argument 'indices' (position 2) must be tuple of Tensors, but it has {type(wrong[0]).__name__}")
    index = tuple([slice(None) if i is None else i for i in indices])
    part, advanced = basic(input, index, keep=True)
    if not advanced:  # all of it
        new = fit(part + values if accumulate else values, part._aval.key_shape, input._aval.dtype)
    else:
        new = put_indexed(part, advanced, values, accumulate)
    shape = input._aval.key_shape
    return new if new._aval.key_shape == shape else record("reshape", (new,), shape)  # a 0-d mask has made an axis


def index_put_(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """`index_put` in place.

    >>> import adjoint as torch
    >>> torch.index_put_(torch.zeros(3), (torch.tensor([2, 0]),), torch.ones(2))
    tensor([1., 0., 1.])
    """
    check_in_place(input)
    return assign(input, index_put(input, indices, values, accumulate))


def same_dtype(what: str, input: Tensor, source: Tensor) -> None:
    """Refuse to write numbers of another dtype."""
    a, b = input._aval.dtype, source._aval.dtype
    if a is not b:
        raise RuntimeError(f"{what}, got {a.name} for the destination and {b.name} for the source; convert with .to({a.name})")


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Positions in a flattened tensor as one index for each axis of `shape`.

    >>> import adjoint as torch
    >>> torch.unravel_index(torch.tensor([1, 5]), (2, 3))
    (tensor([0, 1]), tensor([1, 2]))
    """
    sizes = sizes_of((shape,))
    if min(sizes, default=0) < 0:
        raise ValueError(f"unravel_index(): sizes cannot be negative, but got {sizes}")
    if indices._aval.dtype.is_floating_point or indices._aval.dtype is dtypes.bool:
        raise TypeError(f"unravel_index(): expected integer indices, but got {indices._aval.dtype.name}")
    if not sizes:
        return ()
    out, rest = [], position(indices, min(math.prod(sizes), 2**63 - 1), True, -1)
    for n in reversed(sizes):
        out.append(rest % n if n else rest)
        rest = rest // n if n else rest
    return tuple(reversed(out))
