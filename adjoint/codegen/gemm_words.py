"""What the kernels of a matrix product are written with: their shapes, and words of IR.

Owns `Shape` and `Operand`, which say what is computed and where it lies, `Phase`, a finished
kernel, and one function for each phrase of IR that the kernels share: loops, addresses, masked
loads and stores, multiply-adds. Read the two classes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adjoint.codegen.emitter import Emitter, vector_type

# Between the matrices of a batch: elements from one to the next, or (length, stride) of several axes, outermost first.
Batch = int | tuple[tuple[int, int], ...]
Layout = tuple[Batch, int, int]  # element strides of batch, row, column

ELEMENTS = {
    "float32": ("float", 4),
    "float64": ("double", 8),
    "int32": ("i32", 4),
    "int64": ("i64", 8),
}


# k is cut where a panel of B, this many rows of a tile's width, fills a good part of L2.
K_BLOCK = 1024
LEAST_WORK = 1 << 19  # multiply-adds of a block worth giving to another thread


@dataclass(frozen=True, slots=True)
class Phase:
    """One kernel of a product: its LLVM function, `declare` lines, number of blocks, and how many of these in a row share
    what the first of them prepares."""

    name: str
    text: str
    declarations: tuple[str, ...]
    nblocks: int
    group: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """What is to be computed: `batch` products of m x k with k x n matrices.

    element: LLVM's name of the type.  lanes: elements in a vector register.
    """

    element: str
    itemsize: int
    lanes: int
    batch: int
    m: int
    n: int
    k: int

    @property
    def k_block(self) -> int:
        """How much of k one tile sums before the next tile's turn.

        Normally as much as leaves a panel of B in the L2 cache. With few rows of A there is
        nothing to keep there; short pieces then read B almost in the order of memory.
        """
        return K_BLOCK if self.m > 8 or self.n * self.itemsize < 4096 else 16

    @property
    def floating(self) -> bool:
        return self.element in ("float", "double")


@dataclass(frozen=True, slots=True)
class Operand:
    """A matrix in memory: buffer number, element strides of batch, row and column.

    panel: 0, or the width of the panels that B was packed into; a column of tiles then starts
    every k * panel elements, and `column` is 1.  offset: bytes from the buffer's start.
    """

    buffer: int
    batch: Batch
    row: int
    column: int
    panel: int = 0
    offset: int = 0


OUTPUT = Operand(2, 0, 0, 1)  # C; contiguous, so its strides follow from the shape

# What an epilogue is told: the table of its own, a tile whose rows lie `apart` elements from each other, of which row of C
# (all matrices one below the other) and which column it begins with, and which part of it is to be done.
EPILOGUE_PARAMETERS = (
    "ptr noalias %bufs, ptr noalias %idx, ptr noalias %scalars, ptr %tile, i64 %apart, i64 %top, i64 %left, "
    "i64 %row_from, i64 %row_to, i64 %column_from, i64 %column_to"
)
_BEFORE_EPILOGUE = 4  # numbers of an index table: A, B, C and scratch memory


@dataclass(frozen=True, slots=True)
class Offer:
    """The tiles that a product offers to an epilogue.

    lanes: columns at once, at most.  width: of a tile.  exact: whether a tile may hold sums that are not complete beside those
    that are its own.
    """

    lanes: int
    width: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Epilogue:
    """A function that is called for every tile of C with its final values; its table follows the four numbers of the product's.

    whole: for all columns of a tile.  part: for some of them; where it is given tiles at the end of a row, which overlap with
    the one before, are asked for no more than what is their own.  declarations: the functions, and what they need.
    width: of a tile.  alike: of what is read or written where C lies, to be asked for while the tile is
    computed, the number in its table and the bytes of an element.
    """

    whole: str | None
    part: str | None
    declarations: tuple[str, ...]
    width: int
    alike: tuple[tuple[int, int], ...] = ()

    def asker(self, em: Emitter, start: str, apart: int, rows: int) -> Callable[[str], None] | None:
        """What writes the code that asks for a row of `alike`, the last one if there are not so many; None if there is nothing.

        All rows at once would have to wait for memory. start: the tile's first element of C.  apart: elements from row to row.
        """
        starts = []
        for number, size in self.alike:
            base = buffer_address(em, Operand(_BEFORE_EPILOGUE + number, 0, 0, 1))
            starts.append((em.op(f"getelementptr i8, ptr {base}, i64 {times(em, start, size)}"), size))

        def ask(row: str) -> None:
            row = minimum(em, row, rows - 1)
            for address, size in starts:
                at = em.op(f"getelementptr i8, ptr {address}, i64 {times(em, row, apart * size)}")
                for byte in range(0, self.width * size, 64):
                    prefetch(em, em.op(f"getelementptr i8, ptr {at}, i64 {byte}"))

        return ask if starts else None

    def call(self, em: Emitter, tile: str, apart: int, corner: tuple[str, str], rows: tuple[str, str], columns: tuple[str, str]) -> None:
        """For a tile that is finished. corner: its first row and column.  rows, columns: what is its own, from where to where."""
        em.declarations.update(dict.fromkeys(self.declarations))
        table = em.op(f"getelementptr i32, ptr %idx, i64 {_BEFORE_EPILOGUE}")

        def call(name: str, first: str) -> None:
            numbers = ", ".join(f"i64 {x}" for x in (apart, *corner, *rows, first, columns[1]))
            em.line(f"call void {name}(ptr %bufs, ptr {table}, ptr %scalars, ptr {tile}, {numbers})")

        if self.whole and self.part:
            whole, part, called = (em.fresh_label(word) for word in ("whole", "part", "called"))
            missing = em.op(f"sub i64 {plus(em, columns[0], str(self.width))}, {columns[1]}")
            em.line(f"br i1 {em.op(f'icmp eq i64 {missing}, 0')}, label %{whole}, label %{part}")
            for label, name in ((whole, self.whole), (part, self.part)):
                em.label(label)
                call(name, columns[0])
                em.line(f"br label %{called}")
            em.label(called)
        elif self.whole:
            call(self.whole, corner[1])
        elif self.part:
            call(self.part, columns[0])


@contextmanager
def loop(em: Emitter, start: str, stop: str, step: int = 1) -> Iterator[str]:
    """`for i in range(start, stop, step)` around the body; the trip count must not be zero."""
    before, head, after = em.block, em.fresh_label("loop"), em.fresh_label("after")
    em.line(f"br label %{head}")
    em.label(head)
    index = em.name("i")
    at = len(em.lines)
    em.lines.append("")
    yield index
    following = em.op(f"add i64 {index}, {step}")
    again = em.op(f"icmp slt i64 {following}, {stop}")
    em.lines[at] = f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{em.block} ]"
    em.line(f"br i1 {again}, label %{head}, label %{after}")
    em.label(after)


@contextmanager
def carrying(
    em: Emitter, vec: str, initial: list[str], start: str, stop: str, step: int = 1
) -> Iterator[tuple[str, list[str], list[str]]]:
    """A loop as `loop` writes it, that carries vectors along: its index, their values, and a list for the new ones."""
    before, head, after = em.block, em.fresh_label("k"), em.fresh_label("summed")
    em.line(f"br label %{head}")
    em.label(head)
    index = em.name("k")
    values = [em.name("c") for _ in initial]
    new: list[str] = []
    at = len(em.lines)
    yield index, values, new
    following = em.op(f"add i64 {index}, {step}")
    again = em.op(f"icmp slt i64 {following}, {stop}")
    em.lines[at:at] = [
        f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{em.block} ]",
        *(
            f"  {c} = phi {vec} [ {z}, %{before} ], [ {d}, %{em.block} ]"
            for z, c, d in zip(initial, values, new, strict=True)
        ),
    ]
    em.line(f"br i1 {again}, label %{head}, label %{after}")
    em.label(after)


def _function(name: str, em: Emitter) -> str:
    head = f"define void @{name}(ptr %bufs, ptr %idx, ptr %scalars, i64 %lo, i64 %hi, ptr %own) {{\nentry:"
    return "\n".join([head, *em.lines, "  ret void", "}"])


def phase_of(name: str, em: Emitter, nblocks: int, group: int = 1) -> Phase:
    return Phase(name, _function(name, em), tuple(em.declarations), nblocks, group)


def buffer_address(em: Emitter, operand: Operand) -> str:
    """Where the operand begins."""
    slot = em.op(f"getelementptr i32, ptr %idx, i64 {operand.buffer}")
    index = em.op(f"load i32, ptr {slot}, align 4")
    cell = em.op(f"getelementptr ptr, ptr %bufs, i32 {index}")
    pointer = em.op(f"load ptr, ptr {cell}, align 8")
    if operand.offset:
        pointer = em.op(f"getelementptr i8, ptr {pointer}, i64 {operand.offset}")
    return pointer


def times(em: Emitter, value: str, factor: int) -> str:
    if factor == 1:
        return value
    return "0" if factor == 0 else em.op(f"mul i64 {value}, {factor}")


def plus(em: Emitter, *values: str) -> str:
    total = ""
    for value in values:
        if value != "0":
            total = em.op(f"add i64 {total}, {value}") if total else value
    return total or "0"


def matrix_start(em: Emitter, operand: Operand, matrix: str) -> str:
    """How many elements behind the operand's beginning its matrix number `matrix` lies."""
    if isinstance(operand.batch, int):
        return times(em, matrix, operand.batch)
    (_, outermost), *inner = operand.batch
    starts = []
    for length, stride in reversed(inner):
        matrix, index = divide(em, matrix, length)
        starts.append(times(em, index, stride))
    return plus(em, times(em, matrix, outermost), *starts)


