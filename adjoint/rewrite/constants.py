"""Constants: one spelling for each number, and arithmetic on numbers done at once.

Only primitives that NumPy and compiled code agree on to the bit (`Prim.exact`) are evaluated, by
their reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS
from adjoint.ir.reference import REFERENCE
from adjoint.rewrite.rewriter import CONST, Rewriter, Rules
from adjoint.storage import round_to


def one_spelling(b: Rewriter, args: tuple[Node, ...], attrs: Any) -> Node | None:
    """const(1, float32) -> const(1.0, float32), and every number as its dtype rounds it."""
    value, dtype = attrs
    try:
        rounded = round_to(np.array(value), dtype).item()
    except OverflowError:
        return None  # a number the dtype does not hold; not for this pass to judge
    if repr(rounded) == repr(value):
        return None
    return b.make("const", attrs=(rounded, dtype))


def _casts_alike_everywhere(value: Any, dtype: Any) -> bool:
    """Whether converting `value` is defined: floats beyond int64 convert as the machine likes."""
    return (
        dtype.category != 1
        or isinstance(value, int)
        or (math.isfinite(value) and abs(value) < 2.0**63)
    )


def _fold(name: str) -> Any:
    prim, reference = PRIMS[name], REFERENCE[name]

    def fold(b: Rewriter, args: tuple[Node, ...], attrs: Any) -> Node | None:
        """An exact primitive of constants is a constant."""
        for a in args:
            if a.prim is not CONST:
                return None
        if name == "cast" and not _casts_alike_everywhere(args[0].attrs[0], attrs):
            return None
        dtype = prim.rule([a.aval for a in args], attrs)[1]
        with np.errstate(all="ignore"):
            out = np.asarray(
                reference([round_to(a.attrs[0], a.dtype) for a in args], attrs)
            )
        if out.dtype != dtype.values:
            return None
        return b.const(out.item(), dtype)

    return fold


RULES: Rules = {"const": [one_spelling]}
RULES |= {
    name: [_fold(name)] for name, prim in PRIMS.items() if prim.kind == "pointwise" and prim.exact
}
