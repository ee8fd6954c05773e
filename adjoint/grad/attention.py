"""Derivatives of the primitives `attention` and `attention_backward`.

The reverse rule of attention is the second primitive, which never holds the matrix of scores. Everything beyond (second
derivatives, tangents) is written in ordinary operations, which do hold it. In all of them P = exp(S - lse) with scores S,
and dS = P (G V^T - delta). Read `attention_reverse`.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint.grad.transposes import swap, zeros
from adjoint.ops.elementwise import exp, where
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return record("matmul", (a, b))


def _sum_rows(x: Tensor) -> Tensor:
    return record("sum", (x,), (len(x._aval.shape) - 1,))


def _column(x: Tensor) -> Tensor:
    """(B..., L) as (B..., L, 1)."""
    return record("reshape", (x,), (*x._aval.shape, 1))


def attention_reverse(g: list, out: list, args: tuple, causal: bool) -> tuple[Tensor | None, ...]:
    query, key, value, *mask = args
    to_out, to_lse = g
    if to_out is None:
        to_out = zeros(out[0])
    delta = _sum_rows(to_out * out[0])
    if to_lse is not None:
        delta = delta - to_lse
    three = record("attention_backward", (to_out, query, key, value, out[1], delta, *mask), causal)
    to_mask: list[Tensor | None] = [None for _ in mask]
    if mask and mask[0]._aval.requires_grad:  # as large as the scores, which are then there to see
        to_mask = [_weights(query, key, out[1], mask, causal) * (_mm(to_out, swap(value)) - _column(delta))]
    return (*(record("pick", (three,), k) for k in range(3)), *to_mask)


def _weights(query: Tensor, key: Tensor, lse: Tensor, mask: list[Tensor], causal: bool) -> Tensor:
    """P, of which nothing is differentiated but through the operands here."""
    scores = _mm(query, swap(key))
    if causal:
        rows, columns = scores._aval.shape[-2:]
        i = record("reshape", (record("iota", (), rows),), (rows, 1))
        scores = where(record("iota", (), columns) <= i, scores, -math.inf)
    for m in mask:
        scores = where(m, scores, -math.inf) if m._aval.dtype.category == 0 else scores + m
    return exp(scores - _column(lse))


def attention_forward(tangents: tuple, out: list, args: tuple, causal: bool) -> list[Tensor]:
    """tlse = sum over keys of P tS, and of the output P tV + (P (tS - tlse)) V."""
    query, key, value, *mask = args
    weights = _weights(query, key, out[1], mask, causal)
    moved = weights * _scores_tangent(tangents[0], tangents[1], query, key, weights, *tangents[3:])
    to_lse = _sum_rows(moved)
    to_out = _mm(moved - weights * _column(to_lse), value)
    if tangents[2] is not None:
        to_out = to_out + _mm(weights, tangents[2])
    return [to_out, to_lse]


def _scores_tangent(tq: Any, tk: Any, query: Tensor, key: Tensor, like: Tensor, tm: Any = None) -> Tensor:
    total = zeros(like) if tm is None else tm
    if tq is not None:
        total = total + _mm(tq, swap(key))
    if tk is not None:
        total = total + _mm(query, swap(tk))
    return total


def backward_reverse(g: list, out: list, args: tuple, causal: bool) -> tuple[Tensor | None, ...]:
    """From dQ = dS K, dK = dS^T Q, dV = P^T G with cotangents A, B, C of the three.

    dS has the cotangent T = A K^T + Q B^T, the weights P have R = T (G V^T - delta) + G C^T, scores P R.
    """
    to, query, key, value, lse, delta, *mask = args
    a, b, c = (zeros(x) if part is None else part for part, x in zip(g, (query, key, value), strict=True))
    weights = _weights(query, key, lse, mask, causal)
    inner = _mm(to, swap(value)) - _column(delta)
    ds = weights * inner
    t = _mm(a, swap(key)) + _mm(query, swap(b))
    u = t * weights
    s = weights * (t * inner + _mm(to, swap(c)))
    return (
        _mm(u, value) + _mm(weights, c),
        _mm(s, key) + _mm(ds, b),
        _mm(swap(s), query) + _mm(swap(ds), a),
        _mm(swap(u), to),
        -_sum_rows(s),
        -_sum_rows(u),
        *(s if m._aval.requires_grad else None for m in mask),
    )


def backward_forward(tangents: tuple, out: list, args: tuple, causal: bool) -> list[Tensor]:
    """With tP = P (tS - tlse) and tdS = tP (G V^T - delta) + P (t(G V^T) - tdelta), the product rule three times."""
    to, query, key, value, lse, delta, *mask = args
    tg, tq, tk, tv, tlse, tdelta = tangents[:6]
    weights = _weights(query, key, lse, mask, causal)
    inner = _mm(to, swap(value)) - _column(delta)
    ds = weights * inner
    moved = _scores_tangent(tq, tk, query, key, weights, *tangents[6:])
    if tlse is not None:
        moved = moved - _column(tlse)
    tweights = weights * moved
    tinner = _scores_tangent(tg, tv, to, value, weights)
    if tdelta is not None:
        tinner = tinner - _column(tdelta)
    tds = tweights * inner + weights * tinner
    parts = [_mm(tds, key), _mm(swap(tds), query), _mm(swap(tweights), to)]
    for k, (left, t) in enumerate(((ds, tk), (swap(ds), tq), (swap(weights), tg))):
        if t is not None:
            parts[k] = parts[k] + _mm(left, t)
    return parts


__all__ = ["attention_forward", "attention_reverse", "backward_forward", "backward_reverse"]
