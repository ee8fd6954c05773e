"""Derivatives by logits, also where they are 0: there weights that begin as zeros put them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch

D = torch.distributions

# A function of logits, and its derivative.
ROWS: dict[str, tuple[Callable[[Any], Any], Callable[[np.ndarray], np.ndarray]]] = {
    "Bernoulli": (lambda x: D.Bernoulli(logits=x).log_prob(torch.ones_like(x)), lambda p: 1 - p),
    "Bernoulli.entropy": (
        lambda x: D.Bernoulli(logits=x).entropy(),
        lambda p: -np.log(p / (1 - p)) * p * (1 - p),
    ),
    "Binomial": (lambda x: D.Binomial(3, logits=x).log_prob(torch.ones_like(x)), lambda p: 1 - 3 * p),
    "Geometric": (lambda x: D.Geometric(logits=x).log_prob(torch.ones_like(x)), lambda p: 1 - 2 * p),
}


@pytest.mark.parametrize("name", ROWS)
def test_derivatives(name: str) -> None:
    function, slope = ROWS[name]
    logits = np.array([-40.0, -2.0, 0.0, -0.0, 1.5, 30.0])
    x = torch.tensor(logits, requires_grad=True)
    function(x).sum().backward()
    assert np.allclose(x.grad.numpy(), slope(1 / (1 + np.exp(-logits))), rtol=1e-6, atol=1e-12)
