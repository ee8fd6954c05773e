"""Imports go down the pipeline only.

Each module or package directly below `adjoint` has a place in `ORDER`; it may import from its own
place and from later ones. What a function imports when it runs is held to the same order, except
for the few pairs in `LATE`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import adjoint

pytestmark = pytest.mark.any_mode

PACKAGE = Path(adjoint.__file__).parent

ORDER = (
    ("cli", "__main__", "__config__", "testing"),
    ("demo",),
    ("_dynamo",),
    ("compiler",),
    ("hub", "serialization", "_higher_order_ops"),
    ("nn", "optim", "distributions", "io", "utils", "viz", "profiler"),
    ("functional", "replace"),
    ("adjoint",),  # the public names
    ("foreach", "types"),
    ("methods", "printing", "linalg", "fft", "random", "special", "amp", "cuda", "xpu", "mps", "cpu", "accelerator", "backends", "jit", "fx",
     "distributed", "settings", "checks", "library", "overrides", "_C", "multiprocessing"),
    ("autograd", "func"),
    ("batch",),
    ("grad",),
    ("ops",),
    ("trace",),
    ("runtime",),
    ("codegen",),
    ("schedule",),
    ("rewrite",),
    ("ir",),
    ("storage",),
    ("dtypes", "layouts", "config", "_version", "version", "absent", "nowhere", "hardware", "return_types"),
)
PLACE = {name: place for place, names in enumerate(ORDER) for name in names}
LATE = {
    ("dtypes", "trace"): "finfo() is that of the default dtype",
    ("adjoint", "nn"): "torch.softmax is the function of nn.functional",
    ("methods", "nn"): "Tensor.softmax is the function of nn.functional",
}


def unit(file: Path) -> str:
    first = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "adjoint" if first == "__init__" else first


def imports(source: str) -> list[tuple[str, bool]]:
    """(what is imported directly below `adjoint`, or "adjoint" itself; whether only when a function
    runs)."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, late: bool) -> None:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "adjoint":
            names = [f"adjoint.{a.name}" if f"{a.name}" in PLACE else "adjoint" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module or ""]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "adjoint":
                found.append((rest.split(".")[0] or "adjoint", late))
        if (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        ):
            return
        inside = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def wrong_imports(name: str, source: str) -> list[str]:
    wrong = []
    for other, late in imports(source):
        upward = PLACE[other] < PLACE[name]
        if upward and not (late and (name, other) in LATE):
            wrong.append(f"{name} imports {other}" + (" when it runs" if late else ""))
    return wrong


def test_every_module_has_a_place() -> None:
    modules = {unit(f) for f in PACKAGE.glob("*.py")} | {
        unit(f) for f in PACKAGE.glob("*/__init__.py")
    }
    assert modules - set(PLACE) == set()


def test_imports_go_down() -> None:
    wrong = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        found = wrong_imports(unit(file), file.read_text())
        if found:
            wrong[str(file.relative_to(PACKAGE))] = found
    assert wrong == {}


def test_an_import_upward_is_found() -> None:
    assert wrong_imports("ir", "from adjoint.trace import recorder") == ["ir imports trace"]
    assert wrong_imports("ops", "def f():\n    import adjoint.grad.walk") == [
        "ops imports grad when it runs"
    ]
    assert wrong_imports("trace", "from adjoint import nn") == ["trace imports nn"]
    assert wrong_imports("ops", "from adjoint import float32") == ["ops imports adjoint"]
    assert (
        wrong_imports("grad", "from adjoint.ops.shape import flip\nfrom adjoint import dtypes")
        == []
    )
    assert wrong_imports("methods", "from adjoint import nn") == ["methods imports nn"]


def test_allowed_exceptions_are_used() -> None:
    used = {
        (unit(f), other)
        for f in PACKAGE.rglob("*.py")
        for other, late in imports(f.read_text())
        if late
    }
    assert set(LATE) <= used
