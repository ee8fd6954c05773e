"""Saving and loading, in the safetensors format and never as a pickle.

`safetensors.py` is the container (bytes <-> named arrays), `structure.py` turns nested Python
objects into named tensors plus a JSON description, `files.py` has `save` and `load`: read that
first.
"""

from __future__ import annotations

from adjoint.io.files import load, load_file, save, save_file

__all__ = ["load", "load_file", "save", "save_file"]
