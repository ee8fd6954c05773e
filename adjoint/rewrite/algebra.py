"""Algebra that holds to the bit for every operand: NaN, infinities, both zeros, wrapping integers.

Each rule states its identity in its docstring. What floating point does not grant is left alone;
the best known cases: x * 0 (NaN), x - x (NaN), x + 0.0 (-0.0), -(x - y) (the zero's sign),
x + y - y (rounding), not (x < y) (NaN). The sign and payload of a NaN are not part of its value.
"""

from __future__ import annotations

import math

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import Node
from adjoint.ir.prims import PRIMS
from adjoint.rewrite.rewriter import (
    CONST,
    EXPAND,
    NEG,
    Rewriter,
    Rule,
    Rules,
    constant,
    is_bool,
    is_float,
    is_negative_zero,
    is_positive_zero,
    zeros,
)

Args = tuple[Node, ...]

ADD, MUL, CAST, WHERE = PRIMS["add"], PRIMS["mul"], PRIMS["cast"], PRIMS["where"]
BITWISE_NOT, LOGICAL_NOT, EQ, NE = (PRIMS[n] for n in ("bitwise_not", "logical_not", "eq", "ne"))
_ROUNDING = frozenset(PRIMS[n] for n in ("floor", "ceil", "round", "trunc"))
_NEVER_NEGATIVE_ZERO = frozenset(PRIMS[n] for n in ("abs", "relu", "exp", "exp2", "sigmoid", "sum"))


def _in_order(name: str) -> Rule:
    def in_order(b: Rewriter, args: Args, attrs: None) -> Node | None:
        """y + x -> x + y: constants last, else the older first, so that equals meet"""
        x, y = args
        if x.dtype.is_complex:  # NumPy's complex products depend on the order in the last bit
            return None
        x_constant, y_constant = constant(x) is not None, constant(y) is not None
        if x_constant > y_constant or (x_constant == y_constant and x.index > y.index):
            return b.make(name, y, x)
        return None

    return in_order


# --- sums and differences -------------------------------------------------------------------------


def _never_negative_zero(x: Node) -> bool:
    """Whether no element can be -0.0, as far as the node itself tells."""
    if x.prim is EXPAND:
        x = x.args[0]
    if x.dtype.is_complex:
        return False
    if x.prim is CONST:
        return not is_negative_zero(x.attrs[0])
    if x.prim is CAST:
        return not is_float(x.args[0])
    if x.prim is MUL:
        return x.args[0] is x.args[1]
    if x.prim is ADD:
        return is_positive_zero(constant(x.args[1]))
    return x.prim in _NEVER_NEGATIVE_ZERO


