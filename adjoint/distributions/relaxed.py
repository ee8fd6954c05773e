"""Continuous relaxations of chances and categories, whose draws have gradients.

C. J. Maddison, A. Mnih, Y. W. Teh, "The concrete distribution", ICLR 2017; E. Jang, S. Gu, B. Poole,
"Categorical reparameterization with Gumbel-softmax", ICLR 2017. Low temperatures come close to the
discrete distribution. Read `RelaxedBernoulli`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.categorical import Categorical
from adjoint.distributions.counts import Chance
from adjoint.distributions.distribution import Distribution
from adjoint.distributions.parameters import broadcast_all, one_of, open_share, softplus
from adjoint.distributions.transformed import TransformedDistribution
from adjoint.distributions.transforms import ExpTransform, SigmoidTransform


def _as_tensor(temperature: Any) -> Any:
    (temperature,) = broadcast_all(temperature)
    return temperature


class LogitRelaxedBernoulli(Chance):
    """Logistic with mean `logits` / `temperature` and scale 1 / `temperature`: the logit of `RelaxedBernoulli`.

    >>> import adjoint as torch
    >>> from adjoint.distributions.relaxed import LogitRelaxedBernoulli
    >>> LogitRelaxedBernoulli(torch.tensor(1.0), logits=0.0).log_prob(torch.tensor(0.0))
    tensor(-1.3863)
    """

    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = _as_tensor(temperature)
        name, value = one_of(probs=probs, logits=logits)
        (value,) = broadcast_all(value)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Any:
        share = open_share(self._extended_shape(sample_shape), self._dtype)
        return self.icdf(share)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        z = self.logits - value * self.temperature
        return self.temperature.log() + z - 2 * softplus(z)

    def cdf(self, value: Any) -> Any:
        self._validate_sample(value)
        return torch.sigmoid(value * self.temperature - self.logits)

    def icdf(self, value: Any) -> Any:
        return (value.log() - torch.log1p(-value) + self.logits) / self.temperature


class _Relaxed(TransformedDistribution):
    """A relaxed distribution has the parameters of what it is a transform of."""

    base_dist: Any

    @property
    def temperature(self) -> Any:
        return self.base_dist.temperature

    @property
    def probs(self) -> Any:
        return self.base_dist.probs

    @property
    def logits(self) -> Any:
        return self.base_dist.logits


class RelaxedBernoulli(_Relaxed):
    """Numbers in (0, 1), the sharper near 0 and 1 the lower `temperature`, with chance `probs` above 1/2.

    >>> import adjoint as torch
    >>> d = torch.distributions.RelaxedBernoulli(torch.tensor(1.0), probs=torch.tensor(0.5))
    >>> d.log_prob(torch.tensor(0.25)).abs() < 1e-6
    tensor(True)
    """

    arg_constraints: ClassVar = Chance.arg_constraints
    support = constraints.unit_interval
    has_rsample = True
    base_dist: LogitRelaxedBernoulli

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args=validate_args)


class ExpRelaxedCategorical(Distribution):
    """Logarithms of the shares of `RelaxedOneHotCategorical`; shape batch + (k,).

    >>> import adjoint as torch
    >>> from adjoint.distributions.relaxed import ExpRelaxedCategorical
    >>> d = ExpRelaxedCategorical(torch.tensor(0.5), probs=torch.ones(3))
    >>> d.rsample().exp().sum().round(decimals=4)
    tensor(1.)
    """

    arg_constraints: ClassVar = Categorical.arg_constraints
    # Not every vector: their exponentials sum to 1.
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = _as_tensor(temperature)
        self._categorical = Categorical(probs, logits, validate_args)
        shape = self._categorical.param_shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

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

    def rsample(self, sample_shape: Any = ()) -> Any:
        logits = self.logits
        share = open_share(self._extended_shape(sample_shape), logits.dtype)
        scores = (logits - torch.log(-share.log())) / self.temperature
        return torch.log_softmax(scores, -1)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        k = self._event_shape[0]
        scores = self.logits - value * self.temperature
        each = (scores - scores.logsumexp(-1, keepdim=True)).sum(-1)
        return each + math.lgamma(k) + (k - 1) * self.temperature.log()


class RelaxedOneHotCategorical(_Relaxed):
    """Vectors of shares, the nearer to one-hot the lower `temperature` (the concrete distribution).

    >>> import adjoint as torch
    >>> d = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.5), probs=torch.ones(3))
    >>> d.batch_shape, d.event_shape
    (torch.Size([]), torch.Size([3]))
    """

    arg_constraints: ClassVar = Categorical.arg_constraints
    support = constraints.simplex
    has_rsample = True
    base_dist: ExpRelaxedCategorical

    def __init__(
        self,
        temperature: Any,
        probs: Any = None,
        logits: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)
