"""The native driver: order of records, every block once, any number of threads, fork, exit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from adjoint.runtime import jit, pool

pytestmark = [pytest.mark.skipif(not jit.available(), reason="needs llvmlite"), pytest.mark.any_mode]

# For each block b: data[b] = data[b] * scalar + b, with a loop that makes it last a while.
STEP = """define void @step(ptr %bufs, ptr %idx, ptr %scalars, i64 %lo, i64 %hi, ptr %own) {
entry:
  %n = load i32, ptr %idx
  %cell = getelementptr ptr, ptr %bufs, i32 %n
  %data = load ptr, ptr %cell
  %s.at = getelementptr i32, ptr %idx, i64 1
  %s = load i32, ptr %s.at
  %w.at = getelementptr double, ptr %scalars, i32 %s
  %w = load double, ptr %w.at
  br label %block
block:
  %b = phi i64 [ %lo, %entry ], [ %b1, %stored ]
  %at = getelementptr double, ptr %data, i64 %b
  %x = load double, ptr %at
  %bf = sitofp i64 %b to double
  br label %turn
turn:
  %i = phi i64 [ 0, %block ], [ %i1, %turn ]
  %v = phi double [ %x, %block ], [ %v1, %turn ]
  %v0 = fadd double %v, 1.0
  %v1 = fsub double %v0, 1.0
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, 20
  br i1 %more, label %turn, label %stored
stored:
  %m = fmul double %v1, %w
  %r = fadd double %m, %bf
  store double %r, ptr %at
  %b1 = add i64 %b, 1
  %end = icmp eq i64 %b1, %hi
  br i1 %end, label %out, label %block
out:
  ret void
}"""


class Program:
    """`length` records that each update all blocks of `data`."""

    def __init__(self, blocks: int, length: int) -> None:
        (kernel,) = jit.compile_kernels([("step", STEP, [])])
        self.data = np.zeros(blocks)
        self.scalars = np.array([3.0, 2.0, 0.5])
        self.buffers = np.array([0, 0, self.data.ctypes.data])
        index = [np.array([2, 1 + i % 2], np.int32) for i in range(length)]
        self.table = pool.RecordTable([(kernel, i, blocks, True) for i in index])
        self.length = length

    def arguments(self) -> tuple[int, int, int, int]:
        table = self.table
        return table.address, table.count, self.buffers.ctypes.data, self.scalars.ctypes.data

    def expected(self) -> np.ndarray:
        x = np.zeros(len(self.data))
        for i in range(self.length):
            x = x * self.scalars[1 + i % 2] + np.arange(len(x))
        return x

    def check(self) -> None:
        self.data[:] = 0
        pool.run(*self.arguments())
        assert np.array_equal(self.data, self.expected())


@pytest.fixture
def threads():
    before = pool.get_num_threads()
    yield pool.set_num_threads
    pool.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("blocks", [1, 2, 3, 64, 1001])
def test_same_result_for_any_number_of_threads(threads, count: int, blocks: int) -> None:
    threads(count)
    program = Program(blocks, 6)
    for _ in range(30):
        program.check()


TAKEN = """define void @taken(ptr noalias %bufs, ptr noalias %idx, ptr noalias %scalars, i64 %lo, i64 %hi, ptr %own) {
entry:
  %firsts = load ptr, ptr %bufs
  %counts.at = getelementptr ptr, ptr %bufs, i64 1
  %counts = load ptr, ptr %counts.at
  br label %block
block:
  %b = phi i64 [ %lo, %entry ], [ %b1, %block ]
  %first = getelementptr i64, ptr %firsts, i64 %b
  store i64 %lo, ptr %first
  %count = getelementptr i64, ptr %counts, i64 %b
  %old = atomicrmw add ptr %count, i64 1 monotonic
  %b1 = add i64 %b, 1
  %end = icmp eq i64 %b1, %hi
  br i1 %end, label %out, label %block
out:
  ret void
}"""


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("blocks", "group"), [(64, 4), (64, 1), (63, 4), (7, 16), (2, 2), (1000, 7), (96, 96)])
def test_blocks_that_belong_together_are_taken_together(threads, count: int, blocks: int, group: int) -> None:
    threads(count)
    pool.start()
    (kernel,) = jit.compile_kernels([("taken", TAKEN, [])])
    table = pool.RecordTable([(kernel, np.zeros(1, np.int32), blocks, group)])
    firsts, counts = np.full(blocks, -1), np.zeros(blocks, np.int64)
    buffers = np.array([firsts.ctypes.data, counts.ctypes.data])
    for turn in range(1, 20):
        pool.run(table.address, 1, buffers.ctypes.data, 0)
        assert (counts == turn).all()
        begins = np.flatnonzero(firsts == np.arange(blocks))
        sizes = np.diff([*begins, blocks])
        parted = begins[begins % group != 0]
        if count > 1:  # what is left in the end is given out block by block
            left = max(4 * count * group, group)
            assert (parted >= blocks - left).all() and (sizes[blocks - begins <= left // 2] <= group).all()


def test_workers_start_with_the_first_shared_record(threads) -> None:
    threads(3)
    alone = Program(1, 4)
    assert alone.table.parallel is False
    alone.check()
    assert not pool._workers
    Program(8, 1).check()
    assert len(pool._workers) == 2 and all(w.daemon and w.is_alive() for w in pool._workers)


def test_both_entries_report_that_workers_are_wanted(threads) -> None:
    threads(2)
    program = Program(8, 3)
    for entry in pool.entries():
        pool.stop()
        program.data[:] = 0
        assert entry(*program.arguments()) == 1
        assert np.array_equal(program.data, program.expected())
        pool.start()
        assert entry(*program.arguments()) == 0
    threads(1)
    assert pool.entries()[0](*program.arguments()) == 0


def test_an_empty_program_does_nothing() -> None:
    assert pool.entries()[0](0, 0, 0, 0) == 0
    assert pool.RecordTable([]).count == 0


def test_parked_workers_wake_up(threads) -> None:
    threads(2)
    program = Program(64, 2)
    program.check()
    asleep = pool._driver.control[384 // 4 :]
    for _ in range(5):
        for _ in range(30_000):  # a busy machine may not let the worker run for seconds
            if asleep[0] == 1:
                break
            threading.Event().wait(0.001)
        assert asleep[0] == 1
        program.check()


def test_several_threads_run_programs_at_once(threads) -> None:
    threads(3)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            program = Program(100, 5)
            for _ in range(100):
                program.check()
        except BaseException as error:
            errors.append(error)

    users = [threading.Thread(target=work) for _ in range(4)]
    for user in users:
        user.start()
    for number in (2, 1, 4, 3):  # and the number of threads changes under their feet
        pool.set_num_threads(number)
    for user in users:
        user.join()
    assert not errors


def test_number_of_threads_is_checked() -> None:
    with pytest.raises(RuntimeError, match="positive"):
        pool.set_num_threads(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_its_own_workers(threads) -> None:
    threads(2)
    program = Program(50, 3)
    program.check()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert not pool._workers
            program.check()
            program.check()
            status = 0 if len(pool._workers) == 1 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    program.check()


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ADJOINT_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
    ],
)
def test_number_of_threads_from_the_environment(environment: dict[str, str], expected) -> None:
    for name in ("ADJOINT_NUM_THREADS", "OMP_NUM_THREADS"):
        environment.setdefault(name, "")
    environment = {k: v or "0" for k, v in environment.items()}
    done = run_python(
        "from adjoint.runtime import pool; print(pool.get_num_threads())", **environment
    )
    assert done.stdout.strip() == str(expected), done.stderr


def test_a_process_with_busy_and_parked_workers_ends_cleanly() -> None:
    # The last statement is reached while a daemon thread keeps the workers busy.
    code = f"""
