"""The recorder's fast path in native code.

Recording an operation that is known at this place of the trace is a dozen loads, stores and reference counts: as Python
some 300 ns, here about 80. The functions below do just what `recorder.unary_in_python`, `one_in_python`, `two_in_python`,
the operators of `ops.elementwise`, `x[i]` for an int or one for each axis, `t.item()` and `x[i] = number` do on their fast path, and call those
for everything else: another thread's turn, a subclass, a first time, a tensor that is not plainly bound, reference mode.

They are written in LLVM IR, like all native code here, against functions of CPython's stable interface. The fields of
`Tensor`, `Trace` and `Step` are read at the places where their slots lie, which `offsets` finds by looking; the
interpreter's lock is held throughout, and nothing here runs Python code between two changes of a trace, so a signal
cannot part them. Only making an object or comparing keys may: a collection can call finalizers that record or end the
trace. After both, number and place of the trace are compared before anything is changed (`take`, `child`), and nothing
read before is used. A function that returns null has changed nothing but bound operands; with an error set it is raised.

`install` is called once a process has shown that it repeats itself, and tries its work out on a trace of its own
(`_rehearse`); without CPython, without its lock, where the trial fails, or with ADJOINT_NATIVE_RECORDER=0 the Python
versions stay. An operator that the user has replaced is left alone.

Here the code is filled in, loaded, tried and installed; its text is in `native_code`, `native_rows`, `native_end`,
`native_views` and `native_elements`. Read `install`.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import numpy as np

from adjoint import config, dtypes
from adjoint.runtime import cpython, jit
from adjoint.runtime.plan import Frame
from adjoint.trace import elements, many, recorder
from adjoint.trace.aval import Aval, aval
from adjoint.trace.handle import Parameter, Tensor, pending
from adjoint.trace.native_code import CHILD, COMMON, FUNCTION, FUNCTIONS, KNOWN, OPERATION, SLOT
from adjoint.trace.native_elements import ELEMENT, KINDS
from adjoint.trace.native_end import END
from adjoint.trace.native_rows import MANY, NUMBER, ROW
from adjoint.trace.native_views import TAKE_BACK
from adjoint.trace.state import Trace, fast
from adjoint.trace.trie import Step
from adjoint.trace.views import Views

_API = (
    "Py_IncRef", "Py_DecRef", "PyTuple_New", "PyTuple_SetItem", "PyDict_GetItemWithError", "PyList_Append",
    "PyLong_AsLongLong", "PyErr_Occurred", "PyObject_Vectorcall", "PyThreadState_Get", "PyThreadState_GetID",
    "PyList_Size", "PyList_SetSlice", "PyTuple_GetItem", "PyObject_RichCompareBool", "PySequence_Size",
    "PySequence_GetItem", "PyLong_FromLongLong", "PyDict_SetItem", "PyObject_GetAttr", "PyList_GetItem", "PyObject_Size",
    "PyList_New", "PyErr_Clear", "PyList_GetSlice", "PyFloat_FromDouble", "PyFloat_AsDouble", "PyWeakref_NewRef", "PyDict_DelItem",
)  # fmt: skip
_OBJECTS = (None, False, 0, Tensor, Parameter, float, int, (), True, "_leaf", "full", recorder.NUMBER, "mem",
            *[getattr(dtypes, name) for name in KINDS], "slice", "reshape", "input", elements.keep_stale, "pooled", tuple)  # fmt: skip

# name of the operator: (primitive, whether the operands are swapped)
OPERATORS = {
    "__add__": ("add", False), "__radd__": ("add", False), "__sub__": ("sub", False), "__rsub__": ("sub", True),
    "__mul__": ("mul", False), "__rmul__": ("mul", False), "__truediv__": ("div", False), "__rtruediv__": ("div", True),
}  # fmt: skip

ELEMENTS = ("item", "__setitem__")  # methods that read and write single numbers


def _source() -> str:
    """The module's IR for this interpreter."""
    where = cpython.offsets(Tensor, "_tid", "_slot", "_aval", "_data", "_special", "_base", "_chain", "_views", "_version")
    where |= cpython.offsets(Trace, "id", "node", "inputs", "buffers", "scalars", "handles", "static", "mutated", "hist")
    where |= cpython.offsets(Trace, "origins", "payload", "values", "viewed", "flush_after", "period", "whole", "watch", "eager")
    where |= cpython.offsets(Step, "children", "hot", "k0", "k1", "k2", "slot", "aval", "row", "boundary", "cut", "end")
    where |= cpython.offsets(Step, "prim", "args", "parent", "scalars", "scalars_before")
    where |= cpython.offsets(Frame, "header")
    where |= cpython.offsets(Aval, "requires_grad", "dtype", "size", "key_shape")
    where |= cpython.offsets(Views, "recent", "owner", "stale", "limit")
    one = object()
    header = (ctypes.c_void_p * 2).from_address(id(one))
    where["type"] = 8 * list(header).index(id(object))
    where["n_api"], where["n_objects"] = len(_API), len(_OBJECTS)
    where["n_operators"], where["n_fallbacks"] = len(OPERATORS), len(OPERATORS) + len(FUNCTIONS) + 3 + len(ELEMENTS)
    where |= {f"kind{k}": _OBJECTS.index(getattr(dtypes, name)) for k, name in enumerate(KINDS)}

    def fill(text: str, **more: Any) -> str:
        for name, value in {**where, **more}.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    texts = [fill(p) for p in (COMMON, SLOT, CHILD, KNOWN)]
    for k, (name, (count, other, known)) in enumerate(FUNCTIONS.items()):
        texts.append(fill(FUNCTION, name=name, k=k, count=count, further=count - 2, other=other, known=known))
    for k, (name, (_, swapped)) in enumerate(OPERATORS.items()):
        places = ("type", "n") if swapped else ("n", "type")
        texts.append(
            fill(
                OPERATION,
                name=name.strip("_"),
                k=k,
                fallback=k + len(FUNCTIONS),
                first="slow" if swapped else "tensor",
                number_first=places[0],
                number_second=places[1],
            )
        )
    texts.append(fill(ROW, fallback=len(OPERATORS) + len(FUNCTIONS)))
    texts.append(fill(MANY, fallback=len(OPERATORS) + len(FUNCTIONS) + 1))
    texts.append(fill(NUMBER, fallback=len(OPERATORS) + len(FUNCTIONS) + 2))
    texts += [fill(END), fill(TAKE_BACK)]
    texts.append(fill(ELEMENT, item=where["n_fallbacks"] - 2, setitem=where["n_fallbacks"] - 1))
    return "\n".join(texts)


