"""What published programs ask of PyTorch's native part, which is not here.

>>> import adjoint as torch
>>> torch._C._get_tracing_state() is None
True
"""

from __future__ import annotations

from typing import Any


def _log_api_usage_once(event: str) -> None:
    """Nothing is counted."""


def _get_tracing_state() -> None:
    """None: there is no TorchScript that traces."""


def __getattr__(name: str) -> Any:
    from adjoint.absent import absent

    raise absent("torch._C", name, ())
