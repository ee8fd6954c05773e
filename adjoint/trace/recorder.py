"""The recorder: appends each operation to this thread's trace.

`bind` makes a concrete tensor an input of the trace; `record` is the general way to append a primitive. The operators
in `adjoint.ops` and the `record_...` functions below look a known child up first, which is the fast path, and come to
`record` only when there is none. `realize` gives the value of a tensor, ending the trace if it is pending. Read
`record`, then `bind`.

In reference mode (`ADJOINT_EAGER=1`) the same steps are recorded, but each value is computed at once by NumPy, and the
steps are not shared through the trie.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.runtime.memory import Buffer
from adjoint.storage import decode, encode, round_to
from adjoint.trace import aside, lower, pieces, repeat
from adjoint.trace.aval import Aval, aval
from adjoint.trace.ending import compute, flush
from adjoint.trace.handle import Tensor, blank, pending
from adjoint.trace.infer import check_size, infer
from adjoint.trace.state import (
    ALIVE,
    Trace,
    _traces,
    changing,
    counters,
    current,
    local,
    new_step,
    publish,
    several,
    user_frame,
)
from adjoint.trace.strides import STRIDED, view_strides
from adjoint.trace.trie import NO_CHILDREN, Num, Step

MAX_STEPS = 8192  # a trace never grows longer than this
SNAPSHOT_BYTES = 65536  # shared memory up to this size is copied when read, beyond it the trace runs at once
PRUNED = 32  # steps in reference mode after which a trace is rid of what nobody holds
NOT_DIFFERENTIABLE = frozenset(
    "alias position row_order reinterpret eq ne lt le gt ge logical_not isnan isinf argmax argmin argsort argselect "
    "iota random_bits bitwise_not bitwise_and bitwise_or bitwise_xor shift_left shift_right".split()
)

aside.stand_by()


# --- binding -----------------------------------------------------------------------------------------------------------


def bind(tr: Trace, t: Tensor) -> int:
    """Slot of a tensor that is not yet part of the trace. May flush; then `tr.id` has changed."""
    data = t._data
    if data is None or t._special:
        return bind_slow(tr, t)
    key = t._aval
    step = tr.node.kids.get(key)
    if step is None:
        if tr.eager:
            return bind_slow(tr, t)
        if tr.node.boundary or (tr.node.cut and not tr.resumed):
            flush(tr)
            return bind(tr, t)
        step = new_input(tr, key, key)
        if step.parent is not tr.node:
            return bind(tr, t)
    inputs, buffers = tr.inputs, tr.buffers
    if t._data is not data:  # another thread has changed it
        return bind(tr, t)
    tr.node = step  # no calls from here on: a signal that came between these lines would part the lists
    inputs += (t,)
    buffers += (data,)
    t._tid = tr.id
    t._slot = slot = step.slot
    return slot


def bind_kept(tr: Trace, t: Tensor) -> int:
    """`bind` for who looks a step up, and has `record` bind what is not part of the trace then: -1 for memory that is shared with
    others, of which each binding is another copy."""
    if t._escape is not None or (t._base is not None and t._base._escape is not None):
        return -1
    return bind(tr, t)


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
        found = from_other_thread(tr, t)
        if found is not t:
            return bind(tr, found)
        if t._hist is None:  # no thread knows of it
            t._tid = 0
        return bind(tr, t)
    if t._data is None:
        if t._base is not None:
            if not several():
                return bind_view(tr, t)
            with changing:  # who writes to the base is to find the view entered
                return bind_view(tr, t)
        error = t.__dict__.get("_error")
        if error is not None:
            raise type(error)(*error.args)
        if t._hist is not None:
            slot = t._hist.revive(tr, t._hslot)
            if t._aval.__class__ is Aval:
                t._tid, t._slot = tr.id, slot
                tr.handles.append(t)  # should the trace end before its use, it keeps the value
            return slot
        return bind(tr, from_other_thread(tr, t))
    data = read = t._data
    kind = "input"
    former = None  # where this trace has the same leaf already, from when its memory was read before
    if t._escape is not None:
        if t._leaf and t._aval.requires_grad:
            former = next((p for p, x in enumerate(tr.inputs) if x is t), None)
        if not t._escape.active():
            t._escape = None
            refresh_special(t)
            if former is None:
                return bind(tr, t)
        elif data.nbytes <= SNAPSHOT_BYTES or tr.eager or t._aval.requires_grad:
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
    if former is not None:  # macros know leaves by their positions: the path says which of them are one leaf
        key = (key, former)
    step = tr.node.kids.get(key)
    if step is None:
        if tr.node.boundary or (tr.node.cut and not tr.resumed):
            flush(tr)
            return bind(tr, t)
        step = new_input(tr, key, t._aval)
        step.attrs = "history" if origin is not None else "hooked" if t._hooks is not None else None
        if kind == "shared":
            step.children = NO_CHILDREN
    inputs, buffers, position = tr.inputs, tr.buffers, len(tr.inputs)
    if t._data is not read:  # another thread has changed it
        return bind(tr, t)
    tr.node = step  # as in `bind`: no calls in these lines
    if origin is not None:
        tr.origins[position] = origin
    inputs += (t,)
    buffers += (data,)
    if kind == "shared" or data is t._data or t._escape is None:
        t._tid, t._slot = tr.id, step.slot
    if t._escape is not None:
        t._tid = 0  # read the memory anew the next time
        t._slot = step.slot
    if tr.eager:
        tr.values[step.slot] = data
    return step.slot


def bind_view(tr: Trace, t: Tensor) -> int:
    """Binding of a view without a value: its movement is replayed."""
    from adjoint.trace.views import read_shared, replay

    base = t._base
    shared = base._escape is not None and base._escape.active()
    if not shared and base._escape is not None and not base._aval.requires_grad:  # else its binding sees to that
        base._escape = None
        refresh_special(base)
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
    a = fresh._aval
    if a.strides != t._aval.strides:  # of a movement that is several steps
        a = aval(a.shape, a.dtype, a.requires_grad, t._aval.strides)
    views, here = base._views, fresh._tid == tr.id
    if here:  # first: a view that is nowhere entered would go on to show what the base was
        views.hold(tr, t)
    else:
        views.add(t)
    t._tid, t._slot, t._aval = fresh._tid, fresh._slot, a
    t._data, t._hist, t._special = fresh._data, fresh._hist, fresh._special
    if t._retains:
        t._retains()
    return t._slot if here else bind(tr, t)


_others = threading.RLock()


def from_other_thread(tr: Trace, t: Tensor) -> Tensor:
    """A tensor whose value another thread has recorded but not run, as one this thread can bind.

    A trace is changed by its own thread only: the value is computed a second time from the steps that lead to it. If
    the thread has ended, or the tensor's history is wanted (then the other thread must be waiting), its trace is run.
    """
    while True:
        number, slot = abs(t._tid), t._slot  # of one moment: no calls, between which other threads have their turn
        found = _in_other_thread(tr, t, number, slot)
        if found is not None:
            return found
        if t._data is not None or abs(t._tid) == tr.id:
            return t


def _in_other_thread(tr: Trace, t: Tensor, number: int, slot: int) -> Tensor | None:
    """The value of a slot of the trace `number`; None if it is to be looked for again: the trace has been run meanwhile,
    or another thread has changed the tensor."""
    for other, thread in list(_traces.items()):
        giving, interrupted = other.giving, thread is threading.current_thread()  # by a collection: `aside`
        if giving is not None and giving.tid == number and other.id != number:
            giving.finish()
            if t._data is None:
                if not interrupted:
                    giving.wait()
                break
            return None
        if other.id != number or other is tr:
            continue
        if interrupted:
            return _in_interrupted(tr, other, t, slot)
        if not thread.is_alive() or (tr.grad and t._aval.requires_grad):
            with _others:  # of several threads that wait for one trace, one runs it
                if other.id == number:
                    flush(other)
            break
        step, buffers, scalars = other.node, other.buffers, other.scalars
        if other.id != number:  # run by its thread just now
            return None
        buffers, scalars = [*buffers], [*scalars]  # nothing is overwritten that is held here
        giving = other.giving
        if giving is not None:  # too late
            del buffers
            giving.wait()
            return None
        if len(buffers) < step.inputs_before:
            break
        values = compute(leading_to(slot, step), slot, buffers, scalars)
        return tensor_from_buffer(values, t._aval.shape, t._aval.dtype)
    if t._data is None and abs(t._tid) == number and t._slot == slot:
        raise RuntimeError("this tensor has no value: the operation that should have produced it was interrupted")
    return None


def leading_to(slot: int, step: Step) -> Step:
    """The last step that a slot of this path needs."""
    while step.parent is not None and step.parent.slot >= slot:
        step = step.parent
    return step


def _in_interrupted(tr: Trace, own: Trace, t: Tensor, slot: int) -> Tensor:
    """The value of a slot of this thread's own trace, which stands still during a collection. A derivative may lead there."""
    if own.giving is not None and own.giving.begun:
        own.giving.finish()
        if t._data is None:
            raise RuntimeError("this tensor has no value: the operation that should have produced it failed")
        return t
    data = t._data
    if data is None:
        data = compute(leading_to(slot, own.node), slot, own.buffers, own.scalars)
    out = tensor_from_buffer(data, t._aval.shape, t._aval.dtype)
    if tr.grad and t._aval.requires_grad:
        out._aval, out._hist, out._hslot, out._special = t._aval, own.history(), slot, True
        out._hist.pinned.append(slot)
    return out


