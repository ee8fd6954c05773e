"""Layers that learn the size of their input from the first one: `LazyLinear`, lazy convolutions and normalizations.

`LazyModuleMixin` makes a layer lazy: its first call fills in sizes (`initialize_parameters`), gives the uninitialized
parameters their shapes, and turns the layer into the ordinary class, which it is from then on. The parameters stay the same
objects, so that an optimizer may hold them from the start; it skips those that have no gradient. Read
`LazyModuleMixin.__call__` first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

from adjoint.methods import Tensor
from adjoint.nn.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from adjoint.nn.functional.convolution import Size
from adjoint.nn.linear import Linear
from adjoint.nn.module import Module
from adjoint.nn.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from adjoint.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d", "LazyConvTranspose1d",
    "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d", "LazyInstanceNorm3d", "LazyLinear",
]  # fmt: skip


class LazyModuleMixin:
    """What makes a module lazy; it stands before the class of the layer among the bases.

    A subclass registers `UninitializedParameter` and `UninitializedBuffer`, defines `initialize_parameters`, which is called
    with the arguments of the first call and gives them shapes, and may name the class to become afterwards.

    >>> import adjoint as torch
    >>> class Scale(torch.nn.lazy.LazyModuleMixin, torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = torch.nn.UninitializedParameter()
    ...     def initialize_parameters(self, x):
    ...         self.factor.materialize(x.shape[-1:])
    ...         torch.nn.init.ones_(self.factor)
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(torch.ones(3)).detach()
    tensor([1., 1., 1.])
    """

    cls_to_become: ClassVar[type[Module] | None] = None
    _lazy: bool = True

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the uninitialized parameters shapes and first values, from the arguments of the first call."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer of this module itself has no shape yet."""
        own = vars(self)
        return any(is_lazy(t) for t in itertools.chain(own["_parameters"].values(), own["_buffers"].values()))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._lazy:
            self.initialize_parameters(*args, **kwargs)
            if self.has_uninitialized_params():
                raise RuntimeError(f"module {type(self).__name__} has not been fully initialized: initialize_parameters left one without a shape")
            self._lazy = False
            if self.cls_to_become is not None:
                del self._lazy
                self.__class__ = self.cls_to_become  # type: ignore[assignment]
                return self(*args, **kwargs)
        return super().__call__(*args, **kwargs)  # type: ignore[misc]


class LazyLinear(LazyModuleMixin, Linear):
    """`Linear` whose in_features are the last dimension of the first input.

    Once initialized, as by a state dict, an input of another width raises AssertionError.

    >>> import adjoint as torch
    >>> layer = torch.nn.LazyLinear(2)
    >>> layer(torch.ones(4, 3)).shape
    torch.Size([4, 2])
    >>> layer
    Linear(in_features=3, out_features=2, bias=True)
    """

    cls_to_become = Linear
    weight: Any
    bias: Any

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False, device, dtype)
        self.out_features = out_features
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        if self.in_features and not self.has_uninitialized_params():
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:  # type: ignore[override]
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            self.weight.materialize((self.out_features, self.in_features))
            if self.bias is not None:
                self.bias.materialize((self.out_features,))
            self.reset_parameters()
        elif self.in_features == 0:
            if input.shape[-1] != self.weight.shape[-1]:
                raise AssertionError(
                    f"LazyLinear: the first input has shape {list(input.shape)}, but the weight that was loaded is for "
                    f"in_features={self.weight.shape[-1]}"
                )
            self.in_features = self.weight.shape[-1]


