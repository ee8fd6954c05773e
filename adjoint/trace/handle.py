"""The tensor handle: a small object that points either to a buffer or to a slot of a trace.

The public methods of `Tensor` are attached by `adjoint.methods`; here are only the fields, so that the recorder, which
makes handles, needs nothing above it. What a type checker should know of the methods is declared in `typed.pyi`, which
no program loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adjoint.trace.aval import Aval

if TYPE_CHECKING:
    from adjoint.trace.typed import Typed
else:
    Typed = object


class Tensor(Typed):
    """A multi-dimensional array of one dtype that may take part in differentiation.

    >>> import adjoint as torch
    >>> x = torch.tensor([1., 2.], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])

    Fields (all private; those in slots are set in every tensor, the others have their defaults in the class):
    _tid, _slot: the value is slot `_slot` of the trace numbered `_tid` while that trace is being recorded;
        `-_tid` marks a leaf that was updated in this trace.
    _data: the Buffer with the value, once known.
    _special: binding needs the slow path (memory handed out, history in an older trace, hooks on a leaf, a gradient that is kept).
    _retains: False, or what is called after a change in place of a tensor whose gradient is kept.
    _base, _chain: this is a view: `_chain` of movement operations applied to `_base`.  _views: the views of this tensor.
    _version: how often it was changed in place.
    _shared: threads were seen to change it, or its gradient, in turn: it is computed at once while there are several.
    _loose: made for a derivative rule, and not in the trace's list of handles.
    _leaf: created by the user as a variable to differentiate with respect to.
    _hist, _hslot: the History in which the value was computed, and its slot there, for a non-leaf that outlived its trace.
    """

    # as `trace.native` reads them
    __slots__ = (
        "_tid", "_slot", "_aval", "_data", "_special", "_base", "_chain", "_views", "_version", "__dict__", "__weakref__",
    )  # fmt: skip

    _tid: int
    _slot: int
    _aval: Aval
    _data: Any
    _special: bool
    _base: Any
    _chain: tuple
    _views: Any
    _version: int
    _hist: Any = None
    _hslot: int = -1
    _leaf: bool = False
    _escape: Any = None
    _hooks: Any = None
    _retains: Any = False
    _loose: bool = False
    _shared: bool = False
    _grad: Any = None
    _grad_dtype: Any = False  # False: the tensor's own, None: any


class Parameter(Tensor):
    """A tensor that a module registers as trainable; `adjoint.methods` gives it its constructor."""

    if TYPE_CHECKING:

        def __init__(self, data: Any = None, requires_grad: bool = True) -> None: ...


new_object = object.__new__


def pending(tid: int, slot: int, a: Aval) -> Tensor:
    """The handle of a slot of a trace."""
    t = new_object(Tensor)
    t._tid = tid
    t._slot = slot
    t._aval = a
    t._data = None
    t._special = False
    t._base = None
    t._chain = ()
    t._views = None
    t._version = 0
    return t


def blank(cls: type[Tensor] = Tensor) -> Tensor:
    """A handle of nothing yet."""
    t = new_object(cls)
    t._tid, t._slot, t._data, t._special = 0, -1, None, False
    t._base, t._chain, t._views, t._version = None, (), None, 0
    return t
