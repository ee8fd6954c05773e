"""The largest singular values of a matrix and their vectors, from a few products with random vectors.

The method is that of Halko, Martinsson and Tropp, "Finding structure with randomness" (2011), algorithms 4.4 and 5.1.
"""

from __future__ import annotations

from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import sub
from adjoint.ops.linalg import check_matrix, linalg_qr, linalg_svd
from adjoint.ops.products import matmul
from adjoint.ops.random import randn
from adjoint.ops.reduce import mean
from adjoint.ops.results import public
from adjoint.ops.shape import matrix_transpose
from adjoint.trace.handle import Tensor


def svd_lowrank(A: Tensor, q: int = 6, niter: int = 2, M: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """U (*, m, q), S (*, q) and V (*, n, q) with U diag(S) V^H near A (*, m, n), or A - M: an approximation of the q largest
    singular values, nearly exact where the others are small.

    niter: how often the random vectors are multiplied by A A^H first, which makes it better where singular values fall slowly.
    There are no more than min(m, n) of them, whatever q is. RuntimeError for what is no matrix of floats, ValueError for a negative q.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> A = torch.outer(torch.arange(4.), torch.ones(3))
    >>> U, S, V = torch.svd_lowrank(A, q=2)
    >>> torch.allclose(U * S @ V.T, A, atol=1e-5)
    True
    """
    check_matrix("svd_lowrank", A, square=False, module="torch")
    m, n = A._aval.shape[-2:]
    if q < 0:
        raise ValueError(f"torch.svd_lowrank: q(={q}) must be non-negative integer")
    if M is not None:
        A = sub(A, M)
    if m < n:
        V, S, U = _of_tall(_H(A), q, niter)
        return U, S, V
    return _of_tall(A, q, niter)


def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Principal components of the rows of A (*, m, n): `svd_lowrank` of A less the mean of its rows, which `center=False` leaves.

    The columns of V (*, n, q) are the principal directions, A V[:, :k] the first k components, S**2 / (m - 1) their variances. q: 6, or
    min(m, n) where that is less. ValueError for a q beyond it, or a negative niter.

    >>> import adjoint as torch
    >>> _ = torch.manual_seed(0)
    >>> x = torch.tensor([[1., 2.], [2., 4.], [3., 6.]])
    >>> _, S, V = torch.pca_lowrank(x)
    >>> S[:1], (V[1] / V[0])[:1]
    (tensor([3.1623]), tensor([2.]))
    """
    check_matrix("pca_lowrank", A, square=False, module="torch")
    m, n = A._aval.shape[-2:]
    q = min(6, m, n) if q is None else q
    if not 0 <= q <= min(m, n):
        raise ValueError(f"torch.pca_lowrank: q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"torch.pca_lowrank: niter(={niter}) must be non-negative integer")
    return svd_lowrank(sub(A, mean(A, -2, keepdim=True)) if center else A, q, niter)


def _H(x: Tensor) -> Tensor:
    return conj(matrix_transpose(x))


def _of_tall(A: Tensor, q: int, niter: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of a matrix with no more columns than rows."""
    basis = linalg_qr(matmul(A, randn(A._aval.shape[-1], q, dtype=A._aval.dtype)))[0]
    for _ in range(niter):
        basis = linalg_qr(matmul(_H(A), basis))[0]
        basis = linalg_qr(matmul(A, basis))[0]
    U, S, Vh = linalg_svd(matmul(_H(basis), A), full_matrices=False)
    return matmul(basis, U), S, _H(Vh)


svd_lowrank, pca_lowrank = public(svd_lowrank, "svd_lowrank"), public(pca_lowrank, "pca_lowrank")
