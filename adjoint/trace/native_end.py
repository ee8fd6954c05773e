"""The end of a trace in native code, where it ends as it did before: its program runs, its results are delivered.

Most traces that end because somebody reads a value end at one place of the trie again and again, with the same tensors
alive. An `Ending` is what is to be known then: which of the trace's handles are alive, which slots they stand for and where in
the results of the program each finds its value, what to call. `settle(t)` (`END` below, a part of the module that `native` loads) does what
`ending.flush` does, where all is as the Ending says and nothing is unusual: no past or update to keep, no living view, nobody
watching. In any other case, and where the program wants an error to be raised, it changes nothing and says so.

Whatever may run Python code (making lists, a number for the next trace, memory for results) comes first, and whether all is
as it should be is asked after it; then follow the program, which may let other threads run, the question whether the trace
is still the same, and changes that nothing can part. Objects are given up at the very end. Read `Ending`, then `END`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint.runtime import pool, tally
from adjoint.runtime.program import LAST, RUNS, Program, counters
from adjoint.trace import state
from adjoint.trace.aval import Aval
from adjoint.trace.detached import watched
from adjoint.trace.native_code import word_readers

FIELDS = (
    "buffers", "scalars", "handles", "depth", "bytes", "runs", "last", "root", "frames", "allocate", "enter", "watched",
    "counters", "runs_key", "start", "new_id", "tally", "aval_type", "pop", "push", "small",
)  # fmt: skip
assert (FIELDS[RUNS], FIELDS[LAST]) == ("runs", "last")
PER_HANDLE = 2  # words: number of its result, its slot (which an update in place, or a known call, puts in another order)
NOWHERE = -1  # in place of a result's number: a handle that must not be alive
MOST_HANDLES = 256
CHANGES = 8  # times that an Ending is replaced by one of other living handles


class Ending(int):
    """How a trace ended at a place of the trie; as an integer the address of its words.

    words: FIELDS, then for each handle PER_HANDLE more.  program: which runs.  made: how many Endings this place has had.
    """

    words: np.ndarray
    program: Program
    made: int
    kept: tuple

    @staticmethod
    def of(tr: Any, compiled: Any, alive: list[Any], made: int) -> Ending | None:
        """The Ending of a trace that has just run, before it is closed; None where there is more to it."""
        program = compiled.program
        built = program._built if type(program) is Program else None
        if built is None or built.enter is None or len(tr.handles) > MOST_HANDLES:
            return None
        if compiled.saved or compiled.held or any([h._aval.requires_grad or h._special for h in alive]):
            return None
        order = compiled.order or range(len(alive))
        numbers = {id(h): k for h, k in zip(alive, order, strict=False)}
        results: list[int] = []
        for h in tr.handles:
            number = numbers.pop(id(h), NOWHERE)
            results += (number, NOWHERE if number == NOWHERE else h._slot)
        if numbers:
            return None
        node, root = tr.node, tr.root()
        allocate, runs_key = built.outputs.allocate, "runs"
        outputs = built.outputs
        small = 0 if outputs.large else len(outputs.sizes)
        pop, push = outputs.sets.popleft, outputs.sets.append
        kept = root, program._frames, allocate, watched, counters, runs_key, pool.start, state.new_id, Aval, pop, push
        _, frames, _, deque, counts, _, start, new_id, *_ = map(id, kept)
        words = np.array(
            [
                len(tr.buffers), len(tr.scalars), len(tr.handles), node.depth, built.bytes, 0, 0, id(root), frames,
                id(allocate), pool.address_of("adjoint_enter"), deque, counts, id(runs_key), start, new_id, tally.address, id(Aval),
                id(pop), id(push), small, *results,
            ],
            np.int64,
        )  # fmt: skip
        self = Ending(words.__array_interface__["data"][0])
        self.words, self.program, self.made, self.kept = words, program, made, kept
        program.endings.append(words)
        return self

    def fits(self, alive: list[Any], tr: Any) -> bool:
        """Whether it is of these living handles, standing for these slots."""
        slots = self.words[len(FIELDS) + 1 :: PER_HANDLE].tolist()
        living = {*map(id, alive)}
        return slots == [h._slot if id(h) in living else NOWHERE for h in tr.handles]

    def drop(self) -> None:
        """Let the program count what was counted here; nobody ends a trace by this any more."""
        self.program.forget_ending(self.words)


_END = """
; How many items a list has.
define internal i64 @length(ptr %list) alwaysinline {
  %f = load ptr, ptr getelementptr (ptr, ptr @py, i64 11)
  %n = call i64 %f(ptr %list)
  ret i64 %n
}

