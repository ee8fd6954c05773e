"""Every operator's derivatives: reverse = forward = difference quotients, to second order, and those of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import Sample, flat, leaf, tensors

try:
    import torch as theirs
except ImportError:
    theirs = None

pytestmark = pytest.mark.usefixtures("little_effort")

DIFFERENTIABLE = [pytest.param(r, id=r.name) for r in RECORDS.values() if r.differentiable]


def small(record: OpRecord) -> list[Sample]:
    return [s for s in record.draw("float64") if s.is_small()]


def size(s: Sample) -> int:
    return sum(a.size for a in s.arrays())


def function_of(record: OpRecord, library: Any, s: Sample) -> tuple[Callable, list[Any]]:
    """The call as a function of its floating-point tensors alone, and those tensors as leaves."""
    args, options = tensors(library, s.args, leaf), tensors(library, s.options, leaf)
    given = [x for x in flat([args, list(options.values())]) if getattr(x, "requires_grad", False)]

    def call(*values: Any) -> tuple:
        rest = iter(values)

        def put(tree: Any) -> Any:
            if isinstance(tree, (list, tuple)):
                return type(tree)(put(t) for t in tree)
            return next(rest) if getattr(tree, "requires_grad", False) else tree

        placed = put(args)
        named = {k: put(v) for k, v in options.items()}
        return tuple(
            o for o in flat(record.run(library, *placed, **named)) if o.is_floating_point()
        )

    return call, given


@pytest.mark.parametrize("record", DIFFERENTIABLE)
def test_first_derivatives(record: OpRecord) -> None:
    """Of every sample in reference mode; compiled of the largest: the gradients of the others are compared with reference mode."""
    samples = small(record)
    assert samples, "no sample is small enough for difference quotients"
    for s in samples if torch.is_eager() else [max(samples, key=size)]:
        call, given = function_of(record, torch, s)
        try:
            torch.autograd.gradcheck(call, given, check_forward_ad=True)
        except torch.autograd.GradcheckError as error:
            raise AssertionError(f"{record.name}{s.describe()}: {error}") from None


@pytest.mark.parametrize("record", [p for p in DIFFERENTIABLE if p.values[0].second])
def test_second_derivatives(record: OpRecord) -> None:
    """Reverse and forward over reverse of the smallest sample; in reference mode of some others, too."""
    samples = sorted(small(record), key=lambda s: -size(s))[-4 if torch.is_eager() else -1 :]
    for s in samples:
        call, given = function_of(record, torch, s)
        try:
            torch.autograd.gradgradcheck(call, given, atol=1e-4, check_fwd_over_rev=s is samples[-1])
        except torch.autograd.GradcheckError as error:
            raise AssertionError(f"{record.name}{s.describe()}: {error}") from None


def gradients(record: OpRecord, library: Any, s: Sample) -> list[Any]:
    """Of a weighted sum of the results, by every tensor that has one."""
    call, given = function_of(record, library, s)
    outs = [o for o in call(*given) if o.requires_grad]
    rng = np.random.default_rng(1)
    seeds = [library.tensor(np.asarray(rng.standard_normal(tuple(o.shape)))) for o in outs]
    got = library.autograd.grad(outs, given, seeds, allow_unused=True) if outs else [None] * len(given)
    return [library.zeros_like(x) if g is None else g for g, x in zip(got, given, strict=True)]


def numbers(tensors: list[Any]) -> list[np.ndarray]:
    return [t.detach().resolve_neg().numpy().copy() for t in tensors]


@pytest.mark.parametrize("record", DIFFERENTIABLE)
def test_gradients_are_those_of_reference_mode_and_of_pytorch(record: OpRecord) -> None:
    asked = [theirs] if theirs is not None and record.torch is True else []
    made = []
    for s in record.draw("float64"):
        if any(a.dtype.kind == "f" for a in s.arrays()):
            with torch.eager():
                wanted = [numbers(gradients(record, torch, s))]
            made.append((s, gradients(record, torch, s), wanted + [numbers(gradients(record, m, s)) for m in asked]))
    for s, ours, wanted in made:  # after all have been recorded: one program
        for want in wanted:
            for g, w in zip(numbers(ours), want, strict=True):
                np.testing.assert_allclose(g, w, rtol=1e-7, atol=1e-9, err_msg=f"{record.name}{s.describe()}")
