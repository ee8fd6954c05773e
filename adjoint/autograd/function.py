"""Custom differentiable functions: `Function` with your own forward and backward."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from adjoint.grad.walk import CustomResult, locate
from adjoint.ops.create import zeros, zeros_like
from adjoint.ops.elementwise import cast
from adjoint.trace.aval import Aval
from adjoint.trace.handle import Tensor
from adjoint.trace.recorder import alias, local
from adjoint.trace.views import assign, check_in_place


class Context:
    """What `forward` leaves for `backward`."""

    def __init__(self) -> None:
        self._saved: tuple = ()
        self._results: dict[int, int] = {}  # which of `_saved` are results: place there -> number of the result
        self._call: Call | None = None  # whose backward runs
        self.needs_input_grad: tuple[bool, ...] = ()
        self._not_differentiable: tuple = ()
        self._materialize = True
        self._dirty: tuple = ()
        self._saved_forward: tuple = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        self._saved_forward = tensors

    @property
    def saved_tensors(self) -> tuple:
        """What was saved. Results of the function depend on its inputs, where `backward` is itself differentiated."""
        call = self._call
        if call is None or not self._results or not local.trace.grad:
            return self._saved
        return tuple([call.connected(t, self._results[k]) if k in self._results else t for k, t in enumerate(self._saved)])

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self._not_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs `forward` changed in place and returns: they become its results, with `backward` as derivative.

        RuntimeError from `apply` for a leaf that requires grad.
        """
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        self._materialize = value


