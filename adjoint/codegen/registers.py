"""Registers for values: one kernel value after another, each at its own depth, and the few kept in scratch rows.

`_evaluate` writes what a list of values needs; `_emit` is one value. A value that a later stage wants again is
computed again, or, if it is dear, kept in a scratch row on the stack (`_choose_spills`).
"""

from __future__ import annotations

import math

from adjoint import dtypes
from adjoint.codegen import scalars as sc
from adjoint.codegen.accesses import Accesses
from adjoint.codegen.addresses import STATUS
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.reductions import Fold, fold_of
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.values import Nest, Value

_SPILL_COST = 6  # additions: values dearer than this are kept for later stages
_SPILL_BYTES = 65536  # at most so much stack for one kept value
_STACK_BYTES = 262144  # and for all of them, since threads may have small stacks
_MANY_ROUNDS = 4096  # vectors: from so many on random numbers are written for speed, not for LLVM
_SCANNED = {"cumsum": "sum", "recurrence": "sum", "cumprod": "prod", "cummax": "amax", "cummin": "amin"}


class Registers(Accesses):
    """spills: scratch rows of kept values; spill_at: the pass that fills each; pass_number: the pass being written."""

    def __init__(self, nest: Nest, stored: set[Node], vector_bytes: int) -> None:
        super().__init__(nest, stored, vector_bytes)
        self.spills = {}
        self.spill_at = {}
        self.pass_number = 0

    def _evaluate(self, wanted: list[Value]) -> None:
        """Write all values that `wanted` need, operands first, each at its own depth."""
        missing: set[Value] = set()
        stack = list(wanted)
        while stack:
            v = stack.pop()
            if v in missing or v in self.levels.stack[self._depth(v)].memo:
                continue
            missing.add(v)
            if not self._is_kept(v):
                stack.extend(v.args)
        for v in sorted(missing, key=_ident):
            depth = self._depth(v)
            self.levels.use(depth)
            self.levels.stack[depth].memo[v] = (
                self._reload(v, depth) if self._is_kept(v) else self._emit(v, depth)
            )

    def _is_kept(self, v: Value) -> bool:
        return bool(self.cols) and v in self.spills and self.spill_at[v] < self.pass_number

    def _reload(self, v: Value, depth: int) -> str:
        pointer, kind = self._scratch(v, depth)
        x = self.em.op(f"load {kind}, ptr {pointer}, align {v.dtype.itemsize}")
        return (
            self.em.op(f"icmp ne {kind} {x}, zeroinitializer")
            if v.dtype is dtypes.bool and kind[0] == "<"
            else (self.em.op(f"icmp ne {kind} {x}, 0") if v.dtype is dtypes.bool else x)
        )

    def _emit(self, v: Value, depth: int) -> str:
        em, lanes = self.em, self._lanes(v)
        op = v.op
        if op == "load":
            return self._load(v, lanes, depth)
        if op == "const":
            return sc.literal(em, lanes, v.dtype, v.attrs)
        if op == "scalar":
            return self._scalar_argument(v)
        if op == "index":
            return self._vector_index(v.attrs, "i64") if lanes > 1 else self._scalar_index(v.attrs)
        if op == "cond":
            return self._condition(v, lanes, depth)
        args = [self._as(a, lanes, depth) for a in v.args]
        self.levels.use(depth)
        if op == "check":
            return self._check(v, args, lanes)
        if op == "guard":
            return args[0]
        if op == "random_bits":
            return sc.philox(em, lanes, args[0], self._get(v.args[1])[0], args[2], self.rounds <= _MANY_ROUNDS)
        if op == "scan":
            carry = self.levels.stack[-1].memo["carry", v]
            if v.attrs == "recurrence":
                product = sc.POINTWISE["mul"](em, lanes, v.dtype, v.dtype, [args[0], carry], None)
                return sc.POINTWISE["add"](em, lanes, v.dtype, v.dtype, [product, args[1]], None)
            if v.attrs in ("cummax", "cummin"):  # of equal ones the later: zeros may differ in their sign
                return self._fold(v).combine(em, [args[0]], [carry])[0]
            return self._fold(v).combine(em, [carry], [args[0]])[0]
        operand = v.args[-1].dtype
        return sc.POINTWISE[op](em, lanes, operand, v.dtype, args, v.attrs)

    def _scalar_argument(self, v: Value) -> str:
        key = (v.attrs, v.dtype)
        if key not in self.scalars:
            self.scalars.append(key)
        em = self.em
        place = em.op(f"getelementptr i32, ptr %idx, i64 @scalar{self.scalars.index(key)}@")
        number = em.op(f"load i32, ptr {place}, align 4")
        wide = em.op(f"sext i32 {number} to i64")
        word = em.op(f"getelementptr i64, ptr %scalars, i64 {wide}")
        if v.dtype.is_floating_point:
            x = em.op(f"load double, ptr {word}, align 8")
            return x if v.dtype.itemsize == 8 else em.op(f"fptrunc double {x} to float")
        x = em.op(f"load i64, ptr {word}, align 8")
        return sc.cast(em, 1, dtypes.int64, v.dtype, [x])

    def _condition(self, v: Value, lanes: int, depth: int) -> str:
        e, lo, hi = v.attrs
        em = self.em
        if lanes == 1:
            x = self._scalar_index(e)
            self.levels.use(depth)
            moved = em.op(f"sub i64 {x}, {lo}") if lo else x
            return em.op(f"icmp ult i64 {moved}, {hi - lo}")
        x = self._vector_index(e, "i64")
        self.levels.use(depth)
        kind = f"<{lanes} x i64>"
        if lo:
            x = em.op(f"sub {kind} {x}, {em.splat('i64', lanes, str(lo))}")
        return em.op(f"icmp ult {kind} {x}, {em.splat('i64', lanes, str(hi - lo))}")

    def _check(self, v: Value, args: list[str], lanes: int) -> str:
        """An index counted from the front; out of range is noted in the status buffer and becomes 0."""
        em, (n, wraps) = self.em, v.attrs
        kind = vector_type("i64", lanes)
        extent, zero = em.splat("i64", lanes, str(n)), em.splat("i64", lanes, "0")
        i = args[0]
        if wraps:
            negative = em.op(f"icmp slt {kind} {i}, {zero}")
            i = sc.select(em, lanes, "i64", negative, em.op(f"add {kind} {i}, {extent}"), i)
        bad = em.op(f"icmp uge {kind} {i}, {extent}")
        flags = vector_type("i1", lanes)
        counted = bad
        for extra in [*args[1:], self.levels.stack[-1].memo.get("mask") if lanes > 1 else None]:
            if extra is not None:
                counted = em.op(f"and {flags} {counted}, {extra}")
        wrong, done = em.fresh_label("wrong"), em.fresh_label("right")
        status = self._buffer(STATUS)
        self.levels.use(self._depth(v))
        em.line(f"br i1 {sc.any_lane(em, lanes, counted)}, label %{wrong}, label %{done}")
        em.label(wrong)
        em.line(f"store i64 1, ptr {status}, align 8")
        em.line(f"br label %{done}")
        em.label(done)
        return sc.select(em, lanes, "i64", bad, zero, i)

    def _fold(self, v: Value) -> Fold:
        name = v.attrs if v.op == "scan" else v.attrs[0]
        vectors = self.lanes if self.row_mode or v.mask & self.vec_mask else 1
        return fold_of(_SCANNED.get(name, name), v.args[0].dtype, vectors)

    # --- values kept from one stage to the next ---

    def _choose_spills(self, passes: list) -> dict[Value, str]:
        """Values computed in one pass and wanted again in a later one, dear enough to be kept in a scratch row."""
        col_mask = sum(g.mask for g in self.cols)
        first: dict[Value, int] = {}
        self.spill_at = {}
        size = math.prod(g.extent for g in self.cols)
        if self.row_mode:
            size = math.prod(g.extent for g in self.cols[:-1]) * (
                -(-self.cols[-1].extent // self.lanes) * self.lanes
            )
        else:
            size *= self.lanes
        room = _STACK_BYTES
        for number, (folds, stores) in enumerate(passes):
            stack = [v.args[0] for v in folds] + [r.value for r in stores]
            seen: set[Value] = set()
            while stack:
                v = stack.pop()
                if v in seen or not v.mask & col_mask or v.op == "reduce":
                    continue
                seen.add(v)
                if v in first and first[v] < number:
                    kept = v in self.spill_at
                    fits = kept or size * v.dtype.itemsize <= min(_SPILL_BYTES, room)
                    if (
                        v.cost >= _SPILL_COST
                        and fits
                        and v.op not in ("load", "index")
                        and self.chunk_group is None
                    ):
                        self.spill_at[v] = first[v]
                        room -= 0 if kept else size * v.dtype.itemsize
                        continue
                first.setdefault(v, number)
                stack.extend(v.args)
        out = {}
        self.levels.use(0)
        for v in sorted(self.spill_at, key=lambda v: v.id):
            element = v.dtype.llvm
            out[v] = self.em.op(f"alloca [{size} x {element}], align 64", "row")
        return out

    def _scratch(self, v: Value, depth: int) -> tuple[str, str]:
        """Address in the scratch row of `v` for this round, and the element or vector type there."""
        e, stride = ex.ZERO, 1
        for g in reversed(self.cols):
            if v.mask & g.mask:  # along the others it has one value, wanted outside their loops, too
                e = ex.add(e, ex.scale(ex.of(g.last), stride))
            n = g.extent
            if self.row_mode and g is self.cols[-1]:
                n = -(-n // self.lanes) * self.lanes
            stride *= n
        lanes = self._lanes(v)
        if not self.row_mode:
            e = ex.scale(e, self.lanes)
        terms = tuple((var, k) for var, k in e[1])
        offset = self._sum(terms)
        self.levels.use(depth)
        pointer = self.em.op(f"getelementptr {v.dtype.llvm}, ptr {self.spills[v]}, i64 {offset}")
        return pointer, vector_type(v.dtype.llvm, lanes)

    def _spill(self, v: Value, depth: int) -> None:
        x, _ = self._get(v)
        lanes = self._lanes(v)
        pointer, kind = self._scratch(v, depth)
        if v.dtype is dtypes.bool:
            x = self.em.op(f"zext {vector_type('i1', lanes)} {x} to {kind}")
        self.em.line(f"store {kind} {x}, ptr {pointer}, align {v.dtype.itemsize}")


def _ident(v: Value) -> int:
    return v.id
