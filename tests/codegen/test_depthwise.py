"""Depthwise convolutions, by each of their kernels, against a sum over taps in float64: shapes, layouts, dtypes, threads, memory."""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

import numpy as np
import pytest
from fences import fenced

import adjoint as torch
from adjoint.codegen.conv import Problem, conv_kernel
from adjoint.codegen.conv_depth import depth_plan
from adjoint.codegen.conv_depth_weights import weights_plan
from adjoint.codegen.conv_groups import Groups, groups_kernel
from adjoint.codegen.conv_windows import bands_of
from adjoint.codegen.gemm import Gemm
from adjoint.runtime import jit, memory, pool
from adjoint.schedule.depthwise import Axis, fit_groups, fit_rows, fit_taps

pytestmark = pytest.mark.skipif(not jit.available(), reason="needs llvmlite")

Case = tuple[str, str, int, int, int, list[Axis], bool, int]  # kernel, dtype, images, groups, channels, axes, bias, seed


def axis(size: int, kernel: int, lo: int = 0, hi: int | None = None, stride: int = 1, dilation: int = 1, step: int = 1) -> Axis:
    spread = (size - 1) * step + 1
    hi = lo if hi is None else hi
    return Axis((spread + lo + hi - dilation * (kernel - 1) - 1) // stride + 1, size, kernel, stride, dilation, lo, step)


def operands(made: Case) -> list[np.ndarray]:
    """x (N, G, C, *L), w (G, 1, C, *K) and the bias (G, 1), or with the groups last: x (N, C, *L, G), w (C, *K, G), (G)."""
    kind, dtype, images, groups, channels, axes, bias, seed = made
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        if dtype.startswith("int"):
            return rng.integers(-1000, 1000, shape).astype(dtype)
        return rng.standard_normal(shape).astype(dtype)

    sizes, kernel = [a.size for a in axes], [a.kernel for a in axes]
    x, w, b = draw(images, groups, channels, *sizes), draw(groups, 1, channels, *kernel), draw(groups, 1)
    if kind == "last":
        x, w, b = np.ascontiguousarray(np.moveaxis(x, 1, -1)), np.ascontiguousarray(np.moveaxis(w[:, 0], 0, -1)), b[:, 0]
    return [x, w, b] if bias else [x, w]


def kernel_of(made: Case, arrays: list[np.ndarray], vector_bytes: int) -> Gemm:
    kind, dtype, images, groups, channels, axes, bias, _ = made
    x_strides, w_strides = (tuple(s // a.itemsize for s in a.strides) for a in arrays[:2])
    if kind == "last":
        problem = Groups(dtype, images, groups, channels, tuple(axes), x_strides, w_strides, bias, 0, 0)
        return groups_kernel("d", problem, vector_bytes=vector_bytes)

    def each(name: str) -> tuple[int, ...]:
        return tuple([getattr(a, name) for a in axes])

    steps = each("step") if any(n > 1 for n in each("step")) else ()
    p = Problem(
        dtype, images, groups, channels, 1, each("size"), each("kernel"), each("positions"), each("stride"), each("dilation"), each("lo"),
        x_strides, w_strides, bias, 0, steps,
    )  # fmt: skip
    plan = (depth_plan if kind == "rows" else weights_plan)(p, vector_bytes // p.itemsize, 32 if vector_bytes == 64 else 16)
    assert plan is not None
    return conv_kernel("d", p, vector_bytes=vector_bytes)


def computed(made: Case, arrays: list[np.ndarray], vector_bytes: int | None = None) -> np.ndarray:
    """By generated code; memory around the result is checked for writes."""
    kind, dtype, images, groups, _, axes, _, _ = made
    gemm = kernel_of(made, arrays, vector_bytes or jit.target().vector_bytes)
    positions = [a.positions for a in axes]
    shape = (images, *positions, groups) if kind == "last" else (images, groups, *positions)
    size, guard = int(np.prod(shape)), 64
    whole = np.full(size + 2 * guard, 77, dtype)
    scratch = memory.allocate(gemm.scratch_bytes + 64)
    addresses = [a.__array_interface__["data"][0] for a in (*arrays, whole[guard:], scratch.mem)]
    buffers, index = np.array(addresses), np.arange(len(addresses), dtype=np.int32)
    kernels = jit.compile_kernels([(q.name, q.text, list(q.declarations)) for q in gemm.phases])
    table = pool.RecordTable([(f, index, q.nblocks, True) for f, q in zip(kernels, gemm.phases, strict=True)])
    pool.run(table.address, table.count, buffers.ctypes.data, 0)
    assert (whole[:guard] == 77).all() and (whole[guard + size :] == 77).all()
    out = whole[guard : guard + size].reshape(shape)
    return np.moveaxis(out, -1, 1) if kind == "last" else out


def by_taps(axes: list[Axis], x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The definition, for x (N, G, C, *L) and w (G, C, *K)."""
    out = np.zeros((*x.shape[:2], *[a.positions for a in axes]), x.dtype)
    for taps in itertools.product(*[range(a.kernel) for a in axes]):
        met = [[p for p in range(a.positions) if a.meets(p, k)] for a, k in zip(axes, taps, strict=True)]
        if all(met):
            at = [[a.at(p, k) for p in here] for a, k, here in zip(axes, taps, met, strict=True)]
            part = x[(slice(None), slice(None), slice(None), *np.ix_(*at))]
            weights = w[(..., *taps)].reshape(1, *w.shape[:2], *(1,) * len(axes))
            out[(slice(None), slice(None), *np.ix_(*met))] += (part * weights).sum(2, dtype=x.dtype)
    return out


def check(made: Case, **options: Any) -> np.ndarray:
    kind, dtype, _, _, channels, axes, _, _ = made
    arrays = operands(made)
    got = computed(made, arrays, **options)
    x, w = (np.moveaxis(a, -1, to) for a, to in zip(arrays, (1, 0), strict=False)) if kind == "last" else (arrays[0], arrays[1][:, 0])
    bias = [b.reshape(-1, *(1,) * len(axes)) for b in arrays[2:]]
    if dtype.startswith("int"):
        with np.errstate(over="ignore"):
            assert np.array_equal(got, sum(bias, by_taps(axes, x, w)))
        return got
    wide = [a.astype(np.float64) for a in (x, w)]
    size = by_taps(axes, *map(np.abs, wide)) + sum(map(np.abs, bias), np.float64(0))
    terms = channels * int(np.prod([a.kernel for a in axes]))
    bound = size * np.finfo(dtype).eps * (terms + 2)  # each product and sum may be off by half a unit in the last place
    assert (np.abs(got - sum(bias, by_taps(axes, *wide))) <= bound).all(), made
    return got


FITS = {"rows": fit_rows, "taps": fit_taps, "last": fit_groups}


def random_case(seed: int) -> Case:
    r = random.Random(seed)
    while True:
        kind = r.choice(("rows", "rows", "taps", "last", "last"))
        axes = []
        for _ in range(r.choice((1, 2, 2, 2, 3))):
            kernel, size = r.choice((1, 2, 3, 5, 7)), r.choice((1, 2, 4, 7, 13, 16, 17, 33, 50))
            if kind == "taps" or (kind == "last" and r.random() < 0.4):
                kernel, size = r.choice((4, 7, 13, 17, 40)), r.choice((4, 7, 13, 17, 40)) + r.choice((0, 1, 3))
            lo, hi = r.choice((0, 0, 1, 2, 3, -1)), r.choice((0, 0, 1, 2, 3, -1))
            axes.append(axis(size, kernel, lo, hi, r.choice((1, 1, 2, 3)), r.choice((1, 1, 2)), r.choice((1, 1, 1, 2))))
        channels = r.choice((1, 1, 2)) if kind == "rows" else r.choice((1, 3, 8))
        bias = kind != "taps" and r.random() < 0.4
        groups = r.choice((2, 3, 7)) if kind != "last" else r.choice((4, 5, 16, 19, 40))
        if all(a.positions > 0 for a in axes) and FITS[kind](axes, *[channels] * (kind == "rows")):
            return kind, r.choice(("float32", "float32", "float64", "int32", "int64")), r.choice((1, 2, 3)), groups, channels, axes, bias, seed


@pytest.mark.any_mode
@pytest.mark.parametrize("seed", range(120))
def test_random_problems(seed: int) -> None:
    check(random_case(seed))


METHODS: dict[str, Case] = {
    "rows": ("rows", "float32", 3, 40, 1, [axis(14, 5, 2), axis(14, 5, 2)], True, 0),
    "rows of several channels": ("rows", "float32", 3, 20, 3, [axis(28, 3, 1), axis(28, 3, 1)], True, 20),
    "wide rows of one code": ("rows", "float32", 2, 3, 1, [axis(9, 3, 1), axis(200, 7, 3)], False, 1),
    "rows, every other": ("rows", "float32", 2, 9, 1, [axis(29, 3, 1, stride=2), axis(57, 5, 2, stride=2)], True, 2),
    "spread rows": ("rows", "float32", 2, 9, 1, [axis(15, 3, 1, 2, step=2), axis(37, 5, 2, 3, step=2)], False, 3),
    "dilated rows": ("rows", "float64", 2, 9, 1, [axis(15, 3, 2, dilation=2), axis(37, 5, 6, dilation=3)], False, 4),
    "rows of one code": ("rows", "float32", 2, 3, 1, [axis(57, 7, 3), axis(61, 7, 3)], True, 21),
    "rows of one code, every other": ("rows", "float32", 2, 3, 1, [axis(57, 7, 1, 4, stride=2), axis(60, 9, 5, 2, stride=2)], False, 22),
    "rows of one code, cropped": ("rows", "float32", 2, 3, 1, [axis(57, 7, -1, 2, dilation=2), axis(61, 7, 9, -2, dilation=3)], False, 23),
    "taps of one code": ("taps", "float32", 1, 3, 2, [axis(57, 57, 3), axis(61, 61, 3)], False, 24),
    "taps of one code, cropped": ("taps", "float32", 1, 3, 2, [axis(60, 27, -2, 1, dilation=2), axis(61, 57, 5, -1)], False, 25),
    "many taps, groups last": ("last", "float32", 2, 16, 1, [axis(29, 9, 4), axis(31, 9, 4, stride=2)], False, 26),
    "bands of one image": ("rows", "float32", 1, 1, 1, [axis(300, 3, 1), axis(530, 3, 1)], True, 27),
    "bands of many channels": ("rows", "float32", 2, 1, 64, [axis(57, 3, 1), axis(70, 3, 1)], True, 28),
    "bands, groups last": ("last", "float32", 1, 16, 1, [axis(211, 5, 2), axis(210, 5, 2, stride=2)], True, 29),
    "a line": ("rows", "float32", 2, 5, 1, [axis(500, 31, 15)], True, 5),
    "volumes": ("rows", "float32", 2, 5, 1, [axis(6, 3, 1, stride=2), axis(7, 3, 1), axis(18, 3, 1)], True, 6),
    "taps": ("taps", "float32", 1, 40, 8, [axis(14, 14, 2), axis(14, 14, 2)], False, 7),
    "many rows of taps": ("taps", "float32", 1, 3, 2, [axis(112, 112, 1), axis(112, 112, 1)], False, 8),
    "dilated taps of one code": ("taps", "float32", 1, 5, 4, [axis(29, 14, 1, dilation=2), axis(57, 28, 2, 3, dilation=2)], False, 9),
    "nine by nine": ("taps", "float64", 2, 5, 4, [axis(20, 20, 4), axis(21, 21, 4)], False, 10),
    "taps of a line": ("taps", "float32", 1, 5, 4, [axis(500, 498)], False, 11),
    "taps of volumes": ("taps", "float32", 1, 5, 2, [axis(6, 6, 1), axis(7, 7, 1), axis(18, 18, 1)], False, 12),
    "groups last": ("last", "float32", 2, 40, 1, [axis(14, 5, 2), axis(14, 5, 2)], True, 13),
    "few groups": ("last", "float32", 2, 5, 1, [axis(30, 3, 1), axis(61, 3, 1, stride=2)], True, 14),
    "spread, groups last": ("last", "float64", 2, 19, 1, [axis(15, 3, 1, 2, step=2), axis(37, 5, 2, 3, step=2)], False, 15),
    "taps, groups last": ("last", "float32", 1, 40, 8, [axis(14, 14, 2), axis(14, 14, 2)], False, 16),
    "dilated taps, groups last": ("last", "float32", 1, 16, 3, [axis(29, 14, 1, dilation=2), axis(57, 28, 2, 3, dilation=2)], False, 17),
    "many positions, groups last": ("last", "float32", 1, 16, 3, [axis(30, 30, 5), axis(33, 30, 4)], False, 18),
    "volumes, groups last": ("last", "float32", 2, 16, 3, [axis(6, 3, 1, stride=2), axis(7, 3, 1), axis(18, 3, 1)], True, 19),
}


@pytest.mark.any_mode
@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str, vector_bytes: int) -> None:
    """Also in code for narrower registers than the machine's; wider ones are taken apart by LLVM."""
    check(METHODS[name], vector_bytes=vector_bytes)


def test_bands() -> None:
    """An image is cut only where there are few of them, and into parts worth another thread, none of them empty."""
    image = axis(300, 3, 1)
    assert bands_of(image, 8, 1, 1 << 26) == 13  # of three tiles, the last one of two
    assert bands_of(image, 8, 1, 3 << 19) == 3 and bands_of(image, 8, 1, 1 << 19) == 1
    assert bands_of(image, 8, 9, 1 << 30) == 1 and bands_of(axis(300, 3, 1, step=2), 8, 1, 1 << 30) == 1
    for rows in range(1, 9):
        for units in (1, 2, 3, 5):
            bands, tiles = bands_of(image, rows, units, 1 << 30), -(-300 // rows)
            assert bands * units <= 16 and (bands - 1) * -(-tiles // bands) < tiles


def test_the_methods_are_what_they_are_called() -> None:
    """Tiles at edges have code of their own only while that is little."""
    for name, (kind, dtype, *_, axes, _, _) in METHODS.items():
        if dtype == "float32" and kind != "last" and len(axes) == 2:
            made = METHODS[name]
            phase = kernel_of(made, operands(made), 64).phases[0]
            assert ("label %meets" in phase.text) is ("of one code" in name or "bands" in name), name


@pytest.mark.any_mode
@pytest.mark.parametrize(
    "name", ["rows", "spread rows", "taps", "groups last", "taps, groups last", "bands of one image", "bands, groups last"]
)
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    threads, results = pool.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            pool.set_num_threads(count)
            results += [computed(METHODS[name], operands(METHODS[name])) for _ in range(3)]
    finally:
        pool.set_num_threads(threads)
    assert all(np.array_equal(results[0], other) for other in results)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fences memory with mprotect")
@pytest.mark.any_mode
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_read_outside_of_the_operands(name: str, front: bool) -> None:
    """A read beyond the first or last element of x, w or the bias would end the process."""
    arrays = operands(METHODS[name])
    copies = [fenced(a, front) for a in arrays]
    shaped = [copy.reshape(a.shape) for (copy, _), a in zip(copies, arrays, strict=True)]
    assert np.array_equal(computed(METHODS[name], shaped), computed(METHODS[name], arrays))


LAYERS = {
    "usual": dict(sizes=(14, 14), kernel=(5, 5), padding=2),
    "every other": dict(sizes=(15, 18), kernel=(3, 3), padding=1, stride=2),
    "uneven": dict(sizes=(9, 23), kernel=(3, 7), padding=(1, 3), stride=(1, 2), dilation=(2, 1)),
    "small": dict(sizes=(3, 2), kernel=(7, 7), padding=3),
    "one image": dict(sizes=(16, 16), kernel=(3, 3), padding=1, images=1),
    "large taps": dict(sizes=(30, 30), kernel=(13, 13), padding=6),
    "lines": dict(sizes=(60,), kernel=(9,), padding=4),
    "volumes": dict(sizes=(5, 6, 12), kernel=(3, 3, 3), padding=1),
}


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_and_their_derivatives(name: str, transposed: bool, last: bool) -> None:
    """In both layouts of images, as a user writes them, against the reference in float64."""
    options: dict[str, Any] = dict(LAYERS[name])
    sizes, kernel, images = options.pop("sizes"), options.pop("kernel"), options.pop("images", 3)
    rank, groups = len(sizes), 20
    rng = np.random.default_rng(0)
    x = rng.standard_normal((images, *sizes, groups) if last else (images, groups, *sizes))
    w, b = rng.standard_normal((groups, 1, *kernel)), rng.standard_normal(groups)
    layer = getattr(torch.nn.functional, f"conv{'_transpose' if transposed else ''}{rank}d")

    def run(dtype: Any) -> list[np.ndarray]:
        t = [torch.tensor(a).to(dtype).requires_grad_() for a in (x, w, b)]
        given = t[0].permute(0, rank + 1, *range(1, rank + 1)) if last else t[0]
        y = layer(given, *t[1:], groups=groups, **options)
        y = y.permute(0, *range(2, rank + 2), 1).contiguous() if last else y
        g = torch.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape))).to(dtype)
        return [a.detach().numpy() for a in (y, *torch.autograd.grad((y * g).sum(), t))]

    with torch.eager():
        wanted = run(torch.float64)
    for dtype, rtol in ((torch.float32, 2e-4), (torch.float64, 1e-11)):
        for found, known in zip(run(dtype), wanted, strict=True):
            np.testing.assert_allclose(found, known, rtol=rtol, atol=rtol * max(1.0, np.abs(known).max()))


@pytest.mark.parametrize("stride", [1, 2])
def test_one_output_of_many_channels(stride: int) -> None:
    """As the last layer of a network that paints a mask has, also transposed."""
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 64, 20, 24)), rng.standard_normal((1, 64, 3, 3))
    functional = torch.nn.functional
    for layer, weight in ((functional.conv2d, w), (functional.conv_transpose2d, w.transpose(1, 0, 2, 3))):
        found = []
        for eager, dtype in ((True, torch.float64), (False, torch.float64), (False, torch.float32)):
            with torch.eager(eager):
                t = [torch.tensor(a).to(dtype).requires_grad_() for a in (x, weight)]
                y = layer(*t, stride=stride, padding=1)
                found.append([a.detach().numpy() for a in (y, *torch.autograd.grad((y * y).sum(), t))])
        for known, exact, rough in zip(*found, strict=True):
            np.testing.assert_allclose(exact, known, rtol=1e-10, atol=1e-10 * np.abs(known).max())
            np.testing.assert_allclose(rough, known, rtol=1e-4, atol=1e-5 * np.abs(known).max())


def test_a_part_of_the_channels() -> None:
    """A layer over some of the channels that come last, whose others go beside it."""
    rng = np.random.default_rng(0)
    whole, w = rng.standard_normal((2, 9, 10, 40)), rng.standard_normal((20, 1, 3, 3))

    def run(dtype: Any) -> list[np.ndarray]:
        t, weight = torch.tensor(whole).to(dtype).requires_grad_(), torch.tensor(w).to(dtype).requires_grad_()
        beside, through = t[..., :17], t[..., 17:37]
        through = torch.nn.functional.conv2d(through.permute(0, 3, 1, 2), weight, padding=1, groups=20).permute(0, 2, 3, 1)
        y = torch.cat([beside, through], -1).tanh()
        return [a.detach().numpy() for a in (y, *torch.autograd.grad((y * y).sum(), (t, weight)))]

    with torch.eager():
        wanted = run(torch.float64)
    for found, known in zip(run(torch.float32), wanted, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-4)
