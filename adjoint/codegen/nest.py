"""Loop nests as LLVM functions.

`NestKernel(nest, stored, vector_bytes).finish()` writes one function for a `schedule.values.Nest`. The loops, from
outside: blocks of work, rows (the unreduced loops but one), a vectorised loop over the last unreduced variable when
that is also the last variable at all ("columns"), then the reduced loops, of which the last is vectorised otherwise
("rows"). Reductions divide the work of one row into stages: a stage's loop computes what needs no later reduction.
Every value is written at the outermost depth at which its operands exist. Read `finish`, then `_stages`, then `get`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from adjoint import dtypes
from adjoint.codegen import scalars as sc
from adjoint.codegen.emitter import vector_type
from adjoint.codegen.loops import Level, Levels
from adjoint.codegen.reductions import Fold, fold_of
from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Expr, Var
from adjoint.schedule.values import WEIGHTS, Nest, Root, Value

STATUS = "status"  # the buffer in which a kernel notes that an index was out of range

_ROW_DEPTH = 3  # where everything outside the reduced loops is known
_UNROLL = 4  # vectors of a row that are kept in registers instead of a loop
_SPILL_COST = 6  # additions: values dearer than this are kept for later stages
_SPILL_BYTES = 65536  # at most so much stack for one kept value
_FAR = 32  # elements: constant displacements from here on are kept out of the text
_MOST_OFFSETS = 16
_STACK_BYTES = 262144  # and for all of them, since threads may have small stacks
_ACCUMULATORS = 4
_STREAM_BYTES = 64 << 20  # kernels that move more than this write past the caches


@dataclass
class Kernel:
    """One function.

    Its index table holds the numbers of its buffers (graph nodes or STATUS), then those of its scalar words, then
    offsets: far constant displacements in memory, kept out of the text so that kernels that differ in nothing else
    are compiled once.
    """

    text: str
    declarations: list[str]
    buffers: list[Any]
    scalars: list[tuple[int, DType]]
    offsets: list[int]
    nblocks: int
    parallel: bool
    flops: int
    bytes: int


class Group:
    """Adjacent loops merged into one. last: the variable that stands for all; extent: of the merged loop."""

    __slots__ = ("members", "last", "extent", "mask", "depth")

    def __init__(self, members: list[Var]) -> None:
        self.members, self.last = members, members[-1]
        self.extent = math.prod(v.extent for v in members)
        self.mask = sum(v.mask for v in members)
        self.depth = 0


class NestKernel:
    """The writer of one kernel. stored: the nodes that must be in memory afterwards."""

    def __init__(self, nest: Nest, stored: set[Node], vector_bytes: int) -> None:
        self.nest = nest
        self.width = vector_bytes // 4
        self.roots = [r for r in nest.roots if r.target in stored]
        self.needed = self._reachable()
        self.levels = Levels()
        self.em = self.levels.em
        self.buffers: list[Any] = []
        self.scalars: list[tuple[int, DType]] = []
        self.offsets: list[int] = []
        self.scatter = any(r.kind == "scatter" for r in self.roots)
        self.streaming = False
        self.scan = any(r.kind == "scan" for r in self.roots)
        self._choose_loops()
        self._choose_blocks()

    # --- decisions ----------------------------------------------------------------------------------------------------

    def _reachable(self) -> list[Value]:
        found: set[Value] = set()
        stack = [r.value for r in self.roots]
        for r in self.roots:
            stack.extend(_dynamic(r.place))
        while stack:
            v = stack.pop()
            if v not in found:
                found.add(v)
                stack.extend(v.args)
        return sorted(found, key=lambda v: v.id)

    def _expressions(self) -> list[Expr]:
        out: list[Expr] = [r.place for r in self.roots]
        for v in self.needed:
            if v.op == "load":
                out.append(v.attrs[1])
            elif v.op == "index":
                out.append(v.attrs)
            elif v.op == "cond":
                out.append(v.attrs[0])
            elif v.op == "reduce" and v.attrs[1] is not None:
                out.append(v.attrs[1])
        seen: set[Var] = set()
        for e in out:
            for var, _ in e[1]:
                if var.kind in ("div", "mod") and var not in seen:
                    seen.add(var)
                    out.append(var.payload[0])
        return out

    def _choose_loops(self) -> None:
        """Merge neighbouring loops where every index allows it, and choose the vectorised one."""
        chunk_var = self.nest.chunk[0] if self.nest.chunk else None
        coefficients = [dict(e[1]) for e in self._expressions()]

        def merges(a: Var, b: Var) -> bool:
            return b is not chunk_var and all(c.get(a, 0) == c.get(b, 0) * b.extent for c in coefficients)

        groups: dict[bool, list[Group]] = {}
        for reduced in (False, True):
            runs: list[list[Var]] = []
            for v in self.nest.vars:
                if v.reduced == reduced:
                    if runs and merges(runs[-1][-1], v):
                        runs[-1].append(v)
                    else:
                        runs.append([v])
            groups[reduced] = [Group(run) for run in runs]
        rows, self.cols = groups[False], groups[True]
        self.absorbed = {v for g in (*rows, *self.cols) for v in g.members[:-1]}
        last = self.nest.vars[-1] if self.nest.vars else None
        self.row_mode = last is not None and last.reduced and not self.scan
        self.vec: Group | None = None
        self.masked = False
        self.chunk = 0  # length of a piece, in steps of the merged loop that is cut
        self.chunk_group: Group | None = None
        if chunk_var is not None and self.nest.chunk is not None:
            self.chunk_group = next(g for g in self.cols if g.members[0] is chunk_var)
            self.chunk = self.nest.chunk[1] * (self.chunk_group.extent // chunk_var.extent)
        if self.row_mode:
            self.vec = self.cols[-1]
            self.rows = rows
            lengths = [self.vec.extent]
            if self.vec is self.chunk_group:
                lengths = [self.chunk, self.vec.extent % self.chunk or self.chunk]
            self.lanes = self._row_lanes(lengths)
            self.masked = any(n % self.lanes for n in lengths)
        else:
            last_row = rows[-1] if rows and (last is None or last in rows[-1].members) else None
            self.lanes = 1
            if last_row is not None:
                self.vec, self.rows = last_row, rows[:-1]
                self.lanes = self._column_lanes(last_row.extent)
            else:
                self.rows = rows
        self.swapped = self._strided_across_rows()
        for g in self.rows:
            g.depth = 3 if self.swapped else 2
        if self.vec is not None:
            self.vec.depth = 2 if self.swapped else 3
        for k, g in enumerate(self.cols):
            g.depth = _ROW_DEPTH + 1 + k
        self.group_of = {v: g for g in (*rows, *self.cols) for v in g.members}
        self.depth_of_bit = {v.mask: g.depth for v, g in self.group_of.items()}
        self.vec_mask = self.vec.mask if self.vec is not None and self.lanes > 1 else 0

    def _strided_across_rows(self) -> bool:
        """Whether some load runs along memory with the rows and not with the lanes, as in a transposition.

        The loop over rows then goes inside: the cache lines that one gather touches serve the next rows too.
        """
        if self.vec is None or self.row_mode or self.cols or not self.rows or self.scatter:
            return False
        lane, row = self.vec.last, self.rows[-1].last
        for v in self.needed:
            if v.op == "load":
                steps = dict(v.attrs[1][1])
                if abs(steps.get(lane, 0)) > 16 and abs(steps.get(row, 0)) in (1, 2, 3, 4):
                    return True
        return False

    def _row_lanes(self, lengths: list[int]) -> int:
        full = self.width
        longest = max(lengths)
        if longest < full:
            return 1 << (longest - 1).bit_length()
        if any(n % full for n in lengths) and not any(n % (full // 2) for n in lengths):
            return full // 2
        return full

    def _column_lanes(self, extent: int) -> int:
        if self.scatter:  # every element exactly once
            lanes = 1
            while lanes < self.width and extent % (2 * lanes) == 0:
                lanes *= 2
            return 1 if any(self._index_uses(r, self.vec) for r in self.roots) else lanes
        return min(self.width, 1 << (extent.bit_length() - 1))

    def _index_uses(self, root: Root, group: Group | None) -> bool:
        """Whether the row that a scatter writes depends on the vectorised loop."""
        assert group is not None
        return any(v.mask & group.mask for v in _dynamic(root.place))

    def _choose_blocks(self) -> None:
        """Cut the work by shapes alone. blocks = pieces * row blocks * blocks of the vectorised loop."""
        self.n_rows = math.prod(g.extent for g in self.rows)
        self.n_vec = 1 if self.row_mode or self.vec is None else self.vec.extent
        n_cols = math.prod(g.extent for g in self.cols)
        weight = sum([WEIGHTS.get(v.op, 1) for v in self.needed]) + len(self.roots)
        elements = self.n_rows * self.n_vec * n_cols
        self.flops = elements * weight
        self.bytes = sum([v.dtype.itemsize * self._extent(v.mask) for v in self.needed if v.op == "load"])
        self.bytes += sum([r.node.size * r.node.dtype.itemsize for r in self.roots if r.kind != "piece"])
        self.bytes += sum([r.source.size * r.node.dtype.itemsize for r in self.roots if r.source is not None])
        nanoseconds = self.flops * 0.25 / max(1, self.lanes) + self.bytes * 0.03
        self.parallel = nanoseconds > 30_000 and not self.scatter
        pieces = 1
        if self.chunk_group is not None:
            pieces = -(-self.chunk_group.extent // self.chunk)
            n_cols = n_cols // self.chunk_group.extent * self.chunk
        target = min(32768, max(2048, 131072 // max(weight, 4)))
        self.row_block, self.vec_block = self.n_rows, self.n_vec
        if self.parallel:
            if self.n_vec * n_cols > target and not self.row_mode:
                step = 4 * self.lanes
                self.vec_block = min(self.n_vec, -(-max(1, target // n_cols) // step) * step)
                self.row_block = 1
            else:
                self.row_block = max(1, target // (self.n_vec * n_cols))
        if self.swapped:  # tiles small enough for the first caches of lines and of pages
            self.row_block = min(self.n_rows, 256)
            self.vec_block = min(self.n_vec, max(8 * self.lanes, 128))
        if self.nest.column:
            self.row_block = self.nest.column
        self.pieces = pieces
        self.row_blocks = -(-self.n_rows // self.row_block)
        self.vec_blocks = -(-self.n_vec // self.vec_block)
        self.nblocks = pieces * self.row_blocks * self.vec_blocks
        self.parallel = self.parallel and self.nblocks > 1

    def _extent(self, mask: int) -> int:
        return math.prod(v.extent for v in self.nest.vars if v.mask & mask)

    # --- the function ---------------------------------------------------------------------------------------------------

    def finish(self) -> Kernel:
        levels, em = self.levels, self.em
        for r in self.roots:
            if r.kind == "scatter" and r.node.prim.name == "put_add":
                target, nbytes = self._buffer(r.target), r.node.size * r.node.dtype.itemsize
                em.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
                em.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {nbytes}, i1 false)")
        # depth 1: blocks
        if self.nblocks > 1:
            block, _ = levels.open("%lo", "%hi", 1, [])
        else:
            levels.push()
            block = "0"
        piece, rest = self._divmod(block, self.row_blocks * self.vec_blocks)
        row_block, vec_block = self._divmod(rest, self.vec_blocks)
        self.piece, self.block_of_rows = piece, row_block
        self.first_row = "true"
        self.piece_range = self._range(piece, self.chunk, self.chunk_group.extent if self.chunk_group else 0)
        row_range = self._range(row_block, self.row_block, self.n_rows)
        vec_range = self._range(vec_block, self.vec_block, self.n_vec)
        # depths 2 and 3: rows, and the vectorised loop over a row variable; the other way round when swapped
        openers = [lambda: self._open_rows(row_range), lambda: self._open_vectors(vec_range)]
        looped = [opener() for opener in (reversed(openers) if self.swapped else openers)]
        self._stages()
        for loop in reversed(looped):
            if loop:
                levels.close([])
            else:
                levels.pop()
        if self.nblocks > 1:
            levels.close([])
        else:
            levels.pop()
        levels.use(0)
        if self.streaming:
            em.line("fence seq_cst")
        em.line("ret void")
        return self._assemble()

    def _open_rows(self, row_range: tuple[str, str]) -> bool:
        """Begin the loop over all rows, and find the variables from the row's number; whether it is a loop."""
        loop = self.n_rows > 1 and self.row_block > 1
        row = row_range[0]
        if loop:
            row = self.levels.open(row_range[0], row_range[1], 1, [])[0]
            if self.nest.column:
                self.first_row = self.em.op(f"icmp eq i64 {row}, {row_range[0]}")
        else:
            self.levels.push()
        for g in reversed(self.rows):
            quotient, value = self._divmod(row, g.extent) if g is not self.rows[0] else ("0", row)
            self.levels.stack[-1].memo["var", g.last] = value
            row = quotient
        return loop

    def _open_vectors(self, vec_range: tuple[str, str]) -> bool:
        """Begin the vectorised loop over a row variable, if there is one."""
        if self.vec is None or self.row_mode:
            self.levels.push()
            return False
        loop = self.n_vec != self.lanes
        if loop:
            em = self.em
            counter, _ = self.levels.open(vec_range[0], vec_range[1], self.lanes, [])
            if self.n_vec % self.lanes:  # the last vector overlaps the one before
                em.declare("i64 @llvm.smin.i64(i64, i64)")
                counter = em.op(f"call i64 @llvm.smin.i64(i64 {counter}, i64 {self.n_vec - self.lanes})")
        else:
            self.levels.push()
            counter = "0"
        self.levels.stack[-1].memo["var", self.vec.last] = counter
        return loop

    def _assemble(self) -> Kernel:
        body = "\n".join(self.levels.stack[0].region.lines)
        for j in range(len(self.scalars)):
            body = body.replace(f"@scalar{j}@", str(len(self.buffers) + j))
        for j in range(len(self.offsets)):
            body = body.replace(f"@offset{j}@", str(len(self.buffers) + len(self.scalars) + j))
        text = (
            "define void @kernel(ptr noalias %bufs, ptr noalias %idx, ptr noalias %scalars, i64 %lo, i64 %hi) {\n"
            f"entry:\n{body}\n}}\n"
        )
        declarations = list(self.em.declarations)
        if self.streaming:
            declarations.append("!0 = !{i32 1}")
        return Kernel(
            text,
            declarations,
            self.buffers,
            self.scalars,
            self.offsets,
            self.nblocks,
            self.parallel,
            self.flops,
            self.bytes,
        )

    def _divmod(self, value: str, by: int) -> tuple[str, str]:
        """(value // by, value % by) in scalar code."""
        if not value.startswith("%"):
            n = int(value)
            return str(n // by), str(n % by)
        if by == 1:
            return value, "0"
        return self.em.op(f"udiv i64 {value}, {by}"), self.em.op(f"urem i64 {value}, {by}")

    def _range(self, block: str, step: int, extent: int) -> tuple[str, str]:
        """First and last-but-one position of a block."""
        if step >= extent:
            return "0", str(extent)
        em = self.em
        start = em.op(f"mul i64 {block}, {step}")
        stop = em.op(f"add i64 {start}, {step}")
        if extent % step:
            em.declare("i64 @llvm.smin.i64(i64, i64)")
            stop = em.op(f"call i64 @llvm.smin.i64(i64 {stop}, i64 {extent})")
        return start, stop

    # --- stages -----------------------------------------------------------------------------------------------------

    def _stages(self) -> None:
        """Everything of one row: the loops over columns stage by stage, then what is stored per row."""
        if not self.cols:
            for r in self.roots:
                self._evaluate([r.value, *_dynamic(r.place)])
                self._store(r)
            return
        full = [r for r in self.roots if r.kind in ("full", "piece", "scan", "column")]
        folds = [v for v in self.needed if v.op == "reduce"]
        last = max([r.value.stage for r in full] + [v.stage - 1 for v in folds] + [0])
        passes = []
        for s in range(last + 1):
            here = [v for v in folds if v.stage == s + 1]
            stores = [r for r in full if r.value.stage == s]
            if here or stores:
                passes.append((here, stores))
        self.unrolled = self._unrolled_rounds()
        self.spills: dict[Value, str] = {} if self.unrolled else self._choose_spills(passes)
        for number, (here, stores) in enumerate(passes):
            self.pass_number = number
            if self.unrolled:
                self._unrolled_pass(here, stores)
            else:
                self._loop_pass(here, stores)
        self.levels.use(_ROW_DEPTH)
        for r in self.roots:
            if r not in full:
                self._evaluate([r.value, *_dynamic(r.place)])
                self._store(r)

    def _unrolled_rounds(self) -> list[Level]:
        """Levels of the few rounds of a short column loop, or [] where a loop is better."""
        if len(self.cols) != 1 or self.chunk_group is not None or self.scan:
            return []
        step = self.lanes if self.row_mode else 1
        rounds = -(-self.cols[0].extent // step)
        inner = sum(1 for v in self.needed if v.mask & self.cols[0].mask)
        if rounds > (_UNROLL if self.row_mode else 8) or (rounds > 1 and rounds * inner > 600):
            return []
        levels = []
        for k in range(rounds):
            level = Level(self.levels.stack[_ROW_DEPTH].region)
            level.memo["var", self.cols[0].last] = str(k * step)
            if self.masked and self.row_mode and (k + 1) * step > self.cols[0].extent:
                lanes = range(k * step, (k + 1) * step)
                bits = ["true" if i < self.cols[0].extent else "false" for i in lanes]
                level.memo["mask"] = "<" + ", ".join(f"i1 {b}" for b in bits) + ">" if step > 1 else bits[0]
            levels.append(level)
        return levels

    def _unrolled_pass(self, folds: list[Value], stores: list[Root]) -> None:
        collected: dict[Value, list] = {v: [] for v in folds}
        for level in self.unrolled:
            self.levels.push(level)
            self.levels.use(_ROW_DEPTH + 1)
            self._evaluate([v.args[0] for v in folds] + [r.value for r in stores])
            for r in stores:
                self._store(r)
            for v in folds:
                collected[v].append(self._fold_operand(v))
            self.levels.pop()
        self.levels.use(_ROW_DEPTH)
        for v in folds:
            self._finish_fold(v, collected[v])

    def _loop_pass(self, folds: list[Value], stores: list[Root]) -> None:
        levels, em = self.levels, self.em
        levels.use(_ROW_DEPTH)
        scans = [r.value for r in stores if r.kind == "scan"]
        carried: list[tuple[str, str]] = []
        shapes: list[tuple[Fold, int]] = []
        for v in folds:
            fold = self._fold(v)
            n = self._accumulators(fold)
            shapes.append((fold, n))
            for _ in range(n):
                carried += fold.initial(em)
        for v in scans:
            carried += self._fold(v).initial(em)
        current: list[str] = [value for _, value in carried]
        rounds = self._rounds(folds, stores)
        opened = 0
        for g in self.cols:
            start, stop = ("0", str(g.extent))
            if g is self.chunk_group:
                start, stop = self.piece_range
            step = self.lanes * rounds if g is self.vec else 1
            kinds = [(kind, value) for (kind, _), value in zip(carried, current, strict=True)]
            counter, current = levels.open(start, stop, step, kinds)
            level = levels.stack[-1]
            level.memo["var", g.last] = counter
            opened += 1
            if g is self.vec and self.masked:
                level.memo["mask"] = self._tail_mask(counter, stop)
        depth = len(levels.stack) - 1
        if scans:
            at = len(current) - len(scans)
            for v, carry in zip(scans, current[at:], strict=True):
                levels.stack[-1].memo["carry", v] = carry
        spilled = [v for v, first in self.spill_at.items() if first == self.pass_number] if self.spills else []
        wanted = [v.args[0] for v in folds] + [r.value for r in stores] + spilled
        states: list[list[list[str]]] = []
        at = 0
        for fold, n in shapes:
            states.append([current[at + k * fold.width : at + (k + 1) * fold.width] for k in range(n)])
            at += n * fold.width
        outer = levels.stack[depth]
        for k in range(rounds):
            if k:  # one more vector in the same round of the loop
                levels.stack[depth] = Level(outer.region)
                levels.use(depth)
                counter = outer.memo["var", self.cols[-1].last]
                place = em.op(f"add i64 {counter}, {k * self.lanes}")
                levels.stack[depth].memo["var", self.cols[-1].last] = place
            self._evaluate(wanted)
            for v in spilled:
                self._spill(v, depth)
            for r in stores:
                self._store(r)
            for i, (v, (fold, _)) in enumerate(zip(folds, shapes, strict=True)):
                operand = self._fold_operand(v)
                levels.use(depth)
                # rotate: the next vector is added to the next accumulator
                states[i] = [*states[i][1:], fold.combine(em, states[i][0], operand)]
        levels.stack[depth] = outer
        following: list[str] = [x for state in states for part in state for x in part]
        for v in scans:
            following.append(self._get(v)[0])
        levels.use(depth)
        for _ in range(opened):
            levels.close(following)
        levels.use(_ROW_DEPTH)
        at = 0
        for v, (fold, n) in zip(folds, shapes, strict=True):
            w = fold.width
            self._finish_fold(v, [following[at + k * w : at + (k + 1) * w] for k in range(n)])
            at += n * w

    def _rounds(self, folds: list[Value], stores: list[Root]) -> int:
        """Vectors in one round of the innermost loop: several where there is little work in each."""
        if not self.row_mode or self.masked or self.scan:
            return 1
        assert self.vec is not None
        lengths = [self.vec.extent]
        if self.vec is self.chunk_group:
            lengths = [self.chunk, self.vec.extent % self.chunk or self.chunk]
        if any(n % (_ACCUMULATORS * self.lanes) for n in lengths) or max(lengths) == _ACCUMULATORS * self.lanes:
            return 1
        work: set[Value] = set()
        stack = [v.args[0] for v in folds] + [r.value for r in stores]
        while stack:
            v = stack.pop()
            if v not in work and v.mask & self.vec.mask and v.op != "reduce":
                work.add(v)
                if v not in self.spills or self.spill_at[v] == self.pass_number:
                    stack.extend(v.args)
        weight = sum([WEIGHTS.get(v.op, 1) for v in work])
        return _ACCUMULATORS if weight <= 12 and len(folds) <= 2 else 1

    def _accumulators(self, fold: Fold) -> int:
        """How many running results: enough to hide the latency of an addition in a long vectorised row."""
        if not self.row_mode or fold.width > 1:
            return 1
        assert self.vec is not None
        length = self.chunk if self.vec is self.chunk_group else self.vec.extent
        return _ACCUMULATORS if length > _ACCUMULATORS * self.lanes else 1

    def _fold(self, v: Value) -> Fold:
        name = v.attrs if v.op == "scan" else v.attrs[0]
        vectors = self.lanes if self.row_mode or v.mask & self.vec_mask else 1
        return fold_of({"cumsum": "sum", "cumprod": "prod"}.get(name, name), v.args[0].dtype, vectors)

    def _fold_operand(self, v: Value) -> list[str]:
        """This round's operand of a reduction: one register, or value and position; masked lanes are neutral."""
        fold = self._fold(v)
        em = self.em
        depth = len(self.levels.stack) - 1
        x = self._as(v.args[0], fold.lanes, depth)
        self.levels.use(depth)
        parts = fold.enter(em, x)
        if fold.width == 2:
            parts.append(self._position(v.attrs[1], fold, depth))
        mask = self.levels.stack[-1].memo.get("mask") if self.row_mode else None
        if mask is not None:
            self.levels.use(depth)
            initial = [value for _, value in fold.initial(em)]
            parts = [
                sc.select(em, fold.lanes, kind, mask, p, i) for kind, p, i in zip(fold.kinds, parts, initial, strict=True)
            ]
        return parts

    def _position(self, e: Expr, fold: Fold, depth: int) -> str:
        text = self._vector_index(e, "i64") if fold.lanes > 1 and ex.mask(e) & self.vec_mask else None
        if text is not None:
            return text
        value = self._scalar_index(e)
        self.levels.use(depth)
        return self.em.splat("i64", fold.lanes, value)

    def _finish_fold(self, v: Value, states: list[list[str]]) -> None:
        """Combine accumulators in a fixed tree, then lanes, and remember the result for the rest of the row."""
        fold, em = self._fold(v), self.em
        self.levels.use(_ROW_DEPTH)
        while len(states) > 1:
            pairs = [fold.combine(em, a, b) for a, b in zip(states[::2], states[1::2])]
            states = pairs + ([states[-1]] if len(states) % 2 else [])
        state = states[0]
        if self.row_mode:
            state = fold.across(em, state)
        self.levels.stack[_ROW_DEPTH].memo[v] = fold.result(em, state, 1 if self.row_mode else fold.lanes)

    def _tail_mask(self, counter: str, stop: str) -> str:
        em = self.em
        left = em.op(f"trunc i64 {em.op(f'sub i64 {stop}, {counter}')} to i32")
        if self.lanes == 1:
            return em.op(f"icmp sgt i32 {left}, 0")
        steps = "<" + ", ".join(f"i32 {i}" for i in range(self.lanes)) + ">"
        return em.op(f"icmp sgt <{self.lanes} x i32> {em.splat('i32', self.lanes, left)}, {steps}")

    # --- values kept from one stage to the next ------------------------------------------------------------------------

    def _choose_spills(self, passes: list) -> dict[Value, str]:
        """Values computed in one pass and wanted again in a later one, dear enough to be kept in a scratch row."""
        col_mask = sum(g.mask for g in self.cols)
        first: dict[Value, int] = {}
        self.spill_at: dict[Value, int] = {}
        size = math.prod(g.extent for g in self.cols)
        if self.row_mode:
            size = math.prod(g.extent for g in self.cols[:-1]) * (-(-self.cols[-1].extent // self.lanes) * self.lanes)
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
                    if v.cost >= _SPILL_COST and fits and v.op not in ("load", "index") and self.chunk_group is None:
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

    # --- values -----------------------------------------------------------------------------------------------------

    def _depth(self, v: Value) -> int:
        depth = self._mask_depth(v.mask)
        return max(depth, _ROW_DEPTH) if v.stage else depth

    def _mask_depth(self, mask: int) -> int:
        depth = 0
        while mask:
            bit = mask & -mask
            mask ^= bit
            depth = max(depth, self.depth_of_bit.get(bit, 0))
        return depth

    def _lanes(self, v: Value) -> int:
        return self.lanes if v.mask & self.vec_mask else 1

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
            self.levels.stack[depth].memo[v] = self._reload(v, depth) if self._is_kept(v) else self._emit(v, depth)

    def _is_kept(self, v: Value) -> bool:
        return bool(self.cols) and v in self.spills and self.spill_at[v] < self.pass_number

    def _reload(self, v: Value, depth: int) -> str:
        pointer, kind = self._scratch(v, depth)
        x = self.em.op(f"load {kind}, ptr {pointer}, align {v.dtype.itemsize}")
        return self.em.op(f"icmp ne {kind} {x}, zeroinitializer") if v.dtype is dtypes.bool and kind[0] == "<" else (
            self.em.op(f"icmp ne {kind} {x}, 0") if v.dtype is dtypes.bool else x
        )

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
        if op == "random_bits":
            keys = self._philox_keys(v.args[1], lanes)
            self.levels.use(depth)
            return sc.philox(em, lanes, args[0], args[2], keys)
        if op == "scan":
            fold = self._fold(v)
            return fold.combine(em, [self.levels.stack[-1].memo["carry", v]], [args[0]])[0]
        operand = v.args[-1].dtype
        return sc.POINTWISE[op](em, lanes, operand, v.dtype, args, v.attrs)

    def _philox_keys(self, seed: Value, lanes: int) -> list[tuple[str, str]]:
        """The generator's keys in every lane; a seed is one number, so that this is done outside the loops."""
        depth = self._depth(seed)
        memo = self.levels.stack[depth].memo
        found = memo.get(("keys", seed, lanes))
        if found is None:
            x, _ = self._get(seed)
            self.levels.use(depth)
            em = self.em
            keys = sc.philox_keys(em, x)
            found = [(em.splat("i64", lanes, a), em.splat("i64", lanes, b)) for a, b in keys]
            memo["keys", seed, lanes] = found
        return found

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
        em, n = self.em, v.attrs
        kind = vector_type("i64", lanes)
        extent, zero = em.splat("i64", lanes, str(n)), em.splat("i64", lanes, "0")
        negative = em.op(f"icmp slt {kind} {args[0]}, {zero}")
        i = sc.select(em, lanes, "i64", negative, em.op(f"add {kind} {args[0]}, {extent}"), args[0])
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

    # --- index expressions --------------------------------------------------------------------------------------------

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
            found = memo["displaced", node, far] = em.op(f"getelementptr {element}, ptr {base}, i64 {moved}")
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
                    x = self.em.op(f"mul i64 {x}, {factor}") if x.startswith("%") else str(int(x) * factor)
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
            pieces.append(x if k == 1 else em.op(f"mul {kind} {x}, {em.splat(element, lanes, str(k))}"))
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
            narrow = "i32" if -(1 << 31) < lo and hi < 1 << 31 and n < 1 << 31 else "i64"
            x = self._vector_index(inner, narrow)
            self.levels.use(depth)
            op = ("udiv" if lo >= 0 else "sdiv") if var.kind == "div" else ("urem" if lo >= 0 else "srem")
            x = em.op(f"{op} <{lanes} x {narrow}> {x}, {em.splat(narrow, lanes, str(n))}")
            if narrow != element:
                way = "sext" if element == "i64" else "trunc"
                x = em.op(f"{way} <{lanes} x {narrow}> {x} to <{lanes} x {element}>")
        memo["vector", var, element] = x
        return x

    # --- memory -------------------------------------------------------------------------------------------------------

    def _mask(self, lanes: int) -> str | None:
        return self.levels.stack[-1].memo.get("mask") if self.row_mode and lanes > 1 else None

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
        else:
            lo, hi = ex.bounds(e)
            narrow = "i32" if -(1 << 31) < lo and hi < 1 << 31 else "i64"
            where = self._vector_index(e, narrow)
            self.levels.use(depth)
            pointers = em.op(f"getelementptr {element}, ptr {base}, <{lanes} x {narrow}> {where}")
            em.declare(f"{kind} @llvm.masked.gather.{name}.v{lanes}p0(<{lanes} x ptr>, i32, <{lanes} x i1>, {kind})")
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
            moved = em.op(f"mul i64 {piece}, {rows}") if piece.startswith("%") else str(int(piece) * rows)
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
        if root.kind == "column":
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

    def _added_to_column(self, root: Root, pointer: str, x: str, lanes: int, mask: str | None) -> str:
        """What a column's partial result becomes with one more row; the first row of a block starts from nothing."""
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
        if self.bytes < _STREAM_BYTES or root.kind != "full" or nbytes % 64 or self.vec is None or self.swapped:
            return False
        size = root.node.dtype.itemsize
        if root.node.size * size < _STREAM_BYTES // 8 or self.n_vec % self.lanes:
            return False
        if root.place[0] * size % 64:
            return False
        return all(
            k * size * (self.lanes if var is self.vec.last else 1) % 64 == 0
            for var, k in root.place[1]
            if var not in self.absorbed
        )

    def _scatter_lanes(self, base: str, where: str, x: str, element: str, size: int, lanes: int) -> None:
        em = self.em
        name = f"v{lanes}{sc.mangled(1, element)}"
        pointers = em.op(f"getelementptr {element}, ptr {base}, <{lanes} x i64> {where}")
        flags = self._mask(lanes) or em.splat("i1", lanes, "true")
        kind = f"<{lanes} x {element}>"
        em.declare(f"void @llvm.masked.scatter.{name}.v{lanes}p0({kind}, <{lanes} x ptr>, i32, <{lanes} x i1>)")
        em.line(
            f"call void @llvm.masked.scatter.{name}.v{lanes}p0({kind} {x}, <{lanes} x ptr> {pointers}, i32 {size}, "
            f"<{lanes} x i1> {flags})"
        )


def _ident(v: Value) -> int:
    return v.id


def _dynamic(e: Expr) -> list[Value]:
    out: list[Value] = []
    for var, _ in e[1]:
        if var.kind == "value":
            out.append(var.payload)
        elif var.kind != "loop":
            out.extend(_dynamic(var.payload[0]))
    return out
