"""Orders: LLVM IR that finds the positions of given ranks in a stable sort, row by row (`argsort`, `argselect`).

Three ways, chosen by shapes alone. Short rows: the rank of an element is the number of those before it, counted with
vectors. Other rows: records (see `sort_words`) sorted by the digits in which they differ, one row for each thread. Long
rows that are too few for that: the same with the digits of every block counted apart, so that all blocks scatter their
records at once; each pass is three kernels (`count`, `place`, `scatter`), which are the same code for every digit, since
which digit is next stands in memory. Passes that are left when no digit is end at once.

Where few of many ranks are wanted, records are made only of candidates: elements between two thresholds, which a sample
puts so that the wanted ranks lie between them. Where it did not, the whole row is sorted. So the result never depends
on the sample, nor on how many threads there are.

Read `order_kernels` first.
"""

from __future__ import annotations

from adjoint.codegen.emitter import Emitter
from adjoint.codegen.gemm import Gemm
from adjoint.codegen.gemm_words import (
    Operand,
    Phase,
    buffer_address,
    divide,
    minimum,
    phase_of,
    times,
)
from adjoint.codegen.sort_words import (
    BINS,
    Found,
    Order,
    Sample,
    at,
    build,
    choose,
    chunks,
    count_digits,
    get,
    increase,
    keys,
    lowest,
    position,
    put,
    radix_sort,
    sample_of,
    scatter_digits,
    span,
    thresholds,
    variables,
    vector_type,
    when,
    without_digit,
    words_of,
)

__all__ = ["Order", "order_kernels"]

SHORT = 64  # elements of rows whose ranks are counted
BLOCK = 1 << 15  # elements of a block of a long row
MOST_BLOCKS = 64  # of a row
FEW_ROWS = 8  # so many rows of several blocks are enough for threads
BLOCK_WORK = 1 << 14  # elements of rows that one block sorts
SLABS = 1 << 26  # bytes of memory for records, of all blocks that sort rows

ORDER = 1  # the result's buffer; 0 is the operand, 2 the scratch memory


