"""Distances and similarities between vectors."""

from __future__ import annotations

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import composite

__all__ = ["cosine_similarity", "pairwise_distance"]


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
