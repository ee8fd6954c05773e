"""`backward` and `grad`: starting a reverse walk, accumulating in `.grad`, and turning the walk into a macro.

The first backward at a place of the trie walks the steps in Python (`adjoint.grad.walk`); unless hooks, custom
functions or an older trace took part, the trie remembers where the derivative's steps end and which slots hold the
gradients, and the next time it jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adjoint.autograd import past, segments
from adjoint.grad.walk import AfterAccumulation, Freed, Reverse, dependents, locate
from adjoint.ops.create import ones_like
from adjoint.ops.elementwise import cast
from adjoint.trace.aval import aval
from adjoint.trace.handle import Tensor, blank, pending
from adjoint.trace.macro import make_handle, remember
from adjoint.trace.many import bind_all
from adjoint.trace.pieces import apart, are_cut
from adjoint.trace.recorder import Trace, flush, local, record, refresh_special
from adjoint.trace.state import changing, several, warn
from adjoint.trace.trie import Macro, Sums
from adjoint.trace.views import assign, is_elsewhere, point

walker: type[Reverse] = Reverse  # the kind of walk; `anomaly` sets its own


def tensors_of(given: Any) -> list[Any]:
    """A tensor or several, for which edges of the graph (`graph.GradientEdge`) may stand."""
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, tuple) and hasattr(given, "ownership_token"):
        given = [given]
    return [_at_edge(t) if isinstance(t, tuple) and hasattr(t, "ownership_token") else t for t in given]


def _at_edge(edge: Any) -> Tensor:
    from adjoint.autograd.graph import tensor_at

    return tensor_at(edge)


def _seed(t: Tensor, g: Tensor | None) -> Tensor:
    """The cotangent to start from, checked."""
    if g is None:
        if t._aval.size != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs: the tensor has shape {list(t._aval.shape)}; "
                "call .sum().backward(), or give the vector: .backward(torch.ones_like(y))"
            )
        if t._aval.dtype.is_complex:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {t._aval.dtype}")
        return record("full", (1.0,), (tuple(t._aval.shape), t._aval.dtype))
    if not isinstance(g, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if g._aval.shape != t._aval.shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[0] has a shape of {g._aval.shape} and output[0] has a shape of {t._aval.shape}."
        )
    if g._aval.dtype.is_complex is not t._aval.dtype.is_complex:
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same dtype. Mismatch in dtype: "
            f"grad_output[0] has a dtype of {g._aval.dtype!r} and output[0] has a dtype of {t._aval.dtype!r}."
        )
    return cast(g, t._aval.dtype)


def _check_root(t: Tensor) -> None:
    if not t._aval.requires_grad:
        raise RuntimeError(
            "element 0 of tensors does not require grad and does not have a grad_fn: nothing this tensor was computed "
            "from has requires_grad=True, or it was computed under torch.no_grad() or detach()ed"
        )


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add d(sum of tensors . grad_tensors)/d(leaf) to the `.grad` of every leaf (or of `inputs` only).

    Raises RuntimeError for a tensor without history, a non-scalar without cotangent, or a graph already freed.

    >>> import adjoint as torch
    >>> x = torch.tensor([1., 2.], requires_grad=True)
    >>> torch.autograd.backward((x * x).sum())
    >>> x.grad
    tensor([2., 4.])
    """
    roots = tensors_of(tensors)
    seeds = [grad_tensors] if grad_tensors is None or isinstance(grad_tensors, Tensor) else list(grad_tensors)
    for g in seeds:
        if g is not None and not isinstance(g, Tensor):
            raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    seeds += [None] * (len(roots) - len(seeds))
    keep = create_graph if retain_graph is None else retain_graph
    chosen = None if inputs is None else tensors_of(inputs)
    tr = _begin()
    for t in roots:
        _check_root(t)
    if keep and tr.node.depth >= segments.LONG and not tr.origins and not tr.eager:
        flush(tr)  # there will be more backwards of this graph: each can be the same program
    if chosen is None and len(roots) == 1 and seeds[0] is None and backward_from_past(roots[0], keep, create_graph):
        return
    if chosen is None and not tr.eager:
        slots = bind_all(tr, (*roots, *(g for g in seeds if g is not None)))
        key = ("backward", slots, len(roots), tuple(g is None for g in seeds), keep, create_graph)
        macro = tr.node.macros.get(key) if tr.node.macros is not None else None
        if macro is not None:
            jump(tr, macro)
            return
    else:
        key = None
    start, tid = tr.node, tr.id
    before = len(tr.handles), len(tr.inputs), len(tr.scalars)
    walk = run_reverse(roots, seeds, keep, create_graph, chosen)
    pairs = list(walk.leaves.values())
    if chosen is not None:
        for k, t in enumerate(chosen):
            if not t._leaf and k in walk.results:
                pairs.append((t, walk.results[k]))
    unchanged = tr.id == tid and before[1:] == (len(tr.inputs), len(tr.scalars))
    if key is not None and unchanged and not walk.pythonic and not walk.past and not tr.flush_after:
        gradients = [
            (next(i for i, t in enumerate(tr.inputs) if t is leaf), g._slot, plain(g._aval)) for leaf, g in pairs
        ]
        if all(g._tid == tid for _, g in pairs):
            remember(start, key, Macro(tr.node, gradients, False))
            macro = Macro(tr.node, gradients, False)
            pairs.clear()
            walk.leaves.clear()
            walk.results.clear()
            walk.cotangents.clear()
            del tr.handles[before[0] :]
            jump(tr, macro)
            return
    accumulate(distinct(pairs, seeds), create_graph)
    _end_pieces(tr, walk)


