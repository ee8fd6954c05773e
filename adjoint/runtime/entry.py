"""A native function of Python: fills the table of one run from lists of Python objects and calls the driver.

Filling a table through `struct` and calling through `ctypes` costs a microsecond, as much as many small programs take.
Here both are one function of the interpreter, in LLVM IR like everything else, that uses a few functions of CPython's
stable interface. Where there is no CPython, `connect` finds none, and programs are called in the slower way.

A frame's table begins with a header of `HEADER` words: address and number of records; how many inputs, outputs and
scalars follow; where the indices of the scalars stand (two int32 each: position in the caller's list, 1 for a floating
one); address of the status word or 0; 1 to release the interpreter's lock.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from adjoint.runtime import cpython

HEADER = 8
WANTED, WRONG, REFUSED = 1, 2, 4  # bits of the result: workers are wanted; the status word was set; a scalar did not fit

_NAMES = (
    "PyLong_AsUnsignedLongLong", "PyLong_AsLongLong", "PyFloat_AsDouble", "PyList_GetItem", "PyErr_Occurred",
    "PyErr_Clear", "PyLong_FromLong", "PyEval_SaveThread", "PyEval_RestoreThread",
)  # fmt: skip

SOURCE = """
@api = internal global [9 x ptr] zeroinitializer

define void @adjoint_connect(i64 %k, ptr %function) {
  %at = getelementptr [9 x ptr], ptr @api, i64 0, i64 %k
  store ptr %function, ptr %at
  ret void
}

; Copy the addresses that %n buffers of a list are (they are integers) to %to; 1 if one is not.
define internal i32 @addresses(ptr %list, i64 %n, ptr %to) {
entry:
  %get = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 3)
  %as = load ptr, ptr @api
  %none = icmp eq i64 %n, 0
  br i1 %none, label %good, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %stored ]
  %item = call ptr %get(ptr %list, i64 %i)
  %missing = icmp eq ptr %item, null
  br i1 %missing, label %bad, label %take
take:
  %address = call i64 %as(ptr %item)
  %odd = icmp eq i64 %address, -1
  br i1 %odd, label %bad, label %stored
stored:
  %at = getelementptr i64, ptr %to, i64 %i
  store i64 %address, ptr %at
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %good
good:
  ret i32 0
bad:
  ret i32 1
}

; Convert %n numbers of a list; 1 if one does not fit.
define internal i32 @numbers(ptr %list, ptr %spec, i64 %n, ptr %to) {
entry:
  %get = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 3)
  %whole = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 1)
  %real = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 2)
  %occurred = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 4)
  %none = icmp eq i64 %n, 0
  br i1 %none, label %good, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %again ]
  %where = getelementptr {i32, i32}, ptr %spec, i64 %i
  %position = load i32, ptr %where
  %kind.at = getelementptr {i32, i32}, ptr %where, i64 0, i32 1
  %kind = load i32, ptr %kind.at
  %k = sext i32 %position to i64
  %item = call ptr %get(ptr %list, i64 %k)
  %missing = icmp eq ptr %item, null
  br i1 %missing, label %bad, label %take
take:
  %at = getelementptr i64, ptr %to, i64 %i
  %floating = icmp eq i32 %kind, 1
  br i1 %floating, label %float, label %integer
float:
  %d = call double %real(ptr %item)
  store double %d, ptr %at
  %suspect.d = fcmp oeq double %d, -1.0
  br i1 %suspect.d, label %check, label %again
integer:
  %w = call i64 %whole(ptr %item)
  store i64 %w, ptr %at
  %suspect.w = icmp eq i64 %w, -1
  br i1 %suspect.w, label %check, label %again
check:
  %error = call ptr %occurred()
  %wrong = icmp ne ptr %error, null
  br i1 %wrong, label %bad, label %again
again:
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %good
good:
  ret i32 0
bad:
  ret i32 1
}

