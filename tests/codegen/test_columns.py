"""Reductions over leading axes, whose columns are run several registers abreast."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch

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
