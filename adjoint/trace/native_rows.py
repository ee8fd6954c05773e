"""More text of `trace.native`, beside the operations in `native_code`: numbers, `x[i]`, and many tensors at once.

It uses the functions that `native_code.COMMON` and what follows there define.
"""

# A run-time number as a tensor of no axes.
NUMBER = """
define ptr @number(ptr %self, ptr %arguments, i64 %count) {
entry:
  %value = load ptr, ptr %arguments
  %type = call ptr @field(ptr %value, i64 {type})
  %float = load ptr, ptr getelementptr (ptr, ptr @object, i64 5)
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %full = load ptr, ptr getelementptr (ptr, ptr @object, i64 10)
  %attrs = load ptr, ptr getelementptr (ptr, ptr @object, i64 11)
  %is.float = icmp eq ptr %type, %float
  br i1 %is.float, label %whose, label %slow
whose:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %live
live:
  %static = call ptr @field(ptr %trace, i64 {Trace.static})
  %running = icmp eq ptr %static, %zero
  br i1 %running, label %find, label %slow
find:
  %step = call ptr @child(ptr %trace, ptr %full, ptr %float, ptr %attrs, i64 3)
  %unknown = icmp eq ptr %step, null
  br i1 %unknown, label %slow, label %go
go:
  %handles.at = getelementptr i8, ptr %trace, i64 {Trace.handles}
  %out = call ptr @take(ptr %trace, ptr %step, ptr %value, ptr %handles.at)
  %stopped = icmp eq ptr %out, null
  br i1 %stopped, label %slow, label %done
done:
  ret ptr %out
slow:
  %p = call ptr @hand_over(i64 {fallback}, ptr %arguments, i64 %count)
  ret ptr %p
}
"""

