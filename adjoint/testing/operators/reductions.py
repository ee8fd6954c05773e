"""Records of reductions, scans, sorting and what looks for extremes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.testing.operators.record import EVERY, FLOATS, NUMBERS, Draw, OpRecord, fails, sample
from adjoint.testing.operators.shapes import over_axes, over_one_axis

RANGE = fails(IndexError, "Dimension out of range", np.ones((2, 3)), 2)
TWICE = fails(RuntimeError, "appears multiple times", np.ones((2, 3)), (0, 0))


def _boxes(x: Any, bins: Any, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    d = x.shape[-1]
    hist, edges = np.histogramdd(
        x.reshape(-1, d), bins, None if range is None else list(zip(range[::2], range[1::2], strict=True)), density, None if weight is None else weight.reshape(-1)
    )
    return hist, *edges


def axes(function: Callable[..., Any], **fixed: Any) -> Callable[..., Any]:
    """A NumPy reduction under PyTorch's argument names."""
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim, **fixed)


def with_empty(draw: Draw) -> Any:
    yield from over_axes(draw)
    yield sample(draw(0))
    yield sample(draw(3, 0), 1)
    yield sample(draw(0, 3), 1)


def several(draw: Draw) -> Any:
    """Reductions of at least two elements."""
    return (s for s in over_axes(draw) if s.args[0].size > 1 and s.args[0].shape != (3, 1, 5))


def _logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    return np.log(np.sum(np.exp(x), axis=dim, keepdims=keepdim))


def _norm(order: float) -> Callable[..., Any]:
    def reference(x: Any, p: Any, dim: Any = None, keepdim: bool = False) -> Any:
        a = np.abs(x)
        if order == np.inf:
            return np.max(a, axis=dim, keepdims=keepdim)
        return np.sum(a**order, axis=dim, keepdims=keepdim) ** (1 / order)

    return reference


def _norms(p: Any) -> Callable[[Draw], Any]:
    def samples(draw: Draw) -> Any:
        yield sample(draw(), p)
        yield sample(draw(5), p)
        yield sample(draw(2, 3), p, 1)
        yield sample(draw(2, 3), p, (0, 1), keepdim=True)
        yield sample(draw(5, 19), p, dim=0)

    return samples


def need_dim(draw: Draw) -> Any:
    return (s for s in over_axes(draw) if len(s.args) > 1 or "dim" in s.options)


def _take(order: Callable[[Any, int], Any]) -> Callable[..., Any]:
    """(values, indices) from an order along one axis."""

    def reference(x: Any, dim: int, keepdim: bool = False) -> Any:
        index = np.expand_dims(order(x, dim), dim)
        values = np.take_along_axis(x, index, dim)
        return (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))

    return reference


def one_kept(draw: Draw) -> Any:
    yield from over_one_axis(draw)
    yield sample(draw(3, 4), 1, keepdim=True)


