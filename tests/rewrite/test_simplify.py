"""Simplification as a whole: the same bits on random graphs, passes one by one, outputs, time."""

from __future__ import annotations

import numpy as np
import pytest

from adjoint import dtypes
from adjoint.ir.check import check_graph
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.ir.reference import run_graph
from adjoint.rewrite import PASSES, simplify
from adjoint.rewrite.pipeline import merge_rules
from adjoint.rewrite.rewriter import Rewriter, constant
from adjoint.testing.graphs import Case, random_case
from adjoint.testing.values import evaluate, same_bits

pytestmark = pytest.mark.any_mode

F = dtypes.float32


def first_difference(case: Case, simplified: Graph) -> str | None:
    before = evaluate(case.graph, case.inputs, case.scalars)
    after = evaluate(simplified, case.inputs, case.scalars)
    assert len(before) == len(after)
    for k, (a, b) in enumerate(zip(before, after, strict=True)):
        if not same_bits(a, b):
            return (
                f"seed {case.seed}, output {k}:\n{a}\n{b}\n{case.graph}\nsimplified:\n{simplified}"
            )
    return None


@pytest.mark.parametrize("block", range(10))
def test_random_graphs_keep_their_bits(block: int) -> None:
    for seed in range(60 * block, 60 * block + 60):
        case = random_case(seed)
        found = simplify(case.graph)
        check_graph(found)
        difference = first_difference(case, found)
        assert difference is None, difference
        assert len(found.nodes) <= 3 * len(case.graph.nodes)


@pytest.mark.parametrize("name", [name for name, _ in PASSES])
def test_each_pass_alone(name: str) -> None:
    rules = dict(PASSES)[name]
    for seed in range(1000, 1080):
        case = random_case(seed)
        found = Rewriter(rules).rebuild(case.graph)
        check_graph(found)
        difference = first_difference(case, found)
        assert difference is None, difference


def test_random_graphs_meet_every_rule() -> None:
    met = set()

    def watched(rule):
        def watch(b, args, attrs):
            found = rule(b, args, attrs)
            if found is not None:
                met.add(rule.__name__)
            return found

        return watch

    table = {name: [watched(r) for r in rules] for name, rules in merge_rules(PASSES).items()}
    for seed in range(600):
        Rewriter(table).rebuild(random_case(seed).graph)
    missing = {r.__name__ for _, rules in PASSES for found in rules.values() for r in found} - met
    assert not missing


def _zero(b, args, attrs):
    return b.const(0, args[0].dtype, args[0].shape) if constant(args[1]) == 0 else None


# Rules that are nearly right: the fuzzer has to tell them from the real ones.
WRONG = [
    ("x * 0 -> 0", "mul", _zero),
    ("x + 0.0 -> x", "add", lambda b, args, attrs: args[0] if constant(args[1]) == 0 else None),
    (
        "-(x - y) -> y - x",
        "neg",
        lambda b, args, attrs: (
            b.make("sub", *args[0].args[::-1]) if args[0].prim.name == "sub" else None
        ),
    ),
    (
        "not x < y -> x >= y",
        "logical_not",
        lambda b, args, attrs: b.make("ge", *args[0].args) if args[0].prim.name == "lt" else None,
    ),
    (
        "cast of cast -> cast",
        "cast",
        lambda b, args, attrs: (
            b.make("cast", args[0].args[0], attrs=attrs) if args[0].prim.name == "cast" else None
        ),
    ),
    (
        "slice of place -> its operand, wherever they are",
        "slice",
        lambda b, args, attrs: (
            args[0].args[0]
            if args[0].prim.name == "place" and args[0].args[0].shape == attrs[1]
            else None
        ),
    ),
    (
        "permute of permute in the wrong order",
        "permute",
        lambda b, args, attrs: (
            b.make("permute", args[0].args[0], attrs=tuple(attrs[p] for p in args[0].attrs))
            if args[0].prim.name == "permute" and len(set(args[0].args[0].shape)) == 1
            else None
        ),
    ),
]


@pytest.mark.parametrize(("why", "name", "rule"), WRONG, ids=[w for w, _, _ in WRONG])
def test_a_wrong_rule_is_found_out(why, name, rule) -> None:
    themes = {
        "neg": ("input", "sub", "neg", "const", "expand"),
        "logical_not": ("input", "lt", "logical_not", "where"),
        "permute": ("input", "permute", "reshape", "window"),
    }
    for seed in range(600):
        case = random_case(seed, prims=themes.get(name))
        if first_difference(case, Rewriter({name: [rule]}).rebuild(case.graph)) is not None:
            return
    pytest.fail(f"600 random graphs do not tell that {why} is wrong")


