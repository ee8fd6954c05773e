"""Decompositions, solving and norms of matrices: host steps on NumPy's LAPACK, batched over leading axes.

`adjoint.linalg` offers them under PyTorch's names. A failed computation (a singular matrix) raises when its value is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from adjoint import dtypes, return_types
from adjoint.dtypes import DType
from adjoint.ops import elementwise as ew
from adjoint.ops.complex_numbers import conjugate_transpose
from adjoint.ops.elementwise import cast
from adjoint.ops.joining import cat, stack
from adjoint.ops.products import matmul, need
from adjoint.ops.rearrange import tril
from adjoint.ops.reduce import check_norm_of_nothing, in_norm_dtype, vector_norm
from adjoint.ops.shape import axes_of, axis_of, matrix_transpose
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def check_matrix(name: str, x: Tensor, square: bool = True, module: str = "linalg") -> None:
    call = f"{module}.{name}"
    need(call, x)
    shape = x._aval.shape
    if len(shape) < 2:
        raise RuntimeError(f"{call}: The input tensor A must have at least 2 dimensions.")
    if square and shape[-1] != shape[-2]:
        raise RuntimeError(
            f"{call}: A must be batches of square matrices, but they are {shape[-2]} by {shape[-1]} matrices"
        )
    if x._aval.dtype.is_half and name != "matrix_power":  # products alone need no decomposition
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.LEGACY[x._aval.dtype]}\'; convert with .float() first')
    if x._aval.dtype.category < 2:
        raise RuntimeError(f"{call}: Expected a floating point or complex tensor as input. Got {x._aval.dtype.name}")


def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices. Raises RuntimeError, when the value is needed, for a singular one.

    >>> import adjoint as torch
    >>> torch.linalg.inv(torch.tensor([[2., 0.], [0., 4.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    check_matrix("inv", A)
    return record("inv", (A,))


def det(A: Tensor) -> Tensor:
    """The determinant; its gradient is det(A) inv(A)^T.

    >>> import adjoint as torch
    >>> torch.linalg.det(torch.tensor([[2., 1.], [0., 4.]]))
    tensor(8.)
    """
    check_matrix("det", A)
    return record("det", (A,))


def linalg_slogdet(A: Tensor) -> Any:
    """Sign and logarithm of the absolute value of the determinant.

    >>> import adjoint as torch
    >>> sign, logarithm = torch.linalg.slogdet(torch.tensor([[-1., 0.], [0., 1.]]))
    >>> sign, logarithm
    (tensor(-1.), tensor(0.))
    """
    check_matrix("slogdet", A)
    both = record("slogdet", (A,))
    return return_types.linalg_slogdet((record("pick", (both,), 0), record("pick", (both,), 1)))


def slogdet(input: Tensor) -> Any:
    """`linalg.slogdet` under its old name.

    >>> import adjoint as torch
    >>> torch.slogdet(torch.eye(2)).logabsdet
    tensor(0.)
    """
    return return_types.slogdet(linalg_slogdet(input))


def logdet(A: Tensor) -> Tensor:
    """The logarithm of the determinant; NaN where that is negative.

    >>> import adjoint as torch
    >>> torch.logdet(torch.eye(2))
    tensor(0.)
    """
    sign, value = slogdet(A)
    return ew.where(sign < 0, math.nan, value)


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B; B may be a vector, a matrix or a batch of either.

    >>> import adjoint as torch
    >>> torch.linalg.solve(torch.tensor([[2., 0.], [0., 4.]]), torch.tensor([2., 8.]))
    tensor([1., 2.])
    """
    check_matrix("solve", A)
    need("linalg.solve", B)
    if A._aval.dtype is not B._aval.dtype:
        raise RuntimeError(f"linalg.solve: Expected A and B to have the same dtype, but found A of type {A._aval.dtype.name} and B of type {B._aval.dtype.name} instead")
    if not left:
        return matrix_transpose(solve(matrix_transpose(A), matrix_transpose(B)))
    vector = len(B._aval.shape) == 1 or (
        len(B._aval.shape) == len(A._aval.shape) - 1 and B._aval.shape == A._aval.shape[:-1]
    )
    right = B.unsqueeze(-1) if vector else B
    n = A._aval.shape[-1]
    if right._aval.shape[-2] != n:
        raise RuntimeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation AX = B ({A._aval.shape[-2]}x{n} and "
            f"{right._aval.shape[-2]}x{right._aval.shape[-1]})"
        )
    batch = np.broadcast_shapes(tuple(A._aval.shape[:-2]), tuple(right._aval.shape[:-2]))
    A = A if tuple(A._aval.shape[:-2]) == batch else record("expand", (A,), (*batch, n, n))
    columns = right._aval.shape[-1]
    right = right if tuple(right._aval.shape[:-2]) == batch else record("expand", (right,), (*batch, n, columns))
    out = record("solve", (A, right))
    return out.squeeze(-1) if vector else out


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """X with `A @ X = B` (`X @ A = B` if not `left`) for triangular A.

    >>> import adjoint as torch
    >>> torch.linalg.solve_triangular(torch.tensor([[2., 0.], [1., 1.]]), torch.tensor([[2.], [3.]]), upper=False)
    tensor([[1.],
            [2.]])
    """
    from adjoint.ops.rearrange import triu

    check_matrix("solve_triangular", A)
    if len(B._aval.shape) < 2:
        raise RuntimeError(f"linalg.solve_triangular: The input tensor B must have at least 2 dimensions, got {list(B._aval.shape)}")
    if A._aval.dtype is not B._aval.dtype:
        raise RuntimeError(f"linalg.solve_triangular: Expected A and B to have the same dtype, but found {A._aval.dtype.name} and {B._aval.dtype.name}")
    T = triu(A) if upper else tril(A)
    if unitriangular:
        n = A._aval.shape[-1]
        from adjoint.ops.create import eye

        I = eye(n, dtype=A._aval.dtype)
        T = T * (1 - I) + I
    return solve(T, B, left=left)


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """The lower triangular L with A = L L^H, for symmetric (Hermitian) positive definite A (upper: L^H).

    >>> import adjoint as torch
    >>> torch.linalg.cholesky(torch.tensor([[4., 2.], [2., 5.]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    check_matrix("cholesky", A)
    L = record("cholesky", (A,))
    return conjugate_transpose(L) if upper else L


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A X = B, from the Cholesky factor L of A (upper: L^H); B is a matrix, or a batch of them.

    >>> import adjoint as torch
    >>> torch.cholesky_solve(torch.tensor([[8.]]), torch.tensor([[2.]]))
    tensor([[2.]])
    """
    check_matrix("cholesky_solve", L)
    if len(B._aval.shape) < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {len(B._aval.shape)} dimensions instead")
    turned = conjugate_transpose(L)
    first, second = (turned, L) if upper else (L, turned)
    return solve_triangular(second, solve_triangular(first, B, upper=False), upper=True)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A, from its Cholesky factor L (upper: L^H).

    >>> import adjoint as torch
    >>> torch.cholesky_inverse(torch.tensor([[2.]]))
    tensor([[0.2500]])
    """
    check_matrix("cholesky_inverse", L)
    from adjoint.ops.create import eye

    return cholesky_solve(eye(L._aval.shape[-1], dtype=L._aval.dtype), L, upper)


def linalg_qr(A: Tensor, mode: str = "reduced") -> Any:
    """A = Q R with orthonormal columns in Q and upper triangular R, for A of shape (*, m, n).

    mode: "reduced", Q (*, m, min(m, n)) and R (*, min(m, n), n); "complete", Q (*, m, m) and R (*, m, n), where the columns of Q
    beyond n have no derivative; "r", Q empty.

    >>> import adjoint as torch
    >>> Q, R = torch.linalg.qr(torch.tensor([[3., 1.], [4., 2.]]))
    >>> torch.allclose(Q @ R, torch.tensor([[3., 1.], [4., 2.]]))
    True
    """
    check_matrix("qr", A, square=False)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    both = record("qr", (A,))
    Q, R = record("pick", (both,), 0), record("pick", (both,), 1)
    if mode == "r":
        return return_types.linalg_qr((record("full", (0.0,), ((0,), A._aval.dtype)), R))
    *batch, m, n = A._aval.shape
    if mode == "complete" and m > n:
        Q, R = _completed(Q), cat([R, record("full", (0.0,), ((*batch, m - n, n), A._aval.dtype))], -2)
    return return_types.linalg_qr((Q, R))


def qr(input: Tensor, some: bool = True) -> Any:
    """`linalg.qr`, reduced if `some`, else complete.

    >>> import adjoint as torch
    >>> torch.qr(torch.ones(3, 1), some=False).Q.shape
    torch.Size([3, 3])
    """
    return return_types.qr(linalg_qr(input, "reduced" if some else "complete"))


def _completed(Q: Tensor) -> Tensor:
    """Orthonormal columns (*, m, k), k < m, with the m - k that are missing to a basis; these have no derivative."""
    m, k = Q._aval.shape[-2:]
    from adjoint.ops.create import eye

    unit = eye(m, dtype=Q._aval.dtype).expand(*Q._aval.shape[:-2], m, m)
    basis = record("pick", (record("qr", (cat([Q.detach(), unit], -1),)),), 0)
    return cat([Q, basis.narrow(-1, k, m - k)], -1)


def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """Eigenvalues in ascending order and eigenvectors (columns) of symmetric (Hermitian) matrices.

    The gradient needs distinct eigenvalues; where two are equal it is infinite or NaN.

    >>> import adjoint as torch
    >>> values, vectors = torch.linalg.eigh(torch.tensor([[2., 0.], [0., 1.]]))
    >>> values
    tensor([1., 2.])
    """
    if isinstance(A, Tensor) and A._aval.dtype.category < 2:
        raise NotImplementedError(f'"linalg.eigh" not implemented for \'{dtypes.LEGACY[A._aval.dtype]}\'; convert with .float() first')
    check_matrix("eigh", A)
    S = A if UPLO == "L" else conjugate_transpose(A)
    both = record("eigh", (S,))
    return return_types.linalg_eigh((record("pick", (both,), 0), record("pick", (both,), 1)))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of a symmetric matrix, ascending.

    >>> import adjoint as torch
    >>> torch.linalg.eigvalsh(torch.tensor([[2., 0.], [0., 1.]]))
    tensor([1., 2.])
    """
    return eigh(A, UPLO).eigenvalues


