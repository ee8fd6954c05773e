"""What the engine says of itself: why programs were compiled, what they cost, traces as Python that runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import cli
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, leaf, tensors
from adjoint.testing.values import same_bits
from adjoint.trace import bounds, ending
from adjoint.trace.recorder import current, tensor_from_buffer
from adjoint.trace.text import arguments, trace_text
from adjoint.trace.trie import path

pytestmark = [pytest.mark.skipif(torch.is_eager(), reason="reference mode compiles nothing"), pytest.mark.usefixtures("little_effort")]


def newest() -> Any:
    return torch.why(last=1)[0]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    torch.zeros(1).sum().item()
    bounds.sweep(0, 0)


def known(n: int) -> Any:
    """A tensor that no trace has yet to compute."""
    return torch.tensor(np.linspace(0, 1, n, dtype=np.float32))


def line_of(text: str) -> int:
    """The number of the line of this file that has `text` in it first."""
    return next(k for k, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


# --- reasons ------------------------------------------------------------------------------------------------------------


def test_the_first_step_that_differs_is_named_with_both_lines() -> None:
    x = known(17)

    def branch(flag: bool) -> float:
        y = x + 1
        if flag:
            y = y.exp()  # one way
        else:
            y = y.sin()  # the other way
        return y.sum().item()  # read here

    branch(False)
    assert newest().where[1] == line_of("# read here")
    branch(True)
    got = newest()
    assert got.where == (__file__, line_of("# read here"), "branch")
    assert got.operations == 3 and got.shared == 2
    assert re.search(rf"exp .*:{line_of('# one way')} .*, where .* sin .*:{line_of('# the other way')} ", got.reason)


def test_other_shapes_of_an_input_are_named() -> None:
    for n in (19, 23):
        (torch.tensor([0.5] * n) * 2).sum().item()
    got = newest().reason
    assert "reads an input float32[23]" in got and "read an input float32[19]" in got


def test_other_living_results_are_named() -> None:
    kept = []
    x = known(29)
    for keep in (False, True):
        y = x * 3  # kept or not
        if keep:
            kept.append(y)
        z = y.sum()
        del y
        z.item()
    got = newest().reason
    assert got.startswith("the same path with other living results: mul")
    assert "is now kept" in got and f":{line_of('# kept or not')} " in got


def test_traces_that_end_sooner_or_later_say_so() -> None:
    x = known(31)
    a = x * 3
    (a + 1).sum().item()
    del a
    assert (x * 3).tolist()[0] == 0
    assert "an earlier trace went on from here, with add" in newest().reason
    (x * 3).sqrt().sum().item()
    got = newest().reason
    assert "sqrt" in got and "add" in got
    bounds.sweep(0, 0)
    (x * 3).tolist()
    (x * 3 + 1).tolist()
    assert "an earlier trace ended before add" in newest().reason


def test_known_programs_are_not_explained_again() -> None:
    x = known(37)
    for _ in range(3):
        (x * 5).exp().sum().item()
    before = newest()
    (x * 5).exp().sum().item()
    assert newest() is before


# --- cost ---------------------------------------------------------------------------------------------------------------


def test_cost_runs_and_gain() -> None:
    x = known(4099)
    for _ in range(6):
        (torch.exp(x) * torch.sin(x)).sum().item()
    got = newest()
    assert got.runs == 6
    assert set(got.phases()) == {"trace", "simplify", "schedule", "LLVM"}
    assert 0 < got.phases()["LLVM"] < got.cost < 60
    fast, slow = got.saved()
    assert 0 < fast < slow, "fused code is faster than step by step"
    assert got.runs == 6, "measuring is no use"
    text = got.text()
    assert re.search(r"has run 6 times; a run takes .* pays back after \d+ runs?$", text)
    assert "(torch.exp(x) * torch.sin(x)).sum().item()" in text
    bounds.sweep(0, 0)
    assert got.program is None and "forgotten" in got.text()


def test_a_program_that_zeros_do_not_suit_is_reported_without_a_measurement() -> None:
    x = torch.eye(3) * 2
    assert torch.linalg.inv(x).sum().item() == 1.5
    assert "cannot be measured" in newest().text()


def test_a_report_prints_as_text() -> None:
    (known(41) * 7).exp().sum().item()
    (known(43) * 7).exp().sum().item()
    report = torch.why(last=2)
    assert len(report) == 2 and str(report).count("because") == 2
    assert len(torch.why(0)) == 0 and str(torch.why(0)) == "nothing has been compiled"


def test_the_command_runs_a_script_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport adjoint as torch\nprint(sys.argv[1:], __name__)\n"
        "print((torch.linspace(0, 1, 47) * 2).exp().sum().item() > 0)\nsys.exit(3)\n"
    )
    assert cli.main(["why", "--last", "1", str(script), "--lr", "2"]) == 3
    out = capsys.readouterr().out
    assert "['--lr', '2'] __main__\nTrue\nprogram " in out
    assert f"ended at {script}:4 in <module>" in out


# --- what ADJOINT_DEBUG prints ------------------------------------------------------------------------------------------

SCRIPT = """
    import adjoint as torch
    x = torch.linspace(0, 1, 5000, requires_grad=True)
    w = torch.ones(64, 64)
    for _ in range(2):
        y = (torch.exp(x) * x).sum() + (w @ w)[0, 0]
        y.backward()
        y.item()
