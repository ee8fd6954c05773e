"""Memory of a training step: how far the resident memory of a new process rises above what model and data take.

Adjoint and PyTorch run the same text in a process each, in turns, and the medians are compared: when a library gives memory
back, and in which pages it lies, differs from run to run. Before the figure is taken both have done a
small training step, so that libraries, engine and worker threads are loaded; what is left is what the step itself needs:
gradients, the optimizer's moments, what is kept for the backward pass, scratch memory, and for Adjoint its compiler's.
Read `memory_limits`.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from .record import Limit
from .startup import ChildFailed, run_child

STEPS = 5
ROUNDS = 9  # PyTorch takes 162 to 226 MiB for one and the same step, from process to process
LIMIT = 1.0  # of PyTorch's


def perceptron(torch: ModuleType, size: int) -> tuple[Any, Any, Any]:
    nn = torch.nn
    net = nn.Sequential(
        nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.GELU(), nn.LayerNorm(size), nn.Linear(size, 10)
    )
    return net, torch.randn(4 * size, size), torch.randint(0, 10, (4 * size,))


def convolutional(torch: ModuleType, size: int) -> tuple[Any, Any, Any]:
    nn = torch.nn
    side = 8 if size < 100 else 28
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * (side // 4) ** 2, 10),
    )  # fmt: skip
    return net, torch.randn(size, 1, side, side), torch.randint(0, 10, (size,))


NETWORKS: dict[str, tuple[str, Callable[..., Any], int]] = {
    "memory_mlp": ("MLP of width 1024, batch 4096, Adam", perceptron, 1024),
    "memory_cnn": ("two convolutions on 256 images of 28 by 28, Adam", convolutional, 256),
}


def memory_limits(missing: dict[str, str], wanted: Sequence[str]) -> list[Limit]:
    """For each network in `wanted` Adjoint's figure over PyTorch's."""
    limits = []
    for name in wanted:
        title = f"peak memory of a training step over PyTorch's: {NETWORKS[name][0]}"
        found: dict[str, list[float]] = {}
        why = ""
        for library in ("adjoint", "torch") * ROUNDS:
            if library in missing:
                why = why or missing[library]
                continue
            try:
                found.setdefault(library, []).append(run_child(["-m", __name__, library, name]))
            except ChildFailed as error:
                why = str(error)
        grown = {library: median(figures) for library, figures in found.items()}
        note = ", ".join(f"{library} {mib:.0f} MiB" for library, mib in grown.items()) or why
        ratio = grown["adjoint"] / grown["torch"] if len(grown) == 2 and grown["torch"] > 0 else None
        limits.append(Limit(name, title, ratio, LIMIT, "x", note, ratio is None and "adjoint" not in grown))
    return limits


def growth(library: str, name: str) -> float:
    """MiB by which the resident memory of this process rises at most in `STEPS` steps."""
    torch = importlib.import_module(library)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    _, build, size = NETWORKS[name]
    train(torch, *build(torch, 8), 3)
    net, x, y = build(torch, size)
    np.asarray(sum(p.detach().sum() for p in net.parameters()) + x.sum() + y.sum())  # all of it is there
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak starts anew from here
    train(torch, net, x, y, STEPS)
    return resident("VmHWM") - before


def train(torch: ModuleType, net: Any, x: Any, y: Any, steps: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()


def resident(what: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most since the peak was cleared. OSError where there is no /proc."""
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
    raise OSError(f"no {what} in /proc/self/status")


if __name__ == "__main__":
    print(json.dumps(growth(sys.argv[1], sys.argv[2])))
