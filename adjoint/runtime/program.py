"""A compiled graph, ready to run: `compile_graph(graph)` and `Program.run(buffers, scalars)`.

`_Build` turns the schedule of a graph into slots of memory and steps; `Program` owns the result: tables of kernel
records for the native driver, host steps in NumPy between them, and the `_Frame`s (one for each thread that is inside
`run`) with their arenas of intermediates. Where LLVM is missing the whole graph is interpreted by `ir/reference.py`.
Start at `Program.run`, then `_Build`.
"""

from __future__ import annotations

import math
import struct
import sys
import threading
import time
import weakref
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adjoint import config
from adjoint.codegen.nest import STATUS, Kernel, NestKernel
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, Node
from adjoint.ir.prims import IMAGINARY
from adjoint.ir.reference import REFERENCE, run_graph, scalar_of
from adjoint.runtime import jit, memory, pool
from adjoint.runtime.contractions import KERNELS, operations
from adjoint.runtime.entry import HEADER, REFUSED, WANTED, WRONG
from adjoint.runtime.garbage import NoCollections
from adjoint.runtime.memory import Buffer
from adjoint.schedule.group import Grouping, Special
from adjoint.schedule.memory_plan import plan_memory
from adjoint.schedule.prepare import prepare
from adjoint.storage import decode, encode

_COLD_ELEMENTS = (
    4096  # a program of exact primitives on so few elements is interpreted the first time
)
_LONG_NS = (
    20_000  # programs estimated longer than this give up the interpreter's lock while they run
)


# of everything run so far: bytes as the kernels estimate them, and how often anything was run
counters = {"bytes_moved": 0, "runs": 0}
living: weakref.WeakSet[Program] = weakref.WeakSet()


