"""Memory, compiled code, threads. Begin with `program.py`."""
