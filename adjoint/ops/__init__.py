"""What users call, as functions that record primitives. Begin with `elementwise.py`."""

from __future__ import annotations


def __getattr__(name: str) -> object:
    if name.startswith("_"):
        raise AttributeError(name)
    from adjoint.ops.custom import find

    return find(name)
