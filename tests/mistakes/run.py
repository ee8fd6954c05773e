"""Plants the mistakes of `table.py` one at a time and asks the test suite; prints a Markdown table.

    python tests/mistakes/run.py [NAME ...] [--jobs N] [--workers N] [--likely]

Each mistake gets a copy of the project of its own, with a machine-code cache of its own, in which the tests run as
`.ci/run` runs them: all of them compiled, then all of them with ADJOINT_EAGER=1, without PyTorch. Two things only are
different: the folders that test what was changed come first, and the first failure ends it. A test that fails is then
run again in the copy as it was without the mistake, where it must pass. The answer is 1 if fewer than 29 of 30 are caught.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from table import MISTAKES, Mistake

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = Path(__file__).resolve().parent / "plugins"
LEFT_BEHIND = shutil.ignore_patterns(".*_cache", ".git", ".test-venv", ".venv", "__pycache__", "mistakes")
LIMIT = 1800.0  # seconds for one run of tests; a hang is noticed too, and said to be one

# Where to look first: the tests of every beginning of the changed file's name, the longest first.
LIKELY = {
    "grad": ("tests/grad", "tests/autograd"),
    "grad/walk": ("tests/autograd/test_backward.py", "tests/trace/test_history.py"),
    "rewrite": ("tests/rewrite",),
    "schedule": ("tests/schedule", "tests/codegen"),
    "codegen": ("tests/codegen/test_kernels.py", "tests/schedule"),
    "codegen/conv": ("tests/codegen/test_conv.py",),
    "codegen/conv_depth": ("tests/codegen/test_depthwise.py",),
    "codegen/conv_groups": ("tests/codegen/test_depthwise.py",),
    "codegen/conv_windows": ("tests/codegen/test_depthwise.py",),
    "codegen/nest": ("tests/codegen/test_kernels.py", "tests/trace/test_in_place.py", "tests/schedule"),
    "codegen/tiling": ("tests/codegen/test_kernels.py", "tests/ops/test_indexing.py", "tests/schedule"),
    "codegen/gemm": ("tests/codegen/test_gemm.py",),
    "codegen/accesses": ("tests/codegen/test_kernels.py", "tests/codegen/test_columns.py"),
    "runtime": ("tests/runtime",),
    "runtime/in_place": ("tests/trace/test_in_place.py",),
    "runtime/program": ("tests/runtime/test_program.py", "tests/schedule"),
    "runtime/scheduled": ("tests/runtime/test_program.py", "tests/schedule"),
    "runtime/plan_cache": ("tests/runtime/test_plan_cache.py",),
    "runtime/facts": ("tests/profiler",),
    "runtime/memory": ("tests/runtime/test_memory.py",),
    "runtime/jit": ("tests/runtime/test_jit.py", "tests/runtime/test_disk_cache.py"),
    "runtime/pool": ("tests/runtime/test_pool.py",),
    "trace": ("tests/trace", "tests/autograd"),
    "trace/lower": ("tests/runtime/test_plan_cache.py", "tests/trace"),
    "trace/macro": ("tests/trace/test_stale.py", "tests/trace/test_loops.py", "tests/optim"),
    "trace/many": ("tests/trace/test_stale.py", "tests/optim"),
    "trace/recorder": ("tests/trace/test_stale.py", "tests/autograd/test_backward.py", "tests/compiler/test_values_read.py", "tests/trace/test_sharing.py"),
    "trace/views": ("tests/trace/test_sharing.py", "tests/trace/test_view_programs.py"),
    "trace/moves": ("tests/trace/test_views.py", "tests/trace/test_view_programs.py"),
    "trace/ending": ("tests/trace/test_errors.py", "tests/trace"),
    "trace/history": ("tests/trace/test_history.py", "tests/autograd/test_past.py"),
    "trace/repeat": ("tests/trace/test_loops.py", "tests/autograd/test_cuts.py"),
    "trace/native_elements": ("tests/trace/test_native_elements.py", "tests/trace/test_elements.py"),
    "trace/native_end": ("tests/trace/test_native_end.py",),
    "trace/native": ("tests/trace/test_native.py", "tests/trace/test_stale.py"),
    "ops": ("tests/ops",),
    "ops/index": ("tests/ops/test_indexing.py",),
    "ops/gather": ("tests/ops/test_axes.py", "tests/ops/test_indexing.py"),
    "ops/generators": ("tests/ops/test_generators.py",),
    "compiler": ("tests/compiler",),
    "compiler/quick": ("tests/compiler/test_quick.py",),
    "compiler/steps": ("tests/compiler/test_steps.py",),
    "autograd": ("tests/autograd", "tests/trace"),
    "autograd/engine": ("tests/autograd/test_backward.py", "tests/autograd/test_in_place.py", "tests/trace/test_threads.py"),
    "nn": ("tests/nn",),
    "nn/functional": ("tests/nn/test_nn_functions.py",),
    "optim": ("tests/optim/test_optimizers.py", "tests/compiler/test_values_read.py"),
}


class Verdict(NamedTuple):
    """caught: whether a test failed with the mistake and passes without it.  by: which, or what happened instead."""

    caught: bool
    by: str
    seconds: float


def tests_run(copy: Path, arguments: tuple[str, ...], eager: bool = False, limit: float = LIMIT) -> tuple[str, list[str]]:
    """How a run of tests in `copy` went ("passed", "failed", "hung"), and which of them failed."""
    with tempfile.TemporaryDirectory(prefix="mistake-run-") as scratch:
        witness = Path(scratch) / "failed"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ADJOINT_")} | {
            "PYTHONPATH": os.pathsep.join([str(PLUGINS), str(copy)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ADJOINT_CACHE_DIR": str(Path(scratch) / "code"),
            "ADJOINT_EAGER": str(int(eager)),
            "MISTAKES_WITNESS": str(witness),
            "TMPDIR": scratch,
        }
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "witness", *arguments]
        process = subprocess.Popen(
            command, cwd=copy, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            code = process.wait(limit)
            how = "passed" if code in (0, 5) else "failed"  # 5: no test was asked for
        except subprocess.TimeoutExpired:
            how = "hung"
        finally:
            with contextlib.suppress(ProcessLookupError):  # workers and what tests started go with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        failed = witness.read_text(encoding="utf-8").splitlines() if witness.exists() else []
        return how, failed


def stages(mistake: Mistake, likely_only: bool) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """(reference mode, arguments of pytest) of the runs that together are what CI runs, likeliest first."""
    before: tuple[str, ...] = ()
    for beginning in sorted([b for b in LIKELY if mistake.file.startswith(b)], key=len, reverse=True):
        yield False, (*LIKELY[beginning], *(f"--ignore={path}" for path in before if path not in LIKELY[beginning]))
        before += LIKELY[beginning]
    yield True, before
    if not likely_only:
        for eager in (False, True):
            yield eager, tuple(f"--ignore={path}" for path in before)


def judge(mistake: Mistake, workers: str, likely_only: bool) -> Verdict:
    """Plant one mistake in a copy of the project and run the tests."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mistake-") as folder:
        copy = Path(folder) / "adjoint"
        shutil.copytree(ROOT, copy, ignore=LEFT_BEHIND)
        target = copy / "adjoint" / mistake.file
        right = target.read_text(encoding="utf-8")
        wrong = right.replace(mistake.old, mistake.new)
        assert right.count(mistake.old) == 1 and wrong != right, mistake.name
        target.write_text(wrong, encoding="utf-8")
        unsteady: list[str] = []  # what fails without the mistake too, on a busy machine perhaps
        for eager, arguments in stages(mistake, likely_only):
            mode = " (reference mode)" if eager else ""
            while True:
                skipped = [f"--deselect={test}" for test in unsteady]
                how, failed = tests_run(copy, ("-x", "-n", workers, *arguments, *skipped), eager)
                if how == "passed":
                    break
                if how == "hung":
                    return Verdict(True, f"a hang{mode}", time.monotonic() - began)
                if not failed:
                    return Verdict(True, f"no test could begin{mode}", time.monotonic() - began)
                target.write_text(right, encoding="utf-8")
                for test in failed:
                    if tests_run(copy, ("-n", "0", test), eager)[0] == "passed":
                        return Verdict(True, f"`{test}`{mode}", time.monotonic() - began)
                unsteady += failed
                target.write_text(wrong, encoding="utf-8")
        return Verdict(False, "not caught", time.monotonic() - began)


