"""The recorder's fast path in native code.

Recording an operation that is known at this place of the trace is a dozen loads, stores and reference counts: as Python
some 300 ns, here about 80. The functions below do just what `recorder.unary_in_python`, `one_in_python`, `two_in_python`
and the operators of `ops.elementwise` do on their fast path, and call those for everything else: another thread's turn,
a subclass, a first time, a tensor that is not plainly bound, reference mode.

They are written in LLVM IR, like all native code here, against functions of CPython's stable interface. The fields of
`Tensor`, `Trace` and `Step` are read at the places where their slots lie, which `offsets` finds by looking; the
interpreter's lock is held throughout, and nothing here runs Python code between two changes of a trace, so a signal
cannot part them. `install` is called once a process has shown that it repeats itself; without CPython, without its
lock, or with ADJOINT_NATIVE_RECORDER=0 the Python versions stay.

Read `_OPERATION`, then `_SLOT`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from adjoint import config
from adjoint.runtime import jit
from adjoint.trace import recorder
from adjoint.trace.handle import Parameter, Tensor
from adjoint.trace.state import Trace, fast
from adjoint.trace.trie import Step

_API = (
    "Py_IncRef", "Py_DecRef", "PyTuple_New", "PyTuple_SetItem", "PyDict_GetItemWithError", "PyList_Append",
    "PyLong_AsLongLong", "PyErr_Clear", "PyObject_Vectorcall", "PyThreadState_Get", "PyThreadState_GetID",
    "PyErr_Occurred",
)  # fmt: skip
_OBJECTS = ("none", "false", "zero", "tensor", "parameter", "float", "int", "empty")

# name of the operator: (primitive, whether the operands are swapped)
OPERATORS = {
    "__add__": ("add", False), "__radd__": ("add", False), "__sub__": ("sub", False), "__rsub__": ("sub", True),
    "__mul__": ("mul", False), "__rmul__": ("mul", False), "__truediv__": ("div", False), "__rtruediv__": ("div", True),
}  # fmt: skip

# {offset:...} are filled in by `_source`. `@py` holds functions, `@object` objects, `@prim` the names of primitives and
# `@fallback` the Python versions of the operators.
_COMMON = """
@py = internal global [{n_api} x ptr] zeroinitializer
@object = internal global [{n_objects} x ptr] zeroinitializer
@prim = internal global [{n_operators} x ptr] zeroinitializer
@fallback = internal global [{n_fallbacks} x ptr] zeroinitializer
@new = internal global ptr null
@owner = internal global i64 -1
@trace = internal global ptr null

define void @give(i64 %table, i64 %k, ptr %value) {
  switch i64 %table, label %new [ i64 0, label %py
    i64 1, label %object
    i64 2, label %prim
    i64 3, label %fallback ]
py:
  %a = getelementptr ptr, ptr @py, i64 %k
  store ptr %value, ptr %a
  ret void
object:
  %b = getelementptr ptr, ptr @object, i64 %k
  store ptr %value, ptr %b
  ret void
prim:
  %c = getelementptr ptr, ptr @prim, i64 %k
  store ptr %value, ptr %c
  ret void
fallback:
  %d = getelementptr ptr, ptr @fallback, i64 %k
  store ptr %value, ptr %d
  ret void
new:
  store ptr %value, ptr @new
  ret void
}

define internal void @keep(ptr %o) alwaysinline {
  %f = load ptr, ptr @py
  call void %f(ptr %o)
  ret void
}

define internal void @drop(ptr %o) alwaysinline {
  %f = load ptr, ptr getelementptr (ptr, ptr @py, i64 1)
  call void %f(ptr %o)
  ret void
}

; Replace the reference in a slot.
define internal void @set(ptr %at, ptr %value) {
entry:
  %old = load ptr, ptr %at
  call void @keep(ptr %value)
  store ptr %value, ptr %at
  %none = icmp eq ptr %old, null
  br i1 %none, label %out, label %release
release:
  call void @drop(ptr %old)
  br label %out
out:
  ret void
}

