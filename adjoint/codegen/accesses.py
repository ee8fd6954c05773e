"""Loads and stores: whole vectors, masked tails, gathers, predicates, accumulation in memory.

`_load` and `_store` choose by how an index moves from lane to lane: not at all, by one, by two, backwards,
in a pattern that is the same for all vectors (as in what was spread or repeated), or irregularly. What `Tiling` wants
turned is read a tile at a time (`_turn`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adjoint import dtypes
from adjoint.codegen import scalars as sc
from adjoint.codegen.addresses import Addresses
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.reductions import fold_of
from adjoint.codegen.squares import turned
from adjoint.codegen.tiling import LINE, ROW_DEPTH, STREAM_BYTES
from adjoint.hardware import family, vendor
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.values import Nest, Root, Value

_PAGE = 4096  # bytes
# How near to the core lines come that are asked for ahead (LLVM's localities, 3 the nearest). What comes past the caches, 0,
# is up to 15 % faster than without asking on AMD's Zen 5, a fifth slower than 1 on Zen 4, and on Intel's Emerald Rapids four
# times slower than 3.
_NEARNESS = (0 if family() > 25 else 1) if vendor() == "AuthenticAMD" else 3


class Accesses(Addresses):
    """piece, block_of_rows, first_row: registers that say where partial results belong, and whether they begin there.

    replaced: (result, input) of which one may lie where the other lies.  past: whether stores go past the caches also then,
    which pays where it does not; two_ways: whether some would, and do not.
    tile_start: the first row of a tile.  row_number, vec_number: where the loops over rows and vectors are, and began.
    """

    row_number: tuple[str, str]
    vec_number: tuple[str, str]

    def __init__(self, nest: Nest, stored: set[Node], vector_bytes: int) -> None:
        super().__init__(nest, stored, vector_bytes)
        self.streaming = False
        self.replaced: Sequence[tuple[Node, Node]] = ()
        self.past = self.two_ways = False
        self.piece = self.block_of_rows = "0"
        self.first_row = "true"
        self.tile_start = "0"

    def _mask(self, lanes: int) -> str | None:
        return self.levels.stack[-1].memo.get("mask") if self.row_mode and lanes > 1 else None

    def _turn(self, v: Value) -> list[str]:
        """Read a tile along memory and turn it: a register for each row."""
        node, e, _ = v.attrs
        em, element, size, lanes = self.em, v.dtype.llvm, v.dtype.itemsize, self.lanes
        side = min(lanes, self.vector_bytes // size, self.tile)
        kind, (row, vec) = vector_type(element, side), (self.rows[-1], self.vec)
        assert vec is not None
        base, e = self._displaced(node, e, element)
        step = dict(e[1])[vec.last]
        offset = self._scalar_index((e[0], tuple([t for t in e[1] if not t[0].mask & row.mask])))
        self.levels.use(ROW_DEPTH)
        first = em.op(f"getelementptr {element}, ptr {base}, i64 {em.op(f'add i64 {offset}, {self.tile_start}')}")
        if self.ahead:
            self._ask_ahead(first, element, size, step)
        rows = []
        for i in range(0, self.tile, side):
            parts = []
            for j in range(0, lanes, side):
                places = [em.op(f"getelementptr {element}, ptr {first}, i64 {i + step * k}") for k in range(j, j + side)]
                parts.append(turned(em, [em.op(f"load {kind}, ptr {p}, align {size}") for p in places], element, size))
            rows += [self._joined(list(pieces), element, side) for pieces in zip(*parts, strict=True)]
        if v.dtype is dtypes.bool:
            rows = [em.op(f"icmp ne <{lanes} x i8> {x}, zeroinitializer") for x in rows]
        return rows

    def _ask_ahead(self, first: str, element: str, size: int, step: int) -> None:
        """Ask for one row of what the next block reads: of this tile's number in the block, and from end to end.

        first: where this tile begins.  step: elements from row to row.
        """
        em = self.em
        (row, row_from), (at, at_from) = self.row_number, self.vec_number
        along, down = em.op(f"sub i64 {row}, {row_from}"), em.op(f"sub i64 {at}, {at_from}")
        number = em.op(f"mul i64 {along}, {self.vec_block // self.lanes}")
        number = em.op(f"add i64 {number}, {em.op(f'udiv i64 {down}, {self.lanes}')}")
        number = em.op(f"add i64 {em.op(f'sub i64 {number}, {down}')}, {self.vec_block}")
        back = em.op(f"mul i64 {along}, {self.tile}")
        place = em.op(f"sub i64 {em.op(f'mul i64 {number}, {step}')}, {back}")
        start = em.op(f"getelementptr {element}, ptr {first}, i64 {place}")
        self._prefetch(start, self.row_block * self.tile * size)

    def _prefetch(self, start: str, nbytes: int) -> None:
        """Ask for lines that are read once."""
        self.em.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        for line in range(0, nbytes, LINE):
            pointer = self.em.op(f"getelementptr i8, ptr {start}, i64 {line}") if line else start
            self.em.line(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {_NEARNESS}, i32 1)")

    def _joined(self, parts: list[str], element: str, lanes: int) -> str:
        """Vectors of so many lanes, one after the other in a wide one."""
        while len(parts) > 1:
            kind, order = f"<{lanes} x {element}>", ", ".join(f"i32 {i}" for i in range(2 * lanes))
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.em.op(f"shufflevector {kind} {a}, {kind} {b}, <{2 * lanes} x i32> <{order}>") for a, b in pairs]
            lanes *= 2
        return parts[0]

    def _load(self, v: Value, lanes: int, depth: int) -> str:
        node, e, predicated = v.attrs
        em, dtype = self.em, v.dtype
        element, size = dtype.llvm, dtype.itemsize
        pred = v.args[-1] if predicated else None
        varies = lanes > 1 and any(var.mask & self.vec_mask for var, _ in e[1])
        base = self._buffer(node)
        if varies or pred is None:
            base, e = self._displaced(node, e, element)
        scalar, step, irregular = self._parts(e)
        varies = lanes > 1 and (step != 0 or bool(irregular))
        if not varies:
            offset = self._scalar_index(scalar)
            self.levels.use(depth)
            if pred is not None:
                p, p_lanes = self._get(pred)
                self.levels.use(depth)
                p = sc.any_lane(em, p_lanes, p)
                offset = em.op(f"select i1 {p}, i64 {offset}, i64 0")
            pointer = em.op(f"getelementptr {element}, ptr {base}, i64 {offset}")
            x = em.op(f"load {element}, ptr {pointer}, align {size}")
            x = em.op(f"icmp ne i8 {x}, 0") if dtype is dtypes.bool else x
            return em.splat(sc.register(dtype), lanes, x)
        kind = f"<{lanes} x {element}>"
        mask = self._mask(lanes)
        if pred is not None:
            p = self._as(pred, lanes, depth)
            self.levels.use(depth)
            mask = p if mask is None else em.op(f"and <{lanes} x i1> {p}, {mask}")
        name = f"v{lanes}{sc.mangled(1, element)}"
        if abs(step) == 1 and not irregular:
            if step == -1:
                scalar = ex.shift(scalar, 1 - lanes)
            offset = self._scalar_index(scalar)
            self.levels.use(depth)
            pointer = em.op(f"getelementptr {element}, ptr {base}, i64 {offset}")
            if v is self.streamed and step == 1:
                self._prefetch(em.op(f"getelementptr i8, ptr {pointer}, i64 {_PAGE}"), lanes * size)
            if mask is None:
                x = em.op(f"load {kind}, ptr {pointer}, align {size}")
            else:
                if step == -1:
                    mask = self._reversed(f"<{lanes} x i1>", mask, lanes)
                em.declare(f"{kind} @llvm.masked.load.{name}.p0(ptr, i32, <{lanes} x i1>, {kind})")
                x = em.op(
                    f"call {kind} @llvm.masked.load.{name}.p0(ptr {pointer}, i32 {size}, <{lanes} x i1> {mask}, "
                    f"{kind} zeroinitializer)"
                )
            if step == -1:
                x = self._reversed(kind, x, lanes)
        elif step == 2 and not irregular and mask is None:
            offset = self._scalar_index(scalar)
            self.levels.use(depth)
            x = self._every_other(base, offset, element, size, lanes)
        elif (pattern := self._lane_offsets(e)) is not None:
            offset = self._scalar_index(e)
            self.levels.use(depth)
            pointer = em.op(f"getelementptr {element}, ptr {base}, i64 {offset}")
            x = self._picked(pointer, pattern, mask, element, size, depth)
        else:
            lo, hi = ex.bounds(e)
            narrow = "i32" if lo > -(1 << 31) and hi < 1 << 31 else "i64"
            where = self._vector_index(e, narrow)
            self.levels.use(depth)
            pointers = em.op(f"getelementptr {element}, ptr {base}, <{lanes} x {narrow}> {where}")
            em.declare(
                f"{kind} @llvm.masked.gather.{name}.v{lanes}p0(<{lanes} x ptr>, i32, <{lanes} x i1>, {kind})"
            )
            flags = mask or em.splat("i1", lanes, "true")
            x = em.op(
                f"call {kind} @llvm.masked.gather.{name}.v{lanes}p0(<{lanes} x ptr> {pointers}, i32 {size}, "
                f"<{lanes} x i1> {flags}, {kind} zeroinitializer)"
            )
        return em.op(f"icmp ne {kind} {x}, zeroinitializer") if dtype is dtypes.bool else x

    def _every_other(self, base: str, offset: str, element: str, size: int, lanes: int) -> str:
        """Elements 0, 2, 4, ... from `offset`: two loads, the second ending with the last element, and a shuffle."""
        em, kind = self.em, f"<{lanes} x {element}>"
        first = em.op(f"getelementptr {element}, ptr {base}, i64 {offset}")
        second = em.op(f"getelementptr {element}, ptr {first}, i64 {lanes - 1}")
        low, high = (em.op(f"load {kind}, ptr {p}, align {size}") for p in (first, second))
        order = [2 * j if 2 * j < lanes else lanes + 2 * j - (lanes - 1) for j in range(lanes)]
        picks = ", ".join(f"i32 {k}" for k in order)
        return em.op(f"shufflevector {kind} {low}, {kind} {high}, <{lanes} x i32> <{picks}>")

    def _picked(
        self, pointer: str, pattern: list[int], mask: str | None, element: str, size: int, depth: int
    ) -> str:
        """Elements at known distances from `pointer`: one or two loads of what is needed, and a shuffle."""
        em, lanes = self.em, self.lanes
        kind, bits = f"<{lanes} x {element}>", f"<{lanes} x i1>"
        load = f"@llvm.masked.load.v{lanes}{sc.mangled(1, element)}.p0"
        em.declare(f"{kind} {load}(ptr, i32, {bits}, {kind})")
        loaded = []
        for first in range(0, max(pattern) + 1, lanes):
            readers = [[i for i, at in enumerate(pattern) if at == m] for m in range(first, first + lanes)]
            memo, key = self.levels.stack[depth].memo, ("needed", mask, tuple(pattern), first)
            needed = memo.get(key)
            if needed is None:
                if mask is None:
                    needed = "<" + ", ".join(f"i1 {int(bool(r))}" for r in readers) + ">"
                for turn in range(max(map(len, readers)) if mask is not None else 0):
                    order = ", ".join(f"i32 {r[turn] if turn < len(r) else lanes}" for r in readers)
                    some = em.op(f"shufflevector {bits} {mask}, {bits} zeroinitializer, <{lanes} x i32> <{order}>")
                    needed = some if needed is None else em.op(f"or {bits} {needed}, {some}")
                memo[key] = needed
            at = em.op(f"getelementptr {element}, ptr {pointer}, i64 {first}") if first else pointer
            loaded.append(em.op(f"call {kind} {load}(ptr {at}, i32 {size}, {bits} {needed}, {kind} zeroinitializer)"))
        picks = ", ".join(f"i32 {at}" for at in pattern)
        return em.op(f"shufflevector {kind} {loaded[0]}, {kind} {loaded[-1]}, <{lanes} x i32> <{picks}>")

    def _reversed(self, kind: str, x: str, lanes: int) -> str:
        order = ", ".join(f"i32 {lanes - 1 - i}" for i in range(lanes))
        return self.em.op(f"shufflevector {kind} {x}, {kind} poison, <{lanes} x i32> <{order}>")

    def _store(self, root: Root) -> None:
        """Write a root's value to its place, at the innermost depth that is open."""
        em, v, dtype = self.em, root.value, root.node.dtype
        depth = len(self.levels.stack) - 1
        element, size = dtype.llvm, dtype.itemsize
        base, e = self._displaced(root.target, root.place, element)
        if root.kind in ("partial", "column"):
            rows = math.prod(root.node.shape[1:])
            piece = self.piece if root.kind == "partial" else self.block_of_rows
            self.levels.use(depth)
            moved = (
                em.op(f"mul i64 {piece}, {rows}")
                if piece.startswith("%")
                else str(int(piece) * rows)
            )
        else:
            moved = "0"
        scalar, step, irregular = self._parts(e)
        lanes = self.lanes if ex.mask(e) & self.vec_mask else 1
        x = self._as(v, lanes, depth) if lanes > 1 else self._get(v)[0]
        kind = vector_type(element, lanes)
        self.levels.use(depth)
        if dtype is dtypes.bool:
            x = em.op(f"zext {vector_type('i1', lanes)} {x} to {kind}")
        if lanes > 1 and (step != 1 or irregular):
            where = self._vector_index(e, "i64")
            self.levels.use(depth)
            self._scatter_lanes(base, where, x, element, size, lanes)
            return
        offset = self._scalar_index(scalar)
        self.levels.use(depth)
        if moved != "0":
            offset = em.op(f"add i64 {offset}, {moved}")
        pointer = em.op(f"getelementptr {element}, ptr {base}, i64 {offset}")
        mask = self._mask(lanes)
        if self.turn and lanes > 1:
            mask = self.levels.stack[-1].memo.get("mine")
        if root.kind == "column" or self.turn:
            x = self._added_to_column(root, pointer, x, lanes, mask)
        if root.kind == "scatter" and root.node.prim.name == "put_add":
            old = em.op(f"load {kind}, ptr {pointer}, align {size}")
            if dtype is dtypes.bool:
                x = em.op(f"or {kind} {old}, {x}")
            else:
                x = em.op(f"{'fadd' if dtype.is_floating_point else 'add'} {kind} {old}, {x}")
        if mask is None and lanes > 1 and self._streams(root, lanes * size):
            self.streaming = True
            em.line(f"store {kind} {x}, ptr {pointer}, align 64, !nontemporal !0")
        elif mask is None:
            em.line(f"store {kind} {x}, ptr {pointer}, align {size}")
        else:
            name = f"v{lanes}{sc.mangled(1, element)}"
            em.declare(f"void @llvm.masked.store.{name}.p0({kind}, ptr, i32, <{lanes} x i1>)")
            em.line(
                f"call void @llvm.masked.store.{name}.p0({kind} {x}, ptr {pointer}, i32 {size}, <{lanes} x i1> {mask})"
            )

    def _added_to_column(
        self, root: Root, pointer: str, x: str, lanes: int, mask: str | None
    ) -> str:
        """What a partial result becomes with one more row, or turn; the first of a block or piece starts from nothing."""
        em, dtype = self.em, root.node.dtype
        kind = vector_type(dtype.llvm, lanes)
        name = root.node.attrs[0]
        if dtype is dtypes.bool:  # bytes of 0 and 1 here
            name, dtype = {"sum": "amax", "prod": "amin"}.get(name, name), dtypes.uint8
        fold = fold_of(name, dtype, lanes)
        if mask is None:
            old = em.op(f"load {kind}, ptr {pointer}, align {dtype.itemsize}")
        else:
            load = f"@llvm.masked.load.v{lanes}{sc.mangled(1, dtype.llvm)}.p0"
            em.declare(f"{kind} {load}(ptr, i32, <{lanes} x i1>, {kind})")
            old = em.op(
                f"call {kind} {load}(ptr {pointer}, i32 {dtype.itemsize}, <{lanes} x i1> {mask}, "
                f"{kind} zeroinitializer)"
            )
        start = fold.initial(em)[0][1]
        old = em.op(f"select i1 {self.first_row}, {kind} {start}, {kind} {old}")
        return fold.combine(em, [old], [x])[0]

    def _streams(self, root: Root, nbytes: int) -> bool:
        """Whether a store should go past the caches: a kernel that moves more than they hold, whole aligned lines."""
        if (
            self.bytes < STREAM_BYTES
            or root.kind != "full"
            or nbytes % 64
            or self.vec is None
            or (self.swapped and not self.tile)
        ):
            return False
        size = root.node.dtype.itemsize
        if root.node.size * size < STREAM_BYTES // 8:
            return False
        if not self.row_mode and self.n_vec % self.lanes:
            return False
        if root.place[0] * size % 64:
            return False
        whole = all(
            k * size * (self.lanes if var is self.vec.last else 1) % 64 == 0
            for var, k in root.place[1]
            if var not in self.absorbed
        )
        if whole and not self.past and any(o is root.target for o, _ in self.replaced):
            self.two_ways = True  # in place its lines are in the cache, because they have been read
            return False
        return whole

    def _scatter_lanes(
        self, base: str, where: str, x: str, element: str, size: int, lanes: int
    ) -> None:
        em = self.em
        name = f"v{lanes}{sc.mangled(1, element)}"
        pointers = em.op(f"getelementptr {element}, ptr {base}, <{lanes} x i64> {where}")
        flags = self._mask(lanes) or em.splat("i1", lanes, "true")
        kind = f"<{lanes} x {element}>"
        em.declare(
            f"void @llvm.masked.scatter.{name}.v{lanes}p0({kind}, <{lanes} x ptr>, i32, <{lanes} x i1>)"
        )
        em.line(
            f"call void @llvm.masked.scatter.{name}.v{lanes}p0({kind} {x}, <{lanes} x ptr> {pointers}, i32 {size}, "
            f"<{lanes} x i1> {flags})"
        )
