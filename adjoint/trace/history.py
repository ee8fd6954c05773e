"""What remains of a trace for derivatives that are taken after it has ended.

A `History` shares the lists of its trace: inputs, their memory, run-time numbers, payloads of hooks and custom
functions. `values` holds what the program kept. A value that was not kept is recomputed on demand from those by
recording its steps again in the current trace (`revive`), which fuses them into whatever needs them.
"""

from __future__ import annotations

import weakref
from typing import Any

from adjoint.trace.handle import Tensor, blank, pending
from adjoint.trace.trie import Num, Step

_shells: dict[Any, Tensor] = {}  # by description: what stands for tensors whose values are given up
_MOST_SHELLS = 4096


def _shell(a: Any) -> Tensor:
    """Something of this description, without a value."""
    if len(_shells) >= _MOST_SHELLS:
        _shells.clear()
    shell = _shells[a] = pending(0, -1, a)
    return shell


class History:
    """The past of tensors that outlived their trace.

    id: the trace's number.  node: the last step (while the trace lives: wherever it stands now).
    inputs, buffers, scalars: as in Trace.  origins: input position -> (History, slot) it continues.
    payload: slot -> hooks or custom function.  values: slot -> Buffer that was kept.
    living: slot -> weak reference to the tensor whose value it is. What it was used for leads to it, and never around it.
    """

    def __init__(self, id, trace, inputs, buffers, scalars, origins, payload, values) -> None:
        self.id, self.trace = id, trace
        self.inputs: list[Tensor] = inputs
        self.buffers: list[Any] = buffers
        self.scalars: list[Any] = scalars
        self.origins: dict[int, tuple[History, int]] = origins
        self.payload: dict[Any, Any] = payload
        self.values: dict[int, Any] = values
        self.living: dict[int, weakref.ref[Tensor]] = {}
        self.packed: Any = None  # what `saved_tensors_hooks` have put away
        self.freed: set[int] = set()  # slots whose saved values a backward has given up since the trace ended
        self._marked: set[int] = set()  # the same while it was recorded, as far as `steps` has come
        self.pinned: list[int] = []  # slots of tensors that know this history before it is finished
        self.lent: list[int] = []  # run-time numbers that were brought back, by position
        self._node: Step | None = None
        self._steps: dict[int, Step] = {}
        self._upto: Step | None = None
        self._revived: tuple[int, dict[int, Tensor]] = (0, {})

    def finish(self, node: Step) -> None:
        """The trace has ended at `node`."""
        self._node, self.trace = node, None
        for k, t in enumerate(self.inputs):  # a detached part of an older result must not keep that result's past
            if t._base is not None and not t._aval.requires_grad:
                self.inputs[k] = self.bare(k)

    def release(self, reach: frozenset[int]) -> None:
        """Let go of older histories that no derivative can ask for: `reach` has the inputs that one can lead to.

        Without this an average of losses, or a state handed from step to step, would keep every step there ever was.
        """
        for k in [k for k in self.origins if k not in reach]:
            del self.origins[k]
            self.inputs[k] = self.bare(k)

    def forget(self) -> None:
        """Give up all values: every backward through here would be a second one. Shapes, leaves and steps stay, so that
        `grad_fn` can be looked at and the error can be raised.

        A list of losses, detached or not, then costs little more than the losses.
        """
        kept: list[Tensor] = []
        for t in self.inputs:
            kept.append(t if t._leaf else self.shell(len(kept)))
        self.inputs, self.buffers, self.values = kept, [None] * len(kept), {}

    def shell(self, position: int) -> Tensor:
        """An input's description alone."""
        a = self.inputs[position]._aval
        return _shells[a] if a in _shells else _shell(a)

    def unpack(self) -> None:
        """Have what was put away at hand."""
        if self.packed is not None:
            self.packed.restore(self)

    def bare(self, position: int) -> Tensor:
        """An input's value alone."""
        from adjoint.trace.aval import aval

        a = self.inputs[position]._aval
        t = blank()
        t._tid, t._slot, t._aval, t._data = 0, -1, aval(a.shape, a.dtype), self.buffers[position]
        return t

    @property
    def node(self) -> Step:
        return self.trace.node if self.trace is not None else self._node  # type: ignore[return-value]

    def steps(self) -> dict[int, Step]:
        """Steps by slot, in order; those without a value under negative keys. Grows with a living trace."""
        node = self.node
        if self._upto is not node:
            fresh = []
            step: Step | None = node
            while step is not self._upto and step is not None and step.parent is not None:
                fresh.append(step)
                step = step.parent
            found = self._steps
            for step in reversed(fresh):
                if step.aval is None:
                    found[-1 - step.depth] = step
                    if step.prim == "freed":
                        self._marked |= step.attrs.slots
                else:
                    for slot, _ in step.scalars:
                        found[slot] = step
                    found[step.slot] = step
            self._upto = node
        return self._steps

    def is_freed(self, slot: int) -> bool:
        """Whether a backward has given up what it saved at a slot."""
        self.steps()
        return slot in self.freed or slot in self._marked

    def value(self, slot: int) -> Any:
        """The Buffer of a slot, if it was kept or a tensor still has it."""
        data = self.values.get(slot)
        if data is None and slot in self.living:
            t = self.living[slot]()
            if t is not None and t._hist is self and t._hslot == slot:
                data = t._data
        return data

    def handle(self, slot: int) -> Tensor:
        """A tensor for the value of a slot, connected to this history."""
        if self.packed is not None:
            self.unpack()
        step = self.steps()[slot]
        t = blank()
        t._tid, t._slot, t._hslot, t._hist = self.id, slot, slot, self
        t._special = True
        if slot == step.slot:
            if step.prim == "input":
                return self.input_handle(step)
            t._aval = step.aval
        else:
            from adjoint.trace.aval import aval

            t._aval = aval((), dict(step.scalars)[slot])
        data = self.value(slot)
        if data is not None:
            t._data = data
        if self.trace is not None:  # it stays connected to this history if the trace ends while a rule holds it
            t._loose = data is None
        return t

    def input_handle(self, step: Step) -> Tensor:
        """The value an input had when this trace first used it (it may have been updated since)."""
        position = step.inputs_before
        original = self.inputs[position]
        buffer = self.buffers[position]
        if self.trace is None and original._data is buffer and original._escape is None:
            return original
        t = blank()
        t._aval, t._data = step.aval, buffer
        t._hist, t._hslot = self, step.slot
        t._special = True
        if self.trace is not None:
            t._tid, t._slot = self.id, step.slot
            if not self.trace.eager:
                t._data, t._loose = None, True
        else:
            t._tid, t._slot = 0, -1
        return t

    def revive(self, tr: Any, slot: int) -> int:
        """Record again, in the current trace, what computes `slot`; returns its slot there."""
        from adjoint.trace import recorder

        if self.trace is not None and self.trace is not tr:
            recorder.flush(self.trace)
        self.unpack()
        order: list[int] = []
        if self._revived[0] != tr.id:
            self._revived = (tr.id, {})
        known = self._revived[1]
        stack = [slot]
        steps = self.steps()
        seen: set[int] = set()
        while stack:
            s = stack.pop()
            if s in seen or s in known:
                continue
            seen.add(s)
            step = steps[s]
            if s == step.slot and (step.prim == "input" or self.value(s) is not None):
                known[s] = self.handle(s)
                continue
            order.append(s)
            if s == step.slot:
                stack.extend(a for a in step.args if type(a) is int)
        for s in sorted(order):
            step = steps[s]
            if s != step.slot:
                known[s] = self._scalar(tr, step, s)
            else:
                known[s] = self._again(step, known)
            if tr.id != self._revived[0]:  # flushed on the way: what lives was given its value
                self._revived = (tr.id, known)
        t = known[slot]
        if t._tid != tr.id:
            return recorder.bind(tr, t)
        return t._slot

    def _scalar(self, tr: Any, step: Step, slot: int) -> Tensor:
        from adjoint.trace import recorder

        k = [s for s, _ in step.scalars].index(slot)
        value, dtype = self.scalars[step.scalars_before + k], step.scalars[k][1]
        static, tr.static = tr.static, 0
        self.lent.append(step.scalars_before + k)
        try:
            return recorder.record("full", (value,), ((), dtype))
        finally:
            tr.static = static

    def _again(self, step: Step, known: dict[int, Tensor]) -> Tensor:
        from adjoint.trace import recorder

        if step.prim in ("alias", "custom", "clone", "override"):
            source = known[step.args[1 if step.prim == "override" else 0]]
            return recorder.alias(source, "alias", False) if step.prim == "alias" else source
        tr = recorder.local.trace
        if step.prim == "pick" and known[step.args[0]]._tid != tr.id:  # several results at once never leave their trace
            known[step.args[0]] = self._again(self.steps()[step.args[0]], known)
        operands: list[Any] = []
        static, tr.static = tr.static, 0
        for a in step.args:
            if isinstance(a, Num):
                tr.static = 1
                operands.append(a.value)
            else:
                operands.append(known[a])
        try:
            out = recorder.record(step.prim, tuple(operands), step.attrs)
            if type(out) is not tuple and out._aval.dtype is not step.aval.dtype:
                # A run-time number is a tensor of float32 now, to which a half without axes gives way.
                out = recorder.record("cast", (out,), step.aval.dtype)
            return out
        finally:
            tr.static = static
