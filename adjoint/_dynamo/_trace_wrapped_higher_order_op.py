"""`TransformGetItemToIndex`: inside, PyTorch's `x[i]` of a tensor `i` of no axes may be mapped. Here it always may be."""

from __future__ import annotations

from contextlib import nullcontext

__all__ = ["TransformGetItemToIndex"]


class TransformGetItemToIndex(nullcontext[None]):
    """A context in which everything is as outside."""
