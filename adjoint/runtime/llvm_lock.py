"""llvmlite's lock, made proof against Ctrl-C.

llvmlite takes a lock around every call of LLVM, in methods written in Python. A KeyboardInterrupt between taking the
lock and entering the block would leave it taken for ever, and every other thread that compiles would wait for ever.
`harden` puts the methods of the C lock itself in their place: between those and the block no interrupt is delivered.
"""

from __future__ import annotations

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
