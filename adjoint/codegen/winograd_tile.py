"""The transforms of `winograd`: of the taps, of rows of x, and of products to rows of y.

What is lost in them is computed again by the definition (`Outputs._again`). Read `Inputs.write` and `Outputs.write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
from adjoint.codegen.winograd_plan import WinogradPlan

FEW_ELEMENTS = 4.0  # tiles whose elements add up to less than so many times the largest
_WRITTEN_OUT = 4  # pieces of a row up to which each has code of its own


def subtract(em: Emitter, shape: Shape, x: str, y: str) -> str:
    return em.op(f"fsub {vector_type(shape.element, shape.lanes)} {x}, {y}")


def _four_to_four(em: Emitter, shape: Shape, d: Sequence[str]) -> list[str]:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3."""
    sums = subtract(em, shape, d[0], d[2]), add(em, shape, d[1], d[2])
    return [*sums, subtract(em, shape, d[2], d[1]), subtract(em, shape, d[1], d[3])]


def _four_to_two(em: Emitter, shape: Shape, m: Sequence[str]) -> list[str]:
    """m0 + m1 + m2, m1 - m2 - m3."""
    first = add(em, shape, add(em, shape, m[0], m[1]), m[2])
    return [first, subtract(em, shape, subtract(em, shape, m[1], m[2]), m[3])]


def larger(em: Emitter, shape: Shape, x: str, y: str) -> str:
    """The larger number; y where one is NaN."""
    vec = vector_type(shape.element, shape.lanes)
    return em.op(f"select <{shape.lanes} x i1> {em.op(f'fcmp ogt {vec} {x}, {y}')}, {vec} {x}, {vec} {y}")


Transform = Callable[[Emitter, Shape, Sequence[str]], list[str]]


