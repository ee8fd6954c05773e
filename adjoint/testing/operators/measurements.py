"""Records of statistics over samples, distances between rows, differences and integrals."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.testing.operators.record import NUMBERS, Draw, OpRecord, Sample, fails, sample

TOLERANCE = (2e-5, 1e-11)


def _variables(draw: Draw) -> Any:
    return (sample(draw(*shape)) for shape in ((5,), (2, 3), (3, 7)))


def _gaps(draw: Draw, *shape: int) -> np.ndarray:
    """Every third element NaN."""
    x = draw(*shape)
    x.ravel()[::3] = np.nan
    return x


def _with_gaps(draw: Draw) -> list[Sample]:
    return [
        sample(_gaps(draw, 5)),
        sample(_gaps(draw, 2, 3), 1),
        sample(_gaps(draw, 3, 4), 0, keepdim=True),
    ]


def _over(function: Any) -> Any:
    return lambda x, dim=None, keepdim=False: function(x, axis=dim, keepdims=keepdim)


def _distances(a: Any, b: Any, p: float = 2.0) -> Any:
    return np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], p, axis=-1)


def _diff(x: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    more = {k: v for k, v in {"prepend": prepend, "append": append}.items() if v is not None}
    return np.diff(x, n, dim, **more)


def _area(y: Any, x: Any = None, dx: float = 1.0, dim: int = -1) -> Any:
    return np.trapezoid(y, x, dx, dim)


def _areas(y: Any, x: Any = None, dx: float = 1.0, dim: int = -1) -> Any:
    y = np.moveaxis(y, dim, -1)
    steps = dx if x is None else np.diff(x)
    return np.moveaxis(np.cumsum((y[..., 1:] + y[..., :-1]) / 2 * steps, -1), -1, dim)


def _renormed(x: Any, p: float, dim: int, most: float) -> Any:
    rest = tuple(d for d in range(x.ndim) if d != dim)
    norms = (np.abs(x) ** p).sum(rest, keepdims=True) ** (1 / p)
    return x * np.where(norms > most, most / (norms + 1e-7), 1.0).astype(x.dtype)


RECORDS = (
    OpRecord("cov", _variables, np.cov, rtol=TOLERANCE, method="cov",
             errors=(fails(RuntimeError, "two or fewer dimensions", np.ones((2, 2, 2))),)),
    OpRecord("corrcoef", lambda draw: (sample(draw(*shape)) for shape in ((2, 3), (3, 7))), np.corrcoef, rtol=TOLERANCE,
             second=False, method="corrcoef"),
    OpRecord("cdist", lambda draw: (sample(draw(3, 2), draw(4, 2)), sample(draw(2, 3, 5), draw(2, 1, 5)), sample(draw(0, 2), draw(3, 2)),
                                    sample(draw(3, 2), draw(4, 2), 1.0), sample(draw(3, 2), draw(4, 2), 3.0)),
             _distances, avoid=(0.0,), rtol=TOLERANCE, second=False,
             errors=(fails(RuntimeError, "same number of columns", np.ones((2, 3)), np.ones((2, 4))),
                     fails(RuntimeError, "at least 2D", np.ones(3), np.ones((2, 3))))),
    OpRecord("nansum", _with_gaps, _over(np.nansum), differentiable=False, method="nansum", rtol=TOLERANCE),
    OpRecord("nanmean", _with_gaps, _over(np.nanmean), differentiable=False, method="nanmean", rtol=TOLERANCE),
    OpRecord("diff", lambda draw: (sample(draw(5)), sample(draw(1)), sample(draw(3, 4), 2), sample(draw(3, 4), 1, 0), sample(draw(4), 0),
                                   sample(draw(2, 3), 1, 1, draw(2, 1), draw(2, 2))),
             _diff, dtypes=NUMBERS, exact=True, method="diff", errors=(fails(RuntimeError, "at least one-dimensional", np.ones(())),)),
    OpRecord("gradient", lambda draw: (sample(draw(5)), sample(draw(3, 4), spacing=0.5), sample(draw(3, 4), dim=1, edge_order=2), sample(draw(3, 4), dim=(1, 0))),
             lambda x, spacing=1.0, dim=None, edge_order=1: tuple(np.gradient(x, spacing, axis=dim, edge_order=edge_order))
             if x.ndim > 1 and not isinstance(dim, int) else (np.gradient(x, spacing, axis=dim, edge_order=edge_order),), rtol=TOLERANCE,
             errors=(fails(RuntimeError, "edge_order", np.ones(3), edge_order=3), fails(RuntimeError, "at least edge_order", np.ones(1)))),
    OpRecord("gradient_at", lambda draw: (sample(draw(5), np.cumsum(1 + np.abs(draw(5))).astype(draw.dtype), edge_order=n) for n in (1, 2)),
             lambda x, at, edge_order: (np.gradient(x, at, edge_order=edge_order),), lambda torch, x, at, edge_order: torch.gradient(x, spacing=(at,), edge_order=edge_order),
             rtol=(1e-4, 1e-11)),
    OpRecord("trapezoid", lambda draw: (sample(draw(5)), sample(draw(3, 4), dx=0.5), sample(draw(3, 4), np.sort(draw(4))),
                                        sample(draw(3, 4), np.sort(draw(3)), dim=0), sample(draw(3, 4), draw(3, 4)), sample(draw(1))),
             _area, rtol=TOLERANCE, covers=("trapz",)),
    OpRecord("cumulative_trapezoid", lambda draw: (sample(draw(5)), sample(draw(3, 4), dx=0.5), sample(draw(3, 4), np.sort(draw(4))), sample(draw(3, 4), dim=0)),
             _areas, rtol=TOLERANCE),
    OpRecord("logcumsumexp", lambda draw: (sample(draw(5), 0), sample(draw(2, 3), -1), sample(draw(3, 2), 0)), lambda x, dim: np.logaddexp.accumulate(x, dim),
             rtol=TOLERANCE, method="logcumsumexp"),
    OpRecord("renorm", lambda draw: (sample(draw(2, 3), 2.0, 0, 1.0), sample(draw(2, 3), 1.0, 1, 0.5), sample(draw(2, 2, 2), 2.0, 1, 9.0)), _renormed,
             rtol=TOLERANCE, second=False, method="renorm", in_place="renorm_", errors=(fails(RuntimeError, "at least 2", np.ones(3), 2.0, 0, 1.0),)),
)  # fmt: skip
