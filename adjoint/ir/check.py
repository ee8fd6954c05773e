"""Is a graph well formed? The checker that runs behind every pass in tests.

`check_graph` is the entry: order of nodes, arities, the shape rules, and per primitive what its
rule takes for granted (a permutation permutes, a region lies inside, pointwise operands agree). The
rows of `_CHECKS` hold the latter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, Node
from adjoint.ir.prims import PRIMS, Shape


class MalformedGraph(Exception):
    """A graph breaks a rule of the language; the message names the node and the rule."""


_BINARY = (
    "add sub mul div maximum minimum floor_div remainder fmod pow atan2 "
    "bitwise_and bitwise_or bitwise_xor shift_left shift_right eq ne lt le gt ge complex"
)
ARITY: dict[str, int] = {
    name: 1 for name, prim in PRIMS.items() if prim.kind in ("pointwise", "movement")
}
ARITY |= {
    name: 1 for name, prim in PRIMS.items() if prim.kind in ("reduce", "scan", "order", "host", "tuple")
}
ARITY |= dict.fromkeys(_BINARY.split(), 2)
ARITY |= {"where": 3, "input": 0, "scalar": 0, "const": 0, "full": 1, "iota": 0, "random_bits": 2}
ARITY |= {"slice_update": 2, "recurrence": 2, "matmul": 2, "convolve": 2, "take": 2, "put_add": 2, "put": 3, "put_fold": 3, "solve": 2, "position": 1}
ARITY |= {"as_real": 1, "as_complex": 1, "attention": 3, "attention_backward": 6}
_OPTIONAL = {"convolve": 1, "attention": 1, "attention_backward": 1}  # operands that may be left out: bias, masks
_STARTS = {"slice": 0, "place": 1, "slice_update": 0}  # where in attrs the starts of a region are

_FLOAT_ONLY = [
    "sqrt",
    "rsqrt",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "sigmoid",
    "erf",
    "erfc",
    "erfinv",
    "lgamma",
    "digamma",
    "div",
    "atan2",
    "inv",
    "cholesky",
    "solve",
    "det",
    "slogdet",
    "qr",
    "lu",
    "eigh",
    "eig",
    "svd",
    "attention",
    "attention_backward",
]
_INTEGER_ONLY = {"row_order", "shift_left", "shift_right"}
_INTEGER_OR_BOOL = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}
_REAL_ONLY = set(
    "erf erfc erfinv lgamma digamma atan2 sign floor ceil round trunc relu maximum minimum floor_div remainder fmod lt le gt "
    "ge amax amin cummax cummin argmax argmin argsort argselect".split()
)
_NO_BOOL = {"recurrence", "neg", "sub", "sign", "floor_div", "remainder", "fmod", "pow", "integer_pow"}


def operand_categories(name: str) -> tuple[int, ...]:
    """The dtype categories (`DType.category`) that the first operand of a primitive may have."""
    if name in ("real", "imag", "conj", "as_real", "fft", "irfft"):
        return (3,)
    if name in _FLOAT_ONLY:
        return (2,) if name in _REAL_ONLY else (2, 3)
    if name in ("complex", "as_complex", "rfft"):
        return (2,)
    if name in _INTEGER_ONLY:
        return (1,)
    if name in _INTEGER_OR_BOOL:
        return (0, 1)
    return tuple(c for c in range(4) if (c > 0 or name not in _NO_BOOL) and (c < 3 or name not in _REAL_ONLY))


def _describe(node: Node) -> str:
    """Like repr(node), which a malformed node may not have: its dtype may be anything."""
    args = ", ".join(f"%{a.index}" for a in node.args)
    aval = node.parts or (node.shape, node.dtype)
    return f"%{node.index} = {node.prim.name}({args}) {node.attrs} : {aval}"


def _need(condition: bool, node: Node, rule: str) -> None:
    if not condition:
        operands = "".join(f"\n  {_describe(a)}" for a in node.args)
        raise MalformedGraph(f"{_describe(node)}: expected {rule}{operands}")


def _axes(node: Node, axes: tuple[int, ...], rank: int) -> None:
    increasing = list(axes) == sorted(set(axes))
    _need(
        increasing and all(0 <= a < rank for a in axes),
        node,
        f"increasing axes of a value of rank {rank}, not {axes}",
    )


def _region(node: Node, shape: Shape, starts: tuple, sizes: Shape, steps: tuple) -> None:
    _need(
        len(starts) == len(sizes) == len(steps) == len(shape),
        node,
        "one start, size and step for each axis",
    )
    for n, start, size, step in zip(shape, starts, sizes, steps, strict=True):
        _need(size >= 0 and step >= 1, node, "sizes from 0 and steps from 1")
        reach = (size - 1) * step + 1 if size else 0
        first = (
            0 if start is None else start
        )  # where it starts is known only when run; that it can fit is known now
        _need(first >= 0 and first + reach <= n, node, f"a region within the axis of length {n}")


def _check_boundary(node: Node) -> None:
    _need(node.prim.name == "input" or node.shape == (), node, "a run-time scalar is 0-d")
    _need(node.attrs[0] >= 0, node, "a position from 0")


def _check_const(node: Node) -> None:
    value, dtype = node.attrs
    _need(isinstance(value, bool | int | float | complex), node, "a Python number")
    try:
        dtype.np.type(value)
    except OverflowError:
        _need(False, node, f"a number that {dtype.name} holds")


def _check_sized(node: Node) -> None:
    shape = node.shape
    _need(all(isinstance(n, int) and n >= 0 for n in shape), node, "lengths are integers from 0")
    if node.prim.name == "random_bits":
        _need(
            all(a.shape == () and a.dtype is dtypes.int64 for a in node.args),
            node,
            "seed and offset 0-d int64",
        )
    elif node.prim.name == "full":
        _need(node.args[0].shape == (), node, "the value is 0-d")


def _check_expand(node: Node) -> None:
    source, shape = node.args[0].shape, node.shape
    _need(len(source) <= len(shape), node, "a result of at least the operand's rank")
    tail = shape[len(shape) - len(source) :]
    _need(
        all(a in (1, b) for a, b in zip(source, tail, strict=True)),
        node,
        "lengths equal or expanded from 1",
    )


def _check_reshape(node: Node) -> None:
    _need(
        math.prod(node.shape) == math.prod(node.args[0].shape), node, "as many elements as before"
    )


def _check_permute(node: Node) -> None:
    _need(sorted(node.attrs) == list(range(len(node.args[0].shape))), node, "each axis once")


def _check_flip(node: Node) -> None:
    _axes(node, node.attrs, len(node.shape))


def _check_slice(node: Node) -> None:
    starts, sizes, steps = node.attrs
    _region(node, node.args[0].shape, starts, sizes, steps)


def _check_place(node: Node) -> None:
    shape, starts, steps = node.attrs
    _region(node, shape, starts, node.args[0].shape, steps)


def _check_slice_update(node: Node) -> None:
    starts, steps = node.attrs
    base, value = node.args[:2]
    _need(base.dtype is value.dtype, node, "one dtype")
    _region(node, base.shape, starts, value.shape, steps)


def _check_cat(node: Node) -> None:
    axis, first = node.attrs, node.args[0] if node.args else None
    _need(first is not None, node, "at least one operand")
    for a in node.args:
        _need(
            a.dtype is node.dtype and len(a.shape) == len(node.shape), node, "one dtype, one rank"
        )
        _need(
            all(
                i == axis or n == m
                for i, (n, m) in enumerate(zip(a.shape, node.shape, strict=True))
            ),
            node,
            "axes of equal length but one",
        )
    _axes(node, (axis,), len(node.shape))


def _check_window(node: Node) -> None:
    dims, sizes, strides, dilations = node.attrs
    _need(
        len(dims) == len(sizes) == len(strides) == len(dilations), node, "four tuples of one length"
    )
    _need(len(set(dims)) == len(dims), node, "each axis once")
    _need(all(0 <= d < len(node.args[0].shape) for d in dims), node, "axes of the operand")
    _need(
        all(n >= 1 for n in (*sizes, *strides, *dilations)),
        node,
        "sizes, strides and dilations from 1",
    )


def _check_pick(node: Node) -> None:
    parts = node.args[0].parts
    _need(
        parts is not None and 0 <= node.attrs < len(parts),
        node,
        "one of the results of its operand",
    )


def _check_reduce(node: Node) -> None:
    _axes(node, node.attrs, len(node.args[0].shape))


def _check_axis(node: Node) -> None:
    _axes(node, (node.attrs,), len(node.args[0].shape))


def _check_recurrence(node: Node) -> None:
    _check_axis(node)
    _need(node.args[0].aval == node.args[1].aval, node, "factors and terms of one shape and dtype")


def _check_argsort(node: Node) -> None:
    _axes(node, (node.attrs[0],), len(node.shape))


def _check_argselect(node: Node) -> None:
    axis, _, start, stop = node.attrs
    shape = node.args[0].shape
    _axes(node, (axis,), len(shape))
    _need(0 <= start <= stop <= shape[axis], node, "ranks on the axis, from start to stop")


def _check_matmul(node: Node) -> None:
    a, b = node.args
    _need(
        a.dtype is b.dtype and len(a.shape) == len(b.shape) >= 2, node, "one dtype, one rank from 2"
    )
    _need(
        a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2],
        node,
        "(B..., m, k) with (B..., k, n)",
    )


def _check_take(node: Node) -> None:
    _need(
        len(node.args[0].shape) >= 1 and node.args[1].dtype is dtypes.int64,
        node,
        "an axis and an int64 index",
    )


def _check_put_add(node: Node) -> None:
    index, values = node.args
    _need(index.dtype is dtypes.int64, node, "an int64 index")
    _need(values.shape[: len(index.shape)] == index.shape, node, "values for each index")


def _check_put(node: Node) -> None:
    base, index, values = node.args
    _need(len(base.shape) >= 1 and index.dtype is dtypes.int64, node, "an axis and an int64 index")
    _need(
        values.dtype is base.dtype and values.shape == index.shape + base.shape[1:],
        node,
        "values for each index",
    )


def _check_put_fold(node: Node) -> None:
    _check_put(node)
    _need(node.attrs in ("prod", "amax", "amin"), node, "prod, amax or amin")


def _check_position(node: Node) -> None:
    n, wraps, axis = node.attrs
    _need(node.args[0].dtype is dtypes.int64, node, "an int64 index")
    _need(n >= 0 and isinstance(wraps, bool) and axis >= -1, node, "a length, a bool and an axis")


def _check_fft(node: Node) -> None:
    axes, inverse, power = node.attrs
    _axes(node, axes, len(node.shape))
    _need(bool(axes) and type(inverse) is bool and power in (0.0, 0.5, 1.0), node, "axes, a bool and 0.0, 0.5 or 1.0")
    _need(all(node.shape[a] for a in axes), node, "axes that have elements")


def _check_rfft(node: Node) -> None:
    axis, *n, power = node.attrs
    shape = node.args[0].shape
    _axes(node, (axis,), len(shape))
    _need(power in (0.0, 0.5, 1.0), node, "0.0, 0.5 or 1.0")
    if node.prim.name == "rfft":
        _need(shape[axis] >= 1, node, "an axis that has elements")
    else:
        _need(n[0] >= 1 and shape[axis] == n[0] // 2 + 1, node, "n // 2 + 1 frequencies")


def _check_square(node: Node) -> None:
    shape = node.args[0].shape
    _need(len(shape) >= 2 and shape[-1] == shape[-2], node, "square matrices")
    if node.prim.name == "solve":
        a, b = node.args
        _need(a.dtype is b.dtype and len(b.shape) == len(a.shape), node, "one dtype, one rank")
        _need(b.shape[:-1] == a.shape[:-1], node, "(B..., n, n) with (B..., n, k)")


def _check_matrices(node: Node) -> None:
    _need(len(node.args[0].shape) >= 2, node, "matrices")


def _check_row_order(node: Node) -> None:
    x = node.args[0]
    _need(x.dtype is dtypes.int32 and len(x.shape) >= 1 and x.shape[-1] <= node.attrs, node, "at most as many int32 exchanges as rows")


def _check_reinterpret(node: Node) -> None:
    x, (old, new) = node.args[0], node.attrs
    _need(x.dtype is old, node, "an operand of the dtype it names")
    _need(old.itemsize == new.itemsize or len(x.shape) >= 1, node, "an axis along which sizes differ")
    _need(old.itemsize >= new.itemsize or x.shape[-1] * old.itemsize % new.itemsize == 0, node, "whole elements")


def _check_convolve(node: Node) -> None:
    strides, lo, hi, steps, dilations, groups = node.attrs
    x, w, *bias = node.args
    axes = len(strides)
    _need(axes >= 1 and len(x.shape) == len(w.shape) == axes + 2, node, "(N, C, *L) and (O, C / groups, *K)")
    _need(all(len(a) == axes for a in (lo, hi, steps, dilations)), node, "five tuples of one length")
    _need(all(n >= 1 for n in (*strides, *steps, *dilations)), node, "strides, steps and dilations from 1")
    _need(groups >= 1 and w.shape[0] % groups == 0, node, "groups of equal size")
    _need(x.shape[1] == groups * w.shape[1], node, "as many channels as groups times those of w")
    _need(x.dtype is w.dtype and all(b.dtype is x.dtype for b in bias), node, "one dtype")
    _need(all(b.shape == w.shape[:1] for b in bias), node, "one number for each output channel")


def _check_attention(node: Node) -> None:
    q, k, v, *mask = node.args
    _check_attended(node, q, k, v, tuple(mask))


def _check_attention_backward(node: Node) -> None:
    g, q, k, v, lse, delta, *mask = node.args
    _check_attended(node, q, k, v, tuple(mask))
    rows = q.shape[:-1]
    _need(g.shape == (*rows, v.shape[-1]), node, "a cotangent of (B..., L, V)")
    _need(lse.shape == rows and delta.shape == rows, node, "numbers of (B..., L)")
    _need(all(x.dtype is q.dtype for x in (g, lse, delta)), node, "one dtype")


def _check_attended(node: Node, q: Node, k: Node, v: Node, mask: tuple[Node, ...]) -> None:
    rank, batch = len(q.shape), q.shape[:-2]
    _need(type(node.attrs) is bool, node, "whether the mask is causal")
    _need(rank >= 2 and all(len(x.shape) == rank and x.shape[:-2] == batch for x in (k, v)), node, "equal batches of matrices")
    _need(k.shape[-1] == q.shape[-1] and v.shape[-2] == k.shape[-2], node, "(L, E) with (S, E) and (S, V)")
    _need(k.dtype is q.dtype and v.dtype is q.dtype, node, "one dtype")
    for m in mask:
        _need(m.dtype in (dtypes.bool, q.dtype), node, "a mask of bool or the operands' dtype")
        _need(m.shape == (*q.shape[:-1], k.shape[-2]), node, "a mask of (B..., L, S)")


_CHECKS: dict[str, Callable[[Node], None]] = {
    "input": _check_boundary,
    "scalar": _check_boundary,
    "const": _check_const,
    "full": _check_sized,
    "iota": _check_sized,
    "random_bits": _check_sized,
    "expand": _check_expand,
    "reshape": _check_reshape,
    "permute": _check_permute,
    "flip": _check_flip,
    "slice": _check_slice,
    "place": _check_place,
    "slice_update": _check_slice_update,
    "cat": _check_cat,
    "window": _check_window,
    "pick": _check_pick,
    **dict.fromkeys(("sum", "prod", "amax", "amin"), _check_reduce),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin"), _check_axis),
    "recurrence": _check_recurrence,
    "argsort": _check_argsort,
    "argselect": _check_argselect,
    "matmul": _check_matmul,
    "convolve": _check_convolve,
    "attention": _check_attention,
    "attention_backward": _check_attention_backward,
    "take": _check_take,
    "put_add": _check_put_add,
    "put": _check_put,
    "put_fold": _check_put_fold,
    "position": _check_position,
    "fft": _check_fft,
    **dict.fromkeys(("rfft", "irfft"), _check_rfft),
    **dict.fromkeys(("inv", "cholesky", "solve", "det", "slogdet", "eigh", "eig"), _check_square),
    **dict.fromkeys(("qr", "svd", "lu"), _check_matrices),
    "row_order": _check_row_order,
    "reinterpret": _check_reinterpret,
}


def _check_pointwise(node: Node) -> None:
    name, args = node.prim.name, node.args
    _need(all(a.shape == node.shape for a in args), node, "operands of the result's shape")
    if name == "where":
        _need(args[0].dtype is dtypes.bool, node, "a boolean condition")
        args = args[1:]
    _need(all(a.dtype is args[0].dtype for a in args), node, "operands of one dtype")
    if name == "cast":
        _need(isinstance(node.attrs, DType), node, "a dtype to cast to")
    if name == "integer_pow":
        _need(type(node.attrs) is int, node, "a Python int as exponent")


def _check_dtype(node: Node) -> None:
    categories, dtype = operand_categories(node.prim.name), node.args[0].dtype
    _need(dtype.category in categories, node, f"operands other than {dtype.name}")


def _check_arity(node: Node) -> None:
    name, expected = node.prim.name, ARITY[node.prim.name]
    if name == "cat":
        return
    if name in _STARTS:  # a start that is not known brings an operand with it
        dynamic = node.args[expected:]
        unknown = sum(s is None for s in node.attrs[_STARTS[name]])
        _need(len(dynamic) == unknown, node, "an operand for each start of None")
        _need(
            all(a.shape == () and a.dtype is dtypes.int64 for a in dynamic),
            node,
            "starts are 0-d int64",
        )
        return
    most = expected + _OPTIONAL.get(name, 0)
    _need(expected <= len(node.args) <= most, node, f"{expected} operands")


def check_node(node: Node) -> None:
    """One node against the rules of its primitive; MalformedGraph where it breaks one."""
    name = node.prim.name
    _need(PRIMS.get(name) is node.prim, node, "a primitive of the closed set")
    _check_arity(node)
    _need(
        name == "pick" or all(a.parts is None for a in node.args),
        node,
        "a pick of one of several results",
    )
    if node.prim.kind == "pointwise":
        _check_pointwise(node)
    elif name in _CHECKS:
        _CHECKS[name](node)
    if node.args and name != "pick":
        _check_dtype(node)
    aval: Any = node.prim.rule([a.aval for a in node.args], node.attrs)
    _need(node.aval == aval, node, f"what the rule of {name} gives, {aval}")


def check_graph(graph: Graph) -> None:
    """Raise MalformedGraph, naming the node and the rule, unless `graph` is well formed."""
    nodes = graph.nodes
    boundary: dict[tuple[str, int], Node] = {}
    for i, node in enumerate(nodes):
        _need(node.index == i, node, f"the index {i} of its place")
        for a in node.args:
            _need(
                0 <= a.index < i and nodes[a.index] is a,
                node,
                "operands that come before their use",
            )
        check_node(node)
        if node.prim.kind == "boundary":
            other = boundary.setdefault((node.prim.name, node.attrs[0]), node)
            _need(other is node, node, f"one node for each place, but there is {_describe(other)}")
    for out in graph.outputs:
        _need(
            0 <= out.index < len(nodes) and nodes[out.index] is out, out, "outputs among the nodes"
        )
        _need(out.parts is None, out, "outputs of one value")
