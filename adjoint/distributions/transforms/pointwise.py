"""Transforms of numbers, each of one number to one. Read `ExpTransform`, then `AffineTransform`."""

from __future__ import annotations

import math
from typing import Any

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution, sum_rightmost
from adjoint.distributions.parameters import common_shape, softplus
from adjoint.distributions.transforms.transform import (
    Fixed,
    Transform,
    enough_dimensions,
    same_numbers,
)


class ExpTransform(Fixed):
    """y = exp(x).

    >>> import adjoint as torch
    >>> torch.distributions.ExpTransform()(torch.tensor(0.0))
    tensor(1.)
    """

    domain = constraints.real
    codomain = constraints.positive
    bijective = True
    sign = 1  # type: ignore[assignment]

    def _call(self, x: Any) -> Any:
        return x.exp()

    def _inverse(self, y: Any) -> Any:
        return y.log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return x


class SigmoidTransform(Fixed):
    """y = 1 / (1 + exp(-x)).

    >>> import adjoint as torch
    >>> torch.distributions.SigmoidTransform()(torch.tensor(0.0))
    tensor(0.5000)
    """

    domain = constraints.real
    codomain = constraints.unit_interval
    bijective = True
    sign = 1  # type: ignore[assignment]

    def _call(self, x: Any) -> Any:
        # Kept off 0 and 1, where the inverse is infinite.
        y = torch.sigmoid(x)
        info = torch.finfo(y.dtype)
        return y.clamp(min=info.tiny, max=1 - info.eps)

    def _inverse(self, y: Any) -> Any:
        info = torch.finfo(y.dtype)
        y = y.clamp(min=info.tiny, max=1 - info.eps)
        return y.log() - torch.log1p(-y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -softplus(-x) - softplus(x)


class SoftplusTransform(Fixed):
    """y = log(1 + exp(x)).

    >>> import adjoint as torch
    >>> torch.distributions.SoftplusTransform()(torch.tensor(0.0))
    tensor(0.6931)
    """

    domain = constraints.real
    codomain = constraints.positive
    bijective = True
    sign = 1  # type: ignore[assignment]

    def _call(self, x: Any) -> Any:
        return softplus(x)

    def _inverse(self, y: Any) -> Any:
        return y + torch.log(-torch.expm1(-y))  # log(e^y - 1) without overflow

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -softplus(-x)


class TanhTransform(Fixed):
    """y = tanh(x).

    Near -1 and 1 the inverse loses digits; cache_size=1 spares it.

    >>> import adjoint as torch
    >>> torch.distributions.TanhTransform()(torch.tensor(0.0))
    tensor(0.)
    """

    domain = constraints.real
    codomain = constraints.interval(-1.0, 1.0)
    bijective = True
    sign = 1  # type: ignore[assignment]

    def _call(self, x: Any) -> Any:
        return torch.tanh(x)

    def _inverse(self, y: Any) -> Any:
        return torch.atanh(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        # log(1 - tanh(x)^2) = 2 log(2 / (e^x + e^-x)), which keeps its digits for large x.
        return 2 * (math.log(2) - x - softplus(-2 * x))


class AbsTransform(Fixed):
    """y = |x|: not bijective, the inverse gives the positive one of two.

    >>> import adjoint as torch
    >>> torch.distributions.AbsTransform()(torch.tensor(-2.0))
    tensor(2.)
    """

    domain = constraints.real
    codomain = constraints.positive

    def _call(self, x: Any) -> Any:
        return x.abs()

    def _inverse(self, y: Any) -> Any:
        return y


class PowerTransform(Transform):
    """y = x^exponent for positive x; exponent is a number or a tensor, not 0.

    >>> import adjoint as torch
    >>> torch.distributions.PowerTransform(2.0)(torch.tensor(3.0))
    tensor(9.)
    """

    domain = constraints.positive
    codomain = constraints.positive
    bijective = True

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.exponent = exponent

    @property
    def sign(self) -> Any:
        return _sign(self.exponent)

    def _call(self, x: Any) -> Any:
        return x**self.exponent

    def _inverse(self, y: Any) -> Any:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape: Any) -> Any:
        return torch.Size(common_shape(shape, *_shapes(self.exponent)))

    inverse_shape = forward_shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PowerTransform) and same_numbers(self.exponent, other.exponent)

    __hash__ = object.__hash__


class AffineTransform(Transform):
    """y = loc + scale x, with numbers or tensors; scale is not 0.

    event_dim: how many trailing dimensions belong together (0 for numbers, 1 for vectors).

    >>> import adjoint as torch
    >>> torch.distributions.AffineTransform(1.0, 2.0)(torch.tensor(3.0))
    tensor(7.)
    """

    bijective = True

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    @property
    def event_dim(self) -> int:
        return self._event_dim

    @property
    def domain(self) -> Any:  # type: ignore[override]
        if self._event_dim == 0:
            return constraints.real
        return constraints.independent(constraints.real, self._event_dim)

    codomain = domain  # type: ignore[assignment]

    @property
    def sign(self) -> Any:
        return _sign(self.scale)

    def _call(self, x: Any) -> Any:
        return self.loc + self.scale * x

    def _inverse(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        enough_dimensions(self, x.shape, self._event_dim)
        scale = self.scale
        if isinstance(scale, torch.Tensor):
            each = scale.abs().log().expand(common_shape(x.shape, scale.shape))
        else:
            each = torch.full_like(x, math.log(abs(scale)))
        return sum_rightmost(each, self._event_dim)

    def forward_shape(self, shape: Any) -> Any:
        return torch.Size(common_shape(shape, *_shapes(self.loc, self.scale)))

    inverse_shape = forward_shape

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, AffineTransform)
            and same_numbers(self.loc, other.loc)
            and same_numbers(self.scale, other.scale)
        )

    __hash__ = object.__hash__


class CumulativeDistributionTransform(Transform):
    """y = distribution.cdf(x): uniform for an x that follows `distribution`.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> D.CumulativeDistributionTransform(D.Normal(0.0, 1.0))(torch.tensor(0.0))
    tensor(0.5000)
    """

    bijective = True
    codomain = constraints.unit_interval
    sign = 1  # type: ignore[assignment]

    def __init__(self, distribution: Distribution, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.distribution = distribution

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return self.distribution.support

    def _call(self, x: Any) -> Any:
        return self.distribution.cdf(x)

    def _inverse(self, y: Any) -> Any:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return self.distribution.log_prob(x)


def _sign(parameter: Any) -> Any:
    if isinstance(parameter, torch.Tensor):
        return parameter.sign()
    return (parameter > 0) - (parameter < 0)


def _shapes(*parameters: Any) -> list[Any]:
    return [p.shape for p in parameters if isinstance(p, torch.Tensor)]
