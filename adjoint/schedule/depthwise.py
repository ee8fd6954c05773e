"""Convolutions with one output channel in each group (depthwise ones): which of three kernels fits, by shapes and where x lies.

Whose rows lie side by side in memory fill vectors with positions of a row (`Rows`) or, for gradients of weights, whose taps are
many and positions few, with taps of a row (`Taps`). Images with the channels last fill them with groups, which become the last
axis of all operands (`last`). Read `kind_of`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adjoint.ir.graph import Node

MOST_TAPS = 81  # of the last two axes, which are written out
FEWEST_BESIDE = 4  # positions, or taps, of a row that fill a vector: of fewer most lanes would be empty
MOST_ACROSS = 9  # positions of an axis, each of which is a register, where taps fill vectors
MOST_SUMS = 144  # positions of the last two axes that are written out, in all tiles, where taps are not
FEWEST_GROUPS = 4


@dataclass(frozen=True, slots=True)
class Axis:
    """Positions along an axis: p and tap k meet element (p * stride + k * dilation - lo) / step of `size`, if there is one."""

    positions: int
    size: int
    kernel: int
    stride: int
    dilation: int
    lo: int
    step: int = 1

    def at(self, position: int, tap: int) -> int:
        """That element, which may lie beside x; -1 between two of them."""
        whole, rest = divmod(position * self.stride + tap * self.dilation - self.lo, self.step)
        return -1 if rest else whole

    def meets(self, position: int, tap: int) -> bool:
        return 0 <= self.at(position, tap) < self.size

    @property
    def all_meet(self) -> bool:
        """Whether some tap meets x at each position: then a loop over those that do is never empty."""
        return self.step == 1 and all(any(self.meets(n, k) for k in range(self.kernel)) for n in range(self.positions))


ALONE = Axis(1, 1, 1, 1, 1, 0)  # an axis that is not there


def axes_of(node: Node) -> list[Axis]:
    """Of a convolution."""
    strides, lo, _, steps, dilations, _ = node.attrs
    x, w = node.args[:2]
    return [Axis(*row) for row in zip(node.shape[2:], x.shape[2:], w.shape[2:], strides, dilations, lo, steps, strict=True)]


def last_two(axes: Sequence[Axis]) -> tuple[list[Axis], Axis, Axis]:
    """The axes before the last two, and these."""
    *outer, down, across = [ALONE, ALONE, *axes]
    return outer[len(outer) - max(0, len(axes) - 2) :], down, across


def fit_rows(axes: Sequence[Axis], channels: int = 1) -> bool:
    """Whether positions of a row can fill vectors, and all taps of the last two axes be written out; with several channels in a group
    only where taps cannot (`fit_taps`)."""
    outer, down, across = last_two(axes)
    if channels > 1 and fit_taps(axes):
        return False
    if across.positions < FEWEST_BESIDE or across.stride > 2 or across.step > 2 or down.kernel * across.kernel > MOST_TAPS:
        return False
    return not any(axis.step > 1 and axis.stride > 1 for axis in (down, across)) and all(axis.all_meet for axis in outer)


def fit_taps(axes: Sequence[Axis]) -> bool:
    """Whether taps of a row can fill vectors, and positions of the last two axes be written out."""
    outer, down, across = last_two(axes)
    if across.kernel < FEWEST_BESIDE or across.dilation > 2 or max(down.positions, across.positions) > MOST_ACROSS:
        return False
    return all(axis.step == 1 for axis in axes) and all(axis.all_meet for axis in outer)


def fit_groups(axes: Sequence[Axis]) -> bool:
    """Whether taps, or else positions, of the last two axes can be written out."""
    outer, down, across = last_two(axes)
    if not all(axis.all_meet for axis in outer) or any(axis.step > 1 and axis.stride > 1 for axis in (down, across)):
        return False
    if down.kernel * across.kernel <= MOST_TAPS:
        return True
    return down.step == across.step == 1 and down.positions * across.positions <= MOST_SUMS


def kind_of(node: Node, groups_beside: bool) -> str:
    """The kernel for a convolution: "rows", "taps", "last", or "" if it is none of these. groups_beside: whether the groups of x lie
    side by side."""
    groups, w = node.attrs[-1], node.args[1]
    if w.shape[0] != groups:
        return ""
    axes = axes_of(node)
    if groups_beside and groups >= FEWEST_GROUPS and fit_groups(axes):
        return "last"
    if fit_rows(axes, w.shape[1]):
        return "rows"
    return "taps" if fit_taps(axes) and math.prod(w.shape[1:]) > 1 else ""
