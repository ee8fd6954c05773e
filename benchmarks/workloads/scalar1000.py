"""A graph of 1,000 scalar additions and multiplications, as courses on autograd build it.

Two chains feed each other, so both leaves collect a gradient from every level of the graph.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

LEVELS = 250  # of four operations each


def make(rng: np.random.Generator) -> Arrays:
    return {"a": np.float32(rng.uniform(0.3, 0.4)), "b": np.float32(rng.uniform(0.4, 0.5))}


def chains(a, b):
    """The value of the graph; all factors are below one, so nothing grows without bound."""
    u, v = b, a
    for _ in range(LEVELS):
        u = u * a + b
        v = v * u + a
    return v


def eager(torch: ModuleType, data: Arrays) -> Case:
    a = torch.tensor(float(data["a"]), requires_grad=True)
    b = torch.tensor(float(data["b"]), requires_grad=True)

    def step() -> Results:
        a.grad = b.grad = None
        out = chains(a, b)
        out.backward()
        return np.float32(out.item()), np.float32(a.grad.item()), np.float32(b.grad.item())

    return repeatable(step)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    a, b = jax.numpy.float32(data["a"]), jax.numpy.float32(data["b"])
    both = jax.jit(jax.value_and_grad(chains, argnums=(0, 1)))

    def step() -> Results:
        out, (da, db) = both(a, b)
        return np.float32(out.item()), np.float32(da.item()), np.float32(db.item())

    return repeatable(step)


SCALAR1000 = Workload(
    name="scalar1000",
    title="scalar graph of 1,000 additions and multiplications, backward, gradients read",
    target=4.0,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "torch": eager, "jax": jitted},
    rtol=1e-4,
    atol=(1e-6,),
)