; claim(trace): this thread's trace is the one that the fast path works on.
define ptr @claim(ptr %self, ptr %trace) {
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 9)
  %number = load ptr, ptr getelementptr (ptr, ptr @py, i64 10)
  %state = call ptr %get()
  %id = call i64 %number(ptr %state)
  store i64 %id, ptr @owner
  call void @set(ptr @trace, ptr %trace)
  %none = load ptr, ptr @object
  call void @keep(ptr %none)
  ret ptr %none
}

; The trace, if this thread owns it.
define internal ptr @mine() alwaysinline {
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 9)
  %number = load ptr, ptr getelementptr (ptr, ptr @py, i64 10)
  %state = call ptr %get()
  %id = call i64 %number(ptr %state)
  %owner = load i64, ptr @owner
  %trace = load ptr, ptr @trace
  %same = icmp eq i64 %id, %owner
  %found = select i1 %same, ptr %trace, ptr null
  ret ptr %found
}
"""

# A tensor's slot in the trace, binding it if it is plainly concrete and known to follow; null where Python must look.
_SLOT = """
define internal ptr @slot(ptr %trace, ptr %t) {
entry:
  %none = load ptr, ptr @object
  %id.at = getelementptr i8, ptr %trace, i64 {Trace.id}
  %id = load ptr, ptr %id.at
  %tid.at = getelementptr i8, ptr %t, i64 {Tensor._tid}
  %tid = load ptr, ptr %tid.at
  %slot.at = getelementptr i8, ptr %t, i64 {Tensor._slot}
  %same = icmp eq ptr %id, %tid
  br i1 %same, label %known, label %compare
compare:
  %unset = icmp eq ptr %tid, null
  br i1 %unset, label %slow, label %numbers
numbers:
  %as = load ptr, ptr getelementptr (ptr, ptr @py, i64 6)
  %x = call i64 %as(ptr %id)
  %y = call i64 %as(ptr %tid)
  %equal = icmp eq i64 %x, %y
  br i1 %equal, label %known, label %outside
known:
  %slot = load ptr, ptr %slot.at
  ret ptr %slot
outside:
  %special.at = getelementptr i8, ptr %t, i64 {Tensor._special}
  %special = load ptr, ptr %special.at
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %plain = icmp eq ptr %special, %false
  br i1 %plain, label %value, label %slow
value:
  %data.at = getelementptr i8, ptr %t, i64 {Tensor._data}
  %data = load ptr, ptr %data.at
  %pending = icmp eq ptr %data, %none
  %missing = icmp eq ptr %data, null
  %absent = or i1 %pending, %missing
  br i1 %absent, label %slow, label %find
find:
  %aval.at = getelementptr i8, ptr %t, i64 {Tensor._aval}
  %aval = load ptr, ptr %aval.at
  %step = call ptr @child(ptr %trace, ptr %aval, ptr %none, ptr %none, i64 1)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %bind
bind:
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  call void @set(ptr %node.at, ptr %step)
  %inputs.at = getelementptr i8, ptr %trace, i64 {Trace.inputs}
  %inputs = load ptr, ptr %inputs.at
  %e1 = call i32 %append(ptr %inputs, ptr %t)
  %buffers.at = getelementptr i8, ptr %trace, i64 {Trace.buffers}
  %buffers = load ptr, ptr %buffers.at
  %e2 = call i32 %append(ptr %buffers, ptr %data)
  call void @set(ptr %tid.at, ptr %id)
  %place.at = getelementptr i8, ptr %step, i64 {Step.slot}
  %place = load ptr, ptr %place.at
  call void @set(ptr %slot.at, ptr %place)
  ret ptr %place
slow:
  ret ptr null
}
"""

# The child of the trace's node under a key of `n` parts (an input's key is its one part), or null.
_CHILD = """
define internal ptr @child(ptr %trace, ptr %k0, ptr %k1, ptr %k2, i64 %n) {
entry:
  %none = load ptr, ptr @object
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  %node = load ptr, ptr %node.at
  %hot.at = getelementptr i8, ptr %node, i64 {Step.hot}
  %hot = load ptr, ptr %hot.at
  %cold = icmp eq ptr %hot, %none
  br i1 %cold, label %search, label %look
look:
  %h0.at = getelementptr i8, ptr %hot, i64 {Step.k0}
  %h0 = load ptr, ptr %h0.at
  %h1.at = getelementptr i8, ptr %hot, i64 {Step.k1}
  %h1 = load ptr, ptr %h1.at
  %h2.at = getelementptr i8, ptr %hot, i64 {Step.k2}
  %h2 = load ptr, ptr %h2.at
  %e0 = icmp eq ptr %h0, %k0
  %e1 = icmp eq ptr %h1, %k1
  %e2 = icmp eq ptr %h2, %k2
  %e01 = and i1 %e0, %e1
  %e = and i1 %e01, %e2
  br i1 %e, label %found, label %search
found:
  ret ptr %hot
search:
  %children.at = getelementptr i8, ptr %node, i64 {Step.children}
  %children = load ptr, ptr %children.at
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 4)
  %one = icmp eq i64 %n, 1
  br i1 %one, label %simple, label %tuple
