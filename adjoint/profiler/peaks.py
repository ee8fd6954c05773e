"""What this machine can do at best: multiply-adds and bytes a second, measured by small kernels of its own.

The kernels are LLVM IR like all others, run by the same driver and the same workers. Each rate is the best of several
short passes, since everything that disturbs a measurement makes it slower. `machine()` measures once per process and
number of threads, in less than 0.3 s on an idle machine. Read `Machine`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adjoint.runtime import jit, pool

SIZES = (1 << 15, 1 << 18, 1 << 21, 1 << 26)  # bytes: such that they fit the first, the second, the last cache, or none
_FLOP_SECONDS = 0.008  # for each rate of arithmetic
_BYTE_SECONDS = 0.004  # for each rate of memory
_PASS = 0.0008  # seconds of one pass, if one is not longer by itself
_TRIES = 3  # passes of the same length, at least
_ACCUMULATORS = 12  # independent sums: two multiply-adds a cycle of four or five cycles each
_KINDS = {"float32": ("float", 4), "float64": ("double", 8)}  # LLVM's name and bytes of an element
_UNROLL = 8  # vectors read in one turn


@dataclass(frozen=True)
class Machine:
    """Best rates with one thread and with `threads`.

    flops: (dtype, whether all threads) -> FLOP/s, a multiply-add being two.  bandwidth: whether all threads -> bytes/s
    for working sets of each of `SIZES`, the better of reading, and of copying (where read and written bytes count).
    """

    threads: int
    flops: dict[tuple[str, bool], float]
    bandwidth: dict[bool, tuple[float, ...]]

    def peak(self, double: bool, together: bool) -> float:
        """FLOP/s in float64 or float32, of all threads or one."""
        return self.flops["float64" if double else "float32", together]

    def bytes_per_second(self, nbytes: float, together: bool) -> float:
        """The rate for a working set of so many bytes; between two sizes, between their rates (in logarithms)."""
        rates = self.bandwidth[together]
        x = math.log(max(nbytes, 1.0))
        return math.exp(np.interp(x, [math.log(s) for s in SIZES], [math.log(r) for r in rates]))

    def memory(self, together: bool = True) -> float:
        """Bytes a second of main memory."""
        return self.bandwidth[together][-1]


_known: dict[int, Machine] = {}


def machine() -> Machine:
    """The rates of this machine, with the present number of threads.

    >>> from adjoint.profiler import machine
    >>> found = machine()
    >>> found.peak(double=False, together=False) > 1e8 and found.memory() > 1e8
    True
    """
    threads = pool.get_num_threads()
    if threads not in _known:
        _known[threads] = _measured(threads) if jit.available() else _by_numpy(threads)
    return _known[threads]


def at_peak(kind: str, amount: float) -> Callable[[], None]:
    """A function that does about `amount` of what `machine()` measures and nothing else, on all threads.

    kind: "float32" or "float64" for floating-point operations in registers, "read" or "copy" for bytes of main memory
    (of a copy, read and written ones, written past the caches). Run in turns with a program, it says how near that comes to
    the machine as it is at that time. `amount` should keep the machine busy for a millisecond or more. RuntimeError where no
    machine code can be made, ValueError for another kind.

    >>> from adjoint.profiler.peaks import at_peak
    >>> at_peak("float32", 1e8)()
    """
    if kind not in (*_KINDS, "read", "copy"):
        raise ValueError(f'at_peak() expects "float32", "float64", "read" or "copy", but got {kind!r}')
    if not jit.available():
        raise RuntimeError("at_peak() runs machine code, which needs llvmlite: pip install llvmlite")
    width = jit.target().vector_bytes
    blocks = 32 * pool.get_num_threads()  # so many that a thread which is held up leaves its part to the others
    text: tuple[str, str, Sequence[str]]
    sizes = [4096, 4096]
    if kind in _KINDS:
        element, size = _KINDS[kind]
        share = 0
        turns = max(1, round(amount / blocks / (2 * _ACCUMULATORS * (width // size))))
        text = ("kernel", *_multiply_add(element, width // size))
    else:
        sizes[0] = int(amount) // (2 if kind == "copy" else 1)
        share, turns = -(-sizes[0] // blocks // 2048) * 2048, 1  # whole turns of the unrolled loop: rather too much
        sizes = [share * blocks, share * blocks if kind == "copy" else 4096]
        text = ("kernel", _read(width // 4), ()) if kind == "read" else ("kernel", _copy(width // 4, True), ["!0 = !{i32 1}"])
    arrays = [np.ones((size + 4096) // 4, np.float32) for size in sizes]
    buffers, scalars = np.array([_aligned(a) for a in arrays], np.int64), np.array([share, turns], np.int64)
    table = pool.RecordTable([(jit.compile_kernels([text])[0], np.array([0, 1], np.int32), blocks, True)])

    def run(arrays: list[np.ndarray] = arrays) -> None:
        pool.run(table.address, 1, buffers.ctypes.data, scalars.ctypes.data)

    return run


def _measured(threads: int) -> Machine:
    pool.entries()  # the driver is there, and so are the workers, before anything is timed
    pool.start()
    width = jit.target().vector_bytes
    texts: list[tuple[str, str, Sequence[str]]] = [("kernel", *_multiply_add(kind, width // size)) for kind, size in _KINDS.values()]
    texts += [("kernel", _read(width // 4), ()), ("kernel", _copy(width // 4), ()), ("kernel", _copy(width // 4, True), ["!0 = !{i32 1}"])]
    *arithmetic, read, copy, stream = jit.compile_kernels(texts)
    source, target = (np.full((SIZES[-1] // 2 + 4096) // 4, 1.0, np.float32) for _ in range(2))
    places = [_aligned(a) for a in (source, target)]
    several = {False: 1, True: threads}
    flops: dict[tuple[str, bool], float] = {}
    bandwidth: dict[bool, tuple[float, ...]] = {}
    for together, count in several.items():
        if together and count == 1:
            flops |= {(kind, True): flops[kind, False] for kind in _KINDS}
            bandwidth[True] = bandwidth[False]
            break
        for kind, kernel in zip(_KINDS, arithmetic, strict=True):
            of_turn = 2 * _ACCUMULATORS * (width // _KINDS[kind][1])
            rate = _best(kernel, places, count, 0, of_turn, _FLOP_SECONDS)
            flops[kind, together] = max(rate, flops.get((kind, False), 0.0))  # where others keep the processors busy
        rates = []
        for size in SIZES:
            # a working set of `size` bytes: read from one array, or half read from one and half written to another
            copying = stream if size == SIZES[-1] else copy
            half = _best(copying, places, count, size // 2, size, _BYTE_SECONDS)
            rates.append(max(half, _best(read, places, count, size // 2, size // 2, _BYTE_SECONDS)))
        bandwidth[together] = tuple(map(max, rates, bandwidth.get(False, rates)))
    return Machine(threads, flops, bandwidth)


def _best(kernel: jit.Code, places: list[int], count: int, nbytes: int, work: int, seconds: float) -> float:
    """The best rate of a kernel in which `count` blocks together do `work` a turn on arrays of `nbytes`."""
    share = nbytes // count // 2048 * 2048  # whole turns of the unrolled loop for any width
    buffers = np.array(places, np.int64)
    table = pool.RecordTable([(kernel, np.array([0, 1], np.int32), count, count > 1)])
    if share:
        work = work * share * count // nbytes
    else:
        work *= count  # arithmetic: each block does all of it
    turns, tries, best, fastest, end = 1, 0, 0.0, math.inf, time.perf_counter() + seconds
    while True:
        scalars = np.array([share, turns], np.int64)
        began = time.perf_counter()
        pool.run(table.address, 1, buffers.ctypes.data, scalars.ctypes.data)
        now = time.perf_counter()
        best = max(best, turns * work / (now - began))
        fastest, tries = min(fastest, now - began), tries + 1
        if fastest < _PASS / 2:  # too short to be measured well
            turns, tries, fastest = turns * max(2, int(_PASS / max(fastest, 1e-7))), 0, math.inf
        elif now > end and tries >= _TRIES:  # the first may have been disturbed
            return best


def _aligned(array: np.ndarray) -> int:
    return (array.ctypes.data + 4095) & -4096


def _by_numpy(threads: int) -> Machine:
    """Where no machine code can be made: what NumPy reaches, which is then the roof."""

    def best(work: float, run: Callable[..., object], *arrays: np.ndarray) -> float:
        rates = []
        for _ in range(4):
            began = time.perf_counter()
            run(*arrays)
            rates.append(work / (time.perf_counter() - began))
        return max(rates)

    flops: dict[tuple[str, bool], float] = {}
    for kind in ("float32", "float64"):
        a = np.ones((384, 384), kind)
        flops[kind, False] = flops[kind, True] = best(2 * 384**3, np.matmul, a, a)
    rates = []
    for size in SIZES:
        rates.append(best(size, np.copyto, np.empty(size // 8, np.float32), np.ones(size // 8, np.float32)))
    return Machine(threads, flops, {False: tuple(rates), True: tuple(rates)})


# --- kernels: scalars are bytes of one block's part, and turns over it --------------------------------------------------

_FRAME = """define void @kernel(ptr noalias %bufs, ptr noalias %idx, ptr noalias %scalars, i64 %lo, i64 %hi, ptr %own) {{
entry:
  %a = load ptr, ptr %bufs
  %b.at = getelementptr ptr, ptr %bufs, i64 1
  %b = load ptr, ptr %b.at
  %share = load i64, ptr %scalars
  %turns.at = getelementptr i64, ptr %scalars, i64 1
  %turns = load i64, ptr %turns.at
{before}  br label %block
block:
  %k = phi i64 [ %lo, %entry ], [ %k.next, %block.end ]
  %first = mul i64 %k, %share
  br label %turn
turn:
  %t = phi i64 [ 0, %block ], [ %t.next, %turn.end ]
{sums}{body}turn.end:
  %t.next = add i64 %t, 1
  %t.more = icmp ult i64 %t.next, %turns
  br i1 %t.more, label %turn, label %block.end
block.end:
{after}  %k.next = add i64 %k, 1
  %k.more = icmp ult i64 %k.next, %hi
  br i1 %k.more, label %block, label %out
out:
  ret void
}}
"""


def _multiply_add(kind: str, lanes: int) -> tuple[str, list[str]]:
    """A turn is one multiply-add to each accumulator."""
    vector = f"<{lanes} x {kind}>"
    function = f"{vector} @llvm.fmuladd.v{lanes}f{32 if kind == 'float' else 64}({vector}, {vector}, {vector})"
    call = function.split("(")[0]
    n = range(_ACCUMULATORS)
    sums = "".join(f"  %s{j} = phi {vector} [ %one, %block ], [ %n{j}, %turn.end ]\n" for j in n)
    body = "".join(f"  %n{j} = call {call}({vector} %s{j}, {vector} %half, {vector} %one)\n" for j in n)
    body += "  br label %turn.end\n"
    before = f"  %one = load {vector}, ptr %a, align 4\n  %half = fmul {vector} %one, splat ({kind} 0.5)\n"
    text = _FRAME.format(before=before, sums=sums, body=body, after=_stored(vector, _ACCUMULATORS, kind, "%n"))
    return text, [f"declare {function}"]


def _stored(vector: str, count: int, kind: str, name: str) -> str:
    """Put the sum of the accumulators into the second array, so that they are needed; nobody reads it."""
    lines = [f"  %z0 = fadd {vector} {name}0, {name}1\n"]
    lines += [f"  %z{j - 1} = fadd {vector} %z{j - 2}, {name}{j}\n" for j in range(2, count)]
    return "".join(lines) + f"  store {vector} %z{count - 2}, ptr %b, align 4\n"


def _loop(lines: str) -> str:
    """Over a block's part of the arrays, from %first, %share bytes."""
    return (
        "  br label %part\npart:\n  %i = phi i64 [ 0, %turn ], [ %i.next, %part ]\n{inner}"
        "  %at = add i64 %first, %i\n" + lines + "  %i.next = add i64 %i, {step}\n"
        "  %i.more = icmp ult i64 %i.next, %share\n  br i1 %i.more, label %part, label %part.end\n"
        "part.end:\n  br label %turn.end\n"
    )


