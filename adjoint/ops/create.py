"""Creation: from data, filled with one value, and number ranges.

A filled tensor is recorded (its value is a run-time number), so it costs no memory until somebody needs it; data are
copied at once. `requires_grad=True` makes the result a leaf.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.nowhere import DeviceError
from adjoint.ops.conversion import converted, stored
from adjoint.ops.elementwise import cast
from adjoint.ops.shape import as_strided, sizes_of
from adjoint.trace import recorder
from adjoint.trace.aval import aval, contiguous_strides
from adjoint.trace.handle import Tensor
from adjoint.trace.infer import common_dtype
from adjoint.trace.recorder import flush, local, realize, record, record_full
from adjoint.trace.state import warn


def check_dtype(dtype: Any) -> DType | None:
    if dtype is None or isinstance(dtype, DType):
        if dtype in dtypes.NAMED_ONLY:
            raise NotImplementedError(f"no tensor has dtype {dtype!r}, it is a name to compare with; use torch.bfloat16 to save memory")
        return dtype
    plain = {bool: dtypes.bool, int: dtypes.int64, float: dtypes.float64, complex: dtypes.complex128}.get(dtype)
    if plain is None:
        raise TypeError(f"dtype must be a torch dtype such as torch.float32, not {dtype!r}")
    return plain


def check_device(device: Any) -> None:
    if device is not None and str(device).split(":")[0] != "cpu":
        if not str(device).split(":")[0].isalpha():
            raise RuntimeError(f"invalid device string: {str(device)!r}; use device='cpu'")
        raise DeviceError(f"device {str(device)!r} is not available: Adjoint computes on the CPU; use device='cpu'")


def check_real(name: str, dtype: Any, device: Any) -> DType:
    """The dtype of samples of a function, by default the default one. RuntimeError for integers, NotImplementedError for
    complex numbers."""
    check_device(device)
    chosen = check_dtype(dtype) or local.trace.default_dtype
    if chosen.category < 2:
        raise RuntimeError(f"{name} requires a floating point dtype, got: dtype={chosen.name}")
    if chosen.is_complex:
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.LEGACY[chosen]}\': its values are real; use dtype=torch.float32')
    return chosen


def require_leaf(t: Tensor, requires_grad: bool = True) -> Tensor:
    """`requires_grad_`: make a tensor a leaf to differentiate with respect to (or stop being one)."""
    if not requires_grad:
        if t._aval.requires_grad and not t._leaf:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
                "subgraph that doesn't require differentiation use var_no_grad = var.detach()."
            )
    elif t._aval.dtype.category < 2:
        raise RuntimeError(
            f"only Tensors of floating point and complex dtype can require gradients (got {t._aval.dtype.name})"
        )
    if t._aval.requires_grad == requires_grad:
        return t
    if t._base is not None:
        from adjoint.ops.storage import become_leaf

        become_leaf(t)
    realize(t)
    if not requires_grad and t._tid == local.trace.id:  # a backward known in this trace would still find it
        flush(local.trace)
    a = t._aval
    t._aval = aval(a.shape, a.dtype, requires_grad)
    t._leaf = requires_grad
    t._tid, t._slot = 0, -1
    return t


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: a number, nested sequences, a NumPy array or a tensor.

    dtype: inferred if None: Python floats give the default dtype, ints int64, NumPy's numbers and tensors their own. Raises
    ValueError for ragged nesting, TypeError for data that are no numbers, RuntimeError for numbers that `dtype` cannot hold.

    >>> import adjoint as torch
    >>> torch.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    """
    dtype = check_dtype(dtype)
    check_device(device)
    if isinstance(data, Tensor):
        out = cast(data.detach(), dtype or data._aval.dtype).clone()
        return require_leaf(out) if requires_grad else out
    array, dtype = to_array(data, dtype)
    if requires_grad and dtype.category < 2:
        raise RuntimeError(
            f"Only Tensors of floating point and complex dtype can require gradients (got {dtype.name}); "
            "write the numbers as floats or give dtype=torch.float32"
        )
    return recorder.tensor_from_array(array, requires_grad, dtype)


