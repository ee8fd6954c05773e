"""Pointwise primitives as LLVM IR: one row of `POINTWISE` each.

A row is `emit(em, lanes, dtype, out, args, attrs)`: dtype of the operands (of the last one for `where`), dtype of the
result, SSA names or literals in, one SSA name out. In registers bool is i1. Nothing here contracts or reorders
floating-point operations, and nothing traps: division by zero gives 0, as in NumPy.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.codegen.emitter import Emitter, float_literal, vector_type
from adjoint.dtypes import DType
from adjoint.storage import encode, round_to

Emit = Callable[[Emitter, int, DType, DType, list[str], Any], str]


def register(dtype: DType) -> str:
    """LLVM's element type of a dtype in registers."""
    return "i1" if dtype is dtypes.bool else dtype.llvm


def literal(em: Emitter, lanes: int, dtype: DType, value: float) -> str:
    """A constant in every lane."""
    if dtype.is_half:
        text = str(int(encode(round_to(value, dtype), dtype).view(np.int16)))
    elif dtype.is_floating_point:
        text = float_literal(float(value), dtype.llvm)
    elif dtype is dtypes.bool:
        text = "true" if value else "false"
    else:
        bits = 8 * dtype.itemsize
        wrapped = int(value) & ((1 << bits) - 1)
        text = str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)
    return em.splat(register(dtype), lanes, text)


def _type(lanes: int, dtype: DType) -> str:
    return vector_type(register(dtype), lanes)


def mangled(lanes: int, element: str) -> str:
    """The suffix by which intrinsics name a type."""
    short = {"float": "f32", "double": "f64"}.get(element, element)
    return short if lanes == 1 else f"v{lanes}{short}"


def intrinsic(
    em: Emitter, name: str, lanes: int, element: str, args: list[str], extra: str = ""
) -> str:
    """Call an intrinsic whose operands and result have one type."""
    t = vector_type(element, lanes)
    full = f"@llvm.{name}.{mangled(lanes, element)}"
    kinds = ", ".join([t] * len(args)) + (", i1" if extra else "")
    em.declare(f"{t} {full}({kinds})")
    return em.op(f"call {t} {full}({', '.join(f'{t} {a}' for a in args)}{extra})")


# --- helpers that make rows -----------------------------------------------------------------------


def _float_unary(name: str) -> Emit:
    """An LLVM intrinsic on floating types; integers are their own floor, ceiling and rounding."""

    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        if not dtype.is_floating_point:
            return args[0]
        return intrinsic(em, name, lanes, dtype.llvm, args)

    return emit


def _arithmetic(floating: str, integer: str, boolean: str) -> Emit:
    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        op = floating if dtype.is_floating_point else boolean if dtype is dtypes.bool else integer
        return em.op(f"{op} {_type(lanes, dtype)} {args[0]}, {args[1]}")

    return emit


def _comparison(floating: str, signed: str, unsigned: str) -> Emit:
    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        if dtype.is_floating_point:
            op = f"fcmp {floating}"
        else:
            op = f"icmp {signed if dtype.is_signed else unsigned}"
        return em.op(f"{op} {_type(lanes, dtype)} {args[0]}, {args[1]}")

    return emit


def select(em: Emitter, lanes: int, element: str, cond: str, a: str, b: str) -> str:
    t = vector_type(element, lanes)
    return em.op(f"select {vector_type('i1', lanes)} {cond}, {t} {a}, {t} {b}")


def math_function(em: Emitter, name: str, lanes: int, dtype: DType, args: list[str]) -> str:
    emit_math = importlib.import_module("adjoint.codegen.vecmath").emit_math
    return emit_math(em, name, dtype.llvm, lanes, *args)


def _math(name: str) -> Emit:
    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        return math_function(em, name, lanes, dtype, args)

    return emit


# --- rows that need more than one instruction -----------------------------------------------------


