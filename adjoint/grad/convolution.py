"""Derivatives of the primitive `convolve`, which are convolutions again.

With y[p] = sum over k of w[k] x[p s + k d - lo] a cotangent g of y reaches x[q] from all p with p s = q + lo - k d: a
convolution of g, its elements moved s apart, with w turned around. It reaches w[k] as the sum over p of g[p] x[k d + p s
- lo]: a convolution of x with g as its kernel, strides and dilations exchanged, images as channels and channels as
images. Read `convolve_reverse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.ir.prims import PRIMS, spread_length
from adjoint.ops.complex_numbers import conj
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record


def convolve_reverse(g: Tensor, args: tuple, attrs: tuple) -> tuple[Tensor | None, ...]:
    x, w, *bias = args
    return (
        _to_input(g, x, w, attrs) if x._aval.requires_grad else None,
        _to_weight(g, x, w, attrs) if w._aval.requires_grad else None,
        *(record("sum", (g,), tuple(d for d in range(len(g._aval.shape)) if d != 1)) for _ in bias),
    )


def convolve_forward(tangents: tuple, args: tuple, attrs: tuple) -> Tensor:
    x, w, *_ = args
    tx, tw, *tb = tangents
    moved = []
    if tx is not None:
        moved.append(record("convolve", (tx, w), attrs))
    if tw is not None:
        moved.append(record("convolve", (x, tw), attrs))
    if tb and tb[0] is not None:
        shape, _ = PRIMS["convolve"].rule([(tuple(t._aval.shape), t._aval.dtype) for t in (x, w)], attrs)
        column = record("reshape", (tb[0],), (shape[1], *(1,) * (len(shape) - 2)))
        moved.append(record("expand", (column,), shape))
    total = moved[0]
    for other in moved[1:]:
        total = total + other
    return total


def _split(x: Tensor, axis: int, groups: int) -> Tensor:
    """One axis as (groups, rest)."""
    shape = tuple(x._aval.shape)
    return record("reshape", (x,), (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))


def _joined(x: Tensor, axis: int) -> Tensor:
    """An axis and the one behind it as one."""
    shape = tuple(x._aval.shape)
    return record("reshape", (x,), (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _swapped(x: Tensor, axis: int) -> Tensor:
    """An axis and the one behind it exchanged."""
    order = list(range(len(x._aval.shape)))
    order[axis], order[axis + 1] = order[axis + 1], order[axis]
    return record("permute", (x,), tuple(order))


def _fitting(sizes: Sequence[int], strides: Sequence[int], kernel: Any, dilations: Any, have: Any, lo: Any) -> tuple:
    """The padding behind `have` elements with which there are as many windows as `sizes` says."""
    return tuple(
        (n - 1) * s + (k - 1) * d + 1 - h - front
        for n, s, k, d, h, front in zip(sizes, strides, kernel, dilations, have, lo, strict=True)
    )


def _to_input(g: Tensor, x: Tensor, w: Tensor, attrs: tuple) -> Tensor:
    strides, lo, _, steps, dilations, groups = attrs
    kernel, sizes = tuple(w._aval.shape[2:]), tuple(x._aval.shape[2:])
    turned = record("flip", (conj(w),), tuple(range(2, 2 + len(kernel))))
    turned = _joined(_swapped(_split(turned, 0, groups), 1), 0) if groups > 1 else _swapped(turned, 0)
    front = tuple((k - 1) * d - a for k, d, a in zip(kernel, dilations, lo, strict=True))
    have = [spread_length(n, s) for n, s in zip(g._aval.shape[2:], strides, strict=True)]
    back = _fitting(sizes, steps, kernel, dilations, have, front)
    return record("convolve", (g, turned), (steps, front, back, strides, dilations, groups))


def _to_weight(g: Tensor, x: Tensor, w: Tensor, attrs: tuple) -> Tensor:
    strides, lo, _, steps, dilations, groups = attrs
    kernel, sizes = tuple(w._aval.shape[2:]), tuple(x._aval.shape[2:])
    if max(steps) > 1 and max(strides) == 1:
        return _to_weight_of_spread(g, x, w, attrs)
    x = conj(x)
    # (N, G C) as (C, G N): channels of a group are images now, and images its channels.
    order = (2, 1, 0, *range(3, 3 + len(kernel)))
    turned = _joined(record("permute", (_split(x, 1, groups),), order), 1) if groups > 1 else _swapped(x, 0)
    have = [spread_length(n, s) for n, s in zip(sizes, steps, strict=True)]
    back = _fitting(kernel, dilations, g._aval.shape[2:], strides, have, lo)
    return _swapped(record("convolve", (turned, _swapped(g, 0)), (dilations, lo, back, steps, strides, groups)), 0)


def _to_weight_of_spread(g: Tensor, x: Tensor, w: Tensor, attrs: tuple) -> Tensor:
    """Where the elements of x lie `steps` apart and strides are 1, the sum over p has few terms that are not zero. Over the elements
    of x, with p = j i - k d + lo, it is g[j i - k d + lo] x[j]: a convolution of g with x as its kernel, which comes out turned around."""
    _, lo, _, steps, dilations, groups = attrs
    kernel = tuple(w._aval.shape[2:])
    front = tuple((k - 1) * d - a for k, d, a in zip(kernel, dilations, lo, strict=True))
    back = _fitting(kernel, dilations, x._aval.shape[2:], steps, g._aval.shape[2:], front)
    # (N, G O) as (O, G N), and (N, G C) as (G C, N): what w has for each channel of g and of x
    spread = (2, 1, 0, *range(3, 3 + len(kernel)))
    images = _joined(record("permute", (_split(g, 1, groups),), spread), 1) if groups > 1 else _swapped(g, 0)
    found = record("convolve", (images, _swapped(conj(x), 0)), (dilations, front, back, (1,) * len(kernel), steps, groups))
    found = _joined(_swapped(_split(found, 1, groups), 0), 0) if groups > 1 else found
    return record("flip", (found,), tuple(range(2, 2 + len(kernel))))


__all__ = ["convolve_forward", "convolve_reverse"]
