"""From the recorded steps of one sample to those of the batch.

`batched` finds, between the present place of the trace and the samples that a function was given, the steps that its
results depend on, and records each of them for the whole batch by its rule. The steps of the one sample are then dead,
and never computed. What a known path leads to is remembered: the next time it is one look-up.
"""

from __future__ import annotations

from typing import Any

from adjoint.batch.rules import RULES, Call, Unbatched, permute, pointwise, reshape
from adjoint.ir.prims import PRIMS
from adjoint.trace import recorder
from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import make_handle, remember
from adjoint.trace.recorder import Trace, local
from adjoint.trace.trie import Macro, Num, Step


class Mapped:
    """A mapped tensor: the slot of its first sample, its own slot, and the axis it is mapped along."""

    __slots__ = ("sample", "whole", "axis")

    def __init__(self, sample: int, whole: int, axis: int) -> None:
        self.sample, self.whole, self.axis = sample, whole, axis


def batched(tr: Trace, roots: list[int], axes: list[int], mapped: list[Mapped], size: int) -> list[Tensor | None] | None:
    """The values at the slots `roots` for the whole batch, which each result has at its place in `axes`.

    None for a result that is the same for all samples; None instead of the list where a step has no rule.
    """
    key = ("vmap", size, tuple(roots), tuple(axes), tuple([(m.sample, m.whole, m.axis) for m in mapped]))
    macro = tr.node.macros.get(key) if tr.node.macros is not None else None
    if macro is not None:
        tr.node = macro.end
        return [None if r is None else make_handle(tr, *r) for r in macro.results]
    start, tid = tr.node, tr.id
    before = len(tr.handles), len(tr.inputs), len(tr.scalars)
    scope = tr.scope
    tr.static, tr.whole, tr.scope = tr.static + 1, tr.whole + 1, None
    try:
        found = tr.in_mode(tr.grad, _Walk(tr, mapped, size).run, roots)
        results = [None if x is None else _moved(x, axis) for x, axis in zip(found, axes, strict=True)]
    except Unbatched:
        return None
    finally:
        tr.static, tr.whole, tr.scope = tr.static - 1, tr.whole - 1, scope
    if tr.eager or tr.id != tid:  # a finalizer or a signal handler has ended the trace
        return results
    places = [None if x is None else (x._slot, aval(x._aval.shape, x._aval.dtype, x._aval.requires_grad)) for x in results]
    if before[1:] == (len(tr.inputs), len(tr.scalars)) and not tr.flush_after:
        remember(start, key, Macro(tr.node, places, False))
    del tr.handles[before[0] :]
    return [None if p is None else make_handle(tr, *p) for p in places]


def _moved(x: Tensor, axis: int) -> Tensor:
    """The batch from the front to its place."""
    rank = len(x._aval.shape)
    at = axis + rank if axis < 0 else axis
    order = list(range(1, rank))
    order.insert(at, 0)
    return permute(x, tuple(order))


class _Walk:
    """One walk. known: the values that differ between samples, by slot, with the batch in front."""

    def __init__(self, tr: Trace, mapped: list[Mapped], size: int) -> None:
        self.hist, self.size = tr.history(), size
        self.known: dict[int, Any] = {}
        self.samples = {m.sample for m in mapped}
        for m in mapped:
            whole = self.hist.handle(m.whole)
            rank = len(whole._aval.shape)
            order = (m.axis, *[d for d in range(rank) if d != m.axis])
            self.known[m.sample] = permute(whole, order)

    def run(self, roots: list[int]) -> list[Any]:
        steps = self.steps_of(roots)
        follow = any([getattr(s.aval, "requires_grad", False) for s in steps if s.slot in roots])
        if not follow:
            local.trace.set_mode(False)
        for step in steps:
            if any([type(a) is int and a in self.known for a in step.args]):
                self.known[step.slot] = self.step(step, follow)
        return [self.known.get(r) for r in roots]

    def steps_of(self, roots: list[int]) -> list[Step]:
        """The steps after the samples that the roots depend on, in order."""
        wanted, first, kept = set(roots), min(self.samples), []
        step: Any = self.hist.node
        while step is not None and step.slot > first:
            if step.aval is not None and step.slot in wanted and step.slot not in self.samples:
                kept.append(step)
                wanted.update([a for a in step.args if type(a) is int])
            step = step.parent
        kept.reverse()
        return kept

    def step(self, step: Step, follow: bool) -> Any:
        prim = step.prim
        requires = getattr(step.aval, "requires_grad", False)
        if prim not in PRIMS:
            return self.passed(step, follow and requires)
        args = [a.value if isinstance(a, Num) else self.known[a] if a in self.known else self.hist.handle(a) for a in step.args]
        call = Call(step, self.size, args, [type(a) is int and a in self.known for a in step.args])
        rule = pointwise if PRIMS[prim].kind == "pointwise" else RULES[prim]
        if not follow:
            return rule(call)
        if requires and self.hist.payload.get(("hook", step.slot)) is not None:
            raise Unbatched
        return self.in_mode(requires, rule, call)

    def passed(self, step: Step, follow: bool) -> Any:
        """The trace's own steps, which hand a value on: with its past, or without."""
        value = self.known.get(step.args[-1])
        if follow and step.prim in ("override", "custom"):
            raise Unbatched  # the derivative is not that of the recorded steps
        if value is None:  # `override` by what is the same for all samples
            whole = self.hist.handle(step.args[-1])
            value = recorder.record("expand", (reshape(whole, (1, *whole._aval.shape)),), (self.size, *whole._aval.shape))
        if step.prim in ("clone", "custom", "override") or not value._aval.requires_grad:
            return value
        return recorder.alias(value, "alias", False)

    def in_mode(self, grad: bool, function: Any, *args: Any) -> Any:
        """Record with or without gradient, as the step of one sample was."""
        tr = local.trace
        if tr.grad is not grad:
            tr.set_mode(grad)
        return function(*args)
