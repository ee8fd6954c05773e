"""What matrix products become before they are computed: equal to the reference, and in as few steps as intended.

Counts are asserted, since a wrong order of two matrices costs a copy of each and is seen nowhere else.
"""

from __future__ import annotations

import itertools

import pytest
from sketch import Sketch

from adjoint import dtypes
from adjoint.ir.graph import Node
from adjoint.runtime import jit
from adjoint.runtime.program import compile_graph

pytestmark = pytest.mark.skipif(not jit.available(), reason="no LLVM here")


class Products(Sketch):
    def product(self, x: Node, y: Node) -> Node:
        return self.b.node("matmul", x, y)

    def turned(self, x: Node, *order: int) -> Node:
        return self.b.node("permute", x, attrs=order or (1, 0))


def test_a_transposed_product_is_computed_the_other_way_round() -> None:
    s = Products()
    x, g = s.input(40, 48), s.input(40, 56)
    assert set(s.kernels(s.turned(s.product(s.turned(x), g)))) == {"matmul"}


def test_with_axes_of_the_batch_moved_too_only_those_are_copied() -> None:
    s = Products()
    product = s.product(s.input(3, 2, 20, 24), s.input(3, 2, 24, 28))
    assert s.kernels(s.turned(product, 0, 3, 1, 2))[-1] == "permute"


def test_a_product_that_is_read_as_it_is_stays() -> None:
    s = Products()
    product = s.product(s.input(40, 48), s.input(48, 56))
    names = s.kernels(s.turned(product), product)
    assert names == ["matmul", "permute"]


def test_a_large_matrix_meets_a_vector_in_dot_products_of_several_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is there; what is to be computed first is computed on the way, and along columns a loop does as well."""
    monkeypatch.setattr("adjoint.schedule.prepare.DOTS_BYTES", 1 << 10)
    for rows, columns in ((40, 48), (41, 37)):
        s = Products()
        x, v, w = s.input(rows, columns), s.input(columns, 1), s.input(1, columns)
        right, left = s.product(x, v), s.product(w, s.turned(x))
        assert s.kernels(right, left) == ["matmul", "matmul"]
        s = Products()
        x, v = s.input(rows, columns), s.input(rows, 1)
        assert "matmul" not in s.kernels(s.product(s.turned(x), v), s.product(s.turned(v), x))
        s = Products()
        x, v = s.input(rows, columns), s.input(columns, 1)
        assert "matmul" not in s.kernels(s.product(s.b.node("add", x, x), v))
    s = Products()
    assert "matmul" not in s.kernels(s.product(s.input(3, 5), s.input(5, 1)))


@pytest.mark.parametrize("transposed", list(itertools.product((False, True), repeat=2)))
def test_a_sum_of_thin_products_is_one(transposed: tuple[bool, bool]) -> None:
    s = Products()
    total = s.input(64, 80)
    for k in (5, 6, 5, 1):
        x = s.turned(s.input(k, 64)) if transposed[0] else s.input(64, k)
        total = s.b.node("add", total, s.product(x, s.input(k, 80)))
    if transposed[1]:
        thin = s.product(s.turned(s.input(4, 80)), s.input(4, 64))
        total = s.b.node("add", s.turned(thin), total)
    *names, last = s.kernels(total)
    assert last == "matmul+add" and "add" not in names
    assert names.count("matmul") + names.count(last) <= 1  # to copy an operand


def test_products_that_something_else_reads_or_that_are_deep_are_left_alone() -> None:
    s = Products()
    read = [s.product(s.input(64, 5), s.input(5, 80)) for _ in range(3)]
    deep = [s.product(s.input(64, 60), s.input(60, 80)) for _ in range(3)]
    total = read[0]
    for product in (*read[1:], *deep):
        total = s.b.node("add", total, product)
    assert sum("matmul" in name for name in s.kernels(total, *read)) >= 6


@pytest.mark.parametrize("step", (1, 2))
def test_heads_are_read_where_they_lie(step: int) -> None:
    """Queries, keys and values of several heads, in one matrix side by side, as attention has them."""
    s = Products()
    packed = s.input(3, 20 * step, 3 * 4 * 24)
    parts = []
    for i in range(3):
        attrs = ((0, 0, 96 * i), (3, 20, 96), (1, step, 1))
        part = s.b.node("reshape", s.b.node("slice", packed, attrs=attrs), attrs=(3, 20, 4, 24))
        parts.append(s.turned(part, 0, 2, 1, 3))
    q, k, v = parts
    names = s.kernels(s.product(s.product(q, s.turned(k, 0, 1, 3, 2)), v))
    assert set(names) == {"matmul"}


def test_of_something_computed_a_small_part_is_computed_and_a_large_one_read_in_place() -> None:
    for rows, stored in ((40, 80 * 48), (8, 8 * 48)):
        s = Products()
        doubled = s.b.node("mul", s.input(80, 48), s.b.const(2.0, dtypes.float32, (80, 48)))
        part = s.b.node("slice", doubled, attrs=((3, 0), (rows, 48), (1, 1)))
        graph = s.b.finish([s.product(part, s.input(48, 40))])
        program = compile_graph(graph)
        assert f"i0<{stored // 48}" in program.text


@pytest.mark.parametrize("transposed", (True, False))
@pytest.mark.parametrize("many", (2, 6))
def test_products_share_the_copy_of_a_right_operand(transposed: bool, many: int) -> None:
    """As the steps of a recurrent cell do; beside them products with other weights of the same size, which have their own."""
    s = Products()
    weights = [s.input(*((900, 96) if transposed else (96, 900))) for _ in range(2)]
    results = []
    for k in range(many):
        x = s.input(20, 96)
        results += [s.product(x, s.turned(w) if transposed else w) for w in (weights if k % 2 else weights[::-1])]
    count, copied = s.kernels(*results).count("matmul"), 2 * many + 2
    assert count == copied or (count == 2 * many and not transposed and many < 4)  # few may read theirs in place


def test_copies_of_a_right_operand_in_other_tiles_are_others() -> None:
    s = Products()
    w, part = s.input(128, 96), s.input(96, 128)
    results = [s.product(s.input(rows, 96), s.turned(w)) for rows in (20, 33, 20, 47, 33, 128, 20)]
    results.append(s.product(s.input(33, 128), s.turned(part)))
    s.kernels(*results)


def test_a_copy_does_not_outlive_the_values_it_was_made_of() -> None:
    """Weights that are computed anew between the products that read them."""
    s = Products()
    w, x = s.input(400, 96), s.input(20, 96)
    half = s.b.const(0.5, dtypes.float32, (400, 96))
    results = []
    for _ in range(3):
        results += [s.product(x, s.turned(w)), s.product(s.input(20, 96), s.turned(w))]
        w = s.b.node("mul", w, half)
    s.kernels(*results, w)
