"""The derivative of attention without its matrix of scores.

With weights P = exp(S - lse), cotangent G of the output and delta, of each row the sum of G times the output, the
cotangent of the scores is dS = P (G V^T - delta), and dQ = dS K, dK = dS^T Q, dV = P^T G (Dao et al.,
"FlashAttention", 2022, algorithm 4). A unit of work takes a range of the keys of one matrix, block by block, and all
queries for each: sums for the keys stay in the cache, those for the queries are the range's own until a last kernel adds
them up. How many ranges there are depends on the number of matrices alone, so the order of every sum is fixed.

Read `backward_kernels`, then `_Backward.write`.
"""

from __future__ import annotations

from adjoint.codegen.attention_tile import (
    KEYS,
    MOST_BLOCKS,
    PANEL,
    QUERIES,
    Attention,
    Blocks,
    padded_rows,
    panels,
)
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    LEAST_WORK,
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
from adjoint.codegen.sort_words import span
from adjoint.codegen.vecmath_exp import exp_falling

__all__ = ["backward_kernels"]

LEAST_UNITS = 16  # pieces of work, where there are fewer matrices than that


def backward_kernels(name: str, problem: Attention, *, vector_bytes: int = 64) -> Gemm:
    """The kernels of the derivative, to be run in order. Nothing may be empty.

    Buffers: cotangent of the output, query, key, value, log-sum-exp, delta, the mask if there is one; cotangents of
    query, key and value; scratch.
    """
    p = problem
    query, key, value, cotangent = p.places
    scratch = 10 if p.mask else 9
    used = 0
    phases: list[Phase] = []
    operands: dict[str, Operand] = {}
    for what, buffer, width, place in (("keys", 2, p.width, key), ("values", 3, p.out_width, value)):
        packing, operands[what], size = panels(f"{name}_{what}", p, buffer, width, place, (scratch, used), vector_bytes)
        phases.append(packing)
        used += size
    rows = (
        ("cotangent", 0, p.queries, p.out_width, cotangent),
        ("query", 1, p.queries, p.width, query),
        ("key", 2, p.keys, p.width, key),
    )
    for what, buffer, length, width, place in rows:
        copying, operands[what], size = padded_rows(
            f"{name}_{what}", p, buffer, length, width, place, (scratch, used), vector_bytes, what != "key"
        )
        phases += copying
        used += size
    backward = _Backward(p, vector_bytes, operands, scratch)
    main, used = backward.write(name, used)
    phases.append(main)
    if not backward.direct:
        phases.append(backward.add_up(f"{name}_sum"))
    return Gemm(tuple(phases), used)


