"""ADJOINT_GUARD: no kernel reads or writes outside its buffers; one that did would be named.

Every operator of the table runs between fences, forward and backward, and so do products, convolutions, orders, scans
and scatters of shapes that end within registers, tiles, panels and blocks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
import adjoint.nn.functional as F
from adjoint import dtypes as dt
from adjoint.ir.graph import GraphBuilder
from adjoint.runtime import guard, jit, program, scheduled
from adjoint.runtime.guard import GuardedProgram, GuardError
from adjoint.runtime.memory import Buffer
from adjoint.schedule.memory_plan import plan_memory
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import flat, leaf, tensors
from adjoint.trace import bounds

pytestmark = [pytest.mark.skipif(torch.is_eager() or not jit.available(), reason="compiles nothing"), pytest.mark.usefixtures("little_effort")]


@pytest.fixture(autouse=True, scope="module")
def guarded() -> Iterator[None]:
    """Every program known so far is forgotten, so that those of this file are made anew, and watched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADJOINT_GUARD", "1")
        bounds.sweep(1 << 30, 0)
        yield
    bounds.sweep(1 << 30, 0)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of kernels of every watched run."""
    seen: list[int] = []
    plain = guard.watched

    def counted(built: Any, *rest: Any) -> Any:
        seen.append(len(built.scheduled.pieces))
        return plain(built, *rest)

    monkeypatch.setattr(guard, "watched", counted)
    return seen


def backward(outs: list[Any], leaves: list[Any]) -> list[Any]:
    """Gradients of the sum of everything, as far as there are any."""
    outs = [o for o in outs if o.requires_grad]
    leaves = [x for x in leaves if x.requires_grad]
    if not outs or not leaves:
        return []
    found = torch.autograd.grad(outs, leaves, [torch.ones_like(o) for o in outs], allow_unused=True)
    return [g for g in found if g is not None]


@pytest.mark.parametrize("record", [pytest.param(r, id=r.name) for r in RECORDS.values()])
def test_operators(record: OpRecord, runs: list[int]) -> None:
    """All samples of one dtype, and the largest of every other one, are recorded, then read: few programs of many kernels."""
    made = []
    fully = "float32" if "float32" in record.dtypes else record.dtypes[-1]
    for dtype in record.dtypes:
        drawn = list(record.draw(dtype))
        for s in drawn if dtype == fully else [max(drawn, key=lambda s: sum([a.size for a in s.arrays()]))]:
            args, options = tensors(torch, s.args, leaf), tensors(torch, s.options, leaf)
            outs = flat(record.run(torch, *args, **options))
            made += outs
            if record.differentiable:
                leaves = [x for x in flat([args, list(options.values())]) if isinstance(x, torch.Tensor)]
                made += backward(outs, leaves)
    for t in made:
        t.detach().tolist()


def normal(*shape: int, dtype: str = "float32") -> Any:
    return torch.tensor(np.random.default_rng(sum(shape)).standard_normal(shape)).to(getattr(torch, dtype)).requires_grad_()


def integers(high: int, *shape: int) -> Any:
    return torch.tensor(np.random.default_rng(2).integers(0, high, shape))


Made = tuple[Any, list[Any]]  # a result, and the leaves it depends on


def product(m: int, n: int, k: int, dtype: str = "float32", batch: tuple[int, ...] = (), how: str = "") -> Made:
    """how: which operands are transposed, "a", "b", and which are cut out of larger ones, "A", "B"."""
    leaves, operands = [], []
    for name, rows, columns in (("a", m, k), ("b", k, n)):
        shape = (columns, rows) if name in how else (rows, columns)
        cut = name.upper() in how
        x = normal(*batch, shape[0] + 2 * cut, shape[1] + 3 * cut, dtype=dtype)
        leaves.append(x)
        part = x[..., 1 : 1 + shape[0], 2 : 2 + shape[1]] if cut else x
        operands.append(part.transpose(-1, -2) if name in how else part)
    return operands[0] @ operands[1], leaves


def of(function: Callable[..., Any], *operands: Any) -> Made:
    return function(*operands), [x for x in operands if x.requires_grad]


# Sizes that end within registers (16, 8, 4 lanes), tiles, panels, blocks of k, lines, buckets; each with one more and less.
TAILS: dict[str, Callable[[], Made]] = {
    **{
        f"product {m}x{n}x{k} {dtype} {how}": lambda m=m, n=n, k=k, dtype=dtype, how=how: product(m, n, k, dtype, how=how)
        for m, n, k, dtype, how in [
            (1, 1, 1, "float32", ""), (5, 7, 3, "float32", ""), (5, 7, 3, "float32", "ab"), (17, 31, 33, "float32", "b"),
            (13, 16, 15, "float64", ""), (29, 49, 65, "float32", "AB"), (29, 49, 65, "float32", "abAB"), (1, 301, 67, "float32", ""),
            (3, 1031, 40, "float32", ""), (1, 67, 301, "float32", "b"), (9, 5, 1501, "float32", "b"), (513, 1, 65, "float32", "a"),
            (31, 65, 1027, "float32", ""), (131, 401, 303, "float32", ""), (37, 19, 1025, "float64", "a"), (67, 129, 131, "float64", "bB"),
            (47, 33, 29, "bfloat16", ""), (47, 33, 29, "float16", "b"), (259, 17, 1024, "float32", ""),
        ]
    },
    "batch of products": lambda: product(9, 21, 11, batch=(7,)),
    "batch of two axes": lambda: product(9, 21, 11, batch=(3, 2), how="bA"),
    "many small products": lambda: product(3, 5, 2, batch=(301,)),
    "matrix times vector": lambda: of(torch.matmul, normal(131, 257), normal(257)),
    "vector times matrix": lambda: of(torch.matmul, normal(131), normal(131, 259)),
    "dot": lambda: of(torch.dot, normal(70_003), normal(70_003)),
    "whole numbers": lambda: of(torch.matmul, integers(9, 33, 17), integers(9, 17, 35)),
    **{
        f"conv {x} by {w} {o}": lambda x=x, w=w, o=o: of(
            lambda a, b: getattr(F, f"conv{len(x) - 2}d")(a, b, **o), normal(*x), normal(*w)
        )
        for x, w, o in [
            ((2, 3, 17), (5, 3, 3), {}), ((1, 1, 1), (1, 1, 1), {}), ((3, 4, 31), (7, 4, 5), dict(padding=2, stride=2)),
            ((2, 3, 13, 17), (5, 3, 3, 3), dict(padding=1)), ((2, 4, 13, 17), (6, 2, 3, 5), dict(stride=(2, 1), groups=2)),
            ((1, 17, 29, 31), (33, 17, 3, 3), dict(padding=1)), ((3, 5, 19, 23), (3, 5, 2, 3), dict(dilation=(2, 3), padding=(1, 2))),
            ((2, 33, 7, 7), (65, 33, 3, 3), dict(padding=1)), ((5, 20, 12, 13), (35, 20, 1, 1), {}), ((2, 6, 30, 30), (6, 1, 5, 5), dict(groups=6)),
            ((2, 32, 31, 33), (40, 32, 3, 3), dict(padding=1)), ((3, 64, 15, 15), (33, 64, 3, 3), {}),
            ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), dict(padding=1)), ((1, 5, 2, 4003), (9, 5, 1, 7), dict(padding=(0, 3))),
        ]
    },
    "transposed conv": lambda: of(lambda a, b: F.conv_transpose2d(a, b, stride=2, padding=1), normal(2, 5, 9, 11), normal(5, 7, 3, 4)),
    "max pool": lambda: of(lambda x: F.max_pool2d(x, 3, 2, 1), normal(2, 3, 17, 19)),
    "average pool": lambda: of(lambda x: F.avg_pool2d(x, 2, 3), normal(2, 3, 17, 19)),
    **{
        f"sort {shape} {dtype}": lambda shape=shape, dtype=dtype: of(lambda x: x.sort(-1).values, normal(*shape, dtype=dtype))
        for shape, dtype in [
            ((1,), "float32"), ((3, 2), "float32"), ((7, 33), "float64"), ((3, 257), "float32"), ((2, 1031), "float64"),
            ((1, 70_001), "float32"), ((5, 9001), "float32"), ((129, 65), "float32"),
        ]
    },
    "sort of bytes": lambda: of(lambda x: x.to(torch.uint8).sort(0).values, integers(255, 1003, 3)),
    "topk": lambda: of(lambda x: x.topk(5, -1).values, normal(13, 10_007)),
    "topk of one long row": lambda: of(lambda x: x.topk(37).values, normal(200_003)),
    "median": lambda: of(lambda x: x.median(1).values, normal(11, 1013)),
    **{
        f"{name} over {axis} of {shape}": lambda name=name, axis=axis, shape=shape: of(
            lambda x: getattr(x, name)(axis), normal(*shape)
        )
        for name in ("sum", "cumsum", "logsumexp", "amax", "cumprod", "softmax")
        for axis, shape in [(0, (33, 47)), (1, (31, 17)), (-1, (3, 5003)), (0, (5003, 3)), (1, (3, 131, 7))]
    },
    "sum of everything": lambda: of(torch.sum, normal(1_000_003)),
    "embedding": lambda: of(lambda w: F.embedding(integers(97, 1501), w), normal(97, 37)),
    "scatter": lambda: of(lambda x: torch.zeros(61, 37).scatter_add(0, integers(61, 101, 37), x), normal(101, 37)),
    "gather": lambda: of(lambda x: x.gather(1, integers(103, 61, 97)), normal(61, 103)),
    "halves": lambda: of(lambda x: (x * 2).exp().sum(0), normal(67, 35, dtype="bfloat16")),
    "written past the caches": lambda: of(lambda x: x * 2 + 1, normal(1 << 10, 2049)),
    "attention": lambda: of(F.scaled_dot_product_attention, normal(2, 3, 37, 19), normal(2, 3, 41, 19), normal(2, 3, 41, 23)),
    "transpose": lambda: of(lambda x: x.t().contiguous(), normal(133, 259)),
    "transpose of bytes": lambda: of(lambda x: x.t().contiguous(), integers(2, 133, 259).to(torch.uint8)),
    "channels last": lambda: of(lambda x: x.permute(0, 2, 3, 1).exp() * 2, normal(3, 17, 29, 31, dtype="float64")),
}  # fmt: skip


@pytest.mark.parametrize("name", TAILS)
def test_tails(name: str, runs: list[int]) -> None:
    out, leaves = TAILS[name]()
    results = [out, *backward([out], leaves)]
    for t in results:
        t.detach().tolist()
    assert sum(runs) > 0


# --- what is planted is found -------------------------------------------------------------------------------------------


Change = Callable[[str], str]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Change], None]]:
    """A function that gives kernels another text from now on."""
    plain = jit.compile_kernels

    def planted(change: Change) -> None:
        def compiled(kernels: list) -> list:
            changed = [(name, change(text), declarations) for name, text, declarations in kernels]
            assert changed != kernels, "the text to be changed was not found"
            return plain(changed)

        monkeypatch.setattr(jit, "compile_kernels", compiled)

    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "0")  # the words to be changed are in the text
    bounds.sweep(1 << 30, 0)
    yield planted
    monkeypatch.undo()
    bounds.sweep(1 << 30, 0)
    assert torch.tensor([1.0, 4.0]).sqrt().tolist() == [1.0, 2.0], "the process goes on"


def shifted(use: str, by: int) -> Change:
    """Every vector or number that is loaded ("load") or stored ("store") lies `by` elements further."""

    def change(text: str) -> str:
        lines, number = [], 0
        for line in text.split("\n"):
            for pointer in re.findall(r"ptr (%t\d+)", line) if re.search(rf"\b{use} |masked\.{use}\.", line) else []:
                if re.search(rf"{pointer} = getelementptr float, ", text):
                    number += 1
                    lines.append(f"  %moved{number} = getelementptr float, ptr {pointer}, i64 {by}")
                    line = line.replace(f"ptr {pointer}", f"ptr %moved{number}")
            lines.append(line)
        return "\n".join(lines)

    return change


def run_planted(x: Any) -> str:
    """The message of what goes wrong when `x` is computed."""
    with pytest.raises(GuardError) as caught:
        x.tolist()
    return str(caught.value)


@pytest.mark.parametrize("n", [5, 20, 4096])
@pytest.mark.parametrize(("use", "by", "at"), [("load", 1, "n"), ("load", -1, "-4"), ("store", 1, "n"), ("store", -1, "-4")])
def test_an_offset_that_is_too_large_is_found(plant: Any, use: str, by: int, at: str, n: int) -> None:
    x = torch.tensor(np.linspace(0, 1, n, dtype="f"))
    plant(shifted(use, by))
    message = run_planted((x * 3.5 + x).sqrt())
    where = 4 * n if at == "n" else -4
    verb = "reads" if use == "load" else "writes"
    thing = f"input 0, %0 = input() (0, ({n},)" if use == "load" else "output 0"
    if "x86_64" in jit.target().triple:
        assert f"{verb} byte {where} of {thing}" in message
    assert f"which has {4 * n}" in message
    assert "kernel 'sqrt' (step 1 of 1)" in message and f"nest [i0<{n}]" in message and "load(%0[i0])" in message


@pytest.mark.parametrize("how", ["", "b", "AB"])
@pytest.mark.parametrize("use", ["load", "store"])
def test_a_product_that_goes_too_far_is_found(plant: Any, use: str, how: str) -> None:
    out, _ = product(33, 18, 29, how=how)
    plant(shifted(use, 64 * 64))
    assert ("reads byte" if use == "load" else "writes byte") in run_planted(out)


def test_a_distant_place_is_found(plant: Any) -> None:
    """Beyond the page behind a buffer, where its neighbours begin."""
    plant(shifted("store", 5000))
    assert "writes byte 20" in run_planted(torch.tensor(np.ones(7, "f")).exp() * 1.5)


def test_a_write_to_an_input_is_found(plant: Any) -> None:
    def change(text: str) -> str:
        return text.replace("getelementptr i32, ptr %idx, i64 1\n", "getelementptr i32, ptr %idx, i64 0\n")

    plant(change)
    message = run_planted(torch.tensor(np.linspace(0, 1, 33, dtype="f")).exp())
    assert "byte 0 of input 0" in message and "is not to be written" in message


def test_reading_what_nobody_wrote_is_found(plant: Any) -> None:
    def change(text: str) -> str:
        return "\n".join(line for line in text.split("\n") if "store <" not in line and "masked.store" not in line)

    plant(change)
    message = run_planted(torch.tensor(np.linspace(0, 1, 67, dtype="f")).sin())
    assert "wrote other bits at byte 0 of output 0" in message and "kernel 'sin'" in message


def test_memory_used_twice_at_the_same_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(blocks: list) -> tuple[dict, int]:
        return {key: 0 for key, *_ in blocks}, max([nbytes for _, nbytes, *_ in blocks], default=0)

    monkeypatch.setattr(scheduled, "plan_memory", careless)
    x = torch.tensor(np.random.default_rng(0).standard_normal((17, 17)).astype("f"))
    y = (x @ x) @ (x.t() @ (x + 1))  # not within an assertion, which would hold the intermediates
    assert "depends on where its program's buffers lie" in run_planted(y)
    assert plan_memory is not careless
    bounds.sweep(1 << 30, 0)


def test_errors_of_data_stay_errors() -> None:
    """An index out of range reads nothing, and is reported as always."""
    for _ in range(2):
        with pytest.raises(IndexError, match="out of"):
            (torch.ones(4, 3)[torch.tensor([1, 1 << 40])] * 3.5).tolist()


def test_results_asked_for_twice_and_no_results() -> None:
    b = GraphBuilder()
    x = b.node("input", attrs=(0, (5,), dt.float32))
    y = b.node("exp", x)
    made = program.compile_graph(b.finish([y, y]))
    assert type(made) is GuardedProgram
    one, two = made.run([Buffer.from_array(np.zeros(5, "f"))], [])
    assert one.array("f", (5,)).tolist() == two.array("f", (5,)).tolist() == [1.0] * 5
    assert (torch.ones(0, 3) @ torch.ones(3, 4)).sum().tolist() == 0


def test_nothing_without_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_GUARD", "0")
    b = GraphBuilder()
    graph = b.finish([b.node("exp", b.node("input", attrs=(0, (3,), dt.float32)))])
    assert type(program.compile_graph(graph)) is program.Program


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the handler is for Linux")
def test_other_faults_still_end_the_process() -> None:
    """Nobody watches any more after a run, and what is not fenced is not ours."""
    code = "import ctypes, adjoint as torch; torch.ones(5).exp().tolist(); ctypes.string_at(8)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "ADJOINT_GUARD": "1"}, capture_output=True)
    assert done.returncode == -signal.SIGSEGV
