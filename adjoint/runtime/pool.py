"""Running a program: the native driver, and the worker threads that share its kernels.

Owns the table of records that a program is at run time (`RecordTable`), the driver's code and its
control block, and the workers. Read `run` first, then `_DRIVER`, the same in LLVM IR.

A program is a list of records (kernel, index table, number of blocks, how these are shared), executed in order.
The blocks of one record may run on several threads; the next record starts when all are done. How
work is cut into blocks is fixed by shapes alone, so results do not depend on the number of threads.

Workers are ordinary Python threads parked inside native code, where they hold no lock of the
interpreter. A worker that finds nothing spins for about 200 us, then sleeps in the kernel (Linux:
futex; elsewhere: short naps). Blocks are handed out through one 64-bit word, the *ticket*: job
number in the upper half, blocks not yet given out in the lower. Whoever lowers it by compare and
swap owns the blocks taken, and the job's other fields cannot change before those are reported
done. So nobody ever waits for a worker that has not begun: a sleeping one costs nothing but the
call that wakes it.

Whoever asks is given a share of the blocks that are left, the smaller the fewer they are. Of blocks that have some work in
common, so many in a row as share it are given out together, until a few times as many as there are threads are left.

A kernel is a function of (buffer addresses, index table, scalars, first block, end of blocks, memory). The last is
where a worker's own OWN_BYTES lie, for what only this call needs, or null in the thread that runs the program: a
kernel that wants such memory has some in its program's arena, for that thread.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from adjoint import config
from adjoint.codegen.emitter import OWN_BYTES
from adjoint.runtime import entry, jit

__all__ = [
    "RecordTable",
    "entries",
    "get_num_threads",
    "run",
    "set_num_threads",
    "start",
    "stop",
]

# How long a worker looks for more before it sleeps. After a kernel that went through large tensors Python finds nothing in
# the caches, and needs some 100 us from one program to the next; to wake a sleeper costs half of that, on virtual machines
# more. (Sums of 64 MB, read one after the other: 2 to 4 percent faster than with 20 us.)
_SPIN_SECONDS = 200e-6


class RecordTable:
    """The records of a program, as the driver reads them.

    words: int64 array of shape (count, 4): kernel address, index table address, blocks, how they are shared.
    address: where the words lie.  parallel: whether any record may use several threads.
    keep: the index tables and the kernels' code, which must live as long as the records.
    """

    __slots__ = ("words", "address", "count", "parallel", "keep")

    def __init__(self, records: Sequence[tuple[int, np.ndarray, int, int]]) -> None:
        """`records`: (kernel address, int32 index table, number of blocks, how many of these a thread had better take
        together, or 0 if they are not worth sharing)."""
        tables = [np.ascontiguousarray(index, np.int32) for _, index, _, _ in records]
        self.keep = (tables, [kernel for kernel, _, _, _ in records])
        self.words = np.array(
            [
                (kernel, index.__array_interface__["data"][0], blocks, shared)
                for (kernel, _, blocks, shared), index in zip(records, tables, strict=True)
            ],
            np.int64,
        ).reshape(-1, 4)
        self.address = self.words.__array_interface__["data"][0]
        self.count = len(self.words)
        self.parallel = any(shared and blocks > 1 for _, _, blocks, shared in records)


def run(records: int, count: int, buffers: int, scalars: int) -> None:
    """Execute `count` records at the address `records`, without the interpreter's lock.

    buffers, scalars: addresses of the program's arrays of buffer addresses and of 64-bit words.
    The first program with shared records starts the workers. Several threads may call this at the
    same time: one of them has the workers, the others run their blocks themselves.
    """
    if entries()[1](records, count, buffers, scalars):
        start()


def entries() -> tuple[Callable[..., int], Callable[..., int]]:
    """The driver as two ctypes functions of (records, count, buffers, scalars).

    The first keeps the interpreter's lock (cheaper to call: for programs of microseconds), the
    second releases it. Each returns 1 when it met a record worth sharing but no workers exist
    yet: the caller then calls `start()`.
    """
    if _driver is None:
        _load_driver()
    assert _driver is not None
    return _driver.keeping, _driver.releasing


def native_entry() -> Callable[..., int] | None:
    """`enter` of `runtime.entry`, or None where there is none."""
    entries()
    assert _driver is not None
    return _driver.enter


def address_of(name: str) -> int:
    """Where a function of the driver lies, for native code: `run`, or `adjoint_enter` of `runtime.entry`."""
    entries()
    assert _driver is not None
    return _driver.module.address(name)


def get_num_threads() -> int:
    """Threads that share the work of one program, the caller's included.

    At first ADJOINT_NUM_THREADS or OMP_NUM_THREADS, or else the processors this process may use.

    >>> from adjoint.runtime import pool
    >>> pool.get_num_threads() >= 1
    True
    """
    global _num_threads
    if _num_threads == 0:
        _num_threads = _default_threads()
    return _num_threads


jit.threads = get_num_threads


MOST_THREADS = 1024


def set_num_threads(count: int) -> None:
    """Use `count` threads from the next program on. RuntimeError unless `count` is an int from 1 to MOST_THREADS."""
    global _num_threads
    if not isinstance(count, int):
        raise RuntimeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if not 1 <= count <= MOST_THREADS:
        raise RuntimeError(f"set_num_threads expects a positive integer up to {MOST_THREADS}, got {count}")
    with _lock:
        stop()
        _num_threads = int(count)
        if _driver is not None:
            _driver.control[_WANTED] = _num_threads > 1


def start() -> None:
    """Start the workers if the number of threads asks for any and none are there yet."""
    with _lock:
        count = get_num_threads() - 1
        if _workers or count < 1 or _ending:
            return
        entries()
        driver = _driver
        assert driver is not None
        try:
            for _ in range(count):
                worker = threading.Thread(
                    target=_work, args=(driver,), name=f"adjoint-worker-{len(_workers)}", daemon=True
                )
                worker.start()
                _workers.append(worker)
        except RuntimeError:
            pass  # the system has no more threads: use those we have
        driver.control[_SPIN_LIMIT] = driver.spins_for(_SPIN_SECONDS)
        driver.control[_WANTED] = 0
        driver.control[_WORKERS] = len(_workers)


def _work(driver: _Driver) -> None:
    """What a worker's thread runs."""
    memory = np.empty(OWN_BYTES + 4096, np.uint8)
    address = memory.__array_interface__["data"][0]
    driver.worker(address + -address % 4096)


