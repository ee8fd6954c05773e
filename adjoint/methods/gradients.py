"""Tensors in the graph of derivatives: `backward`, `.grad` and its dtype, hooks, `requires_grad`, `data`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.autograd import engine
from adjoint.autograd.hooks import RemovableHandle, add_hook
from adjoint.dtypes import DType
from adjoint.grad.walk import AfterAccumulation, Converted
from adjoint.ops import (
    create,
)
from adjoint.trace import views
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import local, refresh_special
from adjoint.trace.views import is_leaf

_DTYPE = -2  # the number of the hook that grad_dtype sets
_KEEP = -1  # the number of the hook that retain_grad sets


def backward(self: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradient of this tensor (contracted with `gradient`) to the `.grad` of the leaves it depends on."""
    if gradient is None and retain_graph is None and not create_graph and inputs is None:
        tr = local.trace
        macros = tr.node.macros
        if macros is not None and self._tid == tr.id and tr.saving is None:
            macro = macros.get(("backward", (self._slot,), 1, (True,), False, False))
            if macro is not None:
                tr.pieces = False
                engine.jump(tr, macro)
                return
    engine.backward(self, gradient, retain_graph, create_graph, inputs)


def register_hook(self: Tensor, hook: Callable[[Tensor], Any]) -> RemovableHandle:
    """Call `hook(gradient)` whenever this tensor's gradient is computed; what it returns replaces the gradient."""
    if not self._aval.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    table = _hook_table(self)
    handle = add_hook(table, hook)
    if _KEEP in table:  # what is retained is the gradient after all other hooks
        table[_KEEP] = table.pop(_KEEP)
    return handle


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
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
    handle = add_hook(_hook_table(self), AfterAccumulation(hook))
    self._special = True
    return handle


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


def grad_fn_of(self: Tensor) -> Any:
    from adjoint.autograd.graph import grad_fn

    return grad_fn(self)
