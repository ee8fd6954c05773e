"""Random programs give the same values and gradients compiled, in reference mode and by PyTorch.

ADJOINT_FUZZ gives the number of programs (200 unless told), ADJOINT_FUZZ_FROM the first seed. A
failure prints the shortest script that still fails. In reference mode there is only PyTorch to
compare with, so few programs are enough. Many more, in several processes, are run by
`python -m adjoint.testing.fuzz`.

What once failed is in `corpus/`: the statements of a program, below a comment that says what it
caught.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import adjoint
from adjoint.testing import fuzz, judge
from adjoint.testing.minimise import minimise
from adjoint.testing.programs import Program, make_program
from adjoint.trace import pieces, state

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.py"))

COUNT = int(os.environ.get("ADJOINT_FUZZ", "200"))
FIRST = int(os.environ.get("ADJOINT_FUZZ_FROM", "0"))
CHUNK = 100
PIECES = (
    "backward(retain_graph=True)", "create_graph", "no_grad", "for ", "else:", "del ", "numpy()",
    "from_numpy", "zero_()", "func.grad", ".item()", "[places(", " @ ", ".requires_grad_()",
    "expand", "cumsum", "retain_grad", "register_hook", "optim.", "Bend.apply", "nn.Linear(", "state_dict()",
    "nn.Conv1d", "register_forward_hook", "closure", "in_threads", "except Exception", "pickle.loads", "unbind",
    "look(u)", '"uint8"', "[:0]", "hessian", "create_graph=True", "Cube.apply", ".remove()", "no_grad", "next(gen",
    "lr_scheduler", "add_param_group", "eval()", "Tied(", "Counting(", "deepcopy",
)  # fmt: skip


def explain(program: Program, first: str) -> str:
    """The failure with the shortest script, if it fails from an empty trie too."""

    def wrong(candidate: Program) -> str | None:
        judge.forget_paths()
        return judge.judge(candidate)

    if wrong(program) is None:
        return f"program {program.seed} fails only after others: {first}\n{program.source}"
    shortest = minimise(program, wrong)
    return f"program {program.seed}: {wrong(shortest)}\n\n{shortest.script()}"


@pytest.mark.parametrize("start", range(FIRST, FIRST + COUNT, CHUNK))
def test_programs(start: int, request: pytest.FixtureRequest) -> None:
    eager = adjoint.is_eager()
    if eager and judge.pytorch() is None:
        pytest.skip("reference mode has only PyTorch to compare with")
    size = 20 if eager else CHUNK
    if start >= FIRST + CHUNK:  # the first hundred have the code that users get
        request.getfixturevalue("little_effort")
    for seed in range(start, min(start + size, FIRST + COUNT)):
        program = make_program(seed)
        # PyTorch judges the reference on a part of the programs: it takes as long as all the rest
        first = judge.judge(program, judge.RUNS[:1] if eager else judge.RUNS, torch_too=seed % 4 == 0 or eager)
        if first is not None:
            pytest.fail(explain(program, first), pytrace=False)


@pytest.mark.skipif(adjoint.is_eager(), reason="reference mode has nothing to cut")
@pytest.mark.parametrize("trials", [0, 2])
@pytest.mark.usefixtures("little_effort")
def test_traces_may_be_cut_anywhere(trials: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `trace.pieces` does for loops that are ever different, here at places drawn for every program; and programs run
    through NumPy before they are compiled."""
    family = pieces.Family()
    family.least = 3

    def ends_here(tr: Any, what: str) -> bool:
        node = tr.node
        if tr.static or tr.whole or tr.watch is not None or tr.eager or pieces.token_of(node) is None:
            return False
        if zlib.crc32(repr((node.depth, what)).encode()) % 3:
            return False
        node.cut = family
        return True

    judge.forget_paths()
    monkeypatch.setattr(pieces, "families", {(): family})
    monkeypatch.setattr(pieces, "ends_here", ends_here)
    monkeypatch.setattr(pieces, "note", lambda node, program, walked: None)
    monkeypatch.setattr(pieces, "may_be_rare", lambda node, walked: trials > 0)
    monkeypatch.setenv("ADJOINT_TRIALS", str(trials))
    before = state.counters["flushes"]
    try:
        for seed in range(FIRST + 40 * trials, FIRST + 40 * trials + 40):
            program = make_program(seed)
            first = judge.judge(program, torch_too=False)
            assert first is None, f"program {seed}: {first}\n{program.source}"
        assert state.counters["flushes"] - before > 1500, "hardly anything was cut"
    finally:
        monkeypatch.undo()
        judge.forget_paths()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "the first lines say what the program caught"
    program = Program(0, [text.splitlines()], precise="float32" not in text)
    judge.forget_paths()
    assert judge.judge(program) is None
    assert not any(isinstance(x, tuple) and x[:1] == ("raised",) for x in judge.run_reference(program, 0))


