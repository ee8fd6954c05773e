"""What a garbage collection runs is recorded beside the trace it has come into.

A collection begins wherever an object is made, in the middle of an operation that is being recorded, too, and calls
finalizers, which may compute with tensors. Their operations go into a trace of their own, which ends with the collection:
between two lines of the recorder its own trace has not moved. What waits there for its value is to them like what waits in
another thread's trace (`recorder.from_other_thread`).

The interpreter tells `_collecting` of both, and prints what it raises. So what a signal's handler raises there, and a signal
that comes during a collection is mostly handled there, is raised again as soon as the collection is over (`_later`).
"""

from __future__ import annotations

import dis
import gc
import threading
from collections.abc import Iterable
from threading import get_ident
from typing import Any, NoReturn

from adjoint.trace import state
from adjoint.trace.ending import flush
from adjoint.trace.state import Trace, fast, local, present

_begun: dict[int, tuple[Trace | None, Trace]] = {}  # by thread, while it collects: its own trace and the one beside


def _collecting(phase: str, info: dict[str, Any]) -> None:
    late: Iterable[object] = ()
    try:
        beside = _turn(phase)
    except BaseException as error:
        beside, late = _turn(phase), _later(error)
    try:
        if beside is not None:
            flush(beside)
    except Exception:  # of what a finalizer has recorded: told of as other errors of finalizers are
        raise
    except BaseException as error:
        late = _later(error)
    _ = [*late]  # no call comes after it: there the interpreter would have raised it


def _turn(phase: str) -> Trace | None:
    """Let the thread record beside its trace, or there again. The trace beside, where something is left to run.

    Comes again after an interrupt.
    """
    thread, left = get_ident(), None
    if thread in _begun:
        own, beside = _begun[thread]
        if own is None:  # it was about to make its first trace: that is this one
            local.beside = None
        else:
            local.trace = own
            if fast.owner is beside:
                fast.take_over()
        if beside.handles or beside.mutated or beside.node.parent is not None:
            left = beside
        if left is None or phase == "stop":
            state._traces.pop(beside, None)
        else:  # an end that was interrupted at its first moment: found by its tensors
            local.beside = None
        del _begun[thread]
    if phase == "start":
        left = None
        if present.trace:
            _begin(thread)
    return left


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


class _Late:
    """An exception, raised where this is asked whether it is true."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __bool__(self) -> NoReturn:
        _waiting.remove(self)
        raise self.error


_waiting: list[_Late] = []  # referred to by the interpreter


def _later(error: BaseException) -> Iterable[object]:
    """To be gone through at last: has the interpreter raise an exception in the main thread, between two steps of the program."""
    import ctypes

    if threading.current_thread() is not threading.main_thread():
        raise error
    waiting = _Late(error)
    _waiting.append(waiting)
    call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.py_object)(("Py_AddPendingCall", ctypes.pythonapi))
    asked = ctypes.cast(ctypes.pythonapi.PyObject_IsTrue, ctypes.c_void_p)
    return map(call, (asked,), (waiting,))


def _without_looking_for_signals(function: Any) -> None:
    """Have the interpreter look for signals only after the first line of a function, not before: there nothing is caught yet.

    The step that it begins with says at which of a function's beginnings it is; it looks at that of a call, not at that after
    an `await` (https://docs.python.org/3/library/dis.html#opcode-RESUME).
    """
    code = function.__code__
    steps = bytearray(code.co_code)
    if steps[:2] == bytes([dis.opmap.get("RESUME", 0), 0]):
        steps[1] = 3
        function.__code__ = code.replace(co_code=bytes(steps))


def stand_by() -> None:
    """From now on, where the interpreter tells of its collections."""
    if hasattr(gc, "callbacks"):
        _without_looking_for_signals(_collecting)
        gc.callbacks.append(_collecting)
