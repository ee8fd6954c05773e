"""Records of operators that make tensors from numbers, and of what asks about them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.testing.operators.record import Draw, OpRecord, fails, sample


def rows(*calls: tuple) -> Callable[[Draw], Any]:
    """Fixed argument lists, whatever the dtype drawn."""
    return lambda draw: (sample(*args) for args in calls)


def _made(name: str, samples: Any, reference: Any, **more: Any) -> OpRecord:
    return OpRecord(name, samples, reference, dtypes=("float32",), differentiable=False, **more)


def like(value: Any) -> Any:
    return lambda x, *rest: np.full(x.shape, rest[0] if rest else value, x.dtype)


def shaped(draw: Draw) -> Any:
    return (sample(draw(*s)) for s in ((), (0,), (2, 3)))


def _range(torch: Any, *args: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        return torch.range(*args)


NEGATIVE = fails(RuntimeError, "negative dimension", -1)

RECORDS = (
    _made("zeros", rows((2, 3), ((2, 3),), (0,), ((),)), lambda *s: np.zeros(s[0] if s and isinstance(s[0], tuple) else s, "float32"), exact=True,
          errors=(NEGATIVE,)),
    _made("ones", rows((2, 3), ((2, 3),), (0,), ((),)), lambda *s: np.ones(s[0] if s and isinstance(s[0], tuple) else s, "float32"), exact=True),
    _made("full", rows(((2, 3), 1.5), ((2,), 7), ((), True)), lambda s, v: np.full(s, v), exact=True),
    OpRecord("zeros_like", shaped, like(0), exact=True, differentiable=False, dtypes=("bool", "int32", "float64"), covers=("empty_like",)),
    OpRecord("ones_like", shaped, like(1), exact=True, differentiable=False, dtypes=("bool", "int32", "float64")),
    OpRecord("full_like", lambda draw: (sample(draw(2, 3), 1), sample(draw(0), 1)), like(1), exact=True, differentiable=False,
             dtypes=("int32", "float64")),
    _made("eye", rows((3,), (2, 4), (0,)), lambda n, m=None: np.eye(n, m, dtype="float32"), exact=True),
    _made("arange", rows((5,), (2, 7), (0, 10, 3), (5, 0, -2), (0.5, 3.0, 0.5), (0,), (1.0,)),
          lambda a, b=None, step=1: np.arange(a if b is not None else 0, a if b is None else b, step), exact=True,
          errors=(fails(RuntimeError, "nonzero", 0, 5, 0), fails(RuntimeError, "inconsistent", 5, 0, 1))),
    _made("range", rows((1, 4), (1, 4, 0.5), (4, 1, -2), (0, 0)), lambda a, b, step=1: np.arange(a, b + step / 2, step).astype("float32"), call=_range, exact=True,
          errors=(fails(RuntimeError, "nonzero", 0, 5, 0), fails(RuntimeError, "inconsistent", 5, 0, 1))),
    _made("empty_strided", rows(((2, 3), (1, 2)), ((2, 2), (0, 1)), ((3,), (1,)), ((0, 2), (2, 1))), lambda size, stride: np.zeros(size, "float32"),
          call=lambda torch, size, stride: torch.zeros_like(torch.empty_strided(size, stride)), exact=True, covers=("new_empty_strided",),
          errors=(fails(RuntimeError, "dimensionality of strides", (2, 3), (1,)),)),
    OpRecord("fill", lambda draw: (sample(draw(2, 3), draw()), sample(draw(0), draw())), lambda x, v: np.full_like(x, v), exact=True,
             errors=(fails(RuntimeError, "0-dimension value", np.ones(3), np.ones(2)),)),
    _made("linspace", rows((0, 1, 5), (-2.0, 3.0, 7), (1, 1, 1), (0, 1, 0)), np.linspace, rtol=(1e-6, 1e-12),
          errors=(fails(RuntimeError, "non-negative", 0, 1, -1),)),
    _made("logspace", rows((0, 2, 5), (-1, 1, 3)), np.logspace, rtol=(2e-6, 1e-12)),
    OpRecord("tensor", lambda draw: (sample(draw(2, 3)),), np.array, lambda torch, x: torch.tensor(x.tolist(), dtype=x.dtype), dtypes=("bool", "int32", "float64"),
             exact=True, differentiable=False, covers=("as_tensor", "from_numpy", "tolist", "item", "new_tensor", "numpy")),
    OpRecord("new", lambda draw: (sample(draw(2)),), lambda x: (np.zeros(3, x.dtype), np.ones((2, 1), x.dtype), np.full((2,), 4, x.dtype)),
             lambda torch, x: (x.new_zeros(3), x.new_ones(2, 1), x.new_full((2,), 4)), dtypes=("int32", "float64"), exact=True, differentiable=False,
             covers=("new_zeros", "new_ones", "new_full", "new_empty")),
    OpRecord("in_place_fills", lambda draw: (sample(draw(2, 3)),), lambda x: (np.zeros_like(x), np.full_like(x, 3), x, _diagonal_filled(x)),
             lambda torch, x: (x.clone().zero_(), x.clone().fill_(3), torch.zeros_like(x).copy_(x), x.clone().fill_diagonal_(2)),
             dtypes=("int32", "float64"), exact=True, differentiable=False, covers=("zero_", "fill_", "copy_", "fill_diagonal_")),
)  # fmt: skip


def _diagonal_filled(x: Any) -> Any:
    out = x.copy()
    np.fill_diagonal(out, 2)
    return out
