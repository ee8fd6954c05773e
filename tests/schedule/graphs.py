"""Graphs for tests: sample arrays, comparison with the reference, and seeded random graphs of every kind of node.

`check` compiles a graph and compares it with `ir.reference`; `random_graph` draws one. Start at `Draw`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes as dt
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.reference import run_graph
from adjoint.runtime.memory import Buffer
from adjoint.runtime.program import Program, compile_graph
from adjoint.storage import decode, encode, round_to

FLOATS = (dt.float32, dt.float64)
INTS = (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64)


def given(b: GraphBuilder, index: int, shape: tuple[int, ...], dtype: DType = dt.float32) -> Node:
    return b.node("input", attrs=(index, tuple(shape), dtype))


def sample(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    if dtype is dt.bool:
        return rng.random(shape) < 0.5
    if dtype.is_complex:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype.np)
    if dtype.is_floating_point:
        return round_to(rng.normal(size=shape), dtype)
    low, high = (-5, 6) if dtype.is_signed else (0, 7)
    return rng.integers(low, high, size=shape).astype(dtype.np)


def results(
    program: Program, graph: Graph, arrays: list[np.ndarray], scalars: list[Any]
) -> list[np.ndarray]:
    kinds = {n.attrs[0]: n.dtype for n in graph.nodes if n.prim.name == "input"}
    memory = [encode(a, kinds[k]) if k in kinds else a for k, a in enumerate(arrays)]
    out = program.run([Buffer.from_array(np.ascontiguousarray(a)) for a in memory], scalars)
    return [decode(b.array(o.dtype.np, o.shape), o.dtype) for b, o in zip(out, graph.outputs, strict=True)]


def native(graph: Graph) -> Program:
    """The program in machine code, also if it is small enough to start in the reference."""
    program = compile_graph(graph)
    program._cold = False
    return program


def check(
    graph: Graph,
    arrays: list[np.ndarray],
    scalars: list[Any] | None = None,
    rtol: float = 0.0,
    atol: float = 0.0,
) -> Program:
    """Compiled results against the reference: to the bit when both tolerances are 0."""
    program = native(graph)
    expected = run_graph(graph, arrays, scalars or [])
    for node, got, want in zip(
        graph.outputs, results(program, graph, arrays, scalars or []), expected, strict=True
    ):
        if rtol == atol == 0 or not node.dtype.is_floating_point:
            np.testing.assert_array_equal(got, want, err_msg=repr(graph))
        else:
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=repr(graph))
    return program


class Draw:
    """One random graph in the making: nodes drawn so far, each with values of moderate size."""

    def __init__(self, seed: int, largest: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder()
        self.arrays: list[np.ndarray] = []
        self.scalars: list[int] = []
        self.nodes: list[Node] = []
        self.exact: set[Node] = set()  # nodes on which compiled code and reference agree to the bit
        self.largest = largest

    def pick(self, options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def shape(self) -> tuple[int, ...]:
        rank = int(self.rng.integers(0, 4))
        while True:
            out = tuple(self.pick((1, 2, 3, 4, 5, 7, 16, 17, 33)) for _ in range(rank))
            if math.prod(out) <= self.largest:
                return out

    def given(self, shape: tuple[int, ...], dtype: DType) -> Node:
        node = given(self.builder, len(self.arrays), shape, dtype)
        self.arrays.append(sample(self.rng, shape, dtype))
        self.nodes.append(node)
        self.exact.add(node)
        return node

    def any(self, dtypes: Any = None, least_rank: int = 0) -> Node:
        """A node of one of the dtypes, a new input if there is none."""
        found = [
            n
            for n in self.nodes
            if (dtypes is None or n.dtype in dtypes) and len(n.shape) >= least_rank and n.size
        ]
        if found and self.rng.random() < 0.9:
            return found[-1 - int(min(self.rng.exponential(3), len(found) - 1))]
        shape = self.shape()
        while len(shape) < least_rank:
            shape = (*shape, 3)
        return self.given(shape, self.pick(dtypes) if dtypes else dt.float32)

    def like(self, node: Node, dtype: DType | None = None) -> Node:
        """Another node of the same shape and dtype, by way of expand, cast or reshape."""
        dtype = dtype or node.dtype
        same = [n for n in self.nodes if n.shape == node.shape and n.dtype is dtype]
        if same and self.rng.random() < 0.7:
            return self.pick(same)
        reshaped = [n for n in self.nodes if n.size == node.size and n.dtype is dtype]
        if reshaped and self.rng.random() < 0.5:
            return self.make("reshape", self.pick(reshaped), attrs=node.shape)
        if node.shape and self.rng.random() < 0.5:
            keep = tuple(n if self.rng.random() < 0.5 else 1 for n in node.shape)
            return self.make("expand", self.given(keep, dtype), attrs=node.shape)
        return self.given(node.shape, dtype)

    def make(self, name: str, *args: Node, attrs: Any = None) -> Node:
        node = self.builder.node(name, *args, attrs=attrs)
        if node.parts is None:
            self.nodes.append(node)
        if node.prim.exact and all(a in self.exact for a in args):
            self.exact.add(node)
        return node

    # --- one method for each kind of step ---------------------------------------------------------

    def unary(self) -> None:
        name = self.pick(
            ["neg", "abs", "relu", "floor", "exp", "tanh", "sigmoid", "sin", "square", "sign"]
        )
        x = self.any(FLOATS)
        if name == "exp":
            x = self.make("tanh", x)
        self.make("integer_pow", x, attrs=2) if name == "square" else self.make(name, x)
        if name == "square":  # keeps magnitudes bounded
            self.make("tanh", self.nodes[-1])

    def binary(self) -> None:
        x = self.any(FLOATS)
        y = self.like(x)
        out = self.make(self.pick(["add", "sub", "mul", "maximum", "minimum"]), x, y)
        if self.rng.random() < 0.3:
            self.make("sin", out)

    def integers(self) -> None:
        x = self.any((dt.int32, dt.int64))
        self.make(
            self.pick(["add", "mul", "floor_div", "remainder", "maximum", "bitwise_and", "fmod"]),
            x,
            self.like(x),
        )

    def choose(self) -> None:
        x = self.any(FLOATS)
        y = self.like(x)
        self.make("where", self.make(self.pick(("lt", "ge", "ne")), x, y), y, x)

    def convert(self) -> None:
        x = self.any((dt.float32, dt.float64, dt.int32, dt.int64, dt.bool))
        if x.dtype.is_floating_point and self.rng.random() < 0.5:
            self.make("cast", x, attrs=self.pick(FLOATS))
        elif not x.dtype.is_floating_point:
            self.make("cast", x, attrs=self.pick((dt.float32, dt.int64, dt.int32)))

    def move(self) -> None:
        x = self.any(None, 1)
        rank = len(x.shape)
        name = self.pick(
            [
                "permute",
                "flip",
                "slice",
                "place",
                "expand",
                "reshape",
                "reshape",
                "cat",
                "slice_update",
                "window",
            ]
        )
        if name == "permute":
            self.make(name, x, attrs=tuple(int(p) for p in self.rng.permutation(rank)))
        elif name == "flip":
            self.make(name, x, attrs=(int(self.rng.integers(rank)),))
        elif name == "slice":
            starts, sizes, steps = self.region(x.shape)
            fixed, late = self.at_run_time(starts)
            self.make(name, x, *late, attrs=(fixed, sizes, steps))
        elif name == "place":
            starts, steps, shape = [], [], []
            for n in x.shape:
                before, step, after = (int(v) for v in self.rng.integers((0, 1, 0), (4, 3, 4)))
                starts.append(before)
                steps.append(step)
                shape.append(before + (n - 1) * step + 1 + after)
            if math.prod(shape) <= 4 * self.largest:
                fixed, late = self.at_run_time(tuple(starts))
                self.make(name, x, *late, attrs=(tuple(shape), fixed, tuple(steps)))
        elif name == "expand":
            if x.size * 3 <= self.largest:
                ones = self.make("reshape", x, attrs=(*x.shape[:1], 1, *x.shape[1:]))
                self.make(name, ones, attrs=(2, *x.shape[:1], 3, *x.shape[1:])[1:])
        elif name == "reshape":
            if rank >= 2:
                self.make(name, x, attrs=(x.shape[0] * x.shape[1], *x.shape[2:]))
            factors = [d for d in (2, 3, 4) if x.shape[0] % d == 0]
            if factors:
                d = self.pick(factors)
                self.make(name, x, attrs=(d, x.shape[0] // d, *x.shape[1:]))
            if self.rng.random() < 0.3:
                self.make(name, x, attrs=(x.size,))
        elif name == "cat":
            self.make(name, x, self.like(x), attrs=int(self.rng.integers(rank)))
        elif name == "slice_update":
            starts, sizes, steps = self.region(x.shape)
            update = self.make("slice", self.like(x), attrs=(starts, sizes, steps))
            fixed, late = self.at_run_time(starts)
            self.make(name, x, update, *late, attrs=(fixed, steps))
        else:
            axis = int(self.rng.integers(rank))
            if x.shape[axis] >= 3:
                made = self.make(name, x, attrs=((axis,), (2,), (self.pick((1, 2)),), (1,)))
                if x.dtype.is_floating_point:
                    self.make(self.pick(("sum", "amax")), made, attrs=(rank,))

    def at_run_time(self, starts: tuple[int, ...]) -> tuple[tuple, list[Node]]:
        """Some of the starts as run-time scalars."""
        fixed: list[int | None] = list(starts)
        late = []
        for i, start in enumerate(starts):
            if self.rng.random() < 0.3:
                fixed[i] = None
                late.append(self.builder.node("scalar", attrs=(len(self.scalars), (), dt.int64)))
                self.scalars.append(start)
        return tuple(fixed), late

    def region(self, shape: tuple[int, ...]) -> tuple[tuple, tuple, tuple]:
        starts, sizes, steps = [], [], []
        for n in shape:
            start = int(self.rng.integers(n))
            step = self.pick((1, 1, 2, 3))
            starts.append(start)
            steps.append(step)
            sizes.append(int(self.rng.integers(1, (n - start - 1) // step + 2)))
        return tuple(starts), tuple(sizes), tuple(steps)

    def reduce(self) -> None:
        x = self.any(FLOATS, 1)
        rank = len(x.shape)
        axes = tuple(sorted({int(a) for a in self.rng.integers(rank, size=self.pick((1, 1, 2)))}))
        out = self.make(self.pick(("sum", "sum", "amax", "amin")), x, attrs=axes)
        if self.rng.random() < 0.6:  # normalise, as softmax and layer norm do
            keep = self.make(
                "reshape", out, attrs=tuple(1 if i in axes else n for i, n in enumerate(x.shape))
            )
            centred = self.make("sub", x, self.make("expand", keep, attrs=x.shape))
            self.make("sum", self.make("tanh", centred), attrs=axes)

    def arg(self) -> None:
        x = self.any(FLOATS, 1)
        if x not in self.exact:  # else a difference in the last bit may decide
            x = self.given(x.shape, x.dtype)
        out = self.make(
            self.pick(("argmax", "argmin")), x, attrs=int(self.rng.integers(len(x.shape)))
        )
        self.make("cast", out, attrs=dt.float32)

    def scan(self) -> None:
        x = self.any(FLOATS, 1)
        self.make("tanh", self.make("cumsum", x, attrs=int(self.rng.integers(len(x.shape)))))

    def index(self) -> None:
        x = self.any(FLOATS, 1)
        n = x.shape[0]
        index = self.given(self.pick(((3,), (2, 2), ())), dt.int64)
        self.arrays[-1] = self.rng.integers(-n, n, size=index.shape)
        taken = self.make("take", x, index)
        if self.rng.random() < 0.5:
            self.make("put_add", index, taken, attrs=n)
        elif self.rng.random() < 0.5:
            self.make("put", x, index, self.make("neg", taken))

    def product(self) -> None:
        x = self.any(FLOATS, 2)
        *batch, m, k = x.shape
        n = self.pick((1, 2, 5, 17))
        if self.rng.random() < 0.5:
            rank = len(x.shape)
            y = self.make(
                "permute",
                self.given((*batch, n, k), x.dtype),
                attrs=(*range(rank - 2), rank - 1, rank - 2),
            )
        else:
            y = self.given((*batch, k, n), x.dtype)
        self.make("tanh", self.make("matmul", x, y))

    def create(self) -> None:
        shape = self.shape()
        seed = self.builder.const(int(self.rng.integers(1 << 40)), dt.int64)
        offset = self.builder.const(int(self.rng.integers(1 << 40)), dt.int64)
        bits = self.make("random_bits", seed, offset, attrs=shape)
        low = self.make("bitwise_and", bits, self.builder.const(1023, dt.int64, shape))
        self.make("cast", low, attrs=dt.float32)
        self.nodes[-1] = self.builder.node(
            "mul", self.nodes[-1], self.builder.const(1 / 1024, dt.float32, shape)
        )
        self.nodes.remove(bits)


KINDS = [
    "unary",
    "binary",
    "binary",
    "integers",
    "choose",
    "convert",
    "move",
    "move",
    "move",
    "reduce",
    "reduce",
    "arg",
    "scan",
    "index",
    "product",
    "create",
]


def random_graph(seed: int, largest: int = 3000) -> tuple[Graph, list[np.ndarray], list[int]]:
    """A graph of 5 to 40 nodes with inputs and run-time scalars to run it on."""
    draw = Draw(seed, largest)
    draw.given(draw.shape(), dt.float32)
    for _ in range(int(draw.rng.integers(6, 24))):
        getattr(draw, draw.pick(KINDS))()
    count = int(draw.rng.integers(1, 7))
    outputs = [
        draw.nodes[-1 - int(min(draw.rng.exponential(4), len(draw.nodes) - 1))]
        for _ in range(count)
    ]
    graph = draw.builder.finish(outputs)
    return graph, draw.arrays, draw.scalars
