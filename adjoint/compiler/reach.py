"""What a call can read, found by following references from the function and its arguments.

Only what the code that ran can name is followed: global names and attributes that occur in the user's functions that the
call was seen to run, variables of their closures, and from there the contents of dicts, lists, modules and objects. The
places become a `Guard`; tensors are listed, and are arguments of the remembered call. What cannot be watched (an open
file, an iterator, an array, an object of a type unknown here) raises `Unwatched`, and such a call is not remembered.
"""

from __future__ import annotations

import dis
import enum
import functools
import gc
import os
import sysconfig
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import adjoint
from adjoint.compiler.guards import ABSENT, Guard
from adjoint.dtypes import DType
from adjoint.methods import create_device
from adjoint.nn.module import Module
from adjoint.ops.generators import Generator
from adjoint.optim.optimizer import FormulaOptimizer
from adjoint.trace.handle import Tensor

PACKAGE = os.path.dirname(os.path.abspath(adjoint.__file__)) + os.sep
_PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(np.__file__))) + os.sep
BELOW = tuple(_PACKAGES + name + os.sep for name in ("numpy", "llvmlite", "ml_dtypes"))  # what this package calls itself
STANDARD = sysconfig.get_paths()["stdlib"] + os.sep
LIMIT = 20_000  # references watched for one call

ATOMS: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, range, slice, type(...), type(NotImplemented), DType, np.generic, np.dtype, np.ufunc,
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.ClassMethodDescriptorType, types.GetSetDescriptorType, types.MemberDescriptorType, types.GenericAlias, types.UnionType,
    types.CodeType, enum.Enum, weakref.ref, Generator, create_device,
)  # fmt: skip
_MODULE_KEYS = frozenset(("training", "_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"))


class Unwatched(Exception):
    """The call reads something whose changes cannot be noticed."""


class Code:
    """The names a code object uses: of globals it reads, of globals it writes, of everything else, and whether it may read
    attributes under names that are computed."""

    def __init__(self, code: types.CodeType) -> None:
        self.globals: set[str] = set()
        self.stored: set[str] = set()
        self.names: set[str] = set(code.co_names) | {c for c in code.co_consts if type(c) is str and c.isidentifier()}
        self.imports: set[str] = set()
        for op in dis.get_instructions(code):
            if op.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                self.globals.add(op.argval)
            elif op.opname in ("STORE_ATTR", "DELETE_ATTR"):
                self.stored.add(op.argval)
            elif op.opname == "IMPORT_NAME":
                self.imports.add(op.argval)
        self.computed = not self.globals.isdisjoint(("getattr", "hasattr", "vars")) or "__dict__" in self.names


@functools.lru_cache(maxsize=4096)
def code_of(code: types.CodeType) -> Code:
    return Code(code)


def is_library(o: Any) -> bool:
    """Whether a class, function or module belongs to this package."""
    name = getattr(o, "__module__", None) or getattr(o, "__name__", None) or ""
    return isinstance(name, str) and (name == "adjoint" or name.startswith("adjoint."))


def is_user_code(code: types.CodeType) -> bool:
    file = code.co_filename
    if file.startswith((PACKAGE, *BELOW, "<frozen")):
        return False
    return not file.startswith(STANDARD) or "site-packages" in file


