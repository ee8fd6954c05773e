"""One example for each rule: what it takes, what it makes of it, and that the values stay.

A row of `EXAMPLES` is the rule's name, the graph before and the graph after, each as a function of
a builder and a few inputs. The completeness test names the rule that has no row.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from adjoint import dtypes
from adjoint.ir.check import check_graph
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.rewrite import PASSES, simplify
from adjoint.testing.values import evaluate, same_bits

pytestmark = pytest.mark.any_mode

F, I, B = dtypes.float32, dtypes.int32, dtypes.bool


class Inputs:
    """Nodes to start from: the inputs of SHAPES, and r and n, run-time scalars 1 and 0."""

    SHAPES: ClassVar = {
        "x": ((3, 4), F),
        "y": ((3, 4), F),
        "i": ((3, 4), I),
        "j": ((3, 4), I),
        "p": ((3, 4), B),
        "q": ((3, 4), B),
        "v": ((4,), F),
        "w": ((3, 1), F),
        "s": ((), F),
        "t": ((), F),
        "u": ((3, 4), dtypes.uint8),
        "c": ((3, 1, 2), F),
    }

    def __init__(self) -> None:
        self.builder = GraphBuilder()
        # all at once, in one order, so that the graphs before and after number them alike
        for place, (name, (shape, dtype)) in enumerate(self.SHAPES.items()):
            setattr(self, name, self.builder.node("input", attrs=(place, shape, dtype)))
        self.r = self.builder.node("scalar", attrs=(0, (), dtypes.int64))
        self.n = self.builder.node("scalar", attrs=(1, (), dtypes.int64))

    def __getattr__(self, name: str):
        """`m.add(a, b)` is the node add(a, b); attributes are the keyword `to`."""
        return lambda *args, to=None: self.builder.node(name, *args, attrs=to)

    def number(self, value: float, dtype=F, shape=(3, 4)) -> Node:
        return self.builder.const(value, dtype, shape)

    def graph(self, out: Node) -> Graph:
        return self.builder.finish([out])


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    made = []
    for shape, dtype in Inputs.SHAPES.values():
        if dtype.category == 2:
            a = rng.choice(
                [0.0, -0.0, np.nan, np.inf, -np.inf, 1.5, -2.25, 1e-40, 3.0, -1e38], shape
            )
        else:
            a = rng.integers(
                0 if not dtype.is_signed else -(2**31), 2 if dtype is B else 200, shape
            )
        made.append(np.asarray(a).astype(dtype.np))
    return made


def one(n: int) -> tuple[int, ...]:
    return (1,) * n


EXAMPLES = [
    # constants
    (
        "one_spelling",
        lambda m: m.mul(m.s, m.const(to=(3, F))),
        lambda m: m.mul(m.s, m.const(to=(3.0, F))),
    ),
    (
        "fold",
        lambda m: m.add(m.s, m.mul(m.const(to=(0.1, F)), m.const(to=(3.0, F)))),
        lambda m: m.add(m.s, m.const(to=((np.float32(0.1) * np.float32(3)).item(), F))),
    ),
    # algebra
    ("in_order", lambda m: m.mul(m.y, m.x), lambda m: m.mul(m.x, m.y)),
    (
        "in_order",
        lambda m: m.mul(m.number(0.3), m.x),
        lambda m: m.mul(m.x, m.number(np.float32(0.3).item())),
    ),
    ("add_nothing", lambda m: m.add(m.x, m.number(-0.0)), lambda m: m.x),
    ("add_nothing", lambda m: m.add(m.i, m.number(0, I)), lambda m: m.i),
    ("add_nothing", lambda m: m.add(m.mul(m.x, m.x), m.number(0.0)), lambda m: m.mul(m.x, m.x)),
    ("add_negative", lambda m: m.add(m.x, m.neg(m.y)), lambda m: m.sub(m.x, m.y)),
    ("add_negative", lambda m: m.add(m.neg(m.x), m.y), lambda m: m.sub(m.y, m.x)),
    ("sub_nothing", lambda m: m.sub(m.x, m.number(0.0)), lambda m: m.x),
    ("sub_from_nothing", lambda m: m.sub(m.number(-0.0), m.x), lambda m: m.neg(m.x)),
    ("sub_from_nothing", lambda m: m.sub(m.number(0, I), m.i), lambda m: m.neg(m.i)),
    ("sub_negative", lambda m: m.sub(m.x, m.neg(m.y)), lambda m: m.add(m.x, m.y)),
    ("sub_itself", lambda m: m.sub(m.i, m.i), lambda m: m.number(0, I)),
    ("mul_one", lambda m: m.mul(m.x, m.number(1.0)), lambda m: m.x),
    ("mul_one", lambda m: m.mul(m.number(-1.0), m.x), lambda m: m.neg(m.x)),
    ("mul_nothing", lambda m: m.mul(m.i, m.number(0, I)), lambda m: m.number(0, I)),
    ("mul_negatives", lambda m: m.mul(m.neg(m.x), m.neg(m.y)), lambda m: m.mul(m.x, m.y)),
    (
        "mul_negatives",
        lambda m: m.mul(m.neg(m.x), m.number(3.0)),
        lambda m: m.mul(m.x, m.number(-3.0)),
    ),
    ("div_one", lambda m: m.div(m.x, m.number(1.0)), lambda m: m.x),
    ("div_one", lambda m: m.div(m.x, m.number(-1.0)), lambda m: m.neg(m.x)),
    (
        "div_power_of_two",
        lambda m: m.div(m.x, m.number(-8.0)),
        lambda m: m.mul(m.x, m.number(-0.125)),
    ),
    ("div_negatives", lambda m: m.div(m.neg(m.x), m.neg(m.y)), lambda m: m.div(m.x, m.y)),
    (
        "div_negatives",
        lambda m: m.div(m.neg(m.x), m.number(3.0)),
        lambda m: m.div(m.x, m.number(-3.0)),
    ),
    ("small_power", lambda m: m.integer_pow(m.x, to=0), lambda m: m.number(1.0)),
    ("small_power", lambda m: m.integer_pow(m.x, to=1), lambda m: m.x),
    ("small_power", lambda m: m.integer_pow(m.x, to=2), lambda m: m.mul(m.x, m.x)),
    ("small_power", lambda m: m.integer_pow(m.x, to=-1), lambda m: m.div(m.number(1.0), m.x)),
    ("neg_neg", lambda m: m.neg(m.neg(m.x)), lambda m: m.x),
    (
        "neg_product",
        lambda m: m.neg(m.mul(m.x, m.number(3.0))),
        lambda m: m.mul(m.x, m.number(-3.0)),
    ),
    ("abs_neg", lambda m: m.abs(m.neg(m.x)), lambda m: m.abs(m.x)),
    ("same_again", lambda m: m.relu(m.relu(m.x)), lambda m: m.relu(m.x)),
    ("same_again", lambda m: m.sign(m.sign(m.x)), lambda m: m.sign(m.x)),
    ("round_whole", lambda m: m.floor(m.round(m.x)), lambda m: m.round(m.x)),
    ("round_whole", lambda m: m.ceil(m.i), lambda m: m.i),
    ("not_negative_already", lambda m: m.relu(m.u), lambda m: m.u),
    ("not_not", lambda m: m.logical_not(m.logical_not(m.x)), lambda m: m.cast(m.x, to=B)),
    ("not_not", lambda m: m.logical_not(m.logical_not(m.p)), lambda m: m.p),
    ("not_equal", lambda m: m.logical_not(m.eq(m.x, m.y)), lambda m: m.ne(m.x, m.y)),
    ("invert_twice", lambda m: m.bitwise_not(m.bitwise_not(m.i)), lambda m: m.i),
    ("cast_nothing", lambda m: m.cast(m.x, to=F), lambda m: m.x),
    ("cast_cast", lambda m: m.cast(m.cast(m.x, to=dtypes.float64), to=F), lambda m: m.x),
    (
        "cast_cast",
        lambda m: m.cast(m.cast(m.i, to=dtypes.float64), to=F),
        lambda m: m.cast(m.i, to=F),
    ),
    ("where_known", lambda m: m.where(m.number(True, B), m.x, m.y), lambda m: m.x),
    ("where_known", lambda m: m.where(m.number(False, B), m.x, m.y), lambda m: m.y),
    ("where_known", lambda m: m.where(m.p, m.x, m.x), lambda m: m.x),
    (
        "where_not",
        lambda m: m.where(m.logical_not(m.p), m.x, m.y),
        lambda m: m.where(m.p, m.y, m.x),
    ),
    (
        "where_where",
        lambda m: m.where(m.p, m.where(m.p, m.x, m.y), m.neg(m.y)),
        lambda m: m.where(m.p, m.x, m.neg(m.y)),
    ),
    (
        "where_where",
        lambda m: m.where(m.p, m.x, m.where(m.p, m.x, m.y)),
        lambda m: m.where(m.p, m.x, m.y),
    ),
    ("same_twice", lambda m: m.maximum(m.x, m.x), lambda m: m.x),
    ("or_nothing", lambda m: m.bitwise_xor(m.i, m.number(0, I)), lambda m: m.i),
    ("or_nothing", lambda m: m.shift_left(m.i, m.number(0, I)), lambda m: m.i),
    ("and_everything", lambda m: m.bitwise_and(m.i, m.number(-1, I)), lambda m: m.i),
    (
        "and_everything",
        lambda m: m.bitwise_and(m.p, m.number(False, B)),
        lambda m: m.number(False, B),
    ),
    # movement
    ("fill", lambda m: m.full(m.s, to=(2, 3)), lambda m: m.expand(m.s, to=(2, 3))),
    ("expand_nothing", lambda m: m.expand(m.x, to=(3, 4)), lambda m: m.x),
    (
        "expand_expand",
        lambda m: m.expand(m.expand(m.v, to=(3, 4)), to=(2, 3, 4)),
        lambda m: m.expand(m.v, to=(2, 3, 4)),
    ),
    ("expand_by_ones", lambda m: m.expand(m.v, to=(1, 4)), lambda m: m.reshape(m.v, to=(1, 4))),
    (
        "expand_one_element",
        lambda m: m.expand(m.slice(m.v, to=((2,), (1,), (1,))), to=(3, 4)),
        lambda m: m.expand(m.reshape(m.slice(m.v, to=((2,), (1,), (1,))), to=()), to=(3, 4)),
    ),
    (
        "expand_leading_ones",
        lambda m: m.expand(m.reshape(m.v, to=(1, 4)), to=(3, 4)),
        lambda m: m.expand(m.v, to=(3, 4)),
    ),
    ("reshape_nothing", lambda m: m.reshape(m.x, to=(3, 4)), lambda m: m.x),
    (
        "reshape_reshape",
        lambda m: m.reshape(m.reshape(m.x, to=(12,)), to=(2, 6)),
        lambda m: m.reshape(m.x, to=(2, 6)),
    ),
    (
        "reshape_uniform",
        lambda m: m.reshape(m.expand(m.s, to=(3, 4)), to=(12,)),
        lambda m: m.expand(m.s, to=(12,)),
    ),
    ("permute_nothing", lambda m: m.permute(m.x, to=(0, 1)), lambda m: m.x),
    (
        "permute_permute",
        lambda m: m.permute(m.permute(m.c, to=(2, 1, 0)), to=(2, 1, 0)),
        lambda m: m.c,
    ),
    (
        "permute_expand",
        lambda m: m.permute(m.expand(m.v, to=(3, 4)), to=(1, 0)),
        lambda m: m.expand(m.reshape(m.v, to=(4, 1)), to=(4, 3)),
    ),
    (
        "permute_ones",
        lambda m: m.permute(m.c, to=(1, 0, 2)),
        lambda m: m.reshape(m.c, to=(1, 3, 2)),
    ),
    ("flip_nothing", lambda m: m.flip(m.w, to=(0, 1)), lambda m: m.flip(m.w, to=(0,))),
    (
        "flip_nothing",
        lambda m: m.flip(m.expand(m.v, to=(3, 4)), to=(0,)),
        lambda m: m.expand(m.v, to=(3, 4)),
    ),
    (
        "flip_flip",
        lambda m: m.flip(m.flip(m.x, to=(0,)), to=(0, 1)),
        lambda m: m.flip(m.x, to=(1,)),
    ),
    # regions
    ("slice_whole", lambda m: m.slice(m.x, m.n, to=((0, None), (3, 4), (1, 1))), lambda m: m.x),
    (
        "slice_nothing",
        lambda m: m.slice(m.x, m.r, to=((None, 4), (2, 0), (1, 1))),
        lambda m: m.number(0.0, F, (2, 0)),
    ),
    (
        "slice_known",
        lambda m: m.slice(
            m.x, m.n, m.const(to=(2, dtypes.int64)), to=((None, None), (3, 1), (1, 2))
        ),
        lambda m: m.slice(m.x, to=((0, 2), (3, 1), (1, 1))),
    ),
    (
        "slice_slice",
        lambda m: m.slice(
            m.slice(m.x, m.r, to=((None, 1), (1, 3), (1, 1))), to=((0, 0), (1, 2), (1, 2))
        ),
        lambda m: m.slice(m.x, m.r, to=((None, 1), (1, 2), (1, 2))),
    ),
    (
        "slice_expand",
        lambda m: m.slice(m.expand(m.v, to=(3, 4)), to=((1, 1), (2, 2), (1, 1))),
        lambda m: m.expand(m.slice(m.v, to=((1,), (2,), (1,))), to=(2, 2)),
    ),
    (
        "slice_place",
        lambda m: m.slice(
            m.place(m.x, m.r, to=((6, 4), (None, 0), (1, 1))), m.r, to=((None, 0), (3, 4), (1, 1))
        ),
        lambda m: m.x,
    ),
    (
        "slice_place",
        lambda m: m.slice(m.place(m.x, to=((6, 9), (1, 2), (2, 1))), to=((0, 1), (6, 1), (1, 1))),
        lambda m: m.number(0.0, F, (6, 1)),
    ),
    (
        "slice_of_update",
        lambda m: m.slice(
            m.slice_update(m.x, m.w, m.r, to=((0, None), (1, 1))),
            m.r,
            to=((0, None), (3, 1), (1, 1)),
        ),
        lambda m: m.w,
    ),
    (
        "slice_of_update",
        lambda m: m.slice(
            m.slice_update(m.x, m.w, to=((0, 1), (1, 1))), m.r, to=((None, 2), (1, 2), (1, 1))
        ),
        lambda m: m.slice(m.x, m.r, to=((None, 2), (1, 2), (1, 1))),
    ),
    (
        "slice_of_update",
        lambda m: m.slice(
            m.slice_update(m.x, m.w, to=((0, 1), (1, 1))), m.r, to=((None, 1), (1, 1), (1, 1))
        ),
        lambda m: m.slice(m.w, m.r, to=((None, 0), (1, 1), (1, 1))),
    ),
    (
        "slice_cat",
        lambda m: m.slice(m.cat(m.x, m.w, m.y, to=1), to=((0, 5), (3, 2), (1, 2))),
        lambda m: m.slice(m.y, to=((0, 0), (3, 2), (1, 2))),
    ),
    ("place_whole", lambda m: m.place(m.x, to=((3, 4), (0, 0), (1, 1))), lambda m: m.x),
    (
        "place_nothing",
        lambda m: m.place(m.number(0.0), to=((5, 4), (1, 0), (1, 1))),
        lambda m: m.number(0.0, F, (5, 4)),
    ),
    (
        "place_known",
        lambda m: m.place(m.w, m.n, to=((3, 1), (0, None), (1, 3))),
        lambda m: m.w,
    ),
    (
        "place_known",
        lambda m: m.place(m.w, m.n, to=((5, 1), (1, None), (1, 3))),
        lambda m: m.place(m.w, to=((5, 1), (1, 0), (1, 1))),
    ),
    (
        "place_place",
        lambda m: m.place(m.place(m.v, to=((8,), (1,), (2,))), to=((20,), (3,), (2,))),
        lambda m: m.place(m.v, to=((20,), (5,), (4,))),
    ),
    (
        "combine_placed",
        lambda m: m.add(*[m.place(a, m.r, to=((7, 4), (None, 0), (1, 1))) for a in (m.x, m.y)]),
        lambda m: m.place(m.add(m.x, m.y), m.r, to=((7, 4), (None, 0), (1, 1))),
    ),
    (
        "add_beside",
        lambda m: m.add(*[m.place(m.v, to=((8,), (k,), (1,))) for k in (0, 4)]),
        lambda m: m.cat(*[m.add(m.v, m.number(0.0, F, (4,)))] * 2, to=0),
    ),
    (
        "add_beside",
        lambda m: m.add(
            m.add(m.place(m.v, to=((12,), (8,), (1,))), m.place(m.v, to=((12,), (0,), (1,)))),
            m.place(m.v, to=((12,), (4,), (1,))),
        ),
        lambda m: m.cat(*[m.add(m.v, m.number(0.0, F, (4,)))] * 3, to=0),
    ),
    (
        "add_nothing",
        lambda m: m.add(m.add(m.x, m.number(0.0)), m.number(0.0)),
        lambda m: m.add(m.x, m.number(0.0)),
    ),
    ("update_whole", lambda m: m.slice_update(m.x, m.y, to=((0, 0), (1, 1))), lambda m: m.y),
    (
        "update_known",
        lambda m: m.slice_update(m.x, m.w, m.n, to=((None, 1), (1, 4))),
        lambda m: m.slice_update(m.x, m.w, to=((0, 1), (1, 1))),
    ),
    (
        "update_with_itself",
        lambda m: m.slice_update(
            m.x, m.slice(m.x, m.r, to=((0, None), (3, 2), (1, 1))), m.r, to=((0, None), (1, 1))
        ),
        lambda m: m.x,
    ),
    (
        "update_update",
        lambda m: m.slice_update(
            m.slice_update(m.x, m.w, m.r, to=((0, None), (1, 1))),
            m.neg(m.w),
            m.r,
            to=((0, None), (1, 1)),
        ),
        lambda m: m.slice_update(m.x, m.neg(m.w), m.r, to=((0, None), (1, 1))),
    ),
    (
        "update_zeros",
        lambda m: m.slice_update(m.number(0.0), m.w, m.r, to=((0, None), (1, 1))),
        lambda m: m.place(m.w, m.r, to=((3, 4), (0, None), (1, 1))),
    ),
    ("cat_parts", lambda m: m.cat(m.x, to=0), lambda m: m.x),
    (
        "cat_parts",
        lambda m: m.cat(m.x, m.slice(m.y, to=((0, 0), (0, 4), (1, 1))), m.y, to=0),
        lambda m: m.cat(m.x, m.y, to=0),
    ),
    (
        "cat_uniform",
        lambda m: m.cat(m.expand(m.s, to=(2, 3)), m.expand(m.s, to=(2, 1)), to=1),
        lambda m: m.expand(m.s, to=(2, 4)),
    ),
    (
        "cat_slices",
        lambda m: m.cat(*[m.slice(m.x, to=((0, k), (3, 1), (1, 1))) for k in range(1, 4)], to=1),
        lambda m: m.slice(m.x, to=((0, 1), (3, 3), (1, 1))),
    ),
    (
        "window_uniform",
        lambda m: m.window(m.expand(m.s, to=(6,)), to=((0,), (3,), (1,), (1,))),
        lambda m: m.expand(m.s, to=(4, 3)),
    ),
    # broadcast
    (
        "expand_last",
        lambda m: m.mul(m.expand(m.w, to=(3, 4)), m.exp(m.expand(m.s, to=(3, 4)))),
        lambda m: (e := m.exp(m.s), m.expand(m.mul(m.w, m.expand(e, to=(3, 1))), to=(3, 4)))[1],
    ),
    # reductions
    ("one_element", lambda m: m.amax(m.w, to=(1,)), lambda m: m.reshape(m.w, to=(3,))),
    ("one_element", lambda m: m.prod(m.x, to=()), lambda m: m.x),
    (
        "sum_one_element",
        lambda m: m.sum(m.w, to=(1,)),
        lambda m: m.add(m.reshape(m.w, to=(3,)), m.number(0.0, F, (3,))),
    ),
    ("sum_one_element", lambda m: m.sum(m.i, to=()), lambda m: m.i),
    (
        "position_of_one",
        lambda m: m.argmax(m.expand(m.v, to=(3, 4)), to=0),
        lambda m: m.number(0, dtypes.int64, (4,)),
    ),
    ("scan_one_element", lambda m: m.cumsum(m.w, to=1), lambda m: m.w),
    (
        "extreme_of_copies",
        lambda m: m.amin(m.expand(m.w, to=(3, 4)), to=(1,)),
        lambda m: m.reshape(m.w, to=(3,)),
    ),
    (
        "sum_of_constant",
        lambda m: m.sum(m.number(0.75, F, (5, 7)), to=(0, 1)),
        lambda m: m.number(26.25, F, ()),
    ),
    (
        "sum_of_copies",
        lambda m: m.sum(m.expand(m.i, to=(5, 3, 4)), to=(0,)),
        lambda m: m.mul(m.i, m.number(5, I)),
    ),
]


def names_of_rules() -> set[str]:
    return {rule.__name__ for _, table in PASSES for rules in table.values() for rule in rules}


def test_every_rule_has_an_example() -> None:
    assert names_of_rules() == {name for name, _, _ in EXAMPLES}


@pytest.mark.parametrize(
    ("name", "before", "after"), EXAMPLES, ids=[f"{n}{k}" for k, (n, _, _) in enumerate(EXAMPLES)]
)
def test_rule(name, before, after) -> None:
    m, n = Inputs(), Inputs()
    given, wanted = m.graph(before(m)), n.graph(after(n))
    check_graph(given)
    found = simplify(given)
    check_graph(found)
    assert repr(found) == repr(wanted)
    [a], [b] = evaluate(given, arrays(), [1, 0]), evaluate(found, arrays(), [1, 0])
    assert same_bits(a, b)


# What looks like an identity and is none; the reason is the value that tells the two apart.
TRAPS = [
    ("x * 0: NaN", lambda m: m.mul(m.x, m.number(0.0))),
    ("x + 0: -0.0", lambda m: m.add(m.x, m.number(0.0))),
    ("x - -0.0: -0.0", lambda m: m.sub(m.x, m.number(-0.0))),
    ("0 - x: 0.0", lambda m: m.sub(m.number(0.0), m.x)),
    ("x - x: infinity", lambda m: m.sub(m.x, m.x)),
    ("x / x: zero", lambda m: m.div(m.x, m.x)),
    ("-(x - y): equal operands", lambda m: m.neg(m.sub(m.x, m.y))),
    ("not x < y: NaN", lambda m: m.logical_not(m.lt(m.x, m.y))),
    ("x == x: NaN", lambda m: m.eq(m.x, m.x)),
    ("x / 3: rounding", lambda m: m.div(m.x, m.number(3.0))),
    ("int32 to float32 to int32: rounding", lambda m: m.cast(m.cast(m.i, to=F), to=I)),
    ("int32 to uint8 to int32: wrapping", lambda m: m.cast(m.cast(m.i, to=dtypes.uint8), to=I)),
    ("|-x| of unsigned: wrapping", lambda m: m.maximum(m.neg(m.u), m.u)),
    ("sum of copies: rounding", lambda m: m.sum(m.expand(m.s, to=(3, 4)), to=(0, 1))),
    (
        "two places that overlap",
        lambda m: m.add(*[m.place(m.v, to=((7,), (k,), (1,))) for k in (0, 3)]),
    ),
    (
        "two places side by side, as far as the program knows: -0.0",
        lambda m: m.add(*[m.place(m.v, *r, to=((8,), (k,), (1,))) for k, r in ((0, ()), (None, (m.r,)))]),
    ),
    ("maximum with 0 is not relu: -0.0", lambda m: m.maximum(m.x, m.number(0.0))),
]


@pytest.mark.parametrize(("why", "build"), TRAPS, ids=[why for why, _ in TRAPS])
def test_what_is_no_identity_is_left_alone(why, build) -> None:
    m = Inputs()
    graph = m.graph(build(m))
    assert repr(simplify(graph)) == repr(graph)


def test_loose_zeros_is_asked_for(monkeypatch) -> None:
    m = Inputs()
    graph = m.graph(m.add(m.x, m.number(0.0)))
    monkeypatch.setenv("ADJOINT_LOOSE_ZEROS", "1")
    assert len(simplify(graph).nodes) == 1


def test_sum_of_a_constant_that_would_round_is_computed() -> None:
    m = Inputs()
    graph = m.graph(m.sum(m.number(0.1, F, (5, 7)), to=(0, 1)))
    assert simplify(graph).outputs[0].prim.name == "sum"
