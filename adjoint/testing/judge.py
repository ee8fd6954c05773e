"""Running a random program compiled, in reference mode and by PyTorch, and comparing everything it
observed.

`judge(program)` is the function to read first: it returns None or the first difference.
"""

from __future__ import annotations

from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

import adjoint
from adjoint.testing.program_prelude import PRELUDE
from adjoint.testing.programs import Program
from adjoint.trace import bounds, recorder, state

RUNS = (
    0,
    0,
    1,
)  # seeds of the data: a new path, the same path known, other numbers on a known path
TOLERANCE = {True: 1e-9, False: 1e-4}  # relative, for programs in float64 only, and for others


@lru_cache(maxsize=1)
def pytorch() -> Any:
    """PyTorch where it is installed, else None."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def run(program: Program, library: Any, seed: int, nudge: float = 0.0) -> list[Any]:
    """Everything the program observed; if it raised, the last entry is ("raised", type name)."""
    seen: list[Any] = []
    scope = {"torch": library, "np": np, "seen": seen, "SEED": seed, "NUDGE": nudge}
    exec(_prelude, scope)
    code = _code_of(program.source, program.seed)
    try:
        with np.errstate(all="ignore"):
            exec(code, scope)
    except Exception as error:
        seen.append(("raised", type(error).__name__, str(error)))
    return seen


@lru_cache(maxsize=1)
def _code_of(source: str, seed: int) -> CodeType:
    """The code of a program, which is run several times."""
    return compile(source, f"<program {seed}>", "exec")


_prelude = compile(PRELUDE, "<prelude>", "exec")


def run_reference(program: Program, seed: int, nudge: float = 0.0) -> list[Any]:
    """What the program observes where every operation of every thread runs at once."""
    before = state.default_eager  # of threads that begin
    state.default_eager = True
    try:
        with adjoint.eager():
            return run(program, adjoint, seed, nudge)
    finally:
        state.default_eager = before


def difference(got: list[Any], expected: list[Any], tolerance: float) -> str | None:
    """The first place where two observations differ, in words; None if they agree.

    tolerance: relative, and absolute at a tenth of it times the largest element; only for floating
    point.
    """
    for k, (a, b) in enumerate(zip(got, expected, strict=False)):
        if not same(a, b, tolerance):
            return f"observation {k}: got {a!r}, expected {b!r}"
    if len(got) != len(expected):
        last = (got if len(got) > len(expected) else expected)[-1]
        return f"{len(got)} observations instead of {len(expected)}; the last is {last!r}"
    return None


def same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return _close(np.asarray(a), np.asarray(b), tolerance)
    if (
        isinstance(a, tuple)
        and isinstance(b, tuple)
        and len(a) == len(b) == 4
        and isinstance(a[3], np.ndarray)
    ):
        if a[:3] != b[:3]:
            return False
        if not a[0].startswith("float"):
            return bool(np.array_equal(a[3], b[3], equal_nan=a[3].dtype.kind in "fc"))
        return _close(a[3], b[3], tolerance)
    if isinstance(a, tuple) and isinstance(b, tuple) and a[:1] == b[:1] == ("raised",):
        return _same_error(a[1], b[1])
    if isinstance(a, str) and isinstance(b, str):
        return _same_error(a, b)
    return type(a) is type(b) and bool(a == b)


def _same_error(a: str, b: str) -> bool:
    """Whether two names of exceptions mean the same: an index in a tensor raises what is both of PyTorch's."""
    return a == b or (a == "IndexOutOfRange" and b in ("IndexError", "RuntimeError"))


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    finite = np.abs(b[np.isfinite(b)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    return bool(np.allclose(a, b, rtol=tolerance, atol=0.1 * tolerance * scale, equal_nan=True))


def ill_conditioned(program: Program, seed: int) -> bool:
    """Whether the reference itself changes when the data is disturbed in its last digits."""
    plain, tolerance = run_reference(program, seed), TOLERANCE[program.precise]
    return any(
        difference(run_reference(program, seed, nudge), plain, tolerance)
        for nudge in (1.0, -1.0, 4.0)
    )


def judge(program: Program, runs: tuple[int, ...] = RUNS, torch_too: bool = True) -> str | None:
    """None, or how compiled code differs from the reference, or the reference from PyTorch."""
    tolerance = TOLERANCE[program.precise]
    expected = {seed: run_reference(program, seed) for seed in sorted(set(runs))}
    for number, seed in enumerate(runs):
        wrong = difference(run(program, adjoint, seed), expected[seed], tolerance)
        if wrong is not None:
            if ill_conditioned(program, seed):
                return None
            return f"compiled, run {number + 1} with data {seed}: {wrong}"
    library = pytorch() if torch_too and program.pure else None
    if library is not None:
        answer = run(program, library, 0)
        if not refused(answer) and not refused(expected[0]):
            wrong = difference(_filled(expected[0], answer), answer, 10 * tolerance)
            if wrong is not None and not ill_conditioned(program, 0):
                return f"reference against PyTorch: {wrong}"
    return None


def _filled(seen: list[Any], answer: list[Any]) -> list[Any]:
    """The same with zeros instead of None where the answer has None, and the other way round:
    whether a gradient that is zero by the rules arrives at all differs between the libraries where
    it was differentiated again."""
    return [
        b if _is_nothing(a) and _is_nothing(b) else a for a, b in zip(seen, answer, strict=False)
    ] + seen[len(answer) :]


def _is_nothing(a: Any) -> bool:
    return (
        a is None
        or isinstance(a, tuple)
        and len(a) == 4
        and str(a[0]).startswith("float")
        and not a[3].any()
    )


def refused(seen: list[Any]) -> bool:
    """Whether anything raised: what is an error, and what a derivative keeps, is not the same in
    both libraries."""
    return any(
        isinstance(a, str) and a == "refused" or isinstance(a, tuple) and a[:1] == ("raised",)
        for a in seen
    )


def forget_paths() -> None:
    """Start with an empty trie, so that a failure does not depend on what ran before."""
    recorder.local.trace.start()
    bounds.sweep(0, 0)
