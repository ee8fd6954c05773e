"""Tables of hooks: numbered functions, called in their order, and the handles that remove them (`HookHandle`)."""

from __future__ import annotations

import itertools
from typing import Any, Self

__all__ = ["HookHandle"]


class HookHandle:
    """Removes one hook again; also a context manager that removes it on exit.

    >>> import adjoint as torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> with layer.register_forward_hook(lambda module, args, out: out * 0):
    ...     float(layer(torch.ones(1, 2)).abs().sum())
    0.0
    """

    _next_id = itertools.count()

    def __init__(self, table: dict[int, Any]) -> None:
        self.id = next(HookHandle._next_id)
        self._table = table

    def remove(self) -> None:
        self._table.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(table: dict[int, Any], hook: Any, first: bool = False) -> HookHandle:
    """Put a hook behind the others of a table, or before them."""
    handle = HookHandle(table)
    if first:
        later = dict(table)
        table.clear()
        table[handle.id] = hook
        table.update(later)
    else:
        table[handle.id] = hook
    return handle
