"""Pointwise functions and operators.

The three makers at the top build the recording fast paths: one dictionary look-up for an operation that is known at
this place of the trace. Everything unusual (first time, NumPy scalars, other classes) goes on to `record`. The tables
at the end name every function that is a single primitive; composites of primitives follow them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops.conversion import converted, stored
from adjoint.ops.descriptions import describe
from adjoint.trace.handle import Parameter, Tensor, pending
from adjoint.trace.infer import common_dtype
from adjoint.trace.macro import INEXACT, composite, not_implemented
from adjoint.trace.recorder import (
    bind_kept,
    is_too_large,
    local,
    record,
    record_one,
    record_unary,
    tensor_from_array,
)

Number = int | float | bool | complex


def plain(x: Any, what: str) -> Any:
    """A tensor or a Python number from an operand: NumPy scalars and 0-d arrays become numbers."""
    if isinstance(x, (Tensor, float, int, complex)):
        return x
    if isinstance(x, np.generic) and x.dtype.kind in "biufc":
        return x.item()
    if isinstance(x, np.ndarray):
        raise TypeError(
            f"unsupported operand type(s) for {what}: 'Tensor' and 'numpy.ndarray' of shape {list(x.shape)}; convert it with torch.from_numpy() "
            "or torch.tensor()"
        )
    raise TypeError(f"{what}: expected a tensor or a number, got {type(x).__name__}: {x!r:.60}")


def make_unary(prim: str) -> Callable[[Tensor], Tensor]:
    def apply(a: Tensor) -> Tensor:
        if not isinstance(a, Tensor):
            raise TypeError(f"{prim}(): argument 'input' must be Tensor, not {type(a).__name__}")
        return record_unary(prim, a)

    return apply


def make_binary(prim: str, defer: bool = False) -> Callable[[Any, Any], Any]:
    """The operator method `a prim b` with `a` a tensor; `defer` takes arrays, and gives NotImplemented for other foreign operands."""

    def apply(a: Tensor, b: Any) -> Any:
        tr = local.trace
        tid = tr.id
        kind = type(b)
        if kind is Tensor or kind is Parameter:
            key = (
                prim,
                a._slot if a._tid == tid else bind_kept(tr, a),
                b._slot if b._tid == tid else bind_kept(tr, b),
            )
            step = tr.node.children.get(key)
            if step is None or tr.id != tid:
                return record(prim, (a, b))
            tr.node = step
        elif (kind is float or kind is int) and not tr.static:
            key = (prim, a._slot if a._tid == tid else bind_kept(tr, a), kind)
            step = tr.node.children.get(key)
            if step is None or tr.id != tid or (kind is int and is_too_large(b)):
                return record(prim, (a, b))
            tr.node = step  # no calls in these lines: a signal that came between them would part the trace from its numbers
            tr.scalars += (b,)
        else:
            if defer and isinstance(b, np.ndarray):
                return apply(a, tensor_from_array(b))
            if defer and not isinstance(b, (Tensor, int, float, complex, np.generic)):
                return NotImplemented
            return record(prim, (a, plain(b, prim)))
        out = pending(tid, step.slot, step.aval)
        if tr.id != tid:  # a finalizer has ended the trace
            return apply(a, b)
        tr.handles.append(out)
        return out

    return apply


def make_reflected(prim: str) -> Callable[[Tensor, Any], Any]:
    """The operator method `b prim a` with `a` a tensor and `b` a number or an array."""

    def apply(a: Tensor, b: Any) -> Any:
        tr = local.trace
        tid = tr.id
        kind = type(b)
        if (kind is float or kind is int) and not tr.static:
            key = (prim, kind, a._slot if a._tid == tid else bind_kept(tr, a))
            step = tr.node.children.get(key)
            if step is None or tr.id != tid or (kind is int and is_too_large(b)):
                return record(prim, (b, a))
            tr.node = step
            tr.scalars += (b,)
            out = pending(tid, step.slot, step.aval)
            if tr.id != tid:
                return apply(a, b)
            tr.handles.append(out)
            return out
        if isinstance(b, np.ndarray):
            return record(prim, (tensor_from_array(b), a))
        if not isinstance(b, (Tensor, int, float, complex, np.generic)):
            return NotImplemented
        return record(prim, (plain(b, prim), a))

    return apply


def binary_function(prim: str) -> Callable[[Any, Any], Tensor]:
    """The function form: either operand may be the number."""
    method = make_binary(prim)

    def apply(input: Any, other: Any) -> Tensor:
        if isinstance(input, Tensor):
            return method(input, other)
        if not isinstance(other, Tensor):
            raise TypeError(
                f"{prim}(): argument 'input' must be Tensor, not {type(input).__name__}; wrap it with torch.tensor()"
            )
        return record(prim, (plain(input, prim), other))

    return apply


UNARY = (
    "neg abs sign sqrt floor ceil trunc relu bitwise_not rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin "
    "acos atan sinh cosh tanh asinh acosh atanh sigmoid erf erfc erfinv lgamma digamma logical_not isnan isinf"
).split()
BINARY = (
    "mul maximum minimum floor_div remainder fmod atan2 eq ne lt le gt ge "
    "bitwise_and bitwise_or bitwise_xor shift_left shift_right"
).split()

functions: dict[str, Callable] = {name: make_unary(name) for name in UNARY}
functions.update({name: binary_function(name) for name in BINARY})
describe(functions)
method_add, method_sub, method_mul, method_div = (make_binary(n, defer=True) for n in ("add", "sub", "mul", "div"))
reflected_sub, reflected_div = make_reflected("sub"), make_reflected("div")
_add, _sub, _div, _pow = (binary_function(n) for n in ("add", "sub", "div", "pow"))
mul = functions["mul"]
exp, log, neg, sqrt, tanh, sigmoid, relu, absolute = (
    functions[n] for n in ("exp", "log", "neg", "sqrt", "tanh", "sigmoid", "relu", "abs")
)  # fmt: skip
maximum, minimum = functions["maximum"], functions["minimum"]
log1p, expm1, sin, cos, erf = (functions[n] for n in ("log1p", "expm1", "sin", "cos", "erf"))


def cast(x: Tensor, dtype: DType) -> Tensor:
    """The tensor in another dtype (itself if it has it already)."""
    return x if x._aval.dtype is dtype else record_one("cast", x, dtype)


def to_default_float(x: Tensor) -> Tensor:
    """An integer or bool tensor in the default dtype, any other as it is."""
    return x if x._aval.dtype.category >= 2 else cast(x, local.trace.default_dtype)


def refuse(name: str, takes: tuple[int, ...], *operands: Any) -> None:
    """NotImplementedError where the operands together have a dtype of another category than those that `name` takes."""
    kinds = [x._aval.dtype for x in operands if isinstance(x, Tensor)]
    dtype = max(kinds, key=lambda d: d.category)
    if dtype.category not in takes:
        raise NotImplementedError(not_implemented(name, dtype))


def dtype_together(*operands: Any) -> DType:
    """The dtype in which tensors and numbers meet."""
    found = common_dtype([x._aval if isinstance(x, Tensor) else type(x) for x in operands], local.trace.default_dtype)
    return found  # type: ignore[return-value]


def in_common(function: Callable[..., Tensor], *operands: Any, whole: bool = False) -> Tensor:
    """`function` of the operands in the dtype in which they meet: the default dtype for integers, unless `whole`; of halves
    in float32, rounded once."""
    dtype = dtype_together(*operands)
    if dtype.category < 2 and not whole:
        dtype = local.trace.default_dtype
    wide = dtypes.float32 if dtype.is_half else dtype
    return cast(function(*[cast(x, wide) if isinstance(x, Tensor) else x for x in operands]), dtype)


def _scaled(name: str, input: Any, other: Any, alpha: Number) -> Any:
    """`alpha * other` in the dtype of the two, as PyTorch has it: alpha takes no part in promotion."""
    if alpha == 1 and type(alpha) is int:
        return other
    kinds = [x._aval.dtype if isinstance(x, Tensor) else dtypes.int64 if isinstance(x, int) else dtypes.float32 for x in (input, other)]
    if isinstance(alpha, complex) and not dtype_together(input, other).is_complex:
        raise RuntimeError(f"For non-complex input tensors, argument alpha must not be a complex number: {name} of {kinds[0].name} with alpha={alpha}.")
    if isinstance(alpha, float) and all(k.category < 2 for k in kinds):
        raise RuntimeError(f"For integral input tensors, argument alpha must not be a floating point number: {name} of {kinds[0].name} with alpha={alpha}.")
    if isinstance(alpha, bool) and any(k.category > 0 for k in kinds):
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(other, Tensor) and other._aval.dtype is dtypes.bool and kinds[0] is dtypes.bool:
        return other if alpha else other & False
    return other * converted(f"{name}(), alpha", alpha, dtype_together(input, other))


def add(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """`input + alpha * other`, broadcast.

    >>> import adjoint as torch
    >>> torch.add(torch.tensor([1, 2]), 10)
    tensor([11, 12])
    """
    factor = _half_factor(input, other, alpha)
    if factor is not None:
        return in_common(lambda x, y: x + y * factor, input, other)
    return _add(input, _scaled("add", input, other, alpha))


def sub(input: Any, other: Any, *, alpha: Number = 1) -> Tensor:
    """`input - alpha * other`, broadcast.

    >>> import adjoint as torch
    >>> torch.sub(torch.tensor([5, 6]), 1, alpha=2)
    tensor([3, 4])
    """
    factor = _half_factor(input, other, alpha)
    if factor is not None:
        return in_common(lambda x, y: x - y * factor, input, other)
    return _sub(input, _scaled("sub", input, other, alpha))


def _half_factor(input: Any, other: Any, alpha: Number) -> Tensor | None:
    """alpha for halves, as PyTorch has it: rounded to a half itself, while the product is not; None for other dtypes."""
    if (alpha == 1 and type(alpha) is int) or type(alpha) not in (int, float):
        return None
    dtype = dtype_together(input, other)
    if not dtype.is_half:
        return None
    return cast(record("full", (converted("alpha", alpha, dtype),), ((), dtype)), dtypes.float32)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """`input / other`; `rounding_mode` None (true division), "floor" or "trunc".

    >>> import adjoint as torch
    >>> torch.div(torch.tensor([7, -7]), 2, rounding_mode="floor")
    tensor([ 3, -4])
    """
    if rounding_mode is None:
        return _div(input, other)
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        operands = [x._aval if isinstance(x, Tensor) else type(x) for x in (input, other)]
        together = common_dtype(operands, local.trace.default_dtype)
        if together is dtypes.bool or together.is_complex:
            raise NotImplementedError(not_implemented("div_trunc", together))
        if isinstance(input, bool):
            input = int(input)
        if isinstance(input, Tensor) and input._aval.dtype is dtypes.bool:
            input = cast(input, together)
        if together.is_floating_point:
            return functions["trunc"](_div(input, other))
        rest = functions["fmod"](input, other)  # whole numbers stay exact beyond the digits of a float
        return functions["floor_div"](_sub(input, rest), other)
    raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}")


def floor_divide(input: Any, other: Any) -> Tensor:
    """The quotient rounded towards minus infinity. Integer division by the number zero raises ZeroDivisionError.

    >>> import adjoint as torch
    >>> torch.floor_divide(torch.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """
    if not isinstance(other, Tensor) and other == 0 and not isinstance(other, float):
        if isinstance(input, Tensor) and not input._aval.dtype.is_floating_point:
            raise RuntimeError("ZeroDivisionError: integer floor_divide by zero")
    return functions["floor_div"](input, other)


def remainder(input: Any, other: Any) -> Tensor:
    """Python's modulus: the result has the sign of `other`.

    >>> import adjoint as torch
    >>> torch.remainder(torch.tensor([7, -7]), 3)
    tensor([1, 2])
    """
    if not isinstance(other, Tensor) and other == 0 and not isinstance(other, float):
        if isinstance(input, Tensor) and not input._aval.dtype.is_floating_point:
            raise RuntimeError("ZeroDivisionError: integer remainder by zero")
    return functions["remainder"](input, other)


def pow(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent`. A whole-number exponent up to 64 is part of the program and computed by multiplication.

    Raises RuntimeError for an integer tensor to a negative whole power, as PyTorch does. Negative exponents in an integer
    tensor give what remains of the reciprocal: 0, but for bases of 1 and -1.

    >>> import adjoint as torch
    >>> torch.pow(torch.tensor([1., 2., 3.]), 2)
    tensor([1., 4., 9.])
    """
    if type(exponent) is int and isinstance(input, Tensor) and input._aval.dtype.category >= 2 and -64 <= exponent <= 64:
        return record_one("integer_pow", input, exponent)
    if isinstance(exponent, np.generic):
        exponent = exponent.item()
    if isinstance(input, Tensor) and isinstance(exponent, (int, float)):
        dtype = input._aval.dtype
        whole = exponent == math.floor(exponent) if abs(exponent) < 1e9 else False
        if dtype.category < 2:
            if isinstance(exponent, int):
                if exponent < 0:
                    raise RuntimeError(
                        f"Integers to negative integer powers are not allowed: {dtype.name} tensor ** {exponent}; "
                        "convert it with .float() first"
                    )
                base = cast(input, dtypes.int64) if dtype is dtypes.bool else input
                out = record("integer_pow", (base,), int(exponent))
                return cast(out, dtypes.bool) if dtype is dtypes.bool and isinstance(exponent, bool) else out
            input = cast(input, local.trace.default_dtype)
        if whole and abs(exponent) <= 64:
            return record_one("integer_pow", input, int(exponent))
        if exponent == 0.5:
            return sqrt(input)
    if isinstance(exponent, Tensor) and exponent._aval.dtype.category == 1 and exponent._aval.dtype.is_signed:
        if dtype_together(input, exponent).category == 1:
            return _integer_power(plain(input, "pow"), exponent)
    return _pow(input, exponent)


def _integer_power(base: Any, exponent: Tensor) -> Tensor:
    down = exponent < 0
    out = _pow(base, where(down, exponent & 1, exponent))  # of a unit the parity is all that matters
    return where(down & (base != 1) & (base != -1), 0, out)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """To the nearest whole number (halves to even), or to `decimals` decimal places.

    >>> import adjoint as torch
    >>> torch.round(torch.tensor([0.5, 1.5, -2.7]))
    tensor([ 0.,  2., -3.])
    """
    if decimals == 0:
        return record("round", (input,))
    scale = 10.0**decimals
    return record("round", (input * scale,)) / scale


def square(input: Tensor) -> Tensor:
    """Each element times itself.

    >>> import adjoint as torch
    >>> torch.square(torch.tensor([-2., 3.]))
    tensor([4., 9.])
    """
    return pow(input, 2)


def reciprocal(input: Tensor) -> Tensor:
    """1 divided by each element.

    >>> import adjoint as torch
    >>> torch.reciprocal(torch.tensor([2., 4.]))
    tensor([0.5000, 0.2500])
    """
    return _div(1.0, input)


def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the boolean `condition` holds, else `other`; with the condition alone, the indices of True.

    >>> import adjoint as torch
    >>> x = torch.tensor([-1., 2.])
    >>> torch.where(x > 0, x, 0.)
    tensor([0., 2.])
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    input = input if isinstance(input, Tensor) else plain(input, "where")
    other = other if isinstance(other, Tensor) else plain(other, "where")
    out = record("where", (condition, input, other))
    if not isinstance(input, Tensor):
        stored("where()", input, out._aval.dtype)  # as it is checked to be
    if not isinstance(other, Tensor):
        stored("where()", other, out._aval.dtype)
    return out


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Values limited to [min, max]; the gradient is 1 on the closed interval and 0 outside.

    >>> import adjoint as torch
    >>> torch.clamp(torch.tensor([-2., 0.5, 3.]), min=-1, max=1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    out = input
    if min is not None:
        out = _clamp_below(out, min)
    if max is not None:
        out = _clamp_above(out, max)
    return out


def _clamp_below(x: Tensor, low: Any) -> Tensor:
    # comparing, not maximum(): at a tie the whole gradient goes to x, and NaN stays
    return where(functions["lt"](x, low), _limit(x, low), x)


def _clamp_above(x: Tensor, high: Any) -> Tensor:
    return where(functions["gt"](x, high), _limit(x, high), x)


def _limit(x: Tensor, limit: Any) -> Any:
    limit = plain(limit, "clamp")
    return limit if isinstance(limit, Tensor) else converted("clamp()", limit, dtype_together(x, limit))


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN.

    >>> import adjoint as torch
    >>> torch.isfinite(torch.tensor([1., torch.inf, torch.nan]))
    tensor([ True, False, False])
    """
    if input._aval.dtype.category < 2:
        return input == input
    return functions["logical_not"](functions["isnan"](input - input))


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both operands are true (not zero).

    >>> import adjoint as torch
    >>> torch.logical_and(torch.tensor([True, True]), torch.tensor([True, False]))
    tensor([ True, False])
    """
    return functions["bitwise_and"](cast(input, dtypes.bool), cast(other, dtypes.bool))


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether at least one operand is true (not zero).

    >>> import adjoint as torch
    >>> torch.logical_or(torch.tensor([True, False]), torch.tensor([False, False]))
    tensor([ True, False])
    """
    return functions["bitwise_or"](cast(input, dtypes.bool), cast(other, dtypes.bool))


def logical_xor(input: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one operand is true (not zero).

    >>> import adjoint as torch
    >>> torch.logical_xor(torch.tensor([True, True]), torch.tensor([True, False]))
    tensor([False,  True])
    """
    return functions["bitwise_xor"](cast(input, dtypes.bool), cast(other, dtypes.bool))


@composite("LerpBackward0", takes=INEXACT)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """`input + weight * (end - input)`, computed from the nearer end, so that it is exact at both.

    >>> import adjoint as torch
    >>> torch.lerp(torch.tensor([0., 10.]), torch.tensor([1., 20.]), 0.25)
    tensor([ 0.2500, 12.5000])
    """
    weight = plain(weight, "lerp")
    if isinstance(weight, Tensor):
        if weight._aval.dtype.is_complex and not input._aval.dtype.is_complex:
            raise RuntimeError(f"expected dtype {input._aval.dtype.name} for `weight` but got dtype {weight._aval.dtype.name}")
        near = absolute(weight) < 0.5
        start, share = where(near, input, end), where(near, weight, weight - 1)
    else:
        weight = converted("lerp(), weight", weight, input._aval.dtype)
        start, share = (input, weight) if abs(weight) < 0.5 else (end, weight - 1)
    return start + share * (end - input)


def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """`input + value * tensor1 * tensor2`, broadcast.

    >>> import adjoint as torch
    >>> torch.addcmul(torch.ones(2), torch.tensor([1., 2.]), torch.tensor([2., 4.]), value=10)
    tensor([21., 81.])
    """
    refuse("addcmul", (1, 2, 3), input, tensor1, tensor2)
    value = converted("addcmul(), value", value, dtype_together(input, tensor1, tensor2))
    return in_common(lambda x, a, b: x + value * a * b, input, tensor1, tensor2, whole=True)


def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
    """`input + value * tensor1 / tensor2`, broadcast.

    >>> import adjoint as torch
    >>> torch.addcdiv(torch.ones(2), torch.tensor([1., 2.]), torch.tensor([2., 4.]), value=10)
    tensor([6., 6.])
    """
    if all(t._aval.dtype.category < 2 for t in (tensor1, tensor2)):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported: the division of two integer tensors; use (input + value * "
            "tensor1 / tensor2), or convert one of them with .float()"
        )
    value = converted("addcdiv(), value", value, dtype_together(input, tensor1, tensor2))
    return in_common(lambda x, a, b: x + value * a / b, input, tensor1, tensor2)


def xlogy(input: Any, other: Any) -> Tensor:
    """`input * log(other)`, 0 where input is 0 (and other is not NaN).

    >>> import adjoint as torch
    >>> torch.xlogy(torch.tensor([0., 2.]), torch.tensor([0., 1.]))
    tensor([0., 0.])
    """
    input, other = plain(input, "xlogy"), plain(other, "xlogy")
    refuse("xlogy", (0, 1, 2), input, other)
    return in_common(_xlogy, input, other)


def _xlogy(x: Any, y: Any) -> Tensor:
    # only where 0 meets an infinite or undefined logarithm is anything hidden, so d/dx is log(y) elsewhere
    if not isinstance(y, Tensor):
        y = record("full", (y,), ((), x._aval.dtype))
    hidden = (x == 0) & ((y <= 0) | functions["isinf"](y))
    return x * log(where(hidden, 1.0, y))


def logaddexp(input: Tensor, other: Tensor) -> Tensor:
    """log(exp(input) + exp(other)) without overflow.

    >>> import adjoint as torch
    >>> torch.logaddexp(torch.tensor([0., 1000.]), torch.tensor([0., 1000.]))
    tensor([6.9315e-01, 1.0007e+03])
    """
    refuse("logaddexp", (2, 3), input, other)
    return in_common(_logaddexp, input, other)


def _logaddexp(input: Tensor, other: Tensor) -> Tensor:
    high = maximum(input, other)
    infinite = functions["eq"](high, math.inf)  # there the slope is that of the larger one
    input, other = where(infinite, 0.0, input), where(infinite, 0.0, other)
    shift = high.detach()
    shift = where(functions["isinf"](shift), 0.0, shift)
    return where(infinite, high, log(exp(input - shift) + exp(other - shift)) + shift)


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Whether elements differ by no more than `atol + rtol * abs(other)`.

    >>> import adjoint as torch
    >>> torch.isclose(torch.tensor([1., 2.]), torch.tensor([1., 2.1]))
    tensor([ True, False])
    """
    if input._aval.dtype is dtypes.bool:
        return input == other
    close = (input == other) | ((input - other).abs() <= atol + rtol * other.abs()) & isfinite(other) & isfinite(input)
    if equal_nan and input._aval.dtype.is_floating_point:
        close = close | (functions["isnan"](input) & functions["isnan"](other))
    return close


def nan_to_num(input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """NaN replaced by `nan`, infinities by `posinf` and `neginf` (default: the largest finite numbers).

    >>> import adjoint as torch
    >>> torch.nan_to_num(torch.tensor([1., torch.nan, torch.inf]), posinf=9.0)
    tensor([1., 0., 9.])
    """
    dtype = input._aval.dtype
    if dtype.category < 2:
        return input.clone()
    if dtype.is_complex:
        parts = [nan_to_num(record(part, (input,)), nan, posinf, neginf) for part in ("real", "imag")]
        return record("complex", tuple(parts))
    info = dtypes.finfo(dtype)
    given = (nan, info.max if posinf is None else posinf, info.min if neginf is None else neginf)
    with np.errstate(over="ignore"):  # a number beyond the range becomes infinite
        instead, high, low = given if dtype is dtypes.float64 else [float(np.float32(x)) for x in given]
    finite = where(input == math.inf, high, where(input == -math.inf, low, input))
    return where(functions["isnan"](input), instead, finite)


def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 for negative elements, 1 for positive ones, `values` at zero.

    >>> import adjoint as torch
    >>> torch.heaviside(torch.tensor([-1., 0., 2.]), torch.tensor(0.5))
    tensor([0.0000, 0.5000, 1.0000])
    """
    _check_real("heaviside", input)
    return where(input == 0, values, cast(input > 0, input._aval.dtype))


def hypot(input: Tensor, other: Tensor) -> Tensor:
    """The square root of `input**2 + other**2`.

    >>> import adjoint as torch
    >>> torch.hypot(torch.tensor([3., 5.]), torch.tensor([4., 12.]))
    tensor([ 5., 13.])
    """
    refuse("hypot", (2,), input, other)
    return in_common(_hypot, input, other)


@composite("HypotBackward0")
def _hypot(x: Tensor, y: Tensor) -> Tensor:
    # a power of two keeps the squares within the range of the dtype; as it cancels, it has no derivative
    size = maximum(absolute(x), absolute(y)).detach()
    far, by = (2.0**500, 2.0**700) if x._aval.dtype is dtypes.float64 else (2.0**60, 2.0**100)
    one = record("full", (1.0,), ((), x._aval.dtype))
    unit = where(size > far, 1 / by, where(size < 1 / far, by, one))
    a, b = x * unit, y * unit
    infinite = functions["isinf"](x) | functions["isinf"](y)  # also beside NaN
    return where(infinite, math.inf, sqrt(a * a + b * b) / unit)


def copysign(input: Tensor, other: Any) -> Tensor:
    """Magnitudes of `input` with the signs of `other`; zeros have signs, too.

    >>> import adjoint as torch
    >>> torch.copysign(torch.tensor([1., -2.]), torch.tensor([-0., 5.]))
    tensor([-1.,  2.])
    """
    refuse("copysign", (0, 1, 2), input, other)
    if isinstance(other, complex):
        raise NotImplementedError(not_implemented("copysign", dtypes.default_complex(local.trace.default_dtype)))
    return in_common(_copysign, input, other)


def _copysign(x: Tensor, sign: Any) -> Tensor:
    size = absolute(x)
    if not isinstance(sign, Tensor):
        return -size if math.copysign(1.0, sign) < 0 else size
    less = functions["lt"]
    return where(functions["bitwise_or"](less(sign, 0), less(1 / sign, 0)), -size, size)  # 1 / -0.0 is -inf


def _check_real(name: str, x: Tensor) -> None:
    if x._aval.dtype.is_complex:
        raise RuntimeError(f"{name} is not supported for complex tensors; use .real, .imag or .angle()")


def deg2rad(input: Tensor) -> Tensor:
    """Angles in radians from degrees.

    >>> import adjoint as torch
    >>> torch.deg2rad(torch.tensor([0., 180.]))
    tensor([0.0000, 3.1416])
    """
    _check_real("deg2rad", input)
    return to_default_float(input) * (math.pi / 180)


def rad2deg(input: Tensor) -> Tensor:
    """Angles in degrees from radians.

    >>> import adjoint as torch
    >>> torch.rad2deg(torch.tensor([0., torch.pi]))
    tensor([  0., 180.])
    """
    _check_real("rad2deg", input)
    return to_default_float(input) * (180 / math.pi)


def frac(input: Tensor) -> Tensor:
    """The part behind the point, with the sign of `input`.

    >>> import adjoint as torch
    >>> torch.frac(torch.tensor([1.5, -2.25]))
    tensor([ 0.5000, -0.2500])
    """
    refuse("frac", (2,), input)
    return input - functions["trunc"](input)


def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """`log(x / (1 - x))`, the inverse of sigmoid; with `eps`, x is clamped to [eps, 1 - eps] first.

    >>> import adjoint as torch
    >>> torch.logit(torch.tensor([0.5, 0.9]))
    tensor([0.0000, 2.1972])
    """
    refuse("logit", (0, 1, 2), input)
    if eps is not None:
        return in_common(lambda x: _logit(clamp(x, eps, 1 - eps)), input)
    return in_common(lambda x: _logit(x + where((x < 0) | (x > 1), math.nan, 0.0)), input)  # with no slope outside, either


def _logit(x: Tensor) -> Tensor:
    return log(x) - log1p(-x)  # finite differences of infinities nowhere, so also right at 0 and 1


def softplus_stable(x: Tensor) -> Tensor:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return relu(x) + log1p(exp(-absolute(x)))