def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of a number, by default of the default dtype, also of a whole number.

    >>> import adjoint as torch
    >>> torch.scalar_tensor(3)
    tensor(3.)
    """
    return _filled((), s, _options(dtype, device), requires_grad)


def _leaves(data: Any, where: str = "") -> Iterator[tuple[Any, str]]:
    """What is in nested lists and tuples, in order, and where."""
    if isinstance(data, (list, tuple)):
        for k, part in enumerate(data):
            yield from _leaves(part, f"{where}[{k}]")
    else:
        yield data, where


def _object_array(data: Any) -> np.ndarray:
    """The array of data of which NumPy made objects or text: large whole numbers beside others that are not whole.

    Else an error, of PyTorch's type, that names the first element that is no number, or too large a one.
    """
    kind: Any = None
    for number, (x, where) in enumerate(_leaves(data)):
        if isinstance(x, (complex, np.complexfloating)):
            kind = np.complex128
        elif isinstance(x, (float, np.floating)):
            kind = kind or np.float64
        if not isinstance(x, (int, float, complex, np.generic, np.ndarray)):
            text = repr(x)
            said = f"tensor(): {text if len(text) <= 40 else text[:37] + '...'} ({type(x).__name__}) at data{where} is no number"
            if isinstance(x, str):
                raise (TypeError if number else ValueError)(f"{said}; make numbers of text first, by float(), say, or a table of words")
            raise RuntimeError(f"{said}; tensors hold numbers alone")
    if kind is not None:
        return np.array(data, kind)
    for x, where in _leaves(data):
        if isinstance(x, int) and not -(1 << 63) <= x < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long: {x} at data{where} is beyond 64 bits; write it as a float")
    raise TypeError(f"tensor(): expected numbers, but got data of type {np.array(data).dtype}")


def to_array(data: Any, dtype: DType | None) -> tuple[np.ndarray, DType]:
    """NumPy array of the numbers, and the dtype PyTorch would choose for them."""
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        if dtype is None:
            return array, dtypes.from_numpy(array.dtype)
        if isinstance(data, np.generic):
            check_range(array, dtype)
        return array, dtype
    own = None
    if isinstance(data, (list, tuple)):
        kinds: set[Any] = set()
        _collect_kinds(data, kinds)
        if not kinds <= _PLAIN:
            own = _meeting(kinds)
            data = _numbers(data)
    elif not isinstance(data, (bool, int, float, complex)):
        if hasattr(data, "__array__"):
            return to_array(np.asarray(data), dtype)
        if _is_sequence(data):
            return to_array(list(data), dtype)
        text = isinstance(data, (str, bytes))
        said = "must be real number, not" if dtype is not None or text else "Could not infer dtype of"
        raise (TypeError if dtype is not None or text else RuntimeError)(
            f"{said} {type(data).__name__}: tensor() takes numbers, sequences, arrays or tensors"
        )
    try:
        # as uint64 at once: with smaller numbers beside them NumPy makes floats of those above int64
        array = np.array(data, np.uint64 if dtype is dtypes.uint64 and _are_whole(data) else None)
    except ValueError as error:
        raise ValueError(f"expected sequences of equal length at every depth (ragged nesting): {error}") from None
    if array.dtype.kind not in "biufc" or (dtype is not None and array.dtype.kind == "c" and not dtype.is_complex):
        if array.size == 0 and array.dtype.kind == "O":
            array = array.astype(np.float64)
        elif array.dtype.kind == "c":
            raise TypeError(f"must be real number, not complex: {dtype!r} holds no complex numbers; use dtype=torch.complex64")
        else:
            array = _object_array(data)
    if dtype is None:
        default = local.trace.default_dtype
        letters = {"f": default, "c": dtypes.default_complex(default), "b": dtypes.bool}
        dtype = own or letters.get(array.dtype.kind, dtypes.int64)
        if array.dtype == np.uint64 and own is None and array.size:
            raise ValueError(f"Overflow when unpacking long long: {array.max()} is too large for int64; write it as a float, or give dtype=torch.uint64")
    check_range(array, dtype)
    return array, dtype


def _is_sequence(data: Any) -> bool:
    """Whether Python's sequence protocol finds elements in it, as in a deque or a range: not in text, sets or dictionaries."""
    return hasattr(type(data), "__getitem__") and hasattr(type(data), "__len__") and not isinstance(data, (str, bytes, dict))


def check_range(array: np.ndarray, dtype: DType) -> None:
    """RuntimeError for numbers that an integer dtype cannot hold."""
    if dtype.category == 1 and array.size and not (array.dtype.kind == "i" and dtype is dtypes.int64):
        for number in (array.min().item(), array.max().item()):
            converted("tensor()", number, dtype)


_PLAIN = frozenset((bool, int, float, complex))


def _collect_kinds(data: Any, kinds: set) -> None:
    """What the elements of nested sequences are: types of Python, and the dtypes of those that have one of their own."""
    here = set(map(type, data))
    if here <= _PLAIN:
        kinds |= here
        return
    for d in data:
        if isinstance(d, (list, tuple)):
            _collect_kinds(d, kinds)
        elif isinstance(d, Tensor):
            kinds.add(d._aval.dtype)
        elif isinstance(d, (np.ndarray, np.generic)) and d.dtype.kind in "biufc":
            kinds.add(dtypes.from_numpy(d.dtype))
        else:
            kinds.add(type(d))


