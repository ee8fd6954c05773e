"""Distances and similarities between vectors."""

from __future__ import annotations

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import composite

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


@composite("SumBackward1")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1·x2 / (max(|x1|, eps) max(|x2|, eps)) along `dim`; the inputs broadcast.

    >>> import adjoint as torch
    >>> torch.nn.functional.cosine_similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([0.])
    """
    x1, x2 = torch.broadcast_tensors(x1, x2)
    unit1 = x1 / x1.norm(p=2, dim=dim, keepdim=True).clamp(min=eps)
    unit2 = x2 / x2.norm(p=2, dim=dim, keepdim=True).clamp(min=eps)
    return (unit1 * unit2).sum(dim)


@composite("NormBackward1")
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """p-norm of x1 - x2 + eps along the last dimension.

    >>> import adjoint as torch
    >>> torch.nn.functional.pairwise_distance(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.]]))
    tensor([5.0000])
    """
    return (x1 - x2 + eps).norm(p=p, dim=-1, keepdim=keepdim)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """p-norms of the differences of all pairs of rows: (N, M) to N (N - 1) / 2, the first row with the others first.

    Rows that are equal have the gradient 0. Raises RuntimeError unless the input is a floating matrix and p is at least 0.

    >>> import adjoint as torch
    >>> torch.pdist(torch.tensor([[0., 0.], [3., 4.], [3., 0.]]))
    tensor([5., 3., 4.])
    """
    if input.dim() != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.dim()}D, of shape {list(input.shape)}")
    if not input.is_floating_point():
        raise RuntimeError(f"pdist only supports floating-point dtypes, not {input.dtype.name}; convert it with .float()")
    if not p >= 0:
        raise RuntimeError(f"pdist only supports non-negative p values, but got {p}")
    first, second = torch.triu_indices(len(input), len(input), 1).unbind(0)
    return (input[first] - input[second]).norm(p=p, dim=-1)