def both_axes(em: Emitter, shape: Shape, transform: Transform, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """A transform along each row, then along each column; the result by rows."""
    along = [transform(em, shape, row) for row in rows]
    columns = [transform(em, shape, column) for column in zip(*along, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _scaled(em: Emitter, number: int | str, factor: int) -> str:
    if isinstance(number, str) and not number.isdigit():
        return times(em, number, factor)
    return str(int(number) * factor)


def _mask(bits: Sequence[bool]) -> str | None:
    """None for all lanes."""
    return None if all(bits) else "<" + ", ".join(f"i1 {int(b)}" for b in bits) + ">"


def _pieces(em: Emitter, alike: Sequence[object]) -> Iterator[tuple[int | str, int]]:
    """Numbers of the pieces of a row, in order, for code that is written for each: (number, one that it is like).

    Where many neighbours are alike, one is written, in a loop over their numbers.
    """
    at = 0
    while at < len(alike):
        end = at
        while end < len(alike) and alike[end] == alike[at]:
            end += 1
        if end - at > _WRITTEN_OUT:
            with loop(em, str(at), str(end)) as index:
                yield index, at
        else:
            for number in range(at, end):
                yield number, number
        at = end


class Inputs:
    """Writes the transform of one row of tiles of one channel of x."""

    def __init__(self, em: Emitter, shape: Shape, p: Problem, plan: WinogradPlan) -> None:
        """Written first of all: LLVM wants memory on the stack to be asked for in the first block."""
        self.em, self.shape, self.p, self.plan = em, shape, p, plan
        self.vec = vector_type(shape.element, shape.lanes)
        self.x = buffer_address(em, Operand(0, 0, 0, 1))
        self.zeros = em.op(f"alloca [{p.sizes[1]} x float], align 64")  # what rows above and below the image read

    def begin(self, to: str, counts: str) -> None:
        """to: where the transformed input goes.  counts: where two numbers for each tile go, in rows of whole vectors.

        They are the sum of the absolute values of a tile over all channels, and the largest of them.
        """
        em, self.to = self.em, to
        self.sums, self.largest = counts, element_address(em, self.shape, counts, str(self.plan.tall * self.plan.row_length))
        with loop(em, "0", str(self.p.sizes[1])) as i:
            em.line(f"store float 0.0, ptr {element_address(em, self.shape, self.zeros, i)}, align 4")

    def clear(self) -> None:
        with loop(self.em, "0", str(2 * self.plan.tall * self.plan.row_length), self.shape.lanes) as i:
            store(self.em, self.shape, "zeroinitializer", element_address(self.em, self.shape, self.sums, i))

    def judge(self) -> None:
        """Put NaN in the place of the sum of each tile that few elements dominate, else zero."""
        em, shape = self.em, self.shape
        with loop(em, "0", str(self.plan.tall * self.plan.row_length), shape.lanes) as i:
            at = element_address(em, shape, self.sums, i)
            largest = load(em, shape, element_address(em, shape, self.largest, i))
            limit = em.op(f"fmul {self.vec} {largest}, {em.constant('float', shape.lanes, FEW_ELEMENTS)}")
            few = em.op(f"fcmp olt {self.vec} {load(em, shape, at)}, {limit}")
            nan = em.constant("float", shape.lanes, float("nan"))
            value = em.op(f"select <{shape.lanes} x i1> {few}, {self.vec} {nan}, {self.vec} zeroinitializer")
            store(em, shape, value, at)

    def _count(self, i: str, tile: str, transformed: list[list[str]]) -> None:
        """Count in the elements of one channel. Four frequencies show them all: each element is in one of these."""
        em, shape = self.em, self.shape
        em.declare(f"{self.vec} @llvm.fabs.v{shape.lanes}f32({self.vec})")
        corners = [transformed[k][j] for k in (0, 3) for j in (0, 3)]
        sizes = [em.op(f"call {self.vec} @llvm.fabs.v{shape.lanes}f32({self.vec} {value})") for value in corners]
        place = plus(em, times(em, i, self.plan.row_length), tile)
        at = element_address(em, shape, self.sums, place)
        total = add(em, shape, add(em, shape, sizes[0], sizes[1]), add(em, shape, sizes[2], sizes[3]))
        store(em, shape, add(em, shape, load(em, shape, at), total), at)
        at = element_address(em, shape, self.largest, place)
        low, high = larger(em, shape, sizes[0], sizes[1]), larger(em, shape, sizes[2], sizes[3])
        store(em, shape, larger(em, shape, load(em, shape, at), larger(em, shape, low, high)), at)

    def _bits(self, piece: int, part: int) -> tuple[bool, ...]:
        """Which elements of a vector exist: those of the piece's columns from 0, lanes, 2 and lanes + 2 on, by part."""
        first = self._column(piece) + (0, self.shape.lanes, 2, self.shape.lanes + 2)[part]
        return tuple(0 <= first + lane < self.p.sizes[1] for lane in range(self.shape.lanes))

    def _column(self, piece: int) -> int:
        return 2 * self.shape.lanes * piece - self.p.lo[1]

    def write(self, image: str, row: str, c: str, i: str) -> None:
        """image, row: which row of tiles.  c: the channel.  i: its number within the unit."""
        em, shape, plan = self.em, self.shape, self.plan
        lines = self.lines(image, row, c)
        to = element_address(em, shape, self.to, times(em, c, plan.length), times(em, i, plan.across))
        pieces = [tuple(self._bits(n, part) for part in range(4)) for n in range(-(-plan.across // shape.lanes))]
        for number, like in _pieces(em, pieces):
            tiles = [self._tiles(line, number, pieces[like]) for line in lines]
            here = element_address(em, shape, to, _scaled(em, number, shape.lanes))
            transformed = both_axes(em, shape, _four_to_four, tiles)
            self._count(i, _scaled(em, number, shape.lanes), transformed)
            for k, row_ in enumerate(transformed):
                for j, value in enumerate(row_):
                    store(em, shape, value, element_address(em, shape, here, str((4 * k + j) * plan.input_step)))

    def lines(self, image: str, row: str, c: str) -> list[str]:
        """Where the four rows of x that a row of tiles reads begin, with zeros for those outside."""
        em, shape, p = self.em, self.shape, self.p
        source = element_address(em, shape, self.x, times(em, image, p.x_strides[0]), times(em, c, p.x_strides[2]))
        top = plus(em, times(em, row, 2), str(-p.lo[0]))
        out = []
        for k in range(4):
            h = plus(em, top, str(k))
            inside = em.op(f"icmp ult i64 {h}, {p.sizes[0]}")
            line = element_address(em, shape, source, times(em, h, p.x_strides[3]))
            out.append(em.op(f"select i1 {inside}, ptr {line}, ptr {self.zeros}"))
        return out

    def _tiles(self, line: str, number: int | str, bits: tuple[tuple[bool, ...], ...]) -> list[str]:
        """Elements 0 to 3 of a row of `lanes` tiles, two elements apart."""
        em, shape, lanes = self.em, self.shape, self.shape.lanes
        first = plus(em, _scaled(em, number, 2 * lanes), str(-self.p.lo[1]))
        vectors = []
        for part, distance in enumerate((0, lanes, 2, lanes + 2)):
            if not any(bits[part]):
                vectors.append("zeroinitializer")
            else:
                at = element_address(em, shape, line, plus(em, first, str(distance)))
                vectors.append(load(em, shape, at, _mask(bits[part])))
        out = []
        for low, high in ((0, 1), (2, 3)):
            for odd in (0, 1):
                order = ", ".join(f"i32 {2 * lane + odd}" for lane in range(lanes))
                out.append(em.op(f"shufflevector {self.vec} {vectors[low]}, {self.vec} {vectors[high]}, <{lanes} x i32> <{order}>"))
        return out


class Outputs:
    """Writes the transform of the products of one row of tiles to two rows of one channel of y."""

    def __init__(
        self, em: Emitter, shape: Shape, p: Problem, plan: WinogradPlan, inputs: Inputs, y: str, exact: str
    ) -> None:
        """exact: addresses a byte for each output channel, whether it is computed by the definition."""
        self.em, self.shape, self.p, self.plan, self.inputs = em, shape, p, plan, inputs
        self.y, self.exact = y, exact
        self.weights = buffer_address(em, Operand(1, 0, 0, 1))
        self.bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        self.vec = vector_type(shape.element, shape.lanes)
        self.looped = em.op(f"alloca {self.vec}, align 64")

    def begin(self, products: str) -> None:
        """products: where they lie."""
        self.products = products

    def write(self, image: str, row: str, o: str, r: str, i: str) -> None:
        """image, row: which row of tiles.  o, r: the output channel, and its number in the bundle.  i: the row's in the unit."""
        em, shape, p, plan, lanes = self.em, self.shape, self.p, self.plan, self.shape.lanes
        from_ = element_address(em, shape, self.products, times(em, r, plan.length), times(em, i, plan.across))
        high, wide = p.positions
        place = plus(em, times(em, image, p.outputs * p.area), times(em, o, p.area), times(em, row, 2 * wide))
        self.to = element_address(em, shape, self.y, place)
        self.extra = None
        if self.bias:
            self.extra = self._splat(element_address(em, shape, self.bias, o))
        self.second = None  # whether there is a second row
        if high % 2:
            self.second = em.splat("i1", lanes, em.op(f"icmp ult i64 {row}, {high // 2}"))
        pieces = []
        for n in range(-(-plan.across // lanes)):
            columns = [2 * lanes * n + lane for lane in range(2 * lanes)]
            pieces.append((tuple(c < wide for c in columns[:lanes]), tuple(c < wide for c in columns[lanes:])))
        lost = None
        if _WRITTEN_OUT < len(pieces):
            em.line(f"store {self.vec} zeroinitializer, ptr {self.looped}, align 64")
        for number, like in _pieces(em, pieces):
            check = self._piece(from_, _scaled(em, number, lanes), pieces[like])
            place = plus(em, times(em, i, plan.row_length), _scaled(em, number, lanes))
            check = add(em, shape, check, load(em, shape, element_address(em, shape, self.inputs.sums, place)))
            if isinstance(number, int):
                bits = self._lost(check, _mask([(*pieces[like][0], *pieces[like][1])[2 * lane] for lane in range(lanes)]))
                lost = bits if lost is None else em.op(f"or <{lanes} x i1> {lost}, {bits}")
            else:
                held = em.op(f"load {self.vec}, ptr {self.looped}, align 64")
                em.line(f"store {self.vec} {add(em, shape, held, check)}, ptr {self.looped}, align 64")
        if _WRITTEN_OUT < len(pieces):
            bits = self._lost(em.op(f"load {self.vec}, ptr {self.looped}, align 64"), None)
            lost = bits if lost is None else em.op(f"or <{lanes} x i1> {lost}, {bits}")
        em.declare(f"i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
        any_lost = em.op(f"call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> {lost})")
        byte = em.op(f"load i8, ptr {em.op(f'getelementptr i8, ptr {self.exact}, i64 {o}')}, align 1")
        exact = em.op(f"icmp ne i8 {byte}, 0")
        again, done = em.fresh_label("again"), em.fresh_label("done")
        em.line(f"br i1 {em.op(f'or i1 {any_lost}, {exact}')}, label %{again}, label %{done}")
        em.label(again)
        self._again(image, row, o, i, exact)
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
        y = both_axes(em, shape, _four_to_two, m)
        for k, pair in enumerate(y):
            for half in (0, 1):
                if not any(bits[half]):
                    continue
                order = ", ".join(f"i32 {half * lanes // 2 + lane // 2 + lanes * (lane % 2)}" for lane in range(lanes))
                value = em.op(f"shufflevector {self.vec} {pair[0]}, {self.vec} {pair[1]}, <{lanes} x i32> <{order}>")
                if self.extra:
                    value = add(em, shape, value, self.extra)
                where = element_address(em, shape, self.to, plus(em, _scaled(em, tile, 2), str(k * self.p.positions[1] + half * lanes)))
                store(em, shape, value, where, self._both(_mask(bits[half]), k))
        return add(em, shape, add(em, shape, *y[0]), add(em, shape, *y[1]))

    def _both(self, mask: str | None, k: int) -> str | None:
        """Lanes of row k of the tiles, which may not exist."""
        if k == 0 or self.second is None:
            return mask
        return self.second if mask is None else self.em.op(f"and <{self.shape.lanes} x i1> {mask}, {self.second}")

    def _again(self, image: str, row: str, o: str, i: str, exact: str) -> None:
        """By the definition: what is not finite in the two rows or of a tile that is not judged well, or all if `exact`."""
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
            sums = self._sums(image, row, taps, column, inside)
            # One number of each tile for its two columns; the vector may reach into what is behind.
            place = plus(em, times(em, i, self.plan.row_length), times(em, number, lanes // 2))
            tiles = load(em, shape, element_address(em, shape, self.inputs.sums, place))
            order = ", ".join(f"i32 {lane // 2}" for lane in range(lanes))
            tiles = em.op(f"shufflevector {self.vec} {tiles}, {self.vec} poison, <{lanes} x i32> <{order}>")
            for k in (0, 1):
                value = add(em, shape, add(em, shape, sums[k][0], sums[k][1]), sums[k][2])
                if self.extra:
                    value = add(em, shape, value, self.extra)
                where = element_address(em, shape, self.to, plus(em, column, str(k * wide)))
                mask = self._both(exist, k)
                held = load(em, shape, where, mask)
                rest = add(em, shape, subtract(em, shape, held, held), tiles)
                lost = em.op(f"fcmp uno {self.vec} {rest}, {rest}")
                lost = em.op(f"or <{lanes} x i1> {lost}, {everything}")
                value = em.op(f"select <{lanes} x i1> {lost}, {self.vec} {value}, {self.vec} {held}")
                store(em, shape, value, where, mask)

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
