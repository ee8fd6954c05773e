"""Loops that look at values: single elements read and written, and a chain that decides its next step by a number.

Nothing can be put off for long here, so the figures are the price of asking for one number.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

LENGTH = 300


def make_elements(rng: np.random.Generator) -> Arrays:
    return {"x": rng.normal(size=LENGTH).astype(np.float32)}


def element_reads(torch: ModuleType, data: Arrays) -> Case:
    x = torch.tensor(data["x"])

    def step() -> Results:
        total = 0.0
        for i in range(LENGTH):
            total += x[i].item()
        return (np.float64(total),)

    return repeatable(step)


def element_writes(torch: ModuleType, data: Arrays) -> Case:
    x = torch.zeros(LENGTH)
    numbers = data["x"].tolist()

    def step() -> Results:
        for i in range(LENGTH):
            x[i] = numbers[i]
        return (x.numpy().copy(),)

    return repeatable(step)


def element_loop(torch: ModuleType, data: Arrays) -> Case:
    x = torch.tensor(data["x"])

    def step() -> Results:
        total = 0.0
        for v in x:
            total += float(v)
        return (np.float64(total),)

    return repeatable(step)


def element_fill(torch: ModuleType, data: Arrays) -> Case:
    numbers = data["x"].tolist()

    def step() -> Results:
        x = torch.zeros(LENGTH)
        for i in range(LENGTH):
            x[i] = numbers[i]
        return (np.float64(x.sum().item()),)

    return repeatable(step)


def make_chain(rng: np.random.Generator) -> Arrays:
    weights = rng.uniform(0.1, 1.0, size=(5, 5))
    return {"weights": weights.astype(np.float32), "uniform": rng.uniform(size=LENGTH)}


def markov_chain(torch: ModuleType, data: Arrays) -> Case:
    weights = torch.tensor(data["weights"])
    uniform = data["uniform"].tolist()

    def step() -> Results:
        state, visited = 0, []
        for u in uniform:
            row = weights[state] * 0.5
            steps = torch.cumsum(row / row.sum(), 0)
            state = min((steps < u).sum().item(), 4)
            visited.append(state)
        return (np.array(visited),)

    return repeatable(step)


def _workload(name: str, title: str, make, builder) -> Workload:
    return Workload(
        name=name,
        title=title,
        target=1.0,
        peers=("torch",),
        make=make,
        builders={"adjoint": builder, "torch": builder},
        rtol=1e-5,
        atol=(1e-6,),
    )


ELEMENT_READS = _workload("element_reads", "300 elements of a tensor read with x[i].item()", make_elements, element_reads)
ELEMENT_WRITES = _workload("element_writes", "300 elements of a tensor written with x[i] = number", make_elements, element_writes)
ELEMENT_LOOP = _workload("element_loop", "300 elements of a tensor read by a loop over it", make_elements, element_loop)
ELEMENT_FILL = _workload("element_fill", "a new tensor filled by x[i] = number, 300 times, and summed", make_elements, element_fill)
MARKOV_CHAIN = _workload("markov_chain", "a Markov chain of 300 steps, a number read after every six operations", make_chain, markov_chain)
