"""A square of elements turned in registers: rows become columns.

`turned(em, rows, element, size)` takes as many vectors as each has elements. Every shuffle stays within the 16 bytes
that processors shuffle fastest, or moves whole such blocks, so that each is one instruction for any vector width.
"""

from __future__ import annotations

from adjoint.codegen.emitter import Emitter, vector_type

_BLOCK = 16  # bytes that one shuffle rearranges freely


def turned(em: Emitter, rows: list[str], element: str, size: int) -> list[str]:
    """The columns of n vectors of n elements of `size` bytes; n is a power of two, of at most four blocks."""
    n = len(rows)
    within = min(n, _BLOCK // size)  # elements of a block
    kind = vector_type(element, n)

    def shuffled(a: str, b: str, picks: list[int]) -> str:
        order = ", ".join(f"i32 {k}" for k in picks)
        return em.op(f"shufflevector {kind} {a}, {kind} {b}, <{n} x i32> <{order}>")

    def halves(a: str, b: str, high: bool) -> str:
        """One half of every block of `a` and `b`, in turns."""
        firsts = [start + within // 2 * high for start in range(0, n, within)]
        return shuffled(a, b, [i for first in firsts for k in range(first, first + within // 2) for i in (k, n + k)])

    def blocks(a: str, b: str, picks: list[int]) -> str:
        return shuffled(a, b, [pick * within + k for pick in picks for k in range(within)])

    # Blocks first: of `within` rows, vector k then has the columns k, within + k, ..., one in each of its blocks.
    groups = []
    for start in range(0, n, within):
        group, half = rows[start : start + within], within // 2
        for _ in range(half.bit_length()):
            group = [halves(group[i], group[i + half], high) for i in range(half) for high in (False, True)]
        groups.append(group)
    columns = [""] * n
    for k in range(within):
        parts = [group[k] for group in groups]
        if len(parts) == 4:
            a, b, c, d = parts
            low, high = ([blocks(x, y, picks) for x, y in ((a, b), (c, d))] for picks in ([0, 1, 4, 5], [2, 3, 6, 7]))
            parts = [blocks(x, y, picks) for x, y in (low, high) for picks in ([0, 2, 4, 6], [1, 3, 5, 7])]
        elif len(parts) == 2:
            parts = [blocks(parts[0], parts[1], picks) for picks in ([0, 2], [1, 3])]
        columns[k::within] = parts
    return columns
