"""What a call can read, found by following references from the function and its arguments.

Only what the code that ran can name is followed: global names and attributes that occur in the user's functions that the
call was seen to run, variables of their closures, and from there the contents of dicts, lists, modules and objects. The
places become a `Guard`; tensors are listed, and are arguments of the remembered call. What cannot be watched (an open
file, an iterator, an array, an object of a type unknown here) raises `Unwatched`, and such a call is not remembered.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import dis
import enum
import functools
import gc
import os
import sys
import types
import typing
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import adjoint
from adjoint.compiler.guards import ABSENT, Guard
from adjoint.compiler.pure import BY_COMPUTED_NAME, impure, of_python
from adjoint.dtypes import DType
from adjoint.methods import create_device
from adjoint.nn.module import Module
from adjoint.ops.generators import Generator
from adjoint.optim.optimizer import FormulaOptimizer, Optimizer
from adjoint.trace.handle import Tensor

PACKAGE = os.path.dirname(os.path.abspath(adjoint.__file__)) + os.sep
_PACKAGES = os.path.dirname(os.path.dirname(os.path.abspath(np.__file__))) + os.sep
BELOW = tuple(_PACKAGES + name + os.sep for name in ("numpy", "llvmlite", "ml_dtypes"))  # what this package calls itself
LIMIT = 20_000  # references watched for one call

PRIMITIVES = frozenset((type(None), bool, int, float, complex, str, bytes))
ATOMS: tuple[type, ...] = (
    range, type(...), type(NotImplemented), DType, np.number, np.bool_, np.character, np.dtype, np.ufunc,
    types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.GenericAlias, types.UnionType, types.CodeType, Generator, create_device,
)  # fmt: skip
_BOUND = (types.BuiltinFunctionType, types.MethodWrapperType)
_BUILTIN_CONTAINERS = frozenset((dict, list, tuple, set, frozenset, OrderedDict, defaultdict))
# Bases that come with Python and keep nothing beside the `__dict__` of an instance, or only what never changes.
_TRANSPARENT: frozenset[Any] = frozenset(
    (object, type, int, float, complex, str, bytes, typing.Generic, typing.Protocol, abc.ABC, abc.ABCMeta, enum.Enum, enum.IntEnum, enum.Flag,
     enum.IntFlag, enum.EnumMeta, contextlib.ContextDecorator, contextlib.AbstractContextManager, types.SimpleNamespace,
     *[c for name in ("StrEnum", "ReprEnum") for c in [getattr(enum, name, object)]])
)  # fmt: skip
_COMPUTE_NAMES = frozenset(f.__name__ for f in BY_COMPUTED_NAME) | {
    "attrgetter", "methodcaller", "__getattribute__", "__setattr__", "__delattr__", "__dict__",
}  # fmt: skip
_CATCHING = frozenset(("PUSH_EXC_INFO", "CHECK_EXC_MATCH", "JUMP_IF_NOT_EXC_MATCH", "SETUP_FINALLY", "SETUP_EXCEPT"))
_MODULE_KEYS = frozenset("training forward _parameters _buffers _modules _forward_hooks _forward_pre_hooks _backward_hooks".split())
_TENSOR_FIELDS = frozenset(Tensor.__annotations__) | {"_error"}


def attributes_of(t: Tensor) -> dict[str, Any]:
    """What somebody has attached to a tensor."""
    return {name: value for name, value in vars(t).items() if name not in _TENSOR_FIELDS}


class Unwatched(Exception):
    """The call reads something whose changes cannot be noticed."""


class _Computed(Exception):
    """Attributes may be read under names that are computed, as was found on the way."""


class Code:
    """The names a code object uses: of globals it reads, of globals it writes, of everything, of attributes, and whether it may read
    attributes under names that are computed; whether it goes on where an attribute is missing; builtin functions it passes on."""

    def __init__(self, code: types.CodeType) -> None:
        self.globals: set[str] = set()
        self.stored: set[str] = set()
        self.names: set[str] = set(code.co_names) | {c for c in code.co_consts if type(c) is str and c.isidentifier()}
        self.attributes: set[str] = {c for c in code.co_consts if type(c) is str and c.isidentifier()}
        self.imports: set[str] = set()
        self.passed: set[str] = set()
        self.computed = not self.names.isdisjoint(_COMPUTE_NAMES)
        self.tolerant = self.computed
        for op in dis.get_instructions(code):
            if op.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                self.globals.add(op.argval)
                if "NULL" not in op.argrepr:  # loaded, but not to be called at once
                    self.passed.add(op.argval)
            elif op.opname in ("STORE_ATTR", "DELETE_ATTR"):
                self.stored.add(op.argval)
            elif op.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER", "IMPORT_FROM")):
                self.attributes.add(op.argval)
            elif op.opname == "IMPORT_NAME":
                self.imports.add(op.argval)
            elif op.opname == "MATCH_CLASS":
                self.computed = True
            elif op.opname in _CATCHING:
                self.tolerant = True


@functools.lru_cache(maxsize=4096)
def code_of(code: types.CodeType) -> Code:
    return Code(code)


def reach(codes: dict[types.CodeType, dict], roots: Iterable[Any]) -> Reach:
    """What the code can read, beginning with `roots`."""
    try:
        return Reach(codes, roots)
    except _Computed:
        return Reach(codes, roots, computed=True)


def _made_in(codes: Iterable[types.CodeType]) -> set[types.CodeType]:
    """The code of functions and classes that are made where some code runs."""
    made: set[types.CodeType] = set()
    rest = list(codes)
    while rest:
        inner = [c for c in rest.pop().co_consts if isinstance(c, types.CodeType) and c not in made]
        made.update(inner)
        rest += inner
    return made


def is_library(o: Any) -> bool:
    """Whether a class, function or module belongs to this package."""
    name = getattr(o, "__module__", None) or getattr(o, "__name__", None) or ""
    return isinstance(name, str) and (name == "adjoint" or name.startswith("adjoint."))


def is_user_code(code: types.CodeType) -> bool:
    file = code.co_filename
    return not (file.startswith((PACKAGE, *BELOW)) or of_python(file))


class Reach:
    """Everything found: the guard, the tensors in the order of finding, and what a place of the guard was called.

    codes: the user's code objects that ran, with the globals of each.  roots: the function, and arguments that are objects.
    """

    def __init__(self, codes: dict[types.CodeType, dict], roots: Iterable[Any], computed: bool = False) -> None:
        self.codes = codes
        self.reached: set[types.CodeType] = set()
        self.guard = Guard()
        self.tensors: list[Tensor] = []
        self.optimizers: list[FormulaOptimizer] = []
        self._seen: dict[int, Any] = {}
        used = [code_of(c) for c in codes]
        self.names = frozenset().union(*[c.names for c in used])
        self.attributes = frozenset().union(*[c.attributes for c in used])
        self.stored = frozenset().union(*[c.stored for c in used])
        self.computed = computed or any([c.computed for c in used])
        self.tolerant = self.computed or any([c.tolerant for c in used])
        named = {name for c in used for name in c.globals}
        self.tags = {name for name in self.names if not hasattr(Tensor, name) and name not in named} if self.tolerant else set()
        self._pending: list[Any] = [*roots, Tensor]
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
        if "_version" in self.names:
            raise Unwatched("it reads the version of a tensor")
        made = _made_in(codes)
        for code in codes:
            if code not in self.reached and code not in made:
                raise Unwatched(f"it runs {code.co_name!r}, which is not found from what it can read")
        self.guard.seal()

    def _global_names(self, code: types.CodeType, names: dict) -> None:
        for name in sorted(code_of(code).globals):
            value = self.guard.key(names, name)
            if value is ABSENT:
                value = self.guard.key(vars(builtins), name)
            if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType):
                if name in code_of(code).passed:
                    self._bound(value)
            elif value is not ABSENT and not (isinstance(value, type) and value.__module__ == "builtins"):
                self._pending.append(value)
        for name in code_of(code).imports:
            if name.partition(".")[0] not in ("adjoint", "math", "functools", "itertools", "operator", "collections", "typing"):
                raise Unwatched(f"it imports {name}")

    def _visit(self, o: Any) -> None:
        kind = type(o)
        if kind in PRIMITIVES or issubclass(kind, ATOMS):
            return
        if id(o) in self._seen:
            return
        self._seen[id(o)] = o
        if issubclass(kind, Tensor):
            self._tensor(o)
            return
        if issubclass(kind, _BOUND):
            self._bound(o)
            return
        for types_, way in _WAYS:
            if issubclass(kind, types_):
                way(self, o)
                if types_ in _CONTAINERS and kind not in _BUILTIN_CONTAINERS and not is_library(kind):
                    self._own_container(o)
                return
        if kind.__dictoffset__ and not _has_slots(kind):
            self._object(o)
            return
        raise Unwatched(f"it can read an object of type {kind.__module__}.{kind.__qualname__}, whose changes cannot be noticed")

    # ---- what each kind of object leads to -----------------------------------------------------------------------------

    def _tensor(self, t: Tensor) -> None:
        self.tensors.append(t)
        self.guard.description(t)
        entries = vars(t)
        for name in sorted((self.names | self.tags) & attributes_of(t).keys() | self.tags):
            value = self.guard.key(entries, name)
            if value is not ABSENT:
                self._pending.append(value)
        if id(type(t)) not in self._seen:
            self._pending.append(type(t))

    def _function(self, f: types.FunctionType) -> None:
        own = is_user_code(f.__code__)
        if own or f.__closure__ or f.__code__ in self.codes:
            self._entries(f.__dict__, self.names & f.__dict__.keys() if not own else self.names)
        if own:
            if f.__code__ not in self.codes:
                return  # never ran
            self.reached.add(f.__code__)
            self.guard.function(f)
            self._pending += f.__defaults__ or ()
            if f.__kwdefaults__:
                self._dict(f.__kwdefaults__)
        for cell in f.__closure__ or ():
            value = self.guard.cell(cell)
            if value is not ABSENT:
                self._pending.append(value)

    def _bound(self, f: Any) -> None:
        """A builtin function that is passed on, and so may be called where nobody watches."""
        if f in BY_COMPUTED_NAME:
            if not self.computed:
                raise _Computed
        elif impure(f):
            raise Unwatched(f"it passes on {getattr(f, '__qualname__', f)}")
        if f.__self__ is not None and not isinstance(f.__self__, types.ModuleType):
            self._pending.append(f.__self__)

    def _method(self, m: types.MethodType) -> None:
        self._pending += (m.__func__, m.__self__)

    def _partial(self, p: functools.partial) -> None:
        if type(p) is not functools.partial:
            raise Unwatched("it can read a partial of a class of its own")
        self._pending += (p.func, p.args)
        self._dict(p.keywords)

    def _module(self, m: types.ModuleType) -> None:
        file, of_numpy = getattr(m, "__file__", None), m.__name__.partition(".")[0] == "numpy"
        if of_numpy and "random" in self.names:
            raise Unwatched("it can draw random numbers from NumPy")
        if is_library(m):  # somebody may put other functions there
            self._named(m.__dict__, lambda value: isinstance(value, types.ModuleType) or (callable(value) and not is_library(value)))
        elif of_numpy or (m.__name__ != "__main__" and (file is None or of_python(file))):  # functions are judged when they are called
            known = (types.BuiltinFunctionType, types.FunctionType, type, *((types.ModuleType, np.ufunc) if of_numpy else ()))
            self._named(m.__dict__, lambda value: not isinstance(value, known) and not type(value).__module__.startswith("numpy"))
        else:
            self._entries(m.__dict__, m.__dict__ if self.computed else self.names)

    def _named(self, d: dict, leads_on: Callable[[Any], bool], may_come: bool = True) -> None:
        """Watch the entries of a library that the code names, and follow some of them; and those that may come later: by
        the code itself, or where it goes on without them."""
        for name in sorted((self.attributes if self.tolerant and may_come else self.attributes & d.keys()) | self.stored):
            value = self.guard.key(d, name)
            if value is not ABSENT and leads_on(value):
                self._pending.append(value)

    def _entries(self, d: dict, wanted: Iterable[str]) -> None:
        """Watch the entries of these names, and those the code could make, or do without."""
        for name in sorted(wanted):
            if name in d:
                self._pending.append(self.guard.key(d, name))
            elif name in self.stored or self.computed or (self.tolerant and name in self.attributes):
                self.guard.key(d, name)

    def _dict(self, d: dict) -> None:
        self.guard.whole(d)
        if isinstance(d, OrderedDict) and len(d) > 1:
            self.guard.order(d)
        elif isinstance(d, defaultdict):
            self._pending.append(d.default_factory)
        for key, value in dict.items(d):
            self._pending += (key, value)

    def _list(self, items: list) -> None:
        self.guard.items(items)
        self._pending += list.__iter__(items)

    def _tuple(self, items: tuple) -> None:
        self._pending += tuple.__iter__(items)

    def _slice(self, s: slice) -> None:
        self._pending += s.start, s.stop, s.step

    def _set(self, s: set) -> None:
        if not all(type(x) in PRIMITIVES for x in s):
            raise Unwatched("it can read a set of objects")
        if isinstance(s, set):
            self.guard.members(s)

    def _own_container(self, o: Any) -> None:
        """An instance of the user's class of dicts, lists, ...: besides its contents its class and attributes."""
        cls = type(o)
        if cls.__dictoffset__:
            self._entries(self.guard.object(o), set(vars(o)) if self.computed else self.names)
        self._class(cls)

    def _class(self, cls: type) -> None:
        """The user's classes among the bases: the entries that ran or can be named, and whether one could come between."""
        bases = [c for c in cls.__mro__ if not is_library(c) and c.__module__ != "builtins" and not _standard(c)]
        known = {name for c in cls.__mro__ for name in vars(c)}
        for c in bases:
            entries = _entries_of(c)
            self.guard.bases(c, entries)
            names = known & self.names
            if self.computed:
                names |= {name for name in entries if not name.startswith("_")}
            for name in sorted(names):
                value = self.guard.key(entries, name)
                if value is not ABSENT:
                    self._pending.append(value)
            for name, value in list(vars(c).items()):
                if name not in names and any(f.__code__ in self.codes for f in _functions_in(value)):
                    self._pending.append(self.guard.key(entries, name))
        for c in cls.__mro__:
            if is_library(c):  # somebody may put other functions there, or things of his own
                self._named(_entries_of(c), _given_by_the_user, issubclass(c, (Tensor, Module)))
            if issubclass(cls, Module):  # the library itself calls these
                for name in ("forward", "__call__"):
                    if name in vars(c):
                        self._pending.append(self.guard.key(_entries_of(c), name))
        if bases and id(type(cls)) not in self._seen and type(cls) not in (type, abc.ABCMeta, enum.EnumMeta):
            self._pending.append(type(cls))

    def _wrapped(self, o: Any) -> None:
        self._pending += _functions_in(o)

    def _object(self, o: Any) -> None:
        cls = type(o)
        if cls.__name__ == "Compiled" and is_library(cls):  # counts its calls
            self._entries(vars(o), {"_function"} | self.names & vars(o).keys())
            return
        if issubclass(cls, FormulaOptimizer):
            self._optimizer(o)
            if is_library(cls):
                return
        if is_library(cls):
            entries = self.guard.object(o)
            self.guard.whole(entries)
            self._pending += [v for k, v in entries.items() if k != "_non_persistent_buffers_set"]
            if id(cls) not in self._seen:
                self._pending.append(cls)
            return
        for c in cls.__mro__:
            if c not in _TRANSPARENT and not is_library(c) and (c.__module__ == "builtins" or _standard(c) or _made_in_c(c)):
                raise Unwatched(f"it can read an object of type {cls.__module__}.{cls.__qualname__}, whose changes cannot be noticed")
        entries = self.guard.object(o)
        everything = self.computed or any(is_library(c) and c not in (Module, FormulaOptimizer, Optimizer) for c in cls.__mro__)
        wanted = set(entries) if everything and not isinstance(o, FormulaOptimizer) else {k for k in entries if k in self.names}
        if issubclass(cls, Module):
            wanted = (wanted | _MODULE_KEYS & set(entries)) - {"_non_persistent_buffers_set"}
        if issubclass(cls, Module) and "forward" not in entries:
            self.guard.key(entries, "forward")
        self._entries(entries, wanted | self.stored | (self.names if self.computed else frozenset()))
        for name in sorted(self.names.intersection([n for c in cls.__mro__ for n in vars(c)]) - set(entries) - self.stored):
            self.guard.key(entries, name)  # an entry here would hide the one of the class
        if id(cls) not in self._seen:
            self._pending.append(cls)

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


