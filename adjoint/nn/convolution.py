"""Convolution layers. One base class holds the shared constructor; see `_Convolution` first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn import functional as F
from adjoint.nn import init
from adjoint.nn.functional.convolution import Size, per_dimension
from adjoint.nn.module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _Convolution(Module):
    """weight (out, in/groups, *kernel), or (in, out/groups, *kernel) when transposed, and bias (out,)."""

    spatial: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size | str,
        output_padding: Size,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        n = self.spatial
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(
                f"padding_mode must be one of {modes}, but got padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_dimension(kernel_size, n, "kernel_size")
        self.stride = per_dimension(stride, n, "stride")
        self.dilation = per_dimension(dilation, n, "dilation")
        self.output_padding = per_dimension(output_padding, n, "output_padding")
        self.padding: Any  # "same", "valid", or an amount per dimension
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(
                    f"Invalid padding string '{padding}', should be one of ('valid', 'same')"
                )
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
            self.padding = padding
        else:
            self.padding = per_dimension(padding, n, "padding")
        self.groups = groups
        self.padding_mode = padding_mode
        made = {"device": device, "dtype": dtype}
        first, second = (
            (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        )
        self.weight = Parameter(torch.empty((first, second // groups, *self.kernel_size), **made))
        if bias:
            self.bias = Parameter(torch.empty((out_channels,), **made))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        # As in Linear: both bounds are 1/sqrt(fan_in).
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = self.weight.shape[1] * math.prod(self.kernel_size)
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def _borders(self) -> list[int]:
        """What `F.pad` takes for this padding: the last dimension first."""
        if self.padding == "valid":
            amounts = [(0, 0)] * self.spatial
        elif self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            amounts = [(t // 2, t - t // 2) for t in totals]
        else:
            amounts = [(p, p) for p in self.padding]
        return [side for pair in reversed(amounts) for side in pair]

    def forward(self, input: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[self.spatial - 1]
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._borders(), mode=self.padding_mode)
            padding = 0
        return convolve(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        n = self.spatial
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0,) * n:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * n:
            parts.append(f"dilation={self.dilation}")
        if self.output_padding != (0,) * n:
            parts.append(f"output_padding={self.output_padding}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class _Forward(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            0,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )


class Conv1d(_Forward):
    """`F.conv1d` with its own weights: (N, C, L) to (N, out, L').

    >>> import adjoint as torch
    >>> torch.nn.Conv1d(2, 4, 3)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 4, 3])
    """

    spatial = 1


class Conv2d(_Forward):
    """`F.conv2d` with its own weights: (N, C, H, W) to (N, out, H', W').

    >>> import adjoint as torch
    >>> torch.nn.Conv2d(3, 8, 3, padding=1)(torch.randn(2, 3, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    spatial = 2


class Conv3d(_Forward):
    """`F.conv3d` with its own weights: (N, C, D, H, W) to (N, out, D', H', W').

    >>> import adjoint as torch
    >>> torch.nn.Conv3d(2, 4, 3)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 4, 3, 3, 3])
    """

    spatial = 3


class _Transposed(_Convolution):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.spatial - 1]
        extra = (
            self.output_padding if output_size is None else self._padding_for(input, output_size)
        )
        return convolve(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
        )

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """The output padding that gives `output_size`; a strided convolution maps several sizes to one."""
        wanted = list(output_size)[-self.spatial :]
        extra = []
        for i, size in enumerate(input.shape[-self.spatial :]):
            reach = self.dilation[i] * (self.kernel_size[i] - 1) + 1
            least = (size - 1) * self.stride[i] - 2 * self.padding[i] + reach
            if not least <= wanted[i] <= least + self.stride[i] - 1:
                raise ValueError(
                    f"requested an output size of {wanted}, but in dimension {i} valid sizes range from {least} to "
                    f"{least + self.stride[i] - 1} (for an input of {list(input.shape)})"
                )
            extra.append(wanted[i] - least)
        return tuple(extra)


class ConvTranspose1d(_Transposed):
    """`F.conv_transpose1d` with its own weights.

    >>> import adjoint as torch
    >>> torch.nn.ConvTranspose1d(2, 4, 3)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 4, 7])
    """

    spatial = 1


class ConvTranspose2d(_Transposed):
    """`F.conv_transpose2d` with its own weights.

    >>> import adjoint as torch
    >>> torch.nn.ConvTranspose2d(4, 2, 3, stride=2)(torch.randn(1, 4, 5, 5)).shape
    torch.Size([1, 2, 11, 11])
    """

    spatial = 2


class ConvTranspose3d(_Transposed):
    """`F.conv_transpose3d` with its own weights.

    >>> import adjoint as torch
    >>> torch.nn.ConvTranspose3d(2, 4, 3)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 4, 7, 7, 7])
    """

    spatial = 3
