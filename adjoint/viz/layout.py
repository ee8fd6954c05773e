"""Layered layout of a directed acyclic graph, in the four steps of Sugiyama, Tagawa and Toda (IEEE
Trans. SMC 11, 1981): layers, dummies on long edges, order within layers, coordinates.

Nodes are numbers 0 .. n-1; an edge (a, b) points downward. Owns `Layout`. Read `layout_graph`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_SWEEPS = 24
_LOOSE = 0.02  # how firmly a leaf holds its place, next to 1 for everything else


@dataclass
class Layout:
    """Centres of all nodes, and for each edge the points it passes through between its two ends.

    layers: the order found in each layer, top to bottom; numbers >= n are bends of long edges.
    """

    x: list[float]
    y: list[float]
    bends: list[list[tuple[float, float]]]
    layers: list[list[int]]
    width: float
    height: float


def layout_graph(
    widths: Sequence[float],
    edges: Sequence[tuple[int, int]],
    *,
    row_height: float = 64.0,
    gap: float = 22.0,
) -> Layout:
    """Place nodes of the given widths. Raises ValueError if the edges form a cycle."""
    n = len(widths)
    layer = assign_layers(n, edges)
    # Long edges become chains of dummies, so that every edge joins neighbouring layers.
    sizes = list(widths)
    chains: list[list[int]] = []
    for a, b in edges:
        chain = []
        for level in range(layer[a] + 1, layer[b]):
            chain.append(len(sizes))
            sizes.append(2.0)
            layer.append(level)
        chains.append(chain)
    up: list[list[int]] = [[] for _ in sizes]
    down: list[list[int]] = [[] for _ in sizes]
    for (a, b), chain in zip(edges, chains, strict=True):
        path = [a, *chain, b]
        for p, q in itertools.pairwise(path):
            down[p].append(q)
            up[q].append(p)
    layers: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node, level in enumerate(layer):
        layers[level].append(node)
    order_layers(layers, up, down)
    x = place(layers, up, down, sizes, gap)
    left = min((x[v] - sizes[v] / 2 for v in range(len(sizes))), default=0.0)
    x = [value - left for value in x]
    y = [(level + 0.5) * row_height for level in layer]
    return Layout(
        x=x[:n],
        y=y[:n],
        bends=[[(x[v], y[v]) for v in chain] for chain in chains],
        layers=layers,
        width=max((x[v] + sizes[v] / 2 for v in range(len(sizes))), default=0.0),
        height=row_height * len(layers),
    )


def assign_layers(n: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest path to a sink decides the layer, so a node stands right above its first consumer."""
    down: list[list[int]] = [[] for _ in range(n)]
    up: list[list[int]] = [[] for _ in range(n)]
    for a, b in edges:
        down[a].append(b)
        up[b].append(a)
    height = [0] * n
    waiting = [len(targets) for targets in down]
    ready = deque(v for v in range(n) if waiting[v] == 0)
    seen = 0
    while ready:
        v = ready.popleft()
        seen += 1
        for u in up[v]:
            height[u] = max(height[u], height[v] + 1)
            waiting[u] -= 1
            if waiting[u] == 0:
                ready.append(u)
    if seen != n:
        raise ValueError("the graph has a cycle, so it has no layers")
    top = max(height, default=0)
    return [top - h for h in height]


def crossings(layers: Sequence[Sequence[int]], down: Sequence[Sequence[int]]) -> int:
    """How many pairs of edges between neighbouring layers cross."""
    total = 0
    for upper, lower in itertools.pairwise(layers):
        place_of = {v: i for i, v in enumerate(lower)}
        ends = [place_of[w] for v in upper for w in sorted(down[v], key=place_of.__getitem__)]
        total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return total


def order_layers(
    layers: list[list[int]], up: Sequence[Sequence[int]], down: Sequence[Sequence[int]]
) -> None:
    """Sort each layer by the mean place of its neighbours, sweeping down and up; keep the best."""
    place_of: dict[int, float] = {}
    for members in layers:
        place_of.update({v: i for i, v in enumerate(members)})
    best, fewest = [list(m) for m in layers], crossings(layers, down)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        downward = sweep % 2 == 0
        neighbours = up if downward else down
        for members in layers if downward else reversed(layers):

            def key(v: int, near: Sequence[Sequence[int]] = neighbours) -> float:
                around = near[v]
                return sum(place_of[w] for w in around) / len(around) if around else place_of[v]

            members.sort(key=key)
            place_of.update({v: i for i, v in enumerate(members)})
        count = crossings(layers, down)
        if count < fewest:
            best, fewest = [list(m) for m in layers], count
    layers[:] = best


def place(
    layers: Sequence[Sequence[int]],
    up: Sequence[Sequence[int]],
    down: Sequence[Sequence[int]],
    sizes: Sequence[float],
    gap: float,
) -> list[float]:
    """Horizontal centres: each node is drawn to its neighbours, never past the node beside it."""
    x = [0.0] * len(sizes)
    for members in layers:
        right = 0.0
        for v in members:
            x[v] = right + sizes[v] / 2
            right += sizes[v] + gap
        middle = (right - gap) / 2
        for v in members:
            x[v] -= middle
    # A source with one consumer follows it; it must not bend the trunk towards itself.
    firmness = [1.0 if up[v] or len(down[v]) > 1 else _LOOSE for v in range(len(sizes))]
    for sweep in range(_SWEEPS):
        downward = sweep % 2 == 0
        last = sweep >= _SWEEPS - 2  # the end looks both ways, which straightens long chains
        for members in layers if downward else reversed(layers):
            wanted = []
            for v in members:
                around = [*up[v], *down[v]] if last else (up[v] if downward else down[v])
                total = sum(firmness[w] for w in around)
                pulled = sum(x[w] * firmness[w] for w in around)
                wanted.append(pulled / total if around else x[v])
            weights = [firmness[v] for v in members]
            placed = _spread(members, wanted, weights, sizes, gap)
            for v, value in zip(members, placed, strict=True):
                x[v] = value
    return x


def _spread(
    members: Sequence[int],
    wanted: Sequence[float],
    weights: Sequence[float],
    sizes: Sequence[float],
    gap: float,
) -> list[float]:
    """The positions nearest to `wanted` (weighted least squares) that keep order and distance.

    Subtracting each node's least offset turns "far enough apart" into "not decreasing", which the
    pool-adjacent-violators rule solves: merge neighbours that are out of order into their mean.
    """
    offset, total = [], 0.0
    for i, v in enumerate(members):
        if i:
            total += (sizes[members[i - 1]] + sizes[v]) / 2 + gap
        offset.append(total)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, how many nodes
    for value, weight, shift in zip(wanted, weights, offset, strict=True):
        mean, heavy, count = value - shift, weight, 1
        while blocks and blocks[-1][0] > mean:
            other, other_weight, size = blocks.pop()
            mean = (mean * heavy + other * other_weight) / (heavy + other_weight)
            heavy, count = heavy + other_weight, count + size
        blocks.append((mean, heavy, count))
    flat = [mean for mean, _, count in blocks for _ in range(count)]
    return [value + shift for value, shift in zip(flat, offset, strict=True)]
