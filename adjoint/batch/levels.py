"""Functions with a rule of the user's own for batches (`autograd.Function.vmap`), met while a function is mapped.

Each `vmap` that is under way has a `Level`: what it knows of the samples it has handed out. A rule is called with the whole
batch as soon as it is met; the function that is mapped goes on with the first sample of what it gave, and the level notes
which batch that sample is of. The walk over the recorded steps (`walk`) begins there. Read `Level.compute`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from sys import getrefcount
from typing import Any, NamedTuple

from adjoint.batch.walk import Mapped, batched
from adjoint.trace import recorder
from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor
from adjoint.trace.listener import Listener
from adjoint.trace.many import bind_all
from adjoint.trace.recorder import Trace, local
from adjoint.trace.state import ALIVE


class VmapInfo(NamedTuple):
    """What a rule is told of the map: the number of samples, and what drawing random numbers does."""

    batch_size: int
    randomness: str


class Mapping(Listener):
    """A map that is under way. level: its first call's, until the samples are computed one by one."""

    randomness = "error"
    level: Level | None = None

    def computed(self, slot: int, value: Any) -> None:
        if self.level is not None:
            self.level.values[slot] = value
        super().computed(slot, value)

    def holds(self) -> bool:
        return self.level is not None or super().holds()


class Level:
    """The samples that a mapped function was given. 

    tid: the trace in which they were taken, `given` to the function.  used: whether a rule was called.  values: in reference mode, of what was given
    and of all that was computed since.  traces: what the call has left behind so far.  kept: tensors that a rule may be about to
    give a value, as weak references, each with its batch.  outlived: the same of traces that rules have ended.
    """

    def __init__(self, tr: Trace, mapped: list[Mapped], size: int, given: list[Tensor], traces: Any) -> None:
        self.tid, self.mapped, self.size, self.given, self.traces = tr.id, mapped, size, given, traces
        self.kept: list[tuple[Any, Tensor]] = []
        self.outlived: list[tuple[Any, Tensor]] = []
        self.used = False
        self.values: dict[int, Any] = {}

    def ready(self, tr: Trace) -> bool:
        """Whether the steps recorded since can be walked: they are in the present trace, and their values are there."""
        if tr.id != self.tid:
            return False
        if tr.eager:
            tr.values.update([(s, v) for s, v in self.values.items() if s not in tr.values])
        return True

    def whole(self, args: tuple) -> list[Tensor | None] | None:
        """The batches of which the tensors among `args` are the first samples, None for what does not depend on the sample;
        None where nothing does, or that cannot be said."""
        tr = local.trace
        tensors = [x for x in args if isinstance(x, Tensor)]
        slots = bind_all(tr, tensors) if tr.id == self.tid else ()
        if not slots or not self.ready(tr):
            return None
        found = batched(tr, list(slots), [0] * len(slots), self.mapped, self.size)
        if found is None or all([x is None for x in found]):
            return None
        rest = iter(found)
        return [next(rest) if isinstance(x, Tensor) else None for x in args]

    def keep(self, tr: Trace) -> bool:
        """Note the batches of all tensors that depend on the sample, should a rule end the trace; False where that does not
        say all, because a derivative may lead back into it."""
        made = (*self.given, *tr.handles[self.traces.handles :], *[v for views in tr.viewed for v in views.recent])
        known = [h for h in made if h._tid == tr.id and h._data is None and getrefcount(h) > ALIVE + 1]  # held by `made`, too
        slots = bind_all(tr, known)
        if tr.eager or any([h._aval.requires_grad for h in known]) or self.traces.changed(tr) or not self.ready(tr):
            return False
        found = batched(tr, list(slots), [0] * len(known), self.mapped, self.size)
        if found is None:
            return False
        self.kept = [(weakref.ref(h), w) for h, w in zip(known, found, strict=True) if w is not None]
        return True

    def resume(self, tr: Trace) -> None:
        """Go on in the present trace with what was kept of the one that has ended."""
        self.tid, self.mapped = tr.id, []
        self.outlived = [(ref, whole) for ref, whole in (*self.outlived, *self.kept) if ref() is not None]
        for ref, whole in self.outlived:
            self.note(ref(), whole)
        self.traces.start(tr)

    def none_left(self, pairs: list[tuple[Tensor, Any]]) -> bool:
        """Whether of the traces that rules have ended nobody holds more than the samples and the results."""
        known = {id(x) for x in self.given} | {id(x) for x, _ in pairs}
        own = Counter(map(id, local.trace.inputs))
        alive = [h for h in [ref() for ref, _ in self.outlived] if h is not None]
        return not [h for h in alive if id(h) not in known and getrefcount(h) > ALIVE + own[id(h)]]

    def first(self, out: Any, dims: Any) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
        """What a rule gave, with the first samples of its tensors, and those with their batches."""
        flat = list(out) if isinstance(out, (tuple, list)) else [out]
        axes = list(dims) if isinstance(dims, (tuple, list)) else [dims] * len(flat)
        pairs: list[tuple[Tensor, Tensor]] = []
        parts: list[Any] = []
        for x, d in zip(flat, axes, strict=True):
            if isinstance(x, Tensor) and d is not None:
                rank = len(x._aval.shape)
                if not -rank <= d < rank or x._aval.shape[d] != self.size:
                    raise RuntimeError(
                        f"the vmap staticmethod gave a tensor of shape {list(x._aval.shape)} with the batch of {self.size} along axis {d}; "
                        "out_dims says where each tensor has it, or None"
                    )
                whole = x.movedim(d, 0)
                pairs.append((sample(whole, 0, 0), whole))
                parts.append(pairs[-1][0])
            else:
                parts.append(x)
        return (tuple(parts) if isinstance(out, (tuple, list)) else parts[0]), pairs

    def note(self, part: Tensor, whole: Tensor) -> None:
        """A tensor is the first sample of a batch."""
        tr = local.trace
        slot, batch = bind_all(tr, (part, whole))
        if tr.id == self.tid:
            self.mapped.append(Mapped(slot, batch, 0))


