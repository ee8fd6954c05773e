"""Movement of parts: slice, place, slice_update, cat and window, composed and cancelled.

A region is, for each axis, a start, a size and a step. `Region` holds the starts as integers or as
the 0-d nodes that give them when run; two starts are known to be equal when they are the same
integer or the same node.
"""

from __future__ import annotations

from bisect import bisect_right

from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS, Shape
from adjoint.rewrite.movement import stretched_axes
from adjoint.rewrite.rewriter import (
    CONST,
    EXPAND,
    Rewriter,
    Rule,
    Rules,
    constant,
    is_positive_zero,
    uniform,
    zeros,
)

Args = tuple[Node, ...]
Start = int | Node

SLICE, PLACE, SLICE_UPDATE, CAT = (PRIMS[n] for n in ("slice", "place", "slice_update", "cat"))


class Region:
    """starts, sizes, steps of a part, by axis. Steps of axes with at most one element are 1."""

    __slots__ = ("sizes", "starts", "steps")

    def __init__(self, starts: tuple[Start, ...], sizes: Shape, steps: tuple[int, ...]) -> None:
        self.starts, self.sizes = starts, sizes
        self.steps = tuple(k if n > 1 else 1 for n, k in zip(sizes, steps, strict=True))

    def same(self, other: Region) -> bool:
        if self.sizes != other.sizes or self.steps != other.steps:
            return False
        return all(_equal(s, t) for s, t in zip(self.starts, other.starts, strict=True))

    def then(self, inner: Region) -> Region | None:
        """`inner`, which counts from this one; None where a start would have to be computed."""
        starts: list[Start] = []
        for s, k, t in zip(self.starts, self.steps, inner.starts, strict=True):
            if isinstance(s, int) and isinstance(t, int):
                starts.append(s + k * t)
            elif isinstance(t, int) and t == 0:
                starts.append(s)
            elif isinstance(s, int) and s == 0 and k == 1:
                starts.append(t)
            else:
                return None
        steps = tuple(k * m for k, m in zip(self.steps, inner.steps, strict=True))
        return Region(tuple(starts), inner.sizes, steps)

    def attributes(self) -> tuple[tuple[int | None, ...], Shape, tuple[int, ...], list[Node]]:
        """starts with None for those known when run, sizes, steps, and the nodes of the former."""
        dynamic = [s for s in self.starts if not isinstance(s, int)]
        return (
            tuple(s if isinstance(s, int) else None for s in self.starts),
            self.sizes,
            self.steps,
            dynamic,
        )


def _equal(s: Start, t: Start) -> bool:
    return s == t if isinstance(s, int) and isinstance(t, int) else s is t


def _region(shape: Shape, starts: tuple, sizes: Shape, steps: tuple, dynamic: Args) -> Region:
    """Of attributes and operands. Starts are integers where that can be seen."""
    rest = iter(dynamic)
    known: list[Start] = []
    for length, start, n, k in zip(shape, starts, sizes, steps, strict=True):
        if start is None:
            start = next(rest)
            if n == length and n > 0:
                start = 0  # there is one place for it
            elif start.prim is CONST and 0 <= start.attrs[0] <= length - (
                (n - 1) * k + 1 if n else 0
            ):
                start = start.attrs[0]
        known.append(start)
    return Region(tuple(known), sizes, steps)


def _part(shape: Shape, attrs: tuple, dynamic: Args) -> Region:
    """Of the attributes of a slice of `shape`."""
    starts, sizes, steps = attrs
    return _region(shape, starts, sizes, steps, dynamic)


def _of_slice(x: Node) -> Region:
    return _part(x.args[0].shape, x.attrs, x.args[1:])


def _of_place(x: Node) -> Region:
    shape, starts, steps = x.attrs
    return _region(shape, starts, x.args[0].shape, steps, x.args[1:])


def _of_update(x: Node) -> Region:
    return _region(x.shape, x.attrs[0], x.args[1].shape, x.attrs[1], x.args[2:])


def _make_slice(b: Rewriter, x: Node, region: Region) -> Node:
    starts, sizes, steps, dynamic = region.attributes()
    return b.make("slice", x, *dynamic, attrs=(starts, sizes, steps))


