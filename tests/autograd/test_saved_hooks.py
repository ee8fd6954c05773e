"""`saved_tensors_hooks`: what is kept for backward is put away and had back; derivatives are those of what comes back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn
from adjoint.autograd import graph
from adjoint.nn import functional as F


class Log:
    """Packs to NumPy arrays."""

    def __init__(self) -> None:
        self.packed: list[tuple[int, ...]] = []
        self.unpacked: list[tuple[int, ...]] = []

    def pack(self, t: torch.Tensor) -> np.ndarray:
        assert not t.requires_grad
        self.packed.append(tuple(t.shape))
        return t.numpy().copy()

    def unpack(self, array: np.ndarray) -> torch.Tensor:
        self.unpacked.append(array.shape)
        return torch.from_numpy(array)

    def hooks(self) -> graph.saved_tensors_hooks:
        return graph.saved_tensors_hooks(self.pack, self.unpack)


def drawn(*shape: int, seed: int = 0, grad: bool = True) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), requires_grad=grad)


def products() -> tuple[torch.Tensor, list[torch.Tensor]]:
    a, b = drawn(3, 4), drawn(4, 5, seed=1)
    return (torch.tanh(a @ b) * a.sum(1, keepdim=True)).exp().mean(), [a, b]


def network() -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4))
    with torch.no_grad():
        for k, p in enumerate(net.parameters()):
            p.copy_(0.3 * drawn(*p.shape, seed=k))
    return F.cross_entropy(net(drawn(2, 1, 8, 8, seed=9, grad=False)), torch.tensor([1, 3])), list(net.parameters())


def recurrent() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Values are read on the way: several traces."""
    w, x = drawn(4, 4), drawn(2, 4, seed=1, grad=False)
    h = torch.zeros(2, 4)
    for _ in range(4):
        h = torch.tanh(h @ w + x)
        if h.sum().item() > 100:
            break
    return (h * h).sum(), [w]


def changed_in_place() -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = drawn(5)
    y = x * 2
    z = y.exp()
    y.mul_(3)
    return (z * y.sin()).sum(), [x]


def own() -> tuple[torch.Tensor, list[torch.Tensor]]:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3 * ctx.saved_tensors[0] ** 2

    x = drawn(5)
    return (Cube.apply(x.sin()) * x).sum(), [x]


PROGRAMS = [products, network, recurrent, changed_in_place, own]


def gradients(loss: torch.Tensor, leaves: list[torch.Tensor], retain: bool = False) -> list[np.ndarray]:
    for p in leaves:
        p.grad = None
    loss.backward(retain_graph=retain)
    return [p.grad.numpy().copy() for p in leaves]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_the_same_gradients(program: Callable[[], tuple[torch.Tensor, list[torch.Tensor]]]) -> None:
    expected = gradients(*program())
    for _ in range(3):
        log = Log()
        with log.hooks():
            loss, leaves = program()
        assert log.packed and not log.unpacked
        got = gradients(loss, leaves, retain=True), gradients(loss, leaves)
        assert len(log.unpacked) == 2 * len(log.packed)
        for found in got:
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_backward_within(program: Callable[[], tuple[torch.Tensor, list[torch.Tensor]]]) -> None:
    """Also where the same was done before without hooks, and is remembered."""
    expected = [gradients(*program()) for _ in range(3)][-1]
    for _ in range(2):
        log = Log()
        with log.hooks():
            got = gradients(*program())
        assert log.packed and len(log.unpacked) >= len(log.packed) - 1
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    again = gradients(*program())
    for x, y in zip(again, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)


def test_derivatives_are_those_of_what_comes_back() -> None:
    a, b = drawn(3), drawn(3, seed=1)
    with graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t):
        y = (a * b).sum()
    y.backward()
    np.testing.assert_allclose(a.grad.numpy(), 2 * b.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), 2 * a.detach().numpy(), rtol=1e-6)


def test_second_derivatives() -> None:
    x, log = torch.tensor(3.0, requires_grad=True), Log()
    with log.hooks():
        y = x**3
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x, create_graph=True)
    (third,) = torch.autograd.grad(second, x)
    assert (first.item(), second.item(), third.item()) == (27.0, 18.0, 6.0)
    assert set(log.packed) == {()} and len(log.unpacked) > 0


