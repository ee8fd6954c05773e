"""Whole programs give the same compiled, in reference mode and by PyTorch, and compile nothing once they are running.

The programs are generators in `regression`, `networks`, `sequences` and `science`: a `yield` ends an iteration that does
what the one before did. In reference mode only PyTorch is compared with.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import networks
import numpy as np
import pytest
import regression
import science
import sequences

import adjoint

try:
    import torch as pytorch
except ImportError:
    pytorch = None

PROGRAMS = [
    function
    for module in (regression, networks, sequences, science)
    for name, function in vars(module).items()
    if inspect.isgeneratorfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
]
# libraries differ in the last bits, and training multiplies that difference
ROUGH = {np.dtype(np.float32): 2e-4, np.dtype(np.float64): 1e-7}
# iterations after which nothing may be compiled: the second, unless the program says why it needs more
SETTLED: dict[str, int] = {}


def run(program: Callable, library: Any) -> tuple[dict, list[int]]:
    """What a program returned, and how many programs had been compiled after each of its iterations."""
    compiled = []
    steps = program(library)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return {key: to_array(value) for key, value in stop.value.items()}, compiled
        if library is adjoint:
            compiled.append(adjoint.stats()["programs"])


def to_array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        return np.array(value.detach().numpy())
    return np.asarray(value)


def check_equal(got: dict, expected: dict, exact_dtype: bool = True) -> None:
    assert got.keys() == expected.keys()
    for key, value in got.items():
        other = expected[key]
        assert value.shape == other.shape, key
        assert value.dtype == other.dtype, key
        if value.dtype.kind == "f":
            scale = np.abs(other).max(initial=1.0, where=np.isfinite(other))
            # a Python list of numbers is float64 whatever made them
            rough = ROUGH[np.dtype(np.float32)] if any(v.dtype == np.float32 for v in expected.values()) else 1e-7
            np.testing.assert_allclose(value, other, rtol=rough, atol=rough * scale, err_msg=key)
        else:
            np.testing.assert_array_equal(value, other, err_msg=key)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_program(program: Callable) -> None:
    got, compiled = run(program, adjoint)
    if not adjoint.is_eager():
        with adjoint.eager():
            check_equal(got, run(program, adjoint)[0])
        settled = compiled[SETTLED.get(program.__name__, 2) - 1 :]
        assert not settled or settled[-1] == settled[0], f"programs after each iteration: {compiled}"
    if pytorch is not None:
        check_equal(got, run(program, pytorch)[0])


def test_every_program_is_compared() -> None:
    """A program that returned nothing, or a comparison that could not fail, would show nothing."""
    assert len(PROGRAMS) >= 40
    with pytest.raises(AssertionError):
        check_equal({"a": np.array([1.0, 2.0])}, {"a": np.array([1.0, 2.0 + 1e-5])})
    with pytest.raises(AssertionError):
        check_equal({"a": np.array([1])}, {"a": np.array([2])})
