"""How tensors print: the well-known `tensor([...])` form, digit for digit.

Numbers of one tensor share a width. Floats that are all whole print as `1.`; a large range switches to scientific
notation; tensors above `threshold` elements are summarised by `edgeitems` at each end of every axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from adjoint import dtypes
from adjoint.trace.handle import Parameter, Tensor
from adjoint.trace.recorder import array_of, local

options: dict[str, Any] = {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print; `profile` "default", "short" or "full" sets several at once."""
    if profile == "default":
        options.update(precision=4, threshold=1000, edgeitems=3, linewidth=80)
    elif profile == "short":
        options.update(precision=2, threshold=1000, edgeitems=2, linewidth=80)
    elif profile == "full":
        options.update(precision=4, threshold=math.inf, edgeitems=3, linewidth=80)
    given = dict(precision=precision, threshold=threshold, edgeitems=edgeitems, linewidth=linewidth)
    options.update({k: v for k, v in given.items() if v is not None})
    options["sci_mode"] = sci_mode


class Formatter:
    """The common format of a set of numbers."""

    def __init__(self, values: np.ndarray) -> None:
        self.floating = values.dtype.kind == "f"
        self.whole = True
        self.scientific = False
        self.width = 1
        precision = options["precision"]
        if not self.floating:
            for v in values.ravel():
                self.width = max(self.width, len(str(v)))
            return
        finite = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        if finite.size == 0:
            return
        magnitude = np.abs(finite)
        high, low = float(magnitude.max()), float(magnitude.min())
        self.whole = bool(np.all(finite == np.ceil(finite)))
        if self.whole:
            self.scientific = high / low > 1000.0 or high > 1.0e8
        else:
            self.scientific = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        if options["sci_mode"] is not None:
            self.scientific = options["sci_mode"]
        if self.whole and not self.scientific:
            width = max(len(f"{v:.0f}") for v in finite) + 1
        elif self.scientific:
            width = max(len(f"{v:.{precision}e}") for v in finite)
        else:
            width = max(len(f"{v:.{precision}f}") for v in finite)
        self.width = max(self.width, width)  # infinities and NaN do not count, as in PyTorch

    def format_plain(self, v: Any) -> str:
        if not self.floating:
            return str(v)
        v = float(v)
        if self.scientific:
            return f"{v:.{options['precision']}e}"
        if self.whole:
            text = f"{v:.0f}"
            return text if math.isinf(v) or math.isnan(v) else text + "."
        return f"{v:.{options['precision']}f}"

    def __call__(self, v: Any) -> str:
        text = self.format_plain(v)
        return " " * (self.width - len(text)) + text


class ComplexFormatter:
    """The same for complex numbers: real and imaginary parts have formats of their own."""

    def __init__(self, values: np.ndarray) -> None:
        self.parts = Formatter(values.real), Formatter(values.imag)
        self.width = self.parts[0].width + self.parts[1].width + 1

    def __call__(self, v: Any) -> str:
        imaginary = (self.parts[1](v.imag) + "j").lstrip()
        return self.parts[0](v.real) + ("" if imaginary[0] in "+-" else "+") + imaginary


def formatter_of(values: np.ndarray) -> Any:
    return ComplexFormatter(values) if values.dtype.kind == "c" else Formatter(values)


def shown(array: np.ndarray) -> np.ndarray:
    """The elements that a summary prints (they alone decide the format)."""
    edge = options["edgeitems"]
    for axis in range(array.ndim):
        n = array.shape[axis]
        if n > 2 * edge:
            keep = np.r_[0:edge, n - edge : n]
            array = np.take(array, keep, axis)
    return array


def render(array: np.ndarray, indent: int, summarize: bool, formatter: Any) -> str:
    if array.ndim == 0:
        return formatter(array[()])
    edge = options["edgeitems"]
    cut = summarize and array.shape[0] > 2 * edge
    if array.ndim == 1:
        per_line = max(1, math.floor((options["linewidth"] - indent) / (formatter.width + 2)))
        if cut:
            items = [formatter(v) for v in array[:edge]] + [" ..."] + [formatter(v) for v in array[-edge:]]
        else:
            items = [formatter(v) for v in array]
        rows = [items[i : i + per_line] for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(", ".join(r) for r in rows) + "]"
    if cut:
        parts = [render(a, indent + 1, summarize, formatter) for a in array[:edge]]
        parts += ["..."]
        parts += [render(a, indent + 1, summarize, formatter) for a in array[-edge:]]
    else:
        parts = [render(a, indent + 1, summarize, formatter) for a in array]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def tensor_text(t: Tensor) -> str:
    """`repr` of a tensor."""
    prefix = "tensor("
    a = t._aval
    array = array_of(t)
    suffixes = []
    default = local.trace.default_dtype
    if a.dtype not in (dtypes.int64, dtypes.bool, default, dtypes.default_complex(default)):
        suffixes.append(f"dtype={a.dtype}")
    if a.size == 0:
        body = "[]"
        if a.shape != (0,):
            suffixes.insert(0, f"size={tuple(a.shape)}")
        if a.dtype is not default and f"dtype={a.dtype}" not in suffixes:
            suffixes.append(f"dtype={a.dtype}")
    else:
        summarize = a.size > options["threshold"]
        body = render(array, len(prefix), summarize, formatter_of(shown(array) if summarize else array))
    if a.requires_grad:
        from adjoint.autograd.graph import grad_fn

        node = grad_fn(t)
        suffixes.append("requires_grad=True" if node is None else f"grad_fn=<{node.name()}>")
    text = prefix + body
    line = len(text) - text.rfind("\n") + 1
    for s in suffixes:
        if line + len(s) + 2 > options["linewidth"]:
            text += ",\n" + " " * len(prefix) + s
            line = len(prefix) + len(s)
        else:
            text += ", " + s
            line += len(s) + 2
    text += ")"
    return "Parameter containing:\n" + text if isinstance(t, Parameter) else text
