"""Orthogonal polynomials of whole degrees, by their recurrences: p(0) = 1, p(1) = first, p(k + 1) from the two before it.

The degree is a number, or a tensor of whole numbers, which is read. (NIST Digital Library of Mathematical Functions, table 18.9.1.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from adjoint.ops.elementwise import in_common, refuse, where
from adjoint.trace.handle import Tensor
from adjoint.trace.macro import composite
from adjoint.trace.recorder import array_of

# name: (p(1) of x, p(k + 1) of x, k, p(k), p(k - 1), what it is called, p(3) at 0.5)
_Step = Callable[[Any, int, Any, Any], Any]
_twice: _Step = lambda x, k, p, before: x * 2 * p - before  # noqa: E731
_FAMILIES: dict[str, tuple[Callable[[Any], Any], _Step, bool, str, str]] = {
    "chebyshev_polynomial_t": (lambda x: x, _twice, False, "Chebyshev's polynomial of the first kind, cos(n acos(x))", "-1."),
    "chebyshev_polynomial_u": (lambda x: x * 2, _twice, False, "Chebyshev's polynomial of the second kind", "-1."),
    "chebyshev_polynomial_v": (lambda x: x * 2 - 1, _twice, False, "Chebyshev's polynomial of the third kind", "-1."),
    "chebyshev_polynomial_w": (lambda x: x * 2 + 1, _twice, False, "Chebyshev's polynomial of the fourth kind", "-1."),
    "shifted_chebyshev_polynomial_t": (lambda x: x, _twice, True, "Chebyshev's polynomial of the first kind at 2 x - 1", "0."),
    "shifted_chebyshev_polynomial_u": (lambda x: x * 2, _twice, True, "Chebyshev's polynomial of the second kind at 2 x - 1", "0."),
    "shifted_chebyshev_polynomial_v": (lambda x: x * 2 - 1, _twice, True, "Chebyshev's polynomial of the third kind at 2 x - 1", "1."),
    "shifted_chebyshev_polynomial_w": (lambda x: x * 2 + 1, _twice, True, "Chebyshev's polynomial of the fourth kind at 2 x - 1", "-1."),
    "hermite_polynomial_h": (lambda x: x * 2, lambda x, k, p, before: x * 2 * p - before * (2 * k), False, "the physicist's Hermite polynomial", "-5."),
    "hermite_polynomial_he": (lambda x: x, lambda x, k, p, before: x * p - before * k, False, "the probabilist's Hermite polynomial", "-1.3750"),
    "laguerre_polynomial_l": (lambda x: 1 - x, lambda x, k, p, before: ((2 * k + 1 - x) * p - before * k) / (k + 1), False, "Laguerre's polynomial", "-0.1458"),
    "legendre_polynomial_p": (lambda x: x, lambda x, k, p, before: (x * (2 * k + 1) * p - before * k) / (k + 1), False, "Legendre's polynomial", "-0.4375"),
}  # fmt: skip


def _function(name: str) -> Callable[[Any, Any], Tensor]:
    first, step, shifted, described, example = _FAMILIES[name]

    def evaluate(x: Tensor, *degrees: int) -> tuple[Tensor, ...]:
        """Those of some degrees, in order; 0 for negative ones."""
        x = x * 2 - 1 if shifted else x
        nothing = x - x  # with a gradient of zeros
        found, before, p = {}, nothing, nothing + 1
        for k in range(max(degrees, default=0) + 1):
            found[k] = p
            before, p = p, first(x) if k == 0 else step(x, k, p, before)
        return tuple([found[n] if n >= 0 else nothing for n in degrees])

    node = composite("".join(part.capitalize() for part in f"special_{name}".split("_")) + "Backward0")(evaluate)

    def polynomial(input: Tensor | float, n: Tensor | float) -> Tensor:
        tensors = [t for t in (input, n) if isinstance(t, Tensor)]
        if not tensors:
            raise TypeError(f"{name}(): one of 'input' and 'n' must be Tensor, not {type(input).__name__} and {type(n).__name__}")
        refuse(name, (0, 1, 2), *tensors)
        if not isinstance(n, Tensor):
            degree = _whole(name, n)
            return in_common(lambda x, *other: node(x, degree)[0], input)
        values = array_of(n.detach())  # type: ignore[attr-defined]
        degrees = sorted({_whole(name, v) for v in values.reshape(-1).tolist()})

        def chosen(x: Any, n: Tensor) -> Tensor:
            x = x if isinstance(x, Tensor) else n.detach() * 0 + x  # type: ignore[attr-defined]
            out = x * 0 + n.detach() * 0  # type: ignore[attr-defined]
            for degree, p in zip(degrees, node(x, *degrees), strict=True):
                out = where(n == degree, p, out)
            return out

        return in_common(chosen, input, n.detach())  # type: ignore[attr-defined]

    polynomial.__name__ = polynomial.__qualname__ = name
    polynomial.__doc__ = f"""{described[0].upper()}{described[1:]}, of degree `n` at `input`; 0 for a negative degree.

    n: a whole number, or a tensor of such, broadcast with `input`, whose values are read. RuntimeError for numbers that are not
    whole. Differentiable in `input`.

    >>> import adjoint as torch
    >>> torch.special.{name}(torch.tensor([0.5]), 3)
    tensor([{example}])
    """
    return polynomial


def _whole(name: str, n: Any) -> int:
    if not math.isfinite(n) or n != int(n):
        raise RuntimeError(f"{name}: the degree must be a whole number, but got n={n}")
    return int(n)


functions = {name: _function(name) for name in _FAMILIES}
