"""One tile of a convolution: some positions by some vectors of output channels, held in registers.

Read `Tile.write`: the sum, then `_finish`, which turns the tile around and writes it along the rows of y.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from adjoint.codegen.conv_plan import UNROLLED, Plan, Problem
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_pack import transpose
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
        number: str | None, g: str, panel: str, starts: list[str], nominal: list[str],
    ) -> None:  # fmt: skip
        """One tile, summed over c_count channels and k_count steps of the first kernel axis.

        corner: the first element of its first window.  strides: of what it lies in, by (image, channel, *axes).
        number: of the piece of the sum, if it is cut.  starts, nominal: its place by axis, and before it was moved back.
        """
        sums = self._sum(corner, strides, weights, c_count, k_count)
        self._finish(sums, number, g, panel, starts, nominal)

    # --- the sum ------------------------------------------------------------------------------------------------------

    def _sum(self, corner: str, strides: tuple[int, ...], weights: str, c_count: str, k_count: str) -> list[str]:
        p, plan = self.p, self.plan
        steps = [p.stride[i] * s for i, s in enumerate(strides[2:])]
        rows = [sum(i * s for i, s in zip(point, (strides[0], *steps), strict=True)) for point in self.points]
        dilated = [d * s for d, s in zip(p.dilation, strides[2:], strict=True)]
        counts = [k_count, *(str(n) for n in p.kernel[1:])]
        axes = [(c_count, p.channels, strides[1])]
        axes += list(zip(counts, p.kernel, dilated, strict=True))
        axes = [a for a in axes if a[1] > 1] or axes[-1:]
        # Taps that are written out: whole axes from the inside, then a part of the next one.
        inner = [0]
        limit = max(1, UNROLLED // (plan.rows * plan.vectors))
        if plan.rows * plan.vectors > _CROWDED * plan.registers:
            limit = 1  # the compiler would load ahead, into registers that are not there
        while axes and axes[-1][0].isdigit() and len(inner) * int(axes[-1][0]) <= limit:
            n, _, step = axes.pop()
            inner = [j * step + i for j in range(int(n)) for i in inner]
        part = 1
        if axes and axes[-1][0].isdigit():
            n = int(axes[-1][0])
            part = max(f for f in range(1, min(n, 4, limit // len(inner)) + 1) if n % f == 0)
            inner = [j * axes[-1][2] + i for j in range(part) for i in inner]
        zero = ["zeroinitializer"] * (plan.rows * plan.vectors)
        return self._nest(axes, part, inner, rows, corner, weights, zero)[0]

    def _nest(
        self, axes: list[tuple[str, int, int]], part: int, inner: list[int], rows: list[int],
        x: str, w: str, sums: list[str],
    ) -> tuple[list[str], str]:  # fmt: skip
        """Loops over `axes`, the last one `part` steps at a time, around the taps `inner`; sums, and where w goes on."""
        em, shape = self.em, self.shape
        if not axes:
            for number, offset in enumerate(inner):
                sums = self._tap(x, offset, w, number, rows, sums)
            return sums, element_address(em, shape, w, str(len(inner) * self.plan.width))
        (count, _, step), *rest = axes
        factor = 1 if rest else part
        before, head, after = em.block, em.fresh_label("sum"), em.fresh_label("summed")
        em.line(f"br label %{head}")
        em.label(head)
        i, x_here, w_here = em.name("i"), em.name("x"), em.name("w")
        held = [em.name("c") for _ in sums]
        place = len(em.lines)
        nexts, w_next = self._nest(rest, part, inner, rows, x_here, w_here, held)
        x_next = element_address(em, shape, x_here, str(step * factor))
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
        return nexts, w_next

    def _tap(self, x: str, offset: int, w: str, number: int, rows: list[int], sums: list[str]) -> list[str]:
        """One multiply-add for every register of the tile."""
        em, shape, plan = self.em, self.shape, self.plan
        at = number * plan.width
        vectors = [load(em, shape, element_address(em, shape, w, str(at + v * shape.lanes))) for v in range(plan.vectors)]
        out = []
        for r, row in enumerate(rows):
            pointer = element_address(em, shape, x, str(offset + row))
            scalar = em.op(f"load {shape.element}, ptr {pointer}, align {shape.itemsize}")
            splat = em.splat(shape.element, shape.lanes, scalar)
            for v in range(plan.vectors):
                out.append(em.name("d"))
                multiply_add(em, shape, shape.lanes, splat, vectors[v], sums[r * plan.vectors + v], out[-1])
        return out

    # --- the result ---------------------------------------------------------------------------------------------------

    def _finish(
        self, sums: list[str], number: str | None, g: str, panel: str, starts: list[str], nominal: list[str]
    ) -> None:
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        lanes = shape.lanes
        for chunk in range(self.chunks):
            for v in range(plan.vectors):
                lines = []
                for r in range(chunk * lanes, (chunk + 1) * lanes):
                    lines.append(sums[min(r, plan.rows - 1) * plan.vectors + v])
                for lane, line in enumerate(transpose(em, shape, lines)):
                    at = self._slot(str(chunk * plan.width + v * lanes + lane))
                    em.line(f"store {self.vec} {line}, ptr {at}, align 64")
        masks = self._masks(starts, nominal)
        column = times(em, panel, plan.width)
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
            elif run.first == 0:
                mask = static_mask(lanes, run.last)
            else:
                mask = "<" + ", ".join(f"i1 {int(run.first <= i < run.last)}" for i in range(lanes)) + ">"
            if run.chunk in mine:
                both = mine[run.chunk]
                mask = both if mask is None else em.op(f"and <{lanes} x i1> {mask}, {both}")
            out.append(mask)
        return out
