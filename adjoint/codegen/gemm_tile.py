"""The product itself: tiles of C held in registers while k runs.

Owns `_Blocks`, the division of C among blocks, and `Tile`, which writes the code of one tile.
Read `tile_kernel` first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from adjoint.codegen.gemm_words import (
    LEAST_WORK,
    OUTPUT,
    Emitter,
    Epilogue,
    Operand,
    Phase,
    Shape,
    add,
    buffer_address,
    carrying,
    divide,
    element_address,
    load,
    loop,
    matrix_start,
    minimum,
    multiply_add,
    part_of_range,
    phase_of,
    plus,
    prefetch,
    static_mask,
    store,
    tile_start,
    times,
    vector_type,
)
from adjoint.hardware import l2_bytes

# Bytes of A, and of B, that one unit of work keeps in the L2 cache: three eighths of it. Only the order in which tiles are
# computed depends on it, and no result.
_L2_SHARE = min(max(l2_bytes(), 1 << 18), 1 << 21) * 3 // 8
_IN_ONE_TURN = 4  # of the loop over k: how many of these at most; a power of two, which divides the elements of a cache line


@dataclass(frozen=True, slots=True)
class _Blocks:
    """How the tiles of C are divided.

    A unit is up to `tall` x `wide` tiles of one matrix; `units` counts those of one matrix along
    rows and columns. A block, what the pool hands out, is `group` units in a row.
    """

    tall: int
    wide: int
    units: tuple[int, int]
    group: int
    nblocks: int


def _divide(shape: Shape, rows: int, width: int) -> _Blocks:
    """Blocks by shape alone: large enough to be worth handing out, small enough for the cache."""
    down, across = -(-shape.m // rows), -(-shape.n // width)
    k = max(1, min(shape.k, shape.k_block))
    tall = min(down, max(1, _L2_SHARE // (rows * k * shape.itemsize)))
    wide = min(across, max(1, _L2_SHARE // (width * k * shape.itemsize)))
    # Fetching a row of B takes as long as some 8 rows of A keep the multipliers busy.
    tile_work = max(rows, 8) * width * max(1, shape.k)
    total = tile_work * down * across * shape.batch
    target = max(LEAST_WORK, min(total // 32, 16 * LEAST_WORK))
    while tall * wide > 1 and tall * wide * tile_work > 2 * target:
        if wide == 1 or (tall > 1 and tall * rows >= wide * width):
            tall = -(-tall // 2)
        else:
            wide = -(-wide // 2)
    units = (-(-down // tall), -(-across // wide))
    group = max(1, target // (tall * wide * tile_work))
    all_units = shape.batch * units[0] * units[1]
    return _Blocks(tall, wide, units, group, -(-all_units // group))


def tile_kernel(
    name: str,
    shape: Shape,
    a: Operand,
    b: Operand,
    rows: int,
    vectors: int,
    epilogue: Epilogue | None,
    *,
    fetch: bool = False,
) -> Phase:
    """The product by register tiles: loops over blocks, units, columns and rows of tiles.

    fetch: as of `Tile`.
    """
    em = Emitter()
    width = vectors * shape.lanes
    down, across = -(-shape.m // rows), -(-shape.n // width)
    blocks = _divide(shape, rows, width)
    tile = Tile(em, shape, a, b, rows, vectors, epilogue, fetch=fetch)
    all_units = shape.batch * blocks.units[0] * blocks.units[1]
    with loop(em, "%lo", "%hi") as block:
        first = times(em, block, blocks.group)
        last = minimum(em, em.op(f"add i64 {first}, {blocks.group}"), all_units)

        def units(k_from: str, k_to: str) -> None:
            with loop(em, first, last) as unit:
                matrix, place = divide(em, unit, blocks.units[0] * blocks.units[1])
                row_unit, column_unit = divide(em, place, blocks.units[1])
                column_from, column_to = part_of_range(em, column_unit, blocks.wide, across)
                row_from, row_to = part_of_range(em, row_unit, blocks.tall, down)
                with loop(em, column_from, column_to) as column_tile:
                    tile.enter_column(matrix, column_tile)
                    with loop(em, row_from, row_to) as row_tile:
                        tile.emit(matrix, row_tile, k_from, k_to)

        if shape.k <= shape.k_block:
            units("0", str(shape.k))
        else:
            with loop(em, "0", str(shape.k), shape.k_block) as k_from:
                k_end = em.op(f"add i64 {k_from}, {shape.k_block}")
                units(k_from, minimum(em, k_end, shape.k))
    return phase_of(name, em, blocks.nblocks)


def sum_over_k(
    em: Emitter,
    shape: Shape,
    rows: int,
    a_tile: str,
    a_strides: tuple[int, int],
    b_tile: str,
    b_row: int,
    masks: Sequence[str | None],
    k_from: str,
    k_to: str,
    *,
    multiple: int = 0,
    each_line: Callable[[str], None] | None = None,
) -> list[str]:
    """The loop over k of one tile, which must run at least once; its sums by row and vector.

    a_tile, b_tile: addresses of the tile's first row of A and first column of B, at k = 0.  a_strides: elements from
    one row of A, and from one k, to the next.  masks: for each vector of a row of B the lanes that exist (None: all).
    multiple: what divides the number of k, which is then summed several in one turn of the loop (default: their number, if
    that is known here): beside another thread on its core, the loop's own instructions would cost 5 % of the time. Not with
    the narrowest registers: LLVM would load ahead into more of them than there are.
    each_line(k) writes what is to be done once for as many k, from `k` on, as a cache line has elements.
    """
    vec, vectors = vector_type(shape.element, shape.lanes), len(masks)
    zeros = ["zeroinitializer"] * (rows * vectors)
    if not multiple and k_from.isdigit() and k_to.isdigit():
        multiple = int(k_to) - int(k_from)
    turn = math.gcd(multiple, _IN_ONE_TURN) if multiple and shape.lanes * shape.itemsize > 16 else 1

    def at(base: str, distance: int) -> str:
        return element_address(em, shape, base, str(distance)) if distance else base

    def steps(k_from: str, k_to: str, initial: list[str]) -> list[str]:
        with carrying(em, vec, initial, k_from, k_to, turn) as (k, sums, nexts):
            b_k = element_address(em, shape, b_tile, times(em, k, b_row))
            a_k = element_address(em, shape, a_tile, times(em, k, a_strides[1]))
            for i in range(turn):
                b_i, a_i = at(b_k, i * b_row), at(a_k, i * a_strides[1])
                lines = [load(em, shape, at(b_i, v * shape.lanes), mask) for v, mask in enumerate(masks)]
                new = []
                for r in range(rows):
                    pointer = at(a_i, r * a_strides[0])
                    scalar = em.op(f"load {shape.element}, ptr {pointer}, align {shape.itemsize}")
                    splat = em.splat(shape.element, shape.lanes, scalar)
                    for v in range(vectors):
                        new.append(em.name("d"))
                        multiply_add(em, shape, shape.lanes, splat, lines[v], sums[r * vectors + v], new[-1])
                sums = new
            nexts += sums
        return nexts

    if each_line is None:
        return steps(k_from, k_to, zeros)
    line = 64 // shape.itemsize
    with carrying(em, vec, zeros, k_from, k_to, line) as (k, sums, nexts):
        each_line(k)
        nexts += steps(k, minimum(em, plus(em, k, str(line)), k_to), sums)
    return nexts


class Tile:
    """Writes the code of one tile: its row and column are run-time values, its size is fixed.

    fetch: whether a tile asks for what a later one reads of A, and for its part of a C that holds partial sums. Both lie at
    distances that processors do not foresee.
    """

    def __init__(
        self,
        em: Emitter,
        shape: Shape,
        a: Operand,
        b: Operand,
        rows: int,
        vectors: int,
        epilogue: Epilogue | None,
        *,
        fetch: bool = False,
    ) -> None:
        self.fetch = fetch
        self.em, self.shape, self.a, self.b = em, shape, a, b
        self.rows, self.vectors, self.epilogue = rows, vectors, epilogue
        self.width = vectors * shape.lanes
        self.vec = vector_type(shape.element, shape.lanes)
        self.a_base = buffer_address(em, a)
        self.b_base = buffer_address(em, b)
        self.c_base = buffer_address(em, OUTPUT)
        # Partial sums go through C, where a tile that was moved back must not add twice.
        self.blocked = shape.k > shape.k_block
        self.last_mask = None
        if shape.n < self.width and shape.n % shape.lanes:
            self.last_mask = static_mask(shape.lanes, shape.n % shape.lanes)
        self.masks = [self._mask(v) for v in range(vectors)]
        self.finished = em.op(f"alloca [{rows * vectors} x {self.vec}], align 64") if epilogue else ""

    def _mask(self, vector: int) -> str | None:
        return self.last_mask if vector == self.vectors - 1 else None

    def enter_column(self, matrix: str, column_tile: str, panel: str | None = None, k_from: str = "0") -> None:
        """Addresses that stay the same for all tiles of one column.

        panel: where its panel of B lies, if that begins at `k_from` and not among the others.
        """
        em, shape, b = self.em, self.shape, self.b
        self.column_tile = column_tile
        self.column = tile_start(em, column_tile, self.width, shape.n)
        if panel:
            before = em.op(f"sub i64 0, {times(em, k_from, b.panel)}")
            self.b_column = element_address(em, shape, panel, before)
            return
        if b.panel:
            inside = times(em, column_tile, shape.k * b.panel)
        else:
            inside = times(em, self.column, b.column)
        start = plus(em, matrix_start(em, b, matrix), inside)
        self.b_column = element_address(em, shape, self.b_base, start)

    def emit(self, matrix: str, row_tile: str, k_from: str, k_to: str) -> None:
        """One tile of C, summed over k_from <= k < k_to."""
        em, shape = self.em, self.shape
        row = tile_start(em, row_tile, self.rows, shape.m)
        c_row = plus(em, times(em, matrix, shape.m), row)
        c_start = plus(em, times(em, c_row, shape.n), self.column)
        c_tile = element_address(em, shape, self.c_base, c_start)
        if self.fetch and self.blocked:
            for _, r, v in self._each():
                prefetch(em, self._c_pointer(c_tile, r, v), write=True)
        sums = self._sum_over_k(matrix, row, k_from, k_to, c_start)
        corner = (row_tile, c_row)
        if not self.blocked:
            if self.epilogue is None:
                self._store_all(sums, c_tile, self.masks)
            else:
                self._finish(sums, row, corner, self.epilogue)
            return
        columns, first_row = self._ownership(row, row_tile)
        sums = self._add_partial(sums, c_tile, k_from)
        self._store_all(sums, c_tile, columns, first_row)
        if self.epilogue is not None:
            ends = em.op(f"icmp eq i64 {k_to}, {shape.k}")
            finish, done = em.fresh_label("finish"), em.fresh_label("done")
            em.line(f"br i1 {ends}, label %{finish}, label %{done}")
            em.label(finish)
            self._finish(sums, row, corner, self.epilogue)
            em.line(f"br label %{done}")
            em.label(done)

    def _sum_over_k(self, matrix: str, row: str, k_from: str, k_to: str, c_start: str) -> list[str]:
        """The loop over k; its sums by row and vector. c_start: the tile's first element of C."""
        em, shape, a, b = self.em, self.shape, self.a, self.b
        if shape.k == 0:
            return ["zeroinitializer"] * (self.rows * self.vectors)
        matrix_a = matrix_start(em, a, matrix)
        a_tile = element_address(em, shape, self.a_base, matrix_a, times(em, row, a.row))
        every: list[Callable[[str], None]] = []  # what is done once for each cache line along k
        ahead = self._ahead()
        if ahead:
            # Past the last rows of a matrix lie, as a rule, the first of the next one.
            a_next = element_address(em, shape, a_tile, str(ahead * self.rows * a.row))
            apart, lines = (a.row, self.rows) if abs(a.column) == 1 else (a.column, 64 // shape.itemsize)

            def fetch(k: str) -> None:
                at = element_address(em, shape, a_next, times(em, k, a.column))
                for line in range(lines):
                    prefetch(em, element_address(em, shape, at, str(line * apart)))

            every.append(fetch)
        ask = self.epilogue.asker(em, c_start, shape.n, self.rows) if self.epilogue else None
        if ask:
            every.append(lambda k: ask(em.op(f"udiv i64 {k}, {64 // shape.itemsize}")))

        def each_line(k: str) -> None:
            for write in every:
                write(k)

        masks = [None if b.panel else mask for mask in self.masks]
        strides = a.row, a.column
        b_row = b.panel or b.row
        return sum_over_k(
            em, shape, self.rows, a_tile, strides, self.b_column, b_row, masks, k_from, k_to,
            multiple=math.gcd(shape.k, shape.k_block) if self.blocked else shape.k, each_line=each_line if every else None,
        )  # fmt: skip

    def _ahead(self) -> int:
        """How many tiles ahead elements of A are asked for: the rows of the next one or, where columns are contiguous, what
        two tiles share."""
        if not self.fetch:
            return 0
        return 1 if abs(self.a.column) == 1 else 2 * (abs(self.a.row) == 1)

    def _each(self) -> Iterator[tuple[int, int, int]]:
        """Index, row and vector of every register of the tile."""
        for r in range(self.rows):
            for v in range(self.vectors):
                yield r * self.vectors + v, r, v

    def _c_pointer(self, c_tile: str, r: int, v: int) -> str:
        row = element_address(self.em, self.shape, c_tile, str(r * self.shape.n)) if r else c_tile
        return element_address(self.em, self.shape, row, str(v * self.shape.lanes)) if v else row

    def _add_partial(self, sums: list[str], c_tile: str, k_from: str) -> list[str]:
        """The sums, plus what C holds unless this is the first block of k."""
        em, vec = self.em, self.vec
        first = em.op(f"icmp eq i64 {k_from}, 0")
        before, more, joined = em.block, em.fresh_label("more"), em.fresh_label("joined")
        em.line(f"br i1 {first}, label %{joined}, label %{more}")
        em.label(more)
        added = []
        for i, r, v in self._each():
            held = load(em, self.shape, self._c_pointer(c_tile, r, v), self._mask(v))
            added.append(add(em, self.shape, held, sums[i]))
        em.line(f"br label %{joined}")
        em.label(joined)
        return [
            em.op(f"phi {vec} [ {s}, %{before} ], [ {a}, %{more} ]")
            for s, a in zip(sums, added, strict=True)
        ]

    def _ownership(self, row: str, row_tile: str) -> tuple[list[str | None], str]:
        """Which elements no earlier tile stores: lanes of each vector (None: all), first row.

        A tile that was moved back shares rows or columns with its neighbour, and partial sums
        must be added to those once.
        """
        em, shape, lanes = self.em, self.shape, self.shape.lanes
        columns = list(self.masks)
        if shape.n > self.width and shape.n % self.width:
            nominal = times(em, self.column_tile, self.width)
            moved = em.splat("i64", lanes, em.op(f"sub i64 {nominal}, {self.column}"))
            for v in range(self.vectors):
                numbers = ", ".join(f"i64 {v * lanes + lane}" for lane in range(lanes))
                columns[v] = em.op(f"icmp sge <{lanes} x i64> <{numbers}>, {moved}")
        first_row = "0"
        if shape.m % self.rows:
            first_row = em.op(f"sub i64 {times(em, row_tile, self.rows)}, {row}")
        return columns, first_row

    def _store_all(
        self, sums: list[str], c_tile: str, columns: list[str | None], first_row: str = "0"
    ) -> None:
        em, lanes = self.em, self.shape.lanes
        for i, r, v in self._each():
            mask = columns[v]
            if first_row != "0":
                mine = em.splat("i1", lanes, em.op(f"icmp sge i64 {r}, {first_row}"))
                mask = em.op(f"and <{lanes} x i1> {mask}, {mine}") if mask else mine
            store(em, self.shape, sums[i], self._c_pointer(c_tile, r, v), mask)

    def _finish(self, sums: list[str], row: str, corner: tuple[str, str], epilogue: Epilogue) -> None:
        """Hand the final values on, of which those are to be taken that no other tile has: this one may have been moved back.

        corner: the tile's number along rows, and its first row of C seen as one matrix.
        """
        em, shape = self.em, self.shape
        row_tile, c_row = corner
        for i, _, _ in self._each():
            slot = em.op(f"getelementptr {self.vec}, ptr {self.finished}, i64 {i}")
            em.line(f"store {self.vec} {sums[i]}, ptr {slot}, align 64")
        first = c_row
        if shape.m % self.rows:
            first = plus(em, c_row, em.op(f"sub i64 {times(em, row_tile, self.rows)}, {row}"))
        rows = first, plus(em, c_row, str(self.rows))
        columns = times(em, self.column_tile, self.width), plus(em, self.column, str(min(self.width, shape.n)))
        epilogue.call(em, self.finished, self.width, (c_row, self.column), rows, columns)
