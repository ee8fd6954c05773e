"""Kullback-Leibler divergences KL(p || q) = E_p[log p - log q], one closed form per pair.

Owns the table `_RULES`, (class of p, class of q) -> formula, filled by `register_kl`.
Read `kl_divergence`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.distributions.categorical import Categorical, OneHotCategorical
from adjoint.distributions.counts import Bernoulli, Binomial, Geometric, Poisson
from adjoint.distributions.distribution import Distribution, Independent, sum_rightmost
from adjoint.distributions.gamma_family import Beta, Dirichlet, Exponential, Gamma
from adjoint.distributions.location_scale import Gumbel, Laplace, Uniform
from adjoint.distributions.multivariate import MultivariateNormal, half_log_det, solve_lower
from adjoint.distributions.normal import HalfNormal, LogNormal, Normal
from adjoint.distributions.parameters import common_shape

Rule = Callable[[Any, Any], Any]
_RULES: dict[tuple[type, type], Rule] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Rule], Rule]:
    """Decorator: make a function the formula for KL(type_p || type_q), subclasses included."""
    for t in (type_p, type_q):
        if not (isinstance(t, type) and issubclass(t, Distribution)):
            raise TypeError(f"register_kl takes two subclasses of Distribution, got {t!r}")

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
    raise NotImplementedError(
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
    left, right = q._tril.expand((*batch, k, k)), p._tril.expand((*batch, k, k))
    trace = (torch.linalg.solve_triangular(left, right, upper=False) ** 2).sum((-2, -1))
    distance = (solve_lower(q._tril, q.loc - p.loc) ** 2).sum(-1)
    return half_log_det(q._tril) - half_log_det(p._tril) + 0.5 * (trace + distance - k)


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


@register_kl(Uniform, Normal)
def _uniform_normal(p: Uniform, q: Normal) -> Any:
    width = p.high - p.low
    second = width**2 / 12 + ((p.high + p.low) / 2 - q.loc) ** 2
    return torch.log(q.scale * math.sqrt(2 * math.pi) / width) + 0.5 * second / q.scale**2


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Any:
    ratio = q.rate / p.rate
    return ratio - 1 - ratio.log()


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Any:
    a, c = p.concentration, q.concentration
    logs = c * (p.rate / q.rate).log() + torch.lgamma(c) - torch.lgamma(a)
    return logs + (a - c) * torch.digamma(a) + a * (q.rate / p.rate - 1)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Exponential, q: Gamma) -> Any:
    return _gamma(Gamma(torch.ones_like(p.rate), p.rate, validate_args=False), q)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Gamma, q: Exponential) -> Any:
    return _gamma(p, Gamma(torch.ones_like(q.rate), q.rate, validate_args=False))


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
