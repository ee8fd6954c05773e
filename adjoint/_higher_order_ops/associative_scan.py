"""Scans with any associative operation, in as many steps as the length has binary digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.utils._pytree import tree_flatten, tree_leaves

__all__ = ["associative_scan"]


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int, reverse: bool = False, combine_mode: str = "pointwise") -> Any:
    """All beginnings of `x0, x1, ...` along an axis put together: x0, combine(x0, x1), combine(combine(x0, x1), x2), ...

    combine_fn: associative; takes and gives slices of `xs`, a tensor or a container of tensors, without that axis. reverse: all ends
    instead. combine_mode: accepted. Pairs are combined first, then their results, and so on, as in Blelloch, "Prefix Sums and Their
    Applications" (1990). ValueError where `combine_fn` is not callable or `xs` has no tensors or of several lengths.

    >>> import adjoint as torch
    >>> from adjoint._higher_order_ops.associative_scan import associative_scan
    >>> associative_scan(torch.add, torch.arange(5.0), 0)
    tensor([ 0.,  1.,  3.,  6., 10.])
    """
    leaves, spec = tree_flatten(xs)
    if not callable(combine_fn):
        raise ValueError(f"associative_scan(combine_fn, xs, dim): Combine_fn must be a callable, but got {combine_fn!r}")
    if not leaves or not all(isinstance(x, Tensor) for x in leaves):
        raise ValueError(f"associative_scan(combine_fn, xs, dim): xs leaves must be tensors, at least one, but got {xs!r:.80}")
    if len({x.shape[dim] for x in leaves}) != 1:
        raise ValueError(f"associative_scan(combine_fn, xs, dim): all must be equally long along dim, got {[tuple(x.shape) for x in leaves]}")

    def combine(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        return list(torch.vmap(lambda x, y: tuple(tree_leaves(combine_fn(spec.unflatten(x), spec.unflatten(y)))))(tuple(a), tuple(b)))

    def scanned(parts: list[Tensor]) -> list[Tensor]:
        length = parts[0].shape[0]
        if length < 2:
            return parts
        odd = scanned(combine([p[: length - 1 : 2] for p in parts], [p[1::2] for p in parts]))
        if length == 2:
            even = [p[:1] for p in parts]
        else:
            later = combine([q[: (length - 1) // 2] for q in odd], [p[2::2] for p in parts])
            even = [torch.cat([p[:1], q]) for p, q in zip(parts, later, strict=True)]
        both = [torch.stack([e[: o.shape[0]], o], 1).flatten(0, 1) for e, o in zip(even, odd, strict=True)]
        return both if length % 2 == 0 else [torch.cat([pair, e[-1:]]) for pair, e in zip(both, even, strict=True)]

    parts = [x.movedim(dim, 0) for x in leaves]
    if reverse:
        parts = [p.flip(0) for p in parts]
    found = scanned(parts)
    if reverse:
        found = [p.flip(0) for p in found]
    return spec.unflatten([p.movedim(0, dim) for p in found])
