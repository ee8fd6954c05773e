"""An exception that a signal handler raises may come at every call; here it comes at each of them in turn."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from inspect import CO_GENERATOR
from typing import Any

import pytest

import adjoint as torch
from adjoint.autograd.modes import _Mode
from adjoint.trace import aside, recorder


class Signal(Exception):
    """What the handler raises."""


LEAVING = _Mode.__exit__.__code__  # as it begins, no `with` has anything left that could set the mode back


def interrupted(work: Callable[[], Any], at: int) -> bool:
    """Do something, with an exception where the interpreter looks for signals the `at`-th time: when a function begins,
    and when a built-in one returns. Whether there were as many."""
    left = at

    def look(frame: Any, event: str, arg: Any) -> None:
        nonlocal left
        code = frame.f_code
        if event in ("call", "c_return") and "adjoint" in code.co_filename and code is not LEAVING and not code.co_flags & CO_GENERATOR:
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise Signal

    gc.disable()  # what is raised in a collection comes after it: `test_aside`
    sys.setprofile(look)
    try:
        work()
    except Signal:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    return left < 0


def each(work: Callable[[], Any]) -> Iterator[int]:
    """Numbers of the moments at which `work` was interrupted, one after the other."""
    at = 0
    while interrupted(work, at):
        yield at
        at += 1
    assert at > 3


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x * 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g * 2


def optimizing() -> Callable[[], Any]:
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)

    def work() -> None:
        w.grad = torch.ones(3)
        optimizer.step()

    return work


def accumulating() -> Callable[[], Any]:
    w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    return lambda: (w * v).sum().backward()


def through_a_function() -> Callable[[], Any]:
    w = torch.ones(3, requires_grad=True)
    return lambda: Twice.apply(w).sum().backward()


def writing_a_detached_view() -> Callable[[], Any]:
    part = (torch.ones(3, requires_grad=True) * 2).detach()[1:]
    return lambda: part.add_(1)


def replaying() -> Callable[[], Any]:
    x = torch.ones(3)
    part = x[1:]

    def work() -> None:
        x.add_(1)
        part.sum()

    return work


def decorated() -> Callable[[], Any]:
    w = torch.ones(3, requires_grad=True)
    return torch.no_grad()(lambda: w * 2)


def inside() -> Callable[[], Any]:
    w = torch.ones(3, requires_grad=True)

    def work() -> None:
        with torch.no_grad():
            w.mul_(2)

    return work


def pushing() -> Callable[[], Any]:
    return lambda: torch.func.jvp(lambda x: x * x, (torch.ones(3),), (torch.ones(3),))


def batching() -> Callable[[], Any]:
    return lambda: torch.func.vmap(lambda x: x * x)(torch.ones(3))


WORK = [optimizing, accumulating, through_a_function, writing_a_detached_view, replaying, decorated, inside, pushing, batching]


@pytest.mark.parametrize("make", WORK)
def test_gradient_mode_is_what_it_was_after_an_interrupt(make: Callable) -> None:
    work = make()
    for _ in range(3):
        work()
    for at in each(work):
        tr = recorder.current()
        assert torch.is_grad_enabled(), at
        assert not tr.static and not tr.whole, at
        w = torch.ones(2, requires_grad=True)
        assert (w * 2).requires_grad, at
        if not torch.is_eager():
            assert mode_of(tr), at


def mode_of(tr: Any) -> bool:
    """The mode of the place where a trace stands."""
    step = tr.node
    while step.parent is not None:
        if step.prim == "mode" and type(step.attrs) is bool:
            return step.attrs
        step = step.parent
    return step is tr.root(True)


@pytest.mark.parametrize("lines", [1, 2])
def test_array_and_tensor_agree_after_an_interrupt(lines: int) -> None:
    x = torch.zeros(3)
    array, whole = x.numpy(), x.view(1, 3)

    def work() -> None:
        x.add_(1)
        if lines > 1:
            whole.mul_(1)

    for at in each(work):
        seen = array.tolist()
        assert seen == x.tolist() == whole.tolist()[0], at
        assert len(set(seen)) == 1, at
        x.add_(1)
        assert array.tolist() == x.tolist() == [seen[0] + 1] * 3, at


def agree(x: Any, part: Any, other: Any) -> bool:
    """Whether two views of a vector show what it has, before and after a change through one of them."""
    for change in (0, 1, -1):
        part.add_(change)
        seen = x.tolist()
        if part.tolist() != seen[2:4] or other.tolist() != [seen[:3], seen[3:]]:
            return False
    return True


def test_views_agree_with_their_base_after_an_interrupt() -> None:
    x = torch.zeros(6)
    part, other = x[2:4], x.view(2, 3)

    def work() -> None:
        x.add_(1)
        part.mul_(1)
        other[1].add_(0)

    for at in each(work):
        assert agree(x, part, other), at


def test_views_agree_with_their_base_after_an_interrupt_while_a_trace_ends() -> None:
    x = torch.zeros(6)
    part, other = x[2:4], x.view(2, 3)
    at, stopped = 0, True
    while stopped:
        x.add_(1)
        assert other[0, 0] == x[0]
        _ = part * 2, other + 1  # both were made in the trace that ends
        stopped = interrupted(lambda: recorder.flush(recorder.current()), at)
        assert agree(x, part, other), at
        at += 1
    assert at > 10


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_of_a_collection_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most signals of a collection are handled as it tells of its end, where the interpreter drops what they raise."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals arrive in the main thread")

    def handler(number: int, frame: object) -> None:
        raise Signal

    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    before = signal.signal(signal.SIGALRM, handler)
    many = [[n] for n in range(50_000)]  # to be looked through
    begin = time.perf_counter()
    gc.collect()
    took = time.perf_counter() - begin
    x, own, choice = torch.ones(3), recorder.current(), random.Random(0)
    try:
        for _ in range(80):
            y, came = x * 3, False
            try:
                signal.setitimer(signal.ITIMER_REAL, choice.uniform(1e-5, took))
                gc.collect()
                end = time.monotonic() + 30
                while time.monotonic() < end:
                    time.sleep(0.001)
            except Signal:
                came = True
            assert came
            assert recorder.current() is own and not aside._begun and not aside._waiting
            assert y.tolist() == [3, 3, 3]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(many) > 0 and dropped == []
