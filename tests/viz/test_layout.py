"""The layered layout: what must hold for any graph, and graphs whose best drawing is known."""

from __future__ import annotations

import itertools
import random

import pytest

from adjoint.viz.layout import assign_layers, crossings, layout_graph, order_layers


def random_dag(seed: int) -> tuple[list[float], list[tuple[int, int]]]:
    rng = random.Random(seed)
    n = rng.randint(1, 40)
    edges = {(a, b) for b in range(1, n) for a in rng.sample(range(b), min(b, rng.randint(0, 3)))}
    return [rng.uniform(20, 120) for _ in range(n)], sorted(edges)


@pytest.mark.parametrize("seed", range(25))
def test_any_graph(seed):
    widths, edges = random_dag(seed)
    plan = layout_graph(widths, edges, row_height=50, gap=10)
    for a, b in edges:
        assert plan.y[a] < plan.y[b]
    for (a, b), bends in zip(edges, plan.bends, strict=True):
        ys = [plan.y[a], *(y for _, y in bends), plan.y[b]]
        assert all(q - p == pytest.approx(50) for p, q in itertools.pairwise(ys))
    rows: dict[float, list[int]] = {}
    for v, y in enumerate(plan.y):
        rows.setdefault(y, []).append(v)
    for members in rows.values():
        members.sort(key=plan.x.__getitem__)
        for p, q in itertools.pairwise(members):
            assert plan.x[q] - plan.x[p] >= (widths[p] + widths[q]) / 2 + 10 - 1e-6
    for v, w in enumerate(widths):
        assert w / 2 - 1e-6 <= plan.x[v] <= plan.width - w / 2 + 1e-6
        assert 0 < plan.y[v] < plan.height


def test_layers_are_longest_paths_to_the_end():
    # 0 -> 1 -> 3, 0 -> 3, 2 -> 3: node 2 stands right above 3, not at the top.
    assert assign_layers(4, [(0, 1), (1, 3), (0, 3), (2, 3)]) == [0, 1, 1, 2]


def test_a_cycle_is_refused():
    with pytest.raises(ValueError, match="cycle"):
        layout_graph([1, 1], [(0, 1), (1, 0)])


def test_crossings_are_counted_and_removed():
    down = [[5], [4], [3], [], [], []]
    up = [[], [], [], [2], [1], [0]]
    layers = [[0, 1, 2], [3, 4, 5]]
    assert crossings(layers, down) == 3
    order_layers(layers, up, down)
    assert crossings(layers, down) == 0


def test_ordering_never_makes_it_worse():
    for seed in range(20):
        widths, edges = random_dag(seed)
        n = len(widths)
        level = assign_layers(n, edges)
        near = [(a, b) for a, b in edges if level[b] == level[a] + 1]
        up = [[a for a, b in near if b == v] for v in range(n)]
        down = [[b for a, b in near if a == v] for v in range(n)]
        layers = [[v for v in range(n) if level[v] == k] for k in range(max(level) + 1)]
        before = crossings(layers, down)
        order_layers(layers, up, down)
        assert crossings(layers, down) <= before


def test_a_chain_is_a_straight_line():
    plan = layout_graph([30, 80, 50, 20], [(0, 1), (1, 2), (2, 3)])
    assert max(plan.x) - min(plan.x) < 1e-6
    assert layout_graph([], []).width == 0
