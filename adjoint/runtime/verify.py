"""Programs that check themselves: ADJOINT_VERIFY=n runs every n-th program a second time in the NumPy reference.

`VerifiedProgram.run` is the function to read first. The reference gets copies of the inputs and interprets the graph
as it was recorded, before simplification, so that rewriting, scheduling and code generation are all under test. What
rounding may do is for `ir/noise.py` to say. A difference raises `VerificationError` and leaves a script that shows it
without the program it came from; `replay` is what that script calls. With the flag off none of this is imported.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.ir.graph import Graph
from adjoint.ir.noise import unexplained
from adjoint.ir.reference import run_graph
from adjoint.ir.text import program_text, read_program
from adjoint.runtime.memory import Buffer
from adjoint.runtime.program import Program
from adjoint.storage import decode

_INLINE = 64  # elements up to which an input is written into the script
_runs = itertools.count(1)


class VerificationError(RuntimeError):
    """Compiled code and the NumPy reference disagree. script: the path of a file that shows it.

    >>> import adjoint as torch
    >>> issubclass(torch.VerificationError, RuntimeError)
    True
    """

    def __init__(self, message: str, script: str = "") -> None:
        super().__init__(message)
        self.script = script


class VerifiedProgram(Program):
    """A program that compares every `every`-th run, of all such programs together, with the reference.

    recorded: the graph as it was recorded.  places: tells where each output was recorded.
    """

    def __init__(
        self, graph: Graph, recorded: Graph, places: Callable[[], list[str]] | None, every: int
    ) -> None:
        super().__init__(graph)
        self.recorded, self.places, self.every = recorded, places, every

    def run(self, buffers: list[Buffer], scalars: list[Any]) -> list[Buffer]:
        """`Program.run`; VerificationError where it went wrong."""
        if next(_runs) % self.every:
            return super().run(buffers, scalars)
        inputs: dict[int, np.ndarray] = {}
        for node in self.recorded.nodes:
            if node.prim.name == "input":
                index, shape, dtype = node.attrs
                inputs[index] = buffers[index].array(dtype.np, shape).copy()
        scalars = list(scalars)
        out = super().run(buffers, scalars)
        for index, before in inputs.items():
            after = buffers[index].array(before.dtype, before.shape)
            if after.tobytes() != before.tobytes():
                self.fail(f"input {index} was overwritten", inputs, scalars)
        wrong = compare(self.recorded, inputs, scalars, out)
        if wrong is not None:
            k, words = wrong
            where = self.places()[k] if self.places is not None else ""
            self.fail(words + where, inputs, scalars)
        return out

    def fail(self, words: str, inputs: dict[int, np.ndarray], scalars: list[Any]) -> None:
        path, text = write_script(self.recorded, inputs, scalars)
        frame = sys._getframe(1)
        package = str(Path(__file__).parent.parent)
        while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
            frame = frame.f_back
        asked = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise VerificationError(
            f"compiled code disagrees with the NumPy reference: {words}; the value was asked for at {asked}. "
            f"`python {path}` shows it by itself:\n\n{text}",
            path,
        )


def compare(
    graph: Graph, inputs: dict[int, np.ndarray], scalars: list[Any], out: list[Buffer]
) -> tuple[int, str] | None:
    """The first output that differs from the reference by more than rounding: (position, description).

    inputs: arrays of the memory (`DType.np`), by position.
    """
    arrays = [np.zeros(0)] * (1 + max(inputs, default=-1))
    for node in graph.nodes:
        if node.prim.name == "input":
            arrays[node.attrs[0]] = decode(inputs[node.attrs[0]], node.dtype)
    try:
        expected = run_graph(graph, arrays, scalars)
    except Exception as error:
        return 0, f"the reference raises {type(error).__name__} ({error}), the compiled program nothing"
    expected = [np.asarray(e, o.dtype.values) for e, o in zip(expected, graph.outputs, strict=True)]
    got = [decode(b.array(o.dtype.np, o.shape), o.dtype) for b, o in zip(out, graph.outputs, strict=True)]
    for k, wrong in enumerate(unexplained(graph, arrays, scalars, expected, got)):
        if wrong.any():
            return k, describe(k, got[k], expected[k], wrong)
    return None


def describe(k: int, got: np.ndarray, expected: np.ndarray, wrong: np.ndarray) -> str:
    """Which output is wrong, how many elements, the first one and the largest error."""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    words = f"output {k}, {got.dtype.name}{list(got.shape)}, is wrong in {int(wrong.sum())} of {wrong.size} elements"
    words += f", first at {list(first)}: {got[first]!r} instead of {expected[first]!r}"
    if got.dtype.kind == "f":
        with np.errstate(all="ignore"):
            errors = np.abs(got.astype(float) - expected)[wrong]
        errors = errors[np.isfinite(errors)]
        words += f", largest error {errors.max():.3g}" if errors.size else ""
    return words


def write_script(graph: Graph, inputs: dict[int, np.ndarray], scalars: list[Any]) -> tuple[str, str]:
    """A Python file that builds the graph, compiles it and compares: (path, text). Larger inputs lie beside it."""
    folder = Path(tempfile.mkdtemp(prefix="adjoint-verify-"))
    given = []
    large: dict[str, np.ndarray] = {}
    for index, array in inputs.items():
        if array.size <= _INLINE and array.dtype.kind != "c":
            given.append(f"    {index}: np.array({_literal(array)}, dtype={array.dtype.name!r}).reshape({array.shape}),")
        else:
            large[f"i{index}"] = array
            given.append(f'    {index}: saved["i{index}"],')
    lines = ["from pathlib import Path", "", "import numpy as np", ""]
    lines += ["from adjoint.runtime.verify import replay", program_text(graph), "", "nan, inf = np.nan, np.inf"]
    if large:
        np.savez(folder / "inputs.npz", **large)  # type: ignore[arg-type]
        lines.append('saved = np.load(Path(__file__).parent / "inputs.npz")')
    numbers = [s.item() if isinstance(s, np.generic) else s for s in scalars]
    patterns = {n.attrs[0]: n.dtype.name for n in graph.nodes if n.prim.name == "input" and n.dtype.values != n.dtype.np}
    lines += ["inputs = {", *given, "}", f"replay(program, inputs, {numbers!r}{f', {patterns}' if patterns else ''})"]
    text = "\n".join(lines) + "\n"
    path = folder / "difference.py"
    path.write_text(text)
    return str(path), text


def _literal(array: np.ndarray) -> str:
    return repr(array.reshape(-1).tolist())


def replay(program: Callable, inputs: dict[int, np.ndarray], scalars: list[Any], patterns: dict[int, str] | None = None) -> None:
    """Compile the function `program_text` wrote, run it on these inputs and compare; VerificationError if it differs.

    patterns: the dtypes of inputs that are given as bit patterns, by position.

    >>> import numpy as np
    >>> from adjoint.ir.text import primitives as p
    >>> from adjoint.runtime.verify import replay
    >>> def program(i0):
    ...     return (p.tanh(i0),)
    >>> replay(program, {0: np.array([0.5, 1.0])}, [])
    compiled code and the reference agree
    """
    from adjoint.rewrite import simplify

    kinds = {i: dtypes.BY_NUMPY[a.dtype] for i, a in inputs.items()}
    kinds |= {i: dtypes.by_name(name) for i, name in (patterns or {}).items()}
    graph = read_program(program, {i: (a.shape, kinds[i]) for i, a in inputs.items()})
    compiled = Program(simplify(graph))
    compiled.cold = 0
    buffers = [Buffer.from_array(inputs.get(i, np.zeros(0))) for i in range(1 + max(inputs, default=-1))]
    wrong = compare(graph, inputs, scalars, compiled.run(buffers, scalars))
    if wrong is not None:
        raise VerificationError(wrong[1])
    print("compiled code and the reference agree")
