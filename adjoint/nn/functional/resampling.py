"""Changing resolution: `interpolate`, `upsample`, pixel shuffling.

Each mode works one dimension at a time: output position i looks at a place in the input, and
takes the nearest value or a weighted mean of the two around it. Read `_places` first, which
states where position i looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.convolution import whole_numbers
from adjoint.nn.functional.pooling import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
)
from adjoint.ops.composite import composite

__all__ = ["channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample"]

LINEAR_MODES = {"linear": 3, "bilinear": 4, "trilinear": 5}


def _places(size: int, count: int, align_corners: bool, scale: float | None) -> Tensor:
    """Where (in float64 input coordinates) each of `count` outputs looks along a dimension of `size`."""
    i = torch.arange(count, dtype=torch.float64)
    if align_corners:
        return i * ((size - 1) / (count - 1) if count > 1 else 0.0)
    step = 1.0 / scale if scale else size / count
    return ((i + 0.5) * step - 0.5).clamp(min=0.0)


def _nearest(size: int, count: int, scale: float | None, centred: bool) -> Tensor:
    step = 1.0 / scale if scale else size / count
    i = torch.arange(count, dtype=torch.float64)
    return torch.floor((i + (0.5 if centred else 0.0)) * step).to(torch.int64).clamp(max=size - 1)


@composite("UpsampleNearest2DBackward0")
def _resample_nearest(
    x: Tensor, sizes: tuple[int, ...], scales: tuple[float | None, ...], centred: bool
) -> Tensor:
    first = x.dim() - len(sizes)
    for i, (count, scale) in enumerate(zip(sizes, scales, strict=True)):
        x = x.index_select(first + i, _nearest(x.shape[first + i], count, scale, centred))
    return x


@composite("UpsampleBilinear2DBackward0")
def _resample_linear(
    x: Tensor, sizes: tuple[int, ...], scales: tuple[float | None, ...], align_corners: bool
) -> Tensor:
    first = x.dim() - len(sizes)
    for i, (count, scale) in enumerate(zip(sizes, scales, strict=True)):
        dim = first + i
        size = x.shape[dim]
        place = _places(size, count, align_corners, scale)
        left = torch.floor(place).to(torch.int64).clamp(max=size - 1)
        share = (place - left).to(x.dtype).reshape((-1,) + (1,) * (x.dim() - dim - 1))
        near, far = x.index_select(dim, left), x.index_select(dim, (left + 1).clamp(max=size - 1))
        x = near * (1 - share) + far * share
    return x


def _sizes(
    input: Tensor, n: int, size: Any, scale_factor: Any
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "either size or scale_factor should be defined"
            if size is None
            else "only one of size or scale_factor should be defined"
        )
    given = scale_factor if size is None else size
    values = (given,) * n if isinstance(given, (int, float)) else tuple(given)
    if len(values) != n:
        raise ValueError(
            f"Input and output must have the same number of spatial dimensions, but got input with spatial "
            f"dimensions of {list(input.shape[2:])} and {'size' if scale_factor is None else 'scale_factor'}={given}"
        )
    if scale_factor is None:
        return whole_numbers(values, "size"), (None,) * n
    scales = tuple(float(v) for v in values)
    return tuple(math.floor(s * v) for s, v in zip(input.shape[2:], scales, strict=True)), scales


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize the last one to three dimensions of (N, C, ...) to `size` or by `scale_factor`.

    Modes: "nearest", "nearest-exact", "linear" (3-D input), "bilinear" (4-D), "trilinear" (5-D), "area".
    Raises ValueError for contradicting arguments, NotImplementedError for other modes.

    >>> import adjoint as torch
    >>> torch.nn.functional.interpolate(torch.tensor([[[1.0, 2.0]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    n = input.dim() - 2
    if n not in (1, 2, 3):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.dim()}D)"
        )
    if mode in ("nearest", "nearest-exact", "area"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: "
                "linear | bilinear | bicubic | trilinear"
            )
    if antialias:
        raise NotImplementedError("interpolate(): antialias=True is not supported")
    sizes, scales = _sizes(input, n, size, scale_factor)
    if recompute_scale_factor:
        scales = (None,) * n
    if min(sizes) < 1:
        raise RuntimeError(
            "Input and output sizes should be greater than 0, but got input "
            f"{list(input.shape[2:])} and output {list(sizes)}"
        )
    if mode in ("nearest", "nearest-exact"):
        return _resample_nearest(input, sizes, scales, mode == "nearest-exact")
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, sizes)
    if LINEAR_MODES.get(mode) == input.dim():
        return _resample_linear(input, sizes, scales, bool(align_corners))
    raise NotImplementedError(
        f"interpolate(): mode {mode!r} is not available for an input of {input.dim()} dimensions; "
        f"modes are nearest, nearest-exact, area, {', '.join(LINEAR_MODES)} (for 3, 4 and 5 dimensions)"
    )


def upsample(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The old name of `interpolate`.

    >>> import adjoint as torch
    >>> torch.nn.functional.upsample(torch.tensor([[[1., 2.]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return interpolate(input, size, scale_factor, mode, align_corners)


@composite("ChannelShuffleBackward0")
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """(N, C, *) with the channels of `groups` equal parts taken in turns (Zhang et al., "ShuffleNet", 2018, section 3.1).

    >>> import adjoint as torch
    >>> torch.channel_shuffle(torch.arange(6.).reshape(1, 6, 1), 2).flatten()
    tensor([0., 3., 1., 4., 2., 5.])
    """
    if input.dim() < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    n, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {channels} channels and {groups} groups.")
    return input.reshape(n, groups, channels // groups, *rest).transpose(1, 2).reshape(n, channels, *rest)


@composite("PixelShuffleBackward0")
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """(..., C r², H, W) to (..., C, H r, W r) (Shi et al., 2016, equation 4).

    >>> import adjoint as torch
    >>> torch.nn.functional.pixel_shuffle(torch.ones(1, 4, 2, 2), 2).shape
    torch.Size([1, 1, 4, 4])
    """
    *lead, channels, height, width = input.shape
    r = upscale_factor
    if channels % (r * r):
        raise RuntimeError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={channels} is not divisible by {r * r}"
        )
    x = input.reshape(-1, channels // (r * r), r, r, height, width).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*lead, channels // (r * r), height * r, width * r)


@composite("PixelUnshuffleBackward0")
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`: (..., C, H r, W r) to (..., C r², H, W).

    >>> import adjoint as torch
    >>> torch.nn.functional.pixel_unshuffle(torch.ones(1, 1, 4, 4), 2).shape
    torch.Size([1, 4, 2, 2])
    """
    *lead, channels, height, width = input.shape
    r = downscale_factor
    if height % r or width % r:
        raise RuntimeError(
            "pixel_unshuffle expects height and width to be divisible by downscale_factor, "
            f"got {height}x{width} and {r}"
        )
    x = input.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(*lead, channels * r * r, height // r, width // r)
