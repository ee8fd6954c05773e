"""Dtypes themselves: the promotion table, casts between all of them, limits, names, the default dtype."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import dtypes
from adjoint.storage import round_to

NAMES = [d.name for d in dtypes.ALL]

# What two tensors with axes become, row by row in the order of dtypes.ALL; . is an error. b: bool, u: uint8,
# 1 2 4 8: int8 to int64, x y z: uint16 to uint64, h: float16, B: bfloat16, f: float32, d: float64, F D: complex.
LETTERS = "bu1248xyzhBfdFD"
PROMOTION = """
b u 1 2 4 8 . . . h B f d F D
u u 2 2 4 8 . . . h B f d F D
1 2 1 2 4 8 . . . h B f d F D
2 2 2 2 4 8 . . . h B f d F D
4 4 4 4 4 8 . . . h B f d F D
8 8 8 8 8 8 . . . h B f d F D
. . . . . . x . . h B f d . .
. . . . . . . y . h B f d . .
. . . . . . . . z h B f d . .
h h h h h h h h h h f f d F D
B B B B B B B B B f B f d F D
f f f f f f f f f f f f d F D
d d d d d d d d d d d d d D D
F F F F F F . . . F F F D F D
D D D D D D . . . D D D D D D
"""
BY_LETTER = dict(zip(LETTERS, NAMES, strict=True)) | {".": "RuntimeError"}
TABLE = {
    (a, b): BY_LETTER[letter]
    for a, line in zip(NAMES, PROMOTION.strip().splitlines(), strict=True)
    for b, letter in zip(NAMES, line.split(), strict=True)
}


def of(library: Any, name: str) -> Any:
    return getattr(library, name)


def outcome(function: Any, *args: Any) -> str:
    try:
        out = function(*args)
    except (RuntimeError, TypeError) as error:
        return type(error).__name__
    return str(getattr(out, "dtype", out)).removeprefix("torch.")


@pytest.mark.parametrize("a", NAMES)
def test_promotion_is_the_table(a: str) -> None:
    for b in NAMES:
        assert outcome(torch.promote_types, of(torch, a), of(torch, b)) == TABLE[a, b], f"{a} and {b}"


def test_the_table_is_pytorchs() -> None:
    theirs = pytest.importorskip("torch")
    for a, b in itertools.product(NAMES, NAMES):
        assert outcome(theirs.promote_types, of(theirs, a), of(theirs, b)) == TABLE[a, b], f"{a} and {b}"


def test_promotion_shows_in_results() -> None:
    """Of operations, not of `promote_types` alone; and the values are those of the common dtype."""
    for (a, b), name in TABLE.items():
        x, y = torch.ones(2, dtype=of(torch, a)), torch.ones(2, dtype=of(torch, b))
        assert outcome(lambda x, y: x * y, x, y) == name
        if name != "RuntimeError":
            assert (x * y).tolist() == [1, 1]
            assert outcome(lambda x, y: torch.where(x == y, x, y), x, y) == name


@pytest.mark.parametrize("default", ["float16", "bfloat16", "float32", "float64"])
def test_kinds_of_operands_are_pytorchs(default: str) -> None:
    """Tensors with axes, 0-d tensors, numbers: each kind decides over the next unless that is of a greater category."""
    theirs = pytest.importorskip("torch")

    def operands(library: Any, name: str) -> list[Any]:
        dtype = of(library, name)
        return [library.ones(2).to(dtype), library.ones(()).to(dtype)]

    numbers = (True, 3, 2.5, 2j)
    for library in (torch, theirs):
        library.set_default_dtype(of(library, default))
    try:
        for a, b in itertools.product(NAMES, NAMES):
            for i, j in itertools.product((0, 1), (0, 1)):
                got, want = (outcome(m.result_type, operands(m, a)[i], operands(m, b)[j]) for m in (torch, theirs))
                assert got == want.replace("complex32", "complex64"), f"{a} rank {1 - i}, {b} rank {1 - j}"
        for a, number in itertools.product(NAMES, numbers):
            for i in (0, 1):
                got, want = (outcome(m.result_type, operands(m, a)[i], number) for m in (torch, theirs))
                assert got == want.replace("complex32", "complex64"), f"{a} rank {1 - i}, {number}"
    finally:
        for library in (torch, theirs):
            library.set_default_dtype(library.float32)


def test_can_cast() -> None:
    for a, b in itertools.product(dtypes.ALL, dtypes.ALL):
        assert torch.can_cast(a, b) == (a.category <= b.category)
    theirs = pytest.importorskip("torch")
    for a, b in itertools.product(NAMES, NAMES):
        assert torch.can_cast(of(torch, a), of(torch, b)) == theirs.can_cast(of(theirs, a), of(theirs, b)), (a, b)


@pytest.mark.parametrize("target", NAMES)
def test_in_place_results_must_fit(target: str) -> None:
    for source in NAMES:
        if TABLE[target, source] == "RuntimeError" or target == source == "bool":
            continue
        x, y = torch.ones(2).to(of(torch, target)), torch.ones(2).to(of(torch, source))
        if torch.can_cast(of(torch, TABLE[target, source]), of(torch, target)):
            x *= y
            assert (x.dtype, x.tolist()) == (of(torch, target), [1, 1])
            continue
        names = (dtypes.LEGACY[of(torch, n)] for n in (TABLE[target, source], target))
        with pytest.raises(RuntimeError, match="result type {} can't be cast to the desired output type {}".format(*names)):
            x *= y


# --- casts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", NAMES)
def test_casts(source: str) -> None:
    numbers = np.array([0.0, 1.0, 2.0, 3.75, 100.0, 127.0])
    values = round_to(numbers, of(torch, source))
    x = torch.tensor(numbers.tolist()).to(of(torch, source))
    for target in dtypes.ALL:
        real = values.real if not target.is_complex else values
        want = round_to(real, target) if target.category != 1 else real.astype(np.int64).astype(target.np)
        for _ in range(2):  # the second time compiled
            got = x.to(target)
            assert got.dtype is target
            np.testing.assert_array_equal(np.array(got.tolist()), np.array(want.tolist()), err_msg=f"{source} to {target}")


def test_casts_are_pytorchs() -> None:
    theirs = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for a, b in itertools.product(NAMES, NAMES):
        data = np.abs(rng.standard_normal(20) * 50) if a not in ("bool",) else rng.random(20) < 0.5
        got, want = (m.tensor(data).to(of(m, a)).to(of(m, b)).tolist() for m in (torch, theirs))
        assert got == want, f"{a} to {b}"


def test_large_unsigned_numbers() -> None:
    x = torch.tensor([2**64 - 1, 2**63, 5], dtype=torch.uint64)
    assert x.tolist() == [2**64 - 1, 2**63, 5]
    assert torch.full((2,), 2**64 - 1, dtype=torch.uint64).tolist() == [2**64 - 1] * 2
    assert x.to(torch.float64).tolist() == [2.0**64, 2.0**63, 5.0]
    assert torch.tensor([2.0**63 * 1.5]).to(torch.uint64).tolist() == [int(2.0**63 * 1.5)]
    assert x.to(torch.int64).tolist() == [-1, -(2**63), 5]
    assert (x == torch.tensor([2**64 - 1, 2**63, 4], dtype=torch.uint64)).tolist() == [True, True, False]
    assert torch.tensor([4e9]).to(torch.uint32).tolist() == [4000000000]


def test_methods_and_names() -> None:
    x = torch.ones(2)
    for name, dtype in {
        "half": torch.float16, "bfloat16": torch.bfloat16, "float": torch.float32, "double": torch.float64, "cfloat": torch.complex64,
        "cdouble": torch.complex128, "short": torch.int16, "char": torch.int8, "byte": torch.uint8, "int": torch.int32, "long": torch.int64,
    }.items():  # fmt: skip
        assert getattr(x, name)().dtype is dtype
    assert (torch.half, torch.cfloat, torch.cdouble) == (torch.float16, torch.complex64, torch.complex128)
    assert x.half().type() == "torch.HalfTensor"
    assert x.type("torch.BFloat16Tensor").dtype is torch.bfloat16
    assert x.type(torch.complex64).type() == "torch.ComplexFloatTensor"
    with pytest.raises(ValueError, match="invalid type"):
        x.type("torch.NoTensor")
    assert torch.bfloat16.to_complex() is torch.complex64
    assert torch.complex128.to_real() is torch.float64
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    assert {t.dtype for t in model.half().state_dict().values()} == {torch.float16, torch.int64}
    assert model.bfloat16()[0].weight.dtype is torch.bfloat16
    with pytest.raises(TypeError, match="floating point or complex"):
        model.to(torch.int32)


@pytest.mark.parametrize("name", NAMES)
def test_copies_and_pickles(name: str) -> None:
    x = torch.tensor([0.0, 1.0, 2.5]).to(of(torch, name))
    for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x), x.clone(), torch.tensor(x), torch.zeros_like(x).copy_(x)):
        assert y.dtype is x.dtype
        assert y.tolist() == x.tolist()
    assert pickle.loads(pickle.dumps(x.dtype)) is x.dtype


@pytest.mark.parametrize("name", NAMES)
def test_text_is_pytorchs(name: str) -> None:
    theirs = pytest.importorskip("torch")
    for data in ([0.0, 1.0, 2.0], [0.1, 2.5, 3.75], [1e-5, 1.0, 1e5], [[1.5, 2.0], [0.25, 100.0]], 3.0, []):
        got, want = (repr(m.tensor(data).to(of(m, name))) for m in (torch, theirs))
        assert got == want


def test_text_of_complex_numbers_is_pytorchs() -> None:
    theirs = pytest.importorskip("torch")
    for data in ([1 + 2j, -0.5j], [1e6 + 1j, -0.001j], [complex("nan"), complex(0, float("inf"))], 1j, [[1 - 1j, 2j], [3, 0.25 + 4j]]):
        for name in ("complex64", "complex128"):
            got, want = (repr(m.tensor(data, dtype=of(m, name))) for m in (torch, theirs))
            assert got == want


# --- limits ---------------------------------------------------------------------------------------------------------------


def test_limits() -> None:
    half, brain = torch.finfo(torch.float16), torch.finfo(torch.bfloat16)
    assert (half.bits, half.eps, half.max, half.tiny) == (16, 2.0**-10, 65504.0, 2.0**-14)
    assert (brain.bits, brain.eps, brain.tiny) == (16, 2.0**-7, 2.0**-126)
    assert torch.tensor(brain.max, dtype=torch.bfloat16).item() == brain.max < float("inf")
    assert torch.finfo(torch.complex64).eps == torch.finfo(torch.float32).eps
    assert torch.finfo().dtype == "float32"
    assert torch.iinfo(torch.uint64).max == 2**64 - 1
    with pytest.raises(TypeError, match="finfo"):
        torch.finfo(torch.int64)
    for dtype in (torch.float16, torch.complex64, torch.bool):
        with pytest.raises(TypeError, match="iinfo"):
            torch.iinfo(dtype)
    theirs = pytest.importorskip("torch")
    for name in NAMES:
        kind = "finfo" if of(torch, name).category > 1 else "iinfo"
        if name == "bool":
            continue
        got, want = (getattr(m, kind)(of(m, name)) for m in (torch, theirs))
        fields = ("bits", "min", "max") + (("eps", "tiny", "smallest_normal", "resolution", "dtype") if kind == "finfo" else ("dtype",))
        for field in fields:
            assert getattr(got, field) == getattr(want, field), (name, field)


# --- the default dtype ------------------------------------------------------------------------------------------------------


@pytest.fixture
def restored() -> Any:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("restored")
def test_default_dtype_is_never_stale() -> None:
    """The same lines under four defaults in turn, several times: each has its own programs and its own answers."""

    def program() -> list[Any]:
        i = torch.tensor([1, 2, 3])
        made = torch.zeros(2), torch.tensor([0.1]), i / 2, i * 1.5, i.sin(), torch.linspace(0, 1, 3), torch.rand(2), torch.full((2,), 0.1)
        w = torch.ones(2, requires_grad=True)
        (w * torch.tensor(0.1)).sum().backward()
        return [*made, w.grad, torch.softmax(made[1], 0), torch.nn.Linear(2, 2).weight]

    for _ in range(3):
        for dtype in (torch.float32, torch.float16, torch.float64, torch.bfloat16):
            torch.set_default_dtype(dtype)
            found = program()
            assert [t.dtype for t in found] == [dtype] * len(found)
            assert found[1].item() == float(round_to(np.array(0.1), dtype))
            assert torch.tensor([1j]).dtype is (torch.complex128 if dtype is torch.float64 else torch.complex64)


@pytest.mark.usefixtures("restored")
def test_default_dtype_changes_in_the_middle_of_a_trace() -> None:
    for _ in range(3):
        i = torch.tensor([1, 2])
        a = i / 3
        torch.set_default_dtype(torch.float64)
        b = i / 3
        torch.set_default_dtype(torch.float32)
        c = i / 3
        assert [t.dtype for t in (a, b, c)] == [torch.float32, torch.float64, torch.float32]
        assert b[0].item() == 1 / 3 != a[0].item() == c[0].item()


def test_only_floats_may_be_the_default() -> None:
    for dtype in (torch.int64, torch.complex64, torch.bool, float):
        with pytest.raises(TypeError, match="floating-point types"):
            torch.set_default_dtype(dtype)


# the dtypes of the operands, the function, and what PyTorch gives: each is computed in the dtype of the result
MIXED: list[tuple[str, Any, str]] = [
    ("int64 float64", lambda T, a, b: T.copysign(a, b), "float64"),
    ("float32 float64", lambda T, a, b: T.copysign(a, b), "float64"),
    ("float16 float32", lambda T, a, b: T.copysign(a, b), "float32"),
    ("float16 int64", lambda T, a, b: T.ldexp(a, b), "float16"),
    ("float64 int64", lambda T, a, b: T.ldexp(a, b * 100), "float64"),
    ("float32 float64", lambda T, a, b: T.hypot(a, b), "float64"),
    ("float16 bfloat16", lambda T, a, b: T.hypot(a, b), "float32"),
    ("float64 float32", lambda T, a, b: T.xlogy(a, b), "float64"),
    ("float64 int64", lambda T, a, b: T.xlogy(a, b), "float64"),
    ("float64", lambda T, a: T.xlogy(a, 3.3), "float64"),
    ("float64", lambda T, a: T.xlogy(3, a), "float64"),
    ("float16", lambda T, a: T.xlogy(a, 3.3), "float16"),
    ("bool uint8", lambda T, a, b: T.addcmul(a, b, b), "uint8"),
    ("bool uint8", lambda T, a, b: T.addcmul(a, a, b), "uint8"),
    ("bool float32", lambda T, a, b: T.logaddexp(a, b), "float32"),
    ("int64 float64", lambda T, a, b: T.logaddexp(a, b), "float64"),
    ("int64", lambda T, a: T.div(True, a, rounding_mode="trunc"), "int64"),
    ("float16 bfloat16", lambda T, a, b: T.nn.functional.mse_loss(a, b), "float32"),
    ("float16 bfloat16", lambda T, a, b: T.nn.functional.l1_loss(a, b), "float32"),
    ("float16 bfloat16", lambda T, a, b: T.nn.functional.smooth_l1_loss(a, b), "float32"),
    ("int64 float32", lambda T, a, b: T.nn.functional.mse_loss(a, b), "float32"),
    ("float16", lambda T, a: a.softmax(0, dtype=T.float32), "float32"),
    ("int64", lambda T, a: a.softmax(0, dtype=T.float64), "float64"),
    ("float32", lambda T, a: a.log_softmax(0, T.float64), "float64"),
    ("complex64", lambda T, a: T.float_power(a, 2), "complex128"),
    ("float32", lambda T, a: T.float_power(a, 2j), "complex128"),
]


@pytest.mark.parametrize("kinds, function, name", MIXED, ids=[f"{i}-{row[0]}" for i, row in enumerate(MIXED)])
def test_mixed_operands_are_computed_in_the_dtype_of_the_result(kinds: str, function: Any, name: str) -> None:
    def operands(library: Any) -> list[Any]:
        rows = iter(([1.1, 2.3, 3.7], [1.7, 2.9, 1.3]))
        return [library.tensor(row, dtype=library.float64).to(of(library, kind)) for kind, row in zip(kinds.split(), rows, strict=False)]

    got = function(torch, *operands(torch))
    assert got.dtype is of(torch, name)
    theirs = pytest.importorskip("torch")
    want = function(theirs, *operands(theirs))
    assert str(want.dtype) == f"torch.{name}"
    rtol = {"float16": 2e-3, "float32": 1e-6}.get(name, 1e-13)
    np.testing.assert_allclose(np.array(got.tolist()), np.array(want.tolist()), rtol=rtol)


def test_complex_numbers_for_real_tensors_are_refused() -> None:
    x, F = torch.ones(2), torch.nn.functional
    for call in (
        lambda: torch.full((2,), 1j, dtype=torch.float32),
        lambda: torch.full((2,), 1j, dtype=torch.int64, requires_grad=False),
        lambda: torch.full_like(x, 1j),
        lambda: x.new_full((2,), 1j),
        lambda: torch.add(x, x, alpha=1j),
        lambda: torch.sub(x, x, alpha=1j),
        lambda: torch.addcmul(x, x, x, value=1j),
        lambda: torch.addcdiv(x, x, x, value=1j),
        lambda: torch.lerp(x, x, 1j),
        lambda: torch.lerp(x, x, x * 1j),
        lambda: torch.addmv(x, torch.eye(2), x, alpha=1j),
        lambda: torch.addmm(x, torch.eye(2), torch.eye(2), beta=1j),
    ):
        with pytest.raises(RuntimeError, match="complex"):
            call()
    for call in (lambda: torch.copysign(x * 1j, x), lambda: torch.copysign(x, x * 1j), lambda: torch.copysign(x, 1j)):
        with pytest.raises(NotImplementedError, match="copysign"):
            call()
    with pytest.raises(TypeError, match="complex"):
        F.pad(x, (1, 1), value=1j)
    assert torch.full((1,), 2 + 0j, dtype=torch.float32).tolist() == [2]
    assert torch.full((1,), 1j, dtype=torch.bool).tolist() == [True]
    assert torch.add(x * 1j, x, alpha=1j).tolist() == [2j, 2j]
    assert torch.lerp(x * 1j, x, 1j).tolist() == [1 + 2j, 1 + 2j]
@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (["a"], ValueError, r"'a' \(str\) at data\[0\]"),
        ([[1, 2], [3, "b"]], TypeError, r"'b' \(str\) at data\[1\]\[1\]"),
        ([1.0, None], RuntimeError, r"None \(NoneType\) at data\[1\]"),
        ([1, 2**70], ValueError, r"Overflow .* at data\[1\]"),
        ([np.array(["a"])], TypeError, "expected numbers"),
    ],
)
def test_what_is_no_number_is_named(data: list, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        torch.tensor(data)


def test_large_whole_numbers_beside_others_are_floats() -> None:
    np.testing.assert_array_equal(torch.tensor([[1.5, 2**70]], dtype=torch.float64).numpy(), [[1.5, 2.0**70]])
    assert torch.tensor([1j, 2**70]).tolist() == [1j, float(2**70)]


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_norms_in_another_dtype(library: str) -> None:
    t = pytest.importorskip(library)
    x, c, A = t.tensor([3.0, 4.0]), t.tensor([3 + 4j]), t.eye(2)
    wide = 1e30 * x
    assert t.linalg.vector_norm(x, dtype=t.float64).dtype is t.float64 and t.linalg.vector_norm(c, dtype=t.complex128).dtype is t.float64
    assert float(t.linalg.vector_norm(wide)) == float("inf") and float(t.linalg.vector_norm(wide, dtype=t.float64)) < 6e30
    for f in (t.linalg.matrix_norm, t.linalg.norm, lambda a, dtype: t.linalg.norm(a, 2, dtype=dtype), lambda a, dtype: t.norm(a, dtype=dtype)):
        assert f(A, dtype=t.float64).dtype is t.float64
    for call, said in (
        (lambda: t.linalg.vector_norm(x.double(), dtype=t.float32), "without narrowing"),
        (lambda: t.linalg.vector_norm(x, dtype=t.int64), "should be floating point or complex"),
        (lambda: t.linalg.vector_norm(x.long(), dtype=t.float32), "Expected a floating point or complex tensor"),
        (lambda: t.linalg.vector_norm(c, dtype=t.float64), "should be complex for complex inputs"),
        (lambda: t.linalg.vector_norm(x, dtype=t.complex64), "should be real for real inputs"),
        (lambda: t.linalg.matrix_norm(A.long()), "linalg.matrix_norm: Expected a floating point or complex tensor"),
    ):
        with pytest.raises(RuntimeError, match=said):
            call()
