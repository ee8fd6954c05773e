"""LU factors where the records do not look: large, singular, complex, empty; solving from the right; reflections of QR."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch


@pytest.mark.parametrize("shape", [(70, 70), (80, 40), (40, 80)])
def test_factors_of_more_than_one_panel(shape: tuple[int, int]) -> None:
    a = torch.tensor(np.random.default_rng(0).normal(size=shape))
    P, L, U = torch.linalg.lu(a)
    assert abs(P @ L @ U - a).max().item() < 1e-13
    assert L.abs().max().item() == 1  # every pivot is the largest of its column


def test_singular_matrices() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 1.0, 1.0]])
    assert torch.linalg.lu_factor_ex(a).info.item() == 3
    P, L, U = torch.linalg.lu(a)
    assert (P @ L @ U).tolist() == a.tolist()
    with pytest.raises(RuntimeError, match=r"U\[3,3\] is zero"):
        torch.linalg.lu_factor(a).LU.tolist()


def test_integers_among_the_results_need_no_gradient() -> None:
    found = torch.linalg.lu_factor_ex(torch.eye(2, requires_grad=True))
    assert [t.requires_grad for t in found] == [True, False, False]
    assert [t.dtype for t in found] == [torch.float32, torch.int32, torch.int32]


def test_no_columns() -> None:
    P, L, U = torch.linalg.lu(torch.ones(3, 0))
    assert P.tolist() == torch.eye(3).tolist() and L.shape == (3, 0) and U.shape == (0, 0)


def test_solving_by_complex_factors() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 3, 3)) + 1j * rng.normal(size=(2, 3, 3))
    b = torch.tensor(rng.normal(size=(3, 3)) + 0j)
    LU, pivots = torch.linalg.lu_factor(torch.tensor(a))
    for left in (True, False):
        for adjoint in (True, False):
            x = torch.linalg.lu_solve(LU, pivots, b, left=left, adjoint=adjoint)
            m = torch.tensor(np.conj(a.swapaxes(1, 2)) if adjoint else a)
            assert abs((m @ x if left else x @ m) - b).max().item() < 1e-12


def test_reflections_are_orthogonal() -> None:
    v = torch.tensor([[1.0, 0.0], [0.5, 1.0], [0.25, -2.0]], dtype=torch.float64)
    tau = torch.tensor([2 / (1 + 0.25 + 0.0625), 2 / 5], dtype=torch.float64)
    Q = torch.linalg.householder_product(v, tau)
    assert torch.allclose(Q.T @ Q, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_factors_that_say_what_failed(library: str) -> None:
    t = pytest.importorskip(library)
    a = t.tensor([[[4.0, 2, 0], [2, 5, 0], [0, 0, 1]], [[1, 2, 0], [2, 1, 0], [0, 0, 1]], [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, -1]]])
    L, info = t.linalg.cholesky_ex(a)
    assert info.tolist() == [0, 2, 1, 3] and info.dtype is t.int32
    assert t.allclose(L[0], t.linalg.cholesky(a[0]))
    with pytest.raises(RuntimeError):
        t.linalg.cholesky_ex(a, check_errors=True).L.tolist()
    x = t.stack([a[0], t.ones(3, 3)]).requires_grad_()
    inverse, info = t.linalg.inv_ex(x)
    assert info[0] == 0 and info[1] > 0 and t.allclose(inverse[0] @ x[0], t.eye(3), atol=1e-6)
    with pytest.raises(RuntimeError):
        t.linalg.inv_ex(x, check_errors=True).inverse.tolist()


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_svd_and_qr_by_their_old_names(library: str) -> None:
    """`torch.svd` gives V, `linalg.svd` its adjoint, and all vectors unless told otherwise."""
    t = pytest.importorskip(library)
    a = t.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    U, S, V = t.svd(a)
    assert t.allclose(U @ t.diag(S) @ V.T, a, atol=1e-5) and t.allclose(a.T.svd().V @ t.diag(S) @ a.T.svd().U.T, a, atol=1e-5)
    shapes = [f.shape for f in (*t.svd(a, some=False), *t.linalg.svd(a), *t.linalg.svd(a.T), *t.linalg.svd(a, full_matrices=False), *t.qr(a, some=False))]
    assert shapes == [(3, 3), (2,), (2, 2), (3, 3), (2,), (2, 2), (2, 2), (2,), (3, 3), (3, 2), (2,), (2, 2), (3, 3), (3, 2)]
    assert not t.svd(a, compute_uv=False).U.any()
    assert t.linalg.pinv(a, rtol=0.5).shape == (2, 3) and t.linalg.matrix_rank(t.linalg.pinv(a, atol=1.0)) == 1


def test_solve_ex_says_what_is_singular() -> None:
    A = torch.stack([torch.eye(2), torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.zeros(2, 2)])
    result, info = torch.linalg.solve_ex(A, torch.ones(3, 2, 1))
    assert info.tolist() == [0, 2, 1] and result[0].flatten().tolist() == [1, 1]
    assert torch.linalg.solve_ex(torch.eye(2) * 2, torch.eye(2), left=False).result.tolist() == [[0.5, 0], [0, 0.5]]
    with pytest.raises(RuntimeError, match="zero"):
        torch.linalg.solve_ex(A[1], torch.ones(2), check_errors=True).result.tolist()