# `x[i]` for an int, or one for each axis, where such a thing was recorded at this place before: what followed then stands in
# `Step.row`. The view goes into the list of its base's views.
ROW = """
define internal i1 @is_number(ptr %a, ptr %b) {
entry:
  %same = icmp eq ptr %a, %b
  br i1 %same, label %yes, label %compare
compare:
  %equal = load ptr, ptr getelementptr (ptr, ptr @py, i64 14)
  %answer = call i32 %equal(ptr %a, ptr %b, i32 2)
  %good = icmp eq i32 %answer, 1
  ret i1 %good
yes:
  ret i1 true
}

; A chain like another one that ends in a slice and a reshape, but with another start, or tuple of starts; null without memory.
define internal ptr @chain_with(ptr %chain, ptr %i) {
entry:
  %new = load ptr, ptr getelementptr (ptr, ptr @py, i64 2)
  %put = load ptr, ptr getelementptr (ptr, ptr @py, i64 3)
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %n = call i64 %size(ptr %chain)
  %at = sub i64 %n, 2
  %type = call ptr @field(ptr %i, i64 {type})
  %tuple = load ptr, ptr getelementptr (ptr, ptr @object, i64 22)
  %whole = icmp eq ptr %type, %tuple
  br i1 %whole, label %several, label %one
several:
  call void @keep(ptr %i)
  br label %make
one:
  %single = call ptr %new(i64 1)
  br label %make
make:
  %starts = phi ptr [ %i, %several ], [ %single, %one ]
  %out = call ptr %new(i64 %n)
  %move = call ptr %new(i64 3)
  %c1 = icmp eq ptr %out, null
  %c2 = icmp eq ptr %starts, null
  %c3 = icmp eq ptr %move, null
  %c12 = or i1 %c1, %c2
  %c = or i1 %c12, %c3
  br i1 %c, label %fail, label %fill
fill:
  %old = call ptr %item(ptr %chain, i64 %at)
  %prim = call ptr %item(ptr %old, i64 0)
  %attrs = call ptr %item(ptr %old, i64 1)
  br i1 %whole, label %fill.move, label %fill.starts
fill.starts:
  call void @keep(ptr %i)
  %e1 = call i32 %put(ptr %starts, i64 0, ptr %i)
  br label %fill.move
fill.move:
  call void @keep(ptr %prim)
  call void @keep(ptr %attrs)
  %e2 = call i32 %put(ptr %move, i64 0, ptr %prim)
  %e3 = call i32 %put(ptr %move, i64 1, ptr %attrs)
  %e4 = call i32 %put(ptr %move, i64 2, ptr %starts)
  br label %loop
loop:
  %k = phi i64 [ 0, %fill.move ], [ %next, %set ]
  %over = icmp eq i64 %k, %n
  br i1 %over, label %done, label %each
each:
  %here = icmp eq i64 %k, %at
  br i1 %here, label %set, label %other
other:
  %same = call ptr %item(ptr %chain, i64 %k)
  call void @keep(ptr %same)
  br label %set
set:
  %part = phi ptr [ %move, %each ], [ %same, %other ]
  %e5 = call i32 %put(ptr %out, i64 %k, ptr %part)
  %next = add i64 %k, 1
  br label %loop
done:
  ret ptr %out
fail:
  call void @drop_if(ptr %move)
  call void @drop_if(ptr %starts)
  call void @drop_if(ptr %out)
  ret ptr null
}

; What `x[i]` is, for an int or a tuple; null where that has to be found out in Python.
define internal ptr @row(ptr %x, ptr %i) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %live
live:
  %static = call ptr @field(ptr %trace, i64 {Trace.static})
  %running = icmp eq ptr %static, %zero
  br i1 %running, label %owner, label %slow
owner:
  %x.base = call ptr @field(ptr %x, i64 {Tensor._base})
  %alone = icmp eq ptr %x.base, %none
  %base = select i1 %alone, ptr %x, ptr %x.base
  %special = call ptr @field(ptr %base, i64 {Tensor._special})
  %plain = icmp eq ptr %special, %false
  br i1 %plain, label %bind, label %slow
bind:
  %slot = call ptr @slot(ptr %trace, ptr %x)
  %odd = icmp eq ptr %slot, null
  br i1 %odd, label %slow, label %look
look:
  %node = call ptr @field(ptr %trace, i64 {Trace.node})
  %known = call ptr @field(ptr %node, i64 {Step.row})
  %never = icmp eq ptr %known, %none
  br i1 %never, label %slow, label %compare
compare:
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %k.slot = call ptr %item(ptr %known, i64 0)
  %k.chain = call ptr %item(ptr %known, i64 1)
  %k.i = call ptr %item(ptr %known, i64 2)
  %step = call ptr %item(ptr %known, i64 3)
  %chain = call ptr %item(ptr %known, i64 4)
  %x.chain = call ptr @field(ptr %x, i64 {Tensor._chain})
  %same.slot = icmp eq ptr %slot, %k.slot
  %same.chain = icmp eq ptr %x.chain, %k.chain
  %type = call ptr @field(ptr %i, i64 {type})
  %k.type = call ptr @field(ptr %k.i, i64 {type})
  %same.type = icmp eq ptr %type, %k.type
  %same.sc = and i1 %same.slot, %same.chain
  %same = and i1 %same.sc, %same.type
  br i1 %same, label %number, label %slow
number:
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %is.int = icmp eq ptr %type, %int
  br i1 %is.int, label %equal, label %identical
equal:
  %same.number = call i1 @is_number(ptr %i, ptr %k.i)
  br i1 %same.number, label %as.before, label %other
identical:
  ; Tuples are not compared, which would ask what is in them.
  %same.tuple = icmp eq ptr %i, %k.i
  br i1 %same.tuple, label %as.before, label %other
as.before:
  call void @keep(ptr %chain)
  br label %views
other:
  ; The same with another number: its chain is made anew, which may run Python code.
  %aval = call ptr @field(ptr %x, i64 {Tensor._aval})
  %shape = call ptr @field(ptr %aval, i64 {Aval.key_shape})
  br i1 %is.int, label %first.axis, label %every.axis
first.axis:
  %d.object = call ptr %item(ptr %shape, i64 0)
  %d = call i64 @whole(ptr %d.object)
  %row = call i64 @along(i64 0, i64 %d, ptr %i, i1 false)
  br label %bounds
every.axis:
  %place = call i64 @element(ptr %shape, ptr %i, i1 false)
  br label %bounds
bounds:
  %within = phi i64 [ %row, %first.axis ], [ %place, %every.axis ]
  %outside = icmp slt i64 %within, 0
  br i1 %outside, label %slow, label %make
make:
  %id = call ptr @field(ptr %trace, i64 {Trace.id})
  call void @keep(ptr %id)
  call void @keep(ptr %known)
  %made = call ptr @chain_with(ptr %chain, ptr %i)
  call void @drop(ptr %known)
  call void @drop(ptr %id)
  %id.now = call ptr @field(ptr %trace, i64 {Trace.id})
  %node.now = call ptr @field(ptr %trace, i64 {Trace.node})
  %known.now = call ptr @field(ptr %node.now, i64 {Step.row})
  %none.made = icmp eq ptr %made, null
  br i1 %none.made, label %slow, label %same.place
same.place:
  %m1 = icmp eq ptr %id.now, %id
  %m2 = icmp eq ptr %node.now, %node
  %m3 = icmp eq ptr %known.now, %known
  %m12 = and i1 %m1, %m2
  %m = and i1 %m12, %m3
  br i1 %m, label %views, label %unmake
views:
  %chain.new = phi ptr [ %chain, %as.before ], [ %made, %same.place ]
  %number.new = phi ptr [ %k.i, %as.before ], [ %i, %same.place ]
  %v = call ptr @field(ptr %base, i64 {Tensor._views})
  %unseen = icmp eq ptr %v, %none
  br i1 %unseen, label %unmake, label %held
held:
  %recent.at = getelementptr i8, ptr %v, i64 {Views.recent}
  %recent = load ptr, ptr %recent.at
  %n = call i64 @length(ptr %recent)
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %first, label %listed
listed:
  %v.owner = call ptr @field(ptr %v, i64 {Views.owner})
  %ours = icmp eq ptr %v.owner, %trace
  br i1 %ours, label %go, label %unmake
first:
  ; The first view in this trace: `Views.hold`.
  %viewed = call ptr @field(ptr %trace, i64 {Trace.viewed})
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %e = call i32 %append(ptr %viewed, ptr %v)
  %full = icmp ne i32 %e, 0
  br i1 %full, label %unmake, label %own
own:
  %owner.at = getelementptr i8, ptr %v, i64 {Views.owner}
  call void @set(ptr %owner.at, ptr %trace)
  br label %go
unmake:
  %unused = phi ptr [ %made, %same.place ], [ %chain.new, %views ], [ %chain.new, %listed ], [ %chain.new, %first ]
  call void @drop(ptr %unused)
  br label %slow
go:
  call void @keep(ptr %v)
  call void @keep(ptr %base)
  %out = call ptr @take(ptr %trace, ptr %step, ptr %number.new, ptr %recent.at)
  call void @drop(ptr %v)
  %failed = icmp eq ptr %out, null
  br i1 %failed, label %undo, label %fill
undo:
  call void @drop(ptr %base)
  call void @drop(ptr %chain.new)
  ret ptr null
fill:
  %o.base = getelementptr i8, ptr %out, i64 {Tensor._base}
  %o.chain = getelementptr i8, ptr %out, i64 {Tensor._chain}
  call void @drop(ptr %none)
  store ptr %base, ptr %o.base
  %nothing = load ptr, ptr getelementptr (ptr, ptr @object, i64 7)
  call void @drop(ptr %nothing)
  store ptr %chain.new, ptr %o.chain
  ret ptr %out
slow:
  ret ptr null
}

define ptr @getitem(ptr %self, ptr %arguments, i64 %count) {
entry:
  %right = icmp eq i64 %count, 1
  br i1 %right, label %start, label %slow
start:
  %i = load ptr, ptr %arguments
  %type = call ptr @field(ptr %i, i64 {type})
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %tuple = load ptr, ptr getelementptr (ptr, ptr @object, i64 22)
  %single = icmp eq ptr %type, %int
  %several = icmp eq ptr %type, %tuple
  %whole = or i1 %single, %several
  %fits = call i1 @is_tensor(ptr %self)
  %simple = and i1 %whole, %fits
  br i1 %simple, label %try, label %slow
try:
  %out = call ptr @row(ptr %self, ptr %i)
  %stopped = icmp eq ptr %out, null
  br i1 %stopped, label %slow, label %done
done:
  ret ptr %out
slow:
  %p = call ptr @hand_over_both(i64 {fallback}, ptr %self, ptr %arguments, i64 %count)
  ret ptr %p
}
"""

