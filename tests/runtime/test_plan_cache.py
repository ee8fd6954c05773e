"""Plans on disk: a loaded plan gives the bits of a made one, is found only where all it depends on is the same, and
hides nothing: errors, reports and profiles are those of a program that was scheduled here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import dtypes as dt
from adjoint.ir.plain import plain, restored
from adjoint.runtime import disk_cache, jit, plan_cache, program
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import Sample, flat, leaf, tensors
from adjoint.trace import bounds, lower
from adjoint.trace.state import counters
from adjoint.trace.trie import Num

compiled_only = pytest.mark.skipif(torch.is_eager() or not jit.available(), reason="no machine code")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache directory of the test's own; the trie knows nothing before, and nothing after."""
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(tmp_path / "code"))
    forget()
    yield tmp_path / "code"
    forget()


def forget() -> None:
    """As in a new process: no program is known, and no kernel in memory."""
    bounds.sweep(0, 0)
    jit._kernels.clear()


def loaded(run: Callable[[], Any]) -> tuple[Any, int, int]:
    """What `run` gives after everything was forgotten; how many plans were found, and programs made, for it."""
    forget()
    plans, programs = disk_cache.counters.plans, counters["programs"]
    out = run()
    return out, disk_cache.counters.plans - plans, counters["programs"] - programs


def bits(values: Any) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in flat(values)]


def results(record: OpRecord, given: Sample) -> list[bytes]:
    """Of a call, and of its derivatives."""
    torch.manual_seed(0)
    args, options = tensors(torch, given.args, leaf), tensors(torch, given.options, leaf)
    out = flat(record.run(torch, *args, **options))
    found = list(out)
    wanted = [t for t in out if t.requires_grad]
    leaves = [t for t in flat([args, list(options.values())]) if isinstance(t, torch.Tensor) and t.requires_grad]
    if record.differentiable and wanted and leaves:
        grads = torch.autograd.grad(wanted, leaves, [torch.ones_like(t) for t in wanted], allow_unused=True)
        found += [g for g in grads if g is not None]
    return bits(found)


