"""Loop nests as LLVM functions.

`NestKernel(nest, stored, vector_bytes).finish()` writes one function for a `schedule.values.Nest`. It stands on four
layers, each a class in a file of its own: `tiling` (decisions), `addresses`, `accesses` (memory), `registers` (values).
Here are the loops. Reductions divide the work of one row into stages: a stage's loop computes what needs no later
reduction; its results are then known to the rest of the row. Read `finish`, then `_stages`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adjoint.codegen import scalars as sc
from adjoint.codegen.addresses import STATUS
from adjoint.codegen.emitter import Emitter, vector_type
from adjoint.codegen.loops import Level
from adjoint.codegen.reductions import Fold
from adjoint.codegen.registers import Registers
from adjoint.codegen.tiling import ROW_DEPTH, TILE_DEPTH
from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Expr
from adjoint.schedule.lower import dynamic_values
from adjoint.schedule.values import Nest, Root, Value

__all__ = ["STATUS", "Kernel", "NestKernel"]

_LIGHT_ROW = 8  # additions: up to so many, the rows of a tile need no loop
_UNROLL = 4  # vectors of a row that are kept in registers instead of a loop
_MOST_UNROLLED = 600  # operations of them
_FEW_ROUNDS = 16  # vectors: nests of so many run quickly, but may have thousands of operations
_COPIES = 4  # of an elementary function in one of them; from then on it is called


_PARAMETERS = "ptr noalias %bufs, ptr noalias %idx, ptr noalias %scalars, i64 %lo, i64 %hi, ptr %own"


@dataclass
class Kernel:
    """One function.

    Its index table holds the numbers of its buffers (graph nodes or STATUS), then those of its scalar words, then
    offsets: far constant displacements in memory, kept out of the text so that kernels that differ in nothing else
    are compiled once.

    replaced: (result, input) where one may lie where the other lies.
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
    replaced: Sequence[tuple[Node, Node]]


def _chosen(within: Kernel, past: Kernel) -> Kernel:
    """A kernel that runs `within` if a result lies where an input does, else `past`, which differ in their stores alone."""
    em, branches, definitions = Emitter(), [], []
    lies = "false"
    for pair in within.replaced:
        places = []
        for node in pair:
            number = em.op(f"getelementptr i32, ptr %idx, i64 {within.buffers.index(node)}")
            slot = em.op(f"getelementptr ptr, ptr %bufs, i32 {em.op(f'load i32, ptr {number}, align 4')}")
            places.append(em.op(f"load ptr, ptr {slot}, align 8"))
        lies = em.op(f"or i1 {lies}, {em.op(f'icmp eq ptr {places[0]}, {places[1]}')}")
    em.line(f"br i1 {lies}, label %within, label %past")
    for label, kernel in (("within", within), ("past", past)):
        name = f"@adjoint.{label}.{hashlib.blake2b(kernel.text.encode(), digest_size=12).hexdigest()}"
        definitions.append(kernel.text.replace("define void @kernel(", f"define internal void {name}(", 1))
        branches.append(f"{label}:\n  tail call void {name}({_PARAMETERS.replace(' noalias', '')})\n  ret void\n")
    text = "\n".join([f"define void @kernel({_PARAMETERS}) {{", "entry:", *em.lines, *branches]) + "}\n"
    declarations = [*dict.fromkeys([*within.declarations, *past.declarations, *definitions])]
    return dataclasses.replace(within, text=text, declarations=declarations)


