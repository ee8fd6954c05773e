"""What a new process pays: the import, and the first training step.

Both are measured in child processes, alternating between libraries, since a process can be new only
once. The first step is measured twice over: with empty cache folders, and again with the machine
code that the first run left on disk. Read `startup_limits` first.
"""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .record import Limit

ROOT = Path(__file__).resolve().parents[1]
IMPORT_LIMIT = 0.06
# workload: what its first step is called, and the limits with empty caches and with machine code on disk
FIRST_STEPS = {"mlp8": ("MLP training step", 0.6, 0.1), "gpt": ("GPT training step", 3.0, 0.3)}
PATIENCE = 120  # seconds for one child

# A bare script: were this module imported in the child, it would have loaded much of the standard
# library already, and the import that is measured would look cheaper than it is.
TIME_IMPORT = """
import sys, time, numpy
begin = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - begin)
"""


BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode")


class ChildFailed(Exception):
    """A child process ended badly; the message is the last line it wrote."""


def run_child(arguments: Sequence[str], cache: str | None = None) -> Any:
    """Run Python in the project's root and return the JSON value it printed last.

    `cache` names a folder that takes the place of the home and cache folders, so that nothing
    compiled by an earlier run is found.
    """
    environment = dict(os.environ)
    # As in any installation, modules are compiled to bytecode once; a first child, not timed, does it.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = BYTECODE.name
    if cache is not None:
        # Packages installed for the user alone live below the home folder that is hidden here.
        environment["PYTHONUSERBASE"] = site.getuserbase()
        environment |= {"HOME": cache, "XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache}
        environment["ADJOINT_CACHE_DIR"] = os.path.join(cache, "adjoint")
        environment.pop("ADJOINT_CACHE", None)
        environment.pop("ADJOINT_CACHE_BYTES", None)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"no end after {PATIENCE} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ChildFailed(lines[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def startup_limits(names: Sequence[str], missing: dict[str, str], quick: bool) -> list[Limit]:
    """Import time over NumPy and first training step, Adjoint judged, the others for comparison.

    A quick measurement leaves the comparison out.
    """
    shown = ("adjoint",) if quick else ("adjoint", "torch", "jax")
    names = [name for name in shown if name in names]
    rounds = 3 if quick else 7
    imports: dict[str, list[float]] = {name: [] for name in names}
    cold: dict[str, dict[str, list[float]]] = {w: {name: [] for name in names} for w in FIRST_STEPS}
    warm: dict[str, dict[str, list[float]]] = {w: {name: [] for name in names} for w in FIRST_STEPS}
    failures = dict(missing)
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            try:
                _seconds(["-c", TIME_IMPORT, name])
                _seconds(["-m", __name__, name, "mlp8"], cache)
            except ChildFailed as error:
                failures[name] = str(error)
    for _ in range(rounds):
        for name in names:
            try:
                imports[name].append(_seconds(["-c", TIME_IMPORT, name]))
            except ChildFailed as error:
                failures[name] = str(error)
    for _ in range(2 if quick else 5):
        for workload in FIRST_STEPS:
            for name in names:
                with tempfile.TemporaryDirectory() as cache:
                    try:
                        cold[workload][name].append(_seconds(["-m", __name__, name, workload], cache))
                        warm[workload][name].append(_seconds(["-m", __name__, name, workload], cache))
                    except ChildFailed as error:
                        failures[name] = str(error)
    why = failures.get("adjoint", "")
    failed = bool(why) and "adjoint" in names

    def limit(key: str, title: str, times: dict[str, list[float]], most: float) -> Limit:
        had = bool(times.get("adjoint"))
        return Limit(key, title, median(times["adjoint"]) if had else None, most, "s", _beside(times) if had else why, failed)

    found = [limit("import", "`import adjoint` after `import numpy`, new process", imports, IMPORT_LIMIT)]
    for workload, (title, most_cold, most_warm) in FIRST_STEPS.items():
        found.append(limit(f"first_{workload}", f"first {title} in a new process, empty caches", cold[workload], most_cold))
        found.append(limit(f"warm_{workload}", "the same once more, with the files that the first left", warm[workload], most_warm))
    return found


def _beside(times: dict[str, list[float]]) -> str:
    """The other libraries' medians, in words."""
    others = ((name, median(t)) for name, t in times.items() if t and name != "adjoint")
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in others)


def _seconds(arguments: Sequence[str], cache: str | None = None) -> float:
    seconds = run_child(arguments, cache)
    if not isinstance(seconds, float):
        raise ChildFailed(f"printed {seconds!r} in place of seconds")
    return seconds


def _time_first_step(name: str, workload: str) -> float:
    """Seconds from "the library is imported" to "one step is done and its loss and weights read".

    Building the network and the optimizer counts, because a user waits for that too.
    """
    import importlib

    import numpy as np

    from .workloads import ALL

    chosen = next(w for w in ALL if w.name == workload)
    data = chosen.make(np.random.default_rng(0))
    library = importlib.import_module(name)
    if name == "jax":
        importlib.import_module("jax.numpy")
    begin = time.perf_counter()
    case = chosen.builders[name](library, data)
    case.step()
    case.read()
    return time.perf_counter() - begin


if __name__ == "__main__":
    print(json.dumps(_time_first_step(*sys.argv[1:])))
