"""Masks: reading and writing where a condition holds, and finding where it does."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.conversion import converted
from adjoint.ops.elementwise import cast, plain, where
from adjoint.ops.index import getitem, same_dtype, setitem
from adjoint.ops.shape import expand
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.infer import broadcast, common_dtype


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where the mask holds, else `input`.

    >>> import adjoint as torch
    >>> torch.masked_fill(torch.tensor([1, 2]), torch.tensor([True, False]), 0)
    tensor([0, 2])
    """
    if mask._aval.dtype is not dtypes.bool:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask._aval.dtype.name}")
    if isinstance(value, Tensor):
        if value._aval.shape:
            raise RuntimeError(
                f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {len(value._aval.shape)} dimension(s)."
            )
        value = cast(value, input._aval.dtype)
    else:
        value = converted("masked_fill()", plain(value, "masked_fill"), input._aval.dtype)
    return cast(where(mask, value, input), input._aval.dtype)


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask holds, as a vector.

    >>> import adjoint as torch
    >>> torch.masked_select(torch.tensor([1, 2, 3]), torch.tensor([True, False, True]))
    tensor([1, 3])
    """
    if mask._aval.dtype is not dtypes.bool:
        raise RuntimeError(f"masked_select: expected BoolTensor for mask, but got dtype {mask._aval.dtype.name}; use mask.bool()")
    shape = np.broadcast_shapes(tuple(input._aval.shape), tuple(mask._aval.shape))
    return getitem(expand(input, shape), expand(mask, shape))


def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """A copy in which the elements where `mask` is true are taken from `source`, in order.

    >>> import adjoint as torch
    >>> torch.masked_scatter(torch.zeros(3), torch.tensor([True, False, True]), torch.tensor([1., 2.]))
    tensor([1., 0., 2.])
    """
    if mask._aval.dtype is not dtypes.bool:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask._aval.dtype.name}")
    same_dtype("masked_scatter: expected self and source to have same dtypes", input, source)
    shape = broadcast("masked_scatter", [tuple(input._aval.shape), tuple(mask._aval.shape)])
    out = expand(input, shape).clone()
    count = int(mask.expand(shape).sum().item())
    if count > source._aval.size:
        raise RuntimeError(
            f"masked_scatter: Number of elements of source < number of ones in mask: {source._aval.size} and {count}"
        )
    setitem(out, expand(mask, shape), source.reshape(-1)[:count])
    return out


def nonzero(input: Tensor, as_tuple: bool = False) -> Any:
    """The indices of the non-zero elements: one row each, or a tuple with one vector per axis.

    >>> import adjoint as torch
    >>> torch.nonzero(torch.tensor([0, 5, 6]))
    tensor([[1],
            [2]])
    """
    found = np.nonzero(np.atleast_1d(recorder.array_of(input)))
    if as_tuple:
        return tuple(recorder.tensor_from_array(f.astype(np.int64)) for f in found)
    rows = np.stack(found, axis=1) if input._aval.shape else np.zeros((len(found[0]), 0))
    return recorder.tensor_from_array(rows.astype(np.int64))


def argwhere(input: Tensor) -> Tensor:
    """The indices of the non-zero elements, one row each.

    >>> import adjoint as torch
    >>> torch.argwhere(torch.tensor([[0, 1], [2, 0]]))
    tensor([[0, 1],
            [1, 0]])
    """
    return nonzero(input)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is among `test_elements`, or with invert whether it is not; one of them may be a number.

    >>> import adjoint as torch
    >>> torch.isin(torch.tensor([1, 2, 3]), torch.tensor([3, 1]))
    tensor([ True, False,  True])
    """
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise TypeError(f"isin(): one of elements and test_elements must be a Tensor, but got {elements!r:.60} and {test_elements!r:.60}")
    for x in (elements, test_elements):
        dtype = x._aval.dtype if isinstance(x, Tensor) else common_dtype([type(x)], recorder.local.trace.default_dtype)
        if dtype.category not in (1, 2):
            raise RuntimeError(f"Unsupported input type encountered for isin(): {dtypes.LEGACY[dtype]}; it compares integers and floats")
    ours, theirs = [
        recorder.array_of(x) if isinstance(x, Tensor) else np.asarray(x) for x in (elements, test_elements)
    ]
    return recorder.tensor_from_array(np.asarray(np.isin(ours, theirs, invert=invert)))
