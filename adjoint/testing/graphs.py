"""Random well-typed graphs over all primitives, to try passes and compilers on.

`random_case(seed)` gives a `Case`: a graph, arrays, run-time scalars. While a graph is drawn each
node is evaluated as well (`Sketch.values`), so that what depends on values, such as an index in
range, is chosen by looking. How a primitive is drawn is a row of `MAKERS`, a function of the
sketch. A case is drawn from a few primitives only, its theme: that is what makes primitives meet
themselves and their inverses.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.check import ARITY, operand_categories
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS, Shape
from adjoint.testing.values import apply

MAX_SIZE, MAX_RANK = 96, 6  # of any value; small graphs find as much and show it better
FLOATS = (dtypes.float32, dtypes.float64)
INTEGERS = (dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64)
COMPLEX = (dtypes.complex64, dtypes.complex128)
BY_CATEGORY = ((dtypes.bool,), INTEGERS, FLOATS, COMPLEX)
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, math.inf, -math.inf, math.nan)
CONSTANTS = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.25, 3.0, 0.1)

# Where a function is real and tame; what is not listed takes every number.
DOMAINS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("sqrt", "log", "log2", "log10", "lgamma"), (0.0, 50.0)),
    **dict.fromkeys(("rsqrt", "digamma"), (0.01, 50.0)),
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), (-20.0, 20.0)),
    **dict.fromkeys(("asin", "acos", "erfinv"), (-1.0, 1.0)),
    "log1p": (-1.0, 50.0),
    "atanh": (-0.999, 0.999),
    "acosh": (1.0, 50.0),
    "tan": (-1.5, 1.5),
}


class TooLarge(Exception):
    """A drawn node would exceed MAX_SIZE or MAX_RANK; the draw is given up."""


@dataclass(frozen=True)
class Case:
    """A graph with what it takes to run it. seed: what `random_case` makes it from."""

    graph: Graph
    inputs: list[np.ndarray]
    scalars: list[int | float]
    seed: int


class Sketch:
    """A graph being drawn.

    values: of each node so far, by index.  special: whether inputs contain NaN, infinities and
    zeros of both signs.
    """

    def __init__(self, rng: random.Random, special: bool) -> None:
        self.rng, self.special = rng, special
        self.builder = GraphBuilder()
        self.inputs: list[np.ndarray] = []
        self.scalars: list[int | float] = []
        self.values: list[Any] = []

    # -- nodes

    def add(self, name: str, *args: Node, attrs: Any = None) -> Node:
        """The application of a primitive, evaluated; TooLarge beyond MAX_SIZE or MAX_RANK."""
        aval = PRIMS[name].rule([a.aval for a in args], attrs)
        for shape, _ in aval if PRIMS[name].kind == "tuple" else (aval,):
            # empty axes count as one: what has no element now may be padded later
            if len(shape) > MAX_RANK or math.prod(max(n, 1) for n in shape) > MAX_SIZE:
                raise TooLarge
        node = self.builder.node(name, *args, attrs=attrs)
        if node.index == len(self.values):
            if name == "input":
                value: Any = self.inputs[attrs[0]]
            elif name == "scalar":
                value = np.array(self.scalars[attrs[0]]).astype(attrs[2].np)
            else:
                value = apply(node, [self.values[a.index] for a in args])
            self.values.append(value)
        return node

    def value(self, node: Node) -> np.ndarray:
        return self.values[node.index]

    def input(self, shape: Shape, dtype: DType, domain: tuple[float, float] | None = None) -> Node:
        """A new input; floats of every kind, or in the closed domain."""
        n, rng = math.prod(shape), self.rng
        flat: list[complex]
        if dtype.category == 2 and domain is None:
            flat = [
                rng.choice(SPECIAL) if self.special and rng.random() < 0.3 else rng.gauss(0, 2)
                for _ in range(n)
            ]
        elif dtype.category == 2 and domain is not None:
            flat = [rng.uniform(*domain) for _ in range(n)]
        elif dtype.category == 3:
            flat = [complex(rng.gauss(0, 2), rng.gauss(0, 2)) for _ in range(n)]
        else:
            low, high = domain or (
                (0, 1) if dtype.category == 0 else (-5, 9) if dtype.is_signed else (0, 9)
            )
            flat = [rng.randint(int(low), int(high)) for _ in range(n)]
        return self.given(np.array(flat, dtype=dtype.np).reshape(shape), dtype)

    def given(self, array: np.ndarray, dtype: DType) -> Node:
        """A new input with these values."""
        self.inputs.append(np.array(array, dtype=dtype.np, order="C"))
        return self.add("input", attrs=(len(self.inputs) - 1, array.shape, dtype))

    def scalar(self, value: float, dtype: DType) -> Node:
        self.scalars.append(value)
        return self.add("scalar", attrs=(len(self.scalars) - 1, (), dtype))

    def constant(self, value: float, dtype: DType, shape: Shape = ()) -> Node:
        python = (bool, int, float, complex)[dtype.category](value)
        if dtype is dtypes.uint8:
            python = abs(python)
        c = self.add("const", attrs=(python, dtype))
        return c if shape == () else self.add("expand", c, attrs=shape)

    # -- choices

    def shape(self) -> Shape:
        rank = self.rng.choice((0, 1, 1, 2, 2, 3))
        return tuple(
            self.rng.choice((0, 1, 1, 2, 3, 3, 4, 5) if rank else (1,)) for _ in range(rank)
        )

    def dtype(self, categories: Collection[int] = (0, 1, 2)) -> DType:
        return self.rng.choice(
            BY_CATEGORY[self.rng.choice(tuple(categories) + (2,) * (2 in categories))]
        )

    def find(self, fits: Callable[[Node], bool]) -> Node | None:
        """A node that fits, the latest rather often."""
        pool = [n for n in self.builder.nodes if n.parts is None and fits(n)]
        if not pool:
            return None
        return pool[-1] if self.rng.random() < 0.6 else self.rng.choice(pool)

    def operand(self, categories: Collection[int] = (0, 1, 2), least_rank: int = 0) -> Node:
        """A node of such a dtype and rank, most often one that is there."""
        found = self.find(lambda n: n.dtype.category in categories and len(n.shape) >= least_rank)
        if found is not None and self.rng.random() < 0.9:
            return found
        shape = self.shape()
        while len(shape) < least_rank:
            shape = (*shape, self.rng.choice((1, 2, 3)))
        return self.input(shape, self.dtype(categories))

    def partner(self, x: Node, dtype: DType | None = None) -> Node:
        """A node of the same shape, and of the same dtype unless another is given."""
        wanted, draw = dtype or x.dtype, self.rng.random()
        if draw < 0.3:
            return self.constant(self.rng.choice(CONSTANTS), wanted, x.shape)
        if draw < 0.45 and x.shape:
            smaller = tuple(self.rng.choice((1, n)) for n in x.shape)[
                self.rng.randrange(len(x.shape)) :
            ]
            return self.add("expand", self.input(smaller, wanted), attrs=x.shape)
        found = self.find(lambda n: n.shape == x.shape and n.dtype is wanted)
        return found if found is not None and draw < 0.9 else self.input(x.shape, wanted)

    def within(self, x: Node, low: float, high: float) -> Node:
        """`x`, or an input like it where a value of `x` is outside."""
        value = self.value(x)
        return (
            x
            if ((value >= low) & (value <= high)).all()
            else self.input(x.shape, x.dtype, (low, high))
        )

    def starts(self, starts: list[int]) -> tuple[tuple[int | None, ...], list[Node]]:
        """Starts as attributes and operands: some known, some constants, some run-time scalars."""
        known: list[int | None] = []
        dynamic = []
        for s in starts:
            draw = self.rng.random()
            known.append(s if draw < 0.7 else None)
            if draw >= 0.7:
                dynamic.append(
                    self.scalar(s, dtypes.int64) if draw < 0.9 else self.constant(s, dtypes.int64)
                )
        return tuple(known), dynamic


# --- pointwise ------------------------------------------------------------------------------------


def _categories(name: str) -> tuple[int, ...]:
    """Complex operands only for what moves them: NumPy's complex arithmetic depends on layouts in the last bit."""
    found = operand_categories(name)
    return found if found == (3,) else tuple(c for c in found if c < 3)


