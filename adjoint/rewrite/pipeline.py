"""The passes of simplification, in order, and the sweep that applies them.

A pass is a table of rules. All of them are applied in one sweep from the inputs to the outputs (see
`rewriter.py`), a node's rules in the order of the passes; equal applications are found and dead
ones dropped on the way. Any pass can be left out by its name in ADJOINT_DISABLE; "simplify" leaves
out all. Read `simplify` first.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from adjoint import config
from adjoint.ir.graph import Graph
from adjoint.ir.text import program_text
from adjoint.rewrite import algebra, broadcast, constants, movement, reductions, regions
from adjoint.rewrite.rewriter import Rewriter, Rules

Passes = tuple[tuple[str, Rules], ...]

PASSES: Passes = (
    ("constants", constants.RULES),  # arithmetic on numbers
    ("movement", movement.RULES),  # expand, reshape, permute, flip
    ("regions", regions.RULES),  # slice, place, slice_update, cat, window
    ("algebra", algebra.RULES),  # identities of arithmetic, logic and casts
    ("broadcast", broadcast.RULES),  # compute, then broadcast
    ("reductions", reductions.RULES),  # reductions without a loop
)


def merge_rules(passes: Passes) -> Rules:
    """One table: for each primitive the rules of all passes, in their order."""
    merged: Rules = {}
    for _, rules in passes:
        for name, found in rules.items():
            merged.setdefault(name, []).extend(found)
    return merged


@lru_cache(maxsize=64)
def _enabled(disabled: tuple[str, ...]) -> Rules:
    return merge_rules(tuple(p for p in PASSES if p[0] not in disabled))


def simplify(graph: Graph) -> Graph:
    """A graph with the same outputs, in the same order, that does less to compute them.

    An output may become an input, a constant, or a node that is an output already. `graph` itself
    is left as it is. Takes time in proportion to the number of nodes.
    """
    disabled = config.get("ADJOINT_DISABLE")
    if "simplify" in disabled:
        return graph
    out = Rewriter(_enabled(disabled), config.get("ADJOINT_LOOSE_ZEROS")).rebuild(graph)
    level = config.get("ADJOINT_DEBUG")
    if level >= 5:
        print(
            f"simplify: {len(graph.nodes)} nodes\n{graph}\nto {len(out.nodes)}\n{out}",
            file=sys.stderr,
        )
        print(program_text(out), file=sys.stderr)
    return out
