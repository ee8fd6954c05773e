"""`cond`, `while_loop` and `scan`: what Python's `if`, `while` and `for` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.utils._pytree import tree_flatten, tree_leaves, tree_map

__all__ = ["cond", "scan", "while_loop"]


def _truth(name: str, x: Any) -> bool:
    if not isinstance(x, (bool, Tensor)) or (isinstance(x, Tensor) and x.numel() != 1):
        raise RuntimeError(f"torch.{name}: Expected a bool or a tensor of one element, but got {type(x).__name__}: {x!r:.60}")
    return bool(x)


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: tuple[Any, ...] = ()) -> Any:
    """`true_fn(*operands)` where `pred`, a bool or a tensor of one element, is true, else `false_fn(*operands)`.

    >>> import adjoint as torch
    >>> torch.cond(torch.tensor(True), lambda x: x + 1, lambda x: x - 1, (torch.zeros(2),))
    tensor([1., 1.])
    """
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("torch.cond(pred, true_fn, false_fn, operands): Expect both branches to be callable")
    if not isinstance(operands, (tuple, list)):
        raise RuntimeError(f"torch.cond(pred, true_fn, false_fn, operands): Expect operands to be a tuple, but got {type(operands).__name__}")
    return (true_fn if _truth("cond", pred) else false_fn)(*operands)


def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: tuple[Any, ...]) -> Any:
    """What `body_fn` makes of `carried_inputs`, again and again while `cond_fn` of them is true.

    >>> import adjoint as torch
    >>> torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), torch.ones(2)))
    (tensor(3), tensor([8., 8.]))
    """
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(f"torch.while_loop(cond_fn, body_fn, carried_inputs): carried_inputs must be a tuple, got {type(carried_inputs).__name__}")
    carried = tuple(carried_inputs)
    while _truth("while_loop", cond_fn(*carried)):
        found = body_fn(*carried)
        carried = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(carried) != len(carried_inputs):
            raise RuntimeError(f"torch.while_loop: body_fn must give as many values as it takes, {len(carried_inputs)}, but gave {len(carried)}")
    return carried


def scan(combine_fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, *, dim: int = 0, reverse: bool = False) -> tuple[Any, Any]:
    """`carry, y = combine_fn(carry, x)` for the slices of `xs` along an axis: the last carry, and all y along a new first axis.

    >>> import adjoint as torch
    >>> from adjoint._higher_order_ops import scan
    >>> scan(lambda c, x: (c + x, c * 2), torch.tensor(0.0), torch.arange(3.0))
    (tensor(3.), tensor([0., 0., 2.]))
    """
    leaves = tree_leaves(xs)
    if not leaves:
        raise RuntimeError("scan() expects at least one tensor in xs")
    length, carry, found = leaves[0].shape[dim], init, []
    for i in reversed(range(length)) if reverse else range(length):
        carry, y = combine_fn(carry, tree_map(lambda x, i=i: x.select(dim, i), xs))
        found.append(tree_flatten(y))
    if reverse:
        found.reverse()
    return carry, found[0][1].unflatten([torch.stack(column) for column in zip(*[y for y, _ in found], strict=True)])
