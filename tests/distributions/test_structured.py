"""Mixtures, matrices, relaxed and structured vectors; gradients through draws of every family that has them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import adjoint as torch
from adjoint.distributions import kl_divergence

D = torch.distributions
pytestmark = pytest.mark.usefixtures("little_effort")


def f64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def array(t) -> np.ndarray:
    return np.array(t.detach().clone().numpy(), dtype=np.float64)


COV = [[1.5, 0.4, -0.2], [0.4, 0.9, 0.1], [-0.2, 0.1, 0.7]]
# Written for either package: (text, a value).
STRUCTURED = [
    (
        "D.LowRankMultivariateNormal(t([0.3, -1.0, 0.5]), t([[1.0, 0.2], [-0.5, 0.3], [0.1, 2.0]]), t([0.5, 0.9, 0.2]))",
        [0.2, 0.3, -1.0],
    ),
    ("D.MultivariateNormal(t([0.3, -1.0, 0.5]), precision_matrix=t(COV))", [0.2, 0.3, -1.0]),
    ("D.Wishart(t(4.5), t(COV))", [[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]]),
    ("D.Wishart(t([4.5, 6.0]), precision_matrix=t(COV))", [[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]]),
    ("D.LKJCholesky(3, t([0.7, 2.5]))", [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.28, 0.96]]),
    ("D.LogisticNormal(t([0.3, -1.0]), t([1.2, 0.5]))", [0.2, 0.3, 0.5]),
    ("D.RelaxedOneHotCategorical(t(0.7), probs=t([0.2, 0.3, 0.5]))", [0.1, 0.2, 0.7]),
    ("D.OneHotCategoricalStraightThrough(t([0.2, 0.3, 0.5]))", [0.0, 1.0, 0.0]),
    (
        "D.MixtureSameFamily(D.Categorical(t([0.2, 0.8])), D.Normal(t([-1.0, 1.5]), t([0.5, 1.0])))",
        0.3,
    ),
    (
        "D.MixtureSameFamily(D.Categorical(logits=t([[0.2, 0.8]])), D.Independent(D.Gamma(t([[[1.0, 2.0], [3.0, 1.5]]] * 4), t(1.3)), 1))",
        [0.4, 1.7],
    ),
    ("D.TransformedDistribution(D.Normal(t([0.1, 0.2]), t(1.0)), D.StickBreakingTransform())", [0.2, 0.3, 0.5]),
]
each = pytest.mark.parametrize("text, value", STRUCTURED, ids=[t.split("(")[0] for t, _ in STRUCTURED])


def built(text: str, module=D, tensor=f64):
    return eval(text, {"D": module, "t": tensor, "COV": COV})


@each
def test_pytorch_agrees(text, value):
    other = pytest.importorskip("torch")

    def theirs(v):
        return other.tensor(v, dtype=other.float64)

    d, o = built(text), built(text, other.distributions, theirs)
    assert tuple(d.batch_shape) == tuple(o.batch_shape)
    assert tuple(d.event_shape) == tuple(o.event_shape)
    np.testing.assert_allclose(array(d.log_prob(f64(value))), o.log_prob(theirs(value)).numpy(), rtol=1e-9)
    for name in "mean variance mode covariance_matrix precision_matrix scale_tril".split():
        try:
            want = getattr(o, name).numpy()
        except (NotImplementedError, AttributeError):
            continue
        np.testing.assert_allclose(array(getattr(d, name)), want, rtol=1e-8, atol=1e-10, err_msg=name)
    try:
        want = o.entropy().numpy()
    except NotImplementedError:
        return
    np.testing.assert_allclose(array(d.entropy()), want, rtol=1e-9)


@each
def test_draws_have_the_stated_moments(text, value):
    d, n = built(text), 20000
    torch.manual_seed(4)
    s = d.sample((n,))
    assert s.shape == (n, *d.batch_shape, *d.event_shape) and s.dtype == torch.float64
    assert bool(d.support.check(s).all()) and not s.requires_grad
    try:
        mean, variance = array(d.mean), array(d.variance)
    except NotImplementedError:
        return
    got = array(s)
    spread = np.sqrt(variance / n)
    assert (np.abs(got.mean(0) - mean) <= 5 * spread + 1e-12).all()
    fourth = ((got - mean) ** 4).mean(0)
    assert (np.abs(got.var(0) - variance) <= 6 * np.sqrt(fourth / n) + 1e-12).all()


@each
def test_expand_and_print(text, value):
    d = built(text)
    big = d.expand((3, *d.batch_shape))
    assert big.batch_shape == (3, *d.batch_shape) and big.event_shape == d.event_shape
    assert type(big) is type(d)
    want = array(d.log_prob(f64(value)))
    np.testing.assert_allclose(array(big.log_prob(f64(value))), np.broadcast_to(want, (3, *want.shape)))
    assert big.sample((2,)).shape == (2, 3, *d.batch_shape, *d.event_shape)
    assert repr(d).startswith(type(d).__name__ + "(")


def test_wishart_density_integrates_to_one_and_is_chi_squared_for_one_dimension():
    d = D.Wishart(f64(3.5), f64([[2.0]]))
    x = np.linspace(0.1, 9, 7)
    want = array(D.Gamma(f64(1.75), f64(0.25)).log_prob(f64(x)))
    np.testing.assert_allclose(array(d.log_prob(f64(x).reshape(7, 1, 1))), want)
    torch.manual_seed(1)
    two = D.Wishart(f64(5.0), f64([[1.0, 0.3], [0.3, 0.8]]))
    s = two.sample((20000,))
    assert -array(two.log_prob(s)).mean() == pytest.approx(float(two.entropy()), abs=0.06)
    q = D.Wishart(f64(4.0), f64([[0.7, 0.0], [0.0, 1.2]]))
    ratio = array(two.log_prob(s) - q.log_prob(s))
    assert float(kl_divergence(two, q)) == pytest.approx(ratio.mean(), abs=5 * ratio.std() / 140)
    with pytest.raises(ValueError, match="greater than 1"):
        D.Wishart(f64(1.0), f64([[1.0, 0.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="square"):
        D.Wishart(3.0, torch.ones(2, 3))


def test_lkj_of_two_dimensions_is_a_density_of_one_correlation():
    """p(L) dL_21, with L_22 = sqrt(1 - L_21^2), integrates to 1; draws follow it."""
    for c in (0.6, 1.0, 4.0):
        d = D.LKJCholesky(2, f64(c))
        angle = (np.arange(20000) + 0.5) / 20000 * math.pi
        r = np.cos(angle)
        factor = np.zeros((20000, 2, 2))
        factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1] = 1, r, np.sin(angle)
        mass = np.exp(array(d.log_prob(f64(factor)))) * np.sin(angle) * math.pi / 20000
        assert mass.sum() == pytest.approx(1, abs=1e-3)
        torch.manual_seed(2)
        s = array(d.sample((20000,)))[:, 1, 0]
        assert (s**2).mean() == pytest.approx((mass * r * r).sum(), abs=0.015)
    # Row i and j: correlations of any two have one distribution.
    s = array(D.LKJCholesky(4, f64(1.5)).sample((20000,)))
    squares = ((s @ s.transpose(0, 2, 1)) ** 2).mean(0)[np.tril_indices(4, -1)]
    np.testing.assert_allclose(squares, squares.mean(), atol=0.015)
    with pytest.raises(ValueError, match="dim"):
        D.LKJCholesky(1)


LOW = D.LowRankMultivariateNormal(
    f64([0.3, -1.0]), f64([[1.0], [-0.5]]), f64([0.5, 0.9])
)
FULL = D.MultivariateNormal(f64([0.0, 0.4]), f64([[1.0, 0.3], [0.3, 0.5]]))


@pytest.mark.parametrize("p, q", [(LOW, FULL), (FULL, LOW), (LOW, LOW.expand((2,)))], ids=["low-full", "full-low", "low-low"])
def test_divergences_of_low_rank(p, q):
    def whole(d):
        return D.MultivariateNormal(d.loc, d.covariance_matrix)

    got, want = array(kl_divergence(p, q)), array(kl_divergence(whole(p), whole(q)))
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_relaxed_one_hot_density_integrates_to_one():
    d = D.RelaxedOneHotCategorical(f64(1.4), probs=f64([0.3, 0.7]))
    x = 1 / (1 + np.exp(-np.linspace(-30, 30, 20001)))
    value = f64(np.stack([x, 1 - x], -1)) + 1e-300
    mass = np.exp(array(d.log_prob(value / value.sum(-1, keepdim=True)))) * x * (1 - x) * 60 / 20000
    assert mass.sum() == pytest.approx(1, abs=1e-4)


def test_mixture_of_normals():
    d = built(STRUCTURED[8][0])
    x = np.linspace(-12, 14, 20001)
    p = np.exp(array(d.log_prob(f64(x)))) * (x[1] - x[0])
    assert p.sum() == pytest.approx(1)
    assert float(d.mean) == pytest.approx((p * x).sum())
    assert float(d.variance) == pytest.approx((p * (x - float(d.mean)) ** 2).sum())
    np.testing.assert_allclose(array(d.cdf(f64(x))), np.cumsum(p) - p / 2, atol=1e-6)
    parts = D.Normal(torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="3"):
        D.MixtureSameFamily(D.Categorical(torch.ones(2)), parts)
    with pytest.raises(ValueError, match="Categorical"):
        D.MixtureSameFamily(parts, parts)
    with pytest.raises(ValueError, match="batch dimension"):
        D.MixtureSameFamily(D.Categorical(torch.ones(2)), D.Normal(0.0, 1.0))


# Families whose draw is at a fixed quantile: dx/dp = -(dF/dp) / density, whatever the sampler does.
BY_QUANTILE = [
    ("Normal", (0.3, 1.2)),
    ("LogNormal", (0.3, 0.8)),
    ("HalfNormal", (0.8,)),
    ("Laplace", (0.3, 1.2)),
    ("Cauchy", (0.3, 1.2)),
    ("HalfCauchy", (1.2,)),
    ("Gumbel", (0.3, 1.2)),
    ("Uniform", (-0.3, 1.2)),
    ("Exponential", (1.3,)),
    ("Gamma", (2.5, 1.3)),
    ("Chi2", (3.5,)),
    ("InverseGamma", (2.5, 1.3)),
    ("Weibull", (1.3, 1.7)),
    ("Pareto", (1.3, 2.5)),
    ("GeneralizedPareto", (0.3, 1.2, 0.4)),
    ("GeneralizedPareto", (0.3, 1.2, 0.0)),
    ("GeneralizedPareto", (0.3, 1.2, -0.4)),
    ("Kumaraswamy", (1.3, 2.5)),
    ("ContinuousBernoulli", (0.3,)),
    ("ContinuousBernoulli", (0.5,)),
    ("ContinuousBernoulli", (0.9,)),
    ("RelaxedBernoulli", (0.7, 0.3)),
]


@pytest.mark.parametrize("name, params", BY_QUANTILE, ids=str)
def test_draws_move_with_their_quantile(name, params):
    make = getattr(D, name)
    given = [f64(p).requires_grad_(True) for p in params]
    torch.manual_seed(6)
    draws = make(*given).rsample((5,))
    assert draws.requires_grad and make.has_rsample
    fixed = draws.detach().clone()
    density = np.exp(array(make(*map(f64, params)).log_prob(fixed)))
    for k in range(5):
        slopes = torch.autograd.grad(draws[k], given, retain_graph=True)
        for i, slope in enumerate(slopes):

            def at(h, i=i, k=k):
                moved = [p + (h if j == i else 0) for j, p in enumerate(params)]
                return float(make(*map(f64, moved), validate_args=False).cdf(fixed[k]))

            want = -(at(1e-6) - at(-1e-6)) / 2e-6 / density[k]
            assert float(slope) == pytest.approx(want, rel=2e-5, abs=1e-7)


@each
def test_gradients_through_draws(text, value):
    """They reach every parameter; for a Wishart distribution their mean is that of the mean."""
    d = built(text)
    if not d.has_rsample:
        with pytest.raises(NotImplementedError, match="rep"):
            d.rsample()
        return
    name = {"Wishart": "df"}.get(type(d).__name__)
    parameter = f64(5.0).requires_grad_(True)
    torch.manual_seed(3)
    if name == "df":
        D.Wishart(parameter, f64(COV)).rsample((4000,)).mean(0)[0, 1].backward()
        assert float(parameter.grad) == pytest.approx(COV[0][1], abs=0.05)
        return
    leaves = []

    def leaf(v):
        leaves.append(f64(v).requires_grad_(True))
        return leaves[-1]

    shifted = built(text, tensor=leaf)
    draws = shifted.rsample((3,))
    weights = f64(np.arange(1.0, 1 + draws[0].numel())).reshape(draws.shape[1:])
    (draws * weights).sum().backward()
    assert all(bool((v.grad.isfinite() & (v.grad != 0)).all()) for v in leaves)


def test_the_gamma_distribution_function_has_slopes():
    a, b, x = (f64(v).requires_grad_(True) for v in (2.5, 1.3, 0.8))
    D.Gamma(a, b).cdf(x).backward()

    def at(*values):
        return float(D.Gamma(*map(f64, values[:2])).cdf(f64(values[2])))

    for i, p in enumerate((a, b, x)):
        h = np.eye(3)[i] * 1e-6
        start = np.array([2.5, 1.3, 0.8])
        want = (at(*(start + h)) - at(*(start - h))) / 2e-6
        assert float(p.grad) == pytest.approx(want, rel=1e-7)
    value = f64([0.8]).requires_grad_(True)
    first = torch.autograd.grad(D.Gamma(2.0, 1.0).cdf(value).sum(), value, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), value)[0]
    assert float(second) == pytest.approx((1 - 0.8) * math.exp(-0.8))
    (slope,) = torch.autograd.grad(D.Gamma(a, 1.0).cdf(f64(1.0)), a, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, a)
    h = 1e-3
    below, here, above = (float(D.Gamma(f64(2.5 + d), 1.0).cdf(f64(1.0))) for d in (-h, 0, h))
    assert float(curvature) == pytest.approx((above - 2 * here + below) / h**2, rel=1e-4)


def test_slopes_where_two_formulas_meet():
    """Logits of 0, and concentrations of 0: the slopes of both sides, not of neither."""
    logits = f64([0.0]).requires_grad_(True)
    D.Bernoulli(logits=logits).log_prob(f64([1.0])).sum().backward()
    assert float(logits.grad) == pytest.approx(0.5)
    x = f64([0.3])
    for f, want in (
        (lambda d: d.log_prob(x), 0.3 - 0.5),
        (lambda d: d.mean, 1 / 12),
        (lambda d: d.cdf(x), 0.3 * (0.3 - 1) / 2),
        (lambda d: d.icdf(x), 0.3 * (1 - 0.3) / 2),
        (lambda d: d.variance, 0.0),
    ):
        logits = f64([0.0]).requires_grad_(True)
        f(D.ContinuousBernoulli(logits=logits)).sum().backward()
        assert float(logits.grad) == pytest.approx(want, abs=1e-12)
    for l in (-700.0, -40.0, -0.5, 0.5, 40.0, 700.0):
        logits = f64([l]).requires_grad_(True)
        d = D.ContinuousBernoulli(logits=logits)
        (d.mean + d.variance + d.log_prob(x) + d.cdf(x) + d.icdf(x) + d.entropy()).sum().backward()
        assert bool(logits.grad.isfinite().all())


def test_straight_through_draws_and_angles():
    p = f64([0.2, 0.3, 0.5]).requires_grad_(True)
    torch.manual_seed(0)
    s = D.OneHotCategoricalStraightThrough(p).rsample((6,))
    assert set(array(s).ravel().round(12)) == {0.0, 1.0}
    (s * f64([1.0, 2.0, 3.0])).sum().backward()
    mean = 0.2 + 0.6 + 1.5
    np.testing.assert_allclose(array(p.grad), 6 * (np.array([1, 2, 3]) - mean))
    k = 3.0
    angles = array(D.VonMises(f64(2.9), f64(k)).sample((20000,)))
    assert (angles >= -math.pi).all() and (angles < math.pi).all()
    far = 1 - np.cos(angles - 2.9).mean()
    assert far == pytest.approx(float(D.VonMises(f64(2.9), f64(k)).variance), abs=0.01)


BAD = [
    ("Pareto", (-1.0, 1.0), "scale"),
    ("Weibull", (1.0, 0.0), "concentration"),
    ("InverseGamma", (0.0, 1.0), "concentration"),
    ("Kumaraswamy", (1.0, -1.0), "concentration0"),
    ("HalfCauchy", (0.0,), "scale"),
    ("FisherSnedecor", (1.0, 0.0), "df2"),
    ("GeneralizedPareto", (0.0, 0.0, 0.1), "scale"),
    ("ContinuousBernoulli", (1.5,), "probs"),
    ("NegativeBinomial", (3.0, 1.0), "probs"),
    ("NegativeBinomial", (-1.0, 0.5), "total_count"),
    ("VonMises", (0.0, 0.0), "concentration"),
    ("LKJCholesky", (3, -1.0), "concentration"),
]


@pytest.mark.parametrize("name, params, words", BAD, ids=str)
def test_bad_parameters_are_refused(name, params, words):
    with pytest.raises(ValueError, match=f"{name}: parameter {words}"):
        getattr(D, name)(*params)


def test_low_rank_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"cov_factor must end in \(2, rank\)"):
        D.LowRankMultivariateNormal(torch.zeros(2), torch.ones(3, 1), torch.ones(2))
    with pytest.raises(ValueError, match=r"cov_diag must end in \(2,\)"):
        D.LowRankMultivariateNormal(torch.zeros(2), torch.ones(2, 1), torch.ones(3))
