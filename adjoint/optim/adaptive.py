"""Optimizers that scale each element by the history of its own gradient: Adagrad, Adadelta, RMSprop, Rprop."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.optim.optimizer import (
    FormulaOptimizer,
    Group,
    accepted,
    check_non_negative,
    descent,
    filled,
    settled,
)

__all__ = ["Adadelta", "Adagrad", "RMSprop", "Rprop"]


def _usual_switches(group: Group) -> tuple[Hashable, ...]:
    return group["maximize"], group["weight_decay"] != 0


def adagrad(
    p: Tensor,
    g: Tensor,
    total: Tensor,
    rate: Any,
    eps: Any,
    decay: Any,
    maximize: bool,
    decays: bool,
) -> tuple[Tensor, Tensor]:
    """s' = s + g², p - rate g / (sqrt(s') + eps)."""
    g = descent(p, g, decay, maximize, decays)
    total = total + g * g
    return p - rate * (g / (torch.sqrt(total) + eps)), total


class Adagrad(FormulaOptimizer):
    """Adagrad (Duchi, Hazan and Singer, 2011, figure 1), the rate falling as 1 / (1 + (t - 1) lr_decay).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = adagrad

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_non_negative(
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
            **accepted(foreach=foreach, differentiable=differentiable, fused=fused),
        }
        super().__init__(params, defaults)
        for group in self.param_groups:  # PyTorch's Adagrad has its state from the start, others from the first step
            for param in group["params"]:
                self.state[param]["step"] = 0
                self._begin(self.tensors(group), self.state[param], param, group)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def fresh(self, name: str, param: Tensor, group: Group) -> Tensor:
        return filled(param, group["initial_accumulator_value"])

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        rate = group["lr"] / (1 + (clock - 1) * group["lr_decay"])
        return rate, group["eps"], group["weight_decay"]

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return _usual_switches(group)


def adadelta(
    p: Tensor,
    g: Tensor,
    squares: Tensor,
    steps: Tensor,
    lr: Any,
    rho: Any,
    eps: Any,
    decay: Any,
    maximize: bool,
    decays: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """E[g²]' = rho E[g²] + (1 - rho) g², step = g sqrt(E[d²] + eps) / sqrt(E[g²]' + eps), p - lr step."""
    g = descent(p, g, decay, maximize, decays)
    squares = settled(rho * squares + (1 - rho) * (g * g), eps)
    step = torch.sqrt(steps + eps) / torch.sqrt(squares + eps) * g
    return p - lr * step, squares, settled(rho * steps + (1 - rho) * (step * step), eps)


class Adadelta(FormulaOptimizer):
    """Adadelta (Zeiler, 2012, algorithm 1).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.Adadelta([w], lr=1.0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = adadelta

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            **accepted(capturable=capturable, foreach=foreach, differentiable=differentiable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        return group["lr"], group["rho"], group["eps"], group["weight_decay"]

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return _usual_switches(group)


def rmsprop(p: Tensor, g: Tensor, squares: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """g / (sqrt(E[g²]) + eps), minus E[g]² under the root if centered, through a momentum buffer if there is one.

    `rest` is the optional averages (mean if centered, buffer if momentum), then the numbers and switches.
    """
    *state, lr, alpha, eps, decay, momentum, maximize, decays, centered = rest
    g = descent(p, g, decay, maximize, decays)
    squares = settled(alpha * squares + (1 - alpha) * (g * g), eps)
    variance, new = squares, [squares]
    if centered:
        mean = state.pop(0)
        mean = settled(mean + (1 - alpha) * (g - mean))
        variance = squares - mean * mean
        new.append(mean)
    step = g / (torch.sqrt(variance) + eps)
    if state:
        step = settled(momentum * state[0] + step)
        new.append(step)
    return (p - lr * step, *new)


class RMSprop(FormulaOptimizer):
    """RMSprop (Tieleman and Hinton, 2012, lecture 6.5); `centered` as Graves (2013, equation 40).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.RMSprop([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = rmsprop

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_non_negative(
            lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha
        )
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
            **accepted(capturable=capturable, foreach=foreach, differentiable=differentiable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        names = ["square_avg"]
        names += ["grad_avg"] if group["centered"] else []
        return tuple(names + (["momentum_buffer"] if group["momentum"] > 0 else []))

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        return tuple(group[name] for name in ("lr", "alpha", "eps", "weight_decay", "momentum"))

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return *_usual_switches(group), group["centered"]


def rprop(
    p: Tensor,
    g: Tensor,
    before: Tensor,
    size: Tensor,
    shrink: Any,
    grow: Any,
    smallest: Any,
    largest: Any,
    maximize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Step sizes grow while the sign of g stays, shrink when it turns; after a turn the element waits a step."""
    g = -g if maximize else g
    agreement = g * before
    size = torch.where(agreement > 0, size * grow, torch.where(agreement < 0, size * shrink, size))
    size = torch.minimum(torch.maximum(size, smallest), largest)
    g = torch.where(agreement < 0, 0.0, g)
    return p - torch.sign(g) * size, g, size


class Rprop(FormulaOptimizer):
    """Resilient backpropagation, the variant without backtracking (Igel and Hüsken, 2000, iRprop-).

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = torch.optim.Rprop([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool(w < 1)
    True
    """

    rule = rprop

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_non_negative(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "maximize": maximize,
            **accepted(foreach=foreach, differentiable=differentiable, capturable=capturable),
        }
        super().__init__(params, defaults)

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("prev", "step_size")

    def fresh(self, name: str, param: Tensor, group: Group) -> Tensor:
        return filled(param, group["lr"] if name == "step_size" else 0.0)

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        return *group["etas"], *group["step_sizes"]

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return (group["maximize"],)