def _unary(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        x = s.operand(_categories(name))
        return s.add(name, s.within(x, *DOMAINS[name]) if name in DOMAINS else x)

    return make


def _binary(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        x = s.operand(_categories(name))
        y = s.partner(x)
        if s.rng.random() < 0.1:
            y = x
        return s.add(name, x, y) if s.rng.random() < 0.7 else s.add(name, y, x)

    return make


def _quotient(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        """Integers have no quotient by zero, and the least has none by -1."""
        x = s.operand(_categories(name))
        y = s.partner(x) if x.dtype.category == 2 else s.input(x.shape, x.dtype, (1, 7))
        return s.add(name, x, y)

    return make


def _make_pow(s: Sketch) -> Node | None:
    x = s.operand((1, 2))
    if x.dtype.category == 1:
        return s.add("pow", x, s.input(x.shape, x.dtype, (0, 4)))
    return s.add("pow", s.within(x, 0.01, 20.0), s.within(s.partner(x), -4.0, 4.0))


def _make_integer_pow(s: Sketch) -> Node | None:
    x = s.operand((1, 2))
    return s.add(
        "integer_pow",
        x,
        attrs=s.rng.choice((0, 1, 2, 3, 5) if x.dtype.category == 1 else (-2, -1, 0, 1, 2, 3, 4)),
    )


def _shift(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        x = s.operand((1,))
        amount = (
            s.constant(0, x.dtype, x.shape)
            if s.rng.random() < 0.3
            else s.input(x.shape, x.dtype, (0, 7))
        )
        return s.add(name, x, amount)

    return make


def _make_cast(s: Sketch) -> Node | None:
    x, dtype = s.operand(), s.dtype()
    if x.dtype.category == 2 and dtype.category == 1:
        x = s.within(x, -1e6, 1e6)  # beyond int64 and for NaN the result is the machine's
    return s.add("cast", x, attrs=dtype)


def _make_reinterpret(s: Sketch) -> Node | None:
    """Of integers that are given: the bits of a computed float depend on how it was rounded."""
    old, new = s.rng.choice(((dtypes.int32, dtypes.int16), (dtypes.int64, dtypes.int32), (dtypes.int16, dtypes.int32)))
    numbers = [s.rng.randrange(1, 1000) for _ in range(4)]
    return s.add("reinterpret", s.given(np.array(numbers), old), attrs=(old, new))


def _make_where(s: Sketch) -> Node | None:
    x = s.operand()
    condition = s.partner(x, dtypes.bool)
    return s.add("where", condition, *s.rng.sample([x, s.partner(x)], 2))


def _make_as_real(s: Sketch) -> Node | None:
    return s.add("as_real", s.operand((3,)))


def _make_as_complex(s: Sketch) -> Node | None:
    x = s.operand((2,))
    pair = s.add("expand", s.add("reshape", x, attrs=(*x.shape, 1)), attrs=(*x.shape, 2))
    return s.add("as_complex", pair)


# --- creation and movement ------------------------------------------------------------------------


def _make_input(s: Sketch) -> Node | None:
    return s.input(s.shape(), s.dtype())


def _make_scalar(s: Sketch) -> Node | None:
    if s.rng.random() < 0.5:
        return s.scalar(s.rng.randint(-4, 9), dtypes.int64)
    return s.scalar(s.rng.gauss(0, 1), s.rng.choice(FLOATS))


def _make_const(s: Sketch) -> Node | None:
    return s.constant(s.rng.choice(CONSTANTS), s.dtype(), s.shape())


def _make_full(s: Sketch) -> Node | None:
    value = s.find(lambda n: n.shape == ())
    return s.add("full", value or s.constant(s.rng.choice(CONSTANTS), s.dtype()), attrs=s.shape())


def _make_iota(s: Sketch) -> Node | None:
    return s.add("iota", attrs=s.rng.choice((0, 1, 3, 6)))


def _make_random_bits(s: Sketch) -> Node | None:
    seed, offset = s.rng.getrandbits(62), s.rng.randrange(1 << 40)
    return s.add(
        "random_bits", s.scalar(seed, dtypes.int64), s.scalar(offset, dtypes.int64), attrs=s.shape()
    )


def _make_expand(s: Sketch) -> Node | None:
    x = s.operand()
    grown = tuple(s.rng.choice((1, 2, 3)) if n == 1 else n for n in x.shape)
    lead = tuple(s.rng.choice((1, 2, 3)) for _ in range(s.rng.choice((0, 0, 1, 2))))
    return s.add("expand", x, attrs=lead + grown)


def _make_reshape(s: Sketch) -> Node | None:
    x = s.operand()
    same_size = [n.shape for n in s.builder.nodes if n.parts is None and n.size == x.size]
    parts, n = [], x.size
    for d in (2, 3):
        if n and n % d == 0:
            parts.append(d)
            n //= d
    split = tuple(s.rng.sample([*parts, n], len(parts) + 1))
    with_one = (*x.shape[: (k := s.rng.randint(0, len(x.shape)))], 1, *x.shape[k:])
    return s.add(
        "reshape", x, attrs=s.rng.choice((s.rng.choice(same_size), split, with_one, (x.size,)))
    )


def _make_permute(s: Sketch) -> Node | None:
    x = s.operand(least_rank=s.rng.choice((0, 2)))
    return s.add("permute", x, attrs=tuple(s.rng.sample(range(len(x.shape)), len(x.shape))))


def _make_flip(s: Sketch) -> Node | None:
    x = s.operand()
    return s.add("flip", x, attrs=tuple(i for i in range(len(x.shape)) if s.rng.random() < 0.6))


def _draw_region(s: Sketch, shape: Shape) -> tuple[list[int], Shape, tuple[int, ...]]:
    """starts, sizes and steps of a part of `shape`; an axis is whole as often as not."""
    starts, sizes, steps = [], [], []
    for n in shape:
        step = s.rng.choice((1, 1, 1, 2))
        size = s.rng.randint(0 if s.rng.random() < 0.1 else 1, (n - 1) // step + 1) if n else 0
        start = s.rng.randint(0, n - ((size - 1) * step + 1)) if size else 0
        whole = s.rng.random() < 0.5
        starts.append(0 if whole else start)
        sizes.append(n if whole else size)
        steps.append(1 if whole else step)
    return starts, tuple(sizes), tuple(steps)


def _make_slice(s: Sketch) -> Node | None:
    x = s.operand()
    if x.prim.name == "place" and s.rng.random() < 0.5:
        _, starts, steps = x.attrs
        return s.add("slice", x, *x.args[1:], attrs=(starts, x.args[0].shape, steps))
    if x.prim.name == "place" and s.rng.random() < 0.3:  # a part as large as what was placed, from the beginning
        n = len(x.shape)
        return s.add("slice", x, attrs=((0,) * n, x.args[0].shape, (1,) * n))
    if x.prim.name == "slice_update" and s.rng.random() < 0.5:
        starts, steps = x.attrs
        return s.add("slice", x, *x.args[2:], attrs=(starts, x.args[1].shape, steps))
    starts, sizes, steps = _draw_region(s, x.shape)
    known, dynamic = s.starts(starts)
    return s.add("slice", x, *dynamic, attrs=(known, sizes, steps))


def _make_place(s: Sketch) -> Node | None:
    x = s.operand()
    if x.prim.name == "slice" and s.rng.random() < 0.5:
        starts, _, steps = x.attrs
        return s.add("place", x, *x.args[1:], attrs=(x.args[0].shape, starts, steps))
    previous = s.find(lambda n: n.prim.name == "place" and n.args[0].shape == x.shape)
    if (
        previous is not None and s.rng.random() < 0.5
    ):  # the region of another: their sum is one of them
        return s.add("place", x, *previous.args[1:], attrs=previous.attrs)
    if x.shape and not x.dtype.is_complex and s.rng.random() < 0.1:  # as the gradient of a split: two side by side
        gap, axis = s.rng.choice((0, 1)), s.rng.randrange(len(x.shape))
        shape = tuple(2 * n + gap if i == axis else n for i, n in enumerate(x.shape))
        starts = [tuple(k if i == axis else 0 for i in range(len(shape))) for k in (0, x.shape[axis] + gap)]
        return s.add("add", *[s.add("place", x, attrs=(shape, k, (1,) * len(shape))) for k in starts])
    starts = [s.rng.choice((0, 0, 1, 2)) for _ in x.shape]
    steps = tuple(s.rng.choice((1, 1, 2)) for _ in x.shape)
    rows = zip(starts, x.shape, steps, strict=True)
    shape = tuple(b + ((n - 1) * k + 1 if n else 0) + s.rng.choice((0, 0, 1)) for b, n, k in rows)
    known, dynamic = s.starts(starts)
    return s.add("place", x, *dynamic, attrs=(shape, known, steps))


def _make_slice_update(s: Sketch) -> Node | None:
    x = s.operand()
    if x.prim.name == "slice_update" and s.rng.random() < 0.4:
        return s.add("slice_update", x, s.partner(x.args[1]), *x.args[2:], attrs=x.attrs)
    if x.prim.name == "slice" and s.rng.random() < 0.5:
        starts, _, steps = x.attrs
        value = x if s.rng.random() < 0.5 else s.partner(x)
        return s.add("slice_update", x.args[0], value, *x.args[1:], attrs=(starts, steps))
    starts, sizes, steps = _draw_region(s, x.shape)
    value = s.find(lambda n: n.shape == sizes and n.dtype is x.dtype) or s.input(sizes, x.dtype)
    known, dynamic = s.starts(starts)
    return s.add("slice_update", x, value, *dynamic, attrs=(known, steps))


def _make_cat(s: Sketch) -> Node | None:
    x = s.operand(least_rank=1)
    axis = s.rng.randrange(len(x.shape))
    parts = [x]
    for _ in range(s.rng.choice((0, 1, 1, 2))):
        shape = (*x.shape[:axis], s.rng.choice((0, 1, 2)), *x.shape[axis + 1 :])
        parts.append(s.partner(x) if s.rng.random() < 0.6 else s.input(shape, x.dtype))
    if s.rng.random() < 0.3:  # what a split makes
        n, start = x.shape[axis], s.rng.randint(0, x.shape[axis])
        parts = []
        for first, size in ((0, start), (start, n - start)):
            starts = tuple(first if i == axis else 0 for i in range(len(x.shape)))
            sizes = (*x.shape[:axis], size, *x.shape[axis + 1 :])
            parts.append(s.add("slice", x, attrs=(starts, sizes, (1,) * len(x.shape))))
    return s.add("cat", *parts, attrs=axis)


def _make_window(s: Sketch) -> Node | None:
    x = s.operand(least_rank=1)
    dims = tuple(i for i, n in enumerate(x.shape) if n > 0 and s.rng.random() < 0.7)
    sizes = tuple(s.rng.choice((1, 2, 3)) for _ in dims)
    strides, dilations = (tuple(s.rng.choice((1, 1, 2)) for _ in dims) for _ in range(2))
    return s.add("window", x, attrs=(dims, sizes, strides, dilations))


# --- reductions, products, indexing ---------------------------------------------------------------


def _reduction(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        x = s.operand((1, 2) if name in ("sum", "prod") else (0, 1, 2))
        extremes = name in ("amax", "amin")  # of nothing there is none
        axes = [
            i for i, n in enumerate(x.shape) if (n > 0 or not extremes) and s.rng.random() < 0.6
        ]
        return s.add(name, x, attrs=tuple(axes))

    return make


def _on_axis(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        x = s.operand((1, 2), least_rank=1)
        axes = [i for i, n in enumerate(x.shape) if n > 0 or PRIMS[name].kind == "scan"]
        if not axes:
            return None
        axis = s.rng.choice(axes)
        return s.add(name, x, attrs=(axis, s.rng.random() < 0.5) if name == "argsort" else axis)

    return make


def _make_recurrence(s: Sketch) -> Node | None:
    terms = s.operand((1, 2), least_rank=1)
    factors = s.find(lambda n: n.aval == terms.aval)
    return s.add("recurrence", factors or s.input(terms.shape, terms.dtype, (-1, 1)), terms, attrs=s.rng.randrange(len(terms.shape)))


def _make_argselect(s: Sketch) -> Node | None:
    x = s.operand((0, 1, 2), least_rank=1)
    axis = s.rng.randrange(len(x.shape))
    start = s.rng.randint(0, x.shape[axis])
    stop = s.rng.randint(start, x.shape[axis])
    return s.add("argselect", x, attrs=(axis, s.rng.random() < 0.5, start, stop))


def _make_matmul(s: Sketch) -> Node | None:
    a = s.operand((1, 2), least_rank=2)
    shape = (*a.shape[:-2], a.shape[-1], s.rng.choice((1, 2, 4)))
    b = s.find(
        lambda n: n.dtype is a.dtype and n.shape[:-1] == shape[:-1] and len(n.shape) == len(shape)
    )
    return s.add("matmul", a, b if b is not None else s.input(shape, a.dtype))


def _make_convolve(s: Sketch) -> Node | None:
    x = s.find(lambda n: n.dtype.category in (1, 2) and len(n.shape) in (3, 4))
    if x is None:
        x = s.input(s.rng.choice(((1, 2, 5), (2, 1, 3, 4))), s.dtype((1, 2)))
    axes, channels = len(x.shape) - 2, x.shape[1]

    def some(*choices: int) -> Shape:
        return tuple(s.rng.choice(choices) for _ in range(axes))

    strides, dilations, steps = some(1, 1, 2), some(1, 1, 2), some(1, 1, 2, 3)
    lo, hi = some(0, 0, 1, 2, -1), some(0, 0, 1, -1)
    groups = s.rng.choice([g for g in (1, 2) if channels % g == 0])
    # Zeros between elements meet no tap where a phase is computed by itself, so taps are finite.
    finite = (-3 if x.dtype.is_signed else 0, 3)
    w = s.input((groups * s.rng.choice((1, 2)), channels // groups, *some(1, 2, 3)), x.dtype, finite)
    bias = [s.input(w.shape[:1], x.dtype, finite)] if s.rng.random() < 0.3 else []
    return s.add("convolve", x, w, *bias, attrs=(strides, lo, hi, steps, dilations, groups))


def _make_attention(s: Sketch) -> Node:
    """Of finite numbers: what is masked may be left out of sums, whatever it is."""
    dtype, batch = s.dtype((2,)), s.rng.choice(((), (2,), (1, 2)))
    queries, keys, width, out_width = (s.rng.choice((1, 2, 3)) for _ in range(4))
    shapes = ((queries, width), (keys, width), (keys, out_width))
    three = [s.input((*batch, *shape), dtype, (-2.0, 2.0)) for shape in shapes]
    mask = []
    if s.rng.random() < 0.5:
        kind = s.rng.choice((dtype, dtypes.bool))
        mask = [s.input((*batch, queries, keys), kind, None if kind is dtypes.bool else (-2.0, 2.0))]
    return s.add("attention", *three, *mask, attrs=s.rng.random() < 0.5)


def _make_attention_part(s: Sketch) -> Node:
    return s.add("pick", _make_attention(s), attrs=s.rng.randrange(2))


def _make_attention_backward(s: Sketch) -> Node:
    node = _make_attention(s)
    out, lse = (s.add("pick", node, attrs=k) for k in range(2))
    g, delta = (s.input(x.shape, x.dtype, (-2.0, 2.0)) for x in (out, lse))
    three = s.add("attention_backward", g, *node.args[:3], lse, delta, *node.args[3:], attrs=node.attrs)
    return s.add("pick", three, attrs=s.rng.randrange(3))


def _index(s: Sketch, n: int) -> Node | None:
    """An int64 node whose values are positions on an axis of length n, from the end too."""
    found = s.find(
        lambda x: x.dtype is dtypes.int64 and bool(((s.value(x) >= -n) & (s.value(x) < n)).all())
    )
    if found is not None and s.rng.random() < 0.6:
        return found
    return s.input(s.rng.choice(((), (3,), (2, 2), (0,))), dtypes.int64, (-n, n - 1)) if n else None


def _make_take(s: Sketch) -> Node | None:
    x = s.operand(least_rank=1)
    index = _index(s, x.shape[0])
    return None if index is None else s.add("take", x, index)


def _make_put_add(s: Sketch) -> Node | None:
    n = s.rng.choice((1, 3, 5))
    index = _index(s, n)
    assert index is not None  # n > 0
    shape = index.shape + s.rng.choice(((), (2,)))
    values = s.find(lambda x: x.shape == shape and x.dtype.category in (1, 2))
    return s.add("put_add", index, values or s.input(shape, s.dtype((1, 2))), attrs=n)


def _make_put(s: Sketch) -> Node | None:
    x = s.operand(least_rank=1)
    index = _index(s, x.shape[0])
    if index is None:
        return None
    shape = index.shape + x.shape[1:]
    values = s.find(lambda n: n.shape == shape and n.dtype is x.dtype)
    return s.add("put", x, index, values or s.input(shape, x.dtype))


def _make_put_fold(s: Sketch) -> Node | None:
    made = _make_put(s)
    if made is None:
        return None
    if made.dtype is dtypes.bool:
        return made
    return s.add("put_fold", *made.args, attrs=s.rng.choice(("prod", "amax", "amin")))


def _make_position(s: Sketch) -> Node | None:
    n = s.rng.choice((1, 3, 5))
    index = _index(s, n)
    return None if index is None else s.add("position", index, attrs=(n, True, s.rng.choice((-1, 0, 1))))


# --- Fourier transforms ---------------------------------------------------------------------------

POWERS = (0.0, 0.5, 1.0)


def _make_fft(s: Sketch) -> Node | None:
    x = s.operand((3,))
    axes = [d for d, n in enumerate(x.shape) if n]
    chosen = tuple(d for d in axes if s.rng.random() < 0.7) or tuple(axes[:1])
    return s.add("fft", x, attrs=(chosen, s.rng.random() < 0.5, s.rng.choice(POWERS))) if axes else None


def _make_rfft(s: Sketch) -> Node | None:
    x = s.operand((2,))
    axes = [d for d, n in enumerate(x.shape) if n]
    return s.add("rfft", x, attrs=(s.rng.choice(axes), s.rng.choice(POWERS))) if axes else None


def _make_irfft(s: Sketch) -> Node | None:
    x = s.operand((3,))
    axes = [d for d, n in enumerate(x.shape) if n]
    if not axes:
        return None
    axis = s.rng.choice(axes)
    n = max(1, 2 * (x.shape[axis] - 1) + s.rng.randrange(2))
    return s.add("irfft", x, attrs=(axis, n, s.rng.choice(POWERS)))


# --- decompositions -------------------------------------------------------------------------------


def _matrices(s: Sketch, rows: int, columns: int, definite: bool = False) -> Node:
    batch = s.rng.choice(((), (2,)))
    random = np.array(
        [s.rng.gauss(0, 1) for _ in range(math.prod(batch) * rows * columns)]
    ).reshape(*batch, rows, columns)
    if definite:
        random = random @ random.swapaxes(-1, -2) + np.eye(rows)
    return s.given(random, s.rng.choice(FLOATS))


def _host(name: str) -> Callable[[Sketch], Node | None]:
    def make(s: Sketch) -> Node | None:
        """Definite matrices, far from where a decomposition fails or is not unique."""
        n = s.rng.choice((1, 2, 3))
        if name == "row_order":
            size = s.rng.choice((1, 2, 3))
            exchanges = [s.rng.randrange(i, n) + 1 for i in range(min(size, n))]
            return s.add(name, s.given(np.array(exchanges), dtypes.int32), attrs=n)
        if name == "lu":
            made = s.add(name, _matrices(s, n, s.rng.choice((1, 2, 3))), attrs=False)
        elif name in ("qr", "svd"):
            made = s.add(name, _matrices(s, n, s.rng.choice((1, 2, 3))))
        elif name == "solve":
            a = _matrices(s, n, n, definite=True)
            made = s.add(name, a, s.input((*a.shape[:-1], 2), a.dtype, (-2.0, 2.0)))
        else:
            made = s.add(name, _matrices(s, n, n, definite=True))
        return (
            made
            if made.parts is None
            else s.add("pick", made, attrs=s.rng.randrange(len(made.parts)))
        )

    return make


MAKERS: dict[str, Callable[[Sketch], Node | None]] = {
    **{n: _unary(n) for n, p in PRIMS.items() if p.kind == "pointwise" and ARITY[n] == 1},
    **{n: _binary(n) for n, p in PRIMS.items() if p.kind == "pointwise" and ARITY[n] == 2},
    **{n: _quotient(n) for n in ("floor_div", "remainder", "fmod")},
    **{n: _shift(n) for n in ("shift_left", "shift_right")},
    "pow": _make_pow,
    "integer_pow": _make_integer_pow,
    "as_real": _make_as_real,
    "as_complex": _make_as_complex,
    "cast": _make_cast,
    "where": _make_where,
    "input": _make_input,
    "scalar": _make_scalar,
    "const": _make_const,
    "full": _make_full,
    "iota": _make_iota,
    "random_bits": _make_random_bits,
    "expand": _make_expand,
    "reshape": _make_reshape,
    "permute": _make_permute,
    "flip": _make_flip,
    "slice": _make_slice,
    "place": _make_place,
    "slice_update": _make_slice_update,
    "cat": _make_cat,
    "window": _make_window,
    **{n: _reduction(n) for n in ("sum", "prod", "amax", "amin")},
    **{n: _on_axis(n) for n in ("argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin", "argsort")},
    "recurrence": _make_recurrence,
    "argselect": _make_argselect,
    "matmul": _make_matmul,
    "convolve": _make_convolve,
    "attention": _make_attention_part,
    "attention_backward": _make_attention_backward,
    "take": _make_take,
    "put_add": _make_put_add,
    "put": _make_put,
    "put_fold": _make_put_fold,
    "position": _make_position,
    "fft": _make_fft,
    "rfft": _make_rfft,
    "irfft": _make_irfft,
    "reinterpret": _make_reinterpret,
    **{n: _host(n) for n in ("inv", "cholesky", "solve", "det", "slogdet", "qr", "lu", "row_order", "eigh", "eig", "svd")},
    "pick": _host("slogdet"),
}

# Primitives that have something to say to each other; every other theme is drawn at random.
THEMES = (
    "neg add sub mul div abs const integer_pow expand",
    "neg mul add abs relu sign maximum floor round",
    "cast cast logical_not eq ne lt where bitwise_not isnan",
    "bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right add sub mul neg sum",
    "expand reshape permute flip add exp",
    "permute reshape expand sum amax argmax const",
    "slice place add sub reshape",
    "slice slice_update place const",
    "slice cat place flip expand",
    "place slice_update full slice mul window",
    "complex real imag conj as_real as_complex expand reshape add slice",
)
COMMON = ("expand", "const", "add", "mul", "reshape", "input", "where")  # glue of random themes


def random_case(
    seed: int, steps: int = 24, prims: Collection[str] | None = None, special: bool = True
) -> Case:
    """A random graph of about `steps` primitives, the same for the same arguments.

    prims: the primitives to draw from, all by default; with it there is no theme. special: whether
    inputs contain NaN, infinities and zeros of both signs.

    >>> from adjoint.testing.graphs import random_case
    >>> case = random_case(7)
    >>> len(case.graph.outputs) >= 1
    True
    """
    rng = random.Random(seed)
    s = Sketch(rng, special)
    theme = sorted(prims or ()) or rng.choice(THEMES).split()
    if prims is None and rng.random() < 0.5:
        theme = [*rng.sample(sorted(MAKERS), 8), *rng.sample(COMMON, 3)]
    made: list[Node] = [s.input((3, 4), s.rng.choice(FLOATS))]
    for _ in range(steps):
        try:
            node = MAKERS[rng.choice(theme)](s)
        except TooLarge:
            continue
        if node is not None:
            made.append(node)
    used = {a.index for n in s.builder.nodes for a in n.args}
    ends = [n for n in made if n.index not in used]
    outputs = [*ends, *rng.choices(made, k=rng.choice((0, 1, 3)))]
    return Case(s.builder.finish(outputs), s.inputs, s.scalars, seed)