def order_kernels(name: str, order: Order, *, vector_bytes: int = 64) -> Gemm:
    """The kernels of an order, to be run one after the other, and their scratch memory. KeyError for a dtype without order.

    >>> from adjoint.codegen.sort import Order, order_kernels
    >>> [phase.nblocks for phase in order_kernels("sort", Order("float32", 100, 30, False, 0, 30)).phases]
    [1]
    """
    lanes = vector_bytes // (8 if order.wide else 4)
    if order.n <= SHORT:
        return Gemm((_short_rows(name, order, vector_bytes // 8),), 0)
    if order.rows < FEW_ROWS and order.n > 2 * BLOCK:
        return _Long(name, order, lanes).kernels()
    return _rows(name, order, lanes)


# --- short rows -------------------------------------------------------------------------------------------------------


def _short_rows(name: str, o: Order, lanes: int) -> Phase:
    """Count for each element how many come before it."""
    em = Emitter()
    vectors = -(-o.n // lanes)
    vec = f"<{lanes} x i64>"
    source, out = (buffer_address(em, Operand(b, 0, 0, 1)) for b in (0, ORDER))
    words = em.op(f"alloca [{vectors * lanes} x i64], align 64")
    for past in range(o.n, vectors * lanes):
        put(em, "-1", at(em, words, str(past), 8))
    reduce = f"@llvm.vector.reduce.add.v{lanes}i64"
    em.declare(f"i64 {reduce}({vec})")
    group = max(1, BLOCK_WORK // o.n)
    with span(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        with span(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), o.rows)) as row:
            line = at(em, source, row, o.n * o.itemsize)
            into = at(em, out, row, 8 * o.count)
            with span(em, "0", str(o.n)) as i:
                put(em, _distinct(em, o, words_of(em, o, keys(em, o, line, i, 1), 1), i), at(em, words, i, 8))
            with span(em, "0", str(o.n)) as i:
                mine = em.splat("i64", lanes, get(em, at(em, words, i, 8)))
                here = em.splat("i64", lanes, i)
                total = "zeroinitializer"
                for k in range(vectors):
                    theirs = em.op(f"load {vec}, ptr {at(em, words, str(k * lanes), 8)}, align 8")
                    before = em.op(f"icmp ult {vec} {theirs}, {mine}")
                    if o.wide:  # equal ones that stand before
                        numbers = ", ".join(f"i64 {k * lanes + j}" for j in range(lanes))
                        earlier = em.op(f"icmp ult {vec} <{numbers}>, {here}")
                        equal = em.op(f"icmp eq {vec} {theirs}, {mine}")
                        both = em.op(f"and <{lanes} x i1> {earlier}, {equal}")
                        before = em.op(f"or <{lanes} x i1> {before}, {both}")
                    total = em.op(f"sub {vec} {total}, {em.op(f'sext <{lanes} x i1> {before} to {vec}')}")
                rank = em.op(f"sub i64 {em.op(f'call i64 {reduce}({vec} {total})')}, {o.start}")
                with when(em, em.op(f"icmp ult i64 {rank}, {o.count}")):
                    put(em, i, at(em, into, rank, 8))
    return phase_of(name, em, -(-o.rows // group))


def _distinct(em: Emitter, o: Order, word: str, i: str) -> str:
    """A word with its position below the key, where there is room."""
    return word if o.wide else em.op(f"or i64 {word}, {i}")


# --- rows for one thread each -----------------------------------------------------------------------------------------


def _rows(name: str, o: Order, lanes: int) -> Gemm:
    em = Emitter()
    slab = 2 * o.n * o.record_bytes
    group = max(1, BLOCK_WORK // o.n, -(-o.rows // max(8, min(64, SLABS // slab))))
    nblocks = -(-o.rows // group)
    source, out, scratch = (buffer_address(em, Operand(b, 0, 0, 1)) for b in (0, ORDER, 2))
    v = variables(em, lanes)
    found = Found(*(em.op("alloca i64") for _ in range(3)))
    sample = sample_of(o)
    # One slab for each call, named after its first block: no other call has that block.
    one = at(em, scratch, "%lo", slab)
    two = em.op(f"getelementptr i8, ptr {one}, i64 {slab // 2}")
    with span(em, "%lo", "%hi") as block:
        first = times(em, block, group)
        with span(em, first, minimum(em, em.op(f"add i64 {first}, {group}"), o.rows)) as row:
            line = at(em, source, row, o.n * o.itemsize)
            put(em, "0", found.count)
            put(em, str(o.n), found.below)  # more than is right, so that the row is sorted
            if sample is not None:
                low, high = thresholds(em, o, sample, v, line, one, two)
                choose(em, o, lanes, found, line, one, "0", str(o.n), low, high)
            with when(em, em.op(f"xor i1 {_holds(em, o, get(em, found.below), get(em, found.count))}, true")):
                put(em, build(em, o, lanes, v, line, one, "0", str(o.n)), found.mask)
                put(em, str(o.n), found.count)
                put(em, "0", found.below)
            ordered = radix_sort(em, o, v, one, two, get(em, found.count), get(em, found.mask))
            from_ = em.op(f"sub i64 {o.start}, {get(em, found.below)}")
            _write(em, o, lanes, at(em, ordered, from_, o.record_bytes), at(em, out, row, 8 * o.count), "0", str(o.count))
    return Gemm((phase_of(name, em, nblocks),), nblocks * slab)


def _holds(em: Emitter, o: Order, below: str, count: str) -> str:
    """Whether `count` candidates behind `below` elements contain all wanted ranks."""
    from_start = em.op(f"icmp sle i64 {below}, {o.start}")
    to_stop = em.op(f"icmp sge i64 {em.op(f'add i64 {below}, {count}')}, {o.stop}")
    return em.op(f"and i1 {from_start}, {to_stop}")


def _write(em: Emitter, o: Order, lanes: int, records: str, out: str, start: str, stop: str) -> None:
    """The positions in records start to stop."""

    def some(i: str, n: int) -> None:
        from_, to = at(em, records, i, o.record_bytes), at(em, out, i, 8)
        vec = vector_type("i64", n)
        if n == 1:
            put(em, position(em, o, get(em, from_, o.record)), to)
        elif o.wide:
            pairs = em.op(f"load <{2 * n} x i64>, ptr {from_}, align 8")
            odd = ", ".join(f"i32 {2 * k + 1}" for k in range(n))
            put(em, em.op(f"shufflevector <{2 * n} x i64> {pairs}, <{2 * n} x i64> poison, <{n} x i32> <{odd}>"), to, vec)
        else:
            put(em, em.op(f"and {vec} {get(em, from_, vec)}, {em.splat('i64', n, str((1 << 32) - 1))}"), to, vec)

    chunks(em, lanes, start, stop, some)


# --- long rows --------------------------------------------------------------------------------------------------------

# What is known of a row, 64-bit words: the bits in which records differ and no pass has been made for; which of the two
# halves of memory holds them; for the present pass whether there is one, its digit and that half; how many records; how
# many elements come before them; the thresholds; whether the row is sorted as a whole.
MASK, HALF, ACTIVE, SHIFT, SOURCE, COUNT, BELOW, LOW, HIGH, WHOLE = range(10)
STATE_BYTES = 128
# What is known of a block: bits that differ, candidates, elements before them, where its candidates go.
DIFFER, CHOSEN, EARLIER, TARGET = range(4)
INFO_BYTES = 32


class _Long:
    """Kernels for a few long rows.

    Scratch memory: the state of each row, what is known of each block, the digits counted in each block, and two
    halves with records of all rows.
    """

    def __init__(self, name: str, order: Order, lanes: int) -> None:
        self.name, self.o, self.lanes = name, order, lanes
        self.sample: Sample | None = sample_of(order)
        o = order
        self.block = max(BLOCK, -(-o.n // MOST_BLOCKS))
        self.across = -(-o.n // self.block)
        self.nblocks = o.rows * self.across
        self.info_at = o.rows * STATE_BYTES
        self.bins_at = self.info_at + -(-self.nblocks * INFO_BYTES // 64) * 64
        self.half_at = self.bins_at + self.nblocks * 4 * BINS
        self.half_bytes = o.rows * o.n * o.record_bytes
        self.scratch_bytes = self.half_at + 2 * self.half_bytes

    def kernels(self) -> Gemm:
        o = self.o
        if self.sample is None:
            phases = [self._build(), self._plan()]
        else:
            phases = [self._thresholds(), self._choose(), self._plan(), self._gather()]
        digits = [self._count(), self._place(), self._scatter()]
        return Gemm((*phases, *digits * o.digits, self._write()), self.scratch_bytes)

    # --- where things are -----------------------------------------------------------------------------------------

    def _begin(self) -> Emitter:
        self.em = em = Emitter()
        self.x, self.out, self.scratch = (buffer_address(em, Operand(b, 0, 0, 1)) for b in (0, ORDER, 2))
        self.v = variables(em, self.lanes)
        return em

    def _state(self, row: str, which: int) -> str:
        return at(self.em, at(self.em, self.scratch, row, STATE_BYTES), str(which), 8)

    def _info(self, block: str, which: int) -> str:
        base = self.em.op(f"getelementptr i8, ptr {self.scratch}, i64 {self.info_at}")
        return at(self.em, at(self.em, base, block, INFO_BYTES), str(which), 8)

    def _bins(self, block: str) -> str:
        base = self.em.op(f"getelementptr i8, ptr {self.scratch}, i64 {self.bins_at}")
        return at(self.em, base, block, 4 * BINS)

    def _records(self, row: str, half: str) -> str:
        base = self.em.op(f"getelementptr i8, ptr {self.scratch}, i64 {self.half_at}")
        return at(self.em, at(self.em, base, half, self.half_bytes), row, self.o.n * self.o.record_bytes)

    def _line(self, row: str) -> str:
        return at(self.em, self.x, row, self.o.n * self.o.itemsize)

    def _part(self, block: str, stop: str) -> tuple[str, str, str]:
        """(row, start, end) of a block among `stop` records; empty past them."""
        em = self.em
        row, number = divide(em, block, self.across)
        start = minimum(em, times(em, number, self.block), stop)
        return row, start, minimum(em, em.op(f"add i64 {start}, {self.block}"), stop)

    def _done(self, what: str, nblocks: int) -> Phase:
        return phase_of(f"{self.name}_{what}", self.em, nblocks)

    # --- what is sorted ---------------------------------------------------------------------------------------------

    def _build(self) -> Phase:
        em = self._begin()
        with span(em, "%lo", "%hi") as block:
            row, start, stop = self._part(block, str(self.o.n))
            differ = build(em, self.o, self.lanes, self.v, self._line(row), self._records(row, "0"), start, stop)
            put(em, differ, self._info(block, DIFFER))
            put(em, em.op(f"sub i64 {stop}, {start}"), self._info(block, CHOSEN))
            put(em, "0", self._info(block, EARLIER))
        return self._done("build", self.nblocks)

    def _thresholds(self) -> Phase:
        em = self._begin()
        assert self.sample is not None
        with span(em, "%lo", "%hi") as row:
            bounds = thresholds(em, self.o, self.sample, self.v, self._line(row), self._records(row, "0"), self._records(row, "1"))
            for which, value in zip((LOW, HIGH), bounds, strict=True):
                put(em, value, self._state(row, which))
        return self._done("thresholds", self.o.rows)

    def _choose(self) -> Phase:
        em = self._begin()
        o = self.o
        with span(em, "%lo", "%hi") as block:
            row, start, stop = self._part(block, str(o.n))
            found = Found(*(self._info(block, which) for which in (CHOSEN, EARLIER, DIFFER)))
            to = at(em, self._records(row, "0"), start, o.record_bytes)
            low, high = (get(em, self._state(row, which)) for which in (LOW, HIGH))
            choose(em, o, self.lanes, found, self._line(row), to, start, stop, low, high)
        return self._done("choose", self.nblocks)

    def _plan(self) -> Phase:
        """Add up what the blocks found."""
        em = self._begin()
        with span(em, "%lo", "%hi") as row:
            for which in (MASK, COUNT, BELOW, HALF, WHOLE):
                put(em, "0", self._state(row, which))
            first = times(em, row, self.across)
            with span(em, first, em.op(f"add i64 {first}, {self.across}")) as block:
                put(em, get(em, self._state(row, COUNT)), self._info(block, TARGET))
                increase(em, self._state(row, COUNT), get(em, self._info(block, CHOSEN)))
                increase(em, self._state(row, BELOW), get(em, self._info(block, EARLIER)))
                increase(em, self._state(row, MASK), get(em, self._info(block, DIFFER)), "or")
            if self.sample is not None:
                put(em, "1", self._state(row, HALF))
                fits = _holds(em, self.o, get(em, self._state(row, BELOW)), get(em, self._state(row, COUNT)))
                with when(em, em.op(f"xor i1 {fits}, true")):
                    every = "-1" if self.o.wide else str(-(1 << 32))
                    for which, value in ((WHOLE, "1"), (COUNT, str(self.o.n)), (BELOW, "0"), (MASK, every)):
                        put(em, value, self._state(row, which))
        return self._done("plan", self.o.rows)

    def _gather(self) -> Phase:
        """Candidates of all blocks one behind the other, in the second half; or all records, where they do not do."""
        em = self._begin()
        o = self.o
        with span(em, "%lo", "%hi") as block:
            row, start, stop = self._part(block, str(o.n))
            whole = em.op(f"icmp ne i64 {get(em, self._state(row, WHOLE))}, 0")
            with when(em, whole):
                build(em, o, self.lanes, self.v, self._line(row), self._records(row, "1"), start, stop)
            with when(em, em.op(f"xor i1 {whole}, true")):
                from_ = at(em, self._records(row, "0"), start, o.record_bytes)
                to = at(em, self._records(row, "1"), get(em, self._info(block, TARGET)), o.record_bytes)
                with span(em, "0", get(em, self._info(block, CHOSEN))) as i:
                    put(em, get(em, at(em, from_, i, o.record_bytes), o.record), at(em, to, i, o.record_bytes), o.record)
        return self._done("gather", self.nblocks)

    # --- one pass -----------------------------------------------------------------------------------------------------

    def _count(self) -> Phase:
        em = self._begin()
        with span(em, "%lo", "%hi") as block:
            row, _ = divide(em, block, self.across)
            mask = get(em, self._state(row, MASK))
            with when(em, em.op(f"icmp ne i64 {mask}, 0")):
                _, start, stop = self._part(block, get(em, self._state(row, COUNT)))
                records = self._records(row, get(em, self._state(row, HALF)))
                count_digits(em, self.o, records, start, stop, lowest(em, mask), self._bins(block))
        return self._done("count", self.nblocks)

    def _place(self) -> Phase:
        """Where the records of each digit go, digit by digit and block by block; and what the next pass will be."""
        em = self._begin()
        with span(em, "%lo", "%hi") as row:
            mask = get(em, self._state(row, MASK))
            active = em.op(f"icmp ne i64 {mask}, 0")
            put(em, em.op(f"zext i1 {active} to i64"), self._state(row, ACTIVE))
            with when(em, active):
                shift, half = lowest(em, mask), get(em, self._state(row, HALF))
                put(em, shift, self._state(row, SHIFT))
                put(em, half, self._state(row, SOURCE))
                put(em, em.op(f"xor i64 {half}, 1"), self._state(row, HALF))
                put(em, without_digit(em, mask, shift), self._state(row, MASK))
                put(em, "0", self.v.total, "i32")
                first = times(em, row, self.across)
                used = em.op(f"add i64 {get(em, self._state(row, COUNT))}, {self.block - 1}")
                last = em.op(f"add i64 {first}, {em.op(f'udiv i64 {used}, {self.block}')}")
                with span(em, "0", str(BINS)) as digit, span(em, first, last) as block:
                    here = at(em, self._bins(block), digit, 4)
                    have, total = get(em, here, "i32"), get(em, self.v.total, "i32")
                    put(em, total, here, "i32")
                    put(em, em.op(f"add i32 {total}, {have}"), self.v.total, "i32")
        return self._done("place", self.o.rows)

    def _scatter(self) -> Phase:
        em = self._begin()
        with span(em, "%lo", "%hi") as block:
            row, _ = divide(em, block, self.across)
            with when(em, em.op(f"icmp ne i64 {get(em, self._state(row, ACTIVE))}, 0")):
                _, start, stop = self._part(block, get(em, self._state(row, COUNT)))
                half = get(em, self._state(row, SOURCE))
                from_, to = self._records(row, half), self._records(row, em.op(f"xor i64 {half}, 1"))
                shift = get(em, self._state(row, SHIFT))
                scatter_digits(em, self.o, from_, to, start, stop, shift, self._bins(block))
        return self._done("scatter", self.nblocks)

    def _write(self) -> Phase:
        em = self._begin()
        o = self.o
        across = -(-o.count // self.block)
        with span(em, "%lo", "%hi") as block:
            row, number = divide(em, block, across)
            start = times(em, number, self.block)
            stop = minimum(em, em.op(f"add i64 {start}, {self.block}"), o.count)
            from_ = em.op(f"sub i64 {o.start}, {get(em, self._state(row, BELOW))}")
            records = at(em, self._records(row, get(em, self._state(row, HALF))), from_, o.record_bytes)
            _write(em, o, self.lanes, records, at(em, self.out, row, 8 * o.count), start, stop)
        return self._done("", o.rows * across)