"""


@pytest.mark.parametrize("level", [0, 1, 2, 3, 4, 5])
def test_debug_levels_add_to_each_other(level: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        env={**os.environ, "ADJOINT_DEBUG": str(level)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    err = done.stderr
    assert ("because" in err and "kernels:" in err) == (level >= 1)
    timed = re.findall(r"^ +([\d.]+) us +([\d.]+) GFLOP/s +([\d.]+) GB/s  (\S+)$", err, re.MULTILINE)
    assert bool(timed) == (level >= 2)
    if timed:
        assert any(name == "matmul" and float(flops) > 0 for _, flops, _, name in timed)
        assert len(timed) % 2 == 0, "both runs print their kernels"
    assert ("def trace(" in err) == (level >= 3)
    assert ("define void" in err and "nest [" in err) == (level >= 4)
    assert ("simplify:" in err) == (level >= 5)
    assert done.stdout == ""


# --- traces as Python ---------------------------------------------------------------------------------------------------


def run_text(text: str, node: Any, slots: tuple[int, ...], buffers: list[Any], scalars: list[Any]) -> list[np.ndarray]:
    names: dict[str, Any] = {}
    exec(text, names)
    inputs = {s.inputs_before: s.aval for s in path(node) if s.prim == "input"}
    given = []
    for kind, k in arguments(node, slots):
        given.append(scalars[k] if kind == "number" else tensor_from_buffer(buffers[k], inputs[k].shape, inputs[k].dtype))
    return [t.numpy().copy() for t in names["trace"](*given)]


@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("record", [pytest.param(r, id=r.name) for r in RECORDS.values() if r.differentiable])
def test_the_text_of_a_trace_gives_its_values(record: OpRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operator with its gradient: whatever programs that takes are run beside the texts of their traces."""
    build, built = ending.build, []

    def watch(tr: Any, key: Any, alive: Any) -> Any:
        made = build(tr, key, alive)
        built.append((tr.node, (*sorted(key), *made.saved), list(tr.buffers), list(tr.scalars), made.program))
        return made

    with monkeypatch.context() as patched:
        patched.setattr(ending, "build", watch)
        made, leaves = [], []
        for s in record.draw(record.dtypes[-1])[:3]:
            args = tensors(torch, s.args, leaf)
            out = flat(record.run(torch, *args, **tensors(torch, s.options)))
            made += [o for o in out if o.requires_grad]
            leaves.append(args)  # whose gradients live
        if made:
            sum((o * o).sum() for o in made).backward()
        for o in made:
            o.tolist()
    # without a change of dtype or layout these give back their operand
    assert built or record.name in ("cast", "positive", "Tensor.contiguous"), "nothing was compiled, so nothing was compared"
    for node, slots, buffers, scalars, program in built:
        text = trace_text(node, slots)
        avals = {s.slot: s.aval for s in path(node) if s.aval is not None}
        results = program.run(buffers, scalars)
        got = run_text(text, node, slots, buffers, scalars)
        for g, r, slot in zip(got, results, slots, strict=True):
            want = r.array(avals[slot].dtype.np, avals[slot].shape)
            assert g.dtype == want.dtype and g.shape == want.shape, text
            assert same_bits(g, want), text


def test_the_text_is_readable() -> None:
    x = known(53)
    y = (x * 2 + x.exp()).sum(0)
    lines = trace_text(current().node, (y._slot,)).splitlines()
    assert lines[0] == "import adjoint as torch"
    assert [line.split("  #")[0] for line in lines[-6:]] == [
        "def trace(i0, s0):",
        "    v2 = i0 * s0",
        "    v3 = torch.exp(i0)",
        "    v4 = v2 + v3",
        "    v5 = v4.sum((0,))",
        "    return (v5,)",
    ]
