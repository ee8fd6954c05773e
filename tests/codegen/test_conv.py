"""Convolution kernels against a sum over taps in float64: shapes, layouts, dtypes, threads, memory around operands."""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

import numpy as np
import pytest
from fences import fenced

import adjoint as torch
from adjoint.codegen.conv import Problem, conv_kernel, make_plan
from adjoint.codegen.conv_taps import taps_plan
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.winograd import winograd_kernel
from adjoint.codegen.winograd_plan import WinogradPlan, _plans, best_plan, can, winograd_plan
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


def convolved(p: Problem, arrays: list[np.ndarray], vector_bytes: int | None = None, gemm: Gemm | None = None) -> np.ndarray:
    """By generated code; memory around the result and the scratch is checked for writes."""
    gemm = gemm or conv_kernel("c", p, vector_bytes=vector_bytes or jit.target().vector_bytes)
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
            if inside.size == 0:
                break
            first, last = inside[0], inside[-1]
            to.append(slice(first, last + 1))
            of.append(slice(at[first], at[last] + 1, p.stride[axis]))
        else:
            part = x[(..., *of)]
            product = np.matmul(w[(..., *taps)], part.reshape(*part.shape[:3], -1))  # for all images, in each group
            out[(..., *to)] += product.reshape(*product.shape[:3], *part.shape[3:])
    return out


