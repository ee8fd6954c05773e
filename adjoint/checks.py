"""Conditions that programs demand by PyTorch's names, errors that are never raised here, and sizes that are no numbers yet, of
which there are none.

>>> import adjoint as torch
>>> torch._check(torch.ones(2).shape[0] == 2, lambda: "two elements are expected")
>>> isinstance(torch.ones(2).shape[0], (int, torch.SymInt)), torch.sym_max(2, 3)
(True, 3)
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from adjoint.nowhere import refusing
from adjoint.trace.handle import Tensor

__all__ = ["AcceleratorError", "OutOfMemoryError", "sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sum"]


class AcceleratorError(RuntimeError):
    """What a device other than the CPU reports."""


class OutOfMemoryError(RuntimeError):
    """A device other than the CPU has no memory left. What the CPU lacks is a MemoryError."""


def _assert(condition: Any, message: str) -> None:
    """AssertionError with this message unless the condition is true; PyTorch's `assert` for code that it traces.

    >>> import adjoint as torch
    >>> torch._assert(torch.ones(2).shape[0] == 2, "two elements are expected")
    """
    if not condition:
        raise AssertionError(message)


def _assert_async(condition: Tensor, message: str = "Expected Tensor with single nonzero value, but got zero") -> None:
    """RuntimeError unless the one element of a tensor is not zero.

    >>> import adjoint as torch
    >>> torch._assert_async(torch.tensor(1.0) > 0)
    """
    if not bool(condition):
        raise RuntimeError(message)


def _checking(error: type[Exception], name: str) -> Callable[..., None]:
    def check(cond: Any, message: Callable[[], Any] | None = None) -> None:
        if not builtins.isinstance(cond, bool):
            raise TypeError(f"torch.{name}(cond, message): cond must be a bool, but got {type(cond)}; for tensors, ask cond.all().item()")
        if not cond:
            raise error(str(message()) if message is not None else "Expected cond to be True, but got False")

    check.__name__ = name
    check.__doc__ = f"{error.__name__} with what `message()` gives unless the condition is True."
    return check


_check = _checking(RuntimeError, "_check")
_check_index = _checking(IndexError, "_check_index")
_check_value = _checking(ValueError, "_check_value")
_check_type = _checking(TypeError, "_check_type")
_check_not_implemented = _checking(NotImplementedError, "_check_not_implemented")


def _check_with(error_type: type[Exception], cond: Any, message: Callable[[], Any] | None = None) -> None:
    """This error with what `message()` gives unless the condition is True."""
    _checking(error_type, "_check_with")(cond, message)


def _check_is_size(i: Any, message: Callable[[], Any] | None = None, *, max: int | None = None) -> None:
    """RuntimeError unless a number is at least 0 (and at most `max`)."""
    _check(builtins.bool(i >= 0), message)
    if max is not None:
        _check(builtins.bool(i <= max), message)


def _check_tensor_all(cond: Tensor, message: Callable[[], Any] | None = None) -> None:
    """RuntimeError unless all elements are true."""
    _check(builtins.bool(cond.all()), message)


def sym_int(a: Any) -> int:
    """The number towards zero.

    >>> import adjoint as torch
    >>> torch.sym_int(2.5)
    2
    """
    return builtins.int(a)


def sym_float(a: Any) -> float:
    """The number with a point.

    >>> import adjoint as torch
    >>> torch.sym_float(2)
    2.0
    """
    return builtins.float(a)


def sym_not(a: Any) -> bool:
    """Whether it is not.

    >>> import adjoint as torch
    >>> torch.sym_not(True)
    False
    """
    return not a


def sym_max(a: Any, b: Any) -> Any:
    """The larger number; with a point, if one has it.

    >>> import adjoint as torch
    >>> torch.sym_max(2, 3.0)
    3.0
    """
    return builtins.max(builtins.float(a), builtins.float(b)) if builtins.float in (type(a), type(b)) else builtins.max(a, b)


def sym_min(a: Any, b: Any) -> Any:
    """The smaller number; with a point, if one has it.

    >>> import adjoint as torch
    >>> torch.sym_min(2, 3)
    2
    """
    return builtins.min(builtins.float(a), builtins.float(b)) if builtins.float in (type(a), type(b)) else builtins.min(a, b)


def sym_ite(b: Any, t: Any, f: Any) -> Any:
    """`t if b else f`.

    >>> import adjoint as torch
    >>> torch.sym_ite(True, 1, 2)
    1
    """
    return t if b else f


def sym_sum(args: Any) -> Any:
    """The sum of numbers.

    >>> import adjoint as torch
    >>> torch.sym_sum([1, 2])
    3
    """
    return builtins.sum(args)


def _no_device(name: str) -> RuntimeError:
    return RuntimeError(f"torch.{name}: there is no device whose work goes on beside the program; Adjoint computes on the CPU")


def _known_sizes(name: str) -> RuntimeError:
    return RuntimeError(f"torch.{name}: sizes and numbers are always known here; use int, float or bool")


_devices = refusing("torch", "Event Stream", _no_device)
_sizes = refusing("torch", "SymBool SymFloat SymInt", _known_sizes)


def __getattr__(name: str) -> Any:
    if name in ("Event", "Stream"):
        return _devices(name)
    return _sizes(name)
