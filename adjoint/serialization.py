"""`torch.serialization`: `save` and `load` by their older names, and lists of classes that a pickle may make: none is ever read.

>>> import adjoint as torch
>>> with torch.serialization.safe_globals([set]):
...     torch.serialization.get_safe_globals()
[]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from adjoint.io import load, save

MAP_LOCATION = Any  # what `load` takes for `map_location`

__all__ = ["MAP_LOCATION", "add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Accepted: files are read without making objects of any class but those of plain Python and tensors."""


def clear_safe_globals() -> None:
    """Nothing to forget."""


def get_safe_globals() -> list[Any]:
    """None."""
    return []


@contextmanager
def safe_globals(safe_globals: Iterable[Any]) -> Iterator[None]:
    """A context in which files are read as outside."""
    yield
