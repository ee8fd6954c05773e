"""`torch.fx`: the decorator that programs put on functions for PyTorch's tracer. Every operation is recorded already.

>>> import adjoint as torch
>>> @torch.fx.wrap
... def half(x):
...     return x / 2
>>> half(torch.ones(1))
tensor([0.5000])
"""

from __future__ import annotations

from typing import TypeVar

from adjoint.nowhere import refusing

__all__ = ["wrap"]

T = TypeVar("T")


def wrap(fn_or_name: T) -> T:
    """The function itself, or the name. RuntimeError for what is neither, as in PyTorch.

    >>> import adjoint as torch
    >>> torch.fx.wrap("len")
    'len'
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError(f"torch.fx.wrap expects a global function or its name, but got {type(fn_or_name).__name__}")
    return fn_or_name


def _no_graph(name: str) -> RuntimeError:
    return RuntimeError(
        f"torch.fx.{name}: there is no graph of Python code to be changed, every operation is recorded as it runs; adjoint.viz draws what was"
    )


__getattr__ = refusing("torch.fx", "Graph GraphModule Interpreter Node Proxy Tracer Transformer", _no_graph)
