"""Convolution kernels against a sum over taps in float64: shapes, layouts, dtypes, threads, memory around operands."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import random
import sys

import numpy as np
import pytest

import adjoint as torch
from adjoint.codegen.conv import Problem, conv_kernel, make_plan
from adjoint.runtime import jit, memory, pool

pytestmark = pytest.mark.skipif(not jit.available(), reason="needs llvmlite")

Case = tuple[Problem, list[np.ndarray]]


def case(
    dtype: str, images: int, groups: int, channels: int, outputs: int, sizes: tuple[int, ...], kernel: tuple[int, ...],
    stride: tuple[int, ...] = (), dilation: tuple[int, ...] = (), lo: tuple[int, ...] = (), hi: tuple[int, ...] = (),
    bias: bool = False, swapped: bool = False, seed: int = 0,
) -> Case:  # fmt: skip
    """A problem and its operands. swapped: channels are the outermost axis of both x and w, as for gradients of weights."""
    axes, rng = len(sizes), np.random.default_rng(seed)
    stride, dilation, lo = stride or (1,) * axes, dilation or (1,) * axes, lo or (0,) * axes
    hi = hi or lo
    rows = zip(sizes, kernel, stride, dilation, lo, hi, strict=True)
    positions = tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, s, d, a, b in rows)

    def draw(*shape: int) -> np.ndarray:
        if dtype.startswith("int"):
            return rng.integers(-1000, 1000, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)

    x, w = draw(images, groups, channels, *sizes), draw(groups, outputs, channels, *kernel)
    if swapped:
        x = np.moveaxis(draw(channels, images, groups, *sizes), 0, 2)
        w = np.moveaxis(draw(channels, groups, outputs, *kernel), 0, 2)
    problem = Problem(
        dtype, images, groups, channels, outputs, sizes, kernel, positions, stride, dilation, lo,
        tuple(s // x.itemsize for s in x.strides), tuple(s // w.itemsize for s in w.strides), bias,
    )  # fmt: skip
    return problem, [x, w, draw(groups, outputs)] if bias else [x, w]


def convolved(p: Problem, arrays: list[np.ndarray], vector_bytes: int | None = None) -> np.ndarray:
    """By generated code; memory around the result and the scratch is checked for writes."""
    gemm = conv_kernel("c", p, vector_bytes=vector_bytes or jit.target().vector_bytes)
    size, guard = p.images * p.groups * p.outputs * p.area, 64
    whole = np.full(size + 2 * guard, 77, p.dtype)
    buffer = memory.allocate(gemm.scratch_bytes + 2 * guard)
    scratch = buffer.mem[: gemm.scratch_bytes + 2 * guard]
    scratch[:] = 55
    addresses = [a.__array_interface__["data"][0] for a in (*arrays, whole[guard:], scratch[guard:])]
    buffers, index = np.array(addresses), np.arange(len(addresses), dtype=np.int32)
    kernels = jit.compile_kernels([(q.name, q.text, list(q.declarations)) for q in gemm.phases])
    table = pool.RecordTable([(f, index, q.nblocks, True) for f, q in zip(kernels, gemm.phases, strict=True)])
    pool.run(table.address, table.count, buffers.ctypes.data, 0)
    assert (whole[:guard] == 77).all() and (whole[guard + size :] == 77).all()
    assert (scratch[:guard] == 55).all() and (scratch[guard + gemm.scratch_bytes :] == 55).all()
    return whole[guard : guard + size].reshape(p.images, p.groups, p.outputs, *p.positions)


def by_taps(p: Problem, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The definition: one product for each tap, on the positions that it reaches inside of x."""
    out = np.zeros((p.images, p.groups, p.outputs, *p.positions), x.dtype)
    for taps in itertools.product(*map(range, p.kernel)):
        to, of = [], []
        for axis, k in enumerate(taps):
            at = np.arange(p.positions[axis]) * p.stride[axis] + k * p.dilation[axis] - p.lo[axis]
            inside = np.flatnonzero((at >= 0) & (at < p.sizes[axis]))
            to.append(inside)
            of.append(at[inside])
        part = x[np.ix_(*map(range, x.shape[:3]), *of)]
        out[np.ix_(*map(range, out.shape[:3]), *to)] += np.einsum("ngc...,goc->ngo...", part, w[(..., *taps)])
    return out


