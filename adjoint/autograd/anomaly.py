"""Anomaly mode: which function of a backward pass gave NaN, and which line recorded it.

While the mode is on, every reverse walk is an `Examined` one. It notes for each cotangent that leaves a function whether it
has a NaN, as one more value of the trace; all these are read at once, at the end of the walk or before user code runs in
it, so the backward pass stays one program. Traces begin at roots of their own meanwhile, below which steps are told apart
by their lines and nothing is known by memory. Outside of the mode nothing is different. Read `Examined`.
"""

from __future__ import annotations

import warnings
from typing import Any

from adjoint.autograd import engine
from adjoint.autograd.graph import name_of, operands_of
from adjoint.grad.walk import Reverse
from adjoint.ops.elementwise import functions
from adjoint.ops.joining import stack
from adjoint.trace.handle import Tensor
from adjoint.trace.history import History
from adjoint.trace.listener import Listener
from adjoint.trace.recorder import array_of, flush, local
from adjoint.trace.state import set_by_line
from adjoint.trace.trie import Step
from adjoint.trace.why import show

_check_nan = True


class Bystander(Listener):
    """Hears of everything and does nothing: known calls of `adjoint.compile` are not taken where somebody listens."""


class Result:
    """A cotangent that a function gave: the function, by its last step; which of its results; the cotangent."""

    __slots__ = ("hist", "step", "position", "value")

    def __init__(self, hist: History, step: Step, position: int, value: Tensor) -> None:
        self.hist, self.step, self.position, self.value = hist, step, position, value

    def told(self) -> str:
        name = name_of(self.hist, self.step)
        return f"Function '{name}' returned nan values in its {self.position}th output. Its forward operation was recorded at {show(self.step.where)}"


