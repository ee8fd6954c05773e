"""The machine that applies rules: a graph is built anew, each node through the rules of its name.

A rule is a function (rewriter, operands, attributes) that returns the node to take instead, or None
to let the application stand. Operands are already simplified, and so is everything a rule makes,
since `Rewriter.make` is how rules make nodes. Every rule leads to less work or closer to a fixed
form, so that one sweep ends, in linear time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS, Shape

Rule = Callable[["Rewriter", tuple[Node, ...], Any], Node | None]
Rules = dict[str, list[Rule]]

CONST, EXPAND, RESHAPE, NEG = PRIMS["const"], PRIMS["expand"], PRIMS["reshape"], PRIMS["neg"]


class Rewriter:
    """Builds the simplified graph.

    rules: by primitive, tried in order.  loose_zeros: x + 0.0 may be taken for x.
    cat_offsets: where the parts of a `cat` begin, by the index of its node.
    """

    __slots__ = ("_builder", "cat_offsets", "loose_zeros", "rules")

    def __init__(self, rules: Rules, loose_zeros: bool = False) -> None:
        self.rules, self.loose_zeros = rules, loose_zeros
        self.cat_offsets: dict[int, list[int]] = {}
        self._builder = GraphBuilder()

    def make(self, name: str, *args: Node, attrs: Any = None) -> Node:
        """The simplest node for an application of the primitive `name`."""
        for rule in self.rules.get(name, ()):
            found = rule(self, args, attrs)
            if found is not None:
                return found
        return self._builder.node(name, *args, attrs=attrs)

    def const(self, value: complex, dtype: DType, shape: Shape = ()) -> Node:
        """A number of the dtype's own Python type, in every element of `shape`."""
        kinds: tuple[Any, ...] = (bool, int, float, complex)
        number = kinds[dtype.category](value)
        return self.expand(self.make("const", attrs=(number, dtype)), shape)

    def expand(self, x: Node, shape: Shape) -> Node:
        """`x` broadcast to `shape`."""
        return x if x.shape == shape else self.make("expand", x, attrs=shape)

    def reshape(self, x: Node, shape: Shape) -> Node:
        return x if x.shape == shape else self.make("reshape", x, attrs=shape)

    def rebuild(self, graph: Graph) -> Graph:
        """The same outputs, simplified, without what nothing needs."""
        made: list[Node] = []
        make = self.make
        for node in graph.nodes:
            args = [made[a.index] for a in node.args]
            self._builder.origin = node.origin
            made.append(make(node.prim.name, *args, attrs=node.attrs))
        return self._builder.finish([made[o.index] for o in graph.outputs])


# --- what rules ask -------------------------------------------------------------------------------


def constant(x: Node) -> Any:
    """The compile-time number in every element of `x`, or None."""
    if x.prim is EXPAND:
        x = x.args[0]
    return x.attrs[0] if x.prim is CONST and not x.dtype.is_complex else None


def uniform(x: Node) -> Node | None:
    """The 0-d node whose value every element of `x` has, where the graph shows one."""
    if x.shape == ():
        return x
    return x.args[0] if x.prim is EXPAND and x.args[0].shape == () else None


def is_positive_zero(value: Any) -> bool:
    """0.0 or an integer or boolean zero, but not -0.0."""
    return value is not None and value == 0 and math.copysign(1.0, value) > 0


def is_negative_zero(value: Any) -> bool:
    return value is not None and value == 0 and math.copysign(1.0, value) < 0


def is_float(x: Node) -> bool:
    return x.dtype.category >= 2


def is_bool(x: Node) -> bool:
    return x.dtype is dtypes.bool


def zeros(b: Rewriter, shape: Shape, dtype: DType) -> Node:
    return b.const(0, dtype, shape)