def eig(A: Tensor) -> Any:
    """Eigenvalues w (*, n) and eigenvectors V (*, n, n), its columns, of square matrices: A V = V diag(w), of a complex dtype.

    The columns have length 1; which phase they have, and in which order the eigenvalues are, is not determined. So a gradient has
    a meaning only for what does not depend on phases; it needs distinct eigenvalues. RuntimeError, when the value is needed, for
    infinite numbers and NaN; for other dtypes and matrices that are not square at once.

    >>> import adjoint as torch
    >>> torch.linalg.eig(torch.tensor([[0., 2.], [-2., 0.]])).eigenvalues
    tensor([0.+2.j, 0.-2.j])
    """
    check_matrix("eig", A)
    both = record("eig", (A,))
    return return_types.linalg_eig((record("pick", (both,), 0), record("pick", (both,), 1)))


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues (*, n) of square matrices, of a complex dtype, in no determined order.

    >>> import adjoint as torch
    >>> torch.linalg.eigvals(torch.tensor([[3., 1.], [0., 3.5]]))
    tensor([3.0000+0.j, 3.5000+0.j])
    """
    check_matrix("eigvals", A)
    return eig(A).eigenvalues


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The B with `torch.tensordot(B, tensordot(A, X, X.ndim), ind)` = X: the inverse of A as a map of tensors.

    A: (*S, *T) with `ind` axes S, and as many elements in S as in T; the result is (*T, *S). RuntimeError otherwise, and, when
    the value is needed, where A is singular.

    >>> import adjoint as torch
    >>> torch.linalg.tensorinv(torch.eye(6).reshape(2, 3, 6), ind=2).shape
    torch.Size([6, 2, 3])
    """
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got ind={ind}")
    shape = tuple(A._aval.shape)
    if ind > len(shape):
        raise RuntimeError(f"linalg.tensorinv: ind={ind} axes are more than A of shape {list(shape)} has")
    there, back = shape[:ind], shape[ind:]
    n = math.prod(there)
    if n != math.prod(back):
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got {math.prod(back)} != {n} "
            f"for shape {list(shape)} and ind={ind}"
        )
    check_matrix("tensorinv", A.reshape(n, n))
    return inv(A.reshape(n, n)).reshape(*back, *there)


