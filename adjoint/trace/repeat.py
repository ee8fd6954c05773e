"""Endless loops: finding that the steps of a trace repeat, and cutting where one repetition ends.

A loop that never looks at a value would grow its trace for ever. When a long trace is being extended by *new* steps
(known ones never come here) its recent past is searched for a period; from then on the trace ends at the next
boundary of the period. The following trace starts at that boundary, repeats from its beginning and is cut at the same
phase, so such a loop needs one program for its start, one for its middle and one for its end.
"""

from __future__ import annotations

from collections import deque
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
    found = tr.period
    if found is None:
        turn = tr.id, node.depth // EVERY
        if tr.looked == turn:
            return False
        tr.looked = turn
        period = find_period(node)
        if period is None:
            return False
        found = tr.period = Repetition(node, period)
    elif not found.goes_on(node):
        tr.period = None
        return False
    if not found.is_round(node):
        return False
    node.cut = True
    return True


class Repetition:
    """A repetition that was found, and is followed while the trace grows.

    first: how many operations come before it.  last: the operations of the latest period, oldest first.  upto: the step
    that was looked at last.  rounds: how many were complete then.
    """

    __slots__ = ("first", "last", "period", "rounds", "upto")

    def __init__(self, node: Step, period: int) -> None:
        self.period, self.first, self.upto = period, first_repeat(node, period), node
        self.rounds = (operations(node) - self.first) // period
        self.last: deque[Step] = deque(maxlen=period)
        step: Any = node
        while len(self.last) < period:
            if step.prim != "input":
                self.last.appendleft(step)
            step = step.parent

    def goes_on(self, node: Step) -> bool:
        """Whether the steps since the last look repeat those of a period before."""
        fresh, step = [], node
        while step is not self.upto:
            if step.prim != "input":
                fresh.append(step)
            step = step.parent  # type: ignore[assignment]
        for step in reversed(fresh):
            if not same(step, self.last[0]):
                return False
            self.last.append(step)
        self.upto = node
        return True

    def is_round(self, node: Step) -> bool:
        """Whether a round ends here, or has ended since the last look: among the steps of a derivative nobody looks."""
        rounds, rest = divmod(operations(node) - self.first, self.period)
        before, self.rounds = self.rounds, rounds
        return rest == 0 or rounds > before


def alike(a: Step, b: Step) -> bool:
    """Whether two steps are the same operation, whatever it is applied to."""
    return a.prim == b.prim and a.attrs == b.attrs and len(a.args) == len(b.args) and len(a.scalars) == len(b.scalars)


def same(a: Step, b: Step) -> bool:
    """Whether two steps are the same place of a loop body: each operand equal as a distance or as a fixed slot."""
    if not alike(a, b) or a.prim == "input":
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
    steps: list[Step] = []
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


def operations(node: Step) -> int:
    """Steps up to `node` that are not inputs: where a trace takes its inputs says nothing of the loop's phase."""
    return node.depth - node.inputs_before - (node.prim == "input")


def first_repeat(node: Step, period: int) -> int:
    """How many operations come before the periodic part.

    A trace that began inside the loop repeats from its first operation, though the first round takes as inputs what
    later rounds find computed. It must be cut after whole rounds, so that the next trace walks the same path; where the
    first trace is cut does not matter.
    """
    steps = [s for s in recent(node, node.depth) if s.prim != "input"]
    steps.reverse()
    k = len(steps) - 1 - period
    while k >= 0 and same(steps[k + period], steps[k]):
        k -= 1
    start = k + 1
    while k >= 0 and alike(steps[k + period], steps[k]):
        k -= 1
    return 0 if k < 0 else start
