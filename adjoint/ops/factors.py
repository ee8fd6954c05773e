"""LU factors, what is solved with them, and products of reflections.

`lu` is the primitive: factors in one matrix, the exchanges of rows, and the order of rows that they make. Batches are the
leading axes. `adjoint.linalg` offers these under PyTorch's names.
"""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from adjoint import dtypes, return_types
from adjoint.ops.complex_numbers import conj
from adjoint.ops.create import eye
from adjoint.ops.elementwise import cast, where
from adjoint.ops.gather import gather
from adjoint.ops.linalg import check_matrix, cholesky, inv, solve, solve_triangular
from adjoint.ops.products import matmul
from adjoint.ops.rearrange import tril, triu
from adjoint.ops.results import public
from adjoint.ops.shape import diagonal, matrix_transpose
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import array_of, record, tensor_from_array
from adjoint.trace.state import warn


def _factors(name: str, A: Tensor, pivot: bool, check: bool) -> list[Tensor]:
    if len(A._aval.shape) < 2:
        raise RuntimeError(f"torch.{name}: Expected tensor with 2 or more dimensions. Got size: {list(A._aval.shape)} instead")
    if A._aval.dtype.category < 2 or A._aval.dtype.is_half:
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.LEGACY[A._aval.dtype]}\'; convert with .float() first')
    if not pivot:
        raise RuntimeError(f"linalg.{name}: LU without pivoting is not implemented on the CPU; leave pivot=False out")
    three = record("lu", (A,), check)
    return [record("pick", (three,), k) for k in range(3)]


def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """P, L and U with A = P L U, packed: U on and above the diagonal of `LU` (*, m, n), L below it, without its ones.

    pivots (*, k), k = min(m, n), int32: row i was exchanged with row pivots[i] - 1, one after the other. RuntimeError, when
    the value is needed, where U has a 0 on its diagonal.

    >>> import adjoint as torch
    >>> torch.linalg.lu_factor(torch.tensor([[1., 2.], [4., 2.]]))
    torch.return_types.linalg_lu_factor(
    LU=tensor([[4.0000, 2.0000],
            [0.2500, 1.5000]]),
    pivots=tensor([2, 2], dtype=torch.int32))
    """
    return return_types.linalg_lu_factor(_factors("lu_factor", A, pivot, True)[:2])


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """`lu_factor` that says in `info` (*), int32, which element of U's diagonal is the first 0, counted from 1; 0 for none.

    >>> import adjoint as torch
    >>> torch.linalg.lu_factor_ex(torch.zeros(2, 2)).info
    tensor(1, dtype=torch.int32)
    """
    packed, pivots, _ = _factors("lu_factor_ex", A, pivot, check_errors)
    zero = diagonal(packed.detach(), 0, -2, -1) == 0
    if not zero._aval.shape[-1]:
        return return_types.linalg_lu_factor_ex((packed, pivots, record("full", (0,), (tuple(zero._aval.shape[:-1]), dtypes.int32))))
    first = cast(zero, dtypes.int64).argmax(-1) + 1
    return return_types.linalg_lu_factor_ex((packed, pivots, cast(where(zero.any(-1), first, 0), dtypes.int32)))


def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """A = P L U: a permutation (*, m, m), a unit lower triangle (*, m, k) and an upper triangle (*, k, n), k = min(m, n).

    >>> import adjoint as torch
    >>> torch.linalg.lu(torch.tensor([[1., 2.], [4., 2.]])).U
    tensor([[4.0000, 2.0000],
            [0.0000, 1.5000]])
    """
    packed, _, order = _factors("lu", A, pivot, False)
    return return_types.linalg_lu((_permutation(order, A._aval.dtype), *_unpacked(packed)))


def packed_lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """`linalg.lu_factor`, or with `get_infos` `linalg.lu_factor_ex`, under their old name: deprecated, and warns.

    >>> import adjoint as torch, warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     LU, pivots = torch.lu(torch.tensor([[1., 2.], [4., 2.]]))
    >>> pivots
    tensor([2, 2], dtype=torch.int32)
    """
    warn("torch.lu is deprecated: use torch.linalg.lu_factor, or lu_factor_ex for get_infos=True")
    three = lu_factor_ex(A, pivot=pivot)
    return tuple(three) if get_infos else tuple(three)[:2]


def _permutation(order: Tensor, dtype: dtypes.DType) -> Tensor:
    """The matrix with a 1 in row order[i] of column i."""
    m = order._aval.shape[-1]
    rows = record("reshape", (record("iota", (), m),), (m, 1))
    return cast(order.unsqueeze(-2) == rows, dtype.to_real() if dtype.is_complex else dtype).to(dtype)


