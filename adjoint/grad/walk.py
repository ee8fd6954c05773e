"""Walking the recorded steps: reverse mode against their order, forward mode along it, across traces.

The tape is the trace. `reverse` takes cotangents of some tensors back to leaves or to chosen tensors, `forward` carries
tangents from chosen tensors on. Both record the derivative's operations into the current trace by applying the tables
of this folder, so that derivatives are differentiable themselves. A trace that has ended is walked through its
`History`. Neither recurses: a chain of a hundred thousand operations is a loop.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.grad.explicit import FORWARD, REVERSE
from adjoint.grad.partials import PARTIALS, conjugate, scale
from adjoint.grad.transposes import TRANSPOSES, forward_linear, sum_to
from adjoint.ir.prims import PRIMS
from adjoint.ops.elementwise import cast
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.lower import KEEP_NOTHING
from adjoint.trace.recorder import Trace, local, record
from adjoint.trace.state import new_id, user_frame
from adjoint.trace.trie import Num, Step

REAL_RULES = frozenset("cholesky slogdet eigh svd qr".split())  # derivative rules without the conjugates


def locate(t: Tensor) -> tuple[History, int] | None:
    """The history and slot in which a tensor was computed or first used; None for one that was in no trace.

    Where it was computed comes first: all its uses lead there, those in later traces through their inputs.
    """
    tr = local.trace
    if t._hist is not None:
        return t._hist, t._hslot
    if t._base is not None and t._tid != tr.id:
        recorder.bind(tr, t)  # a stale view replays its movement
    if t._tid == tr.id and t._slot >= 0:
        return tr.history(), t._slot
    if t._aval.requires_grad and not t._leaf:
        slot = recorder.bind(tr, t)
        return tr.history(), slot
    return None


def operand_handles(hist: History, step: Step) -> tuple[Any, ...]:
    return tuple(a.value if isinstance(a, Num) else hist.handle(a) for a in step.args)


class Reverse:
    """One reverse walk.

    cotangents: history -> slot -> tensor (for a primitive with several results: a dict by result).
    waiting: history -> heap of the (negative) slots that have one, so that only they are visited.  due: heap of the (negative)
    histories that have some, or had.
    wanted: tensors whose cotangent is asked for, by place; if None, all leaves collect.
    """

    def __init__(self, keep: bool, wanted: dict[tuple[int, int], int] | None, wanted_leaves: set[int] | None) -> None:
        self.keep = keep
        self.wanted = wanted
        self.wanted_leaves = wanted_leaves
        self.results: dict[int, Tensor] = {}
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}
        self.cotangents: dict[int, dict[int, Any]] = {}
        self.waiting: dict[int, list[int]] = {}
        self.due: list[int] = []
        self.histories: dict[int, History] = {}
        self.leaf_hooks = True
        self.pythonic = False  # met a hook or a custom function: cannot be a macro
        self.past = False  # went through a trace that has ended
        self.number = new_id()
        self.line = user_frame()  # from which it was called
        self.freed: dict[int, set[int]] = {}
        self.relevant: dict[int, set[int]] | None = None
        self.through: Any = None  # takes the walk through one history by memory; False where it cannot
        self.passed: list[tuple[int, Tensor]] | None = None  # collects what leaves a history, while it is walked
        self.gathered: dict[Any, dict[int, Any]] = {}  # gradients for functions that wait for several, by place

    def give(self, hist: History, slot: int, g: Any) -> None:
        if g is None:
            return
        mine = self.cotangents.get(hist.id)
        if mine is None:
            mine = self.cotangents[hist.id] = {}
            self.waiting[hist.id] = []
            self.histories[hist.id] = hist
        old = mine.get(slot)
        if old is None:
            waiting = self.waiting[hist.id]
            if not waiting:
                heapq.heappush(self.due, -hist.id)
            heapq.heappush(waiting, -slot)
        elif type(old) is dict:  # several results, from more than one trace
            g = {k: old[k] + g[k] if k in old and k in g else old.get(k, g.get(k)) for k in old.keys() | g.keys()}
            old = None
        mine[slot] = g if old is None else old + g

    def give_leaf(self, leaf: Tensor, g: Tensor) -> None:
        if self.wanted_leaves is not None and id(leaf) not in self.wanted_leaves:
            return
        old = self.leaves.get(id(leaf))
        self.leaves[id(leaf)] = (leaf, g if old is None else old[1] + g)

    def finish_leaves(self) -> None:
        """Run the hooks of leaves, on their whole gradient."""
        if not self.leaf_hooks:
            return
        for key, (leaf, g) in list(self.leaves.items()):
            if leaf._hooks is not None:  # also if none is left: this place is that of a leaf with hooks
                self.pythonic = True
                self.leaves[key] = (leaf, self.hooked(leaf._hooks, g))

    def run(self) -> None:
        done: set[int] = set()
        while self.due:  # a history may have its turn again: a custom function's operand is found where it was last used
            number = -heapq.heappop(self.due)
            if not self.waiting[number]:
                continue
            done.add(number)
            if len(done) > 1 or self.histories[number].trace is not local.trace:
                self.past = True
            hist = self.histories[number]
            if hist.packed is not None:
                with_numbers(hist.unpack)
            if self.through is None or not self.through(self, hist):
                self.walk(hist)
        self.finish_leaves()
        for gathering, found in self.gathered.items():
            with_numbers(gathering.call, found)

    def walk(self, hist: History) -> None:
        mine, waiting = self.cotangents[hist.id], self.waiting[hist.id]
        relevant = None if self.relevant is None else self.relevant.get(hist.id, set())
        freed = self.freed.setdefault(hist.id, set())
        while waiting:
            slot = -heapq.heappop(waiting)
            g = mine.pop(slot)
            step = hist.steps()[slot]
            if slot != step.slot:
                continue
            place = (hist.id, slot)
            payload = hist.payload.get(slot)
            hooks = hist.payload.get(("hook", slot))
            if hooks is not None:
                self.pythonic = True
                g = self.hooked(hooks, g)
            if self.wanted is not None and place in self.wanted:
                self.results[self.wanted[place]] = g
            if step.prim == "input":
                self.into_input(hist, step, g)
                continue
            if not getattr(step.aval, "requires_grad", False) or (relevant is not None and slot not in relevant):
                continue
            if hist.is_freed(slot):
                raise RuntimeError(
                    "Trying to backward through the graph a second time (or directly access saved tensors after they "
                    "have already been freed). Saved intermediate values of the graph are freed when you call "
                    ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
                    f"graph a second time. The operation is {step.prim}"
                    + (f", recorded at {step.where[0]}:{step.where[1]}." if step.where else ".")
                )
            if step.prim not in KEEP_NOTHING:
                freed.add(slot)
            if isinstance(payload, CustomResult):
                self.pythonic = True
                payload.call.collect(payload.position, g)
                if payload.position == 0 or not payload.call.more_below(payload.position, mine, hist):
                    self.custom(hist, step, payload.call)
                continue
            self.step(hist, step, g)

    def hooked(self, hooks: dict[int, Any], g: Any) -> Any:
        return with_numbers(hooked, hooks, g, self.gathered)

    def custom(self, hist: History, step: Step, call: Any) -> None:
        for x, gx in call.run():
            self.into_tensor(x, gx)

    def into_input(self, hist: History, step: Step, g: Tensor) -> None:
        position = step.inputs_before
        origin = hist.origins.get(position)
        if origin is not None:
            self.pythonic = True
            if self.passed is not None:
                self.passed.append((position, g))
            else:
                self.give(origin[0], origin[1], g)
        elif step.aval is not None and step.aval.requires_grad:
            self.give_leaf(hist.inputs[position], g)

    def into_tensor(self, x: Tensor, g: Tensor | None) -> None:
        """A cotangent for an operand of a custom function."""
        if g is None or not x._aval.requires_grad:
            return
        if x._leaf:
            self.give_leaf(x, g)
            return
        place = locate(x)
        if place is not None:
            self.give(place[0], place[1], g)

    def step(self, hist: History, step: Step, g: Any) -> None:
        prim = step.prim
        args = operand_handles(hist, step)
        if prim == "pick":
            parts = self.cotangents[hist.id].get(step.args[0])
            if parts is None:
                self.give(hist, step.args[0], parts := {})
            k = step.attrs
            parts[k] = g if k not in parts else parts[k] + g
            return
        for slot, x, gx in zip(step.args, args, reverse_step(hist, step, args, g), strict=True):
            if gx is None or type(slot) is not int or not x._aval.requires_grad:
                continue
            self.give(hist, slot, gx)


class AfterAccumulation:
    """A hook among those of a leaf that waits until the gradient has been added to its `.grad`."""

    __slots__ = ("hook",)

    def __init__(self, hook: Any) -> None:
        self.hook = hook


class Converted:
    """A hook that comes before all others of a leaf: the gradient in another dtype, or in its own if that is None."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: DType | None) -> None:
        self.dtype = dtype


