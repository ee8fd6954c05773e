"""Trees of tensors: tuples, lists and dicts, as the arguments and results of functions that are transformed."""

from __future__ import annotations

from typing import Any

from adjoint.return_types import same_kind
from adjoint.trace.handle import Tensor


def leaves_of(tree: Any) -> list[Tensor]:
    """The tensors in a tree, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [x for t in tree for x in leaves_of(t)]
    if isinstance(tree, dict):
        return [x for t in tree.values() for x in leaves_of(t)]
    return []


def others_of(tree: Any) -> list[Any]:
    """What is no tensor in a tree, in order."""
    if isinstance(tree, (list, tuple)):
        return [x for t in tree for x in others_of(t)]
    if isinstance(tree, dict):
        return [x for t in tree.values() for x in others_of(t)]
    return [] if isinstance(tree, Tensor) else [tree]


def is_alike(tree: Any, other: Any) -> bool:
    """Whether two trees have their tensors at the same places. Tuples and lists are alike; what is no tensor is not compared."""
    if isinstance(tree, Tensor):
        return isinstance(other, Tensor)
    if isinstance(tree, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(tree) == len(other) and all(map(is_alike, tree, other))
    if isinstance(tree, dict):  # in the order of the keys the tensors follow one another
        return isinstance(other, dict) and list(tree) == list(other) and all([is_alike(t, other[k]) for k, t in tree.items()])
    return not leaves_of(other)


def rebuild(tree: Any, flat: Any) -> Any:
    """The tree with its tensors replaced in order."""
    if isinstance(tree, Tensor):
        return next(flat)
    if isinstance(tree, (list, tuple)):
        parts = [rebuild(t, flat) for t in tree]
        return same_kind(tree, parts) if isinstance(tree, tuple) else type(tree)(parts)
    if isinstance(tree, dict):
        return {k: rebuild(t, flat) for k, t in tree.items()}
    return tree
