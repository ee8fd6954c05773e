"""Control flow as functions, for programs written for a compiler that cannot see Python's: `cond`, `while_loop`, scans.

Here Python decides, and every operation that runs is recorded, so the first two are an `if` and a `while`.
"""

from __future__ import annotations

from adjoint._higher_order_ops.associative_scan import associative_scan
from adjoint._higher_order_ops.control import cond, scan, while_loop

__all__ = ["associative_scan", "cond", "scan", "while_loop"]
