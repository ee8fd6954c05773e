"""Optimizers that see a parameter as a matrix: Muon, which makes steps orthogonal, and Adafactor, which keeps rows and columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.ops.composite import update
from adjoint.optim.optimizer import (
    FormulaOptimizer,
    Group,
    Optimizer,
    accepted,
    by_parts,
    evaluated,
    filled,
    settled,
)

__all__ = ["Adafactor", "Muon"]


def _check_least(least: float, **values: float) -> None:
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name.replace('_', ' ')} should be >= {least:g} but is: {value}")


# ---- Muon ----------------------------------------------------------------------------------------


def orthogonalized(g: Tensor, a: Any, b: Any, c: Any, eps: Any, steps: int) -> Tensor:
    """About U Vᵀ of g = U S Vᵀ: Newton-Schulz steps X = a X + (b A + c A²) X with A = X Xᵀ, from g / |g|."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / torch.maximum(x.norm(), torch.zeros((), dtype=x.dtype) + eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(
    p: Tensor, g: Tensor, buffer: Tensor, lr: Any, decay: Any, momentum: Any, a: Any, b: Any, c: Any, eps: Any, scale: str, steps: int, nesterov: bool
) -> tuple[Tensor, Tensor]:
    """m' = momentum m + (1 - momentum) g, p - lr decay p - lr s O, with O of m' (or with Nesterov of the next m' for this g)."""
    buffer = settled(momentum * buffer + (1 - momentum) * g)
    step = momentum * buffer + (1 - momentum) * g if nesterov else buffer
    rows, columns = p.shape
    size = 0.2 * math.sqrt(max(rows, columns)) if scale == "match_rms_adamw" else math.sqrt(max(1.0, rows / columns))
    return p - lr * decay * p - (lr * size) * orthogonalized(step, a, b, c, eps, steps), buffer


