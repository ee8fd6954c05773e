"""Copies of operands in the order in which the tiles of a product read them.

Read `pack_columns` first: it copies B into panels, `pack_panel` one of them. `pack_rows` copies an A
whose columns are contiguous to contiguous rows.
"""

from __future__ import annotations

from adjoint.codegen.gemm_words import (
    LEAST_WORK,
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
    static_mask,
    store,
    tile_start,
    times,
)
from adjoint.codegen.squares import turned


def pack_columns(
    name: str, shape: Shape, b: Operand, vectors: int, batch: int, scratch_at: tuple[int, int] = (3, 0), aligned: bool = False
) -> tuple[Phase, Operand, int]:
    """A kernel that copies B into panels in the scratch buffer; the packed operand; its bytes.

    Panel p of a matrix holds, for each k in turn, the elements of the columns that tile column p
    covers: the last one those of a tile that was moved back, or (`aligned`) of one that was not. Columns past the
    end (else only of a matrix narrower than one tile) hold copies of others.  scratch_at: the scratch memory's buffer,
    and how many bytes behind its beginning the panels start.
    """
    em = Emitter()
    lanes, k = shape.lanes, shape.k
    width = vectors * lanes
    across = -(-shape.n // width)
    packed = Operand(scratch_at[0], k * width * across if b.batch else 0, width, 1, width, scratch_at[1])
    past = shape.n % width != 0 if aligned else shape.n < width  # whether there are columns past the end
    # Blocks as in `_divide`: a copied element costs about as much as 16 multiply-adds.
    group = max(1, LEAST_WORK // 16 // (k * width))
    panels = batch * across
    source = buffer_address(em, b)
    scratch = buffer_address(em, packed)
    with loop(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        last = minimum(em, em.op(f"add i64 {first}, {group}"), panels)
        with loop(em, first, last) as panel:
            matrix, column_tile = divide(em, panel, across)
            column = times(em, column_tile, width) if aligned else tile_start(em, column_tile, width, shape.n)
            start = plus(em, matrix_start(em, b, matrix), times(em, column, b.column))
            from_ = element_address(em, shape, source, start)
            to = element_address(em, shape, scratch, times(em, panel, k * width))
            final: str | None = None  # the last column that exists, counted from the panel's first
            if past:
                final = em.op(f"sub i64 {shape.n - 1}, {column}") if aligned else str(shape.n - 1)
            pack_panel(em, shape, b, from_, to, vectors, ("0", str(k)), final)
    size = panels * k * width * shape.itemsize
    return phase_of(name, em, -(-panels // group)), packed, size


def pack_rows(name: str, shape: Shape, a: Operand, offset: int) -> tuple[Phase, Operand, int]:
    """A kernel that copies an A with contiguous columns into scratch, `offset` bytes in, by rows; the copy; its bytes.

    The copy's rows lie one cache line further apart than they are long, so that the rows of a tile,
    all read at once, do not compete for the same lines of the cache.
    """
    em = Emitter()
    lanes, k = shape.lanes, shape.k
    line = 64 // shape.itemsize
    row = -(-k // line) * line + line
    copied = Operand(3, row * shape.m if a.batch else 0, row, 1, offset=offset)
    matrices = shape.batch if a.batch else 1
    # Of squares, each `lanes` rows and elements of k, a block takes those of the same rows.
    down, along = -(-shape.m // lanes), -(-k // lanes)
    group = max(1, LEAST_WORK // 16 // (k * lanes))
    source, scratch = buffer_address(em, a), buffer_address(em, copied)
    with loop(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        last = minimum(em, em.op(f"add i64 {first}, {group}"), matrices * down)
        with loop(em, first, last) as number:
            matrix, strip = divide(em, number, down)
            i = tile_start(em, strip, lanes, shape.m)
            from_ = element_address(em, shape, source, matrix_start(em, a, matrix), i)
            to = element_address(em, shape, scratch, times(em, matrix, row * shape.m), times(em, i, row))
            with loop(em, "0", str(along)) as square:
                at = tile_start(em, square, lanes, k)
                column = element_address(em, shape, from_, times(em, at, a.column))
                lines = [load(em, shape, element_address(em, shape, column, str(c * a.column))) for c in range(lanes)]
                corner = element_address(em, shape, to, at)
                for r, values in enumerate(turned(em, lines, shape.element, shape.itemsize)):
                    store(em, shape, values, element_address(em, shape, corner, str(r * row)))
    return phase_of(name, em, -(-matrices * down // group)), copied, matrices * shape.m * row * shape.itemsize


def pack_panel(
    em: Emitter, shape: Shape, b: Operand, source: str, to: str, vectors: int, ks: tuple[str, str], last: str | None = None
) -> None:
    """Copy one panel of B, of which the first element of the first column lies at `source`, to `to`.

    ks: the range of k to copy; `to` is the place of its first. In front of that fewer than `lanes` rows of the panel may be
    written, too, if there are rows of B before the range.  last: the last column that exists, counted from the
    panel's first; None if all do.
    """
    lanes = shape.lanes
    if b.column == 1 and (last is None or not last.startswith("%")):
        _copy_rows(em, shape, b, source, to, vectors, ks)
    elif b.row == 1 and shape.k >= lanes and lanes & (lanes - 1) == 0:
        _copy_transposed(em, shape, b, source, to, vectors, ks, last)
    else:
        _copy_elements(em, shape, b, source, to, vectors, ks, last)


def _row_of_panel(em: Emitter, shape: Shape, to: str, k: str, k_from: str, width: int) -> str:
    """Where the row of `k` begins in a panel that begins with that of `k_from`."""
    distance = k if k_from == "0" else em.op(f"sub i64 {k}, {k_from}")
    return element_address(em, shape, to, times(em, distance, width))


def _copy_rows(
    em: Emitter, shape: Shape, b: Operand, source: str, to: str, vectors: int, ks: tuple[str, str]
) -> None:
    """One panel from rows of contiguous elements."""
    lanes = shape.lanes
    with loop(em, *ks) as k:
        row = element_address(em, shape, source, times(em, k, b.row))
        packed = _row_of_panel(em, shape, to, k, ks[0], vectors * lanes)
        for v in range(vectors):
            mask = None
            if shape.n < (v + 1) * lanes:
                mask = static_mask(lanes, shape.n % lanes)
            at = str(v * lanes)
            value = load(em, shape, element_address(em, shape, row, at), mask)
            store(em, shape, value, element_address(em, shape, packed, at))


def _copy_elements(
    em: Emitter, shape: Shape, b: Operand, source: str, to: str, vectors: int, ks: tuple[str, str], last: str | None
) -> None:
    """One panel from anywhere, an element at a time."""
    width = vectors * shape.lanes
    with loop(em, *ks) as k:
        row = element_address(em, shape, source, times(em, k, b.row))
        packed = _row_of_panel(em, shape, to, k, ks[0], width)
        with loop(em, "0", str(width)) as j:
            column = minimum(em, j, last) if last else j
            at = element_address(em, shape, row, times(em, column, b.column))
            value = em.op(f"load {shape.element}, ptr {at}, align {shape.itemsize}")
            into = element_address(em, shape, packed, j)
            em.line(f"store {shape.element} {value}, ptr {into}, align {shape.itemsize}")


def _copy_transposed(
    em: Emitter, shape: Shape, b: Operand, source: str, to: str, vectors: int, ks: tuple[str, str], last: str | None
) -> None:
    """One panel from contiguous columns: squares of `lanes` x `lanes`, transposed in registers."""
    lanes = shape.lanes
    width = vectors * lanes
    with loop(em, "0", str(vectors)) as v:
        columns = times(em, v, lanes)
        with loop(em, *ks, lanes) as square:
            # As with tiles, the last square is moved back over the one before.
            k = minimum(em, square, em.op(f"sub i64 {ks[1]}, {lanes}"))
            lines = []
            for c in range(lanes):
                column = plus(em, columns, str(c))
                if last:
                    column = minimum(em, column, last)
                at = element_address(em, shape, source, times(em, column, b.column), k)
                lines.append(load(em, shape, at))
            packed = _row_of_panel(em, shape, to, k, ks[0], width)
            corner = element_address(em, shape, packed, columns)
            for c, line in enumerate(turned(em, lines, shape.element, shape.itemsize)):
                store(em, shape, line, element_address(em, shape, corner, str(c * width)))
