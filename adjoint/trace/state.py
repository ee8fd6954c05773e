"""The trace of each thread: what it has recorded since it last ran anything.

`Trace` holds the place in the trie and the lists that grow with it; `local.trace` is this thread's. Making a step
(`new_step`) and entering it in the trie once it is complete (`publish`) are here too. What is recorded, and when a trace
ends, is decided above, in `recorder` and `ending`.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from adjoint import config, dtypes
from adjoint.dtypes import DType
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.listener import Listener
from adjoint.trace.trie import NO_CHILDREN, NO_MACROS, Step

if TYPE_CHECKING:
    from adjoint.trace.ending import Giving
    from adjoint.trace.repeat import Repetition

ALIVE = 3  # references to a handle that only the trace holds: the list, the loop variable, the argument

_ids = itertools.count(1)
new_id = _ids.__next__
_package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
counters = {"operations": 0, "traces": 0, "programs": 0, "flushes": 0, "nodes": 0}
rebased = [0]  # how often a tensor that was there already became a view, or a view of another (`ops.storage`)
look_at = 0  # number of new steps at which `bounds` looks whether the trie has become too large
_roots: dict[tuple, Step] = {}
by_line = False  # whether traces begin at roots below which steps differ by the user's line, too (`set_by_line`)
_MODE_KEYS = {False: ("mode", False), True: ("mode", True)}


def _root(eager: bool, family: Any = None) -> Step:
    step = Step(None, None, "root")
    step.family = family
    if eager:
        step.children = NO_CHILDREN
    elif by_line:
        _tell_lines_apart(step)
    return step


class Trace:
    """What one thread has recorded since its last flush.

    id: number of this trace, never reused.  node: place in the trie.  inputs, buffers: concrete tensors in order of
    first use, and their memory at that time.  scalars: run-time numbers in order.  handles: tensors that may be alive,
    but for views; those are held by the `Views` of their bases, of which `viewed` lists the ones that hold any.
    mutated: concrete tensors that were given a new value here.  grad: gradient mode.  static: numbers are baked in.
    whole: a derivative is being recorded, of which the steps should stay together.
    values: in reference mode the value of each slot that a derivative may need.
    watch: who is told of numbers that are new at every call, while one is watched (`compiler`) or mapped (`batch`).
    trail: changes in place that may fail: id of the tensor, its slot before or else its memory, its slot after.
    lowered: the dtype in which `autocast` wants products, or None.
    period: the repetition that was found in it.  looked: where it was last looked for (`repeat`).
    filled: the step after which a number was written to a pending tensor, and how many in a row (`elements`).
    giving: the trace before this one, while it is ended in place of its inputs (`in_place`).
    resumed: it began within the operation that is being recorded, whose operands are bound: it is not cut before that.
    saving: who puts away what its history keeps, within `saved_tensors_hooks` (`autograd.saved`).
    walked: its number, and the line and number of a derivative of several traces that came through one in it.
    pieces: whether the latest derivative went through traces that were cut in pieces (`pieces`).
    """

    __slots__ = (
        "id", "node", "inputs", "buffers", "scalars", "handles", "viewed", "mutated", "grad", "static", "eager",
        "default_dtype", "lowered", "scope", "origins", "payload", "values", "flush_after", "hist", "period",
        "looked", "whole", "watch", "giving", "trail", "filled", "pieces", "resumed", "saving", "walked",
    )  # fmt: skip

    def __init__(self) -> None:
        self.grad = True
        self.static = 0
        self.whole = 0
        self.eager = default_eager
        self.default_dtype = dtypes.float32
        self.lowered: DType | None = None
        self.scope: Any = None
        self.watch: Listener | None = None
        self.saving: Callable[[History, Collection[int]], None] | None = None
        self.filled: tuple[Step | None, int] = (None, 0)
        self.giving: Giving | None = None
        self.mutated: dict[int, Tensor] = {}
        self.origins: dict[int, tuple] = {}
        self.payload: dict[Any, Any] = {}
        self.values: dict[int, Any] = {}
        self.viewed: list[Any] = []
        self.looked = (0, 0)
        self.trail: list[tuple[int, Any, int]] = []
        self.pieces = self.resumed = False
        self.walked: tuple[int, tuple[Any, int] | None] = (0, None)
        self.node: Step = _root(True)
        self.start()

    def start(self) -> None:
        number, node = new_id(), self.root()
        self.id = number  # from here on no calls, between which a signal could come
        self.node = node
        self.inputs: list[Tensor] = []
        self.buffers: list[Any] = []
        self.scalars: list[Any] = []
        self.handles: list[Tensor] = []
        self.flush_after = False
        self.hist: History | None = None
        self.period: Repetition | None = None
        # mostly empty, and then kept; never cleared, because a history may share them
        if self.mutated:
            self.mutated = {}
        if self.origins:
            self.origins = {}
        if self.payload:
            self.payload = {}
        if self.values:
            self.values = {}
        if self.viewed:
            self.viewed = []
        if self.trail:
            self.trail = []

    def root(self, grad: bool | None = None, lowered: Any = ...) -> Step:
        """Where a trace begins after this one; or this one, in other modes, if it has no steps yet."""
        if self.eager:
            return _root(True)
        family = self.node.cut or None
        if family is True:  # a repetition
            family = None
        elif self.node.parent is None:
            family = self.node.family
        key = (self.grad if grad is None else grad, self.default_dtype, self.lowered if lowered is ... else lowered, family)
        found = _roots.get(key)
        if found is None:
            found = _roots[key] = _root(False, family)
        return found

    def history(self) -> History:
        """The record of this trace that outlives it (shared lists; completed by `flush`)."""
        if self.hist is None or self.hist.trace is None:  # the latter: interrupted while the trace ended
            self.hist = History(
                self.id, self, self.inputs, self.buffers, self.scalars, self.origins, self.payload, self.values
            )
        return self.hist

    def set_mode(self, grad: bool) -> None:
        """Gradient mode is a step of the path, so operations need no key for it.

        Whoever goes on in the mode that was there before uses `in_mode`.
        """
        while grad is not self.grad:
            node = self.node
            step = node.kids.get(_MODE_KEYS[grad])
            if step is None:
                step = self.root(grad) if node.parent is None else self.mode_step(grad)
            if self.node is node:  # else a signal handler or a finalizer has moved the trace
                self.node = step  # from here on no calls, between which a signal could come
                self.grad = grad

    def mode_step(self, grad: bool) -> Step:
        step = new_step(self, _MODE_KEYS[grad], "mode", (), grad)
        if grad and (any(t._tid == -self.id for t in self.mutated.values()) or (self.eager and self.mutated)):
            # leaves were updated: the iteration ends before the next operation with gradient
            step.children, step.boundary = NO_CHILDREN, True
        publish(self, step)
        return step

    def in_mode(self, grad: bool, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The function's result in a gradient mode; afterwards it is what it was, also where a signal's exception comes
        while it is being set or set back."""
        before = self.grad
        try:
            try:
                self.set_mode(grad)
                return function(*args, **kwargs)
            finally:
                self.set_mode(before)
        except BaseException:
            self.set_mode(before)
            raise

    def set_default_dtype(self, dtype: DType) -> None:
        if dtype is not self.default_dtype:
            self.default_dtype = dtype
            if self.node.parent is None:
                self.node = self.root()
            else:
                self.mark("mode", dtype)

    def set_lowered(self, dtype: DType | None) -> None:
        """Begin or end `autocast`: a step of the path, as gradient mode is."""
        while dtype is not self.lowered:
            node = self.node
            step = self.root(lowered=dtype) if node.parent is None else self.marked("mode", ("lowered", dtype))
            if self.node is node:  # else a signal handler or a finalizer has moved the trace
                self.node = step  # from here on no calls, between which a signal could come
                self.lowered = dtype

    def mark(self, prim: str, attrs: Any) -> Step:
        """Append a step without a value."""
        self.node = step = self.marked(prim, attrs)
        return step

    def marked(self, prim: str, attrs: Any) -> Step:
        """The step that `mark` appends."""
        key = (prim, attrs)
        step = self.node.kids.get(key)
        if step is None:
            step = new_step(self, key, prim, (), attrs)
            publish(self, step)
        return step


