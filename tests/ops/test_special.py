"""Special functions where their formulas change, at their poles, zeros and ends."""

from __future__ import annotations

from math import exp, inf, isnan, pi, sqrt
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing.operators.pointwise import _bessel as by_integral

special = torch.special
BESSEL = {"i0": (0, False), "i0e": (0, True), "i1": (1, False), "i1e": (1, True)}


def with_slope(function: Any, numbers: Any, dtype: torch.dtype = torch.float64) -> tuple[np.ndarray, np.ndarray]:
    x = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    y = function(x)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("name", BESSEL)
def test_bessel_functions_and_slopes(name: str) -> None:
    order, scaled = BESSEL[name]
    places = [-60.0, -20.0, -19.99, -9.99, -1.0, 1.0, 10.0, 19.99, 20.0, 60.0]
    i0, i1 = (np.array([by_integral(k, scaled)(x) for x in places]) for k in (0, 1))
    x = np.array(places)
    value, slope = (i0, i1) if order == 0 else (i1, i0 - i1 / x)
    slope = slope - (np.sign(x) * value if scaled else 0)
    for dtype, eps in ((torch.float64, 2.0**-52), (torch.float32, 2.0**-23)):
        got, steepness = with_slope(getattr(special, name), places, dtype)
        rounding = 2 * np.abs(x).max() if dtype is torch.float32 else 9  # of a place as float32, in the exponential
        np.testing.assert_allclose(got, value, rtol=rounding * eps)
        np.testing.assert_allclose(steepness, slope, rtol=100 * rounding * eps)


def test_bessel_functions_at_their_ends() -> None:
    assert [t.tolist() for t in with_slope(special.i0, [0.0, 1000.0, -inf])] == [[1, inf, inf], [0, inf, -inf]]
    assert [t.tolist() for t in with_slope(special.i1, [0.0, 1000.0, -inf])] == [[0, inf, -inf], [0.5, inf, inf]]
    assert [t.tolist() for t in with_slope(special.i0e, [0.0, inf, -inf])] == [[1, 0, 0], [0, 0, 0]]
    assert [t.tolist() for t in with_slope(special.i1e, [0.0, inf])] == [[0, 0], [0.5, 0]]
    assert all(isnan(f(torch.tensor(np.nan)).item()) for f in (special.i0, special.i0e, special.i1, special.i1e))
    assert abs(special.i0(torch.tensor(709.0).double()).item() / (exp(709) / sqrt(2 * pi * 709)) - 1 - 1 / (8 * 709)) < 1e-6
    value, slope = with_slope(special.i0e, [1e4])
    assert abs(slope[0] / (value[0] * (-1 / 2e4 - 1 / 8e8)) - 1) < 1e-8  # no difference of two that are nearly equal
    assert torch.i0(torch.tensor([0, 1])).dtype is torch.float32 and torch.ones(2).half().i0().dtype is torch.float16


def test_polygamma() -> None:
    zeta3, beta4 = 1.2020569031595942, 0.9889445517411053
    assert torch.polygamma(1, torch.tensor([1.0, 0.5], dtype=torch.float64)).tolist() == pytest.approx([pi**2 / 6, pi**2 / 2], rel=1e-15)
    x = torch.tensor([1.0, 0.5, 0.25, 0.0, -1.0, inf], dtype=torch.float64)
    assert special.polygamma(2, x).tolist() == pytest.approx([-2 * zeta3, -14 * zeta3, -2 * pi**3 - 56 * zeta3, -inf, -inf, 0], rel=1e-14)
    assert torch.polygamma(3, x[:4]).tolist() == pytest.approx([pi**4 / 15, pi**4, 8 * pi**4 + 768 * beta4, inf], rel=1e-13)
    assert torch.equal(x[:3].polygamma(0), torch.digamma(x[:3]))
    for n in (0, 1, 2, 5):
        places = np.array([0.3, 1.7, 12.0, -0.6, -3.3])
        np.testing.assert_allclose(with_slope(lambda t, n=n: torch.polygamma(n, t), places)[1], torch.polygamma(n + 1, torch.tensor(places)).numpy(), rtol=1e-12)
    assert torch.polygamma(171, torch.tensor([0.5, 1.0])).tolist() == [inf, inf]
    assert torch.polygamma(2**62, torch.tensor([-0.5, 0.5])).tolist() == [-inf, -inf]
    assert torch.ones(1).polygamma_(1).item() == pytest.approx(pi**2 / 6)
    with pytest.raises(RuntimeError, match="negative n, but got n=-1"):
        torch.polygamma(-1, x)
    with pytest.raises(TypeError, match="must be int"):
        torch.polygamma(1.5, x)  # type: ignore[arg-type]


def test_the_second_derivative_of_i0() -> None:
    x = torch.tensor([-1.3, 25.0], dtype=torch.float64, requires_grad=True)
    with torch.eager():
        (slope,) = torch.autograd.grad(special.i0(x).sum(), x, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), x)
        wanted = (special.i0(x) - special.i1(x) / x).detach()
    np.testing.assert_allclose(bend.numpy(), wanted.numpy(), rtol=1e-13)


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_logarithms_where_they_are_hidden(library: str) -> None:
    t = pytest.importorskip(library)
    nan, inf = float("nan"), float("inf")
    assert str(t.special.entr(t.tensor([nan, -1.0, 0.0])).tolist()) == "[nan, -inf, 0.0]"
    assert str(t.special.xlog1py(t.tensor([0.0, 0.0, 1.0, 0.0]), t.tensor([-1.0, nan, -1.0, inf])).tolist()) == "[0.0, nan, -inf, 0.0]"
    assert t.special.xlog1py(2, t.tensor([1])).dtype is t.float32
