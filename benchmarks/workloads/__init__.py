"""The workloads, one idea per file; `ALL` is the table that the command walks through.

To add one: a file with a `Workload` record, and its name in `ALL`.
"""

from __future__ import annotations

from ..record import Workload
from .fused import FUSED, FUSED_GRAD
from .linreg import LINREG
from .mlp8 import MLP8
from .pointwise20 import POINTWISE20
from .rows import CROSS_ENTROPY, LAYER_NORM, SOFTMAX
from .scalar1000 import SCALAR1000

ALL: tuple[Workload, ...] = (
    POINTWISE20,
    LINREG,
    SCALAR1000,
    MLP8,
    FUSED,
    FUSED_GRAD,
    SOFTMAX,
    LAYER_NORM,
    CROSS_ENTROPY,
)
