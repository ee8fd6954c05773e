"""Stochastic gradient descent, with momentum (Polyak, 1964), Nesterov's variant (Sutskever et al., 2013), and averaged."""

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

__all__ = ["ASGD", "SGD"]


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


def asgd(
    p: Tensor, g: Tensor, average: Tensor, rate: Any, share: Any, pull: Any, decay: Any, maximize: bool, decays: bool
) -> tuple[Tensor, Tensor]:
    """p' = (1 - lambd rate) p - rate g, a' = a + share (p' - a)."""
    g = descent(p, g, decay, maximize, decays)
    p = p * (1 - pull * rate) - rate * g
    return p, p + (1 - share) * (average - p)


class ASGD(FormulaOptimizer):
    """Averaged gradient descent (Polyak and Juditsky, 1992): the mean of the parameters from step t0 on is `state[p]["ax"]`.

    p = (1 - lambd rate) p - rate g, with the rate lr / (1 + lambd lr t) ** alpha after t steps. Raises ValueError for a
    negative lr or weight decay.

    >>> import adjoint as torch
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> opt = torch.optim.ASGD([w], lr=0.5, lambd=0.0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item(), opt.state[w]["ax"].item()
    (0.0, 0.0)
    """

    rule = asgd

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_non_negative(lr=lr, weight_decay=weight_decay)
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
            **accepted(foreach=foreach, differentiable=differentiable, capturable=capturable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("ax",)

    def advance(self, state: dict[str, Any], group: Group) -> Hashable:
        """The rate and the share of this step; those of the next are left in the state."""
        rate = state["eta"] if "eta" in state else group["lr"]
        now = float(rate), float(state.get("mu", 1.0))
        state["step"] = step = int(state.get("step", 0)) + 1
        state["eta"] = group["lr"] / (1 + group["lambd"] * group["lr"] * step) ** group["alpha"]
        state["mu"] = 1 / max(1, step - group["t0"])
        return now

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        return *clock, group["lambd"], group["weight_decay"]

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["maximize"], group["weight_decay"] != 0
