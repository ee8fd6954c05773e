"""Bags of table rows: each row of the result is the sum, the mean or the largest of some rows of a table.

Which rows belong together is said by the rows of a matrix of indices, or for a vector of indices by `offsets`, where each
bag starts. Read `embedding_bag`, then `_bags`.
"""

from __future__ import annotations

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.functional.linear import check_padding, check_table, scale_down
from adjoint.ops.composite import composite
from adjoint.ops.index import position

__all__ = ["embedding_bag"]


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sum, mean or maximum of bags of rows of `weight` (num, dim): (bags, dim), zeros for an empty bag.

    input: integers, (bags, count), or (n,) with `offsets` (bags,), the positions where bags start, the first of them 0; with
    `include_last_offset` one more, where the last bag ends.  mode: "sum", "mean" or "max".  per_sample_weights: factors in
    the shape of input, for "sum" alone.  padding_idx: a row that does not count.  max_norm: the rows used are first scaled
    down in place to that norm.

    Raises ValueError for shapes that do not fit and unknown modes, RuntimeError for other dtypes and a `padding_idx` outside
    the table, NotImplementedError for weights of other modes and `scale_grad_by_freq`, and (when the value is needed)
    IndexError for an index or offset out of range and a first bag that does not start at 0.

    >>> import adjoint as torch
    >>> table = torch.tensor([[1., 2.], [3., 4.], [10., 20.]])
    >>> torch.nn.functional.embedding_bag(torch.tensor([0, 1, 2]), table, torch.tensor([0, 2]), mode="sum")
    tensor([[ 4.,  6.],
            [10., 20.]])
    >>> torch.nn.functional.embedding_bag(torch.tensor([[0, 1], [2, 2]]), table)
    tensor([[ 2.,  3.],
            [10., 20.]])
    """
    _check_shapes(input, offsets, per_sample_weights)
    if weight.dim() != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got shape {list(weight.shape)}")
    if not weight.is_floating_point():
        raise RuntimeError(f"embedding_bag: expected a table of floating numbers, but got {weight.dtype}; convert it with .float()")
    check_table("embedding_bag", input, weight, scale_grad_by_freq)
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f"mode has to be one of sum, mean or max, but got {mode!r}")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'); multiply the rows of F.embedding instead"
        )
    if per_sample_weights is not None and per_sample_weights.dtype is not weight.dtype:
        raise RuntimeError(f"embedding_bag: expected per_sample_weights of the table's dtype {weight.dtype}, but got {per_sample_weights.dtype}")
    padding = check_padding(padding_idx, weight, RuntimeError)
    if max_norm is not None:
        scale_down(input, weight, max_norm, norm_type)
    if offsets is None:
        return _rows_of_bags(input, weight, per_sample_weights, mode, padding)
    if include_last_offset:
        if not offsets.numel():
            raise RuntimeError("include_last_offset: number of offsets should be at least 1, but got none")
        offsets = offsets[:-1]
    return _bags(input, weight, offsets, per_sample_weights, mode, padding)


def _check_shapes(input: Tensor, offsets: Tensor | None, factors: Tensor | None) -> None:
    if factors is not None and factors.shape != input.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({list(factors.shape)}) is not None, then it must have the same shape as the "
            f"input ({list(input.shape)})"
        )
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. "
                f"However, found offsets of shape {list(offsets.shape)}"
            )
    elif input.dim() == 1:
        if not isinstance(offsets, Tensor):
            raise ValueError(f"offsets has to be a 1D Tensor but got {type(offsets)}")
        if offsets.dim() != 1:
            raise ValueError(f"offsets has to be a 1D Tensor, but it has shape {list(offsets.shape)}")
        if offsets.dtype not in (torch.int32, torch.int64):
            raise RuntimeError(f"embedding_bag: expected offsets of dtype int32 or int64, but got {offsets.dtype}")
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")


def _counted(input: Tensor, rows: Tensor, factors: Tensor | None, padding: int) -> tuple[Tensor, Tensor]:
    """The rows as they enter a sum, and which of them count."""
    counts = (input != padding).unsqueeze(-1)
    if factors is not None:
        rows = rows * factors.unsqueeze(-1)
    return torch.where(counts, rows, 0.0) if padding >= 0 else rows, counts


@composite("EmbeddingBagBackward0")
def _rows_of_bags(input: Tensor, weight: Tensor, factors: Tensor | None, mode: str, padding: int) -> Tensor:
    """Bags that are the rows of a matrix."""
    rows = weight[position(input, weight.shape[0], False, 0)]
    if mode == "max":
        if not input.shape[1]:
            return rows.sum(1)
        if padding < 0:
            return rows.max(1).values
        counts = (input != padding).unsqueeze(-1)
        best = torch.where(counts, rows, -torch.inf).max(1).values
        return torch.where(counts.any(1), best, 0.0)
    rows, counts = _counted(input, rows, factors, padding)
    total = rows.sum(1)
    return total / counts.sum(1).clamp(min=1).to(total.dtype) if mode == "mean" else total


@composite("EmbeddingBagBackward0")
def _bags(input: Tensor, weight: Tensor, offsets: Tensor, factors: Tensor | None, mode: str, padding: int) -> Tensor:
    """Bags that are pieces of a vector: bag b has the positions from offsets[b] on, the last whose start is not behind."""
    n, count = input.shape[0], offsets.shape[0]
    rows = weight[position(input, weight.shape[0], False, 0)]
    if not n or not count:
        return _counted(input[:0], rows[:0], None if factors is None else factors[:0], padding)[0].sum(0).expand(count, weight.shape[1]).clone()
    bag = torch.bucketize(torch.arange(n), position(offsets.to(torch.int64), n + 1, False, 0), right=True) - 1
    bag = position(bag, count, False, 0)
    if mode == "max":
        return _largest(rows, bag, (input != padding).unsqueeze(-1), count)
    rows, counts = _counted(input, rows, factors, padding)
    total = rows.new_zeros(count, weight.shape[1]).index_add(0, bag, rows)
    if mode == "sum":
        return total
    sizes = total.new_zeros(count, 1).index_add(0, bag, counts.to(total.dtype))
    return total / sizes.clamp(min=1.0)


def _largest(rows: Tensor, bag: Tensor, counts: Tensor, count: int) -> Tensor:
    """The first of the largest elements of each bag has the whole gradient; where none counts there are zeros."""
    n = rows.shape[0]
    values = torch.where(counts, rows.detach(), -torch.inf)
    best = torch.full((count, rows.shape[1]), -torch.inf, dtype=rows.dtype).index_reduce(0, bag, values, "amax")
    wins = counts & ((values == best[bag]) | values.isnan())
    places = torch.where(wins, torch.arange(n).unsqueeze(-1), n)
    first = torch.full((count, rows.shape[1]), n).index_reduce(0, bag, places, "amin")
    return torch.where(first < n, rows.gather(0, first.clamp(max=n - 1)), 0.0)
