"""`compile`: a whole call as one look-up, where everything the call can read is known to be unchanged.

The engine underneath remembers paths of operations, and a call of the same function over the same state records the same
path. A `Compiled` function watches a few calls (`Watch`): which of the user's functions run and what they can read
(`reach`), which tensors become inputs, which numbers are new each time, what the call changes. Where that is all there is
to it, the path and the changes become a `Replay`, which later calls take in one step, if the `Guard` holds: no line of the
function runs. Everything else runs as it always does. Read `Compiled.__call__`, then `Watch`.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import Any, ClassVar

from adjoint.compiler.reach import BELOW, STANDARD, Reach, Unwatched, is_user_code
from adjoint.methods import Tensor
from adjoint.trace.handle import blank, pending
from adjoint.trace.macro import bind_all, make_handle, static_key
from adjoint.trace.recorder import local
from adjoint.trace.state import ALIVE
from adjoint.trace.views import Views, point

WATCHED = 32  # calls watched in a row without success before the function is left alone
LEARNT = 1 / 32  # what a watched call counts that became known, in case none like it ever comes again
MAX_REPLAYS = 1024  # per place of the trie and function
MAX_STATES = 8  # states of its surroundings in which a function is known

_NUMBERS = (int, float, bool, complex, str, bytes, type(None))
_PURE_TYPES = (list, dict, tuple, str, set, frozenset, int, float, complex, bytes, bytearray, range, slice, type(None), types.ModuleType)
_PURE_MODULES = frozenset(("math", "cmath", "_operator", "itertools", "_functools", "_collections", "_struct"))
_PURE = frozenset(
    "len isinstance issubclass getattr hasattr setattr callable abs min max sum round divmod pow sorted repr ord chr all any iter "
    "next format hash id __build_class__ ascii bin hex oct delattr".split()
)


class Unrepeatable(Exception):
    """A call did something that cannot be done again by a look-up."""


def _impure(function: Any) -> bool:
    """Whether a builtin function may do or read what nothing here watches."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if isinstance(owner, types.ModuleType):
        name = owner.__name__
        return name not in _PURE_MODULES and not (name == "builtins" and function.__name__ in _PURE)
    if owner is not None:
        return not isinstance(owner, _PURE_TYPES) and not isinstance(owner, Tensor)
    return module not in _PURE_MODULES and not isinstance(function, types.MethodDescriptorType)


def _asked_by_user(frame: types.FrameType | None) -> bool:
    """Whether a frame, or what called it through Python's own modules, is the user's."""
    while frame is not None and frame.f_code.co_filename.startswith((STANDARD, "<frozen")) and not is_user_code(frame.f_code):
        frame = frame.f_back
    return frame is not None and is_user_code(frame.f_code)