; enter(header, inputs, outputs, scalars), called with an array of its arguments.
define ptr @adjoint_enter(ptr %self, ptr %arguments, i64 %count) {
entry:
  %as = load ptr, ptr @api
  %result = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 6)
  %o0 = load ptr, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %inputs = load ptr, ptr %a1
  %a2 = getelementptr ptr, ptr %arguments, i64 2
  %outputs = load ptr, ptr %a2
  %a3 = getelementptr ptr, ptr %arguments, i64 3
  %scalars = load ptr, ptr %a3
  %h = call i64 %as(ptr %o0)
  %header = inttoptr i64 %h to ptr
  %records = load ptr, ptr %header
  %h1 = getelementptr i64, ptr %header, i64 1
  %n.records = load i64, ptr %h1
  %h2 = getelementptr i64, ptr %header, i64 2
  %n.in = load i64, ptr %h2
  %h3 = getelementptr i64, ptr %header, i64 3
  %n.out = load i64, ptr %h3
  %h4 = getelementptr i64, ptr %header, i64 4
  %n.scalars = load i64, ptr %h4
  %h5 = getelementptr i64, ptr %header, i64 5
  %spec = load ptr, ptr %h5
  %h6 = getelementptr i64, ptr %header, i64 6
  %status = load ptr, ptr %h6
  %h7 = getelementptr i64, ptr %header, i64 7
  %release = load i64, ptr %h7
  %table = getelementptr i64, ptr %header, i64 8
  %table.out = getelementptr i64, ptr %table, i64 %n.in
  %words = getelementptr i64, ptr %table.out, i64 %n.out
  %e1 = call i32 @addresses(ptr %inputs, i64 %n.in, ptr %table)
  %e2 = call i32 @addresses(ptr %outputs, i64 %n.out, ptr %table.out)
  %e3 = call i32 @numbers(ptr %scalars, ptr %spec, i64 %n.scalars, ptr %words)
  %e12 = or i32 %e1, %e2
  %e = or i32 %e12, %e3
  %refused = icmp ne i32 %e, 0
  br i1 %refused, label %refuse, label %go
refuse:
  %clear = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 5)
  call void %clear()
  %four = call ptr %result(i64 4)
  ret ptr %four
go:
  %free = icmp ne i64 %release, 0
  br i1 %free, label %unlocked, label %locked
unlocked:
  %save = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 7)
  %restore = load ptr, ptr getelementptr ([9 x ptr], ptr @api, i64 0, i64 8)
  %thread = call ptr %save()
  %wanted.u = call i32 @run(ptr %records, i64 %n.records, ptr %table, ptr %words)
  call void %restore(ptr %thread)
  br label %done
locked:
  %wanted.l = call i32 @run(ptr %records, i64 %n.records, ptr %table, ptr %words)
  br label %done
done:
  %wanted = phi i32 [ %wanted.u, %unlocked ], [ %wanted.l, %locked ]
  %code = zext i32 %wanted to i64
  %watched = icmp ne ptr %status, null
  br i1 %watched, label %look, label %end
look:
  %s = load i64, ptr %status
  store i64 0, ptr %status
  %bad = icmp ne i64 %s, 0
  %two = select i1 %bad, i64 2, i64 0
  br label %end
end:
  %more = phi i64 [ 0, %done ], [ %two, %look ]
  %bits = or i64 %code, %more
  %answer = call ptr %result(i64 %bits)
  ret ptr %answer
}
"""


def connect(address: Callable[[str], int]) -> Callable[..., int] | None:
    """`enter(header, inputs, outputs, scalars)` of the loaded module whose functions `address` finds.

    The function returns WANTED, WRONG and REFUSED as bits; None where this interpreter is not plain CPython.
    """
    if not cpython.plain():
        return None
    give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)(address("adjoint_connect"))
    for k, name in enumerate(_NAMES):
        give(k, cpython.address_of(name))
    return cpython.function("enter", address("adjoint_enter"))
