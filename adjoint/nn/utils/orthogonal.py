"""Weights with orthonormal columns: the parametrization `orthogonal` of `torch.nn.utils.parametrizations`."""

from __future__ import annotations

from typing import Any

import numpy as np

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.nn.module import Module
from adjoint.nn.utils.parametrize import register_parametrization

__all__ = ["orthogonal"]

ORTHOGONAL_MAPS = ("matrix_exp", "cayley", "householder")


class _Orthogonal(Module):
    """A matrix to one with orthonormal columns (rows, if it is wide); `base` is a matrix that the result is turned by."""

    base: Any

    def __init__(self, weight: Tensor, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        if weight.is_complex() and orthogonal_map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = tuple(weight.shape)
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.shape[-2] < X.shape[-1]
        X = X.mT if wide else X
        Q = _product_of_reflections(X) if self.orthogonal_map == "householder" else self._of_skew(X)
        if getattr(self, "base", None) is not None:
            Q = self.base @ Q
        return Q.mT if wide else Q

    def _of_skew(self, X: Tensor) -> Tensor:
        """The exponential of A = L - Lᴴ, or (I - A/2)⁻¹ (I + A/2), where L is the lower triangle."""
        n, k = X.shape[-2:]
        X = X.tril()
        if n != k:
            X = torch.cat([X, X.new_zeros(*X.shape[:-1], n - k)], -1)
        A = X - X.mH
        if self.orthogonal_map == "matrix_exp":
            Q = torch.linalg.matrix_exp(A)
        else:
            one = torch.eye(n, dtype=A.dtype)
            Q = torch.linalg.solve(one - A / 2, one + A / 2)
        return Q[..., :k]

    def right_inverse(self, Q: Tensor) -> Tensor:
        if tuple(Q.shape) != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {tuple(Q.shape)}.")
        wide = Q.shape[-2] < Q.shape[-1]
        with torch.no_grad():
            columns = (Q.mT if wide else Q).detach()
            X = self._reflections_for(columns) if "base" not in self._buffers else self._new_base(columns)
        return X.mT if wide else X

    def _reflections_for(self, Q: Tensor) -> Tensor:
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley parametrizations when use_trivialization=False."
            )
        return _reflections(Q)

    def _new_base(self, Q: Tensor) -> Tensor:
        """The base takes the whole value: -I is sent to I by every map."""
        n, k = Q.shape[-2:]
        if n != k:
            Q = torch.cat([Q, torch.randn(*Q.shape[:-1], n - k, dtype=Q.dtype)], -1)
        self.base = Q.clone() if n == k and _is_orthogonal(Q) else _with_orthonormal_columns(Q)
        return -torch.eye(n, k, dtype=Q.dtype).expand(*Q.shape[:-2], n, k).contiguous()


def _product_of_reflections(X: Tensor) -> Tensor:
    """The first k columns of H_1 ... H_k D, where H_i = I - 2 v vᵀ / |v|² with v the i-th column of X below the diagonal and 1 on
    it, and D the signs on the diagonal of X (LAPACK Users' Guide, "Orthogonal or unitary matrices")."""
    n, k = X.shape[-2:]
    V = X.tril(-1) + torch.eye(n, k, dtype=X.dtype)
    factors = 2 / (V * V).sum(-2)
    Q = torch.eye(n, k, dtype=X.dtype).expand(*X.shape[:-2], n, k)
    for i in reversed(range(k)):
        v = V[..., i : i + 1]
        Q = Q - factors[..., None, i : i + 1] * v @ (v.mT @ Q)
    return Q * X.diagonal(dim1=-2, dim2=-1).detach().trunc().unsqueeze(-2)


def _reflections(Q: Tensor) -> Tensor:
    """The vectors below the diagonal, and the signs on it, of which `_product_of_reflections` makes the columns of Q."""
    packed = [np.linalg.qr(matrix, mode="raw") for matrix in Q.reshape(-1, *Q.shape[-2:]).numpy()]
    X = torch.tensor(np.stack([h.T for h, _ in packed])).reshape(Q.shape)
    skipped = torch.tensor(np.stack([tau for _, tau in packed])).reshape(*Q.shape[:-2], -1) == 0
    signs = torch.sign(X.diagonal(dim1=-2, dim2=-1))
    signs = torch.where(skipped, -signs, signs)
    return X.tril(-1) + torch.eye(*Q.shape[-2:], dtype=Q.dtype) * signs.unsqueeze(-2)


def _with_orthonormal_columns(A: Tensor) -> Tensor:
    """Q of A = Q R with a positive diagonal of R, so that columns that are orthonormal already stay."""
    Q, R = torch.linalg.qr(A)
    return Q * torch.sgn(R.diagonal(dim1=-2, dim2=-1)).unsqueeze(-2)


def _is_orthogonal(Q: Tensor) -> bool:
    n = Q.shape[-1]
    eps = 10 * n * torch.finfo(Q.dtype).eps
    return torch.allclose(Q.mH @ Q, torch.eye(n, dtype=Q.dtype), atol=eps)


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True) -> Module:
    """A weight with orthonormal columns (rows, where it is wider than high); returns the module.

    orthogonal_map: "matrix_exp", the exponential of a skew-symmetric matrix; "cayley", the Cayley map of one; "householder",
    a product of reflections; by default the first for square weights, the last for others.  use_trivialization: the weight
    is the map's value turned by a matrix, the buffer `base`, which takes what is assigned (Lezcano-Casado, "Trivializations
    for gradient-based optimization on manifolds", 2019); without it only "householder" can be assigned to.

    Raises ValueError for a name that the module does not have, another map, a weight of fewer than two axes, and complex
    reflections.

    >>> import adjoint as torch
    >>> layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(4, 2))
    >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(2), atol=1e-6)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.dim() < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] or weight.is_complex() else "householder"
    if orthogonal_map not in ORTHOGONAL_MAPS:
        raise ValueError(f"orthogonal_map has to be one of \"matrix_exp\", \"cayley\", \"householder\". Got: {orthogonal_map}")
    return register_parametrization(module, name, _Orthogonal(weight, orthogonal_map, use_trivialization), unsafe=True)
