"""`torch._foreach_...`: one operation for every tensor of a list, as optimizers and running averages of parameters write it.

They are loops over the ordinary operations, which are recorded and fused as any others; nothing is gained or lost by them.
A function without a result of its own (`_foreach_add_`) changes the tensors in place and returns the list.

>>> import adjoint as torch
>>> torch._foreach_mul([torch.ones(2), torch.ones(1)], 3.0)
(tensor([3., 3.]), tensor([3.]))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.trace.handle import Tensor

UNARY = (
    "abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round rsqrt sigmoid sign sin "
    "sinh sqrt tan tanh trunc"
).split()  # with and without `_`
BINARY = "add sub mul div pow clamp_min clamp_max maximum minimum".split()  # with a number, a list of numbers or of tensors
TERNARY = "addcmul addcdiv lerp".split()
ALONE = "clone max mm norm".split()  # only without `_`
IN_PLACE = "copy zero".split()  # only with it


def names() -> list[str]:
    """Of all functions."""
    both = UNARY + BINARY + TERNARY
    return [f"_foreach_{name}" for name in (*both, *ALONE)] + [f"_foreach_{name}_" for name in (*both, *IN_PLACE)]


def tensors(call: str, given: Any, place: str = "'self' (position 1)") -> list[Tensor]:
    """A list of tensors; TypeError for anything else, RuntimeError if it is empty."""
    if not isinstance(given, list | tuple) or not all(isinstance(t, Tensor) for t in given):
        kind = type(given).__name__
        raise TypeError(f"{call}(): argument {place} must be a tuple of Tensors, not {kind}: pass a list with tensors alone")
    if not given:
        raise RuntimeError(f"Tensor list must have at least one tensor: {call} got an empty {type(given).__name__}")
    return list(given)


def each(call: str, given: Any, count: int) -> list[Any]:
    """One operand for each of `count` tensors: an entry of a list, or what is given, for all of them."""
    if not isinstance(given, list | tuple):
        return [given] * count
    if len(given) != count:
        if given and isinstance(given[0], Tensor):
            raise RuntimeError(f"Tensor lists must have the same number of tensors, got {count} and {len(given)}: in {call}")
        raise RuntimeError(f"Tensor list must have same number of elements as scalar list: {call} got {count} and {len(given)}")
    return list(given)


def _of(call: str, given: Any, results: list[Any]) -> Any:
    return given if call.endswith("_") else tuple(results)


def _unary(call: str, method: str) -> Callable[..., Any]:
    def function(self: Any) -> Any:
        return _of(call, self, [getattr(t, method)() for t in tensors(call, self)])

    return function


def _pair(method: str, x: Tensor, other: Any, alpha: float) -> Tensor:
    name = method.rstrip("_")
    if name in ("maximum", "minimum") and not isinstance(other, Tensor):
        method = {"maximum": "clamp_min", "minimum": "clamp_max"}[name] + method[len(name) :]
    elif method in ("maximum_", "minimum_"):
        return x.copy_(getattr(x, name)(other))
    elif name in ("add", "sub") and alpha != 1:
        return getattr(x, method)(other, alpha=alpha)
    return getattr(x, method)(other)


def _binary(call: str, method: str) -> Callable[..., Any]:
    def function(self: Any, other: Any, *, alpha: float = 1) -> Any:
        if method == "pow" and not isinstance(self, list | tuple | Tensor):  # a number to the power of each
            return tuple([self**t for t in tensors(call, other, "'exponent' (position 2)")])
        first = tensors(call, self)
        pairs = zip(first, each(call, other, len(first)), strict=True)
        return _of(call, self, [_pair(method, x, y, alpha) for x, y in pairs])

    return function


def _product(call: str, method: str) -> Callable[..., Any]:
    def function(self: Any, tensor1: Any, tensor2: Any, value: Any = 1, *, scalars: Any = None) -> Any:
        first = tensors(call, self)
        values = value if scalars is None else scalars
        if isinstance(values, Tensor):
            values = values.tolist()
        operands = [each(call, given, len(first)) for given in (tensors(call, tensor1), tensors(call, tensor2), values)]
        return _of(call, self, [getattr(x, method)(y, z, value=v) for x, y, z, v in zip(first, *operands, strict=True)])

    return function


def _lerp(call: str, method: str) -> Callable[..., Any]:
    def function(self: Any, tensors1: Any, weight: Any) -> Any:
        first = tensors(call, self)
        ends, weights = each(call, tensors(call, tensors1), len(first)), each(call, weight, len(first))
        return _of(call, self, [getattr(x, method)(y, w) for x, y, w in zip(first, ends, weights, strict=True)])

    return function


def _norm(self: Any, ord: Any = 2, dtype: Any = None) -> tuple[Tensor, ...]:
    from adjoint.linalg import vector_norm

    return tuple([vector_norm(t, ord, dtype=dtype) for t in tensors("_foreach_norm", self)])


def _copy(self: Any, src: Any, non_blocking: bool = False) -> Any:
    first = tensors("_foreach_copy_", self)
    for x, y in zip(first, each("_foreach_copy_", tensors("_foreach_copy_", src, "'src' (position 2)"), len(first)), strict=True):
        x.copy_(y)
    return self


def __getattr__(name: str) -> Any:
    method = name.removeprefix("_foreach_")
    plain = method.removesuffix("_")
    if name not in names():
        from adjoint.absent import absent

        raise absent(__name__, name, names())
    if name in ("_foreach_norm", "_foreach_copy_"):
        made: Any = {"norm": _norm, "copy": _copy}[plain]
    elif plain in ("addcmul", "addcdiv"):
        made = _product(name, method)
    elif plain == "lerp":
        made = _lerp(name, method)
    else:
        made = (_binary if plain in BINARY or plain == "mm" else _unary)(name, method)
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"`{method}` of every tensor of a list. TypeError if it is none, RuntimeError if lists differ in length."
    globals()[name] = made
    return made
