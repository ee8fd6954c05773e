"""Divergences of every registered pair: against quadrature, and against PyTorch if it is there."""

from __future__ import annotations

import math

import numpy as np
import pytest

import adjoint as torch
from adjoint.distributions import kl_divergence
from adjoint.distributions.kl import _RULES

D = torch.distributions
pytestmark = pytest.mark.usefixtures("little_effort")


def f64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def array(t) -> np.ndarray:
    return np.array(t.detach().clone().numpy(), dtype=np.float64)


PARAMETERS: dict[str, list[tuple]] = {
    "Bernoulli": [(0.3,), (0.7,)],
    "Beta": [(2.0, 1.5), (1.3, 3.0)],
    "Binomial": [(5, 0.3), (5, 0.8)],
    "Cauchy": [(0.3, 1.2), (-0.2, 0.7)],
    "ContinuousBernoulli": [(0.3,), (0.5,), (0.95,)],
    "Exponential": [(1.5,), (0.6,)],
    "Gamma": [(2.0, 1.5), (0.7, 0.4)],
    "Geometric": [(0.3,), (0.6,)],
    "Gumbel": [(0.3, 1.2), (-0.2, 0.9)],
    "HalfCauchy": [(0.7,), (1.4,)],
    "HalfNormal": [(0.7,), (1.4,)],
    "Laplace": [(0.3, 1.2), (-0.2, 0.7)],
    "LogNormal": [(0.3, 1.2), (-0.2, 0.7)],
    "Normal": [(0.3, 1.2), (-0.2, 0.7)],
    "Pareto": [(1.2, 4.5), (0.8, 3.5)],
    "Poisson": [(2.5,), (1.3,)],
    "Uniform": [(0.2, 0.9), (1.5, 2.5), (-1.0, 3.0), (0.0, 1.0)],
    "Chi2": [(3.0,), (4.5,)],
    "Kumaraswamy": [(2.0, 3.0)],
    "Weibull": [(1.3, 1.7)],
}
NAMED = [(n, p) for n, each in PARAMETERS.items() for p in each]


def make(name, params, module=D, tensor=f64):
    return getattr(module, name)(*(tensor(float(p)) for p in params))


