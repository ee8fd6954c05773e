"""Views and mutation over values that never change.

Inside a trace every value is immutable. A view is the movement operations (`_chain`) that lead to it from its base; an
in-place operation computes a new value, points the handle to it and, through a view, points the base to the base's old
value with the view's part replaced. The base's other views are marked stale and replay their chain when next used.
Memory that was handed out (`numpy()`, `from_numpy`) is `Escape`d: it is read anew at every use and written at once.
"""

from __future__ import annotations

import math
import weakref
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import GraphBuilder
from adjoint.runtime import jit
from adjoint.runtime.memory import Buffer
from adjoint.trace import recorder, strides
from adjoint.trace.aval import aval
from adjoint.trace.detached import watch
from adjoint.trace.handle import Tensor, blank, new_object
from adjoint.trace.moves import (
    OVERLAPPING,
    PARTS,
    apply_move,
    dtype_of,
    move_array,
    move_layout,
    undo_move,
    write_at,
)
from adjoint.trace.recorder import (
    alias,
    bind,
    ended,
    flush,
    local,
    realize,
    record,
    record_one,
    record_slice,
    refresh_special,
)
from adjoint.trace.state import Trace, changing, several
from adjoint.trace.trie import above


def make_view(t: Tensor, prim: str, attrs: Any, starts: tuple[int, ...] = ()) -> Tensor:
    """The result of a movement primitive as a view of `t`'s base."""
    base = t._base if t._base is not None else t
    if base._escape is not None and base._escape.active() and not t._aval.requires_grad:
        return shared_view(t, (prim, attrs, starts))
    if not starts:
        out = record_one(prim, t, attrs)
    elif len(starts) == 1:
        out = record_slice(t, attrs, starts[0])
    else:
        out = record(prim, (t, *starts), attrs)
    return link(out, t, (prim, attrs, starts))


def known_part(t: Tensor, kind: str, starts: tuple[int, ...], count: int) -> Tensor | None:
    """A part as a view, where the trace knows the step; None where it does not.

    kind: "rows" for a slice of `count` of the first axis; "row" for one, with the axis gone; "place" for one element, with all
    `count` axes gone; "cut" for a slice that the number `count` stands for, "part" for one that is reshaped then.  starts: of
    the axes that are sliced.
    """
    tr = local.trace
    base = t._base
    if base is None:
        base = t
    if base._escape is not None or tr.static:
        return None
    tid = tr.id
    slot = t._slot if t._tid == tid else bind(tr, t)  # first: it may move the trace on
    step = tr.node.children.get((kind, slot, count))
    if step is None or tr.id != tid:
        return known_part(t, kind, starts, count) if tr.id != tid or ended(tr) else None
    if kind == "rows" or kind == "cut":
        chain = (*t._chain, ("slice", step.attrs, starts))
    else:
        chain = (*t._chain, ("slice", step.parent.attrs, starts), ("reshape", step.attrs, ()))  # type: ignore[union-attr]
        if kind != "part":
            tr.node.row = (slot, t._chain, starts[0] if kind == "row" else starts, step, chain)
    tr.node = step
    tr.scalars.extend(starts)
    out = new_object(Tensor)  # as `pending` does
    out._tid = tid
    out._slot = step.slot
    out._aval = step.aval
    out._data = None
    out._special = False
    out._base = base
    out._chain = chain
    out._views = None
    out._version = 0
    views = base._views
    if views is None:
        base._views = views = Views()
    recent = views.recent
    if recent and views.owner is tr:
        recent.append(out)
    else:
        views.hold(tr, out)
    return out


def note_part(out: Tensor, kind: str, count: int, starts: int) -> None:
    """Let `known_part` find the step or two by which `out` has just been made, with so many starts."""
    tr = local.trace
    node = tr.node
    first = node if kind == "rows" or kind == "cut" else node.parent
    if (
        out._tid == tr.id and out._slot == node.slot and first is not None and first.prim == "slice"
        and not tr.static and not tr.eager and len(first.scalars) == starts
    ):  # fmt: skip
        above(first).kids[(kind, first.args[0], count)] = node