class _LazyConvolution(LazyModuleMixin):
    """in_channels from the first input (N, C, ...) or (C, ...)."""

    spatial: ClassVar[int]
    transposed: ClassVar[bool]
    in_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    weight: Any
    bias: Any

    def _begin(self, out_channels: int, bias: bool, device: Any, dtype: Any) -> None:
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        if self.in_channels and not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        if not self.has_uninitialized_params():
            if self.in_channels == 0:
                self.in_channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups
            return
        n = self.spatial
        if input.dim() not in (n + 1, n + 2):
            raise RuntimeError(
                f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {type(self).__name__}, but got input of size: {list(input.shape)}"
            )
        channels = input.shape[-n - 1]
        if channels % self.groups:
            raise ValueError(f"in_channels must be divisible by groups; the first input has {channels} channels, and groups={self.groups}")
        self.in_channels = channels
        first, second = (channels, self.out_channels) if self.transposed else (self.out_channels, channels)
        self.weight.materialize((first, second // self.groups, *self.kernel_size))
        if self.bias is not None:
            self.bias.materialize((self.out_channels,))
        self.reset_parameters()


class _LazyForward(_LazyConvolution):
    def __init__(
        self,
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
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode, device, dtype)  # type: ignore[call-arg]
        self._begin(out_channels, bias, device, dtype)


class LazyConv1d(_LazyForward, Conv1d):  # type: ignore[misc]
    """`Conv1d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConv1d(4, 3)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 4, 3])
    """

    cls_to_become = Conv1d


class LazyConv2d(_LazyForward, Conv2d):  # type: ignore[misc]
    """`Conv2d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConv2d(8, 3, padding=1)
    LazyConv2d(0, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyForward, Conv3d):  # type: ignore[misc]
    """`Conv3d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConv3d(4, 3)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 4, 3, 3, 3])
    """

    cls_to_become = Conv3d


class _LazyTransposed(_LazyConvolution):
    def __init__(
        self,
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
        super().__init__(  # type: ignore[call-arg]
            0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode, device, dtype
        )
        self._begin(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):  # type: ignore[misc]
    """`ConvTranspose1d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConvTranspose1d(4, 3)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 4, 7])
    """

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):  # type: ignore[misc]
    """`ConvTranspose2d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConvTranspose2d(2, 3, stride=2)(torch.zeros(1, 4, 5, 5)).shape
    torch.Size([1, 2, 11, 11])
    """

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):  # type: ignore[misc]
    """`ConvTranspose3d` whose in_channels are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyConvTranspose3d(4, 3)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 4, 7, 7, 7])
    """

    cls_to_become = ConvTranspose3d


class _LazyNorm(LazyModuleMixin):
    """num_features from the first input."""

    num_features: int
    _check: Callable[[Tensor], None]
    weight: Any
    bias: Any
    running_mean: Any
    running_var: Any

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(0, eps, momentum, False, track_running_stats, device, dtype)  # type: ignore[call-arg]
        self.affine = affine
        made = {"device": device, "dtype": dtype}
        if affine:
            self.weight = UninitializedParameter(**made)
            if bias:
                self.bias = UninitializedParameter(**made)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(**made)
            self.running_var = UninitializedBuffer(**made)

    def reset_parameters(self) -> None:
        if self.num_features and not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def _features(self, input: Tensor) -> int:
        return input.shape[1]

    def initialize_parameters(self, input: Tensor) -> None:  # type: ignore[override]
        self._check(input)
        if self.num_features == 0:
            self.num_features = self._features(input)
        if self.has_uninitialized_params():
            for own in (self.weight, self.bias, self.running_mean, self.running_var):
                if own is not None:
                    own.materialize((self.num_features,))
            self.reset_parameters()


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):  # type: ignore[misc]
    """`BatchNorm1d` whose num_features are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyBatchNorm1d()(torch.zeros(2, 5)).shape
    torch.Size([2, 5])
    """

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):  # type: ignore[misc]
    """`BatchNorm2d` whose num_features are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyBatchNorm2d()(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):  # type: ignore[misc]
    """`BatchNorm3d` whose num_features are those of the first input.

    >>> import adjoint as torch
    >>> torch.nn.LazyBatchNorm3d()(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 5, 5, 5])
    """

    cls_to_become = BatchNorm3d


class _LazyInstanceNorm(_LazyNorm):
    dimensions: ClassVar[tuple[int, ...]]

    def _features(self, input: Tensor) -> int:
        return input.shape[input.dim() - self.dimensions[0]]


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):  # type: ignore[misc]
    """`InstanceNorm1d` whose num_features are those of the first input; with weights and running statistics unless told otherwise.

    >>> import adjoint as torch
    >>> torch.nn.LazyInstanceNorm1d()(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 2, 5])
    """

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):  # type: ignore[misc]
    """`InstanceNorm2d` whose num_features are those of the first input; see `LazyInstanceNorm1d`.

    >>> import adjoint as torch
    >>> torch.nn.LazyInstanceNorm2d()(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):  # type: ignore[misc]
    """`InstanceNorm3d` whose num_features are those of the first input; see `LazyInstanceNorm1d`.

    >>> import adjoint as torch
    >>> torch.nn.LazyInstanceNorm3d()(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 5, 5, 5])
    """

    cls_to_become = InstanceNorm3d
