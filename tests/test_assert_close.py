"""`torch.testing.assert_close`: what it lets pass, and what it says of the rest."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing import assert_close


@pytest.mark.parametrize(
    "actual, expected, options",
    [
        (torch.ones(3), torch.ones(3) * (1 + 1e-6), {}),
        (torch.ones(3), torch.ones(3, dtype=torch.float64), {"check_dtype": False}),
        (torch.zeros(0), torch.zeros(0), {}),
        ([1, {"a": torch.ones(2)}, None], [1, {"a": torch.ones(2)}, None], {}),
        (torch.tensor([2.0]), torch.tensor([1.0]), {"rtol": 0, "atol": 1}),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), {"equal_nan": True}),
        (torch.tensor([float("inf"), 1.0]), torch.tensor([float("inf"), 1.0]), {}),
        (np.ones(2), np.ones(2), {}),
        (1.0, 1.0 + 1e-8, {}),
        (torch.tensor([1 + 1j]), torch.tensor([1 + 1j]), {}),
    ],
)
def test_close(actual, expected, options):
    assert_close(actual, expected, **options)


@pytest.mark.parametrize(
    "actual, expected, options, error, message",
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), {}, AssertionError, r"Mismatched elements: 1 / 2 \(50.0%\)[^$]*1.0 at index \(1,\)"),
        (torch.tensor([2**60]), torch.tensor([2**60 + 1]), {}, AssertionError, "not equal"),
        (torch.tensor([True]), torch.tensor([False]), {}, AssertionError, "not equal"),
        (torch.ones(2), torch.ones(3), {}, AssertionError, "'shape' do not match"),
        (torch.ones(2), torch.ones(2).double(), {}, AssertionError, "'dtype' do not match"),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), {}, AssertionError, "not close"),
        ([1, {"a": torch.ones(2)}], [1, {"a": torch.zeros(2)}], {}, AssertionError, r"item \[1\]\['a'\]"),
        ({"a": 1}, {"b": 1}, {}, AssertionError, "keys of the mappings"),
        ([1], [1, 2], {}, AssertionError, "length of the sequences"),
        (1.0, 1, {}, AssertionError, "types do not match"),
        (torch.ones(1), [1.0], {}, TypeError, "comparison pair"),
        (torch.ones(1), torch.ones(1), {"rtol": 1}, ValueError, "no atol"),
        (None, 1, {}, AssertionError, "None"),
        (1, 2, {"msg": "wrong"}, AssertionError, "^wrong$"),
        (1, 2, {"msg": lambda text: "see: " + text}, AssertionError, "^see: Scalars"),
        (torch.ones(2, 3).t(), torch.ones(3, 2), {"check_stride": True}, AssertionError, "stride"),
    ],
)
def test_not_close(actual, expected, options, error, message):
    with pytest.raises(error, match=message):
        assert_close(actual, expected, **options)