def points(name, params) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for integrals over the support; sums for whole numbers."""
    if name in ("Bernoulli", "Binomial", "Poisson", "Geometric"):
        top = {"Bernoulli": 1, "Binomial": 5}.get(name, 200)
        return np.arange(top + 1.0), np.ones(top + 1)
    s = np.linspace(-3.4, 3.4, 20001)
    step = s[1] - s[0]
    if name in ("Normal", "Laplace", "Cauchy", "Gumbel"):
        s = s * 5
        return np.sinh(s), np.cosh(s) * step * 5
    if name in ("Beta", "ContinuousBernoulli", "Uniform", "Kumaraswamy"):
        a, b = params if name == "Uniform" else (0.0, 1.0)
        z = np.tanh(1.5 * np.sinh(s * 0.8))
        slope = 1.5 * np.cosh(s * 0.8) * 0.8 / np.cosh(1.5 * np.sinh(s * 0.8)) ** 2
        return a + (b - a) * (z + 1) / 2, (b - a) / 2 * slope * step
    start = params[0] if name == "Pareto" else 0.0
    x = np.exp(2 * np.sinh(s))
    return start + x, 2 * np.cosh(s) * x * step


def _log(d, x) -> np.ndarray:
    """Also of points outside of the support, which may give anything."""
    loose = d.expand(())
    for each in (loose, getattr(loose, "base_dist", loose)):
        each._validate_args = False
    return array(loose.log_prob(f64(x)))


@pytest.mark.parametrize("p_name, p_params", NAMED, ids=str)
def test_divergences_by_quadrature(p_name, p_params):
    p = make(p_name, p_params)
    x, w = points(p_name, p_params)
    if p_name == "Uniform":  # open at its upper end
        inside = (x >= p_params[0]) & (x < p_params[1])
        x, w = x[inside], w[inside]
    log_p = _log(p, x)
    mass = np.where(np.isfinite(log_p), np.exp(log_p), 0.0) * w
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    for q_name, q_params in NAMED:
        q = make(q_name, q_params)
        try:
            claimed = float(kl_divergence(p, q))
        except NotImplementedError:
            assert p_name != q_name or p_params != q_params or p_name in ("Kumaraswamy", "Weibull")
            continue
        kept = mass > 1e-300
        log_q = np.where(array(q.support.check(f64(x))) > 0, _log(q, x), -np.inf)
        with np.errstate(invalid="ignore"):
            terms = np.where(kept, mass * (log_p - log_q), 0.0)
        want = terms.sum()
        if math.isinf(claimed):
            lost = mass[np.isneginf(log_q)].sum()
            assert lost > 1e-9, (q_name, q_params)
        else:
            assert claimed == pytest.approx(want, rel=1e-4, abs=2e-5), (q_name, q_params)


@pytest.mark.parametrize("p_name, p_params", NAMED, ids=str)
def test_pytorch_agrees(p_name, p_params):
    other = pytest.importorskip("torch")

    def theirs(value):
        return other.tensor(value, dtype=other.float64)

    for q_name, q_params in NAMED:
        try:
            o = make(p_name, p_params, other.distributions, theirs)
            r = make(q_name, q_params, other.distributions, theirs)
            want = float(other.distributions.kl_divergence(o, r))
        except NotImplementedError:
            want = None
        p, q = make(p_name, p_params), make(q_name, q_params)
        if want is None:
            with pytest.raises(NotImplementedError):
                kl_divergence(p, q)
            continue
        if {p_name, q_name} == {"Uniform", "ContinuousBernoulli"} and math.isinf(want):
            continue  # PyTorch leaves the ends of [0, 1] out
        assert float(kl_divergence(p, q)) == pytest.approx(want, rel=1e-8, abs=1e-9)


def test_every_pair_of_pytorch_is_registered():
    pytest.importorskip("torch")
    from torch.distributions.kl import _KL_REGISTRY

    ours = {(p.__name__, q.__name__) for p, q in _RULES}
    assert {(p.__name__, q.__name__) for p, q in _KL_REGISTRY} <= ours


def test_a_family_of_ones_own_by_its_normalizer():
    """The generic formulas, on a normal distribution that states only natural parameters."""

    class Mine(D.ExponentialFamily):
        def __init__(self, loc, scale):
            self.inner = D.Normal(loc, scale)
            super().__init__(self.inner.batch_shape)

        @property
        def _natural_params(self):
            return self.inner._natural_params

        def _log_normalizer(self, *params):
            return self.inner._log_normalizer(*params)

        @property
        def _mean_carrier_measure(self):
            return 0.0

    loc, scale = f64([0.3, -1.0]).requires_grad_(True), f64([1.2, 0.5]).requires_grad_(True)
    p, q = Mine(loc, scale), Mine(f64([0.0, 0.2]), f64([1.0, 2.0]))
    np.testing.assert_allclose(array(p.entropy()), array(p.inner.entropy()))
    np.testing.assert_allclose(array(kl_divergence(p, q)), array(kl_divergence(p.inner, q.inner)))
    got = torch.autograd.grad(p.entropy().sum(), scale)[0]
    np.testing.assert_allclose(array(got), 1 / array(scale))
    with pytest.raises(NotImplementedError, match="Mine.*Poisson"):
        kl_divergence(p, D.Poisson(1.0))


FAMILIES = [
    ("Bernoulli", (0.3,)),
    ("Beta", (2.0, 1.5)),
    ("ContinuousBernoulli", (0.3,)),
    ("Exponential", (1.5,)),
    ("Gamma", (2.0, 1.5)),
    ("Normal", (0.3, 1.2)),
]


@pytest.mark.parametrize("name, params", FAMILIES, ids=str)
def test_natural_parameters(name, params):
    d = make(name, params)
    np.testing.assert_allclose(float(D.ExponentialFamily.entropy(d)), float(d.entropy()), rtol=1e-9)


def test_natural_parameters_of_vectors():
    for d in (
        D.Dirichlet(f64([[1.5, 2.0, 3.0], [0.5, 1.0, 1.0]])),
        D.Wishart(f64([4.0, 6.5]), f64([[2.0, 0.3], [0.3, 1.0]])),
    ):
        got = D.ExponentialFamily.entropy(d)
        np.testing.assert_allclose(array(got), array(d.entropy()), rtol=1e-9)


def test_of_transformed_distributions():
    a = D.TransformedDistribution(D.Normal(f64([0.0, 1.0]), f64(1.0)), D.StickBreakingTransform())
    b = D.TransformedDistribution(D.Normal(f64([0.5, 0.0]), f64(2.0)), D.StickBreakingTransform())
    want = kl_divergence(a.base_dist, b.base_dist)
    np.testing.assert_allclose(array(kl_divergence(a, b)), array(want))
    folded = [D.TransformedDistribution(D.Normal(m, 1.0), D.AbsTransform()) for m in (0.5, -0.5)]
    with pytest.raises(NotImplementedError, match="bijective"):
        kl_divergence(*folded)
