"""Kullback-Leibler divergences KL(p || q) = E_p[log p - log q], of two of one family.

`kl_pairs.py` has those between families.

Owns the table `_RULES`, (class of p, class of q) -> formula, filled by `register_kl`.
Read `kl_divergence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.distributions.categorical import Categorical, OneHotCategorical
from adjoint.distributions.continuous_bernoulli import ContinuousBernoulli
from adjoint.distributions.counts import Bernoulli, Binomial, Geometric
from adjoint.distributions.distribution import Distribution, Independent, sum_rightmost
from adjoint.distributions.exponential_family import (
    ExponentialFamily,
    log_normalizer_with_slopes,
)
from adjoint.distributions.gamma_family import Exponential, Gamma
from adjoint.distributions.location_scale import Cauchy, Gumbel, HalfCauchy, Laplace, Uniform
from adjoint.distributions.low_rank import LowRankMultivariateNormal
from adjoint.distributions.matrices import Wishart
from adjoint.distributions.multivariate import MultivariateNormal, half_log_det, solve_lower
from adjoint.distributions.normal import HalfNormal, LogNormal, Normal
from adjoint.distributions.parameters import common_shape
from adjoint.distributions.poisson import Poisson
from adjoint.distributions.shares import Beta, Dirichlet
from adjoint.distributions.tails import Pareto
from adjoint.distributions.transformed import TransformedDistribution

Rule = Callable[[Any, Any], Any]
_RULES: dict[tuple[type, type], Rule] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Decorator: make a function the formula for KL(type_p || type_q), subclasses included.

    The classes may be bases that several distributions share, too. TypeError for what is no class.
    """
    for t in (type_p, type_q):
        if not isinstance(t, type):
            raise TypeError(f"register_kl takes two classes of distributions, got {t!r}")

    def decorate(rule: Rule) -> Rule:
        _RULES[type_p, type_q] = rule
        return rule

    return decorate


def kl_divergence(p: Distribution, q: Distribution) -> Any:
    """KL(p || q), one number per element of the broadcast batch shape.

    Raises NotImplementedError for a pair without a formula.

    >>> import adjoint as torch
    >>> from adjoint.distributions import Normal, kl_divergence
    >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
    tensor(0.5000)
    """
    # The nearest classes first: a rule for the class itself beats one for its bases.
    for a in type(p).__mro__:
        for b in type(q).__mro__:
            if (a, b) in _RULES:
                return _RULES[a, b](p, q)
    raise NotImplementedError(unknown(p, q))


def unknown(p: Distribution, q: Distribution) -> str:
    """What is said of a pair without a formula."""
    return (
        f"no closed form is known for KL({type(p).__name__} || {type(q).__name__}); "
        "add one with register_kl, or average p.log_prob(x) - q.log_prob(x) over draws x from p"
    )


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independent with different event dimensions")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(Normal, Normal)
@register_kl(LogNormal, LogNormal)
def _normal(p: Normal, q: Normal) -> Any:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1 - ratio.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Any:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio - 1 - ratio.log())


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normal(p: MultivariateNormal, q: MultivariateNormal) -> Any:
    k = p.event_shape[0]
    batch = common_shape(p.batch_shape, q.batch_shape)
    left, right = q._unbroadcasted_scale_tril.expand((*batch, k, k)), p._unbroadcasted_scale_tril.expand((*batch, k, k))
    trace = (torch.linalg.solve_triangular(left, right, upper=False) ** 2).sum((-2, -1))
    distance = (solve_lower(q._unbroadcasted_scale_tril, q.loc - p.loc) ** 2).sum(-1)
    return half_log_det(q._unbroadcasted_scale_tril) - half_log_det(p._unbroadcasted_scale_tril) + 0.5 * (trace + distance - k)


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Any:
    ratio, gap = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + gap / q.scale + ratio * torch.exp(-gap / p.scale) - 1


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Any:
    euler = 0.57721566490153286061
    ratio, gap = p.scale / q.scale, (q.loc - p.loc) / q.scale
    moved = torch.exp(gap + torch.lgamma(1 + ratio))
    return -ratio.log() - gap + ratio * euler + moved - (1 + euler)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Any:
    inside = (q.low <= p.low) & (p.high <= q.high)
    return torch.where(inside, torch.log((q.high - q.low) / (p.high - p.low)), math.inf)


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Any:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Any:
    a, c = p.concentration, q.concentration
    logs = c * (p.rate / q.rate).log() + torch.lgamma(c) - torch.lgamma(a)
    return logs + (a - c) * torch.digamma(a) + a * (q.rate / p.rate - 1)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Any:
    total_p, total_q = p._total, q._total
    result = torch.lgamma(total_p) - torch.lgamma(total_q)
    for a, c in ((p.concentration1, q.concentration1), (p.concentration0, q.concentration0)):
        result = result + torch.lgamma(c) - torch.lgamma(a) + (a - c) * torch.digamma(a)
    return result - (total_p - total_q) * torch.digamma(total_p)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Any:
    a, c = p.concentration, q.concentration
    total = a.sum(-1)
    logs = torch.lgamma(total) - torch.lgamma(c.sum(-1))
    logs = logs + (torch.lgamma(c) - torch.lgamma(a)).sum(-1)
    return logs + ((a - c) * (torch.digamma(a) - torch.digamma(total).unsqueeze(-1))).sum(-1)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Any:
    a, b = p.probs, q.probs
    yes = torch.xlogy(a, a) - torch.xlogy(a, b)
    return yes + torch.xlogy(1 - a, 1 - a) - torch.xlogy(1 - a, 1 - b)


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Any:
    each = _bernoulli(p, q)
    # Counts that q cannot reach make the divergence infinite; fewer trials in p have no form.
    if bool((p.total_count < q.total_count).any()):
        raise NotImplementedError("KL between binomials with different total_count")
    return torch.where(p.total_count > q.total_count, math.inf, p.total_count * each)


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Any:
    a, b = p.probs, q.probs
    fail = (1 - a) / a
    return torch.log(a) - torch.log(b) + torch.xlogy(fail, 1 - a) - torch.xlogy(fail, 1 - b)


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Any:
    return torch.xlogy(p.rate, p.rate) - torch.xlogy(p.rate, q.rate) - p.rate + q.rate


