"""The text of `trace.native`: recording a known operation, in LLVM IR.

In braces stands what `native` fills in: offsets of slots, sizes of tables, names. Read `OPERATION`, then `SLOT`.
"""

from __future__ import annotations

from collections.abc import Sequence


def word_readers(prefix: str, names: Sequence[str]) -> str:
    """A function for each of the words that begin a table, which are read by name."""
    return "\n".join(
        [
            f"define internal i64 @{prefix}.{name}(ptr %r) alwaysinline {{\n  %at = getelementptr i64, ptr %r, i64 {k}\n"
            f"  %v = load i64, ptr %at\n  ret i64 %v\n}}"
            for k, name in enumerate(names)
        ]
    )


# `@py` holds functions of the interpreter, `@object` objects, `@prim` the names of primitives, `@fallback` the Python
# versions of everything.
COMMON = """
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

; Take the last item off a list again.
define internal void @shorten(ptr %list) {
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 11)
  %put = load ptr, ptr getelementptr (ptr, ptr @py, i64 12)
  %n = call i64 %size(ptr %list)
  %last = sub i64 %n, 1
  %e = call i32 %put(ptr %list, i64 %last, i64 %n, ptr null)
  ret void
}

define internal ptr @field(ptr %o, i64 %offset) alwaysinline {
  %at = getelementptr i8, ptr %o, i64 %offset
  %v = load ptr, ptr %at
  ret ptr %v
}

define internal i64 @whole(ptr %o) alwaysinline {
  %as = load ptr, ptr getelementptr (ptr, ptr @py, i64 6)
  %n = call i64 %as(ptr %o)
  ret i64 %n
}

; Whether an error is set.
define internal i1 @failed() {
  %occurred = load ptr, ptr getelementptr (ptr, ptr @py, i64 7)
  %error = call ptr %occurred()
  %set = icmp ne ptr %error, null
  ret i1 %set
}

; Whether an int fits into 64 bits, and where it does, the number at a place.
define internal i1 @fits_64(ptr %o, ptr %at) {
entry:
  %n = call i64 @whole(ptr %o)
  store i64 %n, ptr %at
  %suspect = icmp eq i64 %n, -1
  br i1 %suspect, label %ask, label %yes
ask:
  %large = call i1 @failed()
  br i1 %large, label %beyond, label %yes
beyond:
  call void @forget_error(i32 1)
  ret i1 false
yes:
  ret i1 true
}

; Where a function failed at something that can be done without.
define internal void @forget_error(i32 %code) {
entry:
  %fine = icmp eq i32 %code, 0
  br i1 %fine, label %out, label %clear
clear:
  %f = load ptr, ptr getelementptr (ptr, ptr @py, i64 23)
  call void %f()
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

; The same for other modules of native code.
define ptr @adjoint_mine() {
  %trace = call ptr @mine()
  ret ptr %trace
}
"""

# A tensor's slot in the trace, binding it if it is plainly concrete and known to follow; null where Python must look.
SLOT = """
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
  %x = call i64 @whole(ptr %id)
  %y = call i64 @whole(ptr %tid)
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
  %inputs.at = getelementptr i8, ptr %trace, i64 {Trace.inputs}
  %inputs = load ptr, ptr %inputs.at
  %e1 = call i32 %append(ptr %inputs, ptr %t)
  %full.1 = icmp ne i32 %e1, 0
  br i1 %full.1, label %slow, label %memory
memory:
  %buffers.at = getelementptr i8, ptr %trace, i64 {Trace.buffers}
  %buffers = load ptr, ptr %buffers.at
  %e2 = call i32 %append(ptr %buffers, ptr %data)
  %full.2 = icmp ne i32 %e2, 0
  br i1 %full.2, label %undo, label %move
undo:
  call void @shorten(ptr %inputs)
  ret ptr null
move:
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  call void @set(ptr %node.at, ptr %step)
  call void @set(ptr %tid.at, ptr %id)
  %place.at = getelementptr i8, ptr %step, i64 {Step.slot}
  %place = load ptr, ptr %place.at
  call void @set(ptr %slot.at, ptr %place)
  ret ptr %place
slow:
  ret ptr null
}
"""

