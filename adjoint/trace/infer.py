"""Result shape and dtype of a recorded operation: broadcasting, promotion, and the errors of both.

`infer(prim, operands, attrs, default_dtype)` serves the recorder when a step is first made. An operand is an `Aval`,
the type of a run-time number, or a baked `Num`. The answer is (shape, dtype, compute dtype, dtype of each run-time
number). For primitives with several results shape is the tuple of their avals and dtype is None.
"""

from __future__ import annotations

from math import prod
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.prims import PRIMS
from adjoint.ir.reference import IndexOutOfRange
from adjoint.trace.aval import Aval, aval
from adjoint.trace.trie import Num

COMPARE = frozenset("eq ne lt le gt ge".split())
FLOAT_ONLY = frozenset(
    "sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
    "atanh sigmoid erf erfc erfinv lgamma digamma div atan2".split()
)
BITWISE = frozenset("bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right".split())
NO_BOOL = frozenset("floor_div remainder fmod pow shift_left shift_right abs floor ceil trunc round".split())
NO_COMPLEX = frozenset(
    "sign floor ceil trunc round relu erf erfc erfinv lgamma digamma atan2 maximum minimum floor_div remainder fmod "
    "lt le gt ge amax amin cummax cummin argmax argmin argsort argselect".split()
)
_CHANGES_KIND = frozenset("abs real imag complex".split())
SYMBOL = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "matmul": "@"}


def category_of(number_type: type) -> int:
    """0 bool, 1 int, 2 float, 3 complex: the category a Python number brings to promotion."""
    if number_type is bool:
        return 0
    if issubclass(number_type, int):
        return 1
    if issubclass(number_type, float):
        return 2
    if issubclass(number_type, complex):
        return 3
    raise TypeError(f"unsupported operand: a tensor operation got a {number_type.__name__}; use a number or a tensor")


def broadcast(prim: str, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape; RuntimeError in PyTorch's words, with the call restated."""
    out: list[int] = []
    rank = max((len(s) for s in shapes), default=0)
    for axis in range(1, rank + 1):
        size = 1
        for s in shapes:
            if axis <= len(s):
                n = s[-axis]
                if n != size and n != 1:
                    if size != 1:
                        listed = " and ".join(str(list(s)) for s in shapes)
                        raise RuntimeError(
                            f"The size of tensor a ({size}) must match the size of tensor b ({n}) at non-singleton "
                            f"dimension {rank - axis}: {prim} of shapes {listed}; shapes are aligned from the right "
                            "and a size of 1 stretches, so reshape or unsqueeze one of them"
                        )
                    size = n
        out.append(size)
    return tuple(reversed(out))


def common_dtype(operands: list[Any], default: DType) -> DType:
    """Promotion by PyTorch's order: tensors with axes, then 0-d tensors, then numbers decide only by category."""
    full: DType | None = None
    point: DType | None = None
    number = -1
    for x in operands:
        if isinstance(x, Aval):
            if x.shape:
                full = x.dtype if full is None else dtypes.promote(full, x.dtype)
            else:
                point = x.dtype if point is None else dtypes.promote(point, x.dtype)
        else:
            number = max(number, category_of(type(x.value) if isinstance(x, Num) else x))
    lone = None if number < 0 else (dtypes.bool, dtypes.int64, default, dtypes.default_complex(default))[number]
    return _outranked(full, _outranked(point, lone))  # type: ignore[return-value]


def _outranked(higher: DType | None, lower: DType | None) -> DType | None:
    """Operands of a higher kind keep their dtype, unless those of a lower kind are of a greater category."""
    if higher is None or lower is None:
        return lower if higher is None else higher
    if lower.category <= higher.category:
        return higher
    if higher.is_floating_point:
        return dtypes.default_complex(higher)
    return lower if lower.category >= 2 else dtypes.promote(higher, lower)


def _is_bool(x: Any) -> bool:
    if isinstance(x, Aval):
        return x.dtype is dtypes.bool
    return (type(x.value) if isinstance(x, Num) else x) is bool


def infer(prim: str, operands: list[Any], attrs: Any, default: DType) -> tuple[Any, Any, Any, list[Any]]:
    declared = PRIMS[prim]
    if declared.kind != "pointwise":
        return infer_structured(prim, operands, attrs)
    shape = broadcast(prim, [x.shape for x in operands if isinstance(x, Aval)])
    if prim == "cast":
        return shape, attrs, None, [None]
    if prim == "where":
        condition = operands[0]
        if isinstance(condition, type) and not issubclass(condition, (bool, int)):
            raise TypeError(f"where(): argument 'condition' (position 1) must be Tensor, not {condition.__name__}")
        if isinstance(condition, Aval) and condition.dtype is not dtypes.bool:
            raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {condition.dtype}")
        compute = common_dtype(operands[1:], default)
        types = [None, *(_word(compute, x) for x in operands[1:])]
        return shape, compute, compute, types
    compute = common_dtype(operands, default)
    if prim in FLOAT_ONLY and compute.category < 2:
        compute = default
    refuse(prim, compute)
    if (prim == "sub" and any(_is_bool(x) for x in operands)) or (prim == "neg" and compute is dtypes.bool):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, "
            "use the `~` or `logical_not()` operator instead."
        )
    if prim in ("isnan", "isinf", "logical_not"):
        out = dtypes.bool
    else:
        out = dtypes.bool if prim in COMPARE else compute
        if prim in _CHANGES_KIND:
            out = compute.to_complex() if prim == "complex" else compute.to_real()
    types = [_word(compute, x) for x in operands]
    return shape, out, compute, types


