"""A 3x3 convolution of 32 images of 64 channels and 28x28 pixels to 64 channels, alone and with its gradients.

The result, and in the second workload both gradients for a given cotangent, are delivered. This is the layer in which
convolutional networks spend their time; it is limited by multiplications and not by memory.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

IMAGES, CHANNELS, SIDE, KERNEL = 32, 64, 28, 3
BYTES = 4 * IMAGES * CHANNELS * SIDE * SIDE


def make(rng: np.random.Generator) -> Arrays:
    shape = (IMAGES, CHANNELS, SIDE, SIDE)
    spread = 1 / np.sqrt(CHANNELS * KERNEL * KERNEL)
    return {
        "x": rng.standard_normal(shape, dtype=np.float32),
        "weight": rng.normal(0, spread, (CHANNELS, CHANNELS, KERNEL, KERNEL)).astype(np.float32),
        "g": rng.standard_normal(shape, dtype=np.float32),
    }


def convolve(torch: ModuleType, x, weight):
    return torch.nn.functional.conv2d(x, weight, padding=1)


def _forward(torch: ModuleType, data: Arrays, function) -> Case:
    x, weight = torch.tensor(data["x"]), torch.tensor(data["weight"])
    return repeatable(lambda: [function(x, weight).numpy()])


def _with_cotangent(torch: ModuleType, data: Arrays, function) -> Case:
    inputs = [torch.tensor(data[name], requires_grad=True) for name in ("x", "weight")]
    g = torch.tensor(data["g"])

    def step() -> Results:
        for leaf in inputs:
            leaf.grad = None
        out = function(*inputs)
        out.backward(g)
        return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in inputs)]

    return repeatable(step)


def eager(torch: ModuleType, data: Arrays) -> Case:
    return _forward(torch, data, lambda x, weight: convolve(torch, x, weight))


def compiled(torch: ModuleType, data: Arrays) -> Case:
    return _forward(torch, data, torch.compile(lambda x, weight: convolve(torch, x, weight)))


def eager_gradients(torch: ModuleType, data: Arrays) -> Case:
    return _with_cotangent(torch, data, lambda x, weight: convolve(torch, x, weight))


def compiled_gradients(torch: ModuleType, data: Arrays) -> Case:
    return _with_cotangent(torch, data, torch.compile(lambda x, weight: convolve(torch, x, weight)))


def jitted(jax: ModuleType, data: Arrays) -> Case:
    x, weight = (jax.numpy.asarray(data[name]) for name in ("x", "weight"))
    function = jax.jit(lambda x, weight: jax.lax.conv(x, weight, (1, 1), "SAME"))
    return repeatable(lambda: [np.asarray(jax.block_until_ready(function(x, weight)))])


def jitted_gradients(jax: ModuleType, data: Arrays) -> Case:
    inputs = [jax.numpy.asarray(data[name]) for name in ("x", "weight")]
    g = jax.numpy.asarray(data["g"])

    @jax.jit
    def both(g, *inputs):
        out, pull = jax.vjp(lambda x, weight: jax.lax.conv(x, weight, (1, 1), "SAME"), *inputs)
        return out, *pull(g)

    return repeatable(lambda: [np.asarray(v) for v in jax.block_until_ready(both(g, *inputs))])


CONV2D = Workload(
    name="conv2d",
    title="conv2d 3x3 at 32x64x28x28, forward",
    target=1.2,
    peers=("torch", "torch.compile", "jax"),
    make=make,
    builders={"adjoint": eager, "torch": eager, "torch.compile": compiled, "jax": jitted},
    rtol=1e-4,
    atol=(1e-5,),
    bytes_touched=2 * BYTES,
)

CONV2D_GRAD = Workload(
    name="conv2d_grad",
    title="conv2d 3x3 at 32x64x28x28, forward and backward",
    target=1.2,
    peers=("torch", "torch.compile", "jax"),
    make=make,
    builders={
        "adjoint": eager_gradients,
        "torch": eager_gradients,
        "torch.compile": compiled_gradients,
        "jax": jitted_gradients,
    },
    rtol=1e-4,
    # The gradient of the weights adds 25,088 terms of both signs.
    atol=(1e-5, 1e-5, 2e-3),
    bytes_touched=4 * BYTES,
)
