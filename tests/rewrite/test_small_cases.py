"""Rules whose conditions are inequalities, on every small case: no case lies just beyond what was thought of."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from adjoint import dtypes
from adjoint.ir.check import check_graph
from adjoint.ir.graph import GraphBuilder, Node
from adjoint.rewrite import simplify
from adjoint.testing.values import evaluate, same_bits

pytestmark = pytest.mark.any_mode

F = dtypes.float32
REAL = [d for d in dtypes.ALL if d.category <= 2]


def check(builder: GraphBuilder, outputs: list[Node], inputs: list[np.ndarray], names: list[object]) -> None:
    """Every output keeps its bits, or the name of the first that does not."""
    graph = builder.finish(outputs)
    found = simplify(graph)
    check_graph(found)
    before, after = evaluate(graph, inputs, []), evaluate(found, inputs, [])
    for name, a, b in zip(names, before, after, strict=True):
        assert same_bits(a, b), name


def telling(dtype: dtypes.DType) -> np.ndarray:
    """Numbers at the borders of the integer types, as far as `dtype` holds them."""
    near = [2**k + d for k in (0, 7, 8, 15, 16, 24) for d in (-1, 0, 1)]
    if dtype is dtypes.bool:
        return np.array([False, True])
    if dtype.category == 2:  # of these, only what every type holds converts alike everywhere
        return np.array([0, 1, 2, 100, 127], dtype.values)
    info = np.iinfo(dtype.values)
    both = [*near, *(-n for n in near), info.min, info.max]
    return np.array([n for n in both if info.min <= n <= info.max], dtype.np)


def test_casts_of_casts() -> None:
    for first in REAL:
        builder = GraphBuilder()
        values = telling(first)
        x = builder.node("input", attrs=(0, values.shape, first))
        ways = list(product(REAL, repeat=2))
        outputs = [builder.node("cast", builder.node("cast", x, attrs=a), attrs=b) for a, b in ways]
        check(builder, outputs, [values], [(first.name, a.name, b.name) for a, b in ways])


def test_permutations_of_permutations() -> None:
    builder = GraphBuilder()
    x = builder.node("input", attrs=(0, (2, 3, 4), F))
    pairs = list(product(permutations(range(3)), repeat=2))
    outputs = [builder.node("permute", builder.node("permute", x, attrs=p), attrs=q) for p, q in pairs]
    check(builder, outputs, [np.arange(24, dtype=np.float32).reshape(2, 3, 4)], pairs)


def parts(length: int) -> list[tuple[tuple[int], tuple[int], tuple[int]]]:
    """(starts, sizes, steps) of every part of an axis with an element in it."""
    return [
        ((start,), (n,), (step,))
        for start, n, step in product(range(length), range(1, length + 1), (1, 2, 3))
        if start + (n - 1) * step < length and (n > 1 or step == 1)
    ]


def test_parts_of_joined_values() -> None:
    builder = GraphBuilder()
    sizes = (2, 1, 3)
    joined = builder.node("cat", *[builder.node("input", attrs=(k, (n,), F)) for k, n in enumerate(sizes)], attrs=0)
    regions = parts(sum(sizes))
    outputs = [builder.node("slice", joined, attrs=region) for region in regions]
    check(builder, outputs, [10 * k + np.arange(n, dtype=np.float32) for k, n in enumerate(sizes)], regions)


def test_parts_read_after_parts_are_written() -> None:
    length = 6
    before, written = np.arange(length, dtype=np.float32), 10 + np.arange(length, dtype=np.float32)
    for starts, sizes, steps in parts(length):
        builder = GraphBuilder()
        x = builder.node("input", attrs=(0, (length,), F))
        value = builder.node("input", attrs=(1, sizes, F))
        update = builder.node("slice_update", x, value, attrs=(starts, steps))
        place = builder.node("place", value, attrs=((length,), starts, steps))
        regions = parts(length)
        outputs = [builder.node("slice", whole, attrs=r) for whole in (update, place) for r in regions]
        names = [(starts, sizes, steps, r) for r in (*regions, *regions)]
        check(builder, outputs, [before, written[: sizes[0]]], names)