class Watch:
    """One watched call: what the profiler's hook and the library tell of it.

    codes: the user's code objects that ran, with their globals.  fresh: (position among the trace's numbers, how many,
    what to ask for them).
    """

    def __init__(self) -> None:
        self.codes: dict[types.CodeType, dict] = {}
        self.problem = ""
        self.fresh: list[tuple[int, int, Any]] = []
        self.steps: list[tuple[Any, list]] = []

    def hook(self, frame: types.FrameType, event: str, arg: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code in self.codes:
                return
            if is_user_code(code):
                self.codes[code] = frame.f_globals
            elif code.co_filename.startswith(BELOW) and not self.problem:
                caller = frame.f_back
                if caller is not None and is_user_code(caller.f_code):
                    self.problem = f"it calls {code.co_name} of NumPy"
        elif event == "c_call":
            if not self.problem and _impure(arg) and _asked_by_user(frame):
                self.problem = f"it calls {getattr(arg, '__qualname__', arg)!s}"

    # What `ops.generators` and `optim.optimizer` tell, before they record the numbers.

    def drawn(self, generator: Any) -> None:
        self.fresh.append((len(local.trace.scalars), 2, generator.next_call))

    def stepped(self, optimizer: Any, group: Any, rule: Any, switches: Any, rows: list, count: int) -> None:
        states = [optimizer.state[row[0]] for row in rows]
        if not self.steps or self.steps[-1][0] is not optimizer:
            parts: list[Any] = []
            self.steps.append((optimizer, parts))
            self.fresh.append((len(local.trace.scalars), 0, functools.partial(optimizer.again, parts)))
        position, before, ask = self.fresh[-1]
        if position + before != len(local.trace.scalars):
            self.problem = self.problem or "an optimizer records numbers of its own"
        self.fresh[-1] = (position, before + count, ask)
        self.steps[-1][1].append((group, rule, switches, states))

    def stepped_on(self, optimizer: Any) -> None:
        if not self.steps or self.steps[-1][0] is not optimizer:
            self.problem = self.problem or "an optimizer's step had nothing to update"
        self.steps.append((None, []))  # another step of the same optimizer is another question


class Replay:
    """What a call does, once its tensors are bound: where the path leads, the numbers, the changes and the results.

    scalars: constants, with None where `asks` (question, how many) fill in.  mutated: (position among the tensors, slot,
    changes).  grads: (leaf, slot and aval or None).  result: the tree that `_build` follows.
    """

    __slots__ = ("asks", "end", "grads", "mutated", "result", "scalars")

    def __init__(self, end: Any, scalars: list, asks: list, mutated: list, grads: list, result: Any) -> None:
        self.end, self.scalars, self.asks = end, scalars, asks
        self.mutated, self.grads, self.result = mutated, grads, result


class Layout:
    """The tensors of a call besides its arguments, for one pattern of missing gradients: those it was found to read, and
    of which of these and the arguments it reads `.grad` (by position)."""

    __slots__ = ("captured", "gradients", "settled")

    def __init__(self) -> None:
        self.captured: list[Tensor] = []
        self.gradients: list[int] = []
        self.settled = False


class State:
    """A state of the surroundings: the guard, the code it was made for, and the leaves whose `.grad` may be missing."""

    def __init__(self, reach: Reach) -> None:
        self.guard = reach.guard
        self.codes = frozenset(reach.codes)
        self.tensors = reach.tensors
        self.optimizers = reach.optimizers
        self.leaves = [t for t in reach.tensors if t._leaf and t._aval.requires_grad]
        self.layouts: dict[tuple, Layout] = {}


class Compiled:
    """A function whose calls are remembered; see `adjoint.compile`.

    reason: why its last watched call could not be remembered, "" if it could.  replays: calls that were one look-up.
    """

    living: ClassVar[weakref.WeakSet[Compiled]] = weakref.WeakSet()

    def __init__(self, function: Callable[..., Any], fullgraph: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._fullgraph = fullgraph
        self.replays = 0
        self.forget()
        Compiled.living.add(self)

    def forget(self) -> None:
        """Watch again what the function does."""
        self._codes: dict[types.CodeType, dict] = {}
        self._states: dict[tuple, list[State]] = {}
        self._failures = 0.0
        self.reason = "it has not been called often enough to be known"

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)}: {self.replays} calls in one look-up{'; ' * bool(self.reason)}{self.reason}>"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if tr.eager or tr.static or tr.whole or tr.watch is not None or (self._failures >= WATCHED and not self._fullgraph):
            return self._function(*args, **kwargs)
        tensors: list[Tensor] = []
        shape: list[Any] = []
        objects: list[Any] = []
        for a in args:
            if isinstance(a, Tensor):
                tensors.append(a)
                shape.append(a._leaf)
            else:
                _flatten(a, tensors, shape, objects)
        if kwargs:
            for name, a in kwargs.items():
                shape.append(name)
                _flatten(a, tensors, shape, objects)
        surroundings = tuple([id(o) for o in objects])
        for state in self._states.get(surroundings, ()):
            if state.guard.holds():
                known, out = self._again(tr, state, tensors, tuple(shape))
                if known:
                    return out
                return self._watched(state, surroundings, tensors, tuple(shape), objects, args, kwargs)
        return self._watched(None, surroundings, tensors, tuple(shape), objects, args, kwargs)

    # ---- a known call --------------------------------------------------------------------------------------------------

    def _again(self, tr: Any, state: State, tensors: list[Tensor], shape: tuple) -> tuple[bool, Any]:
        """(True, the results) if the call is known here."""
        leaves = [*state.leaves, *[t for t in tensors if t._leaf and t._aval.requires_grad]]
        layout = state.layouts.get(tuple([t.grad is None for t in leaves]))
        if layout is None or not layout.settled:
            return False, None
        sources = [*tensors, *layout.captured]
        sources += [sources[k].grad for k in layout.gradients]
        for t in sources:
            if t._special:
                return False, None
        slots = bind_all(tr, sources)
        macros = tr.node.macros
        replay = macros.get((layout, slots, shape)) if macros is not None else None
        if replay is None or tr.flush_after:
            return False, None
        scalars = replay.scalars
        if replay.asks:
            scalars = _asked(scalars, replay.asks)
            if scalars is None:
                return False, None
        tr.scalars += scalars
        tr.node = replay.end
        tid, mutated, shared = tr.id, tr.mutated, []
        for k, slot, changes in replay.mutated:
            t = sources[k]
            t._version += changes
            if t._views is not None:
                shared.append((t, make_handle(tr, slot, t._aval)))
                continue
            if t._data is not None:
                mutated[id(t)] = t
                t._data = None
            elif t._tid != tid and t._tid != -tid:
                mutated[id(t)] = t
            t._tid = -tid if t._leaf and t._aval.requires_grad else tid
            t._slot = slot
        for k, found in replay.grads:
            leaves[k].grad = None if found is None else make_handle(tr, *found)
        for t, value in shared:
            point(t, value)
        self.replays += 1
        self._failures = 0.0
        result = replay.result
        if result[0] == "new":
            out = pending(tid, result[1], result[2])
            tr.handles.append(out)
            return True, out
        return True, _build(tr, result, sources, leaves, {})

    # ---- a call that is watched ----------------------------------------------------------------------------------------

    def _watched(
        self, state: State | None, surroundings: tuple, tensors: list[Tensor], shape: tuple, objects: list, args: tuple, kwargs: dict
    ) -> Any:
        """Run the function; learn from it what can be learnt."""
        if sys.getprofile() is not None:
            return self._function(*args, **kwargs)
        tr = local.trace
        self._failures += 1
        before: Before | None = None
        try:
            if state is None and self._codes:
                state = State(Reach(self._codes, (self._function, *objects)))
                known = self._states.setdefault(surroundings, [])
                known.insert(0, state)
                del known[MAX_STATES:]
            if state is not None:
                before = Before(tr, state, tensors)
        except (Unwatched, Unrepeatable) as reason:
            self._refuse(str(reason))
        watch = Watch()
        collecting = gc.isenabled()
        gc.disable()  # a collection runs what others have left behind, and keeps what this call leaves
        tr.watch = watch
        sys.setprofile(watch.hook)
        try:
            out = self._function(*args, **kwargs)
        finally:
            sys.setprofile(None)
            tr.watch = None
            if collecting:
                gc.enable()
        fresh = [code for code in watch.codes if code not in self._codes]
        self._codes.update(watch.codes)
        try:
            if watch.problem:
                raise Unrepeatable(watch.problem)
            if before is not None and state is not None and not fresh:
                if not state.codes.issuperset(watch.codes):
                    self._states.pop(surroundings, None)
                    raise Unrepeatable("it ran code that it had not run before")
                before.learn(tr, watch, out, shape)
                self._failures -= 1 - LEARNT
                self.reason = ""
        except Unrepeatable as reason:
            self._refuse(str(reason))
        return out

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        if self._fullgraph:
            raise RuntimeError(
                f"compile(fullgraph=True): a call of {getattr(self._function, '__qualname__', self._function)!s} cannot be remembered as "
                f"a whole: {reason}; leave fullgraph out, or take that out of the function"
            )


