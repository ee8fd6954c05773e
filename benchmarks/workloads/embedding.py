"""4096 rows of a table of 10000x128 looked up, and the gradient added into the rows they came from."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Builder, Case, Results, Workload, repeatable

ROWS, WIDTH, LOOKED_UP = 10_000, 128, 4096


def make(rng: np.random.Generator) -> Arrays:
    return {
        "table": rng.standard_normal((ROWS, WIDTH), dtype=np.float32),
        "ids": rng.integers(0, ROWS, LOOKED_UP),
        "g": rng.standard_normal((LOOKED_UP, WIDTH), dtype=np.float32),
    }


def _with(torch: ModuleType, data: Arrays, function) -> Case:
    table = torch.tensor(data["table"], requires_grad=True)
    ids, g = torch.tensor(data["ids"]), torch.tensor(data["g"])

    def step() -> Results:
        table.grad = None
        out = function(ids, table)
        out.backward(g)
        return [out.detach().numpy(), table.grad.numpy()]

    return repeatable(step)


def eager(torch: ModuleType, data: Arrays) -> Case:
    return _with(torch, data, torch.nn.functional.embedding)


def compiled(torch: ModuleType, data: Arrays) -> Case:
    return _with(torch, data, torch.compile(lambda ids, table: torch.nn.functional.embedding(ids, table)))


def by_hand(np: ModuleType, data: Arrays) -> Case:
    table, ids, g = (data[name] for name in ("table", "ids", "g"))

    def step() -> Results:
        slope = np.zeros_like(table)
        np.add.at(slope, ids, g)
        return [table[ids], slope]

    return repeatable(step)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    table, ids, g = (jax.numpy.asarray(data[name]) for name in ("table", "ids", "g"))

    @jax.jit
    def both(table, g):
        out, pull = jax.vjp(lambda table: table[ids], table)
        return out, *pull(g)

    return repeatable(lambda: [np.asarray(v) for v in jax.block_until_ready(both(table, g))])


_BUILDERS: dict[str, Builder] = {"adjoint": eager, "numpy": by_hand, "torch": eager, "torch.compile": compiled, "jax": jitted}

EMBEDDING = Workload(
    name="embedding",
    title="embedding of 4096 in 10000x128, forward and backward",
    target=1.0,
    peers=("numpy", "torch", "torch.compile", "jax"),
    make=make,
    builders=_BUILDERS,
    rtol=1e-5,
    atol=(0.0, 1e-5),
    bytes_touched=4 * WIDTH * (3 * LOOKED_UP + ROWS),
)
