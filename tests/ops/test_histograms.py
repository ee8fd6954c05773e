"""Histograms: what lies on an edge, outside of all, and what halves and empty data give."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch

CALLS = {
    "edges": "torch.histogram(torch.tensor([0., 1., 3., 3.5, -1., float('nan')]), torch.tensor([0., 1., 3.]))",
    "uniform": "torch.histogram(torch.tensor([0., 0.5, 1., 2., 3.]), 4)",
    "range": "torch.histogram(torch.tensor([0., 0.5, 1., float('inf')]), 2, range=(0., 1.))",
    "weighted": "torch.histogram(torch.tensor([[0., 0.5], [1., 2.]]), 2, weight=torch.tensor([[1., 2.], [3., 4.]]), density=True)",
    "equal": "torch.histogram(torch.ones(3), 4)",
    "empty": "torch.histogram(torch.ones(0), 4)",
    "half": "torch.histogram(torch.tensor([0., 0.3, 1.]).half(), 3, range=(0., 1.))",
    "points": "torch.histogramdd(torch.tensor([[0., 1.], [1., 0.], [2., 0.], [2., 2.]]), bins=[3, 2], weight=torch.tensor([1., 2., 4., 8.]))",
    "one number": "torch.histogramdd(torch.tensor([[[0., 1.]], [[1., 0.]]]), bins=2, range=[0., 1., 0., 2.])",
    "two edges": "torch.histogramdd(torch.tensor([[0., 1.], [9., 0.]]), bins=[torch.tensor([0., 0.5, 3.]), torch.tensor([0., 1.])], density=True)",
}


@pytest.mark.parametrize("name", CALLS)
def test_as_in_pytorch(name: str) -> None:
    theirs = pytest.importorskip("torch")
    got, want = (eval(CALLS[name], {"torch": library}) for library in (torch, theirs))
    np.testing.assert_allclose(got.hist.numpy(), want.hist.numpy(), rtol=1e-6)
    edges = ([got.bin_edges], [want.bin_edges]) if isinstance(got.bin_edges, torch.Tensor) else (got.bin_edges, want.bin_edges)
    for g, w in zip(*edges, strict=True):
        assert str(g.dtype) == str(w.dtype)
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-3 if name == "half" else 1e-6)


def test_nothing_is_differentiated() -> None:
    x = torch.tensor([0.0, 1.0], requires_grad=True)
    hist, edges = x.histogram(2, weight=torch.ones(2, requires_grad=True))
    assert not hist.requires_grad and not edges.requires_grad and hist.tolist() == [1, 1]


def test_bfloat16() -> None:
    hist, edges = torch.histogram(torch.tensor([0.0, 1.0, 3.0, 4.0]).bfloat16(), 4)
    assert hist.dtype is edges.dtype is torch.bfloat16
    assert hist.tolist() == [1, 1, 0, 2] and edges.tolist() == [0, 1, 2, 3, 4]
