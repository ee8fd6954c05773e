"""The roof, the kernels under it, the picture of both, and `adjoint profile`."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import time
import types
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import adjoint as torch
from adjoint import cli
from adjoint.profiler import machine, peaks, profile
from adjoint.profiler import roofline as rl
from adjoint.profiler.events import Event
from adjoint.profiler.peaks import SIZES, Machine
from adjoint.runtime import jit
from adjoint.viz.roofline import Dot, Roof, roofline_svg

SVG = "{http://www.w3.org/2000/svg}"
ROOF = Machine(
    2,
    {("float32", False): 1e11, ("float32", True): 2e11, ("float64", False): 5e10, ("float64", True): 1e11},
    {False: (4e11, 2e11, 1e11, 1e10), True: (8e11, 4e11, 1e11, 1.5e10)},
)


# --- the roof -----------------------------------------------------------------------------------------------------------


def test_the_machine_is_measured_once() -> None:
    found = machine()
    began = time.perf_counter()
    assert machine() is found and time.perf_counter() - began < 0.01
    assert found.threads == torch.get_num_threads()
    for rates in (*found.bandwidth.values(), tuple(found.flops.values())):
        assert all(1e8 < r < 1e15 for r in rates)
    for double in (False, True):
        assert found.peak(double, True) >= found.peak(double, False)
    assert found.peak(False, False) > 0.7 * found.peak(True, False)  # twice as many lanes, and much room for noise
    assert found.bandwidth[False][0] > found.memory(False)


def test_rates_between_two_sizes() -> None:
    assert ROOF.bytes_per_second(SIZES[0], False) == pytest.approx(4e11)
    assert ROOF.bytes_per_second(100, False) == pytest.approx(4e11)
    assert ROOF.bytes_per_second(1 << 40, True) == pytest.approx(1.5e10)
    middle = ROOF.bytes_per_second((SIZES[0] * SIZES[1]) ** 0.5, False)
    assert middle == pytest.approx((4e11 * 2e11) ** 0.5)


@pytest.mark.skipif(not jit.available(), reason="kernels of LLVM IR")
def test_a_slow_first_pass_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of its own, of a kernel that does 1e9 of what is counted in a second, after a first pass that is held up."""
    clock, passes = [0.0], []

    def run(records: int, count: int, buffers: int, scalars: int) -> None:
        turns = ctypes.c_int64.from_address(scalars + 8).value
        clock[0] += turns * 96 / 1e9 + (0.05 if not passes else 1e-9)
        passes.append(turns)

    monkeypatch.setattr(peaks, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(peaks.pool, "run", run)
    (code,) = jit.compile_kernels([("kernel", *peaks._multiply_add("float", 4))])
    assert 0.9e9 < peaks._best(code, [0, 0], 1, 0, 96, 0.001) < 1.1e9 and len(passes) > 4


@pytest.mark.skipif(not jit.available(), reason="kernels of LLVM IR")
def test_more_work_takes_longer() -> None:
    """The kernels do what is counted: nothing of them was optimised away, and every turn costs the same."""
    width = jit.target().vector_bytes
    texts = [("kernel", *peaks._multiply_add("float", width // 4)), ("kernel", peaks._read(width // 4), ())]
    import numpy as np

    from adjoint.runtime import pool

    data = np.ones(1 << 19, np.float32)
    buffers = np.array([peaks._aligned(data)] * 2, np.int64)
    for code, share in zip(jit.compile_kernels(texts), (0, 1 << 16), strict=True):
        table = pool.RecordTable([(code, np.array([0], np.int32), 1, False)])

        def seconds(turns: int, table: pool.RecordTable = table, share: int = share) -> float:
            scalars, best = np.array([share, turns], np.int64), 1.0
            for _ in range(7):
                began = time.perf_counter()
                pool.run(table.address, 1, buffers.ctypes.data, scalars.ctypes.data)
                best = min(best, time.perf_counter() - began)
            return best

        turns = 100_000 if share == 0 else 200
        ratios = []
        while len(ratios) < 5 and not any(2.5 < r < 6 for r in ratios):  # others may be busy here
            ratios.append(seconds(8 * turns) / seconds(2 * turns))
        assert any(2.5 < r < 6 for r in ratios), ratios


@pytest.mark.skipif(not jit.available(), reason="kernels of LLVM IR")
@pytest.mark.parametrize("name", ["_read", "_copy"])
@pytest.mark.parametrize("lanes", [4, 16])
def test_the_kernels_of_memory_touch_their_part(name: str, lanes: int) -> None:
    import numpy as np

    from adjoint.runtime import pool

    source, target = np.arange(4096, dtype=np.float32), np.zeros(4096, np.float32)
    (code,) = jit.compile_kernels([("kernel", getattr(peaks, name)(lanes), ())])
    table = pool.RecordTable([(code, np.array([0], np.int32), 2, False)])
    buffers = np.array([source.ctypes.data, target.ctypes.data], np.int64)
    scalars = np.array([4096, 3, 4096], np.int64)  # two blocks of 4096 bytes each, three times
    pool.run(table.address, 1, buffers.ctypes.data, scalars.ctypes.data)
    if name == "_copy":
        assert np.array_equal(target[:2048], source[:2048]) and not target[2048:].any()
    else:
        assert target[:lanes].sum(dtype=np.float64) == pytest.approx(3 * source[1024:2048].sum(dtype=np.float64), rel=1e-5)


# --- kernels under it ---------------------------------------------------------------------------------------------------


def event(name: str, us: int, flops: int, nbytes: int, **more: object) -> Event:
    return Event(name, "kernel", 0, 1000 * us, 1, (name,), flops=flops, bytes=nbytes, **more)  # type: ignore[arg-type]


def test_shares_of_the_attainable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rl, "machine", lambda: ROOF)
    big = 1 << 26
    rows = {
        r.name: r
        for r in rl.roofline([
            event("matmul", 10, 1_000_000, 10_000, shared=True),  # 1e11 of 2e11 FLOP/s
            event("double", 10, 100_000, 1_000, double=True),  # 1e10 of 5e10
            event("stream", 10_000, big // 4, big),  # a quarter FLOP per byte: 2.5e9 attainable, 1.68e9 reached
            event("copy", 10_000, 0, big),  # 6.7e9 of 1e10 bytes
            event("matmul (packing)", 10, 0, 0, shared=True),
            event("nothing", 1, 0, 0),
        ])
    }  # fmt: skip
    assert set(rows) == {"matmul", "double", "stream", "copy", "nothing"}
    assert rows["matmul"].calls == 1 and rows["matmul"].seconds == pytest.approx(20e-6)
    assert rows["matmul"].share == pytest.approx(0.25) and rows["matmul"].attainable == pytest.approx(2e11)
    assert rows["double"].share == pytest.approx(0.2)
    assert rows["stream"].attainable == pytest.approx(2.5e9)
    assert rows["stream"].share == pytest.approx(big / 4 / 0.01 / 2.5e9)
    assert rows["copy"].share == pytest.approx(big / 0.01 / 1e10) and rows["copy"].intensity == 0
    assert rows["nothing"].share == 0


def test_a_table_of_kernels() -> None:
    x = torch.randn(300, 300)
    with profile() as prof:
        for _ in range(3):
            (x @ x).exp().sum().item()
    rows = prof.roofline()
    assert [r.seconds for r in rows] == sorted((r.seconds for r in rows), reverse=True)
    product = next(r for r in rows if r.name == "matmul")
    assert product.calls == 3 and product.flops == 3 * 2 * 300**3
    assert 0 < product.share < 50  # of a roof that was measured while others may have been at work
    assert product.shape == "300×300" or product.shape == "300×300 @ 300×300"
    lines = rows.table().splitlines()
    assert lines[1].split()[0] == "Kernel" and lines[3].split()[0] == rows[0].name.split()[0]
    assert any("test_roofline.py:" in line for line in lines) and "Roof of 1 thread" in rows.table()
    assert repr(rows) == rows.table() and "more rows" in rows.table(row_limit=1)


# --- the picture --------------------------------------------------------------------------------------------------------


def boxes(root: ET.Element) -> list[tuple[float, float, float, float, str]]:
    """Of the level texts: left, top, right, bottom, as a common face has them."""
    found = []
    for t in root.iter(f"{SVG}text"):
        if t.get("transform"):
            continue
        text, x, y = "".join(t.itertext()), float(t.get("x", 0)), float(t.get("y", 0))
        wide = 6.2 * len(text)
        left = {"end": x - wide, "mid": x - wide / 2}.get(next((c for c in (t.get("class") or "").split() if c in ("end", "mid")), ""), x)
        found.append((left, y - 9, left + wide, y + 2, text))
    return found


def test_a_dot_for_each_kernel_and_labels_apart() -> None:
    dots = [Dot(f"kernel{k}", 0.1 * 1.3**k, 1e9 * 1.4**k, 0.5, 1 / (k + 2)) for k in range(15)]
    dots += [Dot("twin<&>", 5.0, 5e10, 0.3, 0.2, "about <it>"), Dot("twin2", 5.0, 5e10, 0.3, 0.2), Dot("copy", 0, 0, 0.4, 0.1)]
    roofs = [
        Roof("2 threads", {"float32": 2e11, "float64": 1e11}, {"memory": 2e10, "first cache": 8e11}),
        Roof("1 thread", {"float32": 1e11}, {"memory": 1e10}),
    ]
    root = ET.fromstring(roofline_svg(dots, roofs))
    circles = [c for c in root.iter(f"{SVG}circle") if (c.get("class") or "").startswith("dot")]
    assert len(circles) == len(dots) == 18
    assert sum("hollow" in (c.get("class") or "") for c in circles) == 1
    radii = sorted(float(c.get("r", 0)) for c in circles)
    assert radii[-1] == pytest.approx(26 * 0.5**0.5, abs=0.06) and radii[0] >= 3.5
    written = boxes(root)
    texts = [b[4] for b in written]
    assert "17 twin<&>" in texts or "5 twin<&>" in texts or any(t.endswith("twin<&>") for t in texts)
    assert any("about <it>" in (t.text or "") for t in root.iter(f"{SVG}title"))
    for k, a in enumerate(written):
        for b in written[k + 1 :]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]), (a, b)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(0 <= b[0] and b[2] <= width + 12 and 0 <= b[1] and b[3] <= height for b in written)
    for c in circles:
        assert 0 < float(c.get("cx", 0)) < width and 0 < float(c.get("cy", 0)) < height
    style = "".join("".join(s.itertext()) for s in root.iter(f"{SVG}style"))
    assert "prefers-color-scheme:dark" in style and "http" not in roofline_svg(dots, roofs).replace("http://www.w3.org/2000/svg", "")


def test_dots_lie_where_they_should() -> None:
    """A kernel at the corner of the roof is where the two lines of the roof meet; one at its peak is on its level."""
    roof = Roof("1 thread", {"float32": 1e11}, {"memory": 1e10})
    root = ET.fromstring(roofline_svg([Dot("a", 10.0, 1e11, 1.0, 0.5), Dot("b", 1.0, 1e9, 0.1, 0.5)], [roof]))
    path = next(p for p in root.iter(f"{SVG}path") if p.get("class") == "roof")
    points = [tuple(map(float, p.split())) for p in (path.get("d") or "")[1:].split("L")]
    a, b = [c for c in root.iter(f"{SVG}circle") if (c.get("class") or "").startswith("dot")]
    assert (float(a.get("cx", 0)), float(a.get("cy", 0))) == points[1]
    slope_x, slope_y = points[1][0] - points[0][0], points[0][1] - points[1][1]
    decade_x, decade_y = slope_x, slope_y  # as many decades along x as along y, the slope being 1
    per = points[1][0] - float(b.get("cx", 0))
    assert per / decade_x == pytest.approx((float(b.get("cy", 0)) - points[1][1]) / decade_y / 2, rel=0.01)


def test_pictures_need_a_roof() -> None:
    with pytest.raises(ValueError, match="roof"):
        roofline_svg([], [])
    with pytest.raises(ValueError, match="positive"):
        roofline_svg([], [Roof("1 thread", {"float32": 0.0}, {"memory": 1e10})])
    assert ET.fromstring(roofline_svg([], [Roof("1 thread", {"float32": 1e11}, {"memory": 1e10})])) is not None


def test_the_picture_of_a_profile(tmp_path: Path) -> None:
    x = torch.randn(200, 200)
    with profile() as prof:
        ((x @ x).softmax(1).T.contiguous() @ x.double().float()).sort(1).values.numpy()
    prof.picture(tmp_path / "roof.svg")
    root = ET.parse(tmp_path / "roof.svg").getroot()
    assert sum((c.get("class") or "").startswith("dot") for c in root.iter(f"{SVG}circle")) == len(prof.roofline())
    assert any("test_roofline.py:" in (t.text or "") for t in root.iter(f"{SVG}title"))


def test_a_profile_of_nothing() -> None:
    with profile() as prof:
        pass
    assert prof.roofline() == [] and prof.draw().startswith("<svg") and not prof.kernels()
    assert "Self CPU time total" in prof.key_averages().table()


# --- the command line ---------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
import adjoint as torch

x = torch.randn(128, 128)
for _ in range(4):
    x = torch.tanh(x @ x)
    print("norm", x.norm().item() > 0, sys.argv[1:])
if "fail" in sys.argv:
    raise ValueError("as asked")
sys.exit(7)
"""


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    files = [str(tmp_path / name) for name in ("t.json", "p.svg")]
    arguments = ["profile", "--trace", files[0], "--picture", files[1], "--rows", "9", str(script), "--rate", "2"]
    assert cli.main(arguments) == 7
    out = capsys.readouterr().out
    assert out.count("norm True ['--rate', '2']") == 4
    assert "matmul" in out and "128×128" in out and "script.py:7" in out and "Self CPU time total" in out
    assert all(file in out for file in files)
    assert any(e["args"].get("flops") == 2 * 128**3 for e in json.loads(Path(files[0]).read_text())["traceEvents"])
    assert ET.parse(files[1]).getroot().tag == f"{SVG}svg"


def test_command_with_a_script_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with pytest.raises(ValueError, match="as asked"):
        cli.main(["profile", str(script), "fail"])
    assert "matmul" in capsys.readouterr().out
    assert cli.main(["profile", "--trace", str(tmp_path / "no" / "t.json"), str(script)]) == 2
    captured = capsys.readouterr()
    assert "norm" not in captured.out and "No such file" in captured.err


def test_importing_adjoint_loads_nothing_of_it() -> None:
    code = (
        "import sys, adjoint as torch\n(torch.ones(100, 100) @ torch.ones(100, 100)).sum().item()\n"
        "print([m for m in sys.modules if 'adjoint.profiler' in m or m in ('adjoint.runtime.observe', 'adjoint.runtime.facts')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.skipif(not jit.available(), reason="needs llvmlite")
@pytest.mark.parametrize(("kind", "amount"), [("float32", 3e7), ("float64", 3e7), ("read", 5e6), ("copy", 5e6)])
def test_a_ceiling_does_as_much_as_it_says(kind: str, amount: float, monkeypatch: pytest.MonkeyPatch) -> None:
    known, jobs = peaks.pool.run, []

    def run(records: int, count: int, buffers: int, scalars: int) -> None:
        blocks = (ctypes.c_int64 * 4).from_address(records)[2]
        jobs.append((blocks, *(ctypes.c_int64 * 2).from_address(scalars)))
        known(records, count, buffers, scalars)

    monkeypatch.setattr(peaks.pool, "run", run)
    peaks.at_peak(kind, amount)()
    ((blocks, share, turns),) = jobs
    if kind in ("read", "copy"):
        done = blocks * share * turns * (2 if kind == "copy" else 1)
        assert amount <= done < 1.1 * amount
    else:
        lanes = jit.target().vector_bytes // (4 if kind == "float32" else 8)
        assert blocks * turns * 2 * lanes * peaks._ACCUMULATORS == pytest.approx(amount, rel=0.01)


def test_a_ceiling_of_nothing_known() -> None:
    with pytest.raises(ValueError, match="reads"):
        peaks.at_peak("reads", 1e6)
