"""Registers for indices: buffers, loop variables and affine expressions, scalar or across lanes.

`Addresses` adds to the decisions of `Tiling` the function under construction (`levels`) and what concerns positions in
memory. Every sum is written term by term, outer loops first, at the outermost depth where its terms exist. Read
`_scalar_index` and `_parts`.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint.codegen import scalars as sc
from adjoint.codegen.loops import Levels
from adjoint.codegen.tiling import ROW_DEPTH, Tiling
from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Expr, Var
from adjoint.schedule.values import Nest, Value

STATUS = "status"  # the buffer in which a kernel notes that an index was out of range

_FAR = 32  # elements: constant displacements from here on are kept out of the text
_MOST_OFFSETS = 16


class Addresses(Tiling):
    """buffers, scalars, offsets: what the kernel's index table will hold, in order of first use."""

    def __init__(self, nest: Nest, stored: set[Node], vector_bytes: int) -> None:
        super().__init__(nest, stored, vector_bytes)
        self.levels = Levels()
        self.em = self.levels.em
        self.buffers: list[Any] = []
        self.scalars: list[tuple[int, DType]] = []
        self.offsets: list[int] = []

    def _depth(self, v: Value) -> int:
        depth = self._mask_depth(v.mask)
        return max(depth, ROW_DEPTH) if v.stage else depth

    def _mask_depth(self, mask: int) -> int:
        depth = 0
        while mask:
            bit = mask & -mask
            mask ^= bit
            depth = max(depth, self.depth_of_bit.get(bit, 0))
        return depth

    def _lanes(self, v: Value) -> int:
        return self.lanes if v.mask & self.vec_mask else 1

    def _get(self, v: Value) -> tuple[str, int]:
        return self.levels.stack[self._depth(v)].memo[v], self._lanes(v)

    def _as(self, v: Value, lanes: int, depth: int) -> str:
        """The register of `v`, spread over `lanes` if it is one number."""
        x, have = self._get(v)
        if have == lanes or lanes == 1:
            return x
        if v.op == "const":
            return sc.literal(self.em, lanes, v.dtype, v.attrs)
        at = self._depth(v)
        memo = self.levels.stack[at].memo
        found = memo.get(("splat", v))
        if found is None:
            self.levels.use(at)
            found = memo["splat", v] = self.em.splat(sc.register(v.dtype), lanes, x)
        self.levels.use(depth)
        return found

    def _buffer(self, key: Any) -> str:
        """The pointer of a buffer, loaded at the function's entry."""
        memo = self.levels.stack[0].memo
        found = memo.get(("buffer", key))
        if found is None:
            if key not in self.buffers:
                self.buffers.append(key)
            k = self.buffers.index(key)
            self.levels.use(0)
            em = self.em
            place = em.op(f"getelementptr i32, ptr %idx, i64 {k}")
            number = em.op(f"sext i32 {em.op(f'load i32, ptr {place}, align 4')} to i64")
            slot = em.op(f"getelementptr ptr, ptr %bufs, i64 {number}")
            found = memo["buffer", key] = em.op(f"load ptr, ptr {slot}, align 8", "b")
        return found

    def _displaced(self, node: Node, e: Expr, element: str) -> tuple[str, Expr]:
        """The pointer of a buffer moved by the far constant part of an index, and what is left of the index."""
        base, far = self._buffer(node), e[0]
        if not _FAR <= far < 1 << 31:
            return base, e
        memo = self.levels.stack[0].memo
        found = memo.get(("displaced", node, far))
        if found is None:
            if len(self.offsets) == _MOST_OFFSETS:
                return base, e
            em = self.em
            self.levels.use(0)
            place = em.op(f"getelementptr i32, ptr %idx, i64 @offset{len(self.offsets)}@")
            self.offsets.append(far)
            moved = em.op(f"sext i32 {em.op(f'load i32, ptr {place}, align 4')} to i64")
            found = memo["displaced", node, far] = em.op(
                f"getelementptr {element}, ptr {base}, i64 {moved}"
            )
        return found, (0, e[1])

    def _variable(self, var: Var) -> str:
        """The scalar register of a variable."""
        if var.kind == "loop":
            return self.levels.stack[self.group_of[var].depth].memo["var", var]
        if var.kind == "value":
            return self._get(var.payload)[0]
        depth = self._mask_depth(var.mask)
        memo = self.levels.stack[depth].memo
        found = memo.get(("var", var))
        if found is None:
            inner, n = var.payload
            x = self._scalar_index(inner)
            self.levels.use(depth)
            op = "udiv" if var.kind == "div" else "urem"
            if ex.bounds(inner)[0] < 0:
                op = "s" + op[1:]
            found = memo["var", var] = self.em.op(f"{op} i64 {x}, {n}")
        return found

    def _sum(self, terms: tuple) -> str:
        """Sum of scalar terms, inner loops last, so that the outer part is computed outside."""
        terms = tuple(sorted([t for t in terms if t[0] not in self.absorbed], key=self._term_order))
        total = ""
        depth = 0
        for k in range(len(terms)):
            var, factor = terms[k]
            depth = max(depth, self._var_depth(var))
            memo = self.levels.stack[depth].memo
            key = ("sum", terms[: k + 1])
            found = memo.get(key)
            if found is None:
                x = self._variable(var)
                self.levels.use(depth)
                if factor != 1:
                    x = (
                        self.em.op(f"mul i64 {x}, {factor}")
                        if x.startswith("%")
                        else str(int(x) * factor)
                    )
                if total and total != "0":
                    x = self.em.op(f"add i64 {total}, {x}") if x != "0" else total
                found = memo[key] = x
            total = found
        return total or "0"

    def _term_order(self, term: tuple[Var, int]) -> tuple[int, int]:
        return self._var_depth(term[0]), term[0].id

    def _var_depth(self, var: Var) -> int:
        if var.kind == "value":
            return self._depth(var.payload)
        return self._mask_depth(var.mask)

    def _scalar_index(self, e: Expr) -> str:
        total = self._sum(e[1])
        if not e[0]:
            return total
        if not total.startswith("%"):
            return str(int(total) + e[0])
        depth = max([self._var_depth(v) for v, _ in e[1]], default=0)
        memo = self.levels.stack[depth].memo
        found = memo.get(("index", e))
        if found is None:
            self.levels.use(depth)
            found = memo["index", e] = self.em.op(f"add i64 {total}, {e[0]}")
        return found

    def _parts(self, e: Expr) -> tuple[Expr, int, list[tuple[Var, int]]]:
        """The scalar part, the step from lane to lane, and the terms that differ irregularly between lanes."""
        step, scalar, irregular = 0, [], []
        for var, k in e[1]:
            if not var.mask & self.vec_mask:
                scalar.append((var, k))
            elif var.kind == "loop":
                scalar.append((var, k))
                if self.vec is not None and var is self.vec.last:
                    step = k
            else:
                irregular.append((var, k))
        return (e[0], tuple(scalar)), step, irregular

    def _lane_offsets(self, e: Expr) -> list[int] | None:
        """How far each lane's element lies from the first lane's, where that is the same for all vectors and not far.

        It is where quotients and remainders are by numbers that divide the places where vectors start.
        """
        vec, lanes = self.vec, self.lanes
        if vec is None or len(vec.members) != 1 or vec is self.chunk_group:
            return None
        aligned = lanes if self.row_mode or self.n_vec % lanes == 0 else math.gcd(lanes, self.n_vec)
        _, step, irregular = self._parts(e)
        out = [step * i for i in range(lanes)]
        for var, k in irregular:
            if var.kind not in ("div", "mod"):
                return None
            (start, terms), n = var.payload
            if aligned % n or any(f != 1 if v is vec.last else f % n or v.mask & self.vec_mask for v, f in terms):
                return None
            for i in range(lanes):
                quotient, rest = divmod(start % n + i, n)
                out[i] += k * (quotient if var.kind == "div" else rest - start % n)
        return out if min(out) == 0 and max(out) < 2 * lanes else None

    def _vector_index(self, e: Expr, element: str) -> str:
        """An index expression in every lane, as i64 or i32."""
        depth = max([self._var_depth(v) for v, _ in e[1]], default=0)
        memo = self.levels.stack[depth].memo
        found = memo.get(("vector", e, element))
        if found is not None:
            return found
        em, lanes = self.em, self.lanes
        kind = f"<{lanes} x {element}>"
        scalar, step, irregular = self._parts(e)
        base = self._scalar_index(scalar)
        pieces = []
        for var, k in irregular:
            x = self._vector_variable(var, element)
            self.levels.use(depth)
            pieces.append(
                x if k == 1 else em.op(f"mul {kind} {x}, {em.splat(element, lanes, str(k))}")
            )
        self.levels.use(depth)
        if element == "i32" and base.startswith("%"):
            base = em.op(f"trunc i64 {base} to i32")
        total = em.splat(element, lanes, base)
        if step:
            steps = "<" + ", ".join(f"{element} {i * step}" for i in range(lanes)) + ">"
            total = em.op(f"add {kind} {total}, {steps}")
        for x in pieces:
            total = em.op(f"add {kind} {total}, {x}")
        memo["vector", e, element] = total
        return total

    def _vector_variable(self, var: Var, element: str) -> str:
        em, lanes = self.em, self.lanes
        depth = self._var_depth(var)
        memo = self.levels.stack[depth].memo
        found = memo.get(("vector", var, element))
        if found is not None:
            return found
        if var.kind == "value":
            x = self._as(var.payload, lanes, depth)
            self.levels.use(depth)
            if element == "i32":
                x = em.op(f"trunc <{lanes} x i64> {x} to <{lanes} x i32>")
        else:
            inner, n = var.payload
            lo, hi = ex.bounds(inner)
            narrow = "i32" if lo > -(1 << 31) and hi < 1 << 31 and n < 1 << 31 else "i64"
            x = self._vector_index(inner, narrow)
            self.levels.use(depth)
            op = (
                ("udiv" if lo >= 0 else "sdiv")
                if var.kind == "div"
                else ("urem" if lo >= 0 else "srem")
            )
            x = em.op(f"{op} <{lanes} x {narrow}> {x}, {em.splat(narrow, lanes, str(n))}")
            if narrow != element:
                way = "sext" if element == "i64" else "trunc"
                x = em.op(f"{way} <{lanes} x {narrow}> {x} to <{lanes} x {element}>")
        memo["vector", var, element] = x
        return x
