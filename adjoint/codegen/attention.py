"""Attention without its matrix of scores: LLVM IR for softmax(Q K^T + mask) V and for its derivative.

Blocks of scores, QUERIES x KEYS, live in scratch memory that stays in the cache. For each block of queries the forward
pass walks along the keys with the largest score so far and the sum of weights relative to it; where a larger one is
found, what was summed before is scaled down (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018;
Dao et al., "FlashAttention", 2022, algorithm 1). It keeps of each row the logarithm of the sum of exponentials, from
which `attention_backward` computes any block of weights again. Blocks above the diagonal of a causal mask are skipped.

Kernels: keys are copied, transposed, into panels (`pack_columns`); values are read where they lie, unless their rows
are no whole vectors; then comes `_forward`. Every row of queries sees its keys in order, in blocks of fixed size,
whatever threads there are. Read `attention_kernels` first.
"""

from __future__ import annotations

from adjoint.codegen.attention_tile import (
    KEYS,
    MOST_BLOCKS,
    NOTHING,
    PANEL,
    QUERIES,
    Attention,
    Blocks,
    padded_rows,
    panels,
)
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    Operand,
    Phase,
    buffer_address,
    divide,
    loop,
    matrix_start,
    minimum,
    phase_of,
    plus,
    times,
)
from adjoint.codegen.vecmath_exp import exp_falling
from adjoint.codegen.vecmath_log import log

__all__ = ["Attention", "attention_kernels"]


def attention_kernels(name: str, problem: Attention, *, vector_bytes: int = 64) -> Gemm:
    """The kernels of the forward pass. Buffers: query, key, value, the mask if there is one; output, log-sum-exp; scratch.

    Nothing may be empty. KeyError for another dtype than those of matrix products.
    """
    p = problem
    scratch = 6 if p.mask else 5
    phases: list[Phase] = []
    packing, keys, used = panels(f"{name}_keys", p, 1, p.width, p.places[1], (scratch, 0), vector_bytes)
    copying, values, size = padded_rows(
        f"{name}_values", p, 2, p.keys, p.out_width, p.places[2], (scratch, used), vector_bytes, False
    )
    used += size
    main, slabs = _Forward(p, vector_bytes, keys, values, scratch, used).write(name)
    phases = [packing, *copying, main]
    return Gemm(tuple(phases), used + slabs)