def _make_place(b: Rewriter, x: Node, shape: Shape, region: Region) -> Node:
    starts, _, steps, dynamic = region.attributes()
    return b.make("place", x, *dynamic, attrs=(shape, starts, steps))


def _make_update(b: Rewriter, x: Node, value: Node, region: Region) -> Node:
    starts, _, steps, dynamic = region.attributes()
    return b.make("slice_update", x, value, *dynamic, attrs=(starts, steps))


OUTSIDE = "outside"


def _locate(shape: Shape, part: Region, whole: Region) -> Region | str | None:
    """`part` as a region of `whole`, both given in `shape`; or OUTSIDE; or None if unknown."""
    starts: list[Start] = []
    steps: list[int] = []
    unknown = False
    rows = zip(
        shape,
        part.starts,
        part.sizes,
        part.steps,
        whole.starts,
        whole.sizes,
        whole.steps,
        strict=True,
    )
    for length, s, n, k, t, m, j in rows:
        if _equal(s, t) and n == m and k == j:
            starts.append(0)
            steps.append(1)
        elif isinstance(s, int) and isinstance(t, int):
            last, end = s + (n - 1) * k, t + (m - 1) * j
            if last < t or s > end:
                return OUTSIDE
            if j == 1 and t <= s and last <= end:
                starts.append(s - t)
                steps.append(k)
            else:
                unknown = True
        elif isinstance(t, int) and m == length:
            starts.append(s)
            steps.append(k)
        else:
            unknown = True
    return None if unknown else Region(tuple(starts), part.sizes, tuple(steps))


# --- slice ----------------------------------------------------------------------------------------


