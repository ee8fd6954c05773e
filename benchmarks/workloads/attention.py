"""Scaled dot-product attention, forward and with its gradients: short and causal, 1,024 positions, 4,096 positions.

Every library has a function for it that does not hold the matrix of scores, or may choose to; the result, and in the second
kind all gradients for a given cotangent, are delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from ..record import Arrays, Case, Results, Workload, repeatable

Shape = tuple[int, int, int, int]  # batch, heads, length, width


def _made(shape: Shape) -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: {name: rng.standard_normal(shape, dtype=np.float32) for name in ("q", "k", "v", "g")}


def _forward(causal: bool, compile_it: bool) -> Callable[[ModuleType, Arrays], Case]:
    def build(torch: ModuleType, data: Arrays) -> Case:
        inputs = [torch.tensor(data[name]) for name in "qkv"]

        def attend(q, k, v):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

        function = torch.compile(attend) if compile_it else attend
        return repeatable(lambda: [function(*inputs).numpy()])

    return build


def _gradients(causal: bool, compile_it: bool) -> Callable[[ModuleType, Arrays], Case]:
    def build(torch: ModuleType, data: Arrays) -> Case:
        inputs = [torch.tensor(data[name], requires_grad=True) for name in "qkv"]
        g = torch.tensor(data["g"])

        def attend(q, k, v):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

        function = torch.compile(attend) if compile_it else attend

        def step() -> Results:
            for leaf in inputs:
                leaf.grad = None
            out = function(*inputs)
            out.backward(g)
            return [out.detach().numpy(), *(leaf.grad.numpy() for leaf in inputs)]

        return repeatable(step)

    return build


def _workload(name: str, shape: Shape, causal: bool, gradients: bool) -> Workload:
    make = _gradients if gradients else _forward
    what = "forward and backward" if gradients else "forward"
    size = 4 * int(np.prod(shape))
    return Workload(
        name=name,
        title=f"{'causal ' * causal}attention at {'x'.join(map(str, shape))}, {what}",
        target=1.2,
        peers=("torch", "torch.compile"),
        make=_made(shape),
        builders={"adjoint": make(causal, False), "torch": make(causal, False), "torch.compile": make(causal, True)},
        rtol=1e-4,
        atol=(1e-5,) + (1e-4,) * 3 * gradients,
        bytes_touched=(8 if gradients else 4) * size,
    )


ATTENTION = [
    _workload("attention_causal", (8, 4, 256, 32), True, False),
    _workload("attention_causal_grad", (8, 4, 256, 32), True, True),
    _workload("attention1024", (4, 8, 1024, 64), False, False),
    _workload("attention1024_grad", (4, 8, 1024, 64), False, True),
    _workload("attention4096", (1, 8, 4096, 64), False, False),
    _workload("attention4096_grad", (1, 8, 4096, 64), False, True),
]
