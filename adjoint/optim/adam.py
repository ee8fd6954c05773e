"""Adam and its relatives: Adam, AdamW, NAdam, RAdam, Adamax; SparseAdam is a name and a refusal.

All keep moving averages m of the gradient and v of its square, and differ in how a step is made
of them. The corrections for the averages' start at zero depend on the step only, so they are
numbers computed in Python; the formulas see them as run-time arguments. Read `adam` first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.optim.optimizer import (
    FormulaOptimizer,
    Group,
    Optimizer,
    accepted,
    check_betas,
    check_non_negative,
    descent,
    evaluated,
    settled,
)

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam", "SparseAdam"]


def _start(
    p: Tensor, g: Tensor, lr: Any, decay: Any, maximize: bool, decays: bool, decoupled: bool
) -> tuple[Tensor, Tensor]:
    """Parameter and gradient after weight decay: as a gradient term, or (decoupled) on the parameter itself."""
    if decoupled:
        return (p * (1 - lr * decay) if decays else p), (-g if maximize else g)
    return p, descent(p, g, decay, maximize, decays)


def _averages(m: Tensor, v: Tensor, g: Tensor, beta1: Any, beta2: Any, eps: Any) -> tuple[Tensor, Tensor]:
    return settled(m + (1 - beta1) * (g - m)), settled(beta2 * v + (1 - beta2) * (g * g), eps)


def adam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    rate: Any,
    root: Any,
    *switches: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """p - rate m / (sqrt(v) / root + eps) with rate = lr / (1 - beta1^t), root = sqrt(1 - beta2^t)."""
    p, g = _start(p, g, lr, decay, *switches)
    m, v = _averages(m, v, g, beta1, beta2, eps)
    return p - rate * (m / (torch.sqrt(v) / root + eps)), m, v


def adam_amsgrad(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    largest: Tensor,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    rate: Any,
    root: Any,
    *switches: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `adam`, with the largest v seen so far in its place."""
    p, g = _start(p, g, lr, decay, *switches)
    m, v = _averages(m, v, g, beta1, beta2, eps)
    largest = torch.maximum(largest, v)
    return p - rate * (m / (torch.sqrt(largest) / root + eps)), m, v, largest


class Adam(FormulaOptimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1); `amsgrad` is the variant of Reddi et al. (2018).

    Raises ValueError for hyper-parameters out of range.

    >>> import adjoint as torch
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> opt = torch.optim.Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> round(w.item(), 4)
    0.9
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            **accepted(
                foreach=foreach, capturable=capturable, differentiable=differentiable, fused=fused
            ),
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if group["amsgrad"] else names

    def choose_rule(self, group: Group) -> Callable[..., tuple[Tensor, ...]]:
        return adam_amsgrad if group["amsgrad"] else adam

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        rate, root = lr / (1 - beta1**clock), math.sqrt(1 - beta2**clock)
        return lr, beta1, beta2, group["eps"], group["weight_decay"], rate, root

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["maximize"], group["weight_decay"] != 0, group["decoupled_weight_decay"]


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay (Loshchilov and Hutter, 2019).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.AdamW([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


def nadam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    rate_g: Any,
    rate_m: Any,
    correction: Any,
    *switches: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """p - (rate_g g + rate_m m) / (sqrt(v / correction) + eps)."""
    p, g = _start(p, g, lr, decay, *switches)
    m, v = _averages(m, v, g, beta1, beta2, eps)
    return p - (rate_g * g + rate_m * m) / (torch.sqrt(v / correction) + eps), m, v


class NAdam(FormulaOptimizer):
    """Adam with Nesterov momentum (Dozat, 2016), whose momentum is scheduled by 0.96^(t momentum_decay).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.NAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = nadam

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        check_betas(betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            **accepted(foreach=foreach, capturable=capturable, differentiable=differentiable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def _momentum(self, group: Group, step: int) -> float:
        return group["betas"][0] * (1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"]))

    def advance(self, state: dict[str, Any], group: Group) -> Hashable:
        state["step"] = step = state.get("step", 0) + 1
        product = float(state.get("mu_product", 1.0)) * self._momentum(group, step)
        state["mu_product"] = product
        return step, product

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        step, product = clock
        lr, (beta1, beta2) = group["lr"], group["betas"]
        now, then = self._momentum(group, step), self._momentum(group, step + 1)
        return (
            lr,
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            lr * (1.0 - now) / (1.0 - product),
            lr * then / (1.0 - product * then),
            1 - beta2**step,
        )

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["maximize"], group["weight_decay"] != 0, group["decoupled_weight_decay"]


def radam(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    rate: Any,
    rectified: Any,
    *switches: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """p - rate m rectified / (sqrt(v) + eps), or p - rate m while `rectified` is 0 (variance not yet known)."""
    p, g = _start(p, g, lr, decay, *switches)
    m, v = _averages(m, v, g, beta1, beta2, eps)
    scale = torch.where(rectified > 0, rectified / (torch.sqrt(v) + eps), 1.0)
    return p - rate * m * scale, m, v


class RAdam(FormulaOptimizer):
    """Adam with the variance of its step rectified (Liu et al., 2020, algorithm 2).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.RAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = radam

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
            **accepted(foreach=foreach, capturable=capturable, differentiable=differentiable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        correction = 1 - beta2**clock
        # Length of the approximated simple moving average, in the limit and now (equations 3 and 4).
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * clock * beta2**clock / correction
        rectified = 0.0
        if length > 5.0:
            ratio = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
            rectified = math.sqrt(ratio) * math.sqrt(correction)
        return (
            lr,
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            lr / (1 - beta1**clock),
            rectified,
        )

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["maximize"], group["weight_decay"] != 0, group["decoupled_weight_decay"]


def adamax(
    p: Tensor,
    g: Tensor,
    m: Tensor,
    u: Tensor,
    beta1: Any,
    beta2: Any,
    eps: Any,
    decay: Any,
    rate: Any,
    maximize: bool,
    decays: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """u' = max(beta2 u, |g| + eps), p - rate m / u'."""
    g = descent(p, g, decay, maximize, decays)
    m = settled(m + (1 - beta1) * (g - m))
    u = torch.maximum(beta2 * u, torch.abs(g) + eps)
    return p - rate * (m / u), m, u


class Adamax(FormulaOptimizer):
    """Adam with the infinity norm in place of the second moment (Kingma and Ba, 2015, algorithm 2).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.Adamax([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = adamax

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_betas(betas)
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            **accepted(foreach=foreach, differentiable=differentiable, capturable=capturable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        rate = group["lr"] / (1 - beta1**clock)
        return beta1, beta2, group["eps"], group["weight_decay"], rate

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["maximize"], group["weight_decay"] != 0


class SparseAdam(Optimizer):
    """Adam for gradients that are sparse tensors, of which there are none here; `step` refuses the dense ones, as PyTorch does.

    Raises ValueError for hyper-parameters out of range; its step RuntimeError where a parameter has a gradient.

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> opt = torch.optim.SparseAdam([w])
    >>> w.sum().backward()
    >>> opt.step()
    Traceback (most recent call last):
        ...
    RuntimeError: SparseAdam does not support dense gradients, please consider Adam instead
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        if not lr > 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps > 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Refuse the gradients; without any there is nothing to do, and what `closure` returned is returned."""
        loss = evaluated(closure)
        if any(param.grad is not None for group in self.param_groups for param in group["params"]):
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
        self.steps_taken += 1
        return loss