def stop(timeout: float = float("inf")) -> None:
    """End the workers; a program that is running finishes first. `start` makes new ones.

    Gives up, leaving the workers as they are, when another thread's record runs for longer than
    `timeout` seconds.
    """
    with _lock:
        driver = _driver
        if driver is None or not _workers:
            return
        deadline = time.monotonic() + timeout
        while not driver.acquire():
            if time.monotonic() > deadline:
                return
            time.sleep(1e-4)
        try:
            driver.control[_WORKERS] = 0
            driver.control[_STOP] = 1
            driver.wake()
            for worker in _workers:
                worker.join()
            _workers.clear()
            driver.control[_STOP] = 0
            driver.control[_WANTED] = get_num_threads() > 1
        finally:
            driver.release()


# The control block: 32-bit words, grouped in pairs of cache lines by who writes them.
#   byte    0  i64 ticket: job number << 32 | blocks not yet given out
#   byte  128  i64 blocks of the job not yet done
#   byte  256  i32 number that changes to wake sleepers
#   byte  384  i32 number of workers asleep, or about to be
#   byte  512  i32 1 while some thread's record has the workers
#   byte  640  the job: kernel, index table, buffers, scalars, i64 blocks, i64 blocks that belong together
#   byte  768  i32 workers, stop, wanted, spin limit
_WORKERS, _STOP, _WANTED, _SPIN_LIMIT = 192, 193, 194, 195