simple:
  %s1 = call ptr %get(ptr %children, ptr %k0)
  br label %have
tuple:
  %make = load ptr, ptr getelementptr (ptr, ptr @py, i64 2)
  %put = load ptr, ptr getelementptr (ptr, ptr @py, i64 3)
  %key = call ptr %make(i64 %n)
  %failed = icmp eq ptr %key, null
  br i1 %failed, label %nothing, label %fill
fill:
  call void @keep(ptr %k0)
  %p0 = call i32 %put(ptr %key, i64 0, ptr %k0)
  call void @keep(ptr %k1)
  %p1 = call i32 %put(ptr %key, i64 1, ptr %k1)
  %three = icmp eq i64 %n, 3
  br i1 %three, label %third, label %ask
third:
  call void @keep(ptr %k2)
  %p2 = call i32 %put(ptr %key, i64 2, ptr %k2)
  br label %ask
ask:
  %s2 = call ptr %get(ptr %children, ptr %key)
  call void @drop(ptr %key)
  br label %have
have:
  %step = phi ptr [ %s1, %simple ], [ %s2, %ask ]
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %nothing, label %remember
remember:
  call void @set(ptr %hot.at, ptr %step)
  ret ptr %step
nothing:
  %clear = load ptr, ptr getelementptr (ptr, ptr @py, i64 7)
  call void %clear()
  ret ptr null
}

; Move on to a step and make the handle of its result.
define internal ptr @take(ptr %trace, ptr %step) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %type = load ptr, ptr getelementptr (ptr, ptr @object, i64 3)
  %empty = load ptr, ptr getelementptr (ptr, ptr @object, i64 7)
  %new = load ptr, ptr @new
  %out = call ptr %new(ptr %type, ptr %empty, ptr null)
  %failed = icmp eq ptr %out, null
  br i1 %failed, label %done, label %fill
fill:
  %id.at = getelementptr i8, ptr %trace, i64 {Trace.id}
  %id = load ptr, ptr %id.at
  %o.tid = getelementptr i8, ptr %out, i64 {Tensor._tid}
  call void @keep(ptr %id)
  store ptr %id, ptr %o.tid
  %s.slot = getelementptr i8, ptr %step, i64 {Step.slot}
  %slot = load ptr, ptr %s.slot
  %o.slot = getelementptr i8, ptr %out, i64 {Tensor._slot}
  call void @keep(ptr %slot)
  store ptr %slot, ptr %o.slot
  %s.aval = getelementptr i8, ptr %step, i64 {Step.aval}
  %aval = load ptr, ptr %s.aval
  %o.aval = getelementptr i8, ptr %out, i64 {Tensor._aval}
  call void @keep(ptr %aval)
  store ptr %aval, ptr %o.aval
  %o.data = getelementptr i8, ptr %out, i64 {Tensor._data}
  call void @keep(ptr %none)
  store ptr %none, ptr %o.data
  %o.special = getelementptr i8, ptr %out, i64 {Tensor._special}
  call void @keep(ptr %false)
  store ptr %false, ptr %o.special
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  call void @set(ptr %node.at, ptr %step)
  %handles.at = getelementptr i8, ptr %trace, i64 {Trace.handles}
  %handles = load ptr, ptr %handles.at
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %e = call i32 %append(ptr %handles, ptr %out)
  br label %done
