"""What is known of a tensor without its data: shape, dtype, strides, whether it requires grad.

An `Aval` is interned: equal ones are the same object, so a trie key may hold it and compare by identity. Those that
nothing refers to any more are forgotten when there have come to be many.
"""

from __future__ import annotations

from operator import index
from sys import getrefcount

from adjoint.dtypes import DType


class Size(tuple):
    """A shape; prints as PyTorch's does.

    >>> import adjoint as torch
    >>> torch.zeros(2, 3).shape
    torch.Size([2, 3])
    """

    __slots__ = ()

    def numel(self) -> int:
        n = 1
        for d in self:
            n *= d
        return n

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, item):
        got = tuple.__getitem__(self, item)
        return Size(got) if isinstance(item, slice) else got

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))


class Aval:
    """Interned description; `strides` are in elements, of the view in its base (contiguous for everything else)."""

    __slots__ = ("shape", "dtype", "requires_grad", "strides", "size", "nbytes", "key_shape", "contiguous")

    shape: Size
    dtype: DType
    requires_grad: bool
    strides: tuple[int, ...]
    size: int
    nbytes: int
    key_shape: tuple[int, ...]  # the shape as a plain tuple, for keys
    contiguous: bool  # whether the elements lie in row-major order without gaps

    def __repr__(self) -> str:
        grad = ", requires_grad" if self.requires_grad else ""
        return f"{self.dtype.name}{list(self.shape)}{grad}"


_known: dict[tuple, Aval] = {}
_MANY = 2048
_tidy_at = _MANY  # number of known ones at which the next look for unused ones is due


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements; as in PyTorch an axis of length 0 counts as 1."""
    strides, step = [], 1
    for d in reversed(shape):
        strides.append(step)
        step *= max(d, 1)
    return tuple(reversed(strides))


def _in_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether a view lies in row-major order without gaps; the stride of an axis of length 1 says nothing."""
    return all([n == 1 or s == e for n, s, e in zip(shape, strides, contiguous_strides(shape), strict=True)])


def aval(
    shape: tuple[int, ...], dtype: DType, requires_grad: bool = False, strides: tuple[int, ...] | None = None
) -> Aval:
    """The one Aval with these fields."""
    if strides is None:
        strides = contiguous_strides(shape)
    key = (shape, dtype, requires_grad, strides)
    found = _known.get(key)
    if found is None:
        shape = tuple([n if type(n) is int else index(n) for n in shape])  # 9.0 equals 9, but is no size
        found = Aval()
        found.shape, found.dtype, found.requires_grad, found.strides = Size(shape), dtype, requires_grad, strides
        found.key_shape = tuple(shape)
        found.size = found.shape.numel()
        found.nbytes = found.size * dtype.itemsize
        found.contiguous = found.size <= 1 or _in_order(shape, strides)
        found = _known.setdefault(key, found)
        if len(_known) >= _tidy_at:
            _tidy()
    return found


def _tidy() -> None:
    """Forget what nothing refers to. Should another thread just be taking one of them, it has an equal twin: a longer
    trie, and no other harm."""
    global _tidy_at
    for key in list(_known):
        if getrefcount(_known.get(key)) <= _UNUSED:
            _known.pop(key, None)
    _tidy_at = max(_MANY, 2 * len(_known))


def _measure_unused() -> int:
    """The reference count, read as in `_tidy`, of an Aval that only a dictionary holds."""
    known = {(): Aval()}
    return getrefcount(known.get(()))


_UNUSED = _measure_unused()
