"""LLVM IR in, machine code addresses out.

Owns the process's one LLVM engine, the description of the machine it compiles for (`Target`), and
the table that makes identical kernels compile once; `disk_cache` keeps their code for later
processes. llvmlite is imported by the first call that needs it, never by importing this module.
Read `compile_kernels` first: it is what programs use; `compile_module` below it takes a whole module
of IR (the driver of the worker pool).

How a module is compiled was chosen by measurement (llvmlite 0.50, one AVX-512 core; milliseconds
for the register-blocked inner kernel of a matrix product, a fused pointwise kernel of 60
operations on 16 lanes, and straight-line scalar code of 3,000 operations):

    passes, code generation, loader                   product   pointwise   straight line
    O3,  level 2, one MCJIT engine for each module       14.9        6.8           > 50
    O1,  level 1, object code into one engine             7.5        5.3          42.1
    instcombine+simplifycfg, level 1, same                4.6        3.6          34.2
    none, level 1, same                                   4.2        3.3          32.6
    none, level 0, same                                   1.4        1.6           4.8

The code of all rows runs at the same speed, but for level 0: there the product is 7 times and the
pointwise kernel 1.1 times slower, and straight-line code as fast as ever (one basic block has no
loop from which anything could be moved). The IR that reaches this module is already vectorised and
free of duplicates, so no IR pass pays for itself; what matters (strength reduction, hoisting of
constants, scheduling, register allocation) is part of code generation. Hence: no IR passes, level
1, and level 0 for long functions without a branch. An empty module costs 0.75 ms, which is why the
kernels of a program share one, or a few that several threads compile.

Object code is loaded by LLJIT with JITLink: MCJIT loads an object 0.05 ms faster, but may put code
and constants further apart than the small code model can reach.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from sys import getrefcount
from typing import Any

from adjoint import config
from adjoint._version import __version__
from adjoint.hardware import has_pairs, has_tiles
from adjoint.runtime import disk_cache, half_calls, llvm_lock

IMPORTED = time.time()  # sources that have changed since are not those that run

__all__ = [
    "Code",
    "CodegenError",
    "KernelPlace",
    "Module",
    "Target",
    "available",
    "compile_kernels",
    "compile_module",
    "counters",
    "load_kernels",
    "settings",
    "target",
]


class CodegenError(RuntimeError):
    """LLVM refused IR that this package generated. Always a defect of the package."""


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that code is generated for.

    cpu, features: as LLVM names them.  vector_bytes: width of the registers that generated code
    uses (64, 32 or 16).  triple: LLVM's name of architecture, vendor, system and ABI.  halves: whether
    there are instructions that convert float16.  tiles, pairs: whether there are tile registers (AMX), and an
    instruction that multiplies pairs of bfloat16 (AVX512_BF16).
    """

    cpu: str
    features: str
    vector_bytes: int
    triple: str
    halves: bool = True
    tiles: bool = False
    pairs: bool = False

    def lanes(self, itemsize: int) -> int:
        """How many elements of `itemsize` bytes fill one register."""
        return self.vector_bytes // itemsize


@dataclass(slots=True)
class Counters:
    """What this module has done since the process started.

    kernels_compiled: distinct kernels turned into code.  kernels_loaded: distinct kernels whose code
    was on disk.  kernels_reused: requests for one that was in memory.  compile_seconds: time spent
    to get code of either kind.  code_bytes: size of all object files.
    modules: how many were loaded.  kernels_evicted: forgotten, to keep their number bounded.
    """

    kernels_compiled: int = 0
    kernels_loaded: int = 0
    kernels_reused: int = 0
    compile_seconds: float = 0.0
    code_bytes: int = 0
    modules: int = 0
    kernels_evicted: int = 0


