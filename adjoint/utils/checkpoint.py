"""Derivatives without stored intermediate values: `torch.utils.checkpoint` by name.

A checkpointed piece of a model keeps what went into it and what came out; its backward computes the rest again (Chen,
Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost", 2016). Three ends of a trace make that true
here: before the piece, so that everything it reads is an input of its trace and can be found; after it, so that what
backward computes again cannot be merged with what was computed before; and after its backward, so that the next piece
is computed in a program of its own. Programs keep memory for what they compute in between; those of a piece give it
back. Read `checkpoint` first; `_Piece` is what it remembers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import adjoint as torch
from adjoint.autograd import engine
from adjoint.batch.trees import leaves_of, rebuild
from adjoint.grad.walk import locate
from adjoint.methods import Tensor
from adjoint.runtime import memory
from adjoint.runtime.program import counters as runs
from adjoint.runtime.program import living
from adjoint.trace.recorder import flush, local
from adjoint.trace.state import warn

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]


_FREE = 256 << 20  # bytes that may lie free for the next piece


class CheckpointError(RuntimeError):
    """A piece gave other results when it was computed again."""


def noop_context_fn() -> tuple[Any, Any]:
    """Two contexts that do nothing: one for the computation, one for its repetition."""
    return contextlib.nullcontext(), contextlib.nullcontext()


class _Piece:
    """A computation that can be done again.

    function, args: as called (args are a tree).  state: where random numbers stood, or None.  context: entered when it is
    done again.  check: whether its results are compared with the first ones by shape and dtype.
    """

    def __init__(self, function: Callable[..., Any], args: Any, state: Tensor | None, context: Any, check: bool) -> None:
        self.function, self.args, self.state, self.context, self.check = function, args, state, context, check
        self.found: list[tuple[Any, Any]] = []  # shapes and dtypes of the results
        self.lowered = local.trace.lowered
        self.versions: list[int] = []  # of its inputs: how often they had been changed in place

    def variables(self) -> Any:
        """The arguments as tensors without a past. A view would lead to its base, which is no argument: it is copied."""
        return rebuild(self.args, iter([_variable(t) for t in leaves_of(self.args)]))

    def again(self, args: Any) -> list[Tensor]:
        """The results that can have gradients, computed from `args` with the random numbers of the first time."""
        with _random_numbers_of(self.state), _autocast_of(self.lowered), self.context:
            outs = leaves_of(self.function(*args[0], **args[1]))
        found = [(tuple(t.shape), t.dtype) for t in outs]
        if self.check and found != self.found:
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values have different metadata than during the forward pass: "
                f"shapes and dtypes were {self.found} and are now {found}; the function must do the same when called again"
            )
        return [t for t in outs if t.is_floating_point() or t.is_complex()]


def _variable(t: Tensor) -> Tensor:
    if not t.requires_grad:
        return t
    plain = t.detach()
    return (plain.clone() if t._is_view() else plain).requires_grad_()


def _version(t: Tensor) -> int:
    return (t if t._base is None else t._base)._version


def _end() -> None:
    """Run what is recorded, without keeping the memory of its values in between for the next time."""
    before = runs["runs"]
    flush(local.trace)
    for program in list(living):
        if program.last > before:
            program.release()
    memory.trim(_FREE)


@contextlib.contextmanager
def _random_numbers_of(state: Tensor | None) -> Iterator[None]:
    with torch.random.fork_rng(enabled=state is not None):
        if state is not None:
            torch.set_rng_state(state)
        yield


def _autocast_of(lowered: Any) -> Any:
    """The mode of `autocast` in which the piece was computed first."""
    if lowered is local.trace.lowered:
        return contextlib.nullcontext()
    return torch.autocast("cpu", lowered, enabled=lowered is not None)


def _captured(outs: list[Tensor], own: list[Tensor], since: int) -> list[Tensor]:
    """The leaves with gradients, besides `own`, from which the results were computed in traces begun after `since`."""
    mine = {id(t) for t in own}
    found: dict[int, Tensor] = {}
    computed: dict[int, Tensor] = {}
    seen: set[int] = set()
    places = [locate(t) for t in outs]
    pasts = [place[0] for place in places if place is not None]
    while pasts:
        past = pasts.pop()
        if past.id in seen:
            continue
        seen.add(past.id)
        for position, t in enumerate(past.inputs):
            if not t.requires_grad or id(t) in mine:
                continue
            before = past.origins.get(position)
            if t._leaf:
                found[id(t)] = t
            elif before is not None and before[0].id > since:
                pasts.append(before[0])
            else:
                computed[id(t)] = t
    if computed:
        suspects = list(computed.values())
        seeds = [torch.zeros_like(t) for t in outs]
        reached = engine.gradients(outs, suspects, seeds, keep=True, create_graph=False, hooks=False)
        for t, g in zip(suspects, reached, strict=True):
            if g is not None:
                raise RuntimeError(
                    f"checkpoint: the function uses a tensor of shape {list(t.shape)} that was computed outside it and requires "
                    "grad, but is no argument; pass it to the function as an argument, or detach() it"
                )
    return list(found.values())


class _Checkpointed(torch.autograd.Function):
    """The results of a piece as a function of its arguments and of the leaves it uses."""

    @staticmethod
    def forward(ctx: Any, piece: _Piece, ready: list[Tensor], *inputs: Tensor) -> Any:
        ctx.piece, ctx.inputs = piece, inputs
        piece.versions = [_version(t) for t in inputs]
        out = tuple(ready)
        ready.clear()
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        piece, count = ctx.piece, len(leaves_of(ctx.piece.args))
        if [_version(t) for t in ctx.inputs] != piece.versions:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: an argument or a "
                "parameter of a checkpointed function was changed before its backward, which computes the function again"
            )
        leaves = list(ctx.inputs[count:])

        def gradients(args: Any, *seeds: Tensor) -> list[Tensor]:
            chosen = [t for t in leaves_of(args) if t.requires_grad] + leaves
            outs = piece.again(args)
            pairs = [(o, s) for o, s in zip(outs, seeds, strict=True) if o.requires_grad]
            # hooks of the leaves see the sum of all their gradients, and that is known to the walk that called this one
            made = engine.gradients([o for o, _ in pairs], chosen, [s for _, s in pairs], again, again, hooks=False)
            return [torch.zeros_like(t) if g is None else g for t, g in zip(chosen, made, strict=True)]

        again = torch.is_grad_enabled()
        if again:  # the derivative is differentiated, too: it is a piece itself
            got = _run(_Piece(gradients, ((piece.args, *grads), {}), None, contextlib.nullcontext(), False))
        else:
            with torch.enable_grad():
                got = gradients(piece.variables(), *grads)
            got = [g.detach() for g in got]
            _end()
        left = iter(got)
        return (None, None, *[next(left) if t.requires_grad else None for t in ctx.inputs])


def _run(piece: _Piece, context: Any = None) -> Any:
    """Compute a piece, and forget all but its results."""
    flush(local.trace)
    since = local.trace.id - 1
    args = piece.variables()
    own = leaves_of(args)
    with torch.enable_grad(), context or contextlib.nullcontext():
        result = piece.function(*args[0], **args[1])
    outs = leaves_of(result)
    piece.found = [(tuple(t.shape), t.dtype) for t in outs]
    captured = _captured([t for t in outs if t.requires_grad], own, since)
    inputs = [*leaves_of(piece.args), *captured]
    plain = [t.detach() for t in outs]
    outs.clear()
    args, own = None, []
    _end()
    if any(t.requires_grad for t in inputs):
        plain = _with_past(piece, plain, inputs)
    return rebuild(result, iter(plain))


def _with_past(piece: _Piece, plain: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The results, connected to the inputs of the piece."""
    smooth = [t.is_floating_point() or t.is_complex() for t in plain]
    if not any(smooth):
        return plain
    with torch.enable_grad():
        made = _Checkpointed.apply(piece, [t for t, s in zip(plain, smooth, strict=True) if s], *inputs)
    place = locate(made[0])
    flush(local.trace)
    if place is not None:  # this trace has copies alone, and no derivative asks for what they were made of
        past = place[0]
        past.inputs, past.buffers = [past.shell(k) for k in range(len(past.inputs))], [None] * len(past.inputs)
    left = iter(made)
    return [next(left) if s else t for t, s in zip(plain, smooth, strict=True)]


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, of which the values in between are not kept but computed again in backward.

    Arguments and results are tensors and anything else, also in tuples, lists and dicts. Leaves that the function uses
    besides (the parameters of a module) have their gradients; a tensor that was computed outside and requires grad has to
    be an argument. Derivatives of any order, by `backward` and by `autograd.grad`, are those without the checkpoint, random
    numbers of the default generator included (unless `preserve_rng_state` is False). What the function changes outside
    itself (running averages) it changes twice, as in PyTorch.

    Each call ends the trace before and after itself, and once more in backward, so a checkpointed model is several programs
    instead of one: worth it where memory is short, and slower by the time of one more forward.

    `context_fn()` gives two contexts, for the first computation and for the later one. `determinism_check="none"` leaves
    out the comparison of shapes and dtypes, which otherwise raises CheckpointError. With `use_reentrant=True` nothing has
    a gradient unless an argument requires one, there are no keyword arguments and no `context_fn`, as in PyTorch; None
    warns and means True. `early_stop` has nothing to stop: what backward does not need is never computed.

    Raises ValueError for arguments that do not go together, NotImplementedError for `debug=True`, RuntimeError for a tensor
    computed outside that is no argument.

    >>> import adjoint as torch
    >>> from adjoint.utils.checkpoint import checkpoint
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> checkpoint(lambda t: (t * t).exp().sum(), x, use_reentrant=False).backward()
    >>> torch.allclose(x.grad, 2 * x * (x * x).exp())
    True
    """
    if use_reentrant is None:
        warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly; use_reentrant=False is recommended",
        )
        use_reentrant = True
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant and (context_fn is not noop_context_fn or debug):
        raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check must be 'default' or 'none', got {determinism_check!r}")
    if debug:
        raise NotImplementedError("checkpoint(debug=True) is not here; ADJOINT_DEBUG=5 prints the programs of both computations")
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    if use_reentrant and not any(t.requires_grad for t in leaves_of(args)):
        warn("None of the inputs have requires_grad=True. Gradients will be None")
        with torch.no_grad():
            return function(*args)
    first, later = context_fn()
    state = torch.get_rng_state() if preserve_rng_state else None
    return _run(_Piece(function, (args, kwargs), state, later, determinism_check == "default"), first)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, preserve_rng_state: bool = True, **kwargs: Any
) -> Any:
    """A chain of modules or functions in `segments` pieces, all but the last of them checkpointed.

    `functions` is an `nn.Sequential` or a list; each is called with what the one before gave. Raises ValueError for
    unknown keyword arguments; `use_reentrant` is that of `checkpoint`.

    >>> import adjoint as torch
    >>> from adjoint.utils.checkpoint import checkpoint_sequential
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> x = torch.ones(2, 3)
    >>> out = checkpoint_sequential(model, 2, x, use_reentrant=False)
    >>> torch.allclose(out, model(x))
    True
    """
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant is None:
        warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly; "
            "use_reentrant=False is recommended",
        )
        use_reentrant = True
    chain = list(functions.children()) if isinstance(functions, torch.nn.Sequential) else list(functions)

    def piece(start: int, end: int) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for function in chain[start:end]:
                value = function(value)
            return value

        return run

    size, start = len(chain) // segments, 0
    for start in range(0, size * (segments - 1), size) if size else ():
        input = checkpoint(
            piece(start, start + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state
        )
    return piece(size * (segments - 1), len(chain))(input)
