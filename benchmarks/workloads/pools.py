"""Pooling of 32 images of 64 channels and 28x28 pixels: maxima, means and adaptive means, forward and backward."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Builder, Case, Results, Workload, repeatable

IMAGES, CHANNELS, SIDE = 32, 64, 28
BYTES = 4 * IMAGES * CHANNELS * SIDE * SIDE


def make(rng: np.random.Generator) -> Arrays:
    return {"x": rng.standard_normal((IMAGES, CHANNELS, SIDE, SIDE), dtype=np.float32)}


def _eager(name: str, *options: int) -> Builder:
    def build(torch: ModuleType, data: Arrays) -> Case:
        x = torch.tensor(data["x"], requires_grad=True)
        pool = getattr(torch.nn.functional, name)
        g = torch.ones_like(pool(x, *options).detach())

        def step() -> Results:
            x.grad = None
            out = pool(x, *options)
            out.backward(g)
            return [out.detach().numpy(), x.grad.numpy()]

        return repeatable(step)

    return build


def _workload(name: str, title: str, function: str, *options: int) -> Workload:
    build = _eager(function, *options)
    return Workload(
        name=name,
        title=f"{title} at 32x64x28x28, forward and backward",
        target=1.0,
        peers=("torch",),
        make=make,
        builders={"adjoint": build, "torch": build},
        rtol=1e-5,
        atol=(1e-6,),
        bytes_touched=2 * BYTES,
    )


MAX_POOL = _workload("max_pool", "max_pool2d of 2x2", "max_pool2d", 2)
MAX_POOL_OVERLAPPING = _workload("max_pool_overlapping", "max_pool2d of 3x3 every 2", "max_pool2d", 3, 2, 1)
AVG_POOL = _workload("avg_pool", "avg_pool2d of 2x2", "avg_pool2d", 2)
ADAPTIVE_POOL = _workload("adaptive_pool", "adaptive_avg_pool2d to 7x7", "adaptive_avg_pool2d", 7)
