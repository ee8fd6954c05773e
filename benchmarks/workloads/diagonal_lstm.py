"""An LSTM whose recurrent weights are diagonal: a Python loop of small elementwise operations, with its gradient."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

STEPS, LAYERS, WIDTH = 100, 2, 14


def make(rng: np.random.Generator) -> Arrays:
    return {
        "weights": rng.normal(size=(LAYERS, 4, WIDTH)),
        "biases": rng.normal(size=(LAYERS, 4, WIDTH)),
        "ends": rng.normal(size=(3, WIDTH)),
        "state": rng.normal(size=(LAYERS, 2, WIDTH)),
        "sequence": rng.normal(size=(STEPS + 1, WIDTH)),
    }


def cell(lib, weight, bias, hidden, memory, x):
    """One step of one layer; every gate sees either the input or the hidden state, element by element."""
    forget = lib.sigmoid(x * weight[0] + bias[0])
    enter = lib.sigmoid(hidden * weight[1] + bias[1])
    leave = lib.sigmoid(x * weight[2] + bias[2])
    change = lib.tanh(hidden * weight[3] + bias[3])
    memory = memory * forget + enter * change
    return leave * lib.tanh(memory), memory


def loss(lib, logsumexp, weights, biases, ends, state, sequence):
    """Mean negative log-likelihood of each step's successor."""
    hidden = [state[k][0] for k in range(LAYERS)]
    memory = [state[k][1] for k in range(LAYERS)]
    total = 0.0
    for t in range(STEPS):
        x = sequence[t] * ends[0]
        for k in range(LAYERS):
            hidden[k], memory[k] = cell(lib, weights[k], biases[k], hidden[k], memory[k], x)
            x = hidden[k]
        guess = x * ends[1] + ends[2]
        total = total + (sequence[t + 1] * (guess - logsumexp(guess))).sum()
    return -total / (STEPS * WIDTH)


LEAVES = ("weights", "biases", "ends")


def eager(torch: ModuleType, data: Arrays) -> Case:
    leaves = [torch.tensor(data[name], requires_grad=True) for name in LEAVES]
    state, sequence = torch.tensor(data["state"]), torch.tensor(data["sequence"])

    def step() -> Results:
        for leaf in leaves:
            leaf.grad = None
        out = loss(torch, lambda x: torch.logsumexp(x, 0), *leaves, state, sequence)
        out.backward()
        return (np.float64(out.item()), *[leaf.grad.numpy() for leaf in leaves])

    return repeatable(step)


DIAGONAL_LSTM = Workload(
    name="diagonal_lstm",
    title="LSTM with diagonal weights, 2 layers of 14, 100 steps, forward, backward, gradients read",
    target=8.0,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "torch": eager},
    rtol=1e-9,
    atol=(1e-10,),
)