def _unpacked(packed: Tensor) -> tuple[Tensor, Tensor]:
    m, n = packed._aval.shape[-2:]
    k = min(m, n)
    return tril(packed[..., :k], -1) + eye(m, k, dtype=packed._aval.dtype), triu(packed[..., :k, :])


def _order(name: str, pivots: Tensor, m: int) -> Tensor:
    if pivots._aval.dtype is not dtypes.int32:
        raise RuntimeError(f"{name}: pivots should be a Tensor of scalar type torch.int32, not {pivots._aval.dtype.name}")
    return record("row_order", (pivots,), m)


def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """P, L and U of what `lu_factor` gave; what is not asked for stays empty.

    >>> import adjoint as torch
    >>> P, L, U = torch.lu_unpack(*torch.linalg.lu_factor(torch.tensor([[1., 2.], [4., 2.]])))
    >>> P @ L @ U
    tensor([[1., 2.],
            [4., 2.]])
    """
    dtype = LU_data._aval.dtype
    none = record("full", (0.0,), ((0,), dtype))
    L, U = _unpacked(LU_data) if unpack_data else (none, none)
    order = _order("torch.lu_unpack", LU_pivots, LU_data._aval.shape[-2])
    return return_types.lu_unpack((_permutation(order, dtype) if unpack_pivots else none, L, U))


def linalg_lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """The X with A X = B, or X A = B if not `left`, from what `lu_factor` gave for A; with `adjoint` for A's conjugate transpose.

    LU (*, n, n), pivots (*, n), B (*, n, k), or (*, k, n) if not `left`; leading axes broadcast.

    >>> import adjoint as torch
    >>> LU, pivots = torch.linalg.lu_factor(torch.tensor([[1., 2.], [4., 2.]]))
    >>> torch.linalg.lu_solve(LU, pivots, torch.tensor([[3.], [6.]]))
    tensor([[1.],
            [1.]])
    """
    n = LU._aval.shape[-1] if LU._aval.shape else 0
    if min(len(LU._aval.shape), len(B._aval.shape)) < 2:
        raise RuntimeError(f"linalg.lu_solve: LU and B must have at least 2 dimensions, but have shapes {list(LU._aval.shape)} and {list(B._aval.shape)}")
    if LU._aval.shape[-2] != n:
        raise RuntimeError(f"torch.linalg.lu_solve: A must be batches of square matrices, but they are {LU._aval.shape[-2]} by {n} matrices")
    if LU._aval.dtype is not B._aval.dtype:
        raise RuntimeError(f"linalg.lu_solve: Expected LU and B to have the same dtype, but found LU of type {LU._aval.dtype.name} and B of type {B._aval.dtype.name} instead")
    if B._aval.shape[-2 if left else -1] != n:
        raise RuntimeError(f"linalg.lu_solve: Incompatible shapes of A and B for the equation {'AX' if left else 'XA'} = B ({list(LU._aval.shape)} and {list(B._aval.shape)})")
    if tuple(pivots._aval.shape) != tuple(LU._aval.shape[:-1]):
        raise RuntimeError(f"linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix, but got {list(pivots._aval.shape)} for {list(LU._aval.shape)}")
    order = _order("linalg.lu_solve", pivots, n)
    packed = conj(LU) if adjoint else LU
    if left:
        return _solved(packed, order, B, adjoint)
    return matrix_transpose(_solved(packed, order, matrix_transpose(B), not adjoint))


def _solved(packed: Tensor, order: Tensor, B: Tensor, turned: bool) -> Tensor:
    """A X = B, or A^T X = B if `turned`, with A[order] = L U."""
    if not turned:
        half = solve_triangular(packed, _reordered(B, order), upper=False, unitriangular=True)
        return solve_triangular(packed, half, upper=True)
    flipped = matrix_transpose(packed)
    half = solve_triangular(flipped, B, upper=False)
    out = solve_triangular(flipped, half, upper=True, unitriangular=True)
    return _reordered(out, record("argsort", (order,), (len(order._aval.shape) - 1, False)))


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """Row i of the result is row order[i]; leading axes broadcast."""
    *own, n, k = x._aval.shape
    shape = (*np.broadcast_shapes(tuple(own), tuple(order._aval.shape[:-1])), n, k)
    return gather(x.expand(shape), len(shape) - 2, order.unsqueeze(-1).expand(shape))


