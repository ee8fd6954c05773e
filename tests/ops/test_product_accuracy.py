"""Products and convolutions lie within the error bound of their sums, whatever the shape, layout, dtype and threads.

A sum of k products in any order, each rounded, differs from the exact one by at most about k * eps * sum of |a| * |b|
(N. J. Higham, Accuracy and Stability of Numerical Algorithms, section 3.5). The exact one is taken in float64, and for
operands in float64 in twice that many bits. Cases are drawn from seeds, so that they are the same at every run.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
import adjoint.nn.functional as F

pytestmark = pytest.mark.usefixtures("little_effort")  # codegen/test_gemm.py and test_conv.py have the code that users get

SIZES = (0, 1, 1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 32, 37, 61, 64, 67, 97, 128)
LENGTHS = (0, 1, 2, 3, 7, 8, 16, 29, 64, 101, 128, 257, 512, 1021, 2048)
WIDE = 600_000  # multiplications in the reference; larger cases get smaller sizes
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-7, "float16": 2.0**-10}
FLOATS = ("float32", "float32", "float64", "float16", "bfloat16")
BITS = {8: np.int64, 4: np.int32, 2: np.int16}


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


# How a matrix of r rows and c columns (after batch axes) may lie in memory: the shape of what is made, and the way from
# there to the matrix, in words that arrays and tensors both know.
Layout = tuple[Callable[..., tuple[int, ...]], Callable[[Any], Any]]
LAYOUTS: dict[str, Layout] = {
    "as it is": (lambda b, r, c: (*b, r, c), lambda x: x),
    "transposed": (lambda b, r, c: (*b, c, r), lambda x: x.swapaxes(-1, -2)),
    "rows of a larger one": (lambda b, r, c: (*b, r + 3, c), lambda x: x[..., 2:-1, :]),
    "columns of a larger one": (lambda b, r, c: (*b, r, c + 5), lambda x: x[..., 3:-2]),
    "every other": (lambda b, r, c: (*b, 2 * r, 3 * c), lambda x: x[..., ::2, ::3]),
    "cut and transposed": (lambda b, r, c: (*b, c + 1, r + 2), lambda x: x[..., 1:, :-2].swapaxes(-1, -2)),
    "one row for all": (lambda b, r, c: (*b, 1, c), "rows"),  # type: ignore[dict-item]
    "one column for all": (lambda b, r, c: (*b, r, 1), "columns"),  # type: ignore[dict-item]
    "batch inside": (lambda b, r, c: (r, *b, c), lambda x: _moved(x)),
}


def _moved(x: Any) -> Any:
    """The first axis goes to the last place but one."""
    return np.moveaxis(x, 0, -2) if isinstance(x, np.ndarray) else x.movedim(0, -2)


def expanded(x: Any, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, shape) if isinstance(x, np.ndarray) else x.expand(*shape)


def laid(name: str, x: Any, batch: tuple[int, ...], r: int, c: int) -> Any:
    way = LAYOUTS[name][1]
    return expanded(x, (*batch, r, c)) if isinstance(way, str) else way(x)


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    """A tensor of numbers of very different size, which requires grad if it can."""
    if dtype.startswith("int"):
        limits = np.iinfo(dtype)
        return torch.tensor(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-1, 2, shape)
    return torch.tensor(x).to(getattr(torch, dtype)).requires_grad_()


def wide(t: Any) -> np.ndarray:
    """The numbers of a tensor as they are, in a dtype that holds them and their products."""
    t = t.detach()
    if not t.is_floating_point():
        return t.numpy().copy()
    return t.double().numpy().astype(np.longdouble if t.dtype == torch.float64 else np.float64)


def assert_within(got: Any, exact: np.ndarray, sizes: np.ndarray, length: int, what: str) -> None:
    """sizes: the sum of the absolute values of the terms of each element.  length: how many terms there are."""
    name = str(got.dtype).removeprefix("torch.")
    assert tuple(got.shape) == exact.shape, what
    if name not in EPS:
        np.testing.assert_array_equal(got.numpy(), exact, err_msg=what)
        return
    # halves are summed in float32 and rounded once
    bound = (length + 2) * (EPS[name] if name in ("float32", "float64") else EPS["float32"]) * sizes
    if name in ("float16", "bfloat16"):
        bound = bound + EPS[name] / 2 * np.abs(exact) * (1 + 1e-6) + 2.0**-25  # or the smallest step of float16
    error = np.atleast_1d(np.abs(wide(got) - exact))
    if name == "float16":
        error[np.atleast_1d(np.abs(exact) > 65000)] = 0  # which overflow
    assert (error <= bound).all(), f"{what}: {np.max(error / np.maximum(bound, 1e-300)):.2f} times the bound"


def bits(t: Any) -> np.ndarray:
    array = t.detach().double().numpy() if t.dtype == torch.bfloat16 else t.detach().numpy()
    return array.view(BITS[array.itemsize])


def with_threads(compute: Callable[[], list[Any]]) -> list[Any]:
    """The results, which one and two threads must agree on to the bit."""
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(compute())
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(bits(one), bits(two), err_msg="another number of threads, other bits")
    return found[0]


def sizes_of(r: random.Random, batch: int) -> tuple[int, int, int]:
    m, n, k = r.choice(SIZES), r.choice(SIZES), r.choice(LENGTHS)
    if r.random() < 0.15:
        m, n = r.choice(((1, 301), (301, 1), (2, 257), (1, 1), (257, 130)))
    while batch * m * n * k > WIDE:
        m, n, k = (m // 2, n, k) if m > n else (m, n // 2, k) if n > 8 else (m, n, k // 2)
    return m, n, k


def summed_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What broadcasting from `shape` does, backwards."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(a for a, n in enumerate(shape) if n == 1 and x.shape[a] != 1), keepdims=True)


BATCHES = [((), ()), ((), ()), ((3,), (3,)), ((2,), ()), ((), (5,)), ((4, 1), (3,)), ((2, 3), (2, 3)), ((1, 3), (2, 1)), ((0,), (0,)), ((17,), (17,))]


@pytest.mark.parametrize("group", range(32))
def test_products(group: int) -> None:
    for seed in range(8 * group, 8 * group + 8):
        r, rng = random.Random(seed), np.random.default_rng(seed)
        dtype = r.choice((*FLOATS, "int32", "int64"))
        batches = r.choice(BATCHES)
        full = np.broadcast_shapes(*batches)
        m, n, k = sizes_of(r, math.prod(full))
        names = r.choice(list(LAYOUTS)), r.choice(list(LAYOUTS))
        shapes = ((m, k), (k, n))
        made = [draw(rng, LAYOUTS[w][0](b, *s), dtype) for w, b, s in zip(names, batches, shapes, strict=True)]
        what = f"{dtype} {batches[0]}{(m, k)} {names[0]} @ {batches[1]}{(k, n)} {names[1]}, seed {seed}"

        def operands(given: list[Any]) -> list[Any]:
            return [laid(w, x, b, *s) for w, x, b, s in zip(names, given, batches, shapes, strict=True)]  # noqa: B023

        a, b = operands([wide(x) for x in made])
        exact = a @ b
        (got,) = with_threads(lambda: [torch.matmul(*operands(made))])  # noqa: B023
        with np.errstate(over="ignore"):
            assert_within(got, exact, np.abs(a) @ np.abs(b), k, what)
        if dtype.startswith("int") or not got.numel():
            continue
        # Gradients: two more products, summed over broadcast batches.
        g = draw(rng, got.shape, dtype).detach()
        cotangent = wide(g)
        views = [x.detach().requires_grad_() for x in operands(made)]

        def gradients() -> list[Any]:
            return list(torch.autograd.grad(torch.matmul(*views), views, g))  # noqa: B023

        found = with_threads(gradients)
        swapped = [x.swapaxes(-1, -2) for x in (a, b)]
        terms = [(cotangent, swapped[1]), (swapped[0], cotangent)]
        for got, (x, y), own in zip(found, terms, (a, b), strict=True):
            exact, sizes = (summed_to(p @ q, own.shape) for p, q in ((x, y), (np.abs(x), np.abs(y))))
            length = x.shape[-1] * (math.prod(full) * x.shape[-2] * y.shape[-1] // max(own.size, 1))
            if dtype in ("float16", "bfloat16") and own.shape[:-2] != full:
                continue  # the products of a batch are rounded to halves before they are summed
            assert_within(got, exact, sizes, length, f"gradient of {what}")


FORMS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "linear": (lambda x, w: F.linear(x, w), lambda x, w: x @ w.T),
    "mm of transposed": (lambda x, w: torch.mm(x, w.t()), lambda x, w: x @ w.T),
    "einsum": (lambda x, w: torch.einsum("ik,jk->ij", x, w), lambda x, w: x @ w.T),
    "tensordot": (lambda x, w: torch.tensordot(x, w, ([1], [1])), lambda x, w: x @ w.T),
    "inner": (lambda x, w: torch.inner(x, w), lambda x, w: x @ w.T),
    "matrix times vector": (lambda x, w: torch.mv(x, w[0]), lambda x, w: x @ w[0]),
    "vector times matrix": (lambda x, w: x[0] @ w.t(), lambda x, w: x[0] @ w.T),
    "dot": (lambda x, w: torch.dot(x[0], w[0]), lambda x, w: np.asarray((x[0] * w[0]).sum())),
    "bmm of one": (lambda x, w: torch.bmm(x[None], w.t()[None])[0], lambda x, w: x @ w.T),
    "written out": (lambda x, w: (x[:, None] * w).sum(-1), lambda x, w: x @ w.T),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32"])
@pytest.mark.parametrize("form", FORMS)
def test_other_words_for_products(form: str, dtype: str) -> None:
    ours, exactly = FORMS[form]
    for m, n, k in [(1, 1, 1), (7, 5, 3), (17, 33, 64), (31, 8, 257), (2, 3, 4099)]:
        rng = np.random.default_rng(m)
        x, w = draw(rng, (m, k), dtype), draw(rng, (n, k), dtype)
        if form == "written out" and dtype in ("float16", "bfloat16", "int32"):
            continue  # each product is rounded, or does not wrap around: that is what was asked for
        (got,) = with_threads(lambda: [ours(x, w)])  # noqa: B023
        a, b = wide(x), wide(w)
        with np.errstate(over="ignore"):
            exact = exactly(a, b).astype(dtype) if dtype == "int32" else exactly(a, b)
            assert_within(got, exact, exactly(np.abs(a), np.abs(b)), k, f"{form} of {m}, {n}, {k} as {dtype}")


def convolution_by_taps(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: tuple, padding: tuple, dilation: tuple, groups: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A convolution tap by tap, and its gradients for the cotangent `g`."""
    borders = [(0, 0), (0, 0), *((p, p) for p in padding)]
    padded = np.pad(x, borders)
    inner = tuple(slice(p, p + n) for (p, _), n in zip(borders, x.shape, strict=True))
    a = padded.reshape(x.shape[0], groups, -1, *padded.shape[2:])
    b = w.reshape(groups, -1, *w.shape[1:])
    cotangent = g.reshape(g.shape[0], groups, -1, *g.shape[2:])
    out, of_a, of_b = np.zeros_like(cotangent), np.zeros_like(a), np.zeros_like(b)
    for tap in itertools.product(*map(range, w.shape[2:])):
        rows = zip(tap, dilation, stride, g.shape[2:], strict=True)
        here = (..., *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in rows))
        out += np.einsum("bgc...,goc->bgo...", a[here], b[(..., *tap)])
        of_a[here] += np.einsum("bgo...,goc->bgc...", cotangent, b[(..., *tap)])
        of_b[(..., *tap)] = np.einsum("bgox,bgcx->goc", *(
            np.ascontiguousarray(z).reshape(*z.shape[:3], -1) for z in (cotangent, a[here])
        ))
    return out.reshape(g.shape), of_a.reshape(padded.shape)[inner], of_b.reshape(w.shape)


