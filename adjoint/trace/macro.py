"""Macros: Python that records the same steps every time is replaced by one look-up.

A macro hangs on the step where it starts, under a key of everything it depends on (what it does, the slots of its
tensors, its static arguments). The first time it runs as Python; then the trie remembers where it led, and later calls
jump there. Intermediates are dropped from the handles that may be alive on the first walk as on every jump, so that
both select the same program. A macro is only remembered if it stayed within one trace and used no run-time numbers or
tensors besides its arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.trace import arguments, pieces, recorder
from adjoint.trace.handle import Tensor, pending
from adjoint.trace.many import bind_all, point_all
from adjoint.trace.recorder import Trace, flush, local
from adjoint.trace.trie import Macro, Scope, Step

_WIDER = (dtypes.float32, dtypes.float64)
FLOATING, INEXACT = (2,), (2, 3)  # what `composite` may be told to take: real, or complex too
MAX_MACROS = 256  # per step; the oldest goes first


def remember(step: Step, key: Any, macro: Macro) -> None:
    if step.macros is None:
        step.macros = {}
    elif len(step.macros) >= MAX_MACROS:
        step.macros.pop(next(iter(step.macros)))
    step.macros[key] = macro


def make_handle(tr: Trace, slot: int, a: Any) -> Tensor:
    out = pending(tr.id, slot, a)
    tr.handles.append(out)
    return out


def static_key(value: Any) -> Any:
    """A static argument as part of a key: 2, 2.0 and True are equal, but not the same argument, nor are 0.0 and -0.0."""
    if type(value) is tuple:
        return tuple, tuple([static_key(v) for v in value])
    if type(value) is float and not value * value > 0.0:  # zeros, and NaN, which does not equal itself
        return float, repr(value)
    if type(value) is complex:
        return complex, repr(value)
    return type(value), value


def composite(name: str, takes: tuple[int, ...] = (0, 1, 2, 3), follows: bool = False) -> Callable[[Callable], Callable]:
    """Make a function of tensors a macro; `name` is the name of its gradient node, for example "SoftmaxBackward0".

    The function takes tensors (or None) and hashable static arguments and returns a tensor or a tuple of tensors. It
    must not draw random numbers, read values, change its arguments, depend on anything else, or return a view of one.
    takes: the categories (`DType.category`) of a first argument for which PyTorch has it; NotImplementedError for others.
    follows: whether the first result has the dtype of the first argument also if that is half and others are float32.
    """

    def decorate(function: Callable) -> Callable:
        first = function.__code__.co_varnames[0]  # the first argument's name, by which it may be given
        leading = first if follows else ""
        if len(takes) < 4:
            function = only(takes, first, function)

        def call(*args: Any, **kwargs: Any) -> Any:
            tr = local.trace
            if tr.static:
                return scoped(tr, name, function, args, kwargs, leading)
            if tr.eager:
                return attempted(scoped, tr, name, function, args, kwargs, leading)
            tensors: list[Tensor] = []
            rest: list[Any] = []
            for a in args:
                if isinstance(a, Tensor):
                    tensors.append(a)
                    rest.append(Tensor)
                else:
                    rest.append(None if a is None else static_key(a))
            if kwargs:
                for k, a in kwargs.items():
                    if isinstance(a, Tensor):
                        tensors.append(a)
                        rest.append((k, Tensor))
                    else:
                        rest.append((k, static_key(a)))
            try:
                slots = bind_all(tr, tensors)
                key = (call, slots, tuple(rest))
                macro = tr.node.macros.get(key) if tr.node.macros is not None else None
            except TypeError:  # an argument that cannot be a key
                return attempted(scoped, tr, name, function, args, kwargs, leading)
            if macro is None and pieces.families and (tr.node.cut or pieces.ends_here(tr, name)):
                flush(tr)
                slots = bind_all(tr, tensors)
                key = (call, slots, tuple(rest))
                macro = tr.node.macros.get(key) if tr.node.macros is not None else None
            if macro is None or tr.flush_after:
                return attempted(first_time, tr, name, function, args, kwargs, leading, key, tensors)
            tr.node = macro.end
            if macro.single and type(macro.results[0]) is tuple:
                slot, a = macro.results[0]
                out = pending(tr.id, slot, a)
                tr.handles.append(out)
                return out
            results = [tensors[r] if type(r) is int else make_handle(tr, *r) for r in macro.results]
            return results[0] if macro.single else tuple(results)

        call.__name__ = function.__name__
        call.__qualname__ = function.__qualname__
        call.__doc__ = function.__doc__
        call.__module__ = function.__module__
        call.__wrapped__ = function  # type: ignore[attr-defined]
        call.explains = True  # type: ignore[attr-defined]
        return call

    return decorate


def only(takes: tuple[int, ...], first: str, function: Callable) -> Callable:
    """The function, refusing a first argument, of the name `first`, whose dtype is of another category."""
    name = function.__name__.lstrip("_")

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs.get(first)
        if isinstance(x, Tensor) and x._aval.dtype.category not in takes:
            raise NotImplementedError(not_implemented(name, x._aval.dtype))
        return function(*args, **kwargs)

    return checked


def not_implemented(name: str, dtype: DType) -> str:
    """PyTorch's message for a function that does not exist for a dtype, with the mend."""
    mend = "use .abs(), .real or .imag" if dtype.is_complex else "convert with .float() first"
    return f'"{name}" not implemented for \'{dtypes.LEGACY[dtype]}\'; {mend}'


