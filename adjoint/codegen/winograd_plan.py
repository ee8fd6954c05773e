"""Convolutions of 3 x 3 taps by fewer multiplications: when they pay, and how they are cut up.

Two by two outputs need 36 products by the definition and 16 here (A. Lavin and S. Gray, Fast Algorithms for
Convolutional Neural Networks, CVPR 2016, section 4.1, F(2x2, 3x3)). Owns `WinogradPlan`. Read `winograd_plan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adjoint.codegen.conv_plan import MOST_SLABS, Problem
from adjoint.codegen.gemm_words import LEAST_WORK

FREQUENCIES = 16  # products for a tile
LINE = 16  # elements in a line of the cache
SMALL = 1 << 21  # multiply-adds below which the direct kernel is as good
LEAST_CHANNELS, LEAST_OUTPUTS = 32, 16  # sums must be long: sparse input of few channels is mostly computed by the definition
LEAST_GAIN = 1.15  # over the direct kernel, as estimated
MOST_ROWS = 32  # of tiles in a unit
MOST_INPUT = 1 << 20  # bytes of transformed input of a unit
MOST_PRODUCTS = 1 << 18  # bytes of products held at a time
NEAR = 5 << 17  # bytes that stay in the L2 cache between two stages
FAR_LINE, MEMORY_LINE = 1.5, 13.0  # cycles to fetch a line that does not, and one that no cache holds
MOST_FAR = 1 << 23  # bytes that the last cache holds
INPUT_CYCLES, OUTPUT_CYCLES, WEIGHT_CYCLES = 100, 75, 12  # of a transform, for a vector of tiles or for one output and channel


@dataclass(frozen=True, slots=True)
class WinogradPlan:
    """How a convolution is cut up.

    A tile is 2 x 2 positions. An image has `down` rows of `across` tiles; a unit of work is `tall` such rows, which may
    belong to several images, and all output channels. For each of 16 frequencies it multiplies matrices: `panels` of
    `rows` output channels, by `channels`, by as many tiles as the `groups` say, vectors of tiles for each register tile.
    The products of `bundle` panels are held at a time. length: elements of a row of tiles in the transformed input and in
    the products, with room for the last vector.  wide: elements of a row of x.  group units make one of nblocks blocks.
    """

    lanes: int
    channels: int
    rows: int
    groups: tuple[int, ...]
    down: int
    across: int
    tall: int
    wide: int
    length: int
    panels: int
    bundle: int
    units: int
    group: int
    nblocks: int

    @property
    def input_step(self) -> int:
        """Elements from one frequency of the transformed input to the next, such that they do not compete in the cache."""
        return self.channels * self.length + LINE

    @property
    def product_step(self) -> int:
        return self.bundle * self.rows * self.length + LINE

    @property
    def weight_step(self) -> int:
        return self.panels * self.channels * self.rows + LINE

    @property
    def row_length(self) -> int:
        """Elements of a row of tiles, in whole vectors."""
        return -(-self.across // self.lanes) * self.lanes

    # A slab: transformed input, products of a bundle, two numbers for each tile, one vector, a row of zeros.

    @property
    def products_at(self) -> int:
        return FREQUENCIES * self.input_step

    @property
    def counts_at(self) -> int:
        return self.products_at + FREQUENCIES * self.product_step

    @property
    def check_at(self) -> int:
        return self.counts_at + 2 * self.tall * self.row_length

    @property
    def zeros_at(self) -> int:
        return self.check_at + self.lanes

    @property
    def slab_size(self) -> int:
        """Elements."""
        return -(-(self.zeros_at + self.wide) // LINE) * LINE

    # Scratch memory: transformed weights; a word with a bit for each slab that is in use; for each output channel whether
    # it is to be exact, with room for a whole panel; slabs.

    @property
    def claims_at(self) -> int:
        return -(-FREQUENCIES * self.weight_step * 4 // 64) * 64

    @property
    def marks_at(self) -> int:
        return self.claims_at + 64

    @property
    def slabs_at(self) -> int:
        return self.marks_at + -(-self.panels * self.rows // 64) * 64

    @property
    def scratch_bytes(self) -> int:
        return self.slabs_at + self.nblocks * self.slab_size * 4


def winograd_plan(p: Problem, lanes: int, registers: int) -> WinogradPlan | None:
    """How to compute p with fewer products, or None where the direct kernel is better or the only one."""
    if not can(p, lanes) or p.work < SMALL or p.channels < LEAST_CHANNELS or p.outputs < LEAST_OUTPUTS:
        return None
    most = 1.1 * p.work / (2 * lanes) / LEAST_GAIN
    tiles = p.images * -(-p.positions[0] // 2) * -(-p.positions[1] // 2)
    if tiles * FREQUENCIES * p.channels * p.outputs / (2 * lanes) > most:
        return None  # whatever the plan
    cost, plan = best_plan(p, lanes, registers)
    return plan if cost < most else None


def can(p: Problem, lanes: int) -> bool:
    """Whether this way of computing is there for a problem: 3 x 3 taps side by side, rows of x that vectors can read."""
    simple = p.kernel == (3, 3) and p.stride == p.dilation == (1, 1) and p.groups == 1 and p.dtype == "float32"
    return simple and lanes >= 8 and (p.x_strides[-1] == 1 or p.sizes[1] == 1)


def best_plan(p: Problem, lanes: int, registers: int) -> tuple[float, WinogradPlan]:
    """The plan with the least estimated time, in cycles, and that time; counted as in `gemm.choose_tile`."""
    return min(_plans(p, lanes, registers), key=lambda found: found[0])


def _plans(p: Problem, lanes: int, registers: int) -> Iterator[tuple[float, WinogradPlan]]:
    down, across = -(-p.positions[0] // 2), -(-p.positions[1] // 2)
    all_rows, pieces = p.images * down, -(-across // lanes)
    most = MOST_INPUT // (FREQUENCIES * p.channels * p.itemsize * across)
    for tall in range(1, max(1, min(most, all_rows, MOST_ROWS)) + 1):
        units = -(-all_rows // tall)
        group = max(1, LEAST_WORK // (4 * tall * across * p.outputs * p.channels * p.taps), -(-units // MOST_SLABS))
        nblocks = -(-units // group)
        transforms = tall * pieces * (INPUT_CYCLES * p.channels + OUTPUT_CYCLES * p.outputs)
        for rows, groups in _register_tiles(p.outputs, -(-tall * across // lanes), registers):
            panels, vectors = -(-p.outputs // rows), sum(groups)
            steps = sum(max(rows * v / 2, (rows + v) / 2, 4.0) + 0.25 for v in groups)
            products = FREQUENCIES * panels * (p.channels * steps + 15 * len(groups) + 1.5 * rows * vectors)
            length = (-(-(vectors + 1) * lanes // LINE) | 1) * LINE  # an odd number of lines, which spread over the cache
            bundle = max(1, min(panels, MOST_PRODUCTS // (FREQUENCIES * rows * length * p.itemsize)))
            plan = WinogradPlan(
                lanes, p.channels, rows, groups, down, across, tall, p.sizes[1], length, panels, bundle, units, group, nblocks
            )  # fmt: skip
            # Lines that come from beyond the second cache: weights for each unit, input for each bundle.
            weights = plan.weight_step * FREQUENCIES * p.itemsize
            far = max(0, weights - NEAR) // 64 * (FAR_LINE if weights < MOST_FAR else MEMORY_LINE)
            far += max(0, plan.slab_size * p.itemsize - NEAR) // 64 * FAR_LINE * (2 + -(-panels // bundle))
            cost = units * (products + transforms + far) + WEIGHT_CYCLES * p.channels * p.outputs
            # The more blocks, the less the last one keeps others waiting.
            yield cost * (1 + 0.25 / nblocks), plan


def _register_tiles(outputs: int, vectors: int, registers: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Output channels by vectors of tiles, cut into parts of nearly the same length."""
    for most in range(1, min(4, vectors) + 1):
        parts = -(-vectors // most)
        groups = tuple(-(-(vectors - i) // parts) for i in range(parts))
        for rows in range(min(2, outputs), min(14, outputs, (registers - 1) // groups[0] - 1) + 1):
            yield rows, groups
