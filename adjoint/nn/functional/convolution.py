"""Convolutions in one, two and three dimensions, their transposes, and unfold / fold.

All of them are one call of the primitive `convolve`, which can pad, spread and crop its input, and whose
gradients are convolutions again. What stands here are PyTorch's arguments and what it says of wrong ones.
Read `_convolve` first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import composite

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "fold",
    "per_dimension",
    "unfold",
    "whole_numbers",
    "windows",
]

Size = int | Sequence[int]


def whole_numbers(values: Any, name: str) -> tuple[int, ...]:
    """Several ints; TypeError for anything else, because 1.5 cells or "a" cells are a mistake."""
    try:
        return tuple(index(v) for v in values)
    except (TypeError, RuntimeError):
        raise TypeError(f"{name} must be an int or a tuple of ints, not {values!r:.60}") from None


def per_dimension(value: Size, n: int, name: str) -> tuple[int, ...]:
    """`value` for each of n dimensions: an int is repeated, a sequence of one or n is taken as it is."""
    if isinstance(value, int):
        return (value,) * n
    values = whole_numbers(value, name)
    if len(values) == 1:
        return values * n
    if len(values) != n:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {n} values, but got {name}={list(value)}"
        )
    return values


def windows(
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    lo: tuple[int, ...],
    hi: tuple[int, ...],
) -> Tensor:
    """(..., L1, .., Ln) zero-padded and cut into windows: (..., n1, .., nn, k1, .., kn)."""
    spatial = len(kernel)
    lead = (0,) * (x.dim() - spatial)
    if any(lo) or any(hi):
        x = torch._pad(x, lead + lo, lead + hi, lead + (0,) * spatial)
    if any(size > 1 for size in kernel) or any(step > 1 for step in stride):
        return torch._window(x, tuple(range(x.dim() - spatial, x.dim())), kernel, stride, dilation)
    return x.reshape(*x.shape, *(1,) * spatial)


def _check_input(name: str, x: Tensor, weight: Tensor, n: int) -> None:
    if weight.dim() != n + 2:
        raise RuntimeError(
            f"Expected a weight of {n + 2} dimensions for {name}, got {list(weight.shape)}"
        )
    if 0 in weight.shape[2:]:
        raise RuntimeError(f"kernel size should be greater than zero, but the weight of {name} has size {list(weight.shape)}")
    if x.dim() not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, "
            f"but got input of size: {list(x.shape)}"
        )


def _bias_of(weight: Tensor, bias: Tensor | None, channels: int) -> Tensor | None:
    """The bias, checked, in the weight's dtype: PyTorch takes one of any dtype."""
    if bias is None:
        return None
    if tuple(bias.shape) != (channels,):
        raise RuntimeError(
            f"Given weight of size {list(weight.shape)}, expected bias to be 1-dimensional with {channels} elements, "
            f"but got bias of size {list(bias.shape)} instead"
        )
    return bias if bias.dtype is weight.dtype else bias.to(weight.dtype)


def _check_convolution(
    name: str,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    edges: list[int],
    groups: int,
) -> None:
    n = len(stride)
    _check_input(name, x, weight, n)
    if min(stride) < 1:
        raise RuntimeError("non-positive stride is not supported")
    if min(dilation) < 1:
        raise RuntimeError("dilation should be greater than zero")
    if min(edges) < 0:
        raise RuntimeError("negative padding is not supported")
    if groups < 1 or weight.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {list(weight.shape)} instead"
        )
    channels = x.shape[-n - 1]
    if channels != weight.shape[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
            f"{weight.shape[1] * groups} channels, but got {channels} channels instead"
        )
    padded = [size + edges[i] + edges[n + i] for i, size in enumerate(x.shape[-n:])]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if any(r > size for r, size in zip(reach, padded, strict=True)):
        raise RuntimeError(
            f"Calculated padded input size per channel: ({' x '.join(map(str, padded))}). "
            f"Kernel size: ({' x '.join(map(str, reach))}). Kernel size can't be greater than actual input size"
        )


@composite("ConvolutionBackward0")
def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    lo: tuple[int, ...],
    hi: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    name: str,
) -> Tensor:
    """x (N, C, *L), weight (O, C/groups, *k), bias (O,): y[n, o, p] = sum of weight[o, c, j] x[n, c, p*s + j*d]."""
    _check_convolution(name, x, weight, stride, dilation, [*lo, *hi], groups)
    bias = _bias_of(weight, bias, weight.shape[0])
    batched = x.dim() == len(stride) + 2
    x = x if batched else x.unsqueeze(0)
    out = torch._convolve(x, weight, bias, (stride, lo, hi, (1,) * len(stride), dilation, groups))
    return out if batched else out.squeeze(0)


