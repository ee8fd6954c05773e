"""`vmap`: a function of one sample as a function of a batch.

The function is called with the first sample. If all it did was to record steps, these are recorded for the batch
(`walk`); else that call was the first of a loop over the samples (`_looped`), which is what reference mode always does.
Read `_run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from sys import getrefcount
from typing import Any

from adjoint.batch.levels import Level, Mapping
from adjoint.batch.levels import sample as sample_of
from adjoint.batch.trees import leaves_of, rebuild
from adjoint.batch.walk import Mapped, batched
from adjoint.ops.elementwise import cast
from adjoint.ops.joining import cat, stack
from adjoint.ops.shape import narrow, select
from adjoint.trace import recorder
from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor
from adjoint.trace.listener import Listener
from adjoint.trace.many import bind_all
from adjoint.trace.recorder import Trace, local
from adjoint.trace.state import ALIVE

Pairs = list[tuple[Tensor, Any]]  # tensors, each with its axis of the batch, or None
loops = 0  # batches that were computed one sample after the other, for tests


def vmap(func: Callable, in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None) -> Callable:
    """`func`, which takes and returns tensors of one sample, as a function of a batch of them.

    in_dims, out_dims: the axis of the batch in every argument and result: an int for all, None for what is not mapped
    over (a result then is that of the first sample), or a structure like that of the arguments. randomness: what drawing
    random numbers in `func` does: "error", "same" numbers for every sample, or "different" ones. chunk_size: at most so
    many samples at a time. Transforms nest, and the result has derivatives.

    `func` is called once, with the first sample, and what it recorded is recorded again for the batch. It is called for
    every sample instead where that is not possible: if it reads a value of the sample (`item`, `if x > 0`), changes
    tensors from outside or keeps new ones there, draws different random numbers, or has derivatives of the user's own
    (custom functions, hooks) that the result still needs; and in reference mode. The rule of a custom function for batches
    (`autograd.Function.vmap`) is called with the whole batch; where the samples are computed one by one, `forward` is called.

    ValueError if the mapped sizes differ or nothing is mapped, RuntimeError for random numbers that were not asked for.

    >>> import adjoint as torch
    >>> torch.func.vmap(torch.dot)(torch.tensor([[1., 2.], [3., 4.]]), torch.tensor([[1., 1.], [2., 2.]]))
    tensor([ 3., 14.])
    >>> slope = torch.func.grad(lambda w, x: (w * x).sum() ** 2)
    >>> torch.func.vmap(slope, in_dims=(None, 0))(torch.ones(2), torch.tensor([[1., 2.], [3., 4.]]))
    tensor([[ 6., 12.],
            [42., 56.]])
    """
    if randomness not in ("error", "same", "different"):
        raise RuntimeError(f"vmap: Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    def call(*args: Any, **kwargs: Any) -> Any:
        if not isinstance(in_dims, (int, tuple)):
            raise ValueError(
                f"vmap: expected in_dims to be an int or a tuple with the structure of the arguments, got {type(in_dims).__name__}"
            )
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ValueError(f"vmap: in_dims {in_dims} has {len(dims)} entries for {len(args)} arguments")
        flat = [pair for a, dim in zip(args, dims, strict=True) for pair in _with_dims(a, dim)]
        sizes = {x._aval.shape[d] for x, d in flat if d is not None}
        if len(sizes) != 1:
            raise ValueError(f"vmap: mapped-over sizes must be one and the same, got {sorted(sizes)} along in_dims {in_dims}")
        size = sizes.pop()

        def sample(parts: list[Tensor]) -> Any:
            given = iter(parts)
            return func(*[rebuild(a, given) for a in args], **kwargs)

        tr = local.trace
        draws = tr.watch = Draws(randomness, tr.watch)
        try:
            tree, found = _chunked(sample, flat, size, out_dims, draws, chunk_size or size)
        finally:
            local.trace.watch = draws.outer
        return rebuild(tree, iter(found))

    return call


def _with_dims(tree: Any, dim: Any) -> Pairs:
    """The tensors of an argument, each with the axis to map over."""
    if isinstance(tree, Tensor):
        rank = len(tree._aval.shape)
        if dim is None:
            return [(tree, None)]
        if not isinstance(dim, int):
            raise ValueError(f"vmap: in_dims must have the structure of the arguments; got {dim!r} for a tensor")
        if not -rank <= dim < rank:
            raise ValueError(f"vmap: in_dim {dim} for a tensor of shape {list(tree._aval.shape)}")
        return [(tree, dim % rank)]
    if isinstance(tree, (tuple, list, dict)):
        if dim is not None and not isinstance(dim, int):
            _check_structure("in_dims", tree, dim)
        if isinstance(tree, dict):
            return [pair for k, t in tree.items() for pair in _with_dims(t, dim[k] if isinstance(dim, dict) else dim)]
        dims = dim if isinstance(dim, (tuple, list)) else [dim] * len(tree)
        return [pair for t, d in zip(tree, dims, strict=True) for pair in _with_dims(t, d)]
    if dim is not None:
        raise ValueError(
            f"vmap: got in_dim={dim!r} for an argument of type {type(tree).__name__}, which cannot be mapped over; use None for it in in_dims"
        )
    return []


def _check_structure(name: str, tree: Any, dim: Any) -> None:
    """ValueError where the axes given for a tuple, list or dict are not of the same kind."""
    same = type(dim) is type(tree) and len(dim) == len(tree)
    if not same or (isinstance(tree, dict) and dim.keys() != tree.keys()):
        raise ValueError(f"vmap: {name} is not compatible with the structure of the {type(tree).__name__} it is for: {dim!r}")


def _placed(tree: Any, dim: Any) -> Pairs:
    """The tensors of a result, each with the axis that the batch is to have."""
    if isinstance(tree, Tensor):
        rank = len(tree._aval.shape) + 1
        if isinstance(dim, (tuple, list)) and len(dim) == 1:
            dim = dim[0]
        if not (dim is None or isinstance(dim, int)):
            raise ValueError(f"vmap: out_dims must have the structure of the result; got {dim!r} for a tensor")
        if dim is not None and not -rank <= dim < rank:
            raise IndexError(f"vmap: out_dim {dim} for a result of shape {list(tree._aval.shape)}, which has {rank} places for the batch")
        return [(tree, None if dim is None else int(dim))]
    if isinstance(tree, (tuple, list, dict)) and dim is not None and not isinstance(dim, int):
        _check_structure("out_dims", tree, dim)
    if isinstance(tree, (tuple, list)):
        dims = dim if isinstance(dim, (tuple, list)) else [dim] * len(tree)
        return [pair for t, d in zip(tree, dims, strict=True) for pair in _placed(t, d)]
    if isinstance(tree, dict):
        return [pair for k, t in tree.items() for pair in _placed(t, dim[k] if isinstance(dim, dict) else dim)]
    raise ValueError(f"vmap: the function must return tensors, got {type(tree).__name__}")


class Draws(Mapping):
    """Hears of random numbers that are drawn while a function is mapped, and sees to it that they are what was asked for.

    first: generator -> where it was before the first sample drew from it.  seen: those this sample has drawn from.
    mine: key of a generator -> how many of its calls this sample has seen; earlier: the same of the samples before, so
    that a function that sets the seed still draws different numbers.
    """

    def __init__(self, randomness: str, outer: Listener | None) -> None:
        super().__init__(outer)
        self.randomness = randomness
        self.any = False
        self.first: dict[Any, tuple[int, int, int]] = {}
        self.seen: set[Any] = set()
        self.mine: dict[int, int] = {}
        self.earlier: dict[int, int] = {}

    def drawn(self, generator: Any) -> None:
        if self.randomness == "error":
            raise RuntimeError(
                "vmap: called random operation while in randomness error mode. Please either use the 'same' or "
                "'different' randomness flags on vmap or perform the randomness operation out of vmap"
            )
        self.any = True
        super().drawn(generator)  # first: an outer map may move the generator, and what is noted here is where it is then
        if self.randomness == "same" and generator not in self.seen:
            self.seen.add(generator)
            here = generator._seed, generator._key, generator._calls
            begin = self.first.setdefault(generator, here)
            if here != begin:
                generator._seed, generator._key, generator._calls = begin
                self.give_up("vmap draws the same random numbers again")
        elif self.randomness == "different":
            key = generator._key
            if generator._calls < self.earlier.get(key, 0):
                generator._calls = self.earlier[key]
                self.give_up("vmap draws other random numbers than the seed asks for")
            self.mine[key] = max(self.mine.get(key, 0), generator._calls + 1)

    def next(self) -> None:
        """Another sample begins."""
        self.seen.clear()
        self.earlier.update(self.mine)


def _chunked(sample: Callable, flat: Pairs, size: int, out_dims: Any, draws: Draws, most: int) -> tuple[Any, list[Tensor]]:
    """(A result's structure, its tensors for the batch), of at most so many samples at a time."""
    if most >= size:
        return _run(sample, flat, size, out_dims, draws)
    tree, parts = None, []
    for begin in range(0, size, most):
        count = min(most, size - begin)
        part = [(x if d is None else narrow(x, d, begin, count), d) for x, d in flat]
        draws.next()
        tree, found = _run(sample, part, count, out_dims, draws)
        parts.append(found)
    axes = [d for _, d in _placed(tree, out_dims)]
    return tree, [column[0] if d is None else cat(list(column), d) for column, d in zip(zip(*parts, strict=True), axes, strict=True)]


def _run(sample: Callable, flat: Pairs, size: int, out_dims: Any, draws: Draws) -> tuple[Any, list[Tensor]]:
    """The same for all samples at once: by a walk over the steps of the first, or by a loop."""
    tr = local.trace
    if not size:
        return _of_none(sample, flat, out_dims)
    one_by_one = tr.eager or size == 1
    steady = [(x if d is None else _steady(x), d) for x, d in flat]
    tr.whole += 1
    try:
        bind_all(tr, [x for x, d in steady if d is not None])
        given = [x if d is None else sample_of(x, d, 0) for x, d in steady]
        tid = tr.id
        mapped = [Mapped(s._slot, x._slot, d) for s, (x, d) in zip(given, steady, strict=True) if d is not None and x._tid == tid]
        complete = len(mapped) == sum(d is not None for _, d in flat)
        traces = _Traces(tr)
        draws.level = level = Level(tr, mapped, size, given, traces) if complete else None
        if level is not None and tr.eager:
            level.values.update([(x._slot, x._data) for x, d in steady if d is not None])
        tree = sample(given)
    finally:
        local.trace.whole, draws.level = local.trace.whole - 1, None
    pairs = _placed(tree, out_dims)
    at_once = not (draws.any and draws.randomness == "different")
    if at_once and level is not None and (level.used or not one_by_one) and level.ready(tr) and level.none_left(pairs) and traces.none_left(tr, pairs):
        found = _walked(tr, pairs, level.mapped, size, traces)
        if found is not None:
            return tree, found
    _write_back(given, flat, 0)
    return _looped(sample, flat, size, out_dims, draws, [tree])


def _of_none(sample: Callable, flat: Pairs, out_dims: Any) -> tuple[Any, list[Tensor]]:
    """Of no samples at all: what becomes of their sum, which is zero, says what the results would be."""
    tree = sample([x if d is None else cast(x.sum(d), x._aval.dtype) for x, d in flat])
    return tree, [x if d is None else narrow(x.unsqueeze(d), d, 0, 0) for x, d in _placed(tree, out_dims)]


def _steady(x: Tensor) -> Tensor:
    """A tensor of which the trace sees every use: itself, unless its memory is read anew each time, because others may
    write there."""
    base = x if x._base is None else x._base
    return x if base._escape is None or x._aval.requires_grad else recorder.alias(x, "alias", False)


def _write_back(given: list[Tensor], flat: Pairs, k: int) -> None:
    """What a function changed in its sample is changed in the batch."""
    for s, (x, d) in zip(given, flat, strict=True):
        if d is not None and s._version:
            select(x, d, k).copy_(s)


class _Traces:
    """What a call leaves behind, besides its result: nothing but recorded steps, or is there more?"""

    def __init__(self, tr: Trace) -> None:
        self.start(tr)

    def start(self, tr: Trace) -> None:
        self.handles, self.slot = len(tr.handles), tr.node.slot
        self.changes = self.count(tr)

    def changed(self, tr: Trace) -> bool:
        return self.changes != self.count(tr)

    def count(self, tr: Trace) -> tuple[int, int]:
        """Grows when a tensor that is pending or was changed before is changed, or another one is."""
        return len(tr.mutated), sum([h._version for h in islice(tr.handles, self.handles)]) + sum([t._version for t in tr.mutated.values()])

    def none_left(self, tr: Trace, pairs: Pairs) -> bool:
        """Whether no tensor was changed, and no new one is held by anybody but the result."""
        known = {id(t) for x, _ in pairs for t in (x, x._base, *[s for move in x._chain for s in move[2]])}
        if self.changed(tr):
            return False
        held = _held_by_functions(tr, self.slot)
        for views in tr.viewed:  # a view that only the trace holds is none, and holds no base
            views.recent = [v for v in views.recent if getrefcount(v) > ALIVE + held[id(v)]]
        tr.viewed = [views for views in tr.viewed if views.recent]
        return not [h for h in islice(tr.handles, self.handles, None) if getrefcount(h) > ALIVE + held[id(h)] and id(h) not in known]

    def forget(self, tr: Trace, pairs: Pairs) -> list[Tensor]:
        """Let go of what was computed for the one sample, but for the results, and return it."""
        results = {id(x) for x, _ in pairs}
        made = tr.handles[self.handles :]
        tr.handles[self.handles :] = [h for h in made if id(h) in results]
        return [h for h in made if id(h) not in results]


def _held_by_functions(tr: Trace, slot: int) -> Counter[int]:
    """How often a tensor is held by custom functions that were applied after a slot, by its id."""
    held: Counter[int] = Counter()
    calls = {id(p.call): p.call for k, p in tr.payload.items() if type(k) is int and k > slot}
    found = leaves_of([(call.inputs, *vars(call.ctx).values()) for call in calls.values()])
    views = {id(x): x for x in found if x._base is not None}
    held.update([id(x) for x in found])
    held.update([id(s) for v in views.values() for s in (v._base, *[s for move in v._chain for s in move[2]])])
    return held


def _walked(tr: Trace, pairs: Pairs, mapped: list[Mapped], size: int, traces: _Traces) -> list[Tensor] | None:
    """The results for the batch, from the steps of one sample; None where that is not possible."""
    tid = tr.id
    asked = [(x, d) for x, d in pairs if d is not None]
    slots = bind_all(tr, [x for x, _ in asked])
    if tr.id != tid:
        return None
    forgotten = traces.forget(tr, pairs)
    found = batched(tr, list(slots), [d for _, d in asked], mapped, size)
    if found is None:
        if tr.id == tid:
            tr.handles += forgotten
        return None
    forgotten.clear()
    results = iter(found)
    out = []
    for x, d in pairs:
        made = x if d is None else next(results)
        out.append(_repeated(x, size, d) if made is None else made)
    return out


def _repeated(x: Tensor, size: int, axis: int) -> Tensor:
    """A result that is the same for all samples."""
    shape = list(x._aval.shape)
    at = axis % (len(shape) + 1)
    one = recorder.record("reshape", (x,), (*shape[:at], 1, *shape[at:]))
    out = recorder.record("expand", (one,), (*shape[:at], size, *shape[at:]))
    out._aval = aval(tuple(out._aval.shape), x._aval.dtype, out._aval.requires_grad)
    return out


def _looped(sample: Callable, flat: Pairs, size: int, out_dims: Any, draws: Draws, trees: list[Any]) -> tuple[Any, list[Tensor]]:
    """The results of the samples, of which the first may be known, one after the other."""
    global loops
    loops += size > 1
    for k in range(len(trees), size):
        draws.next()
        given = [x if d is None else sample_of(x, d, k) for x, d in flat]
        trees.append(sample(given))
        _write_back(given, flat, k)
    axes = [d for _, d in _placed(trees[0], out_dims)]
    columns = zip(*[leaves_of(tree) for tree in trees], strict=True)
    return trees[0], [column[0] if d is None else stack(list(column), d) for column, d in zip(columns, axes, strict=True)]
