"""Iterations that differ every time: cutting their traces in pieces that are alike.

A decoder that is fed its own words or the right ones by chance, a network over trees, layers that are dropped at random:
every iteration is another path, which would be recorded, differentiated and compiled anew. Where the long traces that
begin alike (a *family*, by the lines that record their first steps) need ever new programs, while those they had before
are not used again, they end from then on at *marks*: two operations that follow one another wherever a part of the
computation begins that has been met before. The pieces are as different as the parts are, not as the iterations. They
begin at a root of the family's own, so that other traces know nothing of it; a derivative goes through them piece by piece
(`autograd.segments`), and updates of parameters are made a few at a time (`macro.update`).

Where a trace is cut depends on its path and on the programs before it alone, never on time. Read `note`, then `ends_here`.
"""

from __future__ import annotations

import threading
import weakref
from array import array
from collections import deque
from typing import Any

from adjoint.trace import bounds, state
from adjoint.trace.repeat import operations
from adjoint.trace.trie import Step, path

LONG = 96  # steps of a trace that may be cut
HEAD = 8  # operations by which traces are told apart
TRIES = 5  # programs in a row of which none was used again
SHORT = 24  # steps of a trace whose program is counted, and may be rare
LEAST = 12, 24, 48, 96, 192  # steps of a piece
MOST_MARKS = 6
LOOKED_AT = 4096  # operations of a trace, from its end, among which marks are looked for
PRICE = 4  # how many operations may be compiled again and again for one piece less
FAMILIES = 64  # at most; the oldest is given up
TOGETHER = 8  # parameters that are updated in one piece

Token = tuple[str, Any]  # what an operation is, and the user's line


class Family:
    """Traces that begin alike and go on in ever other ways.

    marks: they end between two operations of which these are the tokens.  least: after so many steps.
    learned: how often marks were looked for.
    """

    __slots__ = ("learned", "least", "marks")

    def __init__(self) -> None:
        self.learned, self.least = 0, LEAST[0]
        self.marks: set[tuple[Token, Token]] = set()

    def learn(self, node: Step) -> bool:
        """Look for marks on the path to `node`; False if none would help."""
        self.learned += 1
        outline = Outline(path(node))
        found = [outline.marks(self.marks, least) for least in (LEAST if not self.marks else [self.least])]
        _, marks, self.least = min(found, key=lambda choice: choice[0])
        self.marks |= marks
        return bool(marks)


class Seen:
    """What is known of traces that begin alike and are not cut.

    programs: the latest.  learned: how often marks were looked for, in vain.  walk: number of the derivative that was counted last.
    """

    __slots__ = ("learned", "programs", "walk")

    def __init__(self) -> None:
        self.programs: deque[weakref.ref[Any]] = deque(maxlen=TRIES)
        self.learned = self.walk = 0

    def once(self) -> bool:
        """Whether there are so many programs, none of which was used again."""
        living = [p for p in [known() for known in list(self.programs)] if p is not None]
        return len(living) == TRIES and not any([p.uses() > 1 for p in living])


families: dict[tuple[Token, ...], Family] = {}
apart: dict[Any, None] = {}  # lines of derivatives that go through ended traces one by one, oldest first
_seen: dict[tuple[Token, ...], Seen] = {}  # by head
_walks: dict[Any, Seen] = {}  # by the line of a derivative that goes through several traces
_noting = threading.Lock()


def may_be_rare(node: Step, walked: tuple[Any, int] | None = None) -> bool:
    """Whether the program of the path to `node`, which is to be made, may be used only once: the last ones were, or it is that
    of a piece, or of a derivative that is taken apart (`walked` as for `note`)."""
    if walked is not None and walked[0] in apart:
        return True
    if node.family or node.depth < SHORT:
        return bool(node.family)
    seen = _seen.get(head_of(node))
    return seen is not None and seen.once()


def note(node: Step, program: Any, walked: tuple[Any, int] | None = None) -> None:
    """Called with a program that has just been made: count it, and begin to cut such traces if there are too many.

    walked: the line and number of a derivative of several traces that has come through one in this one.
    """
    if node.depth < SHORT:
        return
    if not _noting.acquire(blocking=False):  # another thread, or a finalizer within this call: one program less is counted
        return
    try:
        _note(node, program)
        if walked is not None and node.depth >= LONG:
            _note_walk(*walked, node, program)
    finally:
        _noting.release()


def _note_walk(line: Any, number: int, node: Step, program: Any) -> None:
    """The derivatives of traces that were ended by reading values (where a router sends its tokens, whether a solver goes on)
    follow one another in one trace, of which the path is as many as the traces have together. Where none is met again, each is
    to have a trace of its own."""
    seen = _walks.get(line)
    if seen is None:
        _make_room(_walks)
        seen = _walks[line] = Seen()
    if number == seen.walk:  # one program of each derivative is counted
        return
    seen.walk = number
    if node.programs is not None and len(node.programs) > 1:  # it has come here before, with other tensors alive
        seen.programs.clear()
        return
    seen.programs.append(weakref.ref(program))
    if seen.once():
        _make_room(apart)
        apart[line] = None


def _make_room(table: dict[Any, Any]) -> None:
    """For one more; what was entered first goes."""
    while len(table) >= FAMILIES:
        del table[next(iter(table))]


def _note(node: Step, program: Any) -> None:
    family = node.family
    if family:
        if node.depth >= LONG and family.learned < MOST_MARKS and family.learn(node):
            bounds.forget_below([root for root in state.roots() if root.family is family])
        return
    head = head_of(node)
    seen = _seen.get(head)
    if seen is None:
        _make_room(_seen)
        seen = _seen[head] = Seen()
    seen.programs.append(weakref.ref(program))
    if node.depth >= LONG and seen.learned < MOST_MARKS and seen.once():
        seen.learned += 1
        begin(head, node)


