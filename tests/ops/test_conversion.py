"""Python numbers written into tensors: which fit a dtype, and the errors for those that do not, as in PyTorch."""

from __future__ import annotations

from array import array
from collections import UserList, deque
from collections.abc import Callable
from math import inf, nan
from typing import Any

import numpy as np
import pytest

import adjoint as torch

try:
    import torch as theirs
except ImportError:
    theirs = None

DOES_NOT_FIT: dict[str, list[Any]] = {
    "int8": [300, -129, 255, 127.5, nan, inf, 1j], "uint8": [256, -256, -1.5, nan], "int32": [2**31, -(2**31) - 1, 1e10],
    "int64": [2**63, 1e19, nan], "float32": [3.4028236e38, -3.5e38, 1j], "float64": [1j], "complex64": [1e39, 1e39j],
}  # fmt: skip
FITS: dict[str, list[Any]] = {
    "bool": [2, -1, 0.5, nan, 1j, 0], "int8": [127, -128, 1.9, -1.9, True, 3 + 0j], "uint8": [255, -1, -255, 2.5], "int32": [2**31 - 1],
    "int64": [-(2**63), 2.5], "float16": [inf, 65504], "bfloat16": [inf], "float32": [inf, -inf, nan, 2**63, 3.4028234e38, 1 + 0j],
    "float64": [1e308, 2**63], "complex64": [1j, inf, 3],
}  # fmt: skip


def _set(x: Any, index: Any, value: Any) -> Any:
    x[index] = value
    return x


WRITES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "masked_fill": lambda t, x, v: x.masked_fill(t.tensor([True, False]), v),
    "scatter": lambda t, x, v: x.scatter(0, t.tensor([0]), v),
    "index_fill": lambda t, x, v: x.index_fill(0, t.tensor([0]), v),
    "fill_": lambda t, x, v: x.fill_(v),
    "full": lambda t, x, v: t.full((2,), v, dtype=x.dtype),
    "full_like": lambda t, x, v: t.full_like(x, v),
    "new_full": lambda t, x, v: x.new_full((2,), v),
    "fill_diagonal_": lambda t, x, v: x.reshape(2, 1).fill_diagonal_(v),
    "element": lambda t, x, v: _set(x, 0, v),
    "slice": lambda t, x, v: _set(x, slice(None), v),
    "mask": lambda t, x, v: _set(x, t.tensor([True, False]), v),
    "index": lambda t, x, v: _set(x, t.tensor([0]), v),
}
STORES = ("fill_", "full", "full_like", "new_full", "fill_diagonal_", "element", "slice", "mask", "index")


@pytest.mark.parametrize("write", WRITES)
def test_a_number_that_does_not_fit_is_refused(write: str) -> None:
    for dtype, numbers in DOES_NOT_FIT.items():
        for number in numbers:
            x = torch.ones(2, dtype=getattr(torch, dtype))
            with pytest.raises(RuntimeError, match=f"value cannot be converted to type {dtype} without overflow") as caught:
                WRITES[write](torch, x, number)
            assert repr(number) in str(caught.value)
            assert x.tolist() == [1, 1]
            if theirs is not None:
                with pytest.raises((RuntimeError, ValueError)):
                    WRITES[write](theirs, theirs.ones(2, dtype=getattr(theirs, dtype)), number)


@pytest.mark.parametrize("write", WRITES)
def test_what_fits_is_written_as_in_pytorch(write: str) -> None:
    for dtype, numbers in FITS.items():
        for number in numbers:
            got = WRITES[write](torch, torch.zeros(2, dtype=getattr(torch, dtype)), number)
            assert got.dtype is getattr(torch, dtype)
            alone = isinstance(number, complex) and write == "index_fill" or number == 2**63  # which PyTorch does not take there
            if theirs is None or alone:
                continue
            expected = WRITES[write](theirs, theirs.zeros(2, dtype=getattr(theirs, dtype)), number)
            assert repr(got.tolist()) == repr(expected.tolist()), (dtype, number)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_checked_where_they_are_computed_with(dtype: str) -> None:
    """Where memory is filled, what is too large is infinite, in PyTorch as well."""
    for write in WRITES:
        x = torch.zeros(2, dtype=getattr(torch, dtype))
        if write in STORES:
            assert WRITES[write](torch, x, 1e39).reshape(-1)[0].item() == inf
        else:
            with pytest.raises(RuntimeError, match="without overflow"):
                WRITES[write](torch, x, 1e39)