class Module:
    """Loaded code. The addresses stay valid while this object lives.

    compiled: whether this process compiled it; otherwise it was on disk.  key: of it there.
    """

    __slots__ = ("_addresses", "_tracker", "compiled", "key", "__weakref__")

    def __init__(self, addresses: dict[str, int], tracker: object, compiled: bool, key: bytes) -> None:
        self._addresses = addresses
        self._tracker = tracker
        self.compiled, self.key = compiled, key

    def address(self, name: str) -> int:
        """Entry point of the function (or address of the global) `name`; KeyError if absent."""
        return self._addresses[name]


KernelPlace = tuple[bytes, bytes, str]  # digest of a kernel's text, key of its module on disk, its name there


class Code(int):
    """The address of a kernel. Its code stays in memory as long as this number, not a copy of it, is held."""

    module: Module
    place: KernelPlace

    @staticmethod
    def of(module: Module, digest: bytes, name: str) -> Code:
        """The kernel called `name` in a module, entered among those that are known."""
        code = _kernels[digest] = Code(module.address(name))
        code.module, code.place = module, (digest, module.key, name)
        return code


counters = Counters()

_lock = threading.RLock()
_llvm: Any = None  # llvmlite.binding once loaded; False when it cannot be used
_engine: _Engine | None = None
_kernels: dict[bytes, Code] = {}  # digest of a kernel's text -> its code; what was asked for last stands last
_modules: weakref.WeakValueDictionary[bytes, Module] = weakref.WeakValueDictionary()  # loaded ones, by their keys on disk
_LIBRARIES = 256  # that one loader holds: what LLVM notes of each it never gives back, so loaders are replaced

# Functions without a branch and longer than this are compiled at level 0 (see the table above);
# shorter ones compile fast either way and keep the better code.
_STRAIGHT_LINE = 400
_PART, _MOST_PARTS = 150_000, 8  # characters of IR that are worth a module of their own, some 80 ms; modules at most
LOOPS_LEVEL = 1  # effort for all others; the fuzzer, which runs code once or twice, takes 0

_RELOCATION, _CODE_MODEL = "pic", "small"

# A narrower instruction set than the machine's, by the value of ADJOINT_TARGET.
_FORCED = {
    "avx2": ("x86-64-v3", 32),
    "sse2": ("x86-64", 16),
}


def threads() -> int:
    """How many compile at once; `pool`, which knows better, puts its own in place."""
    return 1


def available() -> bool:
    """Whether native code can be generated here (loads llvmlite on the first call)."""
    return bool(_load_llvm())


def target() -> Target:
    """The machine that `compile_kernels` generates for.

    ADJOINT_TARGET=native (default), avx2 or sse2 narrows the instruction set; ValueError for any
    other value or for one this machine does not have. RuntimeError when llvmlite is missing.
    """
    return _get_engine().target


def compile_kernels(kernels: Sequence[tuple[str, str, Iterable[str]]]) -> list[Code]:
    """Machine code for each (name, text of one `define`, `declare` lines), in order.

    Equal kernels, that is equal texts but for the function's own name, share one address, in this
    call and as long as they are remembered (ADJOINT_MAX_KERNELS) or held. All new ones are compiled in
    one module, or, if they are long, in several beside each other.
    """
    texts, digests = [], []
    for name, text, declarations in kernels:
        text = text.replace(f"@{name}(", "@kernel(", 1)
        declared = tuple(declarations)
        texts.append((text, declared))
        digests.append(_digest(text, *declared))
    with _lock:
        new = {d: t for d, t in zip(digests, texts, strict=True) if d not in _kernels}
        counters.kernels_reused += len(kernels) - len(new)
        if new:
            started = time.perf_counter()
            straight = {d: t for d, t in new.items() if _is_straight_line(*t)}
            loops = {d: t for d, t in new.items() if d not in straight}
            for level, group in ((0, straight), (LOOPS_LEVEL, loops)):
                if group:
                    _compile_group(group, level)
            counters.compile_seconds += time.perf_counter() - started
        found = [_kernels[d] for d in digests]
        _tidy([code.place for code in found])
        return found


