"""Attributes of primitives as plain data, which `marshal` can write: for keys, and for plans on disk."""

from __future__ import annotations

from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType

_ATOMS = frozenset((int, float, complex, bool, str, type(None)))


def plain(value: Any) -> Any:
    """Numbers, words and tuples as they are, dtypes as their names in bytes. TypeError where there is more.

    >>> from adjoint import dtypes
    >>> from adjoint.ir.plain import plain, restored
    >>> plain(((2, 3), dtypes.float32))
    ((2, 3), b'float32')
    >>> restored(plain(((2, 3), dtypes.float32))) == ((2, 3), dtypes.float32)
    True
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is DType:
        return value.name.encode()
    if kind is tuple:
        return tuple([plain(v) for v in value])
    raise TypeError(f"{kind.__name__} is no plain data")


def restored(value: Any) -> Any:
    """The value of which `plain` made this."""
    if type(value) is bytes:
        return dtypes.by_name(value.decode())
    return tuple([restored(v) for v in value]) if type(value) is tuple else value
