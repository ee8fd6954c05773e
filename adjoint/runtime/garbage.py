"""No garbage collections while a program is built.

Building makes tens of thousands of small objects within milliseconds. Nearly all of them stay, or go by themselves; the
collections they set off look at everything a process holds, and took a fifth of the first training step of a new process.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def without_collections(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args)`; no collection begins by itself meanwhile. What was before is so again at the end, also after an interrupt.

    A function and no context manager, because a signal may come as the exit of one begins. It is of the whole process: where
    threads overlap, the first to end lets collections begin again.
    """
    was_on = gc.isenabled()
    try:
        gc.disable()
        return work(*args, **kwargs)
    finally:
        if was_on:
            gc.enable()
