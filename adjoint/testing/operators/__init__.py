"""Operator records: one row per operator, from which its tests are generated.

`RECORDS` maps names to `record.OpRecord`. To add an operator, add its row to the table of its kind; a completeness test
names public functions, methods and primitives that no row covers.
"""

from __future__ import annotations

from adjoint.testing.operators import (
    attention,
    complex_numbers,
    convolutions,
    creation,
    indexing,
    linear,
    measurements,
    movement,
    numbers,
    places,
    pointwise,
    reductions,
    spectral,
)
from adjoint.testing.operators.record import OpRecord

RECORDS: dict[str, OpRecord] = {}
for _table in (complex_numbers, pointwise, reductions, movement, indexing, places, linear, convolutions, attention, measurements, spectral, creation, numbers):
    for _record in _table.RECORDS:
        assert _record.name not in RECORDS, f"two records are named {_record.name}"
        RECORDS[_record.name] = _record

__all__ = ["RECORDS", "OpRecord"]
