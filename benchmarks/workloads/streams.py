"""What only reads or copies a large matrix: a product with a vector, sums over either axis, the transpose as a copy."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from ..record import Arrays, Ask, Builder, Case, Workload, ceiling, repeatable

SIDE = 4096
CEILINGS = {"read": "reads", "copy": "copies"}


def make(rng: np.random.Generator) -> Arrays:
    return {"x": rng.standard_normal((SIDE, SIDE), dtype=np.float32), "v": rng.standard_normal(SIDE, dtype=np.float32)}


def _eager(function: Any) -> Builder:
    def build(torch: ModuleType, data: Arrays) -> Case:
        x, v = torch.tensor(data["x"]), torch.tensor(data["v"])
        return repeatable(lambda: [function(x, v).numpy()])

    return build


def _compiled(function: Any) -> Builder:
    def build(torch: ModuleType, data: Arrays) -> Case:
        x, v = torch.tensor(data["x"]), torch.tensor(data["v"])
        whole = torch.compile(function)
        return repeatable(lambda: [whole(x, v).numpy()])

    return build


def _by_hand(function: Any) -> Builder:
    return lambda np, data: repeatable(lambda: [function(data["x"], data["v"])])


def _jitted(function: Any) -> Builder:
    def build(jax: ModuleType, data: Arrays) -> Case:
        x, v = jax.numpy.asarray(data["x"]), jax.numpy.asarray(data["v"])
        whole = jax.jit(function)
        return repeatable(lambda: [np.asarray(jax.block_until_ready(whole(x, v)))])

    return build


def _stream(name: str, title: str, function: Any, by_hand: Any, copies: bool = False, jitted: Any = None) -> Workload:
    kind, nbytes = ("copy", 8 * SIDE * SIDE) if copies else ("read", 4 * SIDE * SIDE)
    return Workload(
        name=name,
        title=title,
        target=1.0,
        peers=("numpy", "torch", "torch.compile", "jax"),
        make=make,
        builders={
            "adjoint": _eager(function),
            "numpy": _by_hand(by_hand),
            "torch": _eager(function),
            "torch.compile": _compiled(function),
            "jax": _jitted(jitted or by_hand),
        },
        rtol=1e-4,
        atol=(2e-3,),
        bytes_touched=nbytes,
        further=(Ask(0.9, (CEILINGS[kind],)),),
        ceilings={CEILINGS[kind]: ceiling(kind, nbytes)},
    )


STREAMS = (
    _stream("matvec", "4096x4096 matrix times vector", lambda x, v: x @ v, lambda x, v: x @ v),
    _stream("sum_rows", "sum of 4096x4096 over its last axis", lambda x, v: x.sum(1), lambda x, v: x.sum(1)),
    _stream("sum_columns", "sum of 4096x4096 over its first axis", lambda x, v: x.sum(0), lambda x, v: x.sum(0)),
    _stream(
        "transpose", "transpose of 4096x4096 as a copy", lambda x, v: x.t().contiguous(),
        lambda x, v: np.ascontiguousarray(x.T), copies=True, jitted=lambda x, v: x.T,
    ),
)  # fmt: skip
