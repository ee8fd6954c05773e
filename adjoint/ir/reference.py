"""What each primitive means, in NumPy: the oracle for everything compiled.

`REFERENCE[name](arrays, attrs)` takes a list of NumPy arrays and returns one array (a tuple for primitives with
several results). `run_graph` interprets a whole graph. Rows are grouped as in `ir/prims.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from adjoint import dtypes
from adjoint.ir.graph import Graph, Node
from adjoint.ir.prims import IMAGINARY, spread_length, window_length
from adjoint.storage import decode, encode, round_to

Arrays = list[Any]


def _vectorized(function: Callable[[float], float]) -> Callable:
    def apply(a: Arrays, attrs: Any) -> np.ndarray:
        flat = [*map(function, a[0].astype(np.float64, copy=False).ravel().tolist())]
        return np.array(flat, dtype=a[0].dtype).reshape(a[0].shape)

    return apply


def _lgamma(x: float) -> float:
    if x != x or math.isinf(x):
        return x if x != x else math.inf
    if x <= 0 and x == math.floor(x):
        return math.inf
    return math.lgamma(x)


def digamma(x: float) -> float:
    """Reflection for negatives, recurrence up to 10, then the asymptotic series (Abramowitz and Stegun 6.3.18)."""
    if x != x or x == -math.inf:
        return math.nan
    if x == 0:
        return math.copysign(math.inf, -x)
    if x == math.inf:
        return x
    if x < 0:
        if x == math.floor(x):
            return math.nan
        return digamma(1 - x) - math.pi / math.tan(math.pi * math.fmod(x, 1.0))
    total = 0.0
    while x < 10:
        total -= 1 / x
        x += 1
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * 691 / 32760)))))
    return total + math.log(x) - 0.5 / x - series


def erfinv(y: float) -> float:
    """Giles' starting value (Approximating the erfinv function, 2010), then Newton steps on erf or erfc."""
    if not -1 <= y <= 1:
        return math.nan
    if abs(y) == 1:
        return math.copysign(math.inf, y)
    w = -math.log((1 - y) * (1 + y))
    if w < 5:
        x = y * (1.50140941 + (w - 2.5) * (0.246640727 + (w - 2.5) * (-0.00417768164 - 0.00125372503 * (w - 2.5))))
    else:
        x = math.copysign(math.sqrt(w), y)
    for _ in range(4):
        if abs(y) < 0.5:
            error = math.erf(x) - y
        else:  # the difference of two numbers near one, without cancellation
            error = math.copysign(1.0, y) * ((1 - abs(y)) - math.erfc(abs(x)))
        slope = 2 / math.sqrt(math.pi) * math.exp(-x * x)
        step = error / slope
        x -= step / (1 + x * step)
    return x


def _remainder(a: Arrays, attrs: Any) -> np.ndarray:
    return np.remainder(a[0], a[1])


def _as_real(a: Arrays, attrs: Any) -> np.ndarray:
    return np.stack([a[0].real, a[0].imag], -1)


def _as_complex(a: Arrays, attrs: Any) -> np.ndarray:
    return _complex([a[0][..., 0], a[0][..., 1]], attrs)


def _complex(a: Arrays, attrs: Any) -> np.ndarray:
    out = np.empty(np.shape(a[0]), np.complex64 if a[0].dtype == np.float32 else np.complex128)
    out.real, out.imag = a
    return out


def scalar_of(scalars: list[Any], index: int) -> Any:
    """A run-time number by the attribute of its node."""
    return scalars[index] if index < IMAGINARY else scalars[index - IMAGINARY].imag


def _sigmoid(a: Arrays, attrs: Any) -> np.ndarray:
    x = a[0]
    if x.dtype.kind == "c":
        return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype)


def _integer_pow(a: Arrays, n: int) -> np.ndarray:
    base, out = a[0], np.ones_like(a[0])
    k = abs(n)
    while k:
        if k & 1:
            out = out * base
        k >>= 1
        if k:
            base = base * base
    return out if n >= 0 else (1 / out).astype(a[0].dtype)


