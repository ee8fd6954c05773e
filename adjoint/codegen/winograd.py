"""Convolutions of 3 x 3 taps by fewer multiplications: LLVM IR for the plans of `winograd_plan`.

Along one axis two outputs of three taps are three sums of four products (S. Winograd, Arithmetic Complexity of
Computations, 1980): with d0 .. d3 of x and taps g0, g1, g2

    m0 = (d0 - d2) g0               m1 = (d1 + d2) (g0 + g1 + g2) / 2        y0 = m0 + m1 + m2
    m3 = (d1 - d3) g2               m2 = (d2 - d1) (g0 - g1 + g2) / 2        y1 = m1 - m2 - m3

and along both axes, one inside the other, four outputs are sums of 16 products instead of 36. The products of one
kind (a *frequency*) over all channels are matrix products, which take nearly all of the time; they are those of
`gemm_tile`. Tiles lie in the lanes throughout: of the vectors of a row of x the even and the odd elements are taken
apart, and put together again in y.

An output depends on its own window alone, as by the definition. But the transforms add elements before they are
multiplied, by weights that may be small or zero. Where one is infinite, or so large that a sum of two overflows, the
result may be NaN where that of the definition is not; and the rounding of a large one may exceed all that the definition
makes of it. So outputs that are not finite are computed again by the definition, and so are sums that a few products
dominate (channels with few weights that count, tiles with few elements that do). In all others these roundings are
small beside those of the sum, which has fewer terms one behind the other than by the definition.

Kernels: the weights are transformed, then units of tiles go through all three stages while what they hold stays in the
L2 cache. Read `winograd_kernel`, then `_Winograd.write`.
"""

from __future__ import annotations

from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_tile import sum_over_k
from adjoint.codegen.gemm_words import (
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
    store,
    times,
)
from adjoint.codegen.winograd_input import Inputs
from adjoint.codegen.winograd_output import Outputs
from adjoint.codegen.winograd_plan import FREQUENCIES, WinogradPlan
from adjoint.codegen.winograd_weights import weights_kernel


def winograd_kernel(name: str, p: Problem, plan: WinogradPlan) -> Gemm:
    """The kernels of a convolution, in order. Buffers: 0 = x, 1 = w, then the bias if there is one, y, scratch."""
    return Gemm((weights_kernel(f"{name}_weights", p, plan), _Winograd(p, plan).write(name)), plan.scratch_bytes)


