"""Quantiles, modes, histograms and searches at their edges: infinities, NaN, nothing at all, and wrong calls, as in PyTorch.

Each row is an expression and its value, or its error and some words of it.
"""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest

import adjoint as torch

try:
    import torch as theirs
except ImportError:
    theirs = None

VALUES: dict[str, Any] = {
    "torch.quantile(torch.tensor([1, inf, 2]), 0.5)": 2.0,
    "torch.quantile(torch.tensor([-inf, 1, inf]), torch.tensor([0.25, 0.5, 0.6]))": [-inf, 1, inf],
    "torch.quantile(torch.tensor([[1, nan, 2], [3, 4, 5]]), 0.5, dim=1)": [nan, 4],
    "torch.quantile(torch.tensor([1, nan, 2]), 0.0)": nan,
    "torch.quantile(torch.tensor([[1, 2, 2], [3, 4, 5.]]), 0.5, keepdim=True)": [[2.5]],
    "torch.quantile(torch.tensor([[1, 2, 2], [3, 4, 5.]]), torch.tensor([0.5, 0.2]), keepdim=True)": [[[2.5]], [[2]]],
    "torch.quantile(torch.tensor(3.), 0.5, dim=0)": 3.0,
    "torch.quantile(torch.tensor(3.), 0.5, dim=-1, keepdim=True)": 3.0,
    "torch.quantile(torch.tensor(3.), torch.tensor([0.5, 0.1]), dim=0)": [3, 3],
    "torch.quantile(torch.tensor([3., 1.]), torch.tensor([]))": [],
    "torch.quantile(torch.tensor([1, 2., 5, inf]), torch.tensor([0.1, 0.5, 0.7, 1.]), interpolation='lower')": [1, 2, 5, inf],
    "torch.quantile(torch.tensor([1, 2., 5, inf]), torch.tensor([0.1, 0.5, 0.7, 1.]), interpolation='higher')": [2, 5, inf, inf],
    "torch.quantile(torch.tensor([1, 2., 5, 9]), torch.tensor([0.1, 0.5, 0.7]), interpolation='midpoint')": [1.5, 3.5, 7],
    "torch.quantile(torch.tensor([1, 2., 5, inf]), torch.tensor([0.1, 0.5, 0.7]), interpolation='nearest')": [1, 5, 5],
    "torch.lerp(torch.tensor([-inf, 2]), torch.tensor([3., 4]), 0.5)": [-inf, 3],
    "torch.lerp(torch.tensor([1., 1e8]), torch.tensor([3., 1.]), torch.tensor([0.2, 1.]))": [1.4, 1],
    "torch.histc(torch.tensor([1., 2, 3]), 4, min=2, max=2)": [1, 0, 1, 1],
    "torch.histc(torch.tensor([2., 2, 2]), 4, min=5, max=5)": [0, 0, 3, 0],
    "torch.histc(torch.tensor([]), 4)": [0, 0, 0, 0],
    "torch.histc(torch.tensor([]), 4, min=3, max=3)": [0, 0, 0, 0],
    "torch.histc(torch.tensor([1., inf, nan]), 4, min=0, max=4)": [0, 1, 0, 0],
    "torch.searchsorted(torch.tensor([1, 2, nan]), torch.tensor([3., nan]))": [3, 3],
    "torch.searchsorted(torch.tensor([1, 2, nan]), torch.tensor([3., nan]), right=True)": [3, 3],
    "torch.searchsorted(torch.tensor([1, 2, 3.]), torch.tensor([nan]))": [3],
    "torch.searchsorted(torch.tensor([1, 2, nan, nan]), torch.tensor([0., 1, 3, nan]))": [4, 4, 4, 4],
    "torch.searchsorted(torch.tensor([1, 2, 3, 4, 5, nan, nan]), torch.tensor([0., 1, 3, nan, inf]))": [0, 0, 2, 7, 7],
    "torch.searchsorted(torch.tensor([1, 2, 3, nan]), 3)": 2,
    "torch.searchsorted(torch.tensor([1, 2, 3, nan]), torch.tensor([nan, 3., 4.]).double(), right=True)": [4, 4, 4],
    "torch.searchsorted(torch.tensor([3, nan, 1, 2.]), torch.tensor([nan, 3., 4.]), sorter=torch.tensor([2, 3, 0, 1]))": [4, 2, 4],
    "torch.searchsorted(torch.zeros(2, 0), torch.zeros(2, 3).double())": [[0] * 3] * 2,
    "torch.searchsorted(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 3))": [[0] * 3] * 2,
    "torch.searchsorted(torch.zeros(0, 2), torch.zeros(0, 3).double())": np.zeros((0, 3)),
    "torch.searchsorted(torch.tensor([1, 3]), 2.5)": 1,
    "torch.bucketize(nan, torch.tensor([1., 2, nan]))": 3,
    "torch.bincount(torch.tensor([0, 2, 2]), torch.tensor([0.5, 1, 2]))": [0.5, 0, 3],
    "torch.bincount(torch.tensor([0, 2, 2]), torch.tensor([1j, 1 + 2j, 1]))": [0, 0, 2],
    "torch.bincount(torch.tensor([], dtype=torch.int64), torch.tensor([]), minlength=2)": [0, 0],
    "torch.topk(torch.tensor(3.), 1).values": 3.0,
    "torch.nanquantile(torch.tensor([[1, nan, 2], [nan, nan, nan]]), torch.tensor([0.5, 1.]), dim=1)": [[1.5, nan], [2, nan]],
    "torch.nanquantile(torch.tensor([1, nan, 2]), 0.5, keepdim=True)": [1.5],
    "torch.nanquantile(torch.tensor([1, nan, 4, 9]), 0.6, interpolation='higher')": 9,
    "torch.nanmedian(torch.tensor([nan, 4, 1, 3, 2]))": 2,
    "torch.nanmedian(torch.tensor([nan, nan]))": nan,
    "torch.nanmedian(torch.tensor([]))": nan,
    "torch.nanmedian(torch.tensor([3, 1]))": 1,
    "torch.nanmedian(torch.tensor([[nan, 1], [nan, 3]]), 0).values": [nan, 1],
    "torch.nanmedian(torch.tensor(nan), 0).indices": 0,
    "torch.mode(torch.tensor([2, 3, 3, 2])).indices": 3,
    "torch.mode(torch.tensor([[True, False]])).values": [False],
    "torch.mode(torch.tensor([nan, nan, 2, 1, 1])).values": 1,
    "torch.mode(torch.tensor(3.), keepdim=True).indices": 0,
    "torch.mode(torch.ones(0, 2)).values": [],
}  # fmt: skip
REFUSED: dict[str, tuple[type[Exception], str]] = {
    "torch.quantile(torch.tensor([1, 2]), 0.5)": (RuntimeError, "either float or double"),
    "torch.quantile(torch.ones(2).half(), 0.5)": (RuntimeError, "either float or double"),
    "torch.quantile(torch.ones(2).double(), torch.tensor(0.5))": (RuntimeError, "same dtype"),
    "torch.quantile(torch.ones(2), torch.tensor([[0.5]]))": (RuntimeError, "scalar or 1D"),
    "torch.quantile(torch.ones(2), torch.tensor([0.5, nan]))": (RuntimeError, "range"),
    "torch.quantile(torch.ones(2), 0.5, interpolation='no')": (RuntimeError, "interpolation must be one of"),
    "torch.quantile(torch.zeros(0, 2), 0.5, dim=1)": (RuntimeError, "non-empty"),
    "torch.quantile(torch.tensor(1.), 0.5, dim=1)": (IndexError, "Dimension out of range"),
    "torch.histc(torch.tensor([1., inf, 3]), 4)": (RuntimeError, "not finite"),
    "torch.histc(torch.tensor([1., nan, 3]), 4)": (RuntimeError, "not finite"),
    "torch.histc(torch.tensor([1.]), 4, min=0, max=inf)": (RuntimeError, "not finite"),
    "torch.histc(torch.tensor([1.]), 4, min=3, max=1)": (RuntimeError, "max must be larger"),
    "torch.searchsorted(torch.tensor([3., 1, 2]), torch.tensor([2.5]), sorter=torch.tensor([1, 2]))": (RuntimeError, "same size"),
    "torch.searchsorted(torch.tensor([3., 1, 2]), torch.tensor([2.5]), sorter=torch.tensor([1, 2, -3])).item()": (RuntimeError, "out of"),
    "torch.searchsorted(torch.tensor([3.]), torch.tensor([2.5]), sorter=torch.tensor([0.]))": (RuntimeError, "long"),
    "torch.searchsorted(torch.tensor(3.), torch.tensor([2.5]))": (RuntimeError, "dimension"),
    "torch.searchsorted(torch.tensor([True]), torch.tensor([True]))": (NotImplementedError, "not implemented"),
    "torch.topk(torch.tensor(3.), 2)": (RuntimeError, "out of range"),
    "torch.argsort(torch.tensor(3.), dim=5)": (IndexError, "Dimension out of range"),
    "torch.argsort(torch.tensor([1j]))": (RuntimeError, "order"),
    "torch.max(torch.tensor([1j]), 0)": (RuntimeError, "order"),
    "torch.max(torch.tensor(1j), 0)": (RuntimeError, "not implemented"),
    "torch.isin(torch.tensor([1j]), torch.tensor([1j]))": (RuntimeError, "Unsupported input type"),
    "torch.isin(1, 1)": (TypeError, "isin"),
    "torch.mode(torch.tensor([1j]))": (NotImplementedError, "not implemented"),
    "torch.mode(torch.zeros(0))": (IndexError, "non-zero size"),
    "torch.nanmedian(torch.zeros(2, 0), 1)": (IndexError, "non-zero size"),
    "torch.nanmedian(torch.tensor([True]))": (NotImplementedError, "not implemented"),
    "torch.nanquantile(torch.ones(0), 0.5)": (RuntimeError, "non-empty"),
    "torch.nanquantile(torch.ones(2).half(), 0.5)": (RuntimeError, "either float or double"),
    "torch.kthvalue(torch.zeros(2, 0), 1, 1)": (IndexError, "non-zero size"),
    "torch.roll(torch.tensor(1.), 1, 0)": (IndexError, "no dimensions"),
    "torch.repeat_interleave(torch.tensor(1.), 2, 0)": (IndexError, ""),
}


