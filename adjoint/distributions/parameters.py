"""Arguments of distributions: common shape and dtype, and the two ways to state a probability.

Read `broadcast_all`.
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import adjoint as torch

P = TypeVar("P")


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """Tensors of one shape from tensors and numbers; numbers take the tensors' floating dtype.

    Raises ValueError for anything that is neither, RuntimeError for shapes that do not broadcast.
    """
    for value in values:
        if not isinstance(value, (torch.Tensor, numbers.Number)):
            raise ValueError(
                f"parameters must be tensors or numbers, got {type(value).__name__}: {value!r}"
            )
    tensors = [v for v in values if isinstance(v, torch.Tensor)]
    floating = [t.dtype for t in tensors if t.dtype.is_floating_point]
    dtype = floating[0] if floating else torch.get_default_dtype()
    if len({*floating}) > 1:
        dtype = torch.float64
    ready = [v if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=dtype) for v in values]
    if len(ready) == 1:
        return (ready[0],)
    return tuple(torch.broadcast_tensors(*ready))


def common_shape(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape several shapes broadcast to; ValueError if they do not."""
    return np.broadcast_shapes(*map(tuple, shapes))


def one_of(**forms: Any) -> tuple[str, Any]:
    """The single argument that is not None, as (name, value); ValueError for none or several."""
    given = {name: value for name, value in forms.items() if value is not None}
    if len(given) != 1:
        raise ValueError(
            f"give exactly one of {', '.join(forms)}; got {', '.join(given) or 'none of them'}"
        )
    return next(iter(given.items()))


def clamp_probs(probs: Any) -> Any:
    """`probs` kept inside (0, 1) by one rounding unit, so that its logarithms are finite."""
    eps = torch.finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """log(p / (1 - p)) of a chance, or log p of a distribution over categories."""
    kept = clamp_probs(probs)
    return torch.log(kept) - torch.log1p(-kept) if is_binary else torch.log(kept)


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    return torch.sigmoid(logits) if is_binary else torch.softmax(logits, -1)


class lazy_property(Generic[P]):
    """A property that is computed when first read, with gradient, and then kept as an attribute of the object.

    >>> from adjoint.distributions.utils import lazy_property
    >>> class Square:
    ...     @lazy_property
    ...     def area(self):
    ...         print("computed")
    ...         return 4
    >>> s = Square()
    >>> s.area + s.area
    computed
    8
    """

    def __init__(self, wrapped: Callable[[Any], P]) -> None:
        self.wrapped = wrapped
        functools.update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with torch.enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


def open_share(shape: Any, dtype: Any) -> Any:
    """Uniform on (0, 1): the ends, where many inverses are infinite, are moved inside."""
    info = torch.finfo(dtype)
    return torch.rand(shape, dtype=dtype).clamp(min=info.tiny, max=1 - info.eps / 2)


def softplus(x: Any) -> Any:
    """log(1 + e^x) without overflow, with the slope 1/2 at 0."""
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


# Two quotients and their slopes where both parts vanish: series of enough terms for float64.
def expm1_over(w: Any) -> Any:
    """(e^w - 1) / w, which is 1 at 0."""
    near = w.abs() < 0.1
    small, large = torch.where(near, w, 0.0), torch.where(near, 1.0, w)
    series = torch.ones_like(w)
    for n in range(10, 1, -1):
        series = 1 + small * series / n
    return torch.where(near, series, torch.expm1(large) / large)


def log1p_over(w: Any) -> Any:
    """log(1 + w) / w, which is 1 at 0."""
    near = w.abs() < 0.03
    small, large = torch.where(near, w, 0.0), torch.where(near, 1.0, w)
    series = torch.zeros_like(w)
    for n in range(11, 0, -1):
        series = 1 / n - small * series
    return torch.where(near, series, torch.log1p(large) / large)
