"""What loops cost: programs, memory, time.

Counts of programs come from `torch.stats()`; they mean something only when compiling, so those
tests skip in reference mode. The functions at the top are the loops that several tests run.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

import adjoint as torch
from adjoint import nn, optim

compiled_only = pytest.mark.skipif(torch.is_eager(), reason="counts programs")


def programs() -> int:
    return torch.stats()["programs"]


def kernels() -> int:
    return torch.stats()["kernels"]


def counts_per_iteration(step: Callable[[int], None], iterations: int) -> list[int]:
    """Programs made in each iteration."""
    counts = []
    for i in range(iterations):
        before = programs()
        step(i)
        counts.append(programs() - before)
    return counts


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def regression(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((64, 5)).astype(np.float32))
    y = torch.tensor(rng.standard_normal((64, 1)).astype(np.float32))
    w = torch.tensor(rng.standard_normal((5, 1)).astype(np.float32), requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    return x, y, w, b


# --- training loops compile once ------------------------------------------------------------------


@compiled_only
def test_changing_numbers_compile_nothing() -> None:
    """Learning rate, step counter and slice start change in every step."""
    x, y, w, b = regression()
    losses = []

    def step(i: int) -> None:
        start = (7 * i) % 48
        xb, yb = x[start : start + 16], y[start : start + 16]
        loss = ((xb @ w + b - yb) ** 2).mean() * (1 + 0.01 * i)
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad * (0.1 / (1 + i)))
            b.sub_(b.grad, alpha=0.1 / (1 + i))
        w.grad = None
        b.grad = None
        losses.append(loss.item())

    counts = counts_per_iteration(step, 12)
    assert sum(counts[:2]) >= 1
    assert counts[2:] == [0] * 10
    assert len(set(losses)) == 12


@compiled_only
@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: optim.Adam(p, lr=0.01),
    lambda p: optim.AdamW(p, lr=0.01),
], ids=["sgd", "adam", "adamw"])  # fmt: skip
def test_optimizers_with_a_schedule_compile_nothing(make: Callable) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = make(model.parameters())
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.95)
    rng = np.random.default_rng(1)
    seen = []

    def step(i: int) -> None:
        xb = torch.from_numpy(rng.standard_normal((16, 6)).astype(np.float32))
        yb = torch.from_numpy(rng.standard_normal((16, 1)).astype(np.float32))
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(xb), yb)
        loss.backward()
        optimizer.step()
        schedule.step()
        seen.append(loss.item())

    counts = counts_per_iteration(step, 8)
    assert counts[3:] == [0] * 5, counts
    assert all(np.isfinite(seen))


@compiled_only
def test_smaller_last_batch_costs_one_program_once() -> None:
    x, y, w, b = regression()

    def epoch(_: int) -> None:
        for start in range(0, 64, 24):  # batches of 24, 24 and 16
            xb, yb = x[start : start + 24], y[start : start + 24]
            loss = ((xb @ w + b - yb) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                for p in (w, b):
                    p -= 0.05 * p.grad
                    p.grad = None
            loss.item()

    def full_batches(_: int) -> None:
        for start in (0, 24):
            xb, yb = x[start : start + 24], y[start : start + 24]
            loss = ((xb @ w + b - yb) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                for p in (w, b):
                    p -= 0.05 * p.grad
                    p.grad = None
            loss.item()

    counts_per_iteration(full_batches, 2)
    assert sum(counts_per_iteration(epoch, 1)) == 1
    assert counts_per_iteration(epoch, 3) == [0, 0, 0]


@compiled_only
def test_branches_on_values_cost_one_program_each() -> None:
    def step(x: torch.Tensor) -> float:
        y = (x * 2).tanh()
        if y.sum().item() > 0:
            y = y + 1
        else:
            y = y - 1
        return y.sum().item()

    up, down = torch.full((4,), 0.5), torch.full((4,), -0.5)
    step(up), step(down)
    before = programs()
    for _ in range(5):
        assert step(up) == pytest.approx(4 * (np.tanh(1.0) + 1), rel=1e-5)
        assert step(down) == pytest.approx(-4 * (np.tanh(1.0) + 1), rel=1e-5)
    assert programs() == before


@compiled_only
def test_reading_inside_the_step_or_not_is_two_paths_only() -> None:
    x, y, w, b = regression(3)

    def step(i: int) -> None:
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.01 * p.grad
                p.grad.zero_()
        if i % 3 == 0:
            loss.item()

    counts = counts_per_iteration(step, 24)
    assert sum(counts[9:]) == 0, counts


@compiled_only
def test_same_kernels_in_other_programs_are_not_compiled_again() -> None:
    def run(extra: int) -> float:
        x = torch.tensor(np.arange(40.0, dtype=np.float32).reshape(5, 8))
        for _ in range(extra):
            x.sum().item()
        return torch.softmax(x * 0.5, dim=1)[:, 3].sum().item()

    run(0)
    before = kernels()
    first = run(1)
    assert kernels() - before <= 1  # the sum, if nothing had it before
    before = kernels()
    assert run(2) == first
    assert kernels() == before


# --- loops that never look ------------------------------------------------------------------------


def accumulate_in_place(n: int) -> float:
    x = torch.zeros(8)
    for _ in range(n):
        x += 1.0
    return x.sum().item() - 8 * n


def rebind(n: int) -> float:
    x = torch.full((8,), 0.5, dtype=torch.float64)
    for _ in range(n):
        x = x * 0.999 + 0.001
    return abs(x.sum().item() - 8 * (1 - 0.5 * 0.999**n))


def two_variables(n: int) -> float:
    a, b = torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    for _ in range(n):
        a, b = a - 0.001 * b, b + 0.001 * a
    scale = np.hypot(1, 0.001) ** n
    return abs(float((a * a + b * b).sum()) / (4 * scale**2) - 1)


def views_in_place(n: int) -> float:
    x = torch.zeros(4, 4)
    for _ in range(n):
        x[1:3] += 1.0
        x[0] -= 1.0
    return x.sum().item() - 4 * n


def training(n: int) -> float:
    w = torch.zeros(3, requires_grad=True, dtype=torch.float64)
    target = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    for _ in range(n):
        loss = ((w - target) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad.zero_()
    return (w - target).abs().max().item()


def training_with_a_history_of_losses_dropped(n: int) -> float:
    w = torch.ones(3, requires_grad=True, dtype=torch.float64)
    smooth = torch.zeros((), dtype=torch.float64)
    for i in range(n):
        loss = (w * w).sum()
        smooth = 0.9 * smooth + 0.1 * loss.detach()
        loss.backward()
        with torch.no_grad():
            w -= (0.01 / (1 + 0.001 * i)) * w.grad
        w.grad = None
    return smooth.item() - 0.0


LOOPS = [
    accumulate_in_place,
    rebind,
    two_variables,
    views_in_place,
    training,
    training_with_a_history_of_losses_dropped,
]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_loop_that_never_looks(loop: Callable[[int], float]) -> None:
    """10,000 iterations: the right answer, at most 3 programs, and as many again in the memory of the first."""
    if torch.is_eager():
        assert loop(1000) < 1e-2
        return
    torch.zeros(()).item()  # runs what other modules left pending, which would stand before the first loop only
    before = programs()
    assert abs(loop(10_000)) < 1e-6
    assert programs() - before <= 3
    # what compiling those programs took is not the loop's; what it takes now, per iteration, would be
    held, memory = torch.stats()["memory"]["live_bytes"], peak_bytes()
    loop(10_000)
    assert programs() - before <= 3
    assert peak_bytes() - memory < 10e6
    assert torch.stats()["memory"]["live_bytes"] < held + 1e5


def chain(n: int) -> float:
    x = torch.tensor([0.5, -0.25], dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(n // 2):
        y = y * 0.99999 + 0.00001
    y.sum().backward()
    return abs(float(x.grad[0]) / 0.99999 ** (n // 2) - 1)


def test_backward_through_a_long_chain() -> None:
    """100,000 operations: linear time, no recursion."""
    if torch.is_eager():
        assert chain(5_000) < 1e-9
        return
    chain(2_000)
    times = {}
    for n in (25_000, 100_000):
        start = time.perf_counter()
        assert chain(n) < 1e-6
        times[n] = time.perf_counter() - start
    assert times[100_000] < 8 * times[25_000] + 1
    assert times[100_000] < 20


def test_gradient_of_a_gradient_through_a_chain() -> None:
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(50):
        y = y.sin()
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    h = 1e-5
    values = []
    for delta in (-h, 0.0, h):
        v = 0.3 + delta
        for _ in range(50):
            v = np.sin(v)
        values.append(v)
    assert second.item() == pytest.approx((values[0] - 2 * values[1] + values[2]) / h**2, rel=1e-3)


@compiled_only
@pytest.mark.parametrize("on_leaf", [False, True])
def test_changing_numbers_in_hooks_compile_nothing(on_leaf: bool) -> None:
    w, factor = torch.ones(3, requires_grad=True), 0.0

    def scaled(g: torch.Tensor) -> torch.Tensor:
        return g * factor + factor

    if on_leaf:
        w.register_hook(scaled)
    seen = []

    def step(i: int) -> None:
        nonlocal factor
        factor = 0.5 + i
        y = w * 2
        if not on_leaf:
            y.register_hook(scaled)
        y.sum().backward()
        seen.append(w.grad.tolist()[0])
        w.grad = None

    counts = counts_per_iteration(step, 10)
    assert counts[2:] == [0] * 8
    assert seen == [(0.5 + i) * 3 if on_leaf else (0.5 + i) * 4 for i in range(10)]


# --- results that nobody reads ---------------------------------------------------------------------


def calls_in(work: Callable[[], None]) -> int:
    """How many functions are called, built-in ones included."""
    count = 0

    def look(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def gradient_of_a_function() -> Callable[[], None]:
    x = torch.ones(3, 3)
    numbers = iter(range(10**6))
    return lambda: torch.func.grad(lambda a: (a * a * next(numbers)).sum())(x)


def backward_through_a_hook() -> Callable[[], None]:
    w = torch.ones(4, requires_grad=True)

    def step() -> None:
        y = w * 2
        y.register_hook(lambda g: g * 2)
        y.sum().backward()
        w.grad = None

    return step


@pytest.mark.parametrize("make", [gradient_of_a_function, backward_through_a_hook])
def test_what_nobody_reads_costs_the_same_every_time(make: Callable) -> None:
    step = make()
    costs = []
    for turn in range(400):
        if turn % 10:
            step()
        else:
            costs.append(calls_in(step))
    early, late = sorted(costs[1:11])[5], sorted(costs[-10:])[5]
    assert late <= 1.25 * early, costs


@compiled_only
@pytest.mark.parametrize("way", ["backward", "accumulated", "grad"])
def test_a_long_loop_is_cut_at_the_same_steps_every_time(way: str, little_effort: None) -> None:
    """Nobody reads the gradient of a loop that is cut in pieces: still the next iteration, which follows in the trace,
    finds the programs of the one before. (Cut wherever a trace of another length happened to end, it found them again
    after nine iterations, each of which compiled for a second.)"""
    w = torch.full((4, 4), 0.1, requires_grad=True)
    x = torch.linspace(-1.0, 1.0, 200)

    def step(_: int) -> None:
        h, total = torch.ones(4), 0
        for t in range(200):
            h = torch.tanh(w @ h + x[t])
            total = total + h.sum()
        if way == "grad":
            torch.autograd.grad(total, w)
        else:
            if way == "backward":
                w.grad = None
            total.backward()
        total.item()

    made = counts_per_iteration(step, 5)
    assert made[2:] == [0, 0, 0] and sum(made) < 9
