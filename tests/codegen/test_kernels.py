"""Every primitive in machine code against the reference: dtypes, shapes, special values, kernel counts."""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "schedule"))

from graphs import FLOATS, INTS, check, given, native, results, sample

from adjoint import dtypes as dt
from adjoint.codegen import nest
from adjoint.codegen.loops import Levels
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS
from adjoint.runtime.program import Program
from adjoint.runtime.scheduled import Scheduled

pytestmark = [pytest.mark.any_mode]
if "ADJOINT_TARGET" in os.environ:  # once more, for an older machine (test_targets.py)
    pytestmark.append(pytest.mark.usefixtures("little_effort"))

SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (13,),
    (16,),
    (17,),
    (1000,),
    (5, 7),
    (16, 16),
    (3, 0, 2),
    (2, 1, 19),
    (2, 3, 4, 5),
]
EXACT = [
    "neg",
    "abs",
    "sign",
    "sqrt",
    "floor",
    "ceil",
    "round",
    "trunc",
    "relu",
    "logical_not",
    "isnan",
    "isinf",
]
MATH = [
    "rsqrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sigmoid",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
]
ODD = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.5,
    -2.5,
    1e30,
    -1e30,
    math.inf,
    -math.inf,
    math.nan,
    3.5,
    1e-40,
    7.0,
    -7.0,
]


def run(
    name: str, arrays: list[np.ndarray], types: list[DType], attrs: Any = None, **tolerance: float
) -> Program:
    b = GraphBuilder()
    args = [given(b, i, a.shape, t) for i, (a, t) in enumerate(zip(arrays, types, strict=True))]
    return check(b.finish([b.node(name, *args, attrs=attrs)]), arrays, **tolerance)


@pytest.mark.parametrize("dtype", [dt.bool, *INTS, *FLOATS], ids=lambda d: d.name)
@pytest.mark.parametrize("name", EXACT)
def test_exact_unary(name: str, dtype: DType) -> None:
    if dtype is dt.bool and name not in ("abs", "logical_not", "isnan", "isinf"):
        return
    if name in ("sqrt",) and not dtype.is_floating_point:
        return
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        run(name, [sample(rng, shape, dtype)], [dtype])
    if dtype.is_floating_point:
        run(name, [np.array(ODD, dtype.np)], [dtype])


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", MATH)
def test_mathematics(name: str, dtype: DType) -> None:
    rng = np.random.default_rng(1)
    tight = 1e-6 if dtype is dt.float32 else 1e-13
    for shape in [(), (1,), (13,), (16,), (5, 7)]:
        x = rng.uniform(0.05, 0.95, shape).astype(dtype.np)
        if name == "acosh":
            x = x + dtype.np.type(1.5)
        run(name, [x], [dtype], rtol=20 * tight, atol=tight)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: d.name)
