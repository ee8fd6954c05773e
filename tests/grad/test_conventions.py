"""docs/conventions.md is true: every row of its tables, run in Adjoint and, where installed, in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch

PAGE = Path(__file__).parents[2] / "docs" / "conventions.md"
NUMBERS = {"nan": float("nan"), "inf": float("inf")}


@dataclass(frozen=True)
class Row:
    """One row: what is claimed. operands, gradients: texts, in order; pytorch: "same" or how it differs."""

    what: str
    expression: str
    operands: tuple[str, ...]
    value: str
    gradients: str
    pytorch: str


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if not line.startswith("| ") or line.startswith("| what"):
            continue
        what, expression, x, y, value, gradient, theirs = (
            cell.strip() for cell in line.strip("|").split(" |")
        )
        yield Row(
            what, expression.strip("`"), tuple(o for o in (x, y) if o), value, gradient, theirs
        )


ROWS = list(rows())


def numbers(text: str) -> Any:
    return eval(text, {"__builtins__": {}}, NUMBERS)


def run(library: Any, row: Row) -> tuple[Any, Any]:
    """(value, gradients), or (name of the exception, "-")."""
    names = {"torch": library}
    leaves = []
    for name, text in zip("xy", row.operands, strict=False):
        names[name] = library.tensor(np.array(numbers(text), dtype=np.float64), requires_grad=True)
        leaves.append(names[name])
    try:
        out = eval(row.expression, {"float": float, **names})
        value = np.array(out.detach().tolist(), dtype=np.float64)
    except Exception as error:
        found = [kind.__name__ for kind in type(error).__mro__]
        return next(k for k in found if not k.startswith("_") and k not in ("LinAlgError", "IndexOutOfRange")), "-"
    if not out.requires_grad:
        return value, "-"
    out.sum().backward()
    return value, [np.array(v.grad.tolist(), dtype=np.float64) for v in leaves]


def agree(got: tuple[Any, Any], row: Row) -> str:
    """What of a result differs from the row: "" if nothing."""
    value, gradients = got
    if row.value.endswith("Error"):
        return (
            ""
            if isinstance(value, str) and value == row.value
            else f"{value} instead of {row.value}"
        )
    if isinstance(value, str):
        return f"{value} instead of a value"
    if not np.allclose(
        value, numbers(row.value), rtol=1e-7, equal_nan=True
    ) or value.shape != np.shape(numbers(row.value)):
        return f"value {value}"
    if row.gradients == "-":
        return "" if gradients == "-" else f"gradient {gradients} where there should be none"
    wanted = numbers(f"({row.gradients},)")
    if gradients == "-" or not all(
        np.allclose(g, w, rtol=1e-6, equal_nan=True) for g, w in zip(gradients, wanted, strict=True)
    ):
        return f"gradient {gradients}"
    return ""


@pytest.mark.parametrize("row", ROWS, ids=[r.what.replace(" ", "-") for r in ROWS])
def test_row_is_true(row: Row) -> None:
    assert agree(run(torch, row), row) == ""


@pytest.mark.parametrize("row", ROWS, ids=[r.what.replace(" ", "-") for r in ROWS])
def test_claim_about_pytorch(row: Row) -> None:
    theirs = pytest.importorskip("torch")
    difference = agree(run(theirs, row), row)
    assert (difference == "") == (row.pytorch == "same"), (
        f"PyTorch: {difference or 'the same'}, the page says {row.pytorch!r}"
    )


def test_the_page_covers_what_it_should() -> None:
    """Reading the tables found them: a change of their form must not empty this file."""
    assert len(ROWS) > 80
    assert sum(r.pytorch == "same" for r in ROWS) > 60
    text = " ".join(r.expression for r in ROWS)
    for name in (
        "relu",
        "abs",
        "amax",
        "maximum",
        "clamp",
        "norm",
        "sqrt",
        "where",
        "prod",
        "sort",
        "argmax",
        "//",
        "%",
        "long",
        "eigh",
    ):
        assert name in text
