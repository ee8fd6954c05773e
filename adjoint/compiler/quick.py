"""The shortest known calls: tensors in, one tensor out, nothing changed, no derivative to come.

`Quick` is such a call in Python. Where the program is short, too, a `Record` describes all of it in a table of numbers, and
`Compiled.__call__` becomes a native function that walks through the records of what it is called on: compare what the
arguments are, ask the guard, take memory for the result, run, and make the tensor. No Python runs in between. Whatever it
does not find handed over to it goes to the Python function it took the place of, with nothing changed.

The interpreter's lock is held throughout, and making the tensor, which may start a collection and so finalizers, comes
first: nothing that is compared can change before it is used. The code is in `quick_code`. Read `Quick`, then `Record`.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from adjoint.compiler.direct import Direct
from adjoint.compiler.guards import Guard
from adjoint.compiler.known import Layout, Replay
from adjoint.compiler.quick_code import FIELDS, MOST_READY, PER_SOURCE, Field, source
from adjoint.methods import Tensor
from adjoint.runtime import cpython, jit, memory, pool, tally
from adjoint.runtime.plan import Frame
from adjoint.runtime.program import Program
from adjoint.trace import native
from adjoint.trace.handle import pending
from adjoint.trace.state import Trace, counters, fast, local, rebased

MOST_BYTES = 1 << 15  # of a result whose memory native code takes from a few pieces kept ready
MOST_SCRATCH = 1 << 16  # bytes of intermediates that a record keeps for itself
MOST_TENSORS = 32  # that a record names
MOST_AROUND = 64  # tensors that the call can reach, which its arguments are compared with
READY, MOST_READY_BYTES = 4, 1 << 18  # pieces of memory kept for a result at first, and bytes of them at most
MOST_LINKED = 16  # records that native code walks through


class Quick:
    """A call of tensors alone that makes one tensor and changes nothing: the program, for arguments of known descriptions.

    captured: the tensors that are read besides the arguments.  around: ids of all that can be reached.  record: the same
    for native code; None where it cannot be, False before it was tried.
    """

    __slots__ = ("around", "avals", "captured", "direct", "guard", "moved", "out", "place", "program", "record", "root", "scalars")

    def __init__(self, root: Any, guard: Guard, replay: Replay, direct: Direct, layout: Layout, tensors: list[Tensor]) -> None:
        self.root, self.guard, self.direct, self.program = root, guard, direct, direct.program
        self.scalars, self.out, self.place = replay.scalars, replay.result[2], direct.places[replay.result[1]]
        self.avals = tuple([t._aval for t in tensors])
        self.captured, self.around, self.moved = layout.captured, layout.places.keys(), rebased[0]
        self.record: Any = False

    @staticmethod
    def of(root: Any, guard: Guard, replay: Replay, direct: Direct, layout: Layout, tensors: list[Tensor]) -> Quick | None:
        """None where there is more to the call."""
        new = replay.result[0] == "new" and not replay.result[2].requires_grad
        if not new or direct.mutated or direct.grads or layout.gradients or any([t._aval.requires_grad or t._leaf for t in tensors]):
            return None
        if len(layout.places) > MOST_AROUND or any([t._base is not None for t in layout.captured]):
            return None
        return Quick(root, guard, replay, direct, layout, tensors)

    def call(self, args: tuple) -> Tensor | None:
        """The result; None where an argument has no memory of its own, or the surroundings have changed."""
        count = len(args)
        buffers = [t._data for t in args if not t._special and t._base is None and t.__class__ is Tensor]
        buffers += [t._data for t in self.captured if not t._special]
        if len(buffers) < count + len(self.captured) or None in buffers:
            return None
        ids = {*map(id, args)}
        if len(ids) < count or not self.around.isdisjoint(ids) or not self.guard.holds():
            return None
        if self.moved != rebased[0]:
            if any([t._base is not None for t in self.captured]):
                return None
            self.moved = rebased[0]
            if self.record:
                self.record.write("moved", self.moved)
        out = pending(0, -1, self.out)
        try:
            out._data = self.program.run(buffers, self.scalars)[self.place]
        except Exception:  # it is raised where the result is read, as without `compile`
            return None
        counters["traces"] += 1
        counters["flushes"] += 1
        counters["operations"] += self.direct.depth
        if self.record is False:
            self.record = Record.of(self)
        elif self.record:
            self.record.refill()
            if fast.owner is not local.trace:
                fast.take_over()
        return out

    @property
    def replays(self) -> int:
        """Calls that were native from end to end."""
        return self.record.calls if self.record else 0


class Record(int):
    """What native code has to know of a `Quick`, in a table: as an integer this is the table's address.

    It refers to what the table names: steps, descriptions and tensors through its `Quick`, memory for results and
    intermediates itself.
    """

    words: np.ndarray
    outputs: memory.Outputs
    memory: list[memory.Buffer]
    frame: Frame
    quick: Quick
    filling: threading.Lock
    following: Record | None = None

    @staticmethod
    def of(quick: Quick) -> Record | None:
        """None where the program is long, or has more to it than one native run."""
        program = quick.program
        built = program._built if type(program) is Program else None
        guard = quick.guard.native()
        if built is None or built.enter is None or guard is None or not connect():
            return None
        count = len(quick.avals) + len(quick.captured)
        if (
            built.is_long or built.plan.status is not None or built.tables[0].parallel
            or built.plan.n_outputs != 1 or built.n_inputs != count or count > MOST_TENSORS
            or built.plan.out_bytes[0] > MOST_BYTES or built.plan.arena_bytes > MOST_SCRATCH
        ):  # fmt: skip
            return None
        words = np.zeros(len(FIELDS) + PER_SOURCE * count + len(quick.around) + 2 * MOST_READY, np.int64)
        self = Record(words.__array_interface__["data"][0])
        self.words, self.quick, self.filling = words, quick, threading.Lock()
        self.outputs = memory.Outputs(built.plan.out_bytes)
        self.frame = Frame(built)
        built.fill(self.frame, [memory.allocate(0)] * count, [memory.allocate(0)], quick.scalars)
        table = built.tables[0]
        values: dict[Field, int] = {
            "root": id(quick.root), "arguments": len(quick.avals), "sources": count, "check": guard[0], "guard": guard[1],
            "records": table.address, "n_records": table.count, "table": self.frame.buffers, "scalars": self.frame.scalars,
            "out": id(quick.out), "moved": quick.moved, "ready": 0, "depth": quick.direct.depth,
            "bytes": built.bytes, "calls": 0, "next": 0, "around": len(quick.around),
        }  # fmt: skip
        words[: len(FIELDS)] = [values[name] for name in FIELDS]
        at = len(FIELDS)
        for a in quick.avals:
            words[at : at + PER_SOURCE] = 0, id(a)
            at += PER_SOURCE
        for t in quick.captured:
            words[at : at + PER_SOURCE] = id(t), id(t._aval)
            at += PER_SOURCE
        words[at : at + len(quick.around)] = list(quick.around)
        self.refill()
        return self

    def refill(self) -> None:
        """Where all memory for results is in use, take other, and more of it: who collects results goes on doing so."""
        if not self.filling.acquire(blocking=False):  # another thread is at it, or what a collection has run meanwhile
            return
        try:
            before = len(self.outputs.sizes) if self.words[FIELDS.index("ready")] else 0
            if before and self.outputs.any_free():
                return
            self.write("ready", 0)  # should this be interrupted, nothing is ready
            nbytes = self.outputs.sizes[0]
            most = min(MOST_READY, MOST_READY_BYTES // max(nbytes, 1))
            self.outputs = memory.Outputs([nbytes] * (min(2 * before, most) or READY))
            self.memory = self.outputs.keep_ready()
            at = len(self.words) - 2 * MOST_READY
            self.words[at : at + 2 * len(self.memory)] = [id(o) for b in self.memory for o in (b, b.mem)]
            self.write("ready", len(self.memory))
        finally:
            self.filling.release()

    def write(self, field: Field, value: int) -> None:
        self.words[FIELDS.index(field)] = value

    @property
    def calls(self) -> int:
        return int(self.words[FIELDS.index("calls")])

    def then(self, other: Record | None) -> None:
        """Which record is looked at where this one does not fit; it lives as long as this one names it."""
        before, self.following = self.following, other
        self.write("next", int(other or 0))
        del before


_kept: list[Any] = []  # what native code refers to without counting
_state: bool | None = None  # whether native calls are possible; None before it was tried


def connect() -> bool:
    """Put the native function in place of `Compiled.__call__`, where this interpreter allows it; whether it is there."""
    global _state
    if _state is None:
        _state = False
        native.install()
        try:
            _state = bool(native.mine) and _install()
        except (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as problem:
            warnings.warn(f"known calls stay in Python, which is slower: {problem!r}", RuntimeWarning, stacklevel=2)
    return _state


def _install() -> bool:
    from adjoint.compiler.calls import Compiled

    if not cpython.where_counts_lie():
        return False
    where = cpython.offsets(Tensor, "_tid", "_slot", "_aval", "_data", "_special", "_base", "_chain", "_views", "_version")
    where |= cpython.offsets(Trace, "node", "static", "whole", "watch")
    where |= cpython.offsets(Compiled, "_record")
    text = source()
    for name, value in where.items():
        text = text.replace("{" + name + "}", str(value))
    module = jit.compile_module(text, level=0)
    give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(module.address("adjoint_quick_connect"))
    in_python = Compiled.__call__
    zero, below = 0, -1
    objects = [None, False, zero, below, Tensor, (), in_python, rebased]
    _kept.extend((module, objects))
    run = pool.address_of("run")
    names = ("Py_IncRef", "Py_DecRef", "PyLong_AsUnsignedLongLong", "PyObject_Vectorcall", "PyList_GetItem", "PyErr_Occurred", "PyTuple_Size")
    parts = [*map(cpython.address_of, names), cpython.address_of_new(), native.mine, run, tally.address, *map(id, objects)]
    for k, part in enumerate(parts):
        give(k, part)
    convention = cpython.FASTCALL | cpython.KEYWORDS
    Compiled.__call__ = cpython.method(  # type: ignore[method-assign]
        Compiled, "__call__", module.address("adjoint_quick_call"), in_python.__doc__, convention
    )
    return True


def link(quicks: Iterable[Quick]) -> Record | None:
    """Chain some records of a function's known calls; the first."""
    records = [q.record for q in quicks if q.record][:MOST_LINKED]
    for a, b in zip(records, [*records[1:], None], strict=False):
        a.then(b)
    return records[0] if records else None
