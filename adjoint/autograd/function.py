"""Custom differentiable functions: `Function` with your own forward and backward."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from adjoint.batch.trees import leaves_of, rebuild
from adjoint.grad.transposes import sum_to
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
        self._results: list[tuple[Tensor, int]] = []  # what is kept here of the results, with their numbers
        self._call: Call | None = None  # whose backward or jvp runs
        self.needs_input_grad: tuple[bool, ...] = ()
        self._not_differentiable: tuple = ()
        self._materialize = True
        self._dirty: tuple = ()
        self._saved_forward: tuple | None = None
        self._forward = False  # `jvp` runs

    def save_for_backward(self, *tensors: Any) -> None:
        self._saved = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        self._saved_forward = tensors

    @property
    def saved_tensors(self) -> tuple:
        """What was saved. Results of the function depend on its inputs, where `backward` is itself differentiated."""
        saved = self._saved_forward if self._forward and self._saved_forward is not None else self._saved
        call = self._call
        if call is None or not self._results or not local.trace.grad:
            return saved
        return tuple([self._connected(call, t) for t in saved])

    def _connected(self, call: Call, t: Any) -> Any:
        """What is kept here, with its past if it is a result."""
        if isinstance(t, Tensor):
            return next((call.connected(t, k) for x, k in self._results if x is t), t)
        found = leaves_of(t)
        new = [self._connected(call, x) for x in found]
        return rebuild(t, iter(new)) if any([x is not y for x, y in zip(found, new, strict=True)]) else t

    def _find(self, results: list[tuple[Tensor, int]]) -> None:
        """Note which of the results were saved, or are attributes."""
        kept = {id(x) for x in leaves_of(tuple(vars(self).values()))}
        self._results = [(r, k) for r, k in results if id(r) in kept]

    def _enter(self, call: Call, forward: bool) -> tuple[Any, ...]:
        """Begin a backward or jvp. Attributes that are results depend on the inputs, where it is itself differentiated."""
        changed: dict[str, tuple[Any, Any]] = {}
        before = self._call, self._forward, changed
        self._call, self._forward = call, forward
        if self._results and local.trace.grad:
            for name, value in vars(self).items():
                if name not in _OWN:
                    new = self._connected(call, value)
                    if new is not value:
                        changed[name] = (value, new)
            vars(self).update({name: new for name, (_, new) in changed.items()})
        return before

    def _leave(self, before: tuple[Any, ...]) -> None:
        self._call, self._forward, changed = before
        for name, (value, new) in changed.items():
            if vars(self).get(name) is new:
                setattr(self, name, value)

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        self._not_differentiable = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs `forward` changed in place and returns: they become its results, with `backward` as derivative.

        RuntimeError from `apply` for a leaf that requires grad.
        """
        self._dirty = tensors

    def set_materialize_grads(self, value: bool) -> None:
        self._materialize = value


FunctionCtx = Context  # PyTorch's name, for annotations
_OWN = frozenset(vars(Context()))


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
        before = self.ctx._enter(self, False)
        try:
            got = _reverse_of(self.cls)(self.ctx, *gradients)
        finally:
            local.trace.static = static
            self.ctx._leave(before)
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
                    if not _expands(x._aval.shape, g._aval.shape) and g._aval.size != x._aval.size:
                        raise RuntimeError(
                            f"Function {self.cls.__name__}Backward returned an invalid gradient at index {len(pairs)} - got "
                            f"{list(g._aval.shape)} but expected shape compatible with {list(x._aval.shape)}"
                        )
                    g = sum_to(g, tuple(x._aval.shape)) if _expands(x._aval.shape, g._aval.shape) else g.reshape(x._aval.shape)
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
        before = self.ctx._enter(self, True)
        try:
            out = self.cls.jvp(self.ctx, *filled)
        finally:
            self.ctx._leave(before)
        return out[position] if isinstance(out, tuple) else out