default_eager = config.get("ADJOINT_EAGER")


def is_wanted(tr: Trace) -> bool:
    """Whether somebody besides the trace holds a tensor that is to be computed yet, or a derivative may lead back from."""
    own = Counter(map(id, (*tr.handles, *tr.inputs, *tr.mutated.values())))
    changed = [t for t in tr.mutated.values() if t._data is None]
    own.update(map(id, changed))
    made = [h for h in tr.handles if h._data is None or h._aval.requires_grad]
    own.update(map(id, made))
    return any([getrefcount(t) >= ALIVE + own[id(t)] for some in (made, changed) for t in some])


_traces: dict[Trace, threading.Thread] = {}  # of all threads, and of ended ones whose tensors are still held


# Held where a tensor is read and changed as a unit, while several threads have a trace (`several`).
changing = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=changing._at_fork_reinit)  # type: ignore[attr-defined]


def several() -> bool:
    """Whether more than one thread has a trace, or one that has ended left what is still held."""
    return len(_traces) > 1


class _Present(threading.local):
    """Whether this thread has a trace, or is making it: asked without making one."""

    trace = False


class _Local(threading.local):
    beside: Trace | None = None  # what it records during a collection (`aside`)

    def __init__(self) -> None:
        present.trace = True
        made = Trace()
        self.trace = vars(self).get("trace", made)  # a collection came in between, and what it ran has computed
        for known, thread in list(_traces.items()):
            if not thread.is_alive() and not is_wanted(known):
                _traces.pop(known, None)  # another new thread may be at the same
        _traces[self.trace] = threading.current_thread()


