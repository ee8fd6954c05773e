"""Random programs give the same values and gradients compiled, in reference mode and by PyTorch.

ADJOINT_FUZZ gives the number of programs (2,000 unless told), ADJOINT_FUZZ_FROM the first seed. A
failure prints the shortest script that still fails. In reference mode there is only PyTorch to
compare with, so few programs are enough.
"""

from __future__ import annotations

import os
from dataclasses import replace

import judge
import pytest

import adjoint
from adjoint.testing.programs import Program, make_program

COUNT = int(os.environ.get("ADJOINT_FUZZ", "2000"))
FIRST = int(os.environ.get("ADJOINT_FUZZ_FROM", "0"))
CHUNK = 100
PIECES = (
    "backward(retain_graph=True)", "create_graph", "no_grad", "for ", "else:", "del ", "numpy()",
    "from_numpy", "zero_()", "func.grad", ".item()", "[places(", " @ ", ".requires_grad_()",
    "expand", "cumsum", "retain_grad", "register_hook", "optim.", "Bend.apply",
)  # fmt: skip


def explain(program: Program, first: str) -> str:
    """The failure with the shortest script, if it fails from an empty trie too."""

    def wrong(candidate: Program) -> str | None:
        judge.forget_paths()
        return judge.judge(candidate)

    if wrong(program) is None:
        return f"program {program.seed} fails only after others: {first}\n{program.source}"
    shortest = judge.minimise(program, wrong)
    return f"program {program.seed}: {wrong(shortest)}\n\n{shortest.script()}"


@pytest.mark.parametrize("start", range(FIRST, FIRST + COUNT, CHUNK))
def test_programs(start: int) -> None:
    size = 20 if adjoint.is_eager() else CHUNK
    for seed in range(start, min(start + size, FIRST + COUNT)):
        program = make_program(seed)
        # PyTorch judges the reference on a part of the programs: it takes as long as all the rest
        first = judge.judge(program, torch_too=seed % 4 == 0 or adjoint.is_eager())
        if first is not None:
            pytest.fail(explain(program, first), pytrace=False)


def test_programs_do_something() -> None:
    """Most programs end without raising, see values, and differentiate; few are too ill-conditioned
    to judge."""
    programs = [make_program(seed) for seed in range(150)]
    seen = [judge.run_reference(p, 0) for p in programs]
    assert sum(judge.refused(s[-1:]) for s in seen) < 5
    assert sum(len(s) for s in seen) > 1000
    assert sum(isinstance(x, tuple) and len(x) == 4 and x[2] for s in seen for x in s) > 200
    text = "\n".join(p.source for p in programs)
    for piece in PIECES:
        assert piece in text, piece
    assert sum(judge.ill_conditioned(p, 0) for p in programs[:60]) < 6


def test_same_number_same_program() -> None:
    assert make_program(17).source == make_program(17).source != make_program(18).source


def test_judge_sees_a_wrong_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge and the minimiser find a planted fault (here: what compiled code observes is
    changed)."""
    if adjoint.is_eager():
        pytest.skip("compares compiled with reference mode")
    plain = judge.run

    def wrong_run(candidate: Program, library: object, seed: int, nudge: float = 0.0) -> list:
        if library is adjoint and not adjoint.is_eager() and ".tanh()" in candidate.source:
            candidate = replace(
                candidate,
                blocks=[
                    [line.replace(".tanh()", ".sin()") for line in b] for b in candidate.blocks
                ],
            )
        return plain(candidate, library, seed, nudge)

    monkeypatch.setattr(judge, "run", wrong_run)
    monkeypatch.setattr(judge, "ill_conditioned", lambda program, seed: False)
    program = next(p for p in map(make_program, range(50)) if judge.judge(p) is not None)
    shortest = judge.minimise(program, judge.judge)
    assert judge.judge(shortest) is not None
    assert len(shortest.source) < len(program.source) / 2
    assert ".tanh()" in shortest.source
    compile(shortest.script(), "script", "exec")
