"""Copies, pickles and constructors of tensors and parameters."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops import (
    create,
    storage,
)
from adjoint.trace import recorder
from adjoint.trace.aval import Size
from adjoint.trace.handle import Parameter, Tensor, blank
from adjoint.trace.recorder import local, realize
from adjoint.trace.views import is_leaf


def shallow_copy(self: Tensor) -> Tensor:
    """`copy.copy`: another tensor on the same memory, with the attributes that the user has set."""
    out = blank(type(self))
    adopt(out, self.detach(), self._aval.requires_grad)
    out.__dict__.update(own_attributes(self))
    return out


def own_attributes(t: Tensor) -> dict[str, Any]:
    return {name: value for name, value in vars(t).items() if not hasattr(Tensor, name)}


def deepcopy(self: Tensor, memo: dict) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if not is_leaf(self):
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment. "
            "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage."
        )
    a = self._aval
    out = recorder.tensor_from_array(recorder.array_of(self), a.requires_grad, a.dtype)
    if type(self) is not Tensor:
        out.__class__ = type(self)
    if self._grad is not None and not isinstance(self, Parameter):  # as in PyTorch: a copied module begins without gradients
        out._grad = self._grad.clone().detach()
    memo[id(self)] = out
    out.__dict__.update(copy.deepcopy(own_attributes(self), memo))
    return out


def rebuild(cls: type, array: np.ndarray, requires_grad: bool, dtype: DType | None = None) -> Tensor:
    """Unpickling: from memory as `array`, with its dtype where the array's own does not tell."""
    kind = dtypes.from_numpy(array.dtype) if dtype is None else dtype
    out = recorder.tensor_from_buffer(recorder.Buffer.from_array(array), array.shape, kind, requires_grad)
    out.__class__ = cls
    return out


def reduce_tensor(self: Tensor, protocol: int) -> tuple:
    a = self._aval
    return rebuild, (type(self), realize(self).array(a.dtype.np, a.shape).copy(), a.requires_grad, a.dtype)


def init_tensor(self: Tensor, *args: Any) -> None:
    """The legacy constructor: `Tensor([1, 2])` from data, `Tensor(2, 3)` by sizes."""
    if args and (all(isinstance(a, int) for a in args) or isinstance(args[0], Size)):
        source = create.zeros(*args)
    else:
        source = create.tensor(args[0] if args else [], dtype=local.trace.default_dtype)
    adopt(self, source, False)


def init_parameter(self: Tensor, data: Any = None, requires_grad: bool = True) -> None:
    """A trainable tensor: a leaf with the value of `data`."""
    source = create.zeros(0) if data is None else data
    if not isinstance(source, Tensor):
        source = create.tensor(source)
    adopt(self, source, requires_grad)


def adopt(self: Tensor, source: Tensor, requires_grad: bool) -> None:
    """Become a leaf that shares the memory of `source`."""
    if requires_grad and source._aval.dtype.category < 2:
        raise RuntimeError(
            f"Only Tensors of floating point and complex dtype can require gradients (got {source._aval.dtype.name})"
        )
    self._tid, self._slot, self._data, self._special = 0, -1, None, False
    self._base, self._chain, self._views, self._version = None, (), None, 0
    self._leaf = requires_grad
    self._grad = None
    storage.share_memory(self, source, requires_grad)
