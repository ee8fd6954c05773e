"""Convolutions of few positions with long rows of taps, as the gradients of weights of few channels are.

There is little to fill a vector with but the taps themselves: a row of w, many elements side by side, meets the rows of x that
it lies on at each position. A tile is some output channels by all positions of a row of y, a register of sums for each pair;
at the end the lanes of each are added up. What lies beside a row of x is not read, by masks that are known here.

`taps_plan` says whether that is worth it, `taps_kernel` writes it. The order in which products are added depends on shapes
alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjoint.codegen.conv_plan import Problem, tile_and_cost
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    ELEMENTS,
    LEAST_WORK,
    Emitter,
    Operand,
    Phase,
    Shape,
    buffer_address,
    carrying,
    divide,
    element_address,
    load,
    loop,
    maximum,
    minimum,
    multiply_add,
    phase_of,
    plus,
    static_mask,
    tile_start,
    times,
)
from adjoint.codegen.reductions import fold_of
from adjoint.dtypes import by_name

_MOST_VECTORS = 4  # of a row of taps, which are written out


@dataclass(frozen=True, slots=True)
class TapsPlan:
    """Rows of taps are `vectors` registers of `lanes`; a tile has `width` output channels and all positions of a row.

    units: output channels' tiles, and rows of positions, for each image and group; `group` units make one of nblocks blocks.
    """

    lanes: int
    vectors: int
    width: int
    units: tuple[int, int]
    group: int
    nblocks: int


def taps_plan(p: Problem, lanes: int, registers: int) -> TapsPlan | None:
    """How to compute a problem along its taps; None where that cannot be, or another way is faster."""
    vectors, across = -(-p.kernel[-1] // lanes), p.positions[-1]
    beside = p.dilation[-1] == 1 and p.x_strides[-1] == 1 and p.w_strides[-1] == 1
    if not beside or p.bias or vectors > _MOST_VECTORS or 2 * across + 2 > registers or not _all_meet(p):
        return None
    most = min(p.outputs, (registers - 2) // (across + 1))
    tiles = -(-p.outputs // most)
    width = -(-p.outputs // tiles)
    rows = math.prod(p.positions[:-1])
    masked = 2 if p.lo[-1] or p.kernel[-1] % lanes else 1  # a masked load is two operations
    step = max(width * across / 2, masked * (width + across) / 2, 4.0)
    steps = p.channels * p.taps // p.kernel[-1]
    cost = p.images * rows * tiles * (steps * (vectors * step + 2.0) + 10.0 * width * across + 30)
    if cost >= tile_and_cost(p, lanes, registers)[0]:
        return None
    total = p.images * p.groups * rows * tiles
    group = max(1, LEAST_WORK * total // p.work)
    return TapsPlan(lanes, vectors, width, (tiles, rows), group, -(-total // group))


def _all_meet(p: Problem) -> bool:
    """Whether at each position some tap of every axis lies on x: then no loop is empty."""
    for size, k, n, s, d, lo in zip(p.sizes, p.kernel, p.positions, p.stride, p.dilation, p.lo, strict=True):
        for position in range(n):
            first = position * s - lo
            if not any(0 <= first + tap * d < size for tap in range(k)):
                return False
    return True


def taps_kernel(name: str, problem: Problem, plan: TapsPlan) -> Gemm:
    """The kernel, which needs no memory of its own. Buffers: 0 = x, 1 = w, 2 = y."""
    return Gemm((_Taps(problem, plan).write(name),), 0)


class _Taps:
    """Writes the kernel: loops over units, channels and the rows of taps."""

    def __init__(self, problem: Problem, plan: TapsPlan) -> None:
        self.p, self.plan, self.em = problem, plan, Emitter()
        element, itemsize = ELEMENTS[problem.dtype]
        self.shape = Shape(element, itemsize, plan.lanes, 1, 0, 0, 0)
        self.vec = vector_type(element, plan.lanes)

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        self.x, self.w, self.y = (buffer_address(em, o) for o in (Operand(0, 0, 0, 1), p.weights, Operand(2, 0, 0, 1)))
        total = p.images * p.groups * math.prod(plan.units)
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, plan.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {plan.group}"), total)) as unit:
                self._unit(unit)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str) -> None:
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        rest, row = divide(em, unit, plan.units[1])
        rest, tile = divide(em, rest, plan.units[0])
        image, g = divide(em, rest, p.groups)
        o = tile_start(em, tile, plan.width, p.outputs)
        # What the taps of the outer axes that lie on x are, and where the first of them lies.
        places: list[str] = []
        left = row
        for n in reversed(p.positions[1:-1]):
            left, place = divide(em, left, n)
            places.insert(0, place)
        places = [left, *places] if len(p.positions) > 1 else []
        x = [times(em, image, p.x_strides[0]), times(em, g, p.x_strides[1]), str(-p.lo[-1])]
        w = [times(em, g, p.w_strides[0]), times(em, o, p.w_strides[1])]
        ranges = []
        for axis, place in enumerate(places):
            begin = em.op(f"sub i64 {times(em, place, p.stride[axis])}, {p.lo[axis]}")  # where the first tap lies
            d, stride = p.dilation[axis], p.x_strides[3 + axis]
            before = maximum(em, em.op(f"sub i64 0, {begin}"), 0)
            start, _ = divide(em, plus(em, before, str(d - 1)), d)
            last, _ = divide(em, em.op(f"sub i64 {p.sizes[axis] - 1}, {begin}"), d)
            stop = minimum(em, em.op(f"add i64 {last}, 1"), p.kernel[axis])
            x.append(times(em, begin, stride))
            ranges.append((start, stop, d * stride, p.w_strides[3 + axis]))
        axes = [("0", str(p.channels), p.x_strides[2], p.w_strides[2]), *ranges]
        sums = ["zeroinitializer"] * (plan.width * p.positions[-1])
        sums = self._sum(axes, element_address(em, shape, self.x, *x), element_address(em, shape, self.w, *w), sums)
        channel = plus(em, times(em, plus(em, times(em, image, p.groups), g), p.outputs), o)
        y = element_address(em, shape, self.y, times(em, channel, p.area), times(em, row, p.positions[-1]))
        fold = fold_of("sum", by_name(p.dtype), plan.lanes)
        for i in range(plan.width):
            for j in range(p.positions[-1]):
                (number,) = fold.across(em, [sums[i * p.positions[-1] + j]])
                em.line(f"store {shape.element} {number}, ptr {element_address(em, shape, y, str(i * p.area + j))}")

    def _sum(self, axes: list[tuple[str, str, int, int]], x: str, w: str, sums: list[str]) -> list[str]:
        """Loops over (start, stop, step in x, step in w), around one row of taps."""
        em, shape = self.em, self.shape
        if not axes:
            return self._row(x, w, sums)
        (start, stop, x_step, w_step), *rest = axes
        with carrying(em, self.vec, sums, start, stop) as (k, held, nexts):
            x_here = element_address(em, shape, x, times(em, k, x_step))
            nexts += self._sum(rest, x_here, element_address(em, shape, w, times(em, k, w_step)), held)
        return nexts

    def _row(self, x: str, w: str, sums: list[str]) -> list[str]:
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        across = p.positions[-1]
        for v in range(plan.vectors):
            first, end = v * plan.lanes, min((v + 1) * plan.lanes, p.kernel[-1])
            rows = [self._part(w, i * p.w_strides[1] + first, 0, end - first) for i in range(plan.width)]
            new = list(sums)
            for j in range(across):
                at = j * p.stride[-1] - p.lo[-1]  # where the first tap lies in the row of x
                part = self._part(x, j * p.stride[-1] + first, -at - first, min(end, p.sizes[-1] - at) - first)
                if part is None:
                    continue
                for i, taps in enumerate(rows):
                    k = i * across + j
                    new[k] = em.name("d")
                    multiply_add(em, shape, plan.lanes, part, taps or "", sums[k], new[k])
            sums = new
        return sums

    def _part(self, base: str, offset: int, first: int, count: int) -> str | None:
        """Elements first .. count - 1 of a vector, `offset` behind `base`; None if there are none."""
        first, count = max(first, 0), min(count, self.plan.lanes)
        if first >= count:
            return None
        mask = None if count - first == self.plan.lanes else static_mask(self.plan.lanes, count, first)
        return load(self.em, self.shape, element_address(self.em, self.shape, base, str(offset)), mask)
