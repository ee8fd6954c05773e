"""Reductions and scans that need no loop: over nothing, one element, or copies of one.

Sums of floating-point numbers are rounded, so that n copies of x need not add up to n * x; they do
where every partial sum is a number of the dtype, whatever the order.
"""

from __future__ import annotations

import math

from adjoint import dtypes
from adjoint.ir.graph import Node
from adjoint.ir.prims import Shape
from adjoint.rewrite.movement import aligned_source, stretched_axes
from adjoint.rewrite.rewriter import EXPAND, Rewriter, Rule, Rules, constant, is_float, zeros

Args = tuple[Node, ...]


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def one_element(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """a product, maximum or minimum over no axes or axes of length 1 is its element"""
    x = args[0]
    if any(x.shape[a] != 1 for a in axes):
        return None
    return b.reshape(x, _kept(x.shape, axes))


def sum_one_element(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """a sum over no axes or axes of length 1 is 0 + x, which makes 0 of -0.0"""
    x = args[0]
    if any(x.shape[a] != 1 for a in axes):
        return None
    x = b.reshape(x, _kept(x.shape, axes))
    return b.make("add", x, zeros(b, x.shape, x.dtype)) if is_float(x) else x


def position_of_one(b: Rewriter, args: Args, axis: int) -> Node | None:
    """argmax over one element, or over copies of one, is 0"""
    x = args[0]
    copies = x.prim is EXPAND and axis in stretched_axes(x) and x.shape[axis] > 0
    if x.shape[axis] != 1 and not copies:
        return None
    return zeros(b, _kept(x.shape, (axis,)), dtypes.int64)


def scan_one_element(b: Rewriter, args: Args, axis: int) -> Node | None:
    """a running sum or product over an axis of length 1"""
    return args[0] if args[0].shape[axis] == 1 else None


def extreme_of_copies(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """max(expand(x)) -> x over the axes that expand made"""
    x = args[0]
    if (
        x.prim is not EXPAND
        or not stretched_axes(x).issuperset(axes)
        or any(x.shape[a] == 0 for a in axes)
    ):
        return None
    source = aligned_source(b, x)
    return b.expand(b.reshape(source, _kept(source.shape, axes)), _kept(x.shape, axes))


def _copies(shape: Shape, axes: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axes)


def sum_of_constant(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """sum(expand(c)) -> n * c where c has so few digits that no partial sum is rounded"""
    x = args[0]
    c = constant(x)
    if c is None or not is_float(x) or not math.isfinite(c):
        return None
    n = _copies(x.shape, axes)
    precision, largest = (24, 127) if x.dtype is dtypes.float32 else (53, 1023)
    digits = abs(c.as_integer_ratio()[0])  # c is digits over or times a power of two
    if c != 0:
        while digits % 2 == 0:
            digits //= 2
        if digits * n > 2**precision or math.frexp(c)[1] + n.bit_length() > largest:
            return None
    return b.const(c * n + 0.0, x.dtype, _kept(x.shape, axes))


def sum_of_copies(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """sum(expand(x)) -> n * x for integers, both modulo the width"""
    x = args[0]
    if x.dtype.category != 1 or x.prim is not EXPAND or not stretched_axes(x).issuperset(axes):
        return None
    n = _copies(x.shape, axes) % 2 ** (8 * x.dtype.itemsize)
    if x.dtype.is_signed and n >= 2 ** (8 * x.dtype.itemsize - 1):
        n -= 2 ** (8 * x.dtype.itemsize)
    source = aligned_source(b, x)
    once = b.reshape(source, _kept(source.shape, axes))
    total = b.make("mul", once, b.const(n, x.dtype, once.shape))
    return b.expand(total, _kept(x.shape, axes))


_EXTREME: list[Rule] = [one_element, extreme_of_copies]

RULES: Rules = {
    "sum": [sum_one_element, sum_of_constant, sum_of_copies],
    "prod": [one_element],
    "amax": _EXTREME,
    "amin": _EXTREME,
    "argmax": [position_of_one],
    "argmin": [position_of_one],
    "cumsum": [scan_one_element],
    "cumprod": [scan_one_element],
    "cummax": [scan_one_element],
    "cummin": [scan_one_element],
}