def evaluate(library: Any, expression: str) -> Any:
    return eval(expression, {"torch": library, "inf": inf, "nan": nan})


@pytest.mark.parametrize("expression", VALUES)
def test_value(expression: str) -> None:
    got = evaluate(torch, expression)
    np.testing.assert_allclose(got.numpy(), VALUES[expression], rtol=1e-6)
    if theirs is not None:
        expected = evaluate(theirs, expression)
        np.testing.assert_allclose(expected.numpy(), VALUES[expression], rtol=1e-6)
        assert str(got.dtype) == str(expected.dtype) and tuple(got.shape) == tuple(expected.shape)


@pytest.mark.parametrize("expression", REFUSED)
def test_refused(expression: str) -> None:
    error, words = REFUSED[expression]
    with pytest.raises(error, match=words):
        evaluate(torch, expression)
    if theirs is not None:
        with pytest.raises(error):
            evaluate(theirs, expression)


GRADIENTS: dict[str, tuple[list[float], Any, list[float], Any]] = {  # x, q, their gradients
    "torch.quantile(x, q)": ([4, 1, 7], [0.3, 0.5, 1], [1.6, 0.4, 1], [6, 0, 0]),
    "torch.quantile(x, q[0])": ([4, 1, 7], [0.3], [0.6, 0.4, 0], [6]),
    "torch.quantile(x, q, interpolation='lower')": ([4, 1, 7, 9], [0.4], [1, 0, 0, 0], None),
    "torch.quantile(x, q, interpolation='midpoint')": ([4, 1, 7, 9], [0.4], [0.5, 0, 0.5, 0], None),
    "torch.quantile(x, 0.5)": ([4, nan, 7, nan], [0.0], [0, 0, 0, 1], None),
    "torch.nanquantile(x, q)": ([4, nan, 1, 7], [0.3, 0.5, 1], [1.6, 0, 0.4, 1], [6, 0, 0]),
    "torch.nanquantile(x.reshape(2, 3), q[0], dim=1)[0]": ([4, nan, 1, nan, nan, nan], [0.3], [0.3, 0, 0.7, 0, 0, 0], None),
    "torch.nanmedian(x, 0).values": ([4, nan, 1, 7], [], [1, 0, 0, 0], None),
    "torch.mode(x).values * 3": ([4, 1, 4, 7], [], [0, 0, 3, 0], None),
    "torch.lerp(x, 2 * x, q)": ([4, 1], [0.3, 0.7], [1.3, 1.7], [4, 1]),
}


@pytest.mark.parametrize("expression", GRADIENTS)
def test_gradients(expression: str) -> None:
    given, shares, of_x, of_q = GRADIENTS[expression]
    for library in (torch, theirs) if theirs is not None else (torch,):
        x, q = (library.tensor([float(n) for n in numbers], requires_grad=True) for numbers in (given, shares))
        eval(expression, {"torch": library, "x": x, "q": q}).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), of_x, rtol=1e-5)
        if of_q is not None:
            np.testing.assert_allclose(q.grad.numpy(), of_q, rtol=1e-5)
