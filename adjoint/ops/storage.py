"""The memory of tensors: who shares it, where a tensor lies in it, and giving a tensor other memory.

Views share the memory of their base; `storage_offset` and `data_ptr` follow from the movements that lead to them. A
tensor that changes what it shows (`t_`, `set_`, `resize_`, `x.data = y`) takes the place of a view: `become`. If others
already look at its memory, a tensor without a name keeps that for them: `hand_over`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ops import shape
from adjoint.trace import recorder, views
from adjoint.trace.aval import aval, contiguous_strides
from adjoint.trace.handle import Tensor, blank
from adjoint.trace.moves import layout_of
from adjoint.trace.recorder import flush, local, realize, refresh_special
from adjoint.trace.state import rebased

# --- where a tensor lies ----------------------------------------------------------------------------------------------


def storage_offset(self: Tensor) -> int:
    """How many elements of the memory lie before the first of this tensor."""
    return layout_of(self)[2]


def base_of(t: Tensor) -> Tensor:
    return t._base if t._base is not None else t


def data_ptr(self: Tensor) -> int:
    """The address of the first element, until the tensor is next changed: an in-place operation may take other memory.

    Views and their base agree in it. Memory handed out (`numpy()`, DLPack, `from_numpy`) stays where it is.
    """
    if not self._aval.size:
        return 0
    base = base_of(self)
    buffer = base._data if base._data is not None else realize(base)
    return buffer.ptr + storage_offset(self) * self._aval.dtype.itemsize


def is_view(self: Tensor) -> bool:
    """Whether the tensor is a differentiable view of another; `detach` and `data` share memory and are none."""
    return self._base is not None and not all([m[0] == "alias" for m in self._chain])


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both are the same part of the same memory.

    >>> import adjoint as torch
    >>> x = torch.zeros(2, 2)
    >>> x.is_set_to(x.view(2, 2)), x.is_set_to(x[0])
    (True, False)
    """
    return base_of(self) is base_of(tensor) and layout_of(self) == layout_of(tensor)


class UntypedStorage:
    """The memory behind a tensor and its views, as bytes.

    >>> import adjoint as torch
    >>> x = torch.zeros(3)
    >>> x.untyped_storage().nbytes(), x.untyped_storage().data_ptr() == x[1:].untyped_storage().data_ptr()
    (12, True)
    """

    def __init__(self, base: Tensor) -> None:
        self._tensor = base

    @staticmethod
    def from_file(filename: Any, shared: bool = False, nbytes: int = 0) -> UntypedStorage:
        """The first bytes of a file, all unless `nbytes` says how many. They are read where a slice is asked for.

        shared: what is written goes into the file; RuntimeError, as it would not.

        >>> import tempfile
        >>> import adjoint as torch
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes([7, 8, 9]))
        ...     file.flush()
        ...     torch.asarray(torch.UntypedStorage.from_file(file.name, nbytes=3)[1:])
        tensor([8, 9], dtype=torch.uint8)
        """
        if shared:
            raise RuntimeError("UntypedStorage.from_file(shared=True): what tensors are written is not written to files; torch.save does that")
        return _FileStorage(filename, nbytes)

    def as_bytes(self) -> Tensor:
        """The memory as a vector of uint8, shared."""
        base = self._tensor.detach()
        return base if base._aval.dtype is dtypes.uint8 and base.dim() == 1 else base.reshape(-1).view(dtypes.uint8)

    def __getitem__(self, place: int | slice) -> Any:
        return self.tolist()[place] if isinstance(place, int) else UntypedStorage(self.as_bytes()[place])

    def nbytes(self) -> int:
        return self._tensor._aval.nbytes

    def size(self) -> int:
        return self.nbytes()

    def __len__(self) -> int:
        return self.size()

    def untyped(self) -> UntypedStorage:
        return self

    def data_ptr(self) -> int:
        return data_ptr(self._tensor)

    def element_size(self) -> int:
        return 1

    def tolist(self) -> list[int]:
        return realize(self._tensor).array(np.uint8, (self.nbytes(),)).tolist()

    def resize_(self, size: int) -> None:
        raise RuntimeError("resizing a storage is not supported; tensor.resize_ gives a tensor another size")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._tensor is self._tensor

    def __hash__(self) -> int:
        return hash((UntypedStorage, id(self._tensor)))


def _vector(values: np.ndarray) -> Tensor:
    from adjoint.ops.create import tensor

    return tensor(np.array(values))


