"""Losses over alignments of sequences: `ctc_loss`, by the forward recursion in logarithms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.losses import _reduced
from adjoint.ops.composite import composite

__all__ = ["ctc_loss"]

NEVER = -1e30  # the logarithm of what cannot happen; finite, so that differences and derivatives are numbers


def _whole(lengths: Tensor | Sequence[int] | int, name: str) -> list[int]:
    if isinstance(lengths, Tensor):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype is torch.bool:
            raise RuntimeError(f"{name} must be integral, got a tensor of {lengths.dtype}")
        return [int(n) for n in lengths.reshape(-1).tolist()]
    return [lengths] if isinstance(lengths, int) else [int(n) for n in lengths]


def _labels(targets: Tensor, lengths: list[int], blank: int) -> Tensor:
    """The targets (N, S), blanks behind the end of each, from a padded tensor (N, S') or all in a row (sum of lengths,)."""
    count, longest = len(lengths), max(lengths, default=0)
    if targets.dim() == 2:
        if targets.shape[0] != count or targets.shape[1] < longest:
            raise RuntimeError(
                f"Expected targets of size at least {[count, longest]} for {count} target_lengths up to {longest}, got {list(targets.shape)}"
            )
        starts = np.arange(count) * targets.shape[1]
    else:
        if targets.dim() != 1 or targets.shape[0] != sum(lengths):
            raise RuntimeError(f"Expected targets of size {[sum(lengths)]}, the sum of target_lengths, but got {list(targets.shape)}")
        starts = np.cumsum([0, *lengths])[:count]
    if longest == 0:
        return torch.full((count, 0), blank, dtype=torch.int64)
    step = np.arange(longest)
    there = step < np.array(lengths)[:, None]
    places = np.where(there, starts[:, None] + step, 0)
    found = targets.reshape(-1).to(torch.int64).index_select(0, torch.from_numpy(places.reshape(-1))).reshape(count, longest)
    return torch.where(torch.from_numpy(there), found, blank)


@composite("CtcLossBackward0")
def _forward_recursion(log_probs: Tensor, path: Tensor, steps: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """-log of the sum over all alignments, (N,): equations 6 to 8 of Graves et al. (2006), in logarithms.

    alpha[n, s] is the logarithm of the probability of all beginnings of alignments that are at path[n, s] now.
    """
    count, length = path.shape
    emitted = log_probs.clamp(min=NEVER).gather(2, path.unsqueeze(0).expand(log_probs.shape[0], count, length))
    never = torch.full((count, 2), NEVER, dtype=log_probs.dtype)
    skips = torch.cat([torch.zeros((count, 2), dtype=torch.bool), (path[:, 2:] != blank) & (path[:, 2:] != path[:, :-2])], 1)[:, :length]
    alpha = torch.cat([torch.zeros((count, 1), dtype=log_probs.dtype), never[:, :1].expand(count, length - 1)], 1)
    for t, now in enumerate(emitted.unbind(0)):
        before = torch.cat([never, alpha], 1)
        moved = torch.logaddexp(alpha, before[:, 1 : length + 1])
        moved = torch.logaddexp(moved, torch.where(skips, before[:, :length], NEVER)) + now
        alpha = torch.where((steps > t).unsqueeze(1), moved, alpha)
    last = alpha.gather(1, (2 * lengths).unsqueeze(1)).squeeze(1)
    label = alpha.gather(1, (2 * lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    loss = -torch.logaddexp(last, torch.where(lengths > 0, label, NEVER))
    return torch.where(loss > -NEVER / 2, float("inf"), loss)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """Connectionist temporal classification (Graves et al., 2006): -log of the probability of the targets, whatever steps
    emit them.

    log_probs: (T, N, C), or (T, C), logarithms of probabilities (`log_softmax`), float32 or float64. targets: (N, S), or all
    in a row (sum of target_lengths,), without `blank`. The lengths are (N,) each. Results: (N,) for reduction "none", else
    a number; "mean" divides each loss by its target's length first. A target that cannot be reached costs infinity and has
    gradient 0; with `zero_infinity` it costs 0.

    The gradient is the derivative with respect to `log_probs`. PyTorch's has the softmax added to it, which makes no difference
    to what comes before a `log_softmax`. Derivatives have derivatives.

    Raises RuntimeError for lengths below 0 or above T, targets that do not fit, a blank that is no class; ValueError for an
    unknown reduction; NotImplementedError for other dtypes.

    >>> import adjoint as torch
    >>> log_probs = torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    >>> loss = torch.nn.functional.ctc_loss(log_probs, torch.tensor([1]), (2,), (1,), reduction="sum")
    >>> round(float(torch.exp(-loss)), 4)
    0.75
    """
    if log_probs.dim() not in (2, 3):
        raise RuntimeError(f"Expected log_probs of shape (T, N, C) or (T, C), got {list(log_probs.shape)}")
    if log_probs.dtype not in (torch.float32, torch.float64):
        raise NotImplementedError(f"ctc_loss is for float32 and float64, not for {log_probs.dtype}")
    batched = log_probs.dim() == 3
    if not batched:
        log_probs = log_probs.unsqueeze(1)
    steps, lengths = _whole(input_lengths, "input_lengths"), _whole(target_lengths, "target_lengths")
    length, count, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"blank must be in label range: got {blank} and {classes} classes")
    for name, found in (("input_lengths", steps), ("target_lengths", lengths)):
        if len(found) != count:
            raise RuntimeError(f"{name} must be of size batch_size {count}, got {len(found)}")
        if min(found, default=0) < 0:
            raise RuntimeError(f"Expected {name} to have value at least 0, but got value {min(found)}")
    if max(steps, default=0) > length:
        raise RuntimeError(f"Expected input_lengths to have value at most {length}, but got value {max(steps)}")
    labels = _labels(targets, lengths, blank)
    path = torch.full((count, 2 * labels.shape[1] + 1), blank, dtype=torch.int64)
    path[:, 1::2] = labels
    ends = torch.tensor(lengths, dtype=torch.int64)
    loss = _forward_recursion(log_probs, path, torch.tensor(steps, dtype=torch.int64), ends, blank)
    if zero_infinity:
        loss = torch.where(torch.isinf(loss), 0.0, loss)
    if reduction == "mean":
        loss = loss / ends.clamp(min=1).to(loss.dtype)
    if not batched and reduction == "none":
        return loss.squeeze(0)
    return _reduced(loss, reduction)
