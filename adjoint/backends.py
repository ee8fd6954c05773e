"""`torch.backends`: which of PyTorch's backends there are (none), and switches for them that may be set in vain.

>>> import adjoint as torch
>>> torch.backends.mps.is_available()
False
>>> torch.backends.cudnn.benchmark = True
"""

from __future__ import annotations

from types import SimpleNamespace


def _no() -> bool:
    return False


cuda = SimpleNamespace(is_built=_no, is_available=_no, matmul=SimpleNamespace(allow_tf32=False))
cudnn = SimpleNamespace(
    is_available=_no, enabled=False, benchmark=False, deterministic=True, allow_tf32=False, version=lambda: None
)
mps = SimpleNamespace(is_built=_no, is_available=_no)
mkl = SimpleNamespace(is_available=_no)
mkldnn = SimpleNamespace(is_available=_no, enabled=False)
openmp = SimpleNamespace(is_available=_no)

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
