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


ERROR_FUNCTIONS = {  # where; the value and its slope by mpmath
    "erfcx": (
        [-9.2, -3.3, -1.0, -1e-7, 0.0, 1e-20, 0.3, 1.0, 3.75, 9.0, 26.7, 100.0],
        lambda mp, x: mp.exp(x * x) * mp.erfc(x),
        lambda mp, x, y: 2 * x * y - 2 / mp.sqrt(mp.pi),
    ),
    "log_ndtr": (
        [-2000.0, -38.5, -9.0, -1.0, -1e-7, 0.0, 1e-20, 0.3, 1.0, 4.0, 9.0, 12.9],
        lambda mp, x: mp.log1p(-mp.erfc(x / mp.sqrt(2)) / 2) if x > 0 else mp.log(mp.erfc(-x / mp.sqrt(2)) / 2),
        lambda mp, x, y: mp.exp(-x * x / 2 - y) / mp.sqrt(2 * mp.pi),
    ),
    "ndtri": (
        [1e-37, 1e-11, 1e-10, 1e-3, 0.07, 0.08, 0.3, 0.5 + 1e-5, 0.7, 0.92, 0.93, 0.999, 1 - 1e-6],
        lambda mp, p: mp.findroot(lambda x: mp.log(mp.erfc(x / mp.sqrt(2)) / 2) - mp.log(min(p, 1 - p)), mp.sqrt(-2 * mp.log(min(p, 1 - p))) * 0.8)
        * (-1 if p < 0.5 else 1),
        lambda mp, p, x: mp.sqrt(2 * mp.pi) * mp.exp(x * x / 2),
    ),
}


