"""What the kernels of an order are written with: keys, records, loops that may not run, and a radix sort of one thread.

A *key* is an unsigned number that compares as the element does: NaN of any kind is one largest value, both zeros are
equal. A *record* is a key with the position it came from: for elements of up to 32 bits one i64, the key above the
position; for longer ones a pair of i64. Its *word* is the i64 that holds the key. Read `keys`, then `radix_sort`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adjoint.codegen.emitter import Emitter, vector_type

# LLVM's element, bits, and what it is: f(loat), i(nteger) or u(nsigned).
_ELEMENTS = {
    "float32": ("i32", 32, "f"), "float64": ("i64", 64, "f"), "bool": ("i8", 8, "u"),
    **{f"int{n}": (f"i{n}", n, "i") for n in (8, 16, 32, 64)},
    **{f"uint{n}": (f"i{n}", n, "u") for n in (8, 16, 32, 64)},
}  # fmt: skip
DIGIT = 8  # bits
BINS = 1 << DIGIT


@dataclass(frozen=True, slots=True)
class Order:
    """For each of `rows` contiguous rows of n elements, the positions of those with ranks start to stop in a stable sort.

    descending: the largest first; equal ones keep their order in both directions. n < 2**31.
    """

    dtype: str
    rows: int
    n: int
    descending: bool
    start: int
    stop: int

    @property
    def element(self) -> str:
        return _ELEMENTS[self.dtype][0]

    @property
    def itemsize(self) -> int:
        return _ELEMENTS[self.dtype][1] // 8

    @property
    def wide(self) -> bool:
        """Whether keys have 64 bits."""
        return self.itemsize == 8

    @property
    def record_bytes(self) -> int:
        return 16 if self.wide else 8

    @property
    def record(self) -> str:
        return "<2 x i64>" if self.wide else "i64"

    @property
    def digits(self) -> int:
        """How many digits a key has at most."""
        return self.itemsize

    @property
    def count(self) -> int:
        return self.stop - self.start


# --- control ----------------------------------------------------------------------------------------------------------


@contextmanager
def span(em: Emitter, start: str, stop: str, step: int = 1) -> Iterator[str]:
    """`for i in range(start, stop, step)` around the body, which may run not at all."""
    before, head, body, after = em.block, *(em.fresh_label(h) for h in ("span", "body", "after"))
    em.line(f"br label %{head}")
    em.label(head)
    index = em.name("i")
    at = len(em.lines)
    em.lines.append("")
    more = em.op(f"icmp slt i64 {index}, {stop}")
    em.line(f"br i1 {more}, label %{body}, label %{after}")
    em.label(body)
    yield index
    following = em.op(f"add i64 {index}, {step}")
    em.lines[at] = f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{em.block} ]"
    em.line(f"br label %{head}")
    em.label(after)


@contextmanager
def when(em: Emitter, condition: str) -> Iterator[None]:
    """The body runs where the i1 `condition` holds."""
    body, after = em.fresh_label("when"), em.fresh_label("after")
    em.line(f"br i1 {condition}, label %{body}, label %{after}")
    em.label(body)
    yield
    em.line(f"br label %{after}")
    em.label(after)


@contextmanager
def as_long_as(em: Emitter, condition: Callable[[], str]) -> Iterator[None]:
    """`while condition():` around the body."""
    head, body, after = (em.fresh_label(h) for h in ("while", "body", "after"))
    em.line(f"br label %{head}")
    em.label(head)
    going = condition()
    em.line(f"br i1 {going}, label %{body}, label %{after}")
    em.label(body)
    yield
    em.line(f"br label %{head}")
    em.label(after)


def at(em: Emitter, base: str, index: str, size: int) -> str:
    """The address of element `index` of `size` bytes behind `base`."""
    offset = index if size == 1 else em.op(f"mul i64 {index}, {size}")
    return em.op(f"getelementptr i8, ptr {base}, i64 {offset}")


def get(em: Emitter, pointer: str, kind: str = "i64") -> str:
    return em.op(f"load {kind}, ptr {pointer}, align {4 if kind == 'i32' else 8}")


def put(em: Emitter, value: str, pointer: str, kind: str = "i64") -> None:
    em.line(f"store {kind} {value}, ptr {pointer}, align {4 if kind == 'i32' else 8}")


def increase(em: Emitter, pointer: str, by: str, with_: str = "add") -> None:
    put(em, em.op(f"{with_} i64 {get(em, pointer)}, {by}"), pointer)


# --- keys and records ---------------------------------------------------------------------------------------------------


def keys(em: Emitter, o: Order, source: str, index: str, lanes: int) -> str:
    """The keys of `lanes` elements from `index` of the row at `source`: i32, or i64 where the order is `wide`."""
    element, bits, kind = _ELEMENTS[o.dtype]
    word = "i64" if o.wide else "i32"
    vec = vector_type(word, lanes)

    def all_of(number: int) -> str:
        return em.splat(word, lanes, str(number))

    pointer = at(em, source, index, o.itemsize)
    x = em.op(f"load {vector_type(element, lanes)}, ptr {pointer}, align {o.itemsize}")
    if kind == "i":
        x = em.op(f"xor {vector_type(element, lanes)} {x}, {em.splat(element, lanes, str(-(1 << (bits - 1))))}")
    if element != word:
        x = em.op(f"zext {vector_type(element, lanes)} {x} to {vec}")
    width = 64 if o.wide else 32
    sign = all_of(-(1 << (width - 1)))
    if kind == "f":
        infinity = 0x7FF << 52 if o.wide else 0xFF << 23
        twice = em.op(f"shl {vec} {x}, {all_of(1)}")
        zero = em.op(f"icmp eq {vec} {twice}, {all_of(0)}")
        nan = em.op(f"icmp ugt {vec} {twice}, {all_of(2 * infinity - (1 << width))}")
        negative = em.op(f"ashr {vec} {x}, {all_of(width - 1)}")
        flips = em.op(f"or {vec} {negative}, {sign}")
        x = em.op(f"xor {vec} {x}, {flips}")
        mask = vector_type("i1", lanes)
        x = em.op(f"select {mask} {zero}, {vec} {sign}, {vec} {x}")
        x = em.op(f"select {mask} {nan}, {vec} {all_of(-1)}, {vec} {x}")
    return em.op(f"xor {vec} {x}, {all_of(-1)}") if o.descending else x


def words_of(em: Emitter, o: Order, key: str, lanes: int) -> str:
    """Keys as they stand in words: in the upper half of an i64."""
    if o.wide:
        return key
    long = vector_type("i64", lanes)
    wider = em.op(f"zext {vector_type('i32', lanes)} {key} to {long}")
    return em.op(f"shl {long} {wider}, {em.splat('i64', lanes, '32')}")


def put_records(em: Emitter, o: Order, words: str, index: str, to: str, lanes: int) -> None:
    """Store the records of `lanes` elements from position `index` at the address `to`."""
    long = vector_type("i64", lanes)
    places = em.splat("i64", lanes, index)
    if lanes > 1:
        numbers = ", ".join(f"i64 {i}" for i in range(lanes))
        places = em.op(f"add {long} {places}, <{numbers}>")
    if not o.wide:
        put(em, em.op(f"or {long} {words}, {places}"), to, long)
    elif lanes == 1:
        pair = em.op(f"insertelement <2 x i64> poison, i64 {words}, i32 0")
        put(em, em.op(f"insertelement <2 x i64> {pair}, i64 {places}, i32 1"), to, "<2 x i64>")
    else:
        order = ", ".join(f"i32 {i}, i32 {lanes + i}" for i in range(lanes))
        put(em, em.op(f"shufflevector {long} {words}, {long} {places}, <{2 * lanes} x i32> <{order}>"), to, f"<{2 * lanes} x i64>")


def word(em: Emitter, o: Order, record: str) -> str:
    return em.op(f"extractelement <2 x i64> {record}, i32 0") if o.wide else record


def position(em: Emitter, o: Order, record: str) -> str:
    return em.op(f"extractelement <2 x i64> {record}, i32 1" if o.wide else f"and i64 {record}, {(1 << 32) - 1}")


def chunks(em: Emitter, lanes: int, start: str, stop: str, body: Callable[[str, int], None]) -> None:
    """body(index, lanes) for all of range(start, stop): whole vectors first, then one by one."""
    length = em.op(f"sub i64 {stop}, {start}")
    rest = em.op(f"urem i64 {length}, {lanes}")
    whole = em.op(f"sub i64 {stop}, {rest}")
    with span(em, start, whole, lanes) as i:
        body(i, lanes)
    with span(em, whole, stop) as i:
        body(i, 1)


def either(em: Emitter, value: str, lanes: int) -> str:
    """All lanes of an i64 vector, or-ed."""
    if lanes == 1:
        return value
    name = f"@llvm.vector.reduce.or.v{lanes}i64"
    em.declare(f"i64 {name}(<{lanes} x i64>)")
    return em.op(f"call i64 {name}(<{lanes} x i64> {value})")


@dataclass(frozen=True, slots=True)
class Variables:
    """Memory of a function for what changes in its loops; made at its entry, so that no loop takes more of the stack."""

    mask: str
    source: str
    other: str
    total: str
    bins: str
    vector: str
    scalar: str


def variables(em: Emitter, lanes: int) -> Variables:
    kinds = ("i64", "ptr", "ptr", "i32", f"[{BINS} x i32]", f"<{lanes} x i64>", "i64")
    return Variables(*(em.op(f"alloca {kind}, align 64") for kind in kinds))


def build(em: Emitter, o: Order, lanes: int, v: Variables, source: str, to: str, start: str, stop: str) -> str:
    """Records of the positions start to stop of a row, at the same places of `to`; which bits of words differ from the first."""
    first = words_of(em, o, keys(em, o, source, "0", 1), 1)
    put(em, "zeroinitializer", v.vector, f"<{lanes} x i64>")
    put(em, "0", v.scalar)

    def some(i: str, n: int) -> None:
        vec, total = vector_type("i64", n), v.scalar if n == 1 else v.vector
        words = words_of(em, o, keys(em, o, source, i, n), n)
        other = em.op(f"xor {vec} {words}, {em.splat('i64', n, first)}")
        put(em, em.op(f"or {vec} {get(em, total, vec)}, {other}"), total, vec)
        put_records(em, o, words, i, at(em, to, i, o.record_bytes), n)

    chunks(em, lanes, start, stop, some)
    name = f"@llvm.vector.reduce.or.v{lanes}i64"
    em.declare(f"i64 {name}(<{lanes} x i64>)")
    whole = em.op(f"call i64 {name}(<{lanes} x i64> {get(em, v.vector, f'<{lanes} x i64>')})")
    return em.op(f"or i64 {whole}, {get(em, v.scalar)}")


# --- sorting by digits --------------------------------------------------------------------------------------------------


def lowest(em: Emitter, mask: str) -> str:
    """The number of the lowest bit that is set."""
    em.declare("i64 @llvm.cttz.i64(i64, i1 immarg)")
    return em.op(f"call i64 @llvm.cttz.i64(i64 {mask}, i1 0)")


def without_digit(em: Emitter, mask: str, shift: str) -> str:
    digit = em.op(f"shl i64 {BINS - 1}, {shift}")
    return em.op(f"and i64 {mask}, {em.op(f'xor i64 {digit}, -1')}")


def bin_of(em: Emitter, o: Order, record: str, shift: str, bins: str) -> str:
    """The address of the i32 of a record's digit."""
    moved = em.op(f"lshr i64 {word(em, o, record)}, {shift}")
    return at(em, bins, em.op(f"and i64 {moved}, {BINS - 1}"), 4)