_DRIVER = """
@control = internal global [1024 x i8] zeroinitializer, align 128

define ptr @control_block() {
  ret ptr @control
}

; Take blocks of the current job and run them, until none are left to take.
define internal void @share(ptr %own) {
entry:
  %left.at = getelementptr i8, ptr @control, i64 128
  %job = getelementptr i8, ptr @control, i64 640
  %job.index = getelementptr i8, ptr @control, i64 648
  %job.buffers = getelementptr i8, ptr @control, i64 656
  %job.scalars = getelementptr i8, ptr @control, i64 664
  %job.blocks = getelementptr i8, ptr @control, i64 672
  %job.group = getelementptr i8, ptr @control, i64 680
  %workers.at = getelementptr i8, ptr @control, i64 768
  %workers = load atomic i32, ptr %workers.at monotonic, align 4
  %threads = add i32 %workers, 1
  %shares = shl i32 %threads, 2
  br label %look
look:
  %ticket = load atomic i64, ptr @control acquire, align 8
  %open = trunc i64 %ticket to i32
  %none = icmp eq i32 %open, 0
  br i1 %none, label %out, label %take
take:
  ; A share of what is left, so that many small blocks cost few exchanges and the last ones balance.
  %some = udiv i32 %open, %shares
  ; Whole groups of blocks, if there is half of one. Who reads the group of another job does not get its ticket.
  %group64 = load atomic i64, ptr %job.group monotonic, align 8
  %group = trunc i64 %group64 to i32
  %half = lshr i32 %group, 1
  %nearly = add i32 %some, %half
  %groups = udiv i32 %nearly, %group
  %whole = mul i32 %groups, %group
  %grouped = icmp ne i32 %whole, 0
  %wanted = select i1 %grouped, i32 %whole, i32 %some
  %few = icmp eq i32 %wanted, 0
  %least = select i1 %few, i32 1, i32 %wanted
  %many = icmp ugt i32 %least, %open
  %count = select i1 %many, i32 %open, i32 %least
  %count64 = zext i32 %count to i64
  %lower = sub i64 %ticket, %count64
  %swap = cmpxchg ptr @control, i64 %ticket, i64 %lower acq_rel acquire
  %mine = extractvalue { i64, i1 } %swap, 1
  br i1 %mine, label %work, label %look
work:
  %kernel = load ptr, ptr %job
  %index = load ptr, ptr %job.index
  %buffers = load ptr, ptr %job.buffers
  %scalars = load ptr, ptr %job.scalars
  %blocks = load i64, ptr %job.blocks
  %open64 = zext i32 %open to i64
  %lo = sub i64 %blocks, %open64
  %hi = add i64 %lo, %count64
  call void %kernel(ptr %buffers, ptr %index, ptr %scalars, i64 %lo, i64 %hi, ptr %own)
  %before = atomicrmw sub ptr %left.at, i64 %count64 acq_rel
  br label %look
out:
  ret void
}

; Life of a worker thread, which brings its own memory.
define void @worker(ptr %own) {
entry:
  %wake.at = getelementptr i8, ptr @control, i64 256
  %asleep.at = getelementptr i8, ptr @control, i64 384
  %stop.at = getelementptr i8, ptr @control, i64 772
  %limit.at = getelementptr i8, ptr @control, i64 780
  br label %help
help:
  call void @share(ptr %own)
  br label %watch
watch:
  %spins = phi i32 [ 0, %help ], [ %more, %again ]
  %ticket = load atomic i64, ptr @control acquire, align 8
  %open = trunc i64 %ticket to i32
  %any = icmp ne i32 %open, 0
  br i1 %any, label %help, label %idle
idle:
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %ending = icmp ne i32 %stop, 0
  br i1 %ending, label %out, label %spin
spin:
  call void @pause()
  %more = add i32 %spins, 1
  %limit = load atomic i32, ptr %limit.at monotonic, align 4
  %tired = icmp uge i32 %more, %limit
  br i1 %tired, label %rest, label %again
again:
  br label %watch
rest:
  ; Say so first, look once more, then sleep: whoever publishes a job after the look sees a sleeper.
  %a0 = atomicrmw add ptr %asleep.at, i32 1 seq_cst
  %number = load atomic i32, ptr %wake.at seq_cst, align 4
  %ticket2 = load atomic i64, ptr @control seq_cst, align 8
  %open2 = trunc i64 %ticket2 to i32
  %stop2 = load atomic i32, ptr %stop.at seq_cst, align 4
  %either = or i32 %open2, %stop2
  %quiet = icmp eq i32 %either, 0
  br i1 %quiet, label %sleep, label %up
sleep:
  call void @park(ptr %wake.at, i32 %number)
  br label %up
up:
  %a1 = atomicrmw sub ptr %asleep.at, i32 1 seq_cst
  br label %help
out:
  ret void
}

; Wake up to %count sleeping workers.
define void @wake(i32 %count) {
entry:
  %wake.at = getelementptr i8, ptr @control, i64 256
  %asleep.at = getelementptr i8, ptr @control, i64 384
  %asleep = load atomic i32, ptr %asleep.at seq_cst, align 4
  %none = icmp eq i32 %asleep, 0
  br i1 %none, label %out, label %call
call:
  %n = atomicrmw add ptr %wake.at, i32 1 seq_cst
  call void @unpark(ptr %wake.at, i32 %count)
  br label %out
out:
  ret void
}

; 1 if the workers are now the caller's.
define i32 @acquire() {
  %owner.at = getelementptr i8, ptr @control, i64 512
  %swap = cmpxchg ptr %owner.at, i32 0, i32 1 acq_rel monotonic
  %mine = extractvalue { i32, i1 } %swap, 1
  %r = zext i1 %mine to i32
  ret i32 %r
}

define void @release() {
  %owner.at = getelementptr i8, ptr @control, i64 512
  store atomic i32 0, ptr %owner.at release, align 4
  ret void
}

; Run one record's blocks together with the workers, which the caller has acquired.
define internal void @together(ptr %kernel, ptr %index, ptr %buffers, ptr %scalars, i64 %blocks, i64 %group) {
entry:
  %left.at = getelementptr i8, ptr @control, i64 128
  %job = getelementptr i8, ptr @control, i64 640
  %job.index = getelementptr i8, ptr @control, i64 648
  %job.buffers = getelementptr i8, ptr @control, i64 656
  %job.scalars = getelementptr i8, ptr @control, i64 664
  %job.blocks = getelementptr i8, ptr @control, i64 672
  store ptr %kernel, ptr %job
  store ptr %index, ptr %job.index
  store ptr %buffers, ptr %job.buffers
  store ptr %scalars, ptr %job.scalars
  store i64 %blocks, ptr %job.blocks
  %job.group = getelementptr i8, ptr @control, i64 680
  store atomic i64 %group, ptr %job.group monotonic, align 8
  store atomic i64 %blocks, ptr %left.at monotonic, align 8
  %old = load atomic i64, ptr @control monotonic, align 8
  %next = add i64 %old, 4294967296
  %ticket = add i64 %next, %blocks
  store atomic i64 %ticket, ptr @control seq_cst, align 8
  %others = sub i64 %blocks, 1
  %others32 = trunc i64 %others to i32
  call void @wake(i32 %others32)
  call void @share(ptr null)
  br label %wait
wait:
  %spins = phi i32 [ 0, %entry ], [ %more, %patient ], [ %more, %nap ]
  %left = load atomic i64, ptr %left.at acquire, align 8
  %done = icmp eq i64 %left, 0
  br i1 %done, label %out, label %patient0
patient0:
  %more = add i32 %spins, 1
  %long = icmp ugt i32 %more, 4000
  br i1 %long, label %nap, label %patient
patient:
  call void @pause()
  br label %wait
nap:
  ; The worker may be waiting for this very processor.
  call void @give_way()
  br label %wait
out:
  ret void
}

; The program: every record in order. 1 if workers were wanted and there are none.
define i32 @run(ptr %records, i64 %count, ptr %buffers, ptr %scalars) {
entry:
  %workers.at = getelementptr i8, ptr @control, i64 768
  %wanted.at = getelementptr i8, ptr @control, i64 776
  %empty = icmp eq i64 %count, 0
  br i1 %empty, label %out, label %record
record:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %missed = phi i32 [ 0, %entry ], [ %missed.next, %next ]
  %at = getelementptr [4 x i64], ptr %records, i64 %i
  %index.at = getelementptr i8, ptr %at, i64 8
  %blocks.at = getelementptr i8, ptr %at, i64 16
  %group.at = getelementptr i8, ptr %at, i64 24
  %kernel = load ptr, ptr %at
  %index = load ptr, ptr %index.at
  %blocks = load i64, ptr %blocks.at
  %group = load i64, ptr %group.at
  %worth = icmp ne i64 %group, 0
  %several = icmp sgt i64 %blocks, 1
  %shared = and i1 %worth, %several
  br i1 %shared, label %ask, label %alone
ask:
  %workers = load atomic i32, ptr %workers.at acquire, align 4
  %some = icmp ne i32 %workers, 0
  br i1 %some, label %try, label %missing
try:
  %mine = call i32 @acquire()
  %got = icmp ne i32 %mine, 0
  br i1 %got, label %share, label %alone
missing:
  %wanted = load atomic i32, ptr %wanted.at monotonic, align 4
  br label %alone
share:
  call void @together(ptr %kernel, ptr %index, ptr %buffers, ptr %scalars, i64 %blocks, i64 %group)
  call void @release()
  br label %next
alone:
  %miss = phi i32 [ 0, %record ], [ 0, %try ], [ %wanted, %missing ]
  call void %kernel(ptr %buffers, ptr %index, ptr %scalars, i64 0, i64 %blocks, ptr null)
  br label %next
next:
  %miss.new = phi i32 [ 0, %share ], [ %miss, %alone ]
  %missed.next = or i32 %missed, %miss.new
  %i.next = add i64 %i, 1
  %end = icmp eq i64 %i.next, %count
  br i1 %end, label %out, label %record
out:
  %answer = phi i32 [ 0, %entry ], [ %missed.next, %next ]
  ret i32 %answer
}

; For measuring how long one turn of a spinning worker takes.
define void @spin(i32 %count) {
entry:
  br label %turn
turn:
  %i = phi i32 [ 0, %entry ], [ %j, %turn ]
  %ticket = load atomic i64, ptr @control acquire, align 8
  call void @pause()
  %j = add i32 %i, 1
  %end = icmp uge i32 %j, %count
  br i1 %end, label %out, label %turn
out:
  ret void
}
"""