def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """The X with `torch.tensordot(A, X, X.ndim)` = B.

    A: (*S, *T) with as many elements in S, which is the shape of B, as in T, that of X. dims: axes of A that are first moved to its
    end, in this order. RuntimeError otherwise, and, when the value is needed, where A is singular.

    >>> import adjoint as torch
    >>> torch.linalg.tensorsolve(2 * torch.eye(6).reshape(2, 3, 6), torch.ones(2, 3))
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """
    if dims is not None:
        axes_of(tuple(dims), len(A._aval.shape))  # refuses what cannot be
        moved = [axis_of(d, len(A._aval.shape)) for d in dims]
        A = A.permute(*[d for d in range(len(A._aval.shape)) if d not in moved], *moved)
    shape = tuple(A._aval.shape)
    sought = shape[len(B._aval.shape) :]
    n = math.prod(sought)
    if n != B._aval.size or n * n != A._aval.size:
        raise RuntimeError(
            f"Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but got {n} != "
            f"{math.prod(shape[: len(B._aval.shape)])} for self of shape {list(shape)} and other of shape {list(B._aval.shape)}"
        )
    return solve(A.reshape(n, n), B.reshape(n)).reshape(*sought)


def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """A = U diag(S) Vh with singular values in descending order, for A of shape (*, m, n) with k = min(m, n).

    full_matrices: U (*, m, m) and Vh (*, n, n) as in PyTorch by default, where the vectors beyond k have no derivative; if False
    U (*, m, k) and Vh (*, k, n). `driver` has no effect.

    >>> import adjoint as torch
    >>> torch.linalg.svd(torch.tensor([[3., 0.], [0., -2.]])).S
    tensor([3., 2.])
    """
    check_matrix("svd", A, square=False)
    three = record("svd", (A,))
    U, S, Vh = (record("pick", (three,), k) for k in range(3))
    m, n = A._aval.shape[-2:]
    if full_matrices and m > n:
        U = _completed(U)
    elif full_matrices and m < n:
        Vh = conjugate_transpose(_completed(conjugate_transpose(Vh)))
    return return_types.linalg_svd((U, S, Vh))


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """input = U diag(S) V^H: `linalg.svd` with V instead of its adjoint, reduced if `some`; U and V are zeros unless `compute_uv`.

    >>> import adjoint as torch
    >>> A = torch.tensor([[1., 2.], [3., 4.], [5., 6.]])
    >>> U, S, V = torch.svd(A)
    >>> torch.allclose(U @ torch.diag(S) @ V.T, A)
    True
    """
    U, S, Vh = linalg_svd(input, not some if compute_uv else True)
    V = conjugate_transpose(Vh)
    return return_types.svd((U, S, V) if compute_uv else (U.detach() * 0, S, V.detach() * 0))


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, descending. `driver` has no effect.

    >>> import adjoint as torch
    >>> torch.linalg.svdvals(torch.tensor([[3., 0.], [0., -4.]]))
    tensor([4., 3.])
    """
    return linalg_svd(A, False).S


def pinv(A: Tensor, rcond: float | None = None, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False) -> Tensor:
    """Moore–Penrose inverse; singular values up to `atol`, or `rtol` (also called `rcond`) times the largest, count as zero.

    By default rtol is max(m, n) eps where no tolerance is given. `hermitian` promises that A is, and changes nothing.

    >>> import adjoint as torch
    >>> torch.linalg.pinv(torch.tensor([[2., 0.], [0., 0.]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    """
    U, S, Vh = linalg_svd(A, False)
    share = rcond if rtol is None else rtol
    if share is None:
        share = 0.0 if atol else max(A._aval.shape[-2:]) * float(np.finfo(A._aval.dtype.np).eps)
    limit = share * S.amax(-1, keepdim=True)
    keep = S > (limit if atol is None else limit.clamp(min=atol))
    inverse = ew.where(keep, 1.0 / ew.where(keep, S, 1.0), 0.0)
    return matmul(conjugate_transpose(Vh) * inverse.unsqueeze(-2), conjugate_transpose(U))


def lstsq(A: Tensor, B: Tensor) -> Any:
    """The X of least norm that minimises the norm of `A @ X - B`, by the pseudo-inverse.

    A (*, m, n), B (*, m, k) or (*, m). `residuals`: squared norms of the columns of A @ X - B where m > n, else
    empty; `singular_values` stays empty, as with PyTorch's default driver.

    >>> import adjoint as torch
    >>> torch.linalg.lstsq(torch.tensor([[1., 0.], [1., 1.], [1., 2.]]), torch.tensor([[1.], [3.], [5.]])).solution
    tensor([[1.0000],
            [2.0000]])
    """
    check_matrix("lstsq", A, square=False)
    if A._aval.dtype is not B._aval.dtype:
        raise RuntimeError(f"torch.linalg.lstsq: input and other should have the same dtype, but got {A._aval.dtype.name} and {B._aval.dtype.name}")
    m, n = A._aval.shape[-2:]
    solution = matmul(pinv(A), B)
    none = record("full", (0.0,), ((0,), A._aval.dtype))
    along = -1 if len(B._aval.shape) == 1 else -2
    gap = matmul(A, solution) - B
    residuals = ((ew.absolute(gap) if gap._aval.dtype.is_complex else gap) ** 2).sum(along) if m > n else none
    return return_types.linalg_lstsq((solution, residuals, matrix_rank(A), none))


def matrix_rank(A: Tensor, tol: float | None = None) -> Tensor:
    """How many singular values exceed the tolerance (default: the largest times size times eps).

    >>> import adjoint as torch
    >>> torch.linalg.matrix_rank(torch.tensor([[1., 2.], [2., 4.]]))
    tensor(1)
    """
    S = svdvals(A)
    if not S._aval.shape[-1]:
        return cast(S, dtypes.int64).sum(-1)
    limit = tol if tol is not None else S.amax(-1, keepdim=True) * (max(A._aval.shape[-2:]) * float(np.finfo(A._aval.dtype.np).eps))
    return cast(S > limit, dtypes.int64).sum(-1)


def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: the largest singular value by the smallest; with `p` other than 2 and -2 the norm of A times that of
    its inverse (p as in `matrix_norm`: "fro", "nuc", 1, -1, inf, -inf), infinite for a singular matrix.

    >>> import adjoint as torch
    >>> torch.linalg.cond(torch.tensor([[4., 0.], [0., 2.]])), torch.linalg.cond(torch.tensor([[4., 0.], [0., 2.]]), 1)
    (tensor(2.), tensor(2.))
    """
    if p not in (None, 2, -2):
        from adjoint.ops.factors import inv_ex

        inverse, info = inv_ex(A)
        return ew.where(info > 0, math.inf, matrix_norm(A, p) * matrix_norm(inverse, p))
    S = svdvals(A)
    return S[..., -1] / S[..., 0] if p == -2 else S[..., 0] / S[..., -1]


def matrix_power(A: Tensor, n: int) -> Tensor:
    """A square matrix multiplied `n` times by itself; for negative `n` its inverse.

    >>> import adjoint as torch
    >>> torch.linalg.matrix_power(torch.tensor([[1., 1.], [0., 1.]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    check_matrix("matrix_power", A)
    from adjoint.ops.create import eye

    if n == 0:
        return record("expand", (eye(A._aval.shape[-1], dtype=A._aval.dtype),), tuple(A._aval.shape))
    base, out = (A, None) if n > 0 else (inv(A), None)
    k = abs(n)
    result: Tensor | None = out
    while k:
        if k & 1:
            result = base if result is None else matmul(result, base)
        base = matmul(base, base)
        k >>= 1
    assert result is not None
    return result


def linalg_vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The p-norm of all elements or along `dim`; `ord` may be inf, -inf and 0 (how many are not zero). It is computed in `dtype`.

    >>> import adjoint as torch
    >>> torch.linalg.vector_norm(torch.tensor([3., 4.]))
    tensor(5.)
    """
    x = in_norm_dtype("linalg.vector_norm", x, dtype)
    axes = axes_of(dim, len(x._aval.shape))
    check_norm_of_nothing(x._aval.shape, float(ord), axes)
    return vector_norm(x, float(ord), axes, keepdim)


def linalg_norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """Vector norms of vectors, matrix norms of matrices ("fro", "nuc", 1, -1, 2, -2, inf, -inf), computed in `dtype`."""
    rank = len(A._aval.shape)
    if ord is not None and dim is None and rank > 2:
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {rank}D (shape {list(A._aval.shape)})"
        )
    if ord is None or (dim is None and rank == 1) or isinstance(dim, int):
        return linalg_vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)
    return matrix_norm(A, ord, (-2, -1) if dim is None else dim, keepdim, dtype=dtype)


def matrix_norm(A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """A norm of matrices: "fro", "nuc", 1, -1, 2, -2, inf or -inf, computed in `dtype`.

    >>> import adjoint as torch
    >>> torch.linalg.matrix_norm(torch.tensor([[3., 0.], [0., 4.]]))
    tensor(5.)
    """
    A = in_norm_dtype("linalg.matrix_norm", A, dtype)
    rank = len(A._aval.shape)
    rows, columns = dim[0] % rank, dim[1] % rank
    if ord == "fro":
        return linalg_vector_norm(A, 2, (rows, columns), keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        first, second = (rows, columns) if abs(ord) == 1 else (columns, rows)
        totals = ew.absolute(A).sum(first, keepdim=True)
        out = totals.amax(second, keepdim=True) if ord > 0 else totals.amin(second, keepdim=True)
        return out if keepdim else out.reshape(tuple(n for d, n in enumerate(A._aval.shape) if d not in (rows, columns)))
    if ord not in ("nuc", 2, -2):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    S = svdvals(A.movedim((rows, columns), (-2, -1)))
    out = S.sum(-1) if ord == "nuc" else S[..., 0] if ord == 2 else S[..., -1]
    return out.unsqueeze(min(rows, columns)).unsqueeze(max(rows, columns)) if keepdim else out


def matrix_exp(A: Tensor) -> Tensor:
    """The exponential of square matrices, I + A + A^2 / 2 + ...

    Scaling and squaring (Higham, "Functions of Matrices", section 10.3) around a Taylor polynomial of degree 16, which is
    exact to float64 for norms below 1/2. The norm is read, so what is pending runs.

    >>> import adjoint as torch
    >>> torch.linalg.matrix_exp(torch.zeros(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    check_matrix("matrix_exp", A)
    if not A._aval.size:
        return A.clone()
    norm = float(ew.absolute(A.detach()).sum(-2).amax())
    squarings = max(0, math.frexp(norm)[1] + 1) if math.isfinite(norm) else 0
    n = A._aval.shape[-1]
    from adjoint.ops.create import eye

    identity, X = eye(n, dtype=A._aval.dtype), A * 2.0**-squarings
    out = identity + X / 16
    for k in range(15, 0, -1):
        out = identity + matmul(X, out) / k
    for _ in range(squarings):
        out = matmul(out, out)
    return out


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices.

    >>> import adjoint as torch
    >>> torch.chain_matmul(torch.ones(2, 3), torch.ones(3, 1), torch.ones(1, 4)).shape
    torch.Size([2, 4])
    """
    return matrices[0] if len(matrices) == 1 else multi_dot(matrices)


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix: powers of the elements of a vector as columns, falling unless `increasing`.

    >>> import adjoint as torch
    >>> torch.vander(torch.tensor([1, 2, 3]), 3)
    tensor([[1, 1, 1],
            [4, 2, 1],
            [9, 3, 1]])
    """
    if len(x._aval.shape) != 1:
        raise RuntimeError(f"x must be a one-dimensional tensor, got shape {list(x._aval.shape)}")
    count = x._aval.size if N is None else N
    return _powers(x, range(count) if increasing else range(count - 1, -1, -1), count)


def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of the elements of vectors (the last axis), as columns.

    >>> import adjoint as torch
    >>> torch.linalg.vander(torch.tensor([1, 2, 3]))
    tensor([[1, 1, 1],
            [1, 2, 4],
            [1, 3, 9]])
    """
    if not x._aval.shape:
        raise RuntimeError("linalg.vander: expected x to have at least one axis, but got a 0-d tensor")
    if N is not None and N <= 1:
        raise RuntimeError(f"N must be greater than 1, got {N}")
    count = x._aval.shape[-1] if N is None else N
    return _powers(x, range(count), count)


def _powers(x: Tensor, exponents: range, count: int) -> Tensor:
    if count < 0:
        raise RuntimeError(f"N must be non-negative, got {count}")
    if x._aval.nbytes * count >= 1 << 47:
        raise RuntimeError(f"cannot allocate memory for {count} powers of a tensor of shape {list(x._aval.shape)}")
    if not count:
        return record("full", (0,), ((*x._aval.shape, 0), x._aval.dtype))
    return stack([x**k for k in exponents], -1)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices; the first and the last may be vectors.

    >>> import adjoint as torch
    >>> torch.linalg.multi_dot([torch.ones(2, 3), torch.ones(3, 1), torch.ones(1, 4)]).shape
    torch.Size([2, 4])
    """
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    out = tensors[0]
    for x in tensors[1:]:
        out = matmul(out, x)
    return out


def cross(input: Tensor, other: Tensor, dim: int = -1) -> Tensor:
    """The cross product of 3-vectors along an axis.

    >>> import adjoint as torch
    >>> torch.linalg.cross(torch.tensor([1., 0., 0.]), torch.tensor([0., 1., 0.]))
    tensor([0., 0., 1.])
    """
    if len(input._aval.shape) != len(other._aval.shape):
        raise RuntimeError(
            "linalg.cross: inputs must have the same number of dimensions, got shapes "
            f"{list(input._aval.shape)} and {list(other._aval.shape)}"
        )
    for x in (input, other):
        if x._aval.shape[axes_of(dim, len(x._aval.shape))[0]] != 3:
            raise RuntimeError(
                f"linalg.cross: inputs dimension {dim} must have length 3. Got {list(input._aval.shape)} and "
                f"{list(other._aval.shape)}"
            )

    def part(x: Tensor, k: int) -> Tensor:
        return x.select(dim, k)

    out = [
        part(input, (k + 1) % 3) * part(other, (k + 2) % 3) - part(input, (k + 2) % 3) * part(other, (k + 1) % 3)
        for k in range(3)
    ]
    from adjoint.ops.joining import stack

    return stack(out, dim)


