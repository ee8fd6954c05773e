"""Convolutions as the kernels want them: rewrites of `prepare` for the primitive `convolve`.

What is left are convolutions whose input is not spread, with several output channels for each group and enough to do for
a kernel of their own, and those with one output channel for each group that `depthwise` finds a kernel for. A spread input
becomes one convolution for each phase of the result, since only every so many taps meet an element there; a kernel of one tap is
a matrix product; small problems, what is left of few output channels for each group, and dtypes without vectors of their own
become windows, products and sums, which fuse with what surrounds them. Long sums for few results, gradients of weights, are
cut into pieces that threads can share, by shapes alone. Read `convolve`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS, Shape
from adjoint.schedule.depthwise import kind_of
from adjoint.schedule.places import groups_beside

if TYPE_CHECKING:
    from adjoint.schedule.prepare import Builder

FEW_OUTPUTS = 2  # for each group: less than this leaves most of a vector of output channels empty
PIECES = 8  # that a long sum is cut into at most
LONG_SUM = 2048
PIECE_WORK = 1 << 19  # multiply-adds
MOST_PARTIAL = 1 << 20  # elements of all partial results


def convolve(b: Builder, node: Node, args: tuple[Node, ...], products: bool) -> Node | None:
    """The convolution in other words, or None where it is fit for a kernel. products: whether its dtype has kernels."""
    x, w, *bias = args
    strides, lo, hi, steps, dilations, groups = node.attrs
    if node.size == 0 or w.size == 0 or x.size == 0:
        return _with_bias(b, b.const(0, node.dtype, node.shape), bias)
    terms = math.prod(w.shape[1:])
    small = not products or node.size * terms <= SMALL
    kind = "" if small else kind_of(Node(node.prim, args, node.attrs, -1), groups_beside(x, groups))
    if kind == "last":
        return _groups_last(b, node, x, w, bias)
    if kind == "rows" or (kind == "taps" and not bias):
        return None
    if kind == "taps":
        return _with_bias(b, b.node("convolve", x, w, attrs=node.attrs), bias)
    if any(n > 1 for n in steps):
        return _with_bias(b, _by_phases(b, node, x, w), bias)
    if small or w.shape[0] < FEW_OUTPUTS * groups:
        return _with_bias(b, _written_out(b, node, x, w), bias)
    if _is_product(node, w):
        return _with_bias(b, _product(b, node, x, w), bias)
    pieces = _pieces(node, w, terms)
    if pieces > 1:
        return _with_bias(b, _in_pieces(b, node, x, w, pieces), bias)
    return None


def _groups_last(b: Builder, node: Node, x: Node, w: Node, bias: Sequence[Node]) -> Node:
    """With the groups as the last axis of all operands, where those of x lie side by side."""
    groups, rank = node.attrs[-1], len(x.shape)
    apart = b.make("reshape", x, attrs=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    images = b.make("permute", apart, attrs=(0, *range(2, rank + 1), 1))
    weights = b.make("permute", w, attrs=(*range(1, rank), 0))
    made = b.convolve_last((images, weights, *bias), node.attrs[:-1])
    return b.make("permute", made, attrs=(0, rank - 1, *range(1, rank - 1)))


SMALL = 4096  # multiply-adds below which a plain loop is as good as a packed kernel


def _with_bias(b: Builder, x: Node, bias: Sequence[Node]) -> Node:
    if not bias:
        return x
    column = b.node("reshape", bias[0], attrs=(x.shape[1], *(1,) * (len(x.shape) - 2)))
    return b.node("add", x, b.node("expand", column, attrs=x.shape))


# --- spread inputs --------------------------------------------------------------------------------------------------------


def _by_phases(b: Builder, node: Node, x: Node, w: Node) -> Node:
    """One convolution for each residue of the position, of the taps that meet elements of x there.

    At position p + a P the tap k + c K meets element (p s + k d - lo) / i + a P s / i + c K d / i of x, where P = i / gcd(s,
    i), K = i / gcd(d, i), and k is the first tap for which i divides p s + k d - lo.
    """
    strides, lo, _, steps, dilations, groups = node.attrs
    axes = [_phases(*row) for row in zip(node.shape[2:], w.shape[2:], strides, lo, steps, dilations, strict=True)]
    total: Node | None = None
    for phases in itertools.product(*axes):
        part = _phase(b, node, x, w, phases)
        starts = (0, 0, *(p for p, *_ in phases))
        jumps = (1, 1, *(i // math.gcd(s, i) for i, s in zip(steps, strides, strict=True)))
        if part.shape == node.shape:
            return part
        placed = b.node("place", part, attrs=(node.shape, starts, jumps))
        total = placed if total is None else b.node("add", total, placed)
    return b.const(0, node.dtype, node.shape) if total is None else total


def _phases(n: int, kernel: int, s: int, lo: int, i: int, d: int) -> list[tuple[int, int, int, int, int]]:
    """Along one axis: (first position, how many, first tap, how many, where they begin in x) of each phase with taps."""
    out = []
    for p in range(min(n, i // math.gcd(s, i))):
        jump = i // math.gcd(d, i)
        k = next((k for k in range(min(kernel, jump)) if (p * s + k * d - lo) % i == 0), None)
        if k is not None:
            positions = -(-(n - p) // (i // math.gcd(s, i)))
            out.append((p, positions, k, -(-(kernel - k) // jump), (p * s + k * d - lo) // i))
    return out


def _phase(b: Builder, node: Node, x: Node, w: Node, phases: tuple) -> Node:
    strides, _, _, steps, dilations, groups = node.attrs
    jumps = tuple(i // math.gcd(d, i) for i, d in zip(steps, dilations, strict=True))
    taps = tuple(taps for _, _, _, taps, _ in phases)
    if taps != w.shape[2:]:
        starts = (0, 0, *(k for _, _, k, _, _ in phases))
        w = b.node("slice", w, attrs=(starts, (*w.shape[:2], *taps), (1, 1, *jumps)))
    s = tuple(s // math.gcd(s, i) for s, i in zip(strides, steps, strict=True))
    d = tuple(d // math.gcd(d, i) for d, i in zip(dilations, steps, strict=True))
    lo = tuple(-begin for *_, begin in phases)
    hi = tuple(
        (n - 1) * s_ + (k - 1) * d_ + 1 - size - front
        for (_, n, *_), s_, k, d_, size, front in zip(phases, s, taps, d, x.shape[2:], lo, strict=True)
    )
    return _again(b, x, w, (s, lo, hi, (1,) * len(s), d, node.attrs[-1]))


def _again(b: Builder, x: Node, w: Node, attrs: tuple) -> Node:
    made = Node(PRIMS["convolve"], (x, w), attrs, -1)
    return b.rewritten(made) or b.node("convolve", x, w, attrs=attrs)


# --- windows, products and sums ---------------------------------------------------------------------------------------


def _written_out(b: Builder, node: Node, x: Node, w: Node) -> Node:
    strides, lo, hi, _, dilations, groups = node.attrs
    axes = len(strides)
    dims = tuple(range(2, 2 + axes))
    cut = b.node("window", _padded(b, x, lo, hi), attrs=(dims, w.shape[2:], strides, dilations))
    n, channels, outputs, positions = x.shape[0], w.shape[1], w.shape[0] // groups, node.shape[2:]
    wide = (n, groups, outputs, channels, *positions, *w.shape[2:])
    windows = b.node("reshape", cut, attrs=(n, groups, 1, channels, *positions, *w.shape[2:]))
    weights = b.node("reshape", w, attrs=(1, groups, outputs, channels, *(1,) * axes, *w.shape[2:]))
    product = b.node("mul", _expanded(b, windows, wide), _expanded(b, weights, wide))
    return _reshaped(b, _sum(b, product, (3, *range(4 + axes, 4 + 2 * axes))), node.shape)


def _padded(b: Builder, x: Node, lo: Shape, hi: Shape) -> Node:
    """Zeros around the last axes; less than none crops."""
    starts = (0, 0, *(max(0, -a) for a in lo))
    ends = (*x.shape[:2], *(n - max(0, -c) for n, c in zip(x.shape[2:], hi, strict=True)))
    sizes = tuple(max(0, end - start) for start, end in zip(starts, ends, strict=True))
    rank = len(sizes)
    if sizes != x.shape:
        x = b.node("slice", x, attrs=(tuple(min(s, n - m) for s, n, m in zip(starts, x.shape, sizes, strict=True)), sizes, (1,) * rank))
    full = (*sizes[:2], *(n + max(0, a) + max(0, c) for n, a, c in zip(sizes[2:], lo, hi, strict=True)))
    if full == sizes:
        return x
    return b.node("place", x, attrs=(full, (0, 0, *(max(0, a) for a in lo)), (1,) * rank))


def _reshaped(b: Builder, x: Node, shape: Shape) -> Node:
    return x if x.shape == shape else b.node("reshape", x, attrs=shape)


def _expanded(b: Builder, x: Node, shape: Shape) -> Node:
    return x if x.shape == shape else b.node("expand", x, attrs=shape)


def _sum(b: Builder, x: Node, axes: tuple[int, ...]) -> Node:
    return b.rewritten(Node(PRIMS["sum"], (x,), axes, -1)) or b.node("sum", x, attrs=axes)


# --- products ---------------------------------------------------------------------------------------------------------


def _is_product(node: Node, w: Node) -> bool:
    strides, lo, hi, *_ = node.attrs
    return math.prod(w.shape[2:]) == 1 and all(s == 1 for s in strides) and not any(lo) and not any(hi)


def _product(b: Builder, node: Node, x: Node, w: Node) -> Node:
    """One tap: w (G, O, C) times x (N, G, C, positions)."""
    groups = node.attrs[-1]
    n, outputs, channels = x.shape[0], w.shape[0] // groups, w.shape[1]
    area = math.prod(node.shape[2:])
    lead = (n,) if groups == 1 else (n, groups)
    left = b.node("reshape", w, attrs=(1, *lead[1:], outputs, channels))
    right = _reshaped(b, x, (*lead, channels, area))
    made = Node(PRIMS["matmul"], (_expanded(b, left, (*lead, outputs, channels)), right), None, -1)
    return _reshaped(b, b.rewritten(made) or b.node("matmul", *made.args), node.shape)


# --- long sums --------------------------------------------------------------------------------------------------------


def _pieces(node: Node, w: Node, terms: int) -> int:
    """Into how many pieces of equal size the channels are cut."""
    channels = w.shape[1]
    if terms < LONG_SUM or channels == 1:
        return 1
    most = min(PIECES, node.size * terms // PIECE_WORK, MOST_PARTIAL // node.size)
    return max((n for n in range(1, most + 1) if channels % n == 0), default=1)


def _in_pieces(b: Builder, node: Node, x: Node, w: Node, pieces: int) -> Node:
    """The pieces of each group as groups of their own, then added up."""
    groups, outputs, rest = node.attrs[-1], w.shape[0] // node.attrs[-1], w.shape[1:]
    apart = b.node("reshape", w, attrs=(groups, outputs, pieces, rest[0] // pieces, *rest[1:]))
    moved = b.node("permute", apart, attrs=(0, 2, 1, *range(3, len(apart.shape))))
    joined = b.node("reshape", moved, attrs=(groups * pieces * outputs, *moved.shape[3:]))
    partial = b.node("convolve", x, joined, attrs=(*node.attrs[:-1], groups * pieces))
    split = b.node("reshape", partial, attrs=(node.shape[0], groups, pieces, outputs, *node.shape[2:]))
    return _reshaped(b, _sum(b, split, (2,)), node.shape)


__all__ = ["convolve"]
