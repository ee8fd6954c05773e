"""One tile of a convolution: some positions by some vectors of output channels, held in registers.

Read `Tile.write`: the sum, then `_finish`, which turns the tile around and writes it along the rows of y.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from adjoint.codegen.conv_plan import UNROLLED, Plan, Problem
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import (
    Emitter,
    Shape,
    add,
    element_address,
    load,
    loop,
    minimum,
    multiply_add,
    plus,
    static_mask,
    store,
    times,
)
from adjoint.codegen.squares import turned

_CROWDED = 0.7  # of the registers hold sums: one tap at a time is faster than several


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows first .. last - 1 of a chunk of `lanes` rows, which lie side by side in y, `offset` behind the tile's first."""

    chunk: int
    first: int
    last: int
    offset: int


class Tile:
    """Writes the code of a tile; its place is a run-time value, its size is fixed."""

    def __init__(self, em: Emitter, shape: Shape, p: Problem, plan: Plan, y: str, bias: str | None) -> None:
        self.em, self.shape, self.p, self.plan = em, shape, p, plan
        self.y, self.bias = y, bias
        self.vec = vector_type(shape.element, shape.lanes)
        self.points = list(itertools.product(*map(range, plan.tile)))
        self.chunks = -(-plan.rows // shape.lanes)
        self.spill = em.op(f"alloca [{self.chunks * plan.width} x {self.vec}], align 64")
        self.runs = self._runs()
        # A tile that was moved back from the end repeats positions of others, which must not be added to twice.
        self.cut = math.prod(plan.pieces(p)) > 1
        extents = (p.images, *p.positions)
        self.moved = [i for i, (n, t) in enumerate(zip(extents, plan.tile, strict=True)) if self.cut and n % t]

    def _runs(self) -> list[_Run]:
        p, lanes = self.p, self.shape.lanes
        strides = [p.groups * p.outputs * p.area]
        strides += [math.prod(p.positions[i + 1 :]) for i in range(len(p.positions))]
        offsets = [sum(i * s for i, s in zip(point, strides, strict=True)) for point in self.points]
        self.y_strides = strides
        runs: list[_Run] = []
        first = 0
        for r in range(1, len(offsets) + 1):
            if r == len(offsets) or r % lanes == 0 or offsets[r] != offsets[r - 1] + 1:
                runs.append(_Run(first // lanes, first % lanes, (r - 1) % lanes + 1, offsets[first]))
                first = r
        return runs

    def write(
        self, corner: str, strides: tuple[int, ...], weights: str, c_count: str, k_count: str,
        number: str | None, g: str, column: str, starts: list[str], nominal: list[str],
    ) -> None:  # fmt: skip
        """One tile, summed over c_count channels and k_count steps of the first kernel axis.

        corner: the first element of its first window.  strides: of what it lies in, by (image, channel, *axes).
        weights: those of its first output channel, `column` of group g.  number: of the piece of the sum, if it is cut.
        starts, nominal: its place by axis, and before it was moved back.
        """
        self._place(strides)
        sums = self._sum(corner, strides, weights, c_count, k_count)
        self._finish(sums, number, g, column, starts, nominal)

    # --- the sum ------------------------------------------------------------------------------------------------------

    def _place(self, strides: tuple[int, ...]) -> None:
        """Where the elements of x for each row of the tile lie."""
        steps = [strides[0], *(s * n for s, n in zip(self.p.stride, strides[2:], strict=True))]
        self.rows = [sum(i * s for i, s in zip(point, steps, strict=True)) for point in self.points]

    def _weight_steps(self) -> list[int]:
        """How far the weights of the next (channel, *kernel) lie."""
        p = self.p
        return [math.prod(p.kernel[i:]) * self.plan.width for i in range(len(p.kernel) + 1)]

    def _sum(self, corner: str, strides: tuple[int, ...], weights: str, c_count: str, k_count: str) -> list[str]:
        p, plan = self.p, self.plan
        counts = [c_count, k_count, *(str(n) for n in p.kernel[1:])]
        x_steps = [strides[1], *(d * s for d, s in zip(p.dilation, strides[2:], strict=True))]
        axes = list(zip(counts, (p.channels, *p.kernel), x_steps, self._weight_steps(), strict=True))
        axes = [a for a in axes if a[1] > 1]
        # Taps that are written out: whole axes from the inside, then a part of the next one.
        inner = [(0, 0)]
        limit = max(1, UNROLLED // plan.held)
        if plan.held > _CROWDED * plan.registers:
            limit = 1  # the compiler would load ahead, into registers that are not there
        part = 1
        while axes and axes[-1][0].isdigit() and part == 1:
            n, step, w_step = int(axes[-1][0]), *axes[-1][2:]
            if len(inner) * n <= limit:
                axes.pop()
                part, times_ = 1, n
            else:
                part = times_ = max(f for f in range(1, max(1, min(n, 4, limit // len(inner))) + 1) if n % f == 0)
                if part == 1:
                    break
            inner = [(j * step + i, j * w_step + k) for j in range(times_) for i, k in inner]
        return self._nest(axes, part, inner, corner, weights, ["zeroinitializer"] * plan.held)

    def _nest(
        self, axes: list[tuple[str, int, int, int]], part: int, inner: list[tuple[int, int]],
        x: str, w: str, sums: list[str],
    ) -> list[str]:  # fmt: skip
        """Loops over `axes`, the last one `part` steps at a time, around the taps `inner`."""
        em, shape = self.em, self.shape
        if not axes:
            for x_offset, w_offset in inner:
                sums = self._tap(x, x_offset, w, w_offset, sums)
            return sums
        (count, _, x_step, w_step), *rest = axes
        factor = 1 if rest else part
        before, head, after = em.block, em.fresh_label("sum"), em.fresh_label("summed")
        em.line(f"br label %{head}")
        em.label(head)
        i, x_here, w_here = em.name("i"), em.name("x"), em.name("w")
        held = [em.name("c") for _ in sums]
        place = len(em.lines)
        nexts = self._nest(rest, part, inner, x_here, w_here, held)
        x_next = element_address(em, shape, x_here, str(x_step * factor))
        w_next = element_address(em, shape, w_here, str(w_step * factor))
        following = em.op(f"add i64 {i}, {factor}")
        again = em.op(f"icmp slt i64 {following}, {count}")
        last = em.block
        em.lines[place:place] = [
            f"  {i} = phi i64 [ 0, %{before} ], [ {following}, %{last} ]",
            f"  {x_here} = phi ptr [ {x}, %{before} ], [ {x_next}, %{last} ]",
            f"  {w_here} = phi ptr [ {w}, %{before} ], [ {w_next}, %{last} ]",
            *(
                f"  {c} = phi {self.vec} [ {z}, %{before} ], [ {d}, %{last} ]"
                for c, z, d in zip(held, sums, nexts, strict=True)
            ),
        ]
        em.line(f"br i1 {again}, label %{head}, label %{after}")
        em.label(after)
        return nexts

    def _tap(self, x: str, x_offset: int, w: str, w_offset: int, sums: list[str]) -> list[str]:
        """One multiply-add for every register of the tile."""
        lanes = self.shape.lanes
        vectors = [self._vector(w, w_offset + v * lanes) for v in range(self.plan.vectors)]
        return self._products([self._splat(x, x_offset + row) for row in self.rows], vectors, sums)

    def _vector(self, base: str, offset: int, mask: str | None = None) -> str:
        return load(self.em, self.shape, element_address(self.em, self.shape, base, str(offset)), mask)

    def _splat(self, base: str, offset: int) -> Callable[[], str]:
        """How to load one element into all lanes: written when it is needed, so that it is not held for long."""
        em, shape = self.em, self.shape

        def write() -> str:
            pointer = element_address(em, shape, base, str(offset))
            scalar = em.op(f"load {shape.element}, ptr {pointer}, align {shape.itemsize}")
            return em.splat(shape.element, shape.lanes, scalar)

        return write

    def _products(self, splats: list[Callable[[], str]], vectors: list[str], sums: list[str]) -> list[str]:
        out = []
        for r, write in enumerate(splats):
            splat = write()
            for v, vector in enumerate(vectors):
                out.append(self.em.name("d"))
                multiply_add(self.em, self.shape, self.shape.lanes, splat, vector, sums[r * len(vectors) + v], out[-1])
        return out

    # --- the result ---------------------------------------------------------------------------------------------------

    def _finish(
        self, sums: list[str], number: str | None, g: str, column: str, starts: list[str], nominal: list[str]
    ) -> None:
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        lanes = shape.lanes
        for chunk in range(self.chunks):
            for v in range(plan.vectors):
                lines = []
                for r in range(chunk * lanes, (chunk + 1) * lanes):
                    lines.append(sums[min(r, plan.rows - 1) * plan.vectors + v])
                for lane, line in enumerate(turned(em, lines, shape.element, shape.itemsize)):
                    at = self._slot(str(chunk * plan.width + v * lanes + lane))
                    em.line(f"store {self.vec} {line}, ptr {at}, align 64")
        masks = self._masks(starts, nominal)
        count = str(plan.width)
        if p.outputs % plan.width:
            count = minimum(em, em.op(f"sub i64 {p.outputs}, {column}"), plan.width)
        channel = plus(em, times(em, g, p.outputs), column)
        place = [times(em, s, stride) for s, stride in zip(starts, self.y_strides, strict=True)]
        y = element_address(em, shape, self.y, times(em, channel, p.area), *place)
        bias = element_address(em, shape, self.bias, channel) if self.bias else None
        first = em.op(f"icmp eq i64 {number}, 0") if number is not None else None

        def write_all(add_bias: bool, add_held: bool) -> None:
            with loop(em, "0", count) as o:
                row = element_address(em, shape, y, times(em, o, p.area))
                extra = None
                if add_bias and bias is not None:
                    value = em.op(
                        f"load {shape.element}, ptr {element_address(em, shape, bias, o)}, align {shape.itemsize}"
                    )
                    extra = em.splat(shape.element, lanes, value)
                for run, mask in zip(self.runs, masks, strict=True):
                    at = self._slot(plus(em, o, str(run.chunk * plan.width)))
                    value = em.op(f"load {self.vec}, ptr {at}, align 64")
                    to = element_address(em, shape, row, str(run.offset - run.first))
                    if extra is not None:
                        value = add(em, shape, value, extra)
                    if add_held:
                        value = add(em, shape, load(em, shape, to, mask), value)
                    store(em, shape, value, to, mask)

        if first is None:
            write_all(True, False)
            return
        fresh, more, done = (em.fresh_label(h) for h in ("fresh", "more", "done"))
        em.line(f"br i1 {first}, label %{fresh}, label %{more}")
        em.label(fresh)
        write_all(True, False)
        em.line(f"br label %{done}")
        em.label(more)
        write_all(False, True)
        em.line(f"br label %{done}")
        em.label(done)

    def _slot(self, index: str) -> str:
        return self.em.op(f"getelementptr {self.vec}, ptr {self.spill}, i64 {index}")

    def _masks(self, starts: list[str], nominal: list[str]) -> list[str | None]:
        """For each run the lanes to be written: those of its rows that no earlier tile has."""
        em, lanes = self.em, self.shape.lanes
        mine: dict[int, str] = {}
        for chunk in range(self.chunks) if self.moved else ():
            points = [self.points[min(r, len(self.points) - 1)] for r in range(chunk * lanes, (chunk + 1) * lanes)]
            for axis in self.moved:
                moved = em.splat("i64", lanes, em.op(f"sub i64 {nominal[axis]}, {starts[axis]}"))
                numbers = ", ".join(f"i64 {point[axis]}" for point in points)
                bits = em.op(f"icmp sge <{lanes} x i64> <{numbers}>, {moved}")
                mine[chunk] = em.op(f"and <{lanes} x i1> {mine[chunk]}, {bits}") if chunk in mine else bits
        out: list[str | None] = []
        for run in self.runs:
            if (run.first, run.last) == (0, lanes):
                mask = None
            else:
                mask = static_mask(lanes, run.last, run.first)
            if run.chunk in mine:
                both = mine[run.chunk]
                mask = both if mask is None else em.op(f"and <{lanes} x i1> {mask}, {both}")
            out.append(mask)
        return out


class RowTile(Tile):
    """A tile with positions of a row in the lanes: `width` output channels by some rows of x, which is read by vectors."""

    def __init__(self, em: Emitter, shape: Shape, p: Problem, plan: Plan, y: str, bias: str | None) -> None:
        self.em, self.shape, self.p, self.plan = em, shape, p, plan
        self.y, self.bias = y, bias
        self.vec = vector_type(shape.element, shape.lanes)
        self.points = list(itertools.product(*map(range, plan.tile[:-1]), [0]))
        rest = plan.tile[-1] % shape.lanes
        self.last_mask = static_mask(shape.lanes, rest) if rest else None

    def _weight_steps(self) -> list[int]:
        return list(self.p.w_strides[2:])

    def _tap(self, x: str, x_offset: int, w: str, w_offset: int, sums: list[str]) -> list[str]:
        lanes, count = self.shape.lanes, self.plan.vectors
        vectors = []
        for row in self.rows:
            for v in range(count):
                mask = self.last_mask if v == count - 1 and self.plan.in_place else None
                vectors.append(self._vector(x, x_offset + row + v * lanes, mask))
        splats = [self._splat(w, w_offset + o * self.p.w_strides[1]) for o in range(self.plan.width)]
        return self._products(splats, vectors, sums)

    def _finish(
        self, sums: list[str], number: str | None, g: str, column: str, starts: list[str], nominal: list[str]
    ) -> None:
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        strides = [p.groups * p.outputs * p.area, *(math.prod(p.positions[i:]) for i in range(1, len(p.positions) + 1))]
        channel = plus(em, times(em, g, p.outputs), column)
        place = [times(em, s, stride) for s, stride in zip(starts, strides, strict=True)]
        y = element_address(em, shape, self.y, times(em, channel, p.area), *place)
        rest = iter(sums)
        for o in range(plan.width):
            extra = None
            if self.bias is not None:
                extra = self._splat(element_address(em, shape, self.bias, channel), o)()
            for point in self.points:
                offset = o * p.area + sum(i * s for i, s in zip(point, strides, strict=True))
                for v in range(plan.vectors):
                    value = next(rest)
                    value = value if extra is None else add(em, shape, value, extra)
                    to = element_address(em, shape, y, str(offset + v * shape.lanes))
                    store(em, shape, value, to, self.last_mask if v == plan.vectors - 1 else None)
