"""Evaluation that depends on values alone, and comparison to the bit.

`evaluate` is `reference.run_graph` for judging rewritten graphs: two graphs that denote the same
values give the same bits, whatever layouts NumPy meets on the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.ir.graph import Graph, Node
from adjoint.ir.reference import REFERENCE, run_graph


def apply(node: Node, operands: list[Any]) -> Any:
    """The value of one node, as a function of its operands' elements alone.

    NumPy's loops for transcendental functions may differ in the last bit between layouts, and its
    sums are ordered by strides. Here operands are contiguous and inexact pointwise primitives see
    one element at a time.
    """
    reference, attrs = REFERENCE[node.prim.name], node.attrs
    arrays = [
        np.array(a, order="C") if isinstance(a, np.ndarray | np.generic) else a for a in operands
    ]
    with np.errstate(all="ignore"):
        if node.prim.kind != "pointwise" or node.prim.exact:
            out = reference(arrays, attrs)
            return out if node.parts is not None else np.array(out, order="C")
        rows = zip(*[a.reshape(-1, 1) for a in arrays], strict=True)
        flat = [reference(list(row), attrs)[0] for row in rows]
    return np.array(flat, dtype=node.dtype.values).reshape(node.shape)


def evaluate(graph: Graph, inputs: list[np.ndarray], scalars: list[Any]) -> list[np.ndarray]:
    """`run_graph` with `apply` for each node: equal graphs of values give equal bits."""
    return run_graph(graph, inputs, scalars, apply)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal dtype, shape and elements; zeros of one sign, and NaN equal to NaN."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind == "c":
        return same_bits(a.real, b.real) and same_bits(a.imag, b.imag)
    if a.dtype.kind != "f":
        return bool((a == b).all())
    return bool(((np.isnan(a) & np.isnan(b)) | ((a == b) & (np.signbit(a) == np.signbit(b)))).all())
