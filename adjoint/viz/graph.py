"""The autograd graph of a tensor as one SVG picture: leaves above, the result at the bottom.

The graph is read from `grad_fn` and `next_functions`, so it shows what ran, not what was written.
Owns `GraphNode`. Read `graph_svg`; `collect_graph` is the walk.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from adjoint.viz.layout import layout_graph

_IDS = itertools.count(1)
_CHAR = 7.2  # width of one monospaced character at 12 px
_LINE = 15.0
_STYLE = """
.ag{--ag-op:#e8eefc;--ag-op-line:#5b7fd6;--ag-leaf:#e3f4e6;--ag-leaf-line:#3f9657;--ag-root:#fdebd6;
--ag-root-line:#d0802c;--ag-text:#1d2433;--ag-soft:#5b6475;--ag-edge:#9aa3b5}
@media (prefers-color-scheme:dark){.ag{--ag-op:#1f2a44;--ag-op-line:#7c9bec;--ag-leaf:#1c3324;
--ag-leaf-line:#66bb7f;--ag-root:#3d2b17;--ag-root-line:#e29a4c;--ag-text:#e8ecf4;--ag-soft:#a3adbf;
--ag-edge:#6b7487}}
.ag rect{stroke-width:1.4;fill:var(--ag-op);stroke:var(--ag-op-line)}
.ag .leaf rect{fill:var(--ag-leaf);stroke:var(--ag-leaf-line)}
.ag .root rect{fill:var(--ag-root);stroke:var(--ag-root-line)}
.ag text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;text-anchor:middle;
fill:var(--ag-text)}
.ag .soft{fill:var(--ag-soft);font-size:11px}
.ag .edge{fill:none;stroke:var(--ag-edge);stroke-width:1.3}
.ag .tip{fill:var(--ag-edge)}
"""


@dataclass
class GraphNode:
    """One box: an operation, or a leaf whose gradient is accumulated."""

    title: str
    lines: list[str]
    kind: str  # "op", "leaf" or "root"
    inputs: list[int]


def graph_svg(
    root: Any,
    params: Mapping[str, Any] | None = None,
    *,
    values: bool = False,
    max_nodes: int = 400,
    title: str = "Computation graph",
) -> str:
    """Draw the graph that leads to a tensor, as a self-contained `<svg>` element.

    root: a tensor with history, or an autograd node.
    params: names for leaves, e.g. `dict(model.named_parameters())`.
    values: also show each leaf's value and gradient: numbers as such, larger tensors as a range.
        This reads them, so pending work runs.
    max_nodes: larger graphs are cut there, and the picture says so.

    Raises ValueError for a tensor without history.

    >>> import adjoint as torch
    >>> from adjoint.viz import graph_svg
    >>> w = torch.tensor(2.0, requires_grad=True)
    >>> picture = graph_svg((w * 3).exp(), {"w": w})
    >>> picture.startswith("<svg"), "Exp" in picture, ">w<" in picture
    (True, True, True)
    """
    nodes, cut = collect_graph(root, params, values=values, max_nodes=max_nodes)
    widths = [max(len(line) for line in [node.title, *node.lines]) * _CHAR + 22.0 for node in nodes]
    edges = [(i, k) for k, node in enumerate(nodes) for i in node.inputs]
    rows = max(1 + len(node.lines) for node in nodes)
    row_height = rows * _LINE + 44.0
    plan = layout_graph(widths, edges, row_height=row_height)
    heights = [(1 + len(node.lines)) * _LINE + 12.0 for node in nodes]
    margin, foot = 12.0, 26.0 if cut else 0.0
    width, height = plan.width + 2 * margin, plan.height + foot
    mark = f"ag{next(_IDS)}"
    label = (
        f"{len(nodes)} nodes and {len(edges)} edges; operations in the order they feed each other."
    )
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="ag" role="img" '
            f'aria-labelledby="{mark}t {mark}d" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}">'
        ),
        f'<title id="{mark}t">{escape(title)}</title><desc id="{mark}d">{escape(label)}</desc>',
        f"<style>{_STYLE}</style>",
        (
            f'<defs><marker id="{mark}a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
        ),
    ]
    for (a, b), bends in zip(edges, plan.bends, strict=True):
        start = (plan.x[a] + margin, plan.y[a] + heights[a] / 2)
        end = (plan.x[b] + margin, plan.y[b] - heights[b] / 2 - 1)
        between = [(x + margin, y) for x, y in bends]
        path = _curve([start, *between, end])
        out.append(f'<path class="edge" marker-end="url(#{mark}a)" d="{path}"/>')
    for node, x, y, w, h in zip(nodes, plan.x, plan.y, widths, heights, strict=True):
        out.append(_box(node, x + margin, y, w, h))
    if cut:
        out.append(
            f'<text class="soft" x="{width / 2:.0f}" y="{height - 9:.0f}">'
            f"cut at {max_nodes} nodes; the graph goes on above</text>"
        )
    out.append("</svg>")
    return "".join(out)


def collect_graph(
    root: Any,
    params: Mapping[str, Any] | None = None,
    *,
    values: bool = False,
    max_nodes: int = 400,
) -> tuple[list[GraphNode], bool]:
    """Walk the graph breadth first: `(nodes, was it cut)`; node 0 is the root."""
    start = root if hasattr(root, "next_functions") else getattr(root, "grad_fn", None)
    if start is None:
        raise ValueError(
            "graph_svg needs a tensor with history: one computed from a tensor with "
            "requires_grad=True, outside no_grad()"
        )
    names = {id(t): name for name, t in (params or {}).items()}
    numbers: dict[Any, int] = {start: 0}
    queue: list[Any] = [start]
    nodes: list[GraphNode] = []
    cut = False
    for fn in queue:  # grows while it is walked
        inputs = []
        for source, _ in fn.next_functions:
            if source is None:
                continue
            if source not in numbers:
                if len(queue) >= max_nodes:
                    cut = True
                    continue
                numbers[source] = len(queue)
                queue.append(source)
            inputs.append(numbers[source])
        nodes.append(_describe(fn, names, values, is_root=fn is start, inputs=inputs))
    return nodes, cut


def _describe(
    fn: Any, names: Mapping[int, str], values: bool, *, is_root: bool, inputs: list[int]
) -> GraphNode:
    variable = getattr(fn, "variable", None)
    if variable is not None:
        lines = [_shape_text(variable.shape)]
        if values:
            lines.append(_value_text(variable))
            if variable.grad is not None:
                lines.append("grad " + _value_text(variable.grad))
        return GraphNode(names.get(id(variable), "leaf"), lines, "leaf", inputs)
    name = fn.name() if callable(getattr(fn, "name", None)) else type(fn).__name__
    # MulBackward0 -> Mul; the number only tells overloads apart.
    title = re.sub(r"Backward\d*$", "", name) or name
    shape = _shape_of(fn)
    lines = [] if shape is None else [_shape_text(shape)]
    return GraphNode(title, lines, "root" if is_root else "op", inputs)


def _shape_of(fn: Any) -> Any:
    """Shape of the value an autograd node produced, where the node tells it."""
    shape = getattr(fn, "shape", None)
    if shape is None:
        metadata = getattr(fn, "_input_metadata", None)
        shape = metadata[0].shape if metadata else None
    return shape


def _shape_text(shape: Any) -> str:
    return "×".join(str(int(n)) for n in shape) or "scalar"


def _value_text(t: Any) -> str:
    t = t.detach()
    if t.numel() == 0:
        return "empty"
    if t.numel() == 1:
        return f"{t.item():.4g}"
    return f"{t.min().item():.3g} … {t.max().item():.3g}"


def _curve(points: list[tuple[float, float]]) -> str:
    """A smooth line downward through the points: vertical where it meets each of them."""
    (x, y), parts = points[0], []
    parts.append(f"M{x:.1f} {y:.1f}")
    for nx, ny in points[1:]:
        if abs(nx - x) < 0.5:
            parts.append(f"L{nx:.1f} {ny:.1f}")
        else:
            half = (y + ny) / 2
            parts.append(f"C{x:.1f} {half:.1f} {nx:.1f} {half:.1f} {nx:.1f} {ny:.1f}")
        x, y = nx, ny
    return "".join(parts)


def _box(node: GraphNode, x: float, y: float, w: float, h: float) -> str:
    radius = h / 2 if node.kind == "leaf" else 7
    first = y - len(node.lines) * _LINE / 2 + 4
    text = [f'<text x="{x:.1f}" y="{first:.1f}">{escape(node.title)}</text>']
    for i, line in enumerate(node.lines, 1):
        text.append(
            f'<text class="soft" x="{x:.1f}" y="{first + i * _LINE:.1f}">{escape(line)}</text>'
        )
    return (
        f'<g class="{node.kind}"><rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" '
        f'height="{h:.1f}" rx="{radius:.1f}"/>{"".join(text)}</g>'
    )
