"""Changing resolution: `interpolate`, `upsample`, pixel shuffling.

Each mode works one dimension at a time: output position i looks at a place in the input, and
takes the nearest value or a weighted mean of the two or four around it. Read `_places` first, which
states where position i looks. Against aliasing, `_resample_filtered` takes means over all that an output covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

__all__ = [
    "channel_shuffle", "interpolate", "pixel_shuffle", "pixel_unshuffle", "upsample", "upsample_bilinear", "upsample_nearest",
]  # fmt: skip

INTERPOLATING_MODES = {"linear": 3, "bilinear": 4, "trilinear": 5, "bicubic": 4}


def _places(size: int, count: int, align_corners: bool, scale: float | None, at_edge: bool = True) -> Tensor:
    """Where (in float64 input coordinates) each of `count` outputs looks along a dimension of `size`; not before its edge."""
    i = torch.arange(count, dtype=torch.float64)
    if align_corners:
        return i * ((size - 1) / (count - 1) if count > 1 else 0.0)
    step = 1.0 / scale if scale else size / count
    place = (i + 0.5) * step - 0.5
    return place.clamp(min=0.0) if at_edge else place


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


def _cubic(x: Tensor, a: float) -> Tensor:
    """The cubic convolution kernel of width 4 (Keys, 1981), of distances x >= 0; a is its slope at 1."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x - 4
    return torch.where(x < 1, near, torch.where(x < 2, a * far, 0.0))


@composite("UpsampleBicubic2DBackward0")
def _resample_cubic(
    x: Tensor, sizes: tuple[int, ...], scales: tuple[float | None, ...], align_corners: bool
) -> Tensor:
    first = x.dim() - len(sizes)
    for i, (count, scale) in enumerate(zip(sizes, scales, strict=True)):
        dim = first + i
        size = x.shape[dim]
        place = _places(size, count, align_corners, scale, at_edge=False)
        left = torch.floor(place)
        total: Any = 0.0
        for tap in (-1, 0, 1, 2):
            weight = _cubic(torch.abs(place - left - tap), -0.75).to(x.dtype).reshape((-1,) + (1,) * (x.dim() - dim - 1))
            total = total + weight * x.index_select(dim, (left + tap).to(torch.int64).clamp(min=0, max=size - 1))
        x = total
    return x


def _lanczos(x: Tensor) -> Tensor:
    """sinc(x) in a window of the same form that ends at 3, of distances x >= 0."""
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


# Filters of antialiasing: half of their width, and their values at distances x >= 0. Pillow's cubic filter has another slope.
FILTERS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "bilinear": (1, lambda x: (1 - x).clamp(min=0)),
    "bicubic": (2, lambda x: _cubic(x, -0.5)),
    "lanczos": (3, _lanczos),
}


@composite("UpsampleBilinear2DAaBackward0")
def _resample_filtered(
    x: Tensor, sizes: tuple[int, ...], scales: tuple[float | None, ...], align_corners: bool, mode: str
) -> Tensor:
    """Means over all of the input that an output covers: a product with the matrix of their weights, in each dimension.

    The filter is as wide as the step between outputs, where that is more than 1; weights beyond the edges are left out.
    """
    width, weights_at = FILTERS[mode]
    first = x.dim() - len(sizes)
    for i, (count, scale) in reversed(list(enumerate(zip(sizes, scales, strict=True)))):
        dim = first + i
        size = x.shape[dim]
        if align_corners:
            step = (size - 1) / (count - 1) if count > 1 else 0.0
        else:
            step = 1.0 / scale if scale else size / count
        centre = (torch.arange(count, dtype=torch.float64) + 0.5) * step
        distance = torch.abs(torch.arange(size, dtype=torch.float64) + 0.5 - centre.unsqueeze(1))
        stretch = max(step, 1.0)
        weights = torch.where(distance < width * stretch, weights_at(distance / stretch), 0.0)
        weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
        x = weights @ x if dim == x.dim() - 2 else x @ weights.T
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

    Modes: "nearest", "nearest-exact", "linear" (3-D input), "bilinear" (4-D), "bicubic" (4-D), "trilinear" (5-D), "area", and
    with `antialias` also "lanczos" (4-D). With `antialias`, for "bilinear", "bicubic" and "lanczos", each output is a mean over
    all of the input that it covers, as Pillow computes it. With `align_corners` the outermost outputs are the outermost
    inputs. A `scale_factor` also says where outputs look; with `recompute_scale_factor` the sizes say it.

    Raises ValueError for contradicting arguments, NotImplementedError for other modes and for dimensions that a mode does
    not take.

    >>> import adjoint as torch
    >>> torch.nn.functional.interpolate(torch.tensor([[[1.0, 2.0]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    >>> x = torch.tensor([[[[0.0, 0.0, 6.0, 0.0, 0.0, 0.0]]]])
    >>> torch.nn.functional.interpolate(x, size=(1, 3), mode="bilinear", antialias=True)
    tensor([[[[0.8571, 2.2500, 0.0000]]]])
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
    if antialias and (mode not in FILTERS or n != 2):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input; "
            f"got mode={mode!r} and an input of shape {list(input.shape)}"
        )
    if mode == "lanczos" and not antialias:
        raise ValueError("Lanczos mode requires antialias=True")
    if mode == "lanczos" and align_corners:
        raise ValueError("Lanczos mode does not support align_corners=True")
    sizes, scales = _sizes(input, n, size, scale_factor)
    if recompute_scale_factor:
        if size is not None:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        scales = (None,) * n
    if min(sizes) < 1 or min(input.shape[2:]) < 1:
        raise RuntimeError(
            "Input and output sizes should be greater than 0, but got input "
            f"{list(input.shape[2:])} and output {list(sizes)}"
        )
    if mode in ("nearest", "nearest-exact"):
        return _resample_nearest(input, sizes, scales, mode == "nearest-exact")
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[n - 1](input, sizes)
    if not input.is_floating_point():
        raise NotImplementedError(f"interpolate(): mode {mode!r} takes floating-point inputs, got {input.dtype}; convert it with .float()")
    if antialias:
        return _resample_filtered(input, sizes, scales, bool(align_corners), mode)
    if INTERPOLATING_MODES.get(mode) == input.dim():
        resample = _resample_cubic if mode == "bicubic" else _resample_linear
        return resample(input, sizes, scales, bool(align_corners))
    raise NotImplementedError(
        f"interpolate(): mode {mode!r} is not available for an input of {input.dim()} dimensions; "
        f"modes are nearest, nearest-exact, area, {', '.join(INTERPOLATING_MODES)} (for 3, 4, 5 and 4 dimensions), "
        "and with antialias=True lanczos (for 4)"
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


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of `interpolate` with the mode "nearest".

    >>> import adjoint as torch
    >>> torch.nn.functional.upsample_nearest(torch.tensor([[[1., 2.]]]), scale_factor=2)
    tensor([[[1., 1., 2., 2.]]])
    """
    return interpolate(input, size, scale_factor)


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of `interpolate` with the mode "bilinear" and aligned corners.

    >>> import adjoint as torch
    >>> torch.nn.functional.upsample_bilinear(torch.tensor([[[[1., 2.]]]]), size=(1, 3))
    tensor([[[[1.0000, 1.5000, 2.0000]]]])
    """
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


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
