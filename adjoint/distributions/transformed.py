"""Distributions of y = f(x) for an x of another distribution. Read `TransformedDistribution`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import Distribution, Independent, sum_rightmost
from adjoint.distributions.transforms import ComposeTransform, Transform


class TransformedDistribution(Distribution):
    """y = f(x) with x from `base_distribution`, f one transform or several, applied in order.

    log p(y) = log p(x) - log |det dy/dx| with x = f^-1(y). Transforms of vectors take batch
    dimensions of the base as event dimensions.

    Raises ValueError for transforms of more dimensions than the base has, TypeError for others.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> d = D.TransformedDistribution(D.Normal(0.0, 1.0), [D.ExpTransform()])
    >>> d.log_prob(torch.tensor(2.0)), D.LogNormal(0.0, 1.0).log_prob(torch.tensor(2.0))
    (tensor(-1.8523), tensor(-1.8523))
    """

    arg_constraints: ClassVar = {}

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in self.transforms):
            raise TypeError(f"transforms must be a Transform or a list of them, got {transforms!r}")
        whole = ComposeTransform(self.transforms)
        inner, outer = whole.domain.event_dim, whole.codomain.event_dim
        shape = (*base_distribution.batch_shape, *base_distribution.event_shape)
        if len(shape) < inner:
            raise ValueError(
                f"{type(self).__name__}: the transforms take values of {inner} dimensions, but "
                f"base_distribution has shape {shape}"
            )
        after = whole.forward_shape(shape)
        # Parameters of the transforms may be wider than the base.
        base = base_distribution
        wide = tuple(whole.inverse_shape(after))
        if wide != shape:
            base = base.expand(wide[: len(wide) - len(base.event_shape)])
        own = len(base.event_shape)
        if inner > own:
            base = Independent(base, inner - own, validate_args=validate_args)
        self.base_dist = base
        kept = len(after) - (outer + max(own - inner, 0))
        super().__init__(after[:kept], after[kept:], validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @constraints.dependent_property
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        last = self.transforms[-1].codomain
        more = len(self.event_shape) - last.event_dim
        return constraints.independent(last, more) if more > 0 else last

    def _expand_parts(self, new: Any, shape: Any) -> None:
        wide = ComposeTransform(self.transforms).inverse_shape((*shape, *self.event_shape))
        new.base_dist = self.base_dist.expand(wide[: len(wide) - len(self.base_dist.event_shape)])

    def sample(self, sample_shape: Any = ()) -> Any:
        with torch.no_grad():
            return self._moved(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self._moved(self.base_dist.rsample(sample_shape))

    def _moved(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x

    def log_prob(self, value: Any) -> Any:
        self._validate_sample(value)
        dims, total, y = len(self.event_shape), 0.0, value
        for t in reversed(self.transforms):
            x = t.inv(y)
            dims += t.domain.event_dim - t.codomain.event_dim
            slope = t.log_abs_det_jacobian(x, y)
            total = total - sum_rightmost(slope, dims - t.domain.event_dim)
            y = x
        inner = self.base_dist.log_prob(y)
        return total + sum_rightmost(inner, dims - len(self.base_dist.event_shape))

    def _rising(self, value: Any) -> Any:
        """A probability below y as one below x, and back: the same where f rises, else the rest."""
        sign = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        if isinstance(sign, int) and sign == 1:
            return value
        return sign * (value - 0.5) + 0.5

    def cdf(self, value: Any) -> Any:
        """Probability of a draw at or below `value`, for monotonic transforms of numbers."""
        self._validate_sample(value)
        for transform in reversed(self.transforms):
            value = transform.inv(value)
        return self._rising(self.base_dist.cdf(value))

    def icdf(self, value: Any) -> Any:
        return self._moved(self.base_dist.icdf(self._rising(value)))
