"""The methods of `Tensor`: a table of delegations to `adjoint.ops` (`table.py`), and what only a method can do.

`attach()` runs once when the package is imported.
"""

from __future__ import annotations

from adjoint.methods.copies import rebuild  # by this name tensors were pickled at first
from adjoint.methods.in_place import fitting
from adjoint.methods.kinds import (
    CPU,
    create_device,
    device_now,
    get_device,
    is_inference,
    is_same_size,
    type_of,
)
from adjoint.methods.table import attach
from adjoint.methods.values import allclose, equal, is_nonzero
from adjoint.trace.handle import Parameter, Tensor

__all__ = [
    "CPU", "Parameter", "Tensor", "allclose", "attach", "create_device", "device_now", "equal", "fitting", "get_device", "is_inference", "is_nonzero",
    "is_same_size", "rebuild", "type_of",
]  # fmt: skip
