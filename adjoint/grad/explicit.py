"""Primitives that state both derivatives: extremes, products and decompositions.

`REVERSE[prim](g, out, args, attrs)` returns one cotangent per operand; `FORWARD[prim](tangents, out, args, attrs)` the
tangent of the result. For primitives with several results `g`, `out` and the tangent are lists with one entry per
result (None for a result without cotangent). Sources of the matrix rules: Giles, "Collected matrix derivative results
for forward and reverse mode algorithmic differentiation" (2008), and Seeger et al., "Auto-differentiating linear
algebra" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.grad.attention import (
    attention_forward,
    attention_reverse,
    backward_forward,
    backward_reverse,
)
from adjoint.grad.lu import lu_forward, lu_reverse
from adjoint.grad.transposes import inverse_order, swap, zeros
from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import cast, where
from adjoint.ops.gather import gather, scatter_add
from adjoint.ops.rearrange import diag_embed, diagonal_of, tril, triu
from adjoint.ops.reduce import latest_places
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def mm(a: Tensor, b: Tensor) -> Tensor:
    return record("matmul", (a, b))


def symmetric(x: Tensor) -> Tensor:
    return (x + swap(x)) * 0.5


def keep_axes(x: Tensor, like: Tensor, axes: tuple[int, ...]) -> Tensor:
    """A reduced tensor spread over the reduced axes again."""
    shape = tuple(like._aval.shape)
    kept = record("reshape", (x,), tuple(1 if i in axes else n for i, n in enumerate(shape)))
    return record("expand", (kept,), shape)


# --- extremes: equal winners share evenly ---------------------------------------------------------------------------


def _shares(out: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    winners = cast(x == keep_axes(out, x, axes), x._aval.dtype)
    return winners / keep_axes(record("sum", (winners,), axes), x, axes)


def _extreme_reverse(g: Tensor, out: Tensor, args: tuple, axes: tuple) -> tuple:
    return (keep_axes(g, args[0], axes) * _shares(out, args[0], axes),)


def _extreme_forward(tangents: tuple, out: Tensor, args: tuple, axes: tuple) -> Tensor:
    return record("sum", (tangents[0] * _shares(out, args[0], axes),), axes)


# --- products --------------------------------------------------------------------------------------------------------------


def _others(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """For each element the product of the other elements over `axes`, right also where some are zero."""
    shape = tuple(x._aval.shape)
    order = (*(d for d in range(len(shape)) if d not in axes), *axes)
    kept = tuple(shape[d] for d in order[: len(shape) - len(axes)])
    n = math.prod(shape[a] for a in axes)
    rows = record("reshape", (record("permute", (x,), order),), (*kept, n))
    last = len(kept)
    before = _exclusive(rows, last)
    after = record("flip", (_exclusive(record("flip", (rows,), (last,)), last),), (last,))
    back = record("reshape", (before * after,), tuple(shape[d] for d in order))
    return record("permute", (back,), inverse_order(order))


def _exclusive(x: Tensor, axis: int) -> Tensor:
    """Product of everything before each element of the last axis."""
    shape = tuple(x._aval.shape)
    n = shape[axis]
    if n == 0:
        return x
    lead = (0,) * axis
    head = record("slice", (x,), ((*lead, 0), (*shape[:axis], n - 1), (1,) * (axis + 1)))
    ones = record("full", (1.0,), ((*shape[:axis], 1), x._aval.dtype))
    return record("cumprod", (record("cat", (ones, head), axis),), axis)


def _prod_reverse(g: Tensor, out: Tensor, args: tuple, axes: tuple) -> tuple:
    return (keep_axes(g, args[0], axes) * _others(conj(args[0]), axes),)


def _prod_forward(tangents: tuple, out: Tensor, args: tuple, axes: tuple) -> Tensor:
    return record("sum", (tangents[0] * _others(args[0], axes),), axes)


def _runs(x: Tensor, axis: int) -> tuple[Tensor, tuple[int, ...]]:
    """P[..., i, k] = product of x[j] for i < j <= k, 0 for k < i, with the scanned axis last; and that axis order."""
    rank = len(x._aval.shape)
    order = (*(d for d in range(rank) if d != axis), axis)
    rows = record("permute", (x,), order)
    shape = tuple(rows._aval.shape)
    n = shape[-1]
    square = (*shape[:-1], n, n)
    spread = record("expand", (record("reshape", (rows,), (*shape[:-1], 1, n)),), square)
    i = record("reshape", (record("iota", (), n),), (n, 1))
    k = record("iota", (), n)
    runs = record("cumprod", (where(k > i, spread, 1.0),), len(square) - 1)
    return where(k >= i, runs, 0.0), order


def _cumprod_reverse(g: Tensor, out: Tensor, args: tuple, axis: int) -> tuple:
    """dx_i = (product before i) * sum over k >= i of g_k * P[i, k]."""
    x = conj(args[0])
    runs, order = _runs(x, axis)
    rows = record("permute", (g,), order)
    shape = tuple(rows._aval.shape)
    n = shape[-1]
    spread = record("expand", (record("reshape", (rows,), (*shape[:-1], 1, n)),), (*shape[:-1], n, n))
    total = record("sum", (runs * spread,), (len(shape),))
    before = _exclusive(record("permute", (x,), order), len(shape) - 1)
    return (record("permute", (total * before,), inverse_order(order)),)


def _cumprod_forward(tangents: tuple, out: Tensor, args: tuple, axis: int) -> Tensor:
    x = args[0]
    runs, order = _runs(x, axis)
    rows = record("permute", (tangents[0],), order)
    before = _exclusive(record("permute", (x,), order), len(order) - 1)
    shape = tuple(rows._aval.shape)
    n = shape[-1]
    weighted = record("reshape", (rows * before,), (*shape[:-1], n, 1))
    spread = record("expand", (weighted,), (*shape[:-1], n, n))
    out_rows = record("sum", (runs * spread,), (len(shape) - 1,))
    return record("permute", (out_rows,), inverse_order(order))


# --- running extremes and recurrences ----------------------------------------------------------------------------------


def _running_reverse(g: Tensor, out: Tensor, args: tuple, axis: int) -> tuple:
    x = args[0]
    places = latest_places(x.detach(), out.detach(), axis)
    return (scatter_add(zeros(x), axis, places, g),)


def _running_forward(tangents: tuple, out: Tensor, args: tuple, axis: int) -> Tensor:
    return gather(tangents[0], axis, latest_places(args[0].detach(), out.detach(), axis))


def _shifted(x: Tensor, axis: int, by: int) -> Tensor:
    """x[i - by] at i, with zeros where there is none; by is 1 or -1."""
    shape = tuple(x._aval.shape)
    n = shape[axis]
    starts = tuple(max(0, -by) if d == axis else 0 for d in range(len(shape)))
    sizes = tuple(n - 1 if d == axis else m for d, m in enumerate(shape))
    ones = (1,) * len(shape)
    to = tuple(max(0, by) if d == axis else 0 for d in range(len(shape)))
    return record("place", (record("slice", (x,), (starts, sizes, ones)),), (shape, to, ones))


def _recurrence_reverse(g: Tensor, out: Tensor, args: tuple, axis: int) -> tuple:
    """t_i = g_i + a_(i+1) t_(i+1), from the end; db = t and da_i = t_i y_(i-1)."""
    if not out._aval.shape[axis]:
        return g, g
    factors = record("flip", (_shifted(conj(args[0]), axis, -1),), (axis,))
    total = record("flip", (record("recurrence", (factors, record("flip", (g,), (axis,))), axis),), (axis,))
    return total * conj(_shifted(out, axis, 1)), total


def _recurrence_forward(tangents: tuple, out: Tensor, args: tuple, axis: int) -> Tensor:
    ta, tb = tangents
    moved = None if ta is None or not out._aval.shape[axis] else ta * _shifted(out, axis, 1)
    terms = tb if moved is None else moved if tb is None else moved + tb
    return record("recurrence", (args[0], terms), axis)


# --- folding into places ---------------------------------------------------------------------------------------------


def _weights(out: Tensor, args: tuple, fold: str) -> tuple[Tensor, Tensor]:
    """The derivatives of `put_fold` by the elements of its base and by its values."""
    base, index, values = args
    if fold == "prod":
        ones = [where(x == 0, 1.0, x) for x in (base, values)]
        zeros_of = [cast(x == 0, x._aval.dtype) for x in (base, values)]
        rest = record("put_fold", (ones[0], index, ones[1]), "prod")  # the product of what is not zero
        count = zeros_of[0] + record("put_add", (index, zeros_of[1]), base._aval.shape[0])
        found = []
        for x, one, r, c in (
            (base, ones[0], rest, count),
            (values, ones[1], record("take", (rest, index)), record("take", (count, index))),
        ):
            others = c - cast(x == 0, x._aval.dtype)
            found.append(where(others == 0, r / one, 0.0))
        return found[0], found[1]
    mine = cast(base == out, base._aval.dtype)
    theirs = cast(values == record("take", (out, index)), values._aval.dtype)
    count = mine + record("put_add", (index, theirs), base._aval.shape[0])
    return mine / count, theirs / record("take", (count, index))  # NaN for NaN, which equals nothing


def _put_fold_reverse(g: Tensor, out: Tensor, args: tuple, fold: str) -> tuple:
    of_base, of_values = _weights(out, args, fold)
    return g * of_base, None, record("take", (g, args[1])) * of_values


def _put_fold_forward(tangents: tuple, out: Tensor, args: tuple, fold: str) -> Tensor | None:
    of_base, of_values = _weights(out, args, fold)
    total = None if tangents[0] is None else tangents[0] * of_base
    if tangents[2] is not None:
        moved = record("put_add", (args[1], tangents[2] * of_values), args[0]._aval.shape[0])
        total = moved if total is None else total + moved
    return total


# --- matrices ----------------------------------------------------------------------------------------------------------------


def inverse(a: Tensor) -> Tensor:
    return record("inv", (a,))


def _column(g: Tensor) -> Tensor:
    """One number per matrix, ready to multiply matrices."""
    return record("reshape", (g,), (*g._aval.shape, 1, 1))


def _trace(x: Tensor) -> Tensor:
    rank = len(x._aval.shape)
    d = diagonal_of(x, 0, rank - 2, rank - 1)
    return record("sum", (d,), (rank - 2,))


def _half_lower(x: Tensor) -> Tensor:
    """Lower triangle with half the diagonal."""
    rank = len(x._aval.shape)
    return tril(x) - diag_embed(diagonal_of(x, 0, rank - 2, rank - 1)) * 0.5


def _cholesky_reverse(g: Tensor, out: Tensor, args: tuple, attrs: Any) -> tuple:
    """A' = sym(L^-T phi(L^T L') L^-1), phi the lower triangle with half the diagonal."""
    back = inverse(out)
    return (symmetric(mm(swap(back), mm(_half_lower(mm(swap(out), g)), back))),)


def _cholesky_forward(tangents: tuple, out: Tensor, args: tuple, attrs: Any) -> Tensor:
    back = inverse(out)
    return mm(out, _half_lower(mm(back, mm(symmetric(tangents[0]), swap(back)))))


def _solve_reverse(g: Tensor, out: Tensor, args: tuple, attrs: Any) -> tuple:
    a, b = args
    right = record("solve", (conj(swap(a)), g))
    return -mm(right, conj(swap(out))), right


def _solve_forward(tangents: tuple, out: Tensor, args: tuple, attrs: Any) -> Tensor:
    ta, tb = tangents
    total = tb
    if ta is not None:
        moved = -mm(ta, out)
        total = moved if tb is None else tb + moved
    return record("solve", (args[0], total))


def _gaps(w: Tensor) -> Tensor:
    """1 / (w_j - w_i) off the diagonal, 0 on it."""
    n = w._aval.shape[-1]
    lead = tuple(w._aval.shape[:-1])
    difference = record("reshape", (w,), (*lead, 1, n)) - record("reshape", (w,), (*lead, n, 1))
    i = record("iota", (), n)
    same = record("reshape", (i,), (n, 1)) == i
    return where(same, 0.0, 1.0 / where(same, 1.0, difference))


def _eigh_reverse(g: list, out: list, args: tuple, attrs: Any) -> tuple:
    """A' = V (diag(w') + F * (V^T V')) V^T, made symmetric; F as in `_gaps`."""
    w, v = out
    gw, gv = g
    inner: Any = None
    if gw is not None:
        inner = diag_embed(gw)
    if gv is not None:
        turned = _gaps(w) * mm(swap(v), gv)
        inner = turned if inner is None else inner + turned
    return (symmetric(mm(v, mm(inner, swap(v)))),)


def _eigh_forward(tangents: tuple, out: list, args: tuple, attrs: Any) -> list:
    w, v = out
    turned = mm(swap(v), mm(symmetric(tangents[0]), v))
    rank = len(turned._aval.shape)
    return [diagonal_of(turned, 0, rank - 2, rank - 1), mm(v, _gaps(w) * turned)]


def _of_eigenvectors(v: Tensor, x: Tensor) -> Tensor:
    """The parts of the columns of x along the columns of v that would change their lengths."""
    rank = len(v._aval.shape)
    along = diagonal_of(mm(conj(swap(v)), x), 0, rank - 2, rank - 1)
    real = record("real", (along,))
    return cast(record("reshape", (real,), (*real._aval.shape[:-1], 1, real._aval.shape[-1])), v._aval.dtype)


def _eig_reverse(g: list, out: list, args: tuple, attrs: Any) -> tuple:
    """A' = V^-H (diag(w') + conj(F) * (V^H V' - V^H V diag(Re V^H V'))) V^H, F as in `_gaps`, for columns of length 1.

    C. Boeddeker, P. Hanebrink, L. Drude, J. Heymann and R. Haeb-Umbach, "On the computation of complex-valued gradients with
    application to statistically optimum beamforming" (2017), section 4.19, with the normalisation. What V' says of phases,
    which are not determined, is left out of account.
    """
    w, v = out
    gw, gv = g
    turned = conj(swap(v))
    inner = None if gw is None else diag_embed(gw)
    if gv is not None:
        off = conj(_gaps(w)) * mm(turned, gv - v * _of_eigenvectors(v, gv))
        inner = off if inner is None else inner + off
    total = record("solve", (turned, mm(inner, turned)))  # type: ignore[arg-type]
    return (total if args[0]._aval.dtype.is_complex else record("real", (total,)),)


def _eig_forward(tangents: tuple, out: list, args: tuple, attrs: Any) -> list:
    w, v = out
    moved = record("solve", (v, mm(cast(tangents[0], v._aval.dtype), v)))
    rank = len(v._aval.shape)
    turned = mm(v, _gaps(w) * moved)
    return [diagonal_of(moved, 0, rank - 2, rank - 1), turned - v * _of_eigenvectors(v, turned)]


def _svd_reverse(g: list, out: list, args: tuple, attrs: Any) -> tuple:
    """For A = U S V^T of reduced form; needs distinct non-zero singular values when U or V take part."""
    u, s, vh = out
    gu, gs, gvh = g
    inner = diag_embed(gs) if gs is not None else None
    squares = _gaps(s * s)
    column = record("reshape", (s,), (*s._aval.shape, 1))
    row = record("reshape", (s,), (*s._aval.shape[:-1], 1, s._aval.shape[-1]))
    total: Tensor | None = None
    if gu is not None:
        j = squares * mm(swap(u), gu)
        part = (j + swap(j)) * row
        inner = part if inner is None else inner + part
        m, k = u._aval.shape[-2:]
        if m > k:
            rest = gu / row
            total = mm(rest - mm(u, mm(swap(u), rest)), vh)
    if gvh is not None:
        gv = swap(gvh)
        j = squares * mm(vh, gv)
        part = column * (j + swap(j))
        inner = part if inner is None else inner + part
        k, n = vh._aval.shape[-2:]
        if n > k:
            rest = gv / row
            extra = mm(u, swap(rest - mm(swap(vh), mm(vh, rest))))
            total = extra if total is None else total + extra
    if inner is not None:
        core = mm(u, mm(inner, vh))
        total = core if total is None else total + core
    return (total,)


def _svd_forward(tangents: tuple, out: list, args: tuple, attrs: Any) -> list:
    u, s, vh = out
    t = tangents[0]
    inner = mm(swap(u), mm(t, swap(vh)))
    rank = len(inner._aval.shape)
    ds = diagonal_of(inner, 0, rank - 2, rank - 1)
    squares = _gaps(s * s)
    column = record("reshape", (s,), (*s._aval.shape, 1))
    row = record("reshape", (s,), (*s._aval.shape[:-1], 1, s._aval.shape[-1]))
    du = mm(u, squares * (inner * row + column * swap(inner)))
    dv = mm(swap(vh), squares * (column * inner + swap(inner) * row))
    m, k = u._aval.shape[-2:]
    n = vh._aval.shape[-1]
    if m > k:
        rest = mm(t, swap(vh)) / row
        du = du + rest - mm(u, mm(swap(u), rest))
    if n > k:
        rest = mm(swap(t), u) / row
        dv = dv + rest - mm(swap(vh), mm(vh, rest))
    return [du, ds, swap(dv)]


def _qr_reverse(g: list, out: list, args: tuple, attrs: Any) -> tuple:
    """A' = (Q' + Q copyltu(M)) R^-T with M = R R'^T - Q'^T Q, for at least as many rows as columns."""
    q, r = out
    gq, gr = g
    if q._aval.shape[-2] < r._aval.shape[-1]:
        raise NotImplementedError("the derivative of qr for a matrix with more columns than rows is not supported")
    m: Any = None if gr is None else mm(r, swap(gr))
    if gq is not None:
        inner = mm(swap(gq), q)
        m = -inner if m is None else m - inner
    low = tril(m, -1)
    rank = len(m._aval.shape)
    copied = low + swap(low) + diag_embed(diagonal_of(m, 0, rank - 2, rank - 1))
    total = mm(q, copied)
    if gq is not None:
        total = gq + total
    return (swap(record("solve", (r, swap(total)))),)


def _qr_forward(tangents: tuple, out: list, args: tuple, attrs: Any) -> list:
    """With C = Q^T dA R^-1: Q^T dQ = low(C) - low(C)^T, dR = (C - Q^T dQ) R, the rest of dQ is orthogonal to Q."""
    q, r = out
    if q._aval.shape[-2] < r._aval.shape[-1]:
        raise NotImplementedError("the derivative of qr for a matrix with more columns than rows is not supported")
    scaled = swap(record("solve", (swap(r), swap(tangents[0]))))
    c = mm(swap(q), scaled)
    low = tril(c, -1)
    omega = low - swap(low)
    return [scaled - mm(q, c) + mm(q, omega), mm(triu(c - omega), r)]


def _cofactors(args: tuple, out: Tensor) -> Tensor:
    """d det(A) / dA = det(A) A^-T; a singular A is moved by a hair, where the product tends to the cofactors."""
    a = args[0]
    singular = out == 0
    hair = math.sqrt(np.finfo(a._aval.dtype.np).eps)
    size = record("amax", (abs(a.detach()),), (len(a._aval.shape) - 2, len(a._aval.shape) - 1))
    shift = where(singular, where(size == 0, hair, size) * hair, 0.0)
    i = record("iota", (), a._aval.shape[-1])
    diagonal = record("reshape", (i,), (a._aval.shape[-1], 1)) == i
    near = a + where(diagonal, _column(shift), 0.0)
    return _column(where(singular, record("det", (near,)), out)) * swap(inverse(near))


REVERSE: dict[str, Callable[..., tuple]] = {
    "amax": _extreme_reverse,
    "amin": _extreme_reverse,
    "prod": _prod_reverse,
    "cumprod": _cumprod_reverse,
    "cummax": _running_reverse,
    "cummin": _running_reverse,
    "recurrence": _recurrence_reverse,
    "put_fold": _put_fold_reverse,
    "inv": lambda g, out, args, attrs: (-mm(conj(swap(out)), mm(g, conj(swap(out)))),),
    "det": lambda g, out, args, attrs: (_column(g) * conj(_cofactors(args, out)),),
    "slogdet": lambda g, out, args, attrs: (None if g[1] is None else _column(g[1]) * swap(inverse(args[0])),),
    "solve": _solve_reverse,
    "cholesky": _cholesky_reverse,
    "eigh": _eigh_reverse,
    "eig": _eig_reverse,
    "svd": _svd_reverse,
    "qr": _qr_reverse,
    "lu": lu_reverse,
    "attention": attention_reverse,
    "attention_backward": backward_reverse,
}

FORWARD: dict[str, Callable[..., Any]] = {
    "amax": _extreme_forward,
    "amin": _extreme_forward,
    "prod": _prod_forward,
    "cumprod": _cumprod_forward,
    "cummax": _running_forward,
    "cummin": _running_forward,
    "recurrence": _recurrence_forward,
    "put_fold": _put_fold_forward,
    "inv": lambda t, out, args, attrs: -mm(out, mm(t[0], out)),
    "det": lambda t, out, args, attrs: _trace(mm(swap(_cofactors(args, out)), t[0])),
    "slogdet": lambda t, out, args, attrs: [None, _trace(mm(inverse(args[0]), t[0]))],
    "solve": _solve_forward,
    "cholesky": _cholesky_forward,
    "eigh": _eigh_forward,
    "eig": _eig_forward,
    "svd": _svd_forward,
    "qr": _qr_forward,
    "lu": lu_forward,
    "attention": attention_forward,
    "attention_backward": backward_forward,
}

__all__ = ["FORWARD", "REVERSE", "zeros"]
