"""What is kept of calls that are known: `State`, of the surroundings; `Layout`, the tensors read; `Replay`, what a call does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.compiler.direct import Direct, plain
from adjoint.compiler.reach import Reach, attributes_of
from adjoint.methods import Tensor
from adjoint.trace.handle import Parameter
from adjoint.trace.state import rebased

MAX_REPLAYS = 1024  # per layout


class Replay:
    """What a call does, once its tensors are bound: where the path leads, the numbers, the changes and the results.

    scalars: constants, with None where `asks` (question, how many) fill in.  mutated: (position among the tensors, slot,
    changes).  grads: (leaf, slot and aval or None).  result: the tree that `_build` follows.  lasting: a derivative of a
    result may be asked for, so that it stays in the trace (`Direct`).
    """

    __slots__ = ("asks", "end", "grads", "lasting", "mutated", "result", "scalars")

    def __init__(self, end: Any, scalars: list, asks: list, mutated: list, grads: list, result: Any) -> None:
        self.end, self.scalars, self.asks = end, scalars, asks
        self.mutated, self.grads, self.result = mutated, grads, result
        made: dict[int, Any] = {}
        self.lasting = not plain(result, made) or (not end.boundary and any([a.requires_grad for a in made.values()]))


class Layout:
    """The tensors of a call besides its arguments, for one number of these and one pattern of missing gradients: those it
    was found to read, and of which of these and the arguments it reads `.grad` (by position).

    around: the other tensors that the call can read.  replays: by place in the trie, slots and arguments.  direct: what
    runs without a trace, by arguments and root of the trie.
    """

    __slots__ = ("bases", "captured", "direct", "gradients", "places", "rebased", "replays", "settled")

    def __init__(
        self, around: Sequence[Tensor], captured: Sequence[Tensor] = (), gradients: Sequence[int] = (), settled: bool = False
    ) -> None:
        self.captured, self.gradients, self.settled = list(captured), list(gradients), settled
        self.places = {id(t): k for k, t in enumerate((*around, *captured))}
        self.bases, self.rebased = [(t._base, t._chain) for t in self.captured], rebased[0]
        self.replays: dict[tuple, Replay] = {}
        self.direct: dict[tuple, tuple[Replay, Direct]] = {}

    def moved(self) -> bool:
        """Whether a tensor that is read shows other memory than it did (`t.data = view`)."""
        if any([t._base is not base or t._chain is not chain for t, (base, chain) in zip(self.captured, self.bases, strict=True)]):
            return True
        self.rebased = rebased[0]
        return False

    def aliases(self, tensors: list[Tensor], leaves: list[Tensor]) -> tuple[Any, ...]:
        """Which arguments are tensors that the call can reach in another way, too, and which gradients of leaves are arguments
        or can be reached otherwise; empty where all are different ones."""
        count, places, ids = len(tensors), self.places, [*map(id, tensors)]
        out: tuple[Any, ...] = ()
        if count and not (places.keys().isdisjoint(ids) and (count == 1 or len({*ids}) == count)):
            first: dict[int, int] = {}
            out = tuple([places.get(i, -1 - first.setdefault(i, k)) for k, i in enumerate(ids)])
        grads = [id(t._grad) for t in leaves]
        if not (places.keys().isdisjoint(grads) and {*ids}.isdisjoint(grads)):
            out += tuple([(j, places.get(i), ids.index(i) if i in ids else None) for j, i in enumerate(grads) if i in places or i in ids])
        return out

    def know(self, key: tuple, replay: Replay) -> None:
        if len(self.replays) >= MAX_REPLAYS:
            self.replays.pop(next(iter(self.replays)))
        self.replays[key] = replay

    def remember(self, key: tuple, replay: Replay, direct: Direct) -> None:
        if len(self.direct) >= MAX_REPLAYS:
            self.direct.pop(next(iter(self.direct)))
        self.direct[key] = replay, direct


class State:
    """A state of the surroundings: the guard, the code it was made for, and the leaves whose `.grad` may be missing.

    roots: the objects it was found from, of which the ids are compared.  containers: ids of the dicts and lists it can read.
    tags: names of attributes of tensors whose absence the code may notice.  reads_grad: whether it names `.grad` itself.
    """

    def __init__(self, reach: Reach, roots: Sequence[Any]) -> None:
        self.guard = reach.guard
        self.roots = list(roots)
        self.codes = frozenset(reach.codes)
        self.names = reach.names
        self.tensors = reach.tensors
        self.optimizers = reach.optimizers
        self.tags = reach.tags
        self.reads_grad = "grad" in reach.names
        self.containers = frozenset(id(o) for _, where, found in reach.guard.places for o in (where, *found) if isinstance(o, (dict, list, tuple)))
        stepped = {id(p) for o in reach.optimizers for group in o.param_groups for p in group["params"]}
        self.leaves = [t for t in reach.tensors if self.reads_grad or (t._leaf and t._aval.requires_grad) or type(t) is Parameter or id(t) in stepped]
        self.layouts: dict[tuple, Layout] = {}

    def fits(self, tensors: list[Tensor], containers: list[int]) -> bool:
        """Whether arguments are of the kind that a known call may have."""
        if containers and not (self.containers.isdisjoint(containers) and len({*containers}) == len(containers)):
            return False
        if self.tags and any([attributes_of(t).keys() & self.tags for t in tensors]):
            return False
        return not (self.reads_grad and any([t._grad is not None and not (t._leaf and t._aval.requires_grad) for t in tensors]))
