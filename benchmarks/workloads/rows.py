"""Softmax, layer norm and cross-entropy over the rows of a 4096x1024 matrix, forward and backward.

A row fits into the nearest cache, so each can be one pass over memory per direction. The forward
result and the gradients are both delivered; the cotangent of softmax and layer norm is given.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Ask, Case, Results, Workload, repeatable

ROWS, COLUMNS = 4096, 1024
MATRIX_BYTES = 4 * ROWS * COLUMNS
EPS = 1e-5


def make(rng: np.random.Generator) -> Arrays:
    return {
        "x": rng.standard_normal((ROWS, COLUMNS), dtype=np.float32),
        "g": rng.standard_normal((ROWS, COLUMNS), dtype=np.float32),
        "weight": rng.standard_normal(COLUMNS, dtype=np.float32),
        "bias": rng.standard_normal(COLUMNS, dtype=np.float32),
        "classes": rng.integers(0, COLUMNS, ROWS),
    }


def softmax(torch: ModuleType, x):
    return torch.softmax(x, 1)


def layer_norm(torch: ModuleType, x, weight, bias):
    return torch.nn.functional.layer_norm(x, (COLUMNS,), weight, bias, EPS)


def cross_entropy(torch: ModuleType, x, classes):
    return torch.nn.functional.cross_entropy(x, classes)


def eager_softmax(torch: ModuleType, data: Arrays) -> Case:
    return _with_cotangent(torch, data, lambda x: softmax(torch, x), ("x",))


def compiled_softmax(torch: ModuleType, data: Arrays) -> Case:
    return _with_cotangent(torch, data, torch.compile(lambda x: softmax(torch, x)), ("x",))


def eager_layer_norm(torch: ModuleType, data: Arrays) -> Case:
    names = ("x", "weight", "bias")
    return _with_cotangent(torch, data, lambda *inputs: layer_norm(torch, *inputs), names)


def compiled_layer_norm(torch: ModuleType, data: Arrays) -> Case:
    function = torch.compile(lambda x, weight, bias: layer_norm(torch, x, weight, bias))
    return _with_cotangent(torch, data, function, ("x", "weight", "bias"))


def _with_cotangent(torch: ModuleType, data: Arrays, function, names: tuple[str, ...]) -> Case:
    inputs = [torch.tensor(data[name], requires_grad=True) for name in names]
    g = torch.tensor(data["g"])

    def step() -> Results:
        for leaf in inputs:
            leaf.grad = None
        out = function(*inputs)
        out.backward(g)
        return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in inputs)]

    return repeatable(step)


def eager_cross_entropy(torch: ModuleType, data: Arrays) -> Case:
    return _with_loss(torch, data, lambda x, classes: cross_entropy(torch, x, classes))


def compiled_cross_entropy(torch: ModuleType, data: Arrays) -> Case:
    return _with_loss(
        torch, data, torch.compile(lambda x, classes: cross_entropy(torch, x, classes))
    )


def _with_loss(torch: ModuleType, data: Arrays, function) -> Case:
    x = torch.tensor(data["x"], requires_grad=True)
    classes = torch.tensor(data["classes"])

    def step() -> Results:
        x.grad = None
        loss = function(x, classes)
        loss.backward()
        return np.float32(loss.item()), x.grad.numpy()

    return repeatable(step)


def jitted_softmax(jax: ModuleType, data: Arrays) -> Case:
    return _pulled_back(jax, data, lambda x: jax.nn.softmax(x, axis=1), ("x",))


def jitted_layer_norm(jax: ModuleType, data: Arrays) -> Case:
    def function(x, weight, bias):
        centred = x - x.mean(1, keepdims=True)
        variance = (centred * centred).mean(1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPS) * weight + bias

    return _pulled_back(jax, data, function, ("x", "weight", "bias"))


def _pulled_back(jax: ModuleType, data: Arrays, function, names: tuple[str, ...]) -> Case:
    inputs = [jax.numpy.asarray(data[name]) for name in names]
    g = jax.numpy.asarray(data["g"])

    @jax.jit
    def both(g, *inputs):
        out, pull = jax.vjp(function, *inputs)
        return out, *pull(g)

    return repeatable(lambda: [np.asarray(v) for v in jax.block_until_ready(both(g, *inputs))])


def jitted_cross_entropy(jax: ModuleType, data: Arrays) -> Case:
    x, classes = jax.numpy.asarray(data["x"]), jax.numpy.asarray(data["classes"])

    def function(x, classes):
        return -jax.nn.log_softmax(x)[jax.numpy.arange(ROWS), classes].mean()

    both = jax.jit(jax.value_and_grad(function))

    def step() -> Results:
        loss, slope = jax.block_until_ready(both(x, classes))
        return np.float32(loss.item()), np.asarray(slope)

    return repeatable(step)


def by_hand_softmax(np: ModuleType, data: Arrays) -> Case:
    x, g = data["x"], data["g"]

    def step() -> Results:
        powers = np.exp(x - x.max(1, keepdims=True))
        out = powers / powers.sum(1, keepdims=True)
        return [out, out * (g - (out * g).sum(1, keepdims=True))]

    return repeatable(step)


def by_hand_layer_norm(np: ModuleType, data: Arrays) -> Case:
    x, g, weight, bias = (data[name] for name in ("x", "g", "weight", "bias"))

    def step() -> Results:
        centred = x - x.mean(1, keepdims=True)
        scale = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + np.float32(EPS))
        normal = centred * scale
        inner = g * weight
        means = inner.mean(1, keepdims=True), (inner * normal).mean(1, keepdims=True)
        slope = scale * (inner - means[0] - normal * means[1])
        return [normal * weight + bias, slope, (g * normal).sum(0), g.sum(0)]

    return repeatable(step)


def by_hand_cross_entropy(np: ModuleType, data: Arrays) -> Case:
    x, classes, rows = data["x"], data["classes"], np.arange(ROWS)

    def step() -> Results:
        shifted = x - x.max(1, keepdims=True)
        powers = np.exp(shifted)
        sums = powers.sum(1, keepdims=True)
        loss = (np.log(sums[:, 0]) - shifted[rows, classes]).mean()
        slope = powers / sums
        slope[rows, classes] -= 1
        return [np.float32(loss), slope / np.float32(ROWS)]

    return repeatable(step)


SOFTMAX = Workload(
    name="softmax",
    title="softmax at 4096x1024, forward and backward",
    target=1.3,
    peers=("torch",),
    further=(Ask(1.0, ("torch", "torch.compile", "jax", "numpy")),),
    make=make,
    builders={
        "adjoint": eager_softmax,
        "numpy": by_hand_softmax,
        "torch": eager_softmax,
        "torch.compile": compiled_softmax,
        "jax": jitted_softmax,
    },
    rtol=1e-4,
    atol=(1e-6,),
    bytes_touched=4 * MATRIX_BYTES,
)

LAYER_NORM = Workload(
    name="layernorm",
    title="layer norm at 4096x1024, forward and backward",
    target=1.3,
    peers=("torch",),
    further=(Ask(1.0, ("torch", "torch.compile", "jax", "numpy")),),
    make=make,
    builders={
        "adjoint": eager_layer_norm,
        "numpy": by_hand_layer_norm,
        "torch": eager_layer_norm,
        "torch.compile": compiled_layer_norm,
        "jax": jitted_layer_norm,
    },
    rtol=1e-4,
    # The gradients of weight and bias add 4,096 terms of both signs.
    atol=(1e-4, 1e-4, 1e-3),
    bytes_touched=4 * MATRIX_BYTES,
)

CROSS_ENTROPY = Workload(
    name="cross_entropy",
    title="cross-entropy at 4096x1024, forward and backward",
    target=1.3,
    peers=("torch",),
    further=(Ask(1.0, ("torch", "torch.compile", "jax", "numpy")),),
    make=make,
    builders={
        "adjoint": eager_cross_entropy,
        "numpy": by_hand_cross_entropy,
        "torch": eager_cross_entropy,
        "torch.compile": compiled_cross_entropy,
        "jax": jitted_cross_entropy,
    },
    rtol=1e-4,
    atol=(1e-6, 1e-8),
    bytes_touched=2 * MATRIX_BYTES,
)
