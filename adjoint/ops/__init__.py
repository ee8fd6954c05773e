"""What users call, as functions that record primitives. Begin with `elementwise.py`."""