def load_kernels(places: Sequence[KernelPlace]) -> list[Code] | None:
    """The code of kernels that this or an earlier process has compiled; None where one of them is not to be found."""
    with _lock:
        engine, found = _get_engine(), []
        for digest, key, name in places:
            code = _kernels.get(digest)
            if code is None:
                module = _modules.get(key) or _from_disk(engine, key)
                if module is None:
                    return None
                code = Code.of(module, digest, name)
                counters.kernels_loaded += 1
            else:
                counters.kernels_reused += 1
            found.append(code)
        _tidy(places)
        return found


def settings() -> tuple:
    """Everything besides its IR that code depends on."""
    return (*_get_engine().settings, LOOPS_LEVEL)


def _tidy(places: Iterable[KernelPlace]) -> None:
    """Note that kernels are in use, and let go of others if there are too many."""
    for digest, _, _ in places:
        _kernels[digest] = _kernels.pop(digest)
    if len(_kernels) > config.get("ADJOINT_MAX_KERNELS"):
        _forget_kernels(config.get("ADJOINT_MAX_KERNELS") * 3 // 4)


def _forget_kernels(limit: int) -> None:
    """Let go of the kernels asked for longest ago: first of those that no program uses, whose code can be unloaded."""
    idle = [d for d, code in _kernels.items() if getrefcount(code) <= _IDLE]
    rest = _kernels.keys() - idle
    for digest in [*idle, *(d for d in _kernels if d in rest)][: max(0, len(_kernels) - limit)]:
        del _kernels[digest]
        counters.kernels_evicted += 1


def compile_module(ir_text: str, level: int = 1) -> Module:
    """A whole module of IR compiled and loaded. `level`: effort of code generation, 0 to 3.

    The result answers `.address(name)` for every function it defines. CodegenError with LLVM's
    message when the IR is not well formed.
    """
    return _compile_modules([ir_text], level)[0]


def _compile_modules(texts: list[str], level: int) -> list[Module]:
    """Modules that know nothing of each other; those that are not on disk are compiled by several threads."""
    with _lock:
        engine = _get_engine()
        keys = [disk_cache.key_of(text, level, *engine.settings) for text in texts]
        modules = {key: _from_disk(engine, key) for key in keys}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if modules[key] is None}
        compiled = _object_codes(engine, [*missing.values()], level)
        for key, (names, code) in zip(missing, compiled, strict=True):
            counters.code_bytes += len(code)
            modules[key] = engine.load(names, code, key, compiled=True)
            disk_cache.store(key, names, code)
        return [modules[key] for key in keys]  # type: ignore[misc]


class _Engine:
    """The LLVM engine of this process: target, code generators by level, loader."""

    def __init__(self) -> None:
        llvm = _load_llvm()
        if not llvm:
            raise RuntimeError("native code needs llvmlite: pip install llvmlite")
        self.llvm = llvm
        self.target, self.new_machine = _describe_machine(llvm)
        # Everything besides the IR that code depends on. The flags act through the IR today; they
        # are named so that one which does not can never bring back the wrong code.
        self.settings = (
            self.target,
            _RELOCATION,
            _CODE_MODEL,
            llvm.llvm_version_info,
            importlib.import_module("llvmlite").__version__,
            __version__,
            config.code_key(),
        )
        self._machines: dict[int, Any] = {}
        self._jit: Any = None
        self._count = 0

    def machine(self, level: int) -> Any:
        """The code generator with effort `level` (making one costs 0.2 ms, so each is kept)."""
        if level not in self._machines:
            self._machines[level] = self.new_machine(level)
        return self._machines[level]

    def load(self, names: Sequence[str], code: bytes, key: bytes, compiled: bool) -> Module:
        """Put object code into executable memory, in a library of its own."""
        if self._count % _LIBRARIES == 0:
            self._jit = self.llvm.create_lljit_compiler(self.new_machine(1), use_jit_link=True)
        self._count += 1
        counters.modules += 1
        builder = self.llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in names:
            builder.export_symbol(name)
        tracker = builder.link(self._jit, f"adjoint{self._count}")
        tracker.loader = self._jit  # which must outlive what it has loaded
        module = _modules[key] = Module({name: tracker[name] for name in names}, tracker, compiled, key)
        return module