class Gathering:
    """A function among the hooks of several tensors that is called once in a backward: with all their gradients when the walk is
    at its end, None for those it has not met, or, if `first`, with the first."""

    def __init__(self, function: Any, count: int, first: bool) -> None:
        self.function, self.count, self.first = function, count, first

    def take(self, number: int, g: Any, gathered: dict[Any, dict[int, Any]]) -> None:
        found = gathered.setdefault(self, {})
        if self.first and not found:
            self.function(g)
        found[number] = g

    def call(self, found: dict[int, Any]) -> None:
        if not self.first:
            self.function([found.get(k) for k in range(self.count)])


class Gathered:
    """The place of one tensor's gradient in a `Gathering`."""

    __slots__ = ("into", "number")

    def __init__(self, into: Gathering, number: int) -> None:
        self.into, self.number = into, number

    def __call__(self, g: Tensor) -> None:
        raise TypeError("hooked() hands a gradient to its Gathering")


def with_numbers(function: Any, *args: Any) -> Any:
    """Call what is the user's. Its numbers the user may change: run-time numbers, not constants."""
    tr = local.trace
    static, tr.static = tr.static, 0
    try:
        return function(*args)
    finally:
        tr.static = static


def hooked(hooks: dict[int, Any], g: Any, gathered: dict[Any, dict[int, Any]]) -> Any:
    """What hooks make of a gradient."""
    for hook in list(hooks.values()):
        if type(hook) is AfterAccumulation:
            continue
        if type(hook) is Gathered:
            hook.into.take(hook.number, g, gathered)
            continue
        if type(hook) is Converted:
            g = g if hook.dtype is None else cast(g, hook.dtype)
            continue
        changed = hook(g)
        if changed is not None:
            _check_changed(hook, g, changed)
            g = changed
    return g


