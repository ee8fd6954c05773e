"""Max, average and adaptive pooling.

A pooling window is a product of intervals, so pooling runs over one dimension at a time. Along
one dimension a short window is an explicit chain over its positions (`_chain`), which stays
pointwise work and gives the whole gradient to the first of several equal maxima, as PyTorch does;
a long one is cut out with `_window` and reduced. Read `_pool_max` first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.convolution import Size, per_dimension, whole_numbers
from adjoint.ops.composite import composite

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d",
    "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices",
    "max_pool3d", "max_pool3d_with_indices",
]  # fmt: skip

# Longest window that is written out position by position; longer ones would make long programs.
LONGEST_CHAIN = 16


def _output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    reach = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return reach // stride + 1
    count = -(-reach // stride) + 1
    # The last window must begin inside the input or its left padding.
    return count - 1 if (count - 1) * stride >= size + padding else count


def _check(
    name: str,
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    counts: Sequence[int],
) -> None:
    n = len(kernel)
    if x.dim() not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, "
            f"but got input of size: {list(x.shape)}"
        )
    if min(kernel) < 1 or min(stride) < 1:
        raise RuntimeError(
            f"{name}(): kernel size {kernel} and stride {stride} should be greater than zero"
        )
    if any(p < 0 or 2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise RuntimeError(
            f"pad should be at most half of effective kernel size, but got pad={padding}, kernel_size={kernel}"
        )
    if min(counts) < 1:
        raise RuntimeError(
            f"{name}(): Given input size: {list(x.shape)}. Calculated output size: {list(counts)}. "
            "Output size is too small"
        )


def _positions(
    x: Tensor, dim: int, kernel: int, stride: int, dilation: int, count: int
) -> list[Tensor]:
    """For each position in the window, the values all windows have there: strided slices of x."""
    lead = (slice(None),) * dim
    return [
        x[(*lead, slice(j * dilation, j * dilation + (count - 1) * stride + 1, stride))]
        for j in range(kernel)
    ]


def _padded(x: Tensor, dim: int, lo: int, hi: int, value: float) -> Tensor:
    """x with `value` put around it along one dimension."""
    if lo == 0 and hi == 0:
        return x
    zeros = (0,) * x.dim()
    at_lo, at_hi = list(zeros), list(zeros)
    at_lo[dim], at_hi[dim] = lo, hi
    out = torch._pad(x, tuple(at_lo), tuple(at_hi), zeros)
    if value == 0:
        return out
    size = x.shape[dim]
    place = torch.arange(lo + size + hi).reshape((-1,) + (1,) * (x.dim() - dim - 1))
    return torch.where((place >= lo) & (place < lo + size), out, value)


# ---- maximum -------------------------------------------------------------------------------------


def _better(best: Tensor, other: Tensor) -> Tensor:
    # The first of equal values stays; a NaN, once met, is kept.
    return (other > best) | (other != other)


def _max_along(
    x: Tensor, index: Tensor | None, dim: int, kernel: int, stride: int, dilation: int, count: int
) -> tuple[Tensor, Tensor | None]:
    """Window maxima of x along `dim`, carrying along for each the entry of `index` that belongs to it."""
    if kernel > LONGEST_CHAIN:
        cut = torch._window(x, (dim,), (kernel,), (stride,), (dilation,))
        best, at = cut.narrow(dim, 0, count).max(-1)
        if index is None:
            return best, None
        cut = torch._window(index.expand(x.shape), (dim,), (kernel,), (stride,), (dilation,))
        return best, cut.narrow(dim, 0, count).gather(-1, at.unsqueeze(-1)).squeeze(-1)
    values = _positions(x, dim, kernel, stride, dilation, count)
    places = None if index is None else _positions(index, dim, kernel, stride, dilation, count)
    best, at = values[0], None if places is None else places[0]
    for j in range(1, kernel):
        take = _better(best, values[j])
        best = torch.where(take, values[j], best)
        if places is not None:
            at = torch.where(take, places[j], at)
    return best, at


@composite("MaxPool2DWithIndicesBackward0")
def _pool_max(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool,
    with_indices: bool,
    name: str,
) -> Any:
    n = len(kernel)
    sizes = x.shape[x.dim() - n :]
    counts = [
        _output_size(*row, ceil_mode)
        for row in zip(sizes, kernel, stride, padding, dilation, strict=True)
    ]
    reach = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    _check(name, x, reach, stride, padding, counts)
    first = x.dim() - n
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    index = torch.arange(math.prod(sizes)).reshape(tuple(sizes)) if with_indices else None
    if index is not None:
        index = index.reshape((1,) * first + tuple(sizes))
    # Last dimension first: the first maximum of each row, then the first row that has the maximum, is
    # the first maximum in reading order.
    for i in reversed(range(n)):
        dim = first + i
        needed = (counts[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        behind = max(needed - sizes[i] - padding[i], 0)
        x = _padded(x, dim, padding[i], behind, lowest)
        if index is not None:
            index = _padded(index, dim, padding[i], behind, 0)
        x, index = _max_along(x, index, dim, kernel[i], stride[i], dilation[i], counts[i])
    return x if index is None else (x, index.expand(x.shape))


def _max_pool(
    n: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    kernel = per_dimension(kernel_size, n, "kernel_size")
    return _pool_max(
        input,
        kernel,
        per_dimension(stride, n, "stride") if stride else kernel,
        per_dimension(padding, n, "padding"),
        per_dimension(dilation, n, "dilation"),
        ceil_mode,
        return_indices,
        f"max_pool{n}d",
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, C, L) or (C, L); see `max_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool1d(torch.tensor([[[1., 3., 5., 7.]]]), 2)
    tensor([[[3., 7.]]])
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, C, H, W) or (C, H, W); the stride defaults to the kernel size.

    Padding counts as minus infinity. With `return_indices` also the place of each maximum, as an index
    into the flattened H x W. Raises RuntimeError when the windows do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool2d(torch.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Largest value in each window of (N, C, D, H, W) or (C, D, H, W); see `max_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """`max_pool1d` with the places of the maxima in the flattened L, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool1d_with_indices(torch.tensor([[[1., 5., 2., 3.]]]), 2)
    (tensor([[[5., 3.]]]), tensor([[[1, 3]]]))
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """`max_pool2d` with the places of the maxima in the flattened H x W, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool2d_with_indices(torch.arange(16.).reshape(1, 4, 4), 2)[1].flatten()
    tensor([ 5,  7, 13, 15])
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, Tensor]:
    """`max_pool3d` with the places of the maxima in the flattened D x H x W, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.max_pool3d_with_indices(torch.arange(8.).reshape(1, 2, 2, 2), 2)[1].flatten()
    tensor([7])
    """
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


# ---- average -------------------------------------------------------------------------------------


def _sum_along(x: Tensor, dim: int, kernel: int, stride: int, count: int) -> Tensor:
    if kernel > LONGEST_CHAIN:
        return torch._window(x, (dim,), (kernel,), (stride,), (1,)).narrow(dim, 0, count).sum(-1)
    total, *rest = _positions(x, dim, kernel, stride, 1, count)
    for values in rest:
        total = total + values
    return total


@composite("AvgPool2DBackward0")
def _pool_average(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool,
    count_padding: bool,
    divisor: int | None,
    name: str,
) -> Tensor:
    n = len(kernel)
    sizes = x.shape[x.dim() - n :]
    counts = [
        _output_size(size, k, s, p, 1, ceil_mode)
        for size, k, s, p in zip(sizes, kernel, stride, padding, strict=True)
    ]
    _check(name, x, kernel, stride, padding, counts)
    first = x.dim() - n
    scale: Any = 1.0
    for i in reversed(range(n)):
        dim, k, s, p, size, count = first + i, kernel[i], stride[i], padding[i], sizes[i], counts[i]
        behind = max((count - 1) * s + k - size - p, 0)
        x = _sum_along(_padded(x, dim, p, behind, 0), dim, k, s, count)
        # How many elements a window averages over; it varies only where windows reach over an edge.
        start = [j * s - p for j in range(count)]
        end = [min(a + k, size + p) for a in start]
        if not count_padding:
            start, end = [max(a, 0) for a in start], [min(b, size) for b in end]
        lengths = {b - a for a, b in zip(start, end, strict=True)}
        if len(lengths) == 1:
            scale = scale / lengths.pop()
        else:
            place = torch.arange(count, dtype=x.dtype) * s - p
            limits = (0, size) if not count_padding else (-p, size + p)
            length = (place + k).clamp(max=limits[1]) - place.clamp(min=limits[0])
            scale = scale / length.reshape((-1,) + (1,) * (n - 1 - i))
    return x / divisor if divisor is not None else x * scale


def _average_pool(
    n: int,
    input: Tensor,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    kernel = per_dimension(kernel_size, n, "kernel_size")
    return _pool_average(
        input,
        kernel,
        per_dimension(stride, n, "stride") if stride else kernel,
        per_dimension(padding, n, "padding"),
        ceil_mode,
        count_include_pad,
        divisor_override,
        f"avg_pool{n}d",
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Mean of each window of (N, C, L) or (C, L); see `avg_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.avg_pool1d(torch.tensor([[[1., 3., 5., 7.]]]), 2)
    tensor([[[2., 6.]]])
    """
    return _average_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean of each window of (N, C, H, W) or (C, H, W); the stride defaults to the kernel size.

    Padding zeros are counted unless `count_include_pad=False`. Raises RuntimeError when windows do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.avg_pool2d(torch.arange(16.0).reshape(1, 4, 4), 2)
    tensor([[[ 2.5000,  4.5000],
             [10.5000, 12.5000]]])
    """
    return _average_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Mean of each window of (N, C, D, H, W) or (C, D, H, W); see `avg_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.avg_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _average_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(axes: int, input: Tensor, order: float, kernel_size: Size, stride: Size | None, ceil_mode: bool) -> Tensor:
    kernel = per_dimension(kernel_size, axes, "kernel_size")
    if math.isinf(order):
        largest: Any = (max_pool1d, max_pool2d, max_pool3d)[axes - 1]
        sign = math.copysign(1.0, order)
        return sign * largest(sign * torch.abs(input), kernel, stride, ceil_mode=ceil_mode)
    mean: Any = (avg_pool1d, avg_pool2d, avg_pool3d)[axes - 1]
    total = mean(input**order, kernel, stride, 0, ceil_mode) * math.prod(kernel)
    return (torch.sign(total) * torch.abs(total)) ** (1.0 / order)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """(Sum of x^p over each window)^(1/p) of (N, C, L) or (C, L); see `lp_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.lp_pool1d(torch.tensor([[[3.0, 4.0, 6.0, 8.0]]]), 2.0, 2)
    tensor([[[ 5., 10.]]])
    """
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Size,
    stride: Size | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(Sum of x^p over each window)^(1/p); the largest or least |x| for an infinite p.

    Where a window reaches over an edge (`ceil_mode`), what it misses counts as the mean of what it has, as in PyTorch.

    >>> import adjoint as torch
    >>> torch.nn.functional.lp_pool2d(torch.ones(1, 1, 2, 2), 2.0, 2)
    tensor([[[[2.]]]])
    """
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """(Sum of x^p over each window)^(1/p) of (N, C, D, H, W) or (C, D, H, W); see `lp_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.lp_pool3d(torch.ones(1, 1, 1, 2, 2), 2.0, (1, 2, 2))
    tensor([[[[[2.]]]]])
    """
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


# ---- adaptive ------------------------------------------------------------------------------------


def _adapted_along(
    x: Tensor, dim: int, count: int, reduce: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Reduce `count` intervals that cover dimension `dim`: interval i is [i L/count) to ceil((i+1) L/count)."""
    size = x.shape[dim]
    if size % count == 0:
        split = x.reshape(*x.shape[:dim], count, size // count, *x.shape[dim + 1 :])
        return reduce(split, dim + 1)
    parts = []
    for i in range(count):
        start, end = i * size // count, -(-(i + 1) * size // count)
        parts.append(reduce(x.narrow(dim, start, end - start), dim))
    return torch.stack(parts, dim)


LARGEST_GRID = 1 << 20  # cells along a dimension; each is a step of its own


def _targets(name: str, n: int, x: Tensor, output_size: Any) -> tuple[int, ...]:
    if x.dim() not in (n + 1, n + 2):
        raise RuntimeError(
            f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}"
        )
    wanted = (
        (output_size,) * n
        if output_size is None or isinstance(output_size, int)
        else tuple(output_size)
    )
    wanted = wanted * n if len(wanted) == 1 else wanted
    if len(wanted) != n:
        raise RuntimeError(f"{name}(): output_size must have {n} values, got {output_size}")
    sizes = x.shape[x.dim() - n :]
    if any(want is not None and not 0 < want < LARGEST_GRID for want in wanted):
        raise RuntimeError(f"{name}(): output_size must be positive and below {LARGEST_GRID}, got {output_size}")
    return whole_numbers([size if want is None else want for want, size in zip(wanted, sizes, strict=True)], "output_size")


