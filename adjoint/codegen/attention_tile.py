"""What the kernels of attention are written with: products of blocks, and what is done to a block's rows.

Owns `Attention`, the problem: shapes, and where operands lie. A block is QUERIES rows by KEYS columns of the matrix of
scores, in scratch memory; a panel is `PANEL` vectors of columns. Products of blocks are tiles of `gemm_tile`. Read
`Attention`, then `Blocks.product`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adjoint.codegen.gemm_pack import pack_columns
from adjoint.codegen.gemm_tile import sum_over_k
from adjoint.codegen.gemm_words import (
    ELEMENTS,
    LEAST_WORK,
    Batch,
    Emitter,
    Operand,
    Phase,
    Shape,
    add,
    buffer_address,
    divide,
    element_address,
    load,
    loop,
    matrix_start,
    minimum,
    multiply_add,
    phase_of,
    plus,
    static_mask,
    store,
    times,
    vector_type,
)
from adjoint.codegen.vecmath_lanes import Lanes

QUERIES = 32  # rows of a block of scores
KEYS = 128  # its columns
PANEL = 2  # vectors of columns that one tile of scores holds
MOST_BLOCKS = 64  # that share the work, each with scratch memory of its own

Place = tuple[Batch, int, int, int]  # element strides of batch, row and column, and where an operand begins


@dataclass(frozen=True, slots=True)
class Attention:
    """`batch` times `queries` rows of `width` that attend to `keys` rows, which hold values of `out_width`.

    places: where query, key, value and, in the backward pass, the cotangent of the output lie, each with contiguous
    rows.  mask: where the mask lies, mask_dtype: "bool", the name of `dtype`, or None without one.  causal: query i sees
    keys up to i.  threads see only blocks, which are cut by these numbers alone.
    """

    dtype: str
    batch: int
    queries: int
    keys: int
    width: int
    out_width: int
    causal: bool
    places: tuple[Place, ...]
    mask: Place | None = None
    mask_dtype: str | None = None


class Blocks:
    """Writes the code of one kernel of attention."""

    def __init__(self, problem: Attention, vector_bytes: int) -> None:
        self.p = problem
        self.em = Emitter()
        element, itemsize = ELEMENTS[problem.dtype]
        self.shape = Shape(element, itemsize, vector_bytes // itemsize, problem.batch, problem.queries, problem.keys, problem.width)
        self.wide = vector_bytes == 64  # with twice as many registers
        self.vec = vector_type(element, self.shape.lanes)

    # --- addresses and vectors ------------------------------------------------------------------------------------

    def at(self, base: str, *indices: str) -> str:
        return element_address(self.em, self.shape, base, *indices)

    def padded(self, width: int) -> int:
        return -(-width // self.shape.lanes) * self.shape.lanes

    def lanes(self, ssa: str) -> Lanes:
        return Lanes(self.em, self.shape.element, self.shape.lanes, ssa)

    def load(self, base: str, *indices: str) -> Lanes:
        return self.lanes(load(self.em, self.shape, self.at(base, *indices)))

    def store(self, value: Lanes, base: str, *indices: str) -> None:
        store(self.em, self.shape, value.ssa, self.at(base, *indices))

    def splat(self, base: str, index: str) -> Lanes:
        """One element in all lanes."""
        s = self.shape
        return self.lanes(self.em.splat(s.element, s.lanes, self.element(base, index)))

    def element(self, base: str, index: str) -> str:
        return self.em.op(f"load {self.shape.element}, ptr {self.at(base, index)}, align {self.shape.itemsize}")

    def put_element(self, value: str, base: str, index: str) -> None:
        self.em.line(f"store {self.shape.element} {value}, ptr {self.at(base, index)}, align {self.shape.itemsize}")

    def fill(self, base: str, count: int, value: float) -> None:
        """`count` elements, a multiple of the lanes."""
        with loop(self.em, "0", str(count), self.shape.lanes) as i:
            self.store(self.lanes(self.em.constant(self.shape.element, self.shape.lanes, value)), base, i)

    def copy_row(self, source: str, to: str, width: int) -> None:
        """A row of `width` elements, with zeros up to a multiple of the lanes."""
        lanes = self.shape.lanes
        for start in range(0, width, lanes):
            mask = static_mask(lanes, width - start) if width - start < lanes else None
            store(self.em, self.shape, load(self.em, self.shape, self.at(source, str(start)), mask), self.at(to, str(start)))

    def write_row(self, source: str, to: str, width: int, divisor: Lanes | None = None) -> None:
        """The first `width` elements of a padded row, to where no others may be written."""
        lanes = self.shape.lanes
        for start in range(0, width, lanes):
            mask = static_mask(lanes, width - start) if width - start < lanes else None
            value = self.load(source, str(start))
            value = value if divisor is None else value / divisor
            store(self.em, self.shape, value.ssa, self.at(to, str(start)), mask)

    @contextmanager
    def carried(self, stop: str, initial: list[str]) -> Iterator[tuple[str, list[Lanes], list[str]]]:
        """`for i in range(stop)` (at least once) with vectors that pass from round to round.

        Yields the counter, the vectors of this round and an empty list, which takes those of the next; after the loop
        these are the last ones.
        """
        em = self.em
        before, head, after = em.block, em.fresh_label("loop"), em.fresh_label("after")
        em.line(f"br label %{head}")
        em.label(head)
        index, names = em.name("i"), [em.name("c") for _ in initial]
        at = len(em.lines)
        following: list[str] = []
        yield index, [self.lanes(n) for n in names], following
        step = em.op(f"add i64 {index}, 1")
        again = em.op(f"icmp slt i64 {step}, {stop}")
        em.lines[at:at] = [
            f"  {index} = phi i64 [ 0, %{before} ], [ {step}, %{em.block} ]",
            *(
                f"  {n} = phi {self.vec} [ {i}, %{before} ], [ {f}, %{em.block} ]"
                for n, i, f in zip(names, initial, following, strict=True)
            ),
        ]
        em.line(f"br i1 {again}, label %{head}, label %{after}")
        em.label(after)

    def across(self, value: Lanes, combine: str) -> str:
        """All lanes as one element, halves onto halves; combine: "add", or "at_least" for the largest."""
        em, count = self.em, value.lanes
        while count > 1:
            half = count // 2
            parts = []
            for first in (0, half):
                numbers = ", ".join(f"i32 {first + i}" for i in range(half))
                kept = em.op(f"shufflevector {value.type} {value.ssa}, {value.type} poison, <{half} x i32> <{numbers}>")
                if half == 1:
                    kept = em.op(f"extractelement <1 x {value.element}> {kept}, i32 0")
                parts.append(Lanes(em, value.element, half, kept))
            value = parts[0] + parts[1] if combine == "add" else parts[0].at_least(parts[1])
            count = half
        return value.ssa

    # --- products ---------------------------------------------------------------------------------------------------

    def product(
        self, a: str, a_strides: tuple[int, int], b: str, b_row: int, c: str, c_row: int, rows: str, vectors: int, k: str,
        factors: str | None = None,
    ) -> None:  # fmt: skip
        """C += A B for blocks in memory, with C's rows first multiplied by `factors`, if given.

        rows: of C, rounded up to those of a tile, which memory must have.  vectors: of a row of B and C.
        """
        em, lanes = self.em, self.shape.lanes
        for first, count, wide in _pieces(vectors):
            with loop(em, "0", str(count)) as piece:
                column = plus(em, times(em, piece, wide * lanes), str(first * lanes) if first else "0")
                tall = self._tall(wide)
                with loop(em, "0", rows, tall) as row:
                    sums = self._tile(tall, wide, self.at(a, times(em, row, a_strides[0])), a_strides, self.at(b, column), b_row, k)
                    corner = self.at(c, times(em, row, c_row), column)
                    for r in range(tall):
                        factor = self.splat(factors, plus(em, row, str(r))).ssa if factors else ""
                        for v in range(wide):
                            where = self.at(corner, str(r * c_row + v * lanes))
                            held, total = load(em, self.shape, where), sums[r * wide + v]
                            if factors:
                                out = em.name("d")
                                multiply_add(em, self.shape, lanes, held, factor, total, out)
                            else:
                                out = add(em, self.shape, held, total)
                            store(em, self.shape, out, where)

    def scores(self, a: str, a_row: int, panels_at: str, c: str, rows: str, panels: str, k: int) -> None:
        """C = A B for a B in panels, C being a block of scores."""
        em, lanes = self.em, self.shape.lanes
        tall = self._tall(PANEL)
        with loop(em, "0", panels) as panel:
            b = self.at(panels_at, times(em, panel, k * PANEL * lanes))
            column = times(em, panel, PANEL * lanes)
            with loop(em, "0", rows, tall) as row:
                sums = self._tile(tall, PANEL, self.at(a, times(em, row, a_row)), (a_row, 1), b, PANEL * lanes, str(k))
                corner = self.at(c, times(em, row, KEYS), column)
                for i, total in enumerate(sums):
                    store(em, self.shape, total, self.at(corner, str(i // PANEL * KEYS + i % PANEL * lanes)))

    def _tile(self, tall: int, wide: int, a: str, a_strides: tuple[int, int], b: str, b_row: int, k: str) -> list[str]:
        return sum_over_k(self.em, self.shape, tall, a, a_strides, b, b_row, [None] * wide, "0", k)

    def _tall(self, wide: int) -> int:
        """Rows of a tile: they divide QUERIES and KEYS, and keep two multipliers busy for four cycles."""
        return (16 if wide == 1 else 8) if self.wide else (8 if wide == 1 else 4)

    # --- masks ------------------------------------------------------------------------------------------------------

    def enter_mask(self, buffer: int) -> None:
        """The mask's address, for `masked`."""
        place = self.p.mask
        if place is not None:
            size = 1 if self.p.mask_dtype == "bool" else self.shape.itemsize
            self.mask = Operand(buffer, *place[:3], offset=place[3] * size)
            self.mask_base = buffer_address(self.em, self.mask)

    def mask_row(self, matrix: str, query: str) -> str:
        """How many elements behind the mask's beginning the row of a query lies."""
        return plus(self.em, matrix_start(self.em, self.mask, matrix), times(self.em, query, self.mask.row))

    def visible(self, column: str, limit: str) -> Lanes:
        """The lanes of a vector at `column` that lie before `limit`."""
        em, lanes = self.em, self.shape.lanes
        numbers = "<" + ", ".join(f"i32 {i}" for i in range(lanes)) + ">"
        room = em.op(f"trunc i64 {em.op(f'sub i64 {limit}, {column}')} to i32")
        return Lanes(em, "i32", lanes, numbers) < Lanes(em, "i32", lanes, em.splat("i32", lanes, room))

    def masked(self, scores: Lanes, row: str, column: str, seen: Lanes | None) -> Lanes:
        """Scores of keys from `column`, with the mask's row applied; `seen`: lanes that exist, None for all of them."""
        em, lanes, kind = self.em, self.shape.lanes, self.p.mask_dtype
        element, size = ("i8", 1) if kind == "bool" else (self.shape.element, self.shape.itemsize)
        stride = self.mask.column
        if stride == 0:
            pointer = em.op(f"getelementptr {element}, ptr {self.mask_base}, i64 {row}")
            value = em.splat(element, lanes, em.op(f"load {element}, ptr {pointer}, align {size}"))
        else:
            pointer = em.op(f"getelementptr {element}, ptr {self.mask_base}, i64 {plus(em, row, column)}")
            vec = vector_type(element, lanes)
            if seen is None:
                value = em.op(f"load {vec}, ptr {pointer}, align {size}")
            else:
                name = f"@llvm.masked.load.v{lanes}{'i8' if kind == 'bool' else scores.format.suffix}.p0"
                em.declare(f"{vec} {name}(ptr, i32 immarg, <{lanes} x i1>, {vec})")
                value = em.op(f"call {vec} {name}(ptr {pointer}, i32 {size}, <{lanes} x i1> {seen.ssa}, {vec} zeroinitializer)")
        if kind != "bool":
            return scores + self.lanes(value)
        return Lanes(em, "i8", lanes, value).differs(0).choose(scores, float("-inf"))


