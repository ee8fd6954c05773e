"""Records of what puts tensors together, cuts them apart and turns them (`ops/arrange.py`)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from adjoint.testing.operators.movement import _moves, calls, lists
from adjoint.testing.operators.record import Draw, OpRecord, fails, sample


def _block_diag(*parts: Any) -> Any:
    parts = tuple(np.atleast_2d(p) for p in parts)
    out = np.zeros((sum(p.shape[0] for p in parts), sum(p.shape[1] for p in parts)), parts[0].dtype)
    i = j = 0
    for p in parts:
        out[i : i + p.shape[0], j : j + p.shape[1]] = p
        i, j = i + p.shape[0], j + p.shape[1]
    return out


def _rows(parts: list, width: int, dtype: Any) -> Any:
    return np.array(parts, dtype).reshape(-1, width)


def _combinations(x: Any, r: int = 2, with_replacement: bool = False) -> Any:
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    return _rows(list(choose(x, r)), r, x.dtype)


def _separate(draw: Draw) -> Any:
    yield sample(draw(2, 2), draw(1, 3))
    yield sample(draw(2), draw(), draw(2, 1))
    yield sample(draw(3, 2))


def _vectors(draw: Draw) -> Any:
    yield sample(draw(2), draw(3))
    yield sample(draw(2), draw(1), draw(2))


ATLEAST = calls(((),), ((3,),), ((2, 3),), ((2, 1, 3),))
RECORDS = (
    _moves("atleast_1d", ATLEAST, np.atleast_1d, method=""),
    _moves("atleast_2d", ATLEAST, np.atleast_2d, method=""),
    _moves("atleast_3d", ATLEAST, np.atleast_3d, method=""),
    _moves("column_stack", lists((((2,), (2,)),), (((2, 3), (2,)),)), np.column_stack, method=""),
    _moves("dstack", lists((((2,), (2,)),), (((2, 3), (2, 3)),), (((2, 1, 2), (2, 1, 1)),)), np.dstack, method=""),
    _moves("tensor_split", calls(((7,), 3), ((2, 5), 2, 1), ((6,), (2, 3)), ((2, 6), (1, -1), 1)), lambda x, n, dim=0: np.array_split(x, n, dim),
           errors=(fails(RuntimeError, "larger than 0", np.ones(3), 0),)),
    _moves("hsplit", calls(((4,), 2), ((2, 4), 2), ((2, 4), (1, 3))), np.hsplit, errors=(fails(RuntimeError, "not divisible", np.ones((2, 3)), 2),)),
    _moves("vsplit", calls(((4, 1), 2), ((4, 2), (1,))), np.vsplit, errors=(fails(RuntimeError, "at least 2", np.ones(3), 1),)),
    _moves("dsplit", calls(((1, 2, 4), 2),), np.dsplit, errors=(fails(RuntimeError, "at least 3", np.ones(3), 1),)),
    _moves("block_diag", _separate, _block_diag, method="", errors=(fails(RuntimeError, "2 or fewer", np.ones((1, 1, 1))),)),
    _moves("cartesian_prod", _vectors, lambda *p: _rows(list(itertools.product(*p)), len(p), p[0].dtype), method="",
           errors=(fails(RuntimeError, "1D vector", np.ones((2, 2)), np.ones(2)),)),
    _moves("combinations", calls(((4,),), ((4,), 3), ((3,), 2, True), ((2,), 3)), _combinations, method="", errors=(fails(RuntimeError, "1D vector", np.ones((2, 2))),)),
    _moves("rot90", calls(((2, 3),), ((2, 3), 2), ((2, 3), -1), ((2, 3, 2), 1, (0, 2)), ((2, 2), 4)), np.rot90,
           errors=(fails(RuntimeError, "rotation dims", np.ones(3)), fails(RuntimeError, "different", np.ones((2, 2)), 1, (0, 0)))),
    _moves("fliplr", calls(((2, 3),), ((2, 3, 2),)), np.fliplr, errors=(fails(RuntimeError, ">= 2-d", np.ones(3)),)),
    _moves("flipud", calls(((3,),), ((2, 3),)), np.flipud, errors=(fails(RuntimeError, ">= 1-d", np.ones(())),)),
    _moves("diagflat", calls(((3,),), ((2, 2), 1), ((2,), -1)), np.diagflat),
    OpRecord("vander", lambda draw: (sample(draw(3)), sample(draw(3), 2), sample(draw(2), 4, True)), np.vander, avoid=(0.0,), covers=("linalg.vander",), torch="has no derivative: its formula works in place",
             errors=(fails(RuntimeError, "one-dimensional", np.ones((2, 2))),)),
)  # fmt: skip