done:
  ret ptr %out
}

define internal i1 @is_tensor(ptr %o) alwaysinline {
  %type.at = getelementptr i8, ptr %o, i64 {type}
  %type = load ptr, ptr %type.at
  %tensor = load ptr, ptr getelementptr (ptr, ptr @object, i64 3)
  %parameter = load ptr, ptr getelementptr (ptr, ptr @object, i64 4)
  %a = icmp eq ptr %type, %tensor
  %b = icmp eq ptr %type, %parameter
  %c = or i1 %a, %b
  ret i1 %c
}

; Hand an operation over to Python with its own arguments.
define internal ptr @hand_over(i64 %k, ptr %arguments, i64 %count) {
  %at = getelementptr ptr, ptr @fallback, i64 %k
  %function = load ptr, ptr %at
  %call = load ptr, ptr getelementptr (ptr, ptr @py, i64 8)
  %out = call ptr %call(ptr %function, ptr %arguments, i64 %count, ptr null)
  ret ptr %out
}
"""

# Functions of (primitive, tensor), (primitive, tensor, attributes), (primitive, tensor, tensor).
_FUNCTIONS = """
define ptr @unary(ptr %self, ptr %arguments, i64 %count) {
entry:
  %none = load ptr, ptr @object
  %right = icmp eq i64 %count, 2
  br i1 %right, label %start, label %slow
start:
  %prim = load ptr, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %x = load ptr, ptr %a1
  %fits = call i1 @is_tensor(ptr %x)
  br i1 %fits, label %own, label %slow
own:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %first
first:
  %s = call ptr @slot(ptr %trace, ptr %x)
  %odd = icmp eq ptr %s, null
  br i1 %odd, label %slow, label %find
find:
  %step = call ptr @child(ptr %trace, ptr %prim, ptr %s, ptr %none, i64 2)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %out = call ptr @take(ptr %trace, ptr %step)
  ret ptr %out
slow:
  %p = call ptr @hand_over(i64 0, ptr %arguments, i64 %count)
  ret ptr %p
}

define ptr @one(ptr %self, ptr %arguments, i64 %count) {
entry:
  %right = icmp eq i64 %count, 3
  br i1 %right, label %start, label %slow
start:
  %prim = load ptr, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %x = load ptr, ptr %a1
  %a2 = getelementptr ptr, ptr %arguments, i64 2
  %attrs = load ptr, ptr %a2
  %fits = call i1 @is_tensor(ptr %x)
  br i1 %fits, label %own, label %slow
own:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %first
first:
  %s = call ptr @slot(ptr %trace, ptr %x)
  %odd = icmp eq ptr %s, null
  br i1 %odd, label %slow, label %find
find:
  %step = call ptr @child(ptr %trace, ptr %prim, ptr %s, ptr %attrs, i64 3)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %out = call ptr @take(ptr %trace, ptr %step)
  ret ptr %out
slow:
  %p = call ptr @hand_over(i64 1, ptr %arguments, i64 %count)
  ret ptr %p
}

