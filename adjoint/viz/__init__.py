"""Pictures as plain SVG text, with nothing to install: the computation graph, curves, tables.

`layout.py` places a layered graph on the plane, `graph.py` draws the autograd graph with it (read
`graph_svg` first), `plot.py` draws curves and heat maps, `roofline.py` kernels under the roof of a
machine (for `adjoint.profiler`). Every picture follows the reader's light or dark setting by itself.
"""

from __future__ import annotations

from adjoint.viz.graph import graph_svg
from adjoint.viz.plot import heat_map, line_chart

__all__ = ["graph_svg", "heat_map", "line_chart"]
