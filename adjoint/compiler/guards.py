"""What a remembered call was found to read, and the question whether all of it is still the same object.

A `Guard` is a list of places (an entry of a dict, a whole dict, a list, the cell of a closure, a set) with what lay there
when it was made. `holds` compares by identity: what is equal but another object counts as changed, so that nothing of the
user's runs. The comparison is one native function over a table of addresses, in LLVM IR against CPython's stable
interface like all native code here; where the interpreter is another one, `_holds_in_python` does the same. The guard
keeps every object that its table names.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from types import CellType, FunctionType
from typing import Any

import numpy as np

from adjoint import config
from adjoint.runtime import cpython, jit
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import static_key

_KEY, _DICT, _LIST, _CELL, _TENSOR, _FUNCTION, _OBJECT = 0, 1, 2, 3, 4, 5, 6
_ABSENT = object()  # in place of what is not there

_API = ("PyDict_GetItemWithError", "PyDict_Next", "PyList_Size", "PyList_GetItem", "PyCell_Get", "Py_DecRef", "PyLong_FromLong",
        "PyLong_AsLongLong", "PyFunction_GetCode", "PyFunction_GetDefaults", "PyFunction_GetKwDefaults", "PyObject_GenericGetDict",
        "PyDict_Size")  # fmt: skip

# A record: kind, address of the container, number of words that follow, and those: (key, value), pairs, items, the content,
# the description of a tensor, what a function consists of, or class, dict and number of entries of an object. The table begins
# with the number of records.
_SOURCE = """
@guard.api = internal global [13 x ptr] zeroinitializer

define void @adjoint_guard_connect(i64 %k, ptr %function) {
  %at = getelementptr [13 x ptr], ptr @guard.api, i64 0, i64 %k
  store ptr %function, ptr %at
  ret void
}

define internal i1 @same.entry(ptr %d, ptr %words) {
  %get = load ptr, ptr @guard.api
  %key.word = load i64, ptr %words
  %key = inttoptr i64 %key.word to ptr
  %at = getelementptr i64, ptr %words, i64 1
  %wanted = load i64, ptr %at
  %found = call ptr %get(ptr %d, ptr %key)
  %found.word = ptrtoint ptr %found to i64
  %same = icmp eq i64 %found.word, %wanted
  ret i1 %same
}

define internal i1 @same.dict(ptr %d, i64 %n, ptr %words) {
entry:
  %position = alloca i64
  %key = alloca ptr
  %value = alloca ptr
  store i64 0, ptr %position
  %next = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 1)
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %values ]
  %more = call i32 %next(ptr %d, ptr %position, ptr %key, ptr %value)
  %end = icmp eq i32 %more, 0
  br i1 %end, label %over, label %room
room:
  %full = icmp uge i64 %i, %n
  br i1 %full, label %no, label %keys
keys:
  %at = getelementptr i64, ptr %words, i64 %i
  %k = load ptr, ptr %key
  %k.word = ptrtoint ptr %k to i64
  %k.wanted = load i64, ptr %at
  %k.same = icmp eq i64 %k.word, %k.wanted
  br i1 %k.same, label %values, label %no
values:
  %at.value = getelementptr i64, ptr %at, i64 1
  %v = load ptr, ptr %value
  %v.word = ptrtoint ptr %v to i64
  %v.wanted = load i64, ptr %at.value
  %v.same = icmp eq i64 %v.word, %v.wanted
  %j = add i64 %i, 2
  br i1 %v.same, label %loop, label %no
over:
  %all = icmp eq i64 %i, %n
  ret i1 %all
no:
  ret i1 false
}

define internal i1 @same.list(ptr %l, i64 %n, ptr %words) {
entry:
  %size = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 2)
  %get = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 3)
  %length = call i64 %size(ptr %l)
  %fits = icmp eq i64 %length, %n
  br i1 %fits, label %loop, label %no
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %item ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %yes, label %item
item:
  %found = call ptr %get(ptr %l, i64 %i)
  %word = ptrtoint ptr %found to i64
  %at = getelementptr i64, ptr %words, i64 %i
  %wanted = load i64, ptr %at
  %same = icmp eq i64 %word, %wanted
  %j = add i64 %i, 1
  br i1 %same, label %loop, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