def refresh_special(t: Tensor) -> None:
    t._special = t._escape is not None or t._hist is not None or bool(t._hooks) or bool(t._retains)


# --- recording ---------------------------------------------------------------------------------------------------------


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
            elif type(x) is int and is_too_large(x):
                raise OverflowError(f"{prim}: int too big to convert: {_in_digits(x)} is beyond 64 bits; use a float")
            elif tr.static:
                slots.append(Num(x))
            else:
                slots.append(type(x))
                numbers.append(x)
        if tr.id != tid:
            return resumed(tr, record, prim, operands, attrs)
        held: list[Any] = []
        if tr.eager:
            held = [value_of(tr, x, s) if isinstance(x, Tensor) else None for x, s in zip(operands, slots, strict=True)]
            if several() and any([h is None and isinstance(x, Tensor) for h, x in zip(held, operands, strict=True)]):
                continue  # another thread has changed an operand
        key: tuple = (prim, *slots) if attrs is None else (prim, *slots, attrs)
        node = tr.node
        step = node.kids.get(key)
        if step is None:
            # never between a primitive with several results and the choice of one
            if prim != "pick" and (tr.node.boundary or (not tr.resumed and (tr.node.cut or too_long(tr, prim)))):
                flush(tr)
                return resumed(tr, record, prim, operands, attrs)
            step = make_step(tr, key, prim, operands, slots, attrs)
            if step.parent is not node:
                continue
            publish(tr, step)
        out = pending(tid, step.slot, step.aval)
        if tr.node is node and tr.id == tid:  # else a signal handler or a finalizer has recorded in between
            break
    if tr.eager:
        evaluate(tr, step, operands, held, numbers, out)
        if step.depth % PRUNED == 0:
            prune(tr)
    tr.node = step
    if numbers:
        tr.scalars.extend(numbers)
    tr.handles.append(out)
    if tr.flush_after:
        flush(tr)
    return out