def refuse(prim: str, dtype: DType) -> None:
    """Raise what PyTorch raises for a primitive that does not exist for a dtype."""
    name = dtypes.LEGACY[dtype]
    if prim in BITWISE and dtype.category >= 2:
        raise NotImplementedError(f'"{prim}" not implemented for \'{name}\': bitwise operations take bool or integer tensors')
    if dtype is dtypes.bool and prim in NO_BOOL:
        raise NotImplementedError(f'"{prim}" not implemented for \'{name}\': convert the operands with .long() or .float() first')
    if prim == "relu" and dtype is dtypes.bool:
        raise RuntimeError("Boolean inputs not supported for relu; convert them with .float() first")
    if dtype.is_complex and prim in NO_COMPLEX:
        kind = RuntimeError if prim in ("maximum", "minimum", "argsort", "argselect", "argmax", "argmin") else NotImplementedError
        raise kind(f'"{prim}" not implemented for \'{name}\': complex numbers have no order; use .real, .imag or .abs()')


def _word(compute: DType, operand: Any) -> DType | None:
    """The dtype of a run-time number in an operation: what is computed with, not what is stored; None for a tensor."""
    if isinstance(operand, Aval):
        return None
    if compute.is_complex and category_of(type(operand.value) if isinstance(operand, Num) else operand) < 3:
        return compute.to_real()
    return dtypes.float32 if compute.is_half else compute


def infer_structured(prim: str, operands: list[Any], attrs: Any) -> tuple[Any, Any, Any, list[Any]]:
    """Everything but pointwise: the primitive's own rule, after checks."""
    types: list[Any] = [None if isinstance(x, Aval) else dtypes.int64 for x in operands]
    for x in operands:
        if isinstance(x, type) and not issubclass(x, (int, float, complex)):
            raise TypeError(f"{prim}: expected a tensor or a number, got {x.__name__}")
    if prim == "full":
        shape, dtype = attrs
        return shape, dtype, None, [_word(dtype, operands[0])]
    if prim == "iota":
        return (attrs,), dtypes.int64, None, []
    if prim == "random_bits":
        return attrs, dtypes.int64, None, types
    if prim in NO_COMPLEX:
        refuse(prim, operands[0].dtype)
    if prim == "matmul":
        a, b = operands
        if a.dtype is b.dtype is dtypes.bool:
            raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'; convert the operands with .int() or .float() first")
        if a.dtype is not b.dtype:
            raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != {b.dtype.name}")
        if a.shape[-1] != b.shape[-2]:
            raise RuntimeError(
                f"mat1 and mat2 shapes cannot be multiplied ({a.shape[-2]}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})"
            )
    if prim in ("take", "put") and not operands[0].shape[0] and 0 not in operands[1].shape:
        raise IndexOutOfRange("index is out of bounds for dimension 0 with size 0; index an axis that has elements")
    if prim == "convolve" and any(x.dtype is not operands[0].dtype for x in operands):
        given = " and ".join(x.dtype.name for x in operands)
        kind = RuntimeError if all(x.dtype.is_floating_point for x in operands) else NotImplementedError
        raise kind(f"Input type and weight type should be the same, but got {given}: convert one of them with .to()")
    if prim == "pick":
        shape, dtype = operands[0].parts[attrs]
        return shape, dtype, None, [None]
    pairs = [(tuple(x.shape), x.dtype) if isinstance(x, Aval) else ((), dtypes.int64) for x in operands]
    result = PRIMS[prim].rule(pairs, attrs)
    if PRIMS[prim].kind == "tuple":
        return TupleAval(result, any(x.requires_grad for x in operands)), None, None, types
    return result[0], result[1], None, types


def check_size(prim: str, shape: tuple[int, ...], dtype: DType) -> None:
    """RuntimeError for a result that no memory could hold, TypeError for sizes that are no ints."""
    for n in shape:
        if not isinstance(n, int):
            raise TypeError(f"{prim}: sizes must be ints, not {type(n).__name__}: got {list(shape)}")
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    if prod(shape) * dtype.itemsize >= 1 << 63:
        raise RuntimeError(
            f"Storage size calculation overflowed with sizes={list(shape)} ({prim} of {dtype.name}): no memory holds that many bytes"
        )


class TupleAval:
    """The avals of a primitive with several results (never seen by users; `pick` selects one)."""

    __slots__ = ("parts", "requires_grad", "shape", "dtype")

    def __init__(self, parts: tuple, requires_grad: bool) -> None:
        self.parts, self.requires_grad = parts, requires_grad
        self.shape, self.dtype = (), parts[0][1]

    def part(self, k: int) -> Aval:
        return aval(*self.parts[k])