class Call:
    """One application of a Function: gathers the cotangents of its results and runs its backward once."""

    def __init__(self, cls: Any, ctx: Context, inputs: tuple, results: list[Tensor]) -> None:
        self.cls, self.ctx, self.inputs = cls, ctx, inputs
        self.shapes = [r.detach() for r in results] if len(results) > 1 else results[:0]
        self.count = len(results)
        self.slots: list[int] = []
        self.gathered: list[Any] = [None] * self.count
        self.like: list[Aval] = []  # of the results; the tensors would lead back to this call

    def collect(self, position: int, g: Tensor) -> None:
        self.gathered[position] = g

    def more_below(self, position: int, cotangents: dict, hist: Any) -> bool:
        """Whether an earlier result of this call still waits for its turn in the walk."""
        return any(self.slots[k] in cotangents for k in range(position))

    def connected(self, value: Tensor, position: int) -> Tensor:
        """A result that was saved, with its past. Not what `apply` returned, which would lead back to this call."""
        call = Call(self.cls, self.ctx, self.inputs, [])
        call.count, call.gathered, call.like = self.count, [None] * self.count, self.like
        call.slots = [-1] * self.count
        out = alias(value, "custom", True, payload=CustomResult(call, position), attrs=(self.cls, position))
        call.slots[position] = out._slot
        return out

    def run(self) -> list[tuple[Tensor, Any]]:
        gradients = list(self.gathered)
        self.gathered = [None] * self.count
        if self.ctx._materialize:
            gradients = [zeros(a.shape, dtype=a.dtype) if g is None else g for g, a in zip(gradients, self.like, strict=True)]
        tr = local.trace
        static, tr.static = tr.static, 0
        outer, self.ctx._call = self.ctx._call, self
        try:
            got = self.cls.backward(self.ctx, *gradients)
        finally:
            local.trace.static, self.ctx._call = static, outer
        got = list(got) if isinstance(got, (tuple, list)) else [got]
        if len(got) < len(self.inputs) or any([g is not None for g in got[len(self.inputs) :]]):
            raise RuntimeError(
                f"function {self.cls.__name__}Backward returned an incorrect number of gradients (expected "
                f"{len(self.inputs)}, got {len(got)})"
            )
        pairs: list[Any] = []
        for x, g in zip(self.inputs, got, strict=False):
            if isinstance(x, Tensor) and g is not None:
                if g._aval.shape != x._aval.shape and x._aval.requires_grad:
                    if g._aval.size != x._aval.size:
                        raise RuntimeError(
                            f"Function {self.cls.__name__}Backward returned an invalid gradient at index {len(pairs)} - got "
                            f"{list(g._aval.shape)} but expected shape compatible with {list(x._aval.shape)}"
                        )
                    g = g.reshape(x._aval.shape)
                if g._aval.dtype is not x._aval.dtype and x._aval.requires_grad:
                    g = cast(g.real if g._aval.dtype.is_complex and not x._aval.dtype.is_complex else g, x._aval.dtype)
                pairs.append((x, g))
        return pairs

    def forward_tangent(self, position: int, known: dict, by_leaf: dict) -> Any:
        tangents = []
        for x in self.inputs:
            t = None
            if isinstance(x, Tensor) and x._aval.requires_grad:
                place = None if x._leaf else locate(x)
                t = by_leaf.get(id(x)) if x._leaf else known.get(place[0].id, {}).get(place[1]) if place else None
            tangents.append(t)
        if all(t is None for t in tangents):
            return None
        filled = [zeros_like(x) if t is None and isinstance(x, Tensor) else t for t, x in zip(tangents, self.inputs, strict=True)]
        out = self.cls.jvp(self.ctx, *filled)
        return out[position] if isinstance(out, tuple) else out


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for a `backward` that cannot be differentiated itself, as one that computes with NumPy cannot.

    RuntimeError where somebody differentiates what it returned.

    >>> import adjoint as torch
    >>> class Twice(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     @torch.autograd.function.once_differentiable
    ...     def backward(ctx, g):
    ...         return torch.tensor(2 * g.numpy())
    >>> x = torch.ones(2, requires_grad=True)
    >>> torch.autograd.grad(Twice.apply(x).sum(), x)
    (tensor([2., 2.]),)
    """

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        tr = local.trace
        sources = [g for g in gradients if isinstance(g, Tensor) and g._aval.requires_grad] if tr.grad else []
        got = tr.in_mode(False, backward, ctx, *[g.detach() if isinstance(g, Tensor) else g for g in gradients])
        if not sources:
            return got
        parts = got if isinstance(got, tuple) else (got,)
        return tuple([_Final.apply(g, *sources) if isinstance(g, Tensor) else g for g in parts])

    return once


def _forward(cls: Any, ctx: Context, args: tuple, kwargs: dict) -> Any:
    if "setup_context" in cls.__dict__ or hasattr(cls, "setup_context"):
        out = cls.forward(*args, **kwargs)
        cls.setup_context(ctx, args, out)
        return out
    return cls.forward(ctx, *args, **kwargs)


def _is_one_of(x: Any, tensors: tuple) -> bool:
    return any(x is t for t in tensors)


class FunctionMeta(type):
    """Gives every Function its `apply`."""


class Function(metaclass=FunctionMeta):
    """Subclass with static `forward(ctx, *args)` and `backward(ctx, *cotangents)`; call `apply`.

    `forward` may also be `forward(*args)` with a separate `setup_context(ctx, inputs, output)`. `jvp(ctx, *tangents)` is
    the optional forward derivative.

    >>> import adjoint as torch
    >>> class Square(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 2 * x * g
    >>> x = torch.tensor(3., requires_grad=True)
    >>> Square.apply(x).backward()
    >>> x.grad
    tensor(6.)
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function")

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @classmethod
    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        ctx = Context()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._aval.requires_grad for a in args)
        needs = tr.grad and any(ctx.needs_input_grad)
        out = tr.in_mode(False, _forward, cls, ctx, args, kwargs)
        if not needs:
            return out
        single = isinstance(out, Tensor)
        results = [out] if single else list(out)
        tensors = [r for r in results if isinstance(r, Tensor)]
        inputs = args
        if ctx._dirty:
            for t in ctx._dirty:
                check_in_place(t)
            inputs = tuple([a.clone() if _is_one_of(a, ctx._dirty) else a for a in args])  # `a` is about to be the result
        call = Call(cls, ctx, inputs, [])
        call.count = len(tensors)
        call.gathered = [None] * call.count
        wrapped: list[Any] = []
        k = 0
        for r in results:
            if not isinstance(r, Tensor):
                wrapped.append(r)
                continue
            inert = _is_one_of(r, ctx._not_differentiable) or not r._aval.dtype.is_floating_point
            if inert:
                call.slots.append(-1)
                call.like.append(r._aval)
                wrapped.append(r)
            else:
                if not _is_one_of(r, args):
                    ctx._results.update({place: k for place, t in enumerate(ctx._saved) if t is r})
                new = alias(r, "custom", True, payload=CustomResult(call, k), attrs=(cls, k))
                call.slots.append(new._slot)
                call.like.append(r._aval)
                wrapped.append(assign(r, new) if _is_one_of(r, ctx._dirty) else new)
            k += 1
        return wrapped[0] if single else tuple(wrapped)


class _Final(Function):
    """The first of its operands, which is what a backward made of the others and nobody can differentiate."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
