"""Copies that a convolution makes of its operands: weights in panels, parts of x with zeros around them.

Read `pack_weights` and `copy_slab`; both write what `conv_tile` reads.
"""

from __future__ import annotations

from contextlib import ExitStack

from adjoint.codegen.conv_plan import Plan, Problem
from adjoint.codegen.gemm_words import (
    ELEMENTS,
    LEAST_WORK,
    Emitter,
    Operand,
    Phase,
    Shape,
    buffer_address,
    divide,
    element_address,
    load,
    loop,
    minimum,
    phase_of,
    plus,
    store,
    tile_start,
    times,
)
from adjoint.codegen.squares import turned
from adjoint.schedule.expr import merged_axes

_WRITTEN_OUT = 16  # steps of a short run, which need no loop


def _runs(p: Problem) -> tuple[list[tuple[int, int]], int, int]:
    """The axes of the sum in w as (extent, stride), outermost first, merged where they lie one behind the other.

    The innermost is returned apart.
    """
    axes = merged_axes((p.channels, *p.kernel), p.w_strides[2:])
    length, step = axes.pop() if axes else (1, 1)
    return axes, length, step


def pack_weights(name: str, p: Problem, plan: Plan, scratch: int) -> tuple[Phase, int]:
    """A kernel that copies w to [group][panel][channel, kernel][lane] at the start of scratch; the bytes it takes.

    Lanes past the last output channel hold copies of others: what is computed of them is never stored.
    """
    em = Emitter()
    element, itemsize = ELEMENTS[p.dtype]
    shape = Shape(element, itemsize, plan.lanes, 1, 0, 0, 0)
    width, terms = plan.width, p.channels * p.taps
    across = -(-p.outputs // width)
    outer, length, step = _runs(p)
    pieces = 1
    for n, _ in outer:
        pieces *= n
    total = p.groups * across * pieces
    group = max(1, LEAST_WORK // 16 // (length * width))
    source, target = buffer_address(em, p.weights), buffer_address(em, Operand(scratch, 0, 0, 1))
    with loop(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        with loop(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), total)) as number:
            rest, at = number, []
            for n, s in reversed(outer):
                rest, i = divide(em, rest, n)
                at.append(times(em, i, s))
            g, panel = divide(em, rest, across)
            column = times(em, panel, width)
            from_ = element_address(em, shape, source, times(em, g, p.w_strides[0]), *at)
            to = element_address(em, shape, target, times(em, number, length * width))
            squares = step == 1 and length >= plan.lanes and plan.lanes & (plan.lanes - 1) == 0
            write = _transposed_panel if squares else _panel
            write(em, shape, p, plan, from_, to, column, length, step)
    return phase_of(name, em, -(-total // group)), -(-p.groups * across * width * terms * itemsize // 64) * 64


def _panel(
    em: Emitter, shape: Shape, p: Problem, plan: Plan, source: str, to: str, column: str, length: int, step: int
) -> None:
    with loop(em, "0", str(plan.width)) as lane:
        o = plus(em, column, lane)
        o = minimum(em, o, p.outputs - 1) if p.outputs % plan.width else o
        line = element_address(em, shape, source, times(em, o, p.w_strides[1]))
        into = element_address(em, shape, to, lane)

        def copy(at: str, here: str) -> None:
            value = em.op(f"load {shape.element}, ptr {element_address(em, shape, line, at)}, align {shape.itemsize}")
            em.line(f"store {shape.element} {value}, ptr {element_address(em, shape, into, here)}, align {shape.itemsize}")

        if length <= _WRITTEN_OUT:
            for number in range(length):
                copy(str(number * step), str(number * plan.width))
            return
        with loop(em, "0", str(length)) as k:
            copy(times(em, k, step), times(em, k, plan.width))


def _transposed_panel(
    em: Emitter, shape: Shape, p: Problem, plan: Plan, source: str, to: str, column: str, length: int, step: int
) -> None:
    """Squares of `lanes` output channels by `lanes` terms of the sum, transposed in registers."""
    lanes = shape.lanes
    with loop(em, "0", str(plan.vectors)) as v:
        first = times(em, v, lanes)
        with loop(em, "0", str(-(-length // lanes))) as square:
            k = tile_start(em, square, lanes, length)
            lines = []
            for lane in range(lanes):
                o = plus(em, column, first, str(lane))
                o = minimum(em, o, p.outputs - 1) if p.outputs % plan.width else o
                lines.append(load(em, shape, element_address(em, shape, source, times(em, o, p.w_strides[1]), k)))
            corner = element_address(em, shape, to, plus(em, times(em, k, plan.width), first))
            for lane, line in enumerate(turned(em, lines, shape.element, shape.itemsize)):
                store(em, shape, line, element_address(em, shape, corner, str(lane * plan.width)))


def copy_slab(
    em: Emitter, shape: Shape, p: Problem, plan: Plan, x: str, slab: str,
    g: str, image: str, row: str, c: str, k: str, c_count: str,
) -> None:  # fmt: skip
    """The part of x that positions from (image, row) need for channels from c and first kernel steps from k."""
    axes = len(p.sizes)
    begin = plus(em, times(em, row, p.stride[0]), times(em, k, p.dilation[0]), str(-p.lo[0]))
    begins = [begin, *(str(-lo) for lo in p.lo[1:])]
    base = plus(em, times(em, g, p.x_strides[1]), times(em, image, p.x_strides[0]), times(em, c, p.x_strides[2]))
    source = element_address(em, shape, x, base)
    with ExitStack() as stack:
        n = stack.enter_context(loop(em, "0", str(plan.slab_sizes[0])))
        channel = stack.enter_context(loop(em, "0", c_count))
        at = [times(em, n, p.x_strides[0]), times(em, channel, p.x_strides[2])]
        to = [times(em, n, plan.slab_strides[0]), times(em, channel, plan.slab_strides[1])]
        inside = []
        for axis in range(axes - 1):
            i = stack.enter_context(loop(em, "0", str(plan.slab_sizes[2 + axis])))
            where = plus(em, i, begins[axis])
            if axis == 0 or p.lo[axis] > 0 or plan.slab_sizes[2 + axis] - p.lo[axis] > p.sizes[axis]:
                inside.append(em.op(f"icmp ult i64 {where}, {p.sizes[axis]}"))
            at.append(times(em, where, p.x_strides[3 + axis]))
            to.append(times(em, i, plan.slab_strides[2 + axis]))
        line = element_address(em, shape, source, *at)
        into = element_address(em, shape, slab, *to)
        if not inside:
            _copy_row(em, shape, p, plan, line, into, begins[-1])
            return
        both = inside[0]
        for other in inside[1:]:
            both = em.op(f"and i1 {both}, {other}")
        copied, cleared, done = (em.fresh_label(h) for h in ("copied", "cleared", "done"))
        em.line(f"br i1 {both}, label %{copied}, label %{cleared}")
        em.label(copied)
        _copy_row(em, shape, p, plan, line, into, begins[-1])
        em.line(f"br label %{done}")
        em.label(cleared)
        zeros = "zeroinitializer"
        with loop(em, "0", str(-(-plan.slab_sizes[-1] // shape.lanes))) as chunk:
            store(em, shape, zeros, element_address(em, shape, into, times(em, chunk, shape.lanes)))
        em.line(f"br label %{done}")
        em.label(done)


def _copy_row(em: Emitter, shape: Shape, p: Problem, plan: Plan, line: str, into: str, begin: str) -> None:
    """One row of the slab, whose first element is `begin` of the row of x at `line` (and may lie outside of it).

    What the last vector writes past the end is the beginning of the next row, which is written later, or nobody's.
    """
    lanes, size, length = shape.lanes, p.sizes[-1], plan.slab_sizes[-1]
    chunks = -(-length // lanes)
    if begin.startswith("%"):  # known only when run: a row that is cut into blocks
        with loop(em, "0", str(chunks)) as chunk:
            here = plus(em, times(em, chunk, lanes), begin)
            numbers = ", ".join(f"i64 {i}" for i in range(lanes))
            places = em.op(f"add <{lanes} x i64> <{numbers}>, {em.splat('i64', lanes, here)}")
            mask = em.op(f"icmp ult <{lanes} x i64> {places}, {em.splat('i64', lanes, str(size))}")
            value = load(em, shape, element_address(em, shape, line, here), mask)
            store(em, shape, value, element_address(em, shape, into, times(em, chunk, lanes)))
        return
    first = int(begin)
    whole = [i for i in range(chunks) if i * lanes + first >= 0 and (i + 1) * lanes + first <= size]

    def copy(chunk: str, mask: str | None) -> None:
        at = plus(em, times(em, chunk, lanes), begin)
        value = load(em, shape, element_address(em, shape, line, at), mask)
        store(em, shape, value, element_address(em, shape, into, times(em, chunk, lanes)))

    def edge(i: int) -> None:
        valid = [0 <= i * lanes + first + lane < size for lane in range(lanes)]
        to = element_address(em, shape, into, str(i * lanes))
        if not any(valid):
            store(em, shape, "zeroinitializer", to)
            return
        mask = "<" + ", ".join(f"i1 {int(v)}" for v in valid) + ">"
        store(em, shape, load(em, shape, element_address(em, shape, line, str(i * lanes + first)), mask), to)

    for i in range(chunks):
        if whole and i == whole[0]:
            if len(whole) <= 4:
                for j in whole:
                    copy(str(j), None)
            else:
                with loop(em, str(whole[0]), str(whole[-1] + 1)) as chunk:
                    copy(chunk, None)
        elif not whole or i < whole[0] or i > whole[-1]:
            edge(i)

