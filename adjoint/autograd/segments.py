"""A backward that crosses several traces, trace by trace: what it did in each is remembered like a macro.

A loop whose trace was cut, a value read in the middle of a computation, a row `y[i].backward(retain_graph=True)` after
another: the reverse walk comes to a trace (its `History`) with the cotangents of some slots and leaves it with the
cotangents of its inputs and with sums for leaves. The steps this records depend on the ended path, on the places of
those cotangents, and on which values the history still has; so the trie remembers where they led, what was brought back
on the way and what came out. Later walks through any trace of the same path take one look-up, and as long walks do not
share a trace, traces that are alike need one program between them. Read `through` first.
"""

from __future__ import annotations

from typing import Any

from adjoint.autograd.past import state_of
from adjoint.grad.walk import Reverse
from adjoint.trace.aval import Aval
from adjoint.trace.handle import Tensor, blank
from adjoint.trace.history import History
from adjoint.trace.macro import make_handle, remember
from adjoint.trace.many import bind_all
from adjoint.trace.pieces import LEAST, apart, are_cut
from adjoint.trace.recorder import flush, local
from adjoint.trace.trie import Step, bound_slots

LONG = 512  # steps of a trace beyond which it is usually not extended by the derivative of another


class Segment:
    """What a walk did in one trace.

    end: where its steps lead.  inputs: slots of what it brought back, in order.  sources: what that was, as (kind,
    position of an input or slot of a value, aval, slot; of inputs only where their tensors have other values by now).  lent:
    positions of the run-time numbers it used.  passed: (position of the input, slot, aval) of each cotangent that goes on to
    an older trace.  sums: the same of each leaf's gradient so far.  freed: slots whose saved values a walk that keeps nothing
    gives up.
    """

    __slots__ = ("end", "freed", "inputs", "lent", "passed", "sources", "sums")

    def __init__(self, end: Step, inputs: list, sources: list, lent: list, passed: list, sums: list, freed: frozenset) -> None:
        self.end, self.inputs, self.sources, self.lent = end, inputs, sources, lent
        self.passed, self.sums, self.freed = passed, sums, freed


def through(walk: Reverse, hist: History) -> bool:
    """Take a walk through one trace, by memory where it is known; False if it has to be taken anew every time."""
    tr = local.trace
    if hist.trace is None and tr.node.depth >= limit(walk, hist):
        flush(tr)
    if tr.eager or tr.flush_after or hist.payload or hist.freed or walk.relevant is not None or walk.wanted is not None:
        return False
    if hist.trace is tr:
        if not hist.origins:  # nothing else takes part: all of `backward` is a macro
            return False
    elif hist.trace is not None:
        return False
    tr.walked = tr.id, (walk.line, walk.number)
    hist._revived = (0, {})  # else the steps would depend on what an earlier walk has brought back
    mine = walk.cotangents[hist.id]
    positions = {id(t): p for p, t in enumerate(hist.inputs)}
    leaves = [(positions[i], g) for i, (_, g) in walk.leaves.items() if i in positions]
    given = [*mine.values(), *[g for _, g in leaves]]
    if not all([g.__class__ is Tensor for g in given]):
        return False
    slots = bind_all(tr, given)
    key = "segment", tuple(mine), slots, tuple([p for p, _ in leaves]), walk.keep, tr.grad, *state_of(tr, hist)
    known = tr.node.macros.get(key) if tr.node.macros is not None else None
    if known is None or not bring_back(tr, hist, known):
        known = first_time(walk, hist, key)
        if known is None:
            return True
    finish(walk, hist, known)
    return True


def limit(walk: Reverse, hist: History) -> int:
    """Steps of a trace beyond which it is not extended by the derivative of an ended one."""
    if are_cut(hist.node):
        return hist.node.cut.least
    return LEAST[0] if walk.line in apart else LONG


def first_time(walk: Reverse, hist: History, key: tuple) -> Segment | None:
    """Walk step by step, and note what was done; None if it cannot be repeated by memory."""
    tr = local.trace
    start, tid = tr.node, tr.id
    handles, inputs, scalars = len(tr.handles), len(tr.inputs), len(tr.scalars)
    before = {i: g for i, (_, g) in walk.leaves.items()}
    hist.lent = []
    passed: list[tuple[int, Tensor]] = []
    walk.passed = passed
    try:
        walk.walk(hist)
    finally:
        walk.passed = None
    changed = [(leaf, g) for i, (leaf, g) in walk.leaves.items() if before.get(i) is not g]
    known = None
    if tr.id == tid and not tr.flush_after:
        bound = list(zip(tr.inputs[inputs:], tr.buffers[inputs:], strict=True))
        known = note(walk, hist, bound, len(tr.scalars) - scalars, passed, changed)
    hist._revived = (0, {})
    if known is None:
        for position, g in passed:
            walk.give(*hist.origins[position], g)
        return None
    remember(start, key, known)  # type: ignore[arg-type]
    for leaf, _ in changed:
        del walk.leaves[id(leaf)]
    changed.clear()
    passed.clear()
    before.clear()
    del tr.handles[handles:]
    return known


