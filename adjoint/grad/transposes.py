"""Linear primitives: how a cotangent travels back. The forward derivative of each is the primitive itself.

`TRANSPOSES[prim](g, step)` returns one cotangent per operand (None where there is none). `step` gives operand handles
(`args`), their shapes and the attributes; index operands and run-time starts get None.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from adjoint.grad.convolution import convolve_forward, convolve_reverse
from adjoint.ops.complex_numbers import conj
from adjoint.ops.elementwise import cast, where
from adjoint.ops.rearrange import window
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import record

Cotangents = tuple[Tensor | None, ...]


def sum_to(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Add up what broadcasting had spread: the one place where gradients are reduced to an operand's shape."""
    have = tuple(g._aval.shape)
    if have == shape:
        return g
    lead = len(have) - len(shape)
    axes = tuple(i for i, n in enumerate(have) if i < lead or (shape[i - lead] == 1 and n != 1))
    out = record("sum", (g,), axes) if axes else g
    return out if tuple(out._aval.shape) == shape else record("reshape", (out,), shape)


def zeros(x: Tensor) -> Tensor:
    return record("full", (0.0,), (tuple(x._aval.shape), x._aval.dtype))


def _sum(g: Tensor, args: tuple, axes: tuple) -> Cotangents:
    shape = tuple(args[0]._aval.shape)
    kept = record("reshape", (g,), tuple(1 if i in axes else n for i, n in enumerate(shape)))
    return (record("expand", (kept,), shape),)