def _begin() -> Trace:
    """This thread's trace, before a derivative."""
    tr = local.trace
    tr.pieces = False
    if tr.saving is not None:
        flush(tr)  # what is recorded so far is put away, and given back
    return tr


def _end_pieces(tr: Any, walk: Reverse) -> None:
    """End the trace after a derivative of a loop that was cut in pieces: what follows, which may be the same loop once
    more, then begins where it began before, is cut at the same steps, and finds its programs."""
    ended = [hist.node for hist in walk.histories.values()] if walk.past and not tr.eager else []
    tr.pieces = any([are_cut(node) for node in ended]) or (walk.past and walk.line in apart and not tr.eager)
    if tr.pieces or any([node.cut for node in ended]):
        flush(tr)


def distinct(pairs: list[tuple[Tensor, Tensor]], taken: list[Any]) -> list[tuple[Tensor, Tensor]]:
    """The pairs with a handle of its own for every gradient.

    A rule may pass one tensor on to several leaves, or the caller's own cotangent; but a `.grad` is changed in place.
    """
    tr = local.trace
    seen = {id(g) for g in taken if g is not None}
    out = []
    for leaf, g in pairs:
        if id(g) in seen:
            twin = blank()
            twin._tid, twin._slot, twin._aval, twin._data = g._tid, g._slot, g._aval, g._data
            twin._base, twin._chain = g._base, g._chain
            twin.__dict__.update(g.__dict__)
            twin._escape = None
            refresh_special(twin)
            if g._base is not None:
                twin._base._views.hold(tr, twin)
            elif g._tid == tr.id:
                tr.handles.append(twin)
            g = twin
        seen.add(id(g))
        out.append((leaf, g))
    return out


def backward_from_past(root: Tensor, keep: bool, create_graph: bool) -> bool:
    """Backward of a scalar whose trace has ended, if nothing but that trace takes part; False if another way is due."""
    tr = local.trace
    hist = root._hist
    if tr.eager or hist is None or hist.trace is not None or hist.origins or hist.payload or hist.freed or hist.packed is not None:
        return False
    if root._base is not None or root._aval.size != 1:
        return False
    if tr.node.boundary or tr.node.cut:
        flush(tr)
    hist._revived = (0, {})  # else the steps would depend on what an earlier walk has brought back
    key = past.key_of(tr, hist, root._hslot, keep, create_graph)
    known = past.find(tr, key)
    if known is not None and past.bring_back(tr, hist, known):
        accumulate(past.gradients(tr, hist, known), create_graph)
        return True
    start, tid = tr.node, tr.id
    handles, before = len(tr.handles), (len(tr.inputs), len(tr.scalars))
    hist.lent = []
    walk = run_reverse([root], [None], keep, create_graph, None)
    pairs = list(walk.leaves.values())
    if tr.id == tid and not walk.pythonic and not tr.flush_after and set(walk.histories) == {hist.id}:
        known = past.note(tr, start, key, hist, before, pairs, set() if keep else walk.freed.get(hist.id, set()))
        if known is not None:
            pairs.clear()
            walk.leaves.clear()
            walk.cotangents.clear()
            del tr.handles[handles:]
            pairs = past.gradients(tr, hist, known)
    accumulate(distinct(pairs, []), create_graph)
    return True