def count_digits(em: Emitter, o: Order, source: str, start: str, stop: str, shift: str, bins: str) -> None:
    """How often each digit occurs."""
    with span(em, "0", str(BINS), 4) as i:
        em.line(f"store <4 x i32> zeroinitializer, ptr {at(em, bins, i, 4)}, align 4")
    with span(em, start, stop) as i:
        record = get(em, at(em, source, i, o.record_bytes), o.record)
        here = bin_of(em, o, record, shift, bins)
        put(em, em.op(f"add i32 {get(em, here, 'i32')}, 1"), here, "i32")


def scatter_digits(em: Emitter, o: Order, source: str, to: str, start: str, stop: str, shift: str, bins: str) -> None:
    """Every record to the next place of its digit."""
    with span(em, start, stop) as i:
        record = get(em, at(em, source, i, o.record_bytes), o.record)
        here = bin_of(em, o, record, shift, bins)
        place = get(em, here, "i32")
        put(em, em.op(f"add i32 {place}, 1"), here, "i32")
        put(em, record, at(em, to, em.op(f"zext i32 {place} to i64"), o.record_bytes), o.record)


def radix_sort(em: Emitter, o: Order, v: Variables, source: str, other: str, count: str, mask: str) -> str:
    """Sort `count` records at `source` by the bits of their words that `mask` names, from the lowest digit on.

    other: memory for as many. Returns the address where they are in the end, one of the two. (Knuth, The Art of Computer
    Programming 3, 5.2.5: each pass is stable, so the order of lower digits survives.)
    """
    put(em, mask, v.mask)
    put(em, source, v.source, "ptr")
    put(em, other, v.other, "ptr")
    with as_long_as(em, lambda: em.op(f"icmp ne i64 {get(em, v.mask)}, 0")):
        mask = get(em, v.mask)
        shift = lowest(em, mask)
        from_, to = get(em, v.source, "ptr"), get(em, v.other, "ptr")
        count_digits(em, o, from_, "0", count, shift, v.bins)
        put(em, "0", v.total, "i32")
        with span(em, "0", str(BINS)) as i:
            here = at(em, v.bins, i, 4)
            have, total = get(em, here, "i32"), get(em, v.total, "i32")
            put(em, total, here, "i32")
            put(em, em.op(f"add i32 {total}, {have}"), v.total, "i32")
        scatter_digits(em, o, from_, to, "0", count, shift, v.bins)
        put(em, to, v.source, "ptr")
        put(em, from_, v.other, "ptr")
        put(em, without_digit(em, mask, shift), v.mask)
    return get(em, v.source, "ptr")