; The k-th item of a list, not counted as a reference.
define internal ptr @nth(ptr %list, i64 %k) alwaysinline {
  %f = load ptr, ptr getelementptr (ptr, ptr @py, i64 20)
  %o = call ptr %f(ptr %list, i64 %k)
  ret ptr %o
}

; Whether a container of any kind is empty.
define internal i1 @is_empty(ptr %o) {
  %f = load ptr, ptr getelementptr (ptr, ptr @py, i64 21)
  %n = call i64 %f(ptr %o)
  %is = icmp eq i64 %n, 0
  ret i1 %is
}

; Whether somebody besides the list that has it refers to an object.
define internal i1 @is_held(ptr %o) alwaysinline {
  %n = load i32, ptr %o
  %more = icmp ugt i32 %n, 1
  ret i1 %more
}

; Whether none of the views made in the trace is held.
define internal i1 @no_views(ptr %viewed) {
entry:
  %n = call i64 @length(ptr %viewed)
  br label %bases
bases:
  %k = phi i64 [ 0, %entry ], [ %k.next, %loop ]
  %all = icmp eq i64 %k, %n
  br i1 %all, label %yes, label %look
look:
  %k.next = add i64 %k, 1
  %views = call ptr @nth(ptr %viewed, i64 %k)
  %recent = call ptr @field(ptr %views, i64 {Views.recent})
  %m = call i64 @length(ptr %recent)
  br label %loop
loop:
  %i = phi i64 [ 0, %look ], [ %next, %each ]
  %over = icmp eq i64 %i, %m
  br i1 %over, label %bases, label %each
each:
  %v = call ptr @nth(ptr %recent, i64 %i)
  %held = call i1 @is_held(ptr %v)
  %next = add i64 %i, 1
  br i1 %held, label %no, label %loop
yes:
  ret i1 true
no:
  ret i1 false
}

; Whether somebody besides the trace's lists refers to a handle, where no view is held: views that the trace alone still has
; refer to their base.
define internal i1 @is_wanted(ptr %h, ptr %trace) {
entry:
  %count = load i32, ptr %h
  %more = icmp ugt i32 %count, 1
  br i1 %more, label %why, label %no
why:
  %none = load ptr, ptr @object
  %views = call ptr @field(ptr %h, i64 {Tensor._views})
  %without = icmp eq ptr %views, %none
  br i1 %without, label %yes, label %whose
whose:
  %owner = call ptr @field(ptr %views, i64 {Views.owner})
  %ours = icmp eq ptr %owner, %trace
  br i1 %ours, label %look, label %yes
look:
  %recent = call ptr @field(ptr %views, i64 {Views.recent})
  %m = call i64 @length(ptr %recent)
  br label %loop
loop:
  %i = phi i64 [ 0, %look ], [ %next, %each ]
  %known = phi i32 [ 1, %look ], [ %known.now, %each ]
  %over = icmp eq i64 %i, %m
  br i1 %over, label %compare, label %each
each:
  %v = call ptr @nth(ptr %recent, i64 %i)
  %base = call ptr @field(ptr %v, i64 {Tensor._base})
  %its = icmp eq ptr %base, %h
  %one = zext i1 %its to i32
  %known.now = add i32 %known, %one
  %next = add i64 %i, 1
  br label %loop
compare:
  %others = icmp ugt i32 %count, %known
  ret i1 %others
yes:
  ret i1 true
no:
  ret i1 false
}

