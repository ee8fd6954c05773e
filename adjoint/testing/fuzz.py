"""Many random programs, by hand: `python -m adjoint.testing.fuzz --from SEED --count N [--jobs 2] [--minimise]`.

`main` is the function to read first. Each job is a process of its own that judges a range of seeds and reports one
line of JSON for each failure; a seed that ends the process (a crash in machine code) or does not end is a failure too.
Failures are written to a folder, as scripts that run by themselves, shortened with --minimise. Programs that ever
failed are kept in `tests/fuzz/corpus`.

Most of the time goes into compiling. --light interprets programs after they were recorded, differentiated and
simplified, and so leaves out scheduling and code generation, at a fraction of the cost; the default compiles with the
least effort of the code generator.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from adjoint.testing import judge
from adjoint.testing.minimise import minimise
from adjoint.testing.programs import Program, make_program

RUNS = (0, 1)  # a new path, and other numbers on a path that is known, unless they take another turn
BATCH = 2000  # programs for one process
WORKER = ("-m", "adjoint.testing.fuzz")
PATIENCE = 120.0  # seconds for one program, or for minimising one


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adjoint.testing.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1000, help="how many programs")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--minimise", action="store_true", help="shorten what fails")
    parser.add_argument("--light", action="store_true", help="interpret programs instead of compiling them")
    parser.add_argument("--torch-every", type=int, default=4, help="every n-th program is compared to PyTorch too")
    parser.add_argument("--folder", type=Path, default=Path("fuzz-failures"), help="where failures are written")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        work(options)
        return 0
    return Campaign(options).run()


def work(options: argparse.Namespace) -> None:
    """Judge a range of seeds. Lines of JSON tell the parent which has begun and what failed."""
    warnings.simplefilter("ignore")
    prepare(options.light)
    for seed in range(options.start, options.start + options.count):
        say(seed=seed)
        program = make_program(seed)
        torch_too = options.torch_every > 0 and seed % options.torch_every == 0
        failure = judge_alone(program, torch_too)
        if failure is not None:
            say(seed=seed, failure=failure, script=program.script())
            if options.minimise:
                say(seed=seed, failure=failure, script=shorten(program, torch_too).script())
    say(done=True)


def shorten(program: Program, torch_too: bool) -> Program:
    """The shortest program that still fails; the same one if it does not always fail."""
    if any(judge_alone(program, torch_too) is None for _ in range(3)):
        return program
    return minimise(program, lambda candidate: judge_alone(candidate, torch_too))


def judge_alone(program: Program, torch_too: bool) -> str | None:
    """What the judge says, from an empty trie."""
    judge.forget_paths()
    try:
        return judge.judge(program, RUNS, torch_too)
    except Exception as error:
        return f"the judge raised {type(error).__name__}: {error}"


def prepare(light: bool) -> None:
    """Less time for compiling: none, or the least the code generator can do."""
    from adjoint.runtime import jit

    if light:
        jit.available = lambda: False
    else:
        jit.LOOPS_LEVEL = 0


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Campaign:
    """Processes over a range of seeds. failures: seed -> words."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.next = options.start
        self.end = options.start + options.count
        self.judged = 0
        self.failures: dict[int, str] = {}
        self.lock = threading.Lock()

    def run(self) -> int:
        began = time.monotonic()
        threads = [threading.Thread(target=self.work, daemon=True) for _ in range(self.options.jobs)]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            for t in threads:
                t.join(1.0 / len(threads))
            self.report(began, "\r" if sys.stdout.isatty() else "")
        self.report(began, "\n")
        for seed, failure in sorted(self.failures.items()):
            print(f"program {seed}: {failure[:200]}")
        return 1 if self.failures else 0

    def report(self, began: float, end: str) -> None:
        if end:
            rate = self.judged / max(1e-9, time.monotonic() - began)
            o = self.options
            print(
                f"seeds {o.start} to {self.end - 1}: {self.judged} judged, {rate:.0f}/s, "
                f"{len(self.failures)} failures",
                end=end,
                flush=True,
            )

    def take(self, rest: range | None) -> range | None:
        with self.lock:
            if rest is not None and len(rest):
                return rest
            start = self.next
            self.next = min(self.end, start + BATCH)
            return range(start, self.next) if start < self.next else None

    def work(self) -> None:
        rest: range | None = None
        while (seeds := self.take(rest)) is not None:
            rest = self.batch(seeds)

    def batch(self, seeds: range) -> range:
        """One process; the seeds that are left when it ended too early."""
        o = self.options
        command = [sys.executable, *WORKER, "--worker", "--from", str(seeds.start)]
        command += ["--count", str(len(seeds)), "--torch-every", str(o.torch_every)]
        command += ["--minimise"] * o.minimise + ["--light"] * o.light
        environment = {**os.environ, "ADJOINT_NUM_THREADS": os.environ.get("ADJOINT_NUM_THREADS", "2")}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        heard = [time.monotonic()]
        watch = threading.Thread(target=_watch, args=(process, lambda: heard[0]), daemon=True)
        watch.start()
        at, done = None, False
        assert process.stdout is not None
        for line in process.stdout:
            heard[0] = time.monotonic()
            try:
                what = json.loads(line)
            except ValueError:
                continue  # a program printed something
            done = done or "done" in what
            if "failure" in what:
                self.fail(what["seed"], what["failure"], what["script"])
            elif "seed" in what:
                self.judged += at is not None
                at = what["seed"]
        process.wait()
        self.judged += at is not None
        if done:
            return range(0)
        if at is None:
            at = seeds.start
        if at not in self.failures:  # else it was being shortened
            words = f"the process ended with {process.returncode}, or took more than {PATIENCE:.0f} s"
            self.fail(at, words, make_program(at).script())
        return range(at + 1, seeds.stop)

    def fail(self, seed: int, failure: str, script: str) -> None:
        with self.lock:
            self.failures[seed] = failure
            folder = self.options.folder
            folder.mkdir(parents=True, exist_ok=True)
            words = "\n".join(f"# {line}" for line in failure.split("\n"))
            (folder / f"seed-{seed}.py").write_text(f"{words}\n{script}", encoding="utf-8")


def _watch(process: subprocess.Popen, heard: Callable[[], float]) -> None:
    while process.poll() is None:
        time.sleep(1)
        if time.monotonic() - heard() > PATIENCE:
            process.kill()


if __name__ == "__main__":
    sys.exit(main())
