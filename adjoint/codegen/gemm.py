"""Matrix products: LLVM IR for C[b] = A[b] @ B[b], specialised to one set of shapes and strides.

Owns `Gemm`, the list of kernels that computes one product. Read `gemm_kernel` first; it chooses a
method: `tile_kernel` in `gemm_tile.py` for most products, `gemm_strips.py` for large ones, `gemm_dot.py` for few rows
of A and contiguous columns of B, `gemm_amx.py` where the processor multiplies tiles, `gemm_pairs.py` for bfloat16 where it
multiplies pairs.

Tiles. C is cut into tiles of `rows` x `vectors` registers. One tile stays in registers while k
runs to its end: at each k, `vectors` registers of a row of B meet `rows` broadcast elements of A.
Tile sizes are chosen for the shape (`choose_tile`), and a last tile that would stick out is moved
back inside, over its neighbour: it computes the same elements again, with the same bits, so no
second piece of code for remainders exists. Only a matrix narrower than one tile needs a mask.

Packing. A microkernel reads B by rows of contiguous elements. Where B lies otherwise (x @ W.T), or
is so large that its rows drag in too many pages, it is copied into panels as wide as a tile, k x
width each: all at once by a kernel of its own or, in a large product, each by the thread that uses it
(`strips_kernel` in `gemm_strips.py`). A is read in place, unless its columns are contiguous and many columns
of B would read them, or they collide in the cache (`_wants_rows`); then it is first copied by rows. Copies go to the
scratch buffer.

Order of summation. Every element of C is one chain of multiply-adds in order of k, in blocks of
fixed size: the same for every tile size, block and thread. (Dot products along k, for few rows,
keep one chain in each lane; that too depends on shapes and strides alone.)

The blocking follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(ACM TOMS 34, 2008), with all of k inside the tile as long as a panel of B stays in the L2 cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adjoint.codegen.emitter import OWN_BYTES
from adjoint.codegen.gemm_amx import amx_kernels
from adjoint.codegen.gemm_amx_pack import DEPTH
from adjoint.codegen.gemm_dot import LANE_SUMS, dot_kernel
from adjoint.codegen.gemm_pack import pack_columns, pack_rows
from adjoint.codegen.gemm_pairs import pair_kernels
from adjoint.codegen.gemm_strips import panel_bytes, strips_kernel, wants_panels
from adjoint.codegen.gemm_tile import tile_kernel
from adjoint.codegen.gemm_words import ELEMENTS, Epilogue, Layout, Offer, Operand, Phase, Shape
from adjoint.hardware import l2_bytes

__all__ = ["Gemm", "Phase", "choose_tile", "gemm_kernel", "takes_epilogue"]

_TILE = (14, 8)  # the largest
_STRIP_TILE = (8, 4)  # that of large products: all rows of A in one set of a first-level cache, half of a second-level one for B
_NEARBY = 1 << 18  # elements of a B that stays in a second-level cache
_REPAYS = 1 << 22  # multiply-adds of a product that repays preparation
_OFTEN, _FEW_ROWS = 4, 256  # as many products with one B share a copy of it, where they have fewer rows
_LOAD = 0.1  # cycles of a load, beside what it has to wait for others
_PACKING = 0.8  # cycles of copying an element of B
_MOST_DOTS = 32  # rows of A; more repay the copy
_PARTING = 256  # multiply-adds for each element of A and B that repay parting it
_PARTED = 1 << 25  # bytes: 2048x2048 gained nothing that could be measured
_L2_WAY = 1 << 17  # bytes after which lines share a set of the second-level cache again
_MANY_COLUMNS = 512  # of B: they repay a copy of A by rows, which tiles read 5 to 10 % faster
_L1_ELEMENTS = 1 << 13  # of a panel of B that stays in the first-level cache beside A and C


@dataclass(frozen=True, slots=True)
class Gemm:
    """The kernels of one product, to be run in order, and the scratch memory they share.

    Buffers of every phase: 0 = A, 1 = B, 2 = C and, when scratch_bytes > 0, 3 = scratch.  copied: the operand that the first
    phase copies, if all of scratch is that copy: it serves any product that would begin with the same phase.  stores:
    whether C is written, and not only given to an epilogue.
    """

    phases: tuple[Phase, ...]
    scratch_bytes: int
    copied: int | None = None
    stores: bool = True


def gemm_kernel(
    name: str,
    dtype_name: str,
    batch: int,
    m: int,
    n: int,
    k: int,
    a_layout: Layout,
    b_layout: Layout,
    *,
    offsets: tuple[int, int] = (0, 0),
    vector_bytes: int = 64,
    registers: int | None = None,
    epilogue: Epilogue | None = None,
    again: int = 1,
    tiles: bool = False,
    pairs: bool = False,
) -> Gemm:
    """Kernels for C[b, i, j] = sum over l of A[b, i, l] * B[b, l, j], with C contiguous.

    a_layout, b_layout: element strides (batch, row, column) of A (m x k) and B (k x n); zero where
    an operand is broadcast; the batch may have several axes, see `Batch`. offsets: elements from where
    a buffer begins to where A and B do. dtype_name: float32, float64, int32 or int64 (which wrap around).
    vector_bytes, registers: the machine's vector registers (default: 32 if they have 64 bytes,
    else 16). k = 0 gives zeros. An empty C gives no phases.

    epilogue: what is done with every tile of C, where `takes_epilogue` says that it can be. There are four numbers before its own
    in the index table, also without scratch memory; C has memory only if sums have several blocks.

    again: how many products have this B, and so could share a copy of it.  tiles, pairs: whether there are tile registers,
    and an instruction for pairs of bfloat16; with either A and B may also be bfloat16, and C then is float32.

    KeyError for another dtype.
    """
    if batch == 0 or m == 0 or n == 0:
        return Gemm((), 0)
    registers = registers or registers_of(vector_bytes)
    shape, a, b = _operands(dtype_name, batch, m, n, k, a_layout, b_layout, offsets, vector_bytes, tiles or pairs, epilogue is not None)
    share = again >= _OFTEN and 8 < shape.m < _FEW_ROWS and _is_large(shape)
    method = _method(dtype_name, shape, a, b, share, tiles)
    if method == "pairs":
        return Gemm(*pair_kernels(name, shape.batch, shape.m, shape.n, k, a, b))
    if method == "amx":
        return Gemm(*amx_kernels(name, 3 if dtype_name == "float32" else 1, shape.batch, shape.m, shape.n, k, a, b))
    if method == "dots":
        return Gemm((dot_kernel(name, shape, a, b, registers),), 0)

    plan = _plan(shape, a, b, registers, share)
    steps: list[Phase] = []
    scratch, copied = panel_bytes(shape, plan.vectors * shape.lanes) if plan.panels else 0, None
    assert scratch <= OWN_BYTES, scratch
    if plan.pack:
        copied = b.buffer
        phase, b, scratch = pack_columns(f"{name}_pack", shape, b, plan.vectors, shape.batch if b.batch else 1)
        steps.append(phase)
    if plan.turn:
        phase, a, size = pack_rows(f"{name}_rows", shape, a, scratch)
        steps.append(phase)
        scratch, copied = scratch + size, None
    tile = plan.rows, plan.vectors
    if plan.strips:
        steps.append(strips_kernel(name, shape, a, b, *tile, plan.panels, epilogue, fetch=plan.fetch))
    else:
        steps.append(tile_kernel(name, shape, a, b, *tile, epilogue, fetch=plan.fetch))
    return Gemm(tuple(steps), scratch, copied, not epilogue or k > shape.k_block)


def takes_epilogue(
    dtype_name: str, batch: int, m: int, n: int, k: int, a_layout: Layout, b_layout: Layout, *,
    offsets: tuple[int, int] = (0, 0), vector_bytes: int = 64, again: int = 1, tiles: bool = False, pairs: bool = False,
) -> Offer | None:  # fmt: skip
    """What this product offers to an epilogue, or None. The arguments are those of `gemm_kernel`.

    An epilogue takes whole vectors of columns; where their number is no multiple, the last has some of its neighbour's, of
    which the tile has the sums, too, unless they have several blocks. Products of bfloat16 gained nothing from one that could
    be measured.
    """
    shape, a, b = _operands(dtype_name, batch, m, n, k, a_layout, b_layout, offsets, vector_bytes, tiles or pairs, True)
    share = again >= _OFTEN and 8 < shape.m < _FEW_ROWS and _is_large(shape)
    if _method(dtype_name, shape, a, b, share, tiles) != "registers" or n < shape.lanes or (n % shape.lanes and k > shape.k_block):
        return None
    plan = _plan(shape, a, b, registers_of(vector_bytes), share)
    return Offer(shape.lanes, min(n, plan.vectors * shape.lanes), k > shape.k_block)


def registers_of(vector_bytes: int) -> int:
    """How many vector registers of that size there are."""
    return 32 if vector_bytes == 64 else 16


def _operands(
    dtype_name: str, batch: int, m: int, n: int, k: int, a_layout: Layout, b_layout: Layout, offsets: tuple[int, int],
    vector_bytes: int, halves: bool, has_epilogue: bool,
) -> tuple[Shape, Operand, Operand]:  # fmt: skip
    """A product that is not empty, as it will be computed. halves: whether those of bfloat16 are."""
    element, itemsize = ("i16", 2) if halves and dtype_name == "bfloat16" else ELEMENTS[dtype_name]
    # A batch of equal B is one taller product, if the matrices of A follow each other.
    apart = a_layout[0]
    if batch > 1 and b_layout[0] == 0 and isinstance(apart, int) and (apart == m * a_layout[1] or m == 1):
        if m == 1:
            a_layout = (0, apart, a_layout[2])
        batch, m = 1, batch * m
    # One column: the transposed product has one row instead, and its vectors run along memory.
    left, right = 0, 1
    if n == 1 and m > 1 and not has_epilogue and itemsize > 2:
        a_layout, b_layout = _transposed(b_layout), _transposed(a_layout)
        m, n, left, right = n, m, right, left
        offsets = offsets[::-1]
    shape = Shape(element, itemsize, vector_bytes // itemsize, batch, m, n, k)
    return shape, Operand(left, *a_layout, offset=offsets[0] * itemsize), Operand(right, *b_layout, offset=offsets[1] * itemsize)


def _method(dtype_name: str, shape: Shape, a: Operand, b: Operand, share: bool, tiles: bool) -> str:
    """"pairs" of bfloat16, "amx" for tile registers, "dots" along k, or tiles in vector "registers"."""
    if dtype_name == "bfloat16":
        return "amx" if tiles else "pairs"
    if tiles and dtype_name == "float32" and _wants_tiles(shape, a, b):
        return "amx"
    return "dots" if not share and _wants_dots(shape, a, b) else "registers"


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a product is computed by tiles.

    rows, vectors: of a tile.  strips: by columns of tiles, as in `gemm_strips.py`; panels: whose threads copy B.
    pack: B is copied before.  turn: A is copied by rows before.  fetch: as of `Tile`.
    """

    rows: int
    vectors: int
    strips: bool
    panels: bool
    pack: bool
    turn: bool
    fetch: bool


