"""A long short-term memory of hidden size 256 over 35 steps of a batch of 20, from a cell of one's own, with backward.

S. Hochreiter and J. Schmidhuber, "Long Short-Term Memory" (1997), with the forget gate. The cell is three lines of
ordinary code in a Python loop: what a framework pays for each operation, it pays 35 times.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Workload, repeatable

STEPS, BATCH, HIDDEN = 35, 20, 256
NAMES = ("weight_x", "weight_h", "bias")


def make(rng: np.random.Generator) -> Arrays:
    bound = HIDDEN**-0.5
    return {
        "x": rng.standard_normal((STEPS, BATCH, HIDDEN), dtype=np.float32),
        "weight_x": rng.uniform(-bound, bound, (4 * HIDDEN, HIDDEN)).astype(np.float32),
        "weight_h": rng.uniform(-bound, bound, (4 * HIDDEN, HIDDEN)).astype(np.float32),
        "bias": rng.uniform(-bound, bound, 4 * HIDDEN).astype(np.float32),
    }


def _unrolled(torch: ModuleType, x, weight_x, weight_h, bias):
    """The sum of the squares of all hidden states, divided by the batch."""
    h = torch.zeros(BATCH, HIDDEN)
    c = torch.zeros(BATCH, HIDDEN)
    loss = 0.0
    for t in range(STEPS):
        i, f, g, o = (x[t] @ weight_x.T + h @ weight_h.T + bias).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        loss = loss + (h * h).sum()
    return loss / BATCH


def _training(torch: ModuleType, data: Arrays, compile_loss: bool) -> Case:
    x = torch.tensor(data["x"])
    parameters = [torch.tensor(data[name], requires_grad=True) for name in NAMES]

    def objective(x, *parameters):
        return _unrolled(torch, x, *parameters)

    if compile_loss:
        objective = torch.compile(objective)

    def iteration():
        for p in parameters:
            p.grad = None
        loss = objective(x, *parameters)
        loss.backward()
        return [np.float32(loss.item())] + [p.grad.numpy() for p in parameters]

    return repeatable(iteration)


def eager(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, False)


def compiled(torch: ModuleType, data: Arrays) -> Case:
    return _training(torch, data, True)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    jnp = jax.numpy
    x, parameters = jnp.asarray(data["x"]), [jnp.asarray(data[name]) for name in NAMES]

    def objective(parameters, x):
        weight_x, weight_h, bias = parameters

        def cell(state, x):
            h, c = state
            i, f, g, o = jnp.split(x @ weight_x.T + h @ weight_h.T + bias, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), (h * h).sum()

        zeros = jnp.zeros((BATCH, HIDDEN))
        return jax.lax.scan(cell, (zeros, zeros), x)[1].sum() / BATCH

    both = jax.jit(jax.value_and_grad(objective))

    def iteration():
        loss, slopes = both(parameters, x)
        return [np.asarray(loss), *(np.asarray(g) for g in slopes)]

    return repeatable(iteration)


LSTM = Workload(
    name="lstm",
    title="LSTM from a cell of one's own, 35 steps, hidden 256, batch 20, forward and backward",
    target=2.0,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "torch": eager, "torch.compile": compiled, "jax": jitted},
    rtol=1e-3,
    atol=(1e-3,),
)
