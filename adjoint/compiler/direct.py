"""A known call as one run of its program, where there is nothing else in the trace.

What `Replay` does in two steps, jumping to the end of the path and ending the trace there, `Direct` does in one: memory of
the tensors in, results out, and no trace at all. That is so for calls that begin a trace and of which no derivative can be
asked for afterwards: whole training steps, and whatever needs no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adjoint.methods import Tensor
from adjoint.trace import ending, lower
from adjoint.trace.aval import Aval
from adjoint.trace.handle import blank, pending
from adjoint.trace.history import History
from adjoint.trace.state import counters, new_id

if TYPE_CHECKING:
    from adjoint.runtime.in_place import Once

__all__ = ["Direct", "plain"]


class Direct:
    """The program of a call and where its results go. `of` makes one of a `Replay` that has just been run so.

    mutated: (position among the tensors, place in the results, changes).  grads: (leaf, place and aval, or None).
    kept: positions of the tensors it leaves as they are.  places: slot -> place in the results.  leaves, shells: for the spent past of results, which tensors are leaves, and
    what stands for the others.
    """

    __slots__ = ("depth", "end", "grads", "kept", "leaves", "mutated", "nothing", "places", "program", "shells")

    def __init__(self, replay: Any, compiled: Any, order: tuple[int, ...], sources: list[Tensor]) -> None:
        self.places = {slot: k for k, slot in enumerate(order)}
        self.program, self.end, self.depth = compiled.program, replay.end, replay.end.depth
        self.leaves = [k for k, t in enumerate(sources) if t._leaf]
        self.shells = [pending(0, -1, t._aval) for t in sources]
        self.nothing = [None] * len(sources)
        self.kept = frozenset(range(len(sources))) - {k for k, _, _ in replay.mutated}
        self.mutated = [(k, self.places[slot], changes) for k, slot, changes in replay.mutated]
        self.grads = [(k, None if found is None else (self.places[found[0]], found[1])) for k, found in replay.grads]

    @staticmethod
    def of(replay: Any, sources: list[Tensor]) -> Direct | None:
        """None where the results must stay connected to the trace, or another set of results was alive."""
        made: dict[int, Aval] = {}
        if not plain(replay.result, made):
            return None
        slots = {slot for _, slot, _ in replay.mutated} | {found[0] for _, found in replay.grads if found is not None} | set(made)
        order = tuple(sorted(slots))
        compiled = (replay.end.programs or {}).get(order)
        if compiled is None or compiled.order is not None or compiled.saved or compiled.held:
            return None
        keep = [slot for slot, a in made.items() if a.requires_grad]
        if any(found is not None and found[1].requires_grad for _, found in replay.grads):
            return None
        if keep and not lower.is_spent(replay.end, keep):
            return None
        return Direct(replay, compiled, order, sources)

    def run(self, sources: list[Tensor], leaves: list[Tensor], buffers: list, scalars: list) -> list:
        """Run, change what the call changes, and give the memory of all results."""
        if self.program.in_place and ending.watching is None:
            from adjoint.runtime.in_place import Once, given_up

            given = given_up(self.program, buffers, self.kept, 1)
            if given:
                return self._run_in_place(Once(self.program, buffers, scalars, given), sources, leaves)
        out = self.program.run(buffers, scalars)
        self._deliver(out, sources, leaves)
        return out

    def _run_in_place(self, run: Once, sources: list[Tensor], leaves: list[Tensor]) -> list:
        try:
            self._deliver(run.finish(), sources, leaves)
        except BaseException:  # an interrupt: too late
            self._deliver(run.finish(), sources, leaves)
            raise
        run.count()
        return run.finish()

    def _deliver(self, out: list, sources: list[Tensor], leaves: list[Tensor]) -> None:
        """Give what the call changes its new memory."""
        counters["traces"] += 1
        counters["flushes"] += 1
        counters["operations"] += self.depth
        for k, place, changes in self.mutated:
            t = sources[k]
            t._data = out[place]
            t._tid = 0
            t._version += changes
        for k, found in self.grads:
            if found is None:
                leaves[k]._grad = None
            else:
                leaves[k]._grad = g = pending(0, -1, found[1])
                g._data = out[found[0]]

    def attempt(self, sources: list[Tensor], leaves: list[Tensor], buffers: list, scalars: list) -> list | None:
        """The same; None, with nothing changed, where it cannot be computed."""
        try:
            return self.run(sources, leaves, buffers, scalars)
        except Exception:
            return None

    def maker(self, out: list, sources: list[Tensor], scalars: list) -> Any:
        """What makes the tensor of a slot."""
        past: list[History] = []

        def make(slot: int, a: Aval) -> Tensor:
            t = blank()
            t._aval, t._data = a, out[self.places[slot]]
            if a.requires_grad:
                if not past:
                    past.append(self._spent(sources, scalars))
                t._tid = past[0].id
                t._slot, t._hist, t._hslot, t._special = slot, past[0], slot, True
            return t

        return make

    def _spent(self, sources: list[Tensor], scalars: list) -> History:
        """The past of the results: what it was made of, without values."""
        inputs = self.shells[:]
        for k in self.leaves:
            inputs[k] = sources[k]
        past = History(new_id(), None, inputs, self.nothing, scalars, {}, {}, {})
        past._node = self.end
        return past


def plain(tree: tuple, made: dict[int, Aval]) -> bool:
    """Whether results are new tensors and what was there before, but no views; `made` receives slots and avals."""
    kind = tree[0]
    if kind == "new":
        made[tree[1]] = tree[2]
        return True
    if kind in ("tuple", "list"):
        return all([plain(x, made) for x in tree[1]])
    if kind == "fields":
        return all([plain(x, made) for x in tree[2]])
    if kind == "dict":
        return all([plain(x, made) for _, x in tree[1]])
    return kind != "view"
