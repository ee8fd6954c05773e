"""From a path in the trie to the graph of primitives, where nothing is implicit.

`Recorded` is the part of a path that some slots need; `graph_of` lowers it: broadcasting becomes `expand`, promotion becomes `cast`,
run-time numbers become `scalar` nodes. `reference_step` computes one step with NumPy (reference mode, and the retry
that finds which step failed). `slots_to_save` chooses what is kept for derivatives taken after the trace has ended.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.plain import plain
from adjoint.ir.prims import IMAGINARY, PRIMS, calculates
from adjoint.ir.reference import REFERENCE
from adjoint.storage import decode, round_to
from adjoint.trace.trie import Num, Step, path

SILENT = frozenset(("mode", "mark", "freed", "hook", "leaf"))
# Primitives whose derivative uses neither operands nor the result: a finished backward frees nothing of them.
KEEP_NOTHING = frozenset(
    "neg add sub sum expand reshape permute flip slice place cat window cast clone alias full pick override "
    "sign floor ceil round trunc real imag conj complex as_real as_complex".split()
)
_PASSING = frozenset(("alias", "custom", "clone", "override"))  # whose value is an operand's
EXPENSIVE = frozenset(("contract", "reduce", "scan", "index", "order", "host", "tuple"))


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


class Bare(NamedTuple):
    """What is to be known of a step to lower it, without its place in the trie, which may be forgotten meanwhile."""

    slot: int
    prim: str
    args: tuple
    attrs: Any
    aval: Any
    compute: DType | None
    scalars: tuple[tuple[int, DType], ...]
    scalars_before: int
    inputs_before: int
    where: tuple[str, int, str] | None


class Recorded:
    """What the values of `slots` are computed from: the part of a path that they need."""

    __slots__ = ("steps", "slots")

    def __init__(self, node: Step, slots: tuple[int, ...]) -> None:
        self.slots = slots
        self.steps = [
            Bare(
                s.slot, s.prim, s.args, None if s.prim in _PASSING else s.attrs, s.aval, s.compute, s.scalars,
                s.scalars_before, s.inputs_before, s.where,
            )  # fmt: skip
            for s in needed_steps(node, slots)
        ]

    def graph(self) -> Graph:
        """The graph whose outputs are these values."""
        return graph_of(self.steps, self.slots)

    def form(self) -> bytes | None:
        """Everything that `graph` depends on but for the lines of the user's program: equal forms are equal graphs.
        None where something recorded is not plain data."""
        numbers: dict[int, int] = {}
        form: list[tuple] = []
        try:
            for s in self.steps:
                if s.scalars:
                    for slot, _ in s.scalars:
                        numbers[slot] = len(numbers)
                    form.append(tuple([(s.scalars_before + k, dtype.name) for k, (_, dtype) in enumerate(s.scalars)]))
                args = tuple([numbers.get(a) if type(a) is int else (plain(a.value),) for a in s.args])
                a = s.aval
                aval = (tuple(a.shape), a.dtype.name) if type(a) is not tuple else len(a)
                compute = None if s.compute is None else s.compute.name
                attrs = s.attrs if s.attrs is None else plain(s.attrs)
                form.append((s.prim, args, attrs, aval, compute, s.inputs_before if s.prim == "input" else None))
                numbers[s.slot] = len(numbers)
            form.append(tuple([numbers[slot] for slot in self.slots]))
            return marshal.dumps(form, 2)  # this version writes equal values as equal bytes
        except TypeError:
            return None

    def places(self) -> list[str]:
        """`place` of the step behind each slot."""
        found = {step.slot: place(step) for step in self.steps}
        return [found.get(s, "") for s in self.slots]


def graph_of(steps: Sequence[Bare], slots: tuple[int, ...]) -> Graph:
    """The graph of some steps, of which `slots` are the outputs."""
    builder = GraphBuilder()
    values: dict[int, Node] = {}
    for step in steps:
        builder.origin = (step.slot, step.where)
        for k, (slot, dtype) in enumerate(step.scalars):
            values[slot] = scalar(builder, step.scalars_before + k, dtype)
        operands = step.args[1:] if step.prim == "override" else step.args
        if all(type(a) is not int or a in values for a in operands):
            values[step.slot] = lower_step(builder, step, values)
    return builder.finish([values[s] for s in slots])


def lower_step(builder: GraphBuilder, step: Bare, values: dict[int, Node]) -> Node:
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
            wanted = _const_dtype(step)
            if wanted.is_half and (isinstance(a, Num) or values[a].shape == ()) and stays_wide(prim, k):
                wanted = dtypes.float32
            if isinstance(a, Num):
                args.append(constant(builder, a.value, wanted, shape))
                continue
            x = values[a]
            if step.compute is not None and not is_condition and x.dtype is not wanted:
                x = convert(builder, x, wanted)
            if x.shape != shape:
                x = builder.node("expand", x, attrs=shape)
            args.append(x)
        out = apply(builder, prim, args, step.attrs)
        return convert(builder, out, step.aval.dtype) if step.aval.dtype.is_half else out  # 0-d operands stayed wide
    args = [constant(builder, a.value, _start_dtype(step)) if isinstance(a, Num) else values[a] for a in step.args]
    if prim == "full":
        shape, dtype = step.attrs
        return builder.node("full", convert(builder, args[0], dtype), attrs=shape)
    return apply(builder, prim, args, step.attrs)


# --- halves: stored in 16 bits, computed in float32 -------------------------------------------------------------------


def scalar(builder: GraphBuilder, index: int, dtype: DType) -> Node:
    """A run-time number; a complex one as its two parts."""
    real = builder.node("scalar", attrs=(index, (), dtype.to_real()))
    if not dtype.is_complex:
        return real
    return builder.node("complex", real, builder.node("scalar", attrs=(IMAGINARY + index, (), dtype.to_real())))


def constant(builder: GraphBuilder, value: Any, dtype: DType, shape: tuple[int, ...] = ()) -> Node:
    """A number of a dtype, in every element of `shape`."""
    return builder.const(round_to(value, dtype).item() if dtype.is_half else value, dtype, shape)


def convert(builder: GraphBuilder, x: Node, dtype: DType) -> Node:
    """A cast; to and from halves by way of float32."""
    if x.dtype is dtype:
        return x
    if (x.dtype.is_half or dtype.is_half) and dtypes.float32 not in (x.dtype, dtype):
        x = builder.node("cast", x, attrs=dtypes.float32)
    return builder.node("cast", x, attrs=dtype)


def apply(builder: GraphBuilder, prim: str, args: list[Node], attrs: Any) -> Node:
    """A primitive; of halves, the operands are widened and the result is rounded, so that nothing else computes them."""
    if prim == "cast":
        return convert(builder, args[0], attrs)
    half = next((x.dtype for x in args if x.parts is None and x.dtype.is_half), None)
    if half is None or not calculates(prim):
        return builder.node(prim, *args, attrs=attrs)
    out = builder.node(prim, *[convert(builder, x, dtypes.float32) if x.dtype.is_half else x for x in args], attrs=attrs)
    return convert(builder, out, half) if out.parts is None and out.dtype is dtypes.float32 else out


def stays_wide(prim: str, k: int) -> bool:
    """Whether a 0-d operand of an operation on halves keeps float32's precision: in PyTorch's products and quotients."""
    return prim == "mul" or (k == 1 and prim in ("div", "floor_div"))


def _const_dtype(step: Bare) -> DType:
    return step.compute if step.compute is not None else step.aval.dtype


def _start_dtype(step: Bare) -> DType:
    return step.attrs[1] if step.prim == "full" else dtypes.int64


def reference_step(step: Step, values: list[Any]) -> Any:
    """One step by NumPy; values are arrays of numbers, tuples of arrays, or numbers, in the order of step.args.

    Halves as in `apply`: widened, computed, rounded.
    """
    prim = step.prim
    if prim in ("alias", "custom", "clone"):
        return values[0]
    if prim == "override":
        return values[1]
    with np.errstate(all="ignore"):
        if PRIMS[prim].kind == "pointwise":
            shape = tuple(step.aval.shape)
            compute = step.compute
            args = []
            for k, v in enumerate(values):
                v = np.asarray(v)
                if compute is not None and not (prim == "where" and k == 0):
                    wide = compute.is_half and v.shape == () and stays_wide(prim, k)
                    v = round_to(v, dtypes.float32 if wide else compute)
                args.append(v if v.shape == shape else np.broadcast_to(v, shape))
            return round_to(REFERENCE[prim](_widened(prim, args), step.attrs), step.aval.dtype)
        if prim == "full":
            shape, dtype = step.attrs
            return np.full(shape, round_to(values[0], dtype))
        out = REFERENCE[prim](_widened(prim, values), step.attrs)
        return round_to(out, step.aval.dtype) if getattr(step.aval.dtype, "is_half", False) and type(out) is not tuple else out


def _widened(prim: str, values: list[Any]) -> list[Any]:
    """Operands in which NumPy computes: float16 becomes float32 (bfloat16 is float32 already)."""
    if not calculates(prim):
        return values
    return [v.astype(np.float32) if getattr(v, "dtype", None) == np.float16 else v for v in values]


def run_steps(node: Step, buffers: list[Any], scalars: list[Any]) -> tuple[dict[int, Any], dict[int, Exception]]:
    """Every value of a path one by one; slots whose step failed, or that depend on one, map to the error."""
    values: dict[int, Any] = {}
    errors: dict[int, Exception] = {}
    for step in path(node):
        for k, (slot, dtype) in enumerate(step.scalars):
            values[slot] = round_to(scalars[step.scalars_before + k], dtype)
        if step.prim in SILENT:
            continue
        if step.prim == "input":
            a = step.aval
            values[step.slot] = decode(buffers[step.inputs_before].array(a.dtype.np, a.shape), a.dtype)
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


def place(step: Step | Bare) -> str:
    """Where a step was recorded, as the tail of an error message."""
    if step.where is None:
        return ""
    file, line, function = step.where
    what = "index" if step.prim == "position" else step.prim
    return f" ({what}, recorded at {file}:{line} in {function})"


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
