"""Pointwise work in the tiles of a matrix product: equal to the reference, where it can be, and nowhere else.

Inputs are whole numbers, so that every sum is exact, and what should be one kernel is asserted to be one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

import adjoint as torch
from adjoint import dtypes
from adjoint.ir.graph import GraphBuilder, Node
from adjoint.ir.reference import run_graph
from adjoint.runtime import jit
from adjoint.runtime.guard import GuardedProgram
from adjoint.runtime.in_place import Once
from adjoint.runtime.memory import Buffer, allocate
from adjoint.runtime.program import Program, compile_graph
from adjoint.schedule.products import SMALL_PRODUCT

pytestmark = pytest.mark.skipif(not jit.available(), reason="no LLVM here")


class Sketch:
    """A graph in the making, with arrays for its inputs."""

    def __init__(self, dtype: str = "float32") -> None:
        self.b = GraphBuilder()
        self.dtype = getattr(dtypes, dtype)
        self.arrays: list[np.ndarray] = []
        self.rng = np.random.default_rng(0)

    def input(self, *shape: int) -> Node:
        self.arrays.append(self.rng.integers(-4, 5, shape).astype(self.dtype.name))
        return self.b.node("input", attrs=(len(self.arrays) - 1, shape, self.dtype))

    def make(self, name: str, *args: Node, attrs: object = None) -> Node:
        return self.b.node(name, *args, attrs=attrs)

    def spread(self, x: Node, *shape: int) -> Node:
        return self.make("expand", x, attrs=shape)

    def buffers(self) -> list[Buffer]:
        out = []
        for array in self.arrays:
            out.append(allocate(array.nbytes))
            np.copyto(out[-1].array(array.dtype, array.shape), array)
        return out

    def run(self, *outputs: Node, kind: Callable[..., Program] = compile_graph) -> list[str]:
        """The names of the kernels of the program, whose results are compared with the reference."""
        graph = self.b.finish(list(outputs))
        program = kind(graph)
        found = program.run(self.buffers(), [])
        for buffer, node, wanted in zip(found, graph.outputs, run_graph(graph, self.arrays, []), strict=True):
            np.testing.assert_array_equal(buffer.array(np.dtype(node.dtype.name), node.shape), wanted)
        return program.kernels


SHAPES = [
    (1, 37, 48, 50),
    (1, 37, 50, 50),  # columns that are no multiple of a vector
    (1, 64, 16, 70),
    (1, 200, 1000, 33),  # tiles that overlap
    (1, 130, 784, 128),
    (1, 300, 304, 1500),  # sums in two blocks
    (1, 7, 64, 2000),
    (3, 20, 40, 30),
    (2, 9, 33, 17),
    (2, 5, 33, 7),
]


@pytest.mark.parametrize(
    ("dtype", "batch", "m", "n", "k"),
    [(dtype, *shape) for dtype in ("float32", "float64", "int32", "int64") for shape in (SHAPES if dtype == "float32" else SHAPES[1:4])],
)
def test_a_bias_and_a_sum(dtype: str, batch: int, m: int, n: int, k: int) -> None:
    """What is added differs from column to column, from row to row, and from element to element."""
    s = Sketch(dtype)
    lead = (batch,) if batch > 1 else ()
    product = s.make("matmul", s.input(*lead, m, k), s.input(*lead, k, n))
    total = s.make("add", product, s.spread(s.input(n), *product.shape))
    total = s.make("add", total, s.spread(s.input(m, 1), *product.shape))
    total = s.make("mul", total, s.input(*product.shape))
    names = s.run(total)
    assert names[-1] == ("matmul+mul" if m * n * k > SMALL_PRODUCT else "mul")


@pytest.mark.parametrize(("batch", "m", "n", "k"), SHAPES)
def test_nothing_is_touched_beyond(batch: int, m: int, n: int, k: int) -> None:
    s = Sketch()
    lead = (batch,) if batch > 1 else ()
    product = s.make("matmul", s.input(*lead, m, k), s.input(*lead, k, n))
    s.run(s.make("maximum", product, s.spread(s.input(n), *product.shape)), s.make("neg", product), kind=GuardedProgram)


def test_a_product_that_something_else_wants_is_stored_once() -> None:
    for outputs in ("product", "sum"):
        s = Sketch()
        product = s.make("matmul", s.input(40, 48), s.input(48, 64))
        total = s.make("add", product, s.input(40, 64))
        other = product if outputs == "product" else s.make("sum", product, attrs=(0,))
        names = s.run(total, other)
        assert names[0] == "matmul" and names[1].startswith("add") and len(names) == 2


def test_of_two_products_the_later_one_goes_on() -> None:
    s = Sketch()
    first = s.make("matmul", s.input(40, 48), s.input(48, 64))
    second = s.make("matmul", s.input(40, 50), s.input(50, 64))
    assert s.run(s.make("mul", first, second)) == ["matmul", "matmul+mul"]


def test_a_nest_that_needs_the_product_another_way_stays() -> None:
    """Transposed, or through a sum over it."""
    s = Sketch()
    product = s.make("matmul", s.input(48, 40), s.input(40, 48))
    assert "matmul+add" not in s.run(s.make("add", product, s.make("permute", product, attrs=(1, 0))))
    s = Sketch()
    product = s.make("matmul", s.input(48, 40), s.input(40, 64))
    total = s.spread(s.make("reshape", s.make("sum", product, attrs=(1,)), attrs=(48, 1)), 48, 64)
    assert not any(name.startswith("matmul+") for name in s.run(s.make("sub", product, total)))


def test_two_layers_each_with_their_own() -> None:
    s = Sketch()
    x = s.input(40, 48)
    hidden = s.make("maximum", s.make("matmul", x, s.input(48, 64)), s.spread(s.input(64), 40, 64))
    out = s.make("add", s.make("matmul", hidden, s.input(64, 48)), x)
    assert s.run(out) == ["matmul+maximum", "matmul+add"]


@pytest.mark.parametrize(("m", "n"), [(130, 784), (128, 256), (97, 130), (64, 1000)])
@pytest.mark.parametrize("read_by_product", [False, True])
def test_an_update_in_place_is_done_once(m: int, n: int, read_by_product: bool) -> None:
    """Tiles at the end of a row or column overlap with their neighbours: what they share must not be updated twice."""
    s = Sketch()
    old = s.input(m, n)
    left = old if read_by_product else s.make("permute", s.input(n, m), attrs=(1, 0))
    product = s.make("matmul", left, s.input(n, n))
    graph = s.b.finish([s.make("add", old, product)])
    (wanted,) = run_graph(graph, s.arrays, [])
    program = compile_graph(graph)
    program.compile()
    assert program.kernels[-1] == "matmul+add"
    # A product reads what it multiplies again and again; and what vectors overlap in is not replaced.
    assert program.in_place == ([(0, 0)] if not read_by_product and n % (jit.target().vector_bytes // 4) == 0 else [])
    for given in ({}, dict(program.in_place)):
        buffers = s.buffers()
        (got,) = Once(program, buffers, [], given).finish()
        assert (int(got) == int(buffers[0])) == bool(given)
        np.testing.assert_array_equal(got.array(np.float32, (m, n)), wanted)


@pytest.mark.parametrize("rows", [31, 128])
def test_updates_of_a_large_sum_in_place(rows: int) -> None:
    """As users write it: the sum takes the memory of what it is added to."""
    rng = np.random.default_rng(1)
    total, x, w = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((rows, 600), (rows, 90), (90, 600)))
    acc, a, b = torch.tensor(total), torch.tensor(x), torch.tensor(w)
    for k in range(1, 5):
        acc += a @ b
        np.testing.assert_array_equal(acc.numpy(), total + k * (x @ w))


def test_results_have_the_same_bits_with_any_number_of_threads() -> None:
    x, w, b = torch.randn(301, 257), torch.randn(257, 400), torch.randn(400)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.tanh(x @ w + b).numpy().copy())
    finally:
        torch.set_num_threads(before)
    assert all((f == found[0]).all() for f in found)


@pytest.mark.parametrize(("n", "k"), list(itertools.product((64, 100), (40, 1100))))
def test_layers_and_their_derivatives(n: int, k: int) -> None:
    """Against NumPy in float64: a bias, an activation of many operations, a residual, and their derivatives."""
    rng = np.random.default_rng(2)
    x, w, r = (rng.standard_normal(shape) for shape in ((50, k), (k, n), (50, n)))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, r)]
    y = torch.sigmoid(tensors[0] @ tensors[1] / k**0.5) * 2 + tensors[2]
    y.square().sum().backward()
    s = 1 / (1 + np.exp(-(x @ w) / k**0.5))
    g = 2 * (2 * s + r)
    gz = g * 2 * s * (1 - s) / k**0.5
    np.testing.assert_allclose(y.detach().numpy(), 2 * s + r, rtol=1e-12, atol=1e-12)
    for t, wanted in zip(tensors, (gz @ w.T, x.T @ gz, g), strict=True):
        np.testing.assert_allclose(t.grad.numpy(), wanted, rtol=1e-11, atol=1e-11)
