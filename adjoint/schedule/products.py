"""Matrix products in a better order: none is computed transposed, and a sum of many thin ones is one.

Both come from gradients. That of the weight in `x @ weight.T` is recorded as the transpose of `x.T @ g`, and would be
copied; `g.T @ x` is the same numbers. That of a weight used in every step of a loop is a sum of products, each as large
as the weight and only as deep as a batch: one product of everything put one below the other reads and writes the sum
once. Read `Products.rewritten`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adjoint.ir.graph import Graph, Node

if TYPE_CHECKING:
    from adjoint.schedule.prepare import Builder

GEMM_DTYPES = ("float32", "float64", "int32", "int64")
SMALL_PRODUCT = 4096  # multiplications of one product below which a plain loop is as good as a packed kernel
_FEWEST = 3  # products in a sum worth one product


class Products:
    """What the products of a graph can become.

    uses: how often each node is read; an output counts.  sums: the leaves of each sum that holds several thin products.
    """

    def __init__(self, graph: Graph) -> None:
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
        if node.prim.name == "permute" and node.args[0].prim.name == "matmul" and self.uses[node.args[0]] == 1:
            return _turned(b, node, new)
        return None

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


def _turned(b: Builder, node: Node, new: dict[Node, Node]) -> Node | None:
    """(x @ y).T -> y.T @ x.T, and in general: rows before columns."""
    if not _swaps(node) or node.dtype.is_complex:
        return None
    x, y = (new[a] for a in node.args[0].args)
    rank = len(node.attrs)
    order = tuple({rank - 1: rank - 2, rank - 2: rank - 1}.get(p, p) for p in node.attrs)
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
