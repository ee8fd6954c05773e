"""L-BFGS: Newton-like steps from the last few gradients, optionally with a strong-Wolfe line search.

Unlike the other optimizers its decisions depend on values, so each iteration reads a few numbers.
Read `LBFGS.step` first; `direction` is the two-loop recursion, `strong_wolfe` the line search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.optim.optimizer import Optimizer, check_non_negative

__all__ = ["LBFGS"]

Point = tuple[float, float, Tensor, float]  # step length, loss, gradient, slope along the direction


def direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor, float]], scale: float) -> Tensor:
    """-H g for the inverse Hessian that `pairs` (s, y, 1/(y·s)), oldest first, approximate from scale * I.

    Nocedal and Wright, Numerical Optimization (2006), algorithm 7.4.
    """
    q, alphas = -gradient, []
    for s, y, rho in reversed(pairs):
        alphas.append((s.dot(q) * rho).item())
        q = q - alphas[-1] * y
    r = q * scale
    for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + s * (alpha - (y.dot(r) * rho).item())
    return r


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through both points' values and slopes is least, kept within [low, high].

    Nocedal and Wright (2006), equation 3.59; the middle, where the cubic has no minimum.
    """
    if a[0] > b[0]:
        a, b = b, a
    d1 = a[3] + b[3] - 3 * (a[1] - b[1]) / (a[0] - b[0])
    square = d1 * d1 - a[3] * b[3]
    if not square >= 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    bottom = b[3] - a[3] + 2 * d2
    if bottom == 0:
        return (low + high) / 2
    return min(max(b[0] - (b[0] - a[0]) * (b[3] + d2 - d1) / bottom, low), high)


def strong_wolfe(
    evaluate: Callable[[float], Point],
    start: Point,
    step: float,
    scale: float,
    tolerance: float,
    most: int,
) -> tuple[Point, int]:
    """A point with enough decrease (1e-4) and a small enough slope (0.9), and the number of evaluations.

    Nocedal and Wright (2006), algorithms 3.5 (bracketing) and 3.6 (zoom). `scale` is the size of the
    direction, by which an interval too short to matter is recognised. most: how many evaluations there may be; after
    as many that bracketed nothing the last point is taken if it is lower than the start.
    """
    decrease, curvature = 1e-4, 0.9

    def too_high(p: Point) -> bool:
        return not p[1] <= start[1] + decrease * p[0] * start[3]

    def flat(p: Point) -> bool:
        return abs(p[3]) <= -curvature * start[3]

    previous, count = start, 0
    low, high = start, start
    while True:
        point = evaluate(step)
        count += 1
        if count >= most:
            return (point if point[1] < start[1] else start), count
        if too_high(point) or (count > 1 and point[1] >= previous[1]):
            low, high = previous, point
            break
        if flat(point):
            return point, count
        if point[3] >= 0:
            low, high = point, previous
            break
        # Still descending: go on, between a little further and ten times as far.
        step = cubic_minimum(previous, point, step + 0.01 * (step - previous[0]), step * 10)
        previous = point
    stalled = False
    while count < most and abs(high[0] - low[0]) * scale > tolerance:
        left, right = min(low[0], high[0]), max(low[0], high[0])
        step = cubic_minimum(low, high, left, right)
        margin = 0.1 * (right - left)
        if min(right - step, step - left) < margin:
            # Twice in a row close to an end means the cubic is a bad model: keep a tenth away from it.
            if stalled or step >= right or step <= left:
                step = right - margin if abs(step - right) < abs(step - left) else left + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        point = evaluate(step)
        count += 1
        if too_high(point) or point[1] >= low[1]:
            high = point
            continue
        if flat(point):
            return point, count
        if point[3] * (high[0] - low[0]) >= 0:
            high = low
        low = point
    return low, count


def _number(loss: Any) -> float:
    return loss.item() if isinstance(loss, Tensor) else float(loss)


