"""Copies of operands in the order in which tile registers read them, float32 parted in three bfloat16.

Read `Packed`, then `packed_product` and `pack`; `_Lines` writes the code that makes rows of tiles of what it reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adjoint.codegen.gemm_words import (
    Emitter,
    Operand,
    Phase,
    Shape,
    buffer_address,
    divide,
    element_address,
    load,
    loop,
    matrix_start,
    minimum,
    phase_of,
    plus,
    times,
    vector_type,
)
from adjoint.codegen.squares import turned

ROWS, DEPTH = 16, 32  # of a tile; bfloat16 of a row of it
LINE = 64  # bytes of a row of a tile
TILE = ROWS * LINE

_HALVES, _WORDS = f"<{DEPTH} x i16>", f"<{ROWS} x i32>"
_TOGETHER, _LEAST_BLOCKS = 128, 8  # elements of one k that a block reads, if there are so many blocks then


@dataclass(frozen=True, slots=True)
class Packed:
    """An operand in the order of tiles: strips of rows of A or columns of B, in each steps of 32 elements of k.

    is_a: A, not B.  tiles: that make up a strip.  length: rows of A or columns of B.  parts: of each element.
    offset: where it begins in scratch memory; behind it lies the largest magnitude of each strip, as the bits of a
    float32, where elements have several parts.
    """

    source: Operand
    is_a: bool
    tiles: int
    length: int
    matrices: int
    k: int
    parts: int
    offset: int

    @property
    def strip(self) -> int:
        return self.tiles * ROWS

    @property
    def strips(self) -> int:
        return -(-self.length // self.strip)

    @property
    def steps(self) -> int:
        return -(-self.k // DEPTH)

    @property
    def step_bytes(self) -> int:
        return self.tiles * self.parts * TILE

    @property
    def strip_bytes(self) -> int:
        return self.steps * self.step_bytes

    @property
    def largest_at(self) -> int:
        return self.offset + self.matrices * self.strips * self.strip_bytes

    @property
    def end(self) -> int:
        return self.largest_at + (-(-4 * self.matrices * self.strips // LINE) * LINE if self.parts > 1 else 0)


def packed_product(
    name: str, shape: Shape, a: Operand, b: Operand, tiles: int, parts: int, longest: int, multiply: Callable[..., Phase]
) -> tuple[tuple[Phase, ...], int]:
    """Kernels that copy both operands and multiply the copies, and the bytes of scratch memory that they share.

    tiles: that make up a strip of A; two do of B.  longest: elements of k that are summed up in one phase.
    multiply(name, shape, copy of A, copy of B, first step of k, last one but one): writes such a phase.
    """
    left = Packed(a, True, tiles, shape.m, shape.batch if a.batch else 1, shape.k, parts, 0)
    right = Packed(b, False, 2, shape.n, shape.batch if b.batch else 1, shape.k, parts, left.end)
    phases = [pack(f"{name}_rows", shape, left), pack(f"{name}_pack", shape, right)]
    steps = longest // DEPTH
    for first in range(0, left.steps, steps):
        phases.append(multiply(f"{name}_{first}" if first else name, shape, left, right, first, min(left.steps, first + steps)))
    return tuple(phases), right.end


def first_lanes(em: Emitter, count: str, first: int = 0) -> str:
    """Of a vector of elements from number `first` on, those of the first `count`."""
    numbers = "<" + ", ".join(f"i64 {first + i}" for i in range(ROWS)) + ">"
    return em.op(f"icmp slt <{ROWS} x i64> {numbers}, {em.splat('i64', ROWS, count)}")


def pack(name: str, shape: Shape, packed: Packed) -> Phase:
    """A kernel that copies an operand to buffer 3 in the order of tiles.

    A block is some strips: where elements of one k follow each other, so many that a page is not left at once.
    """
    em = Emitter()
    operand, lines = packed.source, _Lines(em, shape, packed)
    together = 1 if lines.along_k else max(1, min(_TOGETHER // packed.strip, packed.strips // _LEAST_BLOCKS))
    groups = -(-packed.strips // together)
    source, scratch = buffer_address(em, operand), buffer_address(em, Operand(3, 0, 0, 1, offset=packed.offset))
    largest = em.op(f"alloca [{together * LINE} x i8], align {LINE}") if packed.parts > 1 else ""
    with loop(em, "%lo", "%hi") as block:
        matrix, group = divide(em, block, groups)
        lines.start = element_address(em, shape, source, matrix_start(em, operand, matrix))
        first = times(em, group, together)
        last = minimum(em, em.op(f"add i64 {first}, {together}"), packed.strips)
        if largest:
            for i in range(together):
                em.line(f"store {_WORDS} zeroinitializer, ptr {em.op(f'getelementptr i8, ptr {largest}, i64 {i * LINE}')}, align {LINE}")
        base = times(em, matrix, packed.strips)
        with loop(em, "0", str(packed.steps)) as step, loop(em, first, last) as strip:
            into = times(em, plus(em, times(em, plus(em, base, strip), packed.steps), step), packed.step_bytes)
            into = em.op(f"getelementptr i8, ptr {scratch}, i64 {into}")
            if largest:
                held = em.op(f"getelementptr i8, ptr {largest}, i64 {times(em, em.op(f'sub i64 {strip}, {first}'), LINE)}")
                lines.largest = em.op(f"load {_WORDS}, ptr {held}, align {LINE}")
            for part, rows in enumerate(zip(*lines.rows(times(em, strip, packed.strip), times(em, step, DEPTH)), strict=True)):
                for i, row in enumerate(rows):
                    where = em.op(f"getelementptr i8, ptr {into}, i64 {part * packed.tiles * TILE + i * LINE}")
                    em.line(f"store {_HALVES} {row}, ptr {where}, align 2")
            if largest:
                em.line(f"store {_WORDS} {lines.largest}, ptr {held}, align {LINE}")
        if largest:
            tops = buffer_address(em, Operand(3, 0, 0, 1, offset=packed.largest_at))
            em.declare(f"i32 @llvm.vector.reduce.umax.v{ROWS}i32({_WORDS})")
            with loop(em, first, last) as strip:
                held = em.op(f"getelementptr i8, ptr {largest}, i64 {times(em, em.op(f'sub i64 {strip}, {first}'), LINE)}")
                top = em.op(f"call i32 @llvm.vector.reduce.umax.v{ROWS}i32({_WORDS} {em.op(f'load {_WORDS}, ptr {held}, align {LINE}')})")
                em.line(f"store i32 {top}, ptr {em.op(f'getelementptr i32, ptr {tops}, i64 {plus(em, base, strip)}')}, align 4")
    return phase_of(name, em, packed.matrices * groups)


class _Lines:
    """Writes the code that reads one step of a strip and makes it rows of tiles.

    start: address of the matrix.  largest: the largest magnitudes so far.
    """

    def __init__(self, em: Emitter, shape: Shape, packed: Packed) -> None:
        self.em, self.shape, self.packed = em, shape, packed
        operand, self.is_a = packed.source, packed.is_a
        along, across = (operand.column, operand.row) if self.is_a else (operand.row, operand.column)
        self.along_k = along == 1
        self.apart = across if self.along_k else along
        self.start = self.largest = ""

    def rows(self, at: str, k: str) -> list[list[str]]:
        """For each row of the tiles its parts. at: the first row of A or column of B."""
        strip, length = self.packed.strip, self.packed.length
        if self.along_k:
            lines = [self._parted(line) for line in self._read(at, strip, length, k, DEPTH, self.packed.k)]
            return lines if self.is_a else self._words_turned(lines)
        lines = self._read(k, DEPTH, self.packed.k, at, strip, length, zeros=True)
        return [self._parted(line) for line in self._turned(lines)] if self.is_a else self._pairs([self._parted(line) for line in lines])

    def _read(self, first: str, count: int, length: int, start: str, width: int, end: int, zeros: bool = False) -> list[list[str]]:
        """Lines from `first` on, of elements from `start` on in vectors of 16; zeros behind the end.

        zeros: lines behind the last, of `length`, are zeros, too; else the last one again: nobody looks at what becomes
        of them.
        """
        em, shape = self.em, self.shape
        kind = vector_type(shape.element, ROWS)
        masks = self._masks(start, width, end)
        out = []
        for i in range(count):
            number = plus(em, first, str(i))
            within = ""
            if length % count:
                within = em.op(f"icmp slt i64 {number}, {length}") if zeros else ""
                number = minimum(em, number, length - 1)
            line = []
            for part, mask in enumerate(masks):
                address = element_address(em, shape, self.start, times(em, number, self.apart), start, str(part * ROWS))
                vector = load(em, shape, address, mask)
                line.append(em.op(f"select i1 {within}, {kind} {vector}, {kind} zeroinitializer") if within else vector)
            out.append(line)
        return out

    def _masks(self, start: str, width: int, end: int) -> list[str | None]:
        """Which lanes of the vectors of a line exist; None for all."""
        em = self.em
        if end % width == 0:
            return [None] * (width // ROWS)
        limit = em.splat("i16", ROWS, em.op(f"trunc i64 {minimum(em, em.op(f'sub i64 {end}, {start}'), width)} to i16"))
        out: list[str | None] = []
        for first in range(0, width, ROWS):
            numbers = "<" + ", ".join(f"i16 {first + i}" for i in range(ROWS)) + ">"
            out.append(em.op(f"icmp ult <{ROWS} x i16> {numbers}, {limit}"))
        return out

    def _joined(self, x: str, y: str) -> str:
        kind, picks = f"<{ROWS} x i16>", ", ".join(f"i32 {i}" for i in range(DEPTH))
        return self.em.op(f"shufflevector {kind} {x}, {kind} {y}, <{DEPTH} x i32> <{picks}>")

    def _parted(self, line: list[str]) -> list[str]:
        """The parts of 32 elements, the high ones first."""
        if self.packed.parts == 1:
            return [self._joined(*line)]
        return [self._joined(*sides) for sides in zip(*[self._parts(x) for x in line], strict=True)]

    def _parts(self, x: str) -> list[str]:
        """Those of 16 float32."""
        em = self.em
        single, word, half, bits = (f"<{ROWS} x {kind}>" for kind in ("float", "i32", "bfloat", "i16"))
        em.declare(f"{half} @llvm.x86.avx512bf16.cvtneps2bf16.512({single})")
        em.declare(f"{word} @llvm.umax.v{ROWS}i32({word}, {word})")
        size = em.op(f"and {word} {em.op(f'bitcast {single} {x} to {word}')}, {em.splat('i32', ROWS, str(0x7FFFFFFF))}")
        self.largest = em.op(f"call {word} @llvm.umax.v{ROWS}i32({word} {self.largest}, {word} {size})")
        out = []
        for part in range(self.packed.parts):
            nearest = em.op(f"call {half} @llvm.x86.avx512bf16.cvtneps2bf16.512({single} {x})")
            out.append(em.op(f"bitcast {half} {nearest} to {bits}"))
            if part < self.packed.parts - 1:
                wide = em.op(f"shl {word} {em.op(f'zext {bits} {out[-1]} to {word}')}, {em.splat('i32', ROWS, '16')}")
                x = em.op(f"fsub {single} {x}, {em.op(f'bitcast {word} {wide} to {single}')}")
        return out

    def _turned(self, lines: list[list[str]]) -> list[list[str]]:
        """Of 32 lines of 16 or 32 elements as many lines of 32."""
        shape, out = self.shape, []
        for vector in range(len(lines[0])):
            halves = [turned(self.em, [line[vector] for line in lines[i : i + ROWS]], shape.element, shape.itemsize) for i in (0, ROWS)]
            out += [list(line) for line in zip(*halves, strict=True)]
        return out

    def _words_turned(self, lines: list[list[str]]) -> list[list[str]]:
        """Of 32 columns, rows of pairs that follow each other along k."""
        em, word = self.em, f"<{ROWS} x i32>"
        out = []
        for first in (0, ROWS):
            found = []
            for part in range(self.packed.parts):
                words = [em.op(f"bitcast {_HALVES} {line[part]} to {word}") for line in lines[first : first + ROWS]]
                found.append([em.op(f"bitcast {word} {row} to {_HALVES}") for row in turned(em, words, "i32", 4)])
            out += [list(row) for row in zip(*found, strict=True)]
        return out

    def _pairs(self, lines: list[list[str]]) -> list[list[str]]:
        """The same of 32 rows, two of which are a row of pairs."""
        out = []
        for first in (0, ROWS):
            picks = ", ".join(f"i32 {i + side}" for i in range(first, first + ROWS) for side in (0, DEPTH))
            for pair in zip(lines[::2], lines[1::2], strict=True):
                out.append([self.em.op(f"shufflevector {_HALVES} {x}, {_HALVES} {y}, <{DEPTH} x i32> <{picks}>") for x, y in zip(*pair, strict=True)])
        return out
