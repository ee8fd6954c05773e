"""The base class of learning-rate schedules, and what several of them need.

`LRScheduler.step` counts an epoch and sets every group's rate to what `get_lr` says. Most
schedules state `get_lr` as a factor on the rate of the epoch before, so that several can act on
one optimizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.optim.optimizer import Optimizer
from adjoint.trace.state import warn

__all__ = ["LRScheduler"]


def check_optimizer(optimizer: Any) -> None:
    """Raise TypeError for anything but an optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def per_group(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """One value for every parameter group. Raises ValueError for a list of another length."""
    count = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"expected {count} values for {name}, got {len(value)}")
    return list(value)


def set_momentum(group: dict[str, Any], momentum: float) -> None:
    """Set a group's momentum, which in Adam's family is the first of the betas."""
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum


class LRScheduler:
    """Base class: subclasses define `get_lr`, the rates of epoch `last_epoch`, one per group.

    `last_epoch=-1` begins a schedule; another number continues one, and then needs "initial_lr" in the
    optimizer's groups.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer"
                )
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._steps_before = self.optimizer.steps_taken
        self.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {name: value for name, value in vars(self).items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict` of the same schedule."""
        vars(self).update(state_dict)

    def get_last_lr(self) -> list[float]:
        """The rates set last."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The rates of epoch `last_epoch`."""
        raise NotImplementedError

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch (or to `epoch`) and set the rates."""
        optimizer = self.optimizer
        if self._step_count == 1 and optimizer.counts_steps and optimizer.steps_taken == self._steps_before:
            warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. Call them in the opposite "
                "order: `optimizer.step()` before `lr_scheduler.step()`; otherwise the first value of the "
                "schedule is skipped.",
            )
        self._step_count += 1
        if epoch is None:
            self.last_epoch += 1
            rates = self.get_lr()
        else:
            self.last_epoch = epoch
            closed = getattr(self, "_get_closed_form_lr", None)
            rates = self.get_lr() if closed is None else closed()
        self._set(rates)

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)
