"""Where the intermediate results of a program lie: offsets in one arena, reused when their time is over.

`plan_memory` gives each block of memory a place by first fit, in order of first use. Times are numbers of steps.
"""

from __future__ import annotations

from collections.abc import Hashable

ALIGNMENT = 64


def plan_memory(blocks: list[tuple[Hashable, int, int, int]]) -> tuple[dict[Hashable, int], int]:
    """Offsets of `blocks`, each (key, bytes, first step, last step), and the size of the arena.

    >>> from adjoint.schedule.memory_plan import plan_memory
    >>> plan_memory([("a", 100, 0, 1), ("b", 10, 1, 2), ("c", 100, 2, 3)])
    ({'a': 0, 'b': 128, 'c': 0}, 192)
    """
    offsets: dict[Hashable, int] = {}
    placed: list[
        tuple[int, int, int]
    ] = []  # (offset, end, last step) of blocks that may still be alive
    top = 0
    for key, nbytes, first, last in sorted(blocks, key=_first_use):
        placed = [p for p in placed if p[2] >= first]
        size = max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
        at = 0
        for offset, end, _ in sorted(placed):
            if offset - at >= size:
                break
            at = max(at, end)
        offsets[key] = at
        placed.append((at, at + size, last))
        top = max(top, at + size)
    return offsets, top


def _first_use(block: tuple[Hashable, int, int, int]) -> int:
    return block[2]
