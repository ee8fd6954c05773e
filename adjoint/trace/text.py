"""A trace as Python that runs.

`trace_text` prints the steps that some values need as a function over `import adjoint as torch`: inputs are `i0`, `i1`,
..., run-time numbers `s0`, `s1`, ..., values `v` with the number of their slot. Operators and reductions are written as a
user would write them; what has no public spelling (or one that would record something else) is `record(primitive,
operands, attributes)`, the recorder's own entry. Called with the inputs and numbers of a trace, the function gives that
trace's values to the bit.
"""

from __future__ import annotations

from typing import Any

from adjoint.ir.prims import PRIMS
from adjoint.trace.lower import needed_steps
from adjoint.trace.trie import Num, Step

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_UNARY = frozenset("exp log sin cos tan tanh sqrt sigmoid abs floor ceil erf log1p expm1 relu asin acos atan sinh cosh".split())
_METHODS = {
    "cast": "{0}.to({attrs})",
    "reshape": "{0}.reshape({attrs})",
    "expand": "{0}.expand({attrs})",
    "permute": "{0}.permute({attrs})",
    "flip": "{0}.flip({attrs})",
    "sum": "{0}.sum({attrs})",
    "amax": "{0}.amax({attrs})",
    "matmul": "{0} @ {1}",
    "where": "torch.where({0}, {1}, {2})",
    "iota": "torch.arange({attrs})",
    "cumsum": "{0}.cumsum({attrs})",
}
_SAME = {"alias": 0, "custom": 0, "clone": 0, "override": 1}  # whose value is that of the operand at this position


def trace_text(node: Step, slots: tuple[int, ...], name: str = "trace") -> str:
    """Source of a function `name` of inputs and run-time numbers that computes the slots of the path to `node`."""
    steps = needed_steps(node, slots)
    names: dict[int, str] = {}
    body: list[str] = []
    parameters: list[tuple[str, str]] = []
    for step in steps:
        numbers = {slot: f"s{step.scalars_before + k}" for k, (slot, _) in enumerate(step.scalars)}
        for slot, dtype in step.scalars:  # where a derivative uses it again it is a tensor of a known dtype
            names[slot] = f"torch.full((), {numbers[slot]}, dtype={dtype!r})" if dtype is not None else numbers[slot]
            parameters.append((numbers[slot], numbers[slot]))
        if step.prim == "input":
            names[step.slot] = f"i{step.inputs_before}"
            parameters.append((names[step.slot], f"{names[step.slot]} {step.aval!r}"))
            continue
        if step.prim in _SAME:
            names[step.slot] = names[step.args[_SAME[step.prim]]]
            continue
        names[step.slot] = f"v{step.slot}"
        what = _describe(step.aval)
        line = "" if step.where is None else f", line {step.where[1]}"
        body.append(f"    v{step.slot} = {_expression(step, names | numbers)}  # {what}{line}")
    lines = ["import adjoint as torch", "from adjoint.trace.recorder import record", "", 'inf, nan = float("inf"), float("nan")', "", ""]
    given = ", ".join(p for p, _ in parameters)
    lines.append(f"def {name}({given}):  # {', '.join(d for _, d in parameters)}")
    results = ", ".join(names[s] for s in slots)
    return "\n".join([*lines, *body, f"    return ({results}{',' if len(slots) == 1 else ''})"]) + "\n"


def arguments(node: Step, slots: tuple[int, ...]) -> list[tuple[str, int]]:
    """What the function of `trace_text` takes, in order: ("input", position) or ("number", position)."""
    out = []
    for step in needed_steps(node, slots):
        out += [("number", step.scalars_before + k) for k in range(len(step.scalars))]
        if step.prim == "input":
            out.append(("input", step.inputs_before))
    return out


def _describe(aval: Any) -> str:
    return repr(aval) if hasattr(aval, "strides") else "several results"


def _widened(step: Step) -> bool:
    """Whether the public sum of this dtype would be one of int64."""
    return not step.aval.dtype.is_floating_point and step.aval.dtype.name != "int64"


def _expression(step: Step, names: dict[int, str]) -> str:
    prim, attrs = step.prim, step.attrs
    given = [repr(a.value) if isinstance(a, Num) else names[a] for a in step.args]
    if prim == "where" and isinstance(step.args[0], Num):
        given[0] = f"torch.full((), {given[0]}, dtype=torch.bool)"
    if prim in _INFIX and any(g[0] in "iv" for g in given) and not any(isinstance(a, Num) for a in step.args):
        return f"{given[0]} {_INFIX[prim]} {given[1]}"
    if prim in _UNARY and PRIMS[prim].kind == "pointwise":
        return f"torch.{prim}({given[0]})"
    if prim == "full" and attrs is not None:
        return f"torch.full({tuple(attrs[0])!r}, {given[0]}, dtype={attrs[1]!r})"
    if prim in _METHODS and not any(isinstance(a, Num) for a in step.args) and not (prim == "sum" and _widened(step)):
        return _METHODS[prim].format(*given, attrs=repr(tuple(attrs) if isinstance(attrs, tuple) else attrs))
    operands = "(" + "".join(f"{g}, " for g in given).rstrip() + ")"
    return f"record({prim!r}, {operands}" + (")" if attrs is None else f", {attrs!r})")
