"""Graph nodes at symbolic indices: from tensors to the scalar values of a loop nest.

`Lowering.value(node, index, pred)` is the whole idea: the value of a tensor node at an index. A pointwise primitive
asks its operands at the same index; a movement primitive asks its operand at another index, possibly under a
predicate; a node that lies in memory becomes a load. `fit` expresses the index of a tensor of some shape in the nest's loops.
"""

from __future__ import annotations

import itertools
import math
from typing import Protocol

from adjoint import dtypes
from adjoint.ir.graph import Node
from adjoint.ir.prims import Shape
from adjoint.schedule import expr as ex
from adjoint.schedule.expr import Expr, Var
from adjoint.schedule.values import Nest, Root, Value

Index = tuple[Expr, ...]

MOST_SPLITS = 8


class Misaligned(Exception):
    """The node cannot be computed in this nest."""


class Split(Exception):
    """The loop `var` should become two, the inner one of extent `inner`; then lowering starts again."""

    def __init__(self, var: Var, inner: int) -> None:
        self.var, self.inner = var, inner


class Choices(Protocol):
    """What lowering asks of the scheduler: which nodes have memory, which small reductions are unrolled."""

    roots: set[Node]
    inlined: set[Node]


# What a small reduction becomes when it is unrolled; on bool these names mean or, and.
COMBINE = {"sum": "add", "prod": "mul", "amax": "maximum", "amin": "minimum"}


