"""Simplification: graph in, graph out, the same values to the bit. Start at `pipeline.simplify`.

What a pass may do is to compute less; what it may not do is stated at the head of `algebra.py`.
"""

from adjoint.rewrite.pipeline import PASSES, simplify

__all__ = ["PASSES", "simplify"]
