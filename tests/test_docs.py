"""Documentation that runs: docstring examples, the README's blocks, the worked example of architecture.md."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import adjoint as torch
from adjoint import config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = sorted(
    {"adjoint"}
    | {m.name for m in pkgutil.walk_packages(torch.__path__, "adjoint.")} - {"adjoint.__main__"}
)
PUBLIC = sorted(
    name
    for name in dir(torch)
    if not name.startswith("_") and callable(getattr(torch, name))
)
LIBRARIES = [
    "adjoint." + name
    for name in "nn nn.functional nn.init optim optim.lr_scheduler utils.data distributions io linalg special return_types fft viz "
    "autograd autograd.functional func profiler".split()
]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(autouse=True)
def settled():
    """Examples may set a seed, a mode or print options; the next one starts afresh."""
    torch.manual_seed(0)
    yield
    torch.set_printoptions(profile="default")
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


def run_examples(target: object, name: str, module: object = None) -> int:
    """Run what `target`'s docstrings show; the number of lines tried. Fails with doctest's report."""
    finder = doctest.DocTestFinder(recurse=module is not None)
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    report = io.StringIO()
    for test in finder.find(target, name, module=module if module is not None else False):
        test.globs["torch"] = torch
        runner.run(test, out=report.write)
    assert not runner.failures, report.getvalue()
    return runner.tries


@pytest.mark.parametrize("name", MODULES)
def test_module_examples(name: str) -> None:
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), f"{name} does not say what lives in it"
    run_examples(module, name, module)


def test_public_examples() -> None:
    """Functions made from tables are in no module's namespace under their own name."""
    for name in PUBLIC:
        run_examples(getattr(torch, name), name)


def test_every_public_function_says_what_it_does_and_shows_it() -> None:
    functions = [n for n in PUBLIC if inspect.isroutine(getattr(torch, n))]
    assert len(functions) > 200
    without = [n for n in functions if ">>>" not in (getattr(torch, n).__doc__ or "")]
    assert without == []


def public_of(library: str) -> list[str]:
    module = importlib.import_module(library)
    return list(getattr(module, "__all__", [n for n in dir(module) if not n.startswith("_")]))


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_say_what_they_offer(library: str) -> None:
    module = importlib.import_module(library)
    names = public_of(library)
    assert names
    assert [n for n in names if callable(getattr(module, n)) and not getattr(module, n).__doc__] == []


def test_a_wrong_example_is_found() -> None:
    def wrong() -> None:
        """
        >>> torch.tensor(1) + 1
        tensor(3)
        """

    with pytest.raises(AssertionError, match=r"Expected:\s+tensor\(3\)"):
        run_examples(wrong, "wrong")


# --- README -----------------------------------------------------------------------------------------


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of each fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_readme_examples_print_what_they_say() -> None:
    found = blocks(README)
    shown = 0
    for (language, code), (next_language, expected) in zip(found, found[1:], strict=False):
        if language != "python":
            continue
        assert next_language == "text", "every example of the README is followed by its output"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
        assert printed.getvalue() == expected
        shown += 1
    assert shown


def test_readme_lists_every_flag() -> None:
    rows = dict(re.findall(r"^\| `(ADJOINT_\w+)` \| (.+) \|$", README, re.MULTILINE))
    assert rows == {flag.name: flag.help for flag in config.FLAGS.values()}


def test_ci_runs_the_command_of_the_readme() -> None:
    commands = [code.strip() for language, code in blocks(README) if language == "sh"]
    assert len(commands) == 2, "one command for the demonstration, one for the tests"
    assert commands[1] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


# --- architecture.md --------------------------------------------------------------------------------


def test_architecture_shows_what_happens() -> None:
    pytest.importorskip("llvmlite")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_architecture.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_contract_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 50
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{test}"
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| the ", "|--"))]
    assert all("`" in row.rsplit(" | ", 1)[1] for row in rows), "every promise has its tests"


def test_architecture_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## A map of the folders")[2].partition("## ")[0]
    rows = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    places = [p.rstrip("/") for row in rows for p in re.findall(r"`([\w./]+)`", row)]
    assert len(places) > 10
    listed = {p.removesuffix(".py") for p in places}
    for place in places:
        assert (ROOT / "adjoint" / place).exists(), place
    folders = {p.name for p in (ROOT / "adjoint").iterdir() if (p / "__init__.py").exists()}
    assert folders <= listed, "every folder has its row in the map"


def test_the_benchmarks_report_names_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with its times, however many things are asked of it."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import report
    from benchmarks.record import Ask, Row, Workload

    work = Workload(
        name="some_work", title="a title", target=1.0, peers=("torch",), make=lambda rng: {}, builders={}, rtol=0, atol=(0,),
        further=(Ask(2.0, ("numpy",)),),
    )  # fmt: skip
    row = Row(work, batches={"adjoint": [0.001], "torch": [0.002], "numpy": [0.004]})
    machine: Any = None
    run = report.Run("today", 2, 1, 1.0, machine, {}, {}, [row], [])
    lines = [line for line in "\n".join(report._speed(run)).split("\n") if line.startswith("|")][2:]
    assert len(lines) == 2 and "**some_work**: a title | 1.00 ms |" in lines[0] and "2.00x torch" in lines[0]
    assert "some_work" not in lines[1] and "4.00x numpy" in lines[1]
