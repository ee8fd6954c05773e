"""Python functions of single elements: `apply_`, `map_`, `map2_`. They read every element and write it back; slow, as in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from adjoint.ops.shape import expand
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import array_of, tensor_from_array
from adjoint.trace.views import assign, check_in_place


def apply_(self: Tensor, callable: Callable) -> Tensor:
    """Replace each element x by `callable(x)`; returns the tensor itself. RuntimeError for a tensor that requires grad.

    >>> import adjoint as torch
    >>> torch.tensor([1., 2.]).apply_(lambda x: x * x)
    tensor([1., 4.])
    """
    return _written("apply_", self, callable)


def map_(self: Tensor, tensor: Tensor, callable: Callable) -> Tensor:
    """Replace each element x by `callable(x, y)`, with y of `tensor`, which is broadcast; returns the tensor itself.

    RuntimeError for tensors that require grad, for another dtype, and for shapes that do not broadcast to this one.

    >>> import adjoint as torch
    >>> torch.tensor([1., 2.]).map_(torch.tensor([3., 4.]), lambda x, y: x * y)
    tensor([3., 8.])
    """
    return _written("map_", self, callable, tensor)


def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Callable) -> Tensor:
    """`map_` with two further tensors: `callable(element, of x, of y)`.

    >>> import adjoint as torch
    >>> torch.tensor([1., 2.]).map2_(torch.tensor([3., 4.]), torch.tensor([5.]), lambda a, b, c: a * b + c)
    tensor([ 8., 13.])
    """
    return _written("map2_", self, callable, x, y)


def _written(name: str, self: Tensor, function: Callable, *others: Tensor) -> Tensor:
    for t in (self, *others):
        if t._aval.requires_grad:
            raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
        if t._aval.dtype is not self._aval.dtype:
            raise RuntimeError(f"{name}(): the tensors have dtypes {self._aval.dtype.name} and {t._aval.dtype.name}; convert one with .to()")
    if not callable(function):
        raise TypeError(f"{name}(): '{type(function).__name__}' object is not callable; give a function of {1 + len(others)} numbers")
    check_in_place(self)
    shape, dtype = tuple(self._aval.shape), self._aval.dtype
    numbers = [array_of(t).reshape(-1).tolist() for t in (self, *(expand(t, shape) for t in others))]
    values = np.array([function(*row) for row in zip(*numbers, strict=True)], dtype=array_of(self).dtype)
    return assign(self, tensor_from_array(values.reshape(shape)).to(dtype))  # type: ignore[attr-defined]
