"""Profiles: what is counted, when they are on, and that they change nothing."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn
from adjoint.profiler import (
    ProfilerAction,
    ProfilerActivity,
    chrome,
    profile,
    record_function,
    schedule,
    watch,
)
from adjoint.profiler.cycles import ScheduleError
from adjoint.runtime import jit, observe
from adjoint.runtime.facts import facts
from adjoint.runtime.program import Program
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, tensors
from adjoint.trace import ending, lower, recorder

EAGER = torch.is_eager()
compiled = pytest.mark.skipif(EAGER or not jit.available(), reason="kernels are those of compiled mode")
HOOKED = [(owner, name) for owner, name, _ in watch._HOOKS] + [(nn.Module, "__call__")]


@pytest.fixture(autouse=True)
def off_afterwards() -> Any:
    """No test leaves a profile on, or anything of it in place."""
    before = [owner.__dict__[name] for owner, name in HOOKED]
    yield
    assert ending.watching is None and watch.Session.current is None
    assert [owner.__dict__[name] for owner, name in HOOKED] == before


def three_kernels(x: torch.Tensor) -> torch.Tensor:
    """A product, its softmax along rows (a nest of its own), and another product."""
    return (x @ x).softmax(1) @ x


def network() -> tuple[Any, Any, Any, Any]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 3))
    return model, torch.optim.Adam(model.parameters(), lr=0.01), torch.randn(96, 40), torch.randint(0, 3, (96,))


def train(parts: tuple[Any, Any, Any, Any], steps: int, prof: Any = None) -> list[float]:
    model, opt, x, y = parts
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        if prof is not None:
            prof.step()
    return losses


# --- counts -------------------------------------------------------------------------------------------------------------


@compiled
def test_every_kernel_of_every_run_is_an_event() -> None:
    x = torch.randn(96, 96)
    x.numpy()
    out = three_kernels(x).numpy()
    program = next(c.program for c in reversed(torch.why()) if c.program is not None)
    records = program.n_kernels
    with profile() as prof:
        for _ in range(5):
            assert np.array_equal(three_kernels(x).numpy(), out)
    kernels = [e for e in prof.kernels() if e.kind == "kernel"]
    assert len(kernels) == 5 * records
    whole = [e for e in kernels if not e.name.endswith("(packing)")]
    assert len(whole) == 15 and Counter(e.name for e in whole)["matmul"] == 10
    assert sum(e.kind == "program" for e in prof.events()) == 5
    assert sum(e.kind == "trace end" for e in prof.events()) == 5
    assert not any(e.kind in ("compile", "phase") for e in prof.events())
    assert all(e.cpu_parent.kind == "program" for e in kernels)
    rows = {r.key: r for r in prof.key_averages()}
    assert rows["matmul"].count == 10 and rows["matmul"].flops == 10 * 2 * 96**3
    assert len(prof.roofline()) == 3 and [r.calls for r in prof.roofline()] == [5, 5, 5]


@pytest.mark.parametrize(("m", "n", "k"), [(64, 48, 32), (130, 70, 50)])
def test_the_work_of_a_product(m: int, n: int, k: int) -> None:
    x, y = torch.randn(m, k), torch.randn(k, n)
    with profile() as prof:
        (x @ y).numpy()
    assert sum(e.flops for e in prof.kernels()) == 2 * m * n * k
    last = [e for e in prof.kernels() if e.flops][0]
    assert last.name == "matmul" and last.bytes == 4 * (m * k + k * n + m * n)
    assert last.results == (((m, n), "float32"),) and sorted(last.input_shapes) == sorted([[m, k], [k, n]])


@pytest.mark.parametrize(
    ("function", "work"),
    [
        (lambda x: x * 2 + x, 2 * 6000),
        (lambda x: x.sum(1), 6000),
        (lambda x: (x * x).sum(1), 12000),
        (lambda x: x / 3.0, 4 * 6000),
        (lambda x: x.T.contiguous().reshape(-1)[3:].clone(), 0),
        (lambda x: nn.functional.conv2d(x.reshape(1, 3, 40, 50), torch.ones(8, 3, 3, 3)), 2 * 8 * 38 * 48 * 27),
    ],
)
def test_the_work_of_other_kernels(function: Any, work: int) -> None:
    """Loads and stores are no arithmetic; a division counts as four additions."""
    x = torch.randn(60, 100)
    function(x).numpy()  # compiled even where the first run of a small program is in NumPy
    with profile() as prof:
        function(x).numpy()
    assert sum(e.flops for e in prof.kernels()) == work


@compiled
def test_every_kernel_of_a_training_step_has_its_own_work() -> None:
    """Also where updates of large parameters have been put off until all indices are checked."""
    net = nn.Sequential(nn.Embedding(200, 90), nn.Linear(90, 150), nn.ReLU(), nn.Linear(150, 110))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = torch.randint(0, 200, (20,))

    def step() -> None:
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()

    for _ in range(4):
        step()
    with profile() as prof:
        for _ in range(3):
            step()
        net[1].weight.tolist()
    kernels = [e for e in prof.kernels() if e.name == "matmul"]
    assert len(kernels) >= 3 * 4
    updates = [e for e in prof.kernels() if e.name.startswith("matmul+mul+add")]
    assert len(updates) == 2 * 2  # with the gradients that the next `zero_grad` drops: they are nowhere in memory
    for e in updates:
        (k, m), (_, n), *parameters = [shape for shape, _ in (*e.inputs, *e.results)]
        assert parameters == [(m, n)] * 4 and k == 20
        assert 2 * k * m * n < e.flops < 2 * (k + 8) * m * n and e.bytes == 4 * (k * (m + n) + 4 * m * n)
    for e in kernels:
        sizes = [math.prod(shape) for shape, _ in (*e.inputs, *e.results)]
        assert e.flops == 2 * math.isqrt(math.prod(sizes))  # of mk, kn and mn
        assert e.bytes == 4 * sum(sizes)



def test_times_add_up() -> None:
    parts = network()
    train(parts, 2)
    before = watch.now()
    with profile() as prof:
        train(parts, 4)
    wall = (watch.now() - before) / 1e3
    events = prof.events()
    whole = sum(e.self_cpu_time_total for e in events)
    (session,) = prof._kept
    profiled = (session.end - session.begin) / 1e3
    assert profiled <= wall
    assert 0.9 * profiled <= whole <= profiled * 1.0001 + 1
    for e in events:
        assert e.self_cpu_time_total >= 0 and 0 <= e.time_range.start <= e.time_range.end <= profiled + 1
        for child in e.cpu_children:
            assert e.begin <= child.begin <= child.end <= e.end and child.cpu_parent is e
    assert sum(e.cpu_time_total for e in prof.kernels()) < profiled
    average = prof.key_averages()
    assert sum(r.self_cpu_time_total for r in average) == pytest.approx(whole)
    assert average.total_average().self_cpu_time_total == pytest.approx(whole)


def test_where_and_shapes() -> None:
    x = torch.randn(70, 80)
    with profile() as prof:
        y = (x.exp() * 3).sum(1)  # the line
        y.numpy()
    line = next(k for k, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# the line"))
    assert {w[1:] for e in prof.kernels() for w in e.where} == {(line, "test_where_and_shapes")}
    assert {w[0] for e in prof.kernels() for w in e.where} == {__file__}
    assert any(((70, 80), "float32") in e.inputs for e in prof.kernels())


@compiled
def test_a_fused_kernel_names_all_its_lines() -> None:
    x = torch.randn(100, 100)
    with profile() as prof:
        a = x.sin()
        b = a * 2
        c = b.sum()
        c.item()
    lines = sorted({w[1] for e in prof.kernels() for w in e.where})
    assert len(lines) == 3 and lines[2] - lines[0] == 2
    assert any("sin" in e.operations and "mul" in e.operations for e in prof.kernels())


@compiled
def test_compiling_is_seen() -> None:
    with profile() as prof:
        (torch.ones(37, 41) * 5 - 3).cumsum(0).numpy()
    names = Counter(e.name for e in prof.events() if e.kind in ("compile", "phase"))
    for name in ("compile", "compile: trace", "compile: simplify", "compile: schedule", "compile: LLVM"):
        assert names[name] >= 1
    parents = {e.name: e.cpu_parent.name for e in prof.events() if e.kind == "phase"}
    assert parents["compile: LLVM"] == "compile: schedule" and parents["compile: trace"] == "compile"


@compiled
def test_a_step_in_numpy_is_an_event() -> None:
    x = torch.randn(40, 40)
    with profile() as prof:
        torch.linalg.eigh(x @ x.T)[0].numpy()
    assert [e.name for e in prof.kernels() if e.kind == "host"] == ["eigh"]


@compiled
def test_small_programs_in_numpy_are_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # another test may have left machine code for it
    with profile() as prof:
        (torch.tensor([1.0, 2.0, 3.5]) * 7.25).tolist()
    assert any(e.kind == "interpreted" and "mul" in e.operations for e in prof.kernels())


# --- nothing changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_results_have_the_same_bits(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not native:  # where there is no clock as a C function
        monkeypatch.setattr(observe, "_native", None)
        monkeypatch.setattr(observe, "prepare", lambda: None)
    plain_parts, parts = network(), network()
    plain = train(plain_parts, 6)
    with profile(with_modules=True) as prof:
        seen = train(parts, 6, prof)
    assert plain == seen
    for a, b in zip(plain_parts[0].parameters(), parts[0].parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
    assert prof.kernels()


@compiled
def test_the_number_of_threads_changes_nothing() -> None:
    x = torch.randn(400, 400)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with profile() as prof:
                for _ in range(2):
                    results.append(three_kernels(x).numpy().copy())
            assert any(e.shared for e in prof.kernels())
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(results[0], r) for r in results)


def test_errors_are_raised_as_ever_and_leave_the_profile_off() -> None:
    x = torch.randn(50, 50)
    with pytest.raises(IndexError, match="out of"), profile() as prof:
        x[torch.tensor([60])].sum().item()
    with pytest.raises(KeyError), profile() as prof, record_function("inside"):
        (x @ x).numpy()
        raise KeyError("mine")
    assert prof.kernels()
    with profile() as prof:
        x.sum().item()
    assert {e.scopes for e in prof.kernels()} == {()}


def test_what_is_pending_counts_where_it_was_written() -> None:
    x = torch.randn(64, 64)
    before = x.exp()
    with profile() as prof:
        inside = x @ x
    assert {o for e in prof.kernels() for o in e.operations} == {"matmul"}
    assert inside._data is not None or EAGER
    assert np.allclose(before.numpy(), np.exp(x.numpy()))


def test_profiles_cannot_be_nested() -> None:
    with profile() as outer:
        with pytest.raises(RuntimeError, match="nested.*record_function"):
            profile().start()
        torch.ones(100).sum().item()
    assert outer.events()
    with pytest.raises(RuntimeError, match="not running"):
        outer.stop()
    with pytest.raises(RuntimeError, match="inside the with block"):
        outer.step()


def test_start_and_stop() -> None:
    prof = profile()
    assert prof.events() == []
    prof.start()
    with pytest.raises(RuntimeError, match="still running"):
        prof.events()
    torch.randn(2000).exp().sum().item()
    prof.stop()
    first = len(prof.events())
    assert first
    prof.start()
    prof.stop()
    assert not prof.kernels()


@compiled
def test_unprofiled_runs_use_the_known_functions() -> None:
    """Nothing is left in the way of a run: not a wrapper, not a test."""
    with profile():
        assert Program.__dict__["run"].__module__ == watch.__name__
    assert Program.__dict__["run"].__module__ == Program.__module__
    assert ending.build.__module__ == ending.__name__ and not hasattr(ending.build, "__wrapped__")
    assert lower.graph_of.__module__ == lower.__name__ and not hasattr(lower.graph_of, "__wrapped__")
    assert recorder.evaluate.__module__ == recorder.__name__ and not hasattr(recorder.evaluate, "__wrapped__")


# --- named blocks -------------------------------------------------------------------------------------------------------


def test_kernels_know_the_blocks_they_were_recorded_in() -> None:
    x = torch.randn(64, 64)
    with profile() as prof:
        with record_function("outer"):
            with record_function("first"):
                a = x @ x
            with record_function("second"):
                b = x.tanh().sum(0)
        c = x.sort(1).values
        a.numpy(), b.numpy(), c.numpy()
    scopes = {e.operations[0]: e.scopes for e in prof.kernels()}
    assert scopes["matmul"] == ("outer", "first")
    assert scopes["tanh"] == ("outer", "second")
    assert scopes[next(k for k in scopes if k.startswith("arg"))] == ()
    rows = {r.key: r for r in prof.key_averages()}
    assert rows["outer"].count == 1
    assert rows["outer"].kernel_time_total == pytest.approx(rows["first"].kernel_time_total + rows["second"].kernel_time_total)
    assert rows["outer"].cpu_time_total >= rows["first"].cpu_time_total


def test_a_block_goes_on_when_a_trace_ends_in_it() -> None:
    x = torch.randn(64, 64)
    with record_function("before"), profile() as prof:
        with record_function("block"):
            x.exp().numpy()
            y = x @ x
        y.numpy()
    assert {e.scopes for e in prof.kernels()} == {("before", "block")}


def test_blocks_without_a_profile_keep_nothing() -> None:
    for _ in range(3):
        with record_function("idle"):
            pass
    assert watch._blocks.open == [] and not any(s.name == "idle" for s in watch._blocks.spans)


def test_decorated_and_recursive() -> None:
    @record_function("down")
    def down(x: torch.Tensor, n: int) -> torch.Tensor:
        """Says something."""
        return x if n == 0 else down((x * 2).sin(), n - 1)

    assert down.__name__ == "down" and down.__doc__ == "Says something."
    with profile() as prof:
        down(torch.randn(5000), 3).numpy()
    rows = {r.key: r for r in prof.key_averages()}
    assert rows["down"].count == 4
    outer = [e for e in prof.events() if e.name == "down" and (e.cpu_parent is None or e.cpu_parent.name != "down")]
    assert len(outer) == 1 and rows["down"].cpu_time_total == pytest.approx(outer[0].cpu_time_total)
    with pytest.raises(TypeError, match="expects a name"):
        record_function(3)  # type: ignore[arg-type]


def test_modules_are_blocks_on_demand() -> None:
    model, _, x, _ = network()
    with profile(with_modules=True) as prof:
        model(x).detach().numpy()
    assert Counter(e.name for e in prof.events() if e.kind == "module") == {"Sequential": 1, "Linear": 2, "Tanh": 1}
    assert any(e.scopes == ("Sequential", "Linear") for e in prof.kernels() if "matmul" in e.operations)
    with profile() as prof:
        model(x).detach().numpy()
    assert not any(e.kind == "module" for e in prof.events())


# --- schedules ----------------------------------------------------------------------------------------------------------


def test_schedule() -> None:
    none, warm, keep, save = ProfilerAction
    plan = schedule(wait=1, warmup=1, active=2, repeat=2, skip_first=1)
    assert [plan(k) for k in range(11)] == [none, none, warm, keep, save, none, warm, keep, save, none, none]
    assert [schedule(wait=2, warmup=0, active=1, skip_first_wait=1)(k) for k in range(4)] == [save, none, none, save]
    for wrong in (dict(wait=-1, warmup=0, active=1), dict(wait=0, warmup=0, active=0), dict(wait=0, warmup=0, active=1, repeat=-1)):
        with pytest.raises(AssertionError, match="active at least 1"):
            schedule(**wrong)
    with pytest.raises(ScheduleError, match="counted from 0"):
        plan(-1)


def test_cycles() -> None:
    x, ready = torch.randn(48, 48), []

    def keep(prof: profile) -> None:
        ready.append((prof.step_num, [e.name for e in prof.events() if e.kind == "step"], sum(e.flops for e in prof.kernels())))

    hooked = []
    with profile(schedule=schedule(wait=1, warmup=1, active=2, repeat=2), on_trace_ready=keep) as prof:
        for _ in range(10):
            hooked.append(ending.watching is not None)
            x @ x  # noqa: B018
            y = x @ x  # what nobody needs is not computed, but in reference mode
            prof.step()
            del y
    one = 2 * 48**3 * (2 if EAGER else 1)
    assert ready == [(4, ["ProfilerStep#2", "ProfilerStep#3"], 2 * one), (8, ["ProfilerStep#6", "ProfilerStep#7"], 2 * one)]
    assert hooked == [False, True, True, True, False, True, True, True, False, False]
    assert [e.name for e in prof.events() if e.kind == "step"] == ["ProfilerStep#6", "ProfilerStep#7"]


def test_a_cycle_cut_short_is_reported() -> None:
    ready = []
    plan = schedule(wait=0, warmup=1, active=5)
    with profile(schedule=plan, on_trace_ready=lambda p: ready.append(p.step_num)) as prof:
        for _ in range(3):
            torch.randn(3000).sum().item()
            prof.step()
    assert ready == [3] and [e.name for e in prof.events() if e.kind == "step"] == ["ProfilerStep#1", "ProfilerStep#2"]
    with profile(schedule=schedule(wait=5, warmup=1, active=5), on_trace_ready=lambda p: ready.append(p.step_num)) as prof:
        torch.randn(3000).sum().item()
    assert ready == [3] and prof.events() == []


def test_all_cycles_on_demand() -> None:
    with profile(schedule=schedule(wait=1, warmup=0, active=1), acc_events=True) as prof:
        for _ in range(6):
            torch.randn(3000).sum().item()
            prof.step()
    assert [e.name for e in prof.events() if e.kind == "step"] == [f"ProfilerStep#{k}" for k in (1, 3, 5)]
    starts = [e.time_range.start for e in prof.events() if e.kind == "step"]
    assert starts == sorted(starts) and starts[1] > 0  # on one axis of time
    (row,) = [r for r in prof.key_averages() if r.kind == "step"]
    assert (row.key, row.count) == ("ProfilerStep*", 3)


# --- other threads, other modes -----------------------------------------------------------------------------------------


def test_threads() -> None:
    x = torch.randn(80, 80)
    x.numpy()
    ready, results = threading.Barrier(4), {}

    def work(k: int) -> None:
        ready.wait()
        with record_function(f"thread {k}"):
            for _ in range(5):
                results[k] = (x @ x + float(k)).numpy().copy()

    threads = [threading.Thread(target=work, args=(k,), name=f"mine {k}") for k in range(4)]
    with profile() as prof:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    products = [e for e in prof.kernels() if e.name in ("matmul", "matmul+add")]
    assert Counter(e.scopes for e in products) == {(f"thread {k}",): 5 for k in range(4)}
    assert len({e.thread for e in products}) == 4
    assert {lane.name for lane in prof._kept[0].lanes} >= {f"mine {k}" for k in range(4)}
    for k in range(4):
        assert np.array_equal(results[k], (x @ x + float(k)).numpy())


def test_reference_mode() -> None:
    with torch.eager(), profile() as prof:
        x = torch.ones(30, 40, requires_grad=True)
        with record_function("loss"):
            loss = (x @ torch.ones(40, 20)).exp().sum()
        loss.backward()
    operations = [e for e in prof.kernels() if e.kind == "operation"]
    forward = [e.name for e in operations if e.scopes == ("loss",)]
    assert [n for n in forward if n in ("matmul", "exp", "sum")] == ["matmul", "exp", "sum"]
    product = next(e for e in operations if e.name == "matmul")
    assert product.flops == 2 * 30 * 40 * 20 and product.input_shapes == [[30, 40], [40, 20]]
    assert product.bytes == 4 * (1200 + 800 + 600) and product.where[0][0] == __file__
    assert sum(e.name == "matmul" for e in operations) >= 2  # and backward
    assert {r.name for r in prof.roofline()} >= {"matmul", "exp"}


# --- options ------------------------------------------------------------------------------------------------------------


def test_activities() -> None:
    with pytest.raises(RuntimeError, match="no CUDA here.*ProfilerActivity.CPU"):
        profile(activities=[ProfilerActivity.CUDA])
    with pytest.warns(UserWarning, match="no CUDA here"):
        profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
    with pytest.warns(UserWarning, match="no CUDA here"):
        profile(use_cuda=True)
    with pytest.raises(TypeError, match="ProfilerActivity"):
        profile(activities=["cpu"])  # type: ignore[list-item]
    with pytest.warns(UserWarning, match="memory"):
        profile(profile_memory=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        profile(activities={ProfilerActivity.CPU}, record_shapes=True, with_stack=True, with_flops=True)


def test_groups_and_table() -> None:
    inputs = [torch.randn(n, n) for n in (40, 50)]
    with profile() as prof:
        for x in inputs:
            for _ in range(3):
                (x @ x).numpy()
    assert {r.count for r in prof.key_averages() if r.key == "matmul"} == {6}
    rows = [r for r in prof.key_averages(group_by_input_shape=True) if r.key == "matmul"]
    assert sorted((r.count, r.input_shapes[0]) for r in rows) == [(3, [40, 40]), (3, [50, 50])]
    table = prof.key_averages(group_by_input_shape=True, group_by_stack_n=1).table(sort_by="flops", row_limit=2, header="Head")
    lines = table.splitlines()
    assert lines[0] == "Head" and "Input Shapes" in lines[2] and "Source Location" in lines[2]
    assert lines[4].startswith("matmul") and "[[50, 50]" in lines[4] and "test_profile.py:" in lines[4]
    assert lines[5].startswith("matmul") and "more rows" in lines[7] and lines[8].startswith("Self CPU time total")
    with pytest.raises(ValueError, match="self_cpu_time_total.*everything runs on the CPU"):
        prof.key_averages().table(sort_by="cuda_time_total")
    by_name = [line.split()[0] for line in prof.key_averages().table(sort_by="key").splitlines()[3:-2]]
    assert by_name == sorted(by_name)
    assert repr(prof.key_averages()) == prof.key_averages().table()


# --- trace files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_chrome_trace(name: str, tmp_path: Path) -> None:
    x = torch.randn(64, 64)
    with profile(record_shapes=True) as prof, record_function('a "block"'):
        (x @ x).numpy()
    prof.export_chrome_trace(tmp_path / name)
    if name.endswith(".gz"):
        import gzip

        found = json.loads(gzip.decompress((tmp_path / name).read_bytes()))
    else:
        found = json.loads((tmp_path / name).read_text())
    events = found["traceEvents"]
    complete = [e for e in events if e["ph"] == "X"]
    assert len(complete) == len(prof.events()) and {e["ph"] for e in events} == {"X", "M"}
    for e in complete:
        assert e["ts"] >= 0 and e["dur"] >= 0 and type(e["pid"]) is type(e["tid"]) is int and e["name"] and e["cat"]
    assert 'a "block"' in {e["name"] for e in complete if e["cat"] == "user"}
    (product,) = [e for e in complete if e["args"].get("flops")]
    assert product["args"]["flops"] == 2 * 64**3 and product["args"]["bytes"] == 3 * 4 * 64**2
    assert product["args"]["where"].startswith(f"{__file__}:") and product["args"]["scope"] == 'a "block"'
    assert product["args"]["results"] == "float32[64, 64]"
    threads = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert threads[product["tid"]] == threading.current_thread().name
    by_thread: dict[int, list] = {}
    for e in sorted(complete, key=lambda e: (e["ts"], -e["dur"])):  # each inside what is open, or after it
        stack = by_thread.setdefault(e["tid"], [])
        while stack and stack[-1] <= e["ts"] + 1e-3:
            stack.pop()
        assert not stack or e["ts"] + e["dur"] <= stack[-1] + 1e-3
        stack.append(e["ts"] + e["dur"])


def test_handler_for_a_folder(tmp_path: Path) -> None:
    handler = torch.profiler.tensorboard_trace_handler(str(tmp_path / "logs"), "me", use_gzip=True)
    plan = schedule(wait=0, warmup=0, active=1)
    with profile(schedule=plan, on_trace_ready=handler) as prof:
        for _ in range(2):
            torch.randn(3000).sum().item()
            prof.step()
    names = sorted(p.name for p in (tmp_path / "logs").iterdir())
    assert len(names) >= 2 and all(n.startswith("me.") and n.endswith(".pt.trace.json.gz") for n in names)


# --- every operator -----------------------------------------------------------------------------------------------------


@compiled
@pytest.mark.usefixtures("little_effort")
@pytest.mark.parametrize("record", [pytest.param(r, id=r.name) for r in RECORDS.values()])
def test_units_are_known_for_every_operator(record: OpRecord) -> None:
    """What the schedule is asked for afterwards is what was run: as many units, of the same kinds, in the same order."""
    with profile() as prof:
        for _ in range(2):  # small programs run in NumPy at first
            for s in record.draw(record.dtypes[-1])[:2]:
                for t in flat(record.run(torch, *tensors(torch, s.args), **tensors(torch, s.options))):
                    t.tolist()
    for lane in prof._kept[0].lanes:
        for note in lane.notes:
            if note.kind == "program" and note.detail[1] is not None:
                program, built = note.detail[:2]
                units = facts(program.graph)
                numbers = [number for _, numbers in built.stages for number in numbers]
                assert sorted(set(numbers)) == list(range(len(units)))
                native = [number for table, numbers in built.stages if table is not None for number in numbers]
                assert len(native) == len(built.plan.names) == len(built.plan.work)
                for number, name in zip(native, built.plan.names, strict=True):
                    assert units[number].kind == (name if units[number].kind != "nest" else "nest")
                assert all(units[n].kind == "host" for table, ns in built.stages if table is None for n in ns)
    for e in prof.kernels():
        assert e.operations and e.name and e.flops >= 0 and e.bytes >= 0
    json.dumps(chrome.trace(prof.events(), {}))


@compiled
def test_units_are_known_where_updates_were_put_off() -> None:
    """An update of a tensor that a later step still reads runs after that step, and facts follow it there."""
    w, x = torch.ones(160, 160), torch.ones(160, 160)
    with profile() as prof:
        new = w - 0.5 * x
        product = w @ x  # reads what the update may replace
        w.copy_(new)
        del new
        assert product.sum().item() == 160**3 and w[0, 0].item() == 0.5
    ran = [(e.operations, e.flops) for e in prof.kernels() if e.results[-1][0] != ()]
    assert ran[-2:] == [(("matmul",), 2 * 160**3), (("mul", "sub"), 2 * 160**2)]