def add_known(tr: Any, sums: Sums) -> bool:
    """Take a known backward and the sums that followed it the last time, in one step; False if they do not fit."""
    inputs, tid = tr.inputs, tr.id
    olds, data = [], []
    for position, a, _ in sums.leaves:
        old = inputs[position]._grad
        if old is None or old._aval is not a or old._special or old._tid == tid or old._views is not None:
            return False
        value = old._data
        if value is None or old._base is not None:
            return False
        olds.append(old)
        data.append(value)
    if len(olds) > 1 and len({*map(id, olds)}) < len(olds):  # one tensor is the gradient of several leaves
        return False
    tr.node = sums.end  # as in `bind`: no calls in these lines
    inputs += olds
    tr.buffers += data
    mutated = tr.mutated
    for position, _, slot in sums.leaves:
        old = inputs[position]._grad
        mutated[id(old)] = old
        old._data = None
        old._tid = tid
        old._slot = slot
        old._version += 1
    return True


def jump(tr: Any, macro: Macro) -> None:
    """Take a known backward: move on in the trie and hand each leaf its gradient."""
    if not several():
        _jump(tr, macro)
        return
    with changing:
        leaves = [tr.inputs[position] for position, _, _ in macro.results]
        if not any([leaf._shared or (leaf._grad is not None and is_elsewhere(leaf._grad)) for leaf in leaves]):
            _jump(tr, macro)
            return
        tr.node = macro.end
        gradients = [make_handle(tr, slot, a) for _, slot, a in macro.results]
        accumulate([*zip(leaves, gradients, strict=True)], any([g._aval.requires_grad for g in gradients]))


def _jump(tr: Any, macro: Macro) -> None:
    if macro.extra is not None and add_known(tr, macro.extra):
        return
    tr.node = macro.end
    tid = tr.id
    handles = tr.handles
    inputs = tr.inputs
    more = None
    for position, slot, a in macro.results:
        leaf = inputs[position]
        g = pending(tid, slot, a)
        handles.append(g)
        if leaf._grad is None:
            leaf._grad = g
        elif more is None:
            more = [(leaf, g)]
        else:
            more.append((leaf, g))
    if more is None:
        return
    if a.requires_grad or tr.eager:
        accumulate(more, a.requires_grad)
        return
    # the sums are a macro of their own, because which leaves already have a gradient is not known above
    shared = parts = False
    olds = []
    for leaf, _ in more:
        old = leaf._grad
        olds.append(old)
        if old._special or old._views is not None:
            shared = True
        if old._base is not None:
            parts = True
    slots = bind_all(tr, olds)
    if parts or len(set(slots)) < len(slots):  # gradients that share memory: the sums follow one another
        accumulate(more)
        return
    key = ("accumulate", slots, tuple([g._slot for _, g in more]))
    sums = tr.node.macros.get(key) if tr.node.macros is not None else None
    if sums is None or tr.id != tid or shared:
        start, inputs = tr.node, len(tr.inputs)
        totals = tr.in_mode(False, _sums, olds, more)
        if tr.id == tid and len(tr.inputs) == inputs and not tr.flush_after:
            remember(start, key, Macro(tr.node, [t._slot for t in totals], False))
        for old, total in zip(olds, totals, strict=True):
            point(old, total)
        return
    first = tr.node
    for _ in slots:  # were the gradients bound one after another, and nothing else?
        first = first.parent if first.prim == "input" else None
        if first is None:
            break
    if first is macro.end and len(more) == len(macro.results):
        leaves = zip(macro.results, olds, sums.results, strict=True)
        macro.extra = Sums([(position, old._aval, slot) for (position, _, _), old, slot in leaves], sums.end)
    tr.node = sums.end
    mutated = tr.mutated
    for old, slot in zip(olds, sums.results, strict=True):
        if old._data is not None:
            mutated[id(old)] = old
            old._data = None
        old._tid = tid
        old._slot = slot
        old._version += 1


def plain(a: Any) -> Any:
    """The description of a gradient that is kept: contiguous, whatever movement made it, so that the first sum of an
    iteration meets what later ones meet."""
    return aval(a.shape, a.dtype, a.requires_grad)