def _check_changed(hook: Any, g: Tensor, changed: Any) -> None:
    """The rules below read as many elements as the gradient had: another shape must not reach them."""
    name = getattr(hook, "__name__", type(hook).__name__)
    if not isinstance(changed, Tensor):
        raise TypeError(f"expected a Tensor, but hook {name!r} returned {type(changed).__name__}")
    if changed._aval.shape != g._aval.shape:
        raise RuntimeError(f"hook {name!r} has changed the size of value: from {list(g._aval.shape)} to {list(changed._aval.shape)}")
    if changed._aval.dtype is not g._aval.dtype:
        raise RuntimeError(f"hook {name!r} has changed the type of value: from {g._aval.dtype!r} to {changed._aval.dtype!r}")


class Freed:
    """Attribute of the step that marks what a backward without retain_graph has freed."""

    __slots__ = ("slots",)

    def __init__(self, slots: frozenset[int]) -> None:
        self.slots = slots

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Freed) and other.slots == self.slots

    def __hash__(self) -> int:
        return hash(self.slots)


class CustomResult:
    """Payload of a custom function's result: the call it belongs to and which result it is."""

    __slots__ = ("call", "position")

    def __init__(self, call: Any, position: int) -> None:
        self.call, self.position = call, position


def reverse_step(hist: History, step: Step, args: tuple, g: Any) -> tuple:
    """Cotangents of the operands of one step."""
    prim = step.prim
    row = PARTIALS.get(prim)
    if row is not None:
        compute = _derived_in(step)
        out, operands = _computed(hist.handle(step.slot), args, compute)
        if compute is dtypes.float32:
            g = cast(g, compute)  # of halves
        extra = () if step.attrs is None else (step.attrs,)
        result: list[Tensor | None] = []
        for x, partial in zip(args, row, strict=True):
            if not isinstance(x, Tensor) or not x._aval.requires_grad:
                result.append(None)
                continue
            gx = scale(g, conjugate(partial(out, *operands, *extra)))
            result.append(None if gx is None else fit(gx, x))
        return tuple(result)
    if prim in TRANSPOSES:
        got = TRANSPOSES[prim](g, args, step.attrs)
        if prim == "where":
            chosen = zip(got[1:], args[1:], strict=True)
            return (None, *(fit(gx, x) if gx is not None and isinstance(x, Tensor) else None for gx, x in chosen))
        return got
    if prim in REVERSE:
        if prim in REAL_RULES and any(isinstance(x, Tensor) and x._aval.dtype.is_complex for x in args):
            raise NotImplementedError(f"the derivative of {prim} of complex matrices is not implemented")
        if PRIMS[prim].kind == "tuple":
            parts = [record("pick", (hist.handle(step.slot),), k) for k in range(len(step.aval.parts))]
            return REVERSE[prim]([g.get(k) for k in range(len(parts))], parts, args, step.attrs)
        return REVERSE[prim](g, hist.handle(step.slot), args, step.attrs)
    raise NotImplementedError(f"the derivative of {prim} is not implemented")


