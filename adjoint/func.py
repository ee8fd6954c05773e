"""`torch.func`: derivatives of functions, in either mode and to any order.

Each transformation calls the function on fresh leaves, then walks the steps it recorded; so functions may be any
Python, and transformations nest. Pytrees of arguments are tuples, lists and dicts of tensors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from adjoint.autograd.engine import grad as run_grad
from adjoint.autograd.modes import enable_grad
from adjoint.batch.trees import is_alike, leaves_of, others_of, rebuild
from adjoint.batch.vmap import vmap
from adjoint.grad.walk import Forward, depends_on_others, locate
from adjoint.ops.create import ones_like, zeros_like
from adjoint.ops.elementwise import cast
from adjoint.trace import recorder
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import make_handle, remember
from adjoint.trace.many import bind_all
from adjoint.trace.recorder import local
from adjoint.trace.state import Trace
from adjoint.trace.trie import Macro

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "linearize", "stack_module_state", "vjp", "vmap"]


def variable(x: Tensor) -> Tensor:
    """A handle of the same value, differentiable on its own and connected to where `x` came from."""
    return recorder.alias(x, "clone", True)


def _is_continuous(x: Tensor) -> bool:
    return x._aval.dtype.category >= 2  # real or complex


def _variables(tree: Any) -> tuple[Any, list[Tensor]]:
    _check_variables(tree)
    made = [variable(x) for x in leaves_of(tree)]
    return rebuild(tree, iter(made)), made


def _check_variables(tree: Any) -> None:
    """ValueError or RuntimeError, as in PyTorch, for what has no derivative."""
    for other in others_of(tree):
        raise ValueError(
            f"Thing passed to transform API must be Tensor, got {type(other)}; differentiate with respect to tensors, "
            "and choose them with argnums"
        )
    for x in leaves_of(tree):
        if not _is_continuous(x):
            raise RuntimeError(
                f"only Tensors of floating point dtype can require gradients, got {x._aval.dtype.name}: convert it with .float(), "
                "or leave it out of argnums"
            )


def _numbers(argnums: Any, count: int) -> tuple[int, ...]:
    """The positions, of `count`, that argnums names; RuntimeError if these are none."""
    if not isinstance(argnums, (int, tuple)):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    numbers = (argnums,) if isinstance(argnums, int) else argnums
    if not numbers:
        raise RuntimeError("argnums must be non-empty")
    for n in numbers:
        if not isinstance(n, int):
            raise RuntimeError(f"argnum must be int, got: {type(n)}")
        if not -count <= n < count:
            raise RuntimeError(f"Got argnum={n}, but only {count} positional inputs")
    numbers = tuple([n % count for n in numbers])
    if len({*numbers}) < len(numbers):
        raise RuntimeError(f"argnums elements must be unique, got {numbers}")
    return numbers


def _with_aux(name: str, out: Any, again: bool) -> tuple[Any, Any]:
    """What a function with `has_aux` has returned, (result, aux), with aux as the caller sees it."""
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True")
    result, aux = out
    return result, rebuild(aux, iter([outward(x, again) if x._aval.requires_grad else x for x in leaves_of(aux)]))


def _check_results(name: str, out: Any) -> None:
    for other in others_of(out):
        raise RuntimeError(f"{name}: expected f(*primals) to return only tensors, got unsupported type {type(other)}")


def _apply(func: Callable, args: tuple, kwargs: dict, argnums: tuple[int, ...]) -> tuple[Any, list[Any], list[Tensor], bool]:
    """Call `func` with the chosen arguments as variables.

    Returns (result, chosen arguments, their tensors, whether the caller may differentiate what follows from them:
    it is recording, and the result depends on something of its own that requires grad).
    """
    args = tuple(args)
    chosen, flat = [], []
    replaced = list(args)
    for n in argnums:
        tree, made = _variables(args[n])
        replaced[n] = tree
        chosen.append(tree)
        flat += made
    places = [(x._tid, x._slot) for x in flat]
    under_way = _under_way.ended
    under_way.append([])
    try:
        with enable_grad():
            out = func(*replaced, **kwargs)
    finally:
        inner = under_way.pop()
        if under_way:
            under_way[-1] += inner + places
    return out, chosen, flat, is_recorded_for_others(leaves_of(out), flat, inner)


class _UnderWay(threading.local):
    """ended: for each transform whose function is being called, the innermost last, the variables of those that have ended
    inside, by trace and slot. Nobody can differentiate with respect to them any more."""

    def __init__(self) -> None:
        self.ended: list[list[tuple[int, int]]] = []


_under_way = _UnderWay()


def _end(variables: list[Tensor]) -> None:
    """Note in a transform under way that these variables are of none that is: what it computes may lead to them."""
    if _under_way.ended:
        places = [locate(x) for x in variables]
        _under_way.ended[-1] += [(place[0].id, place[1]) for place in places if place is not None]


def is_recorded_for_others(outs: list[Tensor], own: list[Tensor], ended: Sequence[tuple[int, int]] = ()) -> bool:
    """Whether the caller records, and may differentiate what was computed from more than the variables `own` and `ended`."""
    return local.trace.grad and _is_of_others(outs, own, ended)


def _is_of_others(outs: list[Tensor], own: list[Tensor], ended: Sequence[tuple[int, int]]) -> bool:
    """`depends_on_others`; within one trace that is known at a known place."""
    tr = local.trace
    tid = tr.id
    known = all([x._tid == tid for x in (*outs, *own)]) and all([trace == tid for trace, _ in ended])
    if tr.eager or tr.origins or tr.payload or not known:
        return depends_on_others(outs, own, ended)
    key = ("others", tuple([x._slot for x in outs]), tuple([x._slot for x in own]), tuple([slot for _, slot in ended]))
    macro = tr.node.macros.get(key) if tr.node.macros is not None else None
    if macro is None:
        start = tr.node
        found = depends_on_others(outs, own, ended)
        if tr.node is start:
            remember(start, key, Macro(start, [found], True))
        return found
    return macro.results[0]


def _results(argnums: Any, chosen: list[Any], found: list[Tensor]) -> Any:
    """What was found for their tensors, in the form of the chosen arguments."""
    it = iter(found)
    trees = [rebuild(tree, it) for tree in chosen]
    return trees[0] if isinstance(argnums, int) else tuple(trees)


def _differentiate(out: Tensor, flat: list[Tensor], again: bool, seed: Any = None) -> list[Tensor]:
    if not out._aval.requires_grad:
        return [zeros_like(x) for x in flat]
    return list(run_grad(out, flat, seed, retain_graph=True, create_graph=again, materialize_grads=True))  # type: ignore[arg-type]


def grad(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """The gradient of a scalar function with respect to the arguments `argnums`.

    >>> import adjoint as torch
    >>> torch.func.grad(lambda x: (x ** 3).sum())(torch.tensor([1., 2.]))
    tensor([ 3., 12.])
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        got = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (got[0], got[1][1]) if has_aux else got[0]

    return call


