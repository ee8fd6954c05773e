"""Dropout: random zeros with the rest scaled up. The noise is drawn here, outside any composite."""

from __future__ import annotations

from collections.abc import Callable

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.activations import SELU_ALPHA, SELU_SCALE
from adjoint.ops.composite import composite
from adjoint.trace.state import warn

__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "masked_by_noise", "noise_of_channels"]


def _check_probability(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


@composite("NativeDropoutBackward0")
def masked_by_noise(x: Tensor, noise: Tensor, p: float) -> Tensor:
    """x / (1 - p) where the uniform noise is at least p, else 0; the noise broadcasts against x."""
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return x * ((noise >= p).to(x.dtype) * scale)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p and scale the others by 1/(1-p); the input itself if not training.

    Raises ValueError for a probability outside [0, 1].

    >>> import adjoint as torch
    >>> torch.nn.functional.dropout(torch.ones(3), 0.5, training=False)
    tensor([1., 1., 1.])
    """
    _check_probability(p)
    if not training or p == 0.0:
        return input
    if input.dtype.category < 2:
        raise RuntimeError(f"result type Float can't be cast to {input.dtype}: dropout takes floating-point tensors")
    out = masked_by_noise(input, noise_of_elements(input), p)
    return input.copy_(out) if inplace else out


def _channel_dropout(name: str, spatial: int, input: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """Axes 0 and 1 are samples and channels. Where there are fewer or more axes than there should be PyTorch warns, and so does this."""
    _check_probability(p)
    rank = input.dim()
    if rank not in (spatial + 1, spatial + 2):
        if spatial == 1:
            raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {rank}D input of shape {list(input.shape)}")
        warn(
            f"{name}: an input of rank {rank} instead of {spatial + 1} or {spatial + 2}, which PyTorch is to refuse one day; `dropout` "
            "zeroes single elements, `dropout1d` channels of (N, C, L)"
        )
    if rank == 3 and spatial == 2:
        warn(
            "dropout2d: an input of rank 3 is taken for (N, C, L), as PyTorch takes it, and not for (C, H, W); `dropout1d` says so, "
            "and `input[None]` is a batch of one"
        )
    alone = spatial != 2 and rank != spatial + 2
    if not training or p == 0.0:
        return input
    noise = torch.rand((input.shape[0], *(1,) * (rank - 1)), dtype=torch.float32) if alone and rank else noise_of_channels(input)
    out = masked_by_noise(input, noise, p)
    return input.copy_(out) if inplace else out


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, L) or (C, L).

    >>> import adjoint as torch
    >>> torch.nn.functional.dropout1d(torch.ones(1, 2, 3), 0.5, training=False).shape
    torch.Size([1, 2, 3])
    """
    return _channel_dropout("dropout1d", 1, input, p, training, inplace)


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, H, W).

    Other inputs are (N, C, ...) too, as in PyTorch, with a warning; of two axes each element is a channel. RuntimeError for
    fewer.

    >>> import adjoint as torch
    >>> torch.nn.functional.dropout2d(torch.ones(1, 2, 3, 3), 0.5, training=False).shape
    torch.Size([1, 2, 3, 3])
    """
    return _channel_dropout("dropout2d", 2, input, p, training, inplace)


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero whole channels of (N, C, D, H, W) or (C, D, H, W); of others as `dropout2d`.

    >>> import adjoint as torch
    >>> torch.nn.functional.dropout3d(torch.ones(1, 2, 3, 3, 3), 0.5, training=False).shape
    torch.Size([1, 2, 3, 3, 3])
    """
    return _channel_dropout("dropout3d", 3, input, p, training, inplace)


@composite("AddBackward0")
def _alpha_masked(x: Tensor, noise: Tensor, p: float) -> Tensor:
    low = -SELU_ALPHA * SELU_SCALE
    gain = ((1 - p) * (1 + p * low * low)) ** -0.5
    return torch.where(noise >= p, x, low) * gain - p * low * gain


def noise_of_elements(input: Tensor) -> Tensor:
    """Uniform noise of the shape of the input."""
    return torch.rand(input.shape, dtype=torch.float32)


def noise_of_channels(input: Tensor) -> Tensor:
    """Uniform noise (N, C, 1, ...) for (N, C, ...)."""
    if input.dim() < 2:
        raise RuntimeError(f"Feature dropout requires at least 2 dimensions in the input, but got shape {list(input.shape)}")
    return torch.rand((*input.shape[:2], *(1,) * (input.dim() - 2)), dtype=torch.float32)


def _alpha_dropout(input: Tensor, p: float, training: bool, inplace: bool, noise: Callable[[Tensor], Tensor]) -> Tensor:
    _check_probability(p)
    if not training or p == 0.0:
        return input
    out = input * 0.0 if p == 1.0 else _alpha_masked(input, noise(input), p)
    return input.copy_(out) if inplace else out


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps mean and variance of SELU activations (Klambauer et al., 2017, section 2).

    >>> import adjoint as torch
    >>> torch.nn.functional.alpha_dropout(torch.ones(2), training=False)
    tensor([1., 1.])
    """
    return _alpha_dropout(input, p, training, inplace, noise_of_elements)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels of (N, C, *).

    >>> import adjoint as torch
    >>> torch.nn.functional.feature_alpha_dropout(torch.ones(1, 2, 3), training=False).shape
    torch.Size([1, 2, 3])
    """
    return _alpha_dropout(input, p, training, inplace, noise_of_channels)