def check(p: Problem, arrays: list[np.ndarray], **options: int) -> np.ndarray:
    got = convolved(p, arrays, **options)
    x, w = arrays[:2]
    bias = [a.reshape(*a.shape, *(1,) * len(p.kernel)) for a in arrays[2:]]
    if x.dtype.kind == "i":
        with np.errstate(over="ignore"):
            assert np.array_equal(got, sum(bias, by_taps(p, x, w)))
        return got
    wide = [a.astype(np.float64) for a in (x, w)]
    # Each product and sum may be off by half a unit in the last place.
    size = by_taps(p, *map(np.abs, wide)) + sum(map(np.abs, bias), np.float64(0))
    bound = size * np.finfo(x.dtype).eps * (p.channels * p.taps + 2)
    assert (np.abs(got - sum(bias, by_taps(p, *wide))) <= bound).all(), p
    return got


def random_case(seed: int) -> Case | None:
    r = random.Random(seed)
    axes = r.choice((1, 2, 2, 2, 3))

    def some(*choices: int) -> tuple[int, ...]:
        return tuple(r.choice(choices) for _ in range(axes))

    kernel, stride, dilation = some(1, 2, 3, 5), some(1, 1, 2, 3), some(1, 1, 2)
    lo, hi = some(0, 0, 1, 2, -1), some(0, 0, 1, 2, -1)
    reach = [d * (k - 1) + 1 - a - b for k, d, a, b in zip(kernel, dilation, lo, hi, strict=True)]
    sizes = tuple(max(n, 1) + r.choice((0, 1, 3, 9, 17)) for n in reach)
    made = case(
        r.choice(("float32", "float32", "float64", "int32", "int64")), r.choice((1, 2, 3, 7)), r.choice((1, 1, 2)),
        r.choice((1, 3, 4, 20)), r.choice((1, 2, 5, 16, 33, 40)), sizes, kernel, stride, dilation, lo, hi,
        r.random() < 0.4, r.random() < 0.3, seed,
    )  # fmt: skip
    return made if min(made[0].positions) > 0 else None


@pytest.mark.any_mode
@pytest.mark.parametrize("seed", range(60))
def test_random_problems(seed: int) -> None:
    made = random_case(seed)
    if made is not None:
        check(*made)


METHODS = {
    "padded": case("float32", 3, 1, 19, 48, (28, 28), (3, 3), lo=(1, 1), bias=True),
    "in place": case("float32", 3, 1, 6, 16, (14, 14), (5, 5)),
    "channels that collide": case("float32", 2, 1, 16, 32, (32, 32), (3, 3)),
    "bands of rows": case("float32", 2, 1, 32, 17, (70, 60), (3, 3), lo=(1, 1)),
    "bands of a line": case("float32", 2, 1, 32, 33, (5003,), (5,), lo=(2,)),
    "pieces by channels": case("float32", 2, 1, 200, 40, (9, 11), (3, 3), lo=(1, 1), bias=True),
    "pieces by channels, tiles moved back": case("float32", 3, 1, 260, 35, (17, 31), (3, 5), lo=(1, 2)),
    "pieces by taps": case("float32", 5, 1, 3, 40, (66, 66), (64, 64), lo=(1, 1), swapped=True),
    "gradient of weights": case("float32", 20, 1, 9, 33, (28, 28), (28, 28), lo=(1, 1), swapped=True),
    "gradient of dilated weights": case("float32", 4, 2, 3, 18, (31, 30), (13, 14), (2, 2), (2, 2), swapped=True),
    "one position": case("float32", 37, 1, 50, 20, (7, 7), (7, 7)),
    "one tap": case("float32", 3, 2, 33, 20, (12, 13), (1, 1), (2, 2)),
    "few outputs": case("float32", 5, 1, 7, 6, (28, 28), (5, 5), lo=(2, 2), bias=True),
    "few outputs, in place": case("float32", 5, 1, 3, 3, (9, 61), (2, 3)),
    "few outputs of long lines": case("float32", 2, 1, 3, 2, (3001,), (9,), lo=(4,)),
    "many panels, one image": case("float32", 1, 1, 64, 300, (7, 7), (3, 3), lo=(1, 1)),
    "doubles": case("float64", 3, 1, 30, 20, (15, 17), (3, 3), (2, 1), lo=(1, 1), bias=True),
    "volumes": case("float32", 2, 1, 5, 20, (9, 10, 11), (3, 2, 3), (2, 1, 1), lo=(1, 0, 1)),
    "cropped": case("float32", 2, 1, 5, 20, (19, 20), (3, 3), lo=(-2, 1), hi=(1, -3)),
    "wide": case("int64", 2, 2, 5, 20, (19, 20), (3, 3), lo=(1, 1)),
}


