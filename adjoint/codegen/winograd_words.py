"""What the stages of `winograd` share: transforms, and rows cut into pieces of one vector of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import Emitter, Shape, add, loop, times

WRITTEN_OUT = 4  # pieces of a row up to which each has code of its own


def subtract(em: Emitter, shape: Shape, x: str, y: str) -> str:
    return em.op(f"fsub {vector_type(shape.element, shape.lanes)} {x}, {y}")


def four_to_four(em: Emitter, shape: Shape, d: Sequence[str]) -> list[str]:
    """d0 - d2, d1 + d2, d2 - d1, d1 - d3."""
    sums = subtract(em, shape, d[0], d[2]), add(em, shape, d[1], d[2])
    return [*sums, subtract(em, shape, d[2], d[1]), subtract(em, shape, d[1], d[3])]


def four_to_two(em: Emitter, shape: Shape, m: Sequence[str]) -> list[str]:
    """m0 + m1 + m2, m1 - m2 - m3."""
    first = add(em, shape, add(em, shape, m[0], m[1]), m[2])
    return [first, subtract(em, shape, subtract(em, shape, m[1], m[2]), m[3])]


def larger(em: Emitter, shape: Shape, x: str, y: str) -> str:
    """The larger number; y where one is NaN."""
    vec = vector_type(shape.element, shape.lanes)
    return em.op(f"select <{shape.lanes} x i1> {em.op(f'fcmp ogt {vec} {x}, {y}')}, {vec} {x}, {vec} {y}")


Transform = Callable[[Emitter, Shape, Sequence[str]], list[str]]


def both_axes(em: Emitter, shape: Shape, transform: Transform, rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """A transform along each row, then along each column; the result by rows."""
    along = [transform(em, shape, row) for row in rows]
    columns = [transform(em, shape, column) for column in zip(*along, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def scaled(em: Emitter, number: int | str, factor: int) -> str:
    if isinstance(number, str) and not number.isdigit():
        return times(em, number, factor)
    return str(int(number) * factor)


def lanes_of(bits: Sequence[bool]) -> str | None:
    """None for all lanes."""
    return None if all(bits) else "<" + ", ".join(f"i1 {int(b)}" for b in bits) + ">"


def pieces_of(em: Emitter, alike: Sequence[object]) -> Iterator[tuple[int | str, int]]:
    """Numbers of the pieces of a row, in order, for code that is written for each: (number, one that it is like).

    Where many neighbours are alike, one is written, in a loop over their numbers.
    """
    at = 0
    while at < len(alike):
        end = at
        while end < len(alike) and alike[end] == alike[at]:
            end += 1
        if end - at > WRITTEN_OUT:
            with loop(em, str(at), str(end)) as index:
                yield index, at
        else:
            for number in range(at, end):
                yield number, number
        at = end
