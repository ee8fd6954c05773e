"""Functional transforms: a Hessian (forward over reverse, vectorised), and one gradient for each sample of a batch.

Both are made of many small operations, so the figures are the price of transforming, not of arithmetic.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

DIMENSIONS = 10
SAMPLES, FEATURES, HIDDEN, CLASSES = 64, 20, 32, 10
NAMES = ("w1", "b1", "w2", "b2")


def make_point(rng: np.random.Generator) -> Arrays:
    return {"x": rng.uniform(-1.5, 1.5, DIMENSIONS).astype(np.float32)}


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def hessian(torch: ModuleType, data: Arrays) -> Case:
    x = torch.tensor(data["x"])
    return repeatable(lambda: [torch.func.hessian(rosenbrock)(x).numpy()])


def hessian_jitted(jax: ModuleType, data: Arrays) -> Case:
    x, whole = jax.numpy.asarray(data["x"]), jax.jit(jax.hessian(rosenbrock))
    return repeatable(lambda: [np.asarray(jax.block_until_ready(whole(x)))])


def hessian_by_hand(np: ModuleType, data: Arrays) -> Case:
    x = data["x"]

    def step() -> Results:
        diagonal = np.zeros_like(x)
        diagonal[:-1] = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
        diagonal[1:] += 200
        beside = -400 * x[:-1]
        return [np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)]

    return repeatable(step)


def make_batch(rng: np.random.Generator) -> Arrays:
    return {
        "w1": rng.standard_normal((HIDDEN, FEATURES), dtype=np.float32) / 4,
        "b1": rng.standard_normal(HIDDEN, dtype=np.float32) / 4,
        "w2": rng.standard_normal((CLASSES, HIDDEN), dtype=np.float32) / 4,
        "b2": rng.standard_normal(CLASSES, dtype=np.float32) / 4,
        "x": rng.standard_normal((SAMPLES, FEATURES), dtype=np.float32),
        "y": rng.integers(0, CLASSES, SAMPLES),
    }


def per_sample(torch: ModuleType, data: Arrays) -> Case:
    weights = {name: torch.tensor(data[name]) for name in NAMES}
    x, y = torch.tensor(data["x"]), torch.tensor(data["y"])

    def loss(weights, x, y):
        hidden = torch.tanh(torch.nn.functional.linear(x, weights["w1"], weights["b1"]))
        scores = torch.nn.functional.linear(hidden, weights["w2"], weights["b2"])
        return torch.nn.functional.cross_entropy(scores.unsqueeze(0), y.unsqueeze(0))

    def step() -> Results:
        slopes = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, x, y)
        return [slopes[name].numpy() for name in NAMES]

    return repeatable(step)


def per_sample_jitted(jax: ModuleType, data: Arrays) -> Case:
    weights = {name: jax.numpy.asarray(data[name]) for name in NAMES}
    x, y = jax.numpy.asarray(data["x"]), jax.numpy.asarray(data["y"])

    def loss(weights, x, y):
        hidden = jax.numpy.tanh(weights["w1"] @ x + weights["b1"])
        return -jax.nn.log_softmax(weights["w2"] @ hidden + weights["b2"])[y]

    whole = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0, 0)))

    def step() -> Results:
        slopes = jax.block_until_ready(whole(weights, x, y))
        return [np.asarray(slopes[name]) for name in NAMES]

    return repeatable(step)


def per_sample_by_hand(np: ModuleType, data: Arrays) -> Case:
    w1, b1, w2, b2, x, y = (data[name] for name in (*NAMES, "x", "y"))
    rows = np.arange(SAMPLES)

    def step() -> Results:
        hidden = np.tanh(x @ w1.T + b1)
        scores = hidden @ w2.T + b2
        of_scores = np.exp(scores - scores.max(1, keepdims=True))
        of_scores /= of_scores.sum(1, keepdims=True)
        of_scores[rows, y] -= 1
        of_hidden = of_scores @ w2 * (1 - hidden * hidden)
        return [of_hidden[:, :, None] * x[:, None], of_hidden, of_scores[:, :, None] * hidden[:, None], of_scores]

    return repeatable(step)


HESSIAN = Workload(
    name="hessian",
    title="Hessian of the Rosenbrock function in 10 dimensions",
    target=3.0,
    peers=("torch",),
    make=make_point,
    builders={"adjoint": hessian, "numpy": hessian_by_hand, "torch": hessian, "jax": hessian_jitted},
    rtol=1e-4,
    atol=(1e-2,),
)

PER_SAMPLE = Workload(
    name="per_sample_grads",
    title="gradients of an MLP 20-32-10 for each of 64 samples",
    target=3.0,
    peers=("torch",),
    make=make_batch,
    builders={"adjoint": per_sample, "numpy": per_sample_by_hand, "torch": per_sample, "jax": per_sample_jitted},
    rtol=1e-4,
    atol=(1e-5,),
)