def shared_view(t: Tensor, move: tuple) -> Tensor:
    """A view of shared memory: nothing is recorded before it is used, because it is read anew at every use."""
    old = t._aval
    shape, steps, _ = move_layout((tuple(old.shape), strides.strides_of(t), 0), move)
    out = blank()
    out._aval = aval(shape, dtype_of(old.dtype, move), False, steps)
    return link(out, t, move)


def make_composed_view(t: Tensor, prim: str, attrs: tuple) -> Tensor:
    """`make_view` for the movements that are more than one primitive; `as_strided` counts from the base."""
    move = (prim, attrs, ())
    base = t._base if t._base is not None else t
    if prim == "as_strided" and t is not base:
        if base._aval.dtype is not t._aval.dtype:
            raise RuntimeError(
                f"as_strided: the tensor is a {t._aval.dtype.name} view of {base._aval.dtype.name} memory; clone() it first"
            )
        t = alias_view(base) if is_detached(t) else base
    if base._escape is not None and base._escape.active() and not t._aval.requires_grad:
        return shared_view(t, move)
    layout = move_layout((tuple(t._aval.shape), strides.strides_of(t), 0), move)
    out = apply_move(t, move)
    a = out._aval
    out._aval = aval(layout[0], a.dtype, a.requires_grad, layout[1])
    return link(out, t, move)


def make_slice_at(t: Tensor, prim: str, attrs: tuple, starts: tuple) -> Tensor:
    """`make_view` of a slice of which some starts are tensors: whatever they are when the view is made."""
    base = t._base if t._base is not None else t
    move = (prim, attrs, starts)
    if base._escape is not None and base._escape.active() and not t._aval.requires_grad:
        return shared_view(t, move)
    return link(apply_move(t, move), t, move)


def is_detached(t: Tensor) -> bool:
    """Whether a view is cut off from its base's derivatives."""
    return any([m[0] == "alias" for m in t._chain])


class Views:
    """The views of a base: those made since the trace `owner` began (held here until it ends, `Trace.viewed`), older
    living ones that hold a value, and those to be replayed when next used.

    A write makes all of the first two the last, so what it costs does not depend on how many views there ever were.
    """

    __slots__ = ("recent", "owner", "fresh", "stale", "limit")

    def __init__(self) -> None:
        self.recent: list[Tensor] = []
        self.owner: Trace | None = None
        self.fresh: dict[int, weakref.ref] = {}
        self.stale: dict[int, weakref.ref] = {}
        self.limit = 32

    def hold(self, tr: Trace, view: Tensor) -> None:
        """Enter a view that the trace has just made."""
        if not self.recent:
            self.owner = tr  # no calls in these lines, between which a signal or another thread could come
            tr.viewed += (self,)
            self.recent += (view,)
            return
        if self.owner is not tr:  # which need not end soon: held for this trace, and found by its base
            self.add(view)
            Views().hold(tr, view)
            return
        self.recent.append(view)

    def add(self, view: Tensor) -> None:
        """Enter a view that outlives the trace which made it."""
        self.fresh[id(view)] = weakref.ref(view)
        if len(self.fresh) > self.limit:
            self.fresh = {k: r for k, r in [*self.fresh.items()] if r() is not None}
            self.limit = max(32, 2 * len(self.fresh))

    def all(self) -> list[Tensor]:
        old = [v for r in (*self.fresh.values(), *self.stale.values()) if (v := r()) is not None]
        return [*self.recent, *old]

    def forget(self) -> None:
        """Let every view replay its movement when next used."""
        recent, fresh = self.recent, [*self.fresh.items()]
        known = [*recent]
        for v in (*known, *[ref() for _, ref in fresh]):
            if v is not None:
                self.stale[id(v)] = weakref.ref(v)
                v._tid, v._data, v._hist, v._special = 0, None, None, False
        # last: a signal may stop this, and a view in neither would show the old value; not those that other threads enter
        del recent[: len(known)]
        for key, ref in fresh:
            if self.fresh.get(key) is ref:
                del self.fresh[key]
        if len(self.stale) > self.limit:
            self.stale = {k: r for k, r in [*self.stale.items()] if r() is not None}
            self.limit = max(32, 2 * len(self.stale))

    def drop(self, view: Tensor) -> None:
        """Forget a view that shows other memory from now on."""
        self.recent = [v for v in self.recent if v is not view]
        self.fresh.pop(id(view), None)
        self.stale.pop(id(view), None)

    def gone(self) -> bool:
        """Whether, after `forget`, no view is left: their base is then as plain as one without. Forgets views that are
        dead, from the newest to one that lives."""
        stale = self.stale
        while stale:
            newest, reference = next(reversed(stale.items()))
            if reference() is not None:
                return False
            del stale[newest]
        return True


