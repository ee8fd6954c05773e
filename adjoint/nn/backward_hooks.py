"""Hooks on the backward of a module: what `Module.register_full_backward_hook` and its `pre` form register.

The arguments of a module and its results each go through an identity with a backward of its own (`_Crossing`). The one
of the results meets the cotangents first: it runs the pre-hooks and notes what they leave. The one of the arguments runs
the hooks, with both. Read `Watched`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import adjoint as torch
from adjoint.methods import Tensor
from adjoint.return_types import same_kind
from adjoint.trace.state import warn

__all__: list[str] = []

Gradients = tuple[Any, ...]


class _Crossing(torch.autograd.Function):
    """The tensors as they are; their cotangents are shown to `meet`, and may be replaced by it."""

    @staticmethod
    def forward(ctx: Any, meet: Callable[[Gradients], Gradients], *tensors: Tensor) -> Gradients:
        ctx.meet = meet
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for t in tensors if not t.requires_grad])
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Gradients:
        return (None, *ctx.meet(grads))


class Watched:
    """One call of a module with backward hooks.

    hooks: as registered, each with whether it is a pre-hook.  outputs: cotangents of the results, as the pre-hooks left
    them; None before they come and after the hooks have run.
    inputs_meet: whether an argument requires grad, so that `_Crossing` of the arguments will be met.
    entered: position, tensor and version of the arguments that went in.
    """

    def __init__(self, module: Any, hooks: list[tuple[bool, Callable[..., Any]]]) -> None:
        self.module = module
        self.hooks, self.pre_hooks = ([hook for is_pre, hook in hooks if is_pre is kind] for kind in (False, True))
        self.outputs: Gradients | None = None
        self.inputs_meet, self.n_inputs = False, 0
        self.entered: list[tuple[int, Tensor, int]] = []

    def enter(self, args: Gradients) -> Gradients:
        """The arguments, connected to the hooks."""
        self.n_inputs = len(args)
        args, self.inputs_meet = _through(args, self._inputs_met)
        if self.inputs_meet:
            self.entered = [(k, t, t._version) for k, t in enumerate(args) if isinstance(t, Tensor)]
        return args

    def leave(self, result: Any) -> Any:
        """The results, connected to the hooks."""
        for k, t, version in self.entered:
            if t._version != version:
                raise RuntimeError(
                    f"argument {k} of {type(self.module).__name__}.forward was modified inplace. It is the result of the identity that "
                    "runs the module's full backward hooks, and the caller's tensor would stay as it was: work on a copy, or "
                    "take the hooks away"
                )
        if isinstance(result, tuple):
            made, _ = _through(result, self._outputs_met)
            return same_kind(result, made)
        return _through((result,), self._outputs_met)[0][0]

    def _outputs_met(self, grads: Gradients) -> Gradients:
        for hook in self.pre_hooks:
            grads = _left(grads, hook(self.module, grads), "pre hook", "grad_output")
        if self.inputs_meet:
            self.outputs = grads
            return grads
        if self.hooks:
            warn(
                "Full backward hook is firing when gradients are computed with respect to module outputs since no inputs "
                "require gradients.",
            )
        for hook in self.hooks:
            given = hook(self.module, (None,) * self.n_inputs, grads)
            if given is not None and any(g is not None for g in _as_tuple(given)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None for all gradients."
                )
        return grads

    def _inputs_met(self, grads: Gradients) -> Gradients:
        if self.outputs is None:  # a gradient that did not pass through the results, as in a second derivative
            return grads
        full = list(grads)
        for k, t, _ in self.entered:
            if full[k] is None and (t.is_floating_point() or t.is_complex()):
                full[k] = torch.zeros_like(t)
        grads = tuple(full)
        for hook in self.hooks:
            grads = _left(grads, hook(self.module, grads, self.outputs), "hook", "grad_input")
        self.outputs = None
        return grads


def _left(grads: Gradients, given: Any, kind: str, name: str) -> Gradients:
    """The gradients after a hook that has seen them and returned `given`."""
    if given is None:
        return grads
    given = _as_tuple(given)
    if len(given) != len(grads):
        raise RuntimeError(f"Backward {kind} returned an invalid number of {name}, got {len(given)}, but expected {len(grads)}")
    return given


def _as_tuple(given: Any) -> Gradients:
    return (given,) if isinstance(given, Tensor) else tuple(given)


def _through(values: Gradients, meet: Callable[[Gradients], Gradients]) -> tuple[Gradients, bool]:
    """The values with their tensors sent through a crossing, if one requires grad; `meet` sees one gradient per value."""
    places = [k for k, v in enumerate(values) if isinstance(v, Tensor)]
    if not torch.is_grad_enabled() or not any(values[k].requires_grad for k in places):
        return values, False

    def meet_all(grads: Gradients) -> Gradients:
        full: list[Any] = [None] * len(values)
        for k, g in zip(places, grads, strict=True):
            full[k] = g
        met = meet(tuple(full))
        return tuple([met[k] for k in places])

    made = list(values)
    for k, t in zip(places, _Crossing.apply(meet_all, *[values[k] for k in places]), strict=True):
        made[k] = t
    return tuple(made), True
