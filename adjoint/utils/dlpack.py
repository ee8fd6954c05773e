"""`torch.utils.dlpack`: `torch.from_dlpack`, and the capsule that it takes.

>>> import adjoint as torch
>>> from adjoint.utils.dlpack import from_dlpack, to_dlpack
>>> x = torch.ones(2)
>>> y = from_dlpack(to_dlpack(x))
>>> y[0] = 5.0
>>> x
tensor([5., 1.])
"""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.methods import Tensor

__all__ = ["from_dlpack", "to_dlpack"]

from_dlpack = torch.from_dlpack


def to_dlpack(tensor: Tensor) -> Any:
    """The capsule of DLPack that `tensor.__dlpack__()` gives, to be used once."""
    return tensor.__dlpack__()
