"""Every kind of index, read, written, added to and differentiated: against NumPy, and PyTorch where it is installed."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.ops import index as indexing
from adjoint.trace import bounds

try:
    import torch as theirs
except ImportError:
    theirs = None

warnings.filterwarnings("ignore", message="indexing with dtype torch.uint8")

# What is indexed, and by what: `t` makes an index tensor of the library under test.
Index = Callable[[Callable[..., Any]], Any]
KINDS: dict[str, tuple[tuple[int, ...], Index]] = {
    "int": ((5,), lambda t: 2),
    "negative int": ((5, 2), lambda t: -1),
    "slice": ((5,), lambda t: slice(1, 4)),
    "step": ((7, 2), lambda t: slice(1, None, 3)),
    "slice from behind": ((7,), lambda t: slice(-3, -1)),
    "slice beyond": ((4,), lambda t: slice(2, 99)),
    "empty slice": ((4, 2), lambda t: slice(3, 1)),
    "two steps": ((6, 7), lambda t: (slice(None, None, 2), slice(5, None, 1))),
    "whole": ((3, 2), lambda t: slice(None)),
    "dots": ((2, 3, 2), lambda t: (Ellipsis, 1)),
    "dots alone": ((2, 3), lambda t: Ellipsis),
    "dots between": ((2, 3, 2), lambda t: (0, Ellipsis, 1)),
    "dots for nothing": ((2, 3), lambda t: (1, Ellipsis, 2)),
    "new axis": ((3,), lambda t: None),
    "new axes": ((3, 2), lambda t: (None, slice(None), None, 1)),
    "nothing": ((3,), lambda t: ()),
    "number": ((), lambda t: ()),
    "number with axes": ((), lambda t: (None, Ellipsis)),
    "true": ((3,), lambda t: True),
    "false": ((3,), lambda t: False),
    "true inside": ((3, 2), lambda t: (0, True)),
    "list": ((5, 2), lambda t: [3, 0, 3]),
    "list in tuple": ((3, 4), lambda t: (slice(None), [1, 3])),
    "range": ((6,), lambda t: range(1, 5, 2)),
    "numpy integer": ((6,), lambda t: np.int64(4)),
    "numpy array": ((6, 2), lambda t: np.array([5, 1])),
    "numpy mask": ((4,), lambda t: np.array([True, False, True, True])),
    "0-d tensor": ((5, 2), lambda t: t(3)),
    "0-d tensors": ((3, 4), lambda t: (t(1), t(-1))),
    "vector": ((5,), lambda t: t([4, 0, 4])),
    "matrix": ((5, 2), lambda t: t([[0, 1], [-1, 2]])),
    "int32": ((5,), lambda t: t([4, 1], "int32")),
    "empty": ((5, 2), lambda t: t([], "int64")),
    "second axis": ((3, 4), lambda t: (slice(None), t([2, 0, 2]))),
    "last axis": ((2, 3, 4), lambda t: (Ellipsis, t([3, -4]))),
    "pairs": ((3, 4), lambda t: (t([0, 2, 0]), t([1, -1, 1]))),
    "broadcast pairs": ((3, 4), lambda t: (t([[0], [2]]), t([1, 3]))),
    "adjacent": ((2, 3, 4, 2), lambda t: (slice(None), t([0, 2]), t([3, 1]))),
    "apart": ((2, 3, 4), lambda t: (t([0, 1]), slice(None), t([3, 1]))),
    "three": ((2, 3, 4), lambda t: (t([0, 1]), t([2, 2]), t([3, 0]))),
    "with slice": ((4, 5), lambda t: (slice(1, 4, 2), t([0, 4]))),
    "with int": ((3, 4, 2), lambda t: (t([0, 2]), 1)),
    "with new axis": ((3, 4), lambda t: (None, t([0, 2]))),
    "with dots": ((2, 3, 4), lambda t: (t([1, 0]), Ellipsis, 2)),
    "mask": ((5,), lambda t: t([True, False, True, True, False])),
    "mask of two axes": ((2, 3), lambda t: t([[True, False, True], [False, False, True]])),
    "mask of the first axis": ((2, 3), lambda t: t([False, True])),
    "mask of the second axis": ((2, 3), lambda t: (slice(None), t([True, False, True]))),
    "mask and vector": ((3, 4), lambda t: (t([True, False, True]), t([1, 2]))),
    "mask of nothing": ((3,), lambda t: t([False, False, False])),
    "mask of middle axes": ((2, 2, 3, 2), lambda t: (slice(None), t([[True, False, True], [False, True, True]]))),
    "byte mask": ((3,), lambda t: t([1, 0, 1], "uint8")),
    "0-d mask": ((3,), lambda t: t(True)),
}  # fmt: skip
DTYPES = ("float64", "float32", "int64", "bool")


def maker(library: Any) -> Callable[..., Any]:
    def make(values: Any, dtype: str | None = None) -> Any:
        return library.tensor(values, dtype=getattr(library, dtype) if dtype else None)

    return make


def as_numpy(index: Any) -> Any:
    """The same index for a NumPy array."""
    if isinstance(index, tuple):
        return tuple(as_numpy(i) for i in index)
    if isinstance(index, torch.Tensor):
        array = index.numpy()
        return array.astype(bool) if array.dtype == np.uint8 else array
    if isinstance(index, range):
        return list(index)
    return index


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if dtype == "bool":
        return np.asarray(random.random(shape) < 0.5)
    return np.asarray(random.permutation(int(np.prod(shape))).reshape(shape) + 1).astype(dtype)


def same(ours: Any, expected: np.ndarray) -> None:
    got = ours.detach().numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-6 if got.dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_read(kind: str, dtype: str) -> None:
    shape, index = KINDS[kind]
    x = values(shape, dtype)
    ours = torch.tensor(x)[index(maker(torch))]
    same(ours, np.asarray(x[as_numpy(index(maker(torch)))]))
    if theirs is not None:
        expected = theirs.tensor(x)[index(maker(theirs))]
        assert tuple(ours.shape) == tuple(expected.shape)
        np.testing.assert_array_equal(ours.numpy(), expected.numpy())
        long = [d for d, n in enumerate(expected.shape) if n > 1]
        assert [ours.stride(d) for d in long] == [expected.stride(d) for d in long]
        assert (ours._base is not None) == (expected._base is not None), "a view here and there"


def is_ambiguous(shape: tuple[int, ...], index: Any) -> bool:
    """Whether a place is written twice, so that the result is a matter of order."""
    places = np.arange(int(np.prod(shape))).reshape(shape)[index]
    return np.unique(places).size < places.size


@pytest.mark.parametrize("source", ["number", "tensor", "row", "other dtype"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_write(kind: str, dtype: str, source: str) -> None:
    shape, index = KINDS[kind]
    x = values(shape, dtype)
    at = as_numpy(index(maker(torch)))
    part = np.asarray(x[at])
    given = {
        "number": np.array(1),
        "tensor": values(part.shape, dtype, 1),
        "row": values(part.shape[-1:], dtype, 2),
        "other dtype": values(part.shape, "int64", 3),
    }[source].astype(dtype if source != "other dtype" else "int64")
    if is_ambiguous(shape, at) and source != "number":
        pytest.skip("a place written twice holds either value")
    ours = torch.tensor(x)
    alias = ours.view(-1)
    ours[index(maker(torch))] = 1 if source == "number" else torch.tensor(given)
    expected = x.copy()
    expected[at] = given
    same(ours, expected)
    same(alias, expected.reshape(-1))


@pytest.mark.parametrize("kind", KINDS)
def test_augmented_assignment_reads_once_and_writes_once(kind: str) -> None:
    """Places named twice do not accumulate, here and in NumPy and PyTorch."""
    shape, index = KINDS[kind]
    x = values(shape, "float64")
    ours = torch.tensor(x)
    ours[index(maker(torch))] += 5
    expected = x.copy()
    expected[as_numpy(index(maker(torch)))] += 5
    same(ours, expected)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("kind", "vector matrix pairs three mask empty".split() + ["broadcast pairs", "mask and vector"])
def test_index_put(kind: str, accumulate: bool) -> None:
    shape, index = KINDS[kind]
    given = index(maker(torch))
    if not isinstance(given, tuple):
        given = (given,)
    x = values(shape, "float64")
    at = as_numpy(given)
    v = values(np.asarray(x[at]).shape, "float64", 4)
    if is_ambiguous(shape, at) and not accumulate:
        pytest.skip("a place written twice holds either value")
    expected = x.copy()
    if accumulate:
        np.add.at(expected, at, v)
    else:
        expected[at] = v
    same(torch.tensor(x).index_put(given, torch.tensor(v), accumulate), expected)
    out = torch.tensor(x)
    assert out.index_put_(given, torch.tensor(v), accumulate) is out
    same(out, expected)


# --- gradients ------------------------------------------------------------------------------------


def gradients(library: Any, index: Index, shape: tuple[int, ...], how: str) -> list[np.ndarray]:
    x = library.tensor(values(shape, "float64"), requires_grad=True)
    at = index(maker(library))
    y = x * 1.5
    part = y[at]
    v = library.tensor(values(tuple(part.shape), "float64", 5), requires_grad=True)
    if how == "read":
        out = part * v
    elif how == "write":
        y[at] = v * 2
        out = y * y
    elif how == "add":
        y[at] += v * y.sum()
        out = y * y
    else:
        y[at] = 3.0
        out = y * y * part.sum() * v.sum()
    found = [out.detach().numpy().copy()]
    out.sum().backward()
    for leaf in (x, v):
        found.append(np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy().copy())
    return found


@pytest.mark.parametrize("how", ["read", "write", "add", "number"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_as_in_pytorch(kind: str, how: str) -> None:
    pytest.importorskip("torch")
    shape, index = KINDS[kind]
    if kind == "byte mask" and how == "number":
        pytest.skip("PyTorch does not write a number there")
    at = as_numpy(index(maker(torch)))
    if how in ("write", "add") and is_ambiguous(shape, at):
        pytest.skip("a place written twice holds either value")
    for ours, expected in zip(gradients(torch, index, shape, how), gradients(theirs, index, shape, how), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, err_msg=f"{kind} {how}")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_slopes(kind: str) -> None:
    shape, index = KINDS[kind]
    if is_ambiguous(shape, as_numpy(index(maker(torch)))) or not np.prod(shape):
        pytest.skip("a place written twice holds either value")

    def run(x: Any) -> Any:
        y = x.sin()
        y[index(maker(torch))] *= 2
        return y[index(maker(torch))] * y.sum()

    x = torch.tensor(values(shape, "float64") / 7, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x,))


# --- index errors ---------------------------------------------------------------------------------

REFUSED: dict[str, tuple[tuple[int, ...], Index, type[Exception], str]] = {
    "negative step": ((5,), lambda t: slice(None, None, -1), ValueError, "step must be greater than zero"),
    "zero step": ((5,), lambda t: slice(None, None, 0), ValueError, "step"),
    "too many": ((5,), lambda t: (0, 0), IndexError, "too many indices"),
    "two ellipses": ((5, 2), lambda t: (Ellipsis, Ellipsis), IndexError, "single ellipsis"),
    "int out of range": ((5,), lambda t: 5, IndexError, "out of bounds"),
    "int below": ((5,), lambda t: -6, IndexError, "out of bounds"),
    "float": ((5,), lambda t: 1.0, IndexError, "valid indices"),
    "small integers": ((5,), lambda t: t([1], "int8"), IndexError, "long, int, byte or bool"),
    "float tensor": ((5,), lambda t: t([1.0]), IndexError, "long, int, byte or bool"),
    "string": ((5,), lambda t: "a", IndexError, "valid indices"),
    "wrong mask": ((5,), lambda t: t([True, False]), IndexError, "does not match the shape"),
    "wrong pairs": ((3, 4), lambda t: (t([0, 1]), t([0, 1, 2])), IndexError, "could not be broadcast"),
    "of a number": ((), lambda t: 0, IndexError, "0-dim"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_at_the_call(kind: str) -> None:
    shape, index, error, words = REFUSED[kind]
    with pytest.raises(error, match=words):
        torch.zeros(shape)[index(maker(torch))]
    with pytest.raises(error, match=words):
        torch.zeros(shape)[index(maker(torch))] = 1.0
    if theirs is not None and kind != "two ellipses":  # which PyTorch takes
        with pytest.raises((error, TypeError) if kind == "string" else error):
            theirs.zeros(shape)[index(maker(theirs))]


FAR = {
    "getitem": lambda t, x, i: x[i],
    "second axis": lambda t, x, i: x[:, i],
    "two axes": lambda t, x, i: x[i, i],
    "index_select": lambda t, x, i: t.index_select(x, 1, i),
    "take": lambda t, x, i: t.take(x, i * 2),
    "gather": lambda t, x, i: t.gather(x, 1, i.expand(2, 2)),
    "take_along_dim": lambda t, x, i: t.take_along_dim(x, i.expand(3, 2), 1),
    "setitem": lambda t, x, i: _set(x, i),
    "index_put": lambda t, x, i: x.index_put((i,), t.ones(2, 4), accumulate=True),
    "put": lambda t, x, i: t.put(x, i * 2, t.ones(2)),
    "scatter": lambda t, x, i: t.scatter(x, 1, i.expand(2, 2), 1.0),
    "scatter_add": lambda t, x, i: t.scatter_add(x, 1, i.expand(2, 2), t.ones(2, 2)),
    "scatter_reduce": lambda t, x, i: t.scatter_reduce(x, 1, i.expand(2, 2), t.ones(2, 2), "amax"),
    "index_add": lambda t, x, i: t.index_add(x, 1, i, t.ones(3, 2)),
    "index_copy": lambda t, x, i: t.index_copy(x, 1, i, t.ones(3, 2)),
    "index_fill": lambda t, x, i: t.index_fill(x, 1, i, 1.0),
    "index_reduce": lambda t, x, i: t.index_reduce(x, 1, i, t.ones(3, 2), "prod"),
    "embedding": lambda t, x, i: t.nn.functional.embedding(i, x),
}


def _set(x: Any, i: Any) -> Any:
    x[i] = 2.0
    return x


def use(name: str, x: Any, i: Any, after: str) -> Any:
    out = FAR[name](torch, x, i)
    return {"itself": out, "exp": out.exp(), "part": out.reshape(-1)[:1] * 2}[after].tolist()


ROUNDS = 3  # the second run of a program is compiled where the first was interpreted


@pytest.mark.parametrize("after", ["itself", "exp", "part"])
@pytest.mark.parametrize("data", ["random", "constant"])
@pytest.mark.parametrize("name", FAR)
def test_out_of_range_is_an_error_where_the_value_is_needed(name: str, data: str, after: str) -> None:
    for k in range(ROUNDS):
        for far in (False, True):
            x = torch.ones(3, 4) if data == "constant" else torch.tensor(values((3, 4), "float64") + k)
            if name in ("index_put", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_reduce", "put"):
                x = x.float()
            i = torch.tensor([0, 9 if far else 2])

            if not far:
                use(name, x, i, after)
                continue
            with pytest.raises((IndexError, RuntimeError), match="out of bounds|out of range") as caught:
                use(name, x, i, after)
            if not torch.is_eager():
                assert "test_indexing.py:" in str(caught.value), "names the line that recorded it"
    if theirs is not None and name != "take_along_dim":
        with pytest.raises((IndexError, RuntimeError)):
            FAR[name](theirs, theirs.ones(3, 4), theirs.tensor([0, 9]))


def test_the_error_names_index_dimension_and_size() -> None:
    with pytest.raises(IndexError, match="index 9 is out of bounds for dimension 1 with size 4"):
        torch.ones(3, 4)[:, torch.tensor([9])].tolist()
    with pytest.raises(RuntimeError, match="index -1 is out of bounds for dimension 0 with size 3"):
        torch.gather(torch.ones(3), 0, torch.tensor([-1])).tolist()
    with pytest.raises(IndexError, match="tried to access index 7 on a tensor of 6 elements"):
        torch.take(torch.ones(2, 3), torch.tensor([7])).tolist()


def test_one_element_axis_is_checked_too() -> None:
    """Every index into it would read the same element."""
    for _ in range(ROUNDS):
        with pytest.raises(IndexError, match="index 3 is out of bounds"):
            (torch.rand(1, 4)[torch.tensor([0, 3])] + 1).exp().tolist()


def test_index_error_in_a_backward() -> None:
    """The forward pass is never read: the gradient needs the index all the same."""
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(IndexError, match="index 5"):
        (x[torch.tensor([0, 5])] * 2).sum().backward()
        x.grad.tolist()


def test_what_nobody_needs_raises_nothing() -> None:
    """Where PyTorch would raise at once: nothing is computed that is not read (see docs/conventions.md)."""
    if torch.is_eager():
        with pytest.raises(IndexError):
            torch.ones(3)[torch.tensor([5])]
    else:
        torch.ones(3)[torch.tensor([5])]
    assert (torch.ones(3) + 1).tolist() == [2, 2, 2]


# --- scatter_reduce and its like ------------------------------------------------------------------


def reduced(x: np.ndarray, index: np.ndarray, src: np.ndarray, how: str, include: bool) -> np.ndarray:
    """One axis, element by element."""
    out = x.copy()
    for place in range(len(x)):
        found = [src[k] for k in range(len(index)) if index[k] == place]
        if not found:
            continue
        if include:
            found.insert(0, x[place])
        f = {"sum": np.sum, "prod": np.prod, "amax": np.max, "amin": np.min, "mean": np.mean}[how]
        result = f(np.array(found), axis=0)
        out[place] = np.floor(result) if x.dtype.kind == "i" else result
    return out


@pytest.mark.parametrize(
    ("how", "include", "dtype"),
    [*itertools.product(("sum", "prod", "mean", "amax", "amin"), (True, False), ("float64", "float32", "int64"))],
)
def test_scatter_reduce(how: str, include: bool, dtype: str) -> None:
    random = np.random.default_rng(3)
    x, src = values((6,), dtype), values((9,), dtype, 1)
    index = random.integers(0, 5, 9)
    expected = reduced(x, index, src, how, include)
    args = (0, torch.tensor(index), torch.tensor(src), how)
    for _ in range(ROUNDS):
        same(torch.tensor(x).scatter_reduce(*args, include_self=include), expected)
    out = torch.tensor(x)
    same(out.scatter_reduce_(*args, include_self=include), expected)
    x2, src2 = values((4, 6), dtype), values((3, 9), dtype, 1)
    index2 = random.integers(0, 6, (3, 9))
    got = torch.scatter_reduce(torch.tensor(x2), 1, torch.tensor(index2), torch.tensor(src2), how, include_self=include)
    rows = [reduced(x2[r], index2[r], src2[r], how, include) for r in range(3)]
    same(got, np.stack([*rows, x2[3]]))
    if how != "sum":
        got = torch.index_reduce(torch.tensor(x2), 0, torch.tensor([2, 0, 2]), torch.tensor(src2[:, :6]), how, include_self=include)
        same(got, reduced(x2, np.array([2, 0, 2]), src2[:, :6], how, include))


@pytest.mark.parametrize("include", [True, False])
def test_the_mean_of_complex_numbers(include: bool) -> None:
    x, source, index = torch.tensor([1 + 2j, 2, 3]), torch.tensor([1 + 2j, 3, 5j]), torch.tensor([0, 0, 2])
    expected = [(5 + 4j) / 3, 2, (3 + 5j) / 2] if include else [2 + 1j, 2, 5j]
    for _ in range(2):
        np.testing.assert_allclose(x.scatter_reduce(0, index, source, "mean", include_self=include).numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(x.index_reduce(0, index, source, "mean", include_self=include).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("places", [[], [0, 0]])
def test_one_number_is_selected_from_a_scalar(places: list) -> None:
    """A scalar is the result, so that there is exactly one element to select."""
    x = torch.tensor(5.0)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="only have 1|only 1"):
            x.index_select(0, torch.tensor(places, dtype=torch.int64))
    assert x.index_select(0, torch.tensor([0])).tolist() == 5.0


@pytest.mark.parametrize(("how", "include"), [*itertools.product(("sum", "prod", "mean", "amax", "amin"), (True, False))])
def test_scatter_reduce_gradients(how: str, include: bool) -> None:
    x = torch.tensor([1.5, -2.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    src = torch.tensor([0.7, 1.1, -0.3, 2.5, 0.2], dtype=torch.float64, requires_grad=True)
    index = torch.tensor([0, 2, 0, 2, 0])

    def run(a: Any, b: Any) -> Any:
        return a.scatter_reduce(0, index, b, how, include_self=include).sin()

    assert torch.autograd.gradcheck(run, (x, src))
    assert torch.autograd.gradgradcheck(run, (x, src))


@pytest.mark.parametrize(("how", "include"), [("prod", True), ("prod", False), ("amax", True), ("amin", True)])
def test_zeros_and_ties_as_in_pytorch(how: str, include: bool) -> None:
    pytest.importorskip("torch")
    found = []
    for library in (torch, theirs):
        x = library.tensor([0.0, 2.0, 3.0, 1.0], dtype=library.float64, requires_grad=True)
        src = library.tensor([2.0, 2.0, 0.0, 3.0, 0.0, 5.0], dtype=library.float64, requires_grad=True)
        index = library.tensor([1, 1, 0, 2, 2, 3])
        out = x.scatter_reduce(0, index, src, how, include_self=include)
        (out * library.tensor([1.0, 2.0, 3.0, 4.0], dtype=library.float64)).sum().backward()
        found.append([t.detach().numpy() for t in (out, x.grad, src.grad)])
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected)


# --- 0-d indices, negative ones, several that name one place, and none -----------------------------------


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("0-d tensor", (2,)), ("0-d tensors", ()), ("0-d mask", ()), ("0-d and vector", (2,)), ("vector and 0-d", (2,)), ("second of three", (2, 4))],
)
def test_index_put_with_0d_indices(kind: str, shape: tuple[int, ...], accumulate: bool) -> None:
    index: Index = {
        **{k: KINDS[k][1] for k in ("0-d tensor", "0-d tensors", "0-d mask")},
        "0-d and vector": lambda t: (t(1), t([0, 1])), "vector and 0-d": lambda t: (t([0, 1]), t(1, "int32")), "second of three": lambda t: (slice(None), t(1)),
    }[kind]  # fmt: skip
    x, v = values((2, 3, 4) if kind == "second of three" else (5, 2), "float64"), values(shape, "float64", 1)
    given = index(maker(torch))
    given = given if isinstance(given, tuple) else (given,)
    expected = x.copy()
    expected[as_numpy(given)] = v + expected[as_numpy(given)] if accumulate else v
    indices = tuple(None if isinstance(i, slice) else i for i in given)
    y, w = torch.tensor(x, requires_grad=True), torch.tensor(v, requires_grad=True)
    out = y.index_put(indices, w, accumulate)
    same(out, expected)
    out.sum().backward()
    count = np.zeros(x.shape)
    count[as_numpy(given)] = 1
    assert y.grad.tolist() == (np.ones(x.shape) if accumulate else 1 - count).tolist()
    assert w.grad.tolist() == np.full(shape, count.sum() / v.size).tolist()
    z = torch.tensor(x)
    assert z.index_put_(indices, torch.tensor(v), accumulate) is z
    same(z, expected)


def test_embedding_takes_no_negative_index() -> None:
    for options in ({}, {"padding_idx": -1}, {"max_norm": 1.0}):
        with pytest.raises(IndexError, match="index -1"):
            torch.nn.functional.embedding(torch.tensor([1, -1]), torch.ones(3, 2), **options).tolist()
    with pytest.raises(RuntimeError, match="2-D"):
        torch.nn.functional.embedding(torch.tensor([1]), torch.ones(3))


def test_a_value_filled_in_twice_counts_once() -> None:
    for index, dim, expected in ((torch.tensor([0, 0]), 0, 2), (torch.tensor([0, 2, -1]), 1, 4)):
        x, v = torch.ones(2 if dim else 3, 2 if not dim else 3, requires_grad=True), torch.tensor(3.0, requires_grad=True)
        x.index_fill(dim, index, v).sum().backward()
        assert v.grad.item() == expected and x.grad.sum().item() == 6 - expected


NOTHING: dict[str, Callable[..., Any]] = {
    "gather": lambda x, s, i: x.gather(0, i), "gather of rows": lambda x, s, i: x.reshape(3, 1).gather(0, i.reshape(0, 1)),
    "gather of a number": lambda x, s, i: x[0].gather(0, i), "gather of another rank": lambda x, s, i: x.reshape(3, 1).gather(1, i),
    "gather from nothing": lambda x, s, i: x[:0].gather(0, i), "sort": lambda x, s, i: x[:0].sort().values, "topk": lambda x, s, i: x.topk(0).values,
    "take_along_dim": lambda x, s, i: torch.take_along_dim(x, i, 0), "max": lambda x, s, i: x.reshape(3, 1)[:, :0].max(0).values,
    "scatter": lambda x, s, i: x.scatter(0, i, s), "scatter_add": lambda x, s, i: x.scatter_add(0, i, s),
    "scatter_reduce": lambda x, s, i: x.scatter_reduce(0, i, s, "amax"), "scatter of another rank": lambda x, s, i: x.reshape(3, 1).scatter_add(0, i, s),
    "scatter of a number": lambda x, s, i: x.scatter(0, i, 2.0), "mean": lambda x, s, i: x.scatter_reduce(0, i, s, "mean", include_self=False),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_read_or_written_has_gradients_of_zeros(name: str) -> None:
    x, s = (torch.tensor([1.0, 2, 3], requires_grad=True) for _ in range(2))
    out = NOTHING[name](x, s, torch.tensor([], dtype=torch.int64))
    assert out.requires_grad
    out.sum().backward()
    writes = "scatter" in name or name == "mean"
    assert x.grad.tolist() == [1.0 if writes else 0.0] * 3 and (not writes or out.reshape(-1).tolist() == [1, 2, 3])
    if writes and "number" not in name:
        assert s.grad.tolist() == [0, 0, 0]
        alone = NOTHING[name](x.detach(), s, torch.tensor([], dtype=torch.int64))
        assert alone.requires_grad


LONG_ONLY = {
    "index_copy": (lambda t, x, i: x.index_copy(0, i, t.ones(1)), RuntimeError), "index_fill": (lambda t, x, i: x.index_fill(0, i, 1.0), IndexError),
    "take": (lambda t, x, i: x.take(i), RuntimeError), "put": (lambda t, x, i: x.put(i, t.ones(1)), RuntimeError),
    "take_along_dim": (lambda t, x, i: t.take_along_dim(x, i, 0), RuntimeError),
}  # fmt: skip
TAKES_INT32 = {
    "index_add": lambda t, x, i: x.index_add(0, i, t.ones(1)), "index_select": lambda t, x, i: x.index_select(0, i),
    "index_reduce": lambda t, x, i: x.index_reduce(0, i, t.ones(1), "prod"), "gather": lambda t, x, i: x.gather(0, i),
    "scatter": lambda t, x, i: x.scatter(0, i, 1.0), "index_put": lambda t, x, i: x.index_put((i,), t.ones(1)),
    "take_along_dim": lambda t, x, i: t.take_along_dim(x, i),
}  # fmt: skip


def test_int32_indices_where_pytorch_takes_them() -> None:
    for t in (torch, theirs) if theirs is not None else (torch,):
        short = t.tensor([1], dtype=t.int32)
        for call, error in LONG_ONLY.values():
            with pytest.raises(error, match="long|int64|Long"):
                call(t, t.zeros(3), short)
        for call in TAKES_INT32.values():
            assert call(t, t.zeros(3), short).tolist() == call(t, t.zeros(3), short.long()).tolist()


# --- searching ------------------------------------------------------------------------------------


def test_searching() -> None:
    edges = np.array([1.0, 3.0, 5.0, 7.0])
    v = np.array([[0.0, 1.0, 2.0], [5.0, 7.0, 9.0]])
    for right in (False, True):
        side = "right" if right else "left"
        same(torch.bucketize(torch.tensor(v), torch.tensor(edges), right=right), np.searchsorted(edges, v, side))
        same(torch.searchsorted(torch.tensor(edges), torch.tensor(v), side=side), np.searchsorted(edges, v, side))
    rows = torch.tensor([[5.0, 1.0, 3.0], [2.0, 8.0, 4.0]])
    order = rows.argsort(1)
    got = torch.searchsorted(rows, torch.tensor([[2.0], [8.0]]), sorter=order, out_int32=True)
    assert got.tolist() == [[1], [2]] and got.dtype == torch.int32
    assert torch.bucketize(4.0, torch.tensor(edges)).item() == 2
    with pytest.raises(RuntimeError, match="opposites"):
        torch.searchsorted(torch.tensor(edges), torch.tensor(v), side="left", right=True)
    assert torch.isin(torch.tensor([[1, 2], [3, 4]]), torch.tensor([4, 1]), invert=True).tolist() == [[False, True], [True, False]]
    assert torch.argwhere(torch.tensor([[0, 2], [3, 0]])).tolist() == [[0, 1], [1, 0]]
    assert torch.argwhere(torch.tensor(3)).shape == (1, 0)
    for function, reference in ((torch.tril_indices, np.tril_indices), (torch.triu_indices, np.triu_indices)):
        for offset in (-2, 0, 1):
            assert function(3, 4, offset).tolist() == [list(a) for a in reference(3, offset, 4)]


def test_mask_reads_and_writes() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    mask = x > 2
    assert torch.masked_select(x, mask).tolist() == [3, 4, 5]
    assert torch.masked_fill(x, mask, torch.tensor(7)).tolist() == [[0, 1, 2], [7, 7, 7]]
    assert x.masked_scatter(torch.tensor([True, False, True]), torch.tensor([9.0, 8, 7, 6, 5])).tolist() == [[9, 1, 8], [7, 4, 6]]
    with pytest.raises(RuntimeError, match="source"):
        x.masked_scatter(mask, torch.ones(2))
    with pytest.raises(RuntimeError, match="dtype"):
        x.masked_scatter(mask, torch.ones(3, dtype=torch.int64))
    x[mask] = x[mask] * 10
    assert x.tolist() == [[0, 1, 2], [30, 40, 50]]
    with pytest.raises(RuntimeError, match="shape mismatch"):
        x[mask] = torch.ones(2)
    x[mask] -= 1
    assert x[1].tolist() == [29, 39, 49]
    rows, columns = torch.where(x > 30)
    assert (rows.tolist(), columns.tolist()) == ([1, 1], [1, 2])
    assert [t.tolist() for t in torch.nonzero(x > 30, as_tuple=True)] == [[1, 1], [1, 2]]


SAME = {
    "zeros": lambda n: torch.zeros(n, dtype=torch.int64),
    "full": lambda n: torch.full((n,), 1),
    "expanded": lambda n: torch.tensor([1]).expand(n),
    "a row repeated": lambda n: torch.tensor([[2], [0]]).expand(2, n).reshape(-1)[:n],
}


@pytest.mark.parametrize("n", [2, 4, 8, 12, 16, 20, 1000])
@pytest.mark.parametrize("kind", SAME)
def test_many_values_for_one_place(kind: str, n: int) -> None:
    """The loop that is vectorised does not move the place that is written."""
    index = SAME[kind](n)
    places = np.asarray(index.tolist())
    values = np.arange(n, dtype=np.float32) + 1
    for given in (values, np.ones(n, np.float32)):
        source = torch.tensor(given) if given is values else torch.ones(n)
        expected = np.zeros(3, np.float32)
        np.add.at(expected, places, given)
        for total in (torch.zeros(3).index_add(0, index, source), torch.zeros(3).scatter_add(0, index, source)):
            assert total.tolist() == expected.tolist()
        x = torch.arange(3.0).requires_grad_()
        (x[index] * source).sum().backward()
        assert x.grad is not None and x.grad.tolist() == expected.tolist()
    assert torch.zeros(3).index_put((index,), torch.tensor(values))[places[-1]].item() == values[-1]


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("columns", [[1, 1], [0, 2]])
def test_a_column_is_added_to_twice(n: int, columns: list[int]) -> None:
    """The places of neighbouring lanes lie apart, and what is there counts."""
    index = torch.arange(n)[None, :], torch.tensor(columns)[:, None]
    made = torch.zeros(n, 3).index_put(index, torch.arange(2.0 * n).reshape(2, n), accumulate=True)
    expected = np.zeros((n, 3), np.float32)
    np.add.at(expected, (np.arange(n)[None, :], np.asarray(columns)[:, None]), np.arange(2.0 * n).reshape(2, n))
    assert made.tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["index_add", "scatter_add", "index_copy"])
def test_no_index_into_an_empty_axis(name: str) -> None:
    with pytest.raises(IndexError, match="size 0"):
        getattr(torch.zeros(0), name)(0, torch.tensor([7]), torch.ones(1)).tolist()
    assert torch.ones(2).tolist() == [1, 1]


NOTHING_TO_READ: dict[str, tuple[tuple[int, int], bool, Callable[[Any, Any, Any], Any]]] = {
    # shape, whether the index is looked at all the same, what is done
    "rows": ((3, 0), False, lambda t, x, i: x[i]),
    "columns": ((0, 3), False, lambda t, x, i: x[:, i]),
    "of a slice": ((0, 3), False, lambda t, x, i: t.ones(3, 4)[i, 0:0]),
    "take_along_dim": ((0, 3), False, lambda t, x, i: t.take_along_dim(x, i.reshape(1, 1), 1)),
    "index_select": ((0, 3), True, lambda t, x, i: t.index_select(x, 1, i)),
    "embedding": ((3, 0), True, lambda t, x, i: t.nn.functional.embedding(i, x)),
    "written": ((3, 0), False, lambda t, x, i: _written(x, i)),
    "index_put": ((3, 0), False, lambda t, x, i: x.index_put((i,), t.ones(1, 0))),
    "index_add": ((0, 3), False, lambda t, x, i: x.index_add(1, i, t.ones(0, 1))),
    "index_fill": ((3, 0), False, lambda t, x, i: x.index_fill(0, i, 1)),
    "index_reduce": ((3, 0), True, lambda t, x, i: x.index_reduce(0, i, t.ones(1, 0), "prod")),
    "no axis": ((0, 3), True, lambda t, x, i: x[i]),
}


def _written(x: Any, i: Any) -> Any:
    x[i] = 1.0
    return x


@pytest.mark.parametrize("name", NOTHING_TO_READ)
def test_an_index_out_of_range_without_elements(name: str) -> None:
    """In all runs what PyTorch does: most operations look at no index of a result without elements."""
    shape, looks, call = NOTHING_TO_READ[name]
    for t in (torch, torch, torch) if theirs is None else (torch, torch, torch, theirs):
        x, index = t.ones(shape), t.tensor([7])
        if looks:
            with pytest.raises((IndexError, RuntimeError), match="out of"):
                call(t, x, index)
        else:
            assert call(t, x, index).sum().item() == 0


# Indices that differ in their ints alone, met again and again: `k` is the turn.
FORMS: dict[str, Callable[[int], Any]] = {
    "column": lambda k: (slice(None), k % 4),
    "column from behind": lambda k: (slice(None), -1 - k % 4),
    "row": lambda k: (k % 3, slice(None)),
    "part of a row": lambda k: (k % 3, slice(1, 3)),
    "part of a column": lambda k: (slice(-2, None), k % 4),
    "block": lambda k: (slice(0, 2), slice(1, None, 2)),
    "no block": lambda k: (slice(2, 1), slice(None)),
    "everything": lambda k: (slice(None), slice(0, 9)),
    "last axis": lambda k: (Ellipsis, k % 5),
    "first and last": lambda k: (k % 3, Ellipsis, -1 - k % 5),
    "new axis": lambda k: None,
    "new axes": lambda k: (None, k % 3, None, slice(k % 2, None)),
    "dots": lambda k: Ellipsis,
    "step": lambda k: slice(k % 2, None, 2),
    "place": lambda k: (k % 3, -(k % 4), k % 5),
    "two ints": lambda k: (k % 3, k % 4),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_index_that_is_met_again_with_other_ints(form: str) -> None:
    index_of = FORMS[form]
    array = np.arange(60.0).reshape(3, 4, 5)
    x, leaf = torch.tensor(array), torch.tensor(array, requires_grad=True)
    for k in range(12):
        index = index_of(k)
        np.testing.assert_array_equal(x[index].numpy(), array[index])
        np.testing.assert_array_equal((x.permute(1, 0, 2).permute(1, 0, 2)[index] + 1).numpy(), array[index] + 1)
        np.testing.assert_array_equal((x * 2)[index].numpy(), array[index] * 2)
        slope = np.zeros_like(array)
        slope[index] = 2 * array[index]
        (leaf[index] ** 2).sum().backward()
        np.testing.assert_allclose(leaf.grad.numpy(), slope)
        leaf.grad = None
        for value in (k, np.float64(k + 0.5), array[index] * 3):
            written = torch.tensor(array) * 1
            seen = written[index]
            written[index] = torch.tensor(value) if isinstance(value, np.ndarray) else value
            wanted = array.copy()
            wanted[index] = value
            np.testing.assert_array_equal(written.numpy(), wanted)
            np.testing.assert_array_equal(seen.numpy(), wanted[index])


def test_an_int_beyond_its_axis_in_an_index_that_was_met_before() -> None:
    x = torch.arange(12).reshape(3, 4)
    for k in (0, 3, 4, -4, -5, 1, 7):
        for index, axis, n in (((slice(None), k), 1, 4), ((k, None), 0, 3), ((Ellipsis, k), 1, 4), ((slice(0, 1), k), 1, 4)):
            if -n <= k < n:
                np.testing.assert_array_equal(x[index].numpy(), x.numpy()[index])
                continue
            with pytest.raises(IndexError, match=f"index {k} is out of bounds for dimension {axis} with size {n}"):
                x[index]
            with pytest.raises(IndexError, match=f"index {k} is out of bounds for dimension {axis} with size {n}"):
                x[index] = 1
    assert x[:, 1].tolist() == [1, 5, 9]
    for index in ((slice(None), 1.0), (slice(None), True, 0, 0), (0, 1, 2), (slice(None), 0, Ellipsis, Ellipsis)):
        for _ in range(2):
            with pytest.raises(IndexError):
                x[index]
    assert x[True, :, 1].tolist() == [[1, 5, 9]] and x[:, np.int64(1)].tolist() == [1, 5, 9]


@pytest.mark.skipif(torch.is_eager(), reason="reference mode knows no steps")
def test_windows_that_begin_ever_elsewhere_are_one_form() -> None:
    x = torch.arange(900).reshape(3, 300)
    x.tolist()

    def walk(begin: int) -> None:
        for t in range(begin, begin + 100):
            assert x[:, t : t + 5].sum().item() == x.numpy()[:, t : t + 5].sum()

    walk(0)
    known, nodes = len(indexing._forms), torch.stats()["trie_nodes"]
    steps = [len(s.kids) for s in bounds._all_steps()]
    walk(100)
    assert (len(indexing._forms), torch.stats()["trie_nodes"]) == (known, nodes)
    assert [len(s.kids) for s in bounds._all_steps()] == steps
