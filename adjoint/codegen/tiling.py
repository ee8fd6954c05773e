"""How the loops of a nest are run: which are merged, which one is vectorised, how the work is cut into blocks.

`Tiling(nest, stored, vector_bytes)` decides, by shapes and the kind of machine alone, and writes nothing. The loops, from outside: blocks of
work, rows (the unreduced loops), the reduced loops. One loop is vectorised: the last of all, if it is reduced ("row
mode"), else the last of the rows, which then comes after the other rows ("column mode"). Where memory is read across
the lanes, as in a transposition, the rows come inside ("swapped"), several at a time ("tiles"). Read `_choose_loops`.
"""

from __future__ import annotations

import math

from adjoint.codegen.reductions import Fold
from adjoint.hardware import vendor
from adjoint.ir.graph import Node
from adjoint.schedule.expr import Expr, Var
from adjoint.schedule.lower import dynamic_values
from adjoint.schedule.values import WEIGHTS, Nest, Root, Value

ROW_DEPTH = 3  # where everything outside the reduced loops is known
TILE_DEPTH = 4  # of the rows of a tile
ACCUMULATORS = 4  # running results of a long vectorised row, to hide the latency of an addition
TURN, TURN_BYTES = 8, 1 << 15  # rows of a reduction across rows that are read together, and its results that stay in the first cache
# Whether large transposed copies gain where each block asks for what the next one reads: 3.5 -> 2.8 ms for 64 MB on AMD's Zen 5,
# 5.4 -> 3.8 on Zen 4; on Intel's Emerald Rapids they lose, 3.7 -> 4.5 ms.
ASKS_AHEAD = vendor() == "AuthenticAMD"
# Whether columns that are added up by turns go one vector at a time, rather than as many as there are registers for: 2.2 -> 1.9 ms
# for sums of 64 MB on AMD's Zen 4, 4.0 -> 2.1 for maxima, 7.1 -> 2.6 for sums of exponentials; unmeasured elsewhere.
ONE_ABREAST = vendor() == "AuthenticAMD"
STREAM_BYTES = 48 << 20  # kernels that move more than this write past the caches
LINE = 64  # bytes of a cache line
_SMALLEST_TILE = 4  # rows
_FEW_ROWS = 32  # of a reduction: processors follow so many side by side, if a page at a time
_WORTH_TURNING = 8192  # elements: below, compiling the longer code costs more than it saves
_SHARED = 12_000  # nanoseconds, estimated, of what is worth sharing: a worker that is awake begins within one or two thousand


class Group:
    """Adjacent loops merged into one. last: the variable that stands for all; extent: of the merged loop."""

    __slots__ = ("members", "last", "extent", "mask", "depth")

    def __init__(self, members: list[Var]) -> None:
        self.members, self.last = members, members[-1]
        self.extent = math.prod(v.extent for v in members)
        self.mask = sum(v.mask for v in members)
        self.depth = 0


def reachable(roots: list[Root]) -> list[Value]:
    """The values that some roots need, in the order in which they were made."""
    found: set[Value] = set()
    stack = [r.value for r in roots]
    for r in roots:
        stack.extend(dynamic_values(r.place))
    while stack:
        v = stack.pop()
        if v not in found:
            found.add(v)
            stack.extend(v.args)
    return sorted(found, key=lambda v: v.id)


