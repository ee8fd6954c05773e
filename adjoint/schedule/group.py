"""Which nodes get memory, and which share a loop nest.

`choose_roots` decides what is computed once (reductions, outputs, what is expensive and used more than once); all other
nodes are written into the expressions of their users. `Grouping` walks the roots in topological order and puts each
into a nest that already reads the same data, if it can be computed there and no cycle between nests arises; the trial
is the lowering itself. Read `Grouping.place`.
"""

from __future__ import annotations

import math

from adjoint.ir.graph import Graph, Node
from adjoint.schedule.expr import Var
from adjoint.schedule.lower import LOWERED, MOST_SPLITS, Lowering, Misaligned, Split
from adjoint.schedule.places import LAYOUTS, is_joined
from adjoint.schedule.values import WEIGHTS, Nest, Root

CHEAP = 8  # additions: less than this is computed again rather than stored
_DEEP = 60  # pointwise operations in a row before one becomes a root of its own
_MOST_VALUES = 1500
_MOST_SCALARS = 8000
_MOST_READS = 48
_MOST_TRIALS = 6
MOST_RANKED = 1 << 31  # elements of an axis whose order has a kernel

FLOATS = ("float32", "float64")  # for which there are kernels of attention

_SELECTS = ("place", "slice_update", "cat")
_SCANS = ("cumsum", "cumprod", "cummax", "cummin", "recurrence")
_SCATTERS = ("put", "put_add")
_FOLDS = ("sum", "prod", "amax", "amin")


class Special:
    """A step that is not a loop nest: a matrix product or a host computation.

    reads: nodes read (for a product: the nodes whose memory is read).  layouts: for a product, element strides.
    epilogue, columns: the nest that goes on with a product tile by tile, and the loop with which its columns begin.
    """

    __slots__ = ("id", "kind", "node", "reads", "preds", "results", "layouts", "epilogue", "columns")

    def __init__(self, ident: int, kind: str, node: Node, reads: list[Node]) -> None:
        self.id, self.kind, self.node = ident, kind, node
        self.reads = dict.fromkeys(reads)
        self.preds = 0
        self.results = [node]
        self.layouts: tuple = ()
        self.epilogue: Nest | None = None
        self.columns: Var | None = None


class Choices:
    """roots: nodes with memory of their own or a place in a nest.  inlined: reductions written out.  outputs: kept."""

    def __init__(self) -> None:
        self.roots: set[Node] = set()
        self.inlined: set[Node] = set()
        self.layouts: dict[Node, tuple] = {}  # matrix product -> (node, strides) of both operands


def is_host(node: Node) -> bool:
    """Whether the node is computed by the NumPy reference, between native segments."""
    if node.prim.kind == "tuple" and node.prim.name in LAYOUTS:
        return node.dtype.name not in FLOATS or any(x.size == 0 for x in node.args)
    if node.prim.kind in ("host", "tuple") or is_complex(node):
        return True
    if node.prim.name in ("amax", "amin", "argmax", "argmin") and node.args[0].size == 0:
        return node.size > 0
    if node.prim.kind == "order":
        return max(node.args[0].shape) >= MOST_RANKED
    if node.prim.name == "take":
        return node.args[0].size == 0 and node.size > 0
    if node.prim.name in _SCATTERS:
        return False
    return (
        node.prim.kind in ("movement", "create")
        and node.prim.name not in LOWERED
        and node.prim.name != "pick"
    )


def is_complex(node: Node) -> bool:
    """Whether complex numbers go in or come out: machine code is made of real ones."""
    if node.parts is not None or node.prim.name in ("input", "pick"):
        return False
    return node.dtype.is_complex or any(a.parts is None and a.dtype.is_complex for a in node.args)


def small_reduction(node: Node) -> bool:
    """Whether a reduction is written out in its users. Decided by shapes and windows alone."""
    if node.prim.name not in _FOLDS or node.prim.name == "partial":
        return False
    operand, axes = node.args[0], node.attrs
    extent = math.prod(operand.shape[a] for a in axes)
    if extent > 16:
        return False
    last = max((i for i, n in enumerate(operand.shape) if n > 1), default=-1)
    if axes[-1] != last:
        return True
    return extent <= 4 or _reads_window(operand)


def _is_last(scan: Node) -> bool:
    return all(n == 1 for n in scan.shape[scan.attrs + 1 :])


