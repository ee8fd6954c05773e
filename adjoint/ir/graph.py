"""The graph of primitives: what a trace computes, with nothing implicit.

`Node` is one application of a primitive, `Graph` the whole, nodes in an order in which operands come first.
`GraphBuilder.node` is the only way to make nodes; it applies the shape rule and returns the existing node when the
same application was made before (common subexpressions are found while building).
"""

from __future__ import annotations

from typing import Any

from adjoint.dtypes import DType
from adjoint.ir.prims import PRIMS, Prim, Shape

Origin = tuple[int, tuple[str, int, str] | None]


class Node:
    """prim applied to args. parts: the avals of a primitive with several results, else None (then shape, dtype).

    origin: the recorded step that asked for it first, as (its slot, file, line and function of the user's call); None
    where nothing was recorded. Rewriting hands it on.
    """

    __slots__ = ("prim", "args", "attrs", "shape", "dtype", "parts", "index", "origin")

    def __init__(self, prim: Prim, args: tuple[Node, ...], attrs: Any, index: int) -> None:
        self.prim, self.args, self.attrs, self.index = prim, args, attrs, index
        aval = prim.rule([a.aval for a in args], attrs)
        self.parts: tuple | None = None
        self.origin: Origin | None = None
        self.shape: Shape = ()
        self.dtype: DType
        if prim.kind == "tuple":
            self.parts = aval
            self.dtype = aval[0][1]
        else:
            self.shape, self.dtype = aval

    @property
    def aval(self) -> Any:
        return self.parts if self.parts is not None else (self.shape, self.dtype)

    @property
    def size(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n

    def __repr__(self) -> str:
        args = ", ".join(f"%{a.index}" for a in self.args)
        attrs = "" if self.attrs is None else f" {self.attrs}"
        what = self.parts if self.parts is not None else f"{self.dtype.name}{list(self.shape)}"
        return f"%{self.index} = {self.prim.name}({args}){attrs} : {what}"


class Graph:
    """nodes in topological order; outputs among them. Inputs and run-time scalars are boundary nodes that carry
    their position in the caller's lists."""

    __slots__ = ("nodes", "outputs")

    def __init__(self, nodes: list[Node], outputs: list[Node]) -> None:
        self.nodes, self.outputs = nodes, outputs

    def __repr__(self) -> str:
        lines = [repr(n) for n in self.nodes]
        return "\n".join([*lines, "return " + ", ".join(f"%{o.index}" for o in self.outputs)])


class GraphBuilder:
    """Makes nodes, each distinct application once. origin: what new nodes get for theirs."""

    def __init__(self) -> None:
        self.origin: Origin | None = None
        self.nodes: list[Node] = []
        self._known: dict[Any, Node] = {}

    def node(self, name: str, *args: Node, attrs: Any = None) -> Node:
        # the type beside the value: 1, 1.0 and True are equal as keys, and so are 0.0 and -0.0
        key = (name, tuple(a.index for a in args), repr(attrs) if name == "const" else attrs)
        found = self._known.get(key)
        if found is None:
            found = Node(PRIMS[name], args, attrs, len(self.nodes))
            found.origin = self.origin
            self._known[key] = found
            self.nodes.append(found)
        return found

    def const(self, value: float, dtype: DType, shape: Shape = ()) -> Node:
        """A compile-time number, expanded to `shape`."""
        c = self.node("const", attrs=(value, dtype))
        return c if shape == () else self.node("expand", c, attrs=shape)

    def finish(self, outputs: list[Node]) -> Graph:
        """The graph of what `outputs` need, renumbered."""
        needed, stack = set(), list(outputs)
        while stack:
            n = stack.pop()
            if n.index not in needed:
                needed.add(n.index)
                stack.extend(n.args)
        kept = [n for n in self.nodes if n.index in needed]
        for i, n in enumerate(kept):
            n.index = i
        self.nodes, self._known = kept, {}
        return Graph(kept, list(outputs))
