"""`torch.cuda.random`: the functions of `torch.cuda` that concern random numbers.

>>> from adjoint.cuda.random import manual_seed_all
>>> manual_seed_all(0)
"""

from __future__ import annotations

from typing import Any

from adjoint import cuda
from adjoint.cuda import manual_seed, manual_seed_all

__all__ = ["manual_seed", "manual_seed_all"]


def __getattr__(name: str) -> Any:
    return getattr(cuda, name)
