"""Methods that change a tensor: they compute the new value with the plain function and assign it (`in_place`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops import (
    conversion,
    elementwise,
    index,
    numeric,
    rearrange,
)
from adjoint.ops.elementwise import cast, functions
from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import bind, local, realize, record_full, refresh_special
from adjoint.trace.views import advance, assign, check_in_place, overwrite, point


def in_place(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """The in-place method of a function: compute, check that the result fits, assign."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_in_place(self)
        return assign(self, fitting(self, function(self, *args, **kwargs), name))

    method.__name__ = name
    method.__doc__ = f"In-place version of `{name.rstrip('_')}`; returns the tensor itself."
    return method


def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """In-place version of `float_power`, for tensors of float64 and complex128, which are its results; RuntimeError for others."""
    value = numeric.float_power(self, exponent)
    if value._aval.dtype is not self._aval.dtype:
        needed = _kind(value._aval.dtype)
        raise RuntimeError(
            f"the base given to float_power_ has dtype {_kind(self._aval.dtype)} but the operation's result requires dtype {needed}: "
            "use x = x.float_power(exponent), or pow_"
        )
    return in_place(lambda t, value: value, "float_power_")(self, value)


def abs_in_place(self: Tensor) -> Tensor:
    """`abs` for its in-place forms, which complex tensors have not: the result is real."""
    if self._aval.dtype.is_complex:
        raise RuntimeError("In-place abs is not supported for complex tensors: use x = x.abs()")
    return functions["abs"](self)


def fitting(t: Tensor, value: Tensor, name: str) -> Tensor:
    a, b = t._aval, value._aval
    if a.shape != b.shape:
        raise RuntimeError(
            f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(b.shape)}: {name} cannot change "
            "the shape of the tensor it writes to"
        )
    if a.dtype is not b.dtype:
        if not dtypes.can_cast(b.dtype, a.dtype):
            raise RuntimeError(f"result type {_kind(b.dtype)} can't be cast to the desired output type {_kind(a.dtype)}")
        return cast(value, a.dtype)
    return value


def _kind(d: DType) -> str:
    return dtypes.LEGACY[d]


def augmented(name: str, function: Callable[..., Any], prim: str = "") -> Callable[[Tensor, Any], Any]:
    """`a += b` and its relatives. With the name of the primitive behind it, an update without gradient that is known
    at this place of the trace costs one look-up."""

    def method(self: Tensor, other: Any) -> Any:
        tr = local.trace
        if tr.grad:
            check_in_place(self)
        elif prim and type(other) is Tensor:
            tid = tr.id
            key = (
                prim,
                self._slot if self._tid == tid else bind(tr, self),
                other._slot if other._tid == tid else bind(tr, other),
            )
            if tr.id == tid and advance(tr, self, key):
                return self
        value = function(self, other)
        if value is NotImplemented:
            return value
        a, b = self._aval, value._aval
        if a is not b and (a.dtype is not b.dtype or a.shape != b.shape):
            value = fitting(self, value, name)
        if self._base is None and (self._leaf or self._aval is value._aval):  # nothing of `assign` matters
            point(self, value)
            return self
        return assign(self, value)

    return method


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.ones(2).zero_()
    tensor([0., 0.])
    """
    tr = local.trace
    a = self._aval
    if tr.grad:
        check_in_place(self)
    elif not tr.static and advance(tr, self, ("full", int, (a.key_shape, a.dtype))):
        tr.scalars.append(0)
        return self
    value = record_full(0, a.key_shape, a.dtype)
    if self._base is None and (self._leaf or a is value._aval):
        point(self, value)
        return self
    return assign(self, value)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to `value`; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.ones(2).fill_(3)
    tensor([3., 3.])
    """
    check_in_place(self)
    return assign(self, index.fill_value(self, value))


def copy_(self: Tensor, src: Tensor | float, non_blocking: bool = False) -> Tensor:
    """Take the values of `src`, broadcast and converted; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.zeros(2).copy_(torch.tensor(5))
    tensor([5., 5.])
    """
    check_in_place(self)
    if isinstance(src, (int, float)):
        return fill_(self, src)
    return overwrite(self, index.fit(src, tuple(self._aval.shape), self._aval.dtype))


def detach_(self: Tensor) -> Tensor:
    """Cut the tensor off from what it was computed from; returns the tensor itself.

    >>> import adjoint as torch
    >>> x = torch.ones(2, requires_grad=True) * 2
    >>> x.detach_().requires_grad
    False
    """
    if self._base is not None and self._aval.requires_grad:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    buffer = realize(self)
    self._data, self._hist, self._tid = buffer, None, 0
    self._aval = aval(self._aval.shape, self._aval.dtype, False)
    refresh_special(self)
    return self


def fill_diagonal_(self: Tensor, value: float) -> Tensor:
    """Set the diagonal of a matrix to `value`; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.zeros(2, 2).fill_diagonal_(1)
    tensor([[1., 0.],
            [0., 1.]])
    """
    value = conversion.stored("fill_diagonal_()", value, self._aval.dtype)
    m, n = self._aval.shape[-2:]
    on = rearrange.triangle_mask(m, n, 0, True) & rearrange.triangle_mask(m, n, 0, False)
    return in_place(lambda t: elementwise.where(on, value, t), "fill_diagonal_")(self)


def writer_of(view: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any], None]:
    """How a property that is a view of the tensor is set."""

    def write(self: Tensor, value: Any) -> None:
        copy_(view(self), value)

    return write
