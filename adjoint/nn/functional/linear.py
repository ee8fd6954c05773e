"""Products with a weight matrix: linear, bilinear, and the table look-ups embedding and one_hot."""

from __future__ import annotations

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import composite
from adjoint.ops.index import position, position_at_once
from adjoint.trace import autocast

__all__ = ["bilinear", "embedding", "linear", "one_hot"]


@composite("AddmmBackward0")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: (..., in) with weight (out, in) and bias (out,) gives (..., out).

    A weight of one dimension (in,) gives (...). Raises RuntimeError when the sizes do not fit.

    >>> import adjoint as torch
    >>> torch.nn.functional.linear(torch.tensor([1.0, 2.0]), torch.tensor([[3.0, 4.0]]), torch.tensor([0.5]))
    tensor([11.5000])
    """
    if autocast.used:
        operands = autocast.lowered(input, weight, bias)
        if any([a is not b for a, b in zip(operands, (input, weight, bias), strict=True)]):
            return linear(*operands)  # of halves: rounded once
    if not input.dim() or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear(): input of shape {tuple(input.shape)} and weight of shape {tuple(weight.shape)} cannot be "
            "multiplied: the last dimensions (in_features) must be equal"
        )
    out = input.matmul(weight.T if weight.dim() == 2 else weight)
    return out if bias is None else out + bias


@composite("AddBackward0")
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_o = x1 W_o x2 + b_o: (..., in1), (..., in2), weight (out, in1, in2) give (..., out).

    >>> import adjoint as torch
    >>> torch.nn.functional.bilinear(torch.tensor([[1., 2.]]), torch.tensor([[3.]]), torch.ones(1, 2, 1))
    tensor([[9.]])
    """
    if input1.shape[:-1] != input2.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match, got {tuple(input1.shape)} and {tuple(input2.shape)}"
        )
    if (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise RuntimeError(
            f"bilinear(): inputs of shapes {tuple(input1.shape)} and {tuple(input2.shape)} do not fit a weight of "
            f"shape {tuple(weight.shape)} (out, in1, in2)"
        )
    out_features, in1, in2 = weight.shape
    # One product with W laid out as (in1, out * in2), then one contraction over in2.
    table = weight.permute(1, 0, 2).reshape(in1, out_features * in2)
    left = input1.matmul(table).reshape(*input1.shape[:-1], out_features, in2)
    out = (left * input2.unsqueeze(-2)).sum(-1)
    return out if bias is None else out + bias


@composite("EmbeddingBackward0")
def _embedding(index: Tensor, weight: Tensor, padding_idx: int) -> Tensor:
    rows = weight[position_at_once(index, weight.shape[0], False, 0, weight.shape[1])]
    if padding_idx < 0:
        return rows
    return torch.where((index == padding_idx).unsqueeze(-1), rows.detach(), rows)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (num, dim) chosen by integer `input` (...): shape (..., dim).

    The row `padding_idx` gets no gradient. With `max_norm`, the rows used are first scaled down in place
    to that norm. Raises RuntimeError for an index that is not an integer tensor, ValueError for a
    `padding_idx` outside the table, IndexError for an index out of range (when the value is needed).

    >>> import adjoint as torch
    >>> torch.nn.functional.embedding(torch.tensor([1, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    check_table("embedding", input, weight, scale_grad_by_freq)
    padding = check_padding(padding_idx, weight, ValueError)
    if max_norm is not None:
        scale_down(input, weight, max_norm, norm_type)
    return _embedding(input, weight, padding)


def check_table(name: str, input: Tensor, weight: Tensor, scale_grad_by_freq: bool) -> None:
    """Whether integers can be looked up in a table."""
    if input.dtype not in (torch.int32, torch.int64):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {input.dtype} instead (while checking arguments for {name})"
        )
    if weight.dim() != 2:
        raise RuntimeError(f"'weight' must be 2-D, but got shape {tuple(weight.shape)}")
    if scale_grad_by_freq:
        raise NotImplementedError(f"{name}(): scale_grad_by_freq is not supported")


def check_padding(padding_idx: int | None, weight: Tensor, error: type[Exception]) -> int:
    """The row of the table that `padding_idx` means, -1 for none."""
    if padding_idx is None:
        return -1
    if not -weight.shape[0] <= padding_idx < weight.shape[0]:
        raise error(f"Padding_idx must be within num_embeddings: got {padding_idx} for {weight.shape[0]} rows")
    return padding_idx % weight.shape[0]


def scale_down(input: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    """Rows of a table that are used, scaled down in place to a norm."""
    with torch.no_grad():
        used = position(input.reshape(-1), weight.shape[0], False, 0)
        rows = weight[used]
        norms = rows.norm(p=norm_type, dim=1, keepdim=True)
        # Equal indices write equal rows, so the order of the writes does not matter.
        weight[used] = torch.where(norms > max_norm, rows * (max_norm / (norms + 1e-7)), rows)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Integers (...) to int64 indicator vectors (..., num_classes).

    `num_classes=-1` takes the largest value plus one, which reads the data. Raises RuntimeError for
    other dtypes than int64, for negative values and for values that are too large.

    >>> import adjoint as torch
    >>> torch.nn.functional.one_hot(torch.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.dtype != torch.int64:
        raise RuntimeError(
            f"one_hot is only applicable to index tensor of type LongTensor, got {tensor.dtype}."
        )
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
    else:
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0:
            raise RuntimeError(f"Class values must be non-negative, got {low}.")
        if num_classes < 0:
            num_classes = high + 1
        elif high >= num_classes:
            raise RuntimeError(
                f"Class values must be smaller than num_classes, got {high} for {num_classes}."
            )
    return _one_hot(tensor, num_classes)


@composite("OneHot")
def _one_hot(index: Tensor, num_classes: int) -> Tensor:
    return (index.unsqueeze(-1) == torch.arange(num_classes)).to(torch.int64)
