"""Convolutions with one output channel in each group (depthwise ones), where rows lie side by side in memory.

There are too few channels to fill a vector with: it holds positions of a row. A tile is some rows of y, a register of sums for
each, and part of a row wide; every row of x that its windows reach is loaded once for each tap along the row, and added, times
a tap each, to all rows of y that it belongs to. So a tap costs a multiply-add, and a load for each few of them. What lies beside
x is never read: tiles at the edges leave those taps out, or the lanes that would meet them.

`depth_plan` says whether a problem is one of these, `depth_kernel` writes it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.conv_windows import (
    MOST_WRITTEN,
    Part,
    Range,
    Writer,
    asked_parts,
    bands_of,
    by_place,
    each_tile,
    even,
    guarded,
    lanes_on_x,
    on_x,
    parts,
    row_of,
)
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    LEAST_WORK,
    Operand,
    Phase,
    buffer_address,
    divide,
    element_address,
    multiply_add,
    phase_of,
    static_mask,
    store,
    times,
)
from adjoint.schedule.depthwise import Axis, fit_rows, last_two


def axes_of(p: Problem) -> list[Axis]:
    """Of a problem."""
    steps = p.steps or (1,) * len(p.positions)
    return [Axis(*row) for row in zip(p.positions, p.sizes, p.kernel, p.stride, p.dilation, p.lo, steps, strict=True)]


@dataclass(frozen=True, slots=True)
class DepthPlan:
    """Tiles are `rows` by `width` positions, which fill `phases` registers of at most `lanes`: one for the positions that meet the
    same taps, where x is spread. A unit is one of `bands` of the tiles, from top to bottom, of an image's channel; `group` of them make
    one of nblocks blocks."""

    lanes: int
    rows: int
    width: int
    phases: int
    bands: int
    group: int
    nblocks: int


def depth_plan(p: Problem, lanes: int, registers: int) -> DepthPlan | None:
    """How to compute a problem with positions in the lanes; None where it is another kind of problem."""
    axes = axes_of(p)
    if p.outputs != 1 or (p.x_strides[-1] != 1 and p.sizes[-1] > 1) or not fit_rows(axes, p.channels):
        return None
    _, down, across = last_two(axes)
    phases = across.step
    width = even(-(-across.positions // phases), lanes)
    while lanes >= 2 * width:
        lanes //= 2
    most = (4 if registers < 32 or p.taps > 16 else 8) // phases
    rows = min(even(-(-down.positions // down.step), max(1, most // down.step)) * down.step, down.positions)
    total = p.images * p.groups * math.prod(p.positions[:-2])
    bands = bands_of(down, rows, total, p.work)
    total *= bands
    group = max(1, LEAST_WORK * total // p.work)
    return DepthPlan(lanes, rows, width * phases, phases, bands, group, -(-total // group))


def depth_kernel(name: str, problem: Problem, plan: DepthPlan) -> Gemm:
    """The kernel, which needs no memory of its own. Buffers: 0 = x, 1 = w, then the bias if there is one, y."""
    return Gemm((_Rows(problem, plan).write(name),), 0)


class _Rows(Writer):
    """Writes the kernel: loops over units, tiles, and the taps of further axes, around what is written out."""

    def __init__(self, problem: Problem, plan: DepthPlan) -> None:
        super().__init__(problem.dtype, plan.lanes, problem.channels, axes_of(problem), problem.x_strides[2:], problem.w_strides[2:])
        self.p, self.plan = problem, plan

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        self.x, self.w = buffer_address(em, Operand(0, 0, 0, 1)), buffer_address(em, p.weights)
        self.bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        self.masks: dict[int, str] = {}  # for each tap along the row: the lanes that meet x
        self.x_row = "0"  # the row of x where a tile begins
        self.y = buffer_address(em, Operand(3 if p.bias else 2, 0, 0, 1))
        total = p.images * p.groups * math.prod(axis.positions for axis in self.outer) * plan.bands
        with self.units(plan.group, total) as number:
            unit, self.band = divide(em, number, plan.bands)
            self._unit(unit)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str) -> None:
        em, shape, p = self.em, self.shape, self.p
        channel, ranges, starts = self.taken_apart(unit)
        image, g = divide(em, channel, p.groups)
        x_at = element_address(em, shape, self.x, times(em, image, p.x_strides[0]), times(em, g, p.x_strides[1]), *starts)
        w_at = element_address(em, shape, self.w, times(em, g, p.w_strides[0]))
        y_at = element_address(em, shape, self.y, times(em, unit, self.down.positions * self.across.positions))
        start = "zeroinitializer"
        if self.bias is not None:
            number = em.op(f"load {shape.element}, ptr {element_address(em, shape, self.bias, g)}, align {shape.itemsize}")
            start = em.splat(shape.element, shape.lanes, number)
        down, across = parts(self.down, self.plan.rows), parts(self.across, self.plan.width)
        if self.plan.bands > 1 or sum(len(rows.pairs) for rows in down) * self.across.kernel * len(across) > MOST_WRITTEN:
            down = asked_parts(self.down, self.plan.rows, True)
            across = asked_parts(self.across, self.plan.width, True) if self.across.stride == 1 else across
        for rows in down:
            for columns in across:
                with each_tile(em, rows, self.band, self.plan.bands) as row, each_tile(em, columns) as column:
                    x_row, _ = divide(em, times(em, row, self.down.stride), self.down.step)
                    x_column, _ = divide(em, times(em, column, self.across.stride), self.across.step)
                    corner = element_address(em, shape, x_at, times(em, x_row, self.x_rows), x_column)
                    self.masks = {}
                    if columns.asked:
                        for tap in range(self.across.kernel):
                            self.masks[tap] = lanes_on_x(em, shape.lanes, self.across, columns, x_column, tap)
                    self.x_row = x_row
                    sums = self._sums(rows, columns, ranges, corner, w_at, start)
                    place = element_address(em, shape, y_at, times(em, row, self.across.positions), column)
                    for i in range(rows.size):
                        self._finish(sums[i :: rows.size], columns.size, element_address(em, shape, place, str(i * self.across.positions)))

    def _finish(self, sums: list[str], size: int, place: str) -> None:
        """Write a row of a tile: where there are two phases, its positions are those of the one and the other in turns."""
        em, shape, lanes = self.em, self.shape, self.shape.lanes
        vectors = sums
        if len(sums) == 2:
            vectors = []
            for half in range(2):
                order = ", ".join(f"i32 {(half * lanes + i) // 2 + i % 2 * lanes}" for i in range(lanes))
                vectors.append(em.op(f"shufflevector {self.vec} {sums[0]}, {self.vec} {sums[1]}, <{lanes} x i32> <{order}>"))
        for v, vector in enumerate(vectors):
            count = min(size - v * lanes, lanes)
            if count > 0:
                mask = None if count == lanes else static_mask(lanes, count)
                store(em, shape, vector, element_address(em, shape, place, str(v * lanes)), mask)

    def _sums(self, rows: Part, columns: Part, ranges: list[Range], x: str, w: str, start: str) -> list[str]:
        def taps(x: str, w: str, sums: list[str]) -> list[str]:
            return self._taps(rows, columns, x, w, sums)

        return self.over(ranges, x, w, [start] * (rows.size * self.plan.phases), taps)

    def _taps(self, rows: Part, columns: Part, x: str, w: str, sums: list[str]) -> list[str]:
        weights: dict[tuple[int, int], str] = {}
        if rows.asked:  # or else a tap would be known only where the first row that needs it meets x
            for k, j in itertools.product(range(self.down.kernel), range(self.across.kernel)):
                weights[k, j] = self._weight(w, k, j)
        for row, whose in sorted(by_place(self.down, rows, rows.pairs).items()):
            meets = on_x(self.em, self.down, rows, self.x_row, row)

            def meet(held: list[str], row: int = row, whose: list[tuple[int, int]] = whose) -> list[str]:
                return self._row(rows, columns, x, row, w, whose, weights, held)

            sums = guarded(self.em, self.vec, meets, sums, meet)
        return sums

    def _weight(self, w: str, k: int, j: int) -> str:
        em, shape = self.em, self.shape
        at = element_address(em, shape, w, str(k * self.w_rows + j * self.p.w_strides[-1]))
        return em.splat(shape.element, shape.lanes, em.op(f"load {shape.element}, ptr {at}, align {shape.itemsize}"))

    def _row(
        self, rows: Part, columns: Part, x: str, row: int, w: str, whose: list[tuple[int, int]], weights: dict[tuple[int, int], str],
        sums: list[str],
    ) -> list[str]:  # fmt: skip
        """One row of x with the rows of a tile, and the taps, that meet it."""
        em, shape, phases = self.em, self.shape, self.plan.phases
        base = columns.first * self.across.stride // self.across.step
        new = list(sums)
        for j in range(self.across.kernel):
            places = {t: self.across.at(columns.first + t, j) - base for t, k in columns.pairs if k == j}
            places = {t: at for t, at in places.items() if columns.asked or self.across.meets(columns.first + t, j)}
            if not places:
                continue
            phase = min(places) % phases
            part = row_of(em, shape, x, row * self.x_rows, self.across.stride, {t // phases: at for t, at in places.items()}, self.masks.get(j))
            for i, k in whose:
                if (k, j) not in weights:
                    weights[k, j] = self._weight(w, k, j)
                total, place = em.name("d"), phase * rows.size + i
                multiply_add(em, shape, shape.lanes, part, weights[k, j], new[place], total)
                new[place] = total
        return new
