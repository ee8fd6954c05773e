"""Public functions so short that the wrapper that explains failures would be felt: they name `out` themselves.

Each has a fast path for the usual operands, and leaves all else to the function of `ops` that it stands for, which is
also the method of `Tensor`. Those are taken where functions of this package call each other: they have no `out`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.dtypes import DType
from adjoint.ops import elementwise, products, reduce
from adjoint.ops.descriptions import describe
from adjoint.ops.elementwise import Number
from adjoint.ops.results import into
from adjoint.trace import autocast, recorder
from adjoint.trace.handle import Parameter, Tensor, pending
from adjoint.trace.recorder import bind_kept, is_too_large, local

TENSORS = frozenset((Tensor, Parameter))  # of another class a tensor takes the longer way
WITHOUT_OUT = frozenset("relu isnan isinf".split())


def _unary(prim: str) -> Callable[..., Tensor]:
    general = elementwise.functions[prim]

    def apply(input: Tensor, *, out: Tensor | None = None) -> Tensor:
        if out is None and isinstance(input, Tensor):
            return recorder._unary(prim, input)
        return into(general, prim, out, (input,), {})

    return apply


def _binary(prim: str) -> Callable[..., Tensor]:
    general, method = elementwise.functions[prim], elementwise.make_binary(prim)

    def apply(input: Any, other: Any, *, out: Tensor | None = None) -> Tensor:
        if out is None:
            if type(input) not in TENSORS:
                return general(input, other)
            kind = type(other)
            if kind in TENSORS:
                return recorder._two(prim, input, other)
            tr = local.trace
            if (kind is not float and kind is not int) or tr.static:
                return method(input, other)
            tid = tr.id
            step = tr.node.children.get((prim, input._slot if input._tid == tid else bind_kept(tr, input), kind))
            if step is None or tr.id != tid or (kind is int and is_too_large(other)):
                return method(input, other)
            tr.node = step  # as in `make_binary`: no calls in these lines
            tr.scalars += (other,)
            result = pending(tid, step.slot, step.aval)
            if tr.id != tid:  # a finalizer has ended the trace
                return method(input, other)
            tr.handles.append(result)
            return result
        return into(general, prim, out, (input, other), {})

    return apply


functions = {name: _unary(name) for name in elementwise.UNARY if name not in WITHOUT_OUT}
functions.update({name: _binary(name) for name in elementwise.BINARY})
describe(functions)
functions.update({name: elementwise.functions[name] for name in WITHOUT_OUT})

_add, _sub, _div = (elementwise.binary_function(n) for n in ("add", "sub", "div"))


def add(input: Any, other: Any, *, alpha: Number = 1, out: Tensor | None = None) -> Tensor:
    if out is None:
        if type(alpha) is int and alpha == 1:
            if type(input) in TENSORS and type(other) in TENSORS:
                return recorder._two("add", input, other)
            return _add(input, other)
        return elementwise.add(input, other, alpha=alpha)
    return into(elementwise.add, "add", out, (input, other), {"alpha": alpha})


def sub(input: Any, other: Any, *, alpha: Number = 1, out: Tensor | None = None) -> Tensor:
    if out is None:
        if type(alpha) is int and alpha == 1:
            if type(input) in TENSORS and type(other) in TENSORS:
                return recorder._two("sub", input, other)
            return _sub(input, other)
        return elementwise.sub(input, other, alpha=alpha)
    return into(elementwise.sub, "sub", out, (input, other), {"alpha": alpha})


def div(input: Any, other: Any, *, rounding_mode: str | None = None, out: Tensor | None = None) -> Tensor:
    if out is None:
        if rounding_mode is None:
            if type(input) in TENSORS and type(other) in TENSORS:
                return recorder._two("div", input, other)
            return _div(input, other)
        return elementwise.div(input, other, rounding_mode=rounding_mode)
    return into(elementwise.div, "div", out, (input, other), {"rounding_mode": rounding_mode})


def pow(input: Any, exponent: Any, *, out: Tensor | None = None) -> Tensor:
    if out is None:
        if type(exponent) is int and isinstance(input, Tensor) and input._aval.dtype.category >= 2 and -64 <= exponent <= 64:
            return recorder._one("integer_pow", input, exponent)
        if type(exponent) is float and isinstance(input, Tensor) and input._aval.dtype.category >= 2:
            if -64.0 <= exponent <= 64.0 and exponent.is_integer():
                return recorder._one("integer_pow", input, int(exponent))
        return elementwise.pow(input, exponent)
    return into(elementwise.pow, "pow", out, (input, exponent), {})


def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    if out is None:
        if type(input) in TENSORS and input._aval.dtype.category >= 2:
            return recorder._one("integer_pow", input, 2)
        return elementwise.square(input)
    return into(elementwise.square, "square", out, (input,), {})


def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Tensor | None = None) -> Any:
    if out is None:
        if type(input) in TENSORS and type(other) in TENSORS:
            return recorder.record("where", (condition, input, other))
        return elementwise.where(condition, input, other)
    if input is None and other is None:
        raise TypeError("where(): takes out with condition, input and other, not with the condition alone")
    return into(elementwise.where, "where", out, (condition, input, other), {})


def sum(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None, axis: Any = None, keepdims: bool | None = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    if out is not None:
        return into(reduce.sum, "sum", out, (input, dim, keepdim), {"dtype": dtype, "axis": axis, "keepdims": keepdims})
    try:
        a = input._aval
    except AttributeError:
        return reduce.sum(input, dim, keepdim)  # which says what is wrong
    if axis is None and dtype is None and not keepdim and not keepdims and a.dtype.category >= 2:
        if dim is None:
            return recorder._one("sum", input, reduce.ALL_AXES[len(a.shape)])
        if type(dim) is int and -len(a.shape) <= dim < len(a.shape):
            return recorder._one("sum", input, (dim if dim >= 0 else dim + len(a.shape),))
    return reduce.sum(input, dim, keepdim, dtype=dtype, axis=axis, keepdims=keepdims)


def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    if out is None:
        try:
            matrices = len(input._aval.shape) == 2 and len(other._aval.shape) == 2
        except AttributeError:
            matrices = False  # and an error
        if matrices and not autocast.used:
            return recorder._two("matmul", input, other)
        return products.matmul(input, other)
    return into(products.matmul, "matmul", out, (input, other), {})


for _function in (add, sub, div, pow, square, where, sum, matmul):
    _module = reduce if _function is sum else products if _function is matmul else elementwise
    _function.__doc__ = getattr(_module, _function.__name__).__doc__