define internal i1 @same.cell(ptr %c, ptr %words) {
entry:
  %get = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 4)
  %release = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 5)
  %found = call ptr %get(ptr %c)
  %word = ptrtoint ptr %found to i64
  %wanted = load i64, ptr %words
  %same = icmp eq i64 %word, %wanted
  %empty = icmp eq ptr %found, null
  br i1 %empty, label %answer, label %counted
counted:
  call void %release(ptr %found)
  br label %answer
answer:
  ret i1 %same
}

define internal i1 @same.function(ptr %f, ptr %words) {
  %get.code = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 8)
  %get.defaults = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 9)
  %get.named = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 10)
  %code = call i64 %get.code(ptr %f)
  %defaults = call i64 %get.defaults(ptr %f)
  %named = call i64 %get.named(ptr %f)
  %at.1 = getelementptr i64, ptr %words, i64 1
  %at.2 = getelementptr i64, ptr %words, i64 2
  %code.wanted = load i64, ptr %words
  %defaults.wanted = load i64, ptr %at.1
  %named.wanted = load i64, ptr %at.2
  %a = icmp eq i64 %code, %code.wanted
  %b = icmp eq i64 %defaults, %defaults.wanted
  %c = icmp eq i64 %named, %named.wanted
  %ab = and i1 %a, %b
  %abc = and i1 %ab, %c
  ret i1 %abc
}

define internal i1 @same.object(ptr %o, ptr %words) {
entry:
  %at.type = getelementptr i8, ptr %o, i64 8
  %type = load i64, ptr %at.type
  %type.wanted = load i64, ptr %words
  %a = icmp eq i64 %type, %type.wanted
  br i1 %a, label %alike, label %no
alike:
  %get = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 11)
  %d = call ptr %get(ptr %o, ptr null)
  %d.word = ptrtoint ptr %d to i64
  %at.1 = getelementptr i64, ptr %words, i64 1
  %d.wanted = load i64, ptr %at.1
  %b = icmp eq i64 %d.word, %d.wanted
  br i1 %b, label %sized, label %other
sized:
  %release = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 5)
  call void %release(ptr %d)
  %size = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 12)
  %n = call i64 %size(ptr %d)
  %at.2 = getelementptr i64, ptr %words, i64 2
  %n.wanted = load i64, ptr %at.2
  %c = icmp eq i64 %n, %n.wanted
  ret i1 %c
other:
  %release.2 = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 5)
  call void %release.2(ptr %d)
  ret i1 false
no:
  ret i1 false
}

; Whether everything that a table names is as it says.
define i1 @adjoint_guard_check(ptr %table) {
entry:
  %count = load i64, ptr %table
  %first = getelementptr i64, ptr %table, i64 1
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k.next, %again ]
  %at = phi ptr [ %first, %entry ], [ %at.next, %again ]
  %end = icmp eq i64 %k, %count
  br i1 %end, label %yes, label %record
record:
  %kind = load i64, ptr %at
  %at.object = getelementptr i64, ptr %at, i64 1
  %word = load i64, ptr %at.object
  %object = inttoptr i64 %word to ptr
  %at.n = getelementptr i64, ptr %at, i64 2
  %n = load i64, ptr %at.n
  %words = getelementptr i64, ptr %at, i64 3
  switch i64 %kind, label %entries [ i64 1, label %dict i64 2, label %list i64 3, label %cell
                                       i64 4, label %tensor i64 5, label %function i64 6, label %instance ]
entries:
  %same.0 = call i1 @same.entry(ptr %object, ptr %words)
  br label %judge
dict:
  %same.1 = call i1 @same.dict(ptr %object, i64 %n, ptr %words)
  br label %judge
list:
  %same.2 = call i1 @same.list(ptr %object, i64 %n, ptr %words)
  br label %judge
cell:
  %same.3 = call i1 @same.cell(ptr %object, ptr %words)
  br label %judge
tensor:
  %at.field = getelementptr i8, ptr %object, i64 {Tensor._aval}
  %field = load i64, ptr %at.field
  %field.wanted = load i64, ptr %words
  %same.4 = icmp eq i64 %field, %field.wanted
  br label %judge
