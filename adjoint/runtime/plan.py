"""How a graph is run, and the same made ready: `Plan` is plain data, `Ready` that plan with the addresses of its code.

A plan is what remains of scheduling (`scheduled.py` makes it): where everything lies, and which kernels and host steps
follow one another. It names no node of the graph, so it can be kept, also on disk (`plan_cache.py`). `Ready` turns it into
tables for the native driver and Python steps between them; a `Frame` holds what one run writes. Read `Plan`, then `Ready`.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from adjoint import config
from adjoint.dtypes import DType
from adjoint.ir.prims import IMAGINARY
from adjoint.ir.reference import REFERENCE, scalar_of
from adjoint.runtime import memory, pool
from adjoint.runtime.entry import HEADER
from adjoint.runtime.memory import Buffer
from adjoint.storage import decode, encode

_LONG_NS = 20_000  # programs estimated longer than this give up the interpreter's lock while they run


class Call(NamedTuple):
    """One kernel at its place. table: slots and numbers, as its code reads them.  blocks: it is divided into.  shared: how
    many of these a thread had better take together, or 0 where several threads are not worth their while."""

    table: tuple[int, ...]
    blocks: int
    shared: int


class Place(NamedTuple):
    """A value in memory; slot: None for one without elements that has no memory."""

    slot: int | None
    dtype: DType
    shape: tuple[int, ...]


class Host(NamedTuple):
    """A step in NumPy. targets: with each place the number of the result that belongs there, None for the only one."""

    prim: str
    attrs: Any
    sources: tuple[Place, ...]
    targets: tuple[tuple[int | None, Place], ...]
    dtype: DType


class Stage(NamedTuple):
    """Kernels that follow one another, or one host step; units: positions in the schedule of what each belongs to."""

    work: tuple[Call, ...] | Host
    units: tuple[int, ...]


@dataclass(slots=True)
class Plan:
    """How a graph is run, without its code and its nodes.

    The table of one run holds, in this order: addresses of inputs, addresses of outputs, scalar words, addresses of
    everything in the arena; a slot is a place in it.

    names: of the kernels in order.  work: floating operations and bytes of each, flops and bytes their sums.
    scalars: (index, dtype) of the run-time numbers.  out_bytes: of each output.  offsets, sizes: of what lies in the
    arena.  status: which of it is the status word.  in_place: (output, input) that may have one memory, if nobody needs
    the input afterwards; each of them once.
    """

    n_inputs: int
    out_bytes: list[int]
    names: list[str] = field(default_factory=list)
    work: list[tuple[int, int]] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0
    scalars: list[tuple[int, DType]] = field(default_factory=list)
    arena_bytes: int = 0
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    status: int | None = None
    in_place: list[tuple[int, int]] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)

    @property
    def n_outputs(self) -> int:
        return len(self.out_bytes)

    @property
    def first_fixed(self) -> int:
        """The slot of the first thing in the arena."""
        return self.n_inputs + len(self.out_bytes) + len(self.scalars)


class Frame:
    """What one run writes: a header for `runtime.entry`, the table of buffer addresses and scalar words, and the arena
    they point into.

    arena, offsets: memory for what is neither input nor output, and where each of it lies.
    """

    __slots__ = ("table", "header", "buffers", "scalars", "arena", "offsets", "status")

    def __init__(self, ready: Ready, arena: Buffer | None = None, offsets: Sequence[int] | None = None) -> None:
        plan = ready.plan
        self.arena = memory.allocate(plan.arena_bytes) if arena is None else arena
        self.offsets = plan.offsets if offsets is None else offsets
        first = HEADER + plan.first_fixed
        self.table = np.zeros(first + len(self.offsets), np.int64)
        self.header = self.table.__array_interface__["data"][0]
        self.buffers = self.header + 8 * HEADER
        self.scalars = self.buffers + 8 * (plan.n_inputs + plan.n_outputs)
        for k, offset in enumerate(self.offsets):
            self.table[first + k] = self.arena + offset
        self.status: np.ndarray | None = None
        if plan.status is not None:
            self.status = self.block(plan.status, 8).view(np.int64)
            self.status[0] = 0
        if ready.enter is not None:
            self.table[:HEADER] = (
                ready.tables[0].address,
                ready.tables[0].count,
                plan.n_inputs,
                plan.n_outputs,
                len(plan.scalars),
                ready.scalar_spec.__array_interface__["data"][0],
                0 if plan.status is None else self.arena + self.offsets[plan.status],
                ready.is_long,
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


Step = Callable[[Frame, list[Buffer], list[Buffer]], None]


class Ready:
    """A plan and its code: steps to be taken one after another, or in one native call, which is `enter`.

    tables: records for the driver.  stages: for each step what a profile has to know: its table, if it is native, and
    the positions of its units in the schedule.  scheduled: what the plan was made of, where somebody has to know.
    """

    scheduled: Any = None

    def __init__(self, plan: Plan, codes: Sequence[int]) -> None:
        """codes: addresses of the kernels, in the order of the plan."""
        self.plan = plan
        self.n_inputs, self.bytes = plan.n_inputs, plan.bytes
        self.outputs = memory.Outputs(plan.out_bytes)
        self.is_long = plan.flops * 0.02 + plan.bytes * 0.03 > _LONG_NS
        words = "".join("d" if d.is_floating_point else "q" for _, d in plan.scalars)
        self._pack: Callable[..., None] = struct.Struct(f"={plan.n_inputs + plan.n_outputs}Q{words}").pack_into
        self._scalar_indices = [i for i, _ in plan.scalars]
        spec = [(i % IMAGINARY, int(d.is_floating_point)) for i, d in plan.scalars]
        self.scalar_spec = np.array(spec or [(0, 0)], np.int32)
        self.steps: list[Step] = []
        self.tables: list[pool.RecordTable] = []
        self.stages: list[tuple[pool.RecordTable | None, tuple[int, ...]]] = []
        timed = config.get("ADJOINT_DEBUG") >= 2
        entry, code = pool.entries()[self.is_long], iter(codes)
        about = iter(zip(plan.names, plan.work, strict=True))
        for work, units in plan.stages:
            if isinstance(work, Host):
                self.steps.append(self._host_step(work))
                self.stages.append((None, units))
                continue
            table = pool.RecordTable([(next(code), np.array(c.table, np.int32), c.blocks, c.shared) for c in work])
            self.tables.append(table)
            self.stages.append((table, units))
            if timed:
                self.steps.append(_timed_step(table, pool.entries()[1], [next(about) for _ in work]))
            else:
                self.steps.append(_native_step(table, entry))
        alone = len(self.steps) == 1 and self.tables and not timed and max(self._scalar_indices, default=0) < IMAGINARY
        self.enter = pool.native_entry() if alone else None

    def fill(self, frame: Frame, buffers: list[Buffer], out: list[Buffer], scalars: list[Any]) -> None:
        """Write the addresses and numbers of one run into the frame's table."""
        try:
            self._pack(frame.table, 8 * HEADER, *buffers, *out, *[scalars[i] for i in self._scalar_indices])
        except (struct.error, IndexError):
            self._pack(frame.table, 8 * HEADER, *buffers, *out, *self._words(scalars))

    def _words(self, scalars: list[Any]) -> list[Any]:
        """Scalars converted to what the table holds, as NumPy would convert them."""
        out: list[Any] = []
        for i, dtype in self.plan.scalars:
            value = scalar_of(scalars, i)
            if dtype.is_floating_point:
                out.append(float(value.real))
            else:
                with np.errstate(invalid="ignore"):  # what is not finite
                    word = int(np.array(value).astype(dtype.np))
                out.append(word - (1 << 64) if word >= 1 << 63 else word)
        return out

    def _array(self, place: Place) -> Callable[[Frame, list[Buffer], list[Buffer]], np.ndarray]:
        """How to see the memory of a value as an array."""
        slot, dtype, shape = place.slot, place.dtype.np, place.shape
        n_inputs, plan = self.n_inputs, self.plan
        if slot is None:
            value = np.zeros(shape, dtype)
            return lambda frame, buffers, out: value
        if slot < n_inputs:
            return lambda frame, buffers, out: buffers[slot].array(dtype, shape)
        if slot < n_inputs + plan.n_outputs:
            return lambda frame, buffers, out: out[slot - n_inputs].array(dtype, shape)
        k = slot - plan.first_fixed
        nbytes = int(np.prod(shape, dtype=np.int64)) * place.dtype.itemsize
        return lambda frame, buffers, out: frame.block(k, nbytes).view(dtype).reshape(shape)

    def _host_step(self, host: Host) -> Step:
        function, attrs, dtype = REFERENCE[host.prim], host.attrs, host.dtype
        sources = [(self._array(place), place.dtype) for place in host.sources]
        targets = [(part, self._array(place)) for part, place in host.targets]

        def step(frame: Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
            with np.errstate(all="ignore"):
                results = function([decode(s(frame, buffers, out), d) for s, d in sources], attrs)
            for part, target in targets:
                value = results if part is None else results[part]
                np.copyto(target(frame, buffers, out), encode(value, dtype))

        return step


def _native_step(table: pool.RecordTable, entry: Callable[..., int]) -> Step:
    def step(frame: Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
        if entry(table.address, table.count, frame.buffers, frame.scalars):
            pool.start()

    return step


def _timed_step(
    table: pool.RecordTable, entry: Callable[..., int], about: list[tuple[str, tuple[int, int]]]
) -> Step:
    """For ADJOINT_DEBUG=2: one kernel at a time, each with its time and rates on stderr."""

    def step(frame: Frame, buffers: list[Buffer], out: list[Buffer]) -> None:
        for k, (name, (flops, moved)) in enumerate(about):
            began = time.perf_counter()
            wanted = entry(table.address + 32 * k, 1, frame.buffers, frame.scalars)
            seconds = time.perf_counter() - began
            rates = f"{1e-9 * flops / seconds:8.2f} GFLOP/s {1e-9 * moved / seconds:8.2f} GB/s"
            print(f"{1e6 * seconds:10.1f} us {rates}  {name}", file=sys.stderr)
            if wanted:
                pool.start()

    return step
