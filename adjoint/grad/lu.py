"""The derivatives of the factorisation P^T A = L U, for matrices of any shape.

With F = L1^-1 (P^T dA)1 U1^-1 for the leading square parts (index 1; k rows and columns), dL1 = L1 low(F) and dU1 = up(F) U1,
where low() is the part below the diagonal and up() the rest (F. de Hoog, R. Anderssen and M. Lukas, "Differentiation of
matrix functionals using triangular factorization", 2011). The other columns of U, or rows of L, are solutions:
U2 = L1^-1 (P^T A)2 and L2 = (P^T A)2 U1^-1. Results are in one matrix, L below the diagonal of U; the order of the rows
does not change with A.
"""

from __future__ import annotations

from typing import Any

from adjoint.grad.transposes import swap
from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import cast
from adjoint.ops.gather import gather
from adjoint.ops.rearrange import tril, triu
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return record("matmul", (a, b))


def _adjoint(x: Tensor) -> Tensor:
    return conj(swap(x))


def _part(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    batch = tuple(x._aval.shape[:-2])
    lead = (0,) * len(batch)
    sizes = (*batch, rows[1] - rows[0], columns[1] - columns[0])
    return record("slice", (x,), ((*lead, rows[0], columns[0]), sizes, (1,) * len(sizes)))


def _parts(x: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The leading square, the columns behind it and the rows below it, where there are any."""
    m, n = x._aval.shape[-2:]
    k = min(m, n)
    right = _part(x, (0, k), (k, n)) if n > k else None
    below = _part(x, (k, m), (0, k)) if m > k else None
    return _part(x, (0, k), (0, k)), right, below


def _joined(square: Tensor, right: Tensor | None, below: Tensor | None) -> Tensor:
    rank = len(square._aval.shape)
    if right is not None:
        return record("cat", (square, right), rank - 1)
    return square if below is None else record("cat", (square, below), rank - 2)


def _with_ones(x: Tensor) -> Tensor:
    """The unit lower triangular matrix whose part below the diagonal is that of x."""
    i = record("iota", (), x._aval.shape[-1])
    diagonal = record("reshape", (i,), (x._aval.shape[-1], 1)) == i
    return tril(x, -1) + cast(diagonal, x._aval.dtype)


def _from_right(x: Tensor, a: Tensor) -> Tensor:
    """x a^-1."""
    return swap(record("solve", (swap(a), swap(x))))


def _permuted(x: Tensor, order: Tensor) -> Tensor:
    """P^T x: row i of the result is row order[i] of x."""
    rows = record("reshape", (order,), (*order._aval.shape, 1))
    return gather(x, len(x._aval.shape) - 2, record("expand", (rows,), tuple(x._aval.shape)))


def _back(x: Tensor, order: Tensor) -> Tensor:
    """P x, the inverse of `_permuted`."""
    return _permuted(x, record("argsort", (order,), (len(order._aval.shape) - 1, False)))


def lu_reverse(g: list, out: list, args: tuple, attrs: Any) -> tuple:
    (square, right, below), (gs, gr, gb) = _parts(out[0]), _parts(g[0])
    lower, upper = _with_ones(square), triu(square)
    low, up = _mm(_adjoint(lower), tril(gs, -1)), _mm(triu(gs), _adjoint(upper))
    if right is not None and gr is not None:
        low = low - _mm(gr, _adjoint(right))
        gr = record("solve", (_adjoint(lower), gr))
    if below is not None and gb is not None:
        up = up - _mm(_adjoint(below), gb)
        gb = _from_right(gb, _adjoint(upper))
    inner = tril(low, -1) + triu(up)
    total = _from_right(record("solve", (_adjoint(lower), inner)), _adjoint(upper))
    return (_back(_joined(total, gr, gb), out[2]),)


def lu_forward(tangents: tuple, out: list, args: tuple, attrs: Any) -> list:
    square, right, below = _parts(out[0])
    ts, tr, tb = _parts(_permuted(tangents[0], out[2]))
    lower, upper = _with_ones(square), triu(square)
    inner = _from_right(record("solve", (lower, ts)), upper)
    if right is not None:
        tr = record("solve", (lower, tr)) - _mm(tril(inner, -1), right)
    if below is not None and tb is not None:
        tb = _from_right(tb, upper) - _mm(below, triu(inner))
    moved = _mm(lower, tril(inner, -1)) + _mm(triu(inner), upper)
    return [_joined(moved, tr, tb), None, None]


__all__ = ["lu_forward", "lu_reverse"]