define ptr @two(ptr %self, ptr %arguments, i64 %count) {
entry:
  %right = icmp eq i64 %count, 3
  br i1 %right, label %start, label %slow
start:
  %prim = load ptr, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %x = load ptr, ptr %a1
  %a2 = getelementptr ptr, ptr %arguments, i64 2
  %y = load ptr, ptr %a2
  %fits.x = call i1 @is_tensor(ptr %x)
  %fits.y = call i1 @is_tensor(ptr %y)
  %fits = and i1 %fits.x, %fits.y
  br i1 %fits, label %own, label %slow
own:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %first
first:
  %s = call ptr @slot(ptr %trace, ptr %x)
  %odd.x = icmp eq ptr %s, null
  br i1 %odd.x, label %slow, label %second
second:
  %r = call ptr @slot(ptr %trace, ptr %y)
  %odd.y = icmp eq ptr %r, null
  br i1 %odd.y, label %slow, label %find
find:
  %step = call ptr @child(ptr %trace, ptr %prim, ptr %s, ptr %r, i64 3)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %out = call ptr @take(ptr %trace, ptr %step)
  ret ptr %out
slow:
  %p = call ptr @hand_over(i64 2, ptr %arguments, i64 %count)
  ret ptr %p
}
"""

# A binary operator as a method: a tensor with a tensor or with a Python number.
_OPERATION = """
define ptr @{name}(ptr %self, ptr %arguments, i64 %count) {
entry:
  %both = alloca [2 x ptr]
  %prim.at = getelementptr ptr, ptr @prim, i64 {k}
  %prim = load ptr, ptr %prim.at
  %right = icmp eq i64 %count, 1
  br i1 %right, label %start, label %wrong
start:
  %b = load ptr, ptr %arguments
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %kind
kind:
  %fits = call i1 @is_tensor(ptr %b)
  br i1 %fits, label %{first}, label %number
tensor:
  %s = call ptr @slot(ptr %trace, ptr %self)
  %odd.a = icmp eq ptr %s, null
  br i1 %odd.a, label %slow, label %second
second:
  %r = call ptr @slot(ptr %trace, ptr %b)
  %odd.b = icmp eq ptr %r, null
  br i1 %odd.b, label %slow, label %find
find:
  %step = call ptr @child(ptr %trace, ptr %prim, ptr %s, ptr %r, i64 3)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %out = call ptr @take(ptr %trace, ptr %step)
  ret ptr %out
number:
  %type.at = getelementptr i8, ptr %b, i64 {type}
  %type = load ptr, ptr %type.at
  %float = load ptr, ptr getelementptr (ptr, ptr @object, i64 5)
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %is.float = icmp eq ptr %type, %float
  %is.int = icmp eq ptr %type, %int
  %simple = or i1 %is.float, %is.int
  %static.at = getelementptr i8, ptr %trace, i64 {Trace.static}
  %static = load ptr, ptr %static.at
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %live = icmp eq ptr %static, %zero
  %can = and i1 %simple, %live
  br i1 %can, label %alone, label %slow
alone:
  %n = call ptr @slot(ptr %trace, ptr %self)
  %odd.n = icmp eq ptr %n, null
  br i1 %odd.n, label %slow, label %seek
seek:
  %child = call ptr @child(ptr %trace, ptr %prim, ptr %{number_first}, ptr %{number_second}, i64 3)
  %strange = icmp eq ptr %child, null
  br i1 %strange, label %slow, label %lend
lend:
  %scalars.at = getelementptr i8, ptr %trace, i64 {Trace.scalars}
  %scalars = load ptr, ptr %scalars.at
  %result = call ptr @take(ptr %trace, ptr %child)
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %e = call i32 %append(ptr %scalars, ptr %b)
  ret ptr %result
slow:
  store ptr %self, ptr %both
  %second.at = getelementptr [2 x ptr], ptr %both, i64 0, i64 1
  %operand = load ptr, ptr %arguments
  store ptr %operand, ptr %second.at
  %p = call ptr @hand_over(i64 {fallback}, ptr %both, i64 2)
  ret ptr %p
wrong:
  %q = call ptr @hand_over(i64 {fallback}, ptr %both, i64 0)
  ret ptr %q
}
"""


def offsets(cls: type, *names: str) -> dict[str, int]:
    """Where the slots of a class lie in its instances, in bytes; found by writing them and looking."""
    found = {}
    for name in names:
        one: Any = object.__new__(cls)
        mark = object()
        setattr(one, name, mark)
        words = (ctypes.c_void_p * (cls.__basicsize__ // 8)).from_address(id(one))
        places = [k for k, word in enumerate(words) if word == id(mark)]
        if len(places) != 1:
            raise LookupError(f"slot {name} of {cls.__name__} was not found once but {len(places)} times")
        found[f"{cls.__name__}.{name}"] = 8 * places[0]
        delattr(one, name)
    return found


def _source() -> str:
    """The module's IR for this interpreter."""
    where = offsets(Tensor, "_tid", "_slot", "_aval", "_data", "_special")
    where |= offsets(Trace, "id", "node", "inputs", "buffers", "scalars", "handles", "static")
    where |= offsets(Step, "children", "hot", "k0", "k1", "k2", "slot", "aval")
    one = object()
    header = (ctypes.c_void_p * 2).from_address(id(one))
    where["type"] = 8 * list(header).index(id(object))
    where["n_api"], where["n_objects"] = len(_API), len(_OBJECTS)
    where["n_operators"], where["n_fallbacks"] = len(OPERATORS), len(OPERATORS) + 3

    def fill(text: str, **more: Any) -> str:
        for name, value in {**where, **more}.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    parts = [_COMMON, _SLOT, _CHILD, _FUNCTIONS]
    texts = [fill(p) for p in parts]
    for k, (name, (_, swapped)) in enumerate(OPERATORS.items()):
        places = ("type", "n") if swapped else ("n", "type")
        texts.append(
            fill(
                _OPERATION,
                name=name.strip("_"),
                k=k,
                fallback=k + 3,
                first="slow" if swapped else "tensor",
                number_first=places[0],
                number_second=places[1],
            )
        )
    return "\n".join(texts)


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)
    ]  # fmt: skip


