"""Families made of a chance: Bernoulli, geometric, binomial. Read `Chance`, then `Bernoulli`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.parameters import (
    broadcast_all,
    clamp_probs,
    lazy_property,
    logits_to_probs,
    one_of,
    probs_to_logits,
    softplus,
)
from adjoint.utils.host_random import host_generator


class Chance(Distribution):
    """A chance p given as `probs` or as `logits` = log(p / (1 - p)); the other form on demand."""

    arg_constraints: ClassVar = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _set_chance(self, name: str, value: Any) -> None:
        self._given = name
        self.__dict__[name] = value

    # The form that was given is an attribute, which wins over these.
    @lazy_property
    def probs(self) -> Any:
        return logits_to_probs(self.logits, is_binary=True)

    @lazy_property
    def logits(self) -> Any:
        return probs_to_logits(self.probs, is_binary=True)

    @property
    def _param(self) -> Any:
        return self.__dict__[self._given]

    @property
    def param_shape(self) -> Any:
        return self.__dict__[self._given].shape

    @property
    def _dtype(self) -> Any:
        return self.__dict__[self._given].dtype


class Bernoulli(Chance, ExponentialFamily):
    """1 with probability `probs`, else 0.

    >>> import adjoint as torch
    >>> torch.distributions.Bernoulli(0.25).log_prob(torch.tensor([1.0, 0.0]))
    tensor([-1.3863, -0.2877])
    """

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        (value,) = broadcast_all(value)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        p = self.probs
        return torch.where(p == 0.5, math.nan, (p > 0.5).to(p.dtype))

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            share = torch.rand(self._extended_shape(sample_shape), dtype=self._dtype)
            return (share < self.probs).to(self._dtype)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return value * self.logits - softplus(self.logits)

    def entropy(self) -> Any:
        # E[-log p] = softplus(l) - p l, the same as binary cross-entropy of p with itself.
        return softplus(self.logits) - self.probs * self.logits

    def enumerate_support(self, expand: bool = True) -> Any:
        both = torch.arange(2, dtype=self._dtype).reshape(2, *[1] * len(self._batch_shape))
        return both.expand((2, *self._batch_shape)) if expand else both

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        return softplus(natural_params[0])

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.logits)


class Geometric(Chance):
    """Failures before the first success: P(k) = (1 - p)^k p, k = 0, 1, 2, ...

    >>> import adjoint as torch
    >>> torch.distributions.Geometric(0.25).mean
    tensor(3.)
    """

    support = constraints.nonnegative_integer

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        (value,) = broadcast_all(value)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)
        if self._validate_args and name == "probs" and not bool((value > 0).all()):
            raise ValueError(f"Geometric: probs must be greater than 0, got {value}")

    @property
    def mean(self) -> Any:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Any:
        return torch.zeros_like(self.probs)

    @property
    def variance(self) -> Any:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            share = torch.rand(self._extended_shape(sample_shape), dtype=self._dtype)
            share = share.clamp(min=torch.finfo(self._dtype).tiny)
            return torch.floor(torch.log(share) / torch.log1p(-clamp_probs(self.probs)))

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        p = self.probs
        # xlogy: no failure (k = 0) contributes 0 also when p = 1.
        return torch.xlogy(value, 1 - p) + torch.log(p)

    def entropy(self) -> Any:
        return (softplus(self.logits) - self.probs * self.logits) / self.probs


class Binomial(Chance):
    """Successes in `total_count` trials: P(k) = C(n, k) p^k (1 - p)^(n - k).

    Draws come from NumPy's binomial generator, seeded by the engine's stream.

    >>> import adjoint as torch
    >>> torch.distributions.Binomial(10, 0.5).mean
    tensor(5.)
    """

    arg_constraints: ClassVar = {
        "total_count": constraints.nonnegative_integer,
        **Chance.arg_constraints,
    }
    has_enumerate_support = True

    def __init__(
        self,
        total_count: Any = 1,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        self.total_count, value = broadcast_all(total_count, value)
        self.total_count = self.total_count.to(value.dtype)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def mode(self) -> Any:
        return torch.minimum(torch.floor((self.total_count + 1) * self.probs), self.total_count)

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        trials = values(self.total_count).astype(np.int64)
        chance = np.clip(values(self.probs), 0, 1)
        drawn = host_generator().binomial(trials, chance, size=shape)
        return torch.tensor(drawn, dtype=self._dtype)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        n, logits = self.total_count, self.logits
        ways = torch.lgamma(n + 1) - torch.lgamma(value + 1) - torch.lgamma(n - value + 1)
        return ways + value * logits - n * softplus(logits)

    def enumerate_support(self, expand: bool = True) -> Any:
        counts = values(self.total_count)
        if counts.size == 0 or (counts != counts.flat[0]).any():
            raise NotImplementedError("Binomial: total_count differs within the batch")
        n = int(counts.flat[0]) + 1
        every = torch.arange(n, dtype=self._dtype).reshape(n, *[1] * len(self._batch_shape))
        return every.expand((n, *self._batch_shape)) if expand else every

    def entropy(self) -> Any:
        log_p = self.log_prob(self.enumerate_support())
        return -(torch.exp(log_p) * log_p).sum(0)


def values(t: Any) -> np.ndarray:
    """A tensor's values in float64, for NumPy's generators; the tensor keeps its own memory."""
    return t.detach().clone().numpy().astype(np.float64)
