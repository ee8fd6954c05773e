"""The kernel language: a loop nest over scalar expressions, free of any machine.

A `Nest` is a set of loop variables, some marked `reduced`, and roots that are computed inside: stores of whole tensors,
reductions over the reduced variables, scans, scatters. What is stored or reduced is a `Value`: one scalar operation
on other values, the same for every point of the loops. Values are hash-consed per nest, in topological order of `id`.
Read `Value` and `Root`; `schedule/lower.py` builds them from graph nodes, `codegen/nest.py` turns them into LLVM IR.
"""

from __future__ import annotations

from typing import Any

from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Expr, Var

# What one element costs, in units of an addition; a kernel value not named here costs 1.
WEIGHTS = {
    "const": 0,
    "scalar": 0,
    "index": 1,
    "cond": 1,
    "load": 1,
    "div": 4,
    "sqrt": 4,
    "rsqrt": 6,
    "exp": 12,
    "exp2": 12,
    "expm1": 18,
    "log": 16,
    "log2": 16,
    "log10": 16,
    "log1p": 20,
    "sin": 24,
    "cos": 24,
    "tan": 32,
    "asin": 24,
    "acos": 24,
    "atan": 24,
    "sinh": 24,
    "cosh": 24,
    "tanh": 16,
    "asinh": 32,
    "acosh": 32,
    "atanh": 32,
    "sigmoid": 16,
    "erf": 24,
    "erfc": 32,
    "erfinv": 60,
    "lgamma": 80,
    "digamma": 80,
    "pow": 48,
    "atan2": 32,
    "fmod": 24,
    "take": 4,
    "place": 2,
    "slice_update": 2,
    "cat": 2,
    "remainder": 28,
    "floor_div": 28,
    "random_bits": 60,
    "check": 3,
    "position": 3,
    "reduce": 0,
    "scan": 100,
    "integer_pow": 3,
    "guard": 0,
}


class Value:
    """One scalar operation of a kernel.

    op: a pointwise primitive's name, or load | index | cond | multiple | check | guard | random_bits | reduce | scan | const |
    scalar.  mask: loop variables it depends on.  stage: how many reductions of the same nest must be complete before.
    cost: of computing it from loads, in additions.
    """

    __slots__ = ("id", "op", "args", "attrs", "dtype", "mask", "stage", "cost")
    mask: int
    stage: int
    cost: int

    def __init__(
        self, ident: int, op: str, args: tuple[Value, ...], attrs: Any, dtype: DType
    ) -> None:
        self.id, self.op, self.args, self.attrs, self.dtype = ident, op, args, attrs, dtype
        mask = stage = 0
        cost: int = WEIGHTS.get(op, 1)
        for a in args:
            mask |= a.mask
            cost += a.cost
            if a.stage > stage:
                stage = a.stage
        self.mask, self.stage, self.cost = mask, stage, min(cost, 1 << 20)

    def __repr__(self) -> str:
        parts = [f"v{a.id}" for a in self.args]
        if self.op == "load":
            parts.insert(0, f"%{self.attrs[0].index}[{ex.text(self.attrs[1])}]")
        elif self.op == "index":
            parts.insert(0, ex.text(self.attrs))
        elif self.op in ("cond", "multiple"):
            parts.insert(0, ex.text(self.attrs[0]))
            parts.append(str(self.attrs[1:]))
        elif self.attrs is not None:
            parts.append(str(self.attrs))
        return f"v{self.id} = {self.op}({', '.join(parts)}) {self.dtype.name}"


class Root:
    """A graph node that a nest computes.

    kind: "full" (a value at every point), "row" (a value at every point of the unreduced loops), "reduce", "scan",
    "scatter" (stored at a computed place), "piece" (a full value stored inside a larger tensor), "partial" (a reduction
    of one piece of the reduced loops) or "column" (of one block of the rows, in a nest that reduces its columns).
    node: the graph node; target: the node whose memory receives it.  value: what is stored (for a reduction: its
    result).  place: flat position in the target.  flat: flat position in `node`'s own shape, to recognise aligned uses.
    """

    __slots__ = ("kind", "node", "target", "value", "place", "flat", "source", "offset")

    def __init__(
        self, kind: str, node: Node, target: Node, source: Node | None = None, offset: Any = None
    ) -> None:
        self.kind, self.node, self.target = kind, node, target
        self.source, self.offset = source, offset
        self.value: Value
        self.place: Expr = ex.ZERO
        self.flat: Expr = ex.ZERO


class Nest:
    """Loops with what is computed in them.

    vars: loop variables in the order of the tensor's axes.  roots: in the order in which they joined.
    chunk: where a reduction is cut into partial results, (variable, extent of one piece), else None.
    column: how many rows make one block, where a root reduces over rows, else 0.
    preds: bit set of the nests on which this one depends.
    """

    __slots__ = (
        "id",
        "vars",
        "roots",
        "size",
        "values",
        "known",
        "opaque",
        "chunk",
        "column",
        "preds",
        "reads",
        "closed",
        "sealed",
    )

    def __init__(self, ident: int) -> None:
        self.id = ident
        self.vars: list[Var] = []
        self.roots: list[Root] = []
        self.size = 1
        self.values: list[Value] = []
        self.known: dict[Any, Value] = {}
        self.opaque: dict[Any, Var] = {}
        self.chunk: tuple[Var, int] | None = None
        self.column = 0
        self.preds = 0
        self.reads: dict[Node, None] = {}
        self.closed = False  # no further root may join
        self.sealed = False  # has roots that fix which loops are reduced

    def value(
        self, op: str, args: tuple[Value, ...], attrs: Any, dtype: DType, extra_mask: int = 0
    ) -> Value:
        key = (op, tuple([a.id for a in args]), repr(attrs) if op == "const" else attrs, dtype.name)
        found = self.known.get(key)
        if found is None:
            found = Value(len(self.values), op, args, attrs, dtype)
            found.mask |= extra_mask
            self.known[key] = found
            self.values.append(found)
        return found

    def rows(self) -> int:
        n = 1
        for v in self.vars:
            if not v.reduced:
                n *= v.extent
        return n
