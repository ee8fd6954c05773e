"""Normalisation: layer, batch, group, instance and RMS norms, and the unit-length `normalize`.

All are (x - mean) / sqrt(variance + eps) with the biased variance, over different axes; read
`_standardize` first. Batch norm alone keeps state: its running averages are updated after the
composite, in place and without ever being read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import FLOATING, composite, update

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "normalize",
    "rms_norm",
]


def _standardize(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(var + eps) over `dims`, with the mean and the biased variance (dims kept).

    The variance is written as E[(x - c)^2] - (mean - c)^2, which holds for every constant c, with c the value of the
    mean. So the second term is 0, and yet derivatives of every order are right; but the gradient need not sum the
    contributions of all (x - mean)^2 to the mean, which are known to cancel, in a pass of their own.
    """
    mean = x.mean(dims, keepdim=True)
    c = mean.detach()
    around, off = x - c, mean - c
    var = (around * around).mean(dims, keepdim=True) - off * off
    return (x - mean) * torch.rsqrt(var + eps), mean, var


def _per_channel(v: Tensor, ndim: int) -> Tensor:
    return v.reshape((1, -1) + (1,) * (ndim - 2))


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _check_trailing(name: str, x: Tensor, shape: tuple[int, ...], *params: Tensor | None) -> None:
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {', '.join(map(str, shape))}], "
            f"but got input of size{list(x.shape)} in {name}()"
        )
    for param in params:
        if param is not None and tuple(param.shape) != shape:
            raise RuntimeError(
                f"{name}(): weight and bias must have shape normalized_shape={list(shape)}, got {list(param.shape)}"
            )


def _check_sizes(channels: int, **given: Tensor | None) -> None:
    """One number for every channel: a single one would be broadcast to all."""
    for name, x in given.items():
        if x is not None and x.numel() != channels:
            raise RuntimeError(f"{name} should contain {channels} elements not {x.numel()}")


@composite("NativeLayerNormBackward0", takes=FLOATING, follows=True)
def _layer_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...], eps: float
) -> Tensor:
    _check_trailing("layer_norm", x, shape, weight, bias)
    out, _, _ = _standardize(x, tuple(range(-len(shape), 0)), eps)
    return _affine(out, weight, bias)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise over the last dimensions, which must be `normalized_shape` (Ba, Kiros and Hinton, 2016).

    weight and bias have that shape. Raises RuntimeError when a shape does not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.layer_norm(torch.tensor([[1.0, 3.0]]), (2,), eps=0.0)
    tensor([[-1.,  1.]])
    """
    return _layer_norm(input, weight, bias, tuple(normalized_shape), eps)


@composite("MulBackward0", follows=True)
def _rms_norm(x: Tensor, weight: Tensor | None, shape: tuple[int, ...], eps: float) -> Tensor:
    _check_trailing("rms_norm", x, shape, weight)
    mean_square = (x * x).mean(tuple(range(-len(shape), 0)), keepdim=True)
    return _affine(x * torch.rsqrt(mean_square + eps), weight, None)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x²) + eps) over the last dimensions (Zhang and Sennrich, 2019); eps defaults to that of the dtype it is
    computed in, float32 for halves.

    >>> import adjoint as torch
    >>> torch.nn.functional.rms_norm(torch.tensor([3., 4.]), (2,))
    tensor([0.8485, 1.1314])
    """
    if eps is None:
        eps = torch.finfo(torch.float32 if input.dtype.is_half else input.dtype).eps
    return _rms_norm(input, weight, tuple(normalized_shape), eps)


