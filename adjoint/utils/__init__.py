"""Things around the training loop: `utils.data` feeds it, `utils.checkpoint` saves memory in it, `utils.host_random` draws on
the host, `utils._pytree` takes apart what models give and take.

Read `data/dataloader.py` first.
"""

from __future__ import annotations

from adjoint.utils import _pytree, checkpoint, data, hooks

__all__ = ["_pytree", "checkpoint", "data", "hooks"]
