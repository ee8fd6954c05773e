"""The functions that are made from a table, each in a sentence and an example.

A row of `DESCRIPTIONS`: what the function gives, the arguments of an example, what the example prints. `describe` makes
docstrings of them, which the tests run like any others.
"""

from __future__ import annotations

from collections.abc import Callable

DESCRIPTIONS: dict[str, tuple[str, str, str]] = {
    "mul": (
        "The product of two tensors, or of a tensor and a number, broadcast.",
        "torch.tensor([1, 2]), 10",
        "tensor([10, 20])",
    ),
    "neg": ("The negative of each element.", "torch.tensor([1., -2.])", "tensor([-1.,  2.])"),
    "abs": (
        "The absolute value of each element; its gradient at 0 is 0.",
        "torch.tensor([-1.5, 2.])",
        "tensor([1.5000, 2.0000])",
    ),
    "sign": (
        "-1, 0 or 1 by the sign of each element.",
        "torch.tensor([-3., 0., 2.])",
        "tensor([-1.,  0.,  1.])",
    ),
    "sqrt": ("The square root; NaN below 0.", "torch.tensor([4., 9.])", "tensor([2., 3.])"),
    "floor": (
        "The largest integer not above each element.",
        "torch.tensor([1.5, -1.5])",
        "tensor([ 1., -2.])",
    ),
    "ceil": (
        "The smallest integer not below each element.",
        "torch.tensor([1.5, -1.5])",
        "tensor([ 2., -1.])",
    ),
    "trunc": (
        "Each element without the part behind the point.",
        "torch.tensor([1.5, -1.5])",
        "tensor([ 1., -1.])",
    ),
    "relu": (
        "The larger of each element and 0; its gradient at 0 is 0.",
        "torch.tensor([-1., 2.])",
        "tensor([0., 2.])",
    ),
    "bitwise_not": (
        "The complement of integers, the negation of booleans.",
        "torch.tensor([0, 5])",
        "tensor([-1, -6])",
    ),
    "rsqrt": (
        "1 divided by the square root.",
        "torch.tensor([4., 16.])",
        "tensor([0.5000, 0.2500])",
    ),
    "exp": (
        "e to the power of each element.",
        "torch.tensor([0., 1.])",
        "tensor([1.0000, 2.7183])",
    ),
    "exp2": ("2 to the power of each element.", "torch.tensor([0., 3.])", "tensor([1., 8.])"),
    "expm1": (
        "`exp(x) - 1`, exact for small x.",
        "torch.tensor([0., 1e-8])",
        "tensor([0.0000e+00, 1.0000e-08])",
    ),
    "log": (
        "The natural logarithm; -inf at 0, NaN below.",
        "torch.tensor([1., 10.])",
        "tensor([0.0000, 2.3026])",
    ),
    "log2": ("The logarithm to base 2.", "torch.tensor([1., 8.])", "tensor([0., 3.])"),
    "log10": ("The logarithm to base 10.", "torch.tensor([1., 50.])", "tensor([0.0000, 1.6990])"),
    "log1p": (
        "`log(1 + x)`, exact for small x.",
        "torch.tensor([0., 1e-8])",
        "tensor([0.0000e+00, 1.0000e-08])",
    ),
    "sin": ("The sine of angles in radians.", "torch.tensor([0., 1.])", "tensor([0.0000, 0.8415])"),
    "cos": (
        "The cosine of angles in radians.",
        "torch.tensor([0., 1.])",
        "tensor([1.0000, 0.5403])",
    ),
    "tan": (
        "The tangent of angles in radians.",
        "torch.tensor([0., 1.])",
        "tensor([0.0000, 1.5574])",
    ),
    "asin": (
        "The angle in [-pi/2, pi/2] with this sine.",
        "torch.tensor([0., 1.])",
        "tensor([0.0000, 1.5708])",
    ),
    "acos": (
        "The angle in [0, pi] with this cosine.",
        "torch.tensor([1., 0.])",
        "tensor([0.0000, 1.5708])",
    ),
    "atan": (
        "The angle in (-pi/2, pi/2) with this tangent.",
        "torch.tensor([0., 1.])",
        "tensor([0.0000, 0.7854])",
    ),
    "sinh": ("The hyperbolic sine.", "torch.tensor([0., 1.])", "tensor([0.0000, 1.1752])"),
    "cosh": ("The hyperbolic cosine.", "torch.tensor([0., 1.])", "tensor([1.0000, 1.5431])"),
    "tanh": ("The hyperbolic tangent.", "torch.tensor([0., 1.])", "tensor([0.0000, 0.7616])"),
    "asinh": (
        "The inverse of the hyperbolic sine.",
        "torch.tensor([0., 1.])",
        "tensor([0.0000, 0.8814])",
    ),
    "acosh": (
        "The inverse of the hyperbolic cosine; NaN below 1.",
        "torch.tensor([1., 2.])",
        "tensor([0.0000, 1.3170])",
    ),
    "atanh": (
        "The inverse of the hyperbolic tangent.",
        "torch.tensor([0., 0.5])",
        "tensor([0.0000, 0.5493])",
    ),
    "sigmoid": ("`1 / (1 + exp(-x))`.", "torch.tensor([0., 2.])", "tensor([0.5000, 0.8808])"),
    "erf": (
        "The error function, 2/sqrt(pi) times the integral of exp(-t*t) from 0 to x.",
        "torch.tensor([0., 0.5])",
        "tensor([0.0000, 0.5205])",
    ),
    "erfc": (
        "`1 - erf(x)`, exact for large x.",
        "torch.tensor([0., 0.5])",
        "tensor([1.0000, 0.4795])",
    ),
    "erfinv": (
        "The inverse of the error function on (-1, 1).",
        "torch.tensor([0., 0.5])",
        "tensor([0.0000, 0.4769])",
    ),
    "lgamma": (
        "The logarithm of the absolute value of the gamma function.",
        "torch.tensor([1., 4.])",
        "tensor([0.0000, 1.7918])",
    ),
    "digamma": (
        "The derivative of `lgamma`.",
        "torch.tensor([1., 2.])",
        "tensor([-0.5772,  0.4228])",
    ),
    "logical_not": (
        "Whether each element is false (zero).",
        "torch.tensor([True, False])",
        "tensor([False,  True])",
    ),
    "isnan": (
        "Whether each element is NaN.",
        "torch.tensor([1., torch.nan])",
        "tensor([False,  True])",
    ),
    "isinf": (
        "Whether each element is infinite.",
        "torch.tensor([1., -torch.inf])",
        "tensor([False,  True])",
    ),
    "maximum": (
        "The larger of two elements; NaN if one is. Equal ones share the gradient.",
        "torch.tensor([1, 5]), torch.tensor([4, 2])",
        "tensor([4, 5])",
    ),
    "minimum": (
        "The smaller of two elements; NaN if one is. Equal ones share the gradient.",
        "torch.tensor([1, 5]), torch.tensor([4, 2])",
        "tensor([1, 2])",
    ),
    "fmod": (
        "What is left of a division, with the sign of the dividend, as C's fmod.",
        "torch.tensor([7., -7.]), 3",
        "tensor([ 1., -1.])",
    ),
    "atan2": (
        "The angle in [-pi, pi] of the point (other, input).",
        "torch.tensor([1., 0.]), torch.tensor([0., -1.])",
        "tensor([1.5708, 3.1416])",
    ),
    "eq": (
        "Whether elements are equal.",
        "torch.tensor([1, 2]), torch.tensor([1, 3])",
        "tensor([ True, False])",
    ),
    "ne": (
        "Whether elements differ.",
        "torch.tensor([1, 2]), torch.tensor([1, 3])",
        "tensor([False,  True])",
    ),
    "lt": (
        "Whether elements are less than those of `other`.",
        "torch.tensor([1, 2]), 2",
        "tensor([ True, False])",
    ),
    "le": (
        "Whether elements are at most those of `other`.",
        "torch.tensor([1, 2]), 1",
        "tensor([ True, False])",
    ),
    "gt": (
        "Whether elements are greater than those of `other`.",
        "torch.tensor([1, 2]), 1",
        "tensor([False,  True])",
    ),
    "ge": (
        "Whether elements are at least those of `other`.",
        "torch.tensor([1, 2]), 2",
        "tensor([False,  True])",
    ),
    "bitwise_and": (
        "The bits set in both integers; for booleans, and.",
        "torch.tensor([6, 5]), 3",
        "tensor([2, 1])",
    ),
    "bitwise_or": (
        "The bits set in one of two integers; for booleans, or.",
        "torch.tensor([6, 5]), 3",
        "tensor([7, 7])",
    ),
    "bitwise_xor": (
        "The bits set in exactly one of two integers; for booleans, not equal.",
        "torch.tensor([6, 5]), 3",
        "tensor([5, 6])",
    ),
    "floor_div": ("The quotient rounded down.", "torch.tensor([7, -7]), 2", "tensor([ 3, -4])"),
    "remainder": (
        "What is left of a division, with the sign of the divisor.",
        "torch.tensor([7, -7]), 3",
        "tensor([1, 2])",
    ),
    "shift_left": (
        "Integers times 2 to the power of `other`.",
        "torch.tensor([1, 3]), 2",
        "tensor([ 4, 12])",
    ),
    "shift_right": (
        "Integers divided by 2 to the power of `other`, rounded down.",
        "torch.tensor([12, -5]), 2",
        "tensor([ 3, -2])",
    ),
}


def describe(functions: dict[str, Callable]) -> None:
    """Give each function its name and docstring; KeyError if there is no row for one."""
    for name, function in functions.items():
        sentence, arguments, result = DESCRIPTIONS[name]
        example = f">>> import adjoint as torch\n>>> torch.{name}({arguments})\n{result}\n"
        function.__doc__ = f"{sentence}\n\n{example}"
        function.__name__ = function.__qualname__ = name
        function.__module__ = "adjoint"
