"""Result dtypes and shapes, and the exceptions of wrong calls, are those of PyTorch where it is installed."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.testing.operators import RECORDS, OpRecord
from adjoint.testing.operators.record import EVERY, Failure, flat, tensors

SAME = [pytest.param(r, id=r.name) for r in RECORDS.values() if r.torch is True]
NUMBERS = (True, 3, 2.5)
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "lt": operator.lt,
    "and": operator.and_,
}


def kind(t: Any) -> tuple[str, tuple[int, ...]]:
    return str(t.dtype), tuple(t.shape)


@pytest.mark.parametrize("record", SAME)
def test_dtype_and_shape(record: OpRecord) -> None:
    theirs = pytest.importorskip("torch")
    for dtype in record.dtypes:
        for s in record.draw(dtype):
            got, want = (
                [
                    kind(t)
                    for t in flat(
                        record.run(
                            library, *tensors(library, s.args), **tensors(library, s.options)
                        )
                    )
                ]
                for library in (torch, theirs)
            )
            assert got == want, f"{record.name}{s.describe()} as {dtype}"


@pytest.mark.parametrize("record", SAME)
def test_value_is_that_of_pytorch(record: OpRecord) -> None:
    """NumPy judges most values; PyTorch judges all, with the samples that have no NumPy reference."""
    theirs = pytest.importorskip("torch")
    dtype = record.dtypes[-1]
    for s in record.draw(dtype):
        got, want = (
            [
                t.numpy()
                for t in flat(
                    record.run(library, *tensors(library, s.args), **tensors(library, s.options))
                )
            ]
            for library in (torch, theirs)
        )
        for g, w in zip(got, want, strict=True):
            if g.dtype.kind == "f":
                rtol = max(record.tolerance(g.dtype), 1e-9 if g.dtype == np.float64 else 3e-6)
                size = np.abs(w[np.isfinite(w)]).max(initial=0)
                np.testing.assert_allclose(
                    g, w, rtol=rtol, atol=rtol * size, err_msg=record.name + s.describe()
                )
            else:
                np.testing.assert_array_equal(g, w, err_msg=record.name + s.describe())


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """The dtype of the result, or the type of the exception."""
    try:
        return str(function(*args).dtype)
    except Exception as error:
        return type(error).__name__


def operands(library: Any, dtype: str) -> list[Any]:
    """A vector and a 0-d tensor of a dtype."""
    return [
        library.ones(2, dtype=getattr(library, dtype)),
        library.ones((), dtype=getattr(library, dtype)),
    ]


@pytest.mark.parametrize("name", OPERATORS)
def test_promotion_table(name: str) -> None:
    """Every pair of dtypes, of tensors with axes, 0-d tensors and numbers, on either side."""
    theirs = pytest.importorskip("torch")
    function = OPERATORS[name]
    for a, b in itertools.product(EVERY, EVERY):
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            got, want = (
                outcome(function, operands(lib, a)[i], operands(lib, b)[j])
                for lib in (torch, theirs)
            )
            assert got == want, f"{a} rank {1 - i} {name} {b} rank {1 - j}"
    for a, number in itertools.product(EVERY, NUMBERS):
        for i in (0, 1):
            for order in (1, -1):
                got, want = (
                    outcome(function, *(operands(lib, a)[i], number)[::order])
                    for lib in (torch, theirs)
                )
                assert got == want, f"{a} rank {1 - i} {name} {number!r}, order {order}"


# Where Adjoint computes what PyTorch refuses: the value on bools is that on 0 and 1.
GENEROUS = {
    ("abs", "bool"),
    ("relu", "bool"),
    ("floor", "bool"),
    ("round", "bool"),
    ("argmax", "bool"),
}


@pytest.mark.parametrize(
    "name",
    [
        "sin",
        "sqrt",
        "sigmoid",
        "relu",
        "abs",
        "neg",
        "floor",
        "round",
        "sign",
        "square",
        "exp",
        "isnan",
        "sum",
        "prod",
        "mean",
        "amax",
        "argmax",
        "cumsum",
    ],
)
def test_dtype_of_functions_of_one_tensor(name: str) -> None:
    theirs = pytest.importorskip("torch")
    for dtype in EVERY:
        arguments = (0,) if name == "cumsum" else ()
        got, want = (
            outcome(getattr(lib, name), operands(lib, dtype)[0], *arguments)
            for lib in (torch, theirs)
        )
        assert got == want or (name, dtype) in GENEROUS, f"{name} of {dtype}: {got}, PyTorch {want}"


def test_promote_types_is_a_lattice() -> None:
    """Commutative, associative, idempotent: needs no oracle."""
    kinds = [getattr(torch, d) for d in EVERY]
    for a, b in itertools.product(kinds, kinds):
        both = torch.promote_types(a, b)
        assert both is torch.promote_types(b, a)
        assert torch.promote_types(a, both) is both
    for a, b, c in itertools.product(kinds, kinds, kinds):
        left = torch.promote_types(torch.promote_types(a, b), c)
        assert left is torch.promote_types(a, torch.promote_types(b, c))


def test_promote_and_result_type_are_those_of_pytorch() -> None:
    theirs = pytest.importorskip("torch")
    for a, b in itertools.product(EVERY, EVERY):
        assert str(torch.promote_types(getattr(torch, a), getattr(torch, b))) == str(
            theirs.promote_types(getattr(theirs, a), getattr(theirs, b))
        )
        for number in NUMBERS:
            assert str(torch.result_type(operands(torch, a)[0], number)) == str(
                theirs.result_type(operands(theirs, a)[0], number)
            )


def failures() -> list:
    rows = [(r, f) for r in RECORDS.values() if r.torch is True for f in r.errors]
    return [pytest.param(r, f, id=f"{r.name}-{f.fragment.replace(' ', '-')}") for r, f in rows]


@pytest.mark.parametrize(("record", "failure"), failures())
def test_exception_is_that_of_pytorch(record: OpRecord, failure: Failure) -> None:
    theirs = pytest.importorskip("torch")
    with pytest.raises(failure.exception):
        record.run(theirs, *tensors(theirs, failure.args), **tensors(theirs, failure.options))


def test_sums_with_a_scaled_product() -> None:
    """With beta 0 nothing of the input is left but its shape, which must be one that spreads to the product's."""
    nan, a, b = torch.full((2, 3), float("nan"), requires_grad=True), torch.ones(2, 4), torch.ones(4, 3)
    out = torch.addmm(nan, a, b, beta=0, alpha=2)
    out.sum().backward()
    assert out.tolist() == [[8.0] * 3] * 2 and nan.grad.tolist() == [[0.0] * 3] * 2
    nan = nan.detach()
    assert nan.clone().addmm_(a, b, beta=0).tolist() == [[4.0] * 3] * 2
    assert torch.baddbmm(nan.half(), a[None].half(), b[None].half(), beta=0).tolist() == [[[4.0] * 3] * 2]
    assert torch.addbmm(nan, a[None], b[None], beta=0).tolist() == [[4.0] * 3] * 2
    assert torch.addmv(nan[:, 0], a, b[:, 0], beta=0).tolist() == [4.0] * 2
    assert torch.addr(nan, a[:, 0], b[0], beta=0).tolist() == [[1.0] * 3] * 2
    for input in (torch.zeros(4, 3), torch.zeros(2, 2, 3)):
        with pytest.raises(RuntimeError, match="expand"):
            torch.addmm(input, a[:1], b)


def test_integer_samples() -> None:
    x = torch.tensor([[1, 2, 6], [2, 0, 1]])
    assert torch.cov(x).tolist() == torch.cov(x.float()).tolist()
    assert torch.corrcoef(x).tolist() == torch.corrcoef(x.float()).tolist()
    assert torch.cov(x[:1]).shape == torch.corrcoef(x[:1]).shape == ()
    assert torch.nansum(x.int()).dtype is torch.int64 and torch.nansum(x, 0).tolist() == [3, 2, 7]


def test_norms_of_matrices_along_any_axes() -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal((2, 3, 4)))
    for order in ("nuc", 2, -2):
        parts = torch.stack([torch.linalg.matrix_norm(x[:, :, i], order) for i in range(4)])
        assert torch.allclose(torch.linalg.matrix_norm(x, order, (0, 1)), parts)
        assert torch.linalg.matrix_norm(x, order, (0, 1), keepdim=True).shape == (1, 1, 4)
    assert torch.allclose(torch.norm(x, "nuc", (0, 1)), torch.linalg.matrix_norm(x, "nuc", (0, 1)))
    with pytest.raises(RuntimeError, match="Order 3 not supported"):
        torch.linalg.matrix_norm(x, 3)
