"""Products with few rows of A and contiguous columns of B: dot products along k.

Read `dot_kernel`.
"""

from __future__ import annotations

from adjoint.codegen.gemm_words import (
    LEAST_WORK,
    OUTPUT,
    Emitter,
    Epilogue,
    Operand,
    Phase,
    Shape,
    buffer_address,
    divide,
    element_address,
    load,
    loop,
    matrix_start,
    multiply_add,
    part_of_range,
    phase_of,
    plus,
    static_mask,
    tile_start,
    times,
    vector_type,
)

DOT_COLUMNS = (8, 8, 6, 5, 2, 2, 2, 2)  # columns taken at once, by number of rows of A


def dot_kernel(name: str, shape: Shape, a: Operand, b: Operand, epilogue: Epilogue | None) -> Phase:
    """The product of few rows with a B whose columns are contiguous: vectors run along k.

    A block computes a range of columns for all rows. Sums of the lanes are taken in the order of
    LLVM's reduction of a vector, pairwise by halves.
    """
    em = Emitter()
    m, n, k, lanes = shape.m, shape.n, shape.k, shape.lanes
    vec = vector_type(shape.element, lanes)
    columns = min(n, DOT_COLUMNS[m - 1])
    across = -(-n // columns)
    group = min(across, max(1, LEAST_WORK // 4 // (columns * m * k)))
    per_matrix = -(-across // group)
    a_base, b_base, c_base = (
        buffer_address(em, a),
        buffer_address(em, b),
        buffer_address(em, OUTPUT),
    )
    pairs = [(i, j) for i in range(m) for j in range(columns)]
    with loop(em, "%lo", "%hi") as block:
        matrix, unit = divide(em, block, per_matrix)
        start, stop = part_of_range(em, unit, group, across)
        a_start = element_address(em, shape, a_base, matrix_start(em, a, matrix))
        b_start = element_address(em, shape, b_base, matrix_start(em, b, matrix))
        c_start = element_address(em, shape, c_base, times(em, matrix, m * n))
        with loop(em, start, stop) as number:
            column = tile_start(em, number, columns, n)
            b_first = element_address(em, shape, b_start, times(em, column, b.column))

            def step(at: str, mask: str | None, sums: list[str], nexts: list[str]) -> None:
                xs = [
                    load(em, shape, element_address(em, shape, a_start, at, str(i * a.row)), mask)
                    for i in range(m)
                ]
                for j in range(columns):
                    y_at = element_address(em, shape, b_first, at, str(j * b.column))
                    y = load(em, shape, y_at, mask)
                    for i in range(m):
                        p = i * columns + j
                        multiply_add(em, shape, lanes, xs[i], y, sums[p], nexts[p])

            sums = ["zeroinitializer"] * len(pairs)
            if k >= lanes:
                before, head, after = em.block, em.fresh_label("k"), em.fresh_label("summed")
                em.line(f"br label %{head}")
                em.label(head)
                at = em.name("k")
                held = [em.name("c") for _ in pairs]
                nexts = [em.name("d") for _ in pairs]
                place = len(em.lines)
                step(at, None, held, nexts)
                following = em.op(f"add i64 {at}, {lanes}")
                again = em.op(f"icmp slt i64 {following}, {k - k % lanes}")
                em.lines[place:place] = [
                    f"  {at} = phi i64 [ 0, %{before} ], [ {following}, %{head} ]",
                    *(
                        f"  {c} = phi {vec} [ zeroinitializer, %{before} ], [ {d}, %{head} ]"
                        for c, d in zip(held, nexts, strict=True)
                    ),
                ]
                em.line(f"br i1 {again}, label %{head}, label %{after}")
                em.label(after)
                sums = nexts
            if k % lanes:
                tail = [em.name("e") for _ in pairs]
                step(str(k - k % lanes), static_mask(lanes, k % lanes), sums, tail)
                sums = tail
            for (i, j), lane_sums in zip(pairs, sums, strict=True):
                value = _lane_sum(em, shape, lane_sums)
                here = plus(em, column, str(j))
                if epilogue is not None:
                    row = plus(em, times(em, matrix, m), str(i))
                    value = epilogue(em, 1, value, row, here, None)
                into = element_address(em, shape, c_start, str(i * n), here)
                em.line(f"store {shape.element} {value}, ptr {into}, align {shape.itemsize}")
    return phase_of(name, em, shape.batch * per_matrix)


def _lane_sum(em: Emitter, shape: Shape, value: str) -> str:
    """The sum of a vector's lanes, halves onto halves."""
    lanes, element = shape.lanes, shape.element
    while lanes > 1:
        vec, half = vector_type(element, lanes), lanes // 2
        parts = []
        for first in (0, half):
            numbers = ", ".join(f"i32 {first + i}" for i in range(half))
            parts.append(
                em.op(f"shufflevector {vec} {value}, {vec} poison, <{half} x i32> <{numbers}>")
            )
        part = f"<{half} x {element}>"
        value = em.op(f"{'fadd' if shape.floating else 'add'} {part} {parts[0]}, {parts[1]}")
        lanes = half
    return em.op(f"extractelement <1 x {element}> {value}, i32 0")