class NestKernel(Registers):
    """The writer of one kernel. stored: the nodes that must be in memory afterwards.

    replaced: which results may lie where an input lay, as far as that holds with loops of this form.
    checked: whether earlier kernels may have found a bad index; then nothing is replaced.
    past: whether large results go past the caches although they may lie where an input lay.
    """

    def __init__(
        self,
        nest: Nest,
        stored: set[Node],
        vector_bytes: int,
        replaced: Sequence[tuple[Node, Node]] = (),
        checked: bool = False,
        past: bool = False,
    ) -> None:
        super().__init__(nest, stored, vector_bytes)
        self.stored, self.checked, self.past = stored, checked, past
        if replaced and self.once:
            self.replaced = replaced
        self.stops = bool(self.replaced) and checked
        if self.rounds <= _FEW_ROUNDS:
            self.em.copies = _COPIES

    def finish(self) -> Kernel:
        """The kernel. Where large results may or may not lie where an input does, both forms are written and one is chosen
        as it runs: stores past the caches are 1.5 times as fast, and 1.3 to 5 times slower onto what has just been read."""
        kernel = self._written()
        if not self.two_ways:
            return kernel
        other = NestKernel(self.nest, self.stored, self.vector_bytes, self.replaced, self.checked, past=True)._written()
        assert (other.buffers, other.scalars, other.offsets) == (kernel.buffers, kernel.scalars, kernel.offsets)
        return _chosen(kernel, other)

    def _written(self) -> Kernel:
        levels = self.levels
        self._begin()
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
        self.piece_range = self._range(
            piece, self.chunk, self.chunk_group.extent if self.chunk_group else 0
        )
        row_range = self._range(row_block, self.row_block, self.n_rows)
        vec_range = self._range(vec_block, self.vec_block, self.n_vec)
        # depths 2 and 3: rows, and the vectorised loop over a row variable; the other way round when swapped
        openers = [lambda: self._open_rows(row_range), lambda: self._open_vectors(vec_range)]
        looped = [opener() for opener in (reversed(openers) if self.swapped else openers)]
        if self.tile:  # depth 4
            self._rows_of_tile()
        else:
            self._stages()
        self._close(looped)
        self._close([self.nblocks > 1])
        self._end()
        return self._assemble()

    def _begin(self) -> None:
        """What comes before the loops: nothing is done where an earlier kernel has found a bad index, sums begin with zeros."""
        em = self.em
        if self.stops:
            failed = em.op(f"load i64, ptr {self._buffer(STATUS)}")
            em.line(f"br i1 {em.op(f'icmp eq i64 {failed}, 0')}, label %go, label %stop")
            em.label("go")
        for r in self.roots:
            if r.kind == "scatter" and r.node.prim.name == "put_add":
                target, nbytes = self._buffer(r.target), r.node.size * r.node.dtype.itemsize
                em.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
                em.line(
                    f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {nbytes}, i1 false)"
                )

    def _close(self, looped: list[bool]) -> None:
        """End depths, the innermost of which comes last, that are loops or not."""
        for loop in reversed(looped):
            if loop:
                self.levels.close([])
            else:
                self.levels.pop()

    def _end(self) -> None:
        """What comes behind the loops."""
        self.levels.use(0)
        if self.streaming:
            self.em.line("fence seq_cst")
        self.em.line("ret void")
        if self.stops:
            self.em.label("stop")
            self.em.line("ret void")

    def _open_rows(self, row_range: tuple[str, str]) -> bool:
        """Begin the loop over all rows, and find the variables from the row's number; whether it is a loop.

        Of a piece that is read by turns, which has one row, it is the loop over turns.
        """
        if self.turn:
            start, stop = self.piece_range
            first, _ = self.levels.open(start, stop, self.turn, [])
            self.first_row = self.em.op(f"icmp eq i64 {first}, {start}")
            self.em.declare("i64 @llvm.smin.i64(i64, i64)")
            after = self.em.op(f"add i64 {first}, {self.turn}")
            self.piece_range = first, self.em.op(f"call i64 @llvm.smin.i64(i64 {after}, i64 {stop})")
            return True
        loop = self.n_rows > 1 and self.row_block > 1
        row = row_range[0]
        if loop:
            row = self.levels.open(row_range[0], row_range[1], 1, [])[0]
            self.row_number = row, row_range[0]
            if self.nest.column:
                self.first_row = self.em.op(f"icmp eq i64 {row}, {row_range[0]}")
        else:
            self.levels.push()
        for g in reversed(self.rows):
            extent = -(-g.extent // self.tile) if g.depth == TILE_DEPTH else g.extent
            quotient, value = self._divmod(row, extent) if g is not self.rows[0] else ("0", row)
            if g.depth == TILE_DEPTH:
                self.tile_start = self._overlapping(value, self.tile, g.extent)
            else:
                self.levels.stack[-1].memo["var", g.last] = value
            row = quotient
        return loop

    def _rows_of_tile(self) -> None:
        """Read and turn what a tile needs, then do its rows: one after the other, or in a loop where there is much to do."""
        em, stack, row = self.em, self.levels.stack, self.rows[-1].last
        tiles = {}
        for v in self.needed:
            if v in self.turned:
                self._evaluate(list(v.args))  # where it starts
                tiles[v] = self._turn(v)
        if self.weight <= _LIGHT_ROW:
            for k in range(self.tile):
                self.levels.push(Level(stack[ROW_DEPTH].region))
                stack[-1].memo["var", row] = em.op(f"add i64 {self.tile_start}, {k}")
                stack[-1].memo.update({v: registers[k] for v, registers in tiles.items()})
                self._stages()
                self.levels.pop()
            return
        places = {v: self._stacked(registers, sc.register(v.dtype)) for v, registers in tiles.items()}
        inside, _ = self.levels.open("0", str(self.tile), 1, [])
        stack[-1].memo["var", row] = em.op(f"add i64 {self.tile_start}, {inside}")
        for v, place in places.items():
            kind = vector_type(sc.register(v.dtype), self.lanes)
            p = em.op(f"getelementptr {kind}, ptr {place}, i64 {inside}")
            stack[-1].memo[v] = em.op(f"load {kind}, ptr {p}")
        self._stages()
        self.levels.close([])

    def _stacked(self, registers: list[str], element: str) -> str:
        """An array of vectors on the stack."""
        kind = vector_type(element, self.lanes)
        self.levels.use(0)
        place = self.em.op(f"alloca {kind}, i32 {len(registers)}", "tile")
        self.levels.use(ROW_DEPTH)
        for k, x in enumerate(registers):
            self.em.line(f"store {kind} {x}, ptr {self.em.op(f'getelementptr {kind}, ptr {place}, i64 {k}')}")
        return place

    def _overlapping(self, number: str, step: int, extent: int) -> str:
        """Where the vector or tile of this number starts: the last one overlaps the one before."""
        em = self.em
        start = em.op(f"mul i64 {number}, {step}") if number.startswith("%") else str(int(number) * step)
        if extent % step:
            em.declare("i64 @llvm.smin.i64(i64, i64)")
            start = em.op(f"call i64 @llvm.smin.i64(i64 {start}, i64 {extent - step})")
        return start

    def _open_vectors(self, vec_range: tuple[str, str]) -> bool:
        """Begin the vectorised loop over a row variable, if there is one."""
        if self.vec is None or self.row_mode:
            self.levels.push()
            return False
        loop = self.n_vec != self.lanes
        if loop:
            em = self.em
            counter, _ = self.levels.open(vec_range[0], vec_range[1], self.lanes, [])
            self.vec_number = counter, vec_range[0]
            if self.n_vec % self.lanes:  # the last vector overlaps the one before
                em.declare("i64 @llvm.smin.i64(i64, i64)")
                nominal, counter = counter, em.op(f"call i64 @llvm.smin.i64(i64 {counter}, i64 {self.n_vec - self.lanes})")
                if self.turn:  # and what is added up must not be added twice
                    self.levels.stack[-1].memo["mine"] = self._lanes_from(em.op(f"sub i64 {nominal}, {counter}"))
        else:
            self.levels.push()
            counter = "0"
        self.levels.stack[-1].memo["var", self.vec.last] = counter
        return loop

    def _lanes_from(self, first: str) -> str:
        """The lanes from number `first` on."""
        numbers = ", ".join([f"i32 {lane}" for lane in range(self.lanes)])
        least = self.em.splat("i32", self.lanes, self.em.op(f"trunc i64 {first} to i32"))
        return self.em.op(f"icmp sge <{self.lanes} x i32> <{numbers}>, {least}")

    def _body(self) -> str:
        """The text of the function, with the places of scalars and offsets in its index table put in."""
        body = "\n".join(self.levels.stack[0].region.lines)
        first = {"scalar": len(self.buffers), "offset": len(self.buffers) + len(self.scalars)}
        return re.sub(r"@(scalar|offset)(\d+)@", lambda found: str(first[found[1]] + int(found[2])), body)

    def _assemble(self) -> Kernel:
        text = f"define void @kernel({_PARAMETERS}) {{\nentry:\n{self._body()}\n}}\n"
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
            self.replaced,
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

    def _stages(self) -> None:
        """Everything of one row: the loops over columns stage by stage, then what is stored per row."""
        if not self.cols:
            for r in self.roots:
                self._evaluate([r.value, *dynamic_values(r.place)])
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
        self.spills = {} if self.unrolled else self._choose_spills(passes)
        for number, (here, stores) in enumerate(passes):
            self.pass_number = number
            if self.unrolled:
                self._unrolled_pass(here, stores)
            else:
                self._loop_pass(here, stores)
        self.levels.use(ROW_DEPTH)
        for r in self.roots:
            if r not in full:
                self._evaluate([r.value, *dynamic_values(r.place)])
                self._store(r)

    def _unrolled_rounds(self) -> list[Level]:
        """Levels of the few rounds of a short column loop, or [] where a loop is better."""
        if len(self.cols) != 1 or self.chunk_group is not None or self.scan:
            return []
        step = self.lanes if self.row_mode else 1
        rounds = -(-self.cols[0].extent // step)
        inner = sum(1 for v in self.needed if v.mask & self.cols[0].mask)
        if rounds > (_UNROLL if self.row_mode else 8) or (rounds > 1 and rounds * inner > _MOST_UNROLLED):
            return []
        levels = []
        for k in range(rounds):
            level = Level(self.levels.stack[ROW_DEPTH].region)
            level.memo["var", self.cols[0].last] = str(k * step)
            if self.row_mode:
                self._mask_round(level, k)
            levels.append(level)
        return levels

    def _mask_round(self, level: Level, k: int) -> None:
        """Leave out, in the k-th of a known number of vectors, the lanes beyond the row's end."""
        assert self.vec is not None
        left = self.vec.extent - k * self.lanes
        if left < self.lanes:
            level.memo["mask"] = "<" + ", ".join(f"i1 {int(i < left)}" for i in range(self.lanes)) + ">"

    def _short_row(self) -> int:
        """How many vectors the innermost loop has, if they are so few that their masks had better be constants, else 0."""
        if not self.masked or self.scan or self.vec is self.chunk_group:
            return 0
        assert self.vec is not None
        rounds = -(-self.vec.extent // self.lanes)
        inner = sum([1 for v in self.needed if v.mask & self.vec.mask])
        return rounds if 1 < rounds <= _UNROLL and rounds * inner <= _MOST_UNROLLED else 0

    def _unrolled_pass(self, folds: list[Value], stores: list[Root]) -> None:
        collected: dict[Value, list] = {v: [] for v in folds}
        for level in self.unrolled:
            self.levels.push(level)
            self.levels.use(ROW_DEPTH + 1)
            self._evaluate([v.args[0] for v in folds] + [r.value for r in stores])
            for r in stores:
                self._store(r)
            for v in folds:
                collected[v].append(self._fold_operand(v))
            self.levels.pop()
        self.levels.use(ROW_DEPTH)
        for v in folds:
            self._finish_fold(v, collected[v])

    def _loop_pass(self, folds: list[Value], stores: list[Root]) -> None:
        levels, em = self.levels, self.em
        levels.use(ROW_DEPTH)
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
        short = self._short_row()
        rounds = short or self._rounds(folds, stores)
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
            if g is self.vec and short:
                self._mask_round(level, 0)
            elif g is self.vec and self.masked:
                level.memo["mask"] = self._tail_mask(counter, stop)
        depth = len(levels.stack) - 1
        if scans:
            at = len(current) - len(scans)
            for v, carry in zip(scans, current[at:], strict=True):
                levels.stack[-1].memo["carry", v] = carry
        spilled = (
            [v for v, first in self.spill_at.items() if first == self.pass_number]
            if self.spills
            else []
        )
        wanted = [v.args[0] for v in folds] + [r.value for r in stores] + spilled
        states: list[list[list[str]]] = []
        at = 0
        for fold, n in shapes:
            states.append(
                [current[at + k * fold.width : at + (k + 1) * fold.width] for k in range(n)]
            )
            at += n * fold.width
        outer = levels.stack[depth]
        for k in range(rounds):
            if k:  # one more vector in the same round of the loop
                levels.stack[depth] = Level(outer.region)
                levels.use(depth)
                counter = outer.memo["var", self.cols[-1].last]
                place = str(k * self.lanes) if short else em.op(f"add i64 {counter}, {k * self.lanes}")
                levels.stack[depth].memo["var", self.cols[-1].last] = place
                if short:
                    self._mask_round(levels.stack[depth], k)
            self._evaluate(wanted)
            for v in spilled:
                self._spill(v, depth)
            for r in stores:
                self._store(r)
            for i, (v, (fold, _)) in enumerate(zip(folds, shapes, strict=True)):
                operand = self._fold_operand(v)
                levels.use(depth)
                # rotate: the next vector is added to the next accumulator
                states[i] = [*states[i][1:], fold.follow(em, states[i][0], operand)]
        levels.stack[depth] = outer
        following: list[str] = [x for state in states for part in state for x in part]
        for v in scans:
            following.append(self._get(v)[0])
        levels.use(depth)
        for _ in range(opened):
            levels.close(following)
        levels.use(ROW_DEPTH)
        at = 0
        for v, (fold, n) in zip(folds, shapes, strict=True):
            w = fold.width
            self._finish_fold(v, [following[at + k * w : at + (k + 1) * w] for k in range(n)])
            at += n * w

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
                sc.select(em, fold.lanes, kind, mask, p, i)
                for kind, p, i in zip(fold.kinds, parts, initial, strict=True)
            ]
        return parts

    def _position(self, e: Expr, fold: Fold, depth: int) -> str:
        text = (
            self._vector_index(e, "i64") if fold.lanes > 1 and ex.mask(e) & self.vec_mask else None
        )
        if text is not None:
            return text
        value = self._scalar_index(e)
        self.levels.use(depth)
        return self.em.splat("i64", fold.lanes, value)

    def _finish_fold(self, v: Value, states: list[list[str]]) -> None:
        """Combine accumulators in a fixed tree, then lanes, and remember the result for the rest of the row."""
        fold, em = self._fold(v), self.em
        self.levels.use(ROW_DEPTH)
        while len(states) > 1:
            pairs = [fold.combine(em, a, b) for a, b in zip(states[::2], states[1::2])]
            states = pairs + ([states[-1]] if len(states) % 2 else [])
        state = states[0]
        if self.row_mode:
            state = fold.across(em, state)
        self.levels.stack[ROW_DEPTH].memo[v] = fold.result(
            em, state, 1 if self.row_mode else fold.lanes
        )

    def _tail_mask(self, counter: str, stop: str) -> str:
        em = self.em
        left = em.op(f"trunc i64 {em.op(f'sub i64 {stop}, {counter}')} to i32")
        if self.lanes == 1:
            return em.op(f"icmp sgt i32 {left}, 0")
        steps = "<" + ", ".join(f"i32 {i}" for i in range(self.lanes)) + ">"
        return em.op(f"icmp sgt <{self.lanes} x i32> {em.splat('i32', self.lanes, left)}, {steps}")
