"""The worked example of architecture.md: runs it and writes what it shows into the page.

Everything between `<!-- begin NAME -->` and `<!-- end NAME -->` in `architecture.md` is printed by the package itself,
by the function `sections` below. Run this file after a change of the pipeline; with `--check` it changes nothing and
ends with status 1 if the page is out of date (a test does that).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["ADJOINT_EAGER"] = "0"  # the example is about the compiled mode, whatever the caller runs in
os.environ.pop("ADJOINT_DISABLE", None)

import adjoint as torch  # noqa: E402
from adjoint.rewrite import simplify  # noqa: E402
from adjoint.trace import lower, recorder  # noqa: E402
from adjoint.trace.trie import Step, path  # noqa: E402

PAGE = Path(__file__).with_name("architecture.md")
ROWS, COLUMNS = 100, 3


def step_line(step: Step) -> str:
    """One recorded step: slot, what it applies to which slots, what is known of the result."""
    if step.aval is None:
        if step.prim == "mode":
            return "      gradient mode " + ("on" if step.attrs else "off")
        slots = ", ".join(f"%{s}" for s in sorted(step.attrs.slots)) if step.prim == "freed" else ""
        return f"      {step.prim} {slots}"
    attrs = "" if step.attrs is None else f" {step.attrs}"
    operands = [f"%{a}" if type(a) is int else repr(a) for a in step.args]
    args = f"({', '.join(operands)})" if operands else ""
    composite = f"   <- {step.scope.name}" if step.scope is not None else ""
    return f"{step.slot:4}  {step.prim + args + attrs:<34}{step.aval}{composite}"


def iterate(X: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[Step, float]:
    """One iteration of the example; the place in the trie where its trace ended, and the loss."""
    w.grad = None
    loss = ((X @ w - y) ** 2).mean()
    loss.backward()
    node = recorder.current().node
    return node, loss.item()


def sections() -> dict[str, str]:
    """The generated parts of the page, by name."""
    torch.manual_seed(0)
    X = torch.randn(ROWS, COLUMNS)
    w = torch.zeros(COLUMNS, 1, requires_grad=True)
    y = X @ torch.tensor([[2.0], [-3.4], [0.5]]) + 4.2
    for t in (X, y):  # values, not pending work, so that the trace holds the example alone
        t.tolist()
    counts = []
    for _ in range(3):
        before = dict(recorder.counters)
        node, _ = iterate(X, y, w)
        counts.append({k: recorder.counters[k] - before[k] for k in ("nodes", "programs")})
    (key, compiled), *_ = node.programs.items()
    graph = lower.Recorded(node, (*key, *compiled.saved)).graph()
    program = compiled.program
    counted = [
        f"iteration {i}: {c['nodes']:2} new places in the trie, {c['programs']} new programs"
        for i, c in enumerate(counts, 1)
    ]
    return {
        "trace": "\n".join(map(step_line, path(node))),
        "counts": "\n".join(counted),
        "lowered": repr(graph),
        "simplified": repr(simplify(graph)),
        "kernels": program.text,
        "sums": f"{program.n_kernels} kernels: {', '.join(program.kernels)}\n"
        f"{program.bytes_moved} bytes moved, {program.flops} operations, for one run",
    }


def fill(page: str, parts: dict[str, str]) -> str:
    """The page with its generated parts replaced; ValueError if a marker is missing."""
    for name, text in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, mark, rest = page.partition(begin)
        _, closing, tail = rest.partition(end)
        if not mark or not closing:
            raise ValueError(f"{PAGE.name} lacks the markers of {name}")
        body = "\n".join(line.rstrip() for line in text.splitlines())
        page = f"{head}{begin}```text\n{body}\n```\n{end}{tail}"
    return page


def main(arguments: list[str]) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = fill(old, sections())
    if "--check" in arguments:
        if new != old:
            print(f"{PAGE.name} is out of date: run python docs/make_architecture.py", file=sys.stderr)
        return int(new != old)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