present = _Present()
local = _Local()


class _Fast:
    """The trace on which the native fast path works, and how to hand it another (None before `native.install`)."""

    __slots__ = ("owner", "claim")

    def __init__(self) -> None:
        self.owner: Trace | None = None
        self.claim: Any = None

    def take_over(self) -> None:
        """Let the native fast path work for this thread."""
        if self.claim is not None:
            mine = local.trace  # not read back from `owner`: another thread may have its turn in between
            self.owner = mine
            self.claim(mine)


fast = _Fast()


def current() -> Trace:
    """This thread's trace."""
    return local.trace


def user_frame() -> tuple[str, int, str] | None:
    """File, line and function of the innermost call from outside the package."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_package):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return None
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that points to the innermost call from outside the package, where Python counts how often it has come."""
    frame, level = sys._getframe(0), 1
    while frame is not None and frame.f_code.co_filename.startswith(_package):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


def new_step(tr: Trace, key: Any, prim: str, args: tuple, attrs: Any) -> Step:
    step = Step(tr.node, key, prim, args, attrs)
    step.scope, step.whole = tr.scope, tr.whole > 0
    if tr.eager:
        step.children = NO_CHILDREN
    elif by_line and type(tr.node.kids) is ByLine:
        _tell_lines_apart(step)
    return step


class ByLine(dict):
    """Children of a step, of which each was recorded at one line of the user's code."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get((key, user_frame()), default)

    def __setitem__(self, key: Any, step: Step) -> None:
        lined = key, user_frame()
        if step.key is key:
            step.key = lined
        super().__setitem__(lined, step)


def _tell_lines_apart(step: Step) -> None:
    step.children, step.kids, step.macros = NO_CHILDREN, ByLine(), NO_MACROS


def roots() -> list[Step]:
    """Where traces begin that share steps."""
    return list(_roots.values())


def drop_roots(family: Any) -> None:
    """Forget where pieces of a family's traces begin."""
    for key in [key for key in list(_roots) if key[-1] is family]:
        _roots.pop(key, None)


def set_by_line(value: bool) -> None:
    """Let traces begin at roots of their own, below which `where` is the line that has recorded a step, not the first that
    did, and nothing is known by memory; or at the ordinary roots. The caller has ended its trace, those of other threads
    go on where they are."""
    global _roots, by_line
    if value is not by_line:
        by_line = value
        _roots = {key[1:] if key[0] == "aside" else ("aside", *key): root for key, root in _roots.items()}


def publish(tr: Trace, step: Step) -> None:
    """Make a finished step findable (only after it succeeded; in reference mode never).

    Where it was made for: a signal handler or a finalizer may have moved the trace since.
    """
    if not tr.eager and step.parent is not None:
        if counters["nodes"] >= look_at:
            from adjoint.trace import bounds

            bounds.look()
        step.parent.kids[step.key] = step
        counters["nodes"] += 1
