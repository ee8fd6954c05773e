"""Matrix functions of complex numbers take adjoints where those of real ones take transposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.standard_normal(shape) + 1j * draw.standard_normal(shape)


def hermitian() -> np.ndarray:
    a = drawn(3, 3)
    return a @ a.conj().T + np.eye(3)


# What is computed, of which array, and what NumPy says of it.
CASES: dict[str, tuple[Callable[[Any], Any], np.ndarray, Callable[[np.ndarray], Any]]] = {
    "adjoint": (lambda x: x.adjoint(), drawn(2, 3, 4), lambda x: np.swapaxes(x.conj(), -1, -2)),
    "vdot": (lambda x: torch.vdot(x[0], x[1]), drawn(2, 3), lambda x: np.vdot(x[0], x[1])),
    "vecdot": (lambda x: torch.linalg.vecdot(x, x.flip(0)), drawn(2, 3), lambda x: (x.conj() * x[::-1]).sum(-1)),
    "pinv": (torch.linalg.pinv, drawn(4, 2), np.linalg.pinv),
    "pinv of a wide one": (torch.linalg.pinv, drawn(2, 4), np.linalg.pinv),
    "lstsq": (lambda x: torch.linalg.lstsq(x, x.sum(1, keepdim=True).conj()).solution, drawn(4, 2), lambda x: np.linalg.lstsq(x, x.sum(1, keepdims=True).conj())[0]),
    "lstsq, residuals": (
        lambda x: torch.linalg.lstsq(x, x.sum(1, keepdim=True).conj()).residuals, drawn(4, 2), lambda x: np.linalg.lstsq(x, x.sum(1, keepdims=True).conj())[1],
    ),
    "cholesky": (torch.linalg.cholesky, hermitian(), np.linalg.cholesky),
    "cholesky, upper": (lambda x: torch.linalg.cholesky(x, upper=True), hermitian(), lambda x: np.linalg.cholesky(x).conj().T),
    "cholesky_solve": (lambda x: torch.cholesky_solve(x[:, :1], torch.linalg.cholesky(x)), hermitian(), lambda x: np.eye(3)[:, :1]),
    "eigvalsh, upper": (lambda x: torch.linalg.eigvalsh(x.triu(), UPLO="U"), hermitian(), np.linalg.eigvalsh),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_numpy(name: str) -> None:
    function, x, reference = CASES[name]
    for _ in range(2):
        out = function(torch.tensor(x)).numpy()
        expected = np.asarray(reference(x))
        assert out.dtype == expected.dtype or name == "cholesky_solve"
        np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["vdot", "vecdot", "adjoint"])
def test_derivatives_of_adjoints(name: str) -> None:
    """Of |f|^2 by the conjugate of x: for f = <u, x> with a constant u, and for f = <x, u>, both f times u or its conjugate."""
    function, array, _ = CASES[name]
    x = torch.tensor(array).requires_grad_()
    assert torch.autograd.gradcheck(function, (x,))


def test_eigenvectors_of_any_matrix() -> None:
    """Derivatives of what does not depend on phases, of both orders, of real and complex matrices."""

    def parts(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        w, v = torch.linalg.eig(x)
        again = (v * w.unsqueeze(-2).square()) @ torch.linalg.inv(v)
        return torch.view_as_real(w), v.abs(), torch.view_as_real(again), torch.linalg.eigvals(x).abs()

    for array in (drawn(3, 3), drawn(2, 2, 2), drawn(3, 3).real):
        x = torch.tensor(array).requires_grad_()
        assert torch.autograd.gradcheck(parts, (x,), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(parts, (x,))
        w, v = torch.linalg.eig(x)
        assert w.dtype is v.dtype is torch.complex128
        np.testing.assert_allclose((x.to(v.dtype) @ v).detach().numpy(), (v * w.unsqueeze(-2)).detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose((v.abs() ** 2).sum(-2).detach().numpy(), 1, rtol=1e-12)


def test_gradients_of_eigenvectors_are_those_of_pytorch() -> None:
    theirs = pytest.importorskip("torch")
    for array in (drawn(3, 3), drawn(3, 3).real):
        slopes = []
        for library in (torch, theirs):
            x = library.tensor(array, requires_grad=True)
            w, v = library.linalg.eig(x)
            weighted = v.abs() ** 2 * library.arange(3.0).reshape(-1, 1) * w.real.unsqueeze(-2)
            ((w.abs() ** 3).sum() + (w.real * w.imag**2).sum() + weighted.sum()).backward()
            slopes.append(x.grad.numpy())
        np.testing.assert_allclose(*slopes, rtol=1e-9, atol=1e-11)


def test_eigenvalues_of_real_matrices_come_in_pairs() -> None:
    w = torch.linalg.eigvals(torch.tensor([[1.0, 2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 5.0]]))
    assert w.dtype is torch.complex64
    assert sorted(w.tolist(), key=lambda z: z.imag) == pytest.approx([1 - 2j, 5, 1 + 2j])
    assert torch.linalg.eigvals(torch.eye(2).double()).dtype is torch.complex128
    assert [t.shape for t in torch.linalg.eig(torch.zeros(2, 0, 0))] == [(2, 0), (2, 0, 0)]
    for wrong in (np.nan, np.inf):
        with pytest.raises(RuntimeError, match="infs or NaNs"):
            torch.linalg.eigvals(torch.full((2, 2), wrong)).tolist()
    with pytest.raises(NotImplementedError, match="eig"):
        torch.linalg.eig(torch.eye(2).half())