def scoped(tr: Trace, name: str, function: Callable, args: tuple, kwargs: dict, leading: str) -> Any:
    """Run a composite's body, marking its steps as one."""
    outer = tr.scope
    if outer is None:
        tr.scope = Scope(name, tr.node.slot)
    try:
        half = next((a._aval.dtype for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a._aval.dtype.is_half), None)
        return function(*args, **kwargs) if half is None else in_float32(tr, function, args, kwargs, half, leading)
    finally:
        tr.scope = outer


def attempted(run: Callable, tr: Trace, name: str, function: Callable, args: tuple, kwargs: dict, *rest: Any) -> Any:
    """`run` a composite whose arguments are new here: they are compared with its annotations, before and after."""
    if "out" in kwargs and function in arguments.writers:
        kwargs = {**kwargs}
        return arguments.writers[function](kwargs.pop("out"), args, kwargs)
    failure: Exception | None = arguments.mistake_in(function, args, kwargs)
    if failure is None:
        try:
            return run(tr, name, function, args, kwargs, *rest)
        except Exception as error:
            failure = arguments.explain(function, args, kwargs, error)
            if failure is error:
                raise
    raise failure


def in_float32(tr: Trace, function: Callable, args: tuple, kwargs: dict, half: DType, leading: str) -> Any:
    """A composite of halves: computed in float32 throughout and rounded once, as PyTorch's kernels do.

    leading: the name of the first argument, if the first result has its dtype also among float32 ones; else empty.
    """

    def wide(a: Any) -> Any:
        return recorder.record("cast", (a,), dtypes.float32) if isinstance(a, Tensor) and a._aval.dtype.is_half else a

    def narrow(a: Any) -> Any:
        single = isinstance(a, Tensor) and a._aval.dtype is dtypes.float32
        return recorder.record("cast", (a,), half) if single else a

    wider = {a._aval.dtype for a in (*args, *kwargs.values()) if isinstance(a, Tensor)}.intersection(_WIDER)
    follows = bool(leading) and wider == {dtypes.float32} and (args[0] if args else kwargs[leading])._aval.dtype is half
    if wider and not follows:
        return function(*args, **kwargs)  # promoted, or refused
    lowered = tr.lowered
    try:
        tr.set_lowered(None)
        out = function(*[wide(a) for a in args], **{k: wide(a) for k, a in kwargs.items()})
    finally:
        tr.set_lowered(lowered)
    if isinstance(out, Tensor):
        return narrow(out)
    return (narrow(out[0]), *out[1:]) if follows else tuple([narrow(a) for a in out])


def first_time(
    tr: Trace, name: str, function: Callable, args: tuple, kwargs: dict, leading: str, key: Any, tensors: list
) -> Any:
    start, tid = tr.node, tr.id
    handles, inputs, scalars = len(tr.handles), len(tr.inputs), len(tr.scalars)
    tr.static += 1
    try:
        out = scoped(tr, name, function, args, kwargs, leading)
    finally:
        tr.static -= 1
    if tr.id != tid:
        return out
    single = isinstance(out, Tensor)
    outs = [out] if single else list(out)
    results: list[Any] = []
    plain = []
    for o in outs:
        position = next((i for i, t in enumerate(tensors) if t is o), None)
        if position is not None:
            results.append(position)
            plain.append(o)
        elif not isinstance(o, Tensor) or o._tid != tid:
            return out
        else:
            results.append((o._slot, o._aval))
            plain.append(o)
    del tr.handles[handles:]
    for i, o in enumerate(plain):
        if type(results[i]) is not int:
            plain[i] = make_handle(tr, *results[i])
    if len(tr.inputs) == inputs and len(tr.scalars) == scalars and not tr.flush_after:
        remember(start, key, Macro(tr.node, results, single))
    if tr.flush_after:
        flush(tr)
    return plain[0] if single else tuple(plain)