def _pieces(vectors: int) -> list[tuple[int, int, int]]:
    """A row of vectors as (first, how many, wide) pieces of at most three vectors, as equal as can be."""
    count = -(-vectors // 3)
    small, larger = divmod(vectors, count)
    pieces = [(0, larger, small + 1)] if larger else []
    return [*pieces, (larger * (small + 1), count - larger, small)]


# --- copies -----------------------------------------------------------------------------------------------------------


def padded_rows(
    name: str, problem: Attention, buffer: int, length: int, width: int, place: Place, scratch: tuple[int, int],
    vector_bytes: int, whole: bool,
) -> tuple[list[Phase], Operand, int]:  # fmt: skip
    """Rows of whole vectors: the operand itself where it has such, else a copy in scratch memory, and its bytes.

    whole: whether there must be a multiple of QUERIES rows.  scratch: the buffer and where in it the copy begins.
    """
    blocks = Blocks(problem, vector_bytes)
    em, itemsize = blocks.em, blocks.shape.itemsize
    across, count = blocks.padded(width), length
    if across == width and not (whole and length % QUERIES):
        return [], Operand(buffer, *place[:3], offset=place[3] * itemsize), 0
    if whole:
        count = -(-length // QUERIES) * QUERIES
    matrices = problem.batch if place[0] else 1
    copy = Operand(scratch[0], count * across if place[0] else 0, across, 1, offset=scratch[1])
    source = Operand(buffer, *place[:3], offset=place[3] * itemsize)
    from_, to = buffer_address(em, source), buffer_address(em, copy)
    group = max(1, LEAST_WORK // 16 // across)
    total = matrices * length
    with loop(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        with loop(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), total)) as number:
            matrix, row = divide(em, number, length)
            start = blocks.at(from_, matrix_start(em, source, matrix), times(em, row, source.row))
            blocks.copy_row(start, blocks.at(to, times(em, matrix, count * across), times(em, row, across)), width)
    return [phase_of(name, em, -(-total // group))], copy, matrices * count * across * itemsize


def panels(
    name: str, problem: Attention, buffer: int, width: int, place: Place, scratch: tuple[int, int], vector_bytes: int
) -> tuple[Phase, Operand, int]:
    """Keys or values, transposed, in panels of keys; the packed operand and its bytes."""
    element, itemsize = ELEMENTS[problem.dtype]
    shape = Shape(element, itemsize, vector_bytes // itemsize, problem.batch, 0, problem.keys, width)
    batch, row, column, offset = place
    transposed = Operand(buffer, batch, column, row, offset=offset * itemsize)
    return pack_columns(name, shape, transposed, PANEL, problem.batch if batch else 1, scratch, aligned=True)


NOTHING = float("-inf")
__all__ = ["KEYS", "MOST_BLOCKS", "NOTHING", "PANEL", "QUERIES", "Attention", "Blocks", "Place", "padded_rows", "panels"]