# --- choosing candidates ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """How thresholds for the ranks of an order are found: `size` elements, `step` apart, and which of them, once sorted,
    are the thresholds (None: there is none on this side). They are wrong for unlucky data only, which is noticed."""

    size: int
    step: int
    low: int | None
    high: int | None


def sample_of(o: Order) -> Sample | None:
    """The sample for an order of few of many ranks; None where all is sorted."""
    if o.n < 4096 or 4 * o.count > o.n:
        return None
    size = 512 if o.n < 1 << 17 else 2048

    def margin(rank: int) -> float:
        share = rank / o.n
        return 5 * math.sqrt(share * (1 - share) * size) + 8

    low = math.floor(o.start / o.n * size - margin(o.start))
    high = math.ceil(o.stop / o.n * size + margin(o.stop))
    return Sample(size, o.n // size, low if low >= 0 else None, high if high < size else None)


def thresholds(em: Emitter, o: Order, s: Sample, v: Variables, source: str, one: str, two: str) -> tuple[str, str]:
    """The words between which the wanted ranks of a row should lie; one, two: memory for the sample's records."""
    first = words_of(em, o, keys(em, o, source, "0", 1), 1)
    put(em, "0", v.mask)
    with span(em, "0", str(s.size)) as i:
        begin = em.op(f"mul i64 {i}, {s.step}")
        jump = em.op(f"urem i64 {em.op(f'mul i64 {i}, 2654435761')}, {s.step}")  # no regular distance, in case the data has one
        value = words_of(em, o, keys(em, o, source, em.op(f"add i64 {begin}, {jump}"), 1), 1)
        increase(em, v.mask, em.op(f"xor i64 {value}, {first}"), "or")
        put_records(em, o, value, "0", at(em, one, i, o.record_bytes), 1)
    ordered = radix_sort(em, o, v, one, two, str(s.size), get(em, v.mask))

    def bound(which: int | None, otherwise: str) -> str:
        if which is None:
            return otherwise
        return word(em, o, get(em, at(em, ordered, str(which), o.record_bytes), o.record))

    return bound(s.low, "0"), bound(s.high, "-1" if o.wide else str(-(1 << 32)))