def _from_disk(engine: _Engine, key: bytes) -> Module | None:
    """The module that this or an earlier process stored under `key`, loaded."""
    found = disk_cache.load(key)
    if found is None:
        return None
    names, code = found
    try:
        module = engine.load(names, code, key, compiled=False)
    except RuntimeError:  # whole, of these versions, and still not to LLVM's liking: compile instead
        return None
    counters.code_bytes += len(code)
    return module


def _object_codes(engine: _Engine, texts: list[str], level: int) -> list[tuple[list[str], bytes]]:
    """`_object_code` of several modules, by several threads. This one waits for them: interrupts come to it alone."""
    if len(texts) < 2:
        return [_object_code(engine, text, engine.machine(level)) for text in texts]
    done: dict[int, tuple[list[str], bytes]] = {}
    failures: list[BaseException] = []
    todo = deque(enumerate(texts))

    def work() -> None:
        try:
            machine = engine.new_machine(level)
            while not failures:
                try:
                    number, text = todo.popleft()
                except IndexError:
                    return
                done[number] = _object_code(engine, text, machine)
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work) for _ in range(max(1, min(threads(), len(texts))))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        todo.clear()  # after an interrupt: whoever has begun ends the module it is at
        while alive := [worker for worker in workers if worker.is_alive()]:
            try:
                alive[0].join()
            except KeyboardInterrupt as again:
                failures.append(again)
    if failures:
        raise failures[-1]
    return [done[number] for number in range(len(texts))]


def _object_code(engine: _Engine, ir_text: str, machine: Any) -> tuple[list[str], bytes]:
    """Names of the functions that a module of IR defines for others, and its object file.

    The one place where code is generated.
    """
    module: Any = None
    try:
        # In a context of its own, which goes with the module: the common one never forgets a number it has seen.
        module = engine.llvm.parse_assembly(ir_text, engine.llvm.create_context())
        module.verify()
        hidden = (engine.llvm.Linkage.internal, engine.llvm.Linkage.private)
        names = [
            f.name for f in module.functions if not f.is_declaration and f.linkage not in hidden
        ]
        return names, llvm_lock.emit_object(engine.llvm, machine, module)
    except RuntimeError as error:
        raise CodegenError(f"LLVM refused generated code: {error}") from error
    finally:  # now: the collector of what an exception's traceback holds may end a context before its module
        if module is not None:
            module.close()


_Group = dict[bytes, tuple[str, tuple[str, ...]]]  # texts of kernels and what they declare, by digest


def _compile_group(group: _Group, level: int) -> None:
    """Compile kernels of one effort, in one module or several, and enter them into `_kernels`."""
    parts = _parts(group)
    modules = _compile_modules([_module_text(part) for part in parts], level)
    for part, module in zip(parts, modules, strict=True):
        if module.compiled:
            counters.kernels_compiled += len(part)
        else:
            counters.kernels_loaded += len(part)
        for number, digest in enumerate(part):
            Code.of(module, digest, f"kernel{number}")


