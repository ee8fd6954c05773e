"""The recorder: appends each operation to this thread's trace, and runs the trace when a value is needed.

`Trace` is one thread's trace in the making. `bind` makes a concrete tensor an input of it; `record` is the general way
to append a primitive (the operators in `adjoint.ops` look a known child up by themselves first, which is the fast
path, and come here only when there is none). `flush` ends a trace: it selects or builds the program for what is still
alive and runs it. Read `record`, then `flush`.

In reference mode (`ADJOINT_EAGER=1`) the same steps are recorded, but each value is computed at once by NumPy, and the
steps are not shared through the trie.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import config, dtypes
from adjoint.dtypes import DType
from adjoint.ir.prims import PRIMS
from adjoint.runtime.memory import Buffer, allocate
from adjoint.trace import lower, repeat
from adjoint.trace.aval import Aval, aval, contiguous_strides
from adjoint.trace.handle import Tensor, new_handle
from adjoint.trace.history import History
from adjoint.trace.infer import infer
from adjoint.trace.trie import NO_CHILDREN, Num, Step

MAX_PROGRAMS = 64  # per step, for different sets of living results
MAX_STEPS = 8192  # a trace never grows longer than this
SNAPSHOT_BYTES = 65536  # shared memory up to this size is copied when read, beyond it the trace runs at once
SMALL_VIEW = 4096  # bytes of a living view that is copied rather than replayed
ALIVE = 3  # references to a handle that only the trace holds: the list, the loop variable, the argument

_ids = itertools.count(1)
_package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
counters = {"operations": 0, "traces": 0, "programs": 0, "flushes": 0, "nodes": 0}


def _root(eager: bool) -> Step:
    step = Step(None, None, "root")
    if eager:
        step.children = NO_CHILDREN
    return step


_roots: dict[tuple, Step] = {}


_MODE_KEYS = {False: ("mode", False), True: ("mode", True)}


class Trace:
    """What one thread has recorded since its last flush.

    id: number of this trace, never reused.  node: place in the trie.  inputs, buffers: concrete tensors in order of
    first use, and their memory at that time.  scalars: run-time numbers in order.  handles: tensors that may be alive.
    mutated: concrete tensors that were given a new value here.  grad: gradient mode.  static: numbers are baked in.
    values: in reference mode the value of each slot that a derivative may need.
    """

    def __init__(self) -> None:
        self.grad = True
        self.static = 0
        self.eager = default_eager
        self.default_dtype = dtypes.float32
        self.scope: Any = None
        self.mutated: dict[int, Tensor] = {}
        self.origins: dict[int, tuple] = {}
        self.payload: dict[Any, Any] = {}
        self.values: dict[int, Any] = {}
        self.start()

    def start(self) -> None:
        number, node = next(_ids), self.root()
        self.id = number  # from here on no calls, between which a signal could come
        self.node = node
        self.inputs: list[Tensor] = []
        self.buffers: list[Any] = []
        self.scalars: list[Any] = []
        self.handles: list[Tensor] = []
        self.flush_after = False
        self.viewed = False  # made views
        self.hist: History | None = None
        self.period: tuple[int, int] | None = None
        # mostly empty, and then kept; never cleared, because a history may share them
        if self.mutated:
            self.mutated = {}
        if self.origins:
            self.origins = {}
        if self.payload:
            self.payload = {}
        if self.values:
            self.values = {}

    def root(self) -> Step:
        if self.eager:
            return _root(True)
        key = (self.grad, self.default_dtype)
        found = _roots.get(key)
        if found is None:
            found = _roots[key] = _root(False)
        return found

    def history(self) -> History:
        """The record of this trace that outlives it (shared lists; completed by `flush`)."""
        if self.hist is None or self.hist.trace is None:  # the latter: interrupted while the trace ended
            self.hist = History(
                self.id, self, self.inputs, self.buffers, self.scalars, self.origins, self.payload, self.values
            )
        return self.hist

    def set_mode(self, grad: bool) -> None:
        """Gradient mode is a step of the path, so operations need no key for it."""
        if grad is not self.grad:
            self.grad = grad
            node = self.node
            if node.parent is None:
                self.node = self.root()
            else:
                known = node.kids.get(_MODE_KEYS[grad])
                if known is None:
                    known = self.mark("mode", grad)
                    if grad and any(t._tid == -self.id for t in self.mutated.values()):
                        # leaves were updated: the iteration ends before the next operation with gradient
                        known.children, known.boundary = NO_CHILDREN, True
                else:
                    self.node = known

    def set_default_dtype(self, dtype: DType) -> None:
        if dtype is not self.default_dtype:
            self.default_dtype = dtype
            if self.node.parent is None:
                self.node = self.root()
            else:
                self.mark("mode", dtype)

    def mark(self, prim: str, attrs: Any) -> Step:
        """Append a step without a value."""
        key = (prim, attrs)
        step = self.node.kids.get(key)
        if step is None:
            step = new_step(self, key, prim, (), attrs)
            publish(self, step)
        self.node = step
        return step


default_eager = config.get("ADJOINT_EAGER")


_traces: dict[Trace, threading.Thread] = {}  # of all threads, and of ended ones whose tensors are still held


class _Local(threading.local):
    def __init__(self) -> None:
        self.trace = Trace()
        for known, thread in list(_traces.items()):
            if not thread.is_alive() and not any(getrefcount(h) > ALIVE for h in known.handles):
                del _traces[known]
        _traces[self.trace] = threading.current_thread()


local = _Local()


def current() -> Trace:
    """This thread's trace."""
    return local.trace


