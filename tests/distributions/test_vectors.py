"""Categories, counts, simplex and vector distributions, divergences, gradients through draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import adjoint as torch
from adjoint.distributions import Independent, kl_divergence, register_kl
from adjoint.distributions.gamma_sampling import gradient_of_draw

D = torch.distributions
pytestmark = pytest.mark.usefixtures("little_effort")


def f64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def array(t) -> np.ndarray:
    return np.array(t.detach().clone().numpy(), dtype=np.float64)


def test_categorical():
    d = D.Categorical(f64([[2.0, 1.0, 1.0], [0.0, 0.0, 5.0]]))
    assert d.batch_shape == (2,) and d.event_shape == ()
    np.testing.assert_allclose(array(d.probs), [[0.5, 0.25, 0.25], [0, 0, 1]])
    got = array(d.log_prob(torch.tensor([[0, 2], [1, 2]])))
    np.testing.assert_allclose(got, np.log([[0.5, 1.0], [0.25, 1.0]]), atol=1e-12)
    np.testing.assert_allclose(array(d.entropy()), [1.5 * math.log(2), 0], atol=1e-12)
    torch.manual_seed(3)
    s = d.sample((20000,))
    assert s.shape == (20000, 2) and s.dtype == torch.int64 and (s[:, 1] == 2).all()
    shares = np.bincount(s[:, 0].clone().numpy()) / 20000
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.02)
    logits = D.Categorical(logits=f64([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(array(logits.probs), np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())
    assert d.enumerate_support().tolist() == [[0, 0], [1, 1], [2, 2]]
    assert d.mode.tolist() == [0, 2]
    assert logits.expand((4,)).log_prob(torch.tensor([0, 1, 2, 0])).shape == (4,)
    for bad in (3, -1):
        with pytest.raises(ValueError, match="support"):
            d.log_prob(torch.tensor(bad))
    with pytest.raises(ValueError, match="probs"):
        D.Categorical(f64([-1.0, 2.0]))


def test_categorical_gradient_is_one_hot_minus_p():
    logits = f64([0.3, -1.0, 2.0]).requires_grad_(True)
    D.Categorical(logits=logits).log_prob(torch.tensor(2)).backward()
    p = np.exp([0.3, -1, 2]) / np.exp([0.3, -1, 2]).sum()
    np.testing.assert_allclose(array(logits.grad), [0, 0, 1] - p, rtol=1e-12)


def test_one_hot_categorical():
    d = D.OneHotCategorical(f64([0.1, 0.2, 0.7]))
    torch.manual_seed(0)
    s = d.sample((5000,))
    assert s.shape == (5000, 3) and (s.sum(-1) == 1).all()
    np.testing.assert_allclose(array(s).mean(0), [0.1, 0.2, 0.7], atol=0.03)
    np.testing.assert_allclose(
        array(d.log_prob(torch.eye(3, dtype=torch.float64))), np.log([0.1, 0.2, 0.7])
    )
    np.testing.assert_allclose(array(d.variance), [0.09, 0.16, 0.21])
    assert d.enumerate_support().tolist() == np.eye(3).tolist()
    assert d.expand((2,)).sample().shape == (2, 3)
    with pytest.raises(ValueError):
        d.log_prob(f64([1.0, 1.0, 0.0]))


def test_multinomial():
    n, p = 4, [0.2, 0.5, 0.3]
    d = D.Multinomial(n, f64(p))
    total, entropy, mean = 0.0, 0.0, np.zeros(3)
    for x in itertools.product(range(n + 1), repeat=3):
        if sum(x) == n:
            ways = math.factorial(n) / math.prod(map(math.factorial, x))
            expected = ways * math.prod(q**k for q, k in zip(p, x, strict=True))
            got = float(d.log_prob(f64(x)))
            assert got == pytest.approx(math.log(expected), abs=1e-12)
            total, entropy, mean = (
                total + expected,
                entropy - expected * got,
                mean + expected * np.array(x),
            )
    assert total == pytest.approx(1) and float(d.entropy()) == pytest.approx(entropy)
    np.testing.assert_allclose(array(d.mean), mean)
    torch.manual_seed(0)
    s = d.sample((3000,))
    assert s.shape == (3000, 3) and (s.sum(-1) == n).all()
    np.testing.assert_allclose(array(s).mean(0), mean, atol=0.1)
    np.testing.assert_allclose(array(s).var(0), array(d.variance), atol=0.1)
    wide = D.Multinomial(10, torch.ones(2, 6))
    assert wide.sample((3,)).shape == (3, 2, 6) and wide.sample().dtype == torch.float32
    with pytest.raises(ValueError):
        d.log_prob(f64([1.0, 1.0, 1.0]))


def test_dirichlet():
    a = f64([2.0, 3.0, 0.5])
    d = D.Dirichlet(a)
    x = f64([0.3, 0.6, 0.1])
    beta = math.gamma(2) * math.gamma(3) * math.gamma(0.5) / math.gamma(5.5)
    assert float(d.log_prob(x)) == pytest.approx(math.log(0.3 * 0.36 * 0.1**-0.5 / beta))
    torch.manual_seed(0)
    s = d.sample((20000,))
    np.testing.assert_allclose(array(s).sum(-1), 1)
    np.testing.assert_allclose(array(s).mean(0), array(d.mean), atol=0.01)
    np.testing.assert_allclose(array(s).var(0), array(d.variance), atol=0.003)
    assert float(d.entropy()) == pytest.approx(-array(d.log_prob(s)).mean(), abs=0.05)
    assert D.Dirichlet(torch.full((4, 3), 0.01)).sample((50,)).isfinite().all()
    with pytest.raises(ValueError, match="simplex|support"):
        d.log_prob(f64([0.5, 0.6, 0.1]))


def test_multivariate_normal_in_its_three_forms():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    cov = root @ root.T + np.eye(3)
    loc = np.array([1.0, -2.0, 0.5])
    forms = [
        D.MultivariateNormal(f64(loc), covariance_matrix=f64(cov)),
        D.MultivariateNormal(f64(loc), precision_matrix=f64(np.linalg.inv(cov))),
        D.MultivariateNormal(f64(loc), scale_tril=f64(np.linalg.cholesky(cov))),
    ]
    x = rng.normal(size=(5, 3))
    gap = x - loc
    expected = -0.5 * (
        np.einsum("ni,ij,nj->n", gap, np.linalg.inv(cov), gap)
        + 3 * math.log(2 * math.pi)
        + np.linalg.slogdet(cov)[1]
    )
    for d in forms:
        assert d.batch_shape == () and d.event_shape == (3,)
        np.testing.assert_allclose(array(d.log_prob(f64(x))), expected)
        np.testing.assert_allclose(array(d.covariance_matrix), cov, atol=1e-12)
        np.testing.assert_allclose(array(d.precision_matrix), np.linalg.inv(cov), atol=1e-12)
        np.testing.assert_allclose(array(d.variance), np.diag(cov))
        entropy = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * cov)[1]
        assert float(d.entropy()) == pytest.approx(entropy)
    torch.manual_seed(0)
    s = array(forms[0].sample((20000,)))
    np.testing.assert_allclose(s.mean(0), loc, atol=0.08)
    np.testing.assert_allclose(np.cov(s.T), cov, atol=0.25)
    wide = forms[0].expand((2, 4))
    assert wide.sample((7,)).shape == (7, 2, 4, 3) and wide.log_prob(f64(x[0])).shape == (2, 4)
    with pytest.raises(ValueError, match="covariance_matrix"):
        D.MultivariateNormal(f64(loc), f64(-cov))
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        D.MultivariateNormal(f64(loc), torch.eye(2))


def test_independent():
    base = D.Normal(torch.zeros(4, 2, 3), torch.ones(2, 3))
    d = Independent(base, 2)
    assert d.batch_shape == (4,) and d.event_shape == (2, 3)
    x = torch.randn(4, 2, 3)
    np.testing.assert_allclose(array(d.log_prob(x)), array(base.log_prob(x)).sum((1, 2)), rtol=1e-5)
    assert d.entropy().shape == (4,) and d.rsample((5,)).shape == (5, 4, 2, 3)
    assert d.expand((6, 4)).log_prob(x).shape == (6, 4)
    assert kl_divergence(d, d).abs().max().item() == 0
    with pytest.raises(ValueError):
        Independent(base, 4)


PAIRS = [
    (D.Normal, (0.3, 1.2), (-0.5, 0.7)),
    (D.LogNormal, (0.1, 0.5), (0.3, 0.9)),
    (D.HalfNormal, (0.8,), (1.7,)),
    (D.Laplace, (0.4, 1.2), (-0.3, 0.6)),
    (D.Gumbel, (0.4, 1.2), (-0.1, 1.5)),
    (D.Uniform, (0.2, 0.9), (-1.0, 2.0)),
    (D.Exponential, (1.5,), (0.4,)),
    (D.Gamma, (2.0, 1.5), (1.2, 0.6)),
    (D.Beta, (2.0, 1.5), (1.2, 3.0)),
    (D.Bernoulli, (0.2,), (0.7,)),
    (D.Binomial, (6, 0.2), (6, 0.5)),
    (D.Geometric, (0.3,), (0.6,)),
    (D.Poisson, (2.0,), (3.5,)),
]
MIXED = [
    (D.Uniform(f64(-0.5), f64(1.0)), D.Normal(f64(0.2), f64(0.9))),
    (D.Exponential(f64(1.3)), D.Gamma(f64(0.8), f64(0.5))),
    (D.Gamma(f64(1.8), f64(2.5)), D.Exponential(f64(0.5))),
    (D.Dirichlet(f64([1.5, 2.0, 3.0])), D.Dirichlet(f64([1.0, 0.7, 2.0]))),
    (D.Categorical(f64([0.2, 0.3, 0.5])), D.Categorical(f64([0.6, 0.2, 0.2]))),
    (D.OneHotCategorical(f64([0.2, 0.8])), D.OneHotCategorical(f64([0.6, 0.4]))),
    (
        D.MultivariateNormal(f64([0.0, 1.0]), f64([[1.0, 0.3], [0.3, 0.5]])),
        D.MultivariateNormal(f64([0.5, 0.0]), f64([[2.0, 0.0], [0.0, 1.0]])),
    ),
]
ALL = [(c(*map(f64, a)), c(*map(f64, b))) for c, a, b in PAIRS] + MIXED


@pytest.mark.parametrize("p, q", ALL, ids=lambda d: type(d).__name__)
def test_divergence_is_the_mean_log_ratio(p, q):
    torch.manual_seed(5)
    x = p.sample((40000,))
    ratio = array(p.log_prob(x) - q.log_prob(x))
    claimed = float(kl_divergence(p, q))
    assert claimed > 0.01
    assert abs(claimed - ratio.mean()) < 5 * ratio.std() / 200 + 1e-9
    assert float(kl_divergence(p, p)) == pytest.approx(0, abs=1e-12) if type(p) is type(q) else True


def test_divergence_table():
    assert float(kl_divergence(D.Uniform(0.0, 2.0), D.Uniform(0.5, 3.0))) == math.inf
    with pytest.raises(NotImplementedError, match="Normal.*Poisson"):
        kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0))

    class Mine(D.Normal):
        pass

    assert float(kl_divergence(Mine(0.0, 1.0), D.Normal(1.0, 1.0))) == pytest.approx(0.5)
    register_kl(Mine, D.Normal)(lambda p, q: torch.tensor(7.0))
    assert float(kl_divergence(Mine(0.0, 1.0), D.Normal(1.0, 1.0))) == 7
    with pytest.raises(TypeError):
        register_kl(D.Normal(0.0, 1.0), D.Normal)


@pytest.mark.parametrize(
    "name, a, b",
    [
        ("Normal", 0.5, 1.5),
        ("Laplace", 0.5, 1.5),
        ("Gumbel", 0.5, 1.5),
        ("Uniform", 0.5, 1.5),
        ("Gamma", 0.6, 1.5),
        ("Gamma", 4.0, 1.5),
        ("Beta", 0.7, 2.0),
    ],
)
def test_gradients_through_draws(name, a, b):
    """d/dparam of E[x] by the mean of pathwise gradients, against the mean's own derivative."""
    n = 4000
    params = [f64(a).requires_grad_(True), f64(b).requires_grad_(True)]
    torch.manual_seed(0)
    getattr(D, name)(*params).rsample((n,)).mean().backward()
    exact = [f64(a).requires_grad_(True), f64(b).requires_grad_(True)]
    getattr(D, name)(*exact).mean.backward()
    for p, e in zip(params, exact, strict=True):
        want = 0.0 if e.grad is None else float(e.grad)
        assert float(p.grad) == pytest.approx(want, abs=0.08)


