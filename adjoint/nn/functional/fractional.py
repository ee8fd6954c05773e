"""Max pooling over windows that random sequences place: `fractional_max_pool2d` and `3d` (Graham, "Fractional Max-Pooling", 2014).

Windows of one size are spread over the input such that neighbours lie a or a + 1 apart, in a pseudorandom order that one
random number per plane and dimension decides (section 2 there). Read `_starts` first.
"""

from __future__ import annotations

import math
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.convolution import Size, per_dimension, whole_numbers
from adjoint.ops.composite import composite

__all__ = [
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d", "fractional_max_pool3d_with_indices",
]  # fmt: skip


def _starts(u: Tensor, size: int, count: int, kernel: int) -> Tensor:
    """Where `count` windows begin, for random numbers u (...): int64 (..., count).

    floor(a (i + u)) - floor(a u) with a = (size - kernel) / (count - 1); the last window ends where the input does.
    """
    last = torch.full((*u.shape, 1), size - kernel, dtype=torch.int64)
    if count == 1:
        return last
    a = (size - kernel) / (count - 1)
    u = u.unsqueeze(-1)
    i = torch.arange(count - 1, dtype=u.dtype)
    return torch.cat([(torch.floor((i + u) * a) - torch.floor(u * a)).to(torch.int64), last], -1)


@composite("FractionalMaxPool2DBackward0")
def _fractional_max(
    x: Tensor, kernel: tuple[int, ...], counts: tuple[int, ...], samples: Tensor, order: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """x (N, C, *sizes), samples (N, C, n): maxima (N, C, *counts), and their places in the flattened plane."""
    n = len(kernel)
    sizes = tuple(x.shape[2:])
    at: Any = 0  # (N, C, *counts, *kernel), as a sum of one place per dimension
    for d in range(n):
        starts = _starts(samples[..., order[d]], sizes[d], counts[d], kernel[d])
        place = (starts.unsqueeze(-1) + torch.arange(kernel[d])) * math.prod(sizes[d + 1 :])
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = counts[d], kernel[d]
        at = at + place.reshape(*place.shape[:2], *shape)
    planes = tuple(x.shape[:2])
    at = at.reshape(*planes, -1)
    window = (*planes, *counts, math.prod(kernel))
    best, which = x.reshape(*planes, -1).gather(2, at).reshape(window).max(-1)
    return best, at.reshape(window).gather(-1, which.unsqueeze(-1)).squeeze(-1)


def _fractional_max_pool(
    n: int, input: Tensor, kernel_size: Size, output_size: Any, output_ratio: Any, samples: Tensor | None
) -> tuple[Tensor, Tensor]:
    name = f"fractional_max_pool{n}d"
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if input.dim() not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): expected a tensor of {n + 1} or {n + 2} dimensions, got an input of shape {list(input.shape)}")
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}(): the input must be floating point, got {input.dtype}")
    kernel = per_dimension(kernel_size, n, "kernel_size")
    sizes = tuple(input.shape[-n:])
    if output_size is None:
        ratios = (output_ratio,) * n if isinstance(output_ratio, (int, float)) else tuple(output_ratio)
        if len(ratios) != n:
            raise ValueError(f"{name} requires output_ratio to either be a single number or {n} of them, got {output_ratio}")
        output_size = [int(size * ratio) for size, ratio in zip(sizes, ratios, strict=True)]
    counts = (output_size,) * n if isinstance(output_size, int) else whole_numbers(output_size, "output_size")
    if len(counts) != n:
        raise ValueError(f"{name} requires output_size to either be a single int or {n} of them, got {output_size}")
    for size, count, k in zip(sizes, counts, kernel, strict=True):
        if count < 1 or k < 1 or count + k - 1 > size:
            raise RuntimeError(
                f"{name}(): windows of {kernel} are too large relative to an input of {sizes} for an output of {tuple(counts)}: "
                "output_size + kernel_size - 1 must not exceed the input, and both must be positive"
            )
    x = input if input.dim() == n + 2 else input.unsqueeze(0)
    planes = (x.shape[0], x.shape[1], n)
    if samples is None:
        samples = torch.rand(planes, dtype=input.dtype)
    elif samples.dim() != 3 or samples.shape[1:] != planes[1:] or samples.shape[0] < planes[0]:
        raise RuntimeError(f"{name}(): _random_samples must have the shape {list(planes)}, got {list(samples.shape)}")
    # Samples of two dimensions are given last dimension first, those of three first dimension first.
    order = (1, 0) if n == 2 else (0, 1, 2)
    best, at = _fractional_max(x, kernel, counts, samples[: planes[0]], order)
    return (best, at) if input.dim() == n + 2 else (best.squeeze(0), at.squeeze(0))


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Largest value in windows of (N, C, H, W) or (C, H, W) that lie at random places; to `output_size`, or by `output_ratio`.

    With `return_indices` also the place of each maximum in the flattened H x W, as `max_unpool2d` takes them. Random numbers
    (N, C, 2) in [0, 1) for the places may be given. Raises ValueError without a size or ratio, RuntimeError for windows that
    do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.fractional_max_pool2d(torch.ones(1, 3, 8, 9), 2, output_size=(5, 6)).shape
    torch.Size([1, 3, 5, 6])
    """
    best, at = _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, _random_samples)
    return (best, at) if return_indices else best


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Largest value in windows of (N, C, D, H, W) or (C, D, H, W) that lie at random places; see `fractional_max_pool2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.fractional_max_pool3d(torch.ones(1, 3, 8, 8, 8), 2, output_ratio=0.5).shape
    torch.Size([1, 3, 4, 4, 4])
    """
    best, at = _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, _random_samples)
    return (best, at) if return_indices else best


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool2d` with the places of the maxima, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> best, places = torch.nn.functional.fractional_max_pool2d_with_indices(torch.ones(1, 1, 4, 4), 2, 1)
    >>> best, places
    (tensor([[[[1.]]]]), tensor([[[[10]]]]))
    """
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`fractional_max_pool3d` with the places of the maxima, whatever `return_indices` says.

    >>> import adjoint as torch
    >>> best, places = torch.nn.functional.fractional_max_pool3d_with_indices(torch.ones(1, 1, 2, 2, 2), 2, 1)
    >>> best.flatten(), places.flatten()
    (tensor([1.]), tensor([0]))
    """
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, _random_samples)
