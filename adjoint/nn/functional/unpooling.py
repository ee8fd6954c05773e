"""Back from the maxima of pooling: each is written where it was found, everything else is 0. Read `_unpool`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.convolution import Size, per_dimension
from adjoint.ops.composite import composite

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def max_unpool1d(
    input: Tensor, indices: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, output_size: Sequence[int] | None = None
) -> Tensor:
    """The inverse of `max_pool1d` as far as there is one: (N, C, L) or (C, L), with the indices that it returned.

    The output is as long as the shortest input that was pooled so, `(L - 1) stride + kernel - 2 padding`, or as `output_size`
    says (its last axis, or a whole shape). Raises ValueError for an output size that pooling would not lead back from,
    RuntimeError for indices of another shape or dtype than int64, IndexError for one outside the output (when the value is
    needed).

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.functional.max_pool1d(torch.tensor([[[1., 4., 3., 2.]]]), 2, return_indices=True)
    >>> torch.nn.functional.max_unpool1d(largest, indices, 2)
    tensor([[[0., 4., 3., 0.]]])
    """
    return _unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, output_size: Sequence[int] | None = None
) -> Tensor:
    """The inverse of `max_pool2d` as far as there is one: (N, C, H, W) or (C, H, W). See `max_unpool1d`.

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.functional.max_pool2d(torch.tensor([[[1., 2.], [4., 3.]]]), 2, return_indices=True)
    >>> torch.nn.functional.max_unpool2d(largest, indices, 2)
    tensor([[[0., 0.],
             [4., 0.]]])
    """
    return _unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Tensor, indices: Tensor, kernel_size: Size, stride: Size | None = None, padding: Size = 0, output_size: Sequence[int] | None = None
) -> Tensor:
    """The inverse of `max_pool3d` as far as there is one: (N, C, D, H, W) or (C, D, H, W). See `max_unpool1d`.

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.functional.max_pool3d(torch.ones(1, 1, 2, 2, 2), 2, return_indices=True)
    >>> torch.nn.functional.max_unpool3d(largest, indices, 2).shape
    torch.Size([1, 1, 2, 2, 2])
    """
    return _unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _unpool(
    n: int, input: Tensor, indices: Tensor, kernel_size: Size, stride: Size | None, padding: Size, output_size: Sequence[int] | None
) -> Tensor:
    name = f"max_unpool{n}d"
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"Input to {name} should be a {n + 1}d or {n + 2}d Tensor, but got a tensor with {input.dim()} dimensions.")
    if indices.dtype is not torch.int64:
        raise RuntimeError(f"{name}(): elements in indices should be type int64 but got: {indices.dtype}")
    if indices.shape != input.shape:
        raise RuntimeError(
            f"{name}(): Expected shape of indices to be same as that of the input tensor ({list(input.shape)}) but got indices "
            f"tensor with shape: {list(indices.shape)}"
        )
    kernel = per_dimension(kernel_size, n, "kernel_size")
    step = kernel if stride is None else per_dimension(stride, n, "stride")
    around = per_dimension(padding, n, "padding")
    sizes = tuple((s - 1) * by + k - 2 * p for s, by, k, p in zip(input.shape[-n:], step, kernel, around, strict=True))
    if output_size is not None:
        sizes = _settled(sizes, step, tuple(output_size))
    return _written(input, indices, sizes, n)


def _settled(default: tuple[int, ...], stride: tuple[int, ...], given: tuple[int, ...]) -> tuple[int, ...]:
    """The size that was asked for, if pooling it gives as many windows."""
    n = len(default)
    if len(given) == n + 2:
        given = given[2:]
    if len(given) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(given)}'")
    for d, (size, usual, by) in enumerate(zip(given, default, stride, strict=True)):
        if not usual - by < size < usual + by:
            raise ValueError(f'invalid output_size "{given}" (dim {d} must be between {usual - by} and {usual + by})')
    return given


@composite("MaxUnpool2DBackward0")
def _written(x: Tensor, indices: Tensor, sizes: tuple[int, ...], n: int) -> Tensor:
    lead = tuple(x.shape[:-n])
    flat, places = x.reshape(*lead, math.prod(x.shape[-n:])), indices.reshape(*lead, math.prod(x.shape[-n:]))
    out = torch.zeros((*lead, math.prod(sizes)), dtype=x.dtype).scatter(-1, places, flat)
    return out.reshape(*lead, *sizes)
