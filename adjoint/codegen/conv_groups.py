"""Convolutions with one output channel in each group where groups lie side by side in memory: images with the channels last.

Lanes hold groups, so a tap is a register of w and meets registers of x, each of which is loaded once for all positions of a tile
that it belongs to. Which taps of the last two axes meet x at which positions of a tile is known here: positions at the edges have
fewer. Where the last two axes have few taps (a forward pass, the gradient of the input) tiles pass over the positions and all
taps are written out; where they have many (the gradient of the weights, whose taps are positions of the other gradient) the
positions are written out, a tile at a time, and the sum goes over the taps some at a time.

`groups_plan` chooses, `groups_kernel` writes. The order in which products are added depends on shapes alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from adjoint.codegen.conv_windows import (
    Part,
    Range,
    Writer,
    asked_parts,
    bands_of,
    by_place,
    each_tile,
    even,
    guarded,
    on_x,
    parts,
    turned,
)
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    ELEMENTS,
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
    plus,
    store,
    tile_start,
    times,
)
from adjoint.schedule.depthwise import MOST_TAPS, Axis, last_two

ROWS_AT_ONCE, TAPS_AT_ONCE = 2, 4  # of the taps that are met at a time


@dataclass(frozen=True, slots=True)
class Groups:
    """y[n, p, g] = bias[g] + sum over c and k of w[c, k, g] x[n, c, (p * stride + k * dilation - lo) / step, g], as `conv_plan.Problem`.

    x_strides: element strides of (n, c, *axes, g) in x, the last of which is 1; w_strides: of (c, *axes, g) in w. x_offset, w_offset:
    elements of their memory before the first. y is contiguous, (n, *positions, g).
    """

    dtype: str
    images: int
    groups: int
    channels: int
    axes: tuple[Axis, ...]
    x_strides: tuple[int, ...]
    w_strides: tuple[int, ...]
    bias: bool
    x_offset: int
    w_offset: int

    @property
    def work(self) -> int:
        return self.images * self.groups * self.channels * math.prod(axis.positions * axis.kernel for axis in self.axes)


@dataclass(frozen=True, slots=True)
class GroupsPlan:
    """Tiles are `tile` positions of the last two axes by `lanes` groups; taps are met `taps` of the last two axes at a time, none: all.

    A unit is an image's groups of one register, at one place of further axes, in one of `bands` of the tiles from top to bottom;
    `group` units make one of nblocks blocks."""

    lanes: int
    tile: tuple[int, int]
    taps: tuple[int, int] | None
    bands: int
    group: int
    nblocks: int


def groups_plan(p: Groups, lanes: int, registers: int) -> GroupsPlan:
    """How to compute a problem (`depthwise.fit_groups`)."""
    outer, down, across = last_two(p.axes)
    while lanes > p.groups:
        lanes //= 2
    if down.kernel * across.kernel <= MOST_TAPS:
        most, taps = (12 if registers >= 32 and down.kernel * across.kernel <= 9 else 6), None
        width = even(across.positions, min(most, 6))
    else:
        most, taps = registers - 4, (min(ROWS_AT_ONCE, down.kernel), even(across.kernel, TAPS_AT_ONCE))
        width = even(across.positions, most)
    tile = even(down.positions, max(1, most // width)), width
    if taps is None:  # tiles begin where a spread x has an element
        tile = _whole_steps(tile[0], down), _whole_steps(tile[1], across)
    total = p.images * -(-p.groups // lanes) * math.prod(axis.positions for axis in outer)
    bands = bands_of(down, tile[0], total, p.work) if taps is None else 1
    total *= bands
    group = max(1, LEAST_WORK * total // max(1, p.work))
    return GroupsPlan(lanes, tile, taps, bands, group, -(-total // group))


def _whole_steps(size: int, axis: Axis) -> int:
    return min(-(-size // axis.step) * axis.step, axis.positions)


def groups_kernel(name: str, problem: Groups, *, vector_bytes: int = 64, registers: int | None = None) -> Gemm:
    """The kernel, which needs no memory of its own. Buffers: 0 = x, 1 = w, then the bias if there is one, y."""
    lanes = vector_bytes // ELEMENTS[problem.dtype][1]
    plan = groups_plan(problem, lanes, registers or (32 if vector_bytes == 64 else 16))
    return Gemm((_Groups(problem, plan).write(name),), 0)


class _Groups(Writer):
    """Writes the kernel: loops over units and tiles, in these over channels, taps of further axes and, where they are many, of the last."""

    def __init__(self, problem: Groups, plan: GroupsPlan) -> None:
        super().__init__(problem.dtype, plan.lanes, problem.channels, problem.axes, problem.x_strides[1:-1], problem.w_strides[:-1])
        self.p, self.plan = problem, plan
        self.x_row = "0"  # the row of x that tap 0 meets where a tile begins
        self.x_columns, self.w_columns = self.x_strides[-1], self.w_strides[-1]

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        itemsize = self.shape.itemsize
        self.x = buffer_address(em, Operand(0, 0, 0, 1, offset=p.x_offset * itemsize))
        self.w = buffer_address(em, Operand(1, 0, 0, 1, offset=p.w_offset * itemsize))
        self.bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        self.y = buffer_address(em, Operand(3 if p.bias else 2, 0, 0, 1))
        across = -(-p.groups // plan.lanes)
        total = p.images * across * math.prod(axis.positions for axis in self.outer) * plan.bands
        with self.units(plan.group, total) as number:
            unit, self.band = divide(em, number, plan.bands)
            rest, lanes = divide(em, unit, across)
            self._unit(rest, tile_start(em, lanes, plan.lanes, p.groups))
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str, g: str) -> None:
        em, shape, p = self.em, self.shape, self.p
        image, ranges, starts = self.taken_apart(unit)
        x_at = element_address(em, shape, self.x, times(em, image, p.x_strides[0]), g, *starts)
        w_at = element_address(em, shape, self.w, g)
        area = self.down.positions * self.across.positions
        y_at = element_address(em, shape, self.y, times(em, unit, area * p.groups), g)
        start = "zeroinitializer"
        if self.bias is not None:
            start = load(em, shape, element_address(em, shape, self.bias, g))
        for rows in asked_parts(self.down, self.plan.tile[0], True) if self.plan.taps is None else parts(self.down, self.plan.tile[0]):
            for columns in parts(self.across, self.plan.tile[1]):
                if self.plan.taps is None:
                    with each_tile(em, rows, self.band, self.plan.bands) as row, each_tile(em, columns) as column:
                        self._tile(rows, columns, row, column, ranges, x_at, w_at, y_at, start)
                    continue
                for i in range(rows.count):
                    for j in range(columns.count):
                        here = Part(rows.first + i * rows.size, rows.size, 1, ()), Part(columns.first + j * columns.size, columns.size, 1, ())
                        self._tile(*here, str(here[0].first), str(here[1].first), ranges, x_at, w_at, y_at, start)

    def _tile(
        self, rows: Part, columns: Part, row: str, column: str, ranges: list[Range], x: str, w: str, y: str, start: str
    ) -> None:  # fmt: skip
        em, shape, p = self.em, self.shape, self.p
        starts = []
        for axis, place, stride in ((self.down, row, self.x_rows), (self.across, column, self.x_columns)):
            first, _ = divide(em, times(em, place, axis.stride), axis.step)
            starts.append(times(em, first, stride))
            if axis is self.down:
                self.x_row = first

        def taps(x: str, w: str, sums: list[str]) -> list[str]:
            return self._taps(rows, columns, x, w, sums)

        sums = self.over(ranges, element_address(em, shape, x, *starts), w, [start] * (rows.size * columns.size), taps)
        place = element_address(em, shape, y, times(em, plus(em, times(em, row, self.across.positions), column), p.groups))
        for i in range(rows.size):
            for j in range(columns.size):
                at = element_address(em, shape, place, str((i * self.across.positions + j) * p.groups))
                store(em, shape, sums[i * columns.size + j], at)

    def _taps(self, rows: Part, columns: Part, x: str, w: str, sums: list[str]) -> list[str]:
        """All taps of the last two axes."""
        if self.plan.taps is None:
            return self._meet(rows, columns, columns.pairs, x, w, sums)
        height, width = self.plan.taps

        def in_rows(down: Part, x: str, w: str, sums: list[str]) -> list[str]:
            def in_columns(across: Part, x: str, w: str, sums: list[str]) -> list[str]:
                here = Part(rows.first, rows.size, 1, _as_pairs(down), down.asked)
                return self._meet(here, columns, _as_pairs(across), x, w, sums)

            return self._over(self.across, columns, width, (self.x_columns, self.w_columns), x, w, sums, in_columns)

        return self._over(self.down, rows, height, (self.x_rows, self.w_rows), x, w, sums, in_rows)

    def _over(
        self, axis: Axis, tile: Part, size: int, strides: tuple[int, int], x: str, w: str, sums: list[str],
        body: Callable[[Part, str, str, list[str]], list[str]],
    ) -> list[str]:  # fmt: skip
        """What `body` makes of the sums for all taps of an axis, some at a time. x, w: where tap 0 lies; strides: in both."""
        em, shape = self.em, self.shape
        there = turned(axis, tile.first, tile.size)
        for some in asked_parts(there, size, False) if axis is self.down else parts(there, size):
            if not some.pairs:
                continue
            if some.count == 1:
                sums = body(some, x, w, sums)
                continue
            with carrying(em, self.vec, sums, "0", str(some.count)) as (number, held, nexts):
                further, x_row = times(em, number, some.size), self.x_row
                if axis is self.down:
                    self.x_row = plus(em, x_row, times(em, further, axis.dilation))
                x_here = element_address(em, shape, x, times(em, further, axis.dilation * strides[0]))
                nexts += body(some, x_here, element_address(em, shape, w, times(em, further, strides[1])), held)
                self.x_row = x_row
            sums = nexts
        return sums

    def _meet(self, rows: Part, columns: Part, column_pairs: tuple[tuple[int, int], ...], x: str, w: str, sums: list[str]) -> list[str]:
        """A tile of positions with some taps: pairs of (position of the tile, tap), those along a row `column_pairs`. x: what tap 0 meets
        at the tile's first position; w: where tap 0 lies."""
        em, shape = self.em, self.shape
        columns_met = sorted(by_place(self.across, columns, column_pairs).items())

        def weight(k: int, m: int) -> str:
            return load(em, shape, element_address(em, shape, w, str(k * self.w_rows + m * self.w_columns)))

        taps = sorted({(k, m) for _, k in rows.pairs for _, m in column_pairs})
        weights = {(k, m): weight(k, m) for k, m in taps} if not rows.asked or len(taps) <= _KEPT else {}
        for row, whose in sorted(by_place(self.down, rows, rows.pairs).items()):

            def meet(held: list[str], row: int = row, whose: list[tuple[int, int]] = whose) -> list[str]:
                new = list(held)
                known = dict(weights)  # what is loaded here is known here alone
                for column, theirs in columns_met:
                    part = load(em, shape, element_address(em, shape, x, str(row * self.x_rows + column * self.x_columns)))
                    for (i, k), (j, m) in itertools.product(whose, theirs):
                        if (k, m) not in known:
                            known[k, m] = weight(k, m)
                        place, total = i * columns.size + j, em.name("d")
                        multiply_add(em, shape, shape.lanes, part, known[k, m], new[place], total)
                        new[place] = total
                return new

            sums = guarded(em, self.vec, on_x(em, self.down, rows, self.x_row, row), sums, meet)
        return sums


_KEPT = 9  # taps that stay in registers


def _as_pairs(taps: Part) -> tuple[tuple[int, int], ...]:
    """(position, tap) of a part of the taps."""
    return tuple((position, taps.first + t) for t, position in taps.pairs)
