"""llvmlite's lock, made proof against Ctrl-C, and the one call that goes without it.

llvmlite takes a lock around every call of LLVM, in methods written in Python. A KeyboardInterrupt between taking the
lock and entering the block would leave it taken for ever, and every other thread that compiles would wait for ever.
`harden` puts the methods of the C lock itself in their place: between those and the block no interrupt is delivered.

Generating code takes nearly all of the time, and LLVM does it in any number of threads at once, where each has a context and
a target machine of its own. `emit_object` calls it past the lock.
"""

from __future__ import annotations

import ctypes
from typing import Any


def harden(binding: Any) -> bool:
    """Replace the methods of llvmlite's lock; False where it has another shape than the one known, or callbacks.

    binding: the module `llvmlite.binding`. Whoever registers callbacks later gets llvmlite's own methods back.
    """
    try:
        lock = binding.ffi.lib._lock
        kind, inner = type(lock), lock._lock
        enter, leave, register = kind.__enter__, kind.__exit__, kind.register
        if lock._cblist:
            return False
        begin, end = inner.__enter__, inner.__exit__
    except AttributeError:
        return False

    def register_and_return(self: Any, *callbacks: Any) -> None:
        kind.__enter__, kind.__exit__, kind.register = enter, leave, register
        register(self, *callbacks)

    # Bound methods of C: looked up on the type, they are called as they are, without the lock's wrapper.
    kind.__enter__, kind.__exit__, kind.register = begin, end, register_and_return
    return True


def emit_object(binding: Any, machine: Any, module: Any) -> bytes:
    """`machine.emit_object(module)`, while other threads may do the same: nobody else uses the machine, or the module's context.

    RuntimeError with LLVM's message.
    """
    lib = binding.ffi.lib
    generate = getattr(lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if generate is None:  # llvmlite has changed
        return machine.emit_object(module)
    with binding.ffi.OutputString() as message:
        buffer = generate(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        return ctypes.string_at(lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer))
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)