# --- making steps ------------------------------------------------------------------------------------------------------


def user_frame() -> tuple[str, int, str] | None:
    """File, line and function of the innermost call from outside the package."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_package):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return None
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def new_step(tr: Trace, key: Any, prim: str, args: tuple, attrs: Any) -> Step:
    step = Step(tr.node, key, prim, args, attrs)
    step.scope = tr.scope
    if tr.eager:
        step.children = NO_CHILDREN
    return step


def publish(tr: Trace, step: Step) -> None:
    """Make a finished step findable (only after it succeeded; in reference mode never)."""
    if not tr.eager:
        tr.node.kids[step.key] = step
        counters["nodes"] += 1


# --- binding ---------------------------------------------------------------------------------------------------------------


def bind(tr: Trace, t: Tensor) -> int:
    """Slot of a tensor that is not yet part of the trace. May flush; then `tr.id` has changed."""
    if t._special or t._data is None or tr.eager:
        return bind_slow(tr, t)
    key = t._aval
    step = tr.node.kids.get(key)
    if step is None:
        if tr.node.boundary or tr.node.cut:
            flush(tr)
            return bind(tr, t)
        step = new_input(tr, key, key)
    inputs, buffers = tr.inputs, tr.buffers
    tr.node = step  # no calls in these lines: a signal that came between them would part the lists
    inputs += (t,)
    buffers += (t._data,)
    t._tid = tr.id
    t._slot = slot = step.slot
    return slot


def new_input(tr: Trace, key: Any, a: Aval) -> Step:
    step = new_step(tr, key, "input", (), None)
    step.slot += 1
    step.aval = a
    publish(tr, step)
    return step


def bind_slow(tr: Trace, t: Tensor) -> int:
    """Binding of everything but a plain concrete tensor."""
    if t._tid == tr.id and t._slot >= 0 and (t._data is None or tr.eager):
        return t._slot
    if t._tid == -tr.id:  # a leaf updated in this trace: the natural end of an iteration
        if not (tr.grad and t._aval.requires_grad):
            return t._slot
        flush(tr)
        return bind(tr, t)
    if tr.eager and t._aval.requires_grad and not t._leaf and t._hist is None and t._tid > 0:
        from_other_thread(tr, t)
        if t._hist is None:  # no thread knows of it
            t._tid = 0
        return bind(tr, t)
    if t._data is None:
        if t._base is not None:
            from adjoint.trace.views import read_shared, replay

            base = t._base
            if base._escape is not None and not base._escape.active():
                base._escape = None
                refresh_special(base)
            shared = base._escape is not None
            if shared and not t._aval.requires_grad:
                fresh = read_shared(t)
                slot = bind(tr, fresh)
                if tr.eager:
                    tr.values[slot] = fresh._data
                return slot
            fresh = replay(t)
            if shared:
                if tr.eager:
                    tr.values[fresh._slot] = fresh._data
                return fresh._slot if fresh._tid == tr.id else bind(tr, fresh)
            t._tid, t._slot, t._aval = fresh._tid, fresh._slot, fresh._aval
            t._data, t._hist, t._special = fresh._data, fresh._hist, fresh._special
            base._views.add(t)
            if t._tid != tr.id:
                return bind(tr, t)
            tr.handles.append(t)
            return t._slot
        error = t.__dict__.get("_error")
        if error is not None:
            raise type(error)(*error.args)
        if t._hist is not None:
            return t._hist.revive(tr, t._hslot)
        return bind(tr, from_other_thread(tr, t))
    data = t._data
    kind = "input"
    if t._escape is not None:
        if not t._escape.active():
            t._escape = None
            refresh_special(t)
            return bind(tr, t)
        if data.nbytes <= SNAPSHOT_BYTES or tr.eager or t._aval.requires_grad:
            data = Buffer.from_array(data.array(np.uint8, (t._aval.nbytes,)))
        else:
            tr.flush_after = True
            kind = "shared"
    origin = None
    if t._hist is not None and t._aval.requires_grad:
        origin = (t._hist, t._hslot)
    key: Any = t._aval  # a copy of shared memory is an input like any other
    if kind != "input" or origin is not None or t._hooks is not None:
        key = (key, kind, origin is not None, t._hooks is not None)
    step = tr.node.kids.get(key)
    if step is None:
        if tr.node.boundary or tr.node.cut:
            flush(tr)
            return bind(tr, t)
        step = new_input(tr, key, t._aval)
        step.attrs = "history" if origin is not None else "hooked" if t._hooks is not None else None
        if kind == "shared":
            step.children = NO_CHILDREN
    tr.node = step
    if origin is not None:
        tr.origins[len(tr.inputs)] = origin
    tr.inputs.append(t)
    tr.buffers.append(data)
    if kind == "shared" or data is t._data or t._escape is None:
        t._tid, t._slot = tr.id, step.slot
    if t._escape is not None:
        t._tid = 0  # read the memory anew the next time
        t._slot = step.slot
    if tr.eager:
        tr.values[step.slot] = data
    return step.slot


def from_other_thread(tr: Trace, t: Tensor) -> Tensor:
    """A tensor whose value another thread has recorded but not run, as one this thread can bind.

    A trace is changed by its own thread only: the value is computed a second time from the steps that lead to it. If
    the thread has ended, or the tensor's history is wanted (then the other thread must be waiting), its trace is run.
    """
    number = abs(t._tid)
    for other, thread in list(_traces.items()):
        if other.id != number or other is tr:
            continue
        if not thread.is_alive() or (tr.grad and t._aval.requires_grad):
            flush(other)
            break
        step, buffers, scalars = other.node, other.buffers, other.scalars
        if other.id != number:  # run by its thread just now
            break
        while step.parent is not None and step.parent.slot >= t._slot:
            step = step.parent
        values = compute(step, t._slot, buffers, scalars)
        return tensor_from_buffer(values, t._aval.shape, t._aval.dtype)
    if t._data is None:
        raise RuntimeError("this tensor has no value: the operation that should have produced it was interrupted")
    return t


def compute(step: Step, slot: int, buffers: list[Any], scalars: list[Any]) -> Any:
    """The value of one slot of a path, beside whatever becomes of its trace."""
    from adjoint.rewrite import simplify
    from adjoint.runtime.program import compile_graph

    compiled = step.programs.get((slot,)) if step.programs is not None else None
    if compiled is None or compiled.saved:
        compiled = Compiled(compile_graph(simplify(lower.graph_of(step, (slot,)))), ())
        counters["programs"] += 1
        if not step.aval.requires_grad:
            if step.programs is None:
                step.programs = {}
            step.programs[(slot,)] = compiled
    return compiled.program.run(buffers, scalars)[0]


def refresh_special(t: Tensor) -> None:
    t._special = t._escape is not None or t._hist is not None or bool(t._hooks)


# --- recording -----------------------------------------------------------------------------------------------------------


def record(prim: str, operands: tuple, attrs: Any = None) -> Any:
    """Append a primitive and return the handle of its result.

    operands: tensors and Python numbers (run-time arguments, or baked in while a macro is being recorded).
    Raises what the shape rule raises, at the caller's line, before anything is recorded.
    """
    tr = local.trace
    if tr.node.boundary:
        flush(tr)
    while True:
        tid = tr.id
        slots: list[Any] = []
        numbers: list[Any] = []
        for x in operands:
            if isinstance(x, Tensor):
                slots.append(x._slot if x._tid == tid else bind(tr, x))
            elif tr.static:
                slots.append(Num(x))
            else:
                slots.append(type(x))
                numbers.append(x)
        if tr.id != tid:
            continue
        key: tuple = (prim, *slots) if attrs is None else (prim, *slots, attrs)
        step = tr.node.kids.get(key)
        if step is None:
            if tr.node.cut or tr.node.boundary or tr.node.depth >= MAX_STEPS or repeat.ends_here(tr):
                flush(tr)
                continue
            step = make_step(tr, key, prim, operands, slots, attrs)
            publish(tr, step)
        break
    out = new_handle(Tensor)
    out._tid, out._slot, out._aval = tid, step.slot, step.aval
    if tr.eager:
        evaluate(tr, step, operands, numbers, out)
    tr.node = step
    if numbers:
        tr.scalars.extend(numbers)
    tr.handles.append(out)
    if tr.flush_after:
        flush(tr)
    return out


def record_one(prim: str, x: Tensor, attrs: Any) -> Any:
    """`record` of one tensor and attributes, by the fast path where the step is known."""
    tr = local.trace
    tid = tr.id
    step = tr.node.children.get((prim, x._slot if x._tid == tid else bind(tr, x), attrs))
    if step is None or tr.id != tid:
        return record(prim, (x,), attrs)
    tr.node = step
    out = new_handle(Tensor)
    out._tid = tid
    out._slot = step.slot
    out._aval = step.aval
    tr.handles.append(out)
    return out


def record_two(prim: str, x: Tensor, y: Tensor) -> Any:
    """`record` of two tensors, by the fast path where the step is known."""
    tr = local.trace
    tid = tr.id
    key = (prim, x._slot if x._tid == tid else bind(tr, x), y._slot if y._tid == tid else bind(tr, y))
    step = tr.node.children.get(key)
    if step is None or tr.id != tid:
        return record(prim, (x, y))
    tr.node = step
    out = new_handle(Tensor)
    out._tid = tid
    out._slot = step.slot
    out._aval = step.aval
    tr.handles.append(out)
    return out


def record_full(value: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    """A tensor filled with a run-time number."""
    tr = local.trace
    attrs = (shape, dtype)
    if not tr.static:
        step = tr.node.children.get(("full", type(value), attrs))
        if step is not None:
            tr.node = step
            tr.scalars.append(value)
            out = new_handle(Tensor)
            out._tid = tr.id
            out._slot = step.slot
            out._aval = step.aval
            tr.handles.append(out)
            return out
    return record("full", (value,), attrs)


def record_slice(x: Tensor, attrs: tuple, start: int) -> Any:
    """A slice with one run-time start."""
    tr = local.trace
    if tr.static:
        return record("slice", (x, start), attrs)
    tid = tr.id
    step = tr.node.children.get(("slice", x._slot if x._tid == tid else bind(tr, x), int, attrs))
    if step is None or tr.id != tid:
        return record("slice", (x, start), attrs)
    tr.node = step
    tr.scalars.append(start)
    out = new_handle(Tensor)
    out._tid = tid
    out._slot = step.slot
    out._aval = step.aval
    tr.handles.append(out)
    return out


def make_step(tr: Trace, key: Any, prim: str, operands: tuple, slots: list, attrs: Any) -> Step:
    """A new place in the trie: shape and dtype rules, gradient requirement, source line."""
    step = new_step(tr, key, prim, (), attrs)
    avals = [x._aval if isinstance(x, Tensor) else type(x) if isinstance(s, type) else s for x, s in zip(operands, slots, strict=True)]
    shape, dtype, compute, scalar_types = infer(prim, avals, attrs, tr.default_dtype)
    args, scalars = [], []
    for s, d in zip(slots, scalar_types, strict=True):
        if isinstance(s, type):
            step.slot += 1
            scalars.append((step.slot, d))
            s = step.slot
        args.append(s)
    step.args, step.scalars, step.compute = tuple(args), tuple(scalars), compute
    step.slot += 1
    grad = (
        tr.grad
        and dtype is not None
        and dtype.is_floating_point
        and prim not in NOT_DIFFERENTIABLE
        and any(isinstance(x, Tensor) and x._aval.requires_grad for x in operands)
    )
    strides = view_strides(prim, operands, attrs, shape) if prim in STRIDED else None
    step.aval = aval(shape, dtype, grad, strides) if dtype is not None else shape
    if prim == "pick":
        source = operands[0]._aval
        step.aval = aval(shape, dtype, grad or (tr.grad and source.requires_grad))
    step.where = user_frame()
    return step


STRIDED = frozenset(("expand", "permute", "slice", "reshape"))


def view_strides(prim: str, operands: tuple, attrs: Any, shape: tuple) -> tuple[int, ...] | None:
    """Strides the result has as a view of its operand; None where it can only be a copy."""
    x = operands[0]._aval
    if prim == "permute":
        return tuple(x.strides[p] for p in attrs)
    if prim == "slice":
        return tuple(s * k for s, k in zip(x.strides, attrs[2], strict=True))
    if prim == "expand":
        lead = len(shape) - len(x.shape)
        kept = zip(x.shape, x.strides, shape[lead:], strict=True)
        return (0,) * lead + tuple(0 if n != m else s for n, s, m in kept)
    return reshape_strides(x.shape, x.strides, shape)


def reshape_strides(old: tuple, strides: tuple, new: tuple) -> tuple[int, ...] | None:
    """Strides of a reshape that needs no copy, or None: groups of old axes that are contiguous among themselves
    are split anew."""
    size = 1
    for d in old:
        size *= d
    if size == 0:
        return contiguous_strides(new)
    kept = [(n, s) for n, s in zip(old, strides, strict=True) if n != 1]
    merged: list[list[int]] = []
    for n, s in kept:
        if merged and merged[-1][1] == n * s:
            merged[-1] = [merged[-1][0] * n, s]
        else:
            merged.append([n, s])
    out: list[int] = []
    for n in reversed(new):
        if n == 1:
            out.append(out[-1] if out else 1)
            continue
        if not merged or merged[-1][0] % n:
            return None
        size, step = merged[-1]
        out.append(step)
        if size == n:
            merged.pop()
        else:
            merged[-1] = [size // n, step * n]
    return tuple(reversed(out))


NOT_DIFFERENTIABLE = frozenset(
    "alias eq ne lt le gt ge logical_not isnan isinf argmax argmin argsort "
    "iota random_bits bitwise_not bitwise_and bitwise_or bitwise_xor shift_left shift_right".split()
)


def alias(
    t: Tensor, prim: str, requires_grad: bool, payload: Any = None, attrs: Any = None, source: Tensor | None = None
) -> Tensor:
    """A new handle of the same value with another gradient requirement: `detach` and custom functions' results.

    With `source` (`override`): the value of `source` with the past of `t`.
    """
    tr = local.trace
    operands = (t,) if source is None else (t, source)
    while True:
        tid = tr.id
        slots = tuple([x._slot if x._tid == tid else bind(tr, x) for x in operands])
        if tr.id == tid:
            break
    key = (prim, *slots, attrs)
    step = tr.node.kids.get(key)
    if step is None:
        step = new_step(tr, key, prim, slots, attrs)
        step.slot += 1
        step.aval = aval(t._aval.shape, t._aval.dtype, requires_grad)
        step.where = user_frame()
        publish(tr, step)
    tr.node = step
    out = new_handle(Tensor)
    out._tid, out._slot, out._aval = tid, step.slot, step.aval
    if tr.eager:
        held = operands[-1]
        out._data = tr.values[slots[-1]] if held._data is None or held._escape is not None else held._data
        tr.values[step.slot] = out._data
    if payload is not None:
        tr.payload[step.slot] = payload
    tr.handles.append(out)
    if tr.flush_after:
        flush(tr)
    return out


def evaluate(tr: Trace, step: Step, operands: tuple, numbers: list, out: Tensor) -> None:
    """Reference mode: compute the step at once."""
    values = []
    rest = iter(numbers)
    kinds = dict(step.scalars)
    for x, s in zip(operands, step.args, strict=True):
        if isinstance(x, Tensor):
            values.append(value_of(tr, x, s))
        elif isinstance(s, Num):
            values.append(x)
        else:
            number = np.asarray(next(rest)).astype(kinds[s].np)
            values.append(number)
            if needs_value(step, out):
                tr.values[s] = Buffer.from_array(number)
    result = lower.reference_step(step, values)
    if isinstance(result, tuple):
        out._data = result
    else:
        out._data = Buffer.from_array(np.asarray(result))
    for x, s in zip(operands, step.args, strict=True):
        if isinstance(x, Tensor) and s not in tr.values and needs_value(step, x):
            tr.values[s] = x._data
    if needs_value(step, out) or isinstance(result, tuple):
        tr.values[step.slot] = out._data


def needs_value(step: Step, t: Tensor) -> bool:
    return getattr(step.aval, "requires_grad", True)


def value_of(tr: Trace, t: Tensor, slot: int) -> Any:
    """NumPy value of a tensor bound to a slot in reference mode."""
    data: Any = t._data if t._data is not None else tr.values.get(slot)
    if isinstance(data, tuple):
        return data
    return data.array(t._aval.dtype.np, t._aval.shape)


# --- ending a trace --------------------------------------------------------------------------------------------------------


class Compiled:
    """A program and how to call it: which further slots it keeps for derivatives, which slots of living handles they
    want kept, and where in its results each living handle finds its value (None: in the same order)."""

    __slots__ = ("program", "saved", "held", "order")

    def __init__(
        self,
        program: Any,
        saved: tuple[int, ...],
        held: frozenset[int] = frozenset(),
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.program, self.saved, self.held, self.order = program, saved, held, order


def flush(tr: Trace) -> None:
    """Run what is recorded, give every living handle its value, and start a new trace."""
    counters["flushes"] += 1
    if tr.eager:
        finish_eager(tr)
        return
    tid, node = tr.id, tr.node
    if len(tr.scalars) != node.scalars_before + len(node.scalars) or len(tr.buffers) != inputs_up_to(node):
        abandon(tr)
        return
    if tr.viewed:  # a view keeps its base: forgotten ones go first, or their bases would count as alive
        tr.handles = [h for h in tr.handles if h._base is None or getrefcount(h) > ALIVE]
    alive = [
        h
        for h in tr.handles
        if getrefcount(h) > ALIVE and h._data is None and (h._base is None or (h._tid == tid and keeps(tr, h)))
    ]
    if tr.mutated:
        alive.extend(tr.mutated.values())
    if not alive:
        close(tr, None)
        return
    key = tuple([h._slot for h in alive])
    programs = node.programs
    compiled = programs.get(key) if programs is not None else None
    if compiled is None:
        try:
            compiled = build(tr, key, alive)
        except BaseException:
            rescue(tr, alive)
            raise
    try:
        results = compiled.program.run(tr.buffers, tr.scalars)
    except (IndexError, RuntimeError, ZeroDivisionError, np.linalg.LinAlgError, OverflowError) as error:
        rescue(tr, alive)
        first = next((h.__dict__["_error"] for h in alive if "_error" in h.__dict__), None)
        if first is not None:
            raise type(first)(*first.args) from None
        raise error
    except BaseException:
        rescue(tr, alive)
        raise
    if compiled.order is not None:
        results = [results[k] for k in compiled.order]
    saved = compiled.saved
    if saved or tr.hist is not None:
        hist = tr.history()
        for slot, data in zip(saved, results[len(alive) :], strict=True):
            hist.values[slot] = data
    for h, data in zip(alive, results, strict=False):
        h._data = data
        if h._special and h._escape is not None:
            h._escape.write_back(h)
        if h._aval.requires_grad and h._tid == tid:
            h._hist, h._hslot, h._special = tr.history(), h._slot, True
    if compiled.held:
        kept = tr.history().values
        for h, data in zip(alive, results, strict=False):
            if h._slot in compiled.held:
                kept[h._slot] = data
    close(tr, tr.hist)


def inputs_up_to(node: Step) -> int:
    return node.inputs_before + (node.prim == "input")


def abandon(tr: Trace) -> None:
    """Ctrl-C stopped the recorder between two of its lists: nothing pending can be trusted."""
    for h in (*tr.handles, *tr.mutated.values()):
        if h._data is None and any(t is h for t in tr.inputs[: len(tr.buffers)]):
            h._data = original(tr, h)  # an update that never ran
        elif h._data is None and h._base is None:
            h.__dict__["_error"] = RuntimeError("this tensor has no value: recording it was interrupted")
    if tr.hist is not None:
        tr.hist.finish(tr.node)
    tr.origins, tr.payload, tr.values = {}, {}, {}
    tr.start()


def keeps(tr: Trace, view: Tensor) -> bool:
    """Whether a living view is worth a copy of its part: small ones are, so that the next use need not replay it,
    and those with hooks, which belong to this place in the history."""
    a = view._aval
    if a.requires_grad and tr.payload and ("hook", view._slot) in tr.payload:
        return True
    return a.nbytes <= SMALL_VIEW and not a.requires_grad and view._base._escape is None


def close(tr: Trace, hist: History | None) -> None:
    if tr.hist is not None:
        tr.hist.finish(tr.node)
        tr.origins, tr.payload, tr.values = {}, {}, {}
    depth = tr.node.depth
    if depth:
        counters["operations"] += depth
        counters["traces"] += 1
    tr.start()


def finish_eager(tr: Trace) -> None:
    for h in tr.handles:
        if h._aval.__class__ is Aval and h._aval.requires_grad and h._tid == tr.id and getrefcount(h) > ALIVE:
            h._hist, h._hslot, h._special = tr.history(), h._slot, True
    close(tr, tr.hist)


def build(tr: Trace, key: tuple, alive: list[Tensor]) -> Compiled:
    """Compile the program of this path for these living results."""
    from adjoint.rewrite import simplify
    from adjoint.runtime.program import compile_graph

    programs = tr.node.programs
    if programs is None:
        programs = tr.node.programs = {}
    elif len(programs) > MAX_PROGRAMS:
        programs.pop(next(iter(programs)))
    by_slot = sorted(range(len(key)), key=key.__getitem__)
    canonical = tuple([key[k] for k in by_slot])
    compiled = programs.get(canonical)
    if compiled is None:
        keep = [h._slot for h in alive if h._aval.requires_grad and h._tid == tr.id]
        wanted = lower.slots_to_save(tr.node, keep) if keep else ()
        saved = tuple(s for s in wanted if s not in key)
        graph = lower.graph_of(tr.node, (*canonical, *saved))
        compiled = Compiled(compile_graph(simplify(graph)), saved, frozenset(wanted) & frozenset(key))
        counters["programs"] += 1
        programs[canonical] = compiled
    if key != canonical:  # the same results in another order of the handles
        order = [0] * len(key)
        for position, k in enumerate(by_slot):
            order[k] = position
        order += range(len(key), len(key) + len(compiled.saved))
        compiled = programs[key] = Compiled(compiled.program, compiled.saved, compiled.held, tuple(order))
    return compiled


def rescue(tr: Trace, alive: list[Tensor]) -> None:
    """After a failure: compute step by step what can be computed, mark the rest with its error, start anew."""
    values, errors = lower.run_steps(tr.node, tr.buffers, tr.scalars)
    tid = tr.id
    for h in alive:
        if h._slot in values:
            h._data = Buffer.from_array(np.ascontiguousarray(values[h._slot]))
            if h._escape is not None:
                h._escape.write_back(h)
            if h._aval.requires_grad and h._tid == tid:
                h._hist, h._hslot, h._special = tr.history(), h._slot, True
        elif id(h) in tr.mutated and any(t is h for t in tr.inputs):  # the update failed: the old value stays
            h._data = original(tr, h)
        else:
            h.__dict__["_error"] = errors.get(h._slot, RuntimeError("an operation this tensor depends on failed"))
    close(tr, tr.hist)


def original(tr: Trace, h: Tensor) -> Any:
    return next(b for t, b in zip(tr.inputs, tr.buffers, strict=False) if t is h)


def realize(t: Tensor) -> Any:
    """The Buffer with a tensor's value, running whatever is pending."""
    data = t._data
    if data is not None:
        return data
    tr = local.trace
    if t._base is not None and t._tid != tr.id:
        from adjoint.trace.views import read_shared, replay

        if t._base._escape is not None and t._base._escape.active() and not t._aval.requires_grad:
            return read_shared(t)._data
        return realize(replay(t))
    if t._base is not None:  # a pending view: compute a contiguous copy beside it
        copy = record("reshape", (t,), tuple(t._aval.shape))
        return realize(copy)
    if abs(t._tid) == tr.id:
        if t._loose:
            tr.handles.append(t)
            t._loose = False
        flush(tr)
    else:
        slot = bind(tr, t)
        if t._data is None:
            holder = new_handle(Tensor)
            holder._tid, holder._slot, holder._aval = tr.id, slot, t._aval
            if tr.eager:
                holder._data = tr.values.get(slot)
            else:
                tr.handles.append(holder)
                flush(tr)
            if t._hist is None:  # still pending in another thread, which goes on with it
                return holder._data
            t._data = holder._data
    if t._data is None:
        error = t.__dict__.get("_error")
        if error is not None:
            raise type(error)(*error.args)
        raise RuntimeError("this tensor has no value: the operation that should have produced it was interrupted")
    return t._data


def tensor_from_buffer(data: Any, shape: tuple[int, ...], dtype: DType, requires_grad: bool = False) -> Tensor:
    """A concrete leaf."""
    t = new_handle(Tensor)
    t._tid, t._slot, t._data = 0, -1, data
    t._aval = aval(tuple(shape), dtype, requires_grad)
    if requires_grad:
        t._leaf = True
    return t


def tensor_from_array(array: np.ndarray, requires_grad: bool = False) -> Tensor:
    """A concrete leaf with a copy of the array."""
    return tensor_from_buffer(Buffer.from_array(array), array.shape, dtypes.from_numpy(array.dtype), requires_grad)


__all__ = ["Trace", "current", "bind", "record", "alias", "flush", "realize", "allocate", "PRIMS"]
