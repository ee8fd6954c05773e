"""`compile`: a whole call as one look-up, where everything the call can read is known to be unchanged.

The engine underneath remembers paths of operations, and a call of the same function over the same state records the same
path. A `Compiled` function watches a few calls (`Watch`): which of the user's functions run and what they can read
(`reach`), which tensors become inputs, which numbers are new each time, what the call changes. Where that is all there is
to it, the path and the changes become a `Replay`, which later calls take in one step, if the `Guard` holds: no line of the
function runs. Everything else runs as it always does. Read `Compiled.__call__`, then `learn`.
"""

from __future__ import annotations

import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from adjoint.compiler.direct import Direct
from adjoint.compiler.known import MAX_REPLAYS, Layout, Replay, State
from adjoint.compiler.learn import Before, is_special
from adjoint.compiler.quick import Quick, link
from adjoint.compiler.reach import PRIMITIVES, Unwatched, reach
from adjoint.compiler.steps import Step, key_of
from adjoint.compiler.watch import Unrepeatable, Watch
from adjoint.methods import Tensor
from adjoint.runtime.garbage import without_collections
from adjoint.trace.aval import aval
from adjoint.trace.handle import Parameter, blank
from adjoint.trace.macro import make_handle, static_key
from adjoint.trace.many import bind_all
from adjoint.trace.recorder import flush, local
from adjoint.trace.state import rebased
from adjoint.trace.views import Views, point

WATCHED = 32  # calls watched in a row without success before the function is left alone
LEARNT = 1 / 32  # what a watched call counts that became known, in case none like it ever comes again
PLACES = 64  # places of the trie at which a call is learnt before it is only asked for at the beginning of a trace
MAX_STATES = 8  # states of its surroundings in which a function is known
MAX_OBJECTS = 32  # arguments that are objects, for which that many states each are kept


