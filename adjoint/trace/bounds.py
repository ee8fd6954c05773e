"""Bounds of what the trie keeps: past them, the paths and programs used longest ago are forgotten.

A program that makes ever new shapes would grow the trie for ever. `look` is called where a new step is entered, and
`room_for_program` where a program is about to be compiled; past ADJOINT_MAX_NODES or ADJOINT_MAX_PROGRAMS they call
`sweep`, which walks the trie once if there are too many steps; where programs hang is known without. Nothing is paid
where steps and programs are known.

Forgetting is safe at any moment. A step leads to its parents and never needs to be found again: whoever stands on a
forgotten path goes on, and what is recorded there is merely not shared with later traces. The paths on which some
thread's trace stands are kept all the same, so that what is being recorded is found the next time. Read `sweep`.
"""

from __future__ import annotations

import threading
from typing import Any

from adjoint import config
from adjoint.trace import state
from adjoint.trace.trie import Macro, Step, Sums, path

EVERY = 256  # new steps between two readings of the limit
KEPT = 0.75  # of a limit, after a sweep
STANDS = float("inf")  # last use of a step on the path of a trace that is being recorded

counters = {"nodes_evicted": 0, "programs_evicted": 0, "sweeps": 0}
_hung: dict[Step, None] = {}  # steps that were given programs; they stay when those go, since somebody may be adding to them
_others = 0  # living programs to which the trie did not lead when it was last looked through: somebody else holds them, or garbage
_sweeping = threading.Lock()


def living_nodes() -> int:
    """Places the trie has now."""
    return state.counters["nodes"] - counters["nodes_evicted"]


def look() -> None:
    """Called every `EVERY` new steps: forget the oldest if there are too many."""
    state.look_at = state.counters["nodes"] + EVERY
    limit = config.get("ADJOINT_MAX_NODES")
    if living_nodes() >= limit:
        sweep(limit, config.get("ADJOINT_MAX_PROGRAMS"))


def programs_at(step: Step) -> dict[Any, Any]:
    """What hangs there, to be added to."""
    if step.programs is None:
        step.programs = {}
    _hung[step] = None
    return step.programs


def room_for_program() -> None:
    """Called before a program is compiled: forget the oldest if there are too many."""
    global _others
    from adjoint.runtime.program import living  # not needed before something is compiled

    limit, count = config.get("ADJOINT_MAX_PROGRAMS"), len(living)
    if count < limit:
        _others = 0
    elif count >= limit + _others:
        found = sweep(config.get("ADJOINT_MAX_NODES"), limit)
        if found is not None:
            _others = count - found


def sweep(max_nodes: int, max_programs: int) -> int | None:
    """Forget what was used longest ago, down to `KEPT` of each limit that is exceeded.

    How many programs there were on the trie; None if another thread is at it.
    """
    if not _sweeping.acquire(blocking=False):
        return None
    try:
        counters["sweeps"] += 1
        hung = list(_hung)
        if living_nodes() < max_nodes:
            return _forget_programs(hung, max_programs)
        steps = _counted()
        for step in set(hung).difference(steps):  # on a path that was forgotten while somebody stood there
            _hung.pop(step, None)
        found = _forget_programs(steps, max_programs)
        _forget_nodes(steps, max_nodes)
        return found
    finally:
        _sweeping.release()


def _all_steps() -> list[Step]:
    """Every step of the trie but the roots, parents before children; path by path, since steps of one lie together in memory."""
    steps, stack = [], list(state._roots.values())
    while stack:
        step = stack.pop()
        if step.parent is not None:
            steps.append(step)
        if step.kids:
            stack += [s for key, s in list(step.kids.items()) if key is s.key]  # a step may have short cuts, too
    return steps


def _counted() -> list[Step]:
    """`_all_steps`; from here on the count is the truth: threads that made the same step at the same time have counted it twice."""
    steps = _all_steps()
    counters["nodes_evicted"] = state.counters["nodes"] - len(steps)
    return steps


def _forget_programs(steps: list[Step], limit: int) -> int:
    """How many there were before."""
    known: dict[Any, list[tuple[Step, Any]]] = {}  # program -> where it hangs, under which keys
    for step in steps:
        if step.programs:
            for key, compiled in list(step.programs.items()):
                known.setdefault(compiled.program, []).append((step, key))
    excess = len(known) - int(limit * KEPT) if len(known) >= limit else 0
    for program in sorted(known, key=lambda p: p.last_use())[:excess]:
        for step, key in known[program]:
            step.programs.pop(key, None)  # type: ignore[union-attr]
            if step.end and step.end.program is program:
                step.end = None
        counters["programs_evicted"] += 1
    return len(known)


def _forget_nodes(steps: list[Step], limit: int) -> None:
    if len(steps) < limit or not steps:
        return
    last = _last_uses(steps)
    oldest_kept = sorted(last.values(), reverse=True)[int(limit * KEPT)]
    _forget(steps, {s for s in steps if last[s] <= oldest_kept and last[s] < STANDS})


def forget_below(places: list[Step]) -> None:
    """Forget these places and all that follows them; of roots, what follows."""
    if not _sweeping.acquire(blocking=False):
        return
    try:
        steps, forgotten = _counted(), set()
        below = set(places)
        for step in steps:  # parents come before children
            if step in below or step.parent in below:
                below.add(step)
                forgotten.add(step)
        _forget(steps, forgotten)
    finally:
        _sweeping.release()


def _forget(steps: list[Step], forgotten: set[Step]) -> None:
    """Forget some of all steps."""
    for step in (*state._roots.values(), *steps):
        if step not in forgotten:  # with a step goes all that follows it, since its last use is the latest of theirs
            _forget_macros(step, forgotten)
            if step.hot in forgotten:
                step.hot = None
            if step.row is not None and step.row[3] in forgotten:
                step.row = None
            for key in [k for k, s in list(step.kids.items()) if s in forgotten]:
                step.kids.pop(key, None)
    for step in forgotten:  # a history may hold the step, which must not hold what followed it
        _hung.pop(step, None)
        if step.end:
            step.end.drop()
        step.hot = step.row = step.end = None
        step.kids.clear()
        if step.macros is not None:
            step.macros.clear()
        if step.programs is not None:
            counters["programs_evicted"] += len({c.program for c in step.programs.values()})
            step.programs.clear()
    counters["nodes_evicted"] += len(forgotten)


def _last_uses(steps: list[Step]) -> dict[Step, float]:
    """When some program at or below each step last ran; never, 0; `STANDS` where a trace stands."""
    last: dict[Step, float] = {}
    for step in reversed(steps):
        latest: float = 0
        if step.programs:
            latest = max([c.program.last_use() for c in list(step.programs.values())], default=0)
        if step.kids:
            latest = max(latest, *[last.get(s, 0) for s in list(step.kids.values())])
        last[step] = latest
    for trace in list(state._traces):
        for step in path(trace.node):
            if step in last:
                last[step] = STANDS
    return last


def _forget_macros(step: Step, forgotten: set[Step]) -> None:
    """A macro that leads to a forgotten step, or starts from one, would hold the path to it."""
    if not step.macros:
        return
    for key, macro in list(step.macros.items()):
        if macro.end in forgotten or any(isinstance(k, Step) and k in forgotten for k in key):
            step.macros.pop(key, None)
        elif isinstance(macro, Macro) and isinstance(macro.extra, Sums) and macro.extra.end in forgotten:
            macro.extra = None