def _plan(shape: Shape, a: Operand, b: Operand, registers: int, share: bool) -> _Plan:
    m, n, k, lanes = shape.m, shape.n, shape.k, shape.lanes
    repays = m >= 4 * _STRIP_TILE[0] and n >= 4 * lanes and k >= lanes and shape.batch * m * n * k >= _REPAYS
    large = repays and n >= 8 * lanes and m * n * k >= _REPAYS and _is_large(shape) and not share
    rows, vectors = choose_tile(m, n, k, lanes, registers, largest=_STRIP_TILE if large else _TILE)
    turn = repays and not share and _wants_rows(shape, a)
    # Columns of A that are read in place had better be read once, for a few columns of B that are near.
    columns = repays and a.row == 1 != a.column and not turn
    strips = large and not (columns and n * k <= _NEARBY and _is_near(shape, b))
    panels = strips and wants_panels(shape, b, vectors * lanes)
    pack = not strips and (share or _wants_packing(shape, b, rows))
    # The more often A is read again, the smaller is the one for which that repays: for every strip, or for a tile's columns.
    readings = 4 if strips else 2 if columns else 1
    fetch = repays and readings * m * k * shape.itemsize * (shape.batch if a.batch else 1) > l2_bytes()
    return _Plan(rows, vectors, strips, panels, pack, turn, fetch)


