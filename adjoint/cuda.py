"""`torch.cuda`: questions about devices that are not there, so that code written for both kinds of machine runs.

>>> import adjoint as torch
>>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
device(type='cpu')
"""

from __future__ import annotations

from typing import Any

from adjoint.ops.create import DeviceError


def is_available() -> bool:
    """Whether tensors can live on a GPU: not yet.

    >>> import adjoint as torch
    >>> torch.cuda.is_available()
    False
    """
    return False


def device_count() -> int:
    """The number of GPUs that can be used.

    >>> import adjoint as torch
    >>> torch.cuda.device_count()
    0
    """
    return 0


def is_initialized() -> bool:
    """Whether a GPU has been used.

    >>> import adjoint as torch
    >>> torch.cuda.is_initialized()
    False
    """
    return False


def manual_seed(seed: int) -> None:
    """Nothing: there is no GPU whose random numbers could be seeded. `torch.manual_seed` seeds all there are.

    >>> import adjoint as torch
    >>> torch.cuda.manual_seed(0)
    """


def manual_seed_all(seed: int) -> None:
    """As `manual_seed`.

    >>> import adjoint as torch
    >>> torch.cuda.manual_seed_all(0)
    """


def empty_cache() -> None:
    """Nothing to empty.

    >>> import adjoint as torch
    >>> torch.cuda.empty_cache()
    """


def __getattr__(name: str) -> Any:
    if name == "amp":
        from functools import partial
        from types import SimpleNamespace

        from adjoint.amp import GradScaler, autocast

        return SimpleNamespace(autocast=partial(autocast, "cuda"), GradScaler=partial(GradScaler, "cuda"))
    if name.startswith("__"):
        raise AttributeError(name)
    raise DeviceError(
        f"torch.cuda.{name}: there is no CUDA device, Adjoint computes on the CPU; ask torch.cuda.is_available() first"
    )


__all__ = ["device_count", "empty_cache", "is_available", "is_initialized", "manual_seed", "manual_seed_all"]