; Whether the trace can end as %r says, giving %t its value. Runs no Python code.
define internal i1 @as_before(ptr %trace, ptr %t, ptr %r) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %zero = load ptr, ptr getelementptr (ptr, ptr @object, i64 2)
  %static = call ptr @field(ptr %trace, i64 {Trace.static})
  %whole = call ptr @field(ptr %trace, i64 {Trace.whole})
  %watch = call ptr @field(ptr %trace, i64 {Trace.watch})
  %hist = call ptr @field(ptr %trace, i64 {Trace.hist})
  %c1 = icmp eq ptr %static, %zero
  %c2 = icmp eq ptr %whole, %zero
  %c3 = icmp eq ptr %watch, %none
  %c4 = icmp eq ptr %hist, %none
  %c12 = and i1 %c1, %c2
  %c34 = and i1 %c3, %c4
  %c = and i1 %c12, %c34
  br i1 %c, label %counted, label %no
counted:
  %tally.word = call i64 @end.tally(ptr %r)
  %tally = inttoptr i64 %tally.word to ptr
  %paused = load i64, ptr %tally
  %running = icmp eq i64 %paused, 0
  br i1 %running, label %lists, label %no
lists:
  %buffers = call ptr @field(ptr %trace, i64 {Trace.buffers})
  %n.buffers = call i64 @length(ptr %buffers)
  %w.buffers = call i64 @end.buffers(ptr %r)
  %scalars = call ptr @field(ptr %trace, i64 {Trace.scalars})
  %n.scalars = call i64 @length(ptr %scalars)
  %w.scalars = call i64 @end.scalars(ptr %r)
  %handles = call ptr @field(ptr %trace, i64 {Trace.handles})
  %n.handles = call i64 @length(ptr %handles)
  %w.handles = call i64 @end.handles(ptr %r)
  %l1 = icmp eq i64 %n.buffers, %w.buffers
  %l2 = icmp eq i64 %n.scalars, %w.scalars
  %l3 = icmp eq i64 %n.handles, %w.handles
  %l12 = and i1 %l1, %l2
  %l = and i1 %l12, %l3
  br i1 %l, label %plain, label %no
plain:
  %mutated = call ptr @field(ptr %trace, i64 {Trace.mutated})
  %e1 = call i1 @is_empty(ptr %mutated)
  %origins = call ptr @field(ptr %trace, i64 {Trace.origins})
  %e2 = call i1 @is_empty(ptr %origins)
  %payload = call ptr @field(ptr %trace, i64 {Trace.payload})
  %e3 = call i1 @is_empty(ptr %payload)
  %values = call ptr @field(ptr %trace, i64 {Trace.values})
  %e4 = call i1 @is_empty(ptr %values)
  %watched.word = call i64 @end.watched(ptr %r)
  %watched = inttoptr i64 %watched.word to ptr
  %e5 = call i1 @is_empty(ptr %watched)
  %e12 = and i1 %e1, %e2
  %e34 = and i1 %e3, %e4
  %e14 = and i1 %e12, %e34
  %e = and i1 %e14, %e5
  br i1 %e, label %views, label %no
views:
  %viewed = call ptr @field(ptr %trace, i64 {Trace.viewed})
  %unseen = call i1 @no_views(ptr %viewed)
  br i1 %unseen, label %begin, label %no
begin:
  %id.object = call ptr @field(ptr %trace, i64 {Trace.id})
  %id = call i64 @whole(ptr %id.object)
  %type.word = call i64 @end.aval_type(ptr %r)
  %aval.type = inttoptr i64 %type.word to ptr
  %first = getelementptr i64, ptr %r, i64 {n_words}
  br label %loop
loop:
  %i = phi i64 [ 0, %begin ], [ %next, %agrees ]
  %found = phi i1 [ false, %begin ], [ %found.now, %agrees ]
  %over = icmp eq i64 %i, %n.handles
  br i1 %over, label %end, label %handle
