"""Kernels that differ in sizes alone are compiled once, and compute what each compiled for itself would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
import adjoint.nn.functional as F
from adjoint.codegen.gemm import gemm_kernel
from adjoint.runtime import jit, sizes
from adjoint.runtime.plan import Call, Host, Plan, Stage
from adjoint.trace import bounds, state

pytestmark = pytest.mark.skipif(torch.is_eager(), reason="nothing is compiled")


@pytest.fixture(autouse=True)
def none_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sizes, "_forms", {})
    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "1")
    torch.ones(1).item()  # ends what others have begun
    yield


def normal(*shape: int) -> Any:
    return torch.tensor(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))


def gradients(function: Callable[..., Any], *operands: Any) -> list[Any]:
    """The value of a function and the gradient of the sum of its square."""
    leaves = [x.requires_grad_() for x in operands]
    out = function(*leaves)
    (out * out).sum().backward()
    return [out, *(x.grad for x in leaves)]


def bits(result: Any) -> list[bytes]:
    return [t.detach().numpy().tobytes() for t in ([result] if isinstance(result, torch.Tensor) else result)]


def forget() -> None:
    """Programs of other settings are not to be found again."""
    bounds.forget_below(state.roots())


def kernels() -> int:
    return torch.stats()["kernels"]


def model(x: Any, w: Any) -> Any:
    return F.layer_norm(torch.tanh(x @ w), (w.shape[1],)).softmax(-1)


PROGRAMS: dict[str, tuple[Callable[[int], Any], range]] = {
    "pointwise": (lambda n: torch.sin(normal(n, 67)) * 2, range(300, 340, 4)),
    "sums": (lambda n: normal(n, 257).sum(0), range(48, 88, 4)),
    "layers with gradients": (lambda n: gradients(model, normal(n, 48), normal(48, 96)), range(96, 336, 24)),
    "transposed": (lambda n: (normal(n, 64).t().contiguous(), normal(64, n).t() @ normal(64, 32)), range(144, 304, 16)),
    "attention": (lambda n: gradients(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), normal(2, 3, n, 32)), range(144, 304, 16)),
    "conv2d": (lambda n: gradients(lambda x, k: F.conv2d(x, k, padding=1), normal(n, 8, 17, 16), normal(16, 8, 3, 3)), range(8, 48, 4)),
    "images of other sizes": (lambda n: F.max_pool2d(F.conv2d(normal(2, 8, n, n), normal(16, 8, 3, 3), padding=1), 2), range(32, 112, 8)),
    "parameters": (lambda n: torch.empty(n, 32).uniform_(-1, 1, generator=torch.Generator().manual_seed(n)), range(256, 296, 4)),
    "cumsum": (lambda n: normal(n, 130).cumsum(0), range(60, 100, 4)),
    "sort": (lambda n: normal(n, 130).sort(1).values, range(60, 100, 4)),
    "embedding": (lambda n: gradients(lambda w: F.embedding(torch.arange(n) % 50, w), normal(50, 64)), range(96, 256, 16)),
    "with a step of NumPy's": (lambda n: torch.linalg.qr(torch.cos(normal(n, 8)))[1] * 2, range(20, 40, 2)),
}  # fmt: skip
OFTEN_NEW = {"images of other sizes", "sort"}  # tiles of other forms; numbers in vectors


@pytest.mark.parametrize("name", PROGRAMS)
def test_ever_new_sizes_get_the_bits_of_kernels_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, lengths = PROGRAMS[name]
    common = [bits(program(n)) for n in lengths]
    forget()
    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "0")
    assert common == [bits(program(n)) for n in lengths]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in OFTEN_NEW])
def test_ever_new_sizes_need_ever_fewer_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of ten sizes together fewer than the first two."""
    monkeypatch.setenv("ADJOINT_CACHE", "0")  # a plan on disk is not made
    forget()
    monkeypatch.setattr(jit, "_kernels", {})
    program, lengths = PROGRAMS[name]
    made = []
    for n in lengths:
        before = kernels()
        bits(program(n))
        made.append(kernels() - before)
    assert made[0] > 0
    assert sum(made[5:]) < made[0] + made[1], made