@composite("NativeGroupNormBackward0", takes=FLOATING, follows=True)
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise (N, C, ...) over each of `num_groups` groups of channels (Wu and He, 2018).

    weight and bias have shape (C,). Raises RuntimeError when C is no multiple of the number of groups.

    >>> import adjoint as torch
    >>> torch.nn.functional.group_norm(torch.tensor([[1., 3., 10., 30.]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    if input.dim() < 2 or input.shape[1] % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    n, channels = input.shape[:2]
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and tuple(given.shape) != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got {name} of shape "
                f"{list(given.shape)} and input of shape {list(input.shape)}"
            )
    size = channels // num_groups * math.prod(input.shape[2:])
    out, _, _ = _standardize(input.reshape(n, num_groups, size), (2,), eps)
    out = out.reshape(input.shape)
    return _affine(
        out,
        None if weight is None else _per_channel(weight, input.dim()),
        None if bias is None else _per_channel(bias, input.dim()),
    )


# ---- batch norm ----------------------------------------------------------------------------------


@composite("NativeBatchNormBackward0", follows=True)
def _batch_norm_training(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = (0, *range(2, x.dim()))
    out, mean, var = _standardize(x, dims, eps)
    weight = None if weight is None else _per_channel(weight, x.dim())
    bias = None if bias is None else _per_channel(bias, x.dim())
    return _affine(out, weight, bias), mean.detach().reshape(-1), var.detach().reshape(-1)


@composite("NativeBatchNormBackward0", follows=True)
def _batch_norm_inference(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    out = (x - _per_channel(mean, x.dim())) * _per_channel(scale, x.dim())
    return out if bias is None else out + _per_channel(bias, x.dim())


def _running_average(
    mean: Tensor, var: Tensor, new_mean: Tensor, new_var: Tensor, momentum: Tensor, unbias: float
) -> tuple[Tensor, Tensor]:
    return mean + momentum * (new_mean - mean), var + momentum * (new_var * unbias - var)


def _running_average_counted(
    mean: Tensor,
    var: Tensor,
    count: Tensor,
    new_mean: Tensor,
    new_var: Tensor,
    momentum: Tensor,
    unbias: float,
    cumulative: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    count = count + 1
    share = 1.0 / count.to(mean.dtype) if cumulative else momentum
    return (*_running_average(mean, var, new_mean, new_var, share, unbias), count)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    num_batches_tracked: Tensor | None = None,
) -> Tensor:
    """Standardise each channel (dimension 1) over the batch and all positions (Ioffe and Szegedy, 2015).

    In training the batch's own mean and biased variance are used, and the running averages (C,), if
    given, move towards them by `momentum` (with the unbiased variance); otherwise the running averages
    are used. A counter `num_batches_tracked` is increased; with `momentum=None` it makes the running
    averages plain means. Raises ValueError for one value per channel in training.

    >>> import adjoint as torch
    >>> torch.nn.functional.batch_norm(torch.tensor([[1.], [3.]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    if input.dim() < 2:
        raise ValueError(
            f"batch_norm(): expected at least 2 dimensions (N, C), got shape {tuple(input.shape)}"
        )
    channels = input.shape[1]
    _check_sizes(channels, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when training=False"
            )
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, eps)
    count = input.numel() // channels if channels else 0
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    out, mean, var = _batch_norm_training(input, weight, bias, eps)
    if not count:  # nothing to learn from
        if num_batches_tracked is not None:
            num_batches_tracked.add_(1)
    elif running_mean is not None and running_var is not None:
        unbias = count / (count - 1)
        scalars = (0.0 if momentum is None else momentum,)
        if num_batches_tracked is None:
            update(
                _running_average,
                [(running_mean, running_var, mean, var)],
                scalars,
                (unbias,),
                (0, 1),
            )
        else:
            row = (running_mean, running_var, num_batches_tracked, mean, var)
            update(_running_average_counted, [row], scalars, (unbias, momentum is None), (0, 1, 2))
    return out


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each channel of each sample of (N, C, ...) over its positions (Ulyanov et al., 2016).

    >>> import adjoint as torch
    >>> torch.nn.functional.instance_norm(torch.tensor([[[1., 3.], [2., 8.]]]))
    tensor([[[-1.0000,  1.0000],
             [-1.0000,  1.0000]]])
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size {input.shape}"
        )
    _check_sizes(input.shape[1], running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    out, mean, var = _instance_norm(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        size = math.prod(input.shape[2:])
        unbias = size / (size - 1) if size > 1 else 1.0
        update(
            _running_average,
            [(running_mean, running_var, mean, var)],
            (momentum,),
            (unbias,),
            (0, 1),
        )
    return out


@composite("NativeBatchNormBackward0", follows=True)
def _instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, var = _standardize(x, tuple(range(2, x.dim())), eps)
    weight = None if weight is None else _per_channel(weight, x.dim())
    bias = None if bias is None else _per_channel(bias, x.dim())
    mean, var = mean.detach().mean(0).reshape(-1), var.detach().mean(0).reshape(-1)
    return _affine(out, weight, bias), mean, var


# ---- lengths -------------------------------------------------------------------------------------


@composite("DivBackward0")
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `dim`, or by eps where the norm is smaller.

    >>> import adjoint as torch
    >>> torch.nn.functional.normalize(torch.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return input / input.norm(p=p, dim=dim, keepdim=True).clamp(min=eps)


@composite("DivBackward0")
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x² over `size` neighbouring channels)^beta (Krizhevsky et al., 2012, 3.3).

    >>> import adjoint as torch
    >>> torch.nn.functional.local_response_norm(torch.ones(1, 3, 2), 2).shape
    torch.Size([1, 3, 2])
    """
    if input.dim() < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality input (got {input.dim()} dimensions)"
        )
    if size < 1:
        raise RuntimeError(f"local_response_norm(): size should be greater than zero, but got {size}")
    n = input.dim()
    lo, hi = [0] * n, [0] * n
    lo[1], hi[1] = size // 2, (size - 1) // 2
    squares = torch._pad(input * input, tuple(lo), tuple(hi), (0,) * n)
    around = torch._window(squares, (1,), (size,), (1,), (1,)).mean(-1)
    return input / (around * alpha + k) ** beta
