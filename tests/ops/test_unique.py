"""Distinct elements, by counting and by sorting, and runs of equal ones, against NumPy; and that new numbers are no new programs."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace.state import counters

SHAPES: list[tuple[int, ...]] = [(0,), (), (1,), (2,), (3, 0), (7,), (3, 4), (1000,), (40, 501)]
WHOLE = ["bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]


def agrees(values: np.ndarray) -> None:
    x = torch.tensor(values)
    wanted, places, numbers = np.unique(values, return_inverse=True, return_counts=True, equal_nan=False)
    missing = np.isnan(values.ravel()) if values.dtype.kind == "f" else np.zeros(values.size, bool)
    places = places.reshape(-1)
    places[missing] = np.arange(missing.sum()) + (len(wanted) - missing.sum())  # each NaN is a value, in their order
    distinct, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    assert distinct.dtype is x.dtype and inverse.dtype is counts.dtype is torch.int64
    assert inverse.shape == x.shape
    np.testing.assert_array_equal(distinct.numpy(), wanted)
    np.testing.assert_array_equal(inverse.numpy(), places.reshape(values.shape))
    np.testing.assert_array_equal(counts.numpy(), numbers)
    np.testing.assert_array_equal(torch.unique(x).numpy(), wanted)
    np.testing.assert_array_equal(torch.unique(x, return_inverse=True)[1].numpy(), inverse.numpy())
    np.testing.assert_array_equal(x.unique(return_counts=True)[1].numpy(), numbers)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", WHOLE)
def test_whole_numbers(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    if dtype == "bool":
        agrees(np.asarray(rng.random(shape) < 0.5))
        return
    info = np.iinfo(dtype)
    near = np.asarray(rng.integers(0, 50, shape)).astype(dtype)
    agrees(near)  # counted, from either end of the numbers there are
    agrees(np.asarray(info.max - near))
    agrees(np.asarray(info.min + near))
    agrees(np.asarray(rng.integers(info.min, info.max, shape, dtype, endpoint=True), dtype))  # sorted, if they are many
    agrees(np.full(shape, info.max, dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    agrees(np.asarray(rng.standard_normal(shape)).astype(dtype))
    agrees(np.asarray(rng.choice([np.nan, 1, -0.0, 0.0, np.inf, -np.inf], shape)).astype(dtype))


def test_bfloat16() -> None:
    x = torch.tensor([1.5, -2, 1.5, 0.25], dtype=torch.bfloat16)
    distinct, inverse = torch.unique(x, return_inverse=True)
    assert distinct.dtype is torch.bfloat16 and distinct.tolist() == [-2, 0.25, 1.5] and inverse.tolist() == [2, 0, 2, 1]


def test_every_nan_is_a_value() -> None:
    nan = np.nan
    distinct, inverse, counts = torch.unique(torch.tensor([nan, 1, nan]), return_inverse=True, return_counts=True)
    np.testing.assert_array_equal(distinct.numpy(), [1, nan, nan])
    assert (inverse.tolist(), counts.tolist()) == ([1, 0, 2], [1, 1, 1])


def test_runs() -> None:
    x = torch.tensor([1, 1, 2, 2, 3, 1, 1, 2])
    values, runs, lengths = torch.unique_consecutive(x, return_inverse=True, return_counts=True)
    assert (values.tolist(), runs.tolist(), lengths.tolist()) == ([1, 2, 3, 1, 2], [0, 0, 1, 1, 2, 3, 3, 4], [2, 2, 1, 2, 1])
    assert torch.unique_consecutive(x.reshape(2, 4), return_inverse=True)[1].tolist() == [[0, 0, 1, 1], [2, 3, 3, 4]]
    assert x.unique_consecutive(return_counts=True)[1].tolist() == [2, 2, 1, 2, 1]
    assert torch.unique_consecutive(torch.tensor([np.nan, np.nan, 1, 1])).shape == (3,)
    rows = torch.tensor([[1, 1], [1, 1], [2, 2]])
    assert torch.unique_consecutive(rows, dim=0).tolist() == [[1, 1], [2, 2]]
    values, runs, lengths = torch.unique_consecutive(rows, return_inverse=True, return_counts=True, dim=1)
    assert (values.tolist(), runs.tolist(), lengths.tolist()) == ([[1], [1], [2]], [0, 0], [2])
    for dim in (None, 0):
        assert [t.shape for t in torch.unique_consecutive(torch.zeros(0), True, True, dim)] == [(0,)] * 3
    assert torch.unique_consecutive(torch.tensor(3), True).__repr__() == "(tensor([3]), tensor(0))"
    with pytest.raises(NotImplementedError):
        torch.unique_consecutive(torch.tensor([1j]))


def test_distinct_slices() -> None:
    x = torch.tensor([[2, 1], [1, 3], [2, 1], [1, -4]])
    values, places, numbers = torch.unique(x, return_inverse=True, return_counts=True, dim=0)
    assert values.tolist() == [[1, -4], [1, 3], [2, 1]]
    assert (places.tolist(), numbers.tolist()) == ([2, 1, 2, 0], [1, 1, 2])
    values, places = x.unique(dim=-1, return_inverse=True)
    assert (values.tolist(), places.tolist()) == ([[1, 2], [3, 1], [1, 2], [-4, 1]], [1, 0])
    cube = torch.tensor([[[1, 0], [1, 0]], [[2, 0], [2, 0]]])
    assert torch.unique(cube, dim=1).tolist() == [[[1, 0]], [[2, 0]]]
    for dtype in (torch.float16, torch.bfloat16, torch.bool):
        assert torch.unique(torch.tensor([[1.0, 0], [0, 1], [1, 0]]).to(dtype), dim=0).float().tolist() == [[0, 1], [1, 0]]
    with_nan = torch.tensor([[np.nan, 1], [np.nan, 1], [0, 0]])
    assert torch.unique(with_nan, dim=0).isnan().tolist() == [[False, False], [True, False], [True, False]]
    assert [t.shape for t in torch.unique(torch.zeros(0, 3), True, True, True, 0)] == [(0, 3), (0,), (0,)]
    for shape, dim, error in (((3, 0), 0, RuntimeError), ((0, 0), 0, RuntimeError), ((), 0, IndexError), ((2, 2), 2, IndexError)):
        with pytest.raises(error):
            torch.unique(torch.zeros(shape), dim=dim)


def test_just_within_and_just_beyond_counting() -> None:
    for width in (1022, 1023, 1024, 1025, 4095, 4096):
        agrees(np.array([5, 5 + width, 5, 6], np.int64))
        agrees(np.append(np.arange(2048), width).astype(np.int64))


def test_it_has_no_gradient() -> None:
    x = torch.tensor([3.0, 1.0, 3.0], requires_grad=True)
    assert not torch.unique(x).requires_grad
    assert torch.unique(x * 2).tolist() == [2, 6]


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_other_numbers_are_no_other_programs(dtype: str) -> None:
    rng = np.random.default_rng(0)

    def once() -> None:
        torch.unique(torch.tensor((rng.integers(-400, 400, 500) + rng.integers(0, 100)).astype(dtype)), return_inverse=True, return_counts=True)

    once()
    once()
    before = counters["programs"]
    for _ in range(5):
        once()
    assert counters["programs"] == before