class Program:
    """Runs one graph; any number of threads may do so at once.

    kernels: names of the machine-code kernels in order, n_kernels their number.  bytes_moved, flops: estimates for one
    run.  text: the scheduled loops.  The counts compile the program if its first run has not.  runs: how often it has
    run.  last: how many runs of any program there had been at its last one.  seconds: that scheduling, and LLVM, took.
    apart: whether every kernel is a step of its own, for those who watch them.
    """

    apart = False

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inputs = [n for n in graph.nodes if n.prim.name == "input"]
        self.n_inputs = 1 + max((n.attrs[0] for n in self.inputs), default=-1)
        self._lock = threading.Lock()
        self._built: _Build | None = None
        self.runs, self.last = 0, counters["runs"]
        self.seconds: dict[str, float] = {}
        living.add(self)
        self._native = jit.available()
        self._cold = self._native and _may_start_cold(graph)
        if self._native and not self._cold:
            self._build()

    def _build(self) -> _Build:
        built = self._built
        if built is None:
            with self._lock, NoCollections():
                built = self._built
                if built is None:
                    began, llvm = time.perf_counter(), jit.counters.compile_seconds
                    built = _Build(self.graph, self.n_inputs, self.apart)
                    llvm = jit.counters.compile_seconds - llvm
                    self.seconds = {"schedule": time.perf_counter() - began - llvm, "LLVM": llvm}
                    self._frames = [_Frame(built)]
                    self._built = built
                    _report(self.graph, built)
        return built

    def compile(self) -> None:
        """Make machine code now, where the first run would go without."""
        self._cold = False
        if self._native:
            self._build()

    @property
    def kernels(self) -> list[str]:
        return self._build().names if self._native else []

    @property
    def n_kernels(self) -> int:
        return len(self.kernels)

    @property
    def bytes_moved(self) -> int:
        return self._build().bytes if self._native else 0

    @property
    def flops(self) -> int:
        return self._build().flops if self._native else 0

    @property
    def text(self) -> str:
        return describe(self.graph)

    def run(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """Compute the outputs, each in a fresh buffer.

        buffers, scalars: what the graph's input and scalar nodes name by index. IndexError or RuntimeError as the
        reference raises them.
        """
        self.last = counters["runs"] = counters["runs"] + 1
        self.runs += 1
        built = self._built
        if built is None:
            if self._cold or not self._native:
                self._cold = False
                return self.interpret(buffers, scalars)
            built = self._build()
        out = built.outputs.allocate()
        counters["bytes_moved"] += built.bytes
        try:
            frame = self._frames.pop()  # atomic: a frame is never in two threads
        except IndexError:
            frame = _Frame(built)
        try:
            result = REFUSED if built.enter is None else built.enter(frame.header, buffers, out, scalars)
            if result:
                if result & REFUSED:
                    result = self._run_steps(built, frame, buffers[: built.n_inputs], out, scalars)
                if result & WANTED:
                    pool.start()
        finally:
            self._frames.append(frame)
        if result & WRONG:
            return self.interpret(buffers, scalars)  # raises the reference's error, with its message
        return out

    @staticmethod
    def _run_steps(
        built: _Build, frame: _Frame, buffers: list[Buffer], out: list[Buffer], scalars: list[Any]
    ) -> int:
        """Fill the table and run step by step: where there are host steps, or a number needs NumPy's conversion."""
        built.fill(frame, buffers, out, scalars)
        for step in built.steps:
            step(frame, buffers, out)
        return WRONG if frame.failed() else 0

    def interpret(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """The same through the NumPy reference."""
        arrays: list[Any] = [None] * self.n_inputs
        for node in self.inputs:
            index, shape, dtype = node.attrs
            arrays[index] = decode(buffers[index].array(dtype.np, shape), dtype)
        results = run_graph(self.graph, arrays, scalars)
        out = []
        for node, value in zip(self.graph.outputs, results, strict=True):
            buffer = memory.allocate(node.size * node.dtype.itemsize)
            np.copyto(buffer.array(node.dtype.np, node.shape), encode(value, node.dtype))
            out.append(buffer)
        return out


def compile_graph(
    graph: Graph, recorded: Graph | None = None, places: Callable[[], list[str]] | None = None
) -> Program:
    """The program of a graph. Machine code is made at once, or at the second run of a small exact program.

    recorded, places: for ADJOINT_VERIFY, the graph before it was simplified, and where its outputs were recorded.
    """
    if config.get("ADJOINT_GUARD") and jit.available():
        from adjoint.runtime.guard import GuardedProgram

        return GuardedProgram(graph)
    every = config.get("ADJOINT_VERIFY")
    if every and jit.available():
        from adjoint.runtime.verify import VerifiedProgram

        return VerifiedProgram(graph, recorded or graph, places, every)
    return Program(graph)


def _may_start_cold(graph: Graph) -> bool:
    total = 0
    for node in graph.nodes:
        if not node.prim.exact or node.parts is not None:
            return False
        total += node.size
        if total > _COLD_ELEMENTS:
            return False
    return True


def _report(graph: Graph, built: _Build) -> None:
    """Print kernels as ADJOINT_DEBUG asks: 1 their names, 4 the loops and the LLVM IR."""
    level = config.get("ADJOINT_DEBUG")
    if level >= 1:
        print(f"program of {len(built.names)} kernels: {', '.join(built.names)}", file=sys.stderr)
    if level >= 4:
        print("\n".join([describe(graph), *built.texts]), file=sys.stderr)


class _Frame:
    """What one run writes: a header for `runtime.entry`, the table of buffer addresses and scalar words, and the arena
    they point into.

    arena, offsets: memory for what is neither input nor output, and where each of it lies.
    """

    __slots__ = ("table", "header", "buffers", "scalars", "arena", "offsets", "status")

    def __init__(self, built: _Build, arena: Buffer | None = None, offsets: Sequence[int] | None = None) -> None:
        self.arena = memory.allocate(built.arena_bytes) if arena is None else arena
        self.offsets = built.fixed_offsets if offsets is None else offsets
        self.table = np.zeros(HEADER + built.n_words, np.int64)
        self.header = self.table.__array_interface__["data"][0]
        self.buffers = self.header + 8 * HEADER
        self.scalars = self.buffers + 8 * (built.n_inputs + built.n_outputs)
        first = HEADER + built.first_fixed
        for k, offset in enumerate(self.offsets):
            self.table[first + k] = self.arena + offset
        self.status: np.ndarray | None = None
        if built.status is not None:
            self.status = self.block(built.status, 8).view(np.int64)
            self.status[0] = 0
        if built.enter is not None:
            self.table[:HEADER] = (
                built.tables[0].address,
                built.tables[0].count,
                built.n_inputs,
                built.n_outputs,
                len(built.scalar_keys),
                built.scalar_spec.__array_interface__["data"][0],
                0 if built.status is None else self.arena + self.offsets[built.status],
                built.is_long,
            )

    def block(self, k: int, nbytes: int) -> np.ndarray:
        """The beginning of the k-th thing in the arena."""
        return self.arena.mem[self.offsets[k] : self.offsets[k] + nbytes]

    def failed(self) -> bool:
        """Whether a kernel has set the status word, which is cleared."""
        if self.status is None or not self.status[0]:
            return False
        self.status[0] = 0
        return True


Step = Callable[[_Frame, list[Buffer], list[Buffer]], None]


@dataclass(frozen=True)
class Piece:
    """One step of a program that is taken apart.

    name: of the kernel, or host step.  unit: what was scheduled.  slots: of the memory it uses.
    """

    name: str
    unit: Any
    slots: tuple[int, ...]


class _Build:
    """The way from a graph to steps.

    The table of one run holds, in this order: addresses of inputs, addresses of outputs, scalar words, addresses of
    everything in the arena. `slots` says where a node's address stands.

    apart: every kernel becomes a step of its own, described by the piece of the same number in `pieces`.
    """

    def __init__(self, graph: Graph, n_inputs: int, apart: bool = False) -> None:
        self.apart = apart
        self.pieces: list[Piece] = []
        self.n_inputs, self.n_outputs = n_inputs, len(graph.outputs)
        graph = prepare(graph)
        grouping = Grouping(graph)
        order = grouping.order()
        self.out_bytes = [o.size * o.dtype.itemsize for o in graph.outputs]
        self.outputs = memory.Outputs(self.out_bytes)
        self.copies: list[tuple[int, int]] = []
        self.slots: dict[Any, int] = {n: n.attrs[0] for n in graph.nodes if n.prim.name == "input"}
        first: dict[Node, int] = {}
        for k, o in enumerate(graph.outputs):
            if o in first:
                self.copies.append((first[o], k))
            else:
                first[o] = k
                self.slots[o] = n_inputs + k
        stored: set[Node] = set(first)
        for unit in order:
            stored.update(unit.reads)
        width = jit.target().vector_bytes
        self.names: list[str] = []
        self.flops = self.bytes = 0
        self.work: list[tuple[int, int]] = []  # floating operations and bytes of each kernel
        self.scalar_keys: list[tuple[int, DType]] = []
        made: list[tuple[Any, list]] = []  # (unit, its kernels)
        texts: list[tuple[str, str, list[str]]] = []
        for unit in order:
            if isinstance(unit, Special):
                kernels = self._contraction(unit, width, texts) if unit.layouts else []
                made.append((unit, kernels))
                continue
            if not any(r.target in stored for r in unit.roots):
                continue
            kernel = NestKernel(unit, stored, width).finish()
            self.flops += kernel.flops
            self.bytes += kernel.bytes
            self.work.append((kernel.flops, kernel.bytes))
            for key in kernel.scalars:
                if key not in self.scalar_keys:
                    self.scalar_keys.append(key)
            texts.append(("kernel", kernel.text, kernel.declarations))
            self.names.append(
                "+".join(dict.fromkeys(r.node.prim.name for r in unit.roots if r.target in stored))
            )
            made.append((unit, [kernel]))
        self.texts = [text for _, text, _ in texts] if config.get("ADJOINT_DEBUG") >= 4 else []
        self._place(made)
        self._finish(made, jit.compile_kernels(texts))

    def _contraction(self, unit: Special, width: int, texts: list) -> list:
        """The kernels of a matrix product, a convolution or an order."""
        node = unit.node
        made = KERNELS[unit.kind](unit, width)
        flops = operations(node)
        moved = sum([a.size * a.dtype.itemsize for a in (*node.args, *unit.results)])
        self.flops += flops
        self.bytes += moved
        for phase in made.phases:
            texts.append((phase.name, phase.text, list(phase.declarations)))
            self.names.append(unit.kind)
            self.work.append((0, 0))
        self.work[-1] = flops, moved  # packing comes before the product
        return [made]

    def _place(self, made: list[tuple[Any, list]]) -> None:
        """Slots and arena offsets of everything that is neither input nor output."""
        position = {id(unit): i for i, (unit, _) in enumerate(made)}
        life: dict[Any, list[int]] = {}

        def touch(key: Any, at: int) -> None:
            if key in self.slots:
                return
            span = life.setdefault(key, [at, at])
            span[0], span[1] = min(span[0], at), max(span[1], at)

        uses_status = False
        for unit, kernels in made:
            at = position[id(unit)]
            if isinstance(unit, Special):
                for n in unit.reads:
                    touch(n, at)
                for n in unit.results:
                    if n.parts is None:
                        touch(n, at)
                if unit.layouts:
                    for key in _results(unit):
                        touch(key, at)
                    if kernels[0].scratch_bytes:
                        touch(("scratch", unit.id), at)
            else:
                for b in kernels[0].buffers:
                    if b == STATUS:
                        uses_status = True
                    else:
                        touch(b, at)
        blocks = []
        for key, (start, end) in life.items():
            if isinstance(key, Node):
                size = key.size * key.dtype.itemsize
            elif key[0] == "scratch":
                size = next(ks[0].scratch_bytes for u, ks in made if u.id == key[1])
            else:
                shape, dtype = key[2]
                size = math.prod(shape) * dtype.itemsize
            blocks.append((key, size, start, end))
        offsets, top = plan_memory(blocks)
        if uses_status:
            offsets[STATUS] = top
            blocks.append((STATUS, 8, 0, len(made)))
            top += 64
        self.arena_bytes = top
        self.first_fixed = base = self.n_inputs + self.n_outputs + len(self.scalar_keys)
        for k, key in enumerate(offsets):
            self.slots[key] = base + k
        self.fixed_offsets = list(offsets.values())
        sizes = {key: nbytes for key, nbytes, _, _ in blocks}
        self.fixed_bytes = [sizes[key] for key in offsets]
        self.status = self.slots[STATUS] - base if uses_status else None
        self.n_words = base + len(self.fixed_offsets)
        words = "".join("d" if d.is_floating_point else "q" for _, d in self.scalar_keys)
        self.pack: Callable[..., None] = struct.Struct(
            f"={self.n_inputs + self.n_outputs}Q{words}"
        ).pack_into
        self.scalar_indices = [i for i, _ in self.scalar_keys]
        spec = [(i % IMAGINARY, int(d.is_floating_point)) for i, d in self.scalar_keys]
        self.scalar_spec = np.array(spec or [(0, 0)], np.int32)

    def fill(self, frame: _Frame, buffers: list[Buffer], out: list[Buffer], scalars: list[Any]) -> None:
        """Write the addresses and numbers of one run into the frame's table."""
        try:
            self.pack(frame.table, 8 * HEADER, *buffers, *out, *[scalars[i] for i in self.scalar_indices])
        except (struct.error, IndexError):
            self.pack(frame.table, 8 * HEADER, *buffers, *out, *self.words(scalars))

    def words(self, scalars: list[Any]) -> list[Any]:
        """Scalars converted to what the table holds, as NumPy would convert them."""
        out: list[Any] = []
        for i, dtype in self.scalar_keys:
            value = scalar_of(scalars, i)
            if dtype.is_floating_point:
                out.append(float(value.real))
            else:
                word = int(np.array(value).astype(dtype.np))
                out.append(word - (1 << 64) if word >= 1 << 63 else word)
        return out

    def _finish(self, made: list[tuple[Any, list]], addresses: Sequence[int]) -> None:
        """Record tables for the driver, with host steps between them."""
        self.steps: list[Step] = []
        records: list[tuple[int, np.ndarray, int, bool]] = []
        self.tables: list[pool.RecordTable] = []
        # for each step what a profile has to know: its table, if it is native, and the positions of its units in the schedule
        self.stages: list[tuple[pool.RecordTable | None, list[int]]] = []
        units: list[int] = []
        at = iter(addresses)
        self.is_long = self.flops * 0.02 + self.bytes * 0.03 > _LONG_NS
        entry = pool.entries()[self.is_long]

        timed = config.get("ADJOINT_DEBUG") >= 2
        names = iter(self.names)
        kernels_of = iter(zip(self.names, self.work, strict=True))

        def flush() -> None:
            if records:
                table = pool.RecordTable(records)
                self.tables.append(table)
                self.stages.append((table, units.copy()))
                units.clear()
                self.steps.append(_native_step(table, entry))
                if timed:
                    about = [next(kernels_of) for _ in records]
                    self.steps[-1] = _timed_step(table, pool.entries()[1], about)
                records.clear()

        for number, (unit, kernels) in enumerate(made):
            if isinstance(unit, Special) and unit.kind == "host":
                flush()
                self.steps.append(self._host_step(unit))
                self.stages.append((None, [number]))
                if self.apart:
                    used = [self.slots[n] for n in (*unit.node.args, *unit.results) if n in self.slots]
                    self.pieces.append(Piece(unit.node.prim.name, unit, tuple(used)))
            elif isinstance(unit, Special):
                keys: list[Any] = [*(source for source, _ in unit.layouts), *_results(unit)]
                if kernels[0].scratch_bytes:
                    keys.append(("scratch", unit.id))
                index = np.array([self.slots[k] for k in keys], np.int32)
                parallel = operations(unit.node) > 2_000_000
                for phase in kernels[0].phases:
                    records.append((next(at), index, phase.nblocks, parallel))
                    units.append(number)
                    if self.apart:
                        flush()
                        self.pieces.append(Piece(next(names), unit, tuple(int(i) for i in index)))
            else:
                kernel: Kernel = kernels[0]
                numbers = [self.slots[b] for b in kernel.buffers]
                numbers += [self.scalar_keys.index(key) for key in kernel.scalars]
                numbers += kernel.offsets
                records.append(
                    (next(at), np.array(numbers or [0], np.int32), kernel.nblocks, kernel.parallel)
                )
                units.append(number)
                if self.apart:
                    flush()
                    self.pieces.append(Piece(next(names), unit, tuple(self.slots[b] for b in kernel.buffers)))
        flush()
        for source, target in self.copies:
            self.steps.append(_copy_step(source, target, self.out_bytes[source]))
            self.stages.append((None, []))
        alone = len(self.steps) == 1 and self.tables and not timed and max(self.scalar_indices, default=0) < IMAGINARY
        self.enter = pool.native_entry() if alone else None

    def _array(self, node: Node) -> Callable[[_Frame, list[Buffer], list[Buffer]], np.ndarray]:
        """How to see a node's memory as an array."""
        slot, dtype, shape = self.slots[node], node.dtype.np, node.shape
        if slot < self.n_inputs:
            return lambda frame, buffers, out: buffers[slot].array(dtype, shape)
        if slot < self.n_inputs + self.n_outputs:
            k = slot - self.n_inputs
            return lambda frame, buffers, out: out[k].array(dtype, shape)
        k, nbytes = slot - self.first_fixed, node.size * node.dtype.itemsize
        return lambda frame, buffers, out: frame.block(k, nbytes).view(dtype).reshape(shape)

    def _host_step(self, unit: Special) -> Step:
        node = unit.node
        function, attrs = REFERENCE[node.prim.name], node.attrs
        sources = [self._array(a) if a.size else _empty(a) for a in node.args]
        kinds = [a.dtype for a in node.args]
        if node.parts is None:
            targets = [(None, self._array(node))]
        else:
            targets = [(p.attrs, self._array(p)) for p in unit.results[1:] if p in self.slots]

        def step(frame: _Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
            with np.errstate(all="ignore"):
                results = function(
                    [decode(s(frame, buffers, out), d) for s, d in zip(sources, kinds, strict=True)], attrs
                )
            for part, target in targets:
                value = results if part is None else results[part]
                np.copyto(target(frame, buffers, out), encode(value, node.dtype))

        return step


def _results(unit: Special) -> list[Any]:
    """Whose memory a special step with kernels writes; of several results those that nobody reads have memory as well."""
    parts = unit.node.parts
    if parts is None:
        return [unit.node]
    read = {node.attrs: node for node in unit.results[1:]}
    return [read.get(k, ("unread", unit.id, part, k)) for k, part in enumerate(parts)]


def _empty(node: Node) -> Callable[[_Frame, list[Buffer], list[Buffer]], np.ndarray]:
    value = np.zeros(node.shape, node.dtype.np)
    return lambda frame, buffers, out: value


def _native_step(table: pool.RecordTable, entry: Callable[..., int]) -> Step:
    def step(frame: _Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
        if entry(table.address, table.count, frame.buffers, frame.scalars):
            pool.start()

    return step


def _timed_step(
    table: pool.RecordTable, entry: Callable[..., int], about: list[tuple[str, tuple[int, int]]]
) -> Step:
    """For ADJOINT_DEBUG=2: one kernel at a time, each with its time and rates on stderr."""

    def step(frame: _Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
        for k, (name, (flops, moved)) in enumerate(about):
            began = time.perf_counter()
            wanted = entry(table.address + 32 * k, 1, frame.buffers, frame.scalars)
            seconds = time.perf_counter() - began
            rates = f"{1e-9 * flops / seconds:8.2f} GFLOP/s {1e-9 * moved / seconds:8.2f} GB/s"
            print(f"{1e6 * seconds:10.1f} us {rates}  {name}", file=sys.stderr)
            if wanted:
                pool.start()

    return step


def _copy_step(source: int, target: int, nbytes: int) -> Step:
    def step(frame: _Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
        out[target].mem[:nbytes] = out[source].mem[:nbytes]

    return step


def describe(graph: Graph) -> str:
    """The schedule of a graph for people: every step, nests with their loops and values."""
    graph = prepare(graph)
    order = Grouping(graph).order()
    stored: set[Node] = set(graph.outputs)
    for unit in order:
        stored.update(unit.reads)
    made = [u for u in order if isinstance(u, Special) or any(r.target in stored for r in u.roots)]
    return "\n\n".join(describe_unit(unit, stored) for unit in made)


def describe_unit(unit: Any, stored: Container[Node]) -> str:
    """One step of a schedule for people; stored: the nodes that have memory."""
    if isinstance(unit, Special):
        strides = f" strides {[s for _, s in unit.layouts]}" if unit.layouts else ""
        return f"{unit.kind} {unit.node!r}{strides}"
    loops = ", ".join(f"{v!r}<{v.extent}{' reduced' if v.reduced else ''}" for v in unit.vars)
    lines = [f"nest [{loops}]", *(f"  {v!r}" for v in unit.values)]
    lines += [f"  {r.kind} {r.target!r} <- v{r.value.id}" for r in unit.roots if r.target in stored]
    return "\n".join(lines)