def _round(a: Arrays, attrs: Any) -> np.ndarray:
    return np.rint(a[0]) if a[0].dtype.kind == "f" else a[0]


def _keep_integers(function: Callable) -> Callable:
    return lambda a, attrs: function(a[0]) if a[0].dtype.kind == "f" else a[0]


def _cast(a: Arrays, dtype: Any) -> np.ndarray:
    x = a[0]
    if x.dtype.kind == "c" and dtype.category not in (0, 3):
        x = x.real
    if x.dtype.kind == "f" and dtype.category == 1:
        # via int64, as machines convert; NumPy leaves out-of-range undefined and so do we
        if dtype is dtypes.uint64:
            return np.where(x >= 2.0**63, x.astype(np.uint64), x.astype(np.int64).astype(np.uint64))
        return x.astype(np.int64).astype(dtype.np)
    return round_to(x, dtype)


# --- random bits -----------------------------------------------------------------------------------------------------


def philox(seed: int, offset: int, n: int) -> np.ndarray:
    """53 random bits for each of n counters: Philox4x32-10 (Salmon et al., SC 2011).

    Counter words: element number (low, high), offset (low, high). Key words: seed (low, high). The result is
    word 0 and the low 21 bits of word 1 above it.
    """
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    counter = np.arange(n, dtype=np.uint64)
    c0, c1 = counter & mask, counter >> shift
    c2 = np.full(n, offset & 0xFFFFFFFF, np.uint64)
    c3 = np.full(n, (offset >> 32) & 0xFFFFFFFF, np.uint64)
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return (c0 | ((c1 & np.uint64(0x1FFFFF)) << shift)).astype(np.int64)


def _random_bits(a: Arrays, shape: tuple) -> np.ndarray:
    return philox(int(a[0]), int(a[1]), math.prod(shape)).reshape(shape)


# --- movement ---------------------------------------------------------------------------------------------------------


def _region(starts: tuple, sizes: tuple, steps: tuple, dynamic: Arrays) -> tuple:
    rest = iter(dynamic)
    begins = [int(next(rest)) if s is None else s for s in starts]
    return tuple(slice(b, b + (n - 1) * k + 1 if n else b, k) for b, n, k in zip(begins, sizes, steps, strict=True))


def _slice(a: Arrays, attrs: tuple) -> np.ndarray:
    starts, sizes, steps = attrs
    return a[0][_region(starts, sizes, steps, a[1:])]


def _place(a: Arrays, attrs: tuple) -> np.ndarray:
    shape, starts, steps = attrs
    out = np.zeros(shape, a[0].dtype)
    out[_region(starts, a[0].shape, steps, a[1:])] = a[0]
    return out


def _slice_update(a: Arrays, attrs: tuple) -> np.ndarray:
    starts, steps = attrs
    out = a[0].copy()
    out[_region(starts, a[1].shape, steps, a[2:])] = a[1]
    return out


def _window(a: Arrays, attrs: tuple) -> np.ndarray:
    dims, sizes, strides, dilations = attrs
    x = a[0]
    shape, steps = list(x.shape), list(x.strides)
    extra = []
    for d, n, s, dil in zip(dims, sizes, strides, dilations, strict=True):
        shape[d] = window_length(x.shape[d], n, s, dil)
        steps[d] = x.strides[d] * min(s, x.shape[d])  # a longer step leaves one window
        extra.append(x.strides[d] * dil)
    return as_strided(x, (*shape, *sizes), (*steps, *extra), writeable=False)