def test_a_float_beside_integers_leaves_them_exact() -> None:
    x = torch.tensor([2**53 + 1, 3])
    assert x.masked_fill(torch.tensor([False, True]), 2.5).tolist() == [2**53 + 1, 2]
    x[torch.tensor([False, True])] = 2.5
    assert x.tolist() == [2**53 + 1, 2]


@pytest.mark.parametrize("write", ["element", "slice"])
def test_a_known_write_is_checked_too(write: str) -> None:
    x = torch.zeros(2, dtype=torch.int8)
    for _ in range(70):
        WRITES[write](torch, x, 3)
    with pytest.raises(RuntimeError, match="int8 holds the whole numbers from -128 to 127"):
        WRITES[write](torch, x, 300)


def test_alpha_of_index_add_keeps_the_dtype() -> None:
    for dtype, source, alpha, expected in (
        ("int32", [3, 5], 0.5, [0, 0, 0]), ("int32", [3, 5], 2.5, [6, 0, 10]), ("bool", [True, False], 2, [True, False, False]),
        ("bool", [True, True], 0, [False, False, False]), ("float32", [3, 5], 0.5, [1.5, 0, 2.5]), ("bfloat16", [3, 5], 0.5, [1.5, 0, 2.5]),
    ):  # fmt: skip
        for t in (torch, theirs) if theirs is not None else (torch,):
            kind = getattr(t, dtype)
            got = t.zeros(3, dtype=kind).index_add(0, t.tensor([0, 2]), t.tensor(source, dtype=kind), alpha=alpha)
            assert got.dtype is kind and got.tolist() == expected
    with pytest.raises(RuntimeError, match="index_add.*300"):
        torch.zeros(3, dtype=torch.int8).index_add(0, torch.tensor([0]), torch.ones(1, dtype=torch.int8), alpha=300)


UNFIT: dict[str, Callable[[Any, Any, Any], Any]] = {
    "where": lambda t, x, v: t.where(x == 1, v, x),
    "clamp": lambda t, x, v: x.clamp(max=v),
    "pad": lambda t, x, v: t.nn.functional.pad(x, (1, 1), value=v),
    "add": lambda t, x, v: t.add(x, x, alpha=v),
    "addcmul": lambda t, x, v: t.addcmul(x, x, x, value=v),
    "addmm": lambda t, x, v: t.addmm(x[None], x[:, None].T, t.eye(2).to(x.dtype), alpha=v),
}


@pytest.mark.parametrize("name", UNFIT)
def test_numbers_beside_tensors_fit_their_dtype(name: str) -> None:
    for t in (torch, theirs) if theirs is not None else (torch,):
        for dtype, fits, too_large in ((t.int8, 100, 300), (t.float32, 3e38, 1e39)):
            x = t.tensor([1, 2]).to(dtype)
            assert UNFIT[name](t, x, fits).dtype is dtype
            with pytest.raises(RuntimeError, match="without overflow"):
                UNFIT[name](t, x, too_large)


def test_padding_keeps_the_dtype() -> None:
    for t in (torch, theirs) if theirs is not None else (torch,):
        assert t.nn.functional.pad(t.tensor([7]), (1, 0), value=1.5).tolist() == [1, 7]
        assert t.nn.functional.pad(t.tensor([False]), (1, 0), value=2).tolist() == [True, False]