_kept: list[Any] = []  # what native code refers to without counting
installed = False
mine = 0  # where the native function lies that gives this thread's trace, or null; 0 where there is none


def possible() -> bool:
    """Whether this interpreter is one the native code was written for."""
    return config.get("ADJOINT_NATIVE_RECORDER") and cpython.plain() and jit.available()


def install() -> None:
    """Put the native versions in place of the Python ones, where they prove to work in this interpreter."""
    global installed, mine
    if installed:
        return
    installed = True
    if not possible():
        return
    try:
        module = jit.compile_module(_source(), level=0)
        _kept.append(module)
        made = _connect(module.address)
        _rehearse(*made[:3])
        trace_of, settle = module.address("adjoint_mine"), None
        if cpython.where_counts_lie():
            settle = cpython.function("settle", module.address("settle"), cpython.ONE_ARGUMENT)
        else:  # what reads reference counts
            made = *made[:2], {name: method for name, method in made[2].items() if name not in ELEMENTS}
    except (AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as problem:
        warnings.warn(f"recording stays in Python, which is slower: {problem!r}", RuntimeWarning, stacklevel=2)
        return
    _put_in_place(*made)
    mine, recorder._settle = trace_of, settle  # last: until `claim` was called, native code has the trace of the trial


def _connect(address: Callable[[str], int]) -> tuple[Any, list[Any], dict[str, Any]]:
    """The native functions as objects: `claim`, those of `recorder`, and the operators."""
    give = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(address("give"))
    for k, name in enumerate(_API):
        give(0, k, cpython.address_of(name))
    for k, o in enumerate(_OBJECTS):
        give(1, k, id(o))
    give(4, 0, cpython.address_of_new())
    fallbacks: list[Any] = [recorder.unary_in_python, recorder.one_in_python, recorder.two_in_python]
    fallbacks += [recorder.operators[name] for name in (*OPERATORS, "__getitem__")]
    fallbacks += [many.bind_all_in_python, recorder.number_in_python]
    fallbacks += [recorder.operators[name] for name in ELEMENTS]
    prims = [sys.intern(prim) for prim, _ in OPERATORS.values()]
    _kept.append((fallbacks, prims))
    for k, prim in enumerate(prims):
        give(2, k, id(prim))
    for k, function in enumerate(fallbacks):
        give(3, k, id(function))
    claim = cpython.function("claim", address("claim"), cpython.ONE_ARGUMENT)
    records = [cpython.function(f"record_{name}", address(name)) for name in FUNCTIONS]
    records += [cpython.function(name, address(name)) for name in ("bind_all", "point_all", "number")]
    methods = {
        name: cpython.method(Tensor, name, address(name.strip("_")), known.__doc__)
        for name, known in recorder.operators.items()
    }
    return claim, records, methods


def _rehearse(claim: Any, records: list[Any], methods: dict[str, Any]) -> None:
    """Record two operations and `x[1]` in a trace of its own, and read and write an element; RuntimeError where that does
    not do what it should."""
    a = aval((2,), dtypes.float32)
    number = 0.5
    root = Step(None, None, "root")
    first = Step(root, ("neg", 0), "neg")
    second = Step(first, ("add", 1, float), "add")
    root.kids[first.key], first.kids[second.key] = first, second
    first.slot, second.slot, first.aval, second.aval = 1, 3, a, a
    third = Step(second, ("reshape", 3, ()), "reshape")
    third.slot, third.aval = 5, aval((), dtypes.float32)
    chain = (("slice", (), (1,)), ("reshape", (), ()))
    trace = Trace()
    trace.node = root
    claim(trace)
    x = pending(trace.id, 0, a)
    y = records[0]("neg", x)
    z = methods["__add__"](y, number)
    views = y._views = Views()
    views.hold(trace, z)
    second.row = (3, (), 1, third, chain)
    z._views = views
    w = methods["__getitem__"](z, 1)
    kept = views.recent.pop() is w and views.recent.pop() is z and w._base is z and w._chain is chain and trace.node is third
    if not kept or (w._slot, w._aval, w._views, trace.scalars) != (5, third.aval, None, [number, 1]):
        raise RuntimeError("native indexing gave something else")
    del w, trace.scalars[-1]
    trace.node, z._views = second, None
    steps = [(t._tid, t._slot, t._aval, t._data, t._special, type(t), getrefcount(t)) for t in (x, y, z)]
    count = steps[0][-1]
    wanted = [(trace.id, slot, a, None, False, Tensor, count + (slot > 0)) for slot in (0, 1, 3)]
    place = recorder.tensor_from_buffer(recorder.Buffer.from_array(np.arange(3.0)), (3,), dtypes.float64)
    methods["__setitem__"](place, -1, 7)
    scalar = recorder.tensor_from_buffer(place._data, (), dtypes.float64)
    if (place._data.array(np.float64, (3,)).tolist(), place._version, methods["item"](scalar)) != ([0.0, 1.0, 7.0], 1, 0.0):
        raise RuntimeError("native code read or wrote another element")
    lists = trace.node is second and trace.scalars == [number] and [*map(id, trace.handles)] == [id(y), id(z)]
    if steps != wanted or not lists or root.hot is not first:
        raise RuntimeError(f"native recording gave {steps} instead of {wanted}")


def _put_in_place(claim: Any, records: list[Any], methods: dict[str, Any]) -> None:
    fast.claim = claim
    fast.take_over()
    recorder._unary, recorder._one, recorder._two, many._bind_all, many._point_all, recorder._number = records
    for name, method in methods.items():
        if Tensor.__dict__.get(name) is recorder.operators[name]:  # not one that the user has replaced
            setattr(Tensor, name, method)