def accumulate(pairs: list[tuple[Tensor, Tensor]], create_graph: bool = False) -> None:
    """`leaf.grad += g` for each pair; as a unit, as in PyTorch, where there are other threads."""
    if not several():
        for leaf, g in pairs:
            _accumulate(leaf, g, create_graph)
            if leaf._hooks:
                _accumulated(leaf, create_graph)
        return
    with changing:
        for leaf, g in pairs:
            if leaf._grad is not None and is_elsewhere(leaf._grad):
                leaf._shared = True
            _accumulate(leaf, g, create_graph)
        if not create_graph and any([leaf._shared for leaf, _ in pairs]):
            flush(local.trace)  # else the others would have to compute it once more
    for leaf, _ in pairs:
        if leaf._hooks:
            _accumulated(leaf, create_graph)


def _accumulated(leaf: Tensor, create_graph: bool) -> None:
    """Run the hooks that wait for the `.grad` of a leaf, in the gradient mode of its backward."""
    if not leaf._aval.requires_grad:
        return
    for waiting in [hook for hook in leaf._hooks.values() if type(hook) is AfterAccumulation]:
        given = local.trace.in_mode(create_graph, waiting.hook, leaf)
        if given is not None:
            name = getattr(waiting.hook, "__name__", type(waiting.hook).__name__)
            raise RuntimeError(
                f"the hook {name!r} of register_post_accumulate_grad_hook() has returned {type(given).__name__}, expected None: "
                "what it is to change it changes in the tensor or its .grad"
            )


def _accumulate(leaf: Tensor, g: Tensor, create_graph: bool) -> None:
    """`leaf.grad += g` (a new tensor if a graph of it is wanted or there is none yet); nothing where the leaf has
    stopped requiring a gradient."""
    if not leaf._aval.requires_grad:
        return
    if leaf._grad is None:
        g._aval = plain(g._aval)
        leaf._grad = g
        return
    if create_graph:
        leaf._grad = leaf._grad + g
        return
    local.trace.in_mode(False, _add, leaf._grad, g)


def zero_gradient(leaf: Tensor) -> None:
    """Fill the `.grad` of a leaf with zeros where it lies, so that other names and views of its memory see them."""
    if leaf._grad._aval.requires_grad:
        leaf._grad = leaf._grad.detach()
    local.trace.in_mode(False, leaf._grad.zero_)