_CONTAINERS: tuple[Any, ...] = (dict, list, tuple, (set, frozenset))
_WAYS: tuple[tuple[Any, Callable[[Reach, Any], None]], ...] = (
    (types.FunctionType, Reach._function),
    (types.MethodType, Reach._method),
    (functools.partial, Reach._partial),
    (types.ModuleType, Reach._module),
    (type, Reach._class),
    (dict, Reach._dict),
    (list, Reach._list),
    (tuple, Reach._tuple),
    (slice, Reach._slice),
    ((set, frozenset), Reach._set),
    ((property, staticmethod, classmethod, functools.cached_property), Reach._wrapped),
)


def _given_by_the_user(value: Any) -> bool:
    """Whether an entry of a library's class is none that the library put there."""
    return not is_library(value) and not isinstance(value, (property, type))


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
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return module is not None and module.__name__ != "__main__" and (file is None or of_python(file))


_OF_C = (types.MethodDescriptorType, types.WrapperDescriptorType, types.GetSetDescriptorType)


def _made_in_c(cls: type) -> bool:
    """Whether instances may keep fields where Python does not look: a class that no `class` statement made."""
    return any([isinstance(value, _OF_C) and name not in ("__dict__", "__weakref__") for name, value in vars(cls).items()])


def _has_slots(cls: type) -> bool:
    """Whether instances keep fields beside their `__dict__`, where a guard does not look."""
    return any(
        "__slots__" in vars(c) and vars(c)["__slots__"] not in ((), "__dict__")
        for c in cls.__mro__
        if c.__module__ != "builtins" and not is_library(c) and c not in _TRANSPARENT
    )
