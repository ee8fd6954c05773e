"""Hooks of what is kept for backward: `saved_tensors_hooks` puts it away elsewhere, or in another form, until it is needed.

What is recorded within the context ends with it, and what the trace then keeps for a derivative (`trace.history`) is handed to
`pack`; a walk that comes to such a trace has it back from `unpack` first (`Packed.restore`). Read `Packed`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from adjoint.runtime.memory import Buffer
from adjoint.storage import encode
from adjoint.trace.aval import Aval
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.recorder import array_of, flush, local, tensor_from_buffer

_refused = threading.local()


class saved_tensors_hooks:
    """A context in which everything that is kept for backward is replaced by `pack_hook(tensor)`, and given back by
    `unpack_hook(packed)` when a backward comes to it.

    For keeping less (another dtype, a file), or for looking at what is kept. `pack_hook` returns anything, `unpack_hook` a tensor of
    the former shape and dtype; derivatives are computed from that. What is kept is chosen for the whole context, when it ends or a
    value is read within: inputs and results from which the rest is computed again, so it may be less than each operation
    alone would keep. What `Function.forward` saves stays as it is. The innermost context counts.

    TypeError or RuntimeError, in backward, for what `unpack_hook` may not return; RuntimeError on entering within
    `disable_saved_tensors_hooks`.

    >>> import adjoint as torch
    >>> x = torch.tensor([1., 2.5], requires_grad=True)
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: t.to(torch.bfloat16), lambda t: t.float()):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 5.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook
        self._before: list[Any] = []

    def __enter__(self) -> None:
        message = getattr(_refused, "message", None)
        if message is not None:
            raise RuntimeError(message)
        tr = local.trace
        flush(tr)
        self._before.append(tr.saving)
        tr.saving = self._pack

    def __exit__(self, *exc: Any) -> None:
        tr = local.trace
        try:
            flush(tr)
        finally:
            tr.saving = self._before.pop()

    def _pack(self, hist: History, behind: Collection[int]) -> None:
        """Put away what a history that has just been finished keeps: its values, and those inputs (by position) that a
        derivative may need."""
        Packed(self.unpack_hook).take(hist, behind, self.packed)

    def packed(self, t: Tensor) -> Any:
        """What `pack_hook` makes of a tensor; what it computes is not packed itself."""
        tr = local.trace
        saving, tr.saving = tr.saving, None
        try:
            return self.pack_hook(t)
        finally:
            tr.saving = saving


class disable_saved_tensors_hooks:
    """A context in which `saved_tensors_hooks` are refused with `error_message`, a RuntimeError.

    >>> import adjoint as torch
    >>> with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
    ...     torch.ones(1) + 1
    tensor([2.])
    """

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message
        self._before: list[str | None] = []

    def __enter__(self) -> None:
        if local.trace.saving is not None:
            raise RuntimeError(self.error_message)
        self._before.append(getattr(_refused, "message", None))
        _refused.message = self.error_message

    def __exit__(self, *exc: Any) -> None:
        _refused.message = self._before.pop()


class Packed:
    """What a history keeps elsewhere until a walk comes to it.

    values, inputs: what `pack` returned, by slot and by position, with the shape and dtype of the tensor.
    """

    def __init__(self, unpack: Any) -> None:
        self.unpack = unpack
        self.values: dict[int, tuple[Any, Any]] = {}
        self.inputs: dict[int, tuple[Any, Any]] = {}
        self.away = False

    def take(self, hist: History, behind: Collection[int], pack: Callable[[Tensor], Any]) -> None:
        steps = hist.steps()
        for slot, data in list(hist.values.items()):
            step, a = steps[slot], steps[slot].aval
            if slot != step.slot or step.prim == "input" or not isinstance(a, Aval):  # of reference mode, which keeps everything
                continue
            self.values[slot] = pack(tensor_from_buffer(data, a.shape, a.dtype)), a
        for position in sorted(behind):
            data = hist.buffers[position]
            if data is not None:
                a = hist.inputs[position]._aval
                self.inputs[position] = pack(tensor_from_buffer(data, a.shape, a.dtype)), a
        if self.values or self.inputs:
            hist.packed = self
            self.let_go(hist)

    def let_go(self, hist: History) -> None:
        """Take away from the history what is packed."""
        self.away = True
        hist.values = {slot: None if slot in self.values else data for slot, data in hist.values.items()}
        for position in self.inputs:
            hist.buffers[position] = None
            if not hist.inputs[position]._leaf:
                hist.inputs[position] = hist.shell(position)

    def restore(self, hist: History) -> None:
        """Give the history everything back, for a walk, if it has it not."""
        if not self.away:
            return
        values = {slot: self.buffer_of(packed, a) for slot, (packed, a) in self.values.items()}
        inputs = {position: self.buffer_of(packed, a) for position, (packed, a) in self.inputs.items()}
        hist.values.update(values)
        for position, data in inputs.items():
            hist.buffers[position] = data
        self.away = False  # last: all of it is asked for again where a hook has raised

    def close(self, hist: History, again: bool) -> None:
        """After a walk: there may be another, or none."""
        if again:
            self.let_go(hist)
        else:
            self.values, self.inputs, self.unpack, hist.packed = {}, {}, None, None

    def buffer_of(self, packed: Any, a: Any) -> Buffer:
        array = encode(array_of(unpacked(self.unpack, packed, a)), a.dtype)
        return Buffer.from_array(array)


def unpacked(unpack: Callable[[Any], Any], packed: Any, a: Any) -> Tensor:
    """The tensor that is given back, checked."""
    t = unpack(packed)
    if not isinstance(t, Tensor):
        raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type(t).__name__}")
    if t._aval.shape != a.shape or t._aval.dtype is not a.dtype:
        raise RuntimeError(
            f"saved_tensors_hooks: unpack_hook returned a tensor of shape {list(t._aval.shape)} and dtype {t._aval.dtype.name} for one that had "
            f"shape {list(a.shape)} and dtype {a.dtype.name}: give back what was packed, converted with .to() if pack_hook changed its dtype"
        )
    return t
