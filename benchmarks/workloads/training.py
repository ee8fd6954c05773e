"""The training step that several workloads time: the same lines for Adjoint and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..record import Case, Results


def training(net: Any, optimizer: Any, objective: Callable[..., Any], *batch: Any, look: bool = False) -> Case:
    """Gradients to zero, the loss of a batch, backward, an update; and the number that the loss is, for who looks at it every
    time. Compared are the loss and every parameter."""
    loss: Any = None

    def step() -> None:
        nonlocal loss
        optimizer.zero_grad()
        loss = objective(*batch)
        loss.backward()
        optimizer.step()
        if look:
            loss.item()

    def read() -> Results:
        return [np.float32(loss.item())] + [p.detach().clone().numpy() for p in net.parameters()]

    return Case(step, read)