def _reads_window(node: Node) -> bool:
    for _ in range(8):
        if node.prim.name == "window":
            return True
        if node.prim.kind not in ("pointwise", "movement") or not node.args:
            return False
        node = node.args[0]
    return False


def choose_roots(graph: Graph) -> Choices:
    """Decide what is computed once. Costs are in additions per element, uses in the eyes of the expensive node."""
    choices = Choices()
    must: set[Node] = set(graph.outputs)
    uses: dict[Node, int] = dict.fromkeys(graph.nodes, 0)
    for node in reversed(graph.nodes):
        name = node.prim.name
        if name in LAYOUTS and not is_host(node):
            choices.layouts[node] = tuple(LAYOUTS[name](node))
            must.update(source for source, _ in choices.layouts[node])
        elif is_host(node):
            must.update(node.args)
        elif name == "slice":  # an index is checked even where the slice leaves it out
            source = node.args[0]
            while source.prim.kind == "movement" and source.args:
                source = source.args[0]
            if source.prim.name in ("take", "position"):
                must.add(source)
        passes_on = node.prim.kind == "movement" and node not in must
        for a in node.args:
            if passes_on:
                enlarges = name in ("expand", "window") and node.size > a.size
                uses[a] += max(uses[node], 2) if enlarges else uses[node]
            else:
                uses[a] += 2 if name == "take" and a is node.args[0] else 1
    cost: dict[Node, int] = {}
    depth: dict[Node, int] = {}
    for node in graph.nodes:
        name, kind = node.prim.name, node.prim.kind
        if name in ("input", "scalar", "const") and not is_complex(node):
            cost[node], depth[node] = 1 if name == "input" else 0, 0
            if (
                node in must and name != "input"
            ):  # a host step or a product wants the number in memory
                choices.roots.add(node)
            continue
        total = sum([cost[a] for a in node.args])
        deep = 1 + max([depth[a] for a in node.args], default=0)
        if (
            kind in ("reduce", "scan", "contract", "order", "tuple")
            or is_host(node)
            or name == "pick"
            or name in _SCATTERS
        ):
            if kind == "reduce" and not is_host(node) and small_reduction(node) and total <= 100:
                choices.inlined.add(node)
                total *= math.prod(node.args[0].shape[a] for a in node.attrs)
                hard = node in must
            else:
                hard = True
        elif is_joined(node):
            hard = True
        else:
            hard = node in must
            if kind != "movement" or name in _SELECTS:
                total += WEIGHTS.get(name, 1)
        if name in _SCANS and _is_last(node):  # which runs element by element: what it reads is computed by vectors
            choices.roots.update(a for a in node.args if cost[a] > CHEAP)
        total = min(total, 1 << 20)
        works = (
            kind in ("pointwise", "reduce", "index") or name == "random_bits" or name in _SELECTS
        )
        if (
            hard
            or (works and total > CHEAP and uses[node] > 1)
            or (deep > _DEEP and kind != "create")
        ):
            choices.roots.add(node)
            total, deep = 1, 0
        cost[node], depth[node] = total, deep
    return choices


