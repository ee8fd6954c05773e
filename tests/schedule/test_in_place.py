"""Which results may lie where an input lies, and that they are the same there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import random_graph, results

from adjoint import dtypes
from adjoint.ir.graph import GraphBuilder, Node
from adjoint.runtime import jit
from adjoint.runtime.in_place import Once
from adjoint.runtime.memory import Buffer
from adjoint.runtime.plan import Plan
from adjoint.runtime.program import Program
from adjoint.runtime.scheduled import Scheduled
from adjoint.schedule import in_place
from adjoint.storage import encode

pytestmark = pytest.mark.skipif(not jit.available(), reason="no LLVM")
SHAPE = (64, 160)


def plan(make: Callable[..., list[Node]], *shapes: tuple[int, ...]) -> Plan:
    """The plan of what `make` computes from a builder and float32 inputs."""
    b = GraphBuilder()
    inputs = [b.node("input", attrs=(k, shape, dtypes.float32)) for k, shape in enumerate(shapes)]
    return Scheduled(b.finish(make(b, *inputs)), len(shapes)).plan


def step(b: GraphBuilder, p: Node, g: Node) -> Node:
    return b.node("sub", p, b.node("mul", g, g))


def test_an_update_lies_where_the_parameter_lay() -> None:
    assert (0, 0) in plan(lambda b, p, g: [step(b, p, g)], SHAPE, SHAPE).in_place


def test_two_updates_take_two_places() -> None:
    def adam(b: GraphBuilder, p: Node, m: Node, g: Node) -> list[Node]:
        new = b.node("add", m, g)
        return [b.node("sub", p, new), new]

    assert {(0, 0), (1, 1)} <= set(plan(adam, SHAPE, SHAPE, SHAPE).in_place)


def test_an_update_waits_for_those_that_read_the_parameter() -> None:
    def layer(b: GraphBuilder, p: Node, x: Node) -> list[Node]:
        g = b.node("matmul", b.node("permute", x, attrs=(1, 0)), x)  # what p is updated with is there first
        return [step(b, p, g), b.node("matmul", x, p)]

    made = plan(layer, (160, 160), SHAPE)
    assert made.in_place == [(0, 0)]
    assert made.names[-1] != "matmul"


@pytest.mark.parametrize(
    "make",
    [
        lambda b, p: [b.node("add", p, b.node("flip", p, attrs=(0,)))],
        lambda b, p: [b.node("flip", p, attrs=(1,))],
        lambda b, p: [b.node("reshape", b.node("permute", p, attrs=(1, 0)), attrs=SHAPE)],
    ],
    ids=["with another element", "backwards", "across"],
)
def test_elements_that_move_stay(make: Callable[..., list[Node]]) -> None:
    assert plan(make, SHAPE).in_place == []


def test_what_a_result_needs_that_comes_after_stays() -> None:
    def both(b: GraphBuilder, p: Node, x: Node) -> list[Node]:
        new = b.node("add", p, p)
        return [new, b.node("matmul", b.node("matmul", x, new), p)]  # the second product cannot come before

    made = plan(both, (160, 160), SHAPE)
    assert made.in_place == []


def test_what_does_not_read_it_takes_no_place() -> None:
    def copy(b: GraphBuilder, p: Node, g: Node) -> list[Node]:
        return [b.node("neg", g), b.node("add", p, g)]

    assert (0, 0) not in plan(copy, SHAPE, SHAPE).in_place


def test_vectors_that_overlap_stay() -> None:
    assert plan(lambda b, p, g: [step(b, p, g)], (83, 101), (83, 101)).in_place == []


def test_small_results_have_memory_kept_ready_anyway() -> None:
    assert plan(lambda b, p, g: [step(b, p, g)], (16, 16), (16, 16)).in_place == []


def test_large_results_go_past_the_caches_where_they_lie_on_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tiling", "accesses"):
        monkeypatch.setattr(f"adjoint.codegen.{module}.STREAM_BYTES", 1 << 15)
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend("".join([k[1], *k[2]]) for k in kernels) or plain(kernels))
    b = GraphBuilder()
    p, g = (b.node("input", attrs=(k, (64, 256), dtypes.float32)) for k in (0, 1))
    program = Program(b.finish([step(b, p, g), b.node("add", g, g)]))
    program.compile()
    assert len(texts) == 1
    assert texts[0].count("!nontemporal !0") == 2 == texts[0].count("define internal void @adjoint.")
    assert (0, 0) in program.in_place
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((64, 256)).astype(np.float32) for _ in range(2)]
    for given in ({}, {0: 0}, {1: 1}, {0: 0, 1: 1}):
        buffers = [Buffer.from_array(a.copy()) for a in arrays]
        found = Once(program, buffers, [], given).finish()
        assert [int(found[k]) == int(buffers[k]) for k in (0, 1)] == [k in given for k in (0, 1)]
        for got, wanted in zip(found, (arrays[0] - arrays[1] * arrays[1], arrays[1] + arrays[1]), strict=True):
            np.testing.assert_array_equal(got.array(np.float32, (64, 256)), wanted)


@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("block", range(6))
def test_random_graphs_have_the_same_bits_in_place(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "LEAST", 0)
    if block % 2:  # as of tensors that no cache holds
        for module in ("tiling", "accesses"):
            monkeypatch.setattr(f"adjoint.codegen.{module}.STREAM_BYTES", 1 << 12)
    found = 0
    for seed in range(60 * block, 60 * block + 60):
        graph, arrays, scalars = random_graph(seed, 3000 if seed % 4 == 0 else 96)
        program = Program(graph)
        program.compile()
        if not program.in_place:
            continue
        expected = [a.copy() for a in results(program, graph, arrays, scalars)]
        kinds = {n.attrs[0]: n.dtype for n in graph.nodes if n.prim.name == "input"}
        buffers = [
            Buffer.from_array(np.ascontiguousarray(encode(a, kinds[k]) if k in kinds else a)) for k, a in enumerate(arrays)
        ]
        given: dict[int, int] = {}
        for k, i in program.in_place:
            if k not in given and i not in given.values():
                given[k] = i
        where = {k: int(buffers[i]) for k, i in given.items()}
        out = Once(program, buffers, scalars, given).finish()
        assert {k: int(out[k]) for k in where} == where
        for node, buffer, wanted in zip(graph.outputs, out, expected, strict=True):
            there = buffer.array(node.dtype.np, node.shape)
            assert there.tobytes() == np.ascontiguousarray(encode(wanted, node.dtype)).tobytes(), f"seed {seed}\n{program.text}"
        found += 1
    assert found
