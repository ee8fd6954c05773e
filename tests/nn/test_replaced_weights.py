"""Weights that a program has put in a parameter's place, and what subclasses of modules call of PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("bias", [True, False])
def test_a_recurrent_weight_computed_of_another(kind, bias):
    """As in dropping connections: a plain tensor in the place of `weight_hh_l0`, made anew of a parameter."""
    torch.manual_seed(0)
    layer = kind(3, 4, bias=bias)
    x = torch.randn(5, 2, 3)
    weight = layer.weight_hh_l0
    expected = layer(x)[0]
    expected.sum().backward()
    gradient = weight.grad.clone()
    del layer.weight_hh_l0
    raw = nn.Parameter(weight.detach() / 2)
    layer.register_parameter("weight_hh_l0_raw", raw)
    layer.weight_hh_l0 = raw * 2
    out = layer(x)[0]
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-6)
    out.sum().backward()
    np.testing.assert_allclose(raw.grad.numpy(), 2 * gradient.numpy(), rtol=1e-5, atol=1e-6)


def test_members_by_a_function():
    class Marked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.marks = {"a": torch.ones(1)}

    outer = nn.Sequential(Marked(), Marked())
    found = dict(outer._named_members(lambda m: getattr(m, "marks", {}).items()))
    assert list(found) == ["0.a", "1.a"]
    assert list(dict(outer._named_members(lambda m: m._parameters.items(), recurse=False))) == []
    assert nn.ModuleList([nn.Identity(), nn.Identity()])._get_abs_string_index(-1) == "1"
