"""The records of a benchmark: what is run (`Workload`, `Case`) and what came out (`Row`, `Limit`).

A workload holds one builder per library. A builder receives the library's module and the workload's
NumPy arrays and returns a `Case`: one iteration of user code, and a way to read what it computed.
The same function builds the case for Adjoint and for PyTorch's eager mode wherever possible: that
the text is shared is the proof that the code is unmodified. Read `Workload` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

Arrays = dict[str, Any]  # NumPy arrays and scalars by name
Results = Sequence[np.ndarray | np.generic]


@dataclass(frozen=True)
class Case:
    """One library's version of a workload, ready to run.

    `step` is one iteration as a user would write it. `read` waits for everything that has been
    asked for and returns it as arrays; it ends every timed batch, so that lazy or asynchronous work
    cannot hide.
    """

    step: Callable[[], Any]
    read: Callable[[], Results]


def repeatable(function: Callable[[], Results]) -> Case:
    """A case without state: every step computes, delivers and returns the same arrays."""
    last: list[Results] = []

    def step() -> None:
        last[:] = (function(),)

    return Case(step, lambda: last[0])


Builder = Callable[[ModuleType, Arrays], Case]


def ceiling(kind: str, amount: float) -> Callable[[], Case]:
    """A case that does `amount` of the profiler's `kind` of work and nothing else."""

    def build() -> Case:
        from adjoint.profiler import peaks

        return Case(peaks.at_peak(kind, amount), list)

    return build


@dataclass(frozen=True)
class Ask:
    """What is wanted: the fastest of `peers` takes at least `target` times as long as `subject`, a column of Adjoint's."""

    target: float
    peers: tuple[str, ...]
    subject: str = "adjoint"


@dataclass(frozen=True)
class Workload:
    """A row of the table: what is computed, by whom, and how fast it has to be.

    Adjoint (its column `subject`) passes when the fastest of `peers` takes at least `target` times as long, and `further`
    asks are met. `check_steps`
    steps are run and compared before anything is timed; with `repeats` (every step computes the
    same values) the comparison is made once more after the timing. `bytes_touched` is the least
    memory traffic one step can have, each input read once and each output written once; zero means
    that everything stays in cache. `flops`
    counts the additions and multiplications of a workload that does little else. `ceilings` are not libraries:
    they keep the machine busy with as many multiply-adds, or as many bytes, and nothing else; they take their turns with
    the libraries, and asks may name them as peers. `atol` has one entry per result, the last one standing for the
    rest.
    """

    name: str
    title: str
    target: float
    peers: tuple[str, ...]
    make: Callable[[np.random.Generator], Arrays]
    builders: dict[str, Builder]
    rtol: float
    atol: tuple[float, ...]
    check_steps: int = 1
    repeats: bool = True
    bytes_touched: int = 0
    flops: int = 0
    subject: str = "adjoint"
    further: tuple[Ask, ...] = ()
    ceilings: dict[str, Callable[[], Case]] = field(default_factory=dict)

    @property
    def asks(self) -> tuple[Ask, ...]:
        return (Ask(self.target, self.peers, self.subject), *self.further)


@dataclass
class Row:
    """What was measured for one workload; times are seconds per step.

    `absent` gives the reason for each library that is installed but has no times here, `worst` the
    part of the tolerance that each used, and `wrong` the libraries whose results disagreed.
    """

    workload: Workload
    batches: dict[str, list[float]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def median(self, library: str) -> float | None:
        """Median time of one step, or None where the library was not measured."""
        times = self.batches.get(library)
        return float(np.median(times)) if times else None

    def peer(self, ask: Ask | None = None) -> str | None:
        """The fastest of the peers that were measured; of the workload's first ask if none is named."""
        found = [name for name in (ask or self.workload.asks[0]).peers if name in self.batches]
        return min(found, key=lambda name: np.median(self.batches[name]), default=None)

    def ratio(self, ask: Ask | None = None) -> tuple[float, float, float] | None:
        """Ratio of medians, and the 10th and 90th percentile of the ratio within single rounds."""
        ask = ask or self.workload.asks[0]
        peer = self.peer(ask)
        if peer is None or not self.batches.get(ask.subject):
            return None
        ours, theirs = np.array(self.batches[ask.subject]), np.array(self.batches[peer])
        low, high = np.percentile(theirs / ours, (10, 90))
        return float(np.median(theirs) / np.median(ours)), float(low), float(high)

    def verdict(self, ask: Ask | None = None) -> str:
        """`pass`, `MISS`, or why there is no verdict."""
        ask = ask or self.workload.asks[0]
        if ask.subject in self.absent:
            return "MISS"  # installed, and either failed or computed something else
        ratio = self.ratio(ask)
        if ratio is not None:
            return "pass" if ratio[0] >= ask.target else "MISS"
        if ask.subject in self.batches:
            return "no peer installed"
        return "not measured"


@dataclass(frozen=True)
class Limit:
    """A figure with an upper limit: a start-up time, a number of programs, a growth of memory.

    `failed` says that Adjoint is installed and could not be measured all the same.
    """

    name: str
    title: str
    value: float | None
    limit: float
    unit: str
    note: str = ""
    failed: bool = False

    def verdict(self) -> str:
        """`pass`, `MISS`, or `not measured` (the note says why)."""
        if self.value is None:
            return "MISS" if self.failed else "not measured"
        return "pass" if self.value <= self.limit else "MISS"
