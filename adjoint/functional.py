"""`torch.functional`: functions that are also directly in `torch`.

>>> import adjoint as torch
>>> from adjoint.functional import atleast_2d
>>> atleast_2d(torch.tensor(3)).shape
torch.Size([1, 1])
"""

from __future__ import annotations

import adjoint as _torch

_NAMES = frozenset(
    "atleast_1d atleast_2d atleast_3d block_diag broadcast_shapes broadcast_tensors cartesian_prod cdist chain_matmul einsum lu meshgrid norm "
    "split stft tensordot unique unique_consecutive unravel_index".split()
)


def __getattr__(name: str) -> object:
    if name in _NAMES:
        return getattr(_torch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
