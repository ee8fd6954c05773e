"""A graph as a Python program that runs.

`program_text` prints one assignment per node, over `p`, the primitives as NumPy functions with
their attributes under names: `v3 = p.sum(v2, axes=(0,))  # float32[4]`. The text is complete:
executing it defines `program`, whose parameters are the inputs and run-time scalars by position
(`i0`, `s1`), which makes any graph a small test case to keep or mail. `read_program` makes the
graph of such a function again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.dtypes import DType
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS
from adjoint.ir.reference import REFERENCE
from adjoint.storage import round_to

# The attributes of each primitive in the order of `Node.attrs`, which is no tuple where it is one.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "const": ("value", "dtype"),
    "full": ("shape",),
    "iota": ("n",),
    "random_bits": ("shape",),
    "cast": ("dtype",),
    "integer_pow": ("exponent",),
    "expand": ("shape",),
    "reshape": ("shape",),
    "permute": ("order",),
    "flip": ("axes",),
    "slice": ("starts", "sizes", "steps"),
    "place": ("shape", "starts", "steps"),
    "slice_update": ("starts", "steps"),
    "cat": ("axis",),
    "window": ("dims", "sizes", "strides", "dilations"),
    "convolve": ("strides", "lo", "hi", "steps", "dilations", "groups"),
    **dict.fromkeys(("attention", "attention_backward"), ("causal",)),
    "pick": ("result",),
    **dict.fromkeys(("sum", "prod", "amax", "amin"), ("axes",)),
    **dict.fromkeys(("argmax", "argmin", "cumsum", "cumprod", "cummax", "cummin", "recurrence"), ("axis",)),
    "put_add": ("n",),
    "put_fold": ("fold",),
    "position": ("n", "wraps", "axis"),
    "argsort": ("axis", "descending"),
    "argselect": ("axis", "descending", "start", "stop"),
    "lu": ("check",),
    "row_order": ("rows",),
    "reinterpret": ("old", "new"),
    "fft": ("axes", "inverse", "power"),
    "rfft": ("axis", "power"),
    "irfft": ("axis", "n", "power"),
}


def _literal(value: Any) -> str:
    if isinstance(value, DType):
        return f"p.{value.name}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_literal(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def _parameter(node: Node) -> str:
    return f"{'i' if node.prim.name == 'input' else 's'}{node.attrs[0]}"


def _aval(node: Node) -> str:
    avals = node.parts if node.parts is not None else (node.aval,)
    return ", ".join(dtype.name + str(list(shape)) for shape, dtype in avals)


def _statement(node: Node, names: dict[int, str]) -> str:
    name = node.prim.name
    if name == "scalar":
        return f"{names[node.index]} = p.scalar({_parameter(node)}, dtype={_literal(node.dtype)})"
    given = [names[a.index] for a in node.args]
    keys = ATTRIBUTES.get(name, ())
    values = (node.attrs,) if len(keys) == 1 else node.attrs
    if keys:
        given += [f"{key}={_literal(value)}" for key, value in zip(keys, values, strict=True)]
    return f"{names[node.index]} = p.{name}({', '.join(given)})"


def program_text(graph: Graph, name: str = "program") -> str:
    """Source of a function that computes the graph with NumPy; it imports what it needs.

    >>> from adjoint import dtypes
    >>> from adjoint.ir.graph import GraphBuilder
    >>> b = GraphBuilder()
    >>> x = b.node("input", attrs=(0, (4,), dtypes.float32))
    >>> print(program_text(b.finish([b.node("sum", b.node("mul", x, x), attrs=(0,))])))
    from adjoint.ir.text import primitives as p
    <BLANKLINE>
    <BLANKLINE>
    def program(i0):  # float32[4]
        v1 = p.mul(i0, i0)  # float32[4]
        v2 = p.sum(v1, axes=(0,))  # float32[]
        return (v2,)
    <BLANKLINE>
    """
    boundary = [n for n in graph.nodes if n.prim.kind == "boundary"]
    boundary.sort(key=lambda n: (n.prim.name, n.attrs[0]))
    names = {
        n.index: _parameter(n) if n.prim.name == "input" else f"v{n.index}" for n in graph.nodes
    }
    parameters = ", ".join(_parameter(n) for n in boundary)
    shapes = ", ".join(_aval(n) for n in boundary)
    lines = ["from adjoint.ir.text import primitives as p", "", ""]
    lines.append(f"def {name}({parameters}):" + (f"  # {shapes}" if shapes else ""))
    for node in graph.nodes:
        if node.prim.name != "input":
            lines.append(f"    {_statement(node, names)}  # {_aval(node)}")
    results = "".join(names[o.index] + ", " for o in graph.outputs)
    lines.append(
        f"    return ({results.rstrip() if len(graph.outputs) == 1 else results.rstrip(', ')})"
    )
    return "\n".join(lines) + "\n"


# --- what the text calls --------------------------------------------------------------------------


def _callable(name: str) -> Any:
    """The reference of a primitive as a function of arrays and named attributes."""
    reference, keys = REFERENCE[name], ATTRIBUTES.get(name, ())

    def call(*arrays: Any, **attributes: Any) -> Any:
        values = tuple(attributes[key] for key in keys)
        with np.errstate(all="ignore"):
            out = reference(list(arrays), values[0] if len(keys) == 1 else values if keys else None)
        return np.asarray(out) if PRIMS[name].kind != "tuple" else out

    call.__name__ = name
    return call


def _scalar(value: Any, dtype: DType) -> np.ndarray:
    return round_to(value, dtype)


primitives = SimpleNamespace(
    scalar=_scalar,
    **{name: _callable(name) for name in REFERENCE},
    **{dtype.name: dtype for dtype in dtypes.ALL},
)


# --- and back -------------------------------------------------------------------------------------


def read_program(program: Callable, avals: dict[int, tuple]) -> Graph:
    """The graph of a function that `program_text` wrote.

    avals: (shape, dtype) of each input by position. Its primitives are called with nodes instead of
    arrays.

    >>> import numpy as np
    >>> from adjoint import dtypes
    >>> from adjoint.ir.text import primitives as p
    >>> def program(i0):
    ...     return (p.neg(i0),)
    >>> read_program(program, {0: ((3,), dtypes.float32)})
    %0 = input() (0, (3,), torch.float32) : float32[3]
    %1 = neg(%0) : float32[3]
    return %1
    """
    builder = GraphBuilder()

    def maker(name: str) -> Callable:
        keys = ATTRIBUTES.get(name, ())

        def make(*args: Node, **attributes: Any) -> Node:
            values = tuple(attributes[key] for key in keys)
            return builder.node(name, *args, attrs=values[0] if len(keys) == 1 else values or None)

        return make

    assert isinstance(program, FunctionType)
    symbols = SimpleNamespace(
        scalar=lambda index, dtype: builder.node("scalar", attrs=(index, (), dtype)),
        **{name: maker(name) for name in REFERENCE},
        **{dtype.name: dtype for dtype in dtypes.ALL},
    )
    operands: list[Any] = []
    for name in program.__code__.co_varnames[: program.__code__.co_argcount]:
        index = int(name[1:])
        is_input = name[0] == "i"
        operands.append(
            builder.node("input", attrs=(index, *avals[index])) if is_input else index
        )
    recorder = FunctionType(program.__code__, {**program.__globals__, "p": symbols})
    return builder.finish(list(recorder(*operands)))
