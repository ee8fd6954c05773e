"""In-place methods as functions: `torch.exp_(x)` is `x.exp_()`. Made of the methods, for the names that PyTorch has so.

`FUNCTIONS` has for each group of names a tensor and further arguments with which all of the group can be called; examples
and tests are made of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.trace.handle import Tensor

FUNCTIONS = {
    "abs acos arccos arcsin arctan arctanh asin asinh arcsinh atan atanh ceil conj_physical cos cosh deg2rad detach erf erfc exp "
    "exp2 expm1 fix floor frac i0 log log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal round rsqrt sigmoid sin "
    "sinc sinh sqrt square tan tanh trunc zero": ("[0.25, 0.5]", ""),
    "acosh arccosh": ("[1.5, 2.]", ""),
    "clamp_max clamp_min fill": ("[0.25, 0.5]", "0.4"),
    "clamp clip": ("[0.25, 0.5]", "0.3, 0.4"),
    "ldexp xlogy": ("[0.25, 0.5]", "torch.tensor([1., 2.])"),
    "gcd lcm": ("[4, 6]", "torch.tensor([10, 10])"),
    "addmv": ("[0.25, 0.5]", "torch.ones(2, 3), torch.ones(3)"),
    "as_strided": ("[0.25, 0.5]", "(2, 2), (0, 1)"),
    "resize_as": ("[0.25, 0.5]", "torch.ones(2, 1)"),
}


def functions() -> dict[str, Callable[..., Tensor]]:
    """All of them by name, once the methods are there."""
    return {f"{name}_": _function(f"{name}_", *example) for names, example in FUNCTIONS.items() for name in names.split()}


def _function(name: str, tensor: str, others: str) -> Callable[..., Tensor]:
    method: Callable[..., Tensor] = getattr(Tensor, name)

    def function(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        return method(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""`input.{name}()` as a function: changes the tensor, and returns it.

    >>> import adjoint as torch
    >>> x = torch.tensor({tensor})
    >>> torch.{name}({", ".join(filter(None, ("x", others)))}) is x
    True
    """
    return function
