"""Matrix products against NumPy in float64: shapes, layouts, dtypes, threads."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest

from adjoint.codegen.gemm import choose_tile, gemm_kernel
from adjoint.codegen.gemm_strips import strips_kernel
from adjoint.runtime import jit, memory, pool

pytestmark = [pytest.mark.skipif(not jit.available(), reason="needs llvmlite"), pytest.mark.any_mode]

DTYPES = ("float32", "float64", "int32", "int64")


def values(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> np.ndarray:
    if dtype.startswith("float"):
        return rng.standard_normal(shape).astype(dtype)
    # The whole range, so that products wrap around.
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


# A matrix of the given size as it may lie in memory.
LAYOUTS = {
    "contiguous": lambda make, b, r, c: make((b, r, c)),
    "transposed": lambda make, b, r, c: make((b, c, r)).transpose(0, 2, 1),
    "one for all": lambda make, b, r, c: np.broadcast_to(make((1, r, c)), (b, r, c)),
    "one transposed": lambda make, b, r, c: np.broadcast_to(make((c, r)).T, (b, r, c)),
    "padded rows": lambda make, b, r, c: make((b, r, c + 5))[:, :, 2 : c + 2],
    "every other": lambda make, b, r, c: make((b, 2 * r, 3 * c))[:, ::2, ::3],
    "reversed": lambda make, b, r, c: make((b, r, c))[:, ::-1, ::-1],
    "one value": lambda make, b, r, c: np.broadcast_to(make((b, 1, 1)), (b, r, c)),
    "one row": lambda make, b, r, c: np.broadcast_to(make((b, 1, c)), (b, r, c)),
}


def strides(array: np.ndarray) -> tuple[int, int, int]:
    return tuple(s // array.itemsize for s in array.strides)


def product(a: np.ndarray, b: np.ndarray, **options) -> np.ndarray:
    """a @ b by generated code; memory around the result and the scratch is checked for writes."""
    batch, m, k = a.shape
    n = b.shape[2]
    options.setdefault("vector_bytes", jit.target().vector_bytes)
    gemm = gemm_kernel("g", a.dtype.name, batch, m, n, k, strides(a), strides(b), **options)
    size = batch * m * n
    guard = 64
    whole = np.full(size + 2 * guard, 77, a.dtype)
    out = whole[guard : guard + size]
    scratch = np.full(gemm.scratch_bytes + 2 * guard, 55, np.uint8)
    addresses = [x.__array_interface__["data"][0] for x in (a, b, out, scratch[guard:])]
    buffers = np.array(addresses)
    kernels = jit.compile_kernels([(p.name, p.text, p.declarations) for p in gemm.phases])
    index = np.arange(4, dtype=np.int32)
    table = pool.RecordTable(
        [(f, index, p.nblocks, True) for f, p in zip(kernels, gemm.phases, strict=True)]
    )
    pool.run(table.address, table.count, buffers.ctypes.data, 0)
    assert (whole[:guard] == 77).all() and (whole[guard + size :] == 77).all()
    assert (scratch[:guard] == 55).all() and (scratch[-guard:] == 55).all()
    return out.reshape(batch, m, n)


def check(a: np.ndarray, b: np.ndarray, **options) -> np.ndarray:
    got = product(a, b, **options)
    if a.dtype.kind == "i":
        with np.errstate(over="ignore"):
            assert np.array_equal(got, a @ b)
        return got
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    # Each of the k products and sums may be off by half a unit in the last place.
    bound = (np.abs(wide_a) @ np.abs(wide_b)) * np.finfo(a.dtype).eps * (a.shape[2] + 2)
    assert (np.abs(got - wide_a @ wide_b) <= bound).all()
    return got


def operands(
    dtype: str, batch: int, m: int, n: int, k: int, a_layout: str, b_layout: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)

    def make(shape: tuple[int, ...]) -> np.ndarray:
        return values(shape, dtype, rng)

    return LAYOUTS[a_layout](make, batch, m, k), LAYOUTS[b_layout](make, batch, k, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("b_layout", LAYOUTS)
def test_layouts(dtype: str, b_layout: str) -> None:
    for i, a_layout in enumerate(LAYOUTS):
        m, n, k = [(7, 37, 19), (33, 17, 5), (13, 40, 64)][i % 3]
        check(*operands(dtype, 1 + i % 3, m, n, k, a_layout, b_layout, seed=i))


@pytest.mark.parametrize("b_layout", ("contiguous", "transposed"))
@pytest.mark.parametrize(("m", "n", "k"), [(20, 24, 28), (3, 40, 300), (1, 9, 30), (40, 1, 30), (40, 300, 800)])
def test_a_batch_of_several_axes_and_operands_behind_the_beginning(m: int, n: int, k: int, b_layout: str) -> None:
    """Heads side by side in memory: the matrices of a batch do not follow each other at one distance."""
    rng = np.random.default_rng(0)
    a = values((2, m, 3, k), "float32", rng).transpose(0, 2, 1, 3)
    b = values((2, k, 3, n), "float32", rng).transpose(0, 2, 1, 3)
    if b_layout == "transposed":
        b = values((2, n, 3, k), "float32", rng).transpose(0, 2, 3, 1)
    wanted = check(*(np.ascontiguousarray(x).reshape(6, *x.shape[2:]) for x in (a, b)))

    def layout(x: np.ndarray) -> tuple:
        outer, inner, row, column = (s // x.itemsize for s in x.strides)
        return ((2, outer), (3, inner)), row, column

    before = [np.concatenate([np.zeros(ahead, np.float32), x.ravel("K")]) for ahead, x in ((7, a), (5, b))]
    gemm = gemm_kernel(
        "g", "float32", 6, m, n, k, layout(a), layout(b), offsets=(7, 5), vector_bytes=jit.target().vector_bytes
    )
    out, scratch = np.empty((6, m, n), np.float32), np.empty(gemm.scratch_bytes + 1, np.uint8)
    buffers = np.array([x.__array_interface__["data"][0] for x in (*before, out, scratch)])
    kernels = jit.compile_kernels([(p.name, p.text, p.declarations) for p in gemm.phases])
    index = np.arange(4, dtype=np.int32)
    table = pool.RecordTable([(f, index, p.nblocks, True) for f, p in zip(kernels, gemm.phases, strict=True)])
    pool.run(table.address, table.count, buffers.ctypes.data, 0)
    assert np.allclose(out, wanted, rtol=1e-5, atol=1e-4)


SIZES = (1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 47, 64, 97)


@pytest.mark.parametrize("seed", range(40))
def test_random_problems(seed: int) -> None:
    r = random.Random(seed)
    dtype = r.choice(DTYPES)
    m, n, k = (r.choice(SIZES) for _ in range(3))
    layouts = r.choice(list(LAYOUTS)), r.choice(list(LAYOUTS))
    check(*operands(dtype, r.choice((1, 1, 2, 5)), m, n, k, *layouts, seed=seed))


@pytest.mark.parametrize(
    ("dtype", "batch", "m", "n", "k", "a_layout", "b_layout"),
    [
        # k longer than one block of k: partial sums go through C, also where tiles overlap.
        ("float32", 1, 31, 65, 1500, "contiguous", "contiguous"),
        ("float32", 2, 14, 33, 2100, "transposed", "transposed"),
        ("int32", 1, 17, 100, 1030, "contiguous", "every other"),
        ("float64", 1, 29, 19, 1025, "contiguous", "contiguous"),
        # One row, few rows: short blocks of k, dot products.
        ("float32", 1, 1, 1500, 70, "contiguous", "contiguous"),
        ("int64", 2, 3, 1031, 40, "contiguous", "contiguous"),
        ("float32", 1, 1, 301, 333, "contiguous", "transposed"),
        ("float64", 3, 5, 67, 129, "contiguous", "transposed"),
        ("float32", 2, 8, 9, 210, "contiguous", "transposed"),
        ("float32", 1, 513, 1, 65, "contiguous", "contiguous"),
        ("float32", 1, 513, 1, 65, "transposed", "contiguous"),
        # Many small ones.
        ("float32", 300, 4, 4, 4, "contiguous", "contiguous"),
        ("float64", 64, 1, 5, 9, "contiguous", "one for all"),
    ],
)
def test_methods(dtype: str, batch: int, m: int, n: int, k: int, a_layout: str, b_layout: str):
    check(*operands(dtype, batch, m, n, k, a_layout, b_layout))


@pytest.mark.parametrize(
    ("dtype", "batch", "m", "n", "k", "a_layout"),
    [
        ("float32", 1, 12, 37, 208, "contiguous"),
        ("float32", 2, 30, 21, 323, "contiguous"),  # rows that begin anywhere in a line
        ("float32", 1, 32, 30, 512, "contiguous"),
        ("float32", 1, 9, 3, 4100, "padded rows"),  # columns too long for the first-level cache
        ("float64", 1, 19, 41, 136, "contiguous"),
        ("int32", 3, 10, 12, 160, "contiguous"),
        ("int64", 1, 11, 9, 133, "contiguous"),
    ],
)
def test_dot_products(dtype: str, batch: int, m: int, n: int, k: int, a_layout: str) -> None:
    """A few rows of A with columns of B that are contiguous: nothing is copied, and lanes are added up."""
    a, b = operands(dtype, batch, m, n, k, a_layout, "transposed")
    for width in (64, 32, 16):
        gemm = gemm_kernel("g", dtype, batch, m, n, k, strides(a), strides(b), vector_bytes=width)
        assert len(gemm.phases) == 1 and gemm.scratch_bytes == 0
        check(a, b, vector_bytes=width)


@pytest.mark.parametrize(
    ("dtype", "batch", "m", "n", "k", "a_layout", "b_layout"),
    [
        # B in place, several blocks of k, tiles that were moved back.
        ("float32", 1, 130, 401, 300, "contiguous", "contiguous"),
        ("float32", 2, 67, 303, 1100, "contiguous", "padded rows"),
        ("int32", 1, 61, 151, 1030, "contiguous", "contiguous"),
        # Panels of B copied: its rows collide, there are many rows of A, it lies by columns or anyhow.
        ("float32", 2, 64, 256, 400, "contiguous", "contiguous"),
        ("float64", 1, 1031, 139, 290, "contiguous", "contiguous"),
        ("float32", 1, 70, 131, 1030, "contiguous", "transposed"),
        ("float64", 1, 70, 131, 2049, "contiguous", "transposed"),
        ("float32", 1, 140, 150, 1041, "contiguous", "every other"),
        ("float32", 1, 300, 256, 300, "reversed", "reversed"),
        ("int64", 3, 45, 140, 700, "contiguous", "transposed"),
        # A in place by columns, and copied by rows.
        ("float32", 2, 80, 280, 270, "transposed", "contiguous"),
        ("float32", 1, 601, 145, 507, "transposed", "transposed"),
        ("float64", 2, 512, 130, 300, "transposed", "contiguous"),
        ("float64", 2, 523, 131, 299, "one transposed", "one for all"),
    ],
)
def test_strips(dtype: str, batch: int, m: int, n: int, k: int, a_layout: str, b_layout: str, monkeypatch):
    written = []

    def write(*arguments, **options):
        written.append(arguments)
        return strips_kernel(*arguments, **options)

    monkeypatch.setattr("adjoint.codegen.gemm.strips_kernel", write)
    a, b = operands(dtype, batch, m, n, k, a_layout, b_layout)
    widths = (64, jit.target().vector_bytes, 16)
    for width in widths:
        check(a, b, vector_bytes=width)
    assert len(written) == len(widths)


@pytest.mark.parametrize(
    ("dtype", "batch", "m", "n", "k", "copied"),
    [
        ("float32", 1, 301, 129, 521, False),
        ("float32", 2, 201, 65, 1041, False),  # several blocks of k
        ("float64", 1, 205, 67, 400, False),
        ("int32", 1, 165, 131, 520, False),
        ("float32", 2, 256, 129, 300, True),  # lines a power of two apart
        ("float64", 1, 1024, 67, 130, True),
    ],
)
def test_columns_of_a_for_few_columns_of_b(
    dtype: str, batch: int, m: int, n: int, k: int, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A is read in place, tiles asking for what later ones read, or copied by rows where its lines collide."""
    monkeypatch.setattr("adjoint.codegen.gemm.l2_bytes", lambda: 1 << 18)
    a, b = operands(dtype, batch, m, n, k, "transposed", "contiguous")
    for width in (64, 16):
        names = [p.name for p in gemm_kernel("g", dtype, batch, m, n, k, strides(a), strides(b), vector_bytes=width).phases]
        assert ("g_rows" in names) == copied, names
        check(a, b, vector_bytes=width)