class Grouping:
    """Nests and special steps of a graph.

    units: every step by id (a topological order is found by `order`).  maker: the units that write a root.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.choices = choose_roots(graph)
        self.units: list[Nest | Special] = []
        self.maker: dict[Node, list[int]] = {}
        self._lowerings: dict[int, Lowering] = {}
        self._readers: dict[Node, list[int]] = {}
        self._waiting: dict[Node, dict[Node, None]] = {}  # reductions put off, with what they read
        for node in graph.nodes:
            if node in self.choices.roots and node.size and not self._put_off(node):
                self._add(node)
        for node in self._waiting:
            self._add(node)

    def _put_off(self, node: Node) -> bool:
        """Whether to place a reduction of inputs later: a nest that reads them for something else may still come."""
        leaves = self._leaves_of(node)
        waiting = self._waiting
        if (
            node.prim.kind == "reduce"
            and node not in self.choices.inlined
            and not is_host(node)
            and all(a.prim.name == "input" or a in waiting for a in leaves)
        ):
            waiting[node] = leaves
            return True
        wanted: set[Node] = set()
        stack = [a for a in leaves if a in waiting]
        while stack:
            a = stack.pop()
            if a not in wanted:
                wanted.add(a)
                stack.extend(x for x in waiting[a] if x in waiting)
        for a in [a for a in waiting if a in wanted]:  # in their own order
            del waiting[a]
            self._add(a)
        return False

    def _add(self, node: Node) -> None:
        name = node.prim.name
        if name in LAYOUTS and not is_host(node):
            layouts = self.choices.layouts[node]
            unit = Special(len(self.units), name, node, [source for source, _ in layouts])
            unit.layouts = layouts
            self._add_special(unit)
        elif name == "pick":
            host = self.units[self.maker[node.args[0]][0]]
            assert isinstance(host, Special)
            host.results.append(node)
            self.maker[node] = [host.id]
        elif is_host(node):
            self._add_special(Special(len(self.units), "host", node, list(node.args)))
        elif node in self.choices.inlined:
            self.place(Root("full", node, node))
        elif node.prim.kind == "reduce":
            self.place(Root("partial" if name == "partial" else "reduce", node, node))
        elif name in _SCANS:
            self.place(Root("scan", node, node))
        elif name in _SCATTERS:
            self._add_scatter(node)
        elif name == "cat":
            start = 0
            for a in node.args:
                offset = [0] * len(node.shape)
                offset[node.attrs] = start
                start += a.shape[node.attrs]
                if a.size:
                    self.place(Root("piece", node, node, a, tuple(offset)))
        else:
            self.place(Root("full", node, node))

    def _add_special(self, unit: Special) -> None:
        self.units.append(unit)
        self.maker[unit.node] = [unit.id]
        self._depend(unit, list(unit.reads))

    def _add_scatter(self, node: Node) -> None:
        if node.prim.name == "put":
            base = Root("piece", node, node, node.args[0], (0,) * len(node.shape))
            self.place(base)
        nest = self._open(node.args[-1].shape, closed=True)
        lowering = self._begin(nest, node.args[-1].shape, Root("scatter", node, node))
        first = self.maker.get(node, [])
        for m in first:  # the copy of the base comes before
            nest.preds |= 1 << m | self.units[m].preds
        self.maker[node] = [*first, nest.id]
        self._depend(nest, lowering.new_reads())

    # --- placing ------------------------------------------------------------------------------------------------------

    def place(self, root: Root) -> None:
        """Put a root into the best nest that takes it, or into a new one."""
        node = root.node
        shape = node.shape
        if root.kind in ("reduce", "partial", "scan"):
            shape = node.args[0].shape
        elif root.source is not None:
            shape = root.source.shape
        size = math.prod(shape)
        if root.kind != "scan":
            tried = 0
            for ident, depends in self._candidates(node if root.source is None else root.source):
                nest = self.units[ident]
                if not isinstance(nest, Nest) or nest.closed or tried >= _MOST_TRIALS:
                    continue
                limit = _MOST_SCALARS if nest.size == 1 else _MOST_VALUES
                if len(nest.values) > limit or len(nest.reads) > _MOST_READS:
                    continue
                if nest.size == size:
                    kinds = [root.kind]
                elif (
                    root.kind == "full"
                    and depends
                    and nest.sealed
                    and nest.chunk is None
                    and nest.rows() == size
                ):
                    kinds = ["row"]
                else:
                    continue
                if (
                    nest.sealed
                    and root.kind in ("full", "piece")
                    and nest.size == size
                    and nest.rows() == size
                ):
                    kinds = ["full"]
                tried += 1
                for kind in kinds:
                    if self._try(nest, root, kind):
                        self.maker.setdefault(node, []).append(ident)
                        return
        nest = self._open(shape, closed=root.kind == "scan")
        lowering = self._begin(nest, shape, root)
        self.maker.setdefault(node, []).append(nest.id)
        self._depend(nest, lowering.new_reads())

    def _candidates(self, node: Node) -> list[tuple[int, bool]]:
        """Nests that make what the node uses, latest first, then nests that read the same."""
        makers: set[int] = set()
        readers: set[int] = set()
        for leaf in self._leaves_of(node):
            made = self.maker.get(leaf)
            if made is not None:
                makers.update(made)
            readers.update(self._readers.get(leaf, ()))
        out = [(i, True) for i in sorted(makers, reverse=True)]
        return out + [(i, False) for i in sorted(readers - makers, reverse=True)[:_MOST_TRIALS]]

    def _leaves_of(self, node: Node) -> dict[Node, None]:
        """Inputs and roots that the node's own expression reads."""
        found: dict[Node, None] = {}
        stack = list(node.args)
        seen = set(stack)
        while stack:
            a = stack.pop()
            if a in self.choices.roots or a.prim.name == "input":
                found[a] = None
                continue
            for x in a.args:
                if x not in seen:
                    seen.add(x)
                    stack.append(x)
        return found

    def _open(self, shape: tuple[int, ...], closed: bool = False) -> Nest:
        nest = Nest(len(self.units))
        nest.closed = closed
        nest.size = math.prod(shape)
        self.units.append(nest)
        return nest

    def _begin(self, nest: Nest, shape: tuple[int, ...], root: Root) -> Lowering:
        """Lower the first root of a nest; where split loops do not suit it, with loops left whole."""
        for splits in (MOST_SPLITS, 0):
            nest.vars, nest.values, nest.known, nest.opaque, nest.roots = [], [], {}, {}, []
            nest.chunk, nest.column, nest.sealed = None, 0, False
            lowering = self._lowerings[nest.id] = Lowering(nest, self.choices, splits)
            for n in shape:
                if n > 1:
                    lowering.loop(n)
            try:
                self._enter(lowering, root)
                return lowering
            except Misaligned:
                if splits == 0:
                    raise
        raise AssertionError

    def _enter(self, lowering: Lowering, root: Root) -> None:
        while True:
            try:
                lowering.add_root(root)
                return
            except Split as split:
                lowering.restart(split.var, split.inner)

    def _try(self, nest: Nest, root: Root, kind: str) -> bool:
        lowering = self._lowerings[nest.id]
        state = _State(nest, lowering)
        root.kind = kind if root.kind in ("full", "row") else root.kind
        try:
            self._enter(lowering, root)
        except Misaligned:
            pass
        else:
            fresh = lowering.new_reads()
            if self._acyclic(nest, fresh):
                self._depend(nest, fresh, joined=True)
                return True
        state.restore()
        root.kind = {"row": "full", "column": "partial"}.get(root.kind, root.kind)
        return False

    def _acyclic(self, nest: Nest, reads: list[Node]) -> bool:
        bit = 1 << nest.id
        for n in reads:
            for m in self.maker.get(n, ()):
                if m == nest.id or self.units[m].preds & bit:
                    return False
        return True

    def _depend(self, unit: Nest | Special, reads: list[Node], joined: bool = False) -> None:
        """Note that `unit` reads nodes, and so do, in effect, the units that depend on it.

        On a unit that has just been made nothing depends; on one that was `joined`, earlier ones may, whatever its
        number: they may have been joined to it themselves.
        """
        added = 0
        for n in reads:
            for m in self.maker.get(n, ()):
                added |= 1 << m | self.units[m].preds
            self._readers.setdefault(n, []).append(unit.id)
            if isinstance(unit, Nest):
                unit.reads[n] = None
        unit.preds |= added
        if added and joined:
            bit = 1 << unit.id
            for other in self.units:
                if other.preds & bit:
                    other.preds |= added

    def order(self) -> list[Nest | Special]:
        """The steps in an order in which everything is made before it is read."""
        return sorted(self.units, key=lambda u: (u.preds.bit_count(), u.id))