def _read(lanes: int) -> str:
    """A turn adds up a block's part of the first array."""
    vector, n = f"<{lanes} x float>", range(_UNROLL)
    lines = "".join(
        f"  %p{j}.at = add i64 %at, {4 * lanes * j}\n  %p{j} = getelementptr i8, ptr %a, i64 %p{j}.at\n"
        f"  %v{j} = load {vector}, ptr %p{j}, align 4\n  %n{j} = fadd {vector} %q{j}, %v{j}\n"
        for j in n
    )
    sums = "".join(f"  %s{j} = phi {vector} [ zeroinitializer, %block ], [ %n{j}, %turn.end ]\n" for j in n)
    inner = "".join(f"  %q{j} = phi {vector} [ %s{j}, %turn ], [ %n{j}, %part ]\n" for j in n)
    body = _loop(lines).replace("{inner}", inner).replace("{step}", str(4 * lanes * _UNROLL))
    return _FRAME.format(before="", sums=sums, body=body, after=_stored(vector, _UNROLL, "float", "%n"))


def _copy(lanes: int, streams: bool = False) -> str:
    """A turn copies a block's part of the first array to the second, past the caches if it `streams`."""
    past = f"{4 * lanes}, !nontemporal !0" if streams else "4"
    vector, n = f"<{lanes} x float>", range(_UNROLL)
    lines = "".join(
        f"  %p{j}.at = add i64 %at, {4 * lanes * j}\n  %p{j} = getelementptr i8, ptr %a, i64 %p{j}.at\n"
        f"  %w{j} = getelementptr i8, ptr %b, i64 %p{j}.at\n"
        f"  %v{j} = load {vector}, ptr %p{j}, align 4\n  store {vector} %v{j}, ptr %w{j}, align {past}\n"
        for j in n
    )
    body = _loop(lines).replace("{inner}", "").replace("{step}", str(4 * lanes * _UNROLL))
    return _FRAME.format(before="", sums="", body=body, after="")