def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """`linalg.lu_solve` with its arguments in the old order.

    >>> import adjoint as torch
    >>> LU, pivots = torch.linalg.lu_factor(torch.tensor([[1., 2.], [4., 2.]]))
    >>> torch.lu_solve(torch.tensor([[3.], [6.]]), LU, pivots)
    tensor([[1.],
            [1.]])
    """
    return linalg_lu_solve(LU_data, LU_pivots, b)


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of H_1 H_2 ... H_k with the reflections H_i = I - tau_i v_i v_i^H (Golub and Van Loan, section 5.1.6).

    A (*, m, n), m >= n: v_i is column i below the diagonal, with a 1 on it and zeros above. tau (*, k), k <= n.

    >>> import adjoint as torch
    >>> torch.linalg.householder_product(torch.tensor([[0.], [1.]]), torch.tensor([1.]))
    tensor([[ 0.],
            [-1.]])
    """
    shape = A._aval.shape
    if len(shape) < 2:
        raise RuntimeError(f"torch.linalg.householder_product: input must have at least 2 dimensions, but has shape {list(shape)}")
    m, n = shape[-2:]
    if m < n:
        raise RuntimeError(f"torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1], but got {list(shape)}")
    if not tau._aval.shape or tau._aval.shape[-1] > n or len(tau._aval.shape) != len(shape) - 1:
        raise RuntimeError(f"torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1], but got {list(shape)} and {list(tau._aval.shape)}")
    if A._aval.dtype is not tau._aval.dtype:
        raise RuntimeError(f"torch.linalg.householder_product: tau dtype {dtypes.LEGACY[tau._aval.dtype]} does not match input dtype {dtypes.LEGACY[A._aval.dtype]}")
    columns = tril(A, -1) + eye(m, n, dtype=A._aval.dtype)
    out = eye(m, n, dtype=A._aval.dtype).expand(tuple(shape))
    for i in reversed(range(tau._aval.shape[-1])):
        v = columns[..., i : i + 1]
        out = out - tau[..., i, None, None] * matmul(v, matmul(conj(matrix_transpose(v)), out))
    return out


lu_solve, lu_unpack = public(lu_solve, "lu_solve"), public(lu_unpack, "lu_unpack")


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """`cholesky` that does not raise for a matrix which is not positive definite, but says so.

    info, int32, of the shape of the batch: 0, or the order of the first leading minor that is not positive definite; L is then the
    identity. `check_errors` raises RuntimeError all the same. The values of A are read.

    >>> import adjoint as torch
    >>> torch.linalg.cholesky_ex(torch.tensor([[1., 2.], [2., 1.]])).info
    tensor(2, dtype=torch.int32)
    """
    check_matrix("cholesky_ex", A)
    if check_errors:
        L = cholesky(A, upper=upper)
        return return_types.linalg_cholesky_ex((L, record("full", (0,), (A._aval.shape[:-2], dtypes.int32))))
    shape = A._aval.shape
    values = array_of(A.detach()).reshape(-1, *shape[-2:])
    orders = np.array([_indefinite_order(a) for a in values], np.int32).reshape(shape[:-2])
    info = tensor_from_array(orders)
    safe = where(info[..., None, None] > 0, eye(shape[-1], dtype=A._aval.dtype), A)
    return return_types.linalg_cholesky_ex((cholesky(safe, upper=upper), info))


def _indefinite_order(a: np.ndarray) -> int:
    """0 for a positive definite matrix, else the order of its first leading minor that is not."""
    if not _is_indefinite(a):
        return 0
    return 1 + bisect.bisect_left(range(1, len(a)), True, key=lambda n: _is_indefinite(a[:n, :n]))


def _is_indefinite(a: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return True
    return False


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """`solve` that does not raise for a singular matrix, but says so.

    info, int32, of the shape of A's batch: 0, or the place of the first zero on the diagonal of U in A = P L U, counted from 1; the
    result then has no meaning. `check_errors` raises RuntimeError all the same.

    >>> import adjoint as torch
    >>> torch.linalg.solve_ex(torch.tensor([[1., 2.], [2., 4.]]), torch.ones(2)).info
    tensor(2, dtype=torch.int32)
    """
    check_matrix("solve_ex", A)
    info = lu_factor_ex(A.detach(), check_errors=check_errors).info
    regular = where(info[..., None, None] > 0, eye(A._aval.shape[-1], dtype=A._aval.dtype), A)
    return return_types.linalg_solve_ex((solve(regular, B, left=left), info))


def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """`inv` that does not raise for a singular matrix, but says so.

    info, int32, of the shape of the batch: 0, or the place of the first zero on the diagonal of U in A = P L U, counted from 1; the
    inverse then has no meaning. `check_errors` raises RuntimeError all the same.

    >>> import adjoint as torch
    >>> torch.linalg.inv_ex(torch.tensor([[1., 2.], [2., 4.]])).info
    tensor(2, dtype=torch.int32)
    """
    check_matrix("inv_ex", A)
    info = lu_factor_ex(A.detach(), check_errors=check_errors).info
    return return_types.linalg_inv_ex((inv(where(info[..., None, None] > 0, eye(A._aval.shape[-1], dtype=A._aval.dtype), A)), info))