class _State:
    """What a failed trial must put back."""

    def __init__(self, nest: Nest, lowering: Lowering) -> None:
        self.nest, self.lowering = nest, lowering
        self.fields = {
            k: getattr(nest, k)
            for k in ("vars", "values", "known", "opaque", "chunk", "column", "sealed")
        }
        self.vars = list(nest.vars)
        self.flags = [v.reduced for v in nest.vars]
        self.roots = [(r, r.value, r.place, r.flat) for r in nest.roots]
        self.members, self.memo = lowering.members, lowering.memo
        self.visited = lowering.visited
        self.accounted = set(lowering.visited)

    def restore(self) -> None:
        for k, v in self.fields.items():
            setattr(self.nest, k, v)
        self.nest.vars[:] = self.vars
        for v, flag in zip(self.nest.vars, self.flags, strict=True):
            v.reduced = flag
        self.nest.roots = [r for r, *_ in self.roots]
        for r, value, place, flat in self.roots:
            r.value, r.place, r.flat = value, place, flat
        self.lowering.members, self.lowering.memo = self.members, self.memo
        self.visited.clear()
        self.visited.update(self.accounted)
        self.lowering.visited = self.visited
        for node in [n for n, r in self.members.items() if all(r is not k for k, *_ in self.roots)]:
            del self.members[node]
