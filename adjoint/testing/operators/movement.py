"""Records of operators that move elements without computing: shapes, views, joining, repeating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint.testing.operators.record import FLOATS, Draw, OpRecord, fails, sample

DTYPES = ("bool", "int32", *FLOATS)


def calls(*rows: tuple) -> Callable[[Draw], Any]:
    """Rows of (shape, *arguments): one operand of that shape each."""

    def samples(draw: Draw) -> Any:
        for shape, *rest in rows:
            yield sample(draw(*shape), *rest)

    return samples


def _moves(name: str, samples: Any, reference: Any, **more: Any) -> OpRecord:
    more.setdefault("method", name)
    more.setdefault("dtypes", DTYPES)
    return OpRecord(name, samples, reference, exact=True, **more)


def _method(name: str, samples: Any, reference: Any, **more: Any) -> OpRecord:
    """A function that exists only as a Tensor method."""
    more.setdefault("dtypes", DTYPES)
    more.setdefault("exact", True)
    more["covers"] = (name, *more.get("covers", ()))
    return OpRecord(
        "Tensor." + name,
        samples,
        reference,
        lambda torch, x, *a, **k: getattr(x, name)(*a, **k),
        **more,
    )


def lists(*rows: tuple) -> Callable[[Draw], Any]:
    """Rows of (shapes, *arguments): a list of operands each."""

    def samples(draw: Draw) -> Any:
        for shapes, *rest in rows:
            yield sample([draw(*s) for s in shapes], *rest)

    return samples


def _squeeze(x: Any, dim: Any = None) -> Any:
    axes = range(x.ndim) if dim is None else [dim % x.ndim]
    return np.squeeze(x, tuple(a for a in axes if x.shape[a] == 1))


def _flatten(x: Any, start: int = 0, end: int = -1) -> Any:
    start, end = start % max(x.ndim, 1), end % max(x.ndim, 1)
    size = int(np.prod(x.shape[start : end + 1]))
    return x.reshape(x.shape[:start] + (size,) + x.shape[end + 1 :])


def _narrow(x: Any, dim: int, start: int, length: int) -> Any:
    return np.take(x, range(start, start + length), dim)


def _split(x: Any, size: Any, dim: int = 0) -> list[Any]:
    ends = (
        np.cumsum(size)[:-1] if isinstance(size, (list, tuple)) else range(size, x.shape[dim], size)
    )
    return np.split(x, list(ends), dim)


def _chunk(x: Any, n: int, dim: int = 0) -> list[Any]:
    return _split(x, -(-x.shape[dim] // n), dim)


def _windows(x: Any, dim: int, size: int, step: int) -> Any:
    every = np.lib.stride_tricks.sliding_window_view(x, size, dim)
    return np.take(every, range(0, every.shape[dim], step), dim)


def _diag_embed(x: Any, offset: int = 0) -> Any:
    n = x.shape[-1] + abs(offset)
    out = np.zeros((*x.shape[:-1], n, n), x.dtype)
    i = np.arange(x.shape[-1])
    out[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return out


def _padded(x: Any, low: tuple, high: tuple, interior: tuple) -> Any:
    shape = [
        a + (n + (n - 1) * k if n else 0) + b
        for a, n, b, k in zip(low, x.shape, high, interior, strict=True)
    ]
    out = np.zeros(shape, x.dtype)
    out[
        tuple(
            slice(a, a + (n - 1) * (k + 1) + 1 if n else a, k + 1)
            for a, n, k in zip(low, x.shape, interior, strict=True)
        )
    ] = x
    return out


RESHAPING = (
    _moves("reshape", calls(((), (1,)), ((6,), (2, 3)), ((2, 3), (-1,)), ((4, 0, 2), (0, 5)), ((2, 6), (3, -1)), ((3, 5, 7), (7, 15))), np.reshape,
           errors=(fails(RuntimeError, "is invalid for input of size", np.ones(6), (4, 2)), fails(RuntimeError, "only one dimension can be inferred", np.ones(6), (-1, -1)))),
    OpRecord("view_dtype", lambda draw: [sample(draw(*s)) for s in ((4,), (2, 6), (3, 1))], lambda x: x.view(np.int16), lambda torch, x: x.view(torch.int16),
             dtypes=("float32", "int64", "int16", "float64"), differentiable=False, exact=True, any_layout=False, halves=False),
    _method("view", calls(((6,), (2, 3)), ((2, 3), (-1,)), ((2, 3), (6,))), np.reshape, covers=("view_as", "reshape_as"), any_layout=False),
    _moves("ravel", calls(((2, 3),), ((),)), np.ravel, method=""),
    _moves("permute", calls(((2, 3), (1, 0)), ((2, 3, 2), (2, 0, 1)), ((2, 3, 2), (-1, 0, 1)), ((), ()), ((5, 11, 3), (1, 2, 0))), np.transpose,
           errors=(fails(RuntimeError, "number of dimensions", np.ones((2, 3)), (0,)), fails(RuntimeError, "duplicate", np.ones((2, 3)), (0, 0)))),
    _moves("transpose", calls(((2, 3), 0, 1), ((2, 3, 2), -1, 0), ((13, 5), 0, 1)), np.swapaxes, covers=("swapaxes", "swapdims", "transpose_"),
           errors=(fails(IndexError, "Dimension out of range", np.ones((2, 3)), 0, 2),)),
    _moves("movedim", calls(((2, 3, 2), 0, 2), ((2, 3, 2), (0, 1), (1, 0))), np.moveaxis, covers=("moveaxis",)),
    _moves("t", calls(((2, 3),), ((4,),), ((),)), np.transpose, covers=("t_",), errors=(fails(RuntimeError, "<= 2 dimensions", np.ones((1, 1, 1))),)),
    OpRecord("Tensor.T", calls(((2, 3),), ((7, 5),)), np.transpose, lambda torch, x: (x.T, x.mT, x.mH)[0], exact=True, covers=("T", "mT", "H", "mH")),
    _moves("squeeze", calls(((1, 3, 1),), ((1, 3, 1), 0), ((1, 3, 1), -1), ((2, 3), 0)), _squeeze, covers=("squeeze_",)),
    _moves("unsqueeze", calls(((3,), 0), ((3,), -1), ((), 0), ((2, 3), 1)), np.expand_dims, covers=("unsqueeze_",),
           errors=(fails(IndexError, "Dimension out of range", np.ones(3), 3),)),
    _moves("flatten", calls(((2, 3),), ((),), ((2, 1, 3), 1), ((2, 2, 3), 0, 1)), _flatten),
    _moves("unflatten", calls(((6,), 0, (2, 3)), ((2, 6), -1, (3, -1))),
           lambda x, dim, sizes: x.reshape((2, 3) if x.ndim == 1 else (2, 3, 2))),
    _method("expand", calls(((3,), (2, 3)), ((2, 1), (2, 5)), ((1,), (0,)), ((), (2, 2)), ((2, 1), (-1, 3)), ((7, 1), (7, 19))),
            lambda x, sizes: np.broadcast_to(x, [m if n == -1 else n for m, n in zip((0,) * (len(sizes) - x.ndim) + x.shape, sizes, strict=True)]),
            covers=("expand_as",), errors=(fails(RuntimeError, "must match the existing size", np.ones((2, 3)), (2, 4)),)),
    _moves("broadcast_to", calls(((3,), (2, 3)), ((2, 1), (2, 5))), np.broadcast_to),
    OpRecord("broadcast_tensors", lambda draw: (sample(draw(3), draw(2, 1)),), lambda a, b: np.broadcast_arrays(a, b), exact=True, dtypes=FLOATS),
    OpRecord("broadcast_shapes", lambda draw: (sample((2, 1), (1, 3)), sample((), (4,), (2, 1))), lambda *shapes: np.zeros(np.broadcast_shapes(*shapes), "float32"),
             lambda torch, *shapes: torch.zeros(torch.broadcast_shapes(*shapes)), dtypes=("float32",), exact=True, differentiable=False),
    _method("contiguous", calls(((2, 3),)), np.array),
    _moves("clone", calls(((2, 3),), ((0,),)), np.array),
    _moves("detach", calls(((2, 3),), ((0,),)), np.array, differentiable=False),
    _moves("flip", calls(((5,), (0,)), ((2, 3), (0, 1)), ((2, 3), (-1,)), ((0, 2), (0,)), ((3, 17), (1,))), np.flip),
    _moves("narrow", calls(((5,), 0, 1, 3), ((2, 4), 1, 2, 2), ((2, 4), -1, 0, 0)), _narrow,
           errors=(fails(RuntimeError, "exceeds dimension size", np.ones(3), 0, 1, 3),)),
    _moves("select", calls(((2, 3), 0, 1), ((2, 3), 1, -1)), lambda x, dim, i: np.take(x, i, dim), errors=(fails(IndexError, "out of range", np.ones(3), 0, 3),)),
    _moves("diagonal", calls(((3, 3),), ((3, 4), 1), ((3, 4), -1), ((2, 3, 2), 0, 1, 2), ((2, 2), 5)), np.diagonal),
    _moves("diag", calls(((3,),), ((2,), 1), ((3, 3),), ((3, 3), -1)), np.diag, errors=(fails(RuntimeError, "1D or 2D", np.ones((1, 1, 1))),)),
    _moves("diag_embed", calls(((3,),), ((2, 2), 1), ((2, 2), -1)), _diag_embed, method=""),
    _moves("trace", calls(((3, 3),), ((2, 4),)), np.trace, dtypes=FLOATS, errors=(fails(RuntimeError, "expected a matrix", np.ones(3)),)),
    _moves("tril", calls(((3, 3),), ((2, 4), 1), ((2, 2, 2), -1)), np.tril, in_place="tril_"),
    _moves("triu", calls(((3, 3),), ((2, 4), 1), ((2, 2, 2), -1)), np.triu, in_place="triu_"),
    _method("unfold", calls(((7,), 0, 3, 2), ((2, 5), 1, 2, 1), ((5, 2), 0, 2, 3)), _windows, covers=("window",),
            errors=(fails(RuntimeError, "maximum size", np.ones(3), 0, 4, 1),)),
    OpRecord("zero_pad", lambda draw: (sample(draw(2, 3), (1, 0), (0, 2), (0, 1)), sample(draw(0, 2), (1, 0), (2, 0), (1, 0)), sample(draw(3), (0,), (0,), (2,))),
             _padded, lambda torch, *a: torch._pad(*a), exact=True, torch="not public", covers=("place",)),
    OpRecord("window_dilated", calls(*((s, (0, 1), (2, 2), (1, 2), (2, 1)) for s in ((3, 4), (5, 6)))), lambda x, *_: _dilated(x),
             lambda torch, *a: torch._window(*a), exact=True, dtypes=FLOATS, torch="not public"),
)  # fmt: skip


def _dilated(x: Any) -> Any:
    """Windows of 2 x 2 of a matrix, with strides (1, 2) and dilations (2, 1), spelled out."""
    rows, columns = x.shape[0] - 2, (x.shape[1] - 2) // 2 + 1
    return np.array(
        [
            [
                [[x[i + 2 * a, 2 * j + b] for b in range(2)] for a in range(2)]
                for j in range(columns)
            ]
            for i in range(rows)
        ]
    )


def _stack(parts: list, dim: int = 0) -> Any:
    return np.stack(parts, dim)


JOINING = (
    _moves("cat", lists((((2,), (3,)),), (((2, 3), (1, 3)), 0), (((2, 1), (2, 3), (2, 2)), -1), (((0, 2), (3, 2)), 0), (((5, 7), (5, 11)), 1)),
           np.concatenate, method="", covers=("concat", "concatenate"),
           errors=(fails(RuntimeError, "Sizes of tensors must match", [np.ones((2, 3)), np.ones((2, 4))], 0),
                   fails(RuntimeError, "same number of dimensions", [np.ones((2, 3)), np.ones(3)], 0))),
    _moves("stack", lists((((2,), (2,)),), (((2, 3), (2, 3)), 1), (((), ()), 0), (((2,), (2,)), -1)), _stack, method="",
           errors=(fails(RuntimeError, "equal size", [np.ones(2), np.ones(3)]),)),
    _moves("hstack", lists((((2,), (3,)),), (((2, 3), (2, 1)),), (((), ()),)), np.hstack, method=""),
    _moves("vstack", lists((((2,), (2,)),), (((2, 3), (1, 3)),)), np.vstack, method="", covers=("row_stack",)),
    _moves("split", calls(((5,), 2), ((2, 6), [1, 2, 3], 1), ((4, 2), 4)), _split, errors=(fails(RuntimeError, "sum exactly", np.ones(5), [2, 2]),)),
    _moves("chunk", calls(((6,), 3), ((5, 2), 2), ((2, 7), 3, 1)), _chunk),
    _moves("unbind", calls(((3,),), ((2, 3), 1)), lambda x, dim=0: list(np.moveaxis(x, dim, 0))),
    _moves("tile", calls(((3,), (2,)), ((2, 3), (2, 2)), ((2,), (2, 2))), np.tile),
    _method("repeat", calls(((3,), (2,)), ((2, 3), (2, 2)), ((2,), (2, 2)), ((3,), (0,))), np.tile,
            errors=(fails(RuntimeError, "repeat dims", np.ones((2, 3)), (2,)),)),
    _moves("repeat_interleave", calls(((3,), 2), ((2, 3), 2, 1), ((2, 3), 2)), lambda x, n, dim=None: np.repeat(x, n, dim)),
    _moves("roll", calls(((5,), 2), ((2, 3), -1, 1), ((2, 3), 1), ((2, 3), (1, 2), (0, 1))), lambda x, n, dims=None: np.roll(x, n, dims)),
    _moves("meshgrid", lambda draw: (sample(draw(2), draw(3), indexing=i) for i in ("ij", "xy")), lambda a, b, indexing: np.meshgrid(a, b, indexing=indexing),
           method=""),
)  # fmt: skip

def _summed_to(x: Any, shape: tuple) -> Any:
    lead = x.ndim - len(shape)
    axes = tuple(d for d in range(x.ndim) if d < lead or (shape[d - lead] == 1 and x.shape[d] != 1))
    return x.sum(axes).reshape(shape)


_COPIES = tuple(
    _moves(f"{name}_copy", calls((shape, *arguments)), reference, method="", any_layout=name not in ("view", "as_strided"), differentiable=name != "detach")
    for name, shape, arguments, reference in (
        ("alias", (2, 3), (), lambda x: x),
        ("detach", (2, 3), (), lambda x: x),
        ("as_strided", (2, 3), ((2, 2), (1, 2)), lambda x, *rest: np.lib.stride_tricks.as_strided(x.reshape(-1), (2, 2), (x.itemsize, 2 * x.itemsize))),
        ("diagonal", (2, 3), (1,), np.diagonal),
        ("expand", (2, 1), ((4, 2, 3),), np.broadcast_to),
        ("permute", (2, 3, 1), ((2, 0, 1),), np.transpose),
        ("select", (2, 3), (1, 2), lambda x, dim, place: x[:, place]),
        ("slice", (2, 5), (1, 0, 4, 2), lambda x, *rest: x[:, 0:4:2]),
        ("split", (5, 2), (2,), lambda x, size: (x[:2], x[2:4], x[4:])),
        ("split_with_sizes", (2, 3), ([1, 2], 1), lambda x, *rest: (x[:, :1], x[:, 1:])),
        ("squeeze", (1, 3, 1), (), np.squeeze),
        ("t", (2, 3), (), np.transpose),
        ("transpose", (2, 3), (0, 1), np.swapaxes),
        ("unbind", (2, 3), (), tuple),
        ("unfold", (5,), (0, 3, 2), lambda x, *rest: np.stack([x[:3], x[2:]])),
        ("unsqueeze", (2, 3), (1,), np.expand_dims),
        ("view", (2, 3), ((3, 2),), np.reshape),
    )
)

RECORDS = (
    *RESHAPING,
    *JOINING,
    *_COPIES,
    _method("sum_to_size", calls(((2, 3), (2, 1)), ((4, 2, 3), (2, 3)), ((2, 3), (2, 3)), ((2, 3), ())), _summed_to, exact=False, rtol=(1e-6, 1e-13), dtypes=("int64", *FLOATS),
            errors=(fails(RuntimeError, "is not expandable", np.ones((2, 3)), (3, 3)),)),
)