_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @park(ptr %at, i32 %number) {{
  %r = call i64 (i64, ...) @syscall(i64 {futex}, ptr %at, i32 128, i32 %number, ptr null)
  ret void
}}
define internal void @unpark(ptr %at, i32 %count) {{
  %r = call i64 (i64, ...) @syscall(i64 {futex}, ptr %at, i32 129, i32 %count)
  ret void
}}
"""

_NAPS = """
declare i32 @usleep(i32)
define internal void @park(ptr %at, i32 %number) {
  %r = call i32 @usleep(i32 250)
  ret void
}
define internal void @unpark(ptr %at, i32 %count) {
  ret void
}
"""

_NAPS_WINDOWS = """
declare void @Sleep(i32)
define internal void @park(ptr %at, i32 %number) {
  call void @Sleep(i32 1)
  ret void
}
define internal void @unpark(ptr %at, i32 %count) {
  ret void
}
"""

_GIVE_WAY = """
declare i32 @sched_yield()
define internal void @give_way() {
  %r = call i32 @sched_yield()
  ret void
}
"""

_GIVE_WAY_WINDOWS = """
define internal void @give_way() {
  call void @Sleep(i32 0)
  ret void
}
"""

_PAUSE = {
    "x86_64": "declare void @llvm.x86.sse2.pause()\n"
    "define internal void @pause() {\n  call void @llvm.x86.sse2.pause()\n  ret void\n}\n",
    "aarch64": "declare void @llvm.aarch64.hint(i32)\n"
    "define internal void @pause() {\n  call void @llvm.aarch64.hint(i32 1)\n  ret void\n}\n",
    "other": "define internal void @pause() {\n  ret void\n}\n",
}

# Number of the futex system call.
_FUTEX_NUMBER = {"x86_64": 202, "aarch64": 98, "riscv64": 98}


def driver_source(triple: str) -> str:
    """The driver's LLVM IR for the machine and system that LLVM calls `triple`."""
    machine = triple.split("-")[0].replace("arm64", "aarch64")
    windows = "windows" in triple
    if "linux" in triple and machine in _FUTEX_NUMBER:
        rest = _FUTEX.format(futex=_FUTEX_NUMBER[machine])
    else:
        rest = _NAPS_WINDOWS if windows else _NAPS
    give_way = _GIVE_WAY_WINDOWS if windows else _GIVE_WAY
    return "\n".join([_DRIVER, entry.SOURCE, rest, give_way, _PAUSE.get(machine, _PAUSE["other"])])


