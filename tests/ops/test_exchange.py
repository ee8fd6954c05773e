"""Memory shared with NumPy, buffers and DLPack: either side's writes are seen by the other at once."""

from __future__ import annotations

import array
import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")

ARRAYS: dict[str, Callable[[np.dtype], np.ndarray]] = {
    "vector": lambda d: np.arange(6).astype(d),
    "matrix": lambda d: np.arange(6).reshape(2, 3).astype(d),
    "number": lambda d: np.array(1).astype(d),
    "transposed": lambda d: np.arange(6).reshape(2, 3).astype(d).T,
    "turned": lambda d: np.arange(12).reshape(2, 3, 2).astype(d).transpose(2, 0, 1),
    "every second": lambda d: np.arange(12).reshape(3, 4).astype(d)[:, ::2],
    "corner": lambda d: np.arange(20).reshape(4, 5).astype(d)[1:3, 2:],
    "column": lambda d: np.arange(12).reshape(3, 4).astype(d)[:, 1],
    "turned corner": lambda d: np.arange(20).reshape(4, 5).astype(d)[1:3, 2:].T,
    "fortran": lambda d: np.asfortranarray(np.arange(6).reshape(2, 3).astype(d)),
    "empty": lambda d: np.zeros((0, 3), d),
    "ones": lambda d: np.ones((1, 3, 1), d)[:, ::2],
    "broadcast": lambda d: np.lib.stride_tricks.as_strided(np.arange(3).astype(d), (2, 3), (0, np.dtype(d).itemsize)),
    "windows": lambda d: np.lib.stride_tricks.as_strided(np.arange(5).astype(d), (3, 3), (np.dtype(d).itemsize,) * 2),
}  # fmt: skip


def write(a: np.ndarray, value: int) -> None:
    a[...] = value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ARRAYS)
def test_from_numpy(name: str, dtype: str) -> None:
    a = ARRAYS[name](np.dtype(dtype))
    x = torch.from_numpy(a)
    assert x.dtype is getattr(torch, dtype)
    assert x.tolist() == a.tolist()
    if not a.size:
        return
    assert x.data_ptr() == a.__array_interface__["data"][0]
    long = [d for d, n in enumerate(a.shape) if n > 1]
    assert [x.stride(d) * a.itemsize for d in long] == [a.strides[d] for d in long]
    y, before = x + x, a.copy()
    first = a.reshape(-1)[:1] if a.flags.c_contiguous else a
    write(first, 1)
    assert x.tolist() == a.tolist(), "an outside write is seen at once"
    assert y.tolist() == (before + before).tolist(), "what was computed before it is not changed"
    assert x.numpy().tolist() == a.tolist()
    assert np.shares_memory(x.numpy(), a)
    if name == "broadcast":
        with pytest.raises(RuntimeError, match="more than one element"):
            x.zero_()
        return
    x.zero_()
    assert not a.any(), "a write to the tensor is seen outside"
    x.view(x.shape)[...] = 1
    assert a.all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["vector", "matrix", "number", "empty"])
def test_numpy(name: str, dtype: str) -> None:
    x = torch.tensor(ARRAYS[name](np.dtype(dtype)))
    a, b, c = x.numpy(), np.asarray(x), np.from_dlpack(x)
    assert a.dtype == np.dtype(dtype)
    assert a.tolist() == b.tolist() == x.tolist() == c.tolist()
    if not a.size:
        return
    write(a, 1)
    assert x.tolist() == b.tolist() == c.tolist() == np.ones(a.shape, a.dtype).tolist()
    x.zero_()
    assert not a.any() and not b.any() and not c.any()