import threading, time, numpy as np
from adjoint.runtime import jit, pool
pool.set_num_threads(4)
(kernel,) = jit.compile_kernels([("step", {STEP!r}, [])])
data, scalars = np.zeros(64), np.ones(1)
buffers = np.array([data.ctypes.data])
table = pool.RecordTable([(kernel, np.zeros(2, np.int32), 64, True)] * 50)

def forever():
    while True:
        pool.run(table.address, table.count, buffers.ctypes.data, scalars.ctypes.data)

threading.Thread(target=forever, daemon=True).start()
while not data.any() or len(pool._workers) < 3:
    time.sleep(0.01)
"""
    done = run_python(code)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize(
    "system", ["x86_64-apple-darwin", "arm64-apple-darwin", "x86_64-pc-windows"]
)
def test_driver_has_a_form_for_systems_without_futex(system: str) -> None:
    source = pool.driver_source(system)
    assert "@syscall" not in source and "@park(" in source


@pytest.mark.skipif(sys.platform == "win32", reason="needs usleep")
def test_workers_that_nap_instead_of_sleeping(threads, monkeypatch) -> None:
    # The portable form, run here: the same driver as on a system without futex.
    machine = jit.target().triple.split("-")[0]
    napping = pool._Driver(pool.driver_source(f"{machine}-apple-darwin"))
    pool.stop()
    monkeypatch.setattr(pool, "_driver", napping)
    threads(3)
    program = Program(40, 4)
    for _ in range(20):
        program.check()
        threading.Event().wait(0.001)
    assert len(pool._workers) == 2
    pool.stop()