def _expand(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    return (sum_to(g, tuple(args[0]._aval.shape)),)


def _reshape(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    return (record("reshape", (g,), tuple(args[0]._aval.shape)),)


def inverse_order(perm: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def _slice(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    starts, _, steps = attrs
    x, *dynamic = args
    back = record("place", (g, *dynamic), (tuple(x._aval.shape), starts, steps))
    return back, *(None for _ in dynamic)


def _place(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    _, starts, steps = attrs
    x, *dynamic = args
    return record("slice", (g, *dynamic), (starts, tuple(x._aval.shape), steps)), *(None for _ in dynamic)


def _slice_update(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    starts, steps = attrs
    _, value, *dynamic = args
    rest = record("slice_update", (g, zeros(value), *dynamic), attrs)
    part = record("slice", (g, *dynamic), (starts, tuple(value._aval.shape), steps))
    return rest, part, *(None for _ in dynamic)


def _cat(g: Tensor, args: tuple, axis: int) -> Cotangents:
    out, start = [], 0
    for x in args:
        shape = tuple(x._aval.shape)
        starts = tuple(start if d == axis else 0 for d in range(len(shape)))
        out.append(record("slice", (g,), (starts, shape, (1,) * len(shape))))
        start += shape[axis]
    return tuple(out)


def _window(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    """Every position of the window contributes its elements, spread out again to where they came from."""
    dims, sizes, strides, dilations = attrs
    shape = tuple(args[0]._aval.shape)
    rank = len(shape)
    counts = tuple(g._aval.shape[:rank])
    total: Tensor | None = None
    for offset in itertools.product(*(range(n) for n in sizes)):
        part = record(
            "slice", (g,), ((*(0,) * rank, *offset), (*counts, *(1,) * len(sizes)), (1,) * (rank + len(sizes)))
        )
        part = record("reshape", (part,), counts)
        starts, steps = [0] * rank, [1] * rank
        for d, o, s, dil in zip(dims, offset, strides, dilations, strict=True):
            starts[d], steps[d] = o * dil, s
        spread = record("place", (part,), (shape, tuple(starts), tuple(steps)))
        total = spread if total is None else total + spread
    return (total if total is not None else zeros(args[0]),)


def _take(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    x, index = args
    return record("put_add", (index, g), x._aval.shape[0]), None


def _put_add(g: Tensor, args: tuple, n: int) -> Cotangents:
    return None, record("take", (g, args[0]))


def _put(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    _, index, values = args
    return record("put", (g, index, zeros(values))), None, record("take", (g, index))


def _cumsum(g: Tensor, args: tuple, axis: int) -> Cotangents:
    return (record("flip", (record("cumsum", (record("flip", (g,), (axis,)),), axis),), (axis,)),)


def swap(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    rank = len(x._aval.shape)
    return record("permute", (x,), (*range(rank - 2), rank - 1, rank - 2))


def _matmul(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    a, b = args
    return (
        record("matmul", (g, conj(swap(b)))) if a._aval.requires_grad else None,
        record("matmul", (conj(swap(a)), g)) if b._aval.requires_grad else None,
    )


def _complex(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    parts = record("real", (g,)), record("imag", (g,))
    return tuple([sum_to(part, tuple(x._aval.shape)) for part, x in zip(parts, args, strict=True)])


def _imag(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    return (record("complex", (zeros(g), g)),)


def _rfft(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    """Each frequency that has a twin reaches an element once, but `irfft` counts it twice."""
    axis, power = attrs
    n = args[0]._aval.shape[axis]
    return (record("irfft", (_weighted(g, axis, n, 0.5),), (axis, n, power)),)


def _irfft(g: Tensor, args: tuple, attrs: tuple) -> Cotangents:
    axis, n, power = attrs
    return (_weighted(record("rfft", (g,), (axis, power)), axis, n, 2.0),)


def _weighted(x: Tensor, axis: int, n: int, weight: float) -> Tensor:
    """Frequencies of n real numbers, times `weight` where they stand for two: all but 0 and, for an even n, n / 2."""
    k = record("iota", (), n // 2 + 1)
    factors = where((k == 0) | (k * 2 == n), 1.0, weight)
    shape = tuple(n // 2 + 1 if d == axis else 1 for d in range(len(x._aval.shape)))
    return x * record("reshape", (cast(factors, x._aval.dtype.to_real()),), shape)


def _where(g: Tensor, args: tuple, attrs: Any) -> Cotangents:
    condition = args[0]
    return None, where(condition, g, 0.0), where(condition, 0.0, g)


TRANSPOSES: dict[str, Callable[[Tensor, tuple, Any], Cotangents]] = {
    "sum": _sum,
    "expand": _expand,
    "reshape": _reshape,
    "permute": lambda g, args, perm: (record("permute", (g,), inverse_order(perm)),),
    "flip": lambda g, args, axes: (record("flip", (g,), axes),),
    "slice": _slice,
    "place": _place,
    "slice_update": _slice_update,
    "cat": _cat,
    "window": _window,
    "take": _take,
    "put_add": _put_add,
    "put": _put,
    "cumsum": _cumsum,
    "matmul": _matmul,
    "convolve": convolve_reverse,
    "where": _where,
    "cast": lambda g, args, dtype: (cast(g, args[0]._aval.dtype),),
    "full": lambda g, args, attrs: (sum_to(g, ()),),
    "real": lambda g, args, attrs: (cast(g, args[0]._aval.dtype),),
    "imag": _imag,
    "conj": lambda g, args, attrs: (conj(g),),
    "complex": _complex,
    "as_real": lambda g, args, attrs: (record("as_complex", (g,)),),
    "as_complex": lambda g, args, attrs: (record("as_real", (g,)),),
    "fft": lambda g, args, attrs: (record("fft", (g,), (attrs[0], not attrs[1], attrs[2])),),
    "rfft": _rfft,
    "irfft": _irfft,
    "clone": lambda g, args, attrs: (g,),
    "custom": lambda g, args, attrs: (g,),
    "override": lambda g, args, attrs: (g, None),
}


# --- forward: the primitive itself, on tangents -----------------------------------------------------------------------


def forward_linear(prim: str, tangents: tuple, args: tuple, attrs: Any) -> Tensor | None:
    """The tangent of a linear primitive: applied to the tangents of its real operands, indices and starts unchanged."""
    if all(t is None for t in tangents):
        return None
    if prim in ("clone", "custom"):
        return tangents[0]
    if prim == "override":
        return tangents[0]
    if prim == "matmul":
        a, b = args
        ta, tb = tangents
        left = None if ta is None else record("matmul", (ta, b))
        right = None if tb is None else record("matmul", (a, tb))
        return left if right is None else right if left is None else left + right
    if prim == "convolve":
        return convolve_forward(tangents, args, attrs)
    if prim == "where":
        condition, x, y = args
        tx = 0.0 if tangents[1] is None else tangents[1]
        ty = 0.0 if tangents[2] is None else tangents[2]
        return where(condition, tx, ty)
    if prim == "full":
        shape, dtype = attrs
        return record("expand", (cast(tangents[0], dtype),), shape)
    real = {"slice": 1, "place": 1, "slice_update": 2}.get(prim)
    operands = []
    for k, (t, x) in enumerate(zip(tangents, args, strict=True)):
        is_index = (prim == "take" and k == 1) or (prim == "put_add" and k == 0) or (prim == "put" and k == 1)
        if is_index or (real is not None and k >= real):
            operands.append(x)
        else:
            operands.append(zeros(x) if t is None else t)
    return record(prim, tuple(operands), attrs)


__all__ = ["TRANSPOSES", "forward_linear", "sum_to", "swap", "window", "zeros"]
