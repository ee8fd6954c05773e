"""Reductions and scans over all, one or several axes, and what is made of them.

`dim` may be an int, a sequence or None (all axes); NumPy's spellings `axis` and `keepdims` are accepted.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint import dtypes, return_types
from adjoint.dtypes import DType
from adjoint.ops import elementwise as ew
from adjoint.ops.elementwise import cast, where
from adjoint.ops.shape import axes_of, axis_of
from adjoint.trace.arguments import explain
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import record, record_one

ALL_AXES = tuple(tuple(range(rank)) for rank in range(65))


def _pick_names(dim: Any, keepdim: bool, axis: Any, keepdims: bool | None) -> tuple[Any, bool]:
    return (dim if axis is None else axis), (keepdim if keepdims is None else keepdims)


def _keep(out: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    return record_one("reshape", out, tuple([1 if i in axes else n for i, n in enumerate(shape)]))


def reduce(prim: str, x: Tensor, axes: tuple[int, ...], keepdim: bool = False) -> Tensor:
    """A reducing primitive over axes."""
    out = record_one(prim, x, axes)
    return _keep(out, x._aval.key_shape, axes) if keepdim else out


def _accumulator(x: Tensor, dtype: DType | None) -> Tensor:
    """Sums and products of integers and bools are int64."""
    if dtype is not None:
        return cast(x, dtype)
    return x if x._aval.dtype.category >= 2 else cast(x, dtypes.int64)


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None, axis: Any = None, keepdims: bool | None = None) -> Tensor:
    """The sum over axes; integers and bools add up in int64.

    >>> import adjoint as torch
    >>> torch.sum(torch.ones(2, 3), dim=1)
    tensor([3., 3.])
    """
    try:
        a = input._aval
    except AttributeError as error:
        raise explain(sum, (input, dim), {}, error) from None
    if axis is None and dtype is None and not keepdim and not keepdims and a.dtype.category >= 2:  # as most often: quickly
        if dim is None:
            return record_one("sum", input, ALL_AXES[len(a.shape)])
        if type(dim) is int and -len(a.shape) <= dim < len(a.shape):
            return record_one("sum", input, (dim if dim >= 0 else dim + len(a.shape),))
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    x = _accumulator(input, dtype)
    return reduce("sum", x, axes_of(dim, len(x._aval.key_shape)), keepdim)


def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None, axis: Any = None, keepdims: bool | None = None) -> Tensor:
    """Products over all axes or `dim`.

    >>> import adjoint as torch
    >>> torch.prod(torch.tensor([[1, 2], [3, 4]]), dim=1)
    tensor([ 2, 12])
    """
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    x = _accumulator(input, dtype)
    return reduce("prod", x, axes_of(dim, len(x._aval.key_shape)), keepdim)


@composite("MeanBackward0")
def _mean(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    n = math.prod(x._aval.key_shape[a] for a in axes)
    return reduce("sum", x, axes, keepdim) / (n if n else math.nan)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None, axis: Any = None, keepdims: bool | None = None) -> Tensor:
    """The arithmetic mean over axes. Raises RuntimeError for integers (convert first).

    >>> import adjoint as torch
    >>> torch.mean(torch.tensor([[1., 2.], [3., 6.]]), dim=1)
    tensor([1.5000, 4.5000])
    """
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    x = input if dtype is None else cast(input, dtype)
    if x._aval.dtype.category < 2:
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {x._aval.dtype.name}; use .float().mean()"
        )
    return _mean(x, axes_of(dim, len(x._aval.key_shape)), keepdim)


@composite("VarBackward0")
def _var(x: Tensor, axes: tuple[int, ...], correction: float, keepdim: bool) -> Tensor:
    n = math.prod(x._aval.key_shape[a] for a in axes)
    centred = x - reduce("sum", x, axes, True) / (n if n else math.nan)
    freedom = n - correction
    total = reduce("sum", _square_of_size(centred), axes, keepdim)
    return total / freedom if freedom > 0 else total * math.nan if n == 0 else total / 0.0


def _square_of_size(x: Tensor) -> Tensor:
    """|x|**2, real."""
    if not x._aval.dtype.is_complex:
        return x * x
    re, im = record_one("real", x, None), record_one("imag", x, None)
    return re * re + im * im


def _check_real(name: str, x: Tensor) -> None:
    if x._aval.dtype.category < 2:
        raise RuntimeError(f"{name}: std and var only support floating point and complex dtypes, got {x._aval.dtype.name}")


def _correction(unbiased: bool | None, correction: float | None) -> float:
    if correction is not None:
        return correction
    return 1.0 if unbiased is None or unbiased else 0.0


def var(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None, axis: Any = None, keepdims: bool | None = None) -> Tensor:
    """The variance over axes, divided by n - correction (1 unless told otherwise).

    >>> import adjoint as torch
    >>> torch.var(torch.tensor([1., 2., 3.]))
    tensor(1.)
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    _check_real("var", input)
    return _var(input, axes_of(dim, len(input._aval.key_shape)), float(_correction(unbiased, correction)), keepdim)


