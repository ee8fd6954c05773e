"""Normalisation layers: batch, instance, layer, group, RMS, and local response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.nn import functional as F
from adjoint.nn import init
from adjoint.nn.module import Module

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CrossMapLRN2d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
    "LayerNorm", "LocalResponseNorm", "RMSNorm", "SyncBatchNorm",
]  # fmt: skip


class _RunningNorm(Module):
    """What batch and instance norm share: optional weight and bias (C,), optional running statistics (C,)."""

    dimensions: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        made = {"device": device, "dtype": dtype}
        biased = affine and bias
        self.register_parameter(
            "weight", Parameter(torch.ones(num_features, **made)) if affine else None
        )
        self.register_parameter(
            "bias", Parameter(torch.zeros(num_features, **made)) if biased else None
        )
        tracked = track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_features, **made) if tracked else None)
        self.register_buffer("running_var", torch.ones(num_features, **made) if tracked else None)
        count = torch.tensor(0, dtype=torch.int64) if tracked else None
        self.register_buffer("num_batches_tracked", count)

    def reset_running_stats(self) -> None:
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check(self, input: Tensor) -> None:
        if input.dim() not in self.dimensions:
            wanted = " or ".join(f"{n}D" for n in self.dimensions)
            raise ValueError(f"expected {wanted} input (got {input.dim()}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        tracked = not self.training or self.track_running_stats  # which may have been switched off since
        return F.batch_norm(
            input,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            self.weight,
            self.bias,
            # Without running statistics the batch's own are used in evaluation, too.
            self.training or self.running_mean is None,
            self.momentum,
            self.eps,
            self.num_batches_tracked if self.training and tracked else None,
        )


class BatchNorm1d(_BatchNorm):
    """Batch norm over (N, C) or (N, C, L); see `F.batch_norm`.

    >>> import adjoint as torch
    >>> layer = torch.nn.BatchNorm1d(1, eps=0.0)
    >>> layer(torch.tensor([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    >>> layer.running_mean
    tensor([0.2000])
    """

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch norm over (N, C, H, W).

    >>> import adjoint as torch
    >>> torch.nn.BatchNorm2d(2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch norm over (N, C, D, H, W).

    >>> import adjoint as torch
    >>> torch.nn.BatchNorm3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 5, 5, 5])
    """

    dimensions = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch norm over (N, C, ...) of two dimensions or more, for several processes; here there is one, whose batch is all.

    `process_group` is kept and means nothing.

    >>> import adjoint as torch
    >>> net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    >>> net[0], net(torch.zeros(3, 2)).shape
    (SyncBatchNorm(2, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True), torch.Size([3, 2]))
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with every batch norm in it as a `SyncBatchNorm`, which shares its parameters and statistics."""
        out = module
        if isinstance(module, _BatchNorm):
            out = cls(
                module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, process_group,
                bias=module.bias is not None,
            )  # fmt: skip
            out.weight, out.bias = module.weight, module.bias
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                setattr(out, name, getattr(module, name))
            out.training = module.training
        for name, child in list(module._modules.items()):
            if child is not None:
                setattr(out, name, cls.convert_sync_batchnorm(child, process_group))
        return out


class _InstanceNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        batched = input.dim() == self.dimensions[-1]
        out = F.instance_norm(
            input if batched else input.unsqueeze(0),
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return out if batched else out.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Instance norm over (N, C, L) or (C, L); see `F.instance_norm`.

    >>> import adjoint as torch
    >>> torch.nn.InstanceNorm1d(2)(torch.zeros(1, 2, 5)).shape
    torch.Size([1, 2, 5])
    """

    dimensions = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance norm over (N, C, H, W) or (C, H, W).

    >>> import adjoint as torch
    >>> torch.nn.InstanceNorm2d(2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    dimensions = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance norm over (N, C, D, H, W) or (C, D, H, W).

    >>> import adjoint as torch
    >>> torch.nn.InstanceNorm3d(2)(torch.zeros(1, 2, 5, 5, 5)).shape
    torch.Size([1, 2, 5, 5, 5])
    """

    dimensions = (4, 5)


class LayerNorm(Module):
    """`F.layer_norm` over the last dimensions `normalized_shape`, with weight and bias of that shape.

    >>> import adjoint as torch
    >>> torch.nn.LayerNorm(2, eps=0.0)(torch.tensor([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        made = {"device": device, "dtype": dtype}
        weighted, biased = elementwise_affine, elementwise_affine and bias
        self.register_parameter(
            "weight", Parameter(torch.ones(shape, **made)) if weighted else None
        )
        self.register_parameter("bias", Parameter(torch.zeros(shape, **made)) if biased else None)

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """`F.rms_norm` over the last dimensions `normalized_shape`, with a weight of that shape.

    >>> import adjoint as torch
    >>> torch.nn.RMSNorm(2)(torch.tensor([3., 4.])).detach()
    tensor([0.8485, 1.1314])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        shape = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        weight = torch.ones(shape, device=device, dtype=dtype) if elementwise_affine else None
        self.register_parameter("weight", None if weight is None else Parameter(weight))

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """`F.group_norm` over `num_groups` groups of `num_channels` channels, with weight and bias (C,).

    >>> import adjoint as torch
    >>> torch.nn.GroupNorm(2, 4)(torch.zeros(1, 4, 3)).shape
    torch.Size([1, 4, 3])
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(
                f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        made = {"device": device, "dtype": dtype}
        biased = affine and bias
        self.register_parameter(
            "weight", Parameter(torch.ones(num_channels, **made)) if affine else None
        )
        self.register_parameter(
            "bias", Parameter(torch.zeros(num_channels, **made)) if biased else None
        )

    def reset_parameters(self) -> None:
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


class LocalResponseNorm(Module):
    """`F.local_response_norm` as a layer.

    >>> import adjoint as torch
    >>> torch.nn.LocalResponseNorm(2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(Module):
    """x / (k + alpha / size * sum of squares of neighbouring channels)^beta, of (N, C, H, W); the old form of `LocalResponseNorm`.

    It sums what it sums in PyTorch, for weights that were trained with it: floor((size - 1) / 2) channels on either side, the
    first channel always, and all that come before for the first (size + 1) / 2. New models use `LocalResponseNorm`. Raises
    ValueError for inputs of another number of dimensions.

    >>> import adjoint as torch
    >>> torch.nn.CrossMapLRN2d(2)(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 2, 5, 5])
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() != 4:
            raise ValueError(f"CrossMapLRN2d: Expected input to be 4D, got {input.dim()}D instead.")
        reach = (self.size + 1) // 2
        place = torch.arange(input.shape[1])
        own, other = place.unsqueeze(1), place
        counted = (other < own + reach) & ((other > own - reach) | (other == 0) | (own <= reach))
        sums = torch.einsum("ij,njhw->nihw", counted.to(input.dtype), input * input)
        return input / (sums * (self.alpha / self.size) + self.k) ** self.beta

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
