"""What is kept of calls that are known: `State`, of the surroundings; `Layout`, the tensors read; `Replay`, what a call does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.compiler.direct import Direct, plain
from adjoint.compiler.reach import Reach
from adjoint.methods import Tensor

MAX_REPLAYS = 1024  # per place of the trie and function


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
    """The tensors of a call besides its arguments, for one pattern of missing gradients: those it was found to read, and
    of which of these and the arguments it reads `.grad` (by position).

    direct: what runs without a trace, by arguments and root of the trie.
    """

    __slots__ = ("captured", "direct", "gradients", "ids", "settled")

    def __init__(self, captured: Sequence[Tensor] = (), gradients: Sequence[int] = (), settled: bool = False) -> None:
        self.captured, self.gradients, self.settled = list(captured), list(gradients), settled
        self.ids = frozenset(map(id, captured))
        self.direct: dict[tuple, tuple[Replay, Direct]] = {}

    def distinct(self, tensors: list[Tensor]) -> bool:
        """Whether all tensors of a call are different ones."""
        count = len(tensors)
        return count == 0 or (self.ids.isdisjoint(map(id, tensors)) and (count == 1 or len({*map(id, tensors)}) == count))

    def remember(self, key: tuple, replay: Replay, direct: Direct) -> None:
        if len(self.direct) >= MAX_REPLAYS:
            self.direct.pop(next(iter(self.direct)))
        self.direct[key] = replay, direct


class State:
    """A state of the surroundings: the guard, the code it was made for, and the leaves whose `.grad` may be missing."""

    def __init__(self, reach: Reach) -> None:
        self.guard = reach.guard
        self.codes = frozenset(reach.codes)
        self.tensors = reach.tensors
        self.optimizers = reach.optimizers
        self.leaves = [t for t in reach.tensors if t._leaf and t._aval.requires_grad]
        self.layouts: dict[tuple, Layout] = {}
