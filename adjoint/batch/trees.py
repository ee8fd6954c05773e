"""Trees of tensors: tuples, lists and dicts, as the arguments and results of functions that are transformed."""

from __future__ import annotations

from typing import Any

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


def rebuild(tree: Any, flat: Any) -> Any:
    """The tree with its tensors replaced in order."""
    if isinstance(tree, Tensor):
        return next(flat)
    if isinstance(tree, (list, tuple)):
        parts = [rebuild(t, flat) for t in tree]
        if isinstance(tree, tuple) and hasattr(tree, "_fields"):
            return type(tree)(*parts)
        return type(tree)(parts)
    if isinstance(tree, dict):
        return {k: rebuild(t, flat) for k, t in tree.items()}
    return tree
