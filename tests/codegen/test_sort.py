"""Kernels of orders against NumPy's stable sort: dtypes, lengths, ranks, ties, NaN, threads, memory around operands."""

from __future__ import annotations

import numpy as np
import pytest

from adjoint.codegen.sort import BLOCK, FEW_ROWS, SHORT, Order, order_kernels
from adjoint.codegen.sort_words import sample_of
from adjoint.ir.reference import REFERENCE
from adjoint.runtime import jit, memory, pool

pytestmark = [pytest.mark.skipif(not jit.available(), reason="needs llvmlite"), pytest.mark.any_mode]

DTYPES = ("float32", "float64", "bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
SHAPES = {
    "two": (3, 2),
    "short": (7, 33),
    "the longest short": (5, SHORT),
    "the shortest radix": (4, SHORT + 1),
    "rows": (40, 1000),
    "sampled rows": (FEW_ROWS, 9001),
    "blocks": (1, 2 * BLOCK + 4465),
    "rows of blocks": (2, 3 * BLOCK + 1),
}


def draw(dtype: str, shape: tuple[int, int], kind: str, seed: int = 0) -> np.ndarray:
    """kind: any numbers, few different ones, or one."""
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.random(shape) < 0.5 if kind != "one" else np.ones(shape, bool)
    numbers = np.dtype(dtype)
    if kind == "one":
        return np.full(shape, 3, numbers)
    if numbers.kind in "iu":
        limits = np.iinfo(numbers)
        low, high = (0, 5) if kind == "few" else (int(limits.min), int(limits.max))
        return rng.integers(low, high, shape, numbers, endpoint=True)
    x = rng.standard_normal(shape).astype(numbers)
    if kind == "few":
        x = np.round(x)
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(numbers).smallest_subnormal], numbers)
    at = rng.random(shape) < 0.2
    x[at] = rng.choice(odd, int(at.sum()))
    return x


def ordered(x: np.ndarray, descending: bool, start: int, stop: int, vector_bytes: int | None = None) -> np.ndarray:
    """By generated code; memory around the result and the scratch is checked for writes."""
    rows, n = x.shape
    order = Order(x.dtype.name, rows, n, descending, start, stop)
    made = order_kernels("sort", order, vector_bytes=vector_bytes or jit.target().vector_bytes)
    guard, size = 64, rows * (stop - start)
    out = np.full(size + 2 * guard, -7, np.int64)
    scratch = memory.allocate(made.scratch_bytes + 2 * guard).mem[: made.scratch_bytes + 2 * guard]
    scratch[:] = 55
    addresses = [a.__array_interface__["data"][0] for a in (x, out[guard:], scratch[guard:])]
    buffers, index = np.array(addresses), np.arange(3, dtype=np.int32)
    codes = jit.compile_kernels([(p.name, p.text, list(p.declarations)) for p in made.phases])
    table = pool.RecordTable([(c, index, p.nblocks, True) for c, p in zip(codes, made.phases, strict=True)])
    pool.run(table.address, table.count, buffers.ctypes.data, 0)
    assert (out[:guard] == -7).all() and (out[guard + size :] == -7).all()
    assert (scratch[:guard] == 55).all() and (scratch[guard + made.scratch_bytes :] == 55).all()
    return out[guard : guard + size].reshape(rows, stop - start)


def check(x: np.ndarray, descending: bool, start: int, stop: int, **options: int) -> None:
    expected = REFERENCE["argselect"]([x], (1, descending, start, stop))
    assert np.array_equal(ordered(x, descending, start, stop, **options), expected), (x.dtype, x.shape, descending, start, stop)


@pytest.mark.parametrize("kind", ["any", "few", "one"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, kind: str) -> None:
    for name in ("short", "rows", "blocks"):
        x = draw(dtype, SHAPES[name], kind)
        check(x, kind == "few", 0, x.shape[1])


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("name", SHAPES)
def test_ranks(name: str, dtype: str) -> None:
    for kind in ("any", "few"):
        x = draw(dtype, SHAPES[name], kind)
        n = x.shape[1]
        for descending in (False, True):
            for start, stop in {(0, n), (0, 1), (0, min(9, n)), (n // 2, n // 2 + 1), (n - 1, n), (n // 3, n // 3 + max(1, n // 9))}:
                check(x, descending, start, stop)


def test_a_sample_that_misleads() -> None:
    """All sampled elements are small and the others large: thresholds are wrong, and noticed."""
    for shape in (SHAPES["sampled rows"], SHAPES["blocks"]):
        rows, n = shape
        sample = sample_of(Order("float32", rows, n, False, n // 2, n // 2 + 5))
        assert sample is not None
        x = np.random.default_rng(1).random(shape).astype(np.float32) + 1
        i = np.arange(sample.size)
        x[:, i * sample.step + i * 2654435761 % sample.step] -= 5
        check(x, False, n // 2, n // 2 + 5)
        check(x, True, 0, 3)


def test_the_ways_are_taken() -> None:
    phases = {name: len(order_kernels("sort", Order("float32", *shape, False, 0, 1)).phases) for name, shape in SHAPES.items()}
    assert phases["short"] == phases["rows"] == phases["sampled rows"] == 1 < phases["blocks"]
    assert sample_of(Order("float32", *SHAPES["rows"], False, 0, 1)) is None
    assert sample_of(Order("float32", *SHAPES["sampled rows"], False, 0, 1)) is not None
    assert sample_of(Order("float32", *SHAPES["blocks"], False, 0, BLOCK)) is None


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_widths_of_vectors(dtype: str, vector_bytes: int) -> None:
    for name in ("short", "rows", "rows of blocks"):
        x = draw(dtype, SHAPES[name], "any")
        check(x, False, 0, x.shape[1], vector_bytes=vector_bytes)
        check(x, True, 1, 2, vector_bytes=vector_bytes)


def test_any_number_of_threads() -> None:
    before = pool.get_num_threads()
    try:
        for threads in (1, 2, 3):
            pool.set_num_threads(threads)
            for name in ("rows", "sampled rows", "rows of blocks"):
                x = draw("float32", SHAPES[name], "few")
                check(x, True, 0, x.shape[1])
                check(x, False, 5, 6)
    finally:
        pool.set_num_threads(before)
