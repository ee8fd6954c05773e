"""Products of few rows with a B whose columns are contiguous, as in x @ W.T: dot products along k, and nothing is copied.

Read `dot_kernel`; `choose_dots` says how many rows and columns meet at once. A few columns of B stay in the first-level cache
while all rows of A pass. Each sum is kept in the lanes of one register, which are added up at the end (`_lane_sums`).
"""

from __future__ import annotations

from collections.abc import Sequence

from adjoint.codegen.gemm_words import (
    LEAST_WORK,
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
    part_of_range,
    phase_of,
    plus,
    prefetch,
    static_mask,
    tile_start,
    times,
    vector_type,
)

LANE_SUMS = 4  # cycles for each element of C, to add up lanes
_MOST_COLUMNS, _L1_SHARE = 8, 1 << 15  # at once; bytes
_AT_ONCE = 8  # rows, if there are no more: B then passes once, and is read as fast as it comes


def _stays_near(shape: Shape) -> bool:
    """Whether the most columns that meet at once stay in the first-level cache while rows pass."""
    return _MOST_COLUMNS * shape.k * shape.itemsize <= _L1_SHARE


def choose_dots(shape: Shape, registers: int) -> tuple[int, int]:
    """Rows and columns that meet at once: as many as there are registers for, and rows that leave little over."""
    best, choice = float("inf"), (1, 1)
    m, n = shape.m, shape.n
    once = m <= _AT_ONCE
    for columns in [c for c in (_MOST_COLUMNS, 4, 2, 1) if c <= n and (c <= 4 or once or _stays_near(shape))]:
        for rows in [m] if once else range(2, 7):
            if rows * columns + rows + 1 > registers and columns > 1:
                break
            step = max(rows * columns / 2, (rows + columns) / 2, 4.0) + 1
            cost = -(-m // rows) * -(-n // columns) * step
            if cost < best:
                best, choice = cost, (rows, columns)
    return choice


def dot_kernel(name: str, shape: Shape, a: Operand, b: Operand, registers: int) -> Phase:
    """The product with vectors along k, which is not 0. A block computes a range of columns for all rows.

    Sums of the lanes are taken pairwise by halves: the same for any tile.
    """
    em = Emitter()
    m, n, k = shape.m, shape.n, shape.k
    rows, columns = choose_dots(shape, registers)
    down, across = -(-m // rows), -(-n // columns)
    group = min(across, max(1, LEAST_WORK // 4 // (columns * m * k)))
    per_matrix = -(-across // group)
    a_base, b_base, c_base = (buffer_address(em, operand) for operand in (a, b, OUTPUT))
    with loop(em, "%lo", "%hi") as block:
        matrix, unit = divide(em, block, per_matrix)
        start, stop = part_of_range(em, unit, group, across)
        a_start = element_address(em, shape, a_base, matrix_start(em, a, matrix))
        b_start = element_address(em, shape, b_base, matrix_start(em, b, matrix))
        c_start = element_address(em, shape, c_base, times(em, matrix, m * n))
        with loop(em, start, stop) as column_tile:
            column = tile_start(em, column_tile, columns, n)
            b_first = element_address(em, shape, b_start, times(em, column, b.column))
            with loop(em, "0", str(down)) as row_tile:
                row = tile_start(em, row_tile, rows, m)
                a_first = element_address(em, shape, a_start, times(em, row, a.row))
                ahead = None
                if down > 1:  # of the next columns, so many at once that they are here when their turn comes
                    first = minimum(em, times(em, row_tile, -(-columns // down)), columns - 1)
                    first = times(em, plus(em, first, str(columns)), b.column)
                    ahead = (-(-columns // down), element_address(em, shape, b_first, first), b.column)
                sums = _sums(em, shape, (rows, a_first, a.row), (columns, b_first, b.column), ahead)
                for i in range(rows):
                    here = plus(em, row, str(i))
                    value = _lane_sums(em, shape, sums[i * columns : (i + 1) * columns])
                    into = element_address(em, shape, c_start, times(em, here, n), column)
                    em.line(f"store {vector_type(shape.element, columns)} {value}, ptr {into}, align {shape.itemsize}")
    return phase_of(name, em, shape.batch * per_matrix)


_Lines = tuple[int, str, int]  # how many rows or columns, the address of the first one, elements from one to the next


def _sums(em: Emitter, shape: Shape, left: _Lines, right: _Lines, ahead: _Lines | None) -> list[str]:
    """For each pair of a row of `left` and a column of `right` a vector, whose lanes are still to be added up.

    ahead: columns that are asked for meanwhile.
    """
    k, lanes = shape.k, shape.lanes
    (rows, a_first, a_row), (columns, b_first, b_column) = left, right
    count, first, apart = ahead or (0, "", 0)

    def step(at: str, mask: str | None, sums: Sequence[str]) -> list[str]:
        xs = [load(em, shape, element_address(em, shape, a_first, at, str(i * a_row)), mask) for i in range(rows)]
        new = [em.name("d") for _ in sums]
        for j in range(columns):
            y = load(em, shape, element_address(em, shape, b_first, at, str(j * b_column)), mask)
            for i in range(rows):
                pair = i * columns + j
                multiply_add(em, shape, lanes, xs[i], y, sums[pair], new[pair])
        return new

    sums = ["zeroinitializer"] * (rows * columns)
    whole = k - k % lanes
    if whole:
        with carrying(em, vector_type(shape.element, lanes), sums, "0", str(whole), lanes) as (at, held, nexts):
            for column in range(count):
                prefetch(em, element_address(em, shape, first, at, str(column * apart)))
            nexts += step(at, None, held)
        sums = nexts
    return step(str(whole), static_mask(lanes, k % lanes), sums) if k % lanes else sums


def _lane_sums(em: Emitter, shape: Shape, vectors: Sequence[str]) -> str:
    """A vector of the sums of each one's lanes, halves onto halves; there are a power of two of them.

    Of two vectors the halves are added as one vector, as long as there are two: half as many additions each time.
    """
    element, lanes = shape.element, shape.lanes
    opcode = "fadd" if shape.floating else "add"

    def pick(kind: str, x: str, y: str, numbers: Sequence[int]) -> str:
        order = ", ".join(f"i32 {number}" for number in numbers)
        return em.op(f"shufflevector {kind} {x}, {kind} {y}, <{len(numbers)} x i32> <{order}>")

    # Every vector holds `parts` sums, each of which is still in `lanes // parts` lanes that follow each other.
    held, parts, width = list(vectors), 1, lanes
    while width // parts > 1:
        kind, half = f"<{width} x {element}>", width // parts // 2
        low = [part * 2 * half + i for part in range(parts) for i in range(half)]
        high = [i + half for i in low]
        if len(held) > 1:  # those of two vectors side by side
            pairs = [
                (pick(kind, x, y, low + [width + i for i in low]), pick(kind, x, y, high + [width + i for i in high]))
                for x, y in zip(held[::2], held[1::2], strict=True)
            ]
            parts *= 2
        else:
            pairs = [(pick(kind, held[0], "poison", low), pick(kind, held[0], "poison", high))]
            width //= 2
        kind = f"<{width} x {element}>"
        held = [em.op(f"{opcode} {kind} {x}, {y}") for x, y in pairs]
    while len(held) > 1:  # fewer lanes than vectors
        kind = f"<{width} x {element}>"
        held = [pick(kind, x, y, range(2 * width)) for x, y in zip(held[::2], held[1::2], strict=True)]
        width *= 2
    if width == 1:
        return em.op(f"extractelement <1 x {element}> {held[0]}, i32 0")
    return held[0]
