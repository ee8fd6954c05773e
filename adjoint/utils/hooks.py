"""The handle of a hook, by the name under which annotations look for it."""

from __future__ import annotations

from adjoint.autograd.hooks import RemovableHandle

__all__ = ["RemovableHandle"]
