"""Activation functions: pointwise curves, softmax and its relatives.

Each is one composite written as the textbook formula. Where a formula has a kink, the branch is
chosen by `where` so that the derivative at the kink is PyTorch's (0 for relu, the slope for
leaky_relu); where a branch could overflow, its argument is clamped first, because `where` alone
would let `0 * inf` into the gradient. Read `softmax` first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import FLOATING, INEXACT, composite
from adjoint.trace.state import warn

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hardtanh_", "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "relu_", "rrelu",
    "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "threshold_",
]  # fmt: skip

# Klambauer et al., "Self-Normalizing Neural Networks" (2017), equation 14.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _maybe_in_place(
    input: Tensor, formula: Callable[..., Tensor], inplace: bool, *static: Any
) -> Tensor:
    out = formula(input, *static)
    return input.copy_(out) if inplace else out


# ---- one-sided and clipped lines -----------------------------------------------------------------


@composite("ReluBackward0")
def _relu(x: Tensor) -> Tensor:
    return torch.where(x <= 0, 0, x)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), with derivative 0 at 0. Same shape and dtype as the input.

    >>> import adjoint as torch
    >>> torch.nn.functional.relu(torch.tensor([-1.0, 0.0, 2.0]))
    tensor([0., 0., 2.])
    """
    if input.dtype == torch.bool:
        raise RuntimeError("Boolean inputs not supported for relu; convert them with .float() first")
    return _relu(input) if not inplace else input.copy_(_relu(input))


def relu_(input: Tensor) -> Tensor:
    """In-place `relu`.

    >>> import adjoint as torch
    >>> x = torch.tensor([-1., 2.])
    >>> torch.nn.functional.relu_(x)
    tensor([0., 2.])
    >>> x
    tensor([0., 2.])
    """
    return relu(input, inplace=True)


@composite("ThresholdBackward0")
def _threshold(x: Tensor, threshold: float, value: float) -> Tensor:
    return torch.where(x <= threshold, value, x)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else `value`.

    >>> import adjoint as torch
    >>> torch.nn.functional.threshold(torch.tensor([-1., 2.]), 0.5, -7.0)
    tensor([-7.,  2.])
    """
    return _maybe_in_place(input, _threshold, inplace, threshold, value)


@composite("LeakyReluBackward0", takes=FLOATING)
def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return torch.where(x > 0, x, x * slope)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x for x > 0, else `negative_slope * x`.

    >>> import adjoint as torch
    >>> torch.nn.functional.leaky_relu(torch.tensor([-2., 3.]), 0.5)
    tensor([-1.,  3.])
    """
    return _maybe_in_place(input, _leaky_relu, inplace, negative_slope)


@composite("RreluWithNoiseBackward0", takes=FLOATING)
def _rrelu(x: Tensor, noise: Tensor, lower: float, upper: float) -> Tensor:
    return torch.where(x > 0, x, x * (noise * (upper - lower) + lower).to(x.dtype))


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x for x > 0, else slope * x: in training each element has a slope of its own, uniform between `lower` and `upper`, else all
    have (lower + upper) / 2 (Xu et al., "Empirical Evaluation of Rectified Activations", 2015, section 2.4).

    Raises RuntimeError for lower > upper.

    >>> import adjoint as torch
    >>> torch.nn.functional.rrelu(torch.tensor([-2., 3.]), 0.25, 0.75)
    tensor([-1.,  3.])
    """
    if not lower <= upper:
        raise RuntimeError(f"Lower bound should be less than or equal to the upper bound, but got lower={lower} and upper={upper}")
    if not training:
        return _maybe_in_place(input, _leaky_relu, inplace, (lower + upper) / 2)
    out = _rrelu(input, torch.rand(input.shape, dtype=torch.float32), lower, upper)
    return input.copy_(out) if inplace else out


@composite("PreluKernelBackward0")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x for x > 0, else `weight * x`; one weight for all, or one per channel (dimension 1).

    Raises RuntimeError when the number of weights is neither 1 nor the number of channels.

    >>> import adjoint as torch
    >>> torch.nn.functional.prelu(torch.tensor([-2., 3.]), torch.tensor([0.5]))
    tensor([-1.,  3.])
    """
    count = weight.numel()
    if count > 1:
        channels = input.shape[1] if input.dim() > 1 else 1
        if count != channels:
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {count} "
                f"and channel size = {channels}, from prelu() of an input of shape {tuple(input.shape)}."
            )
        weight = weight.reshape((count,) + (1,) * (input.dim() - 2))
    return torch.where(input > 0, input, weight * input)