def element_address(em: Emitter, shape: Shape, base: str, *indices: str) -> str:
    """Address of the element `sum(indices)` behind `base`."""
    return em.op(f"getelementptr {shape.element}, ptr {base}, i64 {plus(em, *indices)}")


def minimum(em: Emitter, value: str, limit: int | str) -> str:
    em.declare("i64 @llvm.smin.i64(i64, i64)")
    return em.op(f"call i64 @llvm.smin.i64(i64 {value}, i64 {limit})")


def maximum(em: Emitter, value: str, limit: int | str) -> str:
    em.declare("i64 @llvm.smax.i64(i64, i64)")
    return em.op(f"call i64 @llvm.smax.i64(i64 {value}, i64 {limit})")


def tile_start(em: Emitter, number: str, step: int, length: int) -> str:
    """First index of tile `number`; the last one is moved back to end at `length`."""
    start = times(em, number, step)
    return start if length % step == 0 else minimum(em, start, max(length - step, 0))


def static_mask(lanes: int, count: int, first: int = 0) -> str:
    """Lanes first .. count - 1."""
    return "<" + ", ".join(f"i1 {int(first <= i < count)}" for i in range(lanes)) + ">"


def _mangled(shape: Shape, lanes: int) -> str:
    """The vector type as it appears in names of intrinsics, for example v16f32."""
    scalar = {"float": "f32", "double": "f64"}.get(shape.element, shape.element)
    return f"v{lanes}{scalar}"


