"""One transform for each part of a tensor. Read `CatTransform`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import adjoint as torch
from adjoint.distributions import constraints
from adjoint.distributions.distribution import sum_rightmost
from adjoint.distributions.transforms.transform import Transform


class _OfParts(Transform):
    """What the two share: the parts, and how to take a tensor apart and put it together."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        if not tseq or not all(isinstance(t, Transform) for t in tseq):
            raise TypeError(f"{type(self).__name__} takes a sequence of transforms, got {tseq!r}")
        self.transforms = [t.with_cache(cache_size) if cache_size else t for t in tseq]
        self.dim = dim

    @property
    def bijective(self) -> Any:  # type: ignore[override]
        return all(t.bijective for t in self.transforms)

    @property
    def event_dim(self) -> int:
        return max(t.event_dim for t in self.transforms)

    def with_cache(self, cache_size: int = 1) -> Transform:
        if cache_size == self._cache_size:
            return self
        new = super().with_cache(cache_size)
        new.transforms = [t.with_cache(cache_size) for t in self.transforms]  # type: ignore[attr-defined]
        return new

    def _apart(self, value: Any) -> Sequence[Any]:
        raise NotImplementedError

    def _together(self, pieces: list[Any], dim: int) -> Any:
        raise NotImplementedError

    def _each(self, call: Callable[..., Any], *values: Any) -> list[Any]:
        return [call(t, *pieces) for t, *pieces in zip(self.transforms, *map(self._apart, values))]

    def _call(self, x: Any) -> Any:
        return self._together(self._each(lambda t, x: t(x), x), self.dim)

    def _inverse(self, y: Any) -> Any:
        return self._together(self._each(lambda t, y: t._inv_call(y), y), self.dim)


class CatTransform(_OfParts):
    """One transform for each of the pieces, `lengths` long (default 1), side by side along `dim`.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> t = D.CatTransform([D.ExpTransform(), D.AffineTransform(0.0, 10.0)], lengths=[1, 2])
    >>> t(torch.tensor([0.0, 1.0, 2.0]))
    tensor([ 1., 10., 20.])
    """

    def __init__(
        self,
        tseq: Sequence[Transform],
        dim: int = 0,
        lengths: Sequence[int] | None = None,
        cache_size: int = 0,
    ) -> None:
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        if len(self.lengths) != len(self.transforms):
            raise ValueError(
                f"CatTransform: {len(self.transforms)} transforms need as many lengths, got {lengths!r}"
            )

    @property
    def length(self) -> int:
        """How long `dim` is."""
        return sum(self.lengths)

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)

    def _apart(self, value: Any) -> Sequence[Any]:
        if value.shape[self.dim] != self.length:
            raise ValueError(
                f"CatTransform: the pieces are {self.length} long together, but dimension "
                f"{self.dim} of shape {tuple(value.shape)} is not"
            )
        return torch.split(value, self.lengths, self.dim)

    def _together(self, pieces: list[Any], dim: int) -> Any:
        return torch.cat(pieces, dim)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        """log |det dy/dx|: side by side if the pieces lie in the batch, else their sum."""
        terms = []
        for t, a, b in zip(self.transforms, self._apart(x), self._apart(y)):
            term = t.log_abs_det_jacobian(a, b)
            # Parts with fewer event dimensions sum over what belongs together in others.
            terms.append(sum_rightmost(term, self.event_dim - t.event_dim))
        dim = self.dim - x.dim() if self.dim >= 0 else self.dim
        if dim + self.event_dim < 0:
            return torch.cat(terms, dim + self.event_dim)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


class StackTransform(_OfParts):
    """One transform for each index along `dim`.

    >>> import adjoint as torch
    >>> D = torch.distributions
    >>> D.StackTransform([D.ExpTransform(), D.AffineTransform(0.0, 10.0)])(torch.tensor([0.0, 1.0]))
    tensor([ 1., 10.])
    """

    @property
    def domain(self) -> Any:  # type: ignore[override]
        return constraints.stack([t.domain for t in self.transforms], self.dim)

    @property
    def codomain(self) -> Any:  # type: ignore[override]
        return constraints.stack([t.codomain for t in self.transforms], self.dim)

    def _apart(self, value: Any) -> Sequence[Any]:
        if value.shape[self.dim] != len(self.transforms):
            raise ValueError(
                f"StackTransform: {len(self.transforms)} transforms, but dimension {self.dim} of "
                f"shape {tuple(value.shape)} is not as long"
            )
        return torch.unbind(value, self.dim)

    def _together(self, pieces: list[Any], dim: int) -> Any:
        return torch.stack(pieces, dim)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Any:
        terms = self._each(lambda t, a, b: t.log_abs_det_jacobian(a, b), x, y)
        return torch.stack(terms, self.dim)
