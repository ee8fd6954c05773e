"""From the graph as recorded to the graph as scheduled: a few rewrites that only code generation wants.

`prepare` rebuilds the graph node by node with the rules of `_REWRITES`: long reductions are cut into partial results
of fixed pieces (the internal primitive `partial`), small or thin matrix products become a multiplication and a sum,
reductions over nothing or over one element become constants and reshapes. All choices depend on shapes alone, so equal
reductions give equal bits in whatever program they occur.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adjoint import dtypes
from adjoint.hardware import vendor
from adjoint.ir.graph import Graph, GraphBuilder, Node
from adjoint.ir.prims import PRIMS, Aval, Prim, Shape
from adjoint.schedule.convolutions import convolve
from adjoint.schedule.products import GEMM_DTYPES, SMALL_PRODUCT, Products

# Reductions longer than this are cut: along the last axis for threads, elsewhere also for locality.
LONG_ROW = 32768
LONG_COLUMN = 1024
# In matrices that no cache holds so many rows are cut, too: several long rows at a time are read faster than all of them, a few
# columns of each (1000 x 16384: sums in 2.4 ms for 3.8, maxima in 2.5 for 6.5, on AMD's Zen 4).
MANY_ROWS, LARGE = 33, 48 << 20
PIECE = 16384  # elements of one piece of a long row


def _partial_rule(args: list[Aval], attrs: Any) -> Aval:
    _, axis, chunk, axes = attrs
    shape, dtype = args[0]
    pieces = -(-shape[axis] // chunk)
    return (pieces, *(n for i, n in enumerate(shape) if i not in axes)), dtype


def _wide_rule(args: list[Aval], attrs: Any) -> Aval:
    return PRIMS["matmul"].rule(args, attrs)[0], dtypes.float32


def _last_rule(args: list[Aval], attrs: Any) -> Aval:
    (n, c, *sizes, g), dtype = args[0]
    (_, *kernel, _), _ = args[1]
    (_, _, *positions), _ = PRIMS["convolve"].rule([((n, g * c, *sizes), dtype), ((g, c, *kernel), dtype)], (*attrs, g))
    return (n, *positions, g), dtype


# A convolution with one output channel in each group and the groups last: x (N, C, *L, G), w (C, *K, G) and a number for each group,
# where given; attrs as of `convolve` but for the groups; y (N, *P, G).
CONVOLVE_LAST = Prim("convolve_last", "contract", _last_rule)
# A product of bfloat16 matrices whose sums stay float32.
WIDE_MATMUL = Prim("matmul", "contract", _wide_rule)
# attrs: (reduction, axis that is cut, steps of it in a piece, reduced axes); result: pieces, then the kept axes.
PARTIAL = Prim("partial", "reduce", _partial_rule)


# From how many bytes on a matrix is multiplied with a vector by dot products of several rows at once: in no cache.
DOTS_BYTES = LARGE if vendor() == "AuthenticAMD" else 1 << 62


class Builder(GraphBuilder):
    """A GraphBuilder that also knows `partial` and products that are wider than their operands."""

    def partial(self, operand: Node, attrs: Any) -> Node:
        return self._internal(PARTIAL, "partial", (operand,), attrs)

    def wide_matmul(self, x: Node, y: Node) -> Node:
        return self._internal(WIDE_MATMUL, "wide_matmul", (x, y), None)

    def convolve_last(self, operands: tuple[Node, ...], attrs: Any) -> Node:
        return self._internal(CONVOLVE_LAST, "convolve_last", operands, attrs)

    def _internal(self, prim: Prim, name: str, operands: tuple[Node, ...], attrs: Any) -> Node:
        key = (name, tuple([x.index for x in operands]), attrs)
        found = self._known.get(key)
        if found is None:
            found = Node(prim, operands, attrs, len(self.nodes))
            found.origin = self.origin
            self._known[key] = found
            self.nodes.append(found)
        return found

    def rewritten(self, node: Node) -> Node | None:
        """What the rules make of a node that is not in the graph."""
        rule = _REWRITES.get(node.prim.name)
        return rule(self, node, node.args) if rule is not None else None

    def make(self, name: str, *args: Node, attrs: Any = None) -> Node:
        """A node that is not in the graph, or what the rules make of it."""
        rule = _REWRITES.get(name)
        made = rule(self, Node(PRIMS[name], args, attrs, -1), args) if rule is not None else None
        return self.node(name, *args, attrs=attrs) if made is None else made

    def copy(self, prim: Prim, args: tuple[Node, ...], attrs: Any) -> Node:
        if prim is PARTIAL:
            return self.partial(args[0], attrs)
        if prim is WIDE_MATMUL:
            return self.wide_matmul(*args)
        if prim is CONVOLVE_LAST:
            return self.convolve_last(args, attrs)
        return self.node(prim.name, *args, attrs=attrs)


def prepare(graph: Graph) -> Graph:
    """An equal graph, better suited to loops."""
    builder = Builder()
    new: dict[Node, Node] = {}
    products = Products(graph)
    for node in graph.nodes:
        args = tuple([new[a] for a in node.args])
        builder.origin = node.origin
        rule = None if node.dtype.is_complex else _REWRITES.get(node.prim.name)
        made = products.rewritten(builder, node, new)
        if made is None and rule is not None:
            made = rule(builder, node, args)
        if made is None:
            made = builder.copy(node.prim, args, node.attrs)
        new[node] = made
    # an output that lies in memory already, as another output, say, or is a mere number, is copied to memory of its own
    outputs: dict[Node, None] = {}
    for node in graph.outputs:
        made = new[node]
        while made.prim.name in ("input", "const", "scalar") or made in outputs:
            made = builder.node("reshape", made, attrs=made.shape)
        outputs[made] = None
    return builder.finish([*outputs])


def _reshape_to(b: Builder, x: Node, shape: Shape) -> Node:
    return x if x.shape == shape else b.node("reshape", x, attrs=shape)


def _movement(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Reshapes and expansions to the operand's own shape are the operand; a reshape of a reshape is one."""
    x = args[0]
    if x.shape == node.shape and node.prim.name in ("reshape", "expand"):
        return x
    if node.prim.name == "reshape" and x.prim.name == "reshape":
        return _reshape_to(b, x.args[0], node.shape)
    return None


