"""`torch.multiprocessing`: Python's `multiprocessing` by PyTorch's name.

Tensors that are sent to another process are copied; `Tensor.share_memory_` makes one that processes forked later share.
"""

from __future__ import annotations

import multiprocessing
from typing import Any


def get_all_sharing_strategies() -> set[str]:
    """How tensors may be sent between processes, by PyTorch's names: here always as copies."""
    return {"file_system"}


def get_sharing_strategy() -> str:
    return "file_system"


def set_sharing_strategy(new_strategy: str) -> None:
    """Nothing changes; ValueError for what is no name of a strategy of PyTorch's.

    >>> import adjoint as torch
    >>> torch.multiprocessing.set_sharing_strategy("file_system")
    """
    if new_strategy not in ("file_system", "file_descriptor"):
        raise ValueError(f"set_sharing_strategy expects 'file_system' or 'file_descriptor', got {new_strategy!r}")


def __getattr__(name: str) -> Any:
    try:
        return getattr(multiprocessing, name)
    except AttributeError:
        from adjoint.absent import absent

        raise absent(__name__, name, dir(multiprocessing)) from None
