"""Things around the training loop: `utils.data` feeds it, `utils.checkpoint` saves memory in it, `utils.host_random` draws on
the host.

Read `data/loader.py` first.
"""

from __future__ import annotations

from adjoint.utils import checkpoint, data, hooks

__all__ = ["checkpoint", "data", "hooks"]
