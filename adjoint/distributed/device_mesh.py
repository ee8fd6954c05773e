"""`torch.distributed.device_mesh`: meshes of devices, of which there are none; programs ask `isinstance` about them.

>>> import adjoint as torch
>>> from adjoint.distributed.device_mesh import DeviceMesh
>>> isinstance(torch.ones(1), DeviceMesh)
False
"""

from __future__ import annotations

from adjoint.nowhere import refusing

__getattr__ = refusing(
    "torch.distributed.device_mesh",
    "DeviceMesh init_device_mesh",
    lambda name: RuntimeError(f"torch.distributed.device_mesh.{name}: a program runs in one process here; ask torch.distributed.is_available() first"),
)
