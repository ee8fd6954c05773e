"""Strides of views: which movement results are views of their operand, and how their elements lie in its memory."""

from __future__ import annotations

from typing import Any

from adjoint.trace.aval import contiguous_strides
from adjoint.trace.handle import Tensor

STRIDED = frozenset(("expand", "permute", "slice", "reshape", "real", "imag", "as_real", "as_complex", "reinterpret"))


def view_strides(prim: str, operands: tuple, attrs: Any, shape: tuple) -> tuple[int, ...] | None:
    """Strides the result has as a view of its operand; None where it can only be a copy."""
    old = operands[0]._aval.shape
    steps = strides_of(operands[0])
    if prim == "permute":
        return tuple(steps[p] for p in attrs)
    if prim in ("real", "imag", "as_real"):  # strides count elements of the result
        return tuple(2 * s for s in steps) + ((1,) if prim == "as_real" else ())
    if prim == "as_complex":
        return tuple(s // 2 for s in steps[:-1])
    if prim == "reinterpret":
        return reinterpreted(steps, 0, attrs)[0]
    if prim == "slice":
        return tuple(s * k for s, k in zip(steps, attrs[2], strict=True))
    if prim == "expand":
        lead = len(shape) - len(old)
        kept = zip(old, steps, shape[lead:], strict=True)
        return (0,) * lead + tuple(0 if n != m else s for n, s, m in kept)
    return reshape_strides(old, steps, shape)


def reinterpreted(steps: tuple[int, ...], offset: int, dtypes: tuple[Any, Any]) -> tuple[tuple[int, ...], int]:
    """Strides and offset in elements of another dtype; the last axis lies in order where the sizes differ."""
    old, new = dtypes[0].itemsize, dtypes[1].itemsize
    if old == new:
        return steps, offset
    return (*(s * old // new for s in steps[:-1]), 1), offset * old // new


def strides_of(t: Tensor) -> tuple[int, ...]:
    """How a tensor's elements lie in its memory, counted in elements: a view's as it shows them, all others in order."""
    return t._aval.strides if t._base is not None else contiguous_strides(t._aval.shape)


def reshape_strides(old: tuple, strides: tuple, new: tuple) -> tuple[int, ...] | None:
    """Strides of a reshape that needs no copy, or None: groups of old axes that are contiguous among themselves
    are split anew."""
    size = 1
    for d in old:
        size *= d
    if size == 0:
        return contiguous_strides(new)
    if old == new:
        return tuple(strides)
    out: list[int] = []
    left = list(new)
    axis = len(old) - 1
    while axis >= 0:  # one group of old axes after the other, the last first
        step = strides[axis]
        count = old[axis]
        while axis > 0 and (old[axis - 1] == 1 or strides[axis - 1] == count * step):
            axis -= 1
            count *= old[axis]
        axis -= 1
        done = 1
        while left and (done < count or left[-1] == 1):
            out.append(done * step)
            done *= left.pop()
        if done != count:
            return None
    if not old:
        return (1,) * len(new)
    return None if left else tuple(reversed(out))
