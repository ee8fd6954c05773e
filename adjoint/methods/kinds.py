"""What a tensor is and where it lies: dtype, device, strides and further questions; conversions that ask for one of them."""

from __future__ import annotations

from threading import get_ident
from typing import Any, Self

from adjoint import dtypes
from adjoint.absent import Absent
from adjoint.dtypes import DType
from adjoint.grad.transposes import sum_to
from adjoint.ops import create, shape
from adjoint.ops.elementwise import cast
from adjoint.trace import strides
from adjoint.trace.aval import Size
from adjoint.trace.handle import Tensor


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

    As a context it is where tensors are made that name no other place: "cpu". Inside "meta", where PyTorch makes tensors without
    values, they are made on the CPU, too: they say that they were on "meta" until the context ends, and have values, which are
    computed if they are asked for. RuntimeError for other places.

    >>> import adjoint as torch
    >>> torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device(type='cpu')
    >>> with torch.device("meta"):
    ...     x = torch.zeros(2)
    ...     x.device
    device(type='meta')
    >>> x, x.device
    (tensor([0., 0.]), device(type='cpu'))
    """

    def __init__(self, type: Any, index: int | None = None) -> None:
        if not isinstance(type, (str, create_device)):
            raise TypeError(f"device(): argument 'type' (position 1) must be str, not {type.__class__.__name__}; for example 'cpu'")
        name, _, number = str(type).partition(":")
        if name not in DEVICE_TYPES or (number and not number.isdecimal()):
            raise RuntimeError(f"Expected one of {', '.join(DEVICE_TYPES)} device type at start of device string: {str(type)}")
        self.type = name
        self.index = int(number) if number else index

    def __enter__(self) -> Self:
        if self.type != "meta":
            create.check_device(self)
        _within.setdefault(get_ident(), []).append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        mine = _within[get_ident()]
        mine.pop()
        if not mine:
            del _within[get_ident()]

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
_within: dict[int, list[create_device]] = {}  # contexts of each thread that is in one


def device_now(_: Any = None) -> create_device:
    """Where tensors are: the CPU, or the place of the innermost context."""
    return CPU if not _within else _within.get(get_ident(), (CPU,))[-1]


def type_of(self: Tensor, dtype: Any = None) -> Any:
    if dtype is None:
        return f"torch.{dtypes.LEGACY[self._aval.dtype]}Tensor"
    if not isinstance(dtype, str):
        dtype = getattr(dtype, "dtype", dtype)  # torch.LongTensor
    else:
        found = next((d for d, name in dtypes.LEGACY.items() if dtype in (f"torch.{name}Tensor", f"torch.{d.name}", d.name)), None)
        if found is None:
            raise ValueError(f"invalid type: {dtype!r}; use a dtype such as torch.float32")
        dtype = found
    return cast(self, create.check_dtype(dtype))  # type: ignore[arg-type]


def stride_of(self: Tensor, dim: int | None = None) -> Any:
    """Steps in memory from element to element along each axis, counted in elements."""
    steps = strides.strides_of(self)
    return steps if dim is None else steps[shape.axis_of(dim, len(steps))]


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
    if len(wanted) > len(have) or any(w not in (1, n) for n, w in zip(reversed(have), reversed(wanted), strict=False)):
        raise RuntimeError(f"size {{{list(wanted)}}} is not expandable to size {{{list(have)}}}: sum_to_size takes a shape that broadcasts to the tensor's")
    return sum_to(self, wanted)


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


def names_of(self: Tensor) -> list[str]:
    """What `dir` shows: not the names that only say they are absent."""
    return [name for name in object.__dir__(self) if not isinstance(vars(Tensor).get(name), Absent)]
