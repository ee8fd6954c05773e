"""Native code as functions and methods of the interpreter: what `runtime.entry` and `trace.native` need of CPython."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

FASTCALL, ONE_ARGUMENT, KEYWORDS = 0x80, 0x08, 0x02  # calling conventions: an array of arguments, or one; names may follow
_NEW = 65  # the number of `tp_new` in the stable interface


class _MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)
    ]  # fmt: skip


def plain() -> bool:
    """Whether the interpreter is one that such code is written for: CPython with its lock, 64 bits, no debug build."""
    return (
        sys.implementation.name == "cpython"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and not hasattr(sys, "gettotalrefcount")
        and getattr(sys, "_is_gil_enabled", lambda: True)()
    )


def address_of(name: str) -> int:
    """Where a function of the interpreter's C interface lies."""
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def address_of_new() -> int:
    """Where the function lies that `object.__new__` calls."""
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
    return find(object, _NEW)


def _definition(name: str, address: int, convention: int, doc: str | None) -> int:
    """The address of a definition, which is never given back: functions that outlive this module still read it."""
    definition = _MethodDef(name.encode(), address, convention, doc.encode() if doc else None)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(definition))
    return ctypes.addressof(definition)


def offsets(cls: type, *names: str) -> dict[str, int]:
    """Where the slots of a class lie in its instances, in bytes; found by writing them and looking."""
    found = {}
    for name in names:
        one: Any = object.__new__(cls)
        mark = object()
        setattr(one, name, mark)
        words = (ctypes.c_void_p * (cls.__basicsize__ // 8)).from_address(id(one))
        places = [k for k, word in enumerate(words) if word == id(mark)]
        if len(places) != 1:
            raise LookupError(f"slot {name} of {cls.__name__} was not found once but {len(places)} times")
        found[f"{cls.__name__}.{name}"] = 8 * places[0]
        delattr(one, name)
    return found


def where_counts_lie() -> bool:
    """Whether the first 32 bits of an object are the number of references to it, as native code here reads them."""
    one = object()
    for copies in (1, 1000):
        held = [one] * copies
        if ctypes.c_uint32.from_address(id(one)).value != sys.getrefcount(one) - 1 or not held:
            return False
    return True


def function(name: str, address: int, convention: int = FASTCALL) -> Any:
    """A builtin function that runs the code at `address`."""
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(_definition(name, address, convention, None), None, None)


def method(cls: type, name: str, address: int, doc: str | None = None, convention: int = FASTCALL) -> Any:
    """A method of `cls` that runs the code at `address`; the class is not changed."""
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)(("PyDescr_NewMethod", ctypes.pythonapi))
    return make(cls, _definition(name, address, convention, doc))