def _meeting(kinds: set) -> DType | None:
    """The dtype in which elements meet of which some are NumPy's or tensors; None if none is."""
    default = local.trace.default_dtype
    plain = {bool: dtypes.bool, int: dtypes.int64, float: default, complex: dtypes.default_complex(default)}
    if not any(isinstance(k, DType) for k in kinds):
        return None
    return functools.reduce(dtypes.promote, [k if isinstance(k, DType) else plain.get(k, default) for k in kinds])


def _are_whole(data: Any) -> bool:
    if isinstance(data, (list, tuple)):
        return all(_are_whole(d) for d in data)
    return isinstance(data, int) and data >= 0


def _numbers(data: Any) -> Any:
    """Nested sequences with 0-d tensors inside as plain numbers."""
    if isinstance(data, (list, tuple)):
        if any(isinstance(d, (list, tuple, Tensor)) for d in data):
            return [_numbers(d) for d in data]
        return data
    return data.tolist() if isinstance(data, Tensor) else data


# --- filled -----------------------------------------------------------------------------------------------------------


def _filled(shape: tuple[int, ...], value: Any, dtype: DType, requires_grad: bool) -> Tensor:
    for n in shape:
        if n < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {n}: {list(shape)}")
    if math.prod(shape) * dtype.itemsize >= 1 << 47:
        raise RuntimeError(f"cannot allocate memory for a tensor of shape {list(shape)} and dtype {dtype.name}: the size overflows")
    if requires_grad:
        if dtype.category < 2:
            raise RuntimeError(f"Only Tensors of floating point and complex dtype can require gradients (got {dtype.name})")
        return recorder.tensor_from_array(np.full(shape, value), True, dtype)
    return record_full(value, tuple(shape), dtype)


def _options(dtype: Any, device: Any, fallback: DType | None = None) -> DType:
    check_device(device)
    return check_dtype(dtype) or fallback or local.trace.default_dtype


def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None) -> Tensor:
    """Zeros of the given sizes.

    >>> import adjoint as torch
    >>> torch.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return _filled(sizes_of(_size(size)), 0, _options(dtype, device), requires_grad)


def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None) -> Tensor:
    """A tensor of ones.

    >>> import adjoint as torch
    >>> torch.ones(2, 2)
    tensor([[1., 1.],
            [1., 1.]])
    """
    return _filled(sizes_of(_size(size)), 1, _options(dtype, device), requires_grad)


def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None, memory_format: Any = None) -> Tensor:
    """Uninitialised in PyTorch; here zeros, which cost the same.

    >>> import adjoint as torch
    >>> torch.empty(2, 3).shape
    torch.Size([2, 3])
    """
    return _filled(sizes_of(_size(size)), 0, _options(dtype, device), requires_grad)


def _size(size: tuple) -> tuple:
    return size if size else ((),)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """One value everywhere; its kind decides the dtype if none is given.

    >>> import adjoint as torch
    >>> torch.full((2,), 7)
    tensor([7, 7])
    """
    shape = sizes_of((size,)) if isinstance(size, (list, tuple)) else sizes_of((size,))
    check_device(device)
    chosen = check_dtype(dtype)
    if isinstance(fill_value, Tensor):
        value = fill_value if chosen is None else cast(fill_value, chosen)
        return record("expand", (value.reshape(()),), shape)
    if isinstance(fill_value, np.generic):
        fill_value = fill_value.item()
    if chosen is None:
        chosen = common_dtype([type(fill_value)], local.trace.default_dtype)
    return _filled(shape, stored("full()", fill_value, chosen), chosen, requires_grad)


def _like(x: Tensor, value: Any, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    return _filled(tuple(x._aval.shape), value, _options(dtype, device, x._aval.dtype), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Zeros in the shape and dtype of `input`.

    >>> import adjoint as torch
    >>> torch.zeros_like(torch.tensor([5, 6]))
    tensor([0, 0])
    """
    return _like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """Ones in the shape and dtype of `input`.

    >>> import adjoint as torch
    >>> torch.ones_like(torch.tensor([5, 6]))
    tensor([1, 1])
    """
    return _like(input, 1, dtype, device, requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, memory_format: Any = None) -> Tensor:
    """A tensor of the shape and dtype of `input`; its values mean nothing.

    >>> import adjoint as torch
    >>> torch.empty_like(torch.ones(2, 3)).shape
    torch.Size([2, 3])
    """
    return _like(input, 0, dtype, device, requires_grad)


