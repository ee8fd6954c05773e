"""Where `torch.library` enters operators of programs' own: `torch.ops.<namespace>.<name>`."""

from __future__ import annotations

from typing import Any


class Namespace:
    """The operators of one library."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"'_OpNamespace' '{self._name}' object has no attribute '{name}'; torch.library.custom_op(\"{self._name}::{name}\", ...) makes one"
        )


namespaces: dict[str, Namespace] = {}


def find(name: str) -> Namespace:
    """A namespace that has operators. AttributeError for others."""
    if name in namespaces:
        return namespaces[name]
    raise AttributeError(f"torch.ops has no namespace {name!r}; operators of torch itself are its functions, others are made by torch.library")
