"""Functions of `nn.functional` that `torch` offers too, with other arguments: reductions are numbers, weights come first, and
what is optional there may have to be said. Losses are reduced only if that is said (0 is none, 1 the mean, 2 the sum), as by
PyTorch's functions of these names.

Those that are the same in both places are the same function; `adjoint.__init__` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor, fitting
from adjoint.nn import functional as F
from adjoint.nn.functional.dropout import masked_by_noise, noise_of_channels
from adjoint.nn.functional.linear import scale_down
from adjoint.ops.results import public
from adjoint.trace.arguments import checked

REDUCTIONS = ("none", "mean", "sum")


def _reduction(name: str, number: Any) -> str:
    """The word for a number. Numbers that mean nothing reduce nothing, as in PyTorch."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(
            f"{name}(): argument 'reduction' must be int, not {type(number).__name__} ({number!r}): 0 is none, 1 the mean, 2 the sum; "
            f"nn.functional.{name} takes words"
        )
    return REDUCTIONS[number] if 0 <= number < 3 else "none"


# --- norms --------------------------------------------------------------------------------------------------------------


@checked
def batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.batch_norm` with weight and bias first; `cudnn_enabled` has no effect.

    >>> import adjoint as torch
    >>> torch.batch_norm(torch.tensor([[1.], [3.]]), None, None, None, None, True, 0.1, 0.0, False)
    tensor([[-1.],
            [ 1.]])
    """
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@checked
def instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Tensor:
    """`nn.functional.instance_norm` with weight and bias first; `cudnn_enabled` has no effect.

    >>> import adjoint as torch
    >>> torch.instance_norm(torch.tensor([[[1., 3.]]]), None, None, None, None, True, 0.1, 0.0, False)
    tensor([[[-1.,  1.]]])
    """
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


@checked
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """`nn.functional.layer_norm`; `cudnn_enable` has no effect.

    >>> import adjoint as torch
    >>> torch.layer_norm(torch.tensor([1., 3.]), [2], eps=0.0)
    tensor([-1.,  1.])
    """
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


@checked
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`nn.functional.group_norm`; `cudnn_enabled` has no effect.

    >>> import adjoint as torch
    >>> torch.group_norm(torch.tensor([[1., 3., 5., 5.]]), 2)
    tensor([[-1.0000,  1.0000,  0.0000,  0.0000]])
    """
    return F.group_norm(input, num_groups, weight, bias, eps)


# --- activations and dropout --------------------------------------------------------------------------------------------


@checked
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`nn.functional.celu`, never in place: that is `celu_`.

    >>> import adjoint as torch
    >>> torch.celu(torch.tensor([-2., 0.5, 3.]))
    tensor([-0.8647,  0.5000,  3.0000])
    """
    return F.celu(input, alpha)


@checked
def selu(input: Tensor) -> Tensor:
    """`nn.functional.selu`, never in place: that is `selu_`.

    >>> import adjoint as torch
    >>> torch.selu(torch.tensor([-2., 0.5, 3.]))
    tensor([-1.5202,  0.5254,  3.1521])
    """
    return F.selu(input)


@public
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """`nn.functional.threshold`, never in place: that is `threshold_`.

    >>> import adjoint as torch
    >>> torch.threshold(torch.tensor([-1., 2.]), 0.5, -7.0)
    tensor([-7.,  2.])
    """
    return F.threshold(input, threshold, value)


@checked
def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> Tensor:
    """`nn.functional.rrelu`, never in place: that is `rrelu_`.

    >>> import adjoint as torch
    >>> torch.rrelu(torch.tensor([-2., 3.]), 0.25, 0.75)
    tensor([-1.,  3.])
    """
    return F.rrelu(input, lower, upper, training)


def _probability(p: float) -> float:
    if not 0 <= p <= 1:
        raise RuntimeError(f"dropout probability has to be between 0 and 1, but got {p}")
    return p


@checked
def alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """`nn.functional.alpha_dropout`, where `p` and `train` have to be said.

    >>> import adjoint as torch
    >>> torch.alpha_dropout(torch.ones(2), 0.5, train=False)
    tensor([1., 1.])
    """
    return F.alpha_dropout(input, _probability(p), train)


@checked
def feature_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """Zero whole channels of (N, C, *) with probability p and scale the others by 1/(1-p) if `train`; else the input itself.

    >>> import adjoint as torch
    >>> torch.feature_dropout(torch.ones(1, 2, 3), 0.5, train=False).shape
    torch.Size([1, 2, 3])
    """
    return masked_by_noise(input, noise_of_channels(input), p) if _probability(p) > 0.0 and train else input


@checked
def feature_alpha_dropout(input: Tensor, p: float, train: bool) -> Tensor:
    """`nn.functional.feature_alpha_dropout`, where `p` and `train` have to be said.

    >>> import adjoint as torch
    >>> torch.feature_alpha_dropout(torch.ones(1, 2, 3), 0.5, train=False).shape
    torch.Size([1, 2, 3])
    """
    return F.feature_alpha_dropout(input, _probability(p), train)


@checked
def dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """`torch.dropout` in place.

    >>> import adjoint as torch
    >>> torch.dropout_(torch.ones(2), 1.0, train=True)
    tensor([0., 0.])
    """
    return _written(input, F.dropout(input, _probability(p), train), "dropout_")


@checked
def alpha_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """`torch.alpha_dropout` in place.

    >>> import adjoint as torch
    >>> torch.alpha_dropout_(torch.ones(2), 1.0, train=True)
    tensor([0., 0.])
    """
    return _written(input, alpha_dropout(input, p, train), "alpha_dropout_")


@checked
def feature_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """`torch.feature_dropout` in place.

    >>> import adjoint as torch
    >>> torch.feature_dropout_(torch.ones(1, 2), 1.0, train=True)
    tensor([[0., 0.]])
    """
    return _written(input, feature_dropout(input, p, train), "feature_dropout_")


@checked
def feature_alpha_dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """`torch.feature_alpha_dropout` in place.

    >>> import adjoint as torch
    >>> torch.feature_alpha_dropout_(torch.ones(1, 2), 1.0, train=True)
    tensor([[0., 0.]])
    """
    return _written(input, feature_alpha_dropout(input, p, train), "feature_alpha_dropout_")


def _written(input: Tensor, value: Tensor, name: str) -> Tensor:
    return input if value is input else input.copy_(fitting(input, value, name))


# --- look-up and pooling ------------------------------------------------------------------------------------------------


@checked
def embedding(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """`nn.functional.embedding` with the table first; `padding_idx=-1` is none.

    >>> import adjoint as torch
    >>> torch.embedding(torch.tensor([[1., 2.], [3., 4.]]), torch.tensor([1, 1]))
    tensor([[3., 4.],
            [3., 4.]])
    """
    if weight.dim() != 2:
        raise RuntimeError(f"'weight' must be 2-D, but has shape {list(weight.shape)}: torch.embedding takes the table first, then the indices")
    return F.embedding(indices, weight, None if padding_idx < 0 else padding_idx, None, 2.0, scale_grad_by_freq, sparse)


@checked
def embedding_bag(
    weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = 0, sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False, padding_idx: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`nn.functional.embedding_bag` with the table first and a number for the mode: 0 is the sum, 1 the mean, 2 the maximum.

    weight (num, dim), indices (n,), offsets (bags,), one more with `include_last_offset`. Returns the bags (bags, dim); the
    bag of each index (n,); how many indices each bag has (bags,), without those that are `padding_idx`; and for the maximum the
    rows that have it (bags, dim), 0 for an empty bag, for the others the third result again.

    >>> import adjoint as torch
    >>> table = torch.tensor([[1., 2.], [3., 4.], [10., 20.]])
    >>> bags, of, size, _ = torch.embedding_bag(table, torch.tensor([0, 1, 2]), torch.tensor([0, 2]))
    >>> bags, of, size
    (tensor([[ 4.,  6.],
            [10., 20.]]), tensor([0, 0, 1]), tensor([2, 1]))
    """
    if mode not in (0, 1, 2):
        raise RuntimeError(f"embedding_bag(): mode must be 0 (sum), 1 (mean) or 2 (max), but got {mode}")
    if indices.dim() != 1 or offsets.dim() != 1:
        raise RuntimeError(
            f"embedding_bag(): indices and offsets must have one axis, but have shapes {list(indices.shape)} and {list(offsets.shape)}"
        )
    if padding_idx is not None and padding_idx < 0 and padding_idx + weight.shape[0] < 0:
        padding_idx = None
    out = F.embedding_bag(
        indices, weight, offsets, None, 2.0, scale_grad_by_freq, ("sum", "mean", "max")[mode], sparse, per_sample_weights,
        include_last_offset, padding_idx,
    )
    bags = out.shape[0]
    places = torch.arange(indices.shape[0])
    bag = torch.searchsorted(offsets[:bags].to(torch.int64), places, right=True) - 1
    counted = torch.ones_like(indices, dtype=torch.int64)
    if padding_idx is not None:
        counted = (indices != padding_idx % weight.shape[0]).to(torch.int64)
    sizes = torch.zeros((bags,), dtype=torch.int64).index_add(0, bag, counted)
    if mode < 2:
        return out, bag, sizes, sizes.clone()
    if not indices.shape[0]:
        return out, bag, sizes, torch.zeros(tuple(out.shape), dtype=torch.int64)
    rows, most = weight.detach().index_select(0, indices), out.detach().index_select(0, bag)
    at = torch.where((rows == most) & (counted > 0).unsqueeze(1), places.unsqueeze(1), indices.shape[0])
    first = torch.full(tuple(out.shape), indices.shape[0]).scatter_reduce(0, bag.unsqueeze(1).expand(at.shape), at, "amin")
    found = indices.to(torch.int64)[first.clamp(max=indices.shape[0] - 1)]
    return out, bag, sizes, torch.where(first < indices.shape[0], found, 0)


@checked
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """`nn.functional.pad` with a value: numbers before and behind the last axis, the last but one, and so on.

    >>> import adjoint as torch
    >>> torch.constant_pad_nd(torch.tensor([1., 2.]), (1, 2), 9)
    tensor([9., 1., 2., 9., 9.])
    """
    return F.pad(input, pad, "constant", value)


@checked
def embedding_renorm_(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Scale the rows of a table that `indices` name down in place, where their `norm_type`-norm is more than `max_norm`.

    >>> import adjoint as torch
    >>> torch.embedding_renorm_(torch.tensor([[3., 4.], [6., 8.]]), torch.tensor([1]), 5.0, 2.0)
    tensor([[3., 4.],
            [3., 4.]])
    """
    if weight.dim() != 2:
        raise RuntimeError(f"'weight' must be 2-D, but has shape {list(weight.shape)}: torch.embedding_renorm_ takes the table first, then the indices")
    scale_down(indices, weight, max_norm, norm_type)
    return weight


@checked
def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """`nn.functional.adaptive_max_pool1d` with the positions of the maxima.

    >>> import adjoint as torch
    >>> torch.adaptive_max_pool1d(torch.tensor([[1., 5., 2., 3.]]), 2)
    (tensor([[5., 3.]]), tensor([[1, 3]]))
    """
    return F.adaptive_max_pool1d(input, output_size, True)


@checked
def max_pool1d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """`nn.functional.max_pool1d` with the positions of the maxima.

    >>> import adjoint as torch
    >>> torch.max_pool1d_with_indices(torch.tensor([[1., 5., 2., 3.]]), 2)
    (tensor([[5., 3.]]), tensor([[1, 3]]))
    """
    return F.max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


# --- losses -------------------------------------------------------------------------------------------------------------


@checked
def binary_cross_entropy_with_logits(
    input: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 0
) -> Tensor:
    """`nn.functional.binary_cross_entropy_with_logits` with the reduction as a number.

    >>> import adjoint as torch
    >>> torch.binary_cross_entropy_with_logits(torch.tensor([0., 0.]), torch.tensor([0., 1.]), reduction=2)
    tensor(1.3863)
    """
    word = _reduction("binary_cross_entropy_with_logits", reduction)
    return F.binary_cross_entropy_with_logits(input, target, weight, reduction=word, pos_weight=pos_weight)


@checked
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0) -> Tensor:
    """`nn.functional.cosine_embedding_loss` with the reduction as a number.

    >>> import adjoint as torch
    >>> x = torch.tensor([[1., 0.], [0., 1.]])
    >>> torch.cosine_embedding_loss(x, x, torch.tensor([1., -1.]), 0.0, 2)
    tensor(1.)
    """
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=_reduction("cosine_embedding_loss", reduction))


@checked
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: int = 0,
    zero_infinity: bool = False,
) -> Tensor:
    """`nn.functional.ctc_loss` with the reduction as a number.

    >>> import adjoint as torch
    >>> torch.ctc_loss(torch.zeros(2, 1, 3).log_softmax(-1), torch.tensor([[1]]), [2], [1], reduction=2)
    tensor(1.0986)
    """
    word = _reduction("ctc_loss", reduction)
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, word, zero_infinity)


@checked
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: int = 0) -> Tensor:
    """`nn.functional.hinge_embedding_loss` with the reduction as a number.

    >>> import adjoint as torch
    >>> torch.hinge_embedding_loss(torch.tensor([2., 0.5]), torch.tensor([1., -1.]), reduction=0)
    tensor([2.0000, 0.5000])
    """
    return F.hinge_embedding_loss(input, target, margin, reduction=_reduction("hinge_embedding_loss", reduction))


@checked
def kl_div(input: Tensor, target: Tensor, reduction: int = 0, *, log_target: bool = False) -> Tensor:
    """`nn.functional.kl_div` with the reduction as a number; the mean is that of all elements.

    >>> import adjoint as torch
    >>> torch.kl_div(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.5, 0.5]), 2)
    tensor(0.)
    """
    return F.kl_div(input, target, reduction=_reduction("kl_div", reduction), log_target=log_target)


@checked
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: int = 0) -> Tensor:
    """`nn.functional.margin_ranking_loss` with the reduction as a number.

    >>> import adjoint as torch
    >>> torch.margin_ranking_loss(torch.tensor([1.]), torch.tensor([2.]), torch.tensor([1.]))
    tensor([1.])
    """
    return F.margin_ranking_loss(input1, input2, target, margin, reduction=_reduction("margin_ranking_loss", reduction))


@checked
def poisson_nll_loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float, reduction: int) -> Tensor:
    """`nn.functional.poisson_nll_loss`, where everything has to be said, the reduction as a number.

    >>> import adjoint as torch
    >>> torch.poisson_nll_loss(torch.tensor([0.]), torch.tensor([2.]), True, False, 1e-8, 1)
    tensor(1.)
    """
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=_reduction("poisson_nll_loss", reduction))


@checked
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 0,
) -> Tensor:
    """`nn.functional.triplet_margin_loss` with the reduction as a number.

    >>> import adjoint as torch
    >>> torch.triplet_margin_loss(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.]]), torch.tensor([[0., 1.]]), eps=0.0)
    tensor([5.])
    """
    word = _reduction("triplet_margin_loss", reduction)
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=word)
