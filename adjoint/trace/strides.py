"""Strides of views: which movement results are views of their operand, and how their elements lie in its memory."""

from __future__ import annotations

from typing import Any

from adjoint.trace.aval import contiguous_strides

STRIDED = frozenset(("expand", "permute", "slice", "reshape", "real", "imag", "as_real", "as_complex"))


def view_strides(prim: str, operands: tuple, attrs: Any, shape: tuple) -> tuple[int, ...] | None:
    """Strides the result has as a view of its operand; None where it can only be a copy."""
    x = operands[0]._aval
    if prim == "permute":
        return tuple(x.strides[p] for p in attrs)
    if prim in ("real", "imag", "as_real"):  # strides count elements of the result
        return tuple(2 * s for s in x.strides) + ((1,) if prim == "as_real" else ())
    if prim == "as_complex":
        return tuple(s // 2 for s in x.strides[:-1])
    if prim == "slice":
        return tuple(s * k for s, k in zip(x.strides, attrs[2], strict=True))
    if prim == "expand":
        lead = len(shape) - len(x.shape)
        kept = zip(x.shape, x.strides, shape[lead:], strict=True)
        return (0,) * lead + tuple(0 if n != m else s for n, s, m in kept)
    return reshape_strides(x.shape, x.strides, shape)


def reshape_strides(old: tuple, strides: tuple, new: tuple) -> tuple[int, ...] | None:
    """Strides of a reshape that needs no copy, or None: groups of old axes that are contiguous among themselves
    are split anew."""
    size = 1
    for d in old:
        size *= d
    if size == 0:
        return contiguous_strides(new)
    kept = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    merged: list[list[int]] = []
    for n, s in kept:
        if merged and merged[-1][1] == n * s:
            merged[-1] = [merged[-1][0] * n, s]
        else:
            merged.append([n, s])
    out: list[int] = []
    for n in reversed(new):
        if n == 1:
            out.append(out[-1] if out else 1)
            continue
        if not merged or merged[-1][0] % n:
            return None
        size, step = merged[-1]
        out.append(step)
        if size == n:
            merged.pop()
        else:
            merged[-1] = [size // n, step * n]
    return tuple(reversed(out))