class Examined(Reverse):
    """A reverse walk that looks for NaN.

    at: the function whose derivative is being taken, if one is, and how many cotangents it has given to which slots.
    tops: the last step of each composite that was met.  sums: what a composite has given to a slot so far.  noted: whether
    there is a NaN in what a function gave, as a tensor that is to be read.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pythonic = True
        self.at: tuple[History, Step, dict[int, int]] | None = None
        self.tops: dict[Any, Step] = {}
        self.sums: dict[tuple, Result] = {}
        self.noted: list[Result] = []

    def step(self, hist: History, step: Step, g: Any) -> None:
        if step.scope is not None:
            self.tops.setdefault(step.scope, step)
        self.at = hist, step, {}
        try:
            super().step(hist, step, g)
        except Exception:
            self.tell(hist, step)
            raise
        finally:
            self.at = None

    def give(self, hist: History, slot: int, g: Any) -> None:
        if self.at is not None and isinstance(g, Tensor) and _check_nan:
            self.note(*self.at, hist.steps()[slot], slot, g)
        super().give(hist, slot, g)

    def note(self, hist: History, step: Step, given: dict[int, int], target: Step, slot: int, g: Tensor) -> None:
        scope = step.scope
        if scope is None:
            before = given[slot] = given.get(slot, -1) + 1
            self.noted.append(Result(hist, step, _position(hist, step, slot, before), _has_nan(g)))
        elif target.scope is not scope or target.prim == "input":  # else it stays inside of the composite
            key = scope, hist.id, slot
            known = self.sums.get(key)
            if known is None:
                top = self.tops[scope]
                self.sums[key] = Result(hist, top, _position(hist, top, slot, 0), g)
            else:
                known.value = known.value + g

    def custom(self, hist: History, step: Step, call: Any) -> None:
        self.look()
        try:
            pairs = call.run()
        except Exception:
            self.tell(hist, step)
            raise
        tensors = [x for x in call.inputs if isinstance(x, Tensor)]
        for x, g in pairs:
            if x._aval.requires_grad and _check_nan:
                position = next(k for k, t in enumerate(tensors) if t is x)
                self.noted.append(Result(hist, step, position, _has_nan(g)))
            self.into_tensor(x, g)

    def hooked(self, hooks: dict[int, Any], g: Any) -> Any:
        self.look()
        return super().hooked(hooks, g)

    def finish_leaves(self) -> None:
        self.look()
        super().finish_leaves()

    def look(self) -> None:
        """Read what was noted. RuntimeError for the first function that gave a NaN."""
        found = [*self.noted, *[Result(r.hist, r.step, r.position, _has_nan(r.value)) for r in self.sums.values()]]
        self.noted, self.sums = [], {}
        if not found:
            return
        flags = array_of(stack([r.value for r in found])).tolist()
        first = max((r for r, nan in zip(found, flags, strict=True) if nan), key=_order, default=None)
        if first is not None:
            raise RuntimeError(first.told())

    def tell(self, hist: History, step: Step) -> None:
        """Say where a function was recorded whose derivative has raised."""
        step = self.tops.get(step.scope, step)
        warnings.warn(
            f"Error detected in {name_of(hist, step)}. Its forward operation was recorded at {show(step.where)}", UserWarning, stacklevel=2
        )


def _order(result: Result) -> tuple[int, int]:
    """Functions are met in the opposite order of their recording."""
    return result.hist.id, result.step.slot


def _position(hist: History, step: Step, slot: int, before: int) -> int:
    """Which operand of a function a slot is, if it was met as often `before`."""
    places = [k for k, s in enumerate(operands_of(hist, step)) if s == slot]
    return places[min(before, len(places) - 1)] if places else 0


def _has_nan(g: Tensor) -> Tensor:
    return functions["isnan"](g).any()


def is_anomaly_enabled() -> bool:
    """Whether backward passes are examined (`autograd.set_detect_anomaly`).

    >>> import adjoint as torch
    >>> torch.is_anomaly_enabled()
    False
    """
    return engine.walker is Examined


def is_anomaly_check_nan_enabled() -> bool:
    """Whether anomaly mode, where it is on, looks for NaN.

    >>> import adjoint as torch
    >>> torch.is_anomaly_check_nan_enabled()
    True
    """
    return _check_nan


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None:
    """Turn anomaly mode on or off (`autograd.set_detect_anomaly` is the context). TypeError for what is no bool.

    >>> import adjoint as torch
    >>> torch.set_anomaly_enabled(True, check_nan=False)
    >>> torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    (True, False)
    >>> torch.set_anomaly_enabled(False)
    """
    for k, (name, value) in enumerate((("enabled", enabled), ("check_nan", check_nan))):
        if not isinstance(value, bool):
            raise TypeError(f"set_anomaly_enabled(): argument {name!r} (position {k + 1}) must be bool, not {type(value).__name__}; give True or False")
    global _check_nan
    _check_nan = check_nan
    if enabled is is_anomaly_enabled():
        return
    tr = local.trace
    try:
        flush(tr)
    finally:  # also where something that was recorded fails
        set_by_line(enabled)
        engine.walker = Examined if enabled else Reverse
        tr.node = tr.root()
        if enabled:
            tr.watch = Bystander(tr.watch)
        elif isinstance(tr.watch, Bystander):
            tr.watch = tr.watch.outer


class set_detect_anomaly:
    """Turns anomaly mode on or off, at once; as a context, until it is left.

    In this mode a backward pass in which a function returns NaN raises RuntimeError with the function's name and the line of
    its forward operation (unless `check_nan=False`); where a derivative raises an error, a warning names that line. It
    holds for this thread and for those that start later. It takes time: compiled programs are not those outside of the mode.

    mode, check_nan: bools; TypeError for others.

    >>> import adjoint as torch
    >>> x = torch.tensor([0.0, 1.0], requires_grad=True)
    >>> with torch.autograd.set_detect_anomaly(True):
    ...     (x.sqrt() * 0).sum().backward()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output. Its forward operation was recorded at ...
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        set_anomaly_enabled(mode, check_nan)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: Any) -> None:
        set_anomaly_enabled(*self._before)


class detect_anomaly:
    """Anomaly mode inside (`set_detect_anomaly`), with a warning that it takes time.

    >>> import adjoint as torch
    >>> with torch.autograd.detect_anomaly():
    ...     torch.is_anomaly_enabled()
    True
    """

    def __init__(self, check_nan: bool = True) -> None:
        self._check_nan = check_nan
        self._before = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        warnings.warn(
            "Anomaly Detection has been enabled. This mode will increase the runtime and should only be enabled for debugging.", stacklevel=2
        )

    def __enter__(self) -> None:
        self._before = is_anomaly_enabled(), is_anomaly_check_nan_enabled()
        set_anomaly_enabled(True, self._check_nan)

    def __exit__(self, *exc: Any) -> None:
        set_anomaly_enabled(*self._before)
