"""Sampling images at given places: `affine_grid` says where, `grid_sample` reads.

Places are in [-1, 1] along each axis, x (the last axis of the image) first; a value between points is the weighted mean
of those around it (Jaderberg et al., "Spatial transformer networks", 2015, section 3.3). Read `grid_sample` first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import composite
from adjoint.trace.state import warn

__all__ = ["affine_grid", "grid_sample"]


def _settled(align_corners: bool | None, name: str) -> bool:
    if align_corners is None:
        warn(f"{name} takes align_corners=False where it is not given; say so if True is meant")
    return bool(align_corners)


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places (N, H, W, 2) of an affine map theta (N, 2, 3) for an output of `size` (N, C, H, W).

    For theta (N, 3, 4) and a size (N, C, D, H, W) they are (N, D, H, W, 3). With `align_corners` -1 and 1 are the centres of
    the outermost points, otherwise (and for None, which warns) their outer edges. Raises ValueError for a theta that is not
    floating or does not fit and for sizes below 1, NotImplementedError for other numbers of axes.

    >>> import adjoint as torch
    >>> identity = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> torch.nn.functional.affine_grid(identity, (1, 1, 1, 2), align_corners=False)
    tensor([[[[-0.5000,  0.0000],
              [ 0.5000,  0.0000]]]])
    """
    size = tuple(size)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    if len(size) not in (4, 5):
        raise NotImplementedError(
            f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size {size}."
        )
    axes = len(size) - 2
    if tuple(theta.shape[-2:]) != (axes, axes + 1) or theta.dim() != 3:
        raise ValueError(
            f"Expected a batch of {axes}D affine matrices of shape Nx{axes}x{axes + 1} for size {size}. Got {tuple(theta.shape)}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    if theta.shape[0] != size[0]:
        raise ValueError(f"Expected {size[0]} affine matrices for size {size}, got {theta.shape[0]}")
    align = _settled(align_corners, "affine_grid")
    lines = []
    for count in reversed(size[2:]):
        line = torch.linspace(-1, 1, count, dtype=theta.dtype) if count > 1 else torch.zeros(1, dtype=theta.dtype)
        lines.append(line if align else line * ((count - 1) / count))
    points = torch.meshgrid(*reversed(lines), indexing="ij")
    ones = torch.ones(size[2:], dtype=theta.dtype)
    base = torch.stack([*reversed(points), ones], -1).reshape(1, -1, axes + 1)
    return (base @ theta.transpose(1, 2)).reshape(size[0], *size[2:], axes)


def _clipped(place: Tensor, count: int) -> Tensor:
    """The nearest place inside, with slope 0 from the edge on."""
    return torch.where(place <= 0, 0.0, torch.where(place >= count - 1, float(count - 1), place))


def _reflected(place: Tensor, count: int, align: bool) -> Tensor:
    """The place inside to which one outside is folded, at the outermost points or at their outer edges."""
    low, span = (0.0, float(count - 1)) if align else (-0.5, float(count))
    if span == 0:
        return place * 0
    beyond = (place - low).abs()
    turns = torch.floor(beyond / span).detach()
    rest = beyond - turns * span
    return _clipped(torch.where(turns % 2 == 0, rest, span - rest) + low, count)


def _within(place: Tensor, count: int, padding: str, align: bool) -> Tensor:
    if padding == "border":
        return _clipped(place, count)
    return _reflected(place, count, align) if padding == "reflection" else place


def _cubic(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The four points around a place, and their weights at distances of 2 and less (Keys, "Cubic convolution interpolation for
    digital image processing", 1981, equation 8, with a = -3/4)."""
    at = torch.floor(place).detach()
    a, t = -0.75, place - at
    near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (t, 1 - t)]
    far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (t + 1, 2 - t)]
    return [(at - 1, far[0]), (at, near[0]), (at + 1, near[1]), (at + 2, far[1])]


@composite("GridSampler2DBackward0")
def _sampled(input: Tensor, grid: Tensor, mode: str, padding: str, align: bool) -> Tensor:
    counts = input.shape[2:]
    corners: list[list[tuple[Tensor, Tensor]]] = []  # for each axis: (place, weight) of the points around
    for count, place in zip(counts, reversed(grid.unbind(-1)), strict=True):
        place = (place + 1) / 2 * (count - 1) if align else ((place + 1) * count - 1) / 2
        if mode == "bicubic":
            corners.append([(_within(at, count, padding, align), share) for at, share in _cubic(place)])
            continue
        place = _within(place, count, padding, align)
        if mode == "nearest":
            at = torch.round(place)  # its derivative, 0, is that of the grid
            corners.append([(at.detach(), 1 + (at - at.detach()))])
        else:
            at = torch.floor(place).detach()
            corners.append([(at, at + 1 - place), (at + 1, place - at)])
    batch, channels = input.shape[:2]
    points = math.prod(grid.shape[1:-1])
    flat = input.reshape(batch, channels, math.prod(counts))
    total = None
    for chosen in itertools.product(*corners):
        inside = torch.ones((), dtype=torch.bool)
        for count, (at, _) in zip(counts, chosen, strict=True):
            inside = inside & (at >= 0) & (at <= count - 1)
        index = torch.zeros((), dtype=torch.int64)
        weight = None
        for count, (at, share) in zip(counts, chosen, strict=True):
            index = index * count + torch.where(inside, at, 0.0).to(torch.int64)
            share = torch.where(inside, share, 0.0)
            weight = share if weight is None else weight * share
        values = flat.gather(2, index.reshape(batch, 1, points).expand(batch, channels, points))
        term = torch.where(inside.reshape(batch, 1, points), values * weight.reshape(batch, 1, points), 0.0)  # type: ignore[union-attr]
        total = term if total is None else total + term
    return total.reshape(batch, channels, *grid.shape[1:-1])  # type: ignore[union-attr]


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Tensor:
    """Values of input (N, C, H, W) at the places of grid (N, H', W', 2): (N, C, H', W'); the same with three axes.

    A place is (x, y) in [-1, 1], where -1 and 1 are the centres of the outermost points with `align_corners`, else their
    outer edges. `mode`: "bilinear" (also of three axes), "bicubic" (of two axes; cubic convolution of the 16 points around),
    or "nearest" (ties to even), of which the grid's gradient is 0. `padding_mode` says what lies outside: "zeros", the
    "border", or a "reflection". A place that is not a number gives 0.

    Raises ValueError for an unknown mode, RuntimeError for shapes and dtypes that do not fit, "bicubic" with three axes, and
    an input without points.

    >>> import adjoint as torch
    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> middle = torch.zeros(1, 1, 1, 2)
    >>> torch.nn.functional.grid_sample(image, middle, align_corners=False)
    tensor([[[[2.5000]]]])
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', "
            f"but got: '{padding_mode}'"
        )
    if input.dim() not in (4, 5) or grid.dim() != input.dim():
        raise RuntimeError(
            "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if input.shape[0] != grid.shape[0]:
        raise RuntimeError(
            "grid_sampler(): expected grid and input to have same batch size, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if grid.shape[-1] != input.dim() - 2:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {input.dim() - 2} in last dimension, but got grid with sizes {list(grid.shape)}"
        )
    if mode == "bicubic" and input.dim() == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input; use 'bilinear' for three axes")
    if 0 in input.shape[2:]:
        raise RuntimeError(
            f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes {list(input.shape)}"
        )
    if input.dtype is not grid.dtype or not input.is_floating_point():
        raise RuntimeError(
            f"grid_sampler(): expected input and grid to have the same floating dtype, but input has {input.dtype} and grid has {grid.dtype}"
        )
    align = _settled(align_corners, "grid_sample")
    return _sampled(input, grid, mode, padding_mode, align)