def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the shape and dtype of `input`, filled with one number.

    >>> import adjoint as torch
    >>> torch.full_like(torch.zeros(2), 7)
    tensor([7., 7.])
    """
    chosen = _options(dtype, device, input._aval.dtype)
    number = fill_value.item() if isinstance(fill_value, (np.generic, Tensor)) else fill_value
    return _filled(tuple(input._aval.shape), stored("full_like()", number, chosen), chosen, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an n by m matrix (n by n).

    >>> import adjoint as torch
    >>> torch.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    rows, columns = sizes_of((n, n if m is None else m))
    if rows < 0 or columns < 0:
        raise RuntimeError(f"n must be greater or equal to 0, got {rows} and {columns}")
    i = record("reshape", (record("iota", (), rows),), (rows, 1))
    out = cast(i == record("iota", (), columns), _options(dtype, device))
    return require_leaf(out) if requires_grad else out


# --- ranges -----------------------------------------------------------------------------------------------------------


def _check_range(name: str, dtype: Any) -> None:
    if isinstance(dtype, DType) and dtype.category in (0, 3):
        raise NotImplementedError(f'"{name}" not implemented for \'{dtypes.LEGACY[dtype]}\'; take an integer or floating dtype')


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below end; int64 if all three are ints.

    >>> import adjoint as torch
    >>> torch.arange(0, 6, 2)
    tensor([0, 2, 4])
    """
    if end is None:
        start, end = 0, start
    start, end, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) / step < 0:
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: arange({start}, {end}, {step})")
    whole = all(isinstance(v, int) for v in (start, end, step))
    _check_range("arange", dtype)
    chosen = _options(dtype, device, dtypes.int64 if whole else None)
    n = -(-(end - start) // step) if whole else math.ceil((end - start) / step)
    out = record("iota", (), int(n))
    if chosen.is_floating_point and not whole:
        out = cast(cast(out, dtypes.float64) * float(step) + float(start), chosen)
    else:
        if step != 1:
            out = out * int(step)
        if start != 0:
            out = out + int(start)
        out = cast(out, chosen)
    return require_leaf(out) if requires_grad else out


def range_with_end(start: Any, end: Any, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, layout: Any = None) -> Tensor:
    """start, start + step, ... up to and with end, of the default dtype; deprecated (and warns), for `arange`, which leaves end out.

    RuntimeError for a step of 0 or of the wrong sign.

    >>> import adjoint as torch, warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     torch.range(1, 4)
    tensor([1., 2., 3., 4.])
    """
    warn("torch.range is deprecated, as its end is unlike that of Python's range: use torch.arange, which leaves end out")
    start, end, step = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) / step < 0:
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: range({start}, {end}, {step})")
    chosen = _options(dtype, device)
    places = cast(record("iota", (), math.floor((end - start) / step) + 1), chosen if chosen.category < 2 else dtypes.float64)
    out = cast(places * step + start, chosen)
    return require_leaf(out) if requires_grad else out


def empty_strided(size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """Zeros (uninitialised in PyTorch) of the given sizes and strides, counted in elements. RuntimeError unless there are as many of both.

    >>> import adjoint as torch
    >>> torch.empty_strided((2, 3), (1, 2)).stride()
    (1, 2)
    """
    sizes, steps = sizes_of((size,)), sizes_of((stride,))
    if len(sizes) != len(steps):
        raise RuntimeError(f"dimensionality of sizes ({len(sizes)}) must match dimensionality of strides ({len(steps)}): got {list(sizes)} and {list(steps)}")
    if any(s < 0 for s in steps):
        raise RuntimeError(f"empty_strided: as_strided needs strides that are not negative, got {list(steps)}")
    need = 0 if 0 in sizes else 1 + sum((n - 1) * s for n, s in zip(sizes, steps, strict=True))
    memory = _filled((need,), 0, _options(dtype, device), False)
    out = memory.reshape(sizes) if contiguous_strides(sizes) == steps else as_strided(memory, sizes, steps, 0)
    return require_leaf(out) if requires_grad else out


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` evenly spaced numbers from start to end, both included; computed from both ends so that they are exact.

    >>> import adjoint as torch
    >>> torch.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    start, end = (v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end))
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    chosen = _options(dtype, device)
    if dtype is dtypes.bool:
        raise NotImplementedError("\"linspace\" not implemented for 'Bool'")
    gap = (end - start) / (steps - 1) if steps > 1 else 0.0
    i = cast(record("iota", (), int(steps)), dtypes.float64)
    up = i * float(gap) + float(start)
    down = (float(steps - 1) - i) * -float(gap) + float(end)
    out = cast(record("where", (i < steps / 2, up, down)) if steps > 1 else up, chosen)
    return require_leaf(out) if requires_grad else out


def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers whose logarithms to `base` lie evenly from `start` to `end`.

    >>> import adjoint as torch
    >>> torch.logspace(0, 3, 4)
    tensor([   1.,   10.,  100., 1000.])
    """
    exponent = linspace(start, end, steps, dtype=dtypes.float64)
    out = cast(record("pow", (float(base), exponent)), _options(dtype, None))
    return require_leaf(out) if requires_grad else out
