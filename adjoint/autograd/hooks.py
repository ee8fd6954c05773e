"""Tables of hooks, of tensors, modules and optimizers: numbered functions, called in their order, and the handles that remove
them (`RemovableHandle`)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Self

__all__ = ["RemovableHandle"]


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away again, as leaving `with handle:` does.

    id: its number, none of which is used twice.

    >>> import adjoint as torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> with layer.register_forward_hook(lambda module, args, out: out * 0):
    ...     float(layer(torch.ones(1, 2)).abs().sum())
    0.0
    """

    _next_id = itertools.count()

    def __init__(self, table: dict[int, Any]) -> None:
        self.id = next(RemovableHandle._next_id)
        self._table = table

    def remove(self) -> None:
        """Take the hook away. Nothing happens where it is gone already."""
        self._table.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


class RemovableHandles(RemovableHandle):
    """Several handles as one."""

    def __init__(self, handles: Sequence[RemovableHandle]) -> None:
        super().__init__({})
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def add_hook(table: dict[int, Any], hook: Any, first: bool = False) -> RemovableHandle:
    """Put a hook behind the others of a table, or before them."""
    handle = RemovableHandle(table)
    if first:
        later = dict(table)
        table.clear()
        table[handle.id] = hook
        table.update(later)
    else:
        table[handle.id] = hook
    return handle
