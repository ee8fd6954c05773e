"""`torch.backends`: which of PyTorch's backends there are (none), and switches for them that may be set in vain.

>>> import adjoint as torch
>>> torch.backends.mps.is_available()
False
>>> torch.backends.cudnn.benchmark = True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


def _no() -> bool:
    return False


@contextmanager
def _sdp_kernel(
    enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True, enable_cudnn: bool = True
) -> Iterator[None]:
    """Accepted and without effect: there is one implementation of attention."""
    yield


@contextmanager
def _flags(**settings: Any) -> Iterator[None]:
    """Accepted and without effect: there is no cuDNN."""
    yield


def _switch() -> tuple[Callable[[bool], None], Callable[[], bool]]:
    """A setting that is only stored: how to set it, and how to ask for it."""
    state = [True]

    def enable(enabled: bool) -> None:
        state[0] = bool(enabled)

    return enable, lambda: state[0]


cuda = SimpleNamespace(is_built=_no, is_available=_no, matmul=SimpleNamespace(allow_tf32=False), sdp_kernel=_sdp_kernel)
for _name in ("flash", "mem_efficient", "math", "cudnn"):
    _enable, _enabled = _switch()
    setattr(cuda, f"enable_{_name}_sdp", _enable)
    setattr(cuda, f"{_name}_sdp_enabled", _enabled)
cudnn = SimpleNamespace(
    is_available=_no, enabled=False, benchmark=False, deterministic=True, allow_tf32=False, version=lambda: None, flags=_flags
)
mps = SimpleNamespace(is_built=_no, is_available=_no)
mkl = SimpleNamespace(is_available=_no)
mkldnn = SimpleNamespace(is_available=_no, enabled=False)
openmp = SimpleNamespace(is_available=_no)

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]