def test_memory_is_given_back(tmp_path: Path) -> None:
    """What lies in files is not in memory."""
    files: list[Path] = []

    def pack(t: torch.Tensor) -> Path:
        files.append(tmp_path / f"{len(files)}.npy")
        np.save(files[-1], t.numpy())
        return files[-1]

    x, w = drawn(256, 256, grad=False), drawn(256, 256, seed=1)
    size = x.nbytes

    def layers() -> torch.Tensor:
        h = x
        for _ in range(6):
            h = torch.tanh(h @ w)
        return h.sum()

    def kept(loss: torch.Tensor) -> int:
        loss.item()
        gc.collect()
        return torch.stats()["live_bytes"]

    (x + w).sum().item()
    before = kept(torch.zeros(()))
    plain = layers()
    held = kept(plain) - before
    assert held >= 5 * size
    plain.backward()
    expected, w.grad = w.grad.numpy().copy(), None
    del plain
    before = kept(torch.zeros(()))
    with graph.saved_tensors_hooks(pack, lambda path: torch.from_numpy(np.load(path))):
        loss = layers()
    assert kept(loss) - before < size
    assert len(files) >= 6
    loss.backward()
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_only_what_is_recorded_within() -> None:
    log, inner = Log(), Log()
    a = drawn(3)
    before = a.exp()
    with log.hooks():
        within = a.sin()
        with inner.hooks():
            deep = (a * 2).cos()
        after = a.tan()
    late = a.cosh()
    (before + within + deep + after + late).sum().backward()
    assert log.packed and inner.packed and len(log.unpacked) == len(log.packed) and len(inner.unpacked) == len(inner.packed)
    x = a.detach().numpy()
    np.testing.assert_allclose(a.grad.numpy(), np.exp(x) + np.cos(x) - 2 * np.sin(2 * x) + 1 / np.cos(x) ** 2 + np.sinh(x), rtol=1e-5)
    count = len(log.packed)
    (a * a).sum().backward()
    assert len(log.packed) == count


def test_nothing_is_packed_without_gradients() -> None:
    log = Log()
    with log.hooks():
        with torch.no_grad():
            drawn(3).exp().sum().item()
        (drawn(3, grad=False) ** 2).sum().item()
    assert not log.packed


def test_hooks_may_compute() -> None:
    """Also by differentiating; nothing of that is packed."""
    calls: list[float] = []

    def pack(t: torch.Tensor) -> torch.Tensor:
        z = torch.ones(2, requires_grad=True)
        (z.exp() * t.sum()).sum().backward()
        calls.append(z.grad.sum().item())
        return (t + 1).clone()

    a = drawn(3)
    with graph.saved_tensors_hooks(pack, lambda t: (t - 1).clone()):
        y = (a.exp() * a).sum()
    y.backward()
    assert calls
    x = a.detach().numpy()
    np.testing.assert_allclose(a.grad.numpy(), np.exp(x) * (1 + x), rtol=1e-5)


@pytest.mark.parametrize(
    ("unpack", "kind", "message"),
    [
        (lambda t: 3, TypeError, "unpack_hook expected to be a Tensor but got result of type int"),
        (lambda t: t.double(), RuntimeError, "dtype float64 for one that had shape"),
        (lambda t: t.flatten()[:0], RuntimeError, "unpack_hook returned a tensor of shape"),
    ],
)
def test_what_unpack_may_not_return(unpack: Any, kind: type[Exception], message: str) -> None:
    a = drawn(3)
    with graph.saved_tensors_hooks(lambda t: t, unpack):
        y = (a.exp() * a).sum()
    with pytest.raises(kind, match=message):
        y.backward()
    (a * 2).sum().backward()
    assert a.grad.tolist() == [2.0] * 3


def test_an_unpack_hook_that_raises_once() -> None:
    """What it has not given back is asked for again by the next backward."""
    calls: list[int] = []

    def unpack(t: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise ZeroDivisionError("the disk is busy")
        return t

    a, b = drawn(3), drawn(3, seed=1)
    with graph.saved_tensors_hooks(lambda t: t.clone(), unpack):
        y = (a * b).sum()
    with pytest.raises(ZeroDivisionError, match="busy"):
        y.backward()
    assert a.grad is None and b.grad is None
    y.backward()
    np.testing.assert_allclose(a.grad.numpy(), b.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), a.detach().numpy(), rtol=1e-6)


def test_a_hook_that_raises() -> None:
    def pack(t: torch.Tensor) -> None:
        raise ZeroDivisionError("not this one")

    a = drawn(3)
    with pytest.raises(ZeroDivisionError, match="not this one"), graph.saved_tensors_hooks(pack, lambda t: t):
        y = a.exp()
    y.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.exp(a.detach().numpy()), rtol=1e-6)
    log = Log()
    with log.hooks():
        z = a.exp()
    assert log.packed and z.requires_grad


def test_they_can_be_refused() -> None:
    with graph.disable_saved_tensors_hooks("not in here"), pytest.raises(RuntimeError, match="not in here"), Log().hooks():
        pass
    with Log().hooks(), pytest.raises(RuntimeError, match="nor now"), graph.disable_saved_tensors_hooks("nor now"):
        pass
    with Log().hooks():
        pass
