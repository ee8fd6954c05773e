"""One training step of an eight-layer perceptron: forward, cross-entropy, backward, Adam.

Layers of width 64 on a batch of 32 are what a laptop trains while somebody watches. The column
`torch.compile` compiles the loss (and with it the backward pass); the optimizer is PyTorch's own in
both PyTorch columns, in its default form.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Ask, Case, Results, Workload
from .training import training

WIDTHS = (64,) * 8 + (10,)
LAYERS = len(WIDTHS) - 1
BATCH = 32
# Small, so that thousands of timed steps do not drive the loss to zero and the moments of Adam
# into denormal numbers, which some processors handle slowly.
RATE = 1e-4
BETAS, EPS = (0.9, 0.999), 1e-8


def make(rng: np.random.Generator) -> Arrays:
    data: Arrays = {
        "x": rng.normal(size=(BATCH, WIDTHS[0])).astype(np.float32),
        "y": rng.integers(0, WIDTHS[-1], BATCH),
    }
    for i, (fan_in, fan_out) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        # He's initialisation (K. He et al., 2015, section 2.2) keeps the signal alive in 8 layers.
        weight = rng.normal(0, np.sqrt(2 / fan_in), (fan_out, fan_in))
        data[f"weight{i}"] = weight.astype(np.float32)
        data[f"bias{i}"] = rng.normal(0, 0.01, fan_out).astype(np.float32)
    return data


def parameters(data: Arrays) -> list[np.ndarray]:
    """weight0, bias0, weight1, ... in the order of `net.parameters()`."""
    return [data[f"{kind}{i}"] for i in range(LAYERS) for kind in ("weight", "bias")]


def network(torch: ModuleType, data: Arrays):
    """The perceptron with the given weights."""
    layers: list = []
    for fan_in, fan_out in zip(WIDTHS[:-1], WIDTHS[1:], strict=True):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p, values in zip(net.parameters(), parameters(data), strict=True):
            p.copy_(torch.tensor(values))
    return net


def eager(
    torch: ModuleType, data: Arrays, before_step: Callable[[object], None] | None = None
) -> Case:
    """`before_step` receives the optimizer first, as a schedule of the learning rate would."""
    net = network(torch, data)
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    loss: Any = None

    def step():
        nonlocal loss
        if before_step is not None:
            before_step(optimizer)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def read() -> Results:
        return [np.float32(loss.item())] + [p.detach().clone().numpy() for p in net.parameters()]

    return Case(step, read)


def compiled(torch: ModuleType, data: Arrays) -> Case:
    net = network(torch, data)
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    objective = torch.compile(lambda x, y: torch.nn.functional.cross_entropy(net(x), y))
    return training(net, optimizer, objective, x, y)


def whole(torch: ModuleType, data: Arrays) -> Case:
    """The whole step through `compile`."""
    net = network(torch, data)
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    loss: Any = None

    @torch.compile
    def update(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def step() -> None:
        nonlocal loss
        loss = update(x, y)

    def read() -> Results:
        return [np.float32(loss.item())] + [p.detach().clone().numpy() for p in net.parameters()]

    return Case(step, read)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    jnp = jax.numpy
    params = [jnp.asarray(values) for values in parameters(data)]
    moments = [jnp.zeros_like(p) for p in params]
    state = (params, moments, moments, jnp.float32(0.0))
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])
    loss: Any = None

    def objective(params, x, y):
        for i in range(0, 2 * LAYERS, 2):
            x = x @ params[i].T + params[i + 1]
            if i < 2 * LAYERS - 2:
                x = jax.nn.relu(x)
        return -jnp.mean(jax.nn.log_softmax(x)[jnp.arange(BATCH), y])

    @jax.jit
    def update(state, x, y):
        params, first, second, count = state
        loss, slopes = jax.value_and_grad(objective)(params, x, y)
        count = count + 1
        first = [BETAS[0] * m + (1 - BETAS[0]) * g for m, g in zip(first, slopes, strict=True)]
        second = [
            BETAS[1] * v + (1 - BETAS[1]) * g * g for v, g in zip(second, slopes, strict=True)
        ]
        rate = RATE / (1 - BETAS[0] ** count)
        root = jnp.sqrt(1 - BETAS[1] ** count)
        params = [
            p - rate * m / (jnp.sqrt(v) / root + EPS)
            for p, m, v in zip(params, first, second, strict=True)
        ]
        return loss, (params, first, second, count)

    def step() -> None:
        nonlocal loss, state
        loss, state = update(state, x, y)

    return Case(step, lambda: [np.asarray(value) for value in (loss, *state[0])])


def by_hand(np: ModuleType, data: Arrays) -> Case:
    params = [values.copy() for values in parameters(data)]
    weights, biases = params[::2], params[1::2]
    first, second = ([np.zeros_like(p) for p in params] for _ in range(2))
    x, y, rows = data["x"], data["y"], np.arange(BATCH)
    count, loss = 0, np.float32(0)

    def step() -> None:
        nonlocal count, loss
        inputs = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            inputs.append(np.maximum(inputs[-1] @ w.T + b, 0))
        out = inputs[-1] @ weights[-1].T + biases[-1]
        out = out - out.max(1, keepdims=True)
        powers = np.exp(out)
        sums = powers.sum(1, keepdims=True)
        loss = (np.log(sums[:, 0]) - out[rows, y]).mean()
        g = powers / sums
        g[rows, y] -= 1
        g = g / np.float32(BATCH)
        slopes: list = [None] * len(params)
        for i in reversed(range(LAYERS)):
            slopes[2 * i], slopes[2 * i + 1] = g.T @ inputs[i], g.sum(0)
            if i:
                g = (g @ weights[i]) * (inputs[i] > 0)
        count += 1
        rate, root = RATE / (1 - BETAS[0] ** count), (1 - BETAS[1] ** count) ** 0.5
        for p, g, m, v in zip(params, slopes, first, second, strict=True):
            m += (1 - BETAS[0]) * (g - m)
            v += (1 - BETAS[1]) * (g * g - v)
            p -= rate * m / (np.sqrt(v) / root + EPS)

    return Case(step, lambda: [np.float32(loss), *params])


MLP8 = Workload(
    name="mlp8",
    title="8-layer MLP of width 64, batch 32, cross-entropy, Adam step",
    target=5.0,
    peers=("torch",),
    further=(Ask(1.2, ("jax",), "adjoint.compile"),),
    make=make,
    builders={
        "adjoint": eager,
        "adjoint.compile": whole,
        "numpy": by_hand,
        "torch": eager,
        "torch.compile": compiled,
        "jax": jitted,
    },
    # A gradient near zero has an uncertain sign, and Adam's first steps are sign times rate.
    rtol=1e-4,
    atol=(1e-5, RATE),
    check_steps=5,
    repeats=False,
)
