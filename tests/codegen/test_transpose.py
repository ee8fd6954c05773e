"""Reads across the lanes, as in a transposition: tiles turned in registers, their edges, and what is computed on the way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.codegen.emitter import Emitter
from adjoint.codegen.squares import turned
from adjoint.runtime import jit

SQUARES = [(16, 4), (8, 4), (4, 4), (8, 8), (4, 8), (2, 8), (16, 2), (8, 2), (4, 2), (16, 1), (8, 1), (4, 1)]


@pytest.mark.parametrize(("n", "size"), SQUARES)
def test_squares(n: int, size: int) -> None:
    """The shuffles, carried out on names."""
    em = Emitter()
    known = {f"%row{i}": [(i, j) for j in range(n)] for i in range(n)}
    columns = turned(em, list(known), "float", size)
    for line in em.lines:
        found = re.fullmatch(r" *(%\w+) = shufflevector <\d+ x float> (%\w+), <\d+ x float> (%\w+), <\d+ x i32> <(.*)>", line)
        assert found is not None
        out, a, b, picks = found.groups()
        both = known[a] + known[b]
        known[out] = [both[int(pick.split()[1])] for pick in picks.split(",")]
    assert [known[c] for c in columns] == [[(i, j) for i in range(n)] for j in range(n)]


def values(dtype: str, *shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    return (rng.standard_normal(shape) * 50).astype(dtype)


PERMUTED = [
    ((100, 101), (1, 0)), ((1027, 17), (1, 0)), ((9, 1500), (1, 0)), ((1500, 9), (1, 0)), ((3, 60, 61), (0, 2, 1)), ((13, 31, 37), (2, 1, 0)),
    ((5, 20, 9, 12), (0, 2, 3, 1)), ((5, 9, 12, 20), (0, 3, 1, 2)), ((6, 32, 7, 33), (3, 0, 2, 1)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool"])
def test_permuted_copies(dtype: str) -> None:
    for shape, order in PERMUTED:
        x = values(dtype, *shape)
        np.testing.assert_array_equal(torch.tensor(x).permute(*order).contiguous().numpy(), x.transpose(order))


COMPUTED: dict[str, Any] = {
    "sum with another": lambda m, x, y: x.T + y,
    "two widths": lambda m, x, y: m.where(x.T > 0, (x * 2).T, y * 1),
    "joined": lambda m, x, y: m.concatenate([x.T, y], 1),
    "a part": lambda m, x, y: x[3:, 5:].T * 2,
    "every other row": lambda m, x, y: x[::2].T + 1,
    "every other column": lambda m, x, y: x[:, ::2].T + 1,
    "backwards": lambda m, x, y: m.flip(x.T, (0,)) + m.flip(x.T, (1,)),
    "repeated": lambda m, x, y: m.tile(x.T, (2, 3)),
    "much work": lambda m, x, y: m.exp(m.tanh(x.T) * m.sin(y)) * m.cos(x.T),
    "a truth": lambda m, x, y: (x.T > y) & (x.T > 0),
}


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize("shape", [(130, 131), (129, 80)])
def test_work_on_the_way(name: str, shape: tuple[int, int]) -> None:
    x, y = values("float32", *shape), values("float32", *shape[::-1])
    got = COMPUTED[name](torch, torch.tensor(x), torch.tensor(y)).numpy()
    np.testing.assert_allclose(got, COMPUTED[name](np, x, y), rtol=1e-5, atol=1e-5)


def test_an_index_known_when_it_runs() -> None:
    x = values("float32", 140, 150)
    for k in range(3):  # the start is a number of the call
        got = torch.tensor(x)[k + 1 :, 2 * k : 2 * k + 120].t().contiguous()
        np.testing.assert_array_equal(got.numpy(), x[k + 1 :, 2 * k : 2 * k + 120].T)


@pytest.mark.parametrize("shape", [(2064, 3200), (2051, 3203)])
def test_large_copies_go_past_the_caches(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend(k[1] for k in kernels) or plain(kernels))
    x = values("float32", *shape)
    np.testing.assert_array_equal(torch.tensor(x).t().contiguous().numpy(), x.T)
    if not torch.is_eager() and jit.available():
        streams = [" !nontemporal" in text for text in texts if "shufflevector" in text]
        assert streams == [shape[0] % 16 == 0]  # whole lines only


@pytest.mark.parametrize("asking", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
def test_blocks_for_main_memory(dtype: str, asking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of large copies, here of matrices with any number of rows and columns left over, and of several in a row; those
    that ask for what the next ones read, and those that do not."""
    monkeypatch.setattr("adjoint.codegen.tiling.ASKS_AHEAD", asking)
    for module in ("tiling", "accesses"):
        monkeypatch.setattr(f"adjoint.codegen.{module}.STREAM_BYTES", 1 << 16)
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend(k[1] for k in kernels) or plain(kernels))
    for shape in ((334, 287), (64, 1040), (2, 135, 771), (3, 289, 3, 1030)):
        x = values(dtype, *shape)
        np.testing.assert_array_equal(torch.tensor(x).mT.contiguous().numpy(), x.swapaxes(-1, -2))
        y = values(dtype, *x.swapaxes(-1, -2).shape)
        np.testing.assert_array_equal((torch.tensor(x).mT + torch.tensor(y)).numpy(), x.swapaxes(-1, -2) + y)
    if not torch.is_eager() and jit.available() and dtype == "float32":
        assert sum("prefetch" in text for text in texts) >= 4 * asking
        assert asking or not any("prefetch" in text for text in texts)
