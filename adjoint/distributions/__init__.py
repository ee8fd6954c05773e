"""Probability distributions under PyTorch's names.

`distribution.py` is the protocol (read it first), `constraints.py` says which values are allowed,
`parameters.py` brings arguments to a common shape; then one file per family, and `kl.py` for the
divergences between them. Everything is ordinary tensor code, so `log_prob` and `rsample`
differentiate.
"""

from __future__ import annotations

from adjoint.distributions import constraints
from adjoint.distributions.categorical import Categorical, Multinomial, OneHotCategorical
from adjoint.distributions.counts import Bernoulli, Binomial, Geometric, Poisson
from adjoint.distributions.distribution import Distribution, Independent
from adjoint.distributions.gamma_family import Beta, Chi2, Dirichlet, Exponential, Gamma
from adjoint.distributions.kl import kl_divergence, register_kl
from adjoint.distributions.location_scale import Cauchy, Gumbel, Laplace, StudentT, Uniform
from adjoint.distributions.multivariate import MultivariateNormal
from adjoint.distributions.normal import HalfNormal, LogNormal, Normal

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Cauchy",
    "Chi2",
    "Dirichlet",
    "Distribution",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "Independent",
    "Laplace",
    "LogNormal",
    "Multinomial",
    "MultivariateNormal",
    "Normal",
    "OneHotCategorical",
    "Poisson",
    "StudentT",
    "Uniform",
    "constraints",
    "kl_divergence",
    "register_kl",
]


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