handle:
  %h = call ptr @nth(ptr %handles, i64 %i)
  %two.i = mul i64 %i, 2
  %at = getelementptr i64, ptr %first, i64 %two.i
  %number = load i64, ptr %at
  %slot.at = getelementptr i64, ptr %at, i64 1
  %slot.wanted = load i64, ptr %slot.at
  %wanted = icmp sge i64 %number, 0
  %held = call i1 @is_wanted(ptr %h, ptr %trace)
  %data = call ptr @field(ptr %h, i64 {Tensor._data})
  %pending = icmp eq ptr %data, %none
  %aval = call ptr @field(ptr %h, i64 {Tensor._aval})
  %type = call ptr @field(ptr %aval, i64 {type})
  %single = icmp eq ptr %type, %aval.type
  %tid.object = call ptr @field(ptr %h, i64 {Tensor._tid})
  %tid = call i64 @whole(ptr %tid.object)
  %ours = icmp eq i64 %tid, %id
  %a1 = and i1 %held, %pending
  %a2 = and i1 %a1, %ours
  %alive = and i1 %a2, %single
  %same = icmp eq i1 %alive, %wanted
  br i1 %same, label %which, label %no
which:
  br i1 %wanted, label %living, label %agrees
living:
  %grad = call ptr @field(ptr %aval, i64 {Aval.requires_grad})
  %special = call ptr @field(ptr %h, i64 {Tensor._special})
  %slot.object = call ptr @field(ptr %h, i64 {Tensor._slot})
  %slot = call i64 @whole(ptr %slot.object)
  %g = icmp eq ptr %grad, %false
  %s = icmp eq ptr %special, %false
  %p = icmp eq i64 %slot, %slot.wanted
  %gs = and i1 %g, %s
  %good = and i1 %gs, %p
  br i1 %good, label %agrees, label %no
agrees:
  %this = icmp eq ptr %h, %t
  %this.one = and i1 %this, %wanted
  %found.now = or i1 %found, %this.one
  %next = add i64 %i, 1
  br label %loop
end:
  ret i1 %found
no:
  ret i1 false
}

; Put a new object in the place of an old one, which is returned with its reference.
define internal ptr @swap(ptr %o, i64 %offset, ptr %new) alwaysinline {
  %at = getelementptr i8, ptr %o, i64 %offset
  %old = load ptr, ptr %at
  store ptr %new, ptr %at
  ret ptr %old
}

define internal void @drop_if(ptr %o) {
entry:
  %none = icmp eq ptr %o, null
  br i1 %none, label %out, label %give
give:
  call void @drop(ptr %o)
  br label %out
out:
  ret void
}

; Memory for the results, out of a set that `Outputs` keeps ready and of which nothing is in use: what `Outputs.allocate`
; gives most often. Null where that has to find it.
define internal ptr @ready(ptr %r) {
entry:
  %call = load ptr, ptr getelementptr (ptr, ptr @py, i64 8)
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 19)
  %slice = load ptr, ptr getelementptr (ptr, ptr @py, i64 24)
  %mem = load ptr, ptr getelementptr (ptr, ptr @object, i64 12)
  %n = call i64 @end.small(ptr %r)
  %large = icmp eq i64 %n, 0
  br i1 %large, label %none, label %pop
pop:
  %pop.word = call i64 @end.pop(ptr %r)
  %pop.method = inttoptr i64 %pop.word to ptr
  %set = call ptr %call(ptr %pop.method, ptr null, i64 0, ptr null)
  %without = icmp eq ptr %set, null
  br i1 %without, label %clear, label %size
size:
  %m = call i64 @length(ptr %set)
  %whole = icmp eq i64 %m, %n
  br i1 %whole, label %loop, label %back
loop:
  %i = phi i64 [ 0, %size ], [ %next, %alone ]
  %over = icmp eq i64 %i, %n
  br i1 %over, label %take, label %each
each:
  %buffer = call ptr @nth(ptr %set, i64 %i)
  %held = call i1 @is_held(ptr %buffer)
  br i1 %held, label %back, label %memory
memory:
  %bytes = call ptr %get(ptr %buffer, ptr %mem)
  %lost = icmp eq ptr %bytes, null
  br i1 %lost, label %back, label %count
