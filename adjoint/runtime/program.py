"""A compiled graph, ready to run: `compile_graph(graph)` and `Program.run(buffers, scalars)`.

A program has a plan (`plan.py`), made by scheduling its graph (`scheduled.py`) or found on disk (`plan_cache.py`), and the
frames that its runs write to, one for each thread that is inside `run`. Where LLVM is missing the whole graph is
interpreted by `ir/reference.py`. Start at `Program.run`.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from adjoint import config
from adjoint.ir.graph import Graph, Node
from adjoint.ir.reference import apply, run_graph
from adjoint.runtime import jit, memory, plan_cache, pool
from adjoint.runtime.entry import REFUSED, WANTED, WRONG
from adjoint.runtime.garbage import without_collections
from adjoint.runtime.memory import Buffer
from adjoint.runtime.plan import Frame, Ready
from adjoint.storage import decode, encode

_COLD_ELEMENTS = 4096  # a program of exact primitives on so few elements is interpreted the first time
RUNS, LAST = 5, 6  # where the words of a `trace.native_end.Ending` count

# of everything run so far: bytes as the kernels estimate them, and how often anything was run
counters = {"bytes_moved": 0, "runs": 0}
living: weakref.WeakSet[Program] = weakref.WeakSet()


class Program:
    """Runs one graph; any number of threads may do so at once.

    kernels: names of the machine-code kernels in order, n_kernels their number.  bytes_moved, flops: estimates for one
    run.  text: the scheduled loops.  The counts compile the program if its first run has not.  runs: how often it has
    run.  last: how many runs of any program there had been at its last one.  seconds: that scheduling, and LLVM, took.
    in_place: (result, input) that may have one memory, for those who run it as `in_place.Once`.
    apart: whether every kernel is a step of its own, for those who watch them.
    """

    apart = False
    in_place: Sequence[tuple[int, int]] = ()

    def __init__(
        self,
        graph: Graph | Callable[[], Graph],
        key: bytes | None = None,
        found: tuple[Ready, float] | None = None,
        trials: int = 0,
    ) -> None:
        """graph: or how to make it, if somebody asks.  key: under which the plan is left on disk, once there is one.
        found: what was there already, and the seconds that took.  trials: how many runs come before it is compiled; the graph
        is as it was recorded, if there are any."""
        self._graph, self._key = graph, key
        self._lock = threading.Lock()
        self._built: Ready | None = None
        self._frames: list[Frame] = []
        self.runs, self.last = 0, counters["runs"]
        self.endings: list[np.ndarray] = []  # words of `trace.native_end`, which runs programs, too
        self.seconds: dict[str, float] = {}
        living.add(self)
        self._native = jit.available()
        self._raw = trials > 0  # whether the graph is to be simplified yet
        self.cold = 0  # how many of the next runs go through NumPy
        if self._native and found is None:
            self.cold = trials or _may_start_cold(self.graph)
        if found is not None:
            self._take(found[0], {"from disk": found[1]})
        elif self._native and not self.cold:
            self._build()

    @property
    def graph(self) -> Graph:
        made = self._graph
        if not isinstance(made, Graph):
            made = self._graph = made()
        return made

    @property
    def inputs(self) -> list[Node]:
        return [n for n in self.graph.nodes if n.prim.name == "input"]

    @property
    def n_inputs(self) -> int:
        """How many of the caller's buffers there have to be."""
        return 1 + max((n.attrs[0] for n in self.inputs), default=-1)

    def _build(self) -> Ready:
        return self._built or without_collections(self._build_once)

    def _build_once(self) -> Ready:
        with self._lock:
            if self._built is not None:
                return self._built
            from adjoint.runtime.scheduled import Scheduled
            from adjoint.runtime.sizes import shared

            began, llvm = time.perf_counter(), jit.counters.compile_seconds
            if self._raw:
                self._graph, self._raw = _simplified(self.graph), False
            scheduled = Scheduled(self.graph, self.n_inputs, self.apart)
            texts = shared(scheduled.texts, scheduled.plan)
            codes = jit.compile_kernels(texts)
            built = Ready(scheduled.plan, codes)
            if self.apart:
                built.scheduled = scheduled
            elif self._key is not None:
                plan_cache.store(self._key, scheduled.plan, codes)
            llvm = jit.counters.compile_seconds - llvm
            self._take(built, {"schedule": time.perf_counter() - began - llvm, "LLVM": llvm})
            if config.get("ADJOINT_DEBUG") >= 4:
                print("\n".join([self.text, *(text for _, text, _ in texts)]), file=sys.stderr)
            return built

    def _take(self, built: Ready, seconds: dict[str, float]) -> None:
        """Run with this plan from now on."""
        self.seconds = seconds
        self._frames.append(Frame(built))
        if type(self) is Program and built.enter is not None:
            self.in_place = built.plan.in_place
        self._built = built
        names = built.plan.names
        if config.get("ADJOINT_DEBUG") >= 1:
            print(f"program of {len(names)} kernels: {', '.join(names)}", file=sys.stderr)

    def release(self) -> None:
        """Give back the memory for what is neither input nor output; the next run asks for it again."""
        self._frames.clear()

    def uses(self) -> int:
        """How often it has run, native runs included."""
        return self.runs + sum([int(words[RUNS]) for words in self.endings])

    def forget_ending(self, words: np.ndarray) -> None:
        """Count here what was counted in the words of an ending that is no more."""
        if any([known is words for known in self.endings]):
            self.runs, self.last = self.runs + int(words[RUNS]), max(self.last, int(words[LAST]))
            self.endings = [known for known in self.endings if known is not words]

    def last_use(self) -> int:
        """`last`, native runs included."""
        return max([self.last, *(int(words[LAST]) for words in self.endings)])

    def compile(self) -> None:
        """Make machine code now, where the first run would go without."""
        self.cold = 0
        if self._native:
            self._build()

    @property
    def kernels(self) -> list[str]:
        return self._build().plan.names if self._native else []

    @property
    def n_kernels(self) -> int:
        return len(self.kernels)

    @property
    def bytes_moved(self) -> int:
        return self._build().plan.bytes if self._native else 0

    @property
    def flops(self) -> int:
        return self._build().plan.flops if self._native else 0

    @property
    def text(self) -> str:
        from adjoint.runtime.scheduled import describe

        return describe(self.graph)

    def run(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """Compute the outputs, each in a fresh buffer.

        buffers, scalars: what the graph's input and scalar nodes name by index. IndexError or RuntimeError as the
        reference raises them.
        """
        self.last = counters["runs"] = counters["runs"] + 1
        self.runs += 1
        built = self._built
        if built is None:
            cold = self.cold
            if cold or not self._native:
                self.cold = max(0, cold - 1)
                return self.interpret(buffers, scalars)
            built = self._build()
        out = built.outputs.allocate()
        counters["bytes_moved"] += built.bytes
        try:
            frame = self._frames.pop()  # atomic: a frame is never in two threads
        except IndexError:
            frame = Frame(built)
        try:
            result = REFUSED if built.enter is None else built.enter(frame.header, buffers, out, scalars)
            if result:
                if result & REFUSED:
                    result = self._run_steps(built, frame, buffers[: built.n_inputs], out, scalars)
                if result & WANTED:
                    pool.start()
        finally:
            self._frames.append(frame)
        if result & WRONG:
            return self.interpret(buffers, scalars)  # raises the reference's error, with its message
        return out

    @staticmethod
    def _run_steps(
        built: Ready, frame: Frame, buffers: list[Buffer], out: list[Buffer], scalars: list[Any]
    ) -> int:
        """Fill the table and run step by step: where there are host steps, or a number needs NumPy's conversion."""
        built.fill(frame, buffers, out, scalars)
        for step in built.steps:
            step(frame, buffers, out)
        return WRONG if frame.failed() else 0

    def interpret(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """The same through the NumPy reference."""
        inputs = self.inputs
        arrays: list[Any] = [None] * self.n_inputs
        for node in inputs:
            index, shape, dtype = node.attrs
            arrays[index] = decode(buffers[index].array(dtype.np, shape), dtype)
        results = run_graph(self.graph, arrays, scalars, _in_trials() if self._raw else apply)
        out = []
        for node, value in zip(self.graph.outputs, results, strict=True):
            buffer = memory.allocate(node.size * node.dtype.itemsize)
            np.copyto(buffer.array(node.dtype.np, node.shape), encode(value, node.dtype))
            out.append(buffer)
        return out


def compile_graph(
    graph: Graph, recorded: Graph | None = None, places: Callable[[], list[str]] | None = None, key: bytes | None = None
) -> Program:
    """The program of a graph. Machine code is made at once, or at the second run of a small exact program.

    recorded, places: for ADJOINT_VERIFY, the graph before it was simplified, and where its outputs were recorded.  key:
    under which its plan is left on disk.
    """
    if config.get("ADJOINT_GUARD") and jit.available():
        from adjoint.runtime.guard import GuardedProgram

        return GuardedProgram(graph)
    every = config.get("ADJOINT_VERIFY")
    if every and jit.available():
        from adjoint.runtime.verify import VerifiedProgram

        return VerifiedProgram(graph, recorded or graph, places, every)
    return Program(graph, key)


class Recording(Protocol):
    """Something that makes a graph. form: all that the graph depends on, as bytes, None where that cannot be said.
    places: where each output was recorded, in words."""

    def form(self) -> bytes | None: ...
    def graph(self) -> Graph: ...
    def places(self) -> list[str]: ...


def compile_recorded(recording: Recording, may_be_rare: bool = False) -> tuple[Program, dict[str, float]]:
    """The program of a recording's graph, simplified; and the seconds that making and simplifying it took.

    Where an earlier process has left the plan of an equal form, nothing is made but code loaded; the graph follows if
    somebody asks for it. may_be_rare: whether NumPy is to run it a few times first, if that is quicker.
    """
    key = None
    if plan_cache.may_be_used() and jit.available():
        began = time.perf_counter()
        key = plan_cache.key_of(recording.form())
        plan = plan_cache.load(key)
        if plan is not None:
            return Program(lambda: _simplified(recording.graph()), found=(Ready(*plan), time.perf_counter() - began)), {}
    began = time.perf_counter()
    recorded = recording.graph()
    seconds = {"trace": time.perf_counter() - began}
    if may_be_rare and jit.available() and not (config.get("ADJOINT_GUARD") or config.get("ADJOINT_VERIFY")):
        from adjoint.runtime.trial import trials

        runs = trials(recorded)
        if runs:
            return Program(recorded, key, trials=runs), seconds
    began = time.perf_counter()
    graph = _simplified(recorded)
    seconds["simplify"] = time.perf_counter() - began
    return compile_graph(graph, recorded, recording.places, key), seconds


def _simplified(graph: Graph) -> Graph:
    from adjoint.rewrite import simplify

    return simplify(graph)


def _in_trials() -> Callable[[Node, list[Any]], Any]:
    from adjoint.runtime import trial

    return trial.apply


def _may_start_cold(graph: Graph) -> int:
    """How many runs go without machine code: the first of a small exact program."""
    total = 0
    for node in graph.nodes:
        if not node.prim.exact or node.parts is not None:
            return 0
        total += node.size
        if total > _COLD_ELEMENTS:
            return 0
    return 1
