"""Memory shared with other libraries: NumPy arrays, buffers and DLPack, in both directions.

What is shared is read anew at every use and written at once, so that either side sees the other's writes. Data that
cannot be shared are refused in PyTorch's words; `tensor` copies them.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ops.create import check_device, check_dtype, require_leaf, tensor
from adjoint.ops.elementwise import cast
from adjoint.ops.storage import UntypedStorage
from adjoint.trace import recorder, views
from adjoint.trace.handle import Tensor
from adjoint.trace.state import warn

CPU = 1  # DLPack's number for main memory


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor on the array's own memory: writes are seen on both sides.

    The array may be strided. Writing to a tensor made from a read-only array gives the tensor memory of its own. Raises
    TypeError for anything but an array of a supported dtype, ValueError for negative strides, strides that are no
    multiple of the element's size, and foreign byte order.

    >>> import numpy as np, adjoint as torch
    >>> torch.from_numpy(np.array([1, 2]))
    tensor([1, 2])
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    if not array.dtype.isnative:
        raise ValueError(
            "given numpy array has byte order different from the native byte order. Conversion between byte orders is currently "
            f"not supported: got dtype {array.dtype.str}; convert with array.astype(array.dtype.newbyteorder('='))"
        )
    dtype, flags = dtypes.from_numpy(array.dtype), array.flags
    if min(array.strides, default=0) < 0:
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not currently "
            f"supported (strides {array.strides}); make a copy with array.copy()"
        )
    if any([s % array.itemsize for s in array.strides]):
        raise ValueError(
            f"given numpy array strides not a multiple of the element byte size (strides {array.strides}, {array.itemsize} bytes): "
            "copy the array with array.copy()"
        )
    if array.size == 0:
        return recorder.tensor_from_array(np.array(array, dtype=dtype.np))
    if not flags.writeable:
        warn(
            "The given NumPy array is not writable: writing to the tensor will give it memory of its own"
        )
    if flags.c_contiguous:
        return views.share(array, dtype)
    order = sorted(range(array.ndim), key=lambda d: (-array.strides[d], d))
    turned = array.transpose(order)
    if turned.flags.c_contiguous:
        return views.make_view(views.share(turned, dtype), "permute", tuple(np.argsort(order).tolist()))
    steps = tuple([s // array.itemsize if n > 1 else 1 for s, n in zip(array.strides, array.shape, strict=True)])
    reach = 1 + sum([(n - 1) * s for n, s in zip(array.shape, steps, strict=True)])
    line = np.lib.stride_tricks.as_strided(array, (reach,), (array.itemsize,), writeable=array.flags.writeable)
    return views.make_composed_view(views.share(line, dtype), "as_strided", (tuple(array.shape), steps, 0))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory with NumPy arrays and tensors where it can.

    >>> import adjoint as torch
    >>> torch.as_tensor([1, 2])
    tensor([1, 2])
    """
    dtype = check_dtype(dtype)
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else cast(data, dtype)
    if isinstance(data, np.ndarray):
        shared = from_numpy(data)
        return shared if dtype is None else cast(shared, dtype)
    return tensor(data, dtype=dtype, device=device)


def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Tensor:
    """Numbers, sequences, arrays, tensors, buffers or what speaks DLPack as a tensor.

    copy: True for memory of its own, False for shared memory or ValueError, None for shared memory where that is possible.

    >>> import adjoint as torch
    >>> torch.asarray([1, 2])
    tensor([1, 2])
    """
    wanted = check_dtype(dtype)
    check_device(device)
    shared: Tensor | None = None
    if isinstance(obj, Tensor):
        shared = obj if obj._aval.requires_grad and requires_grad else obj.detach()
    elif isinstance(obj, np.ndarray):
        shared = from_numpy(obj)
    elif isinstance(obj, UntypedStorage):
        shared = obj.as_bytes()
    elif hasattr(obj, "__dlpack__"):
        shared = from_dlpack(obj)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        shared = frombuffer(obj, dtype=wanted or dtypes.float32)
    if shared is None or (wanted is not None and shared._aval.dtype is not wanted):
        if copy is False:
            raise ValueError(f"asarray: can't alias {type(obj).__name__} with the requested dtype without a copy; leave copy=False out")
        out = tensor(obj, dtype=wanted) if shared is None else cast(shared, wanted)  # type: ignore[arg-type]
    else:
        out = shared.clone() if copy else shared
    return require_leaf(out) if requires_grad and not out._aval.requires_grad else out


