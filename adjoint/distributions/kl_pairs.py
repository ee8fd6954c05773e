"""Divergences between families: KL(p || q) = -H(p) - E_p[log q].

`_CROSS` has E_p[log q] for each family of q, in terms of a few means over p: E[x] and the variance,
E[log x] and E[log(1 - x)], E[e^(-t x)], E|x - m|, each a table by the family of p. `_FINITE` says
which pairs are made of them; `_INFINITE` names those where q is 0 on a part of what p reaches.
Read `_CROSS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.distributions.continuous_bernoulli import ContinuousBernoulli
from adjoint.distributions.counts import Bernoulli, Binomial
from adjoint.distributions.gamma_family import Exponential, Gamma
from adjoint.distributions.kl import register_kl
from adjoint.distributions.location_scale import EULER, Gumbel, Laplace, Uniform
from adjoint.distributions.normal import Normal
from adjoint.distributions.parameters import common_shape
from adjoint.distributions.poisson import Poisson
from adjoint.distributions.shares import Beta
from adjoint.distributions.tails import Pareto

Mean = Callable[..., Any]


def _of(table: dict[type, Mean], d: Any) -> Mean:
    """The row of d's family, or of the one it is derived from."""
    return next(table[c] for c in type(d).__mro__ if c in table)


def _uniform_log(low: Any, high: Any) -> Any:
    """E[log x] of a uniform x: the difference quotient of x log x - x. NaN for negative ends."""
    return (torch.xlogy(high, high) - torch.xlogy(low, low)) / (high - low) - 1


_LOG: dict[type, Mean] = {  # E[log x]
    Beta: lambda p: torch.digamma(p.concentration1) - torch.digamma(p._total),
    Exponential: lambda p: -p.rate.log() - EULER,
    Gamma: lambda p: torch.digamma(p.concentration) - p.rate.log(),
    Pareto: lambda p: p.scale.log() + 1 / p.alpha,
    Uniform: lambda p: _uniform_log(p.low, p.high),
}
_LOG_REST: dict[type, Mean] = {  # E[log(1 - x)]
    Uniform: lambda p: _uniform_log(1 - p.high, 1 - p.low),
}


def _uniform_exp(p: Uniform, t: Any) -> Any:
    return (torch.exp(-t * p.low) - torch.exp(-t * p.high)) / (t * (p.high - p.low))


_EXP: dict[type, Mean] = {  # E[e^(-t x)] for t > 0
    Exponential: lambda p, t: p.rate / (p.rate + t),
    Gamma: lambda p, t: (1 + t / p.rate) ** -p.concentration,
    Normal: lambda p, t: torch.exp(-t * p.loc + (t * p.scale) ** 2 / 2),
    Uniform: _uniform_exp,
}


def _normal_distance(p: Normal, m: Any) -> Any:
    z = (p.loc - m) / p.scale
    height = math.sqrt(2 / math.pi) * torch.exp(-z * z / 2)
    return p.scale * (height + z * torch.erf(z / math.sqrt(2)))


_DISTANCE: dict[type, Mean] = {Normal: _normal_distance}  # E|x - m|


def _ends(p: Any) -> tuple[Any, Any]:
    """The interval that p reaches."""
    if isinstance(p, Uniform):
        return p.low, p.high
    return 0.0, 1.0 if isinstance(p, (Beta, ContinuousBernoulli)) else math.inf


def _inside(p: Any, low: Any, high: Any, value: Any) -> Any:
    """`value` where p stays within [low, high], else -inf."""
    first, last = _ends(p)
    within = torch.as_tensor(first >= low) & torch.as_tensor(last <= high)
    return torch.where(within, value, -math.inf)


def _to_normal(p: Any, q: Normal) -> Any:
    squared = p.variance + (p.mean - q.loc) ** 2
    return -0.5 * (squared / q.scale**2 + math.log(2 * math.pi)) - q.scale.log()


def _to_gamma(p: Any, q: Gamma) -> Any:
    a, b = q.concentration, q.rate
    mean = a * b.log() - torch.lgamma(a) + (a - 1) * _of(_LOG, p)(p) - b * p.mean
    return _inside(p, 0.0, math.inf, mean)


def _to_beta(p: Any, q: Beta) -> Any:
    a, b = q.concentration1, q.concentration0
    logs = (a - 1) * _of(_LOG, p)(p) + (b - 1) * _of(_LOG_REST, p)(p)
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return _inside(p, 0.0, 1.0, logs - log_beta)


def _to_gumbel(p: Any, q: Gumbel) -> Any:
    t = 1 / q.scale
    return -(p.mean - q.loc) * t - torch.exp(q.loc * t) * _of(_EXP, p)(p, t) - q.scale.log()


def _to_pareto(p: Any, q: Pareto) -> Any:
    logs = q.alpha.log() + q.alpha * q.scale.log() - (q.alpha + 1) * _of(_LOG, p)(p)
    return _inside(p, q.scale, math.inf, logs)


_CROSS: dict[type, Mean] = {  # E_p[log q(x)]
    Normal: _to_normal,
    Gamma: _to_gamma,
    Exponential: lambda p, q: _inside(p, 0.0, math.inf, q.rate.log() - q.rate * p.mean),
    Beta: _to_beta,
    ContinuousBernoulli: lambda p, q: _inside(p, 0.0, 1.0, q.logits * p.mean - q._log_mass()),
    Gumbel: _to_gumbel,
    Laplace: lambda p, q: -_of(_DISTANCE, p)(p, q.loc) / q.scale - torch.log(2 * q.scale),
    Pareto: _to_pareto,
    Uniform: lambda p, q: _inside(p, q.low, q.high, -torch.log(q.high - q.low)),
}
_FINITE: dict[type, tuple[type, ...]] = {
    Beta: (ContinuousBernoulli, Exponential, Gamma, Normal, Uniform),
    ContinuousBernoulli: (Exponential, Normal, Uniform),
    Exponential: (Gamma, Gumbel, Normal),
    Gamma: (Exponential, Gumbel, Normal),
    Gumbel: (Normal,),
    Laplace: (Normal,),
    Normal: (Gumbel, Laplace),
    Pareto: (Exponential, Gamma, Normal),
    Uniform: (Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel, Normal, Pareto),
}
_INFINITE: dict[type, tuple[type, ...]] = {
    Beta: (Pareto,),
    ContinuousBernoulli: (Pareto,),
    Exponential: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gamma: (Beta, ContinuousBernoulli, Pareto, Uniform),
    Gumbel: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Laplace: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Normal: (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform),
    Pareto: (Beta, ContinuousBernoulli, Uniform),
    Poisson: (Bernoulli, Binomial),
}


def _by_means(p: Any, q: Any) -> Any:
    return -p.entropy() - _of(_CROSS, q)(p, q)


def _infinite(p: Any, q: Any) -> Any:
    dtype = next(v.dtype for v in p.__dict__.values() if isinstance(v, torch.Tensor))
    return torch.full(common_shape(p.batch_shape, q.batch_shape), math.inf, dtype=dtype)


for table, rule in ((_FINITE, _by_means), (_INFINITE, _infinite)):
    for family, others in table.items():
        for other in others:
            register_kl(family, other)(rule)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Bernoulli, q: Poisson) -> Any:
    return -p.entropy() - torch.xlogy(p.probs, q.rate) + q.rate  # 0! and 1! are 1