def std(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None, axis: Any = None, keepdims: bool | None = None) -> Tensor:
    """The square root of `var`.

    >>> import adjoint as torch
    >>> torch.std(torch.tensor([1., 2., 3.]))
    tensor(1.)
    """
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    _check_real("std", input)
    return _std(input, axes_of(dim, len(input._aval.key_shape)), float(_correction(unbiased, correction)), keepdim)


@composite("StdBackward0")
def _std(x: Tensor, axes: tuple[int, ...], correction: float, keepdim: bool) -> Tensor:
    """The gradient of equal elements is 0, as that of a zero vector's norm."""
    variance = _var(x, axes, correction, keepdim)
    zero = variance == 0
    return where(zero, 0.0, ew.sqrt(where(zero, 1.0, variance)))


def var_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None) -> tuple[Tensor, Tensor]:
    """Variance and mean.

    >>> import adjoint as torch
    >>> torch.var_mean(torch.tensor([1., 2., 3.]))
    (tensor(1.), tensor(2.))
    """
    return var(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


def std_mean(input: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean.

    >>> import adjoint as torch
    >>> torch.std_mean(torch.tensor([1., 2., 3.]))
    (tensor(1.), tensor(2.))
    """
    return std(input, dim, unbiased, keepdim, correction=correction), mean(input, dim, keepdim)


def _check_not_empty(name: str, x: Tensor, axes: tuple[int, ...], dim: Any) -> None:
    if not _empty(x, axes):
        return
    if dim is None or dim in ((), []):
        kind = IndexError if name.startswith("arg") else RuntimeError
        raise kind(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with "
            f"the 'dim' argument: shape {list(x._aval.key_shape)} has no element to choose"
        )
    empty = next(d for d in axes if x._aval.key_shape[d] == 0)
    raise IndexError(f"{name}(): Expected reduction dim {empty} to have non-zero size.")


def amax(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest over axes; equal maxima share the gradient evenly. NaN wins.

    >>> import adjoint as torch
    >>> torch.amax(torch.tensor([[1, 5], [3, 2]]), dim=1)
    tensor([5, 3])
    """
    axes = axes_of(dim, len(input._aval.key_shape))
    _check_not_empty("amax", input, axes, dim)
    return reduce("amax", input, axes, keepdim)


def amin(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest elements over one or several axes; among equal ones the gradient is shared evenly.

    >>> import adjoint as torch
    >>> torch.amin(torch.tensor([[1, 5], [3, 2]]), dim=1)
    tensor([1, 2])
    """
    axes = axes_of(dim, len(input._aval.key_shape))
    _check_not_empty("amin", input, axes, dim)
    return reduce("amin", input, axes, keepdim)


def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None) -> Tensor:
    """Position of the (first) largest, of the flattened tensor if `dim` is None.

    >>> import adjoint as torch
    >>> torch.argmax(torch.tensor([[1, 5], [3, 2]]), dim=1)
    tensor([1, 0])
    """
    _check_ordered("argmax", input)
    return _arg("argmax", input, dim if axis is None else axis, keepdim)


def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False, *, axis: int | None = None) -> Tensor:
    """Positions of the smallest elements: the first of equal ones; without `dim`, in the flattened tensor.

    >>> import adjoint as torch
    >>> torch.argmin(torch.tensor([[1, 5], [3, 2]]), dim=1)
    tensor([0, 1])
    """
    _check_ordered("argmin", input)
    return _arg("argmin", input, dim if axis is None else axis, keepdim)


def _check_ordered(name: str, x: Tensor) -> None:
    if x._aval.dtype is dtypes.bool:
        raise RuntimeError(f"{name}: Expected a real non-bool tensor, but got torch.bool; convert it with .int() first")


def _arg(prim: str, x: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    shape = x._aval.key_shape
    if dim is None:
        _check_not_empty(prim, x, tuple(range(len(shape))), None)
        out = record(prim, (record("reshape", (x,), (x._aval.size,)),), 0)
        return _keep(out, shape, tuple(range(len(shape)))) if keepdim else out
    axis = axis_of(dim, len(shape))
    if not shape:
        ew.refuse(prim, (0, 1, 2), x)
        return record("full", (0,), ((), dtypes.int64))
    _check_not_empty(prim, x, (axis,), axis)
    out = record(prim, (x,), axis)
    return _keep(out, shape, (axis,)) if keepdim else out


def _extreme(prim: str, x: Tensor, dim: int, keepdim: bool) -> Any:
    """Values and positions along one axis; the gradient goes to the chosen position."""
    kind: Any = return_types.max if prim == "max" else return_types.min
    shape = x._aval.key_shape
    if not shape:
        ew.refuse(prim, (0, 1, 2), x)
        return kind((x.clone(), _arg("arg" + prim, x, dim, False)))
    axis = axis_of(dim, len(shape))
    _check_not_empty(prim, x, (axis,), axis)
    return kind(_EXTREMES[prim](x, "arg" + prim, axis, keepdim))


def _chosen(x: Tensor, prim: str, axis: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    from adjoint.ops.gather import gather

    index = _arg(prim, x, axis, True)
    values = gather(x, axis, index)
    if keepdim:
        return values, index
    shape = x._aval.key_shape
    flat = tuple(shape[:axis] + shape[axis + 1 :])
    return record("reshape", (values,), flat), record("reshape", (index,), flat)


_EXTREMES = {"max": composite("MaxBackward0")(_chosen), "min": composite("MinBackward0")(_chosen)}


def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None, axis: Any = None, keepdims: bool | None = None) -> Any:
    """The largest value; with `dim` the pair (values, indices); with another tensor the larger of each pair.

    >>> import adjoint as torch
    >>> torch.max(torch.tensor([[1, 5], [7, 3]]), dim=1).indices
    tensor([1, 0])
    """
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    if isinstance(dim, Tensor) or other is not None:
        return ew.maximum(input, dim if other is None else other)
    if dim is None:
        return amax(input)
    return _extreme("max", input, dim, keepdim)


def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None, axis: Any = None, keepdims: bool | None = None) -> Any:
    """The smallest value; forms as in `max`.

    >>> import adjoint as torch
    >>> torch.min(torch.tensor([[1, 5], [3, 2]]), dim=1).indices
    tensor([0, 1])
    """
    dim, keepdim = _pick_names(dim, keepdim, axis, keepdims)
    if isinstance(dim, Tensor) or other is not None:
        return ew.minimum(input, dim if other is None else other)
    if dim is None:
        return amin(input)
    return _extreme("min", input, dim, keepdim)


def any(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Tensor:
    """Whether some element is true, over all axes or `dim`.

    >>> import adjoint as torch
    >>> torch.any(torch.tensor([[False, False], [True, False]]), dim=1)
    tensor([False,  True])
    """
    x = cast(input, dtypes.bool)
    axes = axes_of(dim if axis is None else axis, len(x._aval.key_shape))
    kind = dtypes.uint8 if input._aval.dtype is dtypes.uint8 else dtypes.bool
    if _empty(x, axes):
        return cast(reduce("sum", cast(x, dtypes.int64), axes, keepdim), kind)
    return cast(reduce("amax", x, axes, keepdim), kind)


def all(input: Tensor, dim: Any = None, keepdim: bool = False, *, axis: Any = None) -> Tensor:
    """Whether all elements are true, over all axes or `dim`.

    >>> import adjoint as torch
    >>> torch.all(torch.tensor([[True, False], [True, True]]), dim=1)
    tensor([False,  True])
    """
    x = cast(input, dtypes.bool)
    axes = axes_of(dim if axis is None else axis, len(x._aval.key_shape))
    kind = dtypes.uint8 if input._aval.dtype is dtypes.uint8 else dtypes.bool
    if _empty(x, axes):
        return cast(reduce("prod", cast(x, dtypes.int64), axes, keepdim), kind)
    return cast(reduce("amin", x, axes, keepdim), kind)


def _empty(x: Tensor, axes: tuple[int, ...]) -> bool:
    return 0 in [x._aval.key_shape[a] for a in axes]


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not zero.

    >>> import adjoint as torch
    >>> torch.count_nonzero(torch.tensor([0, 3, 0, 5]))
    tensor(2)
    """
    return sum(input != 0, dim)


def cumsum(input: Tensor, dim: int | None = None, *, dtype: DType | None = None, axis: int | None = None) -> Tensor:
    """Running sums along an axis.

    >>> import adjoint as torch
    >>> torch.cumsum(torch.tensor([1, 2, 3, 4]), dim=0)
    tensor([ 1,  3,  6, 10])
    """
    return _scan("cumsum", input, dim if axis is None else axis, dtype)


def cumprod(input: Tensor, dim: int | None = None, *, dtype: DType | None = None, axis: int | None = None) -> Tensor:
    """Running products along an axis.

    >>> import adjoint as torch
    >>> torch.cumprod(torch.tensor([1, 2, 3, 4]), dim=0)
    tensor([ 1,  2,  6, 24])
    """
    return _scan("cumprod", input, dim if axis is None else axis, dtype)


def _scan(prim: str, input: Tensor, dim: Any, dtype: DType | None) -> Tensor:
    if dim is None:
        raise TypeError(f"{prim}() missing 1 required positional arguments: \"dim\"")
    x = _accumulator(input, dtype)
    axis = axis_of(dim, len(x._aval.key_shape))
    return record(prim, (x,), axis) if x._aval.key_shape else x.clone()


def cummax(input: Tensor, dim: int) -> Any:
    """Running maximum and where it was (the latest of equals).

    >>> import adjoint as torch
    >>> torch.cummax(torch.tensor([1, 3, 2, 5]), dim=0).values
    tensor([1, 3, 3, 5])
    """
    return _running(input, dim, "cummax")


def cummin(input: Tensor, dim: int) -> Any:
    """Running minima along an axis and where each was last found, as a named tuple (values, indices).

    >>> import adjoint as torch
    >>> torch.cummin(torch.tensor([4, 3, 5, 1]), dim=0).values
    tensor([4, 3, 3, 1])
    """
    return _running(input, dim, "cummin")


def _running(x: Tensor, dim: int, prim: str) -> Any:
    kind: Any = return_types.cummax if prim == "cummax" else return_types.cummin
    ew.refuse(prim, (0, 1, 2), x)
    axis = axis_of(dim, len(x._aval.key_shape))
    if not x._aval.key_shape:
        return kind((x.clone(), record("full", (0,), ((), dtypes.int64))))
    values = record(prim, (x,), axis)
    return kind((values, latest_places(x.detach(), values.detach(), axis)))


def latest_places(x: Tensor, extremes: Tensor, axis: int) -> Tensor:
    """Where along an axis the running extremes of x were last found; NaN, once there, is found where it last was."""
    n = x._aval.key_shape[axis]
    along = record("reshape", (record("iota", (), n),), (n, *(1,) * (len(x._aval.key_shape) - axis - 1)))
    found = (x == extremes) | ew.functions["isnan"](x) if x._aval.dtype.is_floating_point else x == extremes
    return record("cummax", (where(found, along, 0),), axis)


@composite("LogsumexpBackward0")
def _logsumexp(x: Tensor, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    if _empty(x, axes):
        return reduce("sum", x, axes, keepdim) - math.inf
    high = reduce("amax", x, axes, True).detach()
    high = where(ew.functions["isinf"](high), 0.0, high)
    total = ew.log(reduce("sum", ew.exp(x - high), axes, True)) + high
    if keepdim:
        return total
    return record("reshape", (total,), tuple(n for i, n in enumerate(x._aval.key_shape) if i not in axes))


def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over axes without overflow: the maximum is taken out first.

    >>> import adjoint as torch
    >>> torch.logsumexp(torch.tensor([1000., 1000.]), dim=0)
    tensor(1000.6932)
    """
    x = ew.to_default_float(input)
    return _logsumexp(x, axes_of(dim, len(x._aval.key_shape)), keepdim)


def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: DType | None = None) -> Tensor:
    """The p-norm over axes (2 by default, of all elements if `dim` is None).

    >>> import adjoint as torch
    >>> torch.norm(torch.tensor([3., -4.]))
    tensor(5.)
    """
    x = in_norm_dtype("linalg.vector_norm", input, dtype)
    if p == "nuc":
        from adjoint.ops.linalg import matrix_norm

        return matrix_norm(x, p, (0, 1) if dim is None else dim, keepdim)
    order = 2.0 if p in ("fro", None) else float(p)
    axes = axes_of(dim, len(x._aval.key_shape))
    check_norm_of_nothing(x._aval.key_shape, order, axes)
    return vector_norm(x, order, axes, keepdim)


def in_norm_dtype(call: str, x: Tensor, dtype: DType | None) -> Tensor:
    """The input of a norm in the dtype it is asked for; RuntimeError for integers, and for a dtype that does not hold the values."""
    own = x._aval.dtype
    problem = ""
    if own.category < 2:
        problem = f"Expected a floating point or complex tensor as input. Got {own.name}"
    elif dtype is not None and dtype.category < 2:
        problem = f"dtype should be floating point or complex, but got {dtype.name}"
    elif dtype is not None and dtype.is_complex != own.is_complex:
        kind = "complex" if own.is_complex else "real"
        problem = f"dtype should be {kind} for {kind} inputs, but got {dtype.name}"
    elif dtype is not None and dtypes.promote(own, dtype) is not dtype:
        problem = f"the dtype of the input ({own.name}) should be convertible without narrowing to the specified dtype ({dtype.name})"
    if problem:
        raise RuntimeError(f"{call}: {problem}; convert the input with .to(dtype) first")
    return x if dtype is None else cast(x, dtype)


def check_norm_of_nothing(shape: tuple[int, ...], order: float, axes: tuple[int, ...]) -> None:
    """RuntimeError for a norm over axes without elements, where it has none: a largest or a smallest element, or a negative power."""
    empty = next((a for a in axes if shape[a] == 0), None)
    if empty is None or 0 <= order < math.inf or 0 in [n for a, n in enumerate(shape) if a not in axes]:
        return
    place = "an empty tensor" if len(axes) == len(shape) else f"dimension {empty}, which is empty,"
    raise RuntimeError(
        f"linalg.vector_norm cannot compute the {order:g} norm of {place} because the operation does not have an identity (the "
        f"shape is {list(shape)}); the norms of orders from 0 on, but not of infinity, are 0 there"
    )


@composite("LinalgVectorNormBackward0")
def vector_norm(x: Tensor, order: float, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """The gradient at a zero vector is 0 for every order (the least-norm subgradient)."""
    if order == math.inf:
        return reduce("amax", ew.absolute(x), axes, keepdim)
    if order == -math.inf:
        return reduce("amin", ew.absolute(x), axes, keepdim)
    if order == 0:
        return reduce("sum", cast(x != 0, x._aval.dtype.to_real()), axes, keepdim)
    if order == 1:
        return reduce("sum", ew.absolute(x), axes, keepdim)
    if order == 2:
        total = reduce("sum", _square_of_size(x), axes, keepdim)
        zero = total == 0
        return where(zero, 0.0, ew.sqrt(where(zero, 1.0, total)))
    size = ew.absolute(x)
    if order < 1:  # the power of a zero has an infinite slope, or none
        nought = x == 0
        powers = where(nought, 0.0 if order > 0 else math.inf, ew.pow(where(nought, 1.0, size), order))
    else:
        powers = ew.pow(size, order)
    total = reduce("sum", powers, axes, keepdim)
    zero = total == 0
    return where(zero, 0.0, ew.pow(where(zero, 1.0, total), 1 / order))


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of the difference of two tensors.

    >>> import adjoint as torch
    >>> torch.dist(torch.tensor([0., 0.]), torch.tensor([3., 4.]))
    tensor(5.)
    """
    return norm(input - other, p)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median, NaN if there is one or no element; with `dim` also its position.

    >>> import adjoint as torch
    >>> torch.median(torch.tensor([7., 1., 3., 5.]))
    tensor(3.)
    """
    from adjoint.ops.gather import gather

    ew.refuse("median", (1, 2), input)
    real = input._aval.dtype.is_floating_point
    if dim is None:
        flat = record("reshape", (input,), (input._aval.size,))
        if not input._aval.size and real:
            return reduce("sum", flat, (0,)) + math.nan
        return record("reshape", (median(flat, 0).values,), ())
    axis = axis_of(dim, len(input._aval.key_shape))
    if not input._aval.key_shape:
        return return_types.median((input.clone(), record("full", (0,), ((), dtypes.int64))))
    _check_not_empty("median", input, (axis,), axis)
    n = input._aval.key_shape[axis]
    middle = (n - 1) // 2
    index = record("argselect", (input,), (axis, False, middle, middle + 1))
    if real:  # NaN is the largest
        last = record("argselect", (input,), (axis, False, n - 1, n))
        index = where(ew.functions["isnan"](gather(input.detach(), axis, last)), last, index)
    values = gather(input, axis, index)
    if keepdim:
        return return_types.median((values, index))
    shape = tuple(n for i, n in enumerate(input._aval.key_shape) if i != axis)
    return return_types.median((record("reshape", (values,), shape), record("reshape", (index,), shape)))


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of the elements that are not NaN, NaN if there is none; with `dim` also its position.

    >>> import adjoint as torch
    >>> torch.nanmedian(torch.tensor([7., torch.nan, 3., 5.]))
    tensor(5.)
    """
    from adjoint.ops.gather import gather

    if not (input._aval.dtype.is_floating_point and input._aval.size and input._aval.key_shape):
        return median(input, dim, keepdim) if dim is None else return_types.nanmedian(median(input, dim, keepdim))
    if dim is None:
        return record("reshape", (nanmedian(record("reshape", (input,), (input._aval.size,)), 0).values,), ())
    axis = axis_of(dim, len(input._aval.key_shape))
    order = record("argsort", (input.detach(),), (axis, False))  # NaN are the last
    counted = reduce("sum", cast(~ew.functions["isnan"](input.detach()), dtypes.int64), (axis,), True)
    index = gather(order, axis, where(counted > 0, counted - 1, 0) // 2)
    values = gather(input, axis, index)
    return return_types.nanmedian((values, index) if keepdim else (values.squeeze(axis), index.squeeze(axis)))


def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, as a named tuple (min, max).

    >>> import adjoint as torch
    >>> torch.aminmax(torch.tensor([3, 1, 2])).max
    tensor(3)
    """
    return return_types.aminmax((amin(input, dim, keepdim), amax(input, dim, keepdim)))
