"""`DistributedDataParallel` by the path from which programs import it."""

from __future__ import annotations

from adjoint.nn.parallel import DistributedDataParallel

__all__ = ["DistributedDataParallel"]
