"""The protocol of transforms. Read `Transform`."""

from __future__ import annotations

import copy
from typing import Any

import adjoint as torch
from adjoint.distributions import constraints


class Transform:
    """A map y = f(x) of random variables, with an inverse and the logarithm of |det dy/dx|.

    Subclasses define `domain` and `codomain` (constraints), `bijective`, `_call(x)`, `_inverse(y)`
    and `log_abs_det_jacobian(x, y)`; `sign` says whether a monotonic one rises (1) or falls (-1).

    cache_size: 1 keeps the last pair, so that the inverse of a result is the very tensor it came
        from; 0 keeps nothing. Other sizes raise ValueError.

    >>> import adjoint as torch
    >>> t = torch.distributions.ExpTransform()
    >>> x = torch.tensor([0.0, 1.0])
    >>> t(x), t.inv(t(x)), t.log_abs_det_jacobian(x, t(x))
    (tensor([1.0000, 2.7183]), tensor([0.0000, 1.0000]), tensor([0., 1.]))
    """

    bijective: Any = False
    domain: Any
    codomain: Any

    def __init__(self, cache_size: int = 0) -> None:
        if cache_size not in (0, 1):
            raise ValueError(f"{type(self).__name__}: cache_size must be 0 or 1, got {cache_size!r}")
        self._cache_size = cache_size
        self._cached_x_y: tuple[Any, Any] = (None, None)
        super().__init__()  # of what a subclass has for another base, such as a module

    @property
    def event_dim(self) -> int:
        """How many trailing dimensions belong together, where they are as many before and after."""
        before, after = self.domain.event_dim, self.codomain.event_dim
        if before != after:
            raise ValueError(
                f"{type(self).__name__} takes values of {before} dimensions to values of {after}; "
                "use .domain.event_dim or .codomain.event_dim"
            )
        return before

    @property
    def inv(self) -> Transform:
        """The inverse transform; its own `inv` is this one."""
        return _InverseTransform(self)

    @property
    def sign(self) -> Any:
        """1 where the transform rises, -1 where it falls; NotImplementedError if it does neither."""
        raise NotImplementedError(f"{type(self).__name__} is not a monotonic function of numbers")

    def with_cache(self, cache_size: int = 1) -> Transform:
        """The same transform with another cache_size."""
        if cache_size == self._cache_size:
            return self
        new = copy.copy(self)
        new._cache_size, new._cached_x_y = cache_size, (None, None)
        return new

    def __call__(self, x: Any) -> Any:
        if self._cache_size and self._cached_x_y[0] is x:
            return self._cached_x_y[1]
        y = self._call(x)
        if self._cache_size:
            self._cached_x_y = (x, y)
        return y

    def _inv_call(self, y: Any) -> Any:
        if self._cache_size and self._cached_x_y[1] is y:
            return self._cached_x_y[0]
        x = self._inverse(y)
        if self._cache_size:
            self._cached_x_y = (x, y)
        return x

    def _call(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _call(x)")

    def _inverse(self, y: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """log |det dy/dx| for y = f(x); the shape of x without its event dimensions."""
        raise NotImplementedError(f"{type(self).__name__} has no log_abs_det_jacobian")

    def forward_shape(self, shape: Any) -> Any:
        """The shape of f(x) for an x of the given shape."""
        return torch.Size(shape)

    def inverse_shape(self, shape: Any) -> Any:
        """The shape of x for an f(x) of the given shape."""
        return torch.Size(shape)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Fixed(Transform):
    """Transforms without parameters: all of one class are equal."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class _InverseTransform(Transform):
    """x = f^-1(y); pairs are kept by the transform it inverts."""

    def __init__(self, base: Transform) -> None:
        super().__init__()
        self._inv = base

    @property
    def bijective(self) -> Any:  # type: ignore[override]
        return self._inv.bijective

    @property
    def domain(self) -> constraints.Constraint:
        return self._inv.codomain

    @property
    def codomain(self) -> constraints.Constraint:
        return self._inv.domain

    @property
    def inv(self) -> Transform:
        return self._inv

    @property
    def sign(self) -> Any:
        return self._inv.sign

    def with_cache(self, cache_size: int = 1) -> Transform:
        base = self._inv.with_cache(cache_size)
        return self if base is self._inv else base.inv

    def __call__(self, x: Any) -> Any:
        return self._inv._inv_call(x)

    def _inv_call(self, y: Any) -> Any:
        return self._inv(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        return -self._inv.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Any) -> Any:
        return self._inv.inverse_shape(shape)

    def inverse_shape(self, shape: Any) -> Any:
        return self._inv.forward_shape(shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _InverseTransform) and self._inv == other._inv

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"_InverseTransform({self._inv!r})"


def same_numbers(a: Any, b: Any) -> bool:
    """Whether two parameters, numbers or tensors, are everywhere the same; tensors are read."""
    if a is b:
        return True
    if not (isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor)):
        return bool(a == b)
    return bool(torch.as_tensor(a == b).all())


def enough_dimensions(transform: Transform, shape: Any, wanted: int) -> None:
    """ValueError for a shape with fewer dimensions than the transform's values have."""
    if len(shape) < wanted:
        raise ValueError(
            f"{type(transform).__name__}: values have at least {wanted} dimensions, got shape "
            f"{tuple(shape)}"
        )
