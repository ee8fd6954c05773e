"""Which pointwise nests become part of the step that computes a matrix product.

A nest that goes through a product element by element (a bias, an activation, a cast, a sum with something else) can take
each tile of it as it is finished. `joined` puts such nests into their products, where nothing else wants those; what the
kernels of a product can do is for the caller to say. Read `joined`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from adjoint.ir.graph import Graph, Node
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Var
from adjoint.schedule.group import Special
from adjoint.schedule.values import Nest

Step = Nest | Special
Takes = Callable[[Special, Nest, Var, set[Node]], bool]  # product, nest, the loop its columns begin with, what is stored


def joined(graph: Graph, order: Sequence[Step], takes: Takes) -> list[Step]:
    """The steps of a schedule, products with their epilogues (`Special.epilogue`), each where the nest was.

    There it may be, as nothing else waits for it.  takes: whether the product's kernels can do it.
    """
    stored: set[Node] = set(graph.outputs)
    for unit in order:
        stored.update(unit.reads)
    wanted = Counter([node for unit in order for node in unit.reads] + graph.outputs)
    products = {
        unit.node: unit for unit in order
        if isinstance(unit, Special) and unit.kind == "matmul" and unit.layouts and wanted[unit.node] == 1
    }  # fmt: skip
    place = {product.node: k for k, product in enumerate(products.values())}
    steps: list[Step | None] = list(order)
    at = {unit.id: k for k, unit in enumerate(order)}
    for nest in order if products else ():
        if not isinstance(nest, Nest) or not _is_pointwise(nest, stored):
            continue
        for node in sorted([node for node in nest.reads if node in products], key=place.__getitem__, reverse=True):
            product, columns = products[node], _columns(nest, node)
            if columns is not None and takes(product, nest, columns, stored):
                product.epilogue, product.columns = nest, columns
                product.reads.update(dict.fromkeys([other for other in nest.reads if other is not node]))
                steps[at[nest.id]], steps[at[product.id]] = product, None
                break
    return [step for step in steps if step is not None]


def _is_pointwise(nest: Nest, stored: set[Node]) -> bool:
    """Whether every point of a nest is computed once, and stored, by itself; and checks nothing."""
    if nest.chunk is not None or nest.column or any([v.reduced for v in nest.vars]):
        return False
    roots = [r for r in nest.roots if r.target in stored]
    return bool(roots) and all([r.kind == "full" for r in roots]) and all([v.op != "check" for v in nest.values])


def _columns(nest: Nest, product: Node) -> Var | None:
    """The loop with which the columns of a product begin, if the nest reads it where it is itself, row by row; or None."""
    if nest.size != product.size or product.size == 0:
        return None
    place, step, first = ex.ZERO, 1, None
    for v in reversed(nest.vars):
        place = ex.add(place, ex.scale(ex.of(v), step))
        step *= v.extent
        if step == product.shape[-1]:
            first = v
    loads = [v for v in nest.values if v.op == "load" and v.attrs[0] is product]
    if first is None or first is nest.vars[0] or any([v.attrs[1] != place or v.attrs[2] for v in loads]):
        return None
    return first if loads else None
