"""Distributions and transforms of the user's own, written against the protocol that PyTorch documents."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import adjoint as torch
from adjoint import distributions as D
from adjoint.distributions.utils import broadcast_all, lazy_property


class Shifted(D.Distribution):
    """A normal of variance 1 around `loc`, with an expand of its own."""

    arg_constraints = {"loc": D.constraints.real}  # noqa: RUF012
    support = D.constraints.real

    def __init__(self, loc, validate_args=None):
        (self.loc,) = broadcast_all(loc)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @lazy_property
    def twice(self):
        return 2 * self.loc

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Shifted, _instance)
        new.loc = self.loc.expand(batch_shape)
        super(Shifted, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new


def test_expand_of_a_subclass():
    d = Shifted(torch.tensor(1.0))
    assert d.twice.shape == ()
    wide = d.expand((3,))
    assert type(wide) is Shifted and wide.batch_shape == (3,) and wide.twice.tolist() == [2.0] * 3

    class Named(Shifted):
        def __init__(self, name):
            super().__init__(0.0)

    with pytest.raises(NotImplementedError, match="Named"):
        Named("a").expand((2,))


def test_expand_fills_an_instance():
    class Mine(D.Normal):
        def __init__(self):
            super().__init__(torch.tensor(1.0), torch.tensor(2.0))

        def expand(self, batch_shape, _instance=None):
            new = self._get_checked_instance(Mine, _instance)
            return super().expand(batch_shape, _instance=new)

    wide = Mine().expand((2,))
    assert type(wide) is Mine and wide.scale.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("form", ["covariance_matrix", "precision_matrix", "scale_tril"])
def test_forms_of_what_is_expanded(form):
    """What was computed for the narrow one is not kept for the wide one."""
    d = D.MultivariateNormal(torch.zeros(2), **{form: torch.eye(2) * 4})
    for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
        narrow = getattr(d, name)
        wide = getattr(d.expand((3,)), name)
        np.testing.assert_allclose(wide.numpy(), np.broadcast_to(narrow.numpy(), (3, 2, 2)))
    c = D.Categorical(logits=torch.zeros(4))
    assert c.probs.shape == (4,) and c.expand((3,)).probs.shape == (3, 4)


def test_a_property_that_fails_says_why():
    """An AttributeError within a property of a subclass is not taken for a missing form."""

    class Lazy(D.MultivariateNormal):
        @property
        def half(self):
            return self.no_such_thing / 2

    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = Lazy(torch.zeros(1), torch.eye(1)).half


def test_a_base_made_by_the_subclass():
    class Mine(D.LogNormal):
        def __init__(self, loc, scale):
            super(D.LogNormal, self).__init__(D.Normal(loc, scale), D.ExpTransform())

    mine, plain = Mine(torch.tensor(0.5), torch.tensor(2.0)), D.LogNormal(torch.tensor(0.5), torch.tensor(2.0))
    assert float(mine.entropy()) == float(plain.entropy()) and float(mine.mean) == float(plain.mean)


def test_a_transform_that_is_a_module():
    class Scale(D.Transform, torch.nn.Module):
        domain = codomain = D.constraints.real
        bijective = True
        __hash__ = torch.nn.Module.__hash__

        def __init__(self):
            super().__init__(cache_size=1)
            self.factor = torch.nn.Parameter(torch.tensor(2.0))

        def _call(self, x):
            return x * self.factor

        def _inverse(self, y):
            return y / self.factor

        def log_abs_det_jacobian(self, x, y):
            return self.factor.abs().log().expand(x.shape)

    t = Scale()
    assert len(list(t.parameters())) == 1
    D.TransformedDistribution(D.Normal(0.0, 1.0), [t]).log_prob(torch.tensor(3.0)).backward()
    # d/df of -(3/f)^2/2 - log f
    np.testing.assert_allclose(float(t.factor.grad), 9 / 8 - 1 / 2, rtol=1e-6)
    x = torch.tensor(1.0)
    y = t(x)
    assert t.inv(y) is x and t._cached_x_y[0] is x
    other = t.with_cache(0)
    assert other._cached_x_y == (None, None) and other.factor is t.factor


def test_modules_by_pytorchs_names():
    for module, name in [("multivariate_normal", "MultivariateNormal"), ("beta", "Beta"), ("half_cauchy", "HalfCauchy"), ("utils", "clamp_probs")]:
        assert hasattr(importlib.import_module(f"adjoint.distributions.{module}"), name)
        assert hasattr(getattr(D, module), name)
    oracle = pytest.importorskip("torch")
    import sys

    names = {n.rpartition(".")[2] for n in sys.modules if n.startswith("torch.distributions.")}
    assert oracle.distributions and not [n for n in names if not n.startswith("_") and not hasattr(D, n)]


def test_default_of_validation():
    assert D.Distribution._validate_args is True
    try:
        D.Distribution.set_default_validate_args(False)
        D.Normal(0.0, -1.0)
    finally:
        D.Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="scale"):
        D.Normal(0.0, -1.0)
