"""`torch.jit`: decorators of TorchScript, which leave what they decorate as it is.

Every operation is recorded and compiled already, in a scripted function as in any other; there is no TorchScript, so nothing is
traced, frozen, saved or loaded.

>>> import adjoint as torch
>>> @torch.jit.script
... def softplus(x: torch.Tensor) -> torch.Tensor:
...     return torch.log1p(torch.exp(x))
>>> softplus(torch.zeros(1))
tensor([0.6931])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

__all__ = ["Final", "annotate", "export", "ignore", "is_scripting", "is_tracing", "script", "script_if_tracing", "script_method", "unused"]

T = TypeVar("T")


def script(obj: T, **_named: Any) -> T:
    """The function, module or class itself; PyTorch's further arguments are accepted. TypeError for what is none of them.

    >>> import adjoint as torch
    >>> layer = torch.nn.Linear(2, 3)
    >>> torch.jit.script(layer) is layer
    True
    """
    if not callable(obj):
        raise TypeError(f"torch.jit.script(obj) expects a function, a module or a class, but got {type(obj).__name__}")
    return obj


def script_if_tracing(fn: T) -> T:
    """The function itself."""
    return script(fn)


def script_method(fn: T) -> T:
    """The method itself."""
    return script(fn)


def export(fn: T) -> T:
    """The function itself."""
    return script(fn)


def unused(fn: T) -> T:
    """The function itself."""
    return script(fn)


def ignore(drop: Any = False, **_named: Any) -> Any:
    """The function itself; a decorator that gives it, if called with anything else, as in `@torch.jit.ignore(drop=True)`.

    >>> import adjoint as torch
    >>> @torch.jit.ignore(drop=True)
    ... def three():
    ...     return 3
    >>> three()
    3
    """
    if callable(drop):
        return drop
    decorate: Callable[[T], T] = script
    return decorate


def is_scripting() -> bool:
    """False: there is no TorchScript."""
    return False


def is_tracing() -> bool:
    """False: `torch.jit.trace` is not here."""
    return False


def annotate(the_type: Any, the_value: T) -> T:
    """The value; the type is for readers."""
    return the_value


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}: there is no TorchScript; every operation is recorded and compiled already, "
        "so leave the call out. torch.save and torch.load keep state dicts"
    )
