"""Endless loops: finding that the steps of a trace repeat, and cutting where one repetition ends.

A loop that never looks at a value would grow its trace for ever. When a long trace is being extended by *new* steps
(known ones never come here) its recent past is searched for a period; from then on the trace ends at the next
boundary of the period. The following trace starts at that boundary, repeats from its beginning and is cut at the same
phase, so such a loop needs one program for its start, one for its middle and one for its end.
"""

from __future__ import annotations

from typing import Any

from adjoint.trace.trie import Step

LENGTH = 1024  # steps before a trace is suspected
EVERY = 128  # how often a suspected trace is examined
WINDOW = 768  # how far the examination looks back


def ends_here(tr: Any) -> bool:
    """Whether the trace should stop before its next new step; marks the place so that later walks stop too."""
    node = tr.node
    if node.depth < LENGTH:
        return False
    if tr.period is None:
        if node.depth % EVERY:
            return False
        period = find_period(node)
        if period is None:
            return False
        tr.period = (node.depth, period)
    depth, period = tr.period
    start = first_repeat(node, period)
    if (node.depth - start) % period:
        return False
    node.cut = True
    return True


def same(a: Step, b: Step) -> bool:
    """Whether two steps are the same place of a loop body: each operand equal as a distance or as a fixed slot."""
    if a.prim != b.prim or a.attrs != b.attrs or len(a.args) != len(b.args) or len(a.scalars) != len(b.scalars):
        return False
    if a.prim == "input":
        return False
    shift = a.slot - b.slot
    for x, y in zip(a.args, b.args, strict=True):
        if type(x) is int and type(y) is int:
            if x != y and x - y != shift:
                return False
        elif x != y:
            return False
    return True


def recent(node: Step, count: int) -> list[Step]:
    steps = []
    step: Step | None = node
    while step is not None and step.parent is not None and len(steps) < count:
        steps.append(step)
        step = step.parent
    return steps


def find_period(node: Step) -> int | None:
    """The smallest number of steps after which the recent past repeats, at least three times in the window."""
    steps = recent(node, WINDOW)
    last = steps[0]
    for period in range(1, len(steps) // 3 + 1):
        if same(last, steps[period]) and all(same(steps[k], steps[k + period]) for k in range(2 * period)):
            span = min(len(steps) - period, WINDOW // 2)
            if all(same(steps[k], steps[k + period]) for k in range(span)):
                return period
    return None


def first_repeat(node: Step, period: int) -> int:
    """Depth at which the periodic part begins (the first step that equals the one a period later)."""
    steps = recent(node, node.depth)
    steps.reverse()
    k = len(steps) - 1 - period
    while k >= 0 and same(steps[k + period], steps[k]):
        k -= 1
    return steps[k + 1].depth - 1
