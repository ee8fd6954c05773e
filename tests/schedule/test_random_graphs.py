"""Random graphs, seeded: what the compiler makes of them equals what the reference computes."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import check, random_graph


@pytest.mark.parametrize("block", range(20))
def test_small(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        graph, arrays, scalars = random_graph(seed)
        check(graph, arrays, scalars, rtol=3e-4, atol=3e-4)


@pytest.mark.parametrize("block", range(4))
def test_larger(block: int) -> None:
    for seed in range(10_000 + 5 * block, 10_000 + 5 * block + 5):
        graph, arrays, scalars = random_graph(seed, 30_000)
        check(graph, arrays, scalars, rtol=1e-3, atol=1e-3)


def test_the_draw_is_varied() -> None:
    """A generator that drew only trivial graphs would prove nothing."""
    names: set[str] = set()
    sizes = []
    for seed in range(150):
        graph, *_ = random_graph(seed)
        names.update(n.prim.name for n in graph.nodes)
        sizes.append(len(graph.nodes))
    wanted = "sum amax argmax cumsum take put_add put matmul window place slice_update cat flip random_bits where"
    assert set(wanted.split()) <= names
    assert np.mean(sizes) > 10
