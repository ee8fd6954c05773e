"""The last stage of `winograd`: products to rows of y, and the definition where the transforms lose too much.

Read `Outputs.write`, then `Outputs._again`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import (
    Emitter,
    Operand,
    Shape,
    add,
    buffer_address,
    element_address,
    load,
    loop,
    multiply_add,
    plus,
    store,
    times,
)
from adjoint.codegen.winograd_input import Inputs
from adjoint.codegen.winograd_plan import WinogradPlan
from adjoint.codegen.winograd_words import (
    WRITTEN_OUT,
    both_axes,
    four_to_two,
    lanes_of,
    pieces_of,
    scaled,
    subtract,
)


class Outputs:
    """Writes the transform of the products of one row of tiles to two rows of one channel of y."""

    def __init__(
        self, em: Emitter, shape: Shape, p: Problem, plan: WinogradPlan, inputs: Inputs, products: str, y: str, exact: str
    ) -> None:
        """exact: addresses a byte for each output channel, whether it is computed by the definition."""
        self.em, self.shape, self.p, self.plan, self.inputs = em, shape, p, plan, inputs
        self.products, self.y, self.exact = products, y, exact
        self.weights = buffer_address(em, p.weights)
        self.bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        self.vec = vector_type(shape.element, shape.lanes)
        self.check = element_address(em, shape, inputs.to, str(plan.check_at))

    def write(self, image: str, row: str, o: str, r: str, i: str) -> None:
        """image, row: which row of tiles, the i-th of the unit.  o: the output channel, the r-th of the bundle."""
        em, shape, p, plan = self.em, self.shape, self.p, self.plan
        high, wide = p.positions
        place = plus(em, times(em, image, p.outputs * p.area), times(em, o, p.area), times(em, row, 2 * wide))
        self.to = element_address(em, shape, self.y, place)
        self.extra = self._splat(element_address(em, shape, self.bias, o)) if self.bias else None
        self.second = None  # whether there is a second row
        if high % 2:
            self.second = em.splat("i1", shape.lanes, em.op(f"icmp ult i64 {row}, {high // 2}"))
        from_ = element_address(em, shape, self.products, times(em, r, plan.length), times(em, i, plan.across))
        lost = self._pieces(from_, times(em, i, plan.row_length))
        byte = em.op(f"load i8, ptr {em.op(f'getelementptr i8, ptr {self.exact}, i64 {o}')}, align 1")
        exact = em.op(f"icmp ne i8 {byte}, 0")
        with self._if(em.op(f"or i1 {self._any(lost)}, {exact}")):
            self._again(image, row, o, i, exact)

    def _pieces(self, from_: str, counts: str) -> str:
        """All tiles of the row; lanes in which some are to be computed by the definition."""
        em, shape, lanes, wide = self.em, self.shape, self.shape.lanes, self.p.positions[1]
        columns = [tuple(c < wide for c in range(n, n + lanes)) for n in range(0, 2 * self.plan.row_length, lanes)]
        pieces = list(zip(columns[::2], columns[1::2], strict=True))
        looped = len(pieces) > WRITTEN_OUT
        found = []
        if looped:
            store(em, shape, "zeroinitializer", self.check)
        for number, like in pieces_of(em, pieces):
            tile = scaled(em, number, lanes)
            judged = load(em, shape, element_address(em, shape, self.inputs.sums, plus(em, counts, tile)))
            check = add(em, shape, self._piece(from_, tile, pieces[like]), judged)
            if isinstance(number, int):
                exist = [(*pieces[like][0], *pieces[like][1])[2 * lane] for lane in range(lanes)]
                found.append(self._lost(check, lanes_of(exist)))
            else:
                store(em, shape, add(em, shape, load(em, shape, self.check), check), self.check)
        if looped:
            found.append(self._lost(load(em, shape, self.check), None))
        lost, *rest = found
        for bits in rest:
            lost = em.op(f"or <{lanes} x i1> {lost}, {bits}")
        return lost

    def _any(self, bits: str) -> str:
        """Whether any lane is set."""
        lanes = self.shape.lanes
        self.em.declare(f"i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
        return self.em.op(f"call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> {bits})")

    @contextmanager
    def _if(self, condition: str) -> Iterator[None]:
        """The body is run where the condition holds."""
        em = self.em
        then, done = em.fresh_label("then"), em.fresh_label("done")
        em.line(f"br i1 {condition}, label %{then}, label %{done}")
        em.label(then)
        yield
        em.line(f"br label %{done}")
        em.label(done)

    def _splat(self, pointer: str) -> str:
        return self.em.splat("float", self.shape.lanes, self.em.op(f"load float, ptr {pointer}, align 4"))

    def _lost(self, check: str, mask: str | None) -> str:
        """Lanes in which some sum is not finite."""
        lanes = self.shape.lanes
        rest = subtract(self.em, self.shape, check, check)
        bits = self.em.op(f"fcmp uno {self.vec} {rest}, {rest}")
        return bits if mask is None else self.em.op(f"and <{lanes} x i1> {bits}, {mask}")

    def _piece(self, from_: str, tile: str, bits: tuple[tuple[bool, ...], ...]) -> str:
        """The tiles of a piece of the row; a number that is not finite if one of a tile is not.

        bits: which columns of its two vectors exist.
        """
        em, shape, plan, lanes = self.em, self.shape, self.plan, self.shape.lanes
        at = element_address(em, shape, from_, tile)
        m = [
            [load(em, shape, element_address(em, shape, at, str((4 * k + j) * plan.product_step))) for j in range(4)]
            for k in range(4)
        ]
        y = both_axes(em, shape, four_to_two, m)
        for k, pair in enumerate(y):
            for half in (0, 1):
                if not any(bits[half]):
                    continue
                order = ", ".join(f"i32 {half * lanes // 2 + lane // 2 + lanes * (lane % 2)}" for lane in range(lanes))
                value = em.op(f"shufflevector {self.vec} {pair[0]}, {self.vec} {pair[1]}, <{lanes} x i32> <{order}>")
                if self.extra:
                    value = add(em, shape, value, self.extra)
                distance = k * self.p.positions[1] + half * lanes
                where = element_address(em, shape, self.to, plus(em, scaled(em, tile, 2), str(distance)))
                store(em, shape, value, where, self._both(lanes_of(bits[half]), k))
        return add(em, shape, add(em, shape, *y[0]), add(em, shape, *y[1]))

    def _both(self, mask: str | None, k: int) -> str | None:
        """Lanes of row k of the tiles, which may not exist."""
        if k == 0 or self.second is None:
            return mask
        return self.second if mask is None else self.em.op(f"and <{self.shape.lanes} x i1> {mask}, {self.second}")

    def _again(self, image: str, row: str, o: str, i: str, exact: str) -> None:
        """By the definition: what is not finite in the two rows, or of a tile with few elements, or all if `exact`."""
        em, shape, p, lanes = self.em, self.shape, self.p, self.shape.lanes
        wide, numbers = p.positions[1], ", ".join(f"i64 {lane}" for lane in range(lanes))
        taps = element_address(em, shape, self.weights, times(em, o, p.w_strides[1]))
        everything = em.splat("i1", lanes, exact)
        with loop(em, "0", str(-(-wide // lanes))) as number:
            column = times(em, number, lanes)
            columns = em.op(f"add <{lanes} x i64> <{numbers}>, {em.splat('i64', lanes, column)}")
            exist = em.op(f"icmp ult <{lanes} x i64> {columns}, splat (i64 {wide})")
            inside = []
            for k in range(3):
                at = em.op(f"add <{lanes} x i64> {columns}, splat (i64 {k - p.lo[1]})")
                at = em.op(f"icmp ult <{lanes} x i64> {at}, splat (i64 {p.sizes[1]})")
                inside.append(em.op(f"and <{lanes} x i1> {at}, {exist}"))
            # One number of each tile for its two columns; the vector may reach into what is behind.
            place = plus(em, times(em, i, self.plan.row_length), times(em, number, lanes // 2))
            tiles = load(em, shape, element_address(em, shape, self.inputs.sums, place))
            order = ", ".join(f"i32 {lane // 2}" for lane in range(lanes))
            tiles = em.op(f"shufflevector {self.vec} {tiles}, {self.vec} poison, <{lanes} x i32> <{order}>")
            rows = []
            for k in (0, 1):
                where, mask = element_address(em, shape, self.to, plus(em, column, str(k * wide))), self._both(exist, k)
                held = load(em, shape, where, mask)
                rest = add(em, shape, subtract(em, shape, held, held), tiles)
                lost = em.op(f"fcmp uno {self.vec} {rest}, {rest}")
                lost = em.op(f"or <{lanes} x i1> {lost}, {everything}")
                rows.append((where, em.op(f"and <{lanes} x i1> {lost}, {mask}")))
            with self._if(self._any(em.op(f"or <{lanes} x i1> {rows[0][1]}, {rows[1][1]}"))):
                sums = self._sums(image, row, taps, column, inside)
                for (where, lost), (first, second, third) in zip(rows, sums, strict=True):
                    value = add(em, shape, add(em, shape, first, second), third)
                    store(em, shape, value if self.extra is None else add(em, shape, value, self.extra), where, lost)

    def _sums(self, image: str, row: str, taps: str, column: str, inside: list[str]) -> list[list[str]]:
        """For both rows the sums over the channels, one for each row of taps."""
        em, shape, p = self.em, self.shape, self.p
        before, head, after = em.block, em.fresh_label("channel"), em.fresh_label("summed")
        em.line(f"br label %{head}")
        em.label(head)
        c, place = em.name("c"), len(em.lines)
        held = [[em.name("s") for _ in range(3)] for _ in range(2)]
        sums = [list(row_) for row_ in held]
        lines = self.inputs.lines(image, row, c)
        here = element_address(em, shape, taps, times(em, c, p.w_strides[2]))
        for j in range(3):
            vectors = [
                load(em, shape, element_address(em, shape, line, plus(em, column, str(j - p.lo[1]))), inside[j])
                for line in lines
            ]
            for i in range(3):
                weight = self._splat(element_address(em, shape, here, str(i * p.w_strides[3] + j * p.w_strides[4])))
                for k in (0, 1):
                    out = em.name("s")
                    multiply_add(em, shape, shape.lanes, vectors[i + k], weight, sums[k][i], out)
                    sums[k][i] = out
        following = em.op(f"add i64 {c}, 1")
        em.lines[place:place] = [
            f"  {c} = phi i64 [ 0, %{before} ], [ {following}, %{head} ]",
            *(
                f"  {a} = phi {self.vec} [ zeroinitializer, %{before} ], [ {b}, %{head} ]"
                for pair in zip(held, sums, strict=True)
                for a, b in zip(*pair, strict=True)
            ),
        ]
        em.line(f"br i1 {em.op(f'icmp slt i64 {following}, {p.channels}')}, label %{head}, label %{after}")
        em.label(after)
        return sums
