"""Each thread records its own trace; tensors may go from one to another."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from queue import Queue
from typing import Any

import numpy as np
import pytest

import adjoint as torch


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Run functions at once, each in its own thread; their results, or the first exception."""
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []
    eager = torch.is_eager()

    def call(k: int, function: Callable[[], Any]) -> None:
        try:
            if eager:
                with torch.eager():
                    results[k] = function()
            else:
                results[k] = function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(k, f)) for k, f in enumerate(functions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive()
    if errors:
        raise errors[0]
    return results


def train(start: float) -> list[float]:
    w = torch.full((4,), start, requires_grad=True)
    losses = []
    for _ in range(20):
        loss = ((w.tanh() - 0.5) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.5 * w.grad
        w.grad = None
        losses.append(loss.item())
    return losses


def test_threads_train_independently() -> None:
    alone = [train(s) for s in (0.1, -0.3, 0.9)]
    assert in_threads(lambda: train(0.1), lambda: train(-0.3), lambda: train(0.9)) == alone


def test_pending_tensor_read_by_another_thread() -> None:
    x = torch.ones(3) * 2
    y = x + 1
    assert in_threads(lambda: (y * y).tolist(), lambda: y.sum().item()) == [[9, 9, 9], 9]
    assert y.tolist() == [3, 3, 3]


def test_tensor_made_in_a_thread_that_ended() -> None:
    (y,) = in_threads(lambda: torch.arange(3.0) * 2 + 1)
    assert y.tolist() == [1, 3, 5]
    assert (y * 2).sum().item() == 18


def test_gradient_mode_belongs_to_the_thread() -> None:
    w = torch.ones(2, requires_grad=True)

    def record() -> bool:
        return (w * 2).requires_grad

    with torch.no_grad():
        assert in_threads(record) == [True]
        assert not record()


def test_backward_in_another_thread() -> None:
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (w**3).sum()
    loss.item()
    in_threads(lambda: loss.backward())
    assert w.grad.tolist() == [3.0, 12.0]


def test_ping_pong() -> None:
    there: Queue = Queue()
    back: Queue = Queue()

    def double() -> None:
        for _ in range(20):
            back.put(there.get(timeout=30) * 2)

    def halve() -> float:
        x = torch.tensor([1.0, 4.0])
        for _ in range(20):
            there.put(x + 1)
            x = back.get(timeout=30) / 2
        return x.sum().item()

    assert in_threads(double, halve)[1] == pytest.approx(45.0)


def test_views_that_a_thread_drops_are_not_kept_by_another_threads_pending_view() -> None:
    data = torch.arange(300.0).reshape(100, 3)
    data.tolist()
    pending = data[0:2]
    dropped = []
    seen = []

    def work() -> None:
        kept = data[5:7]
        for k in range(60):
            part = data[k : k + 3]
            dropped.append(weakref.ref(part))
            seen.append(part.sum().item() == sum(range(3 * k, 3 * k + 9)))
            del part
        data[5, 0] = -1.0
        seen.append(kept.tolist() == [[-1.0, 16.0, 17.0], [18.0, 19.0, 20.0]])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert all(seen)
    if not torch.is_eager():  # whose trace does not end with a value that is read
        assert sum(r() is not None for r in dropped) <= 1
    assert pending.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


CHANGES = {
    "multiplied": (lambda y: y.mul_(3.0), lambda a: a * 3),
    "an element": (lambda y: y.__setitem__(2, 7.0), lambda a: np.where(np.arange(5) == 2, 7, a)),
    "filled": (lambda y: y.fill_(2.0), lambda a: a * 0 + 2),
    "a part": (lambda y: y[1:3].add_(1), lambda a: a + np.array([0, 1, 1, 0, 0])),
    "twice": (lambda y: y.add_(1).mul_(2), lambda a: (a + 1) * 2),
    "looked at": (lambda y: y.add_(1).sum().item(), lambda a: a + 1),
}


@pytest.mark.parametrize("alive", [False, True], ids=["ended", "waiting"])
@pytest.mark.parametrize("which", ["result", "copy", "operand"])
@pytest.mark.parametrize("name", CHANGES)
def test_another_thread_changes_what_is_pending_here(name: str, which: str, alive: bool) -> None:
    """One after the other, without a race: the trace that made the value no longer gives the tensor its own."""
    change, expected = CHANGES[name]
    for turn in range(70):
        x = torch.arange(5.0)
        if turn % 2:
            x.tolist()
        y = x * 2 if which == "result" else x.clone()
        other = y + 10
        changed, go_on = threading.Event(), threading.Event()

        def work(t: torch.Tensor = x if which == "operand" else y, changed: threading.Event = changed, go_on: threading.Event = go_on) -> None:
            change(t)
            changed.set()
            go_on.wait(10)

        thread = threading.Thread(target=work)
        thread.start()
        assert changed.wait(10)
        if not alive:
            go_on.set()
            thread.join()
        start = np.arange(5.0)
        before = start * 2 if which == "result" else start
        order = [x, y, other] if turn % 3 else [other, y, x]
        wanted = {
            id(x): expected(start) if which == "operand" else start,
            id(y): before if which == "operand" else expected(before),
            id(other): before + 10,
        }
        for t in order:
            assert t.tolist() == wanted[id(t)].tolist(), (turn, order.index(t))
        go_on.set()
        thread.join()


def test_two_threads_add_to_one_gradient() -> None:
    for _ in range(5):
        w = torch.ones(3, requires_grad=True)
        (w * 2).sum().backward()
        thread = threading.Thread(target=lambda w=w: (w * 3).sum().backward())
        thread.start()
        thread.join()
        assert w.grad.tolist() == [5, 5, 5]


def at_once(work: Callable[[int], None], count: int, often: float = 1e-5) -> None:
    """`work(k)` in `count` threads that take turns very often."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(often)
    try:
        in_threads(*[functools.partial(work, k) for k in range(count)])
    finally:
        sys.setswitchinterval(interval)


def test_gradients_of_several_threads_add_up() -> None:
    for often in (1e-5, 0.005):
        p = torch.zeros(3, requires_grad=True)

        def differentiate(k: int, p: torch.Tensor = p) -> None:
            for _ in range(100):
                (p * 1.0).sum().backward()

        at_once(differentiate, 4, often)
        assert p.grad.tolist() == [400.0] * 3


def test_gradients_of_several_threads_add_up_beside_what_was_pending() -> None:
    for _ in range(5):
        p, q = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
        (p * q).sum().backward()

        def differentiate(k: int, p: torch.Tensor = p, q: torch.Tensor = q) -> None:
            for _ in range(20):
                (p * 1.0 + q * 2.0).sum().backward()

        at_once(differentiate, 3)
        assert p.grad.tolist() == [61.0] * 3 and q.grad.tolist() == [120.0] * 3


def test_threads_write_rows_of_one_tensor() -> None:
    for turn in range(30):
        rows = torch.zeros(8, 10)
        if turn % 2:
            rows.tolist()

        def write(k: int, rows: torch.Tensor = rows) -> None:
            rows[k] = torch.full((10,), float(k + 1))

        at_once(write, 8)
        assert rows.tolist() == [[k + 1.0] * 10 for k in range(8)]


def test_threads_add_to_rows_of_one_tensor() -> None:
    for _ in range(20):
        rows = torch.zeros(8, 10)
        parts = [rows[k] for k in range(8)]

        def add(k: int, rows: torch.Tensor = rows, parts: list = parts) -> None:
            for turn in range(10):
                (rows[k] if turn % 2 else parts[k]).add_(1.0)

        at_once(add, 8)
        assert rows.tolist() == [[10.0] * 10] * 8
        assert all(part.tolist() == [10.0] * 10 for part in parts)
