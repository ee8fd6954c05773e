"""Distributions over k categories: one index, its one-hot vector, or counts of many draws.

Read `Categorical`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import (
    common_shape,
    lazy_property,
    logits_to_probs,
    one_of,
    probs_to_logits,
)
from adjoint.utils.host_random import host_generator


class Categorical(Distribution):
    """An index 0 .. k-1, category i with probability probs[..., i] (normalised to sum 1).

    probs: non-negative weights, or logits: any real numbers; shape batch + (k,).

    >>> import adjoint as torch
    >>> d = torch.distributions.Categorical(torch.tensor([1.0, 3.0]))
    >>> d.log_prob(torch.tensor([0, 1])), d.entropy()
    (tensor([-1.3863, -0.2877]), tensor(0.5623))
    """

    arg_constraints: ClassVar = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        if value.dim() < 1:
            raise ValueError(f"Categorical: {name} must have at least one dimension")
        if name == "probs":
            value = value / value.sum(-1, keepdim=True)
        else:
            value = value - value.logsumexp(-1, keepdim=True)
        self.__dict__[name] = value
        self._given = name
        super().__init__(value.shape[:-1], validate_args=validate_args)

    # The form that was given is an attribute, which wins over these.
    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, is_binary=False)

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, is_binary=False)

    @property
    def _param(self) -> Any:
        return self.__dict__[self._given]

    @property
    def param_shape(self) -> Any:
        return self._param.shape

    @property
    def _num_events(self) -> int:
        return self._param.shape[-1]

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Any:
        return torch.full(self._batch_shape, math.nan, dtype=self._param.dtype)

    @property
    def variance(self) -> Any:
        return torch.full(self._batch_shape, math.nan, dtype=self._param.dtype)

    @property
    def mode(self) -> Any:
        return self._param.argmax(-1)

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            shape = (*self._extended_shape(sample_shape), self._num_events)
            # Exponential race: with E_i standard exponential, argmax p_i / E_i is i with chance
            # p_i. rand may be 0, which gives E = inf and loses the race, as it should.
            race = -torch.log(torch.rand(shape, dtype=self._param.dtype))
            return (self.probs / race).argmax(-1)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        index, logits = value.long().unsqueeze(-1), self.logits
        shape = common_shape(index.shape[:-1], logits.shape[:-1])
        rows = logits.expand((*shape, logits.shape[-1]))
        return rows.gather(-1, index.expand((*shape, 1))).squeeze(-1)

    def entropy(self) -> Any:
        return -torch.xlogy(self.probs, self.probs).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Any:
        k = self._num_events
        values = torch.arange(k).reshape(k, *[1] * len(self._batch_shape))
        return values.expand((k, *self._batch_shape)) if expand else values


class _OverCategories(Distribution):
    """What the one-hot and the count distribution share: they hold a `Categorical`."""

    arg_constraints: ClassVar = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _categorical: Categorical

    @property
    def probs(self) -> Any:
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        return self._categorical.param_shape

    def _expand_parts(self, new: Any, shape: Any) -> None:
        new._categorical = self._categorical.expand(shape)

    def __repr__(self) -> str:
        given = self._categorical._given
        return f"{type(self).__name__}({given}: {self.param_shape})"


class OneHotCategorical(_OverCategories):
    """A vector of k - 1 zeros and a one, at place i with probability probs[..., i].

    >>> import adjoint as torch
    >>> d = torch.distributions.OneHotCategorical(torch.tensor([0.0, 1.0, 0.0]))
    >>> d.sample()
    tensor([0., 1., 0.])
    """

    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return self._one_hot(self._categorical.mode)

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def _one_hot(self, index: Any) -> Any:
        places = torch.arange(self._event_shape[0])
        return (index.unsqueeze(-1) == places).to(self._categorical._param.dtype)

    def sample(self, sample_shape: Any = ()) -> Any:
        return self._one_hot(self._categorical.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Any:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Any:
        k = self._event_shape[0]
        values = torch.eye(k, dtype=self._categorical._param.dtype)
        values = values.reshape(k, *[1] * len(self._batch_shape), k)
        return values.expand((k, *self._batch_shape, k)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """One-hot draws whose gradient is that of `probs`, as if the draw were its mean.

    Y. Bengio, N. Leonard, A. Courville, "Estimating or propagating gradients through stochastic
    neurons for conditional computation", 2013.

    >>> import adjoint as torch
    >>> p = torch.tensor([0.2, 0.8], requires_grad=True)
    >>> torch.distributions.OneHotCategoricalStraightThrough(p).rsample()[0].backward()
    >>> p.grad
    tensor([ 0.8000, -0.2000])
    """

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Any:
        probs = self.probs
        return self.sample(sample_shape) + (probs - probs.detach())


class Multinomial(_OverCategories):
    """How often each of k categories occurs in `total_count` draws.

    log P(x) = log n! - sum log x_i! + sum x_i log p_i. Draws come from NumPy's multinomial
    generator, seeded by the engine's stream.

    >>> import adjoint as torch
    >>> torch.distributions.Multinomial(10, torch.ones(6) / 6).sample().sum()
    tensor(10.)
    """

    def __init__(
        self,
        total_count: int = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        if isinstance(total_count, torch.Tensor) or total_count != int(total_count):
            raise NotImplementedError(
                f"Multinomial: total_count must be one whole number, got {total_count!r}"
            )
        self.total_count = int(total_count)
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        chance = self.probs.detach().clone().numpy().astype(np.float64)
        chance = chance / chance.sum(-1, keepdims=True)  # NumPy insists on a sum of 1 in float64
        shape = (*sample_shape, *self._batch_shape)
        drawn = host_generator().multinomial(self.total_count, chance, size=shape)
        return torch.tensor(drawn, dtype=self._categorical._param.dtype)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        # An impossible category that did not occur contributes 0, not 0 * -inf.
        logits = torch.where((value == 0) & (self.logits == -math.inf), 0.0, self.logits)
        ways = torch.lgamma(value.sum(-1) + 1) - torch.lgamma(value + 1).sum(-1)
        return ways + (value * logits).sum(-1)

    def entropy(self) -> Any:
        """H = n H(p) - log n! + sum_i E[log X_i!], with X_i binomial (n, p_i)."""
        n = self.total_count
        k = torch.arange(n + 1, dtype=self._categorical._param.dtype)
        k = k.reshape(n + 1, *[1] * len(self.param_shape))
        p = self.probs
        log_binomial = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
        chance = torch.exp(log_binomial + torch.xlogy(k, p) + torch.xlogy(n - k, 1 - p))
        expected = (chance * torch.lgamma(k + 1)).sum(0).sum(-1)
        return n * self._categorical.entropy() - math.lgamma(n + 1) + expected
