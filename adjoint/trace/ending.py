"""The end of a trace: the program of what is still alive is found or built, and run.

`flush` is called when a value is needed, when an iteration or a repeating pattern ends, or when a trace has become too
long. Living handles receive their buffers, and what a later backward needs goes to the trace's `History`.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from adjoint.runtime.garbage import without_collections
from adjoint.runtime.memory import Buffer
from adjoint.storage import encode
from adjoint.trace import bounds, lower, pieces, why
from adjoint.trace.aval import Aval
from adjoint.trace.detached import forget_unreachable, watched
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.state import ALIVE, Trace, counters, fast
from adjoint.trace.trie import Step

if TYPE_CHECKING:
    from adjoint.runtime.in_place import Once

MAX_PROGRAMS = 64  # per step, for different sets of living results
REPEATING = 64  # traces after which a process is taken to repeat itself, and recording becomes native code
PATIENCE = 1e-4  # seconds between two looks whether another thread has ended a trace
SMALL_VIEW = 4096  # bytes of a living view that is copied rather than replayed, and of inputs not worth forgetting


class Compiled:
    """A program and how to call it: which further slots it keeps for derivatives, which slots of living handles they
    want kept, which inputs (by position) a derivative of a living handle can reach, which it may have to compute values from
    again, whether what is left of them is worth forgetting, and where in its results each living handle finds its value (None: in
    the same order)."""

    __slots__ = ("program", "saved", "held", "reach", "behind", "spent", "order")

    def __init__(
        self,
        program: Any,
        saved: tuple[int, ...],
        held: frozenset[int] = frozenset(),
        reach: frozenset[int] = frozenset(),
        behind: frozenset[int] = frozenset(),
        spent: bool = False,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.program, self.saved, self.held, self.reach = program, saved, held, reach
        self.behind, self.spent, self.order = behind, spent, order


watching: Any = None  # while a profile is on: it times the end of a trace, by calling `flush`, and answers True


def flush(tr: Trace) -> None:
    """Run what is recorded, give every living handle its value, and start a new trace."""
    if watching is not None and watching(tr):
        return
    counters["flushes"] += 1
    if tr.eager:
        finish_eager(tr)
        return
    tid, node = tr.id, tr.node
    if len(tr.scalars) != node.scalars_before + len(node.scalars) or len(tr.buffers) != inputs_up_to(node):
        abandon(tr)
        return
    views = living_views(tr) if tr.viewed else None
    alive: list[Any] = []
    h: Any
    for h in tr.handles:  # in this function: as a comprehension with `tid`, or a function of its own, it took a microsecond more
        if (
            getrefcount(h) > ALIVE
            and h._data is None
            and h._aval.__class__ is Aval  # not the several results of one primitive, of which each is picked at once
            and (h._tid == tid or h._tid == -tid)  # not one that another thread has changed since
        ):
            alive.append(h)
    if views:
        alive.extend([v for v in views if v._data is None and v._tid == tid and keeps(tr, v)])
    if tr.mutated:
        for h in tr.mutated.values():
            if h._tid == tid or h._tid == -tid:
                alive.append(h)
    h = None  # which would count as somebody who holds it
    if not alive:
        close(tr)
        return
    key = tuple([h._slot for h in alive])
    programs = node.programs
    compiled = programs.get(key) if programs is not None else None
    if compiled is None:
        try:
            compiled = without_collections(build, tr, key, alive)
        except Exception as error:
            fail(tr, alive, error)
            return
        except BaseException:
            rescue(tr, alive)
            raise
    if tr.id != tid:  # a finalizer has ended the trace meanwhile, and given everything its value
        return
    if tr.node is not node:  # or has recorded more
        flush(tr)
        return
    try:
        if tr.mutated and compiled.program.in_place and tr.giving is None and watching is None and tr.saving is None:
            if end_in_place(tr, compiled, alive):
                return
            if tr.id != tid or tr.node is not node:
                flush(tr)
                return
        results = compiled.program.run(tr.buffers, tr.scalars)
    except Exception as error:
        if tr.id != tid:
            raise
        fail(tr, alive, error)
        return
    except BaseException:
        if tr.id == tid:
            rescue(tr, alive)
        raise
    if tr.id != tid:
        return
    if tr.node is not node:  # a finalizer has recorded more meanwhile
        flush(tr)
        return
    deliver(tid, tr.history, compiled, alive, results)
    hist = tr.hist
    if hist is not None:
        release(hist, compiled, node)
    if tr.node is not node:
        flush(tr)
        return
    if hist is None and fast.claim is not None and not tr.mutated and not views and compiled.program.runs > 1 and not compiled.program.cold:
        remember(tr, compiled, alive)
    close(tr)
    if hist is not None:
        if tr.saving is not None:
            tr.saving(hist, compiled.behind | inputs_behind(node, hist.pinned))
        elif compiled.spent and not hist.payload:
            hist.forget()


def release(hist: History, compiled: Compiled, node: Step) -> None:
    """Let a history that is to be finished let go of what no derivative can ask for."""
    if hist.origins:
        pinned = hist.pinned
        hist.release(compiled.reach | reach_of(node, pinned) if pinned else compiled.reach)


def deliver(tid: int, history: Callable[[], History], compiled: Compiled, alive: list[Tensor], results: list[Any]) -> None:
    """Give the living tensors of a trace their values, and its history what it keeps. Twice is as good as once."""
    if compiled.order is not None:
        results = [results[k] for k in compiled.order]
    if compiled.saved:
        kept = history().values
        for slot, data in zip(compiled.saved, results[len(alive) :], strict=True):
            kept[slot] = data
    for h, data in zip(alive, results, strict=False):
        if h._tid != tid and h._tid != -tid:  # another thread has changed it meanwhile
            continue
        if h._special and h._escape is not None:
            h._escape.write_back(h, data)
        else:
            h._data = data
        if h._aval.requires_grad and h._tid == tid:
            past = history()
            h._hist, h._hslot, h._special = past, h._slot, True
            past.living[h._slot] = weakref.ref(h)
    if compiled.held:
        kept = history().values
        for h, data in zip(alive, results, strict=False):
            if h._slot in compiled.held:
                kept[h._slot] = data


class Giving:
    """A trace whose updates take place in the memory of what they replace: it is being ended so.

    From then on it cannot be computed again (`runtime.in_place`). So the next trace begins before the program runs, and
    whoever meets meanwhile a tensor that waits for its value, be it a finalizer or another thread, asks here.

    tid: the trace's number.  over: whether it is ended, or will be in another way.
    """

    __slots__ = ("_todo", "over", "tid")

    def __init__(self, tid: int) -> None:
        self.tid, self.over = tid, False
        self._todo: tuple[Once, Ended, Callable[[], History], Compiled, list[Tensor]] | None = None

    def begin(self, run: Once, ended: Ended, history: Callable[[], History], compiled: Compiled, alive: list[Tensor]) -> None:
        self._todo = run, ended, history, compiled, alive

    def finish(self) -> Exception | None:
        """Give all tensors their values, whoever comes first; or wait until it is clear that this is not how it ends.

        The answer: an error that nobody will meet in a tensor.
        """
        while self._todo is None:
            if self.over:
                return None
            time.sleep(PATIENCE)
        run, ended, history, compiled, alive = self._todo
        try:
            results = run.finish()
        except Exception as error:
            return unseen(error, *restore(ended, history, alive))
        deliver(self.tid, history, compiled, alive, results)
        return None

    def wait(self) -> None:
        """Until it is over, in another thread."""
        while not self.over:
            time.sleep(PATIENCE)

    @property
    def begun(self) -> bool:
        """Whether memory may have been given up."""
        return self._todo is not None


def end_in_place(tr: Trace, compiled: Compiled, alive: list[Tensor]) -> bool:
    """End a trace with updates in place; False, and nothing has changed, where there is no input to be given up.

    That is one whose memory nobody refers to but the trace, and which no derivative can ask for.
    """
    from adjoint.runtime.in_place import (  # with the driver, which nobody needs before something runs
        Once,
        given_up,
    )

    giving = tr.giving = Giving(tr.id)  # first: other threads look for it when they have the memory in hand
    try:
        node, hist = tr.node, tr.hist
        kept = compiled.behind
        if hist is not None and (hist.pinned or hist.payload):
            keep = [h._slot for h in alive if h._aval.requires_grad and h._tid == tr.id]
            kept = inputs_behind(node, [*keep, *hist.pinned])
        given = given_up(compiled.program, tr.buffers, kept)
        if not given:
            return False
        if hist is None and (compiled.saved or compiled.held or any([h._aval.requires_grad and h._tid == tr.id for h in alive])):
            hist = tr.history()
        run = Once(compiled.program, tr.buffers, tr.scalars, given)
        if hist is not None:
            release(hist, compiled, node)
        giving.begin(run, Ended.of(tr), lambda: cast(History, hist), compiled, alive)
        try:
            close(tr)
            error = giving.finish()
        except BaseException:
            if tr.id != giving.tid:
                giving.finish()
            raise
        run.count()
        if hist is not None:
            run.forget()
            if compiled.spent and not hist.payload:
                hist.forget()
    finally:
        giving.over, tr.giving = True, None
    if error is not None:
        raise error from None
    return True


def remember(tr: Trace, compiled: Compiled, alive: list[Tensor]) -> None:
    """Let `native_end` end the next trace that comes here with the same tensors alive."""
    from adjoint.trace.native_end import CHANGES, Ending

    end, made = tr.node.end, 0
    if end is not None:
        if end is False or end.made >= CHANGES or end.fits(alive, tr):
            return
        made = end.made
        end.drop()
    tr.node.end = Ending.of(tr, compiled, alive, made + 1) or False


def living_views(tr: Trace) -> list[Tensor]:
    """The views made in the trace that somebody still holds; the others are let go, and no longer keep their bases."""
    living = []
    for views in tr.viewed:
        if views.owner is tr:  # else another thread has changed the base, and has made views of it since
            views.recent = [v for v in views.recent if getrefcount(v) > ALIVE]
            living += views.recent
    return living


def enter_views(tr: Trace) -> None:
    """Have the views of a trace that ends, of which `living_views` has let the dead go, found by their bases from now on."""
    for views in tr.viewed:
        if views.owner is tr:
            recent = views.recent
            known = [*recent]
            for v in known:
                views.add(v)
            del recent[: len(known)]  # last: a signal may stop this, and a view entered nowhere would miss its base's changes


def inputs_up_to(node: Step) -> int:
    return node.inputs_before + (node.prim == "input")


def abandon(tr: Trace) -> None:
    """Ctrl-C stopped the recorder between two of its lists: nothing pending can be trusted."""
    living_views(tr)
    enter_views(tr)
    for h in (*tr.handles, *tr.mutated.values()):
        if abs(h._tid) != tr.id:
            continue
        if h._data is None and any(t is h for t in tr.inputs[: len(tr.buffers)]):
            h._data = original(tr, h)  # an update that never ran
        elif h._data is None and h._base is None:
            h.__dict__["_error"] = RuntimeError("this tensor has no value: recording it was interrupted")
    if tr.hist is not None:
        tr.hist.finish(tr.node)
    tr.origins, tr.payload, tr.values = {}, {}, {}
    tr.start()


def keeps(tr: Trace, view: Tensor) -> bool:
    """Whether a living view is worth a copy of its part: small ones are, so that the next use need not replay it,
    and those with a gradient, whose uses before and after must lead to one place in the history."""
    a = view._aval
    if a.requires_grad and tr.payload and ("hook", view._slot) in tr.payload:
        return True
    return (a.requires_grad or a.nbytes <= SMALL_VIEW) and view._base._escape is None


def close(tr: Trace) -> None:
    """Hand what outlives the trace to its history, count it, and start the next one."""
    if tr.viewed:
        enter_views(tr)
    if tr.hist is not None:
        tr.hist.finish(tr.node)
        tr.origins, tr.payload, tr.values = {}, {}, {}
    depth = tr.node.depth
    if depth:
        counters["operations"] += depth
        counters["traces"] += 1
    tr.start()  # before what takes a while, and may be interrupted
    if fast.claim is None and counters["traces"] >= REPEATING and depth and not tr.eager:
        from adjoint.trace import native

        native.install()
    if fast.owner is not tr and fast.claim is not None:
        fast.take_over()
    if watched:
        forget_unreachable()


def finish_eager(tr: Trace) -> None:
    keep = []
    for some in (living_views(tr), tr.handles):
        for h in some:
            if h._aval.__class__ is Aval and h._aval.requires_grad and h._tid == tr.id and getrefcount(h) > ALIVE:
                h._hist, h._hslot, h._special = tr.history(), h._slot, True
                keep.append(h._slot)
    if tr.origins and tr.hist is not None:
        tr.hist.release(reach_of(tr.node, keep + tr.hist.pinned))
    node, hist = tr.node, tr.hist
    close(tr)
    if tr.saving is not None and hist is not None:
        tr.saving(hist, inputs_behind(node, keep + hist.pinned))


def build(tr: Trace, key: tuple, alive: list[Tensor]) -> Compiled:
    """Compile the program of this path for these living results."""
    from adjoint.runtime.program import compile_recorded

    bounds.room_for_program()
    programs = bounds.programs_at(tr.node)
    if len(programs) > MAX_PROGRAMS:
        programs.pop(next(iter(programs), ()), None)
    by_slot = sorted(range(len(key)), key=key.__getitem__)
    canonical = tuple([key[k] for k in by_slot])
    compiled = programs.get(canonical)
    if compiled is None:
        keep = [h._slot for h in alive if h._aval.requires_grad and h._tid == tr.id]
        over = bool(keep) and lower.is_spent(tr.node, keep)  # then no backward will ask for anything
        wanted = lower.slots_to_save(tr.node, keep) if keep and not over else ()
        saved = tuple(s for s in wanted if s not in key)
        walked = tr.walked[1] if tr.walked[0] == tr.id else None
        program, seconds = compile_recorded(lower.Recorded(tr.node, (*canonical, *saved)), pieces.may_be_rare(tr.node, walked))
        held = frozenset(wanted) & frozenset(key)
        spent = over and sum([b.nbytes for b in tr.buffers]) > SMALL_VIEW
        behind = frozenset() if over else inputs_behind(tr.node, keep)
        compiled = Compiled(program, saved, held, reach_of(tr.node, keep), behind, spent)
        counters["programs"] += 1
        why.compiled(tr.node, canonical, saved, compiled.program, seconds)
        programs[canonical] = compiled
        pieces.note(tr.node, program, walked)
    if key != canonical:  # the same results in another order of the handles
        order = [0] * len(key)
        for position, k in enumerate(by_slot):
            order[k] = position
        order += range(len(key), len(key) + len(compiled.saved))
        compiled = programs[key] = Compiled(
            compiled.program, compiled.saved, compiled.held, compiled.reach, compiled.behind, compiled.spent, tuple(order)
        )
    return compiled


def reach_of(node: Step, slots: list[int]) -> frozenset[int]:
    """Positions of the inputs to which a derivative of some slots can lead."""
    needed, found = set(slots), []
    step: Step | None = node if slots else None
    while step is not None and step.parent is not None:
        if step.slot in needed and getattr(step.aval, "requires_grad", step.aval is not None):
            needed.update(a for a in step.args if type(a) is int)
            if step.prim == "input":
                found.append(step.inputs_before)
        step = step.parent
    return frozenset(found)


def inputs_behind(node: Step, slots: list[int]) -> frozenset[int]:
    """Positions of the inputs whose values a derivative of some slots may need, those without a gradient, too."""
    needed, found = set(slots), []
    step: Step | None = node if slots else None
    while step is not None and step.parent is not None:
        if step.slot in needed and step.aval is not None:
            needed.update(a for a in step.args if type(a) is int)
            if step.prim == "input":
                found.append(step.inputs_before)
        step = step.parent
    return frozenset(found)


def compute(step: Step, slot: int, buffers: list[Any], scalars: list[Any]) -> Any:
    """The value of one slot of a path, beside whatever becomes of its trace."""
    from adjoint.runtime.program import compile_recorded

    compiled = step.programs.get((slot,)) if step.programs is not None else None
    if compiled is None or compiled.saved:
        bounds.room_for_program()
        compiled = Compiled(compile_recorded(lower.Recorded(step, (slot,)))[0], ())
        counters["programs"] += 1
        if not step.aval.requires_grad:
            bounds.programs_at(step)[(slot,)] = compiled
    return compiled.program.run(buffers, scalars)[0]


def fail(tr: Trace, alive: list[Tensor], error: Exception) -> None:
    """After data that an operation cannot take: results that failed keep the error until somebody needs them.

    Raised at once is what nobody would meet again: an update that did not take place, or a failure of the program
    alone.
    """
    left = unseen(error, *rescue(tr, alive))
    if left is not None:
        raise left from None


def unseen(error: Exception, failed: bool, lost: Exception | None) -> Exception | None:
    """Of the failure of a program what nobody would meet again, after `rescue`."""
    if lost is not None:
        return type(lost)(*lost.args)
    return None if failed else error


def rescue(tr: Trace, alive: list[Tensor]) -> tuple[bool, Exception | None]:
    """After a failure: compute step by step what can be computed, mark the rest with its error, start anew.

    The answer: whether a tensor was marked, and the error of an update that failed, whose tensor keeps its old value.
    """
    found = restore(Ended.of(tr), tr.history, alive)
    close(tr)
    return found


class Ended(NamedTuple):
    """What a trace was."""

    id: int
    node: Step
    inputs: list[Tensor]
    buffers: list[Any]
    scalars: list[Any]
    mutated: dict[int, Tensor]
    trail: list[tuple[int, Any, int]]

    @staticmethod
    def of(tr: Trace) -> Ended:
        return Ended(tr.id, tr.node, tr.inputs, tr.buffers, tr.scalars, tr.mutated, tr.trail)


def restore(tr: Ended, history: Callable[[], History], alive: list[Tensor]) -> tuple[bool, Exception | None]:
    """`rescue` but for the end of the trace. Twice is as good as once."""
    values, errors = lower.run_steps(tr.node, tr.buffers, tr.scalars)
    failed, lost = False, None
    for h in alive:
        if abs(h._tid) != tr.id:
            continue
        error = None
        slot: Any = h._slot
        if slot not in values:
            error = errors.get(slot, RuntimeError("an operation this tensor depends on failed"))
            slot = before(tr, h, values)
        if slot is None:
            h.__dict__["_error"] = error
            failed = True
            continue
        lost = lost or error
        if type(slot) is not int:
            h._data = slot
            continue
        data = Buffer.from_array(np.ascontiguousarray(encode(values[slot], h._aval.dtype)))
        if h._escape is not None:
            h._escape.write_back(h, data)
        else:
            h._data = data
        if h._aval.requires_grad and h._tid == tr.id:
            h._hist, h._hslot, h._special = history(), slot, True
    return failed, lost


def before(tr: Ended, h: Tensor, values: dict[int, Any]) -> Any:
    """What a tensor was before a change in place that failed: a slot that has its value, its memory, or None."""
    for who, old, new in reversed(tr.trail):
        if who == id(h):
            for slot in (new, old):
                if type(slot) is not int or slot in values:
                    return slot
    if id(h) in tr.mutated and any([t is h for t in tr.inputs]):
        return original(tr, h)
    return None


def original(tr: Trace | Ended, h: Tensor) -> Any:
    return next(b for t, b in zip(tr.inputs, tr.buffers, strict=False) if t is h)