def sample(x: Tensor, dim: int, k: int) -> Tensor:
    """One sample: a tensor of its own and no view, so that only what uses it depends on it."""
    shape = tuple(x._aval.shape)
    rest = shape[:dim] + shape[dim + 1 :]
    row = recorder.record("slice", (x,), (tuple([k if a == dim else 0 for a in range(len(shape))]), (*shape[:dim], 1, *shape[dim + 1 :]), (1,) * len(shape)))
    out = recorder.record("reshape", (row,), rest)
    out._aval = aval(rest, x._aval.dtype, out._aval.requires_grad)
    return out


def by_rule(cls: Any, args: tuple) -> tuple[Any, Level, list[tuple[Tensor, Tensor]]] | None:
    """What `cls.vmap` gives for the innermost map on whose samples the arguments depend: the results of the first sample,
    the map's level, and each of these with its batch. None where there is no such map."""
    tr = local.trace
    listener = tr.watch
    while listener is not None:
        if isinstance(listener, Mapping) and listener.level is not None:
            whole = listener.level.whole(args)
            if whole is not None:
                return _called(cls, args, listener, listener.level, whole)
        listener = listener.outer
    return None


def _called(cls: Any, args: tuple, mapping: Mapping, level: Level, whole: list[Tensor | None]) -> Any:
    level.used = True
    info = VmapInfo(level.size, mapping.randomness)
    given = [x if w is None else w for x, w in zip(args, whole, strict=True)]
    tr = local.trace
    inner, tr.watch = tr.watch, mapping.outer  # the rule runs outside of the map
    try:
        kept = level.keep(tr)
        got = cls.vmap(info, tuple([None if w is None else 0 for w in whole]), *given)
    finally:
        local.trace.watch = inner
    if kept and tr.id != level.tid:
        level.resume(tr)
    level.kept = []
    if not isinstance(got, tuple) or len(got) != 2:
        raise RuntimeError(
            "Expected the vmap staticmethod to have two returns, an output and out_dims with pytree structure compatible with "
            f"the output. Got a {type(got).__name__}."
        )
    out, pairs = level.first(*got)
    return out, level, pairs
