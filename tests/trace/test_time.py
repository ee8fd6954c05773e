"""Exceptions, signals, fork, threads, exit, generators and debuggers meet work that has been recorded and not yet run."""

from __future__ import annotations

import asyncio
import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.trace import recorder, state

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
has_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def run(script: str, **more: Any) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, **more)


def works() -> None:
    """The library does what it should, with and without gradient."""
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (x * x * 3).sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]
    assert torch.is_grad_enabled()


# --- exceptions ---------------------------------------------------------------------------------------------------------


def test_exception_in_the_middle_of_everything() -> None:
    x = torch.ones(3, requires_grad=True)
    total = torch.zeros(3)
    for k in range(6):
        try:
            y = x * (k + 1)
            with torch.no_grad():
                total += y
                if k % 2:
                    raise ValueError("mine")
            y.sum().backward()
        except ValueError:
            assert torch.is_grad_enabled()
    assert total.tolist() == [21.0] * 3
    assert x.grad.tolist() == [1.0 + 3 + 5] * 3


def test_exception_in_a_hook_a_function_and_a_closure() -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any) -> Any:
            return a * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            raise KeyError("inside")

    x = torch.ones(2, requires_grad=True)
    with pytest.raises(KeyError):
        Bad.apply(x).sum().backward()
    works()
    y = x * 2

    def hook(g: Any) -> None:
        raise ZeroDivisionError

    y.register_hook(hook)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    works()
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.LBFGS([w])

    def closure() -> Any:
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"):
        optimizer.step(closure)
    works()


def test_a_traceback_that_holds_tensors_changes_nothing() -> None:
    kept = []
    for k in range(5):
        x = torch.full((3,), float(k))
        y = x * 2
        try:
            y + torch.ones(4)
        except RuntimeError as error:
            kept.append(error)  # and with it this frame's x and y
        assert (y + x).tolist() == [3.0 * k] * 3
    assert all("size of tensor" in traceback.format_exception_only(e)[0] for e in kept)


# --- signals ------------------------------------------------------------------------------------------------------------

LONG = """
import os, signal, threading, time
import adjoint as torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background
x = torch.ones(1_000_000)
def work():
    y = x
    for _ in range(30):
        y = torch.sin(y) + torch.cos(y)
    return y
work().sum().item()
begun = time.perf_counter()
work().sum().item()
once = time.perf_counter() - begun
counter = torch.zeros(3)
waiting = False
def press(after):  # again where a finalizer has swallowed it, as Python does
    time.sleep(after)
    while waiting:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(2)
for share in (0.2, 0.5, 0.8):
    z = work()
    counter += 1
    waiting = True
    try:
        threading.Thread(target=press, args=(once * share,), daemon=True).start()
        z.sum().item()
        while True:
            pass
    except KeyboardInterrupt:
        waiting = False
    assert abs(z[0].item() - work()[0].item()) < 1e-6
w = torch.ones(2, requires_grad=True)
(w * w).sum().backward()
print(counter.tolist(), w.grad.tolist(), torch.is_grad_enabled())
"""


@has_signals
def test_interrupt_in_native_code() -> None:
    done = run(LONG)
    assert done.stdout == "[3.0, 3.0, 3.0] [2.0, 2.0] True\n", done.stderr


# --- fork ---------------------------------------------------------------------------------------------------------------


@has_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_with_work_pending() -> None:
    big = torch.ones(300_000)
    (big.sin() + 1).sum().item()  # workers exist
    x = torch.arange(4.0, requires_grad=True)
    y = (x * x).sum()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            y.backward()
            good = x.grad.tolist() == [0.0, 2.0, 4.0, 6.0]
            good = good and abs((big.sin() + 1).sum().item() - 300_000 * (1 + np.sin(1))) < 1
            os.write(writing, b"good" if good else b"bad!")
            status = 0
        finally:
            os._exit(status)
    y.backward()
    assert x.grad.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert os.read(reading, 4) == b"good"
    assert os.waitpid(child, 0)[1] == 0


