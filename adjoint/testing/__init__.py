"""What tests of Adjoint share: random graphs of primitives and comparison to the bit (`graphs.py`)."""
