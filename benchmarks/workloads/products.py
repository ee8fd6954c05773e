"""Matrix products from 16x16, where calling costs more than computing, to 2048x2048, where arithmetic is everything."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from ..record import Arrays, Ask, Builder, Case, Workload, ceiling, repeatable


def _maker(*shape: int, dtype: str = "float32") -> Callable[[np.random.Generator], Arrays]:
    return lambda rng: {name: rng.standard_normal(shape).astype(dtype) for name in ("a", "b")}


def _of(expression: Callable) -> dict[str, Builder]:
    """Builders of one expression of two operands, written alike in all libraries."""

    def eagerly(torch: ModuleType, data: Arrays) -> Case:
        a, b = torch.tensor(data["a"]), torch.tensor(data["b"])
        return repeatable(lambda: [expression(a, b).numpy()])

    def compiling(torch: ModuleType, data: Arrays) -> Case:
        a, b = torch.tensor(data["a"]), torch.tensor(data["b"])
        product = torch.compile(expression)
        return repeatable(lambda: [product(a, b).numpy()])

    def by_numpy(np: ModuleType, data: Arrays) -> Case:
        a, b = data["a"], data["b"]
        return repeatable(lambda: [expression(a, b)])

    def jitting(jax: ModuleType, data: Arrays) -> Case:
        a, b = jax.numpy.asarray(data["a"]), jax.numpy.asarray(data["b"])
        if a.dtype != data["a"].dtype:
            raise TypeError("float64 is switched off")
        product = jax.jit(expression)
        return repeatable(lambda: [np.asarray(jax.block_until_ready(product(a, b)))])

    return {"adjoint": eagerly, "numpy": by_numpy, "torch": eagerly, "torch.compile": compiling, "jax": jitting}


def whole(torch: ModuleType, data: Arrays) -> Case:
    """Through `compile`, whose known calls run at once, as everybody else's."""
    a, b = torch.tensor(data["a"]), torch.tensor(data["b"])
    product = torch.compile(lambda a, b: a @ b)
    last = [product(a, b)]

    def step() -> None:
        last[0] = product(a, b)

    return Case(step, lambda: [last[0].numpy()])


PEERS = ("numpy", "torch", "torch.compile", "jax")
_BUILDERS = _of(lambda a, b: a @ b) | {"adjoint.compile": whole}


def _product(n: int, dtype: str = "float32", batch: int = 0) -> Workload:
    small = n < 1024
    shape = (batch, n, n) if batch else (n, n)
    name = f"matmul{n}{'_float64' if dtype == 'float64' else ''}{f'_batch{batch}' if batch else ''}"
    title = f"product of {f'{batch} times ' if batch else ''}{n}x{n} matrices, {dtype}"
    flops = 2 * max(batch, 1) * n**3
    return Workload(
        name=name,
        title=title,
        target=1.2 if small else 0.97,
        peers=PEERS,
        subject="adjoint.compile" if small else "adjoint",
        further=() if small else (Ask(1.9, ("torch",)), Ask(0.9, ("multiply-adds",))),
        ceilings={} if small else {"multiply-adds": ceiling(dtype, flops)},
        make=_maker(*shape, dtype=dtype),
        builders=_BUILDERS,
        rtol=1e-4 if dtype == "float32" else 1e-11,
        atol=(1e-3 if dtype == "float32" else 1e-11,),
        flops=flops,
    )


def _layer(name: str, title: str, a: tuple[int, int], b: tuple[int, int], expression: Callable, flops: int) -> Workload:
    """A product as a linear layer has it, of which one operand lies the other way."""
    return Workload(
        name=name,
        title=title,
        target=1.2,
        peers=PEERS,
        make=lambda rng: {"a": rng.standard_normal(a).astype("float32"), "b": rng.standard_normal(b).astype("float32")},
        builders=_of(expression),
        rtol=1e-4,
        atol=(1e-3,),
        flops=flops,
    )