def drawn_convolution(seed: int) -> tuple | None:
    r = random.Random(seed)
    axes = r.choice((1, 2, 2, 3))

    def some(*choices: int) -> tuple[int, ...]:
        return tuple(r.choice(choices) for _ in range(axes))

    kernel, stride, padding, dilation = some(1, 2, 3, 5), some(1, 1, 2, 3), some(0, 0, 1, 2), some(1, 1, 2)
    reach = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
    spatial = tuple(max(n, 1) + r.choice((0, 1, 4, 13) if axes < 3 else (0, 1, 4)) for n in reach)
    groups, images = r.choice((1, 1, 2)), r.choice((1, 2, 3, 5))
    channels, outputs = groups * r.choice((1, 2, 3, 16, 17)), groups * r.choice((1, 3, 8, 17, 33))
    return (images, channels, *spatial), (outputs, channels // groups, *kernel), stride, padding, dilation, groups


def check_convolution(seed: int, dtype: str, x_shape: tuple, w_shape: tuple, *options: Any) -> None:
    stride, padding, dilation, groups = options
    r, rng = random.Random(seed), np.random.default_rng(seed)
    x, w = draw(rng, x_shape, dtype), draw(rng, w_shape, dtype)
    if r.random() < 0.3:  # lies otherwise: channels last, or every other
        x = draw(rng, (x_shape[0], *x_shape[2:], x_shape[1]), dtype).movedim(-1, 1)
    elif r.random() < 0.3:
        x = draw(rng, (*x_shape[:-1], 2 * x_shape[-1]), dtype)[..., ::2]
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    convolve = getattr(F, f"conv{len(stride)}d")
    what = f"{dtype} {x_shape} by {w_shape}, stride {stride}, padding {padding}, dilation {dilation}, {groups} groups"

    y = convolve(x, w, None, stride, padding, dilation, groups)
    g = draw(rng, y.shape, dtype).detach()

    def computed() -> list[Any]:
        y = convolve(x, w, None, stride, padding, dilation, groups)
        return [y, *torch.autograd.grad(y, [x, w], g)]

    numbers = [wide(t) for t in (x, w, g)]
    exact = convolution_by_taps(*numbers, *options)
    sizes = convolution_by_taps(*map(np.abs, numbers), *options)
    taps = math.prod(w_shape[2:])
    lengths = (taps * w_shape[1], taps * w_shape[0] // groups, math.prod(g.shape) // w_shape[0])
    for name, *rest in zip(("value", "gradient of x", "gradient of w"), with_threads(computed), exact, sizes, lengths, strict=True):
        assert_within(*rest, f"{name}: {what}")


@pytest.mark.parametrize("group", range(16))
def test_convolutions(group: int) -> None:
    for seed in range(5 * group, 5 * group + 5):
        check_convolution(seed, random.Random(seed).choice(FLOATS), *drawn_convolution(seed))


@pytest.mark.parametrize("seed", range(8))
def test_convolutions_with_fewer_products(seed: int) -> None:
    """Of 3 x 3 taps and many channels, which are computed in another way (see `codegen/winograd.py`)."""
    r = random.Random(seed)
    x_shape = (r.choice((3, 8)), r.choice((32, 47, 64)), r.choice((15, 16, 28)), r.choice((14, 30, 41)))
    padding = (r.choice((0, 1, 2)), r.choice((1, 1, 0)))
    check_convolution(seed, "float32", x_shape, (r.choice((32, 50, 64)), x_shape[1], 3, 3), (1, 1), padding, (1, 1), 1)