def resumed(tr: Trace, function: Callable[..., Any], *args: Any) -> Any:
    """The function's result in a trace that began while its operands were being bound: they are all bound in this one,
    which is not cut before. Else views that alone fill a piece, and are made anew wherever they are used, would be cut off for
    ever."""
    before = tr.resumed
    try:
        tr.resumed = True
        return function(*args)
    finally:
        tr.resumed = before


LEAST_INT, LARGEST_INT = -(1 << 63), (1 << 64) - 1


def is_too_large(x: int) -> bool:
    """Whether an int does not fit into 64 bits, with a sign or without."""
    return not LEAST_INT <= x <= LARGEST_INT


def _in_digits(x: int) -> str:
    return str(x) if abs(x) < 1 << 100 else f"{'-' if x < 0 else ''}2**{x.bit_length() - 1} and more"


def too_long(tr: Trace, prim: str) -> bool:
    """Whether the trace should end before its next step, which is new. A derivative is not cut in two where it can be helped."""
    if tr.whole:
        return tr.node.depth >= 4 * MAX_STEPS
    return tr.node.depth >= MAX_STEPS or repeat.ends_here(tr) or (bool(pieces.families) and pieces.ends_here(tr, prim))


def ended(tr: Trace) -> bool:
    """Run a trace whose iteration is over; whether it was one."""
    if tr.node.boundary:
        flush(tr)
        return True
    return False