LAYERS = (
    _layer("linear16", "linear layer from 1024 to 1024 of 16 rows", (16, 1024), (1024, 1024), lambda x, w: x @ w.T, 1 << 25),
    _layer("linear64", "linear layer from 784 to 256 of 64 rows", (64, 784), (256, 784), lambda x, w: x @ w.T, 2 * 64 * 784 * 256),
    _layer("weight_grad", "gradient of a weight of 384x128 from 768 rows", (768, 384), (768, 128), lambda g, x: g.T @ x, 2 * 768 * 384 * 128),
)


def _thin_torch(torch: ModuleType, data: Arrays) -> Case:
    x, w, b = (torch.tensor(data[name]) for name in "xwb")
    return repeatable(lambda: [torch.relu(x @ w + b).numpy()])


def _thin_compiled(torch: ModuleType, data: Arrays) -> Case:
    x, w, b = (torch.tensor(data[name]) for name in "xwb")
    layer = torch.compile(lambda x, w, b: torch.relu(x @ w + b))
    return repeatable(lambda: [layer(x, w, b).numpy()])


def _thin_numpy(np: ModuleType, data: Arrays) -> Case:
    x, w, b = (data[name] for name in "xwb")

    def layer() -> list:
        out = x @ w
        out += b
        return [np.maximum(out, 0, out=out)]

    return repeatable(layer)


def _thin_jax(jax: ModuleType, data: Arrays) -> Case:
    x, w, b = (jax.numpy.asarray(data[name]) for name in "xwb")
    layer = jax.jit(lambda x, w, b: jax.nn.relu(x @ w + b))
    return repeatable(lambda: [np.asarray(jax.block_until_ready(layer(x, w, b)))])


THIN_LAYER = Workload(
    name="thin_layer",
    title="layer of 65536 rows from 64 to 64, with a bias and ReLU",
    target=1.2,
    peers=PEERS,
    make=lambda rng: {name: rng.standard_normal(shape).astype("float32") for name, shape in {"x": (65536, 64), "w": (64, 64), "b": (64,)}.items()},
    builders={"adjoint": _thin_torch, "numpy": _thin_numpy, "torch": _thin_torch, "torch.compile": _thin_compiled, "jax": _thin_jax},
    rtol=1e-4,
    atol=(1e-3,),
    flops=2 * 65536 * 64 * 64,
)


def _bfloat16_torch(torch: ModuleType, data: Arrays) -> Case:
    a, b = (torch.tensor(data[name]).to(torch.bfloat16) for name in "ab")
    return repeatable(lambda: [(a @ b).float().numpy()])


def _bfloat16_compiled(torch: ModuleType, data: Arrays) -> Case:
    a, b = (torch.tensor(data[name]).to(torch.bfloat16) for name in "ab")
    product = torch.compile(lambda a, b: (a @ b).float())
    return repeatable(lambda: [product(a, b).numpy()])


def _bfloat16_jax(jax: ModuleType, data: Arrays) -> Case:
    np, bfloat16 = jax.numpy, jax.numpy.bfloat16
    a, b = (np.asarray(data[name]).astype(bfloat16) for name in "ab")
    product = jax.jit(lambda a, b: (a @ b).astype(np.float32))
    return repeatable(lambda: [np.asarray(jax.block_until_ready(product(a, b))).__array__()])


BFLOAT16 = Workload(
    name="matmul1024_bfloat16",
    title="product of 1024x1024 matrices, bfloat16, read as float32",
    target=0.97,
    peers=("torch", "torch.compile", "jax"),
    make=_maker(1024, 1024),
    builders={"adjoint": _bfloat16_torch, "torch": _bfloat16_torch, "torch.compile": _bfloat16_compiled, "jax": _bfloat16_jax},
    rtol=2.0**-6,
    atol=(0.5,),  # of sums of about 32, whose rounding may differ by one unit
    flops=2 << 30,
)
MATMULS = (
    *(_product(n) for n in (16, 64, 256, 1024, 2048)),
    _product(1024, "float64"),
    _product(128, batch=64),
    BFLOAT16,
)