@compiled_only
@pytest.mark.parametrize("record", [pytest.param(r, id=r.name) for r in RECORDS.values()])
def test_every_operator_from_disk(record: OpRecord, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample: the second time, as in a new process, everything is found, and has the same bits."""
    monkeypatch.setattr(program, "_COLD_ELEMENTS", -1)  # what runs once is not left to NumPy
    dtype = "float32" if "float32" in record.dtypes else record.dtypes[0]
    samples = [next(iter(record.draw(dtype)))]

    def run() -> list[list[bytes]]:
        return [results(record, given) for given in samples]

    run()  # so that both times the trace begins after the same one
    made, _, _ = loaded(run)
    again, plans, programs = loaded(run)
    assert again == made
    assert plans == programs, "every program has a form, and its plan was found"


# --- what a form says ---------------------------------------------------------------------------------------------------


def recordings(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[lower.Recorded]:
    """What the programs of `run` were made of."""
    made: list[lower.Recorded] = []
    plain_recorded = lower.Recorded

    def noted(*arguments: Any) -> lower.Recorded:
        made.append(plain_recorded(*arguments))
        return made[-1]

    monkeypatch.setattr(lower, "Recorded", noted)
    forget()
    run()
    monkeypatch.undo()
    return made


def several() -> list[Any]:
    """Programs with numbers, casts, constants, random numbers, several results, places and a backward."""
    torch.manual_seed(3)
    x = torch.tensor([[3.0, 1.0, 2.0], [0.5, -1.0, 4.0]], requires_grad=True)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.25), torch.nn.GELU())
    loss = (net(x) * 0.5).sum() + x.sort(1).values[:, 0].double().sum() + (x @ x.t()).softmax(0)[0].sum()
    loss.backward()
    z = torch.complex(x.detach(), x.detach() + 1)
    lone = torch.linalg.inv(x.detach() @ x.detach().t() + torch.eye(2))
    return [loss.item(), x.grad.tolist(), (z * (2 + 1j)).abs().sum().item(), lone.tolist(), x.detach()[1:, ::2].tolist()]


@compiled_only
def test_a_form_is_of_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever changes the graph changes the form; the user's lines are in neither."""
    made = recordings(several, monkeypatch)
    assert len(made) > 4 and sum(len(r.steps) for r in made) > 60
    forms = {r.form() for r in made}
    assert None not in forms and len(forms) == len({repr(r.graph()) for r in made})
    others = {
        "prim": lambda s: "exp" if s.prim in ("neg", "tanh", "erf") else None,
        "attrs": lambda s: (s.attrs[0] + 1, *s.attrs[1:]) if s.prim == "permute" else None,
        "compute": lambda s: dt.float64 if s.compute is dt.float32 else None,
        "scalars_before": lambda s: s.scalars_before + 1 if s.scalars else None,
        "scalars": lambda s: tuple((slot, dt.float64) for slot, _ in s.scalars) if s.scalars and s.scalars[0][1] is dt.float32 else None,
        "inputs_before": lambda s: s.inputs_before + 1 if s.prim == "input" else None,
        "args": lambda s: s.args[::-1] if len(s.args) == 2 and s.args[0] != s.args[1] and s.prim != "mode" else None,
    }
    changed = dict.fromkeys(others, 0)
    for r in made:
        form = r.form()
        for k, step in enumerate(r.steps):
            moved = lower.Recorded.__new__(lower.Recorded)
            moved.slots, moved.steps = r.slots, [*r.steps[:k], step._replace(where=("elsewhere", 1, "f")), *r.steps[k + 1 :]]
            assert moved.form() == form
            for name, change in others.items():
                value = change(step)
                if value is not None:
                    moved.steps = [*r.steps[:k], step._replace(**{name: value}), *r.steps[k + 1 :]]
                    assert moved.form() != form, (name, step)
                    changed[name] += 1
    assert all(changed.values()), changed


@compiled_only
def test_numbers_of_a_form_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 1.0, True, 0.0 and -0.0, as baked numbers."""
    (made,) = [r for r in recordings(lambda: (torch.tensor([1.0, 2.0]) * 3).tolist(), monkeypatch) if r.steps]
    forms = set()
    numbers = (1, 1.0, True, 0.0, -0.0, 0, float("nan"), float("inf"), 1j)
    for number in numbers:
        r = lower.Recorded.__new__(lower.Recorded)
        r.slots, r.steps = made.slots, [*made.steps[:-1], made.steps[-1]._replace(args=(Num(number),))]
        forms.add(r.form())
    assert len(forms) == len(numbers) and None not in forms


def test_plain_data_comes_back() -> None:
    value = (1, 2.5, True, None, "reflect", (dt.float32, (dt.bfloat16,), ()), -0.0, 1j)
    assert repr(restored(plain(value))) == repr(value)
    for odd in ([1], {1}, object(), np.float32(1), np.int64(2), torch.Size((2, 3)), b"x"):
        with pytest.raises(TypeError, match="plain"):
            plain((odd,))


@compiled_only
def test_what_is_not_plain_has_no_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is a program all the same."""
    monkeypatch.setattr(lower, "plain", lambda value: (_ for _ in ()).throw(TypeError("no")))
    x = torch.tensor(np.linspace(0, 1, 7, dtype="f"))
    assert x.reshape(7, 1).exp().sum(0).item() == pytest.approx(np.exp(np.linspace(0, 1, 7)).sum(), rel=1e-6)
    assert not list(folder.glob("*.plan")) and list(folder.glob("*.code"))


# --- what a key says ----------------------------------------------------------------------------------------------------


@compiled_only
def test_whatever_a_plan_depends_on_is_in_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [plan_cache.key_of(b"form"), plan_cache.key_of(b"other")]
    for flag, value in (("ADJOINT_LOOSE_ZEROS", "1"), ("ADJOINT_DISABLE", "algebra")):
        with monkeypatch.context() as m:
            m.setenv(flag, value)
            keys.append(plan_cache.key_of(b"form"))
    with monkeypatch.context() as m:
        m.setattr(jit, "LOOPS_LEVEL", jit.LOOPS_LEVEL + 1)
        keys.append(plan_cache.key_of(b"form"))
    with monkeypatch.context() as m:
        m.setattr(plan_cache, "l2_bytes", lambda: 12345)
        keys.append(plan_cache.key_of(b"form"))
    assert len(set(keys)) == len(keys) and None not in keys
    assert plan_cache.key_of(b"form") == keys[0] and plan_cache.key_of(None) is None


STEP = """
import sys, json, adjoint as torch
from adjoint.runtime import disk_cache, jit
torch.manual_seed(0)
x = torch.randn(20, 30, requires_grad=True)
(x @ x.t()).softmax(1).square().sum().backward()
print(json.dumps([x.grad.sum().item().hex(), disk_cache.counters.plans, jit.counters.kernels_compiled,
                  [m for m in sys.modules if m.startswith(("adjoint.codegen", "adjoint.schedule", "adjoint.rewrite"))]]))
"""


def step(folder: Path, package: Path | None = None, **settings: str) -> list:
    environment = {**os.environ, "ADJOINT_EAGER": "0", "ADJOINT_CACHE": "1", "ADJOINT_CACHE_DIR": str(folder), **settings}
    root = Path(torch.__file__).parent.parent if package is None else package
    environment["PYTHONPATH"] = str(root)
    done = subprocess.run([sys.executable, "-c", STEP], env=environment, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@compiled_only
def test_a_second_process_schedules_nothing(folder: Path) -> None:
    value, plans, compiled, modules = step(folder, PYTHONHASHSEED="1")
    assert plans == 0 and compiled > 3 and modules
    again, plans, compiled, modules = step(folder, PYTHONHASHSEED="2")
    assert again == value and plans >= 2 and compiled == 0
    assert set(modules) <= {"adjoint.codegen", "adjoint.codegen.emitter"}, "what makes programs was not even loaded"


@compiled_only
def test_other_sources_find_no_plan(folder: Path, tmp_path: Path) -> None:
    """A changed line is noticed, as Python notices it, by size or time; what the new sources make is used."""
    copy = tmp_path / "other"
    shutil.copytree(Path(torch.__file__).parent, copy / "adjoint", ignore=shutil.ignore_patterns("__pycache__"))
    value, _, _, _ = step(folder, copy)
    assert step(folder, copy)[1] >= 2
    source = copy / "adjoint" / "schedule" / "group.py"
    known = source.stat()
    os.utime(source, ns=(known.st_atime_ns, known.st_mtime_ns + 1_000_000_000))
    assert step(folder, copy)[:2] == [value, 0]
    source.write_text(source.read_text() + "\n")
    os.utime(source, ns=(known.st_atime_ns, known.st_mtime_ns + 1_000_000_000))
    assert step(folder, copy)[:2] == [value, 0]
    assert step(folder)[:2] == [value, 0], "nor do these sources find what those have left"


@compiled_only
def test_who_looks_at_programs_has_them_made(folder: Path) -> None:
    value = step(folder)[0]
    assert step(folder)[1] >= 2
    for flag, setting in (("ADJOINT_GUARD", "1"), ("ADJOINT_VERIFY", "1"), ("ADJOINT_DEBUG", "4"), ("ADJOINT_CACHE", "0")):
        assert step(folder, **{flag: setting})[:2] == [value, 0], flag


# --- what is damaged or gone --------------------------------------------------------------------------------------------


def product() -> list[list[float]]:
    x = torch.tensor(np.arange(35, dtype="f").reshape(5, 7) / 10)
    return (x @ x.t()).tanh().tolist()


@compiled_only
@pytest.mark.parametrize("kind", ["code", "plan"])
@pytest.mark.parametrize("how", ["gone", "cut", "changed"])
def test_a_file_that_is_gone_or_damaged_is_made_again(kind: str, how: str, folder: Path) -> None:
    wanted = product()
    assert loaded(product)[1] == 1
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    for file in folder.glob(f"*.{kind}"):
        data = file.read_bytes()
        if how == "gone":
            file.unlink()
        else:
            file.write_bytes(data[:-1] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    compiled = jit.counters.kernels_compiled
    again, plans, _ = loaded(product)
    assert again == wanted and (jit.counters.kernels_compiled > compiled) == (kind == "code")
    after = {f.name: f.read_bytes() for f in folder.iterdir()}  # the same again, but for modules that no program owns
    assert {n for n in before if n.endswith(".plan")} <= after.keys()
    assert all([before[name] == after[name] for name in before.keys() & after.keys()])
    compiled = jit.counters.kernels_compiled
    assert loaded(product)[:2] == (wanted, 1) and jit.counters.kernels_compiled == compiled


@compiled_only
def test_a_plan_without_its_code_is_no_plan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evicted code is compiled again; code whose module is in memory is not even looked for."""
    wanted = product()
    for file in folder.glob("*.code"):
        file.unlink()
    bounds.sweep(0, 0)  # programs are forgotten, kernels are not
    plans = disk_cache.counters.plans
    compiled = jit.counters.kernels_compiled
    assert product() == wanted
    assert disk_cache.counters.plans == plans + 1 and jit.counters.kernels_compiled == compiled


# --- what a loaded program answers --------------------------------------------------------------------------------------


@compiled_only
def test_errors_of_data_name_their_place(folder: Path) -> None:
    """The graph, which a plan does not have, is there when it is wanted."""
    table, places = torch.tensor(np.ones((40, 3000), "f")), torch.tensor([1, 90])

    def run() -> str:
        with pytest.raises(IndexError) as caught:
            (table[places] * 3.5).tolist()
        return str(caught.value)

    message = run()
    again, plans, _ = loaded(run)
    assert again == message and "out of" in message and "run" in message
    assert plans == 1
    places.fill_(2)
    assert (table[places] * 3.5).tolist() == [[3.5] * 3000] * 2


@compiled_only
def test_numbers_conversions_and_results_asked_for_twice(folder: Path) -> None:
    """Complex numbers, whole ones beyond 63 bits, steps in NumPy, parts of several results, no elements."""

    def run() -> list[Any]:
        x = torch.tensor(np.array([[2.0, 1.0], [1.0, 3.0]]))
        big = torch.tensor(np.array([1, 2], "i8")) + ((1 << 63) - 1)
        z = (torch.complex(x, x.t()) * (1 - 2j)).sum()
        values, places = x.flatten().sort()
        inverse = torch.linalg.inv(x)
        same = inverse + 0
        return [big.tolist(), z.item(), places.tolist(), inverse.tolist(), same.tolist(), (x[:0] @ x).sum(1).tolist()]

    run()
    wanted = loaded(run)[0]
    again, plans, programs = loaded(run)
    assert again == wanted and plans > 0


@compiled_only
def test_reports_and_profiles_know_a_loaded_program(folder: Path) -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal((60, 70)).astype("f"))

    def run() -> tuple[list[str], int, str]:
        with torch.profiler.profile() as prof:
            (x @ x.t()).softmax(1).sum(0).tolist()
        names = [e.name for e in prof.events() if e.kind == "kernel"]
        report = torch.why(1)[0]
        assert report.program is not None
        return names, report.program.n_kernels, report.program.text

    product()
    made, _, _ = loaded(run)
    assert len(made[0]) == made[1] > 1 and "matmul" in made[2]
    again, plans, _ = loaded(run)
    assert again == made and plans > 0
    assert "from disk" in torch.why(1)[0].text()
