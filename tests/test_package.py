"""The package as installed: what importing it loads, what it needs, what it ships, what a type checker sees."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import adjoint as torch
from adjoint._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = Path(torch.__file__).parent


def child(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a new process that sees this package."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


# --- importing --------------------------------------------------------------------------------------

LOADED = """
import json, sys, numpy
before = set(sys.modules)
import adjoint
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_import_loads_little() -> None:
    loaded = json.loads(child(LOADED).stdout)
    ours = {m for m in loaded if m.split(".")[0] == "adjoint"}
    others = {m.split(".")[0] for m in loaded} - {"adjoint"}
    lazy = ("nn", "optim", "distributions", "utils", "io", "viz", "demo", "testing", "codegen", "schedule", "rewrite", "profiler")
    assert "adjoint.trace.recorder" in ours
    assert not [m for m in ours if m.split(".")[1:2] and m.split(".")[1] in lazy]
    assert others <= set(sys.stdlib_module_names) | {"numpy"}
    assert not {m.split(".")[0] for m in loaded} & {"llvmlite", "scipy", "torch", "jax"}


def test_libraries_load_when_used() -> None:
    done = child("import adjoint, sys; adjoint.nn.Linear; print('adjoint.nn' in sys.modules)")
    assert done.stdout.strip() == "True"


# --- what it needs ----------------------------------------------------------------------------------


def test_needs_numpy_and_llvmlite_only() -> None:
    names = {re.match(r"[\w-]+", d).group() for d in PROJECT["project"]["dependencies"]}
    assert names == {"numpy", "llvmlite"}


def test_sources_import_nothing_else() -> None:
    """Anywhere in the package, functions included; matplotlib only where somebody asks for a plot, PyTorch only as
    the fuzzer's second opinion."""
    allowed = set(sys.stdlib_module_names) | {"adjoint", "numpy", "llvmlite"}
    optional = {("viz/plot.py", "matplotlib"), ("testing/judge.py", "torch")}
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            found |= {(str(file.relative_to(PACKAGE)), n.split(".")[0]) for n in names}
    assert {(f, n) for f, n in found if n not in allowed} <= optional


WITHOUT_LLVM = """
import sys, warnings
sys.modules["llvmlite"] = sys.modules["llvmlite.binding"] = None  # importing them now fails
import adjoint as torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    x = torch.linspace(0.0, 3.0, 5000, requires_grad=True)
    for _ in range(3):
        loss = (x.sin() * x).sum() / (torch.nn.functional.softmax(x, 0) ** 2).sum()
        loss.backward()
        loss.item()
    w = torch.linalg.svd(torch.eye(3) * 2)[1]
    print(len(caught), [c.category.__name__ for c in caught])
    print(caught[0].message if caught else "")
    print(torch.stats()["kernels"], w.tolist(), x.grad[1].item())
"""


def test_without_llvmlite_numpy_computes_after_one_warning() -> None:
    count, message, results = child(WITHOUT_LLVM, ADJOINT_EAGER="0").stdout.strip().splitlines()
    assert count == "1 ['RuntimeWarning']"
    assert "llvmlite" in message
    kernels, rest = results.split(" ", 1)
    assert kernels == "0"
    values, slope = rest.rsplit(" ", 1)
    assert values == "[2.0, 2.0, 2.0]"
    x = torch.linspace(0.0, 3.0, 5000, requires_grad=True)
    for _ in range(3):
        ((x.sin() * x).sum() / (torch.nn.functional.softmax(x, 0) ** 2).sum()).backward()
    assert abs(x.grad[1].item() - float(slope)) <= 1e-4 * abs(float(slope))


# --- what it ships ----------------------------------------------------------------------------------


def test_version() -> None:
    """Which of PyTorch's it follows, for programs that ask; and its own."""
    following, build = torch.__version__.split("+")
    assert tuple(map(int, following.split("."))) >= (2, 13, 0) and build == f"adjoint{__version__}"
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\]", changes, re.MULTILINE).group(1)
    assert newest == __version__


def test_every_file_of_the_package_is_shipped() -> None:
    """Setuptools ships modules by itself and other files by pattern."""
    assert (PACKAGE / "py.typed").exists()
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["adjoint"]
    matched = {f for p in patterns for f in PACKAGE.glob(p)}
    others = {
        f
        for f in PACKAGE.rglob("*")
        if f.is_file()
        and f.suffix not in (".py", ".pyc")
        and not any(part.startswith(".") for part in f.relative_to(PACKAGE).parts)
    }
    assert others <= matched
    for module in PACKAGE.rglob("*.py"):
        assert (module.parent / "__init__.py").exists(), f"{module.parent} is not a package"


def test_typed_methods_exist() -> None:
    """`typed.pyi` declares nothing that a tensor does not have."""
    tree = ast.parse((PACKAGE / "trace" / "typed.pyi").read_text(encoding="utf-8"))
    (declared,) = (n for n in tree.body if isinstance(n, ast.ClassDef))
    names = {n.name for n in declared.body if isinstance(n, ast.FunctionDef)} - {"__getattr__"}
    assert len(names) > 100
    assert {n for n in names if not hasattr(torch.Tensor, n)} == set()
