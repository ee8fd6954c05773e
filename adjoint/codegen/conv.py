"""Convolutions: LLVM IR for the problems of `conv_plan`, specialised to one set of shapes and strides.

The product is the one of `gemm_tile`, with the roles given anew. A tile of y is some positions by some vectors of output
channels and stays in registers: at each step of the sum, `vectors` registers of packed weights meet one broadcast
element of x for each position. (With few output channels vectors lie along the rows of x instead, and it is the weights
that are broadcast.) So no window is ever written down: the elements of a window are at fixed distances from its
position, and x is read where it lies. Only where windows reach over an edge (or channels compete for the same lines
of the cache) each unit of work first copies its part of x, with zeros around it, into scratch memory that stays in the
L2 cache. A finished tile is transposed in registers, so that y is written along its rows. Few positions of long rows of taps,
as in gradients of weights, are summed along the taps instead (`conv_taps`).

Kernels: `pack_weights` copies w into panels of `width` output channels, then `convolve_kernel` computes. The order in
which products are added is that of (channel, kernel) in pieces of fixed size, whatever threads there are.

Read `conv_kernel`, then `_Convolution.write`.
"""

from __future__ import annotations

from contextlib import ExitStack

from adjoint.codegen.conv_depth import depth_kernel, depth_plan
from adjoint.codegen.conv_depth_weights import weights_kernel, weights_plan
from adjoint.codegen.conv_pack import copy_slab, pack_weights
from adjoint.codegen.conv_plan import Plan, Problem, make_plan
from adjoint.codegen.conv_taps import taps_kernel, taps_plan
from adjoint.codegen.conv_tile import RowTile, Tile
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    ELEMENTS,
    Emitter,
    Operand,
    Phase,
    Shape,
    buffer_address,
    divide,
    element_address,
    loop,
    minimum,
    phase_of,
    plus,
    times,
)

__all__ = ["Problem", "conv_kernel", "make_plan"]


def conv_kernel(name: str, problem: Problem, *, vector_bytes: int = 64, registers: int | None = None) -> Gemm:
    """The kernels of a convolution, in order. Buffers: 0 = x, 1 = w, then the bias if there is one, y, scratch.

    KeyError for another dtype than those of matrix products.
    """
    lanes = vector_bytes // problem.itemsize
    registers = registers or (32 if vector_bytes == 64 else 16)
    depth = depth_plan(problem, lanes, registers)
    if depth is not None:
        return depth_kernel(name, problem, depth)
    weights = weights_plan(problem, lanes, registers)
    if weights is not None:
        return weights_kernel(name, problem, weights)
    along_taps = taps_plan(problem, lanes, registers)
    if along_taps is not None:
        return taps_kernel(name, problem, along_taps)
    plan = make_plan(problem, lanes, registers)
    phases: list[Phase] = []
    packed_bytes = 0
    if not plan.along:
        packing, packed_bytes = pack_weights(f"{name}_pack", problem, plan, 4 if problem.bias else 3)
        phases.append(packing)
    phases.append(_Convolution(problem, plan, packed_bytes).write(name))
    slabs = 0 if plan.in_place else plan.nblocks * plan.slab_size * problem.itemsize
    return Gemm(tuple(phases), packed_bytes + slabs)


