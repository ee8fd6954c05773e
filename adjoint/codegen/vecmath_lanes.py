"""Arithmetic on whole vectors, written as Python expressions.

`Lanes` is one SSA value of the function an `Emitter` writes; its operators and methods append the
instructions. With it the formulas of the vector mathematics read as formulas: `r = x - k * step`,
`p = x.polynomial(table)`. Every operation is exactly rounded lane by lane, so a result never
depends on the number of lanes. Read `Lanes` first; the functions after it are the error-free sums
and products that the compensated formulas share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adjoint.codegen.emitter import Emitter, vector_type


class Format(NamedTuple):
    """The numbers of IEEE binary32 or binary64 that the formulas need."""

    element: str
    integer: str
    suffix: str
    bits: int
    mantissa: int  # stored bits of the significand
    bias: int

    @property
    def shifter(self) -> float:
        """Adding it rounds to an integer and leaves that integer in the low bits of the pattern."""
        return 1.5 * 2.0**self.mantissa

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)


FORMATS = {
    "float": Format("float", "i32", "f32", 32, 23, 127),
    "double": Format("double", "i64", "f64", 64, 52, 1023),
}


class Lanes:
    """One SSA value: `lanes` elements of type `element` ("float", "double", "i32", "i64", "i1").

    Operators take another value of the same type or a Python number. Comparisons are ordered (false
    for NaN), apart from `differs`, and give masks of i1, which `choose`, `&`, `|` and `~` consume.
    """

    __slots__ = ("em", "element", "lanes", "ssa")

    def __init__(self, em: Emitter, element: str, lanes: int, ssa: str) -> None:
        self.em, self.element, self.lanes, self.ssa = em, element, lanes, ssa

    @property
    def type(self) -> str:
        return vector_type(self.element, self.lanes)

    @property
    def format(self) -> Format:
        return FORMATS[self.element]

    @property
    def is_float(self) -> bool:
        return self.element in FORMATS

    def make(self, ssa: str, element: str | None = None) -> Lanes:
        return Lanes(self.em, element or self.element, self.lanes, ssa)

    def constant(self, value: float, element: str | None = None) -> Lanes:
        element = element or self.element
        return self.make(self.em.constant(element, self.lanes, value), element)

    def like(self, other: Lanes | float) -> Lanes:
        """`other`, or the number `other` in every lane."""
        return other if isinstance(other, Lanes) else self.constant(other)

    def binary(self, opcode: str, other: Lanes | float, swap: bool = False) -> Lanes:
        left, right = self, self.like(other)
        if swap:
            left, right = right, left
        return self.make(self.em.op(f"{opcode} {self.type} {left.ssa}, {right.ssa}"))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self.binary("fadd" if self.is_float else "add", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self.binary("fsub" if self.is_float else "sub", other)

    def __rsub__(self, other: float) -> Lanes:
        return self.binary("fsub" if self.is_float else "sub", other, swap=True)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self.binary("fmul" if self.is_float else "mul", other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self.binary("fdiv", other)

    def __rtruediv__(self, other: float) -> Lanes:
        return self.binary("fdiv", other, swap=True)

    def __neg__(self) -> Lanes:
        return self.make(self.em.op(f"fneg {self.type} {self.ssa}"))

    def __and__(self, other: Lanes | float) -> Lanes:
        return self.binary("and", other)

    def __or__(self, other: Lanes | float) -> Lanes:
        return self.binary("or", other)

    def __xor__(self, other: Lanes | float) -> Lanes:
        return self.binary("xor", other)

    def __invert__(self) -> Lanes:
        return self.binary("xor", 1 if self.element == "i1" else -1)

    def __lshift__(self, count: int) -> Lanes:
        return self.binary("shl", count)

    def __rshift__(self, count: int) -> Lanes:
        """Logical shift: AVX2 and SSE2 have no arithmetic one for 64-bit lanes."""
        return self.binary("lshr", count)

    def compare(self, relation: str, other: Lanes | float) -> Lanes:
        opcode = "fcmp" if self.is_float else "icmp"
        right = self.like(other)
        return self.make(
            self.em.op(f"{opcode} {relation} {self.type} {self.ssa}, {right.ssa}"), "i1"
        )

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self.compare("olt" if self.is_float else "slt", other)

    def __le__(self, other: Lanes | float) -> Lanes:
        return self.compare("ole" if self.is_float else "sle", other)

    def __gt__(self, other: Lanes | float) -> Lanes:
        return self.compare("ogt" if self.is_float else "sgt", other)

    def __ge__(self, other: Lanes | float) -> Lanes:
        return self.compare("oge" if self.is_float else "sge", other)

    def equals(self, other: Lanes | float) -> Lanes:
        return self.compare("oeq" if self.is_float else "eq", other)

    def differs(self, other: Lanes | float) -> Lanes:
        """True also when one of the two is NaN."""
        return self.compare("une" if self.is_float else "ne", other)

    def choose(self, yes: Lanes | float, no: Lanes | float) -> Lanes:
        """`yes` where this mask is set, `no` elsewhere; at least one of them is a value."""
        value = yes if isinstance(yes, Lanes) else no
        assert isinstance(value, Lanes)
        yes, no = value.like(yes), value.like(no)
        return value.make(
            self.em.op(
                f"select {self.type} {self.ssa}, {value.type} {yes.ssa}, {value.type} {no.ssa}"
            )
        )

    def at_most(self, limit: Lanes | float) -> Lanes:
        """The smaller value; NaN stays (minnum would drop it)."""
        return (self > limit).choose(limit, self)

    def at_least(self, limit: Lanes | float) -> Lanes:
        return (self < limit).choose(limit, self)

    def intrinsic(self, name: str, *others: Lanes | float) -> Lanes:
        """Call the LLVM intrinsic `name` of this value and the others, all of one type."""
        operands = [self, *(self.like(other) for other in others)]
        suffix = self.format.suffix if self.lanes == 1 else f"v{self.lanes}{self.format.suffix}"
        function = f"@llvm.{name}.{suffix}"
        self.em.declare(f"{self.type} {function}({', '.join([self.type] * len(operands))})")
        arguments = ", ".join(f"{self.type} {operand.ssa}" for operand in operands)
        return self.make(self.em.op(f"call {self.type} {function}({arguments})"))

    def fma(self, factor: Lanes | float, addend: Lanes | float) -> Lanes:
        """self * factor + addend with one rounding."""
        return self.intrinsic("fma", factor, addend)

    def abs(self) -> Lanes:
        return self.intrinsic("fabs")

    def sqrt(self) -> Lanes:
        return self.intrinsic("sqrt")

    def rint(self) -> Lanes:
        """Nearest integer, ties to even."""
        return self.intrinsic("rint")

    def with_sign_of(self, other: Lanes) -> Lanes:
        return self.intrinsic("copysign", other)

    def bits(self) -> Lanes:
        """The pattern of a float as an integer of its size."""
        integer = self.format.integer
        return self.make(
            self.em.op(f"bitcast {self.type} {self.ssa} to {vector_type(integer, self.lanes)}"),
            integer,
        )

    def as_float(self) -> Lanes:
        """The float or double with this pattern."""
        element = "float" if self.element == "i32" else "double"
        return self.make(
            self.em.op(f"bitcast {self.type} {self.ssa} to {vector_type(element, self.lanes)}"),
            element,
        )

    def convert(self, opcode: str, element: str) -> Lanes:
        """fpext, fptrunc and the like."""
        return self.make(
            self.em.op(f"{opcode} {self.type} {self.ssa} to {vector_type(element, self.lanes)}"),
            element,
        )

    def any(self) -> str:
        """One i1: is this mask set in any lane?"""
        if self.lanes == 1:
            return self.ssa
        function = f"@llvm.vector.reduce.or.v{self.lanes}i1"
        self.em.declare(f"i1 {function}({self.type})")
        return self.em.op(f"call i1 {function}({self.type} {self.ssa})")

    def polynomial(self, coefficients: Sequence[float]) -> Lanes:
        """c0 + c1*x + c2*x*x + ... by Horner's rule with fused steps."""
        total: Lanes | float = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            total = self.fma(total, coefficient)
        return self.like(total)


def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its exact rounding error (Knuth, The Art of Computer Programming 2, 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its exact rounding error where |a| >= |b| or a = 0 (Dekker 1971)."""
    total = a + b
    return total, b - (total - a)


def two_product(a: Lanes, b: Lanes | float) -> tuple[Lanes, Lanes]:
    """a * b and its exact rounding error."""
    product = a * b
    return product, a.fma(b, -product)
