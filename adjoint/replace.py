"""`replace_torch`: what other libraries import as `torch` is this package.

Two things are put before the others that Python asks: who finds the modules `torch` and `torch.x.y`, which are those of the same
name here, and who knows of the distribution "torch", of which programs ask the version before they import it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from os import PathLike
from types import ModuleType
from typing import Any

import adjoint

__all__ = ["replace_torch"]


class _Distribution(metadata.Distribution):
    """What is said of the package "torch"."""

    _FILES = {"METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {adjoint.__version__}\n", "top_level.txt": "torch\n"}

    def read_text(self, filename: str) -> str | None:
        return self._FILES.get(filename)

    def locate_file(self, path: str | PathLike[str]) -> Any:
        raise FileNotFoundError(f"{path}: adjoint stands for torch and has none of its files")


class _Finder(MetaPathFinder, Loader):
    """Finds `torch` and what is below it."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "torch":
            return None
        own = "adjoint" + fullname.removeprefix("torch")
        try:
            importlib.import_module(own)
        except ModuleNotFoundError as missing:
            if missing.name is None or not (own + ".").startswith(missing.name + "."):
                raise
            raise ModuleNotFoundError(f"No module named {fullname!r}: adjoint, which stands for torch, has none of that name", name=fullname) from None
        return ModuleSpec(fullname, self, origin="adjoint", is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module("adjoint" + spec.name.removeprefix("torch"))
        spec.loader_state = module.__spec__, getattr(module, "__loader__", None)  # which the import writes over
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__, module.__loader__ = module.__spec__.loader_state

    def find_distributions(self, context: Any = None) -> Iterator[metadata.Distribution]:
        if getattr(context, "name", None) in (None, "torch"):
            yield _Distribution()


def replace_torch() -> None:
    """From now on `import torch` gives this package, in this process and for libraries, too.

    Call it before anything has imported PyTorch: RuntimeError if something has. `adjoint run script.py` runs a script so.

    >>> import subprocess, sys
    >>> code = "import adjoint; adjoint.replace_torch(); import torch; print(torch.ones(2))"
    >>> print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip())
    tensor([1., 1.])
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    if sys.modules.get("torch", adjoint) is not adjoint:
        raise RuntimeError("adjoint.replace_torch(): PyTorch is imported already; call it first, before `import torch` and libraries that do so")
    sys.meta_path.insert(0, _Finder())
