"""The methods of `Tensor`: a table of delegations to `adjoint.ops`, and what only a method can do.

`attach()` runs once when the package is imported. In-place methods compute the new value with the plain function and
assign it (`in_place`); conversions to Python and NumPy read the value and so run the trace.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from adjoint import dtypes, layouts
from adjoint.absent import TENSOR, Absent
from adjoint.autograd import engine
from adjoint.dtypes import DType
from adjoint.grad.walk import AfterAccumulation, Converted
from adjoint.ops import (
    by_python,
    complex_numbers,
    conversion,
    create,
    distinct,
    elementwise,
    exchange,
    factors,
    gather,
    generators,
    histograms,
    incomplete_gamma,
    index,
    joining,
    linalg,
    masks,
    numeric,
    products,
    random,
    rearrange,
    reduce,
    samples,
    shape,
    sort,
    special,
    storage,
)
from adjoint.ops.elementwise import cast, functions
from adjoint.trace import elements, recorder, strides, views
from adjoint.trace.arguments import checked
from adjoint.trace.aval import Size, aval
from adjoint.trace.handle import Parameter, Tensor, blank
from adjoint.trace.recorder import bind, local, realize, record_full, refresh_special
from adjoint.trace.views import advance, assign, check_in_place, is_leaf, overwrite, point

_hook_numbers = itertools.count()
_DTYPE = -2  # the number of the hook that grad_dtype sets
_KEEP = -1  # the number of the hook that retain_grad sets


# --- reading values ------------------------------------------------------------------------------------------------------


def number_of(self: Tensor) -> Any:
    """The same for `int(t)` and `float(t)`, where PyTorch raises ValueError."""
    if self._aval.size != 1:
        raise ValueError(f"only one element tensors can be converted to Python scalars, this one has shape {list(self._aval.shape)}")
    number = self.item()  # not the function below: it may be native code
    if isinstance(number, complex):
        if number.imag:
            raise RuntimeError(f"value cannot be converted to a real number without overflow: {number}; use .real, .imag or .abs()")
        return number.real
    return number


def to_float(self: Tensor) -> float:
    if self._aval.size == 1 and type(number := self.item()) is float:  # most often, in loops over elements
        return number
    return float(number_of(self))


def item(self: Tensor) -> Any:
    """The value of a tensor with one element, as a Python number. RuntimeError otherwise."""
    a = self._aval
    if a.size != 1:
        raise RuntimeError(f"a Tensor with {a.size} elements cannot be converted to Scalar")
    if self._base is not None:
        number = elements.read(self)
        if number is not None:
            return number
    return recorder.array_of(self).item()


def tolist(self: Tensor) -> Any:
    """The values as nested Python lists; a number for a 0-d tensor.

    >>> import adjoint as torch
    >>> torch.tensor([[1, 2], [3, 4]]).tolist()
    [[1, 2], [3, 4]]
    """
    return recorder.array_of(self).tolist()


def numpy(self: Tensor, *, force: bool = False) -> np.ndarray:
    """A NumPy array on the tensor's memory: writes are seen on both sides.

    Raises RuntimeError for a tensor that requires grad (detach it first, or `force=True`).
    """
    if self._aval.requires_grad:
        if not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            )
        return views.export(self.detach())
    return views.export(self)


def to_array(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    array = numpy(self)
    if dtype is not None and np.dtype(dtype) != array.dtype:
        return array.astype(dtype)
    return array.copy() if copy else array


def truth(self: Tensor) -> bool:
    a = self._aval
    if a.size != 1:
        raise RuntimeError(
            "Boolean value of Tensor with no values is ambiguous"
            if a.size == 0
            else "Boolean value of Tensor with more than one value is ambiguous: use .any() or .all()"
        )
    return bool(self.item())


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero. RuntimeError for another number of elements.

    >>> import adjoint as torch
    >>> torch.is_nonzero(torch.tensor([2.]))
    True
    """
    return truth(input)


def is_inference(input: Tensor) -> bool:
    """False: tensors made under `inference_mode` are ordinary ones here, which may be used in what is differentiated later.

    >>> import adjoint as torch
    >>> with torch.inference_mode():
    ...     torch.ones(2).is_inference()
    False
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"is_inference(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return False


def to_index(self: Tensor) -> int:
    if self._aval.dtype.is_floating_point or self._aval.size != 1:
        raise TypeError("only integer tensors of a single element can be converted to an index")
    return int(self.item())


def length(self: Tensor) -> int:
    if not self._aval.shape:
        raise TypeError("len() of a 0-d tensor")
    return self._aval.shape[0]


def iterate(self: Tensor) -> Iterator[Tensor]:
    if not self._aval.shape:
        raise TypeError("iteration over a 0-d tensor")
    part = Tensor.__getitem__.__get__(self)  # not a subclass's own
    return map(part, range(self._aval.shape[0]))  # one after the other: who reads each needs no trace


def contains(self: Tensor, element: Any) -> bool:
    if not isinstance(element, (Tensor, int, float, complex, np.generic)):
        raise RuntimeError(
            f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}; "
            "compare rows with (x == torch.tensor(row)).all(1).any()"
        )
    return bool((self == element).any())


def represent(self: Tensor) -> str:
    from adjoint.printing import tensor_text

    return tensor_text(self)


def format_tensor(self: Tensor, spec: str) -> str:
    if not self._aval.shape:
        return format(item(self), spec)
    return object.__format__(self, spec)


def stride_of(self: Tensor, dim: int | None = None) -> Any:
    """Steps in memory from element to element along each axis, counted in elements."""
    steps = strides.strides_of(self)
    return steps if dim is None else steps[shape.axis_of(dim, len(steps))]


# --- dtype and device ----------------------------------------------------------------------------------------------------


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Another dtype and/or device ("cpu"); or those of another tensor."""
    dtype = kwargs.get("dtype")
    device = kwargs.get("device")
    unknown = kwargs.keys() - {"dtype", "device", "other", "copy", "non_blocking", "memory_format"}
    if unknown:
        raise TypeError(f"to() got an unexpected keyword argument '{unknown.pop()}'; it takes dtype, device, other, copy, non_blocking")
    for a in (*args, *([kwargs["other"]] if "other" in kwargs else ())):
        if isinstance(a, DType):
            dtype = a
        elif isinstance(a, Tensor):
            dtype = a._aval.dtype
        elif isinstance(a, (str, create_device)):
            device = a
        elif a is not None and not isinstance(a, bool):
            raise TypeError(f"to(): expected a dtype, a device or a tensor, got {type(a).__name__}: {a!r:.60}")
    create.check_device(device)
    out = self if dtype is None else cast(self, create.check_dtype(dtype))  # type: ignore[arg-type]
    return out.clone() if kwargs.get("copy") and out is self else out