class _Driver:
    """Python's view of the compiled driver: its functions, and its control block as int32."""

    def __init__(self, source: str) -> None:
        # Level 0 compiles in a third of the time, and a record costs 20 ns either way.
        self.module = jit.compile_module(source, level=0)
        address = self.module.address
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        arguments = (pointer, i64, pointer, pointer)
        self.keeping = ctypes.PYFUNCTYPE(i32, *arguments)(address("run"))
        self.releasing = ctypes.CFUNCTYPE(i32, *arguments)(address("run"))
        self.worker = ctypes.CFUNCTYPE(None, pointer)(address("worker"))
        self.acquire = ctypes.CFUNCTYPE(i32)(address("acquire"))
        self.release = ctypes.CFUNCTYPE(None)(address("release"))
        self._wake = ctypes.CFUNCTYPE(None, i32)(address("wake"))
        self._spin = ctypes.CFUNCTYPE(None, i32)(address("spin"))
        self.enter = entry.connect(address)
        block = ctypes.CFUNCTYPE(pointer)(address("control_block"))()
        self.control = np.frombuffer(memoryview((i32 * 256).from_address(block)), np.int32)

    def wake(self) -> None:
        """Wake every sleeping worker."""
        self._wake(2**31 - 1)

    def spins_for(self, seconds: float) -> int:
        """How many turns a spinning worker makes in this time."""
        turns, best = 200, float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            self._spin(turns)
            best = min(best, time.perf_counter() - begun)
        return min(max(int(seconds / best * turns), 20), 100_000)


_driver: _Driver | None = None
_workers: list[threading.Thread] = []
_lock = threading.RLock()
_num_threads = 0  # 0: nobody has asked yet
_ending = False  # the interpreter is on its way out


def _load_driver() -> None:
    global _driver
    with _lock:
        if _driver is None:
            driver = _Driver(driver_source(jit.target().triple))
            driver.control[_WANTED] = get_num_threads() > 1
            _driver = driver


def _default_threads() -> int:
    if config.get("ADJOINT_NUM_THREADS"):
        return config.get("ADJOINT_NUM_THREADS")
    # A flag of other systems, honoured as they do; it may list a number for each level of nesting.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _after_fork() -> None:
    # A child has none of its parent's workers, and whatever they were doing is nobody's now.
    global _lock
    _lock = threading.RLock()
    _workers.clear()
    if _driver is not None:
        _driver.control[:] = 0
        _driver.control[_WANTED] = get_num_threads() > 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _at_exit() -> None:
    global _ending
    _ending = True
    stop(timeout=1.0)


atexit.register(_at_exit)
