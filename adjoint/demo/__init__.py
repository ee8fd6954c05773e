"""The demonstration: train a small convolutional network on real handwritten digits, end to end.

`data.py` loads the images, `training.py` has the model and the loop (ordinary user code, read it
first), `report.py` writes the HTML page, `run.py` puts them together for the command line.
"""

from __future__ import annotations

from adjoint.demo.run import Outcome, run_demo

__all__ = ["Outcome", "run_demo"]
