"""Loss functions.

Each is a formula per element followed by a reduction ("none", "mean" or "sum"). Read `_reduced`,
then `cross_entropy`, which is the longest because its target may be classes or probabilities,
weighted, smoothed, or ignored.
"""

from __future__ import annotations

import math

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.activations import log_softmax, logsigmoid
from adjoint.nn.functional.distance import pairwise_distance
from adjoint.ops.composite import FLOATING, composite
from adjoint.trace.state import warn

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
    "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss",
    "mse_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
]  # fmt: skip


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f"{reduction} is not a valid value for reduction; use 'none', 'mean' or 'sum'")


def _legacy_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """The reduction the two retired arguments stand for, when one of them is given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def _warn_of_broadcast(name: str, input: Tensor, target: Tensor) -> None:
    # (N, 1) against (N,) becomes (N, N): almost always a mistake, and a silent one.
    if input.shape != target.shape:
        warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) in {name}. "
            "This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
        )


# ---- regression ----------------------------------------------------------------------------------


def _promoted(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype in which they meet."""
    if input.dtype is target.dtype:
        return input, target
    dtype = torch.result_type(input, target)
    return input.to(dtype), target.to(dtype)


@composite("MseLossBackward0", takes=FLOATING)
def _mse(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    difference = input - target
    loss = difference * difference
    return _reduced(loss if weight is None else loss * weight, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - y)², each times `weight` if given. Warns when the shapes differ, raises when they do not broadcast.

    >>> import adjoint as torch
    >>> torch.nn.functional.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """
    _warn_of_broadcast("mse_loss", input, target)
    return _mse(*_promoted(input, target), weight, _legacy_reduction(size_average, reduce, reduction))


@composite("MeanBackward0")
def _l1(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    loss = torch.abs(input - target)
    return _reduced(loss if weight is None else loss * weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - y|, with derivative 0 where they are equal.

    >>> import adjoint as torch
    >>> torch.nn.functional.l1_loss(torch.tensor([0., 0.]), torch.tensor([1., -3.]))
    tensor(2.)
    """
    _warn_of_broadcast("l1_loss", input, target)
    if torch.bool not in (input.dtype, target.dtype):  # which subtraction refuses
        input, target = _promoted(input, target)
    return _l1(input, target, weight, _legacy_reduction(size_average, reduce, reduction))


@composite("SmoothL1LossBackward0", takes=FLOATING)
def _smooth_l1(input: Tensor, target: Tensor, beta: float, reduction: str) -> Tensor:
    difference = input - target
    distance = torch.abs(difference)
    if beta == 0:
        return _reduced(distance, reduction)
    near = distance < beta
    # The square is of the difference, to have a second derivative at 0, and sees 0 where it is not taken: that of
    # infinity has no derivative.
    short = torch.where(near, difference, 0.0)
    return _reduced(torch.where(near, short * short * (0.5 / beta), distance - 0.5 * beta), reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d²/(2 beta) for d = |x - y| below beta, else d - beta/2. Raises RuntimeError for a negative beta.

    >>> import adjoint as torch
    >>> torch.nn.functional.smooth_l1_loss(torch.tensor([0., 0.]), torch.tensor([0.5, 3.]), reduction="none")
    tensor([0.1250, 2.5000])
    """
    _warn_of_broadcast("smooth_l1_loss", input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return _smooth_l1(*_promoted(input, target), beta, _legacy_reduction(size_average, reduce, reduction))


@composite("HuberLossBackward0")
def _huber(
    input: Tensor, target: Tensor, weight: Tensor | None, delta: float, reduction: str
) -> Tensor:
    difference = input - target
    distance = torch.abs(difference)
    near = distance < delta
    short = torch.where(near, difference, 0.0)  # as in `_smooth_l1`
    loss = torch.where(near, 0.5 * short * short, delta * (distance - 0.5 * delta))
    return _reduced(loss if weight is None else loss * weight, reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d²/2 for d = |x - y| up to delta, else delta (d - delta/2) (Huber, 1964).

    >>> import adjoint as torch
    >>> torch.nn.functional.huber_loss(torch.tensor([0., 0.]), torch.tensor([0.5, 3.]), reduction="none")
    tensor([0.1250, 2.5000])
    """
    if delta <= 0:
        raise RuntimeError(
            f"huber_loss does not support non-positive values for delta, got {delta}."
        )
    _warn_of_broadcast("huber_loss", input, target)
    return _huber(input, target, weight, delta, reduction)


@composite("MeanBackward0")
def _poisson_nll(
    input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: str
) -> Tensor:
    if log_input:
        loss = torch.exp(input) - target * input
    else:
        loss = input - target * torch.log(input + eps)
    if full:
        # Stirling's approximation of log(target!), used where target > 1.
        big = torch.where(target > 1, target, 1.0)
        stirling = big * torch.log(big) - big + 0.5 * torch.log(2 * math.pi * big)
        loss = loss + torch.where(target > 1, stirling, 0.0)
    return _reduced(loss, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-log of the Poisson probability of `target`, up to log(target!) unless `full`; input is the (log) rate.

    >>> import adjoint as torch
    >>> torch.nn.functional.poisson_nll_loss(torch.tensor([0.]), torch.tensor([2.]))
    tensor(1.)
    """
    reduction = _legacy_reduction(size_average, reduce, reduction)
    return _poisson_nll(input, target, log_input, full, eps, reduction)


@composite("MeanBackward0")
def _gaussian_nll(
    input: Tensor, target: Tensor, var: Tensor, full: bool, eps: float, reduction: str
) -> Tensor:
    # The floor on the variance changes the value and not the derivative.
    var = var + (var.clamp(min=eps) - var).detach()
    loss = 0.5 * (torch.log(var) + (input - target) ** 2 / var)
    return _reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log v + (x - y)²/v)/2 with the variance v floored at eps; `full` adds log(2 pi)/2.

    `var` has the shape of the input, or lacks its last dimension, or has 1 there. Raises ValueError for
    other shapes and (reading the data) for negative variances.

    >>> import adjoint as torch
    >>> torch.nn.functional.gaussian_nll_loss(torch.zeros(2), torch.ones(2), torch.ones(2))
    tensor(0.5000)
    """
    spread = var if isinstance(var, Tensor) else torch.full(input.shape, float(var), dtype=input.dtype)
    if spread.shape != input.shape:
        if tuple(input.shape[:-1]) == tuple(spread.shape):
            spread = spread.unsqueeze(-1)
        elif tuple(input.shape[:-1]) != tuple(spread.shape[:-1]) or spread.shape[-1] != 1:
            raise ValueError(
                f"var is of incorrect size: input has shape {tuple(input.shape)}, var {tuple(spread.shape)}"
            )
    if bool((spread < 0).any()):
        raise ValueError("var has negative entry/entries")
    return _gaussian_nll(input, target, spread, full, eps, reduction)


# ---- classes -------------------------------------------------------------------------------------


def _check_classes(name: str, input: Tensor, target: Tensor) -> int:
    """The dimension of the classes, after checking that `target` indexes it."""
    if input.dim() == 0:
        raise ValueError(f"{name}(): expected an input with a class dimension, got a scalar")
    dim = 1 if input.dim() > 1 else 0
    expected = tuple(input.shape[:dim]) + tuple(input.shape[dim + 1 :])
    if dim and target.dim() and input.shape[0] != target.shape[0]:
        raise ValueError(
            f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})."
        )
    if tuple(target.shape) != expected:
        raise RuntimeError(
            f"{name}(): expected a target of shape {expected} for an input of shape {tuple(input.shape)} with the "
            f"classes in dimension {dim}, got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.dtype == torch.bool:
        raise RuntimeError(
            f"expected scalar type Long but found {target.dtype} as the target of {name}()"
        )
    return dim


def _class_weights(weight: Tensor, input: Tensor, dim: int) -> Tensor:
    if weight.numel() != input.shape[dim]:
        raise RuntimeError(
            f"weight tensor should be defined either for all {input.shape[dim]} classes or no classes "
            f"but got weight tensor of shape: {list(weight.shape)}"
        )
    return weight.reshape((-1,) + (1,) * (input.dim() - dim - 1))


def _nll(
    logp: Tensor,
    target: Tensor,
    weight: Tensor | None,
    dim: int,
    ignore_index: int,
    reduction: str,
    smoothing: float,
) -> Tensor:
    """-w[y] log p[y], mixed with the mean over all classes by `smoothing`; ignored targets count nothing."""
    kept = target != ignore_index
    place = torch.where(kept, target, 0).unsqueeze(dim)
    share = kept.to(logp.dtype)
    if weight is not None:
        weight = _class_weights(weight, logp, dim)
        share = share * weight.expand(logp.shape).gather(dim, place).squeeze(dim)
    # `where` and not a product: an ignored row may hold an infinite log-probability.
    picked = torch.where(kept, logp.gather(dim, place).squeeze(dim), 0.0)
    loss = -picked * share
    if smoothing > 0:
        spread = (logp if weight is None else logp * weight).sum(dim)
        spread = -torch.where(kept, spread, 0.0) / logp.shape[dim]
        loss = (1 - smoothing) * loss + smoothing * spread
    if reduction == "mean":
        return loss.sum() / share.sum()
    return _reduced(loss, reduction)


@composite("NllLossBackward0")
def _nll_loss(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str
) -> Tensor:
    dim = _check_classes("nll_loss", input, target)
    return _nll(input, target, weight, dim, ignore_index, reduction, 0.0)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-weight[y] * input[y] for log-probabilities (N, C, ...) and classes (N, ...); see `cross_entropy`.

    >>> import adjoint as torch
    >>> torch.nn.functional.nll_loss(torch.tensor([[-1., -2.]]), torch.tensor([1]))
    tensor(2.)
    """
    return _nll_loss(
        input, target, weight, ignore_index, _legacy_reduction(size_average, reduce, reduction)
    )


@composite("NllLossBackward0")
def _cross_entropy_of_classes(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    reduction: str,
    smoothing: float,
) -> Tensor:
    dim = _check_classes("cross_entropy", input, target)
    return _nll(log_softmax(input, dim), target, weight, dim, ignore_index, reduction, smoothing)


@composite("DivBackward1")
def _cross_entropy_of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError(
            "Expected floating point type for target with class probabilities, got "
            f"{target.dtype} of shape {tuple(target.shape)} for an input of the same shape"
        )
    dim = 1 if input.dim() > 1 else 0
    classes = input.shape[dim]
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / classes
    logp = log_softmax(input, dim)
    if weight is not None:
        logp = logp * _class_weights(weight, logp, dim)
    loss = -(logp * target).sum(dim)
    if reduction == "mean":
        return loss.sum() / (input.numel() // max(classes, 1))
    return _reduced(loss, reduction)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(x)[y] for scores (N, C, ...) or (C,) and classes (N, ...), or class probabilities.

    A target of the input's own shape is a table of probabilities. `weight` (C,) scales classes, and the
    mean is then weighted too; targets equal to `ignore_index` count nothing; `label_smoothing` mixes the
    target with the uniform distribution (Szegedy et al., 2016). Raises ValueError or RuntimeError when
    shapes or dtypes do not fit; a class out of range is reported when the value is needed.

    >>> import adjoint as torch
    >>> torch.nn.functional.cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.6931)
    """
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    reduction = _legacy_reduction(size_average, reduce, reduction)
    if input.shape == target.shape:
        return _cross_entropy_of_probabilities(input, target, weight, reduction, label_smoothing)
    return _cross_entropy_of_classes(
        input, target, weight, ignore_index, reduction, label_smoothing
    )


def _bounded_log(p: Tensor, log_p: Tensor) -> Tensor:
    """log p, not below -100, with a derivative of 1/p that stops at 1e12 so that p = 0 is no trap."""
    tiny = p <= 1e-12
    floor = log_p.detach().clamp(min=-100.0) + 1e12 * (p - p.detach())
    return torch.where(tiny, floor, log_p)


@composite("BinaryCrossEntropyBackward0")
def _binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str
) -> Tensor:
    # The logarithms see 1/2 where their argument is (almost) 0: their own derivative there is infinite.
    yes = torch.log(torch.where(input <= 1e-12, 0.5, input))
    no = torch.log1p(-torch.where(1 - input <= 1e-12, 0.5, input))
    yes = torch.where(input <= 1e-12, torch.log(input.detach()), yes)
    no = torch.where(1 - input <= 1e-12, torch.log1p(-input.detach()), no)
    loss = -(target * _bounded_log(input, yes) + (1 - target) * _bounded_log(1 - input, no))
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p, the logarithms floored at -100.

    Raises ValueError when the shapes differ. From scores, `binary_cross_entropy_with_logits` is better.

    >>> import adjoint as torch
    >>> torch.nn.functional.binary_cross_entropy(torch.tensor([0.5, 0.5]), torch.tensor([1., 0.]))
    tensor(0.6931)
    """
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. "
            "Please ensure they have the same size."
        )
    return _binary_cross_entropy(
        input, target, weight, _legacy_reduction(size_average, reduce, reduction)
    )


@composite("BinaryCrossEntropyWithLogitsBackward0")
def _binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    pos_weight: Tensor | None,
    reduction: str,
) -> Tensor:
    if pos_weight is None:
        loss = (1 - target) * input - logsigmoid(input)
    else:
        loss = (1 - target) * input - (1 + (pos_weight - 1) * target) * logsigmoid(input)
    return _reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(y log s + (1 - y) log(1 - s)) with s = sigmoid(x), computed from x without overflow.

    `pos_weight` multiplies the first term. Raises ValueError when the shapes differ.

    >>> import adjoint as torch
    >>> torch.nn.functional.binary_cross_entropy_with_logits(torch.zeros(3), torch.ones(3))
    tensor(0.6931)
    """
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    reduction = _legacy_reduction(size_average, reduce, reduction)
    return _binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction)


