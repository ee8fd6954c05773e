"""What a remembered call was found to read, and the question whether all of it is still the same object.

A `Guard` is a list of places (an entry of a dict, a whole dict, a list, the cell of a closure, a set) with what lay there
when it was made. `holds` compares by identity: what is equal but another object counts as changed, so that nothing of the
user's runs. The comparison is one native function over a table of addresses, in LLVM IR against CPython's stable
interface like all native code here; where the interpreter is another one, `_holds_in_python` does the same. The guard
keeps every object that its table names.
"""

from __future__ import annotations

import ctypes
from types import CellType
from typing import Any

import numpy as np

from adjoint import config
from adjoint.runtime import cpython, jit
from adjoint.trace.handle import Tensor
from adjoint.trace.native import offsets

_KEY, _DICT, _LIST, _CELL, _TENSOR = 0, 1, 2, 3, 4
_ABSENT = object()  # in place of what is not there

_API = ("PyDict_GetItemWithError", "PyDict_Next", "PyList_Size", "PyList_GetItem", "PyCell_Get", "Py_DecRef", "PyLong_FromLong",
        "PyLong_AsLongLong")  # fmt: skip

# A record: kind, address of the container, number of words that follow, and those: (key, value), pairs, items, the content,
# or the description of a tensor. The table begins with the number of records.
_SOURCE = """
@guard.api = internal global [8 x ptr] zeroinitializer

define void @adjoint_guard_connect(i64 %k, ptr %function) {
  %at = getelementptr [8 x ptr], ptr @guard.api, i64 0, i64 %k
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
  %next = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 1)
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
  %size = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 2)
  %get = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 3)
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
  %get = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 4)
  %release = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 5)
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

; holds(address of a table): 1 or 0.
define ptr @adjoint_guard_holds(ptr %self, ptr %argument) {
entry:
  %as = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 7)
  %result = load ptr, ptr getelementptr ([8 x ptr], ptr @guard.api, i64 0, i64 6)
  %address = call i64 %as(ptr %argument)
  %table = inttoptr i64 %address to ptr
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
                                       i64 4, label %tensor ]
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
judge:
  %same = phi i1 [ %same.0, %entries ], [ %same.1, %dict ], [ %same.2, %list ], [ %same.3, %cell ], [ %same.4, %tensor ]
  br i1 %same, label %again, label %no
again:
  %k.next = add i64 %k, 1
  %at.next = getelementptr i64, ptr %words, i64 %n
  br label %loop
yes:
  %one = call ptr %result(i64 1)
  ret ptr %one
no:
  %zero = call ptr %result(i64 0)
  ret ptr %zero
}
"""

_native: Any = None  # the native function; False where there is none
_kept: list[Any] = []


def _connected() -> Any:
    """The native comparison, or False."""
    global _native
    if _native is None:
        _native = False
        if cpython.plain() and jit.available() and config.get("ADJOINT_NATIVE_RECORDER"):
            source = _SOURCE.replace("{Tensor._aval}", str(offsets(Tensor, "_aval")["Tensor._aval"]))
            module = jit.compile_module(source, level=0)
            _kept.append(module)
            give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(module.address("adjoint_guard_connect"))
            for k, name in enumerate(_API):
                give(k, cpython.address_of(name))
            _native = cpython.function("holds", module.address("adjoint_guard_holds"), cpython.ONE_ARGUMENT)
    return _native


class Guard:
    """Places and what lay there; `seal` ends the making, `holds` asks whether it all is still so."""

    def __init__(self) -> None:
        self.places: list[tuple[int, Any, list[Any]]] = []
        self.sets: list[tuple[set, frozenset]] = []
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

    def members(self, s: set) -> None:
        """Watch the members of a set, which are numbers or text."""
        self.sets.append((s, frozenset(s)))

    def seal(self) -> Guard:
        words = [len(self.places)]
        for kind, where, found in self.places:
            words += kind, id(where), len(found)
            words += [0 if x is _ABSENT else id(x) for x in found]
        self._table = np.array(words, np.int64)
        self._address = self._table.__array_interface__["data"][0]
        return self

    def holds(self) -> bool:
        """Whether every place still has the object it had."""
        native = _native if _native is not None else _connected()
        same = native(self._address) if native else self._holds_in_python()
        if same and self.sets:
            return all([s == members for s, members in self.sets])
        return bool(same)

    def _holds_in_python(self) -> bool:
        for kind, where, found in self.places:
            if kind == _KEY:
                now: list[Any] = [found[0], dict.get(where, found[0], _ABSENT)]
            elif kind == _DICT:
                now = [x for pair in dict.items(where) for x in pair]
            elif kind == _LIST:
                now = where
            elif kind == _TENSOR:
                now = [where._aval]
            else:
                try:
                    now = [where.cell_contents]
                except ValueError:
                    now = [_ABSENT]
            if len(now) != len(found) or any([a is not b for a, b in zip(now, found, strict=True)]):
                return False
        return True

    def changed(self) -> str:
        """What is no longer the same, in words; empty if all is."""
        for kind, where, found in self.places:
            if kind == _KEY and dict.get(where, found[0], _ABSENT) is not found[1]:
                return f"the value of {found[0]!r}"
            if kind == _DICT:
                now = [x for pair in dict.items(where) for x in pair]
                if len(now) != len(found):
                    return f"a dict with the entries {', '.join(map(repr, list(where)[:8]))}"
                for k in range(0, len(now), 2):
                    if now[k] is not found[k] or now[k + 1] is not found[k + 1]:
                        return f"the value of {now[k]!r}"
            if kind == _LIST and (len(where) != len(found) or any([a is not b for a, b in zip(where, found, strict=True)])):
                return f"a list of {len(where)} items"
            if kind == _TENSOR and where._aval is not found[0]:
                return "the shape or the gradient requirement of a tensor"
            if kind == _CELL and (where.cell_contents if found[0] is not _ABSENT else _ABSENT) is not found[0]:
                return "a variable of an enclosing function"
        return next((f"a set of {len(s)} members" for s, members in self.sets if s != members), "")


ABSENT = _ABSENT