@register_kl(Categorical, Categorical)
@register_kl(OneHotCategorical, OneHotCategorical)
def _categorical(p: Categorical, q: Categorical) -> Any:
    return (torch.xlogy(p.probs, p.probs) - torch.xlogy(p.probs, q.probs)).sum(-1)


@register_kl(Cauchy, Cauchy)
@register_kl(HalfCauchy, HalfCauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Any:
    """F. Chyzak, F. Nielsen, "A closed-form formula for the KL divergence between Cauchy
    distributions", 2019. Half of a symmetric density has the same divergence."""
    apart = 0 if isinstance(p, HalfCauchy) else (p.loc - q.loc) ** 2
    return torch.log(((p.scale + q.scale) ** 2 + apart) / (4 * p.scale * q.scale))


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Any:
    return (p.logits - q.logits) * p.mean - p._log_mass() + q._log_mass()


@register_kl(Pareto, Pareto)
def _pareto(p: Pareto, q: Pareto) -> Any:
    ratio = q.alpha / p.alpha
    claimed = q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1
    return torch.where(p.scale >= q.scale, claimed, math.inf)


@register_kl(Wishart, Wishart)
def _wishart(p: Wishart, q: Wishart) -> Any:
    k, a, c = p.event_shape[0], p.df / 2, q.df / 2
    dets = 2 * c * (half_log_det(q._unbroadcasted_scale_tril) - half_log_det(p._unbroadcasted_scale_tril))
    digammas = p._mean_log_det() - k * math.log(2) - 2 * half_log_det(p._unbroadcasted_scale_tril)
    logs = dets + torch.mvlgamma(c, k) - torch.mvlgamma(a, k) + (a - c) * digammas
    return logs + a * (q._trace(p.covariance_matrix) - k)


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _low_rank(p: Any, q: Any) -> Any:
    """As of two normals, where the covariance of either may be W W^T + D.

    With R^T R, or D^-1 - A^T A, for the precision of q, and a factor F of p's covariance, the trace
    is |R F|^2, or |D^-1/2 F|^2 - |A F|^2.
    """
    n = p.event_shape[0]
    if isinstance(p, LowRankMultivariateNormal):
        factors = [p.cov_factor, torch.diag_embed(p.cov_diag.sqrt())]
        log_det = p._half_log_det()
    else:
        factors, log_det = [p._unbroadcasted_scale_tril], half_log_det(p._unbroadcasted_scale_tril)
    trace: Any = 0.0
    if isinstance(q, LowRankMultivariateNormal):
        a, root = q._whitening(), q.cov_diag.sqrt().unsqueeze(-1)
        for f in factors:
            trace = trace + ((f / root) ** 2).sum((-2, -1)) - ((a @ f) ** 2).sum((-2, -1))
        distance, other = q._squared_distance(p.loc - q.loc), q._half_log_det()
    else:
        for f in factors:
            batch = common_shape(f.shape[:-2], q.batch_shape)
            left, right = q._unbroadcasted_scale_tril.expand((*batch, n, n)), f.expand((*batch, *f.shape[-2:]))
            solved = torch.linalg.solve_triangular(left, right, upper=False)
            trace = trace + (solved**2).sum((-2, -1))
        distance = (solve_lower(q._unbroadcasted_scale_tril, p.loc - q.loc) ** 2).sum(-1)
        other = half_log_det(q._unbroadcasted_scale_tril)
    return other - log_det + 0.5 * (trace + distance - n)


@register_kl(ExponentialFamily, ExponentialFamily)
def _exponential_family(p: ExponentialFamily, q: ExponentialFamily) -> Any:
    """A(eta_q) - A(eta_p) - (eta_q - eta_p) dA/deta(eta_p), for one family without a closed form."""
    if type(p) is not type(q):
        raise NotImplementedError(unknown(p, q))
    etas, normalizer, slopes = log_normalizer_with_slopes(p)
    others = q._natural_params
    total = q._log_normalizer(*others) - normalizer
    for eta, other, slope in zip(etas, others, slopes):
        gap = (other - eta) * slope
        total = total - sum_rightmost(gap, slope.dim() - len(p.batch_shape))
    return total


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Any:
    """That of the base distributions, where both go through one and the same bijection."""
    if p.transforms != q.transforms or not all(t.bijective for t in p.transforms):
        raise NotImplementedError(
            f"no closed form is known for KL({type(p).__name__} || {type(q).__name__}) unless both "
            f"have the same bijective transforms; got {p.transforms} and {q.transforms}"
        )
    inner = kl_divergence(p.base_dist, q.base_dist)
    more = len(p.event_shape) - len(p.base_dist.event_shape)
    kept = len(common_shape(p.batch_shape, q.batch_shape))
    return sum_rightmost(inner, inner.dim() - kept) if more else inner