def test_what_was_compiled_for_all_sizes_is_found_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE_DIR", str(tmp_path))
    lengths = (411, 423, 437)
    first = [bits(model(normal(n, 16), normal(16, 48))) for n in lengths]
    assert any([form.groups for form in sizes._forms.values()])
    forget()
    sizes._forms.clear()
    compiled = jit.counters.kernels_compiled
    assert [bits(model(normal(n, 16), normal(16, 48))) for n in lengths] == first
    assert jit.counters.kernels_compiled == compiled and not sizes._forms


# --- texts ----------------------------------------------------------------------------------------------------------------


def text(stop: int, step: int = 16, distance: int = 7) -> str:
    """One loop, in the words that kernels are written in."""
    return f"""define void @kernel(ptr %bufs, ptr %idx, ptr %scalars, i64 %lo, i64 %hi, ptr %own) {{
entry:
  %cell = getelementptr ptr, ptr %bufs, i64 0
  %b = load ptr, ptr %cell, align 8
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %n, %loop ]
  %p = getelementptr i64, ptr %b, i64 %i
  %v = mul i64 %i, {distance}
  store i64 %v, ptr %p, align 8
  %w = add <2 x i64> <i64 3, i64 4>, splat (i64 5)
  %n = add nuw nsw i64 %i, {step}
  %more = icmp slt i64 %n, {stop}
  br i1 %more, label %loop, label %done
done:
  ret void
}}"""


def plan_of(count: int) -> Plan:
    calls = [Call((5, 6, k), 1, 0) for k in range(count)]
    host = Stage(Host("cholesky", None, (), (), torch.float32), (1,))
    return Plan(0, [], stages=[Stage(tuple(calls[:1]), (0,)), host, Stage(tuple(calls[1:]), (2,))])


def given(*texts: str) -> tuple[list[str], list[tuple[int, ...]]]:
    """What is compiled for a program of these kernels, and the words behind the first ones of each table."""
    plan = plan_of(len(texts))
    found = [made for _, made, _ in sizes.shared([("kernel", t, []) for t in texts], plan)]
    tables = [call.table for stage in plan.stages if not isinstance(stage.work, Host) for call in stage.work]
    assert [table[:3] for table in tables] == [(5, 6, k) for k in range(len(texts))]
    return found, [table[3:] for table in tables]


def test_the_first_program_is_left_as_it_is() -> None:
    """Kernels within one program, too: what is compiled for one size alone may run a little faster."""
    assert given(text(100), text(200)) == ([text(100), text(200)], [(), ()])


def test_only_numbers_that_differ_are_read() -> None:
    given(text(100))
    [made], [words] = given(text(200))
    assert words == (200,) and "icmp slt i64 %n, %size0" in made
    assert made.count("%size0\n") == 1
    assert re.search(r"getelementptr i32, ptr %idx, i64 3\n", made)  # behind the words that were there
    assert given(text(300)) == ([made], [(300,)])
    assert given(text(200), text(500)) == ([made, made], [(200,), (500,)])
    assert given(text(100)) == ([made], [(100,)])


def test_numbers_that_were_always_equal_are_read_once() -> None:
    given(text(100, distance=100))
    [made], [words] = given(text(200, distance=200))
    assert words == (200,) and made.count("%size0\n") == 2
    [wider], [words] = given(text(300, distance=301))
    assert sorted(words) == [300, 301] and wider != made


def test_a_number_more_makes_the_common_kernel_wider() -> None:
    given(text(100))
    given(text(200))
    [made], [words] = given(text(300, step=32))
    assert sorted(words) == [32, 300]
    assert given(text(100)) == ([made], [(16, 100) if words == (32, 300) else (100, 16)])


def test_vectors_are_not_taken_for_numbers() -> None:
    given(text(100).replace("<i64 3, i64 4>", "<i64 3, i64 9>"))
    assert given(text(100)) == ([text(100)], [()])
    assert given(text(100).replace("splat (i64 5)", "splat (i64 6)"))[1] == [()]


def test_far_numbers_stay_in_the_text() -> None:
    given(text(100))
    assert given(text(1 << 31)) == ([text(1 << 31)], [()])
    assert given(text((1 << 31) - 1))[1] == [((1 << 31) - 1,)]


