"""`torch.autograd`: gradients, custom functions, modes, numeric checks."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Function": "function", "GradcheckError": "check", "gradcheck": "check", "gradgradcheck": "check",
    "backward": "engine", "grad": "engine", "enable_grad": "modes", "inference_mode": "modes", "no_grad": "modes",
    "set_grad_enabled": "modes", "detect_anomaly": "anomaly", "set_detect_anomaly": "anomaly",
    "Variable": "variable",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load what is asked for: `tensor` needs only the engine, and importing it must not load the rest."""
    if name in ("forward_ad", "functional", "graph"):
        return importlib.import_module(f"adjoint.autograd.{name}")
    if name in _HOME:
        value = getattr(importlib.import_module(f"adjoint.autograd.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    from adjoint.absent import absent

    raise absent(__name__, name, __all__)


__all__ = [
    "Function", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad", "forward_ad", "functional", "grad", "gradcheck", "gradgradcheck",
    "graph", "inference_mode", "no_grad", "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
