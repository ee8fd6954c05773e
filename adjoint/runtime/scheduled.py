"""From a graph to its plan and the text of its kernels: everything that is done once for each program.

`Scheduled` has the graph scheduled, each unit written as kernels, memory planned, and all of it put down as a `Plan`.
`describe` prints a schedule for people. Read `Scheduled`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from adjoint.codegen.epilogue import EpilogueKernel
from adjoint.codegen.gemm import Phase
from adjoint.codegen.known import Known
from adjoint.codegen.nest import STATUS, Kernel
from adjoint.ir.graph import Graph, Node
from adjoint.runtime import jit
from adjoint.runtime.contractions import KERNELS, operations, takes_epilogue
from adjoint.runtime.plan import Call, Host, Place, Plan, Stage
from adjoint.runtime.steps import Options, steps_of
from adjoint.schedule.group import Special
from adjoint.schedule.in_place import checks, last_readers, replacements
from adjoint.schedule.memory_plan import plan_memory
from adjoint.schedule.values import Nest


@dataclass(frozen=True)
class Piece:
    """One step of a program that is taken apart.

    name: of the kernel, or host step.  unit: what was scheduled.  slots: of the memory it uses.
    """

    name: str
    unit: Any
    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Kernels:
    """Those of a special step.

    phases: one after another.  scratch: the name of the memory they share, if any; products that share a copy of an operand
    have the same.  scratch_bytes: its size.  stores: whether the result is written.  epilogue: the nest that goes on with it.
    """

    phases: tuple[Phase, ...]
    scratch: Any
    scratch_bytes: int
    stores: bool
    epilogue: EpilogueKernel | None


class Scheduled:
    """The way from a graph to a plan.

    plan: the result, without code.  texts: its kernels, as `jit.compile_kernels` takes them.  slots: where the address
    of a node's memory stands in the table of a run.

    apart: every kernel becomes a step of its own, described by the piece of the same number in `pieces`.
    """

    def __init__(self, graph: Graph, n_inputs: int, apart: bool = False) -> None:
        self.pieces: list[Piece] = []
        graph, order, stored = steps_of(graph)
        self.plan = plan = Plan(n_inputs, [o.size * o.dtype.itemsize for o in graph.outputs])
        self.slots: dict[Any, int] = {n: n.attrs[0] for n in graph.nodes if n.prim.name == "input"}
        place = {o: k for k, o in enumerate(graph.outputs)}
        self.slots.update({o: n_inputs + k for o, k in place.items()})
        self.stored, self.place = stored, place
        last = last_readers(order)
        unchecked = sum([checks(unit) for unit in order])  # steps that check indices, to come
        has_checks = unchecked > 0
        width = jit.target().vector_bytes
        made: list[tuple[Any, list]] = []  # (unit, its kernels)
        self.options = Options(order)
        known = Known()
        self.copied: set[Any] = set()  # copies of operands that an earlier product has made
        self.texts: list[tuple[str, str, list[str]]] = []
        for unit in order:
            nest = unit.epilogue if isinstance(unit, Special) else unit
            replaced: list[tuple[Node, Node]] = []
            if nest is not None:
                unchecked -= checks(nest)
                replaced = [(o, i) for o, i in replacements(nest, place) if last[i] is unit and not unchecked]
            if isinstance(unit, Special):
                made.append((unit, [self._special(unit, width, replaced, has_checks)] if unit.layouts else []))
            elif any(r.target in stored for r in unit.roots):
                kernel = known.kernel(unit, stored, width, replaced, has_checks)
                self._note(kernel.scalars, kernel.replaced)
                plan.flops += kernel.flops
                plan.bytes += kernel.bytes
                plan.work.append((kernel.flops, kernel.bytes))
                self.texts.append(("kernel", kernel.text, kernel.declarations))
                plan.names.append(_names(unit, stored))
                made.append((unit, [kernel]))
        self._place(made)
        self._stage(made, apart)

    def _note(self, scalars: list, replaced: Sequence[tuple[Node, Node]]) -> None:
        """What a nest reads besides memory, and which of its results may lie where an input does."""
        self.plan.in_place += [(self.place[o], i.attrs[0]) for o, i in replaced]
        for key in scalars:
            if key not in self.plan.scalars:
                self.plan.scalars.append(key)

    def _special(self, unit: Special, width: int, replaced: Sequence[tuple[Node, Node]], checked: bool) -> _Kernels:
        """The kernels of a matrix product, a convolution, attention or an order. The rest is for an epilogue, as of `NestKernel`."""
        node, plan = unit.node, self.plan
        more: dict[str, Any] = self.options.of(unit) if unit.kind == "matmul" else {}
        epilogue: EpilogueKernel | None = None
        if unit.epilogue is not None and unit.columns is not None:
            offer = takes_epilogue(unit, width, **more)
            assert offer is not None
            operands = {source for source, _ in unit.layouts}
            replaced = [(o, i) for o, i in replaced if i not in operands]
            epilogue = EpilogueKernel(unit.epilogue, self.stored, width, node, unit.columns, offer, replaced, checked)
            more["epilogue"] = epilogue.written()
            self._note(epilogue.scalars, epilogue.replaced)
        made = KERNELS[unit.kind](unit, width, **more)
        phases: tuple[Phase, ...] = made.phases
        scratch: tuple = ("scratch", unit.id)
        if made.copied is not None:
            scratch = ("copy", unit.layouts[made.copied][0], phases[0].text)
            if scratch in self.copied:
                phases = phases[1:]
            self.copied.add(scratch)
        flops = operations(node)
        moved = sum([a.size * a.dtype.itemsize for a in (*node.args, *unit.results)])
        name = unit.kind.removesuffix("_last")
        if epilogue is not None and unit.epilogue is not None:
            flops += epilogue.flops
            moved += epilogue.bytes - 2 * node.size * node.dtype.itemsize
            name = f"{unit.kind}+{_names(unit.epilogue, self.stored)}"
        plan.flops += flops
        plan.bytes += moved
        for phase in phases:
            self.texts.append((phase.name, phase.text, list(phase.declarations)))
            plan.names.append(name)
            plan.work.append((0, 0))
        plan.work[-1] = flops, moved  # packing comes before the product
        return _Kernels(phases, scratch if made.scratch_bytes else None, made.scratch_bytes, made.stores, epilogue)

    def _place(self, made: list[tuple[Any, list]]) -> None:
        """Slots and arena offsets of everything that is neither input nor output."""
        life: dict[Any, list[int]] = {}

        def touch(key: Any, at: int) -> None:
            if key in self.slots:
                return
            span = life.setdefault(key, [at, at])
            span[0], span[1] = min(span[0], at), max(span[1], at)

        uses_status = False
        scratch: dict[Any, int] = {}
        for at, (unit, kernels) in enumerate(made):
            if isinstance(unit, Special):
                for n in unit.reads:
                    touch(n, at)
                if not unit.layouts:
                    for n in unit.results:
                        if n.parts is None:
                            touch(n, at)
                else:
                    for key in _results(unit) if kernels[0].stores else ():
                        touch(key, at)
                    for key in kernels[0].epilogue.buffers if kernels[0].epilogue else ():
                        if key == STATUS:
                            uses_status = True
                        else:
                            touch(key, at)
                    if kernels[0].scratch:
                        scratch[kernels[0].scratch] = kernels[0].scratch_bytes
                        touch(kernels[0].scratch, at)
            else:
                for b in kernels[0].buffers:
                    if b == STATUS:
                        uses_status = True
                    else:
                        touch(b, at)
        blocks = []
        for key, (start, end) in life.items():
            if isinstance(key, Node):
                size = key.size * key.dtype.itemsize
            elif key in scratch:
                size = scratch[key]
            else:
                shape, dtype = key[2]
                size = math.prod(shape) * dtype.itemsize
            blocks.append((key, size, start, end))
        offsets, top = plan_memory(blocks)
        if uses_status:
            offsets[STATUS] = top
            blocks.append((STATUS, 8, 0, len(made)))
            top += 64
        plan = self.plan
        plan.arena_bytes = top
        base = plan.first_fixed
        for k, key in enumerate(offsets):
            self.slots[key] = base + k
        plan.offsets = list(offsets.values())
        sizes = {key: nbytes for key, nbytes, _, _ in blocks}
        plan.sizes = [sizes[key] for key in offsets]
        plan.status = self.slots[STATUS] - base if uses_status else None

    def _stage(self, made: list[tuple[Any, list]], apart: bool) -> None:
        """Calls of kernels one after another, with host steps between them."""
        calls: list[Call] = []
        units: list[int] = []
        names = iter(self.plan.names)

        def flush() -> None:
            if calls:
                self.plan.stages.append(Stage(tuple(calls), tuple(units)))
                calls.clear()
                units.clear()

        def call(number: int, unit: Any, made: Call, slots: tuple[int, ...]) -> None:
            calls.append(made)
            units.append(number)
            name = next(names)
            if apart:
                flush()
                self.pieces.append(Piece(name, unit, slots))

        for number, (unit, kernels) in enumerate(made):
            if isinstance(unit, Special) and unit.kind == "host":
                flush()
                self.plan.stages.append(Stage(self._host(unit), (number,)))
                if apart:
                    used = [self.slots[n] for n in (*unit.node.args, *unit.results) if n in self.slots]
                    self.pieces.append(Piece(unit.node.prim.name, unit, tuple(used)))
            elif isinstance(unit, Special):
                made_of: _Kernels = kernels[0]
                operands = [self.slots[source] for source, _ in unit.layouts]
                results = [self.slots[key] for key in _results(unit)] if made_of.stores else []
                scratch = [self.slots[made_of.scratch]] if made_of.scratch else []
                slots, rest = self._table(made_of.epilogue) if made_of.epilogue else ([], [])
                index = (*operands, *(results or [0]), *(scratch or [0]), *slots, *rest)  # what there is not has a place, too
                large = operations(unit.node) > 2_000_000
                for phase in made_of.phases:
                    call(number, unit, Call(index, phase.nblocks, large * phase.group), (*operands, *results, *scratch, *slots))
            else:
                kernel: Kernel = kernels[0]
                slots, rest = self._table(kernel)
                call(number, unit, Call((*slots, *rest) or (0,), kernel.nblocks, int(kernel.parallel)), tuple(slots))
        flush()

    def _table(self, kernel: Kernel | EpilogueKernel) -> tuple[list[int], list[int]]:
        """The index table of a nest: its buffers, and what follows them."""
        return [self.slots[b] for b in kernel.buffers], [*(self.plan.scalars.index(key) for key in kernel.scalars), *kernel.offsets]

    def _host(self, unit: Special) -> Host:
        """A step that NumPy takes."""
        node = unit.node

        def place(n: Node) -> Place:
            return Place(self.slots[n] if n.size else None, n.dtype, tuple(n.shape))

        if node.parts is None:
            targets: list[tuple[int | None, Place]] = [(None, place(node))]
        else:
            targets = [(p.attrs, place(p)) for p in unit.results[1:] if p in self.slots]
        return Host(node.prim.name, node.attrs, tuple([place(a) for a in node.args]), tuple(targets), node.dtype)


def _names(nest: Nest, stored: Container[Node]) -> str:
    return "+".join(dict.fromkeys(r.node.prim.name for r in nest.roots if r.target in stored))


def _results(unit: Special) -> list[Any]:
    """Whose memory a special step with kernels writes; of several results those that nobody reads have memory as well."""
    parts = unit.node.parts
    if parts is None:
        return [unit.node]
    read = {node.attrs: node for node in unit.results[1:]}
    return [read.get(k, ("unread", unit.id, part, k)) for k, part in enumerate(parts)]


def describe(graph: Graph) -> str:
    """The schedule of a graph for people: every step, nests with their loops and values."""
    graph, order, stored = steps_of(graph)
    made = [u for u in order if isinstance(u, Special) or any(r.target in stored for r in u.roots)]
    return "\n\n".join(describe_unit(unit, stored) for unit in made)


def describe_unit(unit: Any, stored: Container[Node]) -> str:
    """One step of a schedule for people; stored: the nodes that have memory."""
    if isinstance(unit, Special):
        strides = f" strides {[s for _, s in unit.layouts]}" if unit.layouts else ""
        text = f"{unit.kind} {unit.node!r}{strides}"
        return text if unit.epilogue is None else f"{text}\n{describe_unit(unit.epilogue, stored).replace('nest', 'with its tiles', 1)}"
    loops = ", ".join(f"{v!r}<{v.extent}{' reduced' if v.reduced else ''}" for v in unit.vars)
    lines = [f"nest [{loops}]", *(f"  {v!r}" for v in unit.values)]
    lines += [f"  {r.kind} {r.target!r} <- v{r.value.id}" for r in unit.roots if r.target in stored]
    return "\n".join(lines)
