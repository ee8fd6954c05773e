"""Views: reshape, permute, narrow, diagonal, as_strided and their like, and what axis and size arguments mean.

Results are views where PyTorch's are. `joining.py` splits and joins, `rearrange.py` makes new tensors. Axis arguments may be negative; a wrong one raises IndexError in PyTorch's words.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from adjoint import dtypes, layouts
from adjoint.trace import strides
from adjoint.trace.aval import contiguous_strides
from adjoint.trace.handle import Tensor
from adjoint.trace.moves import layout_of
from adjoint.trace.recorder import alias, local, record
from adjoint.trace.views import alias_view, make_composed_view, make_view


def axis_of(dim: int, rank: int) -> int:
    """A non-negative axis."""
    if not isinstance(dim, int):
        if hasattr(dim, "__index__"):
            dim = dim.__index__()
        else:
            raise TypeError(f"argument 'dim' must be an int, not {type(dim).__name__} ({dim!r:.60})")
    bound = max(rank, 1)
    if not -bound <= dim < bound:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], but got {dim})"
        )
    return dim + bound if dim < 0 else dim


def axes_of(dim: Any, rank: int) -> tuple[int, ...]:
    """Increasing non-negative axes; None or () means all."""
    if type(dim) is int and 0 <= dim < rank:
        return (dim,)
    if dim is None:
        return tuple(range(rank))
    if isinstance(dim, (list, tuple)):
        axes = tuple(sorted(axis_of(d, rank) for d in dim))
        if len(set(axes)) != len(axes):
            raise RuntimeError(f"dim {dim[-1]} appears multiple times in the list of dims {list(dim)}")
        if not axes:
            return tuple(range(rank))
        return axes if rank else ()
    axis = axis_of(dim, rank)
    return (axis,) if rank else ()


def sizes_of(sizes: tuple) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence. TypeError for anything but integers."""
    if len(sizes) == 1 and isinstance(sizes[0], (list, tuple)):
        sizes = tuple(sizes[0])
    try:
        return tuple(s if isinstance(s, int) else operator.index(s) for s in sizes)
    except TypeError:
        wrong = next(s for s in sizes if not hasattr(s, "__index__"))
        raise TypeError(f"sizes must be ints, not {type(wrong).__name__}: got {list(sizes)}") from None


def resolve_shape(sizes: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Fill in a -1 and check the number of elements."""
    if -1 in sizes:
        if sizes.count(-1) > 1:
            raise RuntimeError("only one dimension can be inferred")
        known = math.prod(s for s in sizes if s != -1)
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of {numel} elements into shape {list(sizes)} because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )
        if numel % known:
            raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {numel}")
        return tuple(numel // known if s == -1 else s for s in sizes)
    if any(s < 0 for s in sizes):
        raise RuntimeError(f"invalid shape dimension {min(sizes)}: sizes must be -1 or non-negative, got {list(sizes)}")
    if math.prod(sizes) != numel:
        raise RuntimeError(f"shape '{list(sizes)}' is invalid for input of size {numel}")
    return sizes


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape: a view where the strides allow, else a copy. One size may be -1.

    Raises RuntimeError if the number of elements differs.

    >>> import adjoint as torch
    >>> torch.arange(6).reshape(2, -1).shape
    torch.Size([2, 3])
    """
    a = input._aval
    new = resolve_shape(sizes_of(shape), a.size)
    if input._base is not None and strides.reshape_strides(a.shape, a.strides, new) is None:
        return record("reshape", (input,), new)
    return make_view(input, "reshape", new)


PLAIN = {bool: dtypes.bool, int: dtypes.int64, float: dtypes.float64, complex: dtypes.complex128}


def view(input: Tensor, *shape: Any, dtype: Any = None, size: Any = None) -> Tensor:
    """Like `reshape`, but only ever a view: RuntimeError where that is impossible.

    With a dtype the same memory read as numbers of that dtype, as a view without derivative. Where these are smaller or larger,
    the last axis grows or shrinks; it has to lie in order, and sizes, other strides and the offset to be whole.

    >>> import adjoint as torch
    >>> x = torch.tensor([1., -2.])
    >>> x.view(torch.int32)
    tensor([ 1065353216, -1073741824], dtype=torch.int32)
    >>> x.view(torch.uint8)
    tensor([  0,   0, 128,  63,   0,   0,   0, 192], dtype=torch.uint8)
    """
    given = shape[0] if len(shape) == 1 else dtype
    if not shape and size is not None:
        shape = (size,)
    if isinstance(given, (dtypes.DType, type)):
        return _reinterpreted(input, PLAIN.get(given, given))  # type: ignore[arg-type]
    a = input._aval
    new = resolve_shape(sizes_of(shape), a.size)
    if input._base is not None and strides.reshape_strides(a.shape, a.strides, new) is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            f"contiguous subspaces). Use .reshape(...) instead. (shape {list(a.shape)}, strides {list(a.strides)} -> {list(new)})"
        )
    return make_view(input, "reshape", new)