class Before:
    """How things stood before a watched call; `learn` compares."""

    def __init__(self, tr: Any, state: State, tensors: list[Tensor]) -> None:
        self.state, self.tensors = state, tensors
        self.leaves = [*state.leaves, *[t for t in tensors if t._leaf and t._aval.requires_grad]]
        self.kinds = tuple([t.grad is None for t in self.leaves])
        self.layout = state.layouts.setdefault(self.kinds, Layout())
        base = [*tensors, *self.layout.captured]
        self.sources: list[Any] = base + [base[k].grad for k in self.layout.gradients]
        if any([t._special for t in self.sources]):
            raise Unrepeatable("one of its tensors shares memory with NumPy, has hooks, or was computed in an earlier step")
        self.slots = bind_all(tr, self.sources)
        self.node, self.tid = tr.node, tr.id
        self.counts = len(tr.inputs), len(tr.scalars), len(tr.handles)
        self.bound = {id(t) for t in state.tensors if t._tid in (tr.id, -tr.id)}
        self.grads = [t.grad for t in self.leaves]
        self.payload, self.origins = len(tr.payload), len(tr.origins)
        everything = {id(t): t for t in (*self.sources, *state.tensors, *[g for g in self.grads if g is not None])}
        self.versions = [(t, t._version, t._aval, t._leaf) for t in everything.values()]
        self.placed = [(t._tid, t._slot, t._version) for t in self.sources]
        self.views = {id(v) for views in tr.viewed for v in views.recent}
        self.groups = [(g, dict(g)) for o in state.optimizers for g in o.param_groups]

    def learn(self, tr: Any, watch: Watch, out: Any, shape: tuple) -> None:
        """Make the call known, or find out which tensors it reads, or raise `Unrepeatable`."""
        self._check(tr)
        if not self._settle(tr):
            return
        handles = {}
        mutated = self._mutated(tr, handles)
        grads = self._gradients(tr, handles)
        result = self._describe(tr, out, handles, {})
        self._nothing_else(tr, handles)
        scalars: list[Any] = tr.scalars[self.counts[1] :]
        asks = []
        for position, count, ask in watch.fresh:
            at = position - self.counts[1]
            if at < 0 or at + count > len(scalars):
                raise Unrepeatable("it draws random numbers in NumPy")
            if count == 2 and not isinstance(ask, functools.partial) and ask.__self__._calls < scalars[at + 1]:
                raise Unrepeatable("it draws random numbers in NumPy")
            scalars[at : at + count] = [None] * count
            asks.append((at, count, ask))
        asks.sort(key=lambda ask: type(ask[2]) is not functools.partial)
        replay = Replay(tr.node, scalars, asks, mutated, grads, result)
        if self.node.macros is None:
            self.node.macros = {}
        elif len(self.node.macros) >= MAX_REPLAYS:
            self.node.macros.pop(next(iter(self.node.macros)))
        self.node.macros[(self.layout, self.slots, shape)] = replay

    def _check(self, tr: Any) -> None:
        if tr.id != self.tid:
            raise Unrepeatable("it reads a value (print, item, bool, numpy, ...), or is longer than a trace")
        if tr.flush_after or len(tr.payload) != self.payload:
            raise Unrepeatable("it uses hooks, a custom autograd function, or memory shared with NumPy")
        if not self.state.guard.holds():
            raise Unrepeatable(f"it changes {self.state.guard.changed()}")
        for group, entries in self.groups:
            if len(group) != len(entries) or any([group.get(k) is not v for k, v in entries.items()]):
                raise Unrepeatable("it changes the options of an optimizer")
        if any([t._aval is not a or t._leaf is not leaf for t, _, a, leaf in self.versions]):
            raise Unrepeatable("it changes whether a tensor requires a gradient")
        known = {id(t) for t in self.sources}
        if any([t._version != version and id(t) not in known for t, version, _, _ in self.versions]) and self.layout.settled:
            raise Unrepeatable("it changes a tensor that it does not read")

    def _settle(self, tr: Any) -> bool:
        """Whether all tensors that became inputs are known; else remember which, for the next call."""
        more = tr.inputs[self.counts[0] :]
        layout = self.layout
        if not more and layout.settled:
            return True
        if layout.settled and len(tr.origins) != self.origins:
            raise Unrepeatable("it continues the past of a tensor that it was not given")
        base = [*self.tensors, *layout.captured]
        reached = {id(t): t for t in self.state.tensors}
        gradient_of = {id(g): k for k, g in enumerate(self.grads) if g is not None}
        found = [t for t in self.state.tensors if id(t) in self.bound]
        for t in more:
            if id(t) in reached or id(t) not in gradient_of:
                found.append(t)
                if id(t) not in reached and t._tid == 0 and t._base is not None:
                    raise Unrepeatable("it reads a part of a tensor that is made anew at every call")
        for t in found:
            if not any(t is s for s in base):
                base.append(t)
        for t in more:
            k = gradient_of.get(id(t))
            if k is not None and id(t) not in reached:
                leaf = self.leaves[k]
                if not any(leaf is s for s in base):
                    base.append(leaf)
        gradients = set(layout.gradients)
        for t in more:
            k = gradient_of.get(id(t))
            if k is not None and id(t) not in reached:
                gradients.add(next(i for i, s in enumerate(base) if s is self.leaves[k]))
        if layout.settled and len(base) == len(self.tensors) + len(layout.captured) and gradients == set(layout.gradients):
            raise Unrepeatable("it reads different tensors at every call")
        fresh = Layout()
        fresh.captured, fresh.gradients, fresh.settled = base[len(self.tensors) :], sorted(gradients), True
        self.state.layouts[self.kinds] = fresh
        if not more and not fresh.captured:  # nothing but its arguments: known at once
            self.layout = fresh
            return True
        return False

    def _mutated(self, tr: Any, handles: dict) -> list:
        out = []
        for k, (t, slot, (_, _, version)) in enumerate(zip(self.sources, self.slots, self.placed, strict=True)):
            if any(t is s for s in self.sources[:k]):
                if t._version != version:
                    raise Unrepeatable("it changes a tensor that it was given twice")
                continue
            if t._version == version and t._slot == slot:
                continue
            if t._tid not in (tr.id, -tr.id) or t._data is not None or t._base is not None or t._special:
                raise Unrepeatable("it changes a view, or memory that is shared")
            out.append((k, t._slot, t._version - version))
            handles[id(t)] = t
        known = {id(t) for t in self.sources}
        if any([key not in known for key in tr.mutated if key not in {id(t) for t, *_ in self.versions}]):
            raise Unrepeatable("it changes a tensor that was made elsewhere")
        return out

    def _gradients(self, tr: Any, handles: dict) -> list:
        out: list[Any] = []
        for k, (leaf, old) in enumerate(zip(self.leaves, self.grads, strict=True)):
            g = leaf.grad
            if g is old:
                continue
            if g is None:
                out.append((k, None))
                continue
            if g._tid != tr.id or g._base is not None or g._data is not None or g._special or id(g) in handles:
                raise Unrepeatable("it makes a tensor the gradient of another that was not computed by backward()")
            out.append((k, (g._slot, g._aval)))
            handles[id(g)] = g
        return out

    def _describe(self, tr: Any, o: Any, handles: dict, bases: dict) -> tuple:
        """The tree by which `_build` makes the results anew."""
        if isinstance(o, Tensor):
            return self._describe_tensor(tr, o, handles, bases)
        if isinstance(o, _NUMBERS):
            return ("constant", o)
        kind = type(o)
        if kind in (tuple, list):
            return (kind.__name__, [self._describe(tr, x, handles, bases) for x in o])
        if kind is dict:
            return ("dict", [(key, self._describe(tr, x, handles, bases)) for key, x in o.items()])
        if isinstance(o, tuple) and hasattr(o, "_fields"):
            return ("fields", kind, [self._describe(tr, x, handles, bases) for x in o])
        if any(o is x for x in self.state.optimizers):
            return ("constant", o)
        raise Unrepeatable(f"it returns an object of type {kind.__qualname__}")

    def _describe_tensor(self, tr: Any, t: Tensor, handles: dict, bases: dict) -> tuple:
        for k, s in enumerate(self.sources):
            if s is t:
                return ("source", k)
        for k, leaf in enumerate(self.leaves):
            if leaf is t:
                return ("leaf", k)
            if leaf.grad is t:
                return ("gradient", k)
        if id(t) in bases:
            return ("same", id(t))
        if type(t) is not Tensor or t._data is not None or t._special or t._leaf or set(vars(t)) - {"_base", "_chain", "_views", "_version"}:
            raise Unrepeatable("it returns a tensor that is made of numbers at every call, or has hooks")
        handles[id(t)] = bases[id(t)] = t
        if t._base is None:
            if t._tid != tr.id:
                raise Unrepeatable("it returns a tensor of another step")
            return ("new", t._slot, t._aval, id(t))
        if any(isinstance(x, Tensor) for _, _, starts in t._chain for x in starts) or t._tid != tr.id:
            raise Unrepeatable("it returns a view at a place that was computed")
        base = t._base
        if not any(base is s for s in self.sources) and base._tid != tr.id:
            raise Unrepeatable("it returns a view of a tensor of another step")
        return ("view", self._describe_tensor(tr, base, handles, bases), t._chain, t._slot, t._aval, id(t))

    def _nothing_else(self, tr: Any, handles: dict) -> None:
        """No other tensor of the call is still held by somebody."""
        for h in tr.handles[self.counts[2] :]:  # a list of its own, which counts
            if getrefcount(h) > ALIVE + 1 and id(h) not in handles:
                raise Unrepeatable("it keeps a tensor somewhere else than in its result")
        for views in tr.viewed:
            for h in views.recent:
                if getrefcount(h) > ALIVE and id(h) not in handles and id(h) not in self.views:
                    raise Unrepeatable("it keeps a view somewhere else than in its result")


