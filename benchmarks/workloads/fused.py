"""One expression over 1e7 elements, alone and with its three gradients: can the memory keep up?

Done one operation at a time, every intermediate travels to memory and back. Fused, only the inputs
and the results do, and the time is the memory's.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

SIZE = 10_000_000


def make(rng: np.random.Generator) -> Arrays:
    return {name: rng.standard_normal(SIZE, dtype=np.float32) for name in "xyz"}


def expression(torch: ModuleType, x, y, z):
    return (torch.tanh(x) * y + z * torch.exp(-x * x)).sum()


def eager(torch: ModuleType, data: Arrays) -> Case:
    x, y, z = (torch.tensor(data[name]) for name in "xyz")
    return repeatable(lambda: (np.float32(expression(torch, x, y, z).item()),))


def eager_grad(torch: ModuleType, data: Arrays) -> Case:
    return _with_gradients(torch, data, lambda x, y, z: expression(torch, x, y, z))


def compiled(torch: ModuleType, data: Arrays) -> Case:
    x, y, z = (torch.tensor(data[name]) for name in "xyz")
    function = torch.compile(lambda x, y, z: expression(torch, x, y, z))
    return repeatable(lambda: (np.float32(function(x, y, z).item()),))


def compiled_grad(torch: ModuleType, data: Arrays) -> Case:
    return _with_gradients(torch, data, torch.compile(lambda x, y, z: expression(torch, x, y, z)))


def _with_gradients(torch: ModuleType, data: Arrays, function) -> Case:
    x, y, z = (torch.tensor(data[name], requires_grad=True) for name in "xyz")

    def step() -> Results:
        x.grad = y.grad = z.grad = None
        out = function(x, y, z)
        out.backward()
        return np.float32(out.item()), x.grad.numpy(), y.grad.numpy(), z.grad.numpy()

    return repeatable(step)


def jitted(jax: ModuleType, data: Arrays) -> Case:
    x, y, z = (jax.numpy.asarray(data[name]) for name in "xyz")
    function = jax.jit(lambda x, y, z: expression(jax.numpy, x, y, z))
    return repeatable(lambda: (np.float32(function(x, y, z).item()),))


def jitted_grad(jax: ModuleType, data: Arrays) -> Case:
    x, y, z = (jax.numpy.asarray(data[name]) for name in "xyz")
    both = jax.jit(
        jax.value_and_grad(lambda x, y, z: expression(jax.numpy, x, y, z), argnums=(0, 1, 2))
    )

    def step() -> Results:
        out, slopes = jax.block_until_ready(both(x, y, z))
        return np.float32(out.item()), *(np.asarray(g) for g in slopes)

    return repeatable(step)


def by_hand(np: ModuleType, data: Arrays) -> Case:
    x, y, z = (data[name] for name in "xyz")
    return repeatable(lambda: (np.float32(expression(np, x, y, z)),))


def by_hand_grad(np: ModuleType, data: Arrays) -> Case:
    x, y, z = (data[name] for name in "xyz")

    def step() -> Results:
        t, e = np.tanh(x), np.exp(-x * x)
        out = np.float32((t * y + z * e).sum())
        return out, (1 - t * t) * y - 2 * x * e * z, t, e

    return repeatable(step)


FUSED = Workload(
    name="fused",
    title="`(tanh(x)*y + z*exp(-x*x)).sum()` at 1e7 float32",
    target=1.7,
    peers=("torch.compile", "jax"),
    make=make,
    builders={
        "adjoint": eager,
        "numpy": by_hand,
        "torch": eager,
        "torch.compile": compiled,
        "jax": jitted,
    },
    # The sum of 1e7 terms of both signs is small beside them; float32 sums differ by their order.
    rtol=1e-4,
    atol=(0.5, 1e-5),
    bytes_touched=3 * 4 * SIZE,
)

FUSED_GRAD = Workload(
    name="fused_grad",
    title="the same with the gradients of x, y and z",
    target=1.3,
    peers=("torch.compile", "jax"),
    make=make,
    builders={
        "adjoint": eager_grad,
        "numpy": by_hand_grad,
        "torch": eager_grad,
        "torch.compile": compiled_grad,
        "jax": jitted_grad,
    },
    rtol=1e-4,
    atol=(0.5, 1e-5),
    bytes_touched=6 * 4 * SIZE,
)
