"""Whole programs give the same compiled, in reference mode and by PyTorch, and compile nothing once they are running.

The programs are generators in `regression`, `networks`, `sequences` and `science`: a `yield` ends an iteration that does
what the one before did. In reference mode only PyTorch is compared with. Read `test_program` first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import networks
import numpy as np
import pytest
import regression
import science
import sequences

import adjoint
from adjoint.trace.state import counters

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
SETTLED = 2  # the iteration after which nothing may be compiled
LATE = {"policy_gradient": 3}  # what its second iteration leaves pending runs, and is compiled, in the third
# libraries differ in the last bits, and training multiplies that difference
ROUGH, FINE = 2e-4, 1e-7


@dataclass
class Outcome:
    """What a program returned as arrays, whether it computed in float64, and how many programs had been compiled
    after each iteration."""

    values: dict[str, np.ndarray]
    fine: bool
    compiled: list[int] = field(default_factory=list)


def run(program: Callable, library: Any) -> Outcome:
    compiled = []
    steps = program(library)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            tensors = {key: value for key, value in stop.value.items() if hasattr(value, "detach")}
            values = {key: np.array(value.detach().numpy()) for key, value in tensors.items()}
            fine = any(value.dtype == np.float64 for value in values.values())
            values.update({key: np.asarray(v) for key, v in stop.value.items() if key not in tensors})
            return Outcome(values, fine, compiled)
        if library is adjoint:
            compiled.append(counters["programs"])  # as `adjoint.stats()` says, which counts all memory, too


def check_equal(got: Outcome, expected: Outcome) -> None:
    """The same names, shapes, dtypes and values."""
    assert got.values.keys() == expected.values.keys()
    tolerance = FINE if expected.fine else ROUGH
    for key, value in got.values.items():
        other = expected.values[key]
        assert value.shape == other.shape, key
        assert value.dtype == other.dtype, key
        if value.dtype.kind == "f":
            scale = np.abs(other).max(initial=1.0, where=np.isfinite(other))
            np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance * scale, err_msg=key)
        else:
            np.testing.assert_array_equal(value, other, err_msg=key)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_program(program: Callable) -> None:
    got = run(program, adjoint)
    if not adjoint.is_eager():
        with adjoint.eager():
            check_equal(got, run(program, adjoint))
        settled = got.compiled[LATE.get(program.__name__, SETTLED) - 1 :]
        assert not settled or settled[-1] == settled[0], f"programs after each iteration: {got.compiled}"
    if pytorch is not None:
        check_equal(got, run(program, pytorch))


def test_comparison_can_fail() -> None:
    exact = Outcome({"a": np.array([1.0, 2.0]), "n": np.array(1)}, True)
    for other in (np.array([1.0, 2.0 + 1e-5]), np.array([1.0]), np.array([1.0, 2.0], np.float32)):
        with pytest.raises(AssertionError):
            check_equal(Outcome({"a": other, "n": np.array(1)}, True), exact)
    with pytest.raises(AssertionError):
        check_equal(Outcome({"a": np.array([1.0, 2.0]), "n": np.array(2)}, True), exact)
    check_equal(exact, exact)
    assert len(PROGRAMS) >= 40
