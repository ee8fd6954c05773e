"""Which results may lie where an input lay: updates in place.

A step of an optimizer reads a parameter and makes the next one, element by element. Where nothing else reads the old one
afterwards, the new one can take its memory, if the caller has no further use for it either (`Program.run_in_place`); this
spares a pass over memory and a second copy of every parameter. A program that meets a bad index is computed again from its
inputs, so updates come after all checks, and do nothing where one has failed. `replacements` finds such pairs in one nest, `put_off` moves
updates behind the last step that reads what they replace. Read `replacements`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

from adjoint.ir.graph import Node
from adjoint.schedule.values import Nest, Value

LEAST = 1 << 15  # bytes: of smaller results memory is kept ready, and there is nothing to gain


def replacements(nest: Nest, outputs: Container[Node]) -> list[tuple[Node, Node]]:
    """Results and where each may lie, of inputs that the nest reads: (target, input), any choice of which will do.

    Every element is computed once, from the element of the input at the same place and from no other; it is read before the
    result is stored, because the result depends on it.
    """
    if nest.chunk is not None or nest.column or any([v.reduced for v in nest.vars]):
        return []
    size = math.prod([v.extent for v in nest.vars])
    loads: dict[Node, set[Any]] = {}
    for v in nest.values:
        if v.op == "load" and v.attrs[0].prim.name == "input":
            loads.setdefault(v.attrs[0], set()).add(v)
    found: list[tuple[Node, Node]] = []
    for r in nest.roots:
        target = r.target
        if r.kind != "full" or r.node is not target or target not in outputs or target.size != size:
            continue
        if size * target.dtype.itemsize <= LEAST:
            continue
        for source, reads in loads.items():
            if len(reads) > 1 or source.dtype.itemsize != target.dtype.itemsize:
                continue
            (read,) = reads
            _, place, is_guarded = read.attrs
            if source.size == size and place == r.place and not is_guarded and _depends(r.value, read):
                found.append((target, source))
    return found


def _depends(value: Value, on: Value) -> bool:
    """Whether a value is computed from another."""
    seen, stack = {value}, [value]
    while stack:
        v = stack.pop()
        if v is on:
            return True
        for a in v.args:
            if a.id >= on.id and a not in seen:
                seen.add(a)
                stack.append(a)
    return False


def checks(unit: Any) -> bool:
    """Whether a step notes indices that are out of range."""
    return isinstance(unit, Nest) and any([v.op == "check" for v in unit.values])


def put_off(order: Sequence[Any], outputs: Container[Node]) -> list[Any]:
    """The steps of a schedule, with updates behind the last step that reads what they may replace, or that checks indices.

    Only those move that no step depends on.
    """
    last = last_readers(order)
    needed = 0
    for unit in order:
        needed |= unit.preds
    place = {unit.id: k for k, unit in enumerate(order)}
    check = max([k for k, unit in enumerate(order) if checks(unit)], default=-1)
    keys = []
    for k, unit in enumerate(order):
        after = k
        if isinstance(unit, Nest) and not needed >> unit.id & 1:
            after = max([k, *[max(check, place[last[source].id]) for _, source in replacements(unit, outputs)]])
        keys.append((after, after != k, k))
    return [order[k] for _, _, k in sorted(keys)]


def last_readers(order: Sequence[Any]) -> dict[Node, Any]:
    """For every node that is read, the last step that does."""
    return {node: unit for unit in order for node in unit.reads}