@pytest.mark.parametrize(
    ("m", "n", "k", "b_layout"),
    [
        (64, 256, 400, "contiguous"), (45, 256, 2049, "contiguous"), (140, 256, 400, "transposed"), (70, 131, 1030, "transposed"),
        (45, 300, 2049, "transposed"), (70, 131, 1030, "every other"), (45, 300, 2049, "every other"),
    ],
)  # fmt: skip
def test_a_panel_stays_in_a_workers_memory(m: int, n: int, k: int, b_layout: str) -> None:
    """Blocks in any order, by threads with memory of their own: nothing in it has to be as it was, nothing around it is touched."""
    a, b = operands("float32", 1, m, n, k, "contiguous", b_layout)
    gemm = gemm_kernel("g", "float32", 1, m, n, k, strides(a), strides(b), vector_bytes=jit.target().vector_bytes)
    (phase,) = gemm.phases
    assert gemm.scratch_bytes > 0
    (code,) = jit.compile_kernels([(phase.name, phase.text, phase.declarations)])
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2, ctypes.c_void_p)(int(code))
    out = np.zeros((m, n), np.float32)
    addresses = np.array([x.__array_interface__["data"][0] for x in (a, b, out)] + [0])
    index = np.arange(4, dtype=np.int32)
    whole = np.full(gemm.scratch_bytes + 128, 0xFF, np.uint8)  # NaN, if it is read before it is written
    for block in reversed(range(phase.nblocks)):
        own = whole.ctypes.data + 64
        kernel(addresses.ctypes.data, index.ctypes.data, None, block, block + 1, own)
        assert (whole[:64] == 0xFF).all() and (whole[-64:] == 0xFF).all()
        whole[:] = 0xFF
    assert np.array_equal(out, product(a, b)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [16, 32, 64])
