"""Linear regression from scratch: one minibatch step as a text book writes it.

The loop is the one of the courses: shuffle the indices, take ten, predict, square, differentiate,
update in place. The start of the slice changes at every step, and nothing is read until the end.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Ask, Case, Workload

ROWS, BATCH, RATE = 1000, 10, 0.03


def make(rng: np.random.Generator) -> Arrays:
    X = rng.normal(size=(ROWS, 2)).astype(np.float32)
    y = X @ np.array([[2.0], [-3.4]], np.float32) + 4.2 + rng.normal(0, 0.01, (ROWS, 1))
    w = rng.normal(0, 0.01, (2, 1)).astype(np.float32)
    return {"X": X, "y": y.astype(np.float32), "w": w, "order": rng.permutation(ROWS)}


def eager(torch: ModuleType, data: Arrays, batch_size: int = BATCH) -> Case:
    X, y, order = (torch.tensor(data[name]) for name in ("X", "y", "order"))
    w = torch.tensor(data["w"], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    start = 0

    def step():
        nonlocal start
        batch = order[start : start + batch_size]
        loss = ((torch.matmul(X[batch], w) + b - y[batch]) ** 2 / 2).sum()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= RATE * p.grad / batch_size
                p.grad.zero_()
        start = start + batch_size if start + batch_size < ROWS else 0
        return loss

    # A clone is read, since an array that shares a parameter's memory outlives the reading.
    return Case(step, lambda: [p.detach().clone().numpy() for p in (w, b)])


def compiled(torch: ModuleType, data: Arrays) -> Case:
    """The same step as a function of the place where the batch begins."""
    X, y, order = (torch.tensor(data[name]) for name in ("X", "y", "order"))
    w = torch.tensor(data["w"], requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    start = 0

    @torch.compile
    def update(start):
        batch = order[start : start + BATCH]
        loss = ((torch.matmul(X[batch], w) + b - y[batch]) ** 2 / 2).sum()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= RATE * p.grad / BATCH
                p.grad.zero_()
        return loss

    def step():
        nonlocal start
        update(start)
        start = start + BATCH if start + BATCH < ROWS else 0

    return Case(step, lambda: [p.detach().clone().numpy() for p in (w, b)])


def by_hand(np: ModuleType, data: Arrays) -> Case:
    X, y, order = data["X"], data["y"], data["order"]
    w, b = data["w"].copy(), np.zeros(1, np.float32)
    start = 0

    def step() -> None:
        nonlocal start
        batch = order[start : start + BATCH]
        inputs = X[batch]
        error = np.matmul(inputs, w) + b - y[batch]
        (error**2 / 2).sum()
        w[...] -= RATE * (inputs.T @ error) / BATCH
        b[...] -= RATE * error.sum(0) / BATCH
        start = start + BATCH if start + BATCH < ROWS else 0

    return Case(step, lambda: [w, b])


def jitted(jax: ModuleType, data: Arrays) -> Case:
    jnp = jax.numpy
    X, y, order = (jnp.asarray(data[name]) for name in ("X", "y", "order"))
    params = (jnp.asarray(data["w"]), jnp.zeros(1, jnp.float32))
    start = 0

    def loss(params, inputs, wanted):
        w, b = params
        return ((jnp.matmul(inputs, w) + b - wanted) ** 2 / 2).sum()

    @jax.jit
    def update(params, X, y, order, start):
        batch = jax.lax.dynamic_slice(order, (start,), (BATCH,))
        slopes = jax.grad(loss)(params, X[batch], y[batch])
        return tuple(p - RATE * slope / BATCH for p, slope in zip(params, slopes, strict=True))

    def step() -> None:
        nonlocal params, start
        params = update(params, X, y, order, start)
        start = start + BATCH if start + BATCH < ROWS else 0

    return Case(step, lambda: [np.asarray(p) for p in params])


LINREG = Workload(
    name="linreg",
    title="linear regression minibatch step from scratch (index, matmul, loss, backward, update)",
    target=4.0,
    peers=("torch",),
    further=(Ask(1.0, ("jax",), "adjoint.compile"),),
    make=make,
    builders={"adjoint": eager, "adjoint.compile": compiled, "numpy": by_hand, "torch": eager, "jax": jitted},
    rtol=1e-4,
    atol=(1e-5,),
    check_steps=150,  # one pass over the rows and half of the next
    repeats=False,
)