# The child of the trace's node under a key of `n` parts (an input's key is its one part), or null. Making a key may
# start a garbage collection, and comparing keys run Python: where that moved the trace, there is no child.
CHILD = """
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
  %id.at = getelementptr i8, ptr %trace, i64 {Trace.id}
  %id = load ptr, ptr %id.at
  call void @keep(ptr %id)
  call void @keep(ptr %k0)
  call void @keep(ptr %k1)
  call void @keep(ptr %k2)
  %children.at = getelementptr i8, ptr %node, i64 {Step.children}
  %children = load ptr, ptr %children.at
  call void @keep(ptr %children)
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
  br i1 %failed, label %have, label %fill
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
  %step = phi ptr [ %s1, %simple ], [ null, %tuple ], [ %s2, %ask ]
  %now = load ptr, ptr %id.at
  %node.now = load ptr, ptr %node.at
  %same.id = icmp eq ptr %now, %id
  %same.node = icmp eq ptr %node.now, %node
  %known = icmp ne ptr %step, null
  %still = and i1 %same.id, %same.node
  %good = and i1 %still, %known
  br i1 %good, label %remember, label %end
remember:
  call void @set(ptr %hot.at, ptr %step)
  br label %end
end:
  call void @drop(ptr %children)
  call void @drop(ptr %k2)
  call void @drop(ptr %k1)
  call void @drop(ptr %k0)
  call void @drop(ptr %id)
  %found.step = select i1 %good, ptr %step, ptr null
  ret ptr %found.step
}

; Move on to a step, lending the trace a number, a tuple of them or null, and make the handle of its result, which is kept in
; the list at %list.at. Null with nothing changed where memory is missing, or where the collection that a new object may start
; has moved the trace.
define internal ptr @take(ptr %trace, ptr %step, ptr %number, ptr %list.at) {
entry:
  %id.at = getelementptr i8, ptr %trace, i64 {Trace.id}
  %id = load ptr, ptr %id.at
  call void @keep(ptr %id)
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  %node = load ptr, ptr %node.at
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %type = load ptr, ptr getelementptr (ptr, ptr @object, i64 3)
  %empty = load ptr, ptr getelementptr (ptr, ptr @object, i64 7)
  %new = load ptr, ptr @new
  %out = call ptr %new(ptr %type, ptr %empty, ptr null)
  %failed = icmp eq ptr %out, null
  br i1 %failed, label %nothing, label %look
nothing:
  call void @drop(ptr %id)
  ret ptr null
look:
  %o.tid = getelementptr i8, ptr %out, i64 {Tensor._tid}
  store ptr %id, ptr %o.tid
  %now = load ptr, ptr %id.at
  %node.now = load ptr, ptr %node.at
  %same.id = icmp eq ptr %now, %id
  %same.node = icmp eq ptr %node.now, %node
  %still = and i1 %same.id, %same.node
  br i1 %still, label %fill, label %give_up
fill:
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
  %o.base = getelementptr i8, ptr %out, i64 {Tensor._base}
  call void @keep(ptr %none)
  store ptr %none, ptr %o.base
  %o.chain = getelementptr i8, ptr %out, i64 {Tensor._chain}
  call void @keep(ptr %empty)
  store ptr %empty, ptr %o.chain
  %o.views = getelementptr i8, ptr %out, i64 {Tensor._views}
  call void @keep(ptr %none)
  store ptr %none, ptr %o.views
  %o.version = getelementptr i8, ptr %out, i64 {Tensor._version}
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  call void @keep(ptr %zero)
  store ptr %zero, ptr %o.version
  %handles = load ptr, ptr %list.at
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %e1 = call i32 %append(ptr %handles, ptr %out)
  %full.1 = icmp ne i32 %e1, 0
  br i1 %full.1, label %give_up, label %lend
lend:
  %numberless = icmp eq ptr %number, null
  br i1 %numberless, label %move, label %count
count:
  %scalars.at = getelementptr i8, ptr %trace, i64 {Trace.scalars}
  %scalars = load ptr, ptr %scalars.at
  %n.type = call ptr @field(ptr %number, i64 {type})
  %tuple = load ptr, ptr getelementptr (ptr, ptr @object, i64 22)
  %several = icmp eq ptr %n.type, %tuple
  br i1 %several, label %extend, label %add
add:
  %e2.one = call i32 %append(ptr %scalars, ptr %number)
  br label %lent
extend:
  %insert = load ptr, ptr getelementptr (ptr, ptr @py, i64 12)
  %end = call i64 @length(ptr %scalars)
  %e2.all = call i32 %insert(ptr %scalars, i64 %end, i64 %end, ptr %number)
  br label %lent
lent:
  %e2 = phi i32 [ %e2.one, %add ], [ %e2.all, %extend ]
  %full.2 = icmp ne i32 %e2, 0
  br i1 %full.2, label %undo, label %move
undo:
  call void @shorten(ptr %handles)
  br label %give_up
give_up:
  call void @drop(ptr %out)
  ret ptr null
move:
  call void @set(ptr %node.at, ptr %step)
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

; Hand an operation over to Python with its own arguments, unless an error is to be raised.
define internal ptr @hand_over(i64 %k, ptr %arguments, i64 %count) {
entry:
  %wrong = call i1 @failed()
  br i1 %wrong, label %raise, label %go
raise:
  ret ptr null
go:
  %at = getelementptr ptr, ptr @fallback, i64 %k
  %function = load ptr, ptr %at
  %call = load ptr, ptr getelementptr (ptr, ptr @py, i64 8)
  %out = call ptr %call(ptr %function, ptr %arguments, i64 %count, ptr null)
  ret ptr %out
}

; The same for a method: with the tensor, and the operand if there is one.
define internal ptr @hand_over_both(i64 %k, ptr %self, ptr %arguments, i64 %count) {
  %both = alloca [2 x ptr]
  store ptr %self, ptr %both
  %second.at = getelementptr [2 x ptr], ptr %both, i64 0, i64 1
  %single = icmp eq i64 %count, 1
  br i1 %single, label %operand, label %none
operand:
  %second = load ptr, ptr %arguments
  store ptr %second, ptr %second.at
  %out = call ptr @hand_over(i64 %k, ptr %both, i64 2)
  ret ptr %out
none:
  %wrong = call ptr @hand_over(i64 %k, ptr %both, i64 0)
  ret ptr %wrong
}
"""