_FASTCALL, _ONE_ARGUMENT = 0x80, 0x08
_kept: list[Any] = []  # what native code refers to without counting
installed = False


def _definition(name: str, address: int, flags: int, doc: str | None = None) -> int:
    definition = _MethodDef(name.encode(), address, flags, doc.encode() if doc else None)
    _kept.append(definition)
    return ctypes.addressof(definition)


def possible() -> bool:
    """Whether this interpreter is one the native code was written for."""
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    return (
        config.get("ADJOINT_NATIVE_RECORDER")
        and sys.implementation.name == "cpython"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and not hasattr(sys, "gettotalrefcount")  # a debug build lays objects out in another way
        and locked
        and jit.available()
    )


def install() -> None:
    """Put the native versions in place of the Python ones."""
    global installed
    if installed:
        return
    installed = True
    if not possible():
        return
    module = jit.compile_module(_source(), level=0)
    _kept.append(module)
    _connect(module.address)


def _connect(address: Callable[[str], int]) -> None:
    give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address("give"))
    for k, name in enumerate(_API):
        give(0, k, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    objects = (None, False, 0, Tensor, Parameter, float, int, ())
    for k, o in enumerate(objects):
        give(1, k, id(o))
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
    give(4, 0, find(object, 65))  # Py_tp_new: what object.__new__ calls
    fallbacks: list[Any] = [recorder.unary_in_python, recorder.one_in_python, recorder.two_in_python]
    fallbacks += [Tensor.__dict__[name] for name in OPERATORS]
    names = [sys.intern(prim) for prim, _ in OPERATORS.values()]
    _kept.append((objects, fallbacks, names))
    for k, prim in enumerate(names):
        give(2, k, id(prim))
    for k, function in enumerate(fallbacks):
        give(3, k, id(function))
    function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    method = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)(
        ("PyDescr_NewMethod", ctypes.pythonapi)
    )
    claim = function(_definition("claim", address("claim"), _ONE_ARGUMENT), None, None)
    fast.claim = claim
    fast.take_over()
    recorder._unary = function(_definition("record_unary", address("unary"), _FASTCALL), None, None)
    recorder._one = function(_definition("record_one", address("one"), _FASTCALL), None, None)
    recorder._two = function(_definition("record_two", address("two"), _FASTCALL), None, None)
    for name, known in zip(OPERATORS, fallbacks[3:], strict=True):
        definition = _definition(name, address(name.strip("_")), _FASTCALL, known.__doc__)
        setattr(Tensor, name, method(Tensor, definition))