def _reinterpreted(input: Tensor, new: dtypes.DType) -> Tensor:
    old = input._aval.dtype
    if new is old:
        return alias_like(input)
    if new.itemsize != old.itemsize:
        _check_whole(input, old, new)
    return make_view(input, "reinterpret", (old, new))


def _check_whole(input: Tensor, old: dtypes.DType, new: dtypes.DType) -> None:
    """Whether rows of memory hold whole numbers of another size, in PyTorch's words."""
    sizes, steps = input._aval.key_shape, strides.strides_of(input)
    rest = f" to view {dtypes.LEGACY[old]} as {dtypes.LEGACY[new]} (different element sizes)"
    if not sizes:
        raise RuntimeError(f"self.dim() cannot be 0{rest}; use .reshape(1) first")
    if steps[-1] != 1:
        raise RuntimeError(f"self.stride(-1) must be 1{rest}, but got {steps[-1]}; use .contiguous() first")
    ratio = new.itemsize // old.itemsize
    if ratio <= 1:
        return
    places = {"size(-1)": sizes[-1], "storage_offset()": layout_of(input)[2], **{f"stride({d})": s for d, s in enumerate(steps[:-1])}}
    for place, number in places.items():
        if number % ratio:
            raise RuntimeError(f"self.{place} must be divisible by {ratio}{rest}, but got {number}")


def alias_like(input: Tensor) -> Tensor:
    return make_view(input, "reshape", input._aval.key_shape)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axes in another order, as a view.

    >>> import adjoint as torch
    >>> torch.permute(torch.zeros(2, 3, 4), (2, 0, 1)).shape
    torch.Size([4, 2, 3])
    """
    order = sizes_of(dims)
    rank = len(input._aval.key_shape)
    if len(order) != rank:
        raise RuntimeError(
            f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {rank} is not equal to len(dims) = {len(order)}"
        )
    axes = tuple(axis_of(d, rank) for d in order) if rank else ()
    if len(set(axes)) != rank:
        raise RuntimeError(f"permute(): duplicate dims are not allowed: {list(order)}")
    return make_view(input, "permute", axes)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged; a view.

    >>> import adjoint as torch
    >>> torch.transpose(torch.zeros(2, 3), 0, 1).shape
    torch.Size([3, 2])
    """
    rank = len(input._aval.key_shape)
    i, j = axis_of(dim0, rank), axis_of(dim1, rank)
    axes = list(range(rank))
    if rank:
        axes[i], axes[j] = axes[j], axes[i]
    return make_view(input, "permute", tuple(axes))


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Axes moved to other places, the rest in their order.

    >>> import adjoint as torch
    >>> torch.movedim(torch.zeros(2, 3, 4), 0, 2).shape
    torch.Size([3, 4, 2])
    """
    rank = len(input._aval.key_shape)
    src = [axis_of(d, rank) for d in ([source] if isinstance(source, int) else source)]
    dst = [axis_of(d, rank) for d in ([destination] if isinstance(destination, int) else destination)]
    order: list[int] = [-1] * rank
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter(i for i in range(rank) if i not in src)
    return make_view(input, "permute", tuple(next(rest) if o < 0 else o for o in order))


def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and numbers stay as they are. A view.

    >>> import adjoint as torch
    >>> torch.t(torch.tensor([[1, 2], [3, 4]]))
    tensor([[1, 3],
            [2, 4]])
    """
    rank = len(input._aval.key_shape)
    if rank > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return make_view(input, "permute", (1, 0)) if rank == 2 else alias_like(input)


def reverse_axes(input: Tensor) -> Tensor:
    """`Tensor.T`: all axes reversed."""
    return make_view(input, "permute", tuple(reversed(range(len(input._aval.key_shape)))))


