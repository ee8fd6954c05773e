"""The kernel tests once more with code for older machines: without AVX-512, and without AVX, FMA and float16.

A process generates code for one instruction set, so each runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import adjoint as torch
from adjoint.runtime import jit

ROOT = Path(__file__).parents[2]
# Products, convolutions, orders; loops and shapes that end within registers, between fences; every float16.
CONTRACTIONS = ("tests/codegen/test_gemm.py", "tests/schedule/test_epilogues.py", "tests/codegen/test_conv.py", "tests/codegen/test_sort.py")
FILES = {
    "avx2": (*CONTRACTIONS, "tests/codegen/test_transpose.py", "tests/runtime/test_guards.py"),
    "sse2": (*CONTRACTIONS, "tests/codegen/test_kernels.py", "tests/codegen/test_transpose.py", "tests/ops/test_halves.py"),
}  # not test_vecmath.py, which compiles for the processor that there is, whatever the target
LEFT_OUT = (  # for their time: they ask nothing else of another machine
    "test_binary", "test_operators", "test_random_problems", "test_exact_unary", "test_lanes_do_not", "test_widths", "test_every_register",
    "test_three_thousand", "test_values_are_those", "test_compiled_is", "test_gradients", "test_arithmetic", "test_training",
    "of_another_width", "test_fewer_products_have_the_same_bits",
    "(test_layouts and (float64 or int32))", "(test_ranks and (int64 or sampled))", "(test_reductions and amin)",
    "(test_tails and (cumprod or amax))", "(test_strips and (1100 or 2049 or 1041 or 1031))", "(main_memory and (int16 or float64))",
    "(often_are_called and (float64 or gamma))", "(behind_the_beginning and 800)",
)  # fmt: skip


def available(target: str) -> bool:
    code = "from adjoint.runtime import jit; print(jit.target().vector_bytes)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "ADJOINT_TARGET": target}, capture_output=True)
    return found.returncode == 0


@pytest.mark.skipif(torch.is_eager() or not jit.available(), reason="compiles nothing")
@pytest.mark.skipif("ADJOINT_TARGET" in os.environ, reason="this is such a process")
@pytest.mark.parametrize("target", FILES)
def test_kernels_for_older_machines(target: str) -> None:
    if not available(target):
        pytest.skip(f"this machine has no {target}")
    chosen = " and ".join(f"not {name}" for name in LEFT_OUT)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", chosen, *FILES[target]]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ADJOINT_TARGET": target}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
