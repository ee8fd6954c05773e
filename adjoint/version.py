"""`torch.version`: the PyTorch whose names and behaviour are followed, and what it was built for: the CPU alone.

>>> import adjoint as torch
>>> torch.version.cuda is None
True
"""

from __future__ import annotations

from adjoint._version import PYTORCH
from adjoint._version import __version__ as _own

__all__ = ["__version__", "cuda", "debug", "hip", "xpu"]

__version__ = f"{PYTORCH}+adjoint{_own}"
debug = False
cuda: str | None = None
hip: str | None = None
xpu: str | None = None