def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """A vector on the memory of an object that exports a buffer (bytes, bytearray, array.array), from byte `offset` on.

    >>> import adjoint as torch
    >>> torch.frombuffer(bytearray(b"\\x01\\x02\\x03"), dtype=torch.uint8, offset=1)
    tensor([2, 3], dtype=torch.uint8)
    """
    kind = check_dtype(dtype)
    if kind is None:
        raise TypeError("frombuffer(): argument 'dtype' must be a dtype, not None")
    size = memoryview(buffer).nbytes
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} bytes) - 1")
    if count < 0 and (size - offset) % kind.itemsize:
        raise ValueError(f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of element size ({kind.itemsize})")
    if offset + max(count, 0) * kind.itemsize > size:
        raise ValueError(
            f"requested buffer length ({count} * {kind.itemsize} bytes) after offset ({offset} bytes) must not be greater than "
            f"actual buffer length ({size} bytes)"
        )
    out = from_numpy(np.frombuffer(buffer, kind.np, count, offset))
    return require_leaf(out) if requires_grad else out


# --- DLPack -----------------------------------------------------------------------------------------------------------


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of an object of another library that speaks DLPack, or of its capsule: writes are seen on both sides.

    >>> import numpy as np, adjoint as torch
    >>> a = np.zeros(2)
    >>> x = torch.from_dlpack(a)
    >>> a += 1
    >>> x
    tensor([1., 1.], dtype=torch.float64)
    """
    check_device(device)
    if isinstance(ext_tensor, Tensor):
        out = ext_tensor.detach()
    elif isinstance(ext_tensor, np.ndarray):
        out = from_numpy(ext_tensor)
    else:
        if type(ext_tensor).__name__ == "PyCapsule":
            ext_tensor = _Capsule(ext_tensor)
        out = from_numpy(_writable(np.from_dlpack(ext_tensor)))
    return out.clone() if copy else out


class _Capsule:
    """What gives a capsule of DLPack that is there already."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0


def _writable(array: np.ndarray) -> np.ndarray:
    """The array through which its memory can be written: NumPy marks it read-only where the protocol did not tell."""
    if array.flags.writeable or not array.size:
        return array
    reach = sum([(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]) + array.itemsize
    memory = (ctypes.c_uint8 * reach).from_address(array.__array_interface__["data"][0])
    memory._keeps = array  # the memory is the array's
    return np.ndarray(array.shape, array.dtype, memory, 0, array.strides)


def to_dlpack(self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None) -> Any:
    """The tensor's memory as a DLPack capsule. BufferError for a tensor that requires grad."""
    if self._aval.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream not in (None, -1):
        raise BufferError(f"stream must be None for a tensor in main memory, got {stream}")
    array = views.export(self)
    options: dict[str, Any] = {"copy": copy} if copy is not None else {}
    if max_version is not None:
        options["max_version"] = max_version
    if dl_device is not None:
        options["dl_device"] = dl_device
    return array.__dlpack__(**options)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """Where the memory is, in DLPack's numbers."""
    return CPU, 0


# --- NumPy's functions of tensors ---------------------------------------------------------------------------------------

# ufunc: the operator it is, and the same from the right
_OPERATORS: dict[Any, tuple[str, str]] = {
    getattr(np, ufunc): (f"__{name}__", f"__r{name}__")
    for ufunc, name in {
        "add": "add", "subtract": "sub", "multiply": "mul", "true_divide": "truediv", "floor_divide": "floordiv", "remainder": "mod",
        "power": "pow", "matmul": "matmul", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "left_shift": "lshift",
        "right_shift": "rshift",
    }.items()
} | {
    np.less: ("__lt__", "__gt__"), np.less_equal: ("__le__", "__ge__"), np.greater: ("__gt__", "__lt__"),
    np.greater_equal: ("__ge__", "__le__"), np.equal: ("__eq__", "__eq__"), np.not_equal: ("__ne__", "__ne__"),
}  # fmt: skip


def array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, out: tuple = (), **options: Any) -> Any:
    """An elementwise function of NumPy with tensors among its operands (`Tensor.__array_ufunc__`).

    What is an operator is that of the tensor, with its gradient: `array * t` is a tensor. Everything else NumPy computes from the
    values, RuntimeError for tensors that require grad, and its results come back as tensors, or in `out` (`array += t`).

    >>> import numpy as np, adjoint as torch
    >>> np.sqrt(torch.tensor([1., 4.]))
    tensor([1., 2.])
    """
    if ufunc in _OPERATORS and method == "__call__" and not out and not options:
        x, y = inputs
        plain, reflected = _OPERATORS[ufunc]
        return getattr(x, plain)(y) if isinstance(x, Tensor) else getattr(y, reflected)(x)
    values = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
    if out:
        options["out"] = tuple([x.numpy() if isinstance(x, Tensor) else x for x in out])
    found = getattr(ufunc, method)(*values, **options)
    if out:
        return out[0] if len(out) == 1 else out
    return tuple([array_wrap(self, f) for f in found]) if isinstance(found, tuple) else array_wrap(self, found)


def array_wrap(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
    """What a function of NumPy made of a tensor, as a tensor (`Tensor.__array_wrap__`): `np.round(t)`, `np.cumsum(t)`.

    >>> import numpy as np, adjoint as torch
    >>> np.cumsum(torch.tensor([1, 2, 3]))
    tensor([1, 3, 6])
    """
    return tensor(array)
