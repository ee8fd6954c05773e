"""Every family against integrals of its own density, against draws, and against PyTorch if present.

A record per family: how to build it, and a grid that covers its support. The integrals are the
independent judge: a density that integrates to 1 and whose moments, entropy and distribution
function are those stated can hardly be wrong. Closed forms typed in by hand check single points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.distributions import Distribution

D = torch.distributions
pytestmark = pytest.mark.usefixtures("little_effort")


def f64(*values) -> Any:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def array(t) -> np.ndarray:
    return np.array(t.detach().clone().numpy(), dtype=np.float64)


def substituted(f, n: int = 20001, span: float = 12.0):
    """Points and weights of a rule for integrals over an interval, after x = f(s), s on a grid."""
    s = np.linspace(-span, span, n)
    x = f(s)
    step = s[1] - s[0]
    weights = (f(s + 1e-5) - f(s - 1e-5)) / 2e-5 * step
    return x, weights


def line(scale=1.0):
    return substituted(lambda s: scale * np.sinh(s), span=16.0)


def half_line():
    return substituted(lambda s: np.exp(2 * np.sinh(s)), span=3.9)


def between(a, b):
    return substituted(
        lambda s: a + (b - a) / (1 + np.exp(-np.clip(3 * np.sinh(s), -700, 700))), span=3.1
    )


def beyond(a):
    return substituted(lambda s: a + np.exp(2 * np.sinh(s)), span=3.9)


def counts(n):
    return np.arange(n + 1.0), np.ones(n + 1)


@dataclass
class Family:
    """`make(*params)` builds a distribution with scalar batch shape from Python floats.

    moments: whether mean and variance are those of the integral (angles have circular ones).
    """

    name: str
    params: tuple
    rule: tuple
    moments: bool = True

    def build(self, module=None, tensor=f64) -> Any:
        return getattr(module or D, self.name)(*(tensor(p) for p in self.params))


FAMILIES = [
    Family("Normal", (0.7, 1.3), line()),
    Family("LogNormal", (0.2, 0.5), half_line()),
    Family("HalfNormal", (1.7,), half_line()),
    Family(
        "Uniform",
        (-1.0, 2.5),
        (np.linspace(-1, 2.5, 40002)[:-1] + 3.5 / 80002, np.full(40001, 3.5 / 40001)),
    ),
    Family("Laplace", (0.0, 0.8), line()),
    Family("Cauchy", (0.3, 1.2), line(), moments=False),
    Family("Gumbel", (0.5, 1.1), line()),
    Family("StudentT", (5.5, 0.4, 1.5), line()),
    Family("Exponential", (1.7,), half_line()),
    Family("Gamma", (2.3, 1.4), half_line()),
    Family("Gamma", (0.4, 2.0), half_line()),
    Family("Chi2", (3.0,), half_line()),
    Family("Beta", (2.5, 1.5), between(0, 1)),
    Family("Beta", (0.6, 0.7), between(0, 1)),
    Family("HalfCauchy", (0.7,), half_line(), moments=False),
    Family("ContinuousBernoulli", (0.2,), between(0, 1)),
    Family("ContinuousBernoulli", (0.5,), between(0, 1)),
    Family("ContinuousBernoulli", (0.9999,), between(0, 1)),
    Family("FisherSnedecor", (5.0, 12.0), half_line()),
    Family("GeneralizedPareto", (0.3, 1.1, 0.08), beyond(0.3)),
    Family("GeneralizedPareto", (0.3, 1.1, 0.0), beyond(0.3)),
    Family("GeneralizedPareto", (0.0, 1.0, -0.5), between(0, 2)),
    Family("InverseGamma", (6.0, 2.0), half_line()),
    Family("Kumaraswamy", (2.0, 3.0), between(0, 1)),
    Family("Pareto", (1.2, 6.0), beyond(1.2)),
    Family("RelaxedBernoulli", (0.7, 0.3), between(0, 1), moments=False),
    Family("VonMises", (0.4, 2.0), between(-math.pi, math.pi), moments=False),
    Family("Weibull", (1.3, 1.7), half_line()),
    Family("NegativeBinomial", (3.5, 0.4), counts(120)),
    Family("Bernoulli", (0.3,), counts(1)),
    Family("Geometric", (0.35,), counts(200)),
    Family("Binomial", (9, 0.33), counts(9)),
    Family("Poisson", (3.4,), counts(80)),
]
# What a family lacks, as it does in PyTorch.
LACKING = {
    "cdf": "StudentT Beta Bernoulli Geometric Binomial Poisson FisherSnedecor VonMises NegativeBinomial".split(),
    "icdf": "Gamma Chi2 InverseGamma".split(),
    "entropy": "Poisson FisherSnedecor RelaxedBernoulli VonMises NegativeBinomial".split(),
    "mode": "ContinuousBernoulli RelaxedBernoulli".split(),
    "mean": ["RelaxedBernoulli"],
}
NAMES = [f"{f.name}{f.params}" for f in FAMILIES]
each_family = pytest.mark.parametrize("family", FAMILIES, ids=NAMES)


def mass(family, d) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, w = family.rule
    with np.errstate(all="ignore"):
        log_p = array(d.log_prob(torch.tensor(x)))
    return x, log_p, np.where(np.isfinite(log_p), np.exp(log_p), 0.0) * w


@each_family
def test_density_integrates_to_its_moments(family):
    d = family.build()
    x, log_p, m = mass(family, d)
    assert m.sum() == pytest.approx(1, abs=2e-5)
    if family.moments:
        mean = (m * x).sum()
        assert float(d.mean) == pytest.approx(mean, abs=3e-4)
        assert float(d.variance) == pytest.approx((m * (x - mean) ** 2).sum(), rel=1e-3)
        assert float(d.stddev) == pytest.approx(math.sqrt(float(d.variance)))
    entropy = -(m * np.where(m > 0, log_p, 0)).sum()
    try:
        claimed = float(d.entropy())
    except NotImplementedError:
        assert family.name in LACKING["entropy"]
    else:
        assert claimed == pytest.approx(entropy, abs=1e-3)
        assert float(d.perplexity()) == pytest.approx(math.exp(claimed))


@each_family
def test_mode_is_where_the_density_is_highest(family):
    d = family.build()
    x, log_p, _ = mass(family, d)
    if family.name in LACKING["mode"]:
        with pytest.raises(NotImplementedError, match=family.name):
            _ = d.mode
        return
    mode = float(d.mode)
    if math.isnan(mode):
        assert family.name == "Uniform" or family.params == (0.6, 0.7)
    else:
        best = x[np.nanargmax(np.where(np.isinf(log_p), -np.inf, log_p))]
        assert mode == pytest.approx(best, abs=2e-2)


@each_family
def test_distribution_function_and_its_inverse(family):
    d = family.build()
    x, _, m = mass(family, d)
    try:
        claimed = array(d.cdf(torch.tensor(x)))
    except NotImplementedError:
        assert family.name in LACKING["cdf"]
        return
    inner = np.cumsum(m) - m / 2
    assert np.abs(claimed - inner).max() < 1e-3
    if family.name in LACKING["icdf"]:
        return
    p = f64(0.01, 0.2, 0.5, 0.77, 0.999)
    np.testing.assert_allclose(array(d.cdf(d.icdf(p))), array(p), rtol=1e-9)


@each_family
def test_draws_have_the_right_moments_and_follow_the_seed(family):
    d, n = family.build(), 20000
    torch.manual_seed(11)
    s = d.sample((n,))
    torch.manual_seed(11)
    assert (s == d.sample((n,))).all()
    assert s.shape == (n,) and s.dtype == torch.float64 and not s.requires_grad
    assert bool(d.support.check(s).all())
    values = array(s)
    x, _, m = mass(family, d)
    if not family.moments:  # heavy tails: compare quartiles instead
        got = np.quantile(values, [0.25, 0.5, 0.75])
        want = x[np.searchsorted(np.cumsum(m), [0.25, 0.5, 0.75])]
        np.testing.assert_allclose(got, want, atol=0.1)
        return
    spread = math.sqrt(float(d.variance) / n)
    assert abs(values.mean() - float(d.mean)) < 5 * spread
    fourth = (m * (x - float(d.mean)) ** 4).sum()
    noise = math.sqrt(max(fourth - float(d.variance) ** 2, 0) / n)
    assert abs(values.var() - float(d.variance)) < 6 * noise + 1e-3
    # Kolmogorov's distance at a few points, from the integral: catches a wrong shape with right
    # moments.
    cumulative = np.cumsum(m)
    for i in np.searchsorted(cumulative, [0.1, 0.3, 0.5, 0.7, 0.9]):
        assert abs((values <= x[i]).mean() - cumulative[i]) < 0.02


@each_family
def test_shapes_expand_and_print(family):
    wide = getattr(D, family.name)(*(f64(*[p] * 3).reshape(3, 1) for p in family.params))
    assert wide.batch_shape == (3, 1) and wide.event_shape == ()
    assert wide.sample((2, 4)).shape == (2, 4, 3, 1)
    point = wide.sample((4,))
    big = wide.expand((5, 3, 2))
    assert type(big) is type(wide) and big.batch_shape == (5, 3, 2)
    assert big.sample().shape == (5, 3, 2)
    if family.name not in LACKING["mean"]:
        assert big.mean.shape == (5, 3, 2)
    expected = wide.log_prob(point)
    assert expected.shape == (4, 3, 1)
    got = wide.expand((4, 3, 1)).log_prob(point)
    np.testing.assert_allclose(array(got), array(expected))
    assert repr(wide).startswith(f"{family.name}(") and "[3, 1]" in repr(wide)


@each_family
def test_values_outside_the_support_are_refused(family):
    d = family.build()
    low = {"Uniform": -9.0, "Normal": math.nan}.get(family.name, -1.5)
    if d.support.check(f64(low)):
        low = math.nan
    with pytest.raises(ValueError, match=family.name):
        d.log_prob(f64(low))
    with pytest.raises(ValueError, match="shape"):
        getattr(D, family.name)(*(f64(*[p] * 2) for p in family.params)).log_prob(torch.ones(3))
    loose = getattr(D, family.name)(*(f64(p) for p in family.params), validate_args=False)
    loose.log_prob(f64(0.5))


@each_family
def test_gradients_of_log_prob(family):
    """d log p / d params against central differences, at three points of the support."""
    d = family.build()
    x, _, m = mass(family, d)
    points = f64(*x[np.searchsorted(np.cumsum(m), [0.2, 0.5, 0.8])])
    params = [f64(float(p)).requires_grad_(True) for p in family.params]
    make = getattr(D, family.name)
    make(*params, validate_args=False).log_prob(points).sum().backward()
    for i, p in enumerate(params):
        if family.name == "Binomial" and i == 0 or family.name == "Uniform" and p.grad is None:
            continue

        def at(h, i=i):
            moved = [q.detach() + (h if j == i else 0) for j, q in enumerate(params)]
            return float(make(*moved, validate_args=False).log_prob(points).sum())

        assert float(p.grad) == pytest.approx((at(1e-6) - at(-1e-6)) / 2e-6, rel=1e-5, abs=1e-6)


@each_family
def test_pytorch_agrees(family):
    other = pytest.importorskip("torch")
    d = family.build()
    x, _ = family.rule
    x = x[:: max(1, len(x) // 200)]
    kept = d.support.check(torch.tensor(x)).detach().clone().numpy()
    x = x[kept]
    other.set_default_dtype(other.float64)  # which some of PyTorch's families compute in
    try:
        o = family.build(other.distributions, lambda v: other.tensor(v, dtype=other.float64))
        want = o.log_prob(other.tensor(x)).numpy()
    finally:
        other.set_default_dtype(other.float32)
    got = array(d.log_prob(torch.tensor(x)))
    if family.name == "Kumaraswamy":  # PyTorch rounds 1 - x^a to 1 there
        got, want = got[np.isfinite(want)], want[np.isfinite(want)]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    for name in ("mean", "variance", "mode"):
        try:
            want = float(getattr(o, name))
        except NotImplementedError:
            continue
        if name == "mode" and family.params == (0.6, 0.7):
            continue  # infinite at both ends: PyTorch names one of them, we say nan
        if name == "mode" and family.name == "Kumaraswamy":
            continue  # the logarithm of a negative number in PyTorch
        assert float(getattr(d, name)) == pytest.approx(want, nan_ok=True), name


CLOSED_FORMS = [  # log-densities written out with `math`, at one point
    ("Normal", (1.0, 2.0), 1.0, -math.log(2 * math.sqrt(2 * math.pi))),
    ("Laplace", (0.0, 2.0), 3.0, -1.5 - math.log(4)),
    ("Cauchy", (0.0, 1.0), 1.0, -math.log(2 * math.pi)),
    ("Exponential", (3.0,), 2.0, math.log(3) - 6),
    ("Gamma", (3.0, 2.0), 1.5, math.log(8 / 2 * 1.5**2) - 3),
    ("Beta", (2.0, 3.0), 0.25, math.log(12 * 0.25 * 0.75**2)),
    ("Bernoulli", (0.2,), 1.0, math.log(0.2)),
    ("Geometric", (0.2,), 3.0, math.log(0.2 * 0.8**3)),
    ("Binomial", (5, 0.4), 2.0, math.log(10 * 0.4**2 * 0.6**3)),
    ("Poisson", (2.0,), 3.0, math.log(8 / 6) - 2),
    ("StudentT", (1.0, 0.0, 1.0), 1.0, -math.log(2 * math.pi)),
    ("Uniform", (0.0, 4.0), 1.0, -math.log(4)),
    ("HalfNormal", (1.0,), 0.0, math.log(math.sqrt(2 / math.pi))),
    ("Gumbel", (0.0, 1.0), 0.0, -1.0),
    ("LogNormal", (0.0, 1.0), 1.0, -0.5 * math.log(2 * math.pi)),
]


@pytest.mark.parametrize("name, params, x, expected", CLOSED_FORMS, ids=lambda v: str(v))
def test_closed_forms(name, params, x, expected):
    d = getattr(D, name)(*map(f64, params))
    assert float(d.log_prob(f64(x))) == pytest.approx(expected, rel=1e-12, abs=1e-12)


BAD_PARAMETERS = [
    ("Normal", (0.0, -1.0), "scale"),
    ("Normal", (math.nan, 1.0), "loc"),
    ("Uniform", (2.0, 1.0), "low < high"),
    ("Bernoulli", (1.5,), "probs"),
    ("Geometric", (0.0,), "probs"),
    ("Gamma", (0.0, 1.0), "concentration"),
    ("Poisson", (-1.0,), "rate"),
    ("Binomial", (-1, 0.5), "total_count"),
    ("StudentT", (0.0,), "df"),
]


@pytest.mark.parametrize("name, params, words", BAD_PARAMETERS, ids=str)
def test_bad_parameters_are_refused(name, params, words):
    with pytest.raises(ValueError, match=words):
        getattr(D, name)(*map(f64, params))


def test_numbers_as_parameters_and_default_dtype():
    d = D.Normal(0, torch.ones(2))
    assert d.batch_shape == (2,) and d.sample().dtype == torch.float32
    with pytest.raises(ValueError, match="str"):
        D.Normal("0", 1.0)
    with pytest.raises(ValueError, match="exactly one"):
        D.Bernoulli()
    with pytest.raises(ValueError, match="exactly one"):
        D.Bernoulli(probs=0.5, logits=0.0)


def test_checks_can_be_switched_off():
    Distribution.set_default_validate_args(False)
    try:
        assert math.isnan(float(D.Normal(0.0, -1.0).entropy()))
    finally:
        Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError):
        D.Normal(0.0, -1.0)
    with pytest.raises(ValueError):
        Distribution.set_default_validate_args(1)


@pytest.mark.parametrize("name", ["Bernoulli", "Geometric"])
def test_probs_and_logits_are_the_same_distribution(name):
    logits = f64(-3.0, 0.2, 30.0)
    a = getattr(D, name)(logits=logits)
    b = getattr(D, name)(probs=torch.sigmoid(logits))
    x = f64(0.0, 1.0, 0.0)
    np.testing.assert_allclose(array(a.log_prob(x))[:2], array(b.log_prob(x))[:2], rtol=1e-10)
    np.testing.assert_allclose(array(b.logits)[:2], [-3.0, 0.2], rtol=1e-12)
    np.testing.assert_allclose(array(a.probs), array(b.probs))
    assert np.isfinite(array(a.log_prob(x))).all()


def test_enumerate_support():
    assert D.Bernoulli(f64(0.2, 0.4)).enumerate_support().tolist() == [[0, 0], [1, 1]]
    assert D.Bernoulli(f64(0.2, 0.4)).enumerate_support(expand=False).shape == (2, 1)
    assert D.Binomial(2, f64(0.5)).enumerate_support().tolist() == [0, 1, 2]
    with pytest.raises(NotImplementedError):
        D.Normal(0.0, 1.0).enumerate_support()