def check(p: Problem, arrays: list[np.ndarray], **options: Any) -> np.ndarray:
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
    "pieces by taps": case("float32", 5, 1, 3, 40, (66, 130), (64, 64), dilation=(1, 2), lo=(1, 1), swapped=True),
    "gradient of weights": case("float32", 20, 1, 9, 32, (28, 28), (28, 28), lo=(1, 1), swapped=True),
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
    "along taps": case("float32", 1, 4, 8, 6, (28, 28), (28, 28), lo=(2, 2)),
    "along taps, moved": case("float32", 3, 2, 5, 7, (31, 40), (29, 35), (2, 2), lo=(1, 2), hi=(3, 1), swapped=True),
    "along taps of a line": case("float32", 2, 1, 9, 3, (61,), (59,), lo=(3,)),
    "along taps, volumes": case("float32", 1, 2, 3, 4, (7, 9, 30), (6, 4, 28), (1, 2, 1), (1, 2, 1), lo=(1, 0, 1)),
    "along taps, cropped": case("float32", 1, 1, 4, 3, (20, 33), (16, 27), lo=(-1, -2), hi=(1, 0)),
    "along taps, doubles": case("float64", 2, 1, 6, 5, (18, 24), (18, 24), lo=(1, 1)),
    "along taps, ints": case("int32", 1, 2, 6, 5, (18, 24), (18, 24), lo=(1, 1)),
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
    for name, (p, _) in METHODS.items():
        assert (taps_plan(p, 64 // p.itemsize, 32) is not None) is name.startswith("along taps"), name


@pytest.mark.any_mode
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("name", ["padded", "few outputs", "pieces by channels, tiles moved back", "doubles", "along taps"])
def test_widths_of_vectors(name: str, vector_bytes: int) -> None:
    """Code for narrower registers than the machine's; wider ones are taken apart by LLVM."""
    check(*METHODS[name], vector_bytes=vector_bytes)


@pytest.mark.any_mode
@pytest.mark.parametrize("name", ["padded", "few outputs", "pieces by channels", "gradient of weights", "along taps"])
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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fences memory with mprotect")
@pytest.mark.any_mode
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("name", [n for n, (_, a) in METHODS.items() if a[0].flags.c_contiguous])
def test_nothing_is_read_outside_of_the_operands(name: str, front: bool) -> None:
    """A read beyond the first or last element of x, w or the bias would end the process."""
    p, arrays = METHODS[name]
    copies = [fenced(a, front) for a in arrays]
    got = convolved(p, [copy for copy, _ in copies])
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


# --- by fewer multiplications ---------------------------------------------------------------------------------------------


def fewer(p: Problem, vector_bytes: int | None = None, plan: WinogradPlan | None = None) -> Gemm:
    """The kernels with fewer multiplications, whether or not they pay."""
    lanes = max(8, (vector_bytes or jit.target().vector_bytes) // 4)
    assert can(p, lanes)
    return winograd_kernel("c", p, plan or best_plan(p, lanes, 32 if lanes == 16 else 16)[1])


FEWER = {
    "usual": case("float32", 3, 1, 32, 48, (28, 28), (3, 3), lo=(1, 1), bias=True),
    "not padded": case("float32", 2, 1, 20, 24, (17, 31), (3, 3)),
    "odd rows and columns": case("float32", 3, 1, 17, 19, (13, 15), (3, 3), lo=(1, 1)),
    "padded more than it needs": case("float32", 2, 1, 16, 16, (9, 10), (3, 3), lo=(3, 2), hi=(2, 4)),
    "cropped": case("float32", 2, 1, 16, 21, (19, 40), (3, 3), lo=(-2, 1), hi=(1, -3), bias=True),
    "one position": case("float32", 5, 1, 16, 16, (3, 3), (3, 3)),
    "one column": case("float32", 2, 1, 16, 18, (40, 1), (3, 3), lo=(1, 1)),
    "small images": case("float32", 37, 1, 18, 33, (4, 5), (3, 3), lo=(1, 1)),
    "long rows": case("float32", 1, 1, 16, 16, (5, 333), (3, 3), lo=(1, 1), bias=True),
    "very long rows": case("float32", 1, 1, 16, 16, (2, 1501), (3, 3), lo=(1, 0)),
    "many channels": case("float32", 2, 1, 300, 260, (12, 10), (3, 3), lo=(1, 1)),
    "channels outermost": case("float32", 6, 1, 24, 20, (14, 14), (3, 3), lo=(1, 1), swapped=True),
}


@pytest.mark.parametrize("name", FEWER)
def test_fewer_products(name: str) -> None:
    p, arrays = FEWER[name]
    check(p, arrays, gemm=fewer(p))


@pytest.mark.parametrize("vector_bytes", [32, 64])
@pytest.mark.parametrize("name", ["usual", "cropped", "small images", "long rows"])
def test_fewer_products_in_vectors_of_another_width(name: str, vector_bytes: int) -> None:
    p, arrays = FEWER[name]
    check(p, arrays, gemm=fewer(p, vector_bytes))


@pytest.mark.parametrize("seed", range(12))
def test_random_problems_with_fewer_products(seed: int) -> None:
    r = random.Random(seed)
    lo, hi = (tuple(r.choice((0, 0, 1, 2, -1)) for _ in range(2)) for _ in range(2))
    sizes = tuple(max(1, 3 - a - b) + r.choice((0, 1, 2, 6, 13, 27, 38)) for a, b in zip(lo, hi, strict=True))
    p, arrays = case(
        "float32", r.choice((1, 2, 3, 8)), 1, r.choice((16, 19, 32, 40)), r.choice((16, 23, 32, 50)), sizes, (3, 3), lo=lo, hi=hi,
        bias=r.random() < 0.4, swapped=r.random() < 0.3, seed=seed,
    )  # fmt: skip
    # Numbers of very different size: what is small must not be lost beside what is large.
    for a in arrays[:2]:
        a *= (10.0 ** np.random.default_rng(seed).integers(-1, 2, a.shape)).astype(np.float32)
    check(p, arrays, gemm=fewer(p))
    # A few elements that are larger than all others together.
    arrays[0].flat[:: 97 + seed] *= np.float32(1e6)
    check(p, arrays, gemm=fewer(p))


@pytest.mark.parametrize("name", ["usual", "small images"])
def test_fewer_products_have_the_same_bits_for_any_number_of_threads_and_any_plan(name: str) -> None:
    p, arrays = FEWER[name]
    lanes = max(8, jit.target().vector_bytes // 4)
    plans = [plan for _, plan in _plans(p, lanes, 32)]
    assert len({plan.tall for plan in plans}) > 3
    threads = pool.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            pool.set_num_threads(count)
            results += [convolved(p, arrays, gemm=fewer(p)) for _ in range(3)]
        results += [convolved(p, arrays, gemm=fewer(p, plan=plan)) for plan in random.Random(0).sample(plans, 5)]
    finally:
        pool.set_num_threads(threads)
    assert all(np.array_equal(results[0], other) for other in results)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fences memory with mprotect")
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("name", [n for n, (_, a) in FEWER.items() if a[0].flags.c_contiguous])
def test_fewer_products_read_nothing_outside_of_the_operands(name: str, front: bool) -> None:
    p, arrays = FEWER[name]
    spoiled = arrays[0].copy()
    spoiled.flat[0] = spoiled.flat[-1] = np.inf  # what these reach is computed by the definition
    for x in (arrays[0], spoiled):
        given = [x, *arrays[1:]]
        copies = [fenced(a, front) for a in given]
        got = convolved(p, [copy for copy, _ in copies], gemm=fewer(p))
        assert np.array_equal(got, convolved(p, given, gemm=fewer(p)), equal_nan=True)


SPOILED = {
    "an infinity": ("x", [np.inf]),
    "a NaN": ("x", [np.nan]),
    "both infinities": ("x", [np.inf, -np.inf, -np.inf]),
    "near the largest number": ("x", [3.1e38, 3.2e38, 3.3e38, 3.1e38, -3.2e38, -3.1e38, 3.3e38]),
    "an infinite weight": ("w", [np.inf]),
    "weights near the largest number": ("w", [3e38, 3.2e38, -3.3e38, 3.1e38, 3.2e38]),
    "everything infinite": ("all", [np.inf]),
}


@pytest.mark.parametrize("shape", [(2, 7, 9), (2, 8, 40), (1, 3, 300)])
@pytest.mark.parametrize("name", SPOILED)
def test_infinities_and_overflow_are_those_of_the_definition(name: str, shape: tuple[int, int, int]) -> None:
    """A sum of two elements of a window may be infinite, or not a number, where the window's own sum is neither."""
    where, values = SPOILED[name]
    p, (x, w, bias) = case("float32", shape[0], 1, 17, 18, shape[1:], (3, 3), lo=(1, 1), bias=True, seed=1)
    w *= np.float32(1 / 64)
    if where == "w":
        x *= np.float32(1 / 64)
    spoiled = {"x": x[-1, 0, 3, 1, 2:], "w": w[0, 5, 3].reshape(-1), "all": x.reshape(-1)}[where]
    spoiled[: None if where == "all" else len(values)] = values if len(values) > 1 else values[0]
    got, plain = convolved(p, [x, w, bias], gemm=fewer(p)), convolved(p, [x, w, bias])
    np.testing.assert_array_equal(np.isnan(got), np.isnan(plain))
    np.testing.assert_array_equal(got[np.isinf(plain)], plain[np.isinf(plain)])
    finite = np.isfinite(plain)
    assert np.array_equal(np.isfinite(got), finite)
    if "largest" in name:
        assert finite.all() and np.abs(plain).max() > 1e36
    else:
        assert not finite.all() and (where == "all" or finite.any())
    wide = [np.where(np.isfinite(a), a, 0).astype(np.float64) for a in (x, w, bias)]
    exact = by_taps(p, *wide[:2]) + wide[2][..., None, None]
    bound = (by_taps(p, *map(np.abs, wide[:2])) + np.abs(wide[2])[..., None, None]) * 2.0**-23 * (9 * 17 + 2)
    if where != "all":
        assert (np.abs(got - exact) <= bound)[finite].all()


def test_filters_of_few_taps_are_exact() -> None:
    """Where a channel is copied, nothing of its neighbours may show; nor beside other channels that are dense."""
    p, (x, w) = case("float32", 2, 1, 32, 40, (11, 12), (3, 3), lo=(1, 1))
    x *= (10.0 ** np.random.default_rng(0).integers(-3, 4, x.shape)).astype(np.float32)
    w[0, :32] = 0
    w[0, range(32), range(32), 1, 1] = 1
    w[0, 32] = 0
    got = convolved(p, [x, w], gemm=fewer(p))
    assert np.array_equal(got[:, 0, :32], x[:, 0])
    assert (got[:, 0, 32] == 0).all()
    w[0, :33] = np.random.default_rng(1).standard_normal((33, 32, 3, 3))
    assert np.array_equal(got[:, 0, 33:], convolved(p, [x, w], gemm=fewer(p))[:, 0, 33:])


def test_when_fewer_products_pay() -> None:
    def chosen(lanes: int = 16, **options: Any) -> bool:
        given = dict(dtype="float32", images=32, groups=1, channels=64, outputs=64, sizes=(28, 28), kernel=(3, 3), lo=(1, 1))
        given.update(options)
        return winograd_plan(case(**given)[0], lanes, 32 if lanes == 16 else 16) is not None

    assert chosen() and chosen(8) and chosen(images=2) and chosen(channels=128, sizes=(14, 14))
    assert not chosen(4)
    assert not chosen(channels=3) and not chosen(outputs=8) and not chosen(sizes=(3, 3)) and not chosen(images=1, sizes=(6, 6))
    assert not chosen(dtype="float64") and not chosen(stride=(2, 2)) and not chosen(dilation=(1, 2)) and not chosen(groups=2, channels=32)
    assert not chosen(kernel=(5, 5)) and not chosen(kernel=(1, 3), lo=(0, 1)) and not chosen(kernel=(3,), sizes=(784,), lo=(1,))
