"""From a graph to loop nests: what shares a loop, what gets memory. Begin with `values.py`, then `group.py`."""