def link(out: Tensor, t: Tensor, move: tuple) -> Tensor:
    """Register `out` as `move` applied to `t`."""
    base = t._base if t._base is not None else t
    out._base, out._chain = base, (*t._chain, move)
    tr = local.trace
    if base._views is None:
        base._views = Views()
    if tr.handles and tr.handles[-1] is out:
        tr.handles.pop()
        base._views.hold(tr, out)
    else:
        base._views.add(out)
    if base._escape is not None:  # others may write there: the view is read anew at every use
        out._tid, out._data, out._special = 0, None, False
    return out


def alias_view(t: Tensor) -> Tensor:
    """`detach`: the same memory without history."""
    out = link(alias(t, "alias", False), t, ("alias", None, ()))
    watch(out._base)
    return out


def replay(t: Tensor) -> Tensor:
    """The present value of a stale view, as a fresh handle."""
    return local.trace.in_mode(t._aval.requires_grad, _moved, t)


def _moved(t: Tensor) -> Tensor:
    value = t._base
    if t._aval.requires_grad and not value._aval.requires_grad:  # the base has been told to require none since
        value = alias(value, "clone", True)
    for move in t._chain:
        value = apply_move(value, move)
    return value


# --- mutation -----------------------------------------------------------------------------------------------------------


def is_leaf(t: Tensor) -> bool:
    return not t._aval.requires_grad or t._leaf


def check_in_place(t: Tensor) -> None:
    """Raise what PyTorch raises for an in-place change that autograd cannot allow."""
    if not local.trace.grad:
        return
    base = t._base
    if base is None:
        if t._leaf and t._aval.requires_grad:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation: a tensor of shape "
                f"{list(t._aval.shape)} created with requires_grad=True was changed in place; do it under "
                "torch.no_grad(), or write the result to a new tensor"
            )
    elif base._leaf and base._aval.requires_grad and not is_detached(t):
        raise RuntimeError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation: change it under "
            "torch.no_grad(), or clone() the leaf first"
        )


def overwrite(t: Tensor, value: Tensor) -> Tensor:
    """`assign` of a value that owes nothing to the old one: the old one's gradient is zeros, as in PyTorch."""
    if t._aval.requires_grad and local.trace.grad and not t._leaf and value._aval.requires_grad:
        value = record("where", (record("full", (False,), ((), dtypes.bool)), t, value))
    return assign(t, value)