def matrix_transpose(input: Tensor) -> Tensor:
    """`Tensor.mT`: the last two axes exchanged."""
    if len(input._aval.key_shape) < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {len(input._aval.key_shape)}-D tensor.")
    return transpose(input, -2, -1)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Axes of length 1 removed: all of them or those of `dim`; a view.

    >>> import adjoint as torch
    >>> torch.squeeze(torch.zeros(1, 3, 1)).shape
    torch.Size([3])
    """
    shape = input._aval.key_shape
    rank = len(shape)
    axes = range(rank) if dim is None else axes_of(dim, rank)
    gone = {d for d in axes if shape[d] == 1}
    return make_view(input, "reshape", tuple(n for d, n in enumerate(shape) if d not in gone))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new axis of length 1; a view.

    >>> import adjoint as torch
    >>> torch.unsqueeze(torch.zeros(3), 0).shape
    torch.Size([1, 3])
    """
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape) + 1)
    return make_view(input, "reshape", (*shape[:axis], 1, *shape[axis:]))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` merged into one.

    >>> import adjoint as torch
    >>> torch.flatten(torch.zeros(2, 3, 4), 1).shape
    torch.Size([2, 12])
    """
    shape = input._aval.key_shape
    rank = len(shape)
    if rank == 0:
        return reshape(input, 1)
    i, j = axis_of(start_dim, rank), axis_of(end_dim, rank)
    if i > j:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return reshape(input, (*shape[:i], math.prod(shape[i : j + 1]), *shape[j + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """The tensor with one axis.

    >>> import adjoint as torch
    >>> torch.ravel(torch.tensor([[1, 2], [3, 4]]))
    tensor([1, 2, 3, 4])
    """
    return reshape(input, -1)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis split into several; one of the sizes may be -1.

    >>> import adjoint as torch
    >>> torch.unflatten(torch.zeros(6, 2), 0, (2, 3)).shape
    torch.Size([2, 3, 2])
    """
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    return reshape(input, (*shape[:axis], *resolve_shape(tuple(sizes), shape[axis]), *shape[axis + 1 :]))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Axes of size 1 stretched without copying (-1 keeps a size), new axes in front."""
    shape = input._aval.key_shape
    new = list(sizes_of(sizes))
    lead = len(new) - len(shape)
    if lead < 0:
        raise RuntimeError(
            f"expand({list(shape)}, size={new}): the number of sizes provided ({len(new)}) must be greater or equal to "
            f"the number of dimensions in the tensor ({len(shape)})"
        )
    for i, n in enumerate(new):
        old = shape[i - lead] if i >= lead else 1
        if n == -1 and i >= lead:
            new[i] = old
        elif n < 0:
            raise RuntimeError(f"expand: the size {n} is not allowed in a leading, non-existing dimension {i}")
        elif old not in (1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton "
                f"dimension {i}.  Target sizes: {new}.  Tensor sizes: {list(shape)}"
            )
    return make_view(input, "expand", tuple(new))


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    """A view expanded to `shape`.

    >>> import adjoint as torch
    >>> torch.broadcast_to(torch.tensor([1, 2]), (2, 2))
    tensor([[1, 2],
            [1, 2]])
    """
    return expand(input, tuple(size))


def broadcast_tensors(*tensors: Tensor) -> list[Tensor]:
    """The tensors expanded to their common shape.

    >>> import adjoint as torch
    >>> a, b = torch.broadcast_tensors(torch.zeros(3, 1), torch.zeros(2))
    >>> a.shape, b.shape
    (torch.Size([3, 2]), torch.Size([3, 2]))
    """
    from adjoint.trace.infer import broadcast

    shape = broadcast("broadcast_tensors", [x._aval.key_shape for x in tensors])
    return [expand(x, shape) for x in tensors]


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if it lies in row-major order, else a copy; no other `memory_format` is kept."""
    return input if input._base is None or input._aval.contiguous else clone(input)


def in_order(input: Tensor, memory_format: Any = None) -> bool:
    """`is_contiguous`: whether the elements lie in row-major order without gaps; with channels last, if that is asked.

    >>> import adjoint as torch
    >>> torch.zeros(2, 4, 4, 3).permute(0, 3, 1, 2).is_contiguous(memory_format=torch.channels_last)
    True
    """
    if memory_format in (layouts.channels_last, layouts.channels_last_3d):
        rank = 4 if memory_format is layouts.channels_last else 5
        a = input._aval
        if len(a.shape) != rank:
            return False
        order = (0, *range(2, rank), 1)
        shape = tuple([a.shape[d] for d in order])
        regular = contiguous_strides(shape)
        return all([n == 1 or a.strides[d] == step for d, n, step in zip(order, shape, regular, strict=True)])
    return input._base is None or input._aval.contiguous


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with its own memory; differentiable. It lies in row-major order, whatever the `memory_format`.

    >>> import adjoint as torch
    >>> x = torch.zeros(2)
    >>> torch.clone(x).add_(1), x
    (tensor([1., 1.]), tensor([0., 0.]))
    """
    return alias(input, "clone", input._aval.requires_grad and local.trace.grad)


def detach(input: Tensor) -> Tensor:
    """The same memory, cut off from the graph.

    >>> import adjoint as torch
    >>> torch.ones(2, requires_grad=True).detach().requires_grad
    False
    """
    return alias_view(input)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements of an axis from `start`, as a view.

    >>> import adjoint as torch
    >>> torch.narrow(torch.arange(5), 0, 1, 3)
    tensor([1, 2, 3])
    """
    shape = input._aval.key_shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor; unsqueeze it first")
    axis = axis_of(dim, len(shape))
    n = shape[axis]
    if not (type(start) is int and type(length) is int):
        start, length = operator.index(start), operator.index(length)
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_axis(input, axis, start, length, 1)


def slice_axis(input: Tensor, axis: int, start: int, length: int, step: int) -> Tensor:
    """A view of `length` elements of one axis; the start is a run-time argument."""
    shape = input._aval.key_shape
    starts = tuple(None if d == axis else 0 for d in range(len(shape)))
    sizes = tuple(length if d == axis else n for d, n in enumerate(shape))
    steps = tuple(step if d == axis else 1 for d in range(len(shape)))
    return make_view(input, "slice", (starts, sizes, steps), (start,))


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The part at one index of an axis, without that axis; a view.

    >>> import adjoint as torch
    >>> torch.select(torch.tensor([[1, 2], [3, 4]]), 1, 0)
    tensor([1, 3])
    """
    shape = input._aval.key_shape
    axis = axis_of(dim, len(shape))
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    n = shape[axis]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {axis}")
    part = slice_axis(input, axis, index % n, 1, 1)
    return make_view(part, "reshape", (*shape[:axis], *shape[axis + 1 :]))


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes as a new last axis, as a view. Raises RuntimeError if the two axes are the same.

    >>> import adjoint as torch
    >>> x = torch.zeros(2, 2)
    >>> _ = x.diagonal().fill_(3)
    >>> x
    tensor([[3., 0.],
            [0., 3.]])
    """
    rank = len(input._aval.key_shape)
    return make_composed_view(input, "diagonal", (offset, *two_axes(dim1, dim2, rank)))


def two_axes(dim1: int, dim2: int, rank: int) -> tuple[int, int]:
    """The axes of a diagonal."""
    i, j = axis_of(dim1, rank), axis_of(dim2, rank)
    if i == j:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return i, j


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of an axis: `size` elements every `step`, as a new last axis; a view."""
    rank = len(input._aval.key_shape)
    axis = axis_of(dimension, rank)
    n = input._aval.key_shape[axis] if rank else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if not rank:
        return narrow(reshape(input, 1), 0, 0, size)
    return make_composed_view(input, "window", ((axis,), (size,), (step,), (1,)))


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the tensor's memory with the given sizes, strides and offset, counted in elements.

    The memory is that of the tensor this one is a view of. Results of operations lie in row-major order. Windows may
    overlap; writing through overlapping ones, the last element written to a place stays. RuntimeError for negative
    strides, and where the view would leave the memory.

    >>> import adjoint as torch
    >>> torch.as_strided(torch.arange(5), (3, 3), (1, 1))
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    sizes, steps = sizes_of((tuple(size),)), sizes_of((tuple(stride),))
    if len(sizes) != len(steps):
        raise RuntimeError(f"mismatch in length of strides and shape: as_strided of sizes {list(sizes)} and strides {list(steps)}")
    if any(s < 0 for s in steps):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(steps)}")
    if any(n < 0 for n in sizes):
        raise RuntimeError(f"as_strided: negative sizes are not allowed, got sizes: {list(sizes)}")
    offset = layout_of(input)[2] if storage_offset is None else sizes_of((storage_offset,))[0]
    if offset < 0:
        raise RuntimeError(f"as_strided: the storage offset {offset} is negative")
    base = input._base if input._base is not None else input
    last = offset + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
    if 0 not in sizes and last >= base._aval.size:
        width = base._aval.dtype.itemsize
        raise RuntimeError(
            f"setStorage: sizes {list(sizes)}, strides {list(steps)}, storage offset {offset}, and itemsize {width} requiring a "
            f"storage size of {(last + 1) * width} are out of bounds for storage of size {base._aval.nbytes}"
        )
    return make_composed_view(input, "as_strided", (sizes, steps, offset))


def size_of(input: Tensor, dim: int | None = None) -> Any:
    shape = input._aval.key_shape
    return shape if dim is None else shape[axis_of(dim, len(shape))]
