"""How a workload is measured: checked first, then timed in turns.

Figures taken minutes apart on a shared machine differ by more than libraries do, so the libraries
alternate: each round gives every library one batch of steps, in an order that is shuffled anew for
each round, and the ratio of interest is formed from medians over many rounds. Read `measure` first.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .record import Case, Row, Workload

# Thread pools spin after their last task, some for tens of milliseconds; the next library's turn waits until they sleep.
PAUSE, LONGEST_PAUSE = 0.004, 0.2
MOST_STEPS = 1 << 16


@dataclass(frozen=True)
class Effort:
    """How much time is spent: rounds, seconds aimed at per batch, and the most per workload.

    With `peers_only`, libraries that the target does not name are not run beside it.
    """

    rounds: int
    batch: float
    most: float
    peers_only: bool


FULL = Effort(rounds=21, batch=0.025, most=12.0, peers_only=False)
QUICK = Effort(rounds=5, batch=0.010, most=2.5, peers_only=True)


class Disagreement(Exception):
    """A library's result differs from the reference by more than the workload allows."""


def measure(
    workload: Workload,
    modules: dict[str, ModuleType],
    effort: Effort,
    say: Callable[[str], None],
) -> Row:
    """Check and time one workload on every library that has it; failures become reasons."""
    row = Row(workload)
    # One seed for all: every library works on the same numbers.
    data = workload.make(np.random.default_rng(0))
    cases: dict[str, Case] = {}
    reference: tuple[str, list[np.ndarray]] | None = None
    for name in _reference_first(workload, modules, effort.peers_only):
        try:
            case = workload.builders[name](modules[name], data)
            for _ in range(workload.check_steps):
                case.step()
            values = [np.array(value) for value in case.read()]
            if reference is None:
                reference = (name, values)
            row.worst[name] = compare(workload, name, values, *reference)
        except Exception as error:  # one library's failure must not hide the others' figures
            row.absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            if isinstance(error, Disagreement):
                row.wrong.append(name)
            say(f"  {name}: {row.absent[name]}")
        else:
            cases[name] = case
    ceilings: dict[str, Case] = {}
    for name, build in workload.ceilings.items():
        try:
            ceilings[name] = build()
        except Exception as error:  # a machine without a compiler
            row.absent[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    if cases:
        _time_in_turns(row, cases | ceilings, effort, say)
    if workload.repeats and reference is not None:
        _check_again(row, cases, reference, say)
    return row


def _reference_first(
    workload: Workload, modules: dict[str, ModuleType], peers_only: bool
) -> list[str]:
    """Builders in the order of the check: Adjoint is never the library that others are held to."""
    wanted = {n for ask in workload.asks for n in (ask.subject, *ask.peers)} if peers_only else set(workload.builders)
    names = [name for name in workload.builders if name in wanted and name in modules]
    return sorted(names, key=lambda name: (name.startswith("adjoint"), name != "torch"))


def compare(
    workload: Workload,
    name: str,
    values: Sequence[np.ndarray],
    reference_name: str,
    reference: Sequence[np.ndarray],
) -> float:
    """Largest difference in units of the tolerance; raises `Disagreement` above 1."""
    if len(values) != len(reference):
        raise Disagreement(f"{len(values)} results, {reference_name} has {len(reference)}")
    worst = 0.0
    for position, (value, wanted) in enumerate(zip(values, reference, strict=True)):
        if value.shape != wanted.shape:
            raise Disagreement(
                f"result {position} has shape {value.shape}, {reference_name} has {wanted.shape}"
            )
        atol = workload.atol[min(position, len(workload.atol) - 1)]
        allowed = atol + workload.rtol * np.abs(wanted)
        error = np.abs(value - wanted)
        with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is allowed: 0 / 0, which is fine, and x / 0
            excess = np.max(np.where(error == 0, 0.0, error / allowed), initial=0.0)
        if not excess <= 1.0:  # also catches NaN
            raise Disagreement(
                f"result {position} differs from {reference_name} by {excess:.3g} times the "
                f"tolerance (rtol {workload.rtol:g}, atol {atol:g})"
            )
        worst = max(worst, float(excess))
    return worst


def _time_in_turns(
    row: Row, cases: dict[str, Case], effort: Effort, say: Callable[[str], None]
) -> None:
    # Objects of the imported libraries are set aside, or every full collection would walk through
    # all of them during somebody's turn. Collection itself stays on, as it is in user programs.
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    steps = {name: _steps_per_batch(case, effort.batch) for name, case in cases.items()}
    row.batches = {name: [] for name in cases}
    # Shuffled and not rotated: rotation would give each library the same predecessor every time.
    shuffle = np.random.default_rng(0)
    # What is held against the machine itself is asked for a few percent: less than 21 rounds tell on a shared one.
    for index in range(effort.rounds * (3 if row.workload.ceilings else 1)):
        for name in shuffle.permutation(list(cases)).tolist():
            row.batches[name].append(_timed_batch(cases[name], steps[name]))
        # Never fewer than five rounds: a median of less says nothing.
        if index >= 4 and time.perf_counter() - started > effort.most:
            say(f"  stopped after {index + 1} rounds, time is up")
            break
    gc.unfreeze()


def _steps_per_batch(case: Case, wanted: float) -> int:
    """Steps that take about `wanted` seconds; finding out also warms the case up."""
    steps = 1
    _batch(case, 1)
    while True:
        taken = min(_batch(case, steps), _batch(case, steps))
        if taken >= wanted / 2 or steps >= MOST_STEPS:
            return max(1, min(MOST_STEPS, round(steps * wanted / taken)))
        steps *= 2


def _timed_batch(case: Case, steps: int) -> float:
    """Seconds per step: the previous library's threads fall asleep, ours and the caches warm up."""
    wait_for_quiet()
    _batch(case, max(1, steps // 16))
    return _batch(case, steps) / steps


def wait_for_quiet() -> None:
    """Sleep until no thread of this process keeps a processor busy."""
    given_up = time.perf_counter() + LONGEST_PAUSE
    while time.perf_counter() < given_up:
        begun, used = time.perf_counter(), time.process_time()
        time.sleep(PAUSE)
        if time.process_time() - used < 0.1 * (time.perf_counter() - begun):
            return


def _batch(case: Case, steps: int) -> float:
    step = case.step
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    case.read()
    return time.perf_counter() - begin


def _check_again(
    row: Row,
    cases: dict[str, Case],
    reference: tuple[str, list[np.ndarray]],
    say: Callable[[str], None],
) -> None:
    """What the timed code computes must still be right: a stale answer would be a fast one."""
    for name, case in cases.items():
        try:
            worst = compare(row.workload, name, [np.array(v) for v in case.read()], *reference)
        except Disagreement as error:
            row.absent[name] = f"after timing: {error}"
            row.wrong.append(name)
            row.batches.pop(name, None)
            say(f"  {name}: {row.absent[name]}")
        else:
            row.worst[name] = max(row.worst[name], worst)
