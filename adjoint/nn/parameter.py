"""What a module owns: `Parameter`, `Buffer`, and both without a shape yet.

`Parameter` itself lives beside `Tensor` (`adjoint.methods`), because it is a tensor and not a layer. An uninitialized
parameter is one whose shape its layer learns from the first input (`nn.lazy`): until `materialize` gives it one, it has a
dtype and nothing else, and every use of it is refused. Read `_Uninitialized` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import adjoint as torch
from adjoint.methods import Parameter, Tensor
from adjoint.trace.aval import aval

__all__ = ["Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"]


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module that it is assigned to; saved in state dicts if `persistent`.

    >>> import adjoint as torch
    >>> net = torch.nn.Module()
    >>> net.mean = torch.nn.Buffer(torch.zeros(2))
    >>> [name for name, _ in net.named_buffers()], list(net.state_dict())
    (['mean'], ['mean'])
    """

    persistent: bool

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        Parameter.__init__(self, data, isinstance(data, Tensor) and data.requires_grad)  # type: ignore[arg-type]
        self.persistent = persistent


def is_lazy(tensor: Any) -> bool:
    """Whether this is a parameter or buffer that has no shape yet.

    >>> import adjoint as torch
    >>> layer = torch.nn.LazyLinear(2)
    >>> torch.nn.parameter.is_lazy(layer.weight), torch.nn.parameter.is_lazy(layer(torch.ones(1, 3)))
    (True, False)
    """
    return isinstance(tensor, _Uninitialized)


class _Uninitialized(Tensor):
    """A tensor without shape or values: what the trace finds in place of them is an error that says so."""

    _become: type[Tensor]

    def _begin(self, requires_grad: bool, dtype: Any) -> None:
        dtype = torch.get_default_dtype() if dtype is None else dtype
        self._tid, self._slot, self._data, self._special = 0, -1, None, True
        self._base, self._chain, self._views, self._version = None, (), None, 0
        self._aval, self._leaf, self._grad = aval((0,), dtype, requires_grad), requires_grad, None
        self._error = ValueError(_refusal("a function"))

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary parameter or buffer of this shape, the same object, with memory that nobody has filled."""
        requires_grad = self.requires_grad
        values = torch.empty(tuple(shape), dtype=self.dtype if dtype is None else dtype, device=device)
        del self._error
        self.__class__ = self._become  # type: ignore[assignment]
        Parameter.__init__(self, values, requires_grad)  # type: ignore[arg-type]

    def _in(self, dtype: Any) -> Self:
        """The same in another dtype."""
        raise NotImplementedError

    @property
    def shape(self) -> Any:
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer: its layer gets it from the first input. Call the module "
            "once before; a state dict that holds such parameters can be loaded into a module that is uninitialized, too"
        )

    @property
    def data(self) -> Tensor:
        return torch.empty(0, dtype=self.dtype)

    @data.setter
    def data(self, value: Tensor) -> None:
        if is_lazy(value) or value.shape != (0,):
            raise ValueError(_refusal("data"))
        self._begin(self.requires_grad, value.dtype)

    def to(self, *args: Any, dtype: Any = None, **kwargs: Any) -> Self:
        for given in args:
            dtype = given.dtype if isinstance(given, Tensor) else given if isinstance(given, torch.dtype) else dtype
        return self if dtype is None else self._in(dtype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = copied = self._in(self.dtype)
        return copied


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape is not known yet; `materialize` makes it an ordinary one.

    Raises ValueError wherever it is computed with, RuntimeError where its shape is asked for.

    >>> import adjoint as torch
    >>> weight = torch.nn.UninitializedParameter()
    >>> weight
    <UninitializedParameter>
    >>> weight.materialize((2, 3))
    >>> type(weight).__name__, weight.shape
    ('Parameter', torch.Size([2, 3]))
    """

    _become = Parameter

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        self._begin(requires_grad, dtype)

    def _in(self, dtype: Any) -> Self:
        return type(self)(self.requires_grad, dtype=dtype)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, None, self.dtype)


class UninitializedBuffer(_Uninitialized, Buffer):
    """A buffer whose shape is not known yet; see `UninitializedParameter`.

    >>> import adjoint as torch
    >>> torch.nn.UninitializedBuffer(dtype=torch.float64).dtype
    torch.float64
    """

    _become = Buffer

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> None:
        self._begin(requires_grad, dtype)
        self.persistent = persistent

    def _in(self, dtype: Any) -> Self:
        return type(self)(self.requires_grad, None, dtype, self.persistent)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, None, self.dtype, self.persistent)


def _refusal(name: str) -> str:
    return (
        f"Attempted to use an uninitialized parameter or buffer in {name}: it has no shape yet, its layer gets it from the first input. "
        "Call the module once before, on a batch of any values"
    )


def _refused(name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise ValueError(_refusal(name))

    return method


# What may be asked before there is a shape; every other method is refused.
_ALLOWED = "dtype device requires_grad grad is_leaf is_floating_point is_complex is_cuda is_sparse grad_fn layout itemsize element_size".split()


def _refuse_methods() -> None:
    kept = {*vars(_Uninitialized), *_ALLOWED, "__init__", "__dir__", "__hash__", "__format__"}
    for name, value in vars(Tensor).items():
        if name in kept or (name.startswith("_") and not name.endswith("__")):
            continue
        if isinstance(value, property):
            setattr(_Uninitialized, name, property(_refused(name)))
        elif callable(value):
            setattr(_Uninitialized, name, _refused(name))
    _Uninitialized.__hash__ = Tensor.__hash__  # type: ignore[method-assign]


_refuse_methods()