def test_student_and_dirichlet_draws_have_gradients():
    torch.manual_seed(0)
    df = f64(5.0).requires_grad_(True)
    # E[x^2] = df / (df - 2), so its derivative at 5 is -2/9.
    (D.StudentT(df).rsample((30000,)) ** 2).mean().backward()
    assert float(df.grad) == pytest.approx(-2 / 9, abs=0.06)
    a = f64([2.0, 3.0]).requires_grad_(True)
    D.Dirichlet(a).rsample((4000,))[:, 0].mean().backward()
    np.testing.assert_allclose(array(a.grad), [3 / 25, -2 / 25], atol=0.01)


def test_gamma_draw_gradient_by_quantiles():
    """dz/da at a fixed quantile, with P(a, z) inverted by mpmath: the definition itself."""
    mp = pytest.importorskip("mpmath")

    def quantile(a, p):
        ends = (a / 50, 3 * a + 3)
        return mp.findroot(
            lambda z: mp.gammainc(a, 0, z, regularized=True) - p, ends, solver="anderson"
        )

    mp.mp.dps = 30
    for a in (1.0, 1.5, 4.0, 30.0, 900.0):
        for p in (0.2, 0.5, 0.9):
            z, h = quantile(a, p), mp.mpf(a) * mp.mpf(10) ** -8
            slope = (quantile(a + h, p) - quantile(a - h, p)) / (2 * h)
            got = gradient_of_draw(np.array([a]), np.array([float(z)]))[0]
            assert got == pytest.approx(float(slope), rel=1e-8)


def test_gamma_draw_gradient_joins_its_expansion_smoothly():
    z = 5000 + np.sqrt(5000) * np.array([-4.0, -1.0, 0.0, 1.0, 4.0])
    below = gradient_of_draw(np.full(5, 4999.9999), z)
    above = gradient_of_draw(np.full(5, 5000.0001), z)
    np.testing.assert_allclose(below, above, rtol=2e-6)


def test_double_backward_through_a_gamma_draw_is_refused():
    a = f64([2.0]).requires_grad_(True)
    draw = D.Gamma(a, 1.0).rsample()
    with pytest.raises(RuntimeError, match="once only"):
        torch.autograd.grad(draw.sum(), a, create_graph=True)
