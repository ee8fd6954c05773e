"""Products of bfloat16 with sums in float32, by an instruction that multiplies pairs (AVX512_BF16), where there are no tiles.

One instruction multiplies 16 pairs of bfloat16, each of which follow each other along k, by 16 others, and adds both
products to 16 float32: twice the multiply-adds of float32 in the same time. Numbers below the least normal one count as
zero, as with tile registers.

Both operands are copied in the order of tiles, as for those (`gemm_amx_pack.py`): a line of B holds a pair of each of 16
columns, a line of A 16 pairs of one row, each of which meets the lines of a strip of B in turn. Read `pair_kernels`.
"""

from __future__ import annotations

from adjoint.codegen.gemm_amx_pack import (
    DEPTH,
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
    minimum,
    phase_of,
    plus,
    store,
    times,
    vector_type,
)

__all__ = ["pair_kernels"]

_AT_ONCE = 8  # rows of A; with two vectors of B their sums are more than an instruction takes cycles
_L2_SHARE = 1 << 19  # bytes of the rows of A that meet one strip of B after the other
_LONGEST = 2048  # elements of k that are summed up in one phase: strips of more do not stay in a second-level cache
_PAIRS = DEPTH // 2
_SUMS, _WORDS, _HALVES = vector_type("float", ROWS), f"<{ROWS} x i32>", f"<{DEPTH} x bfloat>"
_DOT = "@llvm.x86.avx512bf16.dpbf16ps.512"


def pair_kernels(name: str, batch: int, m: int, n: int, k: int, a: Operand, b: Operand) -> tuple[tuple[Phase, ...], int]:
    """Kernels for C = A @ B, and the bytes of scratch memory that they share; sizes are not 0.

    The rows or columns of A and of B, bfloat16, are contiguous, and C, float32, is.
    """
    shape = Shape("i16", 2, ROWS, batch, m, n, k)
    return packed_product(name, shape, a, b, 2, 1, _LONGEST, _multiply)


def _multiply(name: str, shape: Shape, a: Packed, b: Packed, k_from: int, k_to: int) -> Phase:
    """The product of what was copied, of the steps of k from `k_from` to `k_to`; what comes before them is in C.

    A block is a strip of B and some rows of A, which stay in the second-level cache while the blocks that follow bring
    other strips of B.
    """
    em = Emitter()
    out = Shape("float", 4, ROWS, shape.batch, shape.m, shape.n, shape.k)
    bands = -(-shape.m // _AT_ONCE)
    group = min(bands, max(1, _L2_SHARE // ((k_to - k_from) * _AT_ONCE * LINE)))
    groups = -(-bands // group)
    scratch, c_base = buffer_address(em, Operand(3, 0, 0, 1)), buffer_address(em, OUTPUT)

    def strip_of(packed: Packed, matrix: str, strip: str) -> str:
        number = plus(em, times(em, matrix, packed.strips), strip) if packed.source.batch else strip
        start = plus(em, times(em, number, packed.strip_bytes), str(packed.offset + k_from * packed.step_bytes))
        return em.op(f"getelementptr i8, ptr {scratch}, i64 {start}")

    with loop(em, "%lo", "%hi") as block:
        number, strip_b = divide(em, block, b.strips)
        matrix, number = divide(em, number, groups)
        b_strip = strip_of(b, matrix, strip_b)
        column = times(em, strip_b, b.strip)
        columns = em.op(f"sub i64 {shape.n}, {column}")
        there = [first_lanes(em, columns, half * ROWS) if shape.n % b.strip else None for half in range(b.tiles)]
        first = times(em, number, group)
        last = minimum(em, em.op(f"add i64 {first}, {group}"), bands)
        with loop(em, first, last) as band:
            strip_a, inside = divide(em, band, a.strip // _AT_ONCE)
            tile, upper = divide(em, inside, ROWS // _AT_ONCE)
            within = plus(em, times(em, tile, TILE), times(em, upper, _AT_ONCE * LINE))
            a_rows = em.op(f"getelementptr i8, ptr {strip_of(a, matrix, strip_a)}, i64 {within}")
            row = times(em, band, _AT_ONCE)
            corner = element_address(em, out, c_base, times(em, plus(em, times(em, matrix, shape.m), row), shape.n), column)
            masks = [_masks(em, shape, row, r, there) for r in range(_AT_ONCE)]
            places = [[element_address(em, out, corner, str(r * shape.n + half * ROWS)) for half in range(b.tiles)] for r in range(_AT_ONCE)]
            before = ["zeroinitializer"] * (_AT_ONCE * b.tiles)
            if k_from:
                before = [load(em, out, at, mask) for ats, row_masks in zip(places, masks, strict=True) for at, mask in zip(ats, row_masks, strict=True)]
            sums = _sums(em, a, b, a_rows, b_strip, before, k_to - k_from)
            for r in range(_AT_ONCE):
                for half in range(b.tiles):
                    store(em, out, sums[r * b.tiles + half], places[r][half], masks[r][half])
    return phase_of(name, em, shape.batch * groups * b.strips)


def _sums(em: Emitter, a: Packed, b: Packed, a_rows: str, b_strip: str, before: list[str], steps: int) -> list[str]:
    """The loop over k: of some rows of A with a strip of B, by row and vector."""
    em.declare(f"{_SUMS} {_DOT}({_SUMS}, {_HALVES}, {_HALVES})")
    with carrying(em, _SUMS, before, "0", str(steps)) as (step, sums, nexts):
        a_step = em.op(f"getelementptr i8, ptr {a_rows}, i64 {times(em, step, a.step_bytes)}")
        b_step = em.op(f"getelementptr i8, ptr {b_strip}, i64 {times(em, step, b.step_bytes)}")
        held = list(sums)
        for pair in range(_PAIRS):
            lines = []
            for tile in range(b.tiles):
                at = em.op(f"getelementptr i8, ptr {b_step}, i64 {tile * TILE + pair * LINE}")
                lines.append(em.op(f"load {_HALVES}, ptr {at}, align 2"))
            for r in range(_AT_ONCE):
                at = em.op(f"getelementptr i8, ptr {a_step}, i64 {r * LINE + 4 * pair}")
                word = em.splat("i32", ROWS, em.op(f"load i32, ptr {at}, align 2"))
                word = em.op(f"bitcast {_WORDS} {word} to {_HALVES}")
                for tile, line in enumerate(lines):
                    i = r * b.tiles + tile
                    held[i] = em.op(f"call {_SUMS} {_DOT}({_SUMS} {held[i]}, {_HALVES} {word}, {_HALVES} {line})")
        nexts += held
    return nexts


def _masks(em: Emitter, shape: Shape, row: str, r: int, there: list[str | None]) -> list[str | None]:
    """Which lanes of the vectors of a row exist; None for all."""
    if shape.m % _AT_ONCE == 0:
        return there
    exists = em.splat("i1", ROWS, em.op(f"icmp slt i64 {plus(em, row, str(r))}, {shape.m}"))
    return [em.op(f"and <{ROWS} x i1> {exists}, {mask}") if mask else exists for mask in there]
