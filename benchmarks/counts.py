"""Counts: how many programs a loop compiles, and whether it stays in constant memory.

A count is exact where a time is noisy, so these are the promises that can be held to the letter.
Each runs in a process of its own, where nothing has been compiled yet. `COUNTS` is the table; read
`count_limits` first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .record import Limit
from .startup import ChildFailed, run_child
from .workloads import linreg, mlp8


@dataclass(frozen=True)
class Count:
    """One figure: what it is, the most it may be, and the function that finds it."""

    title: str
    limit: float
    unit: str
    find: Callable[[ModuleType], float]


def programs(adjoint: ModuleType) -> int:
    """Programs compiled so far in this process."""
    return adjoint.stats()["programs"]


def _data(make: Callable[[np.random.Generator], dict]) -> dict:
    return make(np.random.default_rng(0))


def _after_second(adjoint: ModuleType, iteration: Callable[[int], object]) -> int:
    """Programs compiled by iterations 3 to 60."""
    iteration(0)
    iteration(1)
    before = programs(adjoint)
    for i in range(2, 60):
        iteration(i)
    return programs(adjoint) - before


def slice_start(adjoint: ModuleType) -> int:
    case = linreg.eager(adjoint, _data(linreg.make))
    return _after_second(adjoint, lambda i: case.step().item())


def slice_start_unread(adjoint: ModuleType) -> int:
    case = linreg.eager(adjoint, _data(linreg.make))
    # An iteration that reads nothing may be computed as late as in the next one, hence one more
    # before the count begins.
    case.step()
    return _after_second(adjoint, lambda i: case.step())


def learning_rate(adjoint: ModuleType) -> int:
    rate = 1e-3

    def schedule(optimizer) -> None:
        nonlocal rate
        rate *= 0.97
        for group in optimizer.param_groups:
            group["lr"] = rate

    case = mlp8.eager(adjoint, _data(mlp8.make), before_step=schedule)
    return _after_second(adjoint, lambda i: case.step().item())


def step_counter(adjoint: ModuleType) -> int:
    x = adjoint.tensor([1.0, 2.0, 3.0], requires_grad=True)

    def iteration(i: int) -> None:
        loss = ((x * i - 1.0 / (i + 1)) ** 2).sum()
        loss.backward()
        with adjoint.no_grad():
            x.sub_(0.1 / (i + 1) * x.grad)
            x.grad.zero_()
        loss.item()

    return _after_second(adjoint, iteration)


def smaller_last_batch(adjoint: ModuleType) -> int:
    size = 48  # leaves 40 of the 1,000 rows for the last batch
    case = linreg.eager(adjoint, _data(linreg.make), batch_size=size)
    for _ in range(linreg.ROWS // size):
        case.step().item()
    before = programs(adjoint)
    for _ in range(2 * (linreg.ROWS // size + 1) + 1):
        case.step().item()
    return programs(adjoint) - before


def _unread_loop(adjoint: ModuleType) -> tuple[int, float]:
    """Programs, and MiB by which the process grows between iterations 1,000 and 10,000."""
    case = linreg.eager(adjoint, _data(linreg.make))
    for _ in range(1000):
        case.step()
    before = _resident_mib()
    for _ in range(9000):
        case.step()
    grown = _resident_mib() - before
    return programs(adjoint), grown


def unread_programs(adjoint: ModuleType) -> int:
    return _unread_loop(adjoint)[0]


def unread_growth(adjoint: ModuleType) -> float:
    return _unread_loop(adjoint)[1]


def _resident_mib() -> float:
    """Resident memory of this process in MiB; the peak where the present size cannot be read."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _chain_seconds(adjoint: ModuleType, length: int) -> float:
    """Forward and backward through `length` operations that depend on one another.

    Value and slope return to exactly 1 with every fourth operation, so no length is out of range.
    """
    x = adjoint.tensor(1.0, requires_grad=True)
    begin = time.perf_counter()
    v = x
    for _ in range(length // 4):
        v = (v * 0.5 + 0.5) * 2.0 - 1.0
    v.backward()
    slope = x.grad.item()
    seconds = time.perf_counter() - begin
    if slope != 1.0:
        raise ValueError(f"gradient of a chain of {length} operations is {slope}, not 1")
    return seconds


def chain_growth(adjoint: ModuleType) -> float:
    """Time of a chain of 100,000 operations over that of 25,000: 4 when linear, 16 when square."""
    _chain_seconds(adjoint, 1000)
    short = _chain_seconds(adjoint, 25_000)
    return _chain_seconds(adjoint, 100_000) / short


COUNTS = {
    "slice_start": Count(
        "programs after iteration 2, slice start changes, loss read", 0, "", slice_start
    ),
    "slice_start_unread": Count(
        "programs after iteration 2, slice start changes, nothing read", 0, "", slice_start_unread
    ),
    "learning_rate": Count(
        "programs after iteration 2, MLP with Adam, learning rate changes", 0, "", learning_rate
    ),
    "step_counter": Count(
        "programs after iteration 2, a step counter is an operand", 0, "", step_counter
    ),
    "last_batch": Count(
        "programs for a smaller last batch, over two passes", 1, "", smaller_last_batch
    ),
    "unread_programs": Count(
        "programs of 10,000 iterations that never read a value", 3, "", unread_programs
    ),
    "unread_growth": Count(
        "memory gained between iterations 1,000 and 10,000 of that loop", 4, "MiB", unread_growth
    ),
    "chain_growth": Count(
        "backward chain: time of 100,000 operations over that of 25,000", 6, "x", chain_growth
    ),
}


def count_limits(missing: dict[str, str], names: Sequence[str]) -> list[Limit]:
    """All counts of the table that are named, each found in a new process."""
    limits = []
    for name in names:
        count = COUNTS[name]
        value, note, failed = None, missing.get("adjoint", ""), False
        if not note:
            try:
                value = float(run_child(["-m", __name__, name]))
            except ChildFailed as error:
                note, failed = str(error), True
        limits.append(Limit(name, count.title, value, count.limit, count.unit, note, failed))
    return limits


if __name__ == "__main__":
    import adjoint

    print(json.dumps(COUNTS[sys.argv[1]].find(adjoint)))
