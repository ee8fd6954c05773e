"""More text of `trace.native`: a view that was made only to be read is taken back out of the trace, as `elements` does it.

It uses the functions that `native_code` and `native_end` define.
"""

from __future__ import annotations

TAKE_BACK = """
; Whether a tensor is at a slot of the trace, which may be unset.
define internal i1 @is_at(ptr %trace, ptr %t, ptr %step) {
entry:
  %tid.object = call ptr @field(ptr %t, i64 {Tensor._tid})
  %unset = icmp eq ptr %tid.object, null
  br i1 %unset, label %no, label %compare
compare:
  %id.object = call ptr @field(ptr %trace, i64 {Trace.id})
  %tid = call i64 @whole(ptr %tid.object)
  %id = call i64 @whole(ptr %id.object)
  %same = icmp eq i64 %tid, %id
  br i1 %same, label %slots, label %no
slots:
  %mine.object = call ptr @field(ptr %t, i64 {Tensor._slot})
  %slot.object = call ptr @field(ptr %step, i64 {Step.slot})
  %mine.slot = call i64 @whole(ptr %mine.object)
  %slot = call i64 @whole(ptr %slot.object)
  %here = icmp eq i64 %mine.slot, %slot
  ret i1 %here
no:
  ret i1 false
}

; The step to which the trace can go back if a view of %k starts is taken back: its slice and reshape are the last two, and
; nothing looks at them. Null where it cannot; the first of the views that go with it is written to %first.at.
define internal ptr @before_view(ptr %trace, ptr %t, ptr %base, i64 %k, ptr %first.at) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %slice = load ptr, ptr getelementptr (ptr, ptr @object, i64 17)
  %reshape = load ptr, ptr getelementptr (ptr, ptr @object, i64 18)
  %node = call ptr @field(ptr %trace, i64 {Trace.node})
  %last = call i1 @is_at(ptr %trace, ptr %t, ptr %node)
  br i1 %last, label %calm, label %no
calm:
  %hist = call ptr @field(ptr %trace, i64 {Trace.hist})
  %period = call ptr @field(ptr %trace, i64 {Trace.period})
  %static = call ptr @field(ptr %trace, i64 {Trace.static})
  %aval = call ptr @field(ptr %t, i64 {Tensor._aval})
  %grad = call ptr @field(ptr %aval, i64 {Aval.requires_grad})
  %c1 = icmp eq ptr %hist, %none
  %c2 = icmp eq ptr %period, %none
  %c3 = icmp eq ptr %static, %zero
  %c4 = icmp eq ptr %grad, %false
  %c12 = and i1 %c1, %c2
  %c34 = and i1 %c3, %c4
  %c = and i1 %c12, %c34
  br i1 %c, label %held, label %no
held:
  %views = call ptr @field(ptr %base, i64 {Tensor._views})
  %unseen = icmp eq ptr %views, %none
  br i1 %unseen, label %no, label %owned
owned:
  %owner = call ptr @field(ptr %views, i64 {Views.owner})
  %ours = icmp eq ptr %owner, %trace
  br i1 %ours, label %listed, label %no
listed:
  %recent = call ptr @field(ptr %views, i64 {Views.recent})
  %n = call i64 @length(ptr %recent)
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %newest, label %no
newest:
  %at.last = sub i64 %n, 1
  %v.last = call ptr @nth(ptr %recent, i64 %at.last)
  %this = icmp eq ptr %v.last, %t
  br i1 %this, label %steps, label %no
steps:
  %p1 = call ptr @field(ptr %node, i64 {Step.prim})
  %s1 = call ptr @field(ptr %node, i64 {Step.scalars})
  %n1 = call i64 %size(ptr %s1)
  %above = call ptr @field(ptr %node, i64 {Step.parent})
  %root = icmp eq ptr %above, %none
  %shaped = icmp eq ptr %p1, %reshape
  %numberless = icmp eq i64 %n1, 0
  %r1 = and i1 %shaped, %numberless
  %not.root = xor i1 %root, true
  %r = and i1 %r1, %not.root
  br i1 %r, label %sliced, label %no
sliced:
  %p2 = call ptr @field(ptr %above, i64 {Step.prim})
  %s2 = call ptr @field(ptr %above, i64 {Step.scalars})
  %n2 = call i64 %size(ptr %s2)
  %before = call ptr @field(ptr %above, i64 {Step.parent})
  %root.2 = icmp eq ptr %before, %none
  %cut = icmp eq ptr %p2, %slice
  %starts = icmp eq i64 %n2, %k
  %q1 = and i1 %cut, %starts
  %not.root.2 = xor i1 %root.2, true
  %q = and i1 %q1, %not.root.2
  br i1 %q, label %operands, label %no
operands:
  ; Each of the two is made of what was before it: the reshape of the slice, the slice of the base.
  %item = load ptr, ptr getelementptr (ptr, ptr @py, i64 13)
  %a1 = call ptr @field(ptr %node, i64 {Step.args})
  %a2 = call ptr @field(ptr %above, i64 {Step.args})
  %o1.object = call ptr %item(ptr %a1, i64 0)
  %o2.object = call ptr %item(ptr %a2, i64 0)
  %above.slot.object = call ptr @field(ptr %above, i64 {Step.slot})
  %base.slot.object = call ptr @field(ptr %base, i64 {Tensor._slot})
  %base.tid.object = call ptr @field(ptr %base, i64 {Tensor._tid})
  %base.id.object = call ptr @field(ptr %trace, i64 {Trace.id})
  %o1 = call i64 @whole(ptr %o1.object)
  %o2 = call i64 @whole(ptr %o2.object)
  %above.slot = call i64 @whole(ptr %above.slot.object)
  %base.slot = call i64 @whole(ptr %base.slot.object)
  %base.tid = call i64 @whole(ptr %base.tid.object)
  %base.id = call i64 @whole(ptr %base.id.object)
  %t1 = icmp eq i64 %o1, %above.slot
  %t2 = icmp eq i64 %o2, %base.slot
  %t3 = icmp eq i64 %base.tid, %base.id
  %t12 = and i1 %t1, %t2
  %joined = and i1 %t12, %t3
  br i1 %joined, label %way, label %no
way:
  ; Views on the way to this one go with it, unless somebody holds them.
  %slot.object = call ptr @field(ptr %before, i64 {Step.slot})
  %slot = call i64 @whole(ptr %slot.object)
  %id.object = call ptr @field(ptr %trace, i64 {Trace.id})
  %id = call i64 @whole(ptr %id.object)
  br label %loop
loop:
  %first = phi i64 [ %at.last, %way ], [ %previous, %goes ]
  %all = icmp eq i64 %first, 0
  br i1 %all, label %yes, label %look
look:
  %previous = sub i64 %first, 1
  %v = call ptr @nth(ptr %recent, i64 %previous)
  %v.tid.object = call ptr @field(ptr %v, i64 {Tensor._tid})
  %v.tid = call i64 @whole(ptr %v.tid.object)
  %v.slot.object = call ptr @field(ptr %v, i64 {Tensor._slot})
  %v.slot = call i64 @whole(ptr %v.slot.object)
  %in.trace = icmp eq i64 %v.tid, %id
  %later = icmp sgt i64 %v.slot, %slot
  %between = and i1 %in.trace, %later
  br i1 %between, label %whose, label %yes
whose:
  %v.held = call i1 @is_held(ptr %v)
  br i1 %v.held, label %no, label %goes
goes:
  br label %loop
yes:
  store i64 %first, ptr %first.at
  ret ptr %before
no:
  ret ptr null
}

; Undo the recording of a view that is the end of the trace; it replays its movement should it be used again, and is entered
; among those of its base that do. Making that entry may run Python code, so what is asked is asked again after it.
define internal void @take_back(ptr %trace, ptr %t, ptr %base, i64 %k) {
entry:
  %first.at = alloca i64
  %can = call ptr @before_view(ptr %trace, ptr %t, ptr %base, i64 %k, ptr %first.at)
  %cannot = icmp eq ptr %can, null
  br i1 %cannot, label %out, label %room
room:
  %size = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %long = load ptr, ptr getelementptr (ptr, ptr @py, i64 17)
  %enter = load ptr, ptr getelementptr (ptr, ptr @py, i64 18)
  %slice = load ptr, ptr getelementptr (ptr, ptr @py, i64 12)
  %refer = load ptr, ptr getelementptr (ptr, ptr @py, i64 27)
  %delete = load ptr, ptr getelementptr (ptr, ptr @py, i64 28)
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %views = call ptr @field(ptr %base, i64 {Tensor._views})
  call void @keep(ptr %views)
  %stale = call ptr @field(ptr %views, i64 {Views.stale})
  %limit.object = call ptr @field(ptr %views, i64 {Views.limit})
  %limit = call i64 @whole(ptr %limit.object)
  %entered = call i64 %size(ptr %stale)
  %full = icmp sge i64 %entered, %limit
  br i1 %full, label %tidy, label %native
tidy:
  %keep_stale = load ptr, ptr getelementptr (ptr, ptr @object, i64 20)
  %call = load ptr, ptr getelementptr (ptr, ptr @py, i64 8)
  %arguments = alloca [2 x ptr]
  store ptr %views, ptr %arguments
  %second = getelementptr ptr, ptr %arguments, i64 1
  store ptr %t, ptr %second
  %done = call ptr %call(ptr %keep_stale, ptr %arguments, i64 2, ptr null)
  call void @drop_if(ptr %done)
  %failed.call = icmp eq ptr %done, null
  br i1 %failed.call, label %forget, label %again
native:
  %word = ptrtoint ptr %t to i64
  %key = call ptr %long(i64 %word)
  %keyless = icmp eq ptr %key, null
  br i1 %keyless, label %forget, label %reference
reference:
  %ref = call ptr %refer(ptr %t, ptr null)
  %missing = icmp eq ptr %ref, null
  br i1 %missing, label %unkey, label %put
put:
  %stale.now = call ptr @field(ptr %views, i64 {Views.stale})
  %e = call i32 %enter(ptr %stale.now, ptr %key, ptr %ref)
  call void @drop(ptr %ref)
  %bad = icmp ne i32 %e, 0
  br i1 %bad, label %unkey, label %named
unkey:
  call void @drop(ptr %key)
  br label %forget
named:
  call void @drop(ptr %key)
  br label %again
again:
  %node = call ptr @before_view(ptr %trace, ptr %t, ptr %base, i64 %k, ptr %first.at)
  %views.now = call ptr @field(ptr %base, i64 {Tensor._views})
  %same.views = icmp eq ptr %views.now, %views
  %gone = icmp eq ptr %node, null
  %here = xor i1 %gone, true
  %good = and i1 %here, %same.views
  br i1 %good, label %go, label %moved
moved:
  ; Somebody has used the trace meanwhile: the view is what it was before, and entered where it was.
  %word.2 = ptrtoint ptr %t to i64
  %key.2 = call ptr %long(i64 %word.2)
  %keyless.2 = icmp eq ptr %key.2, null
  br i1 %keyless.2, label %forget, label %strike
strike:
  %stale.2 = call ptr @field(ptr %views, i64 {Views.stale})
  %struck = call i32 %delete(ptr %stale.2, ptr %key.2)
  call void @drop(ptr %key.2)
  br label %forget
forget:
  call void @forget_error(i32 1)
  br label %end
go:
  %scalars = call ptr @field(ptr %trace, i64 {Trace.scalars})
  %inputs = call ptr @field(ptr %trace, i64 {Trace.inputs})
  %buffers = call ptr @field(ptr %trace, i64 {Trace.buffers})
  %viewed = call ptr @field(ptr %trace, i64 {Trace.viewed})
  %recent = call ptr @field(ptr %views, i64 {Views.recent})
  %n.recent = call i64 @length(ptr %recent)
  %first = load i64, ptr %first.at
  %before.object = call ptr @field(ptr %node, i64 {Step.scalars_before})
  %own = call ptr @field(ptr %node, i64 {Step.scalars})
  %n.own = call i64 %size(ptr %own)
  %n.before = call i64 @whole(ptr %before.object)
  %count = add i64 %n.before, %n.own
  %n.scalars = call i64 @length(ptr %scalars)
  %c1 = call i32 %slice(ptr %scalars, i64 %count, i64 %n.scalars, ptr null)
  ; The base goes, too, if it was bound for this view alone.
  %input = load ptr, ptr getelementptr (ptr, ptr @object, i64 19)
  %prim = call ptr @field(ptr %node, i64 {Step.prim})
  %is.input = icmp eq ptr %prim, %input
  %at.base = call i1 @is_at(ptr %trace, ptr %base, ptr %node)
  %n.inputs = call i64 @length(ptr %inputs)
  %some = icmp sgt i64 %n.inputs, 0
  %p1 = and i1 %is.input, %at.base
  %p = and i1 %p1, %some
  br i1 %p, label %which, label %keep
which:
  %last.input = sub i64 %n.inputs, 1
  %newest = call ptr @nth(ptr %inputs, i64 %last.input)
  %alone = icmp eq ptr %newest, %base
  br i1 %alone, label %unbind, label %keep
unbind:
  call void @shorten(ptr %inputs)
  call void @shorten(ptr %buffers)
  %base.tid = getelementptr i8, ptr %base, i64 {Tensor._tid}
  call void @set(ptr %base.tid, ptr %zero)
  %parent = call ptr @field(ptr %node, i64 {Step.parent})
  br label %move
keep:
  br label %move
move:
  %to = phi ptr [ %parent, %unbind ], [ %node, %keep ]
  %node.at = getelementptr i8, ptr %trace, i64 {Trace.node}
  call void @set(ptr %node.at, ptr %to)
  %tid.at = getelementptr i8, ptr %t, i64 {Tensor._tid}
  call void @set(ptr %tid.at, ptr %zero)
  %whole = icmp eq i64 %first, 0
  %n.viewed = call i64 @length(ptr %viewed)
  %viewing = icmp sgt i64 %n.viewed, 0
  %w = and i1 %whole, %viewing
  br i1 %w, label %newest.viewed, label %cut
newest.viewed:
  %last.viewed = sub i64 %n.viewed, 1
  %v = call ptr @nth(ptr %viewed, i64 %last.viewed)
  %theirs = icmp eq ptr %v, %views
  br i1 %theirs, label %unview, label %cut
unview:
  call void @shorten(ptr %viewed)
  br label %cut
cut:
  %c2 = call i32 %slice(ptr %recent, i64 %first, i64 %n.recent, ptr null)
  br label %end
end:
  call void @drop(ptr %views)
  br label %out
out:
  ret void
}
"""
