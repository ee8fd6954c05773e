"""`torch.overrides`: classes that would stand between a call and what it computes. None does here: `__torch_function__` is not asked.

>>> import adjoint as torch
>>> from adjoint.overrides import has_torch_function, is_tensor_like
>>> has_torch_function((torch.ones(1),)), is_tensor_like(torch.ones(1)), is_tensor_like(1.0)
(False, True, False)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from adjoint.trace.handle import Tensor

__all__ = ["TorchFunctionMode", "has_torch_function", "is_tensor_like"]


class TorchFunctionMode:
    """What PyTorch's modes are subclasses of. They can be defined and made; RuntimeError where one is entered."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What a subclass defines."""
        raise NotImplementedError

    def __enter__(self) -> NoReturn:
        raise RuntimeError(f"{type(self).__name__}: modes that see every call are not here; wrap the functions that are meant")

    def __exit__(self, *_: Any) -> None:
        pass


def has_torch_function(relevant_args: Iterable[Any]) -> bool:
    """False."""
    return False


has_torch_function_unary = has_torch_function_variadic = has_torch_function


def is_tensor_like(inp: Any) -> bool:
    """Whether it is a tensor."""
    return isinstance(inp, Tensor)
