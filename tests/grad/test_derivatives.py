"""Every operator's derivatives: reverse = forward = difference quotients, to second order, and those of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import Sample, flat, leaf, tensors

pytestmark = pytest.mark.usefixtures("little_effort")

DIFFERENTIABLE = [pytest.param(r, id=r.name) for r in RECORDS.values() if r.differentiable]


def small(record: OpRecord) -> list[Sample]:
    return [s for s in record.draw("float64") if s.is_small()]


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
    samples = small(record)
    assert samples, "no sample is small enough for difference quotients"
    for s in samples:
        call, given = function_of(record, torch, s)
        try:
            torch.autograd.gradcheck(call, given, check_forward_ad=True)
        except torch.autograd.GradcheckError as error:
            raise AssertionError(f"{record.name}{s.describe()}: {error}") from None


@pytest.mark.parametrize("record", [p for p in DIFFERENTIABLE if p.values[0].second])
def test_second_derivatives(record: OpRecord) -> None:
    """Reverse and forward over reverse of the smallest sample; in reference mode of some others, too."""
    samples = sorted(small(record), key=lambda s: -sum(a.size for a in s.arrays()))[-4 if torch.is_eager() else -1 :]
    for s in samples:
        call, given = function_of(record, torch, s)
        try:
            torch.autograd.gradgradcheck(call, given, atol=1e-4, check_fwd_over_rev=s is samples[-1])
        except torch.autograd.GradcheckError as error:
            raise AssertionError(f"{record.name}{s.describe()}: {error}") from None


@pytest.mark.parametrize("record", [p for p in DIFFERENTIABLE if p.values[0].torch is True])
def test_gradients_are_those_of_pytorch(record: OpRecord) -> None:
    theirs = pytest.importorskip("torch")
    for s in record.draw("float64"):
        if not any(a.dtype.kind == "f" for a in s.arrays()):
            continue
        found = []
        for library in (torch, theirs):
            call, given = function_of(record, library, s)
            outs = [o for o in call(*given) if o.requires_grad]
            rng = np.random.default_rng(1)
            seeds = [library.tensor(np.asarray(rng.standard_normal(tuple(o.shape)))) for o in outs]
            unused = [None] * len(given)
            got = library.autograd.grad(outs, given, seeds, allow_unused=True) if outs else unused
            found.append(
                [
                    np.zeros(tuple(x.shape)) if g is None else g.detach().resolve_neg().numpy()
                    for g, x in zip(got, given, strict=True)
                ]
            )
        for ours, wanted in zip(*found, strict=True):
            np.testing.assert_allclose(
                ours, wanted, rtol=1e-7, atol=1e-9, err_msg=f"{record.name}{s.describe()}"
            )
