"""Every operator's value against NumPy, compiled against reference mode, and in the layouts and forms it may be called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, strided, tensors

pytestmark = pytest.mark.by_record
ALL = [pytest.param(r, id=r.name) for r in RECORDS.values()]


def array(t: Any) -> np.ndarray:
    return t.detach().numpy().copy()


def assert_near(
    record: OpRecord, got: np.ndarray, want: Any, what: str, exact: bool = False
) -> None:
    """Equal shapes, and elements within the record's tolerance of the largest."""
    want = np.asarray(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if got.dtype.kind != "f" or exact:
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    size = np.abs(want[np.isfinite(want)]).max(initial=0.0) if want.dtype.kind in "fiu" else 1.0
    rtol = record.tolerance(got.dtype)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * float(size), err_msg=what)


def results(record: OpRecord, dtype: str, make: Any = None) -> list[list[np.ndarray]]:
    """The outputs of all samples of a dtype, read only after all have been recorded."""
    made = []
    for s in record.draw(dtype):
        made.append(
            flat(
                record.run(torch, *tensors(torch, s.args, make), **tensors(torch, s.options, make))
            )
        )
    return [[array(t) for t in out] for out in made]


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].reference is not None])
def test_value_is_that_of_numpy(record: OpRecord) -> None:
    for dtype in record.dtypes:
        for s, got in zip(record.draw(dtype), results(record, dtype), strict=True):
            with np.errstate(all="ignore"):
                want = record.reference(*s.args, **s.options)
            wanted = list(want) if isinstance(want, (tuple, list)) else [want]
            assert len(got) == len(wanted)
            for g, w in zip(got, wanted, strict=True):
                assert_near(record, g, w, f"{record.name} of {s.describe()} as {dtype}")


@pytest.mark.skipif(torch.is_eager(), reason="compares compiled code with reference mode")
@pytest.mark.parametrize("record", ALL)
def test_compiled_is_reference(record: OpRecord) -> None:
    for dtype in record.dtypes:
        with torch.eager():
            want = results(record, dtype)
        results(
            record, dtype
        )  # a cold program of exact operations runs in NumPy; the second time it is compiled
        got = results(record, dtype)
        for s, g, w in zip(record.draw(dtype), got, want, strict=True):
            for a, b in zip(g, w, strict=True):
                assert a.dtype == b.dtype
                assert_near(
                    record, a, b, f"{record.name} of {s.describe()} as {dtype}", record.exact
                )


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].any_layout])
def test_layout_does_not_matter(record: OpRecord) -> None:
    dtype = record.dtypes[-1]
    for s, plain, moved in zip(
        record.draw(dtype), results(record, dtype), results(record, dtype, strided), strict=True
    ):
        for a, b in zip(plain, moved, strict=True):
            assert a.dtype == b.dtype
            assert_near(record, b, a, f"{record.name} of {s.describe()}")


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].method])
def test_method_is_the_function(record: OpRecord) -> None:
    dtype = record.dtypes[-1]
    for s, want in zip(record.draw(dtype), results(record, dtype), strict=True):
        first, *rest = tensors(torch, s.args)
        got = flat(getattr(first, record.method)(*rest, **tensors(torch, s.options)))
        for g, w in zip(got, want, strict=True):
            assert_near(record, array(g), w, f"{record.method} of {s.describe()}", exact=True)


@pytest.mark.parametrize("record", [p for p in ALL if p.values[0].in_place])
def test_in_place_is_the_function(record: OpRecord) -> None:
    dtype = record.dtypes[-1]
    for s, want in zip(record.draw(dtype), results(record, dtype), strict=True):
        first, *rest = tensors(torch, s.args)
        if tuple(first.shape) != want[0].shape:
            with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
                getattr(first, record.in_place)(*rest, **tensors(torch, s.options))
            continue
        view = first.view(-1) if first.dim() else first.view(1)
        out = getattr(first, record.in_place)(*rest, **tensors(torch, s.options))
        assert out is first
        assert first.dtype == torch.tensor(s.args[0]).dtype, "an in-place operation keeps the dtype"
        assert_near(
            record,
            array(first),
            want[0].astype(array(first).dtype),
            f"{record.in_place} of {s.describe()}",
            exact=True,
        )
        np.testing.assert_array_equal(
            array(view).ravel(), array(first).ravel(), err_msg="a view sees the change"
        )


@pytest.mark.parametrize("record", ALL)
def test_arguments_are_left_alone(record: OpRecord) -> None:
    dtype = record.dtypes[-1]
    for s in record.draw(dtype):
        args = tensors(torch, s.args)
        record.run(torch, *args, **tensors(torch, s.options))
        for t, a in zip(
            flat([a for a in args if isinstance(a, (torch.Tensor, list, tuple))]),
            s.arrays(),
            strict=False,
        ):
            if isinstance(t, torch.Tensor):
                np.testing.assert_array_equal(array(t), a)


def failures() -> list:
    return [
        pytest.param(r, f, id=f"{r.name}-{f.fragment.replace(' ', '-')}")
        for r in RECORDS.values()
        for f in r.errors
    ]


@pytest.mark.parametrize(("record", "failure"), failures())
def test_wrong_calls_raise_at_the_call(record: OpRecord, failure: Any) -> None:
    args = tensors(torch, failure.args)
    with pytest.raises(failure.exception) as caught:
        record.run(torch, *args, **tensors(torch, failure.options))
    assert failure.fragment in str(caught.value)
    assert (torch.ones(2) + 1).tolist() == [2.0, 2.0], "a failed call leaves the library working"
