"""Long varied use: `python -m benchmarks.soak [--minutes 30]`. Memory and counts must stay flat.

Rounds of small programs of every kind (regression, networks with dropout and batch norm, attention, recurrence, second
derivatives, custom functions, hooks, shapes that change, memory shared with NumPy, threads, exceptions, saving and
loading) follow one another. Every program ends with a check of its result. The process's memory, Python's blocks of
memory, the buffers living and free, and the numbers of programs, kernels and trie nodes are printed once a minute.
`LIMITS` says by how much each may have grown in the last third of the time; beyond that the exit status is 1.
"""

from __future__ import annotations

import argparse
import gc
import io
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

import adjoint as torch
import adjoint.nn.functional as F
from adjoint import nn

from .counts import _resident_mib

rng = np.random.default_rng(0)


def descend(loss: Callable[[], torch.Tensor], optimizer: torch.optim.Optimizer, steps: int) -> tuple[float, float]:
    """First and last loss of some steps."""
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        found.append(value.detach())
    return found[0].item(), found[-1].item()


def regression() -> None:
    X, noise = torch.randn(200, 3), torch.randn(200, 1) * 0.01
    true = torch.tensor([[1.0], [-2.0], [0.5]])
    y = X @ true + noise
    w, b = torch.zeros(3, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for _ in range(12):
        order = torch.randperm(200)
        for start in range(0, 200, 16):
            batch = order[start : start + 16]
            loss = ((X[batch] @ w + b - y[batch]) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                for p in (w, b):
                    p -= 0.1 * p.grad
                    p.grad.zero_()
    assert (w - true).abs().max() < 0.05


def network() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip
    x, y = torch.randn(24, 1, 8, 8), torch.randint(0, 10, (24,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    first, last = descend(lambda: F.cross_entropy(model(x), y), optimizer, 25)
    schedule.step()
    assert last < first
    memory = io.BytesIO()
    torch.save(model.state_dict(), memory)
    memory.seek(0)
    model.load_state_dict(torch.load(memory))
    model.eval()
    with torch.no_grad():
        assert model(x).shape == (24, 10)


def attention() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    head = nn.Linear(16, 1)
    x = torch.randn(4, int(rng.integers(3, 9)), 16)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.01)
    first, last = descend(lambda: (head(layer(x)) ** 2).mean(), optimizer, 15)
    assert last < first


def recurrence() -> None:
    cell, head = nn.GRUCell(4, 8), nn.Linear(8, 4)
    x = torch.randn(6, 5, 4)

    def loss() -> torch.Tensor:
        h = torch.zeros(5, 8)
        total = torch.zeros(())
        for t in range(5):
            h = cell(x[t], h)
            total = total + ((head(h) - x[t + 1]) ** 2).mean()
        return total

    first, last = descend(loss, torch.optim.RMSprop([*cell.parameters(), *head.parameters()], lr=0.01), 12)
    assert last < first


def second_derivatives() -> None:
    x = torch.randn(5, requires_grad=True)
    y = (x.sin() * x).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad((g * g).sum(), x)
    s, c, v = np.sin(x.detach().numpy()), np.cos(x.detach().numpy()), x.detach().numpy()
    np.testing.assert_allclose(h.numpy(), 2 * (s + v * c) * (2 * c - v * s), rtol=1e-3, atol=1e-4)
    assert torch.func.hessian(lambda t: (t**3).sum())(x.detach()).shape == (5, 5)


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, limit):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return g * (x.abs() <= ctx.limit), None


def functions_and_hooks() -> None:
    w = torch.randn(6, requires_grad=True)
    seen: list[float] = []
    handle = w.register_hook(lambda g: seen.append(g.sum().item()))
    for k in range(5):
        (Clip.apply(w, 0.5 + 0.1 * k) ** 2).sum().backward()
    handle.remove()
    assert len(seen) == 5


def shapes() -> None:
    n, m = (int(v) for v in rng.integers(1, 9, 2))
    x = torch.randn(n, m, requires_grad=True)
    (F.softmax(x, -1) * x).sum().backward()
    assert x.grad.shape == (n, m)


def views_and_memory() -> None:
    array = np.zeros((6, 6), np.float32)
    x = torch.from_numpy(array)
    for k in range(6):
        x[k] = k
        x[:, k] += 1
        array[k, k] = 100
    expected = np.zeros((6, 6), np.float32)
    for k in range(6):
        expected[k] = k
        expected[:, k] += 1
        expected[k, k] = 100
    np.testing.assert_array_equal(x.numpy(), expected)


def threads() -> None:
    results: list[float] = []

    def work(k: int) -> None:
        a = torch.full((50,), float(k), requires_grad=True)
        (a * a).sum().backward()
        results.append(a.grad.sum().item() / 100)

    running = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in running:
        t.start()
    for t in running:
        t.join()
    assert sorted(results) == [0, 1, 2, 3]


def exceptions() -> None:
    x = torch.randn(4, requires_grad=True)
    for bad in (lambda: x @ torch.ones(3, 3), lambda: torch.linalg.inv(torch.zeros(3, 3)).sum().item(), lambda: x[torch.tensor([9])].tolist()):
        try:
            bad()
        except (RuntimeError, IndexError):
            continue
        raise AssertionError("no error")


def endless() -> None:
    x = torch.zeros(8)
    for _ in range(3000):
        x = x * 0.5 + 1
    assert abs(x.sum().item() - 16) < 1e-4


PROGRAMS = (
    regression, network, attention, recurrence, second_derivatives, functions_and_hooks, shapes, views_and_memory,
    threads, exceptions, endless,
)  # fmt: skip


# What may have grown in the last third: by a part of what it was, and by an amount.
LIMITS = {
    "MiB": (0.0, 2.0), "blocks": (0.002, 200), "live buffers": (0.0, 4), "buffers": (0.0, 16), "programs": (0.0, 0),
    "kernels": (0.0, 0), "nodes": (0.0, 0),
}  # fmt: skip


def figures() -> dict[str, float]:
    gc.collect()
    stats = torch.stats()
    return {
        "MiB": _resident_mib(),
        "blocks": sys.getallocatedblocks(),
        "live buffers": stats["memory"]["live_buffers"],
        "buffers": stats["memory"]["live_buffers"] + stats["memory"]["pooled_buffers"],
        "programs": stats["living_programs"],
        "kernels": stats["living_kernels"],
        "nodes": stats["trie_nodes"],
    }


def line(now: dict[str, float]) -> str:
    return "  ".join(f"{k} {v:.1f}" if k == "MiB" else f"{k} {v:.0f}" for k, v in now.items())


def grown(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """The figures that grew by more than `LIMITS` has."""
    return [k for k, (part, amount) in LIMITS.items() if after[k] > before[k] * (1 + part) + amount]


def rounds(seconds: float) -> Iterator[tuple[float, int]]:
    """(time since the start, rounds done), after each round."""
    begun, done = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        for program in PROGRAMS:
            program()
        done += 1
        yield passed, done


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30)
    seconds = 60 * parser.parse_args(arguments).minutes
    at_two_thirds: dict[str, float] = {}
    shown, done = 0.0, 0
    for passed, done in rounds(seconds):
        if not at_two_thirds and passed >= seconds * 2 / 3:
            at_two_thirds = figures()
        if passed >= shown:
            print(f"{passed / 60:5.1f} min  {done:6d} rounds  {line(figures())}", flush=True)
            shown += 60
    at_end = figures()
    print(f"two thirds: {line(at_two_thirds)}")
    print(f"at end:     {line(at_end)}  after {done} rounds")
    found = grown(at_two_thirds, at_end) if at_two_thirds else ["no round came after two thirds of the time"]
    print("flat" if not found else "GREW: " + ", ".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
