"""Stochastic gradient descent, with momentum (Polyak, 1964) and Nesterov's variant (Sutskever et al., 2013)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from adjoint.methods import Tensor
from adjoint.optim.optimizer import (
    FormulaOptimizer,
    Group,
    accepted,
    check_non_negative,
    descent,
    settled,
)

__all__ = ["SGD"]


def sgd(p: Tensor, g: Tensor, lr: Any, decay: Any, maximize: bool, decays: bool) -> tuple[Tensor]:
    """p - lr g."""
    return (p - lr * descent(p, g, decay, maximize, decays),)


def sgd_momentum(
    p: Tensor,
    g: Tensor,
    buffer: Tensor,
    lr: Any,
    decay: Any,
    momentum: Any,
    share: Any,
    maximize: bool,
    decays: bool,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    """b' = momentum b + share g, p - lr b' (or with Nesterov p - lr (g + momentum b'))."""
    g = descent(p, g, decay, maximize, decays)
    buffer = settled(momentum * buffer + share * g)
    return p - lr * (g + momentum * buffer if nesterov else buffer), buffer


class SGD(FormulaOptimizer):
    """p = p - lr g, or with momentum p - lr b where b = momentum b + (1 - dampening) g, starting from b = g.

    Raises ValueError for negative hyper-parameters, and for Nesterov without momentum or with dampening.

    >>> import adjoint as torch
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> opt = torch.optim.SGD([w], lr=0.5)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item()
    0.0
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_non_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            **accepted(foreach=foreach, differentiable=differentiable, fused=fused),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def advance(self, state: dict[str, Any], group: Group) -> Hashable:
        # Whether the buffer holds something yet; the first gradient enters it undampened.
        return state.get("momentum_buffer") is not None

    def choose_rule(self, group: Group) -> Callable[..., tuple[Tensor, ...]]:
        return sgd_momentum if group["momentum"] else sgd

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        if not group["momentum"]:
            return group["lr"], group["weight_decay"]
        share = 1.0 - group["dampening"] if clock else 1.0
        return group["lr"], group["weight_decay"], group["momentum"], share

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        common = (group["maximize"], group["weight_decay"] != 0)
        return (*common, group["nesterov"]) if group["momentum"] else common