class Tiling:
    """The decisions for one nest. stored: the nodes that must be in memory afterwards.

    needed: the values that their roots need.  vec, lanes: the vectorised loop and how many elements at once.
    rows, cols: the other unreduced loops, and the reduced ones.  pieces, row_blocks, vec_blocks: how many blocks.
    tile: how many rows are read at once (0: one after the other); turned: the loads whose tiles are turned in registers;
    bursts: whether blocks are made for main memory; ahead: whether what the next one reads is asked for; streamed: the load
    of which the next page is.
    apart, most_lanes: a loop that is not merged with those before it, and a bound for the lanes; of an epilogue.
    turn: how many steps of a piece are taken before the vectorised loop goes on (0: all).
    weight: of all values at one point of the loops.  n_rows: turns of the loop over rows, or over tiles.
    spills, spill_at, pass_number: the values kept in scratch rows, where `Registers` keeps its accounts.
    """

    spills: dict[Value, str]
    spill_at: dict[Value, int]
    pass_number: int
    apart: Var | None = None
    most_lanes: int | None = None

    def __init__(self, nest: Nest, stored: set[Node], vector_bytes: int) -> None:
        self.nest = nest
        self.vector_bytes = vector_bytes
        self.width = vector_bytes // 4
        self.roots = [r for r in nest.roots if r.target in stored]
        self.needed = reachable(self.roots)
        self.scatter = any(r.kind == "scatter" for r in self.roots)
        self.scan = any(r.kind == "scan" for r in self.roots)
        self._choose_loops()
        self._choose_blocks()

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
            return b is not chunk_var and b is not self.apart and all(
                c.get(a, 0) == c.get(b, 0) * b.extent for c in coefficients
            )

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
        self.bytes = self._traffic()
        self._choose_tile()
        self.streamed = self._streamed()
        self.bursts = self._wants_bursts()
        self.ahead = self.bursts and ASKS_AHEAD
        if self.bursts:
            self.swapped = False
        for g in self.rows:
            g.depth = 3 if self.swapped else 2
        if self.tile:
            self.rows[-1].depth = TILE_DEPTH
        if self.vec is not None:
            self.vec.depth = 2 if self.swapped else 3
        for k, g in enumerate(self.cols):
            g.depth = ROW_DEPTH + 1 + k
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

    def _choose_tile(self) -> None:
        """Read several rows at once, where they lie side by side in memory and the lanes far apart.

        Vectors of such a tile are read along memory and turned in registers: every cache line is read and written whole.
        """
        self.tile, self.turned = 0, set()
        points = math.prod(v.extent for v in self.nest.vars)
        if not self.swapped or self.lanes < _SMALLEST_TILE or points < _WORTH_TURNING:
            return
        assert self.vec is not None
        row = self.rows[-1]
        most = 1 << (row.extent.bit_length() - 1)
        lanes = max(self.lanes, min(LINE // 4, 1 << (self.vec.extent.bit_length() - 1)))
        found = [v for v in self.needed if self._is_turned(v, self.vec, row)]
        sizes = [min(lanes, self.vector_bytes // v.dtype.itemsize, most) for v in found]
        if sizes and min(sizes) >= _SMALLEST_TILE:
            self.tile, self.turned, self.lanes = max(sizes), set(found), lanes

    def _wants_bursts(self) -> bool:
        """Whether tiles are taken from memory that no cache holds, and blocks are made for it.

        Main memory gives neighbouring lines fastest, and takes them fastest: the lines a block writes come in pairs. Where
        asking ahead helps (`ASKS_AHEAD`), a block has as many tiles side by side as a tile has vectors, and for each of its
        tiles asks for one row of what the next block reads, from end to end; elsewhere it reads pairs of lines.
        """
        if not self.tile or self.bytes < STREAM_BYTES:
            return False
        assert self.vec is not None
        return self.rows[-1].extent >= self.lanes * self.tile and self.vec.extent >= 4 * self.lanes

    @staticmethod
    def _is_turned(v: Value, vec: Group, row: Group) -> bool:
        """Whether a load goes from element to element with the rows, from anywhere to anywhere with the lanes."""
        if v.op != "load" or v.attrs[2]:
            return False
        terms = v.attrs[1][1]
        if any(var.kind != "loop" and var.mask & (vec.mask | row.mask) for var, _ in terms):
            return False
        steps = dict(terms)
        return steps.get(row.last, 0) == 1 and steps.get(vec.last, 0) not in (0, 1)

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
            return lanes if all(self._is_adjacent(r.place) for r in self.roots if r.kind == "scatter") else 1
        if ONE_ABREAST and (self._turns_for(extent, self.width) or self._has_few_rows(extent)):
            return self.width
        if self.cols and not self.scan:
            # Columns are read row by row: the wider, the fewer jumps from page to page; as far as registers reach.
            # Loads and sums have all registers (there are 32 or 16), with simple work on the way half of them.
            most = self.width if len(self.needed) == 2 else 4 if len(self.needed) <= 6 else 1
            if 2 < len(self.needed) <= 4:
                widest = max([v.dtype.itemsize for v in self.needed])
                most = min(self.width, (16 if self.vector_bytes == 64 else 8) * 4 // widest)
            for abreast in (16, 8, 4):
                if abreast <= most and extent % (abreast * self.width) == 0:
                    return abreast * self.width
        return min(self.most_lanes or self.width, 1 << (extent.bit_length() - 1))

    def _is_adjacent(self, place: Expr) -> bool:
        """Whether a scatter writes what it makes along the vectorised loop side by side."""
        assert self.vec is not None
        group = self.vec
        return all(var.kind == "loop" or not var.mask & group.mask for var, _ in place[1]) and dict(place[1]).get(group.last) == 1

    def _choose_blocks(self) -> None:
        """Cut the work by shapes alone. blocks = pieces * row blocks * blocks of the vectorised loop."""
        self.n_rows = rows = math.prod(g.extent for g in self.rows)
        if self.tile:
            last = self.rows[-1].extent
            self.n_rows = rows // last * -(-last // self.tile)
        self.n_vec = 1 if self.row_mode or self.vec is None else self.vec.extent
        n_cols = math.prod(g.extent for g in self.cols)
        self.weight = weight = sum([WEIGHTS.get(v.op, 1) for v in self.needed]) + len(self.roots)
        elements = rows * self.n_vec * n_cols
        self.flops = elements * weight
        self.rounds = -(-elements // max(1, self.lanes))  # how often a value that depends on every variable is computed
        nanoseconds = self.flops * 0.25 / max(1, self.lanes) + self.bytes * 0.03
        self.parallel = nanoseconds > _SHARED and not self.scatter
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
        if self.bursts:  # of each row that is written, two vectors
            self.row_block, self.vec_block = (1 if self.ahead else 2) * self.lanes, 2 * self.lanes
        elif self.tile:  # a line: the fewer in the cache at once the better, as they often lie a power of two apart
            self.row_block, self.vec_block = min(self.n_rows, max(1, 16 // self.tile)), min(self.n_vec, 512)
        elif self.swapped:  # small enough for the first caches of lines and of pages
            self.row_block = min(self.n_rows, 256)
            self.vec_block = min(self.n_vec, max(8 * self.lanes, 128))
        if self.nest.column:
            self.row_block = self.nest.column
        self.turn = 0
        if self._wants_turns():
            self.turn = TURN
            size = max([r.node.dtype.itemsize for r in self.roots])
            self.vec_block = min(self.n_vec, max(1, TURN_BYTES // (size * len(self.roots)) // self.lanes) * self.lanes)
        self.pieces = pieces
        self.row_blocks = -(-self.n_rows // self.row_block)
        self.vec_blocks = -(-self.n_vec // self.vec_block)
        self.nblocks = pieces * self.row_blocks * self.vec_blocks
        self.parallel = self.parallel and self.nblocks > 1

    @property
    def once(self) -> bool:
        """Whether every element is computed once: there are no reductions, and no vectors or tiles that overlap."""
        return not (self.cols or self.tile or self.scatter) and self.n_vec % self.lanes == 0

    def _traffic(self) -> int:
        """Bytes that a run reads and writes at least."""
        read = [v.dtype.itemsize * self._extent(v.mask) for v in self.needed if v.op == "load"]
        written = [r.node.size * r.node.dtype.itemsize for r in self.roots if r.kind != "piece"]
        kept = [r.source.size * r.node.dtype.itemsize for r in self.roots if r.source is not None]
        return sum(read) + sum(written) + sum(kept)

    def _streamed(self) -> Value | None:
        """The load that reads almost all there is to read, along memory: a page ahead of it is asked for.

        Processors foresee the next lines of a page. Where several large loads alternate there is nothing to gain.
        """
        if not self.row_mode or not self.cols or self.bytes < STREAM_BYTES:
            return None
        large = [v for v in self.needed if v.op == "load" and 16 * v.dtype.itemsize * self._extent(v.mask) >= self.bytes]
        return large[0] if len(large) == 1 else None

    def _wants_turns(self) -> bool:
        """Whether a piece of a reduction across rows of memory is better read a few rows at a time, each to its end.

        Its results are then added up in the first cache. Each row is followed where it goes on, and does not begin anew
        for every vector. Where the last vector overlaps the one before, its lanes that have been added are left out
        (`NestKernel._open_vectors`).
        """
        return not self.row_mode and self.n_rows == 1 and self._turns_for(self.n_vec, self.lanes)

    def _has_few_rows(self, extent: int) -> bool:
        """Whether so few rows, which no cache holds, are reduced that they can all be followed side by side."""
        rows = math.prod(g.extent for g in self.cols)
        return 1 < rows <= _FEW_ROWS and not self.scan and extent > self.width and self._traffic() >= STREAM_BYTES

    def _turns_for(self, extent: int, lanes: int) -> bool:
        """Whether vectors of so many lanes could go through so many columns by turns, if there are no other rows."""
        if self.chunk_group is None or len(self.cols) > 1 or self.chunk <= TURN:
            return False
        return extent > lanes and all(r.kind == "partial" for r in self.roots)

    def _extent(self, mask: int) -> int:
        return math.prod(v.extent for v in self.nest.vars if v.mask & mask)

    def _rounds(self, folds: list[Value], stores: list[Root]) -> int:
        """Vectors in one round of the innermost loop: several where there is little work in each."""
        if not self.row_mode or self.masked or self.scan:
            return 1
        assert self.vec is not None
        lengths = [self.vec.extent]
        if self.vec is self.chunk_group:
            lengths = [self.chunk, self.vec.extent % self.chunk or self.chunk]
        if (
            any(n % (ACCUMULATORS * self.lanes) for n in lengths)
            or max(lengths) == ACCUMULATORS * self.lanes
        ):
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
        return ACCUMULATORS if weight <= 12 and len(folds) <= 2 else 1

    def _accumulators(self, fold: Fold) -> int:
        """How many running results: enough to hide the latency of an addition in a long vectorised row."""
        if not self.row_mode or fold.width > 1:
            return 1
        assert self.vec is not None
        length = self.chunk if self.vec is self.chunk_group else self.vec.extent
        return ACCUMULATORS if length > ACCUMULATORS * self.lanes else 1
