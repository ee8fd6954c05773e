"""Products in tile registers against NumPy in float64: what their parts add up to, at every edge, and what has no parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import dtypes
from adjoint.codegen import gemm_amx
from adjoint.codegen.gemm import gemm_kernel
from adjoint.codegen.gemm_amx import amx_kernels
from adjoint.codegen.gemm_words import Operand
from adjoint.ir.graph import GraphBuilder, Node
from adjoint.runtime import jit, pool
from adjoint.schedule.prepare import prepare

needs_tiles = pytest.mark.skipif(not jit.available() or not jit.target().tiles, reason="no tile registers here")
EPS = 2.0**-23
LAYOUTS = ("rows", "columns", "one for all", "padded")


def laid(x: np.ndarray, layout: str) -> np.ndarray:
    """Equal matrices that lie in memory otherwise."""
    if layout == "columns":
        return np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
    if layout == "one for all":
        return np.broadcast_to(x[:1], x.shape)
    if layout == "padded":
        return np.pad(x, ((0, 0), (0, 1), (3, 2)))[:, :-1, 3:-2]
    return x


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By generated code, which must write all of C and nothing beside it. uint16: bfloat16."""
    batch, m, k = a.shape
    n, parts = b.shape[2], 1 if a.dtype == np.uint16 else 3
    operands = [Operand(i, *(s // x.itemsize for s in x.strides)) for i, x in enumerate((a, b))]
    phases, scratch_bytes = amx_kernels("g", parts, batch, m, n, k, *operands)
    whole = np.full(batch * m * n + 128, 77, np.float32)
    scratch = np.full(scratch_bytes + 128, 55, np.uint8)
    out = whole[64:-64]
    out[:] = np.nan
    addresses = np.array([x.__array_interface__["data"][0] for x in (a, b, out, scratch[64:])])
    kernels = jit.compile_kernels([(p.name, p.text, list(p.declarations)) for p in phases])
    table = pool.RecordTable([(f, np.arange(4, dtype=np.int32), p.nblocks, True) for f, p in zip(kernels, phases, strict=True)])
    pool.run(table.address, table.count, addresses.ctypes.data, 0)
    assert (whole[:64] == 77).all() and (whole[-64:] == 77).all()
    assert (scratch[:64] == 55).all() and (scratch[-64:] == 55).all()
    return out.reshape(batch, m, n)


def as_bfloat16(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper halves of float32, and their values."""
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def error(got: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """The largest, in rounding errors of the sum of sizes."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((np.abs(got - a @ b) / (np.abs(a) @ np.abs(b) * EPS)).max())


SIZES = [(32, 32, 32), (16, 16, 1), (1, 1, 40), (5, 3, 7), (33, 47, 70), (31, 200, 96), (100, 130, 65), (70, 150, 300)]


@pytest.mark.any_mode
@needs_tiles
@pytest.mark.parametrize("b_layout", LAYOUTS)
@pytest.mark.parametrize("a_layout", LAYOUTS)
def test_products(a_layout: str, b_layout: str) -> None:
    """A float32 product is off by two roundings of the sum of sizes at most, however long: few sums are rounded."""
    rng = np.random.default_rng(0)
    pair = 4 * LAYOUTS.index(a_layout) + LAYOUTS.index(b_layout)
    for i in (pair, pair // 4 + 3 * pair):
        (m, n, k), batch = SIZES[i % len(SIZES)], 1 + i % 3
        a, b = (laid(rng.standard_normal(shape, np.float32), layout) for shape, layout in (((batch, m, k), a_layout), ((batch, k, n), b_layout)))
        assert error(product(a, b), a, b) < 2
        (a, wide_a), (b, wide_b) = ((laid(x, layout) for x in as_bfloat16(np.ascontiguousarray(y))) for y, layout in ((a, a_layout), (b, b_layout)))
        assert error(product(a, b), wide_a, wide_b) < 2


@pytest.mark.any_mode
@needs_tiles
def test_parts_are_the_whole() -> None:
    """By one the product is the operand, to the last bit, down to where a low part would be below the least normal number."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((1, 48, 64), np.float32) * 2.0 ** rng.integers(-100, 100, (1, 48, 64))
    a = a.astype(np.float32)
    one = np.eye(64, dtype=np.float32)[None]
    np.testing.assert_array_equal(product(a, one), a)
    np.testing.assert_array_equal(product(one, np.ascontiguousarray(a.swapaxes(1, 2))), a.swapaxes(1, 2))


@pytest.mark.any_mode
@needs_tiles
def test_long_sums_are_added_up_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a phase pieces of B, and several phases, continue what is in C, also in tiles that reach over its edge."""
    rng = np.random.default_rng(0)
    monkeypatch.setattr(gemm_amx, "_LONGEST", 192)
    for m, n, k in ((32, 64, 500), (40, 70, 400)):
        a, b = rng.standard_normal((2, m, k), np.float32), rng.standard_normal((2, k, n), np.float32)
        assert error(product(a, b), a, b) < 2
        (a, wide_a), (b, wide_b) = as_bfloat16(a), as_bfloat16(b)
        assert error(product(a, b), wide_a, wide_b) < 3


def spoilt(kind: str, a: np.ndarray, b: np.ndarray) -> None:
    if kind == "infinite":
        a[0, 3, 5], b[1, 3, 50] = np.inf, -np.inf
    elif kind == "not a number":
        a[0, 33, 5] = np.nan
    elif kind == "none but an infinite one":
        a[:] = 0
        b[0, 4, 4] = np.inf
    elif kind == "tiny":
        a *= np.float32(1e-36)
    elif kind == "below the least":
        a *= np.float32(1e-42)
    elif kind == "below the least by huge":
        a *= np.float32(1e-40)
        b *= np.float32(1e30)
    elif kind == "tiny products":
        a *= np.float32(1e-25)
        b *= np.float32(1e-15)
    elif kind == "huge":
        a[:, 40:] *= np.float32(7e37)
        b *= np.float32(1e-3)
    elif kind == "huge products":
        a *= np.float32(1e18)
        b *= np.float32(1e18)


@pytest.mark.any_mode
@needs_tiles
@pytest.mark.parametrize(
    "kind",
    ["infinite", "not a number", "none but an infinite one", "tiny", "below the least", "below the least by huge", "tiny products", "huge", "huge products"],
)
def test_what_has_no_parts(kind: str) -> None:
    """As float32 has it: no infinity becomes NaN, nothing small is lost, and no sum is infinite too early."""
    rng = np.random.default_rng(0)
    for a_layout, b_layout in (("rows", "rows"), ("columns", "columns")):
        a, b = rng.standard_normal((2, 70, 90), np.float32), rng.standard_normal((2, 90, 75), np.float32)
        spoilt(kind, a, b)
        got = product(laid(a, a_layout), laid(b, b_layout))
        with np.errstate(all="ignore"):
            exact = a.astype(np.float64) @ b.astype(np.float64)
            sizes = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
        wanted = exact.astype(np.float32)
        plain = np.isfinite(wanted)
        np.testing.assert_array_equal(got[~plain], wanted[~plain])
        assert (np.abs(got[plain] - exact[plain]) <= 90 * (sizes[plain] * EPS + 2.0**-149)).all()


@pytest.mark.any_mode
def test_when_tiles_repay() -> None:
    """By the shapes alone: large products whose operands are not much larger than the result; one element of each is contiguous."""

    def names(m: int, n: int, k: int, column: int = 1, **options: Any) -> list[str]:
        gemm = gemm_kernel("g", "float32", 1, m, n, k, (m * k, k * column, column), (k * n, n, 1), vector_bytes=64, **options)
        return [p.name for p in gemm.phases]

    assert names(512, 512, 256, tiles=True) == ["g_rows", "g_pack", "g"]
    assert "g_rows" not in names(512, 512, 256)
    for m, n, k in ((512, 256, 512), (64, 4096, 512), (512, 512, 240), (4096, 4096, 2048)):
        assert "g_rows" not in names(m, n, k, tiles=True)
    assert "g_rows" not in names(512, 512, 256, column=2, tiles=True)


def products_of(graph_of: Any, monkeypatch: pytest.MonkeyPatch, tiles: bool = True) -> list[Node]:
    monkeypatch.setattr("adjoint.schedule.products.has_tiles", lambda: tiles)
    monkeypatch.setattr("adjoint.schedule.products.has_pairs", lambda: False)
    b = GraphBuilder()
    x, w = (b.node("input", attrs=(i, shape, dtypes.bfloat16)) for i, shape in enumerate(((64, 96), (80, 96))))
    outputs = graph_of(b, *(b.node("cast", t, attrs=dtypes.float32) for t in (x, w)))
    return [node for node in prepare(b.finish(outputs)).nodes if node.prim.name == "matmul"]


@pytest.mark.any_mode
def test_bfloat16_is_not_converted_for_a_product_that_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(b: GraphBuilder, x: Node, w: Node) -> list[Node]:
        product = b.node("matmul", x, b.node("permute", w, attrs=(1, 0)))
        return [b.node("cast", b.node("neg", product), attrs=dtypes.bfloat16)]

    def weight(b: GraphBuilder, x: Node, w: Node) -> list[Node]:
        """Transposed, as the gradient of a weight is recorded."""
        product = b.node("matmul", b.node("permute", b.node("neg", x), attrs=(1, 0)), x)
        turned = b.node("matmul", b.node("permute", x, attrs=(1, 0)), x)
        return [b.node("cast", b.node("permute", p, attrs=(1, 0)), attrs=dtypes.bfloat16) for p in (product, turned)]

    def exact(b: GraphBuilder, x: Node, w: Node) -> list[Node]:
        product = b.node("matmul", x, b.node("permute", w, attrs=(1, 0)))
        return [b.node("cast", product, attrs=dtypes.bfloat16), b.node("neg", product)]

    (found,) = products_of(linear, monkeypatch)
    assert found.dtype is dtypes.float32
    assert [a.dtype for a in found.args] == [dtypes.bfloat16] * 2
    assert sorted([a.dtype.name for a in p.args] for p in products_of(weight, monkeypatch)) == [["bfloat16"] * 2, ["float32"] * 2]
    for graph, tiles in ((exact, True), (linear, False)):
        (found,) = products_of(graph, monkeypatch, tiles)
        assert [a.dtype for a in found.args] == [dtypes.float32] * 2


def test_layers_of_bfloat16() -> None:
    """Whatever the machine multiplies with: values and gradients are those of float64, rounded."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(96, 80).to(torch.bfloat16)
    x = torch.randn(3, 24, 96).to(torch.bfloat16).requires_grad_()
    g = torch.randn(3, 24, 80).to(torch.bfloat16)
    wide = [t.detach().double().requires_grad_() for t in (x, layer.weight, layer.bias)]
    exact = torch.nn.functional.linear(*wide)
    exact.backward(g.double())
    for _ in range(2):
        x.grad = layer.weight.grad = layer.bias.grad = None
        y = layer(x)
        y.backward(g)
        for got, wanted in ((y, exact), *((t.grad, w.grad) for t, w in zip((x, layer.weight, layer.bias), wide, strict=True))):
            assert got.dtype is torch.bfloat16
            size = wanted.abs().max().item()
            assert (got.double() - wanted).abs().max().item() < size * 2.0**-8