class Lowering:
    """Lowers nodes into one nest.

    memo: values by (node, index, predicate).  members: roots of this nest whose values may be used directly.
    visited: values whose loads `new_reads` has already told.  splits: how often a loop may still be split.
    """

    def __init__(self, nest: Nest, choices: Choices, splits: int) -> None:
        self.nest, self.choices = nest, choices
        self.splits = splits
        self.members: dict[Node, Root] = {}
        self.memo: dict[tuple, Value] = {}
        self.visited: set[int] = set()

    # --- the nest's loops -------------------------------------------------------------------------

    def loop(self, extent: int, reduced: bool = False) -> Var:
        bit = len(self.nest.opaque) + len(self.nest.vars)
        var = Var(bit, "loop", None, 0, extent - 1, 1 << bit)
        var.reduced = reduced
        self.nest.vars.append(var)
        return var

    def restart(self, var: Var, inner: int) -> None:
        """Split a loop in two and lower everything again, which may split further loops."""
        nest, roots = self.nest, self.nest.roots
        while True:
            self.splits -= 1
            plan = []
            for v in nest.vars:
                if v is var:
                    plan += [(v.extent // inner, v.reduced), (inner, v.reduced)]
                else:
                    plan.append((v.extent, v.reduced))
            nest.vars, nest.values, nest.known, nest.opaque, nest.roots = [], [], {}, {}, []
            nest.chunk, nest.column, nest.sealed = None, 0, False
            self.memo, self.visited, self.members = {}, set(), {}
            for extent, reduced in plan:
                self.loop(extent, reduced)
            try:
                for root in roots:
                    self.add_root(root)
                return
            except Split as split:
                var, inner = split.var, split.inner

    def fit(self, shape: Shape, rows_only: bool = False) -> tuple[Index, list[list[Var]]]:
        """The index of a tensor of `shape` in the loops, in order, and the loops that make up each axis."""
        loops = [v for v in self.nest.vars if not (rows_only and v.reduced)]
        index: list[Expr] = []
        groups: list[list[Var]] = []
        at = 0
        for n in shape:
            group: list[Var] = []
            product = 1
            while product < n:
                if at == len(loops):
                    raise Misaligned
                v = loops[at]
                product *= v.extent
                group.append(v)
                at += 1
                if n % product:
                    previous = product // v.extent
                    if (
                        previous
                        and n % previous == 0
                        and v.extent % (n // previous) == 0
                        and n // previous > 1
                    ):
                        raise Split(v, v.extent // (n // previous))
                    raise Misaligned
            e, stride = ex.ZERO, 1
            for v in reversed(group):
                e = ex.add(e, ex.scale(ex.of(v), stride))
                stride *= v.extent
            index.append(e)
            groups.append(group)
        if at != len(loops):
            raise Misaligned
        return tuple(index), groups

    # --- roots ------------------------------------------------------------------------------------

    def add_root(self, root: Root) -> None:
        """Lower a root and enter it into the nest. Raises Misaligned or Split, and then has entered nothing."""
        node, nest = root.node, self.nest
        if root.kind in ("full", "row", "piece"):
            source = root.source if root.kind == "piece" else node
            assert source is not None
            index, _ = self.fit(source.shape, rows_only=root.kind == "row")
            if root.kind == "piece":
                root.value = self.value(source, index, None)
                moved = [ex.shift(e, o) for e, o in zip(index, root.offset, strict=True)]
                root.place = ex.linear(moved, ex.strides_of(node.shape))
            else:
                root.value = self.compute(node, index, None)
                root.place = root.flat = ex.linear(index, ex.strides_of(node.shape))
        elif root.kind in ("reduce", "partial", "column", "scan"):
            self._add_reduction(root)
        else:
            self._add_scatter(root)
        nest.roots.append(root)
        if root.kind in ("full", "row", "reduce"):
            self.members[node] = root

    def _add_reduction(self, root: Root) -> None:
        node, nest = root.node, self.nest
        name = node.prim.name
        operand = node.args[0]
        index, groups = self.fit(operand.shape)
        axes = reduced_axes(node)
        wanted = {v for i in axes for v in groups[i]}
        if root.kind in ("partial", "column") and self._add_column(root, index, groups, wanted):
            return
        if nest.sealed:
            if any(v.reduced != (v in wanted) for v in nest.vars):
                raise Misaligned
            if (nest.chunk is not None) != (root.kind == "partial"):
                raise Misaligned
        value = self.value(operand, index, None)
        for v in nest.vars:
            v.reduced = v in wanted
        row_mask = sum(v.mask for v in nest.vars if not v.reduced)
        kept = [e for i, e in enumerate(index) if i not in axes]
        strides = ex.strides_of(tuple(n for i, n in enumerate(operand.shape) if i not in axes))
        root.place = root.flat = ex.linear(kept, strides)
        if root.kind == "scan":
            values = (value, *[self.value(x, index, None) for x in node.args[1:]])
            root.value = nest.value("scan", values, name, node.dtype)
            root.value.mask |= sum(v.mask for v in wanted)
            root.place = ex.linear(index, ex.strides_of(node.shape))
        else:
            position = index[axes[0]] if name in ("argmax", "argmin") else None
            operation = node.attrs[0] if root.kind == "partial" else name
            made = nest.value("reduce", (value,), (operation, position), node.dtype)
            made.mask, made.stage, made.cost = row_mask, value.stage + 1, 0
            root.value = made
        if root.kind == "partial":
            _, axis, chunk, _ = node.attrs
            group = groups[axis]
            chunk_steps, inner = chunk, 1
            for v in reversed(group[1:]):
                inner *= v.extent
            if chunk_steps % inner:
                raise Misaligned
            found = (group[0], chunk_steps // inner)
            if nest.sealed and nest.chunk is not None and nest.chunk != found:
                raise Misaligned
            nest.chunk = found
        nest.sealed = True

    def _add_column(
        self, root: Root, index: Index, groups: list[list[Var]], wanted: set[Var]
    ) -> bool:
        """A partial reduction over the rows of a nest whose other reductions run over its columns.

        Its pieces are blocks of rows, each added up in memory row by row: the same order, and so the same bits, as in
        a nest of its own.
        """
        node, nest = root.node, self.nest
        operation, axis, chunk, axes = node.attrs
        rows = [v for v in nest.vars if not v.reduced]
        if not nest.sealed or nest.chunk or not nest.vars[-1].reduced or set(rows) != wanted:
            return False
        if groups[axis][0] is not rows[0]:
            return False
        block = (
            chunk * math.prod(v.extent for v in rows) // math.prod(v.extent for v in groups[axis])
        )
        if nest.column not in (0, block):
            return False
        root.value = self.value(node.args[0], index, None)
        kept = [e for i, e in enumerate(index) if i not in axes]
        root.place = ex.linear(kept, ex.strides_of(node.shape[1:]))
        root.kind, nest.column = "column", block
        return True

    def _add_scatter(self, root: Root) -> None:
        """Values (operand last) go to the rows of the target that the index names, in order."""
        node = root.node
        index_node, values = node.args[-2], node.args[-1]
        index, _ = self.fit(values.shape)
        k = len(index_node.shape)
        row = self._checked(index_node, index[:k], None, node.shape[0])
        root.value = self.value(values, index, None)
        root.place = ex.linear((row, *index[k:]), ex.strides_of(node.shape))

    def new_reads(self) -> list[Node]:
        """Nodes in memory that the nest's roots read and that no earlier call has told."""
        found: dict[Node, None] = {}
        for root in self.nest.roots:
            stack = [root.value, *dynamic_values(root.place)]
            while stack:
                v = stack.pop()
                if v.id in self.visited:
                    continue
                self.visited.add(v.id)
                if v.op == "load":
                    found[v.attrs[0]] = None
                stack.extend(v.args)
        return list(found)

    # --- values -----------------------------------------------------------------------------------

    def value(self, node: Node, index: Index, pred: Value | None) -> Value:
        """The value of `node` at `index`, anything where `pred` is false."""
        key = (node, index, pred)
        found = self.memo.get(key)
        if found is None:
            member = self.members.get(node)
            if member is not None:
                if ex.linear(index, ex.strides_of(node.shape)) != member.flat:
                    raise Misaligned
                found = member.value
            elif node in self.choices.roots or node.prim.name == "input":
                found = self._load(node, index, pred)
            else:
                found = self.compute(node, index, pred)
            self.memo[key] = found
        return found

    def compute(self, node: Node, index: Index, pred: Value | None) -> Value:
        """The same, by the node's definition and not from memory."""
        kind, name = node.prim.kind, node.prim.name
        if kind == "pointwise":
            args = tuple([self.value(a, index, pred) for a in node.args])
            if name == "cast" and args[0].dtype is node.dtype:
                return args[0]
            attrs = node.attrs if name == "integer_pow" else None
            return self.nest.value(name, args, attrs, node.dtype)
        if kind == "reduce":
            return self._unrolled(node, index, pred)
        rule = _RULES.get(name)
        if rule is None:
            raise Misaligned
        return rule(self, node, index, pred)

    def _load(self, node: Node, index: Index, pred: Value | None) -> Value:
        flat = ex.linear(index, ex.strides_of(node.shape))
        args = dynamic_values(flat)
        if pred is not None:
            args = (*args, pred)
        return self.nest.value(
            "load", args, (node, flat, pred is not None), node.dtype, ex.mask(flat)
        )

    def constant(self, value: float, dtype: dtypes.DType) -> Value:
        return self.nest.value("const", (), value, dtype)

    def integer(self, e: Expr) -> Value:
        """An index expression as an int64 value."""
        return self.nest.value("index", dynamic_values(e), e, dtypes.int64, ex.mask(e))

    def dynamic(self, value: Value, lo: int, hi: int) -> Expr:
        """A run-time int64 value as an index expression."""
        key = ("value", value.id, lo, hi)
        var = self.nest.opaque.get(key)
        if var is None:
            var = self.nest.opaque[key] = self._opaque("value", value, lo, hi, value.mask)
        return ex.of(var)

    def _opaque(self, kind: str, payload: object, lo: int, hi: int, mask: int) -> Var:
        return Var(len(self.nest.vars) + len(self.nest.opaque), kind, payload, lo, hi, mask)

    def within(self, e: Expr, lo: int, hi: int) -> Value | None:
        """The condition lo <= e < hi; None where it always holds."""
        least, most = ex.bounds(e)
        if least >= lo and most < hi:
            return None
        return self.nest.value("cond", dynamic_values(e), (e, lo, hi), dtypes.bool, ex.mask(e))

    def both(self, a: Value | None, b: Value | None) -> Value | None:
        if a is None or b is None or a is b:
            return a if b is None else b
        return self.nest.value("bitwise_and", (a, b), None, dtypes.bool)

    def select(self, cond: Value | None, a: Value, b: Value) -> Value:
        if cond is None or a is b:
            return a
        return self.nest.value("where", (cond, a, b), None, a.dtype)

    def split(self, e: Expr, n: int) -> tuple[Expr, Expr]:
        """Quotient and remainder of an index expression by n."""
        if n == 1:
            return e, ex.ZERO
        whole = tuple((v, c // n) for v, c in e[1] if c % n == 0)
        rest = (e[0] % n, tuple((v, c) for v, c in e[1] if c % n))
        lo, hi = ex.bounds(rest)
        lift = (
            -(lo // n) if lo < 0 else 0
        )  # machines divide towards zero, so divide what is not negative
        rest, lo, hi = ex.shift(rest, lift * n), lo + lift * n, hi + lift * n
        quotient = (e[0] // n - lift, whole)
        if hi < n:
            return quotient, rest
        if self.splits > 0:
            for v, c in rest[1]:
                if (
                    v.kind == "loop"
                    and c > 0
                    and n % c == 0
                    and v.extent % (n // c) == 0
                    and v.extent > n // c > 1
                ):
                    if n // c < 8 and v is self.nest.vars[-1]:
                        continue  # the vectorised loop stays long
                    raise Split(v, n // c)
        out = []
        for kind, low, high in (("div", lo // n, hi // n), ("mod", 0, n - 1)):
            key = (kind, rest, n)
            var = self.nest.opaque.get(key)
            if var is None:
                var = self.nest.opaque[key] = self._opaque(
                    kind, (rest, n), low, high, ex.mask(rest)
                )
            out.append(ex.of(var))
        return ex.add(quotient, out[0]), out[1]

    def reshaped(self, index: Index, shape: Shape, operand: Shape) -> Index:
        """Where the element `index` of `shape` lies in the same data seen as `operand`."""
        out: list[Expr] = []
        i, j = len(shape), len(operand)
        while i > 0 or j > 0:
            # the shortest runs of axes, from the end, with equal products
            a = b = 1
            flat = ex.ZERO
            first = True
            j_end = j
            while first or a != b:
                first = False
                if a <= b and i > 0:
                    i -= 1
                    flat = ex.add(flat, ex.scale(index[i], a))
                    a *= shape[i]
                elif j > 0:
                    j -= 1
                    b *= operand[j]
                else:
                    break
            while j > 0 and operand[j - 1] == 1 and a == b:
                j -= 1
            run = operand[j:j_end]
            part: list[Expr] = []
            for k in range(len(run) - 1, 0, -1):
                flat, low = self.split(flat, run[k]) if run[k] != 1 else (flat, ex.ZERO)
                part.append(low)
            if run:
                part.append(flat if run[0] != 1 else ex.ZERO)
            out = list(reversed(part)) + out
        return tuple(out)

    def _unrolled(self, node: Node, index: Index, pred: Value | None) -> Value:
        """A small reduction written out: neighbours first, then pairs of pairs."""
        if node not in self.choices.inlined:
            raise Misaligned
        operand, axes = node.args[0], node.attrs
        values = []
        for point in itertools.product(*[range(operand.shape[a]) for a in axes]):
            at, rest = dict(zip(axes, point, strict=True)), iter(index)
            where = tuple(
                ex.constant(at[i]) if i in at else next(rest) for i in range(len(operand.shape))
            )
            values.append(self.value(operand, where, pred))
        name = COMBINE[node.prim.name]
        while len(values) > 1:
            pairs = [
                self.nest.value(name, (a, b), None, node.dtype)
                for a, b in zip(values[::2], values[1::2])
            ]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
        return values[0]

    def _checked(self, index_node: Node, index: Index, pred: Value | None, n: int) -> Expr:
        """The row that an index tensor names, checked and counted from the front."""
        i = self.value(index_node, index, pred)
        if i.dtype is not dtypes.int64:
            i = self.nest.value("cast", (i,), None, dtypes.int64)
        if i.op != "check" or i.attrs[0] > n:
            i = self.check(i, pred, (n, True))
        return self.dynamic(i, 0, n - 1)

    def check(self, i: Value, pred: Value | None, attrs: tuple[int, bool]) -> Value:
        """An index counted from the front, of which the kernel notes whether it is out of range."""
        return self.nest.value("check", (i,) if pred is None else (i, pred), attrs, dtypes.int64)

    def starts(
        self, starts: tuple[int | None, ...], extra: tuple[Node, ...], rooms: list[int]
    ) -> list[Expr]:
        """Starts of a region, the run-time ones kept between 0 and `rooms`, so that memory is safe."""
        rest, out = iter(extra), []
        for s, room in zip(starts, rooms, strict=True):
            if s is None:
                v = self.value(next(rest), (), None)
                if v.dtype is not dtypes.int64:
                    v = self.nest.value("cast", (v,), None, dtypes.int64)
                v = self.nest.value(
                    "maximum", (v, self.constant(0, dtypes.int64)), None, dtypes.int64
                )
                v = self.nest.value(
                    "minimum", (v, self.constant(room, dtypes.int64)), None, dtypes.int64
                )
                out.append(self.dynamic(v, 0, room))
            else:
                out.append(ex.constant(s))
        return out


def dynamic_values(e: Expr) -> tuple[Value, ...]:
    """The run-time values that an index expression needs."""
    found: dict[Value, None] = {}
    for var, _ in e[1]:
        if var.kind == "value":
            found[var.payload] = None
        elif var.kind != "loop":
            found.update(dict.fromkeys(dynamic_values(var.payload[0])))
    return tuple(found)


def reduced_axes(node: Node) -> tuple[int, ...]:
    if node.prim.name == "partial":
        return node.attrs[3]
    return node.attrs if isinstance(node.attrs, tuple) else (node.attrs,)


# --- movement and creation: one rule each ---------------------------------------------------------


def _const(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    return low.constant(node.attrs[0], node.dtype)


def _scalar(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    return low.nest.value("scalar", (), node.attrs[0], node.dtype)


def _full(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    return low.value(node.args[0], (), None)


def _iota(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    return low.integer(index[0])


def _random_bits(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    seed, offset = (low.value(a, (), None) for a in node.args)
    counter = low.integer(ex.linear(index, ex.strides_of(node.shape)))
    return low.nest.value("random_bits", (counter, seed, offset), None, dtypes.int64)


def _expand(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    shape = node.args[0].shape
    tail = index[len(index) - len(shape) :]
    return low.value(
        node.args[0],
        tuple(ex.ZERO if n == 1 else e for n, e in zip(shape, tail, strict=True)),
        pred,
    )


def _reshape(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    return low.value(node.args[0], low.reshaped(index, node.shape, node.args[0].shape), pred)


def _permute(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    moved: list[Expr] = [ex.ZERO] * len(index)
    for i, p in enumerate(node.attrs):
        moved[p] = index[i]
    return low.value(node.args[0], tuple(moved), pred)


def _flip(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    moved = [
        ex.shift(ex.scale(e, -1), n - 1) if i in node.attrs else e
        for i, (e, n) in enumerate(zip(index, node.shape, strict=True))
    ]
    return low.value(node.args[0], tuple(moved), pred)


def _slice(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    starts, sizes, steps = node.attrs
    operand = node.args[0]
    rooms = [n - (k - 1) * s - 1 for n, k, s in zip(operand.shape, sizes, steps, strict=True)]
    begins = low.starts(starts, node.args[1:], rooms)
    moved = [ex.add(b, ex.scale(e, s)) for b, e, s in zip(begins, index, steps, strict=True)]
    return low.value(operand, tuple(moved), pred)


def _region(
    low: Lowering,
    index: Index,
    shape: Shape,
    region: Shape,
    starts: tuple[int | None, ...],
    steps: Shape,
    extra: tuple[Node, ...],
) -> tuple[Value | None, Index]:
    """Whether `index` lies in the region, and where in it."""
    rooms = [n - (k - 1) * s - 1 if k else 0 for n, k, s in zip(shape, region, steps, strict=True)]
    begins = low.starts(starts, extra, rooms)
    inside: Value | None = None
    where: list[Expr] = []
    for e, b, n, step in zip(index, begins, region, steps, strict=True):
        relative = ex.add(e, ex.scale(b, -1))
        inside = low.both(inside, low.within(relative, 0, (n - 1) * step + 1))
        if step > 1 and n > 1:
            # positive before dividing, so that quotients of points outside stay defined
            least = ex.bounds(relative)[0]
            lift = -(-max(0, -least) // step)
            quotient, rest = low.split(ex.shift(relative, lift * step), step)
            inside = low.both(inside, low.within(rest, 0, 1))
            relative = ex.shift(quotient, -lift)
        where.append(relative if n > 1 else ex.ZERO)
    return inside, tuple(where)


def _place(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    shape, starts, steps = node.attrs
    operand = node.args[0]
    zero = low.constant(0, node.dtype)
    if operand.size == 0:
        return zero
    inside, where = _region(low, index, shape, operand.shape, starts, steps, node.args[1:])
    return low.select(inside, low.value(operand, where, low.both(pred, inside)), zero)


def _slice_update(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    starts, steps = node.attrs
    base, update = node.args[:2]
    if update.size == 0:
        return low.value(base, index, pred)
    inside, where = _region(low, index, base.shape, update.shape, starts, steps, node.args[2:])
    new = low.value(update, where, low.both(pred, inside))
    return new if inside is None else low.select(inside, new, low.value(base, index, pred))


def _cat(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    axis, end = node.attrs, node.shape[node.attrs]
    out: Value | None = None
    for a in reversed(node.args):
        n = a.shape[axis]
        start = end - n
        end = start
        if not n:
            continue
        at = ex.shift(index[axis], -start)
        inside = low.within(at, 0, n)
        v = low.value(
            a, (*index[:axis], at if n > 1 else ex.ZERO, *index[axis + 1 :]), low.both(pred, inside)
        )
        out = v if out is None else low.select(inside, v, out)
    assert out is not None
    return out


def _window(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    dims, _, strides, dilations = node.attrs
    rank = len(index) - len(dims)
    moved = list(index[:rank])
    for j, (d, s, k) in enumerate(zip(dims, strides, dilations, strict=True)):
        moved[d] = ex.add(ex.scale(moved[d], s), ex.scale(index[rank + j], k))
    return low.value(node.args[0], tuple(moved), pred)


def _take(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    operand, index_node = node.args
    k = len(index_node.shape)
    row = low._checked(index_node, index[:k], pred, operand.shape[0])
    out = low.value(operand, (row, *index[k:]), pred)
    if row[1]:
        check = row[1][0][0].payload
        if not _depends(out, check):  # one element, or one number everywhere: the index is checked all the same
            out = low.nest.value("guard", (out, check), None, out.dtype)
    return out


def _depends(value: Value, on: Value) -> bool:
    """Whether `on` is among what `value` is computed from."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        if v is on:
            return True
        if v.id not in seen:
            seen.add(v.id)
            stack.extend(v.args)
    return False


def _position(low: Lowering, node: Node, index: Index, pred: Value | None) -> Value:
    n, wraps, _ = node.attrs
    return low.check(low.value(node.args[0], index, pred), pred, (n, wraps))


_RULES = {
    "const": _const, "scalar": _scalar, "full": _full, "iota": _iota, "random_bits": _random_bits, "expand": _expand,
    "reshape": _reshape, "permute": _permute, "flip": _flip, "slice": _slice, "place": _place,
    "slice_update": _slice_update, "cat": _cat, "window": _window, "take": _take, "position": _position,
}  # fmt: skip

LOWERED = frozenset(_RULES)


def extent_of(shape: Shape, axes: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axes)