@dataclass(frozen=True, slots=True)
class Found:
    """Where `choose` notes what it found: how many candidates, how many elements before them, which bits of them differ."""

    count: str
    below: str
    mask: str


def choose(
    em: Emitter, o: Order, lanes: int, found: Found, source: str, to: str, start: str, stop: str, low: str, high: str
) -> None:
    """Records of the positions start to stop whose words lie between low and high, one behind the other at `to`."""
    for pointer in (found.count, found.below, found.mask):
        put(em, "0", pointer)
    bounds: tuple[str, ...]
    if o.wide:
        bounds = (low, high)
    else:
        bounds = tuple(em.op(f"trunc i64 {em.op(f'lshr i64 {b}, 32')} to i32") for b in (low, high))
    kind = "i64" if o.wide else "i32"

    def bits_of(condition: str, n: int) -> str:
        if n > 1:
            condition = em.op(f"bitcast <{n} x i1> {condition} to i{n}")
        return em.op(f"zext i{n} {condition} to i64") if n < 64 else condition

    def some(i: str, n: int) -> None:
        vec = vector_type(kind, n)
        key = keys(em, o, source, i, n)
        before = em.op(f"icmp ult {vec} {key}, {em.splat(kind, n, bounds[0])}")
        behind = em.op(f"icmp ugt {vec} {key}, {em.splat(kind, n, bounds[1])}")
        early = bits_of(before, n)
        em.declare("i64 @llvm.ctpop.i64(i64)")
        increase(em, found.below, em.op(f"call i64 @llvm.ctpop.i64(i64 {early})"))
        inside = em.op(f"xor i64 {em.op(f'or i64 {early}, {bits_of(behind, n)}')}, {(1 << n) - 1}")
        with when(em, em.op(f"icmp ne i64 {inside}, 0")), span(em, "0", str(n)) as lane:
            taken = em.op(f"and i64 {em.op(f'lshr i64 {inside}, {lane}')}, 1")
            with when(em, em.op(f"icmp ne i64 {taken}, 0")):
                j = em.op(f"add i64 {i}, {lane}")
                value = words_of(em, o, keys(em, o, source, j, 1), 1)
                increase(em, found.mask, em.op(f"xor i64 {value}, {low}"), "or")
                put_records(em, o, value, j, at(em, to, get(em, found.count), o.record_bytes), 1)
                increase(em, found.count, "1")

    chunks(em, lanes, start, stop, some)