def _expands(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether one shape can be expanded to another."""
    return len(shape) <= len(to) and all([n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False)])


def _with_defaults(cls: Any, args: tuple, kwargs: dict) -> tuple:
    """All arguments of a `forward` without ctx, by position."""
    code = getattr(cls.forward, "__code__", None)
    if not kwargs and code is not None and code.co_argcount == len(args):
        return args
    bound = inspect.signature(cls.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args


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


def _reverse_of(cls: Any) -> Callable[..., Any]:
    """The function's `backward`, which may also be called `vjp`."""
    if cls.vjp is Function.vjp:
        return cls.backward
    if cls.backward is not Function.backward:
        raise RuntimeError(
            f"Implementing both 'backward' and 'vjp' for a custom Function is not allowed: {cls.__name__} should only implement one of them."
        )
    return cls.vjp


def _forward(cls: Any, ctx: Context, args: tuple, kwargs: dict) -> Any:
    if cls.setup_context is not Function.setup_context:
        out = cls.forward(*args)
        cls.setup_context(ctx, args, out)
        return out
    return cls.forward(ctx, *args, **kwargs)


def _by_rule(cls: Any, args: tuple) -> Any:
    """What the function's own rule for batches gives, if one is being mapped: `levels.by_rule`."""
    from adjoint.batch.levels import by_rule

    if cls.generate_vmap_rule:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an overriden vmap staticmethod. "
            "Please set generate_vmap_rule=False or delete the overriden vmap staticmethod to avoid ambiguity."
        )
    if cls.setup_context is Function.setup_context:
        raise RuntimeError(
            f"{cls.__name__} has a vmap staticmethod, whose use with functorch transforms (vmap, grad, jvp, jacrev, ...) needs forward "
            "without ctx: it must override the setup_context staticmethod."
        )
    return by_rule(cls, args)


def _is_one_of(x: Any, tensors: tuple) -> bool:
    return any(x is t for t in tensors)


class FunctionMeta(type):
    """Gives every Function its `apply`."""


class Function(metaclass=FunctionMeta):
    """Subclass with static `forward(ctx, *args)` and `backward(ctx, *cotangents)`; call `apply`.

    `forward` may also be `forward(*args)` with a separate `setup_context(ctx, inputs, output)`. `jvp(ctx, *tangents)` is
    the optional forward derivative; `vjp` is another name of `backward`.

    `vmap(info, in_dims, *args)`, where there is one, computes a batch in `torch.func.vmap`: it returns the results and their
    axes of the batch. info: `batch_size` and `randomness`.  in_dims: for each argument its axis of the batch, or None.  It needs
    `setup_context`. Functions without one are computed by the batch of what `forward` and `backward` record, or sample by
    sample, whether `generate_vmap_rule` is set or not.

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

    RuntimeError from `vmap` where a function has a rule for batches and sets `generate_vmap_rule`, or has no `setup_context`;
    from backward, where it has both `backward` and `vjp`.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    generate_vmap_rule = False

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any) -> Any:
        raise NotImplementedError(
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or set generate_vmap_rule=True."
        )

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function")

    @staticmethod
    def vjp(ctx: Any, *grads: Any) -> Any:
        return Function.backward(ctx, *grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @classmethod
    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        tr = local.trace
        if cls.setup_context is not Function.setup_context:
            args, kwargs = _with_defaults(cls, args, kwargs), {}
        ctx = Context()
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._aval.requires_grad for a in args)
        needs = tr.grad and any(ctx.needs_input_grad)
        ruled = _by_rule(cls, args) if tr.watch is not None and cls.vmap is not Function.vmap else None
        if ruled is None:
            out = tr.in_mode(False, _forward, cls, ctx, args, kwargs)
        else:
            out = ruled[0]
            tr.in_mode(False, cls.setup_context, ctx, args, out)
        if not needs:
            if ruled is not None:
                for part, whole in ruled[2]:
                    ruled[1].note(part, whole)
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
        own: list[tuple[Tensor, int]] = []
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
                    own.append((r, k))
                new = alias(r, "custom", True, payload=CustomResult(call, k), attrs=(cls, k))
                call.slots.append(new._slot)
                call.like.append(r._aval)
                wrapped.append(assign(r, new) if _is_one_of(r, ctx._dirty) else new)
            k += 1
        ctx._find(own)
        if ruled is not None:
            for part, whole in ruled[2]:
                ruled[1].note(next((new for r, new in zip(results, wrapped, strict=True) if r is part), part), whole)
        return wrapped[0] if single else tuple(wrapped)


class _Final(Function):
    """The first of its operands, which is what a backward made of the others and nobody can differentiate."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")