def note(walk: Reverse, hist: History, bound: list, numbers: int, passed: list, changed: list) -> Segment | None:
    """What a walk that has just been made did, if all it used came from `hist`."""
    tr = local.trace
    if len(hist.lent) != numbers or any([g._tid != tr.id for _, g in (*passed, *changed)]):
        return None
    positions = {id(t): p for p, t in enumerate(hist.inputs)}
    sources = []
    for t, data in bound:
        source = source_of(hist, positions, t, data)
        if source is None:
            return None
        sources.append(source)
    sums = []
    for leaf, g in changed:
        if id(leaf) not in positions:
            return None
        sums.append((positions[id(leaf)], g._slot, g._aval))
    freed = frozenset(() if walk.keep else walk.freed.get(hist.id, ()))
    out = [(p, g._slot, g._aval) for p, g in passed]
    return Segment(tr.node, bound_slots(tr.node, len(bound)), sources, list(hist.lent), out, sums, freed)


def source_of(hist: History, positions: dict[int, int], t: Tensor, data: Any) -> tuple[str, int, Aval, int] | None:
    """Where in a history a tensor that the walk has bound comes from."""
    if t._escape is not None or t._hooks is not None:
        return None
    p = positions.get(id(t))
    if p is not None:
        return ("input" if t._hist is None else "result", p, t._aval, -1) if hist.buffers[p] is data else None
    if t._hist is hist:
        step = hist.steps()[t._hslot]
        if step.prim == "input":
            return ("former", step.inputs_before, t._aval, t._hslot) if hist.buffers[step.inputs_before] is data else None
        if hist.value(t._hslot) is data:
            return "value", t._hslot, t._aval, t._hslot
    return None


def bring_back(tr: Any, hist: History, known: Segment) -> bool:
    """Bind again what the remembered walk had bound; False, with nothing changed, if something is not as it was."""
    tensors: list[Tensor] = []
    buffers: list[Any] = []
    origins: dict[int, tuple[History, int]] = {}
    count = len(tr.inputs)
    for kind, k, a, slot in known.sources:
        if kind == "input" or kind == "result":
            t, data = hist.inputs[k], hist.buffers[k]
            past = t._hist
            if t._data is not data or t._escape is not None or t._hooks is not None or abs(t._tid) == tr.id or t._aval is not a:
                return False
            if (past is None) is (kind == "result"):
                return False
            if past is not None and a.requires_grad:
                origins[count + len(tensors)] = past, t._hslot
        else:
            if kind == "value":
                data = hist.values.get(k)
                if data is None:
                    data = hist.value(k)
            else:
                data = hist.buffers[k]
                original = hist.inputs[k]
                if original._data is data and original._escape is None:
                    return False
            if data is None:
                return False
            t = blank()
            t._aval, t._data, t._tid, t._slot = a, data, hist.id, slot
            t._hist, t._hslot, t._special = hist, slot, True
            if a.requires_grad:
                origins[count + len(tensors)] = hist, slot
        tensors.append(t)
        buffers.append(data)
    scalars = hist.scalars
    numbers = [scalars[k] for k in known.lent]
    tr.node = known.end  # as in `bind`: no calls in these lines
    tr.inputs += tensors
    tr.buffers += buffers
    tr.scalars += numbers
    if origins:
        tr.origins.update(origins)
    tid = tr.id
    for t, slot in zip(tensors, known.inputs, strict=True):
        t._tid, t._slot = tid, slot
    return True


def finish(walk: Reverse, hist: History, known: Segment) -> None:
    """Hand on what came out of a segment."""
    tr = local.trace
    walk.cotangents[hist.id].clear()
    walk.waiting[hist.id].clear()
    if known.freed:
        walk.freed.setdefault(hist.id, set()).update(known.freed)
    inputs = hist.inputs
    for p, slot, a in known.sums:
        leaf = inputs[p]
        walk.leaves.pop(id(leaf), None)  # last again, as after `first_time`: later segments bind the sums in this order
        walk.leaves[id(leaf)] = leaf, make_handle(tr, slot, a)
    if known.passed:
        walk.pythonic = True
    cotangents = [(hist.origins[p], make_handle(tr, slot, a)) for p, slot, a in known.passed]
    for (older, slot), g in cotangents:
        walk.give(older, slot, g)
