"""Gradient modes: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`, usable as contexts and decorators."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from adjoint.trace import recorder
from adjoint.trace.recorder import local


class _Mode:
    """A context that sets gradient mode and restores what was there, also around every call of a function."""

    enabled = True
    _before: Any = None  # the mode outside, and what was here when this context was entered before it was left

    def __enter__(self) -> None:
        tr = local.trace
        self._before = (tr.grad, self._before)
        if tr.grad is not self.enabled:
            tr.set_mode(self.enabled)

    def __exit__(self, kind: Any = None, value: Any = None, traceback: Any = None) -> None:
        tr = local.trace
        before, outer = self._before
        try:
            tr.set_mode(before)
        except BaseException:  # a signal's
            tr.set_mode(before)
            raise
        finally:
            self._before = outer

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                inner = function(*args, **kwargs)
                while True:
                    try:
                        value = local.trace.in_mode(self.wanted(), next, inner)
                    except StopIteration as stop:
                        return stop.value
                    yield value

            return generator

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return local.trace.in_mode(self.wanted(), function, *args, **kwargs)

        return call

    def wanted(self) -> bool:
        """The mode in which a decorated function runs."""
        return self.enabled


class no_grad(_Mode):
    """Operations inside are not recorded for differentiation.

    >>> import adjoint as torch
    >>> x = torch.ones(2, requires_grad=True)
    >>> with torch.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    enabled = False

    def __new__(cls, function: Callable | None = None) -> Any:
        if function is not None:  # used as @no_grad without parentheses
            return cls()(function)
        return object.__new__(cls)


class enable_grad(no_grad):
    """Recording again inside a `no_grad`."""

    enabled = True


class _Inference(threading.local):
    """Whether this thread is in `inference_mode`: only for those who ask, as nothing else depends on it."""

    enabled = False


_inference = _Inference()


class inference_mode(no_grad):
    """Like `no_grad`; `mode=False` changes nothing but what `is_inference_mode_enabled` says."""

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):
            return cls()(mode)
        return object.__new__(cls)

    def __init__(self, mode: bool = True) -> None:
        if not mode:
            self.enabled = local.trace.grad
        self._mode = bool(mode)
        self._outside: list[bool] = []

    def __enter__(self) -> None:
        super().__enter__()
        self._outside.append(_inference.enabled)
        _inference.enabled = self._mode

    def __exit__(self, kind: Any = None, value: Any = None, traceback: Any = None) -> None:
        _inference.enabled = self._outside.pop()
        super().__exit__(kind, value, traceback)

    def __call__(self, function: Callable) -> Callable:
        return super().__call__(_noted(function, self._mode))

    def wanted(self) -> bool:
        return self.enabled if self._mode else local.trace.grad


def _noted(function: Callable, mode: bool) -> Callable:
    """A function that runs with `_inference.enabled` as `mode`; of a generator every step does."""

    def run(step: Callable, *args: Any, **kwargs: Any) -> Any:
        outside, _inference.enabled = _inference.enabled, mode
        try:
            return step(*args, **kwargs)
        finally:
            _inference.enabled = outside

    if not inspect.isgeneratorfunction(function):
        return functools.wraps(function)(lambda *args, **kwargs: run(function, *args, **kwargs))

    @functools.wraps(function)
    def generator(*args: Any, **kwargs: Any) -> Any:
        inner = function(*args, **kwargs)
        while True:
            try:
                value = run(next, inner)
            except StopIteration as stop:
                return stop.value
            yield value

    return generator


class set_grad_enabled(_Mode):
    """Sets the mode at once, and restores it if used as a context."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {type(mode).__name__}")
        self.enabled = mode
        self._outside = local.trace.grad
        local.trace.set_mode(self.enabled)

    def __enter__(self) -> None:
        self._before = (self._outside, self._before)
        local.trace.set_mode(self.enabled)

    def __call__(self, function: Callable) -> Callable:
        local.trace.set_mode(self._outside)
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether operations are recorded for differentiation.

    >>> import adjoint as torch
    >>> with torch.no_grad():
    ...     torch.is_grad_enabled()
    False
    """
    return local.trace.grad


def is_inference_mode_enabled() -> bool:
    """Whether this is inside of `inference_mode`.

    >>> import adjoint as torch
    >>> with torch.inference_mode():
    ...     torch.is_inference_mode_enabled()
    True
    """
    return _inference.enabled


class eager:
    """Reference mode inside: every operation at once, by NumPy.

    >>> import adjoint as torch
    >>> with torch.eager():
    ...     torch.ones(2) + 1
    tensor([2., 2.])
    """

    def __init__(self, mode: bool = True) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        tr = local.trace
        self._before = tr.eager
        self._switch(self.mode)

    def __exit__(self, *exc: Any) -> None:
        self._switch(self._before)

    def _switch(self, mode: bool) -> None:
        tr = local.trace
        if tr.eager is not mode:
            recorder.flush(tr)
            tr.eager = mode
            tr.node = tr.root()


def is_eager() -> bool:
    """Whether operations run at once through NumPy (reference mode).

    >>> import adjoint as torch
    >>> with torch.eager():
    ...     torch.is_eager()
    True
    """
    return local.trace.eager
