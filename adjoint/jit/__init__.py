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

import builtins
import types
import typing
from collections.abc import Callable
from typing import Any, Final, TypeVar

from adjoint.nowhere import refusing

__all__ = [
    "Error", "Final", "TracerWarning", "annotate", "export", "ignore", "interface", "is_scripting", "is_tracing", "isinstance", "script",
    "script_if_tracing", "script_method", "unused",
]  # fmt: skip

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


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether an object is of a type, which may be a container's with the types of its elements.

    >>> from typing import Dict, List
    >>> import adjoint as torch
    >>> torch.jit.isinstance([1, 2], List[int]), torch.jit.isinstance({"a": 1}, Dict[str, float])
    (True, False)
    """
    origin, inner = typing.get_origin(target_type), typing.get_args(target_type)
    if origin in (typing.Union, types.UnionType):
        return any(isinstance(obj, t) for t in inner)
    if origin is None or not inner:
        return target_type is Any or builtins.isinstance(obj, type(None) if target_type is None else origin or target_type)
    if not builtins.isinstance(obj, origin):
        return False
    if origin is dict:
        return all(isinstance(k, inner[0]) and isinstance(v, inner[1]) for k, v in obj.items())
    if origin is tuple and inner[-1] is not ...:
        return len(obj) == len(inner) and all(map(isinstance, obj, inner))
    return all(isinstance(x, inner[0]) for x in obj)


def interface(obj: T) -> T:
    """The class itself."""
    return script(obj)


class TracerWarning(Warning):
    """What PyTorch's tracer warns of. Never here."""


class Error(RuntimeError):
    """What TorchScript raises. Never here."""


def _no_script(name: str) -> RuntimeError:
    return RuntimeError(f"torch.jit.{name}: {_WHY}")


_WHY = (
    "there is no TorchScript; every operation is recorded and compiled already, so leave the call out. torch.save and torch.load keep "
    "state dicts"
)
_refused = refusing("torch.jit", "RecursiveScriptModule ScriptFunction ScriptModule TopLevelTracedModule", _no_script)


def __getattr__(name: str) -> Any:
    try:
        return _refused(name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}" + (f": {_WHY}" if name[:1] != "_" else "")) from None
