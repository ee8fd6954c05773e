"""What is noticed while a function is watched: which code runs, what it calls, which numbers are new at every call.

The interpreter's profiling hook tells of calls; the library tells of random draws and optimizer steps (`Trace.watch`), whose
numbers a later call asks for anew. A builtin function that is not known to be pure (printing, clocks, files, NumPy) makes
a call unrepeatable.
"""

from __future__ import annotations

import functools
import os
import types
from typing import Any

from adjoint.compiler.pure import impure, known_module, of_python
from adjoint.compiler.reach import BELOW, PACKAGE, is_user_code
from adjoint.ops import generators
from adjoint.trace.listener import Listener
from adjoint.trace.recorder import local

# Functions of this package whose answer hangs on more than what a guard holds of a tensor, or that change what no call gives back.
_TELLING = frozenset(
    "data_ptr untyped_storage grad_fn get_num_threads set_num_threads set_printoptions stats why".split()
)
_OUTSIDE = tuple(PACKAGE + part + os.sep for part in ("io", "viz", "demo", "testing"))  # parts that read and write files, or run others


class Unrepeatable(Exception):
    """A call did something that cannot be done again by a look-up."""


def _asked_by_user(frame: types.FrameType | None) -> bool:
    """Whether a frame, or what called it through Python's own modules, is the user's."""
    while frame is not None and of_python(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None and is_user_code(frame.f_code)


def _generated(frame: types.FrameType) -> bool:
    """Whether code without a file was made by Python for a class of a library (dataclasses), or for a named tuple."""
    if frame.f_code.co_filename != "<string>" and not frame.f_code.co_filename.startswith("<__"):
        return False
    name = frame.f_globals.get("__name__", "")
    return name.startswith(("namedtuple_", "adjoint.", "numpy.", "llvmlite."))


def _importing(frame: types.FrameType | None) -> bool:
    """Whether a frame is inside an import: this package loads parts of itself late, and finders of others look for them."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib"):
            return True
        if file.startswith(PACKAGE):
            return False
        frame = frame.f_back
    return False


class Watch(Listener):
    """One watched call: what the profiler's hook and the library tell of it.

    codes: the user's code objects that ran, with their globals.  fresh: (position among the trace's numbers, how many,
    what to ask for them).
    """

    def __init__(self) -> None:
        super().__init__()
        self.codes: dict[types.CodeType, dict] = {}
        self.problem = ""
        self.fresh: list[tuple[int, int, Any]] = []
        self.steps: list[tuple[Any, list]] = []

    def hook(self, frame: types.FrameType, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            known = self.codes.get(code)
            if known is not None:
                if known is not frame.f_globals:
                    self.problem = self.problem or f"{code.co_name!r} runs with two sets of global names"
                return
            if is_user_code(code):
                if not _generated(frame) and not _importing(frame.f_back):
                    self.codes[code] = frame.f_globals
            elif self.problem:
                return
            elif of_python(code.co_filename):
                if not known_module(code.co_filename) and _asked_by_user(frame.f_back):
                    self.problem = f"it calls {code.co_name} of Python's library"
            elif code.co_filename.startswith(PACKAGE):
                told = code.co_name in _TELLING or code.co_filename.startswith(_OUTSIDE)
                told = told or (code.co_filename == generators.__file__ and code.co_name not in ("next_call", "stream"))
                if told and _asked_by_user(frame.f_back):
                    self.problem = f"it calls {code.co_name}, which does more than its tensors tell"
            elif code.co_filename.startswith(BELOW) and not self.problem:
                caller = frame.f_back
                if caller is not None and is_user_code(caller.f_code):
                    self.problem = f"it calls {code.co_name} of NumPy"
        elif event == "c_call":
            if not self.problem and impure(arg) and _asked_by_user(frame) and not _importing(frame):
                self.problem = f"it calls {getattr(arg, '__qualname__', arg)!s}"

    # What `ops.generators`, `optim.optimizer` and `batch.vmap` tell, before they record the numbers.

    def give_up(self, problem: str) -> None:
        self.problem = self.problem or problem

    def set(self, generator: Any) -> None:
        self.give_up("it sets the state of a random generator")

    def drawn(self, generator: Any) -> None:
        self.fresh.append((len(local.trace.scalars), 2, generator.next_call))

    def stepped(self, optimizer: Any, group: Any, kind: Any, rows: list, count: int) -> None:
        states = [optimizer.state[row[0]] for row in rows]
        if not self.steps or self.steps[-1][0] is not optimizer:
            parts: list[Any] = []
            self.steps.append((optimizer, parts))
            self.fresh.append((len(local.trace.scalars), 0, functools.partial(optimizer.again, parts)))
        position, before, ask = self.fresh[-1]
        if position + before != len(local.trace.scalars):
            self.give_up("an optimizer records numbers of its own")
        self.fresh[-1] = (position, before + count, ask)
        self.steps[-1][1].append((group, kind, states))

    def stepped_on(self, optimizer: Any) -> None:
        if not self.steps or self.steps[-1][0] is not optimizer:
            self.give_up("an optimizer's step had nothing to update")
        self.steps.append((None, []))  # another step of the same optimizer is another question
