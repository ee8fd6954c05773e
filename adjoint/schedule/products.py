"""Matrix products in a better order: none is computed transposed, and a sum of many thin ones is one.

On processors that multiply bfloat16, in tile registers or in pairs, products of such matrices are not converted.

The others come from gradients. That of the weight in `x @ weight.T` is recorded as the transpose of `x.T @ g`, and would be
copied; `g.T @ x` is the same numbers. That of a weight used in every step of a loop is a sum of products, each as large
as the weight and only as deep as a batch: one product of everything put one below the other reads and writes the sum
once. Read `Products.rewritten`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from adjoint.dtypes import bfloat16, float32
from adjoint.hardware import has_pairs, has_tiles
from adjoint.ir.graph import Graph, Node

if TYPE_CHECKING:
    from adjoint.schedule.prepare import Builder

GEMM_DTYPES = ("float32", "float64", "int32", "int64")
_MOVES = ("permute", "reshape", "expand")
SMALL_PRODUCT = 4096  # multiplications of one product below which a plain loop is as good as a packed kernel
_FEWEST = 3  # products in a sum worth one product
_FEWEST_OF_HALVES, _STEPS_TO_ROUNDING = 4, 4  # rows or columns; pointwise steps from a product to where it is rounded


class Products:
    """What the products of a graph can become.

    uses: how often each node is read; an output counts.  sums: the leaves of each sum that holds several thin products.
    halves: whether the processor multiplies bfloat16.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.halves = graph, has_tiles() or has_pairs()
        self.uses: dict[Node, int] = dict.fromkeys(graph.nodes, 0)
        for node in graph.nodes:
            for a in node.args:
                self.uses[a] += 1
        for node in graph.outputs:
            self.uses[node] += 1
        self.sums: dict[Node, list[Node]] = {}
        inner: set[Node] = set()
        for node in reversed(graph.nodes):
            if node.prim.name != "add" or node in inner or len(node.shape) != 2 or node.dtype.is_complex:
                continue
            leaves = list(self._leaves(node, inner))
            if sum(self._thin_product(leaf) is not None for leaf in leaves) >= _FEWEST:
                self.sums[node] = leaves

    def _leaves(self, root: Node, inner: set[Node]) -> Iterator[Node]:
        """The terms of a sum, in order; the sums inside it, which nothing else reads, are noted."""
        stack = [*reversed(root.args)]
        while stack:
            node = stack.pop()
            if node.prim.name == "add" and self.uses[node] == 1:
                inner.add(node)
                stack += reversed(node.args)
            else:
                yield node

    def _thin_product(self, leaf: Node) -> tuple[Node, bool] | None:
        """The product behind a term, and whether it is transposed, if putting it together with others may pay."""
        node, swapped = leaf, _swaps(leaf)
        if swapped and self.uses[leaf] == 1:
            node = leaf.args[0]
        if node.prim.name != "matmul" or self.uses[node] != 1 or len(node.shape) != 2:
            return None
        (m, n), k = node.shape, node.args[0].shape[1]
        worth = node.dtype.name in GEMM_DTYPES and m * n * k > SMALL_PRODUCT and 2 * k * (m + n) <= m * n
        return (node, swapped) if worth else None

    def rewritten(self, b: Builder, node: Node, new: dict[Node, Node]) -> Node | None:
        """The node that takes the place of `node`, or None; `new` has those of what it reads."""
        if node in self.sums:
            return self._joined(b, node, new)
        if node.prim.name == "matmul" and self._is_of_bfloat16(node):
            return b.wide_matmul(*[_narrow(b, new[a]) for a in node.args])
        if node.prim.name == "permute" and node.args[0].prim.name == "matmul" and self.uses[node.args[0]] == 1:
            return _turned(b, node, new, self._is_of_bfloat16(node.args[0]))
        return None

    def _is_of_bfloat16(self, node: Node) -> bool:
        """Whether a product is one of bfloat16 numbers, each converted, that is rounded in the end, and copies of both repay it.

        What is not rounded may have been meant to be as exact as float32 is also among numbers below the least normal one.
        """
        if not self.halves or node.dtype is not float32 or not all([_is_widened(a) for a in node.args]):
            return False
        (m, n), k = node.shape[-2:], node.args[0].shape[-1]
        return min(m, n) >= _FEWEST_OF_HALVES and m * n * k > SMALL_PRODUCT and self._is_rounded(node, _STEPS_TO_ROUNDING)

    def _is_rounded(self, node: Node, steps: int) -> bool:
        """Whether all that becomes of a node, in so many steps, is bfloat16."""
        if node.dtype is bfloat16:
            return True
        if not steps or node in self._outputs or node.prim.kind not in ("pointwise", "movement", "contract"):
            return False
        return all([self._is_rounded(user, steps - 1) for user in self._users[node]])

    @functools.cached_property
    def _outputs(self) -> set[Node]:
        return {*self.graph.outputs}

    @functools.cached_property
    def _users(self) -> dict[Node, list[Node]]:
        found: dict[Node, list[Node]] = {node: [] for node in self.graph.nodes}
        for node in self.graph.nodes:
            for a in node.args:
                found[a].append(node)
        return found

    def _joined(self, b: Builder, root: Node, new: dict[Node, Node]) -> Node:
        """One product in place of all thin ones of a sum, to which the other terms are added."""
        lefts: list[Node] = []
        rights: list[Node] = []
        total: Node | None = None
        for leaf in self.sums[root]:
            found = self._thin_product(leaf)
            if found is None:
                total = new[leaf] if total is None else b.make("add", total, new[leaf])
                continue
            product, swapped = found
            x, y = (new[a] for a in product.args)
            lefts.append(_swap(b, y) if swapped else x)
            rights.append(_swap(b, x) if swapped else y)
        # Each side is written with the long axis last, and read transposed where the product wants it so.
        left = _swap(b, b.make("cat", *[_swap(b, x) for x in lefts], attrs=0))
        product = b.make("matmul", left, b.make("cat", *rights, attrs=0))
        return product if total is None else b.make("add", total, product)


