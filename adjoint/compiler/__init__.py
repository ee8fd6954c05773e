"""Whole calls as one look-up: `adjoint.compile`, under PyTorch's names.

Every operation is recorded, fused and compiled to machine code without this; what is left is Python, which runs each line
of a function to learn that it asks for the same operations again. A compiled function is asked once: its later calls, over
the same state, take one look-up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from adjoint.compiler.calls import Compiled
from adjoint.nn.module import Module

__all__ = [
    "Compiled",
    "OptimizedModule",
    "allow_in_graph",
    "assume_constant_result",
    "compile",
    "cudagraph_mark_step_begin",
    "disable",
    "is_compiling",
    "is_dynamo_compiling",
    "is_exporting",
    "list_backends",
    "reset",
]


class OptimizedModule(Module):
    """A module whose calls are remembered; parameters, modes and attributes are those of `_orig_mod`.

    >>> import adjoint as torch
    >>> model = torch.compile(torch.nn.Linear(2, 3))
    >>> model(torch.ones(1, 2)).shape, sum(p.numel() for p in model.parameters())
    (torch.Size([1, 3]), 9)
    """

    def __init__(self, module: Module, fullgraph: bool = False) -> None:
        super().__init__()
        self._orig_mod = module
        self._call = Compiled(module, fullgraph)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("training", "_orig_mod", "_call") or name in vars(self):
            super().__setattr__(name, value)
        else:
            setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_orig_mod"), name)


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: Any = None,
    disable: bool = False,
) -> Any:
    """A function or module whose calls are remembered as a whole: a known call is one look-up, and none of its lines run.

    The results are those of the function itself, whatever it does. A call is known if its arguments have the same shapes,
    dtypes and (where they are no tensors) values, and if everything the function can read (global names, variables of
    closures, attributes, contents of lists and dicts, options of modules) is the same object as before. Parameters, their
    gradients, buffers, optimizers with their counters and learning rates, and random generators may move on: a whole
    training step can be compiled, too. A function that reads values (`item`, `print`), counts in Python, or does anything
    else that cannot be done by a look-up runs as without `compile`; `f.reason` then says what it was.

    model: a function, a method, a module (the result is a module, too), or None to be used as a decorator with options.
    fullgraph: raise RuntimeError, with the reason, where a call cannot be remembered.
    disable: return `model` as it is.  dynamic, backend, mode, options: PyTorch's choices of compiler, without effect.

    TypeError if `model` cannot be called.

    >>> import adjoint as torch
    >>> w = torch.tensor([1., 2.], requires_grad=True)
    >>> @torch.compile
    ... def loss(x):
    ...     return ((x * w) ** 2).sum()
    >>> [loss(torch.tensor([float(k), 1.])).item() for k in range(5)]
    [4.0, 5.0, 8.0, 13.0, 20.0]
    >>> loss.replays > 0 or torch.is_eager()  # known calls
    True
    """
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, disable=disable)
    if not callable(model):
        raise TypeError(f"compile expects a function or a module, but got {type(model).__name__}; pass what should be called")
    if disable:
        return model
    if isinstance(model, OptimizedModule | Compiled):
        return model
    if isinstance(model, Module):
        return OptimizedModule(model, fullgraph)
    return Compiled(model, fullgraph)


def disable(fn: Callable | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """`fn` itself: what a compiled function calls is part of its call where it can be, and runs as it is where it cannot.

    >>> import adjoint as torch
    >>> torch.compiler.disable(lambda x: x + 1)(1)
    2
    """
    return fn if fn is not None else lambda f: f


def allow_in_graph(fn: Any) -> Any:
    """`fn` itself, or the list of functions: what a compiled function calls is part of its call where it can be.

    TypeError for what cannot be called.

    >>> import adjoint as torch
    >>> torch.compiler.allow_in_graph(abs) is abs
    True
    """
    for f in fn if isinstance(fn, list | tuple) else [fn]:
        if not callable(f):
            raise TypeError(f"torch.compiler.allow_in_graph(fn) expects a function or several, but got {type(f).__name__}")
    return fn


def assume_constant_result(fn: Callable) -> Callable:
    """`fn` itself: that a result stays the same is seen, not assumed.

    >>> import adjoint as torch
    >>> torch.compiler.assume_constant_result(abs)(-2)
    2
    """
    return fn


def cudagraph_mark_step_begin() -> None:
    """Nothing to mark: there are no CUDA graphs.

    >>> import adjoint as torch
    >>> torch.compiler.cudagraph_mark_step_begin()
    """


def list_backends(exclude_tags: Any = ()) -> list[str]:
    """No names: `backend` is accepted by `compile` and chooses nothing.

    >>> import adjoint as torch
    >>> torch.compiler.list_backends()
    []
    """
    return []


def is_compiling() -> bool:
    """False: functions run as they are, also while their calls are learnt.

    >>> import adjoint as torch
    >>> torch.compiler.is_compiling()
    False
    """
    return False


def is_dynamo_compiling() -> bool:
    """False, as `is_compiling`."""
    return False


def is_exporting() -> bool:
    """False: there is nothing that exports."""
    return False


def reset() -> None:
    """Forget what is known of the calls of all compiled functions.

    >>> import adjoint as torch
    >>> torch.compiler.reset()
    """
    for known in list(Compiled.living):
        known.forget()
