"""A graph in the making, for tests that count the kernels of its program."""

from __future__ import annotations

import numpy as np

from adjoint import dtypes
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.reference import run_graph
from adjoint.runtime.memory import allocate
from adjoint.runtime.program import compile_graph


class Sketch:
    """A graph in the making, its inputs filled with whole numbers, so that every order of summation is exact."""

    def __init__(self) -> None:
        self.b = GraphBuilder()
        self.arrays: list[np.ndarray] = []
        self.rng = np.random.default_rng(0)

    def input(self, *shape: int) -> Node:
        self.arrays.append(self.rng.integers(-4, 5, shape).astype(np.float32))
        return self.b.node("input", attrs=(len(self.arrays) - 1, shape, dtypes.float32))

    def kernels(self, *outputs: Node) -> list[str]:
        """The names of the kernels of the program, whose results are compared with the reference."""
        graph: Graph = self.b.finish(list(outputs))
        program = compile_graph(graph)
        program.compile()
        buffers = []
        for array in self.arrays:
            buffers.append(allocate(array.nbytes))
            np.copyto(buffers[-1].array(array.dtype, array.shape), array)
        found = [o.array(np.float32, n.shape) for o, n in zip(program.run(buffers, []), graph.outputs, strict=True)]
        for got, wanted in zip(found, run_graph(graph, self.arrays, []), strict=True):
            np.testing.assert_array_equal(got, wanted)
        return program.kernels