def row(mistake: Mistake, verdict: Verdict) -> str:
    by = verdict.by.replace("|", "\\|")
    at_first = "test added" if mistake.added else "caught"
    return f"| {mistake.name} | {mistake.kind} | `{mistake.file}` | {mistake.breaks} | {by} | {at_first} |"


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant mistakes one at a time and see which tests notice.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mistakes to plant; all of them if none is named")
    parser.add_argument("--jobs", type=int, default=1, help="mistakes tried at the same time")
    parser.add_argument("--workers", default="2", help="pytest-xdist workers of each")
    parser.add_argument("--likely", action="store_true", help="only the folders that test what was changed")
    given = parser.parse_args()
    known = {m.name: m for m in MISTAKES}
    unknown = [n for n in given.names if n not in known]
    if unknown:
        parser.error(f"no mistake is called {', '.join(unknown)}; known are {', '.join(known)}")
    chosen = [known[n] for n in given.names] or MISTAKES
    verdicts: dict[str, Verdict] = {}

    def attempt(mistake: Mistake) -> None:
        verdict = verdicts[mistake.name] = judge(mistake, given.workers, given.likely)
        print(f"{verdict.seconds:6.0f} s  {mistake.name}: {verdict.by}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(attempt, chosen))
    print("| mistake | kind | file | what breaks | caught by | at first |\n|---|---|---|---|---|---|")
    print("\n".join(row(m, verdicts[m.name]) for m in chosen))
    caught = sum(v.caught for v in verdicts.values())
    print(f"\n{caught} of {len(chosen)} caught.")
    return 0 if 30 * caught >= 29 * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