def slice_whole(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a slice of everything"""
    return args[0] if attrs[1] == args[0].shape else None


def slice_nothing(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a slice without elements; where it would start no longer matters"""
    return zeros(b, attrs[1], args[0].dtype) if 0 in attrs[1] else None


def slice_known(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """starts that are constants or can only be 0 are attributes, steps of one element are 1"""
    region = _part(args[0].shape, attrs, args[1:])
    starts, sizes, steps, dynamic = region.attributes()
    if (starts, steps) == (attrs[0], attrs[2]):
        return None
    return b.make("slice", args[0], *dynamic, attrs=(starts, sizes, steps))


def slice_slice(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a part of a part"""
    x = args[0]
    if x.prim is not SLICE:
        return None
    region = _of_slice(x).then(_part(x.shape, attrs, args[1:]))
    return None if region is None else _make_slice(b, x.args[0], region)


def slice_expand(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a part of a broadcast is a smaller broadcast, of a part of the source"""
    x = args[0]
    if x.prim is not EXPAND:
        return None
    source, sizes = x.args[0], attrs[1]
    lead = len(x.shape) - len(source.shape)
    stretched = stretched_axes(x)
    region = _part(x.shape, attrs, args[1:])
    own = range(lead, len(x.shape))
    inner = Region(
        tuple(0 if i in stretched else region.starts[i] for i in own),
        tuple(1 if i in stretched else sizes[i] for i in own),
        tuple(region.steps[i] for i in own),
    )
    return b.expand(_make_slice(b, source, inner), sizes)


def slice_place(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """what was placed is read back, or the zeros around it"""
    x = args[0]
    if x.prim is not PLACE:
        return None
    found = _locate(x.shape, _part(x.shape, attrs, args[1:]), _of_place(x))
    if found is None:
        return None
    return (
        zeros(b, attrs[1], x.dtype) if isinstance(found, str) else _make_slice(b, x.args[0], found)
    )


def slice_of_update(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """what was written is read back, or what was there before"""
    x = args[0]
    if x.prim is not SLICE_UPDATE:
        return None
    region = _part(x.shape, attrs, args[1:])
    found = _locate(x.shape, region, _of_update(x))
    if found is None:
        return None
    if isinstance(found, str):
        return _make_slice(b, x.args[0], region)
    return _make_slice(b, x.args[1], found)


def slice_cat(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a slice that lies in one part of a cat is a slice of that part"""
    x = args[0]
    if x.prim is not CAT:
        return None
    axis = x.attrs
    region = _part(x.shape, attrs, args[1:])
    start, n = region.starts[axis], region.sizes[axis]
    if not isinstance(start, int):
        return None
    offsets = b.cat_offsets.get(x.index)
    if offsets is None:
        offsets = [0]
        for part in x.args:
            offsets.append(offsets[-1] + part.shape[axis])
        b.cat_offsets[x.index] = offsets
    at = bisect_right(offsets, start) - 1
    if start + (n - 1) * region.steps[axis] >= offsets[at + 1]:
        return None
    starts = (*region.starts[:axis], start - offsets[at], *region.starts[axis + 1 :])
    return _make_slice(b, x.args[at], Region(starts, region.sizes, region.steps))


# --- place ----------------------------------------------------------------------------------------


def place_whole(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a value placed over the whole result"""
    return args[0] if args[0].shape == attrs[0] else None


def place_nothing(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """zeros placed among zeros, or no element at all"""
    x = args[0]
    if x.size != 0 and not is_positive_zero(constant(x)):
        return None
    return zeros(b, attrs[0], x.dtype)


def place_known(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """as slice_known"""
    region = _region(attrs[0], attrs[1], args[0].shape, attrs[2], args[1:])
    starts, _, steps, dynamic = region.attributes()
    if (starts, steps) == attrs[1:]:
        return None
    return b.make("place", args[0], *dynamic, attrs=(attrs[0], starts, steps))


def place_place(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """zeros around zeros"""
    x = args[0]
    if x.prim is not PLACE:
        return None
    region = _region(attrs[0], attrs[1], x.shape, attrs[2], args[1:]).then(_of_place(x))
    return None if region is None else _make_place(b, x.args[0], attrs[0], region)


def _combine_placed(name: str) -> Rule:
    def combine_placed(b: Rewriter, args: Args, attrs: None) -> Node | None:
        """place(x) + place(y) -> place(x + y) in one region, since 0 + 0, 0 - 0 and 0 * 0 are 0"""
        x, y = args
        if x.prim is not PLACE or y.prim is not PLACE:
            return None
        region = _of_place(x)
        if not region.same(_of_place(y)):
            return None
        return _make_place(b, b.make(name, x.args[0], y.args[0]), x.shape, region)

    return combine_placed


_MOST_PIECES = 16


def add_beside(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """place(x) + place(y) -> cat(x + 0, y + 0), zeros in the gaps, for regions side by side along one axis

    The gradient of a split: the next part lands in the zeros that are left. x + 0, since 0 + -0.0 is 0.0.
    """
    for whole, part in (args, args[::-1]):
        if part.prim is not PLACE or part.dtype.is_complex:
            continue
        region = _of_place(part)
        axes = [i for i, n in enumerate(part.shape) if region.sizes[i] != n]
        if len(axes) != 1 or any(k != 1 for k in region.steps):
            continue
        axis = axes[0]
        pieces = _pieces(b, whole, axis)
        start = region.starts[axis]
        if pieces is None or not isinstance(start, int):
            continue
        end = start + region.sizes[axis]
        zero = b.const(0, part.dtype)
        made: list[Node] = []
        at, found = 0, False
        for piece in pieces:
            stop = at + piece.shape[axis]
            if at <= start and end <= stop and is_positive_zero(constant(piece)):
                found = True
                gaps = [(*part.shape[:axis], n, *part.shape[axis + 1 :]) for n in (start - at, stop - end)]
                x = part.args[0]
                made += [
                    zeros(b, gaps[0], part.dtype),
                    b.make("add", x, b.expand(zero, x.shape)),
                    zeros(b, gaps[1], part.dtype),
                ]
            elif is_positive_zero(constant(piece)):
                made.append(piece)
            else:
                made.append(b.make("add", piece, b.expand(zero, piece.shape)))
            at = stop
        if found and len(made) <= _MOST_PIECES:
            return b.make("cat", *made, attrs=axis)
    return None


def _pieces(b: Rewriter, x: Node, axis: int) -> list[Node] | None:
    """The parts along `axis` that a value is made of, where the graph shows them: those of a cat, or of a place."""
    if x.prim is CAT:
        return list(x.args) if x.attrs == axis else None
    if x.prim is not PLACE:
        return None
    region = _of_place(x)
    start = region.starts[axis]
    others = (i for i in range(len(x.shape)) if i != axis)
    if not isinstance(start, int) or region.steps[axis] != 1 or any(region.sizes[i] != x.shape[i] for i in others):
        return None
    gaps = (start, x.shape[axis] - start - region.sizes[axis])
    before, after = (zeros(b, (*x.shape[:axis], n, *x.shape[axis + 1 :]), x.dtype) for n in gaps)
    return [before, x.args[0], after]


# --- slice_update ---------------------------------------------------------------------------------


def update_whole(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """everything is overwritten, or nothing is"""
    x, value = args[:2]
    if value.shape == x.shape:
        return value
    return x if value.size == 0 else None


def update_known(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """as slice_known"""
    region = _region(args[0].shape, attrs[0], args[1].shape, attrs[1], args[2:])
    starts, _, steps, dynamic = region.attributes()
    if (starts, steps) == attrs:
        return None
    return b.make("slice_update", args[0], args[1], *dynamic, attrs=(starts, steps))


def update_with_itself(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a part written back where it was read"""
    x, value = args[:2]
    if value.prim is not SLICE or value.args[0] is not x:
        return None
    region = _region(x.shape, attrs[0], value.shape, attrs[1], args[2:])
    return x if region.same(_of_slice(value)) else None


def update_update(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """the second of two writes to one region"""
    x, value = args[:2]
    if x.prim is not SLICE_UPDATE:
        return None
    region = _region(x.shape, attrs[0], value.shape, attrs[1], args[2:])
    return _make_update(b, x.args[0], value, region) if region.same(_of_update(x)) else None


def update_zeros(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """a part written into zeros is placed"""
    x, value = args[:2]
    if not is_positive_zero(constant(x)):
        return None
    region = _region(x.shape, attrs[0], value.shape, attrs[1], args[2:])
    return _make_place(b, value, x.shape, region)


# --- cat, window ----------------------------------------------------------------------------------


def cat_parts(b: Rewriter, args: Args, axis: int) -> Node | None:
    """one part is itself; parts without elements drop out"""
    kept = tuple(a for a in args if a.shape[axis] != 0) or args[:1]
    if len(kept) == 1:
        return kept[0]
    return b.make("cat", *kept, attrs=axis) if len(kept) < len(args) else None


def cat_uniform(b: Rewriter, args: Args, axis: int) -> Node | None:
    """parts filled with one value are a larger fill"""
    value = uniform(args[0])
    if value is None or any(uniform(a) is not value for a in args):
        return None
    shape = list(args[0].shape)
    shape[axis] = sum(a.shape[axis] for a in args)
    return b.expand(value, tuple(shape))


def cat_slices(b: Rewriter, args: Args, axis: int) -> Node | None:
    """neighbouring parts of one value are one part of it"""
    first = args[0]
    if first.prim is not SLICE:
        return None
    whole = _of_slice(first)
    start = whole.starts[axis]
    if not isinstance(start, int):
        return None
    end = start
    for a in args:
        if a.prim is not SLICE or a.args[0] is not first.args[0]:
            return None
        part = _of_slice(a)
        if part.starts[axis] != end or part.steps[axis] != 1 or part.steps != whole.steps:
            return None
        pairs = enumerate(zip(part.starts, whole.starts, strict=True))
        if any(i != axis and not _equal(s, t) for i, (s, t) in pairs):
            return None
        end += part.sizes[axis]
    sizes = (*whole.sizes[:axis], end - start, *whole.sizes[axis + 1 :])
    return _make_slice(b, first.args[0], Region(whole.starts, sizes, whole.steps))


def window_uniform(b: Rewriter, args: Args, attrs: tuple) -> Node | None:
    """windows of a fill"""
    value = uniform(args[0])
    return (
        None if value is None else b.expand(value, PRIMS["window"].rule([args[0].aval], attrs)[0])
    )


RULES: Rules = {
    "slice": [
        slice_whole,
        slice_nothing,
        slice_known,
        slice_slice,
        slice_expand,
        slice_place,
        slice_of_update,
        slice_cat,
    ],
    "place": [place_whole, place_nothing, place_known, place_place],
    "slice_update": [update_whole, update_known, update_with_itself, update_update, update_zeros],
    "cat": [cat_parts, cat_uniform, cat_slices],
    "window": [window_uniform],
    **{name: [_combine_placed(name)] for name in ("sub", "mul")},
    "add": [_combine_placed("add"), add_beside],
}
