"""Compiling kernels: one compilation for equal ones, errors that name the cause, targets."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from adjoint.runtime import jit

pytestmark = [pytest.mark.skipif(not jit.available(), reason="needs llvmlite"), pytest.mark.any_mode]

CONSTANT = """define double @{name}(double %x) {{
entry:
  %y = fadd double %x, {value}
  ret double %y
}}"""


def add_constant(name: str, value: float) -> tuple[str, str, list[str]]:
    return name, CONSTANT.format(name=name, value=value), []


def call(address: int, x: float) -> float:
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(x)


def test_kernels_of_one_call_share_a_module_and_work() -> None:
    addresses = jit.compile_kernels([add_constant("a", 1.5), add_constant("b", 2.5)])
    assert [call(f, 1.0) for f in addresses] == [2.5, 3.5]


def test_equal_kernels_are_compiled_once_whatever_their_names() -> None:
    before = jit.counters.kernels_compiled
    first, again = jit.compile_kernels([add_constant("first", 3.25), add_constant("other", 3.25)])
    (later,) = jit.compile_kernels([add_constant("third", 3.25)])
    assert first == again == later
    assert jit.counters.kernels_compiled == before + 1
    (different,) = jit.compile_kernels([add_constant("first", 4.25)])
    assert different != first and call(different, 0.0) == 4.25


def test_declarations_of_several_kernels_are_merged() -> None:
    declaration = "declare double @llvm.sqrt.f64(double)"
    text = (
        "define double @{}(double %x) {{\nentry:\n  %y = call double @llvm.sqrt.f64(double %x)\n"
        "  %z = fadd double %y, {}\n  ret double %z\n}}"
    )
    kernels = [(f"root{i}", text.format(f"root{i}", float(i)), [declaration]) for i in (1, 2)]
    assert [call(f, 9.0) for f in jit.compile_kernels(kernels)] == [4.0, 5.0]


def test_long_straight_line_code_gives_the_same_result_as_its_parts() -> None:
    # Long enough for the quick code generator, with values that live from start to end.
    lines = ["  %v0 = fadd double %x, 0.0"]
    expected = values = [0.5]
    for i in range(1, 900):
        back = max(0, i - 37)
        lines.append(f"  %v{i} = fmul double %v{i - 1}, 1.0009765625")
        lines.append(f"  %w{i} = fadd double %v{i}, %v{back}")
        lines.append(f"  %u{i} = fsub double %w{i}, %v{back}")
        values.append(values[-1] * 1.0009765625)
    text = "define double @long(double %x) {\nentry:\n" + "\n".join(lines)
    text += "\n  %r = fadd double %u899, %v899\n  ret double %r\n}"
    (address,) = jit.compile_kernels([("long", text, [])])
    last = expected[-1]
    assert call(address, 0.5) == ((last + expected[899 - 37]) - expected[899 - 37]) + last


def test_module_exports_functions_but_not_internal_ones() -> None:
    module = jit.compile_module(
        "define internal i32 @hidden() {\n  ret i32 7\n}\n"
        "define i32 @shown() {\n  %r = call i32 @hidden()\n  ret i32 %r\n}"
    )
    assert ctypes.CFUNCTYPE(ctypes.c_int32)(module.address("shown"))() == 7
    with pytest.raises(KeyError):
        module.address("hidden")


@pytest.mark.parametrize("text", ["define nonsense", "define i32 @f() {\n  ret i64 0\n}"])
def test_bad_ir_is_a_codegen_error(text: str) -> None:
    with pytest.raises(jit.CodegenError, match="LLVM refused"):
        jit.compile_module(text)


def test_threads_compile_at_the_same_time() -> None:
    results: dict[int, float] = {}

    def work(number: int) -> None:
        for i in range(5):
            (address,) = jit.compile_kernels([add_constant("t", 100.0 + number * 5 + i)])
            results[number * 5 + i] = call(address, 0.0)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: 100.0 + i for i in range(20)}


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )


def test_importing_does_not_load_llvmlite() -> None:
    code = "import sys, adjoint.runtime.jit; print('llvmlite' in sys.modules)"
    assert run_python(code).stdout.strip() == "False"


@pytest.mark.skipif(
    not (jit.available() and jit.target().triple.startswith("x86_64")), reason="needs x86-64"
)
def test_narrower_target_by_environment() -> None:
    code = "from adjoint.runtime import jit; t = jit.target(); print(t.vector_bytes, t.lanes(4))"
    assert run_python(code, ADJOINT_TARGET="sse2").stdout.split() == ["16", "4"]
    refused = run_python(code, ADJOINT_TARGET="abacus")
    assert "ValueError" in refused.stderr and "sse2" in refused.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_interrupt_never_leaves_llvm_locked() -> None:
    """Wherever in a call of LLVM it comes, another thread can compile afterwards."""
    assert jit.available()
    binding = importlib.import_module("llvmlite.binding")
    inner, call = binding.ffi.lib._lock._lock, binding.ffi.lib.LLVMPY_GetVersionInfo
    free: list[bool] = []

    def ask() -> None:
        free.append(inner.acquire(timeout=5))
        if free[-1]:
            inner.release()

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(400):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.000003 * (k % 60))
                while True:
                    call()
            except KeyboardInterrupt:
                pass
            if k % 20 == 19:
                thread = threading.Thread(target=ask)
                thread.start()
                thread.join()
                assert free[-1], k
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


# --- many kernels: several modules, several threads ----------------------------------------------------------------------


def long_kernels(count: int, first: float, bad: int | None = None) -> list[tuple[str, str, list[str]]]:
    """Functions of some 8,000 characters that add `first`, `first` + 1, ...; one may be none that LLVM takes."""
    found = []
    for k in range(count):
        lines = [f"define double @k{k}(double %x0) {{", "entry:"]
        lines += [f"  %x{i + 1} = fadd double %x{i}, {(first + k if i == 0 else 0.0)!r}" for i in range(200)]
        kind = "double" if k != bad else "nothing"
        found.append((f"k{k}", "\n".join([*lines, "  br label %out", "out:", f"  ret {kind} %x200", "}"]), []))
    return found


def places_of(codes: list[jit.Code]) -> set[tuple[bytes, str]]:
    return {code.place[1:] for code in codes}


def test_modules_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE", "0")
    seen = []
    for threads in (1, 3):
        monkeypatch.setattr(jit, "threads", lambda n=threads: n)
        monkeypatch.setattr(jit, "_kernels", {})
        compiled = jit.counters.kernels_compiled
        codes = jit.compile_kernels(long_kernels(120, 0.5))
        assert jit.counters.kernels_compiled == compiled + 120
        assert [call(code, 1.0) for code in codes] == [1.5 + k for k in range(120)]
        seen.append(places_of(codes))
    assert seen[0] == seen[1]
    assert 2 <= len({key for key, _ in seen[0]}) <= 8


def test_the_work_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE", "0")
    monkeypatch.setattr(jit, "threads", lambda: 2)
    who: set[int] = set()
    both, generate = threading.Event(), jit._object_code

    def noted(*args: Any) -> Any:
        who.add(threading.get_ident())
        if len(who) == 2:
            both.set()
        both.wait(10)
        return generate(*args)

    monkeypatch.setattr(jit, "_object_code", noted)
    jit.compile_kernels(long_kernels(60, 1000.5))
    assert len(who) == 2


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("bad", [0, 37, 79])
def test_an_error_in_one_of_several_modules(threads: int, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "threads", lambda: threads)
    with pytest.raises(jit.CodegenError, match="LLVM refused"):
        jit.compile_kernels(long_kernels(80, 2000.5, bad))
    assert threading.active_count() < 4 + threads
    assert [call(code, 0.0) for code in jit.compile_kernels(long_kernels(80, 2000.5))] == [2000.5 + k for k in range(80)]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_interrupt_ends_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADJOINT_CACHE", "0")
    monkeypatch.setattr(jit, "threads", lambda: 3)

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    old, before, stopped = signal.signal(signal.SIGALRM, interrupt), threading.active_count(), 0
    try:
        for k in range(6):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.008 * (k + 1))
                jit.compile_kernels(long_kernels(80, 3000.5 + 100 * k))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                stopped += 1
            ends = time.monotonic() + 5
            while threading.active_count() > before and time.monotonic() < ends:  # one that was just being started
                time.sleep(0.001)
            assert threading.active_count() == before
            codes = jit.compile_kernels(long_kernels(80, 3000.5 + 100 * k))
            assert call(codes[-1], 0.0) == 3079.5 + 100 * k
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert stopped
