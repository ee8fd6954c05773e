"""One training step of LeNet on 64 images of 28x28 pixels: forward, cross-entropy, backward, gradient descent.

Y. LeCun et al., "Gradient-based learning applied to document recognition" (1998), with rectifiers and maxima in place of
the sigmoids and means of then. Its layers are small, so that what a framework adds to each is seen.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload
from .training import training

BATCH = 64
RATE = 1e-3
SHAPES = ((6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84))


def make(rng: np.random.Generator) -> Arrays:
    data: Arrays = {
        "x": rng.standard_normal((BATCH, 1, 28, 28), dtype=np.float32),
        "y": rng.integers(0, 10, BATCH),
    }
    for i, shape in enumerate(SHAPES):
        spread = np.sqrt(2 / np.prod(shape[1:]))
        data[f"weight{i}"] = rng.normal(0, spread, shape).astype(np.float32)
        data[f"bias{i}"] = rng.normal(0, 0.01, shape[0]).astype(np.float32)
    return data


def network(torch: ModuleType, data: Arrays):
    nn = torch.nn
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    names = [f"{kind}{i}" for i in range(len(SHAPES)) for kind in ("weight", "bias")]
    with torch.no_grad():
        for p, name in zip(net.parameters(), names, strict=True):
            p.copy_(torch.tensor(data[name]))
    return net


def _training(torch: ModuleType, data: Arrays, compile_loss: bool) -> Case:
    net = network(torch, data)
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)

    def objective(x, y):
        return torch.nn.functional.cross_entropy(net(x), y)

    if compile_loss:
        objective = torch.compile(objective)

    return training(net, optimizer, objective, x, y)


def eager(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, False)


def compiled(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, True)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    lax = jax.lax
    params = [(jax.numpy.asarray(data[f"weight{i}"]), jax.numpy.asarray(data[f"bias{i}"])) for i in range(len(SHAPES))]
    x, y = jax.numpy.asarray(data["x"]), jax.numpy.asarray(data["y"])

    def pooled(h):
        return lax.reduce_window(h, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    def objective(params, x, y):
        h = x
        for i, padding in enumerate((2, 0)):
            weight, bias = params[i]
            h = lax.conv(h, weight, (1, 1), "SAME" if padding else "VALID") + bias[:, None, None]
            h = pooled(jax.nn.relu(h))
        h = h.reshape(BATCH, -1)
        for i in (2, 3, 4):
            weight, bias = params[i]
            h = h @ weight.T + bias
            h = jax.nn.relu(h) if i < 4 else h
        return -jax.nn.log_softmax(h)[jax.numpy.arange(BATCH), y].mean()

    @jax.jit
    def update(params, x, y):
        loss, slopes = jax.value_and_grad(objective)(params, x, y)
        return loss, jax.tree_util.tree_map(lambda p, g: p - RATE * g, params, slopes)

    state = [None, params]

    def step() -> None:
        state[:] = update(state[1], x, y)

    def read() -> Results:
        return [np.float32(state[0].item())] + [np.asarray(v) for pair in state[1] for v in pair]

    return Case(step, read)


LENET = Workload(
    name="lenet",
    title="LeNet, batch 64, SGD training step",
    target=2.5,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "torch": eager, "torch.compile": compiled, "jax": jitted},
    rtol=1e-4,
    atol=(1e-5,),
    check_steps=3,
    repeats=False,
)