@pytest.mark.parametrize("name", [*MATH, "pow", "atan2", "remainder"])
def test_functions_that_are_wanted_often_are_called(name: str, dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small program that takes a function of many values has the same bits as with the function written out."""
    rng = np.random.default_rng(3)
    xs = [rng.uniform(0.05, 0.95, 21).astype(dtype.np) for _ in range(7)]
    xs[6] = xs[6] * dtype.np.type(1e9)  # which sin and its like reduce in another way
    b = GraphBuilder()
    nodes = [given(b, k, (21,), dtype) for k in range(7)]
    values = [b.node(name, *((x, nodes[0]) if name in ("pow", "atan2", "remainder") else (x,))) for x in nodes]
    graph = b.finish([functools.reduce(lambda x, y: b.node("add", x, y), values)])
    called = results(native(graph), graph, xs, [])[0]
    monkeypatch.setattr(nest, "_COPIES", 0)
    np.testing.assert_array_equal(results(native(graph), graph, xs, [])[0], called)


def test_a_small_program_writes_a_function_out_once() -> None:
    b = GraphBuilder()
    x = given(b, 0, (3,))
    for _ in range(100):
        x = b.node("sin", x)
    [(_, text, declarations)] = Scheduled(b.finish([x]), 1, False).texts
    assert text.count("call fastcc") > 90 and sum(["define" in d and ".sin." in d for d in declarations]) == 1


@pytest.mark.parametrize("dtype", [dt.bool, *INTS, *FLOATS], ids=lambda d: d.name)
def test_binary(dtype: DType) -> None:
    rng = np.random.default_rng(2)
    names = ["eq", "ne", "lt", "le", "gt", "ge", "add", "mul", "maximum", "minimum"]
    if dtype is not dt.bool:
        names += ["sub", "floor_div", "remainder", "fmod"]
    if dtype.is_floating_point:
        names += ["div"]
    else:
        names += ["bitwise_and", "bitwise_or", "bitwise_xor"]
    for name in names:
        loose = dtype.is_floating_point and name in ("floor_div", "remainder", "fmod")
        for shape in SHAPES:
            a, b = sample(rng, shape, dtype), sample(rng, shape, dtype)
            run(name, [a, b], [dtype, dtype], **({"rtol": 1e-6, "atol": 1e-6} if loose else {}))
        if dtype.is_floating_point:
            a, b = (np.array(v, dtype.np).ravel() for v in np.meshgrid(ODD, ODD))
            keep = np.abs(a) < 1e20 if loose else np.ones(a.shape, bool)
            run(
                name,
                [a[keep], b[keep]],
                [dtype, dtype],
                **({"rtol": 1e-6, "atol": 1e-6} if loose else {}),
            )


@pytest.mark.parametrize("dtype", INTS, ids=lambda d: d.name)
def test_integer_corners(dtype: DType) -> None:
    info = np.iinfo(dtype.np)
    corner = np.array([info.min, info.max, 0, 1, 2, 3, info.max - 1, info.min + 1, 7], dtype.np)
    if dtype.is_signed:
        corner = np.concatenate([corner, np.array([-1, -2, -3], dtype.np)])
    a, b = (v.ravel() for v in np.meshgrid(corner, corner))
    for name in ["add", "sub", "mul", "floor_div", "remainder", "fmod", "maximum", "minimum"]:
        run(name, [a, b], [dtype, dtype])
    counts = np.array([0, 1, 3, 7, 8, 15, 16, 31, 32, 63, 64, 100], dtype.np)
    a, b = (v.ravel() for v in np.meshgrid(corner, counts))
    for name in ("shift_left", "shift_right"):
        run(name, [a, b], [dtype, dtype])
    run("bitwise_not", [corner], [dtype])
    exponents = np.array([0, 1, 2, 3, 5, 31], dtype.np)
    a, b = (v.ravel() for v in np.meshgrid(corner, exponents))
    run("pow", [a, b], [dtype, dtype])


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 3, 7, 10])
def test_integer_pow(n: int) -> None:
    for dtype in FLOATS:
        x = np.random.default_rng(3).normal(size=37).astype(dtype.np)
        run("integer_pow", [x], [dtype], attrs=n)


def test_casts() -> None:
    rng = np.random.default_rng(4)
    for source in dt.ALL:
        for target in dt.ALL:
            x = sample(rng, (35,), source)
            if target.category == 1 and not target.is_signed and source.is_signed:
                x = np.abs(x) if not source.is_complex else np.abs(x.real) + 0 * x
            run("cast", [x], [source], attrs=target)


def test_where_and_two_results() -> None:
    rng = np.random.default_rng(5)
    for dtype in dt.ALL:
        for shape in SHAPES:
            c, x, y = (
                sample(rng, shape, dt.bool),
                sample(rng, shape, dtype),
                sample(rng, shape, dtype),
            )
            run("where", [c, x, y], [dt.bool, dtype, dtype])


def test_numbers_with_two_operands() -> None:
    rng = np.random.default_rng(6)
    for dtype, tight in zip(FLOATS, (1e-6, 1e-14), strict=True):
        x, y = np.abs(rng.normal(size=50)).astype(dtype.np), rng.normal(size=50).astype(dtype.np)
        run("pow", [x, y], [dtype, dtype], rtol=tight)
        run("atan2", [y, x], [dtype, dtype], rtol=tight)


@pytest.mark.parametrize(
    "dtype", [dt.float32, dt.float64, dt.int32, dt.int64, dt.bool, dt.uint8], ids=lambda d: d.name
)
@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin"])
def test_reductions(name: str, dtype: DType) -> None:
    rng = np.random.default_rng(7)
    loose = (
        {"rtol": 1e-4, "atol": 1e-4} if dtype.is_floating_point and name in ("sum", "prod") else {}
    )
    cases = [
        ((0,), (0,)),
        ((5, 0), (1,)),
        ((0, 5), (1,)),
        ((1,), (0,)),
        ((3,), (0,)),
        ((16,), (0,)),
        ((17,), (0,)),
    ]
    cases += [
        ((1000,), (0,)),
        ((70001,), (0,)),
        ((5, 7), (0,)),
        ((5, 7), (1,)),
        ((5, 7), (0, 1)),
        ((40, 33), (0,)),
    ]
    cases += [
        ((40, 33), (1,)),
        ((2000, 3), (0,)),
        ((3, 2000), (1,)),
        ((4, 5, 6), (1,)),
        ((4, 5, 6), (0, 2)),
    ]
    cases += [
        ((4, 30, 20), (0, 2)),
        ((2, 3, 4, 5), (1, 3)),
        ((33, 20, 40), (0, 1)),
        ((1, 20, 1), (0, 1)),
        ((2, 17, 2), (1,)),
    ]
    for shape, axes in cases:
        if name in ("amax", "amin") and math.prod(shape[a] for a in axes) == 0:
            continue
        x = sample(rng, shape, dtype)
        if name == "prod" and dtype.is_floating_point:
            x = np.sign(x) * (1 + 0.001 * x)
            x = x.astype(dtype.np)
        run(name, [x], [dtype], attrs=axes, **loose)


@pytest.mark.parametrize("n", [3, 16, 31, 37, 130])
def test_reductions_of_reversed_rows(n: int) -> None:
    """Rows read backwards end in a vector that is not full: its first lanes are the last elements in memory."""
    rng = np.random.default_rng(8)
    for dtype in (dt.int32, dt.float64, dt.uint8):
        b = GraphBuilder()
        x, y = given(b, 0, (7, n), dtype), given(b, 1, (7, n), dtype)
        back = b.node("flip", x, attrs=(1,))
        outputs = [
            b.node("sum", b.node("mul", back, y), attrs=(1,)),
            b.node("amax", b.node("sub", back, y), attrs=(1,)),
            b.node("argmin", b.node("mul", back, y), attrs=1),
        ]
        check(b.finish(outputs), [sample(rng, (7, n), dtype) for _ in range(2)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg_reductions(name: str) -> None:
    rng = np.random.default_rng(8)
    for dtype in (dt.float32, dt.float64, dt.int32, dt.int8, dt.bool, dt.uint8):
        for shape, axis in [
            ((1,), 0),
            ((9,), 0),
            ((100,), 0),
            ((40_000,), 0),
            ((6, 50), 1),
            ((50, 6), 0),
            ((3, 40, 5), 1),
        ]:
            run(name, [sample(rng, shape, dtype)], [dtype], attrs=axis)
    x = rng.normal(size=(4, 40)).astype("f")
    x[1, 7] = x[1, 23] = math.nan
    x[2] = math.inf
    x[3] = -math.inf
    run(name, [x], [dt.float32], attrs=1)
    run(name, [x.T.copy()], [dt.float32], attrs=0)


def test_extrema_of_nan() -> None:
    x = np.random.default_rng(9).normal(size=(5, 100)).astype("f")
    x[1, 3] = math.nan
    x[2] = -math.inf
    for name in ("amax", "amin"):
        run(name, [x], [dt.float32], attrs=(1,))
        run(name, [x], [dt.float32], attrs=(0,))


def test_scans() -> None:
    rng = np.random.default_rng(10)
    for name in ("cumsum", "cumprod"):
        for dtype in (dt.float32, dt.float64, dt.int64):
            for shape, axis in [
                ((1,), 0),
                ((0,), 0),
                ((50,), 0),
                ((6, 7), 0),
                ((6, 7), 1),
                ((4, 5, 20), 1),
                ((3, 40), 0),
            ]:
                x = sample(rng, shape, dtype)
                if dtype.is_floating_point and name == "cumprod":
                    x = (1 + 0.1 * x).astype(dtype.np)
                run(name, [x], [dtype], attrs=axis, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [2, 7, 15, 17, 20, 28, 31, 33, 47, 50, 63, 65])
@pytest.mark.parametrize("name", ["sum", "amax"])
def test_short_rows_in_a_loop(n: int, name: str) -> None:
    """Two reduced loops that cannot be one, because one operand knows the inner one only."""
    rng = np.random.default_rng(n)
    b = GraphBuilder()
    x, y = given(b, 0, (4, 5, n)), given(b, 1, (4, 1, n))
    product = b.node("mul", x, b.node("expand", y, attrs=(4, 5, n)))
    graph = b.finish([b.node(name, product, attrs=(1, 2)), product])
    check(graph, [sample(rng, (4, 5, n), dt.float32), sample(rng, (4, 1, n), dt.float32)], rtol=1e-4, atol=1e-5)


def test_long_sums_are_accurate() -> None:
    rng = np.random.default_rng(11)
    x = rng.random(3_000_001).astype("f")
    for shape, axes in [
        ((3_000_001,), (0,)),
        ((1000, 3000), (0, 1)),
        ((3_000_000, 1), (0,)),
        ((1_500_000, 2), (0,)),
    ]:
        part = x[: math.prod(shape)].reshape(shape)
        b = GraphBuilder()
        graph = b.finish([b.node("sum", given(b, 0, shape), attrs=axes)])
        got = results(native(graph), graph, [part], [])[0]
        np.testing.assert_allclose(got, part.astype(float).sum(axes), rtol=1.5e-6)


MOVEMENTS: list[tuple[str, tuple, Any]] = [
    ("expand", (1, 5), (4, 5)),
    ("expand", (4, 1), (4, 5)),
    ("expand", (), (3, 2)),
    ("expand", (5,), (2, 3, 5)),
    ("reshape", (4, 6), (24,)),
    ("reshape", (4, 6), (3, 8)),
    ("reshape", (12, 10), (5, 24)),
    ("reshape", (7, 3, 5), (15, 7)),
    ("reshape", (1, 6, 1), (2, 1, 3)),
    ("permute", (4, 6), (1, 0)),
    ("permute", (33, 35), (1, 0)),
    ("permute", (2, 3, 4, 5), (3, 1, 0, 2)),
    ("flip", (19,), (0,)),
    ("flip", (4, 20), (0, 1)),
    ("slice", (30,), ((3,), (9,), (3,))),
    ("slice", (6, 30), ((1, 2), (4, 25), (1, 1))),
    ("slice", (6, 30), ((1, 2), (0, 25), (1, 1))),
    ("place", (9,), ((30,), (3,), (3,))),
    ("place", (4, 5), ((8, 9), (2, 3), (1, 1))),
    ("place", (0, 5), ((8, 9), (2, 3), (1, 1))),
    ("place", (5, 20), ((11, 50), (1, 4), (2, 2))),
    ("window", (20,), ((0,), (3,), (2,), (1,))),
    ("window", (2, 12, 14), ((1, 2), (3, 3), (1, 2), (2, 1))),
]


@pytest.mark.parametrize("name, shape, attrs", MOVEMENTS, ids=lambda v: str(v))
def test_movements(name: str, shape: tuple, attrs: Any) -> None:
    rng = np.random.default_rng(12)
    for dtype in (dt.float32, dt.bool, dt.int64):
        x = sample(rng, shape, dtype)
        run(name, [x], [dtype], attrs=attrs)
        b = GraphBuilder()  # and with work before and after
        node = given(b, 0, shape, dtype)
        node = b.node("logical_not" if dtype is dt.bool else "neg", node)
        moved = b.node(name, node, attrs=attrs)
        check(b.finish([moved, b.node("eq", moved, moved)]), [x])


def test_joins_and_updates() -> None:
    rng = np.random.default_rng(13)
    for count in (2, 3, 7):
        for axis in (0, 1):
            shapes = [(3, 4 + i) if axis else (i, 5) for i in range(count)]
            run(
                "cat",
                [sample(rng, s, dt.float32) for s in shapes],
                [dt.float32] * count,
                attrs=axis,
            )
    x, y = sample(rng, (10, 12), dt.float32), sample(rng, (4, 6), dt.float32)
    run("slice_update", [x, y], [dt.float32] * 2, attrs=((2, 1), (2, 2)))
    run("slice_update", [x, y[:0]], [dt.float32] * 2, attrs=((2, 1), (2, 2)))


def test_starts_at_run_time() -> None:
    rng = np.random.default_rng(14)
    x, y = sample(rng, (20, 30), dt.float32), sample(rng, (3, 30), dt.float32)
    b = GraphBuilder()
    start = b.node("scalar", attrs=(0, (), dt.int64))
    cut = b.node("slice", given(b, 0, (20, 30)), start, attrs=((None, 0), (3, 30), (2, 1)))
    update = b.node(
        "slice_update",
        given(b, 0, (20, 30)),
        given(b, 1, (3, 30)),
        start,
        attrs=((None, 0), (1, 1)),
    )
    placed = b.node("place", given(b, 1, (3, 30)), start, attrs=((20, 30), (None, 0), (2, 1)))
    graph = b.finish([cut, update, placed])
    for s in (0, 7, 15):
        check(graph, [x, y], [s])


def test_reshape_of_what_lies_at_a_run_time_start() -> None:
    """Quotients of an index that the start makes negative must round down."""
    b = GraphBuilder()
    start = b.node("scalar", attrs=(0, (), dt.int64))
    turned = b.node("permute", given(b, 0, (2, 3)), attrs=(1, 0))
    placed = b.node(
        "place", b.node("reshape", turned, attrs=(6,)), start, attrs=((18,), (None,), (1,))
    )
    graph = b.finish([placed, b.node("reshape", placed, attrs=(3, 6)), b.node("neg", placed)])
    for s in (0, 5, 6, 12):
        check(graph, [np.arange(1, 7, dtype="f").reshape(2, 3)], [s])


def test_indexing() -> None:
    rng = np.random.default_rng(15)
    for table, index in [
        ((10, 20), (7,)),
        ((10,), (3, 5)),
        ((6, 3, 4), ()),
        ((5, 17), (2, 3)),
        ((9, 1), (40,)),
    ]:
        x, i = sample(rng, table, dt.float32), rng.integers(-table[0], table[0], index)
        run("take", [x, i], [dt.float32, dt.int64])
        run("take", [x, i.astype(np.int32)], [dt.float32, dt.int32])
        values = sample(rng, (*index, *table[1:]), dt.float32)
        run("put_add", [i, values], [dt.int64, dt.float32], attrs=table[0], rtol=1e-6, atol=1e-6)
        run("put", [x, i, values], [dt.float32, dt.int64, dt.float32])
    run("put", [x, i[:0], values[:0]], [dt.float32, dt.int64, dt.float32])
    run("put_add", [i[:0], values[:0]], [dt.int64, dt.float32], attrs=4)


def test_index_out_of_range() -> None:
    b = GraphBuilder()
    graph = b.finish([b.node("take", given(b, 0, (5, 20)), given(b, 1, (3,), dt.int64))])
    program = native(graph)
    x = np.arange(100, dtype="f").reshape(5, 20)
    with pytest.raises(IndexError, match="index 7 is out of bounds for dimension 0 with size 5"):
        results(program, graph, [x, np.array([0, 7, 9])], [])
    got = results(program, graph, [x, np.array([0, -1, 4])], [])[0]
    np.testing.assert_array_equal(got, x[[0, -1, 4]])


def test_index_out_of_range_where_nobody_looks() -> None:
    b = GraphBuilder()
    taken = b.node("take", given(b, 0, (5,)), given(b, 1, (4,), dt.int64))
    graph = b.finish([b.node("slice", taken, attrs=((0,), (2,), (1,)))])
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        results(native(graph), graph, [np.zeros(5, "f"), np.array([0, 1, 2, 9])], [])


@pytest.mark.parametrize("view", ["slice", "reshape and slice", "permute and slice"])
def test_position_out_of_range_where_nobody_looks(view: str) -> None:
    """A position is checked as a whole also if it is an operand of something else that is read in part."""
    b = GraphBuilder()
    at = b.node("position", given(b, 0, (2, 3), dt.int64), attrs=(5, True, 0))
    if view == "reshape and slice":
        at = b.node("reshape", at, attrs=(3, 2))
    elif view == "permute and slice":
        at = b.node("permute", at, attrs=(1, 0))
    part = b.node("slice", at, attrs=((0, 0), (1, 2), (1, 1)))
    graph = b.finish([b.node("add", part, part)])
    program = native(graph)
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        results(program, graph, [np.array([[0, 1, 2], [3, 4, 9]])], [])
    with pytest.raises(IndexError, match="index -6 is out of bounds"):
        results(program, graph, [np.array([[0, 1, 2], [3, -6, 0]])], [])
    got = results(program, graph, [np.array([[0, -1, 2], [3, 4, -5]])], [])[0]
    np.testing.assert_array_equal(got, [[0, 6 if view == "permute and slice" else 8]])


@pytest.mark.parametrize(
    "dtype", [dt.float32, dt.float64, dt.int32, dt.int64, dt.int8], ids=lambda d: d.name
)
def test_matrix_products(dtype: DType) -> None:
    rng = np.random.default_rng(16)
    for batch in ((), (3,), (2, 2)):
        for m, k, n in [
            (1, 1, 1),
            (2, 3, 4),
            (1, 40, 9),
            (9, 40, 1),
            (33, 17, 35),
            (5, 0, 3),
            (64, 64, 64),
            (0, 3, 2),
        ]:
            x, y = sample(rng, (*batch, m, k), dtype), sample(rng, (*batch, k, n), dtype)
            run("matmul", [x, y], [dtype, dtype], rtol=1e-4, atol=1e-4)
            b = GraphBuilder()  # both operands transposed in place
            rank = len(batch) + 2
            swap = (*range(rank - 2), rank - 1, rank - 2)
            left = b.node("permute", given(b, 0, (*batch, k, m), dtype), attrs=swap)
            right = b.node("permute", given(b, 1, (*batch, n, k), dtype), attrs=swap)
            arrays = [np.swapaxes(x, -1, -2).copy(), np.swapaxes(y, -1, -2).copy()]
            check(b.finish([b.node("matmul", left, right)]), arrays, rtol=1e-4, atol=1e-4)


def test_products_of_permuted_operands() -> None:
    """Operands are read where they lie, whatever the order of their axes; each size is another, so that none can be
    taken for another."""
    rng = np.random.default_rng(17)
    for x_order in itertools.permutations(range(3)):
        for y_order in itertools.permutations(range(3)):
            b = GraphBuilder()
            operands, arrays = [], []
            for k, (order, wanted) in enumerate(((x_order, (3, 17, 34)), (y_order, (3, 34, 20)))):
                shape = [0, 0, 0]
                for axis, n in zip(order, wanted, strict=True):
                    shape[axis] = n
                arrays.append(sample(rng, tuple(shape), dt.int32))
                operands.append(b.node("permute", given(b, k, tuple(shape), dt.int32), attrs=order))
            check(b.finish([b.node("matmul", *operands)]), arrays)


def test_random_bits() -> None:
    b = GraphBuilder()
    seed, offset = (b.node("scalar", attrs=(i, (), dt.int64)) for i in range(2))
    graph = b.finish(
        [b.node("random_bits", seed, offset, attrs=s) for s in [(), (5,), (16,), (7, 50)]]
    )
    check(graph, [], [123456789012345, 77])
    check(graph, [], [-1, (1 << 62) + 5])


def test_scalars() -> None:
    b = GraphBuilder()
    nodes = [
        b.node("scalar", attrs=(i, (), t))
        for i, t in enumerate([dt.int64, dt.float64, dt.float32, dt.bool, dt.int8])
    ]
    graph = b.finish(nodes)
    check(graph, [], [(1 << 63) - 1, 0.1, 0.1, True, -3])
    check(graph, [], [-(1 << 63), 3, 2, False, 5])


def test_host_steps_between_kernels() -> None:
    rng = np.random.default_rng(17)
    x = rng.normal(size=(4, 4))
    b = GraphBuilder()
    a = b.node("mul", given(b, 0, (4, 4), dt.float64), given(b, 0, (4, 4), dt.float64))
    both = b.node("qr", a)
    q, r = (b.node("pick", both, attrs=i) for i in range(2))
    inverse = b.node("inv", b.node("add", r, r))
    order = b.node("argsort", b.node("neg", q), attrs=(1, False))
    check(b.finish([b.node("neg", q), b.node("exp", inverse), order, r]), [x], rtol=1e-10)
    b = GraphBuilder()
    graph = b.finish([b.node("inv", given(b, 0, (3, 3), dt.float64))])
    with pytest.raises(RuntimeError, match="linalg.inv"):
        results(native(graph), graph, [np.zeros((3, 3))], [])


def test_outputs_that_are_inputs_or_repeated() -> None:
    b = GraphBuilder()
    x = given(b, 0, (6,))
    y = b.node("neg", x)
    one = b.const(1.5, dt.float32)
    graph = b.finish([x, y, y, one, b.node("reshape", x, attrs=(2, 3)), x])
    values = np.arange(6, dtype="f")
    check(graph, [values])
    program = native(graph)
    out = results(program, graph, [values], [])
    out[1][:] = 9
    assert out[2][1] == -1 and values[1] == 1


# --- how many kernels -----------------------------------------------------------------------------


def rows(b: GraphBuilder, x: Node, shape: tuple[int, ...]) -> Node:
    return b.node("expand", b.node("reshape", x, attrs=(*shape[:-1], 1)), attrs=shape)


def softmax(b: GraphBuilder, x: Node) -> Node:
    e = b.node("exp", b.node("sub", x, rows(b, b.node("amax", x, attrs=(1,)), x.shape)))
    return b.node("div", e, rows(b, b.node("sum", e, attrs=(1,)), x.shape))


@pytest.mark.parametrize("shape", [(3, 10), (7, 64), (100, 1000), (513, 1024)], ids=str)
def test_softmax_is_one_kernel(shape: tuple[int, int]) -> None:
    b = GraphBuilder()
    graph = b.finish([softmax(b, given(b, 0, shape))])
    x = np.random.default_rng(18).normal(size=shape).astype("f")
    assert check(graph, [x], rtol=1e-5, atol=1e-7).n_kernels == 1


def test_twenty_pointwise_are_one_kernel() -> None:
    for n in (1, 4, 1000):
        b = GraphBuilder()
        x = given(b, 0, (n,))
        for i in range(20):
            x = b.node("sin" if i % 3 else "mul", *([x] if i % 3 else [x, x]))
        assert (
            check(b.finish([x]), [np.linspace(0, 1, n, dtype="f")], rtol=1e-4, atol=1e-6).n_kernels
            == 1
        )


@pytest.mark.parametrize("n", [50, 1000, 100_000])
def test_expression_with_sum_and_gradients(n: int) -> None:
    """sum(tanh(x) * y + z * exp(-x * x)) with its three gradients: one pass over memory, and one over partial sums."""
    b = GraphBuilder()
    x, y, z = (given(b, i, (n,)) for i in range(3))
    t = b.node("tanh", x)
    e = b.node("exp", b.node("neg", b.node("mul", x, x)))
    total = b.node("sum", b.node("add", b.node("mul", t, y), b.node("mul", z, e)), attrs=(0,))
    one, two = b.const(1, dt.float32, (n,)), b.const(2, dt.float32, (n,))
    gx = b.node("mul", y, b.node("sub", one, b.node("mul", t, t)))
    gx = b.node("sub", gx, b.node("mul", b.node("mul", two, x), b.node("mul", z, e)))
    arrays = [np.random.default_rng(i).normal(size=n).astype("f") for i in range(3)]
    program = check(b.finish([total, gx, t, e]), arrays, rtol=1e-4, atol=1e-5)
    assert program.n_kernels <= 2


def test_three_thousand_scalars_are_one_kernel() -> None:
    rng = np.random.default_rng(19)
    b = GraphBuilder()
    nodes = [given(b, i, ()) for i in range(5)]
    for i in range(3000):
        x, y = (nodes[-1 - int(k)] for k in rng.integers(0, 5, 2))
        nodes.append(b.node("mul" if i % 2 else "add", x, y))
        if i % 7 == 0:
            nodes.append(b.node("tanh", nodes[-1]))
    graph = b.finish(nodes[-3:])
    program = check(graph, [np.float32(0.1 * i) for i in range(5)], rtol=1e-3, atol=1e-4)
    assert program.n_kernels == 1


def test_fusing_does_not_change_bits() -> None:
    rng = np.random.default_rng(20)
    x = rng.normal(size=(50, 300)).astype("f")
    b = GraphBuilder()
    node = given(b, 0, x.shape)
    prob = softmax(b, node)
    scaled = b.node("mul", prob, b.node("exp", node))
    both = b.finish(
        [prob, b.node("sum", scaled, attrs=(0,)), b.node("sum", scaled, attrs=(1,)), scaled]
    )
    fused = results(native(both), both, [x], [])
    for k, shape in enumerate([(50, 300), (300,), (50,), (50, 300)]):
        alone = Graph(both.nodes, [both.outputs[k]])
        np.testing.assert_array_equal(results(native(alone), alone, [x], [])[0], fused[k])
        assert fused[k].shape == shape


def test_every_primitive_runs() -> None:
    """Names the primitive for which this file has no machine code and no host step."""
    from adjoint.codegen.scalars import POINTWISE
    from adjoint.schedule.lower import LOWERED

    special = {"real", "imag", "conj", "complex", "as_real", "as_complex", "input", "matmul", "convolve", "put", "put_add", "pick", "cumsum", "cumprod", "cummax", "cummin", "recurrence"}
    for name, prim in PRIMS.items():
        known = (
            name in POINTWISE
            or name in LOWERED
            or name in special
            or prim.kind in ("reduce", "order", "host", "tuple")
        )
        assert known, name


def test_a_loop_of_a_single_round_is_none() -> None:
    """Masks and patterns of a short last axis are constants then; at run time they took longer than all else."""
    levels = Levels()
    once, first = levels.open("0", "10", 16, [("i64", "7")])
    often, names = levels.open("0", "32", 16, [("i64", "7")])
    assert (once, first) == ("0", ["7"]) and often.startswith("%") and names[0].startswith("%")
    levels.close([names[0]])
    levels.close([names[0]])
    assert sum("phi" in line for line in levels.em.lines) == 2


def test_llvm_does_not_see_how_outer_loops_count() -> None:
    levels = Levels()
    levels.open("%lo", "%hi", 1, [])
    levels.open("0", "32", 16, [])
    levels.close([])
    levels.close([])
    inner, outer = [line for line in levels.em.lines if "icmp slt" in line or "asm" in line or "nuw" in line][:2], levels.em.lines[-4:]
    assert not any("asm" in line for line in inner) and any('asm "", "=r,0"' in line for line in outer)
