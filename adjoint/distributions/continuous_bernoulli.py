"""The continuous Bernoulli distribution: log-density linear in x on [0, 1].

G. Loaiza-Ganem, J. P. Cunningham, "The continuous Bernoulli: fixing a pervasive error in
variational autoencoders", NeurIPS 2019. Read `ContinuousBernoulli`.
"""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.counts import Chance
from adjoint.distributions.exponential_family import ExponentialFamily
from adjoint.distributions.parameters import broadcast_all, expm1_over, log1p_over, one_of

# Bernoulli numbers B_2n / (2n)!: with l the logit, the mean is 1/2 + sum c_n l^(2n - 1).
_COEFFICIENTS = (
    1 / 12,
    -1 / 720,
    1 / 30240,
    -1 / 1209600,
    1 / 47900160,
    -691 / 1307674368000,
    1 / 74724249600,
)
_NEAR = 0.5  # logits below are taken to the series


class ContinuousBernoulli(Chance, ExponentialFamily):
    """x in [0, 1] with log p(x) = l x - log((e^l - 1) / l), l = `logits` = log(probs / (1 - probs)).

    lims: taken for the sake of PyTorch's signature, where it says which `probs` count as 1/2; here
        every formula is continuous there.

    >>> import adjoint as torch
    >>> torch.distributions.ContinuousBernoulli(0.5).mean
    tensor(0.5000)
    """

    support = constraints.unit_interval
    has_rsample = True

    def __init__(
        self,
        probs: Any = None,
        logits: Any = None,
        lims: tuple[float, float] = (0.499, 0.501),
        validate_args: bool | None = None,
    ) -> None:
        name, value = one_of(probs=probs, logits=logits)
        (value,) = broadcast_all(value)
        self._set_chance(name, value)
        super().__init__(value.shape, validate_args=validate_args)

    def _parts(self) -> tuple[Any, Any, Any]:
        """Where |l| is small, l there, and |l| elsewhere (1 where it is not asked for)."""
        l = self.logits
        near = l.abs() < _NEAR
        return near, torch.where(near, l, 0.0), torch.where(near, 1.0, l.abs())

    @property
    def mean(self) -> Any:
        near, small, a = self._parts()
        series, power = 0.5, small
        for c in _COEFFICIENTS:
            series, power = series + c * power, power * small * small
        far = -1 / torch.expm1(-a) - 1 / a
        return torch.where(near, series, torch.where(self.logits > 0, far, 1 - far))

    @property
    def variance(self) -> Any:
        near, small, a = self._parts()
        series, power = 0.0, torch.ones_like(small)
        for n, c in enumerate(_COEFFICIENTS):
            series, power = series + (2 * n + 1) * c * power, power * small * small
        return torch.where(near, series, 1 / a**2 - torch.exp(-a) / torch.expm1(-a) ** 2)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.icdf(torch.rand(self._extended_shape(sample_shape), dtype=self._dtype))

    def _log_mass(self) -> Any:
        """log((e^l - 1) / l), the integral of e^(l x) over [0, 1]."""
        near, small, a = self._parts()
        far = (self.logits > 0) * a + expm1_over(-a).log()
        return torch.where(near, expm1_over(small).log(), far)

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        return self.logits * value - self._log_mass()

    def cdf(self, value: Any) -> Any:
        """(e^(l x) - 1) / (e^l - 1), for large l with both parts times e^-l."""
        self._validate_sample(value)
        near, small, a = self._parts()
        far = expm1_over(-a * value) / expm1_over(-a)
        far = far * torch.where(self.logits > 0, torch.exp(a * (value - 1)), 1.0)
        return value * torch.where(near, expm1_over(small * value) / expm1_over(small), far)

    def icdf(self, value: Any) -> Any:
        # log(1 + u (e^l - 1)) / l, for l > 0 of 1 - u and -l: the density's mirror image.
        near, small, a = self._parts()
        mirrored = ~near & (self.logits > 0)
        share, l = torch.where(mirrored, 1 - value, value), torch.where(near, small, -a)
        x = share * expm1_over(l) * log1p_over(share * torch.expm1(l))
        return torch.where(mirrored, 1 - x, x)

    def entropy(self) -> Any:
        return self._log_mass() - self.logits * self.mean

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        return (self.logits,)

    def _log_normalizer(self, *natural_params: Any) -> Any:
        return ContinuousBernoulli(logits=natural_params[0], validate_args=False)._log_mass()

    @property
    def _mean_carrier_measure(self) -> Any:
        return torch.zeros_like(self.logits)