def test_kernels_with_other_declarations_or_tables_are_others() -> None:
    sizes.shared([("kernel", text(100), ["declare void @a()"])], plan_of(1))
    [(_, made, _)] = sizes.shared([("kernel", text(200), ["declare void @b()"])], plan_of(1))
    assert made == text(200)


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_FORMS", 3)
    for k in range(8):
        given(text(100).replace("mul", f"mul nuw nsw i64 %i, {k}\n  " * k + "%z = mul"))
    assert len(sizes._forms) == 3
    for k in range(12):
        given(text(100 + k))
    [form] = [form for form in sizes._forms.values() if form.groups]
    assert len(form.known) == sizes._KNOWN and form.known[0][-1] == 100


def test_many_numbers_stay_in_the_text() -> None:
    def long(first: int) -> str:
        sums = "".join([f"  %s{k} = add i64 %i, {first + k * k}\n" for k in range(sizes._MOST + 1)])
        return text(100).replace("  %v = ", sums + "  %v = ")

    given(long(1000))
    assert given(long(5000)) == ([long(5000)], [()])


LAYOUTS = {"rows": lambda m, n, k: ((0, k, 1), (0, n, 1)), "columns": lambda m, n, k: ((0, 1, m), (0, 1, k)), "mixed": lambda m, n, k: ((0, 1, m), (0, n, 1))}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loop_of_a_product_reads_as_few_distances_as_there_are_registers_for(layout: str) -> None:
    """One for each row of a tile, or for each of the steps in one turn: where there were all their sums it took 1.4 times as long."""

    def product(m: int, n: int, k: int) -> str:
        return gemm_kernel("kernel", "float32", 1, m, n, k, *LAYOUTS[layout](m, n, k)).phases[-1].text

    given(product(1024, 256, 100))
    [made], [words] = given(product(1000, 256, 128))
    assert len(words) > 4
    loop = max(re.split(r"\n(?=\w+:)", made), key=lambda block: block.count("@llvm.fmuladd"))
    assert loop.count("@llvm.fmuladd") == 4 * 24
    assert 1 <= len(set(re.findall(r"%size\d+", loop))) <= 9


def test_what_reads_its_sizes_is_compiled_with_the_same_effort() -> None:
    """Long functions without a branch are compiled with less, which may tell in the last bit."""

    def straight(first: int, lines: int) -> str:
        sums = "".join([f"  %s{k} = add i64 %lo, {first + k % 50}\n" for k in range(lines - 4)])
        return "define void @kernel(ptr %bufs, ptr %idx, i64 %lo) {\nentry:\n" + sums + "  ret void\n}\n"

    for lines in (jit._STRAIGHT_LINE, jit._STRAIGHT_LINE + 1):
        given(straight(1000, lines))
        [made], [words] = given(straight(5000, lines))
        assert len(words) == 50
        assert jit._is_straight_line(made, ()) == jit._is_straight_line(straight(1000, lines), ()) == (lines > jit._STRAIGHT_LINE)


def test_the_flag_leaves_all_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "0")
    given(text(100))
    assert given(text(200)) == ([text(200)], [()]) and not sizes._forms
    monkeypatch.setenv("ADJOINT_SHARED_SIZES", "2")
    [made], [words] = given(text(300))
    assert set(words) >= {0, 16, 300} and len(words) == len(set(words)) and "<i64 3, i64 4>" in made


def test_a_common_kernel_runs() -> None:
    """Compiled and called with the words of two sizes."""
    given(text(100))
    [made], _ = given(text(200, distance=9))
    (code,) = jit.compile_kernels([("kernel", made, [])])
    from ctypes import CFUNCTYPE, c_int64, c_void_p

    call = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_void_p)(code)
    for stop, distance in ((48, 5), (160, 11)):
        values = np.full(256, -1, np.int64)
        buffers = np.array([values.ctypes.data], np.int64)
        _, [words] = given(text(stop, distance=distance))
        table = np.array([0, 0, 0, *words], np.int32)
        call(buffers.ctypes.data, table.ctypes.data, None, 0, 1, None)
        want = np.full(256, -1, np.int64)
        want[:stop:16] = distance * np.arange(0, stop, 16)
        assert (values == want).all()
