"""Twenty pointwise operations on four elements: what one tiny operation costs.

There is next to no arithmetic here, so the figure is the price of being asked.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable


def make(rng: np.random.Generator) -> Arrays:
    return {name: rng.normal(size=4).astype(np.float32) for name in "xab"}


def eager(torch: ModuleType, data: Arrays) -> Case:
    x = torch.tensor(data["x"], requires_grad=True)
    a, b = torch.tensor(data["a"]), torch.tensor(data["b"])

    def step() -> Results:
        x.grad = None
        v = x
        for _ in range(10):
            v = v * b + a
        v.sum().backward()
        return (x.grad.numpy(),)

    return repeatable(step)


def by_hand(np: ModuleType, data: Arrays) -> Case:
    x, a, b = data["x"], data["a"], data["b"]

    def step() -> Results:
        v = x
        for _ in range(10):
            v = v * b + a
        v.sum()
        g = np.ones_like(v)
        for _ in range(10):
            g = g * b
        return (g,)

    return repeatable(step)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    x, a, b = (jax.numpy.asarray(data[name]) for name in "xab")

    def total(x, a, b):
        v = x
        for _ in range(10):
            v = v * b + a
        return v.sum()

    gradient = jax.jit(jax.grad(total))
    return repeatable(lambda: (np.asarray(gradient(x, a, b)),))


POINTWISE20 = Workload(
    name="pointwise20",
    title="20 pointwise operations on 4 elements, forward, backward, gradient read",
    target=4.0,
    peers=("torch",),
    make=make,
    builders={"adjoint": eager, "numpy": by_hand, "torch": eager, "jax": jitted},
    rtol=1e-5,
    atol=(1e-6,),
)
