"""Benchmarks: Adjoint beside NumPy, PyTorch and JAX in one alternating run.

Run `python -m benchmarks` from the project's root. Nothing is imported here, because the numbers of
threads must be in the environment before the first library is loaded (see `libraries.py`).

Read `workloads/pointwise20.py` first for what a workload looks like, then `timing.py` for how it is
measured.
"""
