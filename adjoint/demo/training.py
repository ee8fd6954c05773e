"""The model, the training loop and the evaluation: what a user would write, and a clock.

Read `train`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import adjoint as torch
import adjoint.nn.functional as F
from adjoint import nn
from adjoint.demo.data import Digits

BATCH = 64
LEARNING_RATE = 4e-3


@dataclass
class History:
    """What training left behind.

    step_loss: loss of each step. epoch_accuracy: (steps so far, share right on the held-out images)
    per epoch.
    step_seconds: each step's duration. example: one step's loss with its graph, for drawing.
    """

    step_loss: list[float] = field(default_factory=list)
    epoch_accuracy: list[tuple[int, float]] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    example: Any = None


def build_model() -> Any:
    """Two convolutions, one pooling, one linear layer: 9,930 numbers to learn."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def train(
    model: Any,
    training: Digits,
    held_out: Digits,
    epochs: int,
    progress: Callable[[int, int, float, float | None], None],
) -> History:
    """Train in place; `progress(step, steps, loss, accuracy or None)` is called after every step.

    A step's time includes waiting for its loss, so nothing is left to be computed later.
    """
    history = History()
    data = torch.utils.data.TensorDataset(training.images, training.labels)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    steps = epochs * len(loader)
    for _ in range(epochs):
        began = time.perf_counter()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            value = loss.item()
            now = time.perf_counter()
            history.step_seconds.append(now - began)
            history.step_loss.append(value)
            progress(len(history.step_loss), steps, value, None)
            began = time.perf_counter()
        accuracy = share_right(predict(model, held_out.images), held_out.labels)
        history.epoch_accuracy.append((len(history.step_loss), accuracy))
        progress(len(history.step_loss), steps, value, accuracy)
    history.example = F.cross_entropy(model(training.images[:BATCH]), training.labels[:BATCH])
    return history


def predict(model: Any, images: Any) -> Any:
    """The class of highest score for each image, int64 (n,)."""
    with torch.no_grad():
        return model(images).argmax(1)


def share_right(predicted: Any, labels: Any) -> float:
    return (predicted == labels).to(torch.float32).mean().item()
