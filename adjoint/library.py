"""`torch.library`: functions as operators of one's own, with a name and a derivative.

PyTorch's compiler needs to be told of functions it cannot look into; here nothing has to be told, every operation inside is
recorded. What remains is the name in `torch.ops` and the derivative, which `autograd.Function` computes. Read `custom_op`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from adjoint.autograd.function import Function
from adjoint.autograd.modes import no_grad
from adjoint.nowhere import refusing
from adjoint.ops.custom import Namespace, namespaces
from adjoint.trace.handle import Tensor

__all__ = ["CustomOpDef", "custom_op", "register_autograd", "register_fake", "register_kernel"]


class CustomOpDef:
    """A function with a name, `namespace::name`. Made by `custom_op`."""

    def __init__(self, name: str, function: Callable[..., Any], mutates: bool) -> None:
        self._qualname, self._function, self._mutates = name, function, mutates
        self._backward: Callable[..., Any] | None = None
        self._setup: Callable[..., None] | None = None
        self._signature = inspect.signature(function)
        self.__name__, self.__doc__ = name.split("::")[1], function.__doc__
        self._differentiable = _differentiable(self)

    @property
    def default(self) -> CustomOpDef:
        """The operator itself: there is one for all kinds of arguments."""
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if self._mutates:
            with no_grad():
                return self._function(*bound.args, **bound.kwargs)
        return self._differentiable.apply(tuple(bound.kwargs), *bound.args, *bound.kwargs.values())

    def register_autograd(self, backward: Callable[..., Any], /, *, setup_context: Callable[..., None] | None = None) -> None:
        """Its derivative: `backward(ctx, *grads)` gives one for each argument, None for those that have none.

        setup_context: `setup_context(ctx, inputs, output)` keeps what `backward` needs.
        """
        self._backward, self._setup = backward, setup_context

    def register_fake(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Accepted: shapes are known from what the function itself does."""
        return fn

    def register_kernel(self, device_types: Any, fn: Callable[..., Any] | None = None, /) -> Any:
        """The function to be called instead, where one of the devices is "cpu" (or None, all); a decorator without `fn`."""

        def register(fn: Callable[..., Any]) -> Callable[..., Any]:
            kinds = [device_types] if device_types is None or isinstance(device_types, str) else list(device_types)
            if None in kinds or "cpu" in kinds:
                self._function = fn
            return fn

        return register if fn is None else register(fn)

    def __repr__(self) -> str:
        return f"<CustomOpDef({self._qualname})>"


def _differentiable(op: CustomOpDef) -> type[Function]:
    """What computes an operator's values and derivatives: of the names of its last arguments, and all arguments."""

    def forward(ctx: Any, names: tuple[str, ...], *inputs: Any) -> Any:
        plain = inputs[: len(inputs) - len(names)]
        out = op._function(*plain, **dict(zip(names, inputs[len(plain) :], strict=True)))
        if any(y is x for y in (out if isinstance(out, (tuple, list)) else (out,)) for x in inputs if isinstance(x, Tensor)):
            raise RuntimeError(f"{op._qualname} (with implementation in {op._function.__module__}): an operator must not return its argument; clone it")
        if op._setup is not None:
            ctx.needs_input_grad, all_needed = ctx.needs_input_grad[1:], ctx.needs_input_grad
            op._setup(ctx, inputs=inputs, output=out)
            ctx.needs_input_grad = all_needed
        return tuple(out) if isinstance(out, list) else out

    def backward(ctx: Any, *grads: Any) -> Any:
        if op._backward is None:
            raise RuntimeError(
                f"Trying to backward through {op._qualname} but no autograd formula was registered. Register one with register_autograd"
            )
        all_needed = ctx.needs_input_grad
        try:
            ctx.needs_input_grad = all_needed[1:]
            found = op._backward(ctx, *grads)
        finally:
            ctx.needs_input_grad = all_needed
        return (None, *found) if isinstance(found, (tuple, list)) else (None, found)

    return type(op.__name__, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def _known(op: Any) -> CustomOpDef:
    if isinstance(op, CustomOpDef):
        return op
    space, _, name = str(op).removesuffix(".default").partition("::")
    found = vars(namespaces[space]).get(name) if space in namespaces else None
    if found is None:
        raise RuntimeError(f"operator {op!r} does not exist; torch.library.custom_op({str(op)!r}, ...) makes it")
    return found


def custom_op(
    name: str, fn: Callable[..., Any] | None = None, /, *, mutates_args: Iterable[str] | str = (), device_types: Any = None,
    schema: str | None = None, tags: Any = None,
) -> Any:  # fmt: skip
    """A function as the operator `namespace::name`, also called `torch.ops.namespace.name`; a decorator without `fn`.

    mutates_args: names of arguments that it changes; then it has no derivative. Others are accepted. It has a derivative where
    `register_autograd` says which, else its backward raises RuntimeError. ValueError for a name without a namespace.

    >>> import adjoint as torch
    >>> @torch.library.custom_op("lessons::cube", mutates_args=())
    ... def cube(x: torch.Tensor) -> torch.Tensor:
    ...     return x**3
    >>> cube.register_autograd(
    ...     lambda ctx, g: 3 * ctx.saved_tensors[0] ** 2 * g,
    ...     setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    ... )
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> torch.ops.lessons.cube(x).backward()
    >>> x.grad
    tensor(12.)
    """
    space, found, short = name.partition("::")
    if not (found and space and short):
        raise ValueError(f"custom_op({name!r}, ...): expected a name of the form 'namespace::name', such as 'mylib::{space or 'op'}'")

    def make(fn: Callable[..., Any]) -> CustomOpDef:
        op = CustomOpDef(name, fn, bool(mutates_args))
        setattr(namespaces.setdefault(space, Namespace(space)), short, op)
        return op

    return make if fn is None else make(fn)


def register_autograd(op: Any, backward: Callable[..., Any], /, *, setup_context: Callable[..., None] | None = None, lib: Any = None) -> None:
    """`CustomOpDef.register_autograd` of an operator, or of the one with a name. RuntimeError for unknown names."""
    _known(op).register_autograd(backward, setup_context=setup_context)


def register_fake(op: Any, func: Callable[..., Any] | None = None, /, *, lib: Any = None, _stacklevel: int = 1) -> Any:
    """Accepted: shapes are known from what the function itself does. A decorator without `func`."""
    _known(op)
    return (lambda func: func) if func is None else func


def register_kernel(op: Any, device_types: Any, func: Callable[..., Any] | None = None, /, *, lib: Any = None) -> Any:
    """`CustomOpDef.register_kernel` of an operator, or of the one with a name."""
    return _known(op).register_kernel(device_types, func)


__getattr__ = refusing(
    "torch.library",
    "Library define fallthrough_kernel impl register_vmap triton_op wrap_triton opcheck infer_schema",
    lambda name: NotImplementedError(f"torch.library.{name}: operators are Python functions here; use torch.library.custom_op"),
)
