"""Random graphs, seeded: what the compiler makes of them equals what the reference computes."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import check, random_graph

from adjoint import dtypes
from adjoint.ir.graph import GraphBuilder
from adjoint.ir.reference import run_graph
from adjoint.runtime.memory import Buffer
from adjoint.runtime.program import compile_graph
from adjoint.schedule.group import Grouping
from adjoint.schedule.prepare import prepare

pytestmark = pytest.mark.any_mode


@pytest.mark.parametrize("block", range(20))
def test_small(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        graph, arrays, scalars = random_graph(seed)
        check(graph, arrays, scalars, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("block", range(4))
def test_larger(block: int) -> None:
    for seed in range(10_000 + 5 * block, 10_000 + 5 * block + 5):
        graph, arrays, scalars = random_graph(seed, 30_000)
        check(graph, arrays, scalars, rtol=1e-3, atol=1e-3)


def test_the_draw_is_varied() -> None:
    """A generator that drew only trivial graphs would prove nothing."""
    names: set[str] = set()
    sizes = []
    for seed in range(150):
        graph, *_ = random_graph(seed)
        names.update(n.prim.name for n in graph.nodes)
        sizes.append(len(graph.nodes))
    wanted = "sum amax argmax cumsum take put_add put matmul window place slice_update cat flip random_bits where"
    assert set(wanted.split()) <= names
    assert np.mean(sizes) > 10


def test_steps_are_ordered_when_an_earlier_nest_was_joined_to_the_last_one() -> None:
    """The nest of x * cos(y) is opened before that of cos(y), which later comes to depend on a third."""
    b = GraphBuilder()
    y = b.node("input", attrs=(0, (1, 4), dtypes.float32))
    x = b.node("input", attrs=(1, (3, 4), dtypes.float32))
    square = b.node("matmul", y, b.node("reshape", y, attrs=(4, 1)))
    power = b.node("exp", x)
    cosine = b.node("cos", y)
    product = b.node("mul", x, b.node("expand", cosine, attrs=(3, 4)))
    number = b.node("reshape", b.node("tanh", square), attrs=())
    moved = b.node("add", y, b.node("expand", number, attrs=(1, 4)))
    graph = b.finish([square, power, product, moved])
    order = Grouping(prepare(graph)).order()
    place = {u.id: k for k, u in enumerate(order)}
    for unit in order:
        for m in range(len(order)):
            assert not unit.preds >> m & 1 or place[m] < place[unit.id]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(1, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)]
    program = compile_graph(graph)
    for _ in range(3):
        found = program.run([Buffer.from_array(a) for a in arrays], [])
        for out, want, node in zip(found, run_graph(graph, arrays, []), graph.outputs, strict=True):
            np.testing.assert_allclose(out.array(node.dtype.np, node.shape), want, rtol=1e-5)
