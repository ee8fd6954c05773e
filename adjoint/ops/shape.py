"""Shape and movement: reshape, permute, slice and what is made of them. Results are views where PyTorch's are.

Axis arguments may be negative; a wrong one raises IndexError in PyTorch's words.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from adjoint import dtypes
from adjoint.ops.elementwise import cast
from adjoint.trace import recorder, strides
from adjoint.trace.aval import is_contiguous
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import alias, local, record
from adjoint.trace.views import alias_view, make_view


def axis_of(dim: int, rank: int) -> int:
    """A non-negative axis."""
    if not isinstance(dim, int):
        if hasattr(dim, "__index__"):
            dim = dim.__index__()
        else:
            raise TypeError(f"a dimension must be an int, not {type(dim).__name__}")
    bound = max(rank, 1)
    if not -bound <= dim < bound:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-bound}, {bound - 1}], but got {dim})"
        )
    return dim + bound if dim < 0 else dim


def axes_of(dim: Any, rank: int) -> tuple[int, ...]:
    """Increasing non-negative axes; None or () means all."""
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
    if strides.reshape_strides(a.shape, a.strides, new) is None:
        return record("reshape", (input,), new)
    return make_view(input, "reshape", new)


def view(input: Tensor, *shape: Any) -> Tensor:
    """Like `reshape`, but only ever a view: RuntimeError where that is impossible. With a dtype of the same size: refused."""
    if len(shape) == 1 and isinstance(shape[0], dtypes.DType):
        if shape[0] is input._aval.dtype:
            return alias_like(input)
        raise RuntimeError("view(dtype) reinterprets memory and is not supported; use .to(dtype) to convert values")
    a = input._aval
    new = resolve_shape(sizes_of(shape), a.size)
    if strides.reshape_strides(a.shape, a.strides, new) is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            f"contiguous subspaces). Use .reshape(...) instead. (shape {list(a.shape)}, strides {list(a.strides)} -> {list(new)})"
        )
    return make_view(input, "reshape", new)


def alias_like(input: Tensor) -> Tensor:
    return make_view(input, "reshape", tuple(input._aval.shape))


def permute(input: Tensor, *dims: Any) -> Tensor:
    """Axes in another order, as a view.

    >>> import adjoint as torch
    >>> torch.permute(torch.zeros(2, 3, 4), (2, 0, 1)).shape
    torch.Size([4, 2, 3])
    """
    order = sizes_of(dims)
    rank = len(input._aval.shape)
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
    rank = len(input._aval.shape)
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
    rank = len(input._aval.shape)
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
    rank = len(input._aval.shape)
    if rank > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {rank}D")
    return transpose(input, 0, 1) if rank == 2 else alias_like(input)


def reverse_axes(input: Tensor) -> Tensor:
    """`Tensor.T`: all axes reversed."""
    return make_view(input, "permute", tuple(reversed(range(len(input._aval.shape)))))


def matrix_transpose(input: Tensor) -> Tensor:
    """`Tensor.mT`: the last two axes exchanged."""
    if len(input._aval.shape) < 2:
        raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {len(input._aval.shape)}-D tensor.")
    return transpose(input, -2, -1)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Axes of length 1 removed: all of them or those of `dim`; a view.

    >>> import adjoint as torch
    >>> torch.squeeze(torch.zeros(1, 3, 1)).shape
    torch.Size([3])
    """
    shape = input._aval.shape
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
    shape = input._aval.shape
    axis = axis_of(dim, len(shape) + 1)
    return make_view(input, "reshape", (*shape[:axis], 1, *shape[axis:]))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim` merged into one.

    >>> import adjoint as torch
    >>> torch.flatten(torch.zeros(2, 3, 4), 1).shape
    torch.Size([2, 12])
    """
    shape = input._aval.shape
    rank = len(shape)
    if rank == 0:
        return reshape(input, 1)
    i, j = axis_of(start_dim, rank), axis_of(end_dim, rank)
    if i > j:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return reshape(input, (*shape[:i], math.prod(shape[i : j + 1]), *shape[j + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """One axis split into several; one of the sizes may be -1.

    >>> import adjoint as torch
    >>> torch.unflatten(torch.zeros(6, 2), 0, (2, 3)).shape
    torch.Size([2, 3, 2])
    """
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    return reshape(input, (*shape[:axis], *resolve_shape(tuple(sizes), shape[axis]), *shape[axis + 1 :]))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Axes of size 1 stretched without copying (-1 keeps a size), new axes in front."""
    shape = input._aval.shape
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

    shape = broadcast("broadcast_tensors", [x._aval.shape for x in tensors])
    return [expand(x, shape) for x in tensors]


def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if it lies in row-major order, else a copy."""
    return input if is_contiguous(input._aval) else clone(input)


def clone(input: Tensor) -> Tensor:
    """A copy with its own memory; differentiable.

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


def flip(input: Tensor, *dims: Any) -> Tensor:
    """The order reversed along the given axes.

    >>> import adjoint as torch
    >>> torch.flip(torch.tensor([1, 2, 3]), (0,))
    tensor([3, 2, 1])
    """
    axes = axes_of(sizes_of(dims), len(input._aval.shape)) if dims and sizes_of(dims) else ()
    return record("flip", (input,), axes) if axes else clone(input)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """`length` elements of an axis from `start`, as a view.

    >>> import adjoint as torch
    >>> torch.narrow(torch.arange(5), 0, 1, 3)
    tensor([1, 2, 3])
    """
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    n = shape[axis]
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    start = start + n if start < 0 else start
    if length < 0 or start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return slice_axis(input, axis, start, length, 1)


def slice_axis(input: Tensor, axis: int, start: int, length: int, step: int) -> Tensor:
    """A view of `length` elements of one axis; the start is a run-time argument."""
    shape = input._aval.shape
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
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    n = shape[axis]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {axis}")
    part = slice_axis(input, axis, index % n, 1, 1)
    return make_view(part, "reshape", (*shape[:axis], *shape[axis + 1 :]))


def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive pieces of an axis, of one size (the last may be smaller) or of the listed sizes.

    >>> import adjoint as torch
    >>> [t.shape[0] for t in torch.split(torch.arange(5), 2)]
    [2, 2, 1]
    """
    n = tensor._aval.shape[axis_of(dim, len(tensor._aval.shape))]
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
    out, start = [], 0
    for length in sections:
        out.append(narrow(tensor, dim, start, length))
        start += length
    return tuple(out)


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of equal size along an axis, as views; the last may be smaller.

    >>> import adjoint as torch
    >>> [t.shape[0] for t in torch.chunk(torch.arange(7), 3)]
    [3, 3, 1]
    """
    if chunks < 1:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input._aval.shape[axis_of(dim, len(input._aval.shape))]
    return split(input, max(1, -(-n // chunks)), dim)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts along an axis, each without it, as views.

    >>> import adjoint as torch
    >>> torch.unbind(torch.tensor([[1, 2], [3, 4]]))
    (tensor([1, 2]), tensor([3, 4]))
    """
    axis = axis_of(dim, len(input._aval.shape))
    return tuple(select(input, axis, i) for i in range(input._aval.shape[axis]))


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
    for i, x in enumerate(parts):
        if not isinstance(x, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    filled = [x for x in parts if tuple(x._aval.shape) != (0,)] or parts[:1]
    rank = len(filled[0]._aval.shape)
    if rank == 0:
        raise RuntimeError("zero-dimensional tensor (at position 0) cannot be concatenated; use torch.stack")
    where = axis_of(dim, rank)
    first = filled[0]._aval.shape
    dtype = parts[0]._aval.dtype
    for x in parts:
        dtype = dtypes.promote(dtype, x._aval.dtype)
    for i, x in enumerate(filled):
        shape = x._aval.shape
        if len(shape) != rank:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {rank} and {len(shape)}")
        for d in range(rank):
            if d != where and shape[d] != first[d]:
                raise RuntimeError(
                    f"Sizes of tensors must match except in dimension {where}. Expected size {first[d]} but got size "
                    f"{shape[d]} for tensor number {i} in the list."
                )
    return record("cat", tuple(cast(x, dtype) for x in filled), where)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis.

    >>> import adjoint as torch
    >>> torch.stack((torch.tensor([1, 2]), torch.tensor([3, 4])), dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    parts = list(tensors)
    if not parts:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = parts[0]._aval.shape
    for i, x in enumerate(parts):
        if x._aval.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x._aval.shape)} at entry {i}"
            )
    axis = axis_of(dim, len(shape) + 1)
    return cat([unsqueeze(x, axis) for x in parts], axis)


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors side by side: concatenated along axis 1, vectors along axis 0.

    >>> import adjoint as torch
    >>> torch.hstack((torch.tensor([1]), torch.tensor([2, 3])))
    tensor([1, 2, 3])
    """
    parts = [x if x._aval.shape else reshape(x, 1) for x in tensors]
    return cat(parts, 0 if len(parts[0]._aval.shape) == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors on top of each other: concatenated along axis 0, vectors as rows.

    >>> import adjoint as torch
    >>> torch.vstack((torch.tensor([1, 2]), torch.tensor([3, 4])))
    tensor([[1, 2],
            [3, 4]])
    """
    return cat([x if len(x._aval.shape) > 1 else reshape(x, 1, -1) for x in tensors], 0)


def repeat(input: Tensor, *sizes: Any) -> Tensor:
    """The whole tensor copied `sizes[i]` times along axis i (new axes in front)."""
    times = sizes_of(sizes)
    shape = (1,) * (len(times) - len(input._aval.shape)) + tuple(input._aval.shape)
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
    return repeat(input, (1,) * (len(input._aval.shape) - len(times)) + times)


def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None) -> Tensor:
    """Each element (slice of axis `dim`) repeated.

    >>> import adjoint as torch
    >>> torch.repeat_interleave(torch.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if dim is None:
        input, dim = reshape(input, -1), 0
    shape = input._aval.shape
    axis = axis_of(dim, len(shape))
    if isinstance(repeats, Tensor):
        import numpy as np

        from adjoint.ops.index import index_select

        counts = repeats.numpy()
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
    if dims is None:
        return reshape(roll(reshape(input, -1), shifts, 0), input._aval.shape)
    pairs = [(shifts, dims)] if isinstance(shifts, int) else list(zip(shifts, dims, strict=True))
    given = input
    for shift, dim in pairs:
        n = input._aval.shape[axis_of(dim, len(input._aval.shape))]
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


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and below the diagonal; the rest is 0.

    >>> import adjoint as torch
    >>> torch.tril(torch.ones(2, 2))
    tensor([[1., 0.],
            [1., 1.]])
    """
    m, n = input._aval.shape[-2:]
    return _keep(triangle_mask(m, n, diagonal, True), input)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The part on and above the diagonal; the rest is 0.

    >>> import adjoint as torch
    >>> torch.triu(torch.ones(2, 2))
    tensor([[1., 1.],
            [0., 1.]])
    """
    m, n = input._aval.shape[-2:]
    return _keep(triangle_mask(m, n, diagonal, False), input)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes as a new last axis, as a view. Raises RuntimeError if the two axes are the same.

    >>> import adjoint as torch
    >>> x = torch.zeros(2, 2)
    >>> _ = x.diagonal().fill_(3)
    >>> x
    tensor([[3., 0.],
            [0., 3.]])
    """
    return _diagonal(input, offset, dim1, dim2, make_view)


def diagonal_of(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The same as a value of its own, for formulas.

    >>> import adjoint as torch
    >>> torch.diagonal(torch.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    return _diagonal(input, offset, dim1, dim2, lambda x, prim, attrs: record(prim, (x,), attrs))


def _diagonal(input: Tensor, offset: int, dim1: int, dim2: int, move: Callable) -> Tensor:
    """Every (n + 1)-th element of the matrices written in one row."""
    rank = len(input._aval.shape)
    i, j = axis_of(dim1, rank), axis_of(dim2, rank)
    if i == j:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    order = [d for d in range(rank) if d not in (i, j)]
    moved = move(input, "permute", (*order, i, j)) if (*order, i, j) != tuple(range(rank)) else input
    *batch, m, n = moved._aval.shape
    length = max(0, min(m, n - offset) if offset >= 0 else min(m + offset, n))
    flat = move(moved, "reshape", (*batch, m * n))
    start = offset if offset >= 0 else -offset * n
    lead = (0,) * len(batch)
    ones = (1,) * len(batch)
    if length == 0:
        start = 0
    return move(flat, "slice", ((*lead, start), (*batch, length), (*ones, n + 1)))


def diag_embed(input: Tensor, offset: int = 0) -> Tensor:
    """Matrices with the last axis on their diagonal.

    >>> import adjoint as torch
    >>> torch.diag_embed(torch.tensor([[1, 2]])).shape
    torch.Size([1, 2, 2])
    """
    *batch, n = input._aval.shape
    size = n + abs(offset)
    start = offset if offset >= 0 else -offset * size
    lead, ones = (0,) * len(batch), (1,) * len(batch)
    flat = record("place", (input,), ((*batch, size * size), (*lead, start), (*ones, size + 1)))
    return record("reshape", (flat,), (*batch, size, size))


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """A vector as the diagonal of a matrix, or the diagonal of a matrix.

    >>> import adjoint as torch
    >>> torch.diag(torch.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    rank = len(input._aval.shape)
    if rank == 1:
        return diag_embed(input, diagonal)
    if rank != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {rank}D")
    return diagonal_of(input, diagonal)


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.

    >>> import adjoint as torch
    >>> torch.trace(torch.tensor([[1, 2], [3, 4]]))
    tensor(5)
    """
    if len(input._aval.shape) != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {len(input._aval.shape)}")
    if input._aval.dtype is dtypes.bool:
        raise NotImplementedError("\"trace\" not implemented for 'Bool'; convert it with .int() first")
    return diagonal_of(input).sum()


def window(x: Tensor, dims: tuple, sizes: tuple, strides: tuple, dilations: tuple) -> Tensor:
    """One axis of windows per listed axis: shape (..., number of windows at dims, ..., *sizes); differentiable."""
    return record("window", (x,), (tuple(dims), tuple(sizes), tuple(strides), tuple(dilations)))


def zero_pad(x: Tensor, low: tuple, high: tuple, interior: tuple | None = None) -> Tensor:
    """Zeros before, after and between the elements of each axis."""
    shape = x._aval.shape
    interior = interior if interior is not None else (0,) * len(shape)
    spread = [max(0, n + (n - 1) * k) for n, k in zip(shape, interior, strict=True)]
    full = tuple(a + n + b for a, n, b in zip(low, spread, high, strict=True))
    return record("place", (x,), (full, tuple(low), tuple(k + 1 for k in interior)))


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of an axis: `size` elements every `step`, as a new last axis (a copy)."""
    axis = axis_of(dimension, len(input._aval.shape))
    n = input._aval.shape[axis]
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    return window(input, (axis,), (size,), (step,), (1,))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid from those of its axes; `indexing` "ij" (matrix) or "xy" (picture).

    >>> import adjoint as torch
    >>> torch.meshgrid(torch.tensor([1, 2]), torch.tensor([3, 4, 5]), indexing="ij")[0]
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    parts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing == "xy" and len(parts) > 1:
        return tuple(transpose(g, 0, 1) for g in meshgrid(*parts))
    shape = tuple(x._aval.size for x in parts)
    return tuple(
        expand(reshape(x, (1,) * i + (x._aval.size,) + (1,) * (len(parts) - i - 1)), shape) for i, x in enumerate(parts)
    )


def size_of(input: Tensor, dim: int | None = None) -> Any:
    shape = input._aval.shape
    return shape if dim is None else shape[axis_of(dim, len(shape))]

