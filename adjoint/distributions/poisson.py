"""Counts of events: Poisson, and negative binomial, a Poisson whose rate is itself drawn.

Read `Poisson`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.counts import Chance, values
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.parameters import broadcast_all, one_of, softplus
from adjoint.utils.host_random import host_generator


class Poisson(ExponentialFamily):
    """Number of events at a given `rate`: P(k) = rate^k e^-rate / k!.

    Draws come from NumPy's Poisson generator, seeded by the engine's stream.

    >>> import adjoint as torch
    >>> torch.distributions.Poisson(2.0).log_prob(torch.tensor(0.0))
    tensor(-2.)
    """

    arg_constraints: ClassVar = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def mode(self) -> Any:
        return torch.floor(self.rate)

    @property
    def variance(self) -> Any:
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        drawn = host_generator().poisson(values(self.rate), size=shape)
        return torch.tensor(drawn, dtype=self.rate.dtype)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.xlogy(value, self.rate) - self.rate - torch.lgamma(value + 1)

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.rate.log(),)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        return natural_params[0].exp()


class NegativeBinomial(Chance):
    """Successes of chance `probs` before `total_count` failures: P(k) = C(k + r - 1, k) (1 - p)^r p^k.

    total_count: r >= 0, also between whole numbers. Draws come from NumPy's generators, seeded by
    the engine's stream: a Poisson variable whose rate is gamma distributed.

    >>> import adjoint as torch
    >>> torch.distributions.NegativeBinomial(3.0, 0.5).mean
    tensor(3.)
    """

    arg_constraints: ClassVar = {
        "total_count": constraints.nonnegative,
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        self.total_count, value = broadcast_all(total_count, value)
        self.total_count = self.total_count.to(value.dtype)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * torch.exp(self.logits)

    @property
    def mode(self) -> Any:
        return torch.floor((self.total_count - 1) * torch.exp(self.logits)).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.mean / torch.sigmoid(-self.logits)

    def sample(self, sample_shape: Any = ()) -> Any:
        shape = tuple(self._extended_shape(sample_shape))
        generator = host_generator()
        rates = generator.standard_gamma(values(self.total_count), size=shape)
        drawn = generator.poisson(rates * values(torch.exp(self.logits)))
        return torch.tensor(drawn, dtype=self._dtype)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        r, l = self.total_count, self.logits
        # Without failures to wait for (r = 0), 0 successes are certain.
        none = (r == 0) & (value == 0)
        safe = torch.where(none, 1.0, r)
        ways = torch.lgamma(safe + value) - torch.lgamma(safe) - torch.lgamma(value + 1)
        return torch.where(none, 0.0, ways) - r * softplus(l) - value * softplus(-l)