class _Forward:
    """Writes the kernel: loops over blocks, blocks of queries, blocks of keys.

    The slab of a block: scores, queries, sums of weighted values, and of each row the largest score so far, the sum of
    weights, the factor for what was summed before, and the largest score of the present block.
    """

    def __init__(self, problem: Attention, vector_bytes: int, keys: Operand, values: Operand, scratch: int, used: int) -> None:
        self.p = p = problem
        self.b = b = Blocks(p, vector_bytes)
        self.keys, self.values, self.scratch, self.used = keys, values, scratch, used
        self.width, self.out_width = b.padded(p.width), b.padded(p.out_width)
        self.down = -(-p.queries // QUERIES)
        self.units = p.batch * self.down
        self.group = -(-self.units // MOST_BLOCKS)
        self.slab_size = QUERIES * (KEYS + self.width + self.out_width + 4)

    def write(self, name: str) -> tuple[Phase, int]:
        p, b, em = self.p, self.b, self.b.em
        itemsize = b.shape.itemsize
        batch, row, _, offset = p.places[0]
        self.query = Operand(0, batch, row, 1, offset=offset * itemsize)
        self.q_base = buffer_address(em, self.query)
        self.k_base, self.v_base = buffer_address(em, self.keys), buffer_address(em, self.values)
        b.enter_mask(3)
        results = 4 if p.mask else 3
        self.out, self.lse = (buffer_address(em, Operand(results + i, 0, 0, 1)) for i in range(2))
        slabs = buffer_address(em, Operand(self.scratch, 0, 0, 1, offset=self.used))
        # One slab for each call, named after its first block: no other call has that block.
        slab = b.at(slabs, times(em, "%lo", self.slab_size))
        sizes = (KEYS, self.width, self.out_width, 1, 1, 1, 1)
        parts, start = [], 0
        for size in sizes:
            parts.append(b.at(slab, str(start)))
            start += QUERIES * size
        self.s, self.q, self.o, self.largest, self.total, self.factor, self.here = parts
        nblocks = -(-self.units // self.group)
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, self.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {self.group}"), self.units)) as unit:
                matrix, number = divide(em, unit, self.down)
                if p.causal:  # the longest first
                    number = em.op(f"sub i64 {self.down - 1}, {number}")
                self._unit(matrix, times(em, number, QUERIES))
        return phase_of(name, em, nblocks), nblocks * self.slab_size * itemsize

    def _unit(self, matrix: str, start: str) -> None:
        """One block of queries."""
        p, b, em = self.p, self.b, self.b.em
        self.matrix, self.start = matrix, start
        self.rows = minimum(em, em.op(f"sub i64 {p.queries}, {start}"), QUERIES)
        from_ = b.at(self.q_base, matrix_start(em, self.query, matrix), times(em, start, self.query.row))
        with loop(em, "0", self.rows) as row:
            b.copy_row(b.at(from_, times(em, row, self.query.row)), b.at(self.q, times(em, row, self.width)), p.width)
        b.fill(self.o, QUERIES * self.out_width, 0.0)
        b.fill(self.largest, QUERIES, NOTHING)
        b.fill(self.total, QUERIES, 0.0)
        end = str(p.keys)
        if p.causal:
            end = minimum(em, em.op(f"add i64 {start}, {self.rows}"), p.keys)
        keys = b.at(self.k_base, matrix_start(em, self.keys, matrix))
        values = b.at(self.v_base, matrix_start(em, self.values, matrix))
        with loop(em, "0", end, KEYS) as column:
            count = minimum(em, em.op(f"sub i64 {end}, {column}"), KEYS)
            wide = PANEL * b.shape.lanes
            across = em.op(f"udiv i64 {em.op(f'add i64 {count}, {wide - 1}')}, {wide}")
            b.scores(self.q, self.width, b.at(keys, times(em, column, p.width)), self.s, self.rows, across, p.width)
            self._largest(column, across)
            self._factors()
            self._weights(across)
            b.product(
                self.s, (KEYS, 1), b.at(values, times(em, column, self.values.row)), self.values.row,
                self.o, self.out_width, self.rows, self.out_width // b.shape.lanes, count, self.factor,
            )  # fmt: skip
        self._finish()

    def _largest(self, column: str, across: str) -> None:
        """Masks, and the largest score of each row of the block. Only where a row may end lanes are compared."""
        p, b, em = self.p, self.b, self.b.em
        if not p.causal and p.keys % (PANEL * b.shape.lanes) == 0:
            self._largest_of_rows(column, across, False)
            return
        first_limit = minimum(em, em.op(f"add i64 {self.start}, 1"), p.keys) if p.causal else str(p.keys)
        ends = em.op(f"icmp sgt i64 {em.op(f'add i64 {column}, {KEYS}')}, {first_limit}")
        edge, inside, done = (em.fresh_label(h) for h in ("edge", "inside", "done"))
        em.line(f"br i1 {ends}, label %{edge}, label %{inside}")
        em.label(edge)
        self._largest_of_rows(column, across, True)
        em.line(f"br label %{done}")
        em.label(inside)
        self._largest_of_rows(column, across, False)
        em.line(f"br label %{done}")
        em.label(done)

    def _largest_of_rows(self, column: str, across: str, edge: bool) -> None:
        p, b, em = self.p, self.b, self.b.em
        lanes = b.shape.lanes
        lowest = em.constant(b.shape.element, lanes, NOTHING)
        with loop(em, "0", self.rows) as row:
            query = plus(em, self.start, row)
            line = b.at(self.s, times(em, row, KEYS))
            mask = b.mask_row(self.matrix, query) if p.mask else ""
            limit = str(p.keys)
            if p.causal:
                limit = minimum(em, em.op(f"add i64 {query}, 1"), p.keys)
            with b.carried(across, [lowest] * PANEL) as (panel, held, following):
                for v in range(PANEL):
                    at = plus(em, times(em, panel, PANEL * lanes), str(v * lanes))
                    value, there = b.load(line, at), plus(em, column, at)
                    seen = b.visible(there, limit) if edge else None
                    if p.mask:
                        value = b.masked(value, mask, there, seen)
                    if seen is not None:
                        value = seen.choose(value, NOTHING)
                    if p.mask or edge:
                        b.store(value, line, at)
                    following.append(held[v].at_least(value).ssa)
            largest = b.lanes(following[0])
            for other in following[1:]:
                largest = largest.at_least(b.lanes(other))
            b.put_element(b.across(largest, "at_least"), self.here, row)

    def _factors(self) -> None:
        """The largest scores so far, and by what earlier sums are multiplied."""
        b = self.b
        with loop(b.em, "0", str(QUERIES), b.shape.lanes) as row:
            before = b.load(self.largest, row)
            largest = before.at_least(b.load(self.here, row))
            b.store(largest, self.largest, row)
            base = largest.equals(NOTHING).choose(0.0, largest)  # a row that has seen nothing yet
            b.store(base, self.here, row)
            factor = exp_falling(before - base)
            b.store(factor, self.factor, row)
            b.store(b.load(self.total, row) * factor, self.total, row)

    def _weights(self, across: str) -> None:
        """Scores become weights; their sums are added."""
        b, em = self.b, self.b.em
        lanes = b.shape.lanes
        with loop(em, "0", self.rows) as row:
            line = b.at(self.s, times(em, row, KEYS))
            base = b.splat(self.here, row)
            with b.carried(across, ["zeroinitializer"] * PANEL) as (panel, held, following):
                for v in range(PANEL):
                    at = plus(em, times(em, panel, PANEL * lanes), str(v * lanes))
                    weight = exp_falling(b.load(line, at) - base)
                    b.store(weight, line, at)
                    following.append((held[v] + weight).ssa)
            total = b.lanes(following[0])
            for other in following[1:]:
                total = total + b.lanes(other)
            added = em.op(f"fadd {b.shape.element} {b.element(self.total, row)}, {b.across(total, 'add')}")
            b.put_element(added, self.total, row)

    def _finish(self) -> None:
        """Weighted means, and the log-sum-exp; of a row that has seen nothing both are 0."""
        p, b, em = self.p, self.b, self.b.em
        with loop(em, "0", str(QUERIES), b.shape.lanes) as row:
            total, largest = b.load(self.total, row), b.load(self.largest, row)
            total = total.equals(0.0).choose(1.0, total)
            base = largest.equals(NOTHING).choose(0.0, largest)
            b.store(total, self.total, row)
            b.store(log(total) + base, self.factor, row)
        first = plus(em, times(em, self.matrix, p.queries), self.start)
        with loop(em, "0", self.rows) as row:
            to = b.at(self.out, times(em, plus(em, first, row), p.out_width))
            b.write_row(b.at(self.o, times(em, row, self.out_width)), to, p.out_width, b.splat(self.total, row))
            b.put_element(b.element(self.factor, row), self.lse, plus(em, first, row))
