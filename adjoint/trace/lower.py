"""From a path in the trie to the graph of primitives, where nothing is implicit.

`graph_of` lowers the part of a path that some slots need: broadcasting becomes `expand`, promotion becomes `cast`,
run-time numbers become `scalar` nodes. `reference_step` computes one step with NumPy (reference mode, and the retry
that finds which step failed). `slots_to_save` chooses what is kept for derivatives taken after the trace has ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS
from adjoint.ir.reference import REFERENCE
from adjoint.trace.trie import Num, Step, path

SILENT = frozenset(("mode", "mark", "freed", "hook", "leaf"))
# Primitives whose derivative uses neither operands nor the result: a finished backward frees nothing of them.
KEEP_NOTHING = frozenset(
    "neg add sub sum expand reshape permute flip slice place cat window cast clone alias full pick override "
    "sign floor ceil round trunc".split()
)
EXPENSIVE = frozenset(("contract", "reduce", "scan", "index", "host", "tuple"))


def needed_steps(node: Step, slots: tuple[int, ...]) -> list[Step]:
    """The steps of the path that the slots depend on, in order."""
    needed = set(slots)
    kept = []
    step: Step | None = node
    while step is not None and step.parent is not None:
        if step.scalars and not needed.isdisjoint([s for s, _ in step.scalars]) and step.slot not in needed:
            kept.append(step)  # a derivative refers to its run-time number only
        elif step.slot in needed and step.prim not in SILENT:
            kept.append(step)
            if step.prim == "override":
                needed.add(step.args[1])
            else:
                needed.update(a for a in step.args if type(a) is int)
        step = step.parent
    kept.reverse()
    return kept


def graph_of(node: Step, slots: tuple[int, ...]) -> Graph:
    """The graph whose outputs are the values of `slots`."""
    builder = GraphBuilder()
    values: dict[int, Node] = {}
    for step in needed_steps(node, slots):
        for k, (slot, dtype) in enumerate(step.scalars):
            values[slot] = builder.node("scalar", attrs=(step.scalars_before + k, (), dtype))
        operands = step.args[1:] if step.prim == "override" else step.args
        if all(type(a) is not int or a in values for a in operands):
            values[step.slot] = lower_step(builder, step, values)
    return builder.finish([values[s] for s in slots])


def lower_step(builder: GraphBuilder, step: Step, values: dict[int, Node]) -> Node:
    prim = step.prim
    if prim == "input":
        a = step.aval
        return builder.node("input", attrs=(step.inputs_before, tuple(a.shape), a.dtype))
    if prim in ("alias", "custom", "clone"):
        return values[step.args[0]]
    if prim == "override":
        return values[step.args[1]]
    if PRIMS[prim].kind == "pointwise":
        shape = tuple(step.aval.shape)
        args = []
        for k, a in enumerate(step.args):
            is_condition = prim == "where" and k == 0
            if isinstance(a, Num):
                args.append(builder.const(a.value, _const_dtype(step), shape))
                continue
            x = values[a]
            if step.compute is not None and not is_condition and x.dtype is not step.compute:
                x = builder.node("cast", x, attrs=step.compute)
            if x.shape != shape:
                x = builder.node("expand", x, attrs=shape)
            args.append(x)
        return builder.node(prim, *args, attrs=step.attrs)
    args = [builder.const(a.value, _start_dtype(step)) if isinstance(a, Num) else values[a] for a in step.args]
    if prim == "full":
        shape, dtype = step.attrs
        value = args[0] if args[0].dtype is dtype else builder.node("cast", args[0], attrs=dtype)
        return builder.node("full", value, attrs=shape)
    return builder.node(prim, *args, attrs=step.attrs)


def _const_dtype(step: Step) -> DType:
    return step.compute if step.compute is not None else step.aval.dtype


def _start_dtype(step: Step) -> DType:
    from adjoint import dtypes

    return step.attrs[1] if step.prim == "full" else dtypes.int64


def reference_step(step: Step, values: list[Any]) -> Any:
    """One step by NumPy; values are arrays, tuples of arrays, or numbers, in the order of step.args."""
    prim = step.prim
    if prim in ("alias", "custom", "clone"):
        return values[0]
    if prim == "override":
        return values[1]
    with np.errstate(all="ignore"):
        if PRIMS[prim].kind == "pointwise":
            shape = tuple(step.aval.shape)
            compute = step.compute.np if step.compute is not None else None
            args = []
            for k, v in enumerate(values):
                v = np.asarray(v)
                if compute is not None and not (prim == "where" and k == 0):
                    v = v.astype(compute)
                args.append(v if v.shape == shape else np.broadcast_to(v, shape))
            return np.asarray(REFERENCE[prim](args, step.attrs)).astype(step.aval.dtype.np, copy=False)
        if prim == "full":
            shape, dtype = step.attrs
            return np.full(shape, np.asarray(values[0]).astype(dtype.np))
        return REFERENCE[prim](values, step.attrs)


def run_steps(node: Step, buffers: list[Any], scalars: list[Any]) -> tuple[dict[int, Any], dict[int, Exception]]:
    """Every value of a path one by one; slots whose step failed, or that depend on one, map to the error."""
    values: dict[int, Any] = {}
    errors: dict[int, Exception] = {}
    for step in path(node):
        for k, (slot, dtype) in enumerate(step.scalars):
            values[slot] = np.array(scalars[step.scalars_before + k]).astype(dtype.np)
        if step.prim in SILENT:
            continue
        if step.prim == "input":
            a = step.aval
            values[step.slot] = buffers[step.inputs_before].array(a.dtype.np, a.shape)
            continue
        failed = next((errors[a] for a in step.args if type(a) is int and a in errors), None)
        if failed is None:
            try:
                args = [a.value if isinstance(a, Num) else values[a] for a in step.args]
                values[step.slot] = reference_step(step, args)
            except Exception as error:  # whatever NumPy raises belongs to this step
                kind = type(error) if isinstance(error, (IndexError, RuntimeError)) else RuntimeError
                failed = kind(f"{error}{place(step)}")
        if failed is not None:
            errors[step.slot] = failed
    return values, errors


def place(step: Step) -> str:
    """Where a step was recorded, as the tail of an error message."""
    if step.where is None:
        return ""
    file, line, function = step.where
    what = "index" if step.prim == "position" else step.prim
    return f" ({what}, recorded at {file}:{line} in {function})"


def places(node: Step, slots: tuple[int, ...]) -> list[str]:
    """`place` of the step behind each slot."""
    found = {step.slot: place(step) for step in path(node)}
    return [found.get(s, "") for s in slots]


def is_spent(node: Step, roots: list[int]) -> bool:
    """Whether a backward from any of these slots can only end in "a second time": finished ones have freed their past."""
    freed: set[int] = set()
    step: Step | None = node
    while step is not None:
        if step.prim == "freed":
            freed.update(step.attrs.slots)
        step = step.parent
    if not freed:
        return False
    spent: dict[int, bool] = {}  # of every slot with a gradient
    for s in needed_steps(node, tuple(roots)):
        if not getattr(s.aval, "requires_grad", False):
            continue
        before = [spent[a] for a in s.args if type(a) is int and a in spent]
        spent[s.slot] = s.slot in freed or (s.prim in KEEP_NOTHING and bool(before) and all(before))
    return all(spent.get(r, False) for r in roots)


def slots_to_save(node: Step, roots: list[int]) -> tuple[int, ...]:
    """What a later backward from `roots` should find computed: results of everything costly among their ancestors.

    Pointwise work and movement are recomputed from these, unless hooks wait at their place. What a finished backward
    has freed is not kept.
    """
    freed: set[int] = set()
    hooked: set[int] = set()
    step: Step | None = node
    while step is not None:
        if step.prim == "freed":
            freed.update(step.attrs.slots)
        elif step.prim == "hook" and type(step.attrs) is int:
            hooked.add(step.attrs)
        step = step.parent
    save = []
    for s in needed_steps(node, tuple(roots)):
        if s.slot in freed or s.prim == "input" or s.prim not in PRIMS:
            continue
        kind = PRIMS[s.prim].kind
        if (kind in EXPENSIVE and kind != "tuple" and s.prim != "position") or s.prim in ("random_bits", "pick") or s.slot in hooked:
            save.append(s.slot)
    return tuple(save)
