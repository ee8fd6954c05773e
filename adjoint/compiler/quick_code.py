"""The text of `compiler.quick`: a known call, in LLVM IR.

In braces stands what `quick` fills in: offsets of slots. Read `adjoint_quick_call`.
"""

from __future__ import annotations

from typing import Literal

from adjoint.trace.native_code import word_readers

Field = Literal[
    "root", "arguments", "sources", "check", "guard", "records", "n_records", "table", "scalars", "out", "moved", "ready",
    "depth", "bytes", "calls", "next", "around",
]  # fmt: skip

# A record: these words; for each source a tensor (0: an argument) and its description; the tensors that no argument may be;
# pieces of memory for results (at most MOST_READY), each with the array that keeps it.
FIELDS: tuple[Field, ...] = Field.__args__  # type: ignore[attr-defined]
PER_SOURCE = 2
MOST_READY = 64

_PARTS = (
    "keep", "drop", "address", "call", "item", "occurred", "size", "new", "mine", "run", "tally",
    "none", "false", "zero", "below", "tensor", "empty", "python", "rebased",
)  # fmt: skip


def _parts() -> str:
    """What comes from outside: functions of the interpreter and the engine, then objects."""
    cases = "\n".join([f"    i64 {k}, label %{name}" for k, name in enumerate(_PARTS)])
    stores = "\n".join([f"{name}:\n  store ptr %part, ptr @{name}\n  ret void" for name in _PARTS])
    globals_ = "\n".join([f"@{name} = internal global ptr null" for name in _PARTS])
    return f"""
{globals_}

define void @adjoint_quick_connect(i64 %k, ptr %part) {{
  switch i64 %k, label %none [
{cases} ]
{stores}
}}
"""