def grad_and_value(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """Gradient and value together: (gradient, value), or (gradient, (value, aux)).

    >>> import adjoint as torch
    >>> torch.func.grad_and_value(lambda x: (x * x).sum())(torch.tensor([1., 2.]))
    (tensor([2., 4.]), tensor(5.))
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        out, chosen, flat, again = _apply(func, args, kwargs, _numbers(argnums, len(args)))
        aux = None
        if has_aux:
            out, aux = _with_aux("grad_and_value(f)(*args)", out, again)
        if not isinstance(out, Tensor) or out._aval.size != 1 or out._aval.shape:
            got = list(out._aval.shape) if isinstance(out, Tensor) else type(out).__name__
            raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a scalar tensor, got tensor with {got}")
        gradients = _results(argnums, chosen, _differentiate(out, flat, again))
        value = outward(out, again)
        return (gradients, (value, aux)) if has_aux else (gradients, value)

    return call


def outward(x: Any, again: bool) -> Any:
    """A result as the caller sees it: connected only if the caller may differentiate it."""
    return x if again else x.detach()


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> Any:
    """(f(*primals), a function from cotangents to the vector-Jacobian products).

    >>> import adjoint as torch
    >>> value, pull = torch.func.vjp(lambda x: x * x, torch.tensor([1., 2.]))
    >>> pull(torch.ones(2))[0]
    tensor([2., 4.])
    """
    out, chosen, flat, again = _apply(func, primals, {}, tuple(range(len(primals))))
    aux = None
    if has_aux:
        out, aux = _with_aux("vjp(f, *primals)", out, again)
    _check_results("vjp(f, *primals)", out)
    outs = leaves_of(out)

    def pull(*cotangents: Any) -> tuple:
        given = cotangents if isinstance(out, tuple) and len(cotangents) > 1 else cotangents[0]
        if not is_alike(out, given):
            raise RuntimeError("vjp: Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function")
        _end(flat)
        seeds = leaves_of(given)
        live = [(o, s) for o, s in zip(outs, seeds, strict=True) if o._aval.requires_grad]
        if not live:
            found = [zeros_like(x) for x in flat]
        else:
            more = local.trace.grad and (again or any(s._aval.requires_grad for _, s in live))
            found = list(
                run_grad([o for o, _ in live], flat, [s for _, s in live], retain_graph=True,
                         create_graph=more, materialize_grads=True)  # type: ignore[arg-type]
            )  # fmt: skip
        return _results(tuple(range(len(primals))), chosen, found)

    values = rebuild(out, iter([outward(o, again) for o in outs]))
    return (values, pull, aux) if has_aux else (values, pull)


def jvp(func: Callable, primals: tuple, tangents: tuple, has_aux: bool = False) -> Any:
    """(f(*primals), its directional derivative along the tangents), by forward accumulation.

    >>> import adjoint as torch
    >>> torch.func.jvp(torch.sin, (torch.tensor(0.),), (torch.tensor(2.),))
    (tensor(0.), tensor(2.))
    """
    along = _along(primals, tangents)
    out, _, flat, again = _apply(func, primals, {}, tuple(range(len(primals))))
    aux = None
    if has_aux:
        out, aux = _with_aux("jvp(f, primals, tangents)", out, again)
    _check_results("jvp(f, primals, tangents)", out)
    outs = leaves_of(out)
    found = pushed(outs, flat, [t for _, t in along], again)
    values = rebuild(out, iter([outward(o, again) for o in outs]))
    result = rebuild(out, iter(found))
    return (values, result, aux) if has_aux else (values, result)


def linearize(func: Callable, *primals: Any) -> tuple[Any, Callable]:
    """(func(*primals), a function from tangents to directional derivatives there), which calls `func` once for all tangents.

    The tangents have the structure, shapes and dtypes of the primals. RuntimeError for others.

    >>> import adjoint as torch
    >>> value, along = torch.func.linearize(torch.sin, torch.tensor([0., 1.]))
    >>> along(torch.tensor([1., 0.])), along(torch.tensor([2., 0.]))
    (tensor([1., 0.]), tensor([2., 0.]))
    """
    out, _, flat, again = _apply(func, primals, {}, tuple(range(len(primals))))
    _check_results("linearize(f, *primals)", out)
    outs = leaves_of(out)

    def along(*tangents: Any) -> Any:
        if not is_alike(primals, tangents) or others_of(tangents):
            raise RuntimeError(
                f"linearize: Expected the tangents {_told(tangents)} to have the same structure as the primals {_told(primals)}"
            )
        given = leaves_of(tangents)
        for k, (x, t) in enumerate(zip(flat, given, strict=True)):
            for what, a, b in (("shape", t.shape, x.shape), ("dtype", t.dtype, x.dtype)):
                if a != b:
                    raise RuntimeError(f"tangent:{k} with {what} {a} doesn't match the {what} {b} of the corresponding primal.")
        _end(flat)
        return rebuild(out, iter(pushed(outs, flat, given, again)))

    return rebuild(out, iter([outward(o, again) for o in outs])), along


def _told(tree: Any) -> str:
    """A tree's structure, as it is written, with * for tensors."""
    if isinstance(tree, Tensor):
        return "*"
    if isinstance(tree, dict):
        return "{" + ", ".join([f"{k!r}: {_told(t)}" for k, t in tree.items()]) + "}"
    if isinstance(tree, (list, tuple)):
        return ("[{}]" if isinstance(tree, list) else "({})").format(", ".join(map(_told, tree)))
    return type(tree).__name__


def _along(primals: tuple, tangents: tuple) -> list[tuple[Tensor, Tensor]]:
    """Each variable with its tangent; RuntimeError or ValueError, as in PyTorch, where these do not fit."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to be tuples")
    if len(primals) != len(tangents):
        raise RuntimeError(f"jvp(f, primals, tangents): Expected primals and tangents to have the same structure; got {len(primals)} and {len(tangents)}")
    if not is_alike(primals, tangents):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same python structure")
    if not leaves_of(primals):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals to contain at least one Tensor.")
    for other in others_of(primals):
        raise RuntimeError(f"jvp(f, primals, tangents): Expected primals to only contain Tensors, got {type(other)}")
    along = list(zip(leaves_of(primals), leaves_of(tangents), strict=True))
    for x, t in along:
        check_tangent(x, t)
    return along


def check_tangent(x: Tensor, t: Tensor) -> None:
    """The rules of derivatives take a tangent to have the shape of its variable, and read as many elements."""
    if not _is_continuous(x):
        raise ValueError(f"Expected primal to be floating point or complex, but got: {x._aval.dtype}; convert it with .float()")
    if t._aval.shape != x._aval.shape:
        raise RuntimeError(
            f"a tangent must have the shape of its variable: the tensor is of size {list(x._aval.shape)} while the given "
            f"tangent is of size {list(t._aval.shape)}"
        )
    if t._aval.dtype.is_complex and not x._aval.dtype.is_complex:
        raise RuntimeError("a tangent of a real variable must be real, got a complex tensor")


def push(walk: Forward, starts: list[Tensor], tangents: list[Tensor], again: bool) -> list[Tensor]:
    """Tangents of results along tangents of variables, zeros where nothing arrives."""
    tr = local.trace
    follow = tr.grad and (again or any(t._aval.requires_grad for t in tangents))
    found = tr.in_mode(follow, _pushed, tr, walk, starts, tangents)
    return [zeros_like(o.detach()) if t is None else t for t, o in zip(found, walk.roots, strict=True)]


def _pushed(tr: Trace, walk: Forward, starts: list[Tensor], tangents: list[Tensor]) -> list[Any]:
    tr.static += 1
    try:
        return walk.push([cast(t, x._aval.dtype) for t, x in zip(tangents, starts, strict=True)])
    finally:
        tr.static -= 1


def pushed(outs: list[Tensor], starts: list[Tensor], tangents: list[Tensor], again: bool) -> list[Tensor]:
    """`push` along the steps from variables to results; a known path of one trace is one look-up."""
    tr = local.trace
    if tr.eager:
        return push(Forward(outs, starts), starts, tangents, again)
    slots = bind_all(tr, (*outs, *starts, *tangents))
    key = ("push", slots, len(outs), len(starts), again)
    macro = tr.node.macros.get(key) if tr.node.macros is not None else None
    if macro is not None:
        tr.node = macro.end
        return [make_handle(tr, *r) for r in macro.results]
    start, tid = tr.node, tr.id
    handles, before = len(tr.handles), (len(tr.inputs), len(tr.scalars))
    walk = Forward(outs, starts)
    found = push(walk, starts, tangents, again)
    plain = walk.is_plain(tr) and not tr.flush_after and all(t._tid == tid for t in found)
    if tr.id == tid and plain and before == (len(tr.inputs), len(tr.scalars)):
        results = [(t._slot, t._aval) for t in found]
        remember(start, key, Macro(tr.node, results, False))
        walk.forget()
        del tr.handles[handles:]
        found = [make_handle(tr, *r) for r in results]
    return found


def _basis(x: Tensor) -> Tensor:
    """The unit tangents or cotangents of a tensor, one per element along a first axis."""
    import numpy as np

    n = x._aval.size
    return recorder.tensor_from_array(np.eye(n, dtype=x._aval.dtype.values).reshape((n, *x._aval.shape)), dtype=x._aval.dtype)


def jacrev(func: Callable, argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None) -> Callable:
    """The Jacobian by reverse accumulation, one row of cotangents per element of the result.

    The result has the shape (*output shape, *input shape).  chunk_size: how many rows are computed at a time (all), which
    bounds the memory that takes.  ValueError for one below 1, RuntimeError for complex arguments or results.

    >>> import adjoint as torch
    >>> torch.func.jacrev(lambda x: x * x)(torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"jacrev: `chunk_size` should be greater than 0, but got {chunk_size}")
    return jacobian(functools.partial(by_rows, chunk_size=chunk_size), func, argnums, has_aux, "jacrev")


def jacfwd(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """The Jacobian by forward accumulation, one column of tangents per element of the argument.

    RuntimeError for complex arguments or results.

    >>> import adjoint as torch
    >>> torch.func.jacfwd(lambda x: x * x)(torch.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    return jacobian(by_columns, func, argnums, has_aux, "jacfwd")


def jacobian(make: Callable, func: Callable, argnums: Any, has_aux: bool = False, only_real: str = "") -> Callable:
    """The function of the Jacobian. make: `by_rows` or `by_columns`.  only_real: the name of a caller that refuses complex
    numbers, of which there are two derivatives."""

    def call(*args: Any, **kwargs: Any) -> Any:
        out, chosen, flat, again = _apply(func, args, kwargs, _numbers(argnums, len(args)))
        aux = None
        if has_aux:
            out, aux = _with_aux("vjp(f, *primals)", out, again)
        _check_results("vjp(f, *primals)", out)
        outs = leaves_of(out)
        if only_real:
            _check_real(only_real, "inputs", flat)
            _check_real(only_real, "outputs", outs)
        jacobians = [_results(argnums, chosen, found) for found in make(outs, flat, again)]
        result = jacobians[0] if isinstance(out, Tensor) else rebuild(out, iter(jacobians))
        return (result, aux) if has_aux else result

    return call


def _check_real(name: str, what: str, tensors: list[Tensor]) -> None:
    for k, x in enumerate(tensors):
        if x._aval.dtype.is_complex:
            raise RuntimeError(
                f"{name}: Expected all {what} to be real but received complex tensor at flattened input idx: {k}; "
                "differentiate by view_as_real(z), or use vjp or jvp"
            )


def by_rows(outs: list[Tensor], flat: list[Tensor], again: bool, chunk_size: int | None = None) -> list[list[Tensor]]:
    """For every result, its derivatives by every variable, from one row of cotangents per element of the result."""
    jacobians = []
    for o in outs:
        found = _rows_of(o, flat, again, chunk_size) if o._aval.size else [zeros_like(x) for x in flat]
        jacobians.append([r.reshape((*o._aval.shape, *x._aval.shape)) for r, x in zip(found, flat, strict=True)])
    return jacobians


def _rows_of(o: Tensor, flat: list[Tensor], again: bool, chunk_size: int | None) -> list[Tensor]:
    """The gradients of every element of a result, along a first axis."""
    if o._aval.size == 1:
        return _differentiate(o, flat, again, ones_like(o.detach()))
    return list(vmap(lambda u: _differentiate(o, flat, again, u), randomness="different", chunk_size=chunk_size)(_basis(o)))


def by_columns(outs: list[Tensor], flat: list[Tensor], again: bool) -> list[list[Tensor]]:
    """The same from one column of tangents per element of the variable."""
    jacobians: list[list[Tensor]] = [[] for _ in outs]
    for k, x in enumerate(flat):
        columns = _columns_of(outs, k, flat, again) if x._aval.size else [zeros_like(o.detach()) for o in outs]
        for found, column, o in zip(jacobians, columns, outs, strict=True):
            found.append(column.reshape((*o._aval.shape, *x._aval.shape)))
    return jacobians


def _columns_of(outs: list[Tensor], k: int, flat: list[Tensor], again: bool) -> list[Tensor]:
    """The derivatives of all results along every element of one variable, along a last axis."""
    rest = [None if j == k else zeros_like(y.detach()) for j, y in enumerate(flat)]

    def along(u: Tensor) -> list[Tensor]:
        return pushed(outs, flat, [u if t is None else t for t in rest], again)

    if flat[k]._aval.size == 1:
        return along(ones_like(flat[k].detach()))
    return list(vmap(along, out_dims=-1, randomness="different")(_basis(flat[k])))


def hessian(func: Callable, argnums: Any = 0) -> Callable:
    """Second derivatives of a scalar function: forward over reverse.

    >>> import adjoint as torch
    >>> torch.func.hessian(lambda x: (x ** 3).sum())(torch.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def functional_call(
    module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict | None = None, *, tie_weights: bool = True, strict: bool = False
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers, by their dotted names.

    parameter_and_buffer_dicts: one dict or a sequence of them. tie_weights: whether a tensor that the module has under
    several names is replaced under all of them. strict: whether every name must be given, and no others (these are
    otherwise ignored). ValueError for a name in two dicts, or several values for one tensor.

    >>> import adjoint as torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> torch.func.functional_call(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, torch.tensor([[3., 4.]]))
    tensor([[7.]])
    """
    given = _merged(parameter_and_buffer_dicts)
    places = _places(module)
    if strict:
        _check_names(given, places, type(module).__name__)
    if tie_weights:
        given = _tied(given, places)
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    saved = []
    try:
        for name in [name for name in given if name in places]:
            table, leaf = places[name]
            saved.append((table, leaf, table[leaf]))
            table[leaf] = given[name]
        return module(*args, **(kwargs or {}))
    finally:
        for table, leaf, value in reversed(saved):
            table[leaf] = value


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters and the buffers of several models alike, each stacked along a new first axis, by their dotted names.

    What is stacked are new leaves, for `vmap` over `functional_call`. RuntimeError for no model, for models of different
    classes or training modes, and for parameters that require grad in some of them only.

    >>> import adjoint as torch
    >>> models = [torch.nn.Linear(2, 1) for _ in range(3)]
    >>> params, buffers = torch.func.stack_module_state(models)
    >>> params["weight"].shape, buffers
    (torch.Size([3, 1, 2]), {})
    >>> one = lambda p, x: torch.func.functional_call(models[0], p, x)
    >>> torch.vmap(one, in_dims=(0, None))(params, torch.ones(4, 2)).shape
    torch.Size([3, 4, 1])
    """
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(m) for m in models}) > 1:
        classes = ", ".join(sorted({type(m).__name__ for m in models}))
        raise RuntimeError(f"stack_module_state: Expected all models to be of the same class, got {classes}.")
    params = _stacked([dict(m.named_parameters()) for m in models])
    return params, _stacked([dict(m.named_buffers()) for m in models])


def _stacked(tables: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    from adjoint.ops.joining import stack

    out = {}
    for name in tables[0]:
        given = [table[name] for table in tables]
        needed = {x._aval.requires_grad for x in given}
        if len(needed) > 1:
            raise RuntimeError(f"stack_module_state: Expected {name} to have the same requires_grad in all models.")
        out[name] = stack([x.detach() for x in given]).requires_grad_(needed.pop())
    return out


def _merged(dicts: Any) -> dict[str, Tensor]:
    """One dict of several that have no name in common."""
    if isinstance(dicts, dict):
        return dicts
    if not isinstance(dicts, (list, tuple)) or not all([isinstance(d, dict) for d in dicts]):
        raise ValueError(f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(dicts).__name__}")
    names = [name for d in dicts for name in d]
    repeated = [name for name in {*names} if names.count(name) > 1]
    if repeated:
        raise ValueError(f"{sorted(repeated)} appeared in multiple dictionaries; behavior of functional call is ambiguous")
    return {name: value for d in dicts for name, value in d.items()}


def _places(module: Any) -> dict[str, tuple[dict, str]]:
    """Where a module keeps its parameters and buffers, by all their dotted names; of two modules in one place, the first name
    comes first."""
    return {
        f"{prefix}.{leaf}" if prefix else leaf: (table, leaf)
        for prefix, owner in module.named_modules(remove_duplicate=False)
        for table in (owner._parameters, owner._buffers)
        for leaf, value in table.items()
        if value is not None
    }


def _check_names(given: dict[str, Tensor], places: dict[str, tuple[dict, str]], what: str) -> None:
    missing, unexpected = sorted(places.keys() - given.keys()), sorted(given.keys() - places.keys())
    if missing or unexpected:
        told = [f"{kind} key(s): {', '.join(map(repr, names))}." for kind, names in (("Missing", missing), ("Unexpected", unexpected)) if names]
        raise RuntimeError(f"Error(s) in reparametrizing for {what}: {' '.join(told)}")


def _tied(given: dict[str, Tensor], places: dict[str, tuple[dict, str]]) -> dict[str, Tensor]:
    """The tensors by all names under which the module has what they replace."""
    chosen: dict[int, tuple[str, Tensor]] = {}
    for name in [name for name in given if name in places]:
        table, leaf = places[name]
        first, value = chosen.setdefault(id(table[leaf]), (name, given[name]))
        if value is not given[name]:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted((first, name))}, which are tied. Consider using tie_weights=False"
            )
    found = {name: chosen.get(id(table[leaf])) for name, (table, leaf) in places.items()}
    return {name: pair[1] for name, pair in found.items() if pair is not None}


def __getattr__(name: str) -> object:
    from adjoint.absent import absent

    raise absent(__name__, name, globals())