# The fast path: what is known at this place of the trace is one look-up. `trace.native` rebinds these three to its own
# versions, which hand over to `..._in_python` whenever anything is unusual.


def record_unary(prim: str, x: Tensor) -> Any:
    """`record` of one tensor."""
    return _unary(prim, x)


def record_one(prim: str, x: Tensor, attrs: Any) -> Any:
    """`record` of one tensor and attributes."""
    return _one(prim, x, attrs)


def record_two(prim: str, x: Tensor, y: Tensor) -> Any:
    """`record` of two tensors."""
    return _two(prim, x, y)


def unary_in_python(prim: str, x: Tensor) -> Any:
    tr = local.trace
    tid = tr.id
    step = tr.node.children.get((prim, x._slot if x._tid == tid else bind_kept(tr, x)))
    if step is None or tr.id != tid:
        return unary_in_python(prim, x) if ended(tr) else record(prim, (x,))
    tr.node = step
    out = pending(tid, step.slot, step.aval)
    if tr.id != tid:  # a finalizer has ended the trace
        return unary_in_python(prim, x)
    tr.handles.append(out)
    return out


def one_in_python(prim: str, x: Tensor, attrs: Any) -> Any:
    tr = local.trace
    tid = tr.id
    step = tr.node.children.get((prim, x._slot if x._tid == tid else bind_kept(tr, x), attrs))
    if step is None or tr.id != tid:
        return one_in_python(prim, x, attrs) if ended(tr) else record(prim, (x,), attrs)
    tr.node = step
    out = pending(tid, step.slot, step.aval)
    if tr.id != tid:  # a finalizer has ended the trace
        return one_in_python(prim, x, attrs)
    tr.handles.append(out)
    return out


def two_in_python(prim: str, x: Tensor, y: Tensor) -> Any:
    tr = local.trace
    tid = tr.id
    key = (prim, x._slot if x._tid == tid else bind_kept(tr, x), y._slot if y._tid == tid else bind_kept(tr, y))
    step = tr.node.children.get(key)
    if step is None or tr.id != tid:
        return two_in_python(prim, x, y) if ended(tr) else record(prim, (x, y))
    tr.node = step
    out = pending(tid, step.slot, step.aval)
    if tr.id != tid:  # a finalizer has ended the trace
        return two_in_python(prim, x, y)
    tr.handles.append(out)
    return out


_unary, _one, _two = unary_in_python, one_in_python, two_in_python

operators: dict[str, Any] = {}  # those of `Tensor` as `methods.attach` made them (and `__getitem__`), for `trace.native` to replace


def record_full(value: Any, shape: tuple[int, ...], dtype: DType) -> Any:
    """A tensor filled with a run-time number."""
    tr = local.trace
    attrs = (shape, dtype)
    if not tr.static:
        step = tr.node.children.get(("full", type(value), attrs))
        if step is not None and not (type(value) is int and is_too_large(value)):
            tr.node = step
            tr.scalars.append(value)
            out = pending(tr.id, step.slot, step.aval)
            tr.handles.append(out)
            return out
    return record("full", (value,), attrs)


