"""What several tests of traces need: counting what native code keeps or gives up once too often."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

import adjoint as torch

ROUNDS = 50  # a reference kept, or given up twice, at each shows as so many
FEW = 40  # what other tests have left may be cleared away meanwhile


@pytest.fixture
def nothing_drifts() -> Callable:
    """nothing_drifts(run, witnesses): runs it often, and fails where the references to the witnesses, the number of objects
    or that of buffers grows or shrinks with it."""

    def check(run: Callable[[], Any], witnesses: list[Any]) -> None:
        def counted() -> list[int]:
            gc.collect()
            return [*(sys.getrefcount(w) for w in witnesses), len(gc.get_objects()), 8 * torch.stats()["live_buffers"]]

        for _ in range(4):  # a leak stays
            before = counted()
            for _ in range(ROUNDS):
                run()
            drift = [abs(a - b) for a, b in zip(before, counted(), strict=True)]
            if max(drift) < FEW:
                return
        pytest.fail(f"drift {drift}")

    gc.collect()
    gc.freeze()  # what there is already is left out of collections and counts, which take a third of a second otherwise
    return check
