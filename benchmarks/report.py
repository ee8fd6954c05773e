"""Turns what was measured into `RESULTS.md`, JSON, and lines for the terminal.

Only generated text is written here: every figure comes from the run, and a miss looks as plain as a
pass. Read `markdown` first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .libraries import LIBRARIES
from .machine import Machine
from .record import Limit, Row


@dataclass(frozen=True)
class Run:
    """Everything one run of the command found."""

    date: str
    threads: int
    rounds: int
    seconds: float
    machine: Machine
    versions: dict[str, str]
    missing: dict[str, str]
    rows: Sequence[Row]
    limits: Sequence[Limit]

    def misses(self) -> list[str]:
        """Names of the lines that did not reach what was asked of them."""
        return [
            name
            for name, verdict in [(r.workload.name, r.verdict(ask)) for r in self.rows for ask in r.workload.asks]
            + [(limit.name, limit.verdict()) for limit in self.limits]
            if verdict == "MISS"
        ]


def duration(seconds: float | None) -> str:
    """A time with three digits and a fitting unit.

    >>> duration(0.0000123), duration(0.5), duration(None)
    ('12.3 us', '500 ms', '-')
    """
    if seconds is None:
        return "-"
    for factor, unit in ((1e6, "us"), (1e3, "ms"), (1, "s")):
        if seconds * factor < 999.5 or unit == "s":
            return f"{_digits(seconds * factor)} {unit}"
    raise AssertionError("the last unit takes every time")


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def terminal_line(row: Row) -> str:
    """One row for somebody who watches."""
    times = "  ".join(
        f"{library.name} {duration(row.median(library.name))}"
        for library in LIBRARIES
        if library.name in row.batches
    )
    asks = [(ask, row.ratio(ask)) for ask in row.workload.asks]
    verdicts = [row.verdict(ask) for ask, _ in asks]
    verdict = next((v for v in verdicts if v != "pass"), "pass")
    against = ", ".join(f"{ratio[0]:.2f}x of {ask.target:g}x {row.peer(ask)}" for ask, ratio in asks if ratio)
    return f"{row.workload.name:14s} {verdict:13s} {against}  {times}"


def markdown(run: Run) -> str:
    """The text of `RESULTS.md`."""
    parts = [
        "# Results",
        "Written by `python -m benchmarks`; [README.md](README.md) says how it measures.",
        *_machine(run),
        *_speed(run),
        *_reasons(run),
        *_ceilings(run),
        *_bandwidth(run),
        *_limits(run),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    # An error message may hold a bar, which would open a new cell.
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in escaped)


def _machine(run: Run) -> list[str]:
    machine, rates = run.machine, run.machine.bandwidth
    width = f"{machine.vector_bits}-bit vectors" if machine.vector_bits else "vectors unknown"
    versions = ", ".join(f"{name} {number}" for name, number in sorted(run.versions.items()))
    lines = [
        ["processor", f"{machine.processor}, {machine.cores} processors, {width}"],
        [
            "memory bandwidth",
            f"read {rates.read:.1f}, copy {rates.copy:.1f}, add {rates.add:.1f} GB/s "
            f"({run.threads} threads, bytes named by the program)",
        ],
        ["system", f"{machine.system}, Python {machine.python}"],
        ["versions", versions],
        ["run", f"{run.date}, {run.threads} threads, {run.rounds} rounds, {run.seconds:.0f} s"],
        ["load before the run", f"{machine.load:.2f} (processes wanting to run)"],
    ]
    return ["## Machine", _table(["", ""], lines)]


def _speed(run: Run) -> list[str]:
    if not run.rows:
        return []
    columns = [
        library.name
        for library in LIBRARIES
        if library.name == "adjoint" or any(library.name in row.batches for row in run.rows)
    ]
    lines = []
    for row in run.rows:
        for k, ask in enumerate(row.workload.asks):
            first = k == 0
            ratio, peer = row.ratio(ask), row.peer(ask)
            through = "" if ask.subject == "adjoint" else f"`{ask.subject}`: "
            lines.append(
                [
                    f"**{row.workload.name}**: {row.workload.title}" if first else "",
                    *(duration(row.median(name)) if first else "" for name in columns),
                    f"{through}{ask.target:g}x {_named(ask.peers)}",
                    f"{ratio[0]:.2f}x {peer} ({ratio[1]:.2f} to {ratio[2]:.2f})" if ratio else "-",
                    row.verdict(ask),
                ]
            )
    meanings = "\n".join(
        f"- `{library.name}`: {library.meaning}."
        for library in LIBRARIES
        if library.name in columns
    )
    return [
        "## Speed",
        "Median time of one step. The ratio is the peer's median over Adjoint's; in brackets the "
        "10th and 90th percentile of the ratio within single rounds.",
        _table(["workload", *columns, "asked", "reached", ""], lines),
        meanings,
        "All results were equal within the tolerances before they were timed: "
        + "; ".join(_tolerance(row) for row in run.rows)
        + ".",
    ]


def _named(peers: Sequence[str]) -> str:
    return peers[0] if len(peers) == 1 else "the faster of " + " and ".join(peers)


def _tolerance(row: Row) -> str:
    """Tolerance of a workload, and the largest part of it that any library used."""
    atol = ", ".join(f"{value:g}" for value in row.workload.atol)
    used = max(row.worst.values(), default=0.0)
    return f"{row.workload.name} rtol {row.workload.rtol:g}, atol {atol} ({used:.0%} used)"


def _reasons(run: Run) -> list[str]:
    lines = [f"- `{name}` was not measured: {why}" for name, why in sorted(run.missing.items())]
    for row in run.rows:
        for name, why in sorted(row.absent.items()):
            lines.append(f"- `{row.workload.name}` on `{name}` has no figure: {why}")
    return ["## Left out", "\n".join(lines)] if lines else []


def _bandwidth(run: Run) -> list[str]:
    lines = []
    for row in run.rows:
        if not row.workload.bytes_touched or row.workload.ceilings:
            continue
        cells = [row.workload.name, f"{row.workload.bytes_touched / 1e6:.0f} MB"]
        for name in ("adjoint", row.peer()):
            seconds = row.median(name) if name else None
            if seconds is None:
                cells.append("-")
                continue
            rate = row.workload.bytes_touched / seconds / 1e9
            by = "" if name == "adjoint" else f", {name}"
            cells.append(f"{rate:.1f} GB/s ({rate / run.machine.bandwidth.read:.0%} of read){by}")
        lines.append(cells)
    if not lines:
        return []
    return [
        "## Against the memory",
        "The least a step has to move (every input read once, every output written once) over the "
        "time it took, beside the rate at which NumPy reads on this machine.",
        _table(["workload", "least traffic", "adjoint", "fastest peer"], lines),
    ]


def _ceilings(run: Run) -> list[str]:
    lines = []
    for row in run.rows:
        workload = row.workload
        work, unit = (workload.flops, "GFLOP/s") if workload.flops else (workload.bytes_touched, "GB/s")
        for ceiling in workload.ceilings:
            highest = row.median(ceiling)
            if highest is None:
                continue
            cells = [workload.name, f"{work / highest / 1e9:.1f} {unit} of {ceiling}"]
            for name in ("adjoint", row.peer()):
                seconds = row.median(name) if name else None
                if seconds is None:
                    cells.append("-")
                    continue
                by = "" if name == "adjoint" else f", {name}"
                cells.append(f"{work / seconds / 1e9:.1f} {unit} ({highest / seconds:.0%}){by}")
            lines.append(cells)
    if not lines:
        return []
    return [
        "## Against the machine",
        "A kernel that does as many multiply-adds, or reads or copies as many bytes, and nothing else takes its turns with the "
        "libraries. Counted are additions and multiplications, or every input read once and every output written once, over the "
        "time a step took, calling and reading the result included.",
        _table(["workload", "the machine", "adjoint", "fastest peer"], lines),
    ]


def _limits(run: Run) -> list[str]:
    if not run.limits:
        return []
    lines = [
        [
            limit.title,
            "-" if limit.value is None else f"{limit.value:.3g} {limit.unit}".strip(),
            f"{limit.limit:g} {limit.unit}".strip(),
            limit.verdict(),
            limit.note,
        ]
        for limit in run.limits
    ]
    return ["## Start and counts", _table(["figure", "found", "at most", "", "note"], lines)]


def as_json(run: Run) -> dict:
    """Everything in the run, single batches included, as plain JSON values."""
    return {
        "date": run.date,
        "threads": run.threads,
        "machine": asdict(run.machine),
        "versions": run.versions,
        "missing": run.missing,
        "misses": run.misses(),
        "rows": [
            {
                "name": row.workload.name,
                "asks": [
                    {**asdict(ask), "peer": row.peer(ask), "ratio": row.ratio(ask), "verdict": row.verdict(ask)}
                    for ask in row.workload.asks
                ],
                "median_s": {name: row.median(name) for name in row.batches},
                "batches_s": row.batches,
                "absent": row.absent,
                "wrong": row.wrong,
                "tolerance_used": row.worst,
            }
            for row in run.rows
        ],
        "limits": [asdict(limit) | {"verdict": limit.verdict()} for limit in run.limits],
    }
