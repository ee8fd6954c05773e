"""What the kernels of depthwise convolutions are made of: axes cut into tiles, which taps meet x there, and the loops around them.

`parts` cuts an axis into tiles that are alike, `asked_parts` into tiles of one code. `Writer` has the loops that all of these kernels
have: over units, an image's channel at one place of all axes but the last two, and within a tile over what its sums go over beside
the taps of the last two axes. Emitted values are names (`str`); x and w are addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import (
    ELEMENTS,
    LEAST_WORK,
    Emitter,
    Shape,
    carrying,
    divide,
    element_address,
    load,
    loop,
    maximum,
    minimum,
    part_of_range,
    plus,
    static_mask,
    tile_start,
    times,
)
from adjoint.schedule.depthwise import Axis, last_two

MOST_WRITTEN = 512  # multiply-adds of tiles that are not alike, which are written out each for itself


@dataclass(frozen=True, slots=True)
class Part:
    """`count` tiles of `size` positions, one after the other from `first`, of which the same positions and taps meet x: `pairs`.

    asked: tiles that are not alike; `pairs` are those of all, and whether they lie on x is asked when the kernel runs.
    end: 0, or where the last tile is moved back to end, so that all are of one size.
    """

    first: int
    size: int
    count: int
    pairs: tuple[tuple[int, int], ...]
    asked: bool = False
    end: int = 0


def parts(axis: Axis, tile: int) -> list[Part]:
    """Tiles of equal size, the last one shorter, neighbours that are alike put together."""
    found: list[Part] = []
    for first in range(0, axis.positions, tile):
        size = min(tile, axis.positions - first)
        pairs = tuple((t, k) for t in range(size) for k in range(axis.kernel) if axis.meets(first + t, k))
        if found and (found[-1].size, found[-1].pairs) == (size, pairs):
            found[-1] = Part(found[-1].first, size, found[-1].count + 1, pairs)
        else:
            found.append(Part(first, size, 1, pairs))
    return found


def asked_parts(axis: Axis, tile: int, moved: bool) -> list[Part]:
    """As `parts`, but with the code of one tile where there would be several that are not alike (and x is not spread): all are asked
    which taps meet x. moved: the last tile is moved back; else it is a shorter one of its own."""
    found = parts(axis, tile)
    if len(found) == 1 or axis.step > 1:
        return found
    whole, rest = divmod(axis.positions, tile)
    if moved and rest:
        whole, rest = whole + 1, 0
    made = [Part(0, tile, whole, _every(tile, axis.kernel), True, axis.positions if moved else 0)]
    return made if not rest else [*made, Part(whole * tile, rest, 1, _every(rest, axis.kernel), True)]


def _every(positions: int, taps: int) -> tuple[tuple[int, int], ...]:
    return tuple((t, k) for t in range(positions) for k in range(taps))


def turned(axis: Axis, first: int = 0, size: int | None = None) -> Axis:
    """An axis that is not spread with positions, or `size` of them from `first`, and taps in each other's place; the same elements
    are met."""
    size = axis.positions if size is None else size
    return Axis(axis.kernel, axis.size, size, axis.dilation, axis.stride, axis.lo - first * axis.stride)


def by_place(axis: Axis, part: Part, pairs: tuple[tuple[int, int], ...]) -> dict[int, list[tuple[int, int]]]:
    """Elements of x along an axis, from where a tile begins, and which (position, tap) meet there."""
    base = part.first * axis.stride // axis.step
    found: dict[int, list[tuple[int, int]]] = {}
    for position, tap in pairs:
        found.setdefault(axis.at(part.first + position, tap) - base, []).append((position, tap))
    return found


def guarded(em: Emitter, vec: str, condition: str | None, sums: list[str], body: Callable[[list[str]], list[str]]) -> list[str]:
    """What `body` makes of the sums where the condition holds, else the sums; None: it always does."""
    if condition is None:
        return body(sums)
    before, inside, after = em.block, em.fresh_label("meets"), em.fresh_label("met")
    em.line(f"br i1 {condition}, label %{inside}, label %{after}")
    em.label(inside)
    new = body(sums)
    last = em.block
    em.line(f"br label %{after}")
    em.label(after)
    return [
        a if a == b else em.op(f"phi {vec} [ {a}, %{before} ], [ {b}, %{last} ]") for a, b in zip(sums, new, strict=True)
    ]


def on_x(em: Emitter, axis: Axis, part: Part, base: str, place: int) -> str | None:
    """Whether the element `place` behind `base` is one of x, where that is asked."""
    if not part.asked:
        return None
    return em.op(f"icmp ult i64 {plus(em, base, str(place))}, {axis.size}")


def lanes_on_x(em: Emitter, lanes: int, axis: Axis, part: Part, base: str, tap: int) -> str:
    """For which positions of a tile, one for each lane, a tap meets x. base: where the tile begins in x."""
    vec, beyond = f"<{lanes} x i32>", 1 << 30
    where = ", ".join(f"i32 {t * axis.stride + tap * axis.dilation - axis.lo if t < part.size else beyond}" for t in range(lanes))
    places = em.op(f"add {vec} {em.splat('i32', lanes, em.op(f'trunc i64 {base} to i32'))}, <{where}>")
    return em.op(f"icmp ult {vec} {places}, {em.splat('i32', lanes, str(axis.size))}")


@contextmanager
def each_tile(em: Emitter, part: Part, band: str = "0", bands: int = 1) -> Iterator[str]:
    """The first position of every tile of a part, or of those that belong to one of several bands: then it has more tiles than these."""
    if part.count == 1:
        yield str(part.first)
        return
    start, stop = "0", str(part.count)
    if bands > 1:
        start, stop = part_of_range(em, band, -(-part.count // bands), part.count)
    with loop(em, start, stop) as number:
        yield tile_start(em, number, part.size, part.end) if part.end else plus(em, times(em, number, part.size), str(part.first))


def even(n: int, most: int) -> int:
    """n cut into as few equal tiles of at most `most` as it takes: the length of a tile."""
    return -(-n // -(-n // most))


FEWEST_UNITS = 16  # which several threads can share evenly


def bands_of(down: Axis, rows: int, units: int, work: int) -> int:
    """Into how many bands of tiles, each worth another thread, an image is cut where there are few units."""
    tiles = -(-down.positions // rows)
    most = min(FEWEST_UNITS // units, work // (units * LEAST_WORK), tiles)
    return 1 if most < 2 or down.step > 1 else -(-tiles // -(-tiles // most))


def row_of(em: Emitter, shape: Shape, x: str, row: int, stride: int, places: dict[int, int], mask: str | None = None) -> str:
    """Elements of a row of x that lanes are to hold, by where they lie behind `row`, each 1 or 2 from the one before; zeros in the
    other lanes. mask: which of them are to be read, where that is known when the kernel runs."""
    lane, first = min(places.items())
    offset = row + first - lane * stride
    if mask is not None:
        return load(em, shape, element_address(em, shape, x, str(offset)), mask)
    if stride == 1:
        mask = None if len(places) == shape.lanes else static_mask(shape.lanes, max(places) + 1, lane)
        return load(em, shape, element_address(em, shape, x, str(offset)), mask)
    vec = vector_type(shape.element, shape.lanes)
    halves = []
    for half in range(2):
        wanted = {2 * t - half * shape.lanes for t in places} & set(range(shape.lanes))
        mask = "<" + ", ".join(f"i1 {int(i in wanted)}" for i in range(shape.lanes)) + ">"
        at = element_address(em, shape, x, str(offset + half * shape.lanes))
        halves.append(load(em, shape, at, mask) if wanted else "zeroinitializer")
    chosen = ", ".join(f"i32 {2 * i}" for i in range(shape.lanes))
    return em.op(f"shufflevector {vec} {halves[0]}, {vec} {halves[1]}, <{shape.lanes} x i32> <{chosen}>")


Range = tuple[str, str, int, int]  # from, to, and how many elements each is further on in x and in w


def taps_that_meet(em: Emitter, axis: Axis, place: str, x_stride: int, w_stride: int, x: list[str]) -> Range:
    """The taps of an axis that lie on x at a position: from, to, and what each is further on in x and w. Adds to `x` where tap 0 lies."""
    begin = em.op(f"sub i64 {times(em, place, axis.stride)}, {axis.lo}")
    before = maximum(em, em.op(f"sub i64 0, {begin}"), 0)
    start, _ = divide(em, plus(em, before, str(axis.dilation - 1)), axis.dilation)
    last, _ = divide(em, em.op(f"sub i64 {axis.size - 1}, {begin}"), axis.dilation)
    x.append(times(em, begin, x_stride))
    return start, minimum(em, em.op(f"add i64 {last}, 1"), axis.kernel), axis.dilation * x_stride, w_stride


class Writer:
    """Writes a kernel, with what is known of every one: its registers, the last two axes, and where their rows lie.

    x_strides, w_strides: of (channels, *axes), in elements.
    """

    def __init__(
        self, dtype: str, lanes: int, channels: int, axes: Sequence[Axis], x_strides: Sequence[int], w_strides: Sequence[int]
    ) -> None:
        self.em = Emitter()
        element, itemsize = ELEMENTS[dtype]
        self.shape = Shape(element, itemsize, lanes, 1, 0, 0, 0)
        self.vec = vector_type(element, lanes)
        self.channels, self.x_strides, self.w_strides = channels, x_strides, w_strides
        self.outer, self.down, self.across = last_two(axes)
        self.x_rows, self.w_rows = (0, 0) if len(axes) == 1 else (x_strides[-2], w_strides[-2])

    @contextmanager
    def units(self, group: int, total: int) -> Iterator[str]:
        """The number of every unit of a block, of which each has `group`, around what is written of one."""
        em = self.em
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), total)) as number:
                yield number

    def taken_apart(self, unit: str) -> tuple[str, list[Range], list[str]]:
        """The number of an image's channel; what its sums go over beside the taps of the last two axes (channels, if there are several,
        and taps of further axes that meet x); and how far on in x the first of these taps lie, to be added up."""
        em, rest, places = self.em, unit, list[str]()
        for axis in reversed(self.outer):
            rest, place = divide(em, rest, axis.positions)
            places.insert(0, place)
        strides = list(zip(self.x_strides, self.w_strides, strict=True))
        ranges = [("0", str(self.channels), *strides[0])] if self.channels > 1 else []
        starts: list[str] = []
        for axis, place, stride in zip(self.outer, places, strides[1:-2], strict=True):
            ranges.append(taps_that_meet(em, axis, place, *stride, starts))
        return rest, ranges, starts

    def over(self, ranges: list[Range], x: str, w: str, sums: list[str], body: Callable[[str, str, list[str]], list[str]]) -> list[str]:
        """What `body(x, w, sums)` makes of the sums in loops over ranges."""
        if not ranges:
            return body(x, w, sums)
        em, shape = self.em, self.shape
        (start, stop, x_step, w_step), *rest = ranges
        with carrying(em, self.vec, sums, start, stop) as (k, held, nexts):
            x_here, w_here = element_address(em, shape, x, times(em, k, x_step)), element_address(em, shape, w, times(em, k, w_step))
            nexts += self.over(rest, x_here, w_here, held, body)
        return nexts
