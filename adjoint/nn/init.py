"""Initialisation of parameters, in place and without gradients.

Every function changes its tensor and returns it. The variance-preserving ones (Xavier, Kaiming) are
a standard deviation from `_calculate_fan_in_and_fan_out` and a draw; read that first.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.trace.state import warn

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

# Gain that keeps the standard deviation through a layer followed by this activation; selu's 3/4 is the
# value its fixed point was tuned for, tanh's 5/3 the customary one.
GAINS: dict[str, Callable[[float | None], float]] = {
    **dict.fromkeys(
        (
            "linear",
            "conv1d",
            "conv2d",
            "conv3d",
            "conv_transpose1d",
            "conv_transpose2d",
            "conv_transpose3d",
            "sigmoid",
        ),
        lambda _: 1.0,
    ),
    "tanh": lambda _: 5.0 / 3,
    "relu": lambda _: math.sqrt(2.0),
    "leaky_relu": lambda slope: math.sqrt(2.0 / (1 + (0.01 if slope is None else slope) ** 2)),
    "selu": lambda _: 3.0 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended gain for an activation; `param` is the slope of leaky_relu. Raises ValueError.

    >>> import adjoint as torch
    >>> round(torch.nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity not in GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    if (
        nonlinearity == "leaky_relu"
        and param is not None
        and (isinstance(param, bool) or not isinstance(param, (int, float)))
    ):
        raise ValueError(f"negative_slope {param} not a valid number")
    return GAINS[nonlinearity](param)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Fill from the uniform distribution on [a, b).

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.uniform_(w, 1.0, 1.0)
    tensor([[1., 1.],
            [1., 1.]])
    """
    with torch.no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Fill from the normal distribution.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.normal_(w, std=0.0)
    tensor([[0., 0.],
            [0., 0.]])
    """
    with torch.no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """Fill from the normal distribution cut off outside [a, b], by inverting its distribution function.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> bool((torch.nn.init.trunc_normal_(w, a=-1.0, b=1.0).abs() <= 1).all())
    True
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
        )
    # erf((z - mean) / (std sqrt 2)) is uniform between its values at a and b.
    low = math.erf((a - mean) / (std * math.sqrt(2)))
    high = math.erf((b - mean) / (std * math.sqrt(2)))
    with torch.no_grad():
        tensor.uniform_(low, high, generator=generator)
        return tensor.copy_(
            (torch.erfinv(tensor) * (std * math.sqrt(2)) + mean).clamp(min=a, max=b)
        )


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.constant_(w, 3.0)
    tensor([[3., 3.],
            [3., 3.]])
    """
    with torch.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.ones_(w)
    tensor([[1., 1.],
            [1., 1.]])
    """
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.zeros_(w)
    tensor([[0., 0.],
            [0., 0.]])
    """
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity. Raises ValueError for other than two dimensions.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.eye_(w)
    tensor([[1., 0.],
            [0., 1.]])
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with torch.no_grad():
        return tensor.copy_(torch.eye(*tensor.shape, dtype=tensor.dtype))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight (O, C, *k) so that it passes its first channels through unchanged.

    >>> import adjoint as torch
    >>> torch.nn.init.dirac_(torch.empty(1, 1, 3))
    tensor([[[0., 1., 0.]]])
    """
    if tensor.dim() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = tensor.shape[0] // groups
    centre = tuple(size // 2 for size in tensor.shape[2:])
    with torch.no_grad():
        tensor.zero_()
        for g in range(groups):
            for d in range(min(per_group, tensor.shape[1])):
                tensor[(g * per_group + d, d, *centre)] = 1
    return tensor


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Fill a matrix from N(0, std), with the share `sparsity` of each column set to zero (Martens, 2010).

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> int((torch.nn.init.sparse_(w, 0.5) == 0).sum())
    2
    """
    if tensor.dim() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, columns = tensor.shape
    with torch.no_grad():
        tensor.normal_(0, std, generator=generator)
        for column in range(columns):
            tensor[torch.randperm(rows)[: math.ceil(sparsity * rows)], column] = 0
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs feed one output, and how many outputs one input feeds, of a weight (out, in, *kernel)."""
    if tensor.dim() < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )
    area = math.prod(tensor.shape[2:])
    return tensor.shape[1] * area, tensor.shape[0] * area


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    modes = {"fan_in": 0, "fan_out": 1}
    if mode.lower() not in modes:
        raise ValueError(f"Mode {mode} not supported, please use one of {list(modes)}")
    return _calculate_fan_in_and_fan_out(tensor)[modes[mode.lower()]]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform with variance gain² * 2 / (fan_in + fan_out) (Glorot and Bengio, 2010, equation 16).

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.xavier_uniform_(w).shape
    torch.Size([2, 2])
    """
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with variance gain² * 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.xavier_normal_(w).shape
    torch.Size([2, 2])
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Uniform with variance gain² / fan (He et al., 2015, equation 10); `a` is the slope of leaky_relu.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.kaiming_uniform_(w).shape
    torch.Size([2, 2])
    """
    if 0 in tensor.shape:
        warn("Initializing zero-element tensors is a no-op")
        return tensor
    bound = math.sqrt(3.0 / _calculate_correct_fan(tensor, mode)) * calculate_gain(nonlinearity, a)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Normal with variance gain² / fan (He et al., 2015, equation 10); `a` is the slope of leaky_relu.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.nn.init.kaiming_normal_(w).shape
    torch.Size([2, 2])
    """
    if 0 in tensor.shape:
        warn("Initializing zero-element tensors is a no-op")
        return tensor
    return normal_(
        tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode)), generator
    )


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """Fill with a random matrix of orthonormal rows or columns (Saxe et al., 2014), times `gain`.

    More than two dimensions are flattened to (first, rest). Raises ValueError for fewer than two.

    >>> import adjoint as torch
    >>> w = torch.empty(2, 2)
    >>> torch.allclose(torch.nn.init.orthogonal_(w) @ w.T, torch.eye(2), atol=1e-6)
    True
    """
    if tensor.dim() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.numel() // tensor.shape[0]
    with torch.no_grad():
        flat = torch.empty((max(rows, columns), min(rows, columns)), dtype=tensor.dtype)
        q, r = torch.linalg.qr(flat.normal_(0, 1, generator=generator))
        # The signs of R's diagonal make the distribution uniform (Mezzadri, 2007, section 5).
        q = q * torch.sign(torch.diagonal(r))
        q = q.T if rows < columns else q
        return tensor.copy_(q.reshape(tensor.shape) * gain)


# ---- old names -----------------------------------------------------------------------------------


def _old(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The name without the underscore, which warns."""
    name = function.__name__

    @functools.wraps(function)
    def old(*args: Any, **kwargs: Any) -> Tensor:
        warn(f"`nn.init.{name[:-1]}` is now deprecated in favor of `nn.init.{name}`.", FutureWarning)
        return function(*args, **kwargs)

    old.__name__ = old.__qualname__ = name[:-1]
    old.__doc__ = f"The old name of `{name}`; warns."
    return old


constant, dirac, eye, sparse, orthogonal = _old(constant_), _old(dirac_), _old(eye_), _old(sparse_), _old(orthogonal_)
normal, uniform, kaiming_normal, kaiming_uniform = _old(normal_), _old(uniform_), _old(kaiming_normal_), _old(kaiming_uniform_)
xavier_normal, xavier_uniform = _old(xavier_normal_), _old(xavier_uniform_)
