"""Convolutions with one output channel in each group (depthwise ones), where rows lie side by side in memory.

There are too few channels to fill a vector with: it holds positions of a row. A tile is some rows of y, a register of sums for
each, and part of a row wide; every row of x that its windows reach is loaded once for each tap along the row, and added, times
a tap each, to all rows of y that it belongs to. So a tap costs a multiply-add, and a load for each few of them. What lies beside
x is never read: tiles at the edges leave those taps out, or the lanes that would meet them.

`depth_plan` says whether a problem is one of these, `depth_kernel` writes it. `parts` cuts an axis into tiles that are alike,
`asked_parts` into tiles of one code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adjoint.codegen.conv_plan import Problem
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
    part_of_range,
    phase_of,
    plus,
    static_mask,
    store,
    tile_start,
    times,
)
from adjoint.schedule.depthwise import Axis, fit_rows, last_two


def axes_of(p: Problem) -> list[Axis]:
    """Of a problem."""
    steps = p.steps or (1,) * len(p.positions)
    return [Axis(*row) for row in zip(p.positions, p.sizes, p.kernel, p.stride, p.dilation, p.lo, steps, strict=True)]


MOST_WRITTEN = 512  # multiply-adds of tiles that are not alike, which are written out each for itself


@dataclass(frozen=True, slots=True)
class Part:
    """`count` tiles of `size` positions, one after the other from `first`, of which the same positions and taps meet x: `pairs`.

    asked: tiles that are not alike; `pairs` are those of all, and whether they lie on x is asked when the kernel runs.
    end: 0, or where the last tile is moved back to end, so that all are of one size.
    """

    first: int
    size: int
    count: int
    pairs: tuple[tuple[int, int], ...]
    asked: bool = False
    end: int = 0


def parts(axis: Axis, tile: int) -> list[Part]:
    """Tiles of equal size, the last one shorter, neighbours that are alike put together."""
    found: list[Part] = []
    for first in range(0, axis.positions, tile):
        size = min(tile, axis.positions - first)
        pairs = tuple((t, k) for t in range(size) for k in range(axis.kernel) if axis.meets(first + t, k))
        if found and (found[-1].size, found[-1].pairs) == (size, pairs):
            found[-1] = Part(found[-1].first, size, found[-1].count + 1, pairs)
        else:
            found.append(Part(first, size, 1, pairs))
    return found


def asked_parts(axis: Axis, tile: int, moved: bool) -> list[Part]:
    """As `parts`, but with the code of one tile where there would be several that are not alike (and x is not spread): all are asked
    which taps meet x. moved: the last tile is moved back; else it is a shorter one of its own."""
    found = parts(axis, tile)
    if len(found) == 1 or axis.step > 1:
        return found
    whole, rest = divmod(axis.positions, tile)
    if moved and rest:
        whole, rest = whole + 1, 0
    made = [Part(0, tile, whole, _every(tile, axis.kernel), True, axis.positions if moved else 0)]
    return made if not rest else [*made, Part(whole * tile, rest, 1, _every(rest, axis.kernel), True)]


def _every(positions: int, taps: int) -> tuple[tuple[int, int], ...]:
    return tuple((t, k) for t in range(positions) for k in range(taps))


def by_place(axis: Axis, part: Part, pairs: tuple[tuple[int, int], ...]) -> dict[int, list[tuple[int, int]]]:
    """Elements of x along an axis, from where a tile begins, and which (position, tap) meet there."""
    base = part.first * axis.stride // axis.step
    found: dict[int, list[tuple[int, int]]] = {}
    for position, tap in pairs:
        found.setdefault(axis.at(part.first + position, tap) - base, []).append((position, tap))
    return found


def guarded(em: Emitter, vec: str, condition: str | None, sums: list[str], body: Callable[[list[str]], list[str]]) -> list[str]:
    """What `body` makes of the sums where the condition holds, else the sums; None: it always does."""
    if condition is None:
        return body(sums)
    before, inside, after = em.block, em.fresh_label("meets"), em.fresh_label("met")
    em.line(f"br i1 {condition}, label %{inside}, label %{after}")
    em.label(inside)
    new = body(sums)
    last = em.block
    em.line(f"br label %{after}")
    em.label(after)
    return [
        a if a == b else em.op(f"phi {vec} [ {a}, %{before} ], [ {b}, %{last} ]") for a, b in zip(sums, new, strict=True)
    ]


def on_x(em: Emitter, axis: Axis, part: Part, base: str, place: int) -> str | None:
    """Whether the element `place` behind `base` is one of x, where that is asked."""
    if not part.asked:
        return None
    return em.op(f"icmp ult i64 {plus(em, base, str(place))}, {axis.size}")


def lanes_on_x(em: Emitter, lanes: int, axis: Axis, part: Part, base: str, tap: int) -> str:
    """For which positions of a tile, one for each lane, a tap meets x. base: where the tile begins in x."""
    vec, beyond = f"<{lanes} x i32>", 1 << 30
    where = ", ".join(f"i32 {t * axis.stride + tap * axis.dilation - axis.lo if t < part.size else beyond}" for t in range(lanes))
    places = em.op(f"add {vec} {em.splat('i32', lanes, em.op(f'trunc i64 {base} to i32'))}, <{where}>")
    return em.op(f"icmp ult {vec} {places}, {em.splat('i32', lanes, str(axis.size))}")


def turned(axis: Axis, first: int = 0, size: int | None = None) -> Axis:
    """An axis that is not spread with positions, or `size` of them from `first`, and taps in each other's place; the same elements
    are met."""
    size = axis.positions if size is None else size
    return Axis(axis.kernel, axis.size, size, axis.dilation, axis.stride, axis.lo - first * axis.stride)


@contextmanager
def each_tile(em: Emitter, part: Part, band: str = "0", bands: int = 1) -> Iterator[str]:
    """The first position of every tile of a part, or of those that belong to one of several bands: then it has more tiles than these."""
    if part.count == 1:
        yield str(part.first)
        return
    start, stop = "0", str(part.count)
    if bands > 1:
        start, stop = part_of_range(em, band, -(-part.count // bands), part.count)
    with loop(em, start, stop) as number:
        yield tile_start(em, number, part.size, part.end) if part.end else plus(em, times(em, number, part.size), str(part.first))


def even(n: int, most: int) -> int:
    """n cut into as few equal tiles of at most `most` as it takes: the length of a tile."""
    return -(-n // -(-n // most))


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


FEWEST_UNITS = 16  # which several threads can share evenly


def bands_of(down: Axis, rows: int, units: int, work: int) -> int:
    """Into how many bands of tiles, each worth another thread, an image is cut where there are few units."""
    tiles = -(-down.positions // rows)
    most = min(FEWEST_UNITS // units, work // (units * LEAST_WORK), tiles)
    return 1 if most < 2 or down.step > 1 else -(-tiles // -(-tiles // most))


def depth_kernel(name: str, problem: Problem, plan: DepthPlan) -> Gemm:
    """The kernel, which needs no memory of its own. Buffers: 0 = x, 1 = w, then the bias if there is one, y."""
    return Gemm((_Rows(problem, plan).write(name),), 0)


class _Rows:
    """Writes the kernel: loops over units, tiles, and the taps of further axes, around what is written out."""

    def __init__(self, problem: Problem, plan: DepthPlan) -> None:
        self.p, self.plan, self.em = problem, plan, Emitter()
        element, itemsize = ELEMENTS[problem.dtype]
        self.shape = Shape(element, itemsize, plan.lanes, 1, 0, 0, 0)
        self.vec = vector_type(element, plan.lanes)
        self.outer, self.down, self.across = last_two(axes_of(problem))
        one = len(problem.positions) == 1
        self.x_rows, self.w_rows = (0, 0) if one else (problem.x_strides[-2], problem.w_strides[-2])

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        self.x, self.w = buffer_address(em, Operand(0, 0, 0, 1)), buffer_address(em, p.weights)
        self.bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        self.masks: dict[int, str] = {}  # for each tap along the row: the lanes that meet x
        self.x_row = "0"  # the row of x where a tile begins
        self.y = buffer_address(em, Operand(3 if p.bias else 2, 0, 0, 1))
        total = p.images * p.groups * math.prod(axis.positions for axis in self.outer) * plan.bands
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, plan.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {plan.group}"), total)) as number:
                unit, self.band = divide(em, number, plan.bands)
                self._unit(unit)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str) -> None:
        em, shape, p = self.em, self.shape, self.p
        rest, places = unit, list[str]()
        for axis in reversed(self.outer):
            rest, place = divide(em, rest, axis.positions)
            places.insert(0, place)
        image, g = divide(em, rest, p.groups)
        x, w = [times(em, image, p.x_strides[0]), times(em, g, p.x_strides[1])], [times(em, g, p.w_strides[0])]
        ranges = [("0", str(p.channels), p.x_strides[2], p.w_strides[2])] if p.channels > 1 else []
        for n, (axis, place) in enumerate(zip(self.outer, places, strict=True)):
            ranges.append(taps_that_meet(em, axis, place, p.x_strides[3 + n], p.w_strides[3 + n], x))
        x_at, w_at = element_address(em, shape, self.x, *x), element_address(em, shape, self.w, *w)
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
                    sums = self._sum(rows, columns, ranges, corner, w_at, [start] * (rows.size * self.plan.phases))
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

    def _sum(self, rows: Part, columns: Part, ranges: list[tuple[str, str, int, int]], x: str, w: str, sums: list[str]) -> list[str]:
        """Loops over (start, stop, step in x, step in w), around the taps of the last two axes."""
        if not ranges:
            return self._taps(rows, columns, x, w, sums)
        em, shape = self.em, self.shape
        (start, stop, x_step, w_step), *rest = ranges
        with carrying(em, self.vec, sums, start, stop) as (k, held, nexts):
            x_here = element_address(em, shape, x, times(em, k, x_step))
            nexts += self._sum(rows, columns, rest, x_here, element_address(em, shape, w, times(em, k, w_step)), held)
        return nexts

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


def row_of(em: Emitter, shape: Shape, x: str, row: int, stride: int, places: dict[int, int], mask: str | None = None) -> str:
    """Elements of a row of x that lanes are to hold, by where they lie behind `row`, each 1 or 2 from the one before; zeros in the
    other lanes. mask: which of them are to be read, where that is known when the kernel runs."""
    lane, first = min(places.items())
    offset = row + first - lane * stride
    if mask is not None:
        return load(em, shape, element_address(em, shape, x, str(offset)), mask)
    if stride == 1:
        mask = None if len(places) == shape.lanes else static_mask(shape.lanes, max(places) + 1, lane)
        return load(em, shape, element_address(em, shape, x, str(offset)), mask)
    vec = vector_type(shape.element, shape.lanes)
    halves = []
    for half in range(2):
        wanted = {2 * t - half * shape.lanes for t in places} & set(range(shape.lanes))
        mask = "<" + ", ".join(f"i1 {int(i in wanted)}" for i in range(shape.lanes)) + ">"
        at = element_address(em, shape, x, str(offset + half * shape.lanes))
        halves.append(load(em, shape, at, mask) if wanted else "zeroinitializer")
    chosen = ", ".join(f"i32 {2 * i}" for i in range(shape.lanes))
    return em.op(f"shufflevector {vec} {halves[0]}, {vec} {halves[1]}, <{shape.lanes} x i32> <{chosen}>")


def taps_that_meet(em: Emitter, axis: Axis, place: str, x_stride: int, w_stride: int, x: list[str]) -> tuple[str, str, int, int]:
    """The taps of an axis that lie on x at a position: from, to, and what each is further on in x and w. Adds to `x` where tap 0 lies."""
    begin = em.op(f"sub i64 {times(em, place, axis.stride)}, {axis.lo}")
    before = maximum(em, em.op(f"sub i64 0, {begin}"), 0)
    start, _ = divide(em, plus(em, before, str(axis.dilation - 1)), axis.dilation)
    last, _ = divide(em, em.op(f"sub i64 {axis.size - 1}, {begin}"), axis.dilation)
    x.append(times(em, begin, x_stride))
    return start, minimum(em, em.op(f"add i64 {last}, 1"), axis.kernel), axis.dilation * x_stride, w_stride
