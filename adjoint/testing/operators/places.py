"""Records of what names places: scatters that reduce, copies with a part replaced, pieces and blocks, searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.testing.operators.movement import DTYPES, calls, lists
from adjoint.testing.operators.record import FLOATS, NUMBERS, Draw, OpRecord, fails, sample


def _moves(name: str, samples: Any, reference: Any, **more: Any) -> OpRecord:
    more.setdefault("method", name)
    more.setdefault("dtypes", DTYPES)
    return OpRecord(name, samples, reference, exact=True, **more)


def _pairs(*rows: tuple) -> Any:
    """Rows of (shape, shape of the part, *arguments)."""

    def samples(draw: Draw) -> Any:
        for shape, part, *rest in rows:
            yield sample(draw(*shape), draw(*part), *rest)

    return samples


# --- a copy with a part replaced --------------------------------------------------------------------------------------


def _with(part: Any) -> Any:
    """The reference of a function that replaces what `part` shows of an array."""

    def reference(x: Any, src: Any, *arguments: Any) -> Any:
        out = x.copy()
        part(out, *arguments)[...] = src
        return out

    return reference


def _diagonal(x: Any, *arguments: int) -> Any:
    line = x.diagonal(*arguments)
    line.flags.writeable = True
    return line


def _selected(x: Any, dim: int, index: int) -> Any:
    return np.moveaxis(x, dim, 0)[index]


def _sliced(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return np.moveaxis(np.moveaxis(x, dim, 0)[start:end:step], 0, dim)


def _strided(x: Any, size: Any, stride: Any, offset: int = 0) -> Any:
    return np.lib.stride_tricks.as_strided(x.reshape(-1)[offset:], size, [s * x.itemsize for s in stride])


REPLACING = (
    _moves("diagonal_scatter", _pairs(((3, 3), (3,)), ((3, 4), (3,), 1), ((2, 3, 3), (2, 2), -1, 1, 2)), _with(_diagonal),
           errors=(fails(RuntimeError, "size equal to the diagonal", np.ones((2, 2)), np.ones(3)),)),
    _moves("select_scatter", _pairs(((3, 2), (2,), 0, 1), ((2, 3), (2,), 1, -1)), _with(_selected)),
    _moves("slice_scatter", _pairs(((5,), (2,), 0, 1, 4, 2), ((2, 5), (2, 3), 1, -3), ((4, 2), (4, 2))), _with(_sliced)),
    _moves("as_strided_scatter", _pairs(((6,), (2, 2), (2, 2), (3, 1)), ((2, 4), (3,), (3,), (2,), 1)), _with(_strided), any_layout=False,
           torch="its gradient there belongs to the places that were replaced"),
    _moves("as_strided", calls(((6,), (2, 2), (3, 1)), ((3, 4), (2, 3), (1, 4), 1), ((5,), (3, 3), (1, 1)), ((3,), (2, 2), (0, 1)), ((2,), (0, 2), (1, 1))),
           _strided, any_layout=False, errors=(fails(RuntimeError, "out of bounds", np.ones(3), (4,), (1,)), fails(RuntimeError, "Negative strides", np.ones(3), (2,), (-1,)))),
    _moves("narrow_copy", calls(((5,), 0, 1, 3), ((2, 5), 1, 0, 2)), lambda x, d, s, n: np.take(x, range(s, s + n), d)),
)  # fmt: skip


# --- pieces and blocks ------------------------------------------------------------------------------------------------


def _block_diag(*blocks: Any) -> Any:
    blocks = tuple(np.atleast_2d(b) for b in blocks)
    out = np.zeros([sum(b.shape[d] for b in blocks) for d in (0, 1)], np.result_type(*blocks))
    i = j = 0
    for b in blocks:
        out[i : i + b.shape[0], j : j + b.shape[1]] = b
        i, j = i + b.shape[0], j + b.shape[1]
    return out


def _several(*rows: tuple) -> Any:
    return lambda draw: (sample(*[draw(*s) for s in shapes]) for shapes in rows)


def _combinations(x: Any, r: int = 2, again: bool = False) -> Any:
    import itertools

    choose = itertools.combinations_with_replacement if again else itertools.combinations
    return np.array(list(choose(x, r)), x.dtype).reshape(-1, r)


PIECES = (
    _moves("tensor_split", calls(((5,), 2), ((5, 2), 3), ((2, 6), (1, -1), 1), ((3,), 5)), np.array_split,
           errors=(fails(RuntimeError, "larger than 0", np.ones(3), 0),)),
    _moves("hsplit", calls(((4,), 2), ((2, 4), 2), ((2, 5), (1, 3))), np.hsplit, errors=(fails(RuntimeError, "not divisible", np.ones(5), 2),)),
    _moves("vsplit", calls(((4, 2), 2), ((5, 2), (1, 3))), np.vsplit, errors=(fails(RuntimeError, "at least 2", np.ones(5), 2),)),
    _moves("dsplit", calls(((2, 1, 4), 2),), np.dsplit, errors=(fails(RuntimeError, "at least 3", np.ones(3), 1),)),
    _moves("split_with_sizes", calls(((5,), (2, 3)), ((2, 5), (1, 4), 1)), lambda x, sizes, dim=0: np.split(x, np.cumsum(sizes)[:-1], dim),
           covers=("unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes")),
    _moves("dstack", lists((((2,), (2,)),), (((2, 3), (2, 3)),), (((2, 3, 1), (2, 3, 2)),)), np.dstack, method=""),
    _moves("column_stack", lists((((2,), (2,)),), (((2, 3), (2,)),)), np.column_stack, method=""),
    _moves("atleast_1d", calls(((),), ((3,),), ((2, 3),)), np.atleast_1d, method=""),
    _moves("atleast_2d", calls(((),), ((3,),), ((2, 3, 1),)), np.atleast_2d, method=""),
    _moves("atleast_3d", calls(((),), ((3,),), ((2, 3),), ((1, 2, 3, 1),)), np.atleast_3d, method=""),
    _moves("block_diag", _several(((2, 3), (1, 2)), ((3,), (2, 2)), ((), (1, 1), (2,))), _block_diag, method="",
           errors=(fails(RuntimeError, "2 or fewer", np.ones((1, 1, 1))),)),
    _moves("cartesian_prod", _several(((2,), (3,)), ((3,),), ((2,), (1,), (2,))), lambda *v: v[0] if len(v) == 1 else np.stack([g.ravel() for g in np.meshgrid(*v, indexing="ij")], 1), method="",
           errors=(fails(RuntimeError, "1D vector", np.ones((2, 2)), np.ones(2)),)),
    _moves("combinations", calls(((4,),), ((3,), 3), ((3,), 2, True), ((2,), 3)), _combinations, method="", errors=(fails(RuntimeError, "1D vector", np.ones((2, 2))),)),
    _moves("fliplr", calls(((2, 3),)), np.fliplr, errors=(fails(RuntimeError, "2-d", np.ones(3)),)),
    _moves("flipud", calls(((3,),), ((2, 3),)), np.flipud, errors=(fails(RuntimeError, ">= 1-d", np.ones(())),)),
    _moves("rot90", calls(((2, 3),), ((2, 3), 2), ((2, 3, 2), -1, (1, 2)), ((2, 2), 4)), np.rot90, errors=(fails(RuntimeError, "total dims", np.ones(3)), fails(RuntimeError, "different", np.ones((2, 2)), 1, (0, 0)),)),
    _moves("diagflat", calls(((3,),), ((2, 2), 1)), np.diagflat),
    _moves("ravel_method", calls(((2, 3),)), np.ravel, method="", call=lambda torch, x: x.ravel(), covers=("ravel",)),
)  # fmt: skip


# --- writing where an index points ------------------------------------------------------------------------------------

FOLDS: dict[str, Any] = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}


def _reduced(x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Any:
    out = x.copy()
    for to in np.ndindex(x.shape):
        rest = tuple(slice(None) if d == dim else i for d, i in enumerate(to))
        if any(d != dim and i >= index.shape[d] for d, i in enumerate(to)):
            continue
        found = src[rest][: index.shape[dim]][index[rest] == to[dim]]
        if found.size:
            out[to] = FOLDS[reduce](np.append(found, x[to]) if include_self else found)
    return out


def _reduced_slices(x: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool = True) -> Any:
    wide = np.moveaxis(np.broadcast_to(index, (*src.shape[:dim], *src.shape[dim + 1 :], len(index))), -1, dim)
    return _reduced(x, dim, wide, src, reduce, include_self)


def _scatters(reductions: tuple[str, ...], rows: bool) -> Any:
    def samples(draw: Draw) -> Any:
        for reduce in reductions:
            for include in (True, False):
                if rows:
                    yield sample(draw(3, 2), 0, np.array([2, 0, 2]), draw(3, 2), reduce, include_self=include)
                else:
                    yield sample(draw(4), 0, np.array([1, 3, 1, 0, 1]), draw(5), reduce, include_self=include)
                    yield sample(draw(2, 3), 1, draw.integers(0, 3, 2, 2), draw(2, 2), reduce, include_self=include)

    return samples


def _putting(draw: Draw) -> Any:
    yield sample(draw(5), np.array([3, -5]), draw(2))
    yield sample(draw(2, 3), np.array([[0], [5]]), draw(2, 1))


def _searched(draw: Draw) -> Any:
    yield sample(np.sort(draw(5)), draw(2, 3))
    yield sample(np.sort(draw(2, 4), axis=1), draw(2, 3), right=True)


def _insertion(rows: Any, v: Any, right: bool = False) -> Any:
    side: Any = "right" if right else "left"
    if rows.ndim == 1:
        return np.searchsorted(rows, v, side)
    return np.stack([np.searchsorted(r, w, side) for r, w in zip(rows, v, strict=True)])


WRITING = (
    OpRecord("scatter_reduce", _scatters(("sum", "prod", "mean", "amax", "amin"), False), _reduced, method="scatter_reduce", in_place="scatter_reduce_",
             covers=("put_fold", "position"), errors=(fails(RuntimeError, "reduce argument", np.ones(3), 0, np.array([0]), np.ones(1), "median"),
                     fails(RuntimeError, "src.dtype", np.ones(3), 0, np.array([0]), np.ones(1, "int64"), "sum"))),
    OpRecord("index_reduce", _scatters(("prod", "mean", "amax", "amin"), True), _reduced_slices, method="index_reduce", in_place="index_reduce_"),
    OpRecord("Tensor.put", _putting, lambda x, i, v: _put(x, i, v), lambda torch, x, i, v: x.put(i, v), dtypes=DTYPES, exact=True, method="put", in_place="put_",
             errors=(fails(IndexError, "same number of elements", np.ones(3), np.array([0]), np.ones(2)),)),
    OpRecord("put_accumulate", lambda draw: (sample(draw(4), np.array([1, 1, -1]), draw(3)),), lambda x, i, v: _put(x, i, v, True),
             lambda torch, x, i, v: x.put(i, v, accumulate=True), dtypes=NUMBERS, covers=("put",)),
    OpRecord("scatter_multiply", lambda draw: (sample(draw(4), 0, np.array([1, 3]), draw(2)),), lambda x, d, i, v: _reduced(x, d, i, v, "prod"),
             lambda torch, x, d, i, v: x.scatter(d, i, v, reduce="multiply"), torch="its derivative is not implemented"),
    OpRecord("index_put_in_place", lambda draw: (sample(draw(5), (np.array([3, 0]),), draw(2)),), lambda x, i, v: _put(x, i[0], v),
             lambda torch, x, i, v: torch.index_put_(x.clone(), i, v), exact=True, covers=("index_put_", "index_put"),
             errors=(fails(RuntimeError, "dtypes match", np.ones(3), (np.array([0]),), np.ones(1, "int64")),)),
)  # fmt: skip


def _put(x: Any, index: Any, v: Any, accumulate: bool = False) -> Any:
    out = x.copy().reshape(-1)
    if accumulate:
        np.add.at(out, index.ravel(), v.ravel())
    else:
        out[index.ravel()] = v.ravel()
    return out.reshape(x.shape)


FINDING = (
    OpRecord("argwhere", lambda draw: (sample(draw.repeated(7)), sample(draw.repeated(2, 3))), np.argwhere, dtypes=DTYPES, exact=True, differentiable=False, method="argwhere"),
    OpRecord("isin", lambda draw: (sample(draw.repeated(7), draw.repeated(2)), sample(draw.repeated(2, 3), draw.repeated(1), invert=True)), np.isin,
             dtypes=NUMBERS, exact=True, differentiable=False),
    OpRecord("searchsorted_rows", _searched, _insertion, lambda torch, *a, **k: torch.searchsorted(*a, **k), dtypes=FLOATS, exact=True, differentiable=False, any_layout=False),
    OpRecord("bucketize", lambda draw: (sample(draw(2, 3), np.sort(draw(5))), sample(draw(4), np.sort(draw(3)), right=True)),
             lambda v, edges, right=False: np.searchsorted(edges, v, "right" if right else "left"), dtypes=FLOATS, exact=True, differentiable=False, any_layout=False,
             errors=(fails(RuntimeError, "1 dimension", np.ones(3), np.ones((2, 2))),)),
    OpRecord("tril_indices", lambda draw: (sample(3, 3), sample(3, 4, -1), sample(2, 3, 1), sample(0, 2)), lambda m, n, k=0: np.stack(np.tril_indices(m, k, n)),
             dtypes=("float32",), exact=True, differentiable=False),
    OpRecord("triu_indices", lambda draw: (sample(3, 3), sample(3, 4, -1), sample(2, 3, 1)), lambda m, n, k=0: np.stack(np.triu_indices(m, k, n)),
             dtypes=("float32",), exact=True, differentiable=False),
    OpRecord("unravel_index", lambda draw: (sample(draw.integers(0, 24, 5), (2, 3, 4)), sample(draw.integers(0, 6, 2, 2), (6,))), np.unravel_index,
             dtypes=("float32",), exact=True, differentiable=False),
)  # fmt: skip

RECORDS = (*REPLACING, *PIECES, *WRITING, *FINDING)