class _FileStorage(UntypedStorage):
    """The bytes of a file, of which each slice gets memory of its own."""

    def __init__(self, filename: Any, nbytes: int) -> None:
        self._bytes = np.memmap(filename, np.uint8, "r", shape=(nbytes,) if nbytes else None)

    @property
    def _tensor(self) -> Tensor:  # type: ignore[override]
        found = self.__dict__.get("_read")
        if found is None:
            found = self._read = _vector(self._bytes)
        return found

    def nbytes(self) -> int:
        return self._bytes.size

    def __getitem__(self, place: int | slice) -> Any:
        return int(self._bytes[place]) if isinstance(place, int) else UntypedStorage(_vector(self._bytes[place]))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory behind the tensor; equal for tensors that share it."""
    return UntypedStorage(base_of(self))


class TypedStorage(UntypedStorage):
    """The memory behind a tensor and its views, counted in elements of its dtype.

    >>> import adjoint as torch
    >>> x = torch.tensor([[1., 2.], [3., 4.]])
    >>> x[1].storage().size(), x[1].storage()[0]
    (4, 1.0)
    """

    def size(self) -> int:
        return self._tensor._aval.size

    @property
    def dtype(self) -> DType:
        return self._tensor._aval.dtype

    def element_size(self) -> int:
        return self._tensor._aval.dtype.itemsize

    def tolist(self) -> list:
        return self[:]

    def __getitem__(self, place: int | slice) -> Any:
        return recorder.array_of(self._tensor).reshape(-1)[place].tolist()

    def untyped(self) -> UntypedStorage:
        return UntypedStorage(self._tensor)


def typed_storage(self: Tensor) -> TypedStorage:
    """The memory behind the tensor, as elements of its dtype; equal for tensors that share it."""
    return TypedStorage(base_of(self))


# --- memory that processes share --------------------------------------------------------------------------------------


def share_memory_(self: Tensor) -> Tensor:
    """Move the tensor to memory that processes forked from this one later share; returns the tensor itself.

    Writes of each are seen by all (like those to an array from `numpy()`), without any order among them. Views made before
    keep the memory they had.

    >>> import adjoint as torch
    >>> torch.ones(2).share_memory_().is_shared()
    True
    """
    a = self._aval
    if a.size and not is_shared(self):
        import mmap

        array: np.ndarray = np.ndarray(tuple(a.shape), a.dtype.np, mmap.mmap(-1, a.nbytes))
        array[...] = recorder.array_of(shape.contiguous(self.detach()))  # type: ignore[attr-defined]
        set_data(self, views.share(array, a.dtype))
    return self


def is_shared(self: Tensor) -> bool:
    """Whether `share_memory_` has moved the tensor's memory to where processes share it.

    >>> import adjoint as torch
    >>> torch.ones(2).is_shared()
    False
    """
    import mmap

    escape = base_of(self)._escape
    return escape is not None and escape.array is not None and isinstance(escape.array.base, mmap.mmap)


# --- showing other memory ---------------------------------------------------------------------------------------------


def hand_over(t: Tensor) -> Tensor:
    """A tensor that takes over the value, history and views of `t`, which afterwards stands for nothing."""
    realize(t)
    if abs(t._tid) == local.trace.id:
        flush(local.trace)
    m = blank()
    m._aval, m._data = t._aval, t._data
    m._hist, m._hslot, m._escape, m._version = t._hist, t._hslot, t._escape, t._version
    if m._hist is not None:
        m._hist.living[m._hslot] = weakref.ref(m)
    refresh_special(m)
    m._views, t._views = t._views, None
    for v in m._views.all() if m._views is not None else ():
        v._base = m
        rebased[0] += 1
    clear(t)
    return m


def clear(t: Tensor) -> None:
    """Forget the value of `t`, and what it is a view of."""
    tr = local.trace
    if abs(t._tid) == tr.id or id(t) in tr.mutated:  # what is pending is no longer its business
        tr.handles = [h for h in tr.handles if h is not t]
        tr.mutated.pop(id(t), None)
    if t._base is not None and t._base._views is not None:
        t._base._views.drop(t)
    t._tid, t._slot, t._data, t._base, t._chain = 0, -1, None, None, ()
    rebased[0] += 1
    t._hist, t._hslot, t._escape = None, -1, None
    t._version += 1
    refresh_special(t)


def become(t: Tensor, view: Tensor) -> Tensor:
    """Let `t` be the view `view`, which may be one of `t` itself."""
    a = view._aval
    if t._leaf and t._aval.requires_grad:  # without gradient mode: a leaf keeps memory of its own
        return own(t, shape.clone(view), t._aval.requires_grad)
    if t._base is None:
        hand_over(t)
    base, chain = view._base, view._chain
    clear(t)
    t._base, t._chain, t._aval = base, chain, a
    rebased[0] += 1
    base._views.add(t)
    return t


def own(t: Tensor, value: Tensor, requires_grad: bool) -> Tensor:
    """Give `t` the value of a tensor that nobody else knows."""
    buffer = realize(value)
    clear(t)
    t._data, t._aval = buffer, aval(value._aval.shape, value._aval.dtype, requires_grad)
    return t


def in_place_view(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """`t_`, `squeeze_` and their like: the same tensor, showing its memory in another form."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        views.check_in_place(self)
        return become(self, function(self, *args, **kwargs))

    method.__name__ = name
    method.__doc__ = f"In-place version of `{name.rstrip('_')}`; returns the tensor itself."
    return method