def _derived_in(step: Step) -> DType | None:
    """The dtype in which a pointwise step is differentiated: that of its operands, but float32 for halves, rounded once."""
    compute = step.compute
    return dtypes.float32 if compute is not None and compute.is_half else compute


def _computed(out: Tensor, args: tuple, compute: DType | None) -> tuple[Tensor, list[Any]]:
    """A pointwise step's result and operands in the dtype of its derivative."""
    if compute is None:
        return out, list(args)
    return cast(out, compute) if out._aval.dtype.is_half else out, [cast(x, compute) if isinstance(x, Tensor) else x for x in args]


def fit(g: Tensor, x: Tensor) -> Tensor:
    """A cotangent in the operand's shape and dtype."""
    return cast(sum_to(g, tuple(x._aval.shape)), x._aval.dtype)


# --- which steps matter -----------------------------------------------------------------------------------------------


def ancestors(roots: list[tuple[History, int]]) -> list[tuple[History, list[int]]]:
    """The slots that the roots depend on, in the order of recording: by history, oldest first."""
    histories: dict[int, History] = {}
    found: dict[int, set[int]] = {}
    stack = list(roots)
    while stack:
        h, slot = stack.pop()
        mine = found.setdefault(h.id, set())
        if slot in mine:
            continue
        histories[h.id] = h
        step = h.steps()[slot]
        if slot != step.slot:  # a run-time number
            continue
        mine.add(slot)
        if step.prim == "input":
            origin = h.origins.get(step.inputs_before)
            if origin is not None:
                stack.append(origin)
        elif step.prim == "custom":
            for x in h.payload[slot].call.inputs:
                place = locate(x) if isinstance(x, Tensor) and x._aval.requires_grad and not x._leaf else None
                if place is not None:
                    stack.append(place)
        else:
            stack.extend((h, a) for a in step.args if type(a) is int and a not in mine)
    return [(histories[i], sorted(found[i])) for i in sorted(histories)]