class _Winograd:
    """Writes the kernel that computes: loops over blocks and units; in a unit input, products and output in turn."""

    def __init__(self, p: Problem, plan: WinogradPlan) -> None:
        self.p, self.plan = p, plan
        self.shape = Shape("float", p.itemsize, plan.lanes, 1, 0, 0, p.channels)
        self.em = Emitter()

    def write(self, name: str) -> Phase:
        em, p, plan = self.em, self.p, self.plan
        y, scratch = (3, 4) if p.bias else (2, 3)
        places = (0, plan.claims_at, plan.marks_at, plan.slabs_at)
        self.weights, claims, marks, slabs = (buffer_address(em, Operand(scratch, 0, 0, 1, offset=n)) for n in places)
        result = buffer_address(em, Operand(y, 0, 0, 1))
        slab = _claim(em, claims)
        self.transformed = element_address(em, self.shape, slabs, times(em, slab, plan.slab_size))
        self.products = element_address(em, self.shape, self.transformed, str(plan.products_at))
        self.inputs = Inputs(em, self.shape, p, plan, self.transformed)
        self.outputs = Outputs(em, self.shape, p, plan, self.inputs, self.products, result, marks)
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, plan.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {plan.group}"), plan.units)) as unit:
                self._unit(unit)
        _release(em, claims, slab)
        return phase_of(name, em, plan.nblocks)

    def _unit(self, unit: str) -> None:
        em, p, plan = self.em, self.p, self.plan
        first = times(em, unit, plan.tall)
        count = minimum(em, em.op(f"sub i64 {p.images * plan.down}, {first}"), plan.tall)
        self.inputs.clear()
        with loop(em, "0", str(p.channels)) as c, loop(em, "0", count) as i:
            image, row = divide(em, plus(em, first, i), plan.down)
            self.inputs.write(image, row, c, i)
        self.inputs.judge()
        bundles = -(-plan.panels // plan.bundle)
        with loop(em, "0", str(bundles)) as bundle:
            panel = times(em, bundle, plan.bundle)
            panels = minimum(em, em.op(f"sub i64 {plan.panels}, {panel}"), plan.bundle)
            with loop(em, "0", str(FREQUENCIES)) as frequency:
                self._multiply(frequency, panel, panels)
            start = times(em, panel, plan.rows)
            rows = minimum(em, em.op(f"sub i64 {p.outputs}, {start}"), plan.rows * plan.bundle)
            with loop(em, "0", rows) as r, loop(em, "0", count) as i:
                image, row = divide(em, plus(em, first, i), plan.down)
                self.outputs.write(image, row, plus(em, start, r), r, i)

    def _multiply(self, frequency: str, first: str, panels: str) -> None:
        """The products of one frequency: some panels of output channels by all tiles of the unit."""
        em, p, plan, shape = self.em, self.p, self.plan, self.shape
        step = p.channels * plan.rows
        a = element_address(em, shape, self.weights, times(em, frequency, plan.weight_step), times(em, first, step))
        b = element_address(em, shape, self.transformed, times(em, frequency, plan.input_step))
        to = element_address(em, shape, self.products, times(em, frequency, plan.product_step))
        at = 0
        for vectors in dict.fromkeys(plan.groups):
            many = plan.groups.count(vectors)
            width = vectors * plan.lanes

            def tile(number: str, start: int = at, vectors: int = vectors, width: int = width) -> None:
                column = plus(em, times(em, number, width), str(start))
                b_tile = element_address(em, shape, b, column)
                masks = [None] * vectors
                with loop(em, "0", panels) as panel:
                    a_tile = element_address(em, shape, a, times(em, panel, step))
                    sums = sum_over_k(
                        em, shape, plan.rows, a_tile, (1, plan.rows), b_tile, plan.length, masks, "0", str(p.channels)
                    )
                    c_tile = element_address(em, shape, to, column, times(em, panel, plan.rows * plan.length))
                    for k, value in enumerate(sums):
                        r, v = divmod(k, vectors)
                        at = element_address(em, shape, c_tile, str(r * plan.length + v * plan.lanes))
                        store(em, shape, value, at)

            if many == 1:
                tile("0")
            else:
                with loop(em, "0", str(many)) as number:
                    tile(number)
            at += many * width


def _claim(em: Emitter, word: str) -> str:
    """The number of a slab that nobody else has until `_release`; there are as many as blocks, so one is free."""
    em.declare("i64 @llvm.cttz.i64(i64, i1 immarg)")
    before, head, claimed = em.block, em.fresh_label("claim"), em.fresh_label("claimed")
    first = em.op(f"load atomic i64, ptr {word} monotonic, align 8")
    em.line(f"br label %{head}")
    em.label(head)
    held, seen = em.name("held"), em.name("seen")
    em.line(f"{held} = phi i64 [ {first}, %{before} ], [ {seen}, %{head} ]")
    free = em.op(f"xor i64 {held}, -1")
    slab = em.op(f"call i64 @llvm.cttz.i64(i64 {free}, i1 true)")
    mine = em.op(f"or i64 {held}, {em.op(f'shl i64 1, {slab}')}")
    pair = em.op(f"cmpxchg ptr {word}, i64 {held}, i64 {mine} acquire monotonic")
    em.line(f"{seen} = extractvalue {{ i64, i1 }} {pair}, 0")
    done = em.op(f"extractvalue {{ i64, i1 }} {pair}, 1")
    em.line(f"br i1 {done}, label %{claimed}, label %{head}")
    em.label(claimed)
    return slab


def _release(em: Emitter, word: str, slab: str) -> None:
    others = em.op(f"xor i64 {em.op(f'shl i64 1, {slab}')}, -1")
    em.op(f"atomicrmw and ptr {word}, i64 {others} release")
