"""One training step of the classic perceptron for handwritten digits, 784-256-10 on a batch of 128, by SGD and by Adam.

Most of its work are two matrix products and, with Adam, one walk over the 200,000 weights and their moments.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Ask, Builder, Case, Workload
from .training import training

WIDTHS, BATCH, RATE = (784, 256, 10), 128, 1e-4
# With the usual 1e-8 the first steps of Adam are rate times sign, also where rounding decides the sign of a gradient.
BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-4, 0.9
NAMES = ("weight0", "bias0", "weight1", "bias1")


def make(rng: np.random.Generator) -> Arrays:
    data: Arrays = {
        "x": rng.standard_normal((BATCH, WIDTHS[0]), dtype=np.float32),
        "y": rng.integers(0, WIDTHS[-1], BATCH),
    }
    for i, (fan_in, fan_out) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        data[f"weight{i}"] = rng.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in)).astype(np.float32)
        data[f"bias{i}"] = rng.normal(0, 0.01, fan_out).astype(np.float32)
    return data


def _training(torch: ModuleType, data: Arrays, adam: bool, compile_loss: bool) -> Case:
    nn = torch.nn
    net = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    with torch.no_grad():
        for p, name in zip(net.parameters(), NAMES, strict=True):
            p.copy_(torch.tensor(data[name]))
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    if adam:
        optimizer = torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)

    def objective(x, y):
        return nn.functional.cross_entropy(net(x), y)

    if compile_loss:
        objective = torch.compile(objective)

    return training(net, optimizer, objective, x, y)


def _jitted(jax: ModuleType, data: Arrays, adam: bool) -> Case:
    jnp, tree = jax.numpy, jax.tree_util.tree_map
    params = [jnp.asarray(data[name]) for name in NAMES]
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])

    def objective(p):
        out = jax.nn.relu(x @ p[0].T + p[1]) @ p[2].T + p[3]
        return -jax.nn.log_softmax(out)[jnp.arange(BATCH), y].mean()

    @jax.jit
    def update(params, first, second, count):
        loss, slopes = jax.value_and_grad(objective)(params)
        count = count + 1
        if adam:
            first = tree(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, slopes)
            second = tree(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, second, slopes)
            rate, root = RATE / (1 - BETAS[0] ** count), jnp.sqrt(1 - BETAS[1] ** count)
            params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + EPS), params, first, second)
        else:
            first = tree(lambda m, g: MOMENTUM * m + g, first, slopes)
            params = tree(lambda p, m: p - RATE * m, params, first)
        return loss, (params, first, second, count)

    zeros = [jnp.zeros_like(p) for p in params]
    state: Any = (None, (params, zeros, zeros, jnp.float32(0)))

    def step() -> None:
        nonlocal state
        state = update(*state[1])

    return Case(step, lambda: [np.asarray(value) for value in (state[0], *state[1][0])])


def _builders(adam: bool) -> dict[str, Builder]:
    return {
        "adjoint": lambda torch, data: _training(torch, data, adam, False),
        "torch": lambda torch, data: _training(torch, data, adam, False),
        "torch.compile": lambda torch, data: _training(torch, data, adam, True),
        "jax": lambda jax, data: _jitted(jax, data, adam),
    }


def _workload(name: str, title: str, adam: bool) -> Workload:
    return Workload(
        name=name,
        title=title,
        target=2.0,
        peers=("torch",),
        further=(Ask(1.3, ("torch", "torch.compile", "jax")),),
        make=make,
        builders=_builders(adam),
        rtol=1e-4,
        atol=(1e-5,),
        check_steps=3,
        repeats=False,
    )


MLP784_SGD = _workload("mlp784_sgd", "MLP 784-256-10, batch 128, SGD step with momentum", False)
MLP784_ADAM = _workload("mlp784_adam", "MLP 784-256-10, batch 128, Adam step", True)