class _Backward:
    """Writes the kernel: loops over blocks, matrices and ranges, blocks of keys, blocks of queries.

    The slab of a block: weights, cotangents of scores, sums for a block of keys and of values.
    """

    def __init__(self, problem: Attention, vector_bytes: int, operands: dict[str, Operand], scratch: int) -> None:
        self.p = p = problem
        self.vector_bytes, self.operands, self.scratch = vector_bytes, operands, scratch
        self.b = b = Blocks(p, vector_bytes)
        self.width, self.out_width = b.padded(p.width), b.padded(p.out_width)
        self.ranges = min(-(-p.keys // KEYS), -(-LEAST_UNITS // p.batch))
        self.units = p.batch * self.ranges
        self.group = -(-self.units // MOST_BLOCKS)
        self.tall = -(-p.queries // QUERIES) * QUERIES
        # Where one range sees all keys, and blocks of queries are whole, their sums are the result.
        self.direct = self.ranges == 1 and self.tall == p.queries and self.width == p.width
        self.results = 7 if p.mask else 6
        self.sums = Operand(self.results, 0, 0, 1)

    def write(self, name: str, used: int) -> tuple[Phase, int]:
        b, em = self.b, self.b.em
        itemsize = b.shape.itemsize
        if not self.direct:
            self.sums = Operand(self.scratch, 0, 0, 1, offset=used)
            used += self.units * self.tall * self.width * itemsize
        slab_size = 2 * QUERIES * KEYS + KEYS * (self.width + self.out_width)
        nblocks = -(-self.units // self.group)
        self.base = {what: buffer_address(em, operand) for what, operand in self.operands.items()}
        self.lse, self.delta = (buffer_address(em, Operand(i, 0, 0, 1)) for i in (4, 5))
        b.enter_mask(6)
        self.dq, self.dk, self.dv = (
            buffer_address(em, o) for o in (self.sums, *(Operand(self.results + i, 0, 0, 1) for i in (1, 2)))
        )
        slabs = buffer_address(em, Operand(self.scratch, 0, 0, 1, offset=used))
        # One slab for each call, named after its first block: no other call has that block.
        self.s = b.at(slabs, times(em, "%lo", slab_size))
        self.ds = b.at(self.s, str(QUERIES * KEYS))
        self.key_sums = b.at(self.ds, str(QUERIES * KEYS))
        self.value_sums = b.at(self.key_sums, str(KEYS * self.width))
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, self.group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {self.group}"), self.units)) as unit:
                self._unit(unit)
        return phase_of(name, em, nblocks), used + nblocks * slab_size * itemsize

    def _unit(self, unit: str) -> None:
        """One range of the keys of a matrix: every so many-th block of them, so that all have as much to do."""
        p, b, em = self.p, self.b, self.b.em
        self.matrix, number = divide(em, unit, self.ranges)
        self.at = {
            what: b.at(self.base[what], matrix_start(em, operand, self.matrix)) for what, operand in self.operands.items()
        }
        self.query_sums = b.at(self.dq, times(em, unit, self.tall * self.width))
        b.fill(self.query_sums, self.tall * self.width, 0.0)
        with loop(em, times(em, number, KEYS), str(p.keys), self.ranges * KEYS) as column:
            count = minimum(em, em.op(f"sub i64 {p.keys}, {column}"), KEYS)
            b.fill(self.key_sums, KEYS * self.width, 0.0)
            b.fill(self.value_sums, KEYS * self.out_width, 0.0)
            first = "0"
            if p.causal:  # blocks of queries before these keys see none of them
                first = times(em, em.op(f"udiv i64 {column}, {QUERIES}"), QUERIES)
            with span(em, first, str(p.queries), QUERIES) as start:
                self._block(column, count, start)
            to = plus(em, times(em, self.matrix, p.keys), column)
            with loop(em, "0", count) as row:
                at = plus(em, to, row)
                b.write_row(b.at(self.key_sums, times(em, row, self.width)), b.at(self.dk, times(em, at, p.width)), p.width)
                line = b.at(self.value_sums, times(em, row, self.out_width))
                b.write_row(line, b.at(self.dv, times(em, at, p.out_width)), p.out_width)

    def _block(self, column: str, count: str, start: str) -> None:
        """What one block of scores adds to all sums."""
        p, b, em = self.p, self.b, self.b.em
        rows = minimum(em, em.op(f"sub i64 {p.queries}, {start}"), QUERIES)
        if p.causal:  # keys behind the block's last query are left out
            reach = em.op(f"sub i64 {em.op(f'add i64 {start}, {QUERIES}')}, {column}")
            count = minimum(em, count, reach)
        wide = PANEL * b.shape.lanes
        across = em.op(f"udiv i64 {em.op(f'add i64 {count}, {wide - 1}')}, {wide}")
        q_row, g_row, k_row = (self.operands[what].row for what in ("query", "cotangent", "key"))
        query = b.at(self.at["query"], times(em, start, q_row))
        cotangent = b.at(self.at["cotangent"], times(em, start, g_row))
        key = b.at(self.at["key"], times(em, column, k_row))
        b.scores(query, q_row, b.at(self.at["keys"], times(em, column, p.width)), self.s, rows, across, p.width)
        values = b.at(self.at["values"], times(em, column, p.out_width))
        b.scores(cotangent, g_row, values, self.ds, rows, across, p.out_width)
        self._rows(column, start, rows, across)
        lanes = b.shape.lanes
        b.product(self.s, (1, KEYS), cotangent, g_row, self.value_sums, self.out_width, count, self.out_width // lanes, rows)
        b.product(self.ds, (1, KEYS), query, q_row, self.key_sums, self.width, count, self.width // lanes, rows)
        sums = b.at(self.query_sums, times(em, start, self.width))
        b.product(self.ds, (KEYS, 1), key, k_row, sums, self.width, rows, self.width // lanes, count)

    def _rows(self, column: str, start: str, rows: str, across: str) -> None:
        p, em = self.p, self.b.em
        if not p.causal and (p.mask is None or p.keys % (PANEL * self.b.shape.lanes) == 0):
            self._cotangents(column, start, rows, across, False)
            return
        limit = minimum(em, em.op(f"add i64 {start}, 1"), p.keys) if p.causal else str(p.keys)
        ends = em.op(f"icmp sgt i64 {em.op(f'add i64 {column}, {KEYS}')}, {limit}")
        edge, inside, done = (em.fresh_label(h) for h in ("edge", "inside", "done"))
        em.line(f"br i1 {ends}, label %{edge}, label %{inside}")
        em.label(edge)
        self._cotangents(column, start, rows, across, True)
        em.line(f"br label %{done}")
        em.label(inside)
        self._cotangents(column, start, rows, across, False)
        em.line(f"br label %{done}")
        em.label(done)

    def _cotangents(self, column: str, start: str, rows: str, across: str, edge: bool) -> None:
        """Scores become weights, and their products with the values cotangents of scores."""
        p, b, em = self.p, self.b, self.b.em
        lanes = b.shape.lanes
        with loop(em, "0", rows) as row:
            query = plus(em, start, row)
            number = plus(em, times(em, self.matrix, p.queries), query)
            lse, delta = b.splat(self.lse, number), b.splat(self.delta, number)
            weights, cotangents = (b.at(block, times(em, row, KEYS)) for block in (self.s, self.ds))
            mask = b.mask_row(self.matrix, query) if p.mask else ""
            limit = minimum(em, em.op(f"add i64 {query}, 1"), p.keys) if p.causal else str(p.keys)
            with loop(em, "0", across) as panel:
                for v in range(PANEL):
                    at = plus(em, times(em, panel, PANEL * lanes), str(v * lanes))
                    score, there = b.load(weights, at), plus(em, column, at)
                    seen = b.visible(there, limit) if edge else None
                    if p.mask:
                        score = b.masked(score, mask, there, seen)
                    if seen is not None:
                        score = seen.choose(score, float("-inf"))
                    weight = exp_falling(score - lse)
                    b.store(weight, weights, at)
                    b.store(weight * (b.load(cotangents, at) - delta), cotangents, at)

    def add_up(self, name: str) -> Phase:
        """The sums of all ranges, without what pads their rows."""
        p = self.p
        b = Blocks(p, self.vector_bytes)
        em = b.em
        sums, out = buffer_address(em, self.sums), buffer_address(em, Operand(self.results, 0, 0, 1))
        line = b.at(b.em.op(f"alloca [{self.width} x {b.shape.element}], align 64"))
        total = p.batch * p.queries
        group = max(1, LEAST_WORK // 16 // (self.width * self.ranges))
        with loop(em, "%lo", "%hi") as block:
            first = times(em, block, group)
            with loop(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), total)) as number:
                matrix, row = divide(em, number, p.queries)
                start = plus(em, times(em, matrix, self.ranges * self.tall * self.width), times(em, row, self.width))
                for at in range(0, self.width, b.shape.lanes):
                    value = b.load(sums, plus(em, start, str(at)))
                    for other in range(1, self.ranges):
                        value = value + b.load(sums, plus(em, start, str(other * self.tall * self.width + at)))
                    b.store(value, line, str(at))
                b.write_row(line, b.at(out, times(em, number, p.width)), p.width)
        return phase_of(name, em, -(-total // group))
