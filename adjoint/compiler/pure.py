"""Which of Python's own functions a remembered call may leave out: those that change and read nothing besides their arguments."""

from __future__ import annotations

import os
import sysconfig
import types
from typing import Any

from adjoint.methods import Tensor

STANDARD = sysconfig.get_paths()["stdlib"] + os.sep
FROZEN = "<frozen "

_TYPES = (list, dict, tuple, str, set, frozenset, int, float, complex, bytes, bytearray, range, slice, type(None), types.ModuleType)
_MODULES = frozenset(("math", "cmath", "_operator", "itertools", "_functools", "_collections", "_struct"))
_BUILTINS = frozenset(
    "len isinstance issubclass getattr hasattr setattr callable abs min max sum round divmod pow sorted repr ord chr all any iter "
    "next format __build_class__ ascii bin hex oct delattr".split()
)
_WRITTEN_IN_PYTHON = frozenset(
    "functools contextlib collections _collections_abc abc _py_abc enum typing types operator numbers importlib _bootstrap".split()
)
BY_COMPUTED_NAME = (getattr, hasattr, setattr, delattr, vars)


def impure(function: Any) -> bool:
    """Whether a builtin function may do or read what nothing here watches; `id` and `hash` tell one object from its equals."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None)
    if isinstance(owner, types.ModuleType):
        name = owner.__name__
        return name not in _MODULES and not (name == "builtins" and function.__name__ in _BUILTINS)
    if isinstance(owner, type):
        return owner not in _TYPES and owner is not object
    if owner is not None:
        return not isinstance(owner, _TYPES) and not isinstance(owner, Tensor)
    return module not in _MODULES and not isinstance(function, types.MethodDescriptorType)


def of_python(file: str) -> bool:
    """Whether code of this file comes with Python."""
    return file.startswith(FROZEN) or (file.startswith(STANDARD) and "site-packages" not in file)


def known_module(file: str) -> bool:
    """Whether a file that comes with Python only does what its arguments ask for (`os` reads the environment, `logging` writes)."""
    name = file[len(FROZEN) : -1] if file.startswith(FROZEN) else file[len(STANDARD) :].removesuffix(".py").removesuffix(os.sep + "__init__")
    return name.partition(".")[0].partition(os.sep)[0] in _WRITTEN_IN_PYTHON