def test_numpy_of_views() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    for view in (x.T, x[1:, ::2], x.diagonal(), x.unfold(1, 2, 1), x.as_strided((2, 2), (1, 4), 1), x[torch.tensor(2)], x.detach()):
        a = view.numpy()
        assert a.tolist() == view.tolist()
        assert np.shares_memory(a, x.numpy())
        a += 100
        assert a.tolist() == view.tolist()
        x.view(-1)[6] = -1
        assert a.tolist() == view.tolist()
    assert not x.expand(2, 3, 4).numpy().flags.writeable
    with pytest.raises(RuntimeError, match="detach"):
        torch.ones(2, requires_grad=True).numpy()
    w = torch.ones(2, requires_grad=True)
    w.detach().numpy()[0] = 5
    assert w.tolist() == [5, 1]
    (w * w).sum().backward()
    assert w.grad.tolist() == [10, 2]


def test_what_cannot_be_shared_is_refused() -> None:
    a = np.arange(6.0).reshape(2, 3)
    for wrong in (a[::-1], a[:, ::-1]):
        for function in (torch.from_numpy, torch.as_tensor, torch.asarray):
            with pytest.raises(ValueError, match="negative"):
                function(wrong)
        assert torch.tensor(wrong).tolist() == wrong.tolist()
    with pytest.raises(ValueError, match="byte order"):
        torch.from_numpy(np.zeros(3, ">f4" if np.little_endian else "<f4"))
    with pytest.raises(ValueError, match="multiple of the element"):
        torch.from_numpy(np.zeros(3, [("a", "i1"), ("b", "f4")])["b"])
    with pytest.raises(TypeError, match="expected np.ndarray"):
        torch.from_numpy([1, 2])
    with pytest.raises(TypeError):
        torch.from_numpy(np.array(["a"]))


def test_read_only_memory() -> None:
    a = np.arange(3.0)
    locked = a.view()
    locked.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        x = torch.from_numpy(locked)
    a += 1
    assert x.tolist() == [1, 2, 3], "writes by others are seen"
    x *= 2
    assert (x.tolist(), a.tolist()) == ([2, 4, 6], [1, 2, 3]), "its own go elsewhere"
    a += 1
    assert x.tolist() == [2, 4, 6]
    with pytest.warns(UserWarning, match="not writable"):
        y = torch.frombuffer(b"\x01\x02\x03", dtype=torch.uint8)
    assert y.tolist() == [1, 2, 3]


def test_buffers() -> None:
    data = array.array("d", [1.0, 2.0, 3.0])
    x = torch.frombuffer(data, dtype=torch.float64)
    data[0] = 9
    assert x.tolist() == [9, 2, 3]
    x[2] = 5
    assert list(data) == [9, 2, 5]
    assert torch.frombuffer(data, dtype=torch.float64, count=1, offset=8).tolist() == [2]
    raw = bytearray(8)
    y = torch.frombuffer(raw, dtype=torch.int32)
    y.fill_(1)
    assert raw == bytearray([1, 0, 0, 0, 1, 0, 0, 0])
    for options in (dict(offset=8), dict(count=3), dict(offset=1), dict(offset=-1)):
        with pytest.raises(ValueError):
            torch.frombuffer(raw, dtype=torch.int32, **options)


def test_asarray() -> None:
    a = np.zeros(2)
    shared, copied = torch.asarray(a), torch.asarray(a, copy=True)
    a += 1
    assert (shared.tolist(), copied.tolist()) == ([1, 1], [0, 0])
    assert torch.asarray(a, dtype=torch.float32).dtype is torch.float32
    with pytest.raises(ValueError, match="copy"):
        torch.asarray(a, dtype=torch.float32, copy=False)
    with pytest.raises(ValueError, match="copy"):
        torch.asarray([1.0], copy=False)
    t = torch.zeros(2)
    torch.asarray(t)[0] = 4
    assert t.tolist() == [4, 0]
    assert torch.asarray([1.0, 2.0], requires_grad=True).requires_grad
    assert torch.as_tensor(t) is t
    assert torch.as_tensor(a).numpy() is not None and np.shares_memory(torch.as_tensor(a).numpy(), a)
    assert torch.asarray(bytearray(b"\x05"), dtype=torch.uint8).tolist() == [5]


# --- DLPack ---------------------------------------------------------------------------------------