def _asked(scalars: list, asks: list) -> list | None:
    """The numbers of a call, with those that are new each time; None, with nothing changed, where they do not fit."""
    scalars = scalars[:]
    before = []
    for position, count, ask in asks:  # optimizers come first, since they may refuse
        if type(ask) is functools.partial:
            optimizer = ask.func.__self__
            if len(asks) > 1:
                before += [(s, dict(s), optimizer) for part in ask.args[0] for s in part[3]]
        numbers = ask()
        if numbers is None:
            for state, old, _ in before:
                state.clear()
                state.update(old)
            return None
        scalars[position : position + count] = numbers
    return scalars


def _flatten(a: Any, tensors: list, shape: list, objects: list) -> None:
    """An argument that is no tensor, or may be: its tensors, what it is made of, and the objects in it."""
    if isinstance(a, Tensor):
        tensors.append(a)
        shape.append(a._leaf)
    elif isinstance(a, _NUMBERS):
        shape.append(static_key(a))
    elif type(a) in (list, tuple):
        shape.append((type(a), len(a)))
        for x in a:
            _flatten(x, tensors, shape, objects)
    elif type(a) is dict:
        shape.append((dict, tuple(a)))
        for x in a.values():
            _flatten(x, tensors, shape, objects)
    else:
        shape.append(id(a))
        objects.append(a)