MADE_FROM: dict[str, Callable[[Any], Any]] = {
    "arrays": lambda t: [np.arange(2.0), np.arange(2.0)],
    "arrays of two kinds": lambda t: [np.arange(2), np.arange(2, dtype=np.float32)],
    "small whole numbers": lambda t: [np.uint8(3)],
    "a number of NumPy beside one of Python": lambda t: [2.0, np.float16(1)],
    "bools": lambda t: [np.bool_(True)],
    "doubles": lambda t: [[2.0, np.float64(1.0)]],
    "tensors": lambda t: [t.tensor(1, dtype=t.int8), t.tensor(1.5, dtype=t.float16)],
    "a tensor among numbers": lambda t: [2, t.tensor(1.5, dtype=t.float64)],
    "whole numbers": lambda t: [True, 2],
}


@pytest.mark.parametrize("name", MADE_FROM)
def test_elements_with_a_dtype_of_their_own_keep_it(name: str) -> None:
    wanted = "float64 float32 uint8 float32 bool float64 float16 float64 int64".split()[list(MADE_FROM).index(name)]
    for t in (torch, theirs) if theirs is not None else (torch,):
        assert t.tensor(MADE_FROM[name](t)).dtype is getattr(t, wanted)


def test_data_that_do_not_fit_are_refused() -> None:
    for t in (torch, theirs) if theirs is not None else (torch,):
        for data, dtype in (
            (300, t.uint8), ([300], t.uint8), ([[0, -129]], t.int8), ([2.0, nan], t.int32), ([inf], t.int64), ([1e10], t.int32),
            ([-256], t.uint8), (np.int64(300), t.uint8), ([np.int64(300)], t.int8), ([t.tensor(300)], t.int8),
        ):  # fmt: skip
            with pytest.raises(RuntimeError, match="without overflow"):
                t.tensor(data, dtype=dtype)
        with pytest.raises(ValueError, match="Overflow when unpacking long long"):
            t.tensor([2**63])
        assert t.tensor([255, -1], dtype=t.uint8).tolist() == [255, 255] and t.tensor([2**63 - 1]).tolist() == [2**63 - 1]
        assert t.tensor(np.array([300]), dtype=t.uint8).tolist() == [44], "an array is converted as tensors are"


class _Pair:
    """A sequence by its methods alone."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, k: int) -> float:
        return (0.5, 1.5)[k]


SEQUENCES: dict[str, Callable[[Any], Any]] = {
    "deque": lambda t: deque([1.0, 2.5]),
    "deque of lists": lambda t: deque([[1, 2], [3, 4]]),
    "deque of deques": lambda t: deque([deque([1, 2]), deque([3, 4])]),
    "deque of tensors": lambda t: deque([t.tensor(1.0), t.tensor(2.0)]),
    "empty deque": lambda t: deque(),
    "user list": lambda t: UserList([True, False]),
    "array": lambda t: array("f", [1.0, 2.0]),
    "own": lambda t: _Pair(),
    "bytearray": lambda t: bytearray(b"ab"),
    "range": lambda t: range(3),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("kind", [None, "float64"])
def test_sequences_of_any_class_are_read(name: str, kind: str | None) -> None:
    data = SEQUENCES[name]
    ours = torch.tensor(data(torch), dtype=kind and getattr(torch, kind))
    values = [[float(y) for y in x] if isinstance(x, (list, deque)) else float(x) for x in data(torch)]
    np.testing.assert_array_equal(ours.numpy().astype(np.float64), np.array(values))
    if theirs is not None:
        expected = theirs.tensor(data(theirs), dtype=kind and getattr(theirs, kind))
        assert str(ours.dtype) == str(expected.dtype)
        assert ours.tolist() == expected.tolist()


@pytest.mark.parametrize("data", [None, {0: 1.0}, {1}, object(), iter([1])], ids=lambda d: type(d).__name__)
def test_what_is_no_sequence_is_named(data: Any) -> None:
    with pytest.raises(RuntimeError, match=f"Could not infer dtype of {type(data).__name__}: tensor"):
        torch.tensor(data)
    with pytest.raises(TypeError, match=f"must be real number, not {type(data).__name__}: tensor"):
        torch.tensor(data, dtype=torch.float32)
