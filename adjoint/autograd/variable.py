"""`Variable`, the name that tensors which require grad once had."""

from __future__ import annotations

from typing import Any

from adjoint.ops.create import zeros
from adjoint.trace.handle import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, other: object) -> bool:
        return isinstance(other, Tensor)


class Variable(metaclass=_VariableMeta):
    """`Variable(data, requires_grad=False)` is a tensor with the memory of the tensor `data` and no past; every tensor is a Variable.

    TypeError for what is no tensor.

    >>> import adjoint as torch
    >>> torch.autograd.Variable(torch.ones(2), requires_grad=True)
    tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False) -> Any:
        if data is None:
            data = zeros((0,))
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}: {data!r:.60}; torch.as_tensor() makes one")
        return data.detach().requires_grad_(requires_grad)
