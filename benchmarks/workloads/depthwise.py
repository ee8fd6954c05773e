"""Depthwise convolutions as mobile networks have them: 5x5 taps, 8 images of 384 channels and 14x14 pixels.

The result alone, or both gradients for a given cotangent, with the channels first, as PyTorch's layers take them, and last, as
networks have them whose other layers are linear (the image is permuted before the layer and after).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

IMAGES, CHANNELS, SIDE, KERNEL = 8, 384, 14, 5
BYTES = 4 * IMAGES * CHANNELS * SIDE * SIDE


def make(rng: np.random.Generator) -> Arrays:
    shape = (IMAGES, CHANNELS, SIDE, SIDE)
    return {
        "x": rng.standard_normal(shape, dtype=np.float32),
        "weight": rng.normal(0, 1 / KERNEL, (CHANNELS, 1, KERNEL, KERNEL)).astype(np.float32),
        "g": rng.standard_normal(shape, dtype=np.float32),
    }


def make_last(rng: np.random.Generator) -> Arrays:
    made = make(rng)
    return {name: np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if name != "weight" else a for name, a in made.items()}


def _layer(torch: ModuleType, last: bool) -> Any:
    def layer(x, weight):
        given = x.permute(0, 3, 1, 2) if last else x
        out = torch.nn.functional.conv2d(given, weight, padding=KERNEL // 2, groups=CHANNELS)
        return out.permute(0, 2, 3, 1) if last else out

    return layer


def _jax_layer(jax: ModuleType, last: bool) -> Any:
    def layer(x, weight):
        order = ("NHWC", "OIHW", "NHWC") if last else ("NCHW", "OIHW", "NCHW")
        return jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=order, feature_group_count=CHANNELS)

    return layer


def _forward(torch: ModuleType, data: Arrays, function: Any) -> Case:
    x, weight = torch.tensor(data["x"]), torch.tensor(data["weight"])
    return repeatable(lambda: [function(x, weight).numpy()])


def _gradients(torch: ModuleType, data: Arrays, function: Any) -> Case:
    inputs = [torch.tensor(data[name], requires_grad=True) for name in ("x", "weight")]
    g = torch.tensor(data["g"])

    def step() -> Results:
        for leaf in inputs:
            leaf.grad = None
        out = function(*inputs)
        out.backward(g)
        return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in inputs)]

    return repeatable(step)


def _builders(last: bool, gradients: bool) -> dict[str, Any]:
    run = _gradients if gradients else _forward

    def eager(torch: ModuleType, data: Arrays) -> Case:
        return run(torch, data, _layer(torch, last))

    def compiled(torch: ModuleType, data: Arrays) -> Case:
        return run(torch, data, torch.compile(_layer(torch, last)))

    def jitted(jax: ModuleType, data: Arrays) -> Case:
        x, weight, g = (jax.numpy.asarray(data[name]) for name in ("x", "weight", "g"))
        layer = _jax_layer(jax, last)

        def both(g, x, weight):
            out, pull = jax.vjp(layer, x, weight)
            return out, *pull(g)

        function = jax.jit(both if gradients else lambda g, x, weight: (layer(x, weight),))
        return repeatable(lambda: [np.asarray(v) for v in jax.block_until_ready(function(g, x, weight))])

    return {"adjoint": eager, "torch": eager, "torch.compile": compiled, "jax": jitted}


def _workload(name: str, title: str, last: bool, gradients: bool) -> Workload:
    return Workload(
        name=name, title=f"depthwise conv2d 5x5 at {IMAGES}x{CHANNELS}x{SIDE}x{SIDE}, {title}", target=1.2,
        peers=("torch", "torch.compile", "jax"), make=make_last if last else make, builders=_builders(last, gradients), rtol=1e-4,
        atol=(1e-5, 1e-5, 1e-3) if gradients else (1e-5,), bytes_touched=(4 if gradients else 2) * BYTES,
    )  # fmt: skip


DEPTHWISE = (
    _workload("depthwise", "forward", False, False),
    _workload("depthwise_grad", "forward and backward", False, True),
    _workload("depthwise_last", "channels last, forward", True, False),
    _workload("depthwise_last_grad", "channels last, forward and backward", True, True),
)
