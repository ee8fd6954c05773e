"""Order among a million numbers (sort, topk, unique, searchsorted), and running extremes and sums along axes.

PyTorch's sort is asked to be stable, as Adjoint's and NumPy's are here, so that positions agree as well.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from ..record import Arrays, Builder, Case, Workload, repeatable

SIZE, K, EDGES, SIDE = 1_000_000, 100, 100_000, 4096


def make(rng: np.random.Generator) -> Arrays:
    x = rng.permutation(SIZE).astype(np.float32)  # no ties: which of equals topk names is not fixed in PyTorch
    return {"x": x, "edges": np.sort(rng.random(EDGES, dtype=np.float32) * SIZE), "classes": rng.integers(0, 1000, SIZE)}


def make_matrix(rng: np.random.Generator) -> Arrays:
    return {"x": rng.standard_normal((SIDE, SIDE), dtype=np.float32)}


def _eager(function, *names: str) -> Builder:
    def build(torch: ModuleType, data: Arrays) -> Case:
        inputs = [torch.tensor(data[name]) for name in names]

        def step():
            out = function(torch, *inputs)
            return [t.numpy() for t in (out if isinstance(out, tuple) else (out,))]

        return repeatable(step)

    return build


def _compiled(function, *names: str) -> Builder:
    def build(torch: ModuleType, data: Arrays) -> Case:
        inputs = [torch.tensor(data[name]) for name in names]
        whole = torch.compile(lambda *inputs: tuple(function(torch, *inputs)))
        return repeatable(lambda: [t.numpy() for t in whole(*inputs)])

    return build


def _by_hand(function, *names: str) -> Builder:
    return lambda np, data: repeatable(lambda: function(np, *(data[name] for name in names)))


def _jitted(function, *names: str) -> Builder:
    def build(jax: ModuleType, data: Arrays) -> Case:
        inputs = [jax.numpy.asarray(data[name]) for name in names]
        whole = jax.jit(lambda *inputs: function(jax, *inputs))
        return repeatable(lambda: [np.asarray(v) for v in jax.block_until_ready(whole(*inputs))])

    return build


def sort(torch: ModuleType, x):
    return torch.sort(x, stable=True)


def sort_by_hand(np: ModuleType, x):
    order = np.argsort(x, kind="stable")
    return [x[order], order]


def sort_jitted(jax: ModuleType, x):
    order = jax.numpy.argsort(x)
    return x[order], order


def topk(torch: ModuleType, x):
    return torch.topk(x, K)


def topk_by_hand(np: ModuleType, x):
    some = np.argpartition(x, SIZE - K)[SIZE - K :]
    order = some[np.argsort(-x[some])]
    return [x[order], order]


def unique(torch: ModuleType, classes):
    return torch.unique(classes, return_inverse=True, return_counts=True)


def unique_by_hand(np: ModuleType, classes):
    return np.unique(classes, return_inverse=True, return_counts=True)


def search(torch: ModuleType, edges, x):
    return torch.searchsorted(edges, x)


def search_jitted(jax: ModuleType, edges, x):
    return (jax.numpy.searchsorted(edges, x),)


def _workload(name: str, title: str, builders: dict[str, Builder], touched: int) -> Workload:
    return Workload(
        name=name, title=title, target=1.0, peers=("numpy", "torch", "torch.compile", "jax"), make=make, builders=builders,
        rtol=0.0, atol=(0.0,), bytes_touched=touched,
    )  # fmt: skip


SORT = _workload(
    "sort", "sort of 1e6 float32, values and positions",
    {"adjoint": _eager(sort, "x"), "numpy": _by_hand(sort_by_hand, "x"), "torch": _eager(sort, "x"),
     "torch.compile": _compiled(sort, "x"), "jax": _jitted(sort_jitted, "x")},
    16 * SIZE,
)  # fmt: skip
TOPK = _workload(
    "topk", "the 100 largest of 1e6 float32",
    {"adjoint": _eager(topk, "x"), "numpy": _by_hand(topk_by_hand, "x"), "torch": _eager(topk, "x"),
     "torch.compile": _compiled(topk, "x"), "jax": _jitted(lambda jax, x: jax.lax.top_k(x, K), "x")},
    4 * SIZE,
)  # fmt: skip
UNIQUE = _workload(
    "unique", "unique of 1e6 int64 below 1000, with inverse and counts",
    {"adjoint": _eager(unique, "classes"), "numpy": _by_hand(unique_by_hand, "classes"), "torch": _eager(unique, "classes")},
    16 * SIZE,
)  # fmt: skip
SEARCH = _workload(
    "searchsorted", "searchsorted of 1e6 float32 in 1e5",
    {"adjoint": _eager(search, "edges", "x"), "numpy": _by_hand(lambda np, edges, x: [np.searchsorted(edges, x)], "edges", "x"),
     "torch": _eager(search, "edges", "x"), "jax": _jitted(search_jitted, "edges", "x")},
    12 * SIZE,
)  # fmt: skip


def _scan(name: str, function: str, axis: int, outputs: int) -> Workload:
    build = _eager(lambda torch, x: getattr(torch, function)(x, axis), "x")
    return Workload(
        name=name, title=f"{function} of 4096x4096 along axis {axis}", target=1.0, peers=("torch",), make=make_matrix,
        builders={"adjoint": build, "torch": build}, rtol=1e-4, atol=(1e-3,), bytes_touched=outputs * SIDE * SIDE,
    )  # fmt: skip


SCANS = tuple(
    _scan(f"{function}_{axis}", function, axis, outputs)
    for function, outputs in (("cumsum", 8), ("cummax", 16), ("logcumsumexp", 8))
    for axis in (0, 1)
)
