"""What families have in common whose log-density is linear in functions of the value.

log p(x) = sum eta_i t_i(x) - A(eta) + c(x): natural parameters eta, log-normaliser A, carrier c.
The gradient of A is the mean of t, which gives entropy and divergence (F. Nielsen, R. Nock,
"Entropies and cross-entropies of exponential families", ICIP 2010). Read `ExponentialFamily`.
"""

from __future__ import annotations

from typing import Any

import adjoint as torch
from adjoint.distributions.distribution import Distribution, sum_rightmost


class ExponentialFamily(Distribution):
    """Base class: subclasses define `_natural_params` and `_log_normalizer(*params)`.

    With `_mean_carrier_measure`, the mean of c(x), the entropy comes without a formula of its own.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> isinstance(D.Gamma(1.0, 1.0), D.ExponentialFamily)
    True
    """

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        raise NotImplementedError(f"{type(self).__name__} must define _natural_params")

    def _log_normalizer(self, *natural_params: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _log_normalizer")

    @property
    def _mean_carrier_measure(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _mean_carrier_measure")

    def entropy(self) -> Any:
        """Entropy in nats, A - sum eta dA/deta - E[c(x)]; shape of the batch."""
        carrier = self._mean_carrier_measure
        params, normalizer, slopes = log_normalizer_with_slopes(self)
        total = normalizer - carrier
        for eta, slope in zip(params, slopes):
            total = total - sum_rightmost(eta * slope, slope.dim() - len(self.batch_shape))
        return total


def log_normalizer_with_slopes(d: ExponentialFamily) -> tuple[Any, Any, Any]:
    """The natural parameters, A of them, and dA with respect to each, as functions of d's parameters."""
    with torch.enable_grad():
        params = [
            eta if eta.requires_grad else eta.detach().requires_grad_(True)
            for eta in d._natural_params
        ]
        normalizer = d._log_normalizer(*params)
        slopes = torch.autograd.grad(normalizer.sum(), params, create_graph=True)
    return params, normalizer, slopes
