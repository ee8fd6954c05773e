"""What a watched call did, told from how things stood before it: `Before`, whose `learn` makes a `Replay` of it.

Everything the call changed has to be one of: tensors it was given or found, their gradients, optimizers and generators by
their own steps. Whatever else is found changed, or held, raises `Unrepeatable`.
"""

from __future__ import annotations

import functools
from sys import getrefcount
from typing import Any

from adjoint.compiler.known import Layout, Replay, State
from adjoint.compiler.reach import PRIMITIVES, attributes_of
from adjoint.compiler.watch import Unrepeatable, Watch
from adjoint.methods import Tensor
from adjoint.return_types import NamedResults
from adjoint.trace.many import bind_all
from adjoint.trace.recorder import READS
from adjoint.trace.state import ALIVE


def is_special(t: Tensor) -> bool:
    """Whether a tensor is none that a known call can take: NumPy sees its memory, it has hooks, or a past."""
    return t._special or (t._base is not None and t._base._escape is not None)


class Before:
    """How things stood before a watched call; `learn` compares."""

    def __init__(self, tr: Any, state: State, tensors: list[Tensor], containers: list[int]) -> None:
        self.state, self.tensors, self.containers = state, tensors, containers
        if not state.fits(tensors, containers):
            raise Unrepeatable("its arguments are read in another way, too, or have attributes or gradients of their own")
        if any([attributes_of(t).keys() & state.names for t in tensors]):
            raise Unrepeatable("it can read attributes that were given to its arguments")
        self.leaves = [*state.leaves, *[t for t in tensors if t._leaf and t._aval.requires_grad]]
        self.kinds = (len(tensors), *[t._grad is None for t in self.leaves])
        self.layout = state.layouts.setdefault(self.kinds, Layout(state.tensors))
        base = [*tensors, *self.layout.captured]
        gradients = [base[k]._grad for k in self.layout.gradients]
        if any([g is None for g in gradients]):
            raise Unrepeatable("the argument whose gradient it read has none now")
        self.sources: list[Any] = base + gradients
        if any([is_special(t) for t in self.sources]):
            raise Unrepeatable("one of its tensors shares memory with NumPy, has hooks, or was computed in an earlier step")
        if any([g._base is not None for g in gradients]):
            raise Unrepeatable("it reads a gradient that is a view")
        self.slots = bind_all(tr, self.sources)
        self.modes = tr.grad, tr.default_dtype, tr.lowered
        self.node, self.tid = tr.node, tr.id
        self.counts = len(tr.inputs), len(tr.scalars), len(tr.handles)
        self.bound = {id(t) for t in state.tensors if t._tid in (tr.id, -tr.id)}
        self.grads = [t._grad for t in self.leaves]
        self.alike = self.layout.aliases(tensors, self.leaves)
        self.payload, self.origins = len(tr.payload), len(tr.origins)
        everything = {id(t): t for t in (*self.sources, *state.tensors, *[g for g in self.grads if g is not None])}
        everything |= {id(t._base): t._base for t in [*everything.values()] if t._base is not None}
        self.past = [g._slot if g is not None and g._tid in (tr.id, -tr.id) else None for g in self.grads]
        self.versions = [(t, t._version, t._aval, t._leaf) for t in everything.values()]
        self.attached = [(t, attributes_of(t)) for t in everything.values()]
        self.placed = [(t._tid, t._slot, t._version) for t in self.sources]
        self.views = {id(v) for views in tr.viewed for v in views.recent}
        self.groups = [(g, dict(g)) for o in state.optimizers for g in o.param_groups]

    def learn(self, tr: Any, watch: Watch, out: Any, shape: tuple) -> None:
        """Make the call known, or find out which tensors it reads, or raise `Unrepeatable`."""
        self._check(tr)
        used = self._used(tr)
        changed = {id(t) for t, version, _, _ in self.versions if t._version != version}
        given = {id(t) for t in self.sources}
        if not self._settle(tr, used, changed, given):
            return
        if not changed.issubset(given):
            raise Unrepeatable("it changes a tensor that it does not read, or the base of a view that it was given")
        if not used.issubset(self.slots):
            raise Unrepeatable("it reads what was computed before and was not given to it")
        handles: dict[int, Tensor] = {}
        mutated = self._mutated(tr, handles, given)
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
        self.layout.know((self.node, self.slots, (*shape, *self.alike)), replay)

    def _check(self, tr: Any) -> None:
        if tr.id != self.tid:
            raise Unrepeatable(f"{READS}, or is longer than a trace")
        if tr.flush_after or len(tr.payload) != self.payload:
            raise Unrepeatable("it uses hooks, a custom autograd function, or memory shared with NumPy")
        if not self.state.guard.holds():
            raise Unrepeatable(f"it changes {self.state.guard.changed()}")
        if (tr.grad, tr.default_dtype, tr.lowered) != self.modes:
            raise Unrepeatable("it changes the mode of gradients or of autocast, or the default dtype")
        for t, attached in self.attached:
            now = attributes_of(t)
            if now.keys() != attached.keys() or any([now[k] is not v for k, v in attached.items()]):
                raise Unrepeatable("it changes attributes of a tensor")
        for group, entries in self.groups:
            if len(group) != len(entries) or any([group.get(k) is not v for k, v in entries.items()]):
                raise Unrepeatable("it changes the options of an optimizer")
        if any([t._aval is not a or t._leaf is not leaf for t, _, a, leaf in self.versions]):
            raise Unrepeatable("it changes whether a tensor requires a gradient")

    def _used(self, tr: Any) -> set[int]:
        """Slots of values that were there before the call, of which its steps make others."""
        used: set[int] = set()
        step, last = tr.node, self.node.slot
        while step is not self.node:
            used.update([a for a in step.args if type(a) is int and a <= last])
            step = step.parent
        return used

    def _settle(self, tr: Any, used: set[int], changed: set[int], given: set[int]) -> bool:
        """Whether all tensors that became inputs are known, and the gradients that were in the trace already; else remember
        which, for the next call."""
        more = tr.inputs[self.counts[0] :]
        layout = self.layout
        more += [
            g for g, slot in zip(self.grads, self.past, strict=True)
            if slot is not None and id(g) not in given and (slot in used or id(g) in changed)
        ]  # fmt: skip
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
                if id(t) not in reached and not any(s._base is t for s in self.state.tensors):
                    raise Unrepeatable("it reads a tensor that is made of numbers at every call, or found nowhere that can be watched")
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
        fresh = Layout(self.state.tensors, base[len(self.tensors) :], sorted(gradients), True)
        self.state.layouts[self.kinds] = fresh
        if not more and not fresh.captured:  # nothing but its arguments: known at once
            self.layout = fresh
            return True
        return False

    def _mutated(self, tr: Any, handles: dict, given: set[int]) -> list:
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
        before = {id(t) for t, *_ in self.versions}
        if any([key not in given and key not in before for key in tr.mutated]):
            raise Unrepeatable("it changes a tensor that was made elsewhere")
        return out

    def _gradients(self, tr: Any, handles: dict) -> list:
        out: list[Any] = []
        for k, (leaf, old) in enumerate(zip(self.leaves, self.grads, strict=True)):
            g = leaf._grad
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
        kind = type(o)
        if kind in PRIMITIVES or o is NotImplemented or o is ...:
            return ("constant", o)
        if any(o is x for x in self.state.optimizers):
            return ("constant", o)
        if isinstance(o, (tuple, list, dict)):
            if id(o) in bases or id(o) in self.containers or id(o) in self.state.containers:
                raise Unrepeatable(f"it returns a {kind.__name__} that is also found elsewhere")
            if o or kind is not tuple:
                bases[id(o)] = o
        if kind in (tuple, list):
            return (kind.__name__, [self._describe(tr, x, handles, bases) for x in o])
        if kind is dict:
            if not all(type(key) in PRIMITIVES for key in o):
                raise Unrepeatable("it returns a dict with keys that are neither numbers nor text")
            return ("dict", [(key, self._describe(tr, x, handles, bases)) for key, x in o.items()])
        if isinstance(o, tuple) and (hasattr(o, "_fields") or isinstance(o, NamedResults)) and not getattr(o, "__dict__", None):
            return ("fields", kind, [self._describe(tr, x, handles, bases) for x in o])
        raise Unrepeatable(f"it returns an object of type {kind.__qualname__}")

    def _describe_tensor(self, tr: Any, t: Tensor, handles: dict, bases: dict) -> tuple:
        for k, s in enumerate(self.sources):
            if s is t:
                return ("source", k)
        for k, leaf in enumerate(self.leaves):
            if leaf is t:
                return ("leaf", k)
            if leaf._grad is t:
                return ("gradient", k)
        if any(t is s for s in self.state.tensors):
            return ("constant", t)
        if id(t) in bases:
            return ("same", id(t))
        if type(t) is not Tensor or t._data is not None or t._special or t._leaf or set(vars(t)) - {"_base", "_chain", "_views", "_version"}:
            raise Unrepeatable("it returns a tensor that is made of numbers at every call, or has hooks")
        handles[id(t)] = bases[id(t)] = t
        if t._base is None:
            if t._tid != tr.id or t._slot <= self.node.slot:
                raise Unrepeatable("it returns a tensor of another step, or a view of one")
            return ("new", t._slot, t._aval, id(t))
        if any(isinstance(x, Tensor) for _, _, starts in t._chain for x in starts) or t._tid != tr.id:
            raise Unrepeatable("it returns a view at a place that was computed")
        base = t._base
        if not any(base is s for s in self.sources) and base._tid != tr.id:
            raise Unrepeatable("it returns a view of a tensor of another step")
        return ("view", self._describe_tensor(tr, base, handles, bases), t._chain, t._slot, t._aval, id(t))

    def _nothing_else(self, tr: Any, handles: dict) -> None:
        """No other tensor of the call is still held by somebody."""
        bases: dict[int, int] = {}  # references from views that only the trace holds
        for views in tr.viewed:
            for h in views.recent:
                if getrefcount(h) <= ALIVE:
                    bases[id(h._base)] = bases.get(id(h._base), 0) + 1
                elif id(h) not in handles and id(h) not in self.views:
                    raise Unrepeatable("it keeps a view somewhere else than in its result")
        for h in tr.handles[self.counts[2] :]:  # a list of its own, which counts
            if getrefcount(h) > ALIVE + 1 + bases.get(id(h), 0) and id(h) not in handles:
                raise Unrepeatable("it keeps a tensor somewhere else than in its result")