def share_memory(t: Tensor, source: Tensor, requires_grad: bool) -> None:
    """Let `t`, which stands for nothing, share the memory of `source`, without its history.

    A tensor that others differentiate through keeps its memory to itself: then `t` has a copy.
    """
    a = source._aval
    t._aval = aval(a.shape, a.dtype, requires_grad)
    if source._base is not None and not requires_grad:
        become_alias(t, source)
    elif source._base is not None and not a.requires_grad and _fills(source):
        take_memory(t, source._base, tuple(a.shape))
    elif source._base is not None and not a.requires_grad and _alone(source):
        t._data = recorder.Buffer.from_array(realize(source).array(a.dtype.np, a.shape))
        clear(source)
        source._base, source._chain, source._aval = t, (_ALIAS,), aval(a.shape, a.dtype)
        rebased[0] += 1
        t._views = views.Views()
        t._views.add(source)
    elif source._base is not None:
        array = views.export(source.detach(), stored=True)
        if array.flags.c_contiguous and array.size:
            adopt_array(t, array)
        else:
            t._data = recorder.Buffer.from_array(array)
    elif source._escape is not None and source._escape.active():
        t._data, t._escape = realize(source), views.Escape(source._escape.buffer, source._escape.array)
        t._special = True
    elif a.requires_grad:
        t._data = recorder.Buffer.from_array(realize(source).array(a.dtype.np, a.shape))
    else:
        take_memory(t, source, tuple(a.shape))


_ALIAS = ("alias", None, ())


def take_memory(t: Tensor, base: Tensor, sizes: tuple[int, ...]) -> None:
    """Let `t` have the memory of `base` in another shape, or as numbers of another dtype; `base` and its views become views of it."""
    realize(base)
    if abs(base._tid) == local.trace.id:
        flush(local.trace)
    a, others = base._aval, base._views
    t._data = base._data
    start: tuple = (_ALIAS,) if tuple(a.shape) == sizes else (_ALIAS, ("reshape", tuple(a.shape), ()))
    if t._aval.dtype is not a.dtype:
        start = (_ALIAS, ("reshape", (t._aval.size,), ()), ("reinterpret", (t._aval.dtype, a.dtype), ()), ("reshape", tuple(a.shape), ()))
    clear(base)
    base._views = None
    base._base, base._chain, base._aval = t, start, aval(a.shape, a.dtype)
    rebased[0] += 1
    t._views = views.Views()
    t._views.add(base)
    for v in others.all() if others is not None else ():
        v._base, v._chain = t, (*start, *v._chain)
        t._views.add(v)


def _fills(view: Tensor) -> bool:
    """Whether a view shows all of its base's memory in order, and nobody outside the program sees it."""
    base = view._base
    a, b = view._aval, base._aval
    plain = base._escape is None and not b.requires_grad and (a.dtype is b.dtype or not (a.dtype.is_complex or b.dtype.is_complex))
    return plain and a.nbytes == b.nbytes and layout_of(view)[1:] == (contiguous_strides(a.shape), 0)


def _alone(view: Tensor) -> bool:
    """Whether nothing but this view holds its base."""
    realize(view)
    flush(local.trace)
    base = view._base
    held = base._views.all()
    return base._escape is None and len(held) == 1 and held[0] is view and getrefcount(base) == _HELD_BY_A_VIEW


_HELD_BY_A_VIEW = 3  # references to such a base: the view's, the local variable, the argument


def become_alias(t: Tensor, source: Tensor) -> None:
    t._base, t._chain = source._base, (*source._chain, _ALIAS)
    rebased[0] += 1
    t._aval = aval(source._aval.shape, source._aval.dtype, False, source._aval.strides)
    t._base._views.add(t)