# What works on many tensors at once: `macro.bind_all`, and the changes of `macro.update`.
MANY = """
; bind_all(trace, tensors): their slots in a tuple.
define ptr @bind_all(ptr %self, ptr %arguments, i64 %count) {
entry:
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %trace = load ptr, ptr %arguments
  %tensors.at = getelementptr ptr, ptr %arguments, i64 1
  %tensors = load ptr, ptr %tensors.at
  %node = call ptr @field(ptr %trace, i64 {Trace.node})
  %boundary = call ptr @field(ptr %node, i64 {Step.boundary})
  %cut = call ptr @field(ptr %node, i64 {Step.cut})
  %b1 = icmp eq ptr %boundary, %false
  %b2 = icmp eq ptr %cut, %false
  %open = and i1 %b1, %b2
  br i1 %open, label %begin, label %slow
begin:
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 15)
  %n = call i64 %size(ptr %tensors)
  %odd = icmp slt i64 %n, 0
  br i1 %odd, label %slow, label %make
make:
  %new = load ptr, ptr getelementptr (ptr, ptr @py, i64 2)
  %put = load ptr, ptr getelementptr (ptr, ptr @py, i64 3)
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 16)
  %out = call ptr %new(i64 %n)
  %missing = icmp eq ptr %out, null
  br i1 %missing, label %slow, label %start
start:
  %id = call ptr @field(ptr %trace, i64 {Trace.id})
  br label %loop
loop:
  %i = phi i64 [ 0, %start ], [ %next, %store ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %done, label %one
one:
  %t = call ptr %item(ptr %tensors, i64 %i)
  %gone = icmp eq ptr %t, null
  br i1 %gone, label %give_up, label %bind
bind:
  %slot = call ptr @slot(ptr %trace, ptr %t)
  call void @drop(ptr %t)
  %strange = icmp eq ptr %slot, null
  %id.now = call ptr @field(ptr %trace, i64 {Trace.id})
  %moved = icmp ne ptr %id.now, %id
  %stop = or i1 %strange, %moved
  br i1 %stop, label %give_up, label %store
store:
  call void @keep(ptr %slot)
  %e = call i32 %put(ptr %out, i64 %i, ptr %slot)
  %next = add i64 %i, 1
  br label %loop
done:
  ret ptr %out
give_up:
  call void @drop(ptr %out)
  br label %slow
slow:
  %p = call ptr @hand_over(i64 {fallback}, ptr %arguments, i64 %count)
  ret ptr %p
}

; point_all(trace, tensors, slots, left): let each tensor be its slot; positions of those that need more go into `left`.
define ptr @point_all(ptr %self, ptr %arguments, i64 %count) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %true = load ptr, ptr getelementptr (ptr, ptr @object, i64 8)
  %leaf.name = load ptr, ptr getelementptr (ptr, ptr @object, i64 9)
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 16)
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 15)
  %number = load ptr, ptr getelementptr (ptr, ptr @py, i64 17)
  %enter = load ptr, ptr getelementptr (ptr, ptr @py, i64 18)
  %ask = load ptr, ptr getelementptr (ptr, ptr @py, i64 19)
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %trace = load ptr, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  %tensors = load ptr, ptr %a1
  %a2 = getelementptr ptr, ptr %arguments, i64 2
  %slots = load ptr, ptr %a2
  %a3 = getelementptr ptr, ptr %arguments, i64 3
  %left = load ptr, ptr %a3
  %id = call ptr @field(ptr %trace, i64 {Trace.id})
  %mutated = call ptr @field(ptr %trace, i64 {Trace.mutated})
  %id.number = call i64 @whole(ptr %id)
  %minus.number = sub i64 0, %id.number
  %minus = call ptr %number(i64 %minus.number)
  %short = icmp eq ptr %minus, null
  br i1 %short, label %fail, label %begin
begin:
  %n = call i64 %size(ptr %tensors)
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %again ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %done, label %one
one:
  %t = call ptr %item(ptr %tensors, i64 %i)
  %slot = call ptr %item(ptr %slots, i64 %i)
  %special = call ptr @field(ptr %t, i64 {Tensor._special})
  %views = call ptr @field(ptr %t, i64 {Tensor._views})
  %plain = icmp eq ptr %special, %false
  %unseen = icmp eq ptr %views, %none
  %simple = and i1 %plain, %unseen
  br i1 %simple, label %value, label %later
later:
  %position = call ptr %number(i64 %i)
  %e1 = call i32 %append(ptr %left, ptr %position)
  call void @drop(ptr %position)
  %bad.1 = icmp ne i32 %e1, 0
  br i1 %bad.1, label %fail.item, label %again
value:
  %data.at = getelementptr i8, ptr %t, i64 {Tensor._data}
  %data = load ptr, ptr %data.at
  %pending = icmp eq ptr %data, %none
  br i1 %pending, label %whose, label %note
note:
  %word = ptrtoint ptr %t to i64
  %key = call ptr %number(i64 %word)
  %e2 = call i32 %enter(ptr %mutated, ptr %key, ptr %t)
  call void @drop(ptr %key)
  %bad.2 = icmp ne i32 %e2, 0
  br i1 %bad.2, label %fail.item, label %empty
empty:
  call void @set(ptr %data.at, ptr %none)
  br label %whose
whose:
  %aval = call ptr @field(ptr %t, i64 {Tensor._aval})
  %requires = call ptr @field(ptr %aval, i64 {Aval.requires_grad})
  %varies = icmp eq ptr %requires, %true
  br i1 %varies, label %leaf, label %point
leaf:
  %is.leaf = call ptr %ask(ptr %t, ptr %leaf.name)
  call void @drop(ptr %is.leaf)
  %a.leaf = icmp eq ptr %is.leaf, %true
  br label %point
point:
  %negative = phi i1 [ false, %whose ], [ %a.leaf, %leaf ]
  %tid = select i1 %negative, ptr %minus, ptr %id
  %tid.at = getelementptr i8, ptr %t, i64 {Tensor._tid}
  call void @set(ptr %tid.at, ptr %tid)
  %slot.at = getelementptr i8, ptr %t, i64 {Tensor._slot}
  call void @set(ptr %slot.at, ptr %slot)
  %version.at = getelementptr i8, ptr %t, i64 {Tensor._version}
  %version = load ptr, ptr %version.at
  %version.number = call i64 @whole(ptr %version)
  %version.next = add i64 %version.number, 1
  %version.new = call ptr %number(i64 %version.next)
  store ptr %version.new, ptr %version.at
  call void @drop(ptr %version)
  br label %again
again:
  call void @drop(ptr %t)
  call void @drop(ptr %slot)
  %next = add i64 %i, 1
  br label %loop
done:
  call void @drop(ptr %minus)
  call void @keep(ptr %none)
  ret ptr %none
fail.item:
  call void @drop(ptr %t)
  call void @drop(ptr %slot)
  call void @drop(ptr %minus)
  br label %fail
fail:
  ret ptr null
}
"""
