"""`torch.distributed.tensor`: DTensor: tensors that several processes share, of which there are none; programs ask `isinstance` about them.

>>> import adjoint as torch
>>> from adjoint.distributed.tensor import DTensor
>>> isinstance(torch.ones(1), DTensor)
False
"""

from __future__ import annotations

from adjoint.nowhere import refusing

__getattr__ = refusing(
    "torch.distributed.tensor",
    "DTensor DeviceMesh Partial Placement Replicate Shard distribute_module distribute_tensor init_device_mesh",
    lambda name: RuntimeError(f"torch.distributed.tensor.{name}: a program runs in one process here; ask torch.distributed.is_available() first"),
)