count:
  call void @drop(ptr %bytes)
  %seen = call i1 @is_held(ptr %bytes)
  br i1 %seen, label %back, label %alone
alone:
  %next = add i64 %i, 1
  br label %loop
take:
  %out = call ptr %slice(ptr %set, i64 0, i64 %n)
  br label %back
back:
  %found = phi ptr [ null, %size ], [ null, %each ], [ null, %memory ], [ null, %count ], [ %out, %take ]
  %push.word = call i64 @end.push(ptr %r)
  %push.method = inttoptr i64 %push.word to ptr
  %argument = alloca ptr
  store ptr %set, ptr %argument
  %pushed = call ptr %call(ptr %push.method, ptr %argument, i64 1, ptr null)
  call void @drop_if(ptr %pushed)
  call void @drop(ptr %set)
  %good = icmp ne ptr %found, null
  %done = icmp ne ptr %pushed, null
  %all = and i1 %good, %done
  br i1 %all, label %give, label %clear
give:
  ret ptr %found
clear:
  %half = phi ptr [ null, %pop ], [ %found, %back ]
  call void @drop_if(ptr %half)
  call void @forget_error(i32 1)
  br label %none
none:
  ret ptr null
}

; settle(t): end this thread's trace, so that t has its value: True; or False, and nothing is changed.
define ptr @settle(ptr %self, ptr %t) {
entry:
  %none = load ptr, ptr @object
  %false = load ptr, ptr getelementptr (ptr, ptr @object, i64 1)
  %true = load ptr, ptr getelementptr (ptr, ptr @object, i64 8)
  %trace = call ptr @mine()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %refuse, label %place
place:
  %node = call ptr @field(ptr %trace, i64 {Trace.node})
  %record = call ptr @field(ptr %node, i64 {Step.end})
  %unset = icmp eq ptr %record, %none
  %impossible = icmp eq ptr %record, %false
  %unknown = or i1 %unset, %impossible
  br i1 %unknown, label %refuse, label %known
known:
  %base = call ptr @field(ptr %t, i64 {Tensor._base})
  %own = icmp eq ptr %base, %none
  br i1 %own, label %first, label %refuse
first:
  %r.word = call i64 @whole(ptr %record)
  %r = inttoptr i64 %r.word to ptr
  %can = call i1 @as_before(ptr %trace, ptr %t, ptr %r)
  br i1 %can, label %prepare, label %refuse
refuse:
  call void @keep(ptr %false)
  ret ptr %false

prepare:
  call void @keep(ptr %record)
  call void @keep(ptr %node)
  %id = call ptr @field(ptr %trace, i64 {Trace.id})
  call void @keep(ptr %id)
  %call = load ptr, ptr getelementptr (ptr, ptr @py, i64 8)
  %new.list = load ptr, ptr getelementptr (ptr, ptr @py, i64 22)
  %new_id.word = call i64 @end.new_id(ptr %r)
  %new_id = inttoptr i64 %new_id.word to ptr
  %at.hand = call ptr @ready(ptr %r)
  %absent = icmp eq ptr %at.hand, null
  br i1 %absent, label %allocate, label %memory
allocate:
  %allocate.word = call i64 @end.allocate(ptr %r)
  %allocate.method = inttoptr i64 %allocate.word to ptr
  %allocated = call ptr %call(ptr %allocate.method, ptr null, i64 0, ptr null)
  br label %memory
memory:
  %out = phi ptr [ %at.hand, %prepare ], [ %allocated, %allocate ]
  %m1 = icmp eq ptr %out, null
  br i1 %m1, label %unprepared, label %number
number:
  %id.new = call ptr %call(ptr %new_id, ptr null, i64 0, ptr null)
  %l1 = call ptr %new.list(i64 0)
  %l2 = call ptr %new.list(i64 0)
  %l3 = call ptr %new.list(i64 0)
  %l4 = call ptr %new.list(i64 0)
  %l5 = call ptr %new.list(i64 0)
  %l6 = call ptr %new.list(i64 0)
  %n1 = icmp eq ptr %id.new, null
  %n2 = icmp eq ptr %l1, null
  %n3 = icmp eq ptr %l2, null
  %n4 = icmp eq ptr %l3, null
  %n5 = icmp eq ptr %l4, null
  %n6 = icmp eq ptr %l5, null
  %n7 = icmp eq ptr %l6, null
  %o1 = or i1 %n1, %n2
  %o2 = or i1 %n3, %n4
  %o3 = or i1 %n5, %n6
  %o12 = or i1 %o1, %o2
  %o37 = or i1 %o3, %n7
  %missing = or i1 %o12, %o37
  br i1 %missing, label %give_up, label %again
again:
  ; What was called may have ended the trace, or recorded more.
  %node.now = call ptr @field(ptr %trace, i64 {Trace.node})
  %record.now = call ptr @field(ptr %node.now, i64 {Step.end})
  %id.now = call ptr @field(ptr %trace, i64 {Trace.id})
  %s1 = icmp eq ptr %node.now, %node
  %s2 = icmp eq ptr %record.now, %record
  %s3 = icmp eq ptr %id.now, %id
  %s12 = and i1 %s1, %s2
  %s = and i1 %s12, %s3
  br i1 %s, label %ask, label %give_up
ask:
  %still = call i1 @as_before(ptr %trace, ptr %t, ptr %r)
  br i1 %still, label %frame_of, label %give_up
frame_of:
  %frames.word = call i64 @end.frames(ptr %r)
  %frames = inttoptr i64 %frames.word to ptr
  %n.frames = call i64 @length(ptr %frames)
  %frameless = icmp eq i64 %n.frames, 0
  br i1 %frameless, label %give_up, label %take_frame
take_frame:
  %slice = load ptr, ptr getelementptr (ptr, ptr @py, i64 12)
  %append = load ptr, ptr getelementptr (ptr, ptr @py, i64 5)
  %last.frame = sub i64 %n.frames, 1
  %frame = call ptr @nth(ptr %frames, i64 %last.frame)
  call void @keep(ptr %frame)
  %cut = call i32 %slice(ptr %frames, i64 %last.frame, i64 %n.frames, ptr null)
  %header = call ptr @field(ptr %frame, i64 {Frame.header})
  %buffers = call ptr @field(ptr %trace, i64 {Trace.buffers})
  call void @keep(ptr %buffers)
  %scalars = call ptr @field(ptr %trace, i64 {Trace.scalars})
  call void @keep(ptr %scalars)
  %arguments = alloca [4 x ptr]
  store ptr %header, ptr %arguments
  %a1 = getelementptr ptr, ptr %arguments, i64 1
  store ptr %buffers, ptr %a1
  %a2 = getelementptr ptr, ptr %arguments, i64 2
  store ptr %out, ptr %a2
  %a3 = getelementptr ptr, ptr %arguments, i64 3
  store ptr %scalars, ptr %a3
  %enter.word = call i64 @end.enter(ptr %r)
  %enter = inttoptr i64 %enter.word to ptr
  %answer = call ptr %enter(ptr null, ptr %arguments, i64 4)
  %bits = call i64 @whole(ptr %answer)
  call void @drop(ptr %answer)
  %back = call i32 %append(ptr %frames, ptr %frame)
  call void @forget_error(i32 %back)
  call void @drop(ptr %frame)
  call void @drop(ptr %scalars)
  call void @drop(ptr %buffers)
  %bad = and i64 %bits, 6
  %right = icmp eq i64 %bad, 0
  br i1 %right, label %after, label %give_up
after:
  ; Other threads may have run meanwhile.
  %node.after = call ptr @field(ptr %trace, i64 {Trace.node})
  %id.after = call ptr @field(ptr %trace, i64 {Trace.id})
  %t1 = icmp eq ptr %node.after, %node
  %t2 = icmp eq ptr %id.after, %id
  %t12 = and i1 %t1, %t2
  br i1 %t12, label %final, label %give_up
final:
  %good = call i1 @as_before(ptr %trace, ptr %t, ptr %r)
  br i1 %good, label %deliver, label %give_up

deliver:
  %handles = call ptr @field(ptr %trace, i64 {Trace.handles})
  %n.handles = call i64 @length(ptr %handles)
  %numbers = getelementptr i64, ptr %r, i64 {n_words}
  br label %loop
loop:
  %i = phi i64 [ 0, %deliver ], [ %next, %each.end ]
  %over = icmp eq i64 %i, %n.handles
  br i1 %over, label %start, label %each
each:
  %two.i = mul i64 %i, 2
  %number.at = getelementptr i64, ptr %numbers, i64 %two.i
  %k = load i64, ptr %number.at
  %alive = icmp sge i64 %k, 0
  br i1 %alive, label %value, label %each.end
value:
  %h = call ptr @nth(ptr %handles, i64 %i)
  %data = call ptr @nth(ptr %out, i64 %k)
  %data.at = getelementptr i8, ptr %h, i64 {Tensor._data}
  call void @set(ptr %data.at, ptr %data)
  br label %each.end
each.end:
  %next = add i64 %i, 1
  br label %loop

start:
  %root.word = call i64 @end.root(ptr %r)
  %root = inttoptr i64 %root.word to ptr
  call void @keep(ptr %root)
  call void @keep(ptr %false)
  call void @keep(ptr %none)
  %old.id = call ptr @swap(ptr %trace, i64 {Trace.id}, ptr %id.new)
  %old.node = call ptr @swap(ptr %trace, i64 {Trace.node}, ptr %root)
  %old.inputs = call ptr @swap(ptr %trace, i64 {Trace.inputs}, ptr %l1)
  %old.buffers = call ptr @swap(ptr %trace, i64 {Trace.buffers}, ptr %l2)
  %old.scalars = call ptr @swap(ptr %trace, i64 {Trace.scalars}, ptr %l3)
  %old.handles = call ptr @swap(ptr %trace, i64 {Trace.handles}, ptr %l4)
  %old.after = call ptr @swap(ptr %trace, i64 {Trace.flush_after}, ptr %false)
  %old.period = call ptr @swap(ptr %trace, i64 {Trace.period}, ptr %none)
  %viewed = call ptr @field(ptr %trace, i64 {Trace.viewed})
  %n.viewed = call i64 @length(ptr %viewed)
  %any = icmp ne i64 %n.viewed, 0
  br i1 %any, label %unview, label %count
unview:
  %views = call ptr @nth(ptr %viewed, i64 0)
  %old.recent = call ptr @swap(ptr %views, i64 {Views.recent}, ptr %l5)
  %old.viewed = call ptr @swap(ptr %trace, i64 {Trace.viewed}, ptr %l6)
  br label %others
others:
  ; Those of other bases are put with those of the first, to be given up with them.
  %v = phi i64 [ 1, %unview ], [ %v.next, %move ]
  %moved = icmp eq i64 %v, %n.viewed
  br i1 %moved, label %count, label %move
move:
  %v.next = add i64 %v, 1
  %v.views = call ptr @nth(ptr %old.viewed, i64 %v)
  %v.recent = call ptr @field(ptr %v.views, i64 {Views.recent})
  %v.end = call i64 @length(ptr %v.recent)
  %gathered = call i64 @length(ptr %old.recent)
  %put.there = call i32 %slice(ptr %old.recent, i64 %gathered, i64 %gathered, ptr %v.recent)
  call void @forget_error(i32 %put.there)
  %emptied = call i32 %slice(ptr %v.recent, i64 0, i64 %v.end, ptr null)
  call void @forget_error(i32 %emptied)
  br label %others
count:
  %rest.5 = phi ptr [ %l5, %start ], [ %old.recent, %others ]
  %rest.6 = phi ptr [ %l6, %start ], [ %old.viewed, %others ]
  %dict.word = call i64 @end.counters(ptr %r)
  %dict = inttoptr i64 %dict.word to ptr
  %key.word = call i64 @end.runs_key(ptr %r)
  %key = inttoptr i64 %key.word to ptr
  %get = load ptr, ptr getelementptr (ptr, ptr @py, i64 4)
  %long = load ptr, ptr getelementptr (ptr, ptr @py, i64 17)
  %put = load ptr, ptr getelementptr (ptr, ptr @py, i64 18)
  %before = call ptr %get(ptr %dict, ptr %key)
  %clock = call i64 @whole(ptr %before)
  %clock.next = add i64 %clock, 1
  %clock.object = call ptr %long(i64 %clock.next)
  %timeless = icmp eq ptr %clock.object, null
  %lost = sext i1 %timeless to i32
  call void @forget_error(i32 %lost)
  br i1 %timeless, label %counted, label %tick
tick:
  %ticked = call i32 %put(ptr %dict, ptr %key, ptr %clock.object)
  call void @forget_error(i32 %ticked)
  call void @drop(ptr %clock.object)
  br label %counted
counted:
  %last.at = getelementptr i64, ptr %r, i64 {last}
  store i64 %clock.next, ptr %last.at
  %runs.at = getelementptr i64, ptr %r, i64 {runs}
  call void @increase(ptr %runs.at, i64 1)
  %tally.word = call i64 @end.tally(ptr %r)
  %tally = inttoptr i64 %tally.word to ptr
  %operations.at = getelementptr i64, ptr %tally, i64 2
  %depth = call i64 @end.depth(ptr %r)
  call void @increase(ptr %operations.at, i64 %depth)
  %bytes.at = getelementptr i64, ptr %tally, i64 3
  %bytes = call i64 @end.bytes(ptr %r)
  call void @increase(ptr %bytes.at, i64 %bytes)
  %ended.at = getelementptr i64, ptr %tally, i64 4
  call void @increase(ptr %ended.at, i64 1)
  call void @drop(ptr %old.id)
  call void @drop(ptr %old.node)
  call void @drop(ptr %old.after)
  call void @drop(ptr %old.period)
  call void @drop(ptr %out)
  call void @drop(ptr %old.scalars)
  call void @drop(ptr %old.buffers)
  call void @drop(ptr %rest.5)
  call void @drop(ptr %rest.6)
  call void @drop(ptr %old.handles)
  call void @drop(ptr %old.inputs)
  call void @drop(ptr %id)
  call void @drop(ptr %node)
  %wanted.bit = and i64 %bits, 1
  %wanted = icmp ne i64 %wanted.bit, 0
  br i1 %wanted, label %workers, label %done
workers:
  %start.word = call i64 @end.start(ptr %r)
  %start.workers = inttoptr i64 %start.word to ptr
  %started = call ptr %call(ptr %start.workers, ptr null, i64 0, ptr null)
  call void @drop_if(ptr %started)
  %failed = icmp eq ptr %started, null
  br i1 %failed, label %raise, label %done
raise:
  call void @drop(ptr %record)
  ret ptr null
done:
  call void @drop(ptr %record)
  call void @keep(ptr %true)
  ret ptr %true

give_up:
  call void @drop_if(ptr %l6)
  call void @drop_if(ptr %l5)
  call void @drop_if(ptr %l4)
  call void @drop_if(ptr %l3)
  call void @drop_if(ptr %l2)
  call void @drop_if(ptr %l1)
  call void @drop_if(ptr %id.new)
  call void @drop(ptr %out)
  br label %unprepared
unprepared:
  call void @drop(ptr %id)
  call void @drop(ptr %node)
  call void @drop(ptr %record)
  %wrong = call i1 @failed()
  br i1 %wrong, label %failure, label %nothing
failure:
  ret ptr null
nothing:
  call void @keep(ptr %false)
  ret ptr %false
}

define internal void @increase(ptr %at, i64 %more) alwaysinline {
  %old = load i64, ptr %at
  %new = add i64 %old, %more
  store i64 %new, ptr %at
  ret void
}
"""

END = word_readers("end", FIELDS) + _END.replace("{n_words}", str(len(FIELDS))).replace("{runs}", str(FIELDS.index("runs"))).replace(
    "{last}", str(FIELDS.index("last"))
)
