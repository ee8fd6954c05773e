"""Transforms: inverses, log-determinants against Jacobians by `jacrev`, shapes, what is made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import adjoint as torch
from adjoint.func import jacrev

D = torch.distributions
C = D.constraints
pytestmark = pytest.mark.usefixtures("little_effort")


def f64(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def array(t) -> np.ndarray:
    return np.array(t.detach().clone().numpy(), dtype=np.float64)


ANY = [-1.7, -0.3, 0.0, 0.4, 2.1, 0.9]
POSITIVE = [0.2, 0.7, 1.0, 1.9, 3.3, 0.05]
# Written for either package: (text, a point of the domain).
BIJECTIONS = [
    ("D.ExpTransform()", ANY),
    ("D.SigmoidTransform()", ANY),
    ("D.SoftplusTransform()", ANY),
    ("D.TanhTransform()", ANY),
    ("D.PowerTransform(tensor(1.7))", POSITIVE),
    ("D.PowerTransform(tensor(-0.6))", POSITIVE),
    ("D.AffineTransform(0.3, -2.0)", ANY),
    ("D.AffineTransform(tensor(0.3), tensor([1.5, -0.5, 1.0, 2.0, 0.1, 3.0]), event_dim=1)", ANY),
    ("D.CumulativeDistributionTransform(D.Normal(tensor(0.2), tensor(1.3)))", ANY),
    ("D.ComposeTransform([D.ExpTransform(), D.AffineTransform(1.0, -0.5)])", ANY),
    ("D.ComposeTransform([D.TanhTransform(), D.StickBreakingTransform()])", ANY),
    ("D.IndependentTransform(D.SigmoidTransform(), 1)", ANY),
    ("D.StickBreakingTransform()", ANY),
    ("D.CorrCholeskyTransform()", ANY),
    ("D.ReshapeTransform((6,), (2, 3))", ANY),
    ("D.CatTransform([D.ExpTransform(), D.TanhTransform()], dim=-1, lengths=[2, 4])", ANY),
    ("D.StackTransform([D.ExpTransform(), D.TanhTransform()] * 3, dim=-1)", ANY),
    ("D.ExpTransform().inv", POSITIVE),
    ("D.biject_to(D.constraints.interval(-1.0, 3.0))", ANY),
    ("D.biject_to(D.constraints.less_than(2.0))", ANY),
    ("D.ComposeTransform([])", ANY),
]
each = pytest.mark.parametrize("text, point", BIJECTIONS, ids=[t for t, _ in BIJECTIONS])


def built(text: str, module=D, tensor=f64):
    return eval(text, {"D": module, "tensor": tensor})


@each
def test_inverse_and_shapes(text, point):
    t, x = built(text), f64(point)
    y = t(x)
    assert t.bijective and t.inv.bijective
    np.testing.assert_allclose(array(t.inv(y)), array(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(array(t.inv.inv(x)), array(y))
    assert bool(t.codomain.check(y).all()) and bool(t.domain.check(x).all())
    assert t.forward_shape(x.shape) == y.shape and t.inverse_shape(y.shape) == x.shape
    wide = torch.stack([x, x * 1.1])
    if "Stack" not in text and "Cat" not in text:
        assert t(wide).shape == t.forward_shape(wide.shape) == (2, *y.shape)
    assert t.inv.inv == t and t == t and t != D.AbsTransform()


@each
def test_log_determinant_is_that_of_the_jacobian(text, point):
    t, x = built(text), f64(point)
    y = t(x)
    claimed = t.log_abs_det_jacobian(x, y)
    whole = jacrev(t)(x)
    if t.codomain.event_dim == 0:  # of numbers: a diagonal
        want = np.log(np.abs(np.diagonal(array(whole))))
    else:
        matrix = array(whole)
        if "Corr" in text:  # the free numbers are those below the diagonal
            matrix = matrix[np.tril_indices(4, -1)]
        matrix = matrix.reshape(-1, 6)
        if "Stick" in text:  # the last share follows from the others
            matrix = matrix[:-1]
        want = np.linalg.slogdet(matrix)[1]
    np.testing.assert_allclose(array(claimed), want, rtol=1e-9, atol=1e-10)
    back = t.inv.log_abs_det_jacobian(y, x)
    np.testing.assert_allclose(array(back), -array(claimed), rtol=1e-9, atol=1e-10)
    moving = x.clone().requires_grad_(True)
    total = t.log_abs_det_jacobian(moving, t(moving)).sum()
    if total.requires_grad:  # not of a constant
        (slope,) = torch.autograd.grad(total, moving)

        def total(v):
            return t.log_abs_det_jacobian(v, t(v)).sum().item()

        h = 1e-6
        moves = np.eye(len(point)) * h
        numeric = [(total(x + f64(m)) - total(x - f64(m))) / (2 * h) for m in moves]
        np.testing.assert_allclose(array(slope), numeric, rtol=1e-5, atol=1e-6)


@each
def test_pytorch_agrees(text, point):
    other = pytest.importorskip("torch")

    def theirs(value):
        return other.tensor(value, dtype=other.float64)

    t, o = built(text), built(text, other.distributions, theirs)
    x, z = f64(point), theirs(point)
    np.testing.assert_allclose(array(t(x)), o(z).numpy(), rtol=1e-7, atol=1e-9)
    got = t.log_abs_det_jacobian(x, t(x))
    want = o.log_abs_det_jacobian(z, o(z))
    assert tuple(got.shape) == tuple(want.shape)
    np.testing.assert_allclose(array(got), want.numpy(), rtol=1e-6, atol=1e-8)
    if "Stack" not in text:  # PyTorch says 1 there, and answers for each element all the same
        assert t.domain.event_dim == o.domain.event_dim
        assert t.codomain.event_dim == o.codomain.event_dim
    assert repr(t) == repr(o)
    try:
        want = o.sign
    except NotImplementedError:
        with pytest.raises(NotImplementedError):
            _ = t.sign
    else:
        assert np.array_equal(array(torch.as_tensor(t.sign)), other.as_tensor(want).numpy())


def test_transforms_that_are_no_bijections():
    assert D.AbsTransform()(f64([-2.0, 3.0])).tolist() == [2, 3]
    assert not D.AbsTransform().bijective and not D.SoftmaxTransform().bijective
    shares = D.SoftmaxTransform()(f64(ANY))
    np.testing.assert_allclose(array(shares), np.exp(ANY) / np.exp(ANY).sum())
    np.testing.assert_allclose(array(D.SoftmaxTransform()(D.SoftmaxTransform().inv(shares))), array(shares))
    m = f64([[0.1, 9.0], [-0.4, 0.7]])
    lower = D.LowerCholeskyTransform()
    np.testing.assert_allclose(array(lower(m)), [[math.exp(0.1), 0], [-0.4, math.exp(0.7)]])
    np.testing.assert_allclose(array(lower.inv(lower(m))), [[0.1, 0], [-0.4, 0.7]])
    definite = D.PositiveDefiniteTransform()
    np.testing.assert_allclose(array(definite(m)), array(lower(m)) @ array(lower(m)).T)
    np.testing.assert_allclose(array(definite.inv(definite(m))), [[0.1, 0], [-0.4, 0.7]])
    for t in (D.AbsTransform(), D.SoftmaxTransform(), D.Transform()):
        with pytest.raises(NotImplementedError, match=type(t).__name__):
            t.log_abs_det_jacobian(f64(ANY), f64(ANY))


@pytest.mark.parametrize("text, point", BIJECTIONS, ids=[t for t, _ in BIJECTIONS])
def test_a_cache_gives_back_the_very_tensor(text, point):
    t, x = built(text).with_cache(1), f64(point)
    y = t(x)
    assert t.inv(y) is x and t(x) is y
    assert t.with_cache(1) is t
    plain = built(text)
    if plain(x) is not x:
        assert plain.inv(plain(x)) is not x


def test_wrong_arguments_of_transforms():
    with pytest.raises(ValueError, match="cache_size"):
        D.ExpTransform(cache_size=2)
    with pytest.raises(ValueError, match="numbers of elements"):
        D.ReshapeTransform((4,), (3,))
    with pytest.raises(ValueError, match=r"must end in \(4,\)"):
        D.ReshapeTransform((4,), (2, 2)).forward_shape((3,))
    with pytest.raises(ValueError, match="got 4"):
        D.CorrCholeskyTransform()(f64([1.0, 2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match="lengths"):
        D.CatTransform([D.ExpTransform()], lengths=[1, 2])
    with pytest.raises(TypeError, match="transforms"):
        D.StackTransform([1])
    with pytest.raises(ValueError, match="event_dim"):
        _ = D.CorrCholeskyTransform().event_dim
    with pytest.raises(ValueError, match="dimensions"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), D.StickBreakingTransform())
    with pytest.raises(TypeError, match="Transform"):
        D.TransformedDistribution(D.Normal(0.0, 1.0), [torch.exp])


CONSTRAINTS = [
    (C.real, ()),
    (C.positive, (3,)),
    (C.nonnegative, (3,)),
    (C.greater_than(2.0), (3,)),
    (C.less_than(-1.0), (3,)),
    (C.unit_interval, (3,)),
    (C.interval(-2.0, 5.0), (3,)),
    (C.half_open_interval(-2.0, 5.0), (3,)),
    (C.simplex, (4,)),
    (C.corr_cholesky, (6,)),
    (C.real_vector, (4,)),
    (C.independent(C.positive, 1), (4,)),
    (C.cat([C.positive, C.unit_interval], -1, [1, 2]), (3,)),
    (C.stack([C.positive, C.unit_interval], -1), (2,)),
    (C.lower_cholesky, (3, 3)),
    (C.positive_definite, (3, 3)),
    (C.positive_semidefinite, (3, 3)),
]


@pytest.mark.parametrize("constraint, shape", CONSTRAINTS, ids=lambda v: str(v))
def test_transforms_onto_constraints(constraint, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    y = D.transform_to(constraint)(x)
    assert bool(constraint.check(y).all())
    if shape == (3, 3):
        with pytest.raises(NotImplementedError, match="register"):
            D.biject_to(constraint)
        return
    t = D.biject_to(constraint)
    y = t(x)
    assert bool(constraint.check(y).all()) and t.bijective
    np.testing.assert_allclose(array(t.inv(y)), array(x), rtol=1e-9, atol=1e-12)


def test_registering_a_transform():
    class Even(C.Constraint):
        pass

    with pytest.raises(NotImplementedError, match="Even"):
        D.biject_to(Even())
    D.biject_to.register(Even)(lambda c: D.ExpTransform())
    assert D.biject_to(Even()) == D.ExpTransform()
    with pytest.raises(TypeError, match="constraint"):
        D.biject_to.register(int, lambda c: None)


CHECKS = [  # constraint, a value that satisfies it, one that does not
    (C.less_than(1.0), 0.5, 1.0),
    (C.half_open_interval(0.0, 1.0), 0.0, 1.0),
    (C.positive_integer, 1.0, 0.0),
    (C.lower_triangular, [[1.0, 0.0], [3.0, -1.0]], [[1.0, 0.1], [3.0, 1.0]]),
    (C.square, [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0]]),
    (C.symmetric, [[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [2.5, 4.0]]),
    (C.positive_semidefinite, [[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [2.0, 1.0]]),
    (C.positive_definite, [[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0, 0.0]]),
    (C.corr_cholesky, [[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.6, 0.9]]),
    (C.cat([C.positive, C.real], 0, [1, 1]), [1.0, -1.0], [-1.0, 1.0]),
    (C.stack([C.positive, C.real], 0), [1.0, -1.0], [-1.0, 1.0]),
    (C.real_vector, [1.0, -1.0], [math.nan, 1.0]),
]


@pytest.mark.parametrize("constraint, good, bad", CHECKS, ids=lambda v: str(v))
def test_constraints(constraint, good, bad):
    assert bool(constraint.check(f64(good)).all())
    assert not bool(constraint.check(f64(bad)).all())


def test_dependent_constraints():
    assert C.is_dependent(C.dependent) and not C.is_dependent(C.real)
    assert C.is_dependent(D.Uniform.support) and not C.is_dependent(D.Uniform(0.0, 1.0).support)
    assert D.Uniform.support.event_dim == 0 and D.Categorical.support.is_discrete
    assert C.dependent(event_dim=2).event_dim == 2
    with pytest.raises(NotImplementedError, match="event_dim"):
        _ = C.dependent.event_dim
    with pytest.raises(ValueError, match="dependent"):
        C.dependent.check(f64(1.0))


def test_transformed_distributions():
    base = D.Normal(f64(0.3), f64(0.8))
    falling = D.TransformedDistribution(base, [D.ExpTransform(), D.AffineTransform(1.0, -2.0)])
    x = np.array([-3.0, -0.7, 0.9])
    z = np.log((1 - x) / 2)
    density = -0.5 * ((z - 0.3) / 0.8) ** 2 - math.log(0.8 * math.sqrt(2 * math.pi)) - z - math.log(2)
    np.testing.assert_allclose(array(falling.log_prob(f64(x))), density)
    below = [0.5 * math.erfc((v - 0.3) / 0.8 / math.sqrt(2)) for v in z]
    np.testing.assert_allclose(array(falling.cdf(f64(x))), below)
    np.testing.assert_allclose(array(falling.icdf(falling.cdf(f64(x)))), x)
    assert falling.has_rsample and falling.support is not None
    vectors = D.TransformedDistribution(
        D.Normal(torch.zeros(5, 3), torch.ones(3)), D.StickBreakingTransform()
    )
    assert vectors.batch_shape == (5,) and vectors.event_shape == (4,)
    assert vectors.sample((2,)).shape == (2, 5, 4)
    assert vectors.log_prob(torch.full((4,), 0.25)).shape == (5,)
    assert vectors.expand((7, 5)).rsample().shape == (7, 5, 4)
    wide = D.TransformedDistribution(D.Normal(0.0, 1.0), D.AffineTransform(torch.zeros(3), 2.0))
    assert wide.batch_shape == (3,) and wide.sample().shape == (3,)
    vector = D.TransformedDistribution(wide, D.AffineTransform(0.0, 2.0, event_dim=1))
    assert vector.batch_shape == () and vector.log_prob(torch.zeros(3)).shape == ()
    loc = f64(0.5).requires_grad_(True)
    draw = D.TransformedDistribution(D.Normal(loc, f64(1.0)), D.ExpTransform()).rsample()
    draw.backward()
    assert float(loc.grad) == pytest.approx(float(draw))
    with pytest.raises(ValueError, match="support"):
        D.LogNormal(0.0, 1.0).log_prob(torch.tensor(-1.0))
    for d in (D.LogNormal(0.0, 1.0), D.HalfNormal(1.0), D.Gumbel(0.0, 1.0)):
        assert isinstance(d, D.TransformedDistribution)
        moved = D.TransformedDistribution(d.base_dist, d.transforms)
        if not isinstance(d, D.HalfNormal):
            point = torch.tensor([0.4, 1.7])
            np.testing.assert_allclose(array(moved.log_prob(point)), array(d.log_prob(point)), rtol=1e-5)