def choose_tile(
    m: int, n: int, k: int, lanes: int, registers: int, *, largest: tuple[int, int] = _TILE
) -> tuple[int, int]:
    """Rows and vectors, up to `largest`, of the tile that computes an m x n product in the least estimated time.

    The estimate counts cycles on a machine with two multiply-adds and two loads a cycle and four
    cycles of latency, which is what current x86 and ARM cores have. A load costs a little even so: another thread on
    the core loads, too. A panel of B that the first-level cache cannot hold comes from the second, at a register in 1.6
    cycles.

    >>> from adjoint.codegen.gemm import choose_tile
    >>> choose_tile(768, 512, 128, 16, 32)
    (6, 4)
    """
    best, choice = float("inf"), (1, 1)
    for vectors in range(1, min(largest[1], -(-n // lanes)) + 1):
        for rows in range(1, min(largest[0], m) + 1):
            held = rows * vectors
            if held + vectors + 1 > registers:
                break
            far = k * vectors * lanes > _L1_ELEMENTS and m > rows
            step = max(held / 2, (rows + vectors) / 2, 4.0, 1.6 * vectors if far else 0.0) + 0.25 + _LOAD * (rows + vectors)
            tiles = -(-m // rows) * -(-n // (vectors * lanes))
            cost = tiles * (max(k, 1) * step + 1.5 * held + 15)
            if cost < best:
                best, choice = cost, (rows, vectors)
    return choice


def _wants_dots(shape: Shape, a: Operand, b: Operand) -> bool:
    """Whether dot products along k cost less than packing a B with contiguous columns.

    Many rows of A repay it: in tiles of C, registers are loaded less often.
    """
    if a.column != 1 or b.row != 1 or b.column == 1 or shape.k <= 1:
        return False
    return shape.m <= 2 or LANE_SUMS * shape.m < _PACKING * shape.k and shape.m <= _MOST_DOTS


def _wants_tiles(shape: Shape, a: Operand, b: Operand) -> bool:
    """Whether parting both operands, which takes as long as some 200 multiply-adds for each element, is repaid.

    Sums of few elements were no faster among other kernels, and copies of more than `_PARTED` bytes take memory for nothing.
    """
    if 1 not in (a.row, a.column) or 1 not in (b.row, b.column):
        return False
    m, n, k = shape.m, shape.n, shape.k
    copies = 6 * k * ((m if a.batch == 0 else shape.batch * m) + (n if b.batch == 0 else shape.batch * n))
    return m * n >= _PARTING * (m + n) and k >= 8 * DEPTH and copies <= _PARTED


def _is_large(shape: Shape) -> bool:
    """Whether B is slow to read where it lies."""
    return shape.k * shape.n * shape.itemsize > 1 << 18


def _is_near(shape: Shape, b: Operand) -> bool:
    """Whether rows of B follow each other so closely that processors foresee the next."""
    return b.column == 1 and b.row * shape.itemsize <= 1 << 10


def _wants_packing(shape: Shape, b: Operand, rows: int) -> bool:
    """Whether copying B into panels costs less than reading it where it lies."""
    if shape.k == 0:
        return False
    if b.column != 1 and shape.n > 1:
        return True
    # In place, each step of k enters another row, which may be far; many rows of tiles must repay the copy.
    return _is_large(shape) and not _is_near(shape, b) and shape.m > 8 and shape.m >= 4 * rows


def _wants_rows(shape: Shape, a: Operand) -> bool:
    """Whether copying an A with contiguous columns by rows is repaid.

    It takes as long as some 50 multiply-adds for each element. Many columns of B repay that, or lines that collide: those
    of one tile are the next one's too, which would fetch them from afar again.
    """
    if a.row != 1 or a.column in (0, 1) or min(shape.m, shape.k) < shape.lanes:
        return False
    size = shape.m * shape.k * shape.itemsize
    fitting = l2_bytes() // math.gcd(abs(a.column) * shape.itemsize, _L2_WAY)  # lines of that distance, into the cache
    if 4 * min(shape.k, shape.k_block) > 3 * fitting:
        return size >= 1 << 18
    return size >= 1 << 20 and shape.n >= _MANY_COLUMNS


def _transposed(layout: Layout) -> Layout:
    return layout[0], layout[2], layout[1]
