"""Records of indexing: reading and writing with slices, masks and integer tensors, the gather family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.testing.operators.record import FLOATS, Draw, OpRecord, fails, sample

DTYPES = ("bool", "int32", *FLOATS)

# Basic and advanced indices, with the shape they are applied to.
INDICES: tuple[tuple[tuple[int, ...], Any], ...] = (
    ((5,), 2),
    ((5,), -1),
    ((5,), slice(1, 4)),
    ((5,), slice(None, None, 2)),
    ((5,), slice(4, 1)),
    ((3, 4), 1),
    ((3, 4), (1, 2)),
    ((3, 4), (slice(None), 1)),
    ((3, 4), (slice(1, 3), slice(0, 4, 2))),
    ((3, 4), (Ellipsis, -1)),
    ((3, 4), (None, 1)),
    ((2, 3, 2), (0, Ellipsis, 1)),
    ((0, 3), slice(None)),
    ((), ()),
    ((5,), np.array([3, 0, 3])),
    ((5,), np.array([[1, -1], [0, 2]])),
    ((3, 4), np.array([2, 0])),
    ((3, 4), (slice(None), np.array([2, 0, 1]))),
    ((3, 4), (np.array([0, 2]), np.array([1, 3]))),
    ((3, 4), (np.array([[0], [2]]), np.array([1, 3]))),
    ((2, 3, 2), (slice(None), np.array([1, 2]), 0)),
    ((2, 3, 2), (np.array([0, 1]), slice(None), np.array([1, 0]))),
    ((5,), np.array([True, False, True, True, False])),
    ((2, 3), np.array([[True, False, True], [False, False, True]])),
    ((2, 3), (np.array([True, False]), slice(None))),
    ((2, 3), (slice(None), [2, 0])),
    ((4,), np.array([], dtype="int64")),
    ((13, 7), (slice(None), np.array([6, 0, 3, 3, 1]))),
)  # fmt: skip


class Fixed:
    """An index that is part of the call and not an operand: its arrays become index tensors in `read`."""

    def __init__(self, index: Any) -> None:
        self.index = index

    def of(self, torch: Any) -> Any:
        items = self.index if isinstance(self.index, tuple) else (self.index,)
        made = tuple(torch.tensor(i) if isinstance(i, np.ndarray) else i for i in items)
        return made if isinstance(self.index, tuple) else made[0]


def read(torch: Any, x: Any, index: Fixed) -> Any:
    return x[index.of(torch)]


def write(torch: Any, x: Any, index: Fixed, value: Any) -> Any:
    out = x.clone()
    out[index.of(torch)] = value
    return out


def _written(x: Any, index: Fixed, value: Any) -> Any:
    out = x.copy()
    out[index.index] = value
    return out


def reads(draw: Draw) -> Any:
    return (sample(draw(*shape), Fixed(index)) for shape, index in INDICES)


def writes(draw: Draw) -> Any:
    for shape, index in INDICES:
        x = draw(*shape)
        part = x[index]
        if (
            isinstance(index, np.ndarray)
            and index.dtype.kind == "i"
            and index.size != len({i % 5 for i in index.ravel()})
        ):
            continue  # a place written twice keeps either value
        yield sample(x, Fixed(index), 1)
        if part.shape == () or part.size:
            yield sample(draw(*shape), Fixed(index), draw(*part.shape))


def _index_error(
    fragment: str, shape: tuple, index: Any, kind: type[Exception] = IndexError
) -> Any:
    return fails(kind, fragment, np.ones(shape), Fixed(index))


def _along(draw: Draw) -> Any:
    yield sample(draw(5), 0, draw.integers(0, 5, 3))
    yield sample(draw(2, 3), 1, draw.integers(0, 3, 2, 4))
    yield sample(draw(2, 3), 0, draw.integers(0, 2, 2, 3))
    yield sample(draw(3, 4), -1, draw.integers(0, 4, 2, 2))
    yield sample(draw(7, 5), 0, draw.integers(0, 7, 11, 5))


def _gather(x: Any, dim: int, index: Any) -> Any:
    dim %= x.ndim
    cut = tuple(slice(None) if d == dim else slice(0, n) for d, n in enumerate(index.shape))
    return np.take_along_axis(x[cut], index, dim)


def _scattered(draw: Draw) -> Any:
    """Indices without repetition along the axis, so that the result does not depend on an order."""
    for shape, dim, count in (((5,), 0, 3), ((2, 3), 1, 2), ((3, 2), 0, 3), ((7, 5), 0, 4)):
        target = list(shape)
        target[dim] = count
        lines = [
            draw.random.permutation(shape[dim])[:count]
            for _ in range(int(np.prod(target)) // count)
        ]
        moved = [n for d, n in enumerate(target) if d != dim]
        index = np.moveaxis(np.array(lines).reshape(*moved, count), -1, dim)
        yield sample(draw(*shape), dim, np.ascontiguousarray(index), draw(*target))


def _put(accumulate: bool) -> Callable[..., Any]:
    def reference(x: Any, dim: int, index: Any, source: Any) -> Any:
        out = x.copy()
        for at in np.ndindex(index.shape):
            to = (*at[:dim], index[at], *at[dim + 1 :])
            out[to] = out[to] + source[at] if accumulate else source[at]
        return out

    return reference


def _repeated(draw: Draw) -> Any:
    yield sample(draw(5), 0, draw.integers(0, 5, 8), draw(8))
    yield sample(draw(2, 3), 1, draw.integers(0, 3, 2, 4), draw(2, 4))
    yield sample(draw(3, 2), 0, draw.integers(0, 3, 2, 2), draw(2, 2))


def _slices(draw: Draw) -> Any:
    yield sample(draw(5), 0, np.array([4, 0, 2]), draw(3))
    yield sample(draw(3, 2), 0, np.array([2, 0]), draw(2, 2))
    yield sample(draw(2, 3), 1, np.array([1, 2]), draw(2, 2))


def _sliced(accumulate: bool) -> Callable[..., Any]:
    def reference(x: Any, dim: int, index: Any, source: Any) -> Any:
        out = np.moveaxis(x.copy(), dim, 0)
        source = np.moveaxis(
            np.broadcast_to(source, [len(index) if d == dim else n for d, n in enumerate(x.shape)]),
            dim,
            0,
        )
        for k, i in enumerate(index):
            out[i] = out[i] + source[k] if accumulate else source[k]
        return np.moveaxis(out, 0, dim)

    return reference


def _masked(draw: Draw) -> Any:
    for shape, mask in (
        ((), ()),
        ((5,), (5,)),
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((0,), (0,)),
        ((41,), (41,)),
    ):
        yield sample(draw(*shape), draw.mask(*mask), 1.5 if draw.dtype.kind == "f" else 1)


def _where_true(x: Any, mask: Any) -> Any:
    shape = np.broadcast_shapes(x.shape, mask.shape)
    return np.broadcast_to(x, shape)[np.broadcast_to(mask, shape)]


def _filled(x: Any, mask: Any, source: Any) -> Any:
    out = x.copy()
    out[mask] = source.ravel()[: int(mask.sum())]
    return out


RECORDS = (
    OpRecord("getitem", reads, lambda x, i: x[i.index], read, dtypes=DTYPES, exact=True, covers=("__getitem__",),
             errors=(
                 _index_error("out of bounds", (3,), 3), _index_error("out of bounds", (3,), -4), _index_error("too many indices", (3,), (0, 0)),
                 _index_error("does not match the shape", (3,), np.array([True, False])), _index_error("0-dim", (), 0),
                 _index_error("indices", (3,), 1.5), _index_error("long, int, byte or bool", (3,), np.array([0.5])),
                 _index_error("step must be greater than zero", (3,), slice(None, None, -1), ValueError),
             )),
    OpRecord("setitem", writes, _written, write, dtypes=DTYPES, exact=True, covers=("__setitem__", "slice_update", "put"),
             errors=(fails(RuntimeError, "shape mismatch", np.ones(5), Fixed(slice(0, 2)), np.ones(3)),)),
    OpRecord("gather", _along, _gather, dtypes=DTYPES, exact=True, method="gather",
             errors=(fails(RuntimeError, "same number of dimensions", np.ones((2, 3)), 0, np.array([0])),
                     fails(RuntimeError, "int64", np.ones(3), 0, np.array([0.5])), fails(IndexError, "Dimension out of range", np.ones(3), 1, np.array([0])))),
    OpRecord("take_along_dim", lambda draw: (sample(draw(2, 3), draw.integers(0, 3, 2, 2), 1), sample(draw(2, 3), draw.integers(0, 3, 1, 2), 1),
                                             sample(draw(2, 3), draw.integers(0, 6, 4))),
             lambda x, i, dim=None: np.take_along_axis(x, i, dim), exact=True, method="take_along_dim"),
    OpRecord("index_select", lambda draw: (sample(draw(5), 0, draw.integers(0, 5, 3)), sample(draw(2, 3), 1, draw.integers(0, 3, 4)), sample(draw(3, 2), 0, np.array([], "int64"))),
             lambda x, dim, i: np.take(x, i, dim), dtypes=DTYPES, exact=True, method="index_select",
             errors=(fails(IndexError, "vector", np.ones(3), 0, np.zeros((2, 2), "int64")),)),
    OpRecord("take", lambda draw: (sample(draw(5), draw.integers(-5, 5, 3)), sample(draw(2, 3), draw.integers(0, 6, 2, 2))), lambda x, i: np.take(x, i),
             dtypes=DTYPES, exact=True, method="take"),
    OpRecord("scatter", _scattered, _put(False), dtypes=DTYPES, exact=True, method="scatter", in_place="scatter_"),
    OpRecord("scatter_value", lambda draw: (sample(draw(5), 0, np.array([1, 3]), 2.5),), lambda x, dim, i, v: _put(False)(x, dim, i, np.full(i.shape, v)),
             lambda torch, x, dim, i, v: torch.scatter(x, dim, i, v), exact=True),
    OpRecord("scatter_add", _repeated, _put(True), dtypes=("int32", *FLOATS), method="scatter_add", in_place="scatter_add_"),
    OpRecord("index_add", _slices, _sliced(True), dtypes=("int32", *FLOATS), method="index_add", in_place="index_add_"),
    OpRecord("index_add_repeated", lambda draw: (sample(draw(3, 2), 0, np.array([1, 1, 0]), draw(3, 2)),), _sliced(True), lambda torch, *a: torch.index_add(*a)),
    OpRecord("index_copy", _slices, _sliced(False), dtypes=DTYPES, exact=True, method="index_copy", in_place="index_copy_"),
    OpRecord("index_fill", lambda draw: (sample(draw(5), 0, np.array([4, 0]), 2.0), sample(draw(2, 3), 1, np.array([1]), 2.0)), _sliced(False), exact=True,
             method="index_fill", in_place="index_fill_", errors=(fails(IndexError, "int64", np.ones(3), 0, np.array([1], "int32"), 1.0),)),
    OpRecord("index_fill_tensor", lambda draw: (sample(draw(5), 0, np.array([4, 0, 4]), draw()), sample(draw(2, 3), 1, np.array([1, 1]), draw())), _sliced(False),
             lambda torch, *a: torch.index_fill(*a), exact=True),
    OpRecord("Tensor.index_put", lambda draw: (sample(draw(5), (np.array([3, 0]),), draw(2)), sample(draw(2, 3), (np.array([1, 0]), np.array([2, 1])), draw(2)),
                                            sample(draw(3, 2), (np.array(1),), draw(2)), sample(draw(3, 2), (np.array([0, 1]), np.array(1)), draw(2)),
                                            sample(draw(3, 2), (np.array(-1), np.array(0)), draw())),
             lambda x, i, v: _written(x, Fixed(i), v), lambda torch, x, i, v: x.index_put(i, v), exact=True, covers=("index_put", "index_put_")),
    OpRecord("index_put_accumulate", lambda draw: (sample(draw(5), (np.array([3, 3, 0]),), draw(3)),), lambda x, i, v: _sliced(True)(x, 0, i[0], v),
             lambda torch, x, i, v: x.index_put(i, v, accumulate=True), covers=("put_add",)),
    OpRecord("masked_fill", _masked, lambda x, m, v: np.where(m, np.array(v, x.dtype), x), dtypes=DTYPES, exact=True, method="masked_fill", in_place="masked_fill_",
             errors=(fails(RuntimeError, "boolean mask", np.ones(3), np.ones(3), 1.0),)),
    OpRecord("masked_select", lambda draw: (sample(draw(5), draw.mask(5)), sample(draw(2, 3), draw.mask(2, 3)), sample(draw(2, 3), draw.mask(3))), _where_true,
             dtypes=DTYPES, exact=True, method="masked_select", errors=(fails(RuntimeError, "BoolTensor", np.ones(3), np.ones(3, "int64")),)),
    OpRecord("masked_scatter", lambda draw: (sample(draw(5), draw.mask(5), draw(5)), sample(draw(2, 3), draw.mask(2, 3), draw(6))), _filled, exact=True,
             method="masked_scatter", in_place="masked_scatter_"),
    OpRecord("nonzero", lambda draw: (sample(draw.repeated(7)), sample(draw.repeated(2, 3))), lambda x: np.stack(np.nonzero(x), 1), dtypes=DTYPES, exact=True,
             differentiable=False, method="nonzero"),
    OpRecord("where_indices", lambda draw: (sample(draw.mask(7)), sample(draw.mask(2, 3))), np.nonzero, lambda torch, m: torch.where(m), dtypes=("float32",),
             exact=True, differentiable=False),
)  # fmt: skip