NUMBER = ((), dtypes.float64)


def record_number(value: float) -> Any:
    """A run-time number as a tensor of no axes in float64."""
    return _number(value)


def number_in_python(value: float) -> Any:
    return record_full(value, *NUMBER)


_number: Any = number_in_python


def record_slice(x: Tensor, attrs: tuple, start: int) -> Any:
    """A slice with one run-time start."""
    tr = local.trace
    if tr.static:
        return record("slice", (x, start), attrs)
    tid = tr.id
    step = tr.node.children.get(("slice", x._slot if x._tid == tid else bind_kept(tr, x), int, attrs))
    if step is None or tr.id != tid:
        return record_slice(x, attrs, start) if ended(tr) else record("slice", (x, start), attrs)
    tr.node = step
    tr.scalars.append(start)
    out = pending(tid, step.slot, step.aval)
    if tr.id != tid:  # a finalizer has ended the trace
        return record_slice(x, attrs, start)
    tr.handles.append(out)
    return out


def make_step(tr: Trace, key: Any, prim: str, operands: tuple, slots: list, attrs: Any) -> Step:
    """A new place in the trie: shape and dtype rules, gradient requirement, source line."""
    step = new_step(tr, key, prim, (), attrs)
    avals = [x._aval if isinstance(x, Tensor) else type(x) if isinstance(s, type) else s for x, s in zip(operands, slots, strict=True)]
    shape, dtype, compute, scalar_types = infer(prim, avals, attrs, tr.default_dtype)
    if dtype is not None:
        check_size(prim, shape, dtype)
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
        and dtype.category >= 2
        and prim not in NOT_DIFFERENTIABLE
        and any(isinstance(x, Tensor) and x._aval.requires_grad for x in operands)
    )
    strides = view_strides(prim, operands, attrs, shape) if prim in STRIDED else None
    step.aval = aval(shape, dtype, grad, strides) if dtype is not None else shape
    if prim == "pick":
        source = operands[0]._aval
        step.aval = aval(shape, dtype, dtype.category >= 2 and (grad or (tr.grad and source.requires_grad)))
    step.where = user_frame()
    return step


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
    # The gradient requirement is decided neither by the operands nor by the mode alone (`func.variable`); and a view of memory
    # that NumPy sees is bound by its elements, wherever they lie.
    strides = t._aval.strides if prim == "alias" else None  # the one that shares memory
    key = (prim, *slots, attrs, requires_grad, strides)
    step = tr.node.kids.get(key)
    if step is None:
        step = new_step(tr, key, prim, slots, attrs)
        step.slot += 1
        step.aval = aval(t._aval.shape, t._aval.dtype, requires_grad, strides)
        step.where = user_frame()
        publish(tr, step)
    tr.node = step
    out = pending(tid, step.slot, step.aval)
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


# --- reference mode ----------------------------------------------------------------------------------------------------


def prune(tr: Trace) -> None:
    """Let go of tensors that nobody holds any more; a trace that no derivative needs ends."""
    if tr.values or tr.hist is not None or tr.static or (tr.watch is not None and tr.watch.holds()):
        tr.handles = [h for h in tr.handles if getrefcount(h) > ALIVE]
    else:
        tr.flush_after = True


