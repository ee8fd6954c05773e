"""From loop nests to LLVM IR. Begin with `nest.py`; `vecmath.py` and `gemm.py` stand beside it."""