class Reach:
    """Everything found: the guard, the tensors in the order of finding, and what a place of the guard was called.

    codes: the user's code objects that ran, with the globals of each.  roots: the function, and arguments that are objects.
    """

    def __init__(self, codes: dict[types.CodeType, dict], roots: Iterable[Any]) -> None:
        self.codes = codes
        self.guard = Guard()
        self.tensors: list[Tensor] = []
        self.optimizers: list[FormulaOptimizer] = []
        self._seen: dict[int, Any] = {}
        used = [code_of(c) for c in codes]
        self.names = frozenset().union(*[c.names for c in used])
        self.stored = frozenset().union(*[c.stored for c in used])
        self.computed = any([c.computed for c in used])
        self._pending: list[Any] = list(roots)
        for code, names in codes.items():
            self._global_names(code, names)
        found_in: dict[int, Any] = {}
        while self._pending:
            o = self._pending.pop()
            before = len(self._pending)
            try:
                self._visit(o)
            except Unwatched as problem:
                raise Unwatched(f"{problem}{_described(o, found_in)}") from None
            for x in self._pending[before:]:
                found_in.setdefault(id(x), o)
            if self.guard.size > LIMIT:
                raise Unwatched(f"it can read more than {LIMIT} objects")
        self.guard.seal()

    def _global_names(self, code: types.CodeType, names: dict) -> None:
        for name in sorted(code_of(code).globals):
            value = self.guard.key(names, name)
            if value is not ABSENT:
                self._pending.append(value)
        for name in code_of(code).imports:
            if name.partition(".")[0] not in ("adjoint", "math", "functools", "itertools", "operator", "collections", "typing"):
                raise Unwatched(f"it imports {name}")

    def _visit(self, o: Any) -> None:
        kind = type(o)
        if isinstance(o, ATOMS) and not isinstance(o, Tensor):
            return
        if id(o) in self._seen:
            return
        self._seen[id(o)] = o
        if isinstance(o, Tensor):
            self.tensors.append(o)
            self.guard.description(o)
            return
        for types_, way in _WAYS:
            if isinstance(o, types_):
                way(self, o)
                return
        if hasattr(o, "__dict__") and not _has_slots(kind):
            self._object(o)
            return
        raise Unwatched(f"it can read an object of type {kind.__module__}.{kind.__qualname__}, whose changes cannot be noticed")

    # ---- what each kind of object leads to -----------------------------------------------------------------------------

    def _function(self, f: types.FunctionType) -> None:
        if is_user_code(f.__code__):
            if f.__code__ not in self.codes:
                return  # never ran
        elif not f.__closure__:
            return
        for cell in f.__closure__ or ():
            value = self.guard.cell(cell)
            if value is not ABSENT:
                self._pending.append(value)
        if is_user_code(f.__code__):
            self._pending += f.__defaults__ or ()
            if f.__kwdefaults__:
                self._dict(f.__kwdefaults__)
            self._entries(f.__dict__, self.names)

    def _method(self, m: types.MethodType) -> None:
        self._pending += (m.__func__, m.__self__)

    def _partial(self, p: functools.partial) -> None:
        self._pending += (p.func, *p.args, *p.keywords.values())

    def _module(self, m: types.ModuleType) -> None:
        if is_library(m):
            return
        file = getattr(m, "__file__", None)
        if m.__name__.partition(".")[0] == "numpy":
            if "random" in self.names:
                raise Unwatched("it can draw random numbers from NumPy")
            return
        if file is None or (file.startswith(STANDARD) and "site-packages" not in file):
            return  # of Python: its functions are judged when they are called
        self._entries(m.__dict__, m.__dict__ if self.computed else self.names)

    def _entries(self, d: dict, wanted: Iterable[str]) -> None:
        """Watch the entries of these names, and those the code could make."""
        for name in sorted(wanted):
            if name in d:
                self._pending.append(self.guard.key(d, name))
            elif name in self.stored or self.computed:
                self.guard.key(d, name)

    def _dict(self, d: dict) -> None:
        self.guard.whole(d)
        for key, value in dict.items(d):
            if not isinstance(key, ATOMS) or isinstance(key, Tensor):
                self._pending.append(key)
            self._pending.append(value)

    def _list(self, items: list) -> None:
        self.guard.items(items)
        self._pending += items

    def _tuple(self, items: tuple) -> None:
        self._pending += items

    def _set(self, s: set) -> None:
        if not all(isinstance(x, ATOMS) for x in s):
            raise Unwatched("it can read a set of objects")
        if isinstance(s, set):
            self.guard.members(s)

    def _class(self, cls: type) -> None:
        """The user's classes among the bases: the entries that ran or can be named, and whether one could come between."""
        bases = [c for c in cls.__mro__ if not is_library(c) and c.__module__ != "builtins" and not _standard(c)]
        known = {name for c in cls.__mro__ for name in vars(c)}
        for c in bases:
            entries = _entries_of(c)
            for name in sorted(known & self.names):
                value = self.guard.key(entries, name)
                if value is not ABSENT:
                    self._pending.append(value)
            for name, value in list(vars(c).items()):
                if name not in self.names and any(f.__code__ in self.codes for f in _functions_in(value)):
                    self._pending.append(self.guard.key(entries, name))

    def _wrapped(self, o: Any) -> None:
        self._pending += _functions_in(o)

    def _object(self, o: Any) -> None:
        cls = type(o)
        if isinstance(o, FormulaOptimizer) and is_library(cls):
            self._optimizer(o)
            return
        if is_library(cls):
            own = {k: v for k, v in vars(o).items() if k != "_non_persistent_buffers_set"}
            for name in own:
                self._pending.append(self.guard.key(vars(o), name))
            return
        if _standard(cls) and not issubclass(cls, Module):
            raise Unwatched(f"it can read an object of type {cls.__module__}.{cls.__qualname__}, whose changes cannot be noticed")
        entries = vars(o)
        wanted = set(entries) if self.computed else {k for k in entries if k in self.names}
        if isinstance(o, Module):
            wanted |= _MODULE_KEYS & set(entries)
        self._entries(entries, wanted | self.stored | (self.names if self.computed else frozenset()))
        for name in sorted(self.names.intersection([n for c in cls.__mro__ for n in vars(c)]) - set(entries) - self.stored):
            self.guard.key(entries, name)  # an entry here would hide the one of the class
        self._class(cls)

    def _optimizer(self, o: FormulaOptimizer) -> None:
        """All but the numbers of a step, which are asked for anew each time (`FormulaOptimizer.again`)."""
        guard = self.guard
        for name in ("param_groups", "state", "_pre_hooks", "_post_hooks"):
            guard.key(vars(o), name)
        guard.items(o.param_groups)
        for group in o.param_groups:
            guard.items(guard.key(group, "params"))
            self._pending += group["params"]
            if not self.names.isdisjoint(("param_groups", "defaults")):  # the user's code may read the numbers itself
                guard.whole(group)
        guard.whole(o.state)
        for state in o.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) or not self.names.isdisjoint(("state", "state_dict")):
                    self._pending.append(guard.key(state, name))
        self.optimizers.append(o)
        self._dict(o._pre_hooks)
        self._dict(o._post_hooks)


