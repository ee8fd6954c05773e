"""What a garbage collection runs may compute with tensors, wherever it comes, and leaves the interrupted trace as it is."""

from __future__ import annotations

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import adjoint as torch
from adjoint.trace import aside, native, state
from adjoint.trace.state import local

pytestmark = pytest.mark.skipif(
    torch.is_eager() or not hasattr(gc, "callbacks"),
    reason="CPython's context variables, np.errstate among them, do not survive a collection that sets them",
)

X, Y = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0])
W = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
pending: list[Any] = [None]  # what the interrupted program computes


def numbers() -> Any:
    pending[0] = a = X * 3
    b = a + 1
    del a
    return b.sum().item()


def gradient() -> Any:
    pending[0] = y = W @ X
    y.relu().pow(2).sum().backward()
    assert W.grad is not None
    found, W.grad = W.grad.tolist(), None
    return found


def elements() -> Any:
    pending[0] = t = torch.zeros(3, 3)
    for i in range(3):
        for j in range(3):
            t[i, j] = X[i] * X[j] + (t[i - 1, j] if i else 0.0)
    return t.tolist()


def updates() -> Any:
    pending[0] = m = X.clone()
    m += 1
    m[1:] *= 2
    v = m[:2]
    s = v.sum().item()
    m.mul_(2)
    return s, v.tolist(), m.max().item()


def several() -> Any:
    a = X.reshape(3, 1)
    pending[0] = b = a.t() + a
    c = torch.cat([b, torch.stack([b, b + W.sum()])[1]], 1)
    return c[:, 2:4].sum(0).tolist(), c.argmax().item()


PROGRAMS = numbers, gradient, elements, updates, several
kept: list[Any] = []


def reads() -> None:
    assert (Y * 2).sum().item() == 18.0


def leaves_pending() -> None:
    kept[:] = [Y * 3 + 1]


def reads_what_is_pending() -> None:
    pending[0].tolist()


def goes_on_from_what_is_pending() -> None:
    kept[:] = [pending[0] * 2]


def changes_modes() -> None:
    torch.set_grad_enabled(not torch.is_grad_enabled())
    kept[:] = [Y + 1]


DURING = reads, leaves_pending, reads_what_is_pending, goes_on_from_what_is_pending, changes_modes


@pytest.fixture
def collecting() -> Iterator[Callable[[Callable[[], None]], list[Any]]]:
    """Has a function called in nearly every place where an object is made; the answer: what went wrong there, and a count."""
    threshold, choice = gc.get_threshold(), random.Random(0)
    callbacks: list[Any] = []

    def begin(function: Callable[[], None]) -> list[Any]:
        seen: list[Any] = [0]

        def during(phase: str, info: Any) -> None:
            if phase == "start" and choice.random() < 0.5:
                seen[0] += 1
                try:
                    function()
                except Exception as error:
                    seen.append(repr(error))

        gc.callbacks.append(during)
        callbacks.append(during)
        gc.set_threshold(1, 1, 1)
        return seen

    yield begin
    gc.set_threshold(*threshold)
    for during in callbacks:
        gc.callbacks.remove(during)


@pytest.mark.parametrize("natively", [False, True])
@pytest.mark.parametrize("during", DURING, ids=lambda f: f.__name__)
def test_wherever_a_collection_comes(
    during: Callable[[], None], natively: bool, collecting: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if natively:
        native.install()
    else:
        monkeypatch.setattr(native, "install", lambda: None)
    wanted = [program() for program in PROGRAMS for _ in range(3)][::3]
    seen = collecting(during)
    for _ in range(4):
        for k, program in enumerate(PROGRAMS):
            # tuples of these lengths are made anew then, and not taken from the interpreter's stock
            made = [[(i,) * n for i in range(2100)] for n in (1, 2, 3, 4)]
            assert program() == wanted[k]
            del made
    gc.set_threshold(0)
    assert seen[0] > 100 and seen[1:] == []
    assert torch.is_grad_enabled()


def test_a_trace_stands_still_while_finalizers_compute() -> None:
    class Cycle:
        pass

    loop = Cycle()
    loop.me = loop  # type: ignore[attr-defined]
    found: list[float] = []
    weakref.finalize(loop, lambda: found.append((X + 1).sum().item()))
    del loop
    y = X * 5
    own, node, known = local.trace, local.trace.node, len(state._traces)
    gc.collect()
    assert local.trace is own and own.node is node and y._tid == own.id and y._data is None
    assert found == [9.0] and len(state._traces) == known and not aside._begun
    assert y.tolist() == [5.0, 10.0, 15.0]


def test_a_derivative_leads_back_into_the_trace_that_was_interrupted() -> None:
    class Cycle:
        pass

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * w
    loop = Cycle()
    loop.me = loop  # type: ignore[attr-defined]
    found: list[Any] = []
    weakref.finalize(loop, lambda: found.append((y * 3).sum()))
    del loop
    gc.collect()
    assert y._data is None
    found[0].backward()
    assert w.grad is not None and w.grad.tolist() == [6.0, 12.0] and y.tolist() == [1.0, 4.0]


def test_a_thread_that_records_nothing_has_no_trace() -> None:
    known = len(state._traces)
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    assert len(state._traces) == known


def test_a_collection_while_a_thread_makes_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it runs computes, and the thread goes on after it with one trace; threads that ended have left their numbers behind."""
    found: list[Any] = []
    made: list[Any] = []

    def collects(name: str) -> None:
        loop: list[Any] = []
        loop.append(loop)
        cycle = type("Cycle", (), {"me": loop})()
        loop.append(cycle)
        weakref.finalize(cycle, lambda: found.append((name, (X + 1).sum().item(), kept.append(Y * 2))))
        del loop, cycle
        gc.collect()

    original = state.Trace.__init__

    def making(self: state.Trace) -> None:
        if made:  # beside
            original(self)
        else:
            made.append(self)
            collects("before")
            original(self)
            collects("after")

    monkeypatch.setattr(state.Trace, "__init__", making)
    known = len(state._traces)
    for _ in range(3):
        for some in (found, made, kept):
            some.clear()
        thread = threading.Thread(target=lambda: found.append((X * Y[0]).sum().item()))
        thread.start()
        thread.join()
        assert found == [("before", 9.0, None), ("after", 9.0, None), 24.0]
        assert [t.tolist() for t in kept] == [[8.0, 10.0]] * 2
        assert not aside._begun
    kept.clear()
    made.clear()
    assert len(state._traces) <= known + 1  # of the last thread, until another one begins


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_of_a_collection_leaves_nothing_behind() -> None:
    """An exception at any moment of what a collection does comes after it; the thread has its own trace again."""
    own, known = local.trace, len(state._traces)
    for at in range(40):
        y = X * 7
        left, entering, came = at, False, False

        def look(frame: Any, event: str, arg: Any) -> None:
            nonlocal left, entering
            if event in ("call", "c_return") and "adjoint" in frame.f_code.co_filename:
                entering = event == "call" and frame.f_code is aside._collecting.__code__  # before anything can be caught
                left -= 1
                if left < 0:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        try:
            sys.setprofile(look)
            gc.collect()
            sys.setprofile(None)
        except KeyboardInterrupt:
            came = True
        finally:
            sys.setprofile(None)
        done = left >= 0
        if entering:  # where no signal is handled
            gc.collect()
        assert local.trace is own and len(state._traces) == known and not aside._begun and not aside._waiting
        assert (X + 1).tolist() == [2.0, 3.0, 4.0] and y.tolist() == [7.0, 14.0, 21.0]
        assert came == (not done and not entering)
        if done:
            break
    assert at > 4 and done
