"""Programs of ever new shapes are run through NumPy a few times before they are compiled."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

import adjoint as torch
from adjoint.ir import reference
from adjoint.ir.graph import Graph, GraphBuilder
from adjoint.nn import functional as F
from adjoint.runtime import disk_cache, jit
from adjoint.runtime.trial import BLOCK, IN_BLOCKS, apply, trials
from adjoint.trace import bounds, pieces, state
from adjoint.trace.lower import Recorded

compiled_only = pytest.mark.skipif(torch.is_eager(), reason="nothing is compiled")


@pytest.fixture(autouse=True)
def ever_new(monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    monkeypatch.setenv("ADJOINT_TRIALS", "5")
    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "0")  # what is compiled is counted
    yield
    pieces._seen.clear()
    pieces.families.clear()
    bounds.forget_below(state.roots())


def layers(x: torch.Tensor, w: torch.Tensor, depth: int = 3) -> torch.Tensor:
    for _ in range(depth):
        x = F.layer_norm(torch.tanh(x @ w), (8,)) + x.sigmoid()
    return x


def seen() -> torch.Tensor:
    """Weights, with which programs of ever new sizes were computed."""
    w = torch.tensor(0.01 * np.arange(-32, 32, dtype=np.float32).reshape(8, 8))
    torch.ones(1).item()  # ends what others have begun
    for rows in range(2, 2 + pieces.TRIES):
        total(rows, w)
    return w


def total(rows: int, w: torch.Tensor) -> float:
    return layers(torch.full((rows, 8), 0.8125), w).sum().item()  # a beginning that no other test has, with lines of its own


def graph_of(out: torch.Tensor) -> Graph:
    tr = state.local.trace
    return Recorded(tr.node, (out._slot,)).graph()


def kernels() -> int:
    return torch.stats()["kernels"]


@compiled_only
def test_what_may_be_used_once_is_not_compiled() -> None:
    w = seen()
    before = kernels()
    values = [total(13, w) for _ in range(5)]
    assert kernels() == before
    values += [total(13, w) for _ in range(2)]
    assert kernels() > before
    assert values[1:5] == [values[0]] * 4
    assert values[5] == values[6]
    with torch.eager():
        np.testing.assert_allclose(values, total(13, w), rtol=1e-5)


@compiled_only
def test_what_was_compiled_before_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled after its trials lies on disk, and is used at once from then on; what was only tried does not."""
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(tmp_path))
    w = seen()
    tried, value = total(21, w), [total(22, w) for _ in range(6)][-1]
    bounds.sweep(0, 0)  # as in a new process
    jit._kernels.clear()
    w, plans = seen(), disk_cache.counters.plans
    assert total(22, w) == value
    assert disk_cache.counters.plans == plans + 1
    assert total(21, w) == tried
    assert disk_cache.counters.plans == plans + 1


@compiled_only
def test_what_was_used_again_speaks_for_compiling() -> None:
    w = seen()
    total(1 + pieces.TRIES, w)
    before = kernels()
    total(17, w)
    assert kernels() > before


@compiled_only
def test_errors_of_data_are_the_same() -> None:
    w, table = seen(), torch.tensor(np.arange(40.0, dtype=np.float32).reshape(5, 8))

    def chosen(rows: int, row: int) -> float:
        return layers(table[torch.full((rows,), row)], w).sum().item()

    for rows in range(2, 2 + pieces.TRIES):
        chosen(rows, 0)
    before = kernels()
    with pytest.raises(IndexError, match="out of"):
        chosen(9, 7)
    assert np.isfinite(chosen(9, 4))
    assert kernels() == before


@compiled_only
def test_what_is_dear_to_numpy_is_compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    small = graph_of(layers(torch.ones(3, 8), torch.ones(8, 8)))
    large = graph_of(layers(torch.ones(300_000, 8), torch.ones(8, 8)))
    assert trials(small) == 5
    assert trials(large) == 0
    monkeypatch.setenv("ADJOINT_TRIALS", "0")
    assert trials(small) == 0


@compiled_only
def test_text_that_grows() -> None:
    """Each word needs programs for one more: what is tried computes what reference mode computes."""
    rng = np.random.default_rng(0)
    w = torch.tensor(0.3 * rng.standard_normal((8, 8)).astype(np.float32))
    words = torch.tensor(rng.standard_normal((20, 8)).astype(np.float32))

    def text() -> list[int]:
        found = torch.zeros(1, 1, dtype=torch.int64)
        with torch.no_grad():
            for _ in range(12):
                h = words[found]
                for _ in range(3):
                    h = h + F.scaled_dot_product_attention(h @ w, h, F.gelu(h), is_causal=True)
                found = torch.cat([found, (h[:, -1] @ words.T).argmax(-1, keepdim=True)], 1)
        return found[0].tolist()

    got = [text() for _ in range(3)]
    with torch.eager():
        assert got == [text()] * 3


@compiled_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=lambda d: d.name)
@pytest.mark.parametrize("name", sorted(IN_BLOCKS))
def test_functions_that_numpy_has_not(name: str, dtype: torch.dtype) -> None:
    """They are taken by blocks in trials: the same for every size, and for what is no number."""
    builder = GraphBuilder()
    for shape in ((65,), (BLOCK,), (3, BLOCK // 2 + 1), (0,), ()):
        x = np.random.default_rng(0).uniform(-0.999, 0.999, shape).astype(dtype.np)
        x.reshape(-1)[:4] = [np.nan, np.inf, -np.inf, 0.0][: x.size]
        node = builder.node(name, builder.node("input", attrs=(0, shape, dtype)))
        before = x.copy()
        near = 1e-5 if dtype is torch.float32 else 1e-12
        np.testing.assert_allclose(apply(node, [x]), reference.apply(node, [x]), rtol=near, atol=near)
        np.testing.assert_array_equal(x, before)
        crossed = x.T
        node = builder.node(name, builder.node("input", attrs=(0, crossed.shape, dtype)))
        np.testing.assert_array_equal(apply(node, [crossed]), apply(node, [crossed.copy()]))