class Muon(FormulaOptimizer):
    """Momentum whose matrix is made orthogonal before each step (Jordan et al., 2024, "Muon"), for weights of two dimensions.

    ns_coefficients, ns_steps: of the Newton-Schulz iteration, which runs in the dtype of the parameter.  adjust_lr_fn: how the
    step of an A x B matrix is scaled: "original" by sqrt(max(1, A / B)), "match_rms_adamw" by 0.2 sqrt(max(A, B)) (Liu et al.,
    2025, "Muon is Scalable for LLM Training"); None is "original".

    Raises ValueError for parameters of another number of dimensions and for hyper-parameters out of range.

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.eye(2))
    >>> opt = torch.optim.Muon([w], lr=0.1, weight_decay=0.0)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool((w.diagonal() < 1).all())
    True
    """

    rule = muon

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        _check_least(0, Learning_rate=lr, momentum=momentum, weight_decay=weight_decay)
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported; choose 'original' or 'match_rms_adamw'")
        if len(ns_coefficients) != 3:
            raise ValueError(f"Coefficients must be a tuple of exactly 3 values, got {ns_coefficients}")
        if not 0 <= ns_steps < 100:
            raise ValueError(f"Number of steps must be at least 0 and less than 100 for computational efficiency, got {ns_steps}")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        for p in param_group["params"]:
            if p.dim() != 2 or p.is_complex():
                self.param_groups.pop()
                raise ValueError(
                    f"Muon only supports 2D parameters whereas we found a parameter with size: {p.shape} and {p.dtype}; "
                    "give biases, embeddings and complex parameters to AdamW"
                )

    def tensors(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",)

    def advance(self, state: dict[str, Any], group: Group) -> Hashable:
        return None

    def numbers(self, group: Group, clock: Any) -> tuple[float, ...]:
        return group["lr"], group["weight_decay"], group["momentum"], *group["ns_coefficients"], group["eps"]

    def switches(self, group: Group) -> tuple[Hashable, ...]:
        return group["adjust_lr_fn"] or "original", group["ns_steps"], group["nesterov"]


# ---- Adafactor -----------------------------------------------------------------------------------


def _start(p: Tensor, g: Tensor, rate: Any, shrink: Any, least: Any, maximize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The parameter after decay, the gradient, and the size of the step: rate max(least, RMS of the parameter)."""
    rms = p.norm() / math.sqrt(p.numel())
    size = rate * torch.maximum(rms, torch.zeros((), dtype=p.dtype) + least)
    return p * (1 - shrink), (-g if maximize else g), size


def _end(p: Tensor, g: Tensor, v: Tensor, size: Tensor, eps: Any, limit: Any) -> Tensor:
    u = g / torch.sqrt(v).clamp(min=eps)
    rms = u.norm() / math.sqrt(u.numel())
    return p - size * (u / (rms / limit).clamp(min=1.0))


def adafactor_matrix(
    p: Tensor, g: Tensor, rows: Tensor, columns: Tensor, rate: Any, shrink: Any, share: Any, least: Any, eps: Any, limit: Any, maximize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Squares of gradients averaged over rows and over columns; their product over the mean stands for the matrix of them."""
    p, g, size = _start(p, g, rate, shrink, least, maximize)
    squares = g * g
    rows = rows + share * (squares.mean(-1, keepdim=True) - rows)
    columns = columns + share * (squares.mean(-2, keepdim=True) - columns)
    v = rows * columns / rows.mean(-2, keepdim=True).clamp(min=eps)
    return _end(p, g, v, size, eps, limit), rows, columns


def adafactor_vector(
    p: Tensor, g: Tensor, v: Tensor, rate: Any, shrink: Any, share: Any, least: Any, eps: Any, limit: Any, maximize: bool
) -> tuple[Tensor, Tensor]:
    """As `adafactor_matrix`, with an average for every element."""
    p, g, size = _start(p, g, rate, shrink, least, maximize)
    v = v + share * (g * g - v)
    return _end(p, g, v, size, eps, limit), v


class Adafactor(Optimizer):
    """Adam's second moments from averages over rows and columns, and no first ones (Shazeer and Stern, 2018, algorithms 4 and 5).

    lr: the largest relative step; the step is max(eps[1], RMS of the parameter) min(lr, 1 / sqrt(t)) times an update whose RMS is
    at most `d`.  beta2_decay: the averages forget by t ** beta2_decay.  eps[0]: least divisor, the spacing at 1 of the
    parameter's dtype for None. Parameters of two dimensions and more keep `row_var` and `col_var`, others `variance`.

    Raises ValueError for hyper-parameters out of range, NotImplementedError for complex parameters.

    >>> import adjoint as torch
    >>> w = torch.nn.Parameter(torch.ones(3, 4))
    >>> opt = torch.optim.Adafactor([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> bool((w < 1).all()), opt.state[w]["row_var"].shape
    (True, torch.Size([3, 1]))
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        _check_least(0, Learning_rate=lr, epsilon1=eps[0] or 0.0, epsilon2=eps[1])
        _check_least(1, Clipping_threshold_d=d)
        if not beta2_decay <= 0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        defaults = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            **accepted(foreach=foreach),
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _fresh(self, param: Tensor) -> dict[str, Tensor]:
        if param.dim() < 2:
            return {"variance": filled(param, 0.0)}
        *lead, rows, columns = param.shape
        shapes = {"row_var": (*lead, rows, 1), "col_var": (*lead, 1, columns)}
        return {name: filled(torch.empty(shape, dtype=param.dtype), 0.0) for name, shape in shapes.items()}

    def _rows(self, group: Group) -> dict[tuple[Any, ...], list[tuple[Tensor, ...]]]:
        """What is updated together: parameters of one step count, dtype and kind, each with gradient and state."""
        together: dict[tuple[Any, ...], list[tuple[Tensor, ...]]] = {}
        for param in group["params"]:
            if param.grad is None:
                continue
            if param.is_complex():
                raise NotImplementedError("Adafactor does not support complex parameters; give them to Adam")
            state = self.state[param]
            if "step" not in state:
                state.update(step=0, **self._fresh(param))
            state["step"] += 1
            names = ("variance",) if param.dim() < 2 else ("row_var", "col_var")
            together.setdefault((state["step"], param.dtype, names), []).append((param, param.grad, *[state[name] for name in names]))
        return together

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returned, if it was given."""
        loss = evaluated(closure)
        for hook in list(self._pre_hooks.values()):
            hook(self, (), {})
        for group in self.param_groups:
            lr, (eps, least) = group["lr"], group["eps"]
            for (count, dtype, names), rows in self._rows(group).items():
                rule = by_parts(adafactor_vector if len(names) == 1 else adafactor_matrix)
                numbers = (
                    min(lr, 1 / math.sqrt(count)),
                    lr * group["weight_decay"],
                    count ** group["beta2_decay"],
                    least,
                    torch.finfo(dtype).eps if eps is None else eps,
                    group["d"],
                )
                update(rule, rows, numbers, (group["maximize"],), (0, *range(2, 2 + len(names))))
        self.steps_taken += 1
        for hook in list(self._post_hooks.values()):
            hook(self, (), {})
        return loss
