"""Updates in the memory of what they replace: where nobody can tell, and only there."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import adjoint as torch
from adjoint.runtime import in_place as runs
from adjoint.runtime import jit
from adjoint.trace.recorder import local, realize

N = 20_000  # elements, which is more than have memory kept ready
compiled = pytest.mark.skipif(local.trace.eager or not jit.available(), reason="of compiled mode")


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many inputs each run in place has given up."""
    counts: list[int] = []

    class Counted(runs.Once):
        def __init__(self, program: Any, buffers: Any, scalars: Any, given: dict[int, int]) -> None:
            counts.append(len(given))
            super().__init__(program, buffers, scalars, given)

    monkeypatch.setattr(runs, "Once", Counted)
    yield counts


def train(make: Callable, wrap: Callable = lambda step: step, steps: int = 12) -> tuple[list[np.ndarray], set[int]]:
    """The parameters and losses after some steps, and where the largest parameter has lain since the third."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 128), torch.nn.ReLU(), torch.nn.Linear(128, 96), torch.nn.ReLU(), torch.nn.Linear(96, 8))
    optimizer = make(model.parameters())
    x, y = torch.randn(16, 96), torch.randint(0, 8, (16,))

    @wrap
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    places, losses = set(), []
    for k in range(steps):
        losses.append(step(x, y).detach())
        if k > 2:
            places.add(int(realize(model[0].weight)))
    return [*(p.detach().numpy() for p in model.parameters()), torch.stack(losses).numpy()], places


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
}


@compiled
@pytest.mark.parametrize("wrap", [lambda step: step, torch.compile], ids=["eager", "compile"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps_update_in_place(name: str, wrap: Callable, given: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    there, places = train(OPTIMIZERS[name], wrap)
    assert len(places) == 1
    assert len(given) >= 8 and max(given) >= {"SGD": 2, "momentum": 4}.get(name, 6)
    monkeypatch.setattr(runs, "given_up", lambda *rest: {})
    elsewhere, places = train(OPTIMIZERS[name], wrap)
    assert len(places) > 1
    for a, b in zip(there, elsewhere, strict=True):
        assert a.tobytes() == b.tobytes()


def counted(x: Any) -> list[float]:
    """The different elements."""
    return sorted(set(x.tolist()))


# Who else knows the old value: each makes something of x, whose elements are 1, before it is changed to 2.
KNOWN: dict[str, Callable[[Any], Any]] = {
    "copied": lambda x: x.clone(),
    "copied, part": lambda x: x[5:].clone(),
    "used": lambda x: x * 1,
    "used, transposed": lambda x: x.reshape(100, 200).T.contiguous(),
    "as an array": lambda x: x.numpy().copy(),
    "copy of its memory": lambda x: torch.tensor(x.numpy()),
    "detached and copied": lambda x: x.detach().clone(),
}
# The others see the change.
SHARED: dict[str, Callable[[Any], Any]] = {
    "detached": lambda x: x.detach(),
    "part": lambda x: x[3:],
    "another shape": lambda x: x.view(100, 200),
    "array": lambda x: x.numpy(),
    "from an array": lambda x: torch.from_numpy(x.numpy()),
    "data": lambda x: x.data,
}


@pytest.mark.parametrize("realized", [False, True])
@pytest.mark.parametrize("kind", [*KNOWN, *SHARED])
def test_whoever_knows_the_old_value_keeps_it(kind: str, realized: bool) -> None:
    for _ in range(4):
        x = torch.zeros(N)
        x += 1
        if realized:
            x.sum().item()
        other = (KNOWN.get(kind) or SHARED[kind])(x)
        x += 1
        if realized:
            x.sum().item()
        x += 1
        assert counted(x) == [3.0]
        assert sorted({*np.asarray(other.tolist()).reshape(-1)}) == [1.0 if kind in KNOWN else 3.0]


@compiled
def test_a_tensor_changed_again_and_again_stays_where_it_is(given: list[int]) -> None:
    x = torch.zeros(N)
    places = set()
    for k in range(10):
        x += 1
        assert x[7].item() == k + 1
        places.add(int(realize(x)))
    assert len(places) <= 2
    assert given.count(1) >= 8
    assert counted(x) == [10.0]


def test_a_derivative_that_needs_the_old_value_finds_it() -> None:
    for retain in (True, False):
        w = torch.full((N,), 3.0, requires_grad=True)
        x = torch.full((N,), 2.0)
        y = (w * x).sum()
        y.item()
        with torch.no_grad():
            buffer = x.detach()
            w2 = w * 2
            w += 1
        assert counted(w2) == [6.0]
        if retain:
            y.backward(retain_graph=True)
            w.grad = None
        y.backward()
        assert counted(w.grad) == [2.0]
        assert counted(buffer) == [2.0]


def test_a_derivative_by_what_was_updated_uses_what_it_was() -> None:
    w = torch.full((N,), 3.0, requires_grad=True)
    y = (w * w).sum()
    y.item()
    with torch.no_grad():
        w += 1
    w.sum().item()
    y.backward()
    assert counted(w.grad) == [6.0]
    assert counted(w.detach()) == [4.0]


def test_a_second_backward_after_an_update_uses_the_former_value() -> None:
    """What no rule has saved may change: x * w needs w for the gradient of x."""
    w = torch.full((N,), 3.0)
    x = torch.full((N,), 2.0, requires_grad=True)
    y = (x + w).sum()
    y.backward(retain_graph=True)
    w += 1
    assert counted(w) == [4.0]
    y.backward()
    assert counted(x.grad) == [2.0]


@pytest.mark.parametrize("compile", [False, True])
def test_a_bad_target_updates_nothing(compile: bool) -> None:
    torch.manual_seed(1)
    w = torch.randn(160, 256, requires_grad=True)
    x = torch.randn(8, 160)
    good, bad = torch.randint(0, 256, (8,)), torch.full((8,), 999)

    def step(x: Any, target: Any) -> Any:
        loss = torch.nn.functional.cross_entropy(x @ w, target)
        (g,) = torch.autograd.grad(loss, w)
        with torch.no_grad():
            w.sub_(g)
        return loss

    run = torch.compile(step) if compile else step
    for _ in range(8):
        run(x, good)
        w.detach().sum().item()
    before = w.detach().numpy().copy()
    with pytest.raises(IndexError):
        run(x, bad)
        w.detach().sum().item()
    assert w.detach().numpy().tobytes() == before.tobytes()
    run(x, good).item()
    assert w.detach().numpy().tobytes() != before.tobytes()


def test_a_number_that_does_not_fit_runs_in_another_way() -> None:
    x = torch.zeros(N, dtype=torch.int64)
    for _ in range(6):
        x += 1
        x.sum().item()
        x += (1 << 63) + 5  # wraps
        x.sum().item()
        x -= (1 << 63) + 6
    assert counted(x) == [0]


@compiled
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_finalizer_may_read_what_is_being_updated(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(N)
    seen: list[Any] = []
    finish, reading = runs.Once.finish, [False]

    def finish_and_read(self: runs.Once) -> list[Any]:
        if reading[0]:
            return finish(self)
        reading[0] = True
        out = finish(self) if when == "after" else []
        seen.append(counted(x))
        y = x * 2
        seen.append(counted(y))
        reading[0] = False
        return out or finish(self)

    monkeypatch.setattr(runs.Once, "finish", finish_and_read)
    for k in range(5):
        x += 1
        assert counted(x) == [k + 1.0]
    assert len(seen) >= 8
    assert seen[-2:] == [[5.0], [10.0]]


def test_threads_see_whole_updates() -> None:
    x = torch.zeros(5 * N)
    problems: list[Any] = []
    over = threading.Event()
    ready = threading.Semaphore(0)

    def read() -> None:
        last = 0.0
        while not over.is_set():
            values = counted(x * 1)
            a, b = values[0], values[-1]
            if a != b or a < last:
                problems.append((a, b, last))
            last = a
            ready.release()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(60):
            x.add_(1)
            if k % 3 == 0:
                x.sum()
            if k % 2:
                x[3].item()
            if k % 10 == 0:
                ready.acquire(timeout=1)
    finally:
        over.set()
        reader.join()
    assert not problems
    assert counted(x) == [60.0]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_an_interrupted_update_took_place_or_did_not() -> None:
    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    x = torch.zeros(5 * N)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    before = signal.signal(signal.SIGALRM, stop)
    interrupted = 0
    try:
        end = time.monotonic() + 30  # of a machine that does much else meanwhile
        while interrupted < 60 and time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, 6e-4)))
                for _ in range(20):
                    x.add_(1)
                    x[0].item()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            values = counted(x)
            assert len(values) == 1
            assert values[0] == round(values[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 10


@pytest.mark.parametrize("looked", [False, True])
def test_a_derivative_that_is_still_to_come_finds_what_was_updated_before_its_trace_ended(looked: bool) -> None:
    """Also what has no gradient itself; and what a value in between is computed from again."""
    for _ in range(3):
        w = torch.full((N,), 3.0, requires_grad=True)
        x = torch.full((N,), 2.0)
        if looked:
            assert counted(x) == [2.0]
        y, z = w * x, w / (x + 1).sqrt().square()
        x.mul_(5)
        assert counted(x) == [10.0]
        (y.sum() + z.sum()).backward()
        np.testing.assert_allclose(w.grad.numpy(), np.full(N, 2 + 1 / 3), rtol=1e-6)
        x.mul_(2)
        assert counted(x) == [20.0]