_WAYS: tuple[tuple[Any, Callable[[Reach, Any], None]], ...] = (
    (types.FunctionType, Reach._function),
    (types.MethodType, Reach._method),
    (functools.partial, Reach._partial),
    (types.ModuleType, Reach._module),
    (type, Reach._class),
    (dict, Reach._dict),
    (list, Reach._list),
    (tuple, Reach._tuple),
    ((set, frozenset), Reach._set),
    ((property, staticmethod, classmethod, functools.cached_property), Reach._wrapped),
)


def _described(o: Any, found_in: dict[int, Any]) -> str:
    """Where an object was found, in words."""
    way: list[str] = []
    while id(o) in found_in and len(way) < 6:
        o = found_in[id(o)]
        way.append(getattr(o, "__qualname__", None) or getattr(o, "__name__", None) or f"a {type(o).__name__}")
    return f" (found in {', which is in '.join(way)})" if way else ""


def _functions_in(value: Any) -> list[types.FunctionType]:
    """The Python functions that an entry of a class stands for."""
    if isinstance(value, types.FunctionType):
        inner = getattr(value, "__wrapped__", None)
        return [value, *_functions_in(inner)] if inner is not None else [value]
    if isinstance(value, (staticmethod, classmethod)):
        return _functions_in(value.__func__)
    if isinstance(value, property):
        return [f for part in (value.fget, value.fset) if part is not None for f in _functions_in(part)]
    if isinstance(value, functools.cached_property):
        return _functions_in(value.func)
    return []


def _entries_of(cls: type) -> dict:
    """The dict behind the read-only view of a class's entries."""
    return next(d for d in gc.get_referents(vars(cls)) if type(d) is dict)


def _standard(cls: type) -> bool:
    """Whether a class comes with Python."""
    import sys

    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return module is not None and module.__name__ != "__main__" and (file is None or (file.startswith(STANDARD) and "site-packages" not in file))


def _has_slots(cls: type) -> bool:
    """Whether instances keep fields beside their `__dict__`, where a guard does not look."""
    return any("__slots__" in vars(c) and vars(c)["__slots__"] not in ((), "__dict__") for c in cls.__mro__ if c.__module__ != "builtins" and not is_library(c))
