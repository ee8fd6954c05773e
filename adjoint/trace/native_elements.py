"""More text of `trace.native`: single numbers out of tensors and into them, `t.item()`, `x[i].item()` and `x[i] = number`.

What `elements` does in Python, where everything is as plain as it most often is: a number that lies in memory is read there,
a result that is pending is computed by `settle`, a view that was made only to be read is taken back out of the trace, and a
number is written into memory that nobody else counts on. Anything else is handed over to Python with nothing changed.
It uses the functions that `native_code`, `native_end` and `native_views` define.
"""

from __future__ import annotations

KINDS = ("float32", "float64", "int64", "bool")  # dtypes that native code reads; it writes the first three

ELEMENT = """
; Which of the dtypes that are known here a description has; -1 for others.
define internal i64 @kind_of(ptr %aval) alwaysinline {
  %dtype = call ptr @field(ptr %aval, i64 {Aval.dtype})
  %d0 = load ptr, ptr getelementptr (ptr, ptr @object, i64 {kind0})
  %d1 = load ptr, ptr getelementptr (ptr, ptr @object, i64 {kind1})
  %d2 = load ptr, ptr getelementptr (ptr, ptr @object, i64 {kind2})
  %d3 = load ptr, ptr getelementptr (ptr, ptr @object, i64 {kind3})
  %i0 = icmp eq ptr %dtype, %d0
  %i1 = icmp eq ptr %dtype, %d1
  %i2 = icmp eq ptr %dtype, %d2
  %i3 = icmp eq ptr %dtype, %d3
  %k3 = select i1 %i3, i64 3, i64 -1
  %k2 = select i1 %i2, i64 2, i64 %k3
  %k1 = select i1 %i1, i64 1, i64 %k2
  %k0 = select i1 %i0, i64 0, i64 %k1
  ret i64 %k0
}

; Where an element of a kind lies.
define internal ptr @place_of(ptr %memory, i64 %n, i64 %kind) alwaysinline {
  %f32 = icmp eq i64 %kind, 0
  %truth = icmp eq i64 %kind, 3
  %wide = select i1 %f32, i64 2, i64 3
  %shift = select i1 %truth, i64 0, i64 %wide
  %bytes = shl i64 %n, %shift
  %at = getelementptr i8, ptr %memory, i64 %bytes
  ret ptr %at
}

; The number in memory as an object.
define internal ptr @number_at(ptr %at, i64 %kind) {
entry:
  %float = load ptr, ptr getelementptr (ptr, ptr @py, i64 25)
  %long = load ptr, ptr getelementptr (ptr, ptr @py, i64 17)
  switch i64 %kind, label %truth [ i64 0, label %single i64 1, label %double i64 2, label %whole ]
single:
  %s = load float, ptr %at
  %wide = fpext float %s to double
  %o0 = call ptr %float(double %wide)
  ret ptr %o0
double:
  %d = load double, ptr %at
  %o1 = call ptr %float(double %d)
  ret ptr %o1
whole:
  %n = load i64, ptr %at
  %o2 = call ptr %long(i64 %n)
  ret ptr %o2
truth:
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %true = load ptr, ptr getelementptr (ptr, ptr @object, i64 8)
  %byte = load i8, ptr %at
  %set = icmp ne i8 %byte, 0
  %o3 = select i1 %set, ptr %true, ptr %false
  call void @keep(ptr %o3)
  ret ptr %o3
}

; Which element of a tensor of some shape an index names, or -1: a tuple of as many ints as there are axes, counted from
; the end where they are negative and %back allows it.
define internal i64 @element(ptr %shape, ptr %index, i1 %back) {
entry:
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %rank = call i64 %size(ptr %shape)
  %given = call i64 %size(ptr %index)
  %fits = icmp eq i64 %rank, %given
  %some = icmp sgt i64 %rank, 0
  %right = and i1 %fits, %some
  br i1 %right, label %loop, label %no
loop:
  %k = phi i64 [ 0, %entry ], [ %k.next, %inside ]
  %n = phi i64 [ 0, %entry ], [ %n.next, %inside ]
  %over = icmp eq i64 %k, %rank
  br i1 %over, label %yes, label %axis
axis:
  %i.object = call ptr %item(ptr %index, i64 %k)
  %d.object = call ptr %item(ptr %shape, i64 %k)
  %d = call i64 @whole(ptr %d.object)
  %n.next = call i64 @along(i64 %n, i64 %d, ptr %i.object, i1 %back)
  %outside = icmp slt i64 %n.next, 0
  br i1 %outside, label %no, label %inside
inside:
  %k.next = add i64 %k, 1
  br label %loop
yes:
  ret i64 %n
no:
  ret i64 -1
}

; n * d + i for an int within 0 ... d - 1, or -1.
define internal i64 @along(i64 %n, i64 %d, ptr %i.object, i1 %back) {
entry:
  %i.at = alloca i64
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %type = call ptr @field(ptr %i.object, i64 {type})
  %plain = icmp eq ptr %type, %int
  br i1 %plain, label %number, label %no
number:
  %fits = call i1 @fits_64(ptr %i.object, ptr %i.at)
  %i = load i64, ptr %i.at
  br i1 %fits, label %turn, label %no
turn:
  %below = icmp slt i64 %i, 0
  %from.end = and i1 %below, %back
  %shifted = add i64 %i, %d
  %j = select i1 %from.end, i64 %shifted, i64 %i
  %inside = icmp ult i64 %j, %d
  %scaled = mul i64 %n, %d
  %m = add i64 %scaled, %j
  %found = select i1 %inside, i64 %m, i64 -1
  ret i64 %found
no:
  ret i64 -1
}

; t.item()
define ptr @item(ptr %self, ptr %arguments, i64 %count) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %true = load ptr, ptr getelementptr (ptr, ptr @object, i64 8)
  %right = icmp eq i64 %count, 0
  %fits = call i1 @is_tensor(ptr %self)
  %usual = and i1 %right, %fits
  br i1 %usual, label %whose, label %slow
whose:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %calm
calm:
  %watch = call ptr @field(ptr %trace, i64 {Trace.watch})
  %eager = call ptr @field(ptr %trace, i64 {Trace.eager})
  %aval = call ptr @field(ptr %self, i64 {Tensor._aval})
  %unseen = icmp eq ptr %watch, %none
  %recording = icmp eq ptr %eager, %false
  %made = icmp ne ptr %aval, null
  %q1 = and i1 %unseen, %recording
  %q = and i1 %q1, %made
  br i1 %q, label %sized, label %slow
sized:
  %n.object = call ptr @field(ptr %aval, i64 {Aval.size})
  %n = call i64 @whole(ptr %n.object)
  %kind = call i64 @kind_of(ptr %aval)
  %single = icmp eq i64 %n, 1
  %known = icmp sge i64 %kind, 0
  %can = and i1 %single, %known
  br i1 %can, label %value, label %slow
value:
  %data = call ptr @field(ptr %self, i64 {Tensor._data})
  %absent = icmp eq ptr %data, %none
  br i1 %absent, label %pending, label %there
there:
  %found = phi ptr [ %data, %value ], [ %data.now, %computed ]
  %unset = icmp eq ptr %found, null
  br i1 %unset, label %slow, label %read
read:
  %word = call i64 @whole(ptr %found)
  %at = inttoptr i64 %word to ptr
  %number = call ptr @number_at(ptr %at, i64 %kind)
  ret ptr %number
pending:
  %base = call ptr @field(ptr %self, i64 {Tensor._base})
  %own = icmp eq ptr %base, %none
  br i1 %own, label %compute, label %view
compute:
  %settled = call ptr @settle(ptr null, ptr %self)
  %raised = icmp eq ptr %settled, null
  br i1 %raised, label %raise, label %ended
raise:
  ret ptr null
ended:
  call void @drop(ptr %settled)
  %yes = icmp eq ptr %settled, %true
  br i1 %yes, label %computed, label %slow
computed:
  %data.now = call ptr @field(ptr %self, i64 {Tensor._data})
  %still = icmp eq ptr %data.now, %none
  br i1 %still, label %slow, label %there

view:
  %b.data = call ptr @field(ptr %base, i64 {Tensor._data})
  %b.special = call ptr @field(ptr %base, i64 {Tensor._special})
  %b.absent = icmp eq ptr %b.data, %none
  %b.unset = icmp eq ptr %b.data, null
  %b.nothing = or i1 %b.absent, %b.unset
  %b.plain = icmp eq ptr %b.special, %false
  %b.there = xor i1 %b.nothing, true
  %b = and i1 %b.plain, %b.there
  br i1 %b, label %chain, label %slow
chain:
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %nth = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %slice = load ptr, ptr getelementptr (ptr, ptr @object, i64 17)
  %reshape = load ptr, ptr getelementptr (ptr, ptr @object, i64 18)
  %moves = call ptr @field(ptr %self, i64 {Tensor._chain})
  %n.moves = call i64 %size(ptr %moves)
  %two = icmp eq i64 %n.moves, 2
  br i1 %two, label %kinds, label %slow
kinds:
  %m1 = call ptr %nth(ptr %moves, i64 0)
  %m2 = call ptr %nth(ptr %moves, i64 1)
  %prim.1 = call ptr %nth(ptr %m1, i64 0)
  %prim.2 = call ptr %nth(ptr %m2, i64 0)
  %is.slice = icmp eq ptr %prim.1, %slice
  %is.reshape = icmp eq ptr %prim.2, %reshape
  %simple = and i1 %is.slice, %is.reshape
  br i1 %simple, label %which, label %slow
which:
  %starts = call ptr %nth(ptr %m1, i64 2)
  %k = call i64 %size(ptr %starts)
  %b.aval = call ptr @field(ptr %base, i64 {Tensor._aval})
  %shape = call ptr @field(ptr %b.aval, i64 {Aval.key_shape})
  %place = call i64 @element(ptr %shape, ptr %starts, i1 false)
  %nowhere = icmp slt i64 %place, 0
  br i1 %nowhere, label %slow, label %look
look:
  %b.word = call i64 @whole(ptr %b.data)
  %memory = inttoptr i64 %b.word to ptr
  %p = call ptr @place_of(ptr %memory, i64 %place, i64 %kind)
  %out = call ptr @number_at(ptr %p, i64 %kind)
  %lost = icmp eq ptr %out, null
  br i1 %lost, label %raise, label %back
back:
  call void @keep(ptr %base)
  call void @take_back(ptr %trace, ptr %self, ptr %base, i64 %k)
  call void @drop(ptr %base)
  ret ptr %out

slow:
  %handed = alloca ptr
  store ptr %self, ptr %handed
  br i1 %right, label %alone, label %wrong
alone:
  %o = call ptr @hand_over(i64 {item}, ptr %handed, i64 1)
  ret ptr %o
wrong:
  %w = call ptr @hand_over_both(i64 {item}, ptr %self, ptr %arguments, i64 1)
  ret ptr %w
}

; Write a number into memory, if it is one that fits without rounding to infinity or to another whole number.
define internal i1 @write_number(ptr %at, i64 %kind, ptr %value) {
entry:
  %i.at = alloca i64
  %float = load ptr, ptr getelementptr (ptr, ptr @object, i64 5)
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %type = call ptr @field(ptr %value, i64 {type})
  %is.float = icmp eq ptr %type, %float
  br i1 %is.float, label %real, label %other
real:
  %double = load ptr, ptr getelementptr (ptr, ptr @py, i64 26)
  %d = call double %double(ptr %value)
  %up.1 = icmp eq i64 %kind, 0
  %most.d = select i1 %up.1, double 0x47EC363CBF21F28A, double 0x7FE1CCF385EBC8A0
  %least.d = fneg double %most.d
  %below = fcmp olt double %d, %most.d
  %above = fcmp ogt double %d, %least.d
  %inside = and i1 %below, %above
  %decimal = icmp ult i64 %kind, 2
  %good.d = and i1 %inside, %decimal
  br i1 %good.d, label %put, label %no
other:
  %is.int = icmp eq ptr %type, %int
  br i1 %is.int, label %whole, label %no
whole:
  %fits = call i1 @fits_64(ptr %value, ptr %i.at)
  %i = load i64, ptr %i.at
  br i1 %fits, label %limits, label %no
limits:
  %single = icmp eq i64 %kind, 0
  %most.i = select i1 %single, i64 16777216, i64 9007199254740992
  %least.i = sub i64 0, %most.i
  %i.below = icmp slt i64 %i, %most.i
  %i.above = icmp sgt i64 %i, %least.i
  %exact = and i1 %i.below, %i.above
  %integer = icmp eq i64 %kind, 2
  %good.i = or i1 %exact, %integer
  %id = sitofp i64 %i to double
  br i1 %good.i, label %put, label %no
put:
  %v = phi double [ %d, %real ], [ %id, %limits ]
  %n = phi i64 [ 0, %real ], [ %i, %limits ]
  switch i64 %kind, label %no [ i64 0, label %put.single i64 1, label %put.double i64 2, label %put.whole ]
put.single:
  %s = fptrunc double %v to float
  store float %s, ptr %at
  ret i1 true
put.double:
  store double %v, ptr %at
  ret i1 true
put.whole:
  store i64 %n, ptr %at
  ret i1 true
no:
  ret i1 false
}

; x[i] = number, or x[i, j, ...] = number.
define ptr @setitem(ptr %self, ptr %arguments, i64 %count) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %int = load ptr, ptr getelementptr (ptr, ptr @object, i64 6)
  %right = icmp eq i64 %count, 2
  br i1 %right, label %start, label %slow
start:
  %index = load ptr, ptr %arguments
  %value.at = getelementptr ptr, ptr %arguments, i64 1
  %value = load ptr, ptr %value.at
  %fits = call i1 @is_tensor(ptr %self)
  br i1 %fits, label %whose, label %slow
whose:
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %plain
plain:
  %watch = call ptr @field(ptr %trace, i64 {Trace.watch})
  %eager = call ptr @field(ptr %trace, i64 {Trace.eager})
  %special = call ptr @field(ptr %self, i64 {Tensor._special})
  %base = call ptr @field(ptr %self, i64 {Tensor._base})
  %views = call ptr @field(ptr %self, i64 {Tensor._views})
  %data = call ptr @field(ptr %self, i64 {Tensor._data})
  %version = call ptr @field(ptr %self, i64 {Tensor._version})
  %aval = call ptr @field(ptr %self, i64 {Tensor._aval})
  %c1 = icmp eq ptr %watch, %none
  %c2 = icmp eq ptr %eager, %false
  %c3 = icmp eq ptr %special, %false
  %c4 = icmp eq ptr %base, %none
  %c5 = icmp eq ptr %views, %none
  %c6 = icmp ne ptr %data, %none
  %c7 = icmp ne ptr %data, null
  %c8 = icmp ne ptr %version, null
  %c9 = icmp ne ptr %aval, null
  %d1 = and i1 %c1, %c2
  %d2 = and i1 %c3, %c4
  %d3 = and i1 %c5, %c6
  %d4 = and i1 %c7, %c8
  %e1 = and i1 %d1, %d2
  %e2 = and i1 %d3, %d4
  %f1 = and i1 %e1, %e2
  %f = and i1 %f1, %c9
  br i1 %f, label %kinds, label %slow
kinds:
  %grad = call ptr @field(ptr %aval, i64 {Aval.requires_grad})
  %shape = call ptr @field(ptr %aval, i64 {Aval.key_shape})
  %free = icmp eq ptr %grad, %false
  %kind = call i64 @kind_of(ptr %aval)
  %numeric = icmp ult i64 %kind, 3
  %good = and i1 %free, %numeric
  br i1 %good, label %where, label %slow
where:
  %type = call ptr @field(ptr %index, i64 {type})
  %single = icmp eq ptr %type, %int
  br i1 %single, label %vector, label %several
vector:
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %rank = call i64 %size(ptr %shape)
  %one = icmp eq i64 %rank, 1
  br i1 %one, label %along, label %slow
along:
  %nth = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %d.object = call ptr %nth(ptr %shape, i64 0)
  %d = call i64 @whole(ptr %d.object)
  %n.1 = call i64 @along(i64 0, i64 %d, ptr %index, i1 true)
  br label %place
several:
  %empty = load ptr, ptr getelementptr (ptr, ptr @object, i64 7)
  %tuple = call ptr @field(ptr %empty, i64 {type})
  %listed = icmp eq ptr %type, %tuple
  br i1 %listed, label %axes, label %slow
axes:
  %n.2 = call i64 @element(ptr %shape, ptr %index, i1 true)
  br label %place
place:
  %n = phi i64 [ %n.1, %along ], [ %n.2, %axes ]
  %outside = icmp slt i64 %n, 0
  br i1 %outside, label %slow, label %alone
alone:
  ; Only the tensor and the pool may refer to the memory: then it is the pool's, and can be written.
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 19)
  %pooled.name = load ptr, ptr getelementptr (ptr, ptr @object, i64 21)
  %mem.name = load ptr, ptr getelementptr (ptr, ptr @object, i64 12)
  %counted = load i32, ptr %data
  %two = icmp eq i32 %counted, 2
  br i1 %two, label %pool, label %slow
pool:
  %pooled = call ptr %get(ptr %data, ptr %pooled.name)
  %unpooled = icmp eq ptr %pooled, null
  br i1 %unpooled, label %failed, label %memory
memory:
  %pooled.n = call i64 @whole(ptr %pooled)
  call void @drop(ptr %pooled)
  %mem = call ptr %get(ptr %data, ptr %mem.name)
  %lost = icmp eq ptr %mem, null
  br i1 %lost, label %failed, label %seen
seen:
  call void @drop(ptr %mem)
  %shared = call i1 @is_held(ptr %mem)
  %inside = icmp eq i64 %pooled.n, 1
  %unshared = xor i1 %shared, true
  %ours = and i1 %inside, %unshared
  br i1 %ours, label %count.up, label %slow
failed:
  call void @forget_error(i32 1)
  br label %slow
count.up:
  %long = load ptr, ptr getelementptr (ptr, ptr @py, i64 17)
  %v = call i64 @whole(ptr %version)
  %v.next = add i64 %v, 1
  %changed = call ptr %long(i64 %v.next)
  %numberless = icmp eq ptr %changed, null
  br i1 %numberless, label %failed, label %write
write:
  %word = call i64 @whole(ptr %data)
  %begin = inttoptr i64 %word to ptr
  %at = call ptr @place_of(ptr %begin, i64 %n, i64 %kind)
  %written = call i1 @write_number(ptr %at, i64 %kind, ptr %value)
  br i1 %written, label %done, label %undone
undone:
  call void @drop(ptr %changed)
  br label %slow
done:
  %version.at = getelementptr i8, ptr %self, i64 {Tensor._version}
  store ptr %changed, ptr %version.at
  call void @drop(ptr %version)
  call void @keep(ptr %none)
  ret ptr %none
slow:
  %three = alloca [3 x ptr]
  store ptr %self, ptr %three
  br i1 %right, label %handed, label %wrong
handed:
  %t1 = getelementptr ptr, ptr %three, i64 1
  %t2 = getelementptr ptr, ptr %three, i64 2
  %a0 = load ptr, ptr %arguments
  %a1.at = getelementptr ptr, ptr %arguments, i64 1
  %a1 = load ptr, ptr %a1.at
  store ptr %a0, ptr %t1
  store ptr %a1, ptr %t2
  %o = call ptr @hand_over(i64 {setitem}, ptr %three, i64 3)
  ret ptr %o
wrong:
  %w = call ptr @hand_over(i64 {setitem}, ptr %three, i64 1)
  ret ptr %w
}
"""
