"""Vector mathematics: every elementary function as LLVM IR for vectors of float and double.

LLVM calls libm lane by lane for exp and its like, so kernels take them from here. `FUNCTIONS` maps
a name to the function that writes it; `emit_math` is the door. The formulas live in `vecmath_exp`,
`vecmath_log`, `vecmath_trig` and `vecmath_special`, their arithmetic in `vecmath_lanes`, their
coefficients in `vecmath_tables`.

Accuracy is 2 units in the last place or better over the whole range, denormals and huge arguments
included (`tests/codegen/test_vecmath.py` measures it against mpmath; lgamma, digamma and erfinv
have looser bounds there). The result for an element does not depend on the number of lanes, so
neither on how kernels are fused or tails are cut. Only generic intrinsics are used; fmod alone is
LLVM's frem, which calls libm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from adjoint.codegen.emitter import Emitter, vector_type
from adjoint.codegen.vecmath_exp import cosh, exp, exp2, expm1, sigmoid, sinh, tanh
from adjoint.codegen.vecmath_lanes import FORMATS, Lanes
from adjoint.codegen.vecmath_log import acosh, asinh, atanh, log, log1p, log2, log10, pow
from adjoint.codegen.vecmath_special import digamma, erf, erfc, erfinv, lgamma
from adjoint.codegen.vecmath_trig import acos, asin, atan, atan2, cos, sin, tan


def fmod(x: Lanes, y: Lanes) -> Lanes:
    """The exact remainder with the sign of x."""
    return x.binary("frem", y)


FUNCTIONS: dict[str, Callable[..., Lanes]] = {
    function.__name__: function
    for function in (
        exp, exp2, expm1, sigmoid, sinh, cosh, tanh,
        log, log1p, log2, log10, pow, asinh, acosh, atanh,
        sin, cos, tan, asin, acos, atan, atan2,
        erf, erfc, erfinv, lgamma, digamma, fmod,
    )
}  # fmt: skip


def emit_math(em: Emitter, name: str, element: str, lanes: int, *args: str) -> str:
    """Write `name(*args)` for `lanes` elements and return the SSA name of the result.

    element is "float" or "double", args are SSA names or literals of type `<lanes x element>`, or
    `element` for one lane. sin, cos and tan branch on huge arguments, so the current block
    (`em.block`) may change, and they put two module-level definitions among `em.declarations`. What
    was written out `em.copies` times is called from then on: a definition joins the declarations.
    Raises KeyError for an unknown function or element.

    >>> em = Emitter()
    >>> result = emit_math(em, "exp", "float", 8, "%x")
    >>> em.lines[-1].split(" = ")[0].strip() == result
    True
    """
    function = FUNCTIONS[name]
    FORMATS[element]  # noqa: B018 - refuse other element types here, not deep inside
    own = _own(name, element, lanes)
    if em.is_to_be_called(own):
        kind = vector_type(element, lanes)
        em.declarations.update(dict.fromkeys(_definition(name, element, lanes, len(args))))
        return em.op(f"call fastcc {kind} {own}({', '.join(f'{kind} {arg}' for arg in args)})")
    return function(*(Lanes(em, element, lanes, arg) for arg in args)).ssa


def _own(name: str, element: str, lanes: int) -> str:
    return f"@adjoint.{name}.v{lanes}{FORMATS[element].suffix}"


@functools.lru_cache(maxsize=256)
def _definition(name: str, element: str, lanes: int, count: int) -> tuple[str, ...]:
    """The module's text for a function that is called, and what it needs, as declarations."""
    kind, body = vector_type(element, lanes), Emitter()
    names = [f"%x{k}" for k in range(count)]
    result = FUNCTIONS[name](*[Lanes(body, element, lanes, x) for x in names]).ssa
    given = ", ".join([f"{kind} {x}" for x in names])
    head = f"define internal fastcc {kind} {_own(name, element, lanes)}({given}) noinline nounwind {{"
    return *body.declarations, "\n".join([head, "entry:", *body.lines, f"  ret {kind} {result}", "}"])