_CALL = """
define internal ptr @at.field(ptr %o, i64 %offset) alwaysinline {
  %at = getelementptr i8, ptr %o, i64 %offset
  %v = load ptr, ptr %at
  ret ptr %v
}

; The memory of a tensor that may be read as it is and has this description, or null.
define internal ptr @memory(ptr %t, i64 %aval) {
entry:
  %a = call ptr @at.field(ptr %t, i64 {Tensor._aval})
  %a.word = ptrtoint ptr %a to i64
  %alike = icmp eq i64 %a.word, %aval
  br i1 %alike, label %plain, label %no
plain:
  %special = call ptr @at.field(ptr %t, i64 {Tensor._special})
  %false.object = load ptr, ptr @false
  %ordinary = icmp eq ptr %special, %false.object
  br i1 %ordinary, label %known, label %no
known:
  %data = call ptr @at.field(ptr %t, i64 {Tensor._data})
  %none.object = load ptr, ptr @none
  %pending = icmp eq ptr %data, %none.object
  br i1 %pending, label %no, label %yes
yes:
  ret ptr %data
no:
  ret ptr null
}

; Whether an argument is none of the tensors that the call can reach, and none of the arguments before it.
define internal i1 @is_alone(ptr %t, ptr %around, i64 %n, ptr %args, i64 %k) {
entry:
  %word = ptrtoint ptr %t to i64
  br label %outside
outside:
  %i = phi i64 [ 0, %entry ], [ %i.next, %look ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %inside, label %look
look:
  %at = getelementptr i64, ptr %around, i64 %i
  %one = load i64, ptr %at
  %same = icmp eq i64 %one, %word
  %i.next = add i64 %i, 1
  br i1 %same, label %no, label %outside
inside:
  %j = phi i64 [ 0, %outside ], [ %j.next, %compare ]
  %done = icmp eq i64 %j, %k
  br i1 %done, label %yes, label %compare
compare:
  %at.other = getelementptr ptr, ptr %args, i64 %j
  %other = load ptr, ptr %at.other
  %twice = icmp eq ptr %other, %t
  %j.next = add i64 %j, 1
  br i1 %twice, label %no, label %inside
yes:
  ret i1 true
no:
  ret i1 false
}

; Whether a record fits the arguments; if so, the addresses of all memory that is read stand in its table.
define internal i1 @fits(ptr %r, ptr %node, ptr %args, i64 %count) {
entry:
  %root = call i64 @field.root(ptr %r)
  %node.word = ptrtoint ptr %node to i64
  %here = icmp eq i64 %root, %node.word
  %arguments = call i64 @field.arguments(ptr %r)
  %many = icmp eq i64 %arguments, %count
  %possible = and i1 %here, %many
  br i1 %possible, label %begin, label %no
begin:
  %sources = call i64 @field.sources(ptr %r)
  %table.word = call i64 @field.table(ptr %r)
  %table = inttoptr i64 %table.word to ptr
  %first = getelementptr i64, ptr %r, i64 {fields}
  %behind = mul i64 %sources, 2
  %around = getelementptr i64, ptr %first, i64 %behind
  %n.around = call i64 @field.around(ptr %r)
  %as = load ptr, ptr @address
  %tensor.type = load ptr, ptr @tensor
  br label %loop
loop:
  %k = phi i64 [ 0, %begin ], [ %k.next, %store ]
  %end = icmp eq i64 %k, %sources
  br i1 %end, label %yes, label %source
source:
  %two.k = mul i64 %k, 2
  %at = getelementptr i64, ptr %first, i64 %two.k
  %captured.word = load i64, ptr %at
  %at.aval = getelementptr i64, ptr %at, i64 1
  %aval = load i64, ptr %at.aval
  %given = icmp ult i64 %k, %arguments
  br i1 %given, label %argument, label %reached
argument:
  %at.arg = getelementptr ptr, ptr %args, i64 %k
  %arg = load ptr, ptr %at.arg
  %type = call ptr @at.field(ptr %arg, i64 8)
  %exact = icmp eq ptr %type, %tensor.type
  br i1 %exact, label %distinct, label %no
distinct:
  %alone = call i1 @is_alone(ptr %arg, ptr %around, i64 %n.around, ptr %args, i64 %k)
  br i1 %alone, label %read, label %no
reached:
  %captured = inttoptr i64 %captured.word to ptr
  br label %read
read:
  %t = phi ptr [ %arg, %distinct ], [ %captured, %reached ]
  %data = call ptr @memory(ptr %t, i64 %aval)
  %missing = icmp eq ptr %data, null
  br i1 %missing, label %no, label %store
store:
  %where = call i64 %as(ptr %data)
  %at.table = getelementptr i64, ptr %table, i64 %k
  store i64 %where, ptr %at.table
  %k.next = add i64 %k, 1
  br label %loop
yes:
  %closed = icmp eq i64 %sources, %arguments
  br i1 %closed, label %guarded, label %where_from
where_from:
  %item = load ptr, ptr @item
  %list = load ptr, ptr @rebased
  %moves = call ptr %item(ptr %list, i64 0)
  %now = call i64 %as(ptr %moves)
  %then = call i64 @field.moved(ptr %r)
  %unmoved = icmp eq i64 %now, %then
  br i1 %unmoved, label %guarded, label %no
guarded:
  %check.word = call i64 @field.check(ptr %r)
  %guard.word = call i64 @field.guard(ptr %r)
  %open = icmp eq i64 %check.word, 0
  br i1 %open, label %good, label %ask
ask:
  %check.at = inttoptr i64 %check.word to ptr
  %guard.at = inttoptr i64 %guard.word to ptr
  %holds = call i1 %check.at(ptr %guard.at)
  ret i1 %holds
good:
  ret i1 true
no:
  ret i1 false
}

; A free piece of memory for the result, or null: only its set refers to it, and only it to its array.
define internal ptr @piece(ptr %r) {
entry:
  %ready = call i64 @field.ready(ptr %r)
  %sources = call i64 @field.sources(ptr %r)
  %around = call i64 @field.around(ptr %r)
  %pairs = mul i64 %sources, 2
  %behind = add i64 %pairs, %around
  %skip = add i64 %behind, {fields}
  %first = getelementptr i64, ptr %r, i64 %skip
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k.next, %busy ]
  %end = icmp uge i64 %k, %ready
  br i1 %end, label %no, label %look
look:
  %two.k = mul i64 %k, 2
  %at = getelementptr i64, ptr %first, i64 %two.k
  %buffer.word = load i64, ptr %at
  %at.array = getelementptr i64, ptr %at, i64 1
  %array.word = load i64, ptr %at.array
  %buffer = inttoptr i64 %buffer.word to ptr
  %array = inttoptr i64 %array.word to ptr
  %held = load i32, ptr %buffer
  %seen = load i32, ptr %array
  %once = icmp eq i32 %held, 1
  %unseen = icmp eq i32 %seen, 1
  %free = and i1 %once, %unseen
  br i1 %free, label %take, label %busy
busy:
  %k.next = add i64 %k, 1
  br label %loop
take:
  ret ptr %buffer
no:
  ret ptr null
}

define internal void @count(ptr %at, i64 %more) alwaysinline {
  %old = load i64, ptr %at
  %new.count = add i64 %old, %more
  store i64 %new.count, ptr %at
  ret void
}

; Hand a call over to Python.
define internal ptr @hand_over(ptr %self, ptr %args, i64 %count, ptr %names) {
entry:
  %occurred.at = load ptr, ptr @occurred
  %error = call ptr %occurred.at()
  %wrong = icmp ne ptr %error, null
  br i1 %wrong, label %raise, label %size
raise:
  ret ptr null
size:
  %named = icmp ne ptr %names, null
  br i1 %named, label %more, label %copy
more:
  %size.at = load ptr, ptr @size
  %n.names = call i64 %size.at(ptr %names)
  br label %copy
copy:
  %extra = phi i64 [ 0, %size ], [ %n.names, %more ]
  %n = add i64 %count, %extra
  %room = add i64 %n, 1
  %stack = alloca ptr, i64 %room
  store ptr %self, ptr %stack
  br label %loop
loop:
  %i = phi i64 [ 0, %copy ], [ %i.next, %one ]
  %end = icmp eq i64 %i, %n
  br i1 %end, label %go, label %one
one:
  %from = getelementptr ptr, ptr %args, i64 %i
  %o = load ptr, ptr %from
  %i.next = add i64 %i, 1
  %to = getelementptr ptr, ptr %stack, i64 %i.next
  store ptr %o, ptr %to
  br label %loop
go:
  %with.self = add i64 %count, 1
  %call.at = load ptr, ptr @call
  %function = load ptr, ptr @python
  %out = call ptr %call.at(ptr %function, ptr %stack, i64 %with.self, ptr %names)
  ret ptr %out
}

; Compiled.__call__(self, *args, **names)
define ptr @adjoint_quick_call(ptr %self, ptr %args, i64 %count, ptr %names) {
entry:
  %keep.at = load ptr, ptr @keep
  %drop.at = load ptr, ptr @drop
  %as = load ptr, ptr @address
  %none.object = load ptr, ptr @none
  %false.object = load ptr, ptr @false
  %zero.object = load ptr, ptr @zero
  %below.object = load ptr, ptr @below
  %record.object = call ptr @at.field(ptr %self, i64 {Compiled._record})
  %unset = icmp eq ptr %record.object, null
  %unknown = icmp eq ptr %record.object, %none.object
  %named = icmp ne ptr %names, null
  %u1 = or i1 %unset, %unknown
  %u2 = or i1 %u1, %named
  br i1 %u2, label %slow, label %thread
thread:
  %mine.at = load ptr, ptr @mine
  %trace = call ptr %mine.at()
  %foreign = icmp eq ptr %trace, null
  br i1 %foreign, label %slow, label %make
make:
  %new.at = load ptr, ptr @new
  %type = load ptr, ptr @tensor
  %nothing = load ptr, ptr @empty
  %out = call ptr %new.at(ptr %type, ptr %nothing, ptr null)
  %failed = icmp eq ptr %out, null
  br i1 %failed, label %slow, label %still
still:
  %record.now = call ptr @at.field(ptr %self, i64 {Compiled._record})
  %same.record = icmp eq ptr %record.now, %record.object
  %static = call ptr @at.field(ptr %trace, i64 {Trace.static})
  %whole = call ptr @at.field(ptr %trace, i64 {Trace.whole})
  %watch = call ptr @at.field(ptr %trace, i64 {Trace.watch})
  %live = icmp eq ptr %static, %zero.object
  %apart = icmp eq ptr %whole, %zero.object
  %unwatched = icmp eq ptr %watch, %none.object
  %words = load ptr, ptr @tally
  %paused = load i64, ptr %words
  %running = icmp eq i64 %paused, 0
  %c1 = and i1 %live, %apart
  %c2 = and i1 %unwatched, %running
  %c3 = and i1 %c1, %c2
  %c4 = and i1 %c3, %same.record
  br i1 %c4, label %begin, label %give_up
begin:
  %node = call ptr @at.field(ptr %trace, i64 {Trace.node})
  %address.first = call i64 %as(ptr %record.object)
  br label %loop
loop:
  %address.r = phi i64 [ %address.first, %begin ], [ %address.next, %another ]
  %r = inttoptr i64 %address.r to ptr
  %fitting = call i1 @fits(ptr %r, ptr %node, ptr %args, i64 %count)
  br i1 %fitting, label %space, label %another
another:
  %address.next = call i64 @field.next(ptr %r)
  %over = icmp eq i64 %address.next, 0
  br i1 %over, label %give_up, label %loop
space:
  %buffer = call ptr @piece(ptr %r)
  %full = icmp eq ptr %buffer, null
  br i1 %full, label %give_up, label %run_it
run_it:
  %to = call i64 %as(ptr %buffer)
  %sources = call i64 @field.sources(ptr %r)
  %table.word = call i64 @field.table(ptr %r)
  %table = inttoptr i64 %table.word to ptr
  %at.out = getelementptr i64, ptr %table, i64 %sources
  store i64 %to, ptr %at.out
  %records.word = call i64 @field.records(ptr %r)
  %records = inttoptr i64 %records.word to ptr
  %n = call i64 @field.n_records(ptr %r)
  %scalars.word = call i64 @field.scalars(ptr %r)
  %scalars = inttoptr i64 %scalars.word to ptr
  %run.at = load ptr, ptr @run
  %wanted = call i32 %run.at(ptr %records, i64 %n, ptr %table, ptr %scalars)
  %o.tid = getelementptr i8, ptr %out, i64 {Tensor._tid}
  call void %keep.at(ptr %zero.object)
  store ptr %zero.object, ptr %o.tid
  %o.slot = getelementptr i8, ptr %out, i64 {Tensor._slot}
  call void %keep.at(ptr %below.object)
  store ptr %below.object, ptr %o.slot
  %aval.word = call i64 @field.out(ptr %r)
  %aval = inttoptr i64 %aval.word to ptr
  %o.aval = getelementptr i8, ptr %out, i64 {Tensor._aval}
  call void %keep.at(ptr %aval)
  store ptr %aval, ptr %o.aval
  %o.data = getelementptr i8, ptr %out, i64 {Tensor._data}
  call void %keep.at(ptr %buffer)
  store ptr %buffer, ptr %o.data
  %o.special = getelementptr i8, ptr %out, i64 {Tensor._special}
  call void %keep.at(ptr %false.object)
  store ptr %false.object, ptr %o.special
  %o.base = getelementptr i8, ptr %out, i64 {Tensor._base}
  call void %keep.at(ptr %none.object)
  store ptr %none.object, ptr %o.base
  %o.chain = getelementptr i8, ptr %out, i64 {Tensor._chain}
  call void %keep.at(ptr %nothing)
  store ptr %nothing, ptr %o.chain
  %o.views = getelementptr i8, ptr %out, i64 {Tensor._views}
  call void %keep.at(ptr %none.object)
  store ptr %none.object, ptr %o.views
  %o.version = getelementptr i8, ptr %out, i64 {Tensor._version}
  call void %keep.at(ptr %zero.object)
  store ptr %zero.object, ptr %o.version
  %at.calls = getelementptr i64, ptr %r, i64 {calls}
  call void @count(ptr %at.calls, i64 1)
  %at.runs = getelementptr i64, ptr %words, i64 1
  call void @count(ptr %at.runs, i64 1)
  %depth = call i64 @field.depth(ptr %r)
  %at.operations = getelementptr i64, ptr %words, i64 2
  call void @count(ptr %at.operations, i64 %depth)
  %bytes = call i64 @field.bytes(ptr %r)
  %at.bytes = getelementptr i64, ptr %words, i64 3
  call void @count(ptr %at.bytes, i64 %bytes)
  ret ptr %out
give_up:
  call void %drop.at(ptr %out)
  br label %slow
slow:
  %p = call ptr @hand_over(ptr %self, ptr %args, i64 %count, ptr %names)
  ret ptr %p
}
"""


def source() -> str:
    """The module; offsets of slots are still to be filled in."""
    text = _parts() + word_readers("field", FIELDS) + _CALL
    return text.replace("{fields}", str(len(FIELDS))).replace("{calls}", str(FIELDS.index("calls")))
