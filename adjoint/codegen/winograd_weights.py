"""The kernel with which `winograd` begins: it transforms the weights, and finds out which outputs should be exact.

A sum of many products hides the rounding of the transforms; that of a few taps (a filter that only shifts or copies)
does not, since the transforms add neighbours that it does not ask for. Output channels of few weights that count are
marked, to be computed by the definition. Read `weights_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence

from adjoint.codegen.conv_plan import Problem
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.gemm_words import (
    Emitter,
    Operand,
    Phase,
    Shape,
    add,
    buffer_address,
    element_address,
    load,
    loop,
    minimum,
    phase_of,
    plus,
    store,
    times,
)
from adjoint.codegen.winograd_plan import WinogradPlan
from adjoint.codegen.winograd_words import both_axes, larger, subtract

FEW_TAPS = 8.0  # sums of absolute weights below so many times the largest are exact


def weights_kernel(name: str, p: Problem, plan: WinogradPlan) -> Phase:
    """Transformed weights at the start of scratch, as [frequency][panel][channel][row]; behind them the marks.

    Rows past the last output channel hold copies of it: what is computed of them is never stored.
    """
    em, scratch = Emitter(), 4 if p.bias else 3
    shape = Shape("float", p.itemsize, plan.rows, 1, 0, 0, 0)
    vec = vector_type(shape.element, shape.lanes)
    source, target = buffer_address(em, p.weights), buffer_address(em, Operand(scratch, 0, 0, 1))
    claims, marks = (buffer_address(em, Operand(scratch, 0, 0, 1, offset=n)) for n in (plan.claims_at, plan.marks_at))
    sizes, largest = (em.op(f"alloca {vec}, align 64") for _ in range(2))
    with loop(em, "%lo", "%hi") as panel:
        em.line(f"store atomic i64 0, ptr {claims} monotonic, align 8")
        start = times(em, panel, plan.rows)
        lines = []
        for row in range(plan.rows):
            o = plus(em, start, str(row))
            o = minimum(em, o, p.outputs - 1) if p.outputs % plan.rows else o
            lines.append(element_address(em, shape, source, times(em, o, p.w_strides[1])))
        for held in (sizes, largest):
            store(em, shape, "zeroinitializer", held)
        to = element_address(em, shape, target, times(em, panel, p.channels * plan.rows))
        with loop(em, "0", str(p.channels)) as c:
            distance = times(em, c, p.w_strides[2])
            taps = _taps(em, shape, [element_address(em, shape, line, distance) for line in lines], p.w_strides[3:])
            _measure(em, shape, taps, sizes, largest)
            here = element_address(em, shape, to, times(em, c, plan.rows))
            transformed = both_axes(em, shape, _three_to_four, taps)
            for k, value in enumerate(v for row_ in transformed for v in row_):
                store(em, shape, value, element_address(em, shape, here, str(k * plan.weight_step)))
        limit = em.op(f"fmul {vec} {load(em, shape, largest)}, {em.constant('float', plan.rows, FEW_TAPS)}")
        few = em.op(f"fcmp olt {vec} {load(em, shape, sizes)}, {limit}")
        few = em.op(f"zext <{plan.rows} x i1> {few} to <{plan.rows} x i8>")
        at = em.op(f"getelementptr i8, ptr {marks}, i64 {start}")
        em.line(f"store <{plan.rows} x i8> {few}, ptr {at}, align 1")
    return phase_of(name, em, plan.panels)


def _taps(em: Emitter, shape: Shape, starts: Sequence[str], strides: Sequence[int]) -> list[list[str]]:
    """3 x 3 taps; in the lanes those that begin at each of several addresses."""
    vec = vector_type(shape.element, shape.lanes)
    rows = []
    for i in range(3):
        row = []
        for j in range(3):
            value = "poison"
            for lane, start in enumerate(starts):
                at = element_address(em, shape, start, str(i * strides[0] + j * strides[1]))
                scalar = em.op(f"load {shape.element}, ptr {at}, align {shape.itemsize}")
                value = em.op(f"insertelement {vec} {value}, {shape.element} {scalar}, i32 {lane}")
            row.append(value)
        rows.append(row)
    return rows


def _three_to_four(em: Emitter, shape: Shape, g: Sequence[str]) -> list[str]:
    """g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2."""
    vec, half = vector_type(shape.element, shape.lanes), em.constant(shape.element, shape.lanes, 0.5)
    ends = add(em, shape, g[0], g[2])
    middle = [add(em, shape, ends, g[1]), subtract(em, shape, ends, g[1])]
    return [g[0], *(em.op(f"fmul {vec} {value}, {half}") for value in middle), g[2]]


def _measure(em: Emitter, shape: Shape, taps: list[list[str]], sizes: str, largest: str) -> None:
    """Add to the sum of the absolute values of weights, and to the largest."""
    vec, kind = vector_type(shape.element, shape.lanes), f"v{shape.lanes}f32"
    em.declare(f"{vec} @llvm.fabs.{kind}({vec})")
    total, most = load(em, shape, sizes), load(em, shape, largest)
    for row in taps:
        for tap in row:
            size = em.op(f"call {vec} @llvm.fabs.{kind}({vec} {tap})")
            total = add(em, shape, total, size)
            most = larger(em, shape, size, most)
    store(em, shape, total, sizes)
    store(em, shape, most, largest)
