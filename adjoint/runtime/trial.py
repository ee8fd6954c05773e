"""Programs that may never run again: how often NumPy runs them before they are compiled.

Who generates text, or trains on samples of ever other lengths, needs a program for each length, and most of them a few
times. To compile one costs as much as hundreds of runs through NumPy. Whether a program is of that kind is found by
`trace.pieces`; here is what a run through NumPy takes beside a compilation, as a count, from shapes alone: which run is the first
that is compiled code never depends on time.
"""

from __future__ import annotations

import math

from adjoint import config
from adjoint.ir.graph import Graph, Node
from adjoint.runtime.contractions import operations

# seconds, on one core of a server
COMPILE = 1e-3  # what is made ready for one operation; 0.4 to 2 were measured
CALL = 6e-6  # NumPy, for one operation
ELEMENT = {"pointwise": 3e-9, "reduce": 2e-9, "movement": 0.0, "create": 1e-9, "index": 1e-8, "scan": 1e-8, "order": 1e-7}
SLOW = {"random_bits": 1e-7, "convolve": 1e-8, "erf": 8e-8}  # an element; convolutions copy all windows, NumPy has no erf
FLOP = 5e-11
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