def _square(values: list[float]) -> list[float]:
    return (torch.tensor(values) ** 2).tolist()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_process_pools(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    works()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_square, [[1.0, 2.0], [3.0]]) == [[1.0, 4.0], [9.0]]
    works()


# --- threads ------------------------------------------------------------------------------------------------------------


def test_sixty_four_threads_at_once() -> None:
    start = threading.Barrier(64)
    results: dict[int, Any] = {}
    shared = torch.arange(6.0)

    def work(k: int) -> None:
        start.wait()
        w = torch.full((6,), float(k), requires_grad=True)
        for _ in range(5):
            loss = ((w - shared) ** 2).sum()
            loss.backward()
            with torch.no_grad():
                w -= 0.25 * w.grad
                w.grad.zero_()
        results[k] = w if k % 2 else w.tolist()  # every other one is read by the main thread

    threads = [threading.Thread(target=work, args=(k,)) for k in range(64)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(64):
        got = results[k].tolist() if k % 2 else results[k]
        expected = np.arange(6.0) + (k - np.arange(6.0)) * 0.5**5
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["a leaf", "a tensor", "a view", "nothing"])
def test_changed_in_a_thread_that_has_ended(kind: str) -> None:
    """What a thread has changed in place is still wanted when it is gone and others have begun; not what nobody holds."""
    kept: list[Any] = []

    def change() -> None:
        x = torch.full((6,), 3.0, requires_grad=kind == "a leaf")
        x.tolist()
        with torch.no_grad():
            x -= 1
            x *= 2
        if kind != "nothing":
            kept.append(x[1:3] if kind == "a view" else x)

    def run(work: Any) -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    for _ in range(3):
        kept.clear()
        run(change)
        for _ in range(3):
            run(lambda: torch.ones(2).tolist())
        assert [x.tolist() for x in kept] == [[4.0] * (2 if kind == "a view" else 6)] * (kind != "nothing")
    kept.clear()
    run(lambda: torch.ones(2).tolist())
    run(lambda: torch.ones(2).tolist())
    assert len([t for t in state._traces.values() if not t.is_alive()]) <= 2


def test_tensors_handed_on_through_a_queue() -> None:
    import queue

    line: queue.Queue = queue.Queue()
    back: queue.Queue = queue.Queue()

    def consumer() -> None:
        while (x := line.get()) is not None:
            back.put(x * 2 + 1)

    thread = threading.Thread(target=consumer)
    thread.start()
    for k in range(20):
        line.put(torch.full((2,), float(k)) + 1)
        assert back.get().tolist() == [2.0 * (k + 1) + 1] * 2
    line.put(None)
    thread.join()


# --- the end of the interpreter -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "raise SystemExit(0)",
        "import threading; t = threading.Thread(target=lambda: globals().update(z=x * 3)); t.start()",
        "import threading, time\n"
        "def spin():\n    while True:\n        global q\n        q = (big.sin() + x.sum()).sum().item()\n"
        "threading.Thread(target=spin, daemon=True).start(); time.sleep(0.2)",
        "import atexit; atexit.register(lambda: print((x + 1).tolist()))",
        "class Late:\n    def __del__(self):\n        self.x + 1\nl = Late(); l.x = x; keep = l; import sys; sys.keep = l",
        "import gc; cycle = [x * 5]; cycle.append(cycle); del cycle",
    ],
)
def test_exit_with_work_pending(ending: str) -> None:
    script = (
        "import adjoint as torch\n"
        "x = torch.ones(3, requires_grad=True)\nbig = torch.ones(200_000)\n"
        "y = (x * big[:3]).sum()\ny.backward()\nu = big.sin().sum()\n"
        "u.item()\nv = big * 2\n" + ending
    )
    done = run(script)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


# --- generators and tasks -------------------------------------------------------------------------------------------------


def test_generators_record_between_their_consumers_operations() -> None:
    def batches() -> Iterator[Any]:
        x = torch.arange(12.0).reshape(6, 2)
        for k in range(3):
            part = x[2 * k : 2 * k + 2] * 2
            yield part
            part.add_(100)  # after the consumer used it

    total = torch.zeros(2)
    seen = []
    for b in batches():
        total = total + b.sum(0)
        seen.append(b)
    assert total.tolist() == [60.0, 72.0]
    assert seen[0].tolist() == [[100.0, 102.0], [104.0, 106.0]]