def test_dlpack_with_numpy() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    for source in (x, x.T, x[:, 1:], x.diagonal()):
        a = np.from_dlpack(source)
        assert a.tolist() == source.tolist()
        assert np.shares_memory(a, x.numpy())
    b = np.arange(4.0)
    y = torch.from_dlpack(b)
    b[0] = 7
    y[1] = 8
    assert y.tolist() == b.tolist() == [7, 8, 2, 3]
    assert x.__dlpack_device__() == (1, 0)
    z = torch.from_dlpack(x)
    z[0, 0] = 50
    assert x[0, 0].item() == 50
    assert torch.from_dlpack(x, copy=True).data_ptr() != x.data_ptr()
    with pytest.raises(BufferError, match="require gradient"):
        torch.ones(2, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="stream"):
        x.__dlpack__(stream=3)


class Speaks:
    """An object of another library; `versioned` ones say that their memory may be written."""

    def __init__(self, a: np.ndarray, versioned: bool) -> None:
        self.a, self.versioned = a, versioned

    def __dlpack__(self, **options: Any) -> Any:
        return self.a.__dlpack__(**(options if self.versioned else {}))

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.a.__dlpack_device__()


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_of_another_library(versioned: bool) -> None:
    a = np.arange(6.0).reshape(2, 3)
    speaker = Speaks(a.T, versioned)
    if not versioned:
        speaker.__class__ = type("Old", (Speaks,), {"__dlpack__": lambda self, stream=None: self.a.__dlpack__()})
    x = torch.from_dlpack(speaker)
    a[0, 1] = 20
    x[2, 1] = 30
    assert x.tolist() == a.T.tolist()
    assert a[1, 2] == 30


@pytest.mark.parametrize("dtype", DTYPES)
def test_dlpack_with_pytorch(dtype: str) -> None:
    theirs = pytest.importorskip("torch")
    u = theirs.zeros(2, 3, dtype=getattr(theirs, dtype))
    x, turned = torch.from_dlpack(u), torch.from_dlpack(u.t())
    u[0, 1] = 1
    assert x.tolist() == u.tolist() and turned.tolist() == u.t().tolist()
    x[1, 2] = 1
    assert u[1, 2].item() == turned[2, 1].item() == 1
    y = torch.zeros(2, 3, dtype=getattr(torch, dtype))
    v, row = theirs.from_dlpack(y), theirs.from_dlpack(y[1])
    v[1, 0] = 1
    assert y.tolist() == v.tolist()
    y[1, 2] = 1
    assert row.tolist() == y[1].tolist()
    y[1] = y[0]
    assert row.tolist() == v[1].tolist()


# --- lifetime -------------------------------------------------------------------------------------


def test_memory_lives_as_long_as_anybody_sees_it() -> None:
    class Owner(np.ndarray):
        pass

    a = np.arange(3.0).view(Owner)
    gone = weakref.ref(a)
    x = torch.from_numpy(a)
    del a
    gc.collect()
    assert x.tolist() == [0, 1, 2]
    x = x + 1
    x.tolist()
    gc.collect()
    if not torch.is_eager():  # there the inputs of a trace stay until it ends
        assert gone() is None
    b = torch.arange(3.0).numpy()
    gc.collect()
    other = [torch.full((3,), 7.0).tolist() for _ in range(20)]
    assert b.tolist() == [0, 1, 2] and other
    t = torch.arange(4.0)
    capsule = np.from_dlpack(t[1:])
    del t
    gc.collect()
    torch.zeros(4).tolist()
    assert capsule.tolist() == [1, 2, 3]


def test_a_tensor_nobody_else_sees_is_plain_again() -> None:
    x = torch.zeros(3)
    a = x.numpy()
    x += 1
    del a
    x += 1
    assert x.tolist() == [2, 2, 2]
    assert x._escape is None