def add_nothing(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x + -0.0 -> x, and x + 0 -> x for integers and wherever x cannot be -0.0."""
    x, y = args
    c = constant(y)
    if is_negative_zero(c):
        return x
    if is_positive_zero(c) and (not is_float(x) or b.loose_zeros or _never_negative_zero(x)):
        return x
    return None


def add_negative(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x + -y -> x - y"""
    x, y = args
    if y.prim is NEG:
        return b.make("sub", x, y.args[0])
    if x.prim is NEG:
        return b.make("sub", y, x.args[0])
    return None


def sub_nothing(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x - 0 -> x, and x - -0.0 -> x wherever x cannot be -0.0."""
    x, y = args
    c = constant(y)
    if is_positive_zero(c) or (is_negative_zero(c) and (b.loose_zeros or _never_negative_zero(x))):
        return x
    return None


def sub_from_nothing(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """-0.0 - y -> -y, and 0 - y -> -y for integers."""
    x, y = args
    c = constant(x)
    if is_negative_zero(c) or (is_positive_zero(c) and not is_float(y)):
        return b.make("neg", y)
    return None


def sub_negative(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x - -y -> x + y"""
    x, y = args
    return b.make("add", x, y.args[0]) if y.prim is NEG else None


def sub_itself(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x - x -> 0 for integers"""
    x, y = args
    return zeros(b, x.shape, x.dtype) if x is y and not is_float(x) else None


# --- products and quotients -----------------------------------------------------------------------


def mul_one(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x * 1 -> x, x * -1 -> -x"""
    x, y = args
    c = constant(y)
    if c is None:
        return None
    if c == 1:
        return x
    return b.make("neg", x) if c == -1 else None


def mul_nothing(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x * 0 -> 0 for integers"""
    y = args[1]
    return y if constant(y) == 0 and not is_float(y) else None


def mul_negatives(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """-x * -y -> x * y, -x * c -> x * -c"""
    x, y = args
    if x.prim is not NEG:
        return None
    if y.prim is NEG:
        return b.make("mul", x.args[0], y.args[0])
    c = constant(y)
    if c is None or not is_float(y):
        return None
    return b.make("mul", x.args[0], b.const(-c, y.dtype, y.shape))


def div_one(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x / 1 -> x, x / -1 -> -x"""
    x, y = args
    c = constant(y)
    if c is None:
        return None
    if c == 1:
        return x
    return b.make("neg", x) if c == -1 else None


def div_power_of_two(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x / 2**k -> x * 2**-k: the same real number, rounded once, and much cheaper"""
    x, y = args
    c = constant(y)
    if c is None or not math.isfinite(c) or abs(math.frexp(c)[0]) != 0.5:
        return None
    largest = (
        126 if y.dtype is dtypes.float32 else 1022
    )  # 2**-largest is the smallest normal number
    if not abs(math.frexp(c)[1] - 1) <= largest:
        return None
    return b.make("mul", x, b.const(1 / c, y.dtype, y.shape))


def div_negatives(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """-x / -y -> x / y, -x / c -> x / -c"""
    x, y = args
    if x.prim is not NEG:
        return None
    if y.prim is NEG:
        return b.make("div", x.args[0], y.args[0])
    c = constant(y)
    return None if c is None else b.make("div", x.args[0], b.const(-c, y.dtype, y.shape))


def small_power(b: Rewriter, args: Args, n: int) -> Node | None:
    """x ** 0 -> 1, x ** 1 -> x, x ** 2 -> x * x, x ** -1 -> 1 / x"""
    x = args[0]
    if n == 0:
        return b.const(1, x.dtype, x.shape)
    if n == 1:
        return x
    if n == 2:
        return b.make("mul", x, x)
    if n == -1 and is_float(x):
        return b.make("div", b.const(1, x.dtype, x.shape), x)
    return None


# --- one operand ----------------------------------------------------------------------------------


def neg_neg(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """--x -> x"""
    x = args[0]
    return x.args[0] if x.prim is NEG else None


def neg_product(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """-(x * c) -> x * -c"""
    x = args[0]
    if x.prim is not MUL or not is_float(x):
        return None
    y, c = x.args[0], constant(x.args[1])
    return None if c is None else b.make("mul", y, b.const(-c, x.dtype, x.shape))


def abs_neg(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """|-x| -> |x|, for signed numbers"""
    x = args[0]
    return b.make("abs", x.args[0]) if x.prim is NEG and x.dtype.is_signed else None


def _same_again(name: str) -> Rule:
    prim = PRIMS[name]

    def same_again(b: Rewriter, args: Args, attrs: None) -> Node | None:
        """f(f(x)) -> f(x), for projections"""
        return args[0] if args[0].prim is prim else None

    return same_again


def round_whole(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """floor(round(x)) -> round(x), and floor(x) -> x for integers"""
    x = args[0]
    whole = not is_float(x) or x.prim in _ROUNDING or (x.prim is CAST and not is_float(x.args[0]))
    return x if whole else None


def not_negative_already(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """|x| -> x, relu(x) -> x for booleans and unsigned integers"""
    return None if args[0].dtype.is_signed else args[0]


def not_not(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """not not x -> x != 0, which casting to bool says"""
    x = args[0]
    return b.make("cast", x.args[0], attrs=dtypes.bool) if x.prim is LOGICAL_NOT else None


def not_equal(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """not (x == y) -> x != y and the reverse, for NaN too (orders do not mirror so)"""
    x = args[0]
    if x.prim is EQ:
        return b.make("ne", *x.args)
    return b.make("eq", *x.args) if x.prim is NE else None


def invert_twice(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """~~x -> x"""
    return args[0].args[0] if args[0].prim is BITWISE_NOT else None


# --- casts ----------------------------------------------------------------------------------------

_INTEGER_BITS = {
    dtypes.uint8: 8,
    dtypes.int8: 7,
    dtypes.int16: 15,
    dtypes.int32: 31,
    dtypes.int64: 63,
    dtypes.uint16: 16,
    dtypes.uint32: 32,
    dtypes.uint64: 64,
}
_EXACT_BITS = {
    **_INTEGER_BITS,
    dtypes.float16: 11,
    dtypes.bfloat16: 8,
    dtypes.float32: 24,
    dtypes.float64: 53,
    dtypes.complex64: 24,
    dtypes.complex128: 53,
}


def holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`."""
    if wide is narrow or narrow is dtypes.bool:
        return True
    if narrow.category >= 2:
        if wide.is_half or wide.category < narrow.category:
            return False
        return _EXACT_BITS[wide] > _EXACT_BITS[narrow] or (wide.is_complex and _EXACT_BITS[wide] == _EXACT_BITS[narrow])
    if wide.category < narrow.category or (narrow.is_signed and not wide.is_signed):
        return False
    return _EXACT_BITS[wide] >= _INTEGER_BITS[narrow]


def cast_nothing(b: Rewriter, args: Args, dtype: DType) -> Node | None:
    """a cast to the operand's own dtype"""
    return args[0] if args[0].dtype is dtype else None


def cast_cast(b: Rewriter, args: Args, dtype: DType) -> Node | None:
    """x to A to B -> x to B, where A holds every value of x"""
    x = args[0]
    if x.prim is CAST and holds(x.dtype, x.args[0].dtype):
        return b.make("cast", x.args[0], attrs=dtype)
    return None


# --- choices --------------------------------------------------------------------------------------


def where_known(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """where(true, x, y) -> x, where(c, x, x) -> x"""
    c, x, y = args
    if x is y:
        return x
    known = constant(c)
    return None if known is None else x if known else y


def where_not(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """where(not c, x, y) -> where(c, y, x)"""
    c, x, y = args
    if c.prim in (LOGICAL_NOT, BITWISE_NOT) and is_bool(c.args[0]):
        return b.make("where", c.args[0], y, x)
    return None


def where_where(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """where(c, where(c, x, y), z) -> where(c, x, z), and likewise on the other side"""
    c, x, y = args
    if x.prim is WHERE and x.args[0] is c:
        return b.make("where", c, x.args[1], y)
    if y.prim is WHERE and y.args[0] is c:
        return b.make("where", c, x, y.args[2])
    return None


def same_twice(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """max(x, x) -> x, min(x, x) -> x, x & x -> x, x | x -> x"""
    return args[0] if args[0] is args[1] else None


def or_nothing(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x | 0 -> x, x ^ 0 -> x, x << 0 -> x, x >> 0 -> x"""
    return args[0] if is_positive_zero(constant(args[1])) else None


def and_everything(b: Rewriter, args: Args, attrs: None) -> Node | None:
    """x & -1 -> x, x & true -> x; x & 0 -> 0"""
    x, y = args
    c = constant(y)
    if c is None:
        return None
    if c == 0:
        return y
    every_bit = True if is_bool(x) else -1 if x.dtype.is_signed else 256**x.dtype.itemsize - 1
    return x if c == every_bit else None


RULES: Rules = {
    "add": [_in_order("add"), add_nothing, add_negative],
    "sub": [sub_nothing, sub_from_nothing, sub_negative, sub_itself],
    "mul": [_in_order("mul"), mul_one, mul_nothing, mul_negatives],
    "div": [div_one, div_power_of_two, div_negatives],
    "integer_pow": [small_power],
    "neg": [neg_neg, neg_product],
    "abs": [not_negative_already, _same_again("abs"), abs_neg],
    "relu": [not_negative_already, _same_again("relu")],
    "sign": [_same_again("sign")],
    **{name: [round_whole] for name in ("floor", "ceil", "round", "trunc")},
    "logical_not": [not_not, not_equal],
    "bitwise_not": [invert_twice],
    "cast": [cast_nothing, cast_cast],
    "where": [where_known, where_not, where_where],
    "maximum": [same_twice],
    "minimum": [same_twice],
    "bitwise_and": [_in_order("bitwise_and"), same_twice, and_everything],
    "bitwise_or": [_in_order("bitwise_or"), same_twice, or_nothing],
    "bitwise_xor": [_in_order("bitwise_xor"), or_nothing],
    "shift_left": [or_nothing],
    "shift_right": [or_nothing],
    "eq": [_in_order("eq")],
    "ne": [_in_order("ne")],
}
