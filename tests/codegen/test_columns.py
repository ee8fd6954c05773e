"""Reductions over leading axes, whose columns are run several registers abreast."""

from __future__ import annotations

import re

import numpy as np
import pytest

import adjoint as torch
from adjoint.runtime import jit

REDUCED = {
    "sum": lambda x: x.sum(0),
    "amax": lambda x: x.amax(0),
    "argmin": lambda x: x.argmin(0),
    "mean of an expression": lambda x: (x * 2 + 1).mean(0),
    "two at once": lambda x: x.sum(0) - x.amin(0),
    "variance": lambda x: x.var(0),
    "prod": lambda x: (x / x).prod(0),
    "squares": lambda x: (x * x).sum(0),
    "weighted": lambda x: (torch.arange(x.shape[0]).to(x.dtype)[:, None] * x).sum(0),
}


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_columns_are_those_of_narrow_pieces(name: str, dtype: str) -> None:
    if dtype == "int64" and name not in ("sum", "amax", "argmin"):
        pytest.skip("of floating tensors")
    rng = np.random.default_rng(0)
    for rows in (1, 7, 65, 300):
        for columns in (64, 256, 320):
            values = (rng.normal(size=(rows, columns)) * 8).astype(dtype)
            x = torch.tensor(values)
            whole = REDUCED[name](x).numpy()
            # a column's result does not depend on its neighbours: the same bits from pieces too narrow for this
            pieces = [REDUCED[name](torch.tensor(values[:, k : k + 13].copy())).numpy() for k in range(0, columns, 13)]
            np.testing.assert_array_equal(whole, np.concatenate(pieces))
            if name == "sum":
                np.testing.assert_allclose(whole, values.sum(0, dtype="float64"), rtol=1e-2 if dtype == "float16" else 1e-5, atol=1e-2 if dtype == "float16" else 1e-4)


@pytest.mark.parametrize(
    ("dtype", "columns"),  # one block or more, of at most 8192 columns; and odd ones
    [("float32", n) for n in (512, 768, 8480, 517, 8193)] + [(dtype, n) for dtype in ("float64", "float16", "int64", "int8", "bool") for n in (517,)]
)
def test_long_columns_are_added_up_by_turns(dtype: str, columns: int) -> None:
    """Pieces of 33 rows, the last one of 11: neither is a number of whole turns."""
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(2090, columns)) * 3).astype(dtype)
    x = torch.tensor(values)
    if dtype in ("int64", "int8", "bool"):
        np.testing.assert_array_equal(x.sum(0).numpy(), values.sum(0, dtype="int64"))
        np.testing.assert_array_equal(x.to(torch.int64).prod(0).numpy(), values.astype("int64").prod(0))
    else:
        values[1500, 3], values[77, 5], values[2089, 7] = np.nan, np.inf, -np.inf
        x = torch.tensor(values)
        wide = values.astype("float64")
        total, allowed = wide.sum(0), np.abs(wide).sum(0) * np.finfo(dtype).eps * (1 if dtype == "float16" else 64)
        got = x.sum(0).numpy().astype("float64")
        with np.errstate(invalid="ignore"):
            assert ((np.abs(got - total) <= allowed) | ~np.isfinite(total)).all()
        np.testing.assert_array_equal(got[[3, 5, 7]], [np.nan, np.inf, -np.inf])
        assert (np.abs((x * 2 - 1)[:, 8:].sum(0).numpy() - (2 * wide - 1).sum(0)[8:]) <= 4 * allowed[8:]).all()
    if dtype != "bool":
        np.testing.assert_array_equal(x.amax(0).numpy(), values.max(0))
        np.testing.assert_array_equal(x.amin(0).numpy(), values.min(0))


@pytest.mark.parametrize("columns", [512, 1000, 1030])
def test_rows_of_large_tensors(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of those that no cache holds, where the next page is asked for, behind the end, too."""
    monkeypatch.setattr("adjoint.codegen.tiling.STREAM_BYTES", 1 << 16)
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend(k[1] for k in kernels) or plain(kernels))
    values = np.random.default_rng(0).standard_normal((150, columns)).astype(np.float32)
    x, wide = torch.tensor(values), values.astype(np.float64)
    np.testing.assert_array_equal(x.amax(1).numpy(), values.max(1))
    np.testing.assert_allclose(x.sum(1).numpy(), wide.sum(1), rtol=1e-4, atol=1e-4)
    e = np.exp(wide - wide.max(1, keepdims=True))
    np.testing.assert_allclose(x.softmax(1).numpy(), e / e.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose((x * x.flip(1)).sum(1).numpy(), (wide * wide[:, ::-1]).sum(1), rtol=1e-4, atol=1e-3)
    if not torch.is_eager() and jit.available():
        assert sum("prefetch" in text for text in texts) >= 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_columns_one_vector_at_a_time_or_many(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many go side by side is the machine's affair; the bits are the same."""
    values = (np.random.default_rng(0).standard_normal((2090, 768)) * 8).astype(dtype)
    texts: list[str] = []
    plain = jit.compile_kernels
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    monkeypatch.setattr(jit, "compile_kernels", lambda kernels: texts.extend(k[1] for k in kernels) or plain(kernels))
    found, widths = [], []
    for one, columns in ((True, 768), (False, 512)):  # another shape has a program of its own
        monkeypatch.setattr("adjoint.codegen.tiling.ONE_ABREAST", one)
        texts.clear()
        x = torch.tensor(values[:, :columns].copy())
        found.append([f(x).numpy()[:512] for f in (lambda x: x.sum(0), lambda x: x.amax(0), lambda x: (x * x + x).sum(0))])
        widths.append(min([int(n) for text in texts for n in re.findall(r"phi <(\d+) x", text)], default=0))
    for narrow, wide in zip(*found, strict=True):
        np.testing.assert_array_equal(narrow, wide)
    if not torch.is_eager() and jit.available() and dtype == "float32":
        assert 0 < widths[0] < widths[1]


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize("shape", [(2,), (20,), (40,), (300,), (3, 50), (1, 70)])
def test_few_long_rows_that_no_cache_holds(shape: tuple[int, ...], one: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are cut at fewer rows than others, or followed side by side."""
    monkeypatch.setattr("adjoint.codegen.tiling.ONE_ABREAST", one)
    for name in ("codegen.tiling.STREAM_BYTES", "codegen.accesses.STREAM_BYTES", "schedule.prepare.LARGE"):
        monkeypatch.setattr(f"adjoint.{name}", 1 << 12)
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # no plan of another test
    columns = 544 if one else 512  # another shape has a program of its own
    values = np.random.default_rng(0).standard_normal((*shape, columns)).astype(np.float32)
    axes, wide = tuple(range(len(shape))), values.astype(np.float64)
    x = torch.tensor(values)
    np.testing.assert_array_equal(x.amax(axes).numpy(), values.max(axes))
    np.testing.assert_allclose(x.sum(axes).numpy(), wide.sum(axes), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose((x * x + 1).mean(axes).numpy(), (wide * wide + 1).mean(axes), rtol=1e-5)
    np.testing.assert_allclose(x.exp().sum(axes).numpy(), np.exp(wide).sum(axes), rtol=1e-5)
    np.testing.assert_allclose(x.sum(len(shape) - 1).numpy(), wide.sum(len(shape) - 1), rtol=1e-4, atol=1e-4)