def _build(tr: Any, tree: tuple, sources: list, leaves: list, made: dict) -> Any:
    """The results of a call from their description."""
    kind = tree[0]
    if kind == "new":
        out = made[tree[3]] = make_handle(tr, tree[1], tree[2])
        return out
    if kind == "tuple":
        return tuple([_build(tr, x, sources, leaves, made) for x in tree[1]])
    if kind == "list":
        return [_build(tr, x, sources, leaves, made) for x in tree[1]]
    if kind == "dict":
        return {key: _build(tr, x, sources, leaves, made) for key, x in tree[1]}
    if kind == "fields":
        return tree[1](*[_build(tr, x, sources, leaves, made) for x in tree[2]])
    if kind == "constant":
        return tree[1]
    if kind == "source":
        return sources[tree[1]]
    if kind == "leaf":
        return leaves[tree[1]]
    if kind == "gradient":
        return leaves[tree[1]].grad
    if kind == "same":
        return made[tree[1]]
    _, of, chain, slot, a, key = tree
    base = _build(tr, of, sources, leaves, made)
    out = made[key] = blank()
    out._tid, out._slot, out._aval, out._base, out._chain = tr.id, slot, a, base, chain
    if base._views is None:
        base._views = Views()
    base._views.hold(tr, out)
    return out