def evaluate(tr: Trace, step: Step, operands: tuple, held: list, numbers: list, out: Tensor) -> None:
    """Reference mode: compute the step at once. held: the memory of the operands that are tensors."""
    values = []
    rest = iter(numbers)
    kinds = dict(step.scalars)
    for x, s, data in zip(operands, step.args, held, strict=True):
        if isinstance(x, Tensor):
            values.append(numbers_in(data, x._aval))
        elif isinstance(s, Num):
            values.append(x)
        else:
            number = round_to(next(rest), kinds[s])
            values.append(number)
            if needs_value(step, out) or tr.watch is not None:
                _keep(tr, s, Buffer.from_array(encode(number, kinds[s])), needs_value(step, out))
    result = lower.reference_step(step, values)
    if isinstance(result, tuple):
        out._data = result
    else:
        out._data = Buffer.from_array(encode(np.asarray(result), step.aval.dtype))
    for x, s, data in zip(operands, step.args, held, strict=True):
        if isinstance(x, Tensor):
            _keep(tr, s, data, s not in tr.values and needs_value(step, x))
    _keep(tr, step.slot, out._data, needs_value(step, out) or isinstance(result, tuple))


def _keep(tr: Trace, slot: int, value: Any, needed: bool) -> None:
    """Keep a value for a derivative that needs it, and tell who listens."""
    if needed:
        tr.values[slot] = value
    if tr.watch is not None:
        tr.watch.computed(slot, value)


def needs_value(step: Step, t: Tensor) -> bool:
    return getattr(step.aval, "requires_grad", True)


def value_of(tr: Trace, t: Tensor, slot: int) -> Any:
    """The memory of a tensor bound to a slot in reference mode, or its several results."""
    data = t._data
    return data if data is not None else tr.values.get(slot)


def numbers_in(data: Any, a: Aval) -> Any:
    if isinstance(data, tuple):
        return data
    return decode(data.array(a.dtype.np, a.shape), a.dtype)


_settle: Any = None  # `native_end`, once it is there: end the trace as it ended before, if it does


# --- values ------------------------------------------------------------------------------------------------------------

READS = "it reads a value (print, item, bool, numpy, ...)"


def realize(t: Tensor) -> Any:
    """The Buffer with a tensor's value, running whatever is pending."""
    data, place = t._data, (t._tid, t._slot)
    if data is None and _settle is not None and _settle(t):
        return t._data
    tr = local.trace
    if tr.watch is not None:
        tr.watch.give_up(READS)
    if data is not None:
        return data
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
            holder = pending(tr.id, slot, t._aval)
            if tr.eager:
                holder._data = tr.values.get(slot)
            else:
                tr.handles.append(holder)
                flush(tr)
            if t._hist is None:  # still pending in another thread, which goes on with it
                return holder._data
            t._data = holder._data
    data = t._data
    if data is None:
        error = t.__dict__.get("_error")
        if error is not None:
            raise type(error)(*error.args)
        if (t._tid, t._slot) != place:  # another thread has changed it meanwhile
            return realize(t)
        raise RuntimeError("this tensor has no value: the operation that should have produced it was interrupted")
    return data


def tensor_from_buffer(data: Any, shape: tuple[int, ...], dtype: DType, requires_grad: bool = False) -> Tensor:
    """A concrete leaf."""
    t = blank()
    t._data = data
    t._aval = aval(tuple(shape), dtype, requires_grad)
    if requires_grad:
        t._leaf = True
    return t


def array_of(t: Tensor) -> np.ndarray:
    """The numbers of a tensor, for reading only; runs what is pending."""
    data = t._data
    if data is None or local.trace.watch is not None:
        data = realize(t)
    a = t._aval
    dtype = a.dtype
    array = np.ndarray(a.key_shape, dtype.np, data.mem)  # `Buffer.array`
    return array if dtype is not dtypes.bfloat16 else decode(array, dtype)


def tensor_from_array(array: np.ndarray, requires_grad: bool = False, dtype: DType | None = None) -> Tensor:
    """A concrete leaf with a copy of the array's numbers, converted to `dtype` if it is given."""
    if dtype is None:
        dtype = dtypes.from_numpy(array.dtype)
    else:
        array = encode(round_to(array, dtype), dtype)
    return tensor_from_buffer(Buffer.from_array(array), array.shape, dtype, requires_grad)


__all__ = ["Trace", "alias", "bind", "counters", "current", "flush", "local", "realize", "record"]