def _parts(x: Tensor) -> Tensor:
    """A complex tensor as pairs of reals, which it shares memory with."""
    return torch.view_as_real(x) if x.is_complex() else x


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu and Nocedal, 1989) on one group of parameters; `step` needs a closure.

    Each step makes up to `max_iter` iterations, each with a new direction; `line_search_fn` is None (the
    step length is lr) or "strong_wolfe", whose evaluations count towards `max_eval` (of which a search may take one
    more, as in PyTorch). Raises ValueError for several groups, RuntimeError for another
    line search.

    >>> import adjoint as torch
    >>> w = torch.tensor([3.0, -2.0], requires_grad=True)
    >>> opt = torch.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((w - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure)
    >>> bool((w - 1).abs().max() < 1e-4)
    True
    """

    counts_steps = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_non_negative(lr=lr)
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _gradient(self) -> Tensor:
        return torch.cat(
            [
                _parts(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1)
                for p in self._params()
            ]
        )

    def _move(self, start: list[Tensor], along: Tensor, step: float) -> None:
        at = 0
        for param, origin in zip(map(_parts, self._params()), map(_parts, start), strict=True):
            count = param.numel()
            param.copy_(origin + step * along[at : at + count].reshape(param.shape))
            at += count

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Up to max_iter iterations; `closure` clears the gradients, computes the loss, and calls backward."""
        if closure is None:
            raise RuntimeError(
                "LBFGS.step() needs a closure that reevaluates the model and returns the loss"
            )
        group = self.param_groups[0]
        state = self.state[self._params()[0]]
        state.setdefault("n_iter", 0)
        state.setdefault("func_evals", 0)

        def loss_now() -> Any:
            state["func_evals"] += 1
            with torch.enable_grad():
                return closure()

        first = loss_now()
        loss, evaluations = _number(first), 1
        self.steps_taken += 1
        with torch.no_grad():
            gradient = self._gradient()
            if gradient.abs().max().item() <= group["tolerance_grad"]:
                return first
            for iteration in range(1, group["max_iter"] + 1):
                state["n_iter"] += 1
                along = self._next_direction(state, gradient, group["history_size"])
                slope = gradient.dot(along).item()
                if slope > -group["tolerance_change"]:
                    break
                # Before anything is known about curvature, a step of about unit length.
                length = group["lr"]
                if state["n_iter"] == 1:
                    length *= min(1.0, 1.0 / gradient.abs().sum().item())
                old_loss, old_gradient = loss, gradient
                start = [p.detach().clone() for p in self._params()]
                if group["line_search_fn"] == "strong_wolfe":

                    def evaluate(
                        t: float, start: list[Tensor] = start, along: Tensor = along
                    ) -> Point:
                        self._move(start, along, t)
                        value = _number(loss_now())
                        g = self._gradient()
                        return t, value, g, g.dot(along).item()

                    size = along.abs().max().item()
                    found, used = strong_wolfe(
                        evaluate,
                        (0.0, loss, gradient, slope),
                        length,
                        size,
                        group["tolerance_change"],
                        max(group["max_eval"] - evaluations, 0) + 1,
                    )
                    length, loss, gradient, _ = found
                    self._move(start, along, length)
                    evaluations += used
                else:
                    self._move(start, along, length)
                    if iteration < group["max_iter"]:
                        loss = _number(loss_now())
                        gradient = self._gradient()
                        evaluations += 1
                state.update(previous=old_gradient, direction=along, length=length)
                if iteration == group["max_iter"] or evaluations >= group["max_eval"]:
                    break
                if gradient.abs().max().item() <= group["tolerance_grad"]:
                    break
                if abs(length) * along.abs().max().item() <= group["tolerance_change"]:
                    break
                if abs(loss - old_loss) < group["tolerance_change"]:
                    break
        return first

    def _next_direction(self, state: dict[str, Any], gradient: Tensor, history: int) -> Tensor:
        """Remember the last move and its change of gradient, if it shows positive curvature; then `direction`."""
        pairs = state.setdefault("pairs", [])
        if "previous" in state:
            s, y = state["direction"] * state["length"], gradient - state["previous"]
            ys = y.dot(s).item()
            if ys > 1e-10:
                pairs.append((s, y, 1.0 / ys))
                del pairs[: max(len(pairs) - history, 0)]
                state["scale"] = ys / y.dot(y).item()
        return direction(gradient, pairs, state.get("scale", 1.0))
