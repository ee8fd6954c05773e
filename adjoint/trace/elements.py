"""Single elements of tensors that have their value: read and written in memory, without a step of the trace.

A loop of `x[i].item()` and `x[i] = number` looks at one number after the other. Reading through a view whose base is in
memory needs no program: the number is there, and a trace of which the view is the end goes back to where it was before
(`read`). Writing needs none where nobody else counts on the value that the memory has now (`write`): no trace, no
history, no array outside; a tensor that waits for its value gets it when the loop has written some numbers (`recorded`).
Everything else is recorded, as ever. The same as native code: `native_elements`.
"""

from __future__ import annotations

import weakref
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.storage import decode
from adjoint.trace.handle import Tensor
from adjoint.trace.moves import move_array
from adjoint.trace.recorder import realize, refresh_special
from adjoint.trace.state import ALIVE, Trace, fast, local
from adjoint.trace.trie import Step, above
from adjoint.trace.views import OWNED, UNSHARED, Views

PLAIN = frozenset(("slice", "reshape", "permute", "expand"))
FILLED = 8  # numbers written to a pending tensor, one after the other, before the trace ends
REPEATING = 1000  # numbers read and written here after which that becomes native code
# Of each dtype whose memory holds numbers as NumPy has them: the largest float, and from which to which int they are exact.
_LIMITS: dict[dtypes.DType, tuple[float, int, int]] = {
    dtypes.float32: (3e38, -(1 << 24), 1 << 24),
    dtypes.float64: (1e308, -(1 << 53), 1 << 53),
    dtypes.bool: (0.0, 0, 1),
    dtypes.uint8: (0.0, 0, 255),
    **{getattr(dtypes, f"int{bits}"): (0.0, -(1 << bits - 1), (1 << bits - 1) - 1) for bits in (8, 16, 32, 64)},
}
_numbers = 0


def read(t: Tensor) -> Any:
    """The number in a view of one element, if its base is in memory; None where it is not that plain."""
    base, tr = t._base, local.trace
    data = base._data
    if data is None or t._data is not None or base._escape is not None or tr.eager or tr.watch is not None:
        return None
    a = base._aval
    array = data.array(a.dtype.np, a.key_shape)
    for move in t._chain:
        if move[0] not in PLAIN or any([type(s) is not int for s in move[2]]):
            return None
    first = t._chain[0]
    if first[0] == "slice" and len(first[2]) == len(a.key_shape):  # a start for each axis: the element itself
        array = array[first[2]]
    else:
        for move in t._chain:
            array = move_array(array, move)
    if t._tid == tr.id and t._slot == tr.node.slot:
        take_back(tr, t)
    _count()
    return array.item() if a.dtype in _LIMITS else decode(np.asarray(array), t._aval.dtype).item()


def take_back(tr: Trace, t: Tensor) -> None:
    """Undo the recording of a view that is the end of the trace; it will replay its movement should it be used again."""
    base, views, node = t._base, t._base._views, tr.node
    if tr.hist is not None or tr.period is not None or tr.static or t._aval.requires_grad:
        return
    if views is None or views.owner is not tr or not views.recent or views.recent[-1] is not t:
        return
    slot = t._slot
    for move in reversed(t._chain):  # each of its steps is there, and made of the one before
        if node.slot != slot or node.prim != move[0] or len(node.scalars) != len(move[2]):
            return
        slot = node.args[0]
        node = above(node)
    if base._tid != tr.id or base._slot != slot:
        return
    recent, first = views.recent, len(views.recent) - 1
    while first:  # views on the way to this one: taken back with it, unless somebody holds them
        v = recent[first - 1]
        if v._tid != tr.id or v._slot <= node.slot:
            break
        if getrefcount(v) > ALIVE:
            return
        first -= 1
    count = node.scalars_before + len(node.scalars)
    bound = node.prim == "input" and not base._special and base._tid == tr.id and base._slot == node.slot and tr.inputs[-1] is base
    scalars, inputs, buffers = tr.scalars, tr.inputs, tr.buffers
    if bound:
        node = above(node)
        tr.node = node  # as in `bind`: no calls in these lines
        del scalars[count:], inputs[-1], buffers[-1]
        base._tid = 0
    else:
        tr.node = node
        del scalars[count:]
    t._tid = 0
    del recent[first:]
    if not recent and tr.viewed and tr.viewed[-1] is views:
        tr.viewed.pop()
    keep_stale(views, t)


def keep_stale(views: Views, t: Tensor) -> None:
    views.stale[id(t)] = weakref.ref(t)
    if len(views.stale) > views.limit:
        views.stale = {k: r for k, r in views.stale.items() if r() is not None}
        views.limit = max(32, 2 * len(views.stale))


def write(x: Tensor, index: tuple[int, ...], value: Any) -> bool:
    """Write a number into one element in memory (of indices within range); False where it has to be recorded."""
    escape = x._escape
    if escape is not None and not escape.active():
        x._escape = escape = None
        refresh_special(x)
    tr, buffer, a = local.trace, x._data, x._aval
    if x._special or x._base is not None or a.requires_grad or tr.eager:
        return False
    limits = _LIMITS.get(a.dtype)
    if limits is None:
        return False
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if kind is float:
        if not -limits[0] < value < limits[0]:
            return False
    elif kind is not int and kind is not bool or not limits[1] <= value <= limits[2]:
        return False
    if buffer is None:
        if tr.filled[0] is not tr.node or tr.filled[1] < FILLED or x._tid != tr.id or tr.static or tr.watch is not None:
            return False
        buffer = realize(x)
        if x._special:
            return False
    if getrefcount(buffer) > OWNED + buffer.pooled or getrefcount(buffer.mem) > UNSHARED or not buffer.mem.flags.writeable:
        return False
    if x._views is not None:
        x._views.forget()
        if x._views.gone():
            x._views = None
    buffer.array(a.dtype.np, a.key_shape)[index] = value
    x._version += 1
    _count()
    return True


def recorded(node: Step) -> None:
    """A number was written to a pending tensor: the trace is a step longer. `node`: where it was before.

    A loop of many would be a program of as many steps, and another one for any other number of them.
    """
    tr = local.trace
    before, count = tr.filled
    tr.filled = tr.node, count + 1 if before is node else 1


def _count() -> None:
    """Have loops of single numbers done by native code: they need not come to the end of a trace, where it is put in place."""
    global _numbers
    _numbers += 1
    if _numbers == REPEATING and fast.claim is None:
        from adjoint.trace import native

        native.install()
