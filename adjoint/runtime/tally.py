"""What native calls count by themselves, and the word that stops them.

A known call that is native from end to end (`compiler.quick`), or the end of a trace that is (`trace.native_end`), passes no Python code that could count it. It adds to the
words here, which `engine_stats` adds to the counters of the rest; while `paused` is not 0 it hands over to Python.
"""

from __future__ import annotations

import numpy as np

PAUSED, RUNS, OPERATIONS, BYTES, ENDED = range(5)  # ended: traces, by native code that counts its runs elsewhere

words = np.zeros(5, np.int64)
address = words.__array_interface__["data"][0]


def pause(more: int) -> None:
    """Stop native calls (1), or let them go on again (-1); may be nested."""
    words[PAUSED] += more
