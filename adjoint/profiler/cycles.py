"""Which steps of a long run a profile keeps. Read `schedule`."""

from __future__ import annotations

import enum
from collections.abc import Callable


class ProfilerAction(enum.Enum):
    """What a schedule may say of a step: leave it, run it with the clocks on but forget it, keep it, keep it and report.

    >>> import adjoint as torch
    >>> torch.profiler.schedule(wait=0, warmup=1, active=1)(0)
    <ProfilerAction.WARMUP: 1>
    """

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """Which steps a profile keeps: after `skip_first` steps it leaves `wait`, warms up for `warmup` and keeps `active`.

    That is one cycle; `repeat` of them, or for 0 as many as there are. skip_first_wait: not 0 leaves `wait` out of the
    first cycle. Programs are compiled in their first steps, so warm up for two or three. Raises ValueError (an
    AssertionError, too, as in PyTorch) for negative counts, or none to keep.

    >>> import adjoint as torch
    >>> plan = torch.profiler.schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [plan(k).name for k in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    given = f"wait={wait}, warmup={warmup}, active={active}, repeat={repeat}, skip_first={skip_first}"
    if min(wait, warmup, repeat, skip_first) < 0 or active < 1:
        raise ScheduleError(f"schedule({given}): every count must be 0 or more, and active at least 1")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise ScheduleError(f"steps are counted from 0, got {step}")
        if step < skip_first:
            return ProfilerAction.NONE
        step -= skip_first
        if skip_first_wait:
            step += wait
        cycle, at = divmod(step, wait + warmup + active)
        if (repeat and cycle >= repeat) or at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < wait + warmup + active - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


class ScheduleError(ValueError, AssertionError):
    """The numbers given to `schedule` are no schedule."""
