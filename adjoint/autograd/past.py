"""Backward from a trace that has ended, as a macro.

A program that looks at its loss before calling `backward` ends the trace in between. The walk then goes through the
history of the ended trace and brings back what the rules need: inputs of that trace, values it kept, run-time numbers.
The steps this records depend on nothing but the ended path and on which values are there, so the trie remembers where
they led and *what was brought back, in which order*; the next time the same things are bound without a walk.
"""

from __future__ import annotations

from typing import Any

from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.macro import make_handle, remember
from adjoint.trace.trie import Step, bound_slots


class Past:
    """What a walk through one ended trace did.

    end: where its steps lead.  sources: for each input it bound ("input", position) or ("value", slot).  lent: which
    run-time numbers it used.  results: (position of the leaf among the history's inputs, slot, aval).  freed: slots
    whose saved values are given up.
    """

    __slots__ = ("end", "sources", "lent", "results", "freed")

    def __init__(self, end: Step, sources: list, lent: list[int], results: list, freed: frozenset[int]) -> None:
        self.end, self.sources, self.lent, self.results, self.freed = end, sources, lent, results, freed


def key_of(tr: Any, hist: History, slot: int, keep: bool, create_graph: bool) -> tuple:
    """Everything the recorded steps depend on."""
    return "past", slot, keep, create_graph, *state_of(tr, hist)


def state_of(tr: Any, hist: History) -> tuple:
    """What steps recorded by a rule depend on in a history: its path, the values it still has, those that tensors of
    the program still have, and which of its inputs the trace has already, and where."""
    living = []
    for s, ref in hist.living.items():
        t = ref()
        if t is not None and t._hist is hist and t._hslot == s:
            living.append(s)
    tid = tr.id
    bound = tuple([(p, t._slot) for p, t in enumerate(hist.inputs) if t._tid == tid])
    return hist.node, tuple(hist.values), tuple(living), bound


def find(tr: Any, key: tuple) -> Past | None:
    return tr.node.macros.get(key) if tr.node.macros is not None else None


def note(tr: Any, start: Step, key: tuple, hist: History, before: tuple[int, int], pairs: list, freed: set[int]) -> Past | None:
    """Remember a walk that has just been made, if all it bound came from `hist`; None if it did not."""
    inputs, scalars = before
    sources: list[tuple[str, int]] = []
    for t, data in zip(tr.inputs[inputs:], tr.buffers[inputs:], strict=True):
        position = next((p for p, (x, b) in enumerate(zip(hist.inputs, hist.buffers, strict=True)) if x is t and b is data), -1)
        if position >= 0 and not t._special:
            sources.append(("input", position))
        elif t._hist is hist and hist.value(t._hslot) is data:
            sources.append(("value", t._hslot))
        else:
            return None
    if len(hist.lent) != len(tr.scalars) - scalars:
        return None
    results = []
    for leaf, g in pairs:
        position = next((p for p, x in enumerate(hist.inputs) if x is leaf), -1)
        if position < 0 or g._tid != tr.id:
            return None
        results.append((position, g._slot, g._aval))
    past = Past(tr.node, sources, list(hist.lent), results, frozenset(freed))
    remember(start, key, past)  # type: ignore[arg-type]
    return past


def bring_back(tr: Any, hist: History, past: Past) -> bool:
    """Bind again what the remembered walk had bound; False, with nothing changed, if something is not as it was."""
    if any(hist.inputs[p]._hooks for p, _, _ in past.results):
        return False
    found: list[tuple[Tensor, Any, Any]] = []
    for kind, k in past.sources:
        if kind == "input":
            t = hist.inputs[k]
            data = hist.buffers[k]
            if t._data is not data or t._special or t._tid == tr.id or t._tid == -tr.id:
                return False
            found.append((t, data, None))
        else:
            t = hist.handle(k)
            if t._data is None:
                return False
            found.append((t, t._data, (hist, k) if t._aval.requires_grad else None))
    slots = bound_slots(past.end, len(found))
    count = len(tr.inputs)
    origins = {count + k: origin for k, (_, _, origin) in enumerate(found) if origin is not None}
    tensors, buffers, numbers = [t for t, _, _ in found], [data for _, data, _ in found], [hist.scalars[k] for k in past.lent]
    tr.node = past.end  # as in `bind`: no calls in these lines
    tr.inputs += tensors
    tr.buffers += buffers
    tr.scalars += numbers
    if origins:
        tr.origins.update(origins)
    for (t, _, _), slot in zip(found, slots, strict=True):
        t._tid, t._slot = tr.id, slot
    hist.freed |= past.freed
    return True


def gradients(tr: Any, hist: History, past: Past) -> list[tuple[Tensor, Tensor]]:
    """(leaf, its gradient) of the walk."""
    return [(hist.inputs[p], make_handle(tr, slot, a)) for p, slot, a in past.results]
