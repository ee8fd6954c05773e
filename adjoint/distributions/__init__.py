"""Probability distributions under PyTorch's names.

`distribution.py` is the protocol (read it first), `constraints/` says which values are allowed,
`transforms/` has maps between them, `parameters.py` brings arguments to a common shape; then one
file per family, `transformed.py` and `mixture.py` for what is made of other distributions, `kl.py`
and `kl_pairs.py` for the divergences between two. Everything is ordinary tensor code, so `log_prob`
and `rsample` differentiate.
"""

from __future__ import annotations

import sys

from adjoint.distributions import constraints, transforms, utils
from adjoint.distributions import kl_pairs as kl_pairs  # fills the table of `kl`
from adjoint.distributions.categorical import (
    Categorical,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from adjoint.distributions.constraint_registry import biject_to, transform_to
from adjoint.distributions.continuous_bernoulli import ContinuousBernoulli
from adjoint.distributions.counts import Bernoulli, Binomial, Geometric
from adjoint.distributions.distribution import Distribution, Independent
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.fisher_snedecor import FisherSnedecor
from adjoint.distributions.gamma_family import Chi2, Exponential, Gamma
from adjoint.distributions.generalized_pareto import GeneralizedPareto
from adjoint.distributions.kl import kl_divergence, register_kl
from adjoint.distributions.location_scale import Cauchy, Gumbel, HalfCauchy, Laplace, Uniform
from adjoint.distributions.low_rank import LowRankMultivariateNormal
from adjoint.distributions.matrices import LKJCholesky, Wishart
from adjoint.distributions.mixture import MixtureSameFamily
from adjoint.distributions.multivariate import MultivariateNormal
from adjoint.distributions.normal import HalfNormal, LogisticNormal, LogNormal, Normal
from adjoint.distributions.poisson import NegativeBinomial, Poisson
from adjoint.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from adjoint.distributions.shares import Beta, Dirichlet
from adjoint.distributions.student_t import StudentT
from adjoint.distributions.tails import InverseGamma, Kumaraswamy, Pareto, Weibull
from adjoint.distributions.transformed import TransformedDistribution
from adjoint.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    CatTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PositiveDefiniteTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StackTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from adjoint.distributions.von_mises import VonMises

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "Bernoulli",
    "Beta",
    "Binomial",
    "CatTransform",
    "Categorical",
    "Cauchy",
    "Chi2",
    "ComposeTransform",
    "ContinuousBernoulli",
    "CorrCholeskyTransform",
    "CumulativeDistributionTransform",
    "Dirichlet",
    "Distribution",
    "ExpTransform",
    "Exponential",
    "ExponentialFamily",
    "FisherSnedecor",
    "Gamma",
    "GeneralizedPareto",
    "Geometric",
    "Gumbel",
    "HalfCauchy",
    "HalfNormal",
    "Independent",
    "IndependentTransform",
    "InverseGamma",
    "Kumaraswamy",
    "LKJCholesky",
    "Laplace",
    "LogNormal",
    "LogisticNormal",
    "LowRankMultivariateNormal",
    "LowerCholeskyTransform",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Pareto",
    "Poisson",
    "PositiveDefiniteTransform",
    "PowerTransform",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "ReshapeTransform",
    "SigmoidTransform",
    "SoftmaxTransform",
    "SoftplusTransform",
    "StackTransform",
    "StickBreakingTransform",
    "StudentT",
    "TanhTransform",
    "Transform",
    "TransformedDistribution",
    "Uniform",
    "VonMises",
    "Weibull",
    "Wishart",
    "biject_to",
    "constraints",
    "identity_transform",
    "kl_divergence",
    "register_kl",
    "transform_to",
    "transforms",
    "utils",
]


# PyTorch has a module for each family; by these names the modules here, which have several, are imported, too.
_MODULES = {
    "bernoulli": "counts", "beta": "shares", "binomial": "counts", "cauchy": "location_scale", "chi2": "gamma_family",
    "dirichlet": "shares", "exp_family": "exponential_family", "exponential": "gamma_family", "fishersnedecor": "fisher_snedecor",
    "gamma": "gamma_family", "geometric": "counts", "gumbel": "location_scale", "half_cauchy": "location_scale", "half_normal": "normal",
    "independent": "distribution", "inverse_gamma": "tails", "kumaraswamy": "tails", "laplace": "location_scale",
    "lkj_cholesky": "matrices", "log_normal": "normal", "logistic_normal": "normal", "lowrank_multivariate_normal": "low_rank",
    "mixture_same_family": "mixture", "multinomial": "categorical", "multivariate_normal": "multivariate", "negative_binomial": "poisson",
    "one_hot_categorical": "categorical", "pareto": "tails", "relaxed_bernoulli": "relaxed", "relaxed_categorical": "relaxed",
    "studentT": "student_t", "transformed_distribution": "transformed", "uniform": "location_scale", "weibull": "tails",
    "wishart": "matrices",
}  # fmt: skip
for _name, _home in _MODULES.items():
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = sys.modules[f"{__name__}.{_home}"]


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
