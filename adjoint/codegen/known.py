"""Kernels of nests that differ in nothing but whose memory they work on, written once.

The layers of a model give the same nests again and again, each of its own nodes. `Known.kernel` finds out whether a nest
is like an earlier one, which takes a tenth of the time of writing its text (80 us of 950), and then only says which nodes it is about.
Read `_Key`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from adjoint.codegen.nest import Kernel, NestKernel
from adjoint.codegen.tiling import reachable
from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.schedule.expr import Expr, Var
from adjoint.schedule.values import Nest, Value

__all__ = ["Known"]


class Known:
    """The kernels of one program's nests."""

    def __init__(self) -> None:
        self._kernels: dict[Any, tuple[Kernel, _Key]] = {}

    def kernel(
        self, nest: Nest, stored: set[Node], vector_bytes: int, replaced: Sequence[tuple[Node, Node]] = (), checked: bool = False
    ) -> Kernel:
        """What `NestKernel(...).finish()` gives for these arguments."""
        key = _Key(nest, stored)
        whole: Any = None
        with suppress(_Unlike):
            whole = key.of(nest), tuple([(key.node(o), key.node(i)) for o, i in replaced]), checked, vector_bytes, tuple(key.parts)
        found = self._kernels.get(whole) if whole is not None else None
        if found is None:
            made = NestKernel(nest, stored, vector_bytes, replaced, checked).finish()
            if whole is not None:
                self._kernels[whole] = made, key
            return made
        made, first = found
        nodes, scalars = dict(zip(first.nodes, key.nodes, strict=True)), dict(zip(first.scalars, key.scalars, strict=True))
        return dataclasses.replace(
            made,
            buffers=[nodes.get(b, b) for b in made.buffers],
            scalars=[(scalars[number], dtype) for number, dtype in made.scalars],
            replaced=[(nodes[o], nodes[i]) for o, i in made.replaced],
        )


class _Unlike(Exception):
    """Something that is not known to be a part of a key."""


class _Key:
    """What a nest's text depends on: loops, values and roots, with nodes and run-time numbers counted as they are met.

    parts: what belongs to each of these.  nodes, scalars: those that were met, by number.
    """

    def __init__(self, nest: Nest, stored: set[Node]) -> None:
        self.roots = [r for r in nest.roots if r.target in stored]
        self.nodes: dict[Node, int] = {}
        self.scalars: dict[int, int] = {}
        self.parts: list[Any] = []
        self._values: dict[Value, int] = {}
        self._vars: dict[Var, int] = {}

    def of(self, nest: Nest) -> Any:
        values = reachable(self.roots)
        self._values = {v: k for k, v in enumerate(values)}
        chunk = None if nest.chunk is None else (self._var(nest.chunk[0]), nest.chunk[1])
        return (
            tuple([self._var(v) for v in nest.vars]), tuple([v.reduced for v in nest.vars]), nest.size, chunk, nest.column,
            tuple([self._value(v) for v in values]), tuple([self._root(r) for r in self.roots]),
        )  # fmt: skip

    def node(self, node: Node) -> int:
        number = self.nodes.get(node)
        if number is None:
            number = self.nodes[node] = len(self.nodes)
            self.parts.append((node.dtype.name, node.shape))
        return number

    def _value(self, v: Value) -> Any:
        attrs = v.attrs
        if v.op == "scalar":
            attrs = self.scalars.setdefault(attrs, len(self.scalars))
        elif v.op == "load":
            attrs = self.node(attrs[0]), self._expr(attrs[1]), attrs[2]
        elif attrs is not None:
            attrs = self._plain(attrs)
        args = tuple([self._values[a] for a in v.args])
        return v.op, args, attrs, v.dtype.name, v.mask, v.stage, v.cost

    def _root(self, r: Any) -> Any:
        source = None if r.source is None else self.node(r.source)
        node = r.node.prim.name, self._plain(r.node.attrs), self.node(r.node)
        return r.kind, node, self.node(r.target), self._values[r.value], self._expr(r.place), source, self._plain(r.offset)

    def _expr(self, e: Expr) -> Any:
        return e[0], tuple([(self._var(v), k) for v, k in e[1]])

    def _var(self, var: Var) -> int:
        number = self._vars.get(var)
        if number is None:
            payload = None
            if var.kind == "value":
                payload = self._plain(var.payload)
            elif var.kind != "loop":
                payload = self._expr(var.payload[0]), var.payload[1]
            number = self._vars[var] = len(self._vars)
            self.parts.append((var.id, var.kind, payload, var.lo, var.hi, var.mask))
        return number

    def _plain(self, x: Any) -> Any:
        """Any other attribute; of numbers that are equal and not the same, the way they are written."""
        kind = type(x)
        if x is None or kind is str or kind is int:
            return x
        if kind is tuple:
            return tuple([self._plain(part) for part in x])
        if isinstance(x, (bool, float, complex, np.generic)):
            return kind.__name__, repr(x)
        if isinstance(x, DType):
            return x.name
        if isinstance(x, Var):
            return "var", self._var(x)
        if isinstance(x, Node):
            return "node", self.node(x)
        if isinstance(x, Value) and x in self._values:
            return "value", self._values[x]
        raise _Unlike
