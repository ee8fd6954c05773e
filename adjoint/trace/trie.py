"""The trie of known traces.

A `Step` is a place in the trie: one recorded operation, reached by one path from a root. It knows the result
(slot, aval), what it was applied to (slots of earlier steps), and what may follow (`children`). Reading `parent`
links backwards gives the program; `path` does that. Programs compiled for the path that ends here hang on the step.

`children` is what the fast recording path looks into. Places after which every operation must take the slow path
(escaped memory, reference mode) have `NO_CHILDREN` there; the slow path uses `kids`, which always tells the truth.
"""

from __future__ import annotations

from typing import Any

from adjoint.dtypes import DType
from adjoint.ir.prims import PRIMS

RISKY = frozenset([name for name, prim in PRIMS.items() if prim.kind in ("index", "host", "tuple")])


class Num:
    """A compile-time number among a step's operands (only macros and derivative rules bake numbers in)."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)

    def _key(self) -> tuple:
        return type(self.value), repr(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Num) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class _NoChildren(dict):
    """Finds nothing, so that the fast path hands over to the slow one."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default


NO_CHILDREN: dict = _NoChildren()


class _NoMacros(_NoChildren):
    """Remembers nothing."""

    def __setitem__(self, key: Any, macro: Any) -> None:
        pass


NO_MACROS: dict = _NoMacros()


class Step:
    """One place in the trie.

    prim: primitive name, or one of the trace's own steps: "root", "input", "scalar", "alias", "override", "custom",
        "mode", "mark".
    args: operand slots (int) and baked numbers (`Num`), in the primitive's order.
    scalars: (slot, dtype) of each run-time number this step appends to the trace's list.
    slot: the slot of the result; slots number values along the path, so it is also the highest slot so far.
    compute: the dtype in which pointwise operands meet.
    where: file, line and function of the user's call that first recorded this step.
    cut: a repeating pattern ends here, or a piece of a trace of this family: the trace stops before the next operation.
    whole: recorded in a derivative or an update, which stays together.
    family: of traces that are cut in pieces (`pieces`); None where that was not looked up, False for all others.
    boundary: leaves were updated and gradient mode came back: the trace stops before the next operation, too.
    risky: whether a step up to here may fail on its data: with an index out of range, or in NumPy.
    hot: the child taken last by the native fast path, which compares its k0, k1, k2 (the parts of its key) by identity.
    end: how traces ended here, for the native way (`native_end.Ending`); False where they cannot go it.
    row: what followed the last `x[i]` or `x[i, j]` recorded here (`views.known_part`): slot and chain of x, i (or i, j), the step, the
    chain of x[i].
    """

    __slots__ = (
        "parent", "key", "prim", "args", "attrs", "scalars", "slot", "aval", "compute", "where", "depth",
        "children", "kids", "macros", "programs", "cut", "boundary", "scope", "inputs_before", "scalars_before",
        "hot", "k0", "k1", "k2", "row", "end", "risky", "family", "whole",
    )  # fmt: skip

    def __init__(self, parent: Step | None, key: Any, prim: str, args: tuple = (), attrs: Any = None) -> None:
        self.parent, self.key, self.prim, self.args, self.attrs = parent, key, prim, args, attrs
        self.scalars: tuple[tuple[int, DType], ...] = ()
        self.aval: Any = None  # an Aval; a tuple of them where there are several results; None without a value
        self.compute: DType | None = None
        self.where: tuple[str, int, str] | None = None
        self.children: dict[Any, Step] = {}
        self.kids = self.children
        self.macros: dict[Any, Any] | None = None
        self.programs: dict[Any, Any] | None = None
        self.cut: Any = False
        self.whole = False
        self.family: Any = None if parent is None else parent.family
        self.boundary = False
        self.risky: bool = prim in RISKY or (parent is not None and parent.risky)
        self.scope: Any = None
        self.hot: Step | None = None
        self.row: tuple | None = None
        self.end: Any = None
        if type(key) is tuple and 2 <= len(key) <= 3:
            self.k0, self.k1 = key[0], key[1]
            self.k2 = key[2] if len(key) == 3 else None
        else:
            self.k0, self.k1, self.k2 = key, None, None
        if parent is None:
            self.slot, self.depth, self.inputs_before, self.scalars_before = -1, 0, 0, 0
        else:
            self.slot, self.depth = parent.slot, parent.depth + 1
            self.inputs_before = parent.inputs_before + (parent.prim == "input")
            self.scalars_before = parent.scalars_before + len(parent.scalars)


class Macro:
    """end: where the steps lead.  results: what to return, as (slot, aval) or the position of an argument.  extra: for a
    backward, the `Sums` that followed."""

    __slots__ = ("end", "results", "single", "extra")

    def __init__(self, end: Step, results: list[Any], single: bool, extra: Any = None) -> None:
        self.end, self.results, self.single, self.extra = end, results, single, extra


class Sums:
    """What follows a known backward when every leaf has a plain concrete gradient already: the gradients become inputs,
    and their sums are computed up to `end`. leaves: for each (position of the leaf among the trace's inputs, aval of its
    gradient, slot of the sum)."""

    __slots__ = ("leaves", "end")

    def __init__(self, leaves: list[tuple], end: Any) -> None:
        self.leaves, self.end = leaves, end


def above(step: Step) -> Step:
    """The step before one that is not a root."""
    assert step.parent is not None
    return step.parent


def path(step: Step | None) -> list[Step]:
    """The steps from the root (left out) to `step`."""
    out = []
    while step is not None and step.parent is not None:
        out.append(step)
        step = step.parent
    out.reverse()
    return out


def bound_slots(step: Step | None, count: int) -> list[int]:
    """The slots of the last `count` inputs of the path to `step`, in their order."""
    slots: list[int] = []
    while step is not None and len(slots) < count:
        if step.prim == "input":
            slots.append(step.slot)
        step = step.parent
    slots.reverse()
    return slots


class Scope:
    """One call of a composite, as the recorded steps remember it: the name its gradient node will carry."""

    __slots__ = ("name", "start")

    def __init__(self, name: str, start: int) -> None:
        self.name, self.start = name, start