class _Convolution:
    """Writes the kernel that computes: loops over blocks, units, pieces of the sum, panels and tiles."""

    def __init__(self, problem: Problem, plan: Plan, packed_bytes: int) -> None:
        self.p, self.plan, self.packed_bytes = problem, plan, packed_bytes
        element, itemsize = ELEMENTS[problem.dtype]
        self.shape = Shape(element, itemsize, plan.lanes, 1, 0, 0, 0)
        self.em = Emitter()

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        y, scratch = (3, 4) if p.bias else (2, 3)
        self.x = buffer_address(em, Operand(0, 0, 0, 1))
        self.weights = buffer_address(em, p.weights if plan.along else Operand(scratch, 0, 0, 1))
        bias = buffer_address(em, Operand(2, 0, 0, 1)) if p.bias else None
        if not plan.in_place:
            slabs = buffer_address(em, Operand(scratch, 0, 0, 1, offset=self.packed_bytes))
            # One slab for each call, named after its first block: no other call has that block.
            self.slab = element_address(em, self.shape, slabs, times(em, "%lo", plan.slab_size))
        self.tile = (RowTile if plan.along else Tile)(em, self.shape, p, plan, buffer_address(em, Operand(y, 0, 0, 1)), bias)
        total = 1
        for n in plan.units:
            total *= n
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, plan.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {plan.group}"), total)) as unit:
                self._unit(unit)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str) -> None:
        em, p, plan = self.em, self.p, self.plan
        rest, self.band = divide(em, unit, plan.units[3])
        rest, self.batch = divide(em, rest, plan.units[2])
        self.g, self.part = divide(em, rest, plan.units[1])
        # Where the slab starts: the last block of an axis is moved back, so that all have the same size.
        self.image = self._start(self.batch, plan.block[0], p.images)
        self.row = self._start(self.band, plan.block[1], p.positions[0])
        by_channels, by_taps = plan.pieces(p)
        if by_channels * by_taps == 1:
            self._piece("0", "0", str(p.channels), str(p.kernel[0]), None)
            return
        with loop(em, "0", str(by_channels * by_taps)) as number:
            c, k = divide(em, number, by_taps)
            c, k = times(em, c, plan.channels), times(em, k, plan.taps)
            c_count = minimum(em, em.op(f"sub i64 {p.channels}, {c}"), plan.channels)
            k_count = minimum(em, em.op(f"sub i64 {p.kernel[0]}, {k}"), plan.taps)
            self._piece(c, k, c_count, k_count, number)

    def _start(self, number: str, size: int, extent: int) -> str:
        start = times(self.em, number, size)
        return start if extent % size == 0 else minimum(self.em, start, extent - size)

    def _piece(self, c: str, k: str, c_count: str, k_count: str, number: str | None) -> None:
        """One piece of the sum: channels from c, steps of the first kernel axis from k."""
        em, p, plan = self.em, self.p, self.plan
        if plan.in_place:
            strides = p.x_strides[:1] + p.x_strides[2:]
            start = [times(em, self.g, p.x_strides[1]), times(em, c, p.x_strides[2])]
            start += [times(em, self.image, strides[0]), times(em, self.row, p.stride[0] * strides[2])]
            start += [times(em, k, p.dilation[0] * strides[2])]
            start.append(str(sum(-lo * s for lo, s in zip(p.lo, strides[2:], strict=True))))
            source = element_address(em, self.shape, self.x, *start)
        else:
            strides, source = plan.slab_strides, self.slab
            copy_slab(em, self.shape, p, plan, self.x, self.slab, self.g, self.image, self.row, c, k, c_count)
        row_taps = p.taps // p.kernel[0]
        across = -(-p.outputs // plan.width)
        panel_from = times(em, self.part, plan.panels)
        panel_to = str(across)
        if plan.units[1] > 1:
            panel_to = minimum(em, em.op(f"add i64 {panel_from}, {plan.panels}"), across)
        with loop(em, panel_from, panel_to) as panel, ExitStack() as stack:
            if plan.along:
                column = self._start(panel, plan.width, p.outputs)
                where = plus(em, times(em, self.g, p.w_strides[0]), times(em, column, p.w_strides[1]))
            else:
                column = times(em, panel, plan.width)
                matrix = plus(em, times(em, self.g, across), panel)
                step = plus(em, times(em, c, p.taps), times(em, k, row_taps))
                where = plus(em, times(em, matrix, p.channels * p.taps * plan.width), times(em, step, plan.width))
            weights = element_address(em, self.shape, self.weights, where)
            # First element of the window, and where the tile starts in y, axis by axis.
            at, starts, nominal = [], [], []
            for axis, (extent, t) in enumerate(zip((p.images, *p.positions), plan.tile, strict=True)):
                tiles = -(-extent // t)
                if axis < 2 and plan.units[2 + axis] > 1:
                    per_block = plan.block[axis] // t
                    begin = times(em, (self.batch, self.band)[axis], per_block)
                    index = stack.enter_context(
                        loop(em, begin, minimum(em, em.op(f"add i64 {begin}, {per_block}"), tiles))
                    )
                else:
                    index = stack.enter_context(loop(em, "0", str(tiles))) if tiles > 1 else "0"
                nominal.append(times(em, index, t))
                starts.append(self._start(index, t, extent))
                origin = (self.image, self.row)[axis] if axis < 2 else "0"
                local = starts[-1] if origin == "0" else em.op(f"sub i64 {starts[-1]}, {origin}")
                stride = strides[0] if axis == 0 else strides[axis + 1] * p.stride[axis - 1]
                at.append(times(em, local, stride))
            corner = element_address(em, self.shape, source, *at)
            self.tile.write(corner, strides, weights, c_count, k_count, number, self.g, column, starts, nominal)
