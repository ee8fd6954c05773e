"""What a garbage collection runs is recorded beside the trace it has come into.

A collection begins wherever an object is made, in the middle of an operation that is being recorded, too, and calls
finalizers, which may compute with tensors. Their operations go into a trace of their own, which ends with the collection:
between two lines of the recorder its own trace has not moved. What waits there for its value is to them like what waits in
another thread's trace (`recorder.from_other_thread`).
"""

from __future__ import annotations

import _thread
import gc
import threading
from threading import get_ident
from typing import Any

from adjoint.trace import state
from adjoint.trace.ending import flush
from adjoint.trace.state import Trace, fast, local, present

_begun: dict[int, tuple[Trace | None, Trace]] = {}  # by thread, while it collects: its own trace and the one beside


def _collecting(phase: str, info: dict[str, Any]) -> None:
    try:
        thread = get_ident()
        if thread in _begun:  # also where an interrupt has come in the middle of this
            _end(thread)
        if phase == "start" and present.trace:
            _begin(thread)
    except KeyboardInterrupt:  # which the interpreter would not let out of a collection
        _thread.interrupt_main()


def _begin(thread: int) -> None:
    """Let what is recorded from now on go into another trace, in the same modes."""
    own: Trace | None = vars(local).get("trace")
    beside = local.beside
    if beside is None:
        beside = local.beside = Trace()
    if own is not None:
        beside.eager, beside.grad, beside.default_dtype, beside.lowered = own.eager, own.grad, own.default_dtype, own.lowered
    beside.start()
    _begun[thread] = own, beside  # first: whatever comes now, the end of the collection finds it
    state._traces[beside] = state._traces.get(own or beside) or threading.current_thread()
    local.trace = beside
    if own is not None and fast.owner is own:
        fast.take_over()


def _end(thread: int) -> None:
    """Go on with the trace that was interrupted, and run what was recorded beside it.

    Where the thread was about to make its first one, that is the one beside.
    """
    own, beside = _begun[thread]
    if own is None:
        local.beside = None
    else:
        local.trace = own
        if fast.owner is beside:
            fast.take_over()
        state._traces.pop(beside, None)
    del _begun[thread]
    if beside.handles or beside.mutated or beside.node.parent is not None:
        flush(beside)


def stand_by() -> None:
    """From now on, where the interpreter tells of its collections."""
    if hasattr(gc, "callbacks"):
        gc.callbacks.append(_collecting)