def load(em: Emitter, shape: Shape, pointer: str, mask: str | None = None) -> str:
    """A vector of contiguous elements; zeros in the lanes that `mask` leaves out."""
    vec = vector_type(shape.element, shape.lanes)
    if mask is None:
        return em.op(f"load {vec}, ptr {pointer}, align {shape.itemsize}")
    name, bits = f"@llvm.masked.load.{_mangled(shape, shape.lanes)}.p0", f"<{shape.lanes} x i1>"
    em.declare(f"{vec} {name}(ptr, i32 immarg, {bits}, {vec})")
    align = f"i32 {shape.itemsize}"
    return em.op(f"call {vec} {name}(ptr {pointer}, {align}, {bits} {mask}, {vec} zeroinitializer)")


def store(em: Emitter, shape: Shape, value: str, pointer: str, mask: str | None = None) -> None:
    vec = vector_type(shape.element, shape.lanes)
    if mask is None:
        em.line(f"store {vec} {value}, ptr {pointer}, align {shape.itemsize}")
        return
    name, bits = f"@llvm.masked.store.{_mangled(shape, shape.lanes)}.p0", f"<{shape.lanes} x i1>"
    em.declare(f"void {name}({vec}, ptr, i32 immarg, {bits})")
    em.line(f"call void {name}({vec} {value}, ptr {pointer}, i32 {shape.itemsize}, {bits} {mask})")


def prefetch(em: Emitter, pointer: str, *, write: bool = False) -> None:
    """Ask for the cache line at `pointer` to come to a near cache; an address of nothing does no harm."""
    em.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    em.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(write)}, i32 2, i32 1)")


def multiply_add(em: Emitter, shape: Shape, lanes: int, x: str, y: str, z: str, out: str) -> None:
    """`out = x * y + z`: fused where the machine can, which it then does for every element."""
    vec = vector_type(shape.element, lanes)
    if shape.floating:
        name = f"@llvm.fmuladd.{_mangled(shape, lanes)}"
        em.declare(f"{vec} {name}({vec}, {vec}, {vec})")
        em.line(f"{out} = call {vec} {name}({vec} {x}, {vec} {y}, {vec} {z})")
    else:
        product = em.op(f"mul {vec} {x}, {y}")
        em.line(f"{out} = add {vec} {product}, {z}")


def add(em: Emitter, shape: Shape, x: str, y: str) -> str:
    vec = vector_type(shape.element, shape.lanes)
    return em.op(f"{'fadd' if shape.floating else 'add'} {vec} {x}, {y}")


def divide(em: Emitter, value: str, by: int) -> tuple[str, str]:
    """Quotient and remainder of a non-negative value."""
    if by == 1:
        return value, "0"
    quotient = em.op(f"udiv i64 {value}, {by}")
    return quotient, em.op(f"urem i64 {value}, {by}")


def part_of_range(em: Emitter, unit: str, size: int, length: int) -> tuple[str, str]:
    """The part [start, stop) of range(length) that belongs to `unit`."""
    if unit == "0":
        return "0", str(min(size, length))
    start = times(em, unit, size)
    return start, minimum(em, em.op(f"add i64 {start}, {size}"), length)