@composite("KlDivBackward0")
def _kl_div(input: Tensor, target: Tensor, log_target: bool, reduction: str) -> Tensor:
    if log_target:
        loss = torch.exp(target) * (target - input)
    else:
        # y log y is 0 at y = 0.
        log_target_value = torch.log(torch.where(target == 0, 1.0, target))
        loss = target * log_target_value - target * input
    if reduction == "batchmean":
        return loss.sum() / input.shape[0]
    return _reduced(loss, reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """y (log y - x) for log-probabilities x and probabilities y (or their logarithms with `log_target`).

    "batchmean" divides the sum by the first dimension, which is the Kullback-Leibler divergence; "mean"
    divides by the number of elements, and warns.

    >>> import adjoint as torch
    >>> torch.nn.functional.kl_div(torch.log(torch.tensor([0.5, 0.5])), torch.tensor([0.5, 0.5]), reduction="sum")
    tensor(0.)
    """
    reduction = _legacy_reduction(size_average, reduce, reduction)
    if reduction == "mean":
        warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' "
            "divides only by the batch size, and aligns with the KL div math definition.",
        )
    return _kl_div(input, target, log_target, reduction)


# ---- margins -------------------------------------------------------------------------------------


@composite("MeanBackward0")
def _hinge_embedding(input: Tensor, target: Tensor, margin: float, reduction: str) -> Tensor:
    apart = torch.where(target != 1, (margin - input).clamp(min=0), 0.0)
    return _reduced(apart + torch.where(target != -1, input, 0.0), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where y = 1, max(0, margin - x) where y = -1.

    >>> import adjoint as torch
    >>> torch.nn.functional.hinge_embedding_loss(torch.tensor([0.5, 0.2]), torch.tensor([1., -1.]))
    tensor(0.6500)
    """
    return _hinge_embedding(
        input, target, margin, _legacy_reduction(size_average, reduce, reduction)
    )


@composite("MeanBackward0")
def _margin_ranking(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float, reduction: str
) -> Tensor:
    return _reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -y (x1 - x2) + margin): y = 1 asks x1 to be the larger, y = -1 asks x2 to be.

    >>> import adjoint as torch
    >>> torch.nn.functional.margin_ranking_loss(torch.tensor([1.]), torch.tensor([3.]), torch.tensor([1.]))
    tensor(2.)
    """
    if not input1.dim() == input2.dim() == target.dim():
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {tuple(input1.shape)}, input2: {tuple(input2.shape)}, target: {tuple(target.shape)} "
        )
    return _margin_ranking(
        input1, input2, target, margin, _legacy_reduction(size_average, reduce, reduction)
    )


