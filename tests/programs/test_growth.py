"""Long loops: memory does not grow, what nobody holds is not computed, and shared input does not end traces.

`loop` is an ordinary recurrent training loop; the parametrized tails are what people add to it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import adjoint as torch


class Loop:
    """A recurrent cell trained on noise, its state handed from step to step without its past."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.cell = torch.nn.RNNCell(4, 4)
        self.opt = torch.optim.SGD(self.cell.parameters(), lr=0.01)
        self.h = torch.zeros(1, 4)
        self.average = torch.zeros(())

    def step(self) -> Any:
        self.h = self.cell(torch.randn(1, 4), self.h.detach())
        loss = (self.h**2).sum()
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss


def nothing(loop: Loop, loss: Any) -> None:
    pass


def looks(loop: Loop, loss: Any) -> None:
    loss.item()


def averages(loop: Loop, loss: Any) -> None:
    loss.item()
    with torch.no_grad():
        loop.average = 0.9 * loop.average + 0.1 * loss


def averages_detached(loop: Loop, loss: Any) -> None:
    loss.item()
    loop.average = 0.9 * loop.average + 0.1 * loss.detach()


def takes_a_part(loop: Loop, loss: Any) -> None:
    loss.item()
    loop.average = loop.h.detach()[0, 1:].sum()


@pytest.mark.parametrize("tail", [nothing, looks, averages, averages_detached, takes_a_part], ids=lambda f: f.__name__)
def test_memory_does_not_grow(tail: Callable[[Loop, Any], None]) -> None:
    loop = Loop()
    # in reference mode a trace is some 60 steps long, so there the peaks of two stretches are compared
    many, peaks = (150, []) if torch.is_eager() else (40, [])
    for _ in range(3):
        peak = 0
        for k in range(many):
            tail(loop, loop.step())
            if k % 5 == 0:
                peak = max(peak, torch.stats()["memory"]["live_buffers"])
        gc.collect()
        peaks.append(peak)
    assert peaks[2] <= peaks[1] * 1.3 + 8, peaks


def test_base_of_a_forgotten_view_is_not_computed() -> None:
    """A reshape in the middle of a formula must not make its operand a result that is written to memory."""
    if torch.is_eager():
        pytest.skip("reference mode computes everything")
    x = torch.ones(64, 64)
    x.sum().item()

    def bytes_moved(formula: Callable[[Any], Any]) -> int:
        before = torch.stats()["bytes_moved"]
        formula(x).item()
        return torch.stats()["bytes_moved"] - before

    plain, viewed = lambda t: (t * 2 + 1).sum(), lambda t: ((t * 2).view(-1) + 1).sum()
    plain(x).item(), viewed(x).item()
    assert bytes_moved(viewed) == bytes_moved(plain)


def test_minibatches_of_shared_memory_cost_one_trace_each() -> None:
    """Rows of a large array that `from_numpy` wraps: whether or not the array itself lives on, a step is one trace."""
    if torch.is_eager():
        pytest.skip("counts traces")
    kept = np.random.default_rng(0).standard_normal((4096, 8)).astype(np.float32)
    for data in (torch.from_numpy(kept), torch.from_numpy(kept.copy())):
        w = torch.zeros(8, 1, requires_grad=True)
        opt = torch.optim.SGD([w], lr=0.1)

        def step(i: int, data: Any = data, w: Any = w, opt: Any = opt) -> None:
            loss = (data[i : i + 16] @ w - 1).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()

        for i in range(3):
            step(16 * i)
        before = torch.stats()
        for i in range(20):
            step(16 * i)
        after = torch.stats()
        assert after["flushes"] - before["flushes"] == 20
        assert after["programs"] == before["programs"]
    kept[:] = 0
    assert torch.from_numpy(kept)[3:5].sum().item() == 0


def test_writing_beside_many_views_stays_cheap() -> None:
    """Counting in a loop: the views of earlier writes are not visited again at each write."""
    counts = torch.zeros(10, dtype=torch.int64)
    for i in range(1500):
        counts[i % 10] += 1
    views = counts._views
    assert len(views.fresh) + len(views.stale) < 1500
    assert counts.tolist() == [150] * 10
