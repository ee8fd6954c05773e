"""What convolutions become before they are computed: weights are read where they lie, in whatever direction.

The kernels of each program are counted by name: a copy of the weights costs as much as packing them and is seen nowhere else.
"""

from __future__ import annotations

from collections import Counter

import pytest
from sketch import Sketch

import adjoint as torch
from adjoint.ir.graph import Node
from adjoint.runtime import jit
from adjoint.trace import state
from adjoint.trace.lower import Recorded

pytestmark = pytest.mark.skipif(not jit.available(), reason="no LLVM here")


class Convolutions(Sketch):
    def turned(self, w: Node) -> Node:
        """Weights as the derivative in x meets them: axes 0 and 1 exchanged, taps from the last to the first."""
        axes = range(2, len(w.shape))
        return self.b.node("permute", self.b.node("flip", w, attrs=tuple(axes)), attrs=(1, 0, *axes))

    def convolved(self, x: Node, w: Node, lo: int, hi: int, steps: int = 1, groups: int = 1) -> Node:
        n = len(x.shape) - 2
        return self.b.node("convolve", x, w, attrs=((1,) * n, (lo,) * n, (hi,) * n, (steps,) * n, (1,) * n, groups))

    def check(self, out: Node, kernels: dict[str, int]) -> None:
        assert Counter(self.kernels(out)) == kernels


def test_turned_weights() -> None:
    """Packing and the kernel, and nothing before them."""
    s = Convolutions()
    s.check(s.convolved(s.input(2, 24, 9, 9), s.turned(s.input(24, 20, 3, 3)), 1, 1), {"convolve": 2})


def test_turned_weights_of_a_long_sum() -> None:
    """It is cut into pieces, which one nest adds."""
    s = Convolutions()
    s.check(s.convolved(s.input(2, 256, 9, 9), s.turned(s.input(256, 20, 3, 3)), 1, 1), {"convolve": 2, "reshape": 1})


def test_phases_of_turned_weights() -> None:
    """Four convolutions, each with every other tap in both directions, put together by one nest."""
    s = Convolutions()
    s.check(s.convolved(s.input(2, 24, 9, 9), s.turned(s.input(24, 20, 5, 5)), 2, 2, steps=2), {"convolve": 8, "add": 1})


def test_phases_of_a_long_sum() -> None:
    s = Convolutions()
    s.check(s.convolved(s.input(2, 128, 6, 6), s.turned(s.input(128, 20, 9, 9)), 4, 4, steps=2), {"convolve": 8, "add": 1})


def test_fewer_multiplications() -> None:
    s = Convolutions()
    s.check(s.convolved(s.input(4, 64, 32, 32), s.turned(s.input(64, 64, 3, 3)), 1, 1), {"convolve": 2})


def test_windows_along_rows() -> None:
    """Few output channels: the weights are not packed."""
    s = Convolutions()
    s.check(s.convolved(s.input(2, 24, 30, 61), s.turned(s.input(24, 3, 3, 3)), 1, 1), {"convolve": 1})


def test_one_axis_in_the_other_direction() -> None:
    s = Convolutions()
    w = s.b.node("flip", s.input(20, 24, 3, 5), attrs=(3,))
    s.check(s.convolved(s.input(2, 24, 9, 9), w, 2, 2), {"convolve": 2})


def test_a_part_of_weights() -> None:
    s = Convolutions()
    w = s.b.node("slice", s.input(32, 48, 5, 3), attrs=((8, 20, 1, 0), (20, 24, 2, 3), (1, 1, 2, 1)))
    s.check(s.convolved(s.input(2, 24, 9, 9), w, 1, 1), {"convolve": 2})


def test_groups() -> None:
    """Turned within each group: the axes of a group are exchanged, and the group stays outside."""
    s, groups, rest = Convolutions(), 3, (8, 20, 3, 3)
    w = s.b.node("flip", s.input(groups * 8, 20, 3, 3), attrs=(2, 3))
    apart = s.b.node("permute", s.b.node("reshape", w, attrs=(groups, *rest)), attrs=(0, 2, 1, 3, 4))
    joined = s.b.node("reshape", apart, attrs=(groups * 20, 8, 3, 3))
    s.check(s.convolved(s.input(2, groups * 8, 9, 9), joined, 1, 1, groups=groups), {"convolve": 2})


@pytest.mark.skipif(torch.is_eager(), reason="nothing is put off")
@pytest.mark.parametrize("groups", [1, 2])
def test_the_gradient_of_a_transposed_convolution_in_its_weight(groups: int) -> None:
    """One convolution whose taps lie apart, not one for each phase of an input whose elements do."""
    x, w = torch.ones(2, 24, 6, 6), torch.ones(24, 20, 4, 4, requires_grad=True)
    (found,) = torch.autograd.grad(torch.nn.functional.conv_transpose2d(x, w, stride=2, padding=1, groups=groups).sum(), w)
    graph = Recorded(state.local.trace.node, (found._slot,)).graph()
    (node,) = [node for node in graph.nodes if node.prim.name == "convolve"]
    _, _, _, steps, dilations, _ = node.attrs
    assert (steps, dilations) == ((1, 1), (2, 2))
    assert found.sum().item() == pytest.approx(2 * 36 * 24 * 20 * 16 * (11 / 12) ** 2)
