"""`vmap`: every operator over a batch against the loop over its samples, derivatives through it, what it falls back from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.batch import vmap as mapping
from adjoint.batch.rules import RULES
from adjoint.ir.prims import PRIMS
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import Sample, flat, tensors

func = torch.func
compiled = pytest.mark.skipif(torch.is_eager(), reason="reference mode computes sample by sample")
ALL = [pytest.param(r, id=r.name) for r in RECORDS.values()]
SIZE = 3
# Operators whose Python looks at values, draws random numbers or shares memory with the outside: computed one by one.
LOOKS = set(
    "quantile unique bincount histc masked_select masked_scatter nonzero where_indices argwhere isin linalg.matrix_exp tensor".split()
)


@pytest.fixture
def at_once() -> Any:
    """Fails if anything was computed sample by sample (in compiled mode)."""
    before = mapping.loops
    yield
    assert torch.is_eager() or mapping.loops == before, "computed one sample after the other"


def arrays_of(value: Any) -> list[np.ndarray]:
    return [t.detach().numpy().copy() for t in flat(value)]


def batch_of(array: np.ndarray, definite: bool = False) -> np.ndarray:
    """Three samples that differ and stay in the domain: the elements moved around, and for integers left alone."""
    if array.dtype.kind not in "fc" or array.ndim == 0:
        return np.stack([array] * SIZE)
    if definite:
        return np.stack([array * (1 + k) for k in range(SIZE)]).astype(array.dtype)
    return np.stack([np.roll(array, k, -1) for k in range(SIZE)])


def place(value: Any, chosen: set[int], parts: Any, count: list[int]) -> Any:
    """Arguments with the chosen arrays, by number, taken from `parts`, and the others as tensors."""
    if isinstance(value, np.ndarray):
        count[0] += 1
        return next(parts) if count[0] - 1 in chosen else torch.tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(place(v, chosen, parts, count) for v in value)
    return value


def call_of(record: OpRecord, s: Sample, chosen: set[int]) -> Any:
    def call(*parts: Any) -> tuple:
        rest, count = iter(parts), [0]
        args = place(s.args, chosen, rest, count)
        options = {k: place(v, chosen, rest, count) for k, v in s.options.items()}
        return tuple(flat(record.run(torch, *args, **options)))

    return call


def choices(s: Sample) -> list[set[int]]:
    """Which arrays are mapped: all of them, and each alone."""
    count = len(s.arrays())
    return [set(range(count)), *([{k} for k in range(count)] if count > 1 else [])]


def assert_like(record: OpRecord, got: np.ndarray, want: np.ndarray, what: str) -> None:
    assert got.shape == want.shape and got.dtype == want.dtype, what
    if got.dtype.kind not in "fc":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    size = np.abs(want[np.isfinite(want)]).max(initial=0.0)
    rtol = record.rtol[0] if got.dtype in (np.float32, np.complex64, np.float16) else record.rtol[1]
    np.testing.assert_allclose(got, want, rtol=4 * rtol, atol=4 * rtol * float(size), err_msg=what)


def samples_of(record: OpRecord, dtype: str) -> list[Sample]:
    drawn = record.draw(dtype)
    return [s for s in drawn if s.arrays()][:6]


@pytest.mark.parametrize("record", ALL)
def test_a_batch_of_every_operator_is_the_loop(record: OpRecord) -> None:
    dtype = "float32" if "float32" in record.dtypes else record.dtypes[-1]
    made: list[tuple] = []
    before = mapping.loops
    for s in samples_of(record, dtype):
        for chosen in choices(s):
            call = call_of(record, s, chosen)
            stacked = [batch_of(a, "cholesky" in record.name) for k, a in enumerate(s.arrays()) if k in chosen]
            ats = [k % (a.ndim + 1) for k, a in enumerate(s.arrays()) if k in chosen]
            what = f"{record.name}{s.describe()} over {sorted(chosen)}"
            batch = [torch.tensor(np.ascontiguousarray(np.moveaxis(b, 0, at))) for b, at in zip(stacked, ats, strict=True)]
            got = func.vmap(call, in_dims=tuple(ats), randomness="same")(*batch)
            rows = [call(*[torch.tensor(b[k]) for b in stacked]) for k in range(SIZE)]
            made.append((what, got, rows))
    assert torch.is_eager() or (mapping.loops > before) == (record.name in LOOKS)
    for what, got, rows in made:
        want = [np.stack(column) for column in zip(*[arrays_of(r) for r in rows], strict=True)]
        for g, w in zip(arrays_of(got), want, strict=True):
            assert_like(record, g, w, what)


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].differentiable])
def test_gradients_through_a_batch_of_every_operator(record: OpRecord) -> None:
    """The gradient of a weighted sum of the results, by the whole batch."""
    for s in [s for s in record.draw("float64") if s.is_small() and all(a.dtype.kind == "f" for a in s.arrays())][-2:]:
        chosen = set(range(len(s.arrays())))
        call = call_of(record, s, chosen)
        stacked = [batch_of(a, "cholesky" in record.name) for a in s.arrays()]

        def slopes(run: Any, stacked: list[np.ndarray] = stacked) -> list[np.ndarray]:
            leaves = [torch.tensor(b, requires_grad=True) for b in stacked]
            outs = [o for o in run(*leaves) if o.is_floating_point()]
            total = sum([(o * torch.linspace(0.5, 1.5, o.numel(), dtype=o.dtype).reshape(o.shape)).sum() for o in outs], start=torch.tensor(0.0))
            if not total.requires_grad:
                return []
            return [g.numpy() for g in torch.autograd.grad(total, leaves, materialize_grads=True)]

        got = slopes(func.vmap(call, randomness="same"))
        want = slopes(lambda *b, call=call: [torch.stack(list(c)) for c in zip(*[call(*[x[k] for x in b]) for k in range(SIZE)], strict=True)])
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-8, err_msg=f"{record.name}{s.describe()}")


def test_every_primitive_has_a_rule() -> None:
    ruled = set(RULES) | {name for name, p in PRIMS.items() if p.kind == "pointwise"}
    assert set(PRIMS) - ruled == {"input", "scalar", "const", "iota"}  # which depend on nothing