def assign(t: Tensor, value: Tensor) -> Tensor:
    """Give `t` (and everything that shares its memory) a new value of its shape and dtype; returns `t`."""
    base = t._base
    if base is None:
        point(t, keeping_gradient(t, value))
        return t
    if any(n != 1 and s == 0 for n, s in zip(t._aval.shape, t._aval.strides, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory location "
            f"(a tensor of shape {list(t._aval.shape)} made by expand); clone() it before changing it in place"
        )
    write = _write_through if not several() else _write_alone
    if is_detached(t):
        local.trace.in_mode(False, write, t, base, value)
    else:
        write(t, base, value)
    return t


def _write_alone(t: Tensor, base: Tensor, value: Tensor) -> None:
    """`_write_through` while there are other threads, who may write other parts of the base."""
    with changing:
        if is_elsewhere(base):
            base._shared = True
        _write_through(t, base, value)
        if base._shared:
            flush(local.trace)


def is_elsewhere(t: Tensor) -> bool:
    """Whether a tensor waits for its value in another thread's trace."""
    return t._data is None and t._base is None and t._hist is None and abs(t._tid) not in (0, local.trace.id)


def _write_through(t: Tensor, base: Tensor, value: Tensor) -> None:
    """Give the base its old value with `value` in the place of the view `t`."""
    moves = [m[0] for m in t._chain]
    if not OVERLAPPING.isdisjoint(moves) and PARTS.isdisjoint(moves):
        point(base, keeping_gradient(base, write_at(base, t._chain, value)))
        return
    levels = [base]
    for move in t._chain[:-1]:
        levels.append(apply_move(levels[-1], move))
    repeated = any([m[0] == "expand" and math.prod(m[1]) > x._aval.size for m, x in zip(t._chain, levels, strict=True)])
    if repeated and PARTS.isdisjoint(moves):  # of which this view shows no place twice
        point(base, keeping_gradient(base, write_at(base, t._chain, value)))
        return
    for move, before in zip(reversed(t._chain), reversed(levels), strict=True):
        value = undo_move(before, move, value)
    point(base, keeping_gradient(base, value))


def replace_element(t: Tensor, place: tuple[int, ...], value: Tensor) -> bool:
    """`assign` to the view that is one element, without making that view; False for a `t` that is a view itself."""
    if t._base is not None or several():
        return False
    rank = len(place)
    ones = (1,) * rank
    value = undo_move(t, ("slice", ((None,) * rank, ones, ones), place), record_one("reshape", value, ones))
    point(t, keeping_gradient(t, value))
    return True


def keeping_gradient(t: Tensor, value: Tensor) -> Tensor:
    """`value` as the new value of `t`, which stays a result that requires grad if it was one.

    Recording: what ignores the old value has a zero derivative by it. Not recording: autograd does not notice the
    change, so the gradient passes to the computation of the old value.
    """
    follows = t._aval.requires_grad and not t._leaf
    if not local.trace.grad:
        if follows:
            return alias(t, "override", True, source=value)
        return alias(value, "alias", False) if value._aval.requires_grad else value
    if not follows or value._aval.requires_grad:
        return value
    return record("where", (record("full", (False,), ((), dtypes.bool)), t, value))


def advance(tr: Trace, t: Tensor, key: tuple) -> bool:
    """Take the known step `key` and let `t` stand for its result, as `point` would; False where that is not plain.

    For in-place updates without gradient, which thereby need no handle for the new value.
    """
    step = tr.node.children.get(key)
    if step is None or t._base is not None or t._views is not None or t._special or tr.grad:
        return False
    a, b, tid = t._aval, step.aval, tr.id
    leaf = t._leaf and a.requires_grad
    if b is not a and not (leaf and b.dtype is a.dtype and b.key_shape == a.key_shape):
        return False
    if step.risky:
        note(tr, t, step.slot)
    if t._data is not None:
        tr.mutated[id(t)] = t
        t._data = None
    elif t._tid != tid and t._tid != -tid:
        tr.mutated[id(t)] = t
    tr.node = step
    t._tid = -tid if leaf else tid
    t._slot = step.slot
    t._version += 1
    return True


def note(tr: Trace, t: Tensor, slot: int) -> None:
    """Note what `t` was before it becomes `slot`, should that turn out to fail."""
    tr.trail.append((id(t), t._slot if abs(t._tid) == tr.id else t._data, slot))


def point(t: Tensor, value: Tensor) -> None:
    """Let the handle `t` stand for `value` from now on; its views become stale."""
    tr = local.trace
    leaf = t._leaf and t._aval.requires_grad and not (tr.grad and value._aval.requires_grad)
    tid = tr.id
    if (
        value._tid == tid and value is not t and t._views is None and not t._special and not tr.eager
        and (leaf or t._aval is value._aval)
    ):  # fmt: skip
        if tr.node.risky:
            note(tr, t, value._slot)
        if t._data is not None:
            tr.mutated[id(t)] = t
            t._data = None
        elif t._tid != tid and t._tid != -tid:
            tr.mutated[id(t)] = t
        t._tid = -tid if leaf else tid
        t._slot = value._slot
        t._version += 1
        if not leaf:
            t._leaf = False
        return
    if value._tid != tr.id or value is t:
        if value is t:
            return
        slot = value._slot if value._tid == tr.id else recorder.bind(tr, value)
    else:
        slot = value._slot
    _point_slowly(tr, t, value, slot, leaf)


def _point_slowly(tr: Trace, t: Tensor, value: Tensor, slot: int, leaf: bool) -> None:
    """`point` in reference mode, for a tensor with views, or whose memory is seen from outside.

    What can be prepared is, so that a signal finds the tensor with its views and the memory as they were, or as they
    shall be.
    """
    escape, a, tid = t._escape, t._aval, tr.id
    data: Any = None
    if tr.eager:
        if value._escape is not None:
            data = tr.values[slot]  # what its memory held when it was bound: NumPy may write there
        else:
            data = value._data if value._data is not None else realize(value)
    elif tr.node.risky:
        note(tr, t, slot)
    if not leaf and a is not value._aval:
        a = aval(a.shape, a.dtype, value._aval.requires_grad, None)
    views = t._views
    if views is not None:
        if a.requires_grad is not t._aval.requires_grad:
            for v in views.all():
                if not is_detached(v):
                    v._aval = aval(v._aval.shape, v._aval.dtype, a.requires_grad, v._aval.strides)
        views.forget()  # before the base changes: a view that is replayed shows whatever the base has
        if views.gone():
            t._views = None
    if tr.eager:
        if leaf:
            tr.mutated[id(t)] = t  # the iteration ends when gradient mode comes back
        else:
            tr.handles.append(t)  # so that the end of the trace connects it to its history
        if escape is not None:
            escape.write_back(t, data)
        t._data = data if escape is None else t._data
        t._tid = 0 if leaf or escape is not None else tid  # 0: reading it binds it anew, as a leaf or as memory that others see
    else:
        if t._tid != -tid and (t._data is not None or t._tid != tid):
            tr.mutated[id(t)] = t
        t._data = None
        t._tid = -tid if leaf else tid
    t._slot = slot
    t._version += 1
    t._aval = a
    if not leaf:
        t._leaf = False
        if t._hist is not None:
            t._hist = None
            refresh_special(t)
    if t._retains:
        t._retains()
    if tr.eager:
        if escape is not None and t._aval.requires_grad and not t._leaf:  # the memory is read anew, and continues this trace
            t._hist, t._hslot, t._special = tr.history(), slot, True
            t._hist.pinned.append(slot)
    elif escape is not None:
        try:
            flush(tr)
        except BaseException:  # a signal's: those outside are to see the change, too
            if t._data is None and t._tid == tid == tr.id:
                flush(tr)
            raise
    elif tr.flush_after:  # the value is memory that NumPy shares, and may change
        flush(tr)


OWNED = 3  # references to a buffer that only a tensor holds: its field, the local variable, the argument
UNSHARED = 2  # references to a buffer's memory that nobody outside holds: the buffer's, and the argument's


# --- memory shared with the outside -------------------------------------------------------------------------------------


class Escape:
    """A tensor's memory is also seen from outside: by arrays that `numpy()` made, or by the array it was made from.

    Arrays made by `Buffer.array`, and their views, all refer to `buffer.mem`; its reference count tells whether any is
    left. array: the user's own array, for `from_numpy`; its count, and that of the array whose memory it shows, tell
    whether anybody else can still reach it.
    """

    __slots__ = ("buffer", "array")

    def __init__(self, buffer: Any, array: Any = None) -> None:
        self.buffer = buffer
        self.array = array

    def active(self) -> bool:
        if self.array is not None:
            if _references(self.array) not in _ALONE:
                return True
            self.array = None
        return getrefcount(self.buffer.mem) > UNSHARED

    def write_back(self, t: Tensor, data: Any) -> None:
        """Give the tensor its new value, in the shared memory, which stays the tensor's memory if it can be written."""
        if not self.buffer.mem.flags.writeable:
            t._data, t._escape = data, None
            refresh_special(t)
            return
        n = t._aval.nbytes
        there, new = self.buffer.array(np.uint8, (n,)), data.array(np.uint8, (n,))
        there[:] = new  # no calls in these lines: a signal that came between them would part the array and the tensor
        t._data = self.buffer


def _references(array: np.ndarray) -> tuple[int, ...]:
    """Reference counts of an array and of the array that owns its memory; none where anything else owns it."""
    owner = array.base
    if owner is None:
        return (getrefcount(array),)
    if type(owner) is not np.ndarray or owner.base is not None:
        return ()
    return getrefcount(array), getrefcount(owner)


def _references_when_alone() -> frozenset[tuple[int, ...]]:
    """What `_references` gives, asked as `active` asks, when only a tensor made from the array is left."""
    found = []
    for make in (lambda: np.zeros(2), lambda: np.zeros((2, 1)).reshape(2)):
        array = make()
        escape = Escape(Buffer.wrap(array), array)
        del array
        found.append(_references(escape.array))
    return frozenset(found)


_ALONE = _references_when_alone()


def export(t: Tensor, stored: bool = False) -> np.ndarray:
    """A NumPy array that shares the tensor's memory, both ways.

    TypeError for a dtype NumPy has not, unless it is wanted as it is `stored`.
    """
    base = t._base if t._base is not None else t
    a = base._aval
    if t._aval.dtype is dtypes.bfloat16 and not stored:
        raise TypeError("Got unsupported ScalarType BFloat16: NumPy has no bfloat16; use .float().numpy()")
    buffer = base._data
    if buffer is None or local.trace.watch is not None:
        buffer = realize(base)
    escape = base._escape
    if escape is not None and escape.array is not None:
        array = escape.array.reshape(a.shape) if escape.array.shape != tuple(a.shape) else escape.array
    else:
        if escape is None or escape.buffer is not buffer:
            if getrefcount(buffer) > OWNED + buffer.pooled:  # a trace or a derivative still counts on the value it has now
                buffer = base._data = Buffer.from_array(buffer.array(np.uint8, (a.nbytes,)))
            base._escape = Escape(buffer)
            base._special = True
            if a.requires_grad and base._tid == local.trace.id and not base._leaf and base._hist is None:
                base._hist, base._hslot = local.trace.history(), base._slot  # reference mode: the trace goes on
                base._hist.pinned.append(base._slot)
            if base._tid > 0:
                base._tid = 0
            if base._views is not None:
                base._views.forget()
        array = np.ndarray(a.key_shape, a.dtype.np, buffer.mem)
    for move in t._chain:
        array = move_array(array, move)
    return array


def read_shared(t: Tensor) -> Tensor:
    """A copy of a view of shared memory, as it is now."""
    base = t._base
    array = base._data.array(base._aval.dtype.np, base._aval.shape)
    for move in t._chain:
        array = move_array(array, move)
    copy = turned(array, t._aval.dtype) or Buffer.from_array(np.ascontiguousarray(array))
    return recorder.tensor_from_buffer(copy, t._aval.shape, t._aval.dtype)


_LARGE = 1 << 18  # bytes of an array with its axes in another order from which a program copies it faster than NumPy
_TURNS: dict[tuple, Any] = {}  # programs that copy, by sizes as they lie, order and dtype
_MOST_TURNS = 64


def turned(array: np.ndarray, dtype: DType) -> Buffer | None:
    """A copy of a large array whose axes lie in another order than they are numbered; None where NumPy's is as good."""
    if array.nbytes < _LARGE or dtype.is_complex or min(array.strides) <= 0 or local.trace.eager or not jit.available():
        return None
    order = tuple(sorted(range(array.ndim), key=lambda d: (-array.strides[d], d)))
    lying = array.transpose(order)
    if lying.shape[-1] == 1 or order == tuple(range(array.ndim)) or array.flags.c_contiguous:
        return None
    back = tuple([order.index(d) for d in range(array.ndim)])
    key = lying.shape, back, dtype
    program = _TURNS.get(key)
    if program is None:
        from adjoint.runtime.program import compile_graph

        builder = GraphBuilder()
        node = builder.node("input", attrs=(0, lying.shape, dtype))
        program = compile_graph(builder.finish([builder.node("permute", node, attrs=back)]))
        if len(_TURNS) >= _MOST_TURNS:
            _TURNS.pop(next(iter(_TURNS)), None)
        _TURNS[key] = program
    return program.run([Buffer.wrap(np.ascontiguousarray(lying))], [])[0]


def share(array: np.ndarray, dtype: DType) -> Tensor:
    """A tensor on the memory of a C-contiguous array."""
    buffer = Buffer.wrap(array)
    t = recorder.tensor_from_buffer(buffer, array.shape, dtype)
    t._escape = Escape(buffer, array)
    t._special = True
    return t
