"""Samples and measurements: covariances, distances between rows, sums without NaN, differences, integrals of a table.

All are composites of the operations below them. Each function stands alone; `cov` shows the pattern.
"""

from __future__ import annotations

import math
from typing import Any

from adjoint.dtypes import bool as bool_dtype
from adjoint.dtypes import float32
from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import cast, clamp, functions, refuse, to_default_float, where
from adjoint.ops.joining import cat
from adjoint.ops.rearrange import diagonal_of
from adjoint.ops.reduce import cumsum, mean, sum, vector_norm
from adjoint.ops.shape import axes_of, axis_of, matrix_transpose, narrow, unsqueeze
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import FLOATING, composite
from adjoint.trace.recorder import record


def cov(input: Tensor, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariance matrix of variables in rows and observations in columns (a vector is one variable: its variance).

    `correction` is taken off the number of observations. RuntimeError for more than two axes; weights are not supported.

    >>> import adjoint as torch
    >>> torch.cov(torch.tensor([[0., 1., 2.], [2., 1., 0.]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    if fweights is not None or aweights is not None:
        raise NotImplementedError("cov(): fweights and aweights are not supported; repeat or scale the observations")
    rank = len(input._aval.shape)
    if rank > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {rank} dimensions")
    if input._aval.dtype is bool_dtype:
        raise RuntimeError("cov(): bool dtype is not supported for input; convert it with .float()")
    rows = to_default_float(input if rank == 2 else input.reshape(1, -1))
    centred = rows - mean(rows, 1, keepdim=True)
    out = centred @ conj(matrix_transpose(centred)) / max(0, rows._aval.shape[1] - correction)
    return out if out._aval.size != 1 else out.reshape(())


def corrcoef(input: Tensor) -> Tensor:
    """The matrix of correlation coefficients of variables in rows: covariances over products of standard deviations.

    >>> import adjoint as torch
    >>> torch.corrcoef(torch.tensor([[0., 1., 2.], [2., 1., 0.]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    c = cov(input)
    if not c._aval.shape:
        return c / c
    deviation = functions["sqrt"](diagonal_of(c))
    out = c / unsqueeze(deviation, 1) / unsqueeze(deviation, 0)
    if not out._aval.dtype.is_complex:
        return clamp(out, -1.0, 1.0)
    return record("complex", tuple([clamp(record(part, (out,)), -1.0, 1.0) for part in ("real", "imag")]))


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """p-norm distances between all rows of x1 (..., m, k) and all rows of x2 (..., n, k): shape (..., m, n).

    Differences are taken before squares, so near rows lose no digits; where two rows are equal the gradient is 0.
    RuntimeError for fewer than two axes or unequal k.

    >>> import adjoint as torch
    >>> torch.cdist(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.], [0., 1.]]))
    tensor([[5., 1.]])
    """
    for k, x in enumerate((x1, x2), 1):
        if len(x._aval.shape) < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, X{k} got: {len(x._aval.shape)}D")
    if x1._aval.shape[-1] != x2._aval.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1._aval.shape[-1]} X2: {x2._aval.shape[-1]}"
        )
    apart = unsqueeze(x1, -2) - unsqueeze(x2, -3)
    if apart._aval.shape[-1] == 0:  # no coordinates, no distance, whatever the norm
        return apart.sum(-1)
    return vector_norm(apart, p, (len(apart._aval.shape) - 1,), False)


def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum of the elements that are not NaN.

    >>> import adjoint as torch
    >>> torch.nansum(torch.tensor([1., float("nan"), 2.]))
    tensor(3.)
    """
    if input._aval.dtype.category < 2:
        return sum(input, dim, keepdim, dtype=dtype)
    return sum(where(functions["isnan"](input), 0.0, input), dim, keepdim, dtype=dtype)


def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean of the elements that are not NaN; NaN where there is none.

    >>> import adjoint as torch
    >>> torch.nanmean(torch.tensor([1., float("nan"), 2.]))
    tensor(1.5000)
    """
    counted = sum(~functions["isnan"](input), dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / counted


def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along an axis, `n` times over; `prepend` and `append` are joined to it first.

    >>> import adjoint as torch
    >>> torch.diff(torch.tensor([1, 4, 9]))
    tensor([3, 5])
    """
    if not input._aval.shape:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    from adjoint.ops.joining import cat

    axis = axis_of(dim, len(input._aval.shape))
    parts = [x for x in (prepend, input, append) if x is not None]
    out = cat(parts, axis) if len(parts) > 1 else input
    for _ in range(n):
        length = out._aval.shape[axis]
        if length < 2:
            return narrow(out, axis, 0, 0)
        after, before = narrow(out, axis, 1, length - 1), narrow(out, axis, 0, length - 1)
        out = after ^ before if out._aval.dtype.name == "bool" else after - before
    return out if n else out.clone()


def gradient(input: Tensor, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> tuple[Tensor, ...]:
    """Slopes of a sampled function along axes, one tensor of the shape of `input` for each: differences of the neighbours on both
    sides, precise to second order, and at the ends one-sided ones of order `edge_order` (1 or 2).

    spacing: the distance of the samples, one number for all axes or a sequence with one for each axis, or with one vector of
    coordinates for each; then neighbours at unlike distances are weighted accordingly (Fornberg, "Generation of Finite Difference
    Formulas on Arbitrarily Spaced Grids", 1988). Whole numbers give the default dtype. RuntimeError for axes with fewer than
    edge_order + 1 samples.

    >>> import adjoint as torch
    >>> torch.gradient(torch.tensor([1., 4., 9., 16.]))
    (tensor([3., 4., 6., 7.]),)
    """
    f = to_default_float(input)
    rank = len(f._aval.shape)
    axes = tuple(range(rank)) if dim is None else axes_of(dim, rank)
    if isinstance(dim, (tuple, list)):
        axes = tuple([axis_of(d, rank) for d in dim])  # in the order that was asked for
    if edge_order not in (1, 2):
        raise RuntimeError(f"torch.gradient only supports edge_order=1 and edge_order=2, not {edge_order}")
    steps = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(axes)
    if len(steps) != len(axes):
        raise RuntimeError(f"torch.gradient expected spacing to be a number, or a list of {len(axes)} for as many axes, but got a list of {len(steps)}")
    return tuple([_slopes(f, axis, step, edge_order) for axis, step in zip(axes, steps, strict=True)])


def _slopes(f: Tensor, axis: int, step: Any, edge_order: int) -> Tensor:
    length = f._aval.shape[axis]
    if length <= edge_order:
        raise RuntimeError(f"torch.gradient expected each dimension size to be at least edge_order+1, but axis {axis} has {length}")
    f = f.movedim(axis, -1)
    if isinstance(step, Tensor) and step._aval.shape:
        if step._aval.shape != (length,):
            raise RuntimeError(f"torch.gradient expected {length} coordinates for axis {axis}, but got shape {list(step._aval.shape)}")
        h = step[1:] - step[:-1]
        near, far = h[:-1], h[1:]
        inner = (near * near * (f[..., 2:] - f[..., 1:-1]) + far * far * (f[..., 1:-1] - f[..., :-2])) / (near * far * (near + far))
        ends = [h[0], h[-1], h[1 % (length - 1)], h[-2 % (length - 1)]]
    else:
        inner = (f[..., 2:] - f[..., :-2]) / (2 * step)
        ends = [step] * 4
    rise = f[..., 1:] - f[..., :-1]
    first, last = rise[..., :1] / ends[0], rise[..., -1:] / ends[1]
    if edge_order == 2:  # the line through two, bent as the parabola through three
        first = first + (first - rise[..., 1:2] / ends[2]) * (ends[0] / (ends[0] + ends[2]))
        last = last + (last - rise[..., -2:-1] / ends[3]) * (ends[1] / (ends[1] + ends[3]))
    return cat([first, inner, last], -1).movedim(-1, axis)


def _trapezoids(y: Tensor, x: Tensor | None, dx: float, dim: int) -> tuple[int, Tensor, float]:
    """The axis of an integral, the areas along it, and what they are still to be multiplied with."""
    axis = axis_of(dim, len(y._aval.shape))
    length = y._aval.shape[axis]
    pairs = narrow(y, axis, 1, length - 1) + narrow(y, axis, 0, length - 1)
    if x is None:
        return axis, pairs, dx / 2
    steps = diff(x, dim=-1 if len(x._aval.shape) == 1 else dim)
    if len(x._aval.shape) == 1:
        steps = steps.reshape(-1, *[1] * (len(y._aval.shape) - axis - 1))
    return axis, pairs * steps, 0.5


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The integral along an axis by the trapezoidal rule, at places `x` or at steps of `dx`.

    >>> import adjoint as torch
    >>> torch.trapezoid(torch.tensor([0., 1., 4.]), dx=0.5)
    tensor(1.5000)
    """
    axis, areas, scale = _trapezoids(y, x, dx, dim)
    return sum(areas, axis) * scale


def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1.0, dim: int = -1) -> Tensor:
    """The running integral along an axis by the trapezoidal rule: one element less than `y`.

    >>> import adjoint as torch
    >>> torch.cumulative_trapezoid(torch.tensor([0., 2., 4.]))
    tensor([1., 4.])
    """
    axis, areas, scale = _trapezoids(y, x, dx, dim)
    return cumsum(areas, axis) * scale


def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """The logarithm of the running sum of exponentials along an axis, with the largest element taken out first.

    >>> import adjoint as torch
    >>> torch.logcumsumexp(torch.zeros(3), 0).exp()
    tensor([1., 2., 3.])
    """
    axis = axis_of(dim, len(input._aval.shape))
    refuse("logcumsumexp_out_cpu", FLOATING, input)
    if not input._aval.shape or not input._aval.size:
        return input.clone()
    kind = input._aval.dtype
    return cast(_logcumsumexp(cast(input, float32), axis), kind) if kind.is_half else _logcumsumexp(input, axis)


@composite("LogcumsumexpBackward0")
def _logcumsumexp(x: Tensor, axis: int) -> Tensor:
    """With m_i the largest so far: s_i = exp(m_(i-1) - m_i) s_(i-1) + exp(x_i - m_i), and the result is log(s_i) + m_i.

    An m_i that is infinite is taken for 0.
    """
    shape = tuple(x._aval.shape)
    high = record("cummax", (x.detach(),), axis)
    start = record("full", (-math.inf,), ((*shape[:axis], 1, *shape[axis + 1 :]), x._aval.dtype))
    before = cat((start, narrow(high, axis, 0, shape[axis] - 1)), axis)
    high = where(functions["isinf"](high), 0.0, high)
    decay = functions["exp"](where(functions["isinf"](before), 0.0, before) - high)
    decay = where(before == -math.inf, 0.0, decay)
    total = record("recurrence", (decay, functions["exp"](x - high)), axis)
    return functions["log"](total) + high


def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Slices of axis `dim` whose p-norm exceeds `maxnorm` scaled down to it.

    >>> import adjoint as torch
    >>> torch.renorm(torch.tensor([[3., 4.], [0.3, 0.4]]), 2, 0, 1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    rank = len(input._aval.shape)
    if rank < 2 or p <= 0 or maxnorm < 0:
        raise RuntimeError(
            f"renorm: input needs at least 2 dimensions, p > 0 and maxnorm >= 0; got shape {list(input._aval.shape)}, p={p}, maxnorm={maxnorm}"
        )
    axis = axis_of(dim, rank)
    norms = vector_norm(input, p, tuple(d for d in range(rank) if d != axis), True)
    return input * where(norms > maxnorm, maxnorm / (norms + 1e-7), 1.0)
