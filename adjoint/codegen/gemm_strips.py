"""Large products: C in strips of columns as wide as a tile, in each of which all rows of A meet one panel of B.

Read `strips_kernel`. The panel stays in the second-level cache of a core while the rows of A pass, each tile asking
for those of the next where A is large: they would come too late otherwise, as they lie in other pages. Where B's
rows collide in that cache, or many rows of A repay it, the thread first copies the panel to memory of its own. No
thread waits for what another one copies, and A is read where it lies: little is left to do but the product.
"""

from __future__ import annotations

import math

from adjoint.codegen.gemm_pack import pack_panel
from adjoint.codegen.gemm_tile import Tile
from adjoint.codegen.gemm_words import (
    Emitter,
    Epilogue,
    Operand,
    Phase,
    Shape,
    buffer_address,
    divide,
    element_address,
    loop,
    matrix_start,
    maximum,
    minimum,
    phase_of,
    plus,
    tile_start,
    times,
)

_LINE, _L2_SETS = 64, 1024  # bytes of a cache line; sets of a typical second-level cache, which hold 8 to 16 lines each
_L2_WAYS = 4  # of these for B, beside rows of A, results and what others left behind
_MANY_ROWS = 1024  # of A: they repay a copy even where B could be read in place


def wants_panels(shape: Shape, b: Operand, width: int) -> bool:
    """Whether copying panels of B costs less than reading them where they lie."""
    if b.column != 1 or shape.m >= _MANY_ROWS:
        return True
    # Lines of a panel read in place that share a set of the cache.
    row, lines = b.row * shape.itemsize, -(-width * shape.itemsize // _LINE)
    apart = _L2_SETS * _LINE // math.gcd(row, _L2_SETS * _LINE)  # rows of B until one begins in the first one's set
    return min(shape.k, shape.k_block) * lines > _L2_WAYS * min(_L2_SETS, apart * lines)


def panel_bytes(shape: Shape, width: int) -> int:
    """Memory for one panel, and in front of it for as many of its rows as a vector has elements."""
    return (min(shape.k, shape.k_block) + shape.lanes) * width * shape.itemsize


def strips_kernel(
    name: str, shape: Shape, a: Operand, b: Operand, rows: int, vectors: int, copying: bool, epilogue: Epilogue | None,
    *, fetch: bool
) -> Phase:  # fmt: skip
    """The product by tiles of rows x vectors; C and k are not empty, and n is at least as wide as a tile.

    copying: whether panels of B are copied, into the thread's own memory or, for lack of that, into buffer 3, of
    `panel_bytes`.  fetch: as of `Tile`.
    """
    em = Emitter()
    width, k_block = vectors * shape.lanes, min(shape.k, shape.k_block)
    down, across = -(-shape.m // rows), -(-shape.n // width)
    # A block is a part of a strip. One that is copied for few rows costs more than an idle thread.
    least_rows, least_blocks = (64, 16) if copying else (32, 16)
    parts = max(1, shape.m // 256, min(shape.m // least_rows, -(-least_blocks // (across * shape.batch))))
    panel = Operand(3, 0, width, 1, width) if copying else b
    tile = Tile(em, shape, a, panel, rows, vectors, epilogue, fetch=fetch)
    if copying:
        b_base = buffer_address(em, b)
        alone = em.op("icmp eq ptr %own, null")
        memory = em.op(f"select i1 {alone}, ptr {tile.b_base}, ptr %own")
        memory = element_address(em, shape, memory, str(shape.lanes * width))
    # Block by block is strip by strip, and in each of them part by part: a panel serves all parts that come in a row.
    from_strip, _ = divide(em, "%lo", parts)
    last_strip, _ = divide(em, em.op("sub i64 %hi, 1"), parts)
    with loop(em, from_strip, plus(em, last_strip, "1")) as number:
        matrix, strip = divide(em, number, across)
        first = times(em, number, parts)
        part_from = maximum(em, em.op(f"sub i64 %lo, {first}"), 0)
        part_to = minimum(em, em.op(f"sub i64 %hi, {first}"), parts)
        row_from, _ = divide(em, times(em, part_from, down), parts)
        row_to, _ = divide(em, times(em, part_to, down), parts)
        with loop(em, "0", str(shape.k), k_block) as k_from:
            k_to = minimum(em, plus(em, k_from, str(k_block)), shape.k)
            if copying:
                column = tile_start(em, strip, width, shape.n)
                start = plus(em, matrix_start(em, b, matrix), times(em, column, b.column))
                pack_panel(em, shape, b, element_address(em, shape, b_base, start), memory, vectors, (k_from, k_to))
                tile.enter_column(matrix, strip, memory, k_from)
            else:
                tile.enter_column(matrix, strip)
            with loop(em, row_from, row_to) as row_tile:
                tile.emit(matrix, row_tile, k_from, k_to)
    return phase_of(name, em, shape.batch * across * parts, parts if copying else 1)
