"""Layers that move values without computing new ones, or resample them: flatten, fold, pad, upsample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from adjoint.methods import Tensor
from adjoint.nn import functional as F
from adjoint.nn.functional.convolution import Size
from adjoint.nn.module import Module

__all__ = [
    "ChannelShuffle", "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "Flatten",
    "Fold", "PixelShuffle", "PixelUnshuffle", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d",
    "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d", "Unflatten", "Unfold", "Upsample", "UpsamplingBilinear2d",
    "UpsamplingNearest2d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class Flatten(Module):
    """Joins the dimensions from start_dim to end_dim; by default all but the first.

    >>> import adjoint as torch
    >>> torch.nn.Flatten()(torch.ones(2, 3, 4)).shape
    torch.Size([2, 12])
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits dimension `dim` into `unflattened_size`.

    >>> import adjoint as torch
    >>> torch.nn.Unflatten(1, (2, 3))(torch.zeros(2, 6)).shape
    torch.Size([2, 2, 3])
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        if isinstance(unflattened_size, int) or not all(
            isinstance(n, int) for n in unflattened_size
        ):
            raise TypeError(f"unflattened_size must be a tuple of ints, got {unflattened_size!r}")
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Unfold(Module):
    """`F.unfold` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.Unfold(2)(torch.ones(1, 1, 3, 3)).shape
    torch.Size([1, 4, 4])
    """

    def __init__(
        self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )


class Fold(Module):
    """`F.fold` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.Fold((3, 3), 2)(torch.ones(1, 4, 4))
    tensor([[[[1., 2., 1.],
              [2., 4., 2.],
              [1., 2., 1.]]]])
    """

    def __init__(
        self,
        output_size: Size,
        kernel_size: Size,
        dilation: Size = 1,
        padding: Size = 0,
        stride: Size = 1,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.padding = padding
        self.stride = stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


# ---- borders -------------------------------------------------------------------------------------


class _Pad(Module):
    spatial: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: Size) -> None:
        super().__init__()
        n = 2 * self.spatial
        self.padding = (padding,) * n if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != n:
            raise ValueError(f"{type(self).__name__} takes an int or {n} ints, got {padding}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Size, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A border of one value around the last dimension.

    >>> import adjoint as torch
    >>> torch.nn.ConstantPad1d(1, 9.0)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[9., 1., 3., 5., 7., 9.]]])
    """

    spatial = 1


class ConstantPad2d(_ConstantPad):
    """A border of one value around the last two dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ConstantPad2d(1, 9.0)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 7, 7])
    """

    spatial = 2


class ConstantPad3d(_ConstantPad):
    """A border of one value around the last three dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ConstantPad3d(1, 9.0)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 7, 7, 7])
    """

    spatial = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: Size) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad):
    """A border of zeros around the last dimension.

    >>> import adjoint as torch
    >>> torch.nn.ZeroPad1d(1)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[0., 1., 3., 5., 7., 0.]]])
    """

    spatial = 1


class ZeroPad2d(_ZeroPad):
    """A border of zeros around the last two dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ZeroPad2d(1)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 7, 7])
    """

    spatial = 2


class ZeroPad3d(_ZeroPad):
    """A border of zeros around the last three dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ZeroPad3d(1)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 7, 7, 7])
    """

    spatial = 3


class ReflectionPad1d(_Pad):
    """A border that mirrors the last dimension, without repeating its edge.

    >>> import adjoint as torch
    >>> torch.nn.ReflectionPad1d(1)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[3., 1., 3., 5., 7., 5.]]])
    """

    spatial, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """A border that mirrors the last two dimensions, without repeating their edges.

    >>> import adjoint as torch
    >>> torch.nn.ReflectionPad2d(1)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 7, 7])
    """

    spatial, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """A border that mirrors the last three dimensions, without repeating their edges.

    >>> import adjoint as torch
    >>> torch.nn.ReflectionPad3d(1)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 7, 7, 7])
    """

    spatial, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the edge of the last dimension.

    >>> import adjoint as torch
    >>> torch.nn.ReplicationPad1d(1)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[1., 1., 3., 5., 7., 7.]]])
    """

    spatial, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edges of the last two dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ReplicationPad2d(1)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 7, 7])
    """

    spatial, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """A border that repeats the edges of the last three dimensions.

    >>> import adjoint as torch
    >>> torch.nn.ReplicationPad3d(1)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 7, 7, 7])
    """

    spatial, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """A border taken from the other end of the last dimension.

    >>> import adjoint as torch
    >>> torch.nn.CircularPad1d(1)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[7., 1., 3., 5., 7., 1.]]])
    """

    spatial, mode = 1, "circular"


class CircularPad2d(_Pad):
    """A border taken from the other ends of the last two dimensions.

    >>> import adjoint as torch
    >>> torch.nn.CircularPad2d(1)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 7, 7])
    """

    spatial, mode = 2, "circular"


class CircularPad3d(_Pad):
    """A border taken from the other ends of the last three dimensions.

    >>> import adjoint as torch
    >>> torch.nn.CircularPad3d(1)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 7, 7, 7])
    """

    spatial, mode = 3, "circular"


# ---- resolution ----------------------------------------------------------------------------------


class Upsample(Module):
    """`F.interpolate` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.Upsample(scale_factor=2)(torch.tensor([[[1., 2.]]]))
    tensor([[[1., 1., 2., 2.]]])
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.scale_factor = (
            tuple(float(f) for f in scale_factor)
            if isinstance(scale_factor, (tuple, list))
            else (float(scale_factor) if scale_factor else None)
        )
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        what = (
            f"scale_factor={self.scale_factor!r}"
            if self.scale_factor is not None
            else f"size={self.size!r}"
        )
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Nearest-neighbour `Upsample`.

    >>> import adjoint as torch
    >>> torch.nn.UpsamplingNearest2d(scale_factor=2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 10, 10])
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Bilinear `Upsample` with aligned corners.

    >>> import adjoint as torch
    >>> torch.nn.UpsamplingBilinear2d(scale_factor=2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 10, 10])
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class ChannelShuffle(Module):
    """`F.channel_shuffle` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.ChannelShuffle(2)(torch.arange(4.).reshape(1, 4, 1)).flatten()
    tensor([0., 2., 1., 3.])
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class PixelShuffle(Module):
    """`F.pixel_shuffle` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.PixelShuffle(2)(torch.ones(1, 4, 2, 2)).shape
    torch.Size([1, 1, 4, 4])
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """`F.pixel_unshuffle` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.PixelUnshuffle(2)(torch.ones(1, 1, 4, 4)).shape
    torch.Size([1, 4, 2, 2])
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"