def dependents(
    places: list[tuple[History, int]], start: set[tuple[int, int]], leaves: set[int]
) -> dict[int, set[int]]:
    """The ancestors of `places`, by history, whose value depends on the starting places or leaves."""
    out: dict[int, set[int]] = {}
    for h, slots in ancestors(places):
        mine = out.setdefault(h.id, set())
        steps = h.steps()
        for slot in slots:
            step = steps[slot]
            if (h.id, slot) in start:
                mine.add(slot)
            elif step.prim == "input":
                origin = h.origins.get(step.inputs_before)
                if origin is not None:
                    if origin[1] in out.get(origin[0].id, ()):
                        mine.add(slot)
                elif id(h.inputs[step.inputs_before]) in leaves:
                    mine.add(slot)
            elif step.prim == "custom":
                payload = h.payload[slot]
                for x in payload.call.inputs:
                    if isinstance(x, Tensor) and x._aval.requires_grad:
                        place = None if x._leaf else locate(x)
                        if (x._leaf and id(x) in leaves) or (place is not None and place[1] in out.get(place[0].id, ())):
                            mine.add(slot)
            elif any(type(a) is int and a in mine for a in step.args):
                mine.add(slot)
    return out


def depends_on_others(roots: list[Tensor], own: list[Tensor], ended: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether tensors were computed from something that requires grad by itself and is not in `own`: a leaf, or the
    variable of a function transform (a clone that requires grad of what does not) that has not `ended`."""
    leaves = {id(x) for x in own if x._leaf}
    places = [locate(x) for x in own if not x._leaf]
    variables = {*ended, *[(place[0].id, place[1]) for place in places if place is not None]}
    stack: list[tuple[History, int]] = []
    seen: set[tuple[int, int]] = set()

    def follow(x: Tensor) -> bool:
        if not x._aval.requires_grad:
            return False
        if x._leaf:
            return id(x) not in leaves
        place = locate(x)
        if place is not None:
            stack.append(place)
        return False

    if any([follow(t) for t in roots]):
        return True
    steps_of: dict[int, dict[int, Step]] = {}  # nothing is recorded meanwhile, but by `locate` in the present trace
    while stack:
        h, slot = stack.pop()
        if (h.id, slot) in seen:
            continue
        seen.add((h.id, slot))
        steps = steps_of.get(h.id)
        if steps is None or slot not in steps:
            steps = steps_of[h.id] = h.steps()
        step = steps[slot]
        if slot != step.slot or not getattr(step.aval, "requires_grad", False):
            continue
        if step.prim == "input":
            origin = h.origins.get(step.inputs_before)
            if origin is not None:
                stack.append(origin)
            elif id(h.inputs[step.inputs_before]) not in leaves:
                return True
        elif step.prim == "custom":
            if any([follow(x) for x in h.payload[slot].call.inputs if isinstance(x, Tensor)]):
                return True
        elif step.prim == "clone" and not steps[step.args[0]].aval.requires_grad:
            if (h.id, slot) not in variables:
                return True
        else:
            stack.extend([(h, a) for a in step.args if type(a) is int])
    return False


# --- forward ----------------------------------------------------------------------------------------------------------------


class Forward:
    """Forward walks from the same tensors `starts` to the same `roots`, one for each set of tangents.

    steps: those that tangents may pass, oldest first: history, slot, step, which of the starts it is, or None, and a
    memory of what its rule needs whatever the tangents are (`forward_step`), good for the trace of number `memorised`.
    """

    def __init__(self, roots: list[Tensor], starts: list[Tensor]) -> None:
        self.roots = roots
        self.places = [locate(r) for r in roots]
        self.leaves = [(id(x), k) for k, x in enumerate(starts) if x._leaf]
        given: dict[tuple[int, int], int] = {}
        for k, x in enumerate(starts):
            place = None if x._leaf else locate(x)
            if place is not None:
                given[place[0].id, place[1]] = k
        self.steps: list[tuple[History, int, Step, int | None, dict[Any, Any]]] = []
        self.memorised = local.trace.id
        for h, slots in ancestors([p for p in self.places if p is not None]):
            steps = h.steps()
            for slot in slots:
                step = steps[slot]
                start = given.get((h.id, slot))
                if start is not None or step.prim in ("input", "custom") or getattr(step.aval, "requires_grad", False):
                    self.steps.append((h, slot, step, start, {}))

    def is_plain(self, tr: Trace) -> bool:
        """Whether all of it lies in the present trace, and its rules are those of the tables."""
        return all([h.trace is tr and step.prim != "custom" for h, _, step, _, _ in self.steps]) and not tr.origins

    def forget(self) -> None:
        for *_, memory in self.steps:
            memory.clear()

    def push(self, tangents: list[Tensor]) -> list[Tensor | None]:
        """Tangents of the roots when the starts have these."""
        by_leaf = {leaf: tangents[k] for leaf, k in self.leaves}
        known: dict[int, dict[int, Any]] = {}
        if local.trace.id != self.memorised:
            self.memorised = local.trace.id
            self.forget()
        for h, slot, step, start, memory in self.steps:
            mine = known.setdefault(h.id, {})
            t: Any
            if start is not None:
                t = tangents[start]
            elif step.prim == "input":
                origin = h.origins.get(step.inputs_before)
                if origin is not None:
                    t = known.get(origin[0].id, {}).get(origin[1])
                else:
                    t = by_leaf.get(id(h.inputs[step.inputs_before]))
            elif step.prim == "custom":
                t = h.payload[slot].call.forward_tangent(h.payload[slot].position, known, by_leaf)
            else:
                incoming = tuple([mine.get(a) if type(a) is int else None for a in step.args])
                t = None
                if any([x is not None for x in incoming]):
                    t = forward_step(h, step, incoming, memory)
            if t is not None:
                mine[slot] = t
        out = []
        for root, place in zip(self.roots, self.places, strict=True):
            if root._leaf:
                out.append(by_leaf.get(id(root)))
            else:
                out.append(None if place is None else known.get(place[0].id, {}).get(place[1]))
        return out


def forward(roots: list[Tensor], starts: list[Tensor], tangents: list[Tensor]) -> list[Tensor | None]:
    """Tangents of `roots` when the tensors `starts` have the given tangents."""
    return Forward(roots, starts).push(tangents)


def forward_step(hist: History, step: Step, tangents: tuple, memory: dict[Any, Any]) -> Any:
    """The tangent of one step's result. memory: its operands, and its partial derivatives by operand, once they are known."""
    prim = step.prim
    args = memory.get("args")
    if args is None:
        args = memory["args"] = operand_handles(hist, step)
    row = PARTIALS.get(prim)
    if row is not None:
        compute = _derived_in(step)
        total: Tensor | None = None
        for k, t in enumerate(tangents):
            if t is None:
                continue
            if k not in memory:
                if "computed" not in memory:
                    memory["computed"] = _computed(hist.handle(step.slot), args, compute)
                out, operands = memory["computed"]
                extra = () if step.attrs is None else (step.attrs,)
                memory[k] = row[k](out, *operands, *extra)
            part = scale(cast(t, compute) if compute is not None else t, memory[k])
            if part is not None:
                total = part if total is None else total + part
        if total is None:
            return None
        if tuple(total._aval.shape) != tuple(step.aval.shape):
            total = record("expand", (total,), tuple(step.aval.shape))
        return cast(total, step.aval.dtype)
    if prim == "pick":
        return tangents[0][step.attrs]
    if prim in FORWARD:
        if PRIMS[prim].kind == "tuple":
            parts = [record("pick", (hist.handle(step.slot),), k) for k in range(len(step.aval.parts))]
            return FORWARD[prim](tangents, parts, args, step.attrs)
        return FORWARD[prim](tangents, hist.handle(step.slot), args, step.attrs)
    if prim in TRANSPOSES:
        moved = forward_linear(prim, tangents, args, step.attrs)
        if moved is not None and tuple(moved._aval.shape) != tuple(step.aval.shape):
            moved = record("expand", (moved,), tuple(step.aval.shape))
        return moved
    raise NotImplementedError(f"the forward derivative of {prim} is not implemented")
