"""The printed program runs and computes what the graph computes."""

from __future__ import annotations

import numpy as np
import pytest

from adjoint import dtypes
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.ir.prims import PRIMS
from adjoint.ir.reference import REFERENCE, run_graph
from adjoint.ir.text import ATTRIBUTES, primitives, program_text
from adjoint.testing.graphs import random_case
from adjoint.testing.values import same_bits

pytestmark = pytest.mark.any_mode


def run_text(text: str, graph: Graph, inputs: list, scalars: list) -> list:
    namespace: dict = {}
    exec(text, namespace)  # noqa: S102
    places = [(n.prim.name, n.attrs[0]) for n in graph.nodes if n.prim.kind == "boundary"]
    given = {f"{kind[0]}{k}": (inputs if kind == "input" else scalars)[k] for kind, k in places}
    return list(namespace["program"](**given))


@pytest.mark.parametrize("block", range(4))
def test_text_of_random_graphs_computes_the_same(block: int) -> None:
    for seed in range(50 * block, 50 * block + 50):
        case = random_case(seed)
        text = program_text(case.graph)
        # the same NumPy calls on the same arrays, so they agree to the bit
        expected = run_graph(case.graph, case.inputs, case.scalars)
        found = run_text(text, case.graph, case.inputs, case.scalars)
        assert len(found) == len(expected)
        for a, b in zip(expected, found, strict=True):
            assert same_bits(np.asarray(a), np.asarray(b)), text


def test_text_is_readable() -> None:
    b = GraphBuilder()
    x = b.node("input", attrs=(0, (3, 4), dtypes.float32))
    start = b.node("scalar", attrs=(1, (), dtypes.int64))
    row = b.node("slice", x, start, attrs=((None, 0), (1, 4), (1, 1)))
    lowest = b.node(
        "where", b.node("isnan", row), b.const(float("-inf"), dtypes.float32, (1, 4)), row
    )
    s = b.node("pick", b.node("svd", x), attrs=1)
    text = program_text(b.finish([lowest, s, lowest]))
    assert text.splitlines() == [
        "from adjoint.ir.text import primitives as p",
        "",
        "",
        "def program(i0, s1):  # float32[3, 4], int64[]",
        "    v1 = p.scalar(s1, dtype=p.int64)  # int64[]",
        "    v2 = p.slice(i0, v1, starts=(None, 0), sizes=(1, 4), steps=(1, 1))  # float32[1, 4]",
        "    v3 = p.isnan(v2)  # bool[1, 4]",
        '    v4 = p.const(value=float("-inf"), dtype=p.float32)  # float32[]',
        "    v5 = p.expand(v4, shape=(1, 4))  # float32[1, 4]",
        "    v6 = p.where(v3, v5, v2)  # float32[1, 4]",
        "    v7 = p.svd(i0)  # float32[3, 3], float32[3], float32[3, 4]",
        "    v8 = p.pick(v7, result=1)  # float32[3]",
        "    return (v6, v8, v6)",
    ]


def test_every_primitive_can_be_called_and_every_attribute_has_a_name() -> None:
    assert set(REFERENCE) == set(PRIMS) - {"input", "scalar"}
    assert all(callable(getattr(primitives, name)) for name in PRIMS if name != "input")
    assert set(ATTRIBUTES) <= set(PRIMS)
    for seed in range(250):
        for node in random_case(seed).graph.nodes:
            if node.prim.kind != "boundary":
                assert (node.attrs is not None) == (node.prim.name in ATTRIBUTES)
