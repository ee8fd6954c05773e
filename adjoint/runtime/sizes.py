"""Kernels that differ in sizes alone: compiled once for all of them.

Batches of ever other lengths, and parameters of ever other shapes that begin at random, need the same kernels again and
again with other numbers in them: where a loop ends, how far it is from row to row. The texts of two such kernels are equal
but for integers. `shared` finds that out for the kernels of a new program: where earlier programs had one with the same
text around other numbers, the numbers that differ are read from the kernel's index table, where the plan puts them, and the
kernel is compiled once more in this form; from then on every size is served by it. What it computes has the same bits, since
lanes, rounds and order are in the text and not in the numbers. Read `shared`, then `_Form`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from adjoint import config
from adjoint.runtime.plan import Host, Plan, Stage

Text = tuple[str, str, list[str]]  # name, one function, and what it declares

_FORMS = 2048  # that are remembered; what was met longest ago is forgotten first
_KNOWN = 4  # sizes that a form remembers
_MOST = 64  # numbers that one kernel reads
_LARGEST = 1 << 31

# An integer that may as well stand in a register: an operand of whole arithmetic, a loop's end, where it begins, a distance.
# All begin alike, so that the search goes from one such place to the next.
_AFTER = "|".join([f"(?<={word} i64 )" for word in ("mul", "add", "sub", "div", "rem", "sw", "uw", "lt", "gt", "le", "ge", "eq", "ne")])
_NUMBER = re.compile(
    rf" i64 (?:(?:{_AFTER})(?:%[\w.]+, (-?\d+)(?=\n)|(-?\d+)(?=,))|(?<=phi i64 )\[ (-?\d+)(?=,)|(?<=, i64 )(-?\d+)(?=\n|\)|, i1 false))"
)

_forms: dict[bytes, _Form] = {}  # by digest of the text without its numbers; what was met last stands last
_lock = threading.Lock()
_programs = 0  # that came through here


class _Form:
    """A text without its numbers.

    known: numbers that were met.  program: of which one was met first.  groups: places of those that the common
    kernel reads, together where they were always equal; None while there is no common kernel.
    """

    __slots__ = ("groups", "known", "program")

    def __init__(self, program: int) -> None:
        self.known: list[tuple[int, ...]] = []
        self.program = program
        self.groups: list[list[int]] | None = None

    def meet(self, numbers: tuple[int, ...]) -> None:
        """Numbers of a kernel that is to be compiled: where an earlier program had others, the common kernel is to serve both."""
        if numbers in self.known:
            return
        if self.program != _programs and self.groups_for(numbers) is None:
            already = {place for group in self.groups or () for place in group}
            values = enumerate(zip(*self.known, numbers, strict=True))
            self.groups = _alike([(place, met) for place, met in values if place in already or len(set(met)) > 1])
        self.known = [*self.known[: _KNOWN - 1], numbers]

    def groups_for(self, numbers: tuple[int, ...]) -> list[list[int]] | None:
        """What the common kernel reads, if it serves these numbers."""
        if self.groups is None:
            return None
        read = {place for group in self.groups for place in group}
        if any([n != m and place not in read for place, (n, m) in enumerate(zip(numbers, self.known[0], strict=True))]):
            return None
        return self.groups if all([numbers[p] == numbers[group[0]] for group in self.groups for p in group]) else None


class _Kernel:
    """One text. numbers: that may be read.  around: what lies before, between and behind them.  words: of its table.  form: what
    it has in common with others."""

    __slots__ = ("around", "form", "numbers", "text", "words")

    def __init__(self, text: str, words: int, declarations: list[str]) -> None:
        places = [m.span(m.lastindex or 0) for m in _NUMBER.finditer(text)]
        ends, starts = [0, *(end for _, end in places)], [*(start for start, _ in places), len(text)]
        self.text, self.words = text, words
        self.numbers = tuple([int(text[start:end]) for start, end in places])
        self.around = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        key = hashlib.blake2b("\n".join(["#".join(self.around), str(words), *declarations]).encode(), digest_size=16).digest()
        self.form = _forms.pop(key) if key in _forms else _Form(_programs)
        _forms[key] = self.form

    def all_groups(self) -> list[list[int]]:
        """Of as many numbers as can be read, whether others have met other ones or not."""
        return _alike([(place, n) for place, n in enumerate(self.numbers) if _fits(n)])[:_MOST]

    def reading(self, groups: list[list[int]] | None) -> tuple[str, tuple[int, ...]]:
        """The text that reads the numbers at these places from its table, and what it reads there."""
        read = tuple([self.numbers[group[0]] for group in groups or ()])
        if groups is None or len(read) > _MOST or not all(map(_fits, read)):
            return self.text, ()
        put = [*map(str, self.numbers)]
        loads = ["entry:\n"]
        for k, group in enumerate(groups):
            loads.append(
                f"  %size{k}.at = getelementptr i32, ptr %idx, i64 {self.words + k}\n"
                f"  %size{k}.word = load i32, ptr %size{k}.at, align 4\n"
                f"  %size{k} = sext i32 %size{k}.word to i64\n"
            )
            for place in group:
                put[place] = f"%size{k}"
        text = "".join([part for pair in zip(self.around, [*put, ""], strict=True) for part in pair])
        return text.replace("entry:\n", "".join(loads), 1), read


def shared(texts: Sequence[Text], plan: Plan) -> list[Text]:
    """The texts to compile instead of these, which are those of a plan's calls in order; the plan's tables get what they read."""
    global _programs
    how = config.get("ADJOINT_SHARED_SIZES")
    if not how:
        return list(texts)
    calls = [call for stage in plan.stages if not isinstance(stage.work, Host) for call in stage.work]
    with _lock:
        _programs += 1
        kernels = [_Kernel(text, len(call.table), declares) for (_, text, declares), call in zip(texts, calls, strict=True)]
        for kernel in kernels:
            kernel.form.meet(kernel.numbers)
        made = [k.reading(k.all_groups() if how > 1 else k.form.groups_for(k.numbers)) for k in kernels]
        while len(_forms) > _FORMS:
            del _forms[next(iter(_forms))]
    if any([words for _, words in made]):
        following = iter([words for _, words in made])
        for k, stage in enumerate(plan.stages):
            if not isinstance(stage.work, Host):
                work = [call._replace(table=(*call.table, *next(following))) for call in stage.work]
                plan.stages[k] = Stage(tuple(work), stage.units)
    return [(name, text, declares) for (name, _, declares), (text, _) in zip(texts, made, strict=True)]


def _fits(number: int) -> bool:
    """Whether a table of 32-bit words takes it."""
    return -_LARGEST <= number < _LARGEST


def _alike(places: Iterable[tuple[int, Any]]) -> list[list[int]]:
    """Places with the same value, together."""
    groups: dict[Any, list[int]] = {}
    for place, value in places:
        groups.setdefault(value, []).append(place)
    return list(groups.values())


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