def no_cuda(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """Refused: there is no GPU. AssertionError as well as RuntimeError, which PyTorch raises in different builds."""
    return to(self, device="cuda")


DEVICE_TYPES = ("cpu", "cuda", "mps", "meta", "xpu", "xla", "hpu", "mtia", "vulkan", "ipu", "privateuseone")


class create_device:
    """A place where tensors live. Tensors are made on "cpu" only; other places can be named and compared.

    >>> import adjoint as torch
    >>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device(type='cpu')
    """

    def __init__(self, type: Any, index: int | None = None) -> None:
        if not isinstance(type, (str, create_device)):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {type.__class__.__name__}; for example 'cpu'")
        name, _, number = str(type).partition(":")
        if name not in DEVICE_TYPES or (number and not number.isdecimal()):
            raise RuntimeError(f"Expected one of {', '.join(DEVICE_TYPES)} device type at start of device string: {str(type)}")
        self.type = name
        self.index = int(number) if number else index

    def __repr__(self) -> str:
        return f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        name, _, number = str(other).partition(":")
        return name == self.type and (self.type == "cpu" or number == ("" if self.index is None else str(self.index)))

    def __hash__(self) -> int:
        return hash(self.type)


create_device.__name__ = create_device.__qualname__ = "device"
CPU = create_device("cpu")


def type_of(self: Tensor, dtype: Any = None) -> Any:
    if dtype is None:
        return f"torch.{dtypes.LEGACY[self._aval.dtype]}Tensor"
    if isinstance(dtype, str):
        found = next((d for d, name in dtypes.LEGACY.items() if dtype in (f"torch.{name}Tensor", f"torch.{d.name}", d.name)), None)
        if found is None:
            raise ValueError(f"invalid type: {dtype!r}; use a dtype such as torch.float32")
        dtype = found
    return cast(self, create.check_dtype(dtype))  # type: ignore[arg-type]


# --- autograd -------------------------------------------------------------------------------------------------------------


def backward(self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradient of this tensor (contracted with `gradient`) to the `.grad` of the leaves it depends on."""
    if gradient is None and retain_graph is None and not create_graph and inputs is None:
        tr = local.trace
        macros = tr.node.macros
        if macros is not None and self._tid == tr.id:
            macro = macros.get(("backward", (self._slot,), 1, (True,), False, False))
            if macro is not None:
                engine.jump(tr, macro)
                return
    engine.backward(self, gradient, retain_graph, create_graph, inputs)


class Hook:
    """What `register_hook` returns; `remove()` takes the hook away."""

    def __init__(self, table: dict[int, Any], number: int) -> None:
        self._table, self._number = table, number

    def remove(self) -> None:
        self._table.pop(self._number, None)

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()


def register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> Hook:
    """Call `hook(gradient)` whenever this tensor's gradient is computed; what it returns replaces the gradient."""
    if not self._aval.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    number = next(_hook_numbers)
    table = _hook_table(self)
    table[number] = hook
    if _KEEP in table:  # what is retained is the gradient after all other hooks
        table[_KEEP] = table.pop(_KEEP)
    return Hook(table, number)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> Hook:
    """Call `hook(self)` in each `backward` as soon as the gradient has been added to this leaf's `.grad`.

    The hook runs without gradient mode (with it under `create_graph=True`), and may step an optimizer and set `.grad` to
    None. `autograd.grad`, which leaves `.grad` alone, does not call it. Returns a handle with `remove()`. RuntimeError for a
    tensor that does not require grad, or is no leaf; TypeError in backward for a hook that returns something.

    >>> import adjoint as torch
    >>> w = torch.tensor([1., 2.], requires_grad=True)
    >>> def step(w):
    ...     w -= 0.1 * w.grad
    >>> handle = w.register_post_accumulate_grad_hook(step)
    >>> (w * w).sum().backward()
    >>> w.detach()
    tensor([0.8000, 1.6000])
    """
    if not self._aval.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient: call .requires_grad_() first")
    if not self._leaf:
        raise RuntimeError(
            "post accumulate grad hooks cannot be registered on non-leaf tensors: gradients are accumulated in leaves alone; "
            "register_hook() sees the gradient of this one"
        )
    table, number = _hook_table(self), next(_hook_numbers)
    table[number] = AfterAccumulation(hook)
    self._special = True
    return Hook(table, number)


def _hook_table(self: Tensor) -> dict[int, Any]:
    if self._leaf:
        if self._hooks is None:
            self._hooks = {}
            if self._tid == local.trace.id:  # bound already: its input step says nothing of hooks
                local.trace.mark("hook", ("leaf", self._slot))
        refresh_special(self)
        self._special = True
        return self._hooks
    from adjoint.grad.walk import locate

    hist, slot = locate(self)  # type: ignore[misc]
    if hist.trace is not None:
        hist.trace.mark("hook", slot)
    elif self._data is not None:  # rules must find this value here, not compute it again elsewhere
        hist.values.setdefault(slot, self._data)
    return hist.payload.setdefault(("hook", slot), {})


def retain_grad(self: Tensor) -> None:
    """Keep the gradient of a non-leaf in its `.grad`."""
    if not self._aval.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self._leaf or self._retains:
        return
    import weakref

    ref = weakref.ref(self)

    def keep(g: Tensor) -> None:
        t = ref()
        if t is not None:
            t._grad = g if t._grad is None else t._grad + g

    table = _hook_table(self)

    def move() -> None:
        nonlocal table
        t = ref()
        if t is not None and t._aval.requires_grad and not t._leaf:
            table.pop(_KEEP, None)
            table = _hook_table(t)
            table[_KEEP] = keep

    table[_KEEP] = keep
    self._retains = move  # after a change in place: what is kept is the gradient of the new value
    self._special = True


def set_grad(self: Tensor, grad: Tensor | None) -> None:
    """`t.grad = grad`: what is there is added to, and stepped along, and so has the shape and dtype of the tensor."""
    if grad is None:
        self._grad = None
        return
    if not isinstance(grad, Tensor):
        raise TypeError(
            f"assigned grad expected to be a Tensor or None but got grad of type {type(grad).__name__}; make one with torch.as_tensor()"
        )
    if grad is self:
        raise RuntimeError("can't assign Variable as its own grad; assign a .clone() of it")
    mine, given = self._aval, grad._aval
    if given.shape != mine.shape:
        raise RuntimeError(
            f"attempting to assign a gradient of size '{list(given.shape)}' to a tensor of size '{list(mine.shape)}'. Please ensure "
            "that the gradient and the tensor are the same size: .reshape() or .expand() it"
        )
    wanted = mine.dtype if self._grad_dtype is False else self._grad_dtype
    if wanted not in (None, given.dtype):
        which = "dtype" if wanted is mine.dtype else "grad_dtype"
        raise RuntimeError(
            f"attempting to assign a gradient with dtype '{given.dtype.name}' to a tensor with {which} '{wanted.name}': "
            f"convert it with .to(torch.{wanted.name}), or set the tensor's grad_dtype"
        )
    self._grad = grad


def grad_dtype_of(self: Tensor) -> DType | None:
    """The dtype that gradients of this leaf have: its own unless it is set to another, or to None, which lets them be what they
    are.

    RuntimeError for a tensor that is no leaf, and from setting it beside a `.grad` of another dtype.

    >>> import adjoint as torch
    >>> w = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    >>> w.grad_dtype = torch.float32
    >>> (w * 2).sum().backward()
    >>> w.grad
    tensor([2., 2.])
    """
    if not is_leaf(self):
        raise RuntimeError("grad_dtype can only be accessed on leaf tensors: this one was computed from others")
    return self._aval.dtype if self._grad_dtype is False else self._grad_dtype


def set_grad_dtype(self: Tensor, dtype: DType | None) -> None:
    if not (dtype is None or isinstance(dtype, DType)):
        raise RuntimeError(f"grad_dtype must be a torch.dtype or None, but got {type(dtype).__name__}")
    if dtype is not None and dtype.category < 2:
        raise RuntimeError(f"grad_dtype must be a floating point or complex dtype, in which a gradient can be, but got {dtype.name}")
    if not is_leaf(self):
        raise RuntimeError("grad_dtype can only be set on leaf tensors: this one was computed from others")
    if dtype is not None and self._grad is not None and self._grad._aval.dtype is not dtype:
        raise RuntimeError(
            f"Cannot set grad_dtype to '{dtype.name}' because there is already a gradient with dtype '{self._grad._aval.dtype.name}'. "
            "Please clear the gradient (.grad = None) before changing grad_dtype"
        )
    self._grad_dtype = dtype
    if self._aval.requires_grad:
        table = _hook_table(self)
    else:
        table = self._hooks = self._hooks or {}
        self._special = True
    others = {number: hook for number, hook in table.items() if type(hook) is not Converted}
    table.clear()
    table[_DTYPE] = Converted(dtype)
    table.update(others)


def forget_grad(self: Tensor) -> None:
    """`del t.grad`."""
    self._grad = None


def set_requires_grad(self: Tensor, value: bool) -> None:
    create.require_leaf(self, bool(value))


def data_of(self: Tensor) -> Tensor:
    return views.alias_view(self)


# --- in place -------------------------------------------------------------------------------------------------------------


def in_place(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """The in-place method of a function: compute, check that the result fits, assign."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_in_place(self)
        return assign(self, fitting(self, function(self, *args, **kwargs), name))

    method.__name__ = name
    method.__doc__ = f"In-place version of `{name.rstrip('_')}`; returns the tensor itself."
    return method


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """The tensor itself: there is no device whose copies pinned memory would speed up, and `is_pinned` is False.

    >>> import adjoint as torch
    >>> x = torch.ones(2)
    >>> x.pin_memory() is x
    True
    """
    return self


def get_device(input: Tensor) -> int:
    """-1, the number of the CPU.

    >>> import adjoint as torch
    >>> torch.get_device(torch.zeros(2))
    -1
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"get_device(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    return -1


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the shapes are the same.

    >>> import adjoint as torch
    >>> torch.is_same_size(torch.zeros(2, 3), torch.ones(2, 3))
    True
    """
    return input._aval.shape == other._aval.shape


def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """Sums over the axes along which `size` would have to be expanded to this shape. RuntimeError if it cannot be.

    >>> import adjoint as torch
    >>> torch.ones(2, 3).sum_to_size(2, 1)
    tensor([[3.],
            [3.]])
    """
    have, wanted = tuple(self._aval.shape), shape.sizes_of(size)
    lead = len(have) - len(wanted)
    if lead < 0 or any(w not in (1, n) for n, w in zip(have[lead:], wanted, strict=True)):
        raise RuntimeError(f"size {{{list(wanted)}}} is not expandable to size {{{list(have)}}}: sum_to_size takes a shape that broadcasts to the tensor's")
    axes = tuple(d for d in range(len(have)) if d < lead or (wanted[d - lead] == 1 and have[d] != 1))
    return shape.reshape(reduce.sum(self, axes), wanted) if axes else self


def dim_order(self: Tensor) -> tuple[int, ...]:
    """The axes in the order of their strides, the outermost first.

    >>> import adjoint as torch
    >>> torch.zeros(2, 3).t().dim_order()
    (1, 0)
    """
    steps = stride_of(self)
    return tuple(sorted(range(len(steps)), key=lambda d: -steps[d]))


def make_new(self: Tensor, *args: Any) -> Tensor:
    """A tensor of this dtype, of the given sizes, or of data; zeros where PyTorch has what was in the memory.

    >>> import adjoint as torch
    >>> torch.zeros(1).new([1, 2]), torch.zeros(1).new(2, 1).shape
    (tensor([1., 2.]), torch.Size([2, 1]))
    """
    dtype = self._aval.dtype
    if len(args) == 1 and not isinstance(args[0], (int, Size)):
        return create.tensor(args[0], dtype=dtype)
    return create.zeros(*(args or (0,)), dtype=dtype)


def float_power_(self: Tensor, exponent: Any) -> Tensor:
    """In-place version of `float_power`, for tensors of float64 and complex128, which are its results; RuntimeError for others."""
    value = numeric.float_power(self, exponent)
    if value._aval.dtype is not self._aval.dtype:
        needed = _kind(value._aval.dtype)
        raise RuntimeError(
            f"the base given to float_power_ has dtype {_kind(self._aval.dtype)} but the operation's result requires dtype {needed}: "
            "use x = x.float_power(exponent), or pow_"
        )
    return in_place(lambda t, value: value, "float_power_")(self, value)


def abs_in_place(self: Tensor) -> Tensor:
    """`abs` for its in-place forms, which complex tensors have not: the result is real."""
    if self._aval.dtype.is_complex:
        raise RuntimeError("In-place abs is not supported for complex tensors: use x = x.abs()")
    return functions["abs"](self)


def fitting(t: Tensor, value: Tensor, name: str) -> Tensor:
    a, b = t._aval, value._aval
    if a.shape != b.shape:
        raise RuntimeError(
            f"output with shape {list(a.shape)} doesn't match the broadcast shape {list(b.shape)}: {name} cannot change "
            "the shape of the tensor it writes to"
        )
    if a.dtype is not b.dtype:
        if not dtypes.can_cast(b.dtype, a.dtype):
            raise RuntimeError(f"result type {_kind(b.dtype)} can't be cast to the desired output type {_kind(a.dtype)}")
        return cast(value, a.dtype)
    return value


def _kind(d: DType) -> str:
    return dtypes.LEGACY[d]


def augmented(name: str, function: Callable[..., Any], prim: str = "") -> Callable[[Tensor, Any], Any]:
    """`a += b` and its relatives. With the name of the primitive behind it, an update without gradient that is known
    at this place of the trace costs one look-up."""

    def method(self: Tensor, other: Any) -> Any:
        tr = local.trace
        if tr.grad:
            check_in_place(self)
        elif prim and type(other) is Tensor:
            tid = tr.id
            key = (
                prim,
                self._slot if self._tid == tid else bind(tr, self),
                other._slot if other._tid == tid else bind(tr, other),
            )
            if tr.id == tid and advance(tr, self, key):
                return self
        value = function(self, other)
        if value is NotImplemented:
            return value
        a, b = self._aval, value._aval
        if a is not b and (a.dtype is not b.dtype or a.shape != b.shape):
            value = fitting(self, value, name)
        if self._base is None and (self._leaf or self._aval is value._aval):  # nothing of `assign` matters
            point(self, value)
            return self
        return assign(self, value)

    return method


def zero_(self: Tensor) -> Tensor:
    """Set every element to 0; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.ones(2).zero_()
    tensor([0., 0.])
    """
    tr = local.trace
    a = self._aval
    if tr.grad:
        check_in_place(self)
    elif not tr.static and advance(tr, self, ("full", int, (a.key_shape, a.dtype))):
        tr.scalars.append(0)
        return self
    value = record_full(0, a.key_shape, a.dtype)
    if self._base is None and (self._leaf or a is value._aval):
        point(self, value)
        return self
    return assign(self, value)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to `value`; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.ones(2).fill_(3)
    tensor([3., 3.])
    """
    check_in_place(self)
    return assign(self, index.fill_value(self, value))


def copy_(self: Tensor, src: Tensor | float, non_blocking: bool = False) -> Tensor:
    """Take the values of `src`, broadcast and converted; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.zeros(2).copy_(torch.tensor(5))
    tensor([5., 5.])
    """
    check_in_place(self)
    if isinstance(src, (int, float)):
        return fill_(self, src)
    return overwrite(self, index.fit(src, tuple(self._aval.shape), self._aval.dtype))


def detach_(self: Tensor) -> Tensor:
    """Cut the tensor off from what it was computed from; returns the tensor itself.

    >>> import adjoint as torch
    >>> x = torch.ones(2, requires_grad=True) * 2
    >>> x.detach_().requires_grad
    False
    """
    if self._base is not None and self._aval.requires_grad:
        raise RuntimeError("Can't detach views in-place. Use detach() instead.")
    buffer = realize(self)
    self._data, self._hist, self._tid = buffer, None, 0
    self._aval = aval(self._aval.shape, self._aval.dtype, False)
    refresh_special(self)
    return self


def fill_diagonal_(self: Tensor, value: float) -> Tensor:
    """Set the diagonal of a matrix to `value`; returns the tensor itself.

    >>> import adjoint as torch
    >>> torch.zeros(2, 2).fill_diagonal_(1)
    tensor([[1., 0.],
            [0., 1.]])
    """
    value = conversion.stored("fill_diagonal_()", value, self._aval.dtype)
    m, n = self._aval.shape[-2:]
    on = rearrange.triangle_mask(m, n, 0, True) & rearrange.triangle_mask(m, n, 0, False)
    return in_place(lambda t: elementwise.where(on, value, t), "fill_diagonal_")(self)


# --- copies -----------------------------------------------------------------------------------------------------------------


def shallow_copy(self: Tensor) -> Tensor:
    """`copy.copy`: another tensor on the same memory, with the attributes that the user has set."""
    out = blank(type(self))
    adopt(out, self.detach(), self._aval.requires_grad)
    out.__dict__.update(own_attributes(self))
    return out


def own_attributes(t: Tensor) -> dict[str, Any]:
    return {name: value for name, value in vars(t).items() if not hasattr(Tensor, name)}


def deepcopy(self: Tensor, memo: dict) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if not is_leaf(self):
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment. "
            "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage."
        )
    a = self._aval
    out = recorder.tensor_from_array(recorder.array_of(self), a.requires_grad, a.dtype)
    if type(self) is not Tensor:
        out.__class__ = type(self)
    if self._grad is not None and not isinstance(self, Parameter):  # as in PyTorch: a copied module begins without gradients
        out._grad = self._grad.clone().detach()
    memo[id(self)] = out
    out.__dict__.update(copy.deepcopy(own_attributes(self), memo))
    return out


def rebuild(cls: type, array: np.ndarray, requires_grad: bool, dtype: DType | None = None) -> Tensor:
    """Unpickling: from memory as `array`, with its dtype where the array's own does not tell."""
    kind = dtypes.from_numpy(array.dtype) if dtype is None else dtype
    out = recorder.tensor_from_buffer(recorder.Buffer.from_array(array), array.shape, kind, requires_grad)
    out.__class__ = cls
    return out


def reduce_tensor(self: Tensor, protocol: int) -> tuple:
    a = self._aval
    return rebuild, (type(self), realize(self).array(a.dtype.np, a.shape).copy(), a.requires_grad, a.dtype)


def init_tensor(self: Tensor, *args: Any) -> None:
    """The legacy constructor: `Tensor([1, 2])` from data, `Tensor(2, 3)` by sizes."""
    if args and all(isinstance(a, int) for a in args):
        source = create.zeros(*args)
    else:
        source = create.tensor(args[0] if args else [], dtype=local.trace.default_dtype)
    adopt(self, source, False)


def init_parameter(self: Tensor, data: Any = None, requires_grad: bool = True) -> None:
    """A trainable tensor: a leaf with the value of `data`."""
    source = create.zeros(0) if data is None else data
    if not isinstance(source, Tensor):
        source = create.tensor(source)
    adopt(self, source, requires_grad)


def adopt(self: Tensor, source: Tensor, requires_grad: bool) -> None:
    """Become a leaf that shares the memory of `source`."""
    if requires_grad and source._aval.dtype.category < 2:
        raise RuntimeError(
            f"Only Tensors of floating point and complex dtype can require gradients (got {source._aval.dtype.name})"
        )
    self._tid, self._slot, self._data, self._special = 0, -1, None, False
    self._base, self._chain, self._views, self._version = None, (), None, 0
    self._leaf = requires_grad
    self._grad = None
    storage.share_memory(self, source, requires_grad)


# --- the tables ---------------------------------------------------------------------------------------------------------------

SAME_NAME = {
    elementwise: "add sub div pow round square reciprocal clamp floor_divide remainder isfinite logical_and logical_or "
    "logical_xor lerp addcmul addcdiv xlogy logaddexp isclose nan_to_num heaviside hypot copysign deg2rad rad2deg frac logit",
    reduce: "sum prod mean var std amax amin argmax argmin max min any all count_nonzero cumsum cumprod cummax cummin "
    "logsumexp norm dist median nanmedian aminmax",
    shape: "reshape view permute transpose movedim t squeeze unsqueeze flatten unflatten expand broadcast_to contiguous "
    "clone detach narrow select diagonal unfold as_strided ravel",
    joining: "split split_with_sizes chunk unbind tensor_split hsplit vsplit dsplit",
    rearrange: "flip fliplr flipud rot90 repeat tile repeat_interleave roll tril triu diag diag_embed diagflat trace narrow_copy "
    "diagonal_scatter select_scatter slice_scatter as_strided_scatter",
    index: "index_put",
    gather: "gather take_along_dim index_select take put scatter scatter_add scatter_reduce index_add index_copy index_fill "
    "index_reduce",
    masks: "masked_fill masked_select masked_scatter nonzero argwhere",
    distinct: "unique unique_consecutive",
    sort: "argsort sort msort topk kthvalue mode bincount histc quantile nanquantile",
    histograms: "histogram",
    numeric: "positive fmax fmin signbit isposinf isneginf float_power ldexp logaddexp2 gcd lcm nextafter frexp",
    products: "matmul mm mv dot bmm outer addmm baddbmm addmv kron inner vdot addr addbmm",
    linalg: "inv det slogdet logdet qr svd pinv matrix_power cross cholesky_solve cholesky_inverse matrix_exp",
    complex_numbers: "conj angle is_conj resolve_conj is_neg resolve_neg conj_physical sgn isreal is_complex",
    samples: "cov corrcoef nansum nanmean diff logcumsumexp renorm",
    special: "i0 mvlgamma sinc",
    random: "uniform_ normal_ bernoulli_ exponential_ random_ geometric_ cauchy_ log_normal_ bernoulli multinomial",
}  # fmt: skip
ALIASES = {
    "absolute": "abs", "negative": "neg", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "arctan2": "atan2", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne",
    "clip": "clamp", "swapaxes": "transpose", "swapdims": "transpose", "moveaxis": "movedim", "ger": "outer",
    "inverse": "inv", "pinverse": "pinv", "fix": "trunc", "bitwise_left_shift": "shift_left", "bitwise_right_shift": "shift_right",
}  # fmt: skip
IN_PLACE = (
    "add sub mul div pow neg abs exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh "
    "sigmoid relu floor ceil round trunc clamp reciprocal square remainder fmod floor_divide lerp addcmul addcdiv "
    "masked_fill masked_scatter scatter scatter_add scatter_reduce index_add index_copy index_fill index_put index_reduce put cumsum cumprod tril triu "
    "acosh asinh atanh atan2 hypot copysign heaviside ldexp xlogy logical_and logical_or logical_xor sign sgn frac logit "
    "erf erfc erfinv lgamma digamma deg2rad rad2deg conj_physical renorm nan_to_num logical_not bitwise_not bitwise_and bitwise_or bitwise_xor eq ne lt le gt ge addmm baddbmm addbmm addmv addr gcd lcm nextafter i0 polygamma mvlgamma sinc igamma igammac"
).split()
EXPLAINED = (
    "view_as expand_as reshape_as type_as new_full new_tensor new_zeros where equal allclose copy_ softmax log_softmax stride "
    "set_ resize_ resize_as_ is_set_to"
)
ELSEWHERE = "is_cuda is_meta is_sparse is_sparse_csr is_quantized is_mkldnn is_nested is_mps is_vulkan is_xla is_xpu is_ipu is_maia is_mtia"
IN_PLACE_VIEWS = "squeeze unsqueeze t transpose swapaxes swapdims as_strided".split()
CASTS = {"float": dtypes.float32, "double": dtypes.float64, "long": dtypes.int64, "int": dtypes.int32,
         "short": dtypes.int16, "char": dtypes.int8, "byte": dtypes.uint8, "bool": dtypes.bool, "half": dtypes.float16,
         "bfloat16": dtypes.bfloat16, "cfloat": dtypes.complex64, "cdouble": dtypes.complex128}  # fmt: skip


def _comparison(name: str) -> Callable[[Tensor, Any], Any]:
    function = functions[name]

    def compare(self: Tensor, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            other = recorder.tensor_from_array(other)
        if not isinstance(other, (Tensor, int, float, complex, np.generic)):
            return NotImplemented
        return function(self, other)

    return compare


def _matmul(self: Tensor, other: Any) -> Any:
    if isinstance(other, np.ndarray):
        return products.matmul(*_together(self, recorder.tensor_from_array(other)))
    return products.matmul(self, other) if isinstance(other, Tensor) else NotImplemented


def _reflected_matmul(self: Tensor, other: Any) -> Any:
    return products.matmul(*_together(recorder.tensor_from_array(other), self)) if isinstance(other, np.ndarray) else NotImplemented


def _together(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """In the dtype in which they meet: NumPy's arrays are of float64 more often than meant."""
    dtype = elementwise.dtype_together(x, y)
    return cast(x, dtype), cast(y, dtype)


def attach() -> None:
    """Put every method on `Tensor`."""
    T: Any = Tensor
    methods: dict[str, Any] = dict(functions)
    for module, names in SAME_NAME.items():
        for name in names.split():
            methods[name] = checked(getattr(module, name), name)
    methods["cholesky"] = checked(linalg.cholesky)
    methods["size"] = shape.size_of
    for new, old in ALIASES.items():
        if old in methods:
            methods[new] = methods[old]
    methods["polygamma"] = checked(lambda self, n: special.polygamma(n, self), "polygamma")
    methods["igamma"] = checked(incomplete_gamma.gammainc, "igamma")
    methods["igammac"] = checked(incomplete_gamma.gammaincc, "igammac")
    for name in IN_PLACE:
        methods[name + "_"] = in_place(methods[name], name + "_")
    for new, old in ALIASES.items():
        if old in IN_PLACE:
            methods[new + "_"] = in_place(methods[old], new + "_")
    for name in ("abs_", "absolute_"):
        methods[name] = in_place(abs_in_place, name)
    methods["mul"] = lambda self, other: functions["mul"](self, other)
    for name, dtype in CASTS.items():
        methods[name] = lambda self, memory_format=None, dtype=dtype: cast(self, dtype)
    methods.update(
        item=item, tolist=tolist, numpy=numpy, to=to, type=type_of, cpu=lambda self: self, cuda=no_cuda,
        backward=backward, register_hook=register_hook, retain_grad=retain_grad,
        register_post_accumulate_grad_hook=register_post_accumulate_grad_hook,
        requires_grad_=create.require_leaf, zero_=zero_, fill_=fill_, copy_=copy_, detach_=detach_,
        fill_diagonal_=fill_diagonal_, float_power_=checked(float_power_), dim=lambda self: len(self._aval.shape),
        ndimension=lambda self: len(self._aval.shape), numel=lambda self: self._aval.size,
        nelement=lambda self: self._aval.size, element_size=lambda self: self._aval.dtype.itemsize,
        stride=stride_of, unsafe_split=joining.split, unsafe_chunk=joining.chunk, adjoint=complex_numbers.conjugate_transpose,
        is_contiguous=shape.in_order,
        is_floating_point=lambda self: self._aval.dtype.is_floating_point,
        type_as=lambda self, other: cast(self, other._aval.dtype),
        expand_as=lambda self, other: shape.expand(self, tuple(other._aval.shape)),
        view_as=lambda self, other: shape.view(self, tuple(other._aval.shape)),
        reshape_as=lambda self, other: shape.reshape(self, tuple(other._aval.shape)),
        new_zeros=lambda self, *size, dtype=None, **k: create.zeros(*size, dtype=dtype or self._aval.dtype, **k),
        new_ones=lambda self, *size, dtype=None, **k: create.ones(*size, dtype=dtype or self._aval.dtype, **k),
        new_empty=lambda self, *size, dtype=None, **k: create.empty(*size, dtype=dtype or self._aval.dtype, **k),
        new_full=lambda self, size, value, dtype=None: create.full(size, value, dtype=dtype or self._aval.dtype),
        new_tensor=lambda self, data, dtype=None: create.tensor(data, dtype=dtype or self._aval.dtype),
        where=lambda self, condition, other: elementwise.where(condition, self, other),
        equal=lambda self, other: equal(self, other),
        allclose=lambda self, other, rtol=1e-05, atol=1e-08, equal_nan=False: allclose(self, other, rtol, atol, equal_nan),
        is_same_size=checked(is_same_size), get_device=get_device, data_ptr=storage.data_ptr, const_data_ptr=storage.data_ptr,
        share_memory_=storage.share_memory_, is_shared=storage.is_shared, pin_memory=pin_memory,
        is_pinned=lambda self, device=None: False, is_distributed=lambda self: False, storage=storage.typed_storage,
        sum_to_size=checked(sum_to_size), dim_order=dim_order, new=checked(make_new, "new"), apply_=checked(by_python.apply_),
        map_=checked(by_python.map_), map2_=checked(by_python.map2_), lu=lambda self, pivot=True, get_infos=False: factors.packed_lu(self, pivot, get_infos),
        lu_solve=lambda self, LU_data, LU_pivots: factors.lu_solve(self, LU_data, LU_pivots), unsafe_split_with_sizes=joining.split_with_sizes,
        new_empty_strided=lambda self, size, stride, dtype=None, **k: create.empty_strided(size, stride, dtype=dtype or self._aval.dtype, **k),
        clamp_min=checked(numeric.clamp_min), clamp_max=checked(numeric.clamp_max),
        clamp_min_=in_place(lambda t, low: elementwise.clamp(t, min=low), "clamp_min_"),
        clamp_max_=in_place(lambda t, high: elementwise.clamp(t, max=high), "clamp_max_"),
        bitwise_left_shift_=in_place(functions["shift_left"], "bitwise_left_shift_"),
        bitwise_right_shift_=in_place(functions["shift_right"], "bitwise_right_shift_"),
        is_nonzero=is_nonzero, is_inference=is_inference, is_signed=lambda self: self._aval.dtype.is_signed,
        **{f"{n}_": storage.in_place_view(methods[n], f"{n}_") for n in IN_PLACE_VIEWS},
        storage_offset=storage.storage_offset, untyped_storage=storage.untyped_storage, _is_view=storage.is_view,
        is_set_to=storage.is_set_to, set_=storage.set_, resize_=storage.resize_, resize_as_=storage.resize_as_,
        __dlpack__=exchange.to_dlpack, __dlpack_device__=exchange.dlpack_device,
        stft=lambda self, *args, **options: _framed("stft")(self, *args, **options),
        istft=lambda self, *args, **options: _framed("istft")(self, *args, **options),
        hardshrink=lambda self, lambd=0.5: _functional("hardshrink")(self, lambd),
        prelu=lambda self, weight: _functional("prelu")(self, weight),
        softmax=lambda self, dim, dtype=None: _functional("softmax")(self, dim=dim, dtype=dtype),
        log_softmax=lambda self, dim, dtype=None: _functional("log_softmax")(self, dim=dim, dtype=dtype),
    )  # fmt: skip
    for name in EXPLAINED.split():
        methods[name] = checked(methods[name], name)
    for name, function in methods.items():
        setattr(T, name, function)
    T.__add__ = T.__radd__ = elementwise.method_add
    T.__sub__, T.__rsub__ = elementwise.method_sub, elementwise.reflected_sub
    T.__mul__ = T.__rmul__ = elementwise.method_mul
    T.__truediv__, T.__rtruediv__ = elementwise.method_div, elementwise.reflected_div
    for sign in ("add", "sub", "mul", "truediv"):
        recorder.operators.update({name: vars(T)[name] for name in (f"__{sign}__", f"__r{sign}__")})
    T.__neg__, T.__pos__, T.__abs__ = functions["neg"], lambda self: self, functions["abs"]
    T.__pow__ = elementwise.pow
    T.__rpow__ = lambda self, other: elementwise.pow(other, self)
    T.__matmul__ = _matmul
    T.__rmatmul__ = _reflected_matmul
    T.__floordiv__ = elementwise.floor_divide
    T.__rfloordiv__ = lambda self, other: elementwise.floor_divide(other, self)
    T.__mod__ = elementwise.remainder
    T.__rmod__ = lambda self, other: elementwise.remainder(other, self)
    T.__and__ = T.__rand__ = functions["bitwise_and"]
    T.__or__ = T.__ror__ = functions["bitwise_or"]
    T.__xor__ = T.__rxor__ = functions["bitwise_xor"]
    T.__invert__ = _invert
    T.__lshift__, T.__rshift__ = functions["shift_left"], functions["shift_right"]
    T.__rlshift__ = lambda self, other: functions["shift_left"](other, self)
    T.__rrshift__ = lambda self, other: functions["shift_right"](other, self)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        setattr(T, f"__{name}__", _comparison(name))
    T.__hash__ = object.__hash__
    for name, function in dict(
        iadd=elementwise.method_add, isub=elementwise.method_sub, imul=elementwise.method_mul,
        itruediv=elementwise.method_div, ipow=elementwise.pow, ifloordiv=elementwise.floor_divide,
        imod=elementwise.remainder, iand=functions["bitwise_and"], ior=functions["bitwise_or"],
        ixor=functions["bitwise_xor"], ilshift=functions["shift_left"], irshift=functions["shift_right"],
    ).items():  # fmt: skip
        prim = {"itruediv": "div"}.get(name, name[1:])
        setattr(T, f"__{name}__", augmented(f"{name[1:]}_", function, prim if prim in ("add", "sub", "mul", "div") else ""))
    T.__getitem__, T.__setitem__ = index.getitem, index.setitem
    recorder.operators |= {"__getitem__": index.getitem, "__setitem__": index.setitem, "item": item}
    T.__len__, T.__iter__, T.__contains__ = length, iterate, contains
    T.__bool__, T.__index__ = truth, to_index
    T.__float__ = to_float
    T.__complex__ = lambda self: complex(item(self))
    T.__int__ = lambda self: int(number_of(self))
    T.__repr__ = T.__str__ = represent
    T.__format__ = format_tensor
    T.__array__ = to_array
    T.__array_priority__ = 1000
    T.__array_ufunc__, T.__array_wrap__ = exchange.array_ufunc, exchange.array_wrap
    T.__copy__, T.__deepcopy__, T.__reduce_ex__ = shallow_copy, deepcopy, reduce_tensor
    T.__init__ = init_tensor
    for name in TENSOR:
        if not hasattr(T, name):
            setattr(T, name, Absent(name))
    T.__dir__ = names_of
    Parameter.__init__ = init_parameter  # type: ignore[method-assign,assignment]
    properties = dict(
        shape=lambda self: self._aval.shape, dtype=lambda self: self._aval.dtype, device=lambda self: CPU,
        ndim=lambda self: len(self._aval.shape), is_leaf=is_leaf, T=shape.reverse_axes, mT=shape.matrix_transpose,
        H=lambda self: complex_numbers.conj(shape.reverse_axes(self)),
        mH=complex_numbers.conjugate_transpose, grad_fn=_grad_fn,
        itemsize=lambda self: self._aval.dtype.itemsize, nbytes=lambda self: self._aval.nbytes,
        is_cpu=lambda self: True, **dict.fromkeys(ELSEWHERE.split(), lambda self: False), layout=lambda self: layouts.strided,
        retains_grad=lambda self: bool(self._retains), names=lambda self: (None,) * len(self._aval.shape),
        output_nr=lambda self: 0,
    )  # fmt: skip
    for name, function in properties.items():
        setattr(T, name, property(function))
    T.real = property(complex_numbers.real, _setter(complex_numbers.real))
    T.imag = property(complex_numbers.imag, _setter(complex_numbers.imag))
    T.requires_grad = property(lambda self: self._aval.requires_grad, set_requires_grad)
    generators.Generator.device = property(lambda self: CPU)  # type: ignore[attr-defined]
    T.data = property(data_of, storage.set_data)
    T.grad_dtype = property(grad_dtype_of, set_grad_dtype)  # type: ignore[attr-defined]
    T.grad = property(operator.attrgetter("_grad"), set_grad, forget_grad)  # type: ignore[misc]


def _setter(view: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any], None]:
    """How a property that is a view of the tensor is set."""

    def write(self: Tensor, value: Any) -> None:
        copy_(view(self), value)

    return write


def _grad_fn(self: Tensor) -> Any:
    from adjoint.autograd.graph import grad_fn

    return grad_fn(self)


def names_of(self: Tensor) -> list[str]:
    """What `dir` shows: not the names that only say they are absent."""
    return [name for name in object.__dir__(self) if not isinstance(vars(Tensor).get(name), Absent)]


def _framed(name: str) -> Callable[..., Any]:
    """A function of `ops.frames`, which is loaded when first used."""
    from adjoint.ops import frames

    return getattr(frames, name)


def _functional(name: str) -> Callable:
    from adjoint.nn import functional

    return getattr(functional, name)


def _invert(self: Tensor) -> Tensor:
    dtype = self._aval.dtype
    if dtype.category > 1:
        raise TypeError(f"~ (operator.invert) is only implemented on integer and Boolean-type tensors, not {dtype.name}")
    return functions["logical_not" if dtype is dtypes.bool else "bitwise_not"](self)


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all values are the same, as a Python bool.

    >>> import adjoint as torch
    >>> torch.equal(torch.tensor([1, 2]), torch.tensor([1, 2]))
    True
    """
    return input._aval.shape == other._aval.shape and bool((input == other).all())


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether all elements differ by no more than `atol + rtol * abs(other)`, as a Python bool.

    >>> import adjoint as torch
    >>> torch.allclose(torch.tensor([1.]), torch.tensor([1.0 + 1e-7]))
    True
    """
    return bool(elementwise.isclose(input, other, rtol, atol, equal_nan).all())
