"""The table of planted mistakes stays applicable. Whether they are caught is what `run.py` finds out."""

from __future__ import annotations

from pathlib import Path

import pytest
from table import MISTAKES, Mistake

import adjoint

PACKAGE = Path(adjoint.__file__).parent
LAYERS = {"compiler", "grad", "rewrite", "schedule", "codegen", "runtime", "trace", "ops", "autograd", "nn", "optim"}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: m.name)
def test_mistake_can_be_planted(mistake: Mistake) -> None:
    text = (PACKAGE / mistake.file).read_text(encoding="utf-8")
    assert text.count(mistake.old) == 1
    wrong = text.replace(mistake.old, mistake.new)
    assert wrong != text
    compile(wrong, mistake.file, "exec")


def test_names_are_unique_and_every_layer_has_some() -> None:
    assert len({m.name for m in MISTAKES}) == len(MISTAKES) >= 30
    assert {m.file.split("/")[0] for m in MISTAKES} == LAYERS
    assert all(m.kind and m.breaks for m in MISTAKES)
