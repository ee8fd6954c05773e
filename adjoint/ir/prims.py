"""The closed set of primitives: name, kind, result rule.

Everything users call is composed of these. A primitive is one row of `PRIMS`; its NumPy meaning is the row of the
same name in `ir/reference.py`, its derivative a row in `grad/`, its machine code a row in `codegen/`. Start at
`PRIMS` at the end; `Prim.rule` maps operand avals and attributes to the result's aval.

Inside the graph nothing is implicit: pointwise operands have the shape of the result (`expand` and `cast` are nodes
of their own), axes are non-negative, reductions drop their axes, negative steps are `flip`s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType

Shape = tuple[int, ...]
Aval = tuple[Shape, DType]  # what is known of a value without its data


@dataclass(frozen=True, eq=False)
class Prim:
    """One primitive.

    kind: pointwise | create | movement | reduce | scan | contract | index | order | host | tuple | boundary.
    rule: (operand avals, attrs) -> aval, or a tuple of avals for primitives with several results.
    linear: True where the result is linear in its floating-point operands (indices and starts aside).
    exact: True where compiled code and NumPy agree to the bit, so that a cold program may run in either.
    """

    name: str
    kind: str
    rule: Callable[[list[Aval], Any], Any]
    linear: bool = False
    exact: bool = False

    def __repr__(self) -> str:
        return self.name


# --- pointwise rules: all operands share the result's shape -------------------------------------------------------


def _same(args: list[Aval], attrs: Any) -> Aval:
    return args[0]


def _compare(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0], dtypes.bool


def _where(args: list[Aval], attrs: Any) -> Aval:
    return args[1]


def _size(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0], args[0][1].to_real()  # the absolute value of a complex number is real


def _complex(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0], args[0][1].to_complex()


def _as_real(args: list[Aval], attrs: Any) -> Aval:
    return (*args[0][0], 2), args[0][1].to_real()


def _as_complex(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0][:-1], args[0][1].to_complex()


def _reinterpret(args: list[Aval], attrs: tuple[DType, DType]) -> Aval:
    shape, (old, new) = args[0][0], attrs
    if old.itemsize == new.itemsize:
        return shape, new
    return (*shape[:-1], shape[-1] * old.itemsize // new.itemsize), new


def _cast(args: list[Aval], attrs: DType) -> Aval:
    return args[0][0], attrs


# --- creation: attrs carry the result --------------------------------------------------------------------------------


def _boundary(args: list[Aval], attrs: Any) -> Aval:
    return attrs[1], attrs[2]


def _const(args: list[Aval], attrs: Any) -> Aval:
    return (), attrs[1]


def _full(args: list[Aval], attrs: Shape) -> Aval:
    return attrs, args[0][1]


def _iota(args: list[Aval], attrs: int) -> Aval:
    return (attrs,), dtypes.int64


def _random_bits(args: list[Aval], attrs: Shape) -> Aval:
    return attrs, dtypes.int64


# --- movement ---------------------------------------------------------------------------------------------------------


def _to_shape(args: list[Aval], attrs: Shape) -> Aval:
    return attrs, args[0][1]


def _permute(args: list[Aval], attrs: tuple[int, ...]) -> Aval:
    shape, dtype = args[0]
    return tuple(shape[p] for p in attrs), dtype


def _slice(args: list[Aval], attrs: tuple) -> Aval:
    return attrs[1], args[0][1]


def _place(args: list[Aval], attrs: tuple) -> Aval:
    return attrs[0], args[0][1]


def _cat(args: list[Aval], axis: int) -> Aval:
    shape = list(args[0][0])
    shape[axis] = sum(a[0][axis] for a in args)
    return tuple(shape), args[0][1]


def window_length(length: int, size: int, stride: int, dilation: int) -> int:
    """How many windows of `size` elements fit; 0 where none does."""
    return max(0, (length - dilation * (size - 1) - 1) // stride + 1)


def _window(args: list[Aval], attrs: tuple) -> Aval:
    dims, sizes, strides, dilations = attrs
    shape = list(args[0][0])
    for d, n, s, dil in zip(dims, sizes, strides, dilations, strict=True):
        shape[d] = window_length(shape[d], n, s, dil)
    return (*shape, *sizes), args[0][1]


# --- reductions, scans, contractions, indexing --------------------------------------------------------------------


def _reduce(args: list[Aval], axes: tuple[int, ...]) -> Aval:
    shape, dtype = args[0]
    return tuple(n for i, n in enumerate(shape) if i not in axes), dtype


def _arg_reduce(args: list[Aval], axis: int) -> Aval:
    shape = args[0][0]
    return shape[:axis] + shape[axis + 1 :], dtypes.int64


def _matmul(args: list[Aval], attrs: Any) -> Aval:
    (a, dtype), (b, _) = args
    return (*a[:-1], b[-1]), dtype


def spread_length(length: int, step: int) -> int:
    """The length of an axis whose elements are moved `step` apart."""
    return (length - 1) * step + 1 if length else 0


def _convolve(args: list[Aval], attrs: tuple) -> Aval:
    strides, lo, hi, steps, dilations, _ = attrs
    ((n, _, *sizes), dtype), ((outputs, _, *kernel), _) = args[:2]
    padded = [spread_length(size, step) + a + b for size, step, a, b in zip(sizes, steps, lo, hi, strict=True)]
    positions = map(window_length, padded, kernel, strides, dilations)
    return (n, outputs, *positions), dtype


def _attention(args: list[Aval], attrs: bool) -> tuple[Aval, ...]:
    (query, dtype), _, (value, _) = args[:3]
    return ((*query[:-1], value[-1]), dtype), (query[:-1], dtype)


def _attention_backward(args: list[Aval], attrs: bool) -> tuple[Aval, ...]:
    return args[1], args[2], args[3]


def _take(args: list[Aval], attrs: Any) -> Aval:
    (x, dtype), (index, _) = args
    return (*index, *x[1:]), dtype


def _put_add(args: list[Aval], n: int) -> Aval:
    (index, _), (values, dtype) = args
    return (n, *values[len(index) :]), dtype


def _position(args: list[Aval], attrs: tuple[int, bool, int]) -> Aval:
    return args[0][0], dtypes.int64


def _argsort(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0], dtypes.int64


def _argselect(args: list[Aval], attrs: tuple[int, bool, int, int]) -> Aval:
    axis, _, start, stop = attrs
    shape = args[0][0]
    return (*shape[:axis], stop - start, *shape[axis + 1 :]), dtypes.int64


# --- Fourier transforms -----------------------------------------------------------------------------------------------


def _rfft(args: list[Aval], attrs: tuple[int, float]) -> Aval:
    shape, dtype = args[0]
    axis = attrs[0]
    return (*shape[:axis], shape[axis] // 2 + 1, *shape[axis + 1 :]), dtype.to_complex()


def _irfft(args: list[Aval], attrs: tuple[int, int, float]) -> Aval:
    shape, dtype = args[0]
    axis, n, _ = attrs
    return (*shape[:axis], n, *shape[axis + 1 :]), dtype.to_real()


# --- decompositions (batched over leading axes) ----------------------------------------------------------------------


def _det(args: list[Aval], attrs: Any) -> Aval:
    return args[0][0][:-2], args[0][1]


def _slogdet(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = _det(args, attrs)
    return (shape, dtype), (shape, dtype.to_real())


def _solve(args: list[Aval], attrs: Any) -> Aval:
    return args[1]


def _qr(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = args[0]
    *batch, m, n = shape
    k = min(m, n)
    return ((*batch, m, k), dtype), ((*batch, k, n), dtype)


def _lu(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = args[0]
    *batch, m, n = shape
    return (shape, dtype), ((*batch, min(m, n)), dtypes.int32), ((*batch, m), dtypes.int64)


def _row_order(args: list[Aval], m: int) -> Aval:
    return (*args[0][0][:-1], m), dtypes.int64


def _eigh(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = args[0]
    return (shape[:-1], dtype.to_real()), (shape, dtype)


def _eig(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = args[0]
    return (shape[:-1], dtype.to_complex()), (shape, dtype.to_complex())


def _svd(args: list[Aval], attrs: Any) -> tuple[Aval, ...]:
    shape, dtype = args[0]
    *batch, m, n = shape
    k = min(m, n)
    return ((*batch, m, k), dtype), ((*batch, k), dtype.to_real()), ((*batch, k, n), dtype)


def _pick(args: list[Any], attrs: int) -> Aval:
    return args[0][attrs]


IMAGINARY = 1 << 40  # a `scalar` node with this added to its index is the imaginary part of that run-time number

PRIMS: dict[str, Prim] = {}
_MOVES = frozenset("cast where take put".split())  # like movement and creation: no arithmetic on elements


def calculates(prim: str) -> bool:
    """Whether a primitive does arithmetic on its elements: on halves it is done in float32, and the result rounded."""
    return PRIMS[prim].kind not in ("boundary", "create", "movement") and prim not in _MOVES


def _declare(kind: str, names: str, rule: Callable, linear: bool = False, exact: bool = False) -> None:
    for name in names.split():
        PRIMS[name] = Prim(name, kind, rule, linear, exact)


# input: attrs (index, shape, dtype).  scalar: a run-time 64-bit word, attrs (index, (), dtype).  const: attrs (value, dtype).
_declare("boundary", "input scalar", _boundary, exact=True)
_declare("create", "const", _const, exact=True)
_declare("create", "full", _full, linear=True, exact=True)  # operand: 0-d value; attrs: shape
_declare("create", "iota", _iota, exact=True)  # 0, 1, ... n-1 as int64; attrs: n
_declare("create", "random_bits", _random_bits, exact=True)  # operands seed, offset (0-d int64); attrs: shape

_declare("pointwise", "neg", _same, linear=True, exact=True)
_declare("pointwise", "abs", _size, exact=True)
_declare("pointwise", "sign sqrt floor ceil round trunc relu bitwise_not", _same, exact=True)
_declare("pointwise", "rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh", _same)
_declare("pointwise", "asinh acosh atanh sigmoid erf erfc erfinv lgamma digamma", _same)
_declare("pointwise", "logical_not isnan isinf", _compare, exact=True)
_declare("pointwise", "cast", _cast, linear=True, exact=True)  # attrs: dtype
_declare("pointwise", "integer_pow", _same)  # attrs: exponent, a Python int; multiplications by squaring
_declare("pointwise", "add sub", _same, linear=True, exact=True)
_declare("pointwise", "mul div maximum minimum", _same, exact=True)
_declare("pointwise", "floor_div remainder fmod pow atan2", _same)
_declare("pointwise", "bitwise_and bitwise_or bitwise_xor shift_left shift_right", _same, exact=True)
_declare("pointwise", "eq ne lt le gt ge", _compare, exact=True)
_declare("pointwise", "where", _where, linear=True, exact=True)  # condition (bool), then, otherwise

_declare("pointwise", "real imag", _size, linear=True, exact=True)  # of a complex operand
_declare("pointwise", "conj", _same, linear=True, exact=True)
_declare("pointwise", "complex", _complex, linear=True, exact=True)  # real part, imaginary part

_declare("movement", "expand", _to_shape, linear=True, exact=True)  # attrs: shape; right-aligned broadcasting
_declare("movement", "reshape", _to_shape, linear=True, exact=True)  # attrs: shape
_declare("movement", "permute", _permute, linear=True, exact=True)  # attrs: result axis i is operand axis attrs[i]
_declare("movement", "flip", _same, linear=True, exact=True)  # attrs: axes
# slice: attrs (starts, sizes, steps); a start of None is the next 0-d int64 operand; steps >= 1.
_declare("movement", "slice", _slice, linear=True, exact=True)
# place: zeros of attrs[0] with the operand written at (starts, steps): the transpose of slice, and zero padding.
_declare("movement", "place", _place, linear=True, exact=True)
# slice_update: operand 0 with operand 1 written at attrs (starts, steps).
_declare("movement", "slice_update", _same, linear=True, exact=True)
_declare("movement", "cat", _cat, linear=True, exact=True)  # attrs: axis
_declare("movement", "window", _window, linear=True, exact=True)  # attrs: (dims, sizes, strides, dilations)

_declare("movement", "as_real", _as_real, linear=True, exact=True)  # a complex number as two real ones, on a last axis
_declare("movement", "as_complex", _as_complex, linear=True, exact=True)

_declare("reduce", "sum", _reduce, linear=True)  # attrs: axes, increasing
_declare("reduce", "prod", _reduce)
_declare("reduce", "amax amin", _reduce, exact=True)  # NaN wins; on bool these are any and all
_declare("reduce", "argmax argmin", _arg_reduce, exact=True)  # attrs: one axis; first of equals; NaN wins
_declare("scan", "cumsum", _same, linear=True)  # attrs: axis
_declare("scan", "cumprod", _same)
_declare("scan", "cummax cummin", _same, exact=True)  # NaN wins
_declare("scan", "recurrence", _same)  # operands a, b: y[i] = a[i] * y[i - 1] + b[i], with y[-1] = 0; attrs: axis
_declare("contract", "matmul", _matmul)  # (B..., m, k) with (B..., k, n), equal batch axes
# convolve: x (N, G C, *L), its elements moved `steps` apart and padded by lo and hi zeros (less than none: cropped), with
# w (G O, C, *K), and where given a number for each output channel; attrs (strides, lo, hi, steps, dilations, groups G).
# y[n, g, o, p] = sum over c and k of w[g, o, c, k] x[n, g, c, p stride + k dilation - lo]. Both its derivatives are
# convolutions, too.
_declare("contract", "convolve", _convolve)
# attention: softmax(Q K^T + mask) V of query (B..., L, E), key (B..., S, E), value (B..., S, V) and, where given, a mask
# (B..., L, S), added or (bool) true where a key is seen; attrs: whether query i sees only keys up to i. The second result
# is the logarithm of each row's sum of exponentials; rows that see nothing are 0 in both. attention_backward: cotangents of
# query, key and value, given that of the output, query, key, value, those logarithms and, for each row, what is taken from
# the cotangents of its weights (the sum of output times cotangent, less the cotangent of the logarithm), then the mask.
_declare("tuple", "attention", _attention)
_declare("tuple", "attention_backward", _attention_backward)

# position: an index into an axis of length n as counted from the front, or an IndexError when run; attrs (n, whether
# negative ones count from the end, which axis the message names: -1 for a flattened tensor).
_declare("index", "position", _position, exact=True)
# take: operand[index] on axis 0; negative indices count from the end; out of range raises IndexError when run.
_declare("index", "take", _take, linear=True, exact=True)
_declare("index", "put_add", _put_add, linear=True)  # zeros(n, ...) with values added at index; attrs: n
_declare("index", "put", _same, linear=True, exact=True)  # operand 0 with values (2) written at index (1), last wins

_declare("order", "argsort", _argsort, exact=True)  # attrs: (axis, descending); stable; NaN is the largest
# argselect: argsort from start to stop along the axis, without sorting the rest; attrs: (axis, descending, start, stop).
_declare("order", "argselect", _argselect, exact=True)

# put_fold: operand 0 with values (2) folded into it at index (1); attrs: prod, amax or amin.
_declare("host", "put_fold", _same)

# Fourier transforms of N elements, the result divided by N ** power (0.0, 0.5 or 1.0). fft: of complex numbers, attrs (axes,
# inverse, power). rfft: of real numbers along one axis, whose first n // 2 + 1 frequencies it gives, attrs (axis, power).
# irfft: the n real numbers of which its operand, n // 2 + 1 long, would be the frequencies, attrs (axis, n, power).
_declare("host", "fft", _same, linear=True, exact=True)
_declare("host", "rfft", _rfft, linear=True, exact=True)
_declare("host", "irfft", _irfft, linear=True, exact=True)

_declare("host", "inv cholesky", _same, exact=True)
_declare("host", "solve", _solve, exact=True)  # A (B..., n, n), b (B..., n, k)
_declare("host", "det", _det, exact=True)
_declare("tuple", "slogdet", _slogdet, exact=True)
_declare("tuple", "qr", _qr, exact=True)
# lu: L below the diagonal of U, with which row (from 1) each row was exchanged, and where the rows of L U are in the operand;
# attrs: whether a 0 on the diagonal of U is an error. row_order: the last of these from the second; attrs: how many rows.
_declare("tuple", "lu", _lu, exact=True)
_declare("host", "row_order", _row_order, exact=True)
_declare("host", "reinterpret", _reinterpret, exact=True)  # the same memory as another dtype; attrs: the dtypes before and after
_declare("tuple", "eigh", _eigh, exact=True)
_declare("tuple", "eig", _eig, exact=True)
_declare("tuple", "svd", _svd, exact=True)
_declare("movement", "pick", _pick, linear=True, exact=True)  # attrs: which result of a primitive with several