def _neg(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    t = _type(lanes, dtype)
    if dtype.is_floating_point:
        return em.op(f"fneg {t} {args[0]}")
    return em.op(f"sub {t} {literal(em, lanes, dtype, 0)}, {args[0]}")


def _abs(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if dtype.is_floating_point:
        return intrinsic(em, "fabs", lanes, dtype.llvm, args)
    if not dtype.is_signed:
        return args[0]
    return intrinsic(em, "abs", lanes, dtype.llvm, args, ", i1 false")


def _sign(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if dtype is dtypes.bool:
        return args[0]
    t, e, zero = _type(lanes, dtype), register(dtype), literal(em, lanes, dtype, 0)
    one, minus = literal(em, lanes, dtype, 1), literal(em, lanes, dtype, -1)
    if dtype.is_floating_point:
        less, more = f"fcmp olt {t} {args[0]}, {zero}", f"fcmp ogt {t} {args[0]}, {zero}"
        rest = select(
            em, lanes, e, em.op(f"fcmp oeq {t} {args[0]}, {zero}"), zero, args[0]
        )  # NaN stays
    else:
        less, more = f"icmp slt {t} {args[0]}, {zero}", f"icmp sgt {t} {args[0]}, {zero}"
        rest = zero
        if not dtype.is_signed:
            return select(em, lanes, e, em.op(f"icmp ne {t} {args[0]}, {zero}"), one, zero)
    rest = select(em, lanes, e, em.op(less), minus, rest)
    return select(em, lanes, e, em.op(more), one, rest)


def _relu(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if not dtype.is_signed:
        return args[0]
    t, zero = _type(lanes, dtype), literal(em, lanes, dtype, 0)
    op = "fcmp ole" if dtype.is_floating_point else "icmp sle"
    return select(em, lanes, register(dtype), em.op(f"{op} {t} {args[0]}, {zero}"), zero, args[0])


def _bitwise_not(
    em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any
) -> str:
    ones = literal(em, lanes, dtype, True if dtype is dtypes.bool else -1)
    return em.op(f"xor {_type(lanes, dtype)} {args[0]}, {ones}")


def _rsqrt(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    root = intrinsic(em, "sqrt", lanes, dtype.llvm, args)
    return em.op(f"fdiv {_type(lanes, dtype)} {literal(em, lanes, dtype, 1)}, {root}")


def _logical_not(
    em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any
) -> str:
    op = "fcmp oeq" if dtype.is_floating_point else "icmp eq"
    return em.op(f"{op} {_type(lanes, dtype)} {args[0]}, {literal(em, lanes, dtype, 0)}")


def _isnan(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if not dtype.is_floating_point:
        return literal(em, lanes, dtypes.bool, False)
    return em.op(f"fcmp uno {_type(lanes, dtype)} {args[0]}, {args[0]}")


def _isinf(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if not dtype.is_floating_point:
        return literal(em, lanes, dtypes.bool, False)
    size = intrinsic(em, "fabs", lanes, dtype.llvm, args)
    return em.op(
        f"fcmp oeq {_type(lanes, dtype)} {size}, {literal(em, lanes, dtype, float('inf'))}"
    )


def _widen(em: Emitter, lanes: int, dtype: DType, x: str) -> str:
    """A half's bit pattern as float32."""
    pattern, single = vector_type("i16", lanes), vector_type("float", lanes)
    if dtype is dtypes.float16:
        half = vector_type("half", lanes)
        return em.op(f"fpext {half} {em.op(f'bitcast {pattern} {x} to {half}')} to {single}")
    word = vector_type("i32", lanes)
    high = em.op(f"shl {word} {em.op(f'zext {pattern} {x} to {word}')}, {em.splat('i32', lanes, '16')}")
    return em.op(f"bitcast {word} {high} to {single}")


def _narrow(em: Emitter, lanes: int, out: DType, x: str) -> str:
    """The bit pattern of the half nearest to a float32, ties to even."""
    pattern, single = vector_type("i16", lanes), vector_type("float", lanes)
    if out is dtypes.float16:
        half = vector_type("half", lanes)
        return em.op(f"bitcast {half} {em.op(f'fptrunc {single} {x} to {half}')} to {pattern}")
    word = vector_type("i32", lanes)

    def op(name: str, a: str, b: int) -> str:
        return em.op(f"{name} {word} {a}, {em.splat('i32', lanes, str(b))}")

    bits = em.op(f"bitcast {single} {x} to {word}")
    odd = op("and", op("lshr", bits, 16), 1)
    high = op("lshr", em.op(f"add {word} {op('add', bits, 0x7FFF)}, {odd}"), 16)
    strange = em.op(f"fcmp uno {single} {x}, {x}")
    high = select(em, lanes, "i32", strange, em.splat("i32", lanes, str(0x7FC0)), high)
    return em.op(f"trunc {word} {high} to {pattern}")


def cast(
    em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any = None
) -> str:
    """Between any two dtypes; what does not fit wraps, as machines do it. Halves by way of float32."""
    if dtype is out:
        return args[0]
    if dtype.is_half:
        return cast(em, lanes, dtypes.float32, out, [_widen(em, lanes, dtype, args[0])])
    if out.is_half:
        return _narrow(em, lanes, out, cast(em, lanes, dtype, dtypes.float32, args))
    x, a, b = args[0], _type(lanes, dtype), _type(lanes, out)
    if out is dtypes.bool:
        op = "fcmp une" if dtype.is_floating_point else "icmp ne"
        return em.op(f"{op} {a} {x}, {literal(em, lanes, dtype, 0)}")
    if dtype.is_floating_point and out.is_floating_point:
        return em.op(f"{'fpext' if out.itemsize > dtype.itemsize else 'fptrunc'} {a} {x} to {b}")
    if out.is_floating_point:
        return em.op(f"{'sitofp' if dtype.is_signed else 'uitofp'} {a} {x} to {b}")
    if dtype.is_floating_point:
        # small types by way of a wider one, so that 300.0 becomes 44 in uint8 and not anything
        wide = "i64" if out.itemsize == 8 or out is dtypes.uint32 else "i32"
        whole = em.op(f"fptosi {a} {x} to {vector_type(wide, lanes)}")
        if out is dtypes.uint64:
            large = em.op(f"fcmp oge {a} {x}, {literal(em, lanes, dtype, 2.0**63)}")
            whole = select(em, lanes, wide, large, em.op(f"fptoui {a} {x} to {vector_type(wide, lanes)}"), whole)
        whole = em.op(f"freeze {vector_type(wide, lanes)} {whole}")
        return (
            whole
            if wide == out.llvm
            else em.op(f"trunc {vector_type(wide, lanes)} {whole} to {b}")
        )
    if out.itemsize < dtype.itemsize and dtype is not dtypes.bool:
        return em.op(f"trunc {a} {x} to {b}")
    if out.itemsize == dtype.itemsize and dtype is not dtypes.bool:
        return x
    return em.op(f"{'sext' if dtype.is_signed else 'zext'} {a} {x} to {b}")


def _integer_pow(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], n: int) -> str:
    """By squaring, in the order of the reference."""
    times = POINTWISE["mul"]
    base, result = args[0], ""
    k = abs(n)
    while k:
        if k & 1:
            result = base if not result else times(em, lanes, dtype, out, [result, base], None)
        k >>= 1
        if k:
            base = times(em, lanes, dtype, out, [base, base], None)
    one = literal(em, lanes, dtype, 1)
    if not result:
        return one
    return result if n >= 0 else POINTWISE["div"](em, lanes, dtype, out, [one, result], None)


def _extremum(greater: bool) -> Emit:
    """NaN wins, on the left first."""

    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        a, b = args
        t = _type(lanes, dtype)
        if dtype is dtypes.bool:
            return em.op(f"{'or' if greater else 'and'} {t} {a}, {b}")
        if not dtype.is_floating_point:
            name = ("s" if dtype.is_signed else "u") + ("max" if greater else "min")
            return intrinsic(em, name, lanes, dtype.llvm, args)
        order = em.op(f"fcmp {'oge' if greater else 'ole'} {t} {a}, {b}")
        strange = em.op(f"fcmp uno {t} {a}, {a}")
        return select(
            em, lanes, dtype.llvm, em.op(f"or {vector_type('i1', lanes)} {order}, {strange}"), a, b
        )

    return emit


def _divided(em: Emitter, lanes: int, dtype: DType, args: list[str]) -> tuple[str, str, str]:
    """Truncated quotient, remainder and whether the divisor is zero, without traps."""
    a, b = args
    t, e, flags = _type(lanes, dtype), register(dtype), vector_type("i1", lanes)
    zero, one = literal(em, lanes, dtype, 0), literal(em, lanes, dtype, 1)
    none = em.op(f"icmp eq {t} {b}, {zero}")
    if not dtype.is_signed:
        safe = select(em, lanes, e, none, one, b)
        return em.op(f"udiv {t} {a}, {safe}"), em.op(f"urem {t} {a}, {safe}"), none
    minus = em.op(f"icmp eq {t} {b}, {literal(em, lanes, dtype, -1)}")
    safe = select(em, lanes, e, em.op(f"or {flags} {none}, {minus}"), one, b)
    quotient, rest = em.op(f"sdiv {t} {a}, {safe}"), em.op(f"srem {t} {a}, {safe}")
    quotient = select(em, lanes, e, minus, em.op(f"sub {t} {zero}, {a}"), quotient)
    return quotient, rest, none


def _wrong_side(em: Emitter, lanes: int, dtype: DType, rest: str, b: str) -> str:
    """Whether a truncated integer division left a remainder of the other sign."""
    t, zero = _type(lanes, dtype), literal(em, lanes, dtype, 0)
    some = em.op(f"icmp ne {t} {rest}, {zero}")
    differ = em.op(f"icmp slt {t} {em.op(f'xor {t} {rest}, {b}')}, {zero}")
    return em.op(f"and {vector_type('i1', lanes)} {some}, {differ}")


def _float_remainder(em: Emitter, lanes: int, dtype: DType, args: list[str]) -> tuple[str, str]:
    """NumPy's divmod: remainder with the divisor's sign, and floor of the quotient."""
    a, b = args
    t, e, flags = _type(lanes, dtype), dtype.llvm, vector_type("i1", lanes)
    zero, one = literal(em, lanes, dtype, 0), literal(em, lanes, dtype, 1)
    rest = math_function(em, "fmod", lanes, dtype, [a, b])
    quotient = em.op(f"fdiv {t} {em.op(f'fsub {t} {a}, {rest}')}, {b}")
    some = em.op(f"fcmp une {t} {rest}, {zero}")
    differ = em.op(
        f"xor {flags} {em.op(f'fcmp olt {t} {rest}, {zero}')}, {em.op(f'fcmp olt {t} {b}, {zero}')}"
    )
    fix = em.op(f"and {flags} {some}, {differ}")
    quotient = select(em, lanes, e, fix, em.op(f"fsub {t} {quotient}, {one}"), quotient)
    moved = select(em, lanes, e, fix, em.op(f"fadd {t} {rest}, {b}"), rest)
    signed_zero = intrinsic(em, "copysign", lanes, e, [zero, b])
    rest = select(em, lanes, e, some, moved, signed_zero)
    down = intrinsic(em, "floor", lanes, e, [quotient])
    gap = em.op(
        f"fcmp ogt {t} {em.op(f'fsub {t} {quotient}, {down}')}, {literal(em, lanes, dtype, 0.5)}"
    )
    down = select(em, lanes, e, gap, em.op(f"fadd {t} {down}, {one}"), down)
    plain = em.op(f"fdiv {t} {a}, {b}")
    small = intrinsic(em, "copysign", lanes, e, [zero, plain])
    down = select(em, lanes, e, em.op(f"fcmp une {t} {quotient}, {zero}"), down, small)
    by_zero = em.op(f"fcmp oeq {t} {b}, {zero}")
    return rest, select(em, lanes, e, by_zero, plain, down)


def _floor_div(
    em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any
) -> str:
    if dtype.is_floating_point:
        return _float_remainder(em, lanes, dtype, args)[1]
    t, e = _type(lanes, dtype), register(dtype)
    quotient, rest, none = _divided(em, lanes, dtype, args)
    if dtype.is_signed:
        wrong = _wrong_side(em, lanes, dtype, rest, args[1])
        quotient = select(
            em,
            lanes,
            e,
            wrong,
            em.op(f"sub {t} {quotient}, {literal(em, lanes, dtype, 1)}"),
            quotient,
        )
    return select(em, lanes, e, none, literal(em, lanes, dtype, 0), quotient)


def _remainder(
    em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any
) -> str:
    if dtype.is_floating_point:
        rest, _ = _float_remainder(em, lanes, dtype, args)
        nan = literal(em, lanes, dtype, float("nan"))
        zero = em.op(f"fcmp oeq {_type(lanes, dtype)} {args[1]}, {literal(em, lanes, dtype, 0)}")
        return select(em, lanes, dtype.llvm, zero, nan, rest)
    t, e = _type(lanes, dtype), register(dtype)
    _, rest, none = _divided(em, lanes, dtype, args)
    if dtype.is_signed:
        wrong = _wrong_side(em, lanes, dtype, rest, args[1])
        rest = select(em, lanes, e, wrong, em.op(f"add {t} {rest}, {args[1]}"), rest)
    return select(em, lanes, e, none, literal(em, lanes, dtype, 0), rest)


def _fmod(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if dtype.is_floating_point:
        return math_function(em, "fmod", lanes, dtype, args)
    _, rest, none = _divided(em, lanes, dtype, args)
    return select(em, lanes, register(dtype), none, literal(em, lanes, dtype, 0), rest)


def _pow(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    if dtype.is_floating_point:
        return math_function(em, "pow", lanes, dtype, args)
    # integers: square and multiply until no lane has bits of its exponent left
    t, e = _type(lanes, dtype), register(dtype)
    zero, one = literal(em, lanes, dtype, 0), literal(em, lanes, dtype, 1)
    before, head, done = em.block, em.fresh_label("power"), em.fresh_label("power_done")
    result, base, exponent = em.name(), em.name(), em.name()
    next_result, next_base, next_exponent = em.name(), em.name(), em.name()
    em.line(f"br label %{head}")
    em.label(head)
    em.line(f"{result} = phi {t} [ {one}, %{before} ], [ {next_result}, %{head} ]")
    em.line(f"{base} = phi {t} [ {args[0]}, %{before} ], [ {next_base}, %{head} ]")
    em.line(f"{exponent} = phi {t} [ {args[1]}, %{before} ], [ {next_exponent}, %{head} ]")
    odd = em.op(f"icmp ne {t} {em.op(f'and {t} {exponent}, {one}')}, {zero}")
    product = em.op(f"mul {t} {result}, {base}")
    em.line(f"{next_result} = select {vector_type('i1', lanes)} {odd}, {t} {product}, {t} {result}")
    em.line(f"{next_base} = mul {t} {base}, {base}")
    em.line(f"{next_exponent} = lshr {t} {exponent}, {one}")
    left = any_lane(em, lanes, em.op(f"icmp ne {t} {next_exponent}, {zero}"))
    em.line(f"br i1 {left}, label %{head}, label %{done}")
    em.label(done)
    del e
    return next_result


def any_lane(em: Emitter, lanes: int, flags: str) -> str:
    if lanes == 1:
        return flags
    em.declare(f"i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)")
    return em.op(f"call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> {flags})")


def _shift(left: bool) -> Emit:
    def emit(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
        t, bits = _type(lanes, dtype), 8 * dtype.itemsize
        far = em.op(f"icmp uge {t} {args[1]}, {literal(em, lanes, dtype, bits)}")
        arithmetic = not left and dtype.is_signed
        limit = literal(em, lanes, dtype, bits - 1 if arithmetic else 0)
        count = select(em, lanes, register(dtype), far, limit, args[1])
        op = "shl" if left else "ashr" if arithmetic else "lshr"
        shifted = em.op(f"{op} {t} {args[0]}, {count}")
        if arithmetic:
            return shifted
        return select(em, lanes, register(dtype), far, literal(em, lanes, dtype, 0), shifted)

    return emit


def _where(em: Emitter, lanes: int, dtype: DType, out: DType, args: list[str], attrs: Any) -> str:
    return select(em, lanes, register(out), args[0], args[1], args[2])


POINTWISE: dict[str, Emit] = {
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "sqrt": _float_unary("sqrt"),
    "floor": _float_unary("floor"),
    "ceil": _float_unary("ceil"),
    "round": _float_unary("rint"),
    "trunc": _float_unary("trunc"),
    "relu": _relu,
    "bitwise_not": _bitwise_not,
    "rsqrt": _rsqrt,
    "logical_not": _logical_not,
    "isnan": _isnan,
    "isinf": _isinf,
    "cast": cast,
    "integer_pow": _integer_pow,
    "add": _arithmetic("fadd", "add", "or"),
    "sub": _arithmetic("fsub", "sub", "xor"),
    "mul": _arithmetic("fmul", "mul", "and"),
    "div": _arithmetic("fdiv", "sdiv", "and"),
    "maximum": _extremum(True),
    "minimum": _extremum(False),
    "floor_div": _floor_div,
    "remainder": _remainder,
    "fmod": _fmod,
    "pow": _pow,
    "atan2": _math("atan2"),
    "bitwise_and": _arithmetic("", "and", "and"),
    "bitwise_or": _arithmetic("", "or", "or"),
    "bitwise_xor": _arithmetic("", "xor", "xor"),
    "shift_left": _shift(True),
    "shift_right": _shift(False),
    "eq": _comparison("oeq", "eq", "eq"),
    "ne": _comparison("une", "ne", "ne"),
    "lt": _comparison("olt", "slt", "ult"),
    "le": _comparison("ole", "sle", "ule"),
    "gt": _comparison("ogt", "sgt", "ugt"),
    "ge": _comparison("oge", "sge", "uge"),
    "where": _where,
}
for _name in [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sigmoid",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
]:
    POINTWISE[_name] = _math(_name)


def philox(em: Emitter, lanes: int, counter: str, seed: str, offset: str, rolled: bool) -> str:
    """53 random bits for int64 counters, as `ir.reference.philox`: Philox4x32-10 in 64-bit lanes.

    counter and offset have `lanes` lanes, seed is one number. rolled: as a loop over the rounds, two in each turn, which takes
    LLVM half the time, and where many numbers are wanted a tenth more to run.
    """
    t = vector_type("i64", lanes)

    def c(value: int) -> str:
        return em.splat("i64", lanes, str(value))

    def op(name: str, a: str, b: str) -> str:
        return em.op(f"{name} {t} {a}, {b}")

    def after_rounds(count: int, words: list[str], keys: list[str]) -> tuple[list[str], list[str]]:
        k0, k1 = keys
        for _ in range(count):
            c0, c1, c2, c3 = words
            # that the upper halves are 0 is said again, so that LLVM sees products of 32 bits, and looks no further
            p0, p1 = op("mul", c(0xD2511F53), op("and", c0, low)), op("mul", c(0xCD9E8D57), op("and", c2, low))
            first = op("xor", op("xor", op("lshr", p1, thirty_two), c1), em.splat("i64", lanes, k0))
            second = op("xor", op("xor", op("lshr", p0, thirty_two), c3), em.splat("i64", lanes, k1))
            words = [first, op("and", p1, low), second, op("and", p0, low)]
            k0, k1 = (em.op(f"and i64 {em.op(f'add i64 {k}, {step}')}, {0xFFFFFFFF}") for k, step in ((k0, 0x9E3779B9), (k1, 0xBB67AE85)))
        return words, [k0, k1]

    low, thirty_two = c(0xFFFFFFFF), c(32)
    words = [op("and", counter, low), op("lshr", counter, thirty_two), op("and", offset, low), op("lshr", offset, thirty_two)]
    keys = [em.op(f"and i64 {seed}, {0xFFFFFFFF}"), em.op(f"lshr i64 {seed}, 32")]
    if rolled:
        before, body, after = em.block, em.fresh_label("rounds"), em.fresh_label("drawn")
        kinds = [t] * 4 + ["i64"] * 3
        first, now = [*words, *keys, "0"], [em.name() for _ in kinds]
        em.line(f"br label %{body}")
        em.label(body)
        phis = len(em.lines)
        words, keys = after_rounds(2, now[:4], now[4:6])
        then = [*words, *keys, em.op(f"add i64 {now[6]}, 2")]
        em.line(f"br i1 {em.op(f'icmp ult i64 {then[6]}, 10')}, label %{body}, label %{after}")
        em.lines[phis:phis] = [
            f"  {x} = phi {kind} [{a}, %{before}], [{b}, %{body}]" for x, kind, a, b in zip(now, kinds, first, then, strict=True)
        ]
        em.label(after)
    else:
        words, keys = after_rounds(10, words, keys)
    c0, c1 = words[:2]
    return op("or", c0, op("shl", op("and", c1, c(0x1FFFFF)), thirty_two))
