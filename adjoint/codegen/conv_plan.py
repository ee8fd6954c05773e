"""Convolutions: what is computed, and how it is cut up.

Owns `Problem`, one convolution with where its operands lie, and `Plan`, the sizes of tiles and blocks that
`make_plan` chooses for it by shapes alone. Read `make_plan` last; the code that follows a plan is in `conv_kernel.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from adjoint.codegen.gemm_words import ELEMENTS, LEAST_WORK, Operand

PANEL_SHARE = 1 << 18  # bytes of one panel of weights that stay in the L2 cache while positions pass by
SLAB_SHARE = 1 << 18  # bytes of padded input that one unit of work copies for itself
LEAST_POSITIONS = 128  # of a unit whose weights do not stay in the cache: each weight that is fetched is used so often
MOST_SLABS = 16  # copies of padded input that may exist at once, and so units that run at once
UNROLLED = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """y[n, g, o, p] = sum over c and k of w[g, o, c, k] x[n, g, c, p * stride + k * dilation - lo], zero outside of x.

    images, groups, channels and outputs (per group) are n, g, c and o. sizes, kernel, positions: extents of x, w and y
    along each spatial axis.  x_strides: element strides of (n, g, c, *axes) in x.  w_strides: of (g, o, c, *axes) in w.
    y is contiguous. bias: whether a number is added for each (g, o).  w_offset: elements of w's memory before w[0, 0, 0, 0].
    steps: how far elements of x are moved apart, which only `conv_depth` can do; none: not at all.
    """

    dtype: str
    images: int
    groups: int
    channels: int
    outputs: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    positions: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    lo: tuple[int, ...]
    x_strides: tuple[int, ...]
    w_strides: tuple[int, ...]
    bias: bool = False
    w_offset: int = 0
    steps: tuple[int, ...] = ()

    @property
    def itemsize(self) -> int:
        return ELEMENTS[self.dtype][1]

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def area(self) -> int:
        return math.prod(self.positions)

    @property
    def weights(self) -> Operand:
        """Buffer 1, where w begins."""
        return Operand(1, 0, 0, 1, offset=self.w_offset * self.itemsize)

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.images * self.groups * self.outputs * self.area * self.channels * self.taps


@dataclass(frozen=True, slots=True)
class Plan:
    """How a problem is cut up.

    A tile is `tile` = (images, *axes) positions, `rows` of them, by `width` output channels. In vectors lie output channels
    (`vectors` of them for each position) or, where `along`, the positions of a row (`vectors` for each row). A unit
    of work has at most `block` positions, multiples of the tile's, and `panels` panels of channels. It sums over at most
    `channels` input channels and `taps` steps of the first kernel axis at a time, for which it has copied what it needs
    of x, padded, into a slab of strides `slab_strides` (images, channels, *axes) and `slab_size` elements, unless x is
    read `in_place`. group units make one of nblocks blocks.
    """

    lanes: int
    registers: int
    tile: tuple[int, ...]
    vectors: int
    width: int
    along: bool
    block: tuple[int, ...]
    panels: int
    channels: int
    taps: int
    in_place: bool
    slab_sizes: tuple[int, ...]
    slab_strides: tuple[int, ...]
    slab_size: int
    units: tuple[int, int, int, int]  # groups, parts of the panels, blocks of images, blocks of the first axis
    group: int
    nblocks: int

    @property
    def rows(self) -> int:
        return math.prod(self.tile)

    @property
    def held(self) -> int:
        """Registers of sums."""
        return self.width * self.rows // self.tile[-1] * self.vectors if self.along else self.rows * self.vectors

    def pieces(self, p: Problem) -> tuple[int, int]:
        """Into how many pieces the sum is cut: by channels, by the first kernel axis."""
        return -(-p.channels // self.channels), -(-p.kernel[0] // self.taps)


def make_plan(p: Problem, lanes: int, registers: int) -> Plan:
    """Tiles that keep the multipliers busy, blocks that keep what they read in the caches."""
    tile, vectors, width, along = choose_tile(p, lanes, registers)
    extents = (p.images, *p.positions)
    across = -(-p.outputs // width)
    row_taps = p.taps // p.kernel[0]
    # The sum: pieces of it whose weights stay in the cache.
    fit = max(1, PANEL_SHARE // (width * p.itemsize * row_taps))  # rows of taps
    taps = p.kernel[0] if fit >= p.kernel[0] else _even(p.kernel[0], fit)
    channels = _even(p.channels, fit // p.kernel[0]) if taps == p.kernel[0] else 1
    if along:
        taps, channels = p.kernel[0], p.channels
    in_place = _in_place(p)
    block = [*extents]
    share = SLAB_SHARE // p.itemsize

    def cost(channels: int) -> int:
        return math.prod(_slab_sizes(p, tuple(block), channels, taps))

    # The positions: as much of one image as a slab holds, or several images.
    block[0] = tile[0]
    if cost(channels) > share:
        rest = cost(channels) // block[1]
        block[1] = max(tile[1], min(share // max(1, rest), p.positions[0]) // tile[1] * tile[1])
        while block[1] > tile[1] and cost(channels) > share:
            block[1] -= tile[1]
    while channels > 1 and cost(channels) > 4 * share and not along:
        channels = -(-channels // 2)
    cut = channels < p.channels or taps < p.kernel[0]
    target = max(LEAST_WORK, min(p.work // 32, 16 * LEAST_WORK))
    per_image = p.outputs * p.channels * p.taps * min(block[1], p.positions[0]) * math.prod(p.positions[1:])
    positions = min(block[1], p.positions[0]) * math.prod(p.positions[1:])
    wanted = max(tile[0], -(-target // per_image), -(-LEAST_POSITIONS // positions) if cut else 1)
    if block[1] >= p.positions[0]:
        block[1] = p.positions[0]
        while block[0] < min(wanted, p.images):
            block[0] += tile[0]
            if not in_place and cost(channels) > share:
                block[0] -= tile[0]
                break
        block[0] = min(block[0], p.images) if p.images <= block[0] else block[0]
    m_blocks, d_blocks = -(-p.images // block[0]), -(-p.positions[0] // block[1])
    # Panels go to different units only where positions alone do not give enough of them.
    parts, unit_work = 1, per_image * block[0]
    while parts < across and p.groups * m_blocks * d_blocks * parts < 8 and unit_work // (2 * parts) >= LEAST_WORK:
        parts = min(across, 2 * parts)
    panels = -(-across // parts)
    units = (p.groups, -(-across // panels), m_blocks, d_blocks)
    total = math.prod(units)
    group = max(1, target * units[1] // max(1, unit_work))
    if not in_place:
        group = max(group, -(-total // MOST_SLABS))
    sizes = _slab_sizes(p, tuple(block), channels, taps)
    strides = _slab_strides(sizes, p.itemsize)
    return Plan(
        lanes, registers, tile, vectors, width, along, tuple(block), panels, channels, taps, in_place, sizes, strides,
        sizes[0] * strides[0] + 2 * lanes, units, group, -(-total // group),
    )  # fmt: skip


def _even(n: int, most: int) -> int:
    """n cut into as few equal parts of at most `most` as it takes: the length of a part."""
    most = max(1, min(n, most))
    return -(-n // -(-n // most))


def _in_place(p: Problem) -> bool:
    """Whether x can be read where it lies: nothing is padded, and channels do not compete for the same lines of cache."""
    for size, k, n, s, d, lo in zip(p.sizes, p.kernel, p.positions, p.stride, p.dilation, p.lo, strict=True):
        if lo > 0 or (n - 1) * s + (k - 1) * d - lo >= size:
            return False
    return p.channels < 16 or p.x_strides[2] * p.itemsize % 4096 != 0


def _slab_sizes(p: Problem, block: tuple[int, ...], channels: int, taps: int) -> tuple[int, ...]:
    kernel = (taps, *p.kernel[1:])
    axes = [(b - 1) * s + (k - 1) * d + 1 for b, s, k, d in zip(block[1:], p.stride, kernel, p.dilation, strict=True)]
    return (block[0], channels, *axes)


def _slab_strides(sizes: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [1]
    for n in reversed(sizes[1:]):
        strides.insert(0, strides[0] * n)
    line = 64 // itemsize
    if strides[1] * itemsize % 4096 < 64:  # channels that collide in the cache
        strides[1] += line
        strides[0] = strides[1] * sizes[1]
    return tuple(strides)


def boxes(extents: tuple[int, ...], most: int) -> Iterator[tuple[int, ...]]:
    """Boxes of at most `most` points: an axis is covered in part only where all axes outside it have length one."""
    inner = 1
    for axis in reversed(range(len(extents))):
        for n in range(1, min(extents[axis], most // inner) + 1):
            if n > 1 or axis == len(extents) - 1:
                yield (1,) * axis + (n,) + extents[axis + 1 :]
        inner *= extents[axis]
        if inner > most:
            return


Choice = tuple[tuple[int, ...], int, int, bool]  # tile, vectors, width, along


def choose_tile(p: Problem, lanes: int, registers: int) -> Choice:
    """The tile with the least estimated time; see `gemm.choose_tile`."""
    return tile_and_cost(p, lanes, registers)[1]


def tile_and_cost(p: Problem, lanes: int, registers: int) -> tuple[float, Choice]:
    """That tile, and how many cycles the sums of one group take with it."""
    return min(itertools.chain(_across(p, lanes, registers), _along(p, lanes, registers)), key=lambda found: found[0])


def _across(p: Problem, lanes: int, registers: int) -> Iterator[tuple[float, Choice]]:
    """Tiles with output channels in the lanes."""
    extents = (p.images, *p.positions)
    for vectors in range(1, min(4, -(-p.outputs // lanes)) + 1):
        panels = -(-p.outputs // (vectors * lanes))
        for box in boxes(extents, (registers - 1 - vectors) // vectors):
            rows = math.prod(box)
            held = rows * vectors
            step = max(held / 2, (rows + vectors) / 2, 4.0) + 0.25
            tiles = panels * math.prod(-(-n // t) for n, t in zip(extents, box, strict=True))
            runs = rows // (math.prod(box[1:]))  # stores for each channel
            cost = tiles * (p.channels * p.taps * step + 4.0 * held + 2.0 * runs * vectors * lanes + 40)
            yield cost, (box, vectors, vectors * lanes, False)


def _along(p: Problem, lanes: int, registers: int) -> Iterator[tuple[float, Choice]]:
    """Tiles with positions of a row in the lanes, which need them side by side in x; good for few output channels."""
    if p.stride[-1] != 1 or (p.x_strides[-1] != 1 and p.sizes[-1] > 1):
        return
    length = p.positions[-1]
    height = p.positions[-2] if len(p.positions) > 1 else 1
    others = p.images * p.area // (length * height)
    for parts in range(-(-length // (4 * lanes)), -(-length // lanes) + 1):
        part = -(-length // parts)
        vectors = -(-part // lanes)
        for high in range(1, height + 1):
            most = (registers - 1) // (high * vectors) - 1
            for width in range(1, min(most, p.outputs) + 1):
                held = width * high * vectors
                step = max(held / 2, (width + 2 * high * vectors) / 2, 4.0) + 0.25
                tiles = others * parts * -(-height // high) * -(-p.outputs // width)
                tile = (1, part) if len(p.positions) == 1 else (1,) * (len(p.positions) - 1) + (high, part)
                yield tiles * (p.channels * p.taps * step + 2.0 * held + 30), (tile, vectors, width, True)
            if most < 1:
                break