def test_a_panel_of_a_strip_fits_a_workers_memory(dtype: str, width: int) -> None:
    for n in (500, 512, 560, 1000):
        gemm = gemm_kernel("g", dtype, 1, 2048, n, 3000, (0, 3000, 1), (0, 1, 3000), vector_bytes=width)
        assert len(gemm.phases) == 1 and 0 < gemm.scratch_bytes <= pool.OWN_BYTES


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_terms_give_zeros(dtype: str) -> None:
    a, b = np.empty((2, 3, 0), dtype), np.empty((2, 0, 18), dtype)
    assert (product(a, b) == 0).all()


@pytest.mark.parametrize(("batch", "m", "n"), [(0, 2, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_results_need_no_kernel(batch: int, m: int, n: int) -> None:
    gemm = gemm_kernel("g", "float32", batch, m, n, 4, (4 * m, 4, 1), (4 * n, n, 1))
    assert gemm.phases == () and gemm.scratch_bytes == 0


def test_nan_and_infinity_travel() -> None:
    a, b = np.ones((1, 20, 30), np.float32), np.ones((1, 30, 40), np.float32)
    a[0, 3, 4], a[0, 5, 6] = np.nan, np.inf
    got = product(a, b)[0]
    assert np.isnan(got[3]).all() and np.isinf(got[5]).all()
    assert (np.delete(got, (3, 5), axis=0) == 30).all()


@pytest.mark.parametrize("width", [16, 32, 64])
def test_every_register_width(width: int) -> None:
    # Also wider than this machine's: LLVM then splits the vectors.
    for i, (m, n, k) in enumerate([(5, 21, 9), (30, 50, 40), (2, 19, 100), (16, 8, 1030)]):
        b_layout = ("contiguous", "transposed")[i % 2]
        check(*operands("float32", 2, m, n, k, "contiguous", b_layout), vector_bytes=width)


def test_result_does_not_depend_on_the_number_of_threads() -> None:
    before = pool.get_num_threads()
    problems = [
        operands("float32", 1, 300, 500, 200, "contiguous", "transposed"),
        operands("float32", 1, 100, 90, 2500, "transposed", "contiguous"),
        operands("float32", 1, 2, 3000, 300, "contiguous", "contiguous"),
        operands("float32", 64, 24, 20, 30, "contiguous", "contiguous"),
        operands("float32", 1, 500, 515, 1100, "contiguous", "contiguous"),
        operands("float32", 2, 515, 256, 300, "transposed", "contiguous"),
    ]
    try:
        results = []
        for threads in (1, 2, 5):
            pool.set_num_threads(threads)
            pool.start()
            results.append([product(a, b) for a, b in problems])
    finally:
        pool.set_num_threads(before)
    for other in results[1:]:
        for x, y in zip(results[0], other, strict=True):
            assert np.array_equal(x.view(np.int32), y.view(np.int32))


def test_tiles_fit_the_registers_and_the_problem() -> None:
    for registers in (16, 32):
        for m in SIZES:
            for n in SIZES:
                rows, vectors = choose_tile(m, n, 64, 16, registers)
                assert rows * vectors + vectors + 1 <= registers
                assert 1 <= rows <= m and 1 <= vectors <= -(-n // 16)


def test_code_is_small() -> None:
    for b_layout in ((0, 1024, 1), (0, 1, 1024), (0, 3000, 3)):
        gemm = gemm_kernel("g", "float32", 1, 1024, 1024, 1024, (0, 1024, 1), b_layout)
        assert all(len(phase.text) < 50_000 for phase in gemm.phases)


def test_scratch_is_only_for_copies() -> None:
    def plan(b_layout: tuple[int, int, int]):
        return gemm_kernel("g", "float32", 1, 64, 64, 64, (0, 64, 1), b_layout)

    assert plan((0, 64, 1)).scratch_bytes == 0 and len(plan((0, 64, 1)).phases) == 1
    packed = plan((0, 1, 64))
    assert packed.scratch_bytes == 64 * 64 * 4 and len(packed.phases) == 2
    assert memory.allocate(packed.scratch_bytes).nbytes >= packed.scratch_bytes