def _permute(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    x, attrs = args[0], node.attrs
    turned = x.prim.name == "permute"
    if turned:
        x, attrs = x.args[0], tuple([x.attrs[axis] for axis in attrs])
    if attrs == tuple(range(len(attrs))):
        return x
    return b.node("permute", x, attrs=attrs) if turned else None


_EMPTY = {"sum": 0, "prod": 1}


def _reduce(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    x, axes, name = args[0], node.attrs, node.prim.name
    extent = math.prod(x.shape[a] for a in axes)
    if extent == 1:
        return _reshape_to(b, x, node.shape)
    if extent == 0:
        return b.const(_EMPTY[name], node.dtype, node.shape) if name in _EMPTY else None
    if node.size == 0:
        return b.const(0, node.dtype, node.shape)
    last = axes[-1] == max((i for i, n in enumerate(x.shape) if n > 1), default=-1)
    kept = x.size // extent
    if last or kept == 1:
        longest = LONG_ROW
    else:
        leading = all([n == 1 for n in x.shape[: axes[0]]]) and axes[-1] - axes[0] == len(axes) - 1
        longest = MANY_ROWS if leading and x.size * x.dtype.itemsize >= LARGE else LONG_COLUMN
    if extent >= longest and name in ("sum", "prod", "amax", "amin"):
        axis = max(axes, key=lambda a: x.shape[a])
        rest = extent // x.shape[axis]
        if last or kept == 1:
            chunk = max(1, PIECE // rest)
        else:
            chunk = max(1, min(2048, max(32, -(-extent // 32))) // rest)
        if chunk < x.shape[axis]:
            pieces = b.partial(x, (name, axis, chunk, axes))
            return _reduce_again(b, name, pieces)
    return None


def _reduce_again(b: Builder, name: str, pieces: Node) -> Node:
    node = Node(PRIMS[name], (pieces,), (0,), -1)
    return _reduce(b, node, (pieces,)) or b.node(name, pieces, attrs=(0,))


def _arg_reduce(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    if args[0].shape[node.attrs] == 1 or node.size == 0:
        return b.const(0, dtypes.int64, node.shape)
    return None


def _scan(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    x = args[0]
    return x if x.size == 0 or x.shape[node.attrs] == 1 else None


def _recurrence(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    factors, terms = args
    if node.size and node.shape[node.attrs] > 1:
        return None
    return b.node("add", b.node("mul", factors, b.const(0, node.dtype, node.shape)), terms)


def _order(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    """Kernels sort along the last axis."""
    x, (axis, *rest) = args[0], node.attrs
    if node.size == 0 or x.shape[axis] == 1:
        return b.const(0, dtypes.int64, node.shape)
    if all(n == 1 for n in x.shape[axis + 1 :]):
        return None
    order = (*(d for d in range(len(x.shape)) if d != axis), axis)
    rows = b.node("permute", x, attrs=order)
    found = b.node(node.prim.name, rows, attrs=(len(order) - 1, *rest))
    return b.node("permute", found, attrs=tuple(order.index(d) for d in range(len(order))))


def _is_transposed(x: Node) -> bool:
    """Whether the last axis but one is the contiguous one."""
    while x.prim.name in ("expand", "reshape") and x.args[0].shape[-2:] == x.shape[-2:]:
        x = x.args[0]
    rank = len(x.shape)
    return x.prim.name == "permute" and rank >= 2 and x.attrs[-2:] == (rank - 1, rank - 2)


def _swap(b: Builder, x: Node) -> Node:
    rank = len(x.shape)
    return b.node("permute", x, attrs=(*range(rank - 2), rank - 1, rank - 2))


def _is_large_matrix(x: Node, columns: bool) -> bool:
    """Whether several dot products at once with this matrix's rows, or columns, are faster than a loop over rows.

    They read the vector less often, and memory in several places, each of which goes on line by line: 1.3 ms rather than
    1.9 for 64 MB on AMD's Zen 4. What is still to be computed is better computed on the way.
    """
    if x.size * x.dtype.itemsize < DOTS_BYTES or _is_transposed(x) != columns:
        return False
    while x.prim.name in ("permute", "reshape", "expand"):
        x = x.args[0]
    return x.prim.name == "input"


def _matmul(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    x, y = args
    batch, (m, k), n = x.shape[:-2], x.shape[-2:], y.shape[-1]
    if node.size == 0 or k == 0:
        return b.const(0, node.dtype, node.shape)
    supported = node.dtype.name in GEMM_DTYPES
    if supported and not batch and (m == 1 or n == 1) and _is_large_matrix(y if m == 1 else x, columns=m == 1):
        return None
    if n == 1 and m > 1:
        # a matrix times a vector: sum along whichever axis of the matrix is contiguous
        vector = b.node("reshape", y, attrs=(*batch, 1, k))
        return _product_sum(b, node, x, vector, (*batch, m, k), _is_transposed(x))
    if m == 1:
        row = _swap(b, y)
        vector = b.node("reshape", x, attrs=(*batch, 1, k))
        return _product_sum(b, node, row, vector, (*batch, n, k), not _is_transposed(y))
    if supported and m * n * k > SMALL_PRODUCT:
        return None
    wide = (*batch, m, k, n)
    left = b.node("expand", b.node("reshape", x, attrs=(*batch, m, k, 1)), attrs=wide)
    right = b.node("expand", b.node("reshape", y, attrs=(*batch, 1, k, n)), attrs=wide)
    return _sum(b, b.node("mul", left, right), len(batch) + 1)


def _product_sum(
    b: Builder, node: Node, matrix: Node, vector: Node, shape: Shape, columns: bool
) -> Node:
    """sum over the last axis of matrix * vector; `columns`: with that axis last but one in the loops."""
    if columns:
        matrix, vector = _swap(b, matrix), _swap(b, vector)
        shape = (*shape[:-2], shape[-1], shape[-2])
    if vector.shape != shape:
        vector = b.node("expand", vector, attrs=shape)
    product = b.node("mul", matrix, vector)
    return _reshape_to(b, _sum(b, product, len(shape) - (2 if columns else 1)), node.shape)


def _sum(b: Builder, x: Node, axis: int) -> Node:
    node = Node(PRIMS["sum"], (x,), (axis,), -1)
    return _reduce(b, node, (x,)) or b.node("sum", x, attrs=(axis,))


def _convolve(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    return convolve(b, node, args, node.dtype.name in GEMM_DTYPES)


def _put_add(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    return b.const(0, node.dtype, node.shape) if args[1].size == 0 or node.size == 0 else None


def _put(b: Builder, node: Node, args: tuple[Node, ...]) -> Node | None:
    return args[0] if args[2].size == 0 or node.size == 0 else None


_REWRITES: dict[str, Callable[[Builder, Node, tuple[Node, ...]], Node | None]] = {
    "reshape": _movement,
    "expand": _movement,
    "permute": _permute,
    "sum": _reduce,
    "prod": _reduce,
    "amax": _reduce,
    "amin": _reduce,
    "argmax": _arg_reduce,
    "argmin": _arg_reduce,
    "cumsum": _scan,
    "cumprod": _scan,
    "cummax": _scan,
    "cummin": _scan,
    "recurrence": _recurrence,
    "argsort": _order,
    "argselect": _order,
    "matmul": _matmul,
    "convolve": _convolve,
    "put_add": _put_add,
    "put": _put,
}
