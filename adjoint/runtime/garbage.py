"""No garbage collections while a program is built.

Building makes tens of thousands of small objects within milliseconds. Nearly all of them stay, or go by themselves; the
collections they set off look at everything a process holds, and took a fifth of the first training step of a new process.
"""

from __future__ import annotations

import gc
from types import TracebackType


class NoCollections:
    """`with NoCollections():` no collection begins by itself inside, if none was to begin outside; may be nested.

    It is of the whole process: where threads overlap, the first to end lets collections begin again.
    """

    __slots__ = ("was_on",)

    def __enter__(self) -> None:
        self.was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self.was_on:
            gc.enable()
