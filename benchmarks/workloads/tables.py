"""Tables that are filled element by element, as dynamic programming is written down in books.

Every place is made of places that were written before it: many small steps, of which each writes a tensor into another.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

SIDE, SHORT, LONG = 20, 10, 12
STEPS, STATES = 30, 5


def make_costs(rng: np.random.Generator) -> Arrays:
    return {"costs": rng.uniform(size=(SIDE, SIDE)).astype(np.float32)}


def cheapest(torch: ModuleType, data: Arrays) -> Case:
    costs = torch.tensor(data["costs"])

    def step() -> Results:
        table = torch.zeros(SIDE + 1, SIDE + 1)
        for i in range(1, SIDE + 1):
            for j in range(1, SIDE + 1):
                before = torch.min(torch.min(table[i - 1, j], table[i, j - 1]), table[i - 1, j - 1])
                table[i, j] = costs[i - 1, j - 1] + before
        return (np.float32(table[SIDE, SIDE].item()),)

    return repeatable(step)


def make_series(rng: np.random.Generator) -> Arrays:
    return {"a": rng.normal(size=(SHORT, 2)).astype(np.float32), "b": rng.normal(size=(8, LONG, 2)).astype(np.float32)}


def soft_alignment(torch: ModuleType, data: Arrays) -> Case:
    """Soft dynamic time warping (Cuturi and Blondel, 2017) and its gradient in one of the series; another one every time."""
    a, others = torch.tensor(data["a"], requires_grad=True), torch.tensor(data["b"])
    turn = 0
    found: list[Any] = []

    def step() -> None:
        nonlocal turn
        a.grad = None
        distances = ((a[:, None] - others[turn % len(others)][None]) ** 2).sum(-1)
        turn += 1
        table = torch.full((SHORT + 1, LONG + 1), 1e8)
        table[0, 0] = 0.0
        for i in range(1, SHORT + 1):
            for j in range(1, LONG + 1):
                before = torch.stack([table[i - 1, j], table[i, j - 1], table[i - 1, j - 1]])
                table[i, j] = distances[i - 1, j - 1] - torch.logsumexp(-before, 0)
        loss = table[SHORT, LONG]
        loss.backward()
        found[:] = [np.float32(loss.item()), a.grad.numpy().copy()]

    return Case(step, lambda: found)


def make_chain(rng: np.random.Generator) -> Arrays:
    return {"seen": rng.normal(size=(STEPS, STATES)).astype(np.float32), "moves": rng.normal(size=(STATES, STATES)).astype(np.float32)}


def likeliest(torch: ModuleType, data: Arrays) -> Case:
    """The likeliest path through a hidden Markov model (Viterbi), state by state."""
    seen, moves = torch.tensor(data["seen"]), torch.tensor(data["moves"])

    def step() -> Results:
        best, came = seen[0], []
        for t in range(1, STEPS):
            scores, origins = [], []
            for s in range(STATES):
                ways = best + moves[:, s]
                origin = int(ways.argmax())
                scores.append(ways[origin] + seen[t, s])
                origins.append(origin)
            best = torch.stack(scores)
            came.append(origins)
        return (np.float32(best.max().item()), np.array(came))

    return repeatable(step)


def _workload(name: str, title: str, make: Any, build: Any, repeats: bool = True) -> Workload:
    return Workload(
        name=name, title=title, target=1.0, peers=("torch",), make=make, builders={"adjoint": build, "torch": build}, rtol=1e-4, atol=(1e-4,),
        check_steps=8, repeats=repeats,
    )  # fmt: skip


TABLES = (
    _workload("cheapest_path", "the cheapest way through a table of 20 x 20, written place by place", make_costs, cheapest),
    _workload("soft_alignment", "soft dynamic time warping of 10 by 12 points, place by place, with its gradient", make_series, soft_alignment, False),
    _workload("likeliest_path", "the likeliest path of 30 steps through 5 states, an argmax read for each", make_chain, likeliest),
)