def _convolve(a: Arrays, attrs: tuple) -> np.ndarray:
    """All windows as columns, and one product for each image and group."""
    x, w = a[:2]
    strides, lo, hi, steps, dilations, groups = attrs
    dims = tuple(range(2, x.ndim))
    cut = _window([_spread(x, lo, hi, steps)], (dims, w.shape[2:], strides, dilations))
    (n, channels), outputs = x.shape[:2], w.shape[0]
    positions = cut.shape[2 : x.ndim]
    columns = cut.reshape(n, groups, channels // groups, math.prod(positions), math.prod(w.shape[2:])).swapaxes(3, 4)
    rows = math.prod(w.shape[1:])
    weights = w.reshape(1, groups, outputs // groups, rows)
    columns = columns.reshape(n, groups, rows, math.prod(positions))
    if any(step > 1 for step in steps) and not np.isfinite(w).all():  # no tap meets what lies between elements
        met = _window([_on_grid(x.shape[2:], lo, hi, steps)], (tuple(range(x.ndim - 2)), w.shape[2:], strides, dilations))
        met = np.tile(met.reshape(math.prod(positions), -1).T, (channels // groups, 1))
        product = np.where(met, weights[..., None] * columns[:, :, None], 0).sum(3, dtype=x.dtype)
    else:
        product = np.matmul(weights, columns)
    out = product.reshape(n, outputs, *positions)
    return out + a[2].reshape(outputs, *(1,) * len(positions)) if len(a) > 2 else out


def _on_grid(sizes: tuple, lo: tuple, hi: tuple, steps: tuple) -> np.ndarray:
    """Where elements of the last axes, or zeros around them, lie once they are spread; False between them."""
    out = np.array(True)
    for n, front, back, step in zip(sizes, lo, hi, steps, strict=True):
        length = max(0, spread_length(n, step) + front + back)
        out = out[..., None] & ((np.arange(length) - front) % step == 0)
    return out


def _spread(x: np.ndarray, lo: tuple, hi: tuple, steps: tuple) -> np.ndarray:
    """Zeros between and around the elements of the last axes; negative paddings crop."""
    shape, to, from_ = list(x.shape), [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for axis, (front, back, step) in enumerate(zip(lo, hi, steps, strict=True), x.ndim - len(lo)):
        n = x.shape[axis]
        shape[axis] = length = max(0, spread_length(n, step) + front + back)
        first = -(-max(0, -front) // step)
        last = min(n, (length - 1 - front) // step + 1)
        to[axis] = slice(first * step + front, max(0, (last - 1) * step + front + 1), step)
        from_[axis] = slice(first, last)
        if last <= first:
            to[axis] = from_[axis] = slice(0, 0)
    out = np.zeros(shape, x.dtype)
    out[tuple(to)] = x[tuple(from_)]
    return out


def attention_scores(q: np.ndarray, k: np.ndarray, mask: list[np.ndarray], causal: bool) -> np.ndarray:
    """Scores, with -inf where a key is not seen."""
    scores = np.matmul(q, k.swapaxes(-1, -2))
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    for m in mask:
        scores = np.where(m, scores, -np.inf) if m.dtype == bool else scores + m
    return scores.astype(q.dtype, copy=False)


def _attention(a: Arrays, causal: bool) -> tuple[np.ndarray, ...]:
    q, k, v, *mask = a
    scores = attention_scores(q, k, mask, causal)
    largest = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
    largest = np.where(largest == -np.inf, 0, largest).astype(q.dtype)
    weights = np.exp(scores - largest)
    total = weights.sum(-1, keepdims=True, dtype=q.dtype)
    total = np.where(total == 0, 1, total).astype(q.dtype)
    return np.matmul(weights, v) / total, (largest + np.log(total))[..., 0]


def _attention_backward(a: Arrays, causal: bool) -> tuple[np.ndarray, ...]:
    g, q, k, v, lse, delta, *mask = a
    weights = np.exp(attention_scores(q, k, mask, causal) - lse[..., None])
    ds = weights * (np.matmul(g, v.swapaxes(-1, -2)) - delta[..., None])
    return np.matmul(ds, k), np.matmul(ds.swapaxes(-1, -2), q), np.matmul(weights.swapaxes(-1, -2), g)


# --- reductions and indexing -------------------------------------------------------------------------------------


def _amax(a: Arrays, axes: tuple) -> np.ndarray:
    return np.max(a[0], axis=axes)


def _amin(a: Arrays, axes: tuple) -> np.ndarray:
    return np.min(a[0], axis=axes)


class IndexOutOfRange(IndexError, RuntimeError):
    """An element of an index tensor is out of range; PyTorch raises one or the other, by operation."""


def checked_index(index: np.ndarray, n: int, wraps: bool = True, axis: int = 0) -> np.ndarray:
    """Non-negative positions on an axis of length n; the error names the first offender.

    Not to be called where nothing is to be read or written: no index is out of range there.
    """
    bad = (index < (-n if wraps else 0)) | (index >= n)
    if bad.any():
        value = int(index[bad].flat[0])
        if axis < 0:
            raise IndexOutOfRange(f"out of range: tried to access index {value} on a tensor of {n} elements.")
        raise IndexOutOfRange(f"index {value} is out of bounds for dimension {axis} with size {n}")
    return np.where(index < 0, index + n, index)


def _position(a: Arrays, attrs: tuple) -> np.ndarray:
    return checked_index(a[0], *attrs).astype(np.int64, copy=False)


def _take(a: Arrays, attrs: Any) -> np.ndarray:
    x, index = a
    return x[checked_index(index, x.shape[0])] if x.size else np.empty((*index.shape, *x.shape[1:]), x.dtype)


def _put_add(a: Arrays, n: int) -> np.ndarray:
    index, values = a
    out = np.zeros((n, *values.shape[index.ndim :]), values.dtype)
    if values.size:
        np.add.at(out, checked_index(index, n), values)
    return out


def _put(a: Arrays, attrs: Any) -> np.ndarray:
    out, values = a[0].copy(), a[2]
    if values.size:
        index = checked_index(a[1], out.shape[0])
        out[index.ravel()] = values.reshape((index.size, *out.shape[1:]))
    return out


def _recurrence(a: Arrays, axis: int) -> np.ndarray:
    factors, terms = (np.moveaxis(x, axis, 0) for x in a)
    out = np.empty_like(terms)
    y = np.zeros(terms.shape[1:], terms.dtype)
    for i in range(len(out)):
        out[i] = y = factors[i] * y + terms[i]
    return np.moveaxis(out, 0, axis)


_FOLDS_AT: dict[str, Any] = {"prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _put_fold(a: Arrays, fold: str) -> np.ndarray:
    out = a[0].copy()
    if a[2].size:
        _FOLDS_AT[fold].at(out, checked_index(a[1], out.shape[0]), a[2])
    return out


def _argsort(a: Arrays, attrs: tuple) -> np.ndarray:
    axis, descending = attrs
    x = a[0]
    if not descending:
        return np.argsort(x, axis=axis, kind="stable").astype(np.int64)
    # stable and descending: sort the reversed sequence upwards and read it backwards; NaN counts as the largest
    n = x.shape[axis]
    return (n - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)).astype(np.int64)


def _argselect(a: Arrays, attrs: tuple) -> np.ndarray:
    axis, descending, start, stop = attrs
    return _argsort(a, (axis, descending))[(slice(None),) * axis + (slice(start, stop),)]


# --- Fourier transforms: NumPy's -------------------------------------------------------------------------------------

FORWARD_NORMS: dict[float, Any] = {0.0: "backward", 0.5: "ortho", 1.0: "forward"}  # by the power of N that divides the result
INVERSE_NORMS: dict[float, Any] = {0.0: "forward", 0.5: "ortho", 1.0: "backward"}


def _fft(a: Arrays, attrs: tuple) -> np.ndarray:
    axes, inverse, power = attrs
    if inverse:
        out = np.fft.ifftn(a[0], axes=axes, norm=INVERSE_NORMS[power])
    else:
        out = np.fft.fftn(a[0], axes=axes, norm=FORWARD_NORMS[power])
    return out.astype(a[0].dtype, copy=False)  # NumPy 1 computes in double precision


def _rfft(a: Arrays, attrs: tuple) -> np.ndarray:
    axis, power = attrs
    out = np.fft.rfft(a[0], axis=axis, norm=FORWARD_NORMS[power])
    return out.astype(np.complex64 if a[0].dtype == np.float32 else np.complex128, copy=False)


def _irfft(a: Arrays, attrs: tuple) -> np.ndarray:
    axis, n, power = attrs
    out = np.fft.irfft(a[0], n, axis=axis, norm=INVERSE_NORMS[power])
    return out.astype(a[0].real.dtype, copy=False)


# --- decompositions ----------------------------------------------------------------------------------------------------


class LinAlgError(RuntimeError):
    """A matrix for which a decomposition or a solution does not exist."""


def _linalg(function: Callable, what: str) -> Callable:
    def apply(a: Arrays, attrs: Any) -> Any:
        try:
            return function(*a)
        except np.linalg.LinAlgError as error:
            raise LinAlgError(f"linalg.{what}: the computation failed: {error}") from None

    return apply


def _eig(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Always complex: NumPy's are real where all eigenvalues of all matrices are."""
    return tuple(part.astype(np.result_type(x.dtype, np.complex64)) for part in np.linalg.eig(x))


def _cholesky(x: np.ndarray) -> np.ndarray:
    if np.isnan(x).any():
        raise np.linalg.LinAlgError("Matrix is not positive definite: it contains NaN")
    return np.linalg.cholesky(x)


def _reinterpret(a: Arrays, attrs: tuple[dtypes.DType, dtypes.DType]) -> np.ndarray:
    """The bytes of an array read as another dtype, along the last axis where the sizes differ."""
    old, new = attrs
    memory = encode(a[0], old)
    lying = np.ascontiguousarray(memory if memory.ndim else memory.reshape(1))
    seen = lying.view(np.uint8) != 0 if new is dtypes.bool else lying.view(new.np)
    return decode(seen.reshape(memory.shape) if old.itemsize == new.itemsize else seen, new)


def _row_order(a: Arrays, m: int) -> np.ndarray:
    """Exchanges of row i with row pivots[i] - 1, one after the other, as an order of m rows."""
    pivots = a[0].reshape(math.prod(a[0].shape[:-1]), a[0].shape[-1])
    order = np.tile(np.arange(m), (len(pivots), 1))
    matrices = np.arange(len(pivots))
    for i in range(pivots.shape[-1]):
        chosen = pivots[:, i] - 1
        order[matrices, chosen], order[:, i] = order[:, i].copy(), order[matrices, chosen]
    return order.reshape(*a[0].shape[:-1], m)


PANEL = 32  # columns that are eliminated one by one before the rest of the matrix is updated by a product


def _lu(a: Arrays, check: bool) -> tuple[np.ndarray, ...]:
    """Gaussian elimination with partial pivoting by panels (Golub and Van Loan, "Matrix Computations", section 3.2.11)."""
    shape = a[0].shape
    m, n = shape[-2:]
    k = min(m, n)
    x = a[0].reshape(math.prod(shape[:-2]), m, n).copy()
    pivots = np.empty((len(x), k), np.int32)
    each = np.arange(len(x))
    for start in range(0, k, PANEL):
        stop = min(start + PANEL, k)
        for i in range(start, stop):
            chosen = i + np.abs(x[:, i:, i]).argmax(1)
            pivots[:, i] = chosen + 1
            x[each, i], x[each, chosen] = x[each, chosen], x[:, i].copy()
            pivot = x[:, i, i, None]
            x[:, i + 1 :, i] /= np.where(pivot == 0, 1, pivot)
            x[:, i + 1 :, i + 1 : stop] -= x[:, i + 1 :, i, None] * x[:, i, None, i + 1 : stop]
        if stop < n:
            unit = np.tril(x[:, start:stop, start:stop], -1) + np.eye(stop - start, dtype=x.dtype)
            x[:, start:stop, stop:] = np.linalg.solve(unit, x[:, start:stop, stop:])
            x[:, stop:, stop:] -= x[:, stop:, start:stop] @ x[:, start:stop, stop:]
    if check:
        zeros = np.argwhere(np.diagonal(x, 0, 1, 2) == 0)
        if len(zeros):
            b, i = zeros[0]
            raise LinAlgError(
                f"torch.linalg.lu_factor: (Batch element {b}): U[{i + 1},{i + 1}] is zero and using it on lu_solve would result in a "
                "division by zero; use linalg.lu or linalg.lu_factor_ex to factorise it still"
            )
    pivots = pivots.reshape(*shape[:-2], k)
    return x.reshape(shape), pivots, _row_order([pivots], m)


def _simple(function: Callable) -> Callable:
    return lambda a, attrs: function(*a)


REFERENCE: dict[str, Callable[[Arrays, Any], Any]] = {
    "full": lambda a, shape: np.full(shape, a[0]),
    "iota": lambda a, n: np.arange(n, dtype=np.int64),
    "const": lambda a, attrs: round_to(attrs[0], attrs[1]),
    "random_bits": _random_bits,
    "neg": _simple(np.negative),
    "abs": _simple(np.abs),
    "sign": lambda a, attrs: np.sign(a[0]) if a[0].dtype.kind != "b" else a[0],
    "sqrt": _simple(np.sqrt),
    "floor": _keep_integers(np.floor),
    "ceil": _keep_integers(np.ceil),
    "round": _round,
    "trunc": _keep_integers(np.trunc),
    "relu": lambda a, attrs: np.where(a[0] <= 0, a[0].dtype.type(0), a[0]),  # NaN stays
    "bitwise_not": _simple(np.invert),
    "rsqrt": lambda a, attrs: (1 / np.sqrt(a[0])).astype(a[0].dtype),
    "exp": _simple(np.exp),
    "exp2": lambda a, attrs: np.exp2(a[0]) if a[0].dtype.kind == "f" else np.exp(a[0] * a[0].dtype.type(math.log(2))),
    "expm1": _simple(np.expm1),
    "log": _simple(np.log),
    "log2": _simple(np.log2),
    "log10": _simple(np.log10),
    "log1p": _simple(np.log1p),
    "sin": _simple(np.sin),
    "cos": _simple(np.cos),
    "tan": _simple(np.tan),
    "asin": _simple(np.arcsin),
    "acos": _simple(np.arccos),
    "atan": _simple(np.arctan),
    "sinh": _simple(np.sinh),
    "cosh": _simple(np.cosh),
    "tanh": _simple(np.tanh),
    "asinh": _simple(np.arcsinh),
    "acosh": _simple(np.arccosh),
    "atanh": _simple(np.arctanh),
    "sigmoid": _sigmoid,
    "erf": _vectorized(math.erf),
    "erfc": _vectorized(math.erfc),
    "erfinv": _vectorized(erfinv),
    "lgamma": _vectorized(_lgamma),
    "digamma": _vectorized(digamma),
    "real": lambda a, attrs: a[0].real,
    "imag": lambda a, attrs: a[0].imag,
    "conj": _simple(np.conj),
    "complex": _complex,
    "as_real": _as_real,
    "as_complex": _as_complex,
    "logical_not": _simple(np.logical_not),
    "isnan": _simple(np.isnan),
    "isinf": _simple(np.isinf),
    "cast": _cast,
    "integer_pow": _integer_pow,
    "add": _simple(np.add),
    "sub": _simple(np.subtract),
    "mul": _simple(np.multiply),
    "div": _simple(np.divide),
    "maximum": _simple(np.maximum),
    "minimum": _simple(np.minimum),
    "floor_div": _simple(np.floor_divide),
    "remainder": _remainder,
    "fmod": _simple(np.fmod),
    "pow": _simple(np.power),
    "atan2": _simple(np.arctan2),
    "bitwise_and": _simple(np.bitwise_and),
    "bitwise_or": _simple(np.bitwise_or),
    "bitwise_xor": _simple(np.bitwise_xor),
    "shift_left": _simple(np.left_shift),
    "shift_right": _simple(np.right_shift),
    "eq": _simple(np.equal),
    "ne": _simple(np.not_equal),
    "lt": _simple(np.less),
    "le": _simple(np.less_equal),
    "gt": _simple(np.greater),
    "ge": _simple(np.greater_equal),
    "where": _simple(np.where),
    "expand": lambda a, shape: np.broadcast_to(a[0], shape),
    "reshape": lambda a, shape: a[0].reshape(shape),
    "permute": lambda a, perm: a[0].transpose(perm),
    "flip": lambda a, axes: np.flip(a[0], axes),
    "slice": _slice,
    "place": _place,
    "slice_update": _slice_update,
    "cat": lambda a, axis: np.concatenate(a, axis),
    "window": _window,
    "pick": lambda a, k: a[0][k],
    "sum": lambda a, axes: np.sum(a[0], axis=axes, dtype=a[0].dtype),
    "prod": lambda a, axes: np.prod(a[0], axis=axes, dtype=a[0].dtype),
    "amax": _amax,
    "amin": _amin,
    "argmax": lambda a, axis: np.argmax(a[0], axis=axis).astype(np.int64),
    "argmin": lambda a, axis: np.argmin(a[0], axis=axis).astype(np.int64),
    "cumsum": lambda a, axis: np.cumsum(a[0], axis=axis, dtype=a[0].dtype),
    "cumprod": lambda a, axis: np.cumprod(a[0], axis=axis, dtype=a[0].dtype),
    "cummax": lambda a, axis: np.maximum.accumulate(a[0], axis=axis),
    "cummin": lambda a, axis: np.minimum.accumulate(a[0], axis=axis),
    "recurrence": _recurrence,
    "matmul": _simple(np.matmul),
    "convolve": _convolve,
    "attention": _attention,
    "attention_backward": _attention_backward,
    "take": _take,
    "put_add": _put_add,
    "put": _put,
    "put_fold": _put_fold,
    "position": _position,
    "argsort": _argsort,
    "argselect": _argselect,
    "fft": _fft,
    "rfft": _rfft,
    "irfft": _irfft,
    "inv": _linalg(np.linalg.inv, "inv"),
    "cholesky": _linalg(_cholesky, "cholesky"),
    "solve": _linalg(np.linalg.solve, "solve"),
    "det": _linalg(np.linalg.det, "det"),
    "slogdet": _linalg(lambda x: tuple(np.linalg.slogdet(x)), "slogdet"),
    "qr": _linalg(lambda x: tuple(np.linalg.qr(x)), "qr"),
    "lu": _lu,
    "row_order": _row_order,
    "reinterpret": _reinterpret,
    "eigh": _linalg(lambda x: tuple(np.linalg.eigh(x)), "eigh"),
    "eig": _linalg(_eig, "eig"),
    "svd": _linalg(lambda x: tuple(np.linalg.svd(x, full_matrices=False)), "svd"),
}


def apply(node: Node, operands: Arrays) -> Any:
    """The value of one node: an array, or a tuple of arrays."""
    out = REFERENCE[node.prim.name](operands, node.attrs)
    return np.asarray(out) if node.parts is None else out


def every_value(
    graph: Graph, inputs: list[np.ndarray], scalars: list[Any], apply: Callable[[Node, Arrays], Any] = apply
) -> list[Any]:
    """The values of all nodes, in their order.

    Inputs are arrays of the declared shapes. They and the values hold numbers (`storage.decode`). apply: what gives the
    value of a node that is neither an input nor a run-time number.
    """
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.prim.name == "input":
                values.append(inputs[node.attrs[0]])
            elif node.prim.name == "scalar":
                values.append(round_to(scalar_of(scalars, node.attrs[0]), node.dtype))
            else:
                values.append(apply(node, [values[a.index] for a in node.args]))
    return values


def run_graph(
    graph: Graph, inputs: list[np.ndarray], scalars: list[Any], apply: Callable[[Node, Arrays], Any] = apply
) -> list[np.ndarray]:
    """Interpret a graph: the values of its outputs, possibly views of each other."""
    values = every_value(graph, inputs, scalars, apply)
    return [values[o.index] for o in graph.outputs]
