"""`torch.backends`: which of PyTorch's backends there are (none), and switches for them that may be set in vain.

>>> import adjoint as torch
>>> torch.backends.mps.is_available()
False
>>> torch.backends.cudnn.benchmark = True
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
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


def _backend(name: str, **members: Any) -> Any:
    """What is known of a backend, as a module that can be imported from."""
    module: Any = ModuleType(f"{__name__}.{name}", f"PyTorch's backend {name}: not here.")
    vars(module).update(members)
    sys.modules[module.__name__] = module
    return module


cuda = _backend("cuda", is_built=_no, is_available=_no, matmul=SimpleNamespace(allow_tf32=False), sdp_kernel=_sdp_kernel)
for _name in ("flash", "mem_efficient", "math", "cudnn"):
    _enable, _enabled = _switch()
    setattr(cuda, f"enable_{_name}_sdp", _enable)
    setattr(cuda, f"{_name}_sdp_enabled", _enabled)
cudnn = _backend(
    "cudnn", is_available=_no, enabled=False, benchmark=False, deterministic=True, allow_tf32=False, version=lambda: None, flags=_flags
)
mps = _backend("mps", is_built=_no, is_available=_no, is_macos_or_newer=lambda major, minor: False)
mkl = _backend("mkl", is_available=_no)
mkldnn = _backend("mkldnn", is_available=_no, enabled=False)
openmp = _backend("openmp", is_available=_no)
opt_einsum = _backend("opt_einsum", is_available=_no, enabled=False, strategy=None)

__all__ = ["cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum"]