def test_no_grad_generator_leaves_the_caller_alone() -> None:
    @torch.no_grad()
    def values(w: Any) -> Iterator[Any]:
        for k in range(3):
            yield w * k

    w = torch.ones(1, requires_grad=True)
    for v in values(w):
        assert not v.requires_grad
        assert torch.is_grad_enabled()
        assert (w * 2).requires_grad


def test_tasks_interleave() -> None:
    async def job(k: int) -> list[float]:
        x = torch.full((2,), float(k), requires_grad=True)
        y = x
        for _ in range(4):
            y = y * x
            await asyncio.sleep(0)
        loss = y.sum()
        await asyncio.sleep(0)
        loss.backward()
        await asyncio.sleep(0)
        grad = await asyncio.to_thread(lambda: (x.grad * 1).tolist())
        return grad

    async def main() -> list[list[float]]:
        return await asyncio.gather(*[job(k) for k in range(8)])

    assert asyncio.run(main()) == [[5.0 * k**4] * 2 for k in range(8)]


# --- looking at pending tensors -------------------------------------------------------------------------------------------


def test_copies_of_pending_tensors() -> None:
    x = torch.arange(3.0)
    y = x * 2
    shallow, deep, loaded = copy.copy(y), copy.deepcopy(y), pickle.loads(pickle.dumps(y))
    y.add_(1)
    assert y.tolist() == [1.0, 3.0, 5.0]
    assert deep.tolist() == loaded.tolist() == [0.0, 2.0, 4.0]
    assert shallow.tolist() in ([0.0, 2.0, 4.0], [1.0, 3.0, 5.0])


def test_weak_references_to_pending_tensors() -> None:
    x = torch.arange(3.0)
    y = x * 2
    ref = weakref.ref(y)
    gone = []
    weakref.finalize(y, gone.append, 1)
    cache = weakref.WeakValueDictionary({"y": y})
    z = y + 1
    assert ref() is y
    assert cache["y"] is y
    del y
    assert z.tolist() == [1.0, 3.0, 5.0]
    recorder.flush(recorder.current())  # in reference mode a trace goes on after a value was read, and keeps its tensors
    gc.collect()
    assert ref() is None
    assert gone == [1]
    assert "y" not in cache


def test_a_cycle_with_pending_tensors_is_collected() -> None:
    class Node:
        pass

    node: Any = Node()
    node.me = node
    node.value = torch.ones(2) * 2
    ref = weakref.ref(node)
    out = node.value + 1
    del node
    gc.collect()
    assert ref() is None
    assert out.tolist() == [3.0, 3.0]


def test_a_debugger_that_prints_every_local_changes_nothing() -> None:
    """What stepping through with a debugger does: every value is looked at on every line."""

    def program() -> list[Any]:
        x = torch.arange(4.0, requires_grad=True)
        w = torch.ones(4)
        for k in range(3):
            y = (x * w + k).tanh()
            w = w * 0.5
            w[1] = y.detach()[0]
            loss = y.sum()
            loss.backward()
        return [w.tolist(), x.grad.tolist(), loss.item()]

    plain = program()
    looked = 0

    def watch(frame: Any, event: str, arg: Any) -> Any:
        nonlocal looked
        if frame.f_code.co_name != "program":
            return None
        for value in list(frame.f_locals.values()):
            if isinstance(value, torch.Tensor):
                repr(value)
                looked += 1
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        stepped = program()
    finally:
        sys.settrace(before)
    assert looked > 20
    np.testing.assert_allclose(np.concatenate([np.ravel(v) for v in stepped]), np.concatenate([np.ravel(v) for v in plain]))


def test_profilers_and_tracers_see_no_difference() -> None:
    sys.setprofile(lambda *_: None)
    try:
        works()
    finally:
        sys.setprofile(None)
    works()
