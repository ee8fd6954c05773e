"""The largest singular values from products with random vectors: near NumPy's, with their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch


def falling(rng: np.random.Generator, m: int, n: int, batch: tuple[int, ...] = (), by: float = 0.3) -> np.ndarray:
    """A matrix whose singular values are 1, by, by**2, ..."""
    k = min(m, n)
    u, v = (np.linalg.qr(rng.standard_normal((*batch, size, k)))[0] for size in (m, n))
    return u * by ** np.arange(k) @ np.swapaxes(v, -1, -2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (6, 6), (40, 3)], ids=str)
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_the_largest(shape: tuple[int, int], batch: tuple[int, ...], dtype: Any) -> None:
    torch.manual_seed(0)
    a = falling(np.random.default_rng(0), *shape, batch).astype(dtype)
    U, S, V = torch.svd_lowrank(torch.tensor(a), q=3)
    near = 1e-5 if dtype is np.float32 else 1e-12
    assert U.shape == (*batch, shape[0], 3) and S.shape == (*batch, 3) and V.shape == (*batch, shape[1], 3)
    np.testing.assert_allclose(S.numpy()[..., :2], np.linalg.svd(a)[1][..., :2], rtol=1e-3)
    for Q in (U, V):
        np.testing.assert_allclose((Q.mT @ Q).numpy(), np.broadcast_to(np.eye(3), (*batch, 3, 3)), atol=near)
    least = np.linalg.norm(a - (U * S[..., None, :] @ V.mT).numpy())
    assert least < 1.2 * np.sqrt((np.linalg.svd(a)[1][..., 3:] ** 2).sum()) + 10 * near


def test_all_of_them_are_exact() -> None:
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    a, m = rng.standard_normal((6, 4)), rng.standard_normal((1, 4))
    for q in (4, 6, 9):
        U, S, V = torch.svd_lowrank(torch.tensor(a), q=q, niter=0, M=torch.tensor(m))
        assert S.shape == (4,)
        np.testing.assert_allclose((U * S @ V.T).numpy(), a - m, atol=1e-12)
    z = torch.tensor(rng.standard_normal((3, 5)) + 1j * rng.standard_normal((3, 5)))
    U, S, V = torch.svd_lowrank(z)
    np.testing.assert_allclose((U * S @ V.mH).numpy(), z.numpy(), atol=1e-12)


def test_components() -> None:
    torch.manual_seed(2)
    a = falling(np.random.default_rng(2), 30, 8, by=0.2) + 5
    centred = a - a.mean(0)
    _, S, V = torch.pca_lowrank(torch.tensor(a), q=4)
    values, vectors = np.linalg.eigh(np.cov(a.T))
    np.testing.assert_allclose((S**2 / 29).numpy()[:3], values[::-1][:3], rtol=1e-6)
    np.testing.assert_allclose(np.abs(V.numpy()[:, :2].T @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-4)
    np.testing.assert_allclose((torch.tensor(centred) @ V).norm(dim=0)[:3].numpy(), S.numpy()[:3], rtol=1e-6)
    whole = torch.pca_lowrank(torch.tensor(a), center=False)
    assert whole[1].shape == (6,)
    np.testing.assert_allclose(whole[1].numpy()[0], np.linalg.svd(a)[1][0], rtol=1e-9)


@pytest.mark.parametrize("shape", [(5, 4), (4, 5)], ids=str)
def test_derivatives(shape: tuple[int, int]) -> None:
    """Of the sum of all singular values, which no random number changes: U V^T."""
    a = torch.tensor(falling(np.random.default_rng(3), *shape, by=0.6), requires_grad=True)
    torch.svd_lowrank(a, q=4)[1].sum().backward()
    u, _, vh = np.linalg.svd(a.detach().numpy(), full_matrices=False)
    np.testing.assert_allclose(a.grad.numpy(), u @ vh, atol=1e-9)


def test_mistakes() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"q\(=5\) must be non-negative integer and not greater than min\(m, n\)=2"):
        torch.pca_lowrank(x, q=5)
    with pytest.raises(ValueError, match=r"niter\(=-1\)"):
        torch.pca_lowrank(x, niter=-1)
    with pytest.raises(ValueError, match=r"q\(=-1\)"):
        torch.svd_lowrank(x, q=-1)
    with pytest.raises(RuntimeError, match="svd_lowrank"):
        torch.svd_lowrank(torch.ones(3))
    with pytest.raises(RuntimeError, match="svd_lowrank"):
        torch.svd_lowrank(torch.ones(3, 2, dtype=torch.int64))
