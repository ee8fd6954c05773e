"""Products of bfloat16 by the instruction for pairs, against NumPy in float64: at every edge, in every layout."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.codegen import gemm_pairs
from adjoint.codegen.gemm_pairs import pair_kernels
from adjoint.codegen.gemm_words import Operand
from adjoint.runtime import jit, pool

needs_pairs = pytest.mark.skipif(not jit.available() or not jit.target().pairs, reason="no instruction for pairs here")
EPS = 2.0**-23
SIZES = [(8, 32, 32), (16, 16, 1), (1, 1, 40), (5, 3, 7), (33, 47, 70), (31, 200, 96), (100, 130, 65), (70, 150, 300)]


def halves(rng: np.random.Generator, shape: tuple[int, ...], layout: str) -> tuple[np.ndarray, np.ndarray]:
    """The bits of bfloat16 numbers that lie in memory as `layout` says, and their values."""
    bits = (rng.standard_normal(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if layout == "columns":
        bits = np.ascontiguousarray(bits.swapaxes(1, 2)).swapaxes(1, 2)
    elif layout == "one for all":
        bits = np.broadcast_to(bits[:1], shape)
    elif layout == "padded":
        bits = np.pad(bits, ((0, 0), (0, 1), (3, 2)))[:, :-1, 3:-2]
    return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By generated code, which must write all of C and nothing beside it."""
    (batch, m, k), n = a.shape, b.shape[2]
    operands = [Operand(i, *(s // x.itemsize for s in x.strides)) for i, x in enumerate((a, b))]
    phases, scratch_bytes = pair_kernels("g", batch, m, n, k, *operands)
    whole = np.full(batch * m * n + 128, 77, np.float32)
    scratch = np.full(scratch_bytes + 128, 55, np.uint8)
    whole[64:-64] = np.nan
    addresses = np.array([x.__array_interface__["data"][0] for x in (a, b, whole[64:], scratch[64:])])
    kernels = jit.compile_kernels([(p.name, p.text, list(p.declarations)) for p in phases])
    table = pool.RecordTable([(f, np.arange(4, dtype=np.int32), p.nblocks, True) for f, p in zip(kernels, phases, strict=True)])
    pool.run(table.address, table.count, addresses.ctypes.data, 0)
    assert (whole[:64] == 77).all() and (whole[-64:] == 77).all()
    assert (scratch[:64] == 55).all() and (scratch[-64:] == 55).all()
    return whole[64:-64].reshape(batch, m, n)


def error(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """The largest, in rounding errors of the sum of sizes."""
    return float((np.abs(got - a @ b) / (np.abs(a) @ np.abs(b) * EPS)).max())


@pytest.mark.any_mode
@needs_pairs
@pytest.mark.parametrize("b_layout", ["rows", "columns", "one for all", "padded"])
@pytest.mark.parametrize("a_layout", ["rows", "columns", "one for all", "padded"])
def test_products(a_layout: str, b_layout: str) -> None:
    rng = np.random.default_rng(0)
    for i, (m, n, k) in enumerate(SIZES):
        batch = 1 + i % 3
        (a, wide_a), (b, wide_b) = halves(rng, (batch, m, k), a_layout), halves(rng, (batch, k, n), b_layout)
        assert error(product(a, b), wide_a, wide_b) < 4


@pytest.mark.any_mode
@needs_pairs
def test_long_sums_continue_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several phases, each of which adds to C, also where rows and columns end; and many strips of A in one block, and few."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(gemm_pairs, "_LONGEST", 192)
    for share in (1, 1 << 19):
        monkeypatch.setattr(gemm_pairs, "_L2_SHARE", share)
        for m, n, k in ((32, 64, 500), (41, 70, 400)):
            (a, wide_a), (b, wide_b) = halves(rng, (2, m, k), "rows"), halves(rng, (2, k, n), "columns")
            assert error(product(a, b), wide_a, wide_b) < 8


@pytest.mark.any_mode
@needs_pairs
def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    rng = np.random.default_rng(0)
    (a, wide_a), (b, wide_b) = halves(rng, (1, 20, 50), "rows"), halves(rng, (1, 50, 40), "rows")
    a[0, 3, 7], b[0, 5, 9] = 0x7F80, 0x7FC0  # infinity, NaN
    got, wanted = product(a, b), wide_a @ wide_b
    plain = np.ones(wanted.shape, bool)
    plain[0, 3], plain[0, :, 9] = False, False
    assert np.abs(got - wanted)[plain].max() < 1e-4
    assert not np.isfinite(got[~plain]).any()
    infinite = np.delete(got[0, 3], 9)
    np.testing.assert_array_equal(infinite, np.where(np.delete(wide_b[0, 7], 9) > 0, np.inf, -np.inf))


@needs_pairs
def test_products_of_halves_are_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that is rounded to bfloat16 runs as one of pairs; a float32 product never does."""
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend(k[1] for k in kernels) or plain(kernels))
    if jit.target().tiles:
        pytest.skip("tiles are taken where there are any")
    torch.manual_seed(0)
    a, b = torch.randn(61, 77), torch.randn(77, 93)
    wide = (a @ b).numpy()
    if not torch.is_eager():
        assert not any("dpbf16ps" in text for text in texts)
    got = (a.to(torch.bfloat16) @ b.to(torch.bfloat16)).float().numpy()
    assert np.abs(got - wide).max() < 77**0.5 * 2.0**-6
    if not torch.is_eager():
        assert any("dpbf16ps" in text for text in texts)