@composite("AdaptiveAvgPool2DBackward0")
def _adaptive_average(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    first = x.dim() - len(sizes)
    if all(size == 1 for size in sizes):
        return x.mean(tuple(range(first, x.dim())), keepdim=True)
    for i, count in enumerate(sizes):
        x = _adapted_along(x, first + i, count, lambda part, dim: part.mean(dim))
    return x


@composite("AdaptiveMaxPool2DBackward0")
def _adaptive_max(x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    n = len(sizes)
    first = x.dim() - n
    shape = tuple(x.shape[first:])
    index = torch.arange(math.prod(shape)).reshape((1,) * first + shape).expand(x.shape)
    for i in reversed(range(n)):
        dim, size, count = first + i, shape[i], sizes[i]
        values, places = [], []
        for j in range(count):
            start, end = j * size // count, -(-(j + 1) * size // count)
            best, at = x.narrow(dim, start, end - start).max(dim, keepdim=True)
            values.append(best)
            places.append(index.narrow(dim, start, end - start).gather(dim, at))
        x, index = torch.cat(values, dim), torch.cat(places, dim)
    return x, index


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Mean over `output_size` intervals of L in (N, C, L); see `adaptive_avg_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_avg_pool1d(torch.tensor([[[1., 3., 5., 7.]]]), 2)
    tensor([[[2., 6.]]])
    """
    return _adaptive_average(input, _targets("adaptive_avg_pool1d", 1, input, output_size))


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Mean over a grid of `output_size` cells of (N, C, H, W); None keeps a dimension.

    Cell i of n along a length L reaches from floor(i L / n) to ceil((i + 1) L / n).

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_avg_pool2d(torch.ones(1, 3, 5, 4), 1).shape
    torch.Size([1, 3, 1, 1])
    """
    return _adaptive_average(input, _targets("adaptive_avg_pool2d", 2, input, output_size))


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Mean over a grid of cells of (N, C, D, H, W); see `adaptive_avg_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_avg_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _adaptive_average(input, _targets("adaptive_avg_pool3d", 3, input, output_size))


def _adaptive_max_pool(n: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    values, index = _adaptive_max(input, _targets(f"adaptive_max_pool{n}d", n, input, output_size))
    return (values, index) if return_indices else values


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over `output_size` intervals of L in (N, C, L).

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool1d(torch.tensor([[[1., 3., 5., 7.]]]), 2)
    tensor([[[3., 7.]]])
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over a grid of `output_size` cells of (N, C, H, W), cells as in `adaptive_avg_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool2d(torch.arange(16.).reshape(1, 1, 4, 4), 1)
    tensor([[[[15.]]]])
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum over a grid of cells of (N, C, D, H, W).

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool3d(torch.ones(1, 1, 4, 4, 4), 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool1d` with the places of the maxima, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool1d_with_indices(torch.tensor([[[1., 5., 2., 3.]]]), 2)
    (tensor([[[5., 3.]]]), tensor([[[1, 3]]]))
    """
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool2d` with the places of the maxima, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool2d_with_indices(torch.arange(16.).reshape(1, 4, 4), 2)[1].flatten()
    tensor([ 5,  7, 13, 15])
    """
    return _adaptive_max_pool(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """`adaptive_max_pool3d` with the places of the maxima, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> torch.nn.functional.adaptive_max_pool3d_with_indices(torch.arange(8.).reshape(1, 2, 2, 2), 1)[1].flatten()
    tensor([7])
    """
    return _adaptive_max_pool(3, input, output_size, True)