def test_outputs_keep_their_order_and_number() -> None:
    b = GraphBuilder()
    x = b.node("input", attrs=(1, (3,), F))
    y = b.node("neg", b.node("neg", x))
    two = b.node("mul", b.const(1.0, F, (3,)), b.const(2.0, F, (3,)))
    graph = b.finish([y, x, two, two, b.node("exp", y)])
    before = repr(graph)
    found = simplify(graph)
    check_graph(found)
    assert [o.prim.name for o in found.outputs] == ["input", "input", "expand", "expand", "exp"]
    assert found.outputs[0] is found.outputs[1]
    assert found.outputs[0].attrs[0] == 1  # its place in the caller's list
    assert repr(graph) == before


def test_equal_applications_are_one_and_dead_ones_none() -> None:
    b = GraphBuilder()
    x, y = (b.node("input", attrs=(k, (3,), F)) for k in range(2))
    b.node("exp", y)
    s = b.node("sub", b.node("add", x, y), b.node("add", y, x))
    found = simplify(b.finish([s]))
    assert [n.prim.name for n in found.nodes] == ["input", "input", "add", "sub"]


@pytest.mark.parametrize("name", [name for name, _ in PASSES])
def test_a_pass_can_be_left_out(name: str, monkeypatch) -> None:
    samples = {
        "constants": lambda b, x: b.node("mul", b.const(2.0, F), b.const(3.0, F)),
        "movement": lambda b, x: b.node("flip", b.node("flip", x, attrs=(0,)), attrs=(0,)),
        "regions": lambda b, x: b.node("cat", x, attrs=0),
        "algebra": lambda b, x: b.node("neg", b.node("neg", x)),
        "broadcast": lambda b, x: b.node("exp", b.node("expand", x, attrs=(5, 3))),
        "reductions": lambda b, x: b.node("amax", x, attrs=()),
    }
    b = GraphBuilder()
    graph = b.finish([samples[name](b, b.node("input", attrs=(0, (3,), F)))])
    assert repr(simplify(graph)) != repr(graph)
    monkeypatch.setenv("ADJOINT_DISABLE", f"another, {name}")
    assert repr(simplify(graph)) == repr(graph)
    monkeypatch.setenv("ADJOINT_DISABLE", "simplify")
    assert simplify(graph) is graph


def test_debug_prints_before_and_after(monkeypatch, capsys) -> None:
    b = GraphBuilder()
    graph = b.finish([b.node("neg", b.node("neg", b.node("input", attrs=(0, (3,), F))))])
    simplify(graph)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("ADJOINT_DEBUG", "5")
    simplify(graph)
    err = capsys.readouterr().err
    assert "%2 = neg(%1)" in err and "return %0" in err


class Counting(Rewriter):
    """Counts applications, as a clock that does not depend on the machine."""

    calls = 0

    def make(self, name, *args, attrs=None):
        type(self).calls += 1
        return super().make(name, *args, attrs=attrs)


def _long_graph(n: int) -> Graph:
    """Scaled, shifted, sliced, negated, broadcast: every pass has work at each step."""
    b = GraphBuilder()
    x, w = b.node("input", attrs=(0, (4, 5), F)), b.node("input", attrs=(1, (), F))
    v = x
    for k in range(n):
        scale = b.node("mul", b.const(float(k), F, (4, 5)), b.node("expand", w, attrs=(4, 5)))
        v = b.node("add", b.node("neg", b.node("mul", v, scale)), b.const(-0.0, F, (4, 5)))
        part = b.node("slice", v, attrs=((1, 0), (2, 5), (1, 1)))
        back = b.node("place", part, attrs=((4, 5), (1, 0), (1, 1)))
        v = b.node("add", v, b.node("permute", b.node("permute", back, attrs=(1, 0)), attrs=(1, 0)))
    return b.finish([v])


def test_time_in_proportion_to_nodes() -> None:
    counts = []
    for n in (100, 400):
        Counting.calls = 0
        Counting(merge_rules(PASSES)).rebuild(_long_graph(n))
        counts.append(Counting.calls)
    assert counts[1] < 4.1 * counts[0]


def test_a_long_graph_computes_the_same() -> None:
    graph = _long_graph(12)
    found = simplify(graph)
    assert len(found.nodes) < len(graph.nodes) * 0.75
    inputs = [np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5), np.float32(0.1)]
    [a], [b] = run_graph(graph, inputs, []), run_graph(found, inputs, [])
    assert same_bits(a, np.asarray(b))


def test_many_slices_of_a_wide_cat() -> None:
    """Each slice finds its part by bisection: a thousand parts are not a million steps."""
    b = GraphBuilder()
    parts = [b.node("input", attrs=(k, (2, 1), F)) for k in range(1000)]
    whole = b.node("cat", *parts, attrs=1)
    outs = [b.node("slice", whole, attrs=((0, k), (2, 1), (1, 1))) for k in range(1000)]
    found = simplify(b.finish(outs))
    assert [o.attrs[0] for o in found.outputs] == list(range(1000))
    assert all(o.prim.name == "input" for o in found.outputs)
