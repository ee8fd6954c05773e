"""The digits shipped with the package, as tensors, cut into a training and a held-out part.

Source and licence of the data: `DATA.md` beside this file. Read `load_digits`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import adjoint as torch

# Every fifth of 1,797 images: 360. Fixed, so that results compare between runs and machines.
HELD_OUT_EVERY = 5
DARKEST = 16


class Digits(NamedTuple):
    """images: float32 (n, 1, 8, 8) from 0 (paper) to 1 (ink); labels: int64 (n,)."""

    images: Any
    labels: Any


def load_digits() -> tuple[Digits, Digits]:
    """`(training, held_out)`: 1,437 and 360 images.

    >>> from adjoint.demo.data import load_digits
    >>> training, held_out = load_digits()
    >>> training.images.shape, len(held_out.labels)
    (torch.Size([1437, 1, 8, 8]), 360)
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    held = np.arange(len(labels)) % HELD_OUT_EVERY == 0
    return _as_tensors(images[~held], labels[~held]), _as_tensors(images[held], labels[held])


def _as_tensors(images: np.ndarray, labels: np.ndarray) -> Digits:
    scaled = images.astype(np.float32)[:, None] / DARKEST
    return Digits(torch.tensor(scaled), torch.tensor(labels.astype(np.int64)))
