"""What distributions of one's own are written with, by the name PyTorch has for it. `parameters.py` has the functions."""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.distributions.distribution import sum_rightmost as _sum_rightmost
from adjoint.distributions.parameters import (
    broadcast_all,
    clamp_probs,
    lazy_property,
    logits_to_probs,
    probs_to_logits,
)

__all__ = [
    "_sum_rightmost",
    "broadcast_all",
    "clamp_probs",
    "lazy_property",
    "logits_to_probs",
    "probs_to_logits",
]


def _standard_normal(shape: Any, dtype: Any, device: Any = None) -> Any:
    return torch.randn(shape, dtype=dtype, device=device)
