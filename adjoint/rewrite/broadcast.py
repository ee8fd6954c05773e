"""Work done before a broadcast instead of after it.

Pointwise primitives of expanded operands compute on what is expanded, once per distinct element.
With constants folded this also evaluates arithmetic on fills. The value of each element is the
same, so nothing is rounded differently.
"""

from __future__ import annotations

from typing import Any

from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS, Shape
from adjoint.rewrite.rewriter import EXPAND, Rewriter, Rule, Rules

Args = tuple[Node, ...]


def _joint_shape(sources: list[Node]) -> Shape:
    """The least shape to which all sources broadcast."""
    rank = max(len(s.shape) for s in sources)
    joint = [1] * rank
    for s in sources:
        start = rank - len(s.shape)
        for i, n in enumerate(s.shape):
            if n != 1:
                joint[start + i] = n
    return tuple(joint)


def _expand_last(name: str) -> Rule:
    def expand_last(b: Rewriter, args: Args, attrs: Any) -> Node | None:
        """f(expand(x), expand(y)) -> expand(f(x, y)), where x and y make a smaller shape"""
        for a in args:
            if a.prim is not EXPAND:
                return None
        sources = [a.args[0] for a in args]
        shape = args[0].shape
        joint = _joint_shape(sources)
        if joint == shape:
            return None
        return b.expand(b.make(name, *[b.expand(s, joint) for s in sources], attrs=attrs), shape)

    return expand_last


RULES: Rules = {
    name: [_expand_last(name)] for name, prim in PRIMS.items() if prim.kind == "pointwise"
}