def _same_padding(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def _convolution(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Tensor:
    strides = per_dimension(stride, n, "stride")
    dilations = per_dimension(dilation, n, "dilation")
    if not isinstance(padding, str):
        lo = hi = per_dimension(padding, n, "padding")
    elif padding == "valid":
        lo = hi = (0,) * n
    elif padding == "same":
        if any(step != 1 for step in strides):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        _check_input(f"conv{n}d", input, weight, n)
        lo, hi = _same_padding(weight.shape[2:], dilations)
    else:
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    return _convolve(input, weight, bias, strides, lo, hi, dilations, groups, f"conv{n}d")


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, L) or (C, L) with weight (O, C/groups, k); see `conv2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv1d(torch.tensor([[[1., 3., 5., 7.]]]), torch.ones(1, 1, 2))
    tensor([[[ 4.,  8., 12.]]])
    """
    return _convolution(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, H, W) or (C, H, W) with weight (O, C/groups, kh, kw), plus bias (O,).

    Output size per dimension: (L + 2 padding - dilation (k - 1) - 1) // stride + 1. `padding` may be
    "valid" or, for stride 1, "same". Raises RuntimeError when sizes do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    return _convolution(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, D, H, W) or (C, D, H, W) with weight (O, C/groups, kd, kh, kw); see `conv2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv3d(torch.ones(1, 1, 4, 4, 4), torch.ones(2, 1, 3, 3, 3)).shape
    torch.Size([1, 2, 2, 2, 2])
    """
    return _convolution(3, input, weight, bias, stride, padding, dilation, groups)


# ---- transposed convolution ----------------------------------------------------------------------


@composite("ConvolutionBackward0")
def _convolve_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    name: str,
) -> Tensor:
    """The transpose of `_convolve` in x: spread x by the stride, then convolve with the flipped weight."""
    n = len(stride)
    _check_input(name, x, weight, n)
    if x.shape[-n - 1] != weight.shape[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
            f"{weight.shape[0]} channels, but got {x.shape[-n - 1]} channels instead"
        )
    if any(o >= max(s, d) for o, s, d in zip(output_padding, stride, dilation, strict=True)):
        raise RuntimeError(
            "output padding must be smaller than either stride or dilation, but got "
            f"output_padding={output_padding}, stride={stride}, dilation={dilation}"
        )
    batched = x.dim() == n + 2
    x = x if batched else x.unsqueeze(0)
    in_channels, per_group = weight.shape[:2]
    bias = _bias_of(weight, bias, groups * per_group)
    kernel = tuple(weight.shape[2:])
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    front = tuple(r - p for r, p in zip(reach, padding, strict=True))
    back = tuple(f + o for f, o in zip(front, output_padding, strict=True))
    flipped = (
        weight.flip(tuple(range(2, 2 + n)))
        .reshape(groups, in_channels // groups, per_group, *kernel)
        .transpose(1, 2)
        .reshape(groups * per_group, in_channels // groups, *kernel)
    )
    out = torch._convolve(x, flipped, bias, ((1,) * n, front, back, stride, dilation, groups))
    return out if batched else out.squeeze(0)


def _transposed(
    n: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size,
    padding: Size,
    output_padding: Size,
    groups: int,
    dilation: Size,
) -> Tensor:
    return _convolve_transposed(
        input,
        weight,
        bias,
        per_dimension(stride, n, "stride"),
        per_dimension(padding, n, "padding"),
        per_dimension(output_padding, n, "output_padding"),
        per_dimension(dilation, n, "dilation"),
        groups,
        f"conv_transpose{n}d",
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Transposed convolution of (N, C, L) with weight (C, O/groups, k); see `conv_transpose2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv_transpose1d(torch.tensor([[[1., 3., 5., 7.]]]), torch.ones(1, 1, 2))
    tensor([[[ 1.,  4.,  8., 12.,  7.]]])
    """
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The gradient of `conv2d` with respect to its input, as a layer: (N, C, H, W), weight (C, O/groups, kh, kw).

    Output size per dimension: (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1.
    Raises RuntimeError when sizes do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv_transpose2d(torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
    tensor([[[[1., 2., 1.]]]])
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """Transposed convolution of (N, C, D, H, W) with weight (C, O/groups, kd, kh, kw); see `conv_transpose2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.conv_transpose3d(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 3, 3, 3)).shape
    torch.Size([1, 1, 4, 4, 4])
    """
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _crop(x: Tensor, lo: Sequence[int], hi: Sequence[int]) -> Tensor:
    """Drop lo elements in front and hi behind, along the last dimensions."""
    first = x.dim() - len(lo)
    for i, (front, back) in enumerate(zip(lo, hi, strict=True)):
        if front or back:
            x = x.narrow(first + i, front, x.shape[first + i] - front - back)
    return x


# ---- windows as columns, and back ----------------------------------------------------------------


@composite("Im2ColBackward0")
def _unfold(
    x: Tensor,
    kernel: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    stride: tuple[int, ...],
) -> Tensor:
    if x.dim() not in (3, 4):
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor for input with possibly 0 batch size, got: {list(x.shape)}"
        )
    batched = x.dim() == 4
    x = x if batched else x.unsqueeze(0)
    cut = windows(x, kernel, stride, dilation, padding, padding)
    columns = cut.permute(0, 1, 4, 5, 2, 3)
    area = cut.shape[2] * cut.shape[3]
    columns = columns.reshape(x.shape[0], x.shape[1] * math.prod(kernel), area)
    return columns if batched else columns.squeeze(0)


def unfold(
    input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Sliding windows of (N, C, H, W) as columns: (N, C kh kw, positions).

    >>> import adjoint as torch
    >>> torch.nn.functional.unfold(torch.ones(1, 1, 3, 3), 2).shape
    torch.Size([1, 4, 4])
    """
    return _unfold(
        input,
        per_dimension(kernel_size, 2, "kernel_size"),
        per_dimension(dilation, 2, "dilation"),
        per_dimension(padding, 2, "padding"),
        per_dimension(stride, 2, "stride"),
    )


@composite("Col2ImBackward0")
def _fold(
    columns: Tensor,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: tuple[int, ...],
    stride: tuple[int, ...],
) -> Tensor:
    if columns.dim() not in (2, 3):
        raise RuntimeError(
            f"Expected 2D or 3D tensor for input of fold, got: {list(columns.shape)}"
        )
    batched = columns.dim() == 3
    columns = columns if batched else columns.unsqueeze(0)
    full = [n + 2 * p for n, p in zip(size, padding, strict=True)]
    positions = [
        (f - d * (k - 1) - 1) // s + 1
        for f, d, k, s in zip(full, dilation, kernel, stride, strict=True)
    ]
    n, rows, area = columns.shape
    if rows % math.prod(kernel) or area != math.prod(positions):
        raise RuntimeError(
            f"fold(): columns of shape {list(columns.shape)} do not fit output_size={size}, kernel_size={kernel}, "
            f"dilation={dilation}, padding={padding}, stride={stride}: expected (N, channels * {math.prod(kernel)}, "
            f"{math.prod(positions)})"
        )
    blocks = columns.reshape(n, rows // math.prod(kernel), *kernel, *positions)
    # Each kernel offset contributes a grid spread by the stride; the image is the sum of the grids.
    image: Any = None
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            at = (i * dilation[0], j * dilation[1])
            reach = [(p - 1) * s + 1 for p, s in zip(positions, stride, strict=True)]
            behind = [f - a - r for f, a, r in zip(full, at, reach, strict=True)]
            grid = torch._pad(
                blocks[:, :, i, j],
                (0, 0, *at),
                (0, 0, *behind),
                (0, 0, stride[0] - 1, stride[1] - 1),
            )
            image = grid if image is None else image + grid
    image = _crop(image, padding, padding)
    return image if batched else image.squeeze(0)


def fold(
    input: Tensor,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """Columns (N, C kh kw, positions) added up into the image (N, C, H, W) their windows came from.

    >>> import adjoint as torch
    >>> torch.nn.functional.fold(torch.ones(1, 4, 4), output_size=(3, 3), kernel_size=2)
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """
    return _fold(
        input,
        per_dimension(output_size, 2, "output_size"),
        per_dimension(kernel_size, 2, "kernel_size"),
        per_dimension(dilation, 2, "dilation"),
        per_dimension(padding, 2, "padding"),
        per_dimension(stride, 2, "stride"),
    )