@pytest.mark.any_mode
@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    check(*METHODS[name])


def test_the_methods_are_what_they_are_called() -> None:
    plans = {n: make_plan(p, 16, 32) for n, (p, _) in METHODS.items() if p.dtype == "float32"}
    assert not plans["padded"].in_place and plans["in place"].in_place
    assert not plans["channels that collide"].in_place
    assert plans["bands of rows"].units[3] > 1 and plans["bands of a line"].units[3] > 1
    assert plans["pieces by channels"].pieces(METHODS["pieces by channels"][0])[0] > 1
    assert plans["pieces by taps"].pieces(METHODS["pieces by taps"][0])[1] > 1
    assert plans["few outputs"].along and not plans["padded"].along
    assert plans["many panels, one image"].units[1] > 1


@pytest.mark.any_mode
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("name", ["padded", "few outputs", "pieces by channels, tiles moved back", "doubles"])
def test_widths_of_vectors(name: str, vector_bytes: int) -> None:
    """Code for narrower registers than the machine's; wider ones are taken apart by LLVM."""
    check(*METHODS[name], vector_bytes=vector_bytes)


@pytest.mark.any_mode
@pytest.mark.parametrize("name", ["padded", "few outputs", "pieces by channels", "gradient of weights"])
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    threads = pool.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            pool.set_num_threads(count)
            results += [convolved(*METHODS[name]) for _ in range(3)]
    finally:
        pool.set_num_threads(threads)
    assert all(np.array_equal(results[0], other) for other in results)


def _fenced(array: np.ndarray, front: bool) -> tuple[np.ndarray, mmap.mmap]:
    """A copy that begins, or ends, at a page that may not be touched."""
    page, size = mmap.PAGESIZE, array.nbytes
    inner = -(-size // page) * page
    region = mmap.mmap(-1, inner + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    libc = ctypes.CDLL(None, use_errno=True)
    for fence in (start, start + page + inner):
        assert libc.mprotect(ctypes.c_void_p(fence), page, 0) == 0
    at = page if front else page + inner - size
    copy = np.frombuffer(region, array.dtype, array.size, at)
    copy[:] = array.ravel()
    return copy, region


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fences memory with mprotect")
@pytest.mark.any_mode
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("name", [n for n, (_, a) in METHODS.items() if a[0].flags.c_contiguous])
def test_nothing_is_read_outside_of_the_operands(name: str, front: bool) -> None:
    """A read beyond the first or last element of x, w or the bias would end the process."""
    p, arrays = METHODS[name]
    fenced = [_fenced(a, front) for a in arrays]
    got = convolved(p, [copy for copy, _ in fenced])
    assert np.array_equal(got, convolved(p, arrays))


def test_taps_between_spread_elements_meet_nothing() -> None:
    """Infinite weights reach only where they meet an element of the input, or of its border, in both modes."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 3, 3))
    w[0, 0, 1, 2], w[1, 1, 0, 0] = np.inf, np.nan
    for options in ({"stride": 2}, {"stride": 3, "padding": 1}, {"stride": 2, "dilation": 2, "output_padding": 1}):
        found = []
        for eager in (False, True):
            with torch.eager(eager):
                found.append(torch.nn.functional.conv_transpose2d(torch.tensor(x), torch.tensor(w), **options).numpy())
        assert np.isfinite(found[0]).any() and not np.isfinite(found[0]).all()
        np.testing.assert_allclose(*found, rtol=1e-10, atol=1e-12)
