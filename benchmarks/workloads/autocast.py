"""One training step of a wide perceptron under `autocast`: products of bfloat16, parameters and losses of float32.

Each step converts the weights, multiplies in bfloat16, and converts the gradients back.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Workload
from .training import training

WIDTHS, BATCH, RATE = (1024, 1024, 1024, 10), 256, 0.01


def make(rng: np.random.Generator) -> Arrays:
    data: Arrays = {"x": rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32), "y": rng.integers(0, WIDTHS[-1], BATCH)}
    for i, (fan_in, fan_out) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        data[f"weight{i}"] = rng.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in)).astype(np.float32)
        data[f"bias{i}"] = np.zeros(fan_out, np.float32)
    return data


def _training(torch: ModuleType, data: Arrays, compile_loss: bool) -> Case:
    nn = torch.nn
    net = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(torch.tensor(data[f"{'bias' if i % 2 else 'weight'}{i // 2}"]))
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)

    def objective(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return nn.functional.cross_entropy(net(x), y)

    if compile_loss:
        objective = torch.compile(objective)

    return training(net, optimizer, objective, x, y)


AUTOCAST = Workload(
    name="autocast",
    title="MLP of width 1024, batch 256, SGD step under autocast (bfloat16)",
    target=1.2,
    peers=("torch", "torch.compile"),
    make=make,
    builders={
        "adjoint": lambda torch, data: _training(torch, data, False),
        "torch": lambda torch, data: _training(torch, data, False),
        "torch.compile": lambda torch, data: _training(torch, data, True),
    },
    rtol=1e-2,
    atol=(2e-2, 1e-4),  # sums of bfloat16 products, rounded to 8 bits between the layers
    check_steps=2,
    repeats=False,
)