function:
  %same.5 = call i1 @same.function(ptr %object, ptr %words)
  br label %judge
instance:
  %same.6 = call i1 @same.object(ptr %object, ptr %words)
  br label %judge
judge:
  %same = phi i1 [ %same.0, %entries ], [ %same.1, %dict ], [ %same.2, %list ], [ %same.3, %cell ], [ %same.4, %tensor ],
                 [ %same.5, %function ], [ %same.6, %instance ]
  br i1 %same, label %again, label %no
again:
  %k.next = add i64 %k, 1
  %at.next = getelementptr i64, ptr %words, i64 %n
  br label %loop
yes:
  ret i1 true
no:
  ret i1 false
}

; holds(address of a table): 1 or 0.
define ptr @adjoint_guard_holds(ptr %self, ptr %argument) {
  %as = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 7)
  %result = load ptr, ptr getelementptr ([13 x ptr], ptr @guard.api, i64 0, i64 6)
  %address = call i64 %as(ptr %argument)
  %table = inttoptr i64 %address to ptr
  %same = call i1 @adjoint_guard_check(ptr %table)
  %word = zext i1 %same to i64
  %answer = call ptr %result(i64 %word)
  ret ptr %answer
}
"""

_native: Any = None  # the native function; False where there is none
_check = 0  # where the same lies for other modules of native code
_kept: list[Any] = []


def _connected() -> Any:
    """The native comparison, or False."""
    global _native, _check
    if _native is None:
        _native = False
        if cpython.plain() and jit.available() and config.get("ADJOINT_NATIVE_RECORDER"):
            source = _SOURCE.replace("{Tensor._aval}", str(cpython.offsets(Tensor, "_aval")["Tensor._aval"]))
            module = jit.compile_module(source, level=0)
            _kept.append(module)
            give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(module.address("adjoint_guard_connect"))
            for k, name in enumerate(_API):
                give(k, cpython.address_of(name))
            _check = module.address("adjoint_guard_check")
            _native = cpython.function("holds", module.address("adjoint_guard_holds"), cpython.ONE_ARGUMENT)
    return _native


class _Count(int):
    """A word of a table that is a number."""


def entries_of(o: Any) -> dict:
    """The `__dict__` of an object, whatever its class makes of that name."""
    return object.__getattribute__(o, "__dict__")


def _now(kind: int, where: Any, found: list[Any]) -> list[Any]:
    """The words of a place as they would be now."""
    if kind == _KEY:
        return [found[0], dict.get(where, found[0], _ABSENT)]
    if kind == _DICT:
        return [x for pair in dict.items(where) for x in pair]
    if kind == _LIST:
        return list(where)
    if kind == _TENSOR:
        return [where._aval]
    if kind == _FUNCTION:
        return [where.__code__, *[_ABSENT if x is None else x for x in (where.__defaults__, where.__kwdefaults__)]]
    if kind == _OBJECT:
        entries = entries_of(where)
        return [type(where), entries, _Count(len(entries))]
    try:
        return [where.cell_contents]
    except ValueError:
        return [_ABSENT]


def _differ(now: list[Any], found: list[Any]) -> bool:
    return len(now) != len(found) or any(
        [a is not b and not (type(a) is _Count and a == b) for a, b in zip(now, found, strict=True)]
    )


def _in_words(kind: int, now: list[Any], found: list[Any]) -> str:
    """What has changed at a place."""
    if kind == _KEY:
        return f"the value of {found[0]!r}"
    if kind == _DICT:
        if len(now) != len(found):
            return f"a dict with the entries {', '.join(map(repr, now[:16:2]))}"
        k = next(k for k, (a, b) in enumerate(zip(now, found, strict=True)) if a is not b)
        return f"the value of {now[k - k % 2]!r}"
    if kind == _LIST:
        return f"a list of {len(now)} items"
    return {
        _TENSOR: "the shape or the gradient requirement of a tensor", _CELL: "a variable of an enclosing function",
        _FUNCTION: "a function", _OBJECT: "which attributes an object has",
    }[kind]  # fmt: skip


class Guard:
    """Places and what lay there; `seal` ends the making, `holds` asks whether it all is still so."""

    def __init__(self) -> None:
        self.places: list[tuple[int, Any, list[Any]]] = []
        self.sets: list[tuple[set, set]] = []
        self.orders: list[tuple[OrderedDict, list]] = []
        self.classes: list[tuple[type, tuple, dict, int]] = []
        self.size = 0
        self._table: np.ndarray | None = None
        self._address = 0

    def _add(self, kind: int, where: Any, words: list[Any]) -> None:
        self.places.append((kind, where, words))
        self.size += 1 + len(words)

    def key(self, d: dict, key: Any) -> Any:
        """Watch one entry, present or not; its present value or `ABSENT`."""
        value = dict.get(d, key, _ABSENT)
        self._add(_KEY, d, [key, value])
        return value

    def whole(self, d: dict) -> None:
        """Watch which entries there are, in which order, and all values."""
        self._add(_DICT, d, [x for pair in dict.items(d) for x in pair])

    def items(self, items: list) -> None:
        """Watch the items of a list."""
        self._add(_LIST, items, list(items))

    def cell(self, cell: CellType) -> Any:
        """Watch a variable of a closure."""
        try:
            value = cell.cell_contents
        except ValueError:
            value = _ABSENT
        self._add(_CELL, cell, [value])
        return value

    def description(self, t: Tensor) -> None:
        """Watch shape, dtype and gradient requirement of a tensor."""
        self._add(_TENSOR, t, [t._aval])

    def function(self, f: FunctionType) -> None:
        """Watch code and default values of a function."""
        self._add(_FUNCTION, f, _now(_FUNCTION, f, []))

    def object(self, o: Any) -> dict:
        """Watch the class of an object, which dict its attributes lie in, and how many they are; that dict."""
        words = _now(_OBJECT, o, [])
        self._add(_OBJECT, o, words)
        return words[1]

    def order(self, d: OrderedDict) -> None:
        """Watch the order of a dict that keeps one of its own."""
        self.orders.append((d, list(d)))

    def bases(self, cls: type, entries: dict) -> None:
        """Watch the bases of a class, and that it has no entries more than now."""
        self.classes.append((cls, cls.__mro__, entries, len(entries)))

    def members(self, s: set) -> None:
        """Watch the members of a set, which are numbers or text."""
        self.sets.append((s, {*map(static_key, s)}))

    def seal(self) -> Guard:
        words = [len(self.places)]
        for kind, where, found in self.places:
            words += kind, id(where), len(found)
            words += [0 if x is _ABSENT else int(x) if type(x) is _Count else id(x) for x in found]
        self._table = np.array(words, np.int64)
        self._address = self._table.__array_interface__["data"][0]
        return self

    def holds(self) -> bool:
        """Whether every place still has the object it had."""
        native = _native if _native is not None else _connected()
        same = native(self._address) if native else self._holds_in_python()
        if same and (self.sets or self.orders or self.classes):
            return not self._changed_in_python()
        return bool(same)

    def native(self) -> tuple[int, int] | None:
        """The function that compares and its table, for native code; None where there is more to compare, or no such function.
        (0, 0) where there is nothing to compare."""
        if self.sets or self.orders or self.classes:
            return None
        if not self.places:
            return 0, 0
        return (_check, self._address) if _connected() else None

    def _changed_in_python(self) -> str:
        for c, mro, entries, n in self.classes:
            if c.__mro__ is not mro or len(entries) != n:
                return f"the class {c.__qualname__}"
        for d, keys in self.orders:
            if _differ(list(d), keys):
                return "the order of a dict"
        for s, members in self.sets:
            if {*map(static_key, s)} != members:
                return f"a set of {len(members)} members"
        return ""

    def _other(self) -> tuple[int, list[Any], list[Any]] | None:
        """The first place that has changed: its kind, its words as they are now, and as they were found."""
        for kind, where, found in self.places:
            now = _now(kind, where, found)
            if _differ(now, found):
                return kind, now, found
        return None

    def _holds_in_python(self) -> bool:
        return self._other() is None

    def changed(self) -> str:
        """What is no longer the same, in words; empty if all is."""
        other = self._other()
        return _in_words(*other) if other is not None else self._changed_in_python()


ABSENT = _ABSENT