class Compiled:
    """A function whose calls are remembered; see `adjoint.compile`.

    reason: why its last watched call could not be remembered, "" if it could.  replays: calls that were one look-up.
    """

    __slots__ = ("_record", "__dict__", "__weakref__")  # the first as native code reads it

    living: ClassVar[weakref.WeakSet[Compiled]] = weakref.WeakSet()

    def __init__(self, function: Callable[..., Any], fullgraph: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self._function = function
        self._fullgraph = fullgraph
        self._replays = 0
        self._quick: dict[tuple, Quick] = {}
        self.forget()
        Compiled.living.add(self)

    def forget(self) -> None:
        """Watch again what the function does."""
        self._codes: dict[types.CodeType, dict] = {}
        self._states: dict[tuple, list[State]] = {}
        self._replays = self.replays
        self._record: Any = None  # the first of the records of `_quick`
        self._quick = {}
        self._steps: dict[tuple, Step] = {}
        self._seen = False  # whether a call was watched, so that its code is known
        self._failures = 0.0
        self.reason = "it has not been called often enough to be known"

    @property
    def replays(self) -> int:
        return self._replays + sum([q.replays for q in self._quick.values()])

    def __reduce__(self) -> Any:
        """A copy knows no calls; one that stands for a name of a module is found there."""
        found: Any = sys.modules.get(getattr(self, "__module__", None) or "")
        name = getattr(self, "__qualname__", "?")
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        return Compiled, (self._function, self._fullgraph)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)}: {self.replays} calls in one look-up{'; ' * bool(self.reason)}{self.reason}>"

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if self._quick and not kwargs:
            found = self._quick.get((tr.node, *[getattr(a, "_aval", None) for a in args]))
            if found is not None and not (tr.static or tr.whole) and tr.watch is None:
                new = found.record is False
                out = found.call(args)
                if out is not None:
                    if new:
                        self._record = link(self._quick.values())
                    self._replays += 1
                    return out
        if tr.eager or tr.static or tr.whole or tr.watch is not None or (self._failures >= WATCHED and not self._fullgraph):
            return self._function(*args, **kwargs)
        key = None if kwargs or not self._steps else key_of(tr.node, args)
        step = self._steps.get(key) if key is not None else None
        if step is not None:
            taken = step.call(args, _asked)
            if taken is not None:
                return self._delivered(tr, step.replay, step.direct, step.layout, taken[0], step.leaves, *taken[1:])
        tensors: list[Tensor] = []
        shape: list[Any] = []
        objects: list[Any] = []
        containers: list[int] = []
        for a in args:
            if a.__class__ is Tensor:
                tensors.append(a)
                shape.append(a._leaf if a._base is None else _place(a))
            else:
                _flatten(a, tensors, shape, objects, containers)
        if kwargs:
            for name, a in kwargs.items():
                shape.append(name)
                _flatten(a, tensors, shape, objects, containers)
        surroundings = tuple([id(o) for o in objects])
        for state in self._states.get(surroundings, ()):
            if state.guard.holds():
                known, out = self._again(tr, state, tensors, tuple(shape), containers, None if kwargs or objects else args)
                if known:
                    return out
                return self._watched(state, surroundings, tensors, tuple(shape), objects, containers, args, kwargs)
        return self._watched(None, surroundings, tensors, tuple(shape), objects, containers, args, kwargs)

    # ---- a known call --------------------------------------------------------------------------------------------------

    def _again(
        self, tr: Any, state: State, tensors: list[Tensor], shape: tuple, containers: list[int], args: tuple | None, ended: bool = False
    ) -> tuple[bool, Any]:  # fmt: skip
        """(True, the results) if the call is known here. args: if they are all of the call.  ended: the trace was ended for it."""
        arguments = shape
        leaves = [*state.leaves, *[t for t in tensors if t._leaf and t._aval.requires_grad]]
        layout = state.layouts.get((len(tensors), *[t._grad is None for t in leaves]))
        if layout is None or not layout.settled:
            return False, None
        if layout.rebased != rebased[0] and layout.moved():
            state.layouts = {}
            return False, None
        if (containers or state.tags or state.reads_grad) and not state.fits(tensors, containers):
            return False, None
        if tr.node.boundary or tr.node.cut:  # first, so that what it computes has its memory
            flush(tr)
        sources = [*tensors, *layout.captured]
        if layout.gradients:
            gradients = [sources[k]._grad for k in layout.gradients]
            if any([g is None or g._base is not None for g in gradients]):
                return False, None
            sources += gradients
        buffers = [t._data for t in sources if not is_special(t)]
        if len(buffers) < len(sources):
            return False, None
        key = None
        aliases = layout.aliases(tensors, leaves)
        if aliases:
            shape += aliases
        elif tr.node.parent is None and None not in buffers:
            key = (shape, tr.node, *[t._aval for t in tensors])
            if layout.gradients:
                key = (*key, *[g._aval for g in gradients]) if len({*map(id, sources)}) == len(sources) else None
        if key is not None:
            known = layout.direct.get(key)
            if known is not None:
                replay, direct = known
                if not any([sources[k]._views is not None for k, _, _ in direct.mutated]):
                    numbers = _asked(replay.scalars, replay.asks)
                    if numbers is None:
                        return False, None
                    out = direct.attempt(sources, leaves, buffers, numbers)
                    if out is not None and not containers:
                        if len(tensors) == len(shape) and not (replay.asks or state.tags or state.reads_grad):
                            self._quicken(tr.node, state, layout, replay, direct, tensors)
                        if args is not None:
                            self._shorten(key_of(tr.node, args), state, layout, replay, direct, len(tensors), sources)
                    return True, self._delivered(tr, replay, direct, layout, sources, leaves, numbers, out)
        slots = bind_all(tr, sources)
        here = layout.replays.get((tr.node, slots, shape))
        if here is None and not ended and len(layout.replays) >= PLACES:
            flush(tr)
            return self._again(tr, state, tensors, arguments, containers, None, True)
        if here is None or tr.flush_after:
            return False, None
        scalars = _asked(here.scalars, here.asks)
        if scalars is None:
            return False, None
        return True, self._jump(tr, here, layout, key, scalars, sources, leaves)

    def _jump(self, tr: Any, replay: Replay, layout: Layout, key: tuple | None, scalars: list, sources: list, leaves: list) -> Any:
        """Move on in the trie, change what the call changes, and make the results."""
        tr.node = replay.end  # no calls in these lines
        tr.scalars += scalars
        for k, found in replay.grads:
            leaves[k]._grad = None if found is None else make_handle(tr, *found)
        for k, slot, changes in replay.mutated:
            t = sources[k]
            a = t._aval
            point(t, make_handle(tr, slot, aval(a.shape, a.dtype) if t._leaf and a.requires_grad else a))
            t._version += changes - 1
        self._replays += 1
        self._failures = 0.0
        out = _build(functools.partial(make_handle, tr), replay.result, sources, leaves, {})
        if key is not None and not replay.lasting:
            flush(tr)
            direct = Direct.of(replay, sources)
            if direct is None:
                replay.lasting = True
            else:
                layout.remember(key, replay, direct)
        return out

    def _delivered(
        self, tr: Any, replay: Replay, direct: Direct, layout: Layout, sources: list, leaves: list, numbers: list, out: list | None
    ) -> Any:  # fmt: skip
        """The results of a call that ran at once."""
        if out is None:  # what cannot be computed says so when it is read, as it would without `compile`
            bind_all(tr, sources)
            return self._jump(tr, replay, layout, None, numbers, sources, leaves)
        self._replays += 1
        self._failures = 0.0
        make = direct.maker(out, sources, numbers)
        if replay.result[0] == "new":
            return make(replay.result[1], replay.result[2])
        return _build(make, replay.result, sources, leaves, {})

    def _shorten(self, key: tuple | None, *what: Any) -> None:
        """Let a call take a step, which `what` makes."""
        if key is not None:
            if len(self._steps) >= MAX_REPLAYS:
                self._steps = {}
            self._steps[key] = Step(*what)

    def _quicken(self, root: Any, state: State, layout: Layout, replay: Replay, direct: Direct, tensors: list[Tensor]) -> None:
        """Let a call of tensors that makes one tensor, and is nothing else, take the shortest way."""
        key = (root, *[t._aval for t in tensors])
        known = self._quick.get(key)
        if known is not None and known.direct is direct:
            return  # it does not fit just now
        quick = Quick.of(root, state.guard, replay, direct, layout, tensors)
        if quick is not None:
            if known is not None:
                self._replays += known.replays
            elif len(self._quick) >= MAX_REPLAYS:
                self._replays, self._quick = self.replays, {}
            self._quick[key] = quick
            self._record = link(self._quick.values())

    # ---- a call that is watched ----------------------------------------------------------------------------------------

    def _watched(
        self, state: State | None, surroundings: tuple, tensors: list[Tensor], shape: tuple, objects: list, containers: list[int],
        args: tuple, kwargs: dict,
    ) -> Any:  # fmt: skip
        """Run the function; learn from it what can be learnt."""
        if sys.getprofile() is not None:
            return self._function(*args, **kwargs)
        tr = local.trace
        self._failures += 1
        before: Before | None = None
        try:
            if state is None and self._seen:
                roots = (self._function, *objects)
                state = State(reach(self._codes, roots), roots)
                if surroundings not in self._states and len(self._states) >= MAX_OBJECTS:
                    self._states.pop(next(iter(self._states)))
                known = self._states.setdefault(surroundings, [])
                known.insert(0, state)
                del known[MAX_STATES:]
            if state is not None:
                before = Before(tr, state, tensors, containers)
        except (Unwatched, Unrepeatable) as reason:
            self._refuse(str(reason))
        watch = Watch()
        # a collection would run what others have left behind, and keep what this call leaves
        out = without_collections(self._run_under, watch, tr, args, kwargs)
        fresh = [code for code in watch.codes if code not in self._codes]
        self._codes = {**watch.codes, **self._codes}
        self._seen = True
        try:
            if any([self._codes.get(code, names) is not names for code, names in watch.codes.items()]):
                self.forget()
                raise Unrepeatable("code runs with two sets of global names")
            if watch.problem:
                raise Unrepeatable(watch.problem)
            if before is not None and state is not None and not fresh:
                if not state.codes.issuperset(watch.codes):
                    self._states.pop(surroundings, None)
                    raise Unrepeatable("it ran code that it had not run before")
                if _shape_of(args, kwargs) != (shape, containers, [id(t) for t in tensors]):
                    raise Unrepeatable("it changes what it was given")
                before.learn(tr, watch, out, shape)
                self._failures -= 1 - LEARNT
                self.reason = ""
        except Unrepeatable as reason:
            self._refuse(str(reason))
        return out

    def _run_under(self, watch: Watch, tr: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        try:
            tr.watch = watch
            sys.setprofile(watch.hook)
            return self._function(*args, **kwargs)
        finally:
            tr.watch = None
            sys.setprofile(None)

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        if self._fullgraph:
            raise RuntimeError(
                f"compile(fullgraph=True): a call of {getattr(self._function, '__qualname__', self._function)!s} cannot be remembered as "
                f"a whole: {reason}; leave fullgraph out, or take that out of the function"
            )


def _asked(scalars: list, asks: list) -> list | None:
    """The numbers of a call, with those that are new each time; None, with nothing changed, where they do not fit."""
    if not asks:
        return scalars
    scalars = scalars[:]
    before = []
    for position, count, ask in asks:  # optimizers come first, since they may refuse
        if type(ask) is functools.partial and len(asks) > 1:
            optimizer = ask.func.__self__  # type: ignore[attr-defined]
            before.append((optimizer, optimizer.steps_taken, [(s, dict(s)) for part in ask.args[0] for s in part[2]]))
        numbers = ask()
        if numbers is None:
            for optimizer, steps, states in reversed(before):
                optimizer.steps_taken = steps
                for state, old in states:
                    state.clear()
                    state.update(old)
            return None
        scalars[position : position + count] = numbers
    return scalars


def _place(t: Tensor) -> Any:
    """What a view is of its base: part of what is known of an argument; and of one that is in the trace, how it lies."""
    return (t._leaf, t._aval) if t._data is None else (t._chain, t._base._aval)


def _flatten(a: Any, tensors: list, shape: list, objects: list, containers: list) -> None:
    """An argument that is no tensor, or may be: its tensors, what it is made of, the objects in it, and its lists and dicts."""
    kind = type(a)
    if isinstance(a, Tensor):
        tensors.append(a)
        shape.append(a._leaf if a._base is None else _place(a))
        if kind is not Tensor:
            shape.append(kind)
            if kind is not Parameter:
                objects.append(kind)
    elif kind in PRIMITIVES:
        shape.append(static_key(a))
    elif kind is list or kind is tuple:
        containers.append(id(a)) if a or kind is list else None
        shape.append((kind, len(a)))
        for x in a:
            _flatten(x, tensors, shape, objects, containers)
    elif kind is dict and all([type(key) in PRIMITIVES for key in a]):
        containers.append(id(a))
        shape.append((dict, *[static_key(key) for key in a]))
        for x in a.values():
            _flatten(x, tensors, shape, objects, containers)
    elif isinstance(a, (np.number, np.bool_)):
        shape.append((kind, a.tobytes()))
    elif kind is types.MethodType:
        shape.append(types.MethodType)
        objects += (a.__func__, a.__self__)
    else:
        shape.append((object, id(a)))
        objects.append(a)


def _shape_of(args: tuple, kwargs: dict) -> tuple:
    """What the arguments of a call are made of."""
    tensors: list[Tensor] = []
    shape: list[Any] = []
    containers: list[int] = []
    for a in args:
        _flatten(a, tensors, shape, [], containers)
    for name, a in kwargs.items():
        shape.append(name)
        _flatten(a, tensors, shape, [], containers)
    return tuple(shape), containers, [id(t) for t in tensors]


def _build(make: Callable[[int, Any], Tensor], tree: tuple, sources: list, leaves: list, made: dict) -> Any:
    """The results of a call from their description."""
    kind = tree[0]
    if kind == "new":
        out = made[tree[3]] = make(tree[1], tree[2])
        return out
    if kind == "tuple":
        return tuple([_build(make, x, sources, leaves, made) for x in tree[1]])
    if kind == "list":
        return [_build(make, x, sources, leaves, made) for x in tree[1]]
    if kind == "dict":
        return {key: _build(make, x, sources, leaves, made) for key, x in tree[1]}
    if kind == "fields":
        return tuple.__new__(tree[1], [_build(make, x, sources, leaves, made) for x in tree[2]])
    if kind == "constant":
        return tree[1]
    if kind == "source":
        return sources[tree[1]]
    if kind == "leaf":
        return leaves[tree[1]]
    if kind == "gradient":
        return leaves[tree[1]]._grad
    if kind == "same":
        return made[tree[1]]
    _, of, chain, slot, a, key = tree
    base = _build(make, of, sources, leaves, made)
    tr = local.trace
    out = made[key] = blank()
    out._tid, out._slot, out._aval, out._base, out._chain = tr.id, slot, a, base, chain
    if base._views is None:
        base._views = Views()
    base._views.hold(tr, out)
    return out
