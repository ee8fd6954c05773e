"""Initialisation: moments and bounds of what is drawn, exact values of what is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

import adjoint as torch
from adjoint.nn import init

# How to fill a (200, 300) matrix, the standard deviation that must come out, and the largest value if bounded.
DRAWS = {
    "uniform_": (lambda t: init.uniform_(t, -2, 2), 4 / math.sqrt(12), 2.0),
    "normal_": (lambda t: init.normal_(t, 0, 3), 3.0, None),
    "xavier_uniform_": (
        lambda t: init.xavier_uniform_(t, gain=2.0),
        2 * math.sqrt(2 / 500),
        2 * math.sqrt(6 / 500),
    ),
    "xavier_normal_": (lambda t: init.xavier_normal_(t), math.sqrt(2 / 500), None),
    "kaiming_uniform_": (
        lambda t: init.kaiming_uniform_(t, nonlinearity="relu"),
        math.sqrt(2 / 300),
        math.sqrt(6 / 300),
    ),
    "kaiming_normal_": (
        lambda t: init.kaiming_normal_(t, a=2.0, mode="fan_out"),
        math.sqrt(2 / 5 / 200),
        None,
    ),
    "trunc_normal_": (lambda t: init.trunc_normal_(t, std=1.0, a=-1.0, b=1.0), 0.5396, 1.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_moments(name: str) -> None:
    fill, std, bound = DRAWS[name]
    torch.manual_seed(0)
    t = torch.empty(200, 300, dtype=torch.float64, requires_grad=True)
    assert fill(t) is t and t.requires_grad and t.grad_fn is None
    values = t.detach().numpy()
    assert abs(values.mean()) < 0.02 * std
    assert abs(values.std() - std) < 0.02 * std
    if bound is not None:
        assert 0.98 * bound < np.abs(values).max() <= bound * (1 + 1e-12)


def test_exact_ones() -> None:
    t = torch.empty(2, 3)
    assert init.ones_(t).tolist() == [[1] * 3] * 2
    assert init.constant_(t, 0.5).tolist() == [[0.5] * 3] * 2
    assert init.zeros_(t).sum().item() == 0
    assert init.eye_(t).tolist() == [[1, 0, 0], [0, 1, 0]]
    w = init.dirac_(torch.empty(4, 2, 3), groups=2)
    x = torch.randn(1, 4, 6)
    np.testing.assert_allclose(
        torch.nn.functional.conv1d(x, w, padding=1, groups=2).numpy(), x.numpy()
    )


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    t = (
        init.orthogonal_(torch.empty(*shape, dtype=torch.float64), gain=2.0)
        .numpy()
        .reshape(shape[0], -1)
    )
    gram = t @ t.T if t.shape[0] <= t.shape[1] else t.T @ t
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-12)


def test_sparse() -> None:
    t = init.sparse_(torch.empty(10, 4), 0.35).numpy()
    assert ((t == 0).sum(0) == 4).all()


GAINS = {
    "linear": 1,
    "conv2d": 1,
    "sigmoid": 1,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 1e-4)),
    "selu": 0.75,
}


@pytest.mark.parametrize("name", GAINS)
def test_gains(name: str) -> None:
    assert init.calculate_gain(name) == pytest.approx(GAINS[name], rel=1e-12)


def test_errors() -> None:
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(torch.empty(3))
    with pytest.raises(ValueError, match="only 2|Only tensors with 2"):
        init.eye_(torch.empty(3))
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("sine")
    with pytest.raises(ValueError, match="Mode fan not supported"):
        init.kaiming_normal_(torch.empty(2, 2), mode="fan")


def test_default_bounds_of_layers() -> None:
    for layer, fan_in in [
        (torch.nn.Linear(50, 400), 50),
        (torch.nn.Conv2d(4, 100, 3), 36),
        (torch.nn.LSTM(3, 64), 64),
    ]:
        bound = 1 / math.sqrt(fan_in)
        for p in layer.parameters():
            assert 0.9 * bound < p.detach().abs().max().item() <= bound * (1 + 1e-6)