def test_outside_writes_in_a_loop() -> None:
    a = np.zeros(4, dtype=np.float32)
    x = torch.from_numpy(a[::2])
    w = torch.ones(2, requires_grad=True)
    for k in range(5):
        a[:] = k
        loss = (w * x).sum()
        a[:] = -1
        loss.backward()
        assert loss.item() == 2 * k
        assert w.grad.tolist() == [k, k]
        w.grad = None


def test_leaf_on_shared_memory() -> None:
    a = np.array([1.0, 2.0])
    w = torch.from_numpy(a).requires_grad_()
    loss = (w * w).sum()
    a[0] = 5
    loss.backward()
    assert w.grad.tolist() == [2, 4], "the derivative is that of the values used"
    with torch.no_grad():
        w -= 1
    assert a.tolist() == [4, 1]


def test_arrays_as_operands() -> None:
    """A tensor of the array's numbers as they are at that moment: on the right as in PyTorch, and on the left."""
    x, a = torch.tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 2.0])
    for got, wanted in (
        (a + x, [4, 4]), (a - x, [2, 0]), (a * x, [3, 4]), (a / x, [3, 1]), (a @ x, 7), (x + a, [4, 4]), (x - a, [-2, 0]), (x * a, [3, 4]), (x / a, [1 / 3, 1]), (x @ a, 7), (x * np.array(2), [2, 4]),
    ):  # fmt: skip
        assert got.requires_grad
        np.testing.assert_allclose(got.tolist(), wanted, rtol=1e-6)
    assert (x * a).dtype is torch.float64 and (x * np.array(2)).dtype is torch.float32
    assert ((x == a).tolist(), (x != a).tolist(), (x < a).tolist()) == ([False, True], [True, False], [True, False])
    y = x * a
    a[:] = 100
    assert y.tolist() == [3, 4]
    triple = torch.compile(lambda t: t * a)
    for value in (3.0, 3.0, 4.0, 5.0):
        a[:] = value
        assert triple(torch.ones(2)).tolist() == [value, value]
    z = torch.ones(2)
    z += np.array([1.0, 2.0])
    assert (z.tolist(), z.dtype) == ([2, 3], torch.float32)
    with pytest.raises(TypeError):
        x * np.array(["a", "b"])


@pytest.mark.parametrize("library", ["adjoint", "torch"])
def test_functions_of_numpy_take_tensors(library: str) -> None:
    t = pytest.importorskip(library)
    x, v = t.tensor([[1.0, 4.0]]), t.tensor([3, 1, 2])
    for got, wanted in (
        (np.sqrt(x), [[1, 2]]), (np.maximum(v, 2), [3, 2, 2]), (np.add(v, v), [6, 2, 4]), (np.add.reduce(v), 6), (np.matmul(x, x.T), [[17]]),
        (np.cumsum(v), [3, 4, 6]), (np.transpose(x), [[1], [4]]), (np.round(x * 1.26, 1), [[1.3, 5.0]]), (np.modf(x)[1], [[1, 4]]),
    ):  # fmt: skip
        assert isinstance(got, t.Tensor)
        np.testing.assert_allclose(got.tolist(), wanted, rtol=1e-6)
    assert np.sqrt(v).dtype is t.float64 and np.sqrt(x).dtype is t.float32
    out = np.zeros((1, 2), np.float32)
    assert np.exp(x, out=out) is out and out[0].tolist() == pytest.approx([np.e, np.exp(4)])
    with pytest.raises(RuntimeError, match="requires grad"):
        np.sin(t.ones(2, requires_grad=True))


def test_operators_of_numpy_are_those_of_the_tensor() -> None:
    x, a = torch.tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 2.0])
    for got, wanted in ((np.multiply(a, x), [3, 4]), (np.subtract(a, x), [2, 0]), (np.power(x, 2), [1, 4]), (np.float32(2) / x, [2, 1])):
        assert got.requires_grad and got.tolist() == wanted
    b = a
    b += torch.tensor([1, 2])
    assert b is a and a.tolist() == [4, 4]
    assert (a > x).tolist() == [True, True] and (a >= x).dtype is torch.bool and (np.array([1, 2]) == x).tolist() == [True, True]
