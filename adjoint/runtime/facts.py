"""What each unit of a program's schedule is, for people: operations, shapes, arithmetic, and the user's lines.

`facts(graph)` schedules the graph once more, which gives the same units in the same order (`describe` relies on this,
too), so that a program itself need not keep any of it. Read `Facts`.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from adjoint.ir.graph import Graph, Node, Origin
from adjoint.runtime.contractions import operations
from adjoint.runtime.steps import steps_of
from adjoint.schedule.group import Special
from adjoint.schedule.values import WEIGHTS, Nest, Root, Value

_SHOWN = 5  # operations in a name
# what reads, places or decides, and does no arithmetic on elements
_NO_ARITHMETIC = frozenset(
    "const scalar load index cond multiple take place slice_update cat check position guard cast random_bits".split()
)
_NO_NAME = frozenset("const scalar load index cond multiple check guard".split())

Kind = tuple[tuple[int, ...], str]  # shape, name of the dtype


@dataclass(frozen=True)
class Facts:
    """One unit: a loop nest, a product, a convolution, an order, or a step in NumPy ("host").

    name: its operations, shortened.  operations: all of them.  inputs, results: (shape, dtype) of what lies in memory.
    flops: arithmetic operations on elements in one run, in additions (an `exp` counts as 12: `values.WEIGHTS`);
    exactly 2mnk for a product.  bytes: of inputs and results.  origins: the recorded steps it computes.
    """

    kind: str
    name: str
    operations: tuple[str, ...]
    inputs: tuple[Kind, ...]
    results: tuple[Kind, ...]
    flops: int
    bytes: int
    origins: tuple[Origin, ...]

    @property
    def double(self) -> bool:
        """Whether it computes in float64."""
        return any(dtype in ("float64", "complex128") for _, dtype in self.results)


def facts(graph: Graph) -> list[Facts]:
    """The facts of each unit of a program's graph, in the order in which it runs them."""
    graph, order, stored = steps_of(graph)
    found = []
    for unit in order:
        if isinstance(unit, Special):
            found.append(_special(unit, stored))
        elif any(r.target in stored for r in unit.roots):
            names, results, work, roots = _nest(unit, stored)
            found.append(_facts("nest", names, unit, results, work, _origins(roots, unit)))
    return found


def _special(unit: Special, stored: Container[Node]) -> Facts:
    names, roots = [unit.node.prim.name.removesuffix("_last")], [unit.node]
    work = operations(unit.node) if unit.kind in ("matmul", "convolve", "convolve_last") else 0  # an order compares and moves
    results = [n for n in unit.results if n.parts is None]
    if unit.epilogue is not None:
        more, targets, flops, others = _nest(unit.epilogue, stored)
        names, work, roots = [*names, *more], work + flops, [*roots, *others]
        results = targets
    return _facts(unit.kind, names, unit, results, work, _origins(roots, unit))


def _nest(unit: Nest, stored: Container[Node]) -> tuple[list[str], list[Node], int, list[Node]]:
    """Operations, results, arithmetic operations and roots."""
    roots = [r for r in unit.roots if r.target in stored]
    values = _needed(roots)
    names = list(dict.fromkeys(_name(v) for v in values if v.op not in _NO_NAME))
    if not names:  # memory is moved, nothing computed
        names = list(dict.fromkeys(r.node.prim.name for r in roots))
    flops = sum(_cost(v, unit) for v in values)
    flops += sum(r.node.args[-1].size for r in roots if r.node.prim.name == "put_add")
    return names, list(dict.fromkeys(r.target for r in roots)), flops, [r.node for r in roots]


def _facts(
    kind: str, names: list[str], unit: Any, results: list[Node], flops: int, origins: tuple[Origin, ...]
) -> Facts:
    shown = [n for n in names if n != "cast"] or names
    name = "+".join(shown[:_SHOWN]) + (f"+{len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
    inputs = [n for n in unit.reads if n.parts is None]
    moved = sum(n.size * n.dtype.itemsize for n in (*inputs, *results))
    shapes = [tuple((n.shape, n.dtype.name) for n in nodes) for nodes in (inputs, results)]
    return Facts(kind, name, tuple(names), shapes[0], shapes[1], flops, moved, origins)


def _needed(roots: list[Root]) -> list[Value]:
    """The values that some roots store, operands first; not those that only say where something lies."""
    stack = [r.value for r in roots]
    found: dict[int, Value] = {}
    while stack:
        v = stack.pop()
        if v.id not in found:
            found[v.id] = v
            if v.op != "load":
                stack += v.args
    return [found[k] for k in sorted(found)]


def _name(v: Value) -> str:
    folds = v.op in ("reduce", "scan") and isinstance(v.attrs, tuple)
    return str(v.attrs[0]) if folds else v.op


def _cost(v: Value, unit: Nest) -> int:
    """Operations of one value: once for every point of the loops on which it depends; a reduction, for every element."""
    if v.op in _NO_ARITHMETIC:
        return 0
    mask = v.args[0].mask | v.mask if v.op in ("reduce", "scan") else v.mask
    points = math.prod(x.extent for x in unit.vars if x.mask & mask)
    return points * (1 if v.op in ("reduce", "scan") else WEIGHTS.get(v.op, 1))


def _origins(roots: list[Node], unit: Any) -> tuple[Origin, ...]:
    """Of the nodes computed by a unit: from its roots up to what it reads."""
    stack, seen = list(roots), set(roots)
    found: set[Origin] = set()
    while stack:
        node = stack.pop()
        if node.origin is not None and node.prim.name not in ("input", "const", "scalar"):
            found.add(node.origin)
        for a in node.args:
            if a not in seen and a not in unit.reads:
                seen.add(a)
                stack.append(a)
    return tuple(sorted(found, key=lambda o: o[0]))
