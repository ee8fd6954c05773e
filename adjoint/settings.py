"""Settings of PyTorch that programs make, and what they mean here.

Most only store: results are the same at every run and for any number of threads, and products are computed in the dtype of
their operands. What a program sets it can ask for, wrong values are refused as in PyTorch, and nothing else depends on it.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from adjoint.methods import create_device, device_now, type_of
from adjoint.ops.create import check_device
from adjoint.runtime import pool
from adjoint.trace.handle import Tensor

_DEBUG_MODES = ("default", "warn", "error")
_PRECISIONS = ("highest", "high", "medium")


class _Stored:
    """What was set."""

    debug_mode = 0  # place in _DEBUG_MODES
    precision = "highest"
    warn_always = False
    interop_threads = 0  # 0: as many as threads share the work of a program


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Stored only: every operation is deterministic, with a seed also random numbers, on any number of threads.

    TypeError unless `mode` is a bool.

    >>> import adjoint as torch
    >>> torch.use_deterministic_algorithms(True)
    >>> torch.are_deterministic_algorithms_enabled()
    True
    >>> torch.use_deterministic_algorithms(False)
    """
    for name, value in (("mode", mode), ("warn_only", warn_only)):
        if not isinstance(value, bool):
            raise TypeError(f"use_deterministic_algorithms(): argument '{name}' must be bool, not {type(value).__name__} ({value!r})")
    _Stored.debug_mode = (1 if warn_only else 2) if mode else 0


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms(True)` was called last; results are deterministic in any case.

    >>> import adjoint as torch
    >>> torch.are_deterministic_algorithms_enabled()
    False
    """
    return _Stored.debug_mode > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether that call had `warn_only=True`. There is nothing to warn of.

    >>> import adjoint as torch
    >>> torch.is_deterministic_algorithms_warn_only_enabled()
    False
    """
    return _Stored.debug_mode == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """`use_deterministic_algorithms` by a word or number: "default" (0), "warn" (1) or "error" (2).

    TypeError for what is neither, RuntimeError for others of either.

    >>> import adjoint as torch
    >>> torch.set_deterministic_debug_mode("warn")
    >>> torch.get_deterministic_debug_mode()
    1
    >>> torch.set_deterministic_debug_mode(0)
    """
    if not isinstance(debug_mode, (int, str)):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if isinstance(debug_mode, str):
        if debug_mode not in _DEBUG_MODES:
            raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}")
        debug_mode = _DEBUG_MODES.index(debug_mode)
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    _Stored.debug_mode = int(debug_mode)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2, as `set_deterministic_debug_mode` takes it.

    >>> import adjoint as torch
    >>> torch.get_deterministic_debug_mode()
    0
    """
    return _Stored.debug_mode


def set_float32_matmul_precision(precision: str) -> None:
    """Stored only: products of float32 are of full precision, whatever is set.

    RuntimeError unless `precision` is a string; a warning, and no effect, for others than "highest", "high" and "medium".

    >>> import adjoint as torch
    >>> torch.set_float32_matmul_precision("high")
    >>> torch.get_float32_matmul_precision()
    'high'
    >>> torch.set_float32_matmul_precision("highest")
    """
    if not isinstance(precision, str):
        raise RuntimeError(f"set_float32_matmul_precision expects a str, but got {type(precision).__name__}")
    if precision not in _PRECISIONS:
        warnings.warn(f"{precision} is not one of 'highest', 'high', or 'medium'; set_float32_matmul_precision has no effect", stacklevel=2)
        return
    _Stored.precision = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` has set, "highest" at first.

    >>> import adjoint as torch
    >>> torch.get_float32_matmul_precision()
    'highest'
    """
    return _Stored.precision


def set_default_device(device: Any) -> None:
    """Where new tensors are made: "cpu", or None for the same. RuntimeError for other devices, TypeError for no device.

    >>> import adjoint as torch
    >>> torch.set_default_device("cpu")
    """
    if device is not None:
        check_device(create_device(device))


def get_default_device() -> create_device:
    """The CPU, or the place of the innermost context.

    >>> import adjoint as torch
    >>> torch.get_default_device()
    device(type='cpu')
    """
    return device_now()


def set_num_interop_threads(n: int) -> None:
    """Stored only: one program runs at a time, shared by the threads of `set_num_threads`.

    RuntimeError unless `n` is a positive int.

    >>> import adjoint as torch
    >>> torch.set_num_interop_threads(4)
    >>> torch.get_num_interop_threads()
    4
    """
    if not isinstance(n, int) or isinstance(n, bool):
        raise RuntimeError(f"set_num_interop_threads expects an int, but got {type(n).__name__}")
    if n < 1:
        raise RuntimeError(f"set_num_interop_threads expects a positive integer, but got {n}")
    _Stored.interop_threads = n


def get_num_interop_threads() -> int:
    """What `set_num_interop_threads` has set, or else the number of threads that share a program's work.

    >>> import adjoint as torch
    >>> torch.get_num_interop_threads() >= 1
    True
    """
    return _Stored.interop_threads or pool.get_num_threads()


def set_warn_always(b: bool) -> None:
    """Stored only: Python's filters say how often a warning is shown. RuntimeError unless `b` is a bool.

    >>> import adjoint as torch
    >>> torch.set_warn_always(False)
    """
    if not isinstance(b, bool):
        raise RuntimeError(f"set_warn_always expects a bool, but got {type(b).__name__}")
    _Stored.warn_always = b


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` has set.

    >>> import adjoint as torch
    >>> torch.is_warn_always_enabled()
    False
    """
    return _Stored.warn_always


def typename(obj: Any) -> str:
    """The name of a tensor's type as `type()` gives it; of other objects the name of their class, with its module.

    >>> import adjoint as torch
    >>> torch.typename(torch.zeros(2)), torch.typename(1)
    ('torch.FloatTensor', 'int')
    """
    if isinstance(obj, Tensor):
        return type_of(obj)
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(named, "__module__", None) or ""
    return named.__qualname__ if module in ("", "builtins") else f"{module}.{named.__qualname__}"


def get_device_module(device: Any = None) -> Any:
    """The module that answers questions about a kind of device: `torch.cpu`, unless another is named. RuntimeError for unknown kinds.

    >>> import adjoint as torch
    >>> torch.get_device_module("cpu") is torch.cpu, torch.get_device_module("cuda").is_available()
    (True, False)
    """
    kind = "cpu" if device is None else create_device(device).type
    if kind not in ("cpu", "cuda", "mps", "xpu"):
        raise RuntimeError(f"Device '{kind}' does not have a corresponding module registered as 'torch.{kind}'; torch.cpu is the one in use")
    return importlib.import_module(f"adjoint.{kind}")
