"""Inputs that are the same for every library: NumPy draws them, the programs only wrap them.

`draw` makes arrays, `fill` gives the parameters of a module values that do not depend on a library's own generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(seed: int, *shape: int, dtype: Any = np.float32) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def draw_integers(seed: int, high: int, *shape: int) -> np.ndarray:
    """Integers from 0 to high - 1."""
    return np.random.default_rng(seed).integers(0, high, shape)


def fill(torch: Any, module: Any, seed: int = 0) -> Any:
    """Give every parameter values of about 1/sqrt(fan in), and vectors small ones; returns the module."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for p in module.parameters():
            fan = p[0].numel() if p.dim() > 1 else 25
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape)) / fan**0.5).to(p.dtype))
    return module