@pytest.mark.skipif(adjoint.is_eager(), reason="it is reference mode that they run in")
def test_programs_do_something() -> None:
    """Most programs end without raising, see values, and differentiate; few are too ill-conditioned
    to judge."""
    programs = [make_program(seed) for seed in range(500)]
    seen = [judge.run_reference(p, 0) for p in programs[:300]]
    assert sum(judge.refused(s[-1:]) for s in seen) < 5
    assert sum(len(s) for s in seen) > 1500
    assert sum(isinstance(x, tuple) and len(x) == 4 and x[2] for s in seen for x in s) > 300
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
    shortest = minimise(program, judge.judge)
    assert judge.judge(shortest) is not None
    assert len(shortest.source) < len(program.source) / 2
    assert ".tanh()" in shortest.source
    compile(shortest.script(), "script", "exec")


def test_minimiser_reaches_the_cause() -> None:
    """Statements, expressions and sizes that a failure does not need are gone."""
    program = Program(0, [
        ["w1 = data(1, (7, 17), 'float32').requires_grad_()"],
        ["for i in range(3):", "    if w1.sum() > -900:", "        see((w1.sin() + 2.75).tanh().exp())"],
        ["x2 = w1 * 2"],
    ])  # fmt: skip

    def wrong(candidate: Program) -> str | None:
        return "planted: tanh" if any(".tanh()" in line for b in candidate.blocks for line in b) else None

    shortest = minimise(program, wrong)
    assert len(shortest.blocks) <= 2 and ".tanh()" in shortest.source
    assert "for" not in shortest.source and "x2" not in shortest.source and "exp" not in shortest.source


def test_the_command_writes_failures(tmp_path: Path, monkeypatch, capsys) -> None:
    """A worker's failure, and a worker that dies, become files; the rest of the range is still judged."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import sys, json, os\n"
        "a, n = int(sys.argv[sys.argv.index('--from') + 1]), int(sys.argv[sys.argv.index('--count') + 1])\n"
        "for s in range(a, a + n):\n"
        "    print(json.dumps({'seed': s}), flush=True)\n"
        "    if s == 12: print(json.dumps({'seed': s, 'failure': 'planted', 'script': 'pass'}), flush=True)\n"
        "    if s == 15: os._exit(3)\n"
        "print(json.dumps({'done': True}), flush=True)\n"
    )
    monkeypatch.setattr(fuzz, "WORKER", (str(worker),))
    folder = tmp_path / "failures"
    assert fuzz.main(["--from", "10", "--count", "10", "--folder", str(folder)]) == 1
    assert sorted(p.name for p in folder.iterdir()) == ["seed-12.py", "seed-15.py"]
    assert "planted" in (folder / "seed-12.py").read_text() and "ended with 3" in (folder / "seed-15.py").read_text()
    compile((folder / "seed-15.py").read_text(), "script", "exec")
    assert "seeds 10 to 19: 10 judged" in capsys.readouterr().out


def test_a_worker_says_what_it_does(capsys, monkeypatch) -> None:
    monkeypatch.setattr(fuzz, "prepare", lambda light: None)
    assert fuzz.main(["--worker", "--from", "3", "--count", "2", "--torch-every", "0"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"seed": 3}, {"seed": 4}, {"done": True}]