def adopt_array(t: Tensor, array: np.ndarray) -> None:
    """Let `t` stand for the memory of a C-contiguous array."""
    buffer = recorder.Buffer.wrap(array)
    t._data, t._escape, t._special = buffer, views.Escape(buffer, array), True


def set_data(self: Tensor, value: Tensor) -> None:
    """`t.data = value`: the memory of another tensor (and its shape and dtype), without history.

    Views made before keep the old memory.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
    requires = self._aval.requires_grad
    if requires and value._aval.dtype.category < 2:
        raise RuntimeError(
            f"data set to a tensor that requires gradients must be floating point or complex dtype, not {value._aval.dtype.name}"
        )
    if value is self:
        return
    replace(self, value, requires and self._leaf)
    if self._leaf and not requires:
        self._leaf = False


def replace(t: Tensor, source: Tensor, requires_grad: bool) -> None:
    """Let `t` leave its memory to those that share it, and share that of `source`."""
    version = t._version
    if base_of(source) is base_of(t):
        if t._base is None:
            if requires_grad:
                own(t, shape.clone(source.detach()), True)
                t._version = version
                return
            hand_over(t)
    elif t._base is None and t._views is not None and t._views.all():
        hand_over(t)
    clear(t)
    t._views = None
    t._version = version
    share_memory(t, source, requires_grad)


def become_leaf(t: Tensor) -> None:
    """Let a view have derivatives of its own, and still share the memory."""
    source = views.alias_view(t)
    clear(t)
    share_memory(t, source, True)


# --- set_ and resize_ -------------------------------------------------------------------------------------------------


def set_(self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
    """Share the memory of another tensor or storage, in the given form; without arguments become empty.

    >>> import adjoint as torch
    >>> x = torch.arange(3.)
    >>> y = torch.zeros(0).set_(x)
    >>> _ = x.add_(1)
    >>> y
    tensor([1., 2., 3.])
    """
    views.check_in_place(self)
    if source is None:
        return own(self, recorder.record_full(0, (0,), self._aval.dtype), False)
    if isinstance(source, UntypedStorage):
        source = source._tensor
        size = (source._aval.size,) if size is None else size
    if source._aval.dtype is not self._aval.dtype:
        raise RuntimeError(
            f"set_: the source has dtype {source._aval.dtype.name}, the tensor {self._aval.dtype.name}; they must be the same"
        )
    if size is not None:
        sizes = shape.sizes_of((size,) if isinstance(size, int) else tuple(size))
        steps = tuple(stride) if stride is not None else contiguous_strides(sizes)
        source = shape.as_strided(source.detach(), sizes, steps, storage_offset)
    replace(self, source, False)
    self._version += 1
    return self


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Another shape over the same memory, in row-major order; what lies beyond the present memory is zeros.

    Raises RuntimeError for a tensor that requires grad, and where more memory is needed than there is while others (a
    NumPy array, views) share it.

    >>> import adjoint as torch
    >>> torch.arange(6).resize_(2, 2)
    tensor([[0, 1],
            [2, 3]])
    """
    if self._aval.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    new = shape.sizes_of(sizes)
    if tuple(self._aval.shape) == new:
        return self
    count = 1
    for n in new:
        count *= n
    base = base_of(self)
    need = storage_offset(self) + count
    if count == 0 or need <= base._aval.size:
        offset = storage_offset(self)
        become(self, shape.as_strided(self, new, contiguous_strides(new), offset))
        return self
    if base._escape is not None and base._escape.active():
        raise RuntimeError(
            f"Trying to resize storage that is not resizable: {list(self._aval.shape)} to {list(new)} needs more memory than the "
            "array has that it is shared with; clone() the tensor first"
        )
    if base is not self or (self._views is not None and self._views.all()):
        raise RuntimeError(
            f"resize_ from {list(self._aval.shape)} to {list(new)} needs more memory than there is, and other tensors share it; "
            "clone() the tensor first"
        )
    flat = shape.reshape(self, (self._aval.size,))
    more = recorder.record("place", (flat,), ((count,), (0,), (1,)))
    own(self, recorder.record("reshape", (more,), new), False)
    self._views = None
    return self


def resize_as_(self: Tensor, other: Tensor, memory_format: Any = None) -> Tensor:
    """`resize_` to the shape of another tensor.

    >>> import adjoint as torch
    >>> torch.arange(4).resize_as_(torch.zeros(2, 2)).shape
    torch.Size([2, 2])
    """
    return resize_(self, *other._aval.shape)
