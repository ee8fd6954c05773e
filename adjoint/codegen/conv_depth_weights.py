"""Gradients of the weights of depthwise convolutions: few positions, long rows of taps, one output channel in each group.

As convolutions they have the other operand's gradient for weights. Lanes hold taps of a row; a tile is some positions, a register
of sums for each, which meets the rows of taps a few at a time: every row of x that these reach is loaded once for each position
along the row, and serves all rows of taps it belongs to. At the end the lanes of each sum are added up. `weights_plan` says
whether a problem is one of these; the rest is as in `conv_depth`, with positions and taps in each other's place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from adjoint.codegen.conv_depth import axes_of
from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.conv_windows import (
    MOST_WRITTEN,
    Part,
    Writer,
    asked_parts,
    by_place,
    even,
    guarded,
    lanes_on_x,
    on_x,
    parts,
    row_of,
    turned,
)
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    LEAST_WORK,
    Operand,
    Phase,
    buffer_address,
    carrying,
    divide,
    element_address,
    load,
    multiply_add,
    phase_of,
    static_mask,
    times,
)
from adjoint.codegen.reductions import fold_of
from adjoint.dtypes import by_name
from adjoint.schedule.depthwise import fit_taps, last_two


@dataclass(frozen=True, slots=True)
class WeightsPlan:
    """A tile is `height` rows of positions; it meets `rows` rows of taps at a time, `width` of each in registers of `lanes`. A unit is a
    tile of a group; `group` of them make one of nblocks blocks."""

    lanes: int
    height: int
    rows: int
    width: int
    group: int
    nblocks: int


def weights_plan(p: Problem, lanes: int, registers: int) -> WeightsPlan | None:
    """How to compute a problem with taps in the lanes; None where it is another kind of problem."""
    axes = axes_of(p)
    if p.outputs != 1 or p.bias or p.x_strides[-1] != 1 or p.w_strides[-1] != 1 or not fit_taps(axes):
        return None
    _, down, across = last_two(axes)
    width = even(across.kernel, lanes)
    while lanes >= 2 * width:
        lanes //= 2
    rows = even(down.kernel, 4)
    height = even(down.positions, max(1, (registers - 2 - rows) // across.positions))
    total = p.images * p.groups * math.prod(p.positions[:-2]) * -(-down.positions // height)
    group = max(1, LEAST_WORK * total // p.work)
    return WeightsPlan(lanes, height, rows, width, group, -(-total // group))


def weights_kernel(name: str, problem: Problem, plan: WeightsPlan) -> Gemm:
    """The kernel, which needs no memory of its own. Buffers: 0 = x, 1 = w, 2 = y."""
    return Gemm((_Sums(problem, plan).write(name),), 0)


class _Sums(Writer):
    """Writes the kernel: units, each with its tiles of positions written out; in these loops over channels and taps."""

    def __init__(self, problem: Problem, plan: WeightsPlan) -> None:
        super().__init__(problem.dtype, plan.lanes, problem.channels, axes_of(problem), problem.x_strides[2:], problem.w_strides[2:])
        self.p, self.plan = problem, plan
        down, across = turned(self.down), turned(self.across)
        self.rows, self.columns = parts(down, plan.rows), parts(across, plan.width)
        if sum(len(rows.pairs) for rows in self.rows) * self.across.positions * len(self.columns) > MOST_WRITTEN:
            self.rows = asked_parts(down, plan.rows, False)
            self.columns = asked_parts(across, plan.width, False) if across.stride == 1 else self.columns

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        self.x, self.w, self.y = (buffer_address(em, o) for o in (Operand(0, 0, 0, 1), p.weights, Operand(2, 0, 0, 1)))
        total = p.images * p.groups * math.prod(axis.positions for axis in self.outer)
        heights = range(0, self.down.positions, plan.height)
        with self.units(plan.group, total * len(heights)) as number:
            unit, tile = divide(em, number, len(heights))
            after = em.fresh_label("done")
            for top in heights:
                here, further = em.fresh_label("tile"), em.fresh_label("next")
                em.line(f"br i1 {em.op(f'icmp eq i64 {tile}, {top // plan.height}')}, label %{here}, label %{further}")
                em.label(here)
                self._unit(unit, top, min(top + plan.height, self.down.positions))
                em.line(f"br label %{after}")
                em.label(further)
            em.line(f"br label %{after}")
            em.label(after)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str, top: int, bottom: int) -> None:
        em, shape, p = self.em, self.shape, self.p
        channel, ranges, starts = self.taken_apart(unit)
        image, g = divide(em, channel, p.groups)
        x = element_address(em, shape, self.x, times(em, image, p.x_strides[0]), times(em, g, p.x_strides[1]), *starts)
        w = element_address(em, shape, self.w, times(em, g, p.w_strides[0]))

        def rows_of_taps(x: str, w: str, sums: list[str]) -> list[str]:
            for rows in self.rows:

                def row_of_taps(row: str, held: list[str], rows: Part = rows) -> list[str]:
                    return self._across(rows, row, x, w, held, top, bottom)

                sums = self._tiles(rows, row_of_taps, sums)
            return sums

        sums = self.over(ranges, x, w, ["zeroinitializer"] * ((bottom - top) * self.across.positions), rows_of_taps)
        y = element_address(em, shape, self.y, times(em, unit, self.down.positions * self.across.positions))
        fold = fold_of("sum", by_name(p.dtype), shape.lanes)
        for i, total in enumerate(sums):
            (number,) = fold.across(em, [total])
            em.line(f"store {shape.element} {number}, ptr {element_address(em, shape, y, str(top * self.across.positions + i))}")

    def _across(self, rows: Part, row: str, x: str, w: str, sums: list[str], top: int, bottom: int) -> list[str]:
        there = turned(self.across)
        for columns in self.columns:

            def meet(column: str, held: list[str], columns: Part = columns) -> list[str]:
                em, shape = self.em, self.shape
                down, across = self.down.dilation * self.x_rows, self.across.dilation
                corner = element_address(em, shape, x, times(em, row, down), times(em, column, across))
                taps = element_address(em, shape, w, times(em, row, self.w_rows), column)
                masks = {}
                if columns.asked:
                    for j in range(self.across.positions):
                        masks[j] = lanes_on_x(em, shape.lanes, there, columns, times(em, column, across), j)
                return self._meet(rows, columns, times(em, row, self.down.dilation), masks, corner, taps, held, top, bottom)

            sums = self._tiles(columns, meet, sums)
        return sums

    def _tiles(self, part: Part, body: Callable[[str, list[str]], list[str]], sums: list[str]) -> list[str]:
        """What `body(first, sums)` makes of the sums for every tile of a part."""
        if part.count == 1:
            return body(str(part.first), sums)
        em = self.em
        with carrying(em, self.vec, sums, "0", str(part.count)) as (number, held, nexts):
            nexts += body(em.op(f"add i64 {times(em, number, part.size)}, {part.first}"), held)
        return nexts

    def _meet(
        self, rows: Part, columns: Part, x_row: str, masks: dict[int, str], x: str, w: str, sums: list[str], top: int, bottom: int
    ) -> list[str]:  # fmt: skip
        """Some rows of taps, one register of each, at x and w, with the positions of a tile. x_row: the row of x that is; masks: for each
        position of a row the lanes that meet x, where that is asked."""
        em, shape, down = self.em, self.shape, turned(self.down)
        mask = None if columns.size == shape.lanes else static_mask(shape.lanes, columns.size)
        met = by_place(down, rows, tuple([(i, k) for i, k in rows.pairs if top <= k < bottom]))
        used = sorted({i for whose in met.values() for i, _ in whose})
        taps = {i: load(em, shape, element_address(em, shape, w, str(i * self.w_rows)), mask) for i in used}
        for row, whose in sorted(met.items()):

            def meet(held: list[str], row: int = row, whose: list[tuple[int, int]] = whose) -> list[str]:
                return self._row(columns, masks, x, row, whose, taps, held, top)

            sums = guarded(em, self.vec, on_x(em, down, rows, x_row, row), sums, meet)
        return sums

    def _row(
        self, columns: Part, masks: dict[int, str], x: str, row: int, whose: list[tuple[int, int]], taps: dict[int, str], sums: list[str],
        top: int,
    ) -> list[str]:  # fmt: skip
        """One row of x with the rows of taps, and of positions, that meet there."""
        em, shape, across = self.em, self.shape, turned(self.across)
        new = list(sums)
        for j in range(across.kernel):
            places = {t: across.at(columns.first + t, j) - columns.first * across.stride for t, k in columns.pairs if k == j}
            if not places:
                continue
            part = row_of(em, shape, x, row * self.x_rows, across.stride, places, masks.get(j))
            for i, k in whose:
                place, total = (k - top) * across.kernel + j, em.name("d")
                multiply_add(em, shape, shape.lanes, part, taps[i], new[place], total)
                new[place] = total
        return new