def _median(x: Any, dim: int) -> Any:
    return np.take(np.argsort(x, dim, kind="stable"), (x.shape[dim] - 1) // 2, dim)


def _sorted(x: Any, dim: int = -1, descending: bool = False) -> Any:
    index = np.argsort(-x if descending else x, dim, kind="stable")
    return np.take_along_axis(x, index, dim), index


def orders(draw: Draw) -> Any:
    yield from over_one_axis(draw)
    yield sample(draw(2, 5), 1, descending=True)
    yield sample(draw(6))


def tied_orders(draw: Draw) -> Any:
    yield sample(draw.repeated(9), stable=True)
    yield sample(draw.repeated(9), descending=True, stable=True)


def _running(pick: Any) -> Callable[..., Any]:
    def reference(x: Any, dim: int) -> Any:
        values = pick.accumulate(x, axis=dim)
        n = x.shape[dim]
        places = np.moveaxis(np.broadcast_to(np.arange(n), (*np.delete(x.shape, dim), n)), -1, dim)
        index = np.maximum.accumulate(np.where(x == values, places, 0), axis=dim)
        return values, index

    return reference


def _topk(draw: Draw) -> Any:
    yield sample(draw(5), 2)
    yield sample(draw(2, 4), 3, 1)
    yield sample(draw(2, 4), 1, 0, largest=False)
    yield sample(draw(3, 4), 0)


def _topk_reference(x: Any, k: int, dim: int = -1, largest: bool = True) -> Any:
    values, index = _sorted(x, dim, largest)
    cut = [slice(None)] * x.ndim
    cut[dim] = slice(0, k)
    return values[tuple(cut)], index[tuple(cut)]


def _searches(draw: Draw) -> Any:
    for right in (False, True):
        yield sample(np.sort(draw(7)), draw(2, 3), right=right)
        yield sample(np.sort(draw.repeated(8)), draw.repeated(9), right=right)
        yield sample(np.sort(draw(3, 5)), draw(3, 4), right=right)
        yield sample(draw(0), draw(2), right=right)


def _found(rows: Any, values: Any, right: bool = False) -> Any:
    side: Any = "right" if right else "left"
    if rows.ndim == 1:
        return np.searchsorted(rows, values, side)
    return np.array([np.searchsorted(r, v, side) for r, v in zip(rows, values, strict=True)])


INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _runs(x: Any, dim: int | None = None) -> Any:
    """One of each run of equal elements, or of equal slices along the first axis."""
    rows = x.reshape(-1, 1) if dim is None else x
    kept = np.append(True, (rows[1:] != rows[:-1]).any(1))
    return x.reshape(-1)[kept] if dim is None else x[kept]


def _mode(x: Any, dim: int) -> Any:
    """Where the smallest of the most frequent elements was last found."""

    def last(row: Any) -> Any:
        values, counts = np.unique(row, return_counts=True)
        return np.flatnonzero(row == values[counts.argmax()])[-1]

    return np.apply_along_axis(last, dim, x)


def _with_nan(draw: Draw) -> Any:
    """Rows with NaN here and there, and one of NaN alone."""
    for dim in (0, 1):
        x = draw(4, 5)
        x[0, :3] = x[2, 1] = x[:, 3] = np.nan
        yield sample(x, dim)


def _nanmedian(x: Any, dim: int) -> Any:
    counted = np.expand_dims((~np.isnan(x)).sum(dim), dim)
    return np.take_along_axis(np.argsort(x, dim, kind="stable"), np.maximum(counted - 1, 0) // 2, dim).squeeze(dim)


RECORDS = (
    OpRecord("sum", with_empty, axes(np.sum), dtypes=EVERY, domain=(-0.5, 3.0), method="sum", errors=(RANGE, TWICE)),
    OpRecord("sum_dtype", lambda draw: (sample(draw(2, 3)),), lambda x: np.sum(x, dtype=np.float64),
             lambda torch, x: torch.sum(x, dtype=torch.float64), dtypes=NUMBERS),
    OpRecord("prod", lambda draw: (sample(draw(*s), *d) for s, d in (((), ()), ((5,), ()), ((2, 3), (0,)), ((2, 3), (1,)), ((0, 2), (0,)), ((2, 11), (1,)))),
             lambda x, dim=None: np.prod(x, axis=dim), dtypes=NUMBERS, method="prod", domain=(1, 2), rtol=(1e-5, 1e-12)),
    OpRecord("prod_with_zeros", lambda draw: (sample(np.array(v, draw.dtype)) for v in ([0.0, 2, 3], [0.0, 2, 0.0], [1.5, 2, 3])), np.prod,
             lambda torch, x: torch.prod(x, 0)),
    OpRecord("mean", with_empty, axes(np.mean), domain=(-0.5, 3.0), method="mean",
             errors=(fails(RuntimeError, "floating point", np.ones(3, "int64")), RANGE)),
    OpRecord("var", several, axes(np.var, ddof=1), call=lambda torch, x, dim=None, keepdim=False: torch.var(x, dim, keepdim=keepdim)
             if dim is not None else torch.var(x), rtol=(2e-5, 1e-12), covers=("var",)),
    OpRecord("std", several, axes(np.std, ddof=1), call=lambda torch, x, dim=None, keepdim=False: torch.std(x, dim, keepdim=keepdim)
             if dim is not None else torch.std(x), rtol=(2e-5, 1e-12), covers=("std",)),
    OpRecord("var_biased", several, axes(np.var), lambda torch, x, dim=None, keepdim=False: torch.var(x, dim, correction=0, keepdim=keepdim),
             rtol=(2e-5, 1e-12)),
    OpRecord("std_unbiased_false", lambda draw: (sample(draw(7)),), lambda x: np.std(x), lambda torch, x: torch.std(x, unbiased=False),
             rtol=(2e-5, 1e-12)),
    OpRecord("var_mean", lambda draw: (sample(draw(2, 3), 1), sample(draw(7), 0)), lambda x, dim: (np.var(x, dim, ddof=1), np.mean(x, dim)),
             rtol=(2e-5, 1e-12)),
    OpRecord("std_mean", lambda draw: (sample(draw(2, 3), 1), sample(draw(7), 0)), lambda x, dim: (np.std(x, dim, ddof=1), np.mean(x, dim)),
             rtol=(2e-5, 1e-12)),
    OpRecord("amax", over_axes, axes(np.max), dtypes=EVERY, exact=True, method="amax", errors=(RANGE,)),
    OpRecord("amin", over_axes, axes(np.min), dtypes=EVERY, exact=True, method="amin"),
    OpRecord("aminmax", lambda draw: (sample(draw(5)), sample(draw(2, 3), dim=1)),
             lambda x, dim=None: (np.min(x, dim), np.max(x, dim)), exact=True, method="aminmax"),
    OpRecord("max_all", lambda draw: (sample(draw(5)), sample(draw(2, 3))), np.max, lambda torch, x: torch.max(x), exact=True,
             dtypes=NUMBERS, errors=(fails(RuntimeError, "numel() == 0", np.ones(0)),)),
    OpRecord("min_all", lambda draw: (sample(draw(5)), sample(draw(2, 3))), np.min, lambda torch, x: torch.min(x), exact=True, dtypes=NUMBERS),
    OpRecord("max", one_kept, _take(np.argmax), exact=True, dtypes=NUMBERS, domain=(-90, 90), method="max",
             torch=True, errors=(RANGE, fails(IndexError, "non-zero size", np.ones((2, 0)), 1))),
    OpRecord("min", one_kept, _take(np.argmin), exact=True, dtypes=FLOATS, method="min"),
    OpRecord("max_pair", lambda draw: (sample(draw(3), draw(3)),), np.maximum, lambda torch, a, b: torch.max(a, b), exact=True),
    OpRecord("min_pair", lambda draw: (sample(draw(3), draw(3)),), np.minimum, lambda torch, a, b: torch.min(a, b), exact=True),
    OpRecord("argmax", lambda draw: (sample(draw()), sample(draw(7)), sample(draw(2, 3), 1), sample(draw(2, 3), 0, keepdim=True), sample(draw(5, 19))),
             lambda x, dim=None, keepdim=False: np.argmax(x, dim, keepdims=keepdim), exact=True, differentiable=False, dtypes=FLOATS, method="argmax"),
    OpRecord("argmin", lambda draw: (sample(draw()), sample(draw(7)), sample(draw(2, 3), 1), sample(draw(2, 3), 0, keepdim=True), sample(draw(5, 19))),
             lambda x, dim=None, keepdim=False: np.argmin(x, dim, keepdims=keepdim), exact=True, differentiable=False, dtypes=FLOATS, method="argmin"),
    OpRecord("any", with_empty, axes(np.any), dtypes=("bool", "int64", "float32"), exact=True, differentiable=False, method="any",
             torch="torch.any takes several axes only in recent versions"),
    OpRecord("all", with_empty, axes(np.all), dtypes=("bool", "int64", "float32"), exact=True, differentiable=False, method="all",
             torch="torch.all takes several axes only in recent versions"),
    OpRecord("count_nonzero", lambda draw: (sample(draw.repeated(7)), sample(draw.repeated(2, 3), 1)), lambda x, dim=None: np.count_nonzero(x, dim),
             dtypes=EVERY, exact=True, differentiable=False, method="count_nonzero"),
    OpRecord("cumsum", over_one_axis, lambda x, dim: np.cumsum(x, dim), dtypes=NUMBERS, method="cumsum", in_place="cumsum_", rtol=(1e-5, 1e-12),
             errors=(RANGE, fails(TypeError, "dim", np.ones(3)))),
    OpRecord("cumprod", over_one_axis, lambda x, dim: np.cumprod(x, dim), dtypes=FLOATS, domain=(0.5, 1.5), method="cumprod", in_place="cumprod_", rtol=(1e-5, 1e-12)),
    OpRecord("cumprod_with_zeros", lambda draw: (sample(np.array(v, draw.dtype)) for v in ([2.0, 0, 3], [0.0, 2, 0])), lambda x: np.cumprod(x, 0),
             lambda torch, x: torch.cumprod(x, 0)),
    OpRecord("cummax", over_one_axis, _running(np.maximum), exact=True, dtypes=NUMBERS, method="cummax"),
    OpRecord("cummin", over_one_axis, _running(np.minimum), exact=True, dtypes=NUMBERS, method="cummin"),
    OpRecord("logsumexp", need_dim, _logsumexp, method="logsumexp", covers=("special.logsumexp",)),
    OpRecord("norm", _norms(2), _norm(2), method="norm", errors=(fails(RuntimeError, "floating point", np.ones(3, "int64")),)),
    OpRecord("norm_1", _norms(1), _norm(1), lambda torch, x, p, *a, **k: torch.norm(x, p, *a, **k), avoid=(0.0,)),
    OpRecord("norm_3", _norms(3), _norm(3), lambda torch, x, p, *a, **k: torch.norm(x, p, *a, **k), avoid=(0.0,)),
    OpRecord("norm_inf", _norms(np.inf), _norm(np.inf), lambda torch, x, p, *a, **k: torch.norm(x, p, *a, **k), domain=(0.2, 2.0)),
    OpRecord("dist", lambda draw: (sample(draw(4), draw(4)), sample(draw(2, 2), draw(2))), lambda a, b: np.sqrt(np.sum((a - b) ** 2)), method="dist"),
    OpRecord("median", lambda draw: (sample(draw(5), 0), sample(draw(2, 4), 1), sample(draw(3, 2), 0, keepdim=True)), _take(_median), exact=True, method="median"),
    OpRecord("median_all", lambda draw: (sample(draw(5)), sample(draw(2, 4))), lambda x: np.sort(x, None)[(x.size - 1) // 2],
             lambda torch, x: torch.median(x), exact=True),
    OpRecord("nanmedian", lambda draw: (sample(np.delete(s.args[0], 3, 1), s.args[1]) for s in _with_nan(draw)), _take(_nanmedian), exact=True,
             differentiable=False, method="nanmedian"),
    # Which of several NaN is taken is not said; the value is NaN.
    OpRecord("nanmedian_values", _with_nan, lambda x, dim: _take(_nanmedian)(x, dim)[0], lambda torch, x, dim: torch.nanmedian(x, dim).values,
             exact=True, differentiable=False),
    OpRecord("nanmedian_slope", lambda draw: (sample(draw(5), 0), sample(draw(2, 4), 1)), _take(_median), lambda torch, x, dim: torch.nanmedian(x, dim), exact=True),
    OpRecord("mode", lambda draw: (sample(draw.repeated(9), 0), sample(draw.repeated(3, 7), 0), sample(draw.repeated(3, 7), 1), sample(draw.repeated(2, 5), 1, keepdim=True)),
             _take(_mode), exact=True, differentiable=False, dtypes=NUMBERS, method="mode", errors=(RANGE, fails(IndexError, "non-zero size", np.ones((2, 0)), 1))),
    OpRecord("mode_slope", lambda draw: (sample(draw(5), 0), sample(draw(2, 4), 1)), _take(_mode), lambda torch, x, dim: torch.mode(x, dim), exact=True),
    OpRecord("sort", orders, _sorted, exact=True, dtypes=FLOATS, method="sort", errors=(RANGE,)),
    OpRecord("sort_ties", tied_orders, lambda x, stable, descending=False: _sorted(x, -1, descending),
             lambda torch, x, **k: torch.sort(x, **k), dtypes=("int32", "float32"), exact=True, differentiable=False),
    OpRecord("msort", lambda draw: (sample(draw(5)), sample(draw(3, 4)), sample(draw(0, 3)), sample(draw(2, 3, 2))), lambda x: np.sort(x, 0),
             exact=True, method="msort"),
    OpRecord("argsort", orders, lambda *a, **k: _sorted(*a, **k)[1], exact=True, differentiable=False, method="argsort"),
    OpRecord("topk", _topk, _topk_reference, exact=True, dtypes=NUMBERS, method="topk", errors=(fails(RuntimeError, "out of range", np.ones(3), 4),)),
    OpRecord("kthvalue", lambda draw: (sample(draw(5), 2), sample(draw(2, 4), 3, 1), sample(draw(3, 2), 1, 0, keepdim=True)),
             lambda x, k, dim=-1, keepdim=False: _take(lambda a, d: np.take(np.argsort(a, d), k - 1, d))(x, dim, keepdim), exact=True, method="kthvalue",
             errors=(fails(RuntimeError, "out of range", np.ones(3), 4),)),
    OpRecord("quantile", lambda draw: (sample(draw(5), 0.3), sample(draw(2, 4), 0.5, 1), sample(draw(3), np.array([0.1, 0.9], draw.dtype))),
             lambda x, q, dim=None: np.quantile(x, q, axis=dim), differentiable=False, method="quantile", halves=False,
             errors=(fails(RuntimeError, "range [0, 1]", np.ones(3), 1.5),)),
    OpRecord("quantile_slope", lambda draw: (sample(draw(5), 0.3), sample(draw(2, 4), 0.5, 1)),
             lambda x, q, dim=None: np.quantile(x, q, axis=dim), lambda torch, *a: torch.quantile(*a), halves=False),
    OpRecord("quantile_between", lambda draw: (sample(draw(2, 4), np.array([0.4, 0.9], draw.dtype), 1, True, interpolation=i) for i in INTERPOLATIONS),
             lambda x, q, dim, keepdim, interpolation: np.quantile(x, q, dim, keepdims=keepdim, method=interpolation),
             lambda torch, *a, **k: torch.quantile(*a, **k), differentiable=False, halves=False),
    OpRecord("nanquantile", lambda draw: (sample(s.args[0][:, :3], np.array([0.3, 0.9], draw.dtype), s.args[1]) for s in _with_nan(draw)),
             lambda x, q, dim: np.nanquantile(x, q, axis=dim), differentiable=False, method="nanquantile", halves=False,
             errors=(fails(RuntimeError, "range [0, 1]", np.ones(3), 1.5),)),
    OpRecord("nanquantile_slope", lambda draw: (sample(draw(5), 0.3), sample(draw(2, 4), 0.5, 1)),
             lambda x, q, dim=None: np.quantile(x, q, axis=dim), lambda torch, *a: torch.nanquantile(*a), halves=False),
    OpRecord("unique_slices", lambda draw: (sample(draw.repeated(9, 2), dim=0), sample(draw.repeated(2, 9), dim=1)),
             lambda x, dim: np.unique(x, axis=dim), lambda torch, x, dim: torch.unique(x, dim=dim), dtypes=NUMBERS, exact=True, differentiable=False),
    OpRecord("unique", lambda draw: (sample(draw.repeated(9), return_inverse=True, return_counts=True),),
             lambda x, **k: np.unique(x, return_inverse=True, return_counts=True), dtypes=NUMBERS, exact=True, differentiable=False, method="unique"),
    OpRecord("unique_consecutive", lambda draw: (sample(draw(23)), sample(draw(9, 1), dim=0)), _runs, dtypes=NUMBERS, exact=True,
             differentiable=False, method="unique_consecutive"),
    OpRecord("bincount", lambda draw: (sample(draw.integers(0, 5, 9)), sample(draw.integers(0, 3, 4), minlength=6)),
             lambda x, minlength=0: np.bincount(x, minlength=minlength), dtypes=("float64",), exact=True, differentiable=False, method="bincount"),
    OpRecord("histogram", lambda draw: (sample(draw(9), 4), sample(draw(3, 4), 3, range=(-1.0, 1.0)), sample(draw(7), np.array([-1.5, 0.0, 0.5, 1.0], draw.dtype)),
                                        sample(draw(7), 3, weight=draw(7), density=True)),
             lambda x, bins, range=None, weight=None, density=False: np.histogram(x, bins, range, weights=weight, density=density),
             differentiable=False, method="histogram", errors=(
                 fails(RuntimeError, "bins must be > 0", np.ones(3), 0), fails(RuntimeError, "should have 2 elements", np.ones(3), 2, range=(1.0,)),
                 fails(RuntimeError, "should not exceed", np.ones(3), 2, range=(1.0, 0.0)), fails(RuntimeError, "not finite", np.array([np.nan]), 2),
                 fails(RuntimeError, "one dimension", np.ones(3), np.ones((2, 2))), fails(RuntimeError, "same dtype", np.ones(3), np.ones(2, "float32")),
                 fails(RuntimeError, "same shape", np.ones(3), 2, weight=np.ones(2)), fails(NotImplementedError, "histogram", np.ones(3, "int64"), 2),
                 fails(TypeError, "must be int or Tensor", np.ones(3), "x"))),
    OpRecord("histogramdd", lambda draw: (sample(draw(9, 2), [2, 3]), sample(draw(4, 2, 3), 2, range=[-1.0, 1.0] * 3), sample(draw(6, 2), [3, 2], weight=draw(6), density=True),
                                          sample(draw(7, 1), [np.array([-1.5, 0.0, 0.5, 1.0], draw.dtype)])),
             _boxes, differentiable=False, errors=(
                 fails(RuntimeError, "at least 2", np.ones(3), [2]), fails(RuntimeError, "innermost", np.ones((3, 2)), [2]),
                 fails(RuntimeError, "4 elements", np.ones((3, 2)), [2, 2], range=[0.0, 1.0]), fails(RuntimeError, "innermost", np.ones((3, 2)), [2, 2], weight=np.ones(2)))),
    OpRecord("histc", lambda draw: (sample(draw(9), 4, -2, 2), sample(draw(9), 3)),
             lambda x, bins, min=0, max=0: np.histogram(x, bins, (x.min(), x.max()) if min == max else (min, max))[0], exact=True,
             differentiable=False, method="histc"),
    OpRecord("searchsorted", _searches, _found, exact=True, dtypes=("int32", "int64", "float32", "float64"), differentiable=False),
)  # fmt: skip
