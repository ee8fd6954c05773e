"""Programs that may never run again: how often NumPy runs them before they are compiled.

Who generates text, or trains on samples of ever other lengths, needs a program for each length, and most of them a few
times. To compile one costs as much as hundreds of runs through NumPy. Whether a program is of that kind is found by
`trace.pieces`; here is what a run through NumPy takes beside a compilation, as a count, from shapes alone: which run is the first
that is compiled code never depends on time.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from adjoint import config
from adjoint.dtypes import DType
from adjoint.ir import reference
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.runtime.contractions import operations
from adjoint.runtime.memory import Buffer

# seconds, on one core of a server
COMPILE = 5e-4  # what is made ready for one operation; 0.3 to 1 ms were measured, where most kernels serve many sizes
CALL = 6e-6  # NumPy, for one operation
ELEMENT = {"pointwise": 3e-9, "reduce": 2e-9, "movement": 0.0, "create": 1e-9, "index": 1e-8, "scan": 1e-8, "order": 1e-7}
SLOW = {"random_bits": 1e-7, "convolve": 1e-8}  # an element; convolutions copy all windows
FLOP = 5e-11
BLOCK = 8192
IN_BLOCKS = frozenset(("erf", "erfc", "erfinv", "lgamma", "digamma"))  # functions of one number that NumPy has not
FREE = frozenset(("input", "scalar", "const", "expand", "reshape", "permute", "pick"))


def trials(graph: Graph) -> int:
    """How many runs through NumPy come before the program of a graph is compiled; 0 where compiling pays at once."""
    most = config.get("ADJOINT_TRIALS")
    work = [node for node in graph.nodes if node.prim.name not in FREE]
    if not most or not work:
        return 0
    runs = COMPILE * len(work) / sum([_seconds(node) for node in work])
    return min(most, math.floor(runs)) if runs >= 2 else 0


def _seconds(node: Node) -> float:
    """Of a run through NumPy."""
    shapes = [node.shape] if node.parts is None else [shape for shape, _ in node.parts]
    size = sum([math.prod(shape) for shape in shapes])
    seconds = CALL + size * SLOW.get(node.prim.name, ELEMENT.get(node.prim.kind, 1e-8))
    if node.prim.kind == "contract":
        seconds += FLOP * operations(node)
    elif node.prim.kind == "reduce":
        seconds += ELEMENT["reduce"] * node.args[0].size
    return seconds


def apply(node: Node, operands: list[Any]) -> Any:
    """The value of a node in a trial: NumPy's, but for functions which it has not. The reference calls these for one number after
    another; here machine code takes a block after the other, the same for arrays of every size."""
    if node.prim.name in IN_BLOCKS and node.dtype.itemsize >= 4 and node.size > 64:
        return _in_blocks(node.prim.name, node.dtype, operands[0])
    return reference.apply(node, operands)


def _in_blocks(name: str, dtype: DType, x: np.ndarray) -> np.ndarray:
    program = _of_a_block(name, dtype)
    padded = np.zeros(-(-x.size // BLOCK) * BLOCK, dtype.np)
    padded[: x.size] = x.reshape(-1)
    for k in range(0, len(padded), BLOCK):
        (value,) = program.run([Buffer.from_array(padded[k : k + BLOCK])], [])
        padded[k : k + BLOCK] = value.array(dtype.np, (BLOCK,))
    return padded[: x.size].reshape(x.shape)


@functools.cache
def _of_a_block(name: str, dtype: DType) -> Any:
    from adjoint.runtime.program import Program

    builder = GraphBuilder()
    x = builder.node("input", attrs=(0, (BLOCK,), dtype))
    return Program(builder.finish([builder.node(name, x)]))
