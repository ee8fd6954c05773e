"""Which dtypes every operation takes and gives: the stored table, and PyTorch where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance import DTYPES, QUESTIONS, answer, row

import adjoint as torch

pytestmark = pytest.mark.usefixtures("little_effort")

TABLE = dict(line.split(": ", 1) for line in Path(__file__).with_name("acceptance.txt").read_text(encoding="utf-8").splitlines())
UNSIGNED = ("uint16", "uint32", "uint64")

# Where Adjoint differs: float16 with complex numbers (PyTorch has a complex32), complex functions that are missing,
# and two refusals that PyTorch words otherwise.
DIFFERENT = {
    ("add complex", "float16"), ("add 0-d complex", "float16"), ("complex", "float16"), ("polar", "float16"),
    ("view_as_complex", "float16"), ("logaddexp", "complex64"), ("logaddexp", "complex128"), ("logsumexp", "complex64"),
    ("logsumexp", "complex128"), ("cross", "bool"), ("randint", "bool"), ("dropout", "complex64"), ("dropout", "complex128"),
}  # fmt: skip


def test_the_table_is_complete() -> None:
    assert TABLE.keys() == QUESTIONS.keys(), "python tests/ops/acceptance.py writes it anew"


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_the_table(question: str) -> None:
    assert row(torch, question) == f"{question}: {TABLE[question]}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_answers_are_those_of_pytorch(question: str) -> None:
    theirs = pytest.importorskip("torch")
    for dtype in DTYPES:
        got, want = (answer(library, question, dtype) for library in (torch, theirs))
        if (question, dtype) in DIFFERENT:
            assert got != want, f"{question} of {dtype} is on the list of differences and agrees"
            continue
        # of uint16 and its like PyTorch has few kernels; what it refuses as not implemented may be computed
        more = dtype in UNSIGNED and want == "NotImplementedError"
        assert got == want or more, f"{QUESTIONS[question]} of {dtype}: {got}, and PyTorch {want}"
