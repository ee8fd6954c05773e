"""Index expressions: integers that are affine in loop variables.

An expression is a pair `(constant, terms)`, terms being `((Var, coefficient), ...)` in the order of `Var.id`; equal
expressions are equal tuples. What is not affine (a quotient, a remainder, an index read from memory) is a `Var` of its
own. Read `add`, `scale` and `bounds` first; `schedule/lower.py` builds the expressions, `codegen/nest.py` prints them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Expr = tuple[int, tuple]

ZERO: Expr = (0, ())


class Var:
    """A variable of index expressions.

    kind: "loop" (counts from 0 to extent-1), "div" or "mod" (payload: expression, divisor) or "value" (payload: a
    kernel value of dtype int64).  lo, hi: inclusive bounds.  reduced: a loop that a reduction of the nest runs over.
    mask: bit set of the loop variables on which it depends.
    """

    __slots__ = ("id", "kind", "payload", "lo", "hi", "reduced", "mask")

    def __init__(self, ident: int, kind: str, payload: Any, lo: int, hi: int, mask: int) -> None:
        self.id, self.kind, self.payload, self.lo, self.hi, self.mask = (
            ident,
            kind,
            payload,
            lo,
            hi,
            mask,
        )
        self.reduced = False

    @property
    def extent(self) -> int:
        return self.hi + 1

    def __repr__(self) -> str:
        if self.kind == "loop":
            return f"i{self.id}"
        if self.kind == "value":
            return f"[v{self.payload.id}]"
        return f"({text(self.payload[0])} {'//' if self.kind == 'div' else '%'} {self.payload[1]})"


def constant(value: int) -> Expr:
    return (value, ())


def of(var: Var) -> Expr:
    return (0, ((var, 1),))


def add(a: Expr, b: Expr) -> Expr:
    if not b[1]:
        return (a[0] + b[0], a[1])
    if not a[1]:
        return (a[0] + b[0], b[1])
    terms = dict(a[1])
    for var, k in b[1]:
        terms[var] = terms.get(var, 0) + k
    kept = [(v, k) for v, k in terms.items() if k]
    kept.sort(key=_ident)
    return (a[0] + b[0], tuple(kept))


def _ident(term: tuple[Var, int]) -> int:
    return term[0].id


def shift(a: Expr, k: int) -> Expr:
    return (a[0] + k, a[1])


def scale(a: Expr, k: int) -> Expr:
    if k == 1:
        return a
    if k == 0:
        return ZERO
    return (a[0] * k, tuple((v, c * k) for v, c in a[1]))


def linear(index: Iterable[Expr], strides: Iterable[int], offset: int = 0) -> Expr:
    """offset + sum of index times stride."""
    const = offset
    terms: dict[Var, int] = {}
    for e, s in zip(index, strides, strict=True):
        const += e[0] * s
        for var, k in e[1]:
            terms[var] = terms.get(var, 0) + k * s
    kept = [(v, k) for v, k in terms.items() if k]
    kept.sort(key=_ident)
    return (const, tuple(kept))


def bounds(a: Expr) -> tuple[int, int]:
    """The least and greatest value."""
    lo = hi = a[0]
    for var, k in a[1]:
        if k > 0:
            lo, hi = lo + k * var.lo, hi + k * var.hi
        else:
            lo, hi = lo + k * var.hi, hi + k * var.lo
    return lo, hi


def mask(a: Expr) -> int:
    """Bit set of the loop variables on which it depends."""
    m = 0
    for var, _ in a[1]:
        m |= var.mask
    return m


def text(a: Expr) -> str:
    parts = [repr(v) if k == 1 else f"{k}*{v!r}" for v, k in a[1]]
    if a[0] or not parts:
        parts.append(str(a[0]))
    return " + ".join(parts)


def merged_axes(lengths: Iterable[int], strides: Iterable[int]) -> list[tuple[int, int]]:
    """(Length, stride) of as few axes as will do: without those of one element, one where two lie one behind the other."""
    axes: list[tuple[int, int]] = []
    for n, s in zip(lengths, strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == n * s:
            axes[-1] = (axes[-1][0] * n, s)
        else:
            axes.append((n, s))
    return axes


def strides_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Element strides of a contiguous array."""
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(reversed(out))
