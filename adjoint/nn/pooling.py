"""Pooling layers, and unpooling: each keeps its arguments and calls the function of its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from adjoint.methods import Tensor
from adjoint.nn import functional as F
from adjoint.nn.functional.convolution import Size, per_dimension
from adjoint.nn.module import Module

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d",
    "FractionalMaxPool3d", "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d",
    "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]  # fmt: skip


class _MaxPool(Module):
    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Any:
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[self.spatial - 1]
        return pool(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """`F.max_pool1d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.MaxPool1d(2)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[3., 7.]]])
    """

    spatial = 1


class MaxPool2d(_MaxPool):
    """`F.max_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.MaxPool2d(2)(torch.randn(1, 3, 6, 4)).shape
    torch.Size([1, 3, 3, 2])
    """

    spatial = 2


class MaxPool3d(_MaxPool):
    """`F.max_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.MaxPool3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    spatial = 3


class AvgPool1d(Module):
    """`F.avg_pool1d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AvgPool1d(2)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[2., 6.]]])
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = _single(kernel_size)
        self.stride = _single(kernel_size if stride is None else stride)
        self.padding = _single(padding)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


def _single(value: Size) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


class _AvgPool(Module):
    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return (F.avg_pool2d, F.avg_pool3d)[self.spatial - 2](
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """`F.avg_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AvgPool2d(2)(torch.arange(16.).reshape(1, 1, 4, 4))
    tensor([[[[ 2.5000,  4.5000],
              [10.5000, 12.5000]]]])
    """

    spatial = 2


class AvgPool3d(_AvgPool):
    """`F.avg_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AvgPool3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    spatial = 3


class _AdaptiveAvg(Module):
    spatial: ClassVar[int]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[
            self.spatial - 1
        ]
        return pool(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvg):
    """`F.adaptive_avg_pool1d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveAvgPool1d(2)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[2., 6.]]])
    """

    spatial = 1


class AdaptiveAvgPool2d(_AdaptiveAvg):
    """`F.adaptive_avg_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveAvgPool2d(1)(torch.arange(16.).reshape(1, 1, 4, 4))
    tensor([[[[7.5000]]]])
    """

    spatial = 2


class AdaptiveAvgPool3d(_AdaptiveAvg):
    """`F.adaptive_avg_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveAvgPool3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    spatial = 3


class _AdaptiveMax(Module):
    spatial: ClassVar[int]

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[
            self.spatial - 1
        ]
        return pool(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMax):
    """`F.adaptive_max_pool1d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveMaxPool1d(2)(torch.tensor([[[1., 3., 5., 7.]]]))
    tensor([[[3., 7.]]])
    """

    spatial = 1


class AdaptiveMaxPool2d(_AdaptiveMax):
    """`F.adaptive_max_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveMaxPool2d(1)(torch.arange(16.).reshape(1, 1, 4, 4))
    tensor([[[[15.]]]])
    """

    spatial = 2


class AdaptiveMaxPool3d(_AdaptiveMax):
    """`F.adaptive_max_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.AdaptiveMaxPool3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    spatial = 3


class _LPPool(Module):
    spatial: ClassVar[int]

    def __init__(self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False) -> None:
        super().__init__()
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        pool = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)[self.spatial - 1]
        return pool(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPool):
    """`F.lp_pool1d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.LPPool1d(2, 2)(torch.tensor([[[3., 4., 6., 8.]]]))
    tensor([[[ 5., 10.]]])
    """

    spatial = 1


class LPPool2d(_LPPool):
    """`F.lp_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.LPPool2d(2, 2)(torch.ones(1, 1, 2, 4))
    tensor([[[[2., 2.]]]])
    """

    spatial = 2


class LPPool3d(_LPPool):
    """`F.lp_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.LPPool3d(2, 2)(torch.ones(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 2, 2, 2])
    """

    spatial = 3


class _MaxUnpool(Module):
    spatial: ClassVar[int]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        sizes = (kernel_size, kernel_size if stride is None else stride, padding)
        self.kernel_size, self.stride, self.padding = (per_dimension(size, self.spatial, "size") for size in sizes)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        unpool = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)[self.spatial - 1]
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """`F.max_unpool1d` as a layer.

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.MaxPool1d(2, return_indices=True)(torch.tensor([[[1., 4., 3., 2.]]]))
    >>> torch.nn.MaxUnpool1d(2)(largest, indices)
    tensor([[[0., 4., 3., 0.]]])
    """

    spatial = 1


class MaxUnpool2d(_MaxUnpool):
    """`F.max_unpool2d` as a layer.

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.MaxPool2d(2, return_indices=True)(torch.ones(1, 1, 5, 4))
    >>> torch.nn.MaxUnpool2d(2)(largest, indices, output_size=(5, 4)).shape
    torch.Size([1, 1, 5, 4])
    """

    spatial = 2


class MaxUnpool3d(_MaxUnpool):
    """`F.max_unpool3d` as a layer.

    >>> import adjoint as torch
    >>> largest, indices = torch.nn.MaxPool3d(2, return_indices=True)(torch.ones(1, 1, 2, 2, 4))
    >>> torch.nn.MaxUnpool3d(2)(largest, indices).shape
    torch.Size([1, 1, 2, 2, 4])
    """

    spatial = 3


class _FractionalMaxPool(Module):
    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Size,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        n, name = self.spatial, type(self).__name__
        self.kernel_size = per_dimension(kernel_size, n, "kernel_size")
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if output_size is not None and output_ratio is not None:
            raise ValueError("only one of output_size and output_ratio may be specified")
        self.output_size = None if output_size is None else per_dimension(output_size, n, "output_size")
        self.output_ratio = (output_ratio,) * n if isinstance(output_ratio, (int, float)) else output_ratio
        if self.output_ratio is not None and not all(0 < ratio < 1 for ratio in self.output_ratio):
            raise ValueError(f"output_ratio must be between 0 and 1 (got {output_ratio})")

    def forward(self, input: Tensor) -> Any:
        pool = (F.fractional_max_pool2d, F.fractional_max_pool3d)[self.spatial - 2]
        return pool(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples)


class FractionalMaxPool2d(_FractionalMaxPool):
    """`F.fractional_max_pool2d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.FractionalMaxPool2d(2, output_ratio=0.5)(torch.ones(1, 2, 9, 8)).shape
    torch.Size([1, 2, 4, 4])
    """

    spatial = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """`F.fractional_max_pool3d` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.FractionalMaxPool3d(2, output_size=3)(torch.ones(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 3, 3, 3])
    """

    spatial = 3