# An operation with what follows its primitive in the key, in general: null where Python must look.
KNOWN = """
; On one tensor, with a further part of the key if %n is 3.
define internal ptr @on_one(ptr %prim, ptr %x, ptr %part, i64 %n) {
entry:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %bind
bind:
  %s = call ptr @slot(ptr %trace, ptr %x)
  %odd = icmp eq ptr %s, null
  br i1 %odd, label %slow, label %find
find:
  %step = call ptr @child(ptr %trace, ptr %prim, ptr %s, ptr %part, i64 %n)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %handles.at = getelementptr i8, ptr %trace, i64 {Trace.handles}
  %out = call ptr @take(ptr %trace, ptr %step, ptr null, ptr %handles.at)
  ret ptr %out
slow:
  ret ptr null
}

; On two tensors.
define internal ptr @on_two(ptr %prim, ptr %x, ptr %y) {
entry:
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
  %handles.at = getelementptr i8, ptr %trace, i64 {Trace.handles}
  %out = call ptr @take(ptr %trace, ptr %step, ptr null, ptr %handles.at)
  ret ptr %out
slow:
  ret ptr null
}
"""

# A function of the recorder: of a primitive, a tensor, and perhaps one thing more.
FUNCTION = """
define ptr @{name}(ptr %self, ptr %arguments, i64 %count) {
entry:
  %none = load ptr, ptr @object
  %right = icmp eq i64 %count, {count}
  br i1 %right, label %start, label %slow
start:
  %prim = load ptr, ptr %arguments
  %x.at = getelementptr ptr, ptr %arguments, i64 1
  %x = load ptr, ptr %x.at
  %y.at = getelementptr ptr, ptr %x.at, i64 {further}
  %y = load ptr, ptr %y.at
  %fits.x = call i1 @is_tensor(ptr %x)
  %fits.y = call i1 @is_tensor(ptr %{other})
  %fits = and i1 %fits.x, %fits.y
  br i1 %fits, label %try, label %slow
try:
  %out = call ptr {known}
  %stopped = icmp eq ptr %out, null
  br i1 %stopped, label %slow, label %done
done:
  ret ptr %out
slow:
  %p = call ptr @hand_over(i64 {k}, ptr %arguments, i64 %count)
  ret ptr %p
}
"""

# name: (number of arguments, which of them are tensors, what it does)
FUNCTIONS = {
    "unary": (2, "x", "@on_one(ptr %prim, ptr %x, ptr %none, i64 2)"),
    "one": (3, "x", "@on_one(ptr %prim, ptr %x, ptr %y, i64 3)"),
    "two": (3, "y", "@on_two(ptr %prim, ptr %x, ptr %y)"),
}

# A binary operator as a method: a tensor with a tensor or with a Python number.
OPERATION = """
define ptr @{name}(ptr %self, ptr %arguments, i64 %count) {
entry:
  %whole.at = alloca i64
  %prim.at = getelementptr ptr, ptr @prim, i64 {k}
  %prim = load ptr, ptr %prim.at
  %right = icmp eq i64 %count, 1
  br i1 %right, label %start, label %slow
start:
  %b = load ptr, ptr %arguments
  %fits = call i1 @is_tensor(ptr %b)
  br i1 %fits, label %{first}, label %number
tensor:
  %out = call ptr @on_two(ptr %prim, ptr %self, ptr %b)
  %stopped = icmp eq ptr %out, null
  br i1 %stopped, label %slow, label %done
done:
  ret ptr %out
number:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %kind
kind:
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
  br i1 %can, label %fits.64, label %slow
fits.64:
  br i1 %is.int, label %measure, label %alone
measure:
  %in.64 = call i1 @fits_64(ptr %b, ptr %whole.at)
  br i1 %in.64, label %alone, label %slow
alone:
  %n = call ptr @slot(ptr %trace, ptr %self)
  %odd.n = icmp eq ptr %n, null
  br i1 %odd.n, label %slow, label %seek
seek:
  %child = call ptr @child(ptr %trace, ptr %prim, ptr %{number_first}, ptr %{number_second}, i64 3)
  %strange = icmp eq ptr %child, null
  br i1 %strange, label %slow, label %lend
lend:
  %handles.at = getelementptr i8, ptr %trace, i64 {Trace.handles}
  %result = call ptr @take(ptr %trace, ptr %child, ptr %b, ptr %handles.at)
  %halted = icmp eq ptr %result, null
  br i1 %halted, label %slow, label %lent
lent:
  ret ptr %result
slow:
  %p = call ptr @hand_over_both(i64 {fallback}, ptr %self, ptr %arguments, i64 %count)
  ret ptr %p
}
"""