@composite("HardtanhBackward0")
def _hardtanh(x: Tensor, low: float, high: float) -> Tensor:
    return torch.where(x <= low, low, torch.where(x >= high, high, x))


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x clipped to [min_val, max_val]; the derivative is 0 at and beyond both ends.

    >>> import adjoint as torch
    >>> torch.nn.functional.hardtanh(torch.tensor([-2., 0.5, 3.]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    if min_val > max_val:
        raise ValueError(f"min_val cannot be greater than max_val, but got {min_val} and {max_val}")
    return _maybe_in_place(input, _hardtanh, inplace, min_val, max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x clipped to [0, 6].

    >>> import adjoint as torch
    >>> torch.nn.functional.relu6(torch.tensor([-1., 3., 9.]))
    tensor([0., 3., 6.])
    """
    return hardtanh(input, 0.0, 6.0, inplace)


@composite("HardsigmoidBackward0", takes=FLOATING)
def _hardsigmoid(x: Tensor) -> Tensor:
    return torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 6 + 0.5))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x/6 + 1/2 clipped to [0, 1].

    >>> import adjoint as torch
    >>> torch.nn.functional.hardsigmoid(torch.tensor([-4., 0., 4.]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return _maybe_in_place(input, _hardsigmoid, inplace)


@composite("HardswishBackward0", takes=FLOATING)
def _hardswish(x: Tensor) -> Tensor:
    return torch.where(x <= -3, 0.0, torch.where(x >= 3, x, x * (x + 3) / 6))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x) (Howard et al., "Searching for MobileNetV3", 2019, section 5.2).

    >>> import adjoint as torch
    >>> torch.nn.functional.hardswish(torch.tensor([-2., 0., 4.]))
    tensor([-0.3333,  0.0000,  4.0000])
    """
    return _maybe_in_place(input, _hardswish, inplace)


@composite("HardshrinkBackward0", takes=FLOATING)
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0.

    >>> import adjoint as torch
    >>> torch.nn.functional.hardshrink(torch.tensor([-1., 0.3, 2.]))
    tensor([-1.,  0.,  2.])
    """
    return torch.where(torch.abs(input) <= lambd, 0.0, input)


@composite("SoftshrinkBackward0", takes=FLOATING)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 within [-lambd, lambd]. Raises RuntimeError for lambd < 0.

    >>> import adjoint as torch
    >>> torch.nn.functional.softshrink(torch.tensor([-1., 0.3, 2.]))
    tensor([-0.5000,  0.0000,  1.5000])
    """
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    outside = torch.where(input > 0, input - lambd, input + lambd)
    return torch.where(torch.abs(input) <= lambd, input * 0, outside)  # NaN is outside


# ---- smooth curves -------------------------------------------------------------------------------


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)).

    >>> import adjoint as torch
    >>> torch.nn.functional.sigmoid(torch.tensor([0., 2.]))
    tensor([0.5000, 0.8808])
    """
    return torch.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent.

    >>> import adjoint as torch
    >>> torch.nn.functional.tanh(torch.tensor([0., 1.]))
    tensor([0.0000, 0.7616])
    """
    return torch.tanh(input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x).

    >>> import adjoint as torch
    >>> torch.nn.functional.tanhshrink(torch.tensor([0., 1.]))
    tensor([0.0000, 0.2384])
    """
    return input - torch.tanh(input)


@composite("EluBackward0", takes=FLOATING)
def _elu(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    below = torch.expm1(x.clamp(max=0) * input_scale) * (alpha * scale)
    return torch.where(x > 0, x * scale, below)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha * (exp(x) - 1).

    >>> import adjoint as torch
    >>> torch.nn.functional.elu(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.8647,  0.5000,  3.0000])
    """
    return _maybe_in_place(input, _elu, inplace, alpha, 1.0, 1.0)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the two constants that keep mean 0 and variance 1 across layers.

    >>> import adjoint as torch
    >>> torch.nn.functional.selu(torch.tensor([-2., 0.5, 3.]))
    tensor([-1.5202,  0.5254,  3.1521])
    """
    return _maybe_in_place(input, _elu, inplace, SELU_ALPHA, SELU_SCALE, 1.0)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x for x > 0, else alpha * (exp(x / alpha) - 1). Raises RuntimeError for alpha = 0.

    >>> import adjoint as torch
    >>> torch.nn.functional.celu(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.8647,  0.5000,  3.0000])
    """
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _maybe_in_place(input, _elu, inplace, alpha, 1.0, 1.0 / alpha)


# ---- in place ------------------------------------------------------------------------------------


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `elu`.

    >>> import adjoint as torch
    >>> torch.nn.functional.elu_(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.8647,  0.5000,  3.0000])
    """
    return elu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    """In-place `selu`.

    >>> import adjoint as torch
    >>> torch.selu_(torch.tensor([-2., 0.5, 3.]))
    tensor([-1.5202,  0.5254,  3.1521])
    """
    return selu(input, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """In-place `celu`.

    >>> import adjoint as torch
    >>> torch.celu_(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.8647,  0.5000,  3.0000])
    """
    return celu(input, alpha, inplace=True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """In-place `hardtanh`.

    >>> import adjoint as torch
    >>> torch.nn.functional.hardtanh_(torch.tensor([-2., 0.5, 3.]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    return hardtanh(input, min_val, max_val, inplace=True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """In-place `leaky_relu`.

    >>> import adjoint as torch
    >>> torch.nn.functional.leaky_relu_(torch.tensor([-2., 3.]), 0.5)
    tensor([-1.,  3.])
    """
    return leaky_relu(input, negative_slope, inplace=True)


def rrelu_(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """In-place `rrelu`.

    >>> import adjoint as torch
    >>> torch.rrelu_(torch.tensor([-2., 3.]), 0.25, 0.75)
    tensor([-1.,  3.])
    """
    return rrelu(input, lower, upper, training, inplace=True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """In-place `threshold`.

    >>> import adjoint as torch
    >>> torch.threshold_(torch.tensor([-1., 2.]), 0.5, -7.0)
    tensor([-7.,  2.])
    """
    return _maybe_in_place(input, _threshold, True, threshold, value)


# ---- bells and gates -----------------------------------------------------------------------------


@composite("GeluBackward0", takes=FLOATING)
def _gelu(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * math.sqrt(0.5)))


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x (Hendrycks and Gimpel, 2016), exact or by tanh.

    Raises RuntimeError for an `approximate` other than "none" and "tanh".

    >>> import adjoint as torch
    >>> torch.nn.functional.gelu(torch.tensor([-1., 0., 1.]))
    tensor([-0.1587,  0.0000,  0.8413])
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return _gelu(input, approximate)


@composite("SiluBackward0", takes=INEXACT)
def _silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x), also known as swish.

    >>> import adjoint as torch
    >>> torch.nn.functional.silu(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.2384,  0.3112,  2.8577])
    """
    return _maybe_in_place(input, _silu, inplace)


@composite("SoftplusBackward0", takes=FLOATING)
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x itself where beta x exceeds `threshold`.

    >>> import adjoint as torch
    >>> torch.nn.functional.softplus(torch.tensor([0., 30.]))
    tensor([ 0.6931, 30.0000])
    """
    scaled = input * beta
    curve = torch.log1p(torch.exp(scaled.clamp(max=threshold))) / beta
    return torch.where(scaled > threshold, input, curve)


@composite("MishBackward0", takes=FLOATING)
def _mish(x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(x))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)) (Misra, 2019).

    >>> import adjoint as torch
    >>> torch.nn.functional.mish(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.2525,  0.3752,  2.9865])
    """
    return _maybe_in_place(input, _mish, inplace)


@composite("LogSigmoidBackward0", takes=FLOATING)
def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow on either side.

    >>> import adjoint as torch
    >>> torch.nn.functional.logsigmoid(torch.tensor([0., 2.]))
    tensor([-0.6931, -0.1269])
    """
    # Both branches exponentiate a number <= 0; at 0 the right one is taken, whose slope there is 1/2.
    left = input - torch.log1p(torch.exp(input.clamp(max=0)))
    right = -torch.log1p(torch.exp(-input.clamp(min=0)))
    return torch.where(input < 0, left, right)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|).

    >>> import adjoint as torch
    >>> torch.nn.functional.softsign(torch.tensor([-1., 3.]))
    tensor([-0.5000,  0.7500])
    """
    return input / (1 + torch.abs(input))


@composite("GluBackward0", takes=FLOATING)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """First half times sigmoid of the second half along `dim`. Raises RuntimeError for an odd size.

    >>> import adjoint as torch
    >>> torch.nn.functional.glu(torch.tensor([2., 4., 0., 0.]))
    tensor([1., 2.])
    """
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(
            f"Halving dimension must be even, but dimension {dim % input.dim()} is size {size}"
        )
    half = size // 2
    return input.narrow(dim, 0, half) * torch.sigmoid(input.narrow(dim, half, half))


# ---- softmax and relatives -----------------------------------------------------------------------


def _implicit_dim(name: str, ndim: int) -> int:
    warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
    )
    return 0 if ndim in (0, 1, 3) else 1


def _check_floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise NotImplementedError(
            f"{name}() needs a floating-point tensor, got {x.dtype} of shape {tuple(x.shape)}; "
            "convert it with .float() or pass dtype="
        )


def shifted_exponential(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """x minus its largest value along `dim`, and the exponential of that.

    The result of a softmax does not depend on the shift, so no gradient is sent through the maximum.
    """
    shifted = x - x.detach().amax(dim, keepdim=True) if x.numel() else x
    return shifted, torch.exp(shifted)


@composite("SoftmaxBackward0", takes=FLOATING)
def _softmax(x: Tensor, dim: int) -> Tensor:
    _check_floating("softmax", x)
    _, e = shifted_exponential(x, dim)
    return e * (1 / e.sum(dim, keepdim=True))  # one division per row


@composite("LogSoftmaxBackward0", takes=FLOATING)
def _log_softmax(x: Tensor, dim: int) -> Tensor:
    _check_floating("log_softmax", x)
    shifted, e = shifted_exponential(x, dim)
    return shifted - torch.log(e.sum(dim, keepdim=True))


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, computed from x - max(x). Same shape as the input.

    `dtype` converts the input first. Raises RuntimeError for integers, IndexError for a `dim` out of range.

    >>> import adjoint as torch
    >>> torch.nn.functional.softmax(torch.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    dim = _implicit_dim("softmax", input.dim()) if dim is None else dim
    return _softmax(input if dtype is None else input.to(dtype), dim)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """softmax(-x).

    >>> import adjoint as torch
    >>> torch.nn.functional.softmin(torch.tensor([0., 0.]), dim=0)
    tensor([0.5000, 0.5000])
    """
    dim = _implicit_dim("softmin", input.dim()) if dim is None else dim
    return softmax(-input, dim, dtype=dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """log(softmax(x)) without the loss of digits that taking the logarithm afterwards would bring.

    >>> import adjoint as torch
    >>> torch.nn.functional.log_softmax(torch.tensor([0., 0.]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    dim = _implicit_dim("log_softmax", input.dim()) if dim is None else dim
    return _log_softmax(input if dtype is None else input.to(dtype), dim)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A sample on the simplex by the Gumbel-softmax relaxation (Jang, Gu and Poole, 2017).

    With `hard` the values are one-hot while the gradient is that of the soft sample.

    >>> import adjoint as torch
    >>> torch.nn.functional.gumbel_softmax(torch.zeros(2, 3), hard=True).sum(1)
    tensor([1., 1.])
    """
    # -log of an exponential variable is a Gumbel one; 1 - u keeps the argument of the logarithm above 0.
    noise = -torch.log(-torch.log1p(-torch.rand_like(logits)) + torch.finfo(logits.dtype).tiny)
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    one_hot = torch.zeros_like(logits).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft
