"""Attention kernels against the definition in float64: shapes, layouts, masks, dtypes, threads, memory around operands."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import random
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.autograd.check import gradcheck, gradgradcheck
from adjoint.codegen.attention import attention_kernels
from adjoint.codegen.attention_backward import backward_kernels
from adjoint.codegen.attention_tile import KEYS, QUERIES, Attention
from adjoint.codegen.gemm import Gemm
from adjoint.nn.functional import attention as functional
from adjoint.runtime import jit, memory, pool

compiled_only = pytest.mark.skipif(not jit.available() or torch.is_eager(), reason="needs machine code")
F = torch.nn.functional


class Problem:
    """Operands, and what they should give. mask: None, "bool", "float", "keys" (one row for all queries) or "queries"."""

    def __init__(
        self, dtype: str, batch: int, queries: int, keys: int, width: int, out_width: int, causal: bool = False,
        mask: str | None = None, heads_inside: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        rng = np.random.default_rng(seed)

        def draw(rows: int, columns: int) -> np.ndarray:
            if heads_inside:  # (row, matrix, column) in memory
                return np.moveaxis(rng.standard_normal((rows, batch, columns)).astype(dtype), 1, 0)
            return rng.standard_normal((batch, rows, columns)).astype(dtype)

        self.q, self.k, self.v, self.g = draw(queries, width), draw(keys, width), draw(keys, out_width), draw(queries, out_width)
        self.mask = None
        if mask is not None:
            shape = {"keys": (1, 1, keys), "queries": (batch, queries, 1)}.get(mask, (batch, queries, keys))
            drawn = rng.standard_normal(shape).astype(dtype) if mask == "float" else rng.random(shape) < 0.6
            self.mask = np.broadcast_to(drawn, (batch, queries, keys))
        places = tuple(_place(x) for x in (self.q, self.k, self.v, self.g))
        self.shape = (batch, queries, keys, width, out_width)
        self.given = Attention(
            dtype, *self.shape, causal, places, None if self.mask is None else _place(self.mask),
            None if self.mask is None else self.mask.dtype.name,
        )  # fmt: skip

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """In float64: weights, and the logarithm of each row's sum (0 where nothing is seen)."""
        scores = np.matmul(self.q.astype(float), self.k.astype(float).swapaxes(1, 2))
        if self.given.causal:
            scores = np.where(np.tri(*scores.shape[1:], dtype=bool), scores, -np.inf)
        if self.mask is not None:
            scores = np.where(self.mask, scores, -np.inf) if self.mask.dtype == bool else scores + self.mask
        largest = scores.max(-1, keepdims=True)
        base = np.where(largest == -np.inf, 0, largest)
        total = np.exp(scores - base).sum(-1, keepdims=True)
        lse = (base + np.log(np.where(total == 0, 1, total)))[..., 0]
        return np.exp(scores - lse[..., None]), lse


def _place(x: np.ndarray) -> tuple[Any, int, int, int]:
    batch, row, column = (s // x.itemsize for s in x.strides)
    return batch, row, column, 0


def run(gemm: Gemm, operands: list[np.ndarray], shapes: list[tuple[int, ...]], dtype: str) -> list[np.ndarray]:
    """Results of kernels; memory around them and around the scratch is checked for writes, and nothing in it is used unwritten."""
    guard = 64
    whole = [np.full(int(np.prod(s)) + 2 * guard, 77, dtype) for s in shapes]
    buffer = memory.allocate(gemm.scratch_bytes + 2 * guard)
    scratch = buffer.mem[: gemm.scratch_bytes + 2 * guard]
    scratch[:] = 255  # NaN
    addresses = [a.__array_interface__["data"][0] for a in (*operands, *(w[guard:] for w in whole), scratch[guard:])]
    buffers, index = np.array(addresses), np.arange(len(addresses), dtype=np.int32)
    kernels = jit.compile_kernels([(q.name, q.text, list(q.declarations)) for q in gemm.phases])
    table = pool.RecordTable([(f, index, q.nblocks, True) for f, q in zip(kernels, gemm.phases, strict=True)])
    if pool.run(table.address, table.count, buffers.ctypes.data, 0):
        pool.start()
    for w in (*whole, scratch):
        edge = 255 if w is scratch else 77
        assert (w[:guard] == edge).all() and (w[len(w) - guard :] == edge).all()
    return [w[guard:-guard].reshape(s) for w, s in zip(whole, shapes, strict=True)]


def forward(p: Problem, vector_bytes: int | None = None) -> list[np.ndarray]:
    gemm = attention_kernels("attention", p.given, vector_bytes=vector_bytes or jit.target().vector_bytes)
    batch, queries, _, _, out_width = p.shape
    masks = [] if p.mask is None else [p.mask]
    return run(gemm, [p.q, p.k, p.v, *masks], [(batch, queries, out_width), (batch, queries)], p.given.dtype)


def backward(p: Problem, vector_bytes: int | None = None) -> list[np.ndarray]:
    weights, lse = p.weights()
    delta = (p.g * np.matmul(weights, p.v)).sum(-1).astype(p.given.dtype)
    gemm = backward_kernels("attention_backward", p.given, vector_bytes=vector_bytes or jit.target().vector_bytes)
    masks = [] if p.mask is None else [p.mask]
    operands = [p.g, p.q, p.k, p.v, lse.astype(p.given.dtype), delta, *masks]
    return run(gemm, operands, [x.shape for x in (p.q, p.k, p.v)], p.given.dtype)


def check(p: Problem, vector_bytes: int | None = None) -> list[np.ndarray]:
    """Both passes against the definition, each element within what its sums may lose."""
    got = [*forward(p, vector_bytes), *backward(p, vector_bytes)]
    batch, queries, keys, width, out_width = p.shape
    eps = np.finfo(p.given.dtype).eps
    q, k, v, g = (x.astype(float) for x in (p.q, p.k, p.v, p.g))
    weights, lse = p.weights()
    out = np.matmul(weights, v)
    delta = (g * out).sum(-1)[..., None]
    ds = weights * (np.matmul(g, v.swapaxes(1, 2)) - delta)
    expected = [out, lse, np.matmul(ds, k), np.matmul(ds.swapaxes(1, 2), q), np.matmul(weights.swapaxes(1, 2), g)]
    # A score may be off by half a unit for each product, relative to the sum of their sizes; its weight by as large a part.
    size = np.matmul(abs(q), abs(k).swapaxes(1, 2)).max(-1, keepdims=True) * (width + 1) + abs(lse[..., None]) + 8
    if p.mask is not None and p.mask.dtype != bool:
        size = size + abs(p.mask).max()
    wide = weights * (size + keys + 2)
    wide_ds = weights * (np.matmul(abs(g), abs(v).swapaxes(1, 2)) * (out_width + 1) + abs(delta) * 4) + abs(ds) * (2 * size + 2)
    wide_ds = wide_ds + weights * (abs(g) * np.matmul(weights, abs(v))).sum(-1, keepdims=True) * (size + out_width + 2)
    bounds = [
        np.matmul(wide, abs(v)),
        (size + keys)[..., 0],
        np.matmul(wide_ds + abs(ds) * keys, abs(k)),
        np.matmul((wide_ds + abs(ds) * queries).swapaxes(1, 2), abs(q)),
        np.matmul((wide + weights * queries).swapaxes(1, 2), abs(g)),
    ]
    for what, x, e, bound in zip(("out", "lse", "dq", "dk", "dv"), got, expected, bounds, strict=True):
        wrong = abs(x - e) > eps * bound
        assert not wrong.any(), (what, p.given, np.argwhere(wrong)[:3], abs(x - e).max())
    return got


SHAPES = [
    (2, 64, 128, 16, 16), (1, 1, 1, 1, 1), (3, 7, 5, 3, 2), (2, 33, 129, 8, 24), (1, 100, 77, 33, 20), (1, QUERIES, KEYS, 64, 64),
    (1, QUERIES + 1, KEYS + 1, 5, 80), (2, 131, 257, 48, 16), (1, 40, 700, 17, 9), (20, 61, 67, 12, 12),
]  # fmt: skip


@compiled_only
@pytest.mark.parametrize("causal", (False, True))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape: tuple[int, ...], dtype: str, causal: bool) -> None:
    check(Problem(dtype, *shape, causal=causal))


@compiled_only
@pytest.mark.parametrize("mask", ("bool", "float", "keys", "queries"))
@pytest.mark.parametrize("shape", SHAPES[2:8:2] + SHAPES[-1:], ids=str)
def test_masks(shape: tuple[int, ...], mask: str) -> None:
    check(Problem("float32", *shape, mask=mask))
    check(Problem("float64", *shape, mask=mask, causal=True))


@compiled_only
@pytest.mark.parametrize("seed", range(12))
def test_random_problems(seed: int) -> None:
    r = random.Random(seed)
    check(
        Problem(
            r.choice(("float32", "float64")), r.choice((1, 2, 17)), r.choice((1, 2, 31, 63, 64, 65, 127)), r.choice((1, 3, 64, 127, 128, 130, 390)),
            r.choice((1, 3, 16, 31, 64)), r.choice((1, 2, 15, 16, 40)), r.random() < 0.4, r.choice((None, None, "bool", "float", "keys")),
            r.random() < 0.4, seed,
        ),
        r.choice((16, 32, 64)),
    )  # fmt: skip


@compiled_only
def test_every_vector_width_sees_the_same() -> None:
    """To the bit where no lanes are added up: cotangents, given what the rows sum to."""
    p = Problem("float32", 2, 75, 141, 19, 21, causal=True)
    results = [backward(p, width) for width in (16, 32, 64)]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)


@compiled_only
def test_large_scores_do_not_overflow() -> None:
    p = Problem("float32", 1, 70, 300, 16, 16)
    p.q *= 60
    got, lse = forward(p)
    assert np.isfinite(got).all() and abs(lse).max() > 200
    weights, _ = p.weights()
    np.testing.assert_allclose(got, weights @ p.v.astype(float), atol=2e-3)


@compiled_only
def test_rows_that_see_nothing_are_zeros() -> None:
    p = Problem("float64", 2, 70, 140, 4, 6, mask="bool")
    p.mask = np.array(p.mask)
    p.mask[:, 3:40] = False
    got = check(p)
    assert (got[0][:, 3:40] == 0).all() and (got[1][:, 3:40] == 0).all() and (got[2][:, 3:40] == 0).all()


@compiled_only
@pytest.mark.parametrize("end", (False, True))
def test_nothing_is_read_outside_of_operands(end: bool) -> None:
    """Operands that end, or begin, where memory does."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None)
    kept = []

    def fenced(x: np.ndarray) -> np.ndarray:
        size = -(-x.nbytes // page) * page
        area = mmap.mmap(-1, size + 2 * page)
        view = np.frombuffer(area, np.uint8)
        start = view.__array_interface__["data"][0]
        at = page + (size - x.nbytes if end else 0)
        copy = view[at : at + x.nbytes].view(x.dtype).reshape(x.shape)
        copy[...] = x
        for fence in (start, start + page + size):
            assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
        kept.append(area)
        return copy

    for shape, mask in itertools.product((SHAPES[3], SHAPES[4], SHAPES[6]), ("bool", "float")):
        p = Problem("float32", *shape, mask=mask)
        p.q, p.k, p.v, p.g, p.mask = (fenced(np.ascontiguousarray(x)) for x in (p.q, p.k, p.v, p.g, p.mask))
        check(p)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks also for sequences that are short."""
    monkeypatch.setattr(functional, "_LEAST", 1)


def leaves(*shapes: tuple[int, ...], dtype: Any = torch.float64) -> list[Any]:
    rng = np.random.default_rng(1)
    return [torch.tensor(rng.standard_normal(s), dtype=dtype, requires_grad=True) for s in shapes]


MASK = np.random.default_rng(5).random((2, 1, 3, 5)) < 0.5
CALLS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True},
    "scale": {"scale": 0.3},
    "bool": {"attn_mask": MASK},
    "float": {"attn_mask": np.where(MASK, 0.5, -1.0)},
    "nothing seen": {"attn_mask": np.arange(3)[:, None] != np.full(5, 2)},
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.usefixtures("always")
def test_derivatives(name: str) -> None:
    options = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in CALLS[name].items()}
    three = leaves((2, 2, 3, 2), (2, 2, 5, 2), (2, 2, 5, 3))

    def f(q: Any, k: Any, v: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, **options)

    assert gradcheck(f, three)
    assert gradgradcheck(f, three)


def test_derivatives_of_long_sequences() -> None:
    three = leaves((1, 70, 2), (1, 65, 2), (1, 65, 1))
    assert gradcheck(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), three)


@pytest.mark.usefixtures("always")
def test_tangents() -> None:
    q, k, v = (x.detach() for x in leaves((4, 3), (5, 3), (5, 2)))
    ts = [x.detach() * 0.5 + 1 for x in (q, k, v)]

    def f(*args: Any) -> Any:
        return F.scaled_dot_product_attention(*args)

    _, tangent = torch.func.jvp(f, (q, k, v), tuple(ts))
    h = 1e-6
    near = [f(*(x + s * h * t for x, t in zip((q, k, v), ts, strict=True))) for s in (1, -1)]
    np.testing.assert_allclose(tangent.numpy(), ((near[0] - near[1]) / (2 * h)).numpy(), rtol=1e-7, atol=1e-9)

    def gradients(*args: Any) -> Any:
        return torch.func.grad(lambda *a: (f(*a) ** 2).sum(), argnums=(0, 1, 2))(*args)

    _, moved = torch.func.jvp(gradients, (q, k, v), tuple(ts))
    near = [gradients(*(x + s * h * t for x, t in zip((q, k, v), ts, strict=True))) for s in (1, -1)]
    for m, a, b in zip(moved, *near, strict=True):
        np.testing.assert_allclose(m.numpy(), ((a - b) / (2 * h)).numpy(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_halves_are_computed_in_float32(dtype: Any) -> None:
    three = leaves((2, 80, 8), (2, 70, 8), (2, 70, 8), dtype=dtype)
    out = F.scaled_dot_product_attention(*three, is_causal=True)
    wide = [x.detach().float().requires_grad_() for x in three]
    expected = F.scaled_dot_product_attention(*wide, is_causal=True)
    assert out.dtype is dtype and torch.equal(out, expected.to(dtype))
    out.sum().backward()
    expected.sum().backward()
    for x, w in zip(three, wide, strict=True):
        assert x.grad.dtype is dtype and torch.equal(x.grad, w.grad.to(dtype))


@pytest.mark.parametrize("shapes", [((0, 64, 2), (0, 64, 2)), ((2, 64, 0), (2, 70, 0)), ((1, 0, 2), (1, 70, 2)), ((1, 70, 2), (1, 0, 2))], ids=str)
@pytest.mark.usefixtures("always")
def test_nothing_to_do(shapes: tuple) -> None:
    q, k = leaves(*shapes)
    v = leaves((*shapes[1][:-1], 3))[0]
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    assert out.shape == (*shapes[0][:-1], 3)
    out.sum().backward()
    assert shapes[1][-2] or bool((out == 0).all())
    assert [x.grad.shape for x in (q, k, v)] == [x.shape for x in (q, k, v)]


@compiled_only
@pytest.mark.usefixtures("always")
def test_empty_operands_of_the_primitive() -> None:
    """Without anything to see, or without coordinates, the reference computes it."""
    q, k, v = (x.detach() for x in leaves((3, 0), (4, 0), (4, 2)))
    np.testing.assert_allclose(torch._attention(q, k, v, None, False).numpy(), np.tile(v.numpy().mean(0), (3, 1)), rtol=1e-12)


@compiled_only
def test_scores_are_never_in_memory() -> None:
    """The program's memory for 2,048 keys is a small part of one matrix of scores."""
    from adjoint.runtime import program

    before = set(program.living)
    q, k, v = leaves((1, 2, 2048, 16), (1, 2, 2048, 16), (1, 2, 2048, 16), dtype=torch.float32)
    out = F.scaled_dot_product_attention(q, k, v, torch.ones(2048, dtype=torch.bool))
    out.sum().backward()
    q.grad.numpy()
    made = [p for p in program.living if p not in before and "attention_backward" in p.kernels]
    assert made and all(p._build().plan.arena_bytes < 2 * 2048 * 2048 * 4 // 2 for p in made)


def test_a_mask_that_requires_grad() -> None:
    q, k, v, mask = leaves((70, 2), (65, 2), (65, 2), (70, 65))
    F.scaled_dot_product_attention(q, k, v, mask).pow(2).sum().backward()
    kept = mask.grad.clone()
    mask.grad = None
    torch._attention(q * 2**-0.5, k, v, mask, False).pow(2).sum().backward()
    np.testing.assert_allclose(mask.grad.numpy(), kept.numpy(), rtol=1e-10, atol=1e-14)
