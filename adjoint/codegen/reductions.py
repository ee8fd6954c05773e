"""How a reduction runs over registers: neutral element, combination, and the fixed tree across lanes.

A `Fold` works on a state of one register, or of two (value and position) for argmax and argmin. Floating-point sums
are always combined in an order given by the lengths alone.
"""

from __future__ import annotations

import functools

import numpy as np

from adjoint import dtypes
from adjoint.codegen import scalars as sc
from adjoint.codegen.emitter import Emitter, vector_type
from adjoint.dtypes import DType

_COMBINE = {"sum": "add", "prod": "mul", "amax": "maximum", "amin": "minimum"}


def neutral(name: str, dtype: DType) -> float:
    """What changes nothing: 0, 1, or the least or greatest number of the dtype."""
    if name in ("sum", "prod"):
        return 0 if name == "sum" else 1
    least = name in ("amax", "argmax")
    if dtype is dtypes.bool:
        return not least
    if dtype.is_floating_point:
        return float("-inf") if least else float("inf")
    info = np.iinfo(dtype.np)  # type: ignore[type-var]
    return int(info.min if least else info.max)


class Fold:
    """One reduction of elements of `dtype` in `lanes` lanes. width: registers of its state; kinds: their elements."""

    def __init__(self, name: str, dtype: DType, lanes: int) -> None:
        self.name, self.lanes = name, lanes
        self.arg = name in ("argmax", "argmin")
        self.source = dtype
        self.dtype = dtypes.uint8 if self.arg and dtype is dtypes.bool else dtype
        self.width = 2 if self.arg else 1
        self.kinds = [sc.register(self.dtype), "i64"][: self.width]

    def initial(self, em: Emitter) -> list[tuple[str, str]]:
        """(type, neutral value) of each register."""
        first = (
            vector_type(sc.register(self.dtype), self.lanes),
            sc.literal(em, self.lanes, self.dtype, neutral(self.name, self.dtype)),
        )
        return [first, (vector_type("i64", self.lanes), em.splat("i64", self.lanes, "0"))][
            : self.width
        ]

    def enter(self, em: Emitter, x: str) -> list[str]:
        return [sc.cast(em, self.lanes, self.source, self.dtype, [x])]

    def combine(
        self, em: Emitter, a: list[str], b: list[str], lanes: int | None = None
    ) -> list[str]:
        lanes = self.lanes if lanes is None else lanes
        if not self.arg:
            return [
                sc.POINTWISE[_COMBINE[self.name]](
                    em, lanes, self.dtype, self.dtype, [a[0], b[0]], None
                )
            ]
        t, flags = vector_type(sc.register(self.dtype), lanes), vector_type("i1", lanes)
        positions = vector_type("i64", lanes)
        more = self.name == "argmax"
        if self.dtype.is_floating_point:
            better = em.op(f"fcmp {'ogt' if more else 'olt'} {t} {b[0]}, {a[0]}")
            equal = em.op(f"fcmp oeq {t} {b[0]}, {a[0]}")
            nan_a, nan_b = (
                em.op(f"fcmp uno {t} {a[0]}, {a[0]}"),
                em.op(f"fcmp uno {t} {b[0]}, {b[0]}"),
            )
            fresh = em.op(
                f"and {flags} {nan_b}, {em.op(f'xor {flags} {nan_a}, {sc.literal(em, lanes, dtypes.bool, 1)}')}"
            )
            better = em.op(f"or {flags} {better}, {fresh}")
            equal = em.op(f"or {flags} {equal}, {em.op(f'and {flags} {nan_a}, {nan_b}')}")
        else:
            sign = "s" if self.dtype.is_signed else "u"
            better = em.op(f"icmp {sign}{'gt' if more else 'lt'} {t} {b[0]}, {a[0]}")
            equal = em.op(f"icmp eq {t} {b[0]}, {a[0]}")
        earlier = em.op(f"icmp slt {positions} {b[1]}, {a[1]}")
        better = em.op(f"or {flags} {better}, {em.op(f'and {flags} {equal}, {earlier}')}")
        return [
            sc.select(em, lanes, sc.register(self.dtype), better, b[0], a[0]),
            sc.select(em, lanes, "i64", better, b[1], a[1]),
        ]

    def follow(self, em: Emitter, a: list[str], b: list[str]) -> list[str]:
        """`combine` where all positions of `b` come after those of `a`: only a strictly better element counts."""
        if not self.arg:
            return self.combine(em, a, b)
        t, flags = vector_type(sc.register(self.dtype), self.lanes), vector_type("i1", self.lanes)
        more = self.name == "argmax"
        if self.dtype.is_floating_point:  # unordered counts as better, unless NaN was there before
            better = em.op(f"fcmp {'ugt' if more else 'ult'} {t} {b[0]}, {a[0]}")
            better = em.op(f"and {flags} {better}, {em.op(f'fcmp ord {t} {a[0]}, {a[0]}')}")
        else:
            sign = "s" if self.dtype.is_signed else "u"
            better = em.op(f"icmp {sign}{'gt' if more else 'lt'} {t} {b[0]}, {a[0]}")
        return [
            sc.select(em, self.lanes, sc.register(self.dtype), better, b[0], a[0]),
            sc.select(em, self.lanes, "i64", better, b[1], a[1]),
        ]

    def across(self, em: Emitter, state: list[str]) -> list[str]:
        """All lanes into one: halves onto halves."""
        lanes = self.lanes
        while lanes > 1:
            half = lanes // 2
            parts = []
            for first in (0, half):
                order = ", ".join(f"i32 {first + i}" for i in range(half))
                part = []
                for kind, x in zip(self.kinds, state, strict=True):
                    t = vector_type(kind, lanes)
                    if half == 1:
                        part.append(em.op(f"extractelement {t} {x}, i32 {first}"))
                    else:
                        part.append(
                            em.op(f"shufflevector {t} {x}, {t} poison, <{half} x i32> <{order}>")
                        )
                parts.append(part)
            state = self.combine(em, parts[0], parts[1], half)
            lanes = half
        return state

    def result(self, em: Emitter, state: list[str], lanes: int) -> str:
        return state[-1]


@functools.cache
def fold_of(name: str, dtype: DType, lanes: int) -> Fold:
    return Fold(name, dtype, lanes)