def _sums(olds: list[Tensor], more: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [old + g for old, (_, g) in zip(olds, more, strict=True)]


def _add(old: Tensor, g: Tensor) -> None:
    total = cast(old + g, old._aval.dtype)
    if old._base is None:
        point(old, total)
    else:  # a part of another tensor, which is to see it
        assign(old, total)


def run_reverse(
    roots: list[Tensor], seeds: list[Any], keep: bool, create_graph: bool, chosen: list[Tensor] | None, hooks: bool = True
) -> Reverse:
    """Walk in Python and return the walk with its results; `hooks`: with those of leaves."""
    tr = local.trace
    modes = tr.grad, tr.static, tr.whole, tr.scope
    places = []
    for t in roots:
        place = locate(t)
        places.append(place)
    wanted = leaves = None
    if chosen is not None:
        wanted, leaves = {}, set()
        for k, t in enumerate(chosen):
            if t._leaf:
                leaves.add(id(t))
                continue
            place = locate(t)
            if place is not None:
                wanted[(place[0].id, place[1])] = k
    walk = walker(keep, wanted, leaves)
    walk.through = segments.through if walker is Reverse else None
    walk.leaf_hooks = hooks
    if chosen is not None:
        known = [p for p in places if p is not None]
        walk.relevant = dependents(known, set(wanted or ()), leaves or set())
    try:
        try:
            tr.set_mode(create_graph)
            tr.static, tr.whole, tr.scope = tr.static + 1, tr.whole + 1, None
            for t, g, place in zip(roots, seeds, places, strict=True):
                seed = _seed(t, g)
                if t._leaf:
                    walk.give_leaf(t, seed)
                if place is not None and (not t._leaf or (wanted and (place[0].id, place[1]) in wanted)):
                    walk.give(place[0], place[1], seed)
            walk.run()
        finally:
            _return_to(*modes)
    except BaseException:  # an interrupt may have come while returning
        _return_to(*modes)
        raise
    for walked in walk.histories.values():
        if walked.packed is not None:
            walked.packed.close(walked, keep)
    if not keep:
        for number, slots in walk.freed.items():
            hist = walk.histories.get(number)
            if hist is None or not slots:
                continue
            if hist.trace is tr and hist.trace is not None:
                tr.mark("freed", Freed(frozenset(slots)))
            else:
                hist.freed |= slots
    return walk


def _return_to(grad: bool, static: int, whole: int, scope: Any) -> None:
    tr = local.trace
    tr.static, tr.whole, tr.scope = static, whole, scope
    tr.set_mode(grad)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of the outputs (contracted with grad_outputs) with respect to `inputs`, without touching `.grad`.

    With `create_graph=True` the results can be differentiated again. Raises RuntimeError for an input that was not used
    unless `allow_unused` (then None) or `materialize_grads` (then zeros). `only_inputs` is of older programs: False does
    nothing but warn, as in PyTorch.

    >>> import adjoint as torch
    >>> x = torch.tensor(3., requires_grad=True)
    >>> torch.autograd.grad(x ** 3, x)
    (tensor(27.),)
    """
    if not only_inputs:
        warn("grad(): only_inputs=False is ignored: gradients go to `inputs` only; call backward() to add to .grad", FutureWarning)
    roots, chosen = tensors_of(outputs), tensors_of(inputs)
    if not chosen:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    seeds = [grad_outputs] if grad_outputs is None or isinstance(grad_outputs, Tensor) else list(grad_outputs)
    seeds += [None] * (len(roots) - len(seeds))
    if is_grads_batched:
        count = next(g._aval.shape[0] for g in seeds if g is not None)
        rows = [
            grad(roots, chosen, [None if g is None else g[k] for g in seeds], True, create_graph, allow_unused=True, materialize_grads=True)
            for k in range(count)
        ]
        from adjoint.ops.joining import stack

        return tuple(stack(list(column)) for column in zip(*rows, strict=True))  # type: ignore[arg-type]
    for t in roots:
        _check_root(t)
    for t in chosen:
        if not isinstance(t, Tensor):
            raise RuntimeError(f"all inputs have to be Tensors, but got {type(t).__name__}")
        if not t._aval.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    return _complete(chosen, gradients(roots, chosen, seeds, keep, create_graph), allow_unused, materialize_grads)


def gradients(
    roots: list[Tensor], chosen: list[Tensor], seeds: list[Tensor | None], keep: bool, create_graph: bool, hooks: bool = True
) -> list[Tensor | None]:
    """What `grad` gives, None for an input that was not used; all requires grad.

    hooks: run those of leaves. False for who passes the gradients on to the leaves by another walk, which runs them.
    """
    tr = _begin()
    key = None
    if not tr.eager:
        slots = bind_all(tr, (*roots, *chosen, *(g for g in seeds if g is not None)))
        key = ("grad", slots, len(roots), len(chosen), tuple(g is None for g in seeds), keep, create_graph, hooks)
        macro = tr.node.macros.get(key) if tr.node.macros is not None else None
        if macro is not None:
            tr.node = macro.end
            return [None if r is None else _handle(tr, *r) for r in macro.results]
    start, tid = tr.node, tr.id
    before = len(tr.handles), len(tr.inputs), len(tr.scalars)
    walk = run_reverse(roots, seeds, keep, create_graph, chosen, hooks)
    found: list[Tensor | None] = []
    for k, t in enumerate(chosen):
        found.append(walk.leaves[id(t)][1] if t._leaf and id(t) in walk.leaves else walk.results.get(k))
    if (
        key is not None
        and tr.id == tid
        and before[1:] == (len(tr.inputs), len(tr.scalars))
        and not walk.pythonic
        and not walk.past
        and not tr.flush_after
        and all(g is None or g._tid == tid for g in found)
    ):
        results = [None if g is None else (g._slot, g._aval) for g in found]
        remember(start, key, Macro(tr.node, results, False))
        del tr.handles[before[0] :]
        found = [None if r is None else _handle(tr, *r) for r in results]
    _end_pieces(tr, walk)
    return found


def _handle(tr: Any, slot: int, a: Any) -> Tensor:
    out = pending(tr.id, slot, a)
    tr.handles.append(out)
    return out


def _complete(
    chosen: list[Tensor], found: list[Tensor | None], allow_unused: bool | None, materialize: bool
) -> tuple[Tensor | None, ...]:
    out = []
    for t, g in zip(chosen, found, strict=True):
        if g is None:
            if materialize:
                g = ones_like(t) * 0
            elif not allow_unused:
                raise RuntimeError(
                    "One of the differentiated Tensors appears to not have been used in the graph. "
                    "Set allow_unused=True if this is the desired behavior."
                )
        out.append(g)
    return tuple(out)

