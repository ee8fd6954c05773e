"""Movement of whole values: expand, reshape, permute, flip composed, and each brought to one form.

The forms: a fill is an `expand` of a 0-d value; whatever only adds or removes axes of length 1 is a
`reshape`; whatever moves an expanded value moves its source and expands last. So equal layouts
meet, and broadcasts stay visible to the rules of `broadcast.py`.
"""

from __future__ import annotations

from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS, Shape
from adjoint.rewrite.rewriter import EXPAND, RESHAPE, Rewriter, Rules, uniform

Args = tuple[Node, ...]

PERMUTE, FLIP = PRIMS["permute"], PRIMS["flip"]


def _without_ones(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def aligned_source(b: Rewriter, expanded: Node) -> Node:
    """The source of an `expand`, reshaped to the result's rank."""
    source = expanded.args[0]
    missing = len(expanded.shape) - len(source.shape)
    return b.reshape(source, (1,) * missing + source.shape) if missing else source


def stretched_axes(expanded: Node) -> set[int]:
    """Axes along which an `expand` repeats one element."""
    source, rank = expanded.args[0].shape, len(expanded.shape)
    own = {rank - len(source) + i for i, n in enumerate(source) if n != 1}
    return {i for i in range(rank) if i not in own}


def fill(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """full(x, shape) -> expand(x, shape)"""
    return b.expand(args[0], shape)


# --- expand ---------------------------------------------------------------------------------------


def expand_nothing(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """an expand to the operand's own shape"""
    return args[0] if args[0].shape == shape else None


def expand_expand(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    x = args[0]
    return b.make("expand", x.args[0], attrs=shape) if x.prim is EXPAND else None


def expand_by_ones(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """an expand that repeats nothing is a reshape, unless it fills from a 0-d value"""
    x = args[0]
    if x.shape == () or _without_ones(x.shape) != _without_ones(shape):
        return None
    return b.make("reshape", x, attrs=shape)


def expand_one_element(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """a single element fills from 0-d"""
    x = args[0]
    if x.shape == () or x.size != 1:
        return None
    return b.make("expand", b.make("reshape", x, attrs=()), attrs=shape)


def expand_leading_ones(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """axes of length 1 put before an operand are what expand puts there itself"""
    x = args[0]
    if x.prim is not RESHAPE:
        return None
    source = x.args[0]
    lead = len(x.shape) - len(source.shape)
    if lead < 0 or x.shape[lead:] != source.shape or any(n != 1 for n in x.shape[:lead]):
        return None
    return b.make("expand", source, attrs=shape)


# --- reshape --------------------------------------------------------------------------------------


def reshape_nothing(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """a reshape to the operand's own shape"""
    return args[0] if args[0].shape == shape else None


def reshape_reshape(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    x = args[0]
    return b.make("reshape", x.args[0], attrs=shape) if x.prim is RESHAPE else None


def reshape_uniform(b: Rewriter, args: Args, shape: Shape) -> Node | None:
    """a fill in another shape"""
    value = uniform(args[0])
    return None if value is None else b.expand(value, shape)


# --- permute --------------------------------------------------------------------------------------


def permute_nothing(b: Rewriter, args: Args, order: tuple[int, ...]) -> Node | None:
    """axes left in their order"""
    return args[0] if order == tuple(range(len(order))) else None


def permute_permute(b: Rewriter, args: Args, order: tuple[int, ...]) -> Node | None:
    x = args[0]
    if x.prim is not PERMUTE:
        return None
    return b.make("permute", x.args[0], attrs=tuple(x.attrs[p] for p in order))


def permute_expand(b: Rewriter, args: Args, order: tuple[int, ...]) -> Node | None:
    """the source is permuted and then expanded"""
    x = args[0]
    if x.prim is not EXPAND:
        return None
    shape = tuple(x.shape[p] for p in order)
    value = uniform(x)
    if value is not None:
        return b.expand(value, shape)
    return b.expand(b.make("permute", aligned_source(b, x), attrs=order), shape)


def permute_ones(b: Rewriter, args: Args, order: tuple[int, ...]) -> Node | None:
    """a permutation that moves only axes of length 1 is a reshape"""
    shape = args[0].shape
    moved = [p for p in order if shape[p] != 1]
    if moved != sorted(moved):
        return None
    return b.reshape(args[0], tuple(shape[p] for p in order))


# --- flip -----------------------------------------------------------------------------------------


def flip_nothing(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    """axes that hold one element, or one element repeated, read the same backwards"""
    x = args[0]
    same = stretched_axes(x) if x.prim is EXPAND else ()
    kept = tuple(a for a in axes if x.shape[a] > 1 and a not in same)
    if kept == axes and axes:
        return None
    return b.make("flip", x, attrs=kept) if kept else x


def flip_flip(b: Rewriter, args: Args, axes: tuple[int, ...]) -> Node | None:
    x = args[0]
    if x.prim is not FLIP:
        return None
    kept = tuple(sorted(set(axes) ^ set(x.attrs)))
    return b.make("flip", x.args[0], attrs=kept) if kept else x.args[0]


RULES: Rules = {
    "full": [fill],
    "expand": [
        expand_nothing,
        expand_expand,
        expand_by_ones,
        expand_one_element,
        expand_leading_ones,
    ],
    "reshape": [reshape_nothing, reshape_reshape, reshape_uniform],
    "permute": [permute_nothing, permute_permute, permute_expand, permute_ones],
    "flip": [flip_nothing, flip_flip],
}
