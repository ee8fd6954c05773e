"""Products in the tile registers of processors that have them (AMX), of bfloat16 and of float32; sums are float32.

A tile is 16 rows of 64 bytes. One instruction multiplies a tile of A, 16 rows of 32 bfloat16 along k, by one of B, 16
rows of 16 pairs that follow each other along k, and adds the product to a tile of C, 16 rows of 16 float32. The products
of a row of 32 are added up before they are added to C, each step rounded to float32.

A float32 is the sum of three bfloat16, a high, a middle and a low part, each the nearest to what is left: 3 x 8 bits.
Of the nine products of such parts the three smallest together are below 2^-24 of the whole, as much as one rounding; the
other six are taken (compare Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For
Higher-Precision Computations", 2019). The instructions take numbers below the least normal one for zero, and infinity
has no parts. So where a strip of A and one of B hold numbers that are not finite, or are all so small or large that parts
or products of theirs could be beyond the limits, their part of C is computed without tiles.

Both operands are first copied in the order of tiles, parted, with zeros behind their ends (`gemm_amx_pack.py`): every
tile is whole, and is read as 16 lines that follow each other. Read `amx_kernels`, then `_multiply`.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjoint.codegen.gemm_amx_pack import (
    LINE,
    ROWS,
    TILE,
    Packed,
    first_lanes,
    packed_product,
)
from adjoint.codegen.gemm_words import (
    OUTPUT,
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
    matrix_start,
    minimum,
    multiply_add,
    phase_of,
    plus,
    store,
    times,
    vector_type,
)

__all__ = ["amx_kernels"]

_L2_SHARE = 3 << 18  # bytes of the strips of A that meet one strip of B after the other
_LONGEST = 2048  # elements of k that are summed up in one phase: strips of more do not stay in a second-level cache
# Parts of A and B in such an order that most of the time one of them is there already.
_ORDERS = {1: ((0, 0),), 3: ((0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0))}
# Exponents of the largest numbers and products: of smaller ones parts may be lost that count, of larger ones sums be infinite.
_LEAST, _MOST, _BIAS = -80, 100, 127


def amx_kernels(name: str, parts: int, batch: int, m: int, n: int, k: int, a: Operand, b: Operand) -> tuple[tuple[Phase, ...], int]:
    """Kernels for C = A @ B, and the bytes of scratch memory that they share; sizes are not 0.

    parts: 1 where A and B hold bfloat16, 3 for float32. Their rows or columns are contiguous, and C, float32, is.
    """
    shape = Shape("float" if parts > 1 else "i16", 4 if parts > 1 else 2, ROWS, batch, m, n, k)
    return packed_product(name, shape, a, b, 2 if parts == 1 else 1, parts, _LONGEST, _multiply)


def _multiply(name: str, shape: Shape, a: Packed, b: Packed, k_from: int, k_to: int) -> Phase:
    """The product of what was copied, of the steps of k from `k_from` to `k_to`; what comes before them is in C.

    A block is a strip of B and some strips of A, which stay in the second-level cache while the blocks that follow bring
    other strips of B.
    """
    em = Emitter()
    group = min(a.strips, max(1, _L2_SHARE // ((k_to - k_from) * a.step_bytes)))
    groups = -(-a.strips // group)
    _configure(em)
    part = _Part(em, shape, a, b, (k_from, k_to))
    with loop(em, "%lo", "%hi") as block:
        number, strip_b = divide(em, block, b.strips)
        matrix, number = divide(em, number, groups)
        part.enter(matrix, strip_b)
        first = times(em, number, group)
        last = minimum(em, em.op(f"add i64 {first}, {group}"), a.strips)
        with loop(em, first, last) as strip_a:
            part.emit(strip_a)
    _call(em, "tilerelease")
    return phase_of(name, em, shape.batch * groups * b.strips)


class _Part:
    """Writes the code for one tile of A, or two, by two of B: 16 x 32 or 32 x 32 elements of C.

    Of eight registers four to six are used. A processor whose other hardware thread is busy has some to spare for loads
    ahead of their use only then: with all eight a product took 25 nanoseconds where five let it take 13, and 7 if the
    other thread was idle, with any number.
    """

    def __init__(self, em: Emitter, shape: Shape, a: Packed, b: Packed, steps: tuple[int, int]) -> None:
        """steps: those of k of this phase."""
        self.em, self.shape, self.a, self.b, self.steps = em, shape, a, b, steps
        self.out = Shape("float", 4, ROWS, shape.batch, shape.m, shape.n, shape.k)
        self.partial = shape.m % a.strip != 0 or shape.n % b.strip != 0
        self.place = em.op(f"alloca [{a.strip * b.strip} x float], align {LINE}") if self.partial else ""
        self.scratch = buffer_address(em, Operand(3, 0, 0, 1))
        self.c_base = buffer_address(em, OUTPUT)
        self.sources = [buffer_address(em, packed.source) for packed in (a, b)] if a.parts > 1 else []

    def enter(self, matrix: str, strip_b: str) -> None:
        """A matrix of the batch, and a strip of its B."""
        em, n, strip = self.em, self.shape.n, self.b.strip
        self.matrix, self.column = matrix, times(em, strip_b, strip)
        self.number_b = self._number(self.b, strip_b)
        self.b_strip = self._strip(self.b, self.number_b)
        self.c_strip = element_address(em, self.out, self.c_base, times(em, matrix, self.shape.m * n), self.column)
        if self.partial:
            self.columns = minimum(em, em.op(f"sub i64 {n}, {self.column}"), strip)
            self.masks = [first_lanes(em, em.op(f"sub i64 {self.columns}, {half * ROWS}")) for half in (0, 1)]

    def _number(self, packed: Packed, strip: str) -> str:
        return plus(self.em, times(self.em, self.matrix, packed.strips), strip) if packed.source.batch else strip

    def _strip(self, packed: Packed, number: str) -> str:
        start = plus(self.em, times(self.em, number, packed.strip_bytes), str(packed.offset))
        return self.em.op(f"getelementptr i8, ptr {self.scratch}, i64 {start}")

    def emit(self, strip_a: str) -> None:
        em = self.em
        number_a = self._number(self.a, strip_a)
        row = times(em, strip_a, self.a.strip)
        corner = element_address(em, self.out, self.c_strip, times(em, row, self.shape.n))
        if self.a.parts == 1:
            self._with_tiles(self._strip(self.a, number_a), row, corner)
            return
        tiled, otherwise, done = (em.fresh_label(word) for word in ("tiled", "otherwise", "done"))
        em.line(f"br i1 {self._fits(number_a)}, label %{tiled}, label %{otherwise}")
        em.label(tiled)
        self._with_tiles(self._strip(self.a, number_a), row, corner)
        em.line(f"br label %{done}")
        em.label(otherwise)
        if self.steps[0] == 0:  # the whole sums: there is nothing to add in the phases that follow
            self._without_tiles(row, corner)
        em.line(f"br label %{done}")
        em.label(done)

    def _fits(self, number_a: str) -> str:
        """Whether all numbers of both strips are finite, and neither too small nor too large for their parts."""
        em = self.em
        exponents = []
        fits = ""
        for packed, number in ((self.a, number_a), (self.b, self.number_b)):
            at = em.op(f"getelementptr i8, ptr {self.scratch}, i64 {plus(em, times(em, number, 4), str(packed.largest_at))}")
            bits = em.op(f"load i32, ptr {at}, align 4")
            zero = em.op(f"icmp eq i32 {bits}, 0")
            exponents.append(em.op(f"select i1 {zero}, i32 {_BIAS}, i32 {em.op(f'lshr i32 {bits}, 23')}"))
            above = em.op(f"sub i32 {exponents[-1]}, {_BIAS + _LEAST}")
            within = em.op(f"icmp ult i32 {above}, {_BIAS - _LEAST}")  # and so far from infinity that no part is
            fits = em.op(f"and i1 {fits}, {within}") if fits else within
        above = em.op(f"sub i32 {em.op(f'add i32 {exponents[0]}, {exponents[1]}')}, {2 * _BIAS + _LEAST}")
        return em.op(f"and i1 {fits}, {em.op(f'icmp ult i32 {above}, {_MOST - _LEAST}')}")

    def _with_tiles(self, a_strip: str, row: str, corner: str) -> None:
        """What reaches over the edge of C is summed up in a place of its own, in lines that follow each other."""
        em, n = self.em, self.shape.n
        where, stride, whole = corner, str(4 * n), "true"
        if self.partial:
            whole = em.op(f"icmp eq i64 {self.columns}, {self.b.strip}")
            whole = em.op(f"and i1 {whole}, {em.op(f'icmp sle i64 {row}, {self.shape.m - self.a.strip}')}")
            where = em.op(f"select i1 {whole}, ptr {corner}, ptr {self.place}")
            stride = em.op(f"select i1 {whole}, i64 {4 * n}, i64 {4 * self.b.strip}")
        offsets = [plus(em, times(em, stride, ROWS * i), str(j * LINE)) for i in range(self.a.tiles) for j in (0, 1)]
        places = [em.op(f"getelementptr i8, ptr {where}, i64 {at}") for at in offsets]
        if self.steps[0] == 0:
            for tile in range(len(places)):
                _call(em, "tilezero", f"i8 {tile}")
        else:
            if self.partial:
                self._copy(whole, row, corner, back=False)
            for tile, at in enumerate(places):
                _call(em, "tileloadd64", f"i8 {tile}", f"ptr {at}", f"i64 {stride}")
        with loop(em, str(self.steps[0]), str(self.steps[1])) as step:
            a_step = em.op(f"getelementptr i8, ptr {a_strip}, i64 {times(em, step, self.a.step_bytes)}")
            b_step = em.op(f"getelementptr i8, ptr {self.b_strip}, i64 {times(em, step, self.b.step_bytes)}")
            _Step(em, self.a, self.b, (a_step, b_step)).emit()
        for tile, at in enumerate(places):
            _call(em, "tilestored64", f"i8 {tile}", f"ptr {at}", f"i64 {stride}")
        if self.partial:
            self._copy(whole, row, corner, back=True)

    def _copy(self, needless: str, row: str, corner: str, back: bool) -> None:
        """The sums of a part of C from their place to C, or from there."""
        em, out = self.em, self.out
        partly, copied = em.fresh_label("partly"), em.fresh_label("copied")
        em.line(f"br i1 {needless}, label %{copied}, label %{partly}")
        em.label(partly)
        rows = minimum(em, em.op(f"sub i64 {self.shape.m}, {row}"), self.a.strip)
        with loop(em, "0", rows) as r:
            for half, mask in enumerate(self.masks):
                held = element_address(em, out, self.place, times(em, r, self.b.strip), str(half * ROWS))
                there = element_address(em, out, corner, times(em, r, self.shape.n), str(half * ROWS))
                from_, to = (held, there) if back else (there, held)
                store(em, out, load(em, out, from_, mask), to, mask)
        em.line(f"br label %{copied}")
        em.label(copied)

    def _without_tiles(self, row: str, corner: str) -> None:
        """The part of C from the operands themselves, four rows at a time."""
        em, out = self.em, self.out
        kind = vector_type("float", ROWS)
        (a, b), (a_base, b_base) = (packed.source for packed in (self.a, self.b)), self.sources
        a_start = element_address(em, out, a_base, matrix_start(em, a, self.matrix))
        b_start = element_address(em, out, b_base, matrix_start(em, b, self.matrix))
        masks = self.masks if self.partial else [None, None]
        last = em.op(f"sub i64 {minimum(em, plus(em, row, str(self.a.strip)), self.shape.m)}, 1")
        with loop(em, "0", str(self.a.strip), 4) as r:
            rows = [minimum(em, plus(em, row, r, str(i)), last) for i in range(4)]
            with carrying(em, kind, ["zeroinitializer"] * 8, "0", str(self.shape.k)) as (k, sums, nexts):
                ys = []
                for half, mask in enumerate(masks):
                    first = plus(em, self.column, str(half * ROWS))
                    ys.append(self._across(b_start, times(em, k, b.row), first, b.column, mask))
                for i, here in enumerate(rows):
                    at = element_address(em, out, a_start, times(em, here, a.row), times(em, k, a.column))
                    x = em.splat("float", ROWS, em.op(f"load float, ptr {at}, align 4"))
                    for half, y in enumerate(ys):
                        total = em.name("d")
                        multiply_add(em, out, ROWS, x, y, sums[2 * i + half], total)
                        nexts.append(total)
            for i, here in enumerate(rows):
                down = times(em, em.op(f"sub i64 {here}, {row}"), self.shape.n)
                for half, mask in enumerate(masks):
                    store(em, out, nexts[2 * i + half], element_address(em, out, corner, down, str(half * ROWS)), mask)

    def _across(self, base: str, down: str, first: str, apart: int, mask: str | None) -> str:
        """16 elements of a row of B, which may lie apart."""
        em, out = self.em, self.out
        if apart == 1:
            return load(em, out, element_address(em, out, base, down, first), mask)
        kind, bits, name = vector_type("float", ROWS), f"<{ROWS} x i1>", f"@llvm.masked.gather.v{ROWS}f32.v{ROWS}p0"
        em.declare(f"{kind} {name}(<{ROWS} x ptr>, i32 immarg, {bits}, {kind})")
        numbers = "<" + ", ".join(f"i64 {i * apart}" for i in range(ROWS)) + ">"
        start = element_address(em, out, base, down, times(em, first, apart))
        places = em.op(f"getelementptr float, ptr {start}, <{ROWS} x i64> {numbers}")
        there = mask or em.splat("i1", ROWS, "true")
        return em.op(f"call {kind} {name}(<{ROWS} x ptr> {places}, i32 4, {bits} {there}, {kind} zeroinitializer)")


class _Step:
    """Writes the code of one step of k: tiles of A meet two of B.

    sources: addresses of what was copied of A and B.
    """

    def __init__(self, em: Emitter, a: Packed, b: Packed, sources: Sequence[str]) -> None:
        self.em, self.operands, self.sources = em, (a, b), sources
        self.held: dict[int, tuple[int, int]] = {}  # register -> part and number of the tile that is in it

    def emit(self) -> None:
        a, b = self.operands
        sums = a.tiles * b.tiles
        for parts in _ORDERS[a.parts]:
            for row, column in [(i, j) for i in range(a.tiles) for j in (range(b.tiles) if i % 2 == 0 else reversed(range(b.tiles)))]:
                left = self._needed(0, parts[0], row, sums)
                right = self._needed(1, parts[1], column, sums + 1 + (column if sums == 2 else 0))
                _call(self.em, "tdpbf16ps", f"i8 {row * b.tiles + column}", f"i8 {left}", f"i8 {right}")

    def _needed(self, side: int, part: int, tile: int, register: int) -> int:
        """A register with a tile of one side, which is loaded unless it is there."""
        if self.held.get(register) != (part, tile):
            self.held[register] = (part, tile)
            at = self.em.op(f"getelementptr i8, ptr {self.sources[side]}, i64 {(part * self.operands[side].tiles + tile) * TILE}")
            _call(self.em, "tileloadd64", f"i8 {register}", f"ptr {at}", f"i64 {LINE}")
        return register


def _call(em: Emitter, name: str, *arguments: str) -> None:
    types = ", ".join(x.split(" ")[0] for x in arguments)
    em.declare(f"void @llvm.x86.{name}({types})")
    em.line(f"call void @llvm.x86.{name}({', '.join(arguments)})")


def _configure(em: Emitter) -> None:
    """Eight tiles of 16 rows of 64 bytes: a palette's number, widths from byte 16 on, heights from byte 48 on."""
    words = [1, 0, 0x0040_0040_0040_0040, 0x0040_0040_0040_0040, 0, 0, 0x1010_1010_1010_1010, 0]
    where = em.op(f"alloca [8 x i64], align {LINE}")
    em.line(f"store <8 x i64> <{', '.join(f'i64 {w}' for w in words)}>, ptr {where}, align {LINE}")
    _call(em, "ldtilecfg", f"ptr {where}")