@composite("MeanBackward0")
def _soft_margin(input: Tensor, target: Tensor, reduction: str) -> Tensor:
    return _reduced(-logsigmoid(target * input), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-y x)) for y = 1 or -1.

    >>> import adjoint as torch
    >>> torch.nn.functional.soft_margin_loss(torch.tensor([0.]), torch.tensor([1.]))
    tensor(0.6931)
    """
    return _soft_margin(input, target, _legacy_reduction(size_average, reduce, reduction))


@composite("MeanBackward0")
def _cosine_embedding(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float, reduction: str
) -> Tensor:
    def squared(x: Tensor) -> Tensor:
        return (x * x).sum(-1) + 1e-12

    cosine = (input1 * input2).sum(-1) / torch.sqrt(squared(input1) * squared(input2))
    alike = torch.where(target == 1, 1 - cosine, 0.0)
    apart = torch.where(target == -1, (cosine - margin).clamp(min=0), 0.0)
    return _reduced(alike + apart, reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x1, x2) where y = 1, max(0, cos - margin) where y = -1, for (N, D) or (D,).

    >>> import adjoint as torch
    >>> torch.nn.functional.cosine_embedding_loss(torch.eye(2), torch.eye(2), torch.ones(2))
    tensor(0.)
    """
    if (
        target.dim() not in (0, 1)
        or input1.dim() != target.dim() + 1
        or input1.shape != input2.shape
    ):
        raise RuntimeError(
            f"cosine_embedding_loss(): {tuple(target.shape)} target tensor does not match "
            f"{tuple(input1.shape)} and {tuple(input2.shape)} input tensors"
        )
    return _cosine_embedding(
        input1, input2, target, margin, _legacy_reduction(size_average, reduce, reduction)
    )


@composite("MeanBackward0")
def _triplet_margin(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    p: float,
    eps: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = torch.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced((margin + near - far).clamp(min=0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |a - p| - |a - n|); `swap` also considers |p - n| (Balntas et al., 2016).

    >>> import adjoint as torch
    >>> torch.nn.functional.triplet_margin_loss(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[3., 4.]]))
    tensor(0.)
    """
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    reduction = _legacy_reduction(size_average, reduce, reduction)
    return _triplet_margin(anchor, positive, negative, margin, p, eps, swap, reduction)
