"""`Variable`, of programs from before 2018, when a tensor had to be wrapped to be differentiated. Every tensor is one."""

from __future__ import annotations

from typing import Any

from adjoint.ops.create import zeros
from adjoint.ops.shape import detach
from adjoint.trace.handle import Tensor
from adjoint.trace.state import warn


class _EveryTensor(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_EveryTensor):
    """A tensor on the memory of `data`, without its history.

    Any shape and dtype, by default nothing; TypeError for what is no tensor, RuntimeError for integers that are to require grad. `volatile` was
    replaced by `no_grad()` and does nothing but warn.

    >>> import adjoint as torch
    >>> from adjoint.autograd import Variable
    >>> x = Variable(torch.ones(2), requires_grad=True)
    >>> (3 * x).sum().backward()
    >>> x.grad, isinstance(x, Variable)
    (tensor([3., 3.]), True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False, volatile: Any = None) -> Tensor:  # type: ignore[misc]
        if data is None:
            data = zeros((0,))
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}: {data!r:.60}; torch.tensor() makes one")
        if volatile is not None:
            warn("volatile was removed and now has no effect. Use `with torch.no_grad():` instead.")
        out = detach(data)
        return out.requires_grad_() if requires_grad else out
