"""The command: `python -m benchmarks [--only NAME] [--quick] [--threads N] [--json FILE]`.

Imports of anything that loads NumPy happen inside `main`, after the threads have been limited. A
full run rewrites `RESULTS.md`; a quick or partial one only prints. Exit status 1 means that a
result was wrong, not that it was slow: a missed target is a figure, and is reported as one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from .libraries import limit_threads, load, versions

RESULTS = Path(__file__).with_name("RESULTS.md")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Adjoint against NumPy, PyTorch and JAX, taking turns.",
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="a workload, `startup`, `counts`, `memory` or one of these; may be repeated; RESULTS.md is kept",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, only the peers; RESULTS.md is kept"
    )
    parser.add_argument("--threads", type=int, default=2, help="for every library (default 2)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every batch's time")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, not {options.threads}")
    options.fail = parser.error
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse(arguments)
    begin = time.perf_counter()
    threads = limit_threads(options.threads)

    from . import report
    from .counts import COUNTS, count_limits
    from .machine import describe
    from .memory import NETWORKS, memory_limits
    from .startup import startup_limits
    from .timing import FULL, QUICK, measure
    from .workloads import ALL

    known = [workload.name for workload in ALL] + ["startup", "counts", *COUNTS, "memory", *NETWORKS]
    wanted = set(options.only or known)
    if unknown := wanted - set(known):
        options.fail(f"unknown name {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    say = print

    effort = QUICK if options.quick else FULL
    machine = describe(threads, options.quick)
    modules, missing = load(threads)
    for name, why in missing.items():
        say(f"{name} is left out: {why}")
    rows = []
    for workload in ALL:
        if workload.name in wanted:
            say(f"{workload.name}: {workload.title}")
            rows.append(measure(workload, modules, effort, say))
            say("  " + report.terminal_line(rows[-1]))
    limits = []
    if "startup" in wanted:
        limits += startup_limits(list(modules), missing, options.quick)
    counts = [name for name in COUNTS if name in wanted or "counts" in wanted]
    limits += count_limits(missing, counts)
    limits += memory_limits(missing, [n for n in NETWORKS if n in wanted or "memory" in wanted])
    for limit in limits:
        value = "-" if limit.value is None else f"{limit.value:.3g} {limit.unit}".strip()
        say(f"{limit.name:20s} {limit.verdict():13s}{value} of {limit.limit:g}  {limit.note}")

    run = report.Run(
        date=time.strftime("%Y-%m-%d"),
        threads=threads,
        rounds=effort.rounds,
        seconds=time.perf_counter() - begin,
        machine=machine,
        versions=versions(modules),
        missing=missing,
        rows=rows,
        limits=limits,
    )
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(run), indent=1) + "\n", encoding="utf-8")
    if options.only is None and not options.quick:
        RESULTS.write_text(report.markdown(run), encoding="utf-8")
        say(f"wrote {RESULTS}")
    missed = run.misses()
    say(f"missed: {', '.join(missed)}" if missed else "nothing missed among what was measured")
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