def begin(head: tuple[Token, ...], node: Step) -> None:
    """Cut traces with this head from now on, if there are marks on the path to `node` that help."""
    family = Family()
    if not family.learn(node):
        return
    del _seen[head]
    while len(families) >= FAMILIES:
        state.drop_roots(families.pop(next(iter(families))))
    families[head] = family
    bounds.forget_below(_beginnings(head))


def ends_here(tr: Any, what: str) -> bool:
    """Whether the trace should end before the operation `what`, which is new here; marks the place so that later walks
    stop too."""
    node = tr.node
    family = node.family
    if family is False or tr.static or tr.whole or tr.watch is not None or tr.eager:
        return False
    if family is None:
        if operations(node) < HEAD:
            return False
        family = node.family = families.get(head_of(node), False)
        if not family:
            return False
    elif node.depth < family.least or (token_of(node), (what, state.user_frame())) not in family.marks:
        return False
    node.cut = family
    return True


def end_after(*tensors: Any) -> None:
    """End the trace once these are computed, where what comes before has ever other shapes and what follows does not: it then has
    paths and programs that are met again. Nothing where a trace must not be cut."""
    from adjoint.trace import recorder

    tr = state.local.trace
    if tr.static or tr.whole or tr.watch is not None or tr.eager:
        return
    for t in tensors:
        while t._base is not None:  # of a view what it looks at
            t = t._base
        if abs(t._tid) == tr.id and t._data is None:
            recorder.realize(t)


def are_cut(node: Step) -> bool:
    """Whether a trace that ended at `node` was a piece."""
    return isinstance(node.cut, Family)


def token_of(node: Step) -> Token | None:
    """That of the operation before what comes next."""
    step: Step | None = node
    while step is not None and step.prim == "input":
        step = step.parent
    return None if step is None or step.parent is None else _token(step)


def _token(step: Step) -> Token:
    return (step.prim if step.scope is None else step.scope.name), step.where


def head_of(node: Step) -> tuple[Token, ...]:
    """The first operations of the path to a step."""
    first: deque[Step] = deque(maxlen=HEAD)
    step: Step | None = node
    while step is not None and step.parent is not None:
        if step.prim != "input":
            first.appendleft(step)
        step = step.parent
    return tuple([(step.prim, step.where) for step in first])


def _beginnings(head: tuple[Token, ...]) -> list[Step]:
    """The places where traces with this head have its last operation behind them."""
    found = []
    stack = [root for root in state.roots() if not root.family]
    while stack:
        step = stack.pop()
        if operations(step) < HEAD:
            stack += list(step.kids.values())
        elif head_of(step) == head:
            found.append(step)
    return found


def together(groups: list[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
    """Tensors that are updated, those that are alike a few at a time."""
    alike: dict[Any, list[tuple[Any, ...]]] = {}
    for group in groups:
        alike.setdefault(tuple([(t._aval.shape, t._aval.dtype) for t in group]), []).append(group)
    return [same[k : k + TOGETHER] for same in alike.values() for k in range(0, len(same), TOGETHER)]


class Outline:
    """The operations of a trace, among which it is to be cut, but for those of derivatives and updates.

    tokens: numbers that tell them apart.  places: of each pair that follow one another: before which operations.
    """

    def __init__(self, steps: list[Step]) -> None:
        self.tokens = array("i")
        self.places: dict[tuple[Token, Token], list[int]] = {}
        numbers: dict[Token, int] = {}
        last: Step | None = None
        before: Token | None = None
        for step in [s for s in steps if s.prim != "input"][-LOOKED_AT:]:
            if step.whole:
                continue
            token = _token(step)
            inside = last is not None and step.scope is not None and step.scope is last.scope
            if before is not None and not inside:
                self.places.setdefault((before, token), []).append(len(self.tokens))
            self.tokens.append(numbers.setdefault(token, len(numbers)))
            before, last = token, step

    def marks(self, known: set[tuple[Token, Token]], least: int) -> tuple[int, set[tuple[Token, Token]], int]:
        """Marks, besides those that are known, between which there are as few different pieces as possible, if these have so
        many operations at least; with their price."""
        chosen: set[tuple[Token, Token]] = set()
        ends = sorted({k for mark in known for k in self.places.get(mark, ())})
        best = self.price(ends, least)
        candidates = [mark for mark, at in self.places.items() if len(at) > 2 and mark not in known]
        for _ in range(MOST_MARKS - len(known)):
            prices = {mark: self.price(sorted({*ends, *self.places[mark]}), least) for mark in candidates if mark not in chosen}
            mark = min(prices, key=prices.__getitem__, default=None)
            if mark is None or prices[mark] > 0.95 * best:
                break
            best = prices[mark]
            chosen.add(mark)
            ends = sorted({*ends, *self.places[mark]})
        return best, chosen, least

    def price(self, ends: list[int], least: int) -> int:
        """What pieces that may end at these places cost: operations that are compiled, and something for each piece."""
        words, size = memoryview(self.tokens).cast("B"), self.tokens.itemsize
        different: set[bytes] = set()
        begin = price = 0
        for end in (*ends, len(self.tokens)):
            if end - begin >= least or end == len(self.tokens):
                different.add(bytes(words[size * begin : size * end]))
                begin, price = end, price + PRICE
        return price + sum(map(len, different)) // size
