"""Known calls that change what they can reach, such as a training step: the shortest way that Python has.

Of what `Compiled._again` finds out about a call, most was found out when it was last taken. A `Step` keeps that, and asks
only what may have changed since. Read `Step.call`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.compiler.direct import Direct
from adjoint.compiler.known import Layout, Replay, State
from adjoint.compiler.reach import PRIMITIVES
from adjoint.methods import Tensor
from adjoint.trace.macro import static_key
from adjoint.trace.state import rebased


def key_of(root: Any, args: tuple) -> tuple | None:
    """What a call is known by, if its arguments are tensors with memory of their own that are no leaves, numbers and text."""
    key = [root]
    for a in args:
        kind = type(a)
        if kind is int:
            key.append(a)  # nothing else in a key equals one
        elif kind is Tensor:
            if a._leaf or a._base is not None:
                return None
            key.append(a._aval)
        elif kind in PRIMITIVES:
            key.append(static_key(a))
        else:
            return None
    return tuple(key)


class Step:
    """One known call, for the state of its surroundings that `guard` describes.

    count: of tensors that it reads.  given: how many of them are arguments.  changed: which of them it changes.
    missing: `given`, and of which leaves the gradient has to be missing.  distinct: how many objects the arguments and
    gradients are, None among them.  kinds: what the gradients are that it reads.
    fits: asks whether arguments will do, where there is more to it.
    """

    __slots__ = ("changed", "count", "direct", "distinct", "fits", "given", "guard", "kinds", "layout", "leaves", "missing", "replay")

    def __init__(self, state: State, layout: Layout, replay: Replay, direct: Direct, given: int, sources: list[Tensor]) -> None:
        self.guard, self.leaves = state.guard, state.leaves
        self.fits = state.fits if state.tags or state.reads_grad else None
        self.layout, self.replay, self.direct, self.given, self.count = layout, replay, direct, given, len(sources)
        self.missing = next(kinds for kinds, known in state.layouts.items() if known is layout)
        self.distinct = given + self.missing[1:].count(False) + (True in self.missing[1:])
        self.kinds = [g._aval for g in sources[len(sources) - len(layout.gradients) :]]
        self.changed = [k for k, _, _ in direct.mutated]

    def call(self, args: tuple, asked: Callable) -> tuple[list, list, list | None] | None:
        """The tensors read, the numbers, and the memory of what the call makes (None where that failed); None, with nothing
        changed, where something is not as it was."""
        layout = self.layout
        if layout.rebased != rebased[0] or not self.guard.holds():
            return None
        leaves, sources = self.leaves, layout.captured
        grads = [t._grad for t in leaves]
        if (self.given, *[g is None for g in grads]) != self.missing:
            return None
        seen = {*map(id, grads)}
        if self.given:
            tensors = [a for a in args if type(a) is Tensor]
            seen.update(map(id, tensors))
            if self.fits is not None and not self.fits(tensors, []):
                return None
            sources = tensors + sources
        if len(seen) < self.distinct or not layout.places.keys().isdisjoint(seen):  # as `Layout.aliases`
            return None
        if self.kinds:
            gradients = [sources[k]._grad for k in layout.gradients]
            for g, kind in zip(gradients, self.kinds, strict=True):
                if g._aval is not kind or g._base is not None:
                    return None
            sources = sources + gradients
            if len({*map(id, sources)}) < self.count:
                return None
        buffers = [t._data for t in sources if not t._special]
        if len(buffers) < self.count or None in buffers:
            return None
        for k in self.changed:
            if sources[k]._views is not None:
                return None
        numbers = asked(self.replay.scalars, self.replay.asks)
        if numbers is None:
            return None
        return sources, numbers, self.direct.attempt(sources, leaves, buffers, numbers)
