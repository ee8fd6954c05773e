"""Mixtures of distributions of one family. Read `MixtureSameFamily`."""

from __future__ import annotations

from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.categorical import Categorical
from adjoint.distributions.distribution import Distribution


class MixtureSameFamily(Distribution):
    """Each draw from one of k components, chosen by `mixture_distribution`, a `Categorical`.

    component_distribution: its last batch dimension counts the k components. Raises ValueError
    where batch shapes or k do not fit, or the mixture is no `Categorical`.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> parts = D.Normal(torch.tensor([-1.0, 1.0]), torch.ones(2))
    >>> d = D.MixtureSameFamily(D.Categorical(torch.ones(2)), parts)
    >>> d.mean, d.variance, d.log_prob(torch.tensor(0.0))
    (tensor(0.), tensor(2.), tensor(-1.4189))
    """

    arg_constraints: ClassVar = {}
    has_rsample = False

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(
                "MixtureSameFamily: mixture_distribution must be a Categorical, got "
                f"{mixture_distribution!r}"
            )
        if not isinstance(component_distribution, Distribution):
            raise ValueError(
                "MixtureSameFamily: component_distribution must be a Distribution, got "
                f"{component_distribution!r}"
            )
        weights, parts = mixture_distribution, component_distribution
        if not parts.batch_shape:
            raise ValueError(
                "MixtureSameFamily: component_distribution needs a batch dimension of components, "
                "but its batch_shape is ()"
            )
        batch, k = tuple(parts.batch_shape[:-1]), parts.batch_shape[-1]
        own = tuple(weights.batch_shape)
        fits = all(1 in (a, b) or a == b for a, b in zip(reversed(own), reversed(batch)))
        if not fits or len(own) > len(batch):
            raise ValueError(
                f"MixtureSameFamily: mixture_distribution has batch_shape {own}, which does not "
                f"broadcast to {batch} of component_distribution"
            )
        if weights.param_shape[-1] != k:
            raise ValueError(
                f"MixtureSameFamily: mixture_distribution chooses among {weights.param_shape[-1]} "
                f"components, component_distribution has {k}"
            )
        self._mixture_distribution, self._component_distribution = weights, parts
        super().__init__(batch, parts.event_shape, validate_args=validate_args)

    @property
    def mixture_distribution(self) -> Categorical:
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        return self._component_distribution

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self.component_distribution.support)

    def _expand_parts(self, new: Any, shape: Any) -> None:
        k = self.component_distribution.batch_shape[-1]
        new._component_distribution = self.component_distribution.expand((*shape, k))
        new._mixture_distribution = self.mixture_distribution.expand(shape)

    def _weights(self) -> Any:
        """Chances of the components, with dimensions of size 1 for the event."""
        probs = self.mixture_distribution.probs
        return probs.reshape((*probs.shape, *[1] * len(self.event_shape)))

    @property
    def _place(self) -> int:
        return -1 - len(self.event_shape)

    @property
    def mean(self) -> Any:
        return (self._weights() * self.component_distribution.mean).sum(self._place)

    @property
    def variance(self) -> Any:
        """That of the components, and that of their means."""
        weights, parts = self._weights(), self.component_distribution
        gap = parts.mean - self.mean.unsqueeze(self._place)
        return (weights * (parts.variance + gap**2)).sum(self._place)

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            chosen = self.mixture_distribution.expand(self.batch_shape).sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            place = chosen.reshape((*chosen.shape, 1, *[1] * len(self.event_shape)))
            place = place.expand((*chosen.shape, 1, *self.event_shape))
            return drawn.gather(len(chosen.shape), place).squeeze(self._place)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        each = self.component_distribution.log_prob(value.unsqueeze(self._place))
        return torch.logsumexp(each + torch.log_softmax(self.mixture_distribution.logits, -1), -1)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        each = self.component_distribution.cdf(value.unsqueeze(self._place))
        return (each * self.mixture_distribution.probs).sum(-1)

    def __repr__(self) -> str:
        return (
            f"MixtureSameFamily(\n  {self.mixture_distribution!r},\n  "
            f"{self.component_distribution!r})"
        )
