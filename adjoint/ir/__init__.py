"""The language of the pipeline: primitives, what they mean in NumPy, graphs of them. Begin at the end of `prims.py`."""
