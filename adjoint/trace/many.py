"""Many tensors at once: their slots, for a macro, and new values for all of them, for an update.

`trace.native` puts its own versions in place of the Python ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import bind, flush, resumed
from adjoint.trace.state import Trace


def bind_all(tr: Trace, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Slots of several tensors, all in one trace (a new one if the present one ends here)."""
    return _bind_all(tr, tensors)


def point_all(tr: Trace, tensors: list[Tensor], slots: list[int]) -> list[int]:
    """Let tensors be slots of the trace, as an update does that is known here. Positions of those that were left as they
    are: others see their memory, or have views of it."""
    left: list[int] = []
    _point_all(tr, tensors, slots, left)
    return left


def bind_all_in_python(tr: Trace, tensors: Sequence[Tensor]) -> tuple[int, ...]:
    if tr.node.boundary or tr.node.cut:
        flush(tr)
    slots = _bound(tr, tensors)
    while slots is None:
        slots = resumed(tr, _bound, tr, tensors)
    return slots


def _bound(tr: Trace, tensors: Sequence[Tensor]) -> tuple[int, ...] | None:
    """The slots, or None if the trace has ended before the last of them was bound."""
    tid = tr.id
    slots = []
    for t in tensors:
        if t._tid == tid:
            slots.append(t._slot)
            continue
        data = t._data
        step = None if t._special or data is None or tr.eager else tr.node.kids.get(t._aval)
        if step is None or t._data is not data:
            slots.append(bind(tr, t))
            continue
        inputs, buffers = tr.inputs, tr.buffers
        tr.node = step  # as in `bind`: no calls in these lines
        inputs += (t,)
        buffers += (data,)
        t._tid = tid
        t._slot = step.slot
        slots.append(step.slot)
    return tuple(slots) if tr.id == tid else None


def point_all_in_python(tr: Trace, tensors: list[Tensor], slots: list[int], left: list[int]) -> None:
    tid, mutated = tr.id, tr.mutated
    for k, t in enumerate(tensors):
        if t._special or t._views is not None:
            left.append(k)
            continue
        if t._data is not None:
            mutated[id(t)] = t
            t._data = None
        t._tid = -tid if t._leaf and t._aval.requires_grad else tid
        t._slot = slots[k]
        t._version += 1


_bind_all: Any = bind_all_in_python
_point_all: Any = point_all_in_python
