"""The command line: `adjoint demo`, `adjoint run`, `adjoint env`, `adjoint why`, `adjoint profile`, `adjoint cache`, `adjoint --version`.

Exit codes: 0 all went well; 1 the command ran and found something wrong; 2 wrong usage or a file
that cannot be written; 130 interrupted. Results go to stdout, progress and complaints to stderr.
Read `main`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import runpy
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import adjoint as torch
from adjoint._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return options.run(options)
    except BrokenPipeError:
        # The reader (head, less) has left; leave quietly instead of failing at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except OSError as problem:
        print(f"adjoint {options.command}: {problem}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adjoint", description="Tensors and gradients, compiled as they run."
    )
    parser.add_argument("--version", action="version", version=f"adjoint {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")

    demo = commands.add_parser(
        "demo",
        help="train a small network on handwritten digits and write a report",
        description="Train a small convolutional network on 1,437 handwritten digits, test it "
        "on 360 others, save and reload it, and write a report to look at in a browser.",
    )
    demo.add_argument(
        "--epochs", type=_positive, default=15, help="passes over the data (%(default)s)"
    )
    demo.add_argument("--out", default="adjoint-demo", help="folder for the files (%(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    demo.add_argument(
        "--least",
        type=_share,
        default=0.97,
        metavar="SHARE",
        help="exit with 1 below this held-out accuracy, 0 to 1 (%(default)s)",
    )
    demo.add_argument("--json", action="store_true", help="print the results as JSON")
    demo.set_defaults(run=_demo)

    env = commands.add_parser("env", help="print versions, processor and settings")
    env.add_argument("--json", action="store_true", help="print them as JSON")
    env.set_defaults(run=_env)

    cache = commands.add_parser(
        "cache",
        help="show or clear the machine code kept on disk",
        description="Show the machine code that earlier processes left on disk. What a running "
        'process found there is in adjoint.stats()["cache"].',
    )
    cache.add_argument("--clear", action="store_true", help="remove it")
    cache.add_argument("--json", action="store_true", help="print as JSON")
    cache.set_defaults(run=_cache)

    run = commands.add_parser(
        "run",
        help="run a script in which `import torch` gives Adjoint",
        description="Run a Python script that was written for PyTorch, or for a library that imports it, with Adjoint in its place.",
    )
    run.add_argument("script", help="the file to run")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="what it finds in sys.argv")
    run.set_defaults(run=_run)

    why = commands.add_parser(
        "why",
        help="run a script and report why its programs were compiled",
        description="Run a Python script, then print for each of the last programs why it was compiled, what "
        "that cost, and after how many runs it is paid back.",
    )
    why.add_argument("--last", type=_positive, default=20, metavar="N", help="programs to report (%(default)s)")
    why.add_argument("script", help="the file to run")
    why.add_argument("arguments", nargs=argparse.REMAINDER, help="what it finds in sys.argv")
    why.set_defaults(run=_why)

    profile = commands.add_parser(
        "profile",
        help="run a script and report where its time goes",
        description="Run a Python script under torch.profiler, then print its kernels beside what this machine can do, and where "
        "the rest of the time went.",
    )
    profile.add_argument("--trace", metavar="FILE", help="write a Chrome trace (JSON) for https://ui.perfetto.dev")
    profile.add_argument("--picture", metavar="FILE", help="write the roofline as a picture (SVG)")
    profile.add_argument("--rows", type=_positive, default=20, metavar="N", help="rows of each table (%(default)s)")
    profile.add_argument("script", help="the file to run")
    profile.add_argument("arguments", nargs=argparse.REMAINDER, help="what it finds in sys.argv")
    profile.set_defaults(run=_profile)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {value}")
    return value


def _demo(options: argparse.Namespace) -> int:
    from adjoint.demo import run_demo  # the report's parts load only when they are wanted

    outcome = run_demo(options.out, epochs=options.epochs, seed=options.seed)
    enough = outcome.accuracy >= options.least
    if options.json:
        print(json.dumps(outcome.as_dict(), indent=2))
    else:
        print(
            f"{outcome.right} of {outcome.held_out} held-out digits read correctly "
            f"({outcome.accuracy:.1%}), {outcome.steps} steps in {outcome.train_seconds:.2f} s"
        )
        print(f"model   {outcome.model_file}")
        print(f"report  {outcome.report_file}")
    if not outcome.reload_identical:
        print("adjoint demo: the reloaded model gives other scores", file=sys.stderr)
    if not enough:
        print(
            f"adjoint demo: accuracy {outcome.accuracy:.1%} is below {options.least:.1%}",
            file=sys.stderr,
        )
    return 0 if enough and outcome.reload_identical else 1


def _env(options: argparse.Namespace) -> int:
    facts = environment()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
        print(f"{key.replace('_', ' '):14} {value}")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from adjoint.runtime import disk_cache

    facts: dict[str, Any] = {}
    if options.clear:
        try:
            facts["removed_entries"], facts["removed_bytes"] = disk_cache.clear()
        except disk_cache.Refused as problem:
            print(f"adjoint cache: nothing removed: {problem}", file=sys.stderr)
            return 1
    facts |= disk_cache.describe()
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    if options.clear:
        print(f"removed {facts['removed_entries']} entries, {facts['removed_bytes']:,} bytes")
    else:
        print(f"directory  {facts['directory']}")
        print(f"state      {facts['state']}")
        print(f"entries    {facts['entries']:,}")
        print(f"bytes      {facts['bytes']:,} of at most {facts['bound']:,}")
    return 0


def _run(options: argparse.Namespace) -> int:
    torch.replace_torch()
    return _run_script(options)


def _why(options: argparse.Namespace) -> int:
    try:
        return _run_script(options)
    finally:
        print(torch.why(options.last))


def _profile(options: argparse.Namespace) -> int:
    """The report is printed also where the script fails; FILEs are tried first, since a long run may come before."""
    for path in filter(None, (options.trace, options.picture)):
        with open(path, "w", encoding="utf-8"):
            pass
    prof = torch.profiler.profile(record_shapes=True)
    try:
        with prof:
            return _run_script(options)
    finally:
        if options.trace:
            prof.export_chrome_trace(options.trace)
        if options.picture:
            prof.picture(options.picture)
        print(prof.roofline().table(row_limit=options.rows))
        print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=options.rows))
        for name, path in (("trace", options.trace), ("picture", options.picture)):
            if path:
                print(f"{name:8} {path}")


def _run_script(options: argparse.Namespace) -> int:
    """Run the script as `python script` would; its own exit code is the command's."""
    before = sys.argv, sys.path[0]
    sys.argv, sys.path[0] = [options.script, *options.arguments], os.path.dirname(os.path.abspath(options.script))
    code = 0
    try:
        runpy.run_path(options.script, run_name="__main__")
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv, sys.path[0] = before
    return code


def environment() -> dict[str, Any]:
    """Versions, processor and settings, as they matter for a report of a fault or a measurement."""
    facts: dict[str, Any] = {
        "adjoint": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        "numpy": _version("numpy"),
        "llvmlite": _version("llvmlite"),
    }
    facts.update(_processor())
    facts["threads"] = torch.get_num_threads()
    facts["settings"] = {k: v for k, v in sorted(os.environ.items()) if k.startswith("ADJOINT_")}
    return facts


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> dict[str, Any]:
    """What LLVM says about this machine; without llvmlite, what Python knows."""
    cores = {"cores": os.cpu_count()}
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return {"processor": platform.processor() or platform.machine(), **cores}
    features = llvm.get_host_cpu_features()
    vector = [f for f in ("avx512f", "avx2", "avx", "sse2", "neon", "sve") if features.get(f)]
    version = ".".join(map(str, llvm.llvm_version_info))
    return {
        "llvm": version,
        "processor": f"{llvm.get_host_cpu_name()} ({platform.machine()})",
        "vectors": ", ".join(vector) or "none known",
        **cores,
    }
