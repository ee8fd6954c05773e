"""The steps of a program in the order in which they run: what `runtime.scheduled` writes kernels for, and whoever tells of
them (`runtime.facts`, `describe`) goes through again."""

from __future__ import annotations

from adjoint.ir.graph import Graph
from adjoint.schedule.group import Grouping, Special
from adjoint.schedule.in_place import put_off
from adjoint.schedule.prepare import prepare
from adjoint.schedule.values import Nest


def in_order(graph: Graph) -> tuple[Graph, list[Nest | Special]]:
    """The graph as it is scheduled, and its steps; the same ones every time."""
    graph = prepare(graph)
    return graph, put_off(Grouping(graph).order(), set(graph.outputs))
