"""The protocol every distribution follows, and `Independent`, which regroups dimensions.

A distribution holds parameters of shape `batch_shape`; one draw from each is an event of shape
`event_shape`; `sample(s)` has shape `s + batch_shape + event_shape`. Subclasses name their
parameters in `arg_constraints`, and define `support`, moments, `sample` or `rsample`, and
`log_prob`. Read `Distribution`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.parameters import lazy_property


class Distribution:
    """Base class of all distributions.

    validate_args: check parameters and the arguments of `log_prob` and `cdf` (default True, see
        `set_default_validate_args`). A check reads values, so it makes pending work run.

    Raises ValueError from the constructor for parameters outside their constraints.
    """

    has_rsample: ClassVar[bool] = False
    has_enumerate_support: ClassVar[bool] = False
    arg_constraints: ClassVar[Mapping[str, constraints.Constraint]] = {}
    _validate_args: bool = True

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Switch the checking of arguments on or off for all distributions made from now on."""
        if not isinstance(value, bool):
            raise ValueError(f"set_default_validate_args takes True or False, got {value!r}")
        Distribution._validate_args = value

    def __init__(
        self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None
    ) -> None:
        self._batch_shape = torch.Size(batch_shape)
        self._event_shape = torch.Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                # A parameter computed on demand was not given, so there is nothing to check.
                value = self.__dict__.get(name)
                if constraints.is_dependent(constraint):
                    continue
                if isinstance(value, torch.Tensor) and not bool(constraint.check(value).all()):
                    raise ValueError(
                        f"{type(self).__name__}: parameter {name} (Tensor of shape "
                        f"{tuple(value.shape)}) must satisfy {constraint}, but it is\n{value}"
                    )
        super().__init__()  # of what a subclass has for another base, such as a module

    @property
    def batch_shape(self) -> Any:
        """Shape of the parameters: how many distributions this object holds."""
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        """Shape of one draw from one of them."""
        return self._event_shape

    @property
    def support(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no support")

    @property
    def mean(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @property
    def mode(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no mode")

    @property
    def variance(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no variance")

    @property
    def stddev(self) -> Any:
        """Square root of the variance."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Any:
        """Draw without a gradient; shape `sample_shape + batch_shape + event_shape`."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Draw as a differentiable function of the parameters (where `has_rsample`)."""
        raise NotImplementedError(f"{type(self).__name__} has no reparametrised sample")

    def sample_n(self, n: int) -> Any:
        return self.sample((n,))

    def log_prob(self, value: Any) -> Any:
        """Logarithm of the density, or of a discrete value's probability; shape of the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def cdf(self, value: Any) -> Any:
        """Probability of a draw at or below `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def icdf(self, value: Any) -> Any:
        """The value whose `cdf` is the given probability."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf")

    def entropy(self) -> Any:
        """Entropy in nats; shape of the batch."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def perplexity(self) -> Any:
        return torch.exp(self.entropy())

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values of a distribution with finitely many, along dimension 0."""
        raise NotImplementedError(f"{type(self).__name__} cannot list its values")

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with its parameters broadcast to `batch_shape`.

        _instance: an object made without `__init__`, which a subclass's `expand` wants filled.
        """
        shape = torch.Size(batch_shape)
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(
            (name, value)
            for name, value in self.__dict__.items()
            if not isinstance(getattr(type(self), name, None), lazy_property)
        )
        for name, constraint in self.arg_constraints.items():
            value = self.__dict__.get(name)
            if isinstance(value, torch.Tensor):
                new.__dict__[name] = value.expand(
                    (*shape, *value.shape[value.dim() - constraint.event_dim :])
                )
        self._expand_parts(new, shape)
        new._batch_shape = shape
        return new

    def _get_checked_instance(self, cls: type, _instance: Any = None) -> Any:
        """What the `expand` of a subclass `cls` fills: `_instance`, or an object made without `__init__`.

        NotImplementedError where a subclass of `cls` has another constructor, and so must define `expand` itself.
        """
        if _instance is None and type(self).__init__ is not cls.__init__:  # type: ignore[misc]
            raise NotImplementedError(
                f"{type(self).__name__} has an __init__ of its own, so that {cls.__name__}.expand cannot make one; "
                "define expand in it"
            )
        return object.__new__(type(self)) if _instance is None else _instance

    def _expand_parts(self, new: Any, shape: Any) -> None:
        """For subclasses built on another distribution: expand that one too."""

    def _extended_shape(self, sample_shape: Any = ()) -> Any:
        return torch.Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def _validate_sample(self, value: Any) -> None:
        """ValueError unless `value` has a fitting shape and lies in the support."""
        if not self._validate_args:
            return
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{type(self).__name__}: the value must be a tensor, got {type(value).__name__}"
            )
        wanted = (*self._batch_shape, *self._event_shape)
        event = tuple(self._event_shape)
        fits = tuple(value.shape[value.dim() - len(event) :]) == event and all(
            1 in (have, want) or have == want
            for have, want in zip(reversed(value.shape), reversed(wanted), strict=False)
        )
        if not fits:
            raise ValueError(
                f"{type(self).__name__}: a value of shape {tuple(value.shape)} does not broadcast "
                f"with batch_shape {tuple(self._batch_shape)} + event_shape {event}"
            )
        try:
            support = self.support
        except NotImplementedError:
            return
        if constraints.is_dependent(support):
            return
        if not bool(support.check(value).all()):
            raise ValueError(
                f"{type(self).__name__}: the value (Tensor of shape {tuple(value.shape)}) must lie "
                f"in the support {support}, but it is\n{value}"
            )

    def __repr__(self) -> str:
        shown = []
        for name in self.arg_constraints:
            value = self.__dict__.get(name)
            if isinstance(getattr(type(self), name, None), property):
                value = getattr(self, name)
            if isinstance(value, torch.Tensor):
                one = value.numel() == 1
                shown.append(f"{name}: {value if one else torch.Size(value.shape)}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Independent(Distribution):
    """Turn the last `reinterpreted_batch_ndims` batch dimensions into event dimensions.

    log_prob sums over them: a batch of n normals becomes one distribution of n-vectors.

    >>> import adjoint as torch
    >>> base = torch.distributions.Normal(torch.zeros(2, 3), torch.ones(2, 3))
    >>> d = torch.distributions.Independent(base, 1)
    >>> d.batch_shape, d.event_shape, d.log_prob(torch.zeros(2, 3)).shape
    (torch.Size([2]), torch.Size([3]), torch.Size([2]))
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        n, batch = reinterpreted_batch_ndims, tuple(base_distribution.batch_shape)
        if n > len(batch):
            raise ValueError(f"Independent: cannot take {n} dimensions from batch_shape {batch}")
        self.base_dist = base_distribution
        self.reinterpreted_batch_ndims = n
        kept = len(batch) - n
        event = (*batch[kept:], *base_distribution.event_shape)
        super().__init__(batch[:kept], event, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.reinterpreted_batch_ndims == 0 and self.base_dist.has_enumerate_support

    def enumerate_support(self, expand: bool = True) -> Any:
        if self.reinterpreted_batch_ndims:
            raise NotImplementedError(
                "Independent: the values of several dimensions together, all combinations, are not "
                "listed; call enumerate_support of base_dist"
            )
        return self.base_dist.enumerate_support(expand)

    @constraints.dependent_property
    def support(self) -> Any:
        inner, n = self.base_dist.support, self.reinterpreted_batch_ndims
        return constraints.independent(inner, n) if n else inner

    @property
    def mean(self) -> Any:
        return self.base_dist.mean

    @property
    def mode(self) -> Any:
        return self.base_dist.mode

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Any:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def _expand_parts(self, new: Any, shape: Any) -> None:
        event = tuple(self._event_shape)[: self.reinterpreted_batch_ndims]
        new.base_dist = self.base_dist.expand((*shape, *event))

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"


def sum_rightmost(value: Any, ndims: int) -> Any:
    """Sum over the last `ndims` dimensions."""
    return value.sum(tuple(range(-ndims, 0))) if ndims else value
