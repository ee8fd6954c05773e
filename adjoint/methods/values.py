"""Reading values: numbers, lists, arrays, text, truth. Whoever asks runs the trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adjoint.ops import (
    elementwise,
)
from adjoint.trace import elements, recorder, views
from adjoint.trace.handle import Tensor


def number_of(self: Tensor) -> Any:
    """The same for `int(t)` and `float(t)`, where PyTorch raises ValueError."""
    if self._aval.size != 1:
        raise ValueError(f"only one element tensors can be converted to Python scalars, this one has shape {list(self._aval.shape)}")
    number = self.item()  # not the function below: it may be native code
    if isinstance(number, complex):
        if number.imag:
            raise RuntimeError(f"value cannot be converted to a real number without overflow: {number}; use .real, .imag or .abs()")
        return number.real
    return number


def to_float(self: Tensor) -> float:
    if self._aval.size == 1 and type(number := self.item()) is float:  # most often, in loops over elements
        return number
    return float(number_of(self))


def item(self: Tensor) -> Any:
    """The value of a tensor with one element, as a Python number. RuntimeError otherwise."""
    a = self._aval
    if a.size != 1:
        raise RuntimeError(f"a Tensor with {a.size} elements cannot be converted to Scalar")
    if self._base is not None:
        number = elements.read(self)
        if number is not None:
            return number
    return recorder.array_of(self).item()


def tolist(self: Tensor) -> Any:
    """The values as nested Python lists; a number for a 0-d tensor.

    >>> import adjoint as torch
    >>> torch.tensor([[1, 2], [3, 4]]).tolist()
    [[1, 2], [3, 4]]
    """
    return recorder.array_of(self).tolist()


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """A NumPy array on the tensor's memory: writes are seen on both sides.

    Raises RuntimeError for a tensor that requires grad (detach it first, or `force=True`).
    """
    if self._aval.requires_grad:
        if not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            )
        return views.export(self.detach())
    return views.export(self)


def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy(self)
    if dtype is not None and np.dtype(dtype) != array.dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def truth(self: Tensor) -> bool:
    a = self._aval
    if a.size != 1:
        raise RuntimeError(
            "Boolean value of Tensor with no values is ambiguous"
            if a.size == 0
            else "Boolean value of Tensor with more than one value is ambiguous: use .any() or .all()"
        )
    return bool(self.item())


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. RuntimeError for another number of elements.

    >>> import adjoint as torch
    >>> torch.is_nonzero(torch.tensor([2.]))
    True
    """
    return truth(input)


def to_index(self: Tensor) -> int:
    if self._aval.dtype.is_floating_point or self._aval.size != 1:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(self.item())


def length(self: Tensor) -> int:
    if not self._aval.shape:
        raise TypeError("len() of a 0-d tensor")
    return self._aval.shape[0]


def iterate(self: Tensor) -> Iterator[Tensor]:
    if not self._aval.shape:
        raise TypeError("iteration over a 0-d tensor")
    part = Tensor.__getitem__.__get__(self)  # not a subclass's own
    return map(part, range(self._aval.shape[0]))  # one after the other: who reads each needs no trace


def contains(self: Tensor, element: Any) -> bool:
    if not isinstance(element, (Tensor, int, float, complex, np.generic)):
        raise RuntimeError(
            f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}; "
            "compare rows with (x == torch.tensor(row)).all(1).any()"
        )
    return bool((self == element).any())


def represent(self: Tensor) -> str:
    from adjoint.printing import tensor_text

    return tensor_text(self)


def format_tensor(self: Tensor, spec: str) -> str:
    if not self._aval.shape:
        return format(item(self), spec)
    return object.__format__(self, spec)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all values are the same, as a Python bool.

    >>> import adjoint as torch
    >>> torch.equal(torch.tensor([1, 2]), torch.tensor([1, 2]))
    True
    """
    return input._aval.shape == other._aval.shape and bool((input == other).all())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements differ by no more than `atol + rtol * abs(other)`, as a Python bool.

    >>> import adjoint as torch
    >>> torch.allclose(torch.tensor([1.]), torch.tensor([1.0 + 1e-7]))
    True
    """
    return bool(elementwise.isclose(input, other, rtol, atol, equal_nan).all())