@pytest.mark.parametrize("name", ERROR_FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_error_functions_to_a_few_units_in_the_last_place(name: str, dtype: torch.dtype) -> None:
    mpmath = pytest.importorskip("mpmath")
    places, value, slope = ERROR_FUNCTIONS[name]
    x = torch.tensor(places, dtype=dtype)
    eps = torch.finfo(dtype).eps
    with mpmath.workdps(60):
        mp = mpmath.mp
        exact = [mp.mpf(p) for p in x.tolist()]
        values = [value(mp, p) for p in exact]
        slopes = [float(slope(mp, p, v)) for p, v in zip(exact, values, strict=True)]
    got, steepness = with_slope(getattr(special, name), x.tolist(), dtype)
    np.testing.assert_allclose(got, np.array([float(v) for v in values]), rtol=5 * eps)
    np.testing.assert_allclose(steepness, np.array(slopes), rtol=20 * eps, atol=float(np.finfo(steepness.dtype).tiny))


def test_error_functions_at_their_ends() -> None:
    for dtype in (torch.float64, torch.float32):
        found = [t.tolist() for t in with_slope(special.erfcx, [0.0, -0.0, inf, -inf, -30.0], dtype)]
        assert found == [[1, 1, 0, inf, inf], [*found[1][:2], 0, -inf, -inf]]
        assert [t.tolist() for t in with_slope(special.log_ndtr, [inf, -inf, 60.0], dtype)] == [[0, -inf, 0], [0, inf, 0]]
        value, slope = with_slope(special.ndtri, [0.0, 1.0, 0.5, -0.1, 1.1], dtype)
        assert value[:3].tolist() == [-inf, inf, 0] and slope[:2].tolist() == [inf, inf]
        assert np.isnan(value[3:]).all() and np.isnan(slope[3:]).all()
        assert all(isnan(getattr(special, n)(torch.tensor(np.nan, dtype=dtype)).item()) for n in ERROR_FUNCTIONS)
    large = special.erfcx(torch.tensor([1e5, 1e300], dtype=torch.float64)) * torch.tensor([1e5, 1e300], dtype=torch.float64)
    assert large.tolist() == pytest.approx([1 / sqrt(pi)] * 2, rel=1e-10)
    assert special.ndtri(torch.tensor([0, 1])).tolist() == [-inf, inf] and special.erfcx(torch.ones(1).half()).dtype is torch.float16


def test_further_derivatives_of_error_functions() -> None:
    def third(function: Any, numbers: list[float]) -> list[float]:
        x = y = torch.tensor(numbers, dtype=torch.float64, requires_grad=True)
        y = function(x)
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return y.tolist()

    x = [-3.0, 0.4, 20.0]
    y = special.erfcx(torch.tensor(x, dtype=torch.float64)).tolist()
    wanted = [(8 * a**3 + 12 * a) * b - (8 * a * a + 8) / sqrt(pi) for a, b in zip(x, y, strict=True)]  # by y' = 2 x y - 2 / sqrt pi
    assert third(special.erfcx, x) == pytest.approx(wanted, rel=1e-8)
    p = [0.004, 0.3, 0.9]
    q = special.ndtri(torch.tensor(p, dtype=torch.float64)).tolist()
    assert third(special.ndtri, p) == pytest.approx([(1 + 2 * a * a) * (2 * pi * exp(a * a)) ** 1.5 for a in q], rel=1e-11)
    h = [(a, exp(-a * a / 2) / sqrt(2 * pi) / special.ndtr(torch.tensor(a, dtype=torch.float64)).item()) for a in (-2.0, 0.4, 2.0)]
    assert third(special.log_ndtr, [a for a, _ in h]) == pytest.approx([(a * a - 1) * b + 3 * a * b * b + 2 * b**3 for a, b in h], rel=1e-11)


def wave_size(x: float) -> float:
    return sqrt(2 / (pi * max(abs(x), 0.6)))


BESSEL_LIKE = {  # places; the value and slope by mpmath; what an error is compared with
    "bessel_j0": ([-30.0, -2.0, 0.0, 1e-5, 1.9, 2.0, 2.1, 7.0, 24.9, 700.0], lambda mp, x: (mp.besselj(0, x), -mp.besselj(1, x)), wave_size),
    "bessel_j1": ([-30.0, -2.0, 1e-5, 1.9, 2.0, 2.1, 7.0, 24.9, 700.0], lambda mp, x: (mp.besselj(1, x), mp.besselj(1, x, 1)), wave_size),
    "bessel_y0": ([1e-5, 0.3, 1.9, 2.1, 7.0, 24.9, 700.0], lambda mp, x: (mp.bessely(0, x), -mp.bessely(1, x)), wave_size),
    "bessel_y1": ([1e-5, 0.3, 1.9, 2.1, 7.0, 24.9, 700.0], lambda mp, x: (mp.bessely(1, x), mp.bessely(1, x, 1)), wave_size),
    "modified_bessel_k0": ([1e-30, 1e-5, 0.3, 0.99, 1.01, 2.0, 9.0, 80.0], lambda mp, x: (mp.besselk(0, x), -mp.besselk(1, x)), lambda x: 0),
    "modified_bessel_k1": ([1e-15, 1e-5, 0.3, 0.99, 1.01, 2.0, 9.0, 80.0], lambda mp, x: (mp.besselk(1, x), -mp.besselk(0, x) - mp.besselk(1, x) / x), lambda x: 0),
    "spherical_bessel_j0": ([-9.0, -1e-3, 0.0, 0.4, 0.6, 20.0], lambda mp, x: (mp.sinc(x), (mp.cos(x) - mp.sinc(x)) / x if x else mp.mpf(0)), lambda x: min(1, 1 / abs(x or 1))),
    "airy_ai": ([-25.0, -3.0, -1.6, -1.4, 0.0, 0.9, 1.1, 5.0, 12.0], lambda mp, x: (mp.airyai(x), mp.airyai(x, 1)), lambda x: 0.3 if x < 0 else 0),
    "gammainc of 0.25": ([1e-20, 0.1, 0.49, 0.51, 3.0, 20.0], lambda mp, x: (mp.gammainc(0.25, 0, x, True), x ** (mp.mpf(0.25) - 1) * mp.exp(-x) / mp.gamma(0.25)), lambda x: 0),
    "gammaincc of 0.25": ([1e-20, 0.1, 0.49, 0.51, 3.0, 20.0], lambda mp, x: (mp.gammainc(0.25, x, mp.inf, True), -(x ** (mp.mpf(0.25) - 1)) * mp.exp(-x) / mp.gamma(0.25)), lambda x: 0),
    "gammainc of 40": ([0.1, 20.0, 39.5, 41.0, 60.0], lambda mp, x: (mp.gammainc(40, 0, x, True), x**39 * mp.exp(-x) / mp.gamma(40)), lambda x: 0),
    "gammaincc of 1000": ([900.0, 990.0, 1000.0, 1010.0, 1200.0], lambda mp, x: (mp.gammainc(1000, x, mp.inf, True), -mp.exp(999 * mp.log(x) - x - mp.loggamma(1000))), lambda x: 0),
    "ndtr": ([-12.0, -3.0, -1.1, -0.9, 0.0, 2.0], lambda mp, x: (mp.ncdf(x), mp.npdf(x)), lambda x: 0),
}  # fmt: skip


@pytest.mark.parametrize("name", BESSEL_LIKE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_further_functions_against_many_digits(name: str, dtype: torch.dtype) -> None:
    mpmath = pytest.importorskip("mpmath")
    places, exact, size = BESSEL_LIKE[name]
    called, _, first = name.partition(" of ")
    function = getattr(special, called)
    if first:
        function = lambda x, f=function: f(torch.tensor(float(first), dtype=dtype), x)  # noqa: E731
    x = torch.tensor(places, dtype=dtype)
    with mpmath.workdps(40):
        values = [[float(v) for v in exact(mpmath.mp, mpmath.mp.mpf(p))] for p in x.tolist()]
    got = with_slope(function, x.tolist(), dtype)
    bound = 60 * 2.0**-52 if dtype is torch.float64 else 2.0**-23 * (4 if called != "ndtr" else 60)
    for numbers, wanted in zip(got, np.array(values).T, strict=True):
        scale = np.maximum(np.abs(wanted), [size(p) for p in x.tolist()])
        assert (np.abs(numbers.astype(np.float64) - wanted) <= bound * scale + float(torch.finfo(dtype).tiny)).all(), (numbers, wanted)


def test_further_functions_at_their_ends() -> None:
    for dtype in (torch.float64, torch.float32):
        ends = torch.tensor([0.0, inf, -1.0, np.nan], dtype=dtype)
        for name, wanted in {"bessel_y0": [-inf, 0], "bessel_y1": [-inf, 0], "modified_bessel_k0": [inf, 0], "scaled_modified_bessel_k1": [inf, 0]}.items():
            found = getattr(special, name)(ends)
            assert found[:2].tolist() == wanted and found[2:].isnan().all(), name
        for name, at_0 in {"bessel_j0": 1, "bessel_j1": 0, "spherical_bessel_j0": 1}.items():
            found = getattr(special, name)(torch.tensor([0.0, inf, -inf, np.nan], dtype=dtype))
            assert found[:3].tolist() == [at_0, 0, 0] and found[3].isnan(), name
        assert special.airy_ai(torch.tensor([inf, -inf], dtype=dtype)).tolist() == [0, 0] and special.airy_ai(ends)[3].isnan()
    a, x = torch.tensor([0.0, 1.0, 1.0, inf, 0.0, -1.0, 1.0, inf]), torch.tensor([1.0, 0.0, inf, 1.0, 0.0, 1.0, -1.0, inf])
    assert torch.igamma(a, x)[:4].tolist() == [1, 0, 1, 0] and torch.igammac(a, x)[:4].tolist() == [0, 1, 0, 1]
    assert torch.igamma(a, x)[4:].isnan().all() and torch.igammac(a, x)[4:].isnan().all()
    assert special.ndtr(torch.tensor([-inf, -50.0, inf])).tolist() == [0, 0, 1]


def test_zeta_of_all_kinds() -> None:
    s, q = torch.tensor([2.0, 1.5, 40.0, 3.0, 2.0]).double(), torch.tensor([1.0, 900.0, 300.0, -2.5, -0.25]).double()
    wanted = [pi**2 / 6, None, None, None, None]
    for k in range(1, 5):
        terms = (q[k].item() + np.arange(3_000_000.0)) ** -s[k].item()
        end = q[k].item() + 3_000_000 - 0.5
        wanted[k] = float(np.sum(terms[::-1])) + end ** (1 - s[k].item()) / (s[k].item() - 1)
    assert special.zeta(s, q).tolist() == pytest.approx(wanted, rel=1e-13)
    x = q.clone().requires_grad_()
    special.zeta(s, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), (-s * special.zeta(s + 1, q)).numpy(), rtol=1e-12)
    ends = special.zeta(torch.tensor([1.0, 2.0, 3.0, 0.5, 2.5]), torch.tensor([2.0, 0.0, -4.0, 1.0, -1.5]))
    assert ends[:3].tolist() == [inf] * 3 and ends[3:].isnan().all()
    assert special.zeta(2, torch.tensor([1.0])).item() == pytest.approx(pi**2 / 6) and special.zeta(torch.tensor(2), 1).dtype is torch.float32


def test_degrees_may_be_tensors() -> None:
    x, n = torch.tensor([0.5, -0.5]), torch.tensor([[0], [2], [-1]])
    assert special.legendre_polynomial_p(x, n).tolist() == [[1, 1], [-0.125, -0.125], [0, 0]]
    assert special.hermite_polynomial_h(2.0, torch.tensor([1, 2])).tolist() == [4, 14]
    with pytest.raises(RuntimeError, match="must be a whole number, but got n=1.5"):
        special.legendre_polynomial_p(x, 1.5)
    with pytest.raises(TypeError, match="one of 'input' and 'n' must be Tensor"):
        special.legendre_polynomial_p(0.5, 2)