def update(
    rule: Callable,
    groups: list[tuple[Tensor, ...]],
    scalars: tuple[float, ...] = (),
    static: tuple = (),
    outputs: tuple[int, ...] = (0,),
) -> None:
    """In-place update of many tensors by one formula, as optimizers do, without gradient.

    For every tuple of tensors in `groups`, `rule(*tensors, *scalar_tensors, *static)` returns the new values of the
    tensors at the positions `outputs`. The scalars are run-time arguments (0-d float64 tensors inside the rule), so a
    changing learning rate compiles nothing.
    """
    tr = local.trace
    if not tr.pieces or tr.eager or tr.watch is not None:
        tr.in_mode(False, _update, rule, groups, scalars, static, outputs)
        return
    flush(tr)  # which parameters there are may be different every time: one after another, in programs for a few that are alike
    for some in pieces.together(groups):
        tr.in_mode(False, _update, rule, some, scalars, static, outputs)
        flush(tr)


def _update(rule: Callable, groups: list[tuple[Tensor, ...]], scalars: tuple, static: tuple, outputs: tuple[int, ...]) -> None:
    from adjoint.trace import views

    tr = local.trace
    numbers = [recorder.record_number(float(v)) for v in scalars]
    if tr.eager:
        for group in groups:
            _apply(views, rule, group, numbers, static, outputs)
        return
    flat = [t for group in groups for t in group]
    slots = bind_all(tr, (*numbers, *flat))
    key = (rule, slots, static, outputs)
    macro = tr.node.macros.get(key) if tr.node.macros is not None else None
    if macro is None or tr.flush_after or any([t._base is not None for t in flat]):
        start, tid = tr.node, tr.id
        handles, inputs, count = len(tr.handles), len(tr.inputs), len(tr.scalars)
        tr.static += 1
        tr.whole += 1  # many equal updates are no loop that goes on
        try:
            results = []
            for group in groups:
                new = rule(*_computed(group), *numbers, *static)
                results.append([_fit(v, group[k]) for v, k in zip(new, outputs, strict=True)])
        finally:
            tr.static -= 1
            tr.whole -= 1
        end = tr.node
        flat_results = [v for new in results for v in new]
        for group, new in zip(groups, results, strict=True):
            for k, v in zip(outputs, new, strict=True):
                views.assign(group[k], v)
        if (
            tr.id == tid
            and len(tr.inputs) == inputs
            and len(tr.scalars) == count
            and not tr.flush_after
            and all(v._tid == tid for v in flat_results)
            and tr.node is end
        ):
            del tr.handles[handles:]
            remember(start, key, Macro(end, [v._slot for v in flat_results], False))
        return
    tr.node = macro.end
    targets = [group[k] for group in groups for k in outputs]
    left = point_all(tr, targets, macro.results)
    shared = [(targets[k], make_handle(tr, macro.results[k], targets[k]._aval)) for k in left]
    for t, value in shared:  # after the others: writing shared memory ends the trace
        views.point(t, value)


def _computed(group: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Halves as float32: an update rounds once, when it is stored."""
    if not any([t._aval.dtype.is_half for t in group]):
        return group
    return tuple([recorder.record("cast", (t,), dtypes.float32) if t._aval.dtype.is_half else t for t in group])


def _fit(value: Tensor, target: Tensor) -> Tensor:
    if value._aval.dtype is not target._aval.dtype:
        return recorder.record("cast", (value,), target._aval.dtype)
    return value


def _apply(views: Any, rule: Callable, group: tuple, numbers: list, static: tuple, outputs: tuple) -> None:
    new = rule(*_computed(group), *numbers, *static)
    for v, k in zip([_fit(v, group[k]) for v, k in zip(new, outputs, strict=True)], outputs, strict=True):
        views.assign(group[k], v)