def _parts(group: _Group) -> list[_Group]:
    """Kernels for one module each, of about the same length. How many there are depends on the texts alone, and not on the
    number of threads: what lies on disk is found again."""
    count = min(_MOST_PARTS, sum([len(text) for text, _ in group.values()]) // _PART)
    if count < 2:
        return [group]
    lengths = [0] * count
    place: dict[bytes, int] = {}
    for digest in sorted(group, key=lambda d: -len(group[d][0])):
        place[digest] = lightest = lengths.index(min(lengths))
        lengths[lightest] += len(group[digest][0])
    parts = [{d: texts for d, texts in group.items() if place[d] == number} for number in range(count)]
    return [part for part in parts if part]


def _module_text(group: _Group) -> str:
    # Numbering by position makes the module's text depend on nothing but its kernels.
    declared: dict[str, str] = {}  # by the function's name: two writers may spell one type differently
    lines = []
    for number, (text, declarations) in enumerate(group.values()):
        for line in declarations:
            name = re.search(r"@[\w.$]+", line)  # metadata has none
            declared.setdefault(name.group() if name else line, line)
        lines.append(text.replace("@kernel(", f"@kernel{number}(", 1))
    if not target().halves and any(" half" in text for text, _ in group.values()):
        lines.append(half_calls.SOURCE)
    return "\n".join([*lines, *declared.values()])


def _measure_idle() -> int:
    """The reference count that a kernel shows, read as in `_forget_kernels`, when nobody else holds it."""
    known = {b"": Code(1 << 40)}
    return [getrefcount(code) for _, code in known.items()][0]


_IDLE = _measure_idle()


def _is_straight_line(text: str, declarations: tuple[str, ...]) -> bool:
    if any([d.startswith("define") for d in declarations]):  # functions that it calls, which are worth more effort
        return False
    lines = text.count("\n") - text.count("\n  %size")  # one form for all sizes (`sizes`) is compiled as each of them
    return lines > _STRAIGHT_LINE and re.search(r"^\s+br ", text, re.M) is None


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()


def _load_llvm() -> Any:
    """llvmlite.binding, initialised; False where it is missing or may not make code executable."""
    global _llvm
    if _llvm is None:
        with _lock:
            try:
                llvm = importlib.import_module("llvmlite.binding")
                llvm_lock.harden(llvm)
                llvm.check_jit_execution()
                llvm.initialize_native_target()
                llvm.initialize_native_asmprinter()
                _llvm = llvm
            except (ImportError, OSError) as problem:
                _llvm = False
                warnings.warn(
                    f"llvmlite cannot be used here ({problem}): every operation runs through NumPy, which gives the "
                    "same results more slowly; `pip install llvmlite` brings compiled speed",
                    RuntimeWarning,
                    stacklevel=2,
                )
    return _llvm


def _get_engine() -> _Engine:
    global _engine
    if _engine is None:
        with _lock:
            if _engine is None:
                _engine = _Engine()
    return _engine


def _describe_machine(llvm: Any) -> tuple[Target, Any]:
    """The Target, and a function from level to an LLVM target machine for it."""
    triple = llvm.get_process_triple()
    host = llvm.get_host_cpu_features()
    wanted = config.get("ADJOINT_TARGET")
    tiles = pairs = False
    if wanted in ("native", "avx512"):
        cpu, features = llvm.get_host_cpu_name(), host.flatten()
        halves = bool(host.get("f16c")) or triple.startswith(("aarch64", "arm64"))
        if all(host.get(f) for f in ("avx512f", "avx512vl", "avx512bw", "avx512dq")):
            width = 64
            # LLVM splits 512-bit vectors in two on machines where wide code used to lower the
            # clock; every kernel here is written for full registers.
            features += ",-prefer-256-bit"
            tiles, pairs = has_tiles(), has_pairs()
        elif wanted == "avx512":
            raise ValueError("ADJOINT_TARGET=avx512, but this machine has no AVX-512 with all of F, VL, BW and DQ")
        else:
            width = 32 if host.get("avx2") and host.get("fma") else 16
    elif wanted in _FORCED and triple.startswith("x86_64"):
        cpu, width = _FORCED[wanted]
        features, halves = "", wanted == "avx2"
        if wanted == "avx2" and not (host.get("avx2") and host.get("fma")):
            raise ValueError("ADJOINT_TARGET=avx2, but this machine has no AVX2 with FMA")
    else:
        choices = ", ".join(["native", "avx512", *_FORCED])
        raise ValueError(f"ADJOINT_TARGET={wanted!r} on {triple}: expected one of {choices}")

    def create(level: int) -> Any:
        return llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, features=features, opt=level, reloc=_RELOCATION, codemodel=_CODE_MODEL, jit=True
        )

    return Target(cpu, features, width, triple, halves, tiles, pairs), create


def _after_fork() -> None:
    # Another thread of the parent may have held the lock; the code itself is shared and stays.
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