def _swaps(node: Node) -> bool:
    """Whether the last two axes are exchanged, in whatever order the others are."""
    if node.prim.name != "permute" or len(node.attrs) < 2:
        return False
    rank = len(node.attrs)
    return node.attrs.index(rank - 1) < node.attrs.index(rank - 2)


def _is_widened(x: Node) -> bool:
    while x.prim.name in _MOVES:
        x = x.args[0]
    return x.prim.name == "cast" and x.args[0].dtype is bfloat16


def _narrow(b: Builder, x: Node) -> Node:
    """What was converted to float32, and moved, without the conversion."""
    if x.prim.name == "cast":
        return x.args[0]
    return b.node(x.prim.name, _narrow(b, x.args[0]), attrs=x.attrs)


def _turned(b: Builder, node: Node, new: dict[Node, Node], is_of_bfloat16: bool) -> Node | None:
    """(x @ y).T -> y.T @ x.T, and in general: rows before columns."""
    if not _swaps(node) or node.dtype.is_complex:
        return None
    x, y = (new[a] for a in node.args[0].args)
    rank = len(node.attrs)
    order = tuple({rank - 1: rank - 2, rank - 2: rank - 1}.get(p, p) for p in node.attrs)
    if is_of_bfloat16:
        product = b.wide_matmul(*[_narrow(b, _swap(b, a)) for a in (y, x)])
    else:
        product = b.make("matmul", _swap(b, y), _swap(b, x))
    return product if order == tuple(range(rank)) else b.make("permute", product, attrs=order)


def _swap(b: Builder, x: Node) -> Node:
    """The transposed matrices; of a transposed one, the original."""
    rank = len(x.shape)
    order = (*range(rank - 2), rank - 1, rank - 2)
    if x.prim.name != "permute":
        return b.make("permute", x, attrs=order)
    order = tuple(x.attrs[p] for p in order)
    return x.args[0] if order == tuple(range(rank)) else b.make("permute", x.args[0], attrs=order)
