"""Programs at run time: threads, cold start, fallbacks, errors, memory."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "schedule"))

from graphs import check, given, native, results

from adjoint import dtypes as dt
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.ir.reference import run_graph
from adjoint.runtime import jit, pool
from adjoint.runtime.program import compile_graph

pytestmark = pytest.mark.any_mode


def chain(n: int) -> Graph:
    """Several kernels with intermediates: sums of sums, a product, an output or two."""
    b = GraphBuilder()
    x, y = given(b, 0, (n, n)), given(b, 1, (n, n))
    z = b.node("tanh", b.node("matmul", x, y))
    s = b.node("sum", z, attrs=(0,))
    w = b.node("mul", z, b.node("expand", s, attrs=(n, n)))
    return b.finish([w, b.node("sum", w, attrs=(0, 1)), b.node("argmax", w, attrs=1)])


def test_cold_program_is_interpreted_once() -> None:
    b = GraphBuilder()
    x = given(b, 0, (10,))
    graph = b.finish([b.node("mul", x, x)])
    compiled = jit.counters.kernels_compiled + jit.counters.kernels_reused
    program = compile_graph(graph)
    values = np.linspace(-1, 1, 10, dtype="f")
    first = results(program, graph, [values], [])[0].copy()
    assert jit.counters.kernels_compiled + jit.counters.kernels_reused == compiled
    second = results(program, graph, [values], [])[0]
    assert jit.counters.kernels_compiled + jit.counters.kernels_reused == compiled + 1
    np.testing.assert_array_equal(first, second)


def test_inexact_program_never_changes_its_bits() -> None:
    b = GraphBuilder()
    graph = b.finish([b.node("exp", given(b, 0, (10,)))])
    program = compile_graph(graph)
    values = np.linspace(-1, 1, 10, dtype="f")
    np.testing.assert_array_equal(
        results(program, graph, [values], [])[0].copy(), results(program, graph, [values], [])[0]
    )


def test_without_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "available", lambda: False)
    graph = chain(5)
    program = compile_graph(graph)
    arrays = [np.random.default_rng(i).normal(size=(5, 5)).astype("f") for i in range(2)]
    for got, want in zip(
        results(program, graph, arrays, []), run_graph(graph, arrays, []), strict=True
    ):
        np.testing.assert_array_equal(got, want)
    assert program.n_kernels == 0 and program.kernels == []


def test_many_threads_in_one_program() -> None:
    graph = chain(40)
    program = native(graph)
    inputs = [
        [np.random.default_rng(10 * t + i).normal(size=(40, 40)).astype("f") for i in range(2)]
        for t in range(6)
    ]
    expected = [[a.copy() for a in results(program, graph, arrays, [])] for arrays in inputs]
    wrong: list[int] = []

    def work(t: int) -> None:
        for _ in range(100):
            for got, want in zip(results(program, graph, inputs[t], []), expected[t], strict=True):
                if not np.array_equal(got, want):
                    wrong.append(t)

    threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_thread_count_does_not_change_bits() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(700, 900)).astype("f")
    b = GraphBuilder()
    node = given(b, 0, x.shape)
    e = b.node("exp", node)
    graph = b.finish(
        [
            b.node("sum", e, attrs=(0, 1)),
            b.node("sum", e, attrs=(0,)),
            b.node("sum", e, attrs=(1,)),
            e,
        ]
    )
    program = native(graph)
    before = pool.get_num_threads()
    try:
        seen = []
        for count in (1, 2, 5):
            pool.set_num_threads(count)
            seen.append([a.copy() for a in results(program, graph, [x], [])])
    finally:
        pool.set_num_threads(before)
    for other in seen[1:]:
        for a, c in zip(seen[0], other, strict=True):
            np.testing.assert_array_equal(a, c)


def test_error_leaves_a_usable_program() -> None:
    b = GraphBuilder()
    table, index = given(b, 0, (6, 3), dt.float64), given(b, 1, (4,), dt.int64)
    taken = b.node("take", table, index)
    graph = b.finish([b.node("exp", taken), b.node("put_add", index, taken, attrs=6)])
    program = native(graph)
    x = np.arange(18.0).reshape(6, 3)
    for _ in range(3):
        with pytest.raises(
            IndexError, match="index -7 is out of bounds for dimension 0 with size 6"
        ):
            results(program, graph, [x, np.array([0, -7, 3, 99])], [])
        good = np.array([0, -6, 3, 5])
        np.testing.assert_allclose(results(program, graph, [x, good], [])[0], np.exp(x[good]))


def test_scalars_of_any_python_number() -> None:
    b = GraphBuilder()
    whole, real = (
        b.node("scalar", attrs=(0, (), dt.int64)),
        b.node("scalar", attrs=(1, (), dt.float32)),
    )
    graph = b.finish([b.node("add", whole, whole), b.node("mul", real, real)])
    for scalars in (
        [3, 2.5],
        [True, 2],
        [np.int64(4), np.float32(0.1)],
        [(1 << 62), 1e300],
        [2.9, 1],
    ):
        with np.errstate(over="ignore"):
            check(graph, [], scalars)


def test_unused_inputs_may_be_passed() -> None:
    b = GraphBuilder()
    given(b, 0, (3,))
    y = given(b, 1, (3,))
    given(b, 2, (3,))
    graph = b.finish([b.node("neg", y)])
    arrays = [np.full(3, i, "f") for i in range(3)]
    np.testing.assert_array_equal(results(native(graph), graph, arrays, [])[0], [-1, -1, -1])


def test_intermediates_share_an_arena() -> None:
    """A long chain of reductions and products needs two or three blocks of memory, not one each."""
    b = GraphBuilder()
    x = given(b, 0, (64, 64))
    for _ in range(12):
        x = b.node("tanh", b.node("matmul", x, x))
    graph = b.finish([x])
    program = native(graph)
    results(program, graph, [np.eye(64, dtype="f")], [])
    assert program._built is not None
    assert program._built.plan.arena_bytes <= 4 * 64 * 64 * 4


def test_reports() -> None:
    graph = chain(64)
    program = native(graph)
    assert program.n_kernels == len(program.kernels) >= 3
    assert program.flops >= 2 * 64**3 and program.bytes_moved >= 3 * 64 * 64 * 4
    assert "nest [" in program.text and "matmul" in program.text
