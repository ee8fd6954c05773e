"""The checker accepts what the language allows and names what it does not."""

from __future__ import annotations

import pytest

from adjoint import dtypes
from adjoint.ir.check import ARITY, MalformedGraph, check_graph
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.ir.prims import PRIMS
from adjoint.testing.graphs import MAKERS, random_case

pytestmark = pytest.mark.any_mode

F, I, L, B = dtypes.float32, dtypes.int32, dtypes.int64, dtypes.bool


class Build:
    def __init__(self) -> None:
        self.b = GraphBuilder()
        self.x = self.b.node("input", attrs=(0, (3, 4), F))
        self.i = self.b.node("input", attrs=(1, (3, 4), I))
        self.v = self.b.node("input", attrs=(2, (4,), F))
        self.k = self.b.node("input", attrs=(3, (2,), L))
        self.p = self.b.node("input", attrs=(4, (3, 4), B))
        self.s = self.b.node("scalar", attrs=(0, (), L))

    def __call__(self, name, *args, to=None):
        return self.b.node(name, *args, attrs=to)


MALFORMED = [
    ("pointwise shapes", lambda m: m("add", m.x, m("reshape", m.x, to=(4, 3)))),
    ("implicit broadcast", lambda m: m("add", m.x, m.v)),
    ("pointwise dtypes", lambda m: m("add", m.x, m.i)),
    ("arity", lambda m: m("add", m.x)),
    ("condition", lambda m: m("where", m.x, m.x, m.x)),
    ("branches", lambda m: m("where", m.p, m.x, m.i)),
    ("exp of integers", lambda m: m("exp", m.i)),
    ("neg of booleans", lambda m: m("neg", m.p)),
    ("shift of floats", lambda m: m("shift_left", m.x, m.x)),
    ("exponent", lambda m: m("integer_pow", m.x, to=2.0)),
    ("expand", lambda m: m("expand", m.v, to=(3, 5))),
    ("expand to less", lambda m: m("expand", m.x, to=(4,))),
    ("reshape", lambda m: m("reshape", m.x, to=(5,))),
    ("permute", lambda m: m("permute", m.x, to=(0, 0))),
    ("flip", lambda m: m("flip", m.x, to=(2,))),
    ("flip order", lambda m: m("flip", m.x, to=(1, 0))),
    ("slice beyond", lambda m: m("slice", m.x, to=((0, 2), (3, 3), (1, 1)))),
    ("slice by steps beyond", lambda m: m("slice", m.x, to=((0, 0), (3, 3), (1, 2)))),
    ("slice backwards", lambda m: m("slice", m.x, to=((0, 3), (3, 2), (1, -1)))),
    ("slice without its start", lambda m: m("slice", m.x, to=((0, None), (3, 2), (1, 1)))),
    ("slice with a start too many", lambda m: m("slice", m.x, m.s, to=((0, 0), (3, 2), (1, 1)))),
    (
        "start that is no integer",
        lambda m: m("slice", m.v, m("const", to=(1.0, F)), to=((None,), (2,), (1,))),
    ),
    ("place beyond", lambda m: m("place", m.v, to=((4,), (1,), (1,)))),
    ("slice_update beyond", lambda m: m("slice_update", m.v, m.v, to=((1,), (1,)))),
    ("cat", lambda m: m("cat", m.x, m("permute", m.x, to=(1, 0)), to=0)),
    ("cat of nothing", lambda m: m("cat", m.x, m.i, to=0)),
    ("window", lambda m: m("window", m.x, to=((1, 1), (2, 2), (1, 1), (1, 1)))),
    ("window stride", lambda m: m("window", m.x, to=((1,), (2,), (-1,), (1,)))),
    ("sum axes", lambda m: m("sum", m.x, to=(1, 0))),
    ("sum negative axis", lambda m: m("sum", m.x, to=(-1,))),
    ("argmax axis", lambda m: m("argmax", m.x, to=2)),
    ("matmul", lambda m: m("matmul", m.x, m.x)),
    ("attention", lambda m: m("attention", m.x, m.x, m.v, to=False)),
    ("mask of attention", lambda m: m("attention", m.x, m.x, m.x, m.p, to=False)),
    ("attention without a cotangent", lambda m: m("attention_backward", m.x, m.x, m.x, m.x, m.v, m.v, to=False)),
    ("take", lambda m: m("take", m.x, m.i)),
    ("put", lambda m: m("put", m.x, m.k, m.v)),
    ("put_add", lambda m: m("put_add", m.k, m.x, to=5)),
    ("inverse of what is not square", lambda m: m("inv", m.x)),
    ("full", lambda m: m("full", m.v, to=(3, 4))),
    ("const", lambda m: m("const", to=(300, dtypes.uint8))),
    ("pick", lambda m: m("pick", m.x, to=0)),
    ("several results used as one", lambda m: m("neg", m("qr", m.x))),
]


@pytest.mark.parametrize(("what", "build"), MALFORMED, ids=[what for what, _ in MALFORMED])
def test_malformed(what, build) -> None:
    m = Build()
    graph = m.b.finish([build(m)])
    with pytest.raises(MalformedGraph):
        check_graph(graph)


def test_two_inputs_at_one_place() -> None:
    m = Build()
    other = m("input", to=(0, (3, 4), dtypes.float64))
    graph = m.b.finish([m("cast", m.x, to=dtypes.float64), other])
    with pytest.raises(MalformedGraph, match="one node for each place"):
        check_graph(graph)


def test_order_and_membership() -> None:
    m = Build()
    graph = m.b.finish([m("neg", m("exp", m.x))])
    check_graph(graph)
    x, e, n = graph.nodes
    with pytest.raises(MalformedGraph, match="the index 1"):
        check_graph(Graph([x, n, e], [n]))
    with pytest.raises(MalformedGraph, match="operands that come before"):
        n.index, e.index = 1, 2
        check_graph(Graph([x, n, e], [n]))
    other = Build()
    foreign = other.b.finish([other("neg", other.x)])
    with pytest.raises(MalformedGraph, match="outputs among the nodes"):
        check_graph(Graph(foreign.nodes, [n]))


def test_stored_aval_is_compared_with_the_rule() -> None:
    m = Build()
    graph = m.b.finish([m("sum", m.x, to=(0,))])
    graph.outputs[0].shape = (3,)
    with pytest.raises(MalformedGraph, match="what the rule of sum gives"):
        check_graph(graph)


def test_tables_cover_the_closed_set() -> None:
    assert set(ARITY) | {"cat"} == set(PRIMS)
    assert set(MAKERS) == set(PRIMS)


def test_random_graphs_are_well_formed_and_reach_every_primitive() -> None:
    seen = set()
    for seed in range(250):
        case = random_case(seed)
        check_graph(case.graph)
        seen |= {n.prim.name for n in case.graph.nodes}
    assert seen == set(PRIMS)
