"""The steps of a program as the kernels of this machine compute them: what `scheduled` writes, and `facts` and `describe` tell of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from adjoint.codegen.epilogue import EpilogueKernel
from adjoint.ir.graph import Graph, Node
from adjoint.runtime import jit
from adjoint.runtime.contractions import right_operand, takes_epilogue
from adjoint.schedule.epilogues import joined
from adjoint.schedule.expr import Var
from adjoint.schedule.group import Special
from adjoint.schedule.order import in_order
from adjoint.schedule.values import Nest


def steps_of(graph: Graph) -> tuple[Graph, list[Nest | Special], set[Node]]:
    """The graph as it is scheduled, its steps, and the nodes that must be in memory when all is done or for a later step."""
    graph, order = in_order(graph)
    options = Options(order)

    def takes(product: Special, nest: Nest, columns: Var, stored: set[Node]) -> bool:
        target = jit.target()
        offer = takes_epilogue(product, target.vector_bytes, **options.of(product))
        return offer is not None and EpilogueKernel(nest, stored, target.vector_bytes, product.node, columns, offer).suits

    order = joined(graph, order, takes)
    stored: set[Node] = set(graph.outputs)
    for unit in order:
        stored.update(unit.reads)
    return graph, order, stored


class Options:
    """What the kernels of a program's matrix products depend on besides themselves."""

    def __init__(self, order: Sequence[Nest | Special]) -> None:
        self._again = Counter([right_operand(u) for u in order if isinstance(u, Special) and u.kind == "matmul" and u.layouts])

    def of(self, unit: Special) -> dict[str, Any]:
        target = jit.target()
        return {"again": self._again[right_operand(unit)], "tiles": target.tiles, "pairs": target.pairs}
